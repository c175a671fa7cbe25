"""Is a concurrent history of one key linearizable?

The search of Wing & Gong (1993) with the memory of Lowe (2017): operations are tried in every order that real time
allows, and a pair (set of operations done, state) is never entered twice. Keys are independent, and linearizability is
local (Herlihy & Wing 1990, theorem 1), so each key is checked alone.

An operation whose outcome is unknown may take effect at any time after it was invoked, or never.

With ZATTREDIS_TEST_HISTORIES naming a file, every history judged is appended to it, a line of JSON for each key, for a
checker that is not ours to judge again: `tests/support/porcupine.go` has porcupine do so (CONTRIBUTING says how).
"""

from __future__ import annotations

import json
import math
import os
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

READ, WRITE, WRITE_IF_ABSENT = "read", "write", "write_if_absent"
INCREMENT, APPEND, DELETE = "increment", "append", "delete"
COMPARE_AND_SET = "compare_and_set"

State = bytes | None


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation on one key, with the times of its invocation and return (same clock for all clients)."""

    kind: str
    key: bytes
    argument: Any = None  # WRITE, APPEND, WRITE_IF_ABSENT: bytes; INCREMENT: int; COMPARE_AND_SET: (before, after)
    # READ: bytes|None; INCREMENT, APPEND, DELETE: int; WRITE_IF_ABSENT, COMPARE_AND_SET: bool; WRITE: not looked at
    result: Any = None
    invoked: float = 0.0
    returned: float = math.inf
    known: bool = True  # False: it may or may not have been executed
    client: int = 0


def apply_operation(state: State, operation: Operation) -> tuple[Any, State]:
    """What a single register answers, and its next state."""
    kind, argument = operation.kind, operation.argument
    if kind == READ:
        return state, state
    if kind == WRITE:
        return None, argument
    if kind == INCREMENT:
        total = int(state or b"0") + argument
        return total, b"%d" % total
    if kind == APPEND:
        longer = (state or b"") + argument
        return len(longer), longer
    if kind == DELETE:
        return int(state is not None), None
    if kind == WRITE_IF_ABSENT:
        return state is None, argument if state is None else state
    if kind == COMPARE_AND_SET:
        before, after = argument
        return state == before, after if state == before else state
    raise ValueError(kind)


def is_possible(state: State, operation: Operation) -> tuple[bool, State]:
    """Whether the operation can have had its result in this state, and the state after it."""
    try:
        result, after = apply_operation(state, operation)
    except ValueError:  # INCR of something that is no number: was refused, so it is not in a history as done
        return False, state
    if operation.kind == COMPARE_AND_SET and not operation.known:
        return bool(result), after  # without an effect it is left out
    return (not operation.known or operation.kind == WRITE or result == operation.result), after


def relevant(history: Sequence[Operation]) -> list[Operation]:
    """Without what cannot matter: unknown reads, and, where values are only written and read, unknown writes of values
    that nobody read (leaving such a write out cannot contradict anything)."""
    kept = [operation for operation in history if operation.known or operation.kind != READ]
    if all(operation.kind in (READ, WRITE) for operation in kept):
        seen = {operation.result for operation in kept if operation.kind == READ}
        kept = [operation for operation in kept if operation.known or operation.argument in seen]
    return kept


class _Event:
    """A call or a return in the doubly linked list of what is not yet linearized."""

    __slots__ = ("following", "is_call", "match", "number", "previous")

    def __init__(self, number: int, is_call: bool) -> None:
        self.number = number
        self.is_call = is_call
        self.match: _Event | None = None
        self.previous: _Event | None = None
        self.following: _Event | None = None

    def unlink(self) -> None:
        assert self.previous is not None
        self.previous.following = self.following
        if self.following is not None:
            self.following.previous = self.previous

    def relink(self) -> None:
        assert self.previous is not None
        self.previous.following = self
        if self.following is not None:
            self.following.previous = self


def _linked(operations: Sequence[Operation]) -> _Event:
    """The head of the list of events in order of time; at equal times calls come first (they overlap)."""
    timed: list[tuple[float, int, _Event]] = []
    for number, operation in enumerate(operations):
        call = _Event(number, True)
        timed.append((operation.invoked, 0, call))
        if operation.known:
            call.match = _Event(number, False)
            timed.append((operation.returned, 1, call.match))
    timed.sort(key=lambda item: item[:2])
    head = last = _Event(-1, True)
    for _, _, event in timed:
        last.following, event.previous = event, last
        last = event
    return head


def _twins(operations: Sequence[Operation]) -> list[int]:
    """For each unknown operation the one before it that does the same, else -1. What the later one could explain, the
    earlier one could, too, so only the first of them is tried at each point."""
    twins = [-1] * len(operations)
    last: dict[tuple[str, Any], int] = {}
    for number, operation in sorted(enumerate(operations), key=lambda pair: pair[1].invoked):
        if not operation.known:
            twins[number] = last.get((operation.kind, operation.argument), -1)
            last[operation.kind, operation.argument] = number
    return twins


class SearchTooLong(Exception):
    """Neither an order nor its absence was found within the steps allowed."""


def is_linearizable(history: Sequence[Operation], initial: State = None, steps_max: float = math.inf) -> bool:
    """Whether the history of ONE key can be explained by a single register that starts as `initial`.

    Raises SearchTooLong after `steps_max` steps.
    """
    operations = relevant(history)
    waiting = sum(operation.known for operation in operations)
    head = _linked(operations)
    twins = _twins(operations)
    state = initial
    done = 0
    visited: set[tuple[int, State]] = set()
    path: list[tuple[_Event, State]] = []
    event = head.following
    certain = True  # operations known to have happened are tried first, at each point; most others never did
    steps = 0
    while waiting:
        steps += 1
        if steps > steps_max:
            raise SearchTooLong(f"{len(operations)} operations")
        if event is not None and event.is_call:
            twin = -1 if certain else twins[event.number]
            if (event.match is not None) is not certain or (twin >= 0 and not done >> twin & 1):
                event = event.following
                continue
            possible, after = is_possible(state, operations[event.number])
            key = (done | 1 << event.number, after)
            if possible and key not in visited:
                visited.add(key)
                path.append((event, state))
                done, state = key
                event.unlink()
                if event.match is not None:
                    event.match.unlink()
                    waiting -= 1
                event, certain = head.following, True
            else:
                event = event.following
        elif certain:
            event, certain = head.following, False
        else:  # a return whose operation is not done yet, or the end: the last choice was wrong
            if not path:
                return False
            event, state = path.pop()
            done &= ~(1 << event.number)
            certain = event.match is not None
            if event.match is not None:
                event.match.relink()
                waiting += 1
            event.relink()
            event = event.following
    return True


def violations(history: Iterable[Operation], initial: dict[bytes, State] | None = None) -> dict[bytes, list[Operation]]:
    """The keys whose histories are not linearizable, each with its operations in order of invocation."""
    by_key: defaultdict[bytes, list[Operation]] = defaultdict(list)
    for operation in history:
        by_key[operation.key].append(operation)
    bad = {}
    for key, operations in by_key.items():
        hand_on(operations, (initial or {}).get(key))
        if not is_linearizable(operations, (initial or {}).get(key)):
            bad[key] = sorted(operations, key=lambda operation: operation.invoked)
    return bad


def hand_on(history: Sequence[Operation], initial: State = None) -> None:
    """Append the history of one key to the file for other checkers, if one is wanted."""
    if path := os.environ.get("ZATTREDIS_TEST_HISTORIES"):
        with Path(path).open("a") as file:
            file.write(as_json(history, initial))


def as_json(history: Sequence[Operation], initial: State = None) -> str:
    """Return the history of one key as a line: a list of [kind, argument, second argument, result, invoked, returned,
    known], words and numbers as strings, times in microseconds. What the key was before is a write before all."""
    started = min((operation.invoked for operation in history), default=0.0) - 1.0
    rows: list[list[Any]] = []
    if initial is not None:
        rows.append([WRITE, _text(initial), None, None, 0, 1, True])
    for operation in history:
        pair = operation.argument if operation.kind == COMPARE_AND_SET else (operation.argument, None)
        result = operation.result if operation.known and operation.kind != WRITE else None
        times = [operation.invoked, operation.returned if operation.known else operation.invoked]
        times = [round((moment - started) * 1e6) for moment in times]
        rows.append([operation.kind, *map(_text, pair), _text(result), *times, operation.known])
    return json.dumps(rows) + "\n"


def _text(word: Any) -> str | None:
    if isinstance(word, bytes):
        return word.decode("latin-1")
    return None if word is None else str(int(word))
