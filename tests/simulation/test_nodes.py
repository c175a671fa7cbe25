"""Whole nodes under every fault, over many seeds; the simulator's own determinism, and that its checks see faults."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from multiprocessing.pool import Pool

import pytest

from tests.simulation.checks import Violation
from tests.simulation.node_plan import FAULT_RATES
from tests.simulation.node_world import NodeWorld
from tests.simulation.nodes import Job, run, shrink
from tests.simulation.sim_network import Weather
from tests.simulation.workload import SimClient
from zattredis.server import apart

SEEDS_PER_TEST = 50
SEEDS = int(os.environ.get("ZATTREDIS_TEST_NODE_SEEDS", "1000"))
SHRINK_S = 30.0


def run_seeds(pool: Pool, jobs: list[Job]) -> tuple[int, int]:
    """Run seeds; return how many commands were answered and how many keys were too hard to judge."""
    answered = undecided = 0
    for result in pool.imap(run, jobs):
        if result.violation:
            smallest = shrink(result.job, SHRINK_S)
            pytest.fail(
                f"{result.violation}\nreplay: {result.job.command}\nsmallest: {smallest.command}\n"
                + "\n".join(run(smallest).lines[-40:]),
                pytrace=False,
            )
        answered += result.figures["answered"]
        undecided += result.figures["undecided"]
    return answered, undecided


@pytest.mark.parametrize("first", range(0, SEEDS, SEEDS_PER_TEST))
def test_storms(pool: Pool, first: int) -> None:
    answered, undecided = run_seeds(pool, [Job(seed) for seed in range(first, first + SEEDS_PER_TEST)])
    assert answered > 5_000
    assert undecided < SEEDS_PER_TEST


@pytest.mark.slow
@pytest.mark.timeout(36_000)
def test_many_long_storms(pool: Pool) -> None:
    first = int(os.environ.get("ZATTREDIS_TEST_SEED", "100000"))
    count = int(os.environ.get("ZATTREDIS_TEST_SEEDS", "2000"))
    run_seeds(pool, [Job(seed, 20.0) for seed in range(first, first + count)])


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


@pytest.mark.parametrize("seed", [0, 5])
def test_a_machine_that_is_slow_changes_nothing_of_a_trace(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is carried out apart has a real thread, which a busy machine may let wait."""
    hashes = []
    for late_s in (apart.LATE_S, -apart.TURN_S):  # the second: the loop does not wait for the thread at all
        monkeypatch.setattr(apart, "LATE_S", late_s)
        world = NodeWorld(seed)
        world.run()
        hashes.append(world.trace_hash)
    assert hashes[0] == hashes[1]


def test_a_node_that_stops_while_its_state_asks_to_slow_down_ends_in_good_order() -> None:
    """The retry of the stalled write must not meet a closed state."""
    for seed in range(10):
        world = NodeWorld(seed, voters=1, stop=3.0, stall=0.9, crash=0.0, client_pause_s=0.02, pause=0.0)
        world.run()
        assert world.restarts > 1


@pytest.mark.parametrize("seed", [2, 17, 23, 37, 38, 199, 294])
def test_a_node_alone_that_takes_its_time_to_apply_is_never_stale(seed: int) -> None:
    """Its reads do not wait for what is agreed and not applied, but for what it may have answered before a restart, and
    their time is none that the entries to come have already passed. (Each seed has found one of the two wrong.)"""
    world = NodeWorld(
        seed, voters=1, crash=1.0, crash_everybody=0.0, disk_loss=0.0, compaction=0.0, slice_end=0.3, slice_s=0.03,
        commands_a_turn=1, clients_per_node=3, client_pause_s=0.005,
    )  # fmt: skip
    world.run()
    assert world.restarts > 1


QUIET = dict.fromkeys(FAULT_RATES, 0.0)


@pytest.mark.parametrize("seed", range(4))
def test_a_leader_whose_disk_hangs_is_replaced_while_it_hangs(seed: int) -> None:
    """Its heartbeats would hold the others back for as long as it lives."""
    world = NodeWorld(
        seed, voters=3, ends_s=8.0, busy_nodes=3, only_reads=0.0, client_pause_s=0.1, weather=Weather(), **QUIET
    )
    hung: list[str] = []

    def hang() -> None:
        for process in world.processes.values():
            if process.leads:
                process.disk.hung = True
                hung.append(process.node_id)

    answered: dict[str, int] = {}

    def look(when: str) -> None:
        answered[when] = sum(client.node_id not in hung and len(client.journal_known) for client in world.load.clients)

    world.timeline.after(3.0, hang)
    world.timeline.after(5.5, lambda: look("after an election"))
    world.timeline.after(8.0, lambda: look("at the end"))
    world.run()
    assert hung
    assert answered["at the end"] > answered["after an election"], "clients of the others go on writing"


def test_a_failing_seed_is_told_as_one_command_and_shrinks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault that is always there needs neither storm nor many clients."""
    monkeypatch.setattr("zattredis.server.executor.unwatched", lambda ctx, watches: True)
    job = next(job for job in (Job(seed) for seed in range(20)) if run(job).violation)
    smallest = shrink(job, 8.0)
    changes = dict(smallest.changes)
    assert [name for name in changes if name in FAULT_RATES]
    assert changes["ends_s"] < 6.0
    assert smallest.command.startswith(f"python -m tests.simulation.nodes --seeds {job.seed} --transcript --off ")
    assert run(smallest).violation
    words = shlex.split(smallest.command)[3:]
    monkeypatch.setattr(sys, "argv", ["nodes", *words])
    from tests.simulation import nodes

    assert nodes.main() == 1


@pytest.mark.parametrize("fault", ["flip_log", "flip_state", "disk_full", "disk_hang", "flip_snapshot", "disk_refuses"])
def test_every_fault_of_a_disk_happens_and_is_survived(fault: str) -> None:
    happened = 0
    for seed in range(24):  # whether a seed has one depends on all that it draws
        if happened and seed >= 4:
            break
        rate = {"disk_refuses": 0.01, "flip_snapshot": 0.5}.get(fault, 1.0)
        changes = {**QUIET, "compaction": 3.0, "crash": 0.3, "disk_loss": 0.2, fault: rate}
        world = NodeWorld(seed, voters=3, transcript=True, **changes)
        world.run()
        signs = ("a bit flips in", "disk is full", "disk hangs", "a chunk fails its checksum", "the write failed")
        happened += any(sign in line for line in world.lines for sign in signs)
    assert happened


@pytest.mark.parametrize("sent", [False, True])
def test_what_a_client_had_not_read_when_it_went_is_on_its_way_and_not_lost(sent: bool) -> None:
    world = NodeWorld(0)
    client = SimClient(world, 0, "n1", world.load)
    client._open = client.deaf = True
    world.load.queues._pushed.add(b"v3")
    if sent:
        client.to_client(client.connections, b"*2\r\n$6\r\nlist:0\r\n$2\r\nv3\r\n")
    client._gone("left")
    if sent:
        world.load.queues._judge([])
    else:
        with pytest.raises(Violation, match="1 elements are gone"):
            world.load.queues._judge([])
