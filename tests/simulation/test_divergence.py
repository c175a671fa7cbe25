"""A node that computes something else than the others: it is fenced, says so, and comes back filled from them."""

from __future__ import annotations

from typing import Any

import pytest

from tests.simulation.checks import Violation
from tests.simulation.node_plan import FAULT_RATES
from tests.simulation.node_world import NodeWorld, Process
from tests.simulation.sim_disk import SimState
from tests.simulation.sim_network import Weather
from zattredis.errors import StateDiverged

QUIET = {**dict.fromkeys(FAULT_RATES, 0.0), "weather": Weather()}


class _World(NodeWorld):
    """Something goes wrong in one node; what its clients see is not judged, that it is fenced is."""

    def __init__(self, seed: int, victim: str, **plan: Any) -> None:
        super().__init__(seed, voters=3, ends_s=8.0, busy_nodes=3, only_reads=0.0, client_pause_s=0.02, **QUIET, **plan)
        self.victim = victim
        self.fenced: dict[str, str] = {}
        self.wrong: Process | None = None
        self.timeline.after(2.0, self._go_wrong)
        self.checks.state_written = self._state_written  # type: ignore[method-assign]
        self.load.judge = lambda: None  # type: ignore[method-assign]

    def _go_wrong(self) -> None:
        for process in self.processes.values():
            if process.leads == (self.victim == "leader"):
                self.wrong = process
                digest = process.node.applier.digest
                digest.value ^= 1  # as if one effect had been another one
                return

    def _state_written(self, node_id: str, state: SimState) -> None:
        """States differ, which is what this is about."""

    def node_failed(self, process: Process, error: BaseException) -> None:
        if isinstance(error, StateDiverged):
            self.fenced[process.node_id] = str(error)
            assert process.disk.noted == (str(error), True)
            error = StateDiverged(f"injected: {error}")
        super().node_failed(process, error)


@pytest.mark.parametrize("victim", ["leader", "follower"])
@pytest.mark.parametrize("seed", range(2))
def test_a_node_that_computes_otherwise_is_fenced(seed: int, victim: str) -> None:
    world = _World(seed, victim)
    world.run()  # in the end all are equal again: it was filled from the others
    assert world.wrong is not None
    assert list(world.fenced) == [world.wrong.node_id]
    assert "differs from what" in world.fenced[world.wrong.node_id]
    assert world.rejoins == 1


def test_the_checks_of_the_simulator_see_a_divergence_at_once() -> None:
    world = _World(0, "follower")
    del world.checks.state_written
    with pytest.raises(Violation, match=r"'s state at .* differs from"):
        world.run()
