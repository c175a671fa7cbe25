"""The latency monitor: spikes of named events (`command`, `fsync`, `apply`, …) above a threshold."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

_SAMPLES_MAX = 160
_ROWS = 4
_SIGNS = "_o#"
_LEVELS = _ROWS * len(_SIGNS)
_WIDTH = 80


class _Event:
    __slots__ = ("max_ms", "samples")

    def __init__(self) -> None:
        self.max_ms = 0
        self.samples: deque[list[int]] = deque(maxlen=_SAMPLES_MAX)


class LatencyMonitor:
    """The last 160 spikes of each event; `threshold_ms` 0 switches it off."""

    __slots__ = ("_events", "threshold_ms")

    def __init__(self, threshold_ms: int = 0) -> None:
        self.threshold_ms = threshold_ms
        self._events: dict[bytes, _Event] = {}

    def record(self, event: bytes, latency_ms: int, time_s: int) -> None:
        """Take in how long something took; it is kept if it reaches the threshold. Spikes of one second are one."""
        if self.threshold_ms <= 0 or latency_ms < self.threshold_ms:
            return
        found = self._events.setdefault(event, _Event())
        found.max_ms = max(found.max_ms, latency_ms)
        if found.samples and found.samples[-1][0] == time_s:
            found.samples[-1][1] = max(found.samples[-1][1], latency_ms)
        else:
            found.samples.append([time_s, latency_ms])

    def latest(self) -> list[list[bytes | int]]:
        """Return (event, time in s, latest ms, maximum ms) of each event."""
        return [[name, *event.samples[-1], event.max_ms] for name, event in self._events.items()]

    def history(self, event: bytes) -> list[list[int]]:
        """Return (time in s, ms) of each sample of an event, oldest first."""
        found = self._events.get(event)
        return [list(sample) for sample in found.samples] if found is not None else []

    def reset(self, events: Sequence[bytes]) -> int:
        """Forget the samples of these events, of all if there are none; return how many there were of them."""
        names = list(events) if events else list(self._events)
        return sum(self._events.pop(name, None) is not None for name in names)

    def graph(self, event: bytes, now_s: int) -> str | None:
        """Return an ASCII graph of an event, or None if there is no such event.

        A column a sample, the newest on the right, its age below it.
        """
        found = self._events.get(event)
        if found is None:
            return None
        values = [latency for _, latency in found.samples]
        high, low = max(values), min(values)
        columns = [
            (min((value - low) * _LEVELS // max(1, high - low), _LEVELS - 1), _age(now_s - time_s))
            for time_s, value in found.samples
        ]
        charts = [_chart(columns[start : start + _WIDTH]) for start in range(0, len(columns), _WIDTH)]
        name = event.decode("utf-8", "surrogateescape")
        title = f"{name} - high {high} ms, low {low} ms (all time high {found.max_ms} ms)"
        return f"{title}\n{'-' * _WIDTH}\n" + "\n".join(charts)

    def doctor(self, slower_than_us: int = 0) -> str:
        """Return a report for a person; `slower_than_us` is what SLOWLOG remembers, negative for nothing."""
        if self.threshold_ms <= 0:
            return (
                "The latency monitor is off. Say CONFIG SET latency-monitor-threshold <milliseconds> to make it record"
                " everything that takes at least that long.\n"
            )
        if not self._events:
            return f"Nothing has taken {self.threshold_ms} milliseconds or longer since it is being watched.\n"
        lines = [f"These took {self.threshold_ms} milliseconds or longer:"]
        for name, event in self._events.items():
            values = [latency for _, latency in event.samples]
            average = sum(values) // len(values)
            deviation = sum(abs(value - average) for value in values) // len(values)
            period_s = max(1, event.samples[-1][0] - event.samples[0][0]) / len(values)
            lines.append(
                f" * {name.decode('utf-8', 'surrogateescape')}: {len(values)} spikes, {average} ms on average"
                f" (mean deviation {deviation} ms), one in {period_s:.1f} s, {event.max_ms} ms at worst."
                f" {_ADVICE.get(name, _ADVICE_ELSE)}"
            )
        if slower_than_us < 0 or slower_than_us > self.threshold_ms * 1000:
            lines.append(
                f" * SLOWLOG does not hold all of these commands: CONFIG SET slowlog-log-slower-than"
                f" {self.threshold_ms * 1000} lets it."
            )
        return "\n".join([*lines, ""])


_ADVICE_ELSE = "SLOWLOG GET may name a command of that moment."
_ADVICE = {
    b"command": "See SLOWLOG GET for the commands.",
    b"fsync": "The disk is slow to sync: look for other writers on it, or use a quicker one.",
    b"apply": "Large writes are being applied: split commands that change many keys at once.",
}


def _chart(columns: Sequence[tuple[int, str]]) -> str:
    """Return a chart of (level, label) columns, as Redis draws it: filled, the labels downwards below."""
    rows = []
    for row in reversed(range(_ROWS)):
        bottom = row * len(_SIGNS)
        rows.append(
            "".join(
                " " if level < bottom else _SIGNS[level - bottom] if level < bottom + len(_SIGNS) else "|"
                for level, _ in columns
            )
        )
    rows.append(" " * len(columns))
    depth = max(len(label) for _, label in columns)
    rows += ["".join(label.ljust(depth)[place] for _, label in columns) for place in range(depth)]
    return "".join(f"{row}\n" for row in rows)


def _age(seconds: int) -> str:
    for unit, letter in ((86_400, "d"), (3_600, "h"), (60, "m")):
        if seconds >= unit:
            return f"{seconds // unit}{letter}"
    return f"{max(seconds, 0)}s"
