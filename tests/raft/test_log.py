"""The log's end in memory against a plain list: the same answers whatever part of it is still in memory."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.simulation.disk import Disk, State
from zattredis.errors import InvariantViolated, LogCompacted
from zattredis.raft.entry import BATCH, Entry, make_entry
from zattredis.raft.log import RaftLog
from zattredis.raft.membership import simple_membership

ABC = simple_membership("abc")
steps = st.lists(
    st.one_of(
        st.tuples(st.just("append"), st.integers(1, 5), st.integers(0, 2)),
        st.tuples(st.just("truncate"), st.floats(0, 1), st.just(0)),
        st.tuples(st.just("write"), st.just(0), st.just(0)),
        st.tuples(st.just("trim"), st.floats(0, 1), st.just(0)),
        st.tuples(st.just("compact"), st.floats(0, 1), st.just(0)),
    ),
    max_size=40,
)


@settings(max_examples=300, deadline=None)
@given(steps, st.sampled_from([0, 100, 1000]))
def test_the_log_agrees_with_a_list(script: list[tuple[str, float, int]], tail_bytes_max: int) -> None:
    disk = Disk(ABC)
    log = RaftLog(disk, tail_bytes_max)
    model: list[Entry] = []
    written, term, writes = 0, 1, 0
    for kind, amount, rise in script:
        if kind == "append":
            term += rise
            fresh = [make_entry(len(model) + 1 + n, term, BATCH, 1, 0, b"x" * 9) for n in range(int(amount))]
            log.append(fresh)
            model += fresh
        elif kind == "truncate" and len(model) >= disk.first_index:
            index = disk.first_index + int(amount * (len(model) - disk.first_index))
            log.truncate(index)
            del model[index - 1 :]
            written = min(written, index - 1)
            term += 1
            entry = make_entry(index, term, BATCH, 1, 0, b"z")
            log.append([entry])
            model.append(entry)
        elif kind in ("write", "trim", "compact"):
            writes += 1
            disk.append(writes, log.unwritten(written), None)
            disk.sync(writes)
            written = len(model)
            if kind == "trim":
                log.trim(written, int(amount * written))
            elif kind == "compact" and model:
                first = max(disk.first_index, 1 + int(amount * len(model)))
                state = State(ABC)
                state.applied_index = first - 1
                disk.flush(state)
                disk.compact(first)
                log.compacted()
        assert log.last_index == len(model)
        assert log.last_term == (model[-1].term if model else 0)
        assert log.unwritten(written) == model[written:]
        for index in range(disk.first_index, len(model) + 1):
            if index <= written or log.in_memory(index):
                assert log.term(index) == model[index - 1].term
        if model and written == len(model) >= disk.first_index:
            part = log.slice(disk.first_index, len(model) + 1, 1 << 20)
            assert part == model[disk.first_index - 1 : disk.first_index - 1 + len(part)]
            assert part


def test_entries_must_follow_and_terms_must_not_fall() -> None:
    log = RaftLog(Disk(ABC), 1000)
    log.append([make_entry(1, 2, BATCH, 1, 0, b"")])
    with pytest.raises(InvariantViolated):
        log.append([make_entry(3, 2, BATCH, 1, 0, b"")])
    with pytest.raises(InvariantViolated):
        log.append([make_entry(2, 1, BATCH, 1, 0, b"")])
    with pytest.raises(InvariantViolated):
        log.truncate(2)


def test_what_is_compacted_or_not_yet_there_is_named() -> None:
    disk = Disk(ABC)
    disk.append(1, [make_entry(i, 1, BATCH, 1, 0, b"") for i in range(1, 6)], None)
    disk.sync(1)
    state = State(ABC)
    state.applied_index = 3
    disk.flush(state)
    disk.compact(4)
    log = RaftLog(disk, 1000)
    assert (log.first_index, log.last_index, log.term(3)) == (4, 5, 1)
    with pytest.raises(LogCompacted):
        log.term(2)
    with pytest.raises(LogCompacted):
        log.slice(3, 5, 100)
    with pytest.raises(IndexError):
        log.term(6)
    assert not log.matches(2, 1)
    assert not log.matches(6, 1)
    assert log.matches(3, 1)


@given(st.lists(st.integers(1, 5), min_size=1, max_size=30), st.integers(0, 35), st.integers(0, 6), st.integers(0, 30))
def test_highest_at_most(terms: list[int], index: int, term: int, floor: int) -> None:
    terms = sorted(terms)
    disk = Disk(ABC)
    disk.append(1, [make_entry(i, t, BATCH, 1, 0, b"") for i, t in enumerate(terms, 1)], None)
    log = RaftLog(disk, 0)
    floor = min(floor, len(terms))
    expected = max([i for i, t in enumerate(terms, 1) if i <= index and t <= term], default=0)
    assert log.highest_at_most(index, term, floor) == max(expected, floor)


def test_a_large_entry_stays_in_memory_until_it_is_delivered() -> None:
    log = RaftLog(Disk(ABC), 1000)
    log.append([make_entry(1, 1, BATCH, 1, 0, b"x" * 5000), make_entry(2, 1, BATCH, 1, 0, b"y")])
    log.trim(2, 0)
    assert log.in_memory(1)
    log.trim(2, 1)
    assert not log.in_memory(1)
    assert log.in_memory(2)
    log.append([make_entry(3, 1, BATCH, 1, 0, b"x" * 20_000)])
    log.trim(3, 0)
    assert not log.in_memory(2), "what a state machine that lags may hold in memory is bounded"
