"""Where clients are served plain and over TLS, each kind is told of its own kind's ports, as in Redis Cluster."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from typing import Any

import pytest
import redis
from redis.backoff import ConstantBackoff
from redis.cluster import ClusterNode
from redis.retry import Retry
from redis.sentinel import Sentinel

from tests.clients.test_following import go_on_until_found
from tests.support.certificates import Authority
from tests.support.cluster import ZattCluster, free_port, wait_until
from tests.support.zattctl import zattctl

NAME = "mymaster"


class Both:
    """Three nodes with a plain port, a TLS port and a Sentinel port of each kind."""

    def __init__(self, cluster: ZattCluster, papers: dict[str, Any], tls: list[int], sentinels: list[int]) -> None:
        self.cluster = cluster
        self.papers = papers
        self.plain = [node.port for node in cluster.nodes]
        self.tls = tls
        self.sentinels = sentinels

    def client(self, i: int, *, tls: bool) -> redis.Redis:
        return redis.Redis(port=self.tls[i], **self.papers) if tls else redis.Redis(port=self.plain[i])

    def leader(self) -> int:
        """The node that all agree on, each of which has heard of the others' TLS ports."""
        found: list[int] = []
        names = [node.name for node in self.cluster.nodes]

        def agreed() -> bool:
            try:
                replies = [self.client(i, tls=False).execute_command("RAFT", "MEMBERS") for i in range(3)]
                led = {str(self.client(i, tls=False).info("raft")["raft_leader_id"]) for i in range(3)}
            except redis.RedisError:
                return False
            found[:] = [names.index(name) for name in led if name in names]
            known = all(member[b"tls_port"] for members in replies for member in members)
            return known and len(led) == len(found) == 1

        wait_until(agreed, "the nodes agree on a leader and know of each other's ports")
        return found[0]


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Both]:
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    authority = Authority(tmp_path_factory.mktemp("authority"), "own")
    tls, sentinels = [free_port() for _ in range(3)], [free_port() for _ in range(3)]
    flags = ["--cluster-view", "yes", "--follower-mode", "redirect"]
    with ZattCluster(3, flags=flags, start=False, in_memory=True) as cluster:
        for node, port, sentinel in zip(cluster.nodes, tls, sentinels, strict=True):
            pair = authority.node(node.name)
            node.flags += [
                "--tls-port", str(port), "--sentinel-tls-port", str(sentinel), "--sentinel-port", str(free_port()),
                "--tls-auth-clients", "no", "--tls-cert-file", pair.cert, "--tls-key-file", pair.key,
            ]  # fmt: skip
            cluster.spawn(node)
        cluster.wait_ready()
        yield Both(cluster, {"ssl": True, "ssl_ca_certs": authority.ca}, tls, sentinels)


def test_each_kind_of_connection_is_told_of_its_own_ports(both: Both) -> None:
    leader = both.leader()
    follower = (leader + 1) % 3
    for tls, ports in ((False, both.plain), (True, both.tls)):
        with both.client(follower, tls=tls) as client:
            [(_, _, *nodes)] = client.execute_command("CLUSTER SLOTS")
            assert nodes[0][1] == ports[leader]
            assert {node[1] for node in nodes} <= set(ports)
            shown = str(client.execute_command("CLUSTER NODES"))
            assert set(re.findall(r"127\.0\.0\.1:(\d+)", shown)) == {str(port) for port in ports}
            with pytest.raises(redis.ResponseError, match=rf"^(MOVED )?\d+ 127\.0\.0\.1:{ports[leader]}$"):
                client.execute_command("SET", "key", "value")
            [shard] = client.execute_command("CLUSTER SHARDS")
            pairs = {(node[b"port"], node[b"tls-port"]) for node in shard[b"nodes"]}
            assert pairs == set(zip(both.plain, both.tls, strict=True))


def test_role_and_info_name_the_ports_of_the_connection(both: Both) -> None:
    leader = both.leader()
    follower = (leader + 1) % 3
    for tls, ports in ((False, both.plain), (True, both.tls)):
        with both.client(follower, tls=tls) as client:
            assert client.execute_command("ROLE")[1:3] == [b"127.0.0.1", ports[leader]]
            assert client.info("replication")["master_port"] == ports[leader]
        with both.client(leader, tls=tls) as client:
            others = set(ports) - {ports[leader]}
            assert {int(port) for _, port, _ in client.execute_command("ROLE")[2]} == others
            shown = client.info("replication")
            assert {shown[f"slave{i}"]["port"] for i in range(shown["connected_slaves"])} == others


def test_redis_py_follows_over_tls(both: Both) -> None:
    both.leader()
    nodes = [ClusterNode("127.0.0.1", port) for port in both.tls]
    with redis.RedisCluster(startup_nodes=nodes, retry=Retry(ConstantBackoff(0.1), 100), **both.papers) as client:
        go_on_until_found(client, 10)
        assert {node.port for node in client.get_nodes()} <= set(both.tls)


def test_sentinel_over_tls_names_tls_ports(both: Both) -> None:
    leader = both.leader()
    sentinel = Sentinel([("127.0.0.1", both.sentinels[0])], sentinel_kwargs=both.papers, **both.papers)
    assert sentinel.discover_master(NAME) == ("127.0.0.1", both.tls[leader])
    found = {port for _, port in sentinel.discover_slaves(NAME)}
    assert found == set(both.tls) - {both.tls[leader]}
    asked = redis.Redis(port=both.sentinels[0], **both.papers)
    assert {other["port"] for other in asked.sentinel_sentinels(NAME)} == set(both.sentinels[1:])
    with asked.pubsub() as news:
        news.subscribe("+switch-master")
        assert news.get_message(timeout=10) is not None
        target = (leader + 1) % 3
        both.client(leader, tls=False).execute_command("RAFT", "TRANSFER", both.cluster.nodes[target].name)
        message: dict[str, Any] = {}

        def heard() -> bool:
            message.update(news.get_message(ignore_subscribe_messages=True, timeout=0.1) or {})
            return bool(message)

        wait_until(heard, "the switch is told")
        assert message["data"].decode().split()[2::2] == [str(both.tls[leader]), str(both.tls[target])]


def test_zattctl_over_tls_finds_the_others(both: Both) -> None:
    both.leader()
    ca = str(both.papers["ssl_ca_certs"])
    done = zattctl("status", "-p", both.tls[0], "--tls", "--cacert", ca)
    assert "no answer" not in done
    assert all(f"127.0.0.1:{port}" in done for port in both.tls)
