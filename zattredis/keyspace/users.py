"""Users: who may do what. Part of the replicated state, so that all nodes agree; pure rules, no command table.

A user is what Redis's ACL rules make of it, kept as rules and not as sets of commands: what `+@read` means follows from
the command table of the node that asks (`commands.acl_rules`), so that nodes of two versions hold the same rows. The
rules that come here are canonical: names in lower case, passwords as SHA-256, commands known to whoever sent them.

Until the first change is agreed there are no rows, and each node goes by its own settings. The first change brings the
users of the node that sent it along (`agreements.seed`); from then on the rows count, and no node's settings.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import msgspec

from zattredis.errors import DefiniteError, StateDamaged, ZattredisError, shown
from zattredis.keyspace.reader import Reader

META_USER: Final = b"muser/"
_META_USER_END: Final = b"muser0"
DEFAULT_USER: Final = b"default"

READ: Final = 1
WRITE: Final = 2
ALL_COMMANDS: Final = b"+@all"

SYNTAX: Final = "Syntax error"
_NO_PASSWORD: Final = "The password you are trying to remove from the user does not exist"
_BAD_HASH: Final = "The password hash must be exactly 64 characters and contain only lowercase hexadecimal characters"
_AFTER_ALL: Final = (
    "Adding a pattern after the * pattern (or the 'all{0}' flag) is not valid and does not have any effect."
    " Try 'reset{0}' to start with an empty list of {1}"
)
_HEX: Final = frozenset(b"0123456789abcdef")
_SANITIZE: Final = {b"sanitize-payload": 1, b"skip-sanitize-payload": 2}
_BLANKS: Final = frozenset(b" \t\n\v\f\r\0")


class RuleError(ZattredisError):
    """A rule cannot be taken; the text says why, in Redis's words."""


class RuleRefused(DefiniteError):
    """The rule at `place` of an ACL SETUSER cannot be taken."""

    def __init__(self, place: int, word: bytes, reason: str) -> None:
        self.place = place
        self.reason = reason
        super().__init__(f"Error in ACL SETUSER modifier '{shown(word)}': {reason}")


@dataclass(frozen=True, slots=True)
class Selector:
    """One set of permissions. `rules` are those for commands, oldest first, `+@all` only as the first."""

    rules: tuple[bytes, ...] = ()
    keys: tuple[tuple[bytes, int], ...] = ()
    all_keys: bool = False
    channels: tuple[bytes, ...] = ()
    all_channels: bool = False

    @property
    def unlimited(self) -> bool:
        """Whether everything is allowed."""
        return self.all_keys and self.all_channels and self.rules == (ALL_COMMANDS,)


@dataclass(frozen=True, slots=True)
class User:
    """One user. `selectors` begins with the user's own permissions; passwords are hexadecimal SHA-256 digests."""

    name: bytes
    on: bool = False
    nopass: bool = False
    sanitize: int = 0
    passwords: tuple[bytes, ...] = ()
    selectors: tuple[Selector, ...] = (Selector(),)

    @property
    def unlimited(self) -> bool:
        """Whether everything is allowed."""
        return any(selector.unlimited for selector in self.selectors)


_UNLIMITED: Final = Selector(rules=(ALL_COMMANDS,), all_keys=True, all_channels=True)


def default_user(password: bytes | None = None) -> User:
    """Return the user `default` as it is until something else is agreed; `password` is a digest, None for none."""
    return User(
        DEFAULT_USER, on=True, nopass=password is None, passwords=() if password is None else (password,),
        selectors=(_UNLIMITED,),
    )  # fmt: skip


def new_user(name: bytes, all_channels: bool) -> User:
    """Return a user that may do nothing; `all_channels` is `acl-pubsub-default`."""
    return User(name, selectors=(Selector(all_channels=all_channels),))


# -- rules -------------------------------------------------------------------------------------------------------


def has_blanks(word: bytes) -> bool:
    """Return whether a name or pattern holds what would cut a line of an ACL file in two."""
    return not _BLANKS.isdisjoint(word)


def apply_rule(user: User, rule: bytes, all_channels: bool) -> User:
    """Return the user with one canonical rule applied. Raises RuleError."""
    root = user.selectors[0]
    if not rule:
        return user
    if rule in (b"on", b"off"):
        return replace(user, on=rule == b"on")
    if rule in _SANITIZE:
        return replace(user, sanitize=_SANITIZE[rule])
    if rule in (b"nopass", b"resetpass"):
        return replace(user, nopass=rule == b"nopass", passwords=())
    if rule == b"clearselectors":
        return replace(user, selectors=(root,))
    if rule == b"reset":
        return replace(new_user(user.name, all_channels), sanitize=_SANITIZE[b"sanitize-payload"])
    if rule[:1] in (b"#", b"!"):
        return _password(user, rule)
    if rule[:1] == b"(" and rule[-1:] == b")":
        selector = Selector(all_channels=all_channels)
        for part in rule[1:-1].split():
            selector = apply_to_selector(selector, part)
        return replace(user, selectors=(*user.selectors, selector))
    return replace(user, selectors=(apply_to_selector(root, rule), *user.selectors[1:]))


def _password(user: User, rule: bytes) -> User:
    digest = rule[1:]
    if len(digest) != 64 or not _HEX.issuperset(digest):
        raise RuleError(_BAD_HASH)
    if rule[:1] == b"#":
        passwords = user.passwords if digest in user.passwords else (*user.passwords, digest)
        return replace(user, nopass=False, passwords=passwords)
    if digest not in user.passwords:
        raise RuleError(_NO_PASSWORD)
    return replace(user, passwords=tuple(other for other in user.passwords if other != digest))


def apply_to_selector(selector: Selector, rule: bytes) -> Selector:
    """Return the selector with one canonical rule applied. Raises RuleError."""
    sign = rule[:1]
    if rule in (b"~*", b"resetkeys"):
        return replace(selector, all_keys=rule == b"~*", keys=())
    if rule in (b"&*", b"resetchannels"):
        return replace(selector, all_channels=rule == b"&*", channels=())
    if rule in (ALL_COMMANDS, b"-@all"):
        return replace(selector, rules=(ALL_COMMANDS,) if sign == b"+" else ())
    if sign in (b"~", b"%"):
        return _key_pattern(selector, rule)
    if sign == b"&":
        if selector.all_channels:
            raise RuleError(_AFTER_ALL.format("channels", "channels"))
        if has_blanks(rule):
            raise RuleError(SYNTAX)
        channel = rule[1:]
        return selector if channel in selector.channels else replace(selector, channels=(*selector.channels, channel))
    if sign in (b"+", b"-") and len(rule) > 1:
        return replace(selector, rules=_with_rule(selector.rules, rule))
    raise RuleError(SYNTAX)


def _key_pattern(selector: Selector, rule: bytes) -> Selector:
    if selector.all_keys:
        raise RuleError(_AFTER_ALL.format("keys", "patterns"))
    pattern, access = rule[1:], READ | WRITE
    if rule[:1] == b"%":
        letters, _, pattern = pattern.partition(b"~")
        upper = letters.upper()
        if upper not in (b"R", b"W", b"RW", b"WR"):
            raise RuleError(SYNTAX)
        access = READ * (b"R" in upper) | WRITE * (b"W" in upper)
    if has_blanks(pattern):
        raise RuleError(SYNTAX)
    keys = dict(selector.keys)
    keys[pattern] = keys.get(pattern, 0) | access
    return replace(selector, keys=tuple(keys.items()))


def _with_rule(rules: tuple[bytes, ...], rule: bytes) -> tuple[bytes, ...]:
    """Return the rules with one more, without those that it makes void whatever the command table says."""
    subject = rule[1:].lower()
    if rule in rules and all(b"|" in later for later in rules[rules.index(rule) :]):
        return rules
    within = subject + b"|"
    kept = [one for one in rules if one[1:].lower() != subject and not one[1:].lower().startswith(within)]
    return (*kept, rule)


# -- rows --------------------------------------------------------------------------------------------------------

_encode = msgspec.msgpack.Encoder().encode
_Row = tuple[
    bytes, bool, bool, int, tuple[bytes, ...],
    tuple[tuple[tuple[bytes, ...], tuple[tuple[bytes, int], ...], bool, tuple[bytes, ...], bool], ...],
]  # fmt: skip
_decode_row = msgspec.msgpack.Decoder(_Row).decode
_decode_rows = msgspec.msgpack.Decoder(tuple[bool, tuple[_Row, ...]]).decode


def _row(user: User) -> _Row:
    return (
        user.name, user.on, user.nopass, user.sanitize, user.passwords,
        tuple((s.rules, s.keys, s.all_keys, s.channels, s.all_channels) for s in user.selectors),
    )  # fmt: skip


def _user(row: _Row) -> User:
    name, on, nopass, sanitize, passwords, selectors = row
    return User(name, on, nopass, sanitize, passwords, tuple(Selector(*selector) for selector in selectors))


BASE: Final = b"base="
"""What the word of a logged ACL command begins with that tells on what ground its rules stand (`Base`)."""


@dataclass(frozen=True, slots=True)
class Base:
    """What the node that sends a change goes by: `acl-pubsub-default`, and, while nothing is agreed, its users."""

    all_channels: bool = False
    users: tuple[User, ...] = ()

    def encode(self) -> bytes:
        """Return the word for the log."""
        return BASE + _encode((self.all_channels, [_row(user) for user in self.users]))


def encode_user(user: User) -> bytes:
    """Return the row that `Users.load` reads."""
    return _encode(_row(user))


def decode_base(word: bytes) -> Base:
    """Return what `Base.encode` made a word of."""
    all_channels, rows = _decode_rows(word[len(BASE) :])
    return Base(all_channels, tuple(map(_user, rows)))


class Users:
    """The agreed users, by name. Changes go through `agreements` alone.

    `gone` holds the names of users that were removed since `drain`: their connections end, whoever comes by that name.
    """

    __slots__ = ("changed", "gone", "rows")

    def __init__(self) -> None:
        self.rows: dict[bytes, User] = {}
        self.changed = False
        self.gone: set[bytes] = set()

    @property
    def agreed(self) -> bool:
        """Whether users were ever agreed. Then `default` is one of them, for it cannot be removed."""
        return DEFAULT_USER in self.rows

    def load(self, reader: Reader) -> None:
        """Take the users that `reader` holds. Raises StateDamaged for a row that cannot be read."""
        for key, value in reader.iterate(META_USER, _META_USER_END):
            try:
                self.rows[key[len(META_USER) :]] = _user(_decode_row(value))
            except (msgspec.MsgspecError, TypeError) as error:
                raise StateDamaged(f"the row {key!r} of a user cannot be read: {error}") from error
        self.changed = True

    def put(self, name: bytes, user: User | None) -> None:
        """Let this be the user of that name; None forgets it."""
        if user is None:
            self.rows.pop(name, None)
        else:
            self.rows[name] = user

    def drain(self) -> set[bytes]:
        """Return `gone` and forget that anything has changed."""
        gone, self.gone = self.gone, set()
        self.changed = False
        return gone


__all__ = [
    "ALL_COMMANDS", "BASE", "DEFAULT_USER", "META_USER", "READ", "SYNTAX", "WRITE", "Base", "RuleError", "RuleRefused",
    "Selector", "User", "Users", "apply_rule", "apply_to_selector", "decode_base", "default_user", "encode_user",
    "has_blanks", "new_user",
]  # fmt: skip
