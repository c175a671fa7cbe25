"""/livez and /readyz: what a supervisor or a load balancer is told, and when."""

from __future__ import annotations

import signal

import pytest

from tests.admin.conftest import Watched
from tests.support.cluster import wait_until
from tests.support.http_client import Answer, request
from tests.support.local_server import LocalServer
from zattredis.cli.zattd import main
from zattredis.config import load_settings
from zattredis.errors import ConfigError

assert LocalServer


def ready(cluster: Watched, i: int) -> Answer:
    return request(cluster.admin[i], "/readyz")


def test_a_node_without_a_majority_lives_but_is_not_ready_and_says_why() -> None:
    with Watched(3, in_memory=True) as cluster:
        for i in range(3):
            cluster.wait_admin_ready(i)
            assert ready(cluster, i).text == "ready\n"
        cluster.kill(1)
        cluster.kill(2)
        wait_until(lambda: ready(cluster, 0).status == 503, "the last one says that it is not ready")
        assert "no leader is known" in ready(cluster, 0).text
        assert request(cluster.admin[0], "/livez").status == 200
        state = request(cluster.admin[0], "/api/state").json()
        assert any("no leader is known" in reason for reason in state["unready"])
        assert state["raft"]["leader_id"] == ""
        assert state["raft"]["leader_since_ms"] == 0
        cluster.restart(1, wait=False)
        cluster.wait_admin_ready(0)
        cluster.wait_admin_ready(1)


def test_a_node_that_was_away_is_ready_only_once_it_has_caught_up() -> None:
    with Watched(3, in_memory=True) as cluster:
        behind = cluster.followers()[0]
        cluster.kill(behind)
        other = next(i for i in range(3) if i != behind)
        with cluster.client(other) as client:
            for number in range(300):
                client.call("SET", f"key{number}", "x" * 1000)
        cluster.restart(behind, wait=False)

        def answers() -> bool:
            try:
                return ready(cluster, behind).status == 200
            except OSError:
                return False

        wait_until(answers, "ready again")
        applied = int(cluster.nodes[behind].facts()["raft_applied_index"])
        assert applied >= 300


def test_a_stopping_node_is_not_ready() -> None:
    """It finishes what it accepted first: here a write that has no majority."""
    with Watched(3, in_memory=True) as cluster:
        cluster.wait_admin_ready(0)
        cluster.kill(1)
        cluster.kill(2)
        with cluster.client(0) as client:
            client.send("SET", "key", "value")
            wait_until(lambda: "no leader" in ready(cluster, 0).text or ready(cluster, 0).status == 503, "no majority")
            process = cluster.nodes[0].process
            assert process is not None
            process.send_signal(signal.SIGTERM)
            seen: list[str] = []

            def told() -> bool:
                try:
                    seen.append(ready(cluster, 0).text)
                except OSError:
                    return process.poll() is not None
                return "the node is stopping" in seen[-1]

            wait_until(told, "the node says that it is stopping")
            assert "the node is stopping" in seen[-1]


def test_there_is_no_admin_port_unless_asked_for(tmp_path: object, capsys: pytest.CaptureFixture[str]) -> None:
    assert load_settings().admin_listen is None
    assert load_settings({"admin_port": "9379"}).admin_listen == ("127.0.0.1", 9379)
    assert load_settings({"admin_port": "9379", "admin_bind": "::"}).admin_listen == ("::", 9379)
    for flags in ({"admin_port": "6379"}, {"admin_port": "16379"}, {"admin_bind": "127.0.0.1:80"}):
        with pytest.raises(ConfigError, match="admin_"):
            load_settings(flags)
    assert main(["--admin-port", "70000"]) == 2
    assert "between 0 and 65535" in capsys.readouterr().err


def test_a_port_that_is_taken_is_said_before_anything_is_changed(single: Watched) -> None:
    with Watched(1, start=False) as other:
        other.nodes[0].flags = ["--admin-port", str(single.admin[0])]
        other.spawn(other.nodes[0])
        assert other.nodes[0].process is not None
        assert other.nodes[0].process.wait(60) == 1
        assert "another process listens there" in other.nodes[0].log()
        assert not other.nodes[0].data_directory.exists()
