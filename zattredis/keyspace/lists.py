"""Lists: packed rows at both ends within the record, chunks under a counted tree between them.

```
inline:    form 0(1) | elements(2) | row
separate:  id(8) size(8) | form 1(1) height(1) root bytes(2) next number(8) | elements and frame bytes of the head row
           (2 + 2) and of the tail row (2 + 2) | root | head row | tail row
```

A push or pop changes the record alone, until the row at its end is full or empty: then half a row goes to the chunk
beside it, or comes from there, so that this happens once in many pushes and pops, whatever their order. A large element
is never part of a row at an end. How a list is laid out depends on the elements pushed and popped in their order, not
on how many came with one command.

A list is inline until a push does not fit into its one row, and separate from then on. The collection id is the number
that is also the version of the change that made it.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Final

from zattredis.errors import StateDamaged, WrongType
from zattredis.keyspace.metadata import (
    HEADER_BYTES,
    LIST,
    SEPARATE,
    TYPE_MASK,
    VOLATILE,
    expire_of,
    pack_header,
    size_of,
)
from zattredis.keyspace.packed import EMPTY, Piece, element_of, frame_of, pack_frames
from zattredis.keyspace.quicklist import Tree
from zattredis.keyspace.view import View

ROW_BYTES: Final = 2048
"""Most bytes of a row in the record."""
ELEMENT_BYTES: Final = 1024
"""Most bytes that an element may take up in such a row; larger ones go to the chunks at once."""
_NO_ROOT: Final = b""
_INLINE: Final = struct.Struct(">BH")
_SEPARATE: Final = struct.Struct(">QQBBHQHHHH")
_ROW_AT: Final = HEADER_BYTES + _INLINE.size
_ROOT_AT: Final = HEADER_BYTES + _SEPARATE.size
_BULK: Final = 512


def check_list(record: bytes) -> None:
    """Raise WrongType unless the record is a list's."""
    if record[0] & TYPE_MASK != LIST:
        raise WrongType


class QuickList:
    """One list while a command reads or changes it. `save` puts what it became; only one may be in use for a key."""

    __slots__ = (
        "_height", "_next_number", "_root", "_tree", "collection_id", "expire_ms", "head", "size", "tail", "version",
        "view",
    )  # fmt: skip

    def __init__(self, view: View, record: bytes | None = None) -> None:
        self.view = view
        self.collection_id = 0
        self.version = 0
        """Of the change under way; see `begin`."""
        self.head = self.tail = EMPTY
        self.size = 0
        self._tree: Tree | None = None
        self._height = self._next_number = 0
        self._root = _NO_ROOT
        self.expire_ms = 0
        if record is None:
            return
        kind = record[0]
        if kind & TYPE_MASK != LIST:
            raise WrongType
        if kind & VOLATILE:
            self.expire_ms = expire_of(record)
        if not kind & SEPARATE:
            _, self.size = _INLINE.unpack_from(record, HEADER_BYTES)
            at = _ROW_AT + (self.size << 2)
            self.tail = Piece(record[_ROW_AT:at], record[at:])
            return
        (
            self.collection_id, self.size, _, self._height, root_bytes, self._next_number, head_count, head_bytes,
            tail_count, tail_bytes,
        ) = _SEPARATE.unpack_from(record, HEADER_BYTES)  # fmt: skip
        at = _ROOT_AT + root_bytes
        self._root = record[_ROOT_AT:at]
        frames = at + (head_count << 2)
        end = frames + head_bytes
        self.head = Piece(record[at:frames], record[frames:end])
        frames = end + (tail_count << 2)
        self.tail = Piece(record[end:frames], record[frames:])
        if len(record) != frames + tail_bytes:
            raise StateDamaged("the record of a list is of another length than it says")

    @property
    def tree(self) -> Tree:
        """The chunks between head and tail row; of a separate list only."""
        tree = self._tree
        if tree is None:
            tree = Tree(self.view, self.collection_id, self._height, self._next_number, self._root)
            self._tree = tree
        return tree

    @property
    def between(self) -> int:
        """How many elements are in the chunks."""
        return self.size - self.head.count - self.tail.count

    # -- reading -----------------------------------------------------------------------------------------------------

    def rows(self, start: int, stop: int, reverse: bool = False) -> Iterator[tuple[int, Piece]]:
        """Yield (index of its first element, row) of all elements start <= n < stop, row by row, from the end if told.

        Within 0..size. Nothing may be changed meanwhile.
        """
        head, between = self.head.count, self.between
        begin = head + between
        parts: list[Iterator[tuple[int, Piece]]] = []
        if start < head:
            parts.append(iter(((0, self.head),)))
        if between and start < begin and stop > head:
            chunks = self.tree.chunks(max(start - head, 0), min(stop, begin) - head, reverse)
            parts.append((first + head, piece) for first, piece in chunks)
        if stop > begin:
            parts.append(iter(((begin, self.tail),)))
        for part in reversed(parts) if reverse else parts:
            for first, piece in part:
                low, high = max(start - first, 0), min(stop - first, piece.count)
                yield first + low, piece.part(low, high)

    def element(self, index: int) -> bytes:
        """Return the element at `index`, within 0..size-1."""
        return next(element_of(row.frames) for _, row in self.rows(index, index + 1))

    # -- pushing and popping -----------------------------------------------------------------------------------------

    def begin(self) -> None:
        """Begin a change: it takes the next version."""
        self.version = self.view.next_id()

    def push(self, elements: Sequence[bytes], left: bool) -> None:
        """Push one element after the other at an end."""
        frames = [b"$%d\r\n%b\r\n" % (len(element), element) for element in elements]
        at, end = 0, len(frames)
        while at < end:
            at = self._take_in(frames, at, left)
            if at < end:
                large = len(frames[at]) + 4 > ELEMENT_BYTES
                self._make_room(left, large)
                if large:
                    self.tree.append(pack_frames(frames[at : at + 1]), left)
                    self.size += 1
                    at += 1

    def _take_in(self, frames: list[bytes], at: int, left: bool) -> int:
        """Put frames from `at` on into the row at an end, as far as they fit; return the position reached."""
        on_head = left and self.collection_id != 0
        row = self.head if on_head else self.tail
        room = ROW_BYTES - len(row.lengths) - len(row.frames)
        stop, end = at, len(frames)
        while stop < end:
            cost = len(frames[stop]) + 4
            if cost > room or cost > ELEMENT_BYTES:
                break
            room -= cost
            stop += 1
        if stop == at:
            return at
        self.size += stop - at
        taken = frames[at:stop]
        if left:
            taken.reverse()
        piece = pack_frames(taken)
        row = piece + row if left else row + piece
        if on_head:
            self.head = row
        else:
            self.tail = row
        return stop

    def _make_room(self, left: bool, all_of_it: bool) -> None:
        """What comes does not fit into the row at an end: move its inner half, or all of it, into the chunks.

        From now on the list is separate.
        """
        if not self.collection_id:
            self.collection_id = self.version
            if left:
                self.head, self.tail = self.tail, EMPTY
        row = self.head if left else self.tail
        excess = row.cost if all_of_it else row.cost - (ROW_BYTES >> 1)
        if excess <= 0:
            return
        sizes = row.sizes()
        moved = 0
        for size in reversed(sizes) if left else sizes:
            if excess <= 0:
                break
            excess -= size + 4
            moved += 1
        outer, inner = row.cut(len(sizes) - moved) if left else row.cut(moved)[::-1]
        self.tree.append(inner, left)
        if left:
            self.head = outer
        else:
            self.tail = outer

    def pop(self, count: int, left: bool) -> Piece:
        """Take up to `count` elements off an end; return them in list order (the last popped first for the right)."""
        count = min(count, self.size)
        row = self._row_to_pop(left)
        if count <= row.count:
            if left:
                taken, rest = row.cut(count)
            else:
                rest, taken = row.cut(row.count - count)
            if row is self.head:
                self.head = rest
            else:
                self.tail = rest
            self.size -= count
            return taken
        start = 0 if left else self.size - count
        rows = [piece for _, piece in self.rows(start, start + count)]
        taken = Piece(b"".join([piece.lengths for piece in rows]), b"".join([piece.frames for piece in rows]))
        if count < self.size:
            self.drop(count, left)
        else:
            self.size = 0  # the key goes, and all content with it
        return taken

    def _row_to_pop(self, left: bool) -> Piece:
        """Return the row in the record that holds the elements at an end, filled from the chunks if it was empty."""
        row, other = (self.head, self.tail) if left else (self.tail, self.head)
        if row.lengths:
            return row
        if other.count == self.size:
            return other
        chunk = self.tree.edge(left)
        sizes = chunk.sizes()
        taken, room = 0, ROW_BYTES >> 1
        for size in sizes if left else reversed(sizes):
            room -= size + 4
            if room < 0:
                break
            taken += 1
        if taken:
            row, rest = chunk.cut(taken) if left else chunk.cut(len(sizes) - taken)[::-1]
            self.tree.set_edge(rest, left)
            if left:
                self.head = row
            else:
                self.tail = row
        return row

    def drop(self, count: int, left: bool) -> None:
        """Remove `count` elements at an end, within 0..size; chunks in between are not read."""
        row, other = (self.head, self.tail) if left else (self.tail, self.head)
        have, between, kept = row.count, self.between, self.size - count
        self.size = kept
        if count < have:
            row = row.part(count, have) if left else row.part(0, have - count)
        else:
            row = EMPTY
            count -= have
            if count < between:
                if count:
                    self.tree.drop(count, left)
            else:
                if between:
                    self.tree.drop(between, left)
                other = other.part(count - between, other.count) if left else other.part(0, kept)
        self.head, self.tail = (row, other) if left else (other, row)

    # -- changing anywhere -------------------------------------------------------------------------------------------

    def set_element(self, index: int, element: bytes) -> None:
        """Replace the element at `index`, within 0..size-1."""
        self._edit(index, 1, frame_of(element))

    def insert(self, index: int, element: bytes) -> None:
        """Insert an element before the one at `index`; at 0 and at size it is pushed."""
        if index in (0, self.size):
            self.push([element], index == 0)
        else:
            self._edit(index, 0, frame_of(element))

    def _edit(self, index: int, removed: int, frame: bytes) -> None:
        piece = pack_frames([frame])
        head = self.head.count
        tail_at = self.size - self.tail.count
        self.size += 1 - removed
        if head <= index < tail_at:
            self.tree.edit(index - head, removed, piece)
            return
        left = index < head
        if left:
            self.head = row = self.head.replaced(index, index + removed, piece)
        else:
            index -= tail_at
            self.tail = row = self.tail.replaced(index, index + removed, piece)
        large = len(frame) + 4 > ELEMENT_BYTES
        if large or row.cost > ROW_BYTES:
            self._make_room(left, large)

    def remove(self, element: bytes, limit: int, reverse: bool) -> int:
        """Remove up to `limit` elements equal to this one, from the head on, or from the tail; return how many."""
        frame = frame_of(element)
        removed = 0
        between = self.between
        for part in (2, 1, 0) if reverse else (0, 1, 2):
            if removed == limit:
                break
            if part == 1:
                if between:
                    removed += self.tree.remove(frame, limit - removed, reverse)
                continue
            row = self.head if part == 0 else self.tail
            found = row.find(frame)
            if not found:
                continue
            room = limit - removed
            found = found[-room:] if reverse else found[:room]
            removed += len(found)
            row = row.without(found)
            if part == 0:
                self.head = row
            else:
                self.tail = row
        self.size -= removed
        return removed

    def copy_content(self) -> None:
        """Give a list that was just read content of its own, in place of what it shares with its record."""
        if self.collection_id:
            if self.between:
                self.tree.copy_to(self.version)
                self._tree = None
            self.collection_id = self.version

    # -- the record --------------------------------------------------------------------------------------------------

    def save(self, db: int, key: bytes, touched_s: int) -> None:
        """Make the key this list, with the version begun last; delete the key if the list is empty."""
        if not self.size:
            self.view.put(db, key, None)
            return
        self.view.put(db, key, self.record(touched_s))

    def record(self, touched_s: int) -> bytes:
        """Return the record, the nodes of the tree written."""
        kind = LIST | VOLATILE if self.expire_ms else LIST
        head, tail = self.head, self.tail
        if not self.collection_id:
            header = pack_header(kind, self.expire_ms, self.version, touched_s)
            return b"".join((header, _INLINE.pack(0, self.size), tail.lengths, tail.frames))
        tree = self._tree
        if tree is not None:
            tree.save()
            self._height, self._next_number, self._root = tree.height, tree.next_number, tree.root.encode()
        header = pack_header(kind | SEPARATE, self.expire_ms, self.version, touched_s)
        facts = _SEPARATE.pack(
            self.collection_id, self.size, 1, self._height, len(self._root), self._next_number, head.count,
            len(head.frames), tail.count, len(tail.frames),
        )  # fmt: skip
        return b"".join((header, facts, self._root, head.lengths, head.frames, tail.lengths, tail.frames))


# -- what others need of lists -----------------------------------------------------------------------------------------


def list_length(record: bytes) -> int:
    """Return the number of elements. Raises WrongType."""
    check_list(record)
    if record[0] & SEPARATE:
        return size_of(record)
    return int.from_bytes(record[HEADER_BYTES + 1 : _ROW_AT], "big")


def list_encoding(record: bytes) -> bytes:
    """Return the encoding in Redis's words: 7.0 has one."""
    check_list(record)
    return b"quicklist"


def list_bytes(record: bytes) -> int:
    """Return about how many bytes the list takes up: what is in chunks is reckoned from what is in the record."""
    check_list(record)
    if not record[0] & SEPARATE:
        return len(record)
    facts: tuple[int, ...] = _SEPARATE.unpack_from(record, HEADER_BYTES)
    head_count, head_bytes, tail_count, tail_bytes = facts[-4:]
    known = head_count + tail_count
    mean = (head_bytes + tail_bytes) // known + 4 if known else ELEMENT_BYTES
    return len(record) + (facts[1] - known) * mean


def list_elements(view: View, record: bytes, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
    """Yield the elements start <= n < stop, within 0..length, by default all. Raises WrongType."""
    content = QuickList(view, record)
    for _, row in content.rows(start, content.size if stop is None else stop):
        yield from row.elements()


def put_list(
    view: View, db: int, key: bytes, elements: Iterable[bytes], touched_s: int, expire_ms: int = 0
) -> None:
    """Make the key this list, whatever it was; delete it if there are no elements."""
    content = QuickList(view)
    content.begin()
    content.expire_ms = expire_ms
    waiting = iter(elements)
    while some := list(islice(waiting, _BULK)):
        content.push(some, left=False)
    content.save(db, key, touched_s)


def copy_list(view: View, record: bytes, db: int, key: bytes, expire_ms: int, touched_s: int) -> None:
    """Make the key a copy of the list in `record`, with this expiry. Raises WrongType."""
    content = QuickList(view, record)
    content.begin()
    content.expire_ms = expire_ms
    content.copy_content()
    content.save(db, key, touched_s)


def push(view: View, db: int, key: bytes, elements: Sequence[bytes], left: bool, now_ms: int) -> int:
    """Push elements one after the other at an end of the key's list, made if there is none; return its length.

    Raises WrongType.
    """
    content = QuickList(view, view.record(db, key, now_ms))
    content.begin()
    content.push(elements, left)
    content.save(db, key, now_ms // 1000)
    return content.size


def pop(view: View, db: int, key: bytes, count: int, left: bool, now_ms: int) -> list[bytes]:
    """Take up to `count` elements off an end of the key's list, in the order popped; an emptied key is deleted.

    Returns none, and changes nothing, where there is no list or `count` is 0. Raises WrongType.
    """
    record = view.record(db, key, now_ms)
    if record is None:
        return []
    content = QuickList(view, record)
    if count <= 0:
        return []
    content.begin()
    taken = content.pop(count, left)
    content.save(db, key, now_ms // 1000)
    elements = taken.elements()
    if not left:
        elements.reverse()
    return elements


def move(
    view: View, db: int, source: bytes, destination: bytes, from_left: bool, to_left: bool, now_ms: int
) -> bytes | None:
    """Move the element at one end of `source` to an end of `destination`, which may be the same key; return it.

    Returns None, and changes nothing, where there is no list. Raises WrongType for either.
    """
    record = view.record(db, source, now_ms)
    if record is None:
        return None
    content = QuickList(view, record)
    other = content if source == destination else QuickList(view, view.record(db, destination, now_ms))
    content.begin()
    element = element_of(content.pop(1, from_left).frames)
    if other is not content:
        content.save(db, source, now_ms // 1000)
        other.begin()
    other.push([element], to_left)
    other.save(db, destination, now_ms // 1000)
    return element
