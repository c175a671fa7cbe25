"""zattctl backup, restore, verify and recover, as a user types them, on real clusters."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.cluster import Node, ZattCluster, content_digest, free_port, wait_until
from tests.support.growing import GrowingCluster
from tests.support.zattctl import COMMAND, ENVIRONMENT, zattctl
from zattredis.cli.ctl import backup
from zattredis.storage import rocks


def fill(cluster: ZattCluster) -> None:
    """Keys of every type, in two databases, some with an expiry, some large."""
    with cluster.client() as client:
        client.call("MSET", *[word for i in range(300) for word in (f"s{i}", f"value {i}" * 20)])
        client.call("SET", "large", "x" * 300_000)
        client.call("SET", "leaves", "later", "EX", 100_000)
        client.call("RPUSH", "list", *range(3000))
        client.call("HSET", "hash", *[word for i in range(500) for word in (f"f{i}", i)])
        client.call("SADD", "set", *[f"m{i}" for i in range(800)])
        client.call("ZADD", "zset", *[word for i in range(800) for word in (i / 7, f"m{i}")])
        client.call("SELECT", 3)
        client.call("SET", "elsewhere", "yes")


def members_of(nodes: list[Node]) -> str:
    return ",".join(f"{node.name}={node.host}:{node.port}" for node in nodes)


@pytest.fixture(scope="module")
def trio() -> Iterator[ZattCluster]:
    with ZattCluster(3, in_memory=True) as made:
        fill(made)
        yield made


@pytest.fixture(scope="module")
def saved(trio: ZattCluster) -> Path:
    """A backup of the trio, which is not changed afterwards by those who use both."""
    path = trio.directory / "data.backup"
    zattctl("backup", path, "-p", trio.nodes[0].port)
    return path


class Counting:
    """A client that counts in two keys and a list at once, for as long as the context lasts."""

    def __init__(self, cluster: ZattCluster, i: int) -> None:
        self._client = cluster.client(i)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.acknowledged = 0

    def _run(self) -> None:
        while not self._stop.is_set():
            number = self.acknowledged + 1
            for words in (("MULTI",), ("INCR", "{c}a"), ("INCR", "{c}b"), ("RPUSH", "{c}l", number)):
                self._client.call(*words)
            assert self._client.call("EXEC") == [number, number, number]
            self.acknowledged = number

    def __enter__(self) -> Counting:
        self._thread.start()
        return self

    def __exit__(self, *rest: object) -> None:
        self._stop.set()
        self._thread.join()
        self._client.close()


def test_a_backup_under_load_is_one_moment_and_restores_into_another_membership() -> None:
    with ZattCluster(3) as cluster, ZattCluster(3, start=False) as other:
        fill(cluster)
        for i, node in enumerate(other.nodes):
            node.name = f"m{i + 1}"
        with cluster.client(1) as waiting, Counting(cluster, 0) as counting:
            waiting.send("BLPOP", "queue", 0)
            wait_until(lambda: counting.acknowledged > 20, "the load runs")
            before = counting.acknowledged
            zattctl("backup", cluster.directory / "b", "-p", cluster.nodes[2].port)
            after = counting.acknowledged
            wait_until(lambda: counting.acknowledged > after + 5, "the load goes on")
        members = members_of(other.nodes)
        first = ["restore", cluster.directory / "b", "--cluster", members, "--node", "m1"]
        printed = zattctl(*first, "--dir", other.nodes[0].data_directory)
        cluster_id = printed.splitlines()[0].split()[-1]
        assert printed.count("still to restore") == 2
        rest = ["--node", "m2", "--node", "m3", "--dir", f"{other.directory}/n{{node}}", "--cluster-id", cluster_id]
        zattctl(*first[:-2], *rest)
        for i in (1, 2):  # where the restore of several put them
            (other.directory / f"nm{i + 1}").rename(other.directory / "moved")
            other.nodes[i].data_directory.parent.mkdir(parents=True)
            (other.directory / "moved").rename(other.nodes[i].data_directory)
        other.start()
        with other.client() as restored, cluster.client() as original:
            count = int(restored.call("GET", "{c}a"))
            assert before <= count <= after + 1
            assert restored.call("GET", "{c}b") == b"%d" % count
            assert restored.call("LRANGE", "{c}l", 0, -1) == [b"%d" % n for n in range(1, count + 1)]
            # Who waited in the old cluster waits here no more.
            assert restored.call("RPUSH", "queue", "element") == 1
            assert restored.call("LRANGE", "queue", 0, -1) == [b"element"]
            for db in (0, 3):
                restored.call("SELECT", db)
                original.call("SELECT", db)
                keys = sorted(key for key in original.call("KEYS", "*") if not key.startswith((b"{c}", b"queue")))
                assert keys == sorted(k for k in restored.call("KEYS", "*") if not k.startswith((b"{c}", b"queue")))
                for key in keys:
                    for words in (("DUMP", key), ("PEXPIRETIME", key)):
                        assert restored.call(*words) == original.call(*words), key
        other.wait_equal()
        with other.client() as client:
            assert client.info("raft")["raft_cluster_id"] == cluster_id


@pytest.mark.parametrize("compression", ["zlib", "none"])
def test_through_pipes_to_one_node(trio: ZattCluster, tmp_path: Path, compression: str) -> None:
    node = Node("solo", "127.0.0.1", free_port(), tmp_path / "solo")
    words = ["backup", "-", "--compression", compression, "--rate", "100MiB", "--node", "n2"]
    words += ["-p", str(trio.nodes[0].port)]
    raw = subprocess.run([*COMMAND, *words], capture_output=True, env=ENVIRONMENT, check=True).stdout
    restore = ["restore", "-", "--cluster", members_of([node]), "--dir", str(node.data_directory)]
    subprocess.run([*COMMAND, *restore], input=raw, capture_output=True, env=ENVIRONMENT, check=True)
    with ZattCluster(1, start=False) as alone:
        alone.nodes = [node]
        alone.start()
        assert content_digest(node) == content_digest(trio.nodes[0])


def test_a_backup_that_is_said_to_be_done_keeps_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[list[str]] = []
    monkeypatch.setattr(rocks, "fsync_directory", lambda path: synced.append(sorted(os.listdir(path))))
    with backup._output(str(tmp_path / "saved"), force=False) as stream:
        stream.write(b"everything")
    assert synced == [["saved"]]


def test_nothing_is_overwritten(trio: ZattCluster, saved: Path, tmp_path: Path) -> None:
    port = trio.nodes[0].port
    assert "is there already; --force" in zattctl("backup", saved, "-p", port, code=2)
    copy = tmp_path / "copy"
    copy.write_bytes(b"old")
    zattctl("backup", copy, "--force", "-p", port)
    assert copy.stat().st_mode & 0o777 == 0o600
    target = tmp_path / "target"
    target.mkdir()
    (target / "precious").write_text("mine")
    words = ["restore", saved, "--cluster", "n1=127.0.0.1:6379", "--dir", target]
    assert "nothing is overwritten" in zattctl(*words, code=1)
    assert [each.name for each in target.iterdir()] == ["precious"]


def test_a_restore_that_fails_leaves_nothing_and_one_cut_short_is_never_started(saved: Path, tmp_path: Path) -> None:
    raw = saved.read_bytes()
    cut = tmp_path / "cut"
    cut.write_bytes(raw[:-40])
    target = tmp_path / "target"
    words = ["--cluster", "n1=127.0.0.1:6379", "--dir", target]
    assert "cut short" in zattctl("restore", cut, *words, code=1)
    assert list(target.iterdir()) == []
    zattctl("restore", saved, *words)
    (target / "node.json").unlink()  # as a crash in the middle leaves it
    (target / "VERSION").unlink()
    (target / "restoring").touch()
    start = [COMMAND[0], "-m", "zattredis", "--node", "n1", "--port", str(free_port()), "--dir", str(target)]
    done = subprocess.run(start, capture_output=True, text=True, env=ENVIRONMENT, timeout=60, check=False)
    assert done.returncode == 1
    assert "is being restored into" in done.stderr
    assert "delete it first" in done.stderr


def test_a_cluster_id_is_for_this_backup_alone(saved: Path, tmp_path: Path) -> None:
    words = ["restore", saved, "--cluster", "n1=127.0.0.1:6379", "--dir", tmp_path / "d", "--cluster-id"]
    own = json.loads(zattctl("verify", saved, "-o", "json"))[0]["cluster_id"]
    assert "gets an id of its own" in zattctl(*words, own, code=2)
    assert "not printed by a restore of this very backup" in zattctl(*words, "0" * 20, code=2)


def test_without_a_majority_only_what_the_node_has(tmp_path: Path) -> None:
    with ZattCluster(3, flags=["--request-timeout-ms", "1000"], in_memory=True) as cluster:
        fill(cluster)
        digest = cluster.wait_equal()
        cluster.kill(1)
        cluster.kill(2)
        port = cluster.nodes[0].port
        assert "CLUSTERDOWN" in zattctl("backup", tmp_path / "b", "-p", port, code=1)
        assert list(tmp_path.iterdir()) == []
        zattctl("backup", tmp_path / "b", "--stale", "-p", port)

        # … and the cluster goes on from the one that is left.
        survivor = cluster.nodes[0]
        assert "is in use by process" in zattctl("recover", survivor.data_directory, code=1)
        refused = zattctl("verify", survivor.data_directory, code=1)
        assert "not looked at" in refused and "is in use by process" in refused and "DAMAGED" not in refused
        cluster.kill(0)
        told = zattctl("recover", survivor.data_directory, code=1)
        assert "What may be lost" in told
        assert "Nothing was changed" in told
        old_id = json.loads(zattctl("verify", survivor.data_directory, "-o", "json"))[0]["cluster_id"]
        zattctl("recover", survivor.data_directory, "--yes")
        report = json.loads(zattctl("verify", survivor.data_directory, "-o", "json"))[0]
        assert (report["voters"], report["problems"]) == (["n1"], [])
        assert report["cluster_id"] != old_id
        cluster.restart(0)
        assert content_digest(survivor) == digest
        with cluster.client() as client:
            assert client.call("SET", "goes", "on") == b"OK"

        # Those that were thought lost come back, and never mix with it.
        for i in (1, 2):
            cluster.spawn(cluster.nodes[i])
        wait_until(lambda: "peer_refused" in survivor.log(), "an old member is refused")
        cluster.wait_ready(cluster.nodes[1:])  # the old ones are a cluster of their own
        with cluster.client(1) as client:
            assert client.call("GET", "goes") is None
            client.call("SET", "old", "one")
        with cluster.client() as client:
            assert client.call("GET", "old") is None
            assert client.info("raft")["raft_members"] == "1"


def test_a_recovered_cluster_grows_again_with_old_ids() -> None:
    with GrowingCluster(3) as cluster:
        fill(cluster)
        digest = cluster.wait_equal()
        for i in range(3):
            cluster.kill(i)
        zattctl("recover", cluster.nodes[1].data_directory, "--yes")
        cluster.restart(1)
        survivor, others = cluster.nodes[1], [cluster.nodes[0], cluster.nodes[2]]
        for node in others:
            shutil.rmtree(node.data_directory)
            node.flags = ["--join", f"127.0.0.1:{survivor.port}"]
            node.spawn([COMMAND[0], "-m", "zattredis", "--node", node.name, "--address", node.host,
                        "--port", str(node.port), "--dir", str(node.data_directory), *node.flags])  # fmt: skip
        wait_until(lambda: cluster.settled_voters(1) == ["n1", "n2", "n3"], "all vote again")
        assert cluster.wait_equal() == digest


def tree(path: Path) -> dict[str, bytes]:
    return {str(each.relative_to(path)): each.read_bytes() for each in path.rglob("*") if each.is_file()}


def test_verify_finds_damage_and_changes_nothing(tmp_path: Path) -> None:
    with ZattCluster(1, in_memory=True) as cluster:
        fill(cluster)
        with cluster.client() as client:
            client.call("RAFT", "SNAPSHOT")
        cluster.kill(0)  # as a crash leaves it
        whole = cluster.nodes[0].data_directory
        before = tree(whole)
        report = json.loads(zattctl("verify", whole, "-o", "json"))[0]
        assert report["problems"] == []
        assert (report["keys"], report["expires"], report["node_id"]) == (307, 1, "n1")
        assert report["applied_index"] <= report["last_index"]
        assert tree(whole) == before

        def damaged(name: str) -> Path:
            return Path(shutil.copytree(whole, tmp_path / name))

        def problem(path: Path) -> str:
            text = zattctl("verify", path, code=1)
            assert "DAMAGED" in text
            return text

        table = max((whole / "state-0").glob("*.sst"), key=lambda each: each.stat().st_size).name
        flipped = damaged("flipped") / "state-0" / table
        raw = bytearray(flipped.read_bytes())
        raw[len(raw) // 3] ^= 4
        flipped.write_bytes(raw)
        assert "orruption" in problem(tmp_path / "flipped")

        (damaged("lost") / "state-0" / table).unlink()
        problem(tmp_path / "lost")
        (damaged("no-marks") / "log.marks").unlink()
        assert "log.marks is gone" in problem(tmp_path / "no-marks")
        shutil.rmtree(damaged("no-log") / "log")
        assert "the log is gone" in problem(tmp_path / "no-log")
        (damaged("newer") / "VERSION").write_text("9\n")
        assert "has format version '9'; this program reads version 1" in problem(tmp_path / "newer")
        wal = max((damaged("cut") / "log").glob("*.log"), key=lambda each: each.stat().st_size)
        wal.write_bytes(wal.read_bytes()[: wal.stat().st_size // 4])
        problem(tmp_path / "cut")
        assert "no data directory" in zattctl("verify", tmp_path, code=1)


def test_verify_of_backups(saved: Path, tmp_path: Path) -> None:
    assert "backup, whole" in zattctl("verify", saved)
    raw = bytearray(saved.read_bytes())
    raw[len(raw) // 2] ^= 1
    (tmp_path / "damaged").write_bytes(raw)
    assert "fails its checksum" in zattctl("verify", tmp_path / "damaged", code=1)
    assert "cannot read" in zattctl("verify", tmp_path / "missing", code=2)


def test_what_a_node_holds_for_a_backup_goes_with_its_connection(trio: ZattCluster) -> None:
    data = trio.nodes[1].data_directory

    def held() -> int:
        return len(list(data.glob("snapshot-backup-*")))

    def begin(client: object) -> str:
        reply = client.call("RAFT", "BACKUP", "BEGIN")  # type: ignore[attr-defined]
        return str(dict(zip(reply[::2], reply[1::2], strict=True))[b"token"], "ascii")

    with trio.client(1) as first, trio.client(1) as second, trio.client(1) as third:
        token = begin(first)
        begin(second)
        assert held() == 2
        assert b"giving 2 backups already" in third.try_call("RAFT", "BACKUP", "BEGIN")
        assert b"no such backup" in second.try_call("RAFT", "BACKUP", "READ", token, 0, 0, 10)
        for wrong in ((99, 0, 10), (0, 1 << 40, 10), (0, 0, 0), (0, 0, 1 << 30), (-1, 0, 1), ("x", 0, 1)):
            assert third.try_call("RAFT", "BACKUP", "READ", token, *wrong).startswith(b"-ERR")
            assert first.try_call("RAFT", "BACKUP", "READ", token, *wrong).startswith(b"-ERR")
        assert first.call("RAFT", "BACKUP", "END", token) == b"OK"
        assert held() == 1
    wait_until(lambda: held() == 0, "what closed connections held is gone")
