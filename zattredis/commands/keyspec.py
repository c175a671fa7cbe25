"""Where a command's keys stand among its arguments, and what the command does to them.

Two views of the same fact. `KeySpec` is the quick one, used for every command that runs: first, last, step, or a
function where that does not suffice. `KeyPart` is the descriptive one, an element of COMMAND INFO's key
specifications (Redis page "Command key specifications"): how to find where keys begin, how many there are, and the
access flags. Clients read the second; COMMAND GETKEYS answers from it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class KeyPart:
    """One key specification.

    Begin: at `index`, or behind the word `keyword` searched from argument `start_from` (negative: backwards from the
    end). Number: a range up to `last` (relative to the begin; negative: from the end) by `step`, with `limit` a
    divisor of what is left if `last` is -1; or, if `number_index` is given, the number that stands there (relative to
    the begin), the first key being `first_key` further. `unknown`: the keys cannot be found this way at all, but
    `finder`, if given, finds their positions.
    `flags` are words: RO, RW, OW or RM, then access, update, insert, delete, not_key, incomplete, variable_flags.
    """

    flags: str
    index: int = 0
    keyword: bytes = b""
    start_from: int = 0
    last: int = 0
    step: int = 1
    limit: int = 0
    number_index: int | None = None
    first_key: int = 0
    unknown: bool = False
    finder: Callable[[list[bytes]], list[int]] | None = None
    notes: str = ""

    def find(self, argv: list[bytes]) -> list[int] | None:
        """Return the positions of the keys in a whole command line, or None if they cannot be found."""
        if self.finder is not None:
            return self.finder(argv)
        begin = self._begin(argv)
        if begin is None:
            return None
        if self.number_index is not None:
            return self._counted(argv, begin)
        last = begin + self.last if self.last >= 0 else len(argv) + self.last
        if self.last == -1 and self.limit > 1:
            last = begin + (len(argv) - begin) // self.limit - 1
        if last >= len(argv) or begin >= len(argv):
            return None
        return list(range(begin, last + 1, self.step))

    def _begin(self, argv: list[bytes]) -> int | None:
        if self.unknown:
            return None
        if not self.keyword:
            return self.index
        backwards = self.start_from < 0
        start = len(argv) + self.start_from if backwards else self.start_from
        places = range(start, 0, -1) if backwards else range(start, len(argv))
        for place in places:
            if place < len(argv) and argv[place].upper() == self.keyword:
                return place + 1
        return None

    def _counted(self, argv: list[bytes], begin: int) -> list[int] | None:
        assert self.number_index is not None
        place = begin + self.number_index
        if place >= len(argv) or not argv[place].isdigit():
            return None
        first = begin + self.first_key
        end = first + int(argv[place]) * self.step
        return list(range(first, end, self.step)) if end - self.step < len(argv) else None


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

    def part(self, flags: str, notes: str = "") -> KeyPart:
        """Return the same range as a KeyPart."""
        last = self.last - self.first if self.last >= 0 else self.last
        return KeyPart(flags, index=self.first, last=last, step=self.step, notes=notes)


NO_KEYS = KeySpec()
KEYS_FIRST = KeySpec(1, 1, 1)
KEYS_SECOND = KeySpec(2, 2, 1)
KEYS_ALL = KeySpec(1, -1, 1)
KEYS_PAIRS = KeySpec(1, -1, 2)
KEYS_TWO = KeySpec(1, 2, 1)
