"""The longest common subsequence of two strings, by rows of bits.

The table of LCS lengths L grows by 0 or 1 from one column to the next, so a row is one long integer: bit j-1 is 0
where L(i, j) = L(i, j-1) + 1. A row follows from the one before by a few operations on whole integers (Hyyrö,
"Bit-parallel LCS-length computation revisited", 2004). The way back through the table needs these bits alone: where
the bytes differ, the cell above is the larger neighbour exactly when the bit is 0.

Both steps are generators that yield from time to time, since they may be long.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Final, NamedTuple

_SLICE_BITS: Final = 1 << 22
_SLICE_STEPS: Final = 4096


class Match(NamedTuple):
    """A run of equal bytes: inclusive ranges in both strings."""

    start_a: int
    end_a: int
    start_b: int
    end_b: int

    @property
    def length(self) -> int:
        """Bytes of the run."""
        return self.end_a - self.start_a + 1


class LcsTable:
    """The table for strings `a` and `b`; `length` is known once `fill` has ended."""

    __slots__ = ("_rows", "_width", "a", "b", "length")

    def __init__(self, a: bytes, b: bytes) -> None:
        self.a = a
        self.b = b
        self.length = 0
        self._width = -(-len(b) // 8)
        self._rows = bytearray()

    def fill(self, keep_rows: bool) -> Generator[None, None, None]:
        """Compute the rows, and keep them if `matches` is to follow."""
        backwards = self.b[::-1]
        places: dict[int, int] = {}
        for byte in sorted(set(self.a)):
            digits = b"0" * byte + b"1" + b"0" * (255 - byte)
            places[byte] = int(backwards.translate(digits) or b"0", 2)
            if len(self.b) > _SLICE_STEPS:
                yield
        everything = (1 << len(self.b)) - 1
        row = everything
        slice_rows = max(1, _SLICE_BITS // (len(self.b) + 1024))
        for number, byte in enumerate(self.a, 1):
            equal = row & places[byte]
            row = ((row + equal) | (row - equal)) & everything
            if keep_rows:
                self._rows += row.to_bytes(self._width, "little")
            if number % slice_rows == 0:
                yield
        self.length = len(self.b) - row.bit_count()

    def matches(self) -> Generator[None, None, list[Match]]:
        """Return the runs that make up the subsequence, last one first."""
        a, b, rows, width = self.a, self.b, self._rows, self._width
        found: list[Match] = []
        i, j = len(a), len(b)
        end_a = end_b = -1  # inclusive ends of the run under way
        steps = 0
        while i and j:
            steps += 1
            if steps % _SLICE_STEPS == 0:
                yield
            if a[i - 1] == b[j - 1]:
                if end_a < 0:
                    end_a, end_b = i - 1, j - 1
                i -= 1
                j -= 1
                continue
            if end_a >= 0:
                found.append(Match(i, end_a, j, end_b))
                end_a = -1
            if rows[(i - 1) * width + (j - 1 >> 3)] >> (j - 1 & 7) & 1:
                j -= 1
            else:
                i -= 1
        if end_a >= 0:
            found.append(Match(i, end_a, j, end_b))
        return found
