"""Which writes have lately changed nothing, and so may have nothing to do the next time (see `trials`).

A guess and no more: right or wrong, a write has the same effects and the same reply. A wrong one costs a second look at
the write, so a key whose writes are idle now and then is left alone: each write that was idle earns its key one point,
each wrong guess takes four, and a guess needs four.
"""

from __future__ import annotations

from typing import Final

from zattredis.commands.table import CommandSpec, Kind

GUESSED_FROM: Final = 4
POINTS_MAX: Final = 16
WRONG_GUESS: Final = 4
KEYS_MAX: Final = 4096
"""Keys remembered, of all commands together; with more, all is forgotten and learnt again."""
KEY_BYTES_MAX: Final = 256


class Idleness:
    """One per node. `specs` are the commands that were ever seen idle: of any other there is nothing to ask."""

    __slots__ = ("_count", "specs")

    def __init__(self) -> None:
        self.specs: dict[CommandSpec, dict[tuple[int, bytes], int]] = {}
        """Command → (database, first key) → points."""
        self._count = 0

    def seen(self, spec: CommandSpec, db: int, argv: list[bytes], times: int = 1) -> None:
        """A write of this node's clients changed nothing, so many times."""
        points = self.specs.get(spec)
        if points is None:
            if not may_be_tried(spec):
                return
            points = self.specs[spec] = {}
        place = db, argv[1]
        before = points.get(place)
        if before is None:
            if len(argv[1]) > KEY_BYTES_MAX:
                return
            if self._count >= KEYS_MAX:
                self.forget()
            self._count += 1
            before = 0
        points[place] = min(before + times, POINTS_MAX)

    def wrong(self, spec: CommandSpec, db: int, key: bytes) -> None:
        """A write that was guessed to be idle was not."""
        points = self.specs.get(spec)
        if points is not None and (db, key) in points:
            points[db, key] = max(points[db, key] - WRONG_GUESS, 0)

    def guesses(self, spec: CommandSpec, db: int, key: bytes) -> bool:
        """Return whether the command is likely to change nothing of this key."""
        points = self.specs.get(spec)
        return points is not None and points.get((db, key), 0) >= GUESSED_FROM

    def forget(self) -> None:
        """Know nothing more of any key."""
        for points in self.specs.values():
            points.clear()
        self._count = 0


def may_be_tried(spec: CommandSpec) -> bool:
    """Return whether a write of this kind may be looked at as a read first: a plain one whose first word is a key, and
    none of an extension, whose code is not ours."""
    return spec.kind == Kind.WRITE and spec.plain and spec.keys.first == 1 and not spec.module
