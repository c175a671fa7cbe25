"""Seeds run on as many cores as there are, up to two: the other tests leave one idle."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterator
from multiprocessing.pool import Pool

import pytest


@pytest.fixture(scope="session")
def pool() -> Iterator[Pool]:
    """Processes of their own; started, not forked, because this one has threads."""
    with multiprocessing.get_context("spawn").Pool(min(2, os.cpu_count() or 1)) as found:
        yield found
