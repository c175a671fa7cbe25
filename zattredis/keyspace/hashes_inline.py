"""Small hashes: all fields in the key's record, in the order in which they were first set, as in Redis.

```
count(1) | start(2) of each entry, counted from behind the last start | entries
entry: field length(2) | field | value                    (lead 0)
entry: expire_ms(8) | field length(2) | field | value     (lead 8: a hash with flag FIELD_EXPIRY; 0 = never)
```

A field is found by searching the bytes for its length and name, which is a thousand times as fast as a loop; where that
stands by chance within another entry, its place is no start. So a lookup costs about a microsecond whatever the count.
The functions take such a body, without the two times that end a record with FIELD_EXPIRY, and return new ones.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from itertools import accumulate
from typing import Final

ENTRIES_MAX: Final = 128
"""Most fields kept inline: as many as Redis's listpacks hold by default, so the order of replies is Redis's."""
BYTES_MAX: Final = 4096
"""Longest body kept inline."""

_STARTS: Final = [struct.Struct(f">{count}H") for count in range(ENTRIES_MAX + 1)]
_ONES: Final = [int.from_bytes(b"\0\1" * count, "big") for count in range(ENTRIES_MAX + 1)]
"""Adding a multiple of it to so many starts, read as one number, moves them all."""
_FALSE_HITS_MAX: Final = 4


Entry = tuple[bytes, bytes, int]
"""Field, value, and when it expires in ms since 1970, 0 for never."""


def find(body: bytes, field: bytes, lead: int) -> int:
    """Return the ordinal of a field, -1 if it is not there."""
    base = 1 + 2 * body[0]
    needle = len(field).to_bytes(2, "big") + field
    at = body.find(needle, base + lead)
    misses = 0
    while at >= 0:
        start = (at - base - lead).to_bytes(2, "big")
        slot = body.find(start, 1, base)
        while slot >= 0 and not slot & 1:
            slot = body.find(start, slot + 1, base)
        if slot >= 0:
            return slot >> 1
        misses += 1
        if misses > _FALSE_HITS_MAX:
            return _find_slowly(body, field, lead)
        at = body.find(needle, at + 1)
    return -1


def _find_slowly(body: bytes, field: bytes, lead: int) -> int:
    """Do the same entry by entry: values full of what looks like the field cannot hold a lookup up."""
    for ordinal, entry in enumerate(unpack(body, lead)):
        if entry[0] == field:
            return ordinal
    return -1


def entry_at(body: bytes, ordinal: int, field_bytes: int, lead: int) -> tuple[bytes, int]:
    """Return value and expiry of the field of this ordinal and length."""
    start, end = _bounds(body, ordinal)
    expire_ms = int.from_bytes(body[start : start + 8], "big") if lead else 0
    return body[start + lead + 2 + field_bytes : end], expire_ms


def _bounds(body: bytes, ordinal: int) -> tuple[int, int]:
    count = body[0]
    base = 1 + 2 * count
    slot = 1 + 2 * ordinal
    start = base + (body[slot] << 8 | body[slot + 1])
    if ordinal + 1 == count:
        return start, len(body)
    return start, base + (body[slot + 2] << 8 | body[slot + 3])


def put(body: bytes, ordinal: int, entry: Entry, lead: int) -> bytes:
    """Return the body with the entry of that ordinal replaced, or a new one behind all others for -1.

    The caller sees to it that the result is no larger than BYTES_MAX and a few kilobytes, and ENTRIES_MAX + 1 entries.
    """
    field, value, expire_ms = entry
    data = len(field).to_bytes(2, "big") + field + value
    if lead:
        data = expire_ms.to_bytes(8, "big") + data
    if ordinal < 0:
        base = 1 + 2 * body[0]
        start = (len(body) - base).to_bytes(2, "big")
        return (body[0] + 1).to_bytes(1, "big") + body[1:base] + start + body[base:] + data
    start_at, end = _bounds(body, ordinal)
    moved = _moved(body, ordinal, len(data) - (end - start_at))
    return moved + body[len(moved) : start_at] + data + body[end:]


def remove(body: bytes, ordinal: int) -> bytes:
    """Return the body without the entry of that ordinal."""
    start, end = _bounds(body, ordinal)
    moved = _moved(body, ordinal, start - end)
    slot = 1 + 2 * ordinal
    return (body[0] - 1).to_bytes(1, "big") + moved[1:slot] + moved[slot + 2 :] + body[len(moved) : start] + body[end:]


def _moved(body: bytes, ordinal: int, by: int) -> bytes:
    """Return count and starts, those behind `ordinal` moved by so many bytes."""
    base = 1 + 2 * body[0]
    rest = body[0] - ordinal - 1
    if not by or not rest:
        return body[:base]
    slot = base - 2 * rest
    starts = int.from_bytes(body[slot:base], "big") + by * _ONES[rest]
    return body[:slot] + starts.to_bytes(2 * rest, "big")


def unpack(body: bytes, lead: int) -> list[Entry]:
    """Return all entries in order."""
    count = body[0]
    if not count:
        return []
    base = 1 + 2 * count
    starts = _STARTS[count].unpack_from(body, 1)
    found = []
    for start, end in zip(starts, (*starts[1:], len(body) - base), strict=True):
        at = base + start + lead + 2
        middle = at + (body[at - 2] << 8 | body[at - 1])
        expire_ms = int.from_bytes(body[base + start : base + start + 8], "big") if lead else 0
        found.append((body[at:middle], body[middle : base + end], expire_ms))
    return found


def pairs_of(body: bytes) -> list[tuple[bytes, bytes]]:
    """Return field and value of all entries of a body with lead 0, in order."""
    count = body[0]
    base = 3 + 2 * count
    behind = base - 2
    starts = _STARTS[count].unpack_from(body, 1)
    found = []
    for start, end in zip(starts, (*starts[1:], len(body) - behind), strict=True):
        at = base + start
        middle = at + (body[at - 2] << 8 | body[at - 1])
        found.append((body[at:middle], body[middle : behind + end]))
    return found


def pack(entries: Iterable[Entry], lead: int) -> bytes:
    """Return the body of these entries, at least one and at most ENTRIES_MAX."""
    parts: list[bytes] = []
    starts: list[int] = []
    size = 0
    for field, value, expire_ms in entries:
        starts.append(size)
        data = len(field).to_bytes(2, "big") + field + value
        if lead:
            data = expire_ms.to_bytes(8, "big") + data
        parts.append(data)
        size += len(data)
    return len(starts).to_bytes(1, "big") + _STARTS[len(starts)].pack(*starts) + b"".join(parts)


def pack_pairs(pairs: list[tuple[bytes, bytes]]) -> bytes:
    """Return the body, with lead 0, of these fields and values, at least one and at most ENTRIES_MAX."""
    parts = [len(field).to_bytes(2, "big") + field + value for field, value in pairs]
    starts = accumulate(map(len, parts[:-1]), initial=0)
    return len(parts).to_bytes(1, "big") + _STARTS[len(parts)].pack(*starts) + b"".join(parts)
