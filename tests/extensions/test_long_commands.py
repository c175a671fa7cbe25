"""A command that does not end is told of, by name and place: nothing can end it, but somebody must know."""

from __future__ import annotations

import threading
from typing import Any

import pytest

import zattredis
from zattredis.server import determinism_guard

going = [True]


@zattredis.command("LONG.LOOP", readonly=True)
def loop(ctx: zattredis.Context) -> int:
    """Turn until the test has heard of it."""
    turns = 0
    while going[0]:
        turns += 1
    return turns


class Heard:
    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []

    def error(self, event: str, **fields: Any) -> None:
        self.events.append({"event": event, **fields})
        going[0] = len(self.events) < 2


def test_a_command_that_does_not_end_is_named_with_its_line(monkeypatch: pytest.MonkeyPatch) -> None:
    heard = Heard()
    monkeypatch.setattr(determinism_guard, "_log", heard)
    monkeypatch.setattr(determinism_guard, "LOOK_S", 0.01)
    monkeypatch.setattr(determinism_guard, "LONG_S", 0.02)
    before = threading.active_count()
    going[0] = True
    with zattredis.serve(extensions=[loop]) as server:
        assert server.client().execute_command("LONG.LOOP") > 0
    assert len(heard.events) >= 2
    for event in heard.events:
        assert event["event"] == "command_does_not_end" and event["command"] == "long.loop"
        assert "test_long_commands.py" in event["at"] and event["at"].endswith(" in loop")
    assert threading.active_count() == before
