"""The Raft log on disk: entries, hard state, membership and the name of the state directory, in one RocksDB with a WAL.

The loop thread appends (`append`, no sync, ~6 µs) and reads; one thread syncs (`sync`, which releases the GIL and
covers everything appended before it began: group commit). A write or sync that the operating system refused is final:
everything afterwards raises, because after a failed fsync the kernel may drop the pages and report success to the next.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from pathlib import Path

from rocksdict import Cache, DBRecoveryMode, Rdict, ReadOptions, WriteBatch

from zattredis.errors import InvariantViolated, LogCompacted, LogDamaged, StorageFailed, WriteStalled, ZattredisError
from zattredis.raft.entry import Entry, decode_entry
from zattredis.raft.ready import HardState
from zattredis.storage.file_system import in_memory
from zattredis.storage.log_index import LogIndex
from zattredis.storage.log_records import (
    FIRST,
    HARD,
    MEMBERSHIP,
    STATE,
    TAIL,
    TRUNCATION,
    Stamp,
    StateDirectory,
    encode_hard_state,
    encode_pair,
    encode_stamp,
    encode_state_directory,
    entry_key,
)
from zattredis.storage.log_recovery import Recovered, recover
from zattredis.storage.marks import NONCE_BYTES, Mark, Marks
from zattredis.storage.rocks import StoreOptions, create_database, log_options, translate, write_options


class LogStore:
    """The log of one node; implements `raft`'s LogReader.

    Invariants: entries first_index … last_index are there without a gap, each passing its checksum; the file of marks
    is never ahead of what is durable; memory (`first_index`, `term`, …) says what was written, durable or not.
    Everything but `sync` and `sync_marks` belongs to the loop thread. `in_memory`: there is no disk to wait for.
    """

    __slots__ = (
        "_batch_number",
        "_database",
        "_durable",
        "_failure",
        "_hard_state",
        "_index",
        "_marks",
        "_membership",
        "_newest",
        "_path",
        "_staged",
        "_state_directory",
        "_sync_lock",
        "_truncations",
        "in_memory",
    )

    def __init__(self, path: Path, marks: Marks, recovered: Recovered) -> None:
        """Take over what `create` or `open` has made; not for others."""
        self._path = path
        self._marks = marks
        self._database: Rdict | None = recovered.database
        self._database.set_write_options(write_options(wal=True, no_slowdown=True))
        self._index = recovered.index
        self._hard_state = recovered.hard_state
        self._staged: tuple[Entry, WriteBatch] | None = None
        self._membership = recovered.membership
        self._state_directory = recovered.state_directory
        self._truncations = recovered.stamp.truncations
        self._batch_number = recovered.stamp.batch
        self._failure: ZattredisError | None = None
        # Held through a sync, so that `switch_state` may sync on another thread than the sync thread.
        self._sync_lock = threading.Lock()
        self._durable = marks.mark
        self._newest = self._mark()
        self.in_memory = in_memory(path)

    @staticmethod
    def create(
        path: Path,
        *,
        state_directory: str,
        membership: bytes,
        options: StoreOptions | None = None,
        cache: Cache | None = None,
    ) -> LogStore:
        """Create an empty log at `path` (and its marks beside it), durable. Raises StorageFailed."""
        options = options or StoreOptions()
        cache = cache or Cache(options.cache_bytes)
        # The nonce only has to differ from what clients can know; nothing replicated depends on it.
        nonce = os.urandom(NONCE_BYTES)
        stamp = Stamp(1, 0, 0, 0, 0, 0)
        database = create_database(path, log_options(options, cache, DBRecoveryMode.point_in_time()))
        batch = WriteBatch(raw_mode=True)
        batch[FIRST] = encode_pair(1, 0)
        batch[HARD] = encode_hard_state(HardState())
        batch[STATE] = encode_state_directory(StateDirectory(state_directory, 0, 0))
        batch[MEMBERSHIP] = membership
        batch[TRUNCATION] = encode_pair(0, 0)
        batch[TAIL] = encode_stamp(nonce, stamp)
        try:
            database.write(batch)
            database.flush_wal(True)
        except Exception as error:
            database.close()
            raise translate(error, "creating the log in", path, StorageFailed) from error
        marks = Marks.create(marks_path(path), nonce, Mark(1, 0, 0, None))
        state = StateDirectory(state_directory, 0, 0)
        return LogStore(path, marks, Recovered(database, LogIndex(1, 0), stamp, HardState(), state, membership))

    @staticmethod
    def open(path: Path, *, options: StoreOptions | None = None, cache: Cache | None = None) -> LogStore:
        """Open the log at `path`, every entry verified. What was read is made durable before this returns.

        Raises LogLost (behind its marks, or gone), LogDamaged (a checksum, a gap) or StorageFailed; nothing is changed
        in the first two cases unless an entry itself is damaged.
        """
        options = options or StoreOptions()
        marks = Marks.open(marks_path(path))
        try:
            log = LogStore(path, marks, recover(path, marks, options, cache or Cache(options.cache_bytes)))
            log._make_durable()
        except Exception:
            marks.close()
            raise
        return log

    # -- reading ------------------------------------------------------------------------------------------------

    @property
    def first_index(self) -> int:
        """Index of the first entry held: what was compacted, plus one; 1 on a fresh log."""
        return self._index.first_index

    @property
    def last_index(self) -> int:
        """Index of the last entry written, durable or not; first_index - 1 when there is none."""
        return self._index.last_index

    @property
    def durable_index(self) -> int:
        """Index of the last entry at the last sync (not lowered by a truncation since)."""
        return self._durable.last_index

    @property
    def size_bytes(self) -> int:
        """Bytes of the entries held, exact to 64 KiB; what RocksDB occupies follows with its own compactions."""
        return self._index.size_bytes

    @property
    def hard_state(self) -> HardState:
        """The hard state last written."""
        return self._hard_state

    @property
    def membership(self) -> bytes:
        """The membership given at creation or with the last switch of state; later ones are in entries or the state."""
        return self._membership

    @property
    def state_directory(self) -> StateDirectory:
        """The current state directory's name, and the snapshot's index and term it began with (0, 0 at bootstrap)."""
        return self._state_directory

    def term(self, index: int) -> int:
        """Return the term of the entry at `index`, also of first_index - 1. Raises LogCompacted or IndexError."""
        return self._index.term(index)

    def first_within(self, bytes_max: int) -> int:
        """Return the first index from which on the entries hold at most about `bytes_max` bytes (for compaction)."""
        return self._index.first_within(bytes_max)

    def entries(self, low: int, high: int, bytes_max: int) -> list[Entry]:
        """Return entries low … high - 1, at least one (if low < high) and then up to `bytes_max` bytes, each verified.

        Raises LogCompacted, IndexError, LogDamaged (a checksum, a gap) or StorageFailed.
        """
        if low < self._index.first_index:
            raise LogCompacted(f"log index {low} lies before the first one held, {self._index.first_index}")
        if high > self._index.last_index + 1:
            raise IndexError(f"log index {high - 1} lies behind the last one, {self._index.last_index}")
        if low >= high:
            return []
        read_options = ReadOptions()
        read_options.set_iterate_upper_bound(entry_key(high))
        found: list[Entry] = []
        size = 0
        try:
            cursor = self._open().iter(read_options)
            cursor.seek(entry_key(low))
            while (raw := cursor.value()) is not None:
                size += len(raw)
                if found and size > bytes_max:
                    break
                entry = decode_entry(raw)
                if entry.index != low + len(found):
                    raise LogDamaged(f"the log in {self._path} holds entry {entry.index}, not {low + len(found)}")
                found.append(entry)
                cursor.next()
            else:
                cursor.status()
                if len(found) != high - low:
                    raise LogDamaged(f"the log in {self._path} lacks entry {low + len(found)}")
        except ZattredisError:
            raise
        except Exception as error:
            raise translate(error, "reading the log in", self._path, LogDamaged) from error
        return found

    # -- writing ------------------------------------------------------------------------------------------------

    def stage(self, entry: Entry) -> None:
        """Prepare to append this entry alone: what takes half the time of a large one may be done a while before."""
        batch = WriteBatch(raw_mode=True)
        batch[entry_key(entry.index)] = entry.raw
        self._staged = entry, batch

    def append(self, entries: Sequence[Entry], hard_state: HardState | None) -> None:
        """Write entries and hard state as one batch, not yet durable.

        When the first entry's index is held already, the log is truncated from there in the same batch. Raises
        InvariantViolated (a gap, a falling term, a truncation of what is compacted), WriteStalled (nothing was
        written, the same call may be repeated) or StorageFailed (final).
        """
        database = self._open()
        index = self._index
        last_index, last_term, truncations = index.last_index, index.last_term, self._truncations
        staged, self._staged = self._staged, None
        is_staged = staged is not None and len(entries) == 1 and entries[0] is staged[0]
        batch = staged[1] if staged is not None and is_staged else WriteBatch(raw_mode=True)
        if entries:
            first = entries[0].index
            if first <= last_index:
                truncations += 1
                self._put_truncation(batch, first, entries[-1].index, truncations)
                last_index, last_term = first - 1, index.term(first - 1)
            for entry in entries:
                last_index += 1
                if entry.index != last_index or entry.term < last_term:
                    raise InvariantViolated(f"{entry} cannot follow entry {last_index - 1} (term {last_term})")
                last_term = entry.term
                if not is_staged:
                    batch[entry_key(last_index)] = entry.raw
        hard = self._hard_state
        if hard_state is not None:
            hard = hard_state
            batch[HARD] = encode_hard_state(hard)
        self._write(database, batch, last_index, last_term, truncations, hard.term)
        self._hard_state = hard
        if truncations != self._truncations:
            self._truncations = truncations
            index.truncate(entries[0].index)
        for entry in entries:
            index.append(entry.index, entry.term, len(entry.raw))
        self._newest = self._mark()

    def compact(self, first_index: int, term_before: int) -> None:
        """Drop the entries before `first_index`, whose predecessor's term is `term_before`; costs one small write.

        The caller answers for it that a flushed state covers first_index - 1. Not durable by itself: a crash may
        bring the entries back. Their space follows when RocksDB compacts. Raises InvariantViolated, WriteStalled or
        StorageFailed.
        """
        database = self._open()
        index = self._index
        if first_index <= index.first_index:
            return
        if first_index > index.last_index + 1 or index.term(first_index - 1) != term_before:
            raise InvariantViolated(
                f"cannot compact the log to {first_index} after term {term_before}: it ends at {index.last_index}"
            )
        batch = WriteBatch(raw_mode=True)
        # One range tombstone a compaction; no read ever crosses it, because every read starts at first_index or later.
        batch.delete_range(entry_key(index.first_index), entry_key(first_index))
        batch[FIRST] = encode_pair(first_index, term_before)
        self._write(database, batch, index.last_index, index.last_term, self._truncations, self._hard_state.term)
        index.drop_before(first_index)
        self._newest = self._mark()

    def switch_state(self, directory: str, index: int, term: int, membership: bytes) -> None:
        """Make the snapshot in `directory` the node's state: one atomic write, durable when this returns.

        The log begins anew behind `index`, except when it holds that very entry: then what follows it stays, for it
        may have been acknowledged (Raft §7, figure 13, step 6). Blocks for a sync, with the GIL released, and as long
        as the store asks to slow down: who calls this has given up the old state already. Raises StorageFailed (final).
        """
        database = self._open()
        held = self._index
        keeps = held.first_index - 1 <= index <= held.last_index and held.term(index) == term
        last_index, last_term = (held.last_index, held.last_term) if keeps else (index, term)
        truncations = self._truncations + (0 if keeps else 1)
        state = StateDirectory(directory, index, term)
        batch = WriteBatch(raw_mode=True)
        batch.delete_range(entry_key(held.first_index), entry_key(index + 1 if keeps else held.last_index + 1))
        batch[FIRST] = encode_pair(index + 1, term)
        batch[TRUNCATION] = encode_pair(truncations, index + 1)
        batch[STATE] = encode_state_directory(state)
        batch[MEMBERSHIP] = membership
        database.set_write_options(write_options(wal=True, no_slowdown=False))
        self._write(database, batch, last_index, last_term, truncations, self._hard_state.term)
        database.set_write_options(write_options(wal=True, no_slowdown=True))
        if keeps:
            held.drop_before(index + 1)
        else:
            held.reset(index + 1, term)
        self._truncations = truncations
        self._state_directory = state
        self._membership = membership
        self._newest = self._mark()
        self._make_durable()

    def sync(self) -> None:
        """Make everything appended before this call durable: one fdatasync of the WAL, then the mark.

        A change of term or vote syncs the file of marks, too. Runs on the sync thread. Raises StorageFailed, after
        which nothing is ever written or synced again.
        """
        database = self._open()
        with self._sync_lock:
            newest = self._newest
            if newest is self._durable:
                return
            try:
                database.flush_wal(True)
            except Exception as error:
                raise self._fail(translate(error, "syncing the log in", self._path, StorageFailed)) from error
            try:
                self._marks.write(newest)
                if (newest.term, newest.vote) != self._marks.synced[2:]:
                    self._marks.sync()
            except StorageFailed as error:
                raise self._fail(error) from error
            self._durable = newest

    @property
    def marks_dirty(self) -> bool:
        """True when the marks moved since they were synced."""
        return self._marks.synced is not self._marks.mark

    def sync_marks(self) -> None:
        """Sync the file of marks, if it moved. Runs on the sync thread, about once a second. Raises StorageFailed."""
        self._open()
        with self._sync_lock:
            try:
                self._marks.sync()
            except StorageFailed as error:
                raise self._fail(error) from error

    def close(self) -> None:
        """Sync, and close the database and the marks; harmless when repeated. After a failure nothing is synced.

        Waits for a sync that another thread has begun. Raises StorageFailed.
        """
        with self._sync_lock:
            database, self._database = self._database, None
            if database is None:
                return
            try:
                if self._failure is None:
                    database.flush_wal(True)
                    self._marks.write(self._newest)
                    self._marks.sync()
                database.close()
            except StorageFailed:
                raise
            except Exception as error:
                if self._failure is None:
                    raise translate(error, "closing the log in", self._path, StorageFailed) from error
            finally:
                self._marks.close()

    # -- helpers ------------------------------------------------------------------------------------------------

    def _open(self) -> Rdict:
        if self._failure is not None:
            raise StorageFailed(str(self._failure))
        if self._database is None:
            raise StorageFailed(f"the log in {self._path} is closed")
        return self._database

    def _fail(self, error: ZattredisError) -> ZattredisError:
        self._failure = error
        return error

    def _mark(self) -> Mark:
        return Mark(self._batch_number, self._index.last_index, self._hard_state.term, self._hard_state.vote)

    def _make_durable(self) -> None:
        self.sync()
        self.sync_marks()

    def _put_truncation(self, batch: WriteBatch, first: int, last: int, truncations: int) -> None:
        index = self._index
        if first < index.first_index:
            raise InvariantViolated(f"entry {first} would overwrite what is compacted before {index.first_index}")
        for gone in range(last + 1, index.last_index + 1):
            batch.delete(entry_key(gone))
        batch[TRUNCATION] = encode_pair(truncations, first)

    def _write(
        self, database: Rdict, batch: WriteBatch, last_index: int, last_term: int, truncations: int, hard_term: int
    ) -> None:
        """Write `batch` with the next stamp; on WriteStalled nothing has changed."""
        number = self._batch_number + 1
        batch[TAIL] = encode_stamp(
            self._marks.nonce, Stamp(number, self._durable.batch, last_index, last_term, truncations, hard_term)
        )
        try:
            database.write(batch)
        except Exception as error:
            mapped = translate(error, "writing to the log in", self._path, StorageFailed)
            raise (mapped if isinstance(mapped, WriteStalled) else self._fail(mapped)) from error
        self._batch_number = number


def marks_path(log_path: Path) -> Path:
    """Return where the marks of the log at `log_path` are kept: beside it, so that they outlive it."""
    return log_path.with_name(log_path.name + ".marks")
