"""Hashes against a dict: in their small and their separate form, across the conversion, with expiry and rollback."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any
from zlib import crc32

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.keyspace_invariants import check_store
from tests.support.memory_store import MemoryStore
from zattredis.errors import WrongType
from zattredis.keyspace import hashes_inline as inline
from zattredis.keyspace.hashes import (
    HashEdit,
    copy_hash,
    hash_encoding,
    hash_expiries,
    hash_items,
    hash_length,
    hash_value,
    hash_values,
    put_hash,
    scan_fields,
)
from zattredis.keyspace.hashes_random import chosen_fields, drawn_fields, repeated_fields
from zattredis.keyspace.maintenance import (
    apply_maintenance,
    encode_request,
    find_expired,
    has_dead,
    has_volatile,
)
from zattredis.keyspace.metadata import SEPARATE, expire_of, is_expired
from zattredis.keyspace.random import SeededRandom
from zattredis.keyspace.registers import Registers
from zattredis.keyspace.strings import put_string
from zattredis.keyspace.view import View

NOW_MS = 1_000_000
FIELDS = [b"", b"a", b"\0", b"\0\0", b"\0\1a", b"field:1", b"field:2", b"f" * 70, b"\xff", b"k" * 300]
VALUES = st.sampled_from([b"", b"1", b"\0\0", b"\0\1a", b"v" * 65, b"\0" * 90, b"w" * 1500, b"x" * 5000])


class Store:
    """A store with its registers, written after every step or kept in one view."""

    def __init__(self) -> None:
        self.store = MemoryStore()
        self.registers = Registers.load(self.store)
        self.view = View(self.store, self.registers)

    def write(self) -> None:
        self.store.write(self.view.take())
        check_store(self.store, self.registers)
        self.view = View(self.store, self.registers)

    def edit(self, now_ms: int, key: bytes = b"h") -> HashEdit:
        return HashEdit(self.view, 0, key, self.view.record(0, key, now_ms), now_ms)

    def maintain(self, now_ms: int, steps: int = 500) -> bool:
        more = apply_maintenance(self.view, now_ms, encode_request(steps)).more
        self.write()
        return more


@settings(max_examples=100, deadline=None)
@given(st.sampled_from([0, inline.ENTRIES_MAX - 2, 200]), st.booleans(), st.data())
def test_a_hash_equals_a_dict(filled: int, expiring: bool, data: st.DataObject) -> None:
    kept = Store()
    now_ms = NOW_MS
    model: dict[bytes, tuple[bytes, int]] = {b"%d" % number: (b"v", 0) for number in range(filled)}
    put_hash(kept.view, 0, b"h", [(field, value) for field, (value, _) in model.items()], 0)
    for _ in range(data.draw(st.integers(1, 12))):
        now_ms += data.draw(st.sampled_from([0, 0, 1, 50]))
        model = {field: (value, end) for field, (value, end) in model.items() if not end or now_ms <= end}
        before = dict(model)
        kept.view.begin()
        edit = kept.edit(now_ms)
        for _ in range(data.draw(st.integers(1, 4))):
            field = data.draw(st.sampled_from(FIELDS))
            action = data.draw(st.sampled_from(["set", "set", "remove", "prefetch"]))
            assert edit.find(field) == model.get(field, (None, 0))
            if action == "set":
                value = data.draw(VALUES)
                end = now_ms + data.draw(st.sampled_from([0, 20, 60])) if expiring and data.draw(st.booleans()) else 0
                assert edit.set(field, value, end) == (field not in model)
                model[field] = (value, end)
            elif action == "remove":
                assert edit.remove(field) == model.pop(field, (None, 0))[0]
            else:
                edit.prefetch(FIELDS)
        edit.finish()
        if data.draw(st.integers(0, 3)) == 0:
            kept.view.rollback()
            model = before
        else:
            kept.view.commit()
        step = data.draw(st.sampled_from(["", "write", "maintain"]))
        if step == "write":
            kept.write()
        elif step == "maintain":
            kept.maintain(now_ms, data.draw(st.sampled_from([1, 2, 500])))
        check_equal(kept.view, model, now_ms)
    kept.write()
    while kept.maintain(now_ms + 1000, 7):
        pass
    check_equal(kept.view, {field: pair for field, pair in model.items() if not pair[1]}, now_ms + 1000)
    assert (kept.view.record(0, b"h", 0) is None) == all(end for _, end in model.values())
    assert not has_volatile(kept.registers)
    kept.view.put(0, b"h", None)
    kept.write()
    while kept.maintain(now_ms + 1000):
        pass
    assert not [name for name in kept.store.data if name[:1] in b"sxyk"]


def check_equal(view: View, model: dict[bytes, tuple[bytes, int]], now_ms: int) -> None:
    record = view.record(0, b"h", now_ms)
    model = {field: (value, end) for field, (value, end) in model.items() if not end or now_ms <= end}
    if record is None:
        assert not model
        return
    items = list(hash_items(view, record, now_ms))
    assert dict(items) == {field: value for field, (value, _) in model.items()}
    assert len(items) == len(model) == hash_length(view, record, now_ms)
    assert hash_values(view, record, [*FIELDS, b"none"], now_ms) == [
        model.get(field, (None, 0))[0] for field in [*FIELDS, b"none"]
    ]
    assert [hash_value(view, record, field, now_ms) for field in FIELDS] == hash_values(view, record, FIELDS, now_ms)
    ends = {field: end for field, end in hash_expiries(view, record).items() if now_ms <= end}
    assert ends == {field: end for field, (_, end) in model.items() if end}
    assert (hash_encoding(record) == b"hashtable") >= (
        len(model) > 512 or any(len(field) > 64 or len(value) > 64 for field, (value, _) in model.items())
    )


def test_what_looks_like_a_field_within_a_value_is_none() -> None:
    body = inline.pack([(b"x", b"\0\1a" * 30, 0), (b"y", b"\0\1b\0\1b\0\1b\0\1b\0\1b\0\1b", 0), (b"b", b"found", 0)], 0)
    assert inline.find(body, b"a", 0) == -1
    assert inline.find(body, b"b", 0) == 2
    zeros = inline.pack([(b"x", bytes(3000), 0), (b"", b"empty", 0)], 0)
    assert inline.entry_at(zeros, inline.find(zeros, b"", 0), 0, 0) == (b"empty", 0)


def test_what_redis_would_hold_as_a_listpack_keeps_the_order_of_insertion() -> None:
    kept = Store()
    fields = [b"%d" % (number * 7919 % 1009) for number in range(500)]
    for some in (fields[:100], fields[100:], [b"0", b"7919"]):
        edit = kept.edit(NOW_MS)
        for field in some:
            edit.set(field, b"v", NOW_MS + 9 if field == b"7919" else 0)
        edit.finish()
    edit = kept.edit(NOW_MS)
    assert edit.remove(fields[3]) == b"v"
    assert edit.set(fields[3], b"again")
    edit.finish()
    kept.write()
    record = kept.view.record(0, b"h", NOW_MS)
    assert record is not None
    assert record[0] & SEPARATE
    expected = [*fields[:3], *fields[4:], b"7919", fields[3]]
    assert [field for field, _ in hash_items(kept.view, record, NOW_MS)] == expected
    assert [field for field, _ in scan_fields(kept.view, record, 0, 10, NOW_MS)[1]] == expected
    assert [field for field, _ in hash_items(kept.view, record, NOW_MS + 10)] == [*expected[:-2], fields[3]]


def test_a_separate_hash_stays_one_and_each_change_touches_one_field() -> None:
    kept = Store()
    put_hash(kept.view, 0, b"h", [(b"f%d" % number, b"v") for number in range(5000)], 0)
    kept.write()
    kept.store.reads = 0
    edit = kept.edit(NOW_MS)
    assert not edit.set(b"f17", b"w")
    edit.finish()
    assert kept.store.reads == 2
    effects = kept.view.take()
    assert len([name for name in effects if name[:1] == b"s"]) == 1
    kept.store.write(effects)
    record = kept.view.record(0, b"h", NOW_MS)
    assert record is not None
    kept.store.reads = 0
    assert hash_value(kept.view, record, b"f17", NOW_MS) == b"w"
    assert kept.store.reads == 1
    edit = kept.edit(NOW_MS)
    for number in range(4999):
        edit.remove(b"f%d" % number)
    edit.finish()
    record = kept.view.record(0, b"h", NOW_MS)
    assert record is not None
    assert record[0] & SEPARATE
    assert hash_length(kept.view, record, NOW_MS) == 1
    kept.write()


def test_a_dead_hash_costs_nothing_at_once() -> None:
    kept = Store()
    put_hash(kept.view, 0, b"h", [(b"f%d" % number, b"v") for number in range(5000)], 0)
    kept.write()
    changes: list[Callable[[], None]] = [
        lambda: kept.view.move(0, b"h", 3, b"other", 0),
        lambda: put_string(kept.view, 3, b"other", b"v", 0),
    ]
    for change in changes:
        change()
        effects = kept.view.take()
        assert len(effects) <= 8
        kept.store.write(effects)
    assert has_dead(kept.registers)
    while kept.maintain(NOW_MS):
        pass
    assert not [name for name in kept.store.data if name[:1] == b"s"]


@pytest.mark.parametrize("count", [5, 500])
def test_a_copy_keeps_expiries_and_has_content_of_its_own(count: int) -> None:
    kept = Store()
    ends = {b"f%d" % number: NOW_MS + number for number in range(3)}
    put_hash(kept.view, 0, b"h", [(b"f%d" % number, b"v") for number in range(count)], 1, NOW_MS + 90, ends)
    kept.write()
    record = kept.view.record(0, b"h", NOW_MS)
    assert record is not None
    copy_hash(kept.view, record, 5, b"copy", expire_of(record), 7)
    kept.write()
    kept.view.delete(0, b"h", NOW_MS)
    kept.maintain(NOW_MS)
    copied = kept.view.record(5, b"copy", NOW_MS)
    assert copied is not None
    assert hash_expiries(kept.view, copied) == ends
    assert expire_of(copied) == NOW_MS + 90
    assert len(list(hash_items(kept.view, copied, NOW_MS + 2))) == count - 2
    kept.maintain(NOW_MS + 10)
    copied = kept.view.record(5, b"copy", NOW_MS)
    assert copied is not None
    assert hash_length(kept.view, copied, NOW_MS) == count - 3


def test_a_hash_made_with_fields_long_past_has_none_of_them() -> None:
    kept = shape(3, all_expire=True)
    kept.maintain(NOW_MS + 50)
    put_hash(kept.view, 0, b"i", [(b"a", b"1"), (b"b", b"2"), (b"c", b"3")], 0, 0, {b"a": 5, b"b": NOW_MS + 50})
    put_hash(kept.view, 0, b"j", [(b"a", b"1")], 0, 0, {b"a": 5})
    kept.write()
    record = kept.view.record(0, b"i", 0)
    assert record is not None
    assert list(hash_items(kept.view, record, 0)) == [(b"b", b"2"), (b"c", b"3")]
    assert kept.view.record(0, b"j", 0) is None


def shape(count: int, all_expire: bool) -> Store:
    kept = Store()
    edit = kept.edit(NOW_MS)
    for number in range(count):
        edit.set(b"f%d" % number, b"v", NOW_MS + number % 10 if all_expire or number % 2 else 0)
    edit.finish()
    kept.write()
    return kept


@pytest.mark.parametrize("count", [20, 1000])
def test_fields_go_at_their_time_and_maintenance_removes_them_in_bounded_steps(count: int) -> None:
    kept = shape(count, all_expire=False)
    assert has_volatile(kept.registers)
    assert find_expired(kept.store, kept.registers, NOW_MS + 1, 10) == 0
    assert find_expired(kept.store, kept.registers, NOW_MS + 2, 10) == 1
    record = kept.view.record(0, b"h", NOW_MS)
    assert record is not None
    assert hash_length(kept.view, record, NOW_MS + 1) == count
    assert hash_length(kept.view, record, NOW_MS + 4) == count - count // 5
    rounds = 1
    while kept.maintain(NOW_MS + 4, 40):
        rounds += 1
    assert rounds >= count // 5 // 40
    record = kept.view.record(0, b"h", 0)
    assert record is not None
    assert hash_length(kept.view, record, 0) == count - count // 5
    assert find_expired(kept.store, kept.registers, NOW_MS + 4, 10) == 0
    assert has_volatile(kept.registers)
    while kept.maintain(NOW_MS + 100, 300):
        pass
    assert not has_volatile(kept.registers)
    assert not [name for name in kept.store.data if name[:1] == b"y"]


@pytest.mark.parametrize("count", [5, 300])
def test_maintenance_that_removes_nothing_leaves_the_version(count: int) -> None:
    kept = Store()
    put_hash(kept.view, 0, b"h", [(b"f%d" % number, b"v") for number in range(count)], 0)
    for field, end in ((b"f1", NOW_MS + 5), (b"f2", NOW_MS + 50), (b"f1", 0)):
        edit = kept.edit(NOW_MS)
        edit.set(field, b"v", end)
        edit.finish()
    kept.write()
    seen = kept.view.watch(0, b"h", NOW_MS)
    kept.maintain(NOW_MS + 10)
    assert kept.view.unchanged(0, b"h", seen, NOW_MS)
    assert find_expired(kept.store, kept.registers, NOW_MS + 10, 5) == 0
    kept.maintain(NOW_MS + 51)
    assert not kept.view.unchanged(0, b"h", seen, NOW_MS)
    assert not has_volatile(kept.registers)


@pytest.mark.parametrize("count", [20, 1000])
def test_a_hash_goes_with_its_last_field(count: int) -> None:
    kept = shape(count, all_expire=True)
    assert kept.view.record(0, b"h", NOW_MS + 9) is not None
    assert kept.view.record(0, b"h", NOW_MS + 10) is None
    edit = kept.edit(NOW_MS + 10)
    assert edit.set(b"f0", b"new")
    edit.finish()
    record = kept.view.record(0, b"h", NOW_MS + 10)
    assert record is not None
    assert list(hash_items(kept.view, record, NOW_MS + 10)) == [(b"f0", b"new")]
    kept.view = View(kept.store, Registers.load(kept.store))
    kept.registers = kept.view.registers
    for _ in range(50):
        if not kept.maintain(NOW_MS + 10, 100):
            break
    assert kept.registers.databases[0].keys == 0
    assert not [name for name in kept.store.data if name[:1] in b"ksy"]


def test_the_index_follows_rename_flush_expiry_and_overwriting() -> None:
    changes: list[Callable[[View], Any]] = [
        lambda view: view.move(0, b"h", 0, b"i", 0),
        lambda view: view.move(0, b"h", 4, b"h", 0),
        lambda view: view.swap(0, 1),
        lambda view: view.flush(0),
        lambda view: view.delete(0, b"h", NOW_MS),
        lambda view: view.set_plain(0, b"h", b"v", 0),
        lambda view: put_string(view, 0, b"h", b"v" * 100_000, 0),
        lambda view: view.set_plain_many(0, [(b"h", b"v")], 0),
    ]
    for count in (10, 300):
        for change in changes:
            kept = shape(count, all_expire=True)
            if change is not changes[-1]:
                kept.view.begin()
                change(kept.view)
                kept.view.rollback()
                kept.write()
            change(kept.view)
            kept.write()
            for _ in range(50):
                kept.maintain(NOW_MS + 100, 100)
            assert not [name for name in kept.store.data if name[:1] == b"y"]
            assert not has_dead(kept.registers)


def test_an_expired_key_takes_its_fields_along() -> None:
    kept = shape(300, all_expire=True)
    record = kept.view.record(0, b"h", NOW_MS)
    assert record is not None
    kept.view.set_expire(0, b"h", record, NOW_MS - 1, 0)
    kept.write()
    while kept.maintain(NOW_MS, 100):
        pass
    assert not [name for name in kept.store.data if name[:1] in b"ksxy"]


def test_the_same_commands_leave_the_same_bytes_however_they_are_cut() -> None:
    stores = [Store(), Store()]
    for number in range(400):
        for kept in stores:
            edit = kept.edit(NOW_MS + number)
            edit.set(b"f%d" % (number * 7 % 190), b"v" * (number % 70), number % 3 and NOW_MS + number + number % 50)
            if number % 4 == 0:
                edit.remove(b"f%d" % (number % 190))
            edit.finish()
        stores[0].write()
        if number % 37 == 0:
            for kept in stores:
                kept.write()
                kept.maintain(NOW_MS + number, 5)
    for kept in stores:
        kept.write()
    assert stores[0].store.data == stores[1].store.data
    record = stores[0].view.record(0, b"h", NOW_MS)
    assert record is not None
    assert not is_expired(record, NOW_MS + 400)


def colliding() -> list[bytes]:
    """Return fields of one crc32 (its linearity: the differences of two pairs are alike)."""
    found: dict[int, bytes] = {}
    for number in range(200_000):
        field = b"%x" % (number * 2654435761 % 2**32)
        other = found.setdefault(crc32(field), field)
        if other != field and len(other) == len(field):
            return [prefix + one for prefix in (b"", b"1", b"22") for one in (field, other)]
    raise AssertionError("no collision")


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 700), st.integers(1, 60))
def test_a_whole_scan_returns_every_field_once(count: int, window: int) -> None:
    kept = Store()
    fields = [b"field:%d" % number for number in range(count)]
    put_hash(kept.view, 0, b"h", [(field, b"v" + field) for field in fields], 0)
    record = kept.view.record(0, b"h", NOW_MS)
    assert record is not None
    found: list[tuple[bytes, bytes]] = []
    cursor = 0
    while True:
        cursor, pairs = scan_fields(kept.view, record, cursor, window, NOW_MS)
        found += pairs
        if cursor == 0:
            break
    assert sorted(found) == sorted((field, b"v" + field) for field in fields)


def test_fields_that_share_a_crc_are_scanned_together() -> None:
    kept = Store()
    fields = [*colliding(), *(b"f%d" % number for number in range(600))]
    put_hash(kept.view, 0, b"h", [(field, b"v") for field in fields], 0)
    record = kept.view.record(0, b"h", NOW_MS)
    assert record is not None
    cursor, found = 0, []
    while True:
        cursor, pairs = scan_fields(kept.view, record, cursor, 1, NOW_MS)
        assert len({crc32(field) for field, _ in pairs}) <= 1
        found += [field for field, _ in pairs]
        if cursor == 0:
            break
    assert sorted(found) == sorted(fields)


def returned(steps: Any) -> Any:
    try:
        while True:
            next(steps)
    except StopIteration as end:
        return end.value


def chosen(view: View, record: bytes, count: int, length: int, random: SeededRandom) -> list[tuple[bytes, bytes]]:
    pieces = chosen_fields(view, record, count, length, NOW_MS, random)
    return [pair for piece in pieces for pair in piece or []]


@pytest.mark.parametrize("count", [1, 7, 128, 300, 2000])
def test_random_fields_are_equally_likely_and_different(count: int) -> None:
    kept = Store()
    put_hash(kept.view, 0, b"h", [(b"f%d" % number, b"v") for number in range(count)], 0)
    kept.write()
    record = kept.view.record(0, b"h", NOW_MS)
    assert record is not None
    random = SeededRandom(5, 6)
    draws = 20 * count
    pieces = list(repeated_fields(kept.view, record, min(count // 8 + 1, count), NOW_MS, random))
    assert sum(map(len, filter(None, pieces))) == min(count // 8 + 1, count)
    drawn: Counter[bytes] = Counter()
    while drawn.total() < draws:
        for piece in repeated_fields(kept.view, record, max(count // 5, 1), NOW_MS, random):
            drawn.update([field for field, _ in piece or []])
    expected = drawn.total() / count
    chi_square = sum((drawn[b"f%d" % number] - expected) ** 2 / expected for number in range(count))
    assert chi_square < count + 5 * (2 * count) ** 0.5 + 5
    for wanted in (1, count // 5, count // 2, count, 2 * count):
        drawn_pairs = returned(drawn_fields(kept.view, record, wanted, NOW_MS, random))
        if drawn_pairs is None:
            drawn_pairs = chosen(kept.view, record, min(wanted, count), count, random)
        fields = [field for field, _ in drawn_pairs]
        assert len(set(fields)) == len(fields) == min(wanted, count)
    chances: Counter[bytes] = Counter()
    for _ in range(200):
        chances.update([field for field, _ in chosen(kept.view, record, max(count // 3, 1), count, random)])
    assert max(chances.values()) - min(chances[b"f%d" % number] for number in range(count)) < 70 or count == 1


def test_drawing_among_many_expired_fields() -> None:
    kept = Store()
    edit = kept.edit(NOW_MS)
    for number in range(3000):
        edit.set(b"f%d" % number, b"v", NOW_MS if number % 1000 else 0)
    edit.finish()
    record = kept.view.record(0, b"h", NOW_MS)
    assert record is not None
    assert returned(drawn_fields(kept.view, record, 5, NOW_MS + 1, SeededRandom(1, 2))) is None
    length = hash_length(kept.view, record, NOW_MS + 1)
    pieces = list(chosen_fields(kept.view, record, length, length, NOW_MS + 1, SeededRandom(1, 2)))
    assert {field for piece in pieces for field, _ in piece or []} == {b"f0", b"f1000", b"f2000"}
    pieces = list(repeated_fields(kept.view, record, 40, NOW_MS + 1, SeededRandom(1, 2)))
    assert sum(map(len, filter(None, pieces))) == 40


def test_other_types_are_refused() -> None:
    kept = Store()
    kept.view.set_plain(0, b"s", b"v", 0)
    record = kept.view.record(0, b"s", NOW_MS)
    assert record is not None
    with pytest.raises(WrongType):
        HashEdit(kept.view, 0, b"s", record, NOW_MS)
    for read in (hash_encoding, lambda one: hash_length(kept.view, one, 0), lambda one: hash_expiries(kept.view, one)):
        with pytest.raises(WrongType):
            read(record)
    with pytest.raises(WrongType):
        hash_value(kept.view, record, b"f", 0)


@given(st.dictionaries(st.sampled_from(FIELDS) | st.binary(max_size=70), VALUES, max_size=140), st.sampled_from([0, 5]))
@settings(max_examples=60)
def test_a_hash_put_whole_is_stored_as_one_put_field_by_field(fields: dict[bytes, bytes], expire_ms: int) -> None:
    """Nodes of another build store it the slow way: it must come to the same, numbers given included."""
    whole, slow = Store(), Store()
    put_hash(whole.view, 0, b"k", fields.items(), NOW_MS // 1000, expire_ms)
    edit = HashEdit(slow.view, 0, b"k", None, NOW_MS)
    for field, value in fields.items():
        edit.set(field, value)
    edit.expire_ms = expire_ms
    edit.finish()
    assert whole.view.take() == slow.view.take()
    assert whole.registers.counter == slow.registers.counter


def test_a_hash_of_many_short_fields_is_put_whole_up_to_the_bound() -> None:
    for count in (127, 128, 129):
        fields = {b"%d" % number: b"" for number in range(count)}
        whole, slow = Store(), Store()
        put_hash(whole.view, 0, b"k", fields.items(), 1)
        edit = HashEdit(slow.view, 0, b"k", None, 1000)
        for field in fields:
            edit.set(field, b"")
        edit.finish()
        assert whole.view.take() == slow.view.take()
