"""Group commit: one thread syncs the log for everything asked of it so far; the loop waits for it, but never for long.

Syncing on the loop would be quickest on a quick disk, but a slow one would freeze the node. Leaving everything to a
thread costs the GIL's switch interval (5 ms) whenever the loop is busy. So the loop waits on a lock, with the GIL
released, for at most a few milliseconds: in that time nobody else wants the GIL, and the thread comes back as soon as
the disk does. When the disk is known to be slower than that, the loop does not wait at all.

Where the log lies in memory there is no disk to wait for: the loop syncs by itself, without a thread, which spares each
write two hand-overs (a third of what one write at a time costs a node).
"""

from __future__ import annotations

import os
import select
import threading
import time
from bisect import bisect_left
from collections import deque
from collections.abc import Callable
from typing import Any, Final, Protocol

from zattredis.errors import StorageFailed
from zattredis.observability.exposition import BOUNDS_S
from zattredis.storage.marks import MARK_INTERVAL_S

DURATIONS_KEPT: Final = 128

SKIPPED_SYNCS_MAX: Final = 8
"""On a disk that stays slow the loop tries only once in so many syncs whether waiting is worth while again.

The thread's own measure of a sync cannot decide that: while the loop is busy it includes the wait for the GIL.
"""


class Syncable(Protocol):
    """What the thread needs of a LogStore."""

    @property
    def in_memory(self) -> bool: ...

    @property
    def marks_dirty(self) -> bool: ...

    def sync(self) -> None: ...

    def sync_marks(self) -> None: ...


class SyncThread:
    """Runs `log.sync` on its own thread. `request` and `wait` belong to the loop thread.

    Every request is answered exactly by one of: `wait` returning its number or a higher one, or a call of `on_durable`
    through `call_soon` with such a number (a number may be told twice). After a failure `wait` and `request` raise it,
    and `on_failure` has been scheduled once; the node cannot go on. Of a log in memory everything requested is durable
    when `request` returns, and `wait` tells it.
    """

    __slots__ = (
        "_buckets",
        "_call_soon",
        "_clock",
        "_closing",
        "_done",
        "_durable",
        "_durations_s",
        "_failure",
        "_log",
        "_marks_synced_at",
        "_on_durable",
        "_on_failure",
        "_on_slow",
        "_requested",
        "_started_at",
        "_syncs",
        "_syncs_to_skip",
        "_thread",
        "_total_s",
        "_wait_again_at",
        "_waiting",
        "_wake",
        "slow_sync_ms",
    )

    def __init__(
        self,
        log: Syncable,
        *,
        call_soon: Callable[..., Any],
        on_durable: Callable[[int], None],
        on_failure: Callable[[Exception], None],
        on_slow: Callable[[float], None] | None = None,
        slow_sync_ms: float = 100.0,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        """Start the thread. `call_soon` is the loop's call_soon_threadsafe.

        `on_slow` is called (on the loop) with the milliseconds of each sync that took `slow_sync_ms` or longer.
        """
        self._log = log
        self._call_soon = call_soon
        self._on_durable = on_durable
        self._on_failure = on_failure
        self._on_slow = on_slow
        self.slow_sync_ms = slow_sync_ms
        self._clock = clock
        # The hand-over, measured there and back around an fdatasync that costs nothing: eventfd to the thread and lock
        # to the loop 8 µs, two locks 19 µs, threading.Condition 30 µs. Writing to the eventfd gives up the GIL at the
        # right moment; releasing a lock does not.
        self._wake = -1 if log.in_memory else os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._done = threading.Lock()
        self._done.acquire()
        self._requested = 0
        self._durable = 0
        self._waiting = log.in_memory  # whoever waits needs no announcement
        self._closing = False
        self._failure: Exception | None = None
        self._durations_s: deque[float] = deque(maxlen=DURATIONS_KEPT)
        self._buckets = [0] * (len(BOUNDS_S) + 1)
        self._started_at: float | None = None
        self._marks_synced_at = clock()
        self._syncs = 0
        self._total_s = 0.0
        self._syncs_to_skip = 0
        self._wait_again_at = 0
        self._thread = None if log.in_memory else threading.Thread(target=self._run, name="log-sync", daemon=True)
        if self._thread is not None:
            self._thread.start()

    # -- loop thread --------------------------------------------------------------------------------------------

    @property
    def durable(self) -> int:
        """The highest write number that is durable."""
        return self._durable

    def request(self, write_number: int) -> None:
        """Ask for everything appended so far to be made durable, under this number. Raises the failure, if any."""
        if self._failure is not None:
            raise self._failure
        self._requested = write_number
        if self._thread is None:
            self._sync_here()
        else:
            os.eventfd_write(self._wake, 1)

    def wait(self, timeout_s: float) -> int:
        """Wait until everything requested is durable, at most `timeout_s`; return the highest durable number.

        After a wait in vain the next ones return at once: until the present sync ends, and for more and more syncs
        while the disk stays slow. What is not durable yet is announced by `on_durable`. Raises the failure, if any.
        """
        if self._durable < self._requested and self._failure is None and self._syncs >= self._wait_again_at:
            self._wait(timeout_s)
        if self._failure is not None:
            raise self._failure
        return self._durable

    def close(self) -> None:
        """Sync what was requested and end the thread; announcements may still be scheduled. Harmless when repeated."""
        if self._closing:
            return
        self._closing = True
        if self._thread is not None:
            os.eventfd_write(self._wake, 1)
            self._thread.join()
            os.close(self._wake)

    def _sync_here(self) -> None:
        try:
            self._sync()
            self._sync_marks()
        except Exception as error:
            raise self._fail(error) from error

    def _wait(self, timeout_s: float) -> None:
        deadline = self._clock() + timeout_s
        self._waiting = True
        while self._durable < self._requested and self._failure is None:
            left = deadline - self._clock()
            if left <= 0 or not self._done.acquire(timeout=left):
                self._wait_again_at = self._syncs + 1 + self._syncs_to_skip
                self._syncs_to_skip = min(max(1, 2 * self._syncs_to_skip), SKIPPED_SYNCS_MAX)
                break
        else:
            self._syncs_to_skip = 0
        # The order matters: the thread sets `_durable` before it reads `_waiting`, so whatever it did not announce
        # because of `_waiting` is seen by whoever reads `_durable` after this line.
        self._waiting = False

    # -- figures for INFO ---------------------------------------------------------------------------------------

    @property
    def syncs(self) -> int:
        """How many syncs have been made."""
        return self._syncs

    @property
    def total_s(self) -> float:
        """Seconds that all syncs took together."""
        return self._total_s

    @property
    def durations_ms(self) -> list[float]:
        """Milliseconds of the last syncs (DURATIONS_KEPT at most), oldest first; GIL waits included."""
        return [s * 1000 for s in self._durations_s]

    @property
    def buckets(self) -> list[int]:
        """How many syncs fell between the bounds of BOUNDS_S; one more count than there are bounds."""
        return list(self._buckets)

    @property
    def in_flight_ms(self) -> float:
        """For how long the present sync has been running; 0 when none is."""
        started = self._started_at
        return 0.0 if started is None else (self._clock() - started) * 1000

    # -- sync thread, or the loop's for a log in memory ---------------------------------------------------------------

    def _run(self) -> None:
        poll = select.poll()
        poll.register(self._wake, select.POLLIN)
        try:
            while not self._closing:
                if poll.poll(MARK_INTERVAL_S * 1000 if self._log.marks_dirty else None):
                    os.eventfd_read(self._wake)
                while self._durable < self._requested:
                    self._sync()
                self._sync_marks()
            if self._durable < self._requested:
                self._sync()
        except Exception as error:
            self._fail(error)
            if self._done.locked():
                self._done.release()

    def _fail(self, error: Exception) -> StorageFailed:
        # Not swallowed: whoever waits gets it raised, and the loop is told, so that the node stops.
        failure = error if isinstance(error, StorageFailed) else StorageFailed(f"syncing the log failed: {error!r}")
        self._failure = failure
        self._call_soon(self._on_failure, failure)
        return failure

    def _sync_marks(self) -> None:
        now = self._clock()
        if self._log.marks_dirty and now - self._marks_synced_at >= MARK_INTERVAL_S:
            self._log.sync_marks()
            self._marks_synced_at = now

    def _sync(self) -> None:
        target = self._requested
        started = self._started_at = self._clock()
        self._log.sync()
        took = self._clock() - started
        self._started_at = None
        self._durations_s.append(took)
        self._buckets[bisect_left(BOUNDS_S, took)] += 1
        self._syncs += 1
        self._total_s += took
        self._durable = target
        if not self._waiting:
            self._call_soon(self._on_durable, target)
        elif target >= self._requested and self._done.locked():
            self._done.release()
        if took * 1000 >= self.slow_sync_ms and self._on_slow is not None:
            self._call_soon(self._on_slow, took * 1000)
