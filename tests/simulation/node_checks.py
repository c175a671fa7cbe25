"""What must hold at every step of a run of whole nodes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.simulation.checks import Checks, require
from tests.simulation.sim_disk import SimState
from zattredis.keyspace.keys import META_COUNTER, s_prefix
from zattredis.raft.core import Core
from zattredis.raft.entry import BATCH, HEADER_BYTES, Entry
from zattredis.raft.membership import Membership, simple_membership
from zattredis.raft.messages import Message
from zattredis.server.digest import DIGEST_KEY, INTERVAL
from zattredis.server.sessions import BATCH_HEADER
from zattredis.storage.large_writes import DECIDED_KEY, STAGED, STAGED_END
from zattredis.storage.state_store import MEMBERSHIP_KEY

if TYPE_CHECKING:
    from tests.simulation.node_world import NodeWorld


class NodeChecks(Checks):
    """What must hold at every step, of whole nodes."""

    def __init__(self, world: NodeWorld) -> None:
        super().__init__(world.disks, simple_membership(world.ids))  # type: ignore[arg-type]
        self._world = world
        self._states: dict[tuple[int, int, int], tuple[int, str]] = {}
        self._executed: dict[tuple[int, int], int] = {}  # (session, sequence) → index
        self._admitted: dict[tuple[int, int], int] = {}  # (term, session) → the last sequence its leader took
        self._stamps: dict[int, int] = {}
        self.agreed: list[Membership] = []  # every one that was committed
        self.lost_disks = False

    def sent(self, message: Message) -> None:
        if message.src in self._world.processes and type(message).__module__ == "zattredis.raft.messages":
            super().sent(message)

    def became_leader(self, node_id: str, term: int, core: Core) -> None:
        """Election safety and leader completeness. A paused process may hear of its election long after it."""
        other = self._leaders.setdefault(term, node_id)
        require(other == node_id, f"election safety: {other} and {node_id} lead term {term}")
        index = self._committed_before(term)
        if core.term == term and index >= core.log.first_index:
            complete = core.log.matches(index, self._committed[index])
            require(complete, f"leader completeness: {node_id} leads term {term} without committed entry {index}")

    def applied_entry(self, node_id: str, entry: Entry, term: int) -> None:
        """Nothing applied before a majority holds it durably, and everywhere the same."""
        self._world.applied += 1
        earlier = self._stamps.get(entry.index - 1, 0)
        require(
            entry.stamp_ms >= earlier, f"{entry}'s stamp {entry.stamp_ms} lies before {earlier}, that of the one before"
        )
        self._stamps[entry.index] = entry.stamp_ms
        if self.lost_disks and entry.index > self.committed_index:
            # A holder's disk may be gone since; what is left is that all agree.
            require(entry.index == self.committed_index + 1, f"{node_id} applied {entry} after {self.committed_index}")
            self.committed_index = entry.index
            self._committed[entry.index] = entry.term
            self._digests[entry.index] = 0
        super().applied(node_id, entry, _NO_DIGEST, term)  # type: ignore[arg-type]

    def written(self, node_id: str, entries: list[Entry]) -> None:
        """Log matching; a term's leader takes the batches of a session in order and once; stamps never fall."""
        for entry in entries:
            known = (entry.index, entry.term) in self._contents
            if not known and entry.kind == BATCH:
                session, sequence, _ = BATCH_HEADER.unpack_from(entry.raw, HEADER_BYTES)
                last = self._admitted.get((entry.term, session), sequence - 1)
                require(sequence == last + 1, f"{node_id} logged batch {sequence} of session {session} after {last}")
                self._admitted[entry.term, session] = sequence
        super().written(node_id, entries)

    def executed(self, node_id: str, session: int, sequence: int, index: int) -> None:
        """Exactly once: a batch is executed by one entry, the same on every node, and none before it is missing."""
        known = self._executed.setdefault((session, sequence), index)
        require(known == index, f"{node_id} executes batch {sequence} of session {session} at {index}, and at {known}")
        complete = sequence == 1 or self._executed.get((session, sequence - 1), index) < index
        require(
            complete, f"{node_id} executes batch {sequence} of session {session} at {index}, but not the one before"
        )

    def state_written(self, node_id: str, state: SimState) -> None:
        """Equal state at equal applied record, but for what a long command writes ahead for the time being."""
        if _in_pieces(state):
            return
        applied = state.applied
        key = (applied.index, applied.term, applied.ordinal)
        # A node that joined begins with the membership of that time, until it applies an entry that holds one.
        digest = state.digest ^ hash((MEMBERSHIP_KEY, state.data[MEMBERSHIP_KEY]))
        if not applied.ordinal and not applied.index % INTERVAL:  # written with this state or, as well, with the next
            digest ^= hash((DIGEST_KEY, state.data.get(DIGEST_KEY)))
        known, other = self._states.setdefault(key, (digest, node_id))
        if known != digest:
            self._world.trace(f"{node_id} {key} {sorted(state.data.items())}")
            process = self._world.processes.get(other)
            if process is not None:
                self._world.trace(f"{other} now {process.data.state.applied} {sorted(process.data.state.data.items())}")
        require(known == digest, f"{node_id}'s state at {applied} differs from {other}'s")


class _NoDigest:
    digest = 0


_NO_DIGEST = _NoDigest()


def _in_pieces(state: SimState) -> bool:
    """Return whether the state holds more than what its applied record says, which nobody reads."""
    data = state.data
    counter = int.from_bytes(data.get(META_COUNTER, b""), "big")
    first = s_prefix(counter + 1)
    return DECIDED_KEY in data or any(STAGED <= key < STAGED_END or first <= key < b"t" for key in data)
