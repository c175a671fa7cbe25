"""Strings: the value itself in the record up to INLINE_BYTES_MAX, beyond that chunks under a collection id.

Chunk `n` of a large string holds its bytes from n * CHUNK_BYTES. A chunk that is missing or short stands for zero bytes
up to the string's size, so writing far behind the end costs one chunk. A string that grew large stays in chunks until
it is replaced; its record changes with every write, since its version does.
"""

from __future__ import annotations

from typing import Final

from zattredis.errors import StateDamaged, WrongType
from zattredis.keyspace.keys import s_prefix
from zattredis.keyspace.metadata import (
    ENCODING_HINTS,
    HEADER_BYTES,
    NOT_INT,
    RAW,
    SEPARATE,
    STRING,
    TYPE_MASK,
    VOLATILE,
    collection_id_of,
    expire_of,
    pack_header,
    separate_body,
    size_of,
)
from zattredis.keyspace.rdb_packed import packed_integer
from zattredis.keyspace.sizes import CHUNK_BYTES, INLINE_BYTES_MAX
from zattredis.keyspace.view import View

_CHUNKS_PER_READ: Final = 256
_EMBEDDED_BYTES_MAX: Final = 44


def check_string(record: bytes) -> None:
    """Raise WrongType unless the record is a string's."""
    if record[0] & TYPE_MASK != STRING:
        raise WrongType


def string_value(view: View, record: bytes) -> bytes:
    """Return the whole string. Raises WrongType."""
    kind = record[0]
    if kind & (TYPE_MASK | SEPARATE) == STRING:
        return record[HEADER_BYTES:]
    check_string(record)
    return _read_chunks(view, collection_id_of(record), 0, size_of(record))


def string_encoding(record: bytes) -> bytes:
    """Return the encoding that Redis would have chosen for the string."""
    kind = record[0]
    if kind & (SEPARATE | RAW):
        return b"raw"
    value = record[HEADER_BYTES:]
    if not kind & NOT_INT and packed_integer(value) is not None:
        return b"int"
    return b"embstr" if len(value) <= _EMBEDDED_BYTES_MAX else b"raw"


def string_length(record: bytes) -> int:
    """Return the length in bytes. Raises WrongType."""
    check_string(record)
    return size_of(record) if record[0] & SEPARATE else len(record) - HEADER_BYTES


def string_range(view: View, record: bytes, start: int, stop: int) -> bytes:
    """Return the bytes start <= n < stop; both within 0..length. Raises WrongType."""
    check_string(record)
    if record[0] & SEPARATE:
        return _read_chunks(view, collection_id_of(record), start, stop)
    return record[HEADER_BYTES + start : HEADER_BYTES + stop]


def put_string(
    view: View, db: int, key: bytes, value: bytes, touched_s: int, expire_ms: int = 0, hints: int = 0
) -> None:
    """Make the key this string, whatever it was. `hints` are of metadata.ENCODING_HINTS."""
    kind = STRING | hints | (VOLATILE if expire_ms else 0)
    if len(value) <= INLINE_BYTES_MAX:
        view.put(db, key, pack_header(kind, expire_ms, view.next_id(), touched_s) + value)
        return
    collection_id = view.next_id()
    prefix = s_prefix(collection_id)
    for number, start in enumerate(range(0, len(value), CHUNK_BYTES)):
        view.put_raw(prefix + number.to_bytes(4, "big"), value[start : start + CHUNK_BYTES])
    body = separate_body(collection_id, len(value))
    view.put(db, key, pack_header(kind | SEPARATE, expire_ms, view.next_id(), touched_s) + body)


def overwrite(view: View, db: int, key: bytes, record: bytes | None, offset: int, data: bytes, touched_s: int) -> int:
    """Write `data` into the key's string at `offset`, zero bytes filling a gap; return the new length.

    The key keeps its expiry. `record` is its live record, None when absent. Only chunks touched are read and written.
    Raises WrongType. The caller has checked the resulting length.
    """
    length = 0 if record is None else string_length(record)
    new_length = max(length, offset + len(data))
    expire_ms = 0 if record is None else expire_of(record)
    if record is None or not record[0] & SEPARATE:
        value = b"" if record is None else record[HEADER_BYTES:]
        if new_length <= INLINE_BYTES_MAX:
            value = value.ljust(offset, b"\0")
            value = value[:offset] + data + value[offset + len(data) :]
            put_string(view, db, key, value, touched_s, expire_ms, hints=RAW)
            return new_length
        collection_id = view.next_id()
        _write_chunks(view, collection_id, 0, 0, value)
    else:
        collection_id = collection_id_of(record)
    _write_chunks(view, collection_id, length, offset, data)
    kind = STRING | SEPARATE | RAW | (VOLATILE if expire_ms else 0)
    header = pack_header(kind, expire_ms, view.next_id(), touched_s)
    view.put(db, key, header + separate_body(collection_id, new_length))
    return new_length


def copy_string(view: View, record: bytes, db: int, key: bytes, expire_ms: int, touched_s: int) -> None:
    """Make the key a copy of the string in `record`, with this expiry; a hole stays a hole. Raises WrongType."""
    hints = record[0] & ENCODING_HINTS
    if not record[0] & SEPARATE:
        put_string(view, db, key, string_value(view, record), touched_s, expire_ms, hints)
        return
    check_string(record)
    source, target = s_prefix(collection_id_of(record)), s_prefix(collection_id := view.next_id())
    for begin in range(0, chunks_of(size_of(record)), _CHUNKS_PER_READ):
        names = [n.to_bytes(4, "big") for n in range(begin, min(begin + _CHUNKS_PER_READ, chunks_of(size_of(record))))]
        for name, chunk in zip(names, view.multi_get_raw([source + name for name in names]), strict=True):
            if chunk is not None:
                view.put_raw(target + name, chunk)
    kind = STRING | SEPARATE | hints | (VOLATILE if expire_ms else 0)
    body = separate_body(collection_id, size_of(record))
    view.put(db, key, pack_header(kind, expire_ms, view.next_id(), touched_s) + body)


def chunk_key(collection_id: int, number: int) -> bytes:
    """Return the store key of a chunk."""
    return s_prefix(collection_id) + number.to_bytes(4, "big")


def chunks_of(size: int) -> int:
    """Return how many chunks a string of `size` bytes may have."""
    return -(-size // CHUNK_BYTES)


def _read_chunks(view: View, collection_id: int, start: int, stop: int) -> bytes:
    if stop <= start:
        return b""
    prefix = s_prefix(collection_id)
    first, last = start // CHUNK_BYTES, (stop - 1) // CHUNK_BYTES
    parts: list[bytes] = []
    for begin in range(first, last + 1, _CHUNKS_PER_READ):
        numbers = range(begin, min(begin + _CHUNKS_PER_READ, last + 1))
        parts += [chunk or b"" for chunk in view.multi_get_raw([prefix + n.to_bytes(4, "big") for n in numbers])]
    for place, chunk in enumerate(parts):
        if len(chunk) > CHUNK_BYTES:
            raise StateDamaged(f"a string chunk of {len(chunk)} bytes lies under collection {collection_id}")
        parts[place] = chunk.ljust(CHUNK_BYTES, b"\0")
    parts[-1] = parts[-1][: stop - last * CHUNK_BYTES]
    parts[0] = parts[0][start - first * CHUNK_BYTES :]
    return b"".join(parts)


def _write_chunks(view: View, collection_id: int, length: int, offset: int, data: bytes) -> None:
    """Write data at `offset` of a string of `length` bytes in chunks."""
    prefix = s_prefix(collection_id)
    end = offset + len(data)
    for number in range(offset // CHUNK_BYTES, -(-end // CHUNK_BYTES)):
        begin = number * CHUNK_BYTES
        piece = data[max(begin - offset, 0) : begin + CHUNK_BYTES - offset]
        name = prefix + number.to_bytes(4, "big")
        if len(piece) < CHUNK_BYTES:
            held = (view.get_raw(name) or b"") if begin < length else b""
            at = max(offset - begin, 0)
            piece = held.ljust(at, b"\0")[:at] + piece + held[at + len(piece) :]
        view.put_raw(name, piece)
