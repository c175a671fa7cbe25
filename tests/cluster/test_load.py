"""More clients than usual, and worse ones; the long forms are behind the marker."""

from __future__ import annotations

import contextlib
import os
import resource
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.cluster import Node, ZattCluster
from tests.support.workload import Load, check_journals, journals, keys_of, read_keys

MB = 1 << 20


@pytest.fixture
def single() -> Iterator[ZattCluster]:
    with ZattCluster(1, in_memory=True) as cluster:
        yield cluster


@contextlib.contextmanager
def connections(node: Node, count: int) -> Iterator[list[socket.socket]]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = min(hard, count + 500)
    if wanted < count + 100:
        pytest.skip(f"this machine allows {hard} open files, {count} connections need more")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
    found: list[socket.socket] = []
    try:
        found.extend(socket.create_connection((node.host, node.port), timeout=60) for _ in range(count))
        yield found
    finally:
        for one in found:
            one.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def resident_bytes(node: Node) -> int:
    return int(Path(f"/proc/{node.pid}/statm").read_text().split()[1]) * resource.getpagesize()


def exactly(connection: socket.socket, size: int) -> bytes:
    found = bytearray()
    while len(found) < size:
        part = connection.recv(min(MB, size - len(found)))
        assert part, f"closed after {len(found)} of {size} bytes"
        found += part
    return bytes(found)


def _many_connections(cluster: ZattCluster, count: int) -> None:
    """All of them are answered, several times, in any order, and cost little each."""
    node = cluster.nodes[0]
    before = resident_bytes(node)
    with connections(node, count) as clients:
        for turn in range(3):
            for number, client in enumerate(clients):
                client.sendall(b"SET c:%d %d\r\nGET c:%d\r\n" % (number, turn, number))
            for client in reversed(clients):
                assert exactly(client, 12) == b"+OK\r\n$1\r\n%d\r\n" % turn
        assert (resident_bytes(node) - before) / count < 64 << 10
        with cluster.client() as client:
            assert int(client.info("clients")["connected_clients"]) == count + 1


def test_a_thousand_connections_at_work(single: ZattCluster) -> None:
    _many_connections(single, 1000)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_ten_thousand_connections_at_work() -> None:
    with ZattCluster(1, in_memory=True, flags=["--maxclients", "10100"]) as cluster:
        _many_connections(cluster, 10_000)


def _stalled_readers(cluster: ZattCluster, readers: int, megabytes: int) -> None:
    """They ask for much and read nothing: the others go on, and memory is not filled with what nobody reads."""
    node = cluster.nodes[0]
    with cluster.client() as client:
        client.call("SET", "large", b"x" * MB)
    before = resident_bytes(node)
    with connections(node, readers) as stalled, Load([node], journals(), clients_per_node=2) as load:
        for one in stalled:
            one.sendall(b"GET large\r\n" * megabytes)
        load.wait_more(300)
        grown = resident_bytes(node) - before
        assert grown < 50 * MB + readers * 3 * MB, f"{readers} stalled readers cost {grown >> 20} MB"
        reply = b"$%d\r\n" % MB + b"x" * MB + b"\r\n"
        for _ in range(megabytes):  # one of them wakes up: nothing is missing
            assert exactly(stalled[0], len(reply)) == reply
        load.wait_more(50)
    assert load.troubles == []
    check_journals(load.history, read_keys(node, keys_of(load.history)))


def test_stalled_readers_hold_nobody_up_and_cost_little(single: ZattCluster) -> None:
    _stalled_readers(single, 10, 30)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_hundred_stalled_readers_of_a_hundred_megabytes(single: ZattCluster) -> None:
    _stalled_readers(single, 100, 100)


def _trickle(cluster: ZattCluster, pause_s: float) -> None:
    """A request that arrives byte by byte is a request; the others do not wait for it."""
    with connections(cluster.nodes[0], 1) as (slow,), Load(cluster.nodes, journals(), clients_per_node=2) as load:
        for byte in b"*3\r\n$3\r\nSET\r\n$4\r\nslow\r\n$2\r\nok\r\n*2\r\n$3\r\nGET\r\n$4\r\nslow\r\n":
            load.wait_more(3)
            slow.sendall(bytes([byte]))
            time.sleep(pause_s)
        assert exactly(slow, 13) == b"+OK\r\n$2\r\nok\r\n"
    assert load.troubles == []


def test_a_client_that_sends_byte_by_byte(single: ZattCluster) -> None:
    _trickle(single, 0.0)


@pytest.mark.slow
def test_a_client_that_sends_one_byte_a_second(single: ZattCluster) -> None:
    _trickle(single, 1.0)


def _endure(seconds: float, compaction_entries: int) -> None:
    """Mixed load with compactions: after a time to warm up, memory, descriptors and log stay what they are."""
    flags = ["--log-compaction-entries", str(compaction_entries), "--log-retain-for-followers-bytes", "1000000"]
    with ZattCluster(3, flags=flags, in_memory=True) as cluster:
        nodes = cluster.nodes

        def figures() -> list[tuple[int, int, int]]:
            return [
                (
                    resident_bytes(node),
                    len(os.listdir(f"/proc/{node.pid}/fd")),
                    int(node.facts()["raft_log_entries"]),
                )
                for node in nodes
            ]

        def work(for_s: float, seed: int) -> None:
            with cluster.client() as client:
                client.call("FLUSHALL")
            end = time.monotonic() + for_s
            with Load(nodes, journals(), clients_per_node=3, seed=seed) as load:
                while time.monotonic() < end:
                    load.wait_more(50)
            assert load.troubles == []

        work(seconds / 4, 1)
        warm = figures()
        for turn in range(3):
            work(seconds / 4, 2 + turn)
        for (memory, files, _), (memory_then, files_then, entries) in zip(warm, figures(), strict=True):
            assert memory_then < memory * 1.3 + 60 * MB
            assert files_then <= files + 20
            assert entries < 4 * compaction_entries + 10_000
        cluster.wait_equal()


def test_a_short_time_of_load_with_compactions() -> None:
    _endure(8.0, 500)


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_an_hour_of_load_with_compactions() -> None:
    _endure(float(os.environ.get("ZATTREDIS_TEST_ENDURANCE_S", "3600")), 20_000)
