"""A node that lost its log comes back under its old id: it is filled again, but counts for nothing until it says so."""

from __future__ import annotations

import random

import pytest

from tests.raft.harness import Cluster, make_disk
from zattredis.raft.membership import simple_membership
from zattredis.raft.messages import AppendEntries, PreVoteRequest, TimeoutNow, VoteRequest, VoteResponse

ABC = simple_membership("abc")


def wiped(*, compacted: bool = False) -> Cluster:
    """Node c has acknowledged six entries to leader a, loses its disk and starts with an empty one."""
    cluster = Cluster("abc", tail_bytes_max=0)
    cluster.elect("a")
    cluster.write("a", 5)
    cluster.tick_all(2)
    if compacted:
        cluster.compact("a", 5)
    wipe(cluster)
    return cluster


def wipe(cluster: Cluster) -> None:
    cluster.crash("c")
    cluster.peers["c"].disk = make_disk([], ABC)
    cluster.peers["c"].state = cluster.peers["c"].disk.state.copy()
    cluster.restart("c").rejoining = True


@pytest.mark.parametrize("compacted", [False, True])
def test_it_is_filled_again(compacted: bool) -> None:
    cluster = wiped(compacted=compacted)
    cluster.tick_all(6)
    if compacted:
        assert cluster.peers["a"].snapshots[-1:] == ["c"]
        assert cluster.stream_snapshot("a", "c")
        cluster.tick_all(6)
    assert cluster["c"].last_index == cluster["a"].last_index
    assert cluster.peers["c"].state.digest == cluster.peers["a"].state.digest
    assert cluster["a"].role == "leader"


def test_it_is_filled_again_each_time() -> None:
    cluster = wiped()
    for _ in range(3):
        cluster.tick_all(6)
        assert cluster["c"].last_index == cluster["a"].last_index
        wipe(cluster)


def test_it_commits_nothing_and_confirms_no_read_until_it_counts_again() -> None:
    cluster = wiped()
    leader = cluster["a"]
    cluster.tick_all(6)
    cluster.isolate("b")
    index = cluster.write("a")
    leader.read_index(1)
    cluster.run()
    assert leader.progress["c"].match_index == index
    assert leader.commit_index == index - 1
    assert cluster.peers["a"].reads == []
    cluster["c"].rejoining = False
    cluster.tick_all(6)
    assert leader.commit_index == index
    assert [r.context for r in cluster.peers["a"].reads] == [1]


def test_it_keeps_no_leader_in_office() -> None:
    cluster = wiped()
    cluster.tick_all(3)
    cluster.isolate("b")
    cluster.tick_all(25)
    assert cluster["a"].role != "leader"


def test_it_neither_votes_nor_campaigns() -> None:
    cluster = wiped()
    cluster.tick_all(3)
    cluster["a"].transfer_leader(None)
    assert cluster["a"].transferring_to == "b"
    cluster.deliver(TimeoutNow("a", "c", cluster["c"].term))
    cluster.tick("c", 50)
    assert cluster["c"].role == "follower"
    assert not [m for m in cluster.messages if isinstance(m, PreVoteRequest) and m.src == "c"]
    cluster.messages.clear()
    cluster.deliver(VoteRequest("b", "c", 9, 99, 8, True))
    assert [m.granted for m in cluster.take(VoteResponse)] == [False]


def test_a_late_word_of_the_loss_costs_only_a_probe() -> None:
    cluster = wiped()
    cluster.tick_all(6)
    refused = [m for m in cluster.sent if m.src == "c" and getattr(m, "success", True) is False]
    assert refused
    cluster["c"].rejoining = False
    cluster.tick_all(2)
    index = cluster.write("a")
    cluster.deliver(refused[0])
    cluster.tick_all(6)
    assert cluster["a"].commit_index == index
    assert cluster["a"].progress["c"].match_index == index
    assert not cluster["a"].progress["c"].rejoining


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("rejoining", [False, True])
def test_filling_a_member_over_a_network_that_reorders_repeats_a_bounded_number(rejoining: bool, seed: int) -> None:
    cluster = Cluster("abc", message_bytes_max=1)
    cluster.elect("a")
    cluster.crash("c")
    cluster.write("a", 150)
    cluster.restart("c").rejoining = rejoining
    cluster.sent.clear()
    rng = random.Random(seed)
    intervals = 0
    while cluster["a"].progress["c"].match_index < cluster["a"].last_index:
        intervals += 1
        assert intervals < 100
        for node_id in "abc":
            cluster.tick(node_id)
        for _ in range(2000):
            if not cluster.messages:
                break
            cluster.deliver(cluster.messages.pop(rng.randrange(len(cluster.messages))))
    # Each refusal that is believed sends a window again. 33,000 to 72,000 where old answers are taken for new ones.
    assert len([m for m in cluster.sent if m.dst == "c" and isinstance(m, AppendEntries)]) < 20_000
