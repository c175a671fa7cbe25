"""LZF, the compression within Redis's RDB format (LibLZF by Marc Lehmann).

A control byte below 32 stands before that many literal bytes and one more. Any other holds the length of a repetition
(three bits, 7: one more byte follows) and the high bits of how far back it begins; the low bits follow.

`compress` finds the very repetitions that Redis finds (a table of 2**16 places by three bytes; behind a repetition the
last two places of it are entered), so that dumps of small values are equal byte for byte.
"""

from __future__ import annotations

from typing import Final

_LITERALS_MAX: Final = 32
_DISTANCE_MAX: Final = 1 << 13
_REPETITION_MAX: Final = 264
_TABLE_MASK: Final = 0xFFFF


class LzfError(ValueError):
    """The bytes are not what LZF writes, or give another length."""


def decompress(packed: bytes, length: int) -> bytes:
    """Return the `length` bytes that were packed. Raises LzfError."""
    out = bytearray()
    at, end = 0, len(packed)
    try:
        while at < end:
            control = packed[at]
            at += 1
            if control < _LITERALS_MAX:
                if at + control >= end:
                    raise LzfError
                out += packed[at : at + control + 1]
                at += control + 1
                continue
            count = control >> 5
            if count == 7:
                count += packed[at]
                at += 1
            start = len(out) - ((control & 0x1F) << 8 | packed[at]) - 1
            at += 1
            count += 2
            if start < 0 or len(out) + count > length:
                raise LzfError
            piece = out[start : start + count]
            missing = count - len(piece)
            out += piece if missing <= 0 else (piece * (count // len(piece) + 1))[:count]
    except IndexError as error:
        raise LzfError from error
    if len(out) != length:
        raise LzfError
    return bytes(out)


def compress(data: bytes, size_max: int) -> bytes | None:
    """Return `data` packed into at most `size_max` bytes, or None where LibLZF finds that it may not fit. 2 MB/s."""
    out = bytearray()
    places: dict[int, int] = {}
    literal_start = at = 0
    end = len(data)
    last = end - 2
    while at < last:
        three = data[at] << 16 | data[at + 1] << 8 | data[at + 2]
        slot = (three >> 8) - three * 5 & _TABLE_MASK
        found = places.get(slot, 0)
        places[slot] = at
        distance = at - found - 1
        if found and distance < _DISTANCE_MAX and data[found : found + 3] == data[at : at + 3]:
            count, count_max = 3, min(end - at - 2, _REPETITION_MAX)
            if count_max > 16:
                count_max = max(count_max, 19)  # LibLZF looks at 16 bytes at once before it counts singly
            while count < count_max and data[found + count] == data[at + count]:
                count += 1
            literals = at - literal_start
            if len(out) + literals + literals // _LITERALS_MAX + 5 - (not literals % _LITERALS_MAX) >= size_max:
                return None
            _literals(out, data[literal_start:at])
            if count - 2 < 7:
                out.append(distance >> 8 | count - 2 << 5)
            else:
                out.append(distance >> 8 | 7 << 5)
                out.append(count - 9)
            out.append(distance & 0xFF)
            at += count
            literal_start = at
            if at >= last:
                break
            for place in (at - 2, at - 1):
                three = data[place] << 16 | data[place + 1] << 8 | data[place + 2]
                places[(three >> 8) - three * 5 & _TABLE_MASK] = place
        else:
            literals = at - literal_start
            if len(out) + 1 + literals + literals // _LITERALS_MAX >= size_max:
                return None
            at += 1
    literals = at - literal_start
    if len(out) + 1 + literals + literals // _LITERALS_MAX + 3 > size_max:
        return None
    _literals(out, data[literal_start:])
    return bytes(out)


def _literals(out: bytearray, data: bytes) -> None:
    for start in range(0, len(data), _LITERALS_MAX):
        piece = data[start : start + _LITERALS_MAX]
        out.append(len(piece) - 1)
        out += piece
