"""MONITOR: line by line what redis-server 7.0 shows, never a secret, and nothing left behind when it ends."""

from __future__ import annotations

import re
from collections.abc import Iterator

import hiredis
import pytest

from tests.support.cluster import ZattCluster
from tests.support.redis_server import RedisServer
from tests.support.resp_client import RespClient

LINE = re.compile(rb'(\d+\.\d{6}) \[(\d+) 127\.0\.0\.1:(\d+)\] (".*")')
END = b"end of the test"


@pytest.fixture(scope="module")
def ports() -> Iterator[tuple[int, int]]:
    with RedisServer() as redis, ZattCluster(1, in_memory=True) as cluster:
        yield cluster.nodes[0].port, redis.port


def lines_until_end(monitor: RespClient) -> list[tuple[bytes, bytes]]:
    """(database, words) of every line up to the one of an ECHO of END."""
    found = []
    while True:
        text = monitor.read()
        match = LINE.fullmatch(text.encode() if isinstance(text, str) else text)
        assert match, text
        if END in match[4]:
            return found
        found.append((match[2], match[4]))


def shown(port: int, commands: list[list[bytes]], resp: int = 2) -> tuple[list[object], list[tuple[bytes, bytes]]]:
    """Send the commands to a server that is monitored; return their replies and what was shown."""
    with RespClient(port) as monitor, RespClient(port) as client:
        if resp == 3:
            monitor.call("HELLO", 3)
        assert monitor.call("MONITOR") == b"OK"
        replies = [client.try_call(*command) for command in commands]
        client.call("ECHO", END)
        return [str(reply) if isinstance(reply, Exception) else reply for reply in replies], lines_until_end(monitor)


def words(*lines: str) -> list[list[bytes]]:
    return [line.encode().split() for line in lines]


SCRIPTS = {
    "bytes": [[b"SET", b'k"\\\x00\n\r\t\x07\x08z\xff \xc3\xa4', b"v"], [b"get", b""], [b"DEL", bytes(range(256))]],
    "databases": words("SELECT 3", "SET a 1", "SELECT 99", "GET a", "SELECT 0", "SWAPDB 0 1", "SWAPDB 0 1"),
    "refused": words("NOSUCH x", "GET", "LPUSH k", "SET a 1 NX XX", "SET s v", "LPUSH s x", "EXEC", "DISCARD"),
    "transaction": words("MULTI", "SET a 1", "SELECT 4", "GET a", "SELECT 0", "INCR a", "EXEC", "GET a"),
    "transactions that end": words("MULTI", "DISCARD", "MULTI", "NOSUCH", "EXEC", "MULTI", "EXEC", "EXEC"),
    "administration": words("CONFIG GET port", "SLOWLOG GET", "LATENCY LATEST", "CLIENT LIST", "CLIENT SETNAME x",
                            "CLIENT GETNAME", "ACL WHOAMI", "ACL LIST", "BGSAVE", "LASTSAVE"),
    "connection": words("PING", "PING hello", "ECHO x", "TIME", "COMMAND COUNT", "INFO cluster", "WAIT 0 10", "DBSIZE"),
    "blocking": words("BLPOP nothing 0.05", "RPUSH list a b", "BLPOP list 1", "BLMOVE list other LEFT RIGHT 1"),
    "reset": words("SELECT 5", "RESET", "GET a"),
    "collections": words("HSET h f v", "HGETALL h", "ZADD z 1 a", "ZRANGE z 0 -1", "SADD s2 a", "SMEMBERS s2"),
    "secrets": words("HELLO 2 SETNAME n AUTH default wrong", "AUTH secret", "AUTH a b", "HELLO 2 AUTH default pw",
                     "CONFIG SET requirepass", "ACL SETUSER somebody >secret"),
    "in a transaction": words("MULTI", "MONITOR", "EXEC"),
}  # fmt: skip


@pytest.mark.parametrize("script", SCRIPTS)
@pytest.mark.parametrize("resp", [2, 3])
def test_what_is_shown_is_what_redis_shows(ports: tuple[int, int], script: str, resp: int) -> None:
    ours, theirs = (shown(port, SCRIPTS[script], resp) for port in ports)
    assert ours[1] == theirs[1]
    if script in ("in a transaction", "databases", "transaction"):
        assert repr(ours[0]) == repr(theirs[0])
    assert not any(b"secret" in line or b'"pw"' in line for _, line in ours[1])


def test_a_watched_key_that_changed_leaves_the_exec_alone(ports: tuple[int, int]) -> None:
    found = []
    for port in ports:
        with RespClient(port) as monitor, RespClient(port) as client, RespClient(port) as other:
            client.call("SET", "watched", 1)
            monitor.call("MONITOR")
            client.call("WATCH", "watched")
            other.call("SET", "watched", 2)
            client.call("MULTI")
            client.call("SET", "watched", 3)
            assert client.call("EXEC") is None
            client.call("ECHO", END)
            found.append(lines_until_end(monitor))
    assert found[0] == found[1]


def test_one_who_monitors_may_do_little_else_until_reset(ports: tuple[int, int]) -> None:
    for port in ports:
        with RespClient(port) as monitor, RespClient(port) as client:
            assert monitor.call("MONITOR") == b"OK"
            monitor.send("MONITOR")  # has no reply
            assert monitor.call("PING") == b"PONG"
            assert LINE.fullmatch(monitor.read())[4] == b'"PING"'  # type: ignore[index]
            for command in (("GET", "x"), ("SET", "x", "1")):
                with pytest.raises(hiredis.ReplyError, match="ERR Replica can't interact with the keyspace"):
                    monitor.call(*command)
            assert b" flags=O " in monitor.call("CLIENT", "INFO")
            monitor.read()
            assert monitor.call("RESET") == b"RESET"
            client.call("SET", "unseen", 1)
            assert monitor.call("GET", "unseen") == b"1"


def test_pipelines_of_many_clients_are_shown_whole_and_in_each_ones_order(ports: tuple[int, int]) -> None:
    with RespClient(ports[0]) as monitor, RespClient(ports[0]) as one, RespClient(ports[0]) as two:
        assert monitor.call("MONITOR") == b"OK"
        for client in (one, two):
            for number in range(300):
                client.send("SET", f"pipelined{number}", number)
        for client in (one, two):
            assert [client.read() for _ in range(300)] == [b"OK"] * 300
        one.call("ECHO", END)
        by_client: dict[bytes, list[bytes]] = {}
        while True:
            match = LINE.fullmatch(monitor.read())
            assert match
            if END in match[4]:
                break
            by_client.setdefault(match[3], []).append(match[4])
        expected = [b'"SET" "pipelined%d" "%d"' % (number, number) for number in range(300)]
        assert list(by_client.values()) == [expected, expected]


def test_who_monitors_and_goes_away_costs_nothing_more(ports: tuple[int, int]) -> None:
    with RespClient(ports[0]) as client:
        monitor = RespClient(ports[0])
        assert monitor.call("MONITOR") == b"OK"
        client.call("SET", "a", 1)
        assert b"SET" in monitor.read()
        monitor.close()
        for number in range(10):
            assert client.call("SET", "a", number) == b"OK"
        assert client.call("GET", "a") == b"9"


def test_every_node_shows_what_its_own_clients_send() -> None:
    with (
        ZattCluster(3, in_memory=True) as cluster,
        cluster.client(0) as monitor,
        cluster.client(0) as own,
        cluster.client(1) as elsewhere,
    ):
        assert monitor.call("MONITOR") == b"OK"
        elsewhere.call("SET", "key", "from another node")
        own.call("GET", "key")
        own.call("ECHO", END)
        assert lines_until_end(monitor) == [(b"0", b'"GET" "key"')]
