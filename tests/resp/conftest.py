"""redis-server processes to compare with."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator

import pytest

from tests.support.redis_server import RedisServer

PASSWORD = b"open sesame"


def converse(port: int, data: bytes) -> bytes:
    """Send `data` and the end of the stream; return all that the server says before it closes."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        replies = bytearray()
        while piece := connection.recv(65536):
            replies += piece
    return bytes(replies)


def converse_with_redis(port: int, data: bytes) -> bytes:
    """Do as `converse`, and return what redis-server says before it closes, be it by a reset.

    It closes with bytes unread where a line is too long, and then the system sends a reset behind its reply. How many
    bytes are left over depends on the sizes in which its malloc hands out memory, and so on the version of jemalloc.
    """
    replies = bytearray()
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection, contextlib.suppress(ConnectionError):
        with contextlib.suppress(OSError):
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
        while piece := connection.recv(65536):
            replies += piece
    return bytes(replies)


@pytest.fixture(scope="session")
def redis_port() -> Iterator[int]:
    """A redis-server that needs no password."""
    with RedisServer() as server:
        yield server.port


@pytest.fixture(scope="session")
def guarded_redis_port() -> Iterator[int]:
    """A redis-server that wants PASSWORD."""
    with RedisServer("--requirepass", PASSWORD.decode()) as server:
        yield server.port
