"""Clients of Redis Cluster and Redis Sentinel find the leader, and find the next one when it is killed."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis
from redis.backoff import ConstantBackoff
from redis.cluster import ClusterNode
from redis.retry import Retry
from redis.sentinel import Sentinel

from tests.clients.test_node_clients import node_modules
from tests.support.cluster import ZattCluster, free_port

assert node_modules  # a fixture

HERE = Path(__file__).parent
NAME = "the-cluster"


@pytest.fixture(scope="module")
def ports() -> list[int]:
    """The Sentinel ports of the three nodes."""
    return [free_port() for _ in range(3)]


@pytest.fixture(scope="module")
def running(ports: list[int]) -> Iterator[ZattCluster]:
    """Both views, and followers that redirect: nothing is found by chance."""
    flags = ["--cluster-view", "yes", "--follower-mode", "redirect", "--sentinel-master-name", NAME]
    node_flags = {i: ["--sentinel-port", str(port)] for i, port in enumerate(ports)}
    with ZattCluster(3, flags=flags, node_flags=node_flags, in_memory=True) as cluster:
        yield cluster


@pytest.fixture
def cluster(running: ZattCluster) -> ZattCluster:
    for node in running.nodes:
        if not node.running:
            running.spawn(node)
    running.wait_ready()
    with running.client(running.wait_leader()) as client:
        client.call("FLUSHALL")
    return running


def kill_leader(cluster: ZattCluster) -> int:
    leader = cluster.wait_leader()
    cluster.kill(leader)
    return leader


def go_on_until_found(client: redis.Redis | redis.RedisCluster, count: int) -> None:
    """Write so often, over the election: until then the client may find nobody, or a node that knows no leader."""
    end = time.monotonic() + 120
    while count:
        try:
            client.incr("count")
            count -= 1
        except (redis.RedisError, redis.exceptions.RedisClusterException):
            if time.monotonic() > end:
                raise
            time.sleep(0.1)


def check_count(cluster: ZattCluster, acknowledged: int) -> None:
    with cluster.client(cluster.wait_leader()) as client:
        assert int(client.call("GET", "count")) >= acknowledged


def test_redis_py_cluster(cluster: ZattCluster) -> None:
    nodes = [ClusterNode("127.0.0.1", node.port) for node in cluster.nodes]
    with redis.RedisCluster(startup_nodes=nodes, retry=Retry(ConstantBackoff(0.1), 100)) as client:
        assert len(client.get_replicas()) == 2
        assert client.get_primaries()[0].port == cluster.nodes[cluster.wait_leader()].port
        for number in range(20):
            assert client.set(f"key:{number}", number)
        client.incr("count")
        dead = kill_leader(cluster)
        go_on_until_found(client, 20)
        assert client.get("key:7") == b"7"
        assert client.get_primaries()[0].port == cluster.nodes[cluster.wait_leader(other_than=dead)].port
    check_count(cluster, 21)


def test_redis_py_cluster_reading_from_replicas(cluster: ZattCluster) -> None:
    with redis.RedisCluster("127.0.0.1", cluster.nodes[0].port, read_from_replicas=True) as client:
        client.set("k", "v")
        end = time.monotonic() + 120
        while {client.get("k") for _ in range(6)} != {b"v"}:
            assert time.monotonic() < end, "the replicas do not catch up"


def test_redis_py_sentinel(cluster: ZattCluster, ports: list[int]) -> None:
    sentinel = Sentinel([("127.0.0.1", port) for port in ports], socket_timeout=5.0)
    leader = cluster.wait_leader()
    assert sentinel.discover_master(NAME) == ("127.0.0.1", cluster.nodes[leader].port)
    replicas = {("127.0.0.1", node.port) for i, node in enumerate(cluster.nodes) if i != leader}
    assert set(sentinel.discover_slaves(NAME)) == replicas
    master = sentinel.master_for(NAME, retry=Retry(ConstantBackoff(0.1), 100), socket_timeout=5.0)
    assert master.incr("count") == 1
    assert sentinel.slave_for(NAME, socket_timeout=5.0).info("replication")["role"] == "slave"
    kill_leader(cluster)
    go_on_until_found(master, 20)
    new = cluster.wait_leader(other_than=leader)
    assert sentinel.discover_master(NAME) == ("127.0.0.1", cluster.nodes[new].port)
    check_count(cluster, 21)


def test_redis_cli_follows_redirects(cluster: ZattCluster) -> None:
    if shutil.which("redis-cli") is None:
        pytest.skip("redis-cli is not installed (package redis-tools)")

    def cli(i: int, *words: str) -> str:
        command = ["redis-cli", "-c", "-p", str(cluster.nodes[i].port), *words]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False).stdout.strip()

    follower = cluster.followers()[0]
    assert cli(follower, "SET", "count", "5") == "OK"
    dead = kill_leader(cluster)
    live = [i for i in range(3) if i != dead]
    new = cluster.wait_leader(other_than=dead)
    cluster.wait_ready([cluster.nodes[i] for i in live])
    for i in live:
        assert cli(i, "GET", "count") == "5"
    script = b"SET where x\nGET where\nINFO server\n"
    command = ["redis-cli", "-c", "-p", str(cluster.nodes[next(i for i in live if i != new)].port)]
    done = subprocess.run(command, input=script, capture_output=True, timeout=60, check=False)
    assert f"tcp_port:{cluster.nodes[new].port}" in done.stdout.decode()  # it stayed where it was led


def write_over_a_death(node_modules: Path, arguments: list[str], kill: Callable[[], object]) -> None:
    """Run the program in JavaScript: it writes, `kill` is called, and it writes on."""
    command = ["node", str(HERE / "follow_cluster.cjs"), *arguments]
    environment = os.environ | {"NODE_PATH": str(node_modules)}
    with subprocess.Popen(
        command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            first = process.stdout.readline()
            if first != "ready\n":
                raise AssertionError(f"{first}{process.communicate(timeout=60)}")
            kill()
            output, errors = process.communicate("killed\n", timeout=90)
        finally:
            process.kill()
    assert process.returncode == 0, errors
    assert output.startswith("acknowledged 70"), output


@pytest.mark.parametrize("mode", ["cluster", "sentinel"])
@pytest.mark.parametrize("library", ["ioredis", "redis"])
def test_node_libraries(cluster: ZattCluster, ports: list[int], node_modules: Path, library: str, mode: str) -> None:
    targets = [node.port for node in cluster.nodes] if mode == "cluster" else ports
    write_over_a_death(node_modules, [library, mode, ",".join(map(str, targets)), NAME], lambda: kill_leader(cluster))
    check_count(cluster, 70)
