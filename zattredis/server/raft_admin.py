"""RAFT over RESP: implements `commands.context.RaftProtocol` over the parts of a node."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from zattredis.commands.context import ClientProtocol
from zattredis.config import parse_member
from zattredis.errors import ConfigError, DefiniteError
from zattredis.raft.changes import Change
from zattredis.server.log_view import describe

if TYPE_CHECKING:
    from zattredis.server.node import Node

LOG_BYTES_MAX: Final = 4 << 20
"""Of entries that one RAFT LOG reads."""


class RaftAdmin:
    """One per node."""

    __slots__ = ("_node",)

    def __init__(self, node: Node) -> None:
        self._node = node

    def status(self) -> dict[str, Any]:
        """Return what this node knows of the cluster."""
        node = self._node
        facts = node.services.status.raft()
        membership = node.core.membership
        return {
            "node_id": facts.node_id,
            "cluster_id": facts.cluster_id,
            "state": facts.state,
            "role": facts.role,
            "leader_id": facts.leader_id or "",
            "term": facts.term,
            "commit_index": facts.commit_index,
            "applied_index": facts.applied_index,
            "first_index": facts.first_index,
            "last_index": facts.last_index,
            "state_machine_version": node.applier.machine_version,
            "voters": list(membership.voters),
            "learners": list(membership.learners),
            "removed": list(membership.removed),
            "change": self._change(),
        }

    def _change(self) -> str:
        core = self._node.core
        membership = core.membership
        if membership.joint:
            return f"from voters {', '.join(membership.voters_outgoing)} to {', '.join(membership.voters)}"
        if membership.joining:
            away = ", ".join((*membership.leaving, *membership.demoting))
            instead = f" in place of {away}" if away else ""
            return f"{', '.join(membership.joining)} will be voters{instead} once they have caught up"
        return "being agreed" if core.membership_index > core.commit_index else "none"

    def members(self) -> list[dict[str, Any]]:
        """Return every member: a voter is the leader or a follower, the others are learners.

        Alive are those this node hears from; what the leader thinks of it decides what may be removed. A snapshot on
        its way to a member is told by the node that sends it, the leader; elsewhere, and where there is none, it is -1.
        """
        membership = self._node.core.membership
        silent = self._node.changes.silent()
        sending = self._node.snapshots.under_way
        none = (-1, -1)
        sent = {node_id: (each.bytes, each.size_bytes) for node_id, each in sending.items()}
        return [
            {
                "id": member.node_id,
                "address": member.address,
                "tls_port": member.tls_port,
                "role": member.role,
                "voter": "yes" if membership.is_voter(member.node_id) else "no",
                "joining": "yes" if member.node_id in membership.joining else "no",
                "alive": "no" if member.node_id in silent else "yes",
                "connected": "yes" if member.connected else "no",
                "match_index": -1 if member.match_index is None else member.match_index,
                "lag": -1 if member.lag_entries is None else member.lag_entries,
                "snapshot_sent": sent.get(member.node_id, none)[0],
                "snapshot_bytes": sent.get(member.node_id, none)[1],
            }
            for member in self._node.services.status.members()
        ]

    async def change(
        self, *, add: Sequence[bytes] = (), promote: Sequence[bytes] = (), demote: Sequence[bytes] = (),
        remove: Sequence[bytes] = (), learner: bool = False, force: bool = False,
    ) -> None:  # fmt: skip
        """Change the membership; see RaftProtocol."""
        members = []
        for word in add:
            try:
                members.append(parse_member(_text(word)))
            except ConfigError as error:
                raise DefiniteError(str(error).removeprefix("cluster member ")) from None
        for member in () if force else members:
            self._check_move(member.node_id, member.address)
        force = force and bool(remove or demote)  # a node that is added or moved says nothing of the quorum
        change = Change(
            [(member.node_id, member.address) for member in members], [*map(_text, promote)], [*map(_text, demote)],
            [*map(_text, remove)], learner, force,
        )  # fmt: skip
        await self._node.changes.change(change)

    def _check_move(self, node_id: str, address: str) -> None:
        """Raise DefiniteError where a member that runs elsewhere would be cut off: an id was taken twice, say."""
        node = self._node
        now = node.core.membership.addresses.get(node_id, address)
        own = node_id == node.core.node_id
        if now == address or not (own or node.network.connected(node_id)) or node_id in node.changes.silent():
            return
        raise DefiniteError(
            f"{node_id} runs at {now} and is heard from: stop it before it moves to {address}, or say FORCE; "
            "another node needs an id of its own"
        )

    async def transfer(self, target: bytes) -> str:
        """Hand the leadership over; return who leads now."""
        return await self._node.changes.transfer(_text(target))

    async def backup_begin(self, client: ClientProtocol, stale: bool) -> dict[str, Any]:
        """Hold this node's state for one client; see `server.backups`."""
        return await self._node.backups.begin(client, stale)

    async def backup_read(self, client: ClientProtocol, token: bytes, file: int, offset: int, length: int) -> list[Any]:
        """Return CRC-32 and bytes of a piece of a file."""
        return await self._node.backups.read(client, _text(token), file, offset, length)

    async def backup_end(self, client: ClientProtocol, token: bytes) -> None:
        """Let go of it."""
        await self._node.backups.end(client, _text(token))

    def log(self, first: int | None, count: int) -> list[Any]:
        """Return entries of the log, from `first` or from the oldest that is kept."""
        node = self._node
        log = node.core.log
        low = max(log.first_index, log.last_index + 1 - count if first is None else first)
        high = min(log.last_index + 1, low + count)
        if low >= high:
            return []
        return [describe(entry, node.sessions) for entry in log.slice(low, high, LOG_BYTES_MAX)]


def _text(word: bytes) -> str:
    return word.decode("utf-8", "replace")
