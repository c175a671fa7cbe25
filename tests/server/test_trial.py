"""Writes that have nothing to do take no entry of the log, and keep their order (server.trials)."""

from __future__ import annotations

import random

import pytest

import zattredis.commands  # noqa: F401  (fills the command table)
from tests.server.mini_node import Client, MiniNode
from zattredis.commands.context import PauseMode
from zattredis.commands.table import COMMANDS
from zattredis.errors import DefiniteError
from zattredis.server import idleness
from zattredis.server.idleness import Idleness
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


def test_it_waits_until_its_read_point_is_applied(node: MiniNode) -> None:
    """An answer from the state one entry before would be stale: another node may have acknowledged that entry."""
    popper, other = node.connect(), node.connect()
    assert _run(node, popper, "LPOP k", "LPOP k") == b"$-1\r\n" * 2
    popper.send("LPOP k")
    other.send("RPUSH k a")
    node.tick()
    node.confirm(node.index + 1)  # committed, and not applied here yet
    assert popper.received() == b""
    _settle(node)
    assert other.received() == b":1\r\n"
    assert popper.received() == b"$1\r\na\r\n"


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


def test_what_follows_does_not_pass_it_while_the_client_reads_nothing(node: MiniNode) -> None:
    popper, other = node.connect(), node.connect()
    _run(node, popper, "LPOP k", "LPOP k")
    popper.send("LPOP k")
    popper.send("MULTI", "LLEN k", "EXEC")
    other.send("RPUSH k a b")
    popper.connection.pause_writing()
    node.tick()
    node.apply()
    node.confirm()
    popper.connection.resume_writing()
    _settle(node)
    assert popper.received() == b"$1\r\na\r\n+OK\r\n+QUEUED\r\n*1\r\n:1\r\n"


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


# -- writes of what is there -------------------------------------------------------------------------------------------

_PREPARED = ("SET s a", "SET n 5", "SADD t a", "ZADD z 1 a", "HSET h f v", "RPUSH l a", "PFADD p a", "EXPIRE n 1000")
_CHANGE_NOTHING = (
    "SADD t a", "SREM t b", "ZADD z 1 a", "ZADD z NX 5 a", "ZADD z XX 5 b", "ZADD z GT CH 0 a", "ZADD z NX INCR 1 a",
    "ZREM z b", "HSETNX h f w", "HDEL h g", "LREM l 0 b", "LPUSHX none a", "SETNX s b", "SET s b NX", "SET none b XX",
    "EXPIRE n 9 NX", "EXPIRE none 9", "PERSIST s", "DEL none", "SMOVE t u b", "RPOPLPUSH none l", "MSETNX s 1 u 2",
    "RENAMENX s n", "PFADD p a", "GETEX s", "INCR s", "SADD s a", "INCRBY n 9223372036854775807", "HSET s f v",
)  # fmt: skip


def _logged(node: MiniNode, client: Client, line: str) -> bytes:
    """Send a line where no guess is made."""
    node.reads.idleness.forget()
    before = node.index
    found = _run(node, client, line)
    assert node.index == before + 1, "it went into the log"
    return found


def _learnt(node: MiniNode, client: Client, line: str) -> bytes:
    """Send a line until its next is guessed to be idle; return the reply."""
    replies = {_run(node, client, line) for _ in range(idleness.GUESSED_FROM)}
    assert len(replies) == 1
    return replies.pop()


@pytest.mark.parametrize("line", _CHANGE_NOTHING)
@pytest.mark.parametrize("resp", [2, 3])
def test_what_has_lately_changed_nothing_is_answered_alike_without_an_entry(
    node: MiniNode, line: str, resp: int
) -> None:
    client = node.connect()
    client.connection.state.resp = resp
    _run(node, client, *_PREPARED)
    logged = _logged(node, client, line)
    assert _learnt(node, client, line) == logged != b""
    before, figures = node.index, node.applier.registers.figures()
    assert _run(node, client, line) == logged
    assert (node.index, node.applier.registers.figures()) == (before, figures), "no entry, nothing changed"


def test_statistics_are_those_of_a_write(node: MiniNode) -> None:
    clients = [node.connect() for _ in range(3)]
    _run(node, clients[0], "SADD t a", "SET s a")
    _learnt(node, clients[0], "SADD t a")
    _learnt(node, clients[0], "INCR s")
    statistics = node.executor._statistics
    statistics.reset()
    before = node.index
    for client in clients:
        client.send("SADD t a")
        client.send("INCR s")
    clients[0].send(*["SADD t a"] * 5)
    _settle(node)
    assert node.index == before
    sadd, incr = statistics.commands[COMMANDS[b"SADD"]], statistics.commands[COMMANDS[b"INCR"]]
    assert (sadd.calls, sadd.failed, sum(sadd.buckets.values())) == (8, 0, 8)
    assert (incr.calls, incr.failed, statistics.errors) == (3, 3, {"ERR": 3})
    assert (statistics.keyspace_hits, statistics.keyspace_misses) == (0, 0), "as Redis counts: reads only"
    error = b"-ERR value is not an integer or out of range\r\n"
    assert clients[0].received() == b":0\r\n" + error + b":0\r\n" * 5
    assert clients[1].received() == clients[2].received() == b":0\r\n" + error


def test_slow_ones_are_noted(node: MiniNode) -> None:
    client = node.connect()
    _run(node, client, "SADD t a")
    _learnt(node, client, "SADD t a")
    noted: list[bytes] = []
    node.executor.note_slow = lambda unit, argv, seconds: noted.append(b" ".join(argv))
    node.executor.slow_s = 0.0
    _run(node, client, "SADD t a")
    assert noted == [b"SADD t a"]


def test_a_change_between_the_guess_and_the_read_point_makes_it_a_write(node: MiniNode) -> None:
    one, same, other = node.connect(), node.connect(), node.connect()
    _run(node, one, "SADD t a b")
    _learnt(node, one, "SADD t a")
    one.send("SADD t a")
    same.send("SADD t a")
    other.send("SREM t a")
    node.tick()
    node.apply()  # the removal
    node.confirm()
    assert (one.received(), same.received(), other.received()) == (b"", b"", b":1\r\n"), "they are writes now"
    _settle(node)
    assert (one.received(), same.received()) == (b":1\r\n", b":0\r\n")
    assert _run(node, other, "SISMEMBER t a") == b":1\r\n"


def test_a_read_point_counts_only_once_it_is_applied_here(node: MiniNode) -> None:
    one, other = node.connect(), node.connect()
    _run(node, one, "SADD t a b")
    _learnt(node, one, "SADD t a")
    one.send("SADD t a")
    other.send("SREM t a")
    node.tick()
    node.confirm(node.index + 1)  # the leader has committed the removal, this node has not applied it
    assert one.received() == b""
    node.apply()
    _settle(node)
    assert (one.received(), other.received()) == (b":1\r\n", b":1\r\n")


def test_a_write_behind_it_on_its_connection_comes_behind_it(node: MiniNode) -> None:
    client = node.connect()
    _run(node, client, "SADD t a b")
    _learnt(node, client, "SADD t a")
    for line in ("SADD t a", "SREM t a", "SADD t a", "SISMEMBER t a", "SADD t a"):
        client.send(line)
    _settle(node)
    assert client.received() == b":0\r\n:1\r\n:1\r\n:1\r\n:0\r\n"


def test_a_read_behind_it_sees_what_it_did(node: MiniNode) -> None:
    client, other = node.connect(), node.connect()
    _run(node, client, "SADD t a b")
    _learnt(node, client, "SADD t a")
    client.send("SADD t a")
    client.send("SISMEMBER t a")
    other.send("SREM t a")
    node.tick()
    node.apply()
    node.confirm()
    _settle(node)
    assert client.received() == b":1\r\n:1\r\n"


def test_behind_an_unanswered_write_of_its_connection_nothing_is_tried(node: MiniNode) -> None:
    client = node.connect()
    _run(node, client, "SADD t a b")
    _learnt(node, client, "SADD t a")
    client.send("SREM t a")
    node.tick()
    client.send("SADD t a")
    _settle(node)
    assert client.received() == b":1\r\n:1\r\n"


def test_a_new_leader_is_asked_again(node: MiniNode) -> None:
    """The read point of a leader that was deposed, answered late, counts for nothing."""
    one, other = node.connect(), node.connect()
    _run(node, one, "SADD t a b")
    _learnt(node, one, "SADD t a")
    one.send("SADD t a")
    node.tick()
    deposed = node.asked[-1]
    node.reads.retry()
    other.send("SREM t a")
    node.tick()
    node.apply()
    node.reads.on_confirmed(deposed, 1, node.now_ms)
    node.settle()
    assert one.received() == b""
    node.confirm()
    _settle(node)
    assert one.received() == b":1\r\n"


def test_a_pipeline_of_one_line_is_tried_together(node: MiniNode) -> None:
    client, other = node.connect(), node.connect()
    _run(node, client, "SADD t a b")
    _learnt(node, client, "SADD t a")
    before = node.index
    client.send(*["SADD t a"] * 20)
    _settle(node)
    assert (client.received(), node.index) == (b":0\r\n" * 20, before)
    client.send(*["SADD t a"] * 20)
    other.send("SREM t a")
    node.tick()
    node.apply()
    node.confirm()
    _settle(node)
    assert client.received() == b":1\r\n" + b":0\r\n" * 19
    assert node.proposals.bytes_held == 0


def test_a_watched_key_is_as_it_was(node: MiniNode) -> None:
    watcher, other = node.connect(), node.connect()
    _run(node, other, "SADD t a")
    _learnt(node, other, "SADD t a")
    _run(node, watcher, "WATCH t")
    assert _run(node, other, "SADD t a") == b":0\r\n"
    assert _run(node, watcher, "MULTI", "SCARD t", "EXEC").endswith(b"*1\r\n:1\r\n")


def test_nothing_is_tried_inside_multi_nor_of_stale_readers_nor_of_extensions(node: MiniNode) -> None:
    client = node.connect()
    _run(node, client, "SADD t a")
    _learnt(node, client, "SADD t a")
    before = node.index
    _run(node, client, "MULTI", "SADD t a", "EXEC")
    assert node.index == before + 1
    client.connection.state.readonly = True
    _run(node, client, "SADD t a")
    assert node.index == before + 2
    client.connection.state.readonly = False
    node.dispatcher.stale_reads = True
    _run(node, client, "SADD t a")
    assert node.index == before + 3
    spec = COMMANDS[b"SADD"]
    assert idleness.may_be_tried(spec)
    assert not any(idleness.may_be_tried(COMMANDS[name]) for name in (b"GET", b"BLPOP", b"FLUSHALL", b"PING"))


def test_a_node_that_refuses_writes_refuses_these(node: MiniNode) -> None:
    client, other = node.connect(), node.connect()
    _run(node, client, "SADD t a b")
    _learnt(node, client, "SADD t a")
    client.send("SADD t a")
    other.send("SREM t a")
    node.tick()
    node.apply()
    node.dispatcher.write_refusal = DefiniteError("no room")
    node.confirm()
    _settle(node)
    assert client.received() == b"-ERR no room\r\n", "it was to be a write by then"
    assert _run(node, client, "SADD t b") == b"-ERR no room\r\n"


def test_paused_writes_wait_though_they_would_change_nothing(node: MiniNode) -> None:
    client = node.connect()
    _run(node, client, "SADD t a")
    _learnt(node, client, "SADD t a")
    node.clients.pause(PauseMode.WRITE, 1 << 40)
    assert _run(node, client, "SADD t a") == b""
    node.clients.unpause()
    node.dispatcher.tick()
    _settle(node)
    assert client.received() == b":0\r\n"


def test_a_large_collection_is_not_looked_through_twice(node: MiniNode) -> None:
    client = node.connect()
    _run(node, client, "RPUSH l " + " ".join(map(str, range(1000))))
    _learnt(node, client, "LREM l 0 none")
    before = node.index
    assert _run(node, client, "LREM l 0 none") == b":0\r\n"
    assert node.index == before + 1


def test_an_expired_key_is_no_key_to_a_write_that_is_tried(node: MiniNode) -> None:
    client = node.connect()
    _run(node, client, "SET s a PX 100")
    _learnt(node, client, "SETNX s b")
    node.now_ms += 1000
    assert _run(node, client, "SETNX s b", "GET s") == b":1\r\n$1\r\nb\r\n"


# -- guessing ----------------------------------------------------------------------------------------------------------


def test_writes_that_are_idle_now_and_then_are_left_alone() -> None:
    spec, known = COMMANDS[b"SADD"], Idleness()
    wrong = 0
    for step in range(1000):
        idle = step % 2 == 0
        guessed = known.guesses(spec, 0, b"k")
        if idle:
            known.seen(spec, 0, [b"SADD", b"k", b"m"])
        elif guessed:
            wrong += 1
            known.wrong(spec, 0, b"k")
    assert wrong <= 1000 // (2 * idleness.WRONG_GUESS) + 4
    for _ in range(20):
        known.seen(spec, 0, [b"SADD", b"k", b"m"])
    assert known.guesses(spec, 0, b"k")
    assert not known.guesses(spec, 1, b"k") and not known.guesses(COMMANDS[b"SREM"], 0, b"k")


def test_what_is_remembered_is_bounded() -> None:
    spec, known = COMMANDS[b"SADD"], Idleness()
    for number in range(3 * idleness.KEYS_MAX):
        known.seen(spec, 0, [b"SADD", b"%d" % number, b"m"], 4)
        assert sum(map(len, known.specs.values())) <= idleness.KEYS_MAX
    assert known.guesses(spec, 0, b"%d" % number)
    known.seen(spec, 0, [b"SADD", b"x" * 10_000, b"m"], 4)
    assert not known.guesses(spec, 0, b"x" * 10_000)


@pytest.mark.parametrize("seed", range(40))
def test_with_and_without_guesses_every_reply_and_the_state_are_the_same(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = random.Random(seed)
    choices = (
        *_CHANGE_NOTHING, *_IDLE[:2], "SREM t a", "DEL s", "SET s 5", "SMOVE t u a", "DEL z", "SPOP k", "RPUSH k a",
        "PERSIST n", "FLUSHDB", "SWAPDB 0 1", *_PREPARED,
    )  # fmt: skip
    lines = [*_PREPARED, *rng.choices(choices, k=150)]
    found = []
    for points in (1 << 30, 0):
        monkeypatch.setattr(idleness, "GUESSED_FROM", points)
        node = MiniNode()
        clients = [node.connect() for _ in range(3)]
        picks = random.Random(seed)
        replies = [_run(node, picks.choice(clients), line) for line in lines]
        found.append((replies, node.applier.registers.figures()))
    assert found[0] == found[1]
