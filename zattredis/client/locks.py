"""Locks: one owner at a time, for a limited time, with a fencing token.

The lock is a key that runs out, holding a value no other owner has; taking it increments a counter in the same MULTI,
and that count is the fencing token: it grows with each owner. A lock that runs out while its owner sleeps cannot be
noticed by that owner in time, by any lock service; so hand the token to whatever the lock guards and let it refuse a
smaller one than it has seen, or guard a transaction of the same cluster by the lock itself: `transaction(guard=lock)`.
"""

from __future__ import annotations

import secrets

from zattredis.client.errors import LockLost, LockNotAcquired
from zattredis.client.steps import Batch, Operation, atomically


class LockState:
    """One lock and its operations. Keys: `{dict}:lock:name` and `{dict}:fence:name`."""

    def __init__(self, dict_name: bytes, name: str, ttl_s: float) -> None:
        if ttl_s <= 0:
            raise ValueError("ttl is a positive number of seconds")
        self.name = name
        self.key = b"{%b}:lock:%b" % (dict_name, name.encode())
        self.counter = b"{%b}:fence:%b" % (dict_name, name.encode())
        self.ttl_ms = max(1, round(ttl_s * 1000))
        self.owner = b""
        self.token: int | None = None

    def new_owner(self) -> None:
        """Before each acquiring. Raises RuntimeError if this object holds the lock already."""
        if self.token is not None:
            raise RuntimeError(f"the lock {self.name!r} is held by this object already")
        self.owner = secrets.token_hex(16).encode()

    def try_acquire(self) -> Operation[bool]:
        """Take the lock if it is free; `token` is set then. May be started again: the owner's name makes it safe."""
        _, holder = yield Batch([("WATCH", self.key), ("GET", self.key)])
        if holder == self.owner:  # an earlier acquiring of unknown outcome
            return (yield from self.find_out())
        if holder is not None:
            return False
        replies = yield atomically(
            ("INCR", self.counter), ("SET", self.key, self.owner, "NX", "PX", self.ttl_ms)
        )  # fmt: skip
        if replies[-1] is None:
            return False
        self.token = int(replies[-1][0])
        return True

    def find_out(self) -> Operation[bool]:
        """After an acquiring of unknown outcome: return whether the lock is ours, and set `token` if so."""
        replies = yield Batch([("MULTI",), ("GET", self.key), ("GET", self.counter), ("EXEC",)])
        holder, count = replies[-1]
        if holder != self.owner:
            return False
        self.token = int(count)
        return True

    def _as_owner(self, *command: object) -> Operation[None]:
        """Do one command if the lock is still ours. Raises LockLost."""
        while True:
            _, holder = yield Batch([("WATCH", self.key), ("GET", self.key)])
            if self.token is None or holder != self.owner:
                self.token = None
                raise LockLost(f"the lock {self.name!r} is not held by this owner (any more)")
            replies = yield atomically(command)
            if replies[-1] is not None:
                return

    def release(self) -> Operation[None]:
        """Give the lock back. Raises LockLost if it was no longer ours."""
        yield from self._as_owner("DEL", self.key)
        self.token = None

    def extend(self, ttl_s: float | None) -> Operation[None]:
        """Let the lock run out `ttl_s` (default: as at the start) from now. Raises LockLost."""
        ttl_ms = self.ttl_ms if ttl_s is None else max(1, round(ttl_s * 1000))
        yield from self._as_owner("PEXPIRE", self.key, ttl_ms)

    def not_acquired(self) -> LockNotAcquired:
        """Return the error for having waited in vain."""
        return LockNotAcquired(f"the lock {self.name!r} was held by another all the time")
