"""The command table: one `CommandSpec` per command, filled by the `@command` decorator."""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any


class Kind(enum.IntEnum):
    """Where a command runs."""

    LOCAL = 0  # on the node that took it, at once; touches no keyspace
    READ = 1  # at a confirmed read point
    WRITE = 2  # at apply, on every node


class Flag(enum.IntFlag):
    """Redis's command flags, and two of ours (HEAVY, ASYNC)."""

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


@dataclass(frozen=True, slots=True)
class KeySpec:
    """First key, last key (negative: from the end) and step, as in COMMAND's reply; (0, 0, 0) = none."""

    first: int = 0
    last: int = 0
    step: int = 0
    finder: Callable[[list[bytes]], list[bytes]] | None = None

    def keys(self, argv: list[bytes]) -> list[bytes]:
        """Return the keys of a whole command line (name first)."""
        if self.finder is not None:
            return self.finder(argv)
        if self.first == 0:
            return []
        last = self.last if self.last >= 0 else len(argv) + self.last
        return argv[self.first : last + 1 : self.step]


NO_KEYS = KeySpec()
KEYS_FIRST = KeySpec(1, 1, 1)
KEYS_ALL = KeySpec(1, -1, 1)
KEYS_PAIRS = KeySpec(1, -1, 2)
KEYS_TWO = KeySpec(1, 2, 1)


@dataclass(slots=True)
class CommandSpec:
    """Everything known of one command. `arity` counts the name; negative means "at least"."""

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


COMMANDS: dict[bytes, CommandSpec] = {}
"""Upper-case name → spec; the one table that everything else derives from."""


def lookup(name: bytes) -> CommandSpec | None:
    """Return the spec of a command name in any case, or None."""
    return COMMANDS.get(name) or COMMANDS.get(name.upper())


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
    categories: tuple[str, ...] = (),
    tips: tuple[str, ...] = (),
    history: tuple[tuple[str, str], ...] = (),
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register the decorated handler. A space in `name` ("CLIENT ID") registers a subcommand of its container.

    The kind follows from the flags: WRITE → at apply, READONLY → at a read point, neither → LOCAL.
    The summary is the first line of the handler's docstring.
    """

    def register(handler: Callable[..., Any]) -> Callable[..., Any]:
        kind = Kind.WRITE if flags & Flag.WRITE else Kind.READ if flags & Flag.READONLY else Kind.LOCAL
        summary = (handler.__doc__ or "").strip().split("\n")[0].rstrip(".")
        spec = CommandSpec(
            name=name, arity=arity, kind=kind, flags=flags, keys=keys, group=group, since=since, handler=handler,
            summary=summary, complexity=complexity, syntax=syntax, categories=categories, tips=tips, history=history,
            heavy=bool(flags & Flag.HEAVY),
        )  # fmt: skip
        container, _, sub = name.partition(" ")
        if sub:
            parent = COMMANDS[container.encode().upper()]
            spec.parent = parent
            parent.subcommands[sub.upper()] = spec
        else:
            if name.encode() in COMMANDS:
                raise ValueError(f"command {name} is defined twice")
            COMMANDS[name.encode()] = spec
        return handler

    return register
