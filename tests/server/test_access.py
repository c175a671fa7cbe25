"""Who may come in: users of the settings, strangers, protected mode, HTTP, bounds before authentication."""

from __future__ import annotations

import contextlib
import os
import resource
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog
from structlog.testing import capture_logs

from tests.support.cluster import Node, ZattCluster, wait_until
from tests.support.local_server import LocalClient, LocalServer
from tests.support.resp_client import RespClient, encode_command
from zattredis.config import make_settings
from zattredis.errors import ConfigError
from zattredis.keyspace.users import DEFAULT_USER
from zattredis.server import strangers
from zattredis.server.access import Access
from zattredis.server.acl_log import OBJECT_BYTES_MAX, AclLog
from zattredis.server.runtime_settings import RuntimeSettings
from zattredis.server.slowlog import redacted
from zattredis.server.strangers import LINES_A_MINUTE, SparingLog, is_local, speaks_http


def access(**settings: Any) -> Access:
    return Access(RuntimeSettings(make_settings(**settings)))


@pytest.mark.parametrize(("settings", "wanted"), [
    ({"users": ["alice on >hidden +nosuch"]}, "user alice: Unknown command or category name in ACL"),
    ({"users": ["alice on >hidden (+get"]}, "user alice: Unmatched parenthesis"),
    ({"users": ["alice on >hidden ~* ~a"]}, "user alice: Adding a pattern after"),
    ({"users": ["alice on", "user alice off"]}, "Duplicate user 'alice' found"),
    ({"aclfile": "/nonexistent/users.acl"}, "No such file or directory"),
])  # fmt: skip
def test_wrong_users_in_settings_are_told_without_their_passwords(settings: dict[str, Any], wanted: str) -> None:
    with pytest.raises(ConfigError) as error:
        access(**settings).own_users()
    assert wanted in str(error.value) and "hidden" not in str(error.value) and "\n" not in str(error.value)


def test_users_and_a_file_of_users_exclude_each_other() -> None:
    with pytest.raises(ConfigError, match="keep one of them"):
        make_settings(users=["alice on"], aclfile="x")


def test_users_may_be_written_as_a_list_or_with_semicolons() -> None:
    for users in (["alice on nopass", "user bob off"], "alice on nopass; user bob off;"):
        found = access(users=users)
        assert [user.name for user in found.users()] == [b"alice", b"bob", b"default"]
        assert found.authenticate(b"alice", b"anything") and not found.authenticate(b"bob", b"")


def test_passwords(tmp_path: Path) -> None:
    found = access(requirepass="pä", users=["alice on >one >two", "none on"])
    assert found.password_required
    assert found.authenticate(DEFAULT_USER, "pä".encode()) and not found.authenticate(DEFAULT_USER, b"p")
    assert found.authenticate(b"alice", b"one") and found.authenticate(b"alice", b"two")
    for user, password in ((b"alice", b"three"), (b"alice", b""), (b"none", b""), (b"nobody", b""), (b"", b"")):
        assert not found.authenticate(user, password)
    (tmp_path / "f").write_text("user default on >filed ~* &* +@all\n")
    filed = access(requirepass="x", aclfile=str(tmp_path / "f"))
    assert filed.authenticate(DEFAULT_USER, b"filed") and not filed.authenticate(DEFAULT_USER, b"x")


def test_nobody_is_let_in_by_the_digest() -> None:
    found = access(requirepass="secret")
    (digest,) = found.default.passwords
    assert not found.authenticate(DEFAULT_USER, digest)


def test_who_may_do_everything_is_never_asked() -> None:
    server = LocalServer(users=["all on nopass +@all ~* &*", "most on nopass +@all -debug ~* &*"])
    client = LocalClient(server)
    assert client.state.permissions is None and not client.state.checked
    client.call("AUTH all x")
    assert client.state.permissions is None and not client.state.checked
    client.call("AUTH most x")
    assert client.state.permissions is not None and client.state.checked
    client.call("RESET")
    assert client.state.permissions is None and client.state.user == DEFAULT_USER


def test_the_log_of_denials_is_bounded() -> None:
    log = AclLog(max_len=3)
    for number in range(10):
        log.add(1, b"%d" % number, b"u" * 10_000, False, "", 0)
    assert [entry[b"object"] for entry in log.shown(10, 0)] == [b"9", b"8", b"7"]
    log.add(2, b"k" * 100_000, b"u", True, "", 61_000)
    log.add(2, b"k" * 100_000, b"u", True, "", 61_000)
    newest = log.shown(1, 61_500)[0]
    assert newest[b"count"] == 2 and newest[b"age-seconds"] == 0.5 and newest[b"context"] == b"multi"
    assert len(newest[b"object"]) < OBJECT_BYTES_MAX + 40
    log.add(1, b"9", b"u" * 10_000, False, "", 61_000)  # the same as before, but more than a minute later
    assert [entry[b"count"] for entry in log.shown(2, 0)] == [1, 2]
    log.resize(0)
    assert log.shown(9, 0) == []


@pytest.mark.parametrize(("line", "shown"), [
    ("AUTH p", "AUTH (redacted)"), ("auth u p", "auth (redacted) (redacted)"), ("AUTH", "AUTH"),
    ("HELLO 3 AUTH u p SETNAME n", "HELLO 3 AUTH (redacted) (redacted) SETNAME n"),
    ("HELLO 3 auth u", "HELLO 3 auth (redacted)"), ("acl setuser", "acl setuser"),
    ("ACL SETUSER u >p on", "ACL SETUSER (redacted) (redacted) (redacted)"),
    ("ACL DRYRUN u auth u p", "ACL DRYRUN u auth (redacted) (redacted)"), ("ACL DRYRUN u", "ACL DRYRUN u"),
    ("ACL GETUSER u", "ACL GETUSER u"), ("ACL DELUSER base=x u", "ACL DELUSER u"), ("ACL", "ACL"),
    ("CONFIG SET requirepass p", "CONFIG SET requirepass (redacted)"),
    ("CONFIG GET requirepass", "CONFIG GET requirepass"), ("CONFIG SET requirepass", "CONFIG SET requirepass"),
    ("config set timeout 1 RequirePass p", "config set timeout 1 RequirePass (redacted)"),
    ("MIGRATE h 1 k 0 9 COPY AUTH p", "MIGRATE h 1 k 0 9 COPY AUTH (redacted)"),
    ("MIGRATE h 1 k 0 9 AUTH2 u p KEYS k", "MIGRATE h 1 k 0 9 AUTH2 (redacted) (redacted) KEYS k"),
    ("SET requirepass p", "SET requirepass p"),
])  # fmt: skip
def test_slow_commands_are_remembered_without_secrets(line: str, shown: str) -> None:
    assert list(redacted(line.encode().split())) == shown.encode().split()


# -- strangers ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("peer", "local"), [
    (("127.0.0.1", 1), True), (("127.8.9.1", 1), True), (("::1", 1, 0, 0), True), (("::ffff:127.0.0.1", 1, 0, 0), True),
    ("", True), ("/tmp/socket", True), (None, True), (("10.0.0.1", 1), False), (("192.168.0.1", 1), False),
    (("::ffff:10.0.0.1", 1, 0, 0), False), (("fe80::1%eth0", 1, 0, 2), False), (("8.8.8.8", 1), False),
    (("somewhere", 1), False),
])  # fmt: skip
def test_who_is_on_this_machine(peer: Any, local: bool) -> None:
    assert is_local(peer) is local


@pytest.mark.parametrize(("line", "http"), [
    ("POST / HTTP/1.1", True), ("post", True), ("Host: localhost:6379", True), ("GET / HTTP/1.1", True),
    ("OPTIONS * HTTP/1.1", True), ("GET a b", False), ("PING", False), ("SET POST HTTP/1.1 x", False),
])  # fmt: skip
def test_what_is_http(line: str, http: bool) -> None:
    assert speaks_http(line.encode().split()) is http


@pytest.fixture(scope="module")
def node() -> Iterator[Node]:
    """One that wants a password."""
    with ZattCluster(1, in_memory=True) as cluster:
        with cluster.client() as client:
            client.call("CONFIG", "SET", "requirepass", "right")
        yield cluster.nodes[0]


def answer(node: Node, data: bytes, host: str = "127.0.0.1") -> bytes:
    """Everything that comes back until the server closes."""
    with socket.create_connection((host, node.port), timeout=30) as sock:
        sock.sendall(data)
        received = b""
        while True:
            try:
                part = sock.recv(1 << 16)
            except ConnectionResetError:
                return received
            if not part:
                return received
            received += part


@pytest.mark.parametrize("request_", [
    b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 20\r\n\r\nFLUSHALL\r\nPING\r\n",
    b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\nAUTH right\r\nFLUSHALL\r\n",
    b"PUT /x HTTP/1.0\r\n\r\n",
    b"Host: localhost\r\nAUTH right\r\n",
])  # fmt: skip
def test_http_is_cut_off_without_a_word(node: Node, request_: bytes) -> None:
    assert answer(node, request_) == b""
    wait_until(lambda: "http_refused" in node.log(), "the log says so")


def test_http_is_cut_off_behind_a_password_too(node: Node) -> None:
    data = encode_command(["AUTH", "right"]) + b"GET / HTTP/1.1\r\nHost: x\r\nSET http 1\r\n"
    assert answer(node, data) in (b"", b"+OK\r\n")
    with node.client() as client:
        client.call("AUTH", "right")
        assert client.call("EXISTS", "http") == 0


def _memory(node: Node) -> int:
    pages = int(Path(f"/proc/{node.pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def test_a_stranger_gets_nothing(node: Node) -> None:
    with node.client() as client:
        for words in (
            ["PING"], ["GET", "a"], ["SET", "a", "b"], ["INFO"], ["ACL", "WHOAMI"], ["ACL", "LIST"],
            ["CONFIG", "GET", "*"], ["RAFT", "STATUS"], ["RAFT", "REMOVE", "n1"], ["SHUTDOWN"], ["MULTI"], ["EXEC"],
            ["COMMAND"], ["CLIENT", "LIST"], ["DEBUG", "SLEEP", "9"], ["SELECT", "1"],
            ["HELLO"], ["HELLO", "3"], ["SLOWLOG", "GET"], ["WATCH", "a"],
        ):  # fmt: skip
            reply = client.try_call(*words)
            assert isinstance(reply, bytes) and reply.startswith((b"-NOAUTH", b"-EXECABORT")), (words, reply)
        for words in (["AUTH", "wrong"], ["AUTH", "nobody", "right"], ["HELLO", "2", "AUTH", "default", "x"]):
            assert client.try_call(*words).startswith(b"-WRONGPASS")
        assert client.try_call("PING").startswith(b"-NOAUTH")


def test_strangers_take_no_memory(node: Node) -> None:
    """Two hundred that send as much as they may and read nothing: each is closed, or holds a few kilobytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 4096)), hard))
    floods = (
        b"*10\r\n" + b"$16384\r\n" + b"x" * 16_000,  # one that is never finished
        encode_command(["AUTH", "x" * 16_000, "y" * 16_000]) * 8,  # many that are
        b"PING\r\n" * 3_000,  # replies that nobody reads
        b"*1000000\r\n", b"*1\r\n$500000000\r\n", b"x" * 60_000, b"x" * 100_000, b"*10\r\n" * 10,
    )  # fmt: skip
    with node.client() as client:
        client.call("AUTH", "right")
        client.call("PING")
        before = _memory(node)
        strangers = []
        for number in range(200):
            sock = socket.create_connection(("127.0.0.1", node.port), timeout=30)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            sock.setblocking(False)
            data = floods[number % len(floods)]
            for _ in range(4):
                try:
                    sock.send(data)
                except OSError:
                    break
            strangers.append(sock)
        assert client.call("PING") == b"PONG"
        assert _memory(node) - before < 32 << 20
        for sock in strangers:
            sock.close()
        wait_until(lambda: client.info("clients")["connected_clients"] == "1", "all strangers are gone")


def test_what_strangers_have_begun_is_bounded_all_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(strangers, "HELD_BYTES_MAX", 100)
    held = strangers.HeldBytes()

    class Some:
        def __init__(self, size: int) -> None:
            self.held_bytes = size
            self.closed = ""

        def close(self, reason: str) -> None:
            self.closed, self.held_bytes = reason, 0

    first, second, third, fourth = Some(40), Some(40), Some(40), Some(40)
    held.note(first)
    held.note(second)
    held.note(first)  # which goes on
    held.note(third)
    assert (bool(first.closed), bool(second.closed), bool(third.closed)) == (False, True, False)
    first.held_bytes = 0  # its request is complete
    held.note(fourth)
    assert not (first.closed or third.closed or fourth.closed)
    held.forget(third)
    held.note(Some(50))
    assert not (third.closed or fourth.closed)
    large = Some(200)
    held.note(large)
    assert fourth.closed and large.closed


def test_thousands_of_strangers_take_no_more_memory_together(node: Node) -> None:
    """Far more than each may send, times a thousand: the oldest go, and who has the password notices nothing."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 4096)), hard))
    begun = b"*10\r\n" + (b"$16384\r\n" + b"x" * 16384 + b"\r\n") * 9
    with node.client() as client:
        client.call("AUTH", "right")
        client.call("PING")
        before = _memory(node)
        received = int(client.info("stats")["total_net_input_bytes"])
        sockets = []
        for _ in range(600):
            sock = socket.create_connection(("127.0.0.1", node.port), timeout=30)
            with contextlib.suppress(OSError):
                sock.sendall(begun)
            sockets.append(sock)
        wait_until(
            lambda: int(client.info("stats")["total_net_input_bytes"]) - received >= 600 * len(begun), "all is read"
        )
        assert 1 < int(client.info("clients")["connected_clients"]) < 300
        assert _memory(node) - before < 64 << 20  # 88 MB were sent
        for sock in sockets:
            sock.close()
        wait_until(lambda: client.info("clients")["connected_clients"] == "1", "all strangers are gone")


def test_what_came_with_the_password_is_kept_though_it_was_too_large_before(node: Node) -> None:
    large = encode_command(["SET", "large", "x" * 100_000])
    with node.client() as client:
        client.socket.sendall(encode_command(["AUTH", "right"]) + large)
        assert (client.read(), client.read()) == (b"OK", b"OK")
    with node.client() as client:
        client.socket.sendall(encode_command(["AUTH", "wrong"]) + large)
        assert str(client.read()).startswith("WRONGPASS")
        assert "unauthenticated" in str(client.read())
        with pytest.raises(ConnectionError):
            client.read()


def own_address() -> str:
    """An address of this machine that is not loopback's, or ''. Nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        try:
            sock.connect(("192.0.2.1", 9))
        except OSError:
            return ""
        address = str(sock.getsockname()[0])
    return "" if address.startswith("127.") else address


def test_what_clients_do_wrong_does_not_fill_the_log(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("zattredis.server.strangers.monotonic", lambda: now)
    with capture_logs() as told:
        log = SparingLog(structlog.get_logger())
        for number in range(1000):
            log.warning("http_refused", client=number)
        log.info("client_closed", client=1)
        now += 61.0
        log.warning("http_refused", client=1001)
        log.warning("http_refused", client=1002)
    assert [event["client"] for event in told[:LINES_A_MINUTE]] == list(range(LINES_A_MINUTE))
    assert [event["event"] for event in told[LINES_A_MINUTE:]] == ["client_closed", "http_refused", "http_refused"]
    assert told[-2]["left_out"] == 1000 - LINES_A_MINUTE and "left_out" not in told[-1]


def test_protected_mode() -> None:
    outside = own_address()
    if not outside:
        pytest.skip("needs an address other than loopback")
    with ZattCluster(1, flags=["--bind", "0.0.0.0"], in_memory=True) as cluster:
        node = cluster.nodes[0]
        said = answer(node, b"PING\r\n", outside)
        assert said.startswith(b"-DENIED Redis is running in protected mode because") and said.endswith(b"outside.\r\n")
        with node.client() as client:
            assert client.call("CONFIG", "GET", "protected-mode") == [b"protected-mode", b"yes"]
            client.call("CONFIG", "SET", "requirepass", "pw")
            with RespClient(node.port, outside) as other:
                assert other.try_call("PING").startswith(b"-NOAUTH")
                assert other.call("AUTH", "pw") == b"OK"
            client.call("CONFIG", "SET", "requirepass", "")
            assert answer(node, b"PING\r\n", outside).startswith(b"-DENIED")
            client.call("CONFIG", "SET", "protected-mode", "no")
            with RespClient(node.port, outside) as other:
                assert other.call("PING") == b"PONG"
