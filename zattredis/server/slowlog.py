"""SLOWLOG: the last commands that took longer than they should."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

_ARGUMENTS_MAX = 32
_ARGUMENT_BYTES_MAX = 128


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
