"""zattredis: a Redis-protocol server whose every write is agreed by Raft before it is acknowledged.

The rooms, from the top; each may import those below it, never those above, and each one's docstring is its manual:

    embed          serve and Node: nodes inside other programs; the pytest plugin lies over it
    client         DistributedDict and its async twin, over redis-py; uses only `errors`
    cli            zattd, zattctl: arguments in, exit codes out
    server         one running node, from a client's bytes to the log and back
    config         settings, and where each value came from
    storage, peer  the two databases on disk; the links to other nodes
    commands       one decorated function each, pure
    keyspace       how keys and values lie in an ordered store, pure
    raft, resp     the consensus core, pure; the wire format of clients
    observability  the log of the house
    errors         every exception class

What holds for the whole:

- Commands are replicated, not effects: every node computes the same from (view, arguments, stamp, seed). So nothing in
  `commands` and `keyspace` reads a clock, randomness, a setting that may differ, or an order that may vary.
- The origin answers: the node that took a command computes its reply when the command comes back through the log.
- Exactly once: a session per node, a sequence per batch (`server.sessions`, `server.proposals`).
- "Certainly not done" and "may have been done" are different errors and never merge (`errors`).
- What cannot be trusted ends the process with one line; recovery is from disk.

Where this departs from the design it was built after, the reason stands where the code lives: a cluster's first start
needs all its nodes once (`server.rejoin`); the log is recovered up to a point in time and held against marks, not
tolerating a damaged tail (`storage.log_store`); a key's record also holds when it was written, for OBJECT IDLETIME
(`keyspace.metadata`); records lately used are kept in memory beside RocksDB's cache (`keyspace.record_cache`).
"""

from typing import TYPE_CHECKING

from zattredis.version import __version__

if TYPE_CHECKING:
    from zattredis.client import AsyncDistributedDict, DistributedDict
    from zattredis.commands.extension import command
    from zattredis.commands.extension_context import Context
    from zattredis.embed import Node, Server, serve
    from zattredis.errors import DefiniteError, OutcomeUnknown, ReplyError, WrongType, ZattredisError

__all__ = [
    "AsyncDistributedDict", "Context", "DefiniteError", "DistributedDict", "Node", "OutcomeUnknown", "ReplyError",
    "Server", "WrongType", "ZattredisError", "__version__", "command", "serve",
]  # fmt: skip

_ROOM_OF = {
    "AsyncDistributedDict": "client",
    "Context": "commands.extension_context",
    "DefiniteError": "errors",
    "DistributedDict": "client",
    "Node": "embed",
    "OutcomeUnknown": "errors",
    "ReplyError": "errors",
    "Server": "embed",
    "WrongType": "errors",
    "ZattredisError": "errors",
    "command": "commands.extension",
    "serve": "embed",
}
"""Name → the room that has it, imported when the name is first asked for: a client needs no server, nor a server
redis-py."""


def __getattr__(name: str) -> object:
    room = _ROOM_OF.get(name)
    if room is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    try:
        found: object = getattr(importlib.import_module(f"{__name__}.{room}"), name)
    except ImportError as error:
        if room != "client" or error.name is None or error.name.partition(".")[0] != "redis":
            raise
        raise ImportError(f"{name} needs redis-py: pip install 'zattredis[client]'", name="redis") from error
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return [*globals(), *_ROOM_OF]
