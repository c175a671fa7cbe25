"""redis-server processes to compare with."""

from __future__ import annotations

import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.cluster import free_port, wait_until

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


def _answers(port: int) -> bool:
    try:
        return bool(converse(port, b"PING\r\n"))
    except OSError:
        return False


@contextmanager
def _redis_server(directory: Path, *arguments: str) -> Iterator[int]:
    program = shutil.which("redis-server")
    if program is None:
        pytest.skip("redis-server is not installed")
    port = free_port()
    command = [program, "--port", str(port), "--bind", "127.0.0.1", "--save", ""]
    command += ["--dir", str(directory), "--enable-debug-command", "yes", *arguments]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        wait_until(lambda: _answers(port), "redis-server answers")
        yield port
    finally:
        process.kill()
        process.wait()


@pytest.fixture(scope="session")
def redis_port() -> Iterator[int]:
    """A redis-server that needs no password."""
    with tempfile.TemporaryDirectory() as directory, _redis_server(Path(directory)) as port:
        yield port


@pytest.fixture(scope="session")
def guarded_redis_port() -> Iterator[int]:
    """A redis-server that wants PASSWORD."""
    password = ("--requirepass", PASSWORD.decode())
    with tempfile.TemporaryDirectory() as directory, _redis_server(Path(directory), *password) as port:
        yield port
