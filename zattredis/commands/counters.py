"""The string group: values that are numbers."""

from __future__ import annotations

from typing import Any

from zattredis.commands.arguments import (
    INTEGER_MAX,
    INTEGER_MIN,
    NOT_AN_INTEGER,
    parse_float,
    parse_integer,
    strict_integer,
)
from zattredis.commands.context import Context
from zattredis.commands.strings import WRITE_FAST
from zattredis.commands.table import KEYS_FIRST, command
from zattredis.errors import DefiniteError
from zattredis.keyspace.long_double import add, format_human
from zattredis.keyspace.metadata import HEADER_BYTES, NOT_INT, expire_of
from zattredis.keyspace.strings import check_string, put_string, string_value


def _add_integer(ctx: Context, key: bytes, increment: int) -> int:
    view, db = ctx.view, ctx.db
    record = view.record(db, key, ctx.now_ms)
    if record is None:
        total = increment
    else:
        if record[0]:
            check_string(record)
        value = strict_integer(record[HEADER_BYTES:])
        if value is None:
            raise DefiniteError(NOT_AN_INTEGER)
        total = value + increment
        if not INTEGER_MIN <= total <= INTEGER_MAX:
            raise DefiniteError("increment or decrement would overflow")
        if expire_ms := expire_of(record):
            put_string(view, db, key, b"%d" % total, ctx.now_ms // 1000, expire_ms)
            return total
    view.set_plain(db, key, b"%d" % total, ctx.now_ms // 1000)
    return total


def _incr_many(ctx: Context, argvs: list[list[bytes]]) -> list[Any] | None:
    """Carry out several INCRs of plain strings, most of the same few keys: each is read once, and written once."""
    view, db, now_ms = ctx.view, ctx.db, ctx.now_ms
    totals: dict[bytes, int] = {}
    pairs: list[tuple[bytes, bytes]] = []
    replies: list[Any] = []
    for _, key in argvs:
        total = totals.get(key)
        if total is None:
            record = view.record(db, key, now_ms)
            if record is None or record[0]:
                return None
            total = strict_integer(record[HEADER_BYTES:])
        if total is None or total >= INTEGER_MAX:
            return None
        totals[key] = total = total + 1
        pairs.append((key, b"%d" % total))
        replies.append(total)
    view.set_plain_many(db, pairs, now_ms // 1000)
    return replies


@command(
    "INCR", arity=2, flags=WRITE_FAST, keys=KEYS_FIRST, group="string", since="1.0.0", complexity="O(1)",
    syntax="key", key_flags="RW access update", many=_incr_many,
)  # fmt: skip
def incr(ctx: Context, key: bytes) -> int:
    """Increment the integer value of a key by one."""
    return _add_integer(ctx, key, 1)


@command(
    "DECR", arity=2, flags=WRITE_FAST, keys=KEYS_FIRST, group="string", since="1.0.0", complexity="O(1)",
    syntax="key", key_flags="RW access update",
)  # fmt: skip
def decr(ctx: Context, key: bytes) -> int:
    """Decrement the integer value of a key by one."""
    return _add_integer(ctx, key, -1)


@command(
    "INCRBY", arity=3, flags=WRITE_FAST, keys=KEYS_FIRST, group="string", since="1.0.0", complexity="O(1)",
    syntax="key increment", key_flags="RW access update",
)  # fmt: skip
def incrby(ctx: Context, key: bytes, increment: bytes) -> int:
    """Increment the integer value of a key by the given amount."""
    return _add_integer(ctx, key, parse_integer(increment))


@command(
    "DECRBY", arity=3, flags=WRITE_FAST, keys=KEYS_FIRST, group="string", since="1.0.0", complexity="O(1)",
    syntax="key decrement", key_flags="RW access update",
)  # fmt: skip
def decrby(ctx: Context, key: bytes, decrement: bytes) -> int:
    """Decrement the integer value of a key by the given number."""
    amount = parse_integer(decrement)
    if amount == INTEGER_MIN:
        raise DefiniteError("decrement would overflow")
    return _add_integer(ctx, key, -amount)


@command(
    "INCRBYFLOAT", arity=3, flags=WRITE_FAST, keys=KEYS_FIRST, group="string", since="2.6.0", complexity="O(1)",
    syntax="key increment:double", key_flags="RW access update",
)  # fmt: skip
def incrbyfloat(ctx: Context, key: bytes, increment: bytes) -> bytes:
    """Increment the float value of a key by the given amount."""
    view = ctx.view
    record = view.record(ctx.db, key, ctx.now_ms)
    value = parse_float(b"0" if record is None else string_value(view, record))
    total = add(value, parse_float(increment))
    if total is None or total.infinite:
        raise DefiniteError("increment would produce NaN or Infinity")
    text = format_human(total)
    expire_ms = 0 if record is None else expire_of(record)
    put_string(view, ctx.db, key, text, ctx.now_ms // 1000, expire_ms, hints=NOT_INT)
    return text
