"""Sorted sets against a plain model, with bounds so small that pages split, join and go away all the time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from zlib import crc32

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.keyspace_invariants import check_store
from tests.support.memory_store import MemoryStore
from zattredis.errors import WrongType
from zattredis.keyspace import zset_tree, zsets
from zattredis.keyspace.keys import s_prefix
from zattredis.keyspace.maintenance import apply_maintenance, encode_request
from zattredis.keyspace.metadata import LARGE, SEPARATE, collection_id_of
from zattredis.keyspace.record_cache import RecordCache
from zattredis.keyspace.registers import Registers
from zattredis.keyspace.view import View
from zattredis.keyspace.zset_tree import Tree, score_order, sort_key
from zattredis.keyspace.zsets import (
    SmallZset,
    Zset,
    copy_zset,
    open_zset,
    pop_min_max,
    put_zset,
    remove_ranks,
    store_zset,
    zset_encoding,
    zset_items,
    zset_length,
    zset_range_by_score,
    zset_score,
)

NOW_MS = 1_700_000_000_000
KEY = b"z"
SMALL_BOUNDS = {"LEAF_MAX": 6, "INNER_MAX": 6, "PAGE_BYTES_MAX": 60, "LONG_BYTES": 10}

Model = dict[bytes, float]


@pytest.fixture(autouse=True, scope="module")
def small_bounds() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in SMALL_BOUNDS.items():
            patch.setattr(zset_tree, name, value)
        patch.setattr(zsets, "INLINE_ENTRIES_MAX", 3)
        yield


def ordered(model: Model) -> list[tuple[bytes, float]]:
    return sorted(model.items(), key=lambda pair: (pair[1], pair[0]))


def current(view: View) -> Zset:
    record = view.record(0, KEY, NOW_MS)
    return SmallZset([], []) if record is None else open_zset(view, record)


def keep(view: View, zset: Zset) -> None:
    store_zset(view, 0, KEY, zset, NOW_MS // 1000)


def check_tree(tree: Tree) -> None:
    """Assert all that the module says of the pages and the index by member."""
    pages: set[bytes] = set()
    found: list[tuple[bytes, float]] = []

    def check(number: int, height: int, low: bytes, high: bytes | None) -> int:
        pages.add(tree._pages + number.to_bytes(8, "big"))
        if not height:
            scores, members = tree._leaf(number)
            keys = [sort_key(score, member) for score, member in zip(scores, members, strict=True)]
            assert keys
            assert keys == sorted(set(keys))
            assert all(low <= key and (high is None or key < high) for key in keys)
            found.extend(zip(members, scores, strict=True))
            return len(members)
        pages.add(tree._counts_prefix + number.to_bytes(8, "big"))
        bounds, children, counts = tree._inner(number)
        assert len(bounds) == len(children) == len(counts) <= zset_tree.INNER_MAX
        assert children
        assert bounds[0] == b""
        assert bounds == sorted(set(bounds))
        ends = [*bounds[1:], high]
        for bound, end, child, count in zip(bounds, ends, children, counts, strict=True):
            assert check(child, height - 1, max(low, bound), end) == count
        return sum(counts)

    assert check(tree.root, tree.height, b"", None) == tree.size
    if tree.height:
        assert len(tree._inner(tree.root)[1]) > 1
    prefix = s_prefix(tree.collection_id)
    stored = {name for name, _ in tree.view.iterate(prefix, prefix + b"\xff")}
    index = {tree._members + crc32(member).to_bytes(4, "big") + member for member, _ in found}
    assert stored == pages | index
    assert [tree.score(member) for member, _ in found] == [score for _, score in found]


def check(view: View, model: Model) -> None:
    """Assert that every way to look at the set agrees with the model."""
    record = view.record(0, KEY, NOW_MS)
    assert (record is None) == (not model)
    if record is None:
        return
    zset = open_zset(view, record)
    if isinstance(zset, Tree):
        check_tree(zset)
    pairs = ordered(model)
    assert list(zset_items(view, record)) == pairs
    assert zset_length(record) == zset.size == len(pairs)
    assert zset.scores([*model, b"absent"]) == [*model.values(), None]
    for place, (member, score) in enumerate(pairs):
        assert zset.rank(score, member) == place
        assert zset_score(view, record, member) == score
        assert repr(zset.score(member)) == repr(score)
    for score in {*model.values(), 0.5}:
        assert zset.count_below(score, False) == sum(one < score for one in model.values())
        assert zset.count_below(score, True) == sum(one <= score for one in model.values())
    start, stop = len(pairs) // 3, len(pairs) // 3 * 2 + 1
    for reverse in (False, True):
        piece = [pair for part in zset.slices(start, stop, reverse) for pair in zip(*part, strict=True)]
        assert piece == (pairs[start:stop][::-1] if reverse else pairs[start:stop])
    assert sorted(scanned(zset)) == sorted(pairs)


def scanned(zset: Zset) -> list[tuple[bytes, float]]:
    position, found = zset.scan(0, 3)
    while position:
        position, more = zset.scan(position, 3)
        found += more
    return found


MEMBERS = st.one_of(
    st.integers(0, 40).map(lambda n: b"%d" % n), st.binary(max_size=3), st.binary(min_size=10, max_size=30)
)
SCORES = st.one_of(st.integers(-3, 3).map(float), st.floats(allow_nan=False), st.just(-0.0))
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("add"), MEMBERS, SCORES), st.tuples(st.just("add"), MEMBERS, SCORES),
        st.tuples(st.just("remove"), st.integers(0, 200), st.none()),
        st.tuples(st.just("cut"), st.integers(0, 60), st.integers(0, 20)),
        st.tuples(st.just("pop"), st.integers(1, 4), st.booleans()),
        st.tuples(st.just("fill"), st.integers(1, 60), SCORES),
        st.tuples(st.just("write"), st.none(), st.none()), st.tuples(st.just("undo"), MEMBERS, SCORES),
        st.tuples(st.just("copy"), st.none(), st.none()),
    ),
    max_size=60,
)  # fmt: skip


def carry_out(view: View, model: Model, what: str, one: Any, other: Any) -> None:
    """Carry out one step on both."""
    zset = current(view)
    if what in ("add", "undo"):
        old = zset.score(one)
        if old is None:
            zset.insert(other, one)
        elif old != other:
            zset.move(one, old, other)
        if old is None or old != other:
            model[one] = other
            keep(view, zset)
    elif what == "fill":
        for place in range(one):
            member = b"f%d" % place
            if zset.score(member) is None:
                zset.insert(other, member)
                model[member] = other
        keep(view, zset)
    elif model:
        pairs = ordered(model)
        record = view.record(0, KEY, NOW_MS)
        assert record is not None
        if what == "remove":
            member, score = pairs[one % len(pairs)]
            zset.remove(member, score)
            del model[member]
            keep(view, zset)
        elif what == "cut":
            start = one % len(pairs)
            stop = min(start + other + 1, len(pairs))
            remove_ranks(view, 0, KEY, record, zset, start, stop, 7)
            for member, _ in pairs[start:stop]:
                del model[member]
        elif what == "pop":
            expected = pairs[:one] if other else pairs[::-1][:one]
            assert pop_min_max(view, 0, KEY, one, other, NOW_MS) == expected
            for member, _ in expected:
                del model[member]
        else:
            copy_zset(view, record, 0, KEY, 0, 7)


@settings(max_examples=120, deadline=None)
@given(STEPS)
def test_every_way_to_look_agrees_with_a_plain_model(steps: list[tuple[str, Any, Any]]) -> None:
    store = MemoryStore()
    registers = Registers.load(store)
    view = View(store, registers, RecordCache(1 << 20))
    model: Model = {}
    for what, one, other in steps:
        if what == "write":
            store.write(view.take())
            view = View(store, registers, RecordCache(1 << 20))
            continue
        view.begin()
        if what == "undo":
            carry_out(view, dict(model), what, one, other)
            view.rollback()
        else:
            carry_out(view, model, what, one, other)
            view.commit()
        check(view, model)
    while apply_maintenance(view, NOW_MS, encode_request(100)).more:
        pass
    store.write(view.take())
    check_store(store, registers)
    check(View(store, registers), model)
    if not model:
        assert not [name for name in store.data if name[:1] == b"s"]


@settings(max_examples=60, deadline=None)
@given(STEPS, st.sets(st.integers(0, 60)))
def test_the_state_does_not_depend_on_how_its_changes_were_cut_into_writes(
    steps: list[tuple[str, Any, Any]], cuts: set[int]
) -> None:
    contents = []
    for case in range(3):
        store = MemoryStore()
        registers = Registers.load(store)
        cache = RecordCache(1 << 20) if case < 2 else None
        view = View(store, registers, cache)
        model: Model = {}
        for place, (what, one, other) in enumerate(steps):
            if what not in ("write", "undo"):
                carry_out(view, model, what, one, other)
            if case and place in cuts:
                store.write(view.take())
                if cache is not None and place % 3 == 0:
                    cache.trim()
                view = View(store, registers, cache)
        store.write(view.take())
        contents.append(store.data)
    assert contents[0] == contents[1] == contents[2]


def test_members_in_order_leave_full_pages() -> None:
    view = View(MemoryStore(), Registers.load(MemoryStore()))
    for place in range(200):
        zset = current(view)
        zset.insert(float(place), b"%d" % place)
        keep(view, zset)
    zset = current(view)
    assert isinstance(zset, Tree)
    leaves = [len(members) for members, _ in zset.slices(0, 200)]
    assert min(leaves[1:-1]) == zset_tree.LEAF_MAX
    check(view, {b"%d" % place: float(place) for place in range(200)})


def test_a_queue_keeps_only_pages_that_are_in_use() -> None:
    store = MemoryStore()
    view = View(store, Registers.load(store))
    put_zset(view, 0, KEY, [(b"%d" % place, float(place)) for place in range(30)], 7)
    for place in range(30, 330):
        zset = current(view)
        zset.insert(float(place), b"%d" % place)
        keep(view, zset)
        assert pop_min_max(view, 0, KEY, 1, True, NOW_MS) == [(b"%d" % (place - 30), float(place - 30))]
    check(view, {b"%d" % place: float(place) for place in range(300, 330)})
    store.write(view.take())
    assert sum(name[9:10] in (b"p", b"c") for name in store.data if name[:1] == b"s") < 40


@given(st.floats(allow_nan=False), st.floats(allow_nan=False))
def test_scores_are_ordered_as_their_sort_keys(one: float, other: float) -> None:
    assert (one < other) == (score_order(one) < score_order(other))
    assert (one == other) == (score_order(one) == score_order(other))


def test_forms_and_encodings() -> None:
    view = View(MemoryStore(), Registers.load(MemoryStore()))
    for count, separate, encoding in ((3, False, b"listpack"), (128, True, b"listpack"), (129, True, b"skiplist")):
        assert put_zset(view, 0, KEY, [(b"m%d" % n, -float(n)) for n in range(count)], 7) == count
        record = view.record(0, KEY, NOW_MS)
        assert record is not None
        assert bool(record[0] & SEPARATE) == separate
        assert zset_encoding(record) == encoding
        assert [member for member, _ in zset_items(view, record)] == [b"m%d" % n for n in range(count - 1, -1, -1)]
        assert list(zset_range_by_score(view, record, -2.0, True, 0.0, False)) == [(b"m1", -1.0), (b"m0", -0.0)]
    assert put_zset(view, 0, KEY, [(b"x" * 65, -0.0)], 7) == 1
    record = view.record(0, KEY, NOW_MS)
    assert record is not None
    assert record[0] & LARGE
    assert repr(zset_score(view, record, b"x" * 65)) == "-0.0"
    assert put_zset(view, 0, KEY, [], 7) == 0
    assert view.record(0, KEY, NOW_MS) is None


def test_a_copy_is_independent() -> None:
    view = View(MemoryStore(), Registers.load(MemoryStore()))
    put_zset(view, 0, KEY, [(b"%d" % n, n / 2) for n in range(50)], 7)
    record = view.record(0, KEY, NOW_MS)
    assert record is not None
    copy_zset(view, record, 1, b"copy", 0, 7)
    copied = view.record(1, b"copy", NOW_MS)
    assert copied is not None
    assert collection_id_of(copied) != collection_id_of(record)
    pop_min_max(view, 0, KEY, 10, True, NOW_MS)
    assert list(zset_items(view, copied)) == [(b"%d" % n, n / 2) for n in range(50)]


def test_another_type_is_refused() -> None:
    view = View(MemoryStore(), Registers.load(MemoryStore()))
    view.set_plain(0, KEY, b"text", 7)
    record = view.record(0, KEY, NOW_MS)
    assert record is not None
    for call in (open_zset, zset_score):
        with pytest.raises(WrongType):
            call(view, record, *([b"m"] if call is zset_score else []))
    with pytest.raises(WrongType):
        zset_length(record)
    with pytest.raises(WrongType):
        pop_min_max(view, 0, KEY, 1, True, NOW_MS)
