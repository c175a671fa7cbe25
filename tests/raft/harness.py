"""Scripted scenarios: nodes whose ticks, messages and disks move only when the script says so."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from typing import Any

from tests.simulation.disk import Disk, State
from zattredis.raft.core import Core
from zattredis.raft.entry import BATCH, Entry, make_entry
from zattredis.raft.membership import Membership, simple_membership
from zattredis.raft.messages import InstallSnapshot, Message, ReadIndexResponse
from zattredis.raft.ready import CoreConfig, ElectionStarted, Event, HardState, ReadConfirmed
from zattredis.raft.state import LEADER


class Peer:
    """One node: its core (None while it is down), its disk, and what it has told so far."""

    def __init__(self, node_id: str, disk: Disk, config: CoreConfig) -> None:
        self.node_id = node_id
        self.disk = disk
        self.config = config
        self.core: Core = None  # type: ignore[assignment]  # set by start; a script never uses a node that is down
        self.state = disk.state.copy()
        self.entries: list[Entry] = []
        self.disk_answers = True
        self.applies = True
        self.unacknowledged: list[int] = []
        self.events: list[Event] = []
        self.reads: list[ReadConfirmed] = []
        self.answers: list[ReadIndexResponse] = []
        self.snapshots: list[str] = []

    def start(self) -> None:
        """Start from the disk."""
        self.state = self.disk.state.copy()
        self.unacknowledged = []
        self.core = Core(
            self.config,
            self.disk,
            self.disk.hard_state,
            self.state.membership,
            self.state.applied_index,
            random.Random(self.node_id),
            self.state.stamp_ms,
        )

    @property
    def log(self) -> list[int]:
        """The terms of all entries from the first one held."""
        return [self.core.log.term(i) for i in range(self.disk.first_index, self.core.last_index + 1)]

    def saw(self, kind: type[Event]) -> list[Any]:
        """Return the events of one kind so far."""
        return [e for e in self.events if isinstance(e, kind)]


class Cluster:
    """`messages` under way are delivered by `run`; `drop` decides which are lost."""

    def __init__(
        self, ids: Iterable[str] = "abc", learners: Iterable[str] = (), strangers: str = "", **config: Any
    ) -> None:
        membership = simple_membership([*ids, *learners], learners)
        self.peers: dict[str, Peer] = {}
        self.messages: list[Message] = []
        self.sent: list[Message] = []
        self.drop: Callable[[Message], bool] = lambda message: False
        self._cut: set[str] = set()
        for node_id in [*ids, *learners, *strangers]:
            first = membership if node_id not in strangers else Membership()
            self.peers[node_id] = Peer(node_id, Disk(first), CoreConfig(node_id, **config))
            self.peers[node_id].start()

    def __getitem__(self, node_id: str) -> Core:
        return self.peers[node_id].core

    # --- faults -------------------------------------------------------------------------------------------------------

    def isolate(self, *ids: str) -> None:
        """Lose everything from and to these nodes."""
        self._cut.update(ids)

    def heal(self) -> None:
        """End all isolation and dropping."""
        self._cut.clear()
        self.drop = lambda message: False

    def hold_disk(self, node_id: str) -> None:
        """Writes are taken but not acknowledged, and a crash loses them."""
        self.peers[node_id].disk_answers = False

    def release_disk(self, node_id: str) -> None:
        """Acknowledge what was held."""
        peer = self.peers[node_id]
        peer.disk_answers = True
        for number in peer.unacknowledged:
            peer.disk.sync(number)
            peer.core.persisted(number)
        peer.unacknowledged = []
        self._turn(peer)

    def crash(self, node_id: str, survivors: int = 0) -> None:
        """Cut the power: unacknowledged writes are lost but for the first `survivors`."""
        peer = self.peers[node_id]
        peer.core = None  # type: ignore[assignment]
        peer.disk.crash(survivors)
        peer.disk_answers = True

    def restart(self, node_id: str) -> Core:
        """Start a crashed node from its disk."""
        self.peers[node_id].start()
        return self.peers[node_id].core

    # --- the driver ---------------------------------------------------------------------------------------------------

    def _turn(self, peer: Peer) -> None:
        core = peer.core
        while core.has_ready():
            out = core.ready()
            self.sent += out.messages
            self.messages += out.messages
            if out.write_number:
                peer.disk.append(out.write_number, out.entries, out.hard_state)
            peer.entries += out.committed
            peer.events += out.events
            peer.snapshots += out.snapshots
            peer.answers += out.read_answers
            for read in out.reads:
                if read.node_id == peer.node_id:
                    peer.reads.append(read)
                else:
                    answer = ReadIndexResponse(peer.node_id, read.node_id, core.term, read.context, read.index, 0, True)
                    self.messages.append(answer)
            if out.committed and peer.applies:
                for entry in out.committed:
                    peer.state.apply(entry)
                core.applied(out.committed[-1].index)
            if out.write_number:
                if peer.disk_answers:
                    peer.disk.sync(out.write_number)
                    core.persisted(out.write_number)
                else:
                    peer.unacknowledged.append(out.write_number)

    def turn(self, *ids: str) -> None:
        """Carry out what is ready, without delivering messages."""
        for node_id in ids or self.peers:
            if self.peers[node_id].core is not None:
                self._turn(self.peers[node_id])

    def deliver(self, message: Message) -> None:
        """Deliver one message."""
        peer = self.peers.get(message.dst)
        if peer is not None and peer.core is not None:
            peer.core.step(message)
            self._turn(peer)

    def run(self) -> None:
        """Deliver everything until nothing is under way."""
        self.turn()
        for _ in range(100_000):
            if not self.messages:
                return
            message = self.messages.pop(0)
            if message.src in self._cut or message.dst in self._cut or self.drop(message):
                continue
            self.deliver(message)
        raise AssertionError("messages without end")

    def take(self, kind: type[Message]) -> list[Any]:
        """Take the messages of one kind off the wire."""
        taken = [m for m in self.messages if isinstance(m, kind)]
        self.messages = [m for m in self.messages if not isinstance(m, kind)]
        return taken

    def tick(self, node_id: str, count: int = 1) -> None:
        """Let one node's clock go, without delivering messages."""
        for _ in range(count):
            self[node_id].tick()
            self._turn(self.peers[node_id])

    def tick_all(self, count: int = 1) -> None:
        """Let all clocks go, delivering after each tick."""
        for _ in range(count):
            for node_id, peer in self.peers.items():
                if peer.core is not None:
                    self.tick(node_id)
            self.run()

    # --- shortcuts ----------------------------------------------------------------------------------------------------

    def campaign(self, node_id: str) -> None:
        """Let one node's election timeout pass (and the others' leases)."""
        for other in self.peers.values():
            if other.core is not None and other.node_id != node_id:
                other.core.election_elapsed = max(other.core.election_elapsed, other.config.election_timeout_ticks)
        peer = self.peers[node_id]
        before = len(peer.saw(ElectionStarted))
        for _ in range(10 * peer.config.election_timeout_ticks):
            self.tick(node_id)
            if len(peer.saw(ElectionStarted)) > before:
                return
        raise AssertionError(f"{node_id} does not campaign")

    def elect(self, node_id: str) -> Core:
        """Make one node the leader; its first entry is committed wherever messages reach."""
        self.campaign(node_id)
        self.run()
        core = self[node_id]
        assert core.role == LEADER, f"{node_id} is a {core.role}"
        return core

    def propose(self, node_id: str, payload: bytes = b"x", stamp_ms: int = 0) -> int:
        """Propose one entry."""
        index = self[node_id].propose(BATCH, payload, stamp_ms, 1)
        self._turn(self.peers[node_id])
        return index

    def write(self, node_id: str, count: int = 1) -> int:
        """Propose and deliver."""
        index = 0
        for _ in range(count):
            index = self.propose(node_id)
        self.run()
        return index

    def stream_snapshot(self, src: str, dst: str) -> bool:
        """Do what the servers do when `Ready.snapshots` names a follower; returns whether it was installed."""
        source, target = self.peers[src], self.peers[dst]
        source.disk.flush(source.state)
        snapshot = source.state.copy()
        offer = InstallSnapshot(src, dst, source.core.term, snapshot.applied_index, snapshot.applied_term)
        ok = target.core.accepts_snapshot(offer)
        self._turn(target)
        if ok:
            self.install(dst, snapshot)
        source.core.report_snapshot(dst, ok, offer.index)
        self.turn()
        return ok

    def install(self, node_id: str, snapshot: State) -> None:
        """Replace a node's log and state."""
        peer = self.peers[node_id]
        peer.disk.switch_state(snapshot)
        peer.state = snapshot.copy()
        peer.core.snapshot_installed(
            snapshot.applied_index, snapshot.applied_term, snapshot.membership, snapshot.stamp_ms
        )
        self._turn(peer)

    def compact(self, node_id: str, first_index: int) -> None:
        """Flush the state and drop the log before `first_index`."""
        peer = self.peers[node_id]
        peer.disk.flush(peer.state)
        peer.disk.compact(first_index)
        peer.core.compacted()


def raw_entry(index: int, term: int, payload: bytes = b"y") -> bytes:
    """Return the bytes of an entry made up by a script."""
    return make_entry(index, term, BATCH, 1, 0, payload).raw


def make_disk(
    terms: Iterable[int], membership: Membership, *, term: int = 0, vote: str | None = None, commit: int = 0
) -> Disk:
    """Return a disk with one entry per term given, all durable, and a hard state."""
    disk = Disk(membership)
    entries = [make_entry(i, t, BATCH, 1, 0, b"y") for i, t in enumerate(terms, 1)]
    last_term = entries[-1].term if entries else 0
    disk.append(1, entries, HardState(max(term, last_term), vote, commit))
    disk.sync(1)
    return disk


def cluster_of(disks: dict[str, Disk], **config: Any) -> Cluster:
    """Return a cluster that starts from these disks."""
    cluster = Cluster(disks, **config)
    for node_id, disk in disks.items():
        peer = cluster.peers[node_id]
        peer.disk = disk
        peer.start()
    return cluster
