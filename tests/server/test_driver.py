"""The driver: what it makes of a Ready."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from zattredis.errors import ProposalRefused
from zattredis.peer.messages import ForwardBatch, ForwardExpected
from zattredis.raft.entry import BATCH, make_entry
from zattredis.raft.messages import Message, ReadIndexResponse
from zattredis.raft.ready import BecameLeader, ReadConfirmed, Ready
from zattredis.server.clock import RESERVATION_MS, Clock
from zattredis.server.driver import Driver
from zattredis.server.sessions import Sessions


class FakeNetwork:
    def __init__(self) -> None:
        self.sent: list[Message] = []

    def send(self, message: Message) -> bool:
        self.sent.append(message)
        return True

    def flush(self) -> None:
        pass


def make_driver(role: str) -> tuple[Driver, FakeNetwork]:
    core: Any = SimpleNamespace(role=role, node_id="n1", term=3, commit_index=7, last_index=7)
    core.membership = SimpleNamespace(members=("n1", "n2"))
    registers = SimpleNamespace(databases=[])
    applier: Any = SimpleNamespace(sessions=None, applied_index=7, last_stamp_ms=0, registers=registers)
    network = FakeNetwork()
    unused: Any = None
    driver = Driver(
        core=core, log=unused, sync=unused, clock=Clock(), network=network, applier=applier, on_event=unused,
        on_snapshot_needed=unused, call_later=unused,
    )  # fmt: skip
    return driver, network


@pytest.mark.parametrize(("role", "answers"), [("leader", 1), ("follower", 0)])
def test_only_a_leader_gives_a_confirmed_read_its_time(role: str, answers: int) -> None:
    """Deposed between the confirmation and the answer, it knows nothing of the next leader's time any more."""
    driver, network = make_driver(role)
    ready = Ready()
    ready.reads = [ReadConfirmed("n2", 5, 7)]
    driver._carry_out(ready)
    assert [type(message) for message in network.sent] == [ReadIndexResponse] * answers


@pytest.mark.parametrize(
    ("members", "applied", "term_start", "membership", "point"),
    [
        (1, 6, 4, 1, 6),  # nobody else can have seen entry 7
        (1, 2, 4, 1, 7),  # before it was started again this very node may have acknowledged entry 3
        (1, 4, 4, 5, 7),  # a member that was removed by entry 5 may have
        (2, 6, 4, 1, 7),
    ],
)
def test_a_read_of_a_node_alone_waits_only_for_what_somebody_may_have_seen(
    members: int, applied: int, term_start: int, membership: int, point: int
) -> None:
    driver, _ = make_driver("leader")
    core: Any = driver.core
    core.membership.members = ("n1", "n2")[:members]
    core.term_start_index, core.membership_index = term_start, membership
    driver._applier.applied_index = applied
    core.log = SimpleNamespace(slice=lambda low, high, bytes_max: [SimpleNamespace(kind=BATCH, stamp_ms=1000 + low)])
    points: list[int] = []
    times: list[int] = []
    driver._reads = SimpleNamespace(  # type: ignore[assignment]
        on_confirmed=lambda context, index, time_ms: (points.append(index), times.append(time_ms))
    )
    driver._committed_stamp = 10_000
    ready = Ready()
    ready.reads = [ReadConfirmed("n1", 5, 7)]
    driver._carry_out(ready)
    assert points == [point]
    if point < 7:  # what follows the entry that was not waited for must not find itself at a time before this read's
        assert times == [1000 + point + 1]


def test_a_new_leader_knows_the_reservations_of_what_it_has_not_applied_yet() -> None:
    """The leader before may have given a read the time of the last of them. Whether a key has an expiry says the state
    only behind those entries: what a read saw expired would live again."""
    driver, _ = make_driver("leader")
    core: Any = driver.core
    core.last_stamp = 1 << 50  # far beyond the clock
    driver._on_event = lambda event: None
    driver._note(BecameLeader(3, 7))
    core.log = SimpleNamespace(slice=None)
    times: list[int] = []
    driver._reads = SimpleNamespace(  # type: ignore[assignment]
        on_confirmed=lambda context, index, time_ms: times.append(time_ms)
    )
    ready = Ready()
    ready.reads = [ReadConfirmed("n1", 5, 7)]
    driver._carry_out(ready)
    assert times == [core.last_stamp + RESERVATION_MS]


def test_it_knows_them_still_when_the_first_part_of_that_is_handed_over() -> None:
    driver, _ = make_driver("leader")
    core: Any = driver.core
    core.last_stamp = 1 << 50
    driver._on_event = lambda event: None
    driver._note(BecameLeader(3, 7))
    core.log = SimpleNamespace(slice=None)
    times: list[int] = []
    driver._applier.enqueue = lambda entries: None  # type: ignore[method-assign]
    driver._reads = SimpleNamespace(  # type: ignore[assignment]
        on_confirmed=lambda context, index, time_ms: times.append(time_ms)
    )
    ready = Ready()
    ready.committed = [make_entry(5, 2, BATCH, 1, 1000, b"")]
    ready.reads = [ReadConfirmed("n1", 5, 7)]
    driver._carry_out(ready)
    assert times == [core.last_stamp + RESERVATION_MS]


def test_a_batch_the_log_has_no_room_for_is_asked_for_again_once_there_is() -> None:
    """Answered at once, the origin would send it and all behind it over and over, only to be refused."""
    driver, network = make_driver("leader")
    sessions = Sessions()
    sessions.open("n2", 11, 5)
    room = [False]

    def propose(*entry: Any) -> int:
        if not room[0]:
            raise ProposalRefused("full")
        return 8

    core: Any = driver.core
    core.config = SimpleNamespace(uncommitted_bytes_max=100)
    core.uncommitted_bytes, core.ticks, core.propose = 90, 1, propose
    core.applied = core.tick = lambda *index: None
    driver.admission._sessions = sessions
    driver.admission.ready = True
    driver._reads = SimpleNamespace(on_applied=lambda: None)  # type: ignore[assignment]
    for sequence in (1, 2, 3):
        driver.on_message(ForwardBatch("n2", "n1", 3, 5, sequence, b"batch"))
    driver.on_applied(8)
    assert network.sent == []
    core.uncommitted_bytes, room[0] = 0, True
    driver.on_applied(9)
    assert network.sent == [ForwardExpected("n1", "n2", 3, 5, 1)]
    driver.on_applied(10)
    assert len(network.sent) == 1
    driver.on_message(ForwardBatch("n2", "n1", 3, 5, 1, b"batch"))
    assert driver.admission.expected(5) == 2
