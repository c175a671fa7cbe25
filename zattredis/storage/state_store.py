"""The keyspace on disk: ordered bytes → bytes in one RocksDB without a WAL; implements `keyspace.reader.Reader`.

The Raft log is this database's log. Every write is one WriteBatch in one column family that carries the applied record
along, so whatever RocksDB has flushed when the power goes is a consistent prefix, from which a start replays. Hence the
log may be cut only behind what `flush` returns.
"""

from __future__ import annotations

import shutil
import struct
import threading
import weakref
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from rocksdict import Cache, Checkpoint, Rdict, ReadOptions, WriteBatch

from zattredis.errors import InvariantViolated, StateDamaged, StorageFailed, WriteStalled, ZattredisError
from zattredis.storage import large_writes
from zattredis.storage.rocks import (
    KIB,
    StoreOptions,
    create_database,
    open_database,
    state_options,
    translate,
    write_options,
)
from zattredis.storage.state_readers import Cursor, FrozenState, Point, pairs

APPLIED_KEY: Final = b"mapplied"
"""Holds the applied record; every write carries it."""

MEMBERSHIP_KEY: Final = b"mmembership"
"""Holds the membership as of the applied record; whoever applies a CONFIG entry writes it in the same batch."""

_BATCH_KEYS_MIN: Final = 8
"""From this many keys on one batched read is quicker (0.86 µs a key against 1.05), though it gives up the GIL."""

_MEMTABLE_BYTES_SMALL: Final = 512 * KIB
"""A checkpoint flushes the memtable while it holds the GIL; so much takes a few milliseconds."""

_APPLIED: Final = struct.Struct(">QQQ")

_PROPERTIES: Final = (
    "rocksdb.estimate-num-keys",
    "rocksdb.estimate-live-data-size",
    "rocksdb.total-sst-files-size",
    "rocksdb.cur-size-all-mem-tables",
    "rocksdb.estimate-table-readers-mem",
    "rocksdb.block-cache-usage",
    "rocksdb.num-running-flushes",
    "rocksdb.num-running-compactions",
    "rocksdb.estimate-pending-compaction-bytes",
    "rocksdb.actual-delayed-write-rate",
    "rocksdb.is-write-stopped",
    "rocksdb.background-errors",
    "rocksdb.num-snapshots",
)


@dataclass(frozen=True, slots=True)
class Applied:
    """All entries up to `index` (of `term`) are applied in full, and of the next one the first `ordinal` commands."""

    index: int
    term: int
    ordinal: int = 0


def encode_applied(index: int, term: int, ordinal: int = 0) -> bytes:
    """Return the value for APPLIED_KEY."""
    return _APPLIED.pack(index, term, ordinal)


def decode_applied(raw: bytes | None) -> Applied:
    """Return the applied record in `raw`. Raises StateDamaged when it is missing or malformed."""
    if raw is None or len(raw) != _APPLIED.size:
        raise StateDamaged("the state has no applied record")
    return Applied(*_APPLIED.unpack(raw))


class StateStore:
    """The open state database. Belongs to the loop thread, but for `flush` and `checkpoint`, which are for a thread."""

    __slots__ = ("_background", "_database", "_failure", "_get", "_path", "_points")

    def __init__(self, path: Path, database: Rdict) -> None:
        """Take over an open database; use `create` or `open`."""
        self._path = path
        database.set_write_options(write_options(wal=False, no_slowdown=True))
        self._database: Rdict | None = database
        self._get: Any = database.get
        self._failure: ZattredisError | None = None
        self._points: weakref.WeakSet[Point] = weakref.WeakSet()
        # Held by flush and checkpoint: rocksdict refuses to close what another thread is using.
        self._background = threading.Lock()

    @staticmethod
    def create(
        path: Path, *, membership: bytes, options: StoreOptions | None = None, cache: Cache | None = None
    ) -> StateStore:
        """Create the state in which nothing is applied, durable. Raises StorageFailed."""
        options = options or StoreOptions()
        store = StateStore(path, create_database(path, state_options(options, cache or Cache(options.cache_bytes))))
        store.write({APPLIED_KEY: encode_applied(0, 0), MEMBERSHIP_KEY: membership})
        store.flush()
        return store

    @staticmethod
    def open(path: Path, *, options: StoreOptions | None = None, cache: Cache | None = None) -> StateStore:
        """Open an existing state. Raises StateDamaged when it is missing, damaged or without applied record."""
        options = options or StoreOptions()
        database = open_database(path, state_options(options, cache or Cache(options.cache_bytes)), StateDamaged)
        store = StateStore(path, database)
        try:
            decode_applied(store.get(APPLIED_KEY))
            database.set_write_options(write_options(wal=False, no_slowdown=False))
            large_writes.finish(store, {APPLIED_KEY: store.get(APPLIED_KEY)})
            database.set_write_options(write_options(wal=False, no_slowdown=True))
        except StorageFailed:
            raise
        except ZattredisError as error:
            store.close()
            raise StateDamaged(f"{path}: {error}") from error
        return store

    # -- reading ------------------------------------------------------------------------------------------------

    @property
    def path(self) -> Path:
        """The database's directory."""
        return self._path

    @property
    def applied(self) -> Applied:
        """The applied record, as written last (durable or not)."""
        return decode_applied(self.get(APPLIED_KEY))

    @property
    def membership(self) -> bytes:
        """The membership as of the applied record. Raises StateDamaged when there is none."""
        raw = self.get(MEMBERSHIP_KEY)
        if raw is None:
            raise StateDamaged(f"the state in {self._path} has no membership record")
        return raw

    def get(self, key: bytes) -> bytes | None:
        """Return the value of `key`, or None. Raises StateDamaged or StorageFailed."""
        try:
            value: bytes | None = self._get(key)
        except Exception as error:
            raise self._read_error(error) from error
        return value

    def multi_get(self, keys: list[bytes]) -> list[bytes | None]:
        """Return one value or None for each of `keys`, in their order. Raises StateDamaged or StorageFailed."""
        try:
            get = self._get
            if len(keys) < _BATCH_KEYS_MIN:
                return [get(key) for key in keys]
            values: list[bytes | None] = get(keys)
        except Exception as error:
            raise self._read_error(error) from error
        return values

    def iterate(self, lower: bytes, upper: bytes | None, reverse: bool = False) -> Iterator[tuple[bytes, bytes]]:
        """Yield (key, value) for lower <= key < upper, descending when `reverse`, as of the time of this call.

        Raises StateDamaged or StorageFailed while it is read, rather than ending early.
        """
        read_options = ReadOptions()
        if upper is not None:
            # The bound keeps RocksDB from walking over deleted keys behind it. `set_iterate_lower_bound` would set the
            # upper one (rocksdict 0.3.29), so backwards the cursor itself watches the lower bound.
            read_options.set_iterate_upper_bound(upper)
        try:
            point = Point(str(self._path), self._open().iter(read_options), None)
        except ZattredisError:
            raise
        except Exception as error:
            raise self._read_error(error) from error
        self._points.add(point)
        return pairs(Cursor(point, lower, upper, reverse, private=True))

    def frozen(self) -> FrozenState:
        """Return a reader of this very point in time (0.9 µs); close it."""
        database = self._open()
        before = database.latest_sequence_number()
        try:
            point = Point(str(self._path), database.iter(), database.snapshot())
        except Exception as error:
            raise self._read_error(error) from error
        if database.latest_sequence_number() != before:
            raise InvariantViolated("a write came between the two halves of a frozen reader")
        self._points.add(point)
        return FrozenState(point)

    # -- writing ------------------------------------------------------------------------------------------------

    def write(self, changes: Mapping[bytes, bytes | None]) -> None:
        """Write all `changes` (None deletes) as one batch, with APPLIED_KEY among them; durable only by a flush.

        Raises WriteStalled (nothing was written, the same call may be repeated later) or StorageFailed (final).
        """
        database = self._open()
        if APPLIED_KEY not in changes:
            raise InvariantViolated("a write to the state without its applied record")
        batch = WriteBatch(raw_mode=True)
        # In the order of the keys the memtable finds the place of each next to the last one's: a fifth less for all.
        for key in sorted(changes):
            value = changes[key]
            if value is None:
                batch.delete(key)
            else:
                batch[key] = value
        try:
            database.write(batch)
        except Exception as error:
            mapped = translate(error, "writing to the state in", self._path, StateDamaged)
            raise (mapped if isinstance(mapped, WriteStalled) else self._fail(mapped)) from error

    def flush(self) -> Applied:
        """Flush to disk and return the applied record of before: what the log may drop. For a thread (no GIL held).

        Raises StateDamaged or StorageFailed (final).
        """
        with self._background:
            return self._flush(self._open())

    def _flush(self, database: Rdict) -> Applied:
        applied = self.applied
        try:
            database.flush()
        except Exception as error:
            raise self._fail(translate(error, "flushing the state in", self._path, StateDamaged)) from error
        return applied

    def checkpoint(self, path: Path) -> None:
        """Make a copy of the state at `path`, of hard links where it can be. For a thread; raises StorageFailed.

        rocksdict holds the GIL meanwhile, so everything is flushed first, again if much was written meanwhile.
        """
        with self._background:
            database = self._open()
            for _ in range(4):
                self._flush(database)
                if (self.property_int("rocksdb.cur-size-all-mem-tables") or 0) <= _MEMTABLE_BYTES_SMALL:
                    break
            try:
                Checkpoint(database).create_checkpoint(str(path))
            except Exception as error:
                # Not final: the state itself is as good as before.
                shutil.rmtree(path, ignore_errors=True)
                raise translate(error, "making a snapshot of the state in", self._path, StateDamaged) from error

    def close(self) -> None:
        """Flush and close, ending all readers that are still open; harmless when repeated. Raises StorageFailed.

        Waits for a flush or checkpoint that another thread has begun.
        """
        closing = self.detach()
        if closing is not None:
            closing()

    def detach(self) -> Callable[[], None] | None:
        """End all use of the store at once, and return what closes the database, for a thread; None when it is closed.

        That takes a flush (rocksdict always flushes), which must not hold up the loop. Its call waits for a flush or
        checkpoint that another thread has begun, and raises StorageFailed.
        """
        database, self._database = self._database, None
        if database is None:
            return None
        for point in list(self._points):
            point.release()
        del self._get

        def close() -> None:
            with self._background:
                try:
                    database.close()
                except Exception as error:
                    if self._failure is None:
                        raise translate(error, "closing the state in", self._path, StateDamaged) from error

        return close

    # -- figures ------------------------------------------------------------------------------------------------

    def property_int(self, name: str) -> int | None:
        """Return a RocksDB property such as `rocksdb.estimate-num-keys`, or None when it does not exist."""
        value: int | None = self._open().property_int_value(name)
        return value

    def properties(self) -> dict[str, int]:
        """Return RocksDB's figures for INFO, by their names without the leading `rocksdb.`."""
        found = ((name, self.property_int(name)) for name in _PROPERTIES)
        return {name.removeprefix("rocksdb."): value for name, value in found if value is not None}

    # -- helpers ------------------------------------------------------------------------------------------------

    def _open(self) -> Rdict:
        if self._failure is not None:
            raise StorageFailed(str(self._failure))
        if self._database is None:
            raise StorageFailed(f"the state in {self._path} is closed")
        return self._database

    def _fail(self, error: ZattredisError) -> ZattredisError:
        self._failure = error
        return error

    def _read_error(self, error: Exception) -> ZattredisError:
        if self._database is None:
            return StorageFailed(f"the state in {self._path} is closed")
        return translate(error, "reading the state in", self._path, StateDamaged)
