"""Disks in memory with the semantics of the real stores (`zattredis.storage`): what a crash leaves of each.

The log has a WAL: a power cut leaves what was synced and any prefix of the writes after that; a killed process leaves
all of it. The state has none: a crash leaves the last flush and any prefix of the writes after it, each with its own
applied record. A snapshot is one synced switch.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

from tests.simulation.checks import require
from tests.simulation.disk import _Image
from tests.support.memory_store import MemoryStore
from zattredis.errors import LogCompacted, LogDamaged, SnapshotDamaged, StateDamaged, StorageFailed, WriteStalled
from zattredis.raft.entry import Entry
from zattredis.raft.ready import HardState
from zattredis.server.rejoin import _FILE as REJOINING
from zattredis.storage import large_writes
from zattredis.storage.log_records import StateDirectory
from zattredis.storage.repair import Remembered
from zattredis.storage.snapshots import Chunk, Manifest, Position, SnapshotFile
from zattredis.storage.state_store import APPLIED_KEY, MEMBERSHIP_KEY, Applied, decode_applied, encode_applied

Changes = dict[bytes, bytes | None]
HANGS = float("inf")
"""How long a sync takes on a disk that hangs."""


class SimDisk:
    """What lies on one node's disk. `durable` is the log as a power cut now would leave it."""

    def __init__(self, node_id: str, generation: int) -> None:
        self.node_id = node_id
        self.generation = generation
        self.files: set[str] = set()
        self.incarnation = ""
        self.durable = _Image()
        self.unsynced: list[tuple[Any, ...]] = []
        self.membership = b""
        self.state_directory = StateDirectory("state-0", 0, 0)
        self.states: dict[str, SimState] = {}
        self.snapshots: dict[str, dict[bytes, bytes]] = {}
        self.written: SimLog | None = None
        self.hung = False  # no sync ends
        self.low = False  # little room left
        self.full = False
        self.noted: tuple[str, bool] | None = None  # its node has found it damaged, and will repair it
        self.members: Remembered | None = None
        self.cluster_id = ""
        self.damaged_entries: list[Entry] = []
        self.damaged_keys: set[tuple[str, bytes]] = set()  # (name of the state, key)

    def empty(self) -> None:
        """The node gives up what lies here, to be filled again from the others."""
        self.__init__(self.node_id, self.generation + 1)  # type: ignore[misc]
        self.files.add(REJOINING)

    @property
    def is_damaged(self) -> bool:
        """Whether something on it was damaged, noticed or not."""
        still_there = {id(entry) for entry in self.durable.entries}
        self.damaged_entries = [entry for entry in self.damaged_entries if id(entry) in still_there]
        return bool(self.damaged_entries or self.damaged_keys)

    def check_entries(self, entries: Sequence[Entry]) -> None:
        """Entries are read from the disk, with their checksums."""
        for damaged in self.damaged_entries:
            if any(entry is damaged for entry in entries):
                raise LogDamaged(f"injected: log entry {damaged.index} (term {damaged.term}) fails its checksum")

    # --- what the checks ask ---

    @property
    def durable_hard_state(self) -> HardState:
        return self.durable.hard_state

    @property
    def durable_last_index(self) -> int:
        return self.durable.first_index + len(self.durable.entries) - 1

    def holds_durably(self, index: int, term: int) -> bool:
        """Return whether a power cut now would leave entry (`index`, `term`), or a state that contains it."""
        image = self.durable
        if index < image.first_index:
            return True
        position = index - image.first_index
        return position < len(image.entries) and image.entries[position].term == term

    def term(self, index: int) -> int:
        assert self.written is not None
        return self.written.term(index)

    # --- crashes ---

    def sync_first(self, count: int) -> None:
        """Make the first `count` unsynced writes durable."""
        durable = self.durable
        for operation in self.unsynced[:count]:
            before = durable.hard_state
            if operation[0] == "compact":
                durable.compact(operation[1])
                continue
            durable.write(operation[1], operation[2])
            after = durable.hard_state
            require(after.term >= before.term, f"{self.node_id}: stored term fell from {before} to {after}")
            same_vote = after.term > before.term or before.vote in (None, after.vote)
            require(same_vote, f"{self.node_id}: a stored vote changed from {before} to {after}")
        del self.unsynced[:count]

    def crash(self, rng: random.Random, power: bool) -> str:
        """The process is gone, perhaps the power too. Returns what that cost."""
        total = len(self.unsynced)
        kept = rng.choice([0, total, rng.randrange(total + 1)]) if power else total
        self.sync_first(kept)
        self.unsynced.clear()
        lost = 0
        for name in list(self.states):
            if name != self.state_directory.name:
                del self.states[name]
            else:
                lost = self.states[name].crash(rng)
        self.snapshots.clear()
        self.written = None
        return f"{total - kept} of {total} unsynced writes and {lost} writes of the state are lost"


class SimLog:
    """Stands for `storage.log_store.LogStore`."""

    def __init__(self, disk: SimDisk, stalls: Callable[[], bool], on_append: Callable[[list[Entry]], None]) -> None:
        self._disk = disk
        self._image = disk.durable.copy()
        self._stalls = stalls
        self._on_append = on_append
        self.failure: StorageFailed | None = None
        disk.written = self

    @property
    def first_index(self) -> int:
        return self._image.first_index

    @property
    def last_index(self) -> int:
        return self._image.first_index + len(self._image.entries) - 1

    @property
    def hard_state(self) -> HardState:
        return self._image.hard_state

    @property
    def membership(self) -> bytes:
        return self._disk.membership

    @property
    def state_directory(self) -> StateDirectory:
        return self._disk.state_directory

    @property
    def size_bytes(self) -> int:
        return sum(len(entry.raw) for entry in self._image.entries)

    def term(self, index: int) -> int:
        image = self._image
        if index < image.first_index - 1:
            raise LogCompacted(f"{index} is compacted")
        if index == image.first_index - 1:
            return image.term_before
        return image.entries[index - image.first_index].term

    def first_within(self, bytes_max: int) -> int:
        image = self._image
        size, first = 0, self.last_index + 1
        for entry in reversed(image.entries):
            size += len(entry.raw)
            if size > bytes_max:
                break
            first = entry.index
        return first

    def entries(self, low: int, high: int, bytes_max: int) -> list[Entry]:
        image = self._image
        if low < image.first_index:
            raise LogCompacted(f"{low} is compacted")
        if high > self.last_index + 1:
            raise IndexError(high)
        part = image.entries[low - image.first_index : high - image.first_index]
        size = 0
        for count, entry in enumerate(part):
            size += len(entry.raw)
            if size > bytes_max and count:
                part = part[:count]
                break
        self._disk.check_entries(part)
        return part

    def stage(self, entry: Entry) -> None:
        """Nothing to prepare."""

    def append(self, entries: Sequence[Entry], hard_state: HardState | None) -> None:
        if self.failure is not None:
            raise self.failure
        if self._stalls():
            raise WriteStalled("stalled")
        entries = list(entries)
        self._image.write(entries, hard_state)
        self._disk.unsynced.append(("append", entries, hard_state))
        self._on_append(entries)

    def compact(self, first_index: int, term_before: int) -> None:
        if first_index <= self.first_index:
            return
        assert self.term(first_index - 1) == term_before and first_index <= self.last_index + 1
        state = self._disk.states[self._disk.state_directory.name]
        flushed = decode_applied(state.flushed[APPLIED_KEY]).index
        require(first_index - 1 <= flushed, f"{self._disk.node_id} compacts to {first_index}, flushed is {flushed}")
        self._image.compact(first_index)
        self._disk.unsynced.append(("compact", first_index))

    def switch_state(self, directory: str, index: int, term: int, membership: bytes) -> None:
        disk, image = self._disk, self._image
        disk.sync_first(len(disk.unsynced))
        keeps = self.first_index - 1 <= index <= self.last_index and self.term(index) == term
        for each in (image, disk.durable):
            if keeps:
                each.compact(index + 1)
            else:
                each.entries = []
            each.first_index, each.term_before = index + 1, term
        disk.state_directory = StateDirectory(directory, index, term)
        disk.membership = membership

    def close(self) -> None:
        if self.failure is None:
            self._disk.sync_first(len(self._disk.unsynced))


class SimFrozen(MemoryStore):
    """One point in time of a state; gone with the state."""


class SimState(MemoryStore):
    """Stands for `storage.state_store.StateStore`. `digest` depends on the content alone."""

    def __init__(self, path: SimPath, content: dict[bytes, bytes]) -> None:
        super().__init__(content)
        self.path = path
        self.flushed = dict(content)
        self.digest = 0
        for pair in content.items():
            self.digest ^= hash(pair)
        self.stalls: Callable[[], bool] = lambda: False
        self.on_write: Callable[[SimState], None] = lambda state: None
        self.detached = False
        self._since_flush: list[Changes] = []
        self._damaged: list[bytes] = []
        large_writes.finish(self, {APPLIED_KEY: content[APPLIED_KEY]})  # as whoever opens a state does
        self.damage(path.disk)

    def damage(self, disk: SimDisk) -> None:
        """Take over what the disk says of damage to this state's files."""
        self._damaged = [key for name, key in disk.damaged_keys if name == self.path.name]

    def _check_open(self) -> None:
        if self.detached:
            raise StorageFailed("the state is closed")

    def _check_key(self, key: bytes) -> None:
        """A block of a file is read with its checksum; what was written since lies in memory."""
        if key in self._damaged and not any(key in changes for changes in self._since_flush):
            raise StateDamaged(f"injected: the block with {key!r} fails its checksum")

    @property
    def applied(self) -> Applied:
        return decode_applied(self.data.get(APPLIED_KEY))

    def get(self, key: bytes) -> bytes | None:
        self._check_open()
        if self._damaged:
            self._check_key(key)
        return super().get(key)

    def multi_get(self, keys: list[bytes]) -> list[bytes | None]:
        self._check_open()
        if self._damaged:
            for key in keys:
                self._check_key(key)
        return super().multi_get(keys)

    def iterate(self, lower: bytes, upper: bytes | None, reverse: bool = False) -> Iterator[tuple[bytes, bytes]]:
        self._check_open()
        for key in self._damaged:
            if lower <= key and (upper is None or key < upper):
                self._check_key(key)
        return super().iterate(lower, upper, reverse)

    def frozen(self) -> SimFrozen:
        self._check_open()
        return SimFrozen(self.data)

    def write(self, changes: Changes) -> None:
        self._check_open()
        assert APPLIED_KEY in changes
        if self.stalls():
            raise WriteStalled("stalled")
        data, digest = self.data, self.digest
        for name, value in changes.items():
            old = data.get(name)
            if old is not None:
                digest ^= hash((name, old))
            if value is not None:
                digest ^= hash((name, value))
        self.digest = digest
        super().write(changes)
        self._since_flush.append(dict(changes))
        self.on_write(self)

    def flush(self) -> Applied:
        self._check_open()
        if self.path.disk.full:
            raise StorageFailed("injected: no space left on the device")
        self.flushed = dict(self.data)
        self._since_flush.clear()
        return self.applied

    def crash(self, rng: random.Random) -> int:
        """Lose everything after some write since the last flush; return how many writes that cost."""
        total = len(self._since_flush)
        kept = rng.choice([0, 0, rng.randrange(total + 1)])
        store = MemoryStore(self.flushed)
        for changes in self._since_flush[:kept]:
            store.write(changes)
        self.__init__(self.path, store.data)  # type: ignore[misc]
        return total - kept

    def detach(self) -> Callable[[], None]:
        self.detached = True
        return lambda: None

    def close(self) -> None:
        if not self.detached:
            self.flush()
            self.detached = True

    def property_int(self, name: str) -> int | None:
        return 0


class SimPath:
    """As much of a pathlib.Path as the server uses, on a SimDisk."""

    def __init__(self, disk: SimDisk, name: str = "") -> None:
        self.disk = disk
        self.name = name

    def __truediv__(self, name: str) -> SimPath:
        return SimPath(self.disk, name)

    @property
    def parent(self) -> SimPath:
        return SimPath(self.disk)

    def exists(self) -> bool:
        return self.name in self.disk.files

    def touch(self, mode: int = 0o666) -> None:
        self.disk.files.add(self.name)

    def unlink(self, missing_ok: bool = False) -> None:
        self.disk.files.discard(self.name)

    def __str__(self) -> str:
        return f"{self.disk.node_id}:/{self.name}"


class SimDataDirectory:
    """Stands for `storage.datadir.DataDirectory`; made by `open_disk`."""

    def __init__(self, disk: SimDisk, log: SimLog, cluster_id: str) -> None:
        self.disk = disk
        self.log = log
        self.path = SimPath(disk)
        self.state = disk.states[disk.state_directory.name]
        self.identity = SimpleNamespace(node_id=disk.node_id, cluster_id=cluster_id, incarnation=disk.incarnation)
        self.stalls: Callable[[], bool] = lambda: False
        self.on_write: Callable[[SimState], None] = lambda state: None

    def watch_state(self) -> None:
        """Let the present state stall and be checked."""
        self.state.stalls = self.stalls
        self.state.on_write = self.on_write

    def remember_members(self, voters: tuple[str, ...], addresses: Mapping[str, str]) -> None:
        self.disk.members = Remembered(tuple(voters), dict(addresses))

    def free_bytes(self) -> int:
        return 0 if self.disk.low else 1 << 40

    def incoming_path(self, index: int) -> SimPath:
        name = f"state-{index}"
        if name == self.disk.state_directory.name:
            raise SnapshotDamaged(f"the snapshot of entry {index} is what this node's state began with")
        return SimPath(self.disk, name)

    def wait_discarded(self) -> None:
        """An install has done so at once."""

    def take_leftovers(self, kept: SimPath) -> list[SimPath]:
        for name in [name for name in self.disk.snapshots if name.startswith("state-") and name != kept.name]:
            del self.disk.snapshots[name]
        return []

    def outgoing_path(self, index: int) -> SimPath:
        return SimPath(self.disk, f"snapshot-{index}")

    def install(self, directory: SimPath, index: int, term: int, membership: bytes) -> None:
        incoming = SimState(directory, self.disk.snapshots.pop(directory.name))
        applied = incoming.applied
        if (applied.index, applied.term) != (index, term):
            raise StateDamaged(f"{directory} holds the state of {applied}, not {index} ({term})")
        self.disk.states[directory.name] = incoming  # complete before anything names it; a crash deletes the others
        self.log.switch_state(directory.name, index, term, membership)
        old, self.state = self.state, incoming
        old.detach()
        self.disk.states.pop(old.path.name, None)
        self.watch_state()
        self.on_write(incoming)

    def close(self) -> None:
        self.state.close()
        self.log.close()


def open_disk(
    disk: SimDisk,
    *,
    cluster_id: str,
    incarnation: str,
    membership: bytes,
    stalls: Callable[[], bool],
    on_append: Callable[[list[Entry]], None],
) -> SimDataDirectory:
    """Open what lies on `disk`, or begin on an empty one."""
    if not disk.incarnation:
        disk.incarnation = incarnation
        disk.cluster_id = cluster_id
        disk.membership = membership
        content = {APPLIED_KEY: encode_applied(0, 0), MEMBERSHIP_KEY: membership}
        disk.states["state-0"] = SimState(SimPath(disk, "state-0"), content)
    if disk.full:
        raise StorageFailed("injected: no space left on the device")
    name = disk.state_directory.name
    disk.states[name] = SimState(SimPath(disk, name), disk.states[name].data)
    disk.check_entries(disk.durable.entries)
    log = SimLog(disk, stalls, on_append)
    applied = disk.states[name].applied
    together = log.first_index - 1 <= applied.index <= log.last_index and log.term(applied.index) == applied.term
    require(together, f"{disk.node_id}: the state is at {applied}, the log at {log.first_index}..{log.last_index}")
    return SimDataDirectory(disk, log, cluster_id)


# --- syncs ---


class SimSync:
    """Stands for `storage.sync_thread.SyncThread`. `duration` draws how long a sync takes, None: it fails."""

    def __init__(
        self,
        log: SimLog,
        *,
        call_soon: Callable[..., Any],
        on_durable: Callable[[int], None],
        on_failure: Callable[[Exception], None],
        on_slow: Callable[[float], None] | None = None,
        slow_sync_ms: float = 100.0,
        duration: Callable[[], float | None],
        after: Callable[[float, Callable[[], None]], None],
    ) -> None:
        self._log = log
        self._disk = log._disk
        self._call_soon = call_soon
        self._on_durable = on_durable
        self._on_failure = on_failure
        self._duration = duration
        self._after = after
        self._requested = 0
        self._durable = 0
        self._running: list[int] | None = None
        self._ends_in = 0.0
        self._closed = False
        self.syncs = 0
        self.total_s = 0.0
        self.durations_ms: deque[float] = deque()

    def request(self, write_number: int) -> None:
        if self._log.failure is not None:
            raise self._log.failure
        self._requested = write_number
        if self._running is None:
            self._begin()

    def wait(self, timeout_s: float) -> int:
        if self._log.failure is not None:
            raise self._log.failure
        # A quick disk answers while the loop waits: whatever was asked for is then durable.
        if self._running is not None and self._ends_in <= timeout_s:
            self._finish()
            if self._running is not None and self._ends_in <= timeout_s / 2:
                self._finish()
        return self._durable

    def go_on(self) -> None:
        """The disk answers again."""
        running = self._running
        if running is not None and self._ends_in == HANGS:
            self._ends_in = 0.001
            self._after(0.001, lambda: self._finish() if self._running is running else None)

    def _begin(self) -> None:
        duration = HANGS if self._disk.hung else self._duration()
        self._running = running = [self._requested, len(self._disk.unsynced)]
        self._ends_in = 1e9 if duration is None else duration
        if duration == HANGS:
            return

        def end() -> None:
            if self._running is running:
                if duration is None:
                    self._fail()
                else:
                    self._finish()

        self._after(0.01 if duration is None else duration, end)

    def _finish(self) -> None:
        assert self._running is not None
        target, count = self._running
        self._running = None
        if self._closed:
            return
        self._disk.sync_first(count)
        self._durable = target
        self.syncs += 1
        self._call_soon(self._on_durable, target)
        if self._requested > target:
            self._begin()

    def _fail(self) -> None:
        self._running = None
        self._log.failure = StorageFailed("injected: the sync failed")
        self._call_soon(self._on_failure, self._log.failure)

    def close(self) -> None:
        self._closed = True
        if self._log.failure is None:
            self._disk.sync_first(len(self._disk.unsynced))


# --- snapshots ---

_CONTENT: dict[bytes, dict[bytes, bytes]] = {}


def create_snapshot(store: SimState, path: SimPath) -> Manifest:
    """Stands for `storage.snapshots.create_snapshot`."""
    applied = store.flush()
    if store._damaged:
        # The files are linked, not read: nothing would notice here, and the damage would travel until somebody reads
        # it there. That is found by the operator; so that one disk stays the only damaged one, it is found now.
        raise StateDamaged("injected: a block of the snapshot's files fails its checksum")
    path.disk.snapshots[path.name] = dict(store.data)
    file = SnapshotFile("CURRENT", 8, b"\0" * 32)
    membership = store.data[MEMBERSHIP_KEY]
    return Manifest(applied.index, applied.term, membership, [file])


class SimSource:
    """Stands for `storage.snapshots.SnapshotSource`. Its chunk is the whole content, by reference."""

    def __init__(self, manifest: Manifest, path: SimPath) -> None:
        self.manifest = manifest
        self.path = path
        self._content = path.disk.snapshots.get(path.name)

    def chunks(self, position: Position, chunk_bytes: int) -> Iterator[Chunk]:
        if position.file == 0:
            content = self.path.disk.snapshots.get(self.path.name)
            if content is None:
                raise ConnectionResetError(f"the sender of {self.path} has ended")
            yield Chunk(0, 0, content, 0)  # type: ignore[arg-type]

    def delete(self) -> None:
        self.path.disk.snapshots.pop(self.path.name, None)


class SimSink:
    """Stands for `storage.snapshots.SnapshotSink`."""

    def __init__(self, directory: SimPath) -> None:
        self._directory = directory
        self._manifest: Manifest | None = None
        self.position = Position(0, 0)

    def begin(self, manifest: Manifest) -> Position:
        self._manifest = manifest
        self._directory.disk.snapshots.pop(self._directory.name, None)
        self.position = Position(0, 0)
        return self.position

    def write(self, chunk: Chunk) -> None:
        assert self._manifest is not None and self.position == (0, 0)
        self._directory.disk.snapshots[self._directory.name] = dict(chunk.data)  # type: ignore[call-overload]
        self.position = Position(1, 0)

    def finish(self) -> Manifest:
        if self._manifest is None or self.position.file != 1:
            raise SnapshotDamaged("a snapshot was ended before it was complete")
        return self._manifest

    def abandon(self) -> None:
        self._directory.disk.snapshots.pop(self._directory.name, None)
        self._manifest = None

    def close(self) -> None:
        """Nothing is open."""


__all__ = ["REJOINING", "SimDataDirectory", "SimDisk", "SimSync", "create_snapshot", "open_disk"]
