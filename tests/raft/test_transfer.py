"""Handing leadership over (§3.10)."""

from __future__ import annotations

import pytest

from tests.raft.harness import Cluster
from zattredis.errors import NotLeader, ProposalRefused
from zattredis.raft.messages import AppendEntries, PreVoteRequest, TimeoutNow, VoteRequest
from zattredis.raft.ready import TransferEnded, TransferStarted


def test_leadership_goes_to_the_target_at_once() -> None:
    cluster = Cluster("abc")
    cluster.elect("a")
    cluster.write("a", 3)
    cluster.tick_all(3)
    before = len(cluster.sent)
    cluster["a"].transfer_leader("c")
    cluster.run()
    assert [cluster[i].role for i in "abc"] == ["follower", "follower", "leader"]
    assert cluster["c"].term == 2
    # No pre-vote, and stickiness is passed by: no tick was needed.
    assert not [m for m in cluster.sent[before:] if isinstance(m, PreVoteRequest)]
    assert all(m.forced for m in cluster.sent[before:] if isinstance(m, VoteRequest))
    assert [e.target for e in cluster.peers["a"].saw(TransferStarted)] == ["c"]
    assert [e.ok for e in cluster.peers["a"].saw(TransferEnded)] == [True]


def test_without_a_target_the_most_up_to_date_voter_is_chosen() -> None:
    cluster = Cluster("abcde", learners="l")
    cluster.elect("a")
    cluster.isolate("b", "d", "e")
    cluster.write("a", 3)
    cluster.heal()
    cluster["a"].transfer_leader(None)
    assert cluster["a"].transferring_to == "c"
    cluster.run()
    assert cluster["c"].role == "leader"


def test_the_target_is_brought_up_to_date_first() -> None:
    cluster = Cluster("abc")
    leader = cluster.elect("a")
    cluster.isolate("c")
    cluster.write("a", 10)
    leader.transfer_leader("c")
    cluster.run()
    assert not [m for m in cluster.sent if isinstance(m, TimeoutNow)]
    cluster.heal()
    cluster.tick_all(6)
    assert cluster["c"].role == "leader"
    assert cluster["c"].last_index == 12


def test_proposals_are_refused_meanwhile_and_after_a_timeout_taken_again() -> None:
    cluster = Cluster("abc")
    leader = cluster.elect("a")
    cluster.isolate("c")
    leader.transfer_leader("c")
    with pytest.raises(ProposalRefused, match="transferred to c"):
        cluster.propose("a")
    with pytest.raises(ProposalRefused):
        leader.transfer_leader("b")
    cluster.tick_all(10)
    assert leader.role == "leader"
    assert [e.ok for e in cluster.peers["a"].saw(TransferEnded)] == [False]
    index = cluster.write("a")
    assert leader.commit_index == index


def test_a_lost_timeout_now_is_sent_again() -> None:
    cluster = Cluster("abc")
    cluster.elect("a")
    lost: list[TimeoutNow] = []

    def drop(message: object) -> bool:
        if isinstance(message, TimeoutNow) and not lost:
            lost.append(message)
            return True
        return False

    cluster.drop = drop
    cluster["a"].transfer_leader("b")
    cluster.run()
    assert lost
    cluster.tick_all(3)
    assert cluster["b"].role == "leader"


@pytest.mark.parametrize("target", ["a", "l", "x"])
def test_only_another_voter_can_take_over(target: str) -> None:
    cluster = Cluster("abc", learners="l")
    cluster.elect("a")
    with pytest.raises(ProposalRefused):
        cluster["a"].transfer_leader(target)
    with pytest.raises(NotLeader):
        cluster["b"].transfer_leader("c")


def test_alone_there_is_nobody_to_take_over() -> None:
    cluster = Cluster("a")
    cluster.tick("a")
    with pytest.raises(ProposalRefused, match="no other"):
        cluster["a"].transfer_leader(None)


def test_nothing_committed_is_lost_by_a_transfer_under_load() -> None:
    cluster = Cluster("abc")
    cluster.elect("a")
    for n in range(50):
        cluster.propose("a", b"%d" % n)
    cluster["a"].transfer_leader("b")
    cluster.run()
    assert cluster["b"].role == "leader"
    payloads = [e.payload for e in cluster.peers["b"].entries if e.payload]
    assert payloads == [b"%d" % n for n in range(50)]


def test_a_target_that_fails_does_not_cost_the_cluster_its_leader() -> None:
    cluster = Cluster("abc")
    leader = cluster.elect("a")
    cluster.drop = lambda m: isinstance(m, VoteRequest)
    leader.transfer_leader("b")
    cluster.run()
    assert cluster["b"].role == "candidate"
    cluster.heal()
    cluster.tick_all(60)
    assert sum(cluster[i].role == "leader" for i in "abc") == 1
    assert not [m for m in cluster.messages if isinstance(m, AppendEntries)]
