"""MONITOR: every command that this node's clients send, shown to those who asked, in Redis's format.

    +1795364054.275996 [0 127.0.0.1:49586] "SET" "key" "value"

While nobody monitors there is no `Monitors`, and all it costs is one look per read of a client. While somebody does,
every command takes the dispatcher's careful way, as in Redis where monitoring may halve the throughput.

What is not shown, as in Redis: administrative commands, and what was refused before it was carried out. Passwords are
replaced (see `slowlog.redacted`). A transaction is shown once it was executed, with its EXEC behind it; one that failed
because of a watched key, or whose outcome is not known, as its EXEC alone. A line leaves when the node takes a command:
of those of one client the order is the client's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from zattredis.commands.table import COMMANDS, CommandSpec, Flag
from zattredis.server.clients import ClientState
from zattredis.server.slowlog import redacted
from zattredis.server.units import DONE, Transaction

if TYPE_CHECKING:
    from zattredis.server.connection import ClientConnection

KEYSPACE: Final = Flag.READONLY | Flag.WRITE | Flag.MAY_REPLICATE
"""What one who monitors may not send: its stream would be mixed with replies."""
_NOT_EXECUTED: Final = (b"*-1\r\n", b"_\r\n")
_HIDDEN: Final = Flag.ADMIN | Flag.SKIP_MONITOR
_SHORT: Final = {
    0x22: b'\\"', 0x5C: b"\\\\", 0x0A: b"\\n", 0x0D: b"\\r", 0x09: b"\\t", 0x07: b"\\a", 0x08: b"\\b",
}  # fmt: skip
_SIGNS: Final = [
    _SHORT.get(byte) or (bytes([byte]) if 0x20 <= byte < 0x7F else b"\\x%02x" % byte) for byte in range(256)
]


def quoted(word: bytes) -> bytes:
    """Return a word in quotes, as Redis shows bytes."""
    return b'"' + b"".join([_SIGNS[byte] for byte in word]) + b'"'


class Monitors:
    """Those who monitor, at least one. `time_us` is the wall clock."""

    __slots__ = ("_connections", "_time_us", "_waiting")

    def __init__(self, time_us: Callable[[], int]) -> None:
        self._time_us = time_us
        self._connections: list[ClientConnection] = []
        self._waiting: list[tuple[Transaction, ClientState, list[bytes]]] = []

    def add(self, connection: ClientConnection) -> None:
        """Show this client everything from now on."""
        connection.state.monitoring = True
        self._connections.append(connection)

    def still(self) -> bool:
        """Return whether anybody still monitors; forget who has gone or said RESET."""
        gone = [one for one in self._connections if one.closed or not one.state.monitoring]
        for connection in gone:
            self._connections.remove(connection)
        return bool(self._connections)

    def show(self, client: ClientState, spec: CommandSpec, argv: Sequence[bytes], db: int | None = None) -> None:
        """Show a command that was taken from a client, in the database that it leaves selected."""
        if (spec.original or spec).flags & _HIDDEN and spec.name != "EXEC":
            return
        seconds, microseconds = divmod(self._time_us(), 1_000_000)
        words = b" ".join([quoted(word) for word in redacted(argv)])
        number = client.db if db is None else db
        line = b"+%d.%06d [%d %b] %b\r\n" % (seconds, microseconds, number, client.address.encode(), words)
        for connection in self._connections:
            if connection.state.monitoring and not connection.closed:
                connection.add_reply(line)

    def expect(self, unit: Transaction, client: ClientState, argv: list[bytes]) -> None:
        """An EXEC is under way: show it when it is known what came of it."""
        self._waiting.append((unit, client, argv))

    def settle(self) -> None:
        """Show the transactions that have ended."""
        done = [waiting for waiting in self._waiting if waiting[0].state == DONE]
        for waiting in done:
            self._waiting.remove(waiting)
            self._show_transaction(*waiting)

    def _show_transaction(self, unit: Transaction, client: ClientState, argv: list[bytes]) -> None:
        if unit.reply not in _NOT_EXECUTED and not unit.reply.startswith(b"-"):
            after = [db for db, _, _ in unit.commands] + [unit.final_db]
            for place, (db, spec, words) in enumerate(unit.commands, 1):
                self.show(client, spec, words, after[place] if spec.name == "SELECT" else db)
        self.show(client, COMMANDS[b"EXEC"], argv, unit.final_db)
