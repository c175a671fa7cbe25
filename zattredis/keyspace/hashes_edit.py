"""Writing to a hash: `HashEdit` reads its record once, changes fields one by one, and writes the record once.

The content of a separate hash, under its collection id:

```
m | crc32(field)(4) | field                  -> marks(1) | expire_ms(8) | order(8) | value
t | expire_ms(8) | crc32(field)(4) | field   -> empty; fields in order of their expiry
```

`expire_ms` is there with mark 1. `order`, with mark 2, is given to each new field as long as Redis would hold the hash
as a listpack, so that replies have its order.

The record's body is (collection id, size), with FIELD_EXPIRY also (expiring, latest_ms, next_ms, last_ms): how many
fields expire, a time that is not before any of their expiries (the latest of them, if all expire), and the two times of
`metadata`. All of them count fields that are past their time until these are removed. `next_ms` may be early: it stays
when the field it came from goes, until maintenance looks.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from itertools import islice
from typing import Final
from zlib import crc32

from zattredis.errors import WrongType
from zattredis.keyspace import hashes_inline as inline
from zattredis.keyspace.keys import s_prefix
from zattredis.keyspace.metadata import (
    FIELD_EXPIRY,
    HASH,
    HEADER_BYTES,
    LARGE,
    NEVER,
    SEPARATE,
    TYPE_MASK,
    VOLATILE,
    expire_of,
    pack_header,
    touched_of,
    version_of,
)
from zattredis.keyspace.view import View

FIELDS: Final = b"m"
FIELDS_END: Final = b"n"
TIMES: Final = b"t"
NAME_BYTES: Final = 14
"""Bytes of a field's store key before the field."""
TIME_BYTES: Final = 18
"""Bytes of a store key in order of expiry before crc and field."""
LEAD: Final = 8
TIMES_BYTES: Final = 16
"""Bytes that end a record with FIELD_EXPIRY."""

SEPARATE_BODY: Final = struct.Struct(">QQ")
EXPIRING_BODY: Final = struct.Struct(">QQQQQQ")
_TIMES: Final = struct.Struct(">QQ")
EXPIRES: Final = 1
ORDERED: Final = 2
_EMPTY: Final = b"\0"
_UNKNOWN: Final = b"?"


def field_name(prefix: bytes, field: bytes) -> bytes:
    """Return the store key of a field; `prefix` is the collection's with FIELDS."""
    return prefix + crc32(field).to_bytes(4, "big") + field


def decode_raw(raw: bytes) -> tuple[bytes, int]:
    """Return value and expiry (0: none) of what is stored for a field."""
    marks = raw[0]
    if not marks:
        return raw[1:], 0
    expire_ms = int.from_bytes(raw[1:9], "big") if marks & EXPIRES else 0
    return raw[17 if marks == EXPIRES | ORDERED else 9 :], expire_ms


def order_of(raw: bytes) -> bytes:
    """Return what a field of a hash that Redis would hold as a listpack is sorted by."""
    return raw[9:17] if raw[0] & EXPIRES else raw[1:9]


class HashEdit:
    """A hash while a command changes it. The record is not written before `finish`, to be called if anything changed.

    `expire_ms` is the key's. `size` counts all fields that are stored, those past their time too; `find`, `set` and
    `remove` treat these as absent.
    Raises WrongType for a record of another type.
    """

    __slots__ = (
        "_body", "_collection_id", "_db", "_entries_max", "_expiring", "_key", "_known", "_large", "_latest_is_bound",
        "_latest_ms", "_lead", "_next_ms", "_now_ms", "_plain_id", "_prefix", "_value_max", "_view",
        "expire_ms", "size", "version",
    )  # fmt: skip

    def __init__(self, view: View, db: int, key: bytes, record: bytes | None, now_ms: int) -> None:
        self._view = view
        self._db = db
        self._key = key
        self._now_ms = now_ms
        parameters = view.registers.parameters
        self._entries_max = parameters.hash_max_listpack_entries
        self._value_max = parameters.hash_max_listpack_value
        self._large = 0
        self.expire_ms = 0
        self._collection_id = 0
        self._prefix = b""
        self._known: dict[bytes, bytes | None] = {}
        self._body = _EMPTY
        self._lead = 0
        self.size = 0
        self._expiring = 0
        self._latest_ms = 0
        self._latest_is_bound = False
        """Whether no field may expire at `_latest_ms` any more; never so of a record whose fields all expire."""
        self._next_ms = NEVER
        self._plain_id = -1
        """The record's collection id if it is one without expiry of fields, else -1."""
        self.version = 0
        if record is not None:
            self._open(record)

    def _open(self, record: bytes) -> None:
        kind = record[0]
        if kind & TYPE_MASK != HASH:
            raise WrongType
        self._large = kind & LARGE
        if kind & VOLATILE:
            self.expire_ms = expire_of(record)
        if kind & SEPARATE:
            if kind & FIELD_EXPIRY:
                numbers = EXPIRING_BODY.unpack_from(record, HEADER_BYTES)
                self._collection_id, self.size, self._expiring, self._latest_ms, self._next_ms, last_ms = numbers
                self._latest_is_bound = last_ms == NEVER
            else:
                self._collection_id, self.size = SEPARATE_BODY.unpack_from(record, HEADER_BYTES)
                self._plain_id = self._collection_id
            self._prefix = s_prefix(self._collection_id) + FIELDS
            return
        if kind & FIELD_EXPIRY:
            self._lead = LEAD
            self._body = record[HEADER_BYTES:-TIMES_BYTES]
        else:
            self._body = record[HEADER_BYTES:]
            self._plain_id = 0
        self.size = self._body[0]

    def prefetch(self, fields: Iterable[bytes]) -> None:
        """Fetch what is stored of these fields with one read."""
        if self._collection_id:
            known, prefix = self._known, self._prefix
            wanted = [field for field in dict.fromkeys(fields) if field not in known]
            names = [field_name(prefix, field) for field in wanted]
            known.update(zip(wanted, self._view.multi_get_raw(names), strict=True))

    def find(self, field: bytes) -> tuple[bytes | None, int]:
        """Return value and expiry (0: none) of a field, (None, 0) when it is absent."""
        if self._collection_id:
            raw = self._raw(field)
            if raw is None:
                return None, 0
            value, expire_ms = decode_raw(raw)
        else:
            ordinal = inline.find(self._body, field, self._lead)
            if ordinal < 0:
                return None, 0
            value, expire_ms = inline.entry_at(self._body, ordinal, len(field), self._lead)
        return (None, 0) if expire_ms and self._now_ms > expire_ms else (value, expire_ms)

    def set(self, field: bytes, value: bytes, expire_ms: int = 0) -> bool:
        """Give a field this value and expiry (0: none); return whether it is new."""
        if len(field) > self._value_max or len(value) > self._value_max:
            self._large = LARGE
        if not self._collection_id:
            new = self._set_inline(field, value, expire_ms)
            if new is not None:
                return new
            self._separate()
        old = self._raw(field)
        if old is None:
            self.size += 1
            new = True
        elif old[0] & EXPIRES:
            before_ms = int.from_bytes(old[1:9], "big")
            new = self._now_ms > before_ms
            self._uncount_expiry(field, before_ms)
        else:
            new = False
        if self.size > self._entries_max:
            self._large = LARGE
        self._store(field, value, expire_ms, None if new else old)
        return new

    def remove(self, field: bytes) -> bytes | None:
        """Remove a field; return its value, None when it was absent (or past its time, and goes all the same)."""
        if not self._collection_id:
            ordinal = inline.find(self._body, field, self._lead)
            if ordinal < 0:
                return None
            value, expire_ms = inline.entry_at(self._body, ordinal, len(field), self._lead)
            self._body = inline.remove(self._body, ordinal)
            self.size -= 1
        else:
            raw = self._raw(field)
            if raw is None:
                return None
            value, expire_ms = decode_raw(raw)
            self._drop(field, expire_ms)
        return None if expire_ms and self._now_ms > expire_ms else value

    def remove_expired(self, limit: int) -> tuple[int, bool]:
        """Remove fields past their time, about `limit` at most; return how many, and whether none is left."""
        now_ms = self._now_ms
        if not self._collection_id:
            entries = inline.unpack(self._body, self._lead)
            living = [entry for entry in entries if not entry[2] or now_ms <= entry[2]]
            self._body = inline.pack(living, self._lead)
            self.size = len(living)
            return len(entries) - len(living), True
        view, prefix = self._view, self._prefix[:-1] + TIMES
        lower, upper = prefix + self._next_ms.to_bytes(8, "big"), prefix + now_ms.to_bytes(8, "big")
        due = [name for name, _ in islice(view.iterate(lower, upper), limit)]
        for name in due:
            view.put_raw(name, None)
            view.put_raw(self._prefix + name[TIME_BYTES:], None)
        self.size -= len(due)
        self._expiring -= len(due)
        self._known.clear()
        finished = len(due) < limit
        if not finished:
            self._next_ms = int.from_bytes(due[-1][10:TIME_BYTES], "big")
        elif self._expiring:
            for name, _ in islice(view.iterate(upper, prefix + b"\xff" * 9), 1):
                self._next_ms = int.from_bytes(name[10:TIME_BYTES], "big")
        return len(due), finished

    def finish(self, touched_s: int | None = None) -> None:
        """Write the record, with `version`, a fresh one if that is 0; a hash without fields goes.

        `touched_s` is the second of now unless told.
        """
        view, size = self._view, self.size
        if not size:
            view.put(self._db, self._key, None)
            return
        expire_ms = self.expire_ms
        kind = HASH | self._large | (VOLATILE if expire_ms else 0)
        if not self._collection_id:
            body = self._inline_body()
            if self._lead:
                kind |= FIELD_EXPIRY
        elif self._expiring:
            kind |= SEPARATE | FIELD_EXPIRY
            if self._expiring == size and self._latest_is_bound:  # else EXISTS would outlive the last field
                self._latest_ms = self._find_latest()
            latest_ms, last_ms = self._latest_ms, self._latest_ms if self._expiring == size else NEVER
            body = EXPIRING_BODY.pack(self._collection_id, size, self._expiring, latest_ms, self._next_ms, last_ms)
        else:
            kind |= SEPARATE
            body = SEPARATE_BODY.pack(self._collection_id, size)
        touched_s = self._now_ms // 1000 if touched_s is None else touched_s
        record = pack_header(kind, expire_ms, self.version or view.next_id(), touched_s) + body
        if self._plain_id == self._collection_id and not kind & FIELD_EXPIRY:
            view.rewrite(self._db, self._key, record)
        else:
            view.put(self._db, self._key, record)

    # -- inline ------------------------------------------------------------------------------------------------------

    def _set_inline(self, field: bytes, value: bytes, expire_ms: int) -> bool | None:
        """Do what `set` does, or return None, with nothing done, where the hash grows too large for its record."""
        body, lead = self._body, self._lead
        if len(field) + len(value) > inline.BYTES_MAX:
            return None
        if expire_ms and not lead:
            lead = LEAD
            body = inline.pack(inline.unpack(body, 0), lead)
        ordinal = inline.find(body, field, lead)
        if ordinal < 0 and body[0] == inline.ENTRIES_MAX:
            return None
        changed = inline.put(body, ordinal, (field, value, expire_ms), lead)
        if len(changed) > inline.BYTES_MAX:
            return None
        self._body, self._lead, self.size = changed, lead, changed[0]
        if changed[0] > self._entries_max:
            self._large = LARGE
        if ordinal >= 0:
            before_ms = inline.entry_at(body, ordinal, len(field), lead)[1] if lead else 0
            return before_ms > 0 and self._now_ms > before_ms
        return True

    def _inline_body(self) -> bytes:
        """Return the body, the two times included; without any expiry it is as if there had never been one."""
        if not self._lead:
            return self._body
        entries = inline.unpack(self._body, LEAD)
        times = [expire_ms for _, _, expire_ms in entries if expire_ms]
        if not times:
            self._lead = 0
            return inline.pack(entries, 0)
        return self._body + _TIMES.pack(min(times), max(times) if len(times) == len(entries) else NEVER)

    def _separate(self) -> None:
        """Give the fields store keys of their own, for good."""
        entries = inline.unpack(self._body, self._lead)
        self._collection_id = self._view.next_id()
        self._prefix = s_prefix(self._collection_id) + FIELDS
        self._body, self._lead = b"", 0
        for entry in entries:
            self._store(*entry, None)

    # -- separate ----------------------------------------------------------------------------------------------------

    def _raw(self, field: bytes) -> bytes | None:
        raw = self._known.get(field, _UNKNOWN)
        if raw is _UNKNOWN:
            raw = self._known[field] = self._view.get_raw(field_name(self._prefix, field))
        return raw

    def _store(self, field: bytes, value: bytes, expire_ms: int, old: bytes | None) -> None:
        """Write a field whose former expiry, if it had one, is no longer counted; it takes the place of `old`."""
        view = self._view
        if not self._large:
            order = view.next_id().to_bytes(8, "big") if old is None else order_of(old)
            value = order + value
        if expire_ms:
            raw = (b"\1" if self._large else b"\3") + expire_ms.to_bytes(8, "big") + value
            view.put_raw(self._time_name(field, expire_ms), b"")
            self._expiring += 1
            self._latest_ms = max(self._latest_ms, expire_ms)
            self._next_ms = min(self._next_ms, expire_ms)
        else:
            raw = (b"\0" if self._large else b"\2") + value
        self._known[field] = raw
        view.put_raw(field_name(self._prefix, field), raw)

    def _drop(self, field: bytes, expire_ms: int) -> None:
        view = self._view
        self._known[field] = None
        view.put_raw(field_name(self._prefix, field), None)
        self.size -= 1
        if expire_ms:
            self._uncount_expiry(field, expire_ms)

    def _uncount_expiry(self, field: bytes, expire_ms: int) -> None:
        self._view.put_raw(self._time_name(field, expire_ms), None)
        self._expiring -= 1
        if expire_ms == self._latest_ms:
            self._latest_is_bound = True

    def _find_latest(self) -> int:
        """Return the latest expiry of all fields, of which there is one."""
        prefix = self._prefix[:-1] + TIMES
        name, _ = next(self._view.iterate(prefix, prefix + b"\xff" * 9, reverse=True))
        return int.from_bytes(name[10:TIME_BYTES], "big")

    def _time_name(self, field: bytes, expire_ms: int) -> bytes:
        return field_name(self._prefix[:-1] + TIMES + expire_ms.to_bytes(8, "big"), field)


def remove_expired_fields(view: View, db: int, key: bytes, record: bytes, now_ms: int, limit: int) -> tuple[int, bool]:
    """Remove up to `limit` fields (a few more of a small hash) that are past their time; the hash goes with the last.

    Returns how many were removed, and whether none is left. For maintenance.
    """
    edit = HashEdit(view, db, key, record, now_ms)
    removed, finished = edit.remove_expired(limit)
    if not removed:
        edit.version = version_of(record)  # only the time to look again has changed: WATCH must not see that
    edit.finish(touched_of(record))
    return removed, finished
