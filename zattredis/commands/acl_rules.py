"""ACL rules and the command table: what a user's rules allow, what is wrong with new ones, how they are shown.

Rules are stored as they were said (`keyspace.users`); what they cover is worked out here, from the table of this build.
A rule for a command or category that this build does not know, agreed on by newer nodes, covers nothing.
"""

from __future__ import annotations

import functools
import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from zattredis.commands.glob import compile_glob
from zattredis.commands.table import CATEGORIES, CommandSpec, Flag, all_specs, lookup, lookup_full
from zattredis.errors import DefiniteError
from zattredis.keyspace.users import (
    ALL_COMMANDS,
    READ,
    SYNTAX,
    WRITE,
    RuleError,
    RuleRefused,
    Selector,
    User,
    apply_rule,
    has_blanks,
)
from zattredis.resp.inline import UnbalancedQuotes, split_arguments

UNKNOWN: Final = "Unknown command or category name in ACL"
_FIRST_ARGUMENT: Final = "Allowing first-arg of a subcommand is not supported"
_WORDS: Final = {
    b"allkeys": b"~*", b"~*": b"~*", b"resetkeys": b"resetkeys", b"allchannels": b"&*", b"&*": b"&*",
    b"resetchannels": b"resetchannels", b"allcommands": ALL_COMMANDS, b"+@all": ALL_COMMANDS, b"nocommands": b"-@all",
    b"-@all": b"-@all",
}  # fmt: skip
"""What may be said of a selector in one word → its canonical form."""
_USER_WORDS: Final = frozenset(
    (b"on", b"off", b"nopass", b"resetpass", b"reset", b"clearselectors", b"sanitize-payload", b"skip-sanitize-payload")
)

CHANNELS: Final[dict[str, tuple[int, bool, bool]]] = {
    "publish": (1, True, False), "spublish": (1, True, False), "subscribe": (1, False, False),
    "ssubscribe": (1, False, False), "psubscribe": (1, False, True),
}  # fmt: skip
"""Command → where its channels begin, whether there is only one, whether they are patterns."""

_ANY_KEYS: Final = -1
_SEVERAL_KEYS: Final = -2

DENIED_COMMAND: Final = 1
DENIED_KEY: Final = 2
DENIED_AUTH: Final = 3
DENIED_CHANNEL: Final = 4


# -- taking rules ------------------------------------------------------------------------------------------------


def digest_of(password: bytes) -> bytes:
    """Return what is kept of a password."""
    return hashlib.sha256(password).hexdigest().encode()


def merge_selectors(words: Sequence[bytes]) -> list[bytes]:
    """Return the rules with each selector that came as several words made one. Raises DefiniteError."""
    merged: list[bytes] = []
    open_since = ""
    for word in words:
        if open_since:
            merged[-1] += b" " + word
        else:
            merged.append(word)
            if word[:1] == b"(" and word[-1:] != b")":
                open_since = word.decode("utf-8", "surrogateescape")
                continue
        if open_since and word[-1:] == b")":
            open_since = ""
    if open_since:
        raise DefiniteError(f"Unmatched parenthesis in acl selector starting at '{open_since}'.")
    return merged


def canonical(word: bytes) -> bytes:
    """Return a rule as it is stored and logged: no password in it, nothing unknown. Raises RuleError."""
    lowered = word.lower()
    if lowered in _USER_WORDS or not word:
        return lowered
    if word[:1] in (b">", b"<"):
        return (b"#" if word[:1] == b">" else b"!") + digest_of(word[1:])
    if word[:1] in (b"#", b"!"):
        return word
    if word[:1] == b"(" and word[-1:] == b")":
        try:
            parts = split_arguments(word[1:-1])
        except UnbalancedQuotes:
            parts = []
        return b"(" + b" ".join(map(_canonical_of_selector, parts)) + b")"
    return _canonical_of_selector(word)


def _canonical_of_selector(word: bytes) -> bytes:
    known = _WORDS.get(word.lower())
    if known is not None:
        return known
    if word[:1] in (b"~", b"%", b"&"):
        return word
    if word[:2] in (b"+@", b"-@"):
        category = word[2:].lower()
        if category.decode("latin-1") not in CATEGORIES:
            raise RuleError(UNKNOWN)
        return word[:2] + category
    if word[:1] in (b"+", b"-"):
        return word[:1] + _canonical_command(word[1:], word[:1] == b"+")
    raise RuleError(SYNTAX)


def _canonical_command(name: bytes, allowing: bool) -> bytes:
    spec = lookup_full(name) if name.count(b"|") < 2 else None
    if spec is not None and name[-1:] != b"|":
        return spec.full_name.encode()
    container, bar, word = name.rpartition(b"|")
    if not allowing or not bar:
        raise RuleError(UNKNOWN)
    owner = lookup_full(container) if container.count(b"|") < 2 else None
    if owner is None:
        raise RuleError(UNKNOWN)
    if owner.parent is not None:
        raise RuleError(_FIRST_ARGUMENT)
    if not word or has_blanks(word) or b")" in word:
        raise RuleError(SYNTAX)
    if owner.subcommands:
        raise RuleError(UNKNOWN)
    return owner.full_name.encode() + b"|" + word


def canonical_rules(words: Sequence[bytes]) -> list[bytes]:
    """Return the rules of an ACL SETUSER for the log. Raises DefiniteError for what no user could be given."""
    rules = []
    for place, word in enumerate(merge_selectors(words)):
        try:
            rules.append(canonical(word))
        except RuleError as error:
            raise RuleRefused(place, word, str(error)) from None
    return rules


def with_rules(user: User, words: Sequence[bytes], all_channels: bool) -> User:
    """Return the user with rules as a person writes them applied. Raises DefiniteError for the first wrong one."""
    for place, word in enumerate(merge_selectors(words)):
        try:
            user = apply_rule(user, canonical(word), all_channels)
        except RuleError as error:
            raise RuleRefused(place, word, str(error)) from None
    return user


# -- what rules cover --------------------------------------------------------------------------------------------


def _cover(spec: CommandSpec) -> Iterable[str]:
    yield spec.full_name
    for sub in spec.subcommands.values():
        yield sub.full_name


@functools.lru_cache(maxsize=1024)
def _covered(subject: bytes) -> frozenset[str]:
    """Return the commands that a rule for `subject` is about: of a container, all its subcommands."""
    name = subject.decode("latin-1")
    if name == "@all":
        return frozenset(spec.full_name for spec in all_specs())
    if name.startswith("@"):
        return frozenset(one for spec in all_specs() if name[1:] in spec.acl_categories for one in _cover(spec))
    spec = lookup_full(subject)
    if spec is None or (spec.parent is None and "|" in name):
        owner = lookup(subject.partition(b"|")[0])
        return frozenset(() if owner is None or owner.subcommands else (owner.full_name,))
    return frozenset(_cover(spec))


def forget_commands() -> None:
    """Commands came or went: look anew at what rules cover."""
    _covered.cache_clear()


def _is_first_argument(rule: bytes) -> bool:
    owner, bar, _ = rule[1:].partition(b"|")
    spec = lookup(owner) if bar else None
    return spec is not None and not spec.subcommands


def shown_rules(rules: Sequence[bytes]) -> bytes:
    """Return the rules for commands as ACL LIST shows them: without those that others have made needless."""
    plus = bool(rules) and rules[0] == ALL_COMMANDS
    kept: list[tuple[bytes, frozenset[str]]] = [(ALL_COMMANDS if plus else b"-@all", _covered(b"@all"))]
    for rule in rules[1:] if plus else rules:
        covered = _covered(rule[1:])
        if not _is_first_argument(rule):
            kept[1:] = [(one, other) for one, other in kept[1:] if not (other and other <= covered)]
        if not _needless(rule, covered, kept):
            kept.append((rule, covered))
    return b" ".join(rule for rule, _ in kept)


def _needless(rule: bytes, covered: frozenset[str], kept: Sequence[tuple[bytes, frozenset[str]]]) -> bool:
    """Return whether an earlier rule says the same of all that this one is about, and none behind it the contrary."""
    if not covered:
        return False
    for earlier, other in reversed(kept):
        if earlier[:1] != rule[:1]:
            if other & covered:
                return False
        elif _is_first_argument(earlier):
            if other & covered and earlier != rule:
                return False
        elif covered <= other:
            return True
    return False


def shown_keys(selector: Selector) -> bytes:
    """Return the key patterns as ACL LIST shows them."""
    if selector.all_keys:
        return b"~*"
    signs = {READ: b"%R~", WRITE: b"%W~", READ | WRITE: b"~"}
    return b" ".join(signs[access] + pattern for pattern, access in selector.keys)


def shown_channels(selector: Selector) -> bytes:
    """Return the channel patterns as ACL GETUSER shows them."""
    return b"&*" if selector.all_channels else b" ".join(b"&" + channel for channel in selector.channels)


def _shown_selector(selector: Selector) -> bytes:
    channels = b"&*" if selector.all_channels else b" ".join((b"resetchannels", shown_channels(selector))).strip()
    return b" ".join(part for part in (shown_keys(selector), channels, shown_rules(selector.rules)) if part)


def flags_of(user: User) -> list[bytes]:
    """Return the user's flags as ACL GETUSER shows them."""
    sanitize = [(), (b"sanitize-payload",), (b"skip-sanitize-payload",)][user.sanitize]
    return [b"on" if user.on else b"off", *([b"nopass"] if user.nopass else []), *sanitize]


def line_of(user: User) -> bytes:
    """Return the user's line of ACL LIST and of an ACL file."""
    parts = [b"user", user.name, *flags_of(user), *(b"#" + password for password in user.passwords)]
    parts.append(_shown_selector(user.selectors[0]))
    parts += [b"(" + _shown_selector(selector) + b")" for selector in user.selectors[1:]]
    return b" ".join(parts)


# -- what a command line needs -----------------------------------------------------------------------------------


def key_uses(spec: CommandSpec, argv: list[bytes]) -> list[tuple[int, int]]:
    """Return (position, access) of every key in a command line; none where it is so wrong that they cannot be found.

    Such a line is refused by its handler. Keys that the handler takes and the description of the command does not name
    (of several STORE it names the first, and the last counts) are those of results, and are to be written.
    """
    found: list[tuple[int, int]] = []
    varying = spec.key_access(argv) if spec.key_access is not None else None
    for part in spec.key_parts:
        if "not_key" in part.flags:
            continue
        places = part.find(argv)
        if places is None:
            if not part.keyword and "incomplete" not in part.flags:
                return []
            continue
        access = _access(varying or part.flags)
        found += [(place, access) for place in places]
    if spec.keys.finder is not None:
        more = Counter(spec.keys.finder(argv)) - Counter(argv[place] for place, _ in found)
        found += [(argv.index(key, spec.words), WRITE) for key in more]
    return found


@functools.lru_cache(maxsize=64)
def _access(flags: str) -> int:
    words = set(flags.split())
    return READ * ("access" in words) | WRITE * (not words.isdisjoint(("insert", "delete", "update")))


def _channel_places(spec: CommandSpec, argv: list[bytes]) -> tuple[range, bool]:
    entry = CHANNELS.get(spec.full_name)
    if entry is None:
        return range(0), False
    first, single, are_patterns = entry
    return range(first, first + 1 if single else len(argv)), are_patterns


class _Allowed:
    """One selector, ready to be asked."""

    __slots__ = ("_all_commands", "_channels", "_commands", "_first_arguments", "_keys", "_selector")

    def __init__(self, selector: Selector) -> None:
        self._selector = selector
        commands: set[str] = set()
        self._first_arguments: dict[str, set[bytes]] = {}
        for rule in selector.rules:
            covered = _covered(rule[1:])
            if _is_first_argument(rule):
                for name in covered:
                    self._first_arguments.setdefault(name, set()).add(rule.partition(b"|")[2].lower())
                continue
            for name in covered:
                self._first_arguments.pop(name, None)
            if rule[:1] == b"+":
                commands |= covered
            else:
                commands -= covered
        self._commands = frozenset(commands)
        self._all_commands = selector.rules == (ALL_COMMANDS,)
        self._keys: list[tuple[Callable[[bytes], bool], int]] = [
            (compile_glob(pattern), access) for pattern, access in selector.keys
        ]
        self._channels = [compile_glob(channel) for channel in selector.channels]

    def denies(self, spec: CommandSpec, argv: list[bytes], uses: list[tuple[int, int]]) -> tuple[int, int]:
        """Return what is denied, 0 for nothing, and the position of the key or channel."""
        if not self._all_commands and not spec.flags & Flag.NO_AUTH and spec.full_name not in self._commands:
            first = self._first_arguments.get(spec.full_name)
            if first is None or len(argv) <= spec.words or argv[spec.words].lower() not in first:
                return DENIED_COMMAND, 0
        if not self._selector.all_keys:
            for place, access in uses:
                if not self.may(argv[place], access):
                    return DENIED_KEY, place
        if not self._selector.all_channels:
            places, are_patterns = _channel_places(spec, argv)
            for place in places:
                if not self._hears(argv[place], are_patterns):
                    return DENIED_CHANNEL, place
        return 0, 0

    @property
    def all_keys(self) -> bool:
        """Whether all keys may be used for everything."""
        return self._selector.all_keys

    def allows_all_of(self, spec: CommandSpec) -> bool:
        """Return whether the command is allowed whatever its arguments, but for keys; it has no channels."""
        return (self._all_commands or spec.full_name in self._commands) and spec.full_name not in CHANNELS

    def may(self, key: bytes, access: int) -> bool:
        """Return whether this may be done to a key."""
        return any(access & ~granted == 0 and matches(key) for matches, granted in self._keys)

    def _hears(self, channel: bytes, is_pattern: bool) -> bool:
        if is_pattern:
            return channel in self._selector.channels
        return any(matches(channel) for matches in self._channels)

    @property
    def reads_all_keys(self) -> bool:
        """Whether every key there is may be read."""
        selector = self._selector
        return selector.all_keys or any(pattern == b"*" and access & READ for pattern, access in selector.keys)


class Permissions:
    """What a user may do who may not do everything; immutable, shared by all connections of the user."""

    __slots__ = ("_quick", "_selectors", "user")

    def __init__(self, user: User) -> None:
        self.user = user
        self._quick: dict[bytes, tuple[CommandSpec, int] | None] = {}
        self._selectors = [_Allowed(selector) for selector in user.selectors]

    def denies(self, spec: CommandSpec, argv: list[bytes]) -> tuple[int, int]:
        """Return what of a command line is denied (0: nothing, or DENIED_…) and the position that it is about.

        One selector that allows all of it is enough. Of several that do not, the one that allows most tells.
        """
        spec = spec.original or spec
        uses = key_uses(spec, argv) if spec.key_parts else []
        worst = (DENIED_COMMAND, 0)
        for selector in self._selectors:
            denied = selector.denies(spec, argv, uses)
            if not denied[0]:
                return denied
            worst = max(worst, denied)
        return worst

    def allows_plainly(self, argv: list[bytes]) -> bool:
        """Return whether a command line is right in number, needs no careful look, and is allowed: the usual case."""
        name = argv[0]
        known = self._quick[name] if name in self._quick else self._learn(name)
        if known is None:
            return False
        spec, access = known
        if not spec.accepts(len(argv)):
            return False
        if access >= 0:  # one selector, and the only key is the first argument
            return self._selectors[0].may(argv[1], access)
        return access == _ANY_KEYS or not self.denies(spec, argv)[0]

    def _learn(self, name: bytes) -> tuple[CommandSpec, int] | None:
        """Return what `allows_plainly` has to know of a command: its spec, and what is done to its only key."""
        spec = lookup(name)
        if spec is None or not spec.plain:
            known: tuple[CommandSpec, int] | None = None
        else:
            access = _SEVERAL_KEYS
            if len(self._selectors) == 1 and self._selectors[0].allows_all_of(spec):
                if self._selectors[0].all_keys or not spec.key_parts:
                    access = _ANY_KEYS
                elif spec.one_key and spec.key_access is None and len(spec.key_parts) == 1:
                    access = _access(spec.key_parts[0].flags)
            known = spec, access
        if spec is not None and name in (spec.name.encode(), spec.name.lower().encode()):
            self._quick[name] = known  # other spellings are rare, and there are too many of them
        return known

    def sort_denied(self, spec: CommandSpec, argv: list[bytes]) -> DefiniteError | None:
        """Return the error of a SORT whose patterns may lead to any key, for a user who may not read any key."""
        word = _leading_option(argv)
        if not word:
            return None
        spec = spec.original or spec
        uses = key_uses(spec, argv)
        for selector in self._selectors:
            if selector.reads_all_keys and not selector.denies(spec, argv, uses)[0]:
                return None
        return DefiniteError(f"{word} option of SORT denied due to insufficient ACL permissions.")


def _leading_option(argv: list[bytes]) -> str:
    """Return the first option of a SORT that leads to keys by a pattern: BY (not of a constant) or GET."""
    place = 2
    while place < len(argv):
        word, left = argv[place].upper(), len(argv) - place - 1
        if word == b"LIMIT" and left >= 2:
            place += 3
        elif word == b"STORE" and left >= 1:
            place += 2
        elif word == b"BY" and left >= 1:
            if b"*" in argv[place + 1]:
                return "BY"
            place += 2
        elif word == b"GET" and left >= 1:
            return "GET"
        elif word in (b"ASC", b"DESC", b"ALPHA"):
            place += 1
        else:
            return ""  # a syntax error, which Redis finds first
    return ""


SORTS: Final = frozenset(("SORT", "SORT_RO"))
