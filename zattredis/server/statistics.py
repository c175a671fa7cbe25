"""What this node has counted: connections, commands, errors, bytes, latencies.

Cheap by design: one `record` for a run of equal commands, no allocation on the way, and a histogram that is a dict
from a latency's bucket to its count. Buckets are those of an HDR histogram of two significant digits in nanoseconds,
named by their highest value, so LATENCY HISTOGRAM and INFO latencystats print the very numbers that Redis prints.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence

from zattredis.commands.table import CommandSpec

_BUCKET_BITS = 8  # two significant digits: 128 buckets for every power of two
_HISTOGRAM_FIRST_NS = 1024
_SAMPLES = 16
_PREFIXES_MAX = 128


def bucket_of(latency_ns: int) -> int:
    """Return the highest latency that shares a bucket with `latency_ns`."""
    shift = latency_ns.bit_length() - _BUCKET_BITS
    return latency_ns if shift <= 0 else latency_ns | ((1 << shift) - 1)


class CommandStatistics:
    """The counters of one command."""

    __slots__ = ("buckets", "calls", "failed", "rejected", "usec")

    def __init__(self) -> None:
        self.calls = 0
        self.usec = 0
        self.rejected = 0
        self.failed = 0
        self.buckets: dict[int, int] = {}

    def percentiles(self, wanted: Sequence[float]) -> list[float]:
        """Return the latency in microseconds that each of these percentages of calls did not exceed."""
        total = sum(self.buckets.values())
        ordered = sorted(self.buckets.items())
        found = []
        for percentage in wanted:
            needed = max(1, int(percentage / 100 * total + 0.5))
            seen = 0
            for bucket, count in ordered:
                seen += count
                if seen >= needed:
                    found.append(bucket / 1000)
                    break
        return found

    def cumulative(self) -> tuple[int, dict[int, int]]:
        """Return the number of calls, and for powers of two of microseconds how many took at most that long."""
        counts: dict[int, int] = {}
        seen = 0
        limit = _HISTOGRAM_FIRST_NS
        pending = sorted(self.buckets.items())
        place = 0
        while place < len(pending):
            top = bucket_of(limit)
            before = seen
            while place < len(pending) and pending[place][0] <= top:
                seen += pending[place][1]
                place += 1
            if seen > before:
                counts[top // 1000] = seen
            limit *= 2
        return self.calls, counts


class Rate:
    """A quantity per second, averaged over the last 16 samples, as INFO's `instantaneous_*` are."""

    __slots__ = ("_last", "_last_ms", "_samples")

    def __init__(self) -> None:
        self._samples: deque[float] = deque(maxlen=_SAMPLES)
        self._last = 0
        self._last_ms = 0

    def sample(self, total: int, now_ms: int) -> None:
        """Take in the total so far; the first call only marks the start."""
        elapsed_ms = now_ms - self._last_ms
        if self._last_ms and elapsed_ms > 0:
            self._samples.append(max(0, total - self._last) * 1000 / elapsed_ms)
        self._last = total
        self._last_ms = now_ms

    @property
    def per_second(self) -> float:
        """The average; 0 before there are two samples."""
        return sum(self._samples) / len(self._samples) if self._samples else 0.0


class Statistics:
    """All counters of a node. Plain attributes are counted up by whoever sees the event."""

    __slots__ = (
        "_commands", "connections_received", "connections_rejected", "errors", "expired_keys", "input_rate",
        "keyspace_hits", "keyspace_misses", "latency_tracking", "net_input_bytes", "net_output_bytes",
        "operations_rate", "output_rate", "reads_processed", "total_commands", "writes_processed",
    )  # fmt: skip

    def __init__(self) -> None:
        self.latency_tracking = True
        self.reset()

    def reset(self) -> None:
        """Set everything to zero (CONFIG RESETSTAT)."""
        self._commands: dict[CommandSpec, CommandStatistics] = {}
        self.errors: dict[str, int] = {}
        self.total_commands = 0
        self.connections_received = 0
        self.connections_rejected = 0
        self.net_input_bytes = 0
        self.net_output_bytes = 0
        self.reads_processed = 0
        self.writes_processed = 0
        self.keyspace_hits = 0
        self.keyspace_misses = 0
        self.expired_keys = 0
        self.operations_rate = Rate()
        self.input_rate = Rate()
        self.output_rate = Rate()

    def record(self, spec: CommandSpec, count: int, usec: int, failed: int = 0) -> None:
        """Count `count` executions of one command: `usec` in all, `failed` of them answered by an error."""
        stats = self._commands.get(spec) or self._first(spec)
        stats.calls += count
        stats.usec += usec
        stats.failed += failed
        self.total_commands += count
        if self.latency_tracking:
            each_ns = usec * 1000 // count
            shift = each_ns.bit_length() - _BUCKET_BITS
            bucket = each_ns if shift <= 0 else each_ns | ((1 << shift) - 1)
            stats.buckets[bucket] = stats.buckets.get(bucket, 0) + count

    def _first(self, spec: CommandSpec) -> CommandStatistics:
        """Return the counters of a command that is counted for the first time, or is a variant of one."""
        return self._commands.setdefault(spec.original or spec, CommandStatistics())

    def commands_failed(self, spec: CommandSpec) -> None:
        """Count one execution of a command that was answered by an error; `record` counts the execution itself."""
        stats = self._commands.get(spec) or self._first(spec)
        stats.failed += 1

    def reject(self, spec: CommandSpec) -> None:
        """Count a command that was refused before it was executed (arity, authentication, a bound, …)."""
        stats = self._commands.get(spec) or self._first(spec)
        stats.rejected += 1

    def error(self, prefix: str) -> None:
        """Count an error reply by its prefix; beyond 128 different ones they count as ERR."""
        if prefix not in self.errors and len(self.errors) >= _PREFIXES_MAX:
            prefix = "ERR"
        self.errors[prefix] = self.errors.get(prefix, 0) + 1

    def sample(self, now_ms: int) -> None:
        """Take the samples of the rates; the node calls it about every 100 ms."""
        self.operations_rate.sample(self.total_commands, now_ms)
        self.input_rate.sample(self.net_input_bytes, now_ms)
        self.output_rate.sample(self.net_output_bytes, now_ms)

    @property
    def commands(self) -> Mapping[CommandSpec, CommandStatistics]:
        """The counters of every command that was called or rejected."""
        return self._commands

    def histograms(self) -> Mapping[CommandSpec, CommandStatistics]:
        """Return the counters of every command whose latency was taken."""
        return {spec: stats for spec, stats in self._commands.items() if stats.buckets}
