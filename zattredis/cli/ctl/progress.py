"""How far long work is: a bar on a terminal (rich), a line now and then elsewhere; always on standard error."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Any, Final

from zattredis.cli.ctl.table import size

LINE_S: Final = 5.0
"""How often a line is printed where there is no terminal."""


class Progress:
    """Shows how many of `total` bytes (0: not known) are done. Use as a context manager; `at` may be called often."""

    def __init__(self, what: str, total: int = 0, *, unit: str = "bytes") -> None:
        self._what = what
        self._total = total
        self._unit = unit
        self._bar: Any = None
        self._task: Any = None
        self._started = self._told = time.monotonic()
        self.done = 0

    def __enter__(self) -> Progress:
        if sys.stderr.isatty():
            self._bar, self._task = _rich_bar(self._what, self._total, self._unit)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    @property
    def seconds(self) -> float:
        """Since the beginning."""
        return max(1e-6, time.monotonic() - self._started)

    def at(self, done: int) -> None:
        """So much is done."""
        self.done = done
        now = time.monotonic()
        if self._bar is not None:
            self._bar.update(self._task, completed=done)
        elif now - self._told >= LINE_S:
            self._told = now
            print(self._line(), file=sys.stderr, flush=True)

    def _line(self) -> str:
        if self._unit != "bytes":
            of = f" of about {self._total:,}" if self._total else ""
            return f"{self._what}: {self.done:,}{of} {self._unit}, {self.done / self.seconds:,.0f} a second"
        of = f" of {size(self._total)}" if self._total else ""
        return f"{self._what}: {size(self.done)}{of}, {size(self.done / self.seconds)}/s"


def _rich_bar(what: str, total: int, unit: str) -> tuple[Any, Any]:
    """Return a started bar and its task; (None, None) where rich is not installed."""
    try:
        from rich.console import Console
        from rich.progress import BarColumn, DownloadColumn, TextColumn, TimeRemainingColumn, TransferSpeedColumn
        from rich.progress import Progress as Bar
    except ImportError:
        return None, None
    columns: list[Any] = [TextColumn("{task.description}"), BarColumn()]
    if unit == "bytes":
        columns += [DownloadColumn(binary_units=True), TransferSpeedColumn(), TimeRemainingColumn()]
    else:
        columns += [TextColumn("{task.completed:,} " + unit)]
        if total:
            columns += [TextColumn("of about {task.total:,}"), TimeRemainingColumn()]
    bar = Bar(*columns, console=Console(stderr=True), transient=True)
    bar.start()
    return bar, bar.add_task(what, total=total or None)
