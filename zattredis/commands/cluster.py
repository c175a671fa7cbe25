"""CLUSTER and ASKING: the cluster shown as a Redis Cluster, where the setting `cluster_view` asks for it.

Without it the answer is a plain Redis's: every subcommand of Redis 7.0 is known, so that arity errors and "unknown
subcommand" come out the same, and refused. With it, what shows the cluster is answered (`ClusterViewProtocol`); what
changes a Redis Cluster is refused with what to do instead, for members and slots are Raft's affair.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any, Final

from zattredis.commands.arguments import parse_integer
from zattredis.commands.context import ClusterViewProtocol, Context, LocalContext
from zattredis.commands.keyspec import NO_KEYS
from zattredis.commands.table import COMMANDS, CommandSpec, Flag, Kind, Variant, add, command, help_lines
from zattredis.errors import DefiniteError
from zattredis.keyspace.keys import K_HEADER_BYTES, SLOTS, hash_slot, k_key_at
from zattredis.keyspace.metadata import MAY_EXPIRE, is_expired
from zattredis.resp.replies import Verbatim

_ADMIN = Flag.ADMIN | Flag.STALE
_CHANGE = _ADMIN | Flag.NO_ASYNC_LOADING
_VARIES = ("nondeterministic_output",)
_RANGES = "start-slot:integer end-slot:integer [start-slot:integer end-slot:integer ...]"
_SLOT_SHIFT: Final = 32
"""A slot is the upper 16 of the 48 bits by which keys lie in order."""
_SLICE_KEYS: Final = 256

_MEMBERS: Final = "members come and go by RAFT ADD and RAFT REMOVE"
_SLOTS_FIXED: Final = "the leader owns every slot"
_TRANSFER: Final = "leadership moves by RAFT TRANSFER, and by itself when the leader is down"
_TERMS: Final = "the epoch is Raft's term"


def _view(ctx: LocalContext) -> ClusterViewProtocol:
    view = ctx.server.cluster_view
    if view is None:
        raise DefiniteError("This instance has cluster support disabled")
    return view


def _subcommand(
    name: str, arity: int, flags: Flag, since: str, syntax: str = "", tips: tuple[str, ...] = (), **more: Any
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    return command(
        f"CLUSTER {name}", arity=arity, flags=flags, group="cluster", since=since, complexity="O(1)", syntax=syntax,
        tips=tips, **more,
    )  # fmt: skip


add(
    CommandSpec(
        name="CLUSTER", arity=-2, kind=Kind.LOCAL, flags=Flag.NONE, keys=NO_KEYS, group="cluster", since="3.0.0",
        handler=_view, summary="A container for the commands of Redis Cluster, answered with cluster_view = true",
        complexity="Depends on subcommand.",
    )
)  # fmt: skip


# -- what a Redis Cluster's commands would change ----------------------------------------------------------------


def _refused(name: str, instead: str) -> Callable[..., object]:
    def refuse(ctx: LocalContext, *_words: bytes) -> object:
        _view(ctx)
        raise DefiniteError(f"CLUSTER {name} is not supported: {instead}")

    return refuse


_REFUSED: tuple[tuple[str, int, str, str, tuple[str, ...], str], ...] = (
    ("ADDSLOTS", -3, "3.0.0", "slot:integer [slot:integer ...]", (), _SLOTS_FIXED),
    ("ADDSLOTSRANGE", -4, "7.0.0", _RANGES, (), _SLOTS_FIXED),
    ("BUMPEPOCH", 2, "3.0.0", "", _VARIES, _TERMS),
    ("DELSLOTS", -3, "3.0.0", "slot:integer [slot:integer ...]", (), _SLOTS_FIXED),
    ("DELSLOTSRANGE", -4, "7.0.0", _RANGES, (), _SLOTS_FIXED),
    ("FAILOVER", -2, "3.0.0", "options=[FORCE | TAKEOVER]", (), _TRANSFER),
    ("FLUSHSLOTS", 2, "3.0.0", "", (), _SLOTS_FIXED),
    ("FORGET", 3, "3.0.0", "node-id", (), _MEMBERS),
    ("MEET", -4, "3.0.0", "ip port:integer [cluster_bus_port:integer@4.0.0]", (), _MEMBERS),
    ("REPLICATE", 3, "3.0.0", "node-id", (), "every member follows the leader"),
    ("SAVECONFIG", 2, "3.0.0", "", (), "the membership is in the log, and always saved"),
    ("SET-CONFIG-EPOCH", 3, "3.0.0", "config-epoch:integer", (), _TERMS),
    ("SETSLOT", -4, "3.0.0",
     "slot:integer subcommand=<IMPORTING node-id | MIGRATING node-id | NODE node-id | STABLE>", (), _SLOTS_FIXED),
)  # fmt: skip

for _name, _arity, _since, _syntax, _tips, _instead in _REFUSED:
    _subcommand(
        _name, _arity, _CHANGE, _since, _syntax, _tips, summary=f"Refused: {_instead}",
    )(_refused(_name, _instead))  # fmt: skip
_subcommand(
    "RESET", -2, _ADMIN | Flag.NOSCRIPT, "3.0.0", "[HARD | SOFT]", summary=f"Refused: {_MEMBERS}"
)(_refused("RESET", _MEMBERS))  # fmt: skip


# -- what they show ----------------------------------------------------------------------------------------------


@_subcommand("COUNT-FAILURE-REPORTS", 3, _ADMIN, "3.0.0", "node-id", _VARIES)
def cluster_count_failure_reports(ctx: LocalContext, node: bytes) -> int:
    """Return how many failure reports there are of a node: none are collected."""
    return _view(ctx).failure_reports(node)


@_subcommand("HELP", 2, Flag.LOADING | Flag.STALE, "5.0.0")
def cluster_help(ctx: LocalContext) -> list[str]:
    """Show helpful text about the different subcommands."""
    _view(ctx)
    return help_lines(COMMANDS[b"CLUSTER"])


@_subcommand("INFO", 2, Flag.STALE, "3.0.0", "", _VARIES)
def cluster_info(ctx: LocalContext) -> Verbatim:
    """Return the state of the cluster as this node knows it."""
    return Verbatim("txt", _view(ctx).info())


@_subcommand("KEYSLOT", 3, Flag.STALE, "3.0.0", "key:string")
def cluster_keyslot(ctx: LocalContext, key: bytes) -> int:
    """Return the hash slot of a key."""
    _view(ctx)
    return hash_slot(key)


@_subcommand("LINKS", 2, Flag.STALE, "7.0.0", "", _VARIES)
def cluster_links(ctx: LocalContext) -> list[Any]:
    """Return the connections between this node and the other members."""
    return _view(ctx).links()


@_subcommand("MYID", 2, Flag.STALE, "3.0.0")
def cluster_myid(ctx: LocalContext) -> bytes:
    """Return this node's id."""
    return _view(ctx).my_id()


@_subcommand("NODES", 2, Flag.STALE, "3.0.0", "", _VARIES)
def cluster_nodes(ctx: LocalContext) -> Verbatim:
    """Return the members, one a line: the leader is the master, the others are its replicas."""
    return Verbatim("txt", b"".join(line + b"\n" for line in _view(ctx).nodes(ctx.client.tls)))


@_subcommand("REPLICAS", 3, _ADMIN, "5.0.0", "node-id", _VARIES)
def cluster_replicas(ctx: LocalContext, node: bytes) -> list[bytes]:
    """Return the replicas of the leader."""
    return _view(ctx).replicas(node, ctx.client.tls)


@_subcommand("SLAVES", 3, _ADMIN, "3.0.0", "node-id", _VARIES, deprecated_since="5.0.0",
             replaced_by="`CLUSTER REPLICAS`")  # fmt: skip
def cluster_slaves(ctx: LocalContext, node: bytes) -> list[bytes]:
    """Return the replicas of the leader."""
    return _view(ctx).replicas(node, ctx.client.tls)


@_subcommand("SHARDS", 2, Flag.STALE, "7.0.0", "", _VARIES)
def cluster_shards(ctx: LocalContext) -> list[Any]:
    """Return the one shard: every slot, and all members with role and health."""
    return _view(ctx).shards()


@_subcommand("SLOTS", 2, Flag.STALE, "3.0.0", "", _VARIES, deprecated_since="7.0.0", replaced_by="`CLUSTER SHARDS`")
def cluster_slots(ctx: LocalContext) -> list[Any]:
    """Return the one range of slots: the leader, then its replicas."""
    return _view(ctx).slots(ctx.client.tls)


# -- keys of a slot: read at a read point, as all keys are --------------------------------------------------------


def _keys_of_slot(ctx: Context, slot: int, most: int) -> Generator[None, None, list[bytes]]:
    """Return up to `most` live keys of a slot of the selected database; yields after every few hundred."""
    prefix = ctx.view.k_prefix(ctx.db)
    found: list[bytes] = []
    records = ctx.view.iterate(k_key_at(prefix, slot << _SLOT_SHIFT), _slot_end(prefix, slot))
    for number, (k, record) in enumerate(records):
        if len(found) >= most:
            break
        if number % _SLICE_KEYS == 0:
            yield
        if not (record[0] & MAY_EXPIRE and is_expired(record, ctx.now_ms)):
            found.append(k[K_HEADER_BYTES:])
    return found


def _slot_end(prefix: bytes, slot: int) -> bytes:
    return prefix + b"\xff" if slot == SLOTS - 1 else k_key_at(prefix, (slot + 1) << _SLOT_SHIFT)


def _count(ctx: Context, slot: bytes) -> Generator[None, None, int]:
    """Return how many keys of the selected database are in a hash slot."""
    number = parse_integer(slot)
    if not 0 <= number < SLOTS:
        raise DefiniteError("Invalid slot")
    prefix = ctx.view.k_prefix(ctx.db)
    count = 0
    records = ctx.view.iterate(k_key_at(prefix, number << _SLOT_SHIFT), _slot_end(prefix, number))
    for seen, (_k, record) in enumerate(records):
        if seen % _SLICE_KEYS == 0:
            yield
        count += not (record[0] & MAY_EXPIRE and is_expired(record, ctx.now_ms))
    return count


def _list(ctx: Context, slot: bytes, count: bytes) -> Generator[None, None, list[bytes]]:
    """Return keys of the selected database that are in a hash slot."""
    number, most = parse_integer(slot), parse_integer(count)
    if not 0 <= number < SLOTS or most < 0:
        raise DefiniteError("Invalid slot or number of keys")
    return (yield from _keys_of_slot(ctx, number, most))


_READERS: Final[list[CommandSpec]] = []


def _read(handler: Callable[..., Any], name: str, arity: int) -> Variant:
    """Return the `variant` of a subcommand that reads keys where the view is on, and is refused otherwise."""
    reader = CommandSpec(
        name=name, arity=arity, kind=Kind.READ, flags=Flag.READONLY | Flag.STALE, keys=NO_KEYS, group="cluster",
        since="3.0.0", handler=handler, heavy=True,
    )  # fmt: skip

    def choose(local: LocalContext, argv: list[bytes]) -> tuple[CommandSpec, list[bytes]] | None:
        return None if local.server.cluster_view is None else (reader, argv)

    _READERS.append(reader)
    return choose


@_subcommand("COUNTKEYSINSLOT", 3, Flag.STALE, "3.0.0", "slot:integer",
             variant=_read(_count, "CLUSTER COUNTKEYSINSLOT", 3))  # fmt: skip
def cluster_countkeysinslot(ctx: LocalContext, _slot: bytes) -> object:
    """Return how many keys of the selected database are in a hash slot."""
    return _view(ctx)


@_subcommand("GETKEYSINSLOT", 4, Flag.STALE, "3.0.0", "slot:integer count", _VARIES,
             variant=_read(_list, "CLUSTER GETKEYSINSLOT", 4))  # fmt: skip
def cluster_getkeysinslot(ctx: LocalContext, _slot: bytes, _count: bytes) -> object:
    """Return keys of the selected database that are in a hash slot."""
    return _view(ctx)


for _reader in _READERS:  # so that both are counted as one command
    _reader.original = COMMANDS[b"CLUSTER"].subcommands[_reader.name.partition(" ")[2]]


@command("ASKING", arity=1, flags=Flag.FAST, group="cluster", since="3.0.0", complexity="O(1)",
         categories=("connection",))  # fmt: skip
def asking(ctx: LocalContext) -> str:
    """Agree to what only a slot under way to another master would ask for: there never is one."""
    _view(ctx)
    return "OK"
