"""Data directories made and mended while no node runs on them: restoring a backup, recovering from a lost majority.

Both begin a *new* cluster: a new cluster id and incarnation, so that no member of the old one is ever linked to it
(`peer.handshake` compares both), and a membership of its own, as the last entry of the log. That entry is agreed on
like any other once the new cluster runs; applying it ends the sessions of nodes that are no members, which gives back
what their blocked clients had been promised.

A directory being restored is not taken for one of a node that never ran: it has a file `restoring`, no `node.json`
until everything in it is durable, and a start refuses it.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from rocksdict import Cache

from zattredis.errors import (
    BackupDamaged,
    DataDirectoryMismatch,
    LogLost,
    StateDamaged,
    StorageFailed,
)
from zattredis.raft.entry import CONFIG, Entry, make_entry
from zattredis.raft.membership import Membership, simple_membership
from zattredis.raft.ready import HardState
from zattredis.server.applier import STAMP_KEY
from zattredis.server.clock import random_64
from zattredis.server.rejoin import must_wait
from zattredis.server.upgrades import FIRST_VERSION, STATE_MACHINE_VERSION
from zattredis.storage.backup_file import BackupHeader, BackupReader, Piece
from zattredis.storage.datadir import (
    FORMAT,
    RESTORING,
    STATE_PREFIX,
    Identity,
    check_together,
    make_directory,
    take_lock,
)
from zattredis.storage.log_store import LogStore
from zattredis.storage.repair import REJOINING, noted_damage, remember_members, write_file
from zattredis.storage.rocks import StoreOptions, fsync_directory, write_back
from zattredis.storage.state_store import APPLIED_KEY, MEMBERSHIP_KEY, StateStore, encode_applied
from zattredis.storage.verification import check_identity

WRITE_BACK_BYTES: Final = 4 << 20
"""After so many bytes of a file the disk is told to take them."""

_STAMP: Final = struct.Struct(">Q")


def new_cluster_id() -> str:
    """Return an id that no other cluster has."""
    return f"{random_64():016x}{random_64() & 0xFFFF:04x}"


def check_backup(header: BackupHeader) -> None:
    """Raise BackupDamaged where this program cannot run on what the backup holds."""
    if header.data_format != FORMAT:
        raise BackupDamaged(
            f"the backup holds data of format version {header.data_format!r}; this program reads version {FORMAT}"
        )
    if header.state_machine_version > STATE_MACHINE_VERSION:
        raise BackupDamaged(
            f"the backup was made by version {header.version} with state-machine version "
            f"{header.state_machine_version}; this program knows up to {STATE_MACHINE_VERSION}: install the newer one"
        )
    if header.index < 1 or header.term < 1:
        raise BackupDamaged("the backup is of a cluster that has agreed on nothing")


# -- restore -----------------------------------------------------------------------------------------------------------


class _Target:
    """One directory being restored."""

    def __init__(self, path: Path, node_id: str, state_name: str) -> None:
        self.path = path
        self.node_id = node_id
        self.state = path / state_name
        self._file = -1
        self._name = ""
        self._begun_back = 0
        self.lock = self._prepare()

    def _prepare(self) -> int:
        """Make the directory, or take an empty one; return the lock."""
        path = self.path
        if path.exists() and (not path.is_dir() or set(os.listdir(path)) - {"lost+found"}):
            raise DataDirectoryMismatch(f"{path} is there already and not empty; nothing is overwritten")
        if not path.exists():
            make_directory(path)
        with contextlib.suppress(PermissionError):
            path.chmod(0o700)
        lock = os.open(path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.close(os.open(path / RESTORING, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))
        self.state.mkdir(mode=0o700)
        fsync_directory(path)
        return lock

    def write(self, name: str, offset: int, data: bytes) -> None:
        """Write bytes of a file; all of one file come one after another."""
        if name != self._name:
            self.finish_file()
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
            self._file, self._name, self._begun_back = os.open(self.state / name, flags, 0o600), name, 0
        view = memoryview(data)
        while view:
            written = os.pwrite(self._file, view, offset)
            view, offset = view[written:], offset + written
        if offset - self._begun_back >= WRITE_BACK_BYTES:
            write_back(self._file, self._begun_back, offset)
            self._begun_back = offset

    def finish_file(self) -> None:
        """Make the file that was written last durable."""
        descriptor, self._file, self._name = self._file, -1, ""
        if descriptor >= 0:
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)

    def complete(self, header: BackupHeader, cluster_id: str, membership: Membership) -> None:
        """Put the log beside the state and, last, the identity."""
        self.finish_file()
        options = StoreOptions()
        cache = Cache(options.cache_bytes)
        encoded = membership.encode()
        state = StateStore.open(self.state, options=options, cache=cache)
        try:
            applied = state.applied
            if (applied.index, applied.term) != (header.index, header.term):
                raise StateDamaged(
                    f"the backup says that it ends with entry {header.index}, but its state with {applied.index}"
                )
            stamp_ms = _stamp_of(state)
            state.write({APPLIED_KEY: encode_applied(applied.index, applied.term), MEMBERSHIP_KEY: encoded})
            state.flush()
        finally:
            state.close()
        log_path = self.path / "log"
        log = LogStore.create(log_path, state_directory=self.state.name, membership=encoded, options=options,
                              cache=cache)  # fmt: skip
        try:
            log.switch_state(self.state.name, applied.index, applied.term, encoded)
            entry = make_entry(applied.index + 1, applied.term + 1, CONFIG, FIRST_VERSION, stamp_ms, encoded)
            log.append([entry], HardState(applied.term + 1, None, applied.index))
        finally:
            log.close()
        for directory in (log_path, self.state):
            fsync_directory(directory)
        write_file(self.path / "VERSION", FORMAT.encode() + b"\n")
        _write_identity(self.path, Identity(self.node_id, cluster_id, f"{random_64():016x}"))
        (self.path / RESTORING).unlink()
        fsync_directory(self.path)

    def give_up(self) -> None:
        """Delete what was made."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
        for each in list(self.path.iterdir()):
            if each.name != "lost+found":
                shutil.rmtree(each, ignore_errors=True) if each.is_dir() else each.unlink(missing_ok=True)


def restore(
    reader: BackupReader, directories: Mapping[str, Path], addresses: Mapping[str, str], cluster_id: str,
    progress: Callable[[int], None] = lambda count: None,
) -> None:  # fmt: skip
    """Write the data directories of the nodes in `directories` from a backup, as members of a new cluster.

    `addresses` holds all members of it, host:port@peerport by id. Nothing that is there is overwritten; where anything
    fails, everything written is deleted again. `progress` is told the bytes written so far. Raises BackupDamaged,
    DataDirectoryMismatch or another StorageError.
    """
    header = reader.header
    check_backup(header)
    membership = simple_membership(addresses)
    for path in directories.values():
        if path.exists() and (not path.is_dir() or set(os.listdir(path)) - {"lost+found"}):
            raise DataDirectoryMismatch(f"{path} is there already and not empty; nothing is overwritten")
    targets: list[_Target] = []
    doing = ", ".join(map(str, directories.values()))
    try:
        for node_id, path in directories.items():
            targets.append(_Target(path, node_id, f"{STATE_PREFIX}{header.index}"))
        _write_state(_with_empty_files(reader, header), header, targets, progress)
        for target in targets:
            target.complete(header, cluster_id, membership)
    except BaseException as error:
        for target in targets:
            target.give_up()
        if isinstance(error, OSError):
            raise StorageFailed(f"restoring into {doing} failed: {error.strerror}") from error
        raise
    finally:
        for target in targets:
            os.close(target.lock)


def _with_empty_files(reader: BackupReader, header: BackupHeader) -> Iterator[Piece]:
    """Yield all pieces, and an empty one for each file without bytes."""
    for number, file in enumerate(header.files):
        if not file.size:
            yield Piece(number, 0, b"")
    yield from reader.pieces()


def _write_state(
    pieces: Iterable[Piece], header: BackupHeader, targets: list[_Target], progress: Callable[[int], None]
) -> None:
    done = 0
    for piece in pieces:
        for target in targets:
            target.write(header.files[piece.file].name, piece.offset, piece.data)
        done += len(piece.data)
        progress(done)


# -- recover -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Survivor:
    """What is in a data directory from which a cluster is to be recovered."""

    identity: Identity
    membership: Membership
    first_index: int
    last_index: int
    last_term: int
    commit_index: int
    applied_index: int
    last_stamp_ms: int
    incomplete: bool

    @property
    def address(self) -> str:
        """Where the membership says that this node is; empty if it is no member."""
        return self.membership.addresses.get(self.identity.node_id, "")


class Recovery:
    """A locked data directory of a node that does not run. `survivor` says what it holds; `begin` makes it a cluster.

    Use as a context manager. Raises DataDirectoryBusy, DataDirectoryMismatch, LogLost, LogDamaged or StateDamaged.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._log: LogStore | None = None
        self.survivor: Survivor

    def __enter__(self) -> Recovery:
        path = self._path
        identity = check_identity(path)
        self._lock = os.open(path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            take_lock(self._lock, path, fcntl.LOCK_EX, "; stop it first")
            self.survivor = self._look(identity)
        except BaseException:
            self._close()
            raise
        return self

    def __exit__(self, *_rest: object) -> None:
        self._close()

    def _close(self) -> None:
        log, self._log = self._log, None
        if log is not None:
            log.close()
        os.close(self._lock)

    def _look(self, identity: Identity) -> Survivor:
        if (noted := noted_damage(self._path)) is not None:
            raise StateDamaged(f"{self._path} was found damaged: {noted[0]}; take another survivor")
        options = StoreOptions()
        cache = Cache(options.cache_bytes)
        self._log = log = LogStore.open(self._path / "log", options=options, cache=cache)
        state = StateStore.open(self._path / log.state_directory.name, options=options, cache=cache)
        try:
            check_together(log, state)
            applied, stamp_ms = state.applied, _stamp_of(state)
            membership = Membership.decode(state.membership)
        finally:
            state.close()
        last: Entry | None = None
        for at in range(applied.index + 1, log.last_index + 1):
            (last,) = log.entries(at, at + 1, 1)
            stamp_ms = max(stamp_ms, last.stamp_ms)
            if last.kind == CONFIG:
                membership = Membership.decode(last.payload)
        if not log.last_index:
            raise LogLost(f"the log in {self._path} is empty: there is nothing to recover from")
        return Survivor(
            identity, membership, log.first_index, log.last_index, log.term(log.last_index),
            max(log.hard_state.commit, applied.index), applied.index, stamp_ms, must_wait(self._path),
        )  # fmt: skip

    def begin(self, address: str) -> str:
        """Make this directory the only member, at `address`, of a new cluster; return that cluster's id.

        The whole log is kept: what of it was acknowledged cannot be told from what was not. The identity changes
        first: a crash in between leaves a node that finds no peers, and the same command goes on from there.
        """
        log = self._log
        assert log is not None
        survivor = self.survivor
        cluster_id = new_cluster_id()
        node_id = survivor.identity.node_id
        _write_identity(self._path, Identity(node_id, cluster_id, f"{random_64():016x}"))
        term = max(log.hard_state.term, survivor.last_term) + 1
        encoded = simple_membership({node_id: address}).encode()
        entry = make_entry(
            log.last_index + 1, term, CONFIG, FIRST_VERSION, survivor.last_stamp_ms, encoded
        )  # fmt: skip
        log.append([entry], HardState(term, None, log.hard_state.commit))
        log.sync()
        log.sync_marks()
        remember_members(self._path, (node_id,), {node_id: address})  # the others are nobody to be filled from
        (self._path / REJOINING).unlink(missing_ok=True)
        fsync_directory(self._path)
        return cluster_id


def _stamp_of(state: StateStore) -> int:
    raw = state.get(STAMP_KEY)
    return 0 if raw is None else int(_STAMP.unpack(raw)[0])


def _write_identity(path: Path, identity: Identity) -> None:
    write_file(path / "node.json", json.dumps(asdict(identity), indent=1).encode() + b"\n")
