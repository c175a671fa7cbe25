"""The data types, side by side: what a command for keys of any type needs of each, so that it has no branches.

A new type is a row here and its own module.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, NamedTuple

from zattredis.keyspace.hashes import (
    copy_hash,
    hash_bytes,
    hash_encoding,
    hash_expiries,
    hash_items,
    hash_length,
    put_hash,
)
from zattredis.keyspace.lists import copy_list, list_bytes, list_elements, list_encoding, list_length, put_list
from zattredis.keyspace.metadata import HASH, LIST, SEPARATE, SET, STRING, TYPE_MASK, ZSET, size_of
from zattredis.keyspace.rdb_read import Loaded
from zattredis.keyspace.sets import copy_set, put_set, set_bytes, set_encoding, set_length, set_members
from zattredis.keyspace.strings import copy_string, put_string, string_encoding, string_length, string_value
from zattredis.keyspace.view import View
from zattredis.keyspace.zsets import copy_zset, put_zset, zset_bytes, zset_encoding, zset_items, zset_length


class TypeFunctions(NamedTuple):
    """What one type can do; each function takes a record of that type."""

    length: Callable[[View, bytes, int], int]
    """(view, record, now_ms) → members, of a string bytes."""
    encoding: Callable[[bytes], bytes]
    """record → Redis's name of the encoding it would have."""
    size: Callable[[bytes], int]
    """record → about how many bytes record and content take in the store, found without reading the content."""
    copy: Callable[[View, bytes, int, bytes, int, int], None]
    """(view, record, db, key, expire_ms, touched_s): make the key a copy."""
    items: Callable[[View, bytes, int], Iterator[Any]]
    """(view, record, now_ms) → elements, members, (field, value) or (member, score) pairs; of a string itself."""
    put: Callable[[View, int, bytes, Loaded, int, int], object]
    """(view, db, key, value, touched_s, expire_ms): make the key this value, whatever it was."""
    expiries: Callable[[View, bytes], Mapping[bytes, int]] = lambda view, record: {}
    """(view, record) → field → its expiry in ms, where fields have one."""


TYPES: Final[Mapping[int, TypeFunctions]] = {
    STRING: TypeFunctions(
        length=lambda view, record, now_ms: string_length(record),
        encoding=string_encoding,
        size=lambda record: len(record) + (size_of(record) if record[0] & SEPARATE else 0),
        copy=copy_string,
        items=lambda view, record, now_ms: iter((string_value(view, record),)),
        put=lambda view, db, key, loaded, touched_s, expire_ms: put_string(
            view, db, key, loaded.value, touched_s, expire_ms
        ),
    ),
    LIST: TypeFunctions(
        length=lambda view, record, now_ms: list_length(record),
        encoding=list_encoding,
        size=list_bytes,
        copy=copy_list,
        items=lambda view, record, now_ms: list_elements(view, record),
        put=lambda view, db, key, loaded, touched_s, expire_ms: put_list(
            view, db, key, loaded.value, touched_s, expire_ms
        ),
    ),
    SET: TypeFunctions(
        length=lambda view, record, now_ms: set_length(record),
        encoding=set_encoding,
        size=set_bytes,
        copy=copy_set,
        items=lambda view, record, now_ms: set_members(view, record),
        put=lambda view, db, key, loaded, touched_s, expire_ms: put_set(
            view, db, key, loaded.value, touched_s, expire_ms
        ),
    ),
    HASH: TypeFunctions(
        length=hash_length,
        encoding=hash_encoding,
        size=hash_bytes,
        copy=copy_hash,
        items=hash_items,
        put=lambda view, db, key, loaded, touched_s, expire_ms: put_hash(
            view, db, key, loaded.value, touched_s, expire_ms, loaded.expiries
        ),
        expiries=hash_expiries,
    ),
    ZSET: TypeFunctions(
        length=lambda view, record, now_ms: zset_length(record),
        encoding=zset_encoding,
        size=zset_bytes,
        copy=copy_zset,
        items=lambda view, record, now_ms: zset_items(view, record),
        put=lambda view, db, key, loaded, touched_s, expire_ms: put_zset(
            view, db, key, loaded.value, touched_s, expire_ms
        ),
    ),
}
"""Type of a record → its functions."""


def functions_of(record: bytes) -> TypeFunctions:
    """Return the functions of a record's type."""
    return TYPES[record[0] & TYPE_MASK]
