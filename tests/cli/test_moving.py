"""`zattctl import` and `export`, with redis-server 7.0 as the other side: nothing is lost, changed or overwritten."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.redis_suite.suite import SuiteUnavailable, suite_directory
from tests.support.cluster import REPOSITORY, ZattCluster, wait_until
from tests.support.ports import free_port
from tests.support.redis_server import RedisServer, missing_reason
from tests.support.resp_client import RespClient
from zattredis.cli.moving.pipe import Address, Pipe, Tls
from zattredis.cli.moving.rdb_file import RdbFile
from zattredis.cli.moving.rdb_writer import RdbWriter, string
from zattredis.cli.moving.sources import Pace
from zattredis.cli.zattctl import main
from zattredis.errors import ConfigError

EXPIRE_MS = 4_000_000_000_123
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def cluster() -> Iterator[ZattCluster]:
    with ZattCluster(1, in_memory=True) as made:
        yield made


@pytest.fixture
def ours(cluster: ZattCluster) -> Iterator[RespClient]:
    with cluster.client() as client:
        client.call("FLUSHALL")
        yield client


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with RedisServer() as made:
        yield made


@pytest.fixture
def theirs(server: RedisServer) -> Iterator[RespClient]:
    with RespClient(server.port) as client:
        client.call("FLUSHALL")
        client.call("FUNCTION", "FLUSH")
        yield client


@pytest.fixture
def run(
    cluster: ZattCluster, capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Run:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))

    def call(*words: object) -> tuple[int, str, str]:
        capfd.readouterr()
        code = main([*map(str, words), "--port", str(cluster.nodes[0].port)])
        return code, *capfd.readouterr()

    return call


def url(server: RedisServer, db: int | None = None) -> str:
    return f"redis://127.0.0.1:{server.port}" + ("" if db is None else f"/{db}")


def fill(client: RespClient, count: int = 300) -> None:
    """Keys of every type that both servers have, in every encoding, in three databases, a third of them expiring."""
    rng = random.Random(5)
    for db in (0, 3, 15):
        client.call("SELECT", db)
        commands: list[tuple[bytes | str | int, ...]] = [
            ("SET", "text", "x" * 5000), ("SET", "binary", rng.randbytes(70_000)), ("SET", "int", -12),
            ("SET", b"\xff\x00\r\n", b"\r\n\x00"), ("RPUSH", "long list", *(f"element {n}" * 3 for n in range(3000))),
            ("SADD", "long set", *(f"member {n}" for n in range(1000))), ("SADD", "ints", 5, -3, 1 << 40),
            ("HSET", "long hash", *(f"field {n}" for n in range(1200))), ("PFADD", "hll", *range(50)),
            ("ZADD", "long zset", *(word for n in range(400) for word in (n / 7, f"m{n}"))),
            ("ZADD", "inf", "inf", "a", "-inf", "b", "1e300", "c"), ("GEOADD", "geo", "13.3", "38.1", "Palermo"),
        ]  # fmt: skip
        for number in range(count):
            kind, key = number % 5, f"k{number}"
            commands.append((
                ("SET", key, rng.randbytes(number % 90)), ("HSET", key, "f", number, "g", "w" * (number % 90)),
                ("RPUSH", key, "a", number), ("SADD", key, "x", number), ("ZADD", key, number / 3, "m", 2, "n"),
            )[kind])  # fmt: skip
            if number % 3 == 0:
                commands.append(("PEXPIREAT", key, EXPIRE_MS + number))
        client.pipeline(commands)


KEYS = 3 * (300 + 12)


def test_a_live_server_is_copied_and_compared(
    run: Run, ours: RespClient, theirs: RespClient, server: RedisServer, tmp_path: Path
) -> None:
    fill(theirs)
    code, out, _ = run("import", url(server), "--verify")
    assert code == 0, out
    assert f"imported: {KEYS}\n" in out and f"compared {KEYS} keys: {KEYS} equal, 0 differ\n" in out
    assert list((tmp_path / "state").rglob("*.json")) == []
    for client in (ours, theirs):
        client.call("SELECT", 3)
    for key in ("int", "k30", "k31", "ints", "inf", b"\xff\x00\r\n"):
        assert ours.call("DUMP", key) == theirs.call("DUMP", key)
        assert ours.call("PEXPIRETIME", key) == theirs.call("PEXPIRETIME", key)
    assert ours.call("OBJECT", "ENCODING", "ints") == b"intset"
    # Again: everything is found to be there.
    code, out, _ = run("import", url(server))
    assert (code, f"there already, equal: {KEYS}\n" in out) == (0, True)


def test_keys_that_exist_are_left_unless_they_are_to_be_replaced(
    run: Run, ours: RespClient, theirs: RespClient, server: RedisServer
) -> None:
    theirs.pipeline([("SET", key, "new") for key in "abcd"])
    theirs.call("PEXPIREAT", "d", EXPIRE_MS)
    ours.pipeline([("SET", "a", "old"), ("RPUSH", "b", "old"), ("SET", "c", "new"), ("SET", "d", "new")])
    code, out, _ = run("import", url(server), "--verify")
    assert code == 1
    assert "there already with another value, left as it was: 3" in out and "there already, equal: 1" in out
    assert "'a' in database 0" in out and "1 equal, 3 differ" in out and "'b' in database 0: another value" in out
    assert ours.call("GET", "a") == b"old" and ours.call("TTL", "d") == -1
    code, out, _ = run("import", url(server), "--replace", "--verify")
    assert (code, "imported: 4" in out, "4 equal, 0 differ" in out) == (0, True, True)
    assert ours.call("GET", "a") == ours.call("GET", "b") == b"new"
    assert ours.call("PEXPIRETIME", "d") == EXPIRE_MS


def test_what_this_server_does_not_have_is_told_and_counted(
    run: Run, ours: RespClient, theirs: RespClient, server: RedisServer, tmp_path: Path
) -> None:
    theirs.call("XADD", "events", "*", "f", "v")
    theirs.call("SET", "k", "v")
    theirs.call("FUNCTION", "LOAD", "#!lua name=lib\nredis.register_function('f', function() return 1 end)")
    has_streams = "XADD" in {name.decode().upper() for name in ours.call("COMMAND", "LIST")}
    code, out, _ = run("import", url(server))
    if not has_streams:
        assert (code, "of a type that this server does not have: 1" in out) == (1, True)
        assert "stream 'events' in database 0" in out
    assert "1 function libraries are not copied" in out
    assert ours.call("GET", "k") == b"v"
    path = tmp_path / "far.rdb"
    with RdbWriter(path, 10, replace=False) as writer:
        writer.add(0, b"near", 0, b"\x00" + string(b"v") + bytes(10))
        writer.add(16, b"far", 0, b"\x00" + string(b"v") + bytes(10))
        writer.add(1, b"late", 1000, b"\x00" + string(b"v") + bytes(10))
        writer.add(1, b"last", 0, b"\x00" + string(b"v") + bytes(10))
        writer.finish()
    code, out, _ = run("import", path)
    assert code == 1
    assert "in a database that this server does not have: 1" in out and "'far' in database 16" in out
    assert "expired already: 1" in out and "imported: 2" in out
    assert ours.call("EXISTS", "far") == 0


def test_one_database_and_a_pattern(run: Run, ours: RespClient, theirs: RespClient, server: RedisServer) -> None:
    fill(theirs, 20)
    assert run("import", url(server, 3), "--match", "k1?")[0] == 0
    assert run("import", url(server), "--db", "15", "--match", "int*")[0] == 0
    assert b"".join(ours.call("INFO", "keyspace").split(b"keys=")[1:])[:2] == b"10"
    ours.call("SELECT", 15)
    assert sorted(ours.call("KEYS", "*")) == [b"int", b"ints"]


def test_wrong_sources_and_arguments(run: Run, server: RedisServer, tmp_path: Path) -> None:
    for words, code, message in (
        (("redis://127.0.0.1:1",), 1, "cannot connect to 127.0.0.1:1: Connection refused"),
        (("redis://me:hush@127.0.0.1:x",), 2, "URL of the server is wrong"),
        (("redis://127.0.0.1/one",), 2, "is no number of a database"),
        (("redis://127.0.0.1/0?colour=red",), 2, "unknown option colour"),
        ((f"redis://:hush@127.0.0.1:{server.port}",), 1, "ERR AUTH"),
        ((tmp_path / "none.rdb",), 1, "No such file"), ((tmp_path / "none.rdb", "--match", "a*"), 2, "live servers"),
        ((url(server), "--check"), 2, "--check is for files"),
    ):  # fmt: skip
        found, out, err = run("import", *words)
        assert (found, message in err, "hush" in out + err) == (code, True, False), (words, out, err)


def test_user_password_and_a_server_without_pexpiretime(run: Run, ours: RespClient) -> None:
    with RedisServer("--rename-command", "PEXPIRETIME", "") as old, RespClient(old.port) as theirs:
        theirs.call("ACL", "SETUSER", "mover", "on", ">hush hush", "~*", "+@all")
        theirs.call("CONFIG", "SET", "requirepass", "secret")
        theirs.call("AUTH", "secret")
        theirs.call("SET", "k", "v", "PXAT", EXPIRE_MS)
        theirs.call("SET", "l", "w")
        where = f"127.0.0.1:{old.port}"
        code, _, err = run("import", f"redis://{where}")
        assert (code, "NOAUTH" in err) == (1, True)
        code, out, err = run("import", f"redis://mover:hush%20hush@{where}")
        assert (code, "hush" in out + err) == (0, False), out + err
        assert abs(ours.call("PEXPIRETIME", "k") - EXPIRE_MS) < 5000
        assert ours.call("PEXPIRETIME", "l") == -1
        assert run("import", f"redis://:secret@{where}", "--replace")[0] == 0


def test_tls_and_unix_sockets(run: Run, ours: RespClient, tmp_path: Path) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    certificate, key = str(tmp_path / "cert.pem"), str(tmp_path / "key.pem")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", certificate],
        check=True, capture_output=True,
    )  # fmt: skip
    tls_port = free_port()
    with RedisServer("--tls-port", str(tls_port), "--tls-cert-file", certificate, "--tls-key-file", key,
                     "--tls-ca-cert-file", certificate, "--unixsocket", f"{tmp_path}/socket") as server:  # fmt: skip
        with RespClient(server.port) as theirs:
            theirs.call("SET", "k", "v")
        code, _, err = run("import", f"rediss://127.0.0.1:{tls_port}")
        assert (code, "its certificate is not accepted" in err) == (1, True)
        with_files = ("--source-ca", certificate, "--source-cert", certificate, "--source-key", key)
        code, out, err = run("import", f"rediss://127.0.0.1:{tls_port}", *with_files, "--verify")
        assert (code, "1 equal, 0 differ" in out) == (0, True), out + err
        code, out, _ = run("import", f"unix://{tmp_path}/socket?db=0", "--verify")
        assert (code, "there already, equal: 1" in out) == (0, True)
    with pytest.raises(ConfigError, match="TLS"):
        Tls(ca_file=str(tmp_path / "none")).context()


def test_an_interrupted_import_goes_on_where_it_ended(
    cluster: ZattCluster, run: Run, ours: RespClient, theirs: RespClient, server: RedisServer, tmp_path: Path
) -> None:
    theirs.pipeline([("SET", f"k{n}", n) for n in range(6000)])
    position = tmp_path / "position.json"
    words = ["import", url(server), "--position", str(position), "--port", str(cluster.nodes[0].port)]
    process = subprocess.Popen(
        [sys.executable, "-m", "zattredis.cli.zattctl", *words, "--rate", "4000", "--quiet"],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        wait_until(lambda: bool(ours.call("DBSIZE") > 2000), "a part is imported")
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 130
    assert "the same command again goes on from there" in err
    kept = json.loads(position.read_text())
    assert 0 < kept["counts"]["imported"] < 6000
    code, out, _ = run("import", url(server), "--position", position, "--verify")
    assert code == 0, out
    assert f"going on where an earlier import ended, behind {kept['counts']['imported']} keys" in out
    assert "compared 6000 keys: 6000 equal, 0 differ" in out
    assert not position.exists()
    # The position of another source means nothing, nor does one that cannot be read.
    for content in (json.dumps(kept | {"identity": "other"}), "{", "[]"):
        position.write_text(content)
        code, out, _ = run("import", url(server), "--position", position)
        assert (code, "going on" in out, "equal: 6000" in out) == (0, False, True)
    position.write_text(json.dumps(kept))
    code, out, _ = run("import", url(server), "--position", position, "--restart")
    assert (code, "equal: 6000" in out) == (0, True)


def test_a_file_goes_on_from_any_key(run: Run, ours: RespClient, tmp_path: Path) -> None:
    path = tmp_path / "dump.rdb"
    with RdbWriter(path, 10, replace=False) as writer:
        for db in (1, 4):
            for number in range(700):
                writer.add(db, b"k%d" % number, 0, b"\x00" + string(b"%d" % number) + bytes(10))
        writer.finish()
    with RdbFile(path) as file:
        entries = list(file.entries())
        middle = entries[1000]
        assert list(file.entries(start=middle.end, db=middle.db)) == entries[1001:]
    stat = path.stat()
    identity = f"{path} {stat.st_size} {stat.st_mtime_ns} None → 127.0.0.1:{ours.socket.getpeername()[1]}"
    position = tmp_path / "position"
    position.write_text(json.dumps({"identity": identity, "behind": [middle.end, 4], "counts": {"imported": 1001}}))
    code, out, _ = run("import", path, "--position", position)
    assert (code, "399 keys in" in out, "imported: 1400" in out) == (0, True, True), out
    ours.call("SELECT", 4)
    assert ours.call("DBSIZE") == 399 and ours.call("GET", "k301") == b"301"


def test_a_damaged_file_changes_nothing(run: Run, ours: RespClient, tmp_path: Path) -> None:
    path = tmp_path / "dump.rdb"
    with RdbWriter(path, 10, replace=False) as writer:
        for number in range(100):
            writer.add(0, b"k%d" % number, 0, b"\x00" + string(b"v") + bytes(10))
        writer.finish()
    whole = path.read_bytes()
    for damaged, message in (
        (whole[:-9], "cut short: the file ends at offset"), (whole[:-1] + b"\x00", "the checksum of the file is"),
    ):  # fmt: skip
        path.write_bytes(damaged)
        code, _, err = run("import", path)
        assert (code, message in err) == (1, True), err
    assert ours.call("DBSIZE") == 0
    path.write_bytes(whole)
    code, out, _ = run("import", path, "--check")
    assert (code, "checksum: verified" in out, "100 keys: 100 string" in out) == (0, True, True)
    assert ours.call("DBSIZE") == 0


SAMPLES = ("encodings", "hash-ziplist", "hash-zipmap", "list-quicklist", "zset-ziplist", "scriptbackup",
           "corrupt_empty_keys", "corrupt_ziplist")  # fmt: skip


@pytest.mark.parametrize("name", SAMPLES)
def test_redis_own_sample_files(run: Run, ours: RespClient, name: str, tmp_path: Path) -> None:
    try:
        sample = suite_directory() / "tests" / "assets" / f"{name}.rdb"
    except SuiteUnavailable as error:
        pytest.skip(str(error))
    if reason := missing_reason():
        pytest.skip(reason)
    code, out, err = run("import", sample)
    if name.startswith("corrupt"):
        # redis-server would end, or pass over the damaged values too: here each is named.
        assert (code, "refused: " in out, "Bad data format" in out) == (1, True, True)
        return
    assert code == 0, out + err
    shutil.copy(sample, tmp_path / "dump.rdb")
    with RedisServer("--dir", str(tmp_path)) as loaded, RespClient(loaded.port) as theirs:
        assert theirs.call("DBSIZE") == ours.call("DBSIZE")
        code, out, _ = run("import", url(loaded), "--verify")
        assert (code, " 0 differ" in out, "imported: 0" in out or name == "scriptbackup") == (0, True, True), out


def test_redis_loads_what_is_exported(
    run: Run, ours: RespClient, theirs: RespClient, server: RedisServer, tmp_path: Path
) -> None:
    fill(theirs)
    assert run("import", url(server))[0] == 0
    path = tmp_path / "dump.rdb"
    code, out, _ = run("export", path)
    assert (code, f"{KEYS} keys" in out) == (0, True)
    with RedisServer("--dir", str(tmp_path)) as loaded:
        code, out, _ = run("import", url(loaded), "--verify")
        assert (code, f"compared {KEYS} keys: {KEYS} equal" in out) == (0, True), out
    assert run("export", path)[0] == 1
    code, out, _ = run("export", path, "--replace", "--db", "3")
    assert (code, f"{KEYS // 3} keys" in out) == (0, True)
    code, out, _ = run("import", path, "--check")
    assert f"database 3: {KEYS // 3} keys" in out
    assert run("export", path, "--replace", "--db", "16")[0] == 1
    ours.call("FLUSHALL")
    assert run("export", path, "--replace")[0] == 0
    with RedisServer("--dir", str(tmp_path)) as loaded, RespClient(loaded.port) as client:
        assert client.call("DBSIZE") == 0


def test_fields_that_expire_make_a_file_of_version_12(run: Run, ours: RespClient, tmp_path: Path) -> None:
    ours.call("HSET", "h", "f", "v", "g", "w")
    ours.call("HPEXPIREAT", "h", EXPIRE_MS, "FIELDS", 1, "f")
    dump, path = ours.call("DUMP", "h"), tmp_path / "dump.rdb"
    code, out, _ = run("export", path)
    assert (code, "RDB version 12" in out) == (0, True)
    ours.call("FLUSHALL")
    assert run("import", path, "--verify")[0] == 0
    assert ours.call("DUMP", "h") == dump
    assert ours.call("HPEXPIRETIME", "h", "FIELDS", 1, "f") == [EXPIRE_MS]


def test_an_export_shows_one_point_in_time(ours: RespClient, cluster: ZattCluster) -> None:
    keys, value = 200, b"x" * 100_000
    ours.pipeline([("SET", f"k{n}", value) for n in range(keys)])
    with Pipe(Address(port=cluster.nodes[0].port), 60.0) as pipe:
        elements = pipe.stream("RAFT", "EXPORT")
        found = [next(elements)]
        ours.pipeline([("SET", f"k{n}", "changed") for n in range(0, keys, 2)] + [("DEL", "k1"), ("SET", "more", "1")])
        ours.call("SELECT", 7)
        ours.call("SET", "more", "1")
        found += elements
    assert sorted(row[1] for row in found) == sorted(b"k%d" % n for n in range(keys))
    assert {row[0] for row in found} == {0}
    assert {row[3][1:-10][-len(value) :] for row in found} == {value}
    assert ours.call("DBSIZE") == 1


def test_a_cluster_takes_an_import_on_any_node_while_its_leader_changes(
    capfd: pytest.CaptureFixture[str], theirs: RespClient, server: RedisServer, tmp_path: Path
) -> None:
    fill(theirs, 1000)
    with ZattCluster(3, in_memory=True) as three:
        follower = three.followers()[0]
        port = str(three.nodes[follower].port)
        process = subprocess.Popen(
            [sys.executable, "-m", "zattredis.cli.zattctl", "import", url(server), "--port", port, "--rate", "2500",
             "--position", str(tmp_path / "position"), "--verify"],
            env={**os.environ, "PYTHONPATH": str(REPOSITORY)}, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            text=True,
        )  # fmt: skip
        try:
            with three.client(follower) as client:
                wait_until(lambda: bool(client.call("DBSIZE") > 100), "a part is imported")
            three.kill(three.wait_leader())
            out, err = process.communicate(timeout=100)
        finally:
            process.kill()
            process.wait()
        assert process.returncode == 0, out + err
        assert " 3036 equal, 0 differ" in out
        other = next(i for i in range(3) if three.nodes[i].running and i != follower)
        path = tmp_path / "dump.rdb"
        assert main(["export", str(path), "--port", str(three.nodes[other].port)]) == 0
        with RdbFile(path) as file:
            assert file.check().keys == 3036


def test_the_pace_is_held() -> None:
    slept: list[float] = []
    now = [0.0]

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        now[0] += seconds

    pace = Pace(100, now=lambda: now[0], sleep=sleep)
    for _ in range(5):
        pace.spend(50)
    assert slept == pytest.approx([0.5] * 4)
    now[0] += 10
    pace.spend(50)
    pace.spend(1)
    assert slept == pytest.approx([0.5] * 5)
    Pace(0, now=time.monotonic, sleep=sleep).spend(10**9)
    assert len(slept) == 5
