"""Writes of absent keys that have nothing to do take no entry of the log, and keep their order (server.reads)."""

from __future__ import annotations

import random

import pytest

import zattredis.commands  # noqa: F401  (fills the command table)
from tests.server.mini_node import Client, MiniNode
from zattredis.commands.table import COMMANDS
from zattredis.server.units import DONE

_IDLE = ("LPOP k", "RPOP k", "RPOP k 2", "SPOP k", "SPOP k 3", "ZPOPMIN k", "ZPOPMAX k 2", "HDEL k f", "SREM k m",
         "ZREM k m", "GETDEL k", "PERSIST k", "LPOP k x", "SPOP k -1")  # fmt: skip


@pytest.fixture
def node() -> MiniNode:
    return MiniNode()


def _run(node: MiniNode, client: Client, *lines: str) -> bytes:
    """Send the lines, one at a time, each answered before the next; return all replies."""
    found = b""
    for line in lines:
        client.send(line)
        _settle(node)
        found += client.received()
    return found


def _settle(node: MiniNode) -> None:
    for _ in range(10):
        node.turn()


def test_those_that_say_so_are_writes_of_one_key() -> None:
    said = {spec.name for spec in COMMANDS.values() if spec.idle_if_absent}
    assert {"SPOP", "LPOP", "RPOP", "ZPOPMIN", "ZPOPMAX"} <= said
    for name in said:
        spec = COMMANDS[name.encode()]
        assert spec.one_key and spec.plain and spec.kind.name == "WRITE", name


@pytest.mark.parametrize("line", _IDLE)
@pytest.mark.parametrize("resp", [2, 3])
def test_on_an_absent_key_they_are_answered_alike_without_an_entry(node: MiniNode, line: str, resp: int) -> None:
    client = node.connect()
    client.connection.state.resp = resp
    first = _run(node, client, line)  # nobody knows yet that the key is absent
    before, counter = node.index, node.applier.registers.counter
    assert _run(node, client, line) == first != b""
    assert (node.index, node.applier.registers.counter) == (before, counter), "no entry, nothing changed"


def test_one_whose_key_has_come_meanwhile_goes_into_the_log(node: MiniNode) -> None:
    popper, other = node.connect(), node.connect()
    assert _run(node, popper, "LPOP k", "LPOP k") == b"$-1\r\n" * 2
    popper.send("LPOP k")
    other.send("RPUSH k a b")
    node.tick()
    node.apply()
    node.confirm()
    assert popper.received() == b"", "it is a write now"
    assert other.received() == b":2\r\n"
    _settle(node)
    assert popper.received() == b"$1\r\na\r\n"
    assert _run(node, other, "LRANGE k 0 -1") == b"*1\r\n$1\r\nb\r\n"


def test_what_follows_on_the_connection_sees_what_it_did(node: MiniNode) -> None:
    """A read sent behind it must not pass it when it turns out to be a write."""
    popper, other = node.connect(), node.connect()
    _run(node, popper, "LPOP k", "LPOP k")
    popper.send("LPOP k")
    popper.send("LLEN k")
    popper.send("GET x")
    other.send("RPUSH k a b")
    node.tick()
    node.apply()
    node.confirm()
    _settle(node)
    assert popper.received() == b"$1\r\na\r\n:1\r\n$-1\r\n"


def test_a_write_behind_it_takes_it_along_at_its_place(node: MiniNode) -> None:
    client = node.connect()
    _run(node, client, "LPOP k", "LPOP k")
    for line in ("GET k2", "LPOP k", "RPUSH k a", "LPOP k", "LLEN k"):
        client.send(line)
    _settle(node)
    assert client.received() == b"$-1\r\n$-1\r\n:1\r\n$1\r\na\r\n:0\r\n"


def test_behind_an_unanswered_write_it_is_a_write(node: MiniNode) -> None:
    client = node.connect()
    _run(node, client, "LPOP k", "LPOP k")
    client.send("RPUSH k a")
    node.tick()
    client.send("LPOP k")
    _settle(node)
    assert client.received() == b":1\r\n$1\r\na\r\n"


def test_without_quorum_it_is_certainly_not_executed(node: MiniNode) -> None:
    client = node.connect()
    _run(node, client, "LPOP k", "LPOP k")
    node.reads.request_timeout_s = 0.0
    client.send("LPOP k")
    node.tick()
    node.reads.tick()
    node.settle()
    assert client.received().startswith(b"-CLUSTERDOWN")


@pytest.mark.parametrize("seed", range(60))
def test_each_client_sees_its_own_order_and_no_element_twice(seed: int) -> None:
    """Random clients push and pop, unanswered or not: replies of each are those of some order that keeps its own."""
    rng = random.Random(seed)
    node = MiniNode()
    clients = [node.connect() for _ in range(4)]
    pushed: list[bytes] = []
    popped: list[bytes] = []
    sent = [0] * 4
    for step in range(80):
        at = rng.randrange(4)
        if rng.random() < 0.35:
            pushed.append(b"%d" % step)
            clients[at].send(f"RPUSH k {step}")
        else:
            clients[at].send(rng.choice(["LPOP k", "RPOP k", "LLEN k"]))
        sent[at] += 1
        if rng.random() < 0.5:
            node.tick()
        if rng.random() < 0.5 and node.log:
            node.apply(1)
        if rng.random() < 0.5 and node.reads._round is not None:
            node.confirm()
    for _ in range(20):
        node.tick()
        if node.log:
            node.apply()
        if node.reads._round is not None:
            node.confirm()
    for client, count in zip(clients, sent, strict=True):
        assert all(unit.state == DONE for unit in client.connection.units) and not client.connection.units
        pieces = client.received().split(b"\r\n")[:-1]
        replies = [piece for piece in pieces if piece[:1] in b":$"]
        assert len(replies) == count
        popped += [piece for piece in pieces if piece[:1] not in b":$"]
    left = [node.connect()]
    left[0].send("LRANGE k 0 -1")
    _settle(node)
    rest = [piece for piece in left[0].received().split(b"\r\n") if piece[:1].isdigit()]
    assert sorted(popped + rest) == sorted(pushed)
