"""The log's index against a plain list of (term, size)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zattredis.errors import InvariantViolated, LogCompacted
from zattredis.storage.log_index import LogIndex

OPERATIONS = st.lists(
    st.one_of(
        st.tuples(st.just("append"), st.integers(0, 2), st.integers(0, 200_000)),
        st.tuples(st.just("truncate"), st.integers(0, 30), st.just(0)),
        st.tuples(st.just("drop"), st.integers(0, 30), st.just(0)),
    ),
    max_size=60,
)


@given(OPERATIONS)
def test_terms_and_bytes_agree_with_a_plain_list(operations: list[tuple[str, int, int]]) -> None:
    index = LogIndex(1, 0)
    first, before, held = 1, 0, []  # type: int, int, list[tuple[int, int]]
    for kind, number, size in operations:
        if kind == "append":
            term = (held[-1][0] if held else before) + number
            index.append(first + len(held), term, size)
            held.append((term, size))
        elif kind == "truncate" and held:
            keep = number % len(held)
            index.truncate(first + keep)
            del held[keep:]
        elif kind == "drop":
            drop = number % (len(held) + 1)
            before = held[drop - 1][0] if drop else before
            index.drop_before(first + drop)
            first += drop
            del held[:drop]
        assert (index.first_index, index.last_index) == (first, first + len(held) - 1)
        assert index.term(first - 1) == before
        assert [index.term(first + i) for i in range(len(held))] == [term for term, _ in held]
        total = sum(size for _, size in held)
        assert abs(index.size_bytes - total) <= 2 * (64 * 1024 + 200_000)
        within = index.first_within(100_000)
        assert first <= within <= first + len(held)


def test_what_is_not_held_is_refused() -> None:
    index = LogIndex(5, 2)
    with pytest.raises(LogCompacted):
        index.term(3)
    with pytest.raises(IndexError):
        index.term(5)
    index.append(5, 2, 10)
    with pytest.raises(InvariantViolated):
        index.append(7, 2, 10)
    with pytest.raises(InvariantViolated):
        index.append(6, 1, 10)
    with pytest.raises(InvariantViolated):
        index.truncate(4)
