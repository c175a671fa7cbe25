"""Nodes inside other programs: `serve` for tests and tools, `Node` for those who embed one for good.

What is here:

- `server`   `serve(...)` → `Server`: one node, or a cluster, with a directory and ports of its own, and its end
- `node`     `Node`: one node on the caller's own event loop
- `instance` how one node of a `Server` runs: in a thread of this process (`thread`), or as a process (`process`)
- `nursery`  the process that has imported everything and from which the nodes of a cluster are forked
- `options`  keyword arguments → settings, by the one table of settings

Invariants:

- When a `Server` is closed, by `with`, by `close` or by the end of the interpreter, nothing of it is left: no thread,
  no process, no port, and no directory that it made itself. A process that is killed takes its nodes with it: they
  notice the end of the channel to it.
- Settings are checked by `config`, before anything is started, with its own errors.

Decisions, with their reasons:

- **One node runs in a thread, several run as processes.** A thread is there as soon as the modules are imported, and
  commands written in the calling program need not be importable from elsewhere. But threads share one interpreter lock,
  and cannot be killed or paused: a cluster whose failures are to mean something needs processes.
- **Processes are forked from a nursery**, which imports once what all need: three nodes start in the time of one, and a
  node that was killed is back in milliseconds. The calling process itself may have threads, and must not be forked.
- **A partition is made where a node hears others**: what arrives from beyond it is left unread, so that the other side
  notices as little as in a network that drops packets, and new connections are closed. It needs no privileges. What it
  cannot show is a partition towards clients.
"""

from __future__ import annotations

from zattredis.embed.node import Node
from zattredis.embed.server import Server, serve

__all__ = ["Node", "Server", "serve"]
