"""Real processes that die, or whose call fails, at a point of their storage: all they acknowledged is found again."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import hiredis
import pytest

from tests.crash_points.points import CLUSTER_POINTS, CRASH, NODE_POINTS, PROCESS_POINTS, order
from tests.support.cluster import AS_ON_DISK, Node, ZattCluster, wait_until

CROSSINGS = {
    "log opened": (0,),
    "state opened": (0,),
    "mark synced": (0, 1),
    "log cut": (0, 2),
    "state flushed": (0, 2),
}
"""How many crossings pass before it happens, where that is not 40 and 3."""
FAILING = ("log written", "log synced", "mark synced", "state written", "state flushed")


def arm(node: Node, text: str) -> None:
    node.environment = {CRASH: text, AS_ON_DISK: "1"}


@pytest.fixture(scope="module")
def solo() -> Iterator[ZattCluster]:
    with ZattCluster(1, in_memory=True) as cluster:
        with cluster.client() as client:
            client.call("SET", "counter", 0)
        yield cluster


def use_until_it_ends(node: Node, counted: int) -> int:
    """Count on a node until it ends; return the last count that it acknowledged."""
    while node.running:
        with contextlib.suppress(OSError), node.client(timeout_s=20.0) as client:
            while True:
                counted = int(client.call("INCR", "counter"))
                if counted % 15 == 0:
                    client.try_call("BGSAVE")
    return counted


def crash(cluster: ZattCluster, text: str) -> None:
    """Have the node end at a point, and look for what it acknowledged."""
    node = cluster.nodes[0]
    with cluster.client() as client:
        counted = int(client.call("GET", "counter"))
    cluster.kill(0)
    arm(node, text)
    cluster.spawn(node)
    counted = use_until_it_ends(node, counted)
    node.environment = {}
    cluster.restart(0)
    with cluster.client() as client:
        found = int(client.call("GET", "counter"))
        assert found in (counted, counted + 1), f"{text}: {counted} was acknowledged, {found} is there"


def cases() -> list[object]:
    """Every point is crossed at two moments, one of them in the default run."""
    found: list[object] = []
    for name in PROCESS_POINTS:
        if name in ("file renamed", "directory made"):
            continue
        for number, crossings in enumerate(CROSSINGS.get(name, (40, 3))):
            marks = [pytest.mark.slow] if number else []
            found += [pytest.param(name, side, crossings, "kill", marks=marks) for side in ("before", "after")]
    return found + [(name, "before", 1, "fail") for name in FAILING]


@pytest.mark.parametrize(("name", "side", "crossings", "action"), cases())
def test_a_process_ends_at(solo: ZattCluster, name: str, side: str, crossings: int, action: str) -> None:
    crash(solo, order(name, side, crossings, action))


@pytest.mark.parametrize("side", ["before", "after"])
@pytest.mark.parametrize(("name", "crossings"), [("directory made", 0), ("file renamed", 0), ("file renamed", 1)])
def test_a_first_start_that_dies_at(name: str, side: str, crossings: int) -> None:
    with ZattCluster(1, in_memory=True, start=False) as cluster:
        node = cluster.nodes[0]
        arm(node, order(name, side, crossings, "kill"))
        cluster.spawn(node)
        wait_until(lambda: not node.running, "the first start dies")
        node.environment = {}
        cluster.start()
        with cluster.client() as client:
            assert client.call("INCR", "counter") == 1


def snapshot_cases() -> list[object]:
    quick = {("state switched", "before"), ("state switched", "after"), ("chunk received", "after")}
    return [
        pytest.param(name, side, marks=[] if (name, side) in quick else [pytest.mark.slow])
        for name in CLUSTER_POINTS
        if name != "hand-over"
        for side in ("before", "after")
    ]


@pytest.mark.parametrize(("name", "side"), snapshot_cases())
def test_a_node_of_three_ends_while_a_snapshot_travels(name: str, side: str) -> None:
    """Every node would end at the point; whoever gets there does, and comes back as it should be."""
    with ZattCluster(3, in_memory=True, start=False, flags=["--log-retain-for-followers-bytes", "0"]) as cluster:
        for node in cluster.nodes:
            arm(node, order(name, side, 0, "kill"))
        cluster.start()
        absent = cluster.followers()[0]
        others = [i for i in range(3) if i != absent]
        with cluster.client(others[0]) as client:
            client.call("SET", "first", "1")
            cluster.kill(absent)
            client.pipeline(("SET", f"k{i}", "v" * 500) for i in range(300))
        for i in others:
            with cluster.client(i) as client:
                client.call("BGSAVE")
                wait_until(lambda client=client: int(client.info("raft")["raft_log_entries"]) < 100, "the log is cut")
        cluster.restart(absent, wait=False)
        wait_until(lambda: not all(node.running for node in cluster.nodes), f"a node ends {side} {name!r}")
        for node in cluster.nodes:
            node.environment = {}
        for i in range(3):
            cluster.kill(i)
        cluster.start()
        cluster.wait_equal()
        with cluster.client(absent) as client:
            assert client.call("DBSIZE") == 301


@pytest.mark.parametrize("side", ["before", "after"])
def test_a_leader_that_dies_at_its_hand_over(side: str) -> None:
    with ZattCluster(3, in_memory=True, start=False) as cluster:
        for node in cluster.nodes:
            arm(node, order("hand-over", side, 0, "kill"))
        cluster.start()
        leader = cluster.wait_leader()
        with cluster.client(leader) as client:
            assert [client.call("INCR", "counter") for _ in range(20)] == list(range(1, 21))
            with contextlib.suppress(OSError, hiredis.ReplyError):
                client.call("SHUTDOWN")
        wait_until(lambda: not cluster.nodes[leader].running, "the leader is gone")
        for node in cluster.nodes:
            node.environment = {}
        cluster.start()
        cluster.wait_equal()
        with cluster.client(leader) as client:
            assert client.call("INCR", "counter") == 21


def test_there_are_many_points() -> None:
    assert len({*NODE_POINTS, *PROCESS_POINTS, *CLUSTER_POINTS}) >= 40
