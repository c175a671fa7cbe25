"""Reads of very many words: others are answered before them, and the reply is that of their parts."""

from __future__ import annotations

from typing import Any

import hiredis
import pytest

from tests.server.mini_node import MiniNode

WORDS = 3000
ALL = [f"n:{number}" for number in range(WORDS)]
SOME = ALL[::7]

READS = {
    "MGET": ("MGET", ""), "EXISTS": ("EXISTS", ""), "TOUCH": ("TOUCH", ""), "PFCOUNT": ("PFCOUNT", ""),
    "HMGET": ("HMGET h", ""), "SMISMEMBER": ("SMISMEMBER s", ""), "ZMSCORE": ("ZMSCORE z", ""),
    "GEOPOS": ("GEOPOS g", ""), "GEOHASH": ("GEOHASH g", ""), "HTTL": ("HTTL h", "FIELDS"),
    "HPTTL": ("HPTTL h", "FIELDS"), "HEXPIRETIME": ("HEXPIRETIME h", "FIELDS"),
    "HPEXPIRETIME": ("HPEXPIRETIME h", "FIELDS"), "BITFIELD_RO": ("BITFIELD_RO b", "GET"),
}  # fmt: skip


@pytest.fixture
def node(monkeypatch: pytest.MonkeyPatch) -> MiniNode:
    monkeypatch.setattr("zattredis.server.reads.SLICE_S", 60.0)  # all that is no long read is answered in one go
    node = MiniNode()
    client = node.connect()
    for name in SOME:
        client.send(
            f"SET {name} {name}", f"HSET h {name} {name}", f"SADD s {name}", f"ZADD z {name[2:]} {name}",
            f"GEOADD g {int(name[2:]) % 180} 13.5 {name}", f"SETBIT b {name[2:]} 1",
        )  # fmt: skip
    client.send(f"HPEXPIREAT h 99999999999 FIELDS {len(SOME)} {' '.join(SOME)}")
    node.tick()
    node.apply()
    assert b"-" not in client.received().replace(b":-", b"")
    return node


def line(first: str, form: str, names: list[str]) -> str:
    if form == "FIELDS":
        return " ".join((first, "FIELDS", str(len(names)), *names))
    if form == "GET":
        return " ".join((first, *(f"GET u2 {name[2:]}" for name in names)))
    return " ".join((first, *names))


def parsed(data: bytes) -> Any:
    reader = hiredis.Reader()
    reader.feed(data)
    reply = reader.gets()
    assert reply is not False and reader.gets() is False, "one reply, and it is whole"
    return reply


def begin(node: MiniNode) -> None:
    """Confirm the reads of this tick; what runs in slices has begun then, and not one of them is done."""
    node.proposals.flush()
    node.reads.flush()
    node.reads.on_confirmed(node.asked[-1], node.index, node.now_ms)
    node.dispatcher.flush()


@pytest.mark.parametrize("name", READS)
def test_others_are_answered_meanwhile(node: MiniNode, name: str) -> None:
    first, form = READS[name]
    names = ["none", *ALL, "none"] if form != "GET" else ALL
    if name == "PFCOUNT":
        names = [f"none:{number}" for number in range(WORDS)]
    client, other = node.connect(), node.connect()
    client.send(line(first, form, names))
    other.send("GET n:7")
    begin(node)
    assert other.received() == b"$3\r\nn:7\r\n"
    assert client.received() == b""
    node.settle()
    whole = parsed(client.received())
    parts: list[Any] = []
    for start in range(0, len(names), 1000):
        client.send(line(first, form, names[start : start + 1000]))
        begin(node)
        node.settle()
        parts.append(parsed(client.received()))
    assert whole == (sum(parts) if isinstance(whole, int) else [element for part in parts for element in part])
    if name != "PFCOUNT":
        assert whole == len(SOME) if isinstance(whole, int) else len({str(element) for element in whole}) > 1


@pytest.mark.parametrize("name", [name for name in READS if name not in ("MGET", "EXISTS", "TOUCH")])
def test_a_wrong_type_is_an_error_and_no_part_of_a_reply(node: MiniNode, name: str) -> None:
    first, form = READS[name]
    client = node.connect()
    if name != "PFCOUNT":
        first = f"{name} {'h' if name == 'BITFIELD_RO' else 'n:7'}"
    client.send(line(first, form, ALL))
    begin(node)
    node.settle()
    expected = b"-WRONGTYPE " if name != "PFCOUNT" else b"-WRONGTYPE Key is not a valid HyperLogLog"
    assert client.received().startswith(expected)


def test_a_client_that_sends_much_is_read_from_again_once_others_had_their_turn() -> None:
    node = MiniNode()
    client = node.connect()
    client.connection.data_received(b"*3\r\n$3\r\nSET\r\n$1\r\na\r\n$200000\r\n" + b"x" * 100_000)
    assert not client.socket.reading
    node.settle()
    assert client.socket.reading
    client.connection.data_received(b"x" * 1000)
    assert client.socket.reading, "a little is no reason"
    client.connection.data_received(b"x" * 99_000 + b"\r\n" + b"*2\r\n$3\r\nGET\r\n$1\r\na\r\n" * 10)
    client.connection.stop_reading()
    node.turn()
    assert not client.socket.reading, "the node is ending"
    assert client.received() == b"+OK\r\n" + b"$200000\r\n%b\r\n" % (b"x" * 200_000) * 10


def test_a_client_that_sends_much_and_reads_nothing_is_read_from_only_once_it_reads() -> None:
    node = MiniNode()
    client = node.connect()
    client.connection.data_received(b"*1\r\n$4\r\nPING\r\n" * 10_000)
    client.connection._paused_by_peer = True  # as pause_writing leaves it
    node.settle()
    assert not client.socket.reading
    client.connection.resume_writing()
    node.settle()
    assert client.socket.reading
    assert client.received() == b"+PONG\r\n" * 10_000
