"""Cluster time: monotone, slewed, never stepped."""

from __future__ import annotations

from zattredis.server.clock import Clock


class Hands:
    def __init__(self) -> None:
        self.wall = 1_000.0
        self.mono = 50.0

    def pass_s(self, seconds: float, step: float = 0.0) -> None:
        self.mono += seconds
        self.wall += seconds + step


def made() -> tuple[Clock, Hands]:
    hands = Hands()
    return Clock(lambda: hands.wall, lambda: hands.mono), hands


def test_it_follows_the_wall_clock() -> None:
    clock, hands = made()
    assert clock.now_ms() == 1_000_000
    hands.pass_s(2.5)
    assert clock.now_ms() == 1_002_500


def test_a_step_back_never_goes_back_and_is_slewed_away() -> None:
    clock, hands = made()
    before = clock.now_ms()
    hands.pass_s(0.0, step=-60.0)
    assert clock.now_ms() >= before
    last = clock.now_ms()
    for _ in range(100):
        hands.pass_s(1.0)
        now = clock.now_ms()
        assert 900 <= now - last <= 1_000
        last = now
    for _ in range(1_200):
        hands.pass_s(1.0)
        clock.now_ms()
    assert abs(clock.ahead_ms()) <= 60


def test_a_step_forward_is_not_followed_at_once() -> None:
    clock, hands = made()
    clock.now_ms()
    hands.pass_s(1.0, step=3_600.0)
    assert clock.now_ms() <= 1_000_000 + 1_000 + 60
    assert clock.ahead_ms() < -3_000_000


def test_a_floor_holds() -> None:
    clock, hands = made()
    clock.floor(1_000_400)
    assert clock.now_ms() >= 1_000_400
    hands.pass_s(0.1)
    assert clock.now_ms() >= 1_000_400
