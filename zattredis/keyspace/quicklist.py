"""The chunks of a long list under a counted tree: each element is found by its index in a few reads.

```
s_prefix(id) + b"c" + number(8)  → a chunk: a packed row of elements (see `packed`)
s_prefix(id) + b"d" + number(8)  → a node: a page (see `pages`), its children's numbers and counts of elements
```

The root is a node, too, and lies in the list's record. `height` is how many levels of nodes lie between the root and
the chunks. Numbers are given once in a collection's life, so content that is dropped can wait for its removal while
the list goes on growing.

Invariants: every count is the sum of what lies below and none is 0; chunks are in the list's order; a node has at most
NODE_MAX children, the root ROOT_MAX; a chunk has at most CHUNK_BYTES unless it is one large element.
"""

from __future__ import annotations

import struct
from bisect import bisect_right
from collections.abc import Iterator
from itertools import accumulate, islice
from typing import Final

import msgspec

from zattredis.errors import StateDamaged
from zattredis.keyspace import packed
from zattredis.keyspace.keys import s_prefix
from zattredis.keyspace.packed import Piece
from zattredis.keyspace.pages import Page
from zattredis.keyspace.view import DEAD_NODE, View

CHUNK_BYTES: Final = 4096
"""A chunk is split when it grows beyond this: what a change in the middle of a list rewrites."""
NODE_MAX: Final = 128
"""Children of a node."""
ROOT_MAX: Final = 16
"""Children of the root, which every change of the list writes along with the record."""
_READ_MAX: Final = 32
"""Chunks read with one multi_get."""

_JOINED_MAX: Final = CHUNK_BYTES * 3 // 4
"""Neighbouring chunks that LREM made small become one of at most this."""

_CHUNK: Final = b"c"
_NODE: Final = b"d"
_DEATH: Final = struct.Struct(">cQBQ")
_decode: Final = msgspec.msgpack.Decoder(tuple[list[int], list[int]]).decode


class Node:
    """Children in order: their numbers and their counts of elements."""

    __slots__ = ("counts", "numbers")

    def __init__(self, numbers: list[int], counts: list[int]) -> None:
        self.numbers = numbers
        self.counts = counts


def encode_root(node: Node) -> bytes:
    """Return the root as the record holds it: numbers(8 each), then counts(8 each)."""
    return struct.pack(f">{len(node.numbers) * 2}Q", *node.numbers, *node.counts)


def decode_root(stored: bytes) -> Node:
    """Return the root. Raises StateDamaged."""
    size, odd = divmod(len(stored), 16)
    if odd:
        raise StateDamaged("the root of a list is of another form")
    values = struct.unpack(f">{size * 2}Q", stored)
    return Node(list(values[:size]), list(values[size:]))


def decode_node(stored: bytes) -> Page:
    """Return a stored node as (numbers, counts), which nobody changes. Raises StateDamaged."""
    try:
        page = _decode(stored)
    except msgspec.MsgspecError as error:
        raise StateDamaged(f"a node of a list cannot be read: {error}") from error
    if len(page[0]) != len(page[1]):
        raise StateDamaged("a node of a list has not as many counts as children")
    return page


def find_element(view: View, collection_id: int, height: int, root: bytes, index: int) -> bytes:
    """Return the element at `index` of the tree below a root's stored form."""
    prefix = s_prefix(collection_id)
    node = decode_root(root)
    numbers, counts = node.numbers, node.counts
    for level in range(height, -1, -1):
        ends = list(accumulate(counts))
        place = bisect_right(ends, index)
        count = counts[place]
        index -= ends[place] - count
        name = prefix + (_NODE if level else _CHUNK) + numbers[place].to_bytes(8, "big")
        if level:
            numbers, counts = view.get_page(name, decode_node)
    chunk = view.get_raw(name)
    if chunk is None:
        raise StateDamaged(f"a chunk of list {collection_id} is missing")
    return packed.unpack(chunk, count).element(index)


_Path = list[tuple[Node, int]]
"""From the root down: a node and which of its children."""


class Tree:
    """The chunks of one list. Changes of chunks are written at once, those of nodes by `save`."""

    __slots__ = ("_changed", "_nodes", "_prefix", "_view", "collection_id", "height", "next_number", "root")

    def __init__(self, view: View, collection_id: int, height: int, next_number: int, root: bytes) -> None:
        self._view = view
        self._prefix = s_prefix(collection_id)
        self._nodes: dict[int, Node] = {}
        self._changed: dict[int, None] = {}
        self.collection_id = collection_id
        self.height = height
        self.next_number = next_number
        self.root = decode_root(root)

    def save(self) -> None:
        """Write the nodes that have changed; the root is the caller's."""
        for number in self._changed:
            self._put_node(number)
        self._changed.clear()
        self._nodes.clear()  # what is in pages is not changed any more

    # -- reading -----------------------------------------------------------------------------------------------------

    def chunks(self, start: int, stop: int, reverse: bool = False) -> Iterator[tuple[int, Piece]]:
        """Yield (index of its first element, chunk) of every chunk that holds an element of start <= n < stop.

        Nothing may be changed meanwhile. Some chunks are read ahead, ever more the further it goes.
        """
        spans = self._spans(self.root.numbers, self.root.counts, self.height, 0, start, stop, reverse)
        ahead = 4
        while batch := list(islice(spans, ahead)):
            found = self._view.multi_get_raw([self._name(_CHUNK, number) for _, number, _ in batch])
            for (first, number, count), stored in zip(batch, found, strict=True):
                yield first, self._unpacked(number, count, stored)
            ahead = min(ahead * 2, _READ_MAX)

    def _spans(
        self, numbers: list[int], counts: list[int], height: int, first: int, start: int, stop: int, reverse: bool
    ) -> Iterator[tuple[int, int, int]]:
        """Yield (index of the first element, number, count) of chunks below a node, whose own first index is given."""
        firsts = list(accumulate(counts, initial=first))
        low = bisect_right(firsts, start) - 1 if start > first else 0
        places: range = range(low, len(numbers))
        for place in reversed(places) if reverse else places:
            first, count = firsts[place], counts[place]
            if first >= stop:
                if reverse:
                    continue
                return
            number = numbers[place]
            if height:
                below = self._nodes.get(number)
                page = (below.numbers, below.counts) if below is not None else self._page(number)
                yield from self._spans(page[0], page[1], height - 1, first, start, stop, reverse)
            else:
                yield first, number, count

    def edge(self, left: bool) -> Piece:
        """Return the first or the last chunk; there is one."""
        path = self._edge_path(left)
        return self._chunk(*path[-1])

    # -- changing ----------------------------------------------------------------------------------------------------

    def append(self, piece: Piece, left: bool) -> None:
        """Put a row before the first or behind the last element; a chunk at that end takes it in if it has room."""
        if not self.root.numbers:
            items = [self._new_chunk(part) for part in piece.split(CHUNK_BYTES)]
            self._replace([(self.root, 0)], items, insert=True)
            return
        path = self._edge_path(left)
        node, place = path[-1]
        if piece.cost < CHUNK_BYTES - packed.FRAME_BYTES_MIN:
            chunk = self._chunk(node, place)
            if chunk.cost + piece.cost <= CHUNK_BYTES:
                self._put_chunk(node.numbers[place], piece + chunk if left else chunk + piece)
                self._replace(path, [(node.numbers[place], chunk.count + piece.count)])
                return
        items = [self._new_chunk(part) for part in piece.split(CHUNK_BYTES)]
        path[-1] = (node, place if left else place + 1)
        self._replace(path, items, insert=True)

    def set_edge(self, piece: Piece, left: bool) -> None:
        """Make the first or the last chunk this row, or remove it if the row is empty."""
        path = self._edge_path(left)
        node, place = path[-1]
        number = node.numbers[place]
        if piece.lengths:
            self._put_chunk(number, piece)
            self._replace(path, [(number, piece.count)])
        else:
            self._view.put_raw(self._name(_CHUNK, number), None)
            self._replace(path, [])

    def edit(self, index: int, removed: int, piece: Piece) -> None:
        """Put `piece` in place of `removed` (0 or 1) elements at `index`, an element of the tree."""
        path: _Path = []
        node = self.root
        for height in range(self.height, -1, -1):
            ends = list(accumulate(node.counts))
            place = bisect_right(ends, index)
            index -= ends[place - 1] if place else 0
            path.append((node, place))
            if height:
                node = self._node(node.numbers[place])
        node, place = path[-1]
        parts = self._chunk(node, place).replaced(index, index + removed, piece).split(CHUNK_BYTES)
        number = node.numbers[place]
        self._put_chunk(number, parts[0])
        if len(parts) > 1 or not removed:
            self._replace(path, [(number, parts[0].count), *map(self._new_chunk, parts[1:])])

    def drop(self, count: int, left: bool) -> None:
        """Remove `count` elements at one end: whole chunks are not read, whole nodes left to maintenance."""
        self._drop(self.root, self.height, count, left)
        self._settle_root()

    def remove(self, frame: bytes, limit: int, reverse: bool) -> int:
        """Remove up to `limit` elements of this frame, the first ones, or the last ones; return how many."""
        removed = self._remove(self.root, self.height, frame, limit, reverse)
        self._settle_root()
        return removed

    def copy_to(self, collection_id: int) -> None:
        """Write all chunks and nodes, which are saved, under another collection id, too."""
        prefix = s_prefix(collection_id)
        numbers = self.root.numbers
        for _ in range(self.height):
            below: list[int] = []
            for number in numbers:
                page = self._page(number)
                self._view.put_page(prefix + _NODE + number.to_bytes(8, "big"), page)
                below += page[0]
            numbers = below
        for start in range(0, len(numbers), _READ_MAX):
            names = [_CHUNK + number.to_bytes(8, "big") for number in numbers[start : start + _READ_MAX]]
            found = self._view.multi_get_raw([self._prefix + name for name in names])
            for name, stored in zip(names, found, strict=True):
                if stored is None:
                    raise StateDamaged(f"a chunk of list {self.collection_id} is missing")
                self._view.put_raw(prefix + name, stored)

    # -- within ------------------------------------------------------------------------------------------------------

    def _name(self, section: bytes, number: int) -> bytes:
        return self._prefix + section + number.to_bytes(8, "big")

    def _node(self, number: int) -> Node:
        node = self._nodes.get(number)
        if node is None:
            numbers, counts = self._page(number)
            node = self._nodes[number] = Node(list(numbers), list(counts))
        return node

    def _page(self, number: int) -> Page:
        return self._view.get_page(self._name(_NODE, number), decode_node)

    def _put_node(self, number: int) -> None:
        node = self._nodes[number]
        self._view.put_page(self._name(_NODE, number), (node.numbers, node.counts))

    def _chunk(self, node: Node, place: int) -> Piece:
        number = node.numbers[place]
        return self._unpacked(number, node.counts[place], self._view.get_raw(self._name(_CHUNK, number)))

    def _unpacked(self, number: int, count: int, stored: bytes | None) -> Piece:
        if stored is None:
            raise StateDamaged(f"chunk {number} of list {self.collection_id} is missing")
        return packed.unpack(stored, count)

    def _put_chunk(self, number: int, piece: Piece) -> None:
        self._view.put_raw(self._name(_CHUNK, number), piece.lengths + piece.frames)

    def _new_chunk(self, piece: Piece) -> tuple[int, int]:
        number = self._new_number()
        self._put_chunk(number, piece)
        return number, piece.count

    def _new_number(self) -> int:
        self.next_number += 1
        return self.next_number - 1

    def _new_node(self, numbers: list[int], counts: list[int]) -> int:
        number = self._new_number()
        self._nodes[number] = Node(numbers, counts)
        self._changed[number] = None
        return number

    def _delete_node(self, number: int) -> None:
        del self._nodes[number]
        self._changed.pop(number, None)
        self._view.put_page(self._name(_NODE, number), None)

    def _edge_path(self, left: bool) -> _Path:
        path: _Path = []
        node = self.root
        for height in range(self.height, -1, -1):
            place = 0 if left else len(node.numbers) - 1
            path.append((node, place))
            if height:
                node = self._node(node.numbers[place])
        return path

    def _replace(self, path: _Path, items: list[tuple[int, int]], insert: bool = False) -> None:
        """Replace the child that `path` leads to, or insert before it; counts and sizes above follow."""
        for depth in range(len(path) - 1, -1, -1):
            node, place = path[depth]
            stop = place if insert else place + 1
            node.numbers[place:stop] = [number for number, _ in items]
            node.counts[place:stop] = [count for _, count in items]
            insert = False
            if not depth:
                break
            parent, above = path[depth - 1]
            number = parent.numbers[above]
            self._changed[number] = None
            if not node.numbers:
                self._delete_node(number)
                items = []
            else:
                items = self._within_bound(number, node, place)
        self._settle_root()

    def _within_bound(self, number: int, node: Node, place: int) -> list[tuple[int, int]]:
        """Split a node that has too many children; return the items for its parent.

        A node that grew at an end stays full, so that lists that are only pushed to have full nodes.
        """
        size = len(node.numbers)
        if size <= NODE_MAX:
            return [(number, sum(node.counts))]
        if place >= size - 4:
            at = NODE_MAX
        elif place < 4:
            at = size - NODE_MAX
        else:
            at = size >> 1
        other = self._new_node(node.numbers[at:], node.counts[at:])
        del node.numbers[at:], node.counts[at:]
        return [(number, sum(node.counts)), (other, sum(self._nodes[other].counts))]

    def _settle_root(self) -> None:
        """Keep the root within its bounds: a level more when it has too many children, fewer where one child does."""
        root = self.root
        if len(root.numbers) > ROOT_MAX:
            number = self._new_node(root.numbers, root.counts)
            self.root = Node([number], [sum(root.counts)])
            self.height += 1
            return
        while self.height and len(root.numbers) <= 1:
            if root.numbers:
                child = self._node(root.numbers[0])
                if len(child.numbers) > ROOT_MAX >> 1:
                    return
                self._delete_node(root.numbers[0])
                self.root = root = child
                self.height -= 1
            else:
                self.height = 0

    def _drop(self, node: Node, height: int, count: int, left: bool) -> None:
        while count:
            place = 0 if left else len(node.numbers) - 1
            number, have = node.numbers[place], node.counts[place]
            if have <= count:
                del node.numbers[place], node.counts[place]
                self._kill(number, height)
                count -= have
                continue
            if height:
                self._drop(self._node(number), height - 1, count, left)
                self._changed[number] = None
            else:
                chunk = self._chunk(node, place)
                self._put_chunk(number, chunk.part(count, have) if left else chunk.part(0, have - count))
            node.counts[place] = have - count
            return

    def _kill(self, number: int, height: int) -> None:
        if not height:
            self._view.put_raw(self._name(_CHUNK, number), None)
            return
        if number in self._changed:
            self._put_node(number)
            del self._changed[number]
        self._nodes.pop(number, None)
        self._view.bury(_DEATH.pack(DEAD_NODE, self.collection_id, height - 1, number))

    def _remove(self, node: Node, height: int, frame: bytes, limit: int, reverse: bool) -> int:
        return (self._remove_below if height else self._remove_here)(node, height, frame, limit, reverse)

    def _remove_below(self, node: Node, height: int, frame: bytes, limit: int, reverse: bool) -> int:
        """Do `remove` below a node of nodes; neighbours that have become small are joined."""
        removed = 0
        shrunk: set[int] = set()
        places: range = range(len(node.numbers))
        for place in reversed(places) if reverse else places:
            if removed == limit:
                break
            number = node.numbers[place]
            got = self._remove(self._node(number), height - 1, frame, limit - removed, reverse)
            if got:
                removed += got
                node.counts[place] -= got
                self._changed[number] = None
                shrunk.add(place)
            elif number not in self._changed:
                del self._nodes[number]  # a long list has many
        if shrunk:
            self._join_nodes(node, shrunk)
        return removed

    def _join_nodes(self, node: Node, shrunk: set[int]) -> None:
        numbers, counts = node.numbers, node.counts
        node.numbers, node.counts = [], []
        open_place = -1  # the last child kept, if it may take its neighbour in
        for place, (number, count) in enumerate(zip(numbers, counts, strict=True)):
            child = self._nodes[number] if place in shrunk else None
            if child is not None and not child.numbers:
                self._delete_node(number)
                continue
            if child is not None and open_place >= 0:
                left = self._nodes[node.numbers[-1]]
                if len(left.numbers) + len(child.numbers) <= NODE_MAX >> 1:
                    left.numbers += child.numbers
                    left.counts += child.counts
                    node.counts[-1] += count
                    self._delete_node(number)
                    continue
            node.numbers.append(number)
            node.counts.append(count)
            open_place = place if child is not None else -1

    def _remove_here(self, node: Node, _height: int, frame: bytes, limit: int, reverse: bool) -> int:
        """Do `remove` in the chunks of a node of chunks; neighbours that have become small are joined."""
        removed = 0
        shrunk: set[int] = set()
        small: dict[int, Piece] = {}
        places: range = range(len(node.numbers))
        order = list(reversed(places) if reverse else places)
        for start in range(0, len(order), _READ_MAX):
            batch = order[start : start + _READ_MAX]
            names = [self._name(_CHUNK, node.numbers[place]) for place in batch]
            for place, stored in zip(batch, self._view.multi_get_raw(names), strict=True):
                piece = self._unpacked(node.numbers[place], node.counts[place], stored)
                found = piece.find(frame)
                if found:
                    room = limit - removed
                    found = found[-room:] if reverse else found[:room]
                    removed += len(found)
                    piece = piece.without(found)
                    shrunk.add(place)
                if found or piece.cost <= _JOINED_MAX:
                    small[place] = piece
                if removed == limit:
                    break
            if removed == limit:
                break
        if shrunk:
            self._join_chunks(node, small, shrunk)
        return removed

    def _join_chunks(self, node: Node, read: dict[int, Piece], shrunk: set[int]) -> None:
        """Write the chunks at the places `shrunk`, joined with a neighbour among `read` where both are small."""
        numbers, counts = node.numbers, node.counts
        node.numbers, node.counts = [], []
        last: Piece | None = None
        changed = False  # whether `last` is to be written
        for place, (number, count) in enumerate(zip(numbers, counts, strict=True)):
            piece = read.get(place)
            if place in shrunk and piece is not None and not piece.lengths:
                self._view.put_raw(self._name(_CHUNK, number), None)
                continue
            touched = changed or place in shrunk
            if piece is not None and last is not None and touched and last.cost + piece.cost <= _JOINED_MAX:
                last = last + piece
                changed = True
                node.counts[-1] = last.count
                self._view.put_raw(self._name(_CHUNK, number), None)
                continue
            if last is not None and changed:
                self._put_chunk(node.numbers[-1], last)
            last, changed = piece, place in shrunk
            node.numbers.append(number)
            node.counts.append(count if piece is None else piece.count)
        if last is not None and changed:
            self._put_chunk(node.numbers[-1], last)


def reclaim_node(view: View, death: bytes) -> int:
    """Carry out the death of a node: remove it and its chunks, or let the nodes below it die; return the steps."""
    _, collection_id, height, number = _DEATH.unpack(death)
    prefix = s_prefix(collection_id)
    name = prefix + _NODE + number.to_bytes(8, "big")
    if view.get_raw(name) is None:  # the whole list was reclaimed meanwhile
        return 1
    numbers = view.get_page(name, decode_node)[0]
    for child in numbers:
        if height:
            view.bury(_DEATH.pack(DEAD_NODE, collection_id, height - 1, child))
        else:
            view.put_raw(prefix + _CHUNK + child.to_bytes(8, "big"), None)
    view.put_page(name, None)
    return len(numbers) + 1
