"""redis-server processes to compare with."""

from __future__ import annotations

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
