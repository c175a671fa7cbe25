"""The state of one Raft node and what all roles share: durable writes, held answers, the log's ends, configurations.

Durability. A write is handed over in `Ready` with a number and acknowledged by it, first in first out. An answer that
promises something unwritten is *held* until that write is acknowledged, and is dropped if the term has changed by then.
Truncation caps what outstanding writes may make durable, so that an acknowledgement of a write from before it counts
for nothing beyond the cut.
"""

from __future__ import annotations

import random
from collections import deque
from typing import Final

from zattredis.errors import InvariantViolated, LogLost
from zattredis.raft import quorum, ready
from zattredis.raft.entry import CONFIG, Entry
from zattredis.raft.log import LogReader, RaftLog
from zattredis.raft.membership import Membership
from zattredis.raft.messages import AppendEntriesResponse, Message, ReadIndexResponse
from zattredis.raft.progress import Progress
from zattredis.raft.read_index import ReadRounds
from zattredis.raft.ready import CoreConfig, Event, HardState, ReadConfirmed

FOLLOWER: Final = "follower"
LEARNER: Final = "learner"
PRE_CANDIDATE: Final = "pre_candidate"
CANDIDATE: Final = "candidate"
LEADER: Final = "leader"


class Write:
    """One outstanding write: what it makes durable when acknowledged, and when it was handed over."""

    __slots__ = ("last_index", "number", "tick")

    def __init__(self, number: int, last_index: int, tick: int) -> None:
        self.number = number
        self.last_index = last_index
        self.tick = tick


class RaftState:
    """Invariants: applied <= delivered <= min(commit, durable); commit <= last; durable <= written <= last."""

    __slots__ = (
        "_apply_queue",
        "_hard_dirty",
        "_hard_write",
        "_held",
        "_memberships",
        "_writes",
        "applied_index",
        "commit_hint",
        "commit_index",
        "config",
        "delivered_bytes",
        "delivered_index",
        "departing",
        "durable_index",
        "election_deadline",
        "election_elapsed",
        "events",
        "heartbeat_elapsed",
        "hung_reported",
        "last_stamp",
        "leader_id",
        "log",
        "membership",
        "node_id",
        "outbox",
        "persisted_number",
        "progress",
        "quorum_elapsed",
        "read_answers",
        "reads",
        "reads_confirmed",
        "rejoining",
        "replicate_due",
        "rng",
        "role",
        "snapshots",
        "term",
        "term_start_index",
        "ticks",
        "transfer_elapsed",
        "transferring_to",
        "uncommitted_bytes",
        "uncommitted_sizes",
        "verified_index",
        "vote",
        "votes",
        "write_number",
        "written_index",
    )

    def __init__(
        self,
        config: CoreConfig,
        log: LogReader,
        hard_state: HardState,
        membership: Membership,
        applied_index: int,
        rng: random.Random,
        last_stamp_ms: int = 0,
    ) -> None:
        self.config = config
        self.node_id = config.node_id
        self.rng = rng
        self.log = RaftLog(log, config.tail_bytes_max)
        last_index = self.log.last_index
        self._check_start(log, hard_state, applied_index)
        self.term = hard_state.term
        self.vote = hard_state.vote
        # Never the log's length: what lies beyond the hint was perhaps never committed.
        self.commit_index = max(hard_state.commit, applied_index)
        self.commit_hint = hard_state.commit
        self.applied_index = self.delivered_index = applied_index
        self.delivered_bytes = 0
        self._apply_queue: deque[tuple[int, int]] = deque()
        # What the stored log returns after a start is durable: opening it syncs.
        self.durable_index = self.written_index = last_index
        self.verified_index = 0
        self.write_number = self.persisted_number = 0
        self._writes: deque[Write] = deque()
        self._held: deque[tuple[int, Message]] = deque()
        self._hard_dirty = False
        self._hard_write = 0
        self._memberships: list[tuple[int, Membership]] = [(applied_index, membership)]
        self.membership = membership
        self.last_stamp = last_stamp_ms

        self.rejoining = False
        self.leader_id: str | None = None
        self.votes: dict[str, bool] = {}
        self.progress: dict[str, Progress] = {}
        self.reads = ReadRounds()
        self.term_start_index = 0
        self.uncommitted_bytes = 0
        self.uncommitted_sizes: deque[tuple[int, int]] = deque()
        self.transferring_to: str | None = None
        self.transfer_elapsed = 0
        self.departing: tuple[str, ...] = ()
        self.replicate_due = False
        self.ticks = 0
        self.election_elapsed = 0
        self.heartbeat_elapsed = 0
        self.quorum_elapsed = 0
        self.hung_reported = 0

        self.outbox: list[Message] = []
        self.events: list[Event] = []
        self.snapshots: list[str] = []
        self.reads_confirmed: list[ReadConfirmed] = []
        self.read_answers: list[ReadIndexResponse] = []

        self.role = FOLLOWER
        self._load_tail_of_log(applied_index, last_index)
        self.role = self.idle_role
        self.election_deadline = 0
        self.restart_election_timer()

    def _check_start(self, log: LogReader, hard_state: HardState, applied_index: int) -> None:
        if not log.first_index - 1 <= applied_index <= log.last_index:
            raise LogLost(
                f"the state has applied entry {applied_index}, but the log holds {log.first_index} to {log.last_index}"
            )
        if hard_state.commit > log.last_index:
            raise LogLost(f"entry {hard_state.commit} was committed, but the log ends at {log.last_index}")
        if self.log.last_term > hard_state.term:
            raise LogLost(
                f"the log has term {self.log.last_term}, but the stored term is {hard_state.term}: a vote may be lost"
            )

    def _load_tail_of_log(self, applied_index: int, last_index: int) -> None:
        """Find the configurations and the last stamp in what is not yet applied."""
        low = applied_index + 1
        while low <= last_index:
            entries = self.log.slice(low, last_index + 1, self.config.message_bytes_max)
            for entry in entries:
                self._note_config(entry)
                self.last_stamp = max(self.last_stamp, entry.stamp_ms)
            low = entries[-1].index + 1
        if last_index == applied_index and last_index >= self.log.first_index:
            self.last_stamp = max(self.last_stamp, self.log.slice(last_index, last_index + 1, 1)[0].stamp_ms)
        self.events.clear()

    # --- who and when -------------------------------------------------------------------------------------------------

    @property
    def idle_role(self) -> str:
        """The role of a node that neither leads nor campaigns."""
        return FOLLOWER if self.membership.is_voter(self.node_id) else LEARNER

    def restart_election_timer(self) -> None:
        """Draw a fresh wait from (1, 2] election timeouts (§3.4)."""
        timeout = self.config.election_timeout_ticks
        self.election_elapsed = 0
        self.election_deadline = timeout + self.rng.randrange(1, timeout + 1)

    @property
    def in_lease(self) -> bool:
        """True while this node knows of a live leader and so refuses to help another one up (§4.2.3)."""
        if self.role == LEADER:
            return self.config.check_quorum and not self.storage_hung
        return self.leader_id is not None and self.election_elapsed < self.config.election_timeout_ticks

    def set_leader(self, leader_id: str | None) -> None:
        """Record who leads the current term."""
        if leader_id != self.leader_id:
            self.leader_id = leader_id
            self.events.append(ready.LeaderChanged(leader_id, self.term))

    def set_term(self, term: int, vote: str | None = None) -> None:
        """Enter a later term, or cast the vote of the current one. Neither is ever taken back."""
        if term < self.term or (term == self.term and self.vote not in (None, vote)):
            raise InvariantViolated(f"term {self.term} with vote {self.vote} cannot become {term} with vote {vote}")
        if term > self.term:
            self.verified_index = 0
            self.leader_id = None
            # Answers given in an older term promise what this node may no longer keep.
            self._held.clear()
        self.term = term
        self.vote = vote
        self._hard_dirty = True

    # --- sending ------------------------------------------------------------------------------------------------------

    def send(self, message: Message) -> None:
        """The message promises nothing: it may leave at once."""
        self.outbox.append(message)

    @property
    def has_unwritten(self) -> bool:
        """True when term, vote or entries wait to be handed over."""
        return self._hard_dirty or self.log.last_index > self.written_index

    @property
    def vote_is_durable(self) -> bool:
        """True when the current term and vote are on disk."""
        return not self._hard_dirty and self._hard_write <= self.persisted_number

    def send_after_vote(self, message: Message) -> None:
        """The message promises the current term and vote: it leaves when they are durable."""
        self._hold(self.write_number + 1 if self._hard_dirty else self._hard_write, message)

    def send_after_log(self, message: AppendEntriesResponse) -> None:
        """The message promises the log up to its index: it leaves when that is durable, and term and vote too."""
        if message.index <= self.durable_index:
            self.send_after_vote(message)
            return
        need = self.write_number + 1 if self.has_unwritten else self.write_number
        held = self._held
        if held and held[-1][0] == need:
            last = held[-1][1]
            if type(last) is AppendEntriesResponse and last.success and last.index <= message.index:
                # One acknowledgement of the furthest entry says all that the earlier ones would.
                held[-1] = (need, message)
                return
        self._hold(need, message)

    def _hold(self, need: int, message: Message) -> None:
        if need <= self.persisted_number:
            self.outbox.append(message)
        else:
            self._held.append((need, message))

    # --- writes -------------------------------------------------------------------------------------------------------

    @property
    def storage_hung(self) -> bool:
        """True when the oldest write has been unacknowledged for more than an election timeout."""
        writes = self._writes
        return bool(writes) and self.ticks - writes[0].tick > self.config.election_timeout_ticks

    def report_hung_storage(self) -> None:
        """Tell once per write that it hangs."""
        if self._writes and self._writes[0].number != self.hung_reported:
            self.hung_reported = self._writes[0].number
            self.events.append(ready.StorageHung(self.hung_reported, self.ticks - self._writes[0].tick))

    def hand_over_writes(self, out: ready.Ready) -> None:
        """Put what is unwritten into `out` as the next write."""
        log = self.log
        has_entries = log.last_index > self.written_index
        if not has_entries and not self._hard_dirty:
            return
        self.write_number += 1
        if has_entries:
            out.entries = log.unwritten(self.written_index)
            self.written_index = log.last_index
        if self._hard_dirty:
            self._hard_write = self.write_number
            self._hard_dirty = False
            self.commit_hint = -1
        if self.commit_hint != self.commit_index:
            self.commit_hint = self.commit_index
            out.hard_state = HardState(self.term, self.vote, self.commit_index)
        out.write_number = self.write_number
        out.must_sync = True
        self._writes.append(Write(self.write_number, self.written_index, self.ticks))

    def acknowledge_writes(self, write_number: int) -> None:
        """All writes up to `write_number` are durable: release what waited for them."""
        if write_number > self.write_number:
            raise InvariantViolated(
                f"write {write_number} is acknowledged, but only {self.write_number} were handed over"
            )
        if write_number <= self.persisted_number:
            return
        self.persisted_number = write_number
        writes = self._writes
        while writes and writes[0].number <= write_number:
            last_index = writes.popleft().last_index
            self.durable_index = max(self.durable_index, last_index)
        if self.durable_index > self.written_index:
            raise InvariantViolated(f"durable {self.durable_index} is beyond what was written, {self.written_index}")
        held = self._held
        # Nearly in order: an answer that needs only the vote may stand behind one that needs a later write.
        while held and held[0][0] <= write_number:
            self.outbox.append(held.popleft()[1])
        if held:
            late = [pair for pair in held if pair[0] <= write_number]
            if late:
                self.outbox.extend([message for _, message in late])
                self._held = deque([pair for pair in held if pair[0] > write_number])
        self.log.trim(self.durable_index, self.delivered_index)

    # --- the log ------------------------------------------------------------------------------------------------------

    def append(self, entries: list[Entry]) -> None:
        """Append entries; configurations among them take effect at once (§4.1)."""
        self.log.append(entries)
        for entry in entries:
            if entry.kind == CONFIG:
                self._note_config(entry)
        self.last_stamp = max(self.last_stamp, entries[-1].stamp_ms)

    def truncate(self, index: int) -> None:
        """Drop the log from `index` on, because entry `index` contradicts the leader's."""
        if index <= self.commit_index:
            raise InvariantViolated(
                f"committed entry {index} contradicts the leader of term {self.term} (commit {self.commit_index})"
            )
        self.events.append(ready.TruncatedLog(index, self.log.last_index))
        self.log.truncate(index)
        last = index - 1
        self.durable_index = min(self.durable_index, last)
        self.written_index = min(self.written_index, last)
        for write in self._writes:
            write.last_index = min(write.last_index, last)
        while self._memberships[-1][0] > last:
            self._memberships.pop()
        self._membership_in_effect()

    def commit_to(self, index: int) -> None:
        """Entries up to `index` are committed."""
        if index <= self.commit_index:
            return
        if index > self.log.last_index:
            raise InvariantViolated(f"commit index {index} is beyond the log's end {self.log.last_index}")
        before = self.commit_index
        self.commit_index = index
        memberships = self._memberships
        if memberships[-1][0] > before:
            for at, membership in memberships:
                if before < at <= index:
                    self.events.append(ready.MembershipCommitted(at, membership))
            while len(memberships) > 1 and memberships[1][0] <= index:
                memberships.pop(0)

    @property
    def deliverable_index(self) -> int:
        """The state may never be ahead of the own durable log."""
        return min(self.commit_index, self.durable_index)

    @property
    def may_deliver(self) -> bool:
        """True when committed entries can be handed out within the bound."""
        return self.deliverable_index > self.delivered_index and self.delivered_bytes < self.config.apply_bytes_max

    def deliver(self) -> list[Entry]:
        """Return the next committed entries to apply."""
        room = self.config.apply_bytes_max - self.delivered_bytes
        entries = self.log.slice(self.delivered_index + 1, self.deliverable_index + 1, room)
        size = 0
        for entry in entries:
            size += len(entry.raw)
        self.delivered_bytes += size
        self.delivered_index = entries[-1].index
        self._apply_queue.append((self.delivered_index, size))
        return entries

    def note_applied(self, index: int) -> None:
        """The state machine has applied everything up to `index`."""
        if not self.applied_index <= index <= self.delivered_index:
            raise InvariantViolated(
                f"applied {index}, but {self.applied_index} was before and {self.delivered_index} is delivered"
            )
        self.applied_index = index
        queue = self._apply_queue
        while queue and queue[0][0] <= index:
            self.delivered_bytes -= queue.popleft()[1]

    def replace_log(self, index: int, term: int, membership: Membership) -> None:
        """Log and state were replaced by a snapshot that ends with (`index`, `term`)."""
        if index <= self.commit_index:
            raise InvariantViolated(
                f"a snapshot ending at {index} cannot replace a log committed to {self.commit_index}"
            )
        # Asked of the tail only: the stored log is replaced already. `accepts_snapshot` has asked the whole log before.
        if self.log.last_index > index and self.log.in_memory(index) and self.log.matches(index, term):
            raise InvariantViolated(f"a snapshot ending at {index} would drop entries that were acknowledged")
        self.log.reset(index, term)
        self.commit_index = self.commit_hint = self.applied_index = self.delivered_index = index
        self.durable_index = self.written_index = self.verified_index = index
        self.delivered_bytes = 0
        self._apply_queue.clear()
        for write in self._writes:
            write.last_index = 0
        self._held = deque([pair for pair in self._held if not isinstance(pair[1], AppendEntriesResponse)])
        self._memberships = [(index, membership)]
        self._membership_in_effect()
        self.events.append(ready.SnapshotInstalled(index, term))

    # --- configurations -----------------------------------------------------------------------------------------------

    @property
    def membership_index(self) -> int:
        """The CONFIG entry in effect, or where the log began."""
        return self._memberships[-1][0]

    def _note_config(self, entry: Entry) -> None:
        if entry.kind == CONFIG:
            self._memberships.append((entry.index, Membership.decode(entry.payload)))
            self._membership_in_effect()

    def _membership_in_effect(self) -> None:
        index, membership = self._memberships[-1]
        before, self.membership = self.membership, membership
        if membership == before:
            return
        self.events.append(ready.MembershipChanged(index, membership))
        if self.role in (FOLLOWER, LEARNER):
            self.role = self.idle_role

    @property
    def may_campaign(self) -> bool:
        """True for a voter, and for one whose removal is not known to be committed.

        Until then it may hold entries that no voter of the new configuration has: if it kept still, nobody could be
        elected (§4.2.2).
        """
        return not self.rejoining and any(m.is_voter(self.node_id) for _, m in self._memberships)

    @property
    def other_voters(self) -> list[str]:
        """Every voter of either half but this node."""
        membership = self.membership
        return [i for i in membership.members if i != self.node_id and membership.is_voter(i)]

    def has_quorum(self, ids: set[str]) -> bool:
        """Return whether `ids` are a quorum of the configuration in effect."""
        return quorum.has_quorum(self.membership, ids)
