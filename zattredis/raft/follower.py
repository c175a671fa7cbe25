"""The follower (and learner): takes entries from the leader, gives votes, asks for read points."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from zattredis.errors import InvariantViolated, LogDamaged, LogLost
from zattredis.raft import ready
from zattredis.raft.entry import Entry, decode_entry
from zattredis.raft.messages import (
    AppendEntries,
    AppendEntriesResponse,
    CommitAdvanced,
    Heartbeat,
    HeartbeatResponse,
    InstallSnapshot,
    Message,
    PreVoteRequest,
    PreVoteResponse,
    ReadIndexRequest,
    ReadIndexResponse,
    VoteRequest,
    VoteResponse,
)
from zattredis.raft.read_index import ReadRounds
from zattredis.raft.state import FOLLOWER, LEADER, LEARNER, RaftState

Handlers = dict[type[Message], Callable[[RaftState, Any], None]]


def become_follower(s: RaftState, term: int, leader_id: str | None) -> None:
    """Follow `leader_id` (None: not known yet) in `term`, which is not below the current one."""
    was = s.role
    if term > s.term:
        s.set_term(term)
    if was == LEADER:
        if s.transferring_to is not None:
            s.events.append(ready.TransferEnded(s.transferring_to, True))
            s.transferring_to = None
        s.progress = {}
        s.reads = ReadRounds()
        s.snapshots.clear()
        s.uncommitted_bytes = 0
        s.uncommitted_sizes.clear()
    s.replicate_due = False
    s.votes = {}
    s.role = s.idle_role
    s.set_leader(leader_id)
    if leader_id is not None or was not in (FOLLOWER, LEARNER):
        s.restart_election_timer()
    if was not in (FOLLOWER, LEARNER):
        s.events.append(ready.BecameFollower(s.term, leader_id, was))


def _hear_leader(s: RaftState, leader_id: str) -> None:
    """A message that only the leader of the current term can send."""
    s.election_elapsed = 0
    if s.leader_id != leader_id:
        if s.leader_id is not None:
            raise InvariantViolated(f"term {s.term} has two leaders, {s.leader_id} and {leader_id}")
        s.set_leader(leader_id)


def on_append_entries(s: RaftState, m: AppendEntries) -> None:
    """AppendEntries (§3.5): append what follows on a matching entry, truncating only at a real conflict."""
    _hear_leader(s, m.src)
    prev, prev_term, raws = m.prev_index, m.prev_term, m.entries
    if prev < s.commit_index:
        # Committed entries equal the leader's (leader completeness), and may be compacted here: begin behind them.
        raws = raws[s.commit_index - prev :]
        prev = s.commit_index
        prev_term = s.log.term(prev)
    elif not s.log.matches(prev, prev_term):
        hint = s.log.highest_at_most(prev, prev_term, s.commit_index)
        s.send_after_vote(_refusal(s, m.src, prev, hint))
        return
    entries = _decode(s, m, raws, prev, prev_term)
    if entries is None:
        return
    if entries:
        fresh = _beyond_match(s, entries)
        if fresh:
            s.append(fresh)
    index = prev + len(raws)
    s.verified_index = max(s.verified_index, index)
    s.commit_to(min(m.commit, s.verified_index))
    _acknowledge(s, m.src, index)


def _refusal(s: RaftState, leader_id: str, prev_index: int, hint: int) -> AppendEntriesResponse:
    hint_term = s.log.term(hint)
    return AppendEntriesResponse(s.node_id, leader_id, s.term, False, prev_index, hint, hint_term, s.rejoining)


def _decode(s: RaftState, m: AppendEntries, raws: list[bytes], prev: int, prev_term: int) -> list[Entry] | None:
    """Return the entries, or None when they cannot be right: indexes follow on, terms rise up to the leader's."""
    try:
        entries = [decode_entry(raw) for raw in raws]
    except LogDamaged as error:
        s.events.append(ready.MessageRefused(m.src, str(error)))
        return None
    index, term = prev, prev_term
    for entry in entries:
        index += 1
        if entry.index != index or not term <= entry.term <= m.term:
            s.events.append(ready.MessageRefused(m.src, f"{entry} does not follow entry {index - 1} of term {term}"))
            return None
        term = entry.term
    return entries


def _beyond_match(s: RaftState, entries: list[Entry]) -> list[Entry]:
    """Return the entries that the log lacks, after truncating it at the first that conflicts, and only then (§3.5).

    A late or repeated message whose entries are all here must not shorten the log: later entries may be acknowledged.
    """
    log = s.log
    last = log.last_index
    if entries[0].index > last:
        return entries
    for position, entry in enumerate(entries):
        if entry.index > last:
            return entries[position:]
        if log.term(entry.index) != entry.term:
            s.truncate(entry.index)
            return entries[position:]
    return []


def _acknowledge(s: RaftState, leader_id: str, index: int) -> None:
    s.send_after_log(AppendEntriesResponse(s.node_id, leader_id, s.term, True, index, 0, 0, s.rejoining))


def on_heartbeat(s: RaftState, m: Heartbeat) -> None:
    """Heartbeat: `commit` is bounded by what this node has acknowledged in this term."""
    _hear_leader(s, m.src)
    last = s.log.last_index
    if m.commit <= last:
        s.commit_to(m.commit)
    elif s.rejoining:
        s.send_after_vote(_refusal(s, m.src, last, last))
    else:
        raise LogLost(
            f"this node acknowledged entry {m.commit} to leader {m.src} of term {m.term}, but its log ends at {last}"
        )
    s.send_after_vote(HeartbeatResponse(s.node_id, m.src, s.term, m.round, s.rejoining))


def on_commit_advanced(s: RaftState, m: CommitAdvanced) -> None:
    """The leader's commit index; only entries verified against this leader's log follow it."""
    _hear_leader(s, m.src)
    s.commit_to(min(m.commit, s.verified_index))


def on_install_snapshot(s: RaftState, m: InstallSnapshot) -> None:
    """A snapshot is offered. If its last entry is in the log, all up to there is committed: no need of it."""
    _hear_leader(s, m.src)
    if m.index > s.commit_index and s.log.matches(m.index, m.snapshot_term):
        s.verified_index = max(s.verified_index, m.index)
        s.commit_to(m.index)
    if m.index <= s.commit_index:
        _acknowledge(s, m.src, s.commit_index)


def on_read_index_response(s: RaftState, m: ReadIndexResponse) -> None:
    """The leader's answer to this node's `read_index`."""
    s.read_answers.append(m)


def on_read_index_request(s: RaftState, m: ReadIndexRequest) -> None:
    """Asked of a node that does not lead: say so, the asker tries elsewhere with a fresh context."""
    s.send_after_vote(ReadIndexResponse(s.node_id, m.src, s.term, m.context, 0, 0, False))


def _log_is_current(s: RaftState, last_index: int, last_term: int) -> bool:
    """The election restriction (§3.6.1)."""
    return (last_term, last_index) >= (s.log.last_term, s.log.last_index)


def _may_vote(s: RaftState, m: PreVoteRequest | VoteRequest) -> bool:
    """One vote a term, first come first served, for a log not behind the own one.

    A node without any configuration has perhaps lost its disk and with it its votes and entries: it stays silent. It
    is not known to be a voter to itself, so no election can count on it (§4.1 needs only members that have the log).
    """
    if not s.membership.members or s.rejoining:
        return False
    free = m.term > s.term or s.vote == m.src or (s.vote is None and s.leader_id is None)
    return free and _log_is_current(s, m.last_index, m.last_term)


def on_vote_request(s: RaftState, m: VoteRequest) -> None:
    """RequestVote (§3.4) in the current term; the vote is durable before the answer leaves."""
    granted = _may_vote(s, m)
    if granted:
        if s.vote is None:
            s.set_term(s.term, m.src)
        s.election_elapsed = 0
    s.send_after_vote(VoteResponse(s.node_id, m.src, s.term, granted))


def on_pre_vote_request(s: RaftState, m: PreVoteRequest) -> None:
    """PreVote (§9.6): changes nothing here. Refused while a leader is known to live (§4.2.3)."""
    granted = not s.in_lease and _may_vote(s, m)
    term = m.term if granted else s.term
    s.send_after_vote(PreVoteResponse(s.node_id, m.src, term, granted))


VOTER_HANDLERS: Final[Handlers] = {
    PreVoteRequest: on_pre_vote_request,
    VoteRequest: on_vote_request,
}
"""What every role does alike."""

HANDLERS: Final[Handlers] = {
    **VOTER_HANDLERS,
    AppendEntries: on_append_entries,
    Heartbeat: on_heartbeat,
    CommitAdvanced: on_commit_advanced,
    InstallSnapshot: on_install_snapshot,
    ReadIndexRequest: on_read_index_request,
    ReadIndexResponse: on_read_index_response,
}
