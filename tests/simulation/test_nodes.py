"""Whole nodes under every fault, over many seeds; the simulator's own determinism, and that its checks see faults."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.simulation.checks import Violation
from tests.simulation.node_world import NodeWorld

SEEDS_PER_TEST = 25
SEEDS = int(os.environ.get("ZATTREDIS_TEST_NODE_SEEDS", "300"))


def run_seeds(first: int, count: int, storm_s: float = 6.0) -> tuple[int, int]:
    """Run seeds; return how many commands were answered and how many keys were too hard to judge."""
    answered = undecided = 0
    for seed in range(first, first + count):
        world = NodeWorld(seed, storm_s=storm_s)
        try:
            world.run()
        except Violation as violation:
            storm = f" --storm {storm_s}" if storm_s != 6.0 else ""
            replay = f"python -m tests.simulation.nodes --seeds {seed}{storm} --transcript"
            pytest.fail(f"{violation}\nreplay: {replay}\n" + "\n".join(list(world.lines)[-30:]), pytrace=False)
        answered += world.answered
        undecided += world.load.undecided
    return answered, undecided


@pytest.mark.parametrize("first", range(0, SEEDS, SEEDS_PER_TEST))
def test_storms(first: int) -> None:
    answered, undecided = run_seeds(first, SEEDS_PER_TEST)
    assert answered > 5_000
    assert undecided < SEEDS_PER_TEST


@pytest.mark.slow
@pytest.mark.timeout(36_000)
def test_many_long_storms() -> None:
    first = int(os.environ.get("ZATTREDIS_TEST_SEED", "100000"))
    run_seeds(first, int(os.environ.get("ZATTREDIS_TEST_SEEDS", "2000")), storm_s=20.0)


def test_the_same_seed_gives_the_same_trace_also_in_another_process() -> None:
    hashes = []
    for _ in range(2):
        world = NodeWorld(5)
        world.run()
        hashes.append(world.trace_hash)
    command = [sys.executable, "-m", "tests.simulation.nodes", "--seeds", "5"]
    environment = {**os.environ, "PYTHONHASHSEED": "7"}
    out = subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout
    hashes.append(out.split()[1])
    assert len(set(hashes)) == 1
    other = NodeWorld(6)
    other.run()
    assert other.trace_hash != hashes[0]


def test_a_node_that_stops_while_its_state_asks_to_slow_down_ends_in_good_order() -> None:
    """The retry of the stalled write must not meet a closed state."""
    for seed in range(20):
        world = NodeWorld(seed, voters=1, stop=3.0, stall=0.9, crash=0.0, client_pause_s=0.02, pause=0.0)
        world.run()
        assert world.restarts > 1
