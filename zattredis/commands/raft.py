"""RAFT: the cluster behind this server, for the person on call. On any node; the leader carries out what changes it.

Redis has no such command; the words are Raft's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from zattredis.commands.arguments import strict_integer
from zattredis.commands.context import LocalContext
from zattredis.commands.table import Flag, command, container
from zattredis.errors import DefiniteError, SyntaxReplyError

SINCE: Final = "0.2.0"
"""Of zattredis, not of Redis."""
LOG_DEFAULT: Final = 10
LOG_MAX: Final = 1000

_SHOW = Flag.ADMIN | Flag.LOADING | Flag.STALE
_CHANGE = Flag.ADMIN | Flag.NOSCRIPT | Flag.NO_MULTI | Flag.STALE
_VARIES = ("nondeterministic_output",)

container("RAFT", "A container for commands about the cluster behind this server", group="server", since=SINCE,
          help_since=SINCE)  # fmt: skip


@command("RAFT STATUS", arity=2, flags=_SHOW, group="server", since=SINCE, complexity="O(N) where N is the number of "
         "members", tips=_VARIES)  # fmt: skip
def raft_status(ctx: LocalContext) -> dict[str, Any]:
    """Return what this node knows of the cluster: leader, term, indexes, and the change under way, if any."""
    return ctx.server.cluster.status()


@command("RAFT MEMBERS", arity=2, flags=_SHOW, group="server", since=SINCE, complexity="O(N) where N is the number of "
         "members", tips=_VARIES)  # fmt: skip
def raft_members(ctx: LocalContext) -> list[dict[str, Any]]:
    """Return the members: id, address, role, and how far each is."""
    return ctx.server.cluster.members()


@command(
    "RAFT ADD", arity=-3, flags=_CHANGE, group="server", since=SINCE, complexity="O(N) where N is the data to be sent",
    syntax="member [member ...] [LEARNER] [FORCE]",
)  # fmt: skip
async def raft_add(ctx: LocalContext, *words: bytes) -> str:
    """Add members, id=host:port[@peerport]: learners, then voters once caught up unless LEARNER; or move one."""
    members, flags = _split(words, b"LEARNER", b"FORCE")
    await ctx.server.cluster.change(add=members, learner=b"LEARNER" in flags, force=b"FORCE" in flags)
    return "OK"


@command("RAFT PROMOTE", arity=-3, flags=_CHANGE, group="server", since=SINCE, complexity="O(N) where N is what the "
         "learner lacks", syntax="id [id ...]")  # fmt: skip
async def raft_promote(ctx: LocalContext, *ids: bytes) -> str:
    """Make learners voters, once they have caught up."""
    await ctx.server.cluster.change(promote=ids)
    return "OK"


@command("RAFT DEMOTE", arity=-3, flags=_CHANGE, group="server", since=SINCE, complexity="O(1)",
         syntax="id [id ...] [FORCE]")  # fmt: skip
async def raft_demote(ctx: LocalContext, *words: bytes) -> str:
    """Make voters learners; refused where the quorum would be lost, unless FORCE."""
    ids, flags = _split(words, b"FORCE")
    await ctx.server.cluster.change(demote=ids, force=b"FORCE" in flags)
    return "OK"


@command("RAFT REMOVE", arity=-3, flags=_CHANGE, group="server", since=SINCE, complexity="O(1)",
         syntax="id [id ...] [FORCE]")  # fmt: skip
async def raft_remove(ctx: LocalContext, *words: bytes) -> str:
    """Remove members for good, also the leader; refused where the quorum would be lost, unless FORCE."""
    ids, flags = _split(words, b"FORCE")
    await ctx.server.cluster.change(remove=ids, force=b"FORCE" in flags)
    return "OK"


@command(
    "RAFT REPLACE", arity=-5, flags=_CHANGE, group="server", since=SINCE,
    complexity="O(N) where N is the data to be sent", syntax="id [id ...] WITH member [member ...] [FORCE]",
)  # fmt: skip
async def raft_replace(ctx: LocalContext, *words: bytes) -> str:
    """Replace members by new ones, all in one change, as soon as every new one has caught up."""
    given, flags = _split(words, b"FORCE")
    at = next((place for place, word in enumerate(given) if word.upper() == b"WITH"), 0)
    if not at or at == len(given) - 1:
        raise SyntaxReplyError
    await ctx.server.cluster.change(add=given[at + 1 :], remove=given[:at], force=b"FORCE" in flags)
    return "OK"


@command("RAFT TRANSFER", arity=-2, flags=_CHANGE, group="server", since=SINCE, complexity="O(1)", syntax="[id]")
async def raft_transfer(ctx: LocalContext, *ids: bytes) -> str:
    """Hand the leadership to a voter (to the most up-to-date one, if none is named) and return who leads then."""
    if len(ids) > 1:
        raise SyntaxReplyError
    return await ctx.server.cluster.transfer(ids[0] if ids else b"")


@command("RAFT SNAPSHOT", arity=2, flags=Flag.ADMIN | Flag.NOSCRIPT | Flag.NO_MULTI, group="server", since=SINCE,
         complexity="O(N) where N is what was written since the last one")  # fmt: skip
async def raft_snapshot(ctx: LocalContext) -> str:
    """Make this node's state durable, cut its log behind it, and answer once that is done."""
    await ctx.server.save_snapshot()
    return "OK"


@command("RAFT LOG", arity=-2, flags=_SHOW, group="server", since=SINCE, complexity="O(N) where N is the number of "
         "entries returned", syntax="[from:integer [count:integer]]", tips=_VARIES)  # fmt: skip
def raft_log(ctx: LocalContext, *words: bytes) -> list[Any]:
    """Return entries of this node's log, the last 10 by default: index, term, kind, time, and what they say."""
    if len(words) > 2:
        raise SyntaxReplyError
    numbers = [strict_integer(word) for word in words]
    if any(number is None or number < 0 for number in numbers):
        raise DefiniteError("from and count are numbers that are not negative")
    count = numbers[1] if len(numbers) > 1 else LOG_DEFAULT
    return ctx.server.cluster.log(numbers[0] if numbers else None, min(count or 0, LOG_MAX))


def _split(words: Sequence[bytes], *known: bytes) -> tuple[list[bytes], set[bytes]]:
    """Return the words, and which of the `known` ones stand behind them. Raises SyntaxReplyError if none is left."""
    rest = list(words)
    flags: set[bytes] = set()
    while rest and rest[-1].upper() in known:
        flags.add(rest.pop().upper())
    if not rest:
        raise SyntaxReplyError
    return rest, flags
