"""The world of one run: virtual time, the nodes, the clients and the faults, all drawn from one seed."""

from __future__ import annotations

import hashlib
import heapq
import itertools
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

from tests.simulation.checks import Checks, Violation
from tests.simulation.disk import Disk
from tests.simulation.network import Network, Weather
from tests.simulation.node import Node
from zattredis.errors import ProposalRefused
from zattredis.raft.entry import BATCH
from zattredis.raft.membership import Membership, simple_membership
from zattredis.raft.messages import Message
from zattredis.raft.ready import CoreConfig
from zattredis.raft.state import LEADER

EVENTS_PER_TICK_MAX = 2_000
"""More than this for each tick is an endless loop."""


@dataclass(frozen=True)
class Plan:
    """What a seed decides about its run. Rates are per tick."""

    voters: int
    weather: Weather
    crash: float
    partition: float
    transfer: float
    membership: float
    compaction: float
    slow_disk: float
    slow_apply: float
    write: float
    read: float
    storm_ticks: int
    config: dict[str, int] = field(default_factory=dict)


def make_plan(rng: random.Random, *, long: bool, membership: bool) -> Plan:
    """Draw a plan: every run has some faults, few have all."""

    def sometimes(value: float) -> float:
        return value if rng.random() < 0.6 else 0.0

    weather = Weather(
        loss=sometimes(rng.choice([0.01, 0.05, 0.2])),
        duplication=sometimes(0.05),
        delay_max=rng.choice([0.1, 0.5, 2.0]),
        late=sometimes(0.03),
    )
    return Plan(
        voters=rng.choice([1, 2, 3, 3, 3, 3, 4, 5]),
        weather=weather,
        crash=sometimes(rng.choice([0.01, 0.03])),
        partition=sometimes(0.02),
        transfer=sometimes(0.02),
        membership=0.05 if membership else 0.0,
        compaction=sometimes(rng.choice([0.02, 0.1])),
        slow_disk=sometimes(0.02),
        slow_apply=sometimes(0.2),
        write=rng.choice([0.3, 1.0]),
        read=rng.choice([0.3, 1.0]),
        storm_ticks=1200 if long else 220,
        config={
            "window_entries": rng.choice([1, 4, 4096]),
            "message_bytes_max": rng.choice([1, 200, 1 << 18]),
            "tail_bytes_max": rng.choice([0, 300, 1 << 24]),
            "apply_bytes_max": rng.choice([1, 200, 1 << 23]),
            "uncommitted_bytes_max": rng.choice([500, 1 << 26]),
        },
    )


class World:
    """One run. `trace_hash` is a function of the seed alone."""

    def __init__(self, seed: int, *, long: bool = False, membership: bool = False, verbose: bool = False) -> None:
        self.seed = seed
        self.now = 0.0
        self.rng = random.Random(f"world {seed} {long} {membership}")
        self.plan = make_plan(self.rng, long=long, membership=membership)
        self.network = Network(random.Random(f"network {seed}"), self.schedule, self._deliver)
        self.network.weather = self.plan.weather
        self._queue: list[tuple[float, int, Callable[[], None]]] = []
        self._sequence = itertools.count()
        self._hash = hashlib.sha256()
        self._verbose = verbose
        self._contexts = itertools.count(1)
        self._storm = True
        self.writes_acknowledged = self.reads_served = self.snapshots_installed = 0
        ids = [f"n{i}" for i in range(1, self.plan.voters + 1)]
        strangers = ["n6", "n7"] if membership else []
        first = simple_membership(ids)
        self.nodes: dict[str, Node] = {}
        for node_id in ids + strangers:
            disk = Disk(first if node_id in ids else Membership())
            config = CoreConfig(node_id, **self.plan.config)
            self.nodes[node_id] = Node(self, node_id, disk, config)
        self.checks = Checks({i: n.disk for i, n in self.nodes.items()}, first)

    # --- time ---------------------------------------------------------------------------------------------------------

    def schedule(self, delay: float, action: Callable[[], None]) -> None:
        """Run `action` after `delay` ticks."""
        heapq.heappush(self._queue, (self.now + delay, next(self._sequence), action))

    def trace(self, text: str) -> None:
        """Add a line to the trace."""
        line = f"{self.now:10.3f} {text}"
        self._hash.update(line.encode())
        if self._verbose:
            print(line)

    @property
    def trace_hash(self) -> str:
        """Digest of everything that happened so far."""
        return self._hash.hexdigest()

    def _run_until(self, end: float, stop: Callable[[], bool] | None = None) -> bool:
        events_max = EVENTS_PER_TICK_MAX * int(end + 1)
        while self._queue and self._queue[0][0] <= end:
            self.now, events, action = heapq.heappop(self._queue)
            action()
            if events > events_max:
                raise Violation(f"an endless loop: {events} events by tick {self.now:.3f}")
            if stop is not None and stop():
                return True
        self.now = end
        return False

    # --- what a seed decides ------------------------------------------------------------------------------------------

    def sync_delay(self) -> float:
        """How long the next sync takes: usually a fraction of a tick, now and then longer than an election timeout."""
        if self._storm and self.rng.random() < self.plan.slow_disk:
            return self.rng.random() * 40
        return self.rng.random() * 0.3

    def apply_delay(self) -> float:
        """How long committed entries wait to be applied."""
        return self.rng.random() * 5 if self._storm and self.rng.random() < self.plan.slow_apply else 0.0

    def snapshot_delay(self) -> float:
        """How long a snapshot's stream takes."""
        return 0.1 + self.rng.random() * (20 if self.rng.random() < 0.2 else 2)

    # --- the run ------------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Storm, then calm: in the calm the cluster must come back. Raises Violation."""
        try:
            self._run()
        except Violation:
            raise
        except Exception as error:
            raise Violation(f"{type(error).__name__}: {error}") from error

    def _run(self) -> None:
        self.trace(f"seed {self.seed} {self.plan}")
        for node in self.nodes.values():
            node.start()
            self.schedule(self.rng.random(), lambda node=node: self._tick(node))
        self.schedule(1, self._weather_turn)
        self._run_until(self.plan.storm_ticks)
        self._storm = False
        self.network.heal()
        self.network.weather = Weather()
        for node in self.nodes.values():
            if node.core is None:
                node.start()
        self.trace("calm")
        # Long enough for a follower to catch up one entry at a time.
        settled = self._run_until(self.now + 4 * self.plan.storm_ticks, self._settled)
        if not settled:
            raise Violation(f"no progress in calm weather: { {i: self._describe(n) for i, n in self.nodes.items()} }")
        self.trace(f"settled {self.writes_acknowledged} writes, {self.reads_served} reads")

    def _describe(self, node: Node) -> str:
        core = node.core
        assert core is not None
        return f"{core.role} term {core.term} last {core.last_index} commit {core.commit_index} {core.progress}"

    def _settled(self) -> bool:
        """One leader has committed an entry of its term after the storm and all its members have applied all of it."""
        leaders = [n for n in self.nodes.values() if n.core is not None and n.core.role == LEADER]
        if len(leaders) != 1:
            return False
        leader = leaders[0].core
        assert leader is not None
        if leader.membership.joint or leader.commit_index < max(leader.term_start_index, leader.last_index):
            return False
        return all(self.nodes[i].state.applied_index == leader.commit_index for i in leader.membership.members)

    def _tick(self, node: Node) -> None:
        node.tick()
        # Clocks drift: no two nodes tick at the same pace.
        self.schedule(0.95 + self.rng.random() * 0.1, lambda: self._tick(node))

    def _deliver(self, message: Message) -> None:
        self.trace(f"{message}")
        self.nodes[message.dst].receive(message)

    def _weather_turn(self) -> None:
        """Once a tick in the storm: clients come, faults happen."""
        if not self._storm:
            return
        rng, plan = self.rng, self.plan
        for rate, action in (
            (plan.write, self._client_writes),
            (plan.read, self._client_reads),
            (plan.crash, self._crash_some),
            (plan.partition, self._partition),
            (plan.transfer, self._transfer),
            (plan.membership, self._change_membership),
            (plan.compaction, self._compact),
        ):
            if rng.random() < rate:
                action()
        self.schedule(1, self._weather_turn)

    def _leader(self) -> Node | None:
        leaders = [n for n in self.nodes.values() if n.core is not None and n.core.role == LEADER]
        return self.rng.choice(leaders) if leaders else None

    def _client_writes(self) -> None:
        leader = self._leader()
        if leader is None:
            return
        for _ in range(self.rng.choice([1, 1, 1, 5])):
            if leader.core is None or leader.core.role != LEADER:
                return
            try:
                leader.propose(BATCH, self.rng.randbytes(self.rng.choice([8, 100])), int(self.now * 10))
            except ProposalRefused as error:
                self.trace(f"{leader.node_id} refuses: {error}")
                return

    def _client_reads(self) -> None:
        """Read anywhere, and as often at a node that believes to lead: there may be two, of which one is to know."""
        leader = self._leader() if self.rng.random() < 0.5 else None
        (leader or self.rng.choice(list(self.nodes.values()))).read(next(self._contexts))

    def _crash_some(self) -> None:
        """Crash one node, or all at once; each comes back after a while."""
        everybody = self.rng.random() < 0.1
        victims = list(self.nodes.values()) if everybody else [self.rng.choice(list(self.nodes.values()))]
        for node in victims:
            if node.core is None:
                continue
            survivors = self.rng.randrange(node.disk.unsynced + 1)
            self.trace(f"{node.node_id} crashes, {survivors} of {node.disk.unsynced} unsynced writes survive")
            node.crash(survivors)
            self.schedule(1 + self.rng.random() * 40, lambda node=node: self._restart(node))

    def _restart(self, node: Node) -> None:
        if node.core is None:
            self.trace(f"{node.node_id} starts")
            node.start()

    def _partition(self) -> None:
        ids = list(self.nodes)
        self.rng.shuffle(ids)
        size = self.rng.randrange(1, len(ids) + 1)
        leader = self._leader()
        if leader is not None and self.rng.random() < 0.5:  # the leader alone: the case that most depends on a quorum
            ids.sort(key=lambda node_id: node_id != leader.node_id)
            size = 1
        here, there = ids[:size], ids[size:]
        self.network.cut(here, there)
        if self.rng.random() < 0.7:
            self.network.cut(there, here)
        self.trace(f"{here} cut from {there}")
        self.schedule(5 + self.rng.random() * 50, self._heal)

    def _heal(self) -> None:
        self.trace("links heal")
        self.network.heal()

    def _transfer(self) -> None:
        leader = self._leader()
        if leader is None or leader.core is None:
            return
        try:
            leader.core.transfer_leader(self.rng.choice([None, *leader.core.other_voters]))
        except ProposalRefused as error:
            self.trace(f"no transfer: {error}")
        leader.turn()

    def _change_membership(self) -> None:
        """Propose any other membership of one to five voters, the rest perhaps learners."""
        leader = self._leader()
        if leader is None or leader.core is None:
            return
        ids = list(self.nodes)
        self.rng.shuffle(ids)
        count = self.rng.randrange(1, min(5, len(ids)) + 1)
        rest = ids[count:]
        target = Membership(voters=tuple(ids[:count]), learners=tuple(rest[: self.rng.randrange(len(rest) + 1)]))
        try:
            leader.core.propose_membership(target)
            self.trace(f"{leader.node_id} changes to {target}")
        except ProposalRefused as error:
            self.trace(f"no change: {error}")
        leader.turn()

    def _compact(self) -> None:
        self.rng.choice(list(self.nodes.values())).flush_and_compact(self.rng.choice([0, 3, 20]))


class Outcome(NamedTuple):
    """What became of a seed; `violation` is empty when all is well."""

    seed: int
    violation: str
    writes: int
    reads: int
    snapshots: int


def run_seed(seed: int, *, long: bool = False, membership: bool = False) -> Outcome:
    """Run one seed."""
    world = World(seed, long=long, membership=membership)
    violation = ""
    try:
        world.run()
    except Violation as error:
        violation = str(error) or repr(error)
    return Outcome(seed, violation, world.writes_acknowledged, world.reads_served, world.snapshots_installed)
