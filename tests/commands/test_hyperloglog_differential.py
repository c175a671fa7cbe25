"""The hyperloglog group against redis-server 7.0: replies alike, and after the same additions the same bytes.

PFCOUNT of one key writes the cardinality into the string in Redis, and is a read here. So strings are compared before
they are counted, or counted together with a key that does not exist, which caches nothing.
"""

from __future__ import annotations

import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.cluster import ZattCluster
from tests.support.differential import Backend, Connection, InProcess, compare
from tests.support.redis_server import RedisServer

Pair = tuple[Backend, Connection]

WRONG_ARITY = ["PFADD", "PFCOUNT", "PFMERGE", "PFDEBUG", "PFDEBUG GETREG", "PFDEBUG GETREG k x", "PFSELFTEST x"]
ELEMENTS = ["", "a", "ab", "x" * 7, "x" * 8, "x" * 9, "x" * 100, "\0", "\0" * 8, "ключ", "12345678901234567890"]
AFTER = ["GET k", "OBJECT ENCODING k", "TTL k", "PFCOUNT k none"]


def test_wrong_arity(pair: Pair) -> None:
    compare(*pair, WRONG_ARITY)


def test_basics(pair: Pair) -> None:
    compare(
        *pair,
        ["PFADD k", *AFTER, "PFADD k", "PFADD k a", "PFADD k a", *AFTER, "PFADD k a b c", "PFADD k a b",
         *AFTER, ("PFADD", "k", *ELEMENTS), *AFTER, ("PFADD", "k", *ELEMENTS), "EXPIRE k 1000", "PFADD k new", *AFTER,
         "PFCOUNT none", "PFCOUNT none none2", "PFCOUNT k k", "PFMERGE none2", "GET none2", "PFDEBUG DECODE k",
         "PFDEBUG encoding k", "PFDEBUG FOO k", "PFDEBUG FOO none", "PFDEBUG GETREG k", "GET k", "PFDEBUG DECODE k",
         "PFDEBUG ENCODING k", "PFDEBUG TODENSE k", "PFADD k more", "PFADD k more", "GET k", "PFCOUNT k", "TTL k"],
    )  # fmt: skip


@pytest.mark.parametrize(
    "prepared", ["SET k 5", "SET k text", "SET k ''", "SADD k a", "SETRANGE k 70000 x", "SET k HYLL"]
)
def test_other_values(pair: Pair, prepared: str) -> None:
    lines = ["PFADD k", "PFADD k a", "PFCOUNT k", "PFCOUNT h k", "PFCOUNT none k", "PFMERGE k", "PFMERGE h k",
             "PFMERGE k h", "PFMERGE d none k", "PFDEBUG GETREG k", "PFDEBUG TODENSE k", "PFDEBUG x k"]  # fmt: skip
    for line in lines:
        compare(*pair, ["PFADD h a b", prepared, line, "TYPE k", "OBJECT ENCODING k", "GET h"])


HEADER = b"HYLL\1\0\0\0" + bytes(8)
STRANGE = [
    HEADER, HEADER + b"\x7f\xff", HEADER + b"\x7f\xfe", HEADER + b"\x7f\xff\0", HEADER + b"\x7f\xffhello",
    HEADER + b"\x3f" * 256, HEADER + b"\x3f" * 255, HEADER + b"\x83" * 4096, HEADER + b"\x80" * 16384,
    HEADER + b"\xff" * 4096, HEADER + b"\xff" * 4097, HEADER + b"\0" * 16384, HEADER + b"\x40\0" * 16384,
    HEADER + b"\x7f\xf0\x84\x88\x8c\x83" + b"\0" * 8, HEADER + b"\x80" * 5000, HEADER[:15], b"HYLX" + HEADER[4:],
    b"HYLL\2" + HEADER[5:] + b"\x7f\xff", b"HYLL\0" + HEADER[5:], b"HYLL\0" + HEADER[5:] + bytes(12288),
    b"HYLL\0" + HEADER[5:] + b"\x41\x10\x04" * 4096, b"HYLL\0" + HEADER[5:] + b"\xff" * 12288,
    b"HYLL\0" + HEADER[5:] + bytes(12289), b"HYLL\0" + HEADER[5:15] + b"\x80" + b"\x12\x34\x56" * 4096,
    b"HYLL\1\1\2\3" + b"\x39\x30" + bytes(6) + b"\x7f\xff", b"HYLL\1\1\2\3" + b"\x39\x30" + bytes(5) + b"\x80\x7f\xff",
]  # fmt: skip


@pytest.mark.parametrize("value", STRANGE)
def test_strings_made_elsewhere(pair: Pair, value: bytes) -> None:
    lines: list[object] = []
    for line in ["PFCOUNT k none", "PFCOUNT k", "PFMERGE d k", "PFMERGE k", "PFADD k a b c d e f", "PFDEBUG TODENSE k",
                 "PFDEBUG DECODE k", "PFDEBUG ENCODING k", "PFADD k", "PFMERGE k h", "PFMERGE h k"]:  # fmt: skip
        lines += ["PFADD h x y z", (b"SET", b"k", value), line, "EXISTS d", "GET d", "PFCOUNT k none", "DEL d k h"]
    compare(*pair, lines)  # type: ignore[arg-type]


@pytest.mark.parametrize("sizes", [(1, 3000), (50, 9000), (700, 30_000)])
def test_the_bytes_are_redis_s_all_the_way(pair: Pair, sizes: tuple[int, int]) -> None:
    generator = random.Random(sizes[0])
    step, last = sizes
    lines: list[object] = []
    for _ in range(0, last, max(step, last // 60)):
        lines += [("PFADD", "k", *[str(generator.random()) for _ in range(step)]), "GET k", "PFCOUNT k none"]
    lines += ["PFDEBUG ENCODING k", "PFADD k x", "PFDEBUG GETREG k", "GET k", "PFCOUNT k"]
    compare(*pair, lines)  # type: ignore[arg-type]


def test_merges(pair: Pair) -> None:
    generator = random.Random(5)
    lines: list[object] = []
    for number, size in enumerate((1, 10, 100, 500, 900, 1200, 5000)):
        for start in range(0, size, 500):
            elements = [str(generator.randrange(8000)) for _ in range(min(500, size - start))]
            lines.append(("PFADD", f"h{number}", *elements))
    for keys in ("h0 h1", "h1 h2 h3", "h3 h4", "h4 h5", "h2 none", "none", "h6 h1", "h1 h6", "h5 h4 h3 h2 h1 h0"):
        lines += [f"PFCOUNT {keys} none", "DEL d", f"PFMERGE d {keys}", "GET d", "PFDEBUG ENCODING d", "PFCOUNT d none"]
        lines += [f"PFMERGE acc {keys}", "GET acc", "OBJECT ENCODING acc"]
    lines += ["SET t 5", "PFMERGE d t", "EXPIRE d 1000", "PFMERGE d h0", "TTL d", f"PFCOUNT {'h1 h2 h3 ' * 20}"]
    compare(*pair, lines)  # type: ignore[arg-type]


def test_a_string_that_may_be_written_to_becomes_raw(pair: Pair) -> None:
    for line in ["PFADD k", "PFADD k a", "PFMERGE k h", "PFMERGE h k", "PFDEBUG DECODE k", "PFDEBUG TODENSE k",
                 "PFDEBUG ENCODING k", "PFCOUNT k h"]:  # fmt: skip
        value = (b"SET", b"k", HEADER + b"\x7f\xff")
        compare(*pair, ["PFADD h x", value, "OBJECT ENCODING k", line, "OBJECT ENCODING k"])


def test_self_test(zattd: ZattCluster) -> None:
    connection = Connection(zattd.nodes[0].port)
    assert connection.execute([b"PFSELFTEST"]) == b"+OK\r\n"
    connection.close()


KEYS = st.sampled_from(["a", "b", "c"])
DRAWN = st.lists(st.integers(0, 3000).map(str), max_size=400)
LINES = st.one_of(
    st.tuples(KEYS, DRAWN).map(lambda drawn: ("PFADD", drawn[0], *drawn[1])),
    st.tuples(st.just("PFMERGE"), KEYS, KEYS, KEYS),
    st.tuples(st.just("PFCOUNT"), KEYS, KEYS),
    st.tuples(st.just("PFDEBUG"), st.sampled_from(["TODENSE", "DECODE", "ENCODING"]), KEYS),
    st.tuples(st.just("GET"), KEYS), st.tuples(st.just("DEL"), KEYS),
)  # fmt: skip


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(lines=st.lists(LINES, max_size=15))
def test_any_sequence_leaves_the_same_bytes(redis_server: RedisServer, lines: list[tuple[str, ...]]) -> None:
    real = Connection(redis_server.port)
    try:
        compare(InProcess(), real, [*lines, "GET a", "GET b", "GET c", "PFCOUNT a", "PFCOUNT b", "PFCOUNT c"])
    finally:
        real.close()
