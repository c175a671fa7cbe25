"""The same command lines to two servers, and their replies compared byte for byte.

A `Backend` executes one command line and returns the reply as it is on the wire. `InProcess` runs handlers over a
`View` and a store in memory; `Connection` speaks to a live server, a real redis-server or a zattd alike.
"""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Callable, Generator, Sequence
from typing import Any, Protocol

import hiredis

import zattredis.commands
from tests.support.memory_store import MemoryStore
from tests.support.resp_client import Argument, encode_command
from zattredis.commands.context import Context, drain
from zattredis.commands.table import CommandSpec, Kind, resolve
from zattredis.errors import DefiniteError, ReplyError
from zattredis.keyspace.maintenance import apply_maintenance, encode_request
from zattredis.keyspace.registers import DATABASES, Registers
from zattredis.keyspace.view import View
from zattredis.resp.replies import Bulks, encode

assert zattredis.commands

_AGGREGATES = {0x2A: 1, 0x7E: 1, 0x3E: 1, 0x25: 2, 0x7C: 2}
_BULKS = b"$=!"
_PIPELINE = 100
_LONG_NUMBER = re.compile(rb"\d{3,}")


class Backend(Protocol):
    """Something that answers commands."""

    def execute(self, argv: Sequence[bytes]) -> bytes:
        """Return the raw reply to a command line."""
        ...

    def execute_all(self, lines: Sequence[Sequence[bytes]]) -> list[bytes]:
        """Return the raw replies to many, pipelined where that can be."""
        ...

    def use(self, resp: int) -> None:
        """Speak RESP2 or RESP3 from now on."""
        ...


class Connection:
    """A connection to a live server."""

    def __init__(self, port: int, host: str = "127.0.0.1") -> None:
        self._socket = socket.create_connection((host, port), timeout=300)
        self._file = self._socket.makefile("rb")

    def execute(self, argv: Sequence[bytes]) -> bytes:
        return self.execute_all([argv])[0]

    def execute_all(self, lines: Sequence[Sequence[bytes]]) -> list[bytes]:
        replies: list[bytes] = []
        for start in range(0, len(lines), _PIPELINE):
            piece = lines[start : start + _PIPELINE]
            self._socket.sendall(b"".join(encode_command(argv) for argv in piece))
            replies += [self._read() for _ in piece]
        return replies

    def use(self, resp: int) -> None:
        self.execute([b"HELLO", b"%d" % resp])

    def close(self) -> None:
        """Close the connection."""
        self._file.close()
        self._socket.close()

    def _read(self) -> bytes:
        line = self._file.readline()
        if not line.endswith(b"\r\n"):
            raise ConnectionError("closed by the server")
        if line[0] in _BULKS:
            length = int(line[1:])
            return line if length < 0 else line + self._file.read(length + 2)
        if line[0] in _AGGREGATES:
            return line + b"".join(self._read() for _ in range(int(line[1:]) * _AGGREGATES[line[0]]))
        return line


class InProcess:
    """Handlers over a view and a store in memory; every write is taken and stored at once.

    `now_ms` None is the time of day. `maintain` runs a maintenance step after each command, so that removal of expired
    keys is exercised along with everything else.
    """

    def __init__(self, now_ms: int | None = None, maintain: bool = False) -> None:
        self.store = MemoryStore()
        self.registers = Registers.load(self.store)
        self.now_ms = now_ms
        self.maintain = maintain
        self.db = 0
        self._resp = 2
        self._ordinal = 0

    def use(self, resp: int) -> None:
        self._resp = resp

    def execute(self, argv: Sequence[bytes]) -> bytes:
        return encode(self.value(argv), self._resp)

    def execute_all(self, lines: Sequence[Sequence[bytes]]) -> list[bytes]:
        return [self.execute(argv) for argv in lines]

    def call(self, *arguments: Argument) -> Any:
        """Return the reply value of a command; raises its ReplyError."""
        value = self.value([item if isinstance(item, bytes) else str(item).encode() for item in arguments])
        if isinstance(value, ReplyError):
            raise value
        if isinstance(value, Bulks):
            reader = hiredis.Reader()
            reader.feed(encode(value, 2))
            return reader.gets()
        return value

    def value(self, argv: Sequence[bytes]) -> Any:
        """Return the reply value of a command, an error as a value too."""
        try:
            if argv[0].upper() == b"SELECT":
                return self._select(argv[1])
            return self._run(resolve(list(argv)), list(argv))
        except ReplyError as error:
            return error.spelt(argv[0])

    def _select(self, text: bytes) -> str:
        if not text.isdigit() or int(text) >= DATABASES:
            raise DefiniteError("DB index is out of range")
        self.db = int(text)
        return "OK"

    def _run(self, spec: CommandSpec, argv: list[bytes]) -> Any:
        assert spec.kind != Kind.LOCAL, f"{spec.name} needs a server"
        now_ms = int(time.time() * 1000) if self.now_ms is None else self.now_ms
        view = View(self.store, self.registers)
        self._ordinal += 1
        context = Context(view, self.db, now_ms, seed=12345, ordinal=self._ordinal)
        view.begin()
        try:
            value = spec.handler(context, *spec.arguments(argv))
            if isinstance(value, Generator):
                value = drain(value)
            view.commit()
        except ReplyError:
            view.rollback()
            raise
        finally:
            self.store.write(view.take())
        if self.maintain:
            view = View(self.store, self.registers)
            apply_maintenance(view, now_ms, encode_request(3))
            self.store.write(view.take())
        return value


def words(line: str | Sequence[Argument]) -> list[bytes]:
    """Return the words of a command line: a string is split at blanks, '' and "" being the empty word."""
    if isinstance(line, str):
        return [b"" if word in ("''", '""') else word.encode() for word in line.split()]
    return [item if isinstance(item, bytes) else str(item).encode() for item in line]


def compare(
    ours: Backend,
    real: Backend,
    lines: Sequence[str | Sequence[Argument]],
    alike: Callable[[bytes, bytes], bool] = bytes.__eq__,
) -> None:
    """Assert that both backends answer every line alike, the databases being empty at first.

    Each has a clock of its own and is asked a moment before or after the other: what TTL says may differ a little.
    """
    argvs = [[b"SELECT", b"0"], [b"FLUSHALL"], *map(words, lines)]
    history = []
    for argv, got, expected in zip(argvs, ours.execute_all(argvs), real.execute_all(argvs), strict=True):
        history.append(b" ".join(word[:60] for word in argv))
        found = alike(got, expected) or (argv[0].upper() == b"TTL" and _close(got, expected))
        assert found, f"{got[:300]!r} is not {expected[:300]!r} after {history[-12:]}"


def _close(got: bytes, expected: bytes) -> bool:
    one, other = int(got[1:]), int(expected[1:])
    return min(one, other) > 50 and abs(one - other) <= 2


def numbers_within(tolerance: int) -> Callable[[bytes, bytes], bool]:
    """Return a comparison for replies that hold a time: numbers of three digits and more may differ by `tolerance`."""

    def alike(got: bytes, expected: bytes) -> bool:
        pairs = zip(_LONG_NUMBER.findall(got), _LONG_NUMBER.findall(expected), strict=False)
        return _LONG_NUMBER.split(got) == _LONG_NUMBER.split(expected) and all(
            abs(int(one) - int(other)) <= tolerance for one, other in pairs
        )

    return alike


def unordered(got: bytes, expected: bytes) -> bool:
    """A comparison for replies in any order: of their lines, sorted."""
    return sorted(got.split(b"\r\n")) == sorted(expected.split(b"\r\n"))
