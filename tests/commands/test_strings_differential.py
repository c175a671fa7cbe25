"""The string group against redis-server 7.0: every command line answered byte for byte alike."""

from __future__ import annotations

import pytest

from tests.support.differential import Backend, Connection, compare

Pair = tuple[Backend, Connection]

BAD_INTEGERS = [
    "''", "abc", "1.5", "+1", "01", "-01", "-0", "1x", "0x10", "9223372036854775808", "-9223372036854775809",
    "99999999999999999999999", "1e3", "--1", "-", "+", "１",
]  # fmt: skip
EDGES = ["0", "1", "-1", "9223372036854775807", "-9223372036854775808", "9223372036854775806", "-9223372036854775807"]
VALUES = ["", "v", "x" * 44, "x" * 45, "12", "-5", "ключ", "a b", "\r\n", "\0", "1" * 20]

SET_OPTIONS = [
    "", "NX", "XX", "GET", "KEEPTTL", "nx", "xX", "NX XX", "XX NX", "NX NX", "XX XX", "NX GET", "XX GET", "GET NX",
    "GET GET", "GET XX KEEPTTL", "EX", "PX", "EXAT", "PXAT", "EX 100", "PX 100000", "EXAT 99999999999",
    "PXAT 99999999999999", "EX 100 EX 200", "EX 100 PX 100", "PX 1 EX 1", "EXAT 1 EX 1", "EX 100 KEEPTTL",
    "KEEPTTL EX 100", "KEEPTTL KEEPTTL", "EX 100 NX", "NX EX 100", "XX EX 100 GET", "GET EX 100 NX", "PERSIST", "FOO",
    "EX 100 FOO", "FOO EX abc", "EX abc", "EX abc FOO", "EX 0", "EX -1", "PX 0", "PX -5", "EXAT 0", "EXAT -1",
    "PXAT 0", "EXAT 1", "PXAT 1", "EX 9223372036854775807", "EX 9223372036854775", "EX 9223372036854774",
    "PX 9223372036854775807", "PX 9223370000000000000", "EXAT 9223372036854775807", "EXAT 9223372036854775",
    "PXAT 9223372036854775807", "EX 1.5", "EX ''", "NX EX", "GET EX 0", "NX GET EX 0", "IFEQ", "EX NX",
]  # fmt: skip

WRONG_ARITY = [
    "SET", "SET k", "GET", "GET a b", "GETDEL", "GETDEL a b", "GETEX", "GETSET k", "GETSET", "SETNX k", "SETNX",
    "SETNX k v w", "SETEX k 10", "SETEX k 10 v w", "PSETEX k 10", "MGET", "MSET", "MSET k", "MSET a b c",
    "MSETNX", "MSETNX a", "MSETNX a b c", "APPEND k", "APPEND k v w", "STRLEN", "STRLEN a b", "INCR", "INCR a b",
    "DECR", "DECR a b", "INCRBY k", "INCRBY k 1 2", "DECRBY k", "INCRBYFLOAT k", "INCRBYFLOAT k 1 2", "SETRANGE k 1",
    "SETRANGE k 1 v w", "GETRANGE k 1", "GETRANGE k 1 2 3", "SUBSTR k 1", "LCS a", "LCS",
]  # fmt: skip


def test_wrong_arity(pair: Pair) -> None:
    compare(*pair, WRONG_ARITY)


@pytest.mark.parametrize("prepared", ["DEL k", "SET k old", "SET k old EX 1000"])
def test_set_with_every_combination_of_options(pair: Pair, prepared: str) -> None:
    for options in SET_OPTIONS:
        compare(*pair, [prepared, f"SET k new {options}", "GET k", "EXISTS k", "TTL k"])


@pytest.mark.parametrize("prepared", ["DEL k", "SET k old", "SET k old EX 1000"])
def test_getex_with_every_combination_of_options(pair: Pair, prepared: str) -> None:
    for options in [*SET_OPTIONS, "PERSIST", "PERSIST PERSIST", "PERSIST EX 10", "EX 10 PERSIST", "EX 10 EX 20"]:
        compare(*pair, [prepared, f"GETEX k {options}", "GET k", "TTL k"])


def test_set_get_with_odd_values(pair: Pair) -> None:
    for value in VALUES:
        compare(
            *pair,
            [
                ("SET", value, value), ("GET", value), ("GETSET", value, "new"), ("GETSET", "fresh", value),
                ("GETDEL", value), ("GETDEL", value), ("STRLEN", "fresh"), ("SETNX", "fresh", "x"),
                ("SETNX", value, value), ("GET", "fresh"), ("MGET", value, "fresh", "none", value),
                ("APPEND", "fresh", value), ("APPEND", "newer", value), ("EXISTS", "newer"),
                ("OBJECT", "ENCODING", "newer"), ("OBJECT", "ENCODING", "fresh"), ("OBJECT", "ENCODING", value),
            ],
        )  # fmt: skip


@pytest.mark.parametrize("name", ["SETEX", "PSETEX"])
def test_setex(pair: Pair, name: str) -> None:
    for time in [*BAD_INTEGERS, *EDGES, "1000", "9223372036854775", "9223372036854776"]:
        compare(*pair, ["SET k old", f"{name} k {time} new", "GET k"])


def test_mset_and_msetnx(pair: Pair) -> None:
    compare(
        *pair,
        [
            "MSET a 1 b 2", "MGET a b c", "MSET a 3 a 4", "GET a", "MSETNX c 1 a 2", "GET c", "MSETNX c 1 d 2 c 3",
            "MGET c d", "SET t v EX 100", "MSET t w", "TTL t", "MSETNX t v", "MGET t t nil",
        ],
    )  # fmt: skip


@pytest.mark.parametrize("name", ["INCRBY", "DECRBY"])
def test_increments(pair: Pair, name: str) -> None:
    for start in ["", *EDGES, *BAD_INTEGERS]:
        prepared = ("SET", "k", start if start != "''" else "") if start else ("DEL", "k")
        lines: list[object] = []
        for step in [*EDGES, *BAD_INTEGERS]:
            lines += [prepared, f"{name} k {step}", "GET k", "OBJECT ENCODING k"]
        lines += [prepared, "INCR k", "GET k", prepared, "DECR k", "GET k"]
        compare(*pair, lines)  # type: ignore[arg-type]


def test_increments_keep_the_time_to_live(pair: Pair) -> None:
    compare(
        *pair,
        ["SET k 5 EX 1000", "INCR k", "TTL k", "INCRBYFLOAT k 1.5", "TTL k", "APPEND k 0", "TTL k", "GET k",
         "SETRANGE k 0 9", "TTL k", "DECR k", "GETSET k 1", "TTL k", ("SET", "b", " 5"), "INCR b", ("SET", "b", "5 "),
         "INCR b", "INCRBYFLOAT b 1", "SET c 5.5", "INCR c", "INCRBYFLOAT c 1", "INCRBYFLOAT c 0.5", "INCR c"],
    )  # fmt: skip


FLOATS = [
    "0", "-0", "1", "-1", "0.1", "3.0e3", "1e400", "-1e400", "1e4932", "1.2e4932", "1e4933", "1e-4940", "1e-4951",
    "1e-5000", "0e99999999999", "1e99999999999", "1e-99999999999", "inf", "-inf", "+inf", "Infinity", "nan", "NaN",
    "0x1p3", "0x1.8p1", "0xA", "0x.8", "0x", "0x1p", "1p3", "+1.5", ".5", "5.", ".", "e5", "1e", "1e+", "1 ", "1,5",
    "''", "abc", "1.5abc", "123456789012345678901234567890", "0.1234567890123456789012345", "1e17", "1e18", "1e19",
    "9223372036854775807", "-9223372036854775808", "18446744073709551616", "0.00000000000000001",
    "0.000000000000000005", "0.0000000000000000050001", "0.000000000000000015", "1.7976931348623157e308",
    "1e300", "4503599627370496.5", "9007199254740993", "0.3", "-0.3", "1.0000000000000000000000001",
    "1" * 255, "1" * 4200, "0." + "1" * 5117, "0." + "1" * 5118, "1" * 5119, "1" * 5120, "0" * 5118 + "1",
    "1" * 5000 + "e-4990", "1" * 5000 + "e-9990",
]  # fmt: skip


@pytest.mark.parametrize("start", ["", "10.5", "3", "1e4932", "-1e4932", "inf", "-inf", "0.1", "1e-30", "abc", "1e17"])
def test_incrbyfloat(pair: Pair, start: str) -> None:
    prepared = ("SET", "k", start) if start else ("DEL", "k")
    for step in FLOATS:
        compare(*pair, [prepared, f"INCRBYFLOAT k {step}", "GET k", "OBJECT ENCODING k"])


def test_getrange_setrange_with_odd_offsets(pair: Pair) -> None:
    for key in ("k", "none", "empty"):
        ranges = [-100, -5, -4, -1, 0, 1, 3, 4, 100, 2**63 - 1, -(2**63)]
        lines = ["SET k abcde", ("SET", "empty", "")]
        for start in ranges:
            lines += [f"{name} {key} {start} {end}" for end in ranges for name in ("GETRANGE", "SUBSTR")]
        for bad in BAD_INTEGERS:
            lines += [f"GETRANGE {key} {bad} 0", f"GETRANGE {key} 0 {bad}"]
        compare(*pair, lines)
    for offset in [*BAD_INTEGERS, *EDGES, "5", "10", "536870911", "536870912", "536870910"]:
        for value in ("", "x", "xyz"):
            if offset in ("536870911", "536870910") and value:
                continue
            write = ("SETRANGE", "k", offset, value)
            after = ["GET k", "STRLEN k", "TTL k", "OBJECT ENCODING k"]
            compare(*pair, [write, "GET k", "SET k hello EX 1000", write, *after])


LCS = [
    "LCS a b", "LCS a b LEN", "LCS a b IDX", "LCS a b IDX LEN", "LCS a b IDX WITHMATCHLEN", "LCS a b IDX MINMATCHLEN 4",
    "LCS a b IDX MINMATCHLEN 4 WITHMATCHLEN", "LCS a b MINMATCHLEN", "LCS a b MINMATCHLEN x", "LCS a b FOO",
    "LCS a b IDX MINMATCHLEN -5", "LCS a b WITHMATCHLEN", "LCS a b LEN WITHMATCHLEN", "LCS a none", "LCS none none",
    "LCS none b IDX", "LCS none b LEN", "LCS a a IDX", "LCS b a IDX WITHMATCHLEN", "LCS a b idx withmatchlen len",
    "LCS a b IDX MINMATCHLEN 9223372036854775807", "LCS a b IDX IDX", "LCS a b FOO IDX LEN",
]  # fmt: skip


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("ohmytext", "mynewtext"), ("", ""), ("aaa", "aa"), ("abcabcabc", "cbacba"), ("x", "y"),
        ("ACTG" * 30, "GTCA" * 31),
    ],
)
def test_lcs(pair: Pair, a: str, b: str) -> None:
    compare(*pair, [("MSET", "a", a, "b", b), *LCS])
