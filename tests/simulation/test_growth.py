"""Whole nodes whose membership changes under every fault: joined, promoted, demoted, replaced, removed, the leader too;
and the named faults of such changes.
"""

from __future__ import annotations

import contextlib
import os
from multiprocessing.pool import Pool

import pytest

from tests.simulation.node_plan import FAULT_RATES
from tests.simulation.node_world import NodeWorld, Process
from tests.simulation.nodes import Job
from tests.simulation.sim_network import Weather
from tests.simulation.test_nodes import run_seeds
from zattredis.errors import ReplyError
from zattredis.raft.changes import Change

CHANGING = (("membership", 3.0), ("voters", 3))
QUIET = {**dict.fromkeys(FAULT_RATES, 0.0), "weather": Weather()}


def test_storms_while_the_membership_changes(pool: Pool) -> None:
    answered, _ = run_seeds(pool, [Job(seed, changes=CHANGING) for seed in range(12)])
    assert answered > 1_000


@pytest.mark.parametrize("seed", [700094, 700117])
def test_time_goes_on_while_a_configuration_is_uncommitted(pool: Pool, seed: int) -> None:
    """Reads of a leader took the time of the entry before."""
    run_seeds(pool, [Job(seed, changes=(("membership", 3.0),))])


def test_a_learner_that_loses_its_disk_is_filled_again(pool: Pool) -> None:
    """Its leader believes that it holds what it acknowledged; it took that for a lost log of its own, and ended."""
    run_seeds(pool, [Job(410019, changes=(("membership", 3.0),))])


def test_no_voter_is_removed_while_those_that_remain_do_not_count(pool: Pool) -> None:
    """Two of five had no part in the first start yet, and the leader removed itself: nobody could agree to anything."""
    changes = (("compaction", 3.0), ("membership", 6.0), ("transfer", 1.0), ("voters", 5))
    run_seeds(pool, [Job(680024, changes=changes)])


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


@pytest.mark.parametrize("seed", range(3))
def test_a_node_whose_removal_is_not_agreed_comes_back_and_is_needed(seed: int) -> None:
    """It alone holds what the lost leader wrote last: if it took itself for removed, nobody could be elected again."""
    settings = {**NodeWorld(seed).plan.settings, "raft_window_entries": 256}
    world = NodeWorld(seed, voters=4, ends_s=5.0, busy_nodes=4, settings=settings, **QUIET)
    pair: list[str] = []

    def remove() -> None:
        leader = next(process for process in world.processes.values() if process.leads)
        pair.extend([leader.node_id, next(i for i in world.ids if i != leader.node_id)])
        rest = [i for i in world.ids if i not in pair]
        world.network.cut(pair, rest)
        world.network.cut(rest, pair)
        leader.later(0, lambda: leader.loop.create_task(asked(leader)))

    async def asked(leader: Process) -> None:
        with contextlib.suppress(ReplyError):
            await leader.node.changes.change(Change(remove=[pair[1]]))

    def lose_both() -> None:
        core = world.processes[pair[1]].node.core
        assert pair[1] in core.membership.removed
        assert core.commit_index < core.membership_index == core.durable_index
        world.end(world.processes[pair[0]], False)
        world.end(world.processes[pair[1]], False)
        world.ids.remove(pair[0])  # for good, with all it has sent
        world.network._stash.clear()
        world.network.heal()
        world.timeline.after(0.5, lambda: world.start(pair[1]))

    world.timeline.after(3.0, remove)
    world.timeline.after(3.2, lose_both)
    world.run()
    assert pair[1] not in world.ids, "it leads, the removal is agreed, and it goes"
