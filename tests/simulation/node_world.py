"""Whole nodes in one process: the server as it ships over a simulated clock, network and disk, all from one seed.

`python -m tests.simulation.nodes --seeds 17..17 --transcript` replays one run and shows what happened.
"""

from __future__ import annotations

import hashlib
import random
import traceback
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import structlog

from tests.simulation.checks import Checks, Violation, require
from tests.simulation.seams import installed
from tests.simulation.sim_disk import SimDataDirectory, SimDisk, SimState, SimSync, open_disk
from tests.simulation.sim_loop import NodeLoop, Timeline
from tests.simulation.sim_network import SimNetwork, SimPeers, Weather
from tests.simulation.workload import Request, SimClient, Workload
from tests.support.linearizability import Operation
from zattredis.config import Settings, make_settings
from zattredis.errors import ProposalRefused, StorageFailed
from zattredis.raft import ready as events
from zattredis.raft.core import Core
from zattredis.raft.entry import BATCH, HEADER_BYTES, Entry
from zattredis.raft.membership import simple_membership
from zattredis.raft.messages import Message
from zattredis.server.node import Node
from zattredis.server.sessions import BATCH_HEADER, Sessions

CALM_S = 10.0
EVENTS_PER_S_MAX = 50_000
"""More than this for each simulated second is an endless loop: ten times what the busiest seed needs."""


@dataclass(frozen=True)
class NodePlan:
    """What a seed decides about its run. Rates are per second, times in seconds."""

    voters: int
    storm_s: float
    weather: Weather
    busy_nodes: int  # the others have no clients: their clocks do not hear of the leader's by reads
    clients_per_node: int
    only_reads: float  # share of the clients
    client_pause_s: float
    client_reconnect: float
    client_impatient: float
    crash: float
    crash_everybody: float
    power_cut: float
    disk_loss: float
    stop: float
    partition: float
    clog: float
    link_break: float
    pause: float
    clock_jump: float
    clock_jump_s: float
    transfer: float
    compaction: float
    sync_s: float
    sync_slow: float
    sync_slow_s: float
    sync_failure: float
    stall: float
    slice_end: float
    snapshot_s: float
    stream_break: float
    effect_bytes: int
    commands_a_turn: int
    settings: dict[str, Any]
    bounds: dict[str, int]


def make_plan(rng: random.Random, storm_s: float) -> NodePlan:
    """Draw a plan: every run has some faults, few have all."""

    def sometimes(value: float, share: float = 0.5) -> float:
        return value if rng.random() < share else 0.0

    in_order = rng.random() < 0.5
    weather = Weather(
        in_order=in_order,
        loss=sometimes(rng.choice([0.01, 0.05, 0.2])),
        duplication=sometimes(0.05),
        delay_max=rng.choice([0.001, 0.01, 0.05, 0.2]),
        late=sometimes(rng.choice([0.005, 0.05])),
        late_max=rng.choice([0.3, 2.0]),
    )
    tick_ms = rng.choice([25, 50])
    election_ms = rng.choice([150, 300, 500])
    return NodePlan(
        voters=rng.choice([1, 2, 3, 3, 3, 3, 3, 5]),
        storm_s=storm_s,
        weather=weather,
        busy_nodes=rng.choice([1, 2, 5, 5, 5]),
        clients_per_node=rng.choice([1, 2, 3]),
        only_reads=rng.choice([0.3, 0.3, 0.3, 1.0]),
        client_pause_s=rng.choice([0.02, 0.1, 0.3]),
        client_reconnect=sometimes(0.05),
        client_impatient=sometimes(0.01),
        crash=sometimes(rng.choice([0.2, 1.0])),
        crash_everybody=rng.choice([0.05, 0.3]),
        power_cut=rng.choice([0.0, 0.5, 1.0]),
        disk_loss=sometimes(0.3, 0.3),
        stop=sometimes(0.2, 0.3),
        partition=sometimes(rng.choice([0.3, 1.0])),
        clog=sometimes(0.3, 0.3),
        link_break=sometimes(0.5),
        pause=sometimes(0.4),
        clock_jump=sometimes(0.4),
        clock_jump_s=rng.choice([0.1, 2.0, 100.0]),
        transfer=sometimes(0.5),
        compaction=sometimes(rng.choice([0.5, 3.0])),
        sync_s=rng.choice([0.0005, 0.002, 0.01, 0.03]),
        sync_slow=sometimes(0.02),
        sync_slow_s=rng.choice([0.2, 2.0]),
        sync_failure=sometimes(0.0005, 0.2),
        stall=sometimes(rng.choice([0.01, 0.2]), 0.3),
        slice_end=sometimes(rng.choice([0.02, 0.3])),
        snapshot_s=rng.choice([0.05, 1.0]),
        stream_break=sometimes(0.3),
        effect_bytes=rng.choice([1, 500, 4 << 20]),
        commands_a_turn=rng.choice([1, 3, 32]),
        settings={
            "tick_ms": tick_ms,
            "heartbeat_ms": min(election_ms // 3, rng.choice([50, 100])),
            "election_timeout_ms": election_ms,
            "request_timeout_ms": rng.choice([500, 1500, 5000]),
            "raft_window_entries": rng.choice([1, 4, 256]),
            "batch_commands_max": rng.choice([1, 3, 4096]),
            "log_compaction_entries": rng.choice([100, 1_000_000]),
            "log_retain_for_followers_bytes": rng.choice([0, 2000, 512 << 20]),
            "shutdown_timeout_ms": 1000,
            "disk_free_bytes_min": 0,
        },
        # Far below what the settings allow, so that every bound is met.
        bounds={
            "raft_window_bytes": rng.choice([1, 1000, 16 << 20]),
            "raft_message_bytes_max": rng.choice([1, 300, 1 << 20]),
            "uncommitted_bytes_max": rng.choice([500, 5000, 64 << 20, 64 << 20]),
            "apply_bytes_max": rng.choice([1, 500, 4 << 20]),
            "batch_bytes_max": rng.choice([50, 1 << 20, 1 << 20]),
            "inflight_bytes_max": rng.choice([200, 2000, 1 << 30, 1 << 30]),
        },
    )


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
        world.by_loop[self.loop] = self
        self.peers: SimPeers = None  # type: ignore[assignment]
        self.data: SimDataDirectory = None  # type: ignore[assignment]
        self.node: SimNode = None  # type: ignore[assignment]
        members = ",".join(f"{i}=10.0.0.{n}:6379" for n, i in enumerate(world.ids, 1))
        self._settings = replace(make_settings(node_id=node_id, cluster=members, **plan.settings), **plan.bounds)

    def start(self) -> None:
        """Start the node."""

        def begin() -> None:
            self.node = SimNode(self._settings, self)
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
    def leads(self) -> bool:
        """Whether this node leads."""
        return self.node is not None and self.node.is_open and self.node.driver.is_leader

    # --- what the node is made of ---

    def wall(self) -> float:
        return self.world.wall(self.node_id)

    def perf_counter(self) -> float:
        if self.rng.random() < self.world.plan.slice_end:
            self._perf += 0.01
        return self.world.timeline.now + self._perf

    def random_64(self) -> int:
        return self.rng.getrandbits(64) | 1

    def _stalls(self) -> bool:
        return self.world.storm and self.rng.random() < self.world.plan.stall

    def open_disk(self, **rest: Any) -> SimDataDirectory:
        world = self.world
        self.data = open_disk(
            self.disk, cluster_id=rest["cluster_id"], incarnation=rest["incarnation"], membership=rest["membership"],
            stalls=self._stalls, on_append=lambda entries: world.checks.written(self.node_id, entries),
        )  # fmt: skip
        self.data.stalls = self._stalls
        self.data.on_write = lambda state: world.checks.state_written(self.node_id, state)
        self.data.watch_state()
        return self.data

    def make_sync(self, log: Any, **rest: Any) -> SimSync:
        return SimSync(log, duration=self._sync_duration, after=self._after, **rest)

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
            on_snapshot=rest["on_snapshot"],
        )  # fmt: skip
        return self.peers


class NodeChecks(Checks):
    """What must hold at every step, of whole nodes."""

    def __init__(self, world: NodeWorld) -> None:
        super().__init__(world.disks, simple_membership(world.ids))  # type: ignore[arg-type]
        self._world = world
        self._states: dict[tuple[int, int, int], tuple[int, str]] = {}
        self._known_in: dict[int, int] = {}  # index → a term in which the entry was known to be committed
        self._executed: dict[tuple[int, int], int] = {}  # (session, sequence) → index
        self._admitted: dict[tuple[int, int], int] = {}  # (term, session) → the last sequence its leader took
        self._stamps: dict[int, int] = {}
        self.lost_disks = False

    def sent(self, message: Message) -> None:
        if message.src in self._world.processes and type(message).__module__ == "zattredis.raft.messages":
            super().sent(message)

    def became_leader(self, node_id: str, term: int, core: Core) -> None:
        """Election safety and leader completeness. A paused process may hear of its election long after it."""
        other = self._leaders.setdefault(term, node_id)
        require(other == node_id, f"election safety: {other} and {node_id} lead term {term}")
        index = self.committed_index
        while index and self._known_in[index] >= term:
            index -= 1  # perhaps committed by a later leader
        if core.term == term and index >= core.log.first_index:
            complete = core.log.matches(index, self._committed[index])
            require(complete, f"leader completeness: {node_id} leads term {term} without committed entry {index}")

    def applied_entry(self, node_id: str, entry: Entry, term: int) -> None:
        """Nothing applied before a majority holds it durably, and everywhere the same."""
        self._world.applied += 1
        self._known_in.setdefault(entry.index, term)
        earlier = self._stamps.get(entry.index - 1, 0)
        require(
            entry.stamp_ms >= earlier, f"{entry}'s stamp {entry.stamp_ms} lies before {earlier}, that of the one before"
        )
        self._stamps[entry.index] = entry.stamp_ms
        if self.lost_disks and entry.index > self.committed_index:
            # A holder's disk may be gone since; what is left is that all agree.
            require(entry.index == self.committed_index + 1, f"{node_id} applied {entry} after {self.committed_index}")
            self.committed_index = entry.index
            self._committed[entry.index] = entry.term
            self._digests[entry.index] = 0
        super().applied(node_id, entry, _NO_DIGEST)  # type: ignore[arg-type]

    def written(self, node_id: str, entries: list[Entry]) -> None:
        """Log matching; a term's leader takes the batches of a session in order and once; stamps never fall."""
        for entry in entries:
            known = (entry.index, entry.term) in self._contents
            if not known and entry.kind == BATCH:
                session, sequence, _ = BATCH_HEADER.unpack_from(entry.raw, HEADER_BYTES)
                last = self._admitted.get((entry.term, session), sequence - 1)
                require(sequence == last + 1, f"{node_id} logged batch {sequence} of session {session} after {last}")
                self._admitted[entry.term, session] = sequence
        super().written(node_id, entries)

    def executed(self, node_id: str, session: int, sequence: int, index: int) -> None:
        """Exactly once: a batch is executed by one entry, the same on every node, and none before it is missing."""
        known = self._executed.setdefault((session, sequence), index)
        require(known == index, f"{node_id} executes batch {sequence} of session {session} at {index}, and at {known}")
        complete = sequence == 1 or self._executed.get((session, sequence - 1), index) < index
        require(
            complete, f"{node_id} executes batch {sequence} of session {session} at {index}, but not the one before"
        )

    def state_written(self, node_id: str, state: SimState) -> None:
        """Equal state at equal applied record."""
        applied = state.applied
        key = (applied.index, applied.term, applied.ordinal)
        known, other = self._states.setdefault(key, (state.digest, node_id))
        if known != state.digest:
            self._world.trace(f"{node_id} {key} {sorted(state.data.items())}")
            process = self._world.processes.get(other)
            if process is not None:
                self._world.trace(f"{other} now {process.data.state.applied} {sorted(process.data.state.data.items())}")
        require(known == state.digest, f"{node_id}'s state at {applied} differs from {other}'s")


class _NoDigest:
    digest = 0


_NO_DIGEST = _NoDigest()


class NodeWorld:
    """One run. `trace_hash` is a function of the seed alone."""

    def __init__(self, seed: int, *, storm_s: float = 6.0, transcript: bool = False, **changes: Any) -> None:
        """`changes` replace what the seed draws for its plan."""
        self.seed = seed
        self.rng = random.Random(f"nodes {seed} {storm_s}")
        self.plan = replace(make_plan(self.rng, storm_s), **changes)
        self.timeline = Timeline()
        self.ids = [f"n{i}" for i in range(1, self.plan.voters + 1)]
        self.storm = True
        self.by_loop: dict[Any, Process] = {}
        self.processes: dict[str, Process] = {}
        self.disks = {node_id: SimDisk(node_id, 1) for node_id in self.ids}
        self.checks = NodeChecks(self)
        self.network = SimNetwork(self, random.Random(f"network {seed}"))
        self.network.weather = self.plan.weather
        self.load = Workload(self, self.plan.clients_per_node)
        self._wall_offset = {node_id: self.rng.random() for node_id in self.ids}
        self._hash = hashlib.sha256()
        self._transcript = transcript
        self.lines: deque[str] = deque(maxlen=None if transcript else 400)
        self._violation: Violation | None = None
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
        return 1_700_000_000.0 + self.timeline.now + self._wall_offset[node_id]

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
        for client in self.load.clients:
            if client.node_id == process.node_id:
                client.process_ended()

    def node_failed(self, process: Process, error: BaseException) -> None:
        """A node has ended itself: only where a fault was injected it may."""
        text = f"{process.node_id} ended itself: {type(error).__name__}: {error}"
        self.trace(text)
        if isinstance(error, Violation) or isinstance(error.__cause__, Violation):
            self.violated(error if isinstance(error, Violation) else error.__cause__)  # type: ignore[arg-type]
            return
        if not (isinstance(error, StorageFailed) and "injected" in str(error)):
            self.lines.extend("".join(traceback.format_exception(error)).splitlines())
            self.violated(Violation(text))
            return
        process.ended = True
        self.timeline.after(0.01, lambda: self._bury(process))
        self.timeline.after(0.2 + self.rng.random() * 2, lambda: self.start(process.node_id))

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
        self.timeline.after(1.0, self._weather_turn)
        self._run_until(self.plan.storm_s)
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
        for process in list(self.processes.values()):
            process.loop.resume()
        for node_id in self.ids:
            if node_id not in self.processes:
                self.start(node_id)
        deadline = self.timeline.now + CALM_S
        written: set[str] = set()
        probes = [_Probe(self, node_id, number, written) for number, node_id in enumerate(self.ids)]
        for probe in probes:
            probe.begin()
        self._must(deadline, lambda: len(written) == len(self.ids), lambda: f"only {sorted(written)} took a write")
        self._must(deadline, self._all_answered, self._unanswered)
        self._must(deadline, self._equal, self._differences)
        reads = SimClient(self, 2000, self.ids[0], self.load)
        reads._connect()
        reads.send(self.load.final_reads(reads))
        self._must(deadline + 1, lambda: not reads.waiting, lambda: "the final reads were not answered")

    def _must(self, deadline: float, condition: Callable[[], bool], text: Callable[[], str]) -> None:
        if not condition() and not self._run_until(deadline, condition):
            nodes = {i: self._describe(p) for i, p in self.processes.items()}
            raise Violation(f"not within {CALM_S:.0f} s of calm: {text()}; {nodes}")

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
        states = {(p.data.state.applied, p.data.state.digest) for p in self.processes.values()}
        cores = [p.node.core for p in self.processes.values()]
        nodes = [p.node for p in self.processes.values()]
        if any(node.applier.registers.waiters.by_order or not node.blocking.idle for node in nodes):
            return False  # nobody waits any more, nothing is to be put back
        return len(states) == 1 and all(core.applied_index == core.last_index for core in cores)

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

    # --- faults ---

    def _weather_turn(self) -> None:
        """Ten times a second in the storm: faults happen."""
        if not self.storm:
            return
        rng, plan = self.rng, self.plan
        for rate, action in (
            (plan.crash, self._crash),
            (plan.disk_loss, self._lose_disk),
            (plan.stop, self._stop),
            (plan.partition, self._partition),
            (plan.clog, self._clog),
            (plan.link_break, self.network.break_some_link),
            (plan.pause, self._pause),
            (plan.clock_jump, self._jump),
            (plan.transfer, self._transfer),
            (plan.compaction, self._compact),
        ):
            if rng.random() < rate / 10:
                action()
        self.timeline.after(0.1, self._weather_turn)

    def _some(self) -> Process | None:
        running = [p for p in self.processes.values() if p.node is not None and p.node.is_open]
        leading = [p for p in running if p.leads]
        if leading and self.rng.random() < 0.4:
            return self.rng.choice(leading)
        return self.rng.choice(running) if running else None

    def _crash(self) -> None:
        power = self.rng.random() < self.plan.power_cut
        if self.rng.random() < self.plan.crash_everybody:
            victims = list(self.processes.values())
        else:
            one = self._some()
            victims = [one] if one is not None else []
        for process in victims:
            self.end(process, power)
            self.timeline.after(0.05 + self.rng.random() * 1.5, lambda i=process.node_id: self.start(i))

    def _lose_disk(self) -> None:
        """A node loses its whole disk, if every node is whole: more than that nobody survives."""
        if len(self.ids) < 3:
            return
        running = [self.listening(node_id) for node_id in self.ids]
        if any(disk.files for disk in self.disks.values()) or any(not disk.incarnation for disk in self.disks.values()):
            return
        victim = self.rng.choice(self.ids)
        process = self.processes.get(victim)
        if process is not None:
            self.end(process, True)
        del running
        self.trace(f"{victim} loses its disk")
        self.checks.lost_disks = True
        self.rejoins += 1
        self.disks[victim] = SimDisk(victim, self.disks[victim].generation + 1)
        self.timeline.after(0.05 + self.rng.random() * 1.5, lambda: self.start(victim))

    def _stop(self) -> None:
        process = self._some()
        if process is not None and not process.loop.paused:
            self.trace(f"{process.node_id} is told to stop")
            process.later(0, lambda: process.node.shut_down(now=self.rng.random() < 0.2))

    def _partition(self) -> None:
        ids = list(self.ids)
        self.rng.shuffle(ids)
        size = self.rng.randrange(1, len(ids) + 1)
        leading = [i for i in ids if i in self.processes and self.processes[i].leads]
        if leading and self.rng.random() < 0.5:  # the leader alone: the case that most depends on a quorum
            ids.sort(key=lambda i: i != leading[0])
            size = 1
        here, there = ids[:size], ids[size:]
        self.network.cut(here, there)
        if self.rng.random() < 0.6:
            self.network.cut(there, here)
        self.trace(f"{here} cut from {there}")
        self.timeline.after(0.1 + self.rng.random() * 2.5, self._heal)

    def _heal(self) -> None:
        self.trace("links heal")
        self.network.heal()

    def _clog(self) -> None:
        if len(self.ids) > 1:
            src, dst = self.rng.sample(self.ids, 2)
            seconds = self.rng.random() * 0.5
            self.trace(f"{src} to {dst} takes {seconds:.3f} s longer")
            self.network.clog(src, dst, seconds)

    def _pause(self) -> None:
        process = self._some()
        if process is not None and not process.loop.paused:
            seconds = self.rng.random() * 2
            self.trace(f"{process.node_id} pauses for {seconds:.3f} s")
            process.loop.paused = True
            self.timeline.after(seconds, process.loop.resume)

    def _jump(self) -> None:
        node_id = self.rng.choice(self.ids)
        seconds = (self.rng.random() * 2 - 1) * self.plan.clock_jump_s
        self._wall_offset[node_id] += seconds
        self.trace(f"{node_id}'s clock jumps by {seconds:.3f} s")

    def _transfer(self) -> None:
        process = self._some()
        if process is None or not process.leads or len(self.ids) < 2:
            return

        def transfer() -> None:
            try:
                process.node.core.transfer_leader(self.rng.choice([None, *process.node.core.other_voters]))
            except ProposalRefused as error:
                self.trace(f"no transfer: {error}")
            process.node.schedule()

        if not process.loop.paused:
            self.trace(f"{process.node_id} hands over")
            process.later(0, lambda: transfer() if process.leads else None)

    def _compact(self) -> None:
        process = self._some()
        if process is not None:
            self.trace(f"{process.node_id} flushes and compacts")
            process.later(0, lambda: process.node.compaction.start() if process.node.is_open else None)


class _Probe:
    """Writes through one node until that works."""

    def __init__(self, world: NodeWorld, node_id: str, number: int, written: set[str]) -> None:
        self._world = world
        self._written = written
        self.client = SimClient(world, 1000 + number, node_id, world.load)

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
