"""A whole zattd and redis-server side by side: what depends on the dispatcher, not on handlers alone."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Sequence

import pytest

from tests.commands import test_client, test_command_docs, test_config, test_connection, test_server
from tests.support.cluster import ZattCluster
from tests.support.differential import Connection
from tests.support.local_server import compare_lines
from tests.support.redis_server import RedisServer
from tests.support.resp_client import Argument, encode_command

Line = str | Sequence[Argument]

TABLES: dict[str, list[Line]] = {
    "connection": list(test_connection.WITHOUT_PASSWORD),
    "client": list(test_client.LINES),
    "command": list(test_command_docs.LINES),
    "config": list(test_config.LINES),
    "server": list(test_server.LINES),
}

TRANSACTIONS = [
    "MULTI", "MULTI", "EXEC", "EXEC", "DISCARD", "UNWATCH", "WATCH", "MULTI", "WATCH a", "EXEC", "MULTI", "FOO",
    "EXEC", "MULTI", "GET", "EXEC", "MULTI", "SHUTDOWN", "EXEC", "MULTI", "SAVE", "EXEC", "WATCH a", "UNWATCH",
    "MULTI", "RESET", "PING", "MULTI", "SELECT 16", "SELECT 3", "GET x", "EXEC", "MULTI", "WATCH", "DISCARD", "MULTI",
    "MULTI x", "EXEC", "MULTI", "PING", "CLIENT GETNAME", "CLIENT SETNAME foo", "CLIENT GETNAME",
    "CONFIG GET maxclients", "WAIT 0 0", "WAIT 9 100000", "COMMAND COUNT x", "EXEC", "CLIENT GETNAME", "MULTI",
    "SET a 1", "INCR a",
    "GET a", "ECHO x", "EXEC", "SELECT 3", "SET k v", "WATCH k", "MULTI", "GET k", "UNWATCH", "EXEC", "WATCH k",
    "SET k w", "MULTI", "SET k x", "EXEC", "GET k", "MULTI", "AUTH foo", "HELLO 2 SETNAME x", "EXEC",
    "CLIENT GETNAME", "MULTI", "SET k y", "APPEND k", "EXEC", "GET k", "SET n notanumber", "MULTI", "INCR n",
    "SET k z", "EXEC", "GET k", "FLUSHALL",
]  # fmt: skip

NO_MEMORY = [
    "SET a 1", "CONFIG SET maxmemory 1", "SET a 2", "GET a", "DEL b", "MSET a 1", "MULTI", "SET a 3", "GET a", "EXEC",
    "MULTI", "GET a", "EXEC", "MULTI", "DISCARD", "CONFIG SET maxmemory 0", "MULTI", "SET a 4",
    "CONFIG SET maxmemory 1", "EXEC", "CONFIG SET maxmemory 0", "GET a", "SET a 5", "MULTI", "SET a 6", "EXEC",
    "GET a", "FLUSHALL",
]  # fmt: skip


@pytest.fixture(params=[2, 3])
def both(
    request: pytest.FixtureRequest, zattd: ZattCluster, real: Connection
) -> Iterator[tuple[Connection, Connection]]:
    ours = Connection(zattd.nodes[0].port)
    for backend in (ours, real):
        backend.use(request.param)
        for name, value in (("slowlog-max-len", "128"), ("slowlog-log-slower-than", "10000"), ("timeout", "0")):
            backend.execute([b"CONFIG", b"SET", name.encode(), value.encode()])
        backend.execute([b"SLOWLOG", b"RESET"])
    yield ours, real
    ours.close()


@pytest.mark.parametrize("name", TABLES)
def test_tables(both: tuple[Connection, Connection], name: str) -> None:
    compare_lines(*both, TABLES[name], test_connection.hide_id)


def test_transactions(both: tuple[Connection, Connection]) -> None:
    for backend in both:
        backend.execute([b"FLUSHALL"])
    compare_lines(*both, TRANSACTIONS, test_connection.hide_id)


def test_out_of_memory(both: tuple[Connection, Connection]) -> None:
    """The bound is set over connections of their own: inside a transaction CONFIG SET would be queued."""
    ours, real = both
    others = [Connection(port) for port in both_ports(ours, real)]
    for line in NO_MEMORY:
        argv = [word.encode() for word in line.split()]
        config = argv[0] == b"CONFIG"
        got, expected = (
            (other if config else main).execute(argv) for main, other in zip((ours, real), others, strict=True)
        )
        assert got == expected, line
    for other in others:
        other.close()


def both_ports(ours: Connection, real: Connection) -> list[int]:
    return [connection._socket.getpeername()[1] for connection in (ours, real)]


def everything(port: int, data: bytes) -> bytes:
    """Return all that a server answers to `data`, which ends with QUIT or the like."""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        connection.sendall(data)
        received = b""
        while piece := connection.recv(1 << 16):
            received += piece
        return received


@pytest.mark.parametrize("lines", test_client.REPLY_MODES, ids=" ; ".join)
def test_reply_modes(zattd: ZattCluster, redis_server: RedisServer, lines: list[str]) -> None:
    data = b"".join(encode_command(line.split()) for line in (*lines, "QUIT"))
    assert everything(zattd.nodes[0].port, data) == everything(redis_server.port, data)


def test_nothing_behind_quit_is_executed(zattd: ZattCluster, redis_server: RedisServer) -> None:
    for backend in (Connection(zattd.nodes[0].port), Connection(redis_server.port)):
        backend.execute([b"DEL", b"behind"])
        backend.close()
    data = b"".join(
        encode_command(line.split()) for line in ("SET before 1", "GET before", "QUIT", "SET behind 1", "PING")
    )
    assert everything(zattd.nodes[0].port, data) == everything(redis_server.port, data) == b"+OK\r\n$1\r\n1\r\n+OK\r\n"
    connection = Connection(zattd.nodes[0].port)
    assert connection.execute([b"EXISTS", b"behind"]) == b":0\r\n"
    connection.close()


def test_slowlog_takes_local_reads_and_writes(zattd: ZattCluster) -> None:
    connection = Connection(zattd.nodes[0].port)
    for line in ("CONFIG SET slowlog-log-slower-than 0", "SLOWLOG RESET", "PING", "SET k v", "GET k",
                 "CONFIG SET slowlog-log-slower-than 10000"):  # fmt: skip
        connection.execute([word.encode() for word in line.split()])
    log = connection.execute([b"SLOWLOG", b"GET", b"-1"])
    for word in (b"PING", b"SET", b"GET"):
        assert b"\r\n$%d\r\n%b\r\n" % (len(word), word) in log, word
    connection.close()


@pytest.fixture
def node(zattd: ZattCluster) -> Iterator[Connection]:
    """A connection to zattd; every setting that a test changes is put back."""
    connection = Connection(zattd.nodes[0].port)
    names = [b"proto-max-bulk-len", b"timeout", b"tcp-keepalive", b"maxclients", b"loglevel", b"slow-sync-ms"]
    reply = connection.execute([b"CONFIG", b"GET", *names]).split(b"\r\n")[2::2]
    yield connection
    connection.execute([b"CONFIG", b"SET", *reply])
    connection.close()


def test_a_smaller_bulk_length_holds_for_clients_that_are_there(node: Connection, zattd: ZattCluster) -> None:
    other = Connection(zattd.nodes[0].port)
    assert other.execute([b"SET", b"large", b"x" * (2 << 20)]) == b"+OK\r\n"
    assert node.execute([b"CONFIG", b"SET", b"proto-max-bulk-len", b"1mb"]) == b"+OK\r\n"
    data = b"*2\r\n$4\r\nECHO\r\n$%d\r\n" % (2 << 20)
    assert other.execute([b"ECHO", b"x" * 1000]).startswith(b"$1000\r\n")
    assert everything(zattd.nodes[0].port, data) == b"-ERR Protocol error: invalid bulk length\r\n"
    assert other.execute([b"ECHO", b"x" * (2 << 20)]) == b"-ERR Protocol error: invalid bulk length\r\n"
    other.close()


def test_silent_clients_are_closed_after_timeout(node: Connection, zattd: ZattCluster) -> None:
    with socket.create_connection(("127.0.0.1", zattd.nodes[0].port), timeout=30) as silent:
        assert node.execute([b"CONFIG", b"SET", b"timeout", b"3"]) == b"+OK\r\n"
        silent.settimeout(30)
        while True:
            node.execute([b"PING"])
            try:
                silent.settimeout(0.2)
                assert silent.recv(1) == b""
                break
            except TimeoutError:
                continue


def test_too_many_clients_are_refused_and_counted(node: Connection, zattd: ZattCluster) -> None:
    assert node.execute([b"CONFIG", b"SET", b"maxclients", b"1"]) == b"+OK\r\n"
    assert everything(zattd.nodes[0].port, b"PING\r\n") == b"-ERR max number of clients reached\r\n"
    assert b"rejected_connections:0\r\n" not in node.execute([b"INFO", b"stats"])


@pytest.mark.parametrize("line", ["loglevel debug", "slow-sync-ms 1", "tcp-keepalive 0", "tcp-keepalive 10"])
def test_the_node_lives_with_every_change(node: Connection, zattd: ZattCluster, line: str) -> None:
    assert node.execute([b"CONFIG", b"SET", *line.encode().split()]) == b"+OK\r\n"
    other = Connection(zattd.nodes[0].port)
    assert other.execute([b"SET", b"k", b"v"]) == b"+OK\r\n"
    other.close()
