"""Zatt's refresh policies: when reads are answered from a local copy, and when that copy is fetched anew.

Without a policy (the default), and with `RefreshPolicyAlways`, every read asks the server and is linearizable. With any
other, reads come from a copy as old as the policy allows; writes always go to the server at once and show in the copy.
"""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Protocol


class RefreshPolicy(Protocol):
    """Asked once before each read."""

    def can_update(self) -> bool:
        """Return whether the copy is to be fetched anew before this read."""
        ...


class RefreshPolicyAlways:
    """Every read asks the server: no copy is held."""

    def can_update(self) -> bool:
        """Return True."""
        return True


class RefreshPolicyLock:
    """The copy is fetched anew only while `status` is True: freeze and thaw by hand."""

    def __init__(self, status: bool = False) -> None:
        self.status = status

    def can_update(self) -> bool:
        """Return `status`."""
        return self.status


class RefreshPolicyCount:
    """Every `maximum`-th read fetches the copy anew."""

    def __init__(self, maximum: int = 10) -> None:
        if maximum < 1:
            raise ValueError("maximum is at least 1")
        self.maximum = maximum
        self.counter = 0

    def can_update(self) -> bool:
        """Count this read; return whether it is the one that refreshes."""
        self.counter += 1
        if self.counter < self.maximum:
            return False
        self.counter = 0
        return True


class RefreshPolicyTime:
    """A copy older than `delta` (a timedelta, or seconds; default: a minute) is fetched anew."""

    def __init__(self, delta: timedelta | float = timedelta(minutes=1)) -> None:
        self.delta = delta if isinstance(delta, timedelta) else timedelta(seconds=delta)
        self.last_update: float | None = None

    def can_update(self) -> bool:
        """Return whether `delta` has passed since this last returned True."""
        now = time.monotonic()
        if self.last_update is not None and now - self.last_update < self.delta.total_seconds():
            return False
        self.last_update = now
        return True
