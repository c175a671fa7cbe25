"""Maintenance: expired keys and dead content go, in bounded steps, the same on every node."""

from __future__ import annotations

import pytest

from tests.support.keyspace_invariants import check_store
from tests.support.memory_store import MemoryStore
from zattredis.errors import StateDamaged
from zattredis.keyspace.keys import s_prefix
from zattredis.keyspace.maintenance import (
    apply_maintenance,
    encode_request,
    find_expired,
    has_dead,
    has_volatile,
    keyspace_statistics,
    next_expiry,
)
from zattredis.keyspace.metadata import HASH, SEPARATE, pack_header, separate_body
from zattredis.keyspace.registers import Registers
from zattredis.keyspace.strings import put_string
from zattredis.keyspace.view import View

NOW_MS = 1_000_000


class Node:
    def __init__(self) -> None:
        self.store = MemoryStore()
        self.registers = Registers.load(self.store)

    def view(self) -> View:
        return View(self.store, self.registers)

    def write(self, view: View) -> int:
        effects = view.take()
        self.store.write(effects)
        return len(effects)

    def maintain(self, now_ms: int, steps: int) -> tuple[bool, int]:
        view = self.view()
        more = apply_maintenance(view, now_ms, encode_request(steps)).more
        effects = self.write(view)
        check_store(self.store, self.registers)
        return more, effects


def test_expired_keys_go_in_order_and_only_they() -> None:
    node = Node()
    view = node.view()
    for number in range(10):
        put_string(view, number % 2, b"k%d" % number, b"v", 0, NOW_MS + number)
    view.set_plain(0, b"stays", b"v", 0)
    node.write(view)
    assert has_volatile(node.registers)
    assert next_expiry(node.store, node.registers) == NOW_MS
    assert find_expired(node.store, node.registers, NOW_MS + 5, 100) == 5
    assert find_expired(node.store, node.registers, NOW_MS + 5, 3) == 3
    assert apply_maintenance(node.view(), NOW_MS, encode_request(3)) == (False, 0)
    assert node.maintain(NOW_MS + 5, 3)[0]
    assert next_expiry(node.store, node.registers) == NOW_MS + 3
    assert node.maintain(NOW_MS + 5, 3) == (False, 2 * 2 + 2 + 1 + 2)
    assert next_expiry(node.store, node.registers) == NOW_MS + 5
    assert not node.maintain(NOW_MS + 100, 100)[0]
    assert not has_volatile(node.registers)
    assert next_expiry(node.store, node.registers) is None
    assert keyspace_statistics(node.registers, NOW_MS) == [(0, 1, 0, 0)]


def test_statistics_are_exact() -> None:
    node = Node()
    view = node.view()
    put_string(view, 3, b"a", b"v", 0, NOW_MS + 100)
    put_string(view, 3, b"b", b"v", 0, NOW_MS + 300)
    put_string(view, 3, b"c", b"v", 0)
    put_string(view, 5, b"c", b"v", 0)
    assert keyspace_statistics(node.registers, NOW_MS) == [(3, 3, 2, 200), (5, 1, 0, 0)]
    assert keyspace_statistics(node.registers, NOW_MS + 1000) == [(3, 3, 2, 0), (5, 1, 0, 0)]


def test_a_huge_string_is_dropped_at_once_and_reclaimed_in_bounded_steps() -> None:
    node = Node()
    view = node.view()
    put_string(view, 0, b"k", b"x" * 5_000_000, 0)
    node.write(view)
    view = node.view()
    view.put(0, b"k", None)
    assert node.write(view) <= 6
    assert has_dead(node.registers)
    chunks = 5_000_000 // 16384 + 1
    rounds = 0
    while has_dead(node.registers):
        _, effects = node.maintain(NOW_MS, 100)
        assert effects <= 104
        rounds += 1
    assert rounds == -(-chunks // 100)
    assert not [key for key in node.store.data if key[:1] == b"s"]


def test_a_flushed_namespace_is_reclaimed_with_all_that_hangs_on_it() -> None:
    node = Node()
    view = node.view()
    for number in range(25):
        put_string(view, 0, b"k%d" % number, b"v" * (100_000 if number % 5 == 0 else 1), 0, number and NOW_MS + number)
    put_string(view, 0, b"huge", b"h" * 3_000_000, 0)
    view.set_plain(1, b"other", b"v", 0)
    node.write(view)
    view = node.view()
    view.flush(0)
    view.set_plain(0, b"fresh", b"v", 0)
    node.write(view)
    check_store(node.store, node.registers)
    assert keyspace_statistics(node.registers, NOW_MS) == [(0, 1, 0, 0), (1, 1, 0, 0)]
    assert node.maintain(NOW_MS + 10, 5)[0]
    for _ in range(200):
        if not node.maintain(NOW_MS + 10, 7)[0]:
            break
    assert not has_dead(node.registers)
    assert len([key for key in node.store.data if key[:1] == b"k"]) == 2
    assert not [key for key in node.store.data if key[:1] in (b"s", b"x")]
    assert len([key for key in node.store.data if key.startswith(b"mcounts/")]) == 2


def test_a_dead_collection_is_reclaimed_by_its_subkeys() -> None:
    node = Node()
    view = node.view()
    collection_id = view.next_id()
    for number in range(10):
        view.put_raw(s_prefix(collection_id) + b"field%d" % number, b"v")
    neighbour = s_prefix(collection_id + 1) + b"field"
    header = pack_header(HASH | SEPARATE, 0, view.next_id(), 0)
    view.put(0, b"hash", header + separate_body(collection_id, 10))
    node.write(view)
    view = node.view()
    view.delete(0, b"hash", NOW_MS)
    node.write(view)
    while has_dead(node.registers):
        _, effects = node.maintain(NOW_MS, 4)
        assert effects <= 7
    node.store.write({neighbour: b"v"})
    assert [key for key in node.store.data if key[:1] == b"s"] == [neighbour]


def test_the_same_entries_leave_the_same_bytes_on_every_node() -> None:
    nodes = [Node(), Node()]
    for node in nodes:
        view = node.view()
        for number in range(50):
            put_string(view, number % 3, b"k%d" % number, b"v" * 70_000, 0, NOW_MS + number % 7)
        view.flush(2)
        node.write(view)
    nodes[1].registers = Registers.load(nodes[1].store)
    for step in range(60):
        for node in nodes:
            node.maintain(NOW_MS + step, 3)
        assert nodes[0].store.data == nodes[1].store.data


def test_a_payload_of_another_form_does_nothing() -> None:
    node = Node()
    assert apply_maintenance(node.view(), NOW_MS, b"") == (False, 0)
    assert node.maintain(NOW_MS, 10)[0] is False


def test_an_expiry_index_that_lies_stops_the_node() -> None:
    node = Node()
    view = node.view()
    put_string(view, 0, b"k", b"v", 0, NOW_MS)
    node.write(view)
    [x] = [key for key in node.store.data if key[:1] == b"x"]
    node.store.write({x: None, x[:8] + bytes([x[8] - 1]) + x[9:]: b""})
    with pytest.raises(StateDamaged):
        apply_maintenance(node.view(), NOW_MS + 1, encode_request(10))
