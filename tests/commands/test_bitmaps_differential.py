"""The bitmap group against redis-server 7.0: every reply byte for byte alike, the strings left behind too."""

from __future__ import annotations

import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.differential import Backend, Connection, InProcess, compare
from tests.support.redis_server import RedisServer

Pair = tuple[Backend, Connection]

BAD_INTEGERS = [
    "''", "abc", "1.5", "+1", "01", "-0", "1x", "0x10", "9223372036854775808", "-9223372036854775809", "1e3", "１",
]  # fmt: skip
EDGES = ["9223372036854775807", "-9223372036854775808", "-1", "4294967296", "4294967295", "2305843009213693952"]
LARGE_BIT = str(600_001 * 8 + 3)

WRONG_ARITY = [
    "SETBIT", "SETBIT k", "SETBIT k 1", "SETBIT k 1 1 1", "GETBIT", "GETBIT k", "GETBIT k 1 2", "BITCOUNT",
    "BITCOUNT k 1", "BITCOUNT k 1 2 BIT 3", "BITPOS", "BITPOS k", "BITPOS k 1 0 1 BIT 3", "BITOP", "BITOP AND",
    "BITOP AND d", "BITFIELD", "BITFIELD k", "BITFIELD_RO", "BITFIELD_RO k",
]  # fmt: skip


def test_wrong_arity(pair: Pair) -> None:
    compare(*pair, [*WRONG_ARITY, "SET k v", *WRONG_ARITY, "DEL k", "SADD k v", *WRONG_ARITY])


@pytest.mark.parametrize("prepared", ["DEL k", "SET k abc EX 1000", "SET k 12", "SADD k a", "SETRANGE k 600000 abc"])
def test_setbit_and_getbit(pair: Pair, prepared: str) -> None:
    after = ["OBJECT ENCODING k", "STRLEN k", "TTL k", "TYPE k"]
    for offset in [*BAD_INTEGERS, *EDGES, "0", "7", "8", "100", LARGE_BIT, "#1"]:
        if offset == "4294967295":
            continue
        for bit in ("0", "1", "2", "-1", "x", "01", "9223372036854775808"):
            compare(*pair, [prepared, f"SETBIT k {offset} {bit}", *after, f"GETBIT k {offset}", "GETRANGE k 0 20"])
    compare(*pair, [prepared, "SETBIT k 1 0", *after, "SETBIT k 1 1", "SETBIT k 1 1", "GETRANGE k 0 9", *after])


def test_the_last_bit(pair: Pair) -> None:
    compare(
        *pair,
        ["SETBIT k 4294967295 1", "STRLEN k", "GETBIT k 4294967295", "GETBIT k 4294967294", "BITPOS k 1",
         "BITCOUNT k", "BITPOS k 0 -1", "BITFIELD k SET u63 4294967295 -1 GET u63 4294967295", "STRLEN k", "DEL k"],
    )  # fmt: skip


RANGES = [
    "", "0", "0 -1", "1 2", "-2 -1", "-1 -2", "5 3", "100 200", "-100 1", "-100 -50", "0 0", "1 1 BIT", "0 -1 BIT",
    "9 17 bit", "-9 -2 BIT", "-2 -9 BIT", "3 3 BYTE", "0 1 byte", "0 1 FOO", "0 1 BIT BIT", "x 1", "1 x", "1 x FOO",
    "x", "9223372036854775807 -9223372036854775808", "-9223372036854775808 9223372036854775807",
    "-9223372036854775808 9223372036854775807 BIT", "0 4294967296", "7 8 BIT", "8 15 BIT", "1 -2 BIT", "2 -2",
    "9223372036854775808 1", "-5 -6 FOO", "1 0 FOO", "1 0 x",
]  # fmt: skip
VALUES = ["", "abc", "\xff" * 3, "\0\0", "\xff\0\xff\0", "\0\xff\x0f", "12", "\xff\xff\xff\xff\xff\xff\xff\xfe\x7f"]


def binary(text: str) -> bytes:
    return text.encode("latin-1")


@pytest.mark.parametrize("prepared", ["DEL k", "SADD k a", *VALUES])
def test_bitcount_and_bitpos(pair: Pair, prepared: str) -> None:
    lines: list[object] = [prepared if " k" in prepared else (b"SET", b"k", binary(prepared))]
    for where in RANGES:
        lines += [f"BITCOUNT k {where}", f"BITPOS k 1 {where}", f"BITPOS k 0 {where}"]
    lines += [f"BITPOS k {bit}" for bit in (*BAD_INTEGERS, *EDGES, "2")]
    lines += [f"BITPOS k 2 x {where}" for where in RANGES]
    compare(*pair, lines)  # type: ignore[arg-type]


def test_ranges_of_large_strings(pair: Pair) -> None:
    generator = random.Random(1)
    size = 2_100_000
    drawn = generator.sample(range(9 * 10**6), 30)
    places = sorted({0, 16_383 * 8 + 7, 16_384 * 8, 65_536 * 8, 1_000_000, size * 8 - 1, *drawn})
    lines: list[object] = [f"SETBIT k {place} 1" for place in places]
    lines += [(b"SETRANGE", b"k", b"300000", b"\xff" * 200_000), (b"SETRANGE", b"f", b"0", b"\xff" * size)]
    lines += ["BITCOUNT k", "BITCOUNT f", "BITPOS f 0", "BITPOS f 0 0 -1", "BITPOS f 1 70000", "BITPOS k 0"]
    for _ in range(60):
        low, high = generator.randrange(size * 8), generator.randrange(size * 8)
        for bounds in (f"{low} {high} BIT", f"{low // 8} {high // 8}", f"-{low} -{high} BIT"):
            lines += [f"BITCOUNT k {bounds}", f"BITPOS k 1 {bounds}", f"BITPOS k 0 {bounds}", f"BITPOS f 0 {bounds}"]
    lines += ["SETBIT f 9000001 0", "BITPOS f 0", "BITCOUNT f", "BITPOS f 0 0 9000000 BIT", "BITPOS f 0 0 9000001 BIT"]
    compare(*pair, lines)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["AND", "or", "Xor", "NOT"])
def test_bitop(pair: Pair, name: str) -> None:
    lines: list[object] = [(b"SET", b"k%d" % number, binary(value)) for number, value in enumerate(VALUES)]
    lines += ["SETRANGE big 70000 xyz", "SETRANGE big 5 abc", (b"SETRANGE", b"other", b"90000", b"\xff" * 40000)]
    lines += ["SADD set a", "SETBIT d 5 1", "EXPIRE d 100"]
    after = ["GET d", "TTL d", "OBJECT ENCODING d", "STRLEN d"]
    for keys in ("k1", "k1 k2", "k2 k1 k4", "none", "none k1", "k1 none", "k0", "k0 none", "big", "big k1",
                 "big other k8", "big none", "other other", "set", "k1 set", "none set", "k6 k6", "d", "d k1",
                 "k1 d"):  # fmt: skip
        lines += [f"BITOP {name} d {keys}", *after]
    lines += [f"BITOP {name} set k1", "TYPE set", f"BITOP {name} k1 k1", "GET k1", "BITOP FOO d k1", "BITOP FOO d set"]
    compare(*pair, lines)  # type: ignore[arg-type]


FIELD_ERRORS = [
    "GET", "GET u8", "GET u8 0 0", "GET u64 0", "GET i65 0", "GET u0 0", "GET i0 0", "GET x8 0", "GET 8 0", "GET '' 0",
    "GET u 0", "GET u08 0", "GET u+8 0", "GET i-8 0", "GET u8 -1", "GET u8 x", "GET u8 #", "GET u8 #-1", "GET u8 #x",
    "GET u8 ##1", "GET u8 4294967296", "GET u8 4294967295", "GET u8 #536870911", "GET u8 #536870912",
    "GET u8 #2305843009213693952", "GET i64 #288230376151711744", "GET i3 #9223372036854775807", "SET u8 0",
    "SET u8 0 x", "SET u8 0 9223372036854775808", "INCRBY u8 0", "INCRBY u8 0 1.5", "OVERFLOW", "OVERFLOW foo",
    "OVERFLOW foo GET u8 0", "OVERFLOW WRAP", "OVERFLOW sat OVERFLOW fail", "FOO", "GET u8 0 FOO", "SET u8 x y",
    "SET u99 x y", "GET U8 0", "SET u8 0 1 GET", "SET u8 0 1 GET u8 x", "INCRBY u8 0 1 OVERFLOW x",
]  # fmt: skip


@pytest.mark.parametrize("prepared", ["DEL k", "SET k 12345678", "SADD k a", "SETRANGE k 600000 abc"])
def test_bitfield_arguments(pair: Pair, prepared: str) -> None:
    for name in ("BITFIELD", "BITFIELD_RO"):
        for words in FIELD_ERRORS:
            compare(*pair, [prepared, f"{name} k {words}", "EXISTS k", "OBJECT ENCODING k"])
    compare(*pair, [prepared, "BITFIELD_RO k GET u8 0 GET i5 3", "BITFIELD k GET u8 #1", "OBJECT ENCODING k"])


NUMBERS = ["0", "1", "-1", "127", "128", "255", "256", "-128", "-129", "100000", "-100000", *EDGES[:3]]


@pytest.mark.parametrize("overflow", ["", "OVERFLOW WRAP", "OVERFLOW SAT", "OVERFLOW FAIL"])
@pytest.mark.parametrize("kind", ["i8", "u8", "i64", "u63", "i1", "u1", "i5", "u33", "i63"])
def test_bitfield_overflow(pair: Pair, overflow: str, kind: str) -> None:
    lines = []
    for before in NUMBERS:
        lines.append(f"BITFIELD k {overflow} SET {kind} 3 {before}")
        for number in NUMBERS:
            lines += [f"BITFIELD k SET {kind} 3 {before} {overflow} INCRBY {kind} 3 {number}", "GET k"]
    compare(*pair, lines)


def test_bitfield_where_nothing_changes_or_all_fails(pair: Pair) -> None:
    compare(
        *pair,
        ["BITFIELD k OVERFLOW FAIL INCRBY u2 100 5", "STRLEN k", "OBJECT ENCODING k", "SET n 5 EX 1000",
         "BITFIELD n SET u8 0 53", "GET n", "OBJECT ENCODING n", "TTL n", "BITFIELD n INCRBY u8 8 0", "STRLEN n",
         "TTL n", "SET m abc", "BITFIELD m GET u8 0", "OBJECT ENCODING m", "BITFIELD m", "OBJECT ENCODING m",
         "BITFIELD big SET u8 #70000 200 INCRBY u8 #70000 10 GET u8 #70000 SET i64 131071 -5 GET i64 131071",
         "STRLEN big", "BITFIELD big SET u63 131050 -1 GET u63 131050 GET u8 #70001", "BITCOUNT big"],
    )  # fmt: skip


OFFSETS = st.one_of(
    st.integers(0, 100).map(str), st.integers(0, 20).map(lambda number: f"#{number}"),
    st.sampled_from(["131070", "524287", "524288", "700000"]),
)  # fmt: skip
TYPES = st.one_of(st.integers(1, 64).map(lambda bits: f"i{bits}"), st.integers(1, 63).map(lambda bits: f"u{bits}"))
INTEGERS = st.one_of(st.integers(-300, 300), st.integers(-(2**63), 2**63 - 1)).map(str)
STEPS = st.one_of(
    st.tuples(st.just("GET"), TYPES, OFFSETS), st.tuples(st.just("SET"), TYPES, OFFSETS, INTEGERS),
    st.tuples(st.just("INCRBY"), TYPES, OFFSETS, INTEGERS),
    st.tuples(st.just("OVERFLOW"), st.sampled_from(["WRAP", "sat", "FAIL"])),
)  # fmt: skip
FIELDS = st.lists(STEPS, min_size=1, max_size=5).map(lambda steps: [word for step in steps for word in step])
PLACES = st.integers(-99, 99).map(str)
LINES = st.one_of(
    FIELDS.map(lambda fields: ("BITFIELD", "k", *fields)),
    st.tuples(st.just("SETBIT"), st.just("k"), st.integers(0, 900).map(str), st.sampled_from("01")),
    st.tuples(st.just("BITPOS"), st.just("k"), st.sampled_from("01"), PLACES),
    st.tuples(st.just("BITCOUNT"), st.just("k"), PLACES, PLACES, st.just("BIT")),
    st.sampled_from([("DEL", "k"), ("STRLEN", "k"), ("SET", "k", "1234"), ("BITOP", "NOT", "k", "k")]),
)  # fmt: skip


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(lines=st.lists(LINES, max_size=15))
def test_any_sequence_is_answered_alike(redis_server: RedisServer, lines: list[tuple[str, ...]]) -> None:
    real = Connection(redis_server.port)
    try:
        compare(InProcess(), real, [*lines, "GET k", "OBJECT ENCODING k"])
    finally:
        real.close()
