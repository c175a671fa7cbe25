"""Replay one run: `python -m tests.simulation --seed 17 [--membership] [--long]`. Prints the trace."""

from __future__ import annotations

import argparse
import sys

from tests.simulation.checks import Violation
from tests.simulation.world import World


def main() -> int:
    """Run the seed; returns 1 when a property is violated."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation")
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--membership", action="store_true", help="change the membership during the run")
    parser.add_argument("--long", action="store_true", help="a storm of 1,200 ticks instead of 220")
    parser.add_argument("--quiet", action="store_true", help="only the outcome")
    arguments = parser.parse_args()
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


if __name__ == "__main__":
    sys.exit(main())
