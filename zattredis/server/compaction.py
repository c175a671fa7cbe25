"""Compaction: when the state is flushed and the log cut behind it (DESIGN §5).

The log may be cut only behind an applied index that was captured before a flush of the state returned. What followers
that answer still need is kept, within a bound of bytes, so that snapshots and unknown outcomes stay rare.
"""

from __future__ import annotations

import asyncio

from zattredis.errors import WriteStalled
from zattredis.observability.events import get_logger
from zattredis.raft.core import Core
from zattredis.server.applier import Applier
from zattredis.server.clock import Clock, monotonic
from zattredis.storage.log_store import LogStore

_log = get_logger(room="compaction")


class Compaction:
    """One per node. `check` is cheap and called on a timer; the flush runs on a thread."""

    __slots__ = (
        "_applier", "_clock", "_core", "_log", "_retain_bytes", "_running", "count", "entries_max", "last_at_s",
        "last_duration_s", "last_index", "size_max", "started_s",
    )  # fmt: skip

    def __init__(
        self, *, core: Core, log: LogStore, applier: Applier, clock: Clock, size_max: int, entries_max: int,
        retain_bytes: int,
    ) -> None:  # fmt: skip
        self._core = core
        self._log = log
        self._applier = applier
        self._clock = clock
        self.size_max = size_max
        self.entries_max = entries_max
        self._retain_bytes = retain_bytes
        self._running: asyncio.Task[None] | None = None
        self.last_at_s = clock.wall_us() // 1_000_000
        self.last_index = log.first_index - 1
        self.last_duration_s = -1
        self.started_s: int | None = None
        self.count = 0

    @property
    def running(self) -> bool:
        """Whether a flush is under way."""
        return self._running is not None

    @property
    def due(self) -> bool:
        """Whether the log has grown past its bounds by what could be cut."""
        log = self._log
        return log.size_bytes > self.size_max or log.last_index - log.first_index >= self.entries_max

    def check(self) -> None:
        """Begin a compaction if one is due and would cut something."""
        if self._running is None and self.due:
            log = self._log
            cut = self._cut_point(self._core.applied_index) - log.first_index
            if cut > (log.last_index - log.first_index) // 4:  # less is not worth a flush of the state
                self.start()

    def start(self) -> asyncio.Task[None]:
        """Begin a compaction now, or return the one that is under way."""
        if self._running is None:
            self._running = asyncio.get_running_loop().create_task(self._run())
        return self._running

    async def _run(self) -> None:
        started = monotonic()
        self.started_s = self._clock.wall_us() // 1_000_000
        try:
            store = self._applier.store
            applied = await asyncio.get_running_loop().run_in_executor(None, store.flush)
            if store is not self._applier.store:
                return  # a snapshot replaced the state meanwhile
            first = self._cut_point(applied.index)
            self.last_at_s = self._clock.wall_us() // 1_000_000
            self.last_index = applied.index
            self.last_duration_s = int(monotonic() - started)
            self.count += 1
            if first > self._log.first_index:
                before = self._log.size_bytes
                try:
                    self._log.compact(first, self._log.term(first - 1))
                except WriteStalled:
                    return  # the next check cuts it
                self._core.compacted()
                _log.info(
                    "log_compacted", first_index=first, freed_bytes=before - self._log.size_bytes,
                    applied_index=applied.index, seconds=round(monotonic() - started, 3),
                )  # fmt: skip
        finally:
            self._running = None
            self.started_s = None

    def _cut_point(self, applied_index: int) -> int:
        """Return the first index to keep: everything after what is flushed, and what others may soon ask for."""
        core, log = self._core, self._log
        first = applied_index + 1
        if core.role == "leader":
            needed = [p.match_index + 1 for node_id, p in core.progress.items() if node_id != core.node_id]
            first = min([first, *needed])
        elif core.other_voters:
            first = min(first, max(log.first_within(min(self._retain_bytes, self.size_max // 2)), log.first_index))
        bounded = log.first_within(self._retain_bytes)
        return min(applied_index + 1, max(first, bounded, log.first_index))
