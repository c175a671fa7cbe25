"""Sets against Python's own, in every form they take in the store, with conversions and rollbacks between."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.keyspace_invariants import check_store
from tests.support.memory_store import MemoryStore
from zattredis.commands.context import Context
from zattredis.commands.table import lookup
from zattredis.errors import StateDamaged, WrongType
from zattredis.keyspace.keys import s_prefix
from zattredis.keyspace.maintenance import apply_maintenance, encode_request
from zattredis.keyspace.metadata import HASH, LARGE, SEPARATE, collection_id_of, expire_of, pack_header, version_of
from zattredis.keyspace.parameters import Parameters
from zattredis.keyspace.random import SeededRandom
from zattredis.keyspace.registers import Registers
from zattredis.keyspace.sets import (
    add_members,
    copy_set,
    has_member,
    has_members,
    pop_members,
    put_set,
    random_members,
    remove_members,
    scan_set,
    set_bytes,
    set_encoding,
    set_length,
    set_members,
)
from zattredis.keyspace.sets_combined import difference, intersection, union
from zattredis.keyspace.sets_separate import member_key
from zattredis.keyspace.view import View

NOW_MS = 1_000_000
EXPIRE_MS = NOW_MS + 9


class World:
    """One key in a store, and the set it should hold. `drop` begins a view anew, `undo` rolls one change back."""

    def __init__(self, parameters: Parameters | None = None) -> None:
        self.store = MemoryStore()
        self.registers = Registers.load(self.store)
        self.view = View(self.store, self.registers)
        if parameters is not None:
            self.view.set_parameters(parameters)
        self.model: set[bytes] = set()

    @property
    def record(self) -> bytes | None:
        return self.view.record(0, b"k", NOW_MS)

    def add(self, members: list[bytes]) -> None:
        assert add_members(self.view, 0, b"k", self.record, members, 0) == len(set(members) - self.model)
        self.model |= set(members)

    def remove(self, members: list[bytes]) -> None:
        if self.record is not None:
            removed = remove_members(self.view, 0, b"k", self.record, members, 0)
            assert removed == len(set(members) & self.model)
        self.model -= set(members)

    def pop(self, count: int) -> None:
        if self.record is not None:
            taken = pop_members(self.view, 0, b"k", self.record, count, SeededRandom(count, 1), 0)
            assert len(taken) == len(set(taken)) == min(count, len(self.model))
            assert set(taken) <= self.model
            self.model -= set(taken)

    def undone(self, change: Callable[[], None]) -> None:
        """Make a change and roll it back."""
        before, counter = set(self.model), self.registers.counter
        self.view.begin()
        change()
        self.view.rollback()
        self.model = before
        assert self.registers.counter == counter
        self.check()

    def drop(self) -> None:
        self.store.write(self.view.take())
        check_store(self.store, self.registers)
        self.view = View(self.store, self.registers)

    def check(self) -> None:
        record = self.record
        assert (record is None) == (not self.model)
        if record is None:
            return
        found = list(set_members(self.view, record))
        assert len(found) == len(self.model) == set_length(record)
        assert set(found) == self.model
        probes = [*sorted(self.model)[:5], b"no such", b"", b"\0", b"07", b"99999999999999999999"]
        assert has_members(self.view, record, probes) == [probe in self.model for probe in probes]
        assert [has_member(self.view, record, probe) for probe in probes] == [probe in self.model for probe in probes]
        places = list(range(len(self.model)))
        assert sorted(random_members(self.view, record, places)) == sorted(self.model)
        scanned: list[bytes] = []
        cursor, some = scan_set(self.view, record, 0, 7)
        scanned += some
        while cursor:
            cursor, some = scan_set(self.view, record, cursor, 7)
            scanned += some
        assert sorted(scanned) == sorted(self.model)
        assert set_bytes(record) > 0


MEMBERS = st.one_of(
    st.integers(-20, 40).map(lambda number: b"%d" % number),
    st.integers(-(2**63), 2**63 - 1).map(lambda number: b"%d" % number),
    st.binary(max_size=4),
    st.sampled_from([b"", b"\0", b"\1", b"\1\2", b"\0\1\3", b"01", b"+1", b"-0", b"9223372036854775808", b"x" * 700]),
)
BULKS = st.sampled_from([
    [b"%d" % number for number in range(600)],
    [b"%d" % (number * 2**40) for number in range(300)],
    [b"member:%d" % number for number in range(90)],
    [b"member:%d" % number for number in range(300)],
])  # fmt: skip
CHANGES = st.one_of(
    st.tuples(st.just("add"), st.lists(MEMBERS, min_size=1, max_size=5)),
    st.tuples(st.just("add"), BULKS),
    st.tuples(st.just("remove"), st.lists(MEMBERS, min_size=1, max_size=5)),
    st.tuples(st.just("remove"), BULKS.map(lambda bulk: bulk[5:])),
    st.tuples(st.just("pop"), st.sampled_from([1, 2, 50, 280, 590, 10_000])),
)


@settings(max_examples=70, deadline=None)
@given(st.lists(st.tuples(CHANGES, st.booleans(), st.booleans()), max_size=12))
def test_a_set_is_what_it_should_be_in_every_form(changes: list[tuple[tuple[str, Any], bool, bool]]) -> None:
    world = World()
    large = False
    for (name, argument), undo, drop in changes:
        if undo:
            world.undone(lambda name=name, argument=argument: getattr(world, name)(argument))  # type: ignore[misc]
        getattr(world, name)(argument)
        world.check()
        if drop:
            world.drop()
            world.check()
        record = world.record
        if record is not None and not (name == "pop" and argument > 1):
            assert set_encoding(record) == (b"hashtable" if record[0] & LARGE else b"intset")
            integers = all(str(int(m)).encode() == m for m in world.model if m.lstrip(b"-").isdigit())
            if not integers or len(world.model) > 512:
                assert record[0] & LARGE
            assert not large or record[0] & LARGE
        large = record is not None and bool(record[0] & LARGE)  # a pop of many may build anew what it leaves
    world.drop()
    while apply_maintenance(world.view, NOW_MS, encode_request(100)).more:
        pass
    world.drop()
    world.check()
    if world.record is None or not world.record[0] & SEPARATE:
        assert not [key for key in world.store.data if key[:1] == b"s"]


def test_the_encoding_follows_the_replicated_parameter_when_a_member_is_added() -> None:
    world = World(Parameters(set_max_intset_entries=3))
    world.add([b"1", b"2", b"3"])
    assert world.record is not None
    assert set_encoding(world.record) == b"intset"
    world.add([b"3"])
    assert set_encoding(world.record) == b"intset"
    world.add([b"4"])
    assert set_encoding(world.record) == b"hashtable"
    world.remove([b"4", b"3"])
    assert set_encoding(world.record) == b"hashtable"
    big = World(Parameters(set_max_intset_entries=2000))
    big.add([b"%d" % number for number in range(1999)])
    assert big.record is not None and big.record[0] & SEPARATE
    assert set_encoding(big.record) == b"intset"
    big.add([b"-1"])
    assert set_encoding(big.record) == b"intset"
    big.add([b"-2"])
    assert set_encoding(big.record) == b"hashtable"
    other = World(Parameters(set_max_intset_entries=2000))
    other.add([b"%d" % number for number in range(1000)])
    other.add([b"x"])
    assert other.record is not None
    assert set_encoding(other.record) == b"hashtable"


def test_expiry_stays_and_nothing_is_written_where_nothing_changes() -> None:
    for members in ([b"1", b"2"], [b"a", b"b"], [b"%d" % number for number in range(2000)]):
        world = World()
        put_set(world.view, 0, b"k", members, 0, EXPIRE_MS)
        record = world.record
        assert record is not None and expire_of(record) == EXPIRE_MS
        add_members(world.view, 0, b"k", record, members[:2], 5)
        remove_members(world.view, 0, b"k", record, [b"nothing"], 5)
        assert world.record == record
        add_members(world.view, 0, b"k", record, [b"77777"], 5)
        changed = world.record
        assert changed is not None and expire_of(changed) == EXPIRE_MS and version_of(changed) > version_of(record)
        put_set(world.view, 0, b"k", [], 0)
        world.check()
        world.drop()


def test_a_copy_is_independent() -> None:
    for members in ([b"1", b"2"], [b"a", b"b"], [b"m%d" % number for number in range(1000)]):
        world = World()
        world.add(members)
        assert world.record is not None
        copy_set(world.view, world.record, 1, b"copy", EXPIRE_MS, 0)
        world.drop()
        world.remove(members[:1])
        copied = world.view.record(1, b"copy", NOW_MS)
        assert copied is not None and expire_of(copied) == EXPIRE_MS
        assert sorted(set_members(world.view, copied)) == sorted(members)
        assert collection_id_of(copied) == 0 or collection_id_of(copied) != collection_id_of(world.record)


@pytest.mark.parametrize(("name", "argument", "most"), [("add", [b"new"], 2), ("remove", [b"m7"], 3), ("pop", 1, 3)])
def test_one_member_of_a_large_set_costs_few_reads(name: str, argument: Any, most: int) -> None:
    world = World()
    world.add([b"m%d" % number for number in range(5000)])
    world.drop()
    world.store.reads = 0
    getattr(world, name)(argument)
    assert world.store.reads <= most
    assert len([key for key in world.view.take() if key[:1] == b"s"]) <= 4


def test_draws_are_uniform() -> None:
    for size in (30, 300):
        world = World()
        world.add([b"member:%03d" % number for number in range(size)])
        record = world.record
        assert record is not None
        assert bool(record[0] & SEPARATE) == (size == 300)
        times = dict.fromkeys(world.model, 0)
        draws = size * 40
        for seed in range(draws):
            world.view.begin()
            [member] = pop_members(world.view, 0, b"k", record, 1, SeededRandom(seed, 0), 0)
            world.view.rollback()
            times[member] += 1
        square = sum((count - 40) ** 2 / 40 for count in times.values())
        # Five standard deviations of chi square with size - 1 degrees of freedom; the seeds are fixed.
        assert square < size + 5 * (2 * size) ** 0.5


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 40), st.booleans()), min_size=1, max_size=10))
def test_commands_carried_out_together_leave_the_same_bytes(runs: list[tuple[int, bool]]) -> None:
    stores = []
    for together in (False, True):
        store = MemoryStore()
        registers = Registers.load(store)
        view = View(store, registers)
        put_set(view, 0, b"k", [b"m%d" % number for number in range(1000)], 0)
        replies: list[Any] = []
        for seed, (length, adding) in enumerate(runs):
            word = b"SADD" if adding else b"SPOP"
            argvs = [[word, b"k"] for _ in range(length)]
            if adding:
                argvs = [[word, b"k", b"m%d" % (seed * 997 + n * 31), b"x%d" % n] for n in range(length)]
            spec = lookup(word)
            assert spec is not None and spec.many is not None
            ctx = Context(view, 0, NOW_MS, seed=seed, ordinal=7)
            found = spec.many(ctx, argvs) if together else None
            if together:
                assert found is not None
            else:
                found = []
                for number, argv in enumerate(argvs):
                    view.begin()
                    found.append(spec.handler(Context(view, 0, NOW_MS, seed=seed, ordinal=7 + number), *argv[1:]))
                    view.commit()
            replies.append(found)
            store.write(view.take())
        stores.append((store.data, replies))
    assert stores[0] == stores[1]


@settings(max_examples=12, deadline=None)
@given(st.lists(st.sampled_from(["", "few", "text", "huge", "other", "numbers"]), min_size=1, max_size=4))
def test_combinations_equal_those_of_python_s_sets(names: list[str]) -> None:
    contents = {
        "few": {b"1", b"5", b"700"}, "text": {b"m5", b"m17", b"5"}, "huge": {b"m%d" % n for n in range(6000)},
        "other": {b"m%d" % (n * 3) for n in range(4000)}, "numbers": {b"%d" % n for n in range(700)}, "": set(),
    }  # fmt: skip
    world = World()
    for name, members in contents.items():
        put_set(world.view, 0, name.encode(), sorted(members), 0)
    records = [world.view.record(0, name.encode(), NOW_MS) for name in names]
    sets = [contents[name] for name in names]
    for operation, expected in ((union, set().union(*sets)), (difference, sets[0].difference(*sets[1:]))):
        found = [member for batch in operation(world.view, records) for member in batch]
        assert sorted(found) == sorted(expected)
    present = [record for record in records if record is not None]
    if len(present) == len(records):
        found = [member for batch in intersection(world.view, present) for member in batch]
        assert sorted(found) == sorted(sets[0].intersection(*sets[1:]))


def test_other_types_are_refused_and_damage_is_noticed() -> None:
    world = World()
    record = pack_header(HASH, 0, world.view.next_id(), 0) + b"x"
    for call in (set_length, set_encoding, set_bytes):
        with pytest.raises(WrongType):
            call(record)
    with pytest.raises(WrongType):
        add_members(world.view, 0, b"k", record, [b"a"], 0)
    with pytest.raises(WrongType):
        remove_members(world.view, 0, b"k", record, [b"a"], 0)
    with pytest.raises(WrongType):
        list(set_members(world.view, record))
    world.add([b"m%d" % number for number in range(1000)])
    assert world.record is not None
    prefix = s_prefix(collection_id_of(world.record))
    assert world.view.get_raw(member_key(collection_id_of(world.record), b"m5")) is not None
    world.view.put_raw(prefix + b"i" + bytes(5), None)
    with pytest.raises(StateDamaged):
        list(set_members(world.view, world.record))
    with pytest.raises(StateDamaged):
        random_members(world.view, world.record, [0])
