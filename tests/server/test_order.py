"""Order and reads of one connection (DESIGN §2.2): every rule with the scenario it closes."""

from __future__ import annotations

import pytest

import zattredis.commands  # noqa: F401  (fills the command table)
from tests.server.mini_node import MiniNode


@pytest.fixture
def node() -> MiniNode:
    return MiniNode()


def test_a_read_after_a_write_of_the_same_tick_rides_and_sees_it(node: MiniNode) -> None:
    client = node.connect()
    client.send("SET a 1", "GET a", "SET a 2", "GET a")
    node.tick()
    assert node.asked == [], "no read point is needed"
    assert client.received() == b""
    node.apply()
    assert client.received() == b"+OK\r\n$1\r\n1\r\n+OK\r\n$1\r\n2\r\n"


def test_reads_that_ride_are_not_in_the_log(node: MiniNode) -> None:
    client = node.connect()
    client.send("SET a 1", "GET a", "GET b")
    node.tick()
    assert len(node.log) == 1
    assert b"GET" not in node.log[0][1]


def test_a_write_takes_an_unanswered_read_along_and_replies_keep_their_order(node: MiniNode) -> None:
    client = node.connect()
    client.send("GET a")
    node.tick()
    client.send("SET a 1")
    node.tick()
    node.apply()
    assert client.received() == b"$-1\r\n+OK\r\n", "the read stands before the write"
    node.confirm()
    assert client.received() == b"", "and is not answered twice"


def test_a_read_after_its_batch_was_closed_waits_for_the_batch_and_a_later_read_point(node: MiniNode) -> None:
    writer, reader = node.connect(), node.connect()
    reader.send("SET mine 1")
    node.tick()
    reader.send("GET theirs")
    node.tick()
    writer.send("SET theirs 1")
    node.tick()
    assert len(node.log) == 2
    node.apply(1)
    assert reader.received() == b"+OK\r\n", "the batch alone is not enough"
    node.apply(1)
    node.confirm()
    assert reader.received() == b"$1\r\n1\r\n", "the read point was taken after the read arrived"


def test_a_read_point_that_is_confirmed_before_the_own_batch_applies_does_not_let_the_read_pass_it(
    node: MiniNode,
) -> None:
    client = node.connect()
    client.send("SET a 1")
    node.tick()
    client.send("GET a")
    node.tick()
    node.confirm()
    assert client.received() == b""
    node.apply()
    assert client.received() == b"+OK\r\n$1\r\n1\r\n"


def test_a_read_that_waits_for_an_older_batch_goes_along_with_a_newer_write(node: MiniNode) -> None:
    client = node.connect()
    client.send("SET a 1")
    node.tick()
    client.send("GET a")
    node.tick()
    node.confirm()
    client.send("SET a 2")
    node.tick()
    node.apply()
    assert client.received() == b"+OK\r\n$1\r\n1\r\n+OK\r\n", "it never sees the write that was sent after it"


@pytest.mark.parametrize("read", ["GET a", "WATCH a"])
def test_a_read_behind_a_write_that_is_refused_is_answered_all_the_same(node: MiniNode, read: str) -> None:
    node.leader_up = False
    client = node.connect()
    client.send("SET a 1")
    batch = node.proposals.open_batch()
    node.proposals.close_open()
    client.send(read)
    node.tick()
    batch.deadline = 0.0
    node.proposals.tick()
    node.confirm()
    refused, answer = client.received().split(b"\r\n", 1)
    assert refused.startswith(b"-CLUSTERDOWN")
    assert answer in (b"$-1\r\n", b"+OK\r\n")


def take_snapshot(node: MiniNode, batches: int) -> None:
    """State and log are replaced by a snapshot that covers the first `batches` batches in flight."""
    node.sessions.rows["n1"].last += batches
    node.proposals.on_snapshot()
    node.settle()


def test_a_read_in_a_batch_that_a_snapshot_covers_takes_a_fresh_read_point(node: MiniNode) -> None:
    client = node.connect()
    client.send("SET a 1", "GET a")
    node.tick()
    take_snapshot(node, 1)
    assert client.received().startswith(b"-TIMEOUT")
    node.log.clear()
    client.send("SET a 5")  # sent later: the read must not see it
    node.tick()
    node.apply()
    assert client.received() == b"$-1\r\n+OK\r\n"


def test_a_read_never_sees_a_later_write_of_its_connection_that_a_snapshot_covers(node: MiniNode) -> None:
    client = node.connect()
    client.send("SET a 1", "GET a")
    node.tick()
    client.send("SET a 2")
    node.tick()
    take_snapshot(node, 2)
    first, read, second = client.received().splitlines()
    assert first.startswith(b"-TIMEOUT")
    assert read.startswith(b"-CLUSTERDOWN")
    assert second.startswith(b"-TIMEOUT")


def test_all_reads_of_a_tick_share_one_read_point_and_the_next_round_gathers_meanwhile(node: MiniNode) -> None:
    clients = [node.connect() for _ in range(3)]
    for client in clients:
        client.send("GET a")
    node.tick()
    assert len(node.asked) == 1
    late = node.connect()
    late.send("GET a")
    node.tick()
    assert len(node.asked) == 1, "the round under way was taken before this read arrived"
    node.confirm()
    assert [client.received() for client in clients] == [b"$-1\r\n"] * 3
    assert late.received() == b""
    assert len(node.asked) == 2
    assert node.asked[1] != node.asked[0]
    node.confirm()
    assert late.received() == b"$-1\r\n"


def test_an_answer_to_an_older_try_counts_for_nothing(node: MiniNode) -> None:
    client = node.connect()
    client.send("GET a")
    node.tick()
    node.reads.retry()
    node.reads.on_confirmed(node.asked[0], node.index, node.now_ms)
    node.settle()
    assert client.received() == b""
    node.confirm()
    assert client.received() == b"$-1\r\n"


def test_a_read_waits_until_its_read_point_is_applied(node: MiniNode) -> None:
    writer, reader = node.connect(), node.connect()
    writer.send("SET a 1")
    node.tick()
    reader.send("GET a")
    node.tick()
    node.confirm(index=node.index + 1)
    assert reader.received() == b""
    node.apply()
    assert reader.received() == b"$1\r\n1\r\n"


def test_commands_after_an_exec_that_holds_a_select_wait_for_its_reply(node: MiniNode) -> None:
    client = node.connect()
    client.send("MULTI", "SELECT 3", "SET a 1", "EXEC", "SET b 1")
    node.tick()
    assert len(node.log) == 1
    assert b"\x01b" not in node.log[0][1]
    node.apply()
    node.tick()
    node.apply()
    assert client.received().endswith(b"*2\r\n+OK\r\n+OK\r\n+OK\r\n")
    assert client.connection.state.db == 3


def test_watch_compares_versions_at_apply(node: MiniNode) -> None:
    watcher, other = node.connect(), node.connect()
    watcher.send("WATCH a")
    node.tick()
    node.confirm()
    assert watcher.received() == b"+OK\r\n"
    other.send("SET a 1")
    node.tick()
    watcher.send("MULTI", "SET a 2", "EXEC")
    node.tick()
    node.apply()
    assert watcher.received() == b"+OK\r\n+QUEUED\r\n*-1\r\n"
    other.send("GET a")
    node.tick()
    node.confirm()
    assert other.received() == b"+OK\r\n$1\r\n1\r\n"


def test_two_writes_of_one_entry_do_not_let_a_watch_pass(node: MiniNode) -> None:
    watcher, other = node.connect(), node.connect()
    other.send("SET a 1")
    node.tick()
    node.apply()
    watcher.send("WATCH a")
    node.tick()
    node.confirm()
    watcher.received()
    other.send("SET a 2")
    watcher.send("MULTI", "INCR a", "EXEC")
    node.tick()
    assert len(node.log) == 1, "both stand in one entry"
    node.apply()
    assert watcher.received() == b"+OK\r\n+QUEUED\r\n*-1\r\n"


def test_a_watch_that_rides_between_two_writes_of_one_entry_does_not_pass(node: MiniNode) -> None:
    """A log index would be no version: both writes of the key have the same."""
    watcher, other = node.connect(), node.connect()
    other.send("SET a 1")
    watcher.send("SET b 1", "WATCH a")
    other.send("SET a 2")
    node.tick()
    assert len(node.log) == 1, "all stands in one entry"
    node.apply()
    watcher.send("MULTI", "INCR a", "EXEC")
    node.tick()
    node.apply()
    assert watcher.received() == b"+OK\r\n+OK\r\n+OK\r\n+QUEUED\r\n*-1\r\n"


def test_an_exec_of_reads_alone_takes_no_entry_and_sees_one_point_in_time(node: MiniNode) -> None:
    client = node.connect()
    client.send("MULTI", "GET a", "GET b", "EXEC")
    node.tick()
    assert node.log == []
    node.confirm()
    assert client.received() == b"+OK\r\n+QUEUED\r\n+QUEUED\r\n*2\r\n$-1\r\n$-1\r\n"


def test_reads_inside_an_exec_see_its_own_writes_and_stay_out_of_the_log(node: MiniNode) -> None:
    client = node.connect()
    client.send("MULTI", "SET a 5", "GET a", "INCR a", "GET a", "EXEC")
    node.tick()
    assert b"GET" not in node.log[0][1]
    node.apply()
    assert client.received().endswith(b"*4\r\n+OK\r\n$1\r\n5\r\n:6\r\n$1\r\n6\r\n")


def test_pipelined_commands_of_every_kind_are_answered_in_order(node: MiniNode) -> None:
    client = node.connect()
    client.send("PING", "GET a", "PING x", "SET a 1", "ECHO y", "GET a", "NOSUCH", "INCR a", "GET")
    node.tick()
    node.apply()
    assert client.received() == (
        b"+PONG\r\n$-1\r\n$1\r\nx\r\n+OK\r\n$1\r\ny\r\n$1\r\n1\r\n"
        b"-ERR unknown command 'NOSUCH', with args beginning with: \r\n:2\r\n"
        b"-ERR wrong number of arguments for 'get' command\r\n"
    )


def test_a_heavy_read_holds_a_later_write_back_and_shows_one_point_in_time(node: MiniNode) -> None:
    client, other = node.connect(), node.connect()
    other.send("SET a 1")
    node.tick()
    node.apply()
    client.send("KEYS *", "SET b 1")
    node.tick()
    assert node.log == [], "the write waits"
    node.confirm()
    assert client.received() == b"*1\r\n$1\r\na\r\n"
    node.tick()
    assert len(node.log) == 1
    node.apply()
    assert client.received() == b"+OK\r\n"


def test_lookups_of_reads_are_counted_as_hits_and_misses(node: MiniNode) -> None:
    client = node.connect()
    client.send("SET a 1", "GET a", "GET b", "MGET a b c", "EXISTS a b", "DBSIZE", "DEL b")
    node.tick()
    node.apply()
    statistics = node.executor._statistics
    assert (statistics.keyspace_hits, statistics.keyspace_misses) == (3, 4)


def test_replies_of_one_tick_leave_in_one_write(node: MiniNode) -> None:
    client = node.connect()
    client.send(*["SET a 1"] * 10)
    node.tick()
    node.apply()
    assert client.received() == b"+OK\r\n" * 10
    assert client.socket.writes == 1


def test_bad_bytes_are_answered_after_what_came_before_them(node: MiniNode) -> None:
    client = node.connect()
    client.connection.data_received(b"*1\r\n$4\r\nPING\r\n*3\r\n$3\r\nSET\r\n$1\r\na\r\n$1\r\n1\r\n*1\r\n:1\r\n")
    node.tick()
    assert not client.socket.ended
    node.apply()
    assert client.received() == b"+PONG\r\n+OK\r\n-ERR Protocol error: expected '$', got ':'\r\n"
    assert client.socket.ended


def test_client_reply_off_and_skip_drop_the_right_replies(node: MiniNode) -> None:
    client = node.connect()
    client.send(
        "CLIENT REPLY SKIP", "SET a 1", "SET a 2", "CLIENT REPLY OFF", "GET a", "SET a 3", "CLIENT REPLY ON", "GET a"
    )
    node.tick()
    node.apply()
    assert client.received() == b"+OK\r\n+OK\r\n$1\r\n3\r\n"


def test_a_run_of_large_replies_is_cut_and_waits_while_its_client_does_not_read(node: MiniNode) -> None:
    client, other = node.connect(), node.connect()
    value = "v" * 600_000
    client.send(f"SET a {value}")
    node.tick()
    node.apply()
    client.received()
    one = b"$600000\r\n" + value.encode() + b"\r\n"
    client.send(*["GET a"] * 7, "STRLEN a")
    other.send("GET b")
    client.socket.full_above = 1_000_000
    node.tick()
    node.confirm()
    sent = client.received()
    assert sent == one * 2, "two replies pass the bound of a turn, and the client reads none of them"
    assert other.received() == b"$-1\r\n", "others go on"
    for _ in range(4):
        client.socket.buffered = 0
        client.connection.resume_writing()
        node.tick()
        node.confirm()
        sent += client.received()
    assert sent == one * 7 + b":600000\r\n"


@pytest.mark.parametrize(
    ("behind", "write", "replies"),
    [
        (("MULTI", "GET k", "EXEC"), "SET k 2", b"$1\r\n2\r\n+OK\r\n+QUEUED\r\n*1\r\n$1\r\n2\r\n"),
        (("SETNX k 3",), "DEL k", b"$1\r\n1\r\n:0\r\n"),
    ],
)
def test_what_waits_for_its_client_to_read_is_not_passed(
    node: MiniNode, behind: tuple[str, ...], write: str, replies: bytes
) -> None:
    """A later request of a connection must not be answered from an earlier state than one before it."""
    client, other = node.connect(), node.connect()
    client.send("SET k 1")
    for _ in range(4):
        node.turn()
        client.send("SETNX k 3")  # it changes nothing, again and again: it is tried as a read
    node.turn()
    client.received()
    client.send("GET k")
    client.send(*behind)
    client.connection.pause_writing()
    node.tick()
    node.confirm()
    other.send(write)
    node.turn()
    client.connection.resume_writing()
    node.turn()
    node.turn()
    assert client.received() == replies


def settle(node: MiniNode) -> None:
    """What is agreed is applied, what is asked confirmed, and what waits for its client tried again."""
    for _ in range(4):
        node.turn()
        node.confirm()
        node.reads.tick()


def test_a_read_under_way_does_not_pass_one_that_its_client_let_wait(node: MiniNode) -> None:
    """The one put off takes a later round than the one behind it, which must not be answered by its own, earlier one.

    A WATCH that sees a later state than the GET behind it lets an EXEC through that overwrites what GET did not show.
    """
    client, other = node.connect(), node.connect()
    other.send("SET k 1")
    node.turn()
    client.send("WATCH k")
    node.tick()
    client.send("GET k")
    client.connection.pause_writing()
    node.confirm()
    client.connection.resume_writing()
    node.confirm()
    other.send("SET k 2")
    settle(node)
    assert client.received() == b"+OK\r\n$1\r\n2\r\n"
    client.send("MULTI", "SET k 3", "EXEC")
    node.turn()
    assert client.received() == b"+OK\r\n+QUEUED\r\n*1\r\n+OK\r\n"
    assert not client.connection.put_off


def test_a_read_whose_batch_was_lost_is_not_passed_by_one_behind_it(node: MiniNode) -> None:
    """It rode in a batch that a snapshot covers, and takes a fresh read point; one behind it had asked for its own."""
    client, other = node.connect(), node.connect()
    other.send("SET k 1")
    node.turn()
    client.send("SET a 1", "GET k")
    node.tick()
    client.send("GET k")
    node.tick()
    take_snapshot(node, 1)
    node.log.clear()
    node.confirm()
    other.send("SET k 2")
    settle(node)
    assert client.received().endswith(b"outcome unknown: read before you retry\r\n$1\r\n2\r\n$1\r\n2\r\n")


def test_a_write_takes_along_what_is_left_of_a_run_that_was_cut(node: MiniNode) -> None:
    client = node.connect()
    value = "v" * 600_000
    client.send(f"SET a {value}")
    node.tick()
    node.apply()
    client.received()
    client.socket.full_above = 1_000_000
    client.send(*["GET a"] * 3)
    node.tick()
    node.confirm()
    client.socket.buffered = 0
    client.connection.resume_writing()
    client.send("SET a 1", "GET a")
    node.tick()
    node.apply()
    one = b"$600000\r\n" + value.encode() + b"\r\n"
    assert client.received() == one * 3 + b"+OK\r\n$1\r\n1\r\n"


def test_a_long_mget_runs_in_slices_and_answers_like_a_short_one(node: MiniNode) -> None:
    client, other = node.connect(), node.connect()
    client.send("SET k7 seven", "SET k599 last")
    node.tick()
    node.apply()
    client.received()
    client.send("MGET " + " ".join(f"k{number}" for number in range(600)), "SET k7 later")
    other.send("GET k7")
    node.tick()
    assert node.log == [], "a heavy read holds the write back"
    node.confirm()
    replies = client.received()
    assert replies.startswith(b"*600\r\n" + b"$-1\r\n" * 7 + b"$5\r\nseven\r\n$-1\r\n")
    assert replies.endswith(b"$-1\r\n$4\r\nlast\r\n")
    assert other.received() == b"$5\r\nseven\r\n"
    assert [spec.name for spec in node.executor._statistics.commands].count("MGET") == 1


@pytest.mark.parametrize(
    ("before", "meanwhile", "executed"),
    [
        ([], [], True),
        ([], ["SET w 1"], False),
        ([], ["SET w 1", "DEL w"], False),
        ([], ["SET x 1", "RENAME x w", "RENAME w y"], False),
        ([], ["SET w 1 PX 1"], False),
        (["SET w 1", "DEL w"], [], True),
        (["SET w 1", "DEL w", "SET y 1"], ["DEL y", "SET z 1"], True),
        (["SET w 1 PX 1"], ["SET z 1"], True),
        (["SET y 1"], ["FLUSHDB"], True),
        ([], ["SET w 1", "FLUSHDB"], False),
        ([], ["FLUSHALL", "SET w 1", "SWAPDB 0 1"], False),
        (["SET y 1"], ["SWAPDB 0 1"], True),
        (["SET w 1"], ["DEL w"], False),
        (["SET w 1"], ["DEL w", "SET w 1"], False),
        (["SET w 1 PX 1000"], ["DEL y"], False),
    ],
)
def test_exec_fails_whatever_was_done_to_a_watched_key_and_undone(
    node: MiniNode, before: list[str], meanwhile: list[str], executed: bool
) -> None:
    watcher, other = node.connect(), node.connect()
    other.send(*before, "PING")
    node.tick()
    node.apply()
    node.now_ms += 10
    watcher.send("WATCH w")
    node.tick()
    node.confirm()
    other.send(*meanwhile, "PING")
    node.tick()
    node.apply()
    node.now_ms += 2000
    watcher.received()
    watcher.send("MULTI", "SET done 1", "EXEC")
    node.tick()
    node.apply()
    assert watcher.received().endswith(b"*1\r\n+OK\r\n" if executed else b"*-1\r\n")


def test_a_pipeline_of_one_command_is_answered_like_single_ones(node: MiniNode) -> None:
    client = node.connect()
    client.send("SET a 1", "SET b 22", "SET t 3 PX 50", "APPEND bits x")
    node.tick()
    node.apply()
    client.received()
    for lines, replies in [
        (["GET a", "GET b", "GET none", "GET a"], b"$1\r\n1\r\n$2\r\n22\r\n$-1\r\n$1\r\n1\r\n"),
        (["GET a", "GET t", "GET none", "GET bits"], b"$1\r\n1\r\n$1\r\n3\r\n$-1\r\n$1\r\nx\r\n"),
        (["get a", "get a", "get a", "get b"], b"$1\r\n1\r\n$1\r\n1\r\n$1\r\n1\r\n$2\r\n22\r\n"),
        (
            ["GET a", "GET a", "GET", "GET b"],
            b"$1\r\n1\r\n$1\r\n1\r\n-ERR wrong number of arguments for 'get' command\r\n$2\r\n22\r\n",
        ),
    ]:
        client.send(*lines)
        for _ in range(2):
            node.tick()
            if node.reads._round is not None:
                node.confirm()
        assert client.received() == replies
    assert (node.executor._statistics.keyspace_hits, node.executor._statistics.keyspace_misses) == (13, 2)
    client.send("SET a 1", "SET a 1 NX", "SET b 5", "SET c 6", "INCR a", "INCR a", "INCR a", "INCR b")
    node.tick()
    node.apply()
    assert client.received() == b"+OK\r\n$-1\r\n+OK\r\n+OK\r\n:2\r\n:3\r\n:4\r\n:6\r\n"


def test_exec_counts_as_a_command(node: MiniNode) -> None:
    client = node.connect()
    client.send("MULTI", "SET a 1", "EXEC", "MULTI", "GET a", "EXEC")
    node.tick()
    node.apply()
    calls = {spec.name: histogram.cumulative()[0] for spec, histogram in node.executor._statistics.histograms().items()}
    assert (calls["EXEC"], calls["SET"], calls["GET"]) == (2, 1, 1)
