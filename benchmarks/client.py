"""A small blocking RESP client: what the benchmarks ask of a server outside the measured load."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterable, Sequence
from typing import Any

import hiredis

Argument = bytes | str | int


def encode(arguments: Sequence[Argument]) -> bytes:
    """Return one request as RESP."""
    pack: Any = hiredis.pack_command  # its published type allows one argument only
    packed: bytes = pack(tuple(arguments))
    return packed


class ErrorReply(Exception):
    """The server answered with an error."""


class Client:
    """One connection. Every call waits at most `timeout_s` and raises OSError when the connection is lost."""

    def __init__(self, port: int, timeout_s: float = 10.0) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=timeout_s)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._reader = hiredis.Reader()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()

    def call(self, *arguments: Argument) -> Any:
        """Return the reply of one command; raises ErrorReply."""
        return self.pipeline([arguments])[0]

    def pipeline(self, commands: Iterable[Sequence[Argument]]) -> list[Any]:
        """Return the replies of several commands sent at once; raises ErrorReply for the first error among them."""
        packed = [encode(command) for command in commands]
        self._socket.sendall(b"".join(packed))
        replies: list[Any] = []
        while len(replies) < len(packed):
            reply = self._reader.gets()
            if reply is False:
                received = self._socket.recv(1 << 18)
                if not received:
                    raise ConnectionError("the server closed the connection")
                self._reader.feed(received)
            else:
                replies.append(reply)
        for reply in replies:
            if isinstance(reply, hiredis.ReplyError):
                raise ErrorReply(str(reply))
        return replies

    def info(self, section: str) -> dict[str, str]:
        """Return one section of INFO as field → value."""
        text = self.call("INFO", section)
        lines = (text if isinstance(text, bytes) else str(text).encode()).decode().splitlines()
        return dict(line.split(":", 1) for line in lines if ":" in line and not line.startswith("#"))


def wait_for(what: str, attempt: Any, timeout_s: float = 30.0, pause_s: float = 0.02) -> Any:
    """Call `attempt` until it returns something true and return that; refusals and errors count as not yet.

    Raises TimeoutError naming `what` and the last error.
    """
    deadline = time.monotonic() + timeout_s
    last: Exception | None = None
    while time.monotonic() < deadline:
        try:
            result = attempt()
        except (OSError, ErrorReply) as error:
            last = error
        else:
            if result:
                return result
        time.sleep(pause_s)
    raise TimeoutError(f"{what}: not within {timeout_s:.0f} s" + (f" ({last})" if last else ""))


def preload(port: int, keys: int, value_bytes: int) -> None:
    """Write redis-benchmark's keys (`key:000000000000` …) by MSET, in pipelines of bounded bytes."""
    value = b"x" * value_bytes
    per_command = 100
    per_pipeline = max(1, min(10, (1 << 20) // (per_command * (value_bytes + 32))))
    with Client(port, timeout_s=60.0) as client:
        commands: list[list[Argument]] = []
        for first in range(0, keys, per_command):
            command: list[Argument] = ["MSET"]
            for number in range(first, min(first + per_command, keys)):
                command += (f"key:{number:012d}", value)
            commands.append(command)
            if len(commands) == per_pipeline:
                client.pipeline(commands)
                commands = []
        if commands:
            client.pipeline(commands)
