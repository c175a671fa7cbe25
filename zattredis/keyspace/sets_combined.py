"""Union, intersection and difference of sets, in batches.

Members of one set are looked up in the others, so a small set and a huge one cost what the small one does; a set that
has fewer members than would be looked up in it is read instead, if it is short enough to be held. Large unions are
merged in the hashed order that all sets share, so that no union has to be held.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from heapq import merge
from itertools import islice
from typing import Final

from zattredis.keyspace.metadata import LARGE, SEPARATE
from zattredis.keyspace.sets import has_members, is_integer, set_hashed, set_length, set_members
from zattredis.keyspace.sets_separate import BATCH
from zattredis.keyspace.view import View

_HELD_MAX: Final = 4096
"""Most members of a separate set that are held for looking up."""
_MERGED_ABOVE: Final = 8192
"""A union of more members than this, counted in all sets, is merged."""
_CRC_BYTES: Final = 4


class _Lookup:
    """Tells which members a set has."""

    __slots__ = ("_held", "_record", "_view")

    def __init__(self, view: View, record: bytes, expected: int) -> None:
        self._view = view
        self._record = record
        size = set_length(record)
        held = not record[0] & SEPARATE or size <= min(expected * 2, _HELD_MAX)
        self._held = set(set_members(view, record)) if held else None

    def only(self, members: list[bytes], wanted: bool) -> list[bytes]:
        """Return those of `members` that the set has, or if not `wanted` those that it has not."""
        held = self._held
        if held is not None:
            return [member for member in members if (member in held) is wanted]
        answers = has_members(self._view, self._record, members)
        return [member for member, has in zip(members, answers, strict=True) if has is wanted]


def batches(members: Iterator[bytes]) -> Iterator[list[bytes]]:
    """Yield the members in lists of at most BATCH."""
    while batch := list(islice(members, BATCH)):
        yield batch


def intersection(view: View, records: Sequence[bytes]) -> Iterator[list[bytes]]:
    """Yield the members that all sets have, in lists, some of which are empty."""
    first, *others = sorted(records, key=set_length)
    lookups = [_Lookup(view, record, set_length(first)) for record in others]
    for batch in batches(set_members(view, first)):
        for lookup in lookups:
            batch = lookup.only(batch, wanted=True)
        yield batch


def difference(view: View, records: Sequence[bytes | None]) -> Iterator[list[bytes]]:
    """Yield the members of the first set that no other has, in lists, some of which are empty. None is an empty set."""
    first, *others = records
    if first is None:
        return
    size = set_length(first)
    lookups = [_Lookup(view, record, size) for record in others if record is not None]
    for batch in batches(set_members(view, first)):
        for lookup in lookups:
            batch = lookup.only(batch, wanted=False)
        yield batch


def union(view: View, records: Sequence[bytes | None]) -> Iterator[list[bytes]]:
    """Yield the members that any set has, once each, in lists, some of which are empty. None is an empty set."""
    present = [record for record in records if record is not None]
    if sum(map(set_length, present)) <= _MERGED_ABOVE:
        found: dict[bytes, None] = {}
        for record in present:
            found.update(dict.fromkeys(set_members(view, record)))
        yield from batches(iter(found))
        return
    batch: list[bytes] = []
    last = None
    for number, entry in enumerate(merge(*[set_hashed(view, record) for record in present])):
        if entry != last:
            batch.append(entry[_CRC_BYTES:])
            last = entry
        if number % BATCH == BATCH - 1:
            yield batch
            batch = []
    yield batch


def difference_is_large(view: View, records: Sequence[bytes | None]) -> bool:
    """Return whether Redis would hold the difference as a hashtable even if its members alone do not ask for it.

    Where that means less work it begins with a copy of the first set and takes out what the others have. The copy's
    encoding then is the result's.
    """
    first = records[0]
    if first is None or not first[0] & LARGE:
        return False
    sizes = [0 if record is None else set_length(record) for record in records]
    looking_up = sum(sizes[0] for record in records if record is not None) // 2
    if looking_up <= sum(sizes):
        return False
    parameter = view.registers.parameters.set_max_intset_entries
    return sizes[0] > parameter or not all(map(is_integer, set_members(view, first)))
