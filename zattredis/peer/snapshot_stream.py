"""A snapshot on a connection of its own: chunks one way, positions the other, resumable.

    sender                       receiver
    SnapshotBegin(manifest)  →                 `on_snapshot(node id, manifest)` gives the sink, or refuses
                             ←   SnapshotPosition: what the sink still lacks; an earlier transfer may have got far
    SnapshotChunk …          →                 at most WINDOW_BYTES ahead of the positions
                             ←   SnapshotPosition after each chunk written, and now and then as a sign of life
    SnapshotEnd              →
                             ←   SnapshotDone, when the sink has verified everything and made it durable

Either side ends it with Refused. Disk work is never done on the loop: the sender pulls chunks in an executor, the
sink's methods are coroutines. Chunks and positions are opaque here; what they mean is storage's business.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, Protocol

from zattredis.errors import FatalError, FrameError, SnapshotFailed, SnapshotRefused, ZattredisError
from zattredis.observability.events import get_logger
from zattredis.peer.connection import CHUNK_BYTES_MAX, Connection, Timing, watch_task
from zattredis.peer.control import (
    Refused,
    SnapshotBegin,
    SnapshotChunk,
    SnapshotDone,
    SnapshotEnd,
    SnapshotPosition,
)
from zattredis.peer.wire import encode_frame

WINDOW_BYTES: Final = 4 << 20
_QUEUED_CHUNKS_MAX: Final = 64
_SIGN_OF_LIFE_S: Final = 5.0

_log = get_logger(room="peer")

Chunk = tuple[int, int, bytes, int]
"""File number, offset, bytes, CRC-32 of the bytes."""

ChunkSource = Callable[[int, int], Iterator[Chunk]]
"""(file, offset) → the chunks from there on; each step may read from a disk and runs on a thread, one at a time."""


class SnapshotSink(Protocol):
    """Where a snapshot goes. Coroutines, so that disk work can run on a thread; never two of them at a time."""

    async def begin(self, manifest: bytes) -> tuple[int, int]:
        """Prepare and return (file, offset) of the first byte that is lacking. Raises ZattredisError to refuse."""
        ...

    async def write(self, file: int, offset: int, data: bytes, crc: int) -> tuple[int, int]:
        """Write a chunk and return the position behind it. Raises SnapshotDamaged."""
        ...

    async def finish(self) -> None:
        """Verify everything and make it durable; the snapshot is then the receiver's. Raises SnapshotDamaged."""
        ...

    async def close(self) -> None:
        """The stream has ended, finished or not. Called exactly once, last."""
        ...


class SnapshotSender:
    """One transfer over one connection whose handshake is done."""

    __slots__ = ("_arrived", "_connection", "_frames", "_timing", "position")

    def __init__(self, connection: Connection, timing: Timing) -> None:
        self._connection = connection
        self._timing = timing
        self._frames: deque[Any] = deque()
        self._arrived = asyncio.Event()
        self.position: tuple[int, int] | None = None  # what the receiver has told last
        connection.receive = self._receive
        connection.closed.add_done_callback(lambda _: self._arrived.set())

    async def send(self, manifest: bytes, chunks: ChunkSource) -> None:
        """Return when the receiver has all of it, verified and durable.

        Raises SnapshotRefused when it refuses, SnapshotFailed when it falls silent or speaks out of turn,
        ConnectionError when the connection breaks, and whatever `chunks` raises.
        """
        self._connection.send(SnapshotBegin(manifest))
        while self.position is None:
            self._take(await self._next())
        await self._send_chunks(chunks(*self.position))
        self._connection.send(SnapshotEnd())
        while not isinstance(frame := await self._next(), SnapshotDone):
            self._take(frame)
        self._connection.close("the snapshot is complete")

    async def _send_chunks(self, iterator: Iterator[Chunk]) -> None:
        loop = asyncio.get_running_loop()
        under_way: deque[tuple[tuple[int, int], int]] = deque()
        ahead = 0
        reading = loop.run_in_executor(None, _next_frame, iterator)
        while (chunk := await reading) is not None:
            reading = loop.run_in_executor(None, _next_frame, iterator)  # while this one is on its way
            reading.add_done_callback(_look_at_error)
            position, size, frame = chunk
            self._connection.send_encoded(frame)
            under_way.append((position, size))
            ahead += size
            while self._frames or ahead >= WINDOW_BYTES or not self._connection.open:
                self._take(await self._next())
                while under_way and self.position is not None and under_way[0][0] < self.position:
                    ahead -= under_way.popleft()[1]

    def _take(self, frame: Any) -> None:
        if not isinstance(frame, SnapshotPosition):
            raise SnapshotFailed(f"{type(frame).__name__} out of turn from the receiver of a snapshot")
        self.position = (frame.file, frame.offset)

    def _receive(self, frames: Sequence[Any]) -> None:
        self._frames.extend(frames)
        self._arrived.set()

    async def _next(self) -> Any:
        """Return the receiver's next frame. Raises as `send`."""
        while not self._frames:
            if self._connection.closed.done():
                raise ConnectionError(self._connection.closed.result())
            self._arrived.clear()
            try:
                async with asyncio.timeout(self._timing.silence_ms / 1000):
                    await self._arrived.wait()
            except TimeoutError as error:
                self._connection.abort("no sign of life")
                raise SnapshotFailed("the receiver of a snapshot gives no sign of life") from error
        frame = self._frames.popleft()
        if isinstance(frame, Refused):
            self._connection.close("refused by the receiver")
            raise SnapshotRefused(f"the receiver refused the snapshot: {frame.reason}")
        return frame


def _next_frame(chunks: Iterator[Chunk]) -> tuple[tuple[int, int], int, bytes] | None:
    """Return position, size and frame of the next chunk, None behind the last one. For a thread: it reads, copies and
    computes checksums, which the loop, that serves clients, is spared.
    """
    chunk = next(chunks, None)
    if chunk is None:
        return None
    file, offset, data, crc = chunk
    if len(data) > CHUNK_BYTES_MAX:
        raise ValueError(f"a snapshot chunk of {len(data)} bytes is longer than {CHUNK_BYTES_MAX}")
    return (file, offset), len(data), encode_frame(SnapshotChunk(file, offset, crc, data))


def _look_at_error(reading: asyncio.Future[Any]) -> None:
    """Whoever gives up a transfer does not wait for the chunk that was being read ahead, nor for its error."""
    if not reading.cancelled():
        reading.exception()


class SnapshotReceiver:
    """The other end: feeds one sink from one connection, frame by frame, in `run`."""

    __slots__ = ("_arrived", "_connection", "_frames", "_open_sink", "_position", "_reading", "_sink")

    def __init__(self, connection: Connection, open_sink: Callable[[str, bytes], SnapshotSink]) -> None:
        self._connection = connection
        self._open_sink = open_sink
        self._sink: SnapshotSink | None = None
        self._frames: deque[Any] = deque()
        self._arrived = asyncio.Event()
        self._position: SnapshotPosition | None = None
        self._reading = True
        connection.receive = self._receive
        connection.closed.add_done_callback(lambda _: self._arrived.set())

    async def run(self) -> None:
        """Receive until the end of the stream, good or bad. Raises what is fatal to this node."""
        alive = watch_task(asyncio.get_running_loop().create_task(self._show_life()))
        try:
            while (frame := await self._next()) is not None:
                if await self._carry_out(frame):
                    break
        except FatalError as error:
            self._connection.refuse("this node has to stop")
            raise error
        except ZattredisError as error:
            _log.warning("snapshot_refused", peer=self._peer_id, reason=str(error))
            self._connection.refuse(str(error))
        finally:
            alive.cancel()
            if self._sink is not None:
                await self._sink.close()

    async def _show_life(self) -> None:
        """Repeat the position while the sink is busy: verifying a large snapshot takes its time."""
        while True:
            await asyncio.sleep(_SIGN_OF_LIFE_S)
            if self._position is not None:
                self._connection.send(self._position)

    @property
    def _peer_id(self) -> str:
        assert self._connection.peer is not None
        return self._connection.peer.node_id

    async def _carry_out(self, frame: Any) -> bool:
        """Carry out one frame; return whether it was the last."""
        if isinstance(frame, SnapshotBegin) and self._sink is None:
            sink = self._open_sink(self._peer_id, frame.manifest)
            self._sink = sink
            self._tell(await sink.begin(frame.manifest))
            return False
        if self._sink is None:
            raise FrameError(f"{type(frame).__name__} before the manifest of a snapshot")
        if isinstance(frame, SnapshotChunk):
            self._tell(await self._sink.write(frame.file, frame.offset, frame.data, frame.crc))
            return False
        if isinstance(frame, SnapshotEnd):
            await self._sink.finish()
            self._connection.send(SnapshotDone())
            return True
        raise FrameError(f"{type(frame).__name__} out of turn on a snapshot stream")

    def _tell(self, position: tuple[int, int]) -> None:
        self._position = SnapshotPosition(*position)
        self._connection.send(self._position)

    def _receive(self, frames: Sequence[Any]) -> None:
        self._frames.extend(frames)
        self._arrived.set()
        if len(self._frames) > _QUEUED_CHUNKS_MAX and self._reading:
            self._reading = False
            self._connection.read(False)

    async def _next(self) -> Any:
        """Return the next frame, None at the end of the stream."""
        while not self._frames:
            if self._connection.closed.done():
                return None
            if not self._reading:
                self._reading = True
                self._connection.read(True)
            self._arrived.clear()
            await self._arrived.wait()
        return self._frames.popleft()

