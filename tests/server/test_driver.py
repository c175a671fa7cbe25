"""The driver: what it makes of a Ready."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from zattredis.raft.messages import Message, ReadIndexResponse
from zattredis.raft.ready import ReadConfirmed, Ready
from zattredis.server.clock import Clock
from zattredis.server.driver import Driver


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
    applier: Any = SimpleNamespace(sessions=None, last_stamp_ms=0, registers=SimpleNamespace(databases=[]))
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
