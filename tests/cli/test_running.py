"""`zattd`, `zattd demo` and `zattctl` as processes, with real nodes."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.cluster import REPOSITORY, WAIT_S, ZattCluster, free_port, wait_until
from tests.support.resp_client import RespClient
from zattredis.cli import zattctl


class Terminal:
    """A process that believes that a person sits before it."""

    def __init__(self, *words: str, directory: Path) -> None:
        self.text = ""
        own, other = pty.openpty()
        clean = {key: value for key, value in os.environ.items() if not key.startswith("ZATTREDIS_")}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "zattredis", *words], stdin=other, stdout=other, stderr=other, cwd=directory,
            env={**clean, "PYTHONPATH": str(REPOSITORY), "NO_COLOR": "1"}, start_new_session=True,
        )  # fmt: skip
        os.close(other)
        self._terminal = own

    def wait_for(self, pattern: str) -> re.Match[str]:
        """Read until `pattern` has been printed and return the match."""
        deadline = time.monotonic() + WAIT_S
        while not (match := re.search(pattern, self.text)):
            assert time.monotonic() < deadline, f"{pattern} is not in:\n{self.text}"
            if select.select([self._terminal], [], [], 0.1)[0]:
                try:
                    data = os.read(self._terminal, 65_536)
                except OSError:  # the other side is closed
                    data = b""
                assert data, f"it ended without {pattern}:\n{self.text}"
                self.text += data.decode().replace("\r\n", "\n")
        return match

    def end(self) -> int:
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(WAIT_S)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self._terminal)


@contextlib.contextmanager
def terminal(*words: str, directory: Path) -> Iterator[Terminal]:
    made = Terminal(*words, directory=directory)
    try:
        yield made
    finally:
        made.close()


def test_on_a_terminal_a_start_says_what_a_person_needs(tmp_path: Path) -> None:
    port = free_port()
    with terminal("--port", str(port), directory=tmp_path) as node:
        node.wait_for("Stop   Ctrl-C")
        assert f"data     {tmp_path}/zattredis-data" in node.text
        assert f"clients  127.0.0.1:{port}" in node.text
        assert "leader   n1 (this node), term 1" in node.text
        assert f"redis-cli -p {port} SET greeting hello" in node.text
        assert '{"' not in node.text
        assert node.end() == 0


@pytest.mark.parametrize("redirections", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-", ">/dev/full 2>&1"])
def test_closed_or_full_standard_streams_harm_nothing(redirections: str, tmp_path: Path) -> None:
    port = free_port()
    words = [sys.executable, "-m", "zattredis", "--port", str(port), "--dir", str(tmp_path / "data")]
    words = ["sh", "-c", f'exec "$@" {redirections}', "sh", *words]
    process = subprocess.Popen(words, env={**os.environ, "PYTHONPATH": str(REPOSITORY)}, stdout=subprocess.DEVNULL)
    try:

        def answers() -> bool:
            assert process.poll() is None, "it ended"
            try:
                with RespClient(port) as client:
                    return client.try_call("SET", "k", "v") == b"OK"
            except OSError:
                return False

        wait_until(answers, "it serves")
        opened = [os.readlink(f"/proc/{process.pid}/fd/{number}") for number in range(3)]
        assert not [path for path in opened if str(tmp_path) in path or not path.startswith(("/", "pipe:"))]
        process.send_signal(signal.SIGTERM)
        assert process.wait(WAIT_S) == 0
    finally:
        process.kill()
        process.wait()


def test_a_complaint_that_nobody_can_read_changes_no_exit_code(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "zattredis", "--port", "none", "--dir", str(tmp_path)]
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            words, env={**os.environ, "PYTHONPATH": str(REPOSITORY)}, stdout=full, stderr=full, check=False, timeout=60
        )
    assert done.returncode == 2


def test_shutdown_ends_the_process_well(tmp_path: Path) -> None:
    port = free_port()
    with terminal("--port", str(port), directory=tmp_path) as node:
        node.wait_for("Stop   Ctrl-C")
        with RespClient(port) as client, contextlib.suppress(ConnectionError):
            client.call("SHUTDOWN")
        assert node.process.wait(WAIT_S) == 0


def pids(demo: Terminal) -> dict[str, int]:
    """Node id → process, as the demo printed them."""
    return {node_id: int(pid) for node_id, pid in re.findall(r"^  (n\d)\s+\d+\s+(\d+)\s", demo.text, re.MULTILINE)}


def is_alive(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def test_demo(tmp_path: Path) -> None:
    with terminal("demo", directory=tmp_path) as demo:
        demo.wait_for("Ctrl-C ends all three")
        nodes = pids(demo)
        ports = {node_id: int(port) for node_id, port in re.findall(r"^  (n\d)\s+(\d+)", demo.text, re.MULTILINE)}
        leader = demo.wait_for(r"  (n\d) .*leads")[1]
        data = Path(demo.wait_for(r"Starting three nodes in (\S+) …")[1])
        other, third = sorted(set(nodes) - {leader})
        with RespClient(ports[other]) as client:
            assert client.call("SET", "greeting", "hello") == b"OK"
            os.kill(nodes[leader], signal.SIGKILL)
            demo.wait_for(f"Node {leader} was ended by SIGKILL")
            assert client.call("GET", "greeting") == b"hello"
        demo.wait_for(f"({other}|{third}) leads now")
        assert demo.end() == 0
        assert not any(is_alive(pid) for pid in nodes.values())
        assert not data.exists()


def test_demo_keeps_its_data_in_a_given_directory(tmp_path: Path) -> None:
    for expected in (b"1", b"2"):
        with terminal("demo", "--dir", "kept", directory=tmp_path) as demo:
            demo.wait_for("Ctrl-C ends all three")
            port = int(demo.wait_for(r"  n1\s+(\d+)")[1])
            with RespClient(port) as client:
                assert str(client.call("INCR", "starts")).encode() == expected
            assert demo.end() == 0
    assert (tmp_path / "kept" / "n1" / "node.json").exists()


def test_demo_that_is_killed_leaves_no_node_behind(tmp_path: Path) -> None:
    with terminal("demo", "--dir", "kept", directory=tmp_path) as demo:
        demo.wait_for("Ctrl-C ends all three")
        nodes = pids(demo)
        demo.process.kill()
        wait_until(lambda: not any(is_alive(pid) for pid in nodes.values()), "the nodes have ended")


def test_demo_says_why_a_node_cannot_start(tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "n2").write_text("a file, not a directory")
    with terminal("demo", "--dir", "kept", directory=tmp_path) as demo:
        demo.wait_for("zattd: node n2 ended with exit code 1: .*n2")
        assert demo.process.wait(WAIT_S) == 1


def test_status_of_a_cluster(capsys: pytest.CaptureFixture[str]) -> None:
    with ZattCluster(3, in_memory=True) as cluster:
        leader = cluster.wait_leader()
        wait_until(lambda: zattctl.main(["status", "--port", str(cluster.nodes[0].port)]) == 0, "all is well")
        capsys.readouterr()
        assert zattctl.main(["status", "--port", str(cluster.nodes[0].port), "-o", "json"]) == 0
        document = json.loads(capsys.readouterr().out)
        assert document["healthy"]
        assert document["leader"] == f"n{leader + 1}"
        assert [node["node_id"] for node in document["nodes"]] == ["n1", "n2", "n3"]
        assert all(node["version"] for node in document["nodes"])
        gone = cluster.followers()[0]
        cluster.kill(gone)
        assert zattctl.main(["status", "--port", str(cluster.nodes[leader].port)]) == 1
        assert f"n{gone + 1}: cannot connect" in capsys.readouterr().out
