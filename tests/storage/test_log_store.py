"""The log store by itself: what is written is read back, and what must not be is refused."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.storage.conftest import OPTIONS, SMALL_MEMTABLES, all_entries, entries, entry
from zattredis.errors import InvariantViolated, LogCompacted, LogDamaged, StorageFailed, WriteStalled
from zattredis.raft.ready import HardState
from zattredis.storage.log_records import StateDirectory, entry_key
from zattredis.storage.log_store import LogStore

OpenLog = Callable[..., LogStore]


def as_is_and_reopened(log: LogStore, open_log: OpenLog) -> Iterator[LogStore]:
    """Yield the log, then the same log closed and opened again."""
    yield log
    yield open_log()


def test_a_fresh_log_is_empty_and_begins_at_one(open_log: OpenLog) -> None:
    log = open_log()
    assert (log.first_index, log.last_index, log.size_bytes) == (1, 0, 0)
    assert log.hard_state == HardState(0, None, 0)
    assert log.membership == b"members"
    assert log.state_directory == StateDirectory("state-0", 0, 0)
    assert log.term(0) == 0
    assert log.entries(1, 1, 10) == []


def test_entries_hard_state_and_terms_survive_a_reopening(open_log: OpenLog) -> None:
    log = open_log()
    written = entries(1, 5, 1) + entries(6, 9, 3)
    log.append(written[:4], HardState(1, "n2", 0))
    log.append(written[4:], HardState(3, None, 2))
    log.sync()
    again = open_log()
    assert (again.first_index, again.last_index) == (1, 9)
    assert all_entries(again) == written
    assert [again.term(i) for i in range(10)] == [0, 1, 1, 1, 1, 1, 3, 3, 3, 3]
    assert again.hard_state == HardState(3, None, 2)


def test_reads_are_bounded_by_bytes_but_give_at_least_one(open_log: OpenLog) -> None:
    log = open_log()
    written = [entry(i, 1, b"x" * 100) for i in range(1, 11)]
    log.append(written, None)
    size = len(written[0].raw)
    assert log.entries(3, 9, 1) == written[2:3]
    assert log.entries(3, 9, 3 * size) == written[2:5]
    assert log.entries(3, 9, 3 * size + 1) == written[2:5]
    assert log.entries(3, 9, 1 << 30) == written[2:8]


def test_what_lies_outside_is_refused(open_log: OpenLog) -> None:
    log = open_log()
    log.append(entries(1, 10), None)
    log.compact(5, 1)
    for low in (0, 4):
        with pytest.raises(LogCompacted):
            log.entries(low, 6, 100)
    with pytest.raises(IndexError):
        log.entries(5, 12, 100)
    with pytest.raises(LogCompacted):
        log.term(3)
    assert log.term(4) == 1
    with pytest.raises(IndexError):
        log.term(11)


def test_an_append_inside_the_log_truncates_what_follows(open_log: OpenLog) -> None:
    log = open_log()
    log.append(entries(1, 10, 1), HardState(1, None, 0))
    log.sync()
    log.append(entries(4, 5, 2), HardState(2, None, 0))
    for state in as_is_and_reopened(log, open_log):
        assert all_entries(state) == entries(1, 3, 1) + entries(4, 5, 2)
        assert (state.term(3), state.term(4), state.term(5)) == (1, 2, 2)


def test_an_append_may_replace_the_whole_log(open_log: OpenLog) -> None:
    log = open_log()
    log.append(entries(1, 3, 1), None)
    log.append(entries(1, 1, 2), None)
    assert all_entries(open_log()) == entries(1, 1, 2)


@pytest.mark.parametrize(
    "wrong",
    [[entry(5, 1)], [entry(4, 1), entry(6, 1)], [entry(4, 1), entry(4, 1)], [entry(4, 2), entry(5, 1)], [entry(0, 1)]],
    ids=["gap", "gap inside", "repeated", "falling term", "before the first"],
)
def test_entries_that_do_not_fit_are_refused_and_change_nothing(open_log: OpenLog, wrong: list[object]) -> None:
    log = open_log()
    log.append(entries(1, 3), None)
    with pytest.raises(InvariantViolated):
        log.append(wrong, None)  # type: ignore[arg-type]
    for state in as_is_and_reopened(log, open_log):
        assert all_entries(state) == entries(1, 3)


def test_an_append_into_the_compacted_part_is_refused(open_log: OpenLog) -> None:
    log = open_log()
    log.append(entries(1, 10), None)
    log.compact(6, 1)
    with pytest.raises(InvariantViolated):
        log.append(entries(5, 6, 2), None)
    assert all_entries(log) == entries(6, 10)


def test_compaction_keeps_the_rest_and_the_term_before_it(open_log: OpenLog) -> None:
    log = open_log()
    log.append(entries(1, 5, 1) + entries(6, 10, 2), None)
    log.compact(6, 1)
    log.compact(3, 1)  # behind what is compacted already: nothing to do
    for state in as_is_and_reopened(log, open_log):
        assert (state.first_index, state.last_index) == (6, 10)
        assert (state.term(5), state.term(6)) == (1, 2)
        assert all_entries(state) == entries(6, 10, 2)


def test_a_log_compacted_to_its_end_goes_on(open_log: OpenLog) -> None:
    log = open_log()
    log.append(entries(1, 10, 4), None)
    log.compact(11, 4)
    assert (log.first_index, log.last_index, log.term(10)) == (11, 10, 4)
    log.append(entries(11, 12, 4), None)
    assert all_entries(open_log()) == entries(11, 12, 4)


@pytest.mark.parametrize(("first", "term"), [(12, 1), (6, 2)], ids=["behind the end", "wrong term"])
def test_a_compaction_that_contradicts_the_log_is_refused(open_log: OpenLog, first: int, term: int) -> None:
    log = open_log()
    log.append(entries(1, 10), None)
    with pytest.raises(InvariantViolated):
        log.compact(first, term)


def test_bytes_are_counted_and_the_cut_for_a_byte_bound_is_found(open_log: OpenLog) -> None:
    log = open_log()
    written = [entry(i, 1, b"x" * 10_000) for i in range(1, 101)]
    total = sum(len(e.raw) for e in written)
    log.append(written, None)
    assert log.size_bytes == total
    first = log.first_within(300_000)
    held = sum(len(e.raw) for e in written if e.index >= first)
    assert 200_000 <= held <= 300_000
    log.compact(first, 1)
    assert log.size_bytes == held
    assert open_log().size_bytes == held
    assert log.first_within(1 << 40) == first


def test_switch_of_state_begins_the_log_anew(open_log: OpenLog) -> None:
    log = open_log()
    log.append(entries(1, 10, 1), HardState(2, "n1", 0))
    log.switch_state("state-50", 50, 2, b"later members")
    for state in as_is_and_reopened(log, open_log):
        assert (state.first_index, state.last_index, state.term(50)) == (51, 50, 2)
        assert state.state_directory == StateDirectory("state-50", 50, 2)
        assert state.membership == b"later members"
        assert state.hard_state == HardState(2, "n1", 0)
    again = open_log()
    again.append(entries(51, 52, 2), None)
    assert all_entries(open_log()) == entries(51, 52, 2)


def test_switch_of_state_drops_a_longer_log_of_another_history(open_log: OpenLog) -> None:
    log = open_log()
    log.append(entries(1, 100, 1), None)
    log.sync()
    log.switch_state("state-50", 50, 2, b"m")
    again = open_log()
    assert (again.first_index, again.last_index, again.term(50)) == (51, 50, 2)


def test_switch_of_state_keeps_what_follows_the_very_entry_of_the_snapshot(open_log: OpenLog) -> None:
    """Entries behind it may have been acknowledged (Raft §7, figure 13, step 6)."""
    log = open_log()
    log.append(entries(1, 100, 1), None)
    log.sync()
    log.switch_state("state-50", 50, 1, b"m")
    again = open_log()
    assert again.first_index == 51
    assert all_entries(again) == entries(51, 100, 1)


def test_a_switch_of_state_waits_for_a_store_that_asks_to_slow_down(
    open_log: OpenLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Refused, it would leave a node that has given up its old state halfway through an entry."""

    class Slow:
        """A database that refuses what does not wait."""

        def __init__(self, database: Any) -> None:
            self._database = database
            self._waits = False

        def __getattr__(self, name: str) -> Any:
            return getattr(self._database, name)

        def set_write_options(self, options: Any) -> None:
            self._waits = not options.no_slowdown
            self._database.set_write_options(options)

        def write(self, batch: Any) -> None:
            if not self._waits:
                raise Exception("Result incomplete: Write stall")
            self._database.write(batch)

    log = open_log()
    log.append(entries(1, 10, 1), HardState(2, "n1", 0))
    monkeypatch.setattr(log, "_database", Slow(log._database))
    log.switch_state("state-50", 50, 2, b"m")
    with pytest.raises(WriteStalled):
        log.append(entries(51, 51, 2), None)
    monkeypatch.undo()
    assert open_log().first_index == 51


def test_large_entries_and_many_memtables(open_log: OpenLog) -> None:
    log = open_log(SMALL_MEMTABLES)
    written = [entry(i, 1, bytes([i]) * 40_000) for i in range(1, 41)] + [entry(41, 1, b"L" * (3 << 20))]
    for one in written:
        log.append([one], None)
        log.sync()
    log.compact(20, 1)
    assert all_entries(log) == written[19:]
    assert all_entries(open_log(SMALL_MEMTABLES)) == written[19:]


def test_an_entry_that_fails_its_checksum_when_read_is_damage(open_log: OpenLog) -> None:
    log = open_log()
    log.append(entries(1, 5), None)
    raw = bytearray(entry(3).raw)
    raw[-1] ^= 1
    log._database.put(entry_key(3), bytes(raw))  # type: ignore[union-attr]
    with pytest.raises(LogDamaged, match="log entry 3"):
        log.entries(1, 6, 1 << 20)
    log._database.put(entry_key(3), entry(4).raw)  # type: ignore[union-attr]
    with pytest.raises(LogDamaged, match="holds entry 4, not 3"):
        log.entries(1, 6, 1 << 20)
    log._database.delete(entry_key(3))  # type: ignore[union-attr]
    with pytest.raises(LogDamaged):
        log.entries(1, 6, 1 << 20)


class RefusingDatabase:
    """A database whose syncs the operating system refuses once; afterwards all is said to be well again."""

    def __init__(self, database: Any) -> None:
        self._database = database
        self.refused = 0

    def flush_wal(self, sync: bool) -> None:
        if not self.refused:
            self.refused += 1
            raise Exception("IO error: While fdatasync: Input/output error")
        self._database.flush_wal(sync)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._database, name)


def test_a_refused_sync_is_told_and_final(open_log: OpenLog) -> None:
    """The kernel may have dropped the pages: that the next sync succeeds says nothing of what stood before it."""
    log = open_log()
    log.append(entries(1, 3), None)
    log.sync()
    log.append(entries(4, 5), None)
    log._database = RefusingDatabase(log._database)  # type: ignore[assignment]
    for action in (log.sync, log.sync, lambda: log.append(entries(6, 6), None)):
        with pytest.raises(StorageFailed, match="Input/output error"):
            action()
    assert log.durable_index == 3


def test_a_closed_log_says_so(open_log: OpenLog) -> None:
    log = open_log()
    log.close()
    log.close()
    with pytest.raises(StorageFailed, match="closed"):
        log.append(entries(1, 1), None)
    with pytest.raises(StorageFailed, match="closed"):
        log.sync()


def test_a_log_is_not_created_over_another_one(log_path: Path, open_log: OpenLog) -> None:
    open_log().close()
    with pytest.raises(StorageFailed, match="there already"):
        LogStore.create(log_path, state_directory="state-0", membership=b"", options=OPTIONS)
