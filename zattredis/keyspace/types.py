"""The data types, side by side: what a command for keys of any type needs of each, so that it has no branches.

A new type is a row here and its own module.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from zattredis.keyspace.metadata import SEPARATE, STRING, TYPE_MASK, size_of
from zattredis.keyspace.rdb_read import Loaded
from zattredis.keyspace.strings import copy_string, put_string, string_encoding, string_length, string_value
from zattredis.keyspace.view import View


def _no_expiries(_view: View, _record: bytes) -> Mapping[bytes, int]:
    return {}


class TypeFunctions(NamedTuple):
    """What one type can do; each takes a record of that type."""

    length: Callable[[View, bytes, int], int]
    """(view, record, now_ms) → members, of a string bytes."""
    encoding: Callable[[bytes], bytes]
    """record → Redis's name of the encoding it would have."""
    size: Callable[[bytes], int]
    """record → about how many bytes its content takes in the store, found without reading it."""
    copy: Callable[[View, bytes, int, bytes, int, int], None]
    """(view, record, db, key, expire_ms, touched_s): make the key a copy."""
    items: Callable[[View, bytes, int], Iterator[Any]]
    """(view, record, now_ms) → elements, members, (field, value) or (member, score) pairs; of a string itself."""
    put: Callable[[View, int, bytes, Loaded, int, int], None]
    """(view, db, key, value, touched_s, expire_ms): make the key this value, whatever it was."""
    expiries: Callable[[View, bytes], Mapping[bytes, int]] = _no_expiries
    """(view, record) → field → its expiry in ms, where fields have one."""


def _string_size(record: bytes) -> int:
    return size_of(record) if record[0] & SEPARATE else 0


def _put_string(view: View, db: int, key: bytes, loaded: Loaded, touched_s: int, expire_ms: int) -> None:
    put_string(view, db, key, loaded.value, touched_s, expire_ms)


TYPES: dict[int, TypeFunctions] = {
    STRING: TypeFunctions(
        length=lambda view, record, now_ms: string_length(record),
        encoding=string_encoding,
        size=_string_size,
        copy=copy_string,
        items=lambda view, record, now_ms: iter((string_value(view, record),)),
        put=_put_string,
    )
}
"""Type of a record → its functions."""


def functions_of(record: bytes) -> TypeFunctions:
    """Return the functions of a record's type."""
    return TYPES[record[0] & TYPE_MASK]
