"""Random sequences of commands against redis-server 7.0, and random numbers through INCRBYFLOAT."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.differential import Connection, InProcess, compare
from tests.support.redis_server import RedisServer

KEYS = st.sampled_from(["a", "b", "{a}c"])
VALUES = st.sampled_from(["", "0", "5", "-7", "9223372036854775807", "3.5", "text", "x" * 50, "x" * 70_000, "1e3"])
NUMBERS = st.sampled_from(["0", "1", "-1", "7", "9223372036854775807", "-9223372036854775808", "x", "1.5"])
OFFSETS = st.sampled_from(["0", "1", "-1", "-3", "10", "70000", "100000"])
FAR = "4000000000"


def line(*parts: object) -> st.SearchStrategy[tuple[str, ...]]:
    """A command line of fixed words and drawn ones."""
    return st.tuples(*[part if isinstance(part, st.SearchStrategy) else st.just(part) for part in parts])  # type: ignore[arg-type]


COMMANDS = st.one_of(
    line("SET", KEYS, VALUES), line("SET", KEYS, VALUES, "GET"), line("SET", KEYS, VALUES, "NX", "GET"),
    line("SET", KEYS, VALUES, "XX", "KEEPTTL"), line("SET", KEYS, VALUES, "EXAT", FAR), line("SETNX", KEYS, VALUES),
    line("GET", KEYS), line("GETDEL", KEYS), line("GETSET", KEYS, VALUES),
    line("GETEX", KEYS, "PERSIST"), line("GETEX", KEYS, "EXAT", FAR), line("GETEX", KEYS, "EXAT", "1"),
    line("MGET", KEYS, KEYS, KEYS), line("MSET", KEYS, VALUES, KEYS, VALUES),
    line("MSETNX", KEYS, VALUES, KEYS, VALUES),
    line("APPEND", KEYS, VALUES), line("STRLEN", KEYS), line("INCR", KEYS), line("DECRBY", KEYS, NUMBERS),
    line("INCRBY", KEYS, NUMBERS), line("INCRBYFLOAT", KEYS, NUMBERS), line("SETRANGE", KEYS, OFFSETS, VALUES),
    line("GETRANGE", KEYS, OFFSETS, OFFSETS), line("DEL", KEYS, KEYS), line("UNLINK", KEYS), line("EXISTS", KEYS, KEYS),
    line("TYPE", KEYS), line("RENAME", KEYS, KEYS), line("RENAMENX", KEYS, KEYS), line("COPY", KEYS, KEYS),
    line("COPY", KEYS, KEYS, "DB", "1", "REPLACE"), line("MOVE", KEYS, "1"),
    line("SELECT", st.sampled_from(["0", "1"])),
    line("SWAPDB", "0", "1"), line("FLUSHDB"), line("DBSIZE"), line("EXPIREAT", KEYS, FAR, "LT"), line("PERSIST", KEYS),
    line("EXPIREAT", KEYS, "1", "XX"), line("PEXPIREAT", KEYS, FAR + "123", "NX"), line("PEXPIRETIME", KEYS),
    line("PEXPIREAT", KEYS, FAR + "124", "GT"), line("EXPIRETIME", KEYS), line("OBJECT", "ENCODING", KEYS),
    line("OBJECT", "REFCOUNT", KEYS), line("LCS", KEYS, "b", "LEN"), line("TOUCH", KEYS, KEYS),
)  # fmt: skip


@pytest.mark.parametrize("maintain", [False, True])
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(lines=st.lists(COMMANDS, max_size=40))
def test_any_sequence_is_answered_alike(
    redis_server: RedisServer, maintain: bool, lines: list[tuple[str, ...]]
) -> None:
    real = Connection(redis_server.port)
    try:
        compare(InProcess(maintain=maintain), real, [*lines, "DBSIZE", "SELECT 1", "DBSIZE"])
    finally:
        real.close()


DIGITS = st.text("0123456789", max_size=30)
DECIMALS = st.builds(
    lambda sign, whole, part, exponent: f"{sign}{whole}.{part}{exponent}",
    st.sampled_from(["", "-", "+"]), DIGITS, DIGITS,
    st.one_of(st.just(""), st.integers(-60, 40).map(lambda number: f"e{number}")),
)  # fmt: skip
HEXADECIMALS = st.builds(
    lambda whole, part, exponent: f"0x{whole}.{part}p{exponent}",
    st.text("0123456789abcdefABCDEF", max_size=20), st.text("0123456789abcdef", max_size=20), st.integers(-100, 80),
)  # fmt: skip


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(numbers=st.lists(st.one_of(DECIMALS, HEXADECIMALS, st.floats().map(repr)), min_size=2, max_size=6))
def test_sums_of_floats_have_the_same_digits(redis_server: RedisServer, numbers: list[str]) -> None:
    real = Connection(redis_server.port)
    try:
        first, *others = numbers
        compare(InProcess(), real, [("SET", "k", first), *[("INCRBYFLOAT", "k", number) for number in others]])
    finally:
        real.close()


PATTERN = st.text("ab*?[]^-\\", max_size=8)
TEXT = st.text("ab-^]\\*", min_size=1, max_size=6)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(pattern=PATTERN, keys=st.sets(TEXT, min_size=1, max_size=6))
def test_patterns_match_the_same_keys(redis_server: RedisServer, pattern: str, keys: set[str]) -> None:
    real = Connection(redis_server.port)
    try:
        for key in sorted(keys):
            compare(InProcess(), real, [("SET", key, "v"), ("KEYS", pattern), ("SCAN", "0", "MATCH", pattern)])
    finally:
        real.close()
