"""CRC-32 as zlib computes it, by whatever computes it soonest.

`anycrc` needs a fraction of zlib's time for much data, but a call of it takes longer, which counts where there is
little.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Final

import anycrc

_MUCH_BYTES: Final = 4096
_crc32_of_much: Final[Callable[[bytes | memoryview], int]] = anycrc.Model("CRC32").calc
_SAMPLE: Final = bytes(range(256)) * 20

if _crc32_of_much(_SAMPLE) != zlib.crc32(_SAMPLE):
    raise ImportError("the installed anycrc computes wrong checksums")  # nodes would not understand each other


def crc32(data: bytes | memoryview) -> int:
    """Return the CRC-32 of `data`, 0 <= crc < 2**32."""
    return zlib.crc32(data) if len(data) < _MUCH_BYTES else _crc32_of_much(data)


__all__ = ["crc32"]
