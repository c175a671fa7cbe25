"""`python -m tests.chaos --nodes 3 --seconds 600`: the long form. Needs root, namespaces, loop devices and strace."""

from __future__ import annotations

import argparse
import random
import sys
import time

from tests.chaos.arena import why_unavailable
from tests.chaos.faults import FAULTS
from tests.chaos.run import drawn, storm


def main() -> int:
    """Returns 0 when nothing was lost and every history is linearizable, else 1; 2 where it cannot run."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--nodes", type=int, default=3, choices=(3, 5))
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--faults", default="", help=f"only these, comma-separated, of {', '.join(FAULTS)}")
    options = parser.parse_args()
    names = options.faults.split(",") if options.faults else list(FAULTS)
    if unknown := [name for name in names if name not in FAULTS]:
        parser.error(f"no such fault: {', '.join(unknown)}")
    if reason := why_unavailable():
        print(reason, file=sys.stderr)
        return 2
    print(f"seed {options.seed}", flush=True)
    verdict = storm(
        options.nodes,
        drawn(random.Random(options.seed), names),
        seed=options.seed,
        seconds=options.seconds,
        tell=lambda line: print(line, flush=True),
    )
    print(verdict)
    for text in verdict.wrong:
        print(text, file=sys.stderr)
    return 1 if verdict.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
