"""Reads whose handler returns a generator: in slices, at one point in time, in order, as fast as the client reads."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.server.mini_node import Client, MiniNode
from zattredis.commands.context import Context, Steps, Stream
from zattredis.commands.table import COMMANDS, Flag, command
from zattredis.errors import DefiniteError, StateDamaged
from zattredis.keyspace.scan import live_keys
from zattredis.resp.replies import ReplySet

KINDS: dict[bytes, Any] = {b"list": list, b"dict": dict, b"set": ReplySet}


def long_read(ctx: Context, kind: bytes, count: bytes, lie: bytes = b"0") -> Any:
    """Stream numbers, each with what the keyspace held then; a list of one number at once."""
    total = int(count)
    if total < 2:
        return [0] * total
    if kind == b"value":
        return value_of(ctx)
    return stream(KINDS[kind], total, int(lie))


def value_of(ctx: Context) -> Steps:
    yield None
    found = sorted(key for key in live_keys(ctx.view, ctx.db, ctx.now_ms) if key is not None)
    yield None
    if not found:
        raise DefiniteError("nothing is here")
    return found


def stream(kind: Any, total: int, lie: int) -> Steps:
    yield Stream(kind, total + lie)
    width = 2 if kind is dict else 1
    for start in range(0, total * width, 100):
        yield list(range(start, min(start + 100, total * width)))
        yield None
    return None


@pytest.fixture(autouse=True)
def long_command() -> Iterator[None]:
    command("LONG", arity=-3, flags=Flag.READONLY, group="generic", since="0")(long_read)
    yield
    del COMMANDS[b"LONG"]


def numbers(header: bytes, count: int) -> bytes:
    return header + b"".join(b":%d\r\n" % number for number in range(count))


@pytest.fixture
def node() -> MiniNode:
    return MiniNode()


@pytest.mark.parametrize("resp", [2, 3])
@pytest.mark.parametrize(("kind", "width", "headers"), [
    ("list", 1, (b"*250\r\n", b"*250\r\n")), ("dict", 2, (b"*500\r\n", b"%250\r\n")),
    ("set", 1, (b"*250\r\n", b"~250\r\n")),
])  # fmt: skip
def test_a_stream_is_one_reply(node: MiniNode, resp: int, kind: str, width: int, headers: tuple[bytes, bytes]) -> None:
    client = node.connect()
    client.connection.state.resp = resp
    client.send(f"LONG {kind} 250", "PING")
    node.tick()
    node.confirm()
    assert client.received() == numbers(headers[resp - 2], 250 * width) + b"+PONG\r\n"


def test_it_stands_in_order_among_reads_of_one_run(node: MiniNode) -> None:
    client = node.connect()
    client.send("GET a", "LONG list 3", "LONG list 1", "LONG value 2", "GET b")
    node.tick()
    node.confirm()
    while node.reads._gathering or node.reads._round:
        node.tick()
        node.confirm()
    assert client.received() == b"$-1\r\n" + numbers(b"*3\r\n", 3) + b"*1\r\n:0\r\n-ERR nothing is here\r\n$-1\r\n"


def test_it_sees_the_writes_before_it_and_none_behind_it(node: MiniNode) -> None:
    client, other = node.connect(), node.connect()
    client.send("SET a 1", "GET a", "LONG value 2", "GET a", "SET b 1", "LONG value 2", "DEL a b")
    node.tick()
    assert len(node.log) == 1
    node.apply()
    assert client.received() == (
        b"+OK\r\n$1\r\n1\r\n*1\r\n$1\r\na\r\n$1\r\n1\r\n+OK\r\n*2\r\n$1\r\na\r\n$1\r\nb\r\n:2\r\n"
    )
    other.send("GET a")
    node.tick()
    node.confirm()
    assert other.received() == b"$-1\r\n"


def test_a_later_write_neither_waits_for_it_nor_shows_in_it(node: MiniNode) -> None:
    client = node.connect()
    client.send("SET a 1")
    node.tick()
    node.apply()
    client.received()
    client.send("LONG value 2")
    node.proposals.flush()
    node.reads.flush()
    node.reads.on_confirmed(node.asked[-1], node.index, node.now_ms)  # it has begun, not one slice of it is done
    client.send("SET b 1")
    node.proposals.flush()
    assert len(node.log) == 1
    node.apply()
    assert client.received() == b"*1\r\n$1\r\na\r\n+OK\r\n"


@pytest.mark.parametrize("sent_later", [False, True])
def test_nor_where_it_has_to_wait_for_others_to_end(
    node: MiniNode, monkeypatch: pytest.MonkeyPatch, sent_later: bool
) -> None:
    monkeypatch.setattr("zattredis.server.sliced.PIECE_BYTES", 1000)
    monkeypatch.setattr("zattredis.server.sliced.OPEN_MAX", 1)
    other, client = node.connect(), node.connect()
    client.send("SET a 1")
    node.tick()
    node.apply()
    client.received()
    other.send("LONG list 5000")
    client.send(*["LONG value 2"] if sent_later else ["SET c 1", "DEL c", "LONG value 2", "SET b 1"])
    node.proposals.flush()
    node.reads.flush()
    node.reads.on_confirmed(node.asked[-1], node.index, node.now_ms)
    other.connection.pause_writing()  # its client takes nothing: it stays open
    node.settle()
    if sent_later:
        client.send("SET b 1")
        node.proposals.flush()
    node.apply()
    assert client.received() == (b"" if sent_later else b"+OK\r\n:1\r\n")
    other.connection.resume_writing()
    node.settle()
    assert client.received() == b"*1\r\n$1\r\na\r\n+OK\r\n"
    assert other.received() == numbers(b"*5000\r\n", 5000)
    assert node.reads.idle


def test_a_pipeline_of_long_reads_begins_a_few_at_a_time(node: MiniNode, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else its neighbours would wait until all of them had begun, and each would keep a point of time of the store."""
    monkeypatch.setattr("zattredis.server.sliced.RUNNING_MAX", 2)
    original = stream
    looked_at: list[int] = []

    def counted(*arguments: Any) -> Any:
        looked_at.append(1)
        return original(*arguments)

    monkeypatch.setitem(long_read.__globals__, "stream", counted)
    client, other = node.connect(), node.connect()
    client.send(*["LONG list 300"] * 20, "EXISTS a")
    other.send("EXISTS a")
    node.proposals.flush()
    node.reads.flush()
    node.reads.on_confirmed(node.asked[-1], node.index, node.now_ms)
    node.dispatcher.flush()
    assert other.received() == b":0\r\n"
    assert len(looked_at) <= 3, "two begin, one waits"
    for _ in range(40):
        node.turn()
        node.confirm()
    assert client.received() == numbers(b"*300\r\n", 300) * 20 + b":0\r\n"
    assert node.reads.idle


@pytest.fixture
def two_long_reads(node: MiniNode, monkeypatch: pytest.MonkeyPatch) -> tuple[Client, list[float]]:
    """A client that has sent two of them and taken a first piece, and the clock."""
    clock = [0.0]
    monkeypatch.setattr("zattredis.server.sliced.PIECE_BYTES", 1000)
    monkeypatch.setattr("zattredis.server.sliced.monotonic", lambda: clock[0])
    client = node.connect()
    client.send("LONG list 5000", "LONG list 5000")
    node.reads.flush()
    node.reads.on_confirmed(node.asked[-1], node.index, node.now_ms)
    client.connection.pause_writing()
    node.settle()
    return client, clock


def test_a_client_that_takes_nothing_of_a_long_reply_for_a_minute_is_closed(
    node: MiniNode, two_long_reads: tuple[Client, list[float]]
) -> None:
    client, clock = two_long_reads
    clock[0] = 59.0
    node.reads.tick()
    assert not client.socket.closing
    clock[0] = 61.0
    node.reads.tick()
    assert client.socket.closing


def test_a_client_that_reads_one_long_reply_for_minutes_is_not_closed_for_the_next_one(
    node: MiniNode, two_long_reads: tuple[Client, list[float]]
) -> None:
    client, clock = two_long_reads
    for _ in range(10):
        clock[0] += 20.0
        client.connection.resume_writing()
        client.connection.pause_writing()
        node.settle()
        node.reads.tick()
    assert not client.socket.closing
    client.connection.resume_writing()
    node.settle()
    node.reads.tick()  # the first is through: it is the other's turn
    node.settle()
    assert client.received() == numbers(b"*5000\r\n", 5000) * 2


def test_a_read_behind_a_long_one_that_waits_for_others_does_not_show_less(
    node: MiniNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Replies of one connection never go back in time: the long one shows no later state than the one behind it."""
    monkeypatch.setattr("zattredis.server.sliced.PIECE_BYTES", 1000)
    monkeypatch.setattr("zattredis.server.sliced.OPEN_MAX", 1)
    other, client, writer = node.connect(), node.connect(), node.connect()
    writer.send("SET a 1")
    node.turn()
    other.send("LONG list 5000")
    node.reads.flush()
    node.reads.on_confirmed(node.asked[-1], node.index, node.now_ms)
    other.connection.pause_writing()  # its client takes nothing: it stays open
    node.settle()
    client.send("LONG value 2")
    node.turn()
    client.send("EXISTS b")
    node.turn()
    writer.send("SET b 1")
    node.turn()
    other.connection.resume_writing()
    node.settle()
    assert client.received() == b"*1\r\n$1\r\na\r\n:0\r\n"


def test_within_exec_it_is_whole(node: MiniNode) -> None:
    client = node.connect()
    client.send("MULTI", "SET a 1", "LONG value 2", "LONG set 3", "EXEC")
    node.tick()
    node.apply()
    assert client.received().endswith(b"*3\r\n+OK\r\n*1\r\n$1\r\na\r\n" + numbers(b"*3\r\n", 3))


def test_no_more_is_made_than_the_client_reads(node: MiniNode, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zattredis.server.sliced.PIECE_BYTES", 1000)
    client, other = node.connect(), node.connect()
    client.socket.full_above = 3000
    client.send("LONG list 10000")
    node.tick()
    node.confirm()
    some = client.received()
    assert 3000 < len(some) < 6000
    assert not node.reads.sliced.idle
    other.send("PING", "LONG list 2")
    node.tick()
    node.confirm()
    assert other.received() == b"+PONG\r\n" + numbers(b"*2\r\n", 2), "others go on"
    client.socket.full_above = 1 << 60
    client.connection.resume_writing()
    node.settle()
    assert some + client.received() == numbers(b"*10000\r\n", 10000)
    assert node.reads.sliced.idle


def test_a_client_that_goes_away_ends_it(node: MiniNode, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zattredis.server.sliced.PIECE_BYTES", 1000)
    client = node.connect()
    client.socket.full_above = 3000
    client.send("LONG list 10000")
    node.tick()
    node.confirm()
    client.connection.connection_lost(None)
    node.reads.tick()
    node.settle()
    assert node.reads.sliced.idle


def test_a_replaced_store_closes_who_has_a_part_and_answers_the_others_anew(
    node: MiniNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zattredis.server.sliced.PIECE_BYTES", 1000)
    partly, waiting = node.connect(), node.connect()
    partly.socket.full_above = 3000
    partly.send("LONG list 10000")
    node.tick()
    node.confirm()
    waiting.send("LONG list 2")
    node.reads.flush()
    node.reads.on_confirmed(node.asked[-1], node.index, node.now_ms)
    node.reads.restart_sliced()
    assert partly.socket.closing
    node.tick()
    node.confirm()
    assert waiting.received() == numbers(b"*2\r\n", 2)


def test_a_replaced_store_does_not_show_in_a_long_read_what_is_missing_in_the_reply_behind_it(node: MiniNode) -> None:
    client, writer = node.connect(), node.connect()
    writer.send("SET a 1")
    node.turn()
    client.send("LONG value 2", "EXISTS b")
    node.reads.flush()
    node.reads.on_confirmed(node.asked[-1], node.index, node.now_ms)  # the one behind it has its answer
    node.reads.restart_sliced()
    writer.send("SET b 1")  # the snapshot has that
    node.turn()
    long_reply, behind = client.received().split(b"\r\n", 1)
    assert long_reply.startswith(b"-CLUSTERDOWN")
    assert behind == b":0\r\n"


def test_a_count_that_was_wrong_stops_the_node(node: MiniNode) -> None:
    client = node.connect()
    client.send("LONG list 100 1")
    node.tick()
    with pytest.raises(StateDamaged):
        node.confirm()
