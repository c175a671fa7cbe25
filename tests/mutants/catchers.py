"""What notices a fault: seeds of one of the simulators, or tests that exist anyway.

A catcher's `run` returns what was noticed, or None. Seeds are tried in order until one fails, so that a change of what
seeds draw does not make a mutant escape; what counts is that some of the first `seeds` notices it.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

REPOSITORY = Path(__file__).parents[2]
STARTUP = REPOSITORY / "tests" / "support" / "startup"
MUTANT = "ZATTREDIS_TEST_MUTANT"


@dataclass(frozen=True)
class Found:
    """What a catcher noticed; `runs` is how many seeds or tests that took."""

    text: str
    runs: int


class Catcher(Protocol):
    """Something that should notice a fault."""

    def run(self, mutant: str, runs: int | None = None) -> Found | None:
        """Run under the fault (already in force here; named for other processes), at most `runs` seeds."""
        ...


def _first_line(text: str) -> str:
    return text.strip().splitlines()[0][:300] if text.strip() else "?"


@dataclass(frozen=True)
class Cores:
    """Seeds of the simulator of Raft alone."""

    seeds: int
    membership: bool = False
    first: int = 0

    def run(self, mutant: str, runs: int | None = None) -> Found | None:
        from tests.simulation.checks import Violation  # imported here: `startup` has no use for the simulators
        from tests.simulation.world import World

        for count, seed in enumerate(range(self.first, self.first + (runs or self.seeds)), 1):
            try:
                World(seed, membership=self.membership).run()
            except Violation as violation:
                return Found(f"seed {seed}: {_first_line(str(violation))}", count)
        return None

    def __str__(self) -> str:
        return "simulator of Raft" + (", changing membership" if self.membership else "")


class Nodes:
    """Seeds of the simulator of whole nodes; `changes` replace what a seed draws for its plan."""

    def __init__(self, seeds: int, *, first: int = 0, storm_s: float = 6.0, **changes: Any) -> None:
        self.seeds = seeds
        self.first = first
        self.storm_s = storm_s
        self.changes: Mapping[str, Any] = changes

    def run(self, mutant: str, runs: int | None = None) -> Found | None:
        from tests.simulation.checks import Violation
        from tests.simulation.node_world import NodeWorld

        for count, seed in enumerate(range(self.first, self.first + (runs or self.seeds)), 1):
            world = NodeWorld(seed, storm_s=self.storm_s, **self.changes)
            try:
                world.run()
            except Violation as violation:
                return Found(f"seed {seed}: {_first_line(str(violation))}", count)
            except Exception as error:  # the fault broke what the simulator relies on: `nodes` reports that, too
                return Found(f"seed {seed}: {error!r}"[:300], count)
        return None

    def __str__(self) -> str:
        return "simulator of nodes"


@dataclass(frozen=True)
class Scripted:
    """Ordinary tests, run by pytest in a process of their own."""

    test: str
    runs: int = field(default=1, init=False)

    def run(self, mutant: str, runs: int | None = None) -> Found | None:
        environment = {**os.environ, MUTANT: mutant, "PYTHONPATH": f"{STARTUP}:{REPOSITORY}"}
        # Dozens of these are begun: without the plugins that one test has no use for.
        command = [
            sys.executable, "-m", "pytest", "-x", "-q", "--no-header", "--tb=line", "-p", "no:cacheprovider",
            "-o", "addopts=-m 'not slow' --timeout=300", "-p", "no:xdist", "-p", "no:hypothesispytest", self.test,
        ]  # fmt: skip
        done = subprocess.run(command, check=False, cwd=REPOSITORY, env=environment, capture_output=True, text=True)
        if done.returncode == 0:
            return None
        # Anything but a failed test (a file that cannot be imported, a test that is not there) is a broken catcher.
        assert done.returncode == 1, f"pytest {self.test} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}"
        lines = [line for line in done.stdout.splitlines() if line.startswith(("FAILED", "ERROR", "/", "E "))]
        return Found(_first_line("\n".join(reversed(lines)) or done.stdout), 1)

    def __str__(self) -> str:
        return self.test
