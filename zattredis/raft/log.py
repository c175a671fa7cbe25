"""The log as the core sees it: its end in memory, before that whatever the LogReader holds.

Everything not yet acknowledged as durable is in the tail; beyond that the tail keeps the latest entries up to a bound
in bytes, so that followers which are nearly in step never cost a read of the disk.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from zattredis.errors import InvariantViolated, LogCompacted
from zattredis.raft.entry import Entry


class LogReader(Protocol):
    """The stored log, written by the driver from `Ready`; implemented by the storage room."""

    @property
    def first_index(self) -> int:
        """First entry held: the compacted index + 1; 1 on a fresh log."""

    @property
    def last_index(self) -> int:
        """Last entry written; first_index - 1 when empty."""

    def term(self, index: int) -> int:
        """Return the term of an entry held, or of the one before the first. Raises LogCompacted or IndexError."""

    def entries(self, low: int, high: int, bytes_max: int) -> list[Entry]:
        """Return [low, high): at least one, then bounded by bytes."""


UNDELIVERED_FACTOR = 8
"""How many times the tail's bound may be held while what is beyond it is not delivered to the state machine."""


class RaftLog:
    """Invariant: the tail is contiguous, starts at `_offset` and ends at `last_index`; terms never fall."""

    __slots__ = ("_offset", "_reader", "_tail", "_tail_bytes", "_tail_bytes_max", "last_index", "last_term")

    def __init__(self, reader: LogReader, tail_bytes_max: int) -> None:
        self._reader = reader
        self._tail: list[Entry] = []
        self._tail_bytes = 0
        self._tail_bytes_max = tail_bytes_max
        self.last_index = reader.last_index
        self.last_term = reader.term(reader.last_index)
        self._offset = reader.last_index + 1

    @property
    def first_index(self) -> int:
        """First entry that can be sent."""
        return min(self._offset, self._reader.first_index)

    @property
    def tail_bytes(self) -> int:
        """Bytes of the entries kept in memory."""
        return self._tail_bytes

    def term(self, index: int) -> int:
        """Return the term of entry `index`. Raises LogCompacted below first_index - 1, IndexError above last_index."""
        if index == self.last_index:
            return self.last_term
        if index >= self._offset:
            if index > self.last_index:
                raise IndexError(f"entry {index} is beyond the log's end {self.last_index}")
            return self._tail[index - self._offset].term
        return self._reader.term(index)

    def matches(self, index: int, term: int) -> bool:
        """Return whether the log holds (`index`, `term`); False also for what is compacted."""
        if index > self.last_index:
            return False
        try:
            return self.term(index) == term
        except LogCompacted:
            return False

    def append(self, entries: Sequence[Entry]) -> None:
        """Append in memory; the entries must follow on the last one and their terms must not fall."""
        index, term, size = self.last_index, self.last_term, 0
        for entry in entries:
            index += 1
            if entry.index != index or entry.term < term:
                raise InvariantViolated(f"{entry} cannot follow entry {index - 1} of term {term}")
            term = entry.term
            size += len(entry.raw)
        self._tail.extend(entries)
        self._tail_bytes += size
        self.last_index, self.last_term = index, term

    def truncate(self, index: int) -> None:
        """Drop the entries from `index` on. The stored ones go when the driver appends what replaces them."""
        if index > self.last_index:
            raise InvariantViolated(f"nothing to truncate from {index} in a log that ends at {self.last_index}")
        last_term = self.term(index - 1)
        if index <= self._offset:
            self._tail.clear()
            self._tail_bytes = 0
            self._offset = index
        else:
            cut = index - self._offset
            self._tail_bytes -= sum([len(entry.raw) for entry in self._tail[cut:]])
            del self._tail[cut:]
        self.last_index, self.last_term = index - 1, last_term

    def in_memory(self, index: int) -> bool:
        """True when reading from `index` on costs no read of the disk."""
        return index >= self._offset

    def unwritten(self, after: int) -> list[Entry]:
        """Return the entries beyond `after`, all of which are in the tail."""
        if after + 1 < self._offset:
            raise InvariantViolated(f"entries after {after} are no longer in memory")
        return self._tail[after + 1 - self._offset :]

    def slice(self, low: int, high: int, bytes_max: int) -> list[Entry]:
        """Return [low, high): at least one entry, then bounded by bytes. Raises LogCompacted when `low` is gone."""
        if low >= high:
            return []
        if low < self._offset:
            entries = self._reader.entries(low, min(high, self._offset), bytes_max)
            if not entries or entries[0].index != low:
                raise InvariantViolated(f"the stored log did not return entry {low}")
            return entries
        start = low - self._offset
        part = self._tail[start : start + high - low]
        size = 0
        for count, entry in enumerate(part):
            size += len(entry.raw)
            if size > bytes_max and count:
                return part[:count]
        return part

    def trim(self, durable_index: int, delivered_index: int) -> None:
        """Keep the tail within its bound by dropping its oldest durable entries, a quarter of the bound at a time.

        What is not delivered yet may fill the bound several times over: an entry of tens of MB would otherwise be read
        back from the disk the moment it is committed.
        """
        if self._tail_bytes <= self._tail_bytes_max:
            return
        goal = self._tail_bytes_max * 3 // 4
        size, count = self._tail_bytes, 0
        for entry in self._tail:
            if size <= goal or entry.index > durable_index:
                break
            if entry.index > delivered_index and size <= self._tail_bytes_max * UNDELIVERED_FACTOR:
                break
            size -= len(entry.raw)
            count += 1
        self._drop(count, size)

    def _drop(self, count: int, size: int) -> None:
        del self._tail[:count]
        self._tail_bytes = size
        self._offset += count

    def compacted(self) -> None:
        """Drop from memory what the stored log no longer holds."""
        count = self._reader.first_index - self._offset
        if count > 0:
            self._drop(count, self._tail_bytes - sum([len(entry.raw) for entry in self._tail[:count]]))

    def reset(self, index: int, term: int) -> None:
        """The log was replaced by a snapshot that ends with (`index`, `term`)."""
        self._tail.clear()
        self._tail_bytes = 0
        self._offset = index + 1
        self.last_index, self.last_term = index, term

    def highest_at_most(self, index: int, term: int, floor: int) -> int:
        """Return the highest entry at most `index` whose term is at most `term`, but not below `floor`.

        With it a follower's refusal skips whole terms, and so does the leader's answer to it (§3.5, end): entries above
        can match on neither side. Costs at most one term look-up per entry above `floor`, which is committed.
        """
        index = min(index, self.last_index)
        while index > floor and self.term(index) > term:
            index -= 1
        return max(index, floor)
