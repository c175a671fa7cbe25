"""What lies below a path: whether there is a disk at all to wait for."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

_MOUNTS: Final = Path("/proc/self/mountinfo")
_OF_MEMORY: Final = frozenset(("tmpfs", "ramfs"))


def in_memory(path: Path, mounts: Path = _MOUNTS) -> bool:
    """Return whether an existing path lies on a file system of memory. False where the kernel does not tell.

    Source: proc(5), /proc/pid/mountinfo: the device is the third field; the type follows the field `-`.
    """
    try:
        device = os.stat(path).st_dev
        lines = mounts.read_text(errors="replace").splitlines()
    except OSError:
        return False
    wanted = f"{os.major(device)}:{os.minor(device)}"
    for line in lines:
        fields, _, behind = line.partition(" - ")
        if wanted in fields.split(" ", 3)[2:3]:
            return behind.split(" ", 1)[0] in _OF_MEMORY
    return False
