"""One node as a process: durability over kill -9, its bounds, and every start that must be refused."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
from pathlib import Path

import pytest

from tests.support.cluster import Node, ZattCluster, free_port, wait_until
from tests.support.resp_client import RespClient, encode_command
from tests.support.workload import Load, check_counters, check_journals, counters, journals, keys_of, read_keys


def test_acknowledged_writes_survive_kill_under_pipelined_load() -> None:
    with ZattCluster(1) as cluster, Load(cluster.nodes, journals(), clients_per_node=8, depth=16) as load:
        for _ in range(4):
            load.wait_more(3000)
            cluster.kill(0)
            cluster.restart(0)
        load.wait_more(500)
        load.stop()
        check_journals(load.history, read_keys(cluster.nodes[0], keys_of(load.history)))


def test_counters_survive_kill() -> None:
    with ZattCluster(1) as cluster, Load(cluster.nodes, counters(2), clients_per_node=8, depth=4) as load:
        for _ in range(2):
            load.wait_more(1000)
            cluster.kill(0)
            cluster.restart(0)
        load.stop()
        values = read_keys(cluster.nodes[0], keys_of(load.history))
        check_counters(load.history, {key: int(value or 0) for key, value in values.items()})


def test_at_level_debug_the_log_tells_who_comes_and_goes() -> None:
    with ZattCluster(1, in_memory=True) as cluster:
        node = cluster.nodes[0]
        with cluster.client() as client:
            client.call("CONFIG", "SET", "loglevel", "debug")
        with cluster.client() as client:
            client.call("CLIENT", "SETNAME", "billing")
            address = client.call("CLIENT", "INFO").decode().partition(" addr=")[2].partition(" ")[0]
        wait_until(lambda: "billing" in node.log(), "the client's end is in the log")
        told = [json.loads(line) for line in node.log().splitlines() if address in line]
        assert [(each["level"], each["event"]) for each in told] == [
            ("debug", "client_connected"), ("debug", "client_left"),
        ]  # fmt: skip
        with cluster.client() as client:
            client.call("CONFIG", "SET", "loglevel", "info")
        before = node.log().count("client_connected")
        cluster.client().close()
        with cluster.client() as client:
            client.call("PING")
        assert node.log().count("client_connected") == before


def test_all_of_the_state_survives_a_restart() -> None:
    with ZattCluster(1) as cluster:
        with cluster.client() as client:
            client.call("SET", "plain", "v")
            client.call("SET", "big", b"x" * 3_000_000)
            client.call("SET", "mortal", "v", "EX", 5000)
            client.call("SELECT", 7)
            client.call("SET", "elsewhere", "7")
            client.call("SWAPDB", 7, 8)
            expires = client.call("SELECT", 0) and client.call("PEXPIRETIME", "mortal")
        before = cluster.wait_equal()
        for stop in (signal.SIGKILL, signal.SIGTERM, signal.SIGINT):
            code = cluster.kill(0, stop)
            assert stop == signal.SIGKILL or code == 0, cluster.nodes[0].log()
            cluster.restart(0)
            assert cluster.wait_equal() == before
        with cluster.client() as client:
            assert client.call("PEXPIRETIME", "mortal") == expires
            client.call("SELECT", 8)
            assert client.call("GET", "elsewhere") == b"7"


# --- refused starts


@pytest.fixture(scope="module")
def server() -> ZattCluster:  # type: ignore[misc]
    with ZattCluster(1) as cluster:
        yield cluster


def refused(node: Node, command: list[str]) -> str:
    """Start it, expect exit code 1 with one line for humans; returns what it printed."""
    node.spawn(command)
    assert node.process is not None
    code = node.process.wait(timeout=30)
    assert code == 1, (code, node.log())
    assert "Traceback" not in node.log()
    return node.log()


def newcomer(server: ZattCluster, tmp_path: Path) -> Node:
    node = Node("n1", "127.0.0.1", free_port(), tmp_path / "other")
    node.directory.mkdir()
    return node


def test_second_process_on_the_same_directory_is_refused(server: ZattCluster, tmp_path: Path) -> None:
    first, second = server.nodes[0], newcomer(server, tmp_path)
    command = server.command(second)
    command[command.index("--dir") + 1] = str(first.data_directory)
    text = refused(second, command)
    assert str(first.data_directory) in text
    with server.client() as client:
        assert client.call("SET", "k", "v") == b"OK"


def test_busy_port_is_refused_and_creates_nothing_to_regret(server: ZattCluster, tmp_path: Path) -> None:
    second = newcomer(server, tmp_path)
    second.port = server.nodes[0].port
    text = refused(second, server.command(second))
    assert str(second.port) in text
    second.port = free_port()
    second.spawn(server.command(second))
    try:
        server.wait_ready([second])
    finally:
        second.end()


def test_directory_of_another_node_is_refused(tmp_path: Path) -> None:
    with ZattCluster(1) as cluster:
        node = cluster.nodes[0]
        cluster.kill(0, signal.SIGTERM)
        command = cluster.command(node)
        command[command.index("--node") + 1] = "somebody-else"
        refused(node, command)
        cluster.restart(0)


def test_second_signal_ends_at_once() -> None:
    with ZattCluster(1) as cluster:
        node = cluster.nodes[0]
        assert node.process is not None
        node.process.send_signal(signal.SIGTERM)
        node.process.send_signal(signal.SIGTERM)
        node.process.wait(timeout=60)
        cluster.restart(0)


# --- bounds


@pytest.mark.parametrize(
    "flags",
    [["--output-buffer-bytes-max", "4MiB"], ["--output-buffer-soft-bytes", "1MiB", "--output-buffer-soft-s", "1"]],
    ids=["hard", "soft"],
)
def test_reader_that_never_reads_is_closed_while_others_go_on(flags: list[str]) -> None:
    with ZattCluster(1, flags=flags) as cluster, cluster.client() as other:
        other.call("SET", "big", b"x" * 500_000)
        with cluster.client() as glutton:
            glutton.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            glutton.socket.setblocking(False)
            asked = encode_command(("GET", "big")) * 400

            def closed() -> bool:
                with RespClient(cluster.nodes[0].port) as fresh:
                    clients = fresh.call("CLIENT", "LIST").decode()
                return f":{glutton.socket.getsockname()[1]} " not in clients

            sent = glutton.socket.send(asked)
            assert sent > 0
            wait_until(
                lambda: bool(other.call("GET", "big")) and closed(), "the client that never reads is closed", 120.0
            )
        assert cluster.nodes[0].running
        assert other.call("PING") == b"PONG"


def test_maxclients_refuses_politely_and_recovers() -> None:
    with ZattCluster(1, flags=["--maxclients", "20"]) as cluster:
        clients = [cluster.client() for _ in range(19)]
        try:
            for client in clients:
                assert client.call("PING") == b"PONG"
            extras = [cluster.client() for _ in range(6)]
            refusals = []
            for extra in extras:
                try:
                    refusals.append(extra.try_call("PING"))
                except ConnectionError:
                    refusals.append(b"closed")
            for extra in extras:
                extra.close()
            assert any(reply == b"-ERR max number of clients reached" for reply in refusals), refusals
            for client in clients:
                assert client.call("PING") == b"PONG"
            clients.pop().close()
        finally:
            for client in clients:
                client.close()

        def free_again() -> bool:
            with cluster.client() as client:
                try:
                    return bool(client.try_call("PING") == b"PONG")
                except ConnectionError:
                    return False

        wait_until(free_again, "a connection after others went away")


def test_thousand_idle_connections_cost_no_replies() -> None:
    with ZattCluster(1) as cluster:
        clients = [cluster.client() for _ in range(1000)]
        try:
            for client in clients[::100]:
                assert client.call("SET", "k", "v") == b"OK"
        finally:
            for client in clients:
                client.close()


def test_deep_pipeline_larger_than_socket_buffers() -> None:
    """A client that sends everything before it reads anything must be answered in full and in order."""
    with ZattCluster(1) as cluster, cluster.client() as client:
        count = 60_000
        replies = client.pipeline([("INCR", "n")] * count)
        assert replies == list(range(1, count + 1))


def test_module_is_importable_and_says_its_version() -> None:
    with ZattCluster(1, start=False) as cluster:
        command = [*cluster.command(cluster.nodes[0])[:3], "--version"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
        assert done.returncode == 0
        assert done.stdout.strip()
