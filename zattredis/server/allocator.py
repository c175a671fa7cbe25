"""What the C library's allocator holds: the part of the process's memory that Python and RocksDB asked for."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final


class _MallInfo(ctypes.Structure):
    """`struct mallinfo2` of glibc 2.33 and later."""

    _fields_ = [
        (name, ctypes.c_size_t)
        for name in (
            "arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost",
        )
    ]  # fmt: skip


def _find() -> Callable[[], _MallInfo] | None:
    try:
        function = ctypes.CDLL(None).mallinfo2
    except (AttributeError, OSError):
        return None
    function.restype = _MallInfo
    found: Callable[[], _MallInfo] = function
    return found


_mallinfo2: Final = _find()


@dataclass(frozen=True, slots=True)
class AllocatorFacts:
    """Bytes handed out, bytes taken from the system for that, and how much of those is in memory at most."""

    allocated: int
    active: int
    resident: int


def read_allocator(process_resident: int) -> AllocatorFacts:
    """Return the allocator's figures; with another C library than glibc all three are the process's resident memory."""
    if _mallinfo2 is None:
        return AllocatorFacts(process_resident, process_resident, process_resident)
    found = _mallinfo2()
    active = max(1, found.arena + found.hblkhd)
    return AllocatorFacts(found.uordblks + found.hblkhd, active, min(active, process_resident))
