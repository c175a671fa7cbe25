"""Configurations: their bytes, and changes by single steps and by joint consensus."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.raft.harness import Cluster
from zattredis.errors import InvariantViolated, NotLeader, ProposalRefused
from zattredis.raft.membership import Membership, simple_membership
from zattredis.raft.messages import (
    AppendEntries,
    AppendEntriesResponse,
    Heartbeat,
    PreVoteRequest,
    TimeoutNow,
    VoteRequest,
)
from zattredis.raft.ready import MembershipChanged, MembershipCommitted, MessageRefused, TransferEnded

ids = st.sampled_from("abcdef")


@given(st.sets(ids, min_size=1), st.sets(ids), st.dictionaries(ids, st.text(max_size=20)), st.booleans())
def test_a_membership_survives_its_bytes(
    voters: set[str], learners: set[str], addresses: dict[str, str], leave: bool
) -> None:
    membership = Membership(tuple(voters), (), tuple(learners - voters), (), leave, addresses)
    again = Membership.decode(membership.encode())
    assert again == membership
    assert again.addresses == membership.addresses
    assert again.encode() == membership.encode()


def test_equal_memberships_have_equal_bytes() -> None:
    one = Membership(voters=("c", "a", "b", "a"), addresses={"b": "2", "a": "1", "z": "stranger"})
    other = Membership(voters=("b", "c", "a"), addresses={"a": "1", "b": "2"})
    assert one.encode() == other.encode()


@pytest.mark.parametrize(
    "fields",
    [
        {"voters": ("a",), "learners": ("a",)},
        {"voters": ("a",), "voters_outgoing": ("b",), "learners": ("b",)},
        {"voters": ("a",), "learners_next": ("b",)},
        {"voters": ("a", "b"), "voters_outgoing": ("a", "b"), "learners_next": ("b",)},
        {"learners": ("a",)},
    ],
)
def test_contradictory_memberships_are_refused(fields: dict[str, tuple[str, ...]]) -> None:
    with pytest.raises(InvariantViolated):
        Membership(**fields)  # type: ignore[arg-type]


@pytest.mark.parametrize("data", [b"", b"\x93", b"\x96\x90\x90\x90\x90\xc2", b"not a membership"])
def test_bytes_that_are_no_membership_are_refused(data: bytes) -> None:
    with pytest.raises(InvariantViolated):
        Membership.decode(data)


def test_a_learner_is_replicated_to_but_never_counts() -> None:
    cluster = Cluster("abc", learners="d")
    cluster.elect("a")
    assert cluster["d"].role == "learner"
    cluster.isolate("b", "c")
    index = cluster.write("a")
    assert cluster["d"].last_index == index
    assert cluster["a"].commit_index < index
    cluster.tick("d", 100)
    assert cluster["d"].role == "learner"
    assert not cluster.take(PreVoteRequest)


def test_a_node_outside_its_membership_never_campaigns() -> None:
    cluster = Cluster("abc", strangers="x")
    cluster.tick("x", 200)
    assert cluster["x"].term == 0
    assert not cluster.sent


def test_one_voter_changes_at_once_and_the_configuration_works_before_it_is_committed() -> None:
    cluster = Cluster("abc", learners="d")
    leader = cluster.elect("a")
    cluster.isolate("b", "c")
    target = Membership(voters=tuple("abcd"))
    index = leader.propose_membership(target)
    cluster.run()
    assert leader.membership == target
    assert cluster["d"].membership == target
    assert cluster["d"].role == "follower"
    # Two of the four hold it: no majority of the new configuration, which decides alone.
    assert leader.commit_index < index
    cluster.heal()
    cluster.tick_all(6)
    assert leader.commit_index >= index
    assert [e.index for e in cluster.peers["a"].saw(MembershipCommitted)] == [index]


def test_several_voters_change_by_joint_consensus_that_leaves_itself() -> None:
    cluster = Cluster("abc", learners="def")
    leader = cluster.elect("a")
    leader.propose_membership(Membership(voters=tuple("ade"), learners=("f", "b")))
    joint = leader.membership
    assert joint.joint
    assert joint.learners_next == ("b",)
    cluster.run()
    final = Membership(voters=tuple("ade"), learners=("b", "f"))
    for node_id in "ade":
        assert cluster[node_id].membership == final
    cluster.tick_all(3)
    assert cluster["b"].role == "learner"
    assert [e.membership.joint for e in cluster.peers["d"].saw(MembershipChanged)] == [True, False]
    assert leader.role == "leader"


@pytest.mark.parametrize("missing", ["ef", "bc"])
def test_a_joint_configuration_needs_both_majorities(missing: str) -> None:
    cluster = Cluster("abc", learners="def")
    leader = cluster.elect("a")
    cluster.isolate(*missing)
    index = leader.propose_membership(Membership(voters=tuple("def")))
    cluster.run()
    cluster.tick_all(4)
    # Four of six hold it, one half in full, but of the other half only one.
    assert sum(p.match_index >= index for p in leader.progress.values()) == 4
    assert leader.commit_index < index
    cluster.heal()
    cluster.tick_all(6)
    assert cluster["d"].membership == Membership(voters=tuple("def"))


def test_only_one_change_at_a_time_and_none_before_the_terms_first_commit() -> None:
    cluster = Cluster("abc", learners="d")
    target = Membership(voters=tuple("abcd"))
    with pytest.raises(NotLeader):
        cluster["a"].propose_membership(target)
    cluster.campaign("a")
    cluster.drop = lambda m: isinstance(m, AppendEntriesResponse)
    cluster.run()
    leader = cluster["a"]
    assert leader.role == "leader"
    with pytest.raises(ProposalRefused, match="its term"):
        leader.propose_membership(target)
    cluster.heal()
    cluster.tick_all(4)
    cluster.isolate("b", "c")
    leader.propose_membership(target)
    cluster.run()
    with pytest.raises(ProposalRefused, match="under way"):
        leader.propose_membership(Membership(voters=tuple("abc")))


def test_a_change_is_refused_that_changes_nothing_or_promotes_who_has_not_caught_up() -> None:
    cluster = Cluster("abc", learners="d", strangers="x")
    leader = cluster.elect("a")
    with pytest.raises(ProposalRefused, match="nothing"):
        leader.propose_membership(leader.membership)
    with pytest.raises(ProposalRefused, match="caught up"):
        leader.propose_membership(Membership(voters=tuple("abcx"), learners=("d",)))
    with pytest.raises(ProposalRefused, match="voters"):
        leader.propose_membership(Membership())
    leader.propose_membership(Membership(voters=tuple("abc"), learners=("d", "x")))
    cluster.run()
    assert cluster["x"].membership == leader.membership
    leader.propose_membership(Membership(voters=tuple("abcx"), learners=("d",)))
    cluster.run()
    assert cluster["x"].role == "follower"


def test_a_removed_leader_finishes_its_removal_and_steps_down() -> None:
    cluster = Cluster("abc")
    leader = cluster.elect("a")
    leader.propose_membership(Membership(voters=("b", "c")))
    cluster.turn()
    # It leads on, but no longer counts: both others are needed.
    assert leader.role == "leader"
    assert "a" not in leader.progress
    cluster.run()
    assert leader.role == "learner"
    heir = next(cluster[i] for i in "bc" if cluster[i].role == "leader")
    assert heir.term == leader.term + 1 or heir.term == leader.term
    assert heir.commit_index == heir.last_index
    assert [m for m in cluster.sent if isinstance(m, TimeoutNow)]


def test_a_removed_node_cannot_raise_terms() -> None:
    cluster = Cluster("abc")
    leader = cluster.elect("a")
    cluster.isolate("c")
    leader.propose_membership(Membership(voters=("a", "b")))
    cluster.run()
    cluster.heal()
    term = leader.term
    for _ in range(5):
        cluster.tick("c", 25)
        cluster.run()
    assert cluster["c"].term == term
    assert leader.role == "leader"
    # Not even with a vote request, as a node without pre-vote would send it: the others hear their leader.
    cluster.tick_all(2)
    for dst in "ab":
        cluster.deliver(VoteRequest("c", dst, term + 9, 99, term + 8, False))
    assert (leader.role, leader.term, cluster["b"].term) == ("leader", term, term)


def test_a_removed_nodes_answers_count_for_nothing() -> None:
    cluster = Cluster("abc")
    leader = cluster.elect("a")
    cluster.isolate("c")
    leader.propose_membership(Membership(voters=("a", "b")))
    cluster.run()
    term = leader.term
    cluster.deliver(AppendEntriesResponse("c", "a", term + 5, False, 0, 0, 0))
    cluster.deliver(AppendEntriesResponse("c", "a", term, True, leader.last_index, 0, 0))
    assert (leader.role, leader.term) == ("leader", term)
    assert cluster.peers["a"].saw(MessageRefused)


def test_an_uncommitted_configuration_is_taken_back_with_its_entry() -> None:
    cluster = Cluster("abc", learners="d")
    leader = cluster.elect("a")
    before = leader.membership
    cluster.isolate("a")
    leader.propose_membership(Membership(voters=tuple("abcd")))
    cluster.turn()
    assert leader.membership != before
    cluster.elect("b")
    cluster.heal()
    cluster.tick_all(3)
    assert leader.membership == before
    assert cluster.peers["a"].saw(MembershipChanged)[-1].membership == before


def test_a_restart_finds_the_configuration_in_its_log() -> None:
    cluster = Cluster("abc", learners="d")
    leader = cluster.elect("a")
    target = Membership(voters=tuple("abcd"))
    leader.propose_membership(target)
    cluster.run()
    cluster.crash("d")
    assert cluster.restart("d").membership == target
    assert cluster["d"].role == "follower"
    cluster.crash("a")
    cluster.peers["a"].disk.flush(cluster.peers["a"].state)
    cluster.compact("b", cluster["b"].commit_index + 1)
    cluster.crash("b")
    assert cluster.restart("b").membership == target


def test_a_new_leader_completes_the_change_it_finds() -> None:
    cluster = Cluster("abc", learners="de")
    leader = cluster.elect("a")
    cluster.drop = lambda m: isinstance(m, AppendEntriesResponse)
    leader.propose_membership(Membership(voters=tuple("cde")))
    cluster.run()
    cluster.heal()
    cluster.isolate("a")
    assert cluster["c"].membership.joint
    cluster.elect("c")
    assert cluster["c"].membership == Membership(voters=tuple("cde"))
    assert cluster["c"].commit_index == cluster["c"].last_index


def test_a_removed_voter_with_the_longer_log_can_still_finish_its_removal() -> None:
    """§4.2.2: of two voters the leader removes itself, and loses touch before the other has heard of it."""
    cluster = Cluster("ab")
    leader = cluster.elect("a")
    cluster.isolate("b")
    leader.propose_membership(Membership(voters=("b",)))
    cluster.run()
    cluster.tick("a", 25)
    assert leader.role != "leader"
    cluster.heal()
    cluster.messages.clear()
    cluster.tick_all(80)
    assert cluster["b"].role == "leader"
    assert cluster["b"].membership == Membership(voters=("b",))
    assert leader.membership == Membership(voters=("b",))


def test_a_transfer_ends_when_its_target_is_removed() -> None:
    cluster = Cluster("abc")
    leader = cluster.elect("a")
    cluster.isolate("c")
    cluster.write("a")
    leader.transfer_leader("c")
    with pytest.raises(ProposalRefused):
        leader.propose_membership(Membership(voters=("a", "b")))
    cluster.tick_all(11)
    assert cluster.peers["a"].saw(TransferEnded)[-1].ok is False
    leader.propose_membership(Membership(voters=("a", "b")))
    cluster.run()
    assert leader.commit_index == leader.last_index


def test_addresses_change_without_touching_identities() -> None:
    cluster = Cluster("abc")
    leader = cluster.elect("a")
    moved = simple_membership({"a": "h1:1@2", "b": "h2:1@2", "c": "h3:1@2"})
    leader.propose_membership(moved)
    cluster.run()
    cluster.tick_all(2)
    assert cluster["c"].membership.addresses["b"] == "h2:1@2"
    assert leader.role == "leader"
    assert leader.progress["b"].match_index == leader.last_index


def test_peers_are_matched_by_id_alone() -> None:
    cluster = Cluster("abc")
    leader = cluster.elect("a")
    stray = Heartbeat("b", "z", leader.term + 1, 0, 1)
    leader.step(stray)
    leader.step(AppendEntries("a", "a", leader.term + 1, 0, 0, 0, []))
    assert leader.role == "leader"
