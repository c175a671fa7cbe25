"""Many changes of one large sorted set, carried out together: its pages stay at hand and are written once.

They are several commands' or one command's with many members. What is left behind is, to the byte, what the changes
leave one after the other (pages are split and joined at the same ones), for other nodes may carry commands out one by
one. A page that was changed belongs to the batch, so the next change is made in its lists; nobody else sees them before
`save`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from zlib import crc32

from zattredis.keyspace.sizes import EFFECT_OVERHEAD_BYTES
from zattredis.keyspace.zset_tree import (
    LEAF_MAX,
    LONG_BYTES,
    SCORE,
    Inner,
    Leaf,
    Shape,
    Tree,
    few,
    leaf_place,
    pack_score,
    sort_key,
)


class BatchTree(Tree):
    """A `Tree` for many changes, of members that were asked for. Write them with `save` or `save_undoable`."""

    __slots__ = (
        "_changed", "_changed_counts", "_counts_held", "_names", "_names_changed", "_pages_held", "_reckoned",
        "_scores",
    )  # fmt: skip

    def begin(self) -> None:
        """Start the batch."""
        self._reckoned = 0
        """What the changes of members would weigh among the effects, were each written by itself."""
        self._pages_held: dict[int, Any] = {}
        self._counts_held: dict[int, list[int]] = {}
        self._changed: dict[int, Any] = {}
        """What was put by this batch, and so is its own; None for a page that is no more."""
        self._changed_counts: dict[int, list[int] | None] = {}
        self._scores: dict[bytes, float | None] = {}
        self._names: dict[bytes, bytes] = {}
        self._names_changed: set[bytes] = set()

    def ask(self, members: Iterable[bytes]) -> None:
        """Look up the scores of members, all at once."""
        prefix, names = self._members, self._names
        for member in members:
            if member not in names:
                names[member] = prefix + crc32(member).to_bytes(4, "big") + member
        found = self.view.multi_get_raw(list(names.values()))
        self._scores = {
            member: None if raw is None else SCORE.unpack(raw)[0] for member, raw in zip(names, found, strict=True)
        }

    def add(self, score: float, member: bytes) -> int:
        """Give a member that was asked for this score; return 2 if it is new, 1 if its score was another, else 0."""
        old = self._scores[member]
        if old is None:
            self.size += 1
            self._insert(score, member)
        elif score != old:
            if not self._move_within_leaf(member, old, score):
                self._remove(old, member)
                self._insert(score, member)
        else:
            return 0
        self._scores[member] = score
        self._names_changed.add(member)
        return 2 if old is None else 1

    def score(self, member: bytes) -> float | None:
        """Return the score of a member that was asked for, None if it is not there."""
        return self._scores[member]

    def insert(self, score: float, member: bytes) -> None:
        """Add a member that was asked for and is not there."""
        self._note(member, score)
        self.size += 1
        self._insert(score, member)

    def move(self, member: bytes, old: float, score: float) -> None:
        """Give a member that was asked for another score than its `old` one."""
        self._note(member, score)
        if not self._move_within_leaf(member, old, score):
            self._remove(old, member)
            self._insert(score, member)

    def remove(self, member: bytes, score: float) -> None:
        """Remove a member that was asked for and has this score; it is not the last one."""
        self._note(member, None)
        self.size -= 1
        self._remove(score, member)

    def _note(self, member: bytes, score: float | None) -> None:
        self._reckoned += len(self._names[member]) + (0 if score is None else SCORE.size) + EFFECT_OVERHEAD_BYTES
        self._names_changed.add(member)
        self._scores[member] = score

    def pop(self, lowest: bool) -> tuple[bytes, float]:
        """Remove the first or the last of at least two members, and return it."""
        number, place = self.root, 0 if lowest else -1
        for _ in range(self.height):
            number = self._shape(number)[1][place]
        scores, members = self._leaf(number)
        score, member = scores[place], members[place]
        self._names[member] = self._members + crc32(member).to_bytes(4, "big") + member
        self._scores[member] = None
        self._names_changed.add(member)
        self.size -= 1
        self._remove(score, member)
        return member, score

    def save(self) -> None:
        """Write what was changed, outside of any unit: nothing of it can be undone."""
        self.view.put_raw_many(self._members_changed())
        self._save_pages()

    def save_undoable(self) -> None:
        """Write what one command has changed, reckoned as if each of its changes had been written by itself."""
        view = self.view
        effect_bytes = view.effect_bytes
        for name, value in self._members_changed().items():
            view.put_raw(name, value)
        view.effect_bytes = effect_bytes + self._reckoned
        self._save_pages()

    def _members_changed(self) -> dict[bytes, bytes | None]:
        names, scores = self._names, self._scores
        changes: dict[bytes, bytes | None] = {}
        for member in self._names_changed:
            score = scores[member]
            changes[names[member]] = None if score is None else pack_score(score)
        return changes

    def _save_pages(self) -> None:
        put_page = self.view.put_page
        for number, page in self._changed.items():
            put_page(self._pages + number.to_bytes(8, "big"), page)
        for number, counts in self._changed_counts.items():
            put_page(self._counts_prefix + number.to_bytes(8, "big"), None if counts is None else (counts,))

    # -- pages -------------------------------------------------------------------------------------------------------

    def _leaf(self, number: int) -> Leaf:
        page: Leaf | None = self._pages_held.get(number)
        if page is None:
            page = self._pages_held[number] = super()._leaf(number)
        return page

    def _shape(self, number: int) -> Shape:
        page: Shape | None = self._pages_held.get(number)
        if page is None:
            page = self._pages_held[number] = super()._shape(number)
        return page

    def _counts(self, number: int) -> list[int]:
        counts = self._counts_held.get(number)
        if counts is None:
            counts = self._counts_held[number] = super()._counts(number)
        return counts

    def _put_leaf(self, number: int, leaf: Leaf) -> None:
        self._pages_held[number] = self._changed[number] = leaf

    def _put_counts(self, number: int, counts: list[int]) -> None:
        self._counts_held[number] = self._changed_counts[number] = counts

    def _put_inner(self, number: int, page: Inner) -> None:
        self._pages_held[number] = self._changed[number] = page[:2]
        self._put_counts(number, page[2])

    def _drop(self, number: int, height: int) -> None:
        self._pages_held.pop(number, None)
        self._changed[number] = None
        if height:
            self._counts_held.pop(number, None)
            self._changed_counts[number] = None

    def _own_leaf(self, number: int) -> Leaf:
        """Return a leaf to make changes in."""
        leaf: Leaf | None = self._changed.get(number)
        if leaf is None:
            scores, members = self._leaf(number)
            leaf = (scores.copy(), members.copy())
            self._put_leaf(number, leaf)
        return leaf

    def _own_counts(self, number: int) -> list[int]:
        """Return the counts of an inner page to make changes in."""
        counts = self._changed_counts.get(number)
        if counts is None:
            counts = self._counts(number).copy()
            self._put_counts(number, counts)
        return counts

    # -- changing ----------------------------------------------------------------------------------------------------

    def _insert(self, score: float, member: bytes) -> None:
        path, number = self._path(sort_key(score, member))
        if len(self._leaf(number)[1]) >= LEAF_MAX or len(member) > LONG_BYTES:
            super()._insert(score, member)  # it may have to be split
            return
        scores, members = self._own_leaf(number)
        place = leaf_place(scores, members, score, member)
        scores.insert(place, score)
        members.insert(place, member)
        for number, child in path:
            self._own_counts(number)[child] += 1

    def _remove(self, score: float, member: bytes) -> None:
        path, number = self._path(sort_key(score, member))
        scores, members = self._own_leaf(number)
        place = self._found(scores, members, score, member)
        del scores[place], members[place]
        entries = len(members)
        for height, (number, child) in enumerate(reversed(path)):
            counts = self._own_counts(number)
            counts[child] -= 1
            entries = self._tidy(number, counts, child, height) if few(entries, height) else len(counts)
        self._lower_root()
