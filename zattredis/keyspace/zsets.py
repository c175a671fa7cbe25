"""Sorted sets: all of a small one in its record, a large one in pages under a collection id (`zset_tree`).

A small one's body is (scores, members), in order, as MessagePack. One that has grown too large for its record moves to
pages and stays there. Commands open what a record holds (`open_zset`), read and change it through `SmallZset` or
`Tree`, which have the same methods, and store it (`store_zset`). Every range, whatever it is given by, comes down to
ranks start <= n < stop.

Scores are IEEE doubles, never NaN, kept to the last bit, with one exception that is Redis's: a set that it would hold
as a listpack has no negative zero.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice, pairwise
from typing import Final

import msgspec

from zattredis.errors import WrongType
from zattredis.keyspace.metadata import (
    HEADER_BYTES,
    LARGE,
    SEPARATE,
    TYPE_MASK,
    VOLATILE,
    ZSET,
    collection_id_of,
    expire_of,
    pack_header,
    separate_body,
    size_of,
)
from zattredis.keyspace.sizes import EFFECT_BYTES_MAX
from zattredis.keyspace.sorting import sort
from zattredis.keyspace.spilling import HELD_BYTES_MAX, HELD_MAX, Scratch, TooLarge, scratch_of
from zattredis.keyspace.view import View
from zattredis.keyspace.zset_batch import BatchTree
from zattredis.keyspace.zset_tree import ROOT_BYTES, SCORE, Pairs, Tree, leaf_place

INLINE_ENTRIES_MAX: Final = 128
INLINE_BYTES_MAX: Final = 2048
"""A sorted set with more members, or more bytes of members, does not fit its record."""

_BULK: Final = 1024
_ROOT_AT: Final = HEADER_BYTES + 16
_MEMBER_BYTES: Final = 60
"""What a member of a large set takes beside itself and its copy in the tree, reckoned."""
_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(tuple[list[float], list[bytes]]).decode


class SmallZset:
    """A sorted set that lies in its record; belongs to whoever opened it. Invariant: both lists in order."""

    __slots__ = ("members", "values")

    def __init__(self, values: list[float], members: list[bytes]) -> None:
        self.values = values
        self.members = members

    @property
    def size(self) -> int:
        """How many members there are."""
        return len(self.members)

    def score(self, member: bytes) -> float | None:
        """Return the member's score, None if it is not there."""
        members = self.members
        return self.values[members.index(member)] if member in members else None

    def scores(self, members: Sequence[bytes]) -> list[float | None]:
        """Return the score of each, None for those that are not there."""
        found = dict(zip(self.members, self.values, strict=True))
        return [found.get(member) for member in members]

    def rank(self, score: float, member: bytes) -> int:
        """Return how many members come before (score, member)."""
        return leaf_place(self.values, self.members, score, member)

    def count_below(self, score: float, inclusive: bool) -> int:
        """Return how many members have a score less than `score`, or (inclusive) not above it."""
        return (bisect_right if inclusive else bisect_left)(self.values, score)

    def count_below_member(self, member: bytes, inclusive: bool) -> int:
        """Return how many members are less than `member`, or (inclusive) not above it, all scores being equal.

        Where they are not, it is where the first one stands that is not.
        """
        for place, other in enumerate(self.members):
            if other > member or (other == member and not inclusive):
                return place
        return len(self.members)

    def slices(self, start: int, stop: int, reverse: bool = False) -> Iterator[Pairs]:
        """Yield (members, scores) of ranks start <= n < stop in pieces, in order or backwards."""
        if start >= stop:
            return
        members, values = self.members[start:stop], self.values[start:stop]
        yield (members[::-1], values[::-1]) if reverse else (members, values)

    def scan(self, position: int, count: int) -> tuple[int, list[tuple[bytes, float]]]:
        """Return 0 and all (member, score): a small set is scanned at once."""
        return 0, list(zip(self.members, self.values, strict=True))

    def insert(self, score: float, member: bytes) -> None:
        """Add a member that is not there."""
        place = leaf_place(self.values, self.members, score, member)
        self.values.insert(place, score)
        self.members.insert(place, member)

    def move(self, member: bytes, old: float, score: float) -> None:
        """Give a member another score than its `old` one."""
        self.remove(member, old)
        self.insert(score, member)

    def remove(self, member: bytes, score: float) -> None:
        """Remove a member that is there."""
        place = self.members.index(member)
        del self.members[place], self.values[place]

    def cut(self, start: int, stop: int) -> None:
        """Remove the members of ranks start <= n < stop."""
        del self.members[start:stop], self.values[start:stop]


Zset = SmallZset | Tree


def check_zset(record: bytes) -> None:
    """Raise WrongType unless the record is a sorted set's."""
    if record[0] & TYPE_MASK != ZSET:
        raise WrongType


def open_zset(view: View, record: bytes) -> Zset:
    """Return what the record holds. Raises WrongType."""
    check_zset(record)
    if record[0] & SEPARATE:
        return Tree.load(view, collection_id_of(record), size_of(record), record, _ROOT_AT)
    return SmallZset(*_decode(record[HEADER_BYTES:]))


def open_batch(view: View, record: bytes) -> BatchTree | None:
    """Return what the record holds, for several commands together; None unless it is a set in pages."""
    if record[0] & (TYPE_MASK | SEPARATE) != ZSET | SEPARATE:
        return None
    batch = BatchTree.load(view, collection_id_of(record), size_of(record), record, _ROOT_AT)
    batch.begin()
    return batch


def store_zset(
    view: View,
    db: int,
    key: bytes,
    zset: Zset,
    touched_s: int,
    expire_ms: int = 0,
    large: bool = False,
    version: int = 0,
) -> None:
    """Make the key's record say what the set is now; without members the key is deleted.

    `large` says that Redis would hold it as a skiplist. Of a set in pages `version` may be given, taken from the view.
    """
    if not zset.size:
        view.put(db, key, None)
        return
    if isinstance(zset, SmallZset):
        members = zset.members
        if len(members) <= INLINE_ENTRIES_MAX and sum(map(len, members)) <= INLINE_BYTES_MAX:
            kind = ZSET | (VOLATILE if expire_ms else 0) | (LARGE if large else 0)
            header = pack_header(kind, expire_ms, view.next_id(), touched_s)
            view.put(db, key, header + _encode((zset.values, members)))
            return
        zset = Tree.build(view, view.next_id(), zip(zset.values, members, strict=True))
    kind = ZSET | SEPARATE | (VOLATILE if expire_ms else 0) | (LARGE if large else 0)
    header = pack_header(kind, expire_ms, version or view.next_id(), touched_s)
    view.put(db, key, header + separate_body(zset.collection_id, zset.size) + zset.body_tail())


def outgrown(view: View, zset: SmallZset) -> Zset:
    """Return the set, in pages if it has more members than fit its record: a small one is slow with thousands."""
    if zset.size <= INLINE_ENTRIES_MAX:
        return zset
    return Tree.build(view, view.next_id(), zip(zset.values, zset.members, strict=True))


def is_large(view: View, zset: Zset) -> bool:
    """Return whether Redis would hold a set of these members, new and stored whole, as a skiplist."""
    parameters = view.registers.parameters
    if zset.size > parameters.zset_max_listpack_entries:
        return True
    value_max = parameters.zset_max_listpack_value
    return any(len(member) > value_max for members, _ in zset.slices(0, zset.size) for member in members)


def put_zset(
    view: View,
    db: int,
    key: bytes,
    items: Iterable[tuple[bytes, float]],
    touched_s: int,
    expire_ms: int = 0,
    large: bool | None = None,
    in_order: bool = False,
    distinct: bool = True,
) -> int:
    """Make the key this sorted set, whatever it was; members are distinct, or else come with the same score each time.

    Return how many there are.

    Their order is free; that they are `in_order` spares a long command of many the sorting outside of memory.
    Whether Redis would hold it as a skiplist follows from size and members unless `large` is given. Raises TooLarge.
    """
    entries = ((score, member) for member, score in items)
    listpack_max = view.registers.parameters.zset_max_listpack_entries
    pairs: list[tuple[float, bytes]] = []
    held_bytes = 0
    while some := list(islice(entries, _BULK)):
        pairs += some
        held_bytes += sum([len(member) for _, member in some])
        much = len(pairs) > HELD_MAX or held_bytes > HELD_BYTES_MAX
        if much and len(pairs) > listpack_max and (scratch := scratch_of(view, tuple[float, bytes])) is not None:
            every = chain(pairs, entries)
            if large is False:
                every = chain((score + 0.0, member) for score, member in every)
            tree = Tree.build(view, view.next_id(), every if in_order else _sorted(scratch, every, distinct))
            store_zset(view, db, key, tree, touched_s, expire_ms, large is not False)
            return tree.size
    if not distinct:
        pairs = sort(list(set(pairs)))
    elif any(one > other for one, other in pairwise(pairs)):
        pairs = sort(pairs)
    zset = SmallZset([score for score, _ in pairs], [member for _, member in pairs])
    if large is None:
        large = is_large(view, zset)
    if not large:
        zset.values = [score + 0.0 for score in zset.values]
    store_zset(view, db, key, zset, touched_s, expire_ms, large)
    return len(pairs)


def _sorted(
    scratch: Scratch, entries: Iterator[tuple[float, bytes]], distinct: bool
) -> Iterator[tuple[float, bytes]]:
    """Yield entries in order, each once. Raises TooLarge."""
    size = 0  # less than what they weigh as effects
    while some := list(islice(entries, _BULK)):
        some_bytes = sum([len(member) for _, member in some])
        scratch.put(some, some_bytes)
        size += some_bytes + SCORE.size * len(some)
        if size > EFFECT_BYTES_MAX:
            raise TooLarge
    if distinct:
        yield from scratch.drain()
        return
    last = None
    for entry in scratch.drain():
        if entry != last:
            yield entry
        last = entry


def zset_length(record: bytes) -> int:
    """Return the number of members. Raises WrongType."""
    check_zset(record)
    return size_of(record) if record[0] & SEPARATE else len(_decode(record[HEADER_BYTES:])[1])


def zset_encoding(record: bytes) -> bytes:
    """Return the encoding that Redis would report."""
    return b"skiplist" if record[0] & LARGE else b"listpack"


def zset_items(view: View, record: bytes) -> Iterator[tuple[bytes, float]]:
    """Yield (member, score) in order. Raises WrongType."""
    zset = open_zset(view, record)
    for members, scores in zset.slices(0, zset.size):
        yield from zip(members, scores, strict=True)


def zset_score(view: View, record: bytes, member: bytes) -> float | None:
    """Return the member's score, None if it is not there. Raises WrongType."""
    return open_zset(view, record).score(member)


def zset_range_by_score(
    view: View, record: bytes, low: float, low_open: bool, high: float, high_open: bool
) -> Iterator[tuple[bytes, float]]:
    """Yield (member, score) in order, low <= score <= high without the ends that are open. Raises WrongType."""
    zset = open_zset(view, record)
    for members, scores in zset.slices(zset.count_below(low, low_open), zset.count_below(high, not high_open)):
        yield from zip(members, scores, strict=True)


def copy_zset(view: View, record: bytes, db: int, key: bytes, expire_ms: int, touched_s: int) -> None:
    """Make the key a copy of the sorted set in `record`, with this expiry. Raises WrongType."""
    zset = open_zset(view, record)
    if isinstance(zset, Tree):
        zset = zset.copy_to(view.next_id())
    store_zset(view, db, key, zset, touched_s, expire_ms, bool(record[0] & LARGE))


def zset_bytes(record: bytes) -> int:
    """Return about how many bytes the sorted set takes in the store, for MEMORY USAGE; of a large one a rough guess."""
    if not record[0] & SEPARATE:
        return len(record)
    return _ROOT_AT + ROOT_BYTES + size_of(record) * (_MEMBER_BYTES + 2 * 16)


def pop_min_max(
    view: View, db: int, key: bytes, count: int, lowest: bool, now_ms: int
) -> list[tuple[bytes, float]]:
    """Remove and return up to `count` members, the lowest or the highest first, of a living key; it may lack them all.

    The key goes with its last member. Raises WrongType.
    """
    record = view.record(db, key, now_ms)
    if record is None:
        return []
    zset = open_zset(view, record)
    count = min(count, zset.size)
    if count <= 0:
        return []
    if count == 1 and zset.size > 1:
        members, scores = next(zset.slices(0, 1) if lowest else zset.slices(zset.size - 1, zset.size))
        zset.remove(members[0], scores[0])
        store_zset(view, db, key, zset, now_ms // 1000, expire_of(record), bool(record[0] & LARGE))
        return [(members[0], scores[0])]
    start = 0 if lowest else zset.size - count
    popped = [
        pair
        for members, scores in zset.slices(start, start + count, reverse=not lowest)
        for pair in zip(members, scores, strict=True)
    ]
    remove_ranks(view, db, key, record, zset, start, start + count, now_ms // 1000)
    return popped


def remove_ranks(
    view: View, db: int, key: bytes, record: bytes, zset: Zset, start: int, stop: int, touched_s: int
) -> None:
    """Remove the members of ranks start <= n < stop, at least one, from the key whose `record` was opened as `zset`."""
    if stop - start == zset.size:
        view.put(db, key, None)
        return
    zset.cut(start, stop)
    store_zset(view, db, key, zset, touched_s, expire_of(record), bool(record[0] & LARGE))


def pop_many(
    view: View, db: int, pops: Sequence[Sequence[bytes]], lowest: bool, now_ms: int
) -> list[tuple[bytes, float]] | None:
    """Do `pop_min_max` of one member for each of `pops` (command's name, key) in turn, outside of any unit.

    None, with nothing done, unless all are of one set in pages that outlasts them.
    """
    key = pops[0][1]
    record = view.record(db, key, now_ms)
    batch = None if record is None else open_batch(view, record)
    if record is None or batch is None or batch.size <= len(pops) or any(line[1] != key for line in pops):
        return None
    popped = [batch.pop(lowest) for _ in pops]
    batch.save()
    view.registers.counter = version = view.registers.counter + len(pops)
    store_zset(view, db, key, batch, now_ms // 1000, expire_of(record), bool(record[0] & LARGE), version)
    view.commit()
    return popped
