"""CONFIG: the settings of this node at run time."""

from __future__ import annotations

from zattredis.commands.context import LocalContext
from zattredis.commands.table import Flag, command, container
from zattredis.errors import SyntaxReplyError

_FLAGS = Flag.ADMIN | Flag.NOSCRIPT | Flag.LOADING | Flag.STALE

container(
    "CONFIG", "A container for server configuration commands", group="server", since="2.0.0", help_since="5.0.0"
)  # fmt: skip


@command(
    "CONFIG GET",
    arity=-3,
    flags=_FLAGS,
    group="server",
    since="2.0.0",
    complexity="O(N) when N is the number of configuration parameters provided",
    syntax="parameter=<parameter> [parameter=<parameter> ...]",
    history=(("7.0.0", "Several patterns may be given."),),
)
def config_get(ctx: LocalContext, *patterns: bytes) -> dict[bytes, bytes]:
    """Return the parameters that the patterns match, with their values."""
    return ctx.server.settings.matching(patterns)


@command(
    "CONFIG SET",
    arity=-4,
    flags=_FLAGS,
    group="server",
    since="2.0.0",
    complexity="O(N) when N is the number of configuration parameters provided",
    syntax="parameter_value=<parameter value> [parameter_value=<parameter value> ...]",
    tips=("request_policy:all_nodes", "response_policy:all_succeeded"),
    history=(("7.0.0", "Several parameters may be set by one call."),),
)
def config_set(ctx: LocalContext, *words: bytes) -> str:
    """Set parameters of this node: all of them, or none and an error."""
    if len(words) % 2:
        raise SyntaxReplyError
    ctx.server.settings.change(list(zip(words[::2], words[1::2], strict=True)))
    return "OK"


@command("CONFIG RESETSTAT", arity=2, flags=_FLAGS, group="server", since="2.0.0", complexity="O(1)")
def config_resetstat(ctx: LocalContext) -> str:
    """Set the counters that INFO reports back to zero."""
    ctx.server.statistics.reset()
    return "OK"


@command("CONFIG REWRITE", arity=2, flags=_FLAGS, group="server", since="2.8.0", complexity="O(1)")
def config_rewrite(ctx: LocalContext) -> str:
    """Write the parameters as they are now into the settings file."""
    ctx.server.settings.rewrite()
    return "OK"
