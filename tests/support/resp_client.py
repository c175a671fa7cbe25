"""A blocking RESP client that retries nothing and hides nothing, for tests that count what was executed."""

from __future__ import annotations

import socket
from collections.abc import Iterable, Sequence
from typing import Any

import hiredis

Argument = bytes | str | int


def encode_command(arguments: Sequence[Argument]) -> bytes:
    """The RESP array of bulk strings of one command."""
    parts = [b"*%d\r\n" % len(arguments)]
    for argument in arguments:
        data = argument if isinstance(argument, bytes) else str(argument).encode()
        parts.append(b"$%d\r\n%b\r\n" % (len(data), data))
    return b"".join(parts)


class RespClient:
    """One connection. Errors of the server are returned as hiredis.ReplyError values by `read`, raised by `call`."""

    def __init__(self, port: int, host: str = "127.0.0.1", timeout_s: float = 30.0) -> None:
        self.socket = socket.create_connection((host, port), timeout=timeout_s)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._reader = hiredis.Reader()

    def send(self, *arguments: Argument) -> None:
        self.socket.sendall(encode_command(arguments))

    def read(self) -> Any:
        """The next reply. Raises ConnectionError when the server closed, TimeoutError when it is silent."""
        while (reply := self._reader.gets()) is False:
            data = self.socket.recv(1 << 20)
            if not data:
                raise ConnectionError("closed by the server")
            self._reader.feed(data)
        return reply

    def call(self, *arguments: Argument) -> Any:
        """Send one command, return its reply; raises hiredis.ReplyError for an error reply."""
        self.send(*arguments)
        reply = self.read()
        if isinstance(reply, hiredis.ReplyError):
            raise reply
        return reply

    def try_call(self, *arguments: Argument) -> Any:
        """As `call`, but an error reply is returned as its text with a leading minus sign, in bytes."""
        self.send(*arguments)
        reply = self.read()
        return b"-" + str(reply).encode() if isinstance(reply, hiredis.ReplyError) else reply

    def pipeline(self, commands: Iterable[Sequence[Argument]]) -> list[Any]:
        """Send all in one piece, return all replies; error replies are values."""
        encoded = [encode_command(command) for command in commands]
        self.socket.sendall(b"".join(encoded))
        return [self.read() for _ in encoded]

    def info(self, section: str = "raft") -> dict[str, str]:
        """INFO of one section as a dictionary."""
        text = self.call("INFO", section).decode()
        pairs = (line.split(":", 1) for line in text.splitlines() if ":" in line)
        return {pair[0]: pair[1] for pair in pairs}

    def close(self) -> None:
        self.socket.close()

    def __enter__(self) -> RespClient:
        return self

    def __exit__(self, *rest: object) -> None:
        self.close()
