"""Ordered reading of a state database, live or frozen.

A RocksDB iterator shows the point in time at which it was opened, but a rocksdict `Snapshot` gives that point only to
single reads (its own iterators show live data). So a frozen reader opens one iterator and one snapshot at once, and
all its iterations share that iterator: each seeks again when another one has moved it.

An iteration reads ahead in growing chunks: nothing it shows can change, and between chunks it holds nothing by which a
store could not be closed.
"""

from __future__ import annotations

from collections.abc import Iterator
from types import TracebackType
from typing import Final

from rocksdict import RdictIter, Snapshot

from zattredis.errors import StateDamaged, StorageFailed
from zattredis.storage.rocks import SNAPSHOT_KEY_MISSING, translate

_CHUNK_PAIRS_FIRST: Final = 8
_CHUNK_PAIRS_MAX: Final = 512
_CHUNK_BYTES_MAX: Final = 256 * 1024


class Point:
    """One point in time of a state database: an iterator, for a frozen reader also a snapshot. Keeps RocksDB open."""

    __slots__ = ("__weakref__", "holders", "iterator", "path", "snapshot", "user")

    def __init__(self, path: str, iterator: RdictIter, snapshot: Snapshot | None) -> None:
        self.path = path
        self.iterator: RdictIter | None = iterator
        self.snapshot = snapshot
        self.user: Cursor | None = None
        self.holders = 0

    def release(self) -> None:
        """Let go of RocksDB; reading afterwards raises. Harmless when repeated."""
        self.iterator = None
        self.snapshot = None
        self.user = None


class Cursor:
    """One iteration over lower <= key < upper at a point, forwards or backwards."""

    __slots__ = ("_last", "_lower", "_point", "_private", "_reverse", "_upper")

    def __init__(self, point: Point, lower: bytes, upper: bytes | None, reverse: bool, *, private: bool) -> None:
        self._point = point
        self._lower = lower
        self._upper = upper
        self._reverse = reverse
        self._private = private
        self._last: bytes | None = None

    def read(self, pairs_max: int) -> list[tuple[bytes, bytes]]:
        """Return the next pairs, none at the end. Raises StateDamaged or StorageFailed, never ends early instead."""
        point = self._point
        if point.iterator is None:
            raise StorageFailed(f"the state in {point.path} is closed, and so is this reader")
        if point.user is not self:
            self._seek(point.iterator)
            point.user = self
        found = self._collect(point.iterator, pairs_max)
        if found:
            self._last = found[-1][0]
        else:
            try:
                # Damage and refused reads end an iteration like the end of the data; only the status tells.
                point.iterator.status()
            except Exception as error:
                raise translate(error, "reading the state in", point.path, StateDamaged) from error
        return found

    def end(self) -> None:
        """No more is read. Harmless when repeated."""
        if self._private:
            self._point.release()
        elif self._point.user is self:
            self._point.user = None

    def _seek(self, iterator: RdictIter) -> None:
        last = self._last
        if self._reverse:
            start = self._upper if last is None else last
            if start is None:
                iterator.seek_to_last()
                return
            iterator.seek_for_prev(start)
            if iterator.key() == start:
                iterator.prev()
            return
        iterator.seek(self._lower if last is None else last)
        if last is not None and iterator.key() == last:
            iterator.next()

    def _collect(self, iterator: RdictIter, pairs_max: int) -> list[tuple[bytes, bytes]]:
        found: list[tuple[bytes, bytes]] = []
        key_of, value_of = iterator.key, iterator.value
        move = iterator.prev if self._reverse else iterator.next
        lower, upper, reverse = self._lower, self._upper, self._reverse
        size = 0
        while len(found) < pairs_max and size < _CHUNK_BYTES_MAX:
            key = key_of()
            if key is None or (key < lower if reverse else upper is not None and key >= upper):
                break
            value = value_of()
            size += len(key) + len(value)
            found.append((key, value))
            move()
        return found


def pairs(cursor: Cursor) -> Iterator[tuple[bytes, bytes]]:
    """Yield what `cursor` reads, in growing chunks. Lets go of what only this iteration needs where it ends, also when
    that is in the middle: cursor and point hold each other, and an iterator that waits for the collector of cycles
    keeps whole memtables in memory."""
    count = _CHUNK_PAIRS_FIRST
    try:
        while chunk := cursor.read(count):
            yield from chunk
            count = min(count * 4, _CHUNK_PAIRS_MAX)
    finally:
        cursor.end()


class FrozenState:
    """The state at one point in time, until it is closed; implements `keyspace.reader.FrozenReader`.

    It keeps RocksDB from reclaiming what was overwritten since, so close it soon. Not for several threads at once.
    """

    __slots__ = ("_closed", "_point")

    def __init__(self, point: Point) -> None:
        """Become one more holder of `point`, which the last one to close releases."""
        point.holders += 1
        self._point = point
        self._closed = False

    def get(self, key: bytes) -> bytes | None:
        """Return the value of `key`, or None. Raises StateDamaged or StorageFailed."""
        try:
            value: bytes = self._snapshot()[key]
        except StorageFailed:
            raise
        except Exception as error:
            if str(error) == SNAPSHOT_KEY_MISSING:
                return None
            raise translate(error, "reading the state in", self._point.path, StateDamaged) from error
        return value

    def multi_get(self, keys: list[bytes]) -> list[bytes | None]:
        """Return one value or None for each of `keys`, in their order."""
        get = self.get
        return [get(key) for key in keys]

    def iterate(self, lower: bytes, upper: bytes | None, reverse: bool = False) -> Iterator[tuple[bytes, bytes]]:
        """Yield (key, value) for lower <= key < upper, descending when `reverse`. Several may be under way at once."""
        self._snapshot()
        return pairs(Cursor(self._point, lower, upper, reverse, private=False))

    def frozen(self) -> FrozenState:
        """Return another reader of the same point in time, to be closed on its own."""
        self._snapshot()
        return FrozenState(self._point)

    def close(self) -> None:
        """Let go of this point in time; reading afterwards raises StorageFailed. Harmless when repeated."""
        if self._closed:
            return
        self._closed = True
        self._point.holders -= 1
        if self._point.holders == 0:
            self._point.release()

    def __enter__(self) -> FrozenState:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _snapshot(self) -> Snapshot:
        snapshot = self._point.snapshot
        if self._closed or snapshot is None:
            raise StorageFailed(f"the state in {self._point.path} is closed, and so is this reader")
        return snapshot
