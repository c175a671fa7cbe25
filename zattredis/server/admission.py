"""Admission: what the leader takes into its log, so that no batch is overtaken and resends never fill the log.

The leader admits only the next sequence that it expects of a session. It starts when the first entry of its term is
applied: from then on every older entry of the log is applied too, so the sessions' rows say what comes next.
"""

from __future__ import annotations

from zattredis.errors import NotLeader, ProposalRefused
from zattredis.raft import entry
from zattredis.raft.core import Core
from zattredis.server.clock import Clock
from zattredis.server.sessions import Sessions, encode_open
from zattredis.server.upgrades import FIRST_VERSION


class Admission:
    """Owned by the driver. Invariant: per session, sequences enter the log of one leader in order and once."""

    __slots__ = ("_clock", "_core", "_expected", "_opening", "_sessions", "ready", "version")

    def __init__(self, core: Core, sessions: Sessions, clock: Clock) -> None:
        self._core = core
        self._sessions = sessions
        self._clock = clock
        self._expected: dict[int, int] = {}
        self._opening: dict[str, int] = {}
        self.ready = False
        self.version = FIRST_VERSION
        """The state-machine version of the entries that are proposed."""

    def begin_term(self) -> None:
        """This node became the leader: refuse until `open_gates`."""
        self.ready = False
        self._expected.clear()
        self._opening.clear()

    def open_gates(self, version: int = FIRST_VERSION) -> None:
        """The first entry of this leader's term is applied, and the state has seen `version`."""
        self.version = version
        self.ready = True

    def expected(self, session: int) -> int:
        """Return the sequence that is admitted next; 0 when no such session is open."""
        number = self._expected.get(session)
        if number is None:
            row = self._sessions.by_session.get(session)
            return 0 if row is None else row.last + 1
        return number

    def propose(self, kind: int, payload: bytes) -> int | None:
        """Append an entry as the leader; return its index, or None when it was certainly not appended."""
        try:
            return self._core.propose(kind, payload, self._clock.now_ms(), self.version)
        except (NotLeader, ProposalRefused):
            return None

    def admit(self, session: int, sequence: int, payload: bytes) -> bool:
        """Append a batch if it is the next of its session; False: it was certainly not appended."""
        if not self.ready or sequence != self.expected(session):
            return False
        if self.propose(entry.BATCH, payload) is None:
            return False
        self._expected[session] = sequence + 1
        return True

    def open_session(self, node_id: str, nonce: int) -> bool:
        """Append an Open entry, once for each nonce; False: it was certainly not appended."""
        if not self.ready:
            return False
        row = self._sessions.rows.get(node_id)
        if self._opening.get(node_id) == nonce or (row is not None and row.nonce == nonce):
            return True
        if self.propose(entry.OPEN, encode_open(node_id, nonce)) is None:
            return False
        self._opening[node_id] = nonce
        return True
