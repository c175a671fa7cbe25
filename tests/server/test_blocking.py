"""Blocking pops on one origin, step by step: who is served, by which entry, and what becomes of an element."""

from __future__ import annotations

import random

import msgspec
import pytest

import zattredis.commands  # noqa: F401  (fills the command table)
from tests.server.mini_node import Client, MiniNode
from tests.server.test_applier import RecordingNode, Replica
from zattredis.keyspace.registers import Registers
from zattredis.keyspace.waiters import META_WAITERS, Waiters
from zattredis.raft import entry as kinds
from zattredis.raft.entry import make_entry
from zattredis.server import applier, blocking, executor
from zattredis.server.sessions import BATCH_HEADER, encode_open


class Clock:
    """The monotonic clock that timeouts are counted by."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(blocking, "monotonic", clock)
    return clock


@pytest.fixture
def node(clock: Clock) -> MiniNode:
    return MiniNode()


class OtherNode:
    """Another origin of the same cluster, seen through the log alone."""

    def __init__(self, node: MiniNode, node_id: str = "n2", nonce: int = 7) -> None:
        self.node = node
        node.log.append((kinds.OPEN, encode_open(node_id, nonce)))
        node.apply()
        self.session = node.index
        self.sequence = 0

    def send(self, *lines: str, db: int = 0) -> None:
        """Put commands into the log, not applied yet."""
        self.sequence += 1
        argvs = [[word.encode() for word in line.split()] for line in lines]
        payload = BATCH_HEADER.pack(self.session, self.sequence, 1) + msgspec.msgpack.encode([[db, argvs]])
        self.node.log.append((kinds.BATCH, payload))

    def run(self, *lines: str, db: int = 0) -> None:
        """Carry out commands."""
        self.send(*lines, db=db)
        self.node.apply()


def run(client: Client, *lines: str) -> bytes:
    """Send commands, let their entry and all that follows from it apply, return what has arrived."""
    client.send(*lines)
    settle(client.node)
    return client.received()


def settle(node: MiniNode) -> None:
    """Apply until nothing more is proposed, and confirm the reads that wait."""
    for _ in range(10):
        node.tick()
        node.apply()
        if node.reads._round is not None:
            node.confirm()
    assert not node.log


def waiters_of(node: MiniNode) -> Waiters:
    """The waiters, having been compared with what the store would load."""
    waiters = node.applier.registers.waiters
    loaded = Waiters()
    loaded.load(node.store)
    assert {place: list(line) for place, line in loaded.lines.items()} == {
        place: list(line) for place, line in waiters.lines.items()
    }
    assert loaded._names == waiters._names
    assert loaded.by_order.keys() == waiters.by_order.keys()
    assert {session: set(mine) for session, mine in loaded.by_session.items()} == {
        session: set(mine) for session, mine in waiters.by_session.items()
    }
    return waiters


def nobody_waits(node: MiniNode) -> bool:
    waiters = waiters_of(node)
    rows = list(node.store.iterate(META_WAITERS, b"mwaiter0"))
    return not waiters.by_order and not waiters.lines and not rows and not len(node.blocking)


POPPED = b"*2\r\n$1\r\nk\r\n$1\r\n%s\r\n"


# -- serving -----------------------------------------------------------------------------------------------------------


def test_a_pop_that_finds_something_is_one_entry(node: MiniNode) -> None:
    client = node.connect()
    run(client, "RPUSH k a b")
    client.send("BLPOP k 0")
    node.tick()
    assert len(node.log) == 1
    node.apply()
    assert client.received() == POPPED % b"a"
    assert nobody_waits(node)


def test_a_waiter_is_served_by_the_push_and_has_its_element_once_that_is_settled(node: MiniNode) -> None:
    waiter, pusher = node.connect(), node.connect()
    assert run(waiter, "BLPOP k 0") == b""
    assert waiter.connection.state.flags == "b"
    assert node.clients.blocked_count() == 1
    pusher.send("RPUSH k a", "LLEN k")
    node.tick()
    node.apply()
    assert pusher.received() == b":1\r\n:0\r\n", "nobody sees the element that is somebody's already"
    assert waiter.received() == b"", "it is not the client's before the log says so"
    node.tick()
    assert len(node.log) == 1
    node.apply()
    assert waiter.received() == POPPED % b"a"
    assert node.clients.blocked_count() == 0
    assert nobody_waits(node)


def test_waiters_are_served_in_the_order_of_the_log_whatever_their_nodes(node: MiniNode) -> None:
    first, third = node.connect(), node.connect()
    other = OtherNode(node)
    run(first, "BLPOP k 0")
    other.run("BLPOP k 0")
    run(third, "BLPOP k 0")
    other.send("RPUSH k a b c")
    node.apply()
    settle(node)
    assert first.received() == POPPED % b"a"
    assert third.received() == POPPED % b"c"
    (row,) = waiters_of(node).by_session[other.session].values()
    assert row.reserved, "b is kept for the other node's client"


def test_a_new_pop_never_overtakes_one_that_waits(node: MiniNode) -> None:
    first, second = node.connect(), node.connect()
    run(first, "BLPOP k 0")
    second.send("RPUSH k a", "BLPOP k 0")
    settle(node)
    assert first.received() == POPPED % b"a"
    assert second.received() == b":1\r\n"


def test_a_plain_pop_in_the_same_entry_finds_nothing_behind_a_push_that_was_waited_for(node: MiniNode) -> None:
    waiter, pusher = node.connect(), node.connect()
    run(waiter, "BLPOP k 0")
    assert run(pusher, "RPUSH k a", "LPOP k", "RPUSH k b", "LPOP k") == b":1\r\n$-1\r\n:1\r\n$1\r\nb\r\n"
    assert waiter.received() == POPPED % b"a"


def test_keys_are_served_in_the_order_of_their_first_change(node: MiniNode) -> None:
    waiter, pusher = node.connect(), node.connect()
    run(waiter, "BLPOP x k 0")
    run(pusher, "MULTI", "RPUSH k a", "RPUSH x b", "EXEC")
    assert waiter.received() == POPPED % b"a"
    assert run(pusher, "LRANGE x 0 -1") == b"*1\r\n$1\r\nb\r\n"
    assert nobody_waits(node)


def test_the_whole_exec_comes_first(node: MiniNode) -> None:
    waiter, pusher = node.connect(), node.connect()
    run(waiter, "BLPOP k 0")
    run(pusher, "MULTI", "RPUSH k a", "DEL k", "EXEC")
    assert waiter.received() == b""
    run(pusher, "MULTI", "LPUSH k a", "LPUSH k b", "LPUSH k c", "EXEC")
    assert waiter.received() == POPPED % b"c"


def test_a_failed_exec_serves_nobody_and_wakes_nobody(node: MiniNode) -> None:
    waiter, pusher = node.connect(), node.connect()
    run(waiter, "BLPOP k 0")
    run(pusher, "SET s x", "MULTI", "RPUSH s a", "RPUSH t a", "EXEC")
    assert waiter.received() == b""
    assert run(pusher, "RPUSH k a") == b":1\r\n"
    assert waiter.received() == POPPED % b"a"


def test_inside_exec_nobody_waits(node: MiniNode) -> None:
    client = node.connect()
    replies = run(client, "MULTI", "BLPOP k 0", "BLMOVE k x LEFT LEFT 0", "BZPOPMIN k 0", "EXEC")
    assert replies.endswith(b"*3\r\n*-1\r\n$-1\r\n*-1\r\n")
    assert nobody_waits(node)


def test_chains_of_moves_are_carried_out_by_the_entry_that_pushes(node: MiniNode) -> None:
    one, two, pusher = node.connect(), node.connect(), node.connect()
    run(one, "BLMOVE k l LEFT RIGHT 0")
    run(two, "BLMOVE l m LEFT RIGHT 0")
    pusher.send("RPUSH k a", "LRANGE m 0 -1")
    node.tick()
    node.apply()
    assert pusher.received() == b":1\r\n*1\r\n$1\r\na\r\n"
    assert one.received() == two.received() == b"$1\r\na\r\n"
    assert nobody_waits(node)


def test_a_move_to_a_key_of_another_type_fails_and_leaves_the_element_to_the_next(node: MiniNode) -> None:
    one, two, pusher = node.connect(), node.connect(), node.connect()
    run(pusher, "SET s x")
    run(one, "BLMOVE k s LEFT LEFT 0")
    run(two, "BLPOP k 0")
    run(pusher, "RPUSH k a")
    assert one.received().startswith(b"-WRONGTYPE")
    assert two.received() == POPPED % b"a"


def test_another_type_wakes_nobody_and_its_own_waiters_only(node: MiniNode) -> None:
    lists, sets, pusher = node.connect(), node.connect(), node.connect()
    run(lists, "BLPOP k 0")
    run(sets, "BZPOPMIN k 0")
    run(pusher, "SET k x", "DEL k")
    assert lists.received() == sets.received() == b""
    run(pusher, "ZADD k 1 a")
    assert lists.received() == b""
    assert sets.received() == b"*3\r\n$1\r\nk\r\n$1\r\na\r\n$1\r\n1\r\n"
    run(pusher, "RPUSH k b")
    assert lists.received() == POPPED % b"b"


@pytest.mark.parametrize(
    "lines",
    [
        ["RPUSH src a", "RENAME src k"],
        ["RPUSH src a", "COPY src k"],
        ["SELECT 1", "RPUSH k a", "MOVE k 0"],
        ["SELECT 1", "RPUSH k a", "SWAPDB 0 1"],
        ["FLUSHALL", "RPUSH k a"],
        ["SET k x", "FLUSHDB", "RPUSH k a"],
        ["RPUSH src a", "LMOVE src k LEFT LEFT"],
        ["MULTI", "RPUSH k a", "FLUSHALL", "RPUSH k a", "EXEC"],
    ],
)
def test_whatever_makes_the_key_a_list_wakes(node: MiniNode, lines: list[str]) -> None:
    waiter, pusher = node.connect(), node.connect()
    run(waiter, "BLPOP k 0")
    run(pusher, *lines)
    assert waiter.received() == POPPED % b"a"
    assert nobody_waits(node)


def test_a_waiter_waits_in_its_database(node: MiniNode) -> None:
    waiter, pusher = node.connect(), node.connect()
    run(waiter, "SELECT 3")
    waiter.received()
    run(waiter, "BLPOP k 0")
    run(pusher, "RPUSH k a")
    assert waiter.received() == b""
    run(pusher, "SELECT 3", "RPUSH k b")
    assert waiter.received() == POPPED % b"b"


def test_the_same_key_twice_is_waited_for_once(node: MiniNode) -> None:
    waiter, pusher = node.connect(), node.connect()
    run(waiter, "BLPOP k x k 0")
    run(pusher, "RPUSH k a b")
    assert waiter.received() == POPPED % b"a"
    assert run(pusher, "LLEN k") == b":1\r\n"


def test_replies_of_resp_3_and_of_the_counted_pops(node: MiniNode) -> None:
    one, two, pusher = node.connect(), node.connect(), node.connect()
    for client in (one, two):
        client.connection.state.resp = 3
    run(one, "BZMPOP 0 1 k MAX COUNT 2")
    run(two, "BZPOPMAX k 0")
    run(pusher, "ZADD k 1 a 2 b 3 c")
    assert one.received() == b"*2\r\n$1\r\nk\r\n*2\r\n*2\r\n$1\r\nc\r\n,3\r\n*2\r\n$1\r\nb\r\n,2\r\n"
    assert two.received() == b"*3\r\n$1\r\nk\r\n$1\r\na\r\n,1\r\n"
    run(one, "BLMPOP 0 2 x k RIGHT COUNT 5")
    run(pusher, "RPUSH k a b")
    assert one.received() == b"*2\r\n$1\r\nk\r\n*2\r\n$1\r\nb\r\n$1\r\na\r\n"


def test_requests_behind_a_blocked_one_wait(node: MiniNode) -> None:
    waiter, pusher = node.connect(), node.connect()
    run(waiter, "INCR n", "BLPOP k 0", "INCR n", "GET n")
    assert waiter.received() == b""
    assert run(pusher, "GET n") == b"$1\r\n1\r\n"
    run(pusher, "RPUSH k a")
    assert waiter.received() == POPPED % b"a" + b":2\r\n$1\r\n2\r\n"


def test_replies_that_nobody_wants_are_not_sent(node: MiniNode) -> None:
    waiter, pusher = node.connect(), node.connect()
    run(waiter, "CLIENT REPLY SKIP", "BLPOP k 0", "PING")
    run(pusher, "RPUSH k a")
    assert waiter.received() == b"+PONG\r\n"
    assert run(pusher, "LLEN k") == b":0\r\n"


def test_a_waiter_is_known_here_however_its_entry_is_cut(node: MiniNode, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (applier, executor):
        monkeypatch.setattr(module, "COMMANDS_A_TURN", 1)
    monkeypatch.setattr(applier, "EFFECT_BYTES_PER_WRITE", 1)
    waiter, pusher = node.connect(), node.connect()
    assert run(waiter, "BLPOP k 0") == b""
    assert len(node.blocking) == 1
    assert run(pusher, "RPUSH k a") == b":1\r\n"
    assert waiter.received() == POPPED % b"a"
    assert nobody_waits(node)


# -- ends of waiting ---------------------------------------------------------------------------------------------------


def test_a_timeout_is_answered_when_the_log_has_agreed(node: MiniNode, clock: Clock) -> None:
    waiter = node.connect()
    run(waiter, "BLPOP k 1.5")
    clock.now += 1.4
    node.blocking.expire()
    settle(node)
    assert waiter.received() == b""
    clock.now += 0.2
    node.blocking.expire()
    node.tick()
    assert waiter.received() == b""
    settle(node)
    assert waiter.received() == b"*-1\r\n"
    assert nobody_waits(node)


def test_an_element_that_comes_before_the_timeout_in_the_log_wins(node: MiniNode, clock: Clock) -> None:
    waiter = node.connect()
    other = OtherNode(node)
    run(waiter, "BLPOP k 1")
    other.send("RPUSH k a")
    clock.now += 2
    node.blocking.expire()
    node.tick()
    node.apply()
    settle(node)
    assert waiter.received() == POPPED % b"a"
    assert nobody_waits(node)


def test_a_timeout_that_comes_first_in_the_log_leaves_the_element_where_it_is(node: MiniNode, clock: Clock) -> None:
    waiter = node.connect()
    other = OtherNode(node)
    run(waiter, "BLPOP k 1")
    clock.now += 2
    node.blocking.expire()
    node.tick()
    other.send("RPUSH k a")
    node.apply()
    settle(node)
    assert waiter.received() == b"*-1\r\n"
    assert run(waiter, "LRANGE k 0 -1") == b"*1\r\n$1\r\na\r\n"


def test_client_unblock(node: MiniNode) -> None:
    waiter = node.connect()
    for error, reply in [
        (False, b"*-1\r\n"),
        (True, b"-UNBLOCKED client unblocked via CLIENT UNBLOCK\r\n"),
    ]:
        run(waiter, "BLMOVE k x LEFT LEFT 0")
        assert waiter.connection.state.unblock(error)
        assert not waiter.connection.state.unblock(error), "once"
        settle(node)
        assert waiter.received() == reply
    assert not waiter.connection.state.unblock(False)
    assert nobody_waits(node)


def gone(client: Client) -> None:
    client.connection.connection_lost(None)


def test_a_client_that_goes_leaves_the_line(node: MiniNode) -> None:
    first, second, pusher = node.connect(), node.connect(), node.connect()
    run(first, "BLPOP k 0")
    run(second, "BLPOP k 0")
    gone(first)
    settle(node)
    run(pusher, "RPUSH k a")
    assert second.received() == POPPED % b"a"
    assert nobody_waits(node)


@pytest.mark.parametrize("side", ["BLPOP k 0", "BRPOP k 0", "BLMPOP 0 1 k LEFT COUNT 2", "BLMPOP 0 1 k RIGHT COUNT 2"])
def test_what_was_reserved_for_a_client_that_went_goes_back_to_its_place(node: MiniNode, side: str) -> None:
    waiter, pusher = node.connect(), node.connect()
    run(waiter, side)
    pusher.send("RPUSH k a b c")
    node.tick()
    node.apply()
    gone(waiter)
    settle(node)
    pusher.received()
    assert run(pusher, "LRANGE k 0 -1") == b"*3\r\n$1\r\na\r\n$1\r\nb\r\n$1\r\nc\r\n"
    assert nobody_waits(node)


def test_a_member_that_goes_back_keeps_its_score_or_that_it_got_since(node: MiniNode) -> None:
    one, two, pusher = node.connect(), node.connect(), node.connect()
    run(one, "BZPOPMIN k 0")
    run(two, "BZMPOP 0 1 k MIN COUNT 2")
    pusher.send("ZADD k 1 a 2 b 3 c 4 d")
    node.tick()
    node.apply()
    gone(one)
    gone(two)
    pusher.send("ZADD k 9 b")
    settle(node)
    pusher.received()
    assert run(pusher, "ZRANGE k 0 -1 WITHSCORES") == (
        b"*8\r\n$1\r\na\r\n$1\r\n1\r\n$1\r\nc\r\n$1\r\n3\r\n$1\r\nd\r\n$1\r\n4\r\n$1\r\nb\r\n$1\r\n9\r\n"
    )


def test_what_goes_back_is_served_to_the_next_in_line(node: MiniNode) -> None:
    first, second, pusher = node.connect(), node.connect(), node.connect()
    run(first, "BLPOP k 0")
    run(second, "BLPOP k 0")
    pusher.send("RPUSH k a")
    node.tick()
    node.apply()
    gone(first)
    settle(node)
    assert second.received() == POPPED % b"a"


def test_an_element_that_is_settled_for_a_client_that_went_meanwhile_goes_back(node: MiniNode) -> None:
    waiter, pusher = node.connect(), node.connect()
    run(waiter, "BLPOP k 0")
    pusher.send("RPUSH k a", "PEXPIRE k 100000")
    node.tick()
    node.apply()
    node.tick()
    assert len(node.log) == 1, "settling is under way"
    gone(waiter)
    settle(node)
    pusher.received()
    assert run(pusher, "LRANGE k 0 -1", "PTTL k") == b"*1\r\n$1\r\na\r\n:-1\r\n"
    assert nobody_waits(node)
    assert node.blocking.idle


def test_an_element_that_was_popped_at_once_for_a_client_that_went_meanwhile_goes_back(node: MiniNode) -> None:
    popper, pusher = node.connect(), node.connect()
    run(pusher, "RPUSH k a", "PEXPIRE k 100000")
    popper.send("BLPOP k 0")
    node.tick()
    gone(popper)
    settle(node)
    assert run(pusher, "LRANGE k 0 -1", "PTTL k") == b"*1\r\n$1\r\na\r\n:100000\r\n"


@pytest.mark.parametrize("at_once", [False, True])
def test_an_element_whose_reply_was_never_written_goes_back(node: MiniNode, at_once: bool) -> None:
    """The client goes in the very tick in which it is answered."""
    gone, other = node.connect(), node.connect()
    if at_once:
        run(other, "RPUSH q a")
        gone.send("BLPOP q 0")
    else:
        run(gone, "BLPOP q 0")
        other.send("RPUSH q a")
    node.tick()
    while node.log:  # as `apply` does it, without the end of the tick
        kind, payload = node.log.pop(0)
        node.index += 1
        node.applier.enqueue([make_entry(node.index, 1, kind, 1, node.now_ms, payload)])
        node.applier.run()
        if gone.connection.out:
            break
        node.blocking.flush()
        node.proposals.flush()
    assert b"".join(gone.connection.out) == b"*2\r\n$1\r\nq\r\n$1\r\na\r\n"
    gone.connection.connection_lost(None)
    settle(node)
    assert gone.received() == b""
    other.received()
    assert run(other, "LRANGE q 0 -1") == b"*1\r\n$1\r\na\r\n"


def test_an_element_whose_reply_was_written_does_not_come_back(node: MiniNode) -> None:
    gone, other = node.connect(), node.connect()
    run(other, "RPUSH q a")
    assert run(gone, "BLPOP q 0") == b"*2\r\n$1\r\nq\r\n$1\r\na\r\n"
    gone.connection.connection_lost(None)
    settle(node)
    assert run(other, "LLEN q") == b":0\r\n"
    assert node.blocking._given == []


def test_what_was_flushed_or_overwritten_meanwhile_does_not_come_back(node: MiniNode) -> None:
    for lines, key in [(["FLUSHALL"], b"none"), (["SET k x"], b"string"), (["SWAPDB 0 1"], b"none")]:
        waiter, pusher = node.connect(), node.connect()
        run(pusher, "DEL k")
        run(waiter, "BLPOP k 0")
        pusher.send("RPUSH k a", *lines)
        node.tick()
        node.apply()
        gone(waiter)
        settle(node)
        pusher.received()
        assert run(pusher, "TYPE k") == b"+%b\r\n" % key
        assert nobody_waits(node)
    assert run(pusher, "SELECT 1", "LRANGE k 0 -1") == b"+OK\r\n*1\r\n$1\r\na\r\n", "it went with its database"


def test_a_client_that_goes_before_its_command_is_applied_leaves_nothing(node: MiniNode) -> None:
    waiter = node.connect()
    waiter.send("BLPOP k 0")
    node.tick()
    gone(waiter)
    settle(node)
    assert nobody_waits(node)


# -- nodes and sessions ------------------------------------------------------------------------------------------------


def test_a_node_that_starts_again_takes_its_waiters_with_it(node: MiniNode) -> None:
    client = node.connect()
    other = OtherNode(node)
    other.run("BLPOP k 0", "BLPOP k 0")
    other.run("RPUSH k a b c")
    assert run(client, "LRANGE k 0 -1") == b"*1\r\n$1\r\nc\r\n"
    run(client, "BLPOP l 0")
    OtherNode(node, nonce=8)
    assert [waiter.keys for waiter in waiters_of(node).by_order.values()] == [(b"l",)]
    reader = node.connect()
    assert run(reader, "LRANGE k 0 -1") == b"*3\r\n$1\r\na\r\n$1\r\nb\r\n$1\r\nc\r\n"


def test_waiters_of_a_silent_node_are_dropped_and_others_get_what_it_held(node: MiniNode) -> None:
    client = node.connect()
    other = OtherNode(node)
    other.run("BLPOP k 0")
    run(client, "BLPOP k 0")
    other.run("RPUSH k a")
    settle(node)
    assert client.received() == b""
    node.blocking.drop(other.session)
    node.blocking.drop(other.session)
    node.tick()
    assert len(node.log) == 1
    settle(node)
    assert client.received() == POPPED % b"a"
    assert nobody_waits(node)


def test_clients_whose_waiters_were_dropped_resume_at_their_old_places(node: MiniNode) -> None:
    first, second = node.connect(), node.connect()
    other = OtherNode(node)
    run(first, "BLPOP k 0")
    other.run("BLPOP k 0")
    run(second, "BLPOP k 0")
    other.run(f"\0drop {node.proposals.session}")
    assert len(waiters_of(node).by_order) == 1
    settle(node)
    assert len(waiters_of(node).by_order) == 3
    other.run("RPUSH k a b c")
    settle(node)
    assert first.received() == POPPED % b"a"
    assert second.received() == POPPED % b"c"


def test_one_that_resumes_is_served_with_what_came_meanwhile(node: MiniNode) -> None:
    client = node.connect()
    other = OtherNode(node)
    run(client, "BLPOP k 0")
    other.run(f"\0drop {node.proposals.session}", "RPUSH k a")
    settle(node)
    assert client.received() == POPPED % b"a"


def test_dropped_while_settling_is_under_way_loses_nothing(node: MiniNode) -> None:
    client = node.connect()
    other = OtherNode(node)
    run(client, "BLPOP k 0")
    other.run("RPUSH k a")
    other.send(f"\0drop {node.proposals.session}")
    node.tick()  # settling stands behind the drop
    node.apply()
    settle(node)
    assert client.received() == POPPED % b"a", "it resumed, and its element was back"
    assert nobody_waits(node)


def test_a_timeout_of_one_that_was_dropped_is_answered(node: MiniNode, clock: Clock) -> None:
    client = node.connect()
    other = OtherNode(node)
    run(client, "BLPOP k 1")
    other.send(f"\0drop {node.proposals.session}")
    clock.now += 2
    node.blocking.expire()
    node.tick()
    node.apply()
    settle(node)
    assert client.received() == b"*-1\r\n"
    assert nobody_waits(node)


def test_a_displaced_session_takes_its_waiters_along(node: MiniNode) -> None:
    client = node.connect()
    run(client, "BLPOP k 0")
    node.log.append((kinds.OPEN, encode_open("n1", 4711)))
    node.apply()
    assert not waiters_of(node).by_order
    node.proposals.ask_session()
    settle(node)
    assert list(waiters_of(node).by_session) == [node.proposals.session]
    assert run(node.connect(), "RPUSH k a") == b":1\r\n"
    assert client.received() == POPPED % b"a"


def test_no_client_can_call_what_only_nodes_call(node: MiniNode) -> None:
    assert run(node.connect(), "\0settle 1").startswith(b"-ERR unknown command")


def test_the_end_of_the_node_withdraws_its_waiters(node: MiniNode) -> None:
    client = node.connect()
    run(client, "BLPOP k 0")
    node.blocking.stop()
    settle(node)
    assert client.received() == b""
    assert nobody_waits(node)


# -- without a majority ------------------------------------------------------------------------------------------------


def expire_batches(node: MiniNode) -> None:
    for batch in (*node.proposals._queue, *node.proposals._in_flight):
        batch.deadline = 0.0
    node.proposals._applied_at = -1e9
    node.proposals.tick()
    node.settle()


def test_without_a_leader_a_client_waits_and_its_timeout_is_a_definite_error(node: MiniNode, clock: Clock) -> None:
    client = node.connect()
    run(client, "BLPOP k 1")
    node.leader_up = False
    clock.now += 2
    node.blocking.expire()
    node.tick()
    assert client.received() == b""
    node.proposals.close_open()
    expire_batches(node)
    assert client.received().startswith(b"-CLUSTERDOWN")
    node.leader_up = True
    settle(node)
    assert nobody_waits(node)


def test_a_timeout_whose_entry_is_lost_has_an_unknown_outcome_and_what_it_is_given_later_goes_back(
    node: MiniNode, clock: Clock
) -> None:
    client = node.connect()
    other = OtherNode(node)
    run(client, "BLPOP k 1")
    other.send("RPUSH k a")
    clock.now += 2
    node.blocking.expire()
    node.tick()
    log, node.log = node.log, []
    expire_batches(node)
    assert client.received().startswith(b"-TIMEOUT")
    node.log = log  # it was committed after all
    node.apply()
    settle(node)
    assert run(client, "LRANGE k 0 -1") == b"*1\r\n$1\r\na\r\n"
    assert nobody_waits(node)


def test_whether_elements_were_moved_nobody_can_say_without_a_leader(node: MiniNode, clock: Clock) -> None:
    """They are moved where they are pushed, by an entry that this node may not have yet."""
    client = node.connect()
    other = OtherNode(node)
    run(client, "BLMOVE k to LEFT LEFT 1")
    other.send("RPUSH k a")
    log, node.log = node.log, []
    node.leader_up = False
    clock.now += 2
    node.blocking.expire()
    node.tick()
    node.proposals.close_open()
    expire_batches(node)
    assert client.received().startswith(b"-TIMEOUT")
    node.leader_up = True
    node.log = log
    settle(node)
    assert run(client, "LRANGE to 0 -1") == b"*1\r\n$1\r\na\r\n"
    assert nobody_waits(node)


@pytest.mark.parametrize("first_is_lost", [False, True])
def test_a_client_is_not_told_that_nothing_was_done_while_an_earlier_settling_may_be_done(
    node: MiniNode, clock: Clock, first_is_lost: bool
) -> None:
    """What is reserved for it is being settled when its time is up, and that cannot even be handed over."""
    client = node.connect()
    other = OtherNode(node)
    run(client, "BLPOP k 1")
    other.run("RPUSH k a")
    node.tick()  # settles
    log, node.log = node.log, []
    if first_is_lost:
        expire_batches(node)
        assert client.received() == b"", "it is tried again"
    node.leader_up = False
    clock.now += 2
    node.blocking.expire()
    node.tick()
    node.proposals.close_open()
    node.proposals._queue[-1].deadline = 0.0
    node.proposals._applied_at = -1e9
    node.proposals.tick()
    node.settle()
    assert client.received().startswith(b"-TIMEOUT")
    node.leader_up = True
    node.log = log  # it was committed after all
    settle(node)
    assert run(client, "LRANGE k 0 -1") == b"*1\r\n$1\r\na\r\n"
    assert nobody_waits(node)


def test_settling_that_is_lost_is_sent_again_and_the_client_waits(node: MiniNode) -> None:
    client = node.connect()
    other = OtherNode(node)
    run(client, "BLPOP k 0")
    other.run("RPUSH k a")
    node.tick()
    node.log.clear()
    expire_batches(node)
    assert client.received() == b""
    node.proposals.go_back()
    settle(node)
    assert client.received() == POPPED % b"a"


def test_putting_back_that_is_lost_is_done_once(node: MiniNode) -> None:
    for committed in (False, True):
        client, reader = node.connect(), node.connect()
        run(reader, "DEL k", "RPUSH k a")
        client.send("BLPOP k 0")
        node.tick()
        gone(client)
        node.apply()
        node.tick()
        (original,) = node.log
        node.log.clear()
        expire_batches(node)
        node.proposals.go_back()
        if committed:
            node.log.insert(0, original)
        settle(node)
        reader.received()
        assert run(reader, "LRANGE k 0 -1") == b"*1\r\n$1\r\na\r\n"
        assert node.blocking.idle


def test_a_command_whose_client_was_told_timeout_leaves_no_waiter(node: MiniNode) -> None:
    client = node.connect()
    client.send("BLPOP k 0")
    node.tick()
    log, node.log = node.log, []
    expire_batches(node)
    assert client.received().startswith(b"-TIMEOUT")
    node.log = log
    settle(node)
    assert nobody_waits(node)


def test_a_removed_node_sends_nothing_again_and_waits_for_nothing(
    node: MiniNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would for ever: what is refused because it was removed is refused each time."""
    waiting, leaving, other = node.connect(), node.connect(), OtherNode(node)
    run(waiting, "BLPOP q 0")
    other.run("RPUSH k a")
    monkeypatch.setattr(node.proposals, "_batch_commands_max", 1)
    leaving.send("BLPOP k 0")
    node.tick()
    gone(leaving)
    node.leader_up = False
    node.apply()
    node.tick()
    assert not node.proposals.idle, "the element is to be put back"
    sent = 0

    def schedule() -> None:
        nonlocal sent
        sent += 1
        assert sent < 10, "sent again and again"

    monkeypatch.setattr(node.blocking, "_schedule", schedule)
    node.proposals.end(displaced=True)
    node.blocking.stop()
    node.tick()
    assert node.proposals.idle
    assert node.blocking.idle


# -- snapshots ---------------------------------------------------------------------------------------------------------


def install(node: MiniNode) -> None:
    """The state is replaced by one like it, as if by a snapshot of the same entry."""
    node.applier.give_up()
    node.applier.load(node.store)  # type: ignore[arg-type]
    node.proposals.on_snapshot()
    node.blocking.on_snapshot()
    node.settle()


def test_a_client_waits_on_behind_a_snapshot(node: MiniNode) -> None:
    client = node.connect()
    other = OtherNode(node)
    run(client, "BLPOP k 0")
    install(node)
    other.run("RPUSH k a")
    settle(node)
    assert client.received() == POPPED % b"a"


def test_a_snapshot_shows_what_is_reserved(node: MiniNode) -> None:
    client = node.connect()
    other = OtherNode(node)
    run(client, "BLPOP k 0")
    node.applier.on_waiters = lambda events: None  # it was applied elsewhere
    other.run("RPUSH k a")
    node.applier.on_waiters = node.blocking.on_waiters
    install(node)
    settle(node)
    assert client.received() == POPPED % b"a"


def test_a_snapshot_that_covers_settling_leaves_the_outcome_unknown(node: MiniNode) -> None:
    client = node.connect()
    other = OtherNode(node)
    run(client, "BLPOP k 0")
    other.run("RPUSH k a")
    node.tick()
    node.applier.on_waiters = lambda events: None
    node.apply()
    node.applier.on_waiters = node.blocking.on_waiters
    install(node)
    settle(node)
    assert client.received().startswith(b"-TIMEOUT")
    assert nobody_waits(node)


def test_a_snapshot_that_covers_a_drop_lets_clients_resume(node: MiniNode) -> None:
    client, mover = node.connect(), node.connect()
    other = OtherNode(node)
    run(client, "BLPOP k 0")
    run(mover, "BLMOVE k x LEFT LEFT 0")
    node.applier.on_waiters = lambda events: None
    other.run(f"\0drop {node.proposals.session}")
    node.applier.on_waiters = node.blocking.on_waiters
    install(node)
    settle(node)
    assert mover.received().startswith(b"-TIMEOUT"), "it may have been carried out"
    assert run(mover, "RPUSH k a") == b":1\r\n"
    assert client.received() == POPPED % b"a"


def test_waiters_that_a_snapshot_brings_and_nobody_here_knows_are_withdrawn(node: MiniNode) -> None:
    client = node.connect()
    run(client, "BLPOP k 0")
    node.blocking._by_order.clear()
    install(node)
    settle(node)
    assert nobody_waits(node)


# -- state -------------------------------------------------------------------------------------------------------------


def test_a_node_that_loads_the_state_serves_like_one_that_was_there(node: MiniNode) -> None:
    other = OtherNode(node)
    other.run("BLPOP k l 0", "BLPOP l 0", "BRPOP k 0", "BZPOPMIN l 0", "BLMOVE m k LEFT LEFT 0")
    other.run("RPUSH l a")
    before = waiters_of(node)
    node.applier.load(node.store)  # type: ignore[arg-type]
    after = waiters_of(node)
    assert after is not before
    other.run("ZADD l 1 z", "RPUSH m b", "RPUSH k c")
    found = [(waiter.keys, waiter.reserved) for waiter in waiters_of(node).by_order.values()]
    assert found == [((b"k", b"l"), True), ((b"l",), False), ((b"k",), True), ((b"l",), True)]


LINES = [
    "BLPOP {} {} 0", "BRPOP {} 0", "BLMPOP 0 2 {} {} LEFT COUNT 2", "BLMOVE {} {} LEFT RIGHT 0", "BZPOPMIN {} {} 0",
    "BZMPOP 0 1 {} MAX COUNT 2", "RPUSH {} 1 2", "LPUSH {} 3", "ZADD {} 1 a 2 b", "LPOP {}", "DEL {}", "SET {} x",
    "RENAME {} {}", "COPY {} {} REPLACE", "LMOVE {} {} LEFT LEFT", "EXPIRE {} 10", "FLUSHDB", "SWAPDB 0 1",
    "MOVE {} 1",
]  # fmt: skip


@pytest.mark.parametrize("seed", range(12))
def test_origin_and_replicas_reach_the_same_bytes(seed: int, clock: Clock) -> None:
    dice = random.Random(seed)
    node = RecordingNode()
    clients = [node.connect() for _ in range(8)]
    for _ in range(80):
        client = dice.choice(clients)
        lines = [dice.choice(LINES).format(*dice.choices(["k", "l", "m"], k=2)) for _ in range(dice.choice([1, 1, 3]))]
        if dice.random() < 0.3:
            lines = ["MULTI", *lines, "EXEC"]
        if client.connection.held and dice.random() < 0.3:
            if dice.random() < 0.5:
                client.connection.state.unblock(False)
            else:
                gone(client)
                clients[clients.index(client)] = node.connect()
        else:
            client.send(*lines)
        node.now_ms += dice.choice([0, 1, 5000])
        if dice.random() < 0.5:
            node.tick()
        if dice.random() < 0.5:
            node.apply(dice.randrange(len(node.log) + 1))
        if dice.random() < 0.05:
            node.log.append((kinds.OPEN, encode_open("n1", dice.getrandbits(60))))
            node.proposals.tick()
    settle(node)
    replica = Replica()
    whole = list(node.entries)
    while whole:
        count = dice.randrange(1, 9)
        replica.apply(whole[:count])
        del whole[:count]
        if dice.random() < 0.3:
            replica = Replica(replica.store)
    assert dict(replica.store.iterate(b"", b"\xff")) == dict(node.store.iterate(b"", b"\xff"))
    waiters_of(node)


def test_readers_have_no_use_for_waiters(node: MiniNode) -> None:
    run(node.connect(), "BLPOP k 0")
    assert not Registers.load(node.store).waiters.by_order
