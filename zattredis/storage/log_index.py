"""What the log store knows of its entries without reading them: first, last, terms and roughly their bytes.

Terms are kept as runs (a term begins at an index), so a log of any length costs a few bytes per election.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from typing import Final

from zattredis.errors import InvariantViolated, LogCompacted

_SAMPLE_BYTES: Final = 64 * 1024
"""One sample of the running byte count is kept for about this many bytes of entries."""


class LogIndex:
    """First and last index, the term of each entry, and byte counts exact to one sample.

    Invariant: runs are ascending in index and in term; the first run begins at `first_index` unless the log is empty.
    """

    __slots__ = (
        "_bytes",
        "_run_firsts",
        "_run_terms",
        "_sample_bytes",
        "_samples",
        "first_index",
        "last_index",
        "term_before",
    )

    def __init__(self, first_index: int, term_before: int) -> None:
        self.reset(first_index, term_before)

    def reset(self, first_index: int, term_before: int) -> None:
        """Become the empty log that goes on at `first_index`."""
        self.first_index = first_index
        self.last_index = first_index - 1
        self.term_before = term_before
        self._run_firsts: list[int] = []
        self._run_terms: list[int] = []
        self._bytes = 0
        self._samples: list[int] = []
        self._sample_bytes: list[int] = []

    @property
    def last_term(self) -> int:
        """Term of the last entry, or of what lies before an empty log."""
        return self._run_terms[-1] if self._run_terms else self.term_before

    @property
    def size_bytes(self) -> int:
        """Bytes of all entries held, exact to one sample."""
        return self._bytes - (self._sample_bytes[0] if self._sample_bytes else 0)

    def term(self, index: int) -> int:
        """Return the term of `index`; first_index - 1 is known, too. Raises LogCompacted or IndexError."""
        firsts = self._run_firsts
        if firsts and index >= firsts[-1]:
            if index > self.last_index:
                raise IndexError(f"log index {index} lies behind the last one, {self.last_index}")
            return self._run_terms[-1]
        if index >= self.first_index:
            if not firsts:
                raise IndexError(f"log index {index} lies behind the last one, {self.last_index}")
            return self._run_terms[bisect_right(firsts, index) - 1]
        if index == self.first_index - 1:
            return self.term_before
        raise LogCompacted(f"log index {index} lies before the first one held, {self.first_index}")

    def append(self, index: int, term: int, size_bytes: int) -> None:
        """Take note of the next entry. Raises InvariantViolated on a gap or a falling term."""
        if index != self.last_index + 1 or term < self.last_term:
            raise InvariantViolated(
                f"entry {index} (term {term}) does not follow entry {self.last_index} (term {self.last_term})"
            )
        if not self._run_terms or term != self._run_terms[-1]:
            self._run_firsts.append(index)
            self._run_terms.append(term)
        if not self._samples or self._bytes - self._sample_bytes[-1] >= _SAMPLE_BYTES:
            self._samples.append(index)
            self._sample_bytes.append(self._bytes)
        self._bytes += size_bytes
        self.last_index = index

    def truncate(self, from_index: int) -> None:
        """Forget `from_index` and all behind it."""
        if from_index < self.first_index:
            raise InvariantViolated(
                f"truncation from {from_index} reaches before the first entry held, {self.first_index}"
            )
        while self._run_firsts and self._run_firsts[-1] >= from_index:
            self._run_firsts.pop()
            self._run_terms.pop()
        while self._samples and self._samples[-1] >= from_index:
            self._bytes = self._sample_bytes[-1]
            self._samples.pop()
            self._sample_bytes.pop()
        self.last_index = from_index - 1

    def drop_before(self, first_index: int) -> None:
        """Forget everything before `first_index`, which is at most last_index + 1."""
        term_before = self.term(first_index - 1)
        if first_index > self.last_index:
            self.reset(first_index, term_before)
            return
        run = bisect_right(self._run_firsts, first_index) - 1
        del self._run_firsts[:run], self._run_terms[:run]
        self._run_firsts[0] = first_index
        sample = bisect_right(self._samples, first_index) - 1
        del self._samples[:sample], self._sample_bytes[:sample]
        self._samples[0] = first_index
        self.first_index = first_index
        self.term_before = term_before

    def first_within(self, bytes_max: int) -> int:
        """Return the smallest index from which on the entries hold at most about `bytes_max` bytes."""
        sample = bisect_left(self._sample_bytes, self._bytes - bytes_max)
        return self._samples[sample] if sample < len(self._samples) else self.last_index + 1
