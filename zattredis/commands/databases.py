"""The server group, as far as it is about whole databases."""

from __future__ import annotations

from zattredis.commands.arguments import parse_int
from zattredis.commands.context import Context
from zattredis.commands.table import Flag, command
from zattredis.errors import DefiniteError, SyntaxReplyError
from zattredis.keyspace.registers import DATABASES

_FLUSH_TIPS = ("request_policy:all_shards", "response_policy:all_succeeded")
_FLUSH_HISTORY = (
    ("4.0.0", "Added the `ASYNC` flushing mode modifier."),
    ("6.2.0", "Added the `SYNC` flushing mode modifier."),
)
_FLUSH_SYNTAX = "async=[ASYNC@4.0.0 | SYNC@6.2.0]"
_DANGEROUS = ("keyspace", "dangerous")


def _check_mode(words: tuple[bytes, ...]) -> None:
    """Both modes come to the same: the database is empty at once, its content is reclaimed later."""
    if len(words) > 1 or (words and words[0].upper() not in (b"ASYNC", b"SYNC")):
        raise SyntaxReplyError


@command(
    "DBSIZE", arity=1, flags=Flag.READONLY | Flag.FAST, group="server", since="1.0.0", complexity="O(1)",
    categories=("keyspace",), tips=("request_policy:all_shards", "response_policy:agg_sum"),
)  # fmt: skip
def dbsize(ctx: Context) -> int:
    """Return the number of keys in the selected database."""
    return ctx.view.counts(ctx.db).keys


@command(
    "FLUSHDB", arity=-1, flags=Flag.WRITE, group="server", since="1.0.0", complexity="O(1)", syntax=_FLUSH_SYNTAX,
    categories=_DANGEROUS, tips=_FLUSH_TIPS, history=_FLUSH_HISTORY,
)  # fmt: skip
def flushdb(ctx: Context, *words: bytes) -> str:
    """Remove all keys from the current database."""
    _check_mode(words)
    ctx.view.flush(ctx.db)
    return "OK"


@command(
    "FLUSHALL", arity=-1, flags=Flag.WRITE, group="server", since="1.0.0", complexity="O(1)", syntax=_FLUSH_SYNTAX,
    categories=_DANGEROUS, tips=_FLUSH_TIPS, history=_FLUSH_HISTORY,
)  # fmt: skip
def flushall(ctx: Context, *words: bytes) -> str:
    """Remove all keys from all databases."""
    _check_mode(words)
    for db in range(DATABASES):
        ctx.view.flush(db)
    return "OK"


@command(
    "SWAPDB", arity=3, flags=Flag.WRITE | Flag.FAST, group="server", since="4.0.0", complexity="O(1)",
    syntax="index1 index2", categories=_DANGEROUS,
)  # fmt: skip
def swapdb(ctx: Context, first: bytes, second: bytes) -> str:
    """Swaps two Redis databases."""
    one = parse_int(first, "invalid first DB index")
    other = parse_int(second, "invalid second DB index")
    if not (0 <= one < DATABASES and 0 <= other < DATABASES):
        raise DefiniteError("DB index is out of range")
    ctx.view.swap(one, other)
    return "OK"
