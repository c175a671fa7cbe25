"""What a leader knows about one member's log, and how it may send to it (three states).

PROBE: where the logs meet is not known; one message at a time. REPLICATE: they meet, appends are pipelined within a
window. SNAPSHOT: the entries it needs are compacted; nothing is sent until the snapshot's end is reported.
"""

from __future__ import annotations

from collections import deque
from typing import Final

PROBE: Final = "probe"
REPLICATE: Final = "replicate"
SNAPSHOT: Final = "snapshot"


class Progress:
    """Invariant: match_index < next_index. `in_flight` holds (last index, bytes) of each append under way.

    match_index: highest entry known to be durable there; falls within a term only if the member lost its log.
    rejoining: it lost its log and counts for nothing until it says otherwise.
    lost_tick: when that was last noticed.
    round_acked: the highest heartbeat round it answered; commit_sent: the highest commit index it was sent.
    """

    __slots__ = (
        "commit_sent",
        "in_flight",
        "in_flight_bytes",
        "lost_tick",
        "match_at_heartbeat",
        "match_index",
        "next_index",
        "probe_sent_tick",
        "recent_active",
        "rejoining",
        "round_acked",
        "snapshot_wanted",
        "stalled",
        "state",
    )

    def __init__(self, next_index: int, match_index: int = 0) -> None:
        self.match_index = match_index
        self.next_index = next_index
        self.state: str = PROBE
        self.recent_active = False
        self.rejoining = False
        self.in_flight: deque[tuple[int, int]] = deque()
        self.in_flight_bytes = 0
        self.lost_tick: int | None = None
        self.probe_sent_tick: int | None = None
        self.round_acked = 0
        self.commit_sent = 0
        self.match_at_heartbeat = -1
        self.stalled = False
        self.snapshot_wanted = False

    def _forget_in_flight(self) -> None:
        self.in_flight.clear()
        self.in_flight_bytes = 0
        self.probe_sent_tick = None
        self.stalled = False
        self.snapshot_wanted = False

    def become_probe(self, next_index: int) -> None:
        """Start to look for the meeting point at `next_index`, which is raised above match_index."""
        self.state = PROBE
        self.next_index = max(next_index, self.match_index + 1)
        self.commit_sent = 0
        self._forget_in_flight()

    def lose_log(self, hint_index: int, tick: int) -> None:
        """It holds nothing of what it acknowledged: begin at `hint_index` + 1."""
        self.lost_tick = tick
        self.match_index = 0
        self.match_at_heartbeat = -1
        self.become_probe(hint_index + 1)

    def become_replicate(self) -> None:
        """The logs meet at match_index: pipeline from there."""
        self.state = REPLICATE
        self.next_index = self.match_index + 1
        self._forget_in_flight()

    def become_snapshot(self) -> None:
        """What it needs is compacted: wait for a snapshot to be streamed."""
        self.state = SNAPSHOT
        self._forget_in_flight()
        self.snapshot_wanted = True

    def sent(self, last_index: int, size: int) -> None:
        """An append that ends with `last_index` left in REPLICATE state: assume that it arrives."""
        self.in_flight.append((last_index, size))
        self.in_flight_bytes += size
        self.next_index = last_index + 1

    def acknowledged(self, match_index: int) -> bool:
        """Return True when `match_index` is news. Frees the window of what it covers."""
        if match_index >= self.next_index:
            self.next_index = match_index + 1
        if match_index <= self.match_index:
            return False
        self.match_index = match_index
        self.stalled = False
        in_flight = self.in_flight
        while in_flight and in_flight[0][0] <= match_index:
            self.in_flight_bytes -= in_flight.popleft()[1]
        return True

    def window_full(self, window_entries: int, window_bytes: int) -> bool:
        """True when nothing more may be sent in REPLICATE state before an acknowledgement."""
        return self.in_flight_bytes >= window_bytes or self.next_index - self.match_index > window_entries

    def note_heartbeat(self) -> None:
        """Called at each timed heartbeat: in-flight appends without an answer for a whole interval may be lost."""
        self.stalled = (
            self.state == REPLICATE
            and self.next_index - 1 > self.match_index
            and self.match_at_heartbeat == self.match_index
        )
        self.match_at_heartbeat = self.match_index

    def __repr__(self) -> str:
        return (
            f"Progress({self.state}, match={self.match_index}, next={self.next_index}, in_flight={len(self.in_flight)})"
        )
