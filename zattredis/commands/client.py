"""CLIENT: the connections of this node, seen and steered from one of them."""

from __future__ import annotations

from typing import Any

from zattredis.commands.arguments import Options, parse_integer, strict_integer
from zattredis.commands.connection import printable, set_name
from zattredis.commands.context import NO_REPLY, AccessProtocol, KillFilter, LocalContext, NoReply, PauseMode
from zattredis.commands.table import Flag, command, container
from zattredis.errors import DefiniteError, SubcommandSyntax, SyntaxReplyError, shown
from zattredis.resp.replies import ReplySet, Verbatim

_FLAGS = Flag.NOSCRIPT | Flag.LOADING | Flag.STALE
_ADMIN = _FLAGS | Flag.ADMIN
_TYPES = {
    b"NORMAL": "normal",
    b"MASTER": "master",
    b"REPLICA": "replica",
    b"SLAVE": "replica",
    b"PUBSUB": "pubsub",
}

container(
    "CLIENT",
    "A container for client connection commands",
    group="connection",
    since="2.4.0",
    help_since="5.0.0",
    help_categories=("connection",),
)


def _switch(word: bytes) -> bool:
    """Return whether `word` says ON. Raises SyntaxReplyError unless it is ON or OFF."""
    upper = word.upper()
    if upper not in (b"ON", b"OFF"):
        raise SyntaxReplyError
    return upper == b"ON"


def _client_type(word: bytes) -> str:
    kind = _TYPES.get(word.upper())
    if kind is None:
        raise DefiniteError(f"Unknown client type '{shown(word)}'")
    return kind


def _text(lines: list[str]) -> Verbatim:
    return Verbatim("txt", "".join(line + "\n" for line in lines).encode("utf-8", "surrogateescape"))


@command("CLIENT ID", arity=2, flags=_FLAGS, group="connection", since="5.0.0", complexity="O(1)")
def client_id(ctx: LocalContext) -> int:
    """Return the id of this connection."""
    return ctx.client.id


@command("CLIENT INFO", arity=2, flags=_FLAGS, group="connection", since="6.2.0", complexity="O(1)",
         tips=("nondeterministic_output",))  # fmt: skip
def client_info(ctx: LocalContext) -> Verbatim:
    """Describe this connection as CLIENT LIST does."""
    ctx.client.running = ctx.argv
    text = _text([ctx.client.line(ctx.now_ms)])
    ctx.client.running = []
    return text


@command(
    "CLIENT LIST",
    arity=-2,
    flags=_ADMIN,
    group="connection",
    since="2.4.0",
    complexity="O(N) where N is the number of client connections",
    syntax="[TYPE <NORMAL | MASTER | REPLICA | PUBSUB>]@5.0.0 id=[ID client-id [client-id ...]]@6.2.0",
    tips=("nondeterministic_output",),
    history=(
        ("2.8.12", "Shows the unique `id` of a client."),
        ("5.0.0", "`TYPE` chooses clients."),
        ("6.0.0", "Shows `user`."),
        ("6.2.0", "Shows `argv-mem`, `tot-mem`, `laddr` and `redir`; `ID` chooses clients."),
        ("7.0.0", "Shows `resp`, `multi-mem`, `rbs` and `rbp`."),
        ("7.0.3", "Shows `ssub`."),
    ),
)
def client_list(ctx: LocalContext, *words: bytes) -> Verbatim:
    """Describe the connections of this node, one a line."""
    kind: str | None = None
    ids: list[int] | None = None
    if len(words) == 2 and words[0].upper() == b"TYPE":
        kind = _client_type(words[1])
    elif len(words) >= 2 and words[0].upper() == b"ID":
        ids = [parse_integer(word, "Invalid client ID") for word in words[1:]]
    elif words:
        raise SyntaxReplyError
    ctx.client.running = ctx.argv
    text = _text(ctx.server.clients.lines(ctx.now_ms, kind, ids))
    ctx.client.running = []
    return text


@command("CLIENT SETNAME", arity=3, flags=_FLAGS, group="connection", since="2.6.9", complexity="O(1)",
         syntax="connection-name")  # fmt: skip
def client_setname(ctx: LocalContext, name: bytes) -> str:
    """Name this connection; an empty name takes the name away."""
    set_name(ctx, name)
    return "OK"


@command("CLIENT GETNAME", arity=2, flags=_FLAGS, group="connection", since="2.6.9", complexity="O(1)")
def client_getname(ctx: LocalContext) -> bytes | None:
    """Return the name of this connection."""
    return ctx.client.name or None


@command("CLIENT SETINFO", arity=4, flags=_FLAGS, group="connection", since="7.2.0", complexity="O(1)",
         syntax="attr=<LIB-NAME libname | LIB-VER libver>",
         tips=("request_policy:all_nodes", "response_policy:all_succeeded"))  # fmt: skip
def client_setinfo(ctx: LocalContext, attribute: bytes, value: bytes) -> str:
    """Tell the server which client library this is, and which version of it."""
    upper = attribute.upper()
    if upper not in (b"LIB-NAME", b"LIB-VER"):
        raise DefiniteError(f"Unrecognized option '{shown(attribute)}'")
    if not printable(value):
        raise DefiniteError(f"{shown(attribute)} cannot contain spaces, newlines or special characters.")
    if upper == b"LIB-NAME":
        ctx.client.library_name = value
    else:
        ctx.client.library_version = value
    return "OK"


@command(
    "CLIENT KILL",
    arity=-3,
    flags=_ADMIN,
    group="connection",
    since="2.4.0",
    complexity="O(N) where N is the number of client connections",
    syntax='filter=<"ip:port"~2.8.12 | new-format=<[ID client-id]@2.8.12'
    " | normal_master_slave_pubsub=[TYPE <NORMAL | MASTER@3.2.0 | SLAVE | REPLICA@5.0.0 | PUBSUB>]@2.8.12"
    ' | [USER username] | [ADDR "ip:port"] | [LADDR "ip:port"]@6.2.0 | [SKIPME "yes/no"]> ...>',
    history=(
        ("2.8.12", "Takes filters in pairs of a word and a value."),
        ("2.8.12", "`ID` filter."),
        ("3.2.0", "`master` is a `TYPE`."),
        ("5.0.0", "`TYPE` `replica`, which used to be called `slave`."),
        ("6.2.0", "`LADDR` filter."),
    ),
)
def client_kill(ctx: LocalContext, *words: bytes) -> str | int:
    """Close connections."""
    if len(words) == 1:
        wanted = KillFilter()
        wanted.address = words[0]
        wanted.skip_me = False
        if not _kill(ctx, wanted):
            raise DefiniteError("No such client")
        return "OK"
    return _kill(ctx, _kill_filter(words, ctx.server.access))


def _kill_filter(words: tuple[bytes, ...], users: AccessProtocol) -> KillFilter:
    wanted = KillFilter()
    options = Options(words)
    while options.more():
        word = options.word()
        value = options.argument()
        if word == b"ID":
            wanted.client_id = strict_integer(value)
            if wanted.client_id is None or wanted.client_id < 1:
                raise DefiniteError("client-id should be greater than 0")
        elif word == b"TYPE":
            wanted.type = _client_type(value)
        elif word == b"ADDR":
            wanted.address = value
        elif word == b"LADDR":
            wanted.local_address = value
        elif word == b"USER":
            if users.user(value) is None:
                raise DefiniteError(f"No such user '{shown(value)}'")
            wanted.user = value
        elif word == b"SKIPME" and value.upper() in (b"YES", b"NO"):
            wanted.skip_me = value.upper() == b"YES"
        else:
            raise SyntaxReplyError
    return wanted


def _kill(ctx: LocalContext, wanted: KillFilter) -> int:
    """Close what `wanted` describes and return how many that are; this connection only once it has its reply."""
    found = ctx.server.clients.matching(wanted, ctx.client)
    for client in found:
        if client is ctx.client:
            client.close_after_reply = True
        else:
            client.close("CLIENT KILL")
    return len(found)


@command(
    "CLIENT PAUSE",
    arity=-3,
    flags=_ADMIN,
    group="connection",
    since="2.9.50",
    complexity="O(1)",
    syntax="timeout mode=[WRITE | ALL]@6.2.0",
    history=(("6.2.0", "`WRITE` holds back writes alone."),),
)
def client_pause(ctx: LocalContext, timeout: bytes, *words: bytes) -> str:
    """Hold back the commands of all clients, or only their writes, for some milliseconds."""
    if len(words) > 1:
        raise SubcommandSyntax("CLIENT", ctx.argv[1])
    if words and words[0].upper() not in (b"WRITE", b"ALL"):
        raise DefiniteError("CLIENT PAUSE mode must be WRITE or ALL")
    mode = PauseMode.WRITE if words and words[0].upper() == b"WRITE" else PauseMode.ALL
    timeout_ms = parse_integer(timeout, "timeout is not an integer or out of range")
    if timeout_ms < 0:
        raise DefiniteError("timeout is negative")
    ctx.server.clients.pause(mode, ctx.now_ms + timeout_ms)
    return "OK"


@command("CLIENT UNPAUSE", arity=2, flags=_ADMIN, group="connection", since="6.2.0",
         complexity="O(N) Where N is the number of paused clients")  # fmt: skip
def client_unpause(ctx: LocalContext) -> str:
    """Let all clients go on."""
    ctx.server.clients.unpause()
    return "OK"


@command("CLIENT REPLY", arity=3, flags=_FLAGS, group="connection", since="3.2.0", complexity="O(1)",
         syntax="<ON | OFF | SKIP>")  # fmt: skip
def client_reply(ctx: LocalContext, mode: bytes) -> str | NoReply:
    """Say whether this connection wants replies."""
    client = ctx.client
    match mode.upper():
        case b"ON":
            client.reply_on()
            return "OK"
        case b"OFF":
            client.reply_off()
        case b"SKIP":
            client.reply_skip()
        case _ if not client.mute:
            raise SyntaxReplyError
        case _:
            client.skip_used()
    return NO_REPLY


@command("CLIENT NO-EVICT", arity=3, flags=_ADMIN, group="connection", since="7.0.0", complexity="O(1)",
         syntax="enabled=<ON | OFF>")  # fmt: skip
def client_no_evict(ctx: LocalContext, enabled: bytes) -> str:
    """Keep this connection from being closed for the memory that it holds."""
    ctx.client.no_evict = _switch(enabled)
    return "OK"


@command("CLIENT NO-TOUCH", arity=3, flags=_FLAGS, group="connection", since="7.2.0", complexity="O(1)",
         syntax="enabled=<ON | OFF>")  # fmt: skip
def client_no_touch(ctx: LocalContext, enabled: bytes) -> str:
    """Keep this connection's reads from counting as use of the keys."""
    ctx.client.no_touch = _switch(enabled)
    return "OK"


@command("CLIENT GETREDIR", arity=2, flags=_FLAGS, group="connection", since="6.0.0", complexity="O(1)")
def client_getredir(_ctx: LocalContext) -> int:
    """Return the client that invalidations are redirected to: -1, for tracking is off."""
    return -1


@command("CLIENT TRACKINGINFO", arity=2, flags=_FLAGS, group="connection", since="6.2.0", complexity="O(1)")
def client_trackinginfo(_ctx: LocalContext) -> dict[bytes, Any]:
    """Tell how this connection tracks keys: not at all."""
    return {b"flags": ReplySet([b"off"]), b"redirect": -1, b"prefixes": []}


@command(
    "CLIENT TRACKING",
    arity=-3,
    flags=_FLAGS,
    group="connection",
    since="6.0.0",
    complexity="O(1). Some options may introduce additional complexity.",
    syntax="status=<ON | OFF> [REDIRECT client-id] [PREFIX prefix [PREFIX prefix ...]] [BCAST] [OPTIN] [OPTOUT]"
    " [NOLOOP]",
)
def client_tracking(_ctx: LocalContext, status: bytes, *_words: bytes) -> str:
    """Turn client side caching off, as it always is here; ON is refused."""
    if _switch(status):
        raise DefiniteError("CLIENT TRACKING ON is not supported by this server")
    return "OK"


@command("CLIENT CACHING", arity=3, flags=_FLAGS, group="connection", since="6.0.0", complexity="O(1)",
         syntax="mode=<YES | NO>")  # fmt: skip
def client_caching(_ctx: LocalContext, _mode: bytes) -> str:
    """Track the keys of the next command: refused, for tracking is off."""
    raise DefiniteError(
        "CLIENT CACHING can be called only when the client is in tracking mode with OPTIN or OPTOUT mode enabled"
    )


@command(
    "CLIENT UNBLOCK",
    arity=-3,
    flags=_ADMIN,
    group="connection",
    since="5.0.0",
    complexity="O(log N) where N is the number of client connections",
    syntax="client-id [TIMEOUT | ERROR]",
)
def client_unblock(ctx: LocalContext, identity: bytes, *words: bytes) -> int:
    """End the blocking command of another connection."""
    if len(words) > 1:
        raise SubcommandSyntax("CLIENT", ctx.argv[1])
    if words and words[0].upper() not in (b"TIMEOUT", b"ERROR"):
        raise DefiniteError("CLIENT UNBLOCK reason should be TIMEOUT or ERROR")
    target = ctx.server.clients.get(parse_integer(identity))
    error = bool(words) and words[0].upper() == b"ERROR"
    return int(target is not None and target.unblock(error))
