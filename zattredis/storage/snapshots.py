"""Snapshots: a checkpoint of the state with a manifest, sent in checked chunks and verified before it counts.

A snapshot is made of RocksDB's own files (hard links), so it costs a flush and a few milliseconds. Its index and term
are read from the checkpoint itself, because the state moves on while it is made. The manifest names every file with
size and digest; the receiver accepts bytes only in the manifest's order, and uses nothing before all digests agree.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import shutil
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Final, NamedTuple

import msgspec
from rocksdict import Cache

from zattredis.checksum import crc32
from zattredis.errors import SnapshotDamaged, SnapshotFailed, StateDamaged, StorageFailed, ZattredisError
from zattredis.storage.rocks import MIB, StoreOptions, fsync_directory, open_database, state_options, write_back
from zattredis.storage.state_store import APPLIED_KEY, MEMBERSHIP_KEY, Applied, StateStore, decode_applied

MANIFEST_NAME: Final = "snapshot-manifest"
"""Kept in a directory that is being received, so that another connection can go on; removed by `finish`."""

MANIFEST_BYTES_MAX: Final = 16 * MIB
FILES_MAX: Final = 100_000
DIGEST_BYTES: Final = 32
_SHA256: Final = b"\x01"
"""Before a SHA-256, which many processors compute four times as fast as BLAKE2b. Versions before it know BLAKE2b alone,
whose digests have nothing before them; they refuse a manifest with others before a byte of the files is sent."""
REFUSED_BY_FORMER: Final = "a malformed size or digest"
"""What such a version says then."""

_NO_ROOM: Final = (errno.ENOSPC, errno.EDQUOT)
"""Nothing that counts was written then: the disk is as good as before."""
_READ_BYTES: Final = MIB
_VERIFIED_AT_ONCE: Final = 2
"""Files that are verified and synced at a time: one computes while the other's sync waits."""
_NICE: Final = 10
WRITE_BACK_BYTES: Final = MIB
"""How much of a file is written before its way to the disk begins."""
FILE_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")
"""What a file of a state may be called: never a path."""
_OF_THE_PROCESS: Final = re.compile(r"LOCK|LOG(\.old.*)?")
"""Files that RocksDB makes for whoever opens a database; they are no part of its content."""


class SnapshotFile(msgspec.Struct, array_like=True, frozen=True):
    """One file: its plain name, size in bytes and digest (see `_SHA256`)."""

    name: str
    size: int
    digest: bytes


class Manifest(msgspec.Struct, array_like=True, frozen=True):
    """What a snapshot is: the state after `index` (of `term`), the membership as of then, and its files in order."""

    index: int
    term: int
    membership: bytes
    files: list[SnapshotFile]

    @property
    def size_bytes(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files)

    def size_behind(self, position: Position) -> int:
        """Bytes from a position on."""
        return sum(file.size for file in self.files[position.file :]) - position.offset

    def encode(self) -> bytes:
        """Return the manifest's bytes."""
        return msgspec.msgpack.encode(self)

    @staticmethod
    def decode(raw: bytes) -> Manifest:
        """Return the manifest in `raw`, checked. Raises SnapshotDamaged (also for names that are not plain)."""
        if len(raw) > MANIFEST_BYTES_MAX:
            raise SnapshotDamaged(f"a snapshot manifest of {len(raw)} bytes is longer than {MANIFEST_BYTES_MAX}")
        try:
            manifest = msgspec.msgpack.decode(raw, type=Manifest)
        except msgspec.MsgspecError as error:
            raise SnapshotDamaged(f"a snapshot manifest cannot be read: {error}") from error
        names = [file.name for file in manifest.files]
        if len(names) > FILES_MAX or len(set(names)) != len(names) or "CURRENT" not in names:
            raise SnapshotDamaged("a snapshot manifest with repeated, too many or no files of a database")
        for file in manifest.files:
            if not FILE_NAME.fullmatch(file.name) or _OF_THE_PROCESS.fullmatch(file.name) or file.name == MANIFEST_NAME:
                raise SnapshotDamaged(f"a snapshot manifest with the file name {file.name!r}")
            if file.size < 0 or not (len(file.digest) == DIGEST_BYTES or _is_sha256(file.digest)):
                raise SnapshotDamaged(f"a snapshot manifest with {REFUSED_BY_FORMER} of {file.name}")
        return manifest


class Chunk(NamedTuple):
    """A piece of the file number `file` (in the manifest's order) at `offset`, with the CRC-32 of its bytes."""

    file: int
    offset: int
    data: bytes
    crc: int


class Position(NamedTuple):
    """The next byte that a sink lacks: offset `offset` of file number `file`; file == number of files when complete."""

    file: int
    offset: int


def create_snapshot(store: StateStore, path: Path, *, options: StoreOptions | None = None) -> Manifest:
    """Make a snapshot of `store` in the new directory `path` and return its manifest.

    For a thread: it flushes, reads every byte for the digests, and holds the GIL for a few milliseconds only. Writes
    may go on meanwhile; which of them are in it says the manifest. Raises StateDamaged or StorageFailed (neither is
    final for `store`, unless its flush failed), leaving nothing behind.
    """
    applied, membership, sizes = create_checkpoint(store, path, options=options)
    try:
        with ThreadPoolExecutor(1, "digest", _stand_back) as thread:
            digests = list(thread.map(_sha256, [path / name for name, _ in sizes]))
        files = [SnapshotFile(name, size, digest) for (name, size), digest in zip(sizes, digests, strict=True)]
    except OSError as error:
        shutil.rmtree(path, ignore_errors=True)
        raise StorageFailed(f"making the snapshot {path} failed: {error.strerror}") from error
    return Manifest(applied.index, applied.term, membership, files)


def create_checkpoint(
    store: StateStore, path: Path, *, options: StoreOptions | None = None
) -> tuple[Applied, bytes, list[tuple[str, int]]]:
    """Make a checkpoint of `store` in the new directory `path`; return what was applied to it, the membership as of
    then, and name and size of its files. As `create_snapshot`, but reads nothing: for whoever reads it all anyway.
    """
    shutil.rmtree(path, ignore_errors=True)
    try:
        store.checkpoint(path)
        applied, membership = _read_own_record(path, options or StoreOptions(cache_bytes=MIB))
        files = [
            (name, (path / name).stat().st_size)
            for name in sorted(os.listdir(path))
            if not _OF_THE_PROCESS.fullmatch(name)
        ]
    except OSError as error:
        shutil.rmtree(path, ignore_errors=True)
        raise StorageFailed(f"making the snapshot {path} failed: {error.strerror}") from error
    except BaseException:
        shutil.rmtree(path, ignore_errors=True)
        raise
    return applied, membership, files


def _read_own_record(path: Path, options: StoreOptions) -> tuple[Applied, bytes]:
    """Return the applied record and the membership from the checkpoint itself. Raises StateDamaged."""
    database = open_database(path, state_options(options, Cache(MIB)), StateDamaged, read_only=True)
    try:
        applied = decode_applied(database.get(APPLIED_KEY))
        membership: bytes | None = database.get(MEMBERSHIP_KEY)
    finally:
        database.close()
    if membership is None:
        raise StateDamaged(f"the state in {path} has no membership record")
    return applied, membership


def _is_sha256(digest: bytes) -> bool:
    return len(digest) == DIGEST_BYTES + 1 and digest.startswith(_SHA256)


def _sha256(path: Path) -> bytes:
    digest = hashlib.sha256()
    _read(path, digest.update)
    return _SHA256 + digest.digest()


def _blake2b(path: Path) -> bytes:
    digest = hashlib.blake2b(digest_size=DIGEST_BYTES)
    _read(path, digest.update)
    return digest.digest()


def _stand_back() -> None:
    """Let whoever serves clients have the processor first: what this thread does holds the GIL for moments only."""
    with contextlib.suppress(OSError, AttributeError):  # threads have priorities of their own on Linux alone
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICE)


def _read(path: Path, take: Callable[[bytes], None]) -> None:
    with path.open("rb") as file:
        while block := file.read(_READ_BYTES):
            take(block)


def _is_as_told(path: Path, file: SnapshotFile) -> bool:
    digest_of = _sha256 if _is_sha256(file.digest) else _blake2b
    return path.stat().st_size == file.size and digest_of(path) == file.digest


def _make_durable(path: Path, file: SnapshotFile) -> bool:
    """Return whether a file is what the manifest says, and by then on the disk. Raises OSError."""
    if not _is_as_told(path, file):
        return False
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    return True


class SnapshotSource:
    """A finished snapshot to be sent, to any number of receivers."""

    __slots__ = ("manifest", "path")

    def __init__(self, manifest: Manifest, path: Path) -> None:
        self.manifest = manifest
        self.path = path

    def chunks(self, position: Position, chunk_bytes: int) -> Iterator[Chunk]:
        """Yield the chunks from `position` on, each of at most `chunk_bytes`; an empty file yields one empty chunk.

        Each step reads from the disk. Raises StorageFailed when that fails, SnapshotDamaged when a file has another
        size than the manifest says or the position lies outside.
        """
        files = self.manifest.files
        if not 0 <= position.file <= len(files) or position.offset < 0:
            raise SnapshotDamaged(f"a snapshot of {len(files)} files was asked for from {position}")
        offset = position.offset
        for number in range(position.file, len(files)):
            yield from self._file_chunks(number, offset, chunk_bytes)
            offset = 0

    def _file_chunks(self, number: int, offset: int, chunk_bytes: int) -> Iterator[Chunk]:
        expected = self.manifest.files[number]
        try:
            with (self.path / expected.name).open("rb") as file:
                file.seek(offset)
                while True:
                    data = file.read(min(chunk_bytes, max(0, expected.size - offset)))
                    if not data and offset != expected.size:
                        raise SnapshotDamaged(f"snapshot file {expected.name} ends at {offset}, not at {expected.size}")
                    yield Chunk(number, offset, data, crc32(data))
                    offset += len(data)
                    if offset >= expected.size:
                        return
        except OSError as error:
            raise StorageFailed(f"reading snapshot file {self.path / expected.name}: {error.strerror}") from error

    def manifest_for_former(self) -> Manifest:
        """Return the manifest with the digests that versions before SHA-256 know. Reads every byte. Raises OSError."""
        files = [msgspec.structs.replace(file, digest=_blake2b(self.path / file.name)) for file in self.manifest.files]
        return msgspec.structs.replace(self.manifest, files=files)

    def delete(self) -> None:
        """Delete the snapshot's files; those of the state itself are only unlinked here."""
        shutil.rmtree(self.path, ignore_errors=True)


class SnapshotSink:
    """A snapshot being received into a new state directory. Several connections may do it one after the other.

    Invariant: the directory holds the manifest, every file before the current one in full, and the current one up to
    the position; nothing else. Writing blocks on the disk. After an error the sink may be begun again.

    Files are verified and made durable, two at a time, as soon as they are whole, while the next ones arrive: reading
    and syncing everything at the end took as long as the transfer. What was written goes to the disk little by little,
    so that whatever else syncs there, a log above all, never waits for much of it.
    """

    __slots__ = ("_begun_back", "_directory", "_file", "_manifest", "_position", "_verified", "_verifying")

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._manifest: Manifest | None = None
        self._position = Position(0, 0)
        self._file = -1
        self._begun_back = 0
        self._verifying: ThreadPoolExecutor | None = None
        self._verified: dict[int, Future[bool]] = {}

    @property
    def position(self) -> Position:
        """The next byte that is missing."""
        return self._position

    @property
    def complete(self) -> bool:
        """True when every byte has been written; `finish` has yet to verify them."""
        return self._manifest is not None and self._position.file == len(self._manifest.files)

    def begin(self, manifest: Manifest) -> Position:
        """Prepare for `manifest` and return where its sender is to go on: further than the start only after a broken
        transfer of the very same snapshot. Raises StorageFailed, or SnapshotFailed where the disk is full.
        """
        self._close_file()
        self._stop_verifying()
        raw = manifest.encode()
        stored = self._directory / MANIFEST_NAME
        try:
            if not stored.is_file() or stored.read_bytes() != raw:
                shutil.rmtree(self._directory, ignore_errors=True)
                self._directory.mkdir(mode=0o700)
                stored.write_bytes(raw)
            self._manifest = manifest
            self._position = self._find_position(manifest)
        except OSError as error:
            raise self._failed(error) from error
        return self._position

    def _find_position(self, manifest: Manifest) -> Position:
        """Return how far the files on disk go; what is longer than it may be is cut or left to the digests."""
        for number, file in enumerate(manifest.files):
            path = self._directory / file.name
            size = path.stat().st_size if path.is_file() else 0
            if size > file.size:
                path.unlink()
                size = 0
            if size < file.size or not path.exists():
                return Position(number, size)
        return Position(len(manifest.files), 0)

    def write(self, chunk: Chunk) -> None:
        """Write the next chunk. Raises SnapshotDamaged when it is not the next one, too long or fails its checksum.

        Where the disk is full everything received is deleted, and SnapshotFailed raised."""
        manifest = self._manifest
        if manifest is None:
            raise SnapshotDamaged("a snapshot chunk before its manifest")
        number, offset, data, crc = chunk
        if (number, offset) != self._position or number >= len(manifest.files):
            raise SnapshotDamaged(f"a snapshot chunk of file {number} at {offset} in the place of {self._position}")
        expected = manifest.files[number]
        if offset + len(data) > expected.size or (not data and expected.size):
            raise SnapshotDamaged(f"a snapshot chunk of {len(data)} bytes at {offset} of {expected.name}")
        if crc32(data) != crc:
            raise SnapshotDamaged(f"a snapshot chunk at {offset} of {expected.name} fails its checksum")
        try:
            if self._file < 0:
                flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
                self._file = os.open(self._directory / expected.name, flags, 0o600)
                self._begun_back = offset
            view, at = memoryview(data), offset
            while view:
                written = os.pwrite(self._file, view, at)
                view, at = view[written:], at + written
        except OSError as error:
            self._close_file()
            raise self._failed(error) from error
        if at - self._begun_back >= WRITE_BACK_BYTES:
            write_back(self._file, self._begun_back, at)
            self._begun_back = at
        if at == expected.size:
            self._close_file()
            self._position = Position(number + 1, 0)
            self._verify(number, expected)
        else:
            self._position = Position(number, at)

    def _verify(self, number: int, file: SnapshotFile) -> Future[bool]:
        """Begin to verify a file that is whole, unless that has begun."""
        if self._verifying is None:
            self._verifying = ThreadPoolExecutor(_VERIFIED_AT_ONCE, "snapshot", _stand_back)
        found = self._verified.get(number)
        if found is None:
            found = self._verified[number] = self._verifying.submit(_make_durable, self._directory / file.name, file)
        return found

    def _stop_verifying(self, *, wait: bool = True) -> None:
        verifying, self._verifying = self._verifying, None
        self._verified.clear()
        if verifying is not None:
            verifying.shutdown(wait=wait, cancel_futures=True)

    def finish(self) -> Manifest:
        """Verify every digest, make files and directory durable, and return the manifest. Blocks: for a thread.

        Raises SnapshotDamaged or SnapshotFailed (then everything received is deleted), or StorageFailed. Afterwards the
        directory may be given to `DataDirectory.install`.
        """
        manifest = self._manifest
        if manifest is None or not self.complete:
            raise SnapshotDamaged(f"a snapshot was ended at {self._position}, before it was complete")
        try:
            for number, file in enumerate(manifest.files):
                if not self._verify(number, file).result():
                    self.abandon()
                    raise SnapshotDamaged(f"snapshot file {file.name} fails its digest; all of it was deleted")
            self._stop_verifying()
            (self._directory / MANIFEST_NAME).unlink()
            fsync_directory(self._directory)
            fsync_directory(self._directory.parent)
        except OSError as error:
            raise self._failed(error) from error
        self._manifest = None
        return manifest

    def close(self) -> None:
        """Close the open file and keep what was received, for another `begin`. Does not wait for the disk."""
        self._close_file()
        self._stop_verifying(wait=False)

    def abandon(self) -> None:
        """Delete everything received."""
        self._close_file()
        self._stop_verifying()
        self._manifest = None
        self._position = Position(0, 0)
        shutil.rmtree(self._directory, ignore_errors=True)

    def _close_file(self) -> None:
        descriptor, self._file = self._file, -1
        if descriptor >= 0:
            with contextlib.suppress(OSError):
                os.close(descriptor)

    def _failed(self, error: OSError) -> ZattredisError:
        text = f"receiving a snapshot into {self._directory} failed: {error.strerror}"
        if error.errno in _NO_ROOM:
            self.abandon()  # log and state need what is left
            return SnapshotFailed(text)
        return StorageFailed(text)
