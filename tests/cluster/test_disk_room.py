"""Disks that get full: growth refused, then writes, reads and Raft going on, and everything healed by room alone."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.cluster import ZattCluster, wait_until
from tests.support.loop_disk import LoopDisk, fill
from tests.support.resp_client import Argument, RespClient

MIB = 1 << 20
WANTED = 48 * MIB


@pytest.fixture
def small_disk() -> Iterator[Path]:
    if shutil.which("mkfs.ext4") is None:
        pytest.skip("mkfs.ext4 is not installed")
    with tempfile.TemporaryDirectory(prefix="zattredis-disk-") as directory:
        try:
            disk = LoopDisk(Path(directory), 320 * MIB)
        except (subprocess.CalledProcessError, OSError):
            pytest.skip("needs loop devices and the right to mount them")
        yield disk.mount_point
        with contextlib.suppress(subprocess.CalledProcessError):
            disk.unmount()


def refusal(client: RespClient, *words: Argument) -> str:
    """What the command is refused with, or nothing."""
    reply = client.try_call(*words)
    return reply[1:].decode() if isinstance(reply, bytes) and reply.startswith(b"-") else ""


def until_refused(client: RespClient, refused: bool, *words: Argument) -> None:
    wait_until(lambda: refusal(client, *words).startswith("DISKFULL") is refused, f"{words}: refused {refused}", 20)


def test_a_node_on_a_full_disk_refuses_and_heals(small_disk: Path) -> None:
    with ZattCluster(1, start=False) as cluster:
        node = cluster.nodes[0]
        node.flags = ["--dir", str(small_disk / "data"), "--disk-free-bytes-min", str(WANTED)]
        cluster.start()
        with node.client() as client:
            client.pipeline([("SET", f"k{i}", "v") for i in range(10)])
            client.call("RPUSH", "list", "a", "b", "c")
            fill(small_disk, WANTED // 2)
            until_refused(client, True, "SET", "k", "v")
            assert "commands that may need more are refused" in refusal(client, "RPUSH", "list", "d")
            assert client.call("GET", "k1") == b"v"
            assert client.call("LRANGE", "list", 0, -1) == [b"a", b"b", b"c"]
            assert client.call("DEL", "k1") == 1 and client.call("LPOP", "list") == b"a"
            assert client.call("EXPIRE", "k2", 1000) == 1
            client.call("MULTI")
            assert refusal(client, "SET", "k", "v").startswith("DISKFULL")
            assert refusal(client, "EXEC").startswith("EXECABORT")
            fill(small_disk, WANTED // 8)
            until_refused(client, True, "DEL", "nothing")
            assert "writes are refused until there is room" in refusal(client, "SET", "k", "v")
            assert client.call("GET", "k3") == b"v"
            assert client.info("persistence")["aof_last_write_status"] == "err"
            (small_disk / "filler").unlink()
            until_refused(client, False, "SET", "k", "v")
            assert client.call("GET", "k") == b"v" and client.call("DEL", "k3") == 1
            assert client.info("persistence")["aof_last_write_status"] == "ok"
        assert node.running


def test_a_part_of_the_disk_in_percent(small_disk: Path) -> None:
    with ZattCluster(1, start=False) as cluster:
        node = cluster.nodes[0]
        node.flags = ["--dir", str(small_disk / "data"), "--disk-free-bytes-min", "0"]
        cluster.start()
        with node.client() as client:
            fill(small_disk, 100 * MIB)
            client.call("SET", "k", "v")
            client.call("CONFIG", "SET", "disk-free-percent-min", 50)
            until_refused(client, True, "SET", "k", "v")
            client.call("CONFIG", "SET", "disk-free-percent-min", 10)
            until_refused(client, False, "SET", "k", "v")


def test_a_follower_whose_disk_is_full_stays_alive_and_catches_up(small_disk: Path) -> None:
    with ZattCluster(3, start=False) as cluster:
        for node in cluster.nodes:
            node.flags = ["--disk-free-bytes-min", str(WANTED)]
        cluster.nodes[2].flags += ["--dir", str(small_disk / "data")]
        cluster.start()
        if cluster.wait_leader() == 2:
            with cluster.client(2) as client:
                client.call("RAFT", "TRANSFER", "n1")
            cluster.wait_leader(other_than=2)
        with cluster.client(0) as one, cluster.client(2) as three:
            one.call("SET", "k", "v")  # acknowledged by a majority, of which it need not have been
            three.call("READONLY")
            wait_until(lambda: three.call("GET", "k") == b"v", "it has it")
            fill(small_disk, 4 * MIB)
            until_refused(three, True, "SET", "k", "v")
            for i in range(24):  # more than its disk could hold
                assert one.call("SET", f"large{i}", os.urandom(MIB // 2)) == b"OK"
            assert cluster.nodes[2].running
            assert three.call("GET", "k") == b"v", "what it has it still tells"
            (small_disk / "filler").unlink()
            until_refused(three, False, "SET", "k", "v2")
            assert one.call("GET", "k") == b"v2"
        cluster.wait_equal()


def test_a_snapshot_that_its_disk_cannot_hold_does_not_end_a_follower(small_disk: Path) -> None:
    with ZattCluster(3, start=False) as cluster:
        for node in cluster.nodes:
            node.flags = ["--disk-free-bytes-min", str(16 * MIB)]
            node.flags += ["--log-compaction-bytes", "8mb", "--log-retain-for-followers-bytes", "8mb"]
        cluster.nodes[2].flags += ["--dir", str(small_disk / "data")]
        cluster.start()
        cluster.kill(2)
        cluster.wait_leader()
        with cluster.client(0) as one:
            for i in range(100):
                one.call("SET", f"large{i}", os.urandom(MIB))
            fill(small_disk, 64 * MIB)
            cluster.restart(2, wait=False)
            wait_until(lambda: "there is no room on the disk of n3 for a snapshot" in cluster.nodes[2].log(), "refused")
            assert one.call("SET", "k", "v") == b"OK"
            wait_until(lambda: cluster.nodes[2].log().count("there is no room") > 2, "asked again")
            assert cluster.nodes[2].running
            assert os.statvfs(small_disk).f_bavail * os.statvfs(small_disk).f_frsize > 50 * MIB, "nothing is left of it"
        (small_disk / "filler").unlink()
        cluster.wait_equal()


def test_a_leader_without_room_hands_over_and_a_majority_without_room_refuses_everywhere() -> None:
    with ZattCluster(3, in_memory=True) as cluster:
        leader = cluster.wait_leader()
        rest = [i for i in range(3) if i != leader]
        clients = [cluster.client(i) for i in range(3)]
        try:
            clients[leader].call("CONFIG", "SET", "disk-free-bytes-min", 1 << 40)
            cluster.wait_leader(other_than=leader)
            until_refused(clients[leader], True, "SET", "k", "v")
            for i in rest:
                assert clients[i].call("SET", f"k{i}", "v") == b"OK", "the others have room"
            clients[rest[0]].call("CONFIG", "SET", "disk-free-bytes-min", 1 << 40)
            until_refused(clients[rest[1]], True, "SET", "k", "v")
            assert "the disks of a majority have too little room" in refusal(clients[rest[1]], "SET", "never", "v")
            assert clients[rest[1]].call("EXISTS", "never") == 0, "what is refused was not done, and reads go on"
            clients[leader].call("CONFIG", "SET", "disk-free-bytes-min", 0)
            for i in (leader, rest[1]):
                until_refused(clients[i], False, "SET", "k", i)
            until_refused(clients[rest[0]], True, "SET", "k", "v")
            clients[rest[0]].call("CONFIG", "SET", "disk-free-bytes-min", 0)
            until_refused(clients[rest[0]], False, "SET", "k", "v")
        finally:
            for client in clients:
                client.close()
        cluster.wait_equal()
