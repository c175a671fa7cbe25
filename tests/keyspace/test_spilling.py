"""What a long command makes of its own is written ahead in pieces, and what its view holds stays bounded."""

from __future__ import annotations

import random

from tests.support.memory_store import MemoryStore
from zattredis.keyspace.keys import s_prefix, s_prefix_end
from zattredis.keyspace.metadata import collection_id_of
from zattredis.keyspace.registers import Registers
from zattredis.keyspace.sets import put_set
from zattredis.keyspace.spilling import PIECE_BYTES, Changes, SpillingView
from zattredis.keyspace.view import View
from zattredis.keyspace.zset_tree import Tree
from zattredis.keyspace.zsets import copy_zset, open_zset, put_zset, zset_items

NOW_MS = 1_700_000_000_000
LONG_BYTES = 8 << 10
MEMBERS = 600


class Stage:
    """A store that holds one sorted set of long members, and a view that writes ahead into it."""

    def __init__(self) -> None:
        draws = random.Random(1)
        self.items = [(draws.randbytes(LONG_BYTES), float(n)) for n in range(MEMBERS)]
        self.store = MemoryStore()
        view = View(self.store, Registers.load(self.store))
        put_zset(view, 0, b"z", self.items, 7)
        self.store.write(view.take())
        self.pieces: list[int] = []
        self.view = SpillingView(self.store, Registers.load(self.store), self._write_ahead, lambda: None)
        self.view.begin()

    def _write_ahead(self, changes: Changes) -> None:
        self.pieces.append(sum(len(key) + len(value or b"") for key, value in changes.items()))
        self.store.write(dict(changes))

    def record(self, key: bytes) -> bytes:
        record = self.view.record(0, key, NOW_MS)
        assert record is not None
        return record

    def end(self) -> int:
        """Write what the view still holds; return its bytes."""
        rest = self.view.take()
        self.store.write(rest)
        return sum(len(key) + len(value or b"") for key, value in rest.items())

    def subkeys(self, key: bytes) -> dict[bytes, bytes]:
        """What is stored of a collection, without its id."""
        collection_id = collection_id_of(self.record(key))
        lower = s_prefix(collection_id)
        return {name[len(lower) :]: value for name, value in self.store.iterate(lower, s_prefix_end(collection_id))}


def test_a_copied_sorted_set_is_the_same_to_the_byte() -> None:
    stage = Stage()
    copy_zset(stage.view, stage.record(b"z"), 0, b"copy", 0, 7)
    stage.end()
    assert stage.subkeys(b"copy") == stage.subkeys(b"z")
    assert isinstance(open_zset(stage.view, stage.record(b"copy")), Tree)
    assert list(zset_items(stage.view, stage.record(b"copy"))) == stage.items


def test_a_copy_sees_what_was_changed_before_it_in_the_same_view() -> None:
    stage = Stage()
    tree = open_zset(stage.view, stage.record(b"z"))
    assert isinstance(tree, Tree)
    tree.insert(-1.0, b"first")
    copy = tree.copy_to(stage.view.next_id())
    assert [member for members, _ in copy.slices(0, 1) for member in members] == [b"first"]
    assert copy.size == MEMBERS + 1


def test_pages_of_long_members_are_written_ahead_in_bounded_pieces() -> None:
    stage = Stage()
    copy_zset(stage.view, stage.record(b"z"), 0, b"copy", 0, 7)
    held = stage.end()
    assert sum(stage.pieces) + held > 2 * MEMBERS * LONG_BYTES
    assert max([*stage.pieces, held]) < 2 * PIECE_BYTES


def test_long_members_of_a_set_are_written_ahead_in_bounded_pieces() -> None:
    stage = Stage()
    put_set(stage.view, 0, b"set", [member for member, _ in stage.items], 7)
    assert sum(stage.pieces) + stage.end() > MEMBERS * LONG_BYTES
    assert max(stage.pieces) < 2 * PIECE_BYTES
