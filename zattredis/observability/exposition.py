"""Prometheus's text format, version 0.0.4: families of samples in, one text out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"

BOUNDS_S: Final = (
    0.00001, 0.000025, 0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5,
    1.0, 2.5, 5.0, 10.0,
)  # fmt: skip
"""Upper bounds, in seconds, of every histogram of latencies: what is compared should share its buckets."""

Labels = Mapping[str, str]


class Exposition:
    """Gathers families; `text` returns all of them. Invariant: a family is named once, with all its samples."""

    __slots__ = ("_lines", "names")

    def __init__(self) -> None:
        self._lines: list[str] = []
        self.names: list[str] = []

    def gauge(self, name: str, text: str, value: float) -> None:
        """Add a family of one value that goes up and down."""
        self._family(name, "gauge", text, [({}, value)])

    def gauges(self, name: str, text: str, samples: Iterable[tuple[Labels, float]]) -> None:
        """Add a family of values that go up and down, by labels."""
        self._family(name, "gauge", text, samples)

    def counter(self, name: str, text: str, value: float) -> None:
        """Add a family of one value that only grows, but for a restart or CONFIG RESETSTAT."""
        self._family(name, "counter", text, [({}, value)])

    def counters(self, name: str, text: str, samples: Iterable[tuple[Labels, float]]) -> None:
        """Add a family of values that only grow, by labels."""
        self._family(name, "counter", text, samples)

    def histograms(
        self, name: str, text: str, bounds: Sequence[float], series: Iterable[tuple[Labels, Sequence[int], float]]
    ) -> None:
        """Add a family of histograms, by labels: counts between `bounds` (one more than there are), and the sum."""
        self._head(name, "histogram", text)
        for labels, counts, total in series:
            seen = 0
            for bound, count in zip((*bounds, float("inf")), counts, strict=True):
                seen += count
                self._sample(f"{name}_bucket", {**labels, "le": number(bound)}, seen)
            self._sample(f"{name}_sum", labels, total)
            self._sample(f"{name}_count", labels, seen)

    def text(self) -> str:
        """Return everything added so far."""
        return "".join(self._lines)

    def _family(self, name: str, kind: str, text: str, samples: Iterable[tuple[Labels, float]]) -> None:
        self._head(name, kind, text)
        for labels, value in samples:
            self._sample(name, labels, value)

    def _head(self, name: str, kind: str, text: str) -> None:
        assert name not in self.names, name
        self.names.append(name)
        self._lines.append(f"# HELP {name} {text}\n# TYPE {name} {kind}\n")

    def _sample(self, name: str, labels: Labels, value: float) -> None:
        shown = ",".join(f'{label}="{_escaped(text)}"' for label, text in labels.items())
        self._lines.append(f"{name}{{{shown}}} {number(value)}\n" if shown else f"{name} {number(value)}\n")


def number(value: float) -> str:
    """Return a number as the format spells it."""
    if value == float("inf"):
        return "+Inf"
    if isinstance(value, float) and not value.is_integer():
        return repr(value)
    return str(int(value))


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
