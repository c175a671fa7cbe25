"""Commands that are not part of zattredis: `zattredis.command`, and how they come into the command table.

    import zattredis

    @zattredis.command("ACCOUNT.TRANSFER", keys=(1, 2))
    def transfer(ctx: zattredis.Context, source: bytes, target: bytes, amount: int) -> int:
        ...

Decorating a function only describes it. A node that is told of the module (setting `extensions`) makes an `Extension`
of what is described there, with a digest of its source (`server.extensions`), and `install`s it.

Invariants:

- The table is one per process, so two extensions of one name with different code cannot be installed together.
- A command of an extension is executed only where the digest of its code is the one that the cluster has agreed on
  (`keyspace.extensions`). While none is, every node answers the same error. Where another one is, the node stops.
- Whatever the function raises becomes an error reply and undoes what it wrote, on every node alike. Only what means
  that this process is broken, or its storage, ends the node.
- What a function returns is checked here: what no client could be sent is an error before anything is kept.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from zattredis.commands import context as own
from zattredis.commands.acl_rules import forget_commands
from zattredis.commands.extension_arguments import Signature, read_signature
from zattredis.commands.extension_context import Context
from zattredis.commands.keyspec import KeyPart, KeySpec
from zattredis.commands.table import COMMANDS, NO_KEYS, CommandSpec, Flag, Kind, add, internal
from zattredis.errors import DefiniteError, FatalError, ReplyError, SyntaxReplyError, WriteStalled
from zattredis.keyspace.agreements import set_agreed
from zattredis.keyspace.extensions import Agreed
from zattredis.resp.replies import NULL_ARRAY, BigNumber, Bulks, DoubleText, Pairs, ReplySet, Verbatim

F = TypeVar("F", bound=Callable[..., Any])

ATTRIBUTE: Final = "__zattredis_command__"
AGREE: Final = b"\0extension"
_NAME: Final = re.compile(r"[A-Z][A-Z0-9_.:-]*", re.ASCII)
_INTEGER_MAX: Final = (1 << 63) - 1
_DEPTH_MAX: Final = 64


@dataclass(frozen=True, slots=True)
class Described:
    """What `command` was told of a function."""

    name: str
    function: Callable[..., Any]
    readonly: bool
    signature: Signature
    keys: KeySpec
    key_parts: tuple[KeyPart, ...]
    fast: bool
    since: str
    complexity: str
    summary: str


@dataclass(frozen=True, slots=True)
class Extension:
    """The commands of a module, and the digest of the code that they are."""

    name: str
    digest: str
    commands: tuple[Described, ...]


def command(
    name: str,
    *,
    keys: int | Sequence[int] = (),
    readonly: bool = False,
    fast: bool = False,
    since: str = "",
    complexity: str = "",
    summary: str = "",
) -> Callable[[F], F]:
    """Make a function a command of the cluster, carried out on every node, atomically, as part of its log.

    >>> import zattredis
    >>> @zattredis.command("VOTES.CAST", keys=1)
    ... def cast(ctx: zattredis.Context, poll: bytes, choice: str, weight: int = 1) -> int:
    ...     \"\"\"Count a vote.\"\"\"
    ...     if ctx.hget(poll, "closed"):
    ...         raise zattredis.ReplyError("the poll is closed")
    ...     return ctx.hincr(poll, choice, weight)
    >>> with zattredis.serve(extensions=[cast]) as server:
    ...     server.client().execute_command("VOTES.CAST", "lunch", "pizza")
    1

    `name` is one word, in any case. `keys` says which arguments are keys, counted from 1: one place, or several; or, as
    in Redis's COMMAND, `(first, -1)` for all from the first on, or `(first, last, step)` with a negative last. What the
    types of the parameters say (bytes, str, int, float, bool, a Literal of words; with a default, or as `*rest`) is
    read from the command line before anything enters the log, with Redis's errors.

    The function gets a `Context` first, and is to depend on that and its arguments alone: every node carries it out by
    itself, and all must come to the same. Time is `ctx.now_ms`, randomness `ctx.random`. It returns None, bytes, int,
    float, bool, text (a status line), or lists, tuples, dicts and sets of them; it refuses by raising `ReplyError`.
    With `readonly` it is carried out on one node, at a read point, and cannot write. `fast`, `since`, `complexity` and
    `summary` (by default the first line of its docstring) are for COMMAND INFO, COMMAND DOCS and ACL categories.

    The function itself stays as it is, so that tests may call it. Raises ValueError for a name or keys that cannot be,
    TypeError for a signature that no command line could fill.
    """
    upper = name.upper()
    if not _NAME.fullmatch(upper):
        raise ValueError(f"{name!r} cannot be a command: a letter, then letters, digits and any of _ . : -")

    places = (keys,) if isinstance(keys, int) else tuple(keys)

    def is_key(place: int) -> bool:
        if len(places) > 1 and places[1] < 0:
            return place >= places[0]
        return place in places

    def describe(function: F) -> F:
        signature = read_signature(function, is_key)
        spec, parts = _keys(keys, signature, upper, readonly)
        first_line = (function.__doc__ or "").strip().split("\n")[0].rstrip(".")
        described = Described(
            upper, function, readonly, signature, spec, parts, fast, since, complexity, summary or first_line
        )
        setattr(function, ATTRIBUTE, described)
        return function

    return describe


def described(function: object) -> Described | None:
    """Return what `command` was told of a function, None if it was not."""
    found = getattr(function, ATTRIBUTE, None)
    return found if isinstance(found, Described) and found.function is function else None


def _keys(
    keys: int | Sequence[int], signature: Signature, name: str, readonly: bool
) -> tuple[KeySpec, tuple[KeyPart, ...]]:
    places = (keys,) if isinstance(keys, int) else tuple(keys)
    if not places:
        return NO_KEYS, ()
    flags = "RO access" if readonly else "RW access update"
    if len(places) in (2, 3) and places[0] > 0 > places[1]:
        step = places[2] if len(places) == 3 else 1
        if step < 1 or signature.most >= 0:
            raise ValueError(f"{name}: keys={places} needs a function with *arguments, and a positive step")
        spec = KeySpec(places[0], places[1], step)
        return spec, (spec.part(flags),)
    if min(places) < 1 or len({*places}) < len(places) or max(places) > len(signature.names):
        raise ValueError(f"{name}: keys={places} are not places of its arguments, counted from 1")
    if signature.most < 0 and max(places) == len(signature.names):
        raise ValueError(f"{name}: argument {max(places)} may be many; say keys=({max(places)}, -1)")
    places = tuple(sorted(places))
    step = places[1] - places[0] if len(places) > 1 else 1
    if places == tuple(range(places[0], places[-1] + 1, step)):
        spec = KeySpec(places[0], places[-1], step)
        return spec, (spec.part(flags),)

    def find(argv: list[bytes]) -> list[bytes]:
        return [argv[place] for place in places if place < len(argv)]

    spec = KeySpec(places[0], places[-1], 1, finder=find)
    return spec, tuple(KeyPart(flags, index=place) for place in places)


# -- into the table ----------------------------------------------------------------------------------------------------


class _Installed:
    __slots__ = ("digest", "specs", "users")

    def __init__(self, digest: str, specs: list[CommandSpec]) -> None:
        self.digest = digest
        self.specs = specs
        self.users = 0


_installed: dict[str, _Installed] = {}


def install(extension: Extension) -> None:
    """Put the commands of an extension into the table. Raises ValueError if a name of theirs is taken."""
    installed = _installed.get(extension.name)
    if installed is None:
        specs = [_spec(extension, one) for one in extension.commands]
        for spec in specs:
            if spec.name.encode() in COMMANDS:
                module = COMMANDS[spec.name.encode()].module or "zattredis"
                raise ValueError(f"the command {spec.name} of {extension.name} is one of {module} already")
        for spec in specs:
            add(spec)
        forget_commands()
        installed = _installed[extension.name] = _Installed(extension.digest, specs)
    elif installed.digest != extension.digest:
        raise ValueError(f"{extension.name} is in use in this process with other code")
    installed.users += 1


def remove(extension: Extension) -> None:
    """Take the commands of an extension out of the table again, when nobody else in this process uses them."""
    installed = _installed[extension.name]
    installed.users -= 1
    if not installed.users:
        del _installed[extension.name]
        for spec in installed.specs:
            del COMMANDS[spec.name.encode()]
        forget_commands()


def digest_of(name: str) -> str:
    """Return the digest of the code that this process has for an extension, "" if it has none."""
    installed = _installed.get(name)
    return "" if installed is None else installed.digest


def _spec(extension: Extension, one: Described) -> CommandSpec:
    signature = one.signature
    flags = Flag.MODULE | (Flag.READONLY if one.readonly else Flag.WRITE | Flag.DENYOOM)
    name, digest = extension.name, extension.digest

    def check(local: Any, argv: list[bytes]) -> None:
        """Refuse on the origin what every node would refuse: it need not enter the log."""
        local.server.check_extension(name, digest)
        try:
            signature.read(argv[1:])
        except SyntaxReplyError:
            if 0 <= signature.most < len(argv) - 1:
                raise DefiniteError(f"wrong number of arguments for '{one.name.lower()}' command") from None
            raise

    return CommandSpec(
        name=one.name, arity=signature.arity, kind=Kind.READ if one.readonly else Kind.WRITE,
        flags=flags | (Flag.FAST if one.fast else Flag.NONE), keys=one.keys, group="module", since=one.since,
        handler=_handler(extension, one), summary=one.summary, complexity=one.complexity, syntax=signature.syntax,
        key_parts=one.key_parts, variant=check, module=name,
    )  # fmt: skip


def _handler(extension: Extension, one: Described) -> Callable[..., Any]:
    name, digest, read, function = extension.name, extension.digest, one.signature.read, one.function
    readonly, command_name = one.readonly, one.name.lower()

    def handle(ctx: own.Context, *words: bytes) -> Any:
        agreed = ctx.view.registers.extensions.get(name)
        if agreed is None or agreed.retired or agreed.digest != digest:
            refuse(name, digest, agreed)
        arguments = read(words)
        guard = _guard
        guard.enter(command_name)
        try:
            value = function(Context(ctx, readonly), *arguments)
        except (ReplyError, MemoryError, FatalError, WriteStalled):
            raise
        except (Exception, SystemExit) as error:
            if isinstance(error, OSError) and _from_storage(error):
                raise
            raise DefiniteError(_failure(command_name, error)) from error
        finally:
            guard.leave()
        kind = value.__class__
        if value is None or kind is bytes or (kind is int and -_INTEGER_MAX <= value <= _INTEGER_MAX):
            return value
        try:
            return to_reply(value)
        except TypeError as error:
            raise DefiniteError(_failure(command_name, error)) from error

    return handle


def refuse(name: str, digest: str, agreed: Agreed | None) -> None:
    """Raise what keeps a command of an extension from being executed: DefiniteError on every node, or FatalError."""
    if agreed is None:
        raise DefiniteError(f"the nodes have not agreed on the extension {name} yet")
    if agreed.retired:
        raise DefiniteError(f"the extension {name} is retired until all nodes have its next version")
    raise FatalError(other_code(name, digest, agreed.digest))


def other_code(name: str, digest: str, agreed: str) -> str:
    """Return the line with which a node ends whose code is not the one agreed on."""
    has = f"has other code ({digest[:12]})" if digest else "does not have it"
    return (
        f"the cluster runs the extension {name} with code {agreed[:12]}, and this node {has}: install that code here "
        f"and start the node again; to change code, first EXTENSION RETIRE {name}, then restart the nodes with it"
    )


def _failure(command_name: str, error: BaseException) -> str:
    text = " ".join(str(error).split())
    return f"{command_name} failed: {type(error).__name__}{': ' if text else ''}{text}; nothing was written"


def _from_storage(error: BaseException) -> bool:
    trace = error.__traceback__
    while trace is not None:
        if str(trace.tb_frame.f_globals.get("__name__", "")).startswith("zattredis.storage."):
            return True
        trace = trace.tb_next
    return False


_SENDABLE: Final = (bool, float, ReplySet, Pairs, Bulks, Verbatim, BigNumber, DoubleText, type(NULL_ARRAY))


def to_reply(value: Any, depth: int = 0) -> Any:
    """Return what a function returned as a reply value. Raises TypeError for what no client could be sent."""
    kind = value.__class__
    if value is None or kind is bytes or kind in _SENDABLE or isinstance(value, ReplyError):
        return value
    if kind is int:
        return value if -_INTEGER_MAX <= value <= _INTEGER_MAX else BigNumber(value)
    if kind is str:
        return value if value.isprintable() else value.encode()
    if depth > _DEPTH_MAX:
        raise TypeError("the reply is nested too deeply")
    if isinstance(value, list | tuple):
        return [to_reply(one, depth + 1) for one in value]
    if isinstance(value, dict):
        return {to_reply(key, depth + 1): to_reply(one, depth + 1) for key, one in value.items()}
    if isinstance(value, set | frozenset):
        return ReplySet([to_reply(one, depth + 1) for one in sorted(value, key=repr)])
    raise TypeError(f"a command returns bytes, text, numbers, or lists, dicts and sets of them, not {kind.__name__}")


# -- the guard ---------------------------------------------------------------------------------------------------------


class Guard:
    """Told when a command of an extension begins and ends; `server.determinism` puts a real one in its place."""

    def enter(self, command_name: str) -> None:
        """A command begins."""

    def leave(self) -> None:
        """It has ended."""


_guard = Guard()


def set_guard(guard: Guard) -> None:
    """Let `guard` be told."""
    global _guard
    _guard = guard


# -- what the cluster agrees on ----------------------------------------------------------------------------------------


@internal(AGREE)
def _agree(ctx: own.Context, name_word: bytes, digest_word: bytes) -> str:
    """From here on the cluster runs an extension with this code; a node without it stops before it applies this."""
    name, digest = name_word.decode(), digest_word.decode()
    if digest_of(name) != digest:
        raise FatalError(other_code(name, digest_of(name), digest))
    set_agreed(ctx.view, name, Agreed(digest))
    return "OK"


def retire(ctx: own.Context, name: str) -> None:
    """From here on the commands of an extension are refused, until all nodes have other code."""
    agreed = ctx.view.registers.extensions.get(name)
    if agreed is None:
        raise DefiniteError(f"the cluster has no extension {name}")
    set_agreed(ctx.view, name, agreed._replace(retired=True))


def resume(ctx: own.Context, name: str) -> None:
    """Take `retire` back."""
    agreed = ctx.view.registers.extensions.get(name)
    if agreed is None or not agreed.retired:
        raise DefiniteError(f"the extension {name} is not retired")
    if digest_of(name) != agreed.digest:
        raise FatalError(other_code(name, digest_of(name), agreed.digest))
    set_agreed(ctx.view, name, agreed._replace(retired=False))


__all__ = [
    "AGREE", "Described", "Extension", "Guard", "command", "described", "digest_of", "install", "other_code", "remove",
    "resume", "retire", "set_guard", "to_reply",
]  # fmt: skip
