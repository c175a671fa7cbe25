"""Free ports on this machine, claimed so that no other program that asks here gets the same ones."""

from __future__ import annotations

import random
import socket
from typing import Final

from zattredis.config import default_peer_port
from zattredis.errors import FatalError

HOST: Final = "127.0.0.1"
_LOW: Final = 11_000
_HIGH: Final = 22_500
"""The peer port, 10000 above, stays below the ports that the system gives to clients."""


class ClaimedPort:
    """A client port (and the peer port that belongs to it) that nobody listened on when it was chosen."""

    __slots__ = ("_claim", "port")

    def __init__(self, port: int, claim: socket.socket) -> None:
        self.port = port
        self._claim = claim

    @property
    def peer_port(self) -> int:
        """The port for other nodes."""
        return default_peer_port(self.port)

    def release(self) -> None:
        """Let others choose it."""
        self._claim.close()


def claim_port() -> ClaimedPort:
    """Return a free port. Raises FatalError if there is none."""
    ports = range(_LOW, _HIGH)
    start = random.SystemRandom().randrange(len(ports))
    for offset in range(len(ports)):
        port = ports[(start + offset) % len(ports)]
        claimed = claim(port)
        if claimed is not None:
            return claimed
    raise FatalError(f"no free port between {_LOW} and {_HIGH} on {HOST}")


def claim(port: int) -> ClaimedPort | None:
    """Return this port, None if it or its peer port is listened on, or somebody else has claimed it."""
    if not (_is_free(port) and _is_free(default_peer_port(port))):
        return None
    held = socket.socket(socket.AF_UNIX)
    try:
        # A name in Linux's abstract namespace: unique on the machine, and gone with the process.
        held.bind(f"\0zattredis-port-{port}")
    except OSError:
        held.close()
        return None
    return ClaimedPort(port, held)


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True
