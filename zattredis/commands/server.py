"""The node as a whole: INFO, ROLE, TIME, its snapshots and its end."""

from __future__ import annotations

from typing import Any

from zattredis.commands.arguments import parse_integer
from zattredis.commands.context import NO_REPLY, LocalContext, NoReply
from zattredis.commands.table import Flag, command
from zattredis.errors import DefiniteError, SyntaxReplyError
from zattredis.resp.replies import Verbatim

_ANY_TIME = Flag.LOADING | Flag.STALE
_ADMIN = Flag.ADMIN | Flag.NOSCRIPT
_NONDETERMINISTIC = ("nondeterministic_output",)


@command(
    "INFO",
    arity=-1,
    flags=_ANY_TIME,
    group="server",
    since="1.0.0",
    complexity="O(1)",
    categories=("dangerous",),
    syntax="[section ...]",
    tips=("nondeterministic_output", "request_policy:all_shards", "response_policy:special"),
    history=(("7.0.0", "Several sections may be named."),),
)
def info(ctx: LocalContext, *sections: bytes) -> Verbatim:
    """Report on this node: state, counters, memory, storage, Raft."""
    return Verbatim("txt", ctx.server.info(sections, ctx.client.tls))


@command("TIME", arity=1, flags=_ANY_TIME | Flag.FAST, group="server", since="2.6.0", complexity="O(1)",
         tips=_NONDETERMINISTIC)  # fmt: skip
def time(ctx: LocalContext) -> list[bytes]:
    """Return this node's clock: seconds since 1970, and microseconds."""
    seconds, micros = divmod(ctx.server.time_us(), 1_000_000)
    return [b"%d" % seconds, b"%d" % micros]


@command("ROLE", arity=1, flags=Flag.NOSCRIPT | _ANY_TIME | Flag.FAST, group="server", since="2.8.12",
         complexity="O(1)", categories=("admin", "dangerous"))  # fmt: skip
def role(ctx: LocalContext) -> list[Any]:
    """Return the role of this node: a master, for it takes every command, unless a view shows who follows."""
    return ctx.server.role(ctx.client.tls)


# -- replication -------------------------------------------------------------------------------------------------


@command(
    "WAIT",
    arity=3,
    flags=Flag.NOSCRIPT,
    group="generic",
    since="3.0.0",
    complexity="O(1)",
    categories=("connection",),
    syntax="numreplicas timeout",
    tips=("request_policy:all_shards", "response_policy:agg_min"),
)
async def wait(ctx: LocalContext, numreplicas: bytes, timeout: bytes) -> int:
    """Wait until so many other nodes durably hold this connection's last write; return how many do."""
    replicas = parse_integer(numreplicas)
    timeout_ms = parse_integer(timeout, "timeout is not an integer or out of range")
    if timeout_ms < 0:
        raise DefiniteError("timeout is negative")
    if not ctx.may_block:
        replicas = 0
    return await ctx.server.wait_for_replicas(ctx.client, replicas, timeout_ms)


def _replicaof(name: str, host: bytes, port: bytes) -> str:
    """Agree to what already is, and refuse the rest."""
    if host.upper() == b"NO" and port.upper() == b"ONE":
        return "OK"
    raise DefiniteError(f"{name} is not supported: this server replicates by Raft among the members of its cluster")


@command("REPLICAOF", arity=3, flags=_ADMIN | Flag.STALE | Flag.NO_ASYNC_LOADING, group="server", since="5.0.0",
         complexity="O(1)", syntax="args=<host-port=<host port:integer> | no-one=<NO ONE>>")  # fmt: skip
def replicaof(_ctx: LocalContext, host: bytes, port: bytes) -> str:
    """Make this node a replica of another server: refused, but for NO ONE, which it always is."""
    return _replicaof("REPLICAOF", host, port)


@command(
    "SLAVEOF",
    arity=3,
    flags=_ADMIN | Flag.STALE | Flag.NO_ASYNC_LOADING,
    group="server",
    since="1.0.0",
    complexity="O(1)",
    syntax="args=<host-port=<host port:integer> | no-one=<NO ONE>>",
    deprecated_since="5.0.0",
    replaced_by="`REPLICAOF`",
)
def slaveof(_ctx: LocalContext, host: bytes, port: bytes) -> str:
    """Make this node a replica of another server: refused, but for NO ONE, which it always is."""
    return _replicaof("SLAVEOF", host, port)


@command(
    "FAILOVER",
    arity=-1,
    flags=_ADMIN | Flag.STALE,
    group="server",
    since="6.2.0",
    complexity="O(1)",
    syntax="target=[TO <host port:integer [FORCE]>] [ABORT] [TIMEOUT milliseconds]",
)
def failover(_ctx: LocalContext, *_words: bytes) -> str:
    """Hand the role of the master to a replica: refused, for leadership moves by itself."""
    raise DefiniteError(
        "FAILOVER is not supported: a dead leader is replaced by an election, and a leader that shuts down hands over"
    )


# -- snapshots ---------------------------------------------------------------------------------------------------


@command("SAVE", arity=1, flags=_ADMIN | Flag.NO_ASYNC_LOADING | Flag.NO_MULTI, group="server", since="1.0.0",
         complexity="O(N) where N is the total number of keys in all databases")  # fmt: skip
async def save(ctx: LocalContext) -> str:
    """Make a snapshot of this node and answer once it is durable; other clients go on."""
    await ctx.server.save_snapshot()
    return "OK"


@command(
    "BGSAVE",
    arity=-1,
    flags=_ADMIN | Flag.NO_ASYNC_LOADING,
    group="server",
    since="1.0.0",
    complexity="O(1)",
    syntax="[SCHEDULE@3.2.2]",
    history=(("3.2.2", "`SCHEDULE` option."),),
)
def bgsave(ctx: LocalContext, *words: bytes) -> str:
    """Begin a snapshot of this node in the background."""
    if words and (len(words) > 1 or words[0].upper() != b"SCHEDULE"):
        raise SyntaxReplyError
    if not ctx.server.start_snapshot():
        raise DefiniteError("Background save already in progress")
    return "Background saving started"


@command("BGREWRITEAOF", arity=1, flags=_ADMIN | Flag.NO_ASYNC_LOADING, group="server", since="1.0.0",
         complexity="O(1)")  # fmt: skip
def bgrewriteaof(ctx: LocalContext) -> str:
    """Begin a snapshot in the background and cut the log behind it."""
    if not ctx.server.start_snapshot():
        raise DefiniteError("Background append only file rewriting already in progress")
    return "Background append only file rewriting started"


@command("LASTSAVE", arity=1, flags=_ANY_TIME | Flag.FAST, group="server", since="1.0.0", complexity="O(1)",
         categories=("admin", "dangerous"), tips=_NONDETERMINISTIC)  # fmt: skip
def lastsave(ctx: LocalContext) -> int:
    """Return the time of this node's last snapshot, in seconds since 1970."""
    return ctx.server.last_save_s()


# -- the end -----------------------------------------------------------------------------------------------------


@command(
    "SHUTDOWN",
    arity=-1,
    flags=_ADMIN | _ANY_TIME | Flag.NO_MULTI | Flag.ALLOW_BUSY,
    group="server",
    since="1.0.0",
    complexity="O(N) with SAVE, where N is the total number of keys in all databases, otherwise O(1)",
    syntax="[NOSAVE | SAVE] [NOW@7.0.0] [FORCE@7.0.0] [ABORT@7.0.0]",
    history=(("7.0.0", "`NOW`, `FORCE` and `ABORT`."),),
)
def shutdown(ctx: LocalContext, *words: bytes) -> str | NoReply:
    """End this node's process; it hands the leadership over and finishes what it accepted, unless NOW."""
    given = {word.upper() for word in words}
    if not given <= {b"NOSAVE", b"SAVE", b"NOW", b"FORCE", b"ABORT"}:
        raise SyntaxReplyError
    if {b"NOSAVE", b"SAVE"} <= given or (b"ABORT" in given and len(words) > 1):
        raise SyntaxReplyError
    if b"ABORT" in given:
        if not ctx.server.abort_shut_down():
            raise DefiniteError("No shutdown in progress.")
        return "OK"
    save = True if b"SAVE" in given else False if b"NOSAVE" in given else None
    ctx.server.shut_down(now=b"NOW" in given, force=b"FORCE" in given, save=save)
    return NO_REPLY
