"""Where tests keep what they fetch (Redis's suite, npm packages): outside the repository, kept between runs."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path


def cache_directory() -> Path:
    """`ZATTREDIS_TEST_CACHE`, or a directory of this user under the system's temporary directory. Created 0700."""
    named = os.environ.get("ZATTREDIS_TEST_CACHE")
    path = Path(named) if named else Path(tempfile.gettempdir()) / f"zattredis-tests-{os.getuid()}"
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    return path
