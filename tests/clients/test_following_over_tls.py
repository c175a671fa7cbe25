"""Where clients are served over TLS alone, those of Redis Cluster and Sentinel follow the leader over TLS, too."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from redis.backoff import ConstantBackoff
from redis.cluster import ClusterNode
from redis.retry import Retry
from redis.sentinel import Sentinel

from tests.clients.test_following import go_on_until_found, write_over_a_death
from tests.clients.test_node_clients import node_modules
from tests.support.certificates import Authority
from tests.support.cluster import ZattCluster, free_port, wait_until

assert node_modules  # a fixture

NAME = "the-cluster"


class Encrypted:
    """Three nodes that know nothing but TLS; how redis-py comes to them, and their Sentinel ports."""

    def __init__(self, cluster: ZattCluster, papers: dict[str, Any], sentinels: list[int]) -> None:
        self.cluster = cluster
        self.papers = papers
        self.sentinels = sentinels

    def client(self, i: int) -> redis.Redis:
        return redis.Redis(port=self.cluster.nodes[i].port, socket_timeout=20, **self.papers)

    def leader(self, other_than: int | None = None) -> int:
        """The node that the running ones agree on."""
        running = [i for i, node in enumerate(self.cluster.nodes) if node.running]

        def led() -> set[str]:
            try:
                return {str(self.client(i).info("raft")["raft_leader_id"]) for i in running}
            except redis.RedisError:
                return set()

        names = [node.name for node in self.cluster.nodes]
        found: list[int] = []

        def agreed() -> bool:
            now = led()
            found[:] = [names.index(name) for name in now if name in names]
            return len(now) == 1 and len(found) == 1 and found[0] != other_than

        wait_until(agreed, "the nodes agree on a leader")
        return found[0]

    def kill_leader(self) -> int:
        leader = self.leader()
        self.cluster.kill(leader)
        return leader


@pytest.fixture(scope="module")
def encrypted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Encrypted]:
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    authority = Authority(tmp_path_factory.mktemp("authority"), "own")
    sentinels = [free_port() for _ in range(3)]
    flags = ["--cluster-view", "yes", "--follower-mode", "redirect", "--sentinel-master-name", NAME]
    with ZattCluster(3, flags=flags, start=False, in_memory=True) as cluster:
        for node, sentinel in zip(cluster.nodes, sentinels, strict=True):
            pair = authority.node(node.name)
            node.flags += [
                "--tls-port", str(node.port), "--sentinel-port", str(sentinel), "--tls-cluster", "yes",
                "--tls-auth-clients", "no", "--tls-cert-file", pair.cert, "--tls-key-file", pair.key,
                "--tls-ca-cert-file", authority.ca,
            ]  # fmt: skip
            cluster.spawn(node)
        # A node's certificate is for localhost and 127.0.0.1, where its clients find it.
        yield Encrypted(cluster, {"ssl": True, "ssl_ca_certs": authority.ca}, sentinels)


@pytest.fixture
def whole(encrypted: Encrypted) -> Encrypted:
    for node in encrypted.cluster.nodes:
        if not node.running:
            encrypted.cluster.spawn(node)
    encrypted.leader()
    return encrypted


def test_redis_py_cluster(whole: Encrypted) -> None:
    nodes = [ClusterNode("127.0.0.1", node.port) for node in whole.cluster.nodes]
    with redis.RedisCluster(startup_nodes=nodes, retry=Retry(ConstantBackoff(0.1), 100), **whole.papers) as client:
        client.delete("count")
        client.incr("count")
        dead = whole.kill_leader()
        go_on_until_found(client, 10)
        assert int(client.get("count")) >= 11
        new = whole.leader(other_than=dead)
        assert client.get_primaries()[0].port == whole.cluster.nodes[new].port


def test_redis_py_sentinel(whole: Encrypted) -> None:
    sentinel = Sentinel(
        [("127.0.0.1", port) for port in whole.sentinels], sentinel_kwargs={"socket_timeout": 5.0, **whole.papers},
        socket_timeout=5.0, **whole.papers,
    )  # fmt: skip
    leader = whole.leader()
    assert sentinel.discover_master(NAME) == ("127.0.0.1", whole.cluster.nodes[leader].port)
    master = sentinel.master_for(NAME, retry=Retry(ConstantBackoff(0.1), 100))
    master.delete("count")
    master.incr("count")
    whole.kill_leader()
    go_on_until_found(master, 10)
    assert int(master.get("count")) >= 11


@pytest.mark.parametrize("mode", ["plain", "cluster", "sentinel"])
@pytest.mark.parametrize("library", ["ioredis", "redis"])
def test_node_libraries(whole: Encrypted, node_modules: Path, library: str, mode: str) -> None:
    leader = whole.leader()
    kill: Callable[[], object] = whole.kill_leader
    ports = [node.port for node in whole.cluster.nodes] if mode == "cluster" else whole.sentinels
    if mode == "plain":  # one client of the leader, and nobody dies
        ports, kill = [whole.cluster.nodes[leader].port], lambda: None
    whole.client(leader).delete("count")
    arguments = [library, mode, ",".join(map(str, ports)), NAME, whole.papers["ssl_ca_certs"]]
    write_over_a_death(node_modules, arguments, kill)


def test_redis_cli(whole: Encrypted) -> None:
    if shutil.which("redis-cli") is None:
        pytest.skip("redis-cli is not installed (package redis-tools)")
    leader = whole.leader()
    follower = next(node for i, node in enumerate(whole.cluster.nodes) if i != leader)
    ca = str(whole.papers["ssl_ca_certs"])
    command = ["redis-cli", "-c", "--tls", "--cacert", ca, "-p", str(follower.port)]
    script = b"SET where x\nGET where\nINFO server\n"
    done = subprocess.run(command, input=script, capture_output=True, timeout=60, check=False)
    assert f"tcp_port:{whole.cluster.nodes[leader].port}" in done.stdout.decode()


def test_nothing_is_served_without_tls(whole: Encrypted, tmp_path: Path) -> None:
    for port in (whole.cluster.nodes[0].port, whole.sentinels[0]):
        with redis.Redis(port=port) as plain, pytest.raises(redis.ResponseError, match="this port speaks TLS"):
            plain.execute_command("PING")
