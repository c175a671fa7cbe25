"""Views that share a cache see and write exactly what views without one do."""

from __future__ import annotations

import random
from collections.abc import Iterator

from hypothesis import given, settings
from hypothesis import strategies as st

from zattredis.keyspace.reader import FrozenReader
from zattredis.keyspace.record_cache import RecordCache
from zattredis.keyspace.registers import Registers
from zattredis.keyspace.strings import put_string
from zattredis.keyspace.view import View

KEYS = [b"a", b"b", b"{tag}c"]
NOW_MS = 1000


class Store:
    """A Reader over a dict that counts how often it was asked."""

    def __init__(self) -> None:
        self.held: dict[bytes, bytes] = {}
        self.asked = 0

    def get(self, key: bytes) -> bytes | None:
        self.asked += 1
        return self.held.get(key)

    def multi_get(self, keys: list[bytes]) -> list[bytes | None]:
        self.asked += len(keys)
        return [self.held.get(key) for key in keys]

    def iterate(self, lower: bytes, upper: bytes | None, reverse: bool = False) -> Iterator[tuple[bytes, bytes]]:
        names = sorted(key for key in self.held if key >= lower and (upper is None or key < upper))
        return iter([(key, self.held[key]) for key in (reversed(names) if reverse else names)])

    def frozen(self) -> FrozenReader:
        raise NotImplementedError

    def write(self, changes: dict[bytes, bytes | None]) -> None:
        for key, value in changes.items():
            if value is None:
                self.held.pop(key, None)
            else:
                self.held[key] = value


class Machine:
    """A state machine of views over one store, with or without a cache."""

    def __init__(self, cache: RecordCache | None) -> None:
        self.store = Store()
        self.registers = Registers()
        self.cache = cache

    def view(self) -> View:
        if self.cache is not None:
            self.cache.trim()
        return View(self.store, self.registers, self.cache)

    def read(self, db: int, key: bytes) -> bytes | None:
        return self.view().record(db, key, NOW_MS)

    def write(self, steps: list[tuple[str, int, bytes, int, bool]]) -> None:
        view = self.view()
        for step, db, key, size, fails in steps:
            view.begin()
            if step == "plain":
                view.set_plain(db, key, b"v" * size, 1)
            elif step == "volatile":
                put_string(view, db, key, b"v" * size, 1, NOW_MS + size - 50)
            elif step == "delete":
                view.delete(db, key, NOW_MS)
            elif step == "flush":
                view.flush(db)
            elif step == "swap":
                view.swap(db, 1 - db)
            elif view.record(db, key, NOW_MS) is not None:
                view.move(db, key, 1 - db, key + b"2", 1)
            if fails:
                view.rollback()
            else:
                view.commit()
        self.store.write(view.take())

    def reload(self) -> None:
        self.registers = Registers.load(self.store)


STEPS = st.tuples(
    st.sampled_from(["plain", "volatile", "delete", "flush", "swap", "move"]),
    st.integers(0, 1),
    st.sampled_from(KEYS),
    st.integers(0, 100),
    st.booleans(),
)
ACTIONS = st.one_of(
    st.lists(STEPS, min_size=1, max_size=6), st.just("reload"), st.tuples(st.integers(0, 1), st.sampled_from(KEYS))
)


@settings(max_examples=300, deadline=None)
@given(actions=st.lists(ACTIONS, max_size=20), bytes_max=st.sampled_from([0, 1000, 4000, 1 << 20]))
def test_a_cache_changes_nothing(actions: list[object], bytes_max: int) -> None:
    plain, cached = Machine(None), Machine(RecordCache(bytes_max))
    for action in actions:
        if isinstance(action, list):
            plain.write(action)
            cached.write(action)
        elif isinstance(action, tuple):
            db, key = action
            assert cached.read(db, key) == plain.read(db, key)
        else:
            plain.reload()
            cached.reload()
        assert cached.store.held == plain.store.held
    for db in (0, 1):
        for key in KEYS:
            assert cached.read(db, key) == plain.read(db, key)


def test_a_key_used_lately_is_not_fetched_again() -> None:
    machine = Machine(RecordCache(1 << 20))
    machine.write([("plain", 0, b"a", 5, False)])
    asked = machine.store.asked
    machine.view().prefetch([(0, b"a")])
    assert machine.read(0, b"a") is not None
    assert machine.store.asked == asked


def test_what_is_not_used_for_two_generations_is_forgotten() -> None:
    machine = Machine(RecordCache(100_000))
    machine.read(0, b"old")
    for number in range(1000):
        machine.read(0, b"other%d" % number)
        machine.read(0, b"used")
    asked = machine.store.asked
    machine.read(0, b"used")
    assert machine.store.asked == asked
    machine.read(0, b"old")
    assert machine.store.asked == asked + 1
    assert machine.cache is not None
    table = machine.cache.table(machine.registers.databases[0])
    assert len(table.records) + len(table._older) < 400


def test_keys_used_again_and_again_do_not_pass_the_bound() -> None:
    bytes_max = 100_000
    machine = Machine(RecordCache(bytes_max))
    numbers = random.Random(1)
    assert machine.cache is not None
    for _ in range(20_000):
        machine.read(0, b"key%d" % numbers.randrange(400))
        table = machine.cache.table(machine.registers.databases[0])
        assert (len(table.records) + len(table._older)) * 400 < bytes_max * 1.1
