"""Every rule of sessions and sequences (DESIGN §2.1), each with the scenario it closes."""

from __future__ import annotations

import pytest

import zattredis.commands  # noqa: F401  (fills the command table)
from tests.server.harness import FakeConnection, Origin
from zattredis.server.proposals import RESENT_BYTES_PER_S
from zattredis.server.units import Run


@pytest.fixture
def origin(monkeypatch: pytest.MonkeyPatch) -> Origin:
    return Origin(monkeypatch)


def test_a_session_is_asked_for_before_anything_is_handed_over(origin: Origin) -> None:
    client = FakeConnection()
    origin.write(client, b"SET", b"a", b"1")
    origin.tick()
    assert origin.transport.batches == []
    origin.open(index=7)
    origin.tick()
    assert origin.transport.batches == [(7, 1, [[0, [[b"SET", b"a", b"1"]]]])]


def test_writes_of_one_tick_are_one_batch_in_order_of_arrival(origin: Origin) -> None:
    origin.open()
    one, other = FakeConnection(), FakeConnection()
    origin.write(one, b"SET", b"a", b"1")
    origin.write(other, b"SET", b"a", b"2")
    origin.write(one, b"DEL", b"a")
    origin.tick()
    assert origin.transport.batches == [(7, 1, [[0, [[b"SET", b"a", b"1"], [b"SET", b"a", b"2"], [b"DEL", b"a"]]]])]
    assert origin.apply(7, 1)
    assert one.replies == [b"+OK\r\n"] * 2
    assert other.replies == [b"+OK\r\n"]


def test_a_sequence_is_given_at_the_first_hand_over_only(origin: Origin) -> None:
    origin.open()
    origin.transport.up = False
    origin.write(FakeConnection(), b"SET", b"a", b"1")
    origin.tick()
    origin.write(FakeConnection(), b"SET", b"b", b"1")
    origin.transport.up = True
    origin.tick()
    assert [sequence for _, sequence, _ in origin.transport.batches] == [1, 2]


def test_after_a_new_leader_everything_in_flight_is_sent_again_before_anything_new(origin: Origin) -> None:
    origin.open()
    for key in (b"a", b"b"):
        origin.write(FakeConnection(), b"SET", key, b"1")
        origin.tick()
    assert origin.apply(7, 1)
    origin.transport.batches.clear()
    origin.write(FakeConnection(), b"SET", b"c", b"1")
    origin.proposals.go_back()
    origin.tick()
    assert [sequence for _, sequence, _ in origin.transport.batches] == [2, 3]


def test_a_gap_that_the_leader_names_is_sent_again_in_order(origin: Origin) -> None:
    origin.open()
    for key in (b"a", b"b", b"c"):
        origin.write(FakeConnection(), b"SET", key, b"1")
        origin.tick()
    origin.transport.batches.clear()
    origin.proposals.on_expected(7, 2)
    origin.tick()
    assert [sequence for _, sequence, _ in origin.transport.batches] == [2, 3]


@pytest.mark.parametrize(("session", "expected"), [(7, 0), (7, 9), (6, 1)])
def test_an_expected_number_of_another_session_or_out_of_range_changes_nothing(
    origin: Origin, session: int, expected: int
) -> None:
    origin.open()
    origin.write(FakeConnection(), b"SET", b"a", b"1")
    origin.tick()
    origin.transport.batches.clear()
    origin.proposals.on_expected(session, expected)
    origin.tick()
    assert origin.transport.batches == []


def test_without_progress_everything_is_sent_again_after_the_retry_time(origin: Origin) -> None:
    origin.open()
    origin.write(FakeConnection(), b"SET", b"a", b"1")
    origin.tick()
    origin.transport.batches.clear()
    origin.now += 0.4
    origin.proposals.tick()
    origin.tick()
    assert origin.transport.batches == []
    origin.now += 0.2
    origin.proposals.tick()
    origin.tick()
    assert [sequence for _, sequence, _ in origin.transport.batches] == [1]


def test_a_batch_never_handed_over_is_refused_for_good(origin: Origin) -> None:
    origin.open()
    origin.transport.up = False
    client = FakeConnection()
    origin.write(client, b"SET", b"a", b"1")
    origin.tick()
    origin.now += 5.1
    origin.proposals.tick()
    assert len(client.replies) == 1
    assert client.replies[0].startswith(b"-CLUSTERDOWN ")
    origin.transport.up = True
    origin.tick()
    assert origin.transport.batches == []


def test_a_batch_handed_over_times_out_as_unknown_and_an_empty_one_takes_its_sequence(origin: Origin) -> None:
    origin.open()
    client = FakeConnection()
    origin.write(client, b"SET", b"a", b"1")
    origin.tick()
    origin.now += 5.1
    origin.proposals.tick()
    assert len(client.replies) == 1
    assert client.replies[0].startswith(b"-TIMEOUT ")
    assert b"outcome unknown" in client.replies[0]
    origin.transport.batches.clear()
    origin.proposals.go_back()
    origin.tick()
    assert origin.transport.batches == [(7, 1, [])]
    assert origin.apply(7, 1)
    assert len(client.replies) == 1


def test_a_batch_behind_a_timed_out_one_keeps_its_sequence(origin: Origin) -> None:
    origin.open()
    origin.write(FakeConnection(), b"SET", b"a", b"1")
    origin.tick()
    origin.now += 3.0
    client = FakeConnection()
    origin.write(client, b"SET", b"b", b"1")
    origin.tick()
    origin.now += 2.5
    origin.proposals.tick()
    assert client.replies == []
    assert origin.apply(7, 1)
    assert origin.apply(7, 2)
    assert client.replies == [b"+OK\r\n"]


def test_a_displaced_origin_opens_again_and_sends_what_it_owes_under_the_new_session(origin: Origin) -> None:
    origin.open()
    client = FakeConnection()
    origin.write(client, b"SET", b"a", b"1")
    origin.tick()
    origin.sessions.open("n1", 12345, 20)
    origin.proposals.on_opened(12345, 20)
    assert not origin.apply(7, 1), "a batch of a displaced session is inert"
    origin.transport.batches.clear()
    origin.open(index=21)
    origin.tick()
    assert origin.transport.batches == [(21, 1, [[0, [[b"SET", b"a", b"1"]]]])]
    assert origin.apply(21, 1)
    assert client.replies == [b"+OK\r\n"]


def test_a_snapshot_that_covers_batches_in_flight_leaves_their_replies_unknown_and_the_rest_is_sent_again(
    origin: Origin,
) -> None:
    origin.open()
    covered, later = FakeConnection(), FakeConnection()
    origin.write(covered, b"SET", b"a", b"1")
    batch = origin.proposals.open_batch()
    read = Run(covered, False, 0)  # type: ignore[arg-type]
    batch.units.append(read)
    covered.units.append(read)
    origin.tick()
    origin.write(later, b"SET", b"b", b"1")
    origin.tick()
    origin.sessions.rows["n1"].last = 1
    origin.proposals.on_snapshot()
    assert len(covered.replies) == 1
    assert covered.replies[0].startswith(b"-TIMEOUT ")
    assert origin.resubmitted == [read], "a read that rode takes a fresh read point"
    origin.transport.batches.clear()
    origin.tick()
    assert [sequence for _, sequence, _ in origin.transport.batches] == [2]
    assert origin.apply(7, 2)
    assert later.replies == [b"+OK\r\n"]


def test_a_snapshot_without_this_session_makes_everything_in_flight_unknown(origin: Origin) -> None:
    origin.open()
    client = FakeConnection()
    origin.write(client, b"SET", b"a", b"1")
    origin.tick()
    origin.sessions.open("n1", 999, 30)
    origin.proposals.on_snapshot()
    assert client.replies[0].startswith(b"-TIMEOUT ")
    assert origin.proposals.session == 0


def test_a_full_batch_is_closed_so_that_later_reads_do_not_ride_in_it(origin: Origin) -> None:
    origin.open()
    first = origin.proposals.open_batch()
    for _ in range(100):
        origin.write(FakeConnection(), b"SET", b"a", b"1")
    assert not origin.proposals.is_open(first)
    assert origin.proposals.is_open(origin.proposals.open_batch())


def test_bytes_held_return_to_nothing(origin: Origin) -> None:
    origin.open()
    origin.write(FakeConnection(), b"SET", b"a", b"1")
    origin.tick()
    assert origin.proposals.bytes_held > 0
    origin.apply(7, 1)
    assert origin.proposals.bytes_held == 0
    assert origin.proposals.idle


def test_much_in_flight_is_given_more_time_before_it_is_sent_again(origin: Origin) -> None:
    """A value of 64 MB that takes longer than the retry time on its way must not be sent again all the while."""
    origin.open()
    origin.write(FakeConnection(), b"SET", b"a", bytes(2 * RESENT_BYTES_PER_S))
    origin.tick()
    origin.now += 1.9
    origin.proposals.tick()
    origin.tick()
    assert len(origin.transport.batches) == 1
    origin.now += 1.0
    origin.proposals.tick()
    origin.tick()
    assert len(origin.transport.batches) == 2


def test_waiting_behind_others_that_are_applied_is_no_error(origin: Origin) -> None:
    """A client that sends more than the node can apply within the time limit waits; no majority is missing."""
    origin.open()
    client = FakeConnection()
    for _ in range(3):
        origin.write(client, b"SET", b"a", b"1")
        origin.tick()
    origin.now += 4.0
    origin.apply(7, 1)
    origin.now += 2.0
    origin.proposals.tick()
    assert client.replies == [b"+OK\r\n"], "the others are late, but their turn comes"
    origin.now += 1.0
    origin.proposals.tick()
    assert [reply[:8] for reply in client.replies[1:]] == [b"-TIMEOUT"] * 2, "nothing was applied for too long"
