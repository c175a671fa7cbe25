"""Changes as a person asks for them: what is planned, what is refused and why, which step is due when."""

from __future__ import annotations

import pytest

from tests.raft.harness import Cluster
from zattredis.errors import InvariantViolated, ProposalRefused
from zattredis.raft.changes import MEMBERS_MAX, Change, begun, check_quorum, next_step, plan, reached
from zattredis.raft.membership import Membership
from zattredis.raft.messages import CommitAdvanced
from zattredis.raft.ready import MembershipCommitted

TRIO = Membership(voters=("a", "b", "c"), addresses={"a": "h:1@2", "b": "h:3@4", "c": "h:5@6"})


def changed(now: Membership, change: Change) -> Membership:
    return now.change_to(plan(now, change))


def test_an_added_node_is_a_learner_until_it_has_caught_up() -> None:
    change = Change(add=[("d", "h:7@8")])
    first = changed(TRIO, change)
    assert (first.voters, first.learners, first.joining, first.newcomers) == (("a", "b", "c"), ("d",), ("d",), ("d",))
    assert begun(first, change)
    assert not reached(first, change)
    assert next_step(first, []) is None
    step = next_step(first, ["d"])
    assert step is not None
    final = first.change_to(step)
    assert final == Membership(voters=("a", "b", "c", "d"), addresses={**TRIO.addresses, "d": "h:7@8"})
    assert final.newcomers == ()
    assert reached(final, change)
    assert plan(final, change) == final, "asking again changes nothing"


def test_a_learner_that_is_to_stay_one_is_promoted_by_command_only() -> None:
    first = changed(TRIO, Change(add=[("d", "h:7@8")], learner=True))
    assert (first.learners, first.joining) == (("d",), ())
    assert next_step(first, ["d"]) is None
    second = changed(first, Change(promote=["d"]))
    assert second.joining == ("d",)
    step = next_step(second, ["d"])
    assert step is not None and step.voters == ("a", "b", "c", "d")


def test_who_became_a_voter_before_it_was_named_replaces_others_at_once() -> None:
    """A node that was started with --join is promoted by itself, maybe while somebody types whom it replaces."""
    joined = Membership(voters=(*"abcd",), addresses={**TRIO.addresses, "d": "h:7@8"})
    change = Change(add=[("d", "h:7@8")], remove=["c"])
    final = changed(joined, change)
    assert (final.voters, final.joining, final.leaving, final.removed) == (("a", "b", "d"), (), (), ("c",))
    assert begun(final, change) and reached(final, change)
    both = changed(joined, Change(add=[("d", "h:7@8"), ("e", "h:9@10")], remove=["c"]))
    assert (both.voters, both.joining, both.leaving) == ((*"abcd",), ("e",), ("c",))


def test_removed_ids_are_remembered_and_never_used_again() -> None:
    two = changed(TRIO, Change(remove=["c"]))
    assert (two.voters, two.removed) == (("a", "b"), ("c",))
    again = Membership.decode(two.encode())
    assert again.removed == ("c",)
    with pytest.raises(ProposalRefused, match="not used again"):
        plan(again, Change(add=[("c", "h:9@10")]))
    for change in (Change(promote=["c"]), Change(demote=["c"])):
        with pytest.raises(ProposalRefused, match="c was removed from this cluster, for good"):
            plan(again, change)


REPLACING = Change(add=[("d", "h:7@8")], remove=["c"])


@pytest.mark.parametrize(
    ("before", "change"),
    [
        ([], Change(promote=["a"])),
        ([], Change(add=[("a", "h:1@2")])),
        ([Change(remove=["c"])], Change(remove=["c"])),
        ([Change(demote=["c"])], Change(demote=["c"])),
        ([Change(add=[("d", "h:7@8")], learner=True)], Change(add=[("d", "h:7@8")], learner=True)),
        ([Change(add=[("d", "h:7@8")])], Change(promote=["d"])),
        ([REPLACING], REPLACING),
        ([REPLACING], Change(add=[("d", "h:7@8")])),
        ([Change(add=[("d", "h:7@8")], demote=["c"])], Change(add=[("d", "h:7@8")], demote=["c"])),
    ],
)
def test_asking_again_for_what_is_so_or_on_its_way_changes_nothing(before: list[Change], change: Change) -> None:
    """The answer may have been lost, or the node have joined by itself a moment before."""
    now = TRIO
    for each in before:
        now = changed(now, each)
    assert plan(now, change) == now
    assert begun(now, change)


def test_a_replacement_asked_for_again_after_it_was_made_is_what_is_so() -> None:
    first = changed(TRIO, REPLACING)
    step = next_step(first, ["d"])
    assert step is not None
    joint = first.change_to(step)
    final = joint.leave_joint()
    assert final.removed == ("c",)
    assert plan(final, REPLACING) == final
    assert reached(final, REPLACING)
    assert plan(final, Change(remove=["c", "b"])).voters == ("a", "d"), "what is left of it is done"
    with pytest.raises(ProposalRefused, match="x is no member"):
        plan(final, Change(remove=["x"]))


def test_who_joins_by_itself_and_is_to_stay_a_learner_is_promoted_no_more() -> None:
    joining = changed(TRIO, Change(add=[("d", "h:7@8")]))
    stays = changed(joining, Change(add=[("d", "h:7@8")], learner=True))
    assert (stays.learners, stays.joining) == (("d",), ())
    assert changed(stays, Change(promote=["d"])).joining == ("d",)


def test_several_at_once_go_by_a_joint_configuration_once_all_have_caught_up() -> None:
    change = Change(add=[("d", "h:7@8"), ("e", "h:9@10")], remove=["b", "c"])
    first = changed(TRIO, change)
    assert (first.voters, first.joining, first.leaving) == (("a", "b", "c"), ("d", "e"), ("b", "c"))
    assert next_step(first, ["d"]) is None
    step = next_step(first, ["d", "e"])
    assert step is not None
    joint = first.change_to(step)
    assert joint.joint and joint.voters == ("a", "d", "e")
    final = joint.leave_joint()
    assert (final.voters, final.removed, final.learners) == (("a", "d", "e"), ("b", "c"), ())
    assert reached(final, change)
    with pytest.raises(ProposalRefused, match=r"under way.*RAFT REMOVE d"):
        plan(first, Change(demote=["a"]))
    called_off = changed(first, Change(remove=["d"]))
    assert (called_off.joining, called_off.leaving, called_off.learners) == (("e",), (), ("e",))


def test_who_is_replaced_stays_until_the_other_has_caught_up_though_that_one_joins_already() -> None:
    """A node that was started with --join is a learner before anybody says whom it replaces."""
    first = changed(TRIO, Change(add=[("d", "h:7@8")]))
    second = changed(first, Change(add=[("d", "h:7@8")], remove=["a"]))
    assert (second.voters, second.joining, second.leaving) == (("a", "b", "c"), ("d",), ("a",))
    step = next_step(second, ["d"])
    assert step is not None
    assert step.voters == ("b", "c", "d")
    third = changed(first, Change(promote=["d"], demote=["b"]))
    assert (third.voters, third.joining, third.demoting) == (("a", "b", "c"), ("d",), ("b",))
    fourth = changed(first, Change(remove=["a"]))
    assert (fourth.voters, fourth.joining, fourth.leaving) == (("b", "c"), ("d",), ())


def test_demoted_voters_stay_as_learners_and_are_no_newcomers() -> None:
    two = changed(TRIO, Change(demote=["c"]))
    assert (two.voters, two.learners, two.newcomers) == (("a", "b"), ("c",), ())
    joint = changed(TRIO, Change(demote=["b", "c"]))
    assert joint.learners_next == ("b", "c")
    assert joint.leave_joint().learners == ("b", "c")
    assert joint.leave_joint().newcomers == ()


def test_another_address_is_a_change_of_its_own() -> None:
    moved = changed(TRIO, Change(add=[("b", "other:3@4")]))
    assert moved.voters == TRIO.voters
    assert moved.addresses["b"] == "other:3@4"
    assert moved.joining == ()
    assert moved != TRIO


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (Change(remove=["x"]), "x is no member of this cluster; its members are a, b, c"),
        (Change(add=[("a", "h:1@2")], learner=True), "a is a voter already; RAFT DEMOTE a makes it a learner"),
        (Change(promote=["x"]), "no member"),
        (Change(demote=["x"]), "no member"),
        (Change(add=[("d", "h:3@4")]), "h:3 is an address of b"),
        (Change(add=[("d", "h:9@4")]), "h:4 is an address of b"),
        (Change(add=[("d", "h:4@9")]), "h:4 is an address of b"),
        (Change(add=[("b", "h:9@9")], remove=["c"]), "b is a voter already, at h:3@4: to move it, add it at its new"),
        (Change(add=[("b", "h:9@9")], demote=["c"]), "b is a voter already, at h:3@4: to move it, add it at its new"),
        (Change(remove=["a"], demote=["a"]), "named twice"),
        (Change(remove=["a", "b", "c"]), "without voters"),
        (Change(add=[(f"x{i}", f"h:{i}@{i}") for i in range(100, 100 + MEMBERS_MAX)]), f"at most {MEMBERS_MAX}"),
    ],
)
def test_refusals_name_the_reason(change: Change, reason: str) -> None:
    with pytest.raises(ProposalRefused, match=reason):
        plan(TRIO, change)


def test_losing_the_quorum_is_refused() -> None:
    five = Membership(voters=tuple("abcde"))
    silent = {"d": 3.0, "e": 2.0}
    with pytest.raises(ProposalRefused, match=r"quorum would be lost.* 3 would have to agree.*d \(for 3.0 s\).*FORCE"):
        check_quorum(five, plan(five, Change(remove=["a"])), silent)
    check_quorum(five, plan(five, Change(remove=["d"])), silent)
    check_quorum(five, plan(five, Change(add=[("f", "h:1@2")])), silent)


def test_contradictory_wishes_are_refused() -> None:
    with pytest.raises(InvariantViolated):
        Membership(voters=("a",), joining=("a",))
    with pytest.raises(InvariantViolated):
        Membership(voters=("a", "b"), leaving=("b",))


def test_a_record_of_an_older_version_is_read() -> None:
    assert Membership.decode(b"\x96\x91\xa1a\x90\x90\x90\xc2\x80") == Membership(voters=("a",))


def test_a_removed_follower_is_told_by_the_log_itself() -> None:
    cluster = Cluster("abc")
    leader = cluster.elect("a")
    index = leader.propose_membership(plan(leader.membership, Change(remove=["c"])))
    cluster.run()
    assert cluster["c"].commit_index == index
    assert [e.index for e in cluster.peers["c"].saw(MembershipCommitted)] == [index]
    assert cluster["c"].membership.removed == ("c",)
    assert [m.dst for m in cluster.sent if isinstance(m, CommitAdvanced) and m.commit == index].count("c") == 1
    cluster.tick_all(50)
    assert leader.role == "leader"
    assert cluster["c"].role == "learner"


def test_those_replaced_together_are_told_as_well() -> None:
    cluster = Cluster("abc", learners="de")
    leader = cluster.elect("a")
    leader.propose_membership(Membership(voters=tuple("ade")))
    cluster.run()
    for node_id in "bc":
        assert cluster[node_id].membership == Membership(voters=tuple("ade"))
        assert cluster[node_id].commit_index == leader.commit_index
    assert leader.membership.removed == ("b", "c")


def test_a_voter_that_is_being_filled_makes_no_quorum() -> None:
    with pytest.raises(ProposalRefused, match=r"quorum would be lost.*c \(which is being filled\)"):
        check_quorum(TRIO, plan(TRIO, Change(remove=["b"])), {"c": 0.0})
