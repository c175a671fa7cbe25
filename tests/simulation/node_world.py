"""Whole nodes in one process: the server as it ships over a simulated clock, network and disk, all from one seed.

`python -m tests.simulation.nodes --seeds 17..17 --transcript` replays one run and shows what happened.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
import traceback
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import structlog

from tests.simulation.checks import Violation
from tests.simulation.node_checks import NodeChecks
from tests.simulation.node_faults import Storm
from tests.simulation.node_growth import Growth
from tests.simulation.node_plan import STORM_S, make_plan
from tests.simulation.seams import installed
from tests.simulation.sim_disk import SimDataDirectory, SimDisk, SimSync, open_disk
from tests.simulation.sim_loop import NodeLoop, Timeline
from tests.simulation.sim_network import SimNetwork, SimPeers, Weather
from tests.simulation.workload import Request, SimClient, Workload
from tests.support.linearizability import Operation
from zattredis.config import Settings, make_settings
from zattredis.errors import LogDamaged, NodeRemoved, StateDamaged, StateDiverged, StorageError, StorageFailed
from zattredis.peer.control import JoinAnswer
from zattredis.raft import ready as events
from zattredis.raft.entry import Entry
from zattredis.raft.messages import Message
from zattredis.server.joining import answer_join
from zattredis.server.node import Node
from zattredis.server.sessions import Sessions

CALM_S = 10.0
CALM_OF_CHANGES_S = 20.0
"""Members join one after the other, and with the smallest windows and the slowest disks each takes its entries one by
one (seed 800794: one node replaces another until 5 s after the storm, and only then the next one is let in). Snapshots
that arrive damaged are sent again, one node after the other (seed 6: five times to the first of two)."""
EVENTS_PER_S_MAX = 200_000
"""More than this for each simulated second is an endless loop. The busiest seed known comes near (4010234 with
membership=3): a node joins while messages overtake each other, as on no TCP connection, and each refusal of an append
that came too early makes its leader begin again, with all those behind it."""


class WatchedSessions(Sessions):
    """The sessions' rows as they ship, watched: every execution goes to the checks."""

    def __init__(self, process: Process) -> None:
        super().__init__()
        self._process = process

    def advance(self, session: int, sequence: int) -> bool:
        process = self._process
        process.world.checks.executed(process.node_id, session, sequence, process.node.applier.applied_index + 1)
        return super().advance(session, sequence)


class SimNode(Node):
    """The node as it ships, watched: its events and entries go to the checks, its failure to the world."""

    def __init__(self, settings: Settings, process: Process) -> None:
        self._process = process
        super().__init__(settings)

    def _on_event(self, event: events.Event) -> None:
        process = self._process
        process.world.trace(f"{process.node_id} {event}")
        if isinstance(event, events.MembershipChanged):
            process.world.checks.memberships.append(event.membership)
        if isinstance(event, events.MembershipCommitted):
            process.world.checks.agreed.append(event.membership)
        if isinstance(event, events.BecameLeader):
            process.world.checks.became_leader(process.node_id, event.term, self.core)
        super()._on_event(event)

    def _on_entry(self, entry: Entry) -> None:
        self._process.world.checks.applied_entry(self._process.node_id, entry, self.core.term)
        super()._on_entry(entry)

    def fail(self, error: BaseException) -> None:
        super().fail(error)
        self._process.failed(error)


class Process:
    """One run of one node, from its start to its end."""

    def __init__(self, world: NodeWorld, node_id: str, disk: SimDisk) -> None:
        self.world = world
        self.node_id = node_id
        self.disk = disk
        self.rng = random.Random(f"process {world.rng.random()}")
        self.loop = NodeLoop(world.timeline, node_id, self.rng)
        plan = world.plan
        self.loop.thread_delay = lambda: self.rng.random() * (0.5 if self.rng.random() < 0.1 else 0.02)
        self._perf = 0.0
        self.ended = False
        self.joining = False
        world.by_loop[self.loop] = self
        self.peers: SimPeers = None  # type: ignore[assignment]
        self.data: SimDataDirectory = None  # type: ignore[assignment]
        self.sync: SimSync | None = None
        self.node: SimNode = None  # type: ignore[assignment]
        told = make_settings(node_id=node_id, **world.starts_with(node_id), **plan.settings)
        self.settings = replace(told, **plan.bounds)

    def start(self) -> None:
        """Start the node."""

        def begin() -> None:
            self.node = SimNode(self.settings, self)
            self.loop.create_task(self._run())

        self.loop.enter(lambda: self.guard(begin))

    async def _run(self) -> None:
        try:
            await self.node.start()
            await self.node.wait_stopped()
        except BaseException as error:
            self.failed(error)
            return
        self.world.stopped(self)

    def failed(self, error: BaseException) -> None:
        """The node has ended itself."""
        if not self.ended:
            self.world.node_failed(self, error)

    def guard(self, action: Callable[[], Any]) -> None:
        """Run a callback as an event loop does: what it raises goes to the node's handler."""
        try:
            action()
        except Violation as violation:
            self.world.violated(violation)
        except Exception as error:
            self.loop.call_exception_handler({"message": "callback", "exception": error})

    def later(self, delay: float, action: Callable[[], Any]) -> None:
        """Run `action` in this process."""
        self.world.timeline.after(delay, lambda: self.guard(action), self.loop)

    @property
    def is_up(self) -> bool:
        """Whether this node runs."""
        return self.node is not None and self.node.is_open

    @property
    def leads(self) -> bool:
        """Whether this node leads."""
        return self.is_up and self.node.driver.is_leader

    # --- what the node is made of ---

    def wall(self) -> float:
        return self.world.wall(self.node_id)

    def perf_counter(self) -> float:
        if self.rng.random() < self.world.plan.slice_end:
            self._perf += 0.01
            self.loop.busy_until = self.world.timeline.now + self.world.plan.slice_s
        return self.world.timeline.now + self._perf

    def random_64(self) -> int:
        return self.rng.getrandbits(64) | 1

    def _stalls(self) -> bool:
        """Called before every write: whether the store asks to wait. Raises where the disk refuses."""
        if not self.world.storm:
            return False
        if self.disk.full or self.rng.random() < self.world.plan.disk_refuses:
            raise StorageFailed(f"injected: {'no space left on the device' if self.disk.full else 'the write failed'}")
        return self.rng.random() < self.world.plan.stall

    def open_disk(self, **rest: Any) -> SimDataDirectory:
        world = self.world
        if rest["anew"]:
            world.trace(f"{self.node_id} is filled again: {self.disk.noted or self.disk.damaged_entries}")
            world.checks.lost_disks = True
            world.rejoins += 1
            self.disk.empty()
        self.data = open_disk(
            self.disk, cluster_id=rest["cluster_id"], incarnation=rest["incarnation"], membership=rest["membership"],
            stalls=self._stalls, on_append=lambda entries: world.checks.written(self.node_id, entries),
        )  # fmt: skip
        self.data.stalls = self._stalls
        self.data.on_write = lambda state: world.checks.state_written(self.node_id, state)
        self.data.watch_state()
        return self.data

    def make_sync(self, log: Any, **rest: Any) -> SimSync:
        self.sync = SimSync(log, duration=self._sync_duration, after=self._after, **rest)
        return self.sync

    def _after(self, delay: float, action: Callable[[], None]) -> None:
        self.world.timeline.after(delay, lambda: None if self.loop.dead else action())

    def _sync_duration(self) -> float | None:
        plan, rng = self.world.plan, self.rng
        if self.world.storm:
            if rng.random() < plan.sync_failure:
                return None
            if rng.random() < plan.sync_slow:
                return rng.random() * plan.sync_slow_s
        return rng.random() * plan.sync_s

    def make_peers(self, **rest: Any) -> SimPeers:
        self.peers = SimPeers(
            self, self.world.network, on_message=rest["on_message"], on_link=rest["on_link"],
            on_snapshot=rest["on_snapshot"], refusal=rest["refusal"], on_turned_away=rest["on_turned_away"],
        )  # fmt: skip
        return self.peers


class NodeWorld:
    """One run. `trace_hash` is a function of the seed alone."""

    def __init__(self, seed: int, *, storm_s: float = STORM_S, transcript: bool = False, **changes: Any) -> None:
        """`changes` replace what the seed draws for its plan."""
        self.seed = seed
        self.rng = random.Random(f"nodes {seed} {storm_s}")
        self.plan = replace(make_plan(self.rng, storm_s, random.Random(f"later {seed} {storm_s}")), **changes)
        self.timeline = Timeline()
        self.ids = [f"n{i}" for i in range(1, self.plan.voters + 1)]
        self.storm = True
        self.by_loop: dict[Any, Process] = {}
        self.processes: dict[str, Process] = {}
        self.founders = list(self.ids)
        self.born = len(self.ids)
        self.disks = {node_id: SimDisk(node_id, 1) for node_id in self.ids}
        self.checks = NodeChecks(self)
        self.network = SimNetwork(self, random.Random(f"network {seed}"))
        self.network.weather = self.plan.weather
        self.load = Workload(self, self.plan.clients_per_node)
        self.faults = Storm(self)
        self.growth = Growth(self)
        self.visitors: list[SimClient] = []  # clients that come in the calm, to see whether all is well
        self.wall_offset = {node_id: self.rng.random() for node_id in self.ids}
        self._hash = hashlib.sha256()
        self._transcript = transcript
        self.lines: deque[str] = deque(maxlen=None if transcript else 400)
        self._violation: Violation | None = None
        self._calm_s = CALM_OF_CHANGES_S if self.plan.membership or self.plan.flip_snapshot else CALM_S
        self.answered = self.unknown = self.refused = self.applied = self.snapshots = self.restarts = 0
        self.leaders = self.rejoins = 0

    # --- what everybody tells ---

    def trace(self, text: str) -> None:
        """Add a line to the transcript."""
        line = f"{self.timeline.now:9.4f} {text}"
        self._hash.update(line.encode())
        self.lines.append(line)

    def trace_message(self, message: Message) -> None:
        """A message arrives."""
        if self._transcript:
            self.lines.append(f"{self.timeline.now:9.4f}   {_brief(message)}")

    def log_event(self, logger: Any, name: str, fields: Any) -> Any:
        """What the server logs is a part of the transcript."""
        running = self.timeline.running
        if running is not None and (self._transcript or name in ("warning", "error", "critical")):
            fields.pop("room", None)
            error = fields.pop("exc_info", None)
            text = " ".join(f"{key}={value}" for key, value in fields.items())
            self.lines.append(f"{self.timeline.now:9.4f} {running.name} log: {text}")
            if isinstance(error, BaseException):
                self.lines.extend("".join(traceback.format_exception(error)).splitlines())
        raise structlog.DropEvent

    @property
    def trace_hash(self) -> str:
        """Digest of everything that happened so far."""
        return self._hash.hexdigest()

    def violated(self, violation: Violation) -> None:
        """Stop the run."""
        self._violation = self._violation or violation

    def explain(self, key: bytes, operations: list[Operation]) -> None:
        """Add a key's history to the transcript."""
        for o in sorted(operations, key=lambda o: o.invoked):
            self.lines.append(
                f"   {key.decode()} {o.invoked:9.4f}..{o.returned:9.4f} {o.kind} {o.argument} -> {o.result}"
                + ("" if o.known else " (unknown)")
            )

    def wall(self, node_id: str) -> float:
        """The wall clock of a node."""
        return 1_700_000_000.0 + self.timeline.now + self.wall_offset[node_id]

    # --- processes ---

    def start(self, node_id: str) -> None:
        """Start a node that is not running."""
        if node_id in self.processes:
            return
        self.trace(f"{node_id} starts")
        self.restarts += 1
        process = Process(self, node_id, self.disks[node_id])
        self.processes[node_id] = process
        process.start()

    def starts_with(self, node_id: str) -> dict[str, Any]:
        """The settings that tell a node who it is among others."""
        addresses = [f"10.0.0.{i[1:]}:6379" for i in self.founders]
        if node_id in self.founders:
            return {"cluster": ",".join(f"{i}={a}" for i, a in zip(self.founders, addresses, strict=True))}
        return {"join": ",".join(addresses), "host": f"10.0.0.{node_id[1:]}"}

    def new_node(self) -> tuple[str, str]:
        """A machine that was never there starts, and asks to join; returns its id and address."""
        self.born += 1
        node_id = f"n{self.born}"
        self.wall_offset[node_id] = 0.5
        self.disks[node_id] = SimDisk(node_id, 1)
        self.ids.append(node_id)
        self.timeline.after(0.05, lambda: self.start(node_id))
        return node_id, f"10.0.0.{self.born}:6379@16379"

    def removed(self, process: Process) -> None:
        """A node has ended because it was removed: only one of which that was agreed may."""
        node_id = process.node_id
        known = [m for m in self.checks.agreed if node_id in m.removed and not m.is_member(node_id)]
        if not known and not process.joining:
            self.violated(Violation(f"{node_id} ended as one that was removed, and that was never agreed"))
        process.ended = True
        if node_id in self.ids:
            self.ids.remove(node_id)
        self.timeline.after(0.01, lambda: self._bury(process))

    def listening(self, node_id: str) -> Process | None:
        """The process of a node, if it is far enough to take connections."""
        process = self.processes.get(node_id)
        return process if process is not None and process.node is not None and process.node.is_open else None

    def make_sessions(self, process: Process) -> Sessions:
        """Return the rows of a node that starts."""
        return WatchedSessions(process)

    def end(self, process: Process, power: bool) -> None:
        """The process is gone, now."""
        process.ended = True
        process.loop.kill()
        del self.processes[process.node_id]
        cost = process.disk.crash(self.rng, power)
        self.trace(f"{process.node_id} is gone ({'power cut' if power else 'killed'}): {cost}")
        for client in [*self.load.clients, *self.visitors]:
            if client.node_id == process.node_id:
                client.process_ended()

    def node_failed(self, process: Process, error: BaseException) -> None:
        """A node has ended itself: only where a fault was injected it may."""
        text = f"{process.node_id} ended itself: {type(error).__name__}: {error}"
        self.trace(text)
        if isinstance(error, NodeRemoved):
            self.removed(process)
            return
        if isinstance(error, Violation) or isinstance(error.__cause__, Violation):
            self.violated(error if isinstance(error, Violation) else error.__cause__)  # type: ignore[arg-type]
            return
        if "injected" not in str(error) or not isinstance(error, StorageError):
            self.lines.extend("".join(traceback.format_exception(error)).splitlines())
            self.violated(Violation(text))
            return
        process.ended = True
        self.timeline.after(0.01, lambda: self._bury(process))
        self.timeline.after(0.2 + self.rng.random() * 2, lambda: self.start(process.node_id))

    def damage_noted(self, process: Process, error: Exception) -> None:
        """A node ends and leaves a note of what is wrong with its disk."""
        if isinstance(error, LogDamaged | StateDamaged | StateDiverged):
            process.disk.noted = (str(error), isinstance(error, StateDiverged))

    async def others_agree(self, process: Process) -> tuple[str, bytes]:
        """Stands for `server.joining.join`: the others are asked, over links that may be cut, until one agrees."""
        node_id, address = process.node_id, process.settings.member.address
        process.joining = True
        answers: list[JoinAnswer] = []

        def ask(other: Process) -> None:
            async def answer() -> None:
                answers.append(await answer_join(other.node, node_id, address))

            other.loop.create_task(answer())

        while True:
            for other_id in self.ids:
                other = self.listening(other_id)
                if other is not None and other is not process and self._joined(node_id, other_id):
                    other.later(0, lambda other=other: ask(other))
                    await asyncio.sleep(0.5)
            others = [p for p in self.processes.values() if p is not process and p.peers is not None]
            if any(p.peers.refuses(node_id) for p in others):
                raise NodeRemoved(f"{node_id} was removed; ids are not used again")
            agreed = [answer for answer in answers if answer.cluster_id]
            if agreed:
                process.joining = False
                return agreed[-1].cluster_id, agreed[-1].membership
            answers.clear()
            await asyncio.sleep(0.1)

    def _joined(self, one: str, other: str) -> bool:
        return self.network.passes(one, other) and self.network.passes(other, one)

    def _bury(self, process: Process) -> None:
        if self.processes.get(process.node_id) is process:
            self.end(process, False)

    def stopped(self, process: Process) -> None:
        """A node has stopped in good order."""
        self.trace(f"{process.node_id} has stopped")
        self.timeline.after(0.001, lambda: self._bury(process))
        self.timeline.after(0.05 + self.rng.random(), lambda: self.start(process.node_id))

    # --- the run ---

    def run(self) -> None:
        """Storm, then calm. Raises Violation."""
        with installed(self):
            try:
                self._run()
            finally:
                for process in self.by_loop.values():
                    process.loop.kill()
                for process in self.by_loop.values():
                    process.loop.bury()

    def _run(self) -> None:
        self.trace(f"seed {self.seed} {self.plan}")
        for node_id in self.ids:
            self.timeline.after(self.rng.random() * 0.2, lambda node_id=node_id: self.start(node_id))
        self.timeline.after(0.01, self.network.watch_links)
        for client in self.load.clients:
            client.start()
        self.faults.begin()
        self.growth.begin()
        self._run_until(self.plan.ends_s)
        self._calm()
        self.load.judge()
        self.trace(
            f"done: {self.answered} answered, {self.refused} refused, {self.unknown} unknown, {self.applied} applied"
        )

    def _run_until(self, end: float, stop: Callable[[], bool] | None = None) -> bool:
        timeline = self.timeline
        events_max = EVENTS_PER_S_MAX * int(end + 1)
        while timeline.next_at <= end:
            timeline.step()
            if self._violation is not None:
                raise self._violation
            if timeline.events > events_max:
                raise Violation(f"an endless loop: {timeline.events} events by {timeline.now:.3f} s")
            if stop is not None and stop():
                return True
        timeline.now = end
        return False

    # --- calm ---

    def _calm(self) -> None:
        """Everything heals: writes commit on every node, all clients are answered, all nodes come to be equal."""
        self.storm = False
        self.trace("calm")
        self.network.heal()
        self.network.weather = Weather()
        self.faults.end()
        for process in list(self.processes.values()):
            process.loop.resume()
        for node_id in self.ids:
            if node_id not in self.processes:
                self.start(node_id)
        deadline = self.timeline.now + self._calm_s
        written: set[str] = set()
        probes = [_Probe(self, node_id, number, written) for number, node_id in enumerate(self.ids)]
        for probe in probes:
            probe.begin()
        told = lambda: f"only {sorted(written)} of {self.ids} took a write"  # noqa: E731
        self._must(deadline, lambda: written >= set(self.ids), told)
        self._must(deadline, self._all_answered, self._unanswered)
        self._must(deadline, self._equal, self._differences)
        reads = SimClient(self, 2000, self.ids[0], self.load)
        self.visitors.append(reads)
        reads._connect()
        reads.send(self.load.final_reads(reads))
        self._must(deadline + 1, lambda: not reads.waiting, lambda: "the final reads were not answered")

    def _must(self, deadline: float, condition: Callable[[], bool], text: Callable[[], str]) -> None:
        if not condition() and not self._run_until(deadline, condition):
            nodes = {i: self._describe(p) for i, p in self.processes.items()}
            raise Violation(f"not within {self._calm_s:.0f} s of calm: {text()}; {nodes}")

    def _all_answered(self) -> bool:
        return all(not client.waiting for client in self.load.clients)

    def _unanswered(self) -> str:
        return "; ".join(
            f"{c.number}@{c.node_id} waits since {c.waiting[0].invoked:.3f} for {[r.argv for r in c.waiting][:3]}"
            for c in self.load.clients
            if c.waiting
        )

    def _equal(self) -> bool:
        if any(self.listening(node_id) is None for node_id in self.ids):
            return False
        if self.growth_unfinished():
            return False
        states = {(p.data.state.applied, p.data.state.digest) for p in self.processes.values()}
        cores = [p.node.core for p in self.processes.values()]
        nodes = [p.node for p in self.processes.values()]
        if any(node.applier.registers.waiters.by_order or not node.blocking.idle for node in nodes):
            return False  # nobody waits any more, nothing is to be put back
        return len(states) == 1 and all(core.applied_index == core.last_index for core in cores)

    def growth_unfinished(self) -> bool:
        """Whether a change is under way still, or somebody who was removed has not heard of it."""
        if any(self.listening(node_id) is None for node_id in self.processes):
            return True
        memberships = [p.node.changes.agreed for p in self.processes.values()]
        return any(
            m.joint or m.joining or m.leaving or m.demoting or set(m.members) != set(self.ids) for m in memberships
        ) if self.plan.membership else False

    def _differences(self) -> str:
        waiting = {i: len(p.node.applier.registers.waiters.by_order) for i, p in self.processes.items()}
        applied = {i: str(p.data.state.applied) for i, p in self.processes.items()}
        return f"states differ or somebody waits ({waiting}): {applied}"

    def _describe(self, process: Process) -> str:
        node = process.node
        if node is None or not node.is_open:
            return "not open"
        core = node.core
        return (
            f"{core.role} term {core.term} leader {core.leader_id} last {core.last_index} commit {core.commit_index} "
            f"applied {core.applied_index} durable {core.durable_index} session {node.proposals.session} "
            f"in flight {node.proposals.in_flight} rejoined {node.rejoin.done} {core.progress}"
        )


class _Probe:
    """Writes through one node until that works."""

    def __init__(self, world: NodeWorld, node_id: str, number: int, written: set[str]) -> None:
        self._world = world
        self._written = written
        self.client = SimClient(world, 1000 + number, node_id, world.load)
        world.visitors.append(self.client)

    def begin(self) -> None:
        world, client = self._world, self.client
        if client.node_id in self._written:
            return
        if not client._open:
            client._connect()
        elif not client.waiting:
            key = b"calm:" + client.node_id.encode()
            request = Request(("SET", key, b"1"))
            request.done = lambda reply, now: self._written.add(client.node_id)
            client.send([request])
        world.timeline.after(0.05, self.begin)


def _brief(message: Message) -> str:
    fields = {
        name: getattr(message, name) for name in message.__struct_fields__ if name not in ("src", "dst", "payload")
    }
    if "entries" in fields:
        fields["entries"] = len(fields["entries"])
    text = " ".join(f"{name}={value}" for name, value in fields.items())
    return f"{message.src}->{message.dst} {type(message).__name__} {text}"
