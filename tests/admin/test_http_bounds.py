"""The HTTP connection by itself: whatever arrives, in whatever pieces, it answers or ends, and in time."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import Awaitable, Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zattredis.server.admin import http
from zattredis.server.admin.http import BadRequest, HttpConnection, Request, Response, body_length, parse_head

TOKENS = st.sampled_from(
    [b"GET", b"/", b"HTTP/1.1", b"HTTP/1.0", b"Host", b"a", b":", b" ", b"\r\n", b"\r", b"\n", b"\0", b"Content-Length",
     b"7", b"-1", b"Transfer-Encoding", b"chunked", b"\xff", b"*1", b"\t"]
)  # fmt: skip


@given(st.one_of(st.binary(max_size=300), st.lists(TOKENS, max_size=30).map(b"".join)))
def test_a_head_is_read_or_refused(data: bytes) -> None:
    try:
        method, path, version, headers = parse_head(data)
        length = body_length(headers)
    except BadRequest:
        return
    assert method and path.startswith("/") and version.startswith("HTTP/1.")
    assert 0 <= length <= http.BODY_BYTES_MAX
    assert all(name == name.lower() and "\n" not in value and "\r" not in value for name, value in headers.items())


async def echo(request: Request) -> Response:
    return Response(200, f"{request.method} {request.path} ".encode() + request.body)


async def failing(_request: Request) -> Response:
    raise ValueError("a mistake")


def talk(
    steps: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
    handler: Callable[[Request], Awaitable[Response]] = echo,
) -> list[dict[str, object]]:
    """Connect to a server of this one protocol and do the steps; return what was reported to the loop."""
    reported: list[dict[str, object]] = []

    async def run() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _loop, context: reported.append(context))
        connections: set[HttpConnection] = set()
        server = await loop.create_server(lambda: HttpConnection(handler, connections), "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        await asyncio.wait_for(steps(reader, writer), 60)
        writer.close()
        server.close()
        for connection in list(connections):
            connection.close()

    asyncio.run(run())
    return reported


def test_a_request_that_does_not_come_to_an_end_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "REQUEST_S", 0.05)

    async def steps(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"GET / HTTP/1.1\r\nHost: a\r\nX: ")
        assert (await reader.read()).startswith(b"HTTP/1.1 408 ")

    assert talk(steps) == []


def test_a_silent_connection_is_closed_without_a_word(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "REQUEST_S", 0.05)

    async def steps(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert await reader.read() == b""

    assert talk(steps) == []


def test_bodies_arrive_in_pieces_and_after_a_continue() -> None:
    async def steps(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"POST /x?y HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\nExpect: 100-continue\r\n\r\n")
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(b"abc")
        await writer.drain()
        writer.write(b"defGET /next HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        rest = await reader.read()
        assert rest.count(b"HTTP/1.1 200 OK") == 2
        assert b"POST /x abcdef" in rest
        assert rest.endswith(b"GET /next ")

    assert talk(steps) == []


def test_a_client_that_goes_away_ends_what_it_asked_for() -> None:
    begun: list[asyncio.Event] = []
    ended: list[asyncio.Event] = []

    async def slow(_request: Request) -> Response:
        begun[0].set()
        try:
            await asyncio.Event().wait()
        finally:
            ended[0].set()
        raise AssertionError

    async def steps(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        begun.append(asyncio.Event())
        ended.append(asyncio.Event())
        writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        await begun[0].wait()
        linger = struct.pack("ii", 1, 0)  # so that closing resets the connection
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        writer.transport.abort()
        await ended[0].wait()

    assert talk(steps, slow) == []


def test_one_who_has_said_everything_is_answered_and_closed() -> None:
    async def steps(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"GET /half HTTP/1.1\r\nHost: a\r\n\r\n")
        writer.write_eof()
        assert (await reader.read()).endswith(b"GET /half ")

    assert talk(steps) == []


def test_more_than_may_wait_behind_a_request_is_not_read() -> None:
    async def steps(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        one = b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n"
        count = 5000  # far more than the bound on what is read ahead
        for number in range(count):
            writer.write(one % number)
        writer.write(b"GET /last HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        received = await reader.read()
        assert received.count(b"HTTP/1.1 200 OK") == count + 1
        assert received.endswith(b"GET /last ")

    assert talk(steps) == []


def test_answers_that_are_not_read_are_not_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "SEND_S", 0.5)
    made = 0

    async def much(_request: Request) -> Response:
        nonlocal made
        made += 1
        return Response(200, b"x" * 1_000_000)

    async def steps(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        reader._transport.pause_reading()  # type: ignore[attr-defined]
        for _ in range(200):
            writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        with contextlib.suppress(ConnectionError):  # it is cut off in the end
            while True:
                writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
                await writer.drain()
                await asyncio.sleep(0.05)

    assert talk(steps, much) == []
    assert 1 <= made <= 20  # what fits into the kernel's buffers, and one


def test_who_reads_slowly_gets_every_answer() -> None:
    async def much(_request: Request) -> Response:
        return Response(200, b"x" * 300_000)

    async def steps(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in range(29):
            writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        writer.write(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        received = b""
        while data := await reader.read(50_000):
            received += data
        assert received.count(b"HTTP/1.1 200 OK") == 30 and received.count(b"x" * 300_000) == 30

    assert talk(steps, much) == []


def test_a_mistake_of_ours_is_reported_and_not_answered() -> None:
    async def steps(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        with contextlib.suppress(ConnectionResetError):
            assert await reader.read() == b""

    reported = talk(steps, failing)
    assert [type(context["exception"]) for context in reported] == [ValueError]


def test_connections_are_bounded_and_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "CONNECTIONS_MAX", 3)
    monkeypatch.setattr(http, "REQUEST_S", 600)

    async def steps(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        address = writer.get_extra_info("peername")

        async def ask(one: tuple[asyncio.StreamReader, asyncio.StreamWriter]) -> bytes:
            one[1].write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            return await one[0].readuntil(b"\r\n")

        held = [(reader, writer), *[await asyncio.open_connection(*address) for _ in range(2)]]
        for one in held:
            assert await ask(one) == b"HTTP/1.1 200 OK\r\n"
        beyond = await asyncio.open_connection(*address)
        assert (await beyond[0].read()).startswith(b"HTTP/1.1 503 ")
        beyond[1].close()
        held[2][1].close()
        while True:  # until the server has seen that they are gone
            again = await asyncio.open_connection(*address)
            answer = await ask(again)
            again[1].close()
            if answer == b"HTTP/1.1 200 OK\r\n":
                break
        held[1][1].close()

    assert talk(steps) == []
