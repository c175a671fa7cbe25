"""Where the value of each RDB type ends, found without decoding it.

Source: Redis's rdb.c, versions 1 to 12 of the format. Whoever calls these checks afterwards that the end returned lies
within the file; an IndexError means that it does not.
"""

from __future__ import annotations

import mmap
from collections.abc import Callable, Mapping
from typing import Final, TypeAlias

from zattredis.keyspace.lzf import LzfError, decompress
from zattredis.keyspace.sizes import STRING_BYTES_MAX

MODULE: Final = 7
STREAMS: Final = frozenset((15, 19, 21))
_LZF: Final = 0xC3
_INTEGER_BYTES: Final = {0xC0: 1, 0xC1: 2, 0xC2: 4}
_MODULE_END, _MODULE_SIGNED, _MODULE_UNSIGNED, _MODULE_FLOAT, _MODULE_DOUBLE, _MODULE_STRING = range(6)

Data: TypeAlias = bytes | mmap.mmap


class Malformed(Exception):
    """What stands at a place cannot be there; `at` is the place."""

    def __init__(self, at: int, what: str) -> None:
        super().__init__(what)
        self.at = at


def read_length(data: Data, at: int) -> tuple[int, int]:
    """Return a length and the place behind it. Raises Malformed."""
    first = data[at]
    if first < 0x40:
        return first, at + 1
    if first < 0x80:
        return (first & 0x3F) << 8 | data[at + 1], at + 2
    if first == 0x80:
        return int.from_bytes(exactly(data, at + 1, 4), "big"), at + 5
    if first == 0x81:
        return int.from_bytes(exactly(data, at + 1, 8), "big"), at + 9
    raise Malformed(at, f"0x{first:02x} begins no length")


def exactly(data: Data, at: int, size: int) -> bytes:
    """Return `size` bytes from `at` on. Raises IndexError if the file ends within them."""
    piece = data[at : at + size]
    if len(piece) != size:
        raise IndexError
    return piece


def read_string(data: Data, at: int) -> tuple[bytes, int]:
    """Return a string, unpacked, and the place behind it. Raises Malformed, IndexError if the file ends within it."""
    first = data[at]
    if first < 0x40:
        return exactly(data, at + 1, first), at + 1 + first
    if first < 0xC0:
        size, start = read_length(data, at)
        return exactly(data, start, size), start + size
    width = _INTEGER_BYTES.get(first)
    if width is not None:
        return b"%d" % int.from_bytes(exactly(data, at + 1, width), "little", signed=True), at + 1 + width
    if first != _LZF:
        raise Malformed(at, f"0x{first:02x} begins no string")
    packed, start = read_length(data, at + 1)
    size, start = read_length(data, start)
    if size > STRING_BYTES_MAX:
        raise Malformed(at, f"a string of {size} bytes")
    try:
        return decompress(exactly(data, start, packed), size), start + packed
    except LzfError:
        raise Malformed(at, "a string that cannot be unpacked") from None


def skip_string(data: Data, at: int) -> int:
    """Return the place behind a string. Raises Malformed."""
    first = data[at]
    if first < 0x40:
        return at + 1 + first
    if first < 0xC0:
        size, at = read_length(data, at)
        return at + size
    width = _INTEGER_BYTES.get(first)
    if width is not None:
        return at + 1 + width
    if first != _LZF:
        raise Malformed(at, f"0x{first:02x} begins no string")
    packed, at = read_length(data, at + 1)
    _, at = read_length(data, at)
    return at + packed


def _skip_strings(data: Data, at: int, count: int) -> int:
    for _ in range(count):
        first = data[at]
        at = at + 1 + first if first < 0x40 else skip_string(data, at)
    return at


def _strings(data: Data, at: int) -> int:
    count, at = read_length(data, at)
    return _skip_strings(data, at, count)


def _pairs(data: Data, at: int) -> int:
    count, at = read_length(data, at)
    return _skip_strings(data, at, 2 * count)


def _zset_text(data: Data, at: int) -> int:
    """Scores as text: 253 is NaN, 254 and 255 are the infinities, anything else the length of the text."""
    count, at = read_length(data, at)
    for _ in range(count):
        at = skip_string(data, at)
        size = data[at]
        at += 1 + (size if size < 253 else 0)
    return at


def _zset_binary(data: Data, at: int) -> int:
    count, at = read_length(data, at)
    for _ in range(count):
        first = data[at]
        at = (at + 1 + first if first < 0x40 else skip_string(data, at)) + 8
    return at


def _quicklist_2(data: Data, at: int) -> int:
    count, at = read_length(data, at)
    for _ in range(count):
        _, at = read_length(data, at)
        at = skip_string(data, at)
    return at


def _hash_metadata(data: Data, at: int) -> int:
    count, at = read_length(data, at + 8)
    for _ in range(count):
        _, at = read_length(data, at)
        at = _skip_strings(data, at, 2)
    return at


def _hash_listpack_ex(data: Data, at: int) -> int:
    return skip_string(data, at + 8)


def _skip_lengths(data: Data, at: int, count: int) -> int:
    for _ in range(count):
        _, at = read_length(data, at)
    return at


def _stream(form: int) -> Callable[[Data, int], int]:
    """Return what skips a stream: `form` 1 of Redis 5, 2 of 7.0, 3 of 7.2."""

    def skip(data: Data, at: int) -> int:
        at = _pairs(data, at)  # of a node's id and its listpack
        at = _skip_lengths(data, at, 3 if form == 1 else 8)
        groups, at = read_length(data, at)
        for _ in range(groups):
            at = skip_string(data, at)
            at = _skip_lengths(data, at, 2 if form == 1 else 3)
            pending, at = read_length(data, at)
            for _ in range(pending):
                _, at = read_length(data, at + 24)
            consumers, at = read_length(data, at)
            for _ in range(consumers):
                at = skip_string(data, at) + (8 if form < 3 else 16)
                owned, at = read_length(data, at)
                at += 16 * owned
        return at

    return skip


def skip_module(data: Data, at: int) -> int:
    """Return the place behind what a module wrote: its id, then marked pieces up to an end mark. Raises Malformed."""
    _, at = read_length(data, at)
    while True:
        start = at
        mark, at = read_length(data, at)
        if mark == _MODULE_END:
            return at
        if mark in (_MODULE_SIGNED, _MODULE_UNSIGNED):
            _, at = read_length(data, at)
        elif mark == _MODULE_STRING:
            at = skip_string(data, at)
        elif mark in (_MODULE_FLOAT, _MODULE_DOUBLE):
            at += 4 if mark == _MODULE_FLOAT else 8
        else:
            raise Malformed(start, f"{mark} marks nothing that a module writes")


SKIP: Final[Mapping[int, Callable[[Data, int], int]]] = {
    **dict.fromkeys((0, 9, 10, 11, 12, 13, 16, 17, 20), skip_string),
    **dict.fromkeys((1, 2, 14), _strings),
    3: _zset_text,
    4: _pairs,
    5: _zset_binary,
    MODULE: skip_module,
    15: _stream(1),
    18: _quicklist_2,
    19: _stream(2),
    21: _stream(3),
    24: _hash_metadata,
    25: _hash_listpack_ex,
}
"""RDB type → what returns the place behind a value that begins at a place."""

VERSION_OF: Final[Mapping[int, int]] = {20: 11, 21: 11, 24: 12, 25: 12}
"""RDB type → the first version that has it, where that is later than 10."""

TYPE_NAMES: Final[Mapping[int, str]] = {
    0: "string", **dict.fromkeys((1, 10, 14, 18), "list"), **dict.fromkeys((2, 11, 20), "set"),
    **dict.fromkeys((3, 5, 12, 17), "zset"), **dict.fromkeys((4, 9, 13, 16, 24, 25), "hash"),
    **dict.fromkeys(STREAMS, "stream"), MODULE: "module",
}  # fmt: skip
"""RDB type → what Redis's TYPE calls it ("module": a type of a module's own)."""
