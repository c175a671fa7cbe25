"""zattredis: a Redis-protocol server whose every write is agreed by Raft before it is acknowledged.

The rooms, from the top; each may import those below it, never those above, and each one's docstring is its manual:

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

__all__ = ["AsyncDistributedDict", "DistributedDict", "__version__"]

_IN_CLIENT = ("AsyncDistributedDict", "DistributedDict")


def __getattr__(name: str) -> object:
    """Import the client only for those who ask for it: a server needs no redis-py."""
    if name not in _IN_CLIENT:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        from zattredis import client
    except ImportError as error:
        if error.name is None or error.name.partition(".")[0] != "redis":
            raise
        raise ImportError(f"{name} needs redis-py: pip install 'zattredis[client]'", name="redis") from error
    return getattr(client, name)
