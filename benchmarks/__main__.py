"""`python -m benchmarks`: see the package's own page (`python -c 'import benchmarks; help(benchmarks)'`)."""

from __future__ import annotations

import argparse
import dataclasses
import shutil
import sys
import time
from pathlib import Path

from benchmarks import drills, machine, plot, report, throughput
from benchmarks.load import has_redis_benchmark
from benchmarks.servers import Etcd, Group, RedisServer, Zattredis

SERVERS = ("redis", "one", "three", "etcd")
SECTIONS = ("throughput", "judged", *drills.DRILLS)
JUDGED_SECTIONS = ("judged", "failover", "handover", "memory")
QUICK_EFFORT = throughput.Effort(
    rounds=1, seconds=0.05, first_operations=20, operations_max=500, keys=1000, wait_quiet=False
)


def _numbers(text: str) -> list[int]:
    return [int(word) for word in text.split(",")]


def _words(text: str) -> list[str]:
    return text.split(",")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description="Measures zattredis beside redis-server and etcd, everything fsynced."
    )
    parser.add_argument("--quick", action="store_true", help="tiny counts and one round: whether it runs, not how fast")
    parser.add_argument("--only", type=_words, metavar="SECTIONS", help=f"of {', '.join(SECTIONS)}; default: all")
    parser.add_argument("--servers", type=_words, default=list(SERVERS), help=f"of {', '.join(SERVERS)}")
    parser.add_argument("--operations", type=_words, default=list(throughput.OPERATIONS))
    parser.add_argument("--connections", type=_numbers, default=list(throughput.CONNECTIONS))
    parser.add_argument("--pipelines", type=_numbers, default=list(throughput.PIPELINES))
    parser.add_argument("--values", type=_numbers, default=list(throughput.VALUES_BYTES), help="value sizes in bytes")
    parser.add_argument("--keys", type=int, default=throughput.KEYS, help="keys that requests draw from, at random")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--seconds", type=float, default=1.0, help="per measurement; three times that for rows with a target"
    )
    parser.add_argument("--trials", type=int, default=drills.Size().failover_trials, help="kills of the failover drill")
    parser.add_argument("--dir", type=Path, help="where the servers keep their data; must be on a disk")
    parser.add_argument("--json", type=Path, metavar="FILE", help="keep the results")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw the throughput (PNG)")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the tables in Markdown")
    parser.add_argument(
        "--readme", choices=list(report.README_MARKS), const="goals", nargs="?",
        help="rewrite a section of README.md: goals and drills (the default), or the matrix of all that was measured",
    )  # fmt: skip
    parser.add_argument(
        "--from", dest="kept", type=Path, metavar="FILE", help="take results kept by --json, measure nothing"
    )
    return parser


def _check(options: argparse.Namespace, parser: argparse.ArgumentParser) -> None:
    known = {"only": SECTIONS, "servers": SERVERS, "operations": throughput.OPERATIONS}
    for name, allowed in known.items():
        unknown = set(getattr(options, name) or ()) - set(allowed)
        if unknown:
            parser.error(f"--{name}: unknown {', '.join(sorted(unknown))}; known are {', '.join(allowed)}")
    if min(options.connections + options.pipelines + options.values + [options.rounds, options.keys]) < 1:
        parser.error("counts must be at least 1")


def say(line: str) -> None:
    """Print progress to standard error, so that standard output holds the tables alone."""
    print(f"{time.strftime('%H:%M:%S')} {line}", file=sys.stderr, flush=True)


def _sections(options: argparse.Namespace) -> set[str]:
    if options.only is None:
        return {"throughput", *drills.DRILLS}
    return set(JUDGED_SECTIONS if options.only == ["judged"] else options.only)


def _rows(options: argparse.Namespace, sections: set[str]) -> list[throughput.Cell]:
    rows = throughput.cells(options.operations, options.connections, options.pipelines, options.values)
    if "throughput" in sections:
        return rows
    return [row for row in rows if row.judged] if "judged" in sections else []


def _measure_throughput(
    out: report.Report, options: argparse.Namespace, rows: list[throughput.Cell], directory: Path
) -> None:
    wanted = set(options.servers)
    redis = RedisServer(directory / "redis") if "redis" in wanted and RedisServer.installed() else None
    one = Zattredis(directory / "one", 1) if "one" in wanted else None
    three = Zattredis(directory / "three", 3) if "three" in wanted else None
    etcd = Etcd(directory / "etcd") if "etcd" in wanted and Etcd.installed() else None
    groups: list[Group] = [group for group in (redis, one, three, etcd) if group is not None]
    effort = QUICK_EFFORT if options.quick else throughput.Effort(options.rounds, options.seconds, keys=options.keys)
    try:
        for group in groups:
            group.start()
            version = group.version()
            if version not in out.versions:
                out.versions.append(version)
        columns = throughput.columns_of(redis, one, three, etcd)
        out.columns = {column.name: column.title for column in columns}
        out.rounds = effort.rounds
        out.results = throughput.run(columns, rows, effort, say)
    finally:
        for group in groups:
            group.stop()


def _run(options: argparse.Namespace) -> report.Report:
    sections = _sections(options)
    generators = "redis-benchmark, mixed by its own client" if has_redis_benchmark() else "its own client"
    out = report.Report(machine=machine.describe(), load_generator=generators, when=time.strftime("%Y-%m-%d"))
    directory = throughput.data_directory(options.dir)
    size = drills.QUICK if options.quick else dataclasses.replace(
        drills.Size(), failover_trials=options.trials, type_rounds=options.rounds
    )
    try:
        rows = _rows(options, sections)
        if rows:
            _measure_throughput(out, options, rows, directory)
        for name, drill in drills.DRILLS.items():
            if name not in sections:
                continue
            try:
                out.drills[name] = drill(directory, size, say)
            except (drills.DrillFailed, TimeoutError, OSError, RuntimeError) as error:
                out.notes.append(f"{name}: {error}")
                say(f"{name} failed: {error}")
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    return out


def main(arguments: list[str] | None = None) -> int:
    """Run what the arguments ask for; return 0 when every measurement ran to its end, 1 otherwise."""
    parser = _parser()
    options = parser.parse_args(arguments)
    _check(options, parser)
    try:
        out = report.load(options.kept) if options.kept else _run(options)
    except RuntimeError as error:
        print(error, file=sys.stderr)
        return 1
    print(report.render_text(out))
    if options.json:
        report.save(out, options.json)
    if options.markdown:
        options.markdown.write_text(report.render_markdown(out), encoding="utf-8")
    if options.readme:
        report.rewrite_readme(out, Path("README.md"), options.readme)
    if options.plot:
        plot.draw(out, options.plot)
    return 1 if out.failures else 0


if __name__ == "__main__":
    sys.exit(main())
