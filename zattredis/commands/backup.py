"""RAFT BACKUP: how `zattctl backup` reads a node's state, over the connection of a client with its rights."""

from __future__ import annotations

from typing import Any

from zattredis.commands.arguments import strict_integer
from zattredis.commands.context import LocalContext
from zattredis.commands.raft import SINCE
from zattredis.commands.table import Flag, command
from zattredis.errors import DefiniteError, SyntaxReplyError


@command(
    "RAFT BACKUP", arity=-3, flags=Flag.ADMIN | Flag.NOSCRIPT | Flag.NO_MULTI | Flag.STALE, group="server",
    since=SINCE, complexity="O(N) where N is what was written since the last snapshot, for BEGIN; the bytes, for READ",
    syntax="<BEGIN [STALE] | READ token file:integer offset:integer length:integer | END token>",
    tips=("nondeterministic_output",),
)  # fmt: skip
async def raft_backup(ctx: LocalContext, action: bytes, *words: bytes) -> Any:
    """Hold this node's state as of now and return its files; read a piece of one with its CRC-32; let go of it."""
    cluster = ctx.server.cluster
    match action.upper(), words:
        case b"BEGIN", []:
            return await cluster.backup_begin(ctx.client, stale=False)
        case b"BEGIN", [option] if option.upper() == b"STALE":
            return await cluster.backup_begin(ctx.client, stale=True)
        case b"READ", [token, *places] if len(places) == 3:
            numbers = [number for number in map(strict_integer, places) if number is not None]
            if len(numbers) != 3:
                raise DefiniteError("value is not an integer or out of range")
            return await cluster.backup_read(ctx.client, token, *numbers)
        case b"END", [token]:
            await cluster.backup_end(ctx.client, token)
            return "OK"
    raise SyntaxReplyError
