"""The same value in a dump that costs less to read: plain strings, one after the other.

Redis dumps small collections packed (listpack, ziplist, intset, LZF), and every node of a cluster would unpack each. So
it is done once, here. What is stored does not depend on the form: a node decides for itself how it holds a value.
"""

from __future__ import annotations

import struct
from typing import Final

from zattredis.errors import DefiniteError
from zattredis.keyspace.crc64 import crc64
from zattredis.keyspace.metadata import HASH, LIST, SET, STRING, ZSET
from zattredis.keyspace.rdb import RDB_VERSION, encode_length
from zattredis.keyspace.rdb_read import Loaded, read_value

BYTES_MAX: Final = 4096
"""Longest dump that is made plain: what is larger is mostly content."""
_FOOTER_BYTES: Final = 10
_VERSION: Final = RDB_VERSION.to_bytes(2, "little")
_BYTE_LENGTH: Final = 0x40
_KINDS: Final = {LIST: b"\1", SET: b"\2", HASH: b"\4", ZSET: b"\5"}
_LENGTHS: Final = tuple(bytes((size,)) for size in range(_BYTE_LENGTH))
_double: Final = struct.Struct("<d").pack


def loaded(dump: bytes) -> Loaded:
    """Return the value in a dump, whose checksum is not looked at. Raises DefiniteError."""
    return read_value(dump, len(dump) - _FOOTER_BYTES)


def string_in(dump: bytes) -> bytes:
    """Return the string in a dump of one. Raises DefiniteError."""
    size = len(dump) - 2 - _FOOTER_BYTES
    if 0 <= size < _BYTE_LENGTH and dump[1] == size:
        return dump[2 : 2 + size]
    value: bytes = loaded(dump).value
    return value


def plain(dump: bytes) -> bytes:
    """Return a dump of the same value, or the same dump where there is nothing to gain, or it cannot be read."""
    if len(dump) > BYTES_MAX:
        return dump
    try:
        kind, value, expiries = loaded(dump)
    except DefiniteError:
        return dump  # let the cluster say what is wrong with it
    if kind == STRING or expiries:
        return dump
    parts = [_KINDS[kind], encode_length(len(value))]
    if kind == ZSET:
        for member, score in value:
            parts += _length(member), member, _double(score)
    else:
        for string in value if kind != HASH else [word for pair in value for word in pair]:
            parts += _length(string), string
    parts.append(_VERSION)
    body = b"".join(parts)
    return body + crc64(body).to_bytes(8, "little")


def _length(string: bytes) -> bytes:
    size = len(string)
    return _LENGTHS[size] if size < _BYTE_LENGTH else encode_length(size)
