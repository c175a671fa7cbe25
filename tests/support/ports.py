"""Ports for servers of tests: free, below the ephemeral range, and given out once, by any process of one run."""

from __future__ import annotations

import fcntl
import os
import random
import tempfile
from pathlib import Path
from typing import Final

from benchmarks.machine import is_free

PORT_MIN: Final = 11_000
PORT_MAX: Final = 21_000
PEER_OFFSET: Final = 10_000
"""The default peer port lies so far above; both stay below the ephemeral range, which begins at 32768. The two ranges
do not overlap: a port given to a server that is not started yet must not become another's peer port."""

_given: set[int] = set()
_claims: list[int] = []  # the descriptor of the file of claims; never closed, for that would give all claims up


def free_port() -> int:
    """Return a port nobody listens on, nor on the one PEER_OFFSET above, and that no test has been given before.

    A claim is a lock on the port's byte in a file that all test processes share: it ends with the process.
    """
    dice = random.SystemRandom()
    while True:
        port = dice.randrange(PORT_MIN, PORT_MAX)
        if port in _given or not _claim(port):
            continue
        _given.add(port)
        if is_free(port) and is_free(port + PEER_OFFSET):
            return port


def _claim(port: int) -> bool:
    if not _claims:
        path = Path(tempfile.gettempdir()) / f"zattredis-test-ports-{os.getuid()}"
        _claims.append(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    try:
        fcntl.lockf(_claims[0], fcntl.LOCK_EX | fcntl.LOCK_NB, 1, port)
    except OSError:
        return False
    return True
