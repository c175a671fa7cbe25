"""An extension for tests: accounts, and one command for every way of arguments and replies."""

from __future__ import annotations

from typing import Literal

import zattredis
from tests.extensions import rules


@zattredis.command("ACCOUNT.OPEN", keys=1, since="1.0")
def open_account(ctx: zattredis.Context, account: bytes, amount: int = 0) -> bool:
    """Open an account; 0 if there is one."""
    if ctx.exists(account):
        return False
    ctx.set(account, amount)
    return True


@zattredis.command("ACCOUNT.TRANSFER", keys=(1, 2), complexity="O(1)")
def transfer(ctx: zattredis.Context, source: bytes, target: bytes, amount: int) -> int:
    """Move money; return what is left."""
    if amount <= 0:
        raise zattredis.ReplyError("the amount must be positive")
    left = ctx.get_int(source) - amount
    if left < rules.LOWEST:
        raise zattredis.ReplyError("insufficient funds", "FUNDS")
    ctx.set(source, left)
    ctx.incr(target, amount)
    return left


@zattredis.command("ACCOUNT.SUM", keys=(1, -1), readonly=True, fast=True)
def total(ctx: zattredis.Context, *accounts: bytes) -> int:
    """Add up accounts."""
    return sum(int(value or 0) for value in ctx.mget(*accounts))


@zattredis.command("T.TYPES")
def types(
    ctx: zattredis.Context, raw: bytes, text: str, number: int, real: float, flag: bool,
    side: Literal["LEFT", "RIGHT"] = "LEFT", maybe: int | None = None,
) -> list[object]:  # fmt: skip
    """Return what was read."""
    return [raw, text.encode(), number, real, flag, side, maybe]


@zattredis.command("T.MANY")
def many(ctx: zattredis.Context, first: str, *rest: float) -> dict[str, object]:
    """Return what was read."""
    return {first: sum(rest), "rest": list(rest)}


@zattredis.command("T.FAIL", keys=1)
def fail(ctx: zattredis.Context, key: bytes, how: str) -> object:
    """Write, then fail in some way."""
    ctx.set(key, "written")
    ctx.rpush(b"list:" + key, 1, 2, 3)
    if how == "reply":
        raise zattredis.ReplyError("no", "NOPE")
    if how == "value":
        raise ValueError("line\nbreak")
    if how == "assert":
        raise AssertionError
    if how == "exit":
        raise SystemExit(3)
    if how == "deep":
        return fail(ctx, key, how)
    if how == "os":
        raise OSError("mine")
    if how == "wrongtype":
        ctx.lpush(key, "x")
    if how == "object":
        return object()
    if how == "nested":
        nest: list[object] = []
        nest.append(nest)
        return nest
    return "OK"


@zattredis.command("T.CAUGHT", keys=1)
def caught(ctx: zattredis.Context, key: bytes) -> str:
    """Go on after a command that failed half-way."""
    ctx.hset(key, {"a": 1})
    try:
        ctx.call("HINCRBY", key, "a", "x")
    except zattredis.ReplyError as error:
        return str(error)
    return "OK"


@zattredis.command("T.DRAW", keys=1)
def draw(ctx: zattredis.Context, key: bytes) -> list[object]:
    """Time and randomness, written."""
    found: list[object] = [ctx.now_ms, ctx.random.below(1000), ctx.random.uuid(), ctx.random.random()]
    ctx.rpush(key, *[str(one) for one in found])
    return found


@zattredis.command("T.PEEK", keys=1, readonly=True)
def peek(ctx: zattredis.Context, key: bytes, write: bool = False) -> bytes | None:
    """Read, or try to write."""
    if write:
        ctx.set(key, 1)
    return ctx.get(key)


@zattredis.command("T.CALL")
def call(ctx: zattredis.Context, name: str, *words: bytes) -> object:
    """Run any command."""
    return ctx.call(name, *words)


@zattredis.command("T.SNEAK")
def sneak(ctx: zattredis.Context, how: str) -> object:
    """Do what the source does not show."""
    ctx.set("sneak", how)
    return rules.WAYS[how]()
