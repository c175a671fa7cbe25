"""A mutant for the whole life of this process; called by `tests/support/startup/sitecustomize.py`."""

from __future__ import annotations

import contextlib

from tests.mutants.catalogue import BY_NAME
from tests.mutants.edits import applied

_for_ever = contextlib.ExitStack()


def put_in(name: str) -> None:
    """Put the mutant in."""
    _for_ever.enter_context(applied(BY_NAME[name].edits))
