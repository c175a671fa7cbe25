"""CLUSTER and ASKING: there is no Redis Cluster here, and the answer says so as a plain Redis does.

Clients ask CLUSTER SLOTS and its like to find out; every subcommand of Redis 7.0 is known, so that arity errors and
"unknown subcommand" come out the same.
"""

from __future__ import annotations

from zattredis.commands.context import LocalContext
from zattredis.commands.keyspec import NO_KEYS
from zattredis.commands.table import CommandSpec, Flag, Kind, add, command
from zattredis.errors import DefiniteError

_ADMIN = Flag.ADMIN | Flag.STALE
_CHANGE = _ADMIN | Flag.NO_ASYNC_LOADING
_VARIES = ("nondeterministic_output",)
_RANGES = "start-slot:integer end-slot:integer [start-slot:integer end-slot:integer ...]"


def _disabled(_ctx: LocalContext, *_words: bytes) -> object:
    raise DefiniteError("This instance has cluster support disabled")


_SUBCOMMANDS: tuple[tuple[str, int, Flag, str, str, tuple[str, ...]], ...] = (
    ("ADDSLOTS", -3, _CHANGE, "3.0.0", "slot:integer [slot:integer ...]", ()),
    ("ADDSLOTSRANGE", -4, _CHANGE, "7.0.0", _RANGES, ()),
    ("BUMPEPOCH", 2, _CHANGE, "3.0.0", "", _VARIES),
    ("COUNT-FAILURE-REPORTS", 3, _ADMIN, "3.0.0", "node-id", _VARIES),
    ("COUNTKEYSINSLOT", 3, Flag.STALE, "3.0.0", "slot:integer", ()),
    ("DELSLOTS", -3, _CHANGE, "3.0.0", "slot:integer [slot:integer ...]", ()),
    ("DELSLOTSRANGE", -4, _CHANGE, "7.0.0", _RANGES, ()),
    ("FAILOVER", -2, _CHANGE, "3.0.0", "options=[FORCE | TAKEOVER]", ()),
    ("FLUSHSLOTS", 2, _CHANGE, "3.0.0", "", ()),
    ("FORGET", 3, _CHANGE, "3.0.0", "node-id", ()),
    ("GETKEYSINSLOT", 4, Flag.STALE, "3.0.0", "slot:integer count", _VARIES),
    ("HELP", 2, Flag.LOADING | Flag.STALE, "5.0.0", "", ()),
    ("INFO", 2, Flag.STALE, "3.0.0", "", _VARIES),
    ("KEYSLOT", 3, Flag.STALE, "3.0.0", "key:string", ()),
    ("LINKS", 2, Flag.STALE, "7.0.0", "", _VARIES),
    ("MEET", -4, _CHANGE, "3.0.0", "ip port:integer [cluster_bus_port:integer@4.0.0]", ()),
    ("MYID", 2, Flag.STALE, "3.0.0", "", ()),
    ("NODES", 2, Flag.STALE, "3.0.0", "", _VARIES),
    ("REPLICAS", 3, _ADMIN, "5.0.0", "node-id", _VARIES),
    ("REPLICATE", 3, _CHANGE, "3.0.0", "node-id", ()),
    ("RESET", -2, _ADMIN | Flag.NOSCRIPT, "3.0.0", "[HARD | SOFT]", ()),
    ("SAVECONFIG", 2, _CHANGE, "3.0.0", "", ()),
    ("SET-CONFIG-EPOCH", 3, _CHANGE, "3.0.0", "config-epoch:integer", ()),
    ("SETSLOT", -4, _CHANGE, "3.0.0",
     "slot:integer subcommand=<IMPORTING node-id | MIGRATING node-id | NODE node-id | STABLE>", ()),
    ("SHARDS", 2, Flag.STALE, "7.0.0", "", _VARIES),
    ("SLAVES", 3, _ADMIN, "3.0.0", "node-id", _VARIES),
    ("SLOTS", 2, Flag.STALE, "3.0.0", "", _VARIES),
)  # fmt: skip

_REPLACED = {"SLAVES": ("5.0.0", "`CLUSTER REPLICAS`"), "SLOTS": ("7.0.0", "`CLUSTER SHARDS`")}


def _register() -> None:
    add(
        CommandSpec(
            name="CLUSTER", arity=-2, kind=Kind.LOCAL, flags=Flag.NONE, keys=NO_KEYS, group="cluster", since="3.0.0",
            handler=_disabled, summary="A container for the commands of Redis Cluster, which this server is not",
            complexity="Depends on subcommand.",
        )
    )  # fmt: skip
    for name, arity, flags, since, syntax, tips in _SUBCOMMANDS:
        deprecated_since, replaced_by = _REPLACED.get(name, ("", ""))
        command(
            f"CLUSTER {name}", arity=arity, flags=flags, group="cluster", since=since, complexity="O(1)",
            syntax=syntax, tips=tips, deprecated_since=deprecated_since, replaced_by=replaced_by,
            summary="Answer that there is no Redis Cluster here",
        )(_disabled)  # fmt: skip


_register()


@command("ASKING", arity=1, flags=Flag.FAST, group="cluster", since="3.0.0", complexity="O(1)",
         categories=("connection",))  # fmt: skip
def asking(ctx: LocalContext) -> object:
    """Answer that there is no Redis Cluster here."""
    return _disabled(ctx)
