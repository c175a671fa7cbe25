"""Majorities, by property: two quorums share a voter, and every decision agrees with a count done the slow way."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from zattredis.raft import quorum
from zattredis.raft.membership import Membership
from zattredis.raft.progress import Progress

IDS = tuple("abcdefg")
voter_sets = st.sets(st.sampled_from(IDS), min_size=1, max_size=7).map(tuple)
memberships = st.builds(
    lambda voters, outgoing: Membership(voters=voters, voters_outgoing=outgoing),
    voter_sets,
    st.one_of(st.just(()), voter_sets),
)
node_sets = st.sets(st.sampled_from(IDS))


def slow_quorum(membership: Membership, ids: set[str]) -> bool:
    halves = [h for h in (membership.voters, membership.voters_outgoing) if h]
    return all(len(set(half) & ids) > len(half) / 2 for half in halves)


@given(memberships, node_sets)
def test_has_quorum_is_a_majority_of_each_half(membership: Membership, ids: set[str]) -> None:
    assert quorum.has_quorum(membership, ids) == slow_quorum(membership, ids)


@given(memberships, node_sets, node_sets)
def test_two_quorums_share_a_voter(membership: Membership, one: set[str], other: set[str]) -> None:
    if quorum.has_quorum(membership, one) and quorum.has_quorum(membership, other):
        assert one & other & set(membership.voters)


@given(memberships, st.dictionaries(st.sampled_from(IDS), st.integers(0, 20)))
def test_committed_index_is_the_highest_that_a_quorum_holds(membership: Membership, matches: dict[str, int]) -> None:
    progress = {i: Progress(index + 1, index) for i, index in matches.items()}
    index = quorum.committed_index(membership, progress)
    assert slow_quorum(membership, {i for i in IDS if matches.get(i, 0) >= index})
    assert not slow_quorum(membership, {i for i in IDS if matches.get(i, 0) > index})


@given(memberships, st.dictionaries(st.sampled_from(IDS), st.booleans()))
def test_votes_are_won_lost_or_open(membership: Membership, votes: dict[str, bool]) -> None:
    result = quorum.vote_result(membership, votes)
    granted = {i for i, yes in votes.items() if yes}
    possible = {i for i in IDS if votes.get(i, True)}
    if result == quorum.WON:
        assert slow_quorum(membership, granted)
    elif result == quorum.LOST:
        assert not slow_quorum(membership, possible)
    else:
        assert slow_quorum(membership, possible)
        assert not slow_quorum(membership, granted)


@given(memberships, st.dictionaries(st.sampled_from(IDS), st.booleans()))
def test_whoever_is_no_voter_counts_for_nothing(membership: Membership, votes: dict[str, bool]) -> None:
    own = {i: yes for i, yes in votes.items() if membership.is_voter(i)}
    assert quorum.vote_result(membership, votes) == quorum.vote_result(membership, own)


@given(voter_sets, voter_sets)
def test_quorums_overlap_along_a_change(old: tuple[str, ...], new: tuple[str, ...]) -> None:
    before = Membership(voters=old)
    target = Membership(voters=new)
    steps = [before, before.change_to(target)]
    if steps[-1].joint:
        steps.append(steps[-1].leave_joint())
    assert steps[-1] == target
    for one, other in itertools.pairwise(steps):
        smallest = minimal_quorums(one)
        for ids in minimal_quorums(other):
            assert all(ids & quorum_of_one for quorum_of_one in smallest)


def minimal_quorums(membership: Membership) -> list[set[str]]:
    members = membership.members
    subsets = [{m for bit, m in enumerate(members) if mask >> bit & 1} for mask in range(1 << len(members))]
    quorums = [s for s in subsets if slow_quorum(membership, s)]
    return [s for s in quorums if not any(q < s for q in quorums)]


def test_no_voters_decide_nothing() -> None:
    assert not quorum.has_quorum(Membership(), {"a"})
    assert quorum.committed_index(Membership(), {}) == 0
    assert quorum.vote_result(Membership(), {"a": True}) == quorum.LOST
