"""The leader: replicates, counts, confirms reads, hands over, changes the membership."""

from __future__ import annotations

from typing import Final

from zattredis.errors import InvariantViolated, LogCompacted, NotLeader, ProposalRefused
from zattredis.raft import follower, quorum, ready
from zattredis.raft.entry import CONFIG, NOOP, make_entry
from zattredis.raft.membership import Membership
from zattredis.raft.messages import (
    AppendEntries,
    AppendEntriesResponse,
    CommitAdvanced,
    Heartbeat,
    HeartbeatResponse,
    InstallSnapshot,
    ReadIndexRequest,
    TimeoutNow,
)
from zattredis.raft.progress import PROBE, REPLICATE, SNAPSHOT, Progress
from zattredis.raft.read_index import ReadRounds
from zattredis.raft.state import CANDIDATE, LEADER, RaftState

RAFT_VERSION: Final = 0
"""State-machine version in the header of NOOP and CONFIG entries, which no state machine interprets."""

PROBE_BYTES_MAX: Final = 64 << 10
"""A probe carries entries only if the first is no larger."""


def become_leader(s: RaftState) -> None:
    """Won the election: begin the term with an entry of its own, which alone can be committed by counting (§3.6.2)."""
    if s.role != CANDIDATE or s.vote != s.node_id:
        raise InvariantViolated(f"a {s.role} with vote {s.vote} cannot become leader")
    s.role = LEADER
    s.votes = {}
    s.set_leader(s.node_id)
    s.reads = ReadRounds()
    s.uncommitted_bytes = 0
    s.uncommitted_sizes.clear()
    s.transferring_to = None
    s.departing = ()
    s.heartbeat_elapsed = s.quorum_elapsed = 0
    s.progress = {}
    _sync_progress(s)
    s.term_start_index = _append(s, NOOP, RAFT_VERSION, 0, b"")
    s.events.append(ready.BecameLeader(s.term, s.term_start_index))


def _sync_progress(s: RaftState) -> None:
    """Have a progress for each member of the configuration in effect and for nobody else."""
    old = s.progress
    s.progress = {i: old.get(i) or Progress(s.log.last_index + 1) for i in s.membership.members}
    own = s.progress.get(s.node_id)
    if own is not None:
        own.acknowledged(s.durable_index)
        own.recent_active = True


def _append(s: RaftState, kind: int, version: int, stamp_ms: int, payload: bytes) -> int:
    index = s.log.last_index + 1
    entry = make_entry(index, s.term, kind, version, max(stamp_ms, s.last_stamp), payload)
    s.append([entry])
    size = len(entry.raw)
    s.uncommitted_sizes.append((index, size))
    s.uncommitted_bytes += size
    s.replicate_due = True
    return index


def _check_proposable(s: RaftState) -> None:
    if s.role != LEADER:
        raise NotLeader(f"{s.node_id} is a {s.role}; the leader is {s.leader_id or 'unknown'}")
    if s.transferring_to is not None:
        raise ProposalRefused(f"leadership is being transferred to {s.transferring_to}")


def propose(s: RaftState, kind: int, payload: bytes, stamp_ms: int, version: int) -> int:
    """Append an entry and return its index; see `Core.propose`."""
    if s.role != LEADER or s.transferring_to is not None:
        _check_proposable(s)
    if s.uncommitted_bytes and s.uncommitted_bytes + len(payload) > s.config.uncommitted_bytes_max:
        raise ProposalRefused(f"{s.uncommitted_bytes} bytes are uncommitted")
    if kind in (NOOP, CONFIG):
        raise InvariantViolated("NOOP and CONFIG entries are the core's own")
    return _append(s, kind, version, stamp_ms, payload)


# --- sending ----------------------------------------------------------------------------------------------------------


def replicate(s: RaftState) -> None:
    """Send every member what it lacks, as far as its window allows. Called once per Ready."""
    s.replicate_due = False
    if s.role != LEADER or s.storage_hung:
        # Nothing that could keep this leadership alive may leave while the own disk is silent.
        return
    if s.reads.waiting:
        _start_round(s)
    last, commit = s.log.last_index, s.commit_index
    for node_id, p in s.progress.items():
        if node_id == s.node_id:
            continue
        if p.state == REPLICATE:
            _pipeline(s, node_id, p, last)
            if p.state == REPLICATE and p.commit_sent < commit:
                p.commit_sent = commit
                s.send(CommitAdvanced(s.node_id, node_id, s.term, commit))
        elif p.state == PROBE and p.probe_sent_tick is None:
            _send_append(s, node_id, p)
        if p.snapshot_wanted and p.recent_active:
            p.snapshot_wanted = False
            s.snapshots.append(node_id)


def _pipeline(s: RaftState, node_id: str, p: Progress, last: int) -> None:
    config = s.config
    while p.next_index <= last and not p.window_full(config.window_entries, config.window_bytes):
        in_memory = s.log.in_memory(p.next_index)
        if not _send_append(s, node_id, p) or not in_memory:
            # At most one read of the disk per follower and turn; its acknowledgement brings the next.
            return


def _send_append(s: RaftState, node_id: str, p: Progress, empty: bool = False) -> bool:
    """Send the next entries; returns False and asks for a snapshot when they are compacted."""
    log, low = s.log, p.next_index
    try:
        prev_term = log.term(low - 1)
        high = low if empty else p.match_index + s.config.window_entries + 1
        entries = log.slice(low, high, s.config.message_bytes_max)
    except LogCompacted:
        p.become_snapshot()
        s.replicate_due = True
        return False
    raws = [entry.raw for entry in entries]
    if p.state == PROBE and raws and len(raws[0]) > PROBE_BYTES_MAX:
        raws = []  # a probe is repeated until it is answered: large entries follow once the logs are known to match
    s.send(AppendEntries(s.node_id, node_id, s.term, low - 1, prev_term, s.commit_index, raws))
    if p.state == PROBE:
        p.probe_sent_tick = s.ticks
        return True
    p.commit_sent = s.commit_index
    if raws:
        p.sent(low + len(raws) - 1, sum(map(len, raws)))
    return True


def _send_heartbeats(s: RaftState, receivers: list[str]) -> None:
    round_number = s.reads.next_round()
    for node_id in receivers:
        commit = min(s.progress[node_id].match_index, s.commit_index)
        s.send(Heartbeat(s.node_id, node_id, s.term, commit, round_number))


# --- ticks ------------------------------------------------------------------------------------------------------------


def tick(s: RaftState) -> None:
    """Heartbeats, check quorum, the end of a transfer that failed."""
    hung = s.storage_hung
    if hung:
        s.report_hung_storage()
    s.quorum_elapsed += 1
    if s.quorum_elapsed >= s.config.election_timeout_ticks:
        s.quorum_elapsed = 0
        if s.config.check_quorum and not _quorum_is_active(s):
            s.events.append(ready.QuorumLost(s.term))
            follower.become_follower(s, s.term, None)
            return
    if s.transferring_to is not None:
        s.transfer_elapsed += 1
        if s.transfer_elapsed >= s.config.election_timeout_ticks:
            _end_transfer(s)
    s.heartbeat_elapsed += 1
    if s.heartbeat_elapsed < s.config.heartbeat_ticks or hung:
        return
    s.heartbeat_elapsed = 0
    others = [i for i in s.progress if i != s.node_id]
    for node_id in others:
        s.progress[node_id].note_heartbeat()
    _send_heartbeats(s, others)
    if s.transferring_to is not None:
        _hand_over_if_level(s)


def _quorum_is_active(s: RaftState) -> bool:
    """Return whether a quorum was heard from since the last call."""
    active = {i for i, p in s.progress.items() if (p.recent_active and not p.rejoining) or i == s.node_id}
    for p in s.progress.values():
        p.recent_active = False
    return s.has_quorum(active)


# --- answers ----------------------------------------------------------------------------------------------------------


def _note_alive(s: RaftState, p: Progress, rejoining: bool) -> None:
    p.recent_active = True
    if p.rejoining != rejoining:
        p.rejoining = rejoining
        if not rejoining:
            maybe_commit(s)


def on_append_entries_response(s: RaftState, m: AppendEntriesResponse) -> None:
    """A member's log matches up to an index, durably, or it refused an append."""
    p = s.progress.get(m.src)
    if p is None:
        return
    _note_alive(s, p, m.rejoining)
    if not m.success:
        _on_refusal(s, p, m)
        return
    if m.index > s.log.last_index:
        s.events.append(ready.MessageRefused(m.src, f"acknowledged entry {m.index}, which was never sent"))
        return
    answers_probe = p.state == PROBE and m.index >= p.next_index - 1  # not an older append, overtaken by its successor
    news = p.acknowledged(m.index)
    if answers_probe or (p.state == SNAPSHOT and p.match_index >= s.log.first_index - 1):
        p.become_replicate()
    if news:
        maybe_commit(s)
        if m.src == s.transferring_to:
            _hand_over_if_level(s)
    if p.next_index <= s.log.last_index or p.commit_sent < s.commit_index:
        s.replicate_due = True


def _on_refusal(s: RaftState, p: Progress, m: AppendEntriesResponse) -> None:
    """Look for the meeting point further back, at most once per whole term (§3.5, end)."""
    if m.rejoining and m.hint_index < p.match_index:
        # A refusal from before it was filled looks the same. Each has a whole window sent again, which draws refusals
        # where messages overtake each other: believed once an interval, and what is true is repeated.
        if p.lost_tick is None or s.ticks - p.lost_tick >= s.config.heartbeat_ticks:
            p.lose_log(m.hint_index, s.ticks)
            s.replicate_due = True
        return
    stale = m.index <= p.match_index if p.state == REPLICATE else m.index != p.next_index - 1
    if stale or p.state == SNAPSHOT:
        return
    floor = max(p.match_index, s.log.first_index - 1)
    meeting = min(m.hint_index, m.index - 1)
    if meeting > floor:
        meeting = s.log.highest_at_most(meeting, m.hint_term, floor)
    p.become_probe(meeting + 1)
    s.replicate_due = True


def on_heartbeat_response(s: RaftState, m: HeartbeatResponse) -> None:
    """A member follows this leader: it is alive, may be sent to again, and confirms reads."""
    p = s.progress.get(m.src)
    if p is None:
        return
    _note_alive(s, p, m.rejoining)
    if m.round > s.reads.round:
        s.events.append(ready.MessageRefused(m.src, f"answered round {m.round}, which was never sent"))
        return
    if not p.rejoining:
        p.round_acked = max(p.round_acked, m.round)
    if p.state == PROBE:
        if p.probe_sent_tick is not None and s.ticks - p.probe_sent_tick >= s.config.heartbeat_ticks:
            p.probe_sent_tick = None
            s.replicate_due = True
    elif p.state == SNAPSHOT:
        s.replicate_due |= p.snapshot_wanted
    elif p.stalled and not s.storage_hung:
        # A lost append shows as a refusal of this one, a lost acknowledgement is repeated by its answer.
        p.stalled = False
        _send_append(s, m.src, p, empty=True)
    elif p.next_index <= s.log.last_index or p.commit_sent < s.commit_index:
        s.replicate_due = True
    if s.reads.in_flight and m.round >= s.reads.started:
        _maybe_confirm(s)


# --- commit -----------------------------------------------------------------------------------------------------------


def own_log_durable(s: RaftState) -> None:
    """Own writes were acknowledged: the leader counts its own entries only now (§10.2.1)."""
    own = s.progress.get(s.node_id)
    if own is not None and own.acknowledged(s.durable_index):
        maybe_commit(s)


def maybe_commit(s: RaftState) -> None:
    """Commit what a quorum holds, if it is of the current term; earlier ones only along with it (§3.6.2)."""
    progress = s.progress
    for p in progress.values():
        if p.rejoining:
            progress = {i: p for i, p in progress.items() if not p.rejoining}
            break
    index = quorum.committed_index(s.membership, progress)
    if index <= s.commit_index or s.log.term(index) != s.term:
        return
    s.commit_to(index)
    sizes = s.uncommitted_sizes
    while sizes and sizes[0][0] <= index:
        s.uncommitted_bytes -= sizes.popleft()[1]
    s.replicate_due = True
    if s.membership_index >= s.term_start_index or s.membership.joint or not s.membership.is_voter(s.node_id):
        _after_membership_commit(s)


def _after_membership_commit(s: RaftState) -> None:
    """Leave a committed joint configuration; step down after the commit of one without this node (§4.2.2)."""
    if s.membership_index > s.commit_index:
        return
    for node_id in s.departing:
        s.send(CommitAdvanced(s.node_id, node_id, s.term, s.commit_index))
    s.departing = ()
    if s.membership.joint:
        if s.membership.auto_leave:
            _append_membership(s, s.membership.leave_joint())
    elif not s.membership.is_voter(s.node_id):
        replicate(s)
        heir = _best_target(s)
        if heir is not None and s.progress[heir].match_index == s.log.last_index:
            s.send(TimeoutNow(s.node_id, heir, s.term))
        follower.become_follower(s, s.term, None)


def _append_membership(s: RaftState, membership: Membership) -> int:
    index = _append(s, CONFIG, RAFT_VERSION, 0, membership.encode())
    # Whoever is left out is sent the entry that says so, once, and its commitment: then it goes by itself.
    s.departing = tuple(i for i in s.progress if i != s.node_id and not membership.is_member(i))
    for node_id in s.departing:
        p = s.progress[node_id]
        if p.state == REPLICATE and not s.storage_hung:
            _pipeline(s, node_id, p, index)
    _sync_progress(s)
    if s.transferring_to is not None and not membership.is_voter(s.transferring_to):
        _end_transfer(s)
    return index


def propose_membership(s: RaftState, target: Membership) -> int:
    """Append the configuration that leads to `target`; see `Core.propose_membership`."""
    _check_proposable(s)
    if s.commit_index < s.term_start_index:
        # Without this, two leaders' single changes can have majorities that do not overlap.
        raise ProposalRefused("the leader has not committed an entry of its term yet")
    if s.membership_index > s.commit_index or s.membership.joint:
        raise ProposalRefused("another membership change is under way")
    if target.joint or target.learners_next or not target.voters:
        raise ProposalRefused("the target must have voters and must not be a joint configuration")
    for node_id in target.voters:
        if not s.membership.is_voter(node_id) and not _knows_membership(s, node_id):
            raise ProposalRefused(f"{node_id} must first be a learner that has caught up")
    if target == s.membership:
        raise ProposalRefused("nothing would change")
    return _append_membership(s, s.membership.change_to(target))


def _knows_membership(s: RaftState, node_id: str) -> bool:
    """Return whether a learner durably holds the configuration that names it: only then does it vote when asked."""
    p = s.progress.get(node_id)
    return p is not None and p.match_index > 0 and p.match_index >= s.membership_index


# --- reads ------------------------------------------------------------------------------------------------------------


def read_index(s: RaftState, node_id: str, context: int) -> None:
    """Let a read wait for the next round; dropped beyond the bound."""
    if len(s.reads) < s.config.reads_max:
        s.reads.add(node_id, context)
        s.replicate_due = True


def on_read_index_request(s: RaftState, m: ReadIndexRequest) -> None:
    """A follower asks for a read point: confirmed at once where the two are a quorum (see `read_index`)."""
    asked_by_quorum = m.vouches and s.has_quorum({s.node_id, m.src})
    if asked_by_quorum and s.commit_index >= s.term_start_index and not s.storage_hung:
        s.reads_confirmed.append(ready.ReadConfirmed(m.src, m.context, s.commit_index))
    else:
        read_index(s, m.src, m.context)


def _start_round(s: RaftState) -> None:
    """Start the round of all waiting reads, unless one is under way or the term has committed nothing yet (§6.4)."""
    if s.reads.in_flight or s.commit_index < s.term_start_index:
        return
    s.reads.start(s.commit_index)
    if s.has_quorum({s.node_id}):
        s.reads_confirmed += s.reads.confirm()
        return
    for node_id in s.other_voters:
        commit = min(s.progress[node_id].match_index, s.commit_index)
        s.send(Heartbeat(s.node_id, node_id, s.term, commit, s.reads.started))


def _maybe_confirm(s: RaftState) -> None:
    started = s.reads.started
    if s.has_quorum({i for i, p in s.progress.items() if p.round_acked >= started or i == s.node_id}):
        s.reads_confirmed += s.reads.confirm()
        s.replicate_due |= s.reads.waiting


# --- transfer ---------------------------------------------------------------------------------------------------------


def transfer(s: RaftState, target: str | None) -> None:
    """Begin to hand over (§3.10); see `Core.transfer_leader`."""
    _check_proposable(s)
    if target is None:
        target = _best_target(s)
        if target is None:
            raise ProposalRefused("there is no other live voter")
    elif target == s.node_id or not s.membership.is_voter(target):
        raise ProposalRefused(f"{target} is not another voter; those are {', '.join(sorted(s.other_voters)) or 'none'}")
    s.transferring_to = target
    s.transfer_elapsed = 0
    s.events.append(ready.TransferStarted(target))
    s.replicate_due = True
    _hand_over_if_level(s)


def _best_target(s: RaftState) -> str | None:
    """Return the most up-to-date voter that was heard from lately."""
    voters = [v for v in s.other_voters if s.progress[v].recent_active and not s.progress[v].rejoining]
    return max(voters, key=lambda v: (s.progress[v].match_index, v), default=None)


def _hand_over_if_level(s: RaftState) -> None:
    target = s.transferring_to
    if target is not None and s.progress[target].match_index == s.log.last_index and not s.storage_hung:
        s.send(TimeoutNow(s.node_id, target, s.term))


def _end_transfer(s: RaftState) -> None:
    if s.transferring_to is not None:
        s.events.append(ready.TransferEnded(s.transferring_to, False))
        s.transferring_to = None


# --- snapshots and links ----------------------------------------------------------------------------------------------


def report_snapshot(s: RaftState, node_id: str, ok: bool, index: int) -> None:
    """The stream to a follower ended: probe behind the snapshot, or try again when it answers a heartbeat."""
    p = s.progress.get(node_id)
    if p is None or p.state != SNAPSHOT:
        return
    p.become_probe(index + 1 if ok else p.match_index + 1)
    if ok:
        s.replicate_due = True
    else:
        p.probe_sent_tick = s.ticks


def report_unreachable(s: RaftState, node_id: str) -> None:
    """The link broke: what was under way is probably lost."""
    p = s.progress.get(node_id)
    if p is not None and p.state == REPLICATE:
        p.become_probe(p.match_index + 1)
        p.probe_sent_tick = s.ticks


def _on_second_leader(s: RaftState, m: AppendEntries | Heartbeat | CommitAdvanced | InstallSnapshot) -> None:
    raise InvariantViolated(f"term {s.term} has two leaders, {s.node_id} and {m.src}")


HANDLERS: Final[follower.Handlers] = {
    **follower.VOTER_HANDLERS,
    AppendEntries: _on_second_leader,
    Heartbeat: _on_second_leader,
    CommitAdvanced: _on_second_leader,
    InstallSnapshot: _on_second_leader,
    AppendEntriesResponse: on_append_entries_response,
    HeartbeatResponse: on_heartbeat_response,
    ReadIndexRequest: on_read_index_request,
}
