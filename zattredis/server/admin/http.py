"""HTTP/1.1 as far as the admin port needs it: one request at a time on a connection, everything bounded (RFC 9112)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

HEAD_BYTES_MAX: Final = 8 << 10
BODY_BYTES_MAX: Final = 4 << 10
CONNECTIONS_MAX: Final = 64
REQUEST_S: Final = 10.0
"""From the first byte of a request, or from the answer to the one before, to its last byte."""
SEND_S: Final = 30.0
"""How long a client may take to read an answer."""
_REASONS: Final = {
    200: "OK", 400: "Bad Request", 401: "Unauthorized", 403: "Forbidden", 404: "Not Found", 405: "Method Not Allowed",
    408: "Request Timeout", 409: "Conflict", 413: "Content Too Large", 415: "Unsupported Media Type",
    421: "Misdirected Request", 431: "Request Header Fields Too Large", 500: "Internal Server Error",
    501: "Not Implemented", 503: "Service Unavailable", 505: "HTTP Version Not Supported",
}  # fmt: skip
_ALWAYS: Final = (
    "Cache-Control: no-store\r\n"
    "Content-Security-Policy: default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'\r\n"
    "Cross-Origin-Opener-Policy: same-origin\r\n"
    "Cross-Origin-Resource-Policy: same-origin\r\n"
    "Referrer-Policy: no-referrer\r\n"
    "X-Content-Type-Options: nosniff\r\n"
    "X-Frame-Options: DENY\r\n"
)
_TOKEN: Final = frozenset(b"!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz")


@dataclass(frozen=True, slots=True)
class Request:
    """A whole request. Header names are in lower case; `path` is without the query; `peer` is the socket's name."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes = b""
    peer: Any = None


@dataclass(frozen=True, slots=True)
class Response:
    """An answer."""

    status: int
    body: bytes
    content_type: str = "text/plain; charset=utf-8"
    headers: Mapping[str, str] = field(default_factory=dict)


class BadRequest(Exception):
    """The bytes are no request that is served here; the connection ends with this answer."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.response = Response(status, reason.encode() + b"\n")


Handler = Callable[[Request], Awaitable[Response]]


def parse_head(head: bytes) -> tuple[str, str, str, dict[str, str]]:
    """Return method, path, version and headers of a request's head, its empty line not included. Raises BadRequest."""
    first, *lines = head.split(b"\r\n")
    words = first.split(b" ")
    if len(words) != 3 or not words[0] or not _TOKEN.issuperset(words[0]) or not first.isascii():
        raise BadRequest(400, "this is no HTTP request")
    method, target, version = (word.decode() for word in words)
    if version not in ("HTTP/1.1", "HTTP/1.0"):
        raise BadRequest(505, "HTTP/1.1 is spoken here")
    if not target.startswith("/") or any(not 32 < ord(c) < 127 for c in target):
        raise BadRequest(400, "the target must be a path")
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(b":")
        if not colon or not name or not _TOKEN.issuperset(name) or b"\0" in value or b"\r" in value or b"\n" in value:
            raise BadRequest(400, "a header line is malformed")
        key = name.decode().lower()
        if key in headers and key in ("host", "content-length", "authorization", "origin", "transfer-encoding"):
            raise BadRequest(400, f"{key} is there twice")
        headers[key] = value.strip(b" \t").decode("latin-1")
    if "transfer-encoding" in headers:
        raise BadRequest(501, "bodies must come with a Content-Length")
    if version == "HTTP/1.1" and "host" not in headers:
        raise BadRequest(400, "Host is missing")
    return method, target.partition("?")[0], version, headers


def body_length(headers: Mapping[str, str]) -> int:
    """Return how many bytes of body follow the head. Raises BadRequest."""
    text = headers.get("content-length", "0")
    if not (text.isascii() and text.isdigit()):
        raise BadRequest(400, "Content-Length is no number")
    if len(text) > 9 or int(text) > BODY_BYTES_MAX:
        raise BadRequest(413, f"a body may have {BODY_BYTES_MAX} bytes")
    return int(text)


class HttpConnection(asyncio.Protocol):
    """One client. `connections` is the set of all, which it enters and leaves."""

    __slots__ = (
        "_buffer", "_close_after", "_connections", "_full", "_handler", "_next", "_parted", "_task", "_timer",
        "transport",
    )  # fmt: skip

    def __init__(self, handler: Handler, connections: set[HttpConnection]) -> None:
        self._handler = handler
        self._connections = connections
        self._buffer = bytearray()
        self._next: tuple[str, str, str, dict[str, str]] | None = None
        self._task: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._close_after = False
        self._parted = False
        self._full = False  # answers wait to be read: no more are made
        self.transport: asyncio.Transport = None  # type: ignore[assignment]

    # -- asyncio -----------------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]
        if len(self._connections) >= CONNECTIONS_MAX:
            self._parted = self._close_after = True
            self._send(BadRequest(503, "too many connections to the admin port").response)
            transport.close()
            return
        self._connections.add(self)
        self._set_timer(REQUEST_S, self._late)

    def connection_lost(self, exc: Exception | None) -> None:
        self._connections.discard(self)
        self._set_timer(None)
        if self._task is not None:
            self._task.cancel()

    def eof_received(self) -> bool:
        self._close_after = True
        return self._task is not None  # what was asked is still answered

    def data_received(self, data: bytes) -> None:
        if self._parted:
            return
        self._buffer += data
        if self._task is None and not self._full:
            self._take()
        elif len(self._buffer) > HEAD_BYTES_MAX + BODY_BYTES_MAX:
            self.transport.pause_reading()

    def pause_writing(self) -> None:
        self._full = True

    def resume_writing(self) -> None:
        self._full = False
        if self._task is None and not self._parted:
            self._go_on()

    # -- requests ----------------------------------------------------------------------------------------------------

    def _take(self) -> None:
        """Look for a whole request in the buffer, and have it answered."""
        try:
            request = self._parse()
        except BadRequest as error:
            self._refuse(error)
            return
        if request is not None:
            self._set_timer(None)
            self._task = asyncio.get_running_loop().create_task(self._answer(request))
            self._task.add_done_callback(self._answered)

    def _parse(self) -> Request | None:
        buffer = self._buffer
        if self._next is None:
            while buffer.startswith(b"\r\n"):
                del buffer[:2]
            end = buffer.find(b"\r\n\r\n", 0, HEAD_BYTES_MAX + 4)
            if end < 0:
                if len(buffer) > HEAD_BYTES_MAX:
                    raise BadRequest(431, f"a request's head may have {HEAD_BYTES_MAX} bytes")
                return None
            self._next = parse_head(bytes(buffer[:end]))
            del buffer[: end + 4]
        method, path, version, headers = self._next
        length = body_length(headers)
        if len(buffer) < length:
            if headers.get("expect", "").lower() == "100-continue":
                self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
                headers.pop("expect")
            return None
        body = bytes(buffer[:length])
        del buffer[:length]
        self._next = None
        wish = headers.get("connection", "").lower()
        self._close_after = "close" in wish or (version == "HTTP/1.0" and "keep-alive" not in wish)
        return Request(method, path, headers, body, self.transport.get_extra_info("peername"))

    async def _answer(self, request: Request) -> None:
        response = await self._handler(request)
        self._send(response, with_body=request.method != "HEAD")

    def _answered(self, task: asyncio.Task[None]) -> None:
        self._task = None
        if task.cancelled():
            self.transport.close()
            return
        error = task.exception()
        if error is not None:
            self.transport.abort()
            asyncio.get_running_loop().call_exception_handler(
                {"message": "the admin port failed", "exception": error}
            )
            return
        if self._close_after:
            self._part()
        elif self._full:
            self._set_timer(SEND_S, self.transport.abort)
        else:
            self._go_on()

    def _go_on(self) -> None:
        """All before it is answered, and read but for a little: look at the next request."""
        self._set_timer(REQUEST_S, self._late)
        self.transport.resume_reading()
        if self._buffer:
            self._take()

    def _send(self, response: Response, *, with_body: bool = True) -> None:
        more = "".join([f"{name}: {value}\r\n" for name, value in response.headers.items()])
        head = (
            f"HTTP/1.1 {response.status} {_REASONS[response.status]}\r\n"
            f"Content-Type: {response.content_type}\r\n"
            f"Content-Length: {len(response.body)}\r\n"
            f"{more}{_ALWAYS}Connection: {'close' if self._close_after else 'keep-alive'}\r\n\r\n"
        )
        self.transport.write(head.encode("latin-1") + (response.body if with_body else b""))

    # -- the end -----------------------------------------------------------------------------------------------------

    def _refuse(self, error: BadRequest) -> None:
        self._close_after = True
        self._send(error.response)
        self._part()

    def _part(self) -> None:
        """End our side; what the client still sends is dropped until it ends its own or its time is up."""
        self._parted = True
        self._buffer.clear()
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self._set_timer(SEND_S, self.transport.abort)

    def _late(self) -> None:
        if self._buffer or self._next is not None:
            self._refuse(BadRequest(408, "the request took too long"))
        else:
            self.transport.close()

    def _set_timer(self, seconds: float | None, function: Callable[[], None] | None = None) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if seconds is not None and function is not None:
            self._timer = asyncio.get_running_loop().call_later(seconds, function)

    def close(self) -> None:
        """Close now."""
        self.transport.abort()
