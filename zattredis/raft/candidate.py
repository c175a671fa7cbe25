"""Elections: when to campaign, pre-vote (§9.6), the vote itself, and the forced campaign of a transfer (§3.10)."""

from __future__ import annotations

from typing import Final

from zattredis.errors import InvariantViolated
from zattredis.raft import follower, leader, quorum, ready
from zattredis.raft.messages import (
    AppendEntries,
    CommitAdvanced,
    Heartbeat,
    InstallSnapshot,
    PreVoteRequest,
    PreVoteResponse,
    ReadIndexRequest,
    TimeoutNow,
    VoteRequest,
    VoteResponse,
)
from zattredis.raft.state import CANDIDATE, FOLLOWER, LEADER, PRE_CANDIDATE, RaftState


def tick(s: RaftState) -> None:
    """A tick of any role but the leader's. Only voters campaign, and only with a disk that answers."""
    s.election_elapsed += 1
    if not s.may_campaign:
        return
    if s.storage_hung:
        s.report_hung_storage()
        return
    alone = s.role == FOLLOWER and s.has_quorum({s.node_id})
    if alone or s.election_elapsed >= s.election_deadline:
        campaign(s)


def campaign(s: RaftState, forced: bool = False) -> None:
    """Start an election. `forced` (after TimeoutNow) goes without the pre-vote and past other nodes' stickiness."""
    if s.role == LEADER or not s.may_campaign:
        raise InvariantViolated(f"a {s.role} cannot campaign")
    s.set_leader(None)
    if not s.config.pre_vote or forced:
        _become_candidate(s, forced)
        return
    s.role = PRE_CANDIDATE
    s.restart_election_timer()
    s.events.append(ready.ElectionStarted(s.term + 1, "pre_vote"))
    s.votes = {s.node_id: True}
    if quorum.vote_result(s.membership, s.votes) == quorum.WON:
        _become_candidate(s, False)
        return
    for voter in s.other_voters:
        s.send(PreVoteRequest(s.node_id, voter, s.term + 1, s.log.last_index, s.log.last_term))


def _become_candidate(s: RaftState, forced: bool) -> None:
    s.role = CANDIDATE
    s.set_term(s.term + 1, s.node_id)
    s.restart_election_timer()
    s.events.append(ready.ElectionStarted(s.term, "forced" if forced else "vote"))
    # The own vote counts, and others are asked, only once it is durable.
    s.votes = {}
    for voter in s.other_voters:
        s.send_after_vote(VoteRequest(s.node_id, voter, s.term, s.log.last_index, s.log.last_term, forced))


def count_own_vote(s: RaftState) -> None:
    """Called when writes have become durable."""
    if s.vote_is_durable and s.membership.is_voter(s.node_id):
        _count(s, s.node_id, True)


def _count(s: RaftState, voter: str, granted: bool) -> None:
    """Count a vote once a voter, and from voters only."""
    if not s.membership.is_voter(voter):
        s.events.append(ready.MessageRefused(voter, "a vote from a node that is no voter"))
        return
    if voter in s.votes:
        return
    s.votes[voter] = granted
    result = quorum.vote_result(s.membership, s.votes)
    if result == quorum.WON:
        if s.role == PRE_CANDIDATE:
            _become_candidate(s, False)
        else:
            leader.become_leader(s)
    elif result == quorum.LOST:
        follower.become_follower(s, s.term, None)


def on_pre_vote_response(s: RaftState, m: PreVoteResponse) -> None:
    """Counts for the term that is being campaigned for, and no other."""
    if m.granted and m.term != s.term + 1:
        return
    _count(s, m.src, m.granted)


def on_vote_response(s: RaftState, m: VoteResponse) -> None:
    """The term gate has let pass only votes of the current term."""
    _count(s, m.src, m.granted)


def on_timeout_now(s: RaftState, m: TimeoutNow) -> None:
    """The leader hands over to this node."""
    if m.src == s.leader_id and s.membership.is_voter(s.node_id) and not (s.storage_hung or s.rejoining):
        campaign(s, forced=True)


def _follow(s: RaftState, m: AppendEntries | Heartbeat | CommitAdvanced | InstallSnapshot) -> None:
    """Another node has won the current term."""
    follower.become_follower(s, m.term, m.src)
    follower.HANDLERS[type(m)](s, m)


_COMMON: Final[follower.Handlers] = {
    **follower.VOTER_HANDLERS,
    AppendEntries: _follow,
    Heartbeat: _follow,
    CommitAdvanced: _follow,
    InstallSnapshot: _follow,
    ReadIndexRequest: follower.on_read_index_request,
}

PRE_CANDIDATE_HANDLERS: Final[follower.Handlers] = {**_COMMON, PreVoteResponse: on_pre_vote_response}
CANDIDATE_HANDLERS: Final[follower.Handlers] = {**_COMMON, VoteResponse: on_vote_response}
FOLLOWER_HANDLERS: Final[follower.Handlers] = {**follower.HANDLERS, TimeoutNow: on_timeout_now}
