"""Changes of the membership as a person asks for them, and the steps that lead there. Pure.

A change that adds or promotes is recorded in the membership itself (`joining`, `leaving`, `demoting`): whoever leads
takes the step that is due, so that a change outlives the leader and the node that asked for it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Final

import msgspec

from zattredis.errors import ProposalRefused
from zattredis.raft import quorum
from zattredis.raft.membership import Membership

MEMBERS_MAX: Final = 64
"""Voters and learners of one cluster."""


class Change(msgspec.Struct, array_like=True, frozen=True):
    """What is to be changed, all of it in one go. Travels between nodes: new fields go to the end with a default.

    `add` holds (id, address): a new member, or the new address of a member. With `learner` the added ones stay
    learners; otherwise they, and those to `promote`, become voters once they have caught up, and only then are others
    removed or demoted. `force` goes on where the quorum would be lost.
    """

    add: list[tuple[str, str]] = []
    promote: list[str] = []
    demote: list[str] = []
    remove: list[str] = []
    learner: bool = False
    force: bool = False


def plan(now: Membership, change: Change) -> Membership:
    """Return the membership that `change` asks for first. Raises ProposalRefused with the reason.

    `now` itself comes back when there is nothing left to do, or all of it is on its way: whoever asks again because an
    answer was lost waits for the change, or learns that it is made.
    """
    if not (change.add or change.promote or change.demote or change.remove):
        return now
    if on_its_way(now, change):
        return now
    if (now.leaving or now.demoting) and not {*change.remove} & {*now.joining}:
        raise ProposalRefused(
            f"another membership change is under way: {_names(now.joining)} is to replace "
            f"{_names((*now.leaving, *now.demoting))} once it has caught up (RAFT REMOVE {now.joining[0]} calls it off)"
        )
    _check_ids(now, change)
    addresses = {**now.addresses, **dict(change.add)}
    fresh = [node_id for node_id, _ in change.add if not now.is_member(node_id)]
    promised = {*change.promote}
    named = {node_id for node_id, _ in change.add}
    if not change.learner:
        promised |= {node_id for node_id in named if not now.is_voter(node_id)}
    joining = ({*now.joining} | promised) - {*change.demote} - (named if change.learner else set())
    voters = [i for i in now.voters if i not in change.remove and i not in change.demote]
    learners = [i for i in (*now.learners, *fresh) if i not in change.remove]
    joining &= {*learners}
    demoted = [i for i in change.demote if now.is_voter(i)]
    leaving: Collection[str] = ()  # one of those who were to replace others, if there are any, is removed here
    demoting: Collection[str] = ()
    if joining & promised:  # also of who joins already: whoever it replaces stays until it has caught up
        voters, leaving, demoting = list(now.voters), [i for i in change.remove if now.is_voter(i)], demoted
    else:
        learners += demoted
    if not voters:
        raise ProposalRefused("a cluster cannot do without voters; to end this node, use SHUTDOWN")
    members = len({*voters, *learners})
    if members > MEMBERS_MAX and members > len(now.members):
        raise ProposalRefused(f"a cluster has at most {MEMBERS_MAX} members")
    return replace(
        now, voters=tuple(voters), learners=tuple(learners), addresses=addresses, joining=tuple(joining),
        leaving=tuple(leaving), demoting=tuple(demoting), newcomers=tuple(i for i in now.newcomers if i in learners),
    )  # fmt: skip


def on_its_way(now: Membership, change: Change) -> bool:
    """Return whether `now` holds all that `change` asks for: made, or to be made once learners have caught up."""
    gone = {*now.removed, *now.leaving}
    less = {*now.learners, *now.demoting} - {*now.joining}
    return (
        begun(now, change)
        and not (change.learner and any(i in now.joining or now.is_voter(i) for i, _ in change.add))
        and gone.issuperset(change.remove)
        and less.issuperset(change.demote)
    )


def _check_ids(now: Membership, change: Change) -> None:
    named = [*(node_id for node_id, _ in change.add), *change.promote, *change.demote, *change.remove]
    if len(set(named)) < len(named):
        raise ProposalRefused("a node is named twice")
    for node_id, address in change.add:
        if node_id in now.removed:
            raise ProposalRefused(f"{node_id} was removed from this cluster, and ids are not used again: take another")
        # One that joined by itself may be a voter before it is named here: then only the others have yet to go.
        there = now.addresses.get(node_id)
        if (change.remove or change.demote) and now.is_voter(node_id) and there != address:
            raise ProposalRefused(f"{node_id} is a voter already, at {there}: to move it, add it at its new address")
        for other in now.members:
            shared = {*_endpoints(address)} & {*_endpoints(now.addresses.get(other, ""))}
            if other != node_id and shared:
                raise ProposalRefused(f"{min(shared)} is an address of {other}")
        if change.learner and now.is_voter(node_id):
            raise ProposalRefused(f"{node_id} is a voter already; RAFT DEMOTE {node_id} makes it a learner")
    for node_id in (*change.promote, *change.demote):
        if node_id in now.removed:
            raise ProposalRefused(f"{node_id} was removed from this cluster, for good")
    for node_id in (*change.promote, *change.demote, *change.remove):
        if not now.is_member(node_id) and node_id not in now.removed:
            raise ProposalRefused(f"{node_id} is no member of this cluster; its members are {_names(now.members)}")


def _endpoints(address: str) -> list[str]:
    """Return host:port for clients and host:port for other nodes of an address as the membership has it."""
    clients, _, peer_port = address.partition("@")
    return [f"{clients.rpartition(':')[0]}:{port}" for port in (clients.rpartition(":")[2], peer_port) if port]


def reached(now: Membership, change: Change) -> bool:
    """Return whether everything that `change` asks for is so in `now`."""
    return (
        not now.joint
        and all(now.addresses.get(i) == address for i, address in change.add)
        and all(change.learner or now.is_voter(i) for i, _ in change.add)
        and all(now.is_voter(i) for i in change.promote)
        and all(i in now.learners for i in change.demote)
        and not any(now.is_member(i) for i in change.remove)
    )


def begun(now: Membership, change: Change) -> bool:
    """Return whether `now` is on its way to what `change` asks for: only learners have yet to catch up, or nothing."""
    wanted = {i for i, _ in change.add if not change.learner} | {*change.promote}
    return all(now.addresses.get(i) == address for i, address in change.add) and all(
        now.is_voter(i) or i in now.joining for i in wanted
    )


def next_step(now: Membership, ready: Collection[str]) -> Membership | None:
    """Return the membership that is due, given which learners have caught up; None while there is none."""
    if now.joint:
        return None
    due = [i for i in now.joining if i in ready]
    if not due or ((now.leaving or now.demoting) and len(due) < len(now.joining)):
        return None
    voters = tuple(i for i in (*now.voters, *due) if i not in now.leaving and i not in now.demoting)
    learners = (*(i for i in now.learners if i not in due), *now.demoting)
    return replace(
        now, voters=voters, learners=learners, joining=tuple(i for i in now.joining if i not in due), leaving=(),
        demoting=(), newcomers=tuple(i for i in now.newcomers if i not in due),
    )  # fmt: skip


def check_quorum(now: Membership, target: Membership, silent_s: Mapping[str, float]) -> None:
    """Raise ProposalRefused where `target` could commit nothing with the voters that are heard from.

    `silent_s` holds the voters that are not, with the seconds since they were; 0 for one that lost its disk and does
    not count until it is filled again.
    """
    if target.voters == now.voters:
        return
    live = [i for i in target.voters if i not in silent_s]
    if quorum.has_quorum(target, live):
        return
    count = len(target.voters)
    how = {i: f"for {seconds:.1f} s" if seconds else "which is being filled" for i, seconds in silent_s.items()}
    silent = ", ".join(f"{i} ({how[i]})" for i in target.voters if i in silent_s)
    raise ProposalRefused(
        f"the quorum would be lost: of the voters {_names(target.voters)}, {count // 2 + 1} would have to agree, but "
        f"nothing is heard from {silent}; start or remove those first, or say FORCE"
    )


def _names(ids: Sequence[str] | Collection[str]) -> str:
    return ", ".join(ids)
