"""The file of marks beside the log: how far it was durable, and the term and vote that were.

A log that has lost its end looks like a shorter log. This file is the second witness: a log that is behind its marks is
a lost log, and the node must not vote with it.

What is guaranteed. A mark is written (into mapped memory, without a system call: 6 µs beside a sync of 150) after every
sync of the log and before that sync is reported, so as long as the operating system lives (kill -9, a deleted or cut
file, a flipped bit) the marks are exact. They are themselves synced at every change of term or vote, at creation and at
close, and otherwise MARK_INTERVAL_S after they moved; only a power cut may leave them behind the log, by that interval
at most, and then the stamps inside the log (`log_records`) bear witness for all but the last synced writes. To sync
this file with every sync of the log would halve the throughput, and would notice only one case more: a disk that loses
what it has confirmed.

Layout: three blocks of 4096 bytes. The first is written once and names the log (`nonce`). The other two are slots; one
holds the newest mark that was synced and is not touched until the other one has been synced, so that a torn write can
never spoil both.
"""

from __future__ import annotations

import mmap
import os
import struct
import zlib
from pathlib import Path
from typing import Final, NamedTuple

from zattredis.errors import LogDamaged, LogLost, StorageFailed
from zattredis.storage.rocks import fsync_directory

MARK_INTERVAL_S: Final = 1.0
"""Marks that moved are synced after this time at the latest (by the sync thread, also when it is idle)."""

NONCE_BYTES: Final = 16
VOTE_BYTES_MAX: Final = 255

_BLOCK: Final = 4096
_MAGIC: Final = b"zrmarks1"
_HEADER: Final = struct.Struct(f">8s{NONCE_BYTES}sI")
_SLOT: Final = struct.Struct(">QQQQB")
_CRC: Final = struct.Struct(">I")
_NO_VOTE: Final = 0xFF


class Mark(NamedTuple):
    """The log was durable up to its write `batch` and ended at `last_index` then; `term` and `vote` were durable."""

    batch: int
    last_index: int
    term: int
    vote: str | None


def _encode(sequence: int, mark: Mark) -> bytes:
    vote = b"" if mark.vote is None else mark.vote.encode()
    if len(vote) >= VOTE_BYTES_MAX:
        raise ValueError(f"a node id of {len(vote)} bytes is longer than {VOTE_BYTES_MAX - 1}")
    length = _NO_VOTE if mark.vote is None else len(vote)
    body = _SLOT.pack(sequence, mark.batch, mark.last_index, mark.term, length) + vote
    return body + _CRC.pack(zlib.crc32(body))


def _decode(slot: bytes) -> tuple[int, Mark] | None:
    """Return (sequence, mark), or None when the slot is torn."""
    sequence, batch, index, term, length = _SLOT.unpack_from(slot)
    end = _SLOT.size + (0 if length == _NO_VOTE else length)
    if _CRC.unpack_from(slot, end)[0] != zlib.crc32(slot[:end]):
        return None
    try:
        vote = None if length == _NO_VOTE else slot[_SLOT.size : end].decode()
    except UnicodeDecodeError:
        return None
    return sequence, Mark(batch, index, term, vote)


class Witness(NamedTuple):
    """What the file of marks says, for whoever only looks."""

    nonce: bytes
    mark: Mark


def read_marks(path: Path) -> Witness:
    """Return what the file says, without opening it for writing. Raises as `Marks.open`."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise LogLost(f"{path} is gone: how far the log was durable, and for whom it voted, is not known") from None
    except OSError as error:
        raise StorageFailed(f"cannot read {path}: {error.strerror}") from error
    nonce, _, mark, _ = _parse(path, content)
    return Witness(nonce, mark)


def _parse(path: Path, content: bytes) -> tuple[bytes, int, Mark, int]:
    """Return nonce, sequence and mark of the newest slot, and the number of the other one. Raises LogDamaged."""
    slots = [_decode(content[i * _BLOCK : (i + 1) * _BLOCK]) for i in (1, 2)] if len(content) == 3 * _BLOCK else []
    found = [slot for slot in slots if slot is not None]
    if not found or content[: _HEADER.size] != _HEADER.pack(
        _MAGIC, content[8 : 8 + NONCE_BYTES], zlib.crc32(content[: 8 + NONCE_BYTES])
    ):
        raise LogDamaged(f"{path} is damaged: how far the log was durable, and for whom it voted, is not known")
    sequence, mark = max(found)
    return content[8 : 8 + NONCE_BYTES], sequence, mark, 1 - slots.index((sequence, mark))


class Marks:
    """The open file. Used by one thread at a time; every failure of the operating system is StorageFailed."""

    __slots__ = ("_descriptor", "_loose", "_map", "_path", "_sequence", "mark", "nonce", "synced")

    def __init__(self, path: Path, descriptor: int, nonce: bytes, sequence: int, mark: Mark, loose: int) -> None:
        self._path = path
        self._descriptor = descriptor
        # A pwrite would dirty the inode each time, which takes the file system's journal: 15 µs and more on ext4.
        self._map = mmap.mmap(descriptor, 3 * _BLOCK)
        self._sequence = sequence
        self._loose = loose
        self.nonce = nonce
        self.mark = mark
        """The newest mark written."""
        self.synced = mark
        """The newest mark that a power cut cannot take."""

    @staticmethod
    def create(path: Path, nonce: bytes, mark: Mark) -> Marks:
        """Create the file with both slots at `mark`, durable with its name. Raises StorageFailed."""
        header = _HEADER.pack(_MAGIC, nonce, zlib.crc32(_MAGIC + nonce))
        blocks = [header, _encode(1, mark), _encode(2, mark)]
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            os.write(descriptor, b"".join(block.ljust(_BLOCK, b"\0") for block in blocks))
            os.fsync(descriptor)
            fsync_directory(path.parent)
        except OSError as error:
            raise StorageFailed(f"cannot create {path}: {error.strerror}") from error
        return Marks(path, descriptor, nonce, 2, mark, 0)

    @staticmethod
    def open(path: Path) -> Marks:
        """Open the file. Raises LogLost when it is gone, LogDamaged when no slot is whole, else StorageFailed."""
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            raise LogLost(f"{path} is gone: how far the log was durable, and for whom it voted, is not known") from None
        except OSError as error:
            raise StorageFailed(f"cannot open {path}: {error.strerror}") from error
        try:
            content = os.pread(descriptor, 3 * _BLOCK, 0)
        except OSError as error:
            os.close(descriptor)
            raise StorageFailed(f"cannot read {path}: {error.strerror}") from error
        try:
            nonce, sequence, mark, loose = _parse(path, content)
        except LogDamaged:
            os.close(descriptor)
            raise
        return Marks(path, descriptor, nonce, sequence, mark, loose)

    def write(self, mark: Mark) -> None:
        """Write `mark` without sync."""
        self._sequence += 1
        slot = _encode(self._sequence, mark)
        start = (1 + self._loose) * _BLOCK
        self._map[start : start + len(slot)] = slot
        self.mark = mark

    def sync(self) -> None:
        """Make the newest mark durable; nothing to do when it is."""
        if self.synced is self.mark:
            return
        mark = self.mark
        try:
            os.fdatasync(self._descriptor)
        except OSError as error:
            raise StorageFailed(f"syncing {self._path} failed: {error.strerror}") from error
        self.synced = mark
        self._loose = 1 - self._loose

    def close(self) -> None:
        """Close the file without sync; harmless when repeated."""
        if self._descriptor >= 0:
            self._map.close()
            os.close(self._descriptor)
            self._descriptor = -1
