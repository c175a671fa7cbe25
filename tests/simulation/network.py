"""Links between nodes: delay, reordering, loss, duplication, one-way and two-way cuts."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from zattredis.raft.messages import Message


@dataclass(frozen=True)
class Weather:
    """How bad the network is; probabilities per message, delays in ticks."""

    loss: float = 0.0
    duplication: float = 0.0
    delay_max: float = 0.5
    late: float = 0.0
    late_max: float = 30.0


class Network:
    """`schedule(delay, action)` belongs to the world; `deliver` hands a message to its node."""

    def __init__(
        self,
        rng: random.Random,
        schedule: Callable[[float, Callable[[], None]], None],
        deliver: Callable[[Message], None],
    ) -> None:
        self._rng = rng
        self._schedule = schedule
        self._deliver = deliver
        self._cut: set[tuple[str, str]] = set()
        self.weather = Weather()

    def connected(self, src: str, dst: str) -> bool:
        """Return whether messages pass from `src` to `dst`."""
        return (src, dst) not in self._cut

    def cut(self, sources: Iterable[str], destinations: Iterable[str]) -> None:
        """Let nothing pass from `sources` to `destinations` (one way)."""
        targets = list(destinations)
        self._cut.update((s, d) for s in sources for d in targets)

    def heal(self) -> None:
        """Restore all links; the weather stays."""
        self._cut.clear()

    def send(self, message: Message) -> None:
        """Take a message; what becomes of it is drawn from the seed."""
        rng, weather = self._rng, self.weather
        if not self.connected(message.src, message.dst) or rng.random() < weather.loss:
            return
        copies = 2 if rng.random() < weather.duplication else 1
        for _ in range(copies):
            late = rng.random() < weather.late
            delay = rng.random() * (weather.late_max if late else weather.delay_max)
            self._schedule(delay, lambda: self._arrive(message))

    def _arrive(self, message: Message) -> None:
        if self.connected(message.src, message.dst):
            self._deliver(message)
