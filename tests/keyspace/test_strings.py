"""Large strings: chunks behave like one string, and only those touched are read and written."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.keyspace_invariants import check_store
from tests.support.memory_store import MemoryStore
from zattredis.errors import StateDamaged, WrongType
from zattredis.keyspace.metadata import HASH, SEPARATE, expire_of, pack_header, separate_body
from zattredis.keyspace.registers import Registers
from zattredis.keyspace.sizes import CHUNK_BYTES, INLINE_BYTES_MAX
from zattredis.keyspace.strings import (
    chunk_key,
    copy_string,
    overwrite,
    put_string,
    string_length,
    string_range,
    string_value,
)
from zattredis.keyspace.view import View

NOW_MS = 1_000_000


def fresh() -> tuple[View, MemoryStore, Registers]:
    store = MemoryStore()
    registers = Registers.load(store)
    return View(store, registers), store, registers


LENGTHS = st.sampled_from([0, 1, 5, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, INLINE_BYTES_MAX, 100_000])
OFFSETS = st.one_of(
    st.integers(0, 200_000),
    st.sampled_from([0, CHUNK_BYTES - 1, CHUNK_BYTES, INLINE_BYTES_MAX - 1, INLINE_BYTES_MAX, 5 * CHUNK_BYTES]),
)


@settings(max_examples=100, deadline=None)
@given(LENGTHS, st.lists(st.tuples(OFFSETS, LENGTHS, st.booleans()), max_size=6), st.data())
def test_overwrites_equal_those_of_a_bytearray(
    length: int, writes: list[tuple[int, int, bool]], data: st.DataObject
) -> None:
    view, store, registers = fresh()
    model = bytearray((b"0123456789" * (length // 10 + 1))[:length])
    put_string(view, 0, b"k", bytes(model), 0, NOW_MS + 9)
    for number, (offset, size, stored) in enumerate(writes):
        piece = bytes([65 + number]) * size
        if size == 0:
            continue
        record = view.record(0, b"k", NOW_MS)
        assert record is not None
        model.extend(bytes(max(0, offset + size - len(model))))
        model[offset : offset + size] = piece
        assert overwrite(view, 0, b"k", record, offset, piece, 0) == len(model)
        if stored:
            store.write(view.take())
            check_store(store, registers)
            view = View(store, registers)
    record = view.record(0, b"k", NOW_MS)
    assert record is not None
    assert string_length(record) == len(model)
    assert expire_of(record) == NOW_MS + 9
    assert string_value(view, record) == bytes(model)
    start = data.draw(st.integers(0, len(model)))
    stop = data.draw(st.integers(start, len(model)))
    assert string_range(view, record, start, stop) == bytes(model[start:stop])
    view.put(0, b"k", None)
    store.write(view.take())
    check_store(store, registers)
    assert not [key for key in store.data if key[:1] == b"s"]


def test_a_change_within_a_large_string_touches_one_chunk() -> None:
    view, store, registers = fresh()
    put_string(view, 0, b"k", b"x" * 1_000_000, 0)
    store.write(view.take())
    view = View(store, registers)
    store.reads = 0
    record = view.record(0, b"k", NOW_MS)
    assert record is not None
    overwrite(view, 0, b"k", record, 500_000, b"abc", 0)
    effects = view.take()
    assert store.reads == 2
    assert len([key for key in effects if key[:1] == b"s"]) == 1
    store.write(effects)
    store.reads = 0
    record = View(store, registers).record(0, b"k", NOW_MS)
    assert record is not None
    assert string_range(View(store, registers), record, 499_999, 500_004) == b"xabcx"
    assert store.reads == 2


def test_a_write_far_behind_the_end_costs_one_chunk_and_reads_as_zero_bytes() -> None:
    view, store, _ = fresh()
    assert overwrite(view, 0, b"k", None, 500_000_000, b"end", 0) == 500_000_003
    effects = view.take()
    assert len([key for key in effects if key[:1] == b"s"]) == 1
    store.write(effects)
    record = view.record(0, b"k", NOW_MS)
    assert record is not None
    assert string_range(view, record, 499_999_998, 500_000_003) == b"\0\0end"
    assert string_range(view, record, 100, 105) == bytes(5)


def test_a_copy_has_content_of_its_own_and_keeps_holes() -> None:
    view, store, registers = fresh()
    overwrite(view, 0, b"k", None, 500_000_000, b"end", 0)
    record = view.record(0, b"k", NOW_MS)
    assert record is not None
    store.write(view.take())
    copy_string(view, record, 1, b"copy", NOW_MS + 5, 0)
    effects = view.take()
    assert len([key for key in effects if key[:1] == b"s"]) == 1
    store.write(effects)
    check_store(store, registers)
    overwrite(view, 0, b"k", record, 500_000_000, b"xyz", 0)
    store.write(view.take())
    copied = view.record(1, b"copy", NOW_MS)
    assert copied is not None
    assert string_length(copied) == 500_000_003
    assert expire_of(copied) == NOW_MS + 5
    assert string_range(view, copied, 499_999_999, 500_000_003) == b"\0end"


def test_other_types_are_refused() -> None:
    view, _, _ = fresh()
    record = pack_header(HASH | SEPARATE, 0, view.next_id(), 0) + separate_body(view.next_id(), 3)
    for call in (
        lambda: string_value(view, record),
        lambda: string_length(record),
        lambda: string_range(view, record, 0, 1),
        lambda: overwrite(view, 0, b"k", record, 0, b"x", 0),
        lambda: copy_string(view, record, 0, b"k", 0, 0),
    ):
        with pytest.raises(WrongType):
            call()


def test_a_chunk_that_is_too_long_is_noticed() -> None:
    view, store, _ = fresh()
    put_string(view, 0, b"k", b"x" * 100_000, 0)
    store.write(view.take())
    record = view.record(0, b"k", NOW_MS)
    assert record is not None
    [name] = [key for key in store.data if key[:1] == b"s" and key.endswith(b"\0\0\0\1")]
    assert name == chunk_key(int.from_bytes(name[1:9], "big"), 1)
    store.write({name: b"x" * (CHUNK_BYTES + 1)})
    with pytest.raises(StateDamaged):
        string_value(view, record)
