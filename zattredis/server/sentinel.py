"""The Sentinel port (setting `sentinel_port`): who leads, for clients that ask Redis Sentinel, and news of it.

It is a listener of its own with a small table of commands of its own (`sentinel_connection`, `sentinel_table`). What it
shows is this node's knowledge of the Raft cluster, so every node that has the port answers on its own and none has to
agree with another: the name `sentinel_master_name` stands for the cluster, its master is the leader. The nodes tell
each other the ports they answer on (StatusReport). Users and bounds are those of the client port, and so is TLS where
clients are served over TLS alone; elsewhere `sentinel_tls_port` is a second port over TLS. Who comes over TLS is told
of the members' TLS ports.

Subscribers are told, in Redis's words, on `+switch-master` who leads now, on `+new-epoch` its term, on `+sdown` and
`-sdown` which member got out of reach of this node and came back, on `+slave` who joined.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final, cast

from zattredis.commands.context import ServerProtocol
from zattredis.observability.events import get_logger
from zattredis.peer.tls_listener import Refusals, TlsListener, cannot_listen
from zattredis.server.clients import ClientRegistry
from zattredis.server.clock import monotonic
from zattredis.server.node_facts import MemberFacts
from zattredis.server.security import HANDSHAKE_S, STRANGERS_MAX, answer_to_plain
from zattredis.server.sentinel_connection import SentinelConnection
from zattredis.server.sentinel_table import SentinelTable

if TYPE_CHECKING:
    from zattredis.server.access import Access
    from zattredis.server.node import Node

BACKLOG: Final = 128
COMPARE_S: Final = 0.5
HEARD_S: Final = 5.0
"""A node that did not say for so long that it answers as a Sentinel is not named as one."""

_log = get_logger(room="sentinel")


class SentinelPort:
    """One per node; does nothing unless the setting names a port."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self.name = node.settings.sentinel_master_name.encode()
        self.clients = ClientRegistry()
        self.subscribers: set[SentinelConnection] = set()
        self.tables = {tls: SentinelTable(node, self, tls) for tls in (False, True)}
        self._servers: list[asyncio.Server | TlsListener] = []
        self._leader: MemberFacts | None = None
        self._leader_since = monotonic()
        self._up: dict[str, bool] = {}
        self._term = 0

    # -- life --------------------------------------------------------------------------------------------------------

    async def listen(self) -> None:
        """Listen where the settings say. Raises FatalError when the port cannot be had."""
        node = self._node
        for host, port in node.settings.sentinel_listen:
            try:
                server = await asyncio.get_running_loop().create_server(
                    lambda: SentinelConnection(self), host, port, reuse_address=True
                )  # fmt: skip
            except OSError as error:
                raise cannot_listen("Sentinel's clients", host, port, error) from error
            self._servers.append(server)
        for host, port in node.settings.sentinel_tls_listen:
            try:
                await self._listen_tls(host, port)
            except OSError as error:
                raise cannot_listen("Sentinel's clients", host, port, error) from error
        if self._servers:
            node.views.on_change(self.compare)
            self._compare_again()

    async def _listen_tls(self, host: str, port: int) -> None:
        listener = TlsListener(
            context=self._node.security.client_context, make=lambda: SentinelConnection(self), answer=answer_to_plain,
            on_refused=Refusals("sentinel_client_refused").tell, handshake_s=HANDSHAKE_S, strangers_max=STRANGERS_MAX,
        )  # fmt: skip
        await listener.start(host, port, BACKLOG)
        self._servers.append(listener)

    def close(self) -> None:
        """Close the port and all connections."""
        for server in self._servers:
            server.close()
        self._servers.clear()
        for client in self.clients:
            client.connection.close("the node ends")

    # -- for connections ---------------------------------------------------------------------------------------------

    @property
    def node(self) -> Node:
        """The node whose cluster is shown."""
        return self._node

    @property
    def access(self) -> Access:
        """Who may come in: as on the client port."""
        return self._node.services.access

    def shown_as(self) -> tuple[bytes, bytes]:
        """Return the mode that HELLO names; a Sentinel has no role."""
        return b"sentinel", b""

    def time_us(self) -> int:
        """Return the wall clock in microseconds since 1970."""
        return self._node.clock.wall_us()

    def as_server(self) -> ServerProtocol:
        """Return this port as what the handlers of shared commands (CLIENT, AUTH, HELLO) ask of a server."""
        return cast(ServerProtocol, self)

    # -- what is shown -----------------------------------------------------------------------------------------------

    @property
    def quorum(self) -> int:
        """How many voters elect a leader."""
        return len(self._node.core.membership.voters) // 2 + 1

    def voters_in_reach(self) -> int:
        """Return how many voters this node is connected to, itself included if it is one."""
        node = self._node
        return sum(
            voter == node.core.node_id or node.network.connected(voter) for voter in node.core.membership.voters
        )

    def others(self, tls: bool) -> list[tuple[MemberFacts, int]]:
        """Return the other members that answer as Sentinels, over TLS or plain, each with its port."""
        node = self._node
        found = []
        for member in node.views.members():
            status = node.housekeeping.members.get(member.node_id)
            if member.node_id == node.core.node_id or status is None:
                continue
            port = status.sentinel_port
            if tls:  # the one port of a node where TLS is all, or that says nothing of TLS
                port = status.sentinel_tls_port or (port if status.tls_port in (0, member.port) else 0)
            if port and (member.connected or monotonic() - status.heard_at < HEARD_S):
                found.append((member, port))
        return found

    def leader_since_ms(self) -> int:
        """Return since when the present leader is known here."""
        return int((monotonic() - self._leader_since) * 1000)

    def info_lines(self, tls: bool) -> Iterator[tuple[str, object]]:
        """Yield the fields of INFO sentinel."""
        master = self._node.views.master()
        yield "sentinel_masters", int(master is not None)
        yield "sentinel_tilt", 0
        yield "sentinel_tilt_since_seconds", -1
        yield "sentinel_running_scripts", 0
        yield "sentinel_scripts_queue_length", 0
        yield "sentinel_simulate_failure_flags", 0
        if master is not None:
            core = self._node.core
            status = "ok" if self._node.views.master_is_up() else "sdown" if core.leader_id is not None else "odown"
            yield (
                "master0",
                f"name={self.name.decode()},status={status},address={master.host}:{master.port_for(tls)},"
                f"slaves={len(core.membership.members) - 1},sentinels={len(self.others(tls)) + 1}",
            )

    # -- news --------------------------------------------------------------------------------------------------------

    def _compare_again(self) -> None:
        if self._servers:
            self.compare()
            self._node.call_later(COMPARE_S, self._compare_again)

    def compare(self) -> None:
        """Tell subscribers what has changed since the last time."""
        node = self._node
        before, now = self._leader, node.views.master()
        if now is not None and node.core.leader_id == now.node_id:
            if before is None or (before.host, before.port) != (now.host, now.port):
                self._leader, self._leader_since = now, monotonic()
            elif before.tls_port != now.tls_port:
                self._leader = now
            if before is not None:
                self._switched(before, now)
            if node.core.term > self._term:
                self._term = node.core.term
                self.publish(b"+new-epoch", b"%d" % self._term)
        master_up = node.views.master_is_up()
        for member in node.views.members():
            leads = self._leader is not None and member.node_id == self._leader.node_id
            up = master_up if leads else member.connected
            known = self._up.get(member.node_id)
            if known is None and self._up and not leads:
                self._tell(b"+slave", member, leads)
            elif known is not None and known != up:
                self._tell(b"-sdown" if up else b"+sdown", member, leads)
            self._up[member.node_id] = up
        for gone in self._up.keys() - node.core.membership.addresses.keys():
            del self._up[gone]

    def _switched(self, before: MemberFacts, now: MemberFacts) -> None:
        if before.node_id != now.node_id:
            _log.info("switch_master", leader_id=now.node_id, before=before.node_id, subscribers=len(self.subscribers))
        for tls in (False, True):
            was, port = before.port_for(tls), now.port_for(tls)
            if (before.host, was) != (now.host, port):
                text = f"{self.name.decode()} {before.host} {was} {now.host} {port}"
                self.publish(b"+switch-master", text.encode(), tls)

    def _tell(self, channel: bytes, member: MemberFacts, leads: bool) -> None:
        """Tell all subscribers something of a member."""
        for tls in (False, True):
            self.publish(channel, self._described(member, leads, tls), tls)

    def _described(self, member: MemberFacts, leads: bool, tls: bool) -> bytes:
        """Return a member as Sentinel's messages name it."""
        name, port = self.name.decode(), member.port_for(tls)
        if leads or self._leader is None:
            return f"{'master' if leads else 'slave'} {name} {member.host} {port}".encode()
        own = f"slave {member.host}:{port} {member.host} {port}"
        return f"{own} @ {name} {self._leader.host} {self._leader.port_for(tls)}".encode()

    def publish(self, channel: bytes, message: bytes, tls: bool | None = None) -> int:
        """Send a message to those who listen to the channel, over TLS or plain or both; return how many times."""
        return sum(
            subscriber.deliver(channel, message)
            for subscriber in list(self.subscribers)
            if tls is None or tls == subscriber.state.tls
        )
