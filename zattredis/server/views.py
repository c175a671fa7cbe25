"""Finding the leader the Redis way: what a node shows to clients that know Redis Cluster or Redis Sentinel.

Without a view every node shows itself as one plain server, a master: it takes every command, and who leads is no
client's business. `cluster_view` and `sentinel_port` switch a view on. Then the leader is the master and every other
member its replica, in ROLE, INFO and HELLO as in the views themselves, and always as this node knows it: there is no
second agreement beside Raft's.

Between two leaders the one known last is shown, as Redis shows a master that is down until another one is promoted;
whoever connects to any other node meanwhile waits for the election there, as ever.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import TYPE_CHECKING

from zattredis.raft import ready as events
from zattredis.server.clock import monotonic
from zattredis.server.cluster_view import ClusterView
from zattredis.server.node_facts import MemberFacts, Presented

if TYPE_CHECKING:
    from zattredis.server.node import Node


def public_id(cluster_id: str, node_id: str) -> bytes:
    """Return the 40 hexadecimal digits that stand for a node, as Redis names nodes: the same on all nodes, for good."""
    text = f"{cluster_id}\n{node_id}".encode()
    return hashlib.blake2b(text, digest_size=20, person=b"zattredis").hexdigest().encode()


class Views:
    """One per node: knows the last leader, and tells listeners when Raft's leader or members change."""

    __slots__ = ("_ids", "_listeners", "_node", "_plain", "cluster_view", "last_leader_id")

    def __init__(self, node: Node) -> None:
        settings = node.settings
        self._node = node
        self._ids: dict[str, bytes] = {}
        self._listeners: list[Callable[[], None]] = []
        self.last_leader_id: str | None = None
        self.cluster_view = ClusterView(node, self) if settings.cluster_view else None
        self._plain = Presented() if not (settings.cluster_view or settings.sentinel) else None

    def on_event(self, event: events.Event) -> None:
        """Raft's leader or members may have changed."""
        if isinstance(event, events.LeaderChanged | events.BecameLeader | events.MembershipChanged):
            self.last_leader_id = self._node.core.leader_id or self.last_leader_id
            for listener in self._listeners:
                listener()

    def on_change(self, listener: Callable[[], None]) -> None:
        """Call `listener` after each change of leader or members."""
        self._listeners.append(listener)

    def id_of(self, node_id: str) -> bytes:
        """Return the 40 hexadecimal digits that stand for a node."""
        known = self._ids.get(node_id)
        if known is None:
            known = self._ids[node_id] = public_id(self._node.data.identity.cluster_id, node_id)
        return known

    def members(self) -> list[MemberFacts]:
        """Return every member, as this node sees it."""
        return self._node.services.status.members()

    def master(self) -> MemberFacts | None:
        """Return the leader, or the last one known if it is still a member."""
        wanted = self._node.core.leader_id or self.last_leader_id
        return next((member for member in self.members() if member.node_id == wanted), None)

    def moved_to(self, tls: bool) -> str | None:
        """Return host:port of the leader, for -MOVED; None where this node is the leader or cannot reach one.

        `tls`: the port is for a client that came over TLS.
        """
        core = self._node.core
        leader_id = core.leader_id
        if leader_id is None or leader_id == core.node_id or not self._node.network.connected(leader_id):
            return None
        host, _, port = core.membership.addresses[leader_id].partition("@")[0].rpartition(":")
        tls_port = self._node.services.status.tls_port_of(leader_id) if tls else 0
        return f"{host.strip('[]')}:{tls_port or port}"

    def master_is_up(self) -> bool:
        """Return whether a leader is known now that this node is, or is connected to."""
        leader_id = self._node.core.leader_id
        return leader_id is not None and (
            leader_id == self._node.core.node_id or self._node.network.connected(leader_id)
        )

    def heard_ms(self, node_id: str) -> int:
        """Return for how long nothing was heard from a member; -1 if nothing ever was."""
        status = self._node.housekeeping.members.get(node_id)
        return -1 if status is None or not status.heard_at else int((monotonic() - status.heard_at) * 1000)

    def presented(self) -> Presented:
        """Return what this node shows itself as."""
        if self._plain is not None:
            return self._plain
        settings = self._node.settings
        mode = "cluster" if settings.cluster_view else "standalone"
        if self._node.driver.is_leader:
            return Presented(mode)
        master = self.master()
        heard_ms = -1 if master is None else self.heard_ms(master.node_id)
        return Presented(
            mode, "slave", master, self.master_is_up(), -1 if heard_ms < 0 else heard_ms // 1000,
            settings.follower_mode == "redirect",
        )  # fmt: skip
