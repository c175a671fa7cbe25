"""Times to live under a controlled clock, against a plain model; and what only this server decides."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.differential import InProcess
from tests.support.keyspace_invariants import check_store

KEYS = [b"a", b"b", b"c"]
START_MS = 1_700_000_000_000

STEPS = st.one_of(
    st.tuples(st.just("SET"), st.sampled_from(KEYS)),
    st.tuples(st.just("PSETEX"), st.sampled_from(KEYS), st.integers(1, 50)),
    st.tuples(st.just("PEXPIRE"), st.sampled_from(KEYS), st.integers(-5, 50)),
    st.tuples(st.just("PERSIST"), st.sampled_from(KEYS)),
    st.tuples(st.just("DEL"), st.sampled_from(KEYS)),
    st.tuples(st.just("RENAME"), st.sampled_from(KEYS), st.sampled_from(KEYS)),
    st.tuples(st.just("GETEX"), st.sampled_from(KEYS), st.integers(1, 50)),
    st.tuples(st.just("PASS"), st.integers(1, 40)),
)
Model = dict[bytes, int]


def carry_out(server: InProcess, model: Model, step: tuple[object, ...], now: int) -> None:
    name, *rest = step
    key = rest[0]
    assert isinstance(key, bytes)
    lives = key in model
    if name == "SET":
        server.call("SET", key, "v")
        model[key] = 0
    elif name == "PSETEX":
        server.call("PSETEX", key, str(rest[1]), "v")
        model[key] = now + int(str(rest[1]))
    elif name == "PEXPIRE":
        assert server.call("PEXPIRE", key, str(rest[1])) == lives
        if lives and int(str(rest[1])) <= 0:
            del model[key]
        elif lives:
            model[key] = now + int(str(rest[1]))
    elif name == "PERSIST":
        assert server.call("PERSIST", key) == (lives and model[key] > 0)
        if lives:
            model[key] = 0
    elif name == "DEL":
        assert server.call("DEL", key) == lives
        model.pop(key, None)
    elif name == "GETEX":
        assert server.call("GETEX", key, "PX", str(rest[1])) == (b"v" if lives else None)
        if lives:
            model[key] = now + int(str(rest[1]))
    elif lives and isinstance(rest[1], bytes):
        server.call("RENAME", key, rest[1])
        model[rest[1]] = model.pop(key)


@pytest.mark.parametrize("maintain", [False, True])
@settings(max_examples=150, deadline=None)
@given(steps=st.lists(STEPS, max_size=30))
def test_keys_are_seen_exactly_while_they_live(maintain: bool, steps: list[tuple[object, ...]]) -> None:
    server = InProcess(now_ms=START_MS, maintain=maintain)
    model: Model = {}
    for step in steps:
        assert server.now_ms is not None
        if step[0] == "PASS":
            server.now_ms += int(str(step[1]))
            for key in [key for key, expire_ms in model.items() if expire_ms and server.now_ms > expire_ms]:
                del model[key]
        else:
            carry_out(server, model, step, server.now_ms)
        for key in KEYS:
            alive = key in model
            assert server.call("EXISTS", key) == alive
            assert server.call("GET", key) == (b"v" if alive else None)
            assert server.call("PEXPIRETIME", key) == (model[key] or -1 if alive else -2)
            left = max(model[key] - server.now_ms, 0) if alive and model[key] else -1 if alive else -2
            assert server.call("PTTL", key) == left
        assert sorted(server.call("KEYS", "*")) == sorted(model)
        assert sorted(server.call("SCAN", "0", "COUNT", "100")[1]) == sorted(model)
        assert (server.call("RANDOMKEY") in model) == bool(model)
        check_store(server.store, server.registers)


def test_idle_time_counts_from_the_last_write() -> None:
    server = InProcess(now_ms=START_MS)
    server.call("SET", "k", "v")
    server.now_ms = START_MS + 7_900
    server.call("GET", "k")
    server.call("TOUCH", "k")
    assert server.call("OBJECT", "IDLETIME", "k") == 7
    server.call("APPEND", "k", "x")
    assert server.call("OBJECT", "IDLETIME", "k") == 0


def test_memory_usage_grows_with_the_value() -> None:
    server = InProcess(now_ms=START_MS)
    sizes = []
    for length in (1, 1000, 100_000):
        server.call("SET", "k", "x" * length)
        sizes.append(server.call("MEMORY", "USAGE", "k"))
        assert length < sizes[-1] < length + 200
    assert server.call("MEMORY", "USAGE", "none") is None
