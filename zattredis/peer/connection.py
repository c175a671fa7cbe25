"""One TCP connection that carries frames: handshake first, then whatever it is for."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, cast

from zattredis.errors import FrameError, HandshakeRefused
from zattredis.peer.control import Purpose, Refused, TurnedAway
from zattredis.peer.handshake import REASON_CHARACTERS_MAX, Connecting, Identity, Listening, Peer, clean_reason
from zattredis.peer.tls import in_words
from zattredis.peer.wire import (
    HANDSHAKE_DECODERS,
    HANDSHAKE_VERSION,
    JOIN_DECODERS,
    LINK_DECODERS,
    MESSAGE_DECODERS,
    STREAM_DECODERS,
    FrameDecoder,
    encode_frame,
)

HANDSHAKE_FRAME_BYTES_MAX: Final = 1024
"""A stranger never makes us keep more than this."""

CHUNK_BYTES_MAX: Final = 1 << 20
MANIFEST_BYTES_MAX: Final = (16 << 20) + 1024
_JOIN_BYTES_MAX: Final = 1 << 20
_STREAM_FRAME_BYTES_MAX: Final = CHUNK_BYTES_MAX + 1024

_WRITE_HIGH_BYTES: Final = 131072
_WRITE_LOW_BYTES: Final = 32768
_TCP_NOTSENT_LOWAT: Final = getattr(socket, "TCP_NOTSENT_LOWAT", None)
_TCP_USER_TIMEOUT: Final = getattr(socket, "TCP_USER_TIMEOUT", None)


@dataclass(frozen=True, slots=True)
class Timing:
    """Patience of links, in ms.

    dead_ms: bytes that the other side's kernel does not acknowledge for so long, or an idle connection whose probes it
    does not answer, end the connection. silence_ms: a snapshot's receiver may give no sign of life for so long.
    """

    connect_ms: int = 2000
    handshake_ms: int = 3000
    dead_ms: int = 3000
    retry_min_ms: int = 20
    retry_max_ms: int = 1000
    silence_ms: int = 30_000


class Connection(asyncio.Protocol):
    """Frames over one connection, either side.

    Until `peer` is set only handshake frames of at most 1 KiB are read. Then `on_ready` is called, which sets `receive`
    (called with each list of frames; a FrameError it raises closes the connection). `ready` and `closed` are the same
    for whoever awaits: `ready` gives the peer or raises HandshakeRefused, FrameError or ConnectionError, `closed` gives
    the reason of the end. `on_writable` is called when a full transport has drained; `writable` says which it is.
    """

    __slots__ = (
        "_decoder",
        "_handshake",
        "_loop",
        "_reason",
        "_timer",
        "_timing",
        "closed",
        "host",
        "on_ready",
        "on_writable",
        "peer",
        "ready",
        "receive",
        "transport",
        "turned_away",
        "writable",
    )

    def __init__(
        self,
        handshake: Connecting | Listening,
        loop: asyncio.AbstractEventLoop,
        timing: Timing,
        on_ready: Callable[[Connection], None] | None = None,
    ) -> None:
        self._handshake = handshake
        self._loop = loop
        self._timing = timing
        self._decoder = FrameDecoder(
            HANDSHAKE_DECODERS,
            version=HANDSHAKE_VERSION,
            frame_bytes_max=HANDSHAKE_FRAME_BYTES_MAX,
            message_bytes_max=0,
            one_at_a_time=True,
        )
        self._timer: asyncio.TimerHandle | None = None
        self._reason = ""
        self.on_ready = on_ready
        self.on_writable: Callable[[], None] = _nothing
        self.peer: Peer | None = None
        self.ready: asyncio.Future[Peer] = loop.create_future()
        self.closed: asyncio.Future[str] = loop.create_future()
        self.receive: Callable[[Sequence[Any]], None] = self._receive_handshake
        self.transport: asyncio.Transport | None = None
        self.host = "?"
        self.writable = False
        self.turned_away = False  # the other side, known to be who it is, says that this node was removed

    # -- what asyncio calls ------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport = cast(asyncio.Transport, transport)  # uvloop's is none by inheritance
        address = transport.get_extra_info("peername")  # asked later, a socket that is closed knows it no more
        self.host = str(address[0]) if address else "?"
        if self._reason:
            transport.abort()
            return
        self.writable = True
        transport.set_write_buffer_limits(_WRITE_HIGH_BYTES, _WRITE_LOW_BYTES)
        _set_socket_options(transport.get_extra_info("socket"), self._timing.dead_ms)
        self._timer = self._loop.call_later(self._timing.handshake_ms / 1000, self._on_handshake_timeout)
        tls = self._handshake.tls
        if tls is not None:
            try:
                self._handshake.channel = tls.channel(transport.get_extra_info("ssl_object"))
            except HandshakeRefused as error:  # nothing may be said here, not even why
                self._fail_ready(error)
                self.abort(str(error))
                return
        if isinstance(self._handshake, Connecting):
            transport.write(encode_frame(self._handshake.begin(), HANDSHAKE_VERSION))

    def data_received(self, data: bytes) -> None:
        if self._reason:
            return
        try:
            self.receive(self._decoder.feed(data))
        except FrameError as error:
            self.refuse(str(error))

    def pause_writing(self) -> None:
        self.writable = False

    def resume_writing(self) -> None:
        if not self._reason:
            self.writable = True
            self.on_writable()

    def connection_lost(self, error: Exception | None) -> None:
        self.writable = False
        if self._timer is not None:
            self._timer.cancel()
        refused = isinstance(error, ssl.SSLError)
        if isinstance(error, OSError) and not self._reason:
            self._reason = in_words(error)
        self._reason = self._reason or (str(error) if error is not None else "closed by the other side")
        self._fail_ready(HandshakeRefused(self._reason) if refused else ConnectionError(self._reason))
        self.closed.set_result(self._reason)
        self.receive = _ignore
        self.on_writable = _nothing
        self.on_ready = None

    # -- for its owner -----------------------------------------------------------------------------------------------

    @property
    def open(self) -> bool:
        """Whether frames can still be sent."""
        return self.peer is not None and not self._reason

    def read(self, go_on: bool) -> None:
        """Stop or go on reading; nothing happens once the connection is closing."""
        if self.open:
            assert self.transport is not None
            if go_on:
                self.transport.resume_reading()
            else:
                self.transport.pause_reading()

    def send(self, frame: Any) -> None:
        """Write one frame now; nothing happens once the connection is closing."""
        if self.open:
            assert self.transport is not None
            self.transport.write(encode_frame(frame))

    def send_encoded(self, frame: bytes) -> None:
        """Write a frame that `encode_frame` has made; nothing happens once the connection is closing."""
        if self.open:
            assert self.transport is not None
            self.transport.write(frame)

    def refuse(self, reason: str) -> None:
        """Tell the other side why, and close."""
        if self.transport is not None and not self._reason:
            version = HANDSHAKE_VERSION if self.peer is None else self.peer.version
            self.transport.write(encode_frame(Refused(reason[:REASON_CHARACTERS_MAX]), version))
            self.close(reason)

    def turn_away(self, reason: str) -> None:
        """Tell the other side, a node that was removed, so, and close."""
        self.send(TurnedAway(reason[:REASON_CHARACTERS_MAX]))
        self.close(reason)

    def close(self, reason: str) -> None:
        """Close once what was written has left; nothing more is received."""
        if not self._reason:
            self._reason = reason
            self.writable = False
            self._fail_ready(ConnectionError(reason))
            if self.transport is not None:
                self.transport.close()

    def abort(self, reason: str) -> None:
        """Close at once; what was written may be lost."""
        self._reason = self._reason or reason
        self.writable = False
        self._fail_ready(ConnectionError(reason))
        if self.transport is not None:
            self.transport.abort()

    # -- handshake ---------------------------------------------------------------------------------------------------

    def _receive_handshake(self, frames: Sequence[Any]) -> None:
        if not frames:
            return
        try:
            answer = self._handshake.receive(frames[0])
        except HandshakeRefused as error:
            self._fail_ready(error)
            if isinstance(frames[0], Refused):
                self.close(str(error))
            else:
                self.refuse(str(error))
            return
        assert self.transport is not None
        if answer is not None:
            self.transport.write(encode_frame(answer, HANDSHAKE_VERSION))
        if self._handshake.peer is not None:
            self._become_ready(self._handshake.peer)
        elif self._decoder.buffered_bytes:
            raise FrameError("more than one frame at a time in a handshake")

    def _become_ready(self, peer: Peer) -> None:
        rest = self._decoder.take_rest()
        listening = isinstance(self._handshake, Listening)
        if rest and listening:
            raise FrameError("bytes behind a handshake that was not answered yet")
        if self._timer is not None:
            self._timer.cancel()
        self.peer = peer
        if peer.purpose is Purpose.SNAPSHOT:
            self._decoder = FrameDecoder(
                STREAM_DECODERS,
                version=peer.version,
                frame_bytes_max=_STREAM_FRAME_BYTES_MAX,
                message_bytes_max=MANIFEST_BYTES_MAX,
            )
        elif peer.purpose is Purpose.JOIN:
            self._decoder = FrameDecoder(JOIN_DECODERS, version=peer.version, message_bytes_max=_JOIN_BYTES_MAX)
        elif listening:
            self._decoder = FrameDecoder(MESSAGE_DECODERS, version=peer.version)
        else:  # messages go one way only: the other side connects by itself
            self._decoder = FrameDecoder(LINK_DECODERS, version=peer.version, message_bytes_max=0)
        self.receive = self._receive_refusal
        if self.on_ready is not None:
            self.on_ready(self)
        if not self.ready.done():
            self.ready.set_result(peer)
        if rest:
            self.receive(self._decoder.feed(rest))

    def _receive_refusal(self, frames: Sequence[Any]) -> None:
        for frame in frames:
            if isinstance(frame, TurnedAway):
                self.turned_away = True
            elif not isinstance(frame, Refused):
                raise FrameError(f"{type(frame).__name__} from a side that has nothing to say yet")
            self.close(f"refused by the other side: {clean_reason(frame.reason)}")

    def _on_handshake_timeout(self) -> None:
        if self.peer is None:
            self.abort("no handshake in time")

    def _fail_ready(self, error: Exception) -> None:
        if not self.ready.done():
            self.ready.set_exception(error)
            self.ready.exception()  # marks it as seen: on the listening side nobody awaits it


async def connect(
    identity: Identity, target: str, address: tuple[str, int], purpose: Purpose, timing: Timing
) -> Connection:
    """Return a connection to node `target`, its handshake done. The host name is resolved now.

    Raises HandshakeRefused, FrameError, or OSError (among them ConnectionError and TimeoutError).
    """
    loop = asyncio.get_running_loop()
    connection = Connection(Connecting(identity, target, purpose), loop, timing)
    try:
        async with asyncio.timeout(timing.connect_ms / 1000):
            await _open(loop, connection, address, identity, timing)
    except ssl.SSLError as error:
        raise HandshakeRefused(in_words(error)) from error
    except UnicodeError as error:  # a host name that cannot be one
        raise OSError(f"{address[0]!r} is not a host name") from error
    try:
        await connection.ready
    except BaseException:
        connection.abort("the handshake failed")
        raise
    return connection


async def _open(
    loop: asyncio.AbstractEventLoop,
    connection: Connection,
    address: tuple[str, int],
    identity: Identity,
    timing: Timing,
) -> None:
    if identity.tls is None:
        await loop.create_connection(lambda: connection, *address)
        return
    # No name is sent: it proves nothing here, and TLS would refuse with a ValueError what DNS only does not find.
    await loop.create_connection(
        lambda: connection, *address, ssl=identity.tls.connecting, server_hostname="",
        ssl_handshake_timeout=timing.connect_ms / 1000, ssl_shutdown_timeout=timing.dead_ms / 1000,
    )  # fmt: skip


def format_address(address: tuple[str, int]) -> str:
    """Return `host:port`, with brackets around an IPv6 address."""
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def watch_task(task: asyncio.Task[None]) -> asyncio.Task[None]:
    """Return the task; an exception that ends it goes to the loop's exception handler, and at once."""

    def on_done(task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            context = {"message": "a task of the peer links ended", "exception": error, "task": task}
            task.get_loop().call_exception_handler(context)

    task.add_done_callback(on_done)
    return task


def _set_socket_options(sock: Any, dead_ms: int) -> None:
    """Let small messages leave at once, a dead peer be noticed, and the kernel hold little that others cannot pass."""
    seconds = max(1, dead_ms // 3000)
    options = [
        (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
        (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
        (socket.IPPROTO_TCP, getattr(socket, "TCP_KEEPIDLE", None), seconds),
        (socket.IPPROTO_TCP, getattr(socket, "TCP_KEEPINTVL", None), seconds),
        (socket.IPPROTO_TCP, getattr(socket, "TCP_KEEPCNT", None), 3),
        (socket.IPPROTO_TCP, _TCP_USER_TIMEOUT, dead_ms),
        (socket.IPPROTO_TCP, _TCP_NOTSENT_LOWAT, _WRITE_HIGH_BYTES),
    ]
    for level, option, value in options:
        if option is not None:
            with contextlib.suppress(OSError):  # each is an improvement, none a condition
                sock.setsockopt(level, option, value)


def _ignore(frames: Sequence[Any]) -> None:
    pass


def _nothing() -> None:
    pass
