"""INFO, ROLE, TIME, snapshots, SHUTDOWN, WAIT, CLUSTER, ACL, MODULE, DEBUG, LOLWUT."""

from __future__ import annotations

import pytest

from tests.support.differential import Connection
from tests.support.local_server import START_US, LocalClient, LocalServer, compare_lines
from zattredis.commands.context import NO_REPLY
from zattredis.errors import ReplyError
from zattredis.resp.replies import Verbatim

LINES = [
    "INFO nothing", "INFO foo bar", "TIME x", "ROLE x", "LASTSAVE x", "SAVE x", "BGSAVE FOO", "BGSAVE SCHEDULE x",
    "BGREWRITEAOF x", "REPLICAOF NO ONE", "SLAVEOF no one", "REPLICAOF a", "WAIT a 1", "WAIT 0 a", "WAIT 0 -1",
    "WAIT 0", "WAIT 99999999999999999999 1", "SHUTDOWN FOO", "SHUTDOWN ABORT", "SHUTDOWN NOSAVE SAVE",
    "SHUTDOWN NOSAVE ABORT", "SHUTDOWN ABORT NOW", "SHUTDOWN NOW FOO", "LOLWUT VERSION a",
    "CLUSTER", "CLUSTER FOO", "CLUSTER INFO", "CLUSTER NODES", "CLUSTER SLOTS x", "CLUSTER KEYSLOT foo", "CLUSTER HELP",
    "CLUSTER MEET a", "CLUSTER SLOTS", "CLUSTER SHARDS", "CLUSTER MYID", "ASKING", "ASKING x",
    "ACL", "ACL FOO", "ACL WHOAMI", "ACL WHOAMI x", "ACL USERS", "ACL CAT", "ACL CAT foo", "ACL CAT a b",
    "ACL CAT TRANSACTIONS", "MODULE", "MODULE FOO", "MODULE LIST", "MODULE LIST x", "SENTINEL masters",
    "MEMORY FOO", "MEMORY PURGE", "MEMORY PURGE x", "MEMORY DOCTOR x", "MEMORY MALLOC-STATS x", "MEMORY STATS x",
    "SLOWLOG", "SLOWLOG FOO", "SLOWLOG GET a", "SLOWLOG GET -2", "SLOWLOG GET 1 2", "SLOWLOG LEN x", "SLOWLOG RESET",
    "SLOWLOG GET", "SLOWLOG GET -1", "SLOWLOG GET 0", "SLOWLOG LEN",
    "LATENCY", "LATENCY FOO", "LATENCY LATEST", "LATENCY LATEST x", "LATENCY HISTORY foo", "LATENCY HISTORY",
    "LATENCY GRAPH foo", "LATENCY GRAPH", "LATENCY RESET", "LATENCY RESET a b", "LATENCY HISTOGRAM foo",
    "LATENCY DOCTOR x", "DEBUG", "DEBUG SLEEP", "DEBUG SLEEP 0", "DEBUG OBJECT", "DEBUG OBJECT none",
    "DEBUG NOTHING", ("DEBUG", "f" * 200),
]  # fmt: skip


@pytest.mark.parametrize("resp", [2, 3])
def test_replies_and_errors(real: Connection, resp: int) -> None:
    ours = LocalClient()
    for backend in (ours, real):
        backend.use(resp)
    compare_lines(ours, real, LINES)


@pytest.mark.parametrize("name", ["connection", "transaction", "dangerous", "admin"])
def test_acl_categories_hold_what_they_hold_in_redis(real: Connection, name: str) -> None:
    theirs = set(real.execute([b"ACL", b"CAT", name.encode()]).split(b"\r\n"))
    ours = set(LocalClient().call(f"ACL CAT {name}"))
    ours = {full for full in ours if full.partition(b"|")[0] not in (b"raft", b"extension")}  # commands of no Redis
    assert ours - theirs <= {b"client|setinfo", b"client|no-touch"}


def test_time_is_the_servers() -> None:
    server = LocalServer()
    server.now_us = 1_700_000_001_000_042
    assert LocalClient(server).call("TIME") == [b"1700000001", b"42"]


def test_a_leader_is_a_master_with_the_followers_it_hears() -> None:
    assert LocalClient().call("ROLE") == [b"master", 40, [[b"::1", b"7002", b"30"]]]


def test_snapshots() -> None:
    client = LocalClient()
    assert client.call("SAVE") == "OK"
    assert client.call("BGSAVE") == "Background saving started"
    for line, error in (
        ("BGSAVE", "ERR Background save already in progress"),
        ("BGSAVE SCHEDULE", "ERR Background save already in progress"),
        ("SAVE", "ERR Background save already in progress"),
        ("BGREWRITEAOF", "ERR Background append only file rewriting already in progress"),
    ):
        with pytest.raises(ReplyError) as raised:
            client.call(line)
        assert str(raised.value) == error
    client.server.snapshotting = False
    assert client.call("BGREWRITEAOF") == "Background append only file rewriting started"
    assert client.call("LASTSAVE") == START_US // 1_000_000


@pytest.mark.parametrize(
    ("line", "asked"),
    [
        ("SHUTDOWN", (False, False, None)),
        ("SHUTDOWN NOSAVE", (False, False, False)),
        ("SHUTDOWN save FORCE", (False, True, True)),
        ("SHUTDOWN NOW FORCE NOSAVE", (True, True, False)),
    ],
)
def test_shutdown_passes_on_what_is_asked_and_is_not_answered(line: str, asked: tuple[bool, bool, bool | None]) -> None:
    client = LocalClient()
    assert client.call(line) is NO_REPLY
    assert client.server.shutdowns == [asked]


def test_shutdown_abort_is_answered_when_something_was_called_off() -> None:
    client = LocalClient()
    client.server.shutting_down = True
    assert client.call("SHUTDOWN ABORT") == "OK"
    assert client.server.shutdowns == []


def test_wait() -> None:
    client = LocalClient()
    assert client.call("WAIT 1 100") == 2


@pytest.mark.parametrize("line", ["REPLICAOF 127.0.0.1 6379", "SLAVEOF host 1", "FAILOVER", "FAILOVER TO a 1 FORCE"])
def test_replication_commands_say_that_they_are_not_for_this_server(line: str) -> None:
    with pytest.raises(ReplyError, match="is not supported"):
        LocalClient().call(line)


def test_debug_sleep_asks_the_server_to_wait() -> None:
    client = LocalClient()
    assert client.call("DEBUG SLEEP 0.25") == "OK"
    assert client.call("DEBUG sleep -1") == "OK"
    assert client.server.slept == [0.25, 0.0]


def test_debug_object_tells_encoding_and_length() -> None:
    client = LocalClient()
    client.server.executed = {
        (b"OBJECT", b"ENCODING", b"k"): b"embstr", (b"MEMORY", b"USAGE", b"k"): 60, (b"DUMP", b"k"): b"12345",
    }  # fmt: skip
    reply = client.call("DEBUG OBJECT k")
    assert reply.startswith("Value at:0x")
    assert " encoding:embstr serializedlength:5 " in reply


def test_lolwut() -> None:
    client = LocalClient()
    for line, widest in (("LOLWUT", 40), ("LOLWUT VERSION 7 60", 60), ("LOLWUT 99999", 200)):
        reply = client.call(line)
        assert isinstance(reply, Verbatim)
        lines = reply.data.decode().splitlines()
        assert "Redis ver. 7.0.15" in lines[-1]
        assert max(len(one) for one in lines if "~" in one) == widest
    assert client.call("LOLWUT VERSION 5").data.count(b"\n") == 1


def test_memory_commands() -> None:
    client = LocalClient()
    assert client.call("MEMORY PURGE") == "OK"
    assert client.server.purged == 1
    stats = client.call("MEMORY STATS")
    assert stats[b"keys.count"] == 11
    assert stats[b"peak.allocated"] >= stats[b"total.allocated"] > 0
    assert isinstance(client.call("MEMORY DOCTOR"), Verbatim)
    client.connection.bytes = (1 << 40, 0)
    assert b"clients' buffers" in client.call("MEMORY DOCTOR").data
    assert client.call("MEMORY MALLOC-STATS") == b"Stats not supported for the current allocator"


@pytest.mark.parametrize(
    "name", ["CONFIG", "SLOWLOG", "LATENCY", "MEMORY", "ACL", "MODULE", "COMMAND", "DEBUG", "OBJECT"]
)
def test_help(name: str) -> None:
    lines = LocalClient().call(f"{name} HELP")
    assert lines[0] == f"{name} <subcommand> [<arg> [value] [opt] ...]. Subcommands are:"
    assert lines[-2] == "HELP"
