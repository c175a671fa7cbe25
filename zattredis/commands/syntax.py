"""A command's `syntax` string and what COMMAND DOCS says of its arguments.

The string is written as Redis's manual writes it, with a few marks that `usage` takes out again for a reader:

    key value [NX | XX] [GET@6.2.0] expiration=[EX seconds | PX milliseconds | KEEPTTL]

- `WORD`           a token; followed by arguments it becomes their token
- `name`           an argument; its type follows from the name (`key`, `seconds`, …) or is given as `name:type`
- `[ … ]`          optional, `< … >` a group; `a | b` inside either is a choice
- `x ...`, `x [x ...]`   one or more; `[x ...]` none or more; `[T x [T x ...]]` with the token repeated
- `@1.2.3` after a word or a group: the version that brought it; `~1.2.3`: the one that deprecated it
- `name=[ … ]`     names a group; without it a group is named after its members
- `"a:b"`          a name with signs of this grammar in it
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

_LEXEME = re.compile(r'\.\.\.|[\[\]<>|]|(?:"[^"]*"|[^\s\[\]<>|".]|\.(?!\.\.))+')
_MARKS = re.compile(r'^(?P<name>"[^"]*"|[^:@~]*)(?::(?P<type>[a-z-]+))?(?:@(?P<since>[\d.]+))?(?:~(?P<until>[\d.]+))?$')
_TYPES = {
    **dict.fromkeys(
        [
            "seconds",
            "milliseconds",
            "count",
            "increment",
            "decrement",
            "offset",
            "start",
            "end",
            "cursor",
            "index",
            "index1",
            "index2",
            "timeout",
            "numkeys",
            "db",
            "destination-db",
            "len",
            "client-id",
            "protover",
            "numreplicas",
            "limit",
            "ttl",
            "frequency",
            "bits",
        ],
        "integer",
    ),
    **dict.fromkeys(("key", "key1", "key2", "newkey", "source", "destination"), "key"),
    **dict.fromkeys(("unix-time-seconds", "unix-time-milliseconds"), "unix-time"),
    "pattern": "pattern",
}


@dataclass(frozen=True, slots=True)
class Argument:
    """One argument as COMMAND DOCS describes it. `type` is `block` or `oneof` for those that have `arguments`."""

    name: str
    type: str
    token: str = ""
    since: str = ""
    until: str = ""
    optional: bool = False
    multiple: bool = False
    multiple_token: bool = False
    arguments: tuple[Argument, ...] = ()

    @property
    def flags(self) -> tuple[str, ...]:
        """The flags that are set, in Redis's order."""
        return tuple(name for name in ("optional", "multiple", "multiple_token") if getattr(self, name))


def parse(syntax: str) -> tuple[Argument, ...]:
    """Return the arguments that a syntax string describes. Raises ValueError if it does not follow the grammar."""
    parser = _Parser(_LEXEME.findall(syntax))
    arguments = parser.sequence()
    if parser.place < len(parser.lexemes):
        raise ValueError(f"unexpected {parser.lexemes[parser.place]!r} in syntax {syntax!r}")
    return arguments


def usage(syntax: str) -> str:
    """Return the syntax string without the marks that only COMMAND DOCS needs."""
    lexemes = []
    for lexeme in _LEXEME.findall(syntax):
        plain = lexeme
        if len(lexeme) > 1 and lexeme != "...":
            if lexeme.endswith("=") or lexeme[0] in "@~":
                continue
            plain = _split(lexeme)[0]
        lexemes.append(plain)
    text = " ".join(lexemes)
    return text.replace("[ ", "[").replace(" ]", "]").replace("< ", "<").replace(" >", ">")


def _split(word: str) -> tuple[str, str, str, str]:
    """Return the name, type, since and until of a word."""
    match = _MARKS.match(word)
    if match is None:
        raise ValueError(f"malformed word {word!r} in a syntax string")
    return match["name"].strip('"'), match["type"] or "", match["since"] or "", match["until"] or ""


def _is_token(name: str) -> bool:
    return name == name.upper() and name != ""


def _joined(arguments: tuple[Argument, ...]) -> str:
    return "_".join(dict.fromkeys(argument.name for argument in arguments))


@dataclass(slots=True)
class _Parser:
    lexemes: list[str]
    place: int = 0
    repeated: bool = False  # whether the sequence or group just read ended with "..."

    def _peek(self) -> str:
        return self.lexemes[self.place] if self.place < len(self.lexemes) else ""

    def _take(self) -> str:
        lexeme = self._peek()
        self.place += 1
        return lexeme

    def _at_group(self) -> bool:
        lexeme = self._peek()
        return lexeme in ("[", "<") or (len(lexeme) > 1 and lexeme.endswith("="))

    def sequence(self) -> tuple[Argument, ...]:
        """Read arguments up to `]`, `>`, `|` or the end."""
        found: list[Argument] = []
        repeated = False
        while self._peek() not in ("", "]", ">", "|"):
            if self._peek() == "...":
                self._take()
                found[-1] = replace(found[-1], multiple=True)
                repeated = True
                continue
            repeated = False
            if not self._at_group():
                found.append(self._word())
                continue
            group = self._group()
            if not (self.repeated and group.optional and _repeat(found, group)):
                found.append(group)
        self.repeated = repeated
        return tuple(found)

    def _word(self) -> Argument:
        """Read an argument, or a token with the arguments that it owns: those up to the next token or `[`."""
        name, kind, since, until = _split(self._take())
        if not _is_token(name):
            return Argument(name, kind or _TYPES.get(name, "string"), since=since, until=until)
        owned: list[Argument] = []
        while self._peek() not in ("", "]", ">", "|", "[", "..."):
            if self._at_group():
                if self.lexemes[self.place + 1] == "[":
                    break
                owned.append(self._group())
            elif _is_token(_split(self._peek())[0]):
                break
            else:
                owned.append(self._word())
        if not owned:
            return Argument(name.lower(), "pure-token", name, since, until)
        if len(owned) == 1 and not owned[0].token:
            return replace(owned[0], token=name, since=since or owned[0].since, until=until or owned[0].until)
        return Argument(_joined(tuple(owned)), "block", name, since, until, arguments=tuple(owned))

    def _group(self) -> Argument:
        """Read `[ … ]` or `< … >`, with its name before and its marks behind."""
        name = self._take()[:-1] if self._peek().endswith("=") else ""
        opening = self._take()
        choices: list[Argument] = []
        while True:
            members = self.sequence()
            if not members:
                raise ValueError("empty group in a syntax string")
            one = members[0] if len(members) == 1 else Argument(_joined(members), "block", arguments=members)
            choices.append(one)
            if self._peek() != "|":
                break
            self._take()
        repeated = self.repeated
        if self._take() != {"[": "]", "<": ">"}.get(opening):
            raise ValueError("unbalanced group in a syntax string")
        if len(choices) > 1:
            argument = Argument(name or _joined(tuple(choices)), "oneof", arguments=tuple(choices))
        else:
            argument = _named(choices[0], name)
        if self._peek()[:1] in ("@", "~"):
            _, _, since, until = _split(self._take())
            argument = replace(argument, since=since or argument.since, until=until or argument.until)
        self.repeated = repeated
        return replace(argument, optional=argument.optional or opening == "[")


def _named(argument: Argument, name: str) -> Argument:
    """Return a group of one member under the name that was given to it."""
    if not name:
        return argument
    if argument.type in ("block", "oneof", "pure-token"):
        return replace(argument, name=name)
    return Argument(name, "block", argument.token, arguments=(replace(argument, token=""),))


def _repeat(found: list[Argument], again: Argument) -> bool:
    """Handle `x [x ...]`: mark the end of `found` as multiple if `again` repeats it; return whether it does."""
    once = replace(again, optional=False, multiple=False)
    members: tuple[Argument, ...] = (once,)
    if again.type == "block" and not again.token and _tail(found, members) is None:
        members = (*again.arguments[:-1], replace(again.arguments[-1], multiple=False))
    tail = _tail(found, members)
    if tail is None:
        return False
    del found[-len(members) :]
    if len(members) > 1:
        found.append(Argument(_joined(members), "block", multiple=True, arguments=members))
    elif tail[0].type == "block" and tail[0].token and not once.token:
        found.append(replace(tail[0], arguments=(replace(tail[0].arguments[0], multiple=True),)))
    else:
        found.append(replace(tail[0], multiple=True, multiple_token=bool(once.token)))
    return True


def _tail(found: list[Argument], members: tuple[Argument, ...]) -> list[Argument] | None:
    """Return the end of `found` if it equals `members`, a token before the first one aside."""
    tail = found[-len(members) :]
    if len(tail) < len(members):
        return None
    plain = tail if members[0].token else [replace(tail[0], token=""), *tail[1:]]
    return tail if plain == list(members) else None
