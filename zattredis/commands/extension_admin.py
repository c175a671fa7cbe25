"""EXTENSION: the commands that are not part of zattredis, and how their code is exchanged."""

from __future__ import annotations

from typing import Any, Final

from zattredis.commands import extension
from zattredis.commands.context import Context, LocalContext
from zattredis.commands.table import Flag, command, container

SINCE: Final = "0.2.0"

_CHANGE: Final = Flag.WRITE | Flag.ADMIN | Flag.NOSCRIPT

container("EXTENSION", "A container for commands about extensions", group="server", since=SINCE, help_since=SINCE)


@command("EXTENSION LIST", arity=2, flags=Flag.ADMIN | Flag.LOADING | Flag.STALE, group="server", since=SINCE,
         complexity="O(N) where N is the number of extensions", tips=("nondeterministic_output",))  # fmt: skip
def extension_list(ctx: LocalContext) -> list[dict[str, Any]]:
    """Return each extension: its name, whether it is active, the code agreed on and this node's own, its commands."""
    return ctx.server.extensions()


@command("EXTENSION RETIRE", arity=3, flags=_CHANGE, group="server", since=SINCE, complexity="O(1)", syntax="name")
def extension_retire(ctx: Context, name: bytes) -> str:
    """Refuse the commands of an extension on every node, until all nodes were restarted with other code of it."""
    extension.retire(ctx, name.decode("utf-8", "surrogateescape"))
    return "OK"


@command("EXTENSION RESUME", arity=3, flags=_CHANGE, group="server", since=SINCE, complexity="O(1)", syntax="name")
def extension_resume(ctx: Context, name: bytes) -> str:
    """Take EXTENSION RETIRE back, as long as every node has the former code."""
    extension.resume(ctx, name.decode("utf-8", "surrogateescape"))
    return "OK"
