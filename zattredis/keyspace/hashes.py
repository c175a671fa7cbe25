"""Hashes: fields and values, each field perhaps with an expiry of its own.

A small hash lies in its key's record (`hashes_inline`), in the order in which its fields were first set. One that grows
beyond ENTRIES_MAX fields or BYTES_MAX bytes gets a collection id and store keys of its own (`hashes_edit`), for good,
in the order of crc32(field): a position in that order is HSCAN's cursor, valid on every node, and a field can be drawn
at random without an index (`hashes_random`). Whether Redis would call it a listpack or a hashtable is a flag of the
record and says nothing about where it lies; but what Redis would call a listpack comes in Redis's order.

Fields past their time are absent from everything here that is told a time. They are removed by maintenance, which finds
hashes by the earliest expiry of their fields (`keys`, `y`). When all of them are past it, so is the key
(`metadata.is_expired`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from zattredis.errors import WrongType
from zattredis.keyspace import hashes_inline as inline
from zattredis.keyspace.hashes_edit import (
    FIELDS,
    FIELDS_END,
    LEAD,
    NAME_BYTES,
    TIMES,
    TIMES_BYTES,
    HashEdit,
    decode_raw,
    field_name,
    order_of,
)
from zattredis.keyspace.keys import s_prefix, s_prefix_end
from zattredis.keyspace.metadata import (
    FIELD_EXPIRY,
    HASH,
    HEADER_BYTES,
    LARGE,
    SEPARATE,
    TYPE_MASK,
    VOLATILE,
    collection_id_of,
    next_field_expiry,
    pack_header,
    size_of,
)
from zattredis.keyspace.sizes import SLICED_ELEMENTS
from zattredis.keyspace.view import View

__all__ = [
    "HashEdit", "check_hash", "copy_hash", "expired_fields", "fields_expire", "fields_of_hashes", "hash_bytes",
    "hash_encoding", "hash_expiries", "hash_items", "hash_length", "hash_size", "hash_value", "hash_values",
    "is_plain_hash", "put_hash", "scan_fields",
]  # fmt: skip

POSITIONS: Final = 1 << 32
WINDOW_FIELDS_MAX: Final = 4096
"""Most fields one HSCAN looks at, whatever its COUNT; more only where fields share a crc."""
WINDOW_BYTES_MAX: Final = 4 * 1024 * 1024
_FIELD_BYTES: Final = 64


def check_hash(record: bytes) -> None:
    """Raise WrongType unless the record is a hash's."""
    if record[0] & TYPE_MASK != HASH:
        raise WrongType


def is_plain_hash(record: bytes) -> bool:
    """Return whether the record is that of a hash none of whose fields expires."""
    return record[0] & (TYPE_MASK | FIELD_EXPIRY) == HASH


def hash_size(record: bytes) -> int:
    """Return how many fields are stored, those past their time too. Raises WrongType."""
    check_hash(record)
    return size_of(record) if record[0] & SEPARATE else record[HEADER_BYTES]


def fields_expire(record: bytes, now_ms: int) -> bool:
    """Return whether fields may be stored that are past their time. Raises WrongType."""
    check_hash(record)
    return 0 < next_field_expiry(record) < now_ms


def expired_fields(view: View, record: bytes, now_ms: int) -> Iterator[bytes]:
    """Yield the fields that are stored but past their time. Raises WrongType."""
    if not fields_expire(record, now_ms):
        return
    if not record[0] & SEPARATE:
        yield from [field for field, _, expire_ms in _entries(record) if expire_ms and now_ms > expire_ms]
        return
    prefix = s_prefix(collection_id_of(record)) + TIMES
    lower = prefix + next_field_expiry(record).to_bytes(8, "big")
    for name, _ in view.iterate(lower, prefix + now_ms.to_bytes(8, "big")):
        yield name[NAME_BYTES + 8 :]


def hash_length(view: View, record: bytes, now_ms: int) -> int:
    """Return the number of fields. Raises WrongType. Those past their time are counted off one by one."""
    size = hash_size(record)
    return size - sum(1 for _ in expired_fields(view, record, now_ms)) if record[0] & FIELD_EXPIRY else size


def hash_value(view: View, record: bytes, field: bytes, now_ms: int) -> bytes | None:
    """Return the value of a field, or None. Raises WrongType."""
    return find_field(view, record, field, now_ms)[0]


def find_field(view: View, record: bytes, field: bytes, now_ms: int) -> tuple[bytes | None, int]:
    """Return value and expiry (0: none) of a field, (None, 0) when it is absent. Raises WrongType."""
    kind = record[0]
    if kind & TYPE_MASK != HASH:
        raise WrongType
    if kind & SEPARATE:
        raw = view.get_raw(field_name(b"s" + record[HEADER_BYTES : HEADER_BYTES + 8] + FIELDS, field))
        if raw is None:
            return None, 0
        if not raw[0]:
            return raw[1:], 0
        value, expire_ms = decode_raw(raw)
    else:
        body, lead = _inline_body(record)
        ordinal = inline.find(body, field, lead)
        if ordinal < 0:
            return None, 0
        value, expire_ms = inline.entry_at(body, ordinal, len(field), lead)
    return (None, 0) if expire_ms and now_ms > expire_ms else (value, expire_ms)


def hash_values(view: View, record: bytes, fields: Iterable[bytes], now_ms: int) -> list[bytes | None]:
    """Return the values of fields, None for each that is absent. Raises WrongType."""
    return [value for value, _ in find_fields(view, record, fields, now_ms)]


def find_fields(view: View, record: bytes, fields: Iterable[bytes], now_ms: int) -> list[tuple[bytes | None, int]]:
    """Return value and expiry (0: none) of each field, (None, 0) for one that is absent. Raises WrongType."""
    check_hash(record)
    if not record[0] & SEPARATE:
        return [find_field(view, record, field, now_ms) for field in fields]
    prefix = s_prefix(collection_id_of(record)) + FIELDS
    found: list[tuple[bytes | None, int]] = []
    for raw in view.multi_get_raw([field_name(prefix, field) for field in fields]):
        value: bytes | None
        value, expire_ms = (None, 0) if raw is None else decode_raw(raw)
        found.append((None, 0) if expire_ms and now_ms > expire_ms else (value, expire_ms))
    return found


def fields_of_hashes(view: View, wanted: list[tuple[bytes | None, bytes]]) -> list[bytes | None]:
    """Return the value of each (record, field), with one read; no record may be of another type or have expiries."""
    values: list[bytes | None] = []
    names: list[bytes] = []
    places: list[int] = []
    for place, (record, field) in enumerate(wanted):
        value = None
        if record is None:
            pass
        elif record[0] & SEPARATE:
            names.append(field_name(b"s" + record[HEADER_BYTES : HEADER_BYTES + 8] + FIELDS, field))
            places.append(place)
        else:
            body = record[HEADER_BYTES:]
            ordinal = inline.find(body, field, 0)
            if ordinal >= 0:
                value = inline.entry_at(body, ordinal, len(field), 0)[0]
        values.append(value)
    if names:
        for place, raw in zip(places, view.multi_get_raw(names), strict=True):
            if raw is not None:
                values[place] = decode_raw(raw)[0]
    return values


def hash_items(view: View, record: bytes, now_ms: int) -> Iterator[tuple[bytes, bytes]]:
    """Yield every field and its value. Raises WrongType."""
    if record[0] & (TYPE_MASK | SEPARATE | FIELD_EXPIRY) == HASH:
        return iter(inline.pairs_of(record[HEADER_BYTES:]))
    entries = hash_entries(view, record)
    return ((field, value) for field, value, expire_ms in entries if not expire_ms or now_ms <= expire_ms)


def hash_entries(view: View, record: bytes) -> Iterator[inline.Entry]:
    """Yield (field, value, expiry) of all that is stored, also of fields that are past their time. Raises WrongType."""
    check_hash(record)
    return _separate_entries(view, record) if record[0] & SEPARATE else iter(_entries(record))


def _separate_entries(view: View, record: bytes) -> Iterator[inline.Entry]:
    prefix = s_prefix(collection_id_of(record))
    stored = view.iterate(prefix + FIELDS, prefix + FIELDS_END)
    if _is_ordered(record):
        stored = iter(sorted(stored, key=lambda pair: order_of(pair[1])))
    for name, raw in stored:
        yield name[NAME_BYTES:], *decode_raw(raw)


def _is_ordered(record: bytes) -> bool:
    """Return whether a separate hash is to come in the order in which its fields were first set."""
    return not record[0] & LARGE and size_of(record) <= SLICED_ELEMENTS


def hash_expiries(view: View, record: bytes) -> dict[bytes, int]:
    """Return the expiry in ms since 1970 of each field that has one, past or to come. Raises WrongType."""
    check_hash(record)
    if not record[0] & FIELD_EXPIRY:
        return {}
    if not record[0] & SEPARATE:
        return {field: expire_ms for field, _, expire_ms in _entries(record) if expire_ms}
    prefix = s_prefix(collection_id_of(record))
    names = view.iterate(prefix + TIMES, prefix + TIMES + b"\xff" * 9)
    return {name[NAME_BYTES + 8 :]: int.from_bytes(name[10:18], "big") for name, _ in names}


def hash_encoding(record: bytes) -> bytes:
    """Return what OBJECT ENCODING says, in Redis's words. Raises WrongType."""
    check_hash(record)
    if record[0] & LARGE:
        return b"hashtable"
    return b"listpackex" if record[0] & FIELD_EXPIRY else b"listpack"


def hash_bytes(record: bytes) -> int:
    """Return about how many bytes the hash takes in the store; of fields with store keys of their own an estimate."""
    check_hash(record)
    return len(record) + (size_of(record) * _FIELD_BYTES if record[0] & SEPARATE else 0)


def put_hash(
    view: View,
    db: int,
    key: bytes,
    items: Iterable[tuple[bytes, bytes]],
    touched_s: int,
    expire_ms: int = 0,
    expiries: Mapping[bytes, int] | None = None,
) -> None:
    """Make the key a hash of these fields, whatever it was; without any, delete it.

    `expire_ms` is the key's expiry, `expiries` those of fields that have one.
    """
    if not expiries and _put_inline(view, db, key, items := list(items), touched_s, expire_ms):
        return
    edit = HashEdit(view, db, key, None, touched_s * 1000)
    if expiries:
        # Maintenance would not find what expires before the time up to which it has looked.
        past_ms = view.registers.fields_expired_until_ms
        for field, value in items:
            field_ms = expiries.get(field, 0)
            if not field_ms or field_ms >= past_ms:
                edit.set(field, value, field_ms)
    else:
        for field, value in items:
            edit.set(field, value)
    edit.expire_ms = expire_ms
    edit.finish()


def _put_inline(
    view: View, db: int, key: bytes, items: list[tuple[bytes, bytes]], touched_s: int, expire_ms: int
) -> bool:
    """Do what `put_hash` does in one step for fields that fit into the record and do not expire; else return False."""
    fields = dict(items)
    count = len(fields)
    parameters = view.registers.parameters
    if not 0 < count == len(items) <= inline.ENTRIES_MAX:
        return False
    values = fields.values()
    size = sum(map(len, fields)) + sum(map(len, values))
    if 1 + 4 * count + size > inline.BYTES_MAX:
        return False
    value_max = parameters.hash_max_listpack_value
    is_large = count > parameters.hash_max_listpack_entries or (
        size > value_max and max(map(len, (*fields, *values))) > value_max
    )
    kind = HASH | (LARGE if is_large else 0) | (VOLATILE if expire_ms else 0)
    view.put(db, key, pack_header(kind, expire_ms, view.next_id(), touched_s) + inline.pack_pairs(items))
    return True


def copy_hash(view: View, record: bytes, db: int, key: bytes, expire_ms: int, touched_s: int) -> None:
    """Make the key a copy of the hash in `record`, with this expiry; fields keep theirs. Raises WrongType."""
    check_hash(record)
    body = record[HEADER_BYTES:]
    if record[0] & SEPARATE:
        collection_id = collection_id_of(record)
        copy_id = view.next_id()
        target = s_prefix(copy_id)
        for name, raw in view.iterate(s_prefix(collection_id), s_prefix_end(collection_id)):
            view.put_raw(target + name[len(target) :], raw)
        body = copy_id.to_bytes(8, "big") + body[8:]
    kind = record[0] | VOLATILE if expire_ms else record[0] & ~VOLATILE
    view.put(db, key, pack_header(kind, expire_ms, view.next_id(), touched_s) + body)


def scan_fields(
    view: View, record: bytes, position: int, fields_max: int, now_ms: int
) -> tuple[int, list[tuple[bytes, bytes]]]:
    """Return the next cursor (0: done) and the (field, value) pairs of one window. Raises WrongType.

    One that Redis would hold as a listpack comes whole, as in Redis. The cursor of another is the crc32 of the first
    field not yet returned; fields that share it come together, so a field that is there during a whole scan is returned
    by it.
    """
    check_hash(record)
    if not record[0] & SEPARATE or (_is_ordered(record) and position == 0):
        return 0, list(hash_items(view, record, now_ms))
    found: list[tuple[bytes, bytes]] = []
    if position >= POSITIONS:
        return 0, found
    left, bytes_left = max(1, min(fields_max, WINDOW_FIELDS_MAX)), WINDOW_BYTES_MAX
    prefix = s_prefix(collection_id_of(record))
    last = b""
    for name, raw in view.iterate(prefix + FIELDS + position.to_bytes(4, "big"), prefix + FIELDS_END):
        crc = name[NAME_BYTES - 4 : NAME_BYTES]
        if (left <= 0 or bytes_left <= 0) and crc != last:
            return int.from_bytes(crc, "big"), found
        left -= 1
        bytes_left -= len(name) + len(raw)
        last = crc
        value, expire_ms = decode_raw(raw)
        if not expire_ms or now_ms <= expire_ms:
            found.append((name[NAME_BYTES:], value))
    return 0, found


def _inline_body(record: bytes) -> tuple[bytes, int]:
    if record[0] & FIELD_EXPIRY:
        return record[HEADER_BYTES:-TIMES_BYTES], LEAD
    return record[HEADER_BYTES:], 0


def _entries(record: bytes) -> list[inline.Entry]:
    return inline.unpack(*_inline_body(record))
