"""Read points: what confirms them, what holds them, and what must never answer."""

from __future__ import annotations

from tests.raft.harness import Cluster
from zattredis.raft.membership import Membership
from zattredis.raft.messages import (
    AppendEntriesResponse,
    Heartbeat,
    HeartbeatResponse,
    ReadIndexRequest,
    ReadIndexResponse,
)


def read(cluster: Cluster, node_id: str, context: int) -> None:
    cluster[node_id].read_index(context)
    cluster.turn(node_id)


def test_a_leaders_read_is_confirmed_by_a_majority() -> None:
    cluster = Cluster("abc")
    cluster.elect("a")
    index = cluster.write("a", 3)
    read(cluster, "a", 7)
    assert cluster.peers["a"].reads == []
    cluster.isolate("c")
    cluster.run()
    assert [(r.node_id, r.context, r.index) for r in cluster.peers["a"].reads] == [("a", 7, index)]


def test_a_single_voter_confirms_at_once() -> None:
    cluster = Cluster("a")
    cluster.tick("a")
    index = cluster.propose("a")
    read(cluster, "a", 1)
    assert [(r.context, r.index) for r in cluster.peers["a"].reads] == [(1, index)]


def test_a_followers_read_is_confirmed_by_its_leader() -> None:
    cluster = Cluster("abc")
    cluster.elect("a")
    index = cluster.write("a", 3)
    read(cluster, "b", 9)
    cluster.run()
    assert [(m.context, m.index, m.ok) for m in cluster.peers["b"].answers] == [(9, index, True)]


def asked(cluster: Cluster, node_id: str) -> list[tuple[int, int, bool]]:
    return [(m.context, m.index, m.ok) for m in cluster.peers[node_id].answers]


def test_a_follower_that_makes_up_the_quorum_needs_no_round() -> None:
    cluster = Cluster("abc")
    cluster.elect("a")
    index = cluster.write("a", 3)
    cluster.isolate("c")
    cluster.sent.clear()
    read(cluster, "b", 9)
    cluster.run()
    assert asked(cluster, "b") == [(9, index, True)]
    assert not [m for m in cluster.sent if isinstance(m, Heartbeat)]


def test_the_read_point_of_a_late_request_is_what_is_committed_when_it_comes() -> None:
    cluster = Cluster("abc")
    cluster.elect("a")
    cluster["b"].read_index(9)
    cluster.turn("b")
    (request,) = cluster.take(ReadIndexRequest)
    index = cluster.write("a", 3)
    cluster.deliver(request)
    cluster.run()
    assert asked(cluster, "b") == [(9, index, True)]


def test_among_five_a_followers_read_takes_a_round() -> None:
    cluster = Cluster("abcde")
    cluster.elect("a")
    cluster.isolate("c", "d", "e")
    read(cluster, "b", 9)
    cluster.run()
    assert asked(cluster, "b") == []


def test_a_follower_that_may_have_forgotten_a_vote_vouches_for_nothing() -> None:
    cluster = Cluster("abc")
    cluster.elect("a")
    cluster["b"].rejoining = True
    cluster.isolate("c")
    read(cluster, "b", 9)
    cluster.run()
    assert asked(cluster, "b") == []


def test_a_follower_of_an_older_build_vouches_for_nothing() -> None:
    cluster = Cluster("abc")
    leader = cluster.elect("a")
    cluster.isolate("c")
    cluster.deliver(ReadIndexRequest("b", "a", leader.term, 5))
    assert cluster.take(ReadIndexResponse) == []


def test_during_a_change_a_follower_of_the_old_voters_alone_is_no_quorum() -> None:
    cluster = Cluster("abc", learners="de")
    leader = cluster.elect("a")
    cluster.write("a", 3)
    cluster.tick_all(3)
    leader.propose_membership(Membership(voters=tuple("ade")))
    cluster.isolate("d", "e")
    cluster.run()
    assert leader.membership.joint
    read(cluster, "b", 9)
    cluster.run()
    assert asked(cluster, "b") == []


def test_a_followers_request_confirms_no_other_read() -> None:
    cluster = Cluster("abc")
    leader = cluster.elect("a")
    cluster.drop = lambda m: isinstance(m, Heartbeat)
    read(cluster, "a", 1)
    read(cluster, "b", 9)
    cluster.run()
    assert [m.context for m in cluster.peers["b"].answers] == [9]
    assert cluster.peers["a"].reads == []
    assert leader.reads.in_flight


def test_a_followers_read_is_held_until_the_term_has_committed() -> None:
    cluster = Cluster("abc")
    leader = cluster.elect("a")
    leader.term_start_index = leader.commit_index + 1
    read(cluster, "b", 9)
    cluster.run()
    assert asked(cluster, "b") == []


def test_a_hung_leader_gives_a_follower_no_read_point() -> None:
    cluster = Cluster("abc")
    leader = cluster.elect("a")
    cluster.hold_disk("a")
    cluster.write("a")
    cluster.tick("a", 12)
    assert leader.role == "leader"
    assert leader.storage_hung
    read(cluster, "b", 9)
    cluster.run()
    assert asked(cluster, "b") == []


def test_a_learner_reads_but_does_not_confirm() -> None:
    cluster = Cluster("abc", learners="d")
    cluster.elect("a")
    read(cluster, "d", 4)
    cluster.run()
    assert [m.context for m in cluster.peers["d"].answers] == [4]
    cluster.isolate("b", "c")
    read(cluster, "a", 5)
    cluster.run()
    assert cluster.peers["a"].reads == []
    assert not [
        m for m in cluster.sent if isinstance(m, Heartbeat) and m.dst == "d" and m.round == cluster["a"].reads.round
    ]


def test_read_index_before_the_first_commit_is_held() -> None:
    """A new leader does not know how far its predecessor committed until it has committed an entry of its own."""
    cluster = Cluster("abc")
    cluster.elect("a")
    index = cluster.write("a", 3)
    cluster.isolate("a")
    cluster.campaign("b")
    cluster.drop = lambda m: isinstance(m, AppendEntriesResponse)
    cluster.run()
    assert cluster["b"].role == "leader"
    read(cluster, "b", 1)
    cluster.tick_all(3)
    assert cluster.peers["b"].reads == []
    cluster.drop = lambda m: False
    cluster.tick_all(6)
    assert [(r.context, r.index) for r in cluster.peers["b"].reads] == [(1, index + 1)]


def test_an_isolated_leader_serves_no_reads() -> None:
    cluster = Cluster("abc")
    cluster.elect("a")
    cluster.write("a")
    cluster.isolate("a")
    read(cluster, "a", 1)
    cluster.elect("b")
    cluster.write("b", 5)
    cluster.tick("a", 8)
    cluster.run()
    assert cluster["a"].role == "leader"
    assert cluster.peers["a"].reads == []
    cluster.heal()
    cluster.tick_all(4)
    assert cluster.peers["a"].reads == []


def test_answers_to_an_older_round_confirm_nothing() -> None:
    cluster = Cluster("abc")
    leader = cluster.elect("a")
    cluster.tick("a", 2)
    cluster.run()
    old = leader.reads.round
    cluster.isolate("b", "c")
    read(cluster, "a", 1)
    assert leader.reads.started > old
    for node_id in "bc":
        cluster.deliver(HeartbeatResponse(node_id, "a", leader.term, old))
    assert cluster.peers["a"].reads == []
    cluster.deliver(HeartbeatResponse("c", "a", leader.term, leader.reads.started))
    assert [r.context for r in cluster.peers["a"].reads] == [1]


def test_of_five_voters_three_must_answer_the_round() -> None:
    cluster = Cluster("abcde")
    leader = cluster.elect("a")
    cluster.tick_all(4)
    cluster.isolate("b", "c", "d", "e")
    read(cluster, "a", 1)
    cluster.deliver(HeartbeatResponse("b", "a", leader.term, leader.reads.started))
    cluster.deliver(HeartbeatResponse("b", "a", leader.term, leader.reads.started))
    assert cluster.peers["a"].reads == []
    cluster.deliver(HeartbeatResponse("e", "a", leader.term, leader.reads.started))
    assert [r.context for r in cluster.peers["a"].reads] == [1]


def test_reads_gather_while_a_round_is_under_way() -> None:
    cluster = Cluster("abc")
    leader = cluster.elect("a")
    read(cluster, "a", 1)
    first = leader.reads.started
    index = leader.commit_index
    for context in (2, 3, 4):
        read(cluster, "a", context)
    assert leader.reads.started == first
    later = cluster.write("a")
    reads = [(r.context, r.index) for r in cluster.peers["a"].reads]
    assert reads[0] == (1, index)
    assert [c for c, _ in reads] == [1, 2, 3, 4]
    # One round served all that gathered.
    assert leader.reads.started == first + 1
    assert all(index <= i <= later for _, i in reads[1:])


def test_reads_of_one_turn_share_one_round() -> None:
    cluster = Cluster("abc")
    leader = cluster.elect("a")
    for context in range(100):
        leader.read_index(context)
    cluster.turn("a")
    assert len(cluster.take(Heartbeat)) == 2


def test_a_lost_round_is_made_good_by_the_next_heartbeat() -> None:
    cluster = Cluster("abc")
    cluster.elect("a")
    cluster.drop = lambda m: isinstance(m, Heartbeat)
    read(cluster, "a", 1)
    cluster.run()
    cluster.heal()
    cluster.tick_all(2)
    assert [r.context for r in cluster.peers["a"].reads] == [1]


def test_a_read_is_dropped_with_the_leadership() -> None:
    cluster = Cluster("abc")
    leader = cluster.elect("a")
    cluster.isolate("b", "c")
    read(cluster, "a", 1)
    cluster.tick("a", 25)
    assert leader.role != "leader"
    cluster.heal()
    cluster.messages.clear()
    cluster.elect("a")
    cluster.tick_all(5)
    assert cluster.peers["a"].reads == []


def test_without_a_leader_a_read_is_dropped() -> None:
    cluster = Cluster("abc")
    cluster["a"].read_index(1)
    assert not cluster["a"].has_ready()


def test_who_does_not_lead_says_so() -> None:
    cluster = Cluster("abc")
    cluster.elect("a")
    cluster.deliver(ReadIndexRequest("c", "b", 1, 5))
    assert [(m.dst, m.context, m.ok) for m in cluster.take(ReadIndexResponse)] == [("c", 5, False)]


def test_waiting_reads_are_bounded() -> None:
    cluster = Cluster("abc", reads_max=3)
    leader = cluster.elect("a")
    cluster.isolate("b", "c")
    for context in range(10):
        read(cluster, "a", context)
    assert len(leader.reads) == 3


def test_a_deposed_leader_that_hears_of_it_late_confirms_nothing() -> None:
    """The answers of a later term reach it first."""
    cluster = Cluster("abc")
    leader = cluster.elect("a")
    read(cluster, "a", 1)
    heartbeats = cluster.take(Heartbeat)
    cluster.isolate("a")
    cluster.elect("b")
    cluster.heal()
    for message in heartbeats:
        cluster.deliver(message)
    cluster.run()
    assert leader.role == "follower"
    assert cluster.peers["a"].reads == []
