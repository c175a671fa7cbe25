"""`python -m benchmarks --quick` as a user runs it: every row is there, the exit code is 0. No figure is judged."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import throughput
from benchmarks.drills import DRILLS

ROOT = Path(__file__).parents[2]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "benchmarks", "--quick", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240, check=False)


def test_throughput_has_every_row_and_column(tmp_path: Path) -> None:
    kept = tmp_path / "results.json"
    done = run(
        "--only", "throughput", "--connections", "1,5", "--pipelines", "4", "--values", "64",
        "--json", str(kept), "--markdown", str(tmp_path / "tables.md"), "--dir", str(tmp_path),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr + done.stdout
    rows = throughput.cells(connections=[1, 5], pipelines=[4], values_bytes=[64])
    results = json.loads(kept.read_text())["results"]
    assert list(results) == [row.name for row in rows]
    for row in rows:
        assert row.name in done.stdout
        assert {"one", "three", "spread"} <= set(results[row.name])
        assert all(result["rounds"] for result in results[row.name].values())
    assert "one node" in (tmp_path / "tables.md").read_text()
    assert not list(tmp_path.glob("zattredis-benchmark-*"))


def test_every_drill_ends_with_its_figures(tmp_path: Path) -> None:
    kept = tmp_path / "results.json"
    done = run("--only", ",".join(DRILLS), "--json", str(kept), "--dir", str(tmp_path))
    assert done.returncode == 0, done.stderr + done.stdout
    drills = json.loads(kept.read_text())["drills"]
    assert list(drills) == list(DRILLS)
    assert all(value >= 0 for figures in drills.values() for value in figures.values())


@pytest.mark.parametrize("arguments", [("--only", "nonsense"), ("--operations", "zadd"), ("--connections", "0")])
def test_bad_arguments_are_refused_in_one_line(arguments: tuple[str, ...]) -> None:
    done = run(*arguments)
    assert done.returncode == 2
    assert done.stderr.strip().splitlines()[-1].startswith("python -m benchmarks: error:")


def test_a_plot_is_drawn_from_kept_results(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="needs matplotlib (the dev extra)")
    from benchmarks import plot

    from .test_parts import some_report

    plot.draw(some_report(), tmp_path / "plot.png")
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")
