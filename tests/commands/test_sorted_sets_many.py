"""Several ZADDs carried out together leave the very bytes, and give the very replies, of one after the other."""

from __future__ import annotations

import random
from typing import Any

from tests.support.memory_store import MemoryStore
from zattredis.commands.context import Context
from zattredis.commands.table import COMMANDS
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
