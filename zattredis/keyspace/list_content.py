"""One list, read and changed: packed rows at both ends within the record, chunks under a counted tree between them.

A push or pop changes the record alone, until the row at its end is full or empty: then half a row goes to the chunk
beside it, or comes from there, so that this happens once in many pushes and pops, whatever their order. A large element
is never part of a row at an end. How a list is laid out depends on the elements pushed and popped in their order, not
on how many came with one command.

A list is inline until a push does not fit into its one row, and separate from then on. The collection id is the number
that is also the version of the change that made it.

The record's layout is in `list_ends`, rows are in `packed`, chunks and tree in `quicklist`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from zattredis.errors import StateDamaged, WrongType
from zattredis.keyspace.list_ends import ELEMENT_BYTES, INLINE, ROOT_AT, ROW_AT, ROW_BYTES, SEPARATED
from zattredis.keyspace.metadata import HEADER_BYTES, LIST, SEPARATE, TYPE_MASK, VOLATILE, expire_of, pack_header
from zattredis.keyspace.packed import EMPTY, Piece, frame_of, pack_frames
from zattredis.keyspace.quicklist import Tree, encode_root, find_element
from zattredis.keyspace.view import View


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
        self._root = b""
        self.expire_ms = 0
        if record is None:
            return
        kind = record[0]
        if kind & TYPE_MASK != LIST:
            raise WrongType
        if kind & VOLATILE:
            self.expire_ms = expire_of(record)
        if not kind & SEPARATE:
            _, self.size = INLINE.unpack_from(record, HEADER_BYTES)
            at = ROW_AT + (self.size << 2)
            self.tail = Piece(record[ROW_AT:at], record[at:])
            return
        (
            self.collection_id, self.size, _, self._height, root_bytes, self._next_number, head_count, head_bytes,
            tail_count, tail_bytes,
        ) = SEPARATED.unpack_from(record, HEADER_BYTES)  # fmt: skip
        at = ROOT_AT + root_bytes
        self._root = record[ROOT_AT:at]
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
        """Return the element at `index`, within 0..size-1, of a list not changed since it was read."""
        if index < self.head.count:
            return self.head.element(index)
        tail_at = self.size - self.tail.count
        if index >= tail_at:
            return self.tail.element(index - tail_at)
        return find_element(self.view, self.collection_id, self._height, self._root, index - self.head.count)

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
        taken = self.together(start, start + count)
        self.drop(count, left)
        return taken

    def together(self, start: int, stop: int) -> Piece:
        """Return the elements start <= n < stop, within 0..size, as one row."""
        rows = [piece for _, piece in self.rows(start, stop)]
        return Piece(b"".join([piece.lengths for piece in rows]), b"".join([piece.frames for piece in rows]))

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
            return b"".join((header, INLINE.pack(0, self.size), tail.lengths, tail.frames))
        tree = self._tree
        if tree is not None:
            tree.save()
            self._height, self._next_number, self._root = tree.height, tree.next_number, encode_root(tree.root)
        header = pack_header(kind | SEPARATE, self.expire_ms, self.version, touched_s)
        facts = SEPARATED.pack(
            self.collection_id, self.size, 1, self._height, len(self._root), self._next_number, head.count,
            len(head.frames), tail.count, len(tail.frames),
        )  # fmt: skip
        return b"".join((header, facts, self._root, head.lengths, head.frames, tail.lengths, tail.frames))
