"""CONFIG: the settings of this node at run time, and the parameters that the whole cluster agrees on.

Commands depend on the latter at apply (`keyspace.parameters`), so setting one is a write: the origin checks the line
(`_to_log`) and proposes it with plain numbers; every node, the origin too, sets them when it applies the log
(`_set_agreed`). The log holds it as CONFIG SET: there is no other command a client could find or call.

`requirepass` is the password of the user `default`, which is part of the state too; the log gets its digest. What else
the line sets is the origin's own business and never enters the log. It is set when the
origin applies its own proposal: with the agreed part, or not at all if that was refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final, NamedTuple

from zattredis.commands.arguments import INT_MAX, INT_MIN, INTEGER_MAX, parse_integer
from zattredis.commands.context import Context, LocalContext
from zattredis.commands.table import CommandSpec, Flag, command, container, lookup_full
from zattredis.errors import DefiniteError, SyntaxReplyError
from zattredis.keyspace.agreements import change_user
from zattredis.keyspace.users import DEFAULT_USER, decode_base


class AgreedParameter(NamedTuple):
    """Where a parameter stands in `keyspace.parameters.Parameters`, and its bounds."""

    field: str
    low: int = 0
    high: int = INTEGER_MAX
    is_memory: bool = False


_HASH_ENTRIES: Final = AgreedParameter("hash_max_listpack_entries")
_HASH_VALUE: Final = AgreedParameter("hash_max_listpack_value", is_memory=True)
_LIST_SIZE: Final = AgreedParameter("list_max_listpack_size", INT_MIN, INT_MAX)
_ZSET_ENTRIES: Final = AgreedParameter("zset_max_listpack_entries")
_ZSET_VALUE: Final = AgreedParameter("zset_max_listpack_value", is_memory=True)

AGREED: Final[Mapping[bytes, AgreedParameter]] = {
    b"hash-max-listpack-entries": _HASH_ENTRIES,
    b"hash-max-listpack-value": _HASH_VALUE,
    b"hash-max-ziplist-entries": _HASH_ENTRIES,
    b"hash-max-ziplist-value": _HASH_VALUE,
    b"hll-sparse-max-bytes": AgreedParameter("hll_sparse_max_bytes", is_memory=True),
    b"list-compress-depth": AgreedParameter("list_compress_depth", 0, INT_MAX),
    b"list-max-listpack-size": _LIST_SIZE,
    b"list-max-ziplist-size": _LIST_SIZE,
    b"set-max-intset-entries": AgreedParameter("set_max_intset_entries"),
    b"zset-max-listpack-entries": _ZSET_ENTRIES,
    b"zset-max-listpack-value": _ZSET_VALUE,
    b"zset-max-ziplist-entries": _ZSET_ENTRIES,
    b"zset-max-ziplist-value": _ZSET_VALUE,
}
"""CONFIG name → parameter of the cluster; the `ziplist` names are Redis's own, older ones."""

REQUIREPASS: Final = b"requirepass"
"""The password of the default user: for the log a digest, `#…` or `nopass`, and behind a blank a `Base`."""

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


def _to_log(ctx: LocalContext, argv: list[bytes]) -> tuple[CommandSpec, list[bytes]] | None:
    """Return what of a CONFIG SET goes through the log; None when nothing does, or the line is refused anyway."""
    words = argv[2:]
    if len(words) % 2 or not any(name.lower() in AGREED or name.lower() == REQUIREPASS for name in words[::2]):
        return None
    settings = ctx.server.settings
    try:
        agreed, own = settings.agreed_part(list(zip(words[::2], words[1::2], strict=True)))
    except DefiniteError:
        return None
    if not agreed:
        return None
    spec = lookup_full(b"CONFIG|SET")
    assert spec is not None and spec.logged is not None
    if not own:
        return spec.logged, [*argv[:2], *agreed]

    def set_both(context: Context, *pairs: bytes) -> str | DefiniteError:
        _set_agreed(context, *pairs)
        try:
            settings.change(own)
        except DefiniteError as error:
            return error  # raised, it would undo on this node what the others keep
        return "OK"

    return replace(spec.logged, handler=set_both), [*argv[:2], *agreed]


def _set_agreed(ctx: Context, *words: bytes) -> str:
    """Set parameters of the cluster; names unknown here are a later version's and change nothing."""
    for name, value in zip(words[::2], words[1::2], strict=True):
        if name == REQUIREPASS:
            rule, _, base = value.partition(b" ")
            change_user(ctx.view, decode_base(base), DEFAULT_USER, (b"resetpass", rule))
    changed = {
        AGREED[name].field: parse_integer(value)
        for name, value in zip(words[::2], words[1::2], strict=True)
        if name in AGREED
    }
    if changed:
        ctx.view.set_parameters(ctx.view.registers.parameters._replace(**changed))
    return "OK"


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
    logged=_set_agreed,
    variant=_to_log,
)
def config_set(ctx: LocalContext, *words: bytes) -> str:
    """Set parameters of this node, or of the cluster: all of them, or none and an error."""
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
