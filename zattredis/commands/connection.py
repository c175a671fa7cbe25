"""The connection's own commands: who it is, which database, which protocol, and its end (CLIENT is in `client`)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from zattredis.commands.arguments import parse_integer
from zattredis.commands.context import REDIS_VERSION, LocalContext
from zattredis.commands.table import Flag, command
from zattredis.errors import DefiniteError, SyntaxReplyError, shown
from zattredis.keyspace.registers import DATABASES

_HANDSHAKE = Flag.NOSCRIPT | Flag.LOADING | Flag.STALE | Flag.FAST | Flag.NO_AUTH | Flag.ALLOW_BUSY
_ANY_TIME = Flag.LOADING | Flag.STALE | Flag.FAST
_INT_MAX = (1 << 31) - 1
_NAME_BYTES = frozenset(range(ord("!"), ord("~") + 1))


class WrongPassword(DefiniteError):
    """The password is not the user's, or there is no such user."""

    prefix = "WRONGPASS"

    def __init__(self, user: bytes) -> None:
        self.user = user
        super().__init__("invalid username-password pair or user is disabled.")


def printable(word: bytes) -> bool:
    """Return whether `word` may be a name: printable ASCII without blanks, so that lists stay readable."""
    return _NAME_BYTES.issuperset(word)


def set_name(ctx: LocalContext, name: bytes) -> None:
    """Name the connection. Raises DefiniteError for a name that CLIENT LIST could not show."""
    if not printable(name):
        raise DefiniteError("Client names cannot contain spaces, newlines or special characters.")
    ctx.client.name = name


def _authenticate(ctx: LocalContext, user: bytes, password: bytes) -> None:
    access = ctx.server.access
    if not access.authenticate(user, password):
        raise WrongPassword(user)
    access.log_in(ctx.client, user)


def _until_known(ctx: LocalContext, attempt: Callable[[], Any]) -> Any:
    """Return what `attempt` returns: at once, or, if its user is refused, after a look at what is agreed by now.

    Another node may have confirmed the user or password a moment ago; this one must not deny it.
    """
    access, client, word = ctx.server.access, ctx.client, ctx.argv[0]

    async def again() -> Any:
        await access.catch_up(client)
        try:
            return attempt()
        except WrongPassword as error:
            access.refused(client, error.user, word)
            raise

    try:
        return attempt()
    except WrongPassword as error:
        if ctx.may_block and access.may_be_behind:
            return again()
        access.refused(client, error.user, word)
        raise


@command(
    "AUTH",
    arity=-2,
    flags=_HANDSHAKE,
    group="connection",
    since="1.0.0",
    complexity="O(1)",
    syntax="[username@6.0.0] password",
    history=(("6.0.0", "A user's name may come before the password."),),
)
def auth(ctx: LocalContext, *words: bytes) -> Any:
    """Authenticate the connection."""
    if len(words) > 2:
        raise SyntaxReplyError
    if len(words) == 1 and not ctx.server.access.password_required:
        raise DefiniteError(
            "AUTH <password> called without any password configured for the default user."
            " Are you sure your configuration is correct?"
        )
    user, password = words if len(words) == 2 else (b"default", words[0])

    def attempt() -> str:
        _authenticate(ctx, user, password)
        return "OK"

    return _until_known(ctx, attempt)


@command(
    "HELLO",
    arity=-1,
    flags=_HANDSHAKE,
    group="connection",
    since="6.0.0",
    complexity="O(1)",
    syntax="arguments=[protover username_password=[AUTH username password] [SETNAME clientname]]",
    history=(("6.2.0", "Without arguments it tells of the connection as it is."),),
)
def hello(ctx: LocalContext, *words: bytes) -> Any:
    """Agree on the protocol's version, authenticate and name the connection in one command."""
    return _until_known(ctx, lambda: _hello(ctx, words))


def _hello(ctx: LocalContext, words: tuple[bytes, ...]) -> dict[bytes, Any]:
    client = ctx.client
    version = client.resp
    if words:
        version = parse_integer(words[0], "Protocol version is not an integer or out of range")
        if version not in (2, 3):
            raise DefiniteError("unsupported protocol version", prefix="NOPROTO")
    place = 1
    while place < len(words):
        option, left = words[place].upper(), len(words) - place - 1
        if option == b"AUTH" and left >= 2:
            _authenticate(ctx, words[place + 1], words[place + 2])
            place += 3
        elif option == b"SETNAME" and left >= 1:
            set_name(ctx, words[place + 1])
            place += 2
        else:
            raise DefiniteError(f"Syntax error in HELLO option '{shown(words[place])}'")
    if not client.authenticated:
        raise DefiniteError(
            "HELLO must be called with the client already authenticated, otherwise the HELLO AUTH <user> <pass> option"
            " can be used to authenticate the client and select the RESP protocol version at the same time",
            prefix="NOAUTH",
        )
    client.resp = version
    mode, role = ctx.server.shown_as()
    return {
        b"server": b"redis",
        b"version": REDIS_VERSION.encode(),
        b"proto": version,
        b"id": client.id,
        b"mode": mode,
        b"role": role,
        b"modules": [],
    }


@command(
    "PING",
    arity=-1,
    flags=Flag.FAST,
    group="connection",
    since="1.0.0",
    complexity="O(1)",
    syntax="[message]",
    tips=("request_policy:all_shards", "response_policy:all_succeeded"),
)
def ping(_ctx: LocalContext, *words: bytes) -> str | bytes:
    """Answer PONG, or the message."""
    if len(words) > 1:
        raise DefiniteError("wrong number of arguments for 'ping' command")
    return words[0] if words else "PONG"


@command(
    "ECHO", arity=2, flags=_ANY_TIME, group="connection", since="1.0.0", complexity="O(1)", syntax="message"
)  # fmt: skip
def echo(_ctx: LocalContext, message: bytes) -> bytes:
    """Answer the message."""
    return message


@command(
    "SELECT", arity=2, flags=_ANY_TIME, group="connection", since="1.0.0", complexity="O(1)", syntax="index"
)  # fmt: skip
def select(ctx: LocalContext, index: bytes) -> str:
    """Change the connection's database."""
    number = parse_integer(index)
    if not -_INT_MAX - 1 <= number <= _INT_MAX:
        raise DefiniteError(f"value is out of range, value must between {-_INT_MAX - 1} and {_INT_MAX}")
    if not 0 <= number < DATABASES:
        raise DefiniteError("DB index is out of range")
    ctx.client.db = number
    return "OK"


@command(
    "QUIT", arity=-1, flags=_HANDSHAKE | Flag.UNQUEUED, group="connection", since="1.0.0", complexity="O(1)"
)  # fmt: skip
def quit_(ctx: LocalContext, *_words: bytes) -> str:
    """Close the connection once all replies are sent."""
    ctx.client.close_after_reply = True
    return "OK"


@command(
    "RESET", arity=1, flags=_HANDSHAKE | Flag.UNQUEUED, group="connection", since="6.2.0", complexity="O(1)"
)  # fmt: skip
def reset(ctx: LocalContext) -> str:
    """Put the connection back to how a new one starts."""
    ctx.server.access.reset(ctx.client)
    return "RESET"


@command(
    "READONLY", arity=1, flags=_ANY_TIME, group="cluster", since="3.0.0", complexity="O(1)", categories=("connection",)
)
def readonly(ctx: LocalContext) -> str:
    """Let this connection's reads be answered from this node's own data, which may lag behind."""
    ctx.client.readonly = True
    return "OK"


@command(
    "READWRITE", arity=1, flags=_ANY_TIME, group="cluster", since="3.0.0", complexity="O(1)", categories=("connection",)
)
def readwrite(ctx: LocalContext) -> str:
    """Make this connection's reads linearizable again."""
    ctx.client.readonly = False
    return "OK"
