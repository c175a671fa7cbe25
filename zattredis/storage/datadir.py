"""A node's data directory: whose it is, who uses it, and what in it counts.

    lock          flocked by the process that uses the directory; holds its pid
    VERSION       format of everything below
    node.json     node id, cluster id, incarnation; its presence says that the directory is complete
    log/          LogStore; log.marks beside it
    state-<n>/    StateStore begun by the snapshot of index n; the one in use is named in the log
    bootstrapping only while the directory is made
    restoring     only while a backup is restored into it (`server.offline`)
    members, damaged, rejoining, set-aside: see `repair`

Everything that can be lost is created once, at bootstrap, under the marker `bootstrapping`; a bootstrap that was cut
short is begun anew, because no node has ever run on it. From then on nothing that is missing is created again: a log
or a state that has vanished stops the node.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import shutil
import threading
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from rocksdict import Cache

from zattredis.errors import (
    DataDirectoryBusy,
    DataDirectoryMismatch,
    IdentityLost,
    LogLost,
    SnapshotDamaged,
    StateDamaged,
    StorageError,
    StorageFailed,
)
from zattredis.storage.log_store import LogStore, marks_path
from zattredis.storage.repair import OWN_FILES, remember_members, repaired, set_aside, write_file
from zattredis.storage.rocks import StoreOptions, exists, fsync_directory
from zattredis.storage.state_store import StateStore

FORMAT: Final = "1"
"""Version of the on-disk format; raised when an older program could not read a newer directory."""

_LOCK: Final = "lock"
_VERSION: Final = "VERSION"
_NODE: Final = "node.json"
_MARKER: Final = "bootstrapping"
_LOG: Final = "log"
_MARKS: Final = marks_path(Path(_LOG)).name
STATE_PREFIX: Final = "state-"
SNAPSHOT_PREFIX: Final = "snapshot-"
_FIRST_STATE: Final = "state-0"
RESTORING: Final = "restoring"
"""Only while a backup is restored into the directory; whoever finds it must not begin a cluster there."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Whose data this is. `incarnation` differs for every bootstrap, so that peers notice a node that lost its data."""

    node_id: str
    cluster_id: str
    incarnation: str


class DataDirectory:
    """A locked directory with its open log and state. The server may use `log` and `state` until `close`."""

    __slots__ = ("_cache", "_discarding", "_lock", "_options", "_taken", "identity", "log", "path", "state")

    def __init__(
        self,
        path: Path,
        lock: int,
        identity: Identity,
        log: LogStore,
        state: StateStore,
        options: StoreOptions,
        cache: Cache,
    ) -> None:
        """Compose what `open_data_directory` has opened; not for others."""
        self.path = path
        self._lock = lock
        self.identity = identity
        self.log = log
        self.state = state
        self._options = options
        self._cache = cache
        self._discarding: threading.Thread | None = None
        self._taken = 0

    def incoming_path(self, index: int) -> Path:
        """Return where a snapshot of `index` is to be received: a state directory that no record names yet.

        Raises SnapshotDamaged when that is the state in use.
        """
        name = f"{STATE_PREFIX}{index}"
        if name == self.log.state_directory.name:
            raise SnapshotDamaged(f"the snapshot of entry {index} is what this node's state began with")
        return self.path / name

    def wait_discarded(self) -> None:
        """Return once the state that an installed snapshot replaced is deleted. Blocks: for a thread."""
        if self._discarding is not None:
            self._discarding.join()

    def take_leftovers(self, kept: Path) -> list[Path]:
        """Rename what earlier transfers of snapshots have left, but `kept`, and return what may be deleted, at leisure.

        Each may be as large as the state. Renamed first, because a deletion may go on for long after its transfer was
        broken off, and must not take away what the next one receives or has made the state. After `wait_discarded`.
        """
        in_use = (kept.name, self.log.state_directory.name)
        taken: list[Path] = []
        for name in os.listdir(self.path):
            if name.startswith(STATE_PREFIX) and name not in in_use:
                self._taken += 1
                target = self.path / f"{SNAPSHOT_PREFIX}left-{self._taken}"
                with contextlib.suppress(OSError):
                    os.rename(self.path / name, target)
                    taken.append(target)
        return taken

    def outgoing_path(self, number: int) -> Path:
        """Return where snapshot `number` of this run is to be made for sending; the next start deletes what is left."""
        return self.path / f"{SNAPSHOT_PREFIX}{number}"

    def install(self, directory: Path, index: int, term: int, membership: bytes) -> None:
        """Make the complete snapshot in `directory` the state: open and check it, switch, drop the old one.

        `log` is reset as `LogStore.switch_state` says (the commit point: one synced write); `state` is another object
        afterwards, and readers of the old one end; its files are deleted on a thread. Blocks for one sync. Raises
        StateDamaged, before anything has changed, when the snapshot is not of `index` and `term`.
        """
        if directory.parent != self.path or not directory.name.startswith(STATE_PREFIX):
            raise StateDamaged(f"{directory} is no state directory of {self.path}")
        incoming = StateStore.open(directory, options=self._options, cache=self._cache)
        applied = incoming.applied
        if (applied.index, applied.term) != (index, term):
            incoming.close()
            raise StateDamaged(
                f"{directory} holds the state of entry {applied.index} (term {applied.term}), not {index} ({term})"
            )
        self.log.switch_state(directory.name, index, term, membership)
        old, self.state = self.state, incoming
        self.wait_discarded()
        self._discarding = threading.Thread(target=_discard, args=(old.detach(), old.path), name="discard-state")
        self._discarding.start()

    def remember_members(self, voters: tuple[str, ...], addresses: Mapping[str, str]) -> None:
        """Keep whom a repair can ask (see `repair`); nothing is decided by it."""
        remember_members(self.path, voters, addresses)

    def free_bytes(self) -> int:
        """Return how many bytes the file system has left for this process. Raises StorageFailed."""
        try:
            usage = os.statvfs(self.path)
        except OSError as error:
            raise StorageFailed(f"cannot ask how full {self.path} is: {error.strerror}") from error
        return usage.f_bavail * usage.f_frsize

    def total_bytes(self) -> int:
        """Return how many bytes the file system has in all. Raises StorageFailed."""
        try:
            usage = os.statvfs(self.path)
        except OSError as error:
            raise StorageFailed(f"cannot ask how large the disk of {self.path} is: {error.strerror}") from error
        return usage.f_blocks * usage.f_frsize

    def close(self) -> None:
        """Flush and close everything and give up the lock; harmless when repeated. Raises StorageFailed."""
        self.wait_discarded()
        try:
            try:
                self.state.close()
            finally:
                self.log.close()
        finally:
            if self._lock >= 0:
                os.close(self._lock)
                self._lock = -1


def read_identity(path: Path | str) -> Identity | None:
    """Return whose the complete data directory at `path` is; None when there is none (or it is not readable yet)."""
    try:
        record = json.loads((Path(path) / _NODE).read_bytes())
        return Identity(str(record["node_id"]), str(record["cluster_id"]), str(record["incarnation"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def open_data_directory(
    path: Path | str,
    *,
    node_id: str,
    cluster_id: str,
    incarnation: str,
    membership: bytes,
    options: StoreOptions | None = None,
    anew: bool = False,
    keep_state: bool = False,
) -> DataDirectory:
    """Lock and open the data directory at `path`; make it (bootstrap) when there is none or its making was cut short.

    `incarnation` and `membership` are used only at bootstrap, and with `anew`, which first empties a complete directory
    as `repair` says (`keep_state`: its state is set aside, too). Raises DataDirectoryBusy (names the other process),
    DataDirectoryMismatch (another node, cluster or format, or not a data directory; IdentityLost where it no longer
    says), LogLost, LogDamaged, StateDamaged or StorageFailed, each one line; after the first two nothing has changed.
    """
    path = Path(path).absolute()
    options = options or StoreOptions()
    wanted = Identity(node_id, cluster_id, incarnation)
    lock = -1
    try:
        _ensure_directory(path)
        _refuse_strangers(path)
        lock = _acquire_lock(path)
        try:
            identity = _identify(path, wanted)
        except IdentityLost:
            if not anew:
                raise
            identity = wanted
        if identity is None:
            identity = wanted
            _bootstrap(path, wanted, membership, options)
        elif anew:
            identity = wanted
            states = [name for name in os.listdir(path) if name.startswith((STATE_PREFIX, SNAPSHOT_PREFIX))]
            set_aside(path, _LOG, _MARKS, states, keep_state=keep_state)
            _bootstrap(path, wanted, membership, options)
            repaired(path)
        return _open_stores(path, lock, identity, options)
    except OSError as error:
        _close(lock)
        raise StorageFailed(f"cannot use data directory {error.filename or path}: {error.strerror}") from error
    except BaseException:
        _close(lock)
        raise


def _discard(closing: Callable[[], None] | None, path: Path) -> None:
    """Close and delete a state that counts no more; what is left is deleted at the next start."""
    if closing is not None:
        with contextlib.suppress(StorageError):
            closing()
    shutil.rmtree(path, ignore_errors=True)


def _close(descriptor: int) -> None:
    if descriptor >= 0:
        os.close(descriptor)


def _ensure_directory(path: Path) -> None:
    if not path.exists():
        make_directory(path)
    elif not path.is_dir():
        raise DataDirectoryMismatch(f"{path} is not a directory")


def make_directory(path: Path) -> None:
    """Make a directory that is not there, and those above it, durable. Raises DataDirectoryMismatch or OSError."""
    missing = [path, *(above for above in path.parents if not above.exists())]
    for link in missing:
        if link.is_symlink():
            where = os.readlink(link)
            raise DataDirectoryMismatch(f"{link} leads to {where}, which is not there; is its disk mounted?")
    path.mkdir(mode=0o700, parents=True)
    for made in reversed(missing):  # or a power cut could take the one that holds all the others
        fsync_directory(made.parent)


def _refuse_strangers(path: Path) -> None:
    """Refuse a directory that holds something and is none of ours, before a lock file is put into it."""
    names = set(os.listdir(path))
    if RESTORING in names:
        raise DataDirectoryMismatch(f"a backup is being restored into {path}, or that was cut short: delete it first")
    if names - {_LOCK, "lost+found"} and not names & {_NODE, _MARKER, _VERSION, _MARKS, *OWN_FILES}:
        raise DataDirectoryMismatch(f"{path} is not empty and not a data directory of zattredis; choose another one")


def take_lock(descriptor: int, path: Path, kind: int, remedy: str = "") -> None:
    """Take the lock of the data directory at `path`, whose lock file is open. Raises DataDirectoryBusy or OSError."""
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
            raise
        pid = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip() or "unknown"
        raise DataDirectoryBusy(f"data directory {path} is in use by process {pid}{remedy}") from None


def _acquire_lock(path: Path) -> int:
    descriptor = os.open(path / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        take_lock(descriptor, path, fcntl.LOCK_EX)
    except BaseException:
        os.close(descriptor)
        raise
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, b"%d\n" % os.getpid(), 0)
    return descriptor


def _identify(path: Path, wanted: Identity) -> Identity | None:
    """Return whose directory this is, checked against `wanted`; None when it has yet to be made."""
    version = path / _VERSION
    found = version.read_text(errors="replace").strip() if version.exists() else None
    if found is not None and found != FORMAT and found.isdecimal():
        raise DataDirectoryMismatch(f"{path} has format version {found!r}; this program reads version {FORMAT}")
    node = path / _NODE
    if not node.exists():
        if (path / _MARKER).exists() or not set(os.listdir(path)) - {_LOCK, "lost+found"}:
            return None
        raise IdentityLost(f"{node} is missing from a data directory that was complete; nothing was changed")
    try:
        record = json.loads(node.read_bytes())
        identity = Identity(str(record["node_id"]), str(record["cluster_id"]), str(record["incarnation"]))
    except (ValueError, KeyError, TypeError) as error:
        raise IdentityLost(f"{node} cannot be read as a node's identity: {error}; nothing was changed") from error
    if identity.node_id != wanted.node_id:
        raise DataDirectoryMismatch(f"{path} belongs to node {identity.node_id!r}, not to {wanted.node_id!r}")
    if identity.cluster_id != wanted.cluster_id:
        raise DataDirectoryMismatch(f"{path} belongs to cluster {identity.cluster_id!r}, not to {wanted.cluster_id!r}")
    if found != FORMAT:
        state = "is missing" if found is None else f"cannot be read: {found[:20]!r}"
        raise IdentityLost(f"{version} {state}; nothing was changed")
    (path / _MARKER).unlink(missing_ok=True)
    return identity


def _bootstrap(path: Path, identity: Identity, membership: bytes, options: StoreOptions) -> None:
    """Make the directory, node.json last; whatever a bootstrap that was cut short has left is deleted first."""
    os.close(os.open(path / _MARKER, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))
    fsync_directory(path)
    with contextlib.suppress(PermissionError):
        path.chmod(0o700)
    for name in os.listdir(path):
        if name == _LOG or name.startswith(STATE_PREFIX):
            shutil.rmtree(path / name)
    marks_path(path / _LOG).unlink(missing_ok=True)
    write_file(path / _VERSION, FORMAT.encode() + b"\n")
    cache = Cache(options.cache_bytes)
    StateStore.create(path / _FIRST_STATE, membership=membership, options=options, cache=cache).close()
    LogStore.create(
        path / _LOG, state_directory=_FIRST_STATE, membership=membership, options=options, cache=cache
    ).close()
    for name in (_LOG, _FIRST_STATE):
        fsync_directory(path / name)
    write_file(path / _NODE, json.dumps(asdict(identity), indent=1).encode() + b"\n")
    (path / _MARKER).unlink()
    fsync_directory(path)


def _open_stores(path: Path, lock: int, identity: Identity, options: StoreOptions) -> DataDirectory:
    if not exists(path / _LOG):
        raise LogLost(
            f"the log of node {identity.node_id} is gone from {path}; rejoin the node with an empty directory"
        )
    cache = Cache(options.cache_bytes)
    log = LogStore.open(path / _LOG, options=options, cache=cache)
    try:
        current = log.state_directory.name
        state = StateStore.open(path / current, options=options, cache=cache)
        try:
            check_together(log, state)
            # Only now: a directory that is refused keeps everything it held.
            for name in os.listdir(path):
                if name.startswith((STATE_PREFIX, SNAPSHOT_PREFIX)) and name != current:
                    shutil.rmtree(path / name)
        except BaseException:
            state.close()
            raise
    except BaseException:
        log.close()
        raise
    return DataDirectory(path, lock, identity, log, state, options, cache)


def check_together(log: LogStore, state: StateStore) -> None:
    """Check first_index - 1 <= applied <= last_index, and that both name the same term there.

    Raises LogLost when the log ends before the state, StateDamaged when the state ends before the log begins.
    """
    applied = state.applied
    if applied.index > log.last_index:
        raise LogLost(f"the state holds entry {applied.index}, but the log ends with {log.last_index}")
    if applied.index < log.first_index - 1:
        raise StateDamaged(f"the state ends with entry {applied.index}, but the log begins with {log.first_index}")
    if log.term(applied.index) != applied.term:
        raise StateDamaged(
            f"entry {applied.index} is of term {applied.term} in the state and of {log.term(applied.index)} in the log"
        )
