"""Users on three nodes: agreed once and in force everywhere, through restarts and snapshots, never in clear text."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import hiredis
import pytest

from tests.support.cluster import ZattCluster, wait_until
from tests.support.resp_client import RespClient

SECRET = "Xq7-not-to-be-found-zW3"


@pytest.fixture(scope="module")
def three() -> Iterator[ZattCluster]:
    with ZattCluster(3, in_memory=True) as cluster:
        yield cluster


def refused(client: RespClient, *words: str) -> str:
    reply = client.try_call(*words)
    assert isinstance(reply, bytes) and reply.startswith(b"-"), reply
    return reply.decode()


def lines(client: RespClient) -> list[bytes]:
    found: list[bytes] = client.call("ACL", "LIST")
    return found


def test_a_user_is_known_on_every_node_as_soon_as_it_is_confirmed(three: ZattCluster) -> None:
    """No retry, no wait: a node that has not heard of the user asks before it refuses."""
    for number in range(30):
        with three.client(number % 3) as admin, three.client((number + 1) % 3) as other:
            assert admin.call("ACL", "SETUSER", f"u{number}", "on", f">p{number}", "+@all", "~*") == b"OK"
            assert other.call("AUTH", f"u{number}", f"p{number}") == b"OK"
            assert other.call("ACL", "WHOAMI") == b"u%d" % number
            assert admin.call("ACL", "SETUSER", f"u{number}", ">another", f"<p{number}") == b"OK"
            assert other.call("HELLO", "2", "AUTH", f"u{number}", "another")
    with three.client(0) as admin:
        shown = [lines(three.client(i)) for i in range(3)]
        assert shown[0] == shown[1] == shown[2] and len(shown[0]) == 31
        assert admin.call("ACL", "DELUSER", *(f"u{number}" for number in range(30))) == 30


def test_changes_are_in_force_for_connections_on_every_node(three: ZattCluster) -> None:
    with three.client(0) as admin:
        admin.call("ACL", "SETUSER", "eve", "on", "nopass", "+@all", "~*", "&*")
        eves = [three.client(i) for i in range(3)]
        for eve in eves:
            assert eve.call("AUTH", "eve", "x") == b"OK"
            assert eve.call("SET", "k", "v") == b"OK"
        admin.call("ACL", "SETUSER", "eve", "-set")
        for eve in eves:
            wait_until(lambda eve=eve: b"NOPERM" in _bytes(eve.try_call("SET", "k", "w")), "SET is denied")
            assert eve.call("GET", "k") == b"v"
        admin.call("ACL", "SETUSER", "eve", "resetkeys", "~other")
        for eve in eves:
            wait_until(lambda eve=eve: b"NOPERM" in _bytes(eve.try_call("GET", "k")), "GET is denied")
        eves[2].send("BLPOP", "other", 0)
        assert admin.call("ACL", "DELUSER", "eve") == 1
        for eve in eves:
            wait_until(lambda eve=eve: _closed(eve), "the connection is closed")
            eve.close()


def _bytes(reply: object) -> bytes:
    return reply if isinstance(reply, bytes) else b""


def _closed(client: RespClient) -> bool:
    try:
        client.try_call("PING")
    except OSError:
        return True
    return False


def test_a_password_for_all_nodes_and_no_longer(three: ZattCluster) -> None:
    with three.client(0) as admin:
        assert admin.call("CONFIG", "SET", "requirepass", SECRET) == b"OK"
        for i in range(3):
            wait_until(lambda i=i: b"NOAUTH" in _bytes(three.client(i).try_call("PING")), "a password is wanted")
            with three.client(i) as client:
                assert refused(client, "AUTH", "wrong").startswith("-WRONGPASS")
                assert client.call("AUTH", SECRET) == b"OK"
                assert client.call("CONFIG", "GET", "requirepass") == [b"requirepass", b"(hidden)"]
                assert SECRET.encode() not in b"".join(_flat(client.call("CONFIG", "GET", "*")))
        assert admin.call("CONFIG", "SET", "requirepass", "") == b"OK"
        for i in range(3):
            wait_until(lambda i=i: three.client(i).try_call("PING") == b"PONG", "none is wanted")


def _flat(reply: object) -> list[bytes]:
    if isinstance(reply, list):
        return [word for part in reply for word in _flat(part)]
    return [reply] if isinstance(reply, bytes) else [str(reply).encode()]


def test_no_password_is_kept_or_shown_anywhere() -> None:
    with ZattCluster(1, flags=["--slowlog-log-slower-than-us", "0", "--log-level", "debug"]) as cluster:
        node = cluster.nodes[0]
        with node.client() as client:
            for words in (
                ("ACL", "SETUSER", "a", "on", f">{SECRET}", f"(>{SECRET})"), ("AUTH", "a", SECRET), ("AUTH", SECRET),
                ("ACL", "SETUSER", "a", "on", f">{SECRET}", "+@all", "~*"), ("HELLO", "2", "AUTH", "nobody", SECRET),
                ("ACL", "SETUSER", "a", f"<{SECRET}", f">{SECRET}"), ("ACL", "SETUSER", "a", f"<no{SECRET}"),
                ("MULTI",), ("ACL", "SETUSER", "a", f">more{SECRET}"), ("AUTH", "a", SECRET), ("EXEC",),
                ("CONFIG", "SET", "requirepass", SECRET), ("CONFIG", "SET", "requirepass", SECRET, "nosuch", "x"),
                ("CONFIG", "SET", "maxclients", "99", "requirepass", SECRET), ("AUTH", SECRET),
                ("MIGRATE", "h", "1", "k", "0", "1", "AUTH", SECRET),
            ):  # fmt: skip
                client.try_call(*words)
            shown = [client.call(*words) for words in (
                ("SLOWLOG", "GET", "-1"), ("ACL", "LIST"), ("ACL", "GETUSER", "a"), ("ACL", "LOG"),
                ("INFO", "everything"), ("CONFIG", "GET", "*"), ("CLIENT", "LIST"), ("RAFT", "LOG", "1", "100"),
            )]  # fmt: skip
            assert SECRET.encode() not in b"\n".join(_flat(shown))
            slow = [entry[3] for entry in shown[0]]
            assert [b"ACL", b"SETUSER", *[b"(redacted)"] * 5] in slow
            assert [b"CONFIG", b"SET", b"requirepass", b"(redacted)"] in slow
            assert [b"AUTH", b"(redacted)", b"(redacted)"] in slow
        assert cluster.kill(0, 15) == 0
        assert SECRET not in node.log()
        for path in node.data_directory.rglob("*"):
            if path.is_file():
                assert SECRET.encode() not in path.read_bytes(), path
        assert node.data_directory.stat().st_mode & 0o777 == 0o700


def test_settings_count_until_something_is_agreed_and_then_no_more(tmp_path: Path) -> None:
    flags = ["--requirepass", "first", "--users", "ops on >opspw +@all ~*; user app on >apppw ~app:* +@read"]
    with ZattCluster(3, flags=flags, in_memory=True, start=False) as cluster:
        for node in cluster.nodes:
            cluster.spawn(node)
        for i in range(3):
            wait_until(lambda i=i: _greets(cluster, i), "the node answers")
            with cluster.client(i) as client:
                assert refused(client, "PING").startswith("-NOAUTH")
                assert refused(client, "AUTH", "second").startswith("-WRONGPASS")
                assert client.call("AUTH", "app", "apppw") == b"OK"
                assert refused(client, "GET", "x").startswith("-NOPERM")
                assert client.call("AUTH", "ops", "opspw") == b"OK"
        with cluster.client(1) as client:
            client.call("AUTH", "first")
            before = lines(client)
            assert len(before) == 3
            client.call("ACL", "SETUSER", "app", "+@write")  # the first change brings along what the settings said
            assert [line for line in lines(client) if b" app " not in line] == [
                line for line in before if b" app " not in line
            ]
            agreed = lines(client)
            client.call("ACL", "DELUSER", "ops")
            client.call("CONFIG", "SET", "requirepass", "second")
        for i in range(3):
            with cluster.client(i) as client:
                assert client.call("AUTH", "second") == b"OK"
                assert refused(client, "AUTH", "first").startswith("-WRONGPASS")
                assert refused(client, "AUTH", "ops", "opspw").startswith("-WRONGPASS")
                assert client.call("AUTH", "app", "apppw") == b"OK"
                assert len(agreed) == 3
        for i in range(3):
            assert cluster.kill(i) != 0
        for node in cluster.nodes:
            cluster.spawn(node)
        for i in range(3):
            wait_until(lambda i=i: _comes_in(cluster, i, "second"), "the agreed password counts after a restart")
            with cluster.client(i) as client:
                assert refused(client, "AUTH", "first").startswith("-WRONGPASS")
                assert refused(client, "AUTH", "ops", "opspw").startswith("-WRONGPASS")


def _greets(cluster: ZattCluster, i: int) -> bool:
    try:
        with cluster.client(i) as client:
            return isinstance(client.try_call("PING"), bytes)
    except OSError:
        return False


def _comes_in(cluster: ZattCluster, i: int, password: str) -> bool:
    try:
        with cluster.client(i) as client:
            return bool(client.try_call("AUTH", password) == b"OK")
    except OSError:
        return False


def test_a_node_that_is_behind_gets_users_with_a_snapshot() -> None:
    flags = ["--log-compaction-entries", "100", "--log-retain-for-followers-bytes", "0"]
    with ZattCluster(3, flags=flags, in_memory=True) as cluster:
        leader = cluster.wait_leader()
        away = next(i for i in range(3) if i != leader)
        with cluster.client(leader) as admin:
            admin.call("ACL", "SETUSER", "gone", "on", "nopass", "+@all")
            cluster.kill(away)
            admin.call("ACL", "SETUSER", "kept", "on", ">pw", "+get", "~k*", "(+set %W~w*)")
            admin.call("ACL", "DELUSER", "gone")
            for number in range(600):
                admin.call("SET", f"k{number % 7}", str(number))
            admin.call("SAVE")
            shown = lines(admin)
        cluster.restart(away)
        with cluster.client(away) as client:
            assert lines(client) == shown
            assert client.call("AUTH", "kept", "pw") == b"OK"
            assert client.call("GET", "k0") == b"595"
            assert refused(client, "GET", "w1").startswith("-NOPERM")
            assert client.call("SET", "w1", "x") == b"OK"
            assert refused(client, "AUTH", "gone", "x").startswith("-WRONGPASS")
        assert cluster.wait_equal()
        assert int(cluster.nodes[away].facts()["raft_snapshot_index"]) > 500


def test_without_a_quorum_a_node_says_so_and_does_not_wait_long() -> None:
    with ZattCluster(3, in_memory=True) as cluster:
        with cluster.client(0) as client:
            client.call("ACL", "SETUSER", "a", "on", ">pw", "+@all", "~*")
        cluster.wait_equal()
        with cluster.client(0) as client:
            client.call("CONFIG", "SET", "request-timeout-ms", "500")
            cluster.kill(1)
            cluster.kill(2)
            for words in (("ACL", "LIST"), ("ACL", "SETUSER", "b"), ("CONFIG", "SET", "requirepass", "x")):
                reply = refused(client, *words)
                assert reply.startswith(("-CLUSTERDOWN", "-TIMEOUT")), (words, reply)
            assert client.call("ACL", "WHOAMI") == b"default"
            assert client.call("AUTH", "a", "pw") == b"OK"  # who is known may come in, and look at this node
            assert refused(client, "AUTH", "a", "wrong").startswith("-WRONGPASS")
            assert isinstance(client.call("INFO", "raft"), bytes)


def test_wrong_settings_are_refused_in_one_line(tmp_path: Path) -> None:
    bad = tmp_path / "users.acl"
    bad.write_text("user alice on >hidden-password foo\n")
    for flags, wanted in (
        (["--users", "alice on >hidden-password +nosuch"], "user alice: Unknown command or category name in ACL"),
        (["--aclfile", str(bad)], "users.acl:1: Syntax error"),
    ):
        with ZattCluster(1, flags=flags, start=False) as cluster:
            node = cluster.nodes[0]
            cluster.spawn(node)
            assert node.process is not None
            assert node.process.wait(30) != 0
            said = node.log().strip()
            assert wanted in said and len(said.splitlines()) == 1 and "hidden-password" not in said, said


def test_every_error_of_a_denied_user_is_an_error_of_the_client_library(three: ZattCluster) -> None:
    with three.client(0) as admin, three.client(1) as client:
        admin.call("ACL", "SETUSER", "r", "on", "nopass", "+get", "~*")
        client.call("AUTH", "r", "x")
        with pytest.raises(hiredis.ReplyError, match="NOPERM"):
            client.call("SET", "a", "b")
        admin.call("ACL", "DELUSER", "r")
