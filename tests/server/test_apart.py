"""Long commands in turns: the same bytes as in one go on every node, whatever comes in between, and others go on."""

from __future__ import annotations

import random
import threading
from typing import Any

import pytest

import zattredis.commands  # noqa: F401  (fills the command table)
from tests.server.test_applier import RecordingNode, Replica
from tests.support.memory_store import MemoryStore
from zattredis.commands import sorted_set_algebra
from zattredis.commands.table import COMMANDS
from zattredis.errors import WriteStalled
from zattredis.keyspace import sorting, spilling, zsets
from zattredis.server import apart, executor, proposals
from zattredis.storage import large_writes
from zattredis.storage.large_writes import finish
from zattredis.storage.state_store import APPLIED_KEY, decode_applied

BUILD = [
    "SADD s " + " ".join(f"m{number}" for number in range(900)),
    "SADD t " + " ".join(f"m{number}" for number in range(600, 1500)),
    "ZADD z " + " ".join(f"{number % 37} m{number}" for number in range(900)),
    "ZADD y " + " ".join(f"{number} m{number}" for number in range(500, 1200)),
    "HSET h " + " ".join(f"f{number} v{number}" for number in range(900)),
    "RPUSH l " + " ".join(f"e{number % 50}:{'x' * 30}" for number in range(900)),
    "GEOADD g " + " ".join(f"{number / 20} {number / 30} p{number}" for number in range(800)),
    "SETRANGE b 100000 x", "SETRANGE c 90000 y", "PFADD p " + " ".join(f"q{number}" for number in range(500)),
]  # fmt: skip
HEAVY = [
    "COPY s s2", "COPY z z2", "COPY h h2", "COPY l l2", "COPY b b2", "SUNIONSTORE u s t", "SINTERSTORE i s t",
    "SDIFFSTORE d s t", "SUNIONSTORE s s t", "ZUNIONSTORE zu 2 z y WEIGHTS 2 1", "ZINTERSTORE zi 2 z y",
    "ZDIFFSTORE zd 2 z y", "ZRANGESTORE zr z 10 700", "LREM l 0 e7:" + "x" * 30, "LPOP l 300", "RPOP l2 200",
    "SPOP t 300", "SPOP u 1300", "ZPOPMIN z 100", "ZMPOP 1 y MAX COUNT 300", "LMPOP 1 l LEFT COUNT 90",
    "ZREMRANGEBYSCORE z2 3 30", "ZREMRANGEBYRANK y 0 100", "SORT s2 ALPHA STORE sorted", "BITOP XOR x b c",
    "PFMERGE pm p p", "GEOSEARCHSTORE gs g FROMLONLAT 15 15 BYRADIUS 9000 km", "COPY nothing n2", "COPY s s2",
    "GEORADIUS g 15 15 900 km STORE gr", "LINSERT l2 BEFORE e9:" + "x" * 30 + " new",
]  # fmt: skip


@pytest.fixture(autouse=True)
def no_threads_left(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(proposals, "random_64", lambda: 7)  # SPOP draws the same in every node
    yield
    assert not [thread for thread in threading.enumerate() if thread.name == "zattredis-apart"]


def all_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on everything that is weighed is carried out apart, in the smallest turns and pieces."""
    monkeypatch.setattr(executor, "HEAVY_ELEMENTS", 8)
    monkeypatch.setattr(apart, "TURN_S", 0.0)
    monkeypatch.setattr(spilling, "PIECE_KEYS", 100)
    monkeypatch.setattr(apart, "STAGED_ABOVE_KEYS", 300)
    monkeypatch.setattr(large_writes, "PIECE_KEYS", 40)


def ran(node: RecordingNode, *lines: str) -> bytes:
    client = node.connect()
    client.send(*lines)
    node.tick()
    node.apply()
    return client.received()


def mixed(seed: int) -> list[str]:
    dice = random.Random(seed)
    lines = []
    for line in dice.sample(HEAVY, len(HEAVY)):
        lines.append(line)
        lines += dice.choice([[], ["INCR n"], ["MULTI", dice.choice(HEAVY), "INCR n", "PING", "GET n", "EXEC"]])
    return lines


@pytest.mark.parametrize("seed", range(3))
def test_it_leaves_the_bytes_and_replies_of_one_go(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = RecordingNode()
    expected = ran(whole, *BUILD) + ran(whole, *mixed(seed))
    all_apart(monkeypatch)
    node = RecordingNode()
    assert ran(node, *BUILD) + ran(node, *mixed(seed)) == expected
    assert node.store.data == whole.store.data
    replica = Replica()
    replica.apply(node.entries)
    assert replica.store.data == whole.store.data


@pytest.mark.parametrize("turns", [3, 10, 20, 40, 60, 90, 110, 115, 120, 200, 350])
def test_a_crash_in_its_midst_is_a_state_before_it(turns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    node = RecordingNode()
    ran(node, *BUILD)
    built = len(node.entries)
    ran(
        node, "SPOP t 400", "SUNIONSTORE s s t", "COPY h h2", "MULTI", "COPY z z2", "COPY s s3", "EXEC", "INCR n",
        "ZREMRANGEBYSCORE z 3 30", "LPOP l 700", "SPOP s 500",
    )  # fmt: skip
    all_apart(monkeypatch)
    crashed = Replica()
    crashed.apply(node.entries[:built])
    before = crashed.store.data.copy()
    crashed.apply(node.entries[built:], turns)
    crashed.applier.stop()
    finish(crashed.store, {APPLIED_KEY: crashed.store.data[APPLIED_KEY]})  # as opening a state database does
    applied = decode_applied(crashed.store.data[APPLIED_KEY])
    if not applied.ordinal and applied.index == node.entries[built - 1].index:
        changed = {key for key in crashed.store.data.keys() | before.keys() if key[:1] in b"kx"}
        assert all(crashed.store.data.get(key) == before.get(key) for key in changed), "nobody sees anything of it"
    again = Replica(MemoryStore(crashed.store.data))
    again.apply([entry for entry in node.entries if entry.index > applied.index])
    assert again.store.data == node.store.data


def test_others_are_answered_while_it_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    node = RecordingNode()
    ran(node, *BUILD, "SET k 1")
    all_apart(monkeypatch)
    slow, other, writer = node.connect(), node.connect(), node.connect()
    index = node.index
    slow.send("COPY s s2")
    node.tick()
    writer.send("SET k 2")
    node.tick()
    node.settle = lambda: None  # type: ignore[method-assign]
    node.apply()
    for _ in range(6):
        soon, node.soon = node.soon, []
        for function in soon:
            function()
    del node.settle
    other.send("PING", "GET k", "EXISTS s2")
    node.proposals.flush()
    node.reads.flush()
    node.reads.on_confirmed(node.asked[-1], index, node.now_ms)  # as on a node that is alone
    node.dispatcher.flush()
    assert other.received() == b"+PONG\r\n$1\r\n1\r\n:0\r\n"
    assert slow.received() == writer.received() == b"", "neither is done"
    node.settle()
    assert (slow.received(), writer.received()) == (b":1\r\n", b"+OK\r\n")


@pytest.mark.parametrize(
    "line", ["ZREMRANGEBYRANK z 10 800", "SPOP t 440", "ZREM z " + " ".join(f"m{number}" for number in range(800))]
)
def test_reads_see_what_was_before_until_all_its_pieces_are_carried_out(
    line: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = RecordingNode()
    ran(node, *BUILD, "SET k 1")
    all_apart(monkeypatch)
    slow, other = node.connect(), node.connect()
    index = node.index
    asked = ("GET k", "ZCARD z", "SCARD t", "ZSCORE z m500", "ZRANGE z 0 -1", "SMEMBERS t")
    other.send(*asked)
    node.tick()
    node.confirm()
    before = other.received()
    slow.send("MULTI", "SET k 2", line, "EXEC")
    node.tick()
    assert slow.received() == b"+OK\r\n+QUEUED\r\n+QUEUED\r\n"
    node.settle = lambda: None  # type: ignore[method-assign]
    node.apply()
    in_pieces = 0
    seen = found = b""
    while node.applier.applied_index == index:
        seen += found
        unsettled = not node.applier.settled
        other.send(*asked)
        node.proposals.flush()
        node.reads.flush()
        node.reads.on_confirmed(node.asked[-1], index, node.now_ms)  # as on a node that is alone
        node.dispatcher.flush()
        soon, node.soon = node.soon, []
        for function in soon:
            function()
        found = other.received()
        in_pieces += unsettled and found != b""
    assert in_pieces > 5
    assert (before * (len(seen) // len(before) + 1)).startswith(seen)
    del node.settle
    node.settle()
    reader = node.connect()
    reader.send("GET k")
    node.turn()
    assert reader.received() == b"$1\r\n2\r\n"


def test_what_fails_late_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = ["COPY s s2", "MULTI", "SET a 1", "COPY s s3", "COPY z z3", "EXEC", "SADD s2 one", "COPY s2 s4"]
    whole, node = RecordingNode(), RecordingNode()
    ran(whole, *BUILD)
    ran(node, *BUILD)
    monkeypatch.setattr(executor, "EFFECT_BYTES_MAX", 50_000)
    expected = ran(whole, *lines)
    assert expected.count(b"writes more than") == 2
    all_apart(monkeypatch)
    assert ran(node, *lines) == expected
    assert node.store.data == whole.store.data


def test_what_an_exec_puts_in_order_outside_of_memory_is_gone_behind_it(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [
        "MULTI", "COPY s s2", "ZUNION 2 z y WITHSCORES", "ZUNIONSTORE u 2 z y", "SORT l ALPHA LIMIT 1 3",
        "GEOSEARCH g FROMLONLAT 15 15 BYRADIUS 9000 km ASC", "SORT s2 ALPHA DESC", "EXEC",
    ]  # fmt: skip
    whole, node = RecordingNode(), RecordingNode()
    ran(whole, *BUILD)
    ran(node, *BUILD)
    expected = ran(whole, *lines)
    all_apart(monkeypatch)
    for module in (sorting, zsets, sorted_set_algebra):
        monkeypatch.setattr(module, "HELD_MAX", 50)
    monkeypatch.setattr(spilling, "RUN_ROWS", 40)
    write, runs = node.store.write, 0

    def counted(changes: dict[bytes, bytes | None]) -> None:
        nonlocal runs
        runs += sum(1 for key, value in changes.items() if key[1:9] == b"\xff" * 8 and value is not None)
        write(changes)

    node.store.write = counted  # type: ignore[method-assign]
    assert ran(node, *lines) == expected
    assert runs > 20
    assert node.store.data == whole.store.data


@pytest.mark.parametrize("line", ["COPY s s2", "COPY z z2", "ZUNIONSTORE z2 2 z s", "SUNIONSTORE s2 s t"])
def test_what_would_write_too_much_stops_before_it_has(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [line, "MULTI", "SET a 1", line, "SET b 1", "EXEC", "EXISTS a b s2 z2"]
    whole, node = RecordingNode(), RecordingNode()
    ran(whole, *BUILD)
    ran(node, *BUILD)
    for module in (executor, spilling):
        monkeypatch.setattr(module, "EFFECT_BYTES_MAX", 20_000)
    expected = ran(whole, *lines)
    assert expected.count(b"writes more than") == 2
    all_apart(monkeypatch)
    monkeypatch.setattr(spilling, "PIECE_KEYS", 16)
    write, written = node.store.write, 0

    def measured(changes: dict[bytes, bytes | None]) -> None:
        nonlocal written
        written += sum(len(value) + len(key) for key, value in changes.items() if value is not None)
        write(changes)

    node.store.write = measured  # type: ignore[method-assign]
    assert ran(node, *lines) == expected
    assert written < 2 * 25_000
    assert node.store.data == whole.store.data


def test_a_store_that_asks_to_wait_delays_it(monkeypatch: pytest.MonkeyPatch) -> None:
    node = RecordingNode()
    ran(node, *BUILD)
    all_apart(monkeypatch)
    write, calls = node.store.write, 0

    def stalling(changes: dict[bytes, bytes | None]) -> None:
        nonlocal calls
        calls += 1
        if calls % 3:
            raise WriteStalled("wait")
        write(changes)

    node.store.write = stalling  # type: ignore[method-assign]
    assert ran(node, "COPY s s2", "SCARD s2") [:4] == b":1\r\n"
    assert calls > 9
    replica = Replica()
    replica.apply(node.entries)
    assert replica.store.data == node.store.data


def test_an_exception_of_a_handler_becomes_an_error_and_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    copy = COMMANDS[b"COPY"].handler

    def broken(ctx: Any, *words: bytes) -> int:
        copy(ctx, *words)
        raise ValueError("a bug")

    node = RecordingNode()
    ran(node, *BUILD)
    before = {key: value for key, value in node.store.data.items() if key[:1] != b"m"}
    all_apart(monkeypatch)
    monkeypatch.setattr(COMMANDS[b"COPY"], "handler", broken)
    assert b"-ERR internal error in 'copy'" in ran(node, "COPY s s2")
    assert {key: value for key, value in node.store.data.items() if key[:1] != b"m"} == before


def test_a_broken_process_is_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(ctx: Any, *words: bytes) -> int:
        raise MemoryError

    node = RecordingNode()
    ran(node, *BUILD)
    all_apart(monkeypatch)
    monkeypatch.setattr(COMMANDS[b"COPY"], "handler", broken)
    with pytest.raises(MemoryError):
        ran(node, "COPY s s2")


def test_a_handler_that_does_not_come_back_goes_on_beside_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in one long call of C code: the loop does not wait for it."""
    copy, go_on = COMMANDS[b"COPY"].handler, threading.Event()

    def long(ctx: Any, *words: bytes) -> Any:
        go_on.wait()
        return copy(ctx, *words)

    node = RecordingNode()
    ran(node, *BUILD)
    all_apart(monkeypatch)
    monkeypatch.setattr(COMMANDS[b"COPY"], "handler", long)
    client, other = node.connect(), node.connect()
    client.send("COPY s s2")
    node.tick()
    node.settle = lambda: None  # type: ignore[method-assign]
    node.apply()
    other.send("PING")
    node.dispatcher.flush()
    assert other.received() == b"+PONG\r\n"
    go_on.set()
    del node.settle
    node.settle()
    assert client.received() == b":1\r\n"


def test_very_many_words_are_carried_out_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    turns = 0
    turn = apart.Apart.turn

    def counted(self: apart.Apart) -> float:
        nonlocal turns
        turns += 1
        return turn(self)

    monkeypatch.setattr(apart.Apart, "turn", counted)
    monkeypatch.setattr(apart, "TURN_S", 0.0)
    lines = [
        "SADD big " + " ".join(map(str, range(17_000))), *[f"SADD some {number}" for number in range(40)],
        "RPUSH list " + " ".join(map(str, range(3_000))), "MULTI", *["INCR n"] * 5000, "EXEC",
    ]  # fmt: skip
    node = RecordingNode()
    assert ran(node, *lines).startswith(b":17000\r\n")
    assert turns > 20
    replica = Replica()
    replica.apply(node.entries)
    assert replica.store.data == node.store.data
