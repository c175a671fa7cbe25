"""Elections: votes, pre-vote, stickiness, check quorum, and what must survive a restart."""

from __future__ import annotations

import random

import pytest

from tests.raft.harness import Cluster, cluster_of, make_disk, raw_entry
from zattredis.errors import InvariantViolated, LogLost
from zattredis.raft.core import Core
from zattredis.raft.membership import Membership, simple_membership
from zattredis.raft.messages import (
    AppendEntries,
    Heartbeat,
    PreVoteRequest,
    PreVoteResponse,
    TimeoutNow,
    VoteRequest,
    VoteResponse,
)
from zattredis.raft.ready import BecameLeader, CoreConfig, HardState, LeaderChanged, MessageRefused, QuorumLost

ABC = simple_membership("abc")


def test_a_single_voter_leads_after_one_tick() -> None:
    cluster = Cluster("a")
    cluster.tick("a")
    assert cluster["a"].role == "leader"
    assert cluster["a"].commit_index == 1
    assert not cluster.sent


def test_a_majority_elects_and_everybody_learns_of_the_leader() -> None:
    cluster = Cluster("abcde")
    cluster.elect("a")
    assert {cluster[i].leader_id for i in "abcde"} == {"a"}
    assert {cluster[i].term for i in "abcde"} == {1}
    assert cluster.peers["e"].saw(LeaderChanged)[-1].leader_id == "a"
    assert [cluster[i].role for i in "abcde"] == ["leader", *["follower"] * 4]


def test_without_a_majority_nobody_is_elected_and_the_term_stays() -> None:
    cluster = Cluster("abcde")
    cluster.isolate("c", "d", "e")
    for _ in range(5):
        cluster.campaign("a")
        cluster.run()
    assert cluster["a"].role == "pre_candidate"
    assert cluster["a"].term == 0


def test_a_vote_is_given_once_a_term() -> None:
    cluster = Cluster("abc")
    cluster.deliver(VoteRequest("b", "a", 5, 0, 0, False))
    cluster.deliver(VoteRequest("c", "a", 5, 0, 0, False))
    cluster.deliver(VoteRequest("b", "a", 5, 0, 0, False))
    answers = cluster.take(VoteResponse)
    assert [(m.dst, m.granted) for m in answers] == [("b", True), ("c", False), ("b", True)]


def test_a_vote_is_remembered_across_a_restart() -> None:
    """Zatt forgot it, and could vote twice in one term."""
    cluster = Cluster("abc")
    cluster.deliver(VoteRequest("b", "a", 5, 0, 0, False))
    cluster.crash("a")
    cluster.restart("a")
    assert (cluster["a"].term, cluster["a"].vote) == (5, "b")
    cluster.take(VoteResponse)
    cluster.deliver(VoteRequest("c", "a", 5, 9, 4, False))
    assert [m.granted for m in cluster.take(VoteResponse)] == [False]


def test_no_vote_leaves_before_it_is_durable() -> None:
    cluster = Cluster("abc")
    cluster.hold_disk("a")
    cluster.deliver(VoteRequest("b", "a", 5, 0, 0, False))
    assert cluster.take(VoteResponse) == []
    cluster.crash("a")
    cluster.restart("a")
    # The vote was lost, but nobody has heard of it.
    cluster.deliver(VoteRequest("c", "a", 5, 0, 0, False))
    assert [(m.dst, m.granted) for m in cluster.take(VoteResponse)] == [("c", True)]


def test_nobody_is_asked_before_the_own_vote_is_durable() -> None:
    cluster = Cluster("abc", pre_vote=False)
    cluster.hold_disk("a")
    cluster.campaign("a")
    assert cluster["a"].role == "candidate"
    assert cluster.take(VoteRequest) == []
    cluster.release_disk("a")
    assert {m.dst for m in cluster.take(VoteRequest)} == {"b", "c"}


def test_a_held_vote_is_dropped_when_the_term_moves_on() -> None:
    cluster = Cluster("abc")
    cluster.hold_disk("a")
    cluster.deliver(VoteRequest("b", "a", 5, 0, 0, False))
    cluster.deliver(VoteRequest("c", "a", 6, 0, 0, False))
    cluster.release_disk("a")
    assert [(m.dst, m.term) for m in cluster.take(VoteResponse)] == [("c", 6)]


@pytest.mark.parametrize(
    ("last_index", "last_term", "granted"),
    [(3, 2, True), (4, 2, True), (1, 3, True), (2, 2, False), (9, 1, False), (0, 0, False)],
)
def test_a_vote_needs_a_log_not_behind_the_own_one(last_index: int, last_term: int, granted: bool) -> None:
    cluster = cluster_of({"a": make_disk([1, 1, 2], simple_membership("abc"))})
    cluster.deliver(VoteRequest("b", "a", 7, last_index, last_term, False))
    assert [m.granted for m in cluster.take(VoteResponse)] == [granted]
    cluster.crash("a")
    cluster.restart("a")
    cluster.deliver(PreVoteRequest("b", "a", 8, last_index, last_term))
    assert [m.granted for m in cluster.take(PreVoteResponse)] == [granted]


def candidate(ids: str = "abcde") -> Cluster:
    cluster = Cluster(ids, pre_vote=False)
    cluster.campaign("a")
    assert cluster["a"].role == "candidate"
    return cluster


def test_votes_counted_twice() -> None:
    cluster = candidate()
    for _ in range(5):
        cluster.deliver(VoteResponse("b", "a", 1, True))
    assert cluster["a"].role == "candidate"
    cluster.deliver(VoteResponse("c", "a", 1, True))
    assert cluster["a"].role == "leader"


def test_votes_of_another_term() -> None:
    cluster = candidate()
    cluster.tick("a", 25)
    assert cluster["a"].term == 2
    cluster.deliver(VoteResponse("b", "a", 1, True))
    cluster.deliver(VoteResponse("c", "a", 1, True))
    assert cluster["a"].role == "candidate"


def test_votes_of_nodes_that_are_no_voters() -> None:
    """Zatt counted whatever arrived."""
    cluster = Cluster("abc", learners="l", pre_vote=False)
    cluster.campaign("a")
    for stranger in ("l", "x", "y", "z"):
        cluster.deliver(VoteResponse(stranger, "a", 1, True))
    assert cluster["a"].role == "candidate"
    assert {e.src for e in cluster.peers["a"].saw(MessageRefused)} == {"l", "x", "y", "z"}


def test_a_changed_mind_is_no_second_vote() -> None:
    cluster = candidate()
    cluster.deliver(VoteResponse("b", "a", 1, False))
    cluster.deliver(VoteResponse("b", "a", 1, True))
    cluster.deliver(VoteResponse("c", "a", 1, True))
    assert cluster["a"].role == "candidate"


def test_pre_votes_of_another_term_count_for_nothing() -> None:
    cluster = Cluster("abcde")
    cluster.campaign("a")
    for voter in "bcde":
        cluster.deliver(PreVoteResponse(voter, "a", 7, True))
    assert (cluster["a"].role, cluster["a"].term) == ("pre_candidate", 0)


def test_a_refusing_majority_ends_the_candidacy() -> None:
    cluster = candidate("abc")
    cluster.deliver(VoteResponse("b", "a", 1, False))
    cluster.deliver(VoteResponse("c", "a", 1, False))
    assert cluster["a"].role == "follower"


def test_a_candidate_follows_the_leader_of_its_term() -> None:
    cluster = candidate()
    cluster.deliver(AppendEntries("b", "a", 1, 0, 0, 0, [raw_entry(1, 1)]))
    assert (cluster["a"].role, cluster["a"].leader_id, cluster["a"].last_index) == ("follower", "b", 1)


def test_two_leaders_in_one_term_stop_the_node() -> None:
    cluster = Cluster("abc")
    leader = cluster.elect("a")
    with pytest.raises(InvariantViolated):
        leader.step(Heartbeat("b", "a", leader.term, 0, 1))
    with pytest.raises(InvariantViolated):
        cluster["b"].step(Heartbeat("c", "b", leader.term, 0, 1))


# --- pre-vote, stickiness ---------------------------------------------------------------------------------------------


def test_a_rejoining_node_does_not_raise_the_term() -> None:
    cluster = Cluster("abc")
    cluster.elect("a")
    cluster.isolate("c")
    cluster.tick("c", 300)
    cluster.write("a", 3)
    cluster.heal()
    cluster.messages.clear()
    cluster.tick_all(30)
    assert cluster["a"].role == "leader"
    assert {cluster[i].term for i in "abc"} == {1}
    assert cluster["c"].last_index == cluster["a"].last_index


def test_who_hears_a_leader_refuses_pre_votes_and_ignores_later_terms() -> None:
    cluster = Cluster("abc")
    cluster.elect("a")
    cluster.tick_all(4)
    cluster.deliver(PreVoteRequest("c", "b", 2, 99, 1))
    assert [(m.granted, m.term) for m in cluster.take(PreVoteResponse)] == [(False, 1)]
    cluster.deliver(VoteRequest("c", "b", 9, 99, 8, False))
    assert cluster.take(VoteResponse) == []
    assert cluster["b"].term == 1
    cluster.tick("b", 10)
    cluster.deliver(VoteRequest("c", "b", 9, 99, 8, False))
    assert [m.granted for m in cluster.take(VoteResponse)] == [True]


def test_a_forced_election_passes_stickiness() -> None:
    cluster = Cluster("abc")
    cluster.elect("a")
    cluster.deliver(VoteRequest("c", "b", 2, cluster["b"].last_index, 1, True))
    assert [m.granted for m in cluster.take(VoteResponse)] == [True]


def test_a_leader_of_an_older_term_learns_that_it_is_over() -> None:
    cluster = Cluster("abc")
    old = cluster.elect("a")
    cluster.isolate("a")
    cluster.elect("b")
    cluster.heal()
    cluster.tick_all(3)
    assert (old.role, old.term, old.leader_id) == ("follower", 2, "b")


def test_a_node_ahead_in_term_is_taken_back_in() -> None:
    """Lease and pre-vote make everybody deaf to it: its answer to the leader's heartbeat must bring an election."""
    disks = {i: make_disk([1], simple_membership("abc"), term=9 if i == "c" else 1) for i in "abc"}
    cluster = cluster_of(disks)
    cluster.isolate("c")
    cluster.elect("a")
    cluster.heal()
    cluster.tick_all(60)
    assert {cluster[i].term for i in "abc"} == {cluster["c"].term}
    assert cluster["c"].term > 9
    assert sum(cluster[i].role == "leader" for i in "abc") == 1


def test_an_isolated_leader_steps_down() -> None:
    cluster = Cluster("abc")
    leader = cluster.elect("a")
    cluster.isolate("a")
    cluster.tick("a", 20)
    assert leader.role != "leader"
    assert cluster.peers["a"].saw(QuorumLost)
    assert leader.term == 1


def test_a_leader_with_a_quorum_stays() -> None:
    cluster = Cluster("abc")
    leader = cluster.elect("a")
    cluster.isolate("c")
    cluster.tick_all(50)
    assert leader.role == "leader"


def test_a_cluster_survives_its_leader() -> None:
    cluster = Cluster("abc")
    cluster.elect("a")
    cluster.write("a", 5)
    cluster.crash("a")
    cluster.tick_all(60)
    leaders = [i for i in "bc" if cluster[i].role == "leader"]
    assert len(leaders) == 1
    assert cluster[leaders[0]].commit_index == 7


def test_election_timeouts_are_drawn_from_one_to_two_timeouts() -> None:
    drawn = set()
    for seed in range(200):
        core = Core(CoreConfig("a"), make_disk([], ABC), HardState(), ABC, 0, random.Random(seed))
        ticks = 0
        while core.role == "follower":
            core.tick()
            ticks += 1
        drawn.add(ticks)
    assert drawn == set(range(11, 21))


def test_only_the_known_leader_can_order_a_campaign() -> None:
    cluster = Cluster("abc")
    cluster.elect("a")
    cluster.deliver(TimeoutNow("c", "b", 1))
    assert cluster["b"].role == "follower"
    cluster.deliver(TimeoutNow("a", "b", 1))
    assert (cluster["b"].role, cluster["b"].term) == ("candidate", 2)


# --- what a start finds -----------------------------------------------------------------------------------------------


def test_a_restart_does_not_take_its_log_for_committed() -> None:
    """Zatt did: it applied what no majority ever held."""
    disk = make_disk([1, 1, 1, 1, 1], ABC, commit=2)
    cluster = cluster_of({"a": disk})
    assert (cluster["a"].commit_index, cluster["a"].last_index) == (2, 5)
    cluster.turn()
    assert [e.index for e in cluster.peers["a"].entries] == [1, 2]
    cluster.deliver(AppendEntries("b", "a", 2, 2, 1, 3, [raw_entry(3, 2)]))
    assert cluster.peers["a"].log == [1, 1, 2]
    assert [e.index for e in cluster.peers["a"].entries] == [1, 2, 3]


def test_a_log_behind_the_state_or_the_commit_hint_is_a_lost_log() -> None:
    disk = make_disk([1, 1], ABC)
    with pytest.raises(LogLost, match="applied entry 3"):
        Core(CoreConfig("a"), disk, HardState(1), ABC, 3, random.Random(1))
    with pytest.raises(LogLost, match="entry 5 was committed"):
        Core(CoreConfig("a"), disk, HardState(1, None, 5), ABC, 0, random.Random(1))


def test_a_term_behind_the_log_is_a_lost_vote() -> None:
    with pytest.raises(LogLost, match="vote"):
        Core(CoreConfig("a"), make_disk([1, 4], ABC), HardState(3, "b"), ABC, 0, random.Random(1))


def test_a_node_that_lost_its_log_stops_when_its_leader_says_what_it_held() -> None:
    cluster = Cluster("abc")
    cluster.elect("a")
    cluster.write("a", 3)
    peer = cluster.peers["b"]
    cluster.crash("b")
    peer.disk = make_disk([], ABC)
    cluster.restart("b")
    with pytest.raises(LogLost, match="acknowledged entry 4"):
        cluster.tick_all(4)


def test_a_node_without_a_configuration_votes_for_nobody() -> None:
    """A disk that was lost brings a node without any: its votes are lost as well."""
    cluster = Cluster("abc", strangers="x")
    cluster.deliver(VoteRequest("a", "x", 5, 9, 4, False))
    cluster.deliver(PreVoteRequest("a", "x", 6, 9, 4))
    assert [m.granted for m in cluster.take(VoteResponse)] == [False]
    assert [m.granted for m in cluster.take(PreVoteResponse)] == [False]


def test_a_learner_asked_for_its_vote_gives_it() -> None:
    """It may have been promoted by an entry that it does not have yet."""
    cluster = Cluster("abc", learners="d")
    cluster.deliver(VoteRequest("a", "d", 5, 0, 0, False))
    assert [m.granted for m in cluster.take(VoteResponse)] == [True]


def test_leadership_is_told_once() -> None:
    cluster = Cluster("abc")
    cluster.elect("a")
    cluster.tick_all(20)
    assert [(e.term, e.index) for e in cluster.peers["a"].saw(BecameLeader)] == [(1, 1)]


def test_settings_that_cannot_work_are_refused() -> None:
    for wrong in ({"heartbeat_ticks": 10}, {"heartbeat_ticks": 0}, {"window_bytes": 0}, {"apply_bytes_max": 0}):
        with pytest.raises(ValueError, match=r"ticks|positive"):
            CoreConfig("a", **wrong)
    with pytest.raises(ValueError, match="node_id"):
        CoreConfig("")


def test_an_empty_membership_has_no_leader() -> None:
    core = Core(CoreConfig("a"), make_disk([], Membership()), HardState(), Membership(), 0, random.Random(1))
    for _ in range(100):
        core.tick()
    assert (core.role, core.has_ready()) == ("learner", False)
