"""Replication: conflicts, windows, commitment, lost messages."""

from __future__ import annotations

import pytest

from tests.raft.harness import Cluster, cluster_of, make_disk, raw_entry
from zattredis.errors import InvariantViolated, NotLeader, ProposalRefused
from zattredis.raft.entry import BATCH, NOOP
from zattredis.raft.membership import simple_membership
from zattredis.raft.messages import (
    AppendEntries,
    AppendEntriesResponse,
    CommitAdvanced,
    Heartbeat,
    HeartbeatResponse,
)
from zattredis.raft.ready import MessageRefused, TruncatedLog

ABC = simple_membership("abc")


def test_an_entry_is_committed_everywhere_and_applied_in_order() -> None:
    cluster = Cluster("abc")
    cluster.elect("a")
    for n in range(10):
        cluster.propose("a", b"%d" % n)
    cluster.run()
    for peer in cluster.peers.values():
        assert [e.kind for e in peer.entries] == [NOOP] + [BATCH] * 10
        assert [e.payload for e in peer.entries[1:]] == [b"%d" % n for n in range(10)]
    assert len({p.state.digest for p in cluster.peers.values()}) == 1


def test_proposals_of_one_turn_travel_together() -> None:
    cluster = Cluster("abc")
    leader = cluster.elect("a")
    for _ in range(10):
        leader.propose(BATCH, b"x", 0, 1)
    cluster.turn("a")
    assert [len(m.entries) for m in cluster.take(AppendEntries)] == [10, 10]


def test_a_message_is_bounded_in_bytes_but_holds_at_least_one_entry() -> None:
    cluster = Cluster("abc", message_bytes_max=100)
    leader = cluster.elect("a")
    for size in (10, 10, 1000, 10):
        leader.propose(BATCH, b"x" * size, 0, 1)
    cluster.turn("a")
    assert [len(m.entries) for m in cluster.take(AppendEntries) if m.dst == "b"] == [2, 1, 1]


@pytest.mark.parametrize("bounds", [{"window_entries": 3}, {"window_bytes": 100, "message_bytes_max": 1}])
def test_what_is_under_way_is_bounded(bounds: dict[str, int]) -> None:
    cluster = Cluster("abc", **bounds)
    leader = cluster.elect("a")
    first = leader.last_index + 1
    for _ in range(20):
        cluster.propose("a", b"x" * 10)
    sent = [m for m in cluster.take(AppendEntries) if m.dst == "b"]
    assert sum(len(m.entries) for m in sent) == 3
    cluster.deliver(sent[0])
    cluster.run()
    more = [m for m in cluster.sent if isinstance(m, AppendEntries) and m.dst == "b"]
    assert more[-1].prev_index > first
    cluster.tick_all(40)
    assert cluster["b"].last_index == leader.last_index == 21


def test_stamps_never_fall() -> None:
    cluster = Cluster("abc")
    cluster.elect("a")
    for stamp in (500, 400, 600, 0):
        cluster.propose("a", stamp_ms=stamp)
    cluster.run()
    assert [e.stamp_ms for e in cluster.peers["b"].entries] == [0, 500, 500, 600, 600]
    cluster.isolate("a")
    leader = cluster.elect("b")
    assert leader.last_stamp == 600
    assert leader.propose(BATCH, b"", 1, 1) == 7
    assert leader.last_stamp == 600


def test_only_the_leader_takes_proposals() -> None:
    cluster = Cluster("abc")
    with pytest.raises(NotLeader):
        cluster["a"].propose(BATCH, b"", 0, 1)
    cluster.elect("a")
    with pytest.raises(NotLeader, match="the leader is a"):
        cluster["b"].propose(BATCH, b"", 0, 1)


def test_uncommitted_bytes_are_bounded() -> None:
    cluster = Cluster("abc", uncommitted_bytes_max=1000)
    leader = cluster.elect("a")
    cluster.isolate("b", "c")
    cluster.propose("a", b"x" * 2000)
    with pytest.raises(ProposalRefused, match="uncommitted"):
        cluster.propose("a", b"x")
    assert leader.last_index == 2
    cluster.heal()
    cluster.tick_all(6)
    assert leader.uncommitted_bytes == 0
    cluster.propose("a", b"x")


# --- conflicts --------------------------------------------------------------------------------------------------------


def test_a_late_append_does_not_shorten_the_log() -> None:
    """Zatt truncated without a conflict, and so forgot entries that it had acknowledged."""
    cluster = Cluster("abc")
    entries = [raw_entry(i, 1) for i in range(1, 6)]
    cluster.deliver(AppendEntries("b", "a", 1, 0, 0, 0, entries))
    cluster.deliver(AppendEntries("b", "a", 1, 0, 0, 0, entries[:2]))
    cluster.deliver(AppendEntries("b", "a", 1, 1, 1, 0, entries[1:3]))
    assert cluster.peers["a"].log == [1] * 5
    assert [m.index for m in cluster.take(AppendEntriesResponse)] == [5, 2, 3]
    assert not cluster.peers["a"].saw(TruncatedLog)


def test_a_conflict_truncates_exactly_from_where_it_is() -> None:
    cluster = cluster_of({"a": make_disk([1, 1, 2, 2, 2], ABC)})
    cluster.deliver(AppendEntries("b", "a", 3, 1, 1, 0, [raw_entry(2, 1), raw_entry(3, 3)]))
    assert cluster.peers["a"].log == [1, 1, 3]
    assert [(e.index, e.last_index) for e in cluster.peers["a"].saw(TruncatedLog)] == [(3, 5)]
    assert cluster.peers["a"].disk.last_index == 3


def test_committed_entries_are_never_truncated() -> None:
    cluster = cluster_of({"a": make_disk([1, 1, 1], ABC, commit=2)})
    with pytest.raises(InvariantViolated, match="committed entry 2"):
        cluster["a"].truncate(2)


def test_appends_from_before_the_commit_index_are_read_from_behind_it() -> None:
    cluster = cluster_of({"a": make_disk([1, 1, 1], ABC, commit=3)})
    cluster.turn()
    cluster.compact("a", 4)
    cluster.deliver(AppendEntries("b", "a", 2, 1, 1, 4, [raw_entry(2, 1), raw_entry(3, 1), raw_entry(4, 2)]))
    cluster.deliver(AppendEntries("b", "a", 2, 0, 0, 4, [raw_entry(1, 1)]))
    assert [(m.success, m.index) for m in cluster.take(AppendEntriesResponse)] == [(True, 4), (True, 4)]
    assert cluster["a"].commit_index == 4


@pytest.mark.parametrize(
    ("follower", "probes"),
    [
        ([1, 1, 1, 4, 4, 5, 5, 6, 6], 2),
        ([1, 1, 1, 4], 2),
        ([1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 6], 2),
        ([1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 7, 7], 2),
        ([1, 1, 1, 4, 4, 4, 4], 3),
        ([1, 1, 1, 2, 2, 2, 3, 3, 3, 3, 3], 3),
        ([], 2),
    ],
)
def test_hints_lead_back_by_whole_terms(follower: list[int], probes: int) -> None:
    """The logs of the paper's figure 7: all become the leader's, and few messages are refused."""
    leader_log = [1, 1, 1, 4, 4, 5, 5, 6, 6, 6]
    disks = {i: make_disk(leader_log, ABC, term=7) for i in "ac"} | {"b": make_disk(follower, ABC, term=7)}
    cluster = cluster_of(disks)
    cluster.isolate("b")
    leader = cluster.elect("a")
    cluster.heal()
    before = len(cluster.sent)
    cluster.tick_all(5)
    assert cluster.peers["b"].log == cluster.peers["a"].log
    assert cluster["b"].commit_index == leader.last_index
    refused = [m for m in cluster.sent[before:] if isinstance(m, AppendEntriesResponse) and not m.success]
    assert len(refused) <= probes


def test_a_long_divergence_in_one_term_costs_few_messages() -> None:
    disks = {
        "a": make_disk([1] * 10 + [3] * 300, ABC),
        "b": make_disk([1] * 10 + [2] * 500, ABC),
        "c": make_disk([1] * 10 + [3] * 300, ABC),
    }
    cluster = cluster_of(disks)
    cluster.isolate("b")
    cluster.elect("a")
    cluster.heal()
    cluster.tick_all(5)
    assert cluster.peers["b"].log == cluster.peers["a"].log
    assert len([m for m in cluster.sent if isinstance(m, AppendEntriesResponse) and not m.success]) <= 3


# --- commitment -------------------------------------------------------------------------------------------------------


def test_entries_of_an_older_term_are_not_committed_by_counting() -> None:
    """Figure 8: an entry on a majority may still be overwritten, until one of the leader's own term follows it."""
    terms = {"a": [1, 2], "b": [1, 2], "c": [1], "d": [1], "e": [1, 3]}
    members = simple_membership("abcde")
    cluster = cluster_of({i: make_disk(t, members, term=3) for i, t in terms.items()})
    cluster.isolate("d", "e")
    cluster.campaign("a")
    # Let the old entry reach c, but not the leader's own one.
    cluster.drop = lambda m: isinstance(m, AppendEntries) and any(r[12:20] == (4).to_bytes(8, "big") for r in m.entries)
    cluster.run()
    leader = cluster["a"]
    assert leader.role == "leader"
    for node_id in "bc":
        cluster.deliver(AppendEntries("a", node_id, leader.term, 1, 1, 0, [raw_entry(2, 2)]))
    cluster.messages = cluster.take(AppendEntriesResponse)
    cluster.run()
    assert cluster.peers["c"].log == [1, 2]
    assert sum(p.match_index >= 2 for p in leader.progress.values()) == 3
    assert leader.commit_index == 0
    cluster.heal()
    cluster.isolate("d", "e")
    cluster.tick_all(8)
    assert leader.commit_index == 3


def test_the_leader_counts_itself_only_when_durable() -> None:
    cluster = Cluster("abc")
    leader = cluster.elect("a")
    cluster.isolate("c")
    cluster.hold_disk("a")
    index = cluster.write("a")
    assert leader.progress["b"].match_index == index
    assert leader.commit_index == index - 1
    cluster.release_disk("a")
    assert leader.commit_index == index


def test_appends_leave_before_the_leaders_own_write_is_durable() -> None:
    cluster = Cluster("abc")
    leader = cluster.elect("a")
    cluster.hold_disk("a")
    index = cluster.write("a")
    # The two others are a majority without the leader's disk; it may commit, but apply only what it holds durably.
    assert leader.commit_index == index
    assert cluster.peers["b"].entries[-1].index == index
    assert cluster.peers["a"].entries[-1].index == index - 1
    cluster.release_disk("a")
    assert cluster.peers["a"].entries[-1].index == index


def test_a_follower_commits_only_what_it_verified_with_this_leader() -> None:
    cluster = cluster_of({"a": make_disk([1, 1, 1, 1], ABC)})
    cluster.deliver(AppendEntries("b", "a", 2, 1, 1, 4, []))
    assert cluster["a"].commit_index == 1
    cluster.deliver(CommitAdvanced("b", "a", 2, 4))
    assert cluster["a"].commit_index == 1
    cluster.deliver(AppendEntries("b", "a", 2, 1, 1, 4, [raw_entry(2, 2)]))
    assert cluster["a"].commit_index == 2
    assert cluster.peers["a"].log == [1, 2]


def test_what_was_verified_with_an_earlier_leader_counts_for_nothing() -> None:
    cluster = Cluster("abc")
    cluster.deliver(AppendEntries("b", "a", 1, 0, 0, 0, [raw_entry(i, 1) for i in range(1, 5)]))
    cluster.deliver(AppendEntries("c", "a", 2, 1, 1, 4, []))
    assert cluster["a"].commit_index == 1
    cluster.deliver(CommitAdvanced("c", "a", 2, 4))
    assert cluster["a"].commit_index == 1


def test_the_commit_index_reaches_followers_without_waiting_for_a_heartbeat() -> None:
    cluster = Cluster("abc")
    cluster.elect("a")
    index = cluster.write("a")
    assert {cluster[i].commit_index for i in "abc"} == {index}


def test_what_is_handed_out_to_apply_is_bounded() -> None:
    cluster = Cluster("a", apply_bytes_max=200)
    cluster.tick("a")
    peer = cluster.peers["a"]
    peer.applies = False
    for _ in range(20):
        cluster.propose("a", b"x" * 50)
    handed = len(peer.entries)
    assert handed < 6
    while peer.state.applied_index < 21:
        before = len(peer.entries)
        for entry in peer.entries[peer.state.applied_index :]:
            peer.state.apply(entry)
        peer.core.applied(peer.state.applied_index)
        cluster.turn()
        assert peer.state.applied_index == 21 or len(peer.entries) > before


# --- losses -----------------------------------------------------------------------------------------------------------


def test_a_lost_append_is_sent_again_without_further_writes() -> None:
    cluster = Cluster("abc")
    leader = cluster.elect("a")
    cluster.drop = lambda m: isinstance(m, AppendEntries)
    index = cluster.write("a", 3)
    cluster.heal()
    cluster.tick_all(8)
    assert cluster["b"].commit_index == cluster["c"].commit_index == index
    assert leader.progress["b"].match_index == index


def test_a_lost_acknowledgement_is_given_again() -> None:
    cluster = Cluster("abc")
    leader = cluster.elect("a")
    cluster.drop = lambda m: isinstance(m, AppendEntriesResponse)
    index = cluster.write("a", 3)
    assert leader.commit_index < index
    cluster.heal()
    cluster.tick_all(8)
    assert leader.commit_index == index


def test_a_lost_commit_notice_is_made_good_by_a_heartbeat() -> None:
    cluster = Cluster("abc")
    cluster.elect("a")
    cluster.drop = lambda m: isinstance(m, CommitAdvanced)
    index = cluster.write("a")
    assert cluster["b"].commit_index < index
    cluster.tick_all(2)
    assert cluster["b"].commit_index == index


def test_late_refusals_do_not_disturb_a_follower_in_step() -> None:
    cluster = Cluster("abc")
    leader = cluster.elect("a")
    index = cluster.write("a", 5)
    cluster.deliver(AppendEntriesResponse("b", "a", leader.term, False, 2, 0, 0))
    p = leader.progress["b"]
    assert (p.state, p.match_index, p.next_index) == ("replicate", index, index + 1)


def test_acknowledgements_out_of_order_never_lower_the_match() -> None:
    cluster = Cluster("abc")
    leader = cluster.elect("a")
    index = cluster.write("a", 5)
    cluster.deliver(AppendEntriesResponse("b", "a", leader.term, True, 2, 0, 0))
    assert leader.progress["b"].match_index == index


def test_an_acknowledgement_of_what_was_never_sent_is_refused() -> None:
    cluster = Cluster("abc")
    leader = cluster.elect("a")
    cluster.isolate("b", "c")
    cluster.write("a")
    for node_id in "bc":
        cluster.deliver(AppendEntriesResponse(node_id, "a", leader.term, True, 10**9, 0, 0))
        cluster.deliver(HeartbeatResponse(node_id, "a", leader.term, 10**9))
    assert leader.commit_index == 1
    assert len(cluster.peers["a"].saw(MessageRefused)) == 4


def test_damaged_or_unordered_entries_are_refused_without_an_answer() -> None:
    cluster = Cluster("abc")
    good = raw_entry(1, 1)
    for wrong in ([good[:-1] + b"?"], [good[:10]], [raw_entry(2, 1)], [good, raw_entry(3, 1)], [raw_entry(1, 9)]):
        cluster.deliver(AppendEntries("b", "a", 1, 0, 0, 0, wrong))
    assert cluster["a"].last_index == 0
    assert cluster.take(AppendEntriesResponse) == []
    assert len(cluster.peers["a"].saw(MessageRefused)) == 5


def test_an_unreachable_follower_is_probed_again() -> None:
    cluster = Cluster("abc")
    leader = cluster.elect("a")
    cluster.isolate("b")
    for _ in range(5):
        cluster.write("a")
    leader.report_unreachable("b")
    assert leader.progress["b"].state == "probe"
    cluster.heal()
    cluster.tick_all(8)
    assert cluster["b"].last_index == leader.last_index
    assert leader.progress["b"].state == "replicate"


def test_a_follower_nearly_in_step_costs_no_read_of_the_disk() -> None:
    cluster = Cluster("abc")
    leader = cluster.elect("a")
    peer = cluster.peers["a"]
    reads: list[int] = []
    original = peer.disk.entries

    def entries(low: int, high: int, bytes_max: int) -> list[object]:
        reads.append(low)
        return original(low, high, bytes_max)  # type: ignore[return-value]

    peer.disk.entries = entries  # type: ignore[method-assign,assignment]
    cluster.isolate("b")
    cluster.write("a", 100)
    cluster.heal()
    cluster.tick_all(8)
    assert cluster["b"].last_index == leader.last_index
    assert reads == []


def test_the_tail_in_memory_is_bounded() -> None:
    cluster = Cluster("abc", tail_bytes_max=1000)
    leader = cluster.elect("a")
    cluster.isolate("b")
    for _ in range(100):
        cluster.write("a")
    assert leader.log.tail_bytes <= 1000
    cluster.heal()
    cluster.tick_all(20)
    assert cluster["b"].last_index == leader.last_index


def test_messages_of_an_older_term_count_for_nothing() -> None:
    cluster = Cluster("abc")
    cluster.elect("a")
    cluster.isolate("a")
    cluster.elect("b")
    cluster.heal()
    before = cluster["c"].last_index
    cluster.deliver(AppendEntries("a", "c", 1, 1, 1, 5, [raw_entry(2, 1, b"old")]))
    cluster.deliver(CommitAdvanced("a", "c", 1, 99))
    cluster.deliver(Heartbeat("a", "c", 1, 99, 99))
    assert (cluster["c"].last_index, cluster["c"].leader_id) == (before, "b")
