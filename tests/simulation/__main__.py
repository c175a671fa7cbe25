"""Runs of the Raft core alone.

`python -m tests.simulation --seed 17 [--membership] [--long]` replays one with its trace, `--seeds 0..99999` runs many
and prints those that fail.
"""

from __future__ import annotations

import argparse
import sys
import time

from tests.simulation.checks import Violation
from tests.simulation.world import World


def replay(arguments: argparse.Namespace) -> int:
    """Run one seed and print what happened; returns 1 when a property is violated."""
    world = World(arguments.seed, long=arguments.long, membership=arguments.membership, verbose=not arguments.quiet)
    try:
        world.run()
    except Violation as error:
        print(f"violated at tick {world.now:.3f}: {error}")
        return 1
    print(
        f"{world.writes_acknowledged} writes, {world.reads_served} reads, {world.snapshots_installed} snapshots, "
        f"trace {world.trace_hash}"
    )
    return 0


def run_many(arguments: argparse.Namespace) -> int:
    """Run the seeds; returns 1 when one of them violates a property."""
    first, _, last = arguments.seeds.partition("..")
    started, count, failed, writes = time.monotonic(), 0, 0, 0
    for seed in range(int(first), int(last or first) + 1):
        world = World(seed, long=arguments.long, membership=arguments.membership)
        count += 1
        try:
            world.run()
        except Violation as error:
            failed += 1
            words = f"--seed {seed}{' --membership' * arguments.membership}{' --long' * arguments.long}"
            print(f"seed {seed}: {error}\n  replay: python -m tests.simulation {words}", flush=True)
        writes += world.writes_acknowledged
    print(f"{count} seeds, {failed} violated, {writes} writes acknowledged, {time.monotonic() - started:.1f} s")
    return 1 if failed else 0


def main() -> int:
    """Run what the arguments say."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation")
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--seed", type=int, help="replay one")
    which.add_argument("--seeds", metavar="FIRST..LAST", help="run many")
    parser.add_argument("--membership", action="store_true", help="change the membership during the run")
    parser.add_argument("--long", action="store_true", help="a storm of 1,200 ticks instead of 220")
    parser.add_argument("--quiet", action="store_true", help="with --seed: only the outcome")
    arguments = parser.parse_args()
    return replay(arguments) if arguments.seeds is None else run_many(arguments)


if __name__ == "__main__":
    sys.exit(main())
