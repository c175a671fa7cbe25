"""Sorting much in steps: one sort of a million rows is a second in which nothing else runs, even other threads.

More than should be held is sorted outside of memory, where the view has a place for that (`Sorter`).
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from heapq import merge
from itertools import islice
from typing import Any, Final, TypeVar

from zattredis.keyspace.spilling import HELD_BYTES_MAX, HELD_MAX, Scratch, scratch_of
from zattredis.keyspace.view import View

_RUN: Final = 4096
_STEP: Final = 2048

Row = TypeVar("Row", bound="tuple[object, ...]")
Result = TypeVar("Result")


def sort_in_steps(rows: list[Row]) -> Generator[None, None, list[Row]]:
    """Return the rows in order; yields after every few milliseconds of work."""
    if len(rows) <= _RUN:
        return sorted(rows)
    runs: list[list[Row]] = []
    for start in range(0, len(rows), _RUN):
        runs.append(sorted(rows[start : start + _RUN]))
        yield
    merged = merge(*runs)
    found: list[Row] = []
    while step := list(islice(merged, _STEP)):
        found += step
        yield
    return found


def finished(steps: Generator[None, None, Result]) -> Result:
    """Go through all steps at once; return what they return."""
    try:
        while True:
            next(steps)
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]


def sort(rows: list[Row]) -> list[Row]:
    """Return the rows in order: of many, so that other threads have their turn meanwhile."""
    return finished(sort_in_steps(rows))


class Sorter:
    """Puts rows, tuples of one type, in order. `count` is how many there are."""

    __slots__ = ("_bytes", "_row", "_rows", "_scratch", "_view", "count")

    def __init__(self, view: View, row: Any) -> None:
        self._view = view
        self._row = row
        self._rows: list[Any] = []
        self._bytes = 0
        self._scratch: Scratch | None = None
        self.count = 0

    def add(self, rows: Sequence[Any], size: int) -> Generator[None, None, None]:
        """Take in rows of about `size` bytes, not many at once; yields when that takes longer."""
        self.count += len(rows)
        if self._scratch is not None:
            self._scratch.put(rows, size)
            return
        self._rows += rows
        self._bytes += size
        if len(self._rows) <= HELD_MAX and self._bytes <= HELD_BYTES_MAX:
            return
        self._scratch = scratch_of(self._view, self._row)
        if self._scratch is not None:
            held, self._rows = self._rows, []
            for start in range(0, len(held), _STEP):
                some = held[start : start + _STEP]
                self._scratch.put(some, self._bytes * len(some) // len(held))
                yield

    def ordered(self, reverse: bool = False) -> Generator[None, None, Iterator[Any]]:
        """Return an iterator over all rows in order, or backwards; yields after every few milliseconds of work."""
        if self._scratch is not None:
            return self._scratch.drain(reverse)
        rows = yield from sort_in_steps(self._rows)
        return reversed(rows) if reverse else iter(rows)
