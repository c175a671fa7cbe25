"""Who belongs to the cluster: voters, learners and, during a change, the outgoing voters (joint consensus, §4.3).

A membership takes effect on a node as soon as its CONFIG entry is in that node's log, committed or not (§4.1), and is
taken back if that entry is truncated. Quorums are asked of `raft.quorum`, which knows about joint ones.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

import msgspec

from zattredis.errors import InvariantViolated


class _Record(msgspec.Struct, array_like=True):
    voters: list[str]
    voters_outgoing: list[str]
    learners: list[str]
    learners_next: list[str]
    auto_leave: bool
    addresses: dict[str, str]
    joining: list[str] = []
    leaving: list[str] = []
    demoting: list[str] = []
    newcomers: list[str] = []
    removed: list[str] = []


_ENCODER = msgspec.msgpack.Encoder(order="deterministic")
_DECODER = msgspec.msgpack.Decoder(_Record)


_ID_TUPLES: Final = (
    "voters", "voters_outgoing", "learners", "learners_next", "joining", "leaving", "demoting", "newcomers", "removed",
)  # fmt: skip


@dataclass(frozen=True)
class Membership:
    """One configuration. All id tuples are kept sorted, so that equal memberships are equal bytes on every node.

    `voters_outgoing` is empty except in a joint configuration, where every decision needs a majority of both sets.
    `learners_next` are outgoing voters that become learners when the joint configuration is left.
    `addresses` maps each id to `host:port@peerport`; identity is the id alone.

    What is wanted next is part of it, so that any leader goes on with it (`raft.changes`): `joining` are learners that
    are promoted once they have caught up; when all of them have, the voters `leaving` go and those `demoting` become
    learners in the same change. `newcomers` are learners that have never been voters: they have no vote to forget.
    `removed` are ids that were members once; they are never used again. The last two say what was, not what is, and
    make no two memberships differ.
    """

    voters: tuple[str, ...] = ()
    voters_outgoing: tuple[str, ...] = ()
    learners: tuple[str, ...] = ()
    learners_next: tuple[str, ...] = ()
    auto_leave: bool = False
    addresses: Mapping[str, str] = field(default_factory=dict)
    joining: tuple[str, ...] = ()
    leaving: tuple[str, ...] = ()
    demoting: tuple[str, ...] = ()
    newcomers: tuple[str, ...] = field(default=(), compare=False)
    removed: tuple[str, ...] = field(default=(), compare=False)
    members: tuple[str, ...] = field(init=False, compare=False, repr=False, default=())

    def __post_init__(self) -> None:
        for name in _ID_TUPLES:
            object.__setattr__(self, name, tuple(sorted(set(getattr(self, name)))))
        everyone = {*self.voters, *self.voters_outgoing, *self.learners, *self.learners_next}
        object.__setattr__(self, "members", tuple(sorted(everyone)))
        object.__setattr__(self, "addresses", {i: self.addresses[i] for i in sorted(self.addresses) if i in everyone})
        self._check()

    def _check(self) -> None:
        if set(self.learners) & {*self.voters, *self.voters_outgoing}:
            raise InvariantViolated(f"a learner is also a voter in {self}")
        if set(self.learners_next) - set(self.voters_outgoing) or set(self.learners_next) & set(self.voters):
            raise InvariantViolated(f"learners_next are not outgoing voters in {self}")
        if {*self.joining, *self.newcomers} - set(self.learners):
            raise InvariantViolated(f"who joins or is new is no learner in {self}")
        if (self.leaving or self.demoting) and not self.joining:
            raise InvariantViolated(f"somebody is to be replaced by nobody in {self}")
        if not self.voters and self.members:
            raise InvariantViolated(f"a membership without voters: {self}")

    def __hash__(self) -> int:
        return hash((self.voters, self.voters_outgoing, self.learners, self.learners_next, self.auto_leave))

    @property
    def joint(self) -> bool:
        """True while a change of several voters is under way."""
        return bool(self.voters_outgoing)

    def is_voter(self, node_id: str) -> bool:
        """True when the node votes in either half."""
        return node_id in self.voters or node_id in self.voters_outgoing

    def is_member(self, node_id: str) -> bool:
        """True for voters of either half and learners."""
        return node_id in self.members

    def change_to(self, target: Membership) -> Membership:
        """Return the configuration that the log must hold next on the way to `target` (not joint).

        That is `target` itself when at most one voter differs (§4.1: such majorities always overlap), otherwise the
        joint configuration which leaves itself. Raises InvariantViolated from or to a joint configuration.
        """
        if self.joint or target.joint or not target.voters:
            raise InvariantViolated(f"no single change leads from {self} to {target}")
        gone = set(self.members) - set(target.members)
        removed = tuple({*self.removed, *gone} - set(target.members))
        newcomers = tuple(i for i in target.learners if i in self.newcomers or i not in self.members)
        target = replace(target, removed=removed, newcomers=newcomers)
        if len(set(self.voters) ^ set(target.voters)) <= 1:
            return target
        demoted = set(target.learners) & set(self.voters)
        return Membership(
            voters=target.voters,
            voters_outgoing=self.voters,
            learners=tuple(set(target.learners) - demoted),
            learners_next=tuple(demoted),
            auto_leave=True,
            addresses={**self.addresses, **target.addresses},
            joining=target.joining,
            leaving=target.leaving,
            demoting=target.demoting,
            newcomers=newcomers,
            removed=tuple({*removed} - set(self.voters)),
        )

    def leave_joint(self) -> Membership:
        """Return the configuration after the joint one."""
        if not self.joint:
            raise InvariantViolated(f"not joint: {self}")
        final = replace(
            self, voters_outgoing=(), learners=(*self.learners, *self.learners_next), learners_next=(), auto_leave=False
        )
        gone = set(self.members) - set(final.members)
        return replace(final, removed=(*self.removed, *gone))

    def encode(self) -> bytes:
        """Return the bytes of a CONFIG entry's payload and of stored records; equal memberships give equal bytes."""
        return _ENCODER.encode(
            _Record(
                list(self.voters),
                list(self.voters_outgoing),
                list(self.learners),
                list(self.learners_next),
                self.auto_leave,
                dict(self.addresses),
                list(self.joining),
                list(self.leaving),
                list(self.demoting),
                list(self.newcomers),
                list(self.removed),
            )
        )

    @staticmethod
    def decode(data: bytes) -> Membership:
        """Return the membership in `data`. Raises InvariantViolated when the bytes are not one."""
        try:
            r = _DECODER.decode(data)
        except msgspec.MsgspecError as error:
            raise InvariantViolated(f"a membership record cannot be read: {error}") from error
        return Membership(
            tuple(r.voters),
            tuple(r.voters_outgoing),
            tuple(r.learners),
            tuple(r.learners_next),
            r.auto_leave,
            r.addresses,
            tuple(r.joining),
            tuple(r.leaving),
            tuple(r.demoting),
            tuple(r.newcomers),
            tuple(r.removed),
        )


def simple_membership(addresses: Mapping[str, str] | Iterable[str], learners: Iterable[str] = ()) -> Membership:
    """Return a membership whose voters are the given ids (all but `learners`)."""
    known = dict(addresses) if isinstance(addresses, Mapping) else {}
    ids = set(addresses)
    return Membership(voters=tuple(ids - set(learners)), learners=tuple(learners), addresses=known)
