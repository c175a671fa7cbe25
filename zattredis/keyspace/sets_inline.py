"""Small sets within their key's record: two forms, told apart by the first byte of the body.

- Integers (2, 4 or 8: the bytes of each): sorted, little-endian. As in Redis's intset, a wider member widens them all
  and they never become narrower again.
- Text: `t`, a zero byte, and each member with a zero byte behind it. Within members, 0 is written as 1 3 and 1 as 1 2,
  so that looking a member up, adding and removing one are single searches of bytes.
"""

from __future__ import annotations

import sys
from array import array
from bisect import bisect_left
from collections.abc import Iterable
from typing import Final

from zattredis.keyspace.metadata import HEADER_BYTES

TEXT: Final = 0x74
_TEXT_EMPTY: Final = b"t\0"
_FORM_END: Final = HEADER_BYTES + 1
_CODES: Final = {2: "h", 4: "i", 8: "q"}
_INTEGER_CHARS_MAX: Final = 20
_INTEGER_MIN: Final = -(1 << 63)
_INTEGER_MAX: Final = (1 << 63) - 1


def integer_of(member: bytes) -> int | None:
    """Return the 64-bit integer that the member is written as, in Redis's one way of writing it; else None."""
    if not member or member[0] > 0x39 or len(member) > _INTEGER_CHARS_MAX:
        return None
    try:
        value = int(member)
    except ValueError:
        return None
    return value if b"%d" % value == member and _INTEGER_MIN <= value <= _INTEGER_MAX else None


# -- integers ----------------------------------------------------------------------------------------------------------


def integers_of(record: bytes) -> array[int]:
    """Return the members of a set in one of the integer forms, ascending."""
    values = array(_CODES[record[HEADER_BYTES]])
    values.frombytes(record[_FORM_END:])
    if sys.byteorder == "big":
        values.byteswap()
    return values


def pack_integers(values: array[int]) -> bytes:
    """Return the body of these members, which are ascending."""
    if sys.byteorder == "big":
        values = values[:]
        values.byteswap()
    return bytes((values.itemsize,)) + values.tobytes()


def integers(members: Iterable[int]) -> array[int]:
    """Return these integers, ascending and distinct already, at the width they need."""
    values = array("q", members)
    width = max(_width(values[0]), _width(values[-1])) if values else 2
    return array(_CODES[width], values)


def insert_integer(values: array[int], value: int) -> array[int] | None:
    """Return the members with one more, None if it is among them. The array given may be changed."""
    at = bisect_left(values, value)
    if at < len(values) and values[at] == value:
        return None
    width = _width(value)
    if width > values.itemsize:
        values = array(_CODES[width], values)
    values.insert(at, value)
    return values


def remove_integer(values: array[int], value: int) -> bool:
    """Take a member out; return whether it was there."""
    at = bisect_left(values, value)
    if at == len(values) or values[at] != value:
        return False
    del values[at]
    return True


def holds_integer(values: array[int], member: bytes) -> bool:
    """Return whether this is a member."""
    value = integer_of(member)
    if value is None:
        return False
    at = bisect_left(values, value)
    return at < len(values) and values[at] == value


def _width(value: int) -> int:
    if -0x8000 <= value < 0x8000:
        return 2
    return 4 if -0x8000_0000 <= value < 0x8000_0000 else 8


# -- text --------------------------------------------------------------------------------------------------------------


def entry_of(member: bytes) -> bytes:
    """Return a member as it stands in the text form, between zero bytes."""
    if b"\1" in member or b"\0" in member:
        member = member.replace(b"\1", b"\1\2").replace(b"\0", b"\1\3")
    return b"\0" + member + b"\0"


def texts_of(record: bytes) -> list[bytes]:
    """Return the members of a set in the text form, in the order in which they were added."""
    found = record[HEADER_BYTES + len(_TEXT_EMPTY) : -1].split(b"\0")
    if record.find(b"\1", _FORM_END) >= 0:
        return [entry.replace(b"\1\3", b"\0").replace(b"\1\2", b"\1") for entry in found]
    return found


def pack_texts(members: Iterable[bytes]) -> bytes:
    """Return the body of these members, which are distinct."""
    members = list(members)
    joined = b"".join(members)
    if b"\0" in joined or b"\1" in joined:
        return _TEXT_EMPTY + b"".join([entry_of(member)[1:] for member in members])
    return _TEXT_EMPTY + b"\0".join(members) + b"\0" if members else _TEXT_EMPTY


def count_texts(record: bytes) -> int:
    """Return the number of members."""
    return record.count(b"\0", _FORM_END) - 1


def holds_text(record: bytes, member: bytes) -> bool:
    """Return whether this is a member."""
    return record.find(entry_of(member), _FORM_END) >= 0
