"""Majorities, also joint ones (§4.3): every decision needs a majority of the voters and, while a change is under way,
of the outgoing voters too. Pure functions of a membership and what each node said; who is no voter counts for nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final, Protocol

from zattredis.raft.membership import Membership

WON: Final = "won"
LOST: Final = "lost"
PENDING: Final = "pending"


class HasMatchIndex(Protocol):
    """What the commit index is computed from."""

    match_index: int


def _majority_index(voters: tuple[str, ...], progress: Mapping[str, HasMatchIndex]) -> int:
    matches = sorted([progress[v].match_index if v in progress else 0 for v in voters])
    return matches[(len(matches) - 1) // 2]


def committed_index(membership: Membership, progress: Mapping[str, HasMatchIndex]) -> int:
    """Return the highest index that a majority (of both halves) holds durably; 0 without voters."""
    if not membership.voters:
        return 0
    index = _majority_index(membership.voters, progress)
    if membership.voters_outgoing:
        index = min(index, _majority_index(membership.voters_outgoing, progress))
    return index


def _has_majority(voters: tuple[str, ...], ids: Collection[str]) -> bool:
    return 2 * sum(v in ids for v in voters) > len(voters)


def has_quorum(membership: Membership, ids: Collection[str]) -> bool:
    """Return whether `ids` hold a majority (of both halves). Never true without voters."""
    if not _has_majority(membership.voters, ids):
        return False
    return not membership.voters_outgoing or _has_majority(membership.voters_outgoing, ids)


def vote_result(membership: Membership, votes: Mapping[str, bool]) -> str:
    """Return WON, LOST (cannot be won any more) or PENDING for the votes cast so far."""
    granted = {v for v, yes in votes.items() if yes}
    if has_quorum(membership, granted):
        return WON
    open_or_granted = {v for v in membership.members if votes.get(v, True)}
    return PENDING if has_quorum(membership, open_or_granted) else LOST
