"""All links of one node, in and out."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from zattredis.errors import FrameError, SnapshotFailed
from zattredis.observability.events import get_logger
from zattredis.peer.connection import MANIFEST_BYTES_MAX, Connection, Timing, connect, watch_task
from zattredis.peer.control import JoinAnswer, JoinRequest, Purpose
from zattredis.peer.handshake import Identity, Peer
from zattredis.peer.link import QUEUE_BYTES_MAX, Link
from zattredis.peer.listener import Listener
from zattredis.peer.snapshot_stream import ChunkSource, SnapshotReceiver, SnapshotSender, SnapshotSink
from zattredis.peer.tls import PeerTls
from zattredis.raft.messages import Message

SNAPSHOT_TRIES: Final = 3
"""Transfers broken off one after the other, none of which got further than the one before, until it is given up."""

JOINING_MAX: Final = 16
"""Nodes that ask to be added, at a time."""

_log = get_logger(room="peer")


@dataclass(frozen=True, slots=True)
class LinkStatus:
    """What INFO tells of one peer."""

    node_id: str
    address: tuple[str, int]
    connected: bool
    heard: bool
    queued_bytes: int
    sent_bytes: int
    dropped_messages: int


class PeerNetwork:
    """Sends messages to nodes and hands over what they send. Lives on one event loop.

    on_message(message) is called for each message, on the loop, in the order of its link. on_link(node_id, up) tells
    that the link *to* a node came up or broke: what was under way on it may be lost. on_snapshot(node_id, manifest)
    returns the sink for a snapshot that this node offers, or raises ZattredisError to refuse it. refusal(node_id) says
    why a node is none of the cluster any more, or nothing; on_turned_away(node_id): that node said so of this one.
    on_join(node_id, address) adds a node that asks for it and returns the answer.
    `tls`: certificates on both sides; with a secret alone, the links make their own encryption.
    `fallbacks` are addresses to try where the one that was set does not lead to the node.
    """

    def __init__(
        self,
        *,
        node_id: str,
        cluster_id: str,
        incarnation: str,
        listen: tuple[str, int],
        secret: bytes | None,
        on_message: Callable[[Message], None],
        on_link: Callable[[str, bool], None],
        on_snapshot: Callable[[str, bytes], SnapshotSink],
        queue_bytes_max: int = QUEUE_BYTES_MAX,
        timing: Timing | None = None,
        refusal: Callable[[str], str] = lambda node_id: "",
        on_turned_away: Callable[[str], None] = lambda node_id: None,
        fallbacks: Mapping[str, tuple[str, int]] | None = None,
        on_join: Callable[[str, str], Awaitable[JoinAnswer]] | None = None,
        tls: PeerTls | None = None,
    ) -> None:
        if secret is not None and tls is None:
            tls = PeerTls.from_secret()
        self._identity = Identity(node_id, cluster_id, incarnation, secret, tls)
        self._listen = listen
        self._on_link = on_link
        self._on_snapshot = on_snapshot
        self._queue_bytes_max = queue_bytes_max
        self._timing = timing or Timing()
        self._on_turned_away = on_turned_away
        self._fallbacks = dict(fallbacks or {})
        self._join = on_join
        self._listener = Listener(
            self._identity, self._timing, on_message, self._on_peer, self._on_stream, refusal, self._on_join
        )
        self._peers: dict[str, tuple[str, int]] = {}
        self._links: dict[str, Link] = {}
        self.sent_messages = 0
        self._dirty: list[Link] = []
        self._receiving: dict[str, asyncio.Task[None]] = {}
        self._closing: set[asyncio.Task[None]] = set()
        self._open = False
        self._joining: set[Connection] = set()

    @property
    def port(self) -> int:
        """The peer port listened on."""
        return self._listener.port

    @property
    def received_messages(self) -> int:
        """How many messages other nodes have sent here."""
        return self._listener.received_messages

    @property
    def links(self) -> list[LinkStatus]:
        """The state of every link, by node id."""
        heard = set(self._listener.connected)
        return [
            LinkStatus(
                node_id, link.address, link.connected, node_id in heard, link.queued_bytes, link.sent_bytes,
                link.dropped_messages,
            )
            for node_id, link in sorted(self._links.items())
        ]  # fmt: skip

    async def start(self) -> None:
        """Listen, and begin to connect to the peers set so far. Raises FatalError when the port cannot be had."""
        self._loop = asyncio.get_running_loop()
        await self._listener.start(*self._listen)
        self._open = True
        self.set_peers(self._peers)

    async def close(self) -> None:
        """End everything. What was flushed before still leaves if the other side takes it soon."""
        self._open = False
        links = [*self._links.values()]
        self._links.clear()
        await asyncio.gather(*(link.close() for link in links), *self._closing)
        await self._listener.close()
        if self._receiving:
            await asyncio.wait([*self._receiving.values()])

    def set_peers(self, peers: Mapping[str, tuple[str, int]]) -> None:
        """Say who the peers are and where: connect to new ones, forget those not named. A new address counts from the
        next connecting on; a link that stands is kept, for it was made to the node and not to the address.
        """
        self._peers = {node_id: address for node_id, address in peers.items() if node_id != self._identity.node_id}
        if not self._open:
            return
        for node_id, address in self._peers.items():
            link = self._links.get(node_id)
            if link is None:
                self._links[node_id] = Link(
                    self._identity, node_id, address, self._timing, self._on_link, self._on_dirty,
                    self._queue_bytes_max, self._fallbacks.get(node_id), self._on_turned_away,
                )  # fmt: skip
            elif link.address != address:
                link.address = address
                link.hurry()
        for node_id in self._links.keys() - self._peers.keys():
            task = watch_task(self._loop.create_task(self._links.pop(node_id).close()))
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)

    def cut_off(self, node_ids: Collection[str]) -> None:
        """Hear nothing of these nodes until other ones are named: one side of a partition, for tests."""
        self._listener.cut_off(node_ids)

    def turn_away(self, node_id: str, reason: str) -> None:
        """A node was removed: end its connections to this one, with the reason."""
        self._listener.turn_away(node_id, reason)

    def connected(self, node_id: str) -> bool:
        """Whether messages to this node can leave."""
        link = self._links.get(node_id)
        return link is not None and link.connected

    def send(self, message: Message) -> bool:
        """Queue a message for the node it names; False when it was dropped (no such link, not connected, queue full).

        It leaves with the next `flush`, or at the end of this turn of the loop.
        """
        link = self._links.get(message.dst)
        if link is None or not link.send(message):
            return False
        self.sent_messages += 1
        return True

    def flush(self) -> None:
        """Write what is queued now, one write per link."""
        if self._dirty:
            dirty, self._dirty = self._dirty, []
            for link in dirty:
                if link.dirty:
                    link.flush()

    async def send_snapshot(self, node_id: str, manifest: bytes, chunks: ChunkSource) -> None:
        """Send a snapshot over a connection of its own; return when the receiver has verified it and made it durable.

        `chunks(file, offset)` gives (file, offset, bytes, CRC-32) from that position on, at most 1 MiB each. A broken
        transfer is taken up where the receiver says. Raises SnapshotFailed, HandshakeRefused, FrameError (whoever is
        there speaks something else), or what `chunks` raises.
        """
        if len(manifest) > MANIFEST_BYTES_MAX - 1024:
            raise SnapshotFailed(f"a manifest of {len(manifest)} bytes is too long")
        furthest = (-1, -1)
        tries = 0
        while True:
            link = self._links.get(node_id)
            if link is None:
                raise SnapshotFailed(f"node {node_id!r} is no peer (any more)")
            address = link.reached
            position, error = await self._try_snapshot(node_id, address, manifest, chunks)
            if error is None:
                return
            tries = 1 if position > furthest else tries + 1
            furthest = max(furthest, position)
            if tries >= SNAPSHOT_TRIES:
                raise SnapshotFailed(f"the snapshot for {node_id!r} broke off at {furthest}: {error}") from error
            _log.info("snapshot_interrupted", peer=node_id, position=furthest, reason=str(error))
            await asyncio.sleep(self._timing.retry_max_ms / 1000)

    async def _try_snapshot(
        self, node_id: str, address: tuple[str, int], manifest: bytes, chunks: ChunkSource
    ) -> tuple[tuple[int, int], OSError | None]:
        """Return how far one connection got, and how it broke, if it did. Raises as `send_snapshot`."""
        try:
            connection = await connect(self._identity, node_id, address, Purpose.SNAPSHOT, self._timing)
        except OSError as error:
            return (-1, -1), error
        sender = SnapshotSender(connection, self._timing)
        try:
            await sender.send(manifest, chunks)
        except ConnectionError as error:
            return sender.position or (-1, -1), error
        finally:
            connection.close("the sender of the snapshot has ended")
        return sender.position or (-1, -1), None

    def _on_dirty(self, link: Link) -> None:
        if not self._dirty:
            self._loop.call_soon(self.flush)
        self._dirty.append(link)

    def _on_peer(self, peer: Peer) -> None:
        """A node has connected to this one: it lives, so the link to it can be made again at once."""
        _log.info("inbound_link_up", peer=peer.node_id)
        link = self._links.get(peer.node_id)
        if link is not None:
            link.hurry(peer.incarnation)

    def _on_join(self, connection: Connection) -> None:
        """A node wants to be added: its one request is answered, however long that takes, and the connection ends."""
        peer, join = connection.peer, self._join
        assert peer is not None
        if join is None or len(self._joining) >= JOINING_MAX:
            connection.refuse("no node can be added here now")
            return

        def receive(frames: Sequence[Any]) -> None:
            if len(frames) != 1 or not isinstance(frames[0], JoinRequest) or connection in self._joining:
                raise FrameError("not the request of a node that wants to join")
            self._joining.add(connection)
            self._closing.add(task := watch_task(self._loop.create_task(answer(frames[0].address))))
            task.add_done_callback(self._closing.discard)

        async def answer(address: str) -> None:
            try:
                connection.send(await join(peer.node_id, address))
                connection.close("the node that wants to join has its answer")
            finally:
                self._joining.discard(connection)

        connection.receive = receive

    def _on_stream(self, connection: Connection) -> None:
        """A node wants to send a snapshot. Its earlier stream, just replaced, is let end first: one writer per sink."""
        assert connection.peer is not None
        node_id = connection.peer.node_id
        earlier = self._receiving.get(node_id)
        receiver = SnapshotReceiver(connection, self._on_snapshot)

        async def receive() -> None:
            if earlier is not None:
                await asyncio.wait([earlier])
            await receiver.run()

        task = watch_task(self._loop.create_task(receive()))
        self._receiving[node_id] = task
        task.add_done_callback(lambda done: self._receiving.pop(node_id) if self._receiving[node_id] is done else None)
