"""The set group against redis-server 7.0: every reply alike, but for the order of members where Redis has none."""

from __future__ import annotations

import re

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.differential import Backend, Connection, InProcess, compare, unordered
from tests.support.redis_server import RedisServer
from zattredis.commands import sets, sets_combined

Pair = tuple[Backend, Connection]

BAD_INTEGERS = [
    "''", "abc", "1.5", "+1", "01", "-0", "1x", "0x10", "9223372036854775808", "-9223372036854775809", "1e3", "１",
]  # fmt: skip
EDGES = ["9223372036854775807", "-9223372036854775808", "-9223372036854775807", "-1", "0"]
SMALL_INTEGERS = "5 1 3 -7 70000 9223372036854775807 -9223372036854775808 2"
MANY = " ".join(f"member:{number}" for number in range(1500))
MANY_INTEGERS = " ".join(str(number * 7 - 3000) for number in range(1500))

WRONG_ARITY = [
    f"{name} {words}".strip()
    for name, lines in {
        "SADD": ("", "k"), "SREM": ("", "k"), "SCARD": ("", "k x"), "SISMEMBER": ("", "k", "k a b"),
        "SMISMEMBER": ("", "k"), "SMEMBERS": ("", "k x"), "SMOVE": ("", "a b", "a b c d"), "SPOP": ("", "k 1 2"),
        "SRANDMEMBER": ("", "k 1 2", "k a b"), "SINTER": ("",), "SINTERCARD": ("", "1"), "SINTERSTORE": ("", "d"),
        "SUNION": ("",), "SUNIONSTORE": ("", "d"), "SDIFF": ("",), "SDIFFSTORE": ("", "d"), "SSCAN": ("", "k"),
    }.items()
    for words in lines
]  # fmt: skip


def test_wrong_arity(pair: Pair) -> None:
    compare(*pair, [*WRONG_ARITY, "SADD k a", *WRONG_ARITY, "SET k v", *WRONG_ARITY])


EVERY_COMMAND = [
    "SADD k a", "SREM k a", "SCARD k", "SISMEMBER k a", "SMISMEMBER k a b", "SMEMBERS k", "SMOVE k o a", "SMOVE o k 1",
    "SMOVE none k 1", "SPOP k", "SPOP k 0", "SPOP k -1", "SPOP k x", "SRANDMEMBER k", "SRANDMEMBER k 0",
    "SRANDMEMBER k x", "SINTER k", "SINTER o k", "SINTER none k", "SINTER k none", "SINTERCARD 1 k",
    "SINTERCARD 2 none k", "SINTERCARD 2 k none LIMIT x", "SINTERCARD 1 k FOO", "SINTERSTORE d o k",
    "SINTERSTORE k o none", "SUNION o k", "SUNION none k", "SUNIONSTORE d o k", "SDIFF o k", "SDIFF none k",
    "SDIFFSTORE d none k", "SSCAN k 0", "SSCAN k x", "SSCAN k 0 COUNT 0", "SSCAN k 0 FOO",
]  # fmt: skip


@pytest.mark.parametrize("prepared", ["DEL k", "SET k text", "SETRANGE k 100000 x", "SADD k x y"])
def test_every_command_on_other_types_and_missing_keys(pair: Pair, prepared: str) -> None:
    for line in EVERY_COMMAND:
        alike = unordered if prepared.startswith("SADD") else bytes.__eq__
        if line.startswith(("SPOP k", "SRANDMEMBER k")) and prepared.startswith("SADD"):
            continue
        compare(*pair, [prepared, "SADD o 1 2 3", line, "EXISTS k d", "TYPE d", "SCARD o"], alike)


@pytest.mark.parametrize("members", [SMALL_INTEGERS, "a b c 5 ключ 01 +1 -0 1.0", MANY, MANY_INTEGERS])
def test_members(pair: Pair, members: str) -> None:
    alike = bytes.__eq__ if members == SMALL_INTEGERS else unordered
    odd = ("SADD", "k", "", "\0", "\1", "\0\1\2\3", "\1\1", "\1\2", "\1\3", "\r\n", "x" * 3000, " 5", "5 ")
    compare(
        *pair,
        [f"SADD k {members}", f"SADD k {members}", "SCARD k", "SMEMBERS k", "SISMEMBER k 5", "SISMEMBER k 05",
         "SISMEMBER k member:700", "SISMEMBER k 4", "SMISMEMBER k 5 4 5 member:8 x 9223372036854775807", "TTL k",
         "EXPIREAT k 9999999999", "SADD k 6 5", "SREM k 5 6 nothing 5", "EXPIRETIME k", "SMEMBERS k"],
        alike,
    )  # fmt: skip
    compare(
        *pair,
        [f"SADD k {members}", odd, odd, "SCARD k", "SMEMBERS k", ("SMISMEMBER", *odd[1:], "\0\1", "\0\0"),
         ("SREM", *odd[1:]), ("SREM", *odd[1:]), "SCARD k", "SMEMBERS k", f"SREM k {members} x", "EXISTS k"],
        unordered,
    )  # fmt: skip


@pytest.mark.parametrize("members", [SMALL_INTEGERS, "a b c", MANY])
def test_moves(pair: Pair, members: str) -> None:
    compare(
        *pair,
        [f"SADD a {members}", "SADD b 1 x", "SMOVE a b 5", "SMOVE a b 5", "SMOVE a b a", "SMOVE a b 1", "SMOVE a a 3",
         "SMOVE a a 5", "SMOVE a c member:9", "SMOVE a c 70000", "SMEMBERS a", "SMEMBERS b", "SMEMBERS c",
         "SADD one 1", "SMOVE one two 1", "EXISTS one two", "SMOVE two two 1", "EXISTS two", "EXPIREAT two 9999999999",
         "SADD one 2", "SMOVE one two 2", "EXPIRETIME two"],
        unordered,
    )  # fmt: skip


def members_hidden(got: bytes, expected: bytes) -> bool:
    """A comparison of replies that hold random members."""
    return re.sub(rb"\$\d+\r\n[^\r]*\r\n", b"$", got) == re.sub(rb"\$\d+\r\n[^\r]*\r\n", b"$", expected)


@pytest.mark.parametrize("members", [SMALL_INTEGERS, "a b c d e f g h 1 2 3", MANY, MANY_INTEGERS])
def test_random_members(pair: Pair, members: str) -> None:
    size = len(members.split())
    counts = ["0", "1", "2", "7", "100", "2000", str(size), str(size - 1), str(size // 2), *BAD_INTEGERS, *EDGES]
    for count in counts:
        compare(*pair, [f"SADD k {members}", f"SPOP k {count}", "SCARD k", "SPOP k", "EXISTS k"], members_hidden)
        if count not in ("-9223372036854775807", "9223372036854775807"):
            draws = [f"SRANDMEMBER k {count}", f"SRANDMEMBER k -{count}", "SCARD k"]
            compare(*pair, [f"SADD k {members}", *draws], members_hidden)
    compare(*pair, [f"SADD k {members}", "SRANDMEMBER k 9223372036854775807"], unordered)
    compare(*pair, ["SADD k one", "SRANDMEMBER k", "SRANDMEMBER k -3", "SRANDMEMBER k 5", "SPOP k", "SPOP k"])
    compare(*pair, ["SADD k one", "SPOP k 5", "SPOP k 5", "SRANDMEMBER k 5", "SRANDMEMBER k -5", "SRANDMEMBER k"])


SETS = [
    "SADD a 1 2 3 4 5 6", "SADD b 4 5 6 7 100000", "SADD c 6 7 x y", "SADD t x y z", f"SADD m {MANY}",
    f"SADD n {MANY_INTEGERS} member:3 member:4",
]  # fmt: skip
COMBINED = [
    "a", "a b", "b a", "a b c", "a none", "none a", "none", "t c", "m n", "n m", "m t", "a m", "m a b n", "m m", "a a",
    "c a b", "t none c", "m none", "n m a",
]  # fmt: skip


@pytest.mark.parametrize("name", ["SINTER", "SUNION", "SDIFF"])
def test_combinations(pair: Pair, name: str) -> None:
    lines = [*SETS, "SET text v"]
    for keys in COMBINED:
        count = len(keys.split())
        lines += [f"{name} {keys}", f"{name}STORE d {keys}", "SCARD d", "SMEMBERS d", f"SINTERCARD {count} {keys}"]
        lines += [f"SINTERCARD {count} {keys} LIMIT {limit}" for limit in (0, 1, 3, 10000)]
    lines += ["EXPIRE d 100", f"{name}STORE a a b", "TTL d", f"{name}STORE d a", "TTL d", f"{name}STORE text a"]
    lines += [f"{name}STORE d text", "TYPE text", f"{name} d text", f"{name}STORE d none none2", "EXISTS d"]
    compare(*pair, lines, unordered)


@pytest.mark.parametrize("name", ["SINTER", "SUNION", "SDIFF"])
def test_results_that_are_integers_are_in_order(pair: Pair, name: str) -> None:
    compare(*pair, ["SADD a 9 1 5 3 -2 70000", "SADD b 4 5 1 9", f"{name} a b", f"{name}STORE d a b", "SMEMBERS d"])


@pytest.mark.parametrize("name", ["SINTER", "SUNION", "SDIFF"])
def test_results_too_large_to_be_held(real: Connection, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(sets_combined, "HELD_MAX", 100)
    lines = [*SETS, f"SADD o {MANY} x y z"]
    lines += ["SADD p " + " ".join(map(str, range(at, at + 900))) for at in range(0, 9000, 900)]
    for keys in ("m", "m n", "m o", "o m", "p m", "m p n", "p", "o p m n"):
        lines += [f"{name} {keys}", f"{name}STORE d {keys}", "SCARD d"]
    compare(InProcess(), real, lines, unordered)


def test_distinct_random_members_of_a_set_read_through(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sets, "_DRAWN_MAX", 100)
    ours = InProcess()
    ours.call("SADD", "k", *MANY.split())
    times = dict.fromkeys(MANY.split(), 0)
    for _ in range(40):
        drawn = ours.call("SRANDMEMBER", "k", 1200)
        assert len(drawn) == len(set(drawn)) == 1200
        for member in drawn:
            times[member.decode()] += 1
    # Each is drawn 32 times in the mean, with a standard deviation of 2.5.
    assert 32 - 15 < min(times.values()) < max(times.values()) <= 40


def test_sintercard_arguments(pair: Pair) -> None:
    lines = ["SADD a 1 2 3"]
    for number in [*BAD_INTEGERS, *EDGES, "1", "2", "3", "4"]:
        lines += [f"SINTERCARD {number} a", f"SINTERCARD {number} a LIMIT 1", f"SINTERCARD 1 a LIMIT {number}"]
    lines += ["SINTERCARD 1 a LIMIT", "SINTERCARD 1 a limit 2", "SINTERCARD 1 a LIMIT 1 LIMIT 2", "SINTERCARD 1 a b"]
    lines += ["SINTERCARD 2 LIMIT 1", "SINTERCARD 1 a LIMIT 1 FOO", "SINTERCARD 3 a a LIMIT"]
    compare(*pair, lines)


def test_sscan_arguments(pair: Pair) -> None:
    cursors = [*BAD_INTEGERS, "-1", "18446744073709551616", "99999999999999999999999"]
    options = [
        "", "MATCH", "COUNT", "MATCH *", "MATCH 1*", "MATCH x", "COUNT 1", "COUNT 1000", "COUNT 0", "COUNT -1", "FOO",
        "COUNT abc", "MATCH 1 MATCH 2", "COUNT 5 MATCH 2 COUNT 7", "count 5 match 3", "TYPE set", "MATCH a FOO",
        "COUNT 9223372036854775807", "COUNT 9223372036854775808", "NOVALUES",
    ]  # fmt: skip
    lines = ["SADD k 1 2 3 12"]
    lines += [f"SSCAN {key} {cursor}" for key in ("k", "none") for cursor in cursors if cursor not in ("01", "1e3")]
    lines += [f"SSCAN {key} 0 {option}" for key in ("k", "none") for option in options]
    compare(*pair, lines, unordered)


KEYS = st.sampled_from(["a", "b", "c"])
MEMBERS = st.one_of(
    st.integers(-3, 12).map(str), st.sampled_from(["x", "y", "z", "", "\0", "\1\2", "9223372036854775808", "70000"])
)
BULK = st.sampled_from([MANY, MANY_INTEGERS, " ".join(map(str, range(510))), " ".join("x" * n for n in range(9, 50))])


def line(*parts: object) -> st.SearchStrategy[tuple[str, ...]]:
    """A command line of fixed words and drawn ones."""
    return st.tuples(*[part if isinstance(part, st.SearchStrategy) else st.just(part) for part in parts])


COMMANDS = st.one_of(
    line("SADD", KEYS, MEMBERS), line("SADD", KEYS, MEMBERS, MEMBERS, MEMBERS), line("SREM", KEYS, MEMBERS, MEMBERS),
    st.tuples(KEYS, BULK).map(lambda drawn: ("SADD", drawn[0], *drawn[1].split())),
    st.tuples(KEYS, BULK).map(lambda drawn: ("SREM", drawn[0], *drawn[1].split()[3:])),
    line("SISMEMBER", KEYS, MEMBERS), line("SMISMEMBER", KEYS, MEMBERS, MEMBERS), line("SCARD", KEYS),
    line("SMEMBERS", KEYS), line("SMOVE", KEYS, KEYS, MEMBERS), line("SINTERSTORE", KEYS, KEYS, KEYS),
    line("SUNIONSTORE", KEYS, KEYS, KEYS), line("SDIFFSTORE", KEYS, KEYS, KEYS), line("SINTER", KEYS, KEYS),
    line("SDIFF", KEYS, KEYS, KEYS), line("SUNION", KEYS, KEYS), line("SINTERCARD", "2", KEYS, KEYS),
    line("RENAME", KEYS, KEYS), line("DEL", KEYS), line("EXPIREAT", KEYS, "4000000000"), line("EXPIRETIME", KEYS),
    line("SPOP", KEYS, "5000"), line("TYPE", KEYS), line("EXPIREAT", KEYS, "1"),
)  # fmt: skip


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(lines=st.lists(COMMANDS, max_size=30))
def test_any_sequence_is_answered_alike(redis_server: RedisServer, lines: list[tuple[str, ...]]) -> None:
    real = Connection(redis_server.port)
    try:
        compare(InProcess(maintain=True), real, [*lines, "SMEMBERS a", "SMEMBERS b", "SMEMBERS c"], unordered)
    finally:
        real.close()
