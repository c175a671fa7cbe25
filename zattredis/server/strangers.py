"""Those who are not let in at all: hosts without a password in protected mode, and what speaks HTTP.

A page in a browser can make it send requests to any address it reaches, this port of a person's own machine included.
So whoever sends HTTP is cut off at its first line, before a later one could be a command.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Protocol

from zattredis.config import is_loopback
from zattredis.server.clock import monotonic

LINES_A_MINUTE: Final = 30
HELD_BYTES_MAX: Final = 32 << 20
"""Of requests that clients who have not authenticated have begun and not finished, all together."""

PROTECTED: Final = (
    b"-DENIED Redis is running in protected mode because protected mode is enabled and no password is set for the "
    b"default user. In this mode connections are only accepted from the loopback interface. If you want to connect"
    b" from external computers to Redis you may adopt one of the following solutions: 1) Just disable protected "
    b"mode sending the command 'CONFIG SET protected-mode no' from the loopback interface by connecting to Redis "
    b"from the same host the server is running, however MAKE SURE Redis is not publicly accessible from internet "
    b"if you do so. Use CONFIG REWRITE to make this change permanent. 2) Alternatively you can just disable the "
    b"protected mode by editing the Redis configuration file, and setting the protected mode option to 'no', and "
    b"then restarting the server. 3) If you started the server manually just for testing, restart it with the '--"
    b"protected-mode no' option. 4) Setup a an authentication password for the default user. NOTE: You only need "
    b"to do one of the above things in order for the server to start accepting connections from the outside.\r\n"
)
"""Redis's own text: people look for it."""

_HTTP_WORDS: Final = frozenset((b"POST", b"HOST:"))


def is_local(peer: Any) -> bool:
    """Return whether a socket's peer name is of this machine: loopback, or a Unix socket."""
    if not isinstance(peer, tuple) or not peer:
        return True
    return is_loopback(str(peer[0]).partition("%")[0])


def speaks_http(argv: Sequence[bytes]) -> bool:
    """Return whether a request that is no command is a line of an HTTP request."""
    return argv[0].upper() in _HTTP_WORDS or (len(argv) == 3 and argv[2].startswith(b"HTTP/"))


class SparingLog:
    """The log for what clients do wrong: so many lines of each event a minute, however many clients there are.

    A stranger may come again and again, and the log lies on a disk, too. What was left out is counted in the next line.
    """

    __slots__ = ("_log", "_told")

    def __init__(self, log: Any) -> None:
        self._log = log
        self._told: dict[str, list[float]] = {}

    def debug(self, event: str, **fields: object) -> None:
        """Log what clients do, all of it: nobody sees this who has not asked for it."""
        self._log.debug(event, **fields)

    def info(self, event: str, **fields: object) -> None:
        """Log that something was done to a client."""
        self._tell(self._log.info, event, fields)

    def warning(self, event: str, **fields: object) -> None:
        """Log what somebody may want to look after."""
        self._tell(self._log.warning, event, fields)

    def _tell(self, tell: Any, event: str, fields: dict[str, object]) -> None:
        row = self._told.setdefault(event, [0.0, 0, 0])  # when the minute began, lines since then, lines left out
        now = monotonic()
        if now - row[0] >= 60.0 or not row[1]:
            row[0], row[1] = now, 0
        if row[1] >= LINES_A_MINUTE:
            row[2] += 1
            return
        row[1] += 1
        if row[2]:
            fields["left_out"] = int(row[2])
            row[2] = 0
        tell(event, **fields)


class Stranger(Protocol):
    """A connection whose client has not authenticated."""

    @property
    def held_bytes(self) -> int:
        """Bytes kept of what it has begun to send."""
        ...

    def close(self, reason: str) -> None:
        """Close it now."""
        ...


class HeldBytes:
    """What strangers make a node keep, all together: each may send a little, and there may be ten thousand of them.

    Whoever has gone on with an unfinished request the longest time ago goes first.
    """

    __slots__ = ("_of", "_total")

    def __init__(self) -> None:
        self._of: dict[Stranger, int] = {}
        self._total = 0

    def note(self, stranger: Stranger) -> None:
        """It has sent a part of a request."""
        self.forget(stranger)
        size = self._of[stranger] = stranger.held_bytes
        self._total += size
        if self._total > HELD_BYTES_MAX:
            self._look_again()
            while self._total > HELD_BYTES_MAX:
                oldest = next(iter(self._of))
                self.forget(oldest)
                oldest.close("too much of unfinished requests before authentication")

    def forget(self, stranger: Stranger) -> None:
        """It has gone, or is none any more."""
        self._total -= self._of.pop(stranger, 0)

    def _look_again(self) -> None:
        """Nobody says when a request was finished: leave out those that were."""
        self._of = {stranger: size for stranger in self._of if (size := stranger.held_bytes)}
        self._total = sum(self._of.values())
