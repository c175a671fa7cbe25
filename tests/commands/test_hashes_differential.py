"""The hash group against redis-server 7.0: every command line answered byte for byte alike, in both sizes."""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence

import pytest

from tests.commands.test_strings_differential import BAD_INTEGERS, EDGES, FLOATS
from tests.support.differential import Backend, Connection, compare, unordered
from tests.support.resp_client import Argument

Pair = tuple[Backend, Connection]
Lines = list[str | Sequence[Argument]]

LARGE_FIELDS = 600
"""More than either server keeps in its form for small ones."""

SIZES = ["small", "large"]


def prepared(size: str, key: str = "h") -> Lines:
    """Return the commands that make `key` a hash with the fields a (abc), n (5), f (10.5) and '' (empty)."""
    lines: Lines = [("DEL", key), ("HSET", key, "a", "abc", "n", 5, "f", "10.5", "", "")]
    if size == "large":
        fields = [item for number in range(LARGE_FIELDS) for item in (f"field:{number}", "v" * (number % 90))]
        lines += [("HSET", key, *fields), ("HLEN", key)]
    return lines


WRONG_ARITY = [
    "HSET", "HSET h", "HSET h a", "HSET h a 1 b", "HSET h a 1 b 2 c", "HMSET h a", "HMSET h a 1 b", "HSETNX h a",
    "HSETNX h a 1 2", "HGET h", "HGET h a b", "HMGET h", "HGETALL", "HGETALL h a", "HDEL h", "HEXISTS h",
    "HEXISTS h a b", "HKEYS", "HKEYS h a", "HVALS", "HVALS h a", "HLEN", "HLEN h a", "HSTRLEN h", "HSTRLEN h a b",
    "HINCRBY h a", "HINCRBY h a 1 2", "HINCRBYFLOAT h a", "HINCRBYFLOAT h a 1 2", "HRANDFIELD", "HSCAN h", "HSCAN",
]  # fmt: skip

ON_WRONG_TYPES = [
    "HSET h a 1", "HSET h a 1 b", "HMSET h a 1", "HSETNX h a 1", "HGET h a", "HMGET h a b", "HGETALL h", "HDEL h a",
    "HEXISTS h a", "HKEYS h", "HVALS h", "HLEN h", "HSTRLEN h a", "HINCRBY h a 1", "HINCRBY h a x",
    "HINCRBYFLOAT h a 1", "HINCRBYFLOAT h a x", "HINCRBYFLOAT h a inf", "HRANDFIELD h", "HRANDFIELD h 2",
    "HRANDFIELD h x", "HRANDFIELD h 0", "HRANDFIELD h 1 FOO", "HSCAN h 0", "HSCAN h x", "HSCAN h 0 FOO",
    "HSCAN h 0 COUNT 0",
]  # fmt: skip


def test_wrong_arity(pair: Pair) -> None:
    compare(*pair, WRONG_ARITY)


def test_wrong_types_and_missing_keys(pair: Pair) -> None:
    for make in ("SET h v", "DEL h"):
        for line in ON_WRONG_TYPES:
            compare(*pair, [make, line, "EXISTS h", "TYPE h"])
    for line in ("GET h", "INCR h", "APPEND h x", "SETRANGE h 0 x", "STRLEN h", "GETDEL h", "MGET h", "SETNX h v"):
        compare(*pair, [*prepared("small"), line, "TYPE h"])
    compare(*pair, [*prepared("large"), "SET h v", "GET h", "TYPE h", "HLEN h"])


@pytest.mark.parametrize("size", SIZES)
def test_setting_getting_and_deleting(pair: Pair, size: str) -> None:
    compare(
        *pair,
        [
            *prepared(size), "HGET h a", "HGET h b", ("HGET", "h", ""), "HMGET h a b n a ''", "HEXISTS h a",
            "HEXISTS h b", "HSTRLEN h a", "HSTRLEN h b", ("HSTRLEN", "h", ""), "HLEN h", "HSET h a 1 b 2 c 3",
            "HSET h a 1 b 3 d 4", "HSET h x 1 x 2 x 3", "HGET h x", "HMSET h a 7 y 8", "HMGET h a b c d x y",
            "HSETNX h a 9", "HSETNX h new 9", "HGET h new", "HLEN h", "HDEL h a", "HDEL h a", "HDEL h b c b none",
            "HLEN h", "HGET h a", "HMGET h field:0 field:7 field:599 field:600", "HDEL h field:0 field:599",
            "HLEN h", ("HSET", "h", "bin\r\n\0", "\0\xff"), ("HGET", "h", "bin\r\n\0"), "TTL h", "EXPIRE h 1000",
            "HSET h a 5", "HDEL h a", "HINCRBY h n 1", "TTL h", "RENAME h i", "HLEN h", "HLEN i", "HGET i n",
            "COPY i j", "HDEL i n", "HGET j n", "HLEN j", "TTL j", "MOVE i 3", "HLEN i", "EXISTS i j", "DEL j",
        ],
    )  # fmt: skip


@pytest.mark.parametrize("size", SIZES)
def test_whole_hashes(pair: Pair, size: str) -> None:
    for line in ("HGETALL h", "HKEYS h", "HVALS h", "HRANDFIELD h 100000", "HRANDFIELD h 100000 WITHVALUES"):
        lines: Lines = [*prepared(size), line, "HDEL h n", line, "HSET h n 7 a 8", line]
        compare(*pair, lines, bytes.__eq__ if size == "small" else unordered)


def test_huge_hashes_come_whole_in_slices(pair: Pair) -> None:
    """More elements than a reply may have that is made at once, expired ones among them on our side."""
    fields = [item for number in range(3000) for item in (f"f{number}", f"value {number}")]
    begin: Lines = [("HSET", "h", *fields)]
    for line in ("HGETALL h", "HKEYS h", "HVALS h", "HRANDFIELD h 3000", "HRANDFIELD h 9999 WITHVALUES"):
        compare(*pair, [*begin, line], unordered)
    compare(*pair, [*begin, "HLEN h", ("HMGET", "h", *fields), "HSET h f1 1", "HDEL h f2", "HLEN h"])
    ours, real = pair
    for line in ("HRANDFIELD h 2000", "HRANDFIELD h -5000", "HRANDFIELD h -5000 WITHVALUES", "HRANDFIELD h 10"):
        got, expected = (backend.execute(line.encode().split()) for backend in (ours, real))
        assert got.count(b"\r\n") == expected.count(b"\r\n")
    ours.execute([b"HPEXPIREAT", b"h", b"1", b"FIELDS", b"1", b"f0"])
    ours.execute([b"HPEXPIRE", b"h", b"1", b"FIELDS", b"1000", *(b"f%d" % number for number in range(1000, 2000))])
    real.execute([b"HDEL", b"h", b"f0", *(b"f%d" % number for number in range(1000, 2000))])
    until = time.monotonic() + 120
    while ours.execute([b"HLEN", b"h"]) != real.execute([b"HLEN", b"h"]) and time.monotonic() < until:
        pass
    for line in ("HGETALL h", "HKEYS h", "HLEN h", "HRANDFIELD h 9999"):
        assert unordered(ours.execute(line.encode().split()), real.execute(line.encode().split()))


def test_small_hashes_keep_the_order_of_insertion(pair: Pair) -> None:
    fields = [item for number in range(500) for item in (f"f{number * 7919 % 1000}", number)]
    after: Lines = [
        "HGETALL h", "HSET h f0 longer-than-before", "HKEYS h", "HDEL h f7919 f919", "HVALS h", "HSET h f919 again",
        "HGETALL h", "HSCAN h 0", "HSCAN h 0 COUNT 1", "HRANDFIELD h 1000 WITHVALUES",
    ]  # fmt: skip
    for some in (fields[:20], fields[:200], fields):
        compare(*pair, [("HSET", "h", *some), *after])


@pytest.mark.parametrize("size", SIZES)
def test_the_last_field_takes_the_key_with_it(pair: Pair, size: str) -> None:
    fields = ["a", "n", "f", "", *(f"field:{number}" for number in range(LARGE_FIELDS))]
    compare(
        *pair,
        [*prepared(size), "EXPIRE h 100", ("HDEL", "h", *fields), "EXISTS h", "HLEN h", "HSET h a 1", "HGETALL h",
         "TTL h", "HDEL h a a", "TYPE h", "DBSIZE"],
    )  # fmt: skip


@pytest.mark.parametrize("size", SIZES)
def test_hincrby(pair: Pair, size: str) -> None:
    for start in [None, *EDGES, *BAD_INTEGERS, " 1", "1 ", "1.0"]:
        begin = prepared(size)
        begin.append(("HDEL", "h", "n") if start is None else ("HSET", "h", "n", "" if start == "''" else start))
        lines: Lines = []
        for step in [*EDGES, *BAD_INTEGERS]:
            lines += [begin[-1], f"HINCRBY h n {step}", "HGET h n"]
        compare(*pair, [*begin, *lines, "HINCRBY none n 5", "HGETALL none", "HINCRBY none m x", "HLEN none"])


@pytest.mark.parametrize("start", [None, "10.5", "3", "1e4932", "-1e4932", "inf", "nan", "abc", "", " 1", "1e17"])
@pytest.mark.parametrize("size", SIZES)
def test_hincrbyfloat(pair: Pair, size: str, start: str | None) -> None:
    begin = prepared(size)
    again = ("HDEL", "h", "f") if start is None else ("HSET", "h", "f", start)
    lines: Lines = []
    for step in FLOATS:
        lines += [again, f"HINCRBYFLOAT h f {step}", "HGET h f"]
    compare(*pair, [*begin, *lines, "HINCRBYFLOAT none n 5.50", "HGETALL none", "HINCRBYFLOAT none n inf"])


def test_hrandfield(pair: Pair) -> None:
    counts = ["1", "0", "-1", "-3", "2", "100", *BAD_INTEGERS, "-9223372036854775808", "9223372036854775807"]
    for key, count, more in itertools.product(
        ("one", "none"), counts, ("", " WITHVALUES", " withvalues", " FOO", " WITHVALUES FOO")
    ):
        compare(*pair, ["HSET one f v", f"HRANDFIELD {key} {count}{more}"])
    bounds = ["-9223372036854775807", "-4611686018427387904", "-4611686018427387903", "4611686018427387904"]
    for count in bounds:
        if not (count.startswith("-") and int(count) >= -(2**62) + 1):
            compare(*pair, ["HSET one f v", f"HRANDFIELD one {count} WITHVALUES", f"HRANDFIELD none {count}"])
    compare(*pair, ["HSET one f v", "HRANDFIELD one", "HRANDFIELD none"])


SCANS = [
    "0", "x", "''", "-1", "1", "18446744073709551615", "18446744073709551616", "5 COUNT 1", "0 COUNT", "0 MATCH",
    "0 COUNT 0", "0 COUNT -1", "0 COUNT x", "0 COUNT 1 COUNT 1000", "0 MATCH a*", "0 match * count 10", "0 MATCH ''",
    "0 MATCH *1* MATCH a", "0 FOO", "0 TYPE hash", "0 COUNT 9223372036854775807", "0 COUNT 9223372036854775808",
    "0 MATCH [an]", "0 MATCH nothing",
]  # fmt: skip


def test_hscan_of_a_small_hash(pair: Pair) -> None:
    for line in SCANS:
        if "TYPE" not in line:
            compare(*pair, [*prepared("small"), f"HSCAN h {line}", f"HSCAN none {line}", "SET s v", f"HSCAN s {line}"])


def test_hscan_of_a_large_hash_returns_all(pair: Pair) -> None:
    for line in ("COUNT 100000", "COUNT 100000 MATCH *9"):
        compare(*pair, [*prepared("large"), f"HSCAN h 0 {line}"], unordered)
    for line in ("0 COUNT 0", "0 FOO", "x", "0 COUNT x"):
        compare(*pair, [*prepared("large"), f"HSCAN h {line}"])


def test_encodings(pair: Pair) -> None:
    long, short = "x" * 65, "x" * 64
    many = [item for number in range(513) for item in (f"f{number}", "v")]
    starts: list[Lines] = [
        [("HSET", "h", *many[:1024])], [("HSET", "h", *many)], [("HSET", "h", *many), "HDEL h f0 f1 f2"],
        [("HSET", "h", "f", short)], [("HSET", "h", "f", long)], [("HSET", "h", long, "v")],
        [("HSET", "h", "f", long), "HSET h f v"], [("HSETNX", "h", "f", long)], [("HINCRBY", "h", long, 1)],
        [("HINCRBYFLOAT", "h", long, 1)], [("HMSET", "h", *many[:1024]), "HSETNX h more v"],
        [("HSET", "h", *many[:1024]), "HINCRBY h more 1"], [("HSET", "h", short, "v"), ("HSETNX", "h", short, long)],
        [("HSET", "h", "f", long), "HDEL h f", "HSET h f v"], [("HSET", "h", "f", long), "RENAME h g", "RENAME g h"],
        [("HSET", "h", "f", long), "HSET h f v", "COPY h g", "RENAME g h"], [("HSET", "h", *["f", "v"] * 200)],
    ]  # fmt: skip
    for start in starts:
        compare(*pair, [*start, "OBJECT ENCODING h", "HLEN h"])


def test_in_transactions(pair: Pair) -> None:
    ours, real = pair
    if not isinstance(ours, Connection):
        return  # bare handlers know no transactions
    compare(
        ours, real,
        [
            "HSET h a 1", "MULTI", "HSET h b 2", "HGETALL h", "HGET h b", "HINCRBY h a x", "HDEL h a", "HLEN h",
            "EXEC", *prepared("large"), "MULTI", "HGETALL h", "HDEL h a", "EXEC", "WATCH h", "HDEL h n", "MULTI",
            "HLEN h", "EXEC",
        ],
        unordered,
    )  # fmt: skip
