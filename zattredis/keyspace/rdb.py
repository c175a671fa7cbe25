"""Values in Redis's RDB format, version 10: what DUMP returns and RESTORE takes.

Source: Redis 7.0's rdb.c and the RDB file format. A dump is the type (1), the value, the RDB version (2) and the CRC-64
of all before it (8), both little-endian. Integers of 32 bits are written as such. Strings are not compressed when
written, which every Redis reads; LZF is read.
"""

from __future__ import annotations

import struct
from collections.abc import Generator
from typing import Final

from zattredis.errors import DefiniteError
from zattredis.keyspace.crc64 import crc64, crc64_steps
from zattredis.keyspace.sizes import STRING_BYTES_MAX

RDB_VERSION: Final = 10
TYPE_STRING: Final = 0
_FOOTER: Final = struct.Struct("<HQ")
_INTEGERS: Final = (struct.Struct("<b"), struct.Struct("<h"), struct.Struct("<i"))
_INTEGER_CHARS_MAX: Final = 11
_LZF: Final = 3


class BadDump(DefiniteError):
    """The value inside a dump cannot be read."""

    def __init__(self) -> None:
        super().__init__("Bad data format")


def dump_string(value: bytes) -> Generator[None, None, bytes]:
    """Return the dump of a string, yielding from time to time where it is long."""
    body = bytes((TYPE_STRING,)) + _encode_string(value) + RDB_VERSION.to_bytes(2, "little")
    crc = yield from crc64_steps(body)
    return body + crc.to_bytes(8, "little")


def load_string(dump: bytes) -> bytes:
    """Return the string in a dump. Raises DefiniteError when the footer is wrong, BadDump for the rest."""
    if len(dump) < _FOOTER.size:
        raise DefiniteError("DUMP payload version or checksum are wrong")
    version, checksum = _FOOTER.unpack_from(dump, len(dump) - _FOOTER.size)
    if version > RDB_VERSION or crc64(dump[:-8]) != checksum:
        raise DefiniteError("DUMP payload version or checksum are wrong")
    body = memoryview(dump)[: -_FOOTER.size]
    if not body or body[0] != TYPE_STRING:
        raise BadDump
    try:
        return _decode_string(body[1:])
    except (IndexError, struct.error) as error:
        raise BadDump from error


def _encode_string(value: bytes) -> bytes:
    if len(value) <= _INTEGER_CHARS_MAX and (encoded := _encode_integer(value)):
        return encoded
    return _encode_length(len(value)) + value


def _encode_integer(value: bytes) -> bytes:
    """Return the integer form of a string that reads back the same, else nothing."""
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


def _encode_length(length: int) -> bytes:
    if length < 1 << 6:
        return bytes((length,))
    if length < 1 << 14:
        return (0x4000 | length).to_bytes(2, "big")
    if length < 1 << 32:
        return b"\x80" + length.to_bytes(4, "big")
    return b"\x81" + length.to_bytes(8, "big")


def _decode_length(body: memoryview) -> tuple[int, int]:
    """Return (length, bytes read). Raises BadDump for an encoding that is none of a length."""
    first = body[0]
    if first >> 6 == 0:
        return first & 0x3F, 1
    if first >> 6 == 1:
        return (first & 0x3F) << 8 | body[1], 2
    width = {0x80: 4, 0x81: 8}.get(first)
    if width is None or len(body) <= width:
        raise BadDump
    return int.from_bytes(body[1 : 1 + width], "big"), 1 + width


def _decode_string(body: memoryview) -> bytes:
    form = body[0] & 0x3F
    if body[0] >> 6 != 3:
        length, at = _decode_length(body)
        return _exactly(body[at:], length)
    if form < len(_INTEGERS):
        return b"%d" % int(_INTEGERS[form].unpack_from(body, 1)[0])
    if form != _LZF:
        raise BadDump
    packed, at = _decode_length(body[1:])
    length, more = _decode_length(body[1 + at :])
    if length > STRING_BYTES_MAX:
        raise BadDump
    return _lzf_decompress(_exactly(body[1 + at + more :], packed), length)


def _exactly(body: memoryview, length: int) -> bytes:
    if length > len(body):
        raise BadDump
    return bytes(body[:length])


def _lzf_decompress(packed: bytes, length: int) -> bytes:
    """Return the `length` bytes that LZF packed. Raises BadDump.

    A control byte below 32 stands before that many literal bytes and one more; any other holds the length of a
    repetition (three bits, 7: one more byte follows) and the high bits of how far back it begins.
    """
    out = bytearray()
    at, end = 0, len(packed)
    while at < end:
        control = packed[at]
        at += 1
        if control < 32:
            if at + control + 1 > end:
                raise BadDump
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
            raise BadDump
        piece = out[start : start + count]
        while len(piece) < count:
            piece += piece[: count - len(piece)]
        out += piece
    if len(out) != length:
        raise BadDump
    return bytes(out)
