"""Tables on a terminal, and sizes and times as people read them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence


def lines(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Yield the lines of a table, its columns as wide as they must be."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()


def size(count: float) -> str:
    """Return a number of bytes in three digits or so: 1.5 GiB."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" or count >= 100 else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"


def milliseconds(usec: float) -> str:
    """Return microseconds as milliseconds."""
    return f"{usec / 1000:.2f} ms" if usec < 100_000 else f"{usec / 1000:.0f} ms"


def duration(seconds: float) -> str:
    """Return a time as 45 s, 3 min, 5 h or 12 d."""
    for unit, length, bound in (("s", 1, 120), ("min", 60, 7200), ("h", 3600, 172_800)):
        if seconds < bound:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds / 86_400:.0f} d"
