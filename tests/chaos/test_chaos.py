"""Every fault of the storm once, on three nodes; and the long forms, ten minutes each."""

from __future__ import annotations

import itertools
import random

import pytest

from tests.chaos.arena import why_unavailable
from tests.chaos.clients import EPOCH, MixedPlan
from tests.chaos.faults import FAULTS, LONE_FAULTS, NETWORK_FAULTS, PROCESS_FAULTS
from tests.chaos.run import drawn, storm
from tests.support.linearizability import COMPARE_AND_SET, WRITE


@pytest.fixture
def able() -> None:
    if reason := why_unavailable():
        pytest.skip(reason)


def test_no_increment_makes_a_number_that_is_written() -> None:
    """WATCH tells a key that was written with the value it had from one that was left alone; the checker does not."""
    plan, rng = MixedPlan(), random.Random(1)
    written: set[int] = set()
    for number in range(20 * EPOCH):
        operation = plan(rng, 1, number)
        if operation.kind == WRITE:
            written.add(int(operation.argument))
        elif operation.kind == COMPARE_AND_SET:
            written.add(int(operation.argument[1]))
    ordered = sorted(written)
    assert min(after - before for before, after in itertools.pairwise(ordered)) > EPOCH
    assert ordered[0] > EPOCH


@pytest.mark.usefixtures("able")
@pytest.mark.parametrize("kind", ["process", "network", "lone"])
def test_every_fault_once_loses_nothing(kind: str) -> None:
    faults = {"process": PROCESS_FAULTS, "network": NETWORK_FAULTS, "lone": LONE_FAULTS}[kind]
    verdict = storm(3, iter([(name,) for name in faults]), seed=1, hold_s=(0.3, 1.5))
    assert verdict.wrong == []
    assert verdict.faults == list(faults)
    assert verdict.failovers >= 1
    assert verdict.operations > 100


@pytest.mark.usefixtures("able")
@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("size", [3, 5])
def test_ten_minutes_of_everything(size: int) -> None:
    verdict = storm(size, drawn(random.Random(size), list(FAULTS)), seed=size, seconds=600.0)
    print(verdict)
    assert verdict.wrong == []
