"""The simulator over many seeds, its own determinism, and that its checks see what they are for."""

from __future__ import annotations

import os
import subprocess
import sys
from functools import partial
from multiprocessing.pool import Pool
from types import SimpleNamespace

import pytest

from tests.simulation.checks import Violation
from tests.simulation.disk import Disk, State
from tests.simulation.world import World, run_seed
from zattredis.raft.entry import BATCH, make_entry
from zattredis.raft.membership import simple_membership
from zattredis.raft.messages import AppendEntriesResponse, VoteResponse
from zattredis.raft.ready import HardState

SEEDS_PER_TEST = 100
FIXED = int(os.environ.get("ZATTREDIS_TEST_RAFT_SEEDS", "1300"))
CHANGING = int(os.environ.get("ZATTREDIS_TEST_RAFT_SEEDS", "700"))


def run_seeds(pool: Pool, first: int, count: int, **flags: bool) -> tuple[int, int, int]:
    """Run seeds and return how many writes, reads and snapshots they came to; names the replay of one that fails."""
    writes = reads = snapshots = 0
    for outcome in pool.imap(partial(run_seed, **flags), range(first, first + count), chunksize=5):
        if outcome.violation:
            words = "".join(f" --{name}" for name, value in flags.items() if value)
            replay = f"python -m tests.simulation --seed {outcome.seed}{words}"
            pytest.fail(f"{outcome.violation}\nreplay: {replay}", pytrace=False)
        writes += outcome.writes
        reads += outcome.reads
        snapshots += outcome.snapshots
    return writes, reads, snapshots


@pytest.mark.parametrize("first", range(0, FIXED, SEEDS_PER_TEST))
def test_fixed_membership(pool: Pool, first: int) -> None:
    writes, reads, snapshots = run_seeds(pool, first, SEEDS_PER_TEST)
    assert writes > 5000
    assert reads > 2500
    assert snapshots > 10


@pytest.mark.parametrize("first", range(0, CHANGING, SEEDS_PER_TEST))
def test_changing_membership(pool: Pool, first: int) -> None:
    writes, reads, _ = run_seeds(pool, first, SEEDS_PER_TEST, membership=True)
    assert writes > 5000
    assert reads > 1500


@pytest.mark.slow
@pytest.mark.timeout(36_000)
@pytest.mark.parametrize("membership", [False, True])
def test_long_storms(pool: Pool, membership: bool) -> None:
    first = int(os.environ.get("ZATTREDIS_TEST_SEED", "100000"))
    run_seeds(pool, first, int(os.environ.get("ZATTREDIS_TEST_SEEDS", "500")), long=True, membership=membership)


def test_the_same_seed_gives_the_same_trace_also_in_another_process() -> None:
    hashes = []
    for _ in range(2):
        world = World(11, membership=True)
        world.run()
        hashes.append(world.trace_hash)
    command = [sys.executable, "-m", "tests.simulation", "--seed", "11", "--membership", "--quiet"]
    environment = {**os.environ, "PYTHONHASHSEED": "7"}
    out = subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout
    hashes.append(out.split()[-1])
    assert len(set(hashes)) == 1
    other = World(12, membership=True)
    other.run()
    assert other.trace_hash != hashes[0]


# --- the checks see what they are for ---------------------------------------------------------------------------------


def started(seed: int = 1) -> World:
    """A world whose nodes have started and whose faults are silent."""
    world = World(seed)
    for node in world.nodes.values():
        node.start()
    return world


def test_an_answer_before_its_durability_is_seen() -> None:
    checks = started(3).checks
    with pytest.raises(Violation, match=r"vote|term"):
        checks.sent(VoteResponse("n1", "n2", 1, True))
    with pytest.raises(Violation, match="durable log"):
        checks.sent(AppendEntriesResponse("n1", "n2", 0, True, 5, 0, 0))


def test_a_second_leader_is_seen() -> None:
    world = started(3)
    nodes = list(world.nodes.values())
    world.checks.leader_elected("n1", nodes[0].core)  # type: ignore[arg-type]
    with pytest.raises(Violation, match="election safety"):
        world.checks.leader_elected("n2", nodes[1].core)  # type: ignore[arg-type]


def test_a_leader_without_what_was_committed_before_it_is_seen() -> None:
    """And not one whose votes came when a later leader had committed: seed 6006312 of the core with membership."""
    checks = started(3).checks
    node = SimpleNamespace(term=2, last_index=1, log=SimpleNamespace(first_index=1, matches=lambda *_: False))
    entry = make_entry(1, 1, BATCH, 1, 0, b"")
    for each in checks._disks.values():
        each.append(1, [entry], HardState(1, None, 0))
        each.sync(1)
    checks.applied("n1", entry, State(simple_membership("abc")), 2)
    checks.leader_elected("n1", node)  # type: ignore[arg-type]
    node.term = 3
    with pytest.raises(Violation, match="leader completeness: n2 leads term 3 without committed entry 1"):
        checks.leader_elected("n2", node)  # type: ignore[arg-type]


def test_a_stale_read_is_seen() -> None:
    checks = started(3).checks
    checks.acknowledged(9)
    with pytest.raises(Violation, match="stale read"):
        checks.read_served("n1", checks.visible_index, 8, 8)


def test_a_power_cut_leaves_a_prefix_of_the_writes() -> None:
    disk = Disk(simple_membership("abc"))
    for number in (1, 2, 3):
        disk.append(number, [make_entry(number, 1, BATCH, 1, 0, b"")], HardState(number, "b", 0))
    disk.sync(1)
    disk.crash(1)
    assert (disk.last_index, disk.hard_state.term, disk.unsynced) == (2, 2, 0)
