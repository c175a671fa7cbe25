"""Bounds of what a node may take for known, durable, committed or matching: each fails when one of them is removed.

`python -m tests.mutants.guards` removes them one by one; see `test_guards`.
"""

from __future__ import annotations

import random

import pytest

from tests.raft.harness import Cluster, raw_entry
from tests.simulation.disk import Disk
from zattredis.raft.core import Core
from zattredis.raft.entry import BATCH, make_entry
from zattredis.raft.membership import Membership
from zattredis.raft.messages import (
    AppendEntries,
    AppendEntriesResponse,
    CommitAdvanced,
    Heartbeat,
    HeartbeatResponse,
    VoteRequest,
    VoteResponse,
)
from zattredis.raft.progress import Progress
from zattredis.raft.ready import BecameFollower, CoreConfig, HardState, StorageHung, TransferEnded

TRIO = Membership(voters=("a", "b", "c"))


# --- what a leader knows of the others --------------------------------------------------------------------------------


def test_no_probe_begins_below_what_is_known_to_match() -> None:
    progress = Progress(8, match_index=5)
    progress.become_probe(3)
    assert progress.next_index == 6


def test_an_acknowledgement_frees_the_window_of_what_it_covers_and_no_more() -> None:
    progress = Progress(1)
    progress.become_replicate()
    for last in (1, 2, 3):
        progress.sent(last, 100)
    progress.acknowledged(1)
    assert (progress.in_flight_bytes, progress.next_index) == (200, 4)
    assert progress.window_full(100, 200)
    assert not progress.window_full(100, 201)


def test_only_what_is_under_way_and_gets_no_further_for_a_whole_interval_may_be_lost() -> None:
    progress = Progress(1)
    progress.become_replicate()
    progress.note_heartbeat()
    progress.note_heartbeat()
    assert not progress.stalled, "nothing is under way"
    progress.sent(1, 10)
    progress.sent(2, 10)
    progress.acknowledged(1)
    progress.note_heartbeat()
    assert not progress.stalled, "it got further"
    progress.note_heartbeat()
    assert progress.stalled
    progress.become_snapshot()
    progress.note_heartbeat()
    assert not progress.stalled, "nothing is sent beside a snapshot"
    progress.become_probe(2)
    progress.next_index = 5
    progress.note_heartbeat()
    assert not progress.stalled, "a probe is repeated by its own rule"


# --- what a follower believes -----------------------------------------------------------------------------------------


def test_a_follower_commits_what_the_leader_says_is_committed_and_no_more() -> None:
    cluster = Cluster("abc")
    cluster.deliver(AppendEntries("a", "b", 1, 0, 0, 0, [raw_entry(1, 1), raw_entry(2, 1), raw_entry(3, 1)]))
    cluster.deliver(CommitAdvanced("a", "b", 1, 2))
    assert (cluster["b"].verified_index, cluster["b"].commit_index) == (3, 2)


def test_a_truncation_makes_nothing_durable_and_forgets_nothing_to_write() -> None:
    cluster = Cluster("abc")
    core = cluster["b"]
    core.step(AppendEntries("a", "b", 1, 0, 0, 0, [raw_entry(1, 1), raw_entry(2, 1)]))
    core.step(AppendEntries("c", "b", 2, 1, 1, 0, [raw_entry(2, 2)]))
    assert (core.durable_index, core.written_index) == (0, 0)
    cluster.hold_disk("b")
    cluster.turn("b")
    first = cluster.peers["b"].unacknowledged[-1]
    assert [entry.term for entry in core.log.unwritten(0)] == [1, 2]
    cluster.deliver(AppendEntries("c", "b", 2, 2, 2, 0, [raw_entry(3, 2), raw_entry(4, 2), raw_entry(5, 2)]))
    cluster.deliver(AppendEntries("a", "b", 3, 3, 2, 0, [raw_entry(4, 3)]))
    assert core.durable_index == 0
    core.persisted(first)
    assert core.durable_index == 2, "the first write brought no more than two entries"


def test_old_answers_are_answered_by_nothing() -> None:
    cluster = Cluster("abc")
    cluster.elect("a")
    cluster.deliver(HeartbeatResponse("b", "a", 0, 0))
    assert cluster.messages == []


def test_a_follower_counts_no_votes() -> None:
    cluster = Cluster("abc")
    cluster.deliver(AppendEntries("a", "b", 1, 0, 0, 0, [raw_entry(1, 1)]))
    assert (cluster["b"].durable_index, cluster["b"].votes) == (1, {})


def test_who_ceases_to_lead_or_to_follow_tells_of_that_alone() -> None:
    cluster = Cluster("abc")
    cluster.elect("a")
    for peer in cluster.peers.values():
        peer.events.clear()
    for node_id in "ab":
        cluster.deliver(AppendEntries("c", node_id, 5, 0, 0, 0, []))
    assert cluster.peers["a"].saw(TransferEnded) == []
    assert cluster.peers["b"].saw(BecameFollower) == [], "it followed before"


def test_a_refused_candidate_takes_no_vote_and_no_time() -> None:
    cluster = Cluster("abc")
    cluster.deliver(AppendEntries("a", "b", 1, 0, 0, 0, [raw_entry(1, 1)]))
    cluster.tick("b", 11)
    elapsed = cluster["b"].election_elapsed
    cluster.deliver(VoteRequest("c", "b", 2, 0, 0, True))
    assert (cluster["b"].term, cluster["b"].vote, cluster["b"].election_elapsed) == (2, None, elapsed)
    cluster.deliver(VoteRequest("a", "b", 2, 1, 1, True))
    assert cluster["b"].vote == "a"


def test_a_vote_that_is_asked_for_again_is_not_written_again() -> None:
    cluster = Cluster("abc")
    for _ in range(2):
        cluster.deliver(VoteRequest("a", "b", 1, 0, 0, False))
        written = cluster["b"].write_number
    assert [m.granted for m in cluster.take(VoteResponse)] == [True, True]
    assert written == 1


# --- what a start makes of a log --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("applied", "known", "stamp"), [(0, 0, 70), (0, 100, 100), (2, 0, 70), (2, 100, 100)])
def test_a_node_starts_with_the_latest_time_it_knows_of(applied: int, known: int, stamp: int) -> None:
    disk = Disk(TRIO)
    disk.append(1, [make_entry(i, 1, BATCH, 1, 35 * i, b"y") for i in (1, 2)], HardState(1, None, 0))
    disk.sync(1)
    core = Core(CoreConfig("a"), disk, disk.hard_state, TRIO, applied, random.Random(1), known)
    assert core.last_stamp == stamp
    assert core.commit_index == applied, "what is applied was committed"
    core.step(AppendEntries("b", "a", 1, 2, 1, 0, [raw_entry(3, 1)]))
    assert core.last_stamp == stamp


# --- what heartbeats and refusals say ---------------------------------------------------------------------------------


def test_a_heartbeat_tells_nobody_more_than_is_committed_and_than_it_holds() -> None:
    cluster = Cluster("abcde")
    core = cluster.elect("a")
    cluster.isolate("c", "d", "e")
    ahead = cluster.write("a", 2)
    assert core.commit_index < ahead == core.progress["b"].match_index
    cluster.heal()
    cluster.isolate("d", "e")
    core.progress["d"].match_index = core.commit_index - 1
    for begin in (lambda: cluster.tick("a", core.config.heartbeat_ticks), lambda: core.read_index(7)):
        cluster.messages.clear()
        begin()
        cluster.turn("a")
        told = {m.dst: m.commit for m in cluster.take(Heartbeat)}
        assert (told["b"], told["d"]) == (core.commit_index, core.commit_index - 1)


def test_an_older_answer_takes_no_confirmation_back() -> None:
    cluster = Cluster("abc")
    core = cluster.elect("a")
    cluster.tick("a", 2 * core.config.heartbeat_ticks)
    cluster.messages.clear()
    latest = core.reads.round
    for number in (latest, latest - 1):
        cluster.deliver(HeartbeatResponse("b", "a", 1, number))
    assert core.progress["b"].round_acked == latest


def test_a_refusal_leads_back_by_its_hint_but_always_back() -> None:
    cluster = Cluster("abc")
    core = cluster.elect("a")
    cluster.isolate("b")
    cluster.write("a", 9)
    progress = core.progress["b"]
    for hint, expected in ((2, 3), (99, 8)):
        progress.match_index = 0
        progress.become_probe(9)
        cluster.deliver(AppendEntriesResponse("b", "a", 1, False, 8, hint, 1))
        assert progress.next_index == expected


def test_a_refusal_is_not_followed_into_what_is_compacted() -> None:
    cluster = Cluster("abc")
    core = cluster.elect("a")
    cluster.isolate("b")
    cluster.write("a", 9)
    cluster.compact("a", 6)
    progress = core.progress["b"]
    progress.match_index = 0
    progress.become_probe(9)
    cluster.deliver(AppendEntriesResponse("b", "a", 1, False, 8, 7, 0))
    assert (progress.state, progress.next_index) == ("probe", 6)


def test_a_disk_that_has_not_answered_yet_does_not_hang() -> None:
    cluster = Cluster("abc")
    cluster.elect("a")
    cluster.hold_disk("a")
    cluster.write("a")
    cluster.tick("a", 2)
    assert cluster.peers["a"].saw(StorageHung) == []
