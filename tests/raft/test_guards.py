"""What stands between a mistake elsewhere, or a stray message, and harm: each of these fails when one guard is removed.

`python -m tests.mutants.guards` removes them one by one; this file has those that no other test would miss.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.raft.harness import Cluster, raw_entry
from zattredis.errors import InvariantViolated, LogCompacted, NotLeader, ProposalRefused
from zattredis.raft import candidate, leader
from zattredis.raft.changes import MEMBERS_MAX, Change, begun, check_quorum, next_step, plan, reached
from zattredis.raft.entry import BATCH, CONFIG, NOOP, Entry, make_entry
from zattredis.raft.log import RaftLog
from zattredis.raft.membership import Membership
from zattredis.raft.messages import (
    AppendEntries,
    AppendEntriesResponse,
    CommitAdvanced,
    Heartbeat,
    HeartbeatResponse,
    InstallSnapshot,
    PreVoteRequest,
    PreVoteResponse,
    TimeoutNow,
    VoteRequest,
    VoteResponse,
)
from zattredis.raft.ready import MembershipChanged, TruncatedLog

TRIO = Membership(voters=("a", "b", "c"), addresses={"a": "h:1@2", "b": "h:3@4", "c": "h:5@6"})


# --- roles ------------------------------------------------------------------------------------------------------------


def test_neither_a_leader_nor_a_learner_can_be_made_to_campaign() -> None:
    cluster = Cluster("abc", learners="d")
    cluster.elect("a")
    for node_id in "ad":
        with pytest.raises(InvariantViolated, match="cannot campaign"):
            candidate.campaign(cluster[node_id])


def test_who_has_not_won_cannot_be_made_leader() -> None:
    cluster = Cluster("abc")
    with pytest.raises(InvariantViolated, match="cannot become leader"):
        leader.become_leader(cluster["a"])
    cluster.isolate("b", "c")
    candidate.campaign(cluster["a"], forced=True)
    cluster.run()
    for voter in "bc":
        cluster.deliver(VoteResponse(voter, "a", 1, False))
    assert (cluster["a"].role, cluster["a"].vote) == ("follower", "a")
    with pytest.raises(InvariantViolated, match="cannot become leader"):
        leader.become_leader(cluster["a"])
    cluster["b"].role = "candidate"
    with pytest.raises(InvariantViolated, match="cannot become leader"):
        leader.become_leader(cluster["b"])


@pytest.mark.parametrize("kind", [NOOP, CONFIG])
def test_nobody_proposes_what_is_the_cores_own(kind: int) -> None:
    cluster = Cluster("abc")
    core = cluster.elect("a")
    with pytest.raises(InvariantViolated):
        core.propose(kind, b"", 0, 1)


# --- votes ------------------------------------------------------------------------------------------------------------


def test_a_candidate_of_an_older_term_is_told_the_present_one() -> None:
    cluster = Cluster("abc")
    cluster.elect("a")
    cluster.deliver(VoteRequest("c", "b", 0, 99, 0, False))
    assert [(m.granted, m.term) for m in cluster.take(VoteResponse)] == [(False, 1)]


def test_a_leader_whose_disk_hangs_stands_in_nobodys_way() -> None:
    cluster = Cluster("abc")
    cluster.elect("a")
    cluster.hold_disk("a")
    last = cluster.propose("a")
    cluster.tick("a", 12)
    cluster.messages.clear()
    cluster.deliver(PreVoteRequest("c", "a", 2, last, 1))
    assert [m.granted for m in cluster.take(PreVoteResponse)] == [True]


def test_the_own_vote_counts_only_when_it_is_durable_itself() -> None:
    cluster = Cluster("abc")
    cluster.deliver(AppendEntries("a", "b", 1, 0, 0, 0, [raw_entry(1, 1)]))
    cluster.hold_disk("b")
    cluster.deliver(AppendEntries("a", "b", 1, 1, 1, 0, [raw_entry(2, 1)]))
    candidate.campaign(cluster["b"], forced=True)
    cluster["b"].persisted(cluster["b"].persisted_number)
    (earlier,) = cluster.peers["b"].unacknowledged
    candidate.count_own_vote(cluster["b"])
    assert cluster["b"].votes == {}, "it is not even handed over"
    cluster.turn("b")
    _, vote = cluster.peers["b"].unacknowledged
    cluster["b"].persisted(earlier)
    assert cluster["b"].votes == {}
    cluster["b"].persisted(vote)
    assert cluster["b"].votes == {"b": True}


def test_a_voter_on_its_own_does_not_raise_terms_while_its_disk_is_slow() -> None:
    cluster = Cluster("a")
    cluster.hold_disk("a")
    cluster.tick("a", 5)
    assert (cluster["a"].role, cluster["a"].term) == ("candidate", 1)


def test_refused_pre_votes_end_the_candidacy_at_once() -> None:
    cluster = Cluster("abc")
    cluster.campaign("a")
    assert cluster["a"].role == "pre_candidate"
    for voter in "bc":
        cluster.deliver(PreVoteResponse(voter, "a", 0, False))
    assert cluster["a"].role == "follower"


def test_leadership_is_not_taken_by_a_learner_or_with_a_disk_that_hangs() -> None:
    cluster = Cluster("abc", learners="d")
    cluster.elect("a")
    cluster.deliver(TimeoutNow("a", "d", 1))
    cluster.hold_disk("b")
    cluster.write("a")
    cluster.tick("b", 12)
    cluster.messages.clear()
    cluster.deliver(TimeoutNow("a", "b", 1))
    assert (cluster["b"].role, cluster["b"].term) == ("follower", 1)
    assert (cluster["d"].role, cluster["d"].term) == ("learner", 1)


def test_a_vote_of_a_later_term_is_none_for_this_one() -> None:
    cluster = Cluster("abc")
    candidate.campaign(cluster["a"], forced=True)
    cluster.turn("a")
    cluster.deliver(VoteResponse("b", "a", 5, True))
    assert (cluster["a"].role, cluster["a"].term) == ("follower", 5)


def test_a_refused_pre_vote_brings_the_later_term() -> None:
    cluster = Cluster("abc")
    cluster.campaign("a")
    cluster.deliver(PreVoteResponse("b", "a", 5, False))
    assert (cluster["a"].role, cluster["a"].term) == ("follower", 5)


def test_who_follows_a_leader_votes_for_no_other_in_its_term() -> None:
    cluster = Cluster("abc")
    cluster.deliver(AppendEntries("a", "c", 1, 0, 0, 0, []))
    cluster.messages.clear()
    cluster.deliver(VoteRequest("b", "c", 1, 99, 1, True))
    assert [m.granted for m in cluster.take(VoteResponse)] == [False]


# --- membership -------------------------------------------------------------------------------------------------------


def test_asking_for_nothing_changes_nothing_even_while_a_change_is_under_way() -> None:
    replacing = TRIO.change_to(plan(TRIO, Change(add=[("d", "h:7@8")], remove=["a"])))
    assert replacing.leaving == ("a",)
    assert plan(replacing, Change()) == replacing


def test_a_learner_that_is_demoted_stays_what_it_is() -> None:
    grown = TRIO.change_to(plan(TRIO, Change(add=[("d", "h:7@8")], learner=True)))
    assert plan(grown, Change(demote=["d"])) == grown


def test_no_step_is_due_in_a_joint_configuration() -> None:
    joint = Membership(voters=("a", "d", "e"), voters_outgoing=("a", "b", "c"), learners=("f",), joining=("f",))
    assert next_step(joint, ["f"]) is None


def test_what_changes_no_voter_needs_no_quorum() -> None:
    silent = {"b": 3.0, "c": 3.0}
    check_quorum(TRIO, plan(TRIO, Change(add=[("d", "h:7@8")])), silent)


JOINING = TRIO.change_to(plan(TRIO, Change(add=[("d", "h:7@8"), ("e", "h:9@10")])))
REPLACING = TRIO.change_to(plan(TRIO, Change(add=[("d", "h:7@8"), ("e", "h:9@10")], demote=["a"])))


def test_nodes_that_join_hold_up_no_other_change_and_those_that_replace_others_do() -> None:
    assert plan(JOINING, Change(remove=["c"])).voters == ("a", "b")
    with pytest.raises(ProposalRefused, match="d, e is to replace a"):
        plan(REPLACING, Change(remove=["c"]))
    called_off = plan(REPLACING, Change(remove=["e"]))
    assert (called_off.voters, called_off.demoting, called_off.joining) == (("a", "b", "c"), (), ("d",))


def test_who_joins_is_promoted_one_by_one_and_who_replaces_together() -> None:
    one = next_step(JOINING, ["d"])
    assert one is not None
    assert (one.voters, one.joining) == (("a", "b", "c", "d"), ("e",))
    assert next_step(REPLACING, ["d"]) is None
    both = next_step(REPLACING, ["d", "e"])
    assert both is not None
    assert (both.voters, both.learners) == (("b", "c", "d", "e"), ("a",))


def test_a_cluster_that_is_too_large_may_shrink() -> None:
    large = Membership(voters=tuple(f"n{i}" for i in range(MEMBERS_MAX + 3)))
    assert len(plan(large, Change(remove=["n1"])).voters) == MEMBERS_MAX + 2
    with pytest.raises(ProposalRefused, match="at most 64 members"):
        plan(large, Change(add=[("x", "h:1@2")]))


@pytest.mark.parametrize(
    ("now", "change", "is_begun", "is_reached"),
    [
        (TRIO, Change(add=[("c", "h:9@9")]), False, False),
        (TRIO, Change(add=[("c", "h:5@6")]), True, True),
        (TRIO, Change(demote=["c"]), True, False),
        (TRIO, Change(remove=["c"]), True, False),
        (JOINING, Change(promote=["d"]), True, False),
        (JOINING, Change(add=[("d", "h:7@8")], learner=True), True, True),
        (replace(JOINING, joining=()), Change(promote=["d"]), False, False),
        (Membership(voters=("a", "d", "e"), voters_outgoing=("a", "b", "c")), Change(promote=["d"]), True, False),
    ],
)
def test_how_far_a_change_has_come(now: Membership, change: Change, is_begun: bool, is_reached: bool) -> None:
    assert (begun(now, change), reached(now, change)) == (is_begun, is_reached)


@pytest.mark.parametrize(
    ("now", "target"),
    [
        (Membership(voters=("a", "b"), voters_outgoing=("a",)), TRIO),
        (TRIO, Membership(voters=("a", "b"), voters_outgoing=("a",))),
        (TRIO, Membership()),
    ],
)
def test_no_single_change_leads_from_or_to_a_joint_configuration_or_to_nobody(
    now: Membership, target: Membership
) -> None:
    with pytest.raises(InvariantViolated, match="no single change"):
        now.change_to(target)


def test_whoever_is_leaving_or_demoted_must_be_replaced_by_somebody() -> None:
    for wanted in ("leaving", "demoting"):
        with pytest.raises(InvariantViolated, match="replaced by nobody"):
            replace(TRIO, **{wanted: ("a",)})


def test_nobody_but_a_learner_joins_and_only_a_joint_configuration_is_left() -> None:
    for wanted in ("joining", "newcomers"):
        with pytest.raises(InvariantViolated, match="joins or is new is no learner"):
            replace(TRIO, **{wanted: ("a",)})
    with pytest.raises(InvariantViolated, match="not joint"):
        TRIO.leave_joint()


def test_a_learner_stays_new_until_it_has_voted() -> None:
    grown = TRIO.change_to(plan(TRIO, Change(add=[("d", "h:7@8")], learner=True)))
    assert grown.newcomers == ("d",)
    more = grown.change_to(plan(grown, Change(add=[("e", "h:9@10")], learner=True)))
    assert more.newcomers == ("d", "e")
    demoted = more.change_to(plan(more, Change(demote=["c"])))
    assert demoted.newcomers == ("d", "e"), "c has voted"


def test_entries_are_equal_when_their_bytes_are() -> None:
    entry = make_entry(1, 1, BATCH, 1, 0, b"x")
    assert entry == make_entry(1, 1, BATCH, 1, 0, b"x")
    assert entry != make_entry(1, 1, BATCH, 1, 0, b"y")
    assert entry != entry.raw


# --- the log ----------------------------------------------------------------------------------------------------------


class Stored:
    """A stored log that may lie."""

    first_index = 1
    last_index = 0

    def __init__(self) -> None:
        self.held: list[Entry] = []

    def term(self, index: int) -> int:
        if index < self.first_index - 1:
            raise LogCompacted(f"entry {index}")
        return 0

    def entries(self, low: int, high: int, bytes_max: int) -> list[Entry]:
        self.asked = (low, high)
        return self.held


def filled(tail_bytes_max: int) -> tuple[RaftLog, Stored]:
    """A log of ten entries, all of them in memory."""
    stored = Stored()
    log = RaftLog(stored, tail_bytes_max)
    log.append([make_entry(i, 1, BATCH, 1, 0, b"y") for i in range(1, 11)])
    return log, stored


def test_what_is_no_longer_in_memory_cannot_be_handed_over_for_writing() -> None:
    log, _ = filled(1)
    log.trim(10, 10)
    with pytest.raises(InvariantViolated, match="no longer in memory"):
        log.unwritten(3)


@pytest.mark.parametrize("held", [[], [make_entry(3, 1, BATCH, 1, 0, b"y")]])
def test_a_stored_log_that_returns_another_entry_stops_the_node(held: list[Entry]) -> None:
    log, stored = filled(1)
    log.trim(10, 10)
    stored.held = held
    with pytest.raises(InvariantViolated, match="did not return entry 2"):
        log.slice(2, 5, 1000)


def test_what_is_still_in_memory_can_be_sent_although_the_stored_log_is_cut() -> None:
    log, stored = filled(1 << 20)
    stored.first_index = 5
    assert log.first_index == 1
    log.compacted()
    assert log.first_index == 5


def test_what_is_cut_from_the_stored_log_leaves_memory_and_nothing_else() -> None:
    size = len(make_entry(1, 1, BATCH, 1, 0, b"y").raw)
    log, stored = filled(1 << 20)
    log.compacted()
    assert log.tail_bytes == 10 * size
    stored.first_index = 5
    log.compacted()
    assert log.tail_bytes == 6 * size
    assert [entry.index for entry in log.unwritten(4)] == [5, 6, 7, 8, 9, 10]


def test_a_tail_beyond_its_bound_keeps_three_quarters_of_it() -> None:
    size = len(make_entry(1, 1, BATCH, 1, 0, b"y").raw)
    log, _ = filled(8 * size)
    log.trim(10, 10)
    assert log.tail_bytes == 6 * size


def test_nobody_looks_for_a_meeting_point_below_what_is_committed() -> None:
    log, stored = filled(1)
    log.trim(6, 6)
    stored.first_index = 7
    assert log.highest_at_most(9, 0, 7) == 7


def test_a_stretch_without_entries_needs_no_stored_log() -> None:
    log, stored = filled(1)
    log.trim(10, 10)
    stored.held = []
    assert log.slice(2, 2, 1000) == []


def test_the_stored_log_is_asked_only_for_what_is_not_in_memory() -> None:
    """What lies there beyond may have been truncated, and replaced in memory only."""
    log, stored = filled(1)
    log.trim(6, 6)
    log.truncate(9)
    stored.held = [make_entry(2, 1, BATCH, 1, 0, b"y")]
    log.slice(2, 11, 1000)
    assert stored.asked == (2, 7)


def test_a_tail_within_its_bound_stays_in_memory() -> None:
    size = len(make_entry(1, 1, BATCH, 1, 0, b"y").raw)
    log, _ = filled(11 * size)
    log.trim(10, 10)
    assert log.tail_bytes == 10 * size


# --- durability -------------------------------------------------------------------------------------------------------


def test_no_term_is_left_backwards_and_no_vote_is_changed() -> None:
    cluster = Cluster("abc")
    core = cluster.elect("a")
    for term, vote in ((0, None), (1, "b"), (1, None)):
        with pytest.raises(InvariantViolated, match="cannot become"):
            core.set_term(term, vote)
    assert (core.term, core.vote) == (1, "a")


def test_what_is_durable_is_acknowledged_though_later_writes_hang() -> None:
    cluster = Cluster("abc")
    first = AppendEntries("a", "b", 1, 0, 0, 0, [raw_entry(1, 1)])
    cluster.deliver(first)
    cluster.hold_disk("b")
    cluster.deliver(AppendEntries("a", "b", 1, 1, 1, 0, [raw_entry(2, 1)]))
    cluster.messages.clear()
    cluster.deliver(first)
    assert [(m.success, m.index) for m in cluster.take(AppendEntriesResponse)] == [(True, 1)]


def test_an_acknowledgement_that_comes_late_takes_nothing_back() -> None:
    cluster = Cluster("abc")
    cluster.deliver(AppendEntries("a", "b", 1, 0, 0, 0, [raw_entry(1, 1)]))
    asked = VoteRequest("c", "b", 2, 1, 1, True)
    cluster.deliver(asked)
    core = cluster["b"]
    core.persisted(1)
    cluster.messages.clear()
    cluster.deliver(asked)
    assert [m.granted for m in cluster.take(VoteResponse)] == [True], "the vote is durable, and stays so"


def test_what_was_never_written_or_handed_out_cannot_be_durable_committed_or_applied() -> None:
    cluster = Cluster("abc")
    core = cluster.elect("a")
    cluster.write("a", 3)
    with pytest.raises(InvariantViolated, match="beyond the log's end"):
        core.commit_to(core.last_index + 1)
    for index in (core.last_index + 1, core.applied_index - 1):
        with pytest.raises(InvariantViolated, match="is delivered"):
            core.applied(index)
    cluster.hold_disk("a")
    cluster.propose("a")
    core.written_index = core.durable_index
    with pytest.raises(InvariantViolated, match="beyond what was written"):
        cluster.release_disk("a")


def test_the_commit_index_never_falls() -> None:
    cluster = Cluster("abc")
    cluster.elect("a")
    index = cluster.write("a", 3)
    cluster.deliver(CommitAdvanced("a", "b", 1, index - 2))
    assert cluster["b"].commit_index == index


def test_a_truncation_that_changes_no_membership_tells_of_none() -> None:
    cluster = Cluster("abc")
    cluster.deliver(AppendEntries("a", "b", 1, 0, 0, 0, [raw_entry(1, 1), raw_entry(2, 1)]))
    cluster.deliver(AppendEntries("c", "b", 2, 1, 1, 0, [raw_entry(2, 2)]))
    assert cluster.peers["b"].saw(TruncatedLog)
    assert not cluster.peers["b"].saw(MembershipChanged)


def test_a_joint_configuration_is_left_only_when_it_is_committed() -> None:
    cluster = Cluster("abcde")
    core = cluster.elect("a")
    before = cluster.propose("a")
    first = cluster.take(AppendEntries)
    core.propose_membership(Membership(voters=("a", "d", "e")))
    cluster.turn("a")
    second = cluster.take(AppendEntries)
    for message in first:
        cluster.deliver(message)
    cluster.run()
    assert core.commit_index == before
    assert core.membership.joint
    assert core.last_index == before + 1, "nothing follows on the joint configuration yet"
    for message in second:
        cluster.deliver(message)
    cluster.run()
    assert core.membership.voters == ("a", "d", "e")
    assert not core.membership.joint


def cut_off() -> Cluster:
    """The leader a has compacted what c, which is cut off, lacks."""
    cluster = Cluster("abc", tail_bytes_max=0)
    cluster.elect("a")
    cluster.isolate("c")
    cluster.write("a", 5)
    cluster.compact("a", 5)
    return cluster


def test_what_follows_on_a_snapshot_is_sent_as_soon_as_that_is_there() -> None:
    cluster = cut_off()
    cluster.heal()
    cluster.tick_all(6)
    cluster.messages.clear()
    assert cluster.stream_snapshot("a", "c")
    sent = [m for m in cluster.take(AppendEntries) if m.dst == "c"]
    assert [m.prev_index for m in sent] == [cluster["c"].last_index], "without waiting for an answer or a heartbeat"


def test_an_offer_of_an_earlier_term_of_the_same_leader_is_refused() -> None:
    cluster = Cluster("abc")
    for term in (1, 3):
        cluster.deliver(AppendEntries("a", "b", term, 0, 0, 0, []))
    assert not cluster["b"].accepts_snapshot(InstallSnapshot("a", "b", 1, 50, 1))
    assert cluster["b"].accepts_snapshot(InstallSnapshot("a", "b", 3, 50, 1))


def test_nobody_is_told_of_a_snapshot_while_no_leader_is_known() -> None:
    cluster = Cluster("abc")
    snapshot = cluster.peers["a"].state.copy()
    snapshot.applied_index, snapshot.applied_term = 5, 1
    cluster.install("b", snapshot)
    assert cluster["b"].commit_index == 5
    assert cluster.take(AppendEntriesResponse) == []


def test_a_refused_proposal_says_when_no_leader_is_known() -> None:
    with pytest.raises(NotLeader, match="the leader is unknown"):
        Cluster("abc")["a"].propose(BATCH, b"x", 0, 1)


def test_the_commit_index_is_told_once() -> None:
    cluster = Cluster("abc")
    core = cluster.elect("a")
    index = cluster.write("a")
    core.read_index(1)
    cluster.run()
    told = [m.commit for m in cluster.sent if isinstance(m, CommitAdvanced) and m.dst == "b"]
    assert told.count(index) == 1


def test_who_does_not_answer_is_probed_once() -> None:
    cluster = Cluster("abc")
    cluster.elect("a")
    cluster.isolate("c")
    cluster["a"].report_unreachable("c")
    cluster.sent.clear()
    cluster.write("a", 5)
    cluster.tick_all(5)
    assert not [m for m in cluster.sent if isinstance(m, AppendEntries) and m.dst == "c"]


# --- replication ------------------------------------------------------------------------------------------------------


def behind_a_snapshot() -> Cluster:
    """The leader a has asked for a snapshot for c, whose stream has not ended."""
    cluster = cut_off()
    cluster["a"].report_unreachable("c")
    cluster.heal()
    cluster.tick_all(6)
    assert cluster["a"].progress["c"].state == "snapshot"
    assert cluster.peers["a"].snapshots == ["c"]
    return cluster


def test_while_a_snapshot_is_sent_old_answers_disturb_nothing() -> None:
    cluster = behind_a_snapshot()
    progress = cluster["a"].progress["c"]
    cluster.deliver(AppendEntriesResponse("c", "a", 1, True, progress.match_index, 0, 0))
    cluster.deliver(AppendEntriesResponse("c", "a", 1, False, progress.next_index - 1, 0, 0))
    cluster["a"].report_unreachable("c")
    cluster.run()
    assert progress.state == "snapshot"
    assert cluster.peers["a"].snapshots == ["c"]


def test_who_has_caught_up_otherwise_needs_no_snapshot_any_more() -> None:
    cluster = behind_a_snapshot()
    cluster.deliver(AppendEntriesResponse("c", "a", 1, True, 5, 0, 0))
    assert cluster["a"].progress["c"].state == "replicate"


def test_a_large_entry_is_replicated_and_a_small_one_travels_with_the_probe() -> None:
    cluster = Cluster("abc")
    core = cluster.elect("a")
    index = cluster.propose("a", b"x" * (leader.PROBE_BYTES_MAX + 1))
    cluster.run()
    assert core.commit_index == index
    cluster.campaign("b")
    cluster.drop = lambda message: isinstance(message, AppendEntriesResponse)
    cluster.run()
    probes = [m for m in cluster.sent if isinstance(m, AppendEntries) and (m.src, m.dst) == ("b", "a")]
    assert [len(m.entries) for m in probes] == [1]


def test_what_is_under_way_is_not_sent_again_at_each_acknowledgement() -> None:
    cluster = Cluster("abc")
    cluster.elect("a")
    cluster.sent.clear()
    for _ in range(3):
        cluster.propose("a")
    cluster.run()
    sent = [m.prev_index for m in cluster.sent if isinstance(m, AppendEntries) and m.dst == "b"]
    assert sent == sorted(set(sent))
    assert len(sent) == 3


def test_heartbeats_keep_their_pace_and_bring_nothing_else() -> None:
    cluster = Cluster("abc", heartbeat_ticks=3, election_timeout_ticks=10)
    cluster.elect("a")
    cluster.tick_all(3)
    cluster.sent.clear()
    cluster.tick_all(6)
    mine = [type(m) for m in cluster.sent if m.src == "a" and m.dst == "b"]
    assert mine == [Heartbeat, Heartbeat]


def test_a_hung_leader_sends_nothing_again_and_forgets_nothing() -> None:
    cluster = Cluster("abc")
    core = cluster.elect("a")
    cluster.isolate("b", "c")
    cluster.hold_disk("a")
    cluster.write("a")
    for _ in range(4):
        cluster.tick("a", 3)
        cluster.messages.clear()
    assert core.storage_hung
    assert core.progress["b"].stalled
    cluster.deliver(AppendEntriesResponse("c", "a", 1, False, core.last_index - 1, 0, 0))
    for voter in "bc":
        cluster.deliver(HeartbeatResponse(voter, "a", 1, core.reads.round))
    assert cluster.messages == []


def test_without_check_quorum_a_leader_stays() -> None:
    cluster = Cluster("abc", check_quorum=False)
    core = cluster.elect("a")
    cluster.isolate("a")
    cluster.tick("a", 50)
    assert core.role == "leader"


def test_what_is_uncommitted_is_counted_until_it_is_committed() -> None:
    cluster = Cluster("abc")
    core = cluster.elect("a")
    assert core.uncommitted_bytes == 0
    cluster.propose("a", b"x" * 10)
    first = cluster.take(AppendEntries)
    one = core.uncommitted_bytes
    cluster.propose("a", b"x" * 10)
    cluster.take(AppendEntries)
    for message in first:
        cluster.deliver(message)
    cluster.run()
    assert core.uncommitted_bytes == one > 0


def test_a_member_that_lacks_an_answer_on_its_log_is_not_due_again_while_nothing_was_sent() -> None:
    cluster = Cluster("abc")
    core = cluster.elect("a")
    cluster.isolate("b", "c")
    cluster.hold_disk("a")
    cluster.write("a")
    cluster.tick("a", 12)
    cluster.messages.clear()
    cluster.deliver(AppendEntriesResponse("b", "a", 1, False, core.progress["b"].next_index - 1, 0, 0))
    core.progress["b"].become_probe(1)
    assert core.progress["b"].probe_sent_tick is None, "a hung disk sends nothing"
    cluster.deliver(HeartbeatResponse("b", "a", 1, core.reads.round))
    assert cluster.messages == []


def test_who_is_removed_is_told_that_it_is_committed() -> None:
    cluster = Cluster("abcd")
    core = cluster.elect("a")
    cluster.write("a")
    cluster.sent.clear()
    index = core.propose_membership(Membership(voters=("a", "b", "c")))
    cluster.run()
    assert CommitAdvanced("a", "d", 1, index) in cluster.sent


def test_a_leader_whose_removal_was_another_ones_last_entry_steps_down_once_that_is_committed() -> None:
    """It alone had it: only it could be elected (§4.2.2)."""
    cluster = Cluster("abcd")
    core = cluster.elect("a")
    cluster.write("a")
    cluster.isolate("b", "c")
    core.propose_membership(Membership(voters=("a", "b", "c")))
    cluster.run()
    assert cluster["d"].membership.voters == ("a", "b", "c")
    cluster.heal()
    cluster.isolate("a")
    cluster.campaign("d")
    cluster.run()
    for node_id in "bcd":
        assert cluster[node_id].membership.voters == ("a", "b", "c")
        assert cluster[node_id].commit_index == cluster[node_id].last_index
    assert cluster["d"].term > 1
    assert cluster["d"].role == "learner"


def test_a_transfer_goes_on_while_a_joint_configuration_is_left() -> None:
    cluster = Cluster("abc", learners="de")
    core = cluster.elect("a")
    cluster.write("a")
    cluster.drop = lambda m: isinstance(m, TimeoutNow)
    core.propose_membership(Membership(voters=tuple("abde")))
    cluster.turn("a")
    assert core.membership.joint
    core.transfer_leader("b")
    cluster.run()
    assert not core.membership.joint
    assert core.transferring_to == "b"


def test_a_leader_that_is_removed_sends_itself_nothing_and_tells_only_who_goes() -> None:
    cluster = Cluster("abcd")
    core = cluster.elect("a")
    cluster.write("a")
    cluster.sent.clear()
    index = core.propose_membership(Membership(voters=("b", "c", "d")))
    cluster.run()
    assert core.role != "leader"
    assert not [m for m in cluster.sent if m.src == m.dst]
    told = [m.dst for m in cluster.sent if isinstance(m, CommitAdvanced) and m.commit == index]
    assert len(told) == len(set(told))


# --- what holds beside ------------------------------------------------------------------------------------------------


def test_a_voter_that_is_behind_holds_up_no_change() -> None:
    cluster = Cluster("abc", learners="d")
    core = cluster.elect("a")
    cluster.isolate("c")
    core.propose_membership(Membership(voters=tuple("abc"), learners=("d",), addresses={"d": "h:1@2"}))
    cluster.run()
    core.propose_membership(Membership(voters=tuple("abcd")))
    cluster.run()
    assert core.membership.voters == tuple("abcd")


def test_a_learner_that_lacks_the_present_configuration_is_not_promoted() -> None:
    cluster = Cluster("abc", learners="d")
    core = cluster.elect("a")
    cluster.isolate("d")
    core.propose_membership(Membership(voters=tuple("ab"), learners=("d",)))
    cluster.run()
    with pytest.raises(ProposalRefused, match="d must first be a learner that has caught up"):
        core.propose_membership(Membership(voters=tuple("abd")))
    lost = Cluster("abc", learners="d")
    lost.isolate("d")
    core = lost.elect("a")
    assert core.membership_index == 0
    with pytest.raises(ProposalRefused, match="d must first be a learner that has caught up"):
        core.propose_membership(Membership(voters=tuple("abcd")))


def test_leadership_is_not_handed_to_who_is_silent() -> None:
    cluster = Cluster("abc")
    core = cluster.elect("a")
    cluster.isolate("c")
    cluster.tick_all(25)
    core.transfer_leader(None)
    assert core.transferring_to == "b"


def test_without_check_quorum_a_leader_protects_nobody() -> None:
    cluster = Cluster("abc", check_quorum=False)
    assert not cluster.elect("a").in_lease


def test_a_configuration_that_is_not_committed_can_be_taken_back_after_others_were() -> None:
    cluster = Cluster("abc")
    before = cluster["b"].membership
    config = make_entry(2, 1, CONFIG, 0, 0, Membership(voters=("a", "b")).encode()).raw
    cluster.deliver(AppendEntries("a", "b", 1, 0, 0, 1, [raw_entry(1, 1), config]))
    assert cluster["b"].membership.voters == ("a", "b")
    assert cluster["b"].commit_index == 1
    cluster.deliver(AppendEntries("c", "b", 2, 1, 1, 1, [raw_entry(2, 2)]))
    assert cluster["b"].membership == before


def test_what_is_applied_in_part_still_counts_against_the_bound() -> None:
    cluster = Cluster("a")
    core = cluster.elect("a")
    cluster.peers["a"].applies = False
    first, _ = cluster.write("a"), cluster.write("a")
    both = core.delivered_bytes
    core.applied(first)
    assert 0 < core.delivered_bytes < both


def test_time_is_taken_from_a_snapshot_and_never_goes_back() -> None:
    for own, brought, expected in ((100, 500, 500), (900, 500, 900)):
        cluster = Cluster("abc")
        entry = make_entry(1, 1, BATCH, 1, own, b"y").raw
        cluster.deliver(AppendEntries("a", "b", 1, 0, 0, 0, [entry]))
        snapshot = cluster.peers["a"].state.copy()
        snapshot.applied_index, snapshot.applied_term, snapshot.stamp_ms = 5, 1, brought
        cluster.install("b", snapshot)
        assert cluster["b"].last_stamp == expected


def test_an_append_that_comes_late_makes_nothing_unverified() -> None:
    cluster = Cluster("abc")
    first = AppendEntries("a", "b", 1, 0, 0, 0, [raw_entry(1, 1)])
    cluster.deliver(first)
    cluster.deliver(AppendEntries("a", "b", 1, 1, 1, 0, [raw_entry(2, 1)]))
    cluster.deliver(first)
    cluster.deliver(CommitAdvanced("a", "b", 1, 2))
    assert cluster["b"].commit_index == 2
