"""Every point is crossed by simulated nodes that die there; nothing acknowledged is lost, doubled or stale."""

from __future__ import annotations

import random

import pytest

from tests.crash_points.points import NODE_POINTS, watched
from tests.simulation.node_plan import FAULT_RATES
from tests.simulation.node_world import NodeWorld
from tests.simulation.sim_loop import Killed

CRASHES_WANTED = 3
SEEDS_MAX = 100
PLAN = {
    **dict.fromkeys(FAULT_RATES, 0.0),
    "compaction": 3.0, "transfer": 1.0, "partition": 2.0, "disk_loss": 0.5, "crash": 0.3, "client_pause_s": 0.05,
    "ends_s": 5.0, "only_reads": 0.1,
}  # fmt: skip


class Crashes:
    """Counts crossings of a point; at those in `at` the process that crosses dies."""

    def __init__(self, world: NodeWorld, at: set[int]) -> None:
        self._world = world
        self._at = at
        self._rng = random.Random(world.seed)
        self.crossings = 0
        self.deaths = 0

    def cross(self) -> None:
        """A process is at the point."""
        world = self._world
        running = world.timeline.running
        process = None if running is None else world.by_loop[running]
        if process is None or world.processes.get(process.node_id) is not process or not world.storm:
            return
        self.crossings += 1
        if self.crossings in self._at:
            self.deaths += 1
            world.end(process, self._rng.random() < 0.5)
            world.timeline.after(0.1 + self._rng.random(), lambda: world.start(process.node_id))
            raise Killed


def run(seed: int, where: str, side: str, at: set[int]) -> Crashes:
    world = NodeWorld(seed, voters=3, **PLAN)
    crashes = Crashes(world, at)

    def nothing() -> None:
        pass

    with watched(where, *((crashes.cross, nothing) if side == "before" else (nothing, crashes.cross))):
        world.run()
    return crashes


@pytest.mark.parametrize("side", ["before", "after"])
@pytest.mark.parametrize("name", NODE_POINTS)
def test_a_process_dies_at(name: str, side: str) -> None:
    deaths = 0
    for seed in range(SEEDS_MAX):
        crossings = run(seed, NODE_POINTS[name], side, set()).crossings
        if crossings:
            dice = random.Random(f"{name} {side} {seed}")
            at = {dice.randrange(1, crossings + 1) for _ in range(4)}
            deaths += run(seed, NODE_POINTS[name], side, at).deaths
        if deaths >= CRASHES_WANTED:
            return
    pytest.fail(f"only {deaths} processes died {side} {name!r} in {SEEDS_MAX} runs")


def test_there_are_many_points() -> None:
    assert len(NODE_POINTS) >= 30
