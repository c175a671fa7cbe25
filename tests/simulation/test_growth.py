"""Whole nodes whose membership changes under every fault but the loss of a whole disk (whose own rules need the
first membership): joined, promoted, demoted, replaced, removed, the leader too; and the named faults of such changes.
"""

from __future__ import annotations

import os
from multiprocessing.pool import Pool

import pytest

from tests.simulation.node_plan import FAULT_RATES
from tests.simulation.node_world import NodeWorld
from tests.simulation.nodes import Job
from tests.simulation.sim_network import Weather
from tests.simulation.test_nodes import run_seeds

CHANGING = (("disk_loss", 0.0), ("membership", 3.0), ("voters", 3))
QUIET = {**dict.fromkeys(FAULT_RATES, 0.0), "weather": Weather()}


def test_storms_while_the_membership_changes(pool: Pool) -> None:
    answered, _ = run_seeds(pool, [Job(seed, changes=CHANGING) for seed in range(12)])
    assert answered > 1_000


@pytest.mark.parametrize("seed", [700094, 700117])
def test_time_goes_on_while_a_configuration_is_uncommitted(pool: Pool, seed: int) -> None:
    """Reads of a leader took the time of the entry before."""
    run_seeds(pool, [Job(seed, changes=(("membership", 3.0),))])


@pytest.mark.slow
@pytest.mark.timeout(36_000)
def test_many_storms_while_the_membership_changes(pool: Pool) -> None:
    first = int(os.environ.get("ZATTREDIS_TEST_SEED", "100000"))
    run_seeds(pool, [Job(seed, 12.0, CHANGING) for seed in range(first, first + 500)])


def test_in_quiet_weather_every_kind_of_change_is_made() -> None:
    made: set[str] = set()
    wanted = {"add", "remove", "demote", "promote"}
    for seed in range(12):
        world = NodeWorld(seed, voters=3, ends_s=6.0, membership=8.0, busy_nodes=2, **QUIET)
        world.run()
        made.update(world.growth.made)
        if made >= wanted:
            break
    assert made >= wanted
