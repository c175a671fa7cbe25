"""The Raft core of one node: ticks, messages and proposals in, `Ready` out. Pure: no clock, no I/O, no logging.

The driver's turn: any number of tick/step/propose/read_index/persisted/applied, then while `has_ready()`: take
`ready()`, send its messages, append its entries and hard state without waiting, start the sync, hand on what
is committed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from zattredis.raft import candidate, follower, leader, ready
from zattredis.raft.membership import Membership
from zattredis.raft.messages import (
    AppendEntries,
    AppendEntriesResponse,
    CommitAdvanced,
    Heartbeat,
    InstallSnapshot,
    Message,
    PreVoteRequest,
    PreVoteResponse,
    ReadIndexRequest,
    TimeoutNow,
    VoteRequest,
    VoteResponse,
)
from zattredis.raft.state import CANDIDATE, FOLLOWER, LEADER, LEARNER, PRE_CANDIDATE, RaftState

_HANDLERS: Final[dict[str, follower.Handlers]] = {
    FOLLOWER: candidate.FOLLOWER_HANDLERS,
    LEARNER: candidate.FOLLOWER_HANDLERS,
    PRE_CANDIDATE: candidate.PRE_CANDIDATE_HANDLERS,
    CANDIDATE: candidate.CANDIDATE_HANDLERS,
    LEADER: leader.HANDLERS,
}

_TICKS: Final[dict[str, Callable[[RaftState], None]]] = {
    FOLLOWER: candidate.tick,
    LEARNER: candidate.tick,
    PRE_CANDIDATE: candidate.tick,
    CANDIDATE: candidate.tick,
    LEADER: leader.tick,
}

_FROM_LEADER: Final = frozenset({AppendEntries, Heartbeat, CommitAdvanced, InstallSnapshot, TimeoutNow})
_STRANGERS_MAY_SEND: Final = frozenset({*_FROM_LEADER, PreVoteRequest, VoteRequest})


class Core(RaftState):
    """One node's Raft. Construct it with what storage holds durably.

    `log` must be synced: whatever it returns counts as durable. `membership` is the one of the state that has applied
    `applied_index`; later ones are found in the log. `last_stamp_ms` is the highest stamp applied.
    Raises LogLost when log, hard state and state contradict each other.

    `rejoining` is set by the server of a node that lost its log, and cleared when that node is again as good as it was:
    meanwhile it takes entries and snapshots, but neither votes nor campaigns, and its leader counts it for nothing.
    Everything but that and the methods here is to be read only from outside the room: node_id, term, role, leader_id,
    vote, commit_index, applied_index, last_index, durable_index, verified_index (how far the log is known to equal the
    leader's of this term), membership, progress, uncommitted_bytes, transferring_to, last_stamp.
    """

    __slots__ = ()

    @property
    def last_index(self) -> int:
        """The last entry of the log, durable or not."""
        return self.log.last_index

    # --- time and messages --------------------------------------------------------------------------------------------

    def tick(self) -> None:
        """One tick has passed."""
        self.ticks += 1
        _TICKS[self.role](self)

    def step(self, message: Message) -> None:
        """Take a message from a peer: the only place where terms are compared (§3.3)."""
        if message.dst != self.node_id or message.src == self.node_id:
            self.events.append(ready.MessageRefused(message.src, f"addressed to {message.dst}"))
            return
        kind = type(message)
        if message.term != self.term and not self._pass_term_gate(message, kind):
            return
        if kind not in _STRANGERS_MAY_SEND and not self.membership.is_member(message.src):
            # Votes, acknowledgements and reads of a removed or never added node count for nothing (§4.2.3).
            self.events.append(ready.MessageRefused(message.src, f"{kind.__name__} from a node that is no member"))
            return
        handler = _HANDLERS[self.role].get(kind)
        if handler is not None:
            handler(self, message)

    def _pass_term_gate(self, message: Message, kind: type[Message]) -> bool:
        """Return whether a message of another term goes on to its handler."""
        if message.term < self.term:
            self._answer_lower_term(message, kind)
            return False
        if kind is PreVoteRequest or (kind is PreVoteResponse and getattr(message, "granted", False)):
            # These speak of a term that nobody has entered.
            return True
        if kind is VoteRequest and self.in_lease and not getattr(message, "forced", False):
            # Stickiness: nobody who missed the heartbeats may depose a leader that others hear (§4.2.3).
            return False
        if kind not in _STRANGERS_MAY_SEND and not self.membership.is_member(message.src):
            return False
        follower.become_follower(self, message.term, message.src if kind in _FROM_LEADER else None)
        return True

    def _answer_lower_term(self, message: Message, kind: type[Message]) -> None:
        """Tell an asker of an older term the current one; whatever else is old counts for nothing."""
        me, peer, term = self.node_id, message.src, self.term
        if kind in (AppendEntries, Heartbeat):
            # Otherwise a leader that lease and pre-vote protect would never learn that this node has moved on.
            self.send_after_vote(AppendEntriesResponse(me, peer, term, False, 0, 0, 0))
        elif kind is VoteRequest:
            self.send_after_vote(VoteResponse(me, peer, term, False))
        elif kind is PreVoteRequest:
            self.send_after_vote(PreVoteResponse(me, peer, term, False))

    # --- requests -----------------------------------------------------------------------------------------------------

    def propose(self, kind: int, payload: bytes, stamp_ms: int, version: int) -> int:
        """Append an entry and return its index; it is sent and written with the next Ready.

        Its stamp is raised to the last one of the log if lower. Raises NotLeader, or ProposalRefused while leadership
        is being transferred or too many bytes are uncommitted; in both cases nothing was appended.
        """
        return leader.propose(self, kind, payload, stamp_ms, version)

    def propose_membership(self, target: Membership) -> int:
        """Begin the change to `target` and return the index of its (first) CONFIG entry.

        One differing voter changes at once, more by joint consensus that leaves itself. Raises NotLeader, or
        ProposalRefused: before the term's first commit, while another change is under way, without voters or change, or
        for a new voter that is not yet a learner which holds the present configuration.
        """
        return leader.propose_membership(self, target)

    def read_index(self, context: int) -> None:
        """Ask for a read point; it comes in `Ready.reads` (leader) or `Ready.read_answers` (follower).

        Dropped silently when no leader is known or leadership changes: ask again, with a fresh context.
        """
        if self.role == LEADER:
            leader.read_index(self, self.node_id, context)
        elif self.leader_id is not None:
            self.send_after_vote(
                ReadIndexRequest(self.node_id, self.leader_id, self.term, context, not self.rejoining)
            )

    def transfer_leader(self, target: str | None) -> None:
        """Hand leadership to `target`, or to the most up-to-date live voter. Raises NotLeader or ProposalRefused.

        Proposals are refused until this node follows or an election timeout has passed (then it goes on leading).
        """
        leader.transfer(self, target)

    # --- out ----------------------------------------------------------------------------------------------------------

    def has_ready(self) -> bool:
        """Return whether `ready()` has anything to say."""
        return bool(
            self.outbox
            or self.replicate_due
            or self.has_unwritten
            or self.may_deliver
            or self.events
            or self.reads_confirmed
            or self.read_answers
            or self.snapshots
        )

    def ready(self) -> ready.Ready:
        """Return what must happen now; each thing is told once."""
        out = ready.Ready()
        if self.replicate_due:
            leader.replicate(self)
        self.hand_over_writes(out)
        if self.may_deliver:
            out.committed = self.deliver()
        if self.outbox:
            out.messages, self.outbox = self.outbox, []
        if self.events:
            out.events, self.events = self.events, []
        if self.reads_confirmed:
            out.reads, self.reads_confirmed = self.reads_confirmed, []
        if self.read_answers:
            out.read_answers, self.read_answers = self.read_answers, []
        if self.snapshots:
            out.snapshots, self.snapshots = self.snapshots, []
        return out

    # --- reports ------------------------------------------------------------------------------------------------------

    def persisted(self, write_number: int) -> None:
        """All writes up to `write_number` are durable. Raises InvariantViolated for one never handed over."""
        was_hung = self.storage_hung
        self.acknowledge_writes(write_number)
        if self.role == LEADER:
            self.replicate_due |= was_hung
            leader.own_log_durable(self)
        elif self.role == CANDIDATE:
            candidate.count_own_vote(self)

    def applied(self, index: int) -> None:
        """The state machine has applied all entries up to `index`."""
        self.note_applied(index)

    def compacted(self) -> None:
        """The stored log's first index has moved."""
        self.log.compacted()

    def accepts_snapshot(self, offer: InstallSnapshot) -> bool:
        """Return whether the offered snapshot should be received; ask again right before installing it.

        Only from the leader of the current term, only beyond the commit index, and only if the log lacks its last
        entry: otherwise the log serves as well, and replacing it would lose entries that were acknowledged.
        """
        self.step(offer)
        # If the log had its last entry, the offer itself has just moved the commit index up to it.
        return offer.term == self.term and offer.src == self.leader_id and offer.index > self.commit_index

    def snapshot_installed(self, index: int, term: int, membership: Membership, last_stamp_ms: int = 0) -> None:
        """Log and state of this follower were replaced, durably, by the snapshot that ends with (`index`, `term`).

        Raises InvariantViolated when that is behind the commit index or would drop acknowledged entries.
        """
        self.replace_log(index, term, membership)
        self.last_stamp = max(self.last_stamp, last_stamp_ms)
        if self.leader_id is not None and self.role != LEADER:
            self.send_after_vote(
                AppendEntriesResponse(self.node_id, self.leader_id, self.term, True, index, 0, 0, self.rejoining)
            )

    def report_snapshot(self, node_id: str, ok: bool, index: int) -> None:
        """A snapshot that `Ready.snapshots` asked for, ending at `index`, was installed there, or failed."""
        leader.report_snapshot(self, node_id, ok, index)

    def report_unreachable(self, node_id: str) -> None:
        """The link to `node_id` broke; appends under way to it are probably lost."""
        leader.report_unreachable(self, node_id)
