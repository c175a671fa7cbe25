"""Run seeds of the simulator of whole nodes: `python -m tests.simulation.nodes --seeds 0..299 [--transcript]`."""

from __future__ import annotations

import argparse
import sys
import time
import traceback
from multiprocessing import Pool

from tests.simulation.checks import Violation
from tests.simulation.node_world import NodeWorld


def run_seed(arguments: tuple[int, float, bool]) -> tuple[int, str, str, list[str], dict[str, int]]:
    """Run one seed; return (seed, violation or "", trace hash, transcript, figures)."""
    seed, storm_s, transcript = arguments
    world = NodeWorld(seed, storm_s=storm_s, transcript=transcript)
    text = ""
    try:
        world.run()
    except Violation as violation:
        text = str(violation) or repr(violation)
    except Exception as error:
        world.lines.extend("".join(traceback.format_exception(error)).splitlines())
        text = f"the simulator failed: {error!r}"
    figures = {
        name: getattr(world, name) for name in ("answered", "refused", "unknown", "applied", "restarts", "rejoins")
    }
    figures["undecided"] = world.load.undecided
    lines = list(world.lines) if transcript or text else []
    return seed, text, world.trace_hash, lines, figures


def main() -> int:
    """Run the seeds; returns 1 when a property is violated."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation.nodes")
    parser.add_argument("--seeds", required=True, help="one seed, or first..last")
    parser.add_argument("--storm", type=float, default=6.0, help="simulated seconds of faults in each run")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--transcript", action="store_true", help="print everything that happened")
    parser.add_argument("--keep-going", action="store_true", help="run all seeds, even after a violation")
    arguments = parser.parse_args()
    first, _, last = arguments.seeds.partition("..")
    seeds = [(seed, arguments.storm, arguments.transcript) for seed in range(int(first), int(last or first) + 1)]
    started, failed, totals, count = time.monotonic(), 0, {}, 0
    pool = Pool(arguments.jobs) if arguments.jobs > 1 else None
    results = pool.imap(run_seed, seeds) if pool is not None else map(run_seed, seeds)
    for seed, violation, trace_hash, lines, figures in results:
        count += 1
        for name, value in figures.items():
            totals[name] = totals.get(name, 0) + value
        if arguments.transcript:
            print("\n".join(lines))
        if violation:
            failed += 1
            print(f"seed {seed}: {violation}\n  replay: python -m tests.simulation.nodes --seeds {seed} --transcript"
                  + (f" --storm {arguments.storm}" if arguments.storm != 6.0 else ""))  # fmt: skip
            if not arguments.keep_going:
                break
        if len(seeds) == 1:
            print(f"trace {trace_hash} {figures}")
    if pool is not None:
        pool.terminate()
    took = time.monotonic() - started
    print(f"{count} seeds, {failed} violated, {took:.1f} s, {count / took:.2f} seeds/s, {totals}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
