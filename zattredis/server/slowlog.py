"""SLOWLOG: the last commands that took longer than they should."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice

from zattredis.keyspace.users import BASE

_ARGUMENTS_MAX = 32
_ARGUMENT_BYTES_MAX = 128
_REDACTED = b"(redacted)"
_SECRET_PARAMETERS = frozenset((b"requirepass", b"masterauth", b"masteruser", b"tls-key-file-pass",
                                b"tls-client-key-file-pass"))  # fmt: skip


@dataclass(frozen=True, slots=True)
class SlowCommand:
    """One slow command; long command lines are cut as Redis cuts them."""

    id: int
    time_s: int
    usec: int
    argv: list[bytes]
    address: str
    name: bytes


class Slowlog:
    """The slow commands, newest first; at most `max_len`. `slower_than_us` is the threshold, negative for none."""

    __slots__ = ("_entries", "_next_id", "slower_than_us")

    def __init__(self, slower_than_us: int = 10_000, max_len: int = 128) -> None:
        self.slower_than_us = slower_than_us
        self._entries: deque[SlowCommand] = deque(maxlen=max_len)
        self._next_id = 0

    def resize(self, max_len: int) -> None:
        """Keep at most `max_len` entries from now on."""
        if max_len != self._entries.maxlen:
            self._entries = deque(islice(self._entries, max_len), maxlen=max_len)

    def is_slow(self, usec: int) -> bool:
        """Return whether a command that took so long belongs here."""
        return 0 <= self.slower_than_us <= usec

    def add(self, argv: Sequence[bytes], usec: int, time_s: int, address: str, name: bytes) -> None:
        """Remember a slow command. The caller leaves out those whose spec says SKIP_SLOWLOG."""
        self._entries.appendleft(SlowCommand(self._next_id, time_s, usec, _cut(argv), address, name))
        self._next_id += 1

    def entries(self, count: int | None) -> Sequence[SlowCommand]:
        """Return the newest `count` entries, all for None."""
        return list(islice(self._entries, count))

    def reset(self) -> None:
        """Forget all entries; ids go on."""
        self._entries.clear()

    def __len__(self) -> int:
        return len(self._entries)


def _cut(argv: Sequence[bytes]) -> list[bytes]:
    kept = list(argv) if len(argv) <= _ARGUMENTS_MAX else list(argv[: _ARGUMENTS_MAX - 1])
    for place, argument in enumerate(kept):
        beyond = len(argument) - _ARGUMENT_BYTES_MAX
        if beyond > 0:
            kept[place] = argument[:_ARGUMENT_BYTES_MAX] + b"... (%d more bytes)" % beyond
    if len(kept) < len(argv):
        kept.append(b"... (%d more arguments)" % (len(argv) - len(kept)))
    return kept


def redacted(argv: Sequence[bytes]) -> Sequence[bytes]:
    """Return a command line as it may be shown: what is secret in it, or may be, replaced."""
    hide = _SECRETS.get(argv[0].upper())
    return argv if hide is None else hide(list(argv))


def _hide_behind(words: list[bytes], first: int) -> list[bytes]:
    return [*words[:first], *[_REDACTED] * (len(words) - first)]


def _hide_auth(words: list[bytes]) -> list[bytes]:
    return _hide_behind(words, 1)


def _hide_hello(words: list[bytes]) -> list[bytes]:
    """Hide what follows AUTH."""
    for place in range(1, len(words)):
        if words[place].upper() == b"AUTH":
            words[place + 1 : place + 3] = [_REDACTED] * len(words[place + 1 : place + 3])
            break
    return words


def _hide_acl(words: list[bytes]) -> list[bytes]:
    """Hide all that is said of a user; of a logged line, drop what the client did not send (`keyspace.users.Base`)."""
    if len(words) < 2:
        return words
    subcommand = words[1].upper()
    words = [word for place, word in enumerate(words) if place < 2 or not word.startswith(BASE)]
    if subcommand == b"DRYRUN":  # of a command that has secrets of its own
        return [*words[:3], *redacted(words[3:])] if words[3:] else words
    return _hide_behind(words, 2) if subcommand in (b"SETUSER", b"LOAD") else words


def _hide_config(words: list[bytes]) -> list[bytes]:
    if len(words) > 1 and words[1].upper() == b"SET":
        for place in range(2, len(words) - 1, 2):
            if words[place].lower() in _SECRET_PARAMETERS:
                words[place + 1] = _REDACTED
    return words


def _hide_migrate(words: list[bytes]) -> list[bytes]:
    for place in range(6, len(words)):
        count = {b"AUTH": 1, b"AUTH2": 2}.get(words[place].upper(), 0)
        if count:
            words[place + 1 : place + 1 + count] = [_REDACTED] * len(words[place + 1 : place + 1 + count])
            break
    return words


_SECRETS: dict[bytes, Callable[[list[bytes]], list[bytes]]] = {
    b"AUTH": _hide_auth, b"HELLO": _hide_hello, b"ACL": _hide_acl, b"CONFIG": _hide_config, b"MIGRATE": _hide_migrate,
}  # fmt: skip
