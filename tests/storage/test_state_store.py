"""The state store: reads, ordered iteration, frozen points in time, flush and what it promises."""

from __future__ import annotations

import gc
import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.storage.conftest import OPTIONS, SMALL_MEMTABLES, changes
from tests.storage.crashes import copy_live
from zattredis.errors import InvariantViolated, StateDamaged, StorageFailed, WriteStalled
from zattredis.storage.large_writes import STAGED
from zattredis.storage.rocks import StoreOptions
from zattredis.storage.state_store import (
    APPLIED_KEY,
    MEMBERSHIP_KEY,
    Applied,
    StateStore,
    decode_applied,
    encode_applied,
)

KEYS = [b"k%03d" % i for i in range(100)]


@pytest.fixture
def filled(state: StateStore) -> StateStore:
    state.write({**dict.fromkeys(KEYS, b"v"), **changes(1)})
    return state


def test_a_fresh_state_has_nothing_applied_and_the_membership(state: StateStore) -> None:
    assert state.applied == Applied(0, 0, 0)
    assert state.membership == b"members"
    assert list(state.iterate(b"k", None)) == [
        (APPLIED_KEY, encode_applied(0, 0)),
        (MEMBERSHIP_KEY, b"members"),
    ]


def test_writes_are_read_back_singly_and_many_at_once(filled: StateStore) -> None:
    filled.write(changes(2, k001=b"new", k002=None, k003=b""))
    assert filled.get(b"k001") == b"new"
    assert filled.get(b"k002") is None
    assert filled.get(b"k003") == b""
    for count in (0, 1, 3, 7, 8, 50):
        keys = [b"k002", *KEYS[3 : 3 + count]]
        assert filled.multi_get(keys) == [filled.get(key) for key in keys]


def test_a_write_without_the_applied_record_is_refused(state: StateStore) -> None:
    with pytest.raises(InvariantViolated):
        state.write({b"a": b"b"})
    assert state.get(b"a") is None


@pytest.mark.parametrize("flushed", [False, True])
@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("reverse", [False, True])
def test_bounds_are_lower_included_upper_excluded(
    filled: StateStore, flushed: bool, frozen: bool, reverse: bool
) -> None:
    if flushed:
        filled.flush()
    everything = sorted([*KEYS, APPLIED_KEY, MEMBERSHIP_KEY])
    reader = filled.frozen() if frozen else filled
    for lower in (b"", b"k000", b"k0005", b"k050", b"m", b"z"):
        for upper in (b"", b"k000", b"k001", b"k0505", b"k099", b"mb", b"zz", None):
            expected = [key for key in everything if lower <= key and (upper is None or key < upper)]
            found = [key for key, _ in reader.iterate(lower, upper, reverse)]
            assert found == (expected[::-1] if reverse else expected), (lower, upper)


def test_an_iteration_shows_the_time_of_its_call(filled: StateStore) -> None:
    iteration = filled.iterate(b"k", b"l")
    filled.write(changes(2, k000=b"later", k050=None, k0505=b"later"))
    assert list(iteration) == [(key, b"v") for key in KEYS]


def test_an_iteration_that_is_given_up_holds_nothing(filled: StateStore) -> None:
    """Nor does it wait for the collector of cycles: what it holds are whole memtables."""
    gc.disable()
    try:
        found = filled.iterate(b"", None)
        next(found)
        assert len(filled._points) == 1
        del found
        assert not filled._points
        frozen = filled.frozen()
        next(frozen.iterate(b"", None))
        frozen.close()
        del frozen
        assert not filled._points
    finally:
        gc.enable()


def test_a_frozen_reader_shows_one_point_in_time_whatever_is_written_later(filled: StateStore) -> None:
    with filled.frozen() as frozen:
        filled.write(changes(2, k000=b"later", k050=None, k0505=b"later"))
        filled.flush()
        filled.write(changes(3, k001=b"later still"))
        assert frozen.get(b"k000") == b"v"
        assert frozen.get(b"k0505") is None
        assert frozen.multi_get([b"k050", b"k0505", b"k001"]) == [b"v", None, b"v"]
        assert list(frozen.iterate(b"k", b"l")) == [(key, b"v") for key in KEYS]
        assert decode_applied(frozen.get(APPLIED_KEY)) == Applied(1, 1)
    assert filled.get(b"k000") == b"later"


def test_iterations_of_a_frozen_reader_do_not_disturb_each_other(filled: StateStore) -> None:
    with filled.frozen() as frozen:
        up, down = frozen.iterate(b"k", b"l"), frozen.iterate(b"k", b"l", reverse=True)
        other = frozen.iterate(b"k05", b"k06")
        pairs = []
        for number in range(100):
            pairs.append((next(up)[0], next(down)[0]))
            if number % 10 == 0:
                assert next(other)[0].startswith(b"k05")
                assert frozen.get(b"k010") == b"v"
        assert pairs == list(zip(KEYS, reversed(KEYS), strict=True))
        assert next(up, None) is None
        assert next(down, None) is None


def test_a_frozen_reader_can_be_shared_and_each_share_is_closed_on_its_own(filled: StateStore) -> None:
    first = filled.frozen()
    second = first.frozen()
    filled.write(changes(2, k000=b"later"))
    first.close()
    first.close()
    assert second.get(b"k000") == b"v"
    assert len(list(second.iterate(b"k", b"l"))) == 100
    with pytest.raises(StorageFailed, match="closed"):
        first.get(b"k000")
    second.close()
    with pytest.raises(StorageFailed, match="closed"):
        second.iterate(b"k", None)


def test_closing_the_store_ends_all_readers_and_gives_up_the_lock(filled: StateStore) -> None:
    """rocksdict would keep the database open, and its lock held, as long as any of these lives."""
    frozen = filled.frozen()
    unstarted, started = filled.iterate(b"k", None), filled.iterate(b"k", None)
    inside = frozen.iterate(b"k", None)
    next(started), next(inside)
    filled.close()
    again = StateStore.open(filled.path, options=OPTIONS)
    assert again.applied == Applied(1, 1)
    for reader in (unstarted, started, inside):
        with pytest.raises(StorageFailed, match="closed"):
            list(reader)
    for call in (filled.get, frozen.get):
        with pytest.raises(StorageFailed, match="closed"):
            call(b"k000")
    with pytest.raises(StorageFailed, match="closed"):
        filled.write(changes(2))
    again.close()


def test_closing_waits_for_a_flush_on_another_thread(filled: StateStore) -> None:
    """rocksdict would refuse ("Already borrowed"), and a node that installs a snapshot would stop."""
    begun = threading.Event()
    outcomes: list[str] = []

    def flush_until_closed() -> None:
        try:
            while True:
                begun.set()
                filled.flush()
        except StorageFailed as error:
            outcomes.append(str(error))

    thread = threading.Thread(target=flush_until_closed)
    thread.start()
    begun.wait(10)
    filled.close()
    thread.join()
    assert outcomes == [f"the state in {filled.path} is closed"]


def test_what_was_flushed_survives_and_flush_names_it(filled: StateStore, tmp_path: Path) -> None:
    filled.write(changes(7, k000=b"seven"))
    assert filled.flush() == Applied(7, 1)
    filled.write(changes(8, k000=b"eight"))
    image = shutil.copytree(filled.path, tmp_path / "image")
    again = StateStore.open(image, options=OPTIONS)
    assert again.applied == Applied(7, 1)
    assert again.get(b"k000") == b"seven"
    again.close()


def test_any_crash_leaves_a_prefix_of_the_writes(tmp_path: Path) -> None:
    """Small memtables flush by themselves; an image at any time holds effects and applied record of the same write."""
    store = StateStore.create(tmp_path / "state", membership=b"m", options=SMALL_MEMTABLES)
    seen = set()
    for number in range(1, 400):
        value = b"%06d" % number
        store.write({b"k%d" % (number % 50): value + bytes(900), b"k-last": value, **changes(number)})
        if number % 40 == 0:
            image = copy_live(store, store.path, tmp_path / f"image-{number}")
            again = StateStore.open(image, options=SMALL_MEMTABLES)
            applied = again.applied.index
            assert again.get(b"k-last") == (b"%06d" % applied if applied else None)
            assert (again.get(b"k%d" % (applied % 50)) or b"000000").startswith(b"%06d" % applied)
            seen.add(applied)
            again.close()
    store.close()
    assert len(seen) > 5


def write_until_refused(store: StateStore) -> None:
    for number in range(1, 1000):
        store.write({b"big": bytes(10_000), **changes(number)})


def test_a_stall_is_told_and_nothing_is_written(tmp_path: Path) -> None:
    store = StateStore.create(tmp_path / "state", membership=b"m", options=SMALL_MEMTABLES)
    # RocksDB stops writers as soon as it has one file too many in level 0.
    store._database.set_options(  # type: ignore[union-attr]
        {
            "level0_stop_writes_trigger": "1",
            "level0_slowdown_writes_trigger": "1",
            "level0_file_num_compaction_trigger": "1",
            "disable_auto_compactions": "true",
        }
    )
    store.flush()
    with pytest.raises(WriteStalled):
        write_until_refused(store)
    applied = store.applied.index
    store._database.set_options(  # type: ignore[union-attr]
        {"level0_stop_writes_trigger": "36", "level0_slowdown_writes_trigger": "20"}
    )
    repeat_until_written(store, {b"after": b"it", **changes(applied + 1)})
    assert store.applied.index == applied + 1
    store.close()


def repeat_until_written(store: StateStore, values: dict[bytes, bytes | None]) -> None:
    for _ in range(100):
        try:
            store.write(values)
        except WriteStalled:
            store.flush()
        else:
            return
    pytest.fail("the stall did not end")


def test_a_damaged_file_never_ends_an_iteration_early(filled: StateStore) -> None:
    values = {b"k%05d" % i: b"%05d" % i * 40 for i in range(6000)}
    filled.write({**values, **changes(2)})
    filled.close()
    table = max(filled.path.glob("*.sst"), key=lambda p: p.stat().st_size)
    content = bytearray(table.read_bytes())
    content[len(content) // 2] ^= 1
    table.write_bytes(content)
    store = StateStore.open(filled.path, options=OPTIONS)
    with pytest.raises(StateDamaged, match="checksum"):
        list(store.iterate(b"k", None))
    with pytest.raises(StateDamaged), store.frozen() as frozen:
        list(frozen.iterate(b"k", None, reverse=True))
    damaged = [key for key in values if _is_damaged(store, key)]
    assert 8 < len(damaged) < 2000
    with pytest.raises(StateDamaged):
        store.multi_get(damaged[:20])
    with pytest.raises(StateDamaged), store.frozen() as frozen:
        frozen.get(damaged[0])
    store.close()


def _is_damaged(store: StateStore, key: bytes) -> bool:
    try:
        store.get(key)
    except StateDamaged:
        return True
    return False


def test_a_missing_state_is_damage_and_is_not_created(tmp_path: Path) -> None:
    with pytest.raises(StateDamaged, match="no database"):
        StateStore.open(tmp_path / "state-0", options=OPTIONS)
    assert not (tmp_path / "state-0").exists()


def test_a_state_without_a_file_is_damage(filled: StateStore) -> None:
    filled.close()
    next(filled.path.glob("*.sst")).unlink()
    with pytest.raises(StateDamaged) as caught:
        StateStore.open(filled.path, options=OPTIONS)
    assert "\n" not in str(caught.value)


def test_an_applied_record_must_be_one() -> None:
    assert decode_applied(encode_applied(5, 2, 3)) == Applied(5, 2, 3)
    for raw in (None, b"", b"x" * 23):
        with pytest.raises(StateDamaged):
            decode_applied(raw)


def test_options_are_those_given_at_every_opening(filled: StateStore) -> None:
    """Without care rocksdict takes the column family's options from the last opening."""
    filled.close()
    store = StateStore.open(filled.path, options=StoreOptions(cache_bytes=1 << 20, state_memtable_bytes=3 << 20))
    newest = max(filled.path.glob("OPTIONS-*"), key=lambda p: int(p.name.split("-")[1]))
    assert "\n  write_buffer_size=524288\n" in newest.read_text()
    assert "\n  min_write_buffer_number_to_merge=6\n" in newest.read_text()
    store.close()


def test_figures_for_info(filled: StateStore) -> None:
    figures = filled.properties()
    assert figures["estimate-num-keys"] >= 100
    assert figures["background-errors"] == 0
    assert filled.property_int("rocksdb.no-such-thing") is None


ANY_KEYS = st.binary(max_size=3).filter(lambda key: not key.startswith(STAGED))
"""Pieces of large writes that nobody decided are removed when a state is opened."""


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("write"), st.dictionaries(ANY_KEYS, st.none() | st.binary(max_size=5))),
            st.tuples(st.sampled_from(["flush", "freeze", "thaw", "reopen"]), st.just(None)),
        ),
        max_size=25,
    ),
    st.binary(max_size=3),
    st.none() | st.binary(max_size=3),
    st.booleans(),
)
@settings(max_examples=40, deadline=None)
def test_the_store_is_a_sorted_dict_and_its_frozen_past(
    scratch: Callable[[], Path],
    steps: list[tuple[str, dict[bytes, bytes | None] | None]],
    lower: bytes,
    upper: bytes | None,
    reverse: bool,
) -> None:
    store = StateStore.create(scratch() / "state", membership=b"m", options=OPTIONS)
    model: dict[bytes, bytes] = {APPLIED_KEY: encode_applied(0, 0), MEMBERSHIP_KEY: b"m"}
    frozen = []
    for number, (kind, values) in enumerate(steps):
        if values is not None:
            batch = {**values, APPLIED_KEY: encode_applied(number, 1)}
            store.write(batch)
            model = {k: v for k, v in {**model, **batch}.items() if v is not None}
        elif kind == "flush":
            store.flush()
        elif kind == "freeze":
            frozen.append((store.frozen(), dict(model)))
        elif kind == "thaw" and frozen:
            frozen.pop(0)[0].close()
        elif kind == "reopen":
            frozen.clear()
            store.close()
            store = StateStore.open(store.path, options=OPTIONS)
    for reader, expected in [(store, model), *frozen]:
        inside = sorted(k for k in expected if lower <= k and (upper is None or k < upper))
        found = list(reader.iterate(lower, upper, reverse))
        assert found == [(k, expected[k]) for k in (inside[::-1] if reverse else inside)]
        keys = [*expected, b"absent", lower]
        assert reader.multi_get(keys) == [expected.get(k) for k in keys]
    store.close()
    shutil.rmtree(store.path)
