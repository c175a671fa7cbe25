"""Opening a log: is everything there that was durable, and does all of it fit together?

RocksDB is opened with point-in-time recovery, which keeps the longest prefix of writes before the first damaged byte
of the WAL, and that prefix must reach the marks and every write that a stamp in the WAL says was durable. The other
modes do not serve. `absolute_consistency` refuses every torn tail. `tolerate_corrupted_tail_records` refuses, too, when
the pages of an unsynced write reached the disk out of order (a hole of zeros fails a checksum), so a power cut of all
nodes at once could leave a cluster down with nothing lost; and behind one torn file it goes on with the next one,
leaving a hole. What those modes would notice in addition, marks and stamps notice (`marks` says exactly what remains).
All this is found out by opening read-only, so that a log that is refused is left as it was found.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from rocksdict import Cache, DBRecoveryMode, Rdict, ReadOptions

from zattredis.errors import InvariantViolated, LogDamaged, LogLost, StorageFailed
from zattredis.raft.entry import CONFIG, decode_entry
from zattredis.raft.ready import HardState
from zattredis.storage.log_index import LogIndex
from zattredis.storage.log_records import (
    ENTRY_END,
    FIRST,
    HARD,
    MEMBERSHIP,
    STATE,
    TAIL,
    TRUNCATION,
    Stamp,
    StateDirectory,
    decode_hard_state,
    decode_pair,
    decode_stamp,
    decode_state_directory,
    entry_index,
    entry_key,
    witnessed_batch,
)
from zattredis.storage.marks import Marks, Witness
from zattredis.storage.rocks import StoreOptions, log_options, open_database, translate


@dataclass(frozen=True, slots=True)
class Recovered:
    """A log that has been opened and found whole."""

    database: Rdict
    index: LogIndex
    stamp: Stamp
    hard_state: HardState
    state_directory: StateDirectory
    membership: bytes
    configuration: bytes | None = None
    """The membership in the last CONFIG entry that the log holds."""


def recover(path: Path, marks: Marks, options: StoreOptions, cache: Cache) -> Recovered:
    """Open the log database at `path` and verify every entry. Raises LogLost, LogDamaged or StorageFailed."""
    expected = _inspect(path, marks, options, cache)
    database = open_database(path, log_options(options, cache, DBRecoveryMode.point_in_time()), LogDamaged)
    try:
        return _load(path, database, marks, expected)
    except Exception:
        database.close()
        raise


def examine(path: Path, witness: Witness, options: StoreOptions, cache: Cache) -> Recovered:
    """Verify the log at `path` as `recover` does, and change nothing; its database is closed. Raises as `recover`."""
    expected = _inspect(path, witness, options, cache)
    recovery = log_options(options, cache, DBRecoveryMode.point_in_time())
    database = open_database(path, recovery, LogDamaged, read_only=True)
    try:
        return _load(path, database, witness, expected)
    finally:
        database.close()


def _inspect(path: Path, marks: Marks | Witness, options: StoreOptions, cache: Cache) -> Stamp:
    """Return the stamp that recovery will end with, having changed nothing; raises when it is not far enough."""
    try:
        witnessed = witnessed_batch(path, marks.nonce)
    except OSError as error:
        raise StorageFailed(f"cannot read the log in {path}: {error.strerror}") from error
    recovery = log_options(options, cache, DBRecoveryMode.point_in_time())
    database = open_database(path, recovery, LogDamaged, read_only=True)
    try:
        stamp = _read_stamp(path, database, marks)
    finally:
        database.close()
    if stamp.batch < marks.mark.batch:
        raise LogLost(
            f"the log in {path} ends with entry {stamp.last_index} of write {stamp.batch}, "
            f"but entry {marks.mark.last_index} of write {marks.mark.batch} was durable"
        )
    if stamp.batch < witnessed:
        raise LogDamaged(
            f"the log in {path} is damaged behind write {stamp.batch} (entry {stamp.last_index}), "
            f"but write {witnessed} was durable"
        )
    return stamp


def _read(path: Path, database: Rdict, key: bytes) -> bytes | None:
    try:
        value: bytes | None = database.get(key)
    except Exception as error:
        raise translate(error, "reading the log in", path, LogDamaged) from error
    return value


def _read_stamp(path: Path, database: Rdict, marks: Marks | Witness) -> Stamp:
    raw = _read(path, database, TAIL)
    if raw is None:
        raise LogLost(f"the log in {path} is empty, but entry {marks.mark.last_index} was durable")
    stamp = decode_stamp(marks.nonce, raw)
    if stamp is None:
        raise LogDamaged(f"the log in {path} is another one than the marks beside it belong to")
    return stamp


def _load(path: Path, database: Rdict, marks: Marks | Witness, expected: Stamp) -> Recovered:
    stamp = _read_stamp(path, database, marks)
    if stamp != expected:
        raise LogDamaged(f"the log in {path} was recovered to write {stamp.batch} and not {expected.batch}")
    hard_state = decode_hard_state(_read(path, database, HARD))
    mark = marks.mark
    if hard_state.term < mark.term or (hard_state.term == mark.term and mark.vote not in (None, hard_state.vote)):
        raise LogLost(
            f"the log in {path} has forgotten a vote: it is in term {hard_state.term}, the marks in {mark.term}"
        )
    truncations, _ = decode_pair(_read(path, database, TRUNCATION), "truncation")
    if truncations != stamp.truncations or hard_state.term != stamp.hard_term:
        raise LogDamaged(f"the log in {path} lacks a write before write {stamp.batch}")
    index, configuration = _verify_entries(path, database, stamp)
    membership = _read(path, database, MEMBERSHIP)
    if membership is None:
        raise LogDamaged(f"the log in {path} has no membership record")
    state = decode_state_directory(_read(path, database, STATE))
    return Recovered(database, index, stamp, hard_state, state, membership, configuration)


def _verify_entries(path: Path, database: Rdict, stamp: Stamp) -> tuple[LogIndex, bytes | None]:
    """Return the index of all entries, and what the last CONFIG one says.

    Each is read and checked: no gap, no falling term, none behind the end.
    """
    configuration: bytes | None = None
    index = LogIndex(*decode_pair(_read(path, database, FIRST), "first"))
    read_options = ReadOptions()
    read_options.set_iterate_upper_bound(ENTRY_END)
    read_options.set_readahead_size(1 << 20)
    cursor = database.iter(read_options)
    cursor.seek(entry_key(index.first_index))
    try:
        while (key := cursor.key()) is not None:
            entry = decode_entry(cursor.value())
            if entry.index != entry_index(key):
                raise LogDamaged(f"the log in {path} holds entry {entry.index} in the place of {entry_index(key)}")
            index.append(entry.index, entry.term, len(entry.raw))
            if entry.kind == CONFIG:
                configuration = entry.payload
            cursor.next()
        cursor.status()
    except (LogDamaged, InvariantViolated) as error:
        raise LogDamaged(f"the log in {path}: {error}") from error
    except Exception as error:
        raise translate(error, "reading the log in", path, LogDamaged) from error
    if index.last_index != stamp.last_index or index.last_term != stamp.last_term:
        raise LogDamaged(
            f"the log in {path} ends with entry {index.last_index} (term {index.last_term}), "
            f"but its last write with entry {stamp.last_index} (term {stamp.last_term})"
        )
    return index, configuration
