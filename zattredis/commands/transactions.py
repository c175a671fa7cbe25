"""MULTI, EXEC, DISCARD, WATCH and UNWATCH.

The queue and the watches are fields of the client. EXEC and WATCH need the keyspace at a place among the client's other
commands: the dispatcher makes units of them itself (EXEC becomes one log entry, WATCH reads versions at a read point)
and never calls their handlers. The dispatcher queues, while `client.in_multi`,
every command whose spec is not `unqueued`, refuses those with NO_MULTI ("Command not allowed inside a transaction")
and sets `client.dirty` when a command to be queued is refused, so that EXEC answers EXECABORT.
"""

from __future__ import annotations

from zattredis.commands.context import LocalContext
from zattredis.commands.table import KEYS_ALL, Flag, command
from zattredis.errors import DefiniteError

_FLAGS = Flag.NOSCRIPT | Flag.LOADING | Flag.STALE
_QUICK = _FLAGS | Flag.FAST | Flag.ALLOW_BUSY


@command(
    "MULTI", arity=1, flags=_QUICK | Flag.UNQUEUED, group="transactions", since="1.2.0", complexity="O(1)"
)  # fmt: skip
def multi(ctx: LocalContext) -> str:
    """Start a transaction: queue the commands that follow."""
    if ctx.client.in_multi:
        raise DefiniteError("MULTI calls can not be nested")
    ctx.client.begin_multi()
    return "OK"


@command(
    "EXEC",
    arity=1,
    flags=_FLAGS | Flag.SKIP_SLOWLOG | Flag.UNQUEUED,
    group="transactions",
    since="1.2.0",
    complexity="Depends on commands in the transaction",
)
def exec_(ctx: LocalContext) -> object:
    """Execute the queued commands as one, unless a watched key has changed."""
    raise AssertionError("EXEC is carried out by the dispatcher")


@command(
    "DISCARD",
    arity=1,
    flags=_QUICK | Flag.UNQUEUED,
    group="transactions",
    since="2.0.0",
    complexity="O(N), when N is the number of queued commands",
)
def discard(ctx: LocalContext) -> str:
    """Drop the queued commands and every watch."""
    if not ctx.client.in_multi:
        raise DefiniteError("DISCARD without MULTI")
    ctx.client.end_multi()
    return "OK"


@command(
    "WATCH",
    arity=-2,
    flags=_QUICK | Flag.UNQUEUED,
    keys=KEYS_ALL,
    key_flags="RO",
    group="transactions",
    since="2.2.0",
    complexity="O(1) for every key.",
    syntax="key [key ...]",
)
def watch(ctx: LocalContext, *keys: bytes) -> object:
    """Let the next EXEC do nothing if one of these keys changes before it."""
    raise AssertionError("WATCH is carried out by the dispatcher")


@command("UNWATCH", arity=1, flags=_QUICK, group="transactions", since="2.2.0", complexity="O(1)")
def unwatch(ctx: LocalContext) -> str:
    """Forget every watched key."""
    ctx.client.watched.clear()
    return "OK"
