"""sd_notify: what systemd is told, read from a socket of our own."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.admin.conftest import Watched
from tests.support.cluster import ZattCluster
from zattredis.cli.supervision import Supervisor

assert Watched


class Systemd:
    """Receives what a service says."""

    def __init__(self, address: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(address)
        self.socket.settimeout(60)
        self.said: list[str] = []

    def until(self, wanted: str) -> str:
        """Return the message that has a line beginning so; all before it are kept in `said`."""
        while True:
            message = self.socket.recv(4096).decode()
            self.said.append(message)
            if any(line.startswith(wanted) for line in message.splitlines()):
                return message


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[Systemd]:
    made = Systemd(str(tmp_path / "notify"))
    yield made
    made.socket.close()


def test_a_node_says_that_it_is_ready_who_leads_that_it_lives_and_that_it_stops(
    systemd: Systemd, tmp_path: Path
) -> None:
    environment = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "500000"}
    with ZattCluster(1, in_memory=True, environment=environment, start=False) as cluster:
        node = cluster.nodes[0]
        cluster.spawn(node)
        ready = systemd.until("READY=1")
        assert f"MAINPID={node.pid}" in ready.splitlines()
        assert systemd.said == [ready], "nothing was said before"
        with node.client() as client:
            assert client.info("server")["process_supervised"] == "systemd"
        systemd.until("STATUS=n1 leads, term ")
        for _ in range(3):
            systemd.until("WATCHDOG=1")
        assert node.process is not None
        node.process.send_signal(signal.SIGHUP)  # ExecReload
        systemd.until("WATCHDOG=1")
        systemd.until("WATCHDOG=1")
        node.process.send_signal(signal.SIGTERM)
        assert systemd.until("STOPPING=1").startswith("STOPPING=1\n")
        assert node.process.wait(60) == 0


def test_the_first_of_three_is_ready_before_there_is_a_leader(systemd: Systemd, tmp_path: Path) -> None:
    with ZattCluster(3, in_memory=True, start=False) as cluster:
        cluster.nodes[0].environment["NOTIFY_SOCKET"] = str(tmp_path / "notify")
        cluster.spawn(cluster.nodes[0])
        systemd.until("READY=1")
        assert not any("leads" in text for text in systemd.said)


def test_a_loop_that_stands_still_feeds_no_watchdog(systemd: Systemd, tmp_path: Path) -> None:
    environment = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "200000"}
    with ZattCluster(1, in_memory=True, environment=environment, start=False) as cluster:
        cluster.spawn(cluster.nodes[0])
        systemd.until("WATCHDOG=1")
        cluster.pause(0)
        systemd.socket.settimeout(1)  # five times what systemd would wait
        with pytest.raises(TimeoutError):
            systemd.until("nothing that is ever said")
        cluster.resume(0)
        systemd.socket.settimeout(60)
        systemd.until("WATCHDOG=1")


def test_a_start_that_fails_says_nothing(systemd: Systemd, tmp_path: Path) -> None:
    environment = {**os.environ, "NOTIFY_SOCKET": str(tmp_path / "notify")}
    done = subprocess.run(
        [sys.executable, "-m", "zattredis", "--port", "1", "--peer-port", "1"],
        env=environment, cwd=tmp_path, capture_output=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode != 0
    systemd.socket.setblocking(False)
    with pytest.raises(BlockingIOError):
        systemd.socket.recv(1)


@pytest.mark.parametrize(
    "environ", [{}, {"NOTIFY_SOCKET": ""}, {"NOTIFY_SOCKET": "vsock:2:1"}, {"NOTIFY_SOCKET": "relative"}]
)
def test_without_systemd_nothing_is_said(environ: dict[str, str]) -> None:
    supervisor = Supervisor(environ)
    assert not supervisor.present
    supervisor.ready()
    supervisor.stopping()
    supervisor.close()


def test_an_abstract_socket_and_one_that_is_gone(tmp_path: Path) -> None:
    name = f"zattredis-test-{os.getpid()}"
    systemd = Systemd("\0" + name)
    supervisor = Supervisor({"NOTIFY_SOCKET": "@" + name, "WATCHDOG_USEC": "1000000", "WATCHDOG_PID": "1"})
    supervisor.ready()  # the watchdog is for another process: no loop is needed
    assert systemd.until("READY=1")
    systemd.socket.close()
    supervisor.stopping()
    supervisor.close()
    gone = Supervisor({"NOTIFY_SOCKET": str(tmp_path / "nobody")})
    gone.stopping()
    gone.close()
