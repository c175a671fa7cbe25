"""The driver of one simulated node: carries out each Ready against the simulated disk and network."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from tests.simulation.disk import Disk, State
from zattredis.raft.core import Core
from zattredis.raft.entry import Entry
from zattredis.raft.messages import InstallSnapshot, Message, ReadIndexResponse
from zattredis.raft.ready import BecameLeader, CoreConfig, MembershipChanged, Ready
from zattredis.raft.state import LEADER

if TYPE_CHECKING:
    from tests.simulation.world import World


class Node:
    """`epoch` counts the lives of the process: whatever was scheduled in an earlier one is void."""

    def __init__(self, world: World, node_id: str, disk: Disk, config: CoreConfig) -> None:
        self.world = world
        self.node_id = node_id
        self.disk = disk
        self.config = config
        self.epoch = 0
        self.core: Core | None = None
        self.state = disk.state.copy()
        self._syncing = False
        self._newest_write = 0
        self._unapplied: list[Entry] = []
        self._proposed: dict[int, int] = {}
        self._reads: dict[int, int] = {}
        self._confirmed: list[tuple[int, int]] = []

    # --- life ---------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start from what the disk holds."""
        assert self.core is None
        self.epoch += 1
        self.state = self.disk.state.copy()
        self._syncing, self._newest_write = False, 0
        self._unapplied, self._proposed, self._reads, self._confirmed = [], {}, {}, []
        rng = random.Random(f"{self.world.seed}/{self.node_id}/{self.epoch}")
        state = self.state
        self.core = Core(
            self.config, self.disk, self.disk.hard_state, state.membership, state.applied_index, rng, state.stamp_ms
        )
        self.turn()

    def crash(self, survivors: int) -> None:
        """Lose the process and the power."""
        self.core = None
        self.epoch += 1
        self.disk.crash(survivors)

    # --- inputs -------------------------------------------------------------------------------------------------------

    def tick(self) -> None:
        """A tick of this node's clock."""
        if self.core is not None:
            self.core.tick()
            self.turn()

    def receive(self, message: Message) -> None:
        """A message has arrived."""
        if self.core is not None:
            self.core.step(message)
            self.turn()

    def propose(self, kind: int, payload: bytes, stamp_ms: int) -> None:
        """A client writes through this node, which leads."""
        assert self.core is not None
        index = self.core.propose(kind, payload, stamp_ms, 1)
        self._proposed[index] = self.core.term
        self.turn()

    def read(self, context: int) -> None:
        """A client reads at this node."""
        if self.core is not None:
            self._reads[context] = self.world.checks.visible_index
            self.core.read_index(context)
            self.turn()

    # --- the turn -----------------------------------------------------------------------------------------------------

    def turn(self) -> None:
        """Carry out everything that is ready."""
        core = self.core
        while core is not None and core.has_ready():
            self._carry_out(core, core.ready())
            core = self.core

    def _carry_out(self, core: Core, out: Ready) -> None:
        world = self.world
        for event in out.events:
            world.trace(f"{self.node_id} {event}")
            if isinstance(event, BecameLeader):
                world.checks.leader_elected(self.node_id, core)
            elif isinstance(event, MembershipChanged):
                world.checks.memberships.append(event.membership)
        for message in out.messages:
            world.checks.sent(message)
            world.network.send(message)
        if out.write_number:
            self.disk.append(out.write_number, out.entries, out.hard_state)
            world.checks.written(self.node_id, out.entries)
            self._newest_write = out.write_number
            self._start_sync()
        if out.committed:
            self._unapplied += out.committed
            self._later(world.apply_delay(), self._apply)
        for read in out.reads:
            if read.node_id == self.node_id:
                self._confirm(read.context, read.index)
            else:
                answer = ReadIndexResponse(self.node_id, read.node_id, core.term, read.context, read.index, 0, True)
                world.network.send(answer)
        for answer in out.read_answers:
            if answer.ok:
                self._confirm(answer.context, answer.index)
        for target in out.snapshots:
            self._stream_snapshot(core, target)

    def _later(self, delay: float, action: object) -> None:
        """Run `action` in this life only; at once when there is no delay."""
        assert callable(action)
        if delay <= 0:
            action()
            return
        epoch = self.epoch

        def run() -> None:
            if self.epoch == epoch:
                action()
                self.turn()

        self.world.schedule(delay, run)

    def _start_sync(self) -> None:
        if self._syncing:
            return
        self._syncing = True
        covered = self._newest_write
        self._later(self.world.sync_delay(), lambda: self._synced(covered))

    def _synced(self, covered: int) -> None:
        self._syncing = False
        self.disk.sync(covered)
        assert self.core is not None
        self.core.persisted(covered)
        if covered < self._newest_write:
            self._start_sync()

    def _apply(self) -> None:
        core = self.core
        if core is None or not self._unapplied:
            return
        batch, self._unapplied = self._unapplied, []
        for entry in batch:
            self.state.apply(entry)
            self.world.checks.applied(self.node_id, entry, self.state, core.term)
            if self._proposed.pop(entry.index, None) == entry.term:
                self.world.checks.acknowledged(entry.index)
                self.world.writes_acknowledged += 1
        core.applied(self.state.applied_index)
        self._serve_reads()

    # --- reads --------------------------------------------------------------------------------------------------------

    def _confirm(self, context: int, index: int) -> None:
        self._confirmed.append((context, index))
        self._serve_reads()

    def _serve_reads(self) -> None:
        waiting = []
        for context, index in self._confirmed:
            if index > self.state.applied_index:
                waiting.append((context, index))
                continue
            floor = self._reads.pop(context, None)
            if floor is not None:
                self.world.checks.read_served(self.node_id, floor, index, self.state.applied_index)
                self.world.reads_served += 1
        self._confirmed = waiting

    # --- snapshots ----------------------------------------------------------------------------------------------------

    def flush_and_compact(self, keep: int) -> None:
        """Flush the state and drop the log behind it but for `keep` entries."""
        if self.core is None:
            return
        self.disk.flush(self.state)
        first = self.state.applied_index + 1 - keep
        if first > self.disk.first_index:
            self.world.trace(f"{self.node_id} compacts to {first}")
            self.disk.compact(first)
            self.core.compacted()
            self.turn()

    def _stream_snapshot(self, core: Core, target: str) -> None:
        """Stream the applied state; the offer passes the receiver's term gate first."""
        self.disk.flush(self.state)
        snapshot = self.state.copy()
        offer = InstallSnapshot(self.node_id, target, core.term, snapshot.applied_index, snapshot.applied_term)
        self.world.trace(f"{self.node_id} streams a snapshot of {snapshot.applied_index} to {target}")
        self._later(self.world.snapshot_delay(), lambda: self._snapshot_arrives(target, offer, snapshot))

    def _snapshot_arrives(self, target: str, offer: InstallSnapshot, snapshot: State) -> None:
        world = self.world
        receiver = world.nodes[target]
        ok = world.network.connected(self.node_id, target) and receiver.install(offer, snapshot)
        if self.core is not None and self.core.role == LEADER:
            self.core.report_snapshot(target, ok, offer.index)

    def install(self, offer: InstallSnapshot, snapshot: State) -> bool:
        """Install a snapshot if the core takes it; returns whether it did."""
        core = self.core
        if core is None:
            return False
        taken = core.accepts_snapshot(offer)
        if taken:
            self.turn()
            taken = self.core is not None and core.accepts_snapshot(offer)
        if taken:
            self.world.trace(f"{self.node_id} installs a snapshot of {offer.index}")
            self.world.snapshots_installed += 1
            self.disk.switch_state(snapshot)
            self.state = snapshot.copy()
            self._unapplied = []
            self.world.checks.installed(self.node_id, self.state)
            core.snapshot_installed(offer.index, offer.snapshot_term, snapshot.membership, snapshot.stamp_ms)
        self.turn()
        return taken
