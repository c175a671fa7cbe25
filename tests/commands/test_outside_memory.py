"""What a long STORE has to put in order goes through the store, and leaves the very bytes of one that held it all."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path
from types import GeneratorType
from typing import Any

import pytest

from tests.support.memory_store import MemoryStore
from zattredis.commands import geo, sort, sorted_set_algebra
from zattredis.commands.context import Context, Stream
from zattredis.commands.table import COMMANDS
from zattredis.errors import ReplyError, StateDamaged, StorageFailed
from zattredis.keyspace import sorting, spilling, zsets
from zattredis.keyspace.keys import s_prefix
from zattredis.keyspace.lists import put_list
from zattredis.keyspace.registers import Registers
from zattredis.keyspace.sets import put_set
from zattredis.keyspace.spilling import Changes, LongReadView, SpillingView, TooLarge
from zattredis.keyspace.view import View
from zattredis.keyspace.zsets import put_zset
from zattredis.storage.spool import Spool

NOW_MS = 1_700_000_000_000
HELD = 64
PIECE = 32
SCRATCH = s_prefix((1 << 64) - 1)


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (zsets, sorted_set_algebra, geo, sorting):
        monkeypatch.setattr(module, "HELD_MAX", HELD)
    monkeypatch.setattr(spilling, "PIECE_KEYS", PIECE)
    monkeypatch.setattr(spilling, "RUN_ROWS", 50)
    monkeypatch.setattr(spilling, "READ_RUN_ROWS", 30)
    monkeypatch.setattr(spilling, "PAGE_ROWS", 8)


def filled() -> MemoryStore:
    """Return a store with collections of each type that the commands take."""
    draws = random.Random(11)
    store = MemoryStore()
    view = View(store, Registers.load(store))
    # Zero bytes and 255s in members, both zeros and infinities as scores, and many equal scores.
    scores = [-0.0, 0.0, float("inf"), float("-inf"), 1.5, -2.25, *map(float, range(-20, 20))]
    words = [draws.choice((b"", b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", b"\0", b"\0\1", b"m")) + b"%d" % n
             for n in range(900)]  # fmt: skip
    for name in (b"a", b"b", b"c"):
        put_zset(view, 0, name, [(word, draws.choice(scores)) for word in draws.sample(words, 600)], 7)
    put_set(view, 0, b"set", draws.sample(words, 500), 7)
    put_list(view, 0, b"numbers", [b"%d" % draws.randint(-300, 300) for _ in range(700)], 7)
    put_list(view, 0, b"texts", [draws.choice(words) for _ in range(700)], 7)
    put_list(view, 0, b"mixed", [*(b"%d" % n for n in range(300)), b"no number"], 7)
    for number in range(-300, 300, 3):
        view.set_plain(0, b"w%d" % number, b"%d" % draws.randint(0, 9), 7)
        view.set_plain(0, b"t%d" % number, draws.choice(words), 7)
    add = COMMANDS[b"GEOADD"].handler
    places = [
        word for n in range(600)
        for word in (b"%f" % draws.uniform(-180, 180), b"%f" % draws.uniform(-85, 85), b"p%d" % n)
    ]  # fmt: skip
    add(Context(view, 0, NOW_MS), b"places", *places, *(b"10 10 one 10 10 two 10 10 three".split()))
    store.write(view.take())
    return store


def carried_out(words: list[bytes], outside: bool) -> tuple[dict[bytes, bytes], Any, int, bool]:
    """Return what is stored afterwards, the reply, what the command is reckoned to have written, and whether it went
    through the store."""
    store = filled()
    scratched: list[bytes] = []

    def write_ahead(changes: Changes) -> None:
        assert len(changes) <= 129  # pages of 1024 rows that came at once
        scratched.extend(name for name in changes if name.startswith(SCRATCH))
        store.write(dict(changes))

    registers = Registers.load(store)
    view = SpillingView(store, registers, write_ahead, lambda: None) if outside else View(store, registers)
    spec = COMMANDS[words[0]]
    view.begin()
    try:
        reply = spec.handler(Context(view, 0, NOW_MS), *words[1:])
    except ReplyError as error:
        view.rollback()
        reply = error.message
    else:
        view.commit()
    effect_bytes = view.effect_bytes
    store.write(view.take())
    return store.data, reply, effect_bytes, bool(scratched)


THROUGH_THE_STORE = [
    "ZUNIONSTORE to 3 a b c", "ZUNIONSTORE to 4 a b c set WEIGHTS 2 -1 0.5 3", "ZUNIONSTORE a 2 a b AGGREGATE MIN",
    "ZUNIONSTORE to 2 set c AGGREGATE MAX", "ZUNIONSTORE to 1 a WEIGHTS inf", "ZINTERSTORE to 2 a b",
    "ZINTERSTORE b 2 b b", "ZDIFFSTORE to 2 a b", "ZDIFFSTORE a 1 a",
    "GEOSEARCHSTORE to places FROMLONLAT 10 10 BYRADIUS 9000 km",
    "GEOSEARCHSTORE to places FROMMEMBER p5 BYRADIUS 30000 km",
    "GEOSEARCHSTORE to places FROMLONLAT 10 10 BYBOX 20000 15000 km STOREDIST",
    "GEOSEARCHSTORE to places FROMLONLAT 0 0 BYRADIUS 30000 km COUNT 200",
    "GEOSEARCHSTORE to places FROMLONLAT 0 0 BYRADIUS 30000 km COUNT 65 DESC STOREDIST",
    "GEOSEARCHSTORE to places FROMLONLAT 10 10 BYRADIUS 30000 km COUNT 300 ANY",
    "GEORADIUS places 10 10 30000 km STORE places", "GEORADIUS places 10 10 30000 km COUNT 9000000000 STOREDIST to",
    "SORT numbers STORE to", "SORT numbers DESC STORE numbers", "SORT numbers BY w* STORE to",
    "SORT numbers BY w* DESC LIMIT 30 400 STORE to", "SORT numbers ALPHA STORE to", "SORT texts ALPHA DESC STORE to",
    "SORT numbers BY t* ALPHA STORE to", "SORT numbers BY t* ALPHA DESC GET # GET w* GET t* STORE to",
    "SORT set ALPHA STORE to", "SORT set BY none STORE to", "SORT numbers LIMIT 5 1 STORE to",
]  # fmt: skip


@pytest.mark.parametrize("line", THROUGH_THE_STORE)
def test_the_same_to_the_byte(line: str) -> None:
    words = [word.encode() for word in line.split()]
    data, reply, effect_bytes, scratched = carried_out(words, outside=False)
    assert not scratched
    assert data != filled().data
    assert carried_out(words, outside=True) == (data, reply, effect_bytes, True)


@pytest.mark.parametrize(
    "line",
    ["ZRANGESTORE to a 0 -1", "ZRANGESTORE a a (5 -inf BYSCORE REV LIMIT 3 400", "ZRANGESTORE to a 100 500 REV",
     "ZUNIONSTORE to 1 none", "ZINTERSTORE to 2 a none", "ZRANGESTORE to a 3 20", "SORT none STORE to",
     "GEOSEARCHSTORE to places FROMLONLAT 10 10 BYRADIUS 1 m", "SORT numbers BY nosort STORE to"],
)  # fmt: skip
def test_what_is_in_order_or_little_needs_no_detour(line: str) -> None:
    words = [word.encode() for word in line.split()]
    assert carried_out(words, outside=True) == carried_out(words, outside=False)


@pytest.mark.parametrize("line", ["SORT mixed STORE to", "ZUNIONSTORE to 2 a numbers"])
def test_a_command_that_fails_leaves_nothing(line: str) -> None:
    words = [word.encode() for word in line.split()]
    data, reply, *_ = carried_out(words, outside=True)
    assert data == filled().data
    assert reply == carried_out(words, outside=False)[1]


@pytest.mark.parametrize("line", [THROUGH_THE_STORE[0], "ZINTERSTORE to 2 a b", "ZRANGESTORE to a 0 -1"])
@pytest.mark.parametrize("module", [zsets, spilling])
def test_what_would_be_too_large_is_refused_before_it_is_written(
    line: str, module: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "EFFECT_BYTES_MAX", 2000)
    words = [word.encode() for word in line.split()]
    data, reply, *_ = carried_out(words, outside=True)
    if module is spilling or "RANGE" not in line:
        assert reply == TooLarge().message
        assert data == filled().data
    else:
        assert reply == carried_out(words, outside=False)[1]


def test_long_members_count_by_their_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zsets, "HELD_MAX", 1 << 30)
    monkeypatch.setattr(zsets, "HELD_BYTES_MAX", 1000)
    words = [b"ZDIFFSTORE", b"to", b"2", b"a", b"b"]
    assert carried_out(words, outside=True)[3]


def long_view(store: MemoryStore, pieces: list[Changes]) -> SpillingView:
    def write_ahead(changes: Changes) -> None:
        pieces.append(changes)
        store.write(dict(changes))

    view = SpillingView(store, Registers.load(store), write_ahead, lambda: None)
    view.begin()
    return view


@pytest.mark.parametrize("reverse", [False, True])
def test_scratch(reverse: bool) -> None:
    store = MemoryStore()
    view = long_view(store, [])
    one, other = view.scratch(tuple[float, bytes]), view.scratch(tuple[bytes, int])
    assert one is not None
    assert other is not None
    draws = random.Random(3)
    rows = [(draws.choice((-0.0, 0.0, 1e308, float("-inf"))), draws.randbytes(4)) for _ in range(777)]
    for start in range(0, len(rows), 10):
        one.put(rows[start : start + 10], 40)
        other.put([(b"of the other", start)] * 10, 120)
    assert list(one.drain(reverse)) == sorted(rows, reverse=reverse)
    assert next(other.drain(reverse)) == (b"of the other", 770 if reverse else 0)
    assert store.data
    view.commit()
    assert store.data == {}


def test_long_rows_are_written_in_bounded_pieces() -> None:
    pieces: list[Changes] = []
    store = MemoryStore()
    view = long_view(store, pieces)
    scratch = view.scratch(tuple[bytes, int])
    assert scratch is not None
    rows = [(bytes(100_000), number) for number in range(300)]
    for row in rows:
        scratch.put([row], 100_000)
    sizes = [sum(len(value or b"") for value in piece.values()) for piece in pieces]
    assert len(sizes) > 20
    assert max(sizes) < 2 * spilling.PIECE_BYTES
    assert list(scratch.drain()) == rows


def test_rows_that_are_gone_are_damage() -> None:
    store = MemoryStore()
    scratch = long_view(store, []).scratch(tuple[int])
    assert scratch is not None
    scratch.put([(number,) for number in range(100)], 0)
    store.write(dict.fromkeys(list(store.data)))
    with pytest.raises(StateDamaged):
        list(scratch.drain())


def test_there_is_no_scratch_where_a_part_may_be_undone() -> None:
    view = long_view(MemoryStore(), [])
    view.savepoint()
    assert view.scratch(tuple[int]) is None
    view.begin()
    assert view.scratch(tuple[int]) is not None


READS = [
    "ZUNION 3 a b c WITHSCORES", "ZUNION 4 a b c set WEIGHTS 2 -1 0.5 3", "ZUNION 2 a b AGGREGATE MAX WITHSCORES",
    "ZINTER 2 a b WITHSCORES", "ZINTER 1 a", "ZDIFF 2 a b WITHSCORES", "ZDIFF 1 a",
    "SORT numbers", "SORT numbers DESC LIMIT 30 400", "SORT texts ALPHA", "SORT texts ALPHA DESC",
    "SORT numbers BY w* DESC", "SORT_RO numbers BY t* ALPHA GET # GET w*", "SORT_RO set ALPHA LIMIT 5 1",
    "GEOSEARCH places FROMLONLAT 10 10 BYRADIUS 30000 km ASC WITHDIST",
    "GEOSEARCH places FROMMEMBER p5 BYRADIUS 30000 km", "GEORADIUS_RO places 10 10 20000 km COUNT 90",
    "GEOSEARCH places FROMLONLAT 10 10 BYBOX 20000 15000 km DESC COUNT 100 WITHCOORD WITHHASH",
    "GEOSEARCH places FROMLONLAT 0 0 BYRADIUS 30000 km COUNT 200 ANY DESC",
    "GEOSEARCH places FROMLONLAT 0 0 BYRADIUS 30000 km COUNT 200 ANY WITHDIST",
]  # fmt: skip


def read_out(view: View, words: list[bytes]) -> tuple[Any, int]:
    """Return the elements of a reply, and how many were announced."""
    spec = COMMANDS[words[0]]
    steps = spec.handler(Context(view, 0, NOW_MS), *words[1:])
    assert isinstance(steps, GeneratorType)
    elements: list[Any] = []
    announced = -1

    def pieces() -> Iterator[Any]:
        elements.extend((yield from steps) or ())

    for piece in pieces():
        if isinstance(piece, Stream):
            announced = piece.count
        else:
            elements.extend(piece or ())
    return elements, announced


@pytest.mark.parametrize("room", [True, False])
@pytest.mark.parametrize("line", READS)
def test_a_long_read_says_the_same(line: str, room: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (sorted_set_algebra, geo, sort):
        monkeypatch.setattr(module, "SLICED_ELEMENTS", 0)
    words = [word.encode() for word in line.split()]
    store = filled()
    expected, count = read_out(View(store, Registers.load(store)), words)
    assert count == len(expected)
    for module in (sorted_set_algebra, geo, sort):
        monkeypatch.setattr(module, "SLICED_ELEMENTS", 1 << 30)
    at_once = COMMANDS[words[0]].handler(Context(View(store, Registers.load(store)), 0, NOW_MS), *words[1:])
    assert str(getattr(at_once, "pairs", at_once)) == str(expected)
    for module in (sorted_set_algebra, geo, sort):
        monkeypatch.setattr(module, "SLICED_ELEMENTS", 0)
    spools: list[Spool] = []

    def new_spool() -> Spool:
        spools.append(Spool(tmp_path, lambda: room))
        return spools[-1]

    view = LongReadView(store, Registers.load(store), new_spool)
    assert read_out(view, words) == (expected, count)
    [spool] = spools
    assert (spool._size > 0) is room
    assert spool._held or room
    view.close()
    assert not spool._held
    assert spool._file is None
    assert os.listdir(tmp_path) == []


def test_a_spool_whose_directory_is_gone_holds_what_it_is_given(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "none", lambda: True)
    spool.write({b"a": b"1", b"b": b"2"})
    spool.write({b"a": None, b"b": b"3"})
    assert (spool.get(b"a"), spool.get(b"b")) == (None, b"3")


def test_a_spool_that_is_cut_short_is_damage(tmp_path: Path) -> None:
    spool = Spool(tmp_path, lambda: True)
    spool.write({b"a": b"12345"})
    assert spool.get(b"a") == b"12345"
    assert spool._file is not None
    os.ftruncate(spool._file.fileno(), 3)
    with pytest.raises(StorageFailed, match="cut short"):
        spool.get(b"a")
    spool.close()
