"""SORT and SORT_RO against redis-server 7.0."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.cluster import ZattCluster
from tests.support.differential import Backend, Connection, InProcess, compare
from tests.support.redis_server import RedisServer

Pair = tuple[Backend, Connection]

FILL = [
    "RPUSH l 3 1 2 10 -5 1.5 1", "SADD s 3 1 2 10", "SADD m x y z", "ZADD z 5 3 4 1 3 2 2 10", "RPUSH w b a c B",
    "MSET w_1 3 w_2 2 w_3 1 w_10 0 o_1 one o_2 two o_3 three w_a 2 w_b 1 w_c 1", "HSET h_1 w 3 n x", "HSET h_2 w 2",
    "HSET h_3 w 1 n z", "RPUSH h_10 no", "SET str v", "HSET hash a b",
    ("RPUSH", "zero", "a\0b", "a\0a", "a", "A", ""), ("RPUSH", "blank", " 1", "\t2", "0x10", "inf", "-inf", ""),
]  # fmt: skip
OPTIONS = [
    "", "ASC", "desc", "ALPHA", "ALPHA DESC", "DESC ASC", "BY w_*", "BY w_* DESC", "BY h_*->w", "BY h_*->", "BY nosort",
    "BY nosort DESC", "BY nosort LIMIT 1 2", "BY nosort DESC LIMIT 1 2", "BY w_* ALPHA", "BY missing_* ALPHA",
    "BY missing_*", "BY # DESC", "BY o_*", "BY w_* BY nosort", "BY nosort BY w_*", "BY w_* BY missing_*",
    "GET #", "GET # GET o_*", "GET h_*->n GET h_*->w", "GET none", "GET h_*->", "GET h_*", "GET w_*->n",
    "BY w_* GET o_*",
    "LIMIT 0 2", "LIMIT 2 -1", "LIMIT -3 2", "LIMIT 100 2", "LIMIT 1 0", "LIMIT 0 100", "LIMIT 3 -7",
    "LIMIT 0 9223372036854775807", "LIMIT 9223372036854775807 9223372036854775807", "LIMIT -9223372036854775808 1",
    "LIMIT 0 9223372036854775808", "LIMIT a 1", "LIMIT 1 a", "LIMIT 1", "LIMIT", "BY", "GET", "STORE", "STORE d x",
    "limit 0 x nonsense", "nonsense LIMIT a b", "LIMIT 1 2 3",
]  # fmt: skip


@pytest.fixture(scope="module")
def redis_server() -> Iterator[RedisServer]:
    """One that has seen no number beyond a double's range: Redis's SORT looks at an errno that nobody clears, and would
    refuse sound numbers from then on."""
    with RedisServer() as server:
        yield server


def test_a_number_beyond_a_doubles_range_is_refused() -> None:
    with RedisServer() as server:
        real = Connection(server.port)
        try:
            compare(InProcess(), real, ["RPUSH l 1e400 1", "SORT l", "SORT l ALPHA", "RPUSH m 1e-400", "SORT m"])
        finally:
            real.close()


def options_for(key: str) -> list[str]:
    """All but those for which Redis shows the order in which a hash table holds the elements."""
    if key not in ("s", "z", "m"):
        return OPTIONS
    unordered = {"ALPHA"} if key != "m" else {"ALPHA", "nosort", "#"}
    return [one for one in OPTIONS if one.split()[:1] != ["BY"] or not unordered & {*one.split()}]


@pytest.mark.parametrize("key", ["l", "s", "z", "w", "m", "zero", "blank", "absent", "str", "hash"])
def test_options(pair: Pair, key: str) -> None:
    lines: list[object] = [*FILL]
    for options in options_for(key):
        lines += [f"SORT_RO {key} {options}", f"SORT {key} {options}"]
    compare(*pair, lines)  # type: ignore[arg-type]


@pytest.mark.parametrize("key", ["l", "s", "z", "w", "m", "zero", "absent", "str"])
def test_store(pair: Pair, key: str) -> None:
    lines: list[object] = [*FILL]
    for options in options_for(key):
        lines += ["SET d old EX 1000", f"SORT {key} {options} STORE d", "TYPE d", "TTL d", "LRANGE d 0 -1",
                  f"SORT_RO {key} {options} STORE d"]  # fmt: skip
    lines += [
        "DEL d", f"SORT {key} ALPHA STORE d STORE e", "EXISTS d", "LRANGE e 0 -1", f"SORT {key} ALPHA STORE {key}",
        f"TYPE {key}", f"SORT {key} ALPHA GET # GET none STORE {key}", f"LRANGE {key} 0 -1",
    ]  # fmt: skip
    compare(*pair, lines)  # type: ignore[arg-type]


def test_in_a_transaction_it_sees_the_writes_before_it(real: Connection, zattd: ZattCluster) -> None:
    ours = Connection(zattd.nodes[0].port)
    try:
        lines = ["MULTI", "RPUSH l 2 1", "SORT l", "SORT l STORE l", "LRANGE l 0 -1", "SORT l LIMIT x y", "EXEC"]
        compare(ours, real, lines)
    finally:
        ours.close()


def test_keys_are_found(real: Connection, zattd: ZattCluster) -> None:
    lines = [
        "SORT a", "SORT a STORE b", "SORT a BY x STORE b STORE c GET d", "SORT a LIMIT STORE b", "SORT a GET STORE b",
        "SORT a LIMIT 0 STORE store b", "SORT_RO a BY x GET y", "SORT a store",
    ]  # fmt: skip
    ours = Connection(zattd.nodes[0].port)
    try:
        compare(ours, real, [f"COMMAND GETKEYS {line}" for line in lines])
    finally:
        ours.close()


WORDS = st.sampled_from([
    "1", "2", "-3", "1.5", "1e3", "inf", "a", "b", "B", "", "x\0y", " 7", "7 ", "0x1p3", "nan",
    "9007199254740993", "9007199254740992", "123456789012345678901234567890",
])  # fmt: skip
ASKED = st.tuples(
    st.sampled_from([(), ("BY", "w_*"), ("BY", "h_*->f"), ("BY", "nosort")]),
    st.sampled_from([(), ("ALPHA",)]), st.sampled_from([(), ("DESC",), ("ASC",)]),
    st.one_of(st.just(()), st.tuples(st.just("LIMIT"), st.integers(-1, 5), st.integers(-1, 5))),
    st.sampled_from([(), ("GET", "w_*"), ("GET", "#", "GET", "h_*->f")]),
).map(lambda parts: tuple(str(word) for part in parts for word in part))  # fmt: skip


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    elements=st.lists(WORDS, min_size=1, max_size=8), weights=st.dictionaries(WORDS, WORDS, max_size=5),
    asked=st.lists(ASKED, min_size=1, max_size=6),
)  # fmt: skip
def test_anything_is_sorted_alike(
    redis_server: RedisServer, elements: list[str], weights: dict[str, str], asked: list[tuple[str, ...]]
) -> None:
    real = Connection(redis_server.port)
    lines: list[tuple[str, ...]] = [("RPUSH", "l", *elements)]
    lines += [("ZADD", "z", *(word for place, one in enumerate(elements) for word in (str(place), one)))]
    for element, weight in weights.items():
        lines += [("SET", f"w_{element}", weight), ("HSET", f"h_{element}", "f", weight)]
    for words in asked:
        if "ALPHA" in words and "LIMIT" in words and "*" in words[1]:
            continue  # Redis shows some of those that compare as equal, in no order that could be told
        lines += [("SORT", "l", *words), ("SORT", "l", *words, "STORE", "d")]
        if "w_*" not in words[:2] and "h_*->f" not in words[:2]:
            lines += [("SORT_RO", "z", *words)]
        lines += [("LRANGE", "d", "0", "-1")]
    try:
        compare(InProcess(), real, lines)
    finally:
        real.close()


def test_long_ones_run_in_slices(real: Connection) -> None:
    ours, numbers = InProcess(), list(range(7000))
    random.Random(3).shuffle(numbers)
    for backend in (ours, real):
        backend.execute([b"FLUSHALL"])
        for start in range(0, len(numbers), 1000):
            part = [b"%d" % number for number in numbers[start : start + 1000]]
            backend.execute([b"RPUSH", b"l", *part])
            backend.execute([b"SADD", b"s", *part])
            backend.execute([b"ZADD", b"z", *(word for number in part for word in (number, number))])
            weights = [(b"w_" + number, b"%d" % (int(number) % 97)) for number in part]
            backend.execute([b"MSET", *(word for pair in weights for word in pair)])
    for key in ("l", "s", "z"):
        for options in ("", "DESC", "ALPHA", "BY w_* DESC GET # GET w_*", "LIMIT 5000 300", "BY w_*"):
            argv = f"SORT_RO {key} {options}".encode().split()
            assert ours.execute(argv) == real.execute(argv)
    for options in ("BY nosort", "BY nosort DESC", "BY nosort LIMIT 6000 20 GET w_*"):
        for key in ("l", "z"):
            argv = f"SORT {key} {options}".encode().split()
            assert ours.execute(argv) == real.execute(argv)
    assert ours.execute(b"SORT s BY nosort GET x_* LIMIT 10 3".split()) == b"*3\r\n" + b"$-1\r\n" * 3
