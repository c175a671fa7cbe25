"""DEBUG and LOLWUT: what tests and the curious send."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from zattredis.commands.arguments import parse_double, parse_integer, strict_integer
from zattredis.commands.context import REDIS_VERSION, LocalContext
from zattredis.commands.table import Flag, command
from zattredis.errors import DefiniteError, SubcommandSyntax
from zattredis.resp.replies import Verbatim
from zattredis.version import __version__

_SLEEP_SECONDS_MAX = 3600.0
_SERIALIZED_BYTES_MAX = 1 << 20
"""The serialized length of a larger value is an estimate: to know it, all of the value would have to be serialized."""


async def _sleep(ctx: LocalContext, seconds: bytes) -> str:
    """SLEEP: let this one connection wait; the node and all other clients go on."""
    duration = parse_double(seconds)
    await ctx.server.sleep(min(max(duration, 0.0), _SLEEP_SECONDS_MAX))
    return "OK"


async def _object(ctx: LocalContext, key: bytes) -> str:
    """OBJECT: the encoding and the serialized length of a key's value."""
    encoding = await ctx.server.execute(ctx.client, [b"OBJECT", b"ENCODING", key])
    length = await ctx.server.execute(ctx.client, [b"MEMORY", b"USAGE", key])
    if isinstance(length, int) and length <= _SERIALIZED_BYTES_MAX:
        dumped = await ctx.server.execute(ctx.client, [b"DUMP", key])
        length = len(dumped) if isinstance(dumped, bytes) else None
    if not isinstance(encoding, bytes) or not isinstance(length, int):
        raise DefiniteError("no such key")
    return f"Value at:0x0 refcount:1 encoding:{encoding.decode()} serializedlength:{length} lru:0 lru_seconds_idle:0"


async def _help(_ctx: LocalContext) -> list[str]:
    return [
        "DEBUG <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
        "OBJECT <key>",
        "    Show encoding and serialized length of the value at <key>.",
        "SLEEP <seconds>",
        "    Let this connection wait for <seconds>; other clients go on. Decimals allowed.",
        "HELP",
        "    Print this help.",
    ]


_SUBCOMMANDS: dict[bytes, tuple[int, Callable[..., Awaitable[Any]]]] = {
    b"HELP": (0, _help),
    b"OBJECT": (1, _object),
    b"SLEEP": (1, _sleep),
}


@command(
    "DEBUG",
    arity=-2,
    flags=Flag.ADMIN | Flag.NOSCRIPT | Flag.LOADING | Flag.STALE,
    group="server",
    since="1.0.0",
    complexity="Depends on subcommand.",
    doc_flags=("syscmd",),
)
def debug(ctx: LocalContext, subcommand: bytes, *words: bytes) -> Awaitable[Any]:
    """A container for debugging commands."""
    count, handler = _SUBCOMMANDS.get(subcommand.upper(), (-1, _help))
    if len(words) != count:
        raise SubcommandSyntax("DEBUG", subcommand)
    return handler(ctx, *words)


# -- LOLWUT ------------------------------------------------------------------------------------------------------

_RAFT = (
    "        |\\",
    "        | \\",
    "        |__\\",
    "   _____|______",
    "  (=)==(=)==(=)",
)
_WAVES_MIN, _WAVES_MAX = 18, 200


@command(
    "LOLWUT",
    arity=-1,
    flags=Flag.READONLY | Flag.FAST | Flag.LOCAL,
    group="server",
    since="5.0.0",
    complexity="O(1)",
    syntax="[VERSION version:integer]",
)
def lolwut(_ctx: LocalContext, *words: bytes) -> Verbatim:
    """Draw a raft at sea (VERSION 7, optionally so many columns wide), and tell the version."""
    version = 7
    if len(words) >= 2 and words[0].upper() == b"VERSION":
        version = parse_integer(words[1])
        words = words[2:]
    width = strict_integer(words[0]) if words else None  # what is no number is passed over, as Redis does
    columns = 40 if width is None else min(max(width, _WAVES_MIN), _WAVES_MAX)
    name = f"Redis ver. {REDIS_VERSION} (zattredis {__version__})\n"
    if version != 7:
        return Verbatim("txt", name.encode())
    waves = [("~^~-" * columns)[shift : shift + columns] for shift in (0, 2)]
    return Verbatim("txt", "\n".join((*_RAFT, *waves, "", name)).encode())
