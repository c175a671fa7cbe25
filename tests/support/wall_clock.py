"""A wall clock that a test can put forward and back while the process runs: the machine's, and an offset in a file."""

from __future__ import annotations

import mmap
import struct
import time
from pathlib import Path

_OFFSET = struct.Struct("<d")


def set_offset(file: Path, seconds: float) -> None:
    """From now on the processes that follow this file see a clock that is off by so much."""
    with file.open("r+b" if file.exists() else "w+b") as stream:
        stream.write(_OFFSET.pack(seconds))


def follow(file: str) -> None:
    """Replace `time.time` of this process, before anything that asks for the time is imported."""
    with Path(file).open("rb") as stream:
        shared = mmap.mmap(stream.fileno(), _OFFSET.size, access=mmap.ACCESS_READ)
    true_time, read = time.time, _OFFSET.unpack_from
    time.time = lambda: true_time() + float(read(shared)[0])
