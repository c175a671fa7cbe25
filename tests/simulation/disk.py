"""A disk in memory: what was written, what of it is durable, and what a crash leaves of the rest."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

from zattredis.errors import LogCompacted
from zattredis.raft.entry import CONFIG, Entry
from zattredis.raft.membership import Membership
from zattredis.raft.ready import HardState


class State:
    """A state machine that remembers only a digest of everything it applied, in order."""

    __slots__ = ("applied_index", "applied_term", "digest", "membership", "stamp_ms")

    def __init__(self, membership: Membership) -> None:
        self.applied_index = 0
        self.applied_term = 0
        self.stamp_ms = 0
        self.digest = 0
        self.membership = membership

    def apply(self, entry: Entry) -> None:
        """Apply the next entry."""
        assert entry.index == self.applied_index + 1, f"{entry} applied after {self.applied_index}"
        assert entry.term >= self.applied_term, f"{entry} applied after term {self.applied_term}"
        self.applied_index, self.applied_term, self.stamp_ms = entry.index, entry.term, entry.stamp_ms
        self.digest = zlib.crc32(entry.raw, self.digest)
        if entry.kind == CONFIG:
            self.membership = Membership.decode(entry.payload)

    def copy(self) -> State:
        """Return an independent copy."""
        other = State(self.membership)
        for name in State.__slots__:
            setattr(other, name, getattr(self, name))
        return other


class _Image:
    """The log as of some moment: entries behind a compacted beginning, and the hard state."""

    __slots__ = ("entries", "first_index", "hard_state", "term_before")

    def __init__(self) -> None:
        self.first_index = 1
        self.term_before = 0
        self.entries: list[Entry] = []
        self.hard_state = HardState()

    def write(self, entries: Sequence[Entry], hard_state: HardState | None) -> None:
        if entries:
            position = entries[0].index - self.first_index
            assert 0 <= position <= len(self.entries), (
                f"append of {entries[0]} leaves a gap or rewrites compacted entries"
            )
            del self.entries[position:]
            self.entries.extend(entries)
        if hard_state is not None:
            self.hard_state = hard_state

    def compact(self, first_index: int) -> None:
        count = first_index - self.first_index
        if count > 0:
            self.term_before = self.entries[count - 1].term
            del self.entries[:count]
            self.first_index = first_index

    def copy(self) -> _Image:
        other = _Image()
        other.first_index, other.term_before = self.first_index, self.term_before
        other.entries, other.hard_state = list(self.entries), self.hard_state
        return other


class Disk:
    """A LogReader over what is written, and a second image of what is durable. `state` is the last flushed state."""

    def __init__(self, membership: Membership) -> None:
        self._written = _Image()
        self._durable = _Image()
        self._unsynced: list[tuple[int, Sequence[Entry], HardState | None]] = []
        self.state = State(membership)

    # --- LogReader ----------------------------------------------------------------------------------------------------

    @property
    def first_index(self) -> int:
        return self._written.first_index

    @property
    def last_index(self) -> int:
        return self._written.first_index + len(self._written.entries) - 1

    def term(self, index: int) -> int:
        image = self._written
        if index < image.first_index - 1:
            raise LogCompacted(f"{index} is compacted")
        if index == image.first_index - 1:
            return image.term_before
        return image.entries[index - image.first_index].term

    def entries(self, low: int, high: int, bytes_max: int) -> list[Entry]:
        image = self._written
        if low < image.first_index:
            raise LogCompacted(f"{low} is compacted")
        part = image.entries[low - image.first_index : high - image.first_index]
        size = 0
        for count, entry in enumerate(part):
            size += len(entry.raw)
            if size > bytes_max and count:
                return part[:count]
        return part

    # --- writing ------------------------------------------------------------------------------------------------------

    @property
    def hard_state(self) -> HardState:
        """What a start finds."""
        return self._written.hard_state

    @property
    def durable_hard_state(self) -> HardState:
        """What a power cut now would leave."""
        return self._durable.hard_state

    @property
    def durable_last_index(self) -> int:
        """The last entry that a power cut now would leave."""
        return self._durable.first_index + len(self._durable.entries) - 1

    def holds_durably(self, index: int, term: int) -> bool:
        """Return whether a power cut now would leave entry (`index`, `term`), or a state that contains it."""
        image = self._durable
        if index < image.first_index:
            return True
        position = index - image.first_index
        return position < len(image.entries) and image.entries[position].term == term

    @property
    def unsynced(self) -> int:
        """Number of writes that a power cut now could lose."""
        return len(self._unsynced)

    def append(self, write_number: int, entries: Sequence[Entry], hard_state: HardState | None) -> None:
        """Write without sync."""
        self._written.write(entries, hard_state)
        self._unsynced.append((write_number, entries, hard_state))

    def sync(self, write_number: int) -> None:
        """Make the writes up to `write_number` durable. A stored term never falls, a vote is never changed."""
        while self._unsynced and self._unsynced[0][0] <= write_number:
            _, entries, hard_state = self._unsynced.pop(0)
            before = self._durable.hard_state
            self._durable.write(entries, hard_state)
            if hard_state is not None:
                assert hard_state.term >= before.term, f"stored term fell from {before.term} to {hard_state.term}"
                same_vote = hard_state.term > before.term or before.vote in (None, hard_state.vote)
                assert same_vote, f"vote of term {before.term} changed from {before.vote} to {hard_state.vote}"

    def crash(self, survivors: int) -> None:
        """Power is cut: of the unsynced writes only the first `survivors` have reached the disk."""
        if survivors and self._unsynced:
            self.sync(self._unsynced[:survivors][-1][0])
        self._unsynced.clear()
        self._written = self._durable.copy()

    def flush(self, state: State) -> None:
        """The state reaches the disk. It may never be ahead of the durable log."""
        assert state.applied_index <= self.durable_last_index, "the flushed state is ahead of the durable log"
        self.state = state.copy()

    def compact(self, first_index: int) -> None:
        """Drop entries before `first_index`, all of which are in the flushed state."""
        assert first_index - 1 <= self.state.applied_index, "compaction beyond the flushed state"
        self._written.compact(first_index)
        self._durable.compact(first_index)

    def switch_state(self, state: State) -> None:
        """Install a snapshot: log and state are replaced in one durable step; term and vote stay."""
        hard_state = self._written.hard_state
        for number, _, hard in list(self._unsynced):
            if hard is not None:
                self.sync(number)
        self._unsynced.clear()
        self.state = state.copy()
        for image in (self._written, self._durable):
            image.first_index, image.term_before = state.applied_index + 1, state.applied_term
            image.entries = []
            image.hard_state = HardState(hard_state.term, hard_state.vote, state.applied_index)
