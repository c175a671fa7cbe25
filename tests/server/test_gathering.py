"""A batch stays open for others to join it, but never for long, and never for a client on its own."""

from __future__ import annotations

from typing import Any, cast

import pytest

from tests.server.harness import FakeConnection, Origin
from zattredis.server.gathering import CROWD_MIN, LINGER_S, Gathering
from zattredis.server.reads import Reads
from zattredis.server.units import Run


def test_a_wave_that_is_still_coming_in_is_waited_for() -> None:
    gathering = Gathering()
    assert not gathering.worth_waiting(10, 0, 0.0)  # nobody else is known
    gathering.handed_over()
    assert gathering.worth_waiting(2, 0, 0.0)
    assert gathering.worth_waiting(5, 0, 0.0)
    assert not gathering.worth_waiting(5, 0, 0.0)  # a turn that brought nothing ends it


def test_waiting_ends_when_everybody_is_there_or_the_time_is_over() -> None:
    gathering = Gathering()
    gathering.worth_waiting(10, 0, 0.0)
    gathering.handed_over()
    assert gathering.worth_waiting(8, 0, 0.0)
    assert not gathering.worth_waiting(10, 0, 0.0)
    gathering.handed_over()
    assert gathering.worth_waiting(2, 0, LINGER_S / 2)
    assert not gathering.worth_waiting(3, 0, LINGER_S)


def test_those_whose_writes_are_under_way_belong_to_the_crowd() -> None:
    gathering = Gathering()
    assert gathering.worth_waiting(2, 8, 0.0)
    assert not Gathering().worth_waiting(2, 0, 0.0)


@pytest.mark.parametrize("clients", range(1, CROWD_MIN))
def test_few_clients_never_wait(clients: int) -> None:
    gathering = Gathering()
    for _ in range(10):
        assert not gathering.worth_waiting(clients, 0, 0.0)
        gathering.handed_over()
        assert not gathering.worth_waiting(1, clients - 1, 0.0)
        gathering.handed_over()


def test_a_crowd_that_left_is_forgotten() -> None:
    gathering = Gathering()
    gathering.worth_waiting(500, 0, 0.0)
    waited = 0
    for _ in range(200):
        gathering.handed_over()
        waited += gathering.worth_waiting(10, 0, 0.0)
    gathering.handed_over()
    assert not gathering.worth_waiting(25, 0, 0.0)
    assert waited < 200


def test_an_open_batch_that_lingers_is_handed_over_at_the_next_quiet_turn(monkeypatch: Any) -> None:
    origin = Origin(monkeypatch)
    turns: list[None] = []
    monkeypatch.setattr(origin.proposals, "_schedule", lambda: turns.append(None))
    origin.open()
    clients = [FakeConnection() for _ in range(6)]
    for client in clients:
        origin.write(client, b"SET", b"k", b"v")
    origin.tick()
    assert [len(batch.units) for batch in origin.proposals._in_flight] == [6] and not turns
    for client in clients[:2]:
        origin.write(client, b"SET", b"k", b"v")
    origin.tick()
    assert len(turns) == 1 and origin.proposals.in_flight == 1  # the others may be about to come
    origin.write(clients[2], b"SET", b"k", b"v")
    origin.tick()
    assert len(turns) == 2 and origin.proposals.in_flight == 1
    origin.tick()
    assert len(turns) == 2 and [len(batch.units) for batch in origin.proposals._in_flight] == [6, 3]


def test_a_round_of_reads_waits_for_those_who_are_about_to_come_but_not_on_a_node_alone() -> None:
    for alone in (False, True):
        turns: list[None] = []
        asked: list[int] = []
        reads = Reads(
            source=cast(Any, None), executor=cast(Any, None), ask=asked.append, call_soon=lambda function: None,
            request_timeout_s=5.0, retry_s=0.5, schedule=lambda seen=turns: seen.append(None),  # type: ignore[misc]
            alone=lambda value=alone: value,  # type: ignore[misc]
        )  # fmt: skip
        connection = FakeConnection()
        for _ in range(6):
            reads.submit(Run(cast(Any, connection), False, 0))
        reads.flush()
        assert len(asked) == 1 and not turns
        reads.on_confirmed(asked[0] + 1, 1, 1)  # of no try: nothing happens
        reads._round = None
        for _ in range(2):
            reads.submit(Run(cast(Any, connection), False, 0))
        reads.flush()
        assert (len(asked), len(turns)) == ((2, 0) if alone else (1, 1))
        reads.flush()
        assert len(asked) == 2
