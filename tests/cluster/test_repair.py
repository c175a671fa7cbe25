"""A damaged or vanished file on one of two holders: nothing acknowledged is lost, and the node fills itself again."""

from __future__ import annotations

import os
import random
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.cluster.test_failover import check_after
from tests.support.cluster import REPOSITORY, STARTUP, ZattCluster, wait_until
from tests.support.workload import Load, journals


def newest(directory: Path, pattern: str) -> Path:
    return max(directory.glob(pattern), key=lambda path: path.stat().st_size)


def flip(path: Path, dice: random.Random) -> None:
    data = bytearray(path.read_bytes())
    at = dice.randrange(len(data))
    data[at] ^= 1 << dice.randrange(8)
    path.write_bytes(data)


DAMAGES: dict[str, Callable[[Path, random.Random], object]] = {
    "log_vanished": lambda data, dice: shutil.rmtree(data / "log"),
    "log_file_vanished": lambda data, dice: newest(data / "log", "*.log").unlink(),
    "log_file_cut": lambda data, dice: os.truncate(newest(data / "log", "*.log"), 5000),
    "log_file_flipped": lambda data, dice: flip(newest(data / "log", "*.log"), dice),
    "log_without_manifest": lambda data, dice: newest(data / "log", "MANIFEST-*").unlink(),
    "marks_vanished": lambda data, dice: (data / "log.marks").unlink(),
    "marks_damaged": lambda data, dice: (data / "log.marks").write_bytes(b"\1" * 12288),
    "identity_vanished": lambda data, dice: (data / "node.json").unlink(),
    "state_vanished": lambda data, dice: [shutil.rmtree(path) for path in data.glob("state-*")],
    "state_without_manifest": lambda data, dice: [(path / "CURRENT").unlink() for path in data.glob("state-*")],
}
CERTAIN = set(DAMAGES) - {"log_file_flipped"}
"""Those that a start must notice; a bit may have flipped where nothing of worth stands."""


@pytest.fixture(scope="module")
def cluster() -> Iterator[ZattCluster]:
    with ZattCluster(3, in_memory=True) as cluster:
        yield cluster


def one_round(cluster: ZattCluster, damage: str, dice: random.Random) -> None:
    """Two nodes hold what the third has missed; one of them is damaged, and the other is away when it comes back."""
    for node in cluster.nodes:
        if not node.running:
            cluster.spawn(node)
    cluster.wait_ready()
    leader = cluster.wait_leader()
    with cluster.client(leader) as client:
        client.call("FLUSHALL")
    behind, other = dice.sample([i for i in range(3) if i != leader], 2)
    victim, holder = dice.sample([leader, other], 2)
    with Load(cluster.nodes, journals(), clients_per_node=2, depth=4) as load:
        load.wait_more(60, nodes=[0, 1, 2])
        cluster.pause(behind)
        load.wait_more(60, nodes=[leader, other])
        cluster.kill(victim)
        cluster.kill(holder)
        DAMAGES[damage](cluster.nodes[victim].data_directory, dice)
        cluster.resume(behind)
        before = cluster.nodes[victim].log().count("nothing is changed until")
        cluster.restart(victim, wait=False)
        if damage in CERTAIN:
            # The one that is behind and the damaged one are a majority, and must not act as one.
            wait_until(
                lambda: cluster.nodes[victim].log().count("nothing is changed until") > before, "the damage is noticed"
            )
            assert cluster.leader() is None
        cluster.restart(holder, wait=False)
        cluster.wait_ready()
        load.wait_more(40, nodes=[0, 1, 2])
    check_after(cluster, load, reader=dice.randrange(3))
    wait_until(lambda: cluster.nodes[victim].raft().get("raft_state") == "up", "the damaged node may vote again")
    assert all(node.facts()["raft_digest_differs"] == "" for node in cluster.nodes)


@pytest.mark.parametrize("damage", ["log_vanished", "log_file_cut", "state_without_manifest"])
def test_one_of_two_holders_is_damaged(cluster: ZattCluster, damage: str) -> None:
    one_round(cluster, damage, random.Random(damage))


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_twenty_four_rounds_of_every_damage(cluster: ZattCluster) -> None:
    seed = int(os.environ.get("ZATTREDIS_TEST_SEED", str(int(time.time()))))
    dice = random.Random(seed)
    for number in range(24):
        damage = list(DAMAGES)[number % len(DAMAGES)]
        print(f"round {number}: {damage}, seed {seed}")
        one_round(cluster, damage, dice)


def test_a_node_that_computes_otherwise_is_fenced_says_so_and_comes_back_right() -> None:
    """One node runs another SET than the others: it ends with an exit code of its own, and its data is replaced."""
    with ZattCluster(3, in_memory=True) as cluster:
        victim = cluster.followers()[0]
        node = cluster.nodes[victim]
        cluster.kill(victim)
        node.environment = {"ZATTREDIS_TEST_MUTANT": "another_value", "PYTHONPATH": f"{STARTUP}:{REPOSITORY}"}
        cluster.restart(victim)
        healthy = next(i for i in range(3) if i != victim)
        seen: list[dict[str, str]] = []

        def fenced() -> bool:
            with cluster.client(healthy) as client:
                client.pipeline([("SET", f"k{number % 7}", "v") for number in range(10)])
            facts = node.raft()
            if facts.get("raft_state") == "fenced":
                seen.append(facts)
            return node.process is not None and node.process.poll() is not None

        wait_until(fenced, "the node that differs ends")
        assert node.process is not None
        assert node.process.returncode == 4
        assert "differs from what" in seen[-1]["raft_fenced"]
        assert "fenced" in node.log()
        wait_until(
            lambda: f"{node.name}@" in cluster.nodes[healthy].facts()["raft_digest_differs"], "the others know it, too"
        )
        node.environment = {}
        cluster.restart(victim)
        wait_until(lambda: node.raft().get("raft_state") == "up", "it was filled again")
        cluster.wait_equal()
        with cluster.client(victim) as client:
            assert client.call("GET", "k1") == b"v"
