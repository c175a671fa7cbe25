"""The checks after a load must notice what they are there for."""

from __future__ import annotations

import pytest

from tests.support.linearizability import APPEND, INCREMENT, Operation
from tests.support.workload import check_counters, check_journals

JOURNAL = b"journal:0"


def token(number: int, known: bool = True) -> Operation:
    return Operation(APPEND, JOURNAL, b"%d." % number, 2, known=known)


def increment(result: int | None, known: bool = True) -> Operation:
    return Operation(INCREMENT, b"n", 1, result, known=known)


@pytest.mark.parametrize("stored", [b"0.1.3.", b"0.1.2.3."])
def test_journal_with_all_acknowledged_in_order_is_right(stored: bytes) -> None:
    check_journals([token(0), token(1), token(2, known=False), token(3)], {JOURNAL: stored})


@pytest.mark.parametrize(
    ("stored", "complaint"),
    [
        (b"0.1.", "acknowledged writes lost"),
        (None, "acknowledged writes lost"),
        (b"0.1.1.3.", "out of order or twice"),
        (b"1.0.3.", "out of order or twice"),
        (b"0.1.3.7.", "refused writes were executed"),
    ],
)
def test_journal_faults_are_found(stored: bytes | None, complaint: str) -> None:
    with pytest.raises(AssertionError, match=complaint):
        check_journals([token(0), token(1), token(2, known=False), token(3)], {JOURNAL: stored})


def test_counters_within_what_is_known_are_right() -> None:
    history = [increment(1), increment(2), increment(None, known=False)]
    check_counters(history, {b"n": 2})
    check_counters(history, {b"n": 3})


@pytest.mark.parametrize(
    ("history", "total"),
    [
        ([increment(1), increment(2)], 1),
        ([increment(1), increment(2)], 3),
        ([increment(1), increment(1)], 2),
        ([increment(1), increment(5), increment(None, known=False)], 3),
    ],
    ids=["lost", "executed twice", "answered twice", "answer above what is stored"],
)
def test_counter_faults_are_found(history: list[Operation], total: int) -> None:
    with pytest.raises(AssertionError):
        check_counters(history, {b"n": total})
