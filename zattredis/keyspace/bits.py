"""Strings as rows of bits: counting, finding, combining, and integers of any width at any place.

Bit 0 is the highest of byte 0. Large strings are worked on chunk by chunk, by `int.bit_count`, `bytes.lstrip` and
operations of long integers; a missing chunk is zero bits and costs nothing but looking for it.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from functools import reduce
from operator import and_, or_, xor
from typing import Final, NamedTuple

from zattredis.keyspace.keys import s_prefix
from zattredis.keyspace.metadata import (
    HEADER_BYTES,
    RAW,
    SEPARATE,
    STRING,
    collection_id_of,
    expire_of,
    pack_header,
    separate_body,
)
from zattredis.keyspace.sizes import CHUNK_BYTES, INLINE_BYTES_MAX
from zattredis.keyspace.strings import chunk_key, overwrite, put_string, string_length, string_range
from zattredis.keyspace.view import View

_CHUNKS_PER_STEP: Final = 32
_FIELD_BYTES: Final = 9
"""A field of 64 bits touches at most so many bytes."""
OPERATIONS: Final[dict[bytes, Callable[[int, int], int]]] = {b"AND": and_, b"OR": or_, b"XOR": xor}


class _Piece(NamedTuple):
    """Bytes from `position` on; what `data` lacks of `length` is zero."""

    position: int
    data: bytes
    length: int


def _pieces(view: View, record: bytes, start: int, stop: int) -> Iterator[list[_Piece]]:
    """Yield the bytes start <= n < stop of a string, some at a time."""
    if not record[0] & SEPARATE:
        yield [_Piece(start, record[HEADER_BYTES + start : HEADER_BYTES + stop], stop - start)]
        return
    prefix = s_prefix(collection_id_of(record))
    numbers = range(start // CHUNK_BYTES, -(-stop // CHUNK_BYTES))
    for at in range(0, len(numbers), _CHUNKS_PER_STEP):
        batch = numbers[at : at + _CHUNKS_PER_STEP]
        chunks = view.multi_get_raw([prefix + number.to_bytes(4, "big") for number in batch])
        pieces = []
        for number, chunk in zip(batch, chunks, strict=True):
            begin = number * CHUNK_BYTES
            low, high = max(start, begin), min(stop, begin + CHUNK_BYTES)
            pieces.append(_Piece(low, (chunk or b"")[low - begin : high - begin], high - low))
        yield pieces


def count_bits(view: View, record: bytes, first: int, last: int) -> Generator[None, None, int]:
    """Return how many of the bits first … last, which the string has, are set; yield from time to time."""
    start, stop = first >> 3, (last >> 3) + 1
    found = 0
    for pieces in _pieces(view, record, start, stop):
        for piece in pieces:
            found += int.from_bytes(piece.data, "little").bit_count()
        yield
    before = string_range(view, record, start, start + 1)[0] >> (8 - (first & 7))
    behind = string_range(view, record, stop - 1, stop)[0] & ((1 << (7 - (last & 7))) - 1)
    return found - before.bit_count() - behind.bit_count()


def find_bit(view: View, record: bytes, bit: int, first: int, last: int) -> Generator[None, None, int]:
    """Return the place of the first of the bits first … last that is `bit`, -1 if none is; yield from time to time."""
    skipped = first & 7
    for pieces in _pieces(view, record, first >> 3, (last >> 3) + 1):
        for piece in pieces:
            data = piece.data
            if skipped:
                byte = data[0] if data else 0
                mask = 0xFF >> skipped
                data = bytes((byte & mask if bit else byte | (mask ^ 0xFF),)) + data[1:]
                skipped = 0
            place = _find(data, piece.length, bit)
            if place >= 0:
                place += piece.position * 8
                return place if place <= last else -1
        yield
    return -1


def _find(data: bytes, length: int, bit: int) -> int:
    rest = data.lstrip(b"\0" if bit else b"\xff")
    place = (len(data) - len(rest)) * 8
    if rest:
        return place + 8 - (rest[0] if bit else rest[0] ^ 0xFF).bit_length()
    return place if not bit and len(data) < length else -1


# -- combining ---------------------------------------------------------------------------------------------------------


def combine(
    view: View, db: int, key: bytes, operation: bytes, records: Sequence[bytes | None], touched_s: int
) -> int:
    """Make the key the bits of all strings combined by AND, OR, XOR or NOT; return its length. None is an empty string.

    A result of no length deletes the key.
    """
    lengths = [0 if record is None else string_length(record) for record in records]
    length = max(lengths)
    if not length:
        view.delete(db, key, 0)
        return 0

    def part(start: int, stop: int) -> bytes:
        values = [
            int.from_bytes(string_range(view, record, min(start, size), min(stop, size)), "little")
            for record, size in zip(records, lengths, strict=True)
            if record is not None
        ]
        if operation == b"NOT":
            value = values[0] ^ ((1 << 8 * (stop - start)) - 1)
        elif operation == b"AND" and len(values) < len(records):
            value = 0
        else:
            value = reduce(OPERATIONS[operation], values)
        return value.to_bytes(stop - start, "little")

    if length <= INLINE_BYTES_MAX:
        put_string(view, db, key, part(0, length), touched_s, hints=RAW)
        return length
    collection_id = view.next_id()
    for number, start in enumerate(range(0, length, CHUNK_BYTES)):
        view.put_raw(chunk_key(collection_id, number), part(start, min(start + CHUNK_BYTES, length)))
    header = pack_header(STRING | SEPARATE | RAW, 0, view.next_id(), touched_s)
    view.put(db, key, header + separate_body(collection_id, length))
    return length


# -- fields ------------------------------------------------------------------------------------------------------------


class Fields:
    """Integers of up to 64 bits at any bit of one string, read and written until `close`."""

    __slots__ = ("_changed", "_db", "_held", "_key", "_record", "_touched_s", "_view", "grown")

    def __init__(self, view: View, db: int, key: bytes, record: bytes | None, touched_s: int, length: int = 0) -> None:
        """Take the key's string, `record` if it lives; with a `length`, make it at least so many bytes long."""
        self._view = view
        self._db = db
        self._key = key
        self._touched_s = touched_s
        self._changed = False
        size = 0 if record is None else string_length(record)
        self.grown = length > size
        if self.grown and length > INLINE_BYTES_MAX:
            overwrite(view, db, key, record, length - 1, b"\0", touched_s)
            record = view.record(db, key, 0)
        self._record = record
        self._held: bytearray | None = None
        if record is None or not record[0] & SEPARATE:
            self._held = bytearray(b"" if record is None else record[HEADER_BYTES:])
            self._held.extend(bytes(max(0, length - size)))
            self._changed = self.grown

    def get(self, offset: int, bits: int) -> int:
        """Return the unsigned integer of so many bits; behind the string's end all bits are zero."""
        start = offset >> 3
        data = self._bytes(start, start + _FIELD_BYTES).ljust(_FIELD_BYTES, b"\0")
        return int.from_bytes(data, "big") >> (8 * _FIELD_BYTES - (offset & 7) - bits) & ((1 << bits) - 1)

    def set(self, offset: int, bits: int, value: int) -> None:
        """Write an unsigned integer into so many bits, which the string has."""
        start, stop = offset >> 3, (offset + bits + 7) >> 3
        shift = stop * 8 - offset - bits
        whole = int.from_bytes(self._bytes(start, stop), "big")
        whole = whole & ~(((1 << bits) - 1) << shift) | value << shift
        data = whole.to_bytes(stop - start, "big")
        if self._held is not None:
            self._held[start:stop] = data
            self._changed = True
        else:
            overwrite(self._view, self._db, self._key, self._record, start, data, self._touched_s)
            self._record = self._view.record(self._db, self._key, 0)

    def close(self) -> None:
        """Store what has changed. As in Redis, a string that was to be written to is `raw` from then on."""
        record = self._record
        if self._changed and self._held is not None:
            expire_ms = 0 if record is None else expire_of(record)
            value = bytes(self._held)
            put_string(self._view, self._db, self._key, value, self._touched_s, expire_ms, hints=RAW)
        elif record is not None and not record[0] & (RAW | SEPARATE):
            self._view.put(self._db, self._key, bytes((record[0] | RAW,)) + record[1:])

    def _bytes(self, start: int, stop: int) -> bytes:
        if self._held is not None:
            return bytes(self._held[start:stop])
        assert self._record is not None
        size = string_length(self._record)
        return string_range(self._view, self._record, min(start, size), min(stop, size))
