"""The driver: carries out what the Raft core asks for, in the one order that is safe (DESIGN §2, §4).

Of each `Ready`: messages leave, entries and hard state are appended without waiting, a sync is asked for. The sync runs
on its thread and covers everything appended before it; the loop waits for it a few ms, because a quick disk answers
within that and a whole turn of the loop is saved, and goes on without it if not: a slow disk delays acknowledgements,
never heartbeats or reads. What is committed and durable here goes to the applier.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from zattredis.errors import WriteStalled
from zattredis.keyspace.maintenance import has_volatile
from zattredis.observability.events import get_logger
from zattredis.peer.messages import ForwardBatch, ForwardExpected, ForwardOpen
from zattredis.raft import ready as events
from zattredis.raft.core import Core
from zattredis.raft.entry import CONFIG, NOOP, TIME, Entry
from zattredis.raft.messages import Message, PreVoteRequest, ReadIndexResponse, TimeoutNow, VoteRequest
from zattredis.raft.ready import Ready
from zattredis.server.admission import Admission
from zattredis.server.applier import Applier
from zattredis.server.clock import RESERVATION_MS, Clock
from zattredis.server.proposals import Proposals
from zattredis.server.reads import Reads
from zattredis.storage.log_store import LogStore
from zattredis.storage.sync_thread import SyncThread

SYNC_WAIT_S = 0.003
STALL_RETRY_S = 0.005
BREATH_BYTES = 8 << 20
"""An entry beyond this is written in a turn of the loop of its own."""
_ELECTION = (PreVoteRequest, VoteRequest, TimeoutNow)

_log = get_logger(room="driver")


class Network(Protocol):
    """What the driver needs of the peers."""

    def send(self, message: Message) -> bool:
        """Queue a message for `message.dst`; False when it was dropped."""
        ...

    def flush(self) -> None:
        """Hand everything queued to the sockets now."""
        ...


class Driver:
    """One per node, on the loop. Owns the core; everything that changes it goes through here."""

    __slots__ = (
        "_applier", "_call_later", "_clock", "_committed_stamp", "_held_reads", "_network", "_no_room",
        "_on_event", "_on_snapshot_needed", "_proposals", "_pumping", "_reads", "_stalled", "_sync", "_sync_asked",
        "_time_index", "_told", "admission", "core", "log", "may_vote",
    )  # fmt: skip

    def __init__(
        self,
        *,
        core: Core,
        log: LogStore,
        sync: SyncThread,
        clock: Clock,
        network: Network,
        applier: Applier,
        on_event: Callable[[events.Event], None],
        on_snapshot_needed: Callable[[str], None],
        call_later: Callable[[float, Callable[[], None]], Any],
    ) -> None:
        self.core = core
        self.log = log
        self._sync = sync
        self._clock = clock
        self._network = network
        self._applier = applier
        self._on_event = on_event
        self._on_snapshot_needed = on_snapshot_needed
        self._call_later = call_later
        self.admission = Admission(core, applier.sessions, clock)
        self._proposals: Proposals = None  # type: ignore[assignment]
        self._reads: Reads = None  # type: ignore[assignment]
        self._pumping = False
        self._stalled: Ready | None = None
        self._sync_asked = 0
        self._told: dict[int, tuple[int, int]] = {}
        self._no_room: dict[int, str] = {}  # session → origin of those whose next batch the log had no room for
        self._held_reads: list[tuple[str, int, int]] = []  # confirmed, waiting for the cluster's time to move on
        self._time_index = 0
        self._committed_stamp = applier.last_stamp_ms
        self.may_vote = True

    def attach(self, proposals: Proposals, reads: Reads) -> None:
        """Tell it who waits for read points and for the leader."""
        self._proposals = proposals
        self._reads = reads

    # -- what comes in -----------------------------------------------------------------------------------------------

    def on_message(self, message: Message) -> None:
        """A peer's message. A node that may not vote hears nothing of elections (see `server.rejoin`)."""
        if not self.may_vote and isinstance(message, _ELECTION):
            return
        handler = _SERVER_MESSAGES.get(type(message))
        if handler is not None:
            handler(self, message)
        else:
            self.core.step(message)

    def on_tick(self) -> None:
        """One tick of the core's clock."""
        if not self.may_vote:
            self.core.restart_election_timer()
        self.core.tick()
        self._tell_room()

    def on_synced(self, write_number: int) -> None:
        """The sync thread reports, through the loop, what is durable."""
        self.core.persisted(write_number)
        self.pump()

    def ask_read(self, context: int) -> None:
        """Ask for a read point under a fresh number."""
        self.core.read_index(context)

    # -- the transport of proposals ----------------------------------------------------------------------------------

    @property
    def is_leader(self) -> bool:
        """Whether this node leads."""
        return self.core.role == "leader"

    def forward_batch(self, session: int, sequence: int, payload: bytes) -> bool:
        """Hand a batch to the leader, wherever that is; False: certainly not handed over."""
        core = self.core
        if core.role == "leader":
            admission = self.admission
            if admission.admit(session, sequence, payload):
                return True
            # An older sequence is in the log already.
            return admission.ready and sequence < admission.expected(session)
        leader = core.leader_id
        if leader is None:
            return False
        return self._network.send(ForwardBatch(core.node_id, leader, core.term, session, sequence, payload))

    def forward_open(self, nonce: int) -> bool:
        """Ask the leader to open a session for this node."""
        core = self.core
        if core.role == "leader":
            return self.admission.open_session(core.node_id, nonce)
        if core.leader_id is None:
            return False
        return self._network.send(ForwardOpen(core.node_id, core.leader_id, core.term, nonce))

    def _on_forward_batch(self, message: Message) -> None:
        assert isinstance(message, ForwardBatch)
        if self.core.role != "leader" or not self.admission.ready:
            return
        if self.admission.admit(message.session, message.sequence, message.payload) or message.session in self._no_room:
            return
        expected = self.admission.expected(message.session)
        if message.sequence == expected:
            self._no_room[message.session] = message.src
            return
        # Once a tick is enough: every refused batch behind the first would say the same and be sent again for it.
        told = (expected, self.core.ticks)
        if self._told.get(message.session) != told:
            self._told[message.session] = told
            self._tell_expected(message.src, message.session, expected)

    def _tell_expected(self, origin: str, session: int, expected: int) -> None:
        core = self.core
        self._network.send(ForwardExpected(core.node_id, origin, core.term, session, expected))

    def _tell_room(self) -> None:
        """The log takes more again: those whose next batch it refused may send it. Told earlier, they would send it
        over and over, only to be refused."""
        core = self.core
        if self._no_room and core.uncommitted_bytes <= core.config.uncommitted_bytes_max // 2:
            refused, self._no_room = self._no_room, {}
            for session, origin in refused.items():
                self._tell_expected(origin, session, self.admission.expected(session))

    def _on_forward_open(self, message: Message) -> None:
        assert isinstance(message, ForwardOpen)
        if self.core.role == "leader" and self.core.membership.is_member(message.src):
            self.admission.open_session(message.src, message.nonce)

    def _on_forward_expected(self, message: Message) -> None:
        assert isinstance(message, ForwardExpected)
        if message.src == self.core.leader_id:
            self._proposals.on_expected(message.session, message.expected)

    def propose_time(self) -> None:
        """Append an entry that carries only its stamp, unless one is under way."""
        core = self.core
        if core.role == "leader" and self._time_index <= core.commit_index:
            index = self.admission.propose(TIME, b"")
            if index is not None:
                self._time_index = index

    # -- what comes out ----------------------------------------------------------------------------------------------

    def pump(self) -> None:
        """Carry out everything the core has ready. Raises StorageError where the node must stop."""
        if self._pumping or self._stalled is not None:
            return
        self._pumping = True
        try:
            self._pump()
        finally:
            self._pumping = False
        self._applier.run()

    def _pump(self) -> None:
        core = self.core
        while True:
            while core.has_ready():
                if not self._carry_out(core.ready()):
                    return
            if self._sync_asked <= core.persisted_number:
                return
            self._network.flush()
            durable = self._sync.wait(SYNC_WAIT_S)
            if durable <= core.persisted_number:
                return  # the thread will say so through the loop
            core.persisted(durable)

    def _carry_out(self, ready: Ready) -> bool:
        for message in ready.messages:
            self._network.send(message)
        if ready.events:
            for event in ready.events:
                self._note(event)
        if ready.write_number:
            entries = ready.entries
            if entries and len(entries[-1].raw) > BREATH_BYTES and self._stalled is not ready:
                # Its copying took a while, and so does writing it: others get their turn in between.
                if len(entries) == 1:
                    self.log.stage(entries[0])
                self._later(ready, 0.0)
                return False
            if not self._append(ready):
                return False
        if ready.committed:
            # A new leader has counted its whole log already, which may be handed over part by part.
            self._committed_stamp = max(self._committed_stamp, ready.committed[-1].stamp_ms)
            self._applier.enqueue(ready.committed)
        if self.is_leader:  # only a leader may give a read its time; of one deposed since, the askers try again
            for read in ready.reads:
                self._confirm(read.node_id, read.context, read.index)
        for answer in ready.read_answers:
            if answer.ok:
                self._clock.floor(answer.time_ms)
                self._reads.on_confirmed(answer.context, answer.index, answer.time_ms)
            else:
                self._call_later(0.02, self._reads.retry)
        for node_id in ready.snapshots:
            self._on_snapshot_needed(node_id)
        return True

    def _append(self, ready: Ready) -> bool:
        try:
            self.log.append(ready.entries, ready.hard_state)
        except WriteStalled:
            self._later(ready, STALL_RETRY_S)
            return False
        self._sync_asked = ready.write_number
        self._sync.request(ready.write_number)
        return True

    def _later(self, ready: Ready, seconds: float) -> None:
        """Go on with what is still to be done of this Ready later; until then the core is not asked for another."""
        ready.messages, ready.events = [], []
        self._stalled = ready
        self._call_later(seconds, self._retry_append)

    def _retry_append(self) -> None:
        ready = self._stalled
        if ready is not None and self._carry_out(ready):
            self._stalled = None
            self.pump()

    @property
    def write_waits(self) -> bool:
        """Whether a write waits for a log that asked to slow down, and what is to be applied behind it."""
        return self._stalled is not None

    # -- reads and time (DESIGN §2.3) --------------------------------------------------------------------------------

    def _confirm(self, node_id: str, context: int, index: int) -> None:
        """A read point is confirmed: give it a time, or hold it until the cluster's time has moved on.

        What is agreed on and not applied yet nobody can have seen, where there is no other node: no read waits for it.
        That does not hold for what this node applied before it was started again, for its state may lie behind its log,
        nor for what members applied that are no more: all that is applied first.
        """
        core, applied, behind = self.core, self._applier.applied_index, self.core.commit_index
        if len(core.membership.members) == 1 and applied >= max(core.term_start_index, core.membership_index):
            index, behind = min(index, applied), applied
        time_ms = self._read_time(behind)
        if time_ms is None:
            self._held_reads.append((node_id, context, index))
            self.propose_time()
        else:
            self._answer(node_id, context, index, time_ms)

    def _answer(self, node_id: str, context: int, index: int, time_ms: int) -> None:
        core = self.core
        if node_id == core.node_id:
            self._reads.on_confirmed(context, index, time_ms)
        else:
            self._network.send(ReadIndexResponse(core.node_id, node_id, core.term, context, index, time_ms, True))

    def _read_time(self, behind: int) -> int | None:
        """Return the time of a read confirmed now; None when keys may be due that only a later stamp could show.

        Never beyond the clock, the stamp of the first entry after `behind` (what the read does not wait for is carried
        out at that time, and so are the reads that follow it), and the highest committed reservation. While
        no key has an expiry the reservation does not matter: no reply depends on it. The core's own entries have the
        stamp of the one before, without a look at the clock, and execute nothing: they do not count.
        """
        core = self.core
        now_ms = self._clock.now_ms()
        index, last = behind + 1, core.last_index
        while index <= last:
            entry = core.log.slice(index, index + 1, 1)[0]
            if entry.kind not in (CONFIG, NOOP):
                now_ms = min(now_ms, entry.stamp_ms)
                break
            index += 1
        reserved_ms = self._committed_stamp + RESERVATION_MS
        if now_ms > reserved_ms - RESERVATION_MS // 2 and has_volatile(self._applier.registers):
            if now_ms > reserved_ms:
                return None
            self.propose_time()
        return min(now_ms, reserved_ms)

    def release_held_reads(self) -> None:
        """Something was committed: give the reads that were held their time."""
        if self._held_reads:
            held, self._held_reads = self._held_reads, []
            if self.core.role != "leader":
                return  # their askers try again
            for node_id, context, index in held:
                self._confirm(node_id, context, index)

    # -- events ------------------------------------------------------------------------------------------------------

    def on_entry_applied(self, entry: Entry) -> None:
        """The applier has written the effects of an entry."""
        core = self.core
        if entry.kind == NOOP and core.role == "leader" and entry.term == core.term:
            self.admission.open_gates(self._applier.machine_version)
            for node_id, row in self._applier.sessions.rows.items():
                if node_id != core.node_id:
                    self._network.send(ForwardExpected(core.node_id, node_id, core.term, row.session, row.last + 1))
            self._proposals.go_back()

    def on_applied(self, index: int) -> None:
        """The applier has written everything up to `index`."""
        self.core.applied(index)
        self._tell_room()
        self.release_held_reads()
        self._reads.on_applied()

    def _note(self, event: events.Event) -> None:
        kind = type(event)
        if kind is events.BecameLeader:
            self._clock.floor(self.core.last_stamp + RESERVATION_MS)
            # No read is given its time before all of this log is committed: the reservations in it count, though what
            # made them is perhaps handed to the state later than that.
            self._committed_stamp = max(self._committed_stamp, self.core.last_stamp)
            self.admission.begin_term()
            self._told.clear()
            self._no_room.clear()
            self._time_index = 0
        elif kind is events.BecameFollower:
            self.admission.begin_term()
            self._held_reads.clear()
            self._no_room.clear()
        elif kind is events.LeaderChanged and event.leader_id is not None:  # type: ignore[attr-defined]
            self._reads.retry()
            if self.core.role != "leader":
                self._proposals.go_back()
        self._on_event(event)

    def on_link(self, node_id: str, up: bool) -> None:
        """The link to a peer was made or broke: what was under way on it may be lost."""
        if not up:
            self.core.report_unreachable(node_id)
        elif node_id == self.core.leader_id:
            self._proposals.go_back()
            self._reads.retry()


_SERVER_MESSAGES: dict[type[Message], Callable[[Driver, Message], None]] = {
    ForwardBatch: Driver._on_forward_batch,
    ForwardOpen: Driver._on_forward_open,
    ForwardExpected: Driver._on_forward_expected,
}

__all__ = ["Driver", "Network"]
