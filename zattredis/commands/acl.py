"""ACL: the users of the cluster, what they may do, and what was denied. And MODULE, of which there are none.

Users are part of the replicated state (`keyspace.users`). ACL SETUSER, DELUSER and LOAD are LOCAL commands whose lines
are writes unless they are wrong: the origin checks the rules against its command table, makes them canonical, which
puts a digest in the place of every password, and proposes them. Every node applies them to the users as they are then.
What only that shows (a password to be removed that is not there) is refused at apply, on every node alike.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from zattredis.commands.acl_rules import (
    DENIED_COMMAND,
    DENIED_KEY,
    canonical_rules,
    flags_of,
    line_of,
    merge_selectors,
    shown_channels,
    shown_keys,
    shown_rules,
    with_rules,
)
from zattredis.commands.arguments import parse_integer
from zattredis.commands.context import Context, LocalContext
from zattredis.commands.table import (
    CATEGORIES,
    CommandSpec,
    Flag,
    UnknownCommand,
    UnknownSubcommand,
    all_specs,
    command,
    container,
    lookup_full,
    resolve,
)
from zattredis.errors import ClusterDown, DefiniteError, SubcommandSyntax, shown
from zattredis.keyspace.agreements import change_user, delete_users, replace_users
from zattredis.keyspace.users import DEFAULT_USER, RuleRefused, Selector, User, decode_base, has_blanks, new_user
from zattredis.resp.replies import ReplySet

_FLAGS = Flag.NOSCRIPT | Flag.LOADING | Flag.STALE
_ADMIN = _FLAGS | Flag.ADMIN
_GENPASS_BITS = 256
_GENPASS_BITS_MAX = 4096

Logged = tuple[CommandSpec, list[bytes]]

container("ACL", "A container for Access List Control commands", group="server", since="6.0.0", help_since="6.0.0")
container("MODULE", "A container for module commands", group="server", since="4.0.0", help_since="5.0.0")


async def _caught_up(ctx: LocalContext) -> None:
    """Return once this node shows what is agreed by now. Inside EXEC it does already. Raises ClusterDown."""
    if ctx.may_block and not await ctx.server.access.catch_up(ctx.client):
        raise ClusterDown("no quorum: what users are agreed on is not known here now")


def _logged_as(name: bytes, handler: Callable[..., Any]) -> CommandSpec:
    """Return the WRITE that stands for an ACL subcommand in the log, with the origin's own handler."""
    spec = lookup_full(b"ACL|" + name)
    assert spec is not None and spec.logged is not None
    return replace(spec.logged, handler=handler)


# -- changes -----------------------------------------------------------------------------------------------------


def _set_user(ctx: Context, name: bytes, base: bytes, *rules: bytes) -> str:
    change_user(ctx.view, decode_base(base), name, rules)
    return "OK"


def _setuser_to_log(ctx: LocalContext, argv: list[bytes]) -> Logged | None:
    name, words = argv[2], argv[3:]
    try:
        rules = canonical_rules(words)
    except DefiniteError:
        return None
    if has_blanks(name):
        return None
    said = merge_selectors(words)

    def set_user(context: Context, *logged: bytes) -> str:
        try:
            return _set_user(context, *logged)
        except RuleRefused as error:
            raise RuleRefused(error.place, said[error.place], error.reason) from None

    return _logged_as(b"SETUSER", set_user), [*argv[:3], ctx.server.access.base(), *rules]


@command(
    "ACL SETUSER",
    arity=-3,
    flags=_ADMIN,
    group="server",
    since="6.0.0",
    complexity="O(N). Where N is the number of rules provided.",
    syntax="username [rule [rule ...]]",
    history=(
        ("6.2.0", "Channel patterns."),
        ("7.0.0", "Selectors, and key patterns for reading or writing alone."),
    ),
    logged=_set_user,
    variant=_setuser_to_log,
)
def acl_setuser(ctx: LocalContext, name: bytes, *words: bytes) -> str:
    """Make a user, or change what a user may do, on all nodes."""
    if has_blanks(name):
        raise DefiniteError("Usernames can't contain spaces or null characters")
    access = ctx.server.access
    all_channels = access.all_channels
    with_rules(access.user(name) or new_user(name, all_channels), words, all_channels)
    raise DefiniteError("ACL SETUSER could not be taken when it was sent, try again")


def _delete_users(ctx: Context, base: bytes, *names: bytes) -> int:
    return delete_users(ctx.view, decode_base(base), names)


def _deluser_to_log(ctx: LocalContext, argv: list[bytes]) -> Logged | None:
    names = argv[2:]
    if DEFAULT_USER in names:
        return None
    client = ctx.client

    def delete(context: Context, *logged: bytes) -> int:
        deleted = _delete_users(context, *logged)
        if client.user in names:
            client.close_after_reply = True
        return deleted

    return _logged_as(b"DELUSER", delete), [*argv[:2], ctx.server.access.base(), *names]


@command(
    "ACL DELUSER", arity=-3, flags=_ADMIN, group="server", since="6.0.0",
    complexity="O(1) amortized time considering the typical user.", syntax="username [username ...]",
    logged=_delete_users, variant=_deluser_to_log,
)  # fmt: skip
def acl_deluser(_ctx: LocalContext, *_names: bytes) -> int:
    """Delete users on all nodes, and close their connections."""
    raise DefiniteError("The 'default' user cannot be removed")


def _load_users(ctx: Context, base: bytes) -> str:
    replace_users(ctx.view, decode_base(base))
    return "OK"


def _load_to_log(ctx: LocalContext, argv: list[bytes]) -> Logged | None:
    try:
        base = ctx.server.access.loaded()
    except DefiniteError:
        return None
    client = ctx.client

    def load(context: Context, *logged: bytes) -> str:
        if client.user != DEFAULT_USER:
            client.close_after_reply = True
        return _load_users(context, *logged)

    return _logged_as(b"LOAD", load), [*argv[:2], base]


@command(
    "ACL LOAD", arity=2, flags=_ADMIN, group="server", since="6.0.0",
    complexity="O(N). Where N is the number of configured users.", logged=_load_users, variant=_load_to_log,
)  # fmt: skip
def acl_load(ctx: LocalContext) -> str:
    """Replace the users, on all nodes, by those of this node's ACL file."""
    ctx.server.access.loaded()
    raise DefiniteError("the ACL file could not be read when ACL LOAD was sent, try again")


@command(
    "ACL SAVE", arity=2, flags=_ADMIN, group="server", since="6.0.0",
    complexity="O(N). Where N is the number of configured users.",
)  # fmt: skip
async def acl_save(ctx: LocalContext) -> str:
    """Write the users to this node's ACL file."""
    ctx.server.access.need_file()
    await _caught_up(ctx)
    ctx.server.access.save()
    return "OK"


# -- looking -----------------------------------------------------------------------------------------------------


@command("ACL WHOAMI", arity=2, flags=_FLAGS, group="server", since="6.0.0", complexity="O(1)")
def acl_whoami(ctx: LocalContext) -> bytes:
    """Return the user of this connection."""
    return ctx.client.user


@command("ACL USERS", arity=2, flags=_ADMIN, group="server", since="6.0.0",
         complexity="O(N). Where N is the number of configured users.")  # fmt: skip
async def acl_users(ctx: LocalContext) -> list[bytes]:
    """Name the users."""
    await _caught_up(ctx)
    return [user.name for user in ctx.server.access.users()]


@command("ACL LIST", arity=2, flags=_ADMIN, group="server", since="6.0.0",
         complexity="O(N). Where N is the number of configured users.")  # fmt: skip
async def acl_list(ctx: LocalContext) -> list[bytes]:
    """Show the users as an ACL file does."""
    await _caught_up(ctx)
    return [line_of(user) for user in ctx.server.access.users()]


def _described(selector: Selector) -> dict[bytes, Any]:
    return {
        b"commands": shown_rules(selector.rules),
        b"keys": shown_keys(selector),
        b"channels": shown_channels(selector),
    }


@command(
    "ACL GETUSER",
    arity=3,
    flags=_ADMIN,
    group="server",
    since="6.0.0",
    complexity="O(N). Where N is the number of password, command and pattern rules that the user has.",
    syntax="username",
    history=(
        ("6.2.0", "Channel patterns."),
        ("7.0.0", "Selectors; key and channel patterns are shown as the rules that make them."),
    ),
)
async def acl_getuser(ctx: LocalContext, name: bytes) -> dict[bytes, Any] | None:
    """Show one user; passwords as their digests."""
    await _caught_up(ctx)
    user = ctx.server.access.user(name)
    if user is None:
        return None
    return {
        b"flags": ReplySet(flags_of(user)),
        b"passwords": list(user.passwords),
        **_described(user.selectors[0]),
        b"selectors": [_described(selector) for selector in user.selectors[1:]],
    }


@command(
    "ACL CAT", arity=-2, flags=_FLAGS, group="server", since="6.0.0",
    complexity="O(1) since the categories and commands are a fixed set.", syntax="[categoryname]",
)  # fmt: skip
def acl_cat(ctx: LocalContext, *words: bytes) -> list[bytes]:
    """Name the categories, or the commands of one category."""
    if len(words) > 1:
        raise SubcommandSyntax("ACL", ctx.argv[1])
    if not words:
        return [name.encode() for name in CATEGORIES]
    category = shown(words[0])
    if category.lower() not in CATEGORIES:
        raise DefiniteError(f"Unknown category '{category}'")
    return [spec.full_name.encode() for spec in all_specs() if category.lower() in spec.acl_categories]


@command("ACL GENPASS", arity=-2, flags=_FLAGS, group="server", since="6.0.0", complexity="O(1)",
         syntax="[bits:integer]")  # fmt: skip
def acl_genpass(ctx: LocalContext, *words: bytes) -> bytes:
    """Make up a password that nobody guesses; its length is given in bits."""
    if len(words) > 1:
        raise SubcommandSyntax("ACL", ctx.argv[1])
    bits = parse_integer(words[0]) if words else _GENPASS_BITS
    if not 0 < bits <= _GENPASS_BITS_MAX:
        raise DefiniteError(
            "ACL GENPASS argument must be the number of bits for the output password, a positive number up to "
            f"{_GENPASS_BITS_MAX}"
        )
    return ctx.server.access.random_hex((bits + 3) // 4)


@command(
    "ACL LOG", arity=-2, flags=_ADMIN, group="server", since="6.0.0",
    complexity="O(N) with N being the number of entries shown.", syntax="operation=[count:integer | RESET]",
)  # fmt: skip
def acl_log(ctx: LocalContext, *words: bytes) -> str | list[dict[bytes, Any]]:
    """Show what was denied on this node, the newest first, or forget it."""
    if len(words) > 1:
        raise SubcommandSyntax("ACL", ctx.argv[1])
    if words and words[0].upper() == b"RESET":
        ctx.server.access.forget_denials()
        return "OK"
    count = max(0, parse_integer(words[0])) if words else 10
    return ctx.server.access.denials(count)


@command(
    "ACL DRYRUN", arity=-4, flags=_ADMIN, group="server", since="7.0.0", complexity="O(1).",
    syntax="username command [arg [arg ...]]",
    summary="Tell whether a user may carry out a command, without carrying it out",
)  # fmt: skip
async def acl_dryrun(ctx: LocalContext, name: bytes, *line: bytes) -> str | bytes:
    """Tell whether a user may carry out a command line."""
    await _caught_up(ctx)
    user = ctx.server.access.user(name)
    if user is None:
        raise DefiniteError(f"User '{shown(name)}' not found")
    argv = list(line)
    try:
        spec = resolve(argv)
    except (UnknownCommand, UnknownSubcommand):
        raise DefiniteError(f"Command '{shown(argv[0])}' not found") from None
    return _verdict(ctx, user, spec, argv)


def _verdict(ctx: LocalContext, user: User, spec: CommandSpec, argv: Sequence[bytes]) -> str | bytes:
    permissions = ctx.server.access.permissions(user)
    denied, place = (0, 0) if permissions is None else permissions.denies(spec, list(argv))
    if not denied:
        return "OK"
    if denied == DENIED_COMMAND:
        return f"This user has no permissions to run the '{spec.full_name}' command".encode()
    kind = b"key" if denied == DENIED_KEY else b"channel"
    return b"This user has no permissions to access the '%b' %b" % (argv[place], kind)


@command("MODULE LIST", arity=2, flags=Flag.ADMIN | Flag.NOSCRIPT, group="server", since="4.0.0",
         complexity="O(N) where N is the number of modules.", tips=("nondeterministic_output_order",))  # fmt: skip
def module_list(_ctx: LocalContext) -> list[Any]:
    """List the loaded modules: there are none."""
    return []
