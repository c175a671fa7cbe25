"""`python -m tests.fuzz resp --inputs 2000000`: feed a parser with as many inputs as one likes.

An input that is not taken well is printed with the command that makes it again.
"""

from __future__ import annotations

import argparse
import sys
import time
from multiprocessing import Pool

from tests.fuzz.batches import run_batch

NAMES = ("resp", "frames", "settings", "commands", "restore")
BATCH = 1000


def run_atheris(name: str, inputs: int) -> None:
    """Let libFuzzer choose the inputs; ends the process."""
    try:
        import atheris
    except ImportError:
        sys.exit("atheris is not installed: pip install atheris")
    with atheris.instrument_imports(include=["zattredis.resp", "zattredis.peer", "zattredis.keyspace"]):
        from tests.fuzz.targets import TARGETS

    target = TARGETS[name]
    if not target.from_bytes:
        sys.exit(f"the inputs of {name} are no bytes: leave out --engine")
    atheris.Setup([sys.argv[0], f"-atheris_runs={inputs}", "-max_len=4096"], target.check)
    atheris.Fuzz()


def main() -> int:
    """Returns 1 when an input is not taken well."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz")
    parser.add_argument("target", choices=NAMES)
    parser.add_argument("--inputs", type=int, default=100_000)
    parser.add_argument("--first", type=int, default=0, help="the seed to begin with")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--engine", choices=["grammar", "atheris"], default="grammar")
    arguments = parser.parse_args()
    if arguments.engine == "atheris":
        run_atheris(arguments.target, arguments.inputs)
    started, done, peak = time.monotonic(), 0, 0
    end = arguments.first + arguments.inputs
    batches = [(arguments.target, first, min(BATCH, end - first)) for first in range(arguments.first, end, BATCH)]
    with Pool(arguments.jobs) as pool:
        for count, memory, trouble in pool.imap_unordered(run_batch, batches):
            done += count
            peak = max(peak, memory)
            if trouble:
                print(trouble)
                return 1
    took = time.monotonic() - started
    print(f"{arguments.target}: {done} inputs taken well, {took:.0f} s, at most {peak >> 10} MiB a process")
    return 0


if __name__ == "__main__":
    sys.exit(main())
