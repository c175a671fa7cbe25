"""A log of random operations, closed, killed and reopened at random, against plain Python lists."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.storage.conftest import SMALL_MEMTABLES, all_entries, entry
from tests.storage.crashes import copy_live
from zattredis.raft.entry import Entry
from zattredis.raft.ready import HardState
from zattredis.storage.log_store import LogStore

OPERATIONS = st.lists(
    st.one_of(
        st.tuples(st.just("append"), st.integers(1, 8), st.integers(0, 6)),
        st.tuples(st.just("grow"), st.integers(1, 3), st.integers(0, 0)),
        st.tuples(st.just("compact"), st.integers(0, 10), st.integers(0, 0)),
        st.tuples(st.just("switch"), st.integers(-5, 10), st.integers(0, 1)),
        st.tuples(st.sampled_from(["sync", "close", "kill"]), st.just(0), st.just(0)),
    ),
    min_size=1,
    max_size=40,
)


class Model:
    """The log and what it must hold."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.images = 0
        self.path = root / "0" / "log"
        self.path.parent.mkdir()
        self.log = LogStore.create(self.path, state_directory="state-0", membership=b"m", options=SMALL_MEMTABLES)
        self.first, self.before, self.held = 1, 0, list[Entry]()
        self.hard = HardState()

    def append(self, count: int, back: int) -> None:
        """Append `count` entries, overwriting the last `back` of those held."""
        del self.held[len(self.held) - min(back, len(self.held)) :]
        low = self.first + len(self.held)
        self.hard = HardState(self.hard.term + (back > 0), "n1" if back % 2 else None, low)
        found = [entry(low + i, max(self.hard.term, self.before), b"p" * 3000) for i in range(count)]
        self.log.append(found, self.hard)
        self.held += found

    def grow(self, count: int, _: int) -> None:
        """Append without touching the hard state."""
        low = self.first + len(self.held)
        term = self.held[-1].term if self.held else self.before
        for i in range(count):
            self.held.append(entry(low + i, term, b"q" * 30_000))
            self.log.append(self.held[-1:], None)

    def compact(self, count: int, _: int) -> None:
        """Drop the first `count` entries, or all."""
        count = min(count, len(self.held))
        if count:
            self.before = self.held[count - 1].term
            self.first += count
            del self.held[:count]
        self.log.compact(self.first, self.before)

    def switch(self, offset: int, same: int) -> None:
        """Install a snapshot somewhere around the end of the log, of the very entry held there or of another term."""
        index = max(self.first, self.first + len(self.held) - 1 + offset)
        at = index - self.first
        if same and at < len(self.held):
            self.before = self.held[at].term
            self.held = self.held[at + 1 :]
        else:
            self.before = self.hard.term + 1
            self.hard = HardState(self.before, None, index)
            self.log.append([], self.hard)
            self.held = []
        self.first = index + 1
        self.log.switch_state(f"state-{index}", index, self.before, b"m")

    def sync(self, *_: int) -> None:
        self.log.sync()

    def close(self, *_: int) -> None:
        """Close and reopen."""
        self.log.close()
        self.log = LogStore.open(self.path, options=SMALL_MEMTABLES)

    def kill(self, *_: int) -> None:
        """Go on with what a killed process would have left."""
        self.images += 1
        target = copy_live(self.log, self.path.parent, self.root / str(self.images))
        self.log.close()
        self.path = target / "log"
        self.log = LogStore.open(self.path, options=SMALL_MEMTABLES)

    def check(self) -> None:
        log = self.log
        assert (log.first_index, log.last_index) == (self.first, self.first + len(self.held) - 1)
        assert all_entries(log) == self.held
        assert log.term(self.first - 1) == self.before
        assert log.hard_state == self.hard


@given(OPERATIONS)
@settings(max_examples=40, deadline=None)
def test_a_log_is_what_was_written(scratch: Callable[[], Path], operations: list[tuple[str, int, int]]) -> None:
    root = scratch()
    model = Model(root)
    try:
        for kind, one, two in operations:
            getattr(model, kind)(one, two)
            model.check()
    finally:
        model.log.close()
        shutil.rmtree(root)
