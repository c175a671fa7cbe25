"""CLIENT against redis-server 7.0, and what needs more than one connection."""

from __future__ import annotations

import re
import socket

import pytest

from tests.support.differential import Connection
from tests.support.local_server import START_US, LocalClient, LocalServer, compare_lines
from tests.support.redis_server import RedisServer
from tests.support.resp_client import encode_command
from zattredis.commands.context import PauseMode
from zattredis.errors import ReplyError
from zattredis.resp.replies import ReplySet

LINES = [
    "CLIENT", "CLIENT FOO", ("CLIENT", "f" * 200), ("CLIENT", b"a\0b\r\nx"), "CLIENT ID x", "CLIENT INFO x",
    "CLIENT GETNAME", "CLIENT SETNAME", "CLIENT SETNAME a b", ("CLIENT", "SETNAME", "a b"),
    ("CLIENT", "SETNAME", "a\n"), ("CLIENT", "SETNAME", b"\xc3\xa9"), ("CLIENT", "SETNAME", b"\x7f"),
    "CLIENT SETNAME !~", "CLIENT GETNAME", "CLIENT SETNAME ''", "CLIENT GETNAME", "CLIENT GETNAME x",
    "CLIENT LIST FOO", "CLIENT LIST TYPE", "CLIENT LIST TYPE foo", "CLIENT LIST TYPE normal x",
    "CLIENT LIST TYPE slave", "CLIENT LIST TYPE REPLICA", "CLIENT LIST TYPE master", "CLIENT LIST TYPE pubsub",
    "CLIENT LIST ID", "CLIENT LIST ID a", "CLIENT LIST ID 123456789", "CLIENT LIST ID -1 0",
    "CLIENT LIST ID 123456789 b", "CLIENT KILL", "CLIENT KILL 1.1.1.1:1", "CLIENT KILL ID", "CLIENT KILL ID a",
    "CLIENT KILL ID 0", "CLIENT KILL ID -5", "CLIENT KILL ID 123456789", "CLIENT KILL TYPE foo",
    "CLIENT KILL TYPE slave", "CLIENT KILL TYPE master", "CLIENT KILL USER foo", "CLIENT KILL SKIPME foo",
    "CLIENT KILL ADDR a:1", "CLIENT KILL LADDR a:1 ADDR b:2", "CLIENT KILL FOO 1", "CLIENT KILL ID 1 TYPE",
    "CLIENT KILL ID 123456789 TYPE normal", "CLIENT KILL TYPE normal ID", "CLIENT KILL SKIPME yes TYPE pubsub",
    "CLIENT KILL SKIPME foo ID a", "CLIENT PAUSE", "CLIENT PAUSE a", "CLIENT PAUSE -1", "CLIENT PAUSE 1 foo",
    "CLIENT PAUSE a foo", "CLIENT PAUSE 1 write x", "CLIENT PAUSE 0 write", "CLIENT PAUSE 0 ALL",
    "CLIENT PAUSE 99999999999999999999", "CLIENT PAUSE 1.5", "CLIENT UNPAUSE", "CLIENT UNPAUSE x", "CLIENT REPLY",
    "CLIENT REPLY FOO", "CLIENT REPLY ON", "CLIENT REPLY on x", "CLIENT NO-EVICT", "CLIENT NO-EVICT FOO",
    "CLIENT NO-EVICT on", "CLIENT NO-EVICT OFF", "CLIENT UNBLOCK", "CLIENT UNBLOCK a", "CLIENT UNBLOCK 1 foo",
    "CLIENT UNBLOCK a foo", "CLIENT UNBLOCK 1 error x", "CLIENT UNBLOCK 123456789", "CLIENT UNBLOCK 123456789 ERROR",
    "CLIENT UNBLOCK 123456789 timeout", "CLIENT TRACKING", "CLIENT TRACKING OFF", "CLIENT TRACKING FOO",
    "CLIENT CACHING", "CLIENT CACHING YES", "CLIENT CACHING FOO", "CLIENT GETREDIR", "CLIENT GETREDIR x",
    "CLIENT TRACKINGINFO", "CLIENT TRACKINGINFO x",
]  # fmt: skip

REPLY_MODES = [
    ["CLIENT REPLY OFF", "PING", "CLIENT REPLY FOO", "FOO", "CLIENT REPLY ON", "PING"],
    ["CLIENT REPLY SKIP", "PING a", "PING b"],
    ["CLIENT REPLY SKIP", "CLIENT REPLY SKIP", "PING a", "PING b"],
    ["CLIENT REPLY SKIP", "CLIENT REPLY ON", "PING a", "PING b"],
    ["CLIENT REPLY OFF", "CLIENT REPLY SKIP", "PING", "CLIENT REPLY ON", "PING a"],
    ["CLIENT REPLY SKIP", "CLIENT REPLY FOO", "PING a"],
    ["CLIENT REPLY SKIP", "FOO", "PING a"],
    ["CLIENT REPLY SKIP", "GET", "PING a"],
    ["CLIENT REPLY SKIP", "CLIENT REPLY OFF", "PING a", "RESET", "PING b"],
    ["CLIENT REPLY OFF", "RESET", "PING b"],
    ["CLIENT REPLY SKIP", "RESET", "PING b"],
]


@pytest.mark.parametrize("resp", [2, 3])
def test_replies_and_errors(real: Connection, resp: int) -> None:
    ours = LocalClient()
    for backend in (ours, real):
        backend.use(resp)
    compare_lines(ours, real, LINES)


@pytest.mark.parametrize("lines", REPLY_MODES, ids=" ; ".join)
def test_reply_modes(redis_server: RedisServer, lines: list[str]) -> None:
    ours = LocalClient()
    got = b"".join(ours.execute([word.encode() for word in line.split()]) for line in lines)
    with socket.create_connection(("127.0.0.1", redis_server.port), timeout=30) as connection:
        connection.sendall(b"".join(encode_command(line.split()) for line in (*lines, "QUIT")))
        expected = b""
        while data := connection.recv(1 << 16):
            expected += data
    assert got == expected.removesuffix(b"+OK\r\n")


def test_list_has_the_fields_of_redis_in_its_order(real: Connection) -> None:
    real.execute([b"CLIENT", b"SETNAME", b"me"])
    theirs = real.execute([b"CLIENT", b"INFO"]).split(b"\r\n")[1].decode()
    client = LocalClient()
    client.call("CLIENT SETNAME me")
    ours = client.call("CLIENT INFO").data.decode()
    assert ours.endswith("\n")
    names = [re.match(r"[a-z-]+", field)[0] for field in theirs.split()]  # type: ignore[index]
    assert [field.partition("=")[0] for field in ours.split()] == [*names, "lib-name", "lib-ver"]
    shown = dict(field.partition("=")[::2] for field in ours.split())
    expected = dict(field.partition("=")[::2] for field in theirs.split())
    for name in ("name", "age", "idle", "flags", "db", "sub", "multi", "user", "redir", "resp", "cmd"):
        assert shown[name] == expected[name], name


def test_line_shows_the_state_of_a_connection() -> None:
    client = LocalClient()
    client.connection.bytes = (10, 20)
    for line in ("SELECT 5", "CLIENT SETINFO LIB-NAME redis-py", "CLIENT SETINFO lib-ver 8.0", "READONLY"):
        client.call(line)
    client.call("CLIENT NO-EVICT ON")
    client.call("CLIENT NO-TOUCH ON")
    client.call("MULTI")
    client.server.now_us += 61_000_000
    line = client.state.line(client.server.now_us // 1000)
    assert line.startswith("id=1 addr=127.0.0.1:40001 laddr=127.0.0.1:6379 fd=8 name= age=61 idle=61 flags=xreT db=5 ")
    assert " multi=0 qbuf=10 " in line
    assert line.endswith(" cmd=multi user=default redir=-1 resp=2 lib-name=redis-py lib-ver=8.0")


@pytest.mark.parametrize(
    ("line", "error"),
    [
        ("CLIENT SETINFO foo bar", "ERR Unrecognized option 'foo'"),
        ("CLIENT SETINFO LIB-NAME \x7f", "ERR LIB-NAME cannot contain spaces, newlines or special characters."),
        ("CLIENT SETINFO LIB-NAME", "ERR wrong number of arguments for 'client|setinfo' command"),
        ("CLIENT TRACKING ON", "ERR CLIENT TRACKING ON is not supported by this server"),
        ("CLIENT NO-TOUCH maybe", "ERR syntax error"),
    ],
)
def test_errors_of_our_own(line: str, error: str) -> None:
    with pytest.raises(ReplyError) as raised:
        LocalClient().call(line)
    assert str(raised.value) == error


def test_tracking_is_off() -> None:
    assert LocalClient().call("CLIENT TRACKINGINFO")[b"flags"] == ReplySet([b"off"])


def ids_listed(text: bytes) -> list[int]:
    return [int(number) for number in re.findall(rb"^id=(\d+)", text, re.MULTILINE)]


def test_list_chooses_by_type_and_id() -> None:
    server = LocalServer()
    one, two, three = (LocalClient(server) for _ in range(3))
    assert ids_listed(one.call("CLIENT LIST").data) == [1, 2, 3]
    assert ids_listed(one.call("CLIENT LIST TYPE normal").data) == [1, 2, 3]
    assert ids_listed(two.call("CLIENT LIST ID 3 9 1").data) == [3, 1]
    server.clients.remove(three.state)
    assert ids_listed(one.call("CLIENT LIST").data) == [1, 2]


def test_kill_by_each_filter() -> None:
    server = LocalServer()
    one, two, three, four = (LocalClient(server) for _ in range(4))
    assert one.call("CLIENT KILL 127.0.0.1:40002") == "OK"
    assert one.call("CLIENT KILL ID 3") == 1
    assert one.call("CLIENT KILL ADDR 127.0.0.1:40004 ID 3") == 0
    assert one.call("CLIENT KILL ADDR 127.0.0.1:40004 USER default TYPE normal LADDR 127.0.0.1:6379") == 1
    for client in (two, three, four):
        assert client.connection.closed == ["CLIENT KILL"]
        server.clients.remove(client.state)
    assert one.call("CLIENT KILL TYPE normal") == 0
    assert one.call("CLIENT KILL TYPE normal SKIPME no") == 1
    assert one.connection.closed == []
    assert one.state.close_after_reply


def test_kill_of_the_own_address_answers_first() -> None:
    client = LocalClient()
    assert client.call("CLIENT KILL 127.0.0.1:40001") == "OK"
    assert client.connection.closed == []
    assert client.state.close_after_reply


def test_pause_is_widened_never_narrowed_and_ends_by_itself() -> None:
    client = LocalClient()
    clients, start_ms = client.server.clients, START_US // 1000
    client.call("CLIENT PAUSE 100 WRITE")
    assert clients.paused(start_ms + 99) is PauseMode.WRITE
    client.call("CLIENT PAUSE 50 ALL")
    assert clients.paused(start_ms + 99) is PauseMode.ALL
    client.call("CLIENT PAUSE 200 WRITE")
    assert clients.paused(start_ms + 199) is PauseMode.ALL
    assert clients.paused(start_ms + 200) is PauseMode.NONE
    client.call("CLIENT PAUSE 100")
    assert clients.paused(start_ms) is PauseMode.ALL
    client.call("CLIENT UNPAUSE")
    assert clients.paused(start_ms) is PauseMode.NONE


def test_unblock_reaches_a_blocked_client_once() -> None:
    server = LocalServer()
    one, two = LocalClient(server), LocalClient(server)
    ended: list[bool] = []
    assert one.call("CLIENT UNBLOCK 2") == 0
    two.state.block(ended.append)
    assert server.clients.blocked_count() == 1
    assert "flags=b" in two.state.line(0)
    assert one.call("CLIENT UNBLOCK 2 ERROR") == 1
    assert one.call("CLIENT UNBLOCK 2") == 0
    two.state.block(ended.append)
    assert one.call("CLIENT UNBLOCK 2 TIMEOUT") == 1
    assert ended == [True, False]


def test_help_names_every_subcommand() -> None:
    lines = LocalClient().call("CLIENT HELP")
    assert lines[0] == "CLIENT <subcommand> [<arg> [value] [opt] ...]. Subcommands are:"
    named = {line.split()[0] for line in lines[1:] if not line.startswith(" ")}
    assert {"ID", "KILL", "SETINFO", "NO-TOUCH", "HELP", "TRACKINGINFO"} <= named
    assert all(line.startswith("    ") for line in lines[2::2])


def test_list_counts_the_command_that_asks_as_redis_does(real: Connection) -> None:
    shown = re.compile(rb"qbuf=(\d+) qbuf-free=\d+ argv-mem=(\d+)")
    client = LocalClient()
    for line in ("CLIENT LIST", "CLIENT INFO", "CLIENT LIST TYPE normal"):
        argv = line.encode().split()
        theirs = shown.findall(real.execute(argv))[-1]
        assert shown.findall(client.execute(argv)) == [theirs]
    assert "qbuf=0 qbuf-free=0 argv-mem=0" in client.state.line(0)


def test_a_client_that_a_pause_holds_back_counts_as_blocked_and_cannot_be_unblocked() -> None:
    server = LocalServer()
    one, two = LocalClient(server), LocalClient(server)
    two.state.postponed = True
    assert server.clients.blocked_count() == 1
    assert "flags=b" in two.state.line(0)
    assert one.call("CLIENT UNBLOCK 2") == 0
