"""This source tree against another, for a change that claims to be quicker: `python -m benchmarks.compare BEFORE`.

BEFORE is a directory that holds another `zattredis` package (`git worktree add /tmp/before HEAD~1`). Both are started
side by side, the rounds are interleaved, and each row shows the ratio after : before of every round beside the median,
so that noise is seen for what it is.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import sys
from pathlib import Path

from benchmarks import throughput
from benchmarks.__main__ import say
from benchmarks.report import Table, as_text, number
from benchmarks.servers import SOURCE, Zattredis
from benchmarks.throughput import Column, Result


def ratios(before: Result, after: Result, figure: str) -> list[float]:
    """Return after : before of one figure, round by round."""
    pairs = zip(before.figures, after.figures, strict=False)
    return [(new.to_json()[figure] or 0) / old for own, new in pairs if (old := own.to_json()[figure])]


def table(results: throughput.Results, placement: str) -> Table:
    """Return the rates before and after, their ratio in all rounds, and the ratios of p99 and processor time."""
    lines = []
    for row, by_column in results.items():
        before, after = by_column[f"before-{placement}"], by_column[f"after-{placement}"]
        rates = ratios(before, after, "operations_per_s")
        if not rates:
            lines.append([row, *[(before.failures + after.failures)[-1]], "", "", "", "", ""])
            continue
        line = [row, number(before.median("operations_per_s")), number(after.median("operations_per_s"))]
        line += [number(statistics.median(rates)), " ".join(number(ratio) for ratio in rates)]
        for figure in ("p99_ms", "cpu_us_per_operation"):
            each = ratios(before, after, figure)
            line.append(number(statistics.median(each) if each else None))
        lines.append(line)
    return ["row", "before/s", "after/s", "ratio", "each round", "p99", "CPU/op"], lines


def run(options: argparse.Namespace, directory: Path) -> str:
    """Start both, measure, and return the table as text."""
    before = Zattredis(directory / "before", options.nodes, options.before.resolve())
    after = Zattredis(directory / "after", options.nodes, options.after.resolve())
    try:
        for group in (before, after):
            group.start()
        columns = [
            Column(f"before-{options.clients}", "before", before, options.clients),
            Column(f"after-{options.clients}", "after", after, options.clients),
        ]
        rows = throughput.cells(options.operations, options.connections, options.pipelines, options.values)
        effort = throughput.Effort(options.rounds, options.seconds, keys=options.keys)
        return as_text(table(throughput.run(columns, rows, effort, say), options.clients))
    finally:
        before.stop()
        after.stop()


def main() -> int:
    """Parse the arguments, compare, print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.compare", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("before", type=Path)
    parser.add_argument("--after", type=Path, default=SOURCE)
    parser.add_argument("--nodes", type=int, choices=(1, 3), default=1)
    parser.add_argument("--clients", choices=("leader", "spread"), default="leader")
    parser.add_argument("--operations", type=lambda text: text.split(","), default=["set", "get"])
    parser.add_argument("--connections", type=lambda text: [int(word) for word in text.split(",")], default=[50])
    parser.add_argument("--pipelines", type=lambda text: [int(word) for word in text.split(",")], default=[1, 16])
    parser.add_argument("--values", type=lambda text: [int(word) for word in text.split(",")], default=[64])
    parser.add_argument("--keys", type=int, default=throughput.KEYS)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--dir", type=Path)
    options = parser.parse_args()
    for tree in (options.before, options.after):
        if not (tree / "zattredis" / "__init__.py").exists():
            parser.error(f"{tree} holds no zattredis package")
    directory = throughput.data_directory(options.dir)
    try:
        print(run(options, directory))
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
