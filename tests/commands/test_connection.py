"""AUTH, HELLO, PING, ECHO, SELECT, QUIT, RESET, READONLY against redis-server 7.0, and what it cannot be asked."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from tests.support.differential import Connection
from tests.support.local_server import LocalClient, LocalServer, compare_lines
from tests.support.redis_server import RedisServer
from zattredis.errors import ReplyError

WITHOUT_PASSWORD = [
    "PING", "PING x", "PING a b", "ping", "PiNg", "ECHO", "ECHO x", "ECHO a b", ("ECHO", ""), ("ECHO", b"\r\n\0\xff"),
    "SELECT", "SELECT 0", "SELECT 15", "SELECT 16", "SELECT -1", "SELECT a", "SELECT 01", "SELECT +1", "SELECT ''",
    "SELECT 99999999999", "SELECT 2147483648", "SELECT -2147483648", "SELECT 99999999999999999999", "SELECT 1 2",
    "AUTH", "AUTH foo", "AUTH default foo", "AUTH foo bar", "AUTH a b c",
    "HELLO 4", "HELLO 1", "HELLO foo", "HELLO 3.0", "HELLO 99999999999999999999", "HELLO AUTH default x",
    "HELLO 3 AUTH default", "HELLO 3 AUTH foo x", "HELLO 3 AUTH", "HELLO 3 SETNAME", ("HELLO", "3", "SETNAME", "a b"),
    "HELLO 3 FOO", "HELLO 2 setname xx", "CLIENT GETNAME", "HELLO 3 SETNAME n1 AUTH foo bar", "CLIENT GETNAME",
    "HELLO 2 SETNAME '' AUTH default whatever", "CLIENT GETNAME", "HELLO", "HELLO 3", "HELLO", "HELLO 2",
    ("FOO\r\nbar", b"a\0b\r\n", "b" * 200, "c"), ("f" * 200, "c" * 60, "d" * 60, "e" * 60, "f"), ("", "x"),
    (b"\xff\xfe",),
    "RESET x", "RESET",
]  # fmt: skip

WITH_PASSWORD = [
    "PING", "FOO", "GET", "SELECT 1", "CLIENT SETNAME x", "COMMAND COUNT", "RESET", "HELLO", "HELLO 3", "HELLO 4",
    "HELLO 3 SETNAME x", "HELLO 3 AUTH default bad", "HELLO 2 AUTH other secret", "AUTH bad", "AUTH default bad",
    "AUTH other secret", "AUTH ''", "PING", "AUTH secret", "PING", "AUTH bad", "PING", "ACL WHOAMI", "RESET", "PING",
    "HELLO 3 AUTH default secret SETNAME n", "CLIENT GETNAME", "PING", "RESET", "PING", "AUTH default secret", "PING",
]  # fmt: skip


def hide_id(_argv: list[bytes], reply: bytes) -> bytes:
    """A normalizer for HELLO: the connection's id is another on every server."""
    return re.sub(rb"(\$2\r\nid\r\n:)\d+", rb"\1N", reply)


@pytest.fixture(scope="module")
def guarded_server(redis_server: RedisServer) -> Iterator[RedisServer]:
    with RedisServer() as server:
        first = Connection(server.port)
        first.execute([b"CONFIG", b"SET", b"requirepass", b"secret"])
        first.close()
        yield server


@pytest.mark.parametrize("resp", [2, 3])
def test_without_a_password(real: Connection, resp: int) -> None:
    ours = LocalClient()
    for backend in (ours, real):
        backend.use(resp)
    compare_lines(ours, real, WITHOUT_PASSWORD, hide_id)


def test_with_a_password(guarded_server: RedisServer) -> None:
    real = Connection(guarded_server.port)
    compare_lines(LocalClient(LocalServer(requirepass="secret")), real, WITH_PASSWORD, hide_id)
    real.close()


def test_reset_puts_back_what_the_client_changed(real: Connection) -> None:
    ours = LocalClient()
    lines = [
        "HELLO 3",
        "SELECT 3",
        "CLIENT SETNAME foo",
        "CLIENT NO-EVICT ON",
        "MULTI",
        "RESET",
        "CLIENT GETNAME",
        "PING",
    ]
    compare_lines(ours, real, lines, hide_id)
    assert (ours.state.db, ours.state.resp, ours.state.in_multi, ours.state.no_evict) == (0, 2, False, True)
    assert b"flags=e db=0" in real.execute([b"CLIENT", b"INFO"])
    assert "flags=e db=0" in ours.state.line(0)


def test_quit_closes_after_its_reply() -> None:
    client = LocalClient()
    assert client.call("QUIT anything goes") == "OK"
    assert client.state.close_after_reply


def test_readonly_is_for_this_connection_until_readwrite_or_reset() -> None:
    client, other = LocalClient(), LocalClient()
    client.call("READONLY")
    assert client.state.readonly
    assert not other.state.readonly
    client.call("READWRITE")
    assert not client.state.readonly
    client.call("READONLY")
    client.call("RESET")
    assert not client.state.readonly


def test_a_password_set_at_run_time_is_for_new_connections() -> None:
    server = LocalServer()
    before = LocalClient(server)
    before.call("CONFIG SET requirepass secret")
    assert before.call("PING") == "PONG"
    after = LocalClient(server)
    with pytest.raises(ReplyError, match="NOAUTH"):
        after.call("PING")
    assert after.call("AUTH secret") == "OK"
    assert after.call("PING") == "PONG"
