"""The outbound side: one link per peer, on which this node's messages to it leave."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import deque
from collections.abc import Callable, Iterator
from typing import Final

from zattredis.errors import FrameError, HandshakeRefused
from zattredis.observability.events import get_logger
from zattredis.peer.connection import Connection, Timing, connect, format_address, watch_task
from zattredis.peer.control import Purpose
from zattredis.peer.fragments import FRAGMENT_BYTES_MAX, LongBody
from zattredis.peer.handshake import Identity
from zattredis.peer.wire import HEADER_BYTES, encode_message, fragment_frames, frame_header
from zattredis.raft import messages as raft
from zattredis.raft.messages import Message

QUEUE_BYTES_MAX: Final = 64 << 20
URGENT_BYTES_MAX: Final = 1 << 20
_FLUSH_BYTES: Final = 4 * FRAGMENT_BYTES_MAX
"""How much one flush writes of what is not urgent, before others on the loop have a turn."""

_URGENT: Final = frozenset(
    {
        raft.PreVoteRequest,
        raft.PreVoteResponse,
        raft.VoteRequest,
        raft.VoteResponse,
        raft.AppendEntriesResponse,
        raft.Heartbeat,
        raft.HeartbeatResponse,
        raft.TimeoutNow,
        raft.ReadIndexRequest,
        raft.ReadIndexResponse,
    }
)
"""Small messages on whose arrival leadership and reads depend; they pass everything else. The rest keeps its order."""

_log = get_logger(room="peer")


class Link:
    """Keeps a connection to one peer and sends on it.

    Messages that cannot go at once wait in two queues, urgent ones and the others; both are bounded in bytes and
    forgotten when the connection breaks (Raft survives lost messages, not an endless queue). A message longer than
    FRAGMENT_BYTES_MAX leaves in fragments, one at a time while the transport has room, so that an urgent message waits
    for what is in the transport and the kernel at most (about 256 KiB), however much is queued.
    """

    __slots__ = (
        "_bulk",
        "_connection",
        "_fallback",
        "_fragments",
        "_identity",
        "_loop",
        "_on_dirty",
        "_on_link",
        "_on_turned_away",
        "_random",
        "_retry",
        "_task",
        "_timing",
        "_told",
        "_urgent",
        "_urgent_bytes",
        "address",
        "dirty",
        "dropped_messages",
        "node_id",
        "queue_bytes_max",
        "queued_bytes",
        "reached",
        "sent_bytes",
    )

    def __init__(
        self,
        identity: Identity,
        node_id: str,
        address: tuple[str, int],
        timing: Timing,
        on_link: Callable[[str, bool], None],
        on_dirty: Callable[[Link], None],
        queue_bytes_max: int = QUEUE_BYTES_MAX,
        fallback: tuple[str, int] | None = None,
        on_turned_away: Callable[[str], None] = lambda node_id: None,
    ) -> None:
        self._identity = identity
        self.node_id = node_id
        self.address = address
        self._fallback = fallback
        self.reached = address  # where the node was found last
        self._on_turned_away = on_turned_away
        self._timing = timing
        self._on_link = on_link
        self._on_dirty = on_dirty
        self.queue_bytes_max = queue_bytes_max
        self._loop = asyncio.get_running_loop()
        self._random = random.Random()
        self._connection: Connection | None = None
        self._urgent: list[bytes] = []
        self._urgent_bytes = 0
        self._bulk: deque[tuple[int, bytes | LongBody]] = deque()
        self._fragments: Iterator[tuple[bytes, bytes | memoryview]] | None = None  # of the first in _bulk
        self.queued_bytes = 0  # of _bulk
        self.dirty = False  # on the network's list of links to be flushed
        self.dropped_messages = 0
        self.sent_bytes = 0
        self._told = ""  # the last reason for having no connection that was logged
        self._retry = asyncio.Event()
        self._task = watch_task(self._loop.create_task(self._keep_connected()))

    @property
    def connected(self) -> bool:
        """Whether messages can leave."""
        return self._connection is not None

    @property
    def incarnation(self) -> str | None:
        """Incarnation of the peer that is connected, or None."""
        peer = None if self._connection is None else self._connection.peer
        return None if peer is None else peer.incarnation

    # -- sending -----------------------------------------------------------------------------------------------------

    def send(self, message: Message) -> bool:
        """Queue a message for the next flush; False when it was dropped: no connection, or the queue is full.

        A single message of any size is taken by a queue that is at most half full: were it only by an empty one, a
        message near the bound would lose against every small one that is there before it.
        """
        if self._connection is None or (self.queued_bytes > self.queue_bytes_max and type(message) not in _URGENT):
            self.dropped_messages += 1  # before it is encoded: whoever is refused tries again, and often
            return False
        number, body = encode_message(message)
        size = HEADER_BYTES + (body.size if isinstance(body, LongBody) else len(body))
        if type(message) in _URGENT:
            if self._urgent_bytes + size > URGENT_BYTES_MAX:
                self.dropped_messages += 1
                return False
            self._urgent_bytes += size
            assert isinstance(body, bytes), "an urgent message that is long"
            self._urgent += (frame_header(number, body), body)
        else:
            half = self.queue_bytes_max // 2
            if self.queued_bytes > half and self.queued_bytes + size > self.queue_bytes_max:
                self.dropped_messages += 1
                return False
            self.queued_bytes += size
            self._bulk.append((number, body))
        if not self.dirty:
            self.dirty = True
            self._on_dirty(self)
        return True

    def flush(self) -> None:
        """Write what is queued, as far as the transport has room: one write, urgent messages first."""
        self.dirty = False
        connection = self._connection
        if connection is None or not connection.writable:
            return
        pieces: list[bytes | memoryview] = [*self._urgent]
        self._urgent.clear()
        size = self._urgent_bytes
        self._urgent_bytes = 0
        if self._bulk:
            size += self._take_bulk(pieces)
        if not pieces:
            return
        self.sent_bytes += size
        assert connection.transport is not None
        connection.transport.writelines(pieces)
        if self._bulk and connection.writable and not self.dirty:
            self.dirty = True
            self._loop.call_soon(self.flush)

    def _take_bulk(self, pieces: list[bytes | memoryview]) -> int:
        """Move queued messages, or a few fragments of a long one, to `pieces`; return how many bytes."""
        bulk = self._bulk
        taken = 0
        while bulk and taken < _FLUSH_BYTES:
            number, body = bulk[0]
            if isinstance(body, bytes):
                size = len(body)
                pieces += (frame_header(number, body), body)
                taken += HEADER_BYTES + size
            else:
                size = body.size
                if self._fragments is None:
                    self._fragments = fragment_frames(number, body)
                fragment = next(self._fragments, None)
                if fragment is not None:
                    pieces += fragment
                    taken += HEADER_BYTES + len(fragment[1])
                    continue
                self._fragments = None
            bulk.popleft()
            self.queued_bytes -= HEADER_BYTES + size
        return taken

    # -- the connection ----------------------------------------------------------------------------------------------

    def hurry(self, incarnation: str | None = None) -> None:
        """The peer, in this incarnation, has just been heard of: connect now, and not to an earlier one."""
        if self._connection is None:
            self._retry.set()
        elif incarnation is not None and incarnation != self.incarnation:
            self._connection.abort("the peer was restarted")

    async def close(self) -> None:
        """End the connection, after what was written to it, and the attempts to make one."""
        connection, self._connection = self._connection, None
        self._task.cancel()
        await asyncio.wait([self._task])
        if connection is not None:
            connection.close("this node closes the link")
            await asyncio.wait([connection.closed], timeout=self._timing.dead_ms / 1000)
            connection.abort("this node closes the link")

    async def _keep_connected(self) -> None:
        timing = self._timing
        delay_ms = float(timing.retry_min_ms)
        other = False
        while True:
            address = self._fallback if other and self._fallback is not None else self.address
            try:
                connection = await connect(self._identity, self.node_id, address, Purpose.MESSAGES, timing)
            except (HandshakeRefused, FrameError, OSError) as error:
                if address == self.address:
                    self._tell(error)
                other = not other and self._fallback not in (None, self.address)
            else:
                self.reached = address
                began = self._loop.time()
                await self._stay_connected(connection)
                if self._loop.time() - began > timing.retry_max_ms / 1000:
                    delay_ms = float(timing.retry_min_ms)
            self._retry.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(delay_ms / 1000 * self._random.uniform(0.5, 1.0)):
                    await self._retry.wait()
            delay_ms = min(delay_ms * 2, timing.retry_max_ms)

    async def _stay_connected(self, connection: Connection) -> None:
        self._connection = connection
        self._told = ""
        connection.on_writable = self.flush
        _log.info("link_up", peer=self.node_id, address=format_address(self.reached))
        self._on_link(self.node_id, True)
        try:
            reason = await asyncio.shield(connection.closed)
        finally:
            self._forget()
        _log.info("link_down", peer=self.node_id, reason=reason)
        if connection.turned_away:
            self._on_turned_away(self.node_id)
        self._on_link(self.node_id, False)

    def _forget(self) -> None:
        self._connection = None
        self._urgent.clear()
        self._urgent_bytes = 0
        self._bulk.clear()
        self._fragments = None
        self.queued_bytes = 0

    def _tell(self, error: Exception) -> None:
        """Log why there is no connection, once per reason: attempts go on for as long as it takes."""
        reason = str(error) or ("no answer in time" if isinstance(error, TimeoutError) else type(error).__name__)
        if reason == self._told:
            return
        self._told = reason
        address = format_address(self.address)
        if isinstance(error, HandshakeRefused | FrameError):
            _log.warning("link_refused", peer=self.node_id, address=address, reason=reason)
        else:
            _log.info("link_not_up", peer=self.node_id, address=address, reason=reason)
