"""A lost password, and a file of users that is read again: by whom the machine itself trusts, and by nobody else."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.cluster import ZattCluster, wait_until
from tests.support.zattctl import zattctl
from zattredis.server.password_reset import REQUEST


@pytest.fixture(scope="module")
def locked() -> Iterator[ZattCluster]:
    """Three nodes whose `default` may do nothing, and one user more; nobody knows a password of somebody who may."""
    with ZattCluster(3, in_memory=True) as cluster:
        with cluster.client() as client:
            client.call("SET", "k", "v")
            client.call("ACL", "SETUSER", "reader", "on", ">word", "~k", "+get")
            client.call("ACL", "SETUSER", "default", "off", "resetpass", ">nobody knows", "-@all")
        for i in range(3):  # a follower may hear of it a moment later, and lets whoever connects before that in
            wait_until(lambda i=i: keeps_out(cluster, i), "a node keeps strangers out")  # type: ignore[misc]
        yield cluster


def keeps_out(cluster: ZattCluster, i: int) -> bool:
    with cluster.client(i) as client:
        return client.try_call("GET", "k").startswith(b"-NOAUTH")


def comes_in(cluster: ZattCluster, i: int, password: str) -> bool:
    with cluster.client(i) as client:
        return client.try_call("AUTH", password) == b"OK" and client.try_call("DBSIZE") == 1


def test_a_lost_password_is_replaced_through_the_log_by_who_may_write_into_a_data_directory(
    locked: ZattCluster,
) -> None:
    with locked.client(1) as before:
        assert before.try_call("GET", "k").startswith(b"-NOAUTH")
        node = locked.nodes[2]
        password = zattctl("reset-password", node.data_directory, "--generate", "--wait", 60).split()[0]
        assert len(password) == 64
        assert not (node.data_directory / REQUEST).exists()
        for i in range(3):
            wait_until(lambda i=i: comes_in(locked, i, password), "the new password counts")  # type: ignore[misc]
            assert not comes_in(locked, i, "nobody knows")
        assert before.try_call("GET", "k").startswith(b"-NOAUTH")  # nobody is let in by it
    with locked.client(2) as client:
        assert client.call("AUTH", "reader", "word") == b"OK"  # the others are as they were
        assert client.call("GET", "k") == b"v"
    assert '"password_reset"' in node.log()
    for one in locked.nodes:
        assert password not in one.log()


def test_a_node_that_does_not_run_does_it_at_its_start(locked: ZattCluster) -> None:
    node = locked.nodes[1]
    locked.kill(1)
    assert zattctl("reset-password", node.data_directory, given="a new one\n") == ""
    assert (node.data_directory / REQUEST).stat().st_mode & 0o777 == 0o600
    assert b"a new one" not in (node.data_directory / REQUEST).read_bytes()
    locked.spawn(node)
    for i in range(3):
        wait_until(lambda i=i: comes_in(locked, i, "a new one"), "the new password counts")  # type: ignore[misc]


def test_what_is_no_request_is_refused(locked: ZattCluster, tmp_path: Path) -> None:
    assert "is not the data directory of a node" in zattctl("reset-password", tmp_path, given="x\n", code=2)
    node = locked.nodes[0]
    assert "the password is empty" in zattctl("reset-password", node.data_directory, given="\n", code=2)
    (node.data_directory / REQUEST).write_text("nopass")
    wait_until(lambda: not (node.data_directory / REQUEST).exists(), "the node has looked at it")
    assert '"password_not_reset"' in node.log()
    with locked.client() as client:
        assert client.try_call("GET", "k").startswith(b"-NOAUTH")


def test_sighup_reads_the_acl_file_again_until_the_cluster_agrees_on_users(tmp_path: Path) -> None:
    users = tmp_path / "users.acl"
    users.write_text("user default on nopass ~* &* +@all\nuser one on >first ~* +get\n")
    with ZattCluster(1, flags=["--aclfile", str(users)], in_memory=True) as cluster:
        node = cluster.nodes[0]

        def hang_up(times: int) -> None:
            assert node.process is not None
            node.process.send_signal(signal.SIGHUP)
            wait_until(lambda: node.log().count('"what":"aclfile"') >= times, "it has read the file")

        with cluster.client() as client, cluster.client() as other:
            assert other.call("AUTH", "one", "first") == b"OK"
            users.write_text("user default on nopass ~* &* +@all\nuser two on >second ~* +get\n")
            hang_up(1)
            assert client.call("ACL", "USERS") == [b"default", b"two"]
            with pytest.raises(OSError):  # whose user is gone, is gone
                other.call("GET", "k")
            users.write_text("user default on nopass ~* +@all\nuser three on gibberish\n")
            hang_up(2)
            assert '"not_reloaded"' in node.log()
            assert client.call("ACL", "USERS") == [b"default", b"two"]
            client.call("ACL", "SETUSER", "four", "on")
            users.write_text("user default on nopass ~* &* +@all\n")
            hang_up(3)
            assert "this node's file counts no more; ACL LOAD" in node.log()
            assert client.call("ACL", "USERS") == [b"default", b"four", b"two"]
            assert client.call("ACL", "LOAD") == b"OK"
            assert client.call("ACL", "USERS") == [b"default"]
