"""One client's connection: bytes in, requests to the dispatcher, replies out in order (DESIGN §2).

An asyncio.Protocol on uvloop, never streams. Replies of one tick leave in one write. A client that does not read its
replies is not read from either; one whose unsent replies pass the bound is closed.
"""

from __future__ import annotations

import asyncio
import socket
from collections import OrderedDict, deque
from typing import TYPE_CHECKING, Any

from zattredis.commands.context import LocalContext
from zattredis.resp.parser import ProtocolLimits, RequestParser
from zattredis.server.clients import ClientState
from zattredis.server.units import DONE, Batch, Unit

if TYPE_CHECKING:
    from zattredis.server.dispatcher import Dispatcher

WRITE_BUFFER_HIGH = 256 << 10
WRITE_BUFFER_HIGH_BEFORE_AUTH = 32 << 10
"""Unread replies for which a client that has not authenticated is closed: it is owed nothing but errors."""
BACKLOG_MAX = 1024
"""Requests held back, above which the connection is not read from."""
LARGE_READ = 64 << 10
"""After so much from one client others have their turn: the loop would go on for 32 such reads, of 256 KiB each."""
UNREAD_S = 5.0
"""A client with more unread than the bound allows is closed once it has read nothing at all for so long. Until then it
may be a slow reader of a long reply."""


class ClientConnection(asyncio.Protocol):
    """Transport, parser and unanswered units of one client. `units` holds them in the order of arrival."""

    __slots__ = (
        "_dispatcher", "_error", "_owed_bytes", "_paused_by_peer", "_paused_by_us", "_stopping", "backlog", "closed",
        "held", "last_batch", "local", "out", "out_bytes", "parser", "put_off", "queued_for_flush", "reads",
        "soft_since", "state", "transport", "units",
    )  # fmt: skip

    def __init__(self, dispatcher: Dispatcher) -> None:
        self._dispatcher = dispatcher
        self._error: bytes | None = None
        self._paused_by_us = False
        self._stopping = False
        self._owed_bytes = 0
        self._paused_by_peer = False
        self.closed = False
        self.held = False  # an answer must come before the next request may be looked at
        self.backlog: deque[list[bytes]] = deque()
        self.units: deque[Unit] = deque()
        self.reads: list[Unit] = []  # unanswered reads that a write may still take along
        self.put_off: OrderedDict[Unit, None] | None = None  # reads that no later one may pass (see `Reads`)
        self.last_batch: Batch | None = None
        self.out: list[bytes] = []
        self.out_bytes = 0
        self.queued_for_flush = False
        self.soft_since: float | None = None  # more than the soft bound is unread since then
        self.transport: asyncio.Transport = None  # type: ignore[assignment]
        self.state: ClientState = None  # type: ignore[assignment]
        self.local: LocalContext = None  # type: ignore[assignment]
        self.parser: RequestParser = None  # type: ignore[assignment]

    # -- asyncio -----------------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport) or hasattr(transport, "write")
        self.transport = transport  # type: ignore[assignment]
        dispatcher = self._dispatcher
        sock: socket.socket | None = transport.get_extra_info("socket")
        self.state = dispatcher.new_client(
            self,
            _address(transport.get_extra_info("peername")),
            _address(transport.get_extra_info("sockname")),
            -1 if sock is None else sock.fileno(),
        )
        self.state.tls = transport.get_extra_info("ssl_object") is not None
        self.local = LocalContext(self.state, dispatcher.server, [])
        self.parser = RequestParser(dispatcher.limits(self.state.authenticated))
        self._set_write_buffer()
        refusal = dispatcher.refuse_connection(transport.get_extra_info("peername"))
        if refusal is not None:
            self.transport.write(refusal)
            self._part()
            return
        if sock is not None and dispatcher.keepalive_s and sock.family != socket.AF_UNIX:
            keep_alive(sock, dispatcher.keepalive_s)
        dispatcher.connected(self)

    def data_received(self, data: bytes) -> None:
        if self.closed or self._error is not None:
            return
        state, parser = self.state, self.parser
        if len(data) >= LARGE_READ and state.authenticated and not self._paused_by_us:
            self._pause()
            self._dispatcher.call_soon(self._rested)
        state.read_bytes += len(data)
        self._dispatcher.count_input(len(data))
        requests = parser.feed(data)
        if requests:
            if self.held or self.backlog:
                self.backlog.extend(requests)
                if len(self.backlog) > BACKLOG_MAX or not state.authenticated:
                    self._pause()
            else:
                self._dispatcher.dispatch(self, requests)
        if parser.settled:
            return
        if not state.authenticated:
            self._dispatcher.held_bytes.note(self)
        if parser.resumable:
            self._parse_on()
        if self.parser.error is not None:
            if self.held and not state.authenticated:  # an AUTH that is being looked at may yet allow it
                self._pause()
                return
            self._error = self.parser.error
            self.flush_soon()
        elif self.parser.buffered_bytes > self._dispatcher.query_bytes_max:
            self.close("query buffer limit reached")

    def _parse_on(self) -> None:
        """Go on with bytes that other limits refused, which an AUTH has lifted."""
        while self.parser.resumable and not self.held and not self.closed:
            requests = self.parser.feed(b"")
            if requests:
                self._dispatcher.dispatch(self, requests)

    def set_limits(self, limits: ProtocolLimits) -> None:
        """The client has authenticated, or is a stranger again: put these bounds in force."""
        self.parser.limits = limits
        self._set_write_buffer()
        self._dispatcher.held_bytes.forget(self)

    @property
    def held_bytes(self) -> int:
        """Bytes kept of a request that is not complete."""
        return 0 if self.closed else self.parser.buffered_bytes

    def _set_write_buffer(self) -> None:
        high = WRITE_BUFFER_HIGH if self.state.authenticated else WRITE_BUFFER_HIGH_BEFORE_AUTH
        self.transport.set_write_buffer_limits(high=high)

    def eof_received(self) -> bool | None:
        """The client sends no more; what it sent is carried out, as Redis does, but nobody waits for replies."""
        return None

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True
        self._dispatcher.held_bytes.forget(self)
        self._dispatcher.disconnected(self)
        self.backlog.clear()
        self.out.clear()
        self.parser.forget()  # what is left of us is a circle, which the collector finds much later

    def pause_writing(self) -> None:
        """The client does not read: do not read from it either."""
        self._paused_by_peer = True
        if not self.state.authenticated:
            self.close("unread replies before authentication")
            return
        self._pause()
        self._watch_unread()

    def owes(self, size: int) -> None:
        """About `size` bytes of replies to this client are not even made, because it does not read."""
        self._owed_bytes = size
        self._watch_unread()

    @property
    def full(self) -> bool:
        """Whether so much is unread that no more replies should be made for now."""
        return self._paused_by_peer or self.transport.get_write_buffer_size() > WRITE_BUFFER_HIGH

    def _unread(self) -> int:
        return self.transport.get_write_buffer_size() + self._owed_bytes

    def _watch_unread(self) -> None:
        unread = self._unread()
        if unread > self._dispatcher.output_bytes_max:
            asyncio.get_running_loop().call_later(UNREAD_S, self._close_if_unread, unread)

        if self._dispatcher.output_soft[0] and self.soft_since is None:
            self.soft_since = asyncio.get_running_loop().time()
            self._watch_soft()

    def _watch_soft(self) -> None:
        """Close a client that has had more than the soft bound unread for too long, without a break."""
        soft, seconds = self._dispatcher.output_soft
        loop = asyncio.get_running_loop()
        if self.closed or not self._paused_by_peer or not soft or self.soft_since is None:
            self.soft_since = None
            return
        if self._unread() <= soft:
            self.soft_since = loop.time()
        elif loop.time() - self.soft_since >= seconds:
            self._dispatcher.output_exceeded(self)
            self.close("output buffer soft limit reached")
            return
        loop.call_later(min(max(seconds, 0.1), 1.0), self._watch_soft)

    def _close_if_unread(self, before: int) -> None:
        """The transport pauses us after the write that went too far, so that no later write may notice it."""
        if self.closed or not self._paused_by_peer:
            return
        if self._unread() >= before:
            self._dispatcher.output_exceeded(self)
            self.close("output buffer limit reached")
        else:
            self._watch_unread()

    def resume_writing(self) -> None:
        self._paused_by_peer = False
        self._owed_bytes = 0
        self._dispatcher.reads_again()
        self.go_on()

    def stop_reading(self) -> None:
        """The node is ending: what was received is still answered, nothing more is taken."""
        self._stopping = True
        self._pause()

    def _pause(self) -> None:
        if not self._paused_by_us and not self.closed:
            self._paused_by_us = True
            self.transport.pause_reading()

    def _resume(self) -> None:
        if (
            self._paused_by_us
            and not self._stopping
            and not self._paused_by_peer
            and not self.closed
            and len(self.backlog) <= BACKLOG_MAX
        ):
            self._paused_by_us = False
            self.transport.resume_reading()

    def _rested(self) -> None:
        """Others have had their turn; a stranger whose requests are held waits on, for `go_on`."""
        if self.state.authenticated or not (self.held or self.backlog):
            self._resume()

    # -- order -------------------------------------------------------------------------------------------------------

    @property
    def answered(self) -> bool:
        """Whether every request looked at so far has its reply."""
        return not self.units

    @property
    def choked(self) -> bool:
        """Whether the client leaves its replies unread."""
        return self._paused_by_peer

    def hold(self) -> None:
        """Look at no further request until `release`."""
        self.held = True

    def release(self) -> None:
        """Go on with the requests that were held back."""
        self.held = False
        self.go_on()

    def go_on(self) -> None:
        """Dispatch the backlog, as far as it goes."""
        if self.held or self.closed:
            return
        if self.backlog and not self._paused_by_peer:
            requests = list(self.backlog)
            self.backlog.clear()
            self._dispatcher.dispatch(self, requests)
        if self.parser.resumable or (self.parser.error is not None and self._error is None):
            self._parse_on()
            if not self.held:
                self._error = self.parser.error
        self._resume()
        if self._error is not None:
            self.flush_soon()

    def push_back(self, requests: list[list[bytes]], start: int) -> None:
        """Put requests that cannot be looked at yet in front of the backlog."""
        self.backlog.extendleft(reversed(requests[start:]))
        if len(self.backlog) > BACKLOG_MAX:
            self._pause()

    def add_behind(self, unit: Unit, rest: Unit) -> None:
        """Let `rest`, split off from a run of reads, be answered right behind it; a write may take it along."""
        self.units.insert(self.units.index(unit) + 1, rest)
        self.reads.append(rest)

    def unit_done(self, unit: Unit) -> None:
        """A unit has its reply: send all that are ready, in order."""
        units = self.units
        if not units or units[0] is not unit:
            return
        while units and units[0].state == DONE:
            reply = units.popleft().reply
            if reply:  # `_append` written out: every request passes here
                self.out.append(reply)
                self.out_bytes += len(reply)
        if not self.queued_for_flush:
            self.queued_for_flush = True
            self._dispatcher.flush_later(self)
        if not units:
            self.last_batch = None
            self.reads.clear()
            if self.held:
                self._dispatcher.answered(self)

    def is_next(self, unit: Unit) -> bool:
        """Return whether every reply before this unit's is made."""
        return bool(self.units) and self.units[0] is unit

    def send_part(self, part: bytes) -> None:
        """Send a part of the reply of the unit that is next, now."""
        self._append(part)
        self.flush()

    def add_reply(self, reply: bytes) -> None:
        """Add the reply of a command that was answered at once, behind whatever is unanswered."""
        if not self.units:
            self._append(reply)
            return
        unit = _Ready(self)
        unit.state = DONE
        unit.reply = reply
        self.units.append(unit)

    def _append(self, reply: bytes) -> None:
        if reply:
            self.out.append(reply)
            self.out_bytes += len(reply)
        if not self.queued_for_flush:
            self.flush_soon()

    # -- output ------------------------------------------------------------------------------------------------------

    def flush_soon(self) -> None:
        """Write what is ready at the end of this tick."""
        if not self.queued_for_flush:
            self.queued_for_flush = True
            self._dispatcher.flush_later(self)

    def flush(self) -> None:
        """Write what is ready now, in one go; close where that was the last."""
        self.queued_for_flush = False
        if self.closed:
            return
        out = self.out
        if out:
            data = out[0] if len(out) == 1 else b"".join(out)
            self.out = []
            self.out_bytes = 0
            self.state.written_bytes += len(data)
            self._dispatcher.count_output(len(data))
            self.transport.write(data)
            # One reply that is larger than the bound is let through; what piles up behind it is not.
            if (
                self._paused_by_peer
                and self.transport.get_write_buffer_size() - (len(data) if len(out) == 1 else 0)
                > self._dispatcher.output_bytes_max
            ):
                self._dispatcher.output_exceeded(self)
                self.close("output buffer limit reached")
                return
        if self.state.close_after_reply and not self.units:
            self._finish()
        elif self._error is not None and not self.units and not self.backlog and not self.held:
            if self._error:
                self.transport.write(b"-ERR " + self._error + b"\r\n")
            self._dispatcher.protocol_error(self, self._error)
            self._part()

    def _finish(self) -> None:
        self.closed = True
        self.backlog.clear()
        self.transport.close()

    def _part(self) -> None:
        """End our side, and drop what the client still sends until it ends its own or has had the time to read why.

        Closing with bytes of the client unread would reset the connection under it, and lose it what was written.
        """
        self.closed = True
        self.backlog.clear()
        if not self.transport.can_write_eof():  # TLS has no half-closed connections; closing sends what was written
            self.transport.close()
            return
        self.transport.write_eof()
        if self._paused_by_us:
            self.transport.resume_reading()
        self._dispatcher.close_later(self)

    @property
    def busy(self) -> bool:
        """Whether a request of this client is not answered yet."""
        return self.held or bool(self.units) or bool(self.backlog)

    def buffered(self) -> tuple[int, int]:
        """Return the bytes received and not yet executed, and those of replies not yet sent."""
        return self.parser.buffered_bytes, self.out_bytes + self.transport.get_write_buffer_size()

    def close(self, reason: str) -> None:
        """Close now, without sending what is still unsent."""
        if not self.closed:
            self.closed = True
            self.state.closed_because = self.state.closed_because or reason
            self.backlog.clear()
            self.transport.abort()


def keep_alive(sock: socket.socket, idle_s: int) -> None:
    """Have the kernel probe a silent client after `idle_s`, and give it up after three probes a third of that apart."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in (("TCP_KEEPIDLE", idle_s), ("TCP_KEEPINTVL", max(1, idle_s // 3)), ("TCP_KEEPCNT", 3)):
        if hasattr(socket, option):
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)


class _Ready(Unit):
    """Stands in `units` for a reply that was ready at once."""

    __slots__ = ()

    def __init__(self, connection: ClientConnection) -> None:
        super().__init__(connection, False)


def _address(name: Any) -> str:
    """Return `host:port` of a socket name; a Unix socket's is its path."""
    if isinstance(name, tuple):
        host, port = name[0], name[1]
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    return str(name or "")
