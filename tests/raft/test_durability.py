"""Asynchronous writes: what an acknowledgement makes durable, and what waits for it."""

from __future__ import annotations

import pytest

from tests.raft.harness import Cluster, raw_entry
from zattredis.errors import InvariantViolated
from zattredis.raft.messages import (
    AppendEntries,
    AppendEntriesResponse,
    Heartbeat,
    HeartbeatResponse,
    VoteRequest,
)
from zattredis.raft.ready import StorageHung


def test_an_acknowledgement_waits_for_the_write() -> None:
    cluster = Cluster("abc")
    cluster.hold_disk("b")
    cluster.deliver(AppendEntries("a", "b", 1, 0, 0, 0, [raw_entry(1, 1)]))
    assert cluster.take(AppendEntriesResponse) == []
    cluster.release_disk("b")
    assert [m.index for m in cluster.take(AppendEntriesResponse)] == [1]


def test_one_acknowledgement_covers_what_one_write_holds() -> None:
    cluster = Cluster("abc")
    core = cluster["b"]
    for index in range(1, 6):
        core.step(AppendEntries("a", "b", 1, index - 1, min(1, index - 1), 0, [raw_entry(index, 1)]))
    cluster.turn("b")
    assert [m.index for m in cluster.take(AppendEntriesResponse)] == [5]


def test_a_refusal_waits_only_for_the_term() -> None:
    cluster = Cluster("abc")
    cluster.deliver(AppendEntries("a", "b", 1, 0, 0, 0, [raw_entry(1, 1)]))
    cluster.take(AppendEntriesResponse)
    cluster.hold_disk("b")
    cluster.deliver(AppendEntries("a", "b", 1, 1, 1, 0, [raw_entry(2, 1)]))
    cluster.deliver(AppendEntries("a", "b", 1, 9, 1, 0, [raw_entry(10, 1)]))
    cluster.deliver(Heartbeat("a", "b", 1, 1, 7))
    assert [m.success for m in cluster.take(AppendEntriesResponse)] == [False]
    assert [m.round for m in cluster.take(HeartbeatResponse)] == [7]


def test_nothing_is_answered_in_a_term_that_is_not_durable() -> None:
    cluster = Cluster("abc")
    cluster.hold_disk("b")
    cluster.deliver(Heartbeat("a", "b", 1, 0, 7))
    cluster.deliver(AppendEntries("a", "b", 1, 9, 1, 0, []))
    assert cluster.messages == []
    cluster.release_disk("b")
    assert len(cluster.take(HeartbeatResponse)) == 1


def test_writes_are_acknowledged_first_in_first_out() -> None:
    cluster = Cluster("abc")
    cluster.hold_disk("b")
    for index in (1, 2, 3):
        cluster.deliver(AppendEntries("a", "b", 1, index - 1, min(1, index - 1), 0, [raw_entry(index, 1)]))
    peer = cluster.peers["b"]
    assert peer.unacknowledged == [1, 2, 3]
    peer.disk.sync(2)
    peer.core.persisted(2)
    cluster.turn("b")
    assert [m.index for m in cluster.take(AppendEntriesResponse)] == [1, 2]
    assert peer.core.durable_index == 2
    # An old number says nothing new, one never given is impossible.
    peer.core.persisted(1)
    assert peer.core.durable_index == 2
    with pytest.raises(InvariantViolated):
        peer.core.persisted(4)


def test_an_acknowledgement_from_before_a_truncation_counts_for_nothing() -> None:
    """Write 1 holds entries 1 to 5 of term 1; term 2 truncates from 3. Write 1 makes nothing beyond 2 durable."""
    cluster = Cluster("abc")
    cluster.hold_disk("b")
    cluster.deliver(AppendEntries("a", "b", 1, 0, 0, 0, [raw_entry(i, 1) for i in range(1, 6)]))
    cluster.deliver(AppendEntries("c", "b", 2, 2, 1, 4, [raw_entry(3, 2), raw_entry(4, 2)]))
    peer = cluster.peers["b"]
    peer.disk.sync(1)
    peer.core.persisted(1)
    cluster.turn("b")
    assert peer.core.durable_index == 2
    assert cluster.take(AppendEntriesResponse) == []
    assert [e.index for e in peer.entries] == [1, 2]
    cluster.release_disk("b")
    assert peer.core.durable_index == 4
    assert [(m.dst, m.index) for m in cluster.take(AppendEntriesResponse)] == [("c", 4)]
    assert [(e.index, e.term) for e in peer.entries] == [(1, 1), (2, 1), (3, 2), (4, 2)]


def test_an_acknowledgement_held_for_another_terms_leader_is_dropped() -> None:
    cluster = Cluster("abc")
    cluster.hold_disk("b")
    cluster.deliver(AppendEntries("a", "b", 1, 0, 0, 0, [raw_entry(1, 1)]))
    cluster.tick("b", 10)
    cluster.deliver(VoteRequest("c", "b", 2, 9, 1, False))
    cluster.release_disk("b")
    assert cluster.take(AppendEntriesResponse) == []


def test_nothing_is_applied_ahead_of_the_own_durable_log() -> None:
    cluster = Cluster("abc")
    cluster.hold_disk("b")
    cluster.deliver(AppendEntries("a", "b", 1, 0, 0, 2, [raw_entry(1, 1), raw_entry(2, 1)]))
    assert cluster["b"].commit_index == 2
    assert cluster.peers["b"].entries == []
    cluster.release_disk("b")
    assert [e.index for e in cluster.peers["b"].entries] == [1, 2]


def test_the_unsynced_end_of_a_log_is_lost_without_harm() -> None:
    cluster = Cluster("abc")
    leader = cluster.elect("a")
    cluster.hold_disk("b")
    index = cluster.write("a", 5)
    assert leader.commit_index == index
    assert leader.progress["b"].match_index == 1
    cluster.crash("b")
    cluster.restart("b")
    assert cluster["b"].last_index == 1
    cluster.tick_all(10)
    assert cluster["b"].last_index == index


def test_what_was_acknowledged_survives_the_power_loss_of_all() -> None:
    cluster = Cluster("abc")
    leader = cluster.elect("a")
    index = cluster.write("a", 5)
    assert leader.commit_index == index
    for node_id in "abc":
        cluster.crash(node_id)
    for node_id in "abc":
        cluster.restart(node_id)
    cluster.elect("c")
    assert cluster["c"].commit_index == index + 1


def test_only_a_change_of_term_vote_or_log_is_a_write() -> None:
    cluster = Cluster("abc")
    cluster.elect("a")
    cluster.write("a", 3)
    writes = {i: cluster[i].write_number for i in "abc"}
    cluster.tick_all(20)
    assert {i: cluster[i].write_number for i in "abc"} == writes


def test_a_hint_of_the_commit_index_travels_with_the_next_write() -> None:
    cluster = Cluster("abc")
    leader = cluster.elect("a")
    first = cluster.write("a")
    cluster.write("a")
    assert cluster.peers["a"].disk.hard_state.commit == first
    assert leader.commit_index == first + 1


def test_each_write_makes_only_its_own_entries_durable_for_the_leader() -> None:
    cluster = Cluster("abc")
    leader = cluster.elect("a")
    cluster.hold_disk("a")
    cluster.isolate("b", "c")
    first = cluster.write("a")
    second = cluster.write("a")
    cluster.deliver(AppendEntriesResponse("b", "a", leader.term, True, second, 0, 0))
    assert leader.commit_index == first - 1
    peer = cluster.peers["a"]
    peer.disk.sync(peer.unacknowledged[0])
    leader.persisted(peer.unacknowledged[0])
    assert (leader.progress["a"].match_index, leader.commit_index) == (first, first)


# --- a disk that hangs ------------------------------------------------------------------------------------------------


def test_a_leader_whose_disk_hangs_falls_silent_and_others_take_over() -> None:
    cluster = Cluster("abc")
    leader = cluster.elect("a")
    cluster.hold_disk("a")
    cluster.write("a")
    cluster.tick_all(12)
    assert cluster.peers["a"].saw(StorageHung)
    before = len([m for m in cluster.sent if m.src == "a"])
    cluster.propose("a")
    cluster.tick("a", 5)
    assert len([m for m in cluster.sent if m.src == "a"]) == before
    cluster.tick_all(40)
    assert leader.role != "leader"
    assert [i for i in "bc" if cluster[i].role == "leader"]
    cluster.release_disk("a")
    cluster.tick_all(30)
    assert cluster.peers["a"].log == cluster.peers["b"].log


def test_a_leader_whose_disk_comes_back_in_time_goes_on() -> None:
    cluster = Cluster("abc")
    leader = cluster.elect("a")
    cluster.hold_disk("a")
    cluster.write("a")
    cluster.tick("a", 12)
    index = cluster.propose("a")
    cluster.release_disk("a")
    cluster.run()
    assert leader.role == "leader"
    assert leader.commit_index == index


def test_a_hung_leader_confirms_no_reads() -> None:
    cluster = Cluster("abc")
    cluster.elect("a")
    cluster.hold_disk("a")
    cluster.write("a")
    cluster.tick("a", 12)
    cluster["a"].read_index(1)
    cluster.run()
    assert cluster.peers["a"].reads == []


def test_a_node_whose_disk_hangs_does_not_campaign() -> None:
    cluster = Cluster("abc")
    cluster.hold_disk("b")
    cluster.deliver(AppendEntries("a", "b", 1, 0, 0, 0, [raw_entry(1, 1)]))
    cluster.tick("b", 100)
    assert (cluster["b"].role, cluster["b"].term) == ("follower", 1)
    assert len(cluster.peers["b"].saw(StorageHung)) == 1
