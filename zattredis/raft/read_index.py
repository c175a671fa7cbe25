"""ReadIndex (§6.4): one heartbeat round confirms all the reads that were asked before it began.

Reads that come while a round is under way gather for the next one, for an answer to the running round could have been
sent before they were asked. The read point is the commit index at the start of the round, and no round starts before
the term's first commit, since before it a leader may not know how far its predecessors committed.

**No round for a follower that makes up the quorum.** What a round finds out is that no majority has gone over to a
later term before the read was asked. A follower's request says that of itself: it bears the term its sender was in
when it asked. If leader and sender are a quorum (two of three voters), any later leader would have needed the vote of
one of them, and would have had it only after the read was asked. So the read point is the commit index when the
request comes, however late it does. That goes for the sender's own reads only: those of others may have been asked
after it wrote. And not for a sender that lost its disk and may have forgotten a vote (`ReadIndexRequest.vouches`),
nor for a learner. Among three nodes that spares eight of twelve messages sent or received for a round of a follower's
reads.
"""

from __future__ import annotations

from zattredis.raft.ready import ReadConfirmed


class ReadRounds:
    """Owned by a leader for one term. `round` is raised with every broadcast of heartbeats and never reused."""

    __slots__ = ("_in_flight", "_waiting", "index", "round", "started")

    def __init__(self) -> None:
        self.round = 0
        self.started = 0
        self.index = 0
        self._waiting: list[tuple[str, int]] = []
        self._in_flight: list[tuple[str, int]] = []

    def __len__(self) -> int:
        return len(self._waiting) + len(self._in_flight)

    @property
    def waiting(self) -> bool:
        """True when reads wait for a round to start."""
        return bool(self._waiting)

    @property
    def in_flight(self) -> bool:
        """True while a round that carries reads is unconfirmed."""
        return bool(self._in_flight)

    def next_round(self) -> int:
        """Return a fresh round number."""
        self.round += 1
        return self.round

    def add(self, node_id: str, context: int) -> None:
        """Let a read wait for the next round."""
        self._waiting.append((node_id, context))

    def start(self, commit_index: int) -> int:
        """Begin a round for all that wait, with `commit_index` as their read point; returns its number."""
        self._in_flight, self._waiting = self._waiting, []
        self.index = commit_index
        self.started = self.next_round()
        return self.started

    def confirm(self) -> list[ReadConfirmed]:
        """A quorum answered a round not older than the one under way: return its reads."""
        reads = [ReadConfirmed(node_id, context, self.index) for node_id, context in self._in_flight]
        self._in_flight = []
        return reads
