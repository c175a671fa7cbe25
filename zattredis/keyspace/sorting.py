"""Sorting much in steps: one sort of a million rows is a second in which nothing else runs, even other threads."""

from __future__ import annotations

from collections.abc import Generator
from heapq import merge
from itertools import islice
from typing import Final, TypeVar

_RUN: Final = 8192
_STEP: Final = 2048

Row = TypeVar("Row", bound="tuple[object, ...]")


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


def sort(rows: list[Row]) -> list[Row]:
    """Return the rows in order: of many, so that other threads have their turn meanwhile."""
    steps = sort_in_steps(rows)
    try:
        while True:
            next(steps)
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]
