"""SCAN's guarantees and RANDOMKEY's fairness, over the walk itself."""

from __future__ import annotations

from collections import Counter
from zlib import crc32

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.memory_store import MemoryStore
from zattredis.keyspace import scan
from zattredis.keyspace.keys import hash_slot
from zattredis.keyspace.random import SeededRandom
from zattredis.keyspace.registers import Registers
from zattredis.keyspace.scan import live_keys, random_key, scan_window
from zattredis.keyspace.strings import put_string
from zattredis.keyspace.view import View

NOW_MS = 1_000_000


def view_of(keys: list[bytes], expired: list[bytes] | None = None) -> View:
    store = MemoryStore()
    view = View(store, Registers.load(store))
    for key in keys:
        view.set_plain(0, key, b"v", 0)
    for key in expired or []:
        put_string(view, 0, key, b"v", 0, NOW_MS - 1)
    store.write(view.take())
    return View(store, view.registers)


def whole_scan(view: View, count: int) -> list[bytes]:
    found: list[bytes] = []
    cursor, calls = 0, 0
    while True:
        cursor, pairs = scan_window(view, 0, cursor, count, NOW_MS)
        found += [key for key, _ in pairs]
        calls += 1
        assert calls < 100_000
        if cursor == 0:
            return found


@settings(max_examples=60, deadline=None)
@given(st.sets(st.binary(max_size=6), max_size=60), st.integers(1, 70), st.sets(st.binary(max_size=3), max_size=10))
def test_a_whole_scan_returns_every_key_once(keys: set[bytes], count: int, expired: set[bytes]) -> None:
    view = view_of(sorted(keys - expired), sorted(expired))
    assert sorted(whole_scan(view, count)) == sorted(keys - expired)
    assert sorted(key for key in live_keys(view, 0, NOW_MS) if key is not None) == sorted(keys - expired)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_keys_that_live_throughout_are_returned_whatever_else_changes(data: st.DataObject) -> None:
    constant = data.draw(st.sets(st.binary(max_size=4), min_size=1, max_size=30))
    view = view_of(sorted(constant))
    found: list[bytes] = []
    cursor = 0
    while True:
        cursor, pairs = scan_window(view, 0, cursor, data.draw(st.integers(1, 5)), NOW_MS)
        found += [key for key, _ in pairs]
        if cursor == 0:
            break
        for key in data.draw(st.lists(st.binary(max_size=4), max_size=3)):
            if key not in constant:
                if data.draw(st.booleans()):
                    view.set_plain(0, key, b"v", 0)
                else:
                    view.delete(0, key, NOW_MS)
    assert constant <= set(found)
    assert max(Counter(key for key in found if key in constant).values()) == 1


def test_keys_of_one_position_come_together() -> None:
    same = colliding_pair(b"{t}")
    assert len({(hash_slot(key), crc32(key)) for key in same}) == 1
    view = view_of([*same, b"other1", b"other2"])
    found: list[bytes] = []
    cursor = 0
    while True:
        cursor, pairs = scan_window(view, 0, cursor, 1, NOW_MS)
        keys = [key for key, _ in pairs]
        assert not set(keys) & set(same) or set(same) <= set(keys)
        found += keys
        if cursor == 0:
            break
    assert sorted(found) == sorted([*same, b"other1", b"other2"])


def colliding_pair(tag: bytes) -> list[bytes]:
    """Two keys of one tag with one CRC-32: the second ends in four bytes that undo the difference."""
    first = tag + b"first" + bytes(4)
    start = tag + b"other"
    wanted = crc32(first)
    columns = {}
    base = crc32(start + bytes(4))
    for bit in range(32):
        columns[bit] = crc32(start + (1 << bit).to_bytes(4, "little")) ^ base
    chosen, difference = 0, wanted ^ base
    rows = [(columns[bit], 1 << bit) for bit in range(32)]
    for place in range(32):
        pivot = next(index for index in range(place, 32) if rows[index][0] >> (31 - place) & 1)
        rows[place], rows[pivot] = rows[pivot], rows[place]
        for index in range(32):
            if index != place and rows[index][0] >> (31 - place) & 1:
                rows[index] = (rows[index][0] ^ rows[place][0], rows[index][1] ^ rows[place][1])
    for place in range(32):
        if difference >> (31 - place) & 1:
            chosen ^= rows[place][1]
    return [first, start + chosen.to_bytes(4, "little")]


def test_windows_are_bounded() -> None:
    view = view_of([b"k%d" % number for number in range(200)])
    cursor, pairs = scan_window(view, 0, 0, 10**12, NOW_MS)
    assert cursor == 0
    assert len(pairs) == 200
    big = view_of([])
    for number in range(200):
        put_string(big, 0, b"k%d" % number, b"v" * 60_000, 0)
    cursor, pairs = scan_window(big, 0, 0, 1000, NOW_MS)
    assert cursor != 0
    assert sum(len(record) for _, record in pairs) <= scan.WINDOW_BYTES_MAX + 61_000
    assert len(whole_scan(big, 1000)) == 200


def test_a_cursor_beyond_the_end_is_the_end() -> None:
    view = view_of([b"a", b"b"])
    for cursor in (1 << 48, (1 << 64) - 1, (1 << 48) - 1):
        assert scan_window(view, 0, cursor, 10, NOW_MS) == (0, [])


def test_a_random_key_is_drawn_evenly() -> None:
    random = SeededRandom(7, 0)
    for size, draws, low in ((5, 2000, 300), (1000, 5000, 0)):
        keys = [b"k%d" % number for number in range(size)]
        view = view_of(keys, expired=[b"gone"])
        drawn = Counter(random_key(view, 0, NOW_MS, random) for _ in range(draws))
        assert set(drawn) <= set(keys)
        assert min(drawn[key] for key in keys[:5]) >= low
        assert len(drawn) > size * 0.9
        assert max(drawn.values()) < draws / size * 8
    assert random_key(view_of([]), 0, NOW_MS, random) is None
    assert random_key(view_of([], expired=[b"gone"]), 0, NOW_MS, random) is None
