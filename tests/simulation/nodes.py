"""Run seeds of the simulator of whole nodes: `python -m tests.simulation.nodes --seeds 0..299 [--transcript]`.

A seed that fails prints the command that replays it. `--shrink` looks for the least that still fails: fault kinds are
switched off, the storm is shortened, clients are taken away; what is left is printed as a command, too.
"""

from __future__ import annotations

import argparse
import ast
import dataclasses
import shlex
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from multiprocessing import Pool
from typing import Any, NamedTuple

from tests.simulation.checks import Violation
from tests.simulation.node_plan import FAULT_RATES, STORM_S, NodePlan
from tests.simulation.node_world import NodeWorld

RUN_CPU_S = 60.0
"""A hundred times what a run needs. The count of events does not see a loop that never returns from one of them."""


class Job(NamedTuple):
    """One run: `changes` replace what the seed draws for its plan."""

    seed: int
    storm_s: float = STORM_S
    changes: tuple[tuple[str, Any], ...] = ()
    transcript: bool = False

    @property
    def command(self) -> str:
        """The command that replays it."""
        words = [f"python -m tests.simulation.nodes --seeds {self.seed} --transcript"]
        if self.storm_s != STORM_S:
            words.append(f"--storm {self.storm_s:g}")
        off = [name for name, value in self.changes if name in FAULT_RATES and value == 0.0]
        words += [f"--off {','.join(off)}"] if off else []
        words += [shlex.join(["--set", f"{name}={value!r}"]) for name, value in self.changes if name not in off]
        return " ".join(words)


class Result(NamedTuple):
    """What became of a run; `violation` is empty when all is well."""

    job: Job
    violation: str
    trace_hash: str
    lines: list[str]
    figures: dict[str, int]


def _too_long(*_: Any) -> None:
    raise Violation(f"an endless loop: {RUN_CPU_S:.0f} s of the processor's time are over")


def run(job: Job) -> Result:
    """Run one seed."""
    world = NodeWorld(job.seed, storm_s=job.storm_s, transcript=job.transcript, **dict(job.changes))
    text = ""
    signal.signal(signal.SIGVTALRM, _too_long)
    signal.setitimer(signal.ITIMER_VIRTUAL, RUN_CPU_S * max(1.0, job.storm_s / STORM_S))
    try:
        world.run()
    except Violation as violation:
        text = str(violation) or repr(violation)
    except Exception as error:
        world.lines.extend("".join(traceback.format_exception(error)).splitlines())
        text = f"the simulator failed: {error!r}"
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0.0)
    figures = {
        name: getattr(world, name) for name in ("answered", "refused", "unknown", "applied", "restarts", "rejoins")
    }
    figures["undecided"] = world.load.undecided
    return Result(job, text, world.trace_hash, list(world.lines) if job.transcript or text else [], figures)


# --- shrinking --------------------------------------------------------------------------------------------------------


def shrink(job: Job, seconds: float = 60.0, tell: Callable[[str], None] = lambda text: None) -> Job:
    """Return the smallest run found within `seconds` that still fails as `job` does (any violation counts)."""
    end = time.monotonic() + seconds
    best = job
    progress = True
    while progress and time.monotonic() < end:
        progress = False
        for smaller in _smaller(best):
            if time.monotonic() > end:
                break
            if run(smaller).violation:
                tell(f"still fails with {dict(set(smaller.changes) - set(best.changes))}")
                best, progress = smaller, True
                break
    return best


def _smaller(job: Job) -> Iterator[Job]:
    plan = NodeWorld(job.seed, storm_s=job.storm_s, **dict(job.changes)).plan

    def changed(**values: Any) -> Job:
        return job._replace(changes=tuple(sorted({**dict(job.changes), **values}.items())))

    for part in (0.25, 0.5, 0.75, 0.9):
        if plan.ends_s * part >= 0.5:
            yield changed(ends_s=round(plan.ends_s * part, 2))
    for name in FAULT_RATES:
        if getattr(plan, name):
            yield changed(**{name: 0.0})
    if plan.clients_per_node > 1:
        yield changed(clients_per_node=1)
    if plan.busy_nodes > 1:
        yield changed(busy_nodes=min(plan.busy_nodes, plan.voters) - 1)
    for name in ("loss", "duplication", "late"):
        if getattr(plan.weather, name):
            yield changed(weather=dataclasses.replace(plan.weather, **{name: 0.0}))


# --- the command ------------------------------------------------------------------------------------------------------


def _change(text: str) -> tuple[str, Any]:
    name, _, value = text.partition("=")
    if name not in {field.name for field in dataclasses.fields(NodePlan)}:
        raise argparse.ArgumentTypeError(f"a plan has no {name!r}")
    if name == "weather":
        return name, _weather(value)
    return name, ast.literal_eval(value)


def _weather(text: str) -> Any:
    from tests.simulation.sim_network import Weather

    call = ast.parse(text, mode="eval").body
    assert isinstance(call, ast.Call)
    return Weather(**{word.arg or "": ast.literal_eval(word.value) for word in call.keywords})


def main() -> int:
    """Run the seeds; returns 1 when a property is violated."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation.nodes")
    parser.add_argument("--seeds", required=True, help="one seed, or first..last")
    parser.add_argument("--storm", type=float, default=STORM_S, help="simulated seconds of faults in each run")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--transcript", action="store_true", help="print everything that happened")
    parser.add_argument("--keep-going", action="store_true", help="run all seeds, even after a violation")
    parser.add_argument("--shrink", type=float, metavar="SECONDS", help="look for a smaller run that still fails")
    parser.add_argument("--set", type=_change, action="append", default=[], metavar="NAME=VALUE",
                        help="replace what the seed draws for its plan")  # fmt: skip
    parser.add_argument("--off", type=lambda text: text.split(","), default=[], metavar="NAME,…",
                        help=f"switch off kinds of faults: {', '.join(FAULT_RATES)}")  # fmt: skip
    arguments = parser.parse_args()
    changes = {**dict.fromkeys(arguments.off, 0.0), **dict(arguments.set)}
    first, _, last = arguments.seeds.partition("..")
    seeds = range(int(first), int(last or first) + 1)
    jobs = [Job(seed, arguments.storm, tuple(sorted(changes.items())), arguments.transcript) for seed in seeds]
    started, failed, count = time.monotonic(), 0, 0
    totals: dict[str, int] = {}
    pool = Pool(arguments.jobs) if arguments.jobs > 1 else None
    for result in pool.imap(run, jobs, chunksize=4) if pool is not None else map(run, jobs):
        count += 1
        _add(totals, result.figures)
        if arguments.transcript:
            print("\n".join(result.lines))
        if result.violation:
            failed += 1
            print(f"seed {result.job.seed}: {result.violation}\n  replay: {result.job.command}", flush=True)
            if arguments.shrink:
                smallest = shrink(result.job, arguments.shrink, lambda text: print(f"  {text}", flush=True))
                print(f"  smallest: {smallest.command}", flush=True)
            if not arguments.keep_going:
                break
        if len(jobs) == 1:
            print(f"trace {result.trace_hash} {result.figures}")
    if pool is not None:
        pool.terminate()
    took = time.monotonic() - started
    print(f"{count} seeds, {failed} violated, {took:.1f} s, {count / took:.2f} seeds/s, {totals}")
    return 1 if failed else 0


def _add(totals: dict[str, int], figures: Mapping[str, int]) -> None:
    for name, value in figures.items():
        totals[name] = totals.get(name, 0) + value


if __name__ == "__main__":
    sys.exit(main())
