"""The only reader of time and randomness (DESIGN §2.3).

`Clock.now_ms` is the wall clock made monotone: it follows the system's clock, but a step of it is slewed, never
followed at once and never backwards. `floor` raises it, when a log or a leader shows that the cluster's time is ahead.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable
from typing import Final

RESERVATION_MS: Final = 250
"""How far beyond its stamp an entry reserves the cluster's time: reads may use it, the next leader starts behind it."""
SLEW: Final = 0.05
"""Share of the elapsed time by which the clock may run faster or slower while it approaches the system's clock."""
STEP_MS: Final = 50
"""Differences up to this are the ordinary drift of the system's clock and are followed at once (forwards only)."""


class Clock:
    """Cluster time of this node in ms since 1970. Invariant: `now_ms` never goes back within a process."""

    __slots__ = ("_last_ms", "_monotonic", "_monotonic_at", "_wall")

    def __init__(self, wall: Callable[[], float] = time.time, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._wall = wall
        self._monotonic = monotonic
        self._monotonic_at = monotonic()
        self._last_ms = wall() * 1000.0

    def now_ms(self) -> int:
        """Return the slewed, monotone time in ms since 1970."""
        monotonic = self._monotonic()
        elapsed_ms = (monotonic - self._monotonic_at) * 1000.0
        self._monotonic_at = monotonic
        expected = self._last_ms + elapsed_ms
        difference = self._wall() * 1000.0 - expected
        slew_ms = elapsed_ms * SLEW
        if 0.0 <= difference <= STEP_MS:
            expected += difference
        elif difference > 0.0:
            expected += min(difference, slew_ms)
        else:
            expected -= min(-difference, slew_ms)
        self._last_ms = expected
        return int(expected)

    def floor(self, at_least_ms: int) -> None:
        """Make sure that `now_ms` is `at_least_ms` or later from now on."""
        if at_least_ms > self._last_ms:
            self._last_ms = float(at_least_ms)
            self._monotonic_at = self._monotonic()

    def ahead_ms(self) -> int:
        """Return how far this clock is ahead of (negative: behind) the system's clock, in ms."""
        return int(self.now_ms() - self._wall() * 1000.0)

    def wall_us(self) -> int:
        """Return the system's wall clock in microseconds since 1970 (for TIME, logs and statistics)."""
        return int(self._wall() * 1_000_000)

    def wall_ms(self) -> int:
        """Return the system's wall clock in ms since 1970."""
        return int(self._wall() * 1000)


monotonic = time.monotonic
perf_counter = time.perf_counter


def random_64() -> int:
    """Return a fresh random number below 2**64 from the system (seeds, nonces; never 0)."""
    return int.from_bytes(os.urandom(8), "big") | 1


class Seeds:
    """Numbers that only have to differ from one to the next, without a system call for each."""

    __slots__ = ("_bits",)

    def __init__(self, first: int) -> None:
        self._bits = random.Random(first).getrandbits

    def next_64(self) -> int:
        """Return a number below 2**64 (never 0)."""
        return self._bits(64) | 1
