"""MONITOR, SLOWLOG, LATENCY and MEMORY: what clients send, what was slow on this node, and what its memory holds."""

from __future__ import annotations

from typing import Any

from zattredis.commands.arguments import strict_integer
from zattredis.commands.context import NO_REPLY, LocalContext, NoReply
from zattredis.commands.table import CommandSpec, Flag, command, container, lookup_full
from zattredis.errors import DefiniteError, SubcommandSyntax, shown
from zattredis.resp.replies import Pairs, Verbatim

_ANY_TIME = Flag.LOADING | Flag.STALE
_LATENCY = Flag.ADMIN | Flag.NOSCRIPT | _ANY_TIME
_EACH_NODE = ("nondeterministic_output", "request_policy:all_nodes", "response_policy:special")
_EACH_SHARD = ("nondeterministic_output", "request_policy:all_shards", "response_policy:special")

container("SLOWLOG", "A container for slow log commands", group="server", since="2.2.12", help_since="6.2.0")
container(
    "LATENCY", "A container for latency diagnostics commands", group="server", since="2.8.13", help_since="2.8.13"
)  # fmt: skip
container(
    "MEMORY", "A container for memory diagnostics commands", group="server", since="4.0.0", help_since="4.0.0"
)  # fmt: skip


@command(
    "MONITOR", arity=1, flags=Flag.ADMIN | Flag.NOSCRIPT | _ANY_TIME, group="server", since="1.0.0"
)  # fmt: skip
def monitor(ctx: LocalContext) -> str | NoReply:
    """Listen for all commands that clients send to this node, in real time."""
    if not ctx.may_block:
        raise DefiniteError("MONITOR isn't allowed for DENY BLOCKING client")
    return "OK" if ctx.server.monitor(ctx.client) else NO_REPLY


# -- SLOWLOG -----------------------------------------------------------------------------------------------------


@command(
    "SLOWLOG GET",
    arity=-2,
    flags=Flag.ADMIN | _ANY_TIME,
    group="server",
    since="2.2.12",
    complexity="O(N) where N is the number of entries returned",
    syntax="[count]",
    tips=("request_policy:all_nodes", "nondeterministic_output"),
    history=(("4.0.0", "An entry names the client's address and name."),),
)
def slowlog_get(ctx: LocalContext, *words: bytes) -> list[list[Any]]:
    """Return the newest slow commands: 10, or that many, or with -1 all."""
    if len(words) > 1:
        raise SubcommandSyntax("SLOWLOG", ctx.argv[1])
    count = strict_integer(words[0]) if words else 10
    if count is None or count < -1:
        raise DefiniteError("count should be greater than or equal to -1")
    return [
        [entry.id, entry.time_s, entry.usec, entry.argv, entry.address.encode(), entry.name]
        for entry in ctx.server.slowlog.entries(None if count == -1 else count)
    ]


@command(
    "SLOWLOG LEN", arity=2, flags=Flag.ADMIN | _ANY_TIME, group="server", since="2.2.12", complexity="O(1)",
    tips=("request_policy:all_nodes", "response_policy:agg_sum", "nondeterministic_output"),
)  # fmt: skip
def slowlog_len(ctx: LocalContext) -> int:
    """Return how many slow commands are remembered."""
    return len(ctx.server.slowlog)


@command(
    "SLOWLOG RESET", arity=2, flags=Flag.ADMIN | _ANY_TIME, group="server", since="2.2.12",
    complexity="O(N) where N is the number of entries",
    tips=("request_policy:all_nodes", "response_policy:all_succeeded"),
)  # fmt: skip
def slowlog_reset(ctx: LocalContext) -> str:
    """Forget the slow commands."""
    ctx.server.slowlog.reset()
    return "OK"


# -- LATENCY -----------------------------------------------------------------------------------------------------


@command(
    "LATENCY DOCTOR", arity=2, flags=_LATENCY, group="server", since="2.8.13", complexity="O(1)", tips=_EACH_NODE
)  # fmt: skip
def latency_doctor(ctx: LocalContext) -> Verbatim:
    """Report on latency spikes for a person to read."""
    return Verbatim("txt", ctx.server.latency.doctor(ctx.server.slowlog.slower_than_us).encode())


@command(
    "LATENCY GRAPH", arity=3, flags=_LATENCY, group="server", since="2.8.13", complexity="O(1)", syntax="event",
    tips=_EACH_NODE,
)  # fmt: skip
def latency_graph(ctx: LocalContext, event: bytes) -> Verbatim:
    """Draw the samples of an event."""
    graph = ctx.server.latency.graph(event, ctx.now_ms // 1000)
    if graph is None:
        raise DefiniteError(f"No samples available for event '{shown(event)}'")
    return Verbatim("txt", graph.encode("utf-8", "surrogateescape"))


@command(
    "LATENCY HISTORY", arity=3, flags=_LATENCY, group="server", since="2.8.13", complexity="O(1)", syntax="event",
    tips=_EACH_NODE,
)  # fmt: skip
def latency_history(ctx: LocalContext, event: bytes) -> list[list[int]]:
    """Return the samples of an event: time and milliseconds of each."""
    return ctx.server.latency.history(event)


@command(
    "LATENCY LATEST", arity=2, flags=_LATENCY, group="server", since="2.8.13", complexity="O(1)", tips=_EACH_NODE
)  # fmt: skip
def latency_latest(ctx: LocalContext) -> list[list[bytes | int]]:
    """Return the latest sample of every event, and its largest."""
    return ctx.server.latency.latest()


@command(
    "LATENCY RESET", arity=-2, flags=_LATENCY, group="server", since="2.8.13", complexity="O(1)",
    syntax="[event ...]", tips=("request_policy:all_nodes", "response_policy:all_succeeded"),
)  # fmt: skip
def latency_reset(ctx: LocalContext, *events: bytes) -> int:
    """Forget the samples of these events, or of all."""
    return ctx.server.latency.reset(events)


@command(
    "LATENCY HISTOGRAM",
    arity=-2,
    flags=_LATENCY,
    group="server",
    since="7.0.0",
    complexity="O(N) where N is the number of commands with latency information being retrieved.",
    syntax="[command ...]",
    tips=_EACH_NODE,
)
def latency_histogram(ctx: LocalContext, *names: bytes) -> dict[bytes, Any] | Pairs:
    """Return, for these commands or all, how many calls took at most how many microseconds.

    One that is named twice is answered twice, as in Redis, except in RESP3, whose maps have no use for it.
    """
    histograms = ctx.server.statistics.histograms()
    wanted: list[CommandSpec] = []
    for name in names:
        spec = lookup_full(name)
        if spec is not None:
            wanted += (spec, *spec.subcommands.values())
    chosen = [spec for spec in wanted if spec in histograms] if names else list(histograms)
    replies = []
    for spec in chosen:
        calls, counts = histograms[spec].cumulative()
        replies.append((spec.full_name.encode(), {b"calls": calls, b"histogram_usec": counts}))
    return Pairs(replies) if ctx.client.resp == 2 else dict(replies)


# -- MEMORY ------------------------------------------------------------------------------------------------------


@command("MEMORY DOCTOR", arity=2, flags=Flag.NONE, group="server", since="4.0.0", complexity="O(1)", tips=_EACH_SHARD)
def memory_doctor(ctx: LocalContext) -> Verbatim:
    """Report on the use of memory for a person to read."""
    stats = ctx.server.memory_stats()
    total, peak, clients = (stats[name] for name in (b"total.allocated", b"peak.allocated", b"clients.normal"))
    findings = []
    if peak > total * 3 // 2:
        findings.append(f"the process once held {peak} bytes and holds {total} now: something large has come and gone")
    if clients > total // 2:
        findings.append(f"clients' buffers hold {clients} of its {total} bytes: some client sends much or reads slowly")
    if not findings:
        return Verbatim("txt", b"Nothing stands out in how this node uses memory.\n")
    lines = "".join(f" * {finding}.\n" for finding in findings)
    return Verbatim("txt", f"What stands out in how this node uses memory:\n{lines}".encode())


@command("MEMORY STATS", arity=2, flags=Flag.NONE, group="server", since="4.0.0", complexity="O(1)", tips=_EACH_SHARD)
def memory_stats(ctx: LocalContext) -> dict[bytes, Any]:
    """Return what the memory of this node is used for."""
    return ctx.server.memory_stats()


@command(
    "MEMORY PURGE", arity=2, flags=Flag.NONE, group="server", since="4.0.0",
    complexity="Depends on how much memory is allocated, could be slow",
    tips=("request_policy:all_shards", "response_policy:all_succeeded"),
)  # fmt: skip
def memory_purge(ctx: LocalContext) -> str:
    """Give unused memory back to the operating system."""
    ctx.server.release_memory()
    return "OK"


@command(
    "MEMORY MALLOC-STATS", arity=2, flags=Flag.NONE, group="server", since="4.0.0",
    complexity="Depends on how much memory is allocated, could be slow", tips=_EACH_SHARD,
)  # fmt: skip
def memory_malloc_stats(_ctx: LocalContext) -> bytes:
    """Return the allocator's own report: there is none."""
    return b"Stats not supported for the current allocator"
