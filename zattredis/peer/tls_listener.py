"""Listens where only TLS is spoken; used for the peer port and for clients.

A stranger costs a socket and a timer until its first byte is there, and a TLS object only if that begins a handshake;
who speaks something else is told so in its own protocol if possible, and closed. Only once TLS stands is a protocol
made, so that what is above never sees a byte of a connection that is not encrypted.

asyncio's own TLS servers (`create_server(ssl=…)`) make the TLS object at once, do not bound the number of strangers and
tell nobody who failed and why; hence this.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
import ssl
from collections.abc import Callable
from typing import Any, Final

from zattredis.errors import FatalError
from zattredis.observability.events import get_logger
from zattredis.peer.tls import in_words

TLS_HANDSHAKE: Final = 0x16
"""First byte of every TLS connection (RFC 8446, 5.1)."""

_ACCEPTED_AT_ONCE: Final = 64
_PEEKED: Final = 8
_NO_FILES: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
_AGAIN_S: Final = 0.5

_log = get_logger(room="tls")


class TlsListener:
    """Owns listening sockets and every connection on them whose TLS is not set up.

    `context()` is asked at each connection, so that certificates can change; `make()` returns the protocol of one that
    has come through. `answer(first bytes)` is what somebody who does not speak TLS is sent. `on_refused(host, reason)`.
    At most `strangers_max` connections are on their way in. For a further one another has to go: the one that has said
    nothing for longest, else the oldest in its handshake, so that who only holds connections keeps nobody out.
    """

    __slots__ = (
        "_answer", "_closed", "_context", "_handshake_s", "_loop", "_make", "_on_refused", "_shaking", "_silent",
        "_sockets", "_strangers_max", "_tasks",
    )  # fmt: skip

    def __init__(
        self,
        *,
        context: Callable[[], ssl.SSLContext],
        make: Callable[[], asyncio.Protocol],
        answer: Callable[[bytes], bytes],
        on_refused: Callable[[str, str], None],
        handshake_s: float,
        strangers_max: int,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._context = context
        self._make = make
        self._answer = answer
        self._on_refused = on_refused
        self._handshake_s = handshake_s
        self._strangers_max = strangers_max
        self._sockets: list[socket.socket] = []
        self._silent: dict[socket.socket, tuple[str, asyncio.TimerHandle]] = {}
        self._shaking: dict[asyncio.Task[None], str] = {}  # handshakes under way, the oldest first, and their hosts
        self._tasks: set[asyncio.Task[None]] = set()  # those, and some that are given up and about to end
        self._closed = False

    async def start(self, host: str, port: int, backlog: int) -> None:
        """Listen on all addresses of `host`. Raises OSError."""
        found = await self._loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        try:
            for family, kind, protocol, _, address in dict.fromkeys(found):
                sock = socket.socket(family, kind, protocol)
                self._sockets.append(sock)
                sock.setblocking(False)
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                if family == socket.AF_INET6:
                    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                sock.bind(address)
                sock.listen(backlog)
        except OSError:
            self.close()
            raise
        for sock in self._sockets:
            self._loop.add_reader(sock, self._accept, sock)

    @property
    def port(self) -> int:
        """The port listened on."""
        return int(self._sockets[0].getsockname()[1])

    @property
    def strangers(self) -> int:
        """Connections on their way in."""
        return len(self._silent) + len(self._shaking)

    def close(self) -> None:
        """Stop listening, and end every connection whose TLS is not set up."""
        self._closed = True
        for sock in self._sockets:
            self._loop.remove_reader(sock)
            sock.close()
        self._sockets.clear()
        for sock in [*self._silent]:
            self._drop(sock)
        for task in self._tasks:
            task.cancel()

    async def wait_closed(self) -> None:
        """Return once nothing is left of what `close` ended."""
        if self._tasks:
            await asyncio.wait([*self._tasks])

    # -- arrivals ----------------------------------------------------------------------------------------------------

    def _accept(self, listening: socket.socket) -> None:
        for _ in range(_ACCEPTED_AT_ONCE):
            try:
                sock, address = listening.accept()
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                if error.errno in _NO_FILES:  # the connection stays in the kernel's queue and would wake us for ever
                    _log.error("cannot_accept", error=error.strerror)
                    self._loop.remove_reader(listening)
                    self._loop.call_later(_AGAIN_S, self._listen_again, listening)
                return  # anything else is the trouble of that one connection
            sock.setblocking(False)
            host = str(address[0])
            if self.strangers >= self._strangers_max:
                self._make_room()
            timer = self._loop.call_later(self._handshake_s, self._give_up, sock, "no TLS handshake in time")
            self._silent[sock] = (host, timer)
            self._loop.add_reader(sock, self._first_bytes, sock)

    def _listen_again(self, listening: socket.socket) -> None:
        if listening in self._sockets:
            self._loop.add_reader(listening, self._accept, listening)

    def _make_room(self) -> None:
        reason = "too many connections without a handshake"
        if self._silent:
            self._give_up(next(iter(self._silent)), reason)
        elif self._shaking:
            oldest = next(iter(self._shaking))
            self._on_refused(self._shaking.pop(oldest), reason)
            oldest.cancel()

    def _drop(self, sock: socket.socket) -> str:
        host, timer = self._silent.pop(sock)
        timer.cancel()
        self._loop.remove_reader(sock)
        sock.close()
        return host

    def _give_up(self, sock: socket.socket, reason: str) -> None:
        if sock in self._silent:
            self._on_refused(self._drop(sock), reason)

    def _first_bytes(self, sock: socket.socket) -> None:
        """Look at how a connection begins, and leave it in the kernel for TLS to read."""
        try:
            data = sock.recv(_PEEKED, socket.MSG_PEEK)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self._give_up(sock, error.strerror or "broken before the handshake")
            return
        if not data:
            self._give_up(sock, "closed before the handshake")
            return
        if data[0] != TLS_HANDSHAKE:
            with contextlib.suppress(OSError):
                sock.recv(65_536)  # unread, they would reset the connection under our answer
                sock.send(self._answer(data))
                sock.shutdown(socket.SHUT_WR)
            self._give_up(sock, "plain bytes came, and this port speaks TLS only")
            return
        host, timer = self._silent.pop(sock)
        timer.cancel()
        self._loop.remove_reader(sock)
        task = self._loop.create_task(self._shake(sock, host))
        self._tasks.add(task)
        self._shaking[task] = host
        task.add_done_callback(self._shaken)

    def _shaken(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._shaking.pop(task, None)

    async def _shake(self, sock: socket.socket, host: str) -> None:
        try:
            async with asyncio.timeout(self._handshake_s):
                await self._loop.connect_accepted_socket(
                    lambda: _Late(self._make), sock, ssl=self._context(), ssl_handshake_timeout=2 * self._handshake_s,
                    ssl_shutdown_timeout=self._handshake_s,
                )  # fmt: skip
        except TimeoutError:
            self._on_refused(host, "no TLS handshake in time")
        except OSError as error:
            self._on_refused(host, in_words(error) if error.args else "closed during the handshake")


class _Late(asyncio.Protocol):
    """Stands in until TLS is set up: asyncio wants a protocol before, and never tells it of a handshake that fails."""

    def __init__(self, make: Callable[[], asyncio.Protocol]) -> None:
        self._make = make

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        protocol = self._make()
        transport.set_protocol(protocol)
        protocol.connection_made(transport)


class Refusals:
    """Tells who was refused and why, once per host and reason: a stranger may try for as long as it likes."""

    __slots__ = ("_event", "_told")

    KEPT: Final = 1000

    def __init__(self, event: str) -> None:
        self._event = event
        self._told: dict[str, str] = {}

    def tell(self, host: str, reason: str, **more: Any) -> None:
        """Log it, unless it is what was logged last for this host."""
        if self._told.get(host) == reason:
            return
        if len(self._told) >= self.KEPT:
            self._told.clear()
        self._told[host] = reason
        _log.warning(self._event, host=host, reason=reason, **more)


def cannot_listen(what: str, host: str, port: int, error: OSError) -> FatalError:
    """Return what a node ends with that cannot have a port."""
    where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    return FatalError(f"cannot listen for {what} on {where}: {error.strerror or error}")


