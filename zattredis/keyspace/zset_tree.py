"""A large sorted set: an index by member, and a counted B+ tree in order of (score, member).

```
m | crc32(4) | member   -> score (8 bytes, IEEE double)
p | page number(8)      -> a page of the tree
c | page number(8)      -> the counts of an inner page
```

(all under the collection's `s_prefix`). A leaf is (scores, members), both in order; an inner page is (bounds, pages)
and its counts: child `n` holds `counts[n]` members, whose sort keys are at least `bounds[n]` and less than
`bounds[n + 1]`. The first bound is empty and never looked at. A sort key is the score in eight bytes that sort as the
scores do, and then the member; bounds are the shortest that tell two neighbours apart. Where the tree begins (root,
height) and the number of the next new page stand in the key's record.

Why a tree of pages and not a store key for each member: what RANK, RANGE, POP and REM look at are a few point reads
(3 µs each), where an iterator over the store costs 14 µs to make, and crawls over the tombstones of what was popped.
Pages are small, since each change rewrites a leaf, and the counts of one page on each level; where children begin
changes only when some are split or joined, so it stands apart.

Lists of a page are never changed, a change makes new ones: whoever walks through the tree keeps what was there when
the walk came by.
"""

from __future__ import annotations

import struct
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate
from typing import Final, Self
from zlib import crc32

import msgspec

from zattredis.errors import StateDamaged
from zattredis.keyspace.keys import s_prefix
from zattredis.keyspace.view import View

LEAF_MAX: Final = 32
"""Most members of a leaf."""
INNER_MAX: Final = 128
"""Most children of an inner page."""
PAGE_BYTES_MAX: Final = 4096
"""A page with more bytes of members (or bounds) than this is split, if it has SPLIT_MIN entries."""
SPLIT_MIN: Final = 4
SCAN_MAX: Final = 4096
"""Most members one step of a scan looks at; more only where they share a position."""
LONG_BYTES: Final = 48
"""Members no longer than this can never fill a page's bytes, and are not counted."""

Leaf = tuple[list[float], list[bytes]]
Shape = tuple[list[bytes], list[int]]
"""Bounds and children of an inner page."""
Inner = tuple[list[bytes], list[int], list[int]]
Pairs = tuple[Sequence[bytes], Sequence[float]]
"""Members and their scores."""
Split = tuple[bytes, int, int]
"""(bound, number, members) of a page that came into being beside another."""

SCORE: Final = struct.Struct(">d")
_BITS: Final = struct.Struct(">Q")
_ROOT: Final = struct.Struct(">QQB")
ROOT_BYTES: Final = _ROOT.size
_SIGN: Final = 1 << 63
_ALL: Final = (1 << 64) - 1

pack_score: Final = SCORE.pack
_decode_leaf: Final = msgspec.msgpack.Decoder(tuple[list[float], list[bytes]]).decode
_decode_shape: Final = msgspec.msgpack.Decoder(tuple[list[bytes], list[int]]).decode
_decode_counts: Final = msgspec.msgpack.Decoder(tuple[list[int]]).decode


def score_order(score: float) -> int:
    """Return 64 bits that are ordered as scores are; both zeros are one."""
    bits: int = _BITS.unpack(SCORE.pack(score + 0.0))[0]
    return bits ^ _ALL if bits & _SIGN else bits | _SIGN


def sort_key(score: float, member: bytes) -> bytes:
    """Return bytes that are ordered as (score, member)."""
    return score_order(score).to_bytes(8, "big") + member


def leaf_place(scores: Sequence[float], members: Sequence[bytes], score: float, member: bytes) -> int:
    """Return how many entries come before (score, member)."""
    low = bisect_left(scores, score)
    return bisect_left(members, member, low, bisect_right(scores, score, low))


def _bound(left: Leaf, right: Leaf) -> bytes:
    """Return the shortest bytes above every sort key of `left` and not above any of `right`."""
    below, above = sort_key(left[0][-1], left[1][-1]), sort_key(right[0][0], right[1][0])
    for place, (one, other) in enumerate(zip(below, above, strict=False)):
        if one != other:
            return above[: place + 1]
    return above[: len(below) + 1]


def _overfull(words: list[bytes], entries_max: int) -> bool:
    count = len(words)
    return count > entries_max or (count >= SPLIT_MIN and sum(map(len, words)) > PAGE_BYTES_MAX)


def _fill(entries_max: int) -> int:
    """Return how many entries a page has that is written as one of many, or that two were joined to, at most."""
    return entries_max * 3 // 4


def few(entries: int, height: int) -> bool:
    """Return whether a page has so few entries that it should join a neighbour, if both fit one with room to spare."""
    return entries < (INNER_MAX if height else LEAF_MAX) // 3


class Tree:
    """The content of one large sorted set, as a view sees it; `size` members. The owner stores `body_tail` and size."""

    __slots__ = ("_counts_prefix", "_members", "_pages", "collection_id", "height", "next_page", "root", "size", "view")

    def __init__(self, view: View, collection_id: int, size: int, root: int, next_page: int, height: int) -> None:
        self.view = view
        self.collection_id = collection_id
        self.size = size
        self.root = root
        self.next_page = next_page
        self.height = height
        prefix = s_prefix(collection_id)
        self._members = prefix + b"m"
        self._pages = prefix + b"p"
        self._counts_prefix = prefix + b"c"

    @classmethod
    def build(cls, view: View, collection_id: int, entries: Iterable[tuple[float, bytes]]) -> Tree:
        """Return a tree of these (score, member), at least one, in order, written under a new collection.

        It holds a bound of each leaf, besides what the view holds.
        """
        tree = cls(view, collection_id, 0, 0, 1, 0)
        put_raw, prefix = view.put_raw, tree._members
        splits: list[Split] = []
        before: Leaf | None = None
        for leaf in _leaves(entries):
            for score, member in zip(*leaf, strict=True):
                put_raw(prefix + crc32(member).to_bytes(4, "big") + member, pack_score(score))
            tree._put_leaf(number := tree._new_number(), leaf)
            splits.append((b"" if before is None else _bound(before, leaf), number, len(leaf[1])))
            tree.size += len(leaf[1])
            before = leaf
        while len(splits) > 1:
            above: list[Split] = []
            for start, stop in _portions([bound for bound, _, _ in splits], _fill(INNER_MAX)):
                bounds, pages, counts = zip(*splits[start:stop], strict=True)
                tree._put_inner(number := tree._new_number(), ([b"", *bounds[1:]], list(pages), list(counts)))
                above.append((bounds[0], number, sum(counts)))
            splits = above
            tree.height += 1
        tree.root = splits[0][1]
        return tree

    def body_tail(self) -> bytes:
        """Return what stands in the record behind collection id and size."""
        return _ROOT.pack(self.root, self.next_page, self.height)

    @classmethod
    def load(cls, view: View, collection_id: int, size: int, record: bytes, offset: int) -> Self:
        """Return the tree that a record names."""
        root, next_page, height = _ROOT.unpack_from(record, offset)
        return cls(view, collection_id, size, root, next_page, height)

    # -- pages -------------------------------------------------------------------------------------------------------

    def _leaf(self, number: int) -> Leaf:
        return self.view.get_page(self._pages + number.to_bytes(8, "big"), _decode_leaf)  # type: ignore[return-value]

    def _shape(self, number: int) -> Shape:
        return self.view.get_page(self._pages + number.to_bytes(8, "big"), _decode_shape)  # type: ignore[return-value]

    def _counts(self, number: int) -> list[int]:
        return self.view.get_page(self._counts_prefix + number.to_bytes(8, "big"), _decode_counts)[0]

    def _inner(self, number: int) -> Inner:
        bounds, pages = self._shape(number)
        return bounds, pages, self._counts(number)

    def _put_leaf(self, number: int, leaf: Leaf) -> None:
        self.view.put_page(self._pages + number.to_bytes(8, "big"), leaf)

    def _put_counts(self, number: int, counts: list[int]) -> None:
        self.view.put_page(self._counts_prefix + number.to_bytes(8, "big"), (counts,))

    def _put_inner(self, number: int, page: Inner) -> None:
        self.view.put_page(self._pages + number.to_bytes(8, "big"), page[:2])
        self._put_counts(number, page[2])

    def _drop(self, number: int, height: int) -> None:
        self.view.put_page(self._pages + number.to_bytes(8, "big"), None)
        if height:
            self.view.put_page(self._counts_prefix + number.to_bytes(8, "big"), None)

    def _new_number(self) -> int:
        number = self.next_page
        self.next_page = number + 1
        return number

    # -- reading -----------------------------------------------------------------------------------------------------

    def score(self, member: bytes) -> float | None:
        """Return the member's score, None if it is not there."""
        raw = self.view.get_raw(self._members + crc32(member).to_bytes(4, "big") + member)
        return None if raw is None else SCORE.unpack(raw)[0]

    def scores(self, members: Sequence[bytes]) -> list[float | None]:
        """Return the score of each, None for those that are not there."""
        prefix = self._members
        found = self.view.multi_get_raw([prefix + crc32(member).to_bytes(4, "big") + member for member in members])
        return [None if raw is None else SCORE.unpack(raw)[0] for raw in found]

    def rank(self, score: float, member: bytes) -> int:
        """Return how many members come before (score, member)."""
        key = sort_key(score, member)
        leaf, below = self._descend(key)
        return below + leaf_place(*leaf, score, member)

    def count_below(self, score: float, inclusive: bool) -> int:
        """Return how many members have a score less than `score`, or (inclusive) not above it."""
        key = (score_order(score) + inclusive).to_bytes(8, "big")
        leaf, below = self._descend(key)
        return below + (bisect_right if inclusive else bisect_left)(leaf[0], score)

    def count_below_member(self, member: bytes, inclusive: bool) -> int:
        """Return how many members are less than `member`, or (inclusive) not above it, all scores being equal.

        Where they are not, the first one's score is the one that counts.
        """
        _, scores = next(self.slices(0, 1))
        key = sort_key(scores[0], member + b"\0" if inclusive else member)
        leaf, below = self._descend(key)
        return below + leaf_place(*leaf, scores[0], key[8:])

    def _descend(self, key: bytes) -> tuple[Leaf, int]:
        """Return the leaf where a sort key belongs, and how many members come before that leaf."""
        number, below = self.root, 0
        for _ in range(self.height):
            bounds, pages = self._shape(number)
            place = bisect_right(bounds, key, 1) - 1
            below += sum(self._counts(number)[:place])
            number = pages[place]
        return self._leaf(number), below

    def slices(self, start: int, stop: int, reverse: bool = False) -> Iterator[Pairs]:
        """Yield (members, scores) of ranks start <= n < stop in pieces, in order or backwards."""
        return self._walk(self.root, self.height, start, min(stop, self.size), reverse)

    def _walk(self, number: int, height: int, start: int, stop: int, reverse: bool) -> Iterator[Pairs]:
        if start >= stop:
            return
        if not height:
            scores, members = self._leaf(number)
            if stop - start < len(members):
                scores, members = scores[start:stop], members[start:stop]
            yield (members[::-1], scores[::-1]) if reverse else (members, scores)
            return
        _, pages, counts = self._inner(number)
        ends = list(accumulate(counts))
        first, last = bisect_right(ends, start), bisect_left(ends, stop)
        for child in range(last, first - 1, -1) if reverse else range(first, last + 1):
            begin = ends[child] - counts[child]
            low, high = max(start - begin, 0), min(stop - begin, counts[child])
            yield from self._walk(pages[child], height - 1, low, high, reverse)

    def scan(self, position: int, count: int) -> tuple[int, list[tuple[bytes, float]]]:
        """Return the next position (0: done) and (member, score) of at least `count` members from `position` on.

        Positions are crc32 of members; those that share one come together, and the whole is bounded.
        """
        found: list[tuple[bytes, float]] = []
        if position >> 32:
            return 0, found
        begin = len(self._members) + 4
        left = min(count, SCAN_MAX)
        last = b""
        upper = self._members[:-1] + b"n"
        for name, value in self.view.iterate(self._members + position.to_bytes(4, "big"), upper):
            crc = name[begin - 4 : begin]
            if left <= 0 and crc != last:
                return int.from_bytes(crc, "big"), found
            left -= 1
            last = crc
            found.append((name[begin:], SCORE.unpack(value)[0]))
        return 0, found

    # -- copying -----------------------------------------------------------------------------------------------------

    def copy_to(self, collection_id: int) -> Tree:
        """Write the same members and pages under another collection id, a page at a time; return that tree."""
        view, prefix = self.view, self._members
        copy = Tree(view, collection_id, self.size, self.root, self.next_page, self.height)
        for name, score in view.iterate(prefix, prefix[:-1] + b"n"):
            view.put_raw(copy._members + name[len(prefix) :], score)
        self._copy_pages(copy, self.root, self.height)
        return copy

    def _copy_pages(self, copy: Tree, number: int, height: int) -> None:
        if not height:
            copy._put_leaf(number, self._leaf(number))
            return
        page = self._inner(number)
        copy._put_inner(number, page)
        for child in page[1]:
            self._copy_pages(copy, child, height - 1)

    # -- changing ----------------------------------------------------------------------------------------------------

    def insert(self, score: float, member: bytes) -> None:
        """Add a member that is not there."""
        self.view.put_raw(self._members + crc32(member).to_bytes(4, "big") + member, pack_score(score))
        self.size += 1
        self._insert(score, member)

    def move(self, member: bytes, old: float, score: float) -> None:
        """Give a member another score than its `old` one."""
        self.view.put_raw(self._members + crc32(member).to_bytes(4, "big") + member, pack_score(score))
        if not self._move_within_leaf(member, old, score):
            self._remove(old, member)
            self._insert(score, member)

    def remove(self, member: bytes, score: float) -> None:
        """Remove a member that has this score."""
        self.view.put_raw(self._members + crc32(member).to_bytes(4, "big") + member, None)
        self.size -= 1
        self._remove(score, member)

    def _path(self, key: bytes) -> tuple[list[tuple[int, int]], int]:
        """Return the inner pages from the root to where a sort key belongs, each with the child taken, and the leaf."""
        path = []
        number = self.root
        for _ in range(self.height):
            bounds, pages = self._shape(number)
            place = bisect_right(bounds, key, 1) - 1
            path.append((number, place))
            number = pages[place]
        return path, number

    def _insert(self, score: float, member: bytes) -> None:
        path, number = self._path(sort_key(score, member))
        scores, members = self._leaf(number)
        place = leaf_place(scores, members, score, member)
        scores, members = scores.copy(), members.copy()
        scores.insert(place, score)
        members.insert(place, member)
        split: Split | None = None
        if len(members) > LEAF_MAX or (len(member) > LONG_BYTES and _overfull(members, LEAF_MAX)):
            # At the end members probably come in order: then full pages stay behind.
            cut = len(members) - 1 if place == len(members) - 1 else len(members) // 2
            left, right = (scores[:cut], members[:cut]), (scores[cut:], members[cut:])
            self._put_leaf(number, left)
            split = (_bound(left, right), self._new_number(), len(members) - cut)
            self._put_leaf(split[1], right)
        else:
            self._put_leaf(number, (scores, members))
        for number, child in reversed(path):
            counts = self._counts(number).copy()
            counts[child] += 1
            if split is None:
                self._put_counts(number, counts)
            else:
                split = self._take_in(number, counts, child, split)
        if split is not None:
            root = self._new_number()
            self._put_inner(root, ([b"", split[0]], [self.root, split[1]], [self.size - split[2], split[2]]))
            self.root = root
            self.height += 1

    def _take_in(self, number: int, counts: list[int], child: int, split: Split) -> Split | None:
        """Store an inner page whose child was split; return its own split."""
        bound, new_page, members = split
        bounds, pages = self._shape(number)
        bounds, pages = bounds.copy(), pages.copy()
        counts[child] -= members
        bounds.insert(child + 1, bound)
        pages.insert(child + 1, new_page)
        counts.insert(child + 1, members)
        if not (len(pages) > INNER_MAX or (len(bound) > LONG_BYTES and _overfull(bounds, INNER_MAX))):
            self._put_inner(number, (bounds, pages, counts))
            return None
        cut = len(pages) - 2 if child == len(pages) - 2 else len(pages) // 2
        self._put_inner(number, (bounds[:cut], pages[:cut], counts[:cut]))
        right = self._new_number()
        self._put_inner(right, ([b"", *bounds[cut + 1 :]], pages[cut:], counts[cut:]))
        return bounds[cut], right, sum(counts[cut:])

    def _move_within_leaf(self, member: bytes, old: float, score: float) -> bool:
        """Change the score if the member stays in its leaf; return whether it does."""
        key, new_key = sort_key(old, member), sort_key(score, member)
        number = self.root
        for _ in range(self.height):
            bounds, pages = self._shape(number)
            place = bisect_right(bounds, key, 1) - 1
            if bisect_right(bounds, new_key, 1) - 1 != place:
                return False
            number = pages[place]
        scores, members = self._leaf(number)
        scores, members = scores.copy(), members.copy()
        place = self._found(scores, members, old, member)
        del scores[place], members[place]
        place = leaf_place(scores, members, score, member)
        scores.insert(place, score)
        members.insert(place, member)
        self._put_leaf(number, (scores, members))
        return True

    def _found(self, scores: list[float], members: list[bytes], score: float, member: bytes) -> int:
        place = leaf_place(scores, members, score, member)
        if place >= len(members) or members[place] != member:
            raise StateDamaged(f"a member of sorted set {self.collection_id} is not where its score says")
        return place

    def _remove(self, score: float, member: bytes) -> None:
        path, number = self._path(sort_key(score, member))
        scores, members = self._leaf(number)
        scores, members = scores.copy(), members.copy()
        place = self._found(scores, members, score, member)
        del scores[place], members[place]
        self._put_leaf(number, (scores, members))
        entries = len(members)
        for height, (number, child) in enumerate(reversed(path)):
            counts = self._counts(number).copy()
            counts[child] -= 1
            self._put_counts(number, counts)
            entries = self._tidy(number, counts, child, height) if few(entries, height) else len(counts)
        self._lower_root()

    def _tidy(self, number: int, counts: list[int], child: int, height: int) -> int:
        """Let the small `child` (a page of `height`) of a page with these counts go away if it can; return how many
        children the page has then."""
        if counts[child] and not self._may_join(self._shape(number)[1], child, height):
            return len(counts)
        page = self._tidied((*self._shape(number), counts), child, height)
        self._put_inner(number, page)
        return len(page[1])

    def _may_join(self, pages: list[int], child: int, height: int) -> bool:
        """Return whether a child and the neighbour that it would join have few enough entries for one page."""
        if len(pages) == 1:
            return False
        left = child - 1 if child else 0
        read = self._shape if height else self._leaf
        entries = len(read(pages[left])[1]) + len(read(pages[left + 1])[1])
        return entries <= _fill(INNER_MAX if height else LEAF_MAX)

    # -- removal of a range ------------------------------------------------------------------------------------------

    def cut(self, start: int, stop: int) -> None:
        """Remove the members of ranks start <= n < stop; at least one stays."""
        for members, _ in self.slices(start, stop):
            self._forget(members)
        self.size -= stop - start
        self._cut(self.root, self.height, start, stop)
        self._lower_root()

    def _forget(self, members: Sequence[bytes]) -> None:
        put_raw, prefix = self.view.put_raw, self._members
        for member in members:
            put_raw(prefix + crc32(member).to_bytes(4, "big") + member, None)

    def _cut(self, number: int, height: int, start: int, stop: int) -> int:
        """Remove a part of what is below a page, not all; return how many entries the page has left."""
        if not height:
            scores, members = self._leaf(number)
            leaf = (scores[:start] + scores[stop:], members[:start] + members[stop:])
            self._put_leaf(number, leaf)
            return len(leaf[1])
        bounds, pages, counts = self._inner(number)
        ends = list(accumulate(counts))
        first, last = bisect_right(ends, start), bisect_left(ends, stop)
        left: list[tuple[int, int]] = []  # (place, members) of the children that lose a part, and keep one
        small: list[int] = []
        for child in range(first, last + 1):
            begin = ends[child] - counts[child]
            low, high = max(start - begin, 0), min(stop - begin, counts[child])
            if high - low == counts[child]:
                self._drop_below(pages[child], height - 1)
                continue
            if few(self._cut(pages[child], height - 1, low, high), height - 1):
                small.append(first + len(left))
            left.append((child, counts[child] - (high - low)))
        page = (
            bounds[:first] + [bounds[child] for child, _ in left] + bounds[last + 1 :],
            pages[:first] + [pages[child] for child, _ in left] + pages[last + 1 :],
            counts[:first] + [count for _, count in left] + counts[last + 1 :],
        )
        page[0][0] = b""
        for child in reversed(small):
            if child < len(page[1]):
                page = self._tidied(page, child, height - 1)
        self._put_inner(number, page)
        return len(page[1])

    def _drop_below(self, number: int, height: int) -> None:
        """Delete a page and all below it."""
        if height:
            for page in self._shape(number)[1]:
                self._drop_below(page, height - 1)
        self._drop(number, height)

    def _tidied(self, page: Inner, child: int, height: int) -> Inner:
        """Return an inner page, not stored yet, whose small `child` (a page of `height`) went away if it can."""
        bounds, pages, counts = page[0].copy(), page[1].copy(), page[2].copy()
        if not counts[child]:
            self._drop(pages[child], height)
            del bounds[child], pages[child], counts[child]
        elif len(pages) > 1:
            left = child - 1 if child else 0
            if self._joined(pages[left], pages[left + 1], bounds[left + 1], height):
                counts[left] += counts[left + 1]
                del bounds[left + 1], pages[left + 1], counts[left + 1]
        if bounds:
            bounds[0] = b""
        return bounds, pages, counts

    def _joined(self, left: int, right: int, bound: bytes, height: int) -> bool:
        """Make one page of two neighbours, unless it would be rather full; return whether it was done."""
        if height:
            one, other = self._inner(left), self._inner(right)
            bounds = [*one[0], bound, *other[0][1:]]
            if _overfull(bounds, _fill(INNER_MAX)):
                return False
            self._put_inner(left, (bounds, one[1] + other[1], one[2] + other[2]))
        else:
            leaf, next_leaf = self._leaf(left), self._leaf(right)
            members = leaf[1] + next_leaf[1]
            if _overfull(members, _fill(LEAF_MAX)):
                return False
            self._put_leaf(left, (leaf[0] + next_leaf[0], members))
        self._drop(right, height)
        return True

    def _lower_root(self) -> None:
        while self.height:
            pages = self._shape(self.root)[1]
            if len(pages) > 1:
                return
            self._drop(self.root, self.height)
            self.root = pages[0]
            self.height -= 1


def _leaves(entries: Iterable[tuple[float, bytes]]) -> Iterator[Leaf]:
    """Yield the leaves that many entries come to: the same portions as `_portions` makes."""
    scores: list[float] = []
    members: list[bytes] = []
    weight, fill = 0, _fill(LEAF_MAX)
    for score, member in entries:
        if len(members) >= fill or (weight > PAGE_BYTES_MAX // 2 and len(members) >= 2):
            yield scores, members
            scores, members, weight = [], [], 0
        scores.append(score)
        members.append(member)
        weight += len(member)
    yield scores, members


def _portions(words: Sequence[bytes], fill: int) -> Iterator[tuple[int, int]]:
    """Yield (start, stop) of the pages that many entries come to."""
    start = weight = 0
    for place, word in enumerate(words):
        if place - start >= fill or (weight > PAGE_BYTES_MAX // 2 and place - start >= 2):
            yield start, place
            start, weight = place, 0
        weight += len(word)
    yield start, len(words)
