"""zattctl against nodes that want a password, know users, or go away in the middle; and on a terminal."""

from __future__ import annotations

import os
import pty
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.cluster import ZattCluster, wait_until
from tests.support.zattctl import COMMAND, ENVIRONMENT, zattctl


@pytest.fixture(scope="module")
def guarded() -> Iterator[ZattCluster]:
    with ZattCluster(1, start=False) as cluster:
        cluster.nodes[0].flags = ["--requirepass", "correct horse"]
        cluster.spawn(cluster.nodes[0])

        def answers() -> bool:
            words = [*COMMAND, "status", "-p", str(cluster.nodes[0].port)]
            environment = {**ENVIRONMENT, "REDISCLI_AUTH": "correct horse"}
            return subprocess.run(words, env=environment, capture_output=True, check=False).returncode == 0

        wait_until(answers, "the node answers")
        yield cluster


def test_a_password_by_flag_by_environment_and_by_settings(guarded: ZattCluster, tmp_path: Path) -> None:
    port = guarded.nodes[0].port
    assert "NOAUTH" in zattctl("status", "-p", port, code=1)
    told = zattctl("members", "-p", port, "-a", "wrong", code=1)
    assert "WRONGPASS" in told
    assert "wrong" not in told.replace("WRONGPASS", "").replace("wrong pass", "")  # what was typed is not repeated
    assert zattctl("status", "-p", port, "-a", "correct horse").startswith("NODE")
    settings = tmp_path / "zattredis.toml"
    settings.write_text(f'port = {port}\nrequirepass = "correct horse"\n')
    for words in (("status",), ("members",), ("backup", tmp_path / "b"), ("top", "-n", "1")):
        zattctl(*words, "-c", settings)


def test_a_user_needs_the_right_to_back_up(guarded: ZattCluster, tmp_path: Path) -> None:
    port = guarded.nodes[0].port
    with guarded.client() as client:
        client.call("AUTH", "correct horse")
        client.call("ACL", "SETUSER", "reader", "on", ">r", "~*", "+@read", "+info", "+ping")
        client.call("ACL", "SETUSER", "saver", "on", ">s", "+info", "+raft")
    as_reader = ["-p", port, "--user", "reader", "-a", "r"]
    assert zattctl("status", *as_reader).startswith("NODE")
    assert "NOPERM" in zattctl("backup", tmp_path / "b", *as_reader, code=1)
    assert "NOPERM" in zattctl("transfer-leader", *as_reader, code=1)
    assert list(tmp_path.iterdir()) == []
    zattctl("backup", tmp_path / "b", "-p", port, "--user", "saver", "-a", "s")
    zattctl("verify", tmp_path / "b")


def test_the_doctor_takes_no_node_for_dead_that_may_not_tell_all(guarded: ZattCluster) -> None:
    port = guarded.nodes[0].port
    with guarded.client() as client:
        client.call("AUTH", "correct horse")
        client.call("ACL", "SETUSER", "watch", "on", ">w", "+info", "+config|get")
    told = zattctl("doctor", "-p", port, "--user", "watch", "-a", "w")
    assert "quorum" not in told and "replace" not in told
    assert "not all was looked at: this user may not ask for RAFT STATUS, TIME" in told


def test_a_node_that_goes_away_leaves_no_half_backup(tmp_path: Path) -> None:
    with ZattCluster(1, in_memory=True) as cluster:
        with cluster.client() as client:
            for i in range(40):
                client.call("SET", f"k{i}", os.urandom(200_000))
        words = ["backup", str(tmp_path / "b"), "--rate", "300KiB", "-p", str(cluster.nodes[0].port)]
        process = subprocess.Popen([*COMMAND, *words], env=ENVIRONMENT, stderr=subprocess.PIPE, text=True)
        partial = tmp_path / "b.partial"
        wait_until(lambda: partial.exists() and partial.stat().st_size > 100_000, "the backup has begun")
        cluster.kill(0)
        _, told = process.communicate(timeout=60)
        assert process.returncode == 1
        assert told.count("\n") == 1
        assert "closed the connection" in told or "no answer" in told
        assert list(tmp_path.iterdir()) == []


def test_on_a_terminal_a_bar_shows_how_far_it_is(tmp_path: Path) -> None:
    with ZattCluster(1, in_memory=True) as cluster:
        with cluster.client() as client:
            for i in range(20):
                client.call("SET", f"k{i}", os.urandom(200_000))
        words = ["backup", str(tmp_path / "b"), "--rate", "3MiB", "-p", str(cluster.nodes[0].port)]
        process_id, terminal = pty.fork()
        if process_id == 0:
            os.execve(COMMAND[0], [*COMMAND, *words], {**ENVIRONMENT, "TERM": "xterm", "COLUMNS": "120"})
        shown = b""
        while True:
            try:
                shown += os.read(terminal, 65_536)
            except OSError:
                break
        os.close(terminal)
        assert os.waitstatus_to_exitcode(os.waitpid(process_id, 0)[1]) == 0
        assert b"backup" in shown
        assert b"\x1b[" in shown  # the bar, drawn again and again
        assert b"MiB" in shown
        zattctl("verify", tmp_path / "b")
