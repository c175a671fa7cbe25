"""How this project opens RocksDB through rocksdict: options, openings, and what its error texts mean.

Only `storage` imports rocksdict, and only this file knows its oddities (each has a test that notices when it is
mended, tests/storage/test_rocksdict_traps.py):

- `Rdict(path)` creates the directory and files in it before RocksDB looks whether there is a database, so existence
  is checked here, by its CURRENT file, first.
- Options passed at a reopening are ignored for the column family, whose options are then read back from the OPTIONS
  file, unless they are passed as the `default` column family's too.
- Every error is a bare `Exception` whose text begins with RocksDB's status; a missing key of a `Snapshot` is one, too.
- `close()` returns while iterators, snapshots or checkpoints keep the database, and with it its lock, alive.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from rocksdict import (
    AccessType,
    BlockBasedIndexType,
    BlockBasedOptions,
    Cache,
    DBCompressionType,
    DBRecoveryMode,
    Options,
    Rdict,
    WriteOptions,
)

from zattredis.errors import StorageFailed, WriteStalled, ZattredisError

KIB: Final = 1024
MIB: Final = 1024 * KIB

_MEMTABLE_PIECES: Final = 8

SNAPSHOT_KEY_MISSING: Final = "key not found"
"""What `Snapshot[key]` raises, as a bare Exception, for a key that is not there."""


@dataclass(frozen=True, slots=True)
class StoreOptions:
    """Memory and space of a node's two databases, in bytes.

    cache_bytes: blocks, indexes and filters of both databases together.
    state_memtable_bytes, log_memtable_bytes: what is gathered before a flush (the state's in several memtables); as
        much again is written while that is under way.
    open_files_max: table files kept open per database.
    message_directory: where RocksDB puts its own log of messages; empty for the database's directory.
    """

    cache_bytes: int = 32 * MIB
    state_memtable_bytes: int = 16 * MIB
    log_memtable_bytes: int = 4 * MIB
    open_files_max: int = 256
    message_directory: str = ""

    def __post_init__(self) -> None:
        for name in ("cache_bytes", "state_memtable_bytes", "log_memtable_bytes"):
            if getattr(self, name) < 64 * KIB:
                raise ValueError(f"{name} must be at least {64 * KIB}")
        if self.open_files_max < 16:
            raise ValueError("open_files_max must be at least 16")


def is_damage(error: Exception) -> bool:
    """True when RocksDB reports bytes that contradict their checksum or each other, or a file of its own as missing."""
    text = str(error)
    return text.startswith("Corruption") or "No such file or directory" in text


def translate(error: Exception, doing: str, path: Path | str, damaged: type[ZattredisError]) -> ZattredisError:
    """Return the error of ours that a rocksdict error means: WriteStalled, `damaged`, or StorageFailed.

    Its text is one line: what was being done, where, and RocksDB's own words.
    """
    text = " ".join(str(error).split())
    if text.startswith(("Result incomplete", "Operation aborted: Write stall")):
        return WriteStalled(f"{doing} {path}: RocksDB asks to wait ({text})")
    if is_damage(error):
        return damaged(f"{doing} {path}: {text}")
    return StorageFailed(f"{doing} {path} failed: {text}")


def exists(path: Path) -> bool:
    """True when `path` holds a RocksDB database (its CURRENT file)."""
    return (path / "CURRENT").is_file()


def _common(options: StoreOptions, cache: Cache, *, partitioned: bool = False) -> Options:
    o = Options(raw_mode=True)
    o.create_if_missing(False)
    o.set_paranoid_checks(True)
    o.set_max_background_jobs(2)
    # One thread writes each database.
    o.set_allow_concurrent_memtable_write(False)
    o.set_max_open_files(options.open_files_max)
    if options.message_directory:
        o.set_db_log_dir(options.message_directory)
    o.set_keep_log_file_num(2)
    o.set_max_log_file_size(MIB)
    o.set_stats_dump_period_sec(0)
    o.set_stats_persist_period_sec(0)
    o.set_manifest_preallocation_size(64 * KIB)
    o.set_max_manifest_file_size(4 * MIB)
    o.set_avoid_unnecessary_blocking_io(True)
    table = BlockBasedOptions()
    table.set_block_cache(cache)
    table.set_format_version(5)
    table.set_cache_index_and_filter_blocks(True)
    table.set_pin_l0_filter_and_index_blocks_in_cache(True)
    table.set_block_size(8 * KIB)
    table.set_bloom_filter(10, False)
    if partitioned:
        # The filter of a file with a million keys weighs more than a shard of the cache holds (a 64th), so it would be
        # read whole for every get: measured with 3 million keys, 230 to 310 µs a get against 5 to 15 in partitions.
        table.set_index_type(BlockBasedIndexType.two_level_index_search())
        table.set_partition_filters(True)
        table.set_metadata_block_size(4 * KIB)
        table.set_pin_top_level_index_and_filter(True)
    o.set_block_based_table_factory(table)
    return o


def log_options(options: StoreOptions, cache: Cache, recovery: DBRecoveryMode) -> Options:
    """Options of `log/`: a WAL, small memtables, no compression (most entries are deleted before they are compacted).

    A write stall would hold the loop, so the triggers that slow writers down are moved out of reach: what may wait for
    a flush is bounded above, by Raft's own limits on bytes that are not committed or not applied.
    """
    o = _common(options, cache)
    o.set_wal_recovery_mode(recovery)
    # Writing over an old WAL spares the file system its journal: fdatasync takes 145 µs instead of 270 (ext4). RocksDB
    # allows it with point-in-time recovery only, and needs consecutive sequence numbers: every write here has a WAL.
    o.set_recycle_log_file_num(2)
    o.set_write_buffer_size(options.log_memtable_bytes)
    o.set_max_write_buffer_number(64)
    o.set_level_zero_slowdown_writes_trigger(1000)
    o.set_level_zero_stop_writes_trigger(2000)
    o.set_soft_pending_compaction_bytes_limit(0)
    o.set_hard_pending_compaction_bytes_limit(0)
    o.set_compression_type(DBCompressionType.none())
    o.set_target_file_size_base(max(options.log_memtable_bytes, MIB))
    return o


def state_options(options: StoreOptions, cache: Cache) -> Options:
    """Options of a state database: no WAL (the Raft log is its log), lz4, one column family."""
    o = _common(options, cache, partitioned=True)
    # A key finds its place in a small memtable in half the time that it takes in one that no processor cache holds: of
    # SET's CPU on one node 12 % became 6.6. They are flushed several at once, so that the files are as large as before.
    pieces = max(1, min(_MEMTABLE_PIECES, options.state_memtable_bytes // (512 * KIB)))
    o.set_write_buffer_size(options.state_memtable_bytes // pieces)
    o.set_min_write_buffer_number_to_merge(pieces)
    o.set_max_write_buffer_number(4 * pieces)
    o.set_level_zero_file_num_compaction_trigger(4)
    o.set_compression_type(DBCompressionType.lz4())
    o.set_bytes_per_sync(MIB)
    # A SET of a new key first reads that there is none: 0.3 µs with a filter on the memtable, 2 to 5 without.
    o.set_memtable_whole_key_filtering(True)
    o.set_memtable_prefix_bloom_ratio(0.02)
    return o


def create_database(path: Path, options: Options) -> Rdict:
    """Create a database where none is. Raises StorageFailed."""
    if exists(path):
        raise StorageFailed(f"cannot create {path}: a database is there already")
    options.create_if_missing(True)
    options.set_error_if_exists(True)
    try:
        return Rdict(str(path), options, {"default": options})
    except Exception as error:
        raise translate(error, "creating", path, StorageFailed) from error


def open_database(path: Path, options: Options, damaged: type[ZattredisError], *, read_only: bool = False) -> Rdict:
    """Open an existing database. Raises `damaged` when it is missing or corrupt, else StorageFailed."""
    if not exists(path):
        raise damaged(f"{path} holds no database any more (no CURRENT file)")
    access = AccessType.read_only() if read_only else AccessType.read_write()
    try:
        return Rdict(str(path), options, {"default": options}, access)
    except Exception as error:
        raise translate(error, "opening", path, damaged) from error


def write_options(*, wal: bool, no_slowdown: bool) -> WriteOptions:
    """Return the options of every write to one database."""
    o = WriteOptions()
    o.disable_wal = not wal  # type: ignore[method-assign, assignment]
    o.no_slowdown = no_slowdown
    return o


def write_back(descriptor: int, start: int, end: int) -> None:
    """Have the kernel begin to write these bytes of a file to the disk now, and not keep them in memory for long.

    Without it a long file is written in one burst by the fsync at its end, which other processes' syncs wait for.
    """
    with contextlib.suppress(OSError):  # a pipe
        os.posix_fadvise(descriptor, start, end - start, os.POSIX_FADV_DONTNEED)


def fsync_directory(path: Path) -> None:
    """Make the names in a directory durable. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
