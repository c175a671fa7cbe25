"""Reading values in Redis's RDB format: every encoding of the versions up to 12 (Redis 7.4), streams and modules not.

Source: Redis's rdb.c. Nothing is believed: whatever the bytes are, the result is a value that Redis could have written
or BadDump, and no more memory is taken than the dump and the bound on what it unpacks to allow.
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

from zattredis.errors import DefiniteError
from zattredis.keyspace.lzf import LzfError, decompress
from zattredis.keyspace.metadata import HASH, LIST, SET, STRING, ZSET
from zattredis.keyspace.rdb_packed import (
    BadDump,
    intset_members,
    listpack_elements,
    ziplist_elements,
    zipmap_pairs,
)
from zattredis.keyspace.sizes import STRING_BYTES_MAX

UNPACKED_BYTES_MAX: Final = 1 << 30
"""Bound on what all compressed strings of one dump may unpack to: what one command may write."""

_INTEGERS: Final = (struct.Struct("<b"), struct.Struct("<h"), struct.Struct("<i"))
_LZF: Final = 3
_DOUBLE: Final = struct.Struct("<d")
_TEXT_DOUBLES: Final = {255: -math.inf, 254: math.inf}
_SCORE: Final = re.compile(rb"[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?|[-+]?inf", re.IGNORECASE)
_DECIMAL: Final = b"0123456789+-.eE"
"""Of these alone float() reads what `_SCORE` does, in a third of the time."""
_PLAIN, _PACKED = 1, 2
_STREAMS: Final = frozenset((15, 19, 21, 26))


class NotYetStreams(DefiniteError):
    """A dump of a stream."""

    def __init__(self) -> None:
        super().__init__("Bad data format: the dump holds a stream, a type that this server does not have")


class Loaded(NamedTuple):
    """A value: bytes, or for LIST and SET a list of bytes, for HASH and ZSET of pairs. `expiries`: field → ms."""

    kind: int
    value: Any
    expiries: Mapping[bytes, int] | None = None


def living(loaded: Loaded, now_ms: int) -> Loaded:
    """Return the value without the fields whose time has passed at `now_ms`; it may be empty then."""
    if not loaded.expiries:
        return loaded
    expiries = {field: expire_ms for field, expire_ms in loaded.expiries.items() if expire_ms >= now_ms}
    gone = loaded.expiries.keys() - expiries.keys()
    return Loaded(loaded.kind, [pair for pair in loaded.value if pair[0] not in gone], expiries)


class Body:
    """A walk over the bytes of a dump, footer left out."""

    __slots__ = ("_at", "_data", "_end", "_unpacked")

    def __init__(self, data: bytes, end: int) -> None:
        self._data = data
        self._at = 0
        self._end = end
        self._unpacked = 0

    @property
    def left(self) -> int:
        """How many bytes are not read yet."""
        return self._end - self._at

    def take(self, size: int) -> bytes:
        """Return the next bytes. Raises BadDump when there are fewer."""
        at = self._at
        self._at = stop = at + size
        if stop > self._end:
            raise BadDump
        return self._data[at:stop]

    def byte(self) -> int:
        """Return the next byte."""
        at = self._at
        if at >= self._end:
            raise BadDump
        self._at = at + 1
        return self._data[at]

    def length(self) -> int:
        """Return a length. Raises BadDump for an encoding that is none of a length."""
        return self._length(self.byte())

    def _length(self, first: int) -> int:
        if first < 0x40:
            return first
        if first < 0x80:
            return (first & 0x3F) << 8 | self.byte()
        if first == 0x80:
            return int.from_bytes(self.take(4), "big")
        if first == 0x81:
            return int.from_bytes(self.take(8), "big")
        raise BadDump

    def count(self, bytes_each: int = 1) -> int:
        """Return how many elements follow, at least one, each of at least so many bytes."""
        count = self.length()
        if not 0 < count * bytes_each <= self.left:
            raise BadDump
        return count

    def string(self) -> bytes:
        """Return a string: plain, an integer's text, or unpacked."""
        first = self.byte()
        if first < 0xC0:
            return self.take(self._length(first))
        form = first & 0x3F
        if form < len(_INTEGERS):
            layout = _INTEGERS[form]
            return b"%d" % int(layout.unpack(self.take(layout.size))[0])
        if form != _LZF:
            raise BadDump
        packed, length = self.length(), self.length()
        self._unpacked += length
        if length > STRING_BYTES_MAX or self._unpacked > UNPACKED_BYTES_MAX:
            raise BadDump
        try:
            return decompress(self.take(packed), length)
        except LzfError as error:
            raise BadDump from error

    def strings(self, count: int) -> list[bytes]:
        """Return so many strings."""
        found: list[bytes] = []
        data, end = self._data, self._end
        for _ in range(count):
            at = self._at
            if at >= end:
                raise BadDump
            size = data[at]
            if size < 0x40:  # most are short: four times as fast as without a call
                self._at = stop = at + 1 + size
                found.append(data[at + 1 : stop])
            else:
                found.append(self.string())
        if self._at > end:
            raise BadDump
        return found

    def text_double(self) -> float:
        """Return a double written as text behind its length."""
        length = self.byte()
        value = _TEXT_DOUBLES.get(length)
        return _score(self.take(length)) if value is None else value

    def double(self) -> float:
        """Return a double of eight bytes."""
        value = float(_DOUBLE.unpack(self.take(8))[0])
        if math.isnan(value):
            raise BadDump
        return value


def _score(text: bytes) -> float:
    """Return a score written as text; never NaN."""
    if text.translate(None, _DECIMAL) and not _SCORE.fullmatch(text):
        raise BadDump
    try:
        return float(text)
    except ValueError as error:
        raise BadDump from error


def read_value(data: bytes, end: int) -> Loaded:
    """Return the value in data[:end]: a type byte, then the value. Raises BadDump, or NotYetStreams."""
    body = Body(data, end)
    kind = body.byte()
    if kind in _STREAMS:
        raise NotYetStreams
    reader = _READERS.get(kind)
    if reader is None:
        raise BadDump
    return reader(body)  # what may follow is ignored, as in Redis


# -- the types ---------------------------------------------------------------------------------------------------------


def _list(elements: list[bytes]) -> Loaded:
    if not elements:
        raise BadDump
    return Loaded(LIST, elements)


def _set(members: list[bytes]) -> Loaded:
    if not members or len(set(members)) != len(members):
        raise BadDump
    return Loaded(SET, members)


def _zset(items: list[tuple[bytes, float]]) -> Loaded:
    if not items or len({member for member, _ in items}) != len(items):
        raise BadDump
    return Loaded(ZSET, items)


def _zset_packed(elements: list[bytes]) -> Loaded:
    if len(elements) % 2:
        raise BadDump
    return _zset(list(zip(elements[::2], map(_score, elements[1::2]), strict=True)))


def _hash(elements: list[bytes], expiries: Mapping[bytes, int] | None = None) -> Loaded:
    """The fields and values in turn."""
    fields = elements[::2]
    if not fields or len(elements) % 2 or len(set(fields)) != len(fields):
        raise BadDump
    return Loaded(HASH, list(zip(fields, elements[1::2], strict=True)), expiries)


def _read_zset(body: Body, double: Callable[[Body], float], bytes_each: int) -> Loaded:
    return _zset([(body.string(), double(body)) for _ in range(body.count(bytes_each))])


def _read_quicklist(body: Body) -> Loaded:
    elements: list[bytes] = []
    for _ in range(body.count()):
        elements += ziplist_elements(body.string())
    return _list(elements)


def _read_quicklist_2(body: Body) -> Loaded:
    elements: list[bytes] = []
    for _ in range(body.count(2)):
        container = body.length()
        if container not in (_PLAIN, _PACKED):
            raise BadDump
        node = body.string()
        if container == _PLAIN:
            elements.append(node)
        else:
            elements += listpack_elements(node)
    return _list(elements)


def _read_hash_metadata(body: Body) -> Loaded:
    """7.4: the first expiry, then for each field its expiry from there on plus 1 (0: none), field and value."""
    first_ms = int.from_bytes(body.take(8), "little")
    elements: list[bytes] = []
    expiries: dict[bytes, int] = {}
    for _ in range(body.count(3)):
        after_ms = body.length()
        field, value = body.string(), body.string()
        elements += field, value
        if after_ms:
            expiries[field] = _field_expiry(first_ms + after_ms - 1)
    return _hash(elements, expiries)


def _read_hash_listpack_ex(body: Body) -> Loaded:
    """7.4: the first expiry, then a listpack of field, value, expiry (0: none) in turn."""
    body.take(8)
    triples = listpack_elements(body.string())
    if len(triples) % 3:
        raise BadDump
    expiries: dict[bytes, int] = {}
    for field, text in zip(triples[::3], triples[2::3], strict=True):
        if not text.isdigit() or len(text) > 20:
            raise BadDump
        if int(text):
            expiries[field] = _field_expiry(int(text))
    pairs = [word for place in range(0, len(triples), 3) for word in triples[place : place + 2]]
    return _hash(pairs, expiries)


def _field_expiry(expire_ms: int) -> int:
    if expire_ms >= 1 << 48:  # Redis's own bound on the expiry of a field
        raise BadDump
    return expire_ms


_READERS: Final[Mapping[int, Callable[[Body], Loaded]]] = {
    0: lambda body: Loaded(STRING, body.string()),
    1: lambda body: _list(body.strings(body.count())),
    2: lambda body: _set(body.strings(body.count())),
    3: lambda body: _read_zset(body, Body.text_double, 2),
    4: lambda body: _hash(body.strings(2 * body.count(2))),
    5: lambda body: _read_zset(body, Body.double, 9),
    9: lambda body: _hash(zipmap_pairs(body.string())),
    10: lambda body: _list(ziplist_elements(body.string())),
    11: lambda body: _set(intset_members(body.string())),
    12: lambda body: _zset_packed(ziplist_elements(body.string())),
    13: lambda body: _hash(ziplist_elements(body.string())),
    14: _read_quicklist,
    16: lambda body: _hash(listpack_elements(body.string())),
    17: lambda body: _zset_packed(listpack_elements(body.string())),
    18: _read_quicklist_2,
    20: lambda body: _set(listpack_elements(body.string())),
    24: _read_hash_metadata,
    25: _read_hash_listpack_ex,
}
"""RDB type → reader."""
