"""Temporary directories of servers. What a program that was killed has left is removed by the next one that starts.

A directory belongs to the process that holds the lock of the file `.owner` in it; the lock goes with its process,
however that ends.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from pathlib import Path
from typing import Final

_PREFIX: Final = "zattredis-"
_OWNER: Final = ".owner"


class Scratch:
    """A new temporary directory, locked by this process until `remove`."""

    def __init__(self) -> None:
        sweep()
        self.path = Path(tempfile.mkdtemp(prefix=_PREFIX))
        beside = self.path / f"{_OWNER}.new"
        self._lock = os.open(beside, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        beside.rename(self.path / _OWNER)  # only now: nobody sees the file without its lock

    def remove(self) -> None:
        """Remove the directory and all that is in it."""
        shutil.rmtree(self.path, ignore_errors=True)
        os.close(self._lock)


def sweep() -> None:
    """Remove this user's directories whose processes have ended."""
    for owner in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*/{_OWNER}"):
        try:
            if owner.stat().st_uid != os.getuid() or owner.is_symlink():
                continue
            lock = os.open(owner, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError:
            continue
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            continue  # it lives
        else:
            shutil.rmtree(owner.parent, ignore_errors=True)
        finally:
            os.close(lock)
