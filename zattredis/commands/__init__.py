"""The commands: one decorated function each, and everything that derives from them.

What is here. `table` is the command table (`CommandSpec`, `@command`); `keyspec` says where keys stand; `syntax` reads
the syntax strings; `arguments` and `glob` read what clients send; `context` is what a handler is given. The other
modules are the commands, a module for each of Redis's groups or a part of it; but `extension` and what is named after
it: commands of users' own (`zattredis.command`), made of Python functions and a `Context` of their own. Importing this
package imports every module in it, which fills the table.

How to add a command: write its function in the module of its group, decorate it (see `table`), give it the flags,
key flags and tips that Redis's COMMAND INFO shows (a test compares them), and let tests compare its replies with
redis-server's. Nothing else has to be touched: routing, COMMAND, ACL categories and the README's table derive from it.

Three kinds of handlers:

- READ and WRITE handlers are pure: the same (view, argv, time, seed, version) gives the same effects and reply on every
  node. They read no clock, no randomness but `ctx.random`, and no setting that may differ between nodes.
- LOCAL handlers get the connection and the node (`LocalContext`) and touch no keyspace. They may be coroutines; then
  only their own connection waits.

Decisions, with their reasons:

- Every node says `role:master`, whoever leads: every node takes every command, and clients that read `slave` refuse to
  send writes. Who leads is in INFO's raft section.
- The version told to clients is Redis 7.0.15's, the one whose commands these are; CLIENT SETINFO and CLIENT NO-TOUCH
  are 7.2's, because today's clients send them on connecting.
- HELP texts, COMMAND DOCS and the README derive from the specs, so they name what is there and nothing else.
- Summaries and texts for people are our own; errors and reply shapes are Redis's, byte for byte.
"""

import importlib
import pkgutil

from zattredis.commands import table

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")

table.check_complete()

__all__ = ["table"]
