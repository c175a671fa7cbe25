"""The command table: one `CommandSpec` per command, filled by the `@command` decorator.

How to add a command: decorate one function; what is left out follows from the rest.

    @command("GETRANGE", arity=4, flags=Flag.READONLY, keys=KEYS_FIRST, group="string", since="2.4.0",
             key_flags="RO access", complexity="O(N) …", syntax="key start:integer end:integer")
    def getrange(ctx: Context, key: bytes, start: bytes, end: bytes) -> bytes:
        \"\"\"Return the substring of a string value.\"\"\"

Commands of users' own are made with `commands.extension.command`; `module` is the extension they belong to.

The handler gets what follows the command's name (for "CLIENT ID": what follows both words). `syntax` is read by
`commands.syntax` and becomes the `arguments` of COMMAND DOCS; `categories` are the ACL categories that do not follow
from the flags (`acl_categories` has them all); by default the one that belongs to the group.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from zattredis.commands.keyspec import (
    KEYS_ALL,
    KEYS_FIRST,
    KEYS_PAIRS,
    KEYS_SECOND,
    KEYS_TWO,
    NO_KEYS,
    KeyPart,
    KeySpec,
)
from zattredis.commands.syntax import usage
from zattredis.commands.versions import FIRST, gated, gated_many
from zattredis.errors import DefiniteError

__all__ = [
    "CATEGORIES", "COMMANDS", "FLAG_NAMES", "INTERNAL", "KEYS_ALL", "KEYS_FIRST", "KEYS_PAIRS", "KEYS_SECOND",
    "KEYS_TWO", "NO_KEYS", "CommandSpec", "Flag", "KeyPart", "KeySpec", "Kind", "UnknownCommand", "UnknownSubcommand",
    "WrongArity", "add", "add_help", "all_specs", "check_complete", "command", "container", "help_lines", "internal",
    "lookup", "lookup_full", "lookup_logged", "resolve",
]  # fmt: skip


class Kind(enum.IntEnum):
    """Where a command runs."""

    LOCAL = 0  # on the node that took it, at once; touches no keyspace
    READ = 1  # at a confirmed read point
    WRITE = 2  # at apply, on every node


class Flag(enum.IntFlag):
    """Redis's command flags, and three of ours (HEAVY, UNQUEUED, LOCAL)."""

    NONE = 0
    WRITE = enum.auto()
    READONLY = enum.auto()
    DENYOOM = enum.auto()
    ADMIN = enum.auto()
    PUBSUB = enum.auto()
    NOSCRIPT = enum.auto()
    BLOCKING = enum.auto()
    LOADING = enum.auto()
    STALE = enum.auto()
    SKIP_MONITOR = enum.auto()
    SKIP_SLOWLOG = enum.auto()
    ASKING = enum.auto()
    FAST = enum.auto()
    NO_AUTH = enum.auto()
    MAY_REPLICATE = enum.auto()
    SENTINEL = enum.auto()
    NO_MANDATORY_KEYS = enum.auto()
    ALLOW_BUSY = enum.auto()
    NO_MULTI = enum.auto()
    MOVABLEKEYS = enum.auto()
    HEAVY = enum.auto()  # a generator handler, run in slices over a frozen view
    NO_ASYNC_LOADING = enum.auto()
    UNQUEUED = enum.auto()  # runs at once even inside MULTI
    LOCAL = enum.auto()  # LOCAL although READONLY: the command reads nothing (LOLWUT)
    MODULE = enum.auto()  # an extension's


FLAG_NAMES: tuple[tuple[Flag, str], ...] = (
    (Flag.WRITE, "write"),
    (Flag.READONLY, "readonly"),
    (Flag.DENYOOM, "denyoom"),
    (Flag.MODULE, "module"),
    (Flag.ADMIN, "admin"),
    (Flag.PUBSUB, "pubsub"),
    (Flag.NOSCRIPT, "noscript"),
    (Flag.BLOCKING, "blocking"),
    (Flag.LOADING, "loading"),
    (Flag.STALE, "stale"),
    (Flag.SKIP_MONITOR, "skip_monitor"),
    (Flag.SKIP_SLOWLOG, "skip_slowlog"),
    (Flag.ASKING, "asking"),
    (Flag.FAST, "fast"),
    (Flag.NO_AUTH, "no_auth"),
    (Flag.NO_MANDATORY_KEYS, "no_mandatory_keys"),
    (Flag.NO_ASYNC_LOADING, "no_async_loading"),
    (Flag.NO_MULTI, "no_multi"),
    (Flag.MOVABLEKEYS, "movablekeys"),
    (Flag.ALLOW_BUSY, "allow_busy"),
)
"""The flags that COMMAND shows, in the order in which it shows them."""

CATEGORIES: tuple[str, ...] = (
    "keyspace", "read", "write", "set", "sortedset", "list", "hash", "string", "bitmap", "hyperloglog", "geo",
    "stream", "pubsub", "admin", "fast", "slow", "blocking", "dangerous", "connection", "transaction", "scripting",
)  # fmt: skip
"""All ACL categories, in the order in which ACL CAT and COMMAND show them."""

_GROUP_CATEGORIES = {
    "generic": "keyspace", "string": "string", "list": "list", "set": "set", "sorted-set": "sortedset", "hash": "hash",
    "pubsub": "pubsub", "transactions": "transaction", "connection": "connection", "scripting": "scripting",
    "hyperloglog": "hyperloglog", "geo": "geo", "stream": "stream", "bitmap": "bitmap",
}  # fmt: skip

_FLAG_CATEGORIES = (
    (Flag.WRITE, ("write",)),
    (Flag.READONLY, ("read",)),
    (Flag.ADMIN, ("admin", "dangerous")),
    (Flag.PUBSUB, ("pubsub",)),
    (Flag.FAST, ("fast",)),
    (Flag.BLOCKING, ("blocking",)),
)


@dataclass(slots=True, eq=False)
class CommandSpec:
    """Everything known of one command. `arity` counts the name (both words of a subcommand); negative means "at least".

    Identity is equality, so that a spec can be a key of statistics.
    """

    name: str
    arity: int
    kind: Kind
    flags: Flag
    keys: KeySpec
    group: str
    since: str
    handler: Callable[..., Any]
    summary: str = ""
    complexity: str = ""
    syntax: str = ""
    categories: tuple[str, ...] = ()
    tips: tuple[str, ...] = ()
    history: tuple[tuple[str, str], ...] = ()
    subcommands: dict[str, CommandSpec] = field(default_factory=dict)
    parent: CommandSpec | None = None
    heavy: bool = False
    sliced: CommandSpec | None = None
    logged: CommandSpec | None = None
    variant: Variant | None = None
    original: CommandSpec | None = None
    many: Callable[..., list[Any] | None] | None = None
    doc_flags: tuple[str, ...] = ()
    deprecated_since: str = ""
    replaced_by: str = ""
    key_parts: tuple[KeyPart, ...] = ()
    key_access: Callable[[list[bytes]], str] | None = None
    weigh: Weigh | None = None
    light_words: int = 0
    idle_if_absent: bool = False
    module: str = ""
    version: int = FIRST
    full_name: str = field(init=False)
    words: int = field(init=False)
    unqueued: bool = field(init=False)
    blocking: bool = field(init=False)
    one_key: bool = field(init=False)
    plain: bool = field(init=False)
    """Whether each line of the command may go the quick way: it is a read or write of no special kind."""

    def __post_init__(self) -> None:
        self.full_name = self.name.lower().replace(" ", "|")
        self.words = self.name.count(" ") + 1
        self.unqueued = bool(self.flags & Flag.UNQUEUED)
        self.blocking = self.kind == Kind.WRITE and bool(self.flags & Flag.BLOCKING)
        self.one_key = self.keys.first == 1 and self.keys.last == 1
        self.settle()

    def settle(self) -> None:
        """Derive what follows from other fields; again whenever one of those was set."""
        self.plain = self.kind != Kind.LOCAL and not (
            self.heavy or self.subcommands or self.blocking or self.variant
        )

    @property
    def acl_categories(self) -> tuple[str, ...]:
        """All ACL categories of the command, without `@`, in Redis's order."""
        found = set(self.categories)
        for flag, names in _FLAG_CATEGORIES:
            if self.flags & flag:
                found.update(names)
        if "fast" not in found:
            found.add("slow")
        return tuple(name for name in CATEGORIES if name in found)

    @property
    def flag_names(self) -> tuple[str, ...]:
        """The flags as COMMAND shows them."""
        return tuple(name for flag, name in FLAG_NAMES if self.flags & flag)

    def accepts(self, argc: int) -> bool:
        """Return whether `argc` words, the name's included, fit the arity."""
        return argc == self.arity if self.arity > 0 else argc >= -self.arity

    def arguments(self, argv: list[bytes]) -> list[bytes]:
        """Return what follows the name in a whole command line: the handler's arguments."""
        return argv[self.words :]


Weigh = Callable[[Any, "CommandSpec", list[bytes]], int]
"""(Context, spec, command line) → about how many elements it has to do with; see `commands.weights`."""

Variant = Callable[[Any, list[bytes]], "tuple[CommandSpec, list[bytes]] | None"]
"""(LocalContext of the client, command line) → the spec and command line to be carried out instead, or None."""

SLICED_ABOVE = 512
"""Words of a command line above which a command that has a `sliced` handler runs in slices."""

COMMANDS: dict[bytes, CommandSpec] = {}
"""Upper-case name → spec; the one table that everything else derives from."""

INTERNAL: dict[bytes, CommandSpec] = {}
"""What nodes put into the log on their own account, by names that no client can call: they are not in COMMANDS."""

_orphans: dict[str, list[CommandSpec]] = {}  # subcommands whose module was imported before their container's


class UnknownCommand(DefiniteError):
    """No such command; the text shows the beginning of what was sent, as Redis does."""

    def __init__(self, argv: list[bytes]) -> None:
        shown = ""
        for argument in argv[1:]:
            if len(shown) >= 128:
                break
            shown += f"'{_shown(argument[: 128 - len(shown)])}' "
        super().__init__(f"unknown command '{_shown(argv[0][:128])}', with args beginning with: {shown}")


class UnknownSubcommand(DefiniteError):
    """The container has no such subcommand."""

    def __init__(self, container: CommandSpec, word: bytes) -> None:
        super().__init__(f"unknown subcommand '{_shown(word[:128])}'. Try {container.name} HELP.")


class WrongArity(DefiniteError):
    """Too few or too many arguments for the command `spec`."""

    def __init__(self, spec: CommandSpec) -> None:
        super().__init__(f"wrong number of arguments for '{spec.full_name}' command")


def _shown(word: bytes) -> str:
    """Return `word` as it may stand in an error line: up to its first zero byte, without line breaks."""
    return word.partition(b"\0")[0].replace(b"\r", b" ").replace(b"\n", b" ").decode("utf-8", "surrogateescape")


def lookup(name: bytes) -> CommandSpec | None:
    """Return the spec of a command name in any case, or None."""
    return COMMANDS.get(name) or COMMANDS.get(name.upper())


def lookup_logged(name: bytes) -> CommandSpec | None:
    """Return the spec of a name as the log holds it, or None."""
    return lookup(name) or INTERNAL.get(name)


def lookup_full(name: bytes) -> CommandSpec | None:
    """Return the spec of a name as COMMAND INFO takes it (`get`, `client|id`) in any case, or None."""
    word, _, sub = name.partition(b"|")
    spec = lookup(word)
    if spec is None or not sub:
        return spec
    return spec.subcommands.get(sub.decode("latin-1").upper())


def resolve(argv: list[bytes]) -> CommandSpec:
    """Return the spec, a subcommand's own where there is one, that the command line `argv` calls.

    Raises UnknownCommand, UnknownSubcommand or WrongArity, in Redis's order. `argv` is not empty.
    """
    spec = COMMANDS.get(argv[0]) or COMMANDS.get(argv[0].upper())
    if spec is None:
        raise UnknownCommand(argv)
    if spec.subcommands and len(argv) > 1:
        sub = spec.subcommands.get(argv[1].decode("latin-1").upper())
        if sub is None:
            raise UnknownSubcommand(spec, argv[1])
        spec = sub
    if not spec.accepts(len(argv)):
        raise WrongArity(spec)
    return spec


def all_specs() -> list[CommandSpec]:
    """Return every spec, each container followed by its subcommands."""
    return [one for spec in COMMANDS.values() for one in (spec, *spec.subcommands.values())]


def command(
    name: str,
    *,
    arity: int,
    flags: Flag,
    keys: KeySpec = NO_KEYS,
    group: str,
    since: str,
    complexity: str = "",
    syntax: str = "",
    categories: tuple[str, ...] | None = None,
    tips: tuple[str, ...] = (),
    history: tuple[tuple[str, str], ...] = (),
    doc_flags: tuple[str, ...] = (),
    deprecated_since: str = "",
    replaced_by: str = "",
    key_flags: str = "",
    key_notes: str = "",
    key_parts: tuple[KeyPart, ...] = (),
    key_access: Callable[[list[bytes]], str] | None = None,
    summary: str = "",
    many: Callable[..., list[Any] | None] | None = None,
    sliced: Callable[..., Any] | None = None,
    logged: Callable[..., Any] | None = None,
    variant: Variant | None = None,
    reads: Callable[[list[bytes]], bool] | None = None,
    weigh: Weigh | None = None,
    light_words: int = 0,
    idle_if_absent: bool = False,
    version: int = FIRST,
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register the decorated handler. A space in `name` ("CLIENT ID") registers a subcommand of its container.

    The kind follows from the flags: WRITE → at apply, READONLY → at a read point, neither (or LOCAL) → LOCAL.
    The summary, if not given, is the first line of the handler's docstring.

    `key_flags` ("RO access", "OW update", …) and `key_notes` describe the keys of `keys` for COMMAND INFO; by default
    they are "RO access" of a READONLY and "RW update" of any other command. Where one range is not enough, or the keys
    are found by a keyword or a number, `key_parts` says it all. `key_access` returns the flags of the keys of one given
    command line where they vary (SET with GET).

    `many(ctx, argvs)` may carry out several command lines at once, with the very effects and replies of one after the
    other, and none of which can fail; it returns their replies, or None, with nothing done, to decline. For writes
    `ctx.ordinal` is the first one's, from which the others' count on; each has a randomness of its own.
    `sliced` is the same handler as a generator, as HEAVY ones are, for command lines of more than SLICED_ABOVE words.

    A write that may have to do with more elements than its command line has words says with how many: `weigh`, one of
    `commands.weights`, is asked before it is carried out, for lines of more than `light_words` words. Where they are
    very many, it is carried out in turns with everything else.

    Some command lines may be of another kind than the command. `variant(local, argv)` finds them: it returns the spec
    and command line to be carried out in place of the client's, else None. `reads(argv)` does so for those of a WRITE
    that only read (SORT without STORE), and need no log. A LOCAL command some of whose lines are writes of the whole
    cluster (CONFIG SET of a replicated parameter) has `logged`, the WRITE handler that every node carries out for what
    the log holds under its name; clients cannot call that otherwise, and no command is shown for it.

    `idle_if_absent`: a write that changes nothing when its one key is absent. Then it needs no log, and is answered
    like a read, at its first call already; of other writes the node learns which change nothing (`server.trials`).

    `version`: the state-machine version that a WRITE came with. Until all nodes know it, it is refused (`versions`).
    """

    def register(handler: Callable[..., Any]) -> Callable[..., Any]:
        parts = key_parts
        if not parts and keys is not NO_KEYS and keys.first:
            default = "RO access" if flags & Flag.READONLY else "RW update"
            parts = (keys.part(key_flags or default, key_notes),)
        group_category = _GROUP_CATEGORIES.get(group)
        spec = CommandSpec(
            name=name, arity=arity, kind=_kind(flags), flags=flags, keys=keys, group=group, since=since,
            handler=gated(name, version, handler) if flags & Flag.WRITE else handler,
            summary=summary or _summary(handler), complexity=complexity, syntax=syntax,
            categories=categories if categories is not None else (group_category,) if group_category else (),
            tips=tips, history=history, heavy=bool(flags & Flag.HEAVY),
            doc_flags=(*doc_flags, "deprecated") if deprecated_since else doc_flags,
            deprecated_since=deprecated_since, replaced_by=replaced_by, key_parts=parts, key_access=key_access,
            many=gated_many(version, many) if flags & Flag.WRITE else many, variant=variant, version=version,
            weigh=weigh, light_words=light_words, idle_if_absent=idle_if_absent,
        )  # fmt: skip
        if logged is not None:
            spec.logged = replace(
                spec, kind=Kind.WRITE, handler=gated(name, version, logged), variant=None, original=spec
            )
        if reads is not None:
            spec.variant = _reader_of(spec, reads, handler)
        if sliced is not None:
            spec.sliced = replace(spec, handler=sliced, heavy=True, original=spec)
        add(spec)
        return handler

    return register


def internal(name: bytes, *, version: int = FIRST) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register the decorated WRITE handler as one that only a node itself calls. `version` is as for `command`."""

    def register(handler: Callable[..., Any]) -> Callable[..., Any]:
        INTERNAL[name] = CommandSpec(
            name=name.decode("latin-1"), arity=-1, kind=Kind.WRITE, flags=Flag.WRITE, keys=NO_KEYS, group="internal",
            since="", handler=gated(name.decode("latin-1"), version, handler), summary=_summary(handler),
            version=version,
        )  # fmt: skip
        return handler

    return register


def _reader_of(spec: CommandSpec, reads: Callable[[list[bytes]], bool], handler: Callable[..., Any]) -> Variant:
    """Return the `variant` of a WRITE some of whose command lines only read."""
    reader = replace(spec, kind=Kind.READ, handler=handler, original=spec)
    return lambda _local, argv: (reader, argv) if reads(argv) else None


def container(
    name: str,
    summary: str,
    *,
    group: str,
    since: str,
    help_since: str,
    help_categories: tuple[str, ...] = (),
    complexity: str = "Depends on subcommand.",
) -> None:
    """Register a command that is nothing but the name of its subcommands (CLIENT, CONFIG, …), and its HELP."""
    add(
        CommandSpec(
            name=name, arity=-2, kind=Kind.LOCAL, flags=Flag.NONE, keys=NO_KEYS, group=group, since=since,
            handler=_no_subcommands, summary=summary, complexity=complexity,
        )
    )  # fmt: skip
    add_help(name, group=group, since=help_since, categories=help_categories)


def add_help(name: str, *, group: str, since: str, categories: tuple[str, ...] = ()) -> None:
    """Register the HELP subcommand of `name`; its text derives from the specs of the other subcommands."""

    def show_help(_ctx: object) -> list[str]:
        """Show helpful text about the different subcommands."""
        return help_lines(COMMANDS[name.encode()])

    command(
        f"{name} HELP", arity=2, flags=Flag.LOADING | Flag.STALE, group=group, since=since, complexity="O(1)",
        categories=categories,
    )(show_help)  # fmt: skip


def help_lines(spec: CommandSpec) -> list[str]:
    """Return the reply of a container's HELP: usage and summary of each subcommand, in Redis's layout."""
    lines = [f"{spec.name} <subcommand> [<arg> [value] [opt] ...]. Subcommands are:"]
    for name, sub in spec.subcommands.items():
        if name != "HELP":
            lines.append(f"{name} {usage(sub.syntax)}".strip())
            lines.append(f"    {sub.summary}.")
    return [*lines, "HELP", "    Print this help."]


def add(spec: CommandSpec) -> None:
    """Put `spec` into the table. Raises ValueError when its name is taken.

    A subcommand may come before its container: modules are imported in any order.
    """
    parent_name, _, sub = spec.name.partition(" ")
    spec.settle()
    if not sub:
        if spec.name.encode() in COMMANDS:
            raise ValueError(f"command {spec.name} is defined twice")
        COMMANDS[spec.name.encode()] = spec
        for orphan in _orphans.pop(spec.name, ()):
            add(orphan)
        return
    parent = COMMANDS.get(parent_name.encode())
    if parent is None:
        _orphans.setdefault(parent_name, []).append(spec)
        return
    if sub in parent.subcommands:
        raise ValueError(f"command {spec.name} is defined twice")
    spec.parent = parent
    parent.subcommands[sub] = spec
    parent.settle()


def check_complete() -> None:
    """Raise ValueError if a subcommand waits for a container that nobody registered."""
    if _orphans:
        raise ValueError(f"no container for the subcommands of {', '.join(sorted(_orphans))}")


def _kind(flags: Flag) -> Kind:
    if flags & Flag.LOCAL:
        return Kind.LOCAL
    return Kind.WRITE if flags & Flag.WRITE else Kind.READ if flags & Flag.READONLY else Kind.LOCAL


def _summary(handler: Callable[..., Any]) -> str:
    return (handler.__doc__ or "").strip().split("\n")[0].rstrip(".")


def _no_subcommands(_ctx: object, *_arguments: bytes) -> None:
    raise AssertionError("`resolve` never returns a container: its arity asks for a subcommand")
