"""COMMAND: the command table as clients read it, derived from the specs alone."""

from __future__ import annotations

import functools
from typing import Any

from zattredis.commands.context import LocalContext
from zattredis.commands.glob import compile_glob
from zattredis.commands.syntax import Argument, parse
from zattredis.commands.table import (
    COMMANDS,
    CommandSpec,
    Flag,
    KeyPart,
    add_help,
    all_specs,
    command,
    lookup,
    lookup_full,
)
from zattredis.errors import DefiniteError, SyntaxReplyError
from zattredis.resp.replies import ReplySet

_FLAGS = Flag.LOADING | Flag.STALE
_ANY_ORDER = ("nondeterministic_output_order",)


# -- COMMAND INFO ------------------------------------------------------------------------------------------------


def _info(spec: CommandSpec) -> list[Any]:
    """Return what COMMAND INFO says of one command."""
    first, last, step = _range(spec)
    return [
        spec.full_name.encode(),
        spec.arity,
        ReplySet(list(spec.flag_names)),
        first,
        last,
        step,
        ReplySet([f"@{name}" for name in spec.acl_categories]),
        ReplySet([tip.encode() for tip in spec.tips]),
        ReplySet([_key_part(part) for part in spec.key_parts]),
        ReplySet([_info(sub) for sub in spec.subcommands.values()]),
    ]


def _range(spec: CommandSpec) -> tuple[int, int, int]:
    """Return the old-fashioned first key, last key and step."""
    return spec.keys.first, spec.keys.last, spec.keys.step


def _key_part(part: KeyPart) -> dict[bytes, Any]:
    begin: tuple[bytes, dict[bytes, Any]]
    find: tuple[bytes, dict[bytes, Any]]
    if part.unknown:
        begin = find = (b"unknown", {})
    else:
        if part.keyword:
            begin = (b"keyword", {b"keyword": part.keyword, b"startfrom": part.start_from})
        else:
            begin = (b"index", {b"index": part.index})
        if part.number_index is not None:
            numbers = {b"keynumidx": part.number_index, b"firstkey": part.first_key, b"keystep": part.step}
            find = (b"keynum", numbers)
        else:
            find = (b"range", {b"lastkey": part.last, b"keystep": part.step, b"limit": part.limit})
    notes = {b"notes": part.notes.encode()} if part.notes else {}
    return {
        **notes,
        b"flags": ReplySet(part.flags.split()),
        b"begin_search": {b"type": begin[0], b"spec": begin[1]},
        b"find_keys": {b"type": find[0], b"spec": find[1]},
    }


@command(
    "COMMAND",
    arity=-1,
    flags=_FLAGS,
    group="server",
    since="2.8.13",
    complexity="O(N) where N is the total number of commands",
    categories=("connection",),
    tips=_ANY_ORDER,
)
def command_(_ctx: LocalContext) -> list[Any]:
    """Describe every command: arity, flags, keys, ACL categories."""
    return [_info(spec) for spec in COMMANDS.values()]


@command(
    "COMMAND INFO",
    arity=-2,
    flags=_FLAGS,
    group="server",
    since="2.8.13",
    complexity="O(N) where N is the number of commands to look up",
    categories=("connection",),
    tips=_ANY_ORDER,
    syntax="[command-name ...]",
    history=(("7.0.0", "Without names it tells of all commands."),),
)
def command_info(_ctx: LocalContext, *names: bytes) -> list[Any]:
    """Describe the named commands, or every one."""
    if not names:
        return [_info(spec) for spec in COMMANDS.values()]
    return [_info(spec) if (spec := lookup_full(name)) is not None else None for name in names]


@command("COMMAND COUNT", arity=2, flags=_FLAGS, group="server", since="2.8.13", complexity="O(1)",
         categories=("connection",))  # fmt: skip
def command_count(_ctx: LocalContext) -> int:
    """Return how many commands there are."""
    return len(COMMANDS)


@command(
    "COMMAND LIST",
    arity=-2,
    flags=_FLAGS,
    group="server",
    since="7.0.0",
    complexity="O(N) where N is the total number of commands",
    categories=("connection",),
    tips=_ANY_ORDER,
    syntax="[FILTERBY filterby=<MODULE module-name | ACLCAT category | PATTERN pattern>]",
)
def command_list(_ctx: LocalContext, *words: bytes) -> list[bytes]:
    """Name every command and subcommand, or those of a module, of an ACL category, or like a pattern."""
    specs = all_specs()
    if words:
        if len(words) != 3 or words[0].upper() != b"FILTERBY":
            raise SyntaxReplyError
        match words[1].upper():
            case b"MODULE":
                module = words[2].decode("utf-8", "surrogateescape")
                specs = [spec for spec in specs if spec.module and spec.module == module]
            case b"ACLCAT":
                category = words[2].decode("latin-1").lower()
                specs = [spec for spec in specs if category in spec.acl_categories]
            case b"PATTERN":
                matches = compile_glob(words[2], ignore_case=True)
                specs = [spec for spec in specs if matches(spec.full_name.encode())]
            case _:
                raise SyntaxReplyError
    return [spec.full_name.encode() for spec in specs]


# -- COMMAND DOCS ------------------------------------------------------------------------------------------------


@functools.cache
def _docs(spec: CommandSpec) -> dict[bytes, Any]:
    """Return what COMMAND DOCS says of one command."""
    docs: dict[bytes, Any] = {
        b"summary": spec.summary.encode(),
        b"since": spec.since.encode(),
        b"group": spec.group.encode(),
    }
    if spec.module:
        docs[b"module"] = spec.module.encode()
    if spec.complexity:
        docs[b"complexity"] = spec.complexity.encode()
    if spec.history:
        docs[b"history"] = ReplySet([[version.encode(), text.encode()] for version, text in spec.history])
    if spec.doc_flags:
        docs[b"doc_flags"] = ReplySet(list(spec.doc_flags))
    if spec.deprecated_since:
        docs[b"deprecated_since"] = spec.deprecated_since.encode()
        docs[b"replaced_by"] = spec.replaced_by.encode()
    arguments = parse(spec.syntax)
    if arguments:
        docs[b"arguments"] = _Arguments(spec).replies(arguments)
    if spec.subcommands:
        docs[b"subcommands"] = {sub.full_name.encode(): _docs(sub) for sub in spec.subcommands.values()}
    return docs


class _Arguments:
    """Turns parsed arguments into replies, numbering the key specification that each key belongs to.

    Where keys cannot be found because patterns lead to them, the patterns share a specification.
    """

    __slots__ = ("_key", "_parts", "_patterns", "_patterns_lead")

    def __init__(self, spec: CommandSpec) -> None:
        self._parts = len(spec.key_parts)
        self._key = 0
        self._patterns = 0
        self._patterns_lead = any(part.unknown for part in spec.key_parts)

    def replies(self, arguments: tuple[Argument, ...]) -> list[dict[bytes, Any]]:
        """Return the replies of these arguments, in their order."""
        return [self._reply(argument) for argument in arguments]

    def _reply(self, argument: Argument) -> dict[bytes, Any]:
        docs: dict[bytes, Any] = {b"name": argument.name.encode(), b"type": argument.type.encode()}
        if argument.type == "key" and self._parts:
            docs[b"key_spec_index"] = min(self._key + self._patterns, self._parts - 1)
            self._key += 1
        elif argument.type == "pattern" and self._patterns_lead:
            self._patterns = 1
            docs[b"key_spec_index"] = self._key
        if argument.token:
            docs[b"token"] = argument.token.encode()
        if argument.since:
            docs[b"since"] = argument.since.encode()
        if argument.until:
            docs[b"deprecated_since"] = argument.until.encode()
        if argument.flags:
            docs[b"flags"] = ReplySet(list(argument.flags))
        if argument.arguments:
            docs[b"arguments"] = self.replies(argument.arguments)
        return docs


@command(
    "COMMAND DOCS",
    arity=-2,
    flags=_FLAGS,
    group="server",
    since="7.0.0",
    complexity="O(N) where N is the number of commands to look up",
    categories=("connection",),
    tips=_ANY_ORDER,
    syntax="[command-name ...]",
)
def command_docs(_ctx: LocalContext, *names: bytes) -> dict[bytes, Any]:
    """Document the named commands, or every one; unknown names are left out."""
    specs = [lookup_full(name) for name in names] if names else COMMANDS.values()
    return {spec.full_name.encode(): _docs(spec) for spec in specs if spec is not None}


# -- COMMAND GETKEYS ---------------------------------------------------------------------------------------------


def _keys_and_flags(argv: list[bytes]) -> list[tuple[bytes, str]]:
    """Return the keys of a whole command line and what the command does to each. Raises DefiniteError."""
    spec = lookup(argv[0])
    if spec is not None and spec.subcommands and len(argv) > 1:
        spec = spec.subcommands.get(argv[1].decode("latin-1").upper())
    if spec is None:
        raise DefiniteError("Invalid command specified")
    if not spec.key_parts:
        raise DefiniteError("The command has no key arguments")
    if not spec.accepts(len(argv)):
        raise DefiniteError("Invalid number of arguments specified for command")
    varying = spec.key_access(argv) if spec.key_access is not None else None
    found: list[tuple[bytes, str]] = []
    for part in spec.key_parts:
        places = part.find(argv)
        if places is None and "incomplete" not in part.flags:
            found = []
            break
        found += [(argv[place], varying or part.flags) for place in places or ()]
    if not found and not spec.flags & Flag.NO_MANDATORY_KEYS:
        raise DefiniteError("Invalid arguments specified for command")
    return found


@command(
    "COMMAND GETKEYS",
    arity=-4,
    flags=_FLAGS,
    group="server",
    since="2.8.13",
    complexity="O(N) where N is the number of arguments to the command",
    categories=("connection",),
)
def command_getkeys(_ctx: LocalContext, *argv: bytes) -> list[bytes]:
    """Return the keys of a full command line."""
    return [key for key, _flags in _keys_and_flags(list(argv))]


@command(
    "COMMAND GETKEYSANDFLAGS",
    arity=-4,
    flags=_FLAGS,
    group="server",
    since="7.0.0",
    complexity="O(N) where N is the number of arguments to the command",
    categories=("connection",),
)
def command_getkeysandflags(_ctx: LocalContext, *argv: bytes) -> list[Any]:
    """Return the keys of a full command line, each with what the command does to it."""
    return [[key, ReplySet(flags.split())] for key, flags in _keys_and_flags(list(argv))]


add_help("COMMAND", group="server", since="5.0.0", categories=("connection",))
