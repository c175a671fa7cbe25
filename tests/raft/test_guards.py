"""What stands between a mistake elsewhere, or a stray message, and harm: each of these fails when one guard is removed.

`python -m tests.mutants.guards` removes them one by one; this file has those that no other test would miss.
"""

from __future__ import annotations

import pytest

from tests.raft.harness import Cluster
from zattredis.errors import InvariantViolated, ProposalRefused
from zattredis.raft import candidate, leader
from zattredis.raft.changes import Change, check_quorum, next_step, plan
from zattredis.raft.entry import BATCH, CONFIG, NOOP, Entry, make_entry
from zattredis.raft.log import RaftLog
from zattredis.raft.membership import Membership
from zattredis.raft.messages import PreVoteRequest, PreVoteResponse, VoteRequest, VoteResponse

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


# --- membership -------------------------------------------------------------------------------------------------------


def test_asking_for_nothing_changes_nothing_even_while_a_change_is_under_way() -> None:
    replacing = TRIO.change_to(plan(TRIO, Change(add=[("d", "h:7@8")], remove=["a"])))
    assert replacing.leaving == ("a",)
    assert plan(replacing, Change()) == replacing


def test_a_learner_cannot_be_demoted() -> None:
    grown = TRIO.change_to(plan(TRIO, Change(add=[("d", "h:7@8")], learner=True)))
    with pytest.raises(ProposalRefused, match="d is a learner already"):
        plan(grown, Change(demote=["d"]))


def test_no_step_is_due_in_a_joint_configuration() -> None:
    joint = Membership(voters=("a", "d", "e"), voters_outgoing=("a", "b", "c"), learners=("f",), joining=("f",))
    assert next_step(joint, ["f"]) is None


def test_what_changes_no_voter_needs_no_quorum() -> None:
    silent = {"b": 3.0, "c": 3.0}
    check_quorum(TRIO, plan(TRIO, Change(add=[("d", "h:7@8")])), silent)


# --- the log ----------------------------------------------------------------------------------------------------------


class Stored:
    """A stored log that may lie."""

    first_index = 1
    last_index = 0

    def __init__(self) -> None:
        self.held: list[Entry] = []

    def term(self, index: int) -> int:
        return 0

    def entries(self, low: int, high: int, bytes_max: int) -> list[Entry]:
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


def test_a_tail_within_its_bound_stays_in_memory() -> None:
    size = len(make_entry(1, 1, BATCH, 1, 0, b"y").raw)
    log, _ = filled(11 * size)
    log.trim(10, 10)
    assert log.tail_bytes == 10 * size
