"""Followers that need what is compacted, and snapshots that must not be taken."""

from __future__ import annotations

import pytest

from tests.raft.harness import Cluster, raw_entry
from zattredis.errors import InvariantViolated
from zattredis.raft.messages import AppendEntries, AppendEntriesResponse, InstallSnapshot, VoteRequest
from zattredis.raft.ready import SnapshotInstalled


def fallen_behind() -> Cluster:
    """A cluster whose follower c lacks entries that leader a has compacted."""
    cluster = Cluster("abc", tail_bytes_max=0)
    cluster.elect("a")
    cluster.isolate("c")
    cluster.write("a", 20)
    cluster.compact("a", 18)
    cluster.heal()
    cluster.tick_all(4)
    return cluster


def test_a_follower_that_fell_behind_gets_a_snapshot_and_then_entries() -> None:
    cluster = fallen_behind()
    leader = cluster["a"]
    assert cluster.peers["a"].snapshots == ["c"]
    assert leader.progress["c"].state == "snapshot"
    index = cluster.write("a", 3)
    assert cluster["c"].last_index == 1
    assert cluster.stream_snapshot("a", "c")
    cluster.run()
    cluster.write("a", 3)
    assert leader.progress["c"].state == "replicate"
    assert cluster["c"].commit_index == index + 3
    assert cluster.peers["c"].state.digest == cluster.peers["a"].state.digest
    assert [e.index for e in cluster.peers["c"].saw(SnapshotInstalled)] == [index]


def test_a_failed_stream_is_asked_for_again() -> None:
    cluster = fallen_behind()
    cluster["a"].report_snapshot("c", False, 0)
    cluster.run()
    assert cluster.peers["a"].snapshots == ["c"]
    cluster.tick_all(6)
    assert cluster.peers["a"].snapshots == ["c", "c"]
    assert cluster.stream_snapshot("a", "c")
    cluster.tick_all(4)
    assert cluster["c"].last_index == cluster["a"].last_index


def test_no_snapshot_is_asked_for_a_follower_that_is_silent() -> None:
    cluster = Cluster("abc", tail_bytes_max=0)
    cluster.elect("a")
    cluster.isolate("c")
    cluster.write("a", 20)
    cluster.tick_all(20)
    cluster.compact("a", 18)
    cluster.write("a")
    cluster.tick_all(20)
    assert cluster.peers["a"].snapshots == []


def test_a_snapshot_replaces_a_log_that_contradicts_it() -> None:
    cluster = Cluster("abc", tail_bytes_max=0)
    cluster.elect("c")
    cluster.isolate("c")
    for _ in range(5):
        cluster.propose("c")
    cluster.elect("a")
    cluster.write("a", 20)
    cluster.compact("a", 18)
    cluster.heal()
    cluster.messages.clear()
    cluster.tick_all(5)
    assert cluster.peers["a"].snapshots == ["c"]
    assert cluster.stream_snapshot("a", "c")
    cluster.tick_all(4)
    assert cluster["c"].last_index == cluster["a"].last_index
    assert cluster.peers["c"].state.digest == cluster.peers["a"].state.digest


@pytest.mark.parametrize("src", ["b", "x"])
def test_a_snapshot_from_another_than_the_leader_is_refused(src: str) -> None:
    cluster = fallen_behind()
    core = cluster["c"]
    assert not core.accepts_snapshot(InstallSnapshot(src, "c", core.term - 1, 20, 1))
    assert core.leader_id == "a"


def test_stale_term_snapshots_are_refused() -> None:
    cluster = fallen_behind()
    core = cluster["c"]
    offer = InstallSnapshot("a", "c", core.term, 20, 1)
    assert core.accepts_snapshot(offer)
    cluster.tick("c", 10)
    cluster.deliver(VoteRequest("b", "c", core.term + 1, 99, 1, False))
    assert not core.accepts_snapshot(offer)


def test_a_snapshot_behind_the_commit_index_is_refused() -> None:
    cluster = Cluster("abc")
    leader = cluster.elect("a")
    index = cluster.write("a", 5)
    core = cluster["c"]
    assert core.commit_index == index
    assert not core.accepts_snapshot(InstallSnapshot("a", "c", leader.term, index, leader.term))
    assert not core.accepts_snapshot(InstallSnapshot("a", "c", leader.term, index - 2, leader.term))
    with pytest.raises(InvariantViolated, match="committed to"):
        core.snapshot_installed(index, leader.term, leader.membership)


def test_a_snapshot_whose_end_is_in_the_log_only_commits() -> None:
    """Installing it would drop entries behind it that may be acknowledged."""
    cluster = Cluster("abc")
    entries = [raw_entry(i, 1) for i in range(1, 8)]
    cluster.deliver(AppendEntries("a", "b", 1, 0, 0, 0, entries))
    core = cluster["b"]
    assert not core.accepts_snapshot(InstallSnapshot("a", "b", 1, 5, 1))
    assert (core.commit_index, core.last_index) == (5, 7)
    with pytest.raises(InvariantViolated):
        core.snapshot_installed(6, 1, core.membership)


def test_an_offer_with_a_later_term_brings_that_term() -> None:
    cluster = Cluster("abc")
    core = cluster["c"]
    assert core.accepts_snapshot(InstallSnapshot("b", "c", 4, 20, 3))
    assert (core.term, core.leader_id) == (4, "b")


def test_writes_from_before_an_install_make_nothing_durable_after_it() -> None:
    cluster = Cluster("abc", tail_bytes_max=0)
    cluster.elect("a")
    cluster.isolate("c")
    cluster["a"].transfer_leader("b")
    cluster.run()
    cluster.write("b", 19)
    cluster.heal()
    cluster.hold_disk("c")
    core = cluster["c"]
    cluster.deliver(AppendEntries("a", "c", 1, 1, 1, 0, [raw_entry(2, 1, b"other")]))
    cluster.deliver(AppendEntries("a", "c", 1, 2, 1, 0, [raw_entry(i, 1, b"other") for i in range(3, 40)]))
    cluster.messages.clear()
    assert (core.term, core.last_index) == (1, 39)
    cluster.install("c", cluster.peers["b"].state.copy())
    core.persisted(core.write_number)
    cluster.turn("c")
    assert core.durable_index == core.last_index == core.commit_index == 21
    assert [m.index for m in cluster.take(AppendEntriesResponse)] == [21]


def test_compaction_does_not_disturb_followers_in_step() -> None:
    cluster = Cluster("abc")
    leader = cluster.elect("a")
    for _ in range(5):
        cluster.write("a", 5)
        for node_id in "abc":
            cluster.compact(node_id, cluster[node_id].applied_index + 1)
    index = cluster.write("a")
    assert {cluster[i].commit_index for i in "abc"} == {index}
    assert cluster.peers["a"].snapshots == []
    assert leader.log.first_index == index
    for node_id in "abc":
        cluster.crash(node_id)
        cluster.restart(node_id)
    cluster.elect("b")
    assert cluster["c"].commit_index == index + 1


def test_reports_about_strangers_and_nodes_in_step_change_nothing() -> None:
    cluster = Cluster("abc")
    leader = cluster.elect("a")
    leader.report_snapshot("b", True, 1)
    leader.report_snapshot("x", False, 1)
    leader.report_unreachable("x")
    assert leader.progress["b"].state == "replicate"
