"""Tables in plain text and Markdown, the kept JSON, and the section of README.md."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.goals import DrillFigures, Verdict, judge
from benchmarks.load import Figures
from benchmarks.throughput import Result, Results

README_MARKS = {
    "goals": ("<!-- benchmarks:begin -->", "<!-- benchmarks:end -->"),
    "matrix": ("<!-- matrix:begin -->", "<!-- matrix:end -->"),
}
"""Sections of README that a run can rewrite, and between which marks each stands."""
ABSENT = "–"
FIGURE_NAMES = ("operations", "operations_per_s", "p50_ms", "p99_ms", "cpu_seconds", "syncs")


@dataclass
class Report:
    """Everything one run found out. `columns` is name → title, in order; the first RESP server is the reference."""

    machine: str = ""
    versions: list[str] = field(default_factory=list)
    load_generator: str = ""
    when: str = ""
    rounds: int = 0
    columns: dict[str, str] = field(default_factory=dict)
    results: Results = field(default_factory=dict)
    drills: DrillFigures = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def failures(self) -> list[str]:
        """Return what did not run to its end, one line each."""
        lines = [
            f"{row}, {column}: {failure}"
            for row, by_column in self.results.items()
            for column, result in by_column.items()
            for failure in result.failures
        ]
        return lines + self.notes

    def to_json(self) -> dict[str, Any]:
        """Return what `from_json` takes."""
        kept = {name: value for name, value in vars(self).items() if name != "results"}
        kept["results"] = {
            row: {
                column: {"rounds": [each.to_json() for each in result.figures], "failures": result.failures}
                for column, result in by_column.items()
            }
            for row, by_column in self.results.items()
        }
        return kept

    @classmethod
    def from_json(cls, kept: dict[str, Any]) -> Report:
        """Return the report of a kept run."""
        results: Results = {
            row: {
                column: Result(
                    [Figures(**{name: each[name] for name in FIGURE_NAMES}) for each in result["rounds"]],
                    list(result["failures"]),
                )
                for column, result in by_column.items()
            }
            for row, by_column in kept["results"].items()
        }
        return cls(**{**kept, "results": results})


Table = tuple[list[str], list[list[str]]]


def number(value: float | None, unit: str = "") -> str:
    """Return a figure with about three significant digits."""
    if value is None:
        return ABSENT
    digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2
    return f"{value:,.{digits}f}" + (f" {unit}" if unit and unit != "×" else unit)


def throughput_table(report: Report) -> Table:
    """Operations per second, and in brackets the ratio to redis-server."""
    lines = []
    for row, by_column in report.results.items():
        reference = by_column["redis"].median("operations_per_s") if "redis" in by_column else None
        line = [row]
        for column in report.columns:
            rate = by_column[column].median("operations_per_s") if column in by_column else None
            ratio = f" ({rate / reference:.2f})" if rate and reference and column != "redis" else ""
            line.append(number(rate) + ratio)
        lines.append(line)
    return ["operations/s (of redis-server)", *report.columns.values()], lines


def detail_table(report: Report) -> Table:
    """p50 / p99 in ms · processor µs per operation · syncs per thousand operations."""
    lines = []
    for row, by_column in report.results.items():
        line = [row]
        for column in report.columns:
            result = by_column.get(column)
            if result is None or not result.figures:
                line.append(ABSENT)
                continue
            latency = f"{number(result.median('p50_ms'))} / {number(result.median('p99_ms'))}"
            cost = f"{number(result.median('cpu_us_per_operation'))} · {number(result.median('syncs_per_1000'))}"
            line.append(f"{latency} · {cost}")
        lines.append(line)
    return ["p50 / p99 ms · CPU µs/op · fsyncs/1000 ops", *report.columns.values()], lines


def drill_table(report: Report) -> Table:
    """What the drills measured."""
    lines = [
        [drill, figure.replace("_", " "), number(value)]
        for drill, figures in report.drills.items()
        for figure, value in figures.items()
    ]
    return ["drill", "figure", "measured"], lines


def goal_table(report: Report) -> Table:
    """Every goal that this run measured."""
    words = {True: "reached", False: "missed", None: ABSENT}
    lines = [_goal_line(verdict, words) for verdict in judge(report.results, report.drills)]
    return ["goal", "aimed at", "measured", ""], [line for line in lines if line[2] != ABSENT]


def _goal_line(verdict: Verdict, words: dict[bool | None, str]) -> list[str]:
    goal = verdict.goal
    bound = ("≥ " if goal.at_least else "≤ ") + number(goal.bound, goal.unit)
    return [goal.name, bound, number(verdict.measured, goal.unit), words[verdict.reached]]


def as_text(table: Table) -> str:
    """Return a table in aligned columns."""
    header, lines = table
    rows = [header, *lines]
    widths = [max(len(row[position]) for row in rows) for position in range(len(header))]
    out = []
    for row in rows:
        words = [word.rjust(width) for word, width in zip(row, widths, strict=True)]
        out.append("  ".join([row[0].ljust(widths[0]), *words[1:]]).rstrip())
    out.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join(out)


def as_markdown(table: Table) -> str:
    """Return a table in Markdown."""
    header, lines = table
    rule = ["---", *["---:"] * (len(header) - 1)]
    return "\n".join("| " + " | ".join(row) + " |" for row in [header, rule, *lines])


def _sections(report: Report) -> Sequence[tuple[str, Table]]:
    sections = [
        ("Goals", goal_table(report)),
        ("Throughput", throughput_table(report)),
        ("Latency and cost", detail_table(report)),
        ("Drills", drill_table(report)),
    ]
    return [(title, table) for title, table in sections if table[1]]


def _preface(report: Report) -> list[str]:
    return [
        f"Machine: {report.machine}.",
        f"Measured {report.when}: {', '.join(report.versions)}; load by {report.load_generator}; "
        f"medians of {report.rounds} interleaved round{'s' if report.rounds != 1 else ''}, "
        "servers and clients on the same cores, everything fsynced.",
    ]


def render_text(report: Report) -> str:
    """Return the whole report for a terminal."""
    parts = ["\n".join(_preface(report))]
    parts += [f"{title}\n\n{as_text(table)}" for title, table in _sections(report)]
    if report.failures:
        parts.append("Failed\n\n" + "\n".join(report.failures))
    return "\n\n".join(parts)


def render_markdown(report: Report, heading: str = "##") -> str:
    """Return the whole report in Markdown."""
    parts = ["\n".join(_preface(report))]
    parts += [f"{heading} {title}\n\n{as_markdown(table)}" for title, table in _sections(report)]
    if report.failures:
        parts.append(f"{heading} Failed\n\n" + "\n".join(f"- {line}" for line in report.failures))
    return "\n\n".join(parts) + "\n"


def render_matrix(report: Report) -> str:
    """Return the throughput of every row in Markdown."""
    return "\n".join([*_preface(report), "", as_markdown(throughput_table(report))]) + "\n"


def rewrite_readme(report: Report, readme: Path, section: str = "goals") -> None:
    """Put the report between the two marks of a section of README.md (see README_MARKS).

    Raises ValueError when they are not there, in order.
    """
    text = readme.read_text(encoding="utf-8")
    first, last = README_MARKS[section]
    begin, end = text.find(first), text.find(last)
    if begin < 0 or end < begin:
        raise ValueError(f"{readme} lacks {first} … {last}")
    lines = render_matrix(report) if section == "matrix" else render_markdown(report, heading="###")
    readme.write_text(text[: begin + len(first)] + "\n" + lines + text[end:], encoding="utf-8")


def save(report: Report, path: Path) -> None:
    """Keep the report as JSON."""
    path.write_text(json.dumps(report.to_json(), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def load(path: Path) -> Report:
    """Return a kept report."""
    return Report.from_json(json.loads(path.read_text(encoding="utf-8")))
