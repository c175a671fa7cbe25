"""The record behind a k-key: what is known of one Redis key.

```
kind(1) | expire_ms(8) | version(8) | touched_s(4) | body
```

`kind` is the type (low four bits) and flags. `expire_ms` is 0 for a key that never expires (flag VOLATILE is set
exactly when it is not 0). `version` is the value of the state machine's counter at the last change: unique, so WATCH
compares it. `touched_s` is the stamp of the last change in seconds, behind OBJECT IDLETIME: reads leave no trace in
the state, so they do not count. The body of a small string is the string; with flag SEPARATE it is
(collection id(8), size(8), …) and the content lies under the id. The record of a hash with flag FIELD_EXPIRY ends with
two times: no field expires before `next_ms(8)`, and none lives after `last_ms(8)` (NEVER if one has no expiry).
"""

from __future__ import annotations

import struct
from typing import Final

STRING: Final = 0
LIST: Final = 1
SET: Final = 2
ZSET: Final = 3
HASH: Final = 4
STREAM: Final = 6
TYPE_MASK: Final = 0x0F
TYPE_NAMES: Final = {STRING: "string", LIST: "list", SET: "set", ZSET: "zset", HASH: "hash", STREAM: "stream"}

VOLATILE: Final = 0x10
"""The key has a time to live."""
SEPARATE: Final = 0x20
"""The content lies under a collection id."""
RAW: Final = 0x40
"""A string that Redis would hold as `raw` whatever its length (APPEND, SETRANGE)."""
NOT_INT: Final = 0x80
"""A string that Redis would not hold as `int` although it reads like one (INCRBYFLOAT)."""
ENCODING_HINTS: Final = RAW | NOT_INT
LARGE: Final = 0x40
"""A collection that Redis would hold in its encoding for large ones (hashtable, skiplist), whatever its size is now."""
FIELD_EXPIRY: Final = 0x80
"""A hash some of whose fields have a time to live; see `hashes`."""
MAY_EXPIRE: Final = VOLATILE | FIELD_EXPIRY
"""Without these flags a record is there at any time; with one of them `is_expired` knows."""
NEVER: Final = 0xFFFFFFFFFFFFFFFF
"""A time that does not come."""

_EXPIRING_FIELDS: Final = HASH | FIELD_EXPIRY
_EXPIRING_FIELDS_MASK: Final = TYPE_MASK | FIELD_EXPIRY

_HEADER: Final = struct.Struct(">BQQI")
pack_header: Final = _HEADER.pack
"""(kind, expire_ms, version, touched_s) → the bytes before the body."""
HEADER_BYTES: Final = _HEADER.size
_SEPARATE_BODY: Final = struct.Struct(">QQ")
_ID_END: Final = HEADER_BYTES + 8
_SIZE_END: Final = HEADER_BYTES + 16


def expire_of(record: bytes) -> int:
    """Return the expiry in ms since 1970, 0 for none."""
    return int.from_bytes(record[1:9], "big")


def version_of(record: bytes) -> int:
    """Return the version of the record's last change."""
    return int.from_bytes(record[9:17], "big")


def touched_of(record: bytes) -> int:
    """Return the second of the record's last change."""
    return int.from_bytes(record[17:21], "big")


def is_expired(record: bytes, now_ms: int) -> bool:
    """Return whether the key is past its time at `now_ms`; at the very millisecond it still lives, as in Redis.

    So is a hash all of whose fields are past theirs.
    """
    kind = record[0]
    if kind & VOLATILE and now_ms > int.from_bytes(record[1:9], "big"):
        return True
    return kind & _EXPIRING_FIELDS_MASK == _EXPIRING_FIELDS and now_ms > int.from_bytes(record[-8:], "big")


def next_field_expiry(record: bytes | None) -> int:
    """Return the time in ms before which no field of the key expires, 0 if none ever does."""
    if record is None or record[0] & _EXPIRING_FIELDS_MASK != _EXPIRING_FIELDS:
        return 0
    return int.from_bytes(record[-16:-8], "big")


def with_expire(record: bytes, expire_ms: int, version: int, touched_s: int) -> bytes:
    """Return the record with another expiry (0: none) and version."""
    kind = record[0] | VOLATILE if expire_ms else record[0] & ~VOLATILE
    return pack_header(kind, expire_ms, version, touched_s) + record[HEADER_BYTES:]


def with_version(record: bytes, version: int, touched_s: int) -> bytes:
    """Return the record with another version."""
    return record[:9] + version.to_bytes(8, "big") + touched_s.to_bytes(4, "big") + record[HEADER_BYTES:]


def separate_body(collection_id: int, size: int) -> bytes:
    """Return the body of a record whose content lies under `collection_id`."""
    return _SEPARATE_BODY.pack(collection_id, size)


def collection_id_of(record: bytes) -> int:
    """Return the collection id of a SEPARATE record, 0 of any other."""
    return int.from_bytes(record[HEADER_BYTES:_ID_END], "big") if record[0] & SEPARATE else 0


def size_of(record: bytes) -> int:
    """Return the size field of a SEPARATE record: bytes of a string, members of a collection."""
    return int.from_bytes(record[_ID_END:_SIZE_END], "big")
