"""Views: read your writes, rollback, units, take, and the invariants of what they write."""

from __future__ import annotations

import copy
import struct
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.keyspace_invariants import check_store, dump
from tests.support.memory_store import MemoryStore
from zattredis.errors import StateDamaged
from zattredis.keyspace.keys import META_COUNTER, META_COUNTS, namespace_of
from zattredis.keyspace.maintenance import apply_maintenance, encode_request
from zattredis.keyspace.metadata import HEADER_BYTES, expire_of, version_of
from zattredis.keyspace.registers import Registers
from zattredis.keyspace.strings import put_string, string_value
from zattredis.keyspace.view import View

NOW_MS = 1_700_000_000_000


def new_view(store: MemoryStore | None = None) -> tuple[View, MemoryStore, Registers]:
    store = MemoryStore() if store is None else store
    registers = Registers.load(store)
    return View(store, registers), store, registers


def test_a_view_reads_its_own_writes() -> None:
    view, store, _ = new_view()
    view.set_plain(0, b"k", b"v", 7)
    record = view.record(0, b"k", NOW_MS)
    assert record is not None
    assert record[HEADER_BYTES:] == b"v"
    assert view.record(1, b"k", NOW_MS) is None
    assert store.data == {}
    store.write(view.take())
    assert View(store, Registers.load(store)).record(0, b"k", NOW_MS) == record
    assert view.take() == {}


_PAIR = st.tuples(st.sampled_from([b"a", b"a", b"b", b"c", b"e"]), st.sampled_from([b"", b"1", b"22"]))
_PAIRS = st.lists(_PAIR) | st.lists(_PAIR, min_size=25)


@settings(max_examples=150)
@given(st.sets(st.sampled_from([b"a", b"b", b"c"])), st.booleans(), _PAIRS)
def test_many_strings_at_once_are_stored_as_one_after_the_other(
    known: set[bytes], expiring: bool, pairs: list[tuple[bytes, bytes]]
) -> None:
    found = []
    for at_once in (False, True):
        view, store, registers = new_view()
        for key in sorted(known):
            view.set_plain(0, key, b"before", 7)
        if expiring:
            put_string(view, 0, b"e", b"before", 7, NOW_MS)
        view.commit()
        store.write(view.take())
        view = View(store, registers)
        if at_once:
            view.set_plain_many(0, pairs, 8)
        else:
            for key, value in pairs:
                view.set_plain(0, key, value, 8)
            view.commit()
        store.write(view.take())
        check_store(store, registers)
        found.append((store.data, registers.figures()))
    assert found[0] == found[1]


def test_the_state_does_not_depend_on_how_its_changes_were_cut_into_writes() -> None:
    contents = []
    for cuts in (False, True):
        view, store, _ = new_view()
        view.set_plain(0, b"k", b"v", 7)
        if cuts:
            store.write(view.take())
        view.put(0, b"k", None)
        store.write(view.take())
        contents.append(store.data)
    assert contents[0] == contents[1]


@pytest.mark.parametrize("cut", [False, True])
def test_what_a_flush_keeps_of_versions_is_stored_with_it(cut: bool) -> None:
    """A node that starts again right behind it goes on from the same versions as the others, and writes the same."""
    stores = []
    for restarts in (False, True):
        view, store, registers = new_view()
        view.set_plain(0, b"k", b"v", 7)
        if cut:
            store.write(view.take())
        view.flush(0)
        store.write(view.take())
        if restarts:
            again = Registers.load(store)
            assert dump(again) == dump(registers)
            view = View(store, again)
        view.set_plain(0, b"k", b"v", 7)
        store.write(view.take())
        stores.append(store.data)
    assert stores[0] == stores[1]


def test_a_flush_that_is_undone_leaves_nothing_of_its_namespace() -> None:
    view, store, _ = new_view()
    view.set_plain(0, b"k", b"v", 7)
    store.write(view.take())
    before = [key for key in store.data if key.startswith(META_COUNTS)]
    view.begin()
    view.flush(0)
    view.rollback()
    store.write(view.take())
    assert [key for key in store.data if key.startswith(META_COUNTS)] == before


def test_prefetch_asks_for_every_key_once() -> None:
    view, store, _ = new_view()
    view.set_plain(0, b"a", b"1", 0)
    store.write(view.take())
    view, store, _ = new_view(store)
    store.reads = 0
    view.prefetch([(0, b"a"), (0, b"b"), (1, b"a"), (0, b"a"), (0, b"{t}a"), (0, b"b")])
    assert store.reads == 4
    assert view.record(0, b"a", NOW_MS) is not None
    assert view.record(0, b"b", NOW_MS) is None
    assert view.record(1, b"a", NOW_MS) is None
    assert view.record(0, b"{t}a", NOW_MS) is None
    assert store.reads == 4


def test_every_write_has_a_new_version() -> None:
    view, _, _ = new_view()
    versions = []
    for _ in range(3):
        view.set_plain(0, b"k", b"v", 0)
        versions.append(view.watch(0, b"k", NOW_MS))
    assert versions == sorted(set(versions))
    record = view.record(0, b"k", NOW_MS)
    assert record is not None
    view.set_expire(0, b"k", record, NOW_MS, 0)
    assert view.watch(0, b"k", NOW_MS) > versions[-1]
    assert view.watch(0, b"k", NOW_MS + 1) < 0
    assert view.watch(0, b"none", NOW_MS) < 0


def test_a_key_lives_through_its_last_millisecond() -> None:
    view, _, _ = new_view()
    put_string(view, 0, b"k", b"v", 0, NOW_MS)
    assert view.record(0, b"k", NOW_MS) is not None
    assert view.record(0, b"k", NOW_MS + 1) is None
    assert view.counts(0).keys == 1


def test_writing_over_an_expired_key_replaces_it_whole() -> None:
    view, store, registers = new_view()
    put_string(view, 0, b"k", b"v" * 100_000, 0, NOW_MS)
    view.set_plain(0, b"k", b"new", 0)
    store.write(view.take())
    check_store(store, registers)
    assert registers.databases[0].keys == 1
    assert not [key for key in store.data if key[:1] in (b"x", b"s")]


def test_rollback_of_flush_and_swap() -> None:
    view, store, registers = new_view()
    for db in (0, 1):
        put_string(view, db, b"k", b"%d" % db, 0, NOW_MS + db)
    store.write(view.take())
    before = dump(registers)
    view.begin()
    view.flush(0)
    view.set_plain(0, b"other", b"v", 0)
    view.swap(0, 1)
    view.set_plain(0, b"third", b"v", 0)
    assert view.record(0, b"k", NOW_MS) is not None
    assert view.record(1, b"k", NOW_MS) is None
    view.rollback()
    assert dump(registers) == before
    store.write(view.take())
    check_store(store, registers)
    for db in (0, 1):
        record = view.record(db, b"k", NOW_MS)
        assert record is not None
        assert string_value(view, record) == b"%d" % db
        assert view.record(db, b"other", NOW_MS) is None
        assert view.record(db, b"third", NOW_MS) is None


def test_a_unit_is_kept_or_undone_as_a_whole() -> None:
    view, store, registers = new_view()
    view.set_plain(0, b"a", b"before", 0)
    store.write(view.take())
    before, bytes_before = dump(registers), dict(store.data)
    view.begin_unit()
    view.begin()
    view.set_plain(0, b"a", b"in the unit", 0)
    view.commit()
    view.begin()
    view.set_plain(0, b"b", b"fails", 0)
    view.rollback()
    assert view.record(0, b"b", NOW_MS) is None
    with pytest.raises(RuntimeError):
        view.take()
    view.rollback_unit()
    assert dump(registers) == before
    store.write(view.take())
    assert store.data == bytes_before
    view.begin_unit()
    view.begin()
    view.set_plain(0, b"a", b"kept", 0)
    view.commit()
    view.commit_unit()
    store.write(view.take())
    record = view.record(0, b"a", NOW_MS)
    assert record is not None
    assert record[HEADER_BYTES:] == b"kept"
    with pytest.raises(RuntimeError):
        view.rollback_unit()


def test_moving_takes_content_and_expiry_along() -> None:
    view, store, registers = new_view()
    put_string(view, 0, b"from", b"x" * 100_000, 0, NOW_MS + 5)
    put_string(view, 2, b"to", b"y" * 100_000, 0, NOW_MS + 9)
    store.write(view.take())
    view.move(0, b"from", 2, b"to", 0)
    store.write(view.take())
    check_store(store, registers)
    record = view.record(2, b"to", NOW_MS)
    assert record is not None
    assert expire_of(record) == NOW_MS + 5
    assert string_value(view, record) == b"x" * 100_000
    with pytest.raises(LookupError):
        view.move(0, b"from", 0, b"x", 0)


def test_iterate_shows_effects_in_order_and_backwards() -> None:
    view, store, _ = new_view()
    store.write({b"s1": b"a", b"s3": b"c", b"s5": b"e"})
    view.put_raw(b"s2", b"b")
    view.put_raw(b"s3", None)
    view.put_raw(b"s5", b"E")
    view.put_raw(b"s6", b"f")
    expected = [(b"s1", b"a"), (b"s2", b"b"), (b"s5", b"E"), (b"s6", b"f")]
    assert list(view.iterate(b"s", b"t")) == expected
    assert list(view.iterate(b"s", b"t", reverse=True)) == expected[::-1]
    assert list(view.iterate(b"s2", b"s5")) == [(b"s2", b"b")]
    view.put_raw(b"s4", b"d")
    assert (b"s4", b"d") in list(view.iterate(b"s", b"t"))
    assert view.multi_get_raw([b"s3", b"s1", b"s2", b"s9"]) == [None, b"a", b"b", None]


def test_registers_of_another_form_are_refused() -> None:
    with pytest.raises(StateDamaged):
        Registers.load(MemoryStore({META_COUNTER: b"abc"}))


def test_negative_counts_are_never_written() -> None:
    view, _, registers = new_view()
    view.set_plain(0, b"k", b"v", 0)
    registers.databases[0].keys = -1
    with pytest.raises(struct.error):
        view.take()


KEYS = [b"a", b"b", b"{a}c"]
STEPS = st.one_of(
    st.tuples(st.just("set"), st.integers(0, 2), st.sampled_from(KEYS), st.sampled_from([b"", b"v", b"w" * 70_000])),
    st.tuples(st.just("volatile"), st.integers(0, 2), st.sampled_from(KEYS), st.integers(1, 60)),
    st.tuples(st.just("delete"), st.integers(0, 2), st.sampled_from(KEYS), st.none()),
    st.tuples(st.just("move"), st.integers(0, 2), st.sampled_from(KEYS), st.sampled_from(KEYS)),
    st.tuples(st.just("flush"), st.integers(0, 2), st.none(), st.none()),
    st.tuples(st.just("swap"), st.integers(0, 2), st.none(), st.integers(0, 2)),
    st.tuples(st.just("maintain"), st.integers(1, 5), st.none(), st.none()),
    st.tuples(st.just("huge"), st.integers(0, 2), st.sampled_from(KEYS), st.none()),
)
HUGE_BYTES = 2_200_000


Model = dict[tuple[int, bytes], tuple[bytes, int]]


def carry_out(view: View, model: Model, step: tuple[object, ...], now: int) -> None:
    kind, db, key, value = step
    assert isinstance(db, int)
    if kind in ("set", "huge"):
        assert isinstance(key, bytes)
        data = value if isinstance(value, bytes) else b"h" * HUGE_BYTES
        put_string(view, db, key, data, 0)
        model[db, key] = (data, 0)
    elif kind == "volatile":
        assert isinstance(key, bytes)
        assert isinstance(value, int)
        put_string(view, db, key, b"volatile", 0, now + value)
        model[db, key] = (b"volatile", now + value)
    elif kind == "delete":
        assert isinstance(key, bytes)
        view.delete(db, key, now)
        model.pop((db, key), None)
    elif kind == "move":
        assert isinstance(key, bytes)
        assert isinstance(value, bytes)
        if (db, key) in model and key != value and view.record(db, key, now) is not None:
            if (db, key) != (2, value):
                view.move(db, key, 2, value, 0)
            model[2, value] = model.pop((db, key))
    elif kind == "flush":
        view.flush(db)
        for place in [place for place in model if place[0] == db]:
            del model[place]
    elif kind == "swap":
        assert isinstance(value, int)
        view.swap(db, value)
        other = {(value if at == db else db if at == value else at, name): what for (at, name), what in model.items()}
        model.clear()
        model.update(other)
    else:
        apply_maintenance(view, now, encode_request(db))


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(STEPS, st.booleans(), st.integers(0, 30), st.booleans()), max_size=30))
def test_any_sequence_of_changes_rolled_back_or_kept_leaves_a_sound_store(
    steps: list[tuple[tuple[object, ...], bool, int, bool]],
) -> None:
    store = MemoryStore()
    registers = Registers.load(store)
    view = View(store, registers)
    model: dict[tuple[int, bytes], tuple[bytes, int]] = {}
    now = NOW_MS
    for step, keep, passed_ms, written in steps:
        now += passed_ms
        kept_model = copy.copy(model)
        before = dump(registers)
        view.begin()
        carry_out(view, model, step, now)
        if keep:
            view.commit()
        else:
            view.rollback()
            model = kept_model
            assert dump(registers) == before
        if written:
            store.write(view.take())
            check_store(store, registers)
            view = View(store, registers)
        for db in range(3):
            for key in KEYS:
                record = view.record(db, key, now)
                held = model.get((db, key))
                alive = held is not None and (not held[1] or now <= held[1])
                assert (record is not None) == alive
                if record is not None and held is not None:
                    assert (string_value(view, record), expire_of(record)) == held
                    assert version_of(record) <= registers.counter
    store.write(view.take())
    more = True
    while more:
        view = View(store, registers)
        more = apply_maintenance(view, now, encode_request(2)).more
        store.write(view.take())
        check_store(store, registers)
    assert registers.dead_count == 0
    live = {counts.namespace for counts in registers.databases}
    assert all(namespace_of(key) in live for key in store.data if key[:1] == b"k")
    assert sum(counts.keys for counts in registers.databases) == sum(
        not expire_ms or expire_ms >= now for _, expire_ms in model.values()
    )


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("put"), st.integers(0, 30), st.one_of(st.none(), st.binary(max_size=2))),
            st.tuples(st.sampled_from(["walk", "back"]), st.integers(0, 30), st.integers(0, 30)),
            st.tuples(st.sampled_from(["begin", "rollback", "write"]), st.just(0), st.just(0)),
        ),
        max_size=60,
    )
)
def test_walks_among_writes_show_the_collections_as_they_are(steps: list[tuple[Any, ...]]) -> None:
    store = MemoryStore()
    view = View(store, Registers.load(store))
    now: dict[bytes, bytes] = {}
    before: dict[bytes, bytes] = {}
    view.begin()
    for what, one, other in steps:
        if what == "put":
            key = b"s" + bytes([one])
            view.put_raw(key, other)
            view.put_raw(b"m" + key, b"")  # other rooms of the store lie beside
            now.pop(key, None) if other is None else now.__setitem__(key, other)
        elif what in ("walk", "back"):
            low, high = b"s" + bytes([one]), b"s" + bytes([other])
            found = list(view.iterate(low, high, reverse=what == "back"))
            assert found == sorted(
                [(key, value) for key, value in now.items() if low <= key < high], reverse=what == "back"
            )
        elif what == "rollback":
            view.rollback()
            now = dict(before)
        else:
            view.commit()
            before = dict(now)
            if what == "write":
                store.write(view.take())
            view.begin()
