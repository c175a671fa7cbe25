"""Lists: rows, chunks and tree behave like one Python list, whatever their bounds; only what is needed is touched."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.keyspace_invariants import check_store
from tests.support.memory_store import MemoryStore
from zattredis.errors import StateDamaged, WrongType
from zattredis.keyspace import list_content, list_ends, packed, quicklist
from zattredis.keyspace.keys import s_prefix, s_prefix_end
from zattredis.keyspace.lists import (
    QuickList,
    copy_list,
    list_bytes,
    list_elements,
    list_encoding,
    list_length,
    move,
    pop,
    pop_many,
    push,
    push_many,
    put_list,
)
from zattredis.keyspace.maintenance import apply_maintenance, encode_request
from zattredis.keyspace.metadata import SEPARATE, collection_id_of, expire_of
from zattredis.keyspace.record_cache import RecordCache
from zattredis.keyspace.registers import Registers
from zattredis.keyspace.strings import put_string
from zattredis.keyspace.view import View

NOW_MS = 1_000_000
KEY = b"k"
Command = tuple[Any, ...]


@pytest.fixture(autouse=True)
def _small_bounds(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bounds so small that a few elements fill rows, chunks and nodes, unless the test is about the real ones."""
    if request.cls is TestALongList:
        return
    for module in (list_content, list_ends):
        monkeypatch.setattr(module, "ROW_BYTES", 60)
        monkeypatch.setattr(module, "ELEMENT_BYTES", 30)
    monkeypatch.setattr(quicklist, "CHUNK_BYTES", 100)
    monkeypatch.setattr(quicklist, "_JOINED_MAX", 75)
    monkeypatch.setattr(quicklist, "NODE_MAX", 6)
    monkeypatch.setattr(quicklist, "ROOT_MAX", 3)
    monkeypatch.setattr(quicklist, "_READ_MAX", 3)


def fresh() -> tuple[View, MemoryStore, Registers]:
    store = MemoryStore()
    registers = Registers.load(store)
    return View(store, registers), store, registers


def elements_of(view: View, key: bytes = KEY) -> list[bytes]:
    record = view.record(0, key, NOW_MS)
    return [] if record is None else list(list_elements(view, record))


def check_list(store: MemoryStore, record: bytes) -> list[bytes]:
    """Assert the invariants of a stored list and that it owns all that is under its id; return its elements."""
    if not record[0] & SEPARATE:
        assert len(record) - list_ends.ROW_AT <= list_ends.ROW_BYTES
    content = QuickList(View(store, Registers.load(store)), record)
    for row in (content.head, content.tail):
        assert row.cost <= list_ends.ROW_BYTES
        assert all(size + 4 <= list_ends.ELEMENT_BYTES for size in row.sizes())
    found = [*content.head.elements()]
    if content.collection_id:
        names: set[bytes] = set()
        tree = content.tree
        assert len(tree.root.numbers) <= quicklist.ROOT_MAX

        def walk(node: quicklist.Node, height: int) -> int:
            assert all(node.counts)
            for number, count in zip(node.numbers, node.counts, strict=True):
                assert number < tree.next_number
                name = s_prefix(content.collection_id) + (b"d" if height else b"c") + number.to_bytes(8, "big")
                names.add(name)
                if height:
                    child = quicklist.Node(*quicklist.decode_node(store.data[name]))
                    assert 1 <= len(child.numbers) <= quicklist.NODE_MAX
                    assert walk(child, height - 1) == count
                else:
                    row = packed.unpack(store.data[name], count)
                    assert row.cost <= quicklist.CHUNK_BYTES or row.count == 1
                    assert sum(row.sizes()) == len(row.frames)
                    found.extend(row.elements())
            return sum(node.counts)

        assert walk(tree.root, tree.height) == content.between
        lower, upper = s_prefix(content.collection_id), s_prefix_end(content.collection_id)
        assert {name for name in store.data if lower <= name < upper} == names
    found += content.tail.elements()
    assert len(found) == content.size == list_length(record)
    return found


# -- commands over a list, and the same over a Python list -------------------------------------------------------------


def carry_out(view: View, command: Command) -> Any:
    """Carry out a command on KEY; return what it gives."""
    name, *arguments = command
    record = view.record(0, KEY, NOW_MS)
    view.begin()
    try:
        if name == "push":
            return push(view, 0, KEY, *arguments, NOW_MS)
        if name == "pop":
            return pop(view, 0, KEY, *arguments, NOW_MS)
        if name == "move":
            return move(view, 0, KEY, KEY, *arguments, NOW_MS)
        if record is None:
            return None
        content = QuickList(view, record)
        content.begin()
        size = content.size
        got: Any = None
        if name == "set":
            content.set_element(arguments[0] % size, arguments[1])
        elif name == "insert":
            content.insert(arguments[0] % (size + 1), arguments[1])
        elif name == "remove":
            got = content.remove(*arguments)
        elif name == "trim":
            content.drop(arguments[0] % (size + 1), arguments[1])
        content.save(0, KEY, NOW_MS // 1000)
        return got
    finally:
        view.commit()


def expected(model: list[bytes], command: Command) -> Any:
    """Do the same to a Python list."""
    name, *arguments = command
    if name == "push":
        elements, left = arguments
        model[:] = [*reversed(elements), *model] if left else [*model, *elements]
        return len(model)
    if name == "pop":
        count, left = arguments
        taken = model[:count] if left else model[::-1][:count]
        model[:] = model[count:] if left else model[: max(len(model) - count, 0)]
        return taken
    if not model:
        return None
    if name == "move":
        from_left, to_left = arguments
        element = model.pop(0 if from_left else -1)
        model.insert(0 if to_left else len(model), element)
        return element
    if name == "set":
        model[arguments[0] % len(model)] = arguments[1]
    elif name == "insert":
        model.insert(arguments[0] % (len(model) + 1), arguments[1])
    elif name == "trim":
        count = arguments[0] % (len(model) + 1)
        model[:] = model[count:] if arguments[1] else model[: len(model) - count]
    elif name == "remove":
        element, limit, reverse = arguments
        places = [place for place, one in enumerate(model) if one == element]
        places = places[::-1][:limit] if reverse else places[:limit]
        for place in sorted(places, reverse=True):
            del model[place]
        return len(places)
    return None


ELEMENTS = st.one_of(
    st.sampled_from([b"", b"a", b"b", b"c", b"aa"]),
    st.sampled_from([b"$1\r\na\r\n", b"x" * 18, b"x" * 19, b"x" * 20, b"x" * 60, b"y" * 150]),
    st.binary(max_size=12),
)
PLACES = st.integers(0, 500)
SIDES = st.booleans()
COMMANDS = st.one_of(
    st.tuples(st.just("push"), st.lists(ELEMENTS, min_size=1, max_size=25), SIDES),
    st.tuples(st.just("push"), st.lists(ELEMENTS, min_size=1, max_size=1), SIDES),
    st.tuples(st.just("pop"), st.one_of(st.just(1), st.integers(1, 12)), SIDES),
    st.tuples(st.just("set"), PLACES, ELEMENTS),
    st.tuples(st.just("insert"), PLACES, ELEMENTS),
    st.tuples(st.just("remove"), ELEMENTS, st.sampled_from([1, 2, 5, 1000]), SIDES),
    st.tuples(st.just("trim"), st.integers(0, 20), SIDES),
    st.tuples(st.just("move"), SIDES, SIDES),
)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(COMMANDS, st.sampled_from(["", "", "store", "undo"])), max_size=40), st.data())
def test_commands_equal_those_of_a_python_list(steps: list[tuple[Command, str]], data: st.DataObject) -> None:
    view, store, registers = fresh()
    model: list[bytes] = []
    for command, then in steps:
        if then == "undo":
            view.begin_unit()
            carry_out(view, command)
            view.rollback_unit()
        else:
            assert carry_out(view, command) == expected(model, command)
        assert elements_of(view) == model
        if then == "store":
            store.write(view.take())
            check_store(store, registers)
            view = View(store, registers)
    record = view.record(0, KEY, NOW_MS)
    assert (record is None) == (not model)
    if record is not None:
        content = QuickList(view, record)
        start = data.draw(st.integers(0, len(model) - 1))
        stop = data.draw(st.integers(start + 1, len(model)))
        ranges = [list(content.rows(start, stop, reverse)) for reverse in (False, True)]
        assert ranges[0] == ranges[1][::-1] or len(ranges[0]) == len(ranges[1])
        assert [one for _, row in ranges[0] for one in row.elements()] == model[start:stop]
        assert [one for _, row in reversed(ranges[1]) for one in row.elements()] == model[start:stop]
        assert [model[first] for first, _ in ranges[0]] == [row.element(0) for _, row in ranges[0]]
        assert content.element(start) == model[start]
        assert list(list_elements(view, record, start, stop)) == model[start:stop]
    store.write(view.take())
    settle(store, registers)
    record = view.record(0, KEY, NOW_MS)
    assert ([] if record is None else check_list(store, record)) == model
    check_store(store, registers)


def settle(store: MemoryStore, registers: Registers) -> None:
    """Let maintenance reclaim all that is dead."""
    while registers.dead_count:
        view = View(store, registers)
        apply_maintenance(view, NOW_MS, encode_request(3))
        store.write(view.take())


ALWAYS, NEVER = [True] * 30, [False] * 30


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(COMMANDS, min_size=1, max_size=30), st.lists(st.booleans(), min_size=30, max_size=30))
def test_the_same_bytes_however_the_commands_were_cut_into_writes(commands: list[Command], cuts: list[bool]) -> None:
    stores = []
    for pattern, cached in ((ALWAYS, False), (NEVER, False), (cuts, False), (cuts, True), (ALWAYS, True)):
        _, store, registers = fresh()
        kept = RecordCache(3000) if cached else None
        view = View(store, registers, kept)
        for command, cut in zip(commands, pattern, strict=False):
            carry_out(view, command)
            if cut:
                store.write(view.take())
                if kept is not None:
                    kept.trim()
                view = View(store, registers, kept)
        store.write(view.take())
        stores.append(store.data)
    assert all(data == stores[0] for data in stores)


LINE = st.tuples(st.sampled_from([b"k", b"l"]), st.lists(ELEMENTS, min_size=1, max_size=3))
LINES = st.lists(st.tuples(st.booleans(), SIDES, st.lists(LINE, min_size=1, max_size=25)), max_size=8)


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(LINES)
def test_many_at_once_are_the_same_bytes_as_one_after_the_other(
    runs: list[tuple[bool, bool, list[tuple[bytes, list[bytes]]]]],
) -> None:
    stores, replies = [], []
    for together in (True, False):
        view, store, _ = fresh()
        got: list[Any] = []
        for pushing, left, lines in runs:
            argvs = [[b"", key, *elements] if pushing else [b"", key] for key, elements in lines]
            if together:
                view.begin()
                got += (push_many if pushing else pop_many)(view, 0, argvs, left, NOW_MS) or []  # type: ignore[operator]
                view.commit()
            else:
                for _, key, *elements in argvs:
                    view.begin()
                    if pushing:
                        got.append(push(view, 0, key, elements, left, NOW_MS))
                    else:
                        got.append((pop(view, 0, key, 1, left, NOW_MS) or [None])[0])
                    view.commit()
            if len(got) % 2:
                store.write(view.take())
        store.write(view.take())
        stores.append(store.data)
        replies.append(got)
    assert replies[0] == replies[1]
    assert stores[0] == stores[1]


def test_other_types_are_refused() -> None:
    view, _, _ = fresh()
    put_string(view, 0, KEY, b"text", 0)
    put_list(view, 0, b"l", [b"a"], 0)
    record = view.record(0, KEY, NOW_MS) or b""
    calls: list[Callable[[], Any]] = [
        lambda: push(view, 0, KEY, [b"a"], True, NOW_MS), lambda: pop(view, 0, KEY, 1, True, NOW_MS),
        lambda: pop(view, 0, KEY, 0, True, NOW_MS), lambda: move(view, 0, KEY, b"l", True, True, NOW_MS),
        lambda: move(view, 0, b"l", KEY, True, True, NOW_MS), lambda: list_length(record),
        lambda: list_encoding(record), lambda: list_bytes(record), lambda: list(list_elements(view, record)),
        lambda: copy_list(view, record, 0, b"c", 0, 0), lambda: push(view, 0, KEY, [b"a"] * 3, False, NOW_MS),
    ]  # fmt: skip
    for call in calls:
        with pytest.raises(WrongType):
            call()
    assert push_many(view, 0, [[b"", b"l", b"x"], [b"", KEY, b"x"]], True, NOW_MS) is None
    assert pop_many(view, 0, [[b"", b"l"], [b"", KEY]], True, NOW_MS) is None
    assert elements_of(view, b"l") == [b"a"]


@pytest.mark.parametrize("count", [0, 1, 3, 200])
def test_a_copy_has_content_of_its_own(count: int) -> None:
    view, store, registers = fresh()
    elements = [b"%d" % number for number in range(count)]
    put_list(view, 0, KEY, elements, 7, NOW_MS + 5)
    record = view.record(0, KEY, NOW_MS)
    if record is None:
        assert not count
        return
    assert expire_of(record) == NOW_MS + 5
    store.write(view.take())
    copy_list(view, record, 1, b"copy", NOW_MS + 9, 7)
    store.write(view.take())
    check_store(store, registers)
    copied = view.record(1, b"copy", NOW_MS) or b""
    assert expire_of(copied) == NOW_MS + 9
    view.put(0, KEY, None)
    store.write(view.take())
    settle(store, registers)
    assert check_list(store, copied) == elements
    assert collection_id_of(record) == 0 or collection_id_of(record) != collection_id_of(copied)


def test_what_a_trim_drops_is_removed_later_even_if_the_list_is_gone_by_then() -> None:
    for deleted in (False, True):
        view, store, registers = fresh()
        put_list(view, 0, KEY, [b"%d" % number for number in range(600)], 0)
        store.write(view.take())
        subkeys = sum(name[:1] == b"s" for name in store.data)
        store.reads = 0
        content = QuickList(view, view.record(0, KEY, NOW_MS))
        content.begin()
        content.drop(290, left=True)
        content.drop(290, left=False)
        content.save(0, KEY, 0)
        assert store.reads < 20
        store.write(view.take())
        check_store(store, registers)
        assert sum(name[:1] == b"s" for name in store.data) > subkeys // 2
        assert elements_of(view) == [b"%d" % number for number in range(290, 310)]
        if deleted:
            view.put(0, KEY, None)
            store.write(view.take())
        settle(store, registers)
        record = View(store, registers).record(0, KEY, NOW_MS)
        if record is None:
            assert not [name for name in store.data if name[:1] == b"s"]
        else:
            assert len(check_list(store, record)) == 20


@pytest.fixture(scope="module")
def long_list() -> MemoryStore:
    """200,000 elements with the real bounds: made before those are patched, as wider fixtures are."""
    view, store, _ = fresh()
    put_list(view, 0, KEY, (b"element:%d" % number for number in range(TestALongList.SIZE)), 0)
    store.write(view.take())
    return store


class TestALongList:
    """With the real bounds."""

    SIZE = 200_000

    @pytest.fixture
    def world(self, long_list: MemoryStore) -> tuple[View, MemoryStore]:
        store = MemoryStore(long_list.data)
        return View(store, Registers.load(store)), store

    def read(self, store: MemoryStore, view: View, call: Callable[[QuickList], Any]) -> tuple[Any, int]:
        content = QuickList(view, view.record(0, KEY, NOW_MS))
        content.begin()
        store.reads = 0
        return call(content), store.reads

    def test_an_index_costs_a_few_reads(self, world: tuple[View, MemoryStore]) -> None:
        view, store = world
        for index in (0, 1, 777, self.SIZE // 2, self.SIZE - 2, self.SIZE - 1):
            element, reads = self.read(store, view, lambda content, index=index: content.element(index))  # type: ignore[misc]
            assert element == b"element:%d" % index
            assert reads <= 3

    def test_a_range_costs_its_own_chunks(self, world: tuple[View, MemoryStore]) -> None:
        view, store = world
        rows, reads = self.read(store, view, lambda content: list(content.rows(100_000, 100_100)))
        assert b"element:100000" in rows[0][1].elements()
        assert reads <= 5

    def test_a_change_in_the_middle_writes_one_chunk_and_its_nodes(self, world: tuple[View, MemoryStore]) -> None:
        view, store = world

        def change(content: QuickList) -> None:
            content.set_element(100_000, b"new")
            content.insert(150_000, b"newer")
            content.save(0, KEY, 0)

        _, reads = self.read(store, view, change)
        effects = view.take()
        assert reads <= 10
        assert len([name for name in effects if name[:1] == b"s"]) <= 8
        assert sum(len(value or b"") for value in effects.values()) < 30_000

    def test_pushes_and_pops_touch_the_record_alone_most_of_the_time(self, world: tuple[View, MemoryStore]) -> None:
        view, store = world
        writes = 0
        store.reads = 0
        for number in range(2_000):
            left = number % 3 == 0
            if number % 5:
                push(view, 0, KEY, [b"element:new"], left, NOW_MS)
            else:
                pop(view, 0, KEY, 1, left, NOW_MS)
            effects = view.take()
            writes += len([name for name in effects if name[:1] == b"s"])
            assert sum(len(value or b"") for value in effects.values()) < 12_000
            store.write(effects)
        assert writes < 200
        assert store.reads < 400

    def test_most_of_it_is_trimmed_away_unread(self, world: tuple[View, MemoryStore]) -> None:
        view, store = world

        def trim(content: QuickList) -> None:
            content.drop(self.SIZE - 100_100, left=False)
            content.drop(100_000, left=True)
            content.save(0, KEY, 0)

        _, reads = self.read(store, view, trim)
        assert reads <= 8
        effects = view.take()
        assert len(effects) < 400
        store.write(effects)
        assert elements_of(view) == [b"element:%d" % number for number in range(100_000, 100_100)]


def test_damage_is_noticed() -> None:
    view, store, _ = fresh()
    put_list(view, 0, KEY, [b"%d" % number for number in range(300)], 0)
    store.write(view.take())
    record = view.record(0, KEY, NOW_MS) or b""
    for name in [name for name in store.data if name[:1] == b"s"]:
        damaged = MemoryStore({**store.data, name: store.data[name][:-1]})
        missing = MemoryStore({other: value for other, value in store.data.items() if other != name})
        for world in (damaged, missing):
            with pytest.raises(StateDamaged):
                list(list_elements(View(world, Registers.load(world)), record))
    with pytest.raises(StateDamaged):
        QuickList(view, record + b"x")


def test_encoding_and_size_in_bytes() -> None:
    view, _, _ = fresh()
    sizes = []
    for count in (1, 10, 1000):
        put_list(view, 0, KEY, [b"x" * 10] * count, 0)
        record = view.record(0, KEY, NOW_MS) or b""
        assert list_encoding(record) == b"quicklist"
        sizes.append(list_bytes(record))
    assert sizes[0] < 100 < sizes[1] < 1000 < sizes[2]
