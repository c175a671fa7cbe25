"""What the processes of `python -m tests.fuzz` do.

Apart from that program itself: processes that are started, not forked, find nothing in a package's `__main__`.
"""

from __future__ import annotations

import random
import traceback
from resource import RUSAGE_SELF, getrusage


def run_batch(arguments: tuple[str, int, int]) -> tuple[int, int, str]:
    """Feed the inputs of `count` seeds from `first` on; return (how many, peak memory in KiB, trouble or "")."""
    from tests.fuzz.targets import TARGETS  # not before `run_atheris` can instrument what it imports

    name, first, count = arguments
    target = TARGETS[name]
    for seed in range(first, first + count):
        found = target.make(random.Random(seed))
        try:
            target.check(found)
        except Exception:
            again = f"python -m tests.fuzz {name} --first {seed} --inputs 1"
            text = f"{traceback.format_exc()}\ninput: {found!r}\nagain: {again}"
            return seed - first + 1, getrusage(RUSAGE_SELF).ru_maxrss, text
    return count, getrusage(RUSAGE_SELF).ru_maxrss, ""
