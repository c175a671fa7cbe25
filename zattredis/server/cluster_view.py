"""The cluster as a Redis Cluster (setting `cluster_view`): one shard, whose master is the leader.

The leader owns all 16384 slots, every other member (learners too) is its replica. What is shown is Raft's own: the
configuration epoch is the term, offsets are indexes of the log, a member that this node is not connected to has failed
as far as this node knows (`fail?`). As in Redis, a client that came over TLS is told of TLS ports, which the nodes tell
each other (StatusReport). The layouts are those of Redis 7.0 (pages "CLUSTER NODES", "CLUSTER SHARDS", …).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from zattredis.config.cluster import default_peer_port
from zattredis.errors import ConfigError, DefiniteError
from zattredis.keyspace.keys import SLOTS
from zattredis.server.node_facts import MemberFacts

if TYPE_CHECKING:
    from zattredis.server.node import Node
    from zattredis.server.views import Views

LAST_SLOT: Final = SLOTS - 1


class ClusterView:
    """Implements `commands.context.ClusterViewProtocol`; one per node that has the setting."""

    __slots__ = ("_node", "_views")

    def __init__(self, node: Node, views: Views) -> None:
        self._node = node
        self._views = views

    def my_id(self) -> bytes:
        """Return this node's id."""
        return self._views.id_of(self._node.core.node_id)

    def _ordered(self) -> tuple[MemberFacts | None, list[MemberFacts]]:
        """Return the master, and the members that are not."""
        master = self._views.master()
        return master, [one for one in self._views.members() if master is None or one.node_id != master.node_id]

    def _is_up(self, member: MemberFacts, master: MemberFacts | None) -> bool:
        if master is not None and member.node_id == master.node_id:
            return self._views.master_is_up()
        return member.connected

    def slots(self, tls: bool) -> list[Any]:
        """Return the one range of slots: the master first, then the replicas that this node is connected to."""
        master, others = self._ordered()
        if master is None:
            return []
        nodes = [master, *(member for member in others if member.connected)]
        return [[0, LAST_SLOT, *([_host(one), one.port_for(tls), self._views.id_of(one.node_id), {}] for one in nodes)]]

    def shards(self) -> list[Any]:
        """Return the one shard, and in it all members."""
        master, others = self._ordered()
        nodes = [] if master is None else [self._shard_node(master, b"master", master)]
        nodes += [self._shard_node(member, b"replica", master) for member in others]
        return [{b"slots": [] if master is None else [0, LAST_SLOT], b"nodes": nodes}]

    def _shard_node(self, member: MemberFacts, role: bytes, master: MemberFacts | None) -> dict[bytes, Any]:
        host = _host(member)
        ports = {b"port": member.port} if member.port != member.tls_port else {}
        if member.tls_port:
            ports[b"tls-port"] = member.tls_port
        named = {b"hostname": host} if _is_name(member.host) else {}
        return {
            b"id": self._views.id_of(member.node_id), **ports, b"ip": host, b"endpoint": host, **named,
            b"role": role, b"replication-offset": member.match_index or 0,
            b"health": b"online" if self._is_up(member, master) else b"fail",
        }  # fmt: skip

    def nodes(self, tls: bool) -> list[bytes]:
        """Return one line a member."""
        master, others = self._ordered()
        return [self._line(member, master, tls) for member in ([] if master is None else [master]) + others]

    def replicas(self, node: bytes, tls: bool) -> list[bytes]:
        """Return the lines of the leader's replicas."""
        member = self._member(node)
        master, others = self._ordered()
        if master is None or member.node_id != master.node_id:
            raise DefiniteError("The specified node is not a master")
        return [self._line(one, master, tls) for one in others]

    def failure_reports(self, node: bytes) -> int:
        """Return 0, for a member: reports are not collected, a majority decides by electing another leader."""
        self._member(node)
        return 0

    def _member(self, wanted: bytes) -> MemberFacts:
        for member in self._views.members():
            if self._views.id_of(member.node_id) == wanted.lower():
                return member
        raise DefiniteError(f"Unknown node {wanted.decode('utf-8', 'surrogateescape')}")

    def _line(self, member: MemberFacts, master: MemberFacts | None, tls: bool) -> bytes:
        node = self._node
        own = member.node_id == node.core.node_id
        leads = master is not None and member.node_id == master.node_id
        up = own or member.connected
        flags = ["myself"] * own + ["master" if leads else "slave"] + ["fail?"] * (not up)
        host = _host(member)
        peer = _peer_port(member.address)
        heard_ms = self._views.heard_ms(member.node_id)
        fields = [
            self._views.id_of(member.node_id),
            b"%b:%d@%d" % (host, member.port_for(tls), peer) + (b"," + host if _is_name(member.host) else b""),
            ",".join(flags).encode(),
            b"-" if leads or master is None else self._views.id_of(master.node_id),
            b"0",
            b"0" if own or heard_ms < 0 else b"%d" % (node.clock.wall_ms() - heard_ms),
            b"%d" % node.core.term,
            b"connected" if up else b"disconnected",
        ]
        return b" ".join([*fields, b"0-%d" % LAST_SLOT] if leads else fields)

    def info(self) -> bytes:
        """Return the state of the cluster: ok while a leader is known that this node can reach."""
        node = self._node
        up = self._views.master_is_up()
        assigned = SLOTS if self._views.master() is not None else 0
        links = node.network.links
        fields = {
            "cluster_state": "ok" if up else "fail",
            "cluster_slots_assigned": assigned,
            "cluster_slots_ok": assigned if up else 0,
            "cluster_slots_pfail": 0 if up else assigned,
            "cluster_slots_fail": 0,
            "cluster_known_nodes": len(node.core.membership.members),
            "cluster_size": 1 if assigned else 0,
            "cluster_current_epoch": node.core.term,
            "cluster_my_epoch": node.core.term,
            "cluster_stats_messages_sent": node.network.sent_messages,
            "cluster_stats_messages_received": node.network.received_messages,
            "total_cluster_links_buffer_limit_exceeded": sum(link.dropped_messages for link in links),
        }
        return "".join(f"{name}:{value}\r\n" for name, value in fields.items()).encode()

    def links(self) -> list[Any]:
        """Return the connections to and from the other members; when they were made is not kept."""
        found: list[Any] = []
        for link in self._node.network.links:
            ways = [(b"to", link.queued_bytes)] * link.connected + [(b"from", 0)] * link.heard
            for direction, queued in ways:
                found.append(
                    {
                        b"direction": direction, b"node": self._views.id_of(link.node_id),
                        b"create-time": self._node.services.status.started_us // 1000,
                        b"events": b"rw" if queued else b"r", b"send-buffer-allocated": queued,
                        b"send-buffer-used": queued,
                    }
                )  # fmt: skip
        return found


def _host(member: MemberFacts) -> bytes:
    return member.host.encode()


def _is_name(host: str) -> bool:
    """Return whether `host` is no address but a name, which clients resolve."""
    return ":" not in host and not host.replace(".", "").isdigit()


def _peer_port(address: str) -> int:
    rest, _, peer = address.partition("@")
    if peer:
        return int(peer)
    try:
        return default_peer_port(int(rest.rpartition(":")[2]))
    except ConfigError:
        return 0
