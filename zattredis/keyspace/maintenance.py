"""Removal of what no command can see any more: expired keys, expired fields of hashes, content of deleted keys,
namespaces that were flushed.

The leader proposes MAINTENANCE entries while there is something to do; every node carries one out on its own state and
comes to the same result, since the entry holds nothing but a bound on the work.
"""

from __future__ import annotations

import struct
from itertools import islice
from typing import Final, NamedTuple

from zattredis.errors import StateDamaged
from zattredis.keyspace.hashes_edit import remove_expired_fields
from zattredis.keyspace.keys import (
    META_COUNTS,
    META_DEAD,
    k_prefix,
    k_prefix_end,
    namespace_of,
    removed_range,
    s_prefix,
    s_prefix_end,
    split_x_key,
    user_key,
    x_key,
    y_key,
)
from zattredis.keyspace.metadata import SEPARATE, VOLATILE, expire_of, next_field_expiry
from zattredis.keyspace.quicklist import reclaim_node
from zattredis.keyspace.reader import Reader
from zattredis.keyspace.registers import Registers
from zattredis.keyspace.strings import chunk_key, chunks_of
from zattredis.keyspace.view import DEAD_COLLECTION, DEAD_NAMESPACE, DEAD_NODE, DEAD_STRING, View

_REQUEST: Final = struct.Struct(">I")
_STRING: Final = struct.Struct(">cQQ")
STEPS_MAX: Final = 10_000
"""Most deletions one entry may ask for; more would hold up other commands."""


def encode_request(steps: int) -> bytes:
    """Return the payload of a MAINTENANCE entry that removes up to `steps` records, 1..STEPS_MAX."""
    return _REQUEST.pack(steps)


def has_volatile(registers: Registers) -> bool:
    """Return whether any key, or field of a hash, has an expiry."""
    return any(counts.expires or counts.expiring_hashes for counts in registers.databases)


def has_dead(registers: Registers) -> bool:
    """Return whether content waits to be reclaimed."""
    return registers.dead_count > 0


def next_expiry(reader: Reader, registers: Registers) -> int | None:
    """Return the earliest expiry in ms since 1970, None when no key has one. A key is gone one ms later."""
    lower = x_key(registers.expired_until_ms, b"")
    for x, _ in reader.iterate(lower, b"y"):
        return split_x_key(x)[0]
    return None


def find_expired(reader: Reader, registers: Registers, now_ms: int, limit: int) -> int:
    """Return how many keys, or hashes with fields, are past an expiry at `now_ms`, counting no further than `limit`."""
    due = reader.iterate(x_key(registers.expired_until_ms, b""), x_key(now_ms, b""))
    found = sum(1 for _ in islice(due, limit))
    if found < limit and any(counts.expiring_hashes for counts in registers.databases):
        hashes = reader.iterate(y_key(registers.fields_expired_until_ms, b""), y_key(now_ms, b""))
        found += sum(1 for _ in islice(hashes, limit - found))
    return found


def keyspace_statistics(registers: Registers, now_ms: int) -> list[tuple[int, int, int, int]]:
    """Return (database, keys, keys with an expiry, their mean time to live in ms) of each database that has keys."""
    found = []
    for db, counts in enumerate(registers.databases):
        if counts.keys:
            mean_ms = counts.expire_sum_ms // counts.expires - now_ms if counts.expires else 0
            found.append((db, counts.keys, counts.expires, max(mean_ms, 0)))
    return found


class Maintained(NamedTuple):
    """What a MAINTENANCE entry came to: whether more was left to do, and how many expired keys it removed."""

    more: bool
    expired: int


def apply_maintenance(view: View, now_ms: int, payload: bytes) -> Maintained:
    """Carry out a MAINTENANCE entry.

    Deterministic: depends on the state, the entry's stamp `now_ms` and its payload alone. A payload of another form,
    which only a bug could write, does nothing.
    """
    if len(payload) != _REQUEST.size:
        return Maintained(more=False, expired=0)
    steps = min(int.from_bytes(payload, "big"), STEPS_MAX)
    taken, expired = _remove_expired(view, now_ms, steps)
    steps -= taken
    steps -= _remove_expired_fields(view, now_ms, steps)
    while steps > 0 and view.registers.dead_count:
        steps -= _reclaim_first(view, steps)
    return Maintained(steps <= 0, expired)


def _remove_expired(view: View, now_ms: int, limit: int) -> tuple[int, int]:
    """Return the steps taken and the keys removed; an index entry of a flushed namespace is a step alone."""
    registers = view.registers
    if registers.expired_until_ms >= now_ms or not limit:
        return 0, 0
    removed = 0
    due = list(islice(view.iterate(x_key(registers.expired_until_ms, b""), x_key(now_ms, b"")), limit))
    databases = {counts.namespace: db for db, counts in enumerate(registers.databases)}
    split = [(x, *split_x_key(x)) for x, _ in due]
    view.prefetch([(databases[namespace_of(k)], user_key(k)) for _, _, k in split if namespace_of(k) in databases])
    for x, expire_ms, k in split:
        db = databases.get(namespace_of(k))
        if db is None:
            view.put_raw(x, None)
            continue
        record = view.record(db, user_key(k), 0)
        if record is None or expire_of(record) != expire_ms:
            raise StateDamaged(f"the expiry index names a key that does not expire then: {k!r}")
        view.put(db, user_key(k), None)
        removed += 1
    view.set_expired_until(now_ms if len(due) < limit else split[-1][1])
    return len(due), removed


def _remove_expired_fields(view: View, now_ms: int, limit: int) -> int:
    """Return the steps taken: one for a hash and one for each of its fields removed."""
    registers = view.registers
    lower = registers.fields_expired_until_ms
    if limit <= 0 or lower >= now_ms or not any(counts.expiring_hashes for counts in registers.databases):
        return 0
    due = [split_x_key(y) for y, _ in islice(view.iterate(y_key(lower, b""), y_key(now_ms, b"")), limit)]
    databases = {counts.namespace: db for db, counts in enumerate(registers.databases)}
    view.prefetch([(databases[namespace_of(k)], user_key(k)) for _, k in due if namespace_of(k) in databases])
    steps = 0
    until_ms = now_ms if len(due) < limit else due[-1][0]
    for next_ms, k in due:
        if steps >= limit:
            until_ms = next_ms
            break
        steps += 1
        db = databases.get(namespace_of(k))
        if db is None:
            view.put_raw(y_key(next_ms, k), None)
            continue
        key = user_key(k)
        record = view.record(db, key, 0)
        if record is None or next_field_expiry(record) != next_ms:
            raise StateDamaged(f"the index of field expiries names a hash that has none then: {k!r}")
        removed, finished = remove_expired_fields(view, db, key, record, now_ms, max(limit - steps, 1))
        steps += removed
        if not finished:
            until_ms = next_ms
            break
    view.set_fields_expired_until(until_ms)
    return steps


def _reclaim_first(view: View, limit: int) -> int:
    """Take up to `limit` steps at the oldest death; return how many (at least 1)."""
    for name, what in view.iterate(META_DEAD + view.registers.dead_front.to_bytes(8, "big"), META_DEAD + b"\xff" * 9):
        kind = what[:1]
        if kind == DEAD_STRING:
            steps, rest = _reclaim_string(view, what, limit)
        elif kind == DEAD_COLLECTION:
            steps, rest = _reclaim_collection(view, what, limit)
        elif kind == DEAD_NODE:
            steps, rest = reclaim_node(view, what), None
        elif kind == DEAD_NAMESPACE:
            steps, rest = _reclaim_namespace(view, what, limit)
        else:
            raise StateDamaged(f"the reclaim queue holds an entry of an unknown kind: {what!r}")
        if rest is None:
            view.unbury(name)
        else:
            view.put_raw(name, rest)
        return max(steps, 1)
    raise StateDamaged("the reclaim queue is shorter than its count")


def _reclaim_string(view: View, what: bytes, limit: int) -> tuple[int, bytes | None]:
    kind, collection_id, size = _STRING.unpack_from(what)
    done = int.from_bytes(what[_STRING.size :], "big")
    chunks = chunks_of(size)
    stop = min(done + limit, chunks)
    for number in range(done, stop):
        view.put_raw(chunk_key(collection_id, number), None)
    return stop - done, None if stop == chunks else _STRING.pack(kind, collection_id, size) + stop.to_bytes(4, "big")


def _reclaim_collection(view: View, what: bytes, limit: int) -> tuple[int, bytes | None]:
    collection_id = int.from_bytes(what[1:9], "big")
    prefix = s_prefix(collection_id)
    steps = 0
    for name, _ in view.iterate(prefix + what[9:], s_prefix_end(collection_id)):
        if steps == limit:
            return steps, what[:9] + name[len(prefix) :]
        view.put_raw(name, None)
        steps += 1
    return steps, None


def _reclaim_namespace(view: View, what: bytes, limit: int) -> tuple[int, bytes | None]:
    namespace = int.from_bytes(what[1:5], "big")
    prefix = k_prefix(namespace)
    steps = 0
    for k, record in view.iterate(prefix + what[5:], k_prefix_end(namespace)):
        if steps >= limit:
            return steps, what[:5] + k[len(prefix) :]
        view.put_raw(k, None)
        if record[0] & VOLATILE:
            view.put_raw(x_key(expire_of(record), k), None)
        if next_ms := next_field_expiry(record):
            view.put_raw(y_key(next_ms, k), None)
        if record[0] & SEPARATE:
            steps += view.bury_content(record)
        steps += 1
    for name, _ in view.iterate(*removed_range(namespace)):
        view.put_raw(name, None)
    view.put_raw(META_COUNTS + namespace.to_bytes(4, "big"), None)
    return steps, None
