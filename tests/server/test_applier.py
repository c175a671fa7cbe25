"""The applier: the same state on every node, however an entry is cut, replayed or delayed."""

from __future__ import annotations

import random
from typing import Any

import pytest

import zattredis.commands  # noqa: F401  (fills the command table)
from tests.server.mini_node import MiniNode
from tests.support.memory_store import MemoryStore
from zattredis.commands.table import COMMANDS
from zattredis.errors import FatalError, StateDamaged, WriteStalled
from zattredis.raft import entry as kinds
from zattredis.raft.entry import Entry, make_entry
from zattredis.server import applier as applier_module
from zattredis.server.applier import Applier
from zattredis.server.executor import Executor
from zattredis.server.sessions import Sessions
from zattredis.server.statistics import Statistics
from zattredis.storage.state_store import APPLIED_KEY, decode_applied, encode_applied


class Replica:
    """Another node: applies what the log holds, answers nobody."""

    def __init__(self, store: MemoryStore | None = None) -> None:
        if store is None:
            store = MemoryStore()
            store.write({APPLIED_KEY: encode_applied(0, 0)})
        self.store = store
        self.soon: list[Any] = []
        statistics = Statistics()
        self.applier = Applier(
            store=store, sessions=Sessions(),  # type: ignore[arg-type]
            executor=Executor(statistics, lambda local, spec: None, lambda unit, argv, seconds: None),
            on_applied=lambda index: None, on_entry=lambda entry: None, call_soon=self.soon.append,
            call_later=lambda seconds, function: self.soon.append(function),
        )  # fmt: skip

    def apply(self, entries: list[Entry], turns: int = 1_000_000) -> None:
        """Apply entries; stop after that many slices, as a crash would."""
        self.applier.enqueue(entries)
        self.applier.run()
        while self.soon and turns > 1:
            turns -= 1
            self.soon.pop(0)()


class RecordingNode(MiniNode):
    """A MiniNode that keeps every entry it applied."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        super().__init__()

    def apply(self, count: int | None = None) -> None:
        count = len(self.log) if count is None else count
        for number, (kind, payload) in enumerate(self.log[:count]):
            self.entries.append(make_entry(self.index + 1 + number, 1, kind, 1, self.now_ms, payload))
        super().apply(count)


def random_command(dice: random.Random) -> str:
    key = f"k{dice.randrange(6)}"
    return dice.choice(
        [
            f"SET {key} {dice.randrange(100)}", f"INCR {key}", f"APPEND {key} x", f"DEL {key}", f"GET {key}",
            f"EXPIRE {key} 100", f"PEXPIRE {key} 1", f"RENAME {key} k0", f"MSET {key} 1 k1 2", f"SETRANGE {key} 5 ab",
            f"RPUSH l{key} {dice.randrange(99)} b c", f"LPOP l{key}", f"LSET l{key} 0 {dice.randrange(99)}",
            f"ZADD z{key} {dice.randrange(9)} m{dice.randrange(9)}", f"HSET h{key} f{dice.randrange(9)} 1",
            f"SADD s{key} {dice.randrange(999)}", f"LREM l{key} 0 b", "FLUSHDB",
            "SWAPDB 0 1", f"COPY {key} k2 REPLACE", f"GETDEL {key}", "RANDOMKEY", f"INCRBYFLOAT {key} 1.5",
        ]
    )  # fmt: skip


@pytest.mark.parametrize("seed", range(25))
def test_origin_and_replicas_reach_the_same_bytes(seed: int) -> None:
    dice = random.Random(seed)
    node = RecordingNode()
    clients = [node.connect() for _ in range(3)]
    for _ in range(20):
        for client in clients:
            lines = [random_command(dice) for _ in range(dice.randrange(4))]
            if lines and dice.random() < 0.3:
                lines = ["MULTI", *lines, "EXEC"]
            client.send(*lines)
        node.now_ms += dice.randrange(5)
        node.tick()
        if dice.random() < 0.7:
            node.apply()
            if node.asked:
                node.confirm()
    node.apply()
    replica = Replica()
    replica.apply(node.entries)
    assert replica.store.data == node.store.data


@pytest.mark.parametrize("turns", range(1, 8))
def test_an_entry_cut_short_by_a_crash_goes_on_behind_its_last_written_command(
    turns: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = RecordingNode()
    client = node.connect()
    client.send(*[f"INCR k{number % 7}" for number in range(200)], "MULTI", "INCR k0", "INCR k1", "EXEC", "APPEND k0 x")
    node.tick()
    node.apply()
    monkeypatch.setattr(applier_module, "EFFECT_BYTES_PER_WRITE", 1)
    monkeypatch.setattr(applier_module, "perf_counter", lambda: 0.0)  # a busy machine would end turns of its own
    crashed = Replica()
    crashed.apply(node.entries, turns)
    applied = decode_applied(crashed.store.data[APPLIED_KEY])
    assert applied.ordinal > 0, "the entry was cut"
    again = Replica(MemoryStore(crashed.store.data))
    again.apply([entry for entry in node.entries if entry.index > applied.index])
    assert again.store.data == node.store.data


def test_a_store_that_asks_to_wait_delays_replies_and_loses_nothing() -> None:
    node = MiniNode()
    client = node.connect()
    client.send("SET a 1")
    node.tick()
    write = node.store.write
    refusals = [True, True]

    def stalling(changes: dict[bytes, bytes | None]) -> None:
        if refusals:
            refusals.pop()
            raise WriteStalled("wait")
        write(changes)

    node.store.write = stalling  # type: ignore[method-assign]
    held = node._later
    put_off: list[Any] = []
    node.applier._call_later = lambda seconds, function: put_off.append(function)
    node.apply()
    assert client.received() == b""
    assert not node.applier.readable
    put_off.pop()()
    assert client.received() == b""
    put_off.pop()()
    node.settle()
    assert client.received() == b"+OK\r\n"
    assert node.applier.stalls == 2
    assert held == node._later


def test_reads_wait_while_the_store_makes_the_applier_wait() -> None:
    node = MiniNode()
    writer, reader = node.connect(), node.connect()
    writer.send("SET a 1")
    node.tick()
    write = node.store.write

    def refuse(changes: dict[bytes, bytes | None]) -> None:
        raise WriteStalled("wait")

    put_off: list[Any] = []
    node.applier._call_later = lambda seconds, function: put_off.append(function)
    node.store.write = refuse  # type: ignore[method-assign]
    node.apply()
    reader.send("GET a")
    node.tick()
    node.confirm()
    assert reader.received() == b"", "the entry is applied in memory only"
    node.store.write = write  # type: ignore[method-assign]
    put_off.pop()()
    node.settle()
    assert reader.received() == b"$1\r\n1\r\n"


def test_an_exception_in_a_handler_becomes_an_error_everywhere_and_writes_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(ctx: Any, key: bytes) -> int:
        ctx.view.set_plain(ctx.db, key, b"half", 0)
        raise ValueError("a bug")

    monkeypatch.setattr(COMMANDS[b"INCR"], "handler", broken)
    node = RecordingNode()
    client = node.connect()
    client.send("SET a 1", "INCR a", "GET a", "MULTI", "SET b 1", "INCR a", "EXEC", "GET b")
    node.tick()
    node.apply()
    replies = client.received()
    assert b"-ERR internal error in 'incr': ValueError" in replies
    assert replies.endswith(b"$-1\r\n"), "the whole EXEC is discarded"
    assert b"$1\r\n1\r\n" in replies
    replica = Replica()
    replica.apply(node.entries)
    assert replica.store.data == node.store.data


def test_memory_errors_end_the_process_instead_of_becoming_an_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(ctx: Any, key: bytes) -> int:
        raise MemoryError

    monkeypatch.setattr(COMMANDS[b"INCR"], "handler", broken)
    node = MiniNode()
    client = node.connect()
    client.send("INCR a")
    node.tick()
    with pytest.raises(MemoryError):
        node.apply()


def test_entries_of_a_newer_version_or_unknown_kind_stop_the_node() -> None:
    for kind, version in ((kinds.NOOP, 99), (77, 1)):
        with pytest.raises(FatalError):
            Replica().apply([make_entry(1, 1, kind, version, 5, b"")])


def test_a_gap_stops_the_node() -> None:
    with pytest.raises(StateDamaged):
        Replica().apply([make_entry(2, 1, kinds.NOOP, 1, 5, b"")])


def test_a_batch_executes_once_however_often_the_log_holds_it() -> None:
    node = RecordingNode()
    client = node.connect()
    client.send("INCR a")
    node.tick()
    node.log.append(node.log[0])
    node.apply()
    client.send("GET a")
    node.tick()
    node.confirm()
    assert client.received() == b":1\r\n$1\r\n1\r\n"


def test_the_stamp_never_goes_back() -> None:
    replica = Replica()
    replica.apply([make_entry(1, 1, kinds.NOOP, 1, 500, b""), make_entry(2, 1, kinds.TIME, 1, 400, b"")])
    assert replica.applier.last_stamp_ms == 500
    assert Replica(replica.store).applier.last_stamp_ms == 500


def test_sets_carried_out_together_leave_the_same_bytes_as_one_after_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    node = RecordingNode()
    client = node.connect()
    client.send("SET k1 a EX 100", "SET k2 b", *[f"SET k{number % 5} {number}" for number in range(90)])
    node.tick()
    node.apply()
    assert client.received() == b"+OK\r\n" * 92
    monkeypatch.setattr(COMMANDS[b"SET"], "many", None)
    replica = Replica()
    replica.apply(node.entries)
    assert replica.store.data == node.store.data


def test_msets_carried_out_together_leave_the_same_bytes_as_one_after_the_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    node = RecordingNode()
    client = node.connect()
    pairs = [" ".join(f"k{(number * 7 + place) % 11} {number}:{place}" for place in range(5)) for number in range(80)]
    client.send("SET k1 a EX 100", "RPUSH k2 b", *[f"MSET {words}" for words in pairs], "MSET a 1 b", "MSET a 1 b 2")
    node.tick()
    node.apply()
    assert client.received() == (
        b"+OK\r\n:1\r\n" + b"+OK\r\n" * 80 + b"-ERR wrong number of arguments for 'mset' command\r\n+OK\r\n"
    )
    monkeypatch.setattr(COMMANDS[b"MSET"], "many", None)
    replica = Replica()
    replica.apply(node.entries)
    assert replica.store.data == node.store.data
