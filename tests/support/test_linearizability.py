"""The checker against brute force: histories of a true register, and the same with something changed."""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.linearizability import (
    APPEND,
    COMPARE_AND_SET,
    DELETE,
    INCREMENT,
    READ,
    WRITE,
    WRITE_IF_ABSENT,
    Operation,
    State,
    apply_operation,
    is_linearizable,
    is_possible,
    violations,
)

KEY = b"k"


def brute_force(history: Sequence[Operation], initial: State = None) -> bool:
    """Every choice of the unknown ones, in every order that real time allows."""
    known = [operation for operation in history if operation.known]
    unknown = [operation for operation in history if not operation.known]
    for count in range(len(unknown) + 1):
        for chosen in itertools.combinations(unknown, count):
            for order in itertools.permutations([*known, *chosen]):
                if _respects_time(order) and _explains(order, initial):
                    return True
    return False


def _respects_time(order: Sequence[Operation]) -> bool:
    return all(not later.returned < earlier.invoked for earlier, later in itertools.combinations(order, 2))


def _explains(order: Sequence[Operation], state: State) -> bool:
    for operation in order:
        possible, state = is_possible(state, operation)
        if not possible:
            return False
    return True


def true_history(rng: random.Random, size: int, kinds: Sequence[str]) -> list[Operation]:
    """Operations executed one by one on a register, each inside an interval around its moment; some forgotten."""
    history: list[Operation] = []
    state: State = None
    for moment in range(size):
        kind = rng.choice(kinds)
        argument = rng.choice((b"1", b"2", b"3")) if kind in (WRITE, APPEND, WRITE_IF_ABSENT) else rng.randint(1, 2)
        operation = Operation(kind, KEY, argument)
        result, after = apply_operation(state, operation)
        known = rng.random() < 0.75
        executed = known or rng.random() < 0.5
        if executed:
            state = after
        invoked = moment - rng.choice((0.1, 1.1, 2.1))
        returned = moment + rng.choice((0.1, 1.2, 2.2)) if known else float("inf")
        history.append(Operation(kind, KEY, argument, result, invoked, returned, known))
    rng.shuffle(history)
    return history


def mutated(rng: random.Random, history: list[Operation]) -> list[Operation]:
    """One result, one interval or one operation changed."""
    changed = list(history)
    at = rng.randrange(len(changed))
    victim = changed[at]
    choice = rng.random()
    if choice < 0.6:
        results: dict[str, tuple[object, ...]] = {
            READ: (None, b"1", b"2", b"3", b"12"),
            INCREMENT: (1, 2, 3, 4),
            APPEND: (1, 2, 3),
            DELETE: (0, 1),
            WRITE_IF_ABSENT: (False, True),
            WRITE: (None,),
        }
        changed[at] = replace(victim, result=rng.choice(results[victim.kind]))
    elif choice < 0.8:
        shift = rng.choice((-3.0, 3.0))
        changed[at] = replace(victim, invoked=victim.invoked + shift, returned=victim.returned + shift)
    else:
        changed.pop(at)
    return changed


def test_agrees_with_brute_force_on_thousands_of_small_histories() -> None:
    rng = random.Random(20)
    mixes = (
        (READ, WRITE),
        (READ, INCREMENT),
        (READ, WRITE, INCREMENT, APPEND),
        (READ, WRITE_IF_ABSENT, DELETE, APPEND),
    )
    verdicts = {True: 0, False: 0}
    for number in range(2500):
        history = true_history(rng, rng.randint(1, 5), mixes[number % len(mixes)])
        assert is_linearizable(history), history
        wrong = mutated(rng, history)
        expected = brute_force(wrong)
        assert is_linearizable(wrong) is expected, wrong
        verdicts[expected] += 1
    assert verdicts[False] > 400
    assert verdicts[True] > 400


def test_a_long_concurrent_history_is_decided_quickly() -> None:
    rng = random.Random(4)
    history = true_history(rng, 1200, (READ, WRITE, INCREMENT))
    assert is_linearizable(history)


def test_stale_read_is_found() -> None:
    history = [
        Operation(WRITE, KEY, b"old", None, 0, 1),
        Operation(WRITE, KEY, b"new", None, 2, 3),
        Operation(READ, KEY, None, b"old", 4, 5),
    ]
    assert not is_linearizable(history)
    assert violations(history) == {KEY: history}


def test_write_of_unknown_outcome_may_come_late_but_not_twice() -> None:
    unknown = Operation(INCREMENT, KEY, 1, None, 0, known=False)
    late = Operation(READ, KEY, None, b"1", 10, 11)
    twice = Operation(READ, KEY, None, b"2", 12, 13)
    assert is_linearizable([unknown, Operation(READ, KEY, None, None, 5, 6), late])
    assert not is_linearizable([unknown, late, twice])


def test_keys_are_judged_alone() -> None:
    good = Operation(WRITE, b"a", b"1", None, 0, 1)
    bad = Operation(READ, b"b", None, b"1", 2, 3)
    assert list(violations([good, bad])) == [b"b"]


def test_histories_are_handed_on_to_another_checker_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "histories"
    monkeypatch.setenv("ZATTREDIS_TEST_HISTORIES", str(file))
    history = [
        Operation(WRITE_IF_ABSENT, KEY, b"\xff", True, 10.0, 10.5),
        Operation(INCREMENT, b"other", 2, 2, 10.0, 11.0),
        Operation(COMPARE_AND_SET, KEY, (b"\xff", b"new"), None, 10.25, known=False),
        Operation(READ, KEY, None, None, 9.0, 9.5),
    ]
    assert violations(history, {b"other": b"0"}) == {}
    assert violations(history[:1]) == {}
    assert [json.loads(line) for line in file.read_text().splitlines()] == [
        [
            [WRITE_IF_ABSENT, "\xff", None, "1", 2_000_000, 2_500_000, True],
            [COMPARE_AND_SET, "\xff", "new", None, 2_250_000, 2_250_000, False],
            [READ, None, None, None, 1_000_000, 1_500_000, True],
        ],
        [
            [WRITE, "0", None, None, 0, 1, True],
            [INCREMENT, "2", None, "2", 1_000_000, 2_000_000, True],
        ],
        [[WRITE_IF_ABSENT, "\xff", None, "1", 1_000_000, 1_500_000, True]],
    ]
