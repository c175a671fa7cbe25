"""The packed forms within Redis's RDB format: listpack, ziplist, zipmap, intset. All of a value in one string.

Source: Redis's listpack.md, and the comments at the head of ziplist.c, zipmap.c and intset.c. Readers check all that
the form promises (sizes, counts, the lengths that lead backwards) and raise BadDump for anything else.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Final

from zattredis.errors import DefiniteError

_END: Final = 0xFF
_COUNT_UNKNOWN: Final = 0xFFFF
_INTEGER_MIN, _INTEGER_MAX = -(1 << 63), (1 << 63) - 1
_INTEGER_CHARS_MAX: Final = 20
_LISTPACK_INTEGERS: Final = {0xF1: 2, 0xF2: 3, 0xF3: 4, 0xF4: 8}
_LISTPACK_HEADER: Final = struct.Struct("<IH")
LISTPACK_FRAME_BYTES: Final = _LISTPACK_HEADER.size + 1
_ZIPLIST_HEADER: Final = struct.Struct("<IIH")
_ZIPLIST_INTEGERS: Final = {0xC0: 2, 0xD0: 4, 0xE0: 8, 0xF0: 3, 0xFE: 1}
_INTSET_FORMS: Final = {2: "h", 4: "i", 8: "q"}
_SMALL: Final = tuple(b"%d" % number for number in range(128))


class BadDump(DefiniteError):
    """The value inside a dump cannot be read."""

    def __init__(self) -> None:
        super().__init__("Bad data format")


def packed_integer(element: bytes) -> int | None:
    """Return the 64-bit integer that an element is the text of, as Redis writes it; else None."""
    if len(element) > _INTEGER_CHARS_MAX or not element or element[0] > 0x39:
        return None
    try:
        number = int(element)
    except ValueError:
        return None
    return number if b"%d" % number == element and _INTEGER_MIN <= number <= _INTEGER_MAX else None


def _fits(number: int, width: int) -> bool:
    """Return whether the number fits into so many bytes, two's complement."""
    return -(1 << 8 * width - 1) <= number < 1 << 8 * width - 1


# -- listpack ------------------------------------------------------------------------------------------------------


def listpack_entry(element: bytes) -> bytes:
    """Return an element as it stands in a listpack."""
    number = packed_integer(element)
    if number is None:
        size = len(element)
        if size < 64:
            entry = bytes((0x80 | size,)) + element
        elif size < 4096:
            entry = bytes((0xE0 | size >> 8, size & 0xFF)) + element
        else:
            entry = b"\xf0" + size.to_bytes(4, "little") + element
    elif 0 <= number <= 127:
        return bytes((number, 1))
    elif -4096 <= number <= 4095:
        number &= 0x1FFF
        return bytes((0xC0 | number >> 8, number & 0xFF, 2))
    else:
        first, width = next(form for form in _LISTPACK_INTEGERS.items() if _fits(number, form[1]))
        entry = bytes((first,)) + number.to_bytes(width, "little", signed=True)
    return entry + _back_length(len(entry))


def listpack(entries: Sequence[bytes]) -> bytes:
    """Return the listpack of entries made by `listpack_entry`."""
    body = b"".join(entries)
    header = _LISTPACK_HEADER.pack(len(body) + LISTPACK_FRAME_BYTES, min(len(entries), _COUNT_UNKNOWN))
    return header + body + b"\xff"


def listpack_of(elements: Iterable[bytes]) -> bytes:
    """Return the listpack that holds the elements."""
    return listpack([listpack_entry(element) for element in elements])


def listpack_elements(blob: bytes) -> list[bytes]:
    """Return the elements of a listpack. Raises BadDump."""
    try:
        size, count = _LISTPACK_HEADER.unpack_from(blob)
        if size != len(blob) or size < LISTPACK_FRAME_BYTES or blob[-1] != _END:
            raise BadDump
        out = _listpack_walk(blob, _LISTPACK_HEADER.size, size - 1)
    except (IndexError, struct.error) as error:
        raise BadDump from error
    if count not in (len(out), _COUNT_UNKNOWN):
        raise BadDump
    return out


def _listpack_walk(blob: bytes, at: int, end: int) -> list[bytes]:
    out: list[bytes] = []
    append = out.append
    while at < end:
        first = blob[at]
        start = at
        if first < 0x80:
            append(_SMALL[first])
            at += 1
        elif first < 0xC0:
            at += 1 + (first & 0x3F)
            append(blob[start + 1 : at])
        elif first < 0xE0:
            number = (first & 0x1F) << 8 | blob[at + 1]
            append(b"%d" % (number if number < 4096 else number - 8192))
            at += 2
        elif first < 0xF0:
            at += 2 + ((first & 0x0F) << 8 | blob[at + 1])
            append(blob[start + 2 : at])
        elif first == 0xF0:
            at += 5 + int.from_bytes(blob[at + 1 : at + 5], "little")
            append(blob[start + 5 : at])
        else:
            width = _LISTPACK_INTEGERS.get(first)
            if width is None:
                raise BadDump
            at += 1 + width
            append(b"%d" % int.from_bytes(blob[start + 1 : at], "little", signed=True))
        if at >= end:
            raise BadDump
        size = at - start
        if size < 128:
            if blob[at] != size:
                raise BadDump
            at += 1
        else:
            back = _back_length(size)
            if blob[at : at + len(back)] != back:
                raise BadDump
            at += len(back)
    if at != end:
        raise BadDump
    return out


def _back_length(size: int) -> bytes:
    """Return the length of an entry as it stands behind it: 7 bits a byte, all but the first one marked."""
    if size < 128:
        return bytes((size,))
    out = [size & 0x7F | 0x80]
    size >>= 7
    while size > 127:
        out.append(size & 0x7F | 0x80)
        size >>= 7
    out.append(size)
    return bytes(reversed(out))


# -- ziplist -------------------------------------------------------------------------------------------------------


def ziplist_elements(blob: bytes) -> list[bytes]:
    """Return the elements of a ziplist (Redis before 7.0). Raises BadDump."""
    try:
        size, tail, count = _ZIPLIST_HEADER.unpack_from(blob)
        if size != len(blob) or size <= _ZIPLIST_HEADER.size or blob[-1] != _END:
            raise BadDump
        out, last = _ziplist_walk(blob, _ZIPLIST_HEADER.size, size - 1)
    except (IndexError, struct.error) as error:
        raise BadDump from error
    if tail != last or count not in (len(out), _COUNT_UNKNOWN):
        raise BadDump
    return out


def _ziplist_walk(blob: bytes, at: int, end: int) -> tuple[list[bytes], int]:
    out: list[bytes] = []
    before = 0
    start = at
    while at < end:
        start = at
        if blob[at] < 0xFE:
            length, at = blob[at], at + 1
        else:
            length, at = int.from_bytes(blob[at + 1 : at + 5], "little"), at + 5
        if length != before or blob[start] == _END:
            raise BadDump
        first = blob[at]
        at += 1
        width = _ZIPLIST_INTEGERS.get(first)
        if width is not None:
            out.append(b"%d" % int.from_bytes(blob[at : at + width], "little", signed=True))
            at += width
        elif 0xF1 <= first <= 0xFD:
            out.append(_SMALL[first - 0xF1])
        else:
            if first < 0x40:
                length = first
            elif first < 0x80:
                length = (first & 0x3F) << 8 | blob[at]
                at += 1
            elif first == 0x80:
                length = int.from_bytes(blob[at : at + 4], "big")
                at += 4
            else:
                raise BadDump
            out.append(blob[at : at + length])
            at += length
        before = at - start
    if at != end:
        raise BadDump
    return out, start


# -- zipmap and intset ---------------------------------------------------------------------------------------------


def zipmap_pairs(blob: bytes) -> list[bytes]:
    """Return field, value, field, value, … of a zipmap (Redis before 2.6). Raises BadDump."""
    out: list[bytes] = []
    try:
        count, at, end = blob[0], 1, len(blob) - 1
        while at < end:
            length, at = _zipmap_length(blob, at)
            field = blob[at : at + length]
            length, at = _zipmap_length(blob, at + length)
            unused = blob[at]
            value = blob[at + 1 : at + 1 + length]
            at += 1 + length + unused
            out += field, value
        if at != end or blob[end] != _END or (count < 0xFE and count * 2 != len(out)):
            raise BadDump
    except IndexError as error:
        raise BadDump from error
    return out


def _zipmap_length(blob: bytes, at: int) -> tuple[int, int]:
    if blob[at] < 0xFE:
        return blob[at], at + 1
    if blob[at] == _END:
        raise BadDump
    return int.from_bytes(blob[at + 1 : at + 5], "little"), at + 5


def intset_members(blob: bytes) -> list[bytes]:
    """Return the members of an intset, ascending. Raises BadDump."""
    if len(blob) < 8:
        raise BadDump
    width, count = struct.unpack_from("<II", blob)
    form = _INTSET_FORMS.get(width)
    if form is None or len(blob) != 8 + width * count:
        raise BadDump
    numbers = struct.unpack_from(f"<{count}{form}", blob, 8)
    if any(one >= other for one, other in pairwise(numbers)):
        raise BadDump
    return [b"%d" % number for number in numbers]


def intset_of(members: Iterable[bytes]) -> bytes:
    """Return the intset of members that all are integers."""
    numbers = sorted(map(int, members))
    width = next(width for width in _INTSET_FORMS if _fits(numbers[0], width) and _fits(numbers[-1], width))
    return struct.pack(f"<II{len(numbers)}{_INTSET_FORMS[width]}", width, len(numbers), *numbers)
