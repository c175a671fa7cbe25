"""A picture of the throughput ratios; needs matplotlib (the `dev` extra)."""

from __future__ import annotations

from pathlib import Path

from benchmarks.report import Report


def draw(report: Report, path: Path) -> None:
    """Write a PNG: one group of bars per row with 50 connections, operations per second, one colour per server.

    Raises ModuleNotFoundError without matplotlib, ValueError when the report has no such row.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    rows = [row for row in report.results if "50 connections" in row] or list(report.results)
    if not rows:
        raise ValueError("nothing to draw: the run measured no throughput")
    figure, axes = pyplot.subplots(figsize=(11, 1.2 + 0.75 * len(rows)), layout="constrained")
    height = 0.85 / len(report.columns)
    for position, (column, title) in enumerate(report.columns.items()):
        rates = [
            (report.results[row][column].median("operations_per_s") or 0.0) if column in report.results[row] else 0.0
            for row in rows
        ]
        places = [index + position * height for index in range(len(rows))]
        bars = axes.barh(places, rates, height=height * 0.92, label=title)
        axes.bar_label(bars, labels=[f"{rate / 1000:,.1f}k" if rate else "" for rate in rates], padding=2, fontsize=7)
    axes.set_yticks([index + 0.425 - height / 2 for index in range(len(rows))], rows)
    axes.margins(x=0.08, y=0.01)
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.set_xlabel("operations per second (logarithmic), everything fsynced")
    axes.set_title(report.machine, fontsize=8)
    axes.legend(fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.06), ncols=3)
    figure.savefig(path, dpi=90)
    pyplot.close(figure)
