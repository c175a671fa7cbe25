"""Several ZADDs or pops carried out together leave the very bytes and replies of one after the other."""

from __future__ import annotations

import random
from typing import Any

import pytest

from tests.support.memory_store import MemoryStore
from zattredis.commands import sorted_sets
from zattredis.commands.context import Context
from zattredis.commands.table import COMMANDS
from zattredis.keyspace.record_cache import RecordCache
from zattredis.keyspace.registers import Registers
from zattredis.keyspace.view import View
from zattredis.keyspace.zsets import put_zset

ZADD = COMMANDS[b"ZADD"]
NOW_MS = 1_700_000_000_000


def run(argvs: list[list[bytes]], together: bool) -> tuple[dict[bytes, bytes], list[Any] | None]:
    store = MemoryStore()
    registers = Registers.load(store)
    view = View(store, registers)
    put_zset(view, 0, b"z", [(b"m%d" % n, float(n % 50)) for n in range(300)], 7)
    put_zset(view, 0, b"small", [(b"m", 1.0)], 7)
    store.write(view.take())
    view = View(store, registers)
    ctx = Context(view, 0, NOW_MS)
    assert ZADD.many is not None
    replies: list[Any] | None
    if together:
        replies = ZADD.many(ctx, argvs)
    else:
        replies = []
        for argv in argvs:
            view.begin()
            replies.append(ZADD.handler(ctx, *argv[1:]))
            view.commit()
    store.write(view.take())
    return store.data, replies


def test_together_is_one_after_the_other() -> None:
    choice = random.Random(5)
    argvs = []
    for _ in range(400):
        argv = [b"ZADD", b"z"]
        for _ in range(choice.randint(1, 3)):
            argv += [b"%d" % choice.randint(0, 60), b"m%d" % choice.randint(0, 500)]
        argvs.append(argv)
    assert run(argvs, together=True) == run(argvs, together=False)


def test_nothing_changed_writes_nothing() -> None:
    argvs = [[b"ZADD", b"z", b"1", b"m1"], [b"zadd", b"z", b"2", b"m2", b"2", b"m2"]]
    before, _ = run([], together=False)
    assert run(argvs, together=True) == (before, [0, 0])


def test_it_declines_what_it_must_not_do() -> None:
    plain = [b"ZADD", b"z", b"1", b"new"]
    for other in (
        [b"ZADD", b"y", b"1", b"new"], [b"ZADD", b"z", b"NX", b"1", b"new"], [b"ZADD", b"z", b"INCR", b"1", b"new"],
        [b"ZADD", b"z", b"x", b"new"], [b"ZADD", b"z", b"1", b"new", b"2"],
    ):  # fmt: skip
        data, replies = run([plain, other], together=True)
        assert replies is None
        assert data == run([], together=False)[0]
    assert run([[b"ZADD", b"small", b"1", b"a"]] * 2, together=True)[1] is None
    assert run([[b"ZADD", b"none", b"1", b"a"]] * 2, together=True)[1] is None


def carried_out(batches: list[list[list[bytes]]], together: bool, members: int) -> tuple[dict[bytes, bytes], list[Any]]:
    """Return the state and the replies after batches of one command each, every one in a view of its own."""
    store = MemoryStore()
    registers = Registers.load(store)
    view = View(store, registers)
    put_zset(view, 0, b"z", [(b"m%d" % n, float(n % 700)) for n in range(members)], 7)
    store.write(view.take())
    cache = RecordCache(1 << 20)
    replies: list[Any] = []
    taken = 0
    for argvs in batches:
        view = View(store, registers, cache)
        ctx = Context(view, 0, NOW_MS)
        spec = COMMANDS[argvs[0][0]]
        assert spec.many is not None
        found = spec.many(ctx, argvs) if together else None
        taken += found is not None
        if found is None:
            found = []
            for argv in argvs:
                view.begin()
                found.append(spec.handler(ctx, *argv[1:]))
                view.commit()
        replies += found
        store.write(view.take())
    assert taken > len(batches) * 9 // 10 or not together
    return store.data, replies


def test_pages_split_and_join_alike() -> None:
    choice = random.Random(11)

    def added() -> list[bytes]:
        member = b"m%d" % choice.randrange(9000)
        if choice.random() < 0.02:
            member *= choice.randrange(1, 300)
        return [b"ZADD", b"z", b"%d" % choice.randrange(900), member]

    growing = [[added() for _ in range(choice.randint(2, 50))] for _ in range(150)]
    at_ends = [[b"ZPOPMIN", b"z"], [b"ZPOPMAX", b"z"]]
    shrinking = [[at_ends[number % 2]] * 32 for number in range(130)]
    mixed = [choice.choice((growing, shrinking))[number] for number in range(100)]
    batches = [*growing, *mixed, *shrinking]
    assert carried_out(batches, together=True, members=3000) == carried_out(batches, together=False, members=3000)


def test_pops_that_may_empty_a_set_are_not_carried_out_together() -> None:
    store = MemoryStore()
    view = View(store, Registers.load(store))
    put_zset(view, 0, b"z", [(b"m%d" % n, float(n)) for n in range(200)], 7)
    ctx = Context(view, 0, NOW_MS)
    many = COMMANDS[b"ZPOPMIN"].many
    assert many is not None
    assert many(ctx, [[b"ZPOPMIN", b"z"]] * 200) is None
    assert many(ctx, [[b"ZPOPMIN", b"z"], [b"ZPOPMIN", b"y"]]) is None
    assert many(ctx, [[b"ZPOPMIN", b"z"], [b"ZPOPMIN", b"z", b"2"]]) is None
    assert many(ctx, [[b"ZPOPMIN", b"y"]] * 2) is None
    assert many(ctx, [[b"ZPOPMIN", b"z"]] * 2) == [[b"m0", 0.0], [b"m1", 1.0]]


def left_by(argvs: list[list[bytes]], unit: bool) -> tuple[dict[bytes, bytes], list[Any]]:
    """Return the state, and reply and effect bytes of each command, of commands that have many members each."""
    store = MemoryStore()
    registers = Registers.load(store)
    view = View(store, registers)
    put_zset(view, 0, b"z", [(b"m%d" % n, float(n % 700)) for n in range(2000)], 7)
    store.write(view.take())
    replies: list[Any] = []
    view = View(store, registers)
    ctx = Context(view, 0, NOW_MS)
    if unit:
        view.begin_unit()
    for number, argv in enumerate(argvs):
        view.begin()
        before = view.effect_bytes
        replies.append(COMMANDS[argv[0]].handler(ctx, *argv[1:]))
        replies.append(view.effect_bytes - before)
        if number % 5 == 4:
            view.rollback()
        else:
            view.commit()
    if unit:
        view.commit_unit()
    store.write(view.take())
    return store.data, replies


@pytest.mark.parametrize("unit", [False, True])
def test_many_members_of_one_command_leave_what_one_after_the_other_leaves(
    monkeypatch: pytest.MonkeyPatch, unit: bool
) -> None:
    choice = random.Random(23)

    def member() -> bytes:
        return b"m%d" % choice.randrange(4000) * (1 if choice.random() < 0.98 else choice.randrange(1, 200))

    argvs = []
    for _ in range(60):
        if choice.random() < 0.3:
            argvs.append([b"ZREM", b"z", *(member() for _ in range(choice.randint(1, 400)))])
            continue
        options = choice.choice(([], [], [b"CH"], [b"NX"], [b"XX"], [b"GT", b"CH"], [b"LT"], [b"XX", b"GT"]))
        pairs = [[b"%d" % choice.randrange(900), member()] for _ in range(choice.randint(1, 300))]
        argvs.append([b"ZADD", b"z", *options, *(word for pair in pairs for word in pair)])
    argvs.append([b"ZREM", b"z", *(b"m%d" % number for number in range(4000))])
    together = left_by(argvs, unit)
    monkeypatch.setattr(sorted_sets, "BATCH_MIN", 1 << 30)
    assert together == left_by(argvs, unit)
    monkeypatch.setattr(sorted_sets, "BATCH_MIN", 2)
    monkeypatch.setattr(sorted_sets, "BATCH_MAX", 7)
    assert together == left_by(argvs, unit)


def test_the_last_member_of_many_takes_the_key_along() -> None:
    every = [b"m%d" % number for number in range(2000)]
    data, replies = left_by([[b"ZREM", b"z", b"other", *every, b"m0"]], unit=False)
    assert replies[0] == 2000
    assert not any(name.startswith(b"k") for name in data)
