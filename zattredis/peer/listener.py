"""The inbound side: accepts connections of other nodes and passes on what they send."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import Any, Final

from zattredis.errors import FrameError
from zattredis.observability.events import get_logger
from zattredis.peer.connection import Connection, Timing
from zattredis.peer.control import Purpose, Refused
from zattredis.peer.handshake import Identity, Listening, Peer
from zattredis.peer.tls_listener import Refusals, TlsListener, cannot_listen
from zattredis.peer.wire import HANDSHAKE_VERSION, MAGIC, encode_frame
from zattredis.raft.messages import Message

STRANGERS_MAX: Final = 64
"""Connections whose handshake is not done. For a further one the oldest is closed: a node is through in milliseconds,
and who only holds connections must not keep nodes out."""

NODES_MAX: Final = 256
"""Other nodes, connected at a time."""

BACKLOG: Final = 100

_log = get_logger(room="peer")


class Listener:
    """Owns the peer port and every connection that came in through it.

    A message is passed on only if it names the node of its own connection as its source and this node as its
    destination. A newer connection of the same node and purpose replaces the older one.
    """

    __slots__ = (
        "_closing",
        "_cut",
        "_identity",
        "_inbound",
        "_on_join",
        "_on_message",
        "_on_peer",
        "_on_stream",
        "_refusal",
        "_refusals",
        "_server",
        "_strangers",
        "_timing",
        "received_messages",
    )

    def __init__(
        self,
        identity: Identity,
        timing: Timing,
        on_message: Callable[[Message], None],
        on_peer: Callable[[Peer], None],
        on_stream: Callable[[Connection], None],
        refusal: Callable[[str], str],
        on_join: Callable[[Connection], None],
    ) -> None:
        self._identity = identity
        self._timing = timing
        self._on_message = on_message
        self.received_messages = 0
        self._on_peer = on_peer
        self._on_stream = on_stream
        self._refusal = refusal
        self._on_join = on_join
        self._server: asyncio.Server | TlsListener | None = None
        self._strangers: dict[Connection, None] = {}  # the oldest first
        self._inbound: dict[tuple[str, Purpose], Connection] = {}
        self._closing = False
        self._cut: frozenset[str] = frozenset()
        self._refusals = Refusals("peer_refused")

    async def start(self, host: str, port: int) -> None:
        """Listen. Raises FatalError with the address when that is not possible."""
        tls = self._identity.tls
        try:
            if tls is None:
                loop = asyncio.get_running_loop()
                self._server = await loop.create_server(self._make_connection, host, port, reuse_address=True)
                return
            self._server = TlsListener(
                context=lambda: tls.accepting, make=self._make_connection, answer=_answer_to_plain,
                on_refused=self._tell_host, handshake_s=self._timing.handshake_ms / 1000, strangers_max=STRANGERS_MAX,
            )  # fmt: skip
            await self._server.start(host, port, BACKLOG)
        except OSError as error:
            raise cannot_listen("other nodes", host, port, error) from error

    @property
    def port(self) -> int:
        """The port listened on (that the system chose, if it was asked to)."""
        assert self._server is not None
        if isinstance(self._server, TlsListener):
            return self._server.port
        return int(self._server.sockets[0].getsockname()[1])

    @property
    def connected(self) -> list[str]:
        """Ids of the nodes whose messages arrive."""
        return [node_id for node_id, purpose in self._inbound if purpose is Purpose.MESSAGES]

    async def close(self) -> None:
        """Stop listening and end every connection."""
        if self._server is not None:
            self._server.close()
        self._closing = True
        connections = [*self._strangers, *self._inbound.values()]
        for connection in connections:
            connection.abort("this node closes its peer port")
        if connections:
            await asyncio.wait([connection.closed for connection in connections])
        if self._server is not None:
            await self._server.wait_closed()

    def cut_off(self, node_ids: Collection[str]) -> None:
        """Hear nothing of these nodes, until other ones are named: what they send is left unread on connections that
        stand, others are closed. For partitions in tests; the other side has to be told the same."""
        before, self._cut = self._cut, frozenset(node_ids)
        for (node_id, purpose), connection in [*self._inbound.items()]:
            if node_id in self._cut:
                if purpose is not Purpose.MESSAGES:
                    connection.abort("cut off")
                elif node_id not in before:
                    connection.read(False)
            elif node_id in before:
                connection.read(True)

    def turn_away(self, node_id: str, reason: str) -> None:
        """A node was removed: end its connections, with the reason."""
        for purpose in Purpose:
            connection = self._inbound.get((node_id, purpose))
            if connection is not None:
                connection.turn_away(reason)

    def _make_connection(self) -> Connection:
        loop = asyncio.get_running_loop()
        connection = Connection(Listening(self._identity), loop, self._timing, self._on_ready)
        connection.closed.add_done_callback(partial(self._on_closed, connection))
        if len(self._strangers) >= STRANGERS_MAX:
            oldest = next(iter(self._strangers))
            del self._strangers[oldest]
            loop.call_soon(oldest.abort, "too many connections without a handshake")
        self._strangers[connection] = None
        return connection

    def _on_ready(self, connection: Connection) -> None:
        peer = connection.peer
        assert peer is not None
        self._strangers.pop(connection, None)
        if peer.node_id in self._cut:
            connection.abort("cut off")
            return
        if len(self._inbound) >= NODES_MAX:
            connection.refuse("too many nodes are connected")
            return
        refusal = self._refusal(peer.node_id)
        if refusal:
            # Only now: both sides have proved that they belong together, and the other one may believe it.
            connection.turn_away(refusal)
            return
        key = (peer.node_id, peer.purpose)
        older = self._inbound.pop(key, None)
        if older is not None:
            older.abort("replaced by a newer connection of the same node")
        self._inbound[key] = connection
        if peer.purpose is Purpose.SNAPSHOT:
            self._on_stream(connection)
        elif peer.purpose is Purpose.JOIN:
            self._on_join(connection)
        else:
            connection.receive = partial(self._receive, peer.node_id)
            self._on_peer(peer)

    def _receive(self, node_id: str, messages: Sequence[Any]) -> None:
        own_id = self._identity.node_id
        on_message = self._on_message
        self.received_messages += len(messages)
        for message in messages:
            if message.src != node_id or message.dst != own_id:
                raise FrameError(f"a message from {message.src!r} to {message.dst!r} on a link from {node_id!r}")
            on_message(message)

    def _on_closed(self, connection: Connection, closed: asyncio.Future[str]) -> None:
        reason = closed.result()
        peer = connection.peer
        if peer is None:
            self._strangers.pop(connection, None)
            self._tell(connection, reason)
            return
        key = (peer.node_id, peer.purpose)
        if self._inbound.get(key) is connection:
            del self._inbound[key]
        if peer.purpose is Purpose.MESSAGES:
            _log.info("inbound_link_down", peer=peer.node_id, reason=reason)

    def _tell(self, connection: Connection, reason: str) -> None:
        """Log why a stranger was turned away."""
        self._tell_host(connection.host, reason)

    def _tell_host(self, host: str, reason: str) -> None:
        if not self._closing:
            self._refusals.tell(host, reason)


def _answer_to_plain(data: bytes) -> bytes:
    """Return what a node is told that comes without encryption; nobody else understands it."""
    if not data.startswith(MAGIC):
        return b""
    reason = "nodes here speak TLS: set the same cluster_secret, or tls_cluster, on every node"
    return encode_frame(Refused(reason), HANDSHAKE_VERSION)
