"""What must hold of every state database, recomputed from its bytes."""

from __future__ import annotations

from tests.support.memory_store import MemoryStore
from zattredis.keyspace.keys import (
    META_DEAD,
    hash_slot,
    k_key,
    k_prefix,
    namespace_of,
    position_of,
    split_x_key,
    user_key,
)
from zattredis.keyspace.metadata import (
    SEPARATE,
    VOLATILE,
    collection_id_of,
    expire_of,
    next_field_expiry,
    version_of,
)
from zattredis.keyspace.registers import Registers
from zattredis.keyspace.view import DEAD_NODE


def check_store(store: MemoryStore, registers: Registers) -> None:
    """Assert that counts, expiry index, reclaim queue and registers agree with the records."""
    assert dump(Registers.load(store)) == dump(registers)
    records = {key: value for key, value in store.data.items() if key[:1] == b"k"}
    dead_namespaces, dead_ids = set(), set()
    dead = [(key, value) for key, value in sorted(store.data.items()) if key.startswith(META_DEAD)]
    assert len(dead) == registers.dead_count
    for key, what in dead:
        assert int.from_bytes(key[len(META_DEAD) :], "big") >= registers.dead_front
        if what[:1] == b"n":
            dead_namespaces.add(int.from_bytes(what[1:5], "big"))
        elif what[:1] != DEAD_NODE:  # a part of a list that may live on
            dead_ids.add(int.from_bytes(what[1:9], "big"))
    live = {counts.namespace: counts for counts in registers.databases}
    assert not dead_namespaces & set(live)
    seen_ids: set[int] = set()
    for key, record in records.items():
        assert namespace_of(key) in live or namespace_of(key) in dead_namespaces
        assert key == k_key(k_prefix(namespace_of(key)), user_key(key))
        assert position_of(key) >> 32 == hash_slot(user_key(key))
        assert bool(record[0] & VOLATILE) == bool(expire_of(record))
        assert 0 < version_of(record) <= registers.counter
        if record[0] & SEPARATE:
            assert collection_id_of(record) not in seen_ids | dead_ids
            seen_ids.add(collection_id_of(record))
    versions = [version_of(record) for record in records.values()]
    assert len(set(versions)) == len(versions)
    for namespace, counts in live.items():
        own = [record for key, record in records.items() if namespace_of(key) == namespace]
        volatile = [expire_of(record) for record in own if record[0] & VOLATILE]
        assert (counts.keys, counts.expires, counts.expire_sum_ms) == (len(own), len(volatile), sum(volatile))
        assert counts.expiring_hashes == sum(next_field_expiry(record) > 0 for record in own)
    index = {split_x_key(key) for key in store.data if key[:1] == b"x"}
    assert all(expire_ms >= registers.expired_until_ms for expire_ms, _ in index)
    wanted = {(expire_of(record), key) for key, record in records.items() if record[0] & VOLATILE}
    live_index = {(expire_ms, key) for expire_ms, key in index if namespace_of(key) in live}
    assert live_index == {(expire_ms, key) for expire_ms, key in wanted if namespace_of(key) in live}
    assert all(namespace_of(key) in live or namespace_of(key) in dead_namespaces for _, key in index)
    fields = {split_x_key(key) for key in store.data if key[:1] == b"y"}
    assert all(next_ms >= registers.fields_expired_until_ms for next_ms, _ in fields)
    assert all(namespace_of(key) in live or namespace_of(key) in dead_namespaces for _, key in fields)
    wanted = {(next_field_expiry(record), key) for key, record in records.items() if next_field_expiry(record)}
    assert {one for one in fields if namespace_of(one[1]) in live} == {
        one for one in wanted if namespace_of(one[1]) in live
    }
    contents = {int.from_bytes(key[1:9], "big") for key in store.data if key[:1] == b"s"}
    assert contents <= seen_ids | dead_ids


def dump(registers: Registers) -> tuple[object, ...]:
    """Return everything that is stored of the registers."""
    return (
        registers.counter,
        registers.next_namespace,
        registers.expired_until_ms,
        registers.fields_expired_until_ms,
        registers.dead_front,
        registers.dead_count,
        [(one.namespace, one.keys, one.expires, one.expire_sum_ms, one.expiring_hashes) for one in registers.databases],
    )
