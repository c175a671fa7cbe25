"""Values in Redis's RDB format: what DUMP returns and RESTORE takes.

Source: Redis 7.0's rdb.c. A dump is the type (1), the value, the RDB version (2) and the CRC-64 of all before it (8),
both little-endian. Written is what Redis 7.0 would write, version 10, in the encoding that OBJECT ENCODING names: a
value of a few KiB gives the same bytes (but for the order of what has none). A hash whose fields expire has no form in
it: it is written as Redis 7.4 does, version 12. `rdb_read` reads every encoding of the versions up to 12.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from itertools import islice
from typing import Final

from zattredis.errors import DefiniteError
from zattredis.keyspace.crc64 import crc64
from zattredis.keyspace.lzf import compress
from zattredis.keyspace.metadata import FIELD_EXPIRY, HASH, LIST, SET, STRING, TYPE_MASK, ZSET
from zattredis.keyspace.rdb_packed import (
    LISTPACK_FRAME_BYTES,
    intset_of,
    listpack,
    listpack_entry,
    listpack_of,
)
from zattredis.keyspace.rdb_read import Loaded, read_value
from zattredis.keyspace.types import TYPES, functions_of
from zattredis.keyspace.view import View

RDB_VERSION: Final = 10
RDB_VERSION_FIELD_EXPIRY: Final = 12
RDB_VERSION_MAX: Final = 12
_FOOTER: Final = struct.Struct("<HQ")
_INTEGERS: Final = (struct.Struct("<b"), struct.Struct("<h"), struct.Struct("<i"))
_INTEGER_CHARS_MAX: Final = 11
_LZF_BYTES_MIN: Final = 21
_LZF_BYTES_MAX: Final = 16 * 1024
"""Longer strings are written as they are, which every Redis reads: packing takes half a second a megabyte."""
_VALUE_BYTES_MAX: Final = 1 << 16
"""Nor are the strings of a value that is reckoned to be larger."""
_LZF_SIGN: Final = b"\xc3"
_SLICE: Final = 256
_DOUBLE: Final = struct.Struct("<d")

_STRING, _SET, _HASH, _ZSET_2, _SET_INTSET, _HASH_LISTPACK, _ZSET_LISTPACK, _LIST_QUICKLIST_2, _HASH_METADATA = (
    0, 2, 4, 5, 11, 16, 17, 18, 24,
)  # fmt: skip
_PACKED_NODE: Final = b"\x02"
_NODE_BYTES: Final = (4096, 8192, 16384, 32768, 65536)
_NODE_BYTES_SAFE: Final = 8192
_NODE_ENTRY_ESTIMATE: Final = 8
_INTEGER_SCORE_MAX: Final = 1 << 62

Parts = Generator[None, None, list[bytes]]


class WrongFooter(DefiniteError):
    """A dump of a later version, or one that does not fit its checksum."""

    def __init__(self) -> None:
        super().__init__("DUMP payload version or checksum are wrong")


def load(dump: bytes) -> Loaded:
    """Return the value in a dump. Raises WrongFooter, BadDump or NotYetStreams."""
    if len(dump) < _FOOTER.size:
        raise WrongFooter
    version, checksum = _FOOTER.unpack_from(dump, len(dump) - _FOOTER.size)
    if version > RDB_VERSION_MAX or crc64(memoryview(dump)[:-8]) != checksum:
        raise WrongFooter
    return read_value(dump, len(dump) - _FOOTER.size)


def dump_steps(view: View, record: bytes, now_ms: int, *, packed: bool = True) -> Generator[None, None, bytes]:
    """Return the dump of a key's value, yielding from time to time where it is large.

    `packed` False: strings are written as they are, at a fraction of the cost; every Redis reads that as well.
    """
    kind = record[0] & TYPE_MASK
    parts: list[bytes] = yield from _WRITERS[kind](view, record, now_ms, packed)
    expiring = kind == HASH and parts[0][0] == _HASH_METADATA
    parts.append((RDB_VERSION_FIELD_EXPIRY if expiring else RDB_VERSION).to_bytes(2, "little"))
    body = b"".join(parts)
    return body + crc64(body).to_bytes(8, "little")


# -- the parts of all values ------------------------------------------------------------------------------------------


def encode_length(number: int) -> bytes:
    """Return a length as the format writes it."""
    if number < 1 << 6:
        return bytes((number,))
    if number < 1 << 14:
        return (0x4000 | number).to_bytes(2, "big")
    return b"\x80" + number.to_bytes(4, "big") if number < 1 << 32 else b"\x81" + number.to_bytes(8, "big")


def _string(value: bytes) -> bytes:
    """Return a string as Redis writes it: an integer if it is the text of one, packed if that makes it shorter."""
    size = len(value)
    if _LZF_BYTES_MIN <= size <= _LZF_BYTES_MAX:
        packed = compress(value, size - 4)
        if packed is not None:
            return _LZF_SIGN + encode_length(len(packed)) + encode_length(size) + packed
    return _unpacked_string(value)


def _unpacked_string(value: bytes) -> bytes:
    size = len(value)
    if size <= _INTEGER_CHARS_MAX and (encoded := _integer(value)):
        return encoded
    return encode_length(size) + value


def _writer_for(record: bytes, packed: bool) -> Callable[[bytes], bytes]:
    """Return what writes the strings of a value."""
    return _string if packed and functions_of(record).size(record) <= _VALUE_BYTES_MAX else _unpacked_string


def _integer(value: bytes) -> bytes:
    """Return the integer form of a string that reads back the same, else nothing."""
    if not value or value[0] > 0x39:
        return b""
    try:
        number = int(value)
    except ValueError:
        return b""
    if b"%d" % number != value:
        return b""
    for form, layout in enumerate(_INTEGERS):
        if -(1 << 8 * layout.size - 1) <= number < 1 << 8 * layout.size - 1:
            return bytes((0xC0 | form,)) + layout.pack(number)
    return b""


def _slices(elements: Iterable[bytes]) -> Iterator[list[bytes]]:
    """Yield the elements in lists of at most _SLICE."""
    iterator = iter(elements)
    while piece := list(islice(iterator, _SLICE)):
        yield piece


# -- the types ---------------------------------------------------------------------------------------------------------


def _write_string(view: View, record: bytes, now_ms: int, packed: bool) -> Parts:
    yield from ()
    (value,) = TYPES[STRING].items(view, record, now_ms)
    return [bytes((_STRING,)), (_string if packed else _unpacked_string)(value)]


def _write_list(view: View, record: bytes, now_ms: int, packed: bool) -> Parts:
    """A quicklist: nodes of whole elements, filled from the left as far as list-max-listpack-size allows."""
    string = _writer_for(record, packed)
    fill = view.registers.parameters.list_max_listpack_size
    bytes_max = _NODE_BYTES[min(-fill, len(_NODE_BYTES)) - 1] if fill < 0 else 0
    nodes: list[bytes] = []
    entries: list[bytes] = []
    size = LISTPACK_FRAME_BYTES
    for piece in _slices(TYPES[LIST].items(view, record, now_ms)):
        for element in piece:
            estimate = size + len(element) + _NODE_ENTRY_ESTIMATE
            if entries and estimate > bytes_max and (estimate > _NODE_BYTES_SAFE or len(entries) >= fill):
                nodes.append(_PACKED_NODE + string(listpack(entries)))
                entries, size = [], LISTPACK_FRAME_BYTES
            entry = listpack_entry(element)
            entries.append(entry)
            size += len(entry)
        yield
    nodes.append(_PACKED_NODE + string(listpack(entries)))
    return [bytes((_LIST_QUICKLIST_2,)), encode_length(len(nodes)), *nodes]


def _write_set(view: View, record: bytes, now_ms: int, packed: bool) -> Parts:
    members = TYPES[SET].items(view, record, now_ms)
    if TYPES[SET].encoding(record) == b"intset":
        return [bytes((_SET_INTSET,)), (_string if packed else _unpacked_string)(intset_of(members))]
    parts = [bytes((_SET,)), b""]
    string = _writer_for(record, packed)
    for piece in _slices(members):
        parts += map(string, piece)
        yield
    parts[1] = encode_length(len(parts) - 2)
    return parts


def _write_hash(view: View, record: bytes, now_ms: int, packed: bool) -> Parts:
    items = TYPES[HASH].items(view, record, now_ms)
    expiries: Mapping[bytes, int] = TYPES[HASH].expiries(view, record) if record[0] & FIELD_EXPIRY else {}
    words = (word for pair in items for word in pair)
    if expiries:
        return (yield from _write_expiring_hash(_writer_for(record, packed), words, expiries))
    if TYPES[HASH].encoding(record) == b"listpack":
        return [bytes((_HASH_LISTPACK,)), (_string if packed else _unpacked_string)(listpack_of(words))]
    parts = [bytes((_HASH,)), b""]
    string = _writer_for(record, packed)
    for piece in _slices(words):
        parts += map(string, piece)
        yield
    parts[1] = encode_length((len(parts) - 2) // 2)
    return parts


def _write_expiring_hash(
    string: Callable[[bytes], bytes], words: Iterator[bytes], expiries: Mapping[bytes, int]
) -> Parts:
    first_ms = min(expiries.values())
    parts = [bytes((_HASH_METADATA,)) + first_ms.to_bytes(8, "little"), b""]
    for piece in _slices(words):
        for field, value in zip(piece[::2], piece[1::2], strict=True):
            expire_ms = expiries.get(field)
            after_ms = 0 if expire_ms is None else expire_ms - first_ms + 1
            parts.append(encode_length(after_ms) + string(field) + string(value))
        yield
    parts[1] = encode_length(len(parts) - 2)
    return parts


def _write_zset(view: View, record: bytes, now_ms: int, packed: bool) -> Parts:
    items: Iterator[tuple[bytes, float]] = TYPES[ZSET].items(view, record, now_ms)
    if TYPES[ZSET].encoding(record) == b"listpack":
        words = (word for member, score in items for word in (member, _score(score)))
        return [bytes((_ZSET_LISTPACK,)), (_string if packed else _unpacked_string)(listpack_of(words))]
    parts: list[bytes] = []
    string = _writer_for(record, packed)
    for member, score in items:
        parts.append(string(member) + _DOUBLE.pack(score))
        if not len(parts) % _SLICE:
            yield
    parts.reverse()  # Redis writes, and builds again fastest, from the highest score down
    return [bytes((_ZSET_2,)), encode_length(len(parts)), *parts]


def _score(score: float) -> bytes:
    if abs(score) <= _INTEGER_SCORE_MAX and score == int(score):
        return b"%d" % int(score)
    return b"%.17g" % score


_WRITERS: Final = {STRING: _write_string, LIST: _write_list, SET: _write_set, HASH: _write_hash, ZSET: _write_zset}
