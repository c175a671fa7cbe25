"""Where a node spends its time under load: `python -m benchmarks.profile [--operation set] [--pipeline 16] …`.

Starts one or three nodes, puts load on them, records one with py-spy (the `dev` extra; needs the right to trace a
child process, which root has), and prints the functions by the share of samples in which they were on top of the stack
(self) and anywhere in it (total). Samples are of the threads that run; time inside C code counts for the Python
function that called it. `--raw FILE` keeps the stacks for a flame graph.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import threading
from collections import Counter
from pathlib import Path

from benchmarks import machine, throughput
from benchmarks.client import preload
from benchmarks.load import Figures, Load, measure
from benchmarks.servers import Zattredis

KEYS = 10_000


def find_py_spy() -> str:
    """Return the path of py-spy beside this Python or on PATH; raises RuntimeError with the remedy."""
    beside = Path(sysconfig.get_path("scripts")) / "py-spy"
    found = str(beside) if beside.exists() else shutil.which("py-spy")
    if not found:
        raise RuntimeError("py-spy is missing: pip install 'zattredis[dev]'")
    return found


def shorten(frame: str) -> str:
    """Return a frame without the directories before this package or the site's packages."""
    for mark in ("/site-packages/", "/zattredis/"):
        position = frame.rfind(mark)
        if position >= 0:
            start = frame.rfind("(", 0, position)
            return frame[: start + 1] + frame[position + (len("/site-packages/") if mark == "/site-packages/" else 1) :]
    return frame


def without_line(frame: str) -> str:
    """Return a frame such as `step (zattredis/raft/core.py:120)` without its line number."""
    name, separator, line = frame.rpartition(":")
    return name + ")" if separator and line.rstrip(")").isdigit() else frame


def count_frames(raw: str, *, lines: bool) -> tuple[Counter[str], Counter[str], int]:
    """Return samples by function on top, samples by function anywhere, and all samples, from py-spy's raw output.

    With `lines` the line numbers stay, so that each line counts for itself.
    """
    own: Counter[str] = Counter()
    anywhere: Counter[str] = Counter()
    total = 0
    for line in raw.splitlines():
        stack, _, count_text = line.rpartition(" ")
        if not count_text.isdigit():
            continue
        count = int(count_text)
        frames = [shorten(frame) for frame in stack.split(";")]
        if not lines:
            frames = [without_line(frame) for frame in frames]
        own[frames[-1]] += count
        anywhere.update(dict.fromkeys(frames, count))
        total += count
    return own, anywhere, total


def record(pid: int, seconds: int, output: Path, *, rate: int, threads_waiting: bool) -> subprocess.Popen[bytes]:
    """Start py-spy on a process; the caller waits for it."""
    arguments = [find_py_spy(), "record", "--pid", str(pid), "--duration", str(seconds), "--rate", str(rate)]
    arguments += ["--format", "raw", "--output", str(output)]
    if threads_waiting:
        arguments.append("--idle")
    return subprocess.Popen(arguments, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def _set_at_end(child: subprocess.Popen[bytes], done: threading.Event) -> None:
    child.wait()
    done.set()


def _load_until(
    done: threading.Event, options: argparse.Namespace, group: Zattredis, ports: list[int]
) -> list[Figures]:
    """Put load on in turns until the recording has ended."""
    figures: list[Figures] = []
    operations = 4000 * options.pipeline
    for _ in range(1000):
        if done.is_set():
            break
        load = Load(options.operation, options.connections, options.pipeline, options.value_bytes, operations, KEYS)
        figures.append(measure(load, ports, group))
        operations = max(1000, int(figures[-1].operations_per_s * min(2.0, options.seconds)))
    return figures


def run(options: argparse.Namespace, directory: Path) -> str:
    """Start the nodes, record, and return the tables as text."""
    group = Zattredis(directory / "nodes", options.nodes)
    raw = options.raw or directory / "stacks.txt"
    try:
        group.start()
        leader = group.leader()
        preload(group.ports[leader], KEYS, options.value_bytes)
        column = throughput.Column("profiled", group.title, group, options.clients)
        position = leader if options.profiled == "leader" or options.nodes == 1 else (leader + 1) % options.nodes
        child = record(
            group.processes[position].pid, options.seconds, raw, rate=options.rate, threads_waiting=options.idle
        )
        done = threading.Event()
        watcher = threading.Thread(target=_set_at_end, args=(child, done), daemon=True)
        watcher.start()
        figures = _load_until(done, options, group, column.ports())
        watcher.join(options.seconds + 30.0)
        if child.returncode != 0:
            raise RuntimeError(f"py-spy failed: {child.stderr.read().decode().strip() if child.stderr else ''}")
    finally:
        group.stop()
    own, anywhere, total = count_frames(raw.read_text(), lines=options.lines)
    rate = sum(each.operations_per_s for each in figures) / max(1, len(figures))
    cpu = sum(each.cpu_seconds for each in figures) / max(1, sum(each.operations for each in figures))
    out = [
        machine.describe(),
        f"{options.operation}, {options.connections} connections, pipeline {options.pipeline}, "
        f"{options.value_bytes} B, {group.title}, {options.profiled} recorded",
        f"{rate:,.0f} operations/s, {cpu * 1e6:.1f} µs of processor each (all nodes), {total} samples",
    ]
    for title, counter in (("self", own), ("total", anywhere)):
        out.append(f"\n{title:>6}  function")
        out += [f"{100 * count / max(1, total):5.1f}%  {frame}" for frame, count in counter.most_common(options.top)]
    return "\n".join(out)


def main() -> int:
    """Parse the arguments, record, print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.profile", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--operation", choices=throughput.OPERATIONS, default="set")
    parser.add_argument("--connections", type=int, default=50)
    parser.add_argument("--pipeline", type=int, default=1)
    parser.add_argument("--value-bytes", type=int, default=64)
    parser.add_argument("--nodes", type=int, choices=(1, 3), default=1)
    parser.add_argument("--clients", choices=("leader", "followers", "spread"), default="leader")
    parser.add_argument("--profiled", choices=("leader", "follower"), default="leader", help="which node is recorded")
    parser.add_argument("--seconds", type=int, default=10)
    parser.add_argument("--rate", type=int, default=500, help="samples per second")
    parser.add_argument("--top", type=int, default=30)
    parser.add_argument("--lines", action="store_true", help="count each line for itself")
    parser.add_argument("--idle", action="store_true", help="count threads that wait, too")
    parser.add_argument("--raw", type=Path, help="keep py-spy's raw stacks (for a flame graph)")
    parser.add_argument("--dir", type=Path, default=Path(tempfile.gettempdir()))
    options = parser.parse_args()
    directory = throughput.data_directory(options.dir)
    try:
        print(run(options, directory))
    except (RuntimeError, TimeoutError) as error:
        print(error, file=sys.stderr)
        return 1
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
