"""What must hold at every step of a run (Figure 3 of the paper, and what the server promises on top of it).

The checks look at disks and messages, not at what the cores believe: they would notice a core that deceives itself.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from typing import TYPE_CHECKING

from zattredis.raft import quorum
from zattredis.raft.entry import Entry
from zattredis.raft.membership import Membership
from zattredis.raft.messages import (
    AppendEntriesResponse,
    HeartbeatResponse,
    Message,
    PreVoteRequest,
    PreVoteResponse,
    VoteRequest,
    VoteResponse,
)

if TYPE_CHECKING:
    from tests.simulation.disk import Disk, State
    from zattredis.raft.core import Core


class Violation(AssertionError):
    """A property of the protocol was broken."""


def require(condition: bool, text: str) -> None:
    """Raise Violation unless `condition` holds."""
    if not condition:
        raise Violation(text)


class Checks:
    """One per run; fed by the world."""

    def __init__(self, disks: Mapping[str, Disk], first_membership: Membership) -> None:
        self._disks = disks
        self._leaders: dict[int, str] = {}
        self._contents: dict[tuple[int, int], tuple[int, int]] = {}
        self._committed: dict[int, int] = {}
        self._known_in: dict[int, int] = {}  # index → a term in which the entry was known to be committed
        self._digests: dict[int, int] = {}
        self.memberships: list[Membership] = [first_membership]
        self.committed_index = 0
        self.visible_index = 0

    # --- elections ----------------------------------------------------------------------------------------------------

    def leader_elected(self, node_id: str, core: Core) -> None:
        """Election safety and leader completeness."""
        other = self._leaders.setdefault(core.term, node_id)
        require(other == node_id, f"election safety: {other} and {node_id} lead term {core.term}")
        index = self._committed_before(core.term)
        if index >= core.log.first_index:
            complete = core.log.matches(index, self._committed[index])
            require(complete, f"leader completeness: {node_id} leads term {core.term} without committed entry {index}")
        else:
            require(core.last_index >= index, f"leader completeness: {node_id}'s log ends before {index}")

    def _committed_before(self, term: int) -> int:
        """Return up to where a leader of this term must know the log: a vote may reach it when a later one has led."""
        index = self.committed_index
        while index and self._known_in[index] >= term:
            index -= 1
        return index

    def sent(self, message: Message) -> None:
        """No answer leaves before what it promises is durable."""
        disk = self._disks[message.src]
        stored = disk.durable_hard_state
        if isinstance(message, PreVoteRequest) or (isinstance(message, PreVoteResponse) and message.granted):
            return
        require(stored.term >= message.term, f"{message} left before its term was durable ({stored})")
        same_term = stored.term == message.term
        if isinstance(message, VoteResponse) and message.granted and same_term:
            require(stored.vote == message.dst, f"{message} left before the vote was durable ({stored})")
        if isinstance(message, VoteRequest) and same_term:
            require(stored.vote == message.src, f"{message} left before the own vote was durable ({stored})")
        if isinstance(message, AppendEntriesResponse) and message.success and same_term:
            last = disk.durable_last_index
            require(last >= message.index, f"{message} left while the durable log ended at {last}")
        if isinstance(message, HeartbeatResponse):
            require(message.round > 0, f"{message} confirms no round")

    # --- logs ---------------------------------------------------------------------------------------------------------

    def written(self, node_id: str, entries: list[Entry]) -> None:
        """Log matching: the same index and term always hold the same entry behind the same term."""
        disk = self._disks[node_id]
        for entry in entries:
            fact = (zlib.crc32(entry.raw), disk.term(entry.index - 1))
            known = self._contents.setdefault((entry.index, entry.term), fact)
            require(known == fact, f"log matching: {node_id} has another entry at {entry.index} of term {entry.term}")

    def applied(self, node_id: str, entry: Entry, state: State, term: int) -> None:
        """State machine safety, nothing applied before it is committed, state equality. `term` is the node's."""
        index = entry.index
        self._known_in.setdefault(index, term)
        disk = self._disks[node_id]
        require(disk.durable_last_index >= index, f"{node_id} applied {index} ahead of its durable log")
        if index > self.committed_index:
            require(index == self.committed_index + 1, f"{node_id} applied {index} after {self.committed_index}")
            holders = {i for i, d in self._disks.items() if d.holds_durably(index, entry.term)}
            held = any(quorum.has_quorum(m, holders) for m in self.memberships)
            require(held, f"{node_id} applied {entry}, which only {sorted(holders)} hold durably")
            self.committed_index = index
            self._committed[index] = entry.term
            self._digests[index] = state.digest
        require(
            self._committed[index] == entry.term, f"{node_id} applied {entry} where term {self._committed[index]} was"
        )
        require(self._digests[index] == state.digest, f"{node_id}'s state differs after entry {index}")

    def installed(self, node_id: str, state: State) -> None:
        """A snapshot holds only what is committed."""
        known = self._digests.get(state.applied_index, 0)
        require(known == state.digest, f"{node_id} installed a snapshot of {state.applied_index} that differs")

    # --- clients ------------------------------------------------------------------------------------------------------

    def acknowledged(self, index: int) -> None:
        """A client was told that the write at `index` happened."""
        self.visible_index = max(self.visible_index, index)

    def read_served(self, node_id: str, floor: int, read_index: int, applied_index: int) -> None:
        """A read sees every write acknowledged, and everything another read saw, before it was asked."""
        require(applied_index >= read_index, f"{node_id} served a read of {read_index} at {applied_index}")
        require(read_index >= floor, f"stale read at {node_id}: read point {read_index}, but {floor} was seen before")
        self.visible_index = max(self.visible_index, applied_index)
