"""RequestParser: the same requests however the bytes are cut, bounds kept, work linear."""

from __future__ import annotations

import itertools
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.resp_client import encode_command
from zattredis.resp import ProtocolLimits, RequestParser

LIMITS = ProtocolLimits()
SMALL = ProtocolLimits(args_max=2000, bulk_bytes_max=10_000, query_bytes_max=50_000, inline_bytes_max=100)


def parse(*chunks: bytes, limits: ProtocolLimits = LIMITS) -> tuple[list[list[bytes]], bytes | None]:
    """All requests of the chunks, and the error they end with."""
    parser = RequestParser(limits)
    requests: list[list[bytes]] = []
    for chunk in chunks:
        requests += parser.feed(chunk)
    return requests, parser.error


ARGUMENT = st.one_of(
    st.binary(max_size=40),
    st.sampled_from(
        [b"", b"\r\n", b"$3\r\nfoo\r\n", b"*1\r\n$4\r\nPING\r\n", b"\0", b"GET", b"x" * 5000, b"\r\n" * 700]
    ),
)
REQUEST = st.lists(ARGUMENT, min_size=1, max_size=6)


def cut(data: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted({place % (len(data) + 1) for place in places}), len(data)]
    return [data[a:b] for a, b in itertools.pairwise(edges)]


@settings(max_examples=300, deadline=None)
@given(st.lists(REQUEST, max_size=20), st.lists(st.integers(min_value=0, max_value=10**6), max_size=12))
def test_requests_survive_any_cutting(requests: list[list[bytes]], places: list[int]) -> None:
    data = b"".join(encode_command(request) for request in requests)
    parser = RequestParser(LIMITS)
    seen = [request for chunk in cut(data, places) for request in parser.feed(chunk)]
    assert (seen, parser.error, parser.buffered_bytes) == (requests, None, 0)


@pytest.mark.parametrize("count", range(1, 7))
@pytest.mark.parametrize("at", range(6))
def test_one_request_with_anything_wrong_about_it_is_read_alike_whole_and_byte_by_byte(count: int, at: int) -> None:
    """A request that comes whole is cut by its line ends; the other way reads one header after the other."""
    if at >= count:
        return
    arguments = [b"key%d" % number for number in range(count)]
    odd = (b"", b"a\r\nb", b"\r\n", b"x" * 4096, b"x" * 4097)
    chunks = [encode_command([*arguments[:at], one, *arguments[at + 1 :]]) for one in odd]
    whole = encode_command(arguments)
    right = b"$4\r\nkey%d" % at
    chunks += [whole.replace(right, wrong + right[2:]) for wrong in (b"$3", b"$5", b"+4", b"$04", b"$4 ", b"4")]
    chunks += [whole + rest for rest in (b"*", b"PING\r\n", b"*1\r\n", b"\r\n", b"x\r\n\r\n")]
    chunks += [whole[:-2] + end for end in (b"xx", b"\r", b"\n\r", b"")]
    for chunk in chunks:
        at_once = parse(chunk)
        assert at_once == parse(*(chunk[place : place + 1] for place in range(len(chunk)))), chunk


STREAMS = {
    "requests": encode_command([b"SET", b"key", b"value"]) + encode_command([b"GET", b"a\r\nb"]),
    "inline between": b"PING\r\n"
    + encode_command([b"ECHO", b"x"])
    + b'SET a "b c"\n\r\n'
    + encode_command([b"GET", b"a"]),
    "nothing between": b"*0\r\n*-1\r\n" + encode_command([b"PING"]) + b"\r\n\n*-5\r\nPING\r\n",
    "lax line ends": b"*2\rX$4\rXECHO..$3\r\nfoo\r\n" + encode_command([b"PING"]),
    "a wrong end": encode_command([b"PING"]) + b"*2\r\n$4\r\nECHO\r\n+3\r\nfoo\r\n",
    "many arguments": encode_command([b"%d" % i for i in range(1500)]) + encode_command([b"PING"]),
    "a long argument": encode_command([b"SET", b"k", b"ab\r\n" * 1100]) + encode_command([b"PING"]),
}


LARGE = 256 * 1024
"""From here on an argument does not go through hiredis."""


@pytest.mark.parametrize("size", [LARGE - 1, LARGE, LARGE + 1, 700_000])
def test_large_arguments_come_whole_however_they_are_cut(size: int) -> None:
    value = bytes(range(256)) * (size // 256) + b"\r\n$5\r\n"[: size % 256]
    value += b"z" * (size - len(value))
    requests = [[b"PING"], [b"MSET", b"a", value, b"b", b"", b"c", value[::-1], b"d", b"x"], [b"GET", b"a"]]
    data = b"".join(encode_command(request) for request in requests)
    found = (data.find(b"b\r\n$0") - 6, data.find(b"d\r\n$1") - 6, 40, 14)
    ends = [place + shift for place in found for shift in range(-6, 7)]
    for places in ([], [len(data) - 3], *([end] for end in ends), *([end, end + 1, end + 2] for end in ends)):
        parser = RequestParser(LIMITS)
        seen = [request for chunk in cut(data, places) for request in parser.feed(chunk)]
        assert (seen == requests, parser.error, parser.buffered_bytes) == (True, None, 0), places
    parser = RequestParser(LIMITS)
    seen = [request for start in range(0, len(data), 4099) for request in parser.feed(data[start : start + 4099])]
    assert seen == requests


def test_large_arguments_of_lax_and_of_very_long_requests() -> None:
    value = b"v" * LARGE
    lax = b"*2\rX$4\rXECHO..$%d\rX%b..*1\r\n$4\r\nPING\r\n" % (LARGE, value)
    many = [b"%d" % number for number in range(1500)] + [value] + [b"x"] * 1000 + [value + b"w"]
    data = lax + encode_command(many) + encode_command([b"PING"])
    expected = [[b"ECHO", value], [b"PING"], many, [b"PING"]]
    assert parse(data) == (expected, None)
    for step in (1000, 65_536):
        assert parse(*(data[start : start + step] for start in range(0, len(data), step))) == (expected, None)


@pytest.mark.parametrize("name", STREAMS)
def test_every_cut_in_two(name: str) -> None:
    data = STREAMS[name]
    whole = parse(data)
    for place in range(0, len(data) + 1, 1 + len(data) // 1000):
        assert parse(data[:place], data[place:]) == whole


@pytest.mark.parametrize("name", STREAMS)
def test_byte_by_byte(name: str) -> None:
    data = STREAMS[name]
    assert parse(*(data[i : i + 1] for i in range(len(data)))) == parse(data)


def test_what_came_before_bad_bytes_is_kept_and_nothing_after() -> None:
    data = encode_command([b"SET", b"k", b"v"]) + b"*x\r\n"
    requests, error = parse(data, encode_command([b"PING"]))
    assert (requests, error) == ([[b"SET", b"k", b"v"]], b"Protocol error: invalid multibulk length")


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"*3000000000\r\n", b"invalid multibulk length"),
        (b"*2001\r\n", b"invalid multibulk length"),
        (b"*1\r\n$10001\r\n", b"invalid bulk length"),
        (b"*1\r\n$-1\r\n", b"invalid bulk length"),
        (b"*1\r\n*1\r\n$4\r\nPING\r\n", b"expected '$', got '*'"),
        (b"*1\r\n:5\r\n", b"expected '$', got ':'"),
        (b"*1\r\n\n\r\n", b"expected '$', got ' '"),
        (b"*" + b"1" * 101, b"too big mbulk count string"),
        (b"*1\r\n$" + b"1" * 101, b"too big bulk count string"),
        (b"x" * 101, b"too big inline request"),
        (b'SET a "b\r\n', b"unbalanced quotes in request"),
    ],
)
def test_protocol_errors(data: bytes, error: bytes) -> None:
    for chunks in ([data], [data[i : i + 1] for i in range(len(data))]):
        assert parse(*chunks, limits=SMALL) == ([], b"Protocol error: " + error)


def test_limits_are_inclusive() -> None:
    longest = encode_command([b"x" * 10_000]) + encode_command([b"x"] * 2000) + b"y" * 100 + b"\r\n"
    requests, error = parse(longest, limits=SMALL)
    assert ([len(request) for request in requests], error) == ([1, 2000, 1], None)


def test_an_unfinished_request_over_the_query_limit_closes_without_a_word() -> None:
    parser = RequestParser(SMALL)
    parser.feed(b"*8\r\n")
    while parser.error is None:
        parser.feed(b"$9000\r\n" + b"x" * 9000 + b"\r\n")
        assert parser.buffered_bytes < SMALL.query_bytes_max + 9010
    assert parser.error == b""
    assert parser.buffered_bytes == 0


GUARDED = ProtocolLimits(authenticated=False)


def test_before_authentication_requests_are_small() -> None:
    eleven = encode_command([b"x"] * 11)
    assert parse(eleven, limits=GUARDED)[1] == b"Protocol error: unauthenticated multibulk length"
    long = encode_command([b"x" * 16385])
    assert parse(long, limits=GUARDED)[1] == b"Protocol error: unauthenticated bulk length"
    fits = encode_command([b"x" * 16384] * 10)
    assert [len(request) for request in parse(fits, limits=GUARDED)[0]] == [10]


@pytest.mark.parametrize("refused", [[b"MSET", *[b"x"] * 30], [b"SET", b"k", b"x" * 20_000]])
def test_authentication_inside_a_pipeline_lets_the_rest_pass(refused: list[bytes]) -> None:
    auth, after = [b"AUTH", b"secret"], [b"PING"]
    data = encode_command(auth) + encode_command(refused) + encode_command(after)
    for place in range(0, len(data), 7):
        parser = RequestParser(GUARDED)
        seen = []
        for chunk in (data[:place], data[place:]):
            seen += parser.feed(chunk)
            if auth in seen and not parser.limits.authenticated:
                parser.limits = LIMITS
            while parser.resumable:
                seen += parser.feed(b"")
            assert parser.error is None
        assert seen == [auth, refused, after]


def test_replacing_limits_does_not_withdraw_an_error_of_form() -> None:
    parser = RequestParser(GUARDED)
    parser.feed(b"*1\r\n$x\r\n")
    parser.limits = LIMITS
    assert parser.error == b"Protocol error: invalid bulk length"
    assert not parser.resumable
    assert parser.feed(b"PING\r\n") == []


def traced_peak(work: object, *arguments: object) -> int:
    tracemalloc.start()
    try:
        work(*arguments)  # type: ignore[operator]
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_a_header_alone_allocates_nothing() -> None:
    parser = RequestParser(ProtocolLimits(args_max=2**31 - 1))
    assert traced_peak(parser.feed, b"*2147483647\r\n$500000000\r\n") < 100_000
    assert parser.buffered_bytes == 25


@settings(max_examples=100, deadline=None)
@given(st.lists(st.binary(max_size=300), max_size=100), st.booleans())
def test_garbage_holds_no_more_than_the_limits_allow(chunks: list[bytes], array: bool) -> None:
    parser = RequestParser(SMALL)
    parser.feed(b"*" if array else b"x")
    for chunk in chunks:
        parser.feed(chunk)
        assert parser.buffered_bytes <= SMALL.query_bytes_max


def count(data: bytes) -> int:
    parser = RequestParser(LIMITS)
    requests = len(parser.feed(data))
    assert parser.error is None
    return requests


def test_a_hundred_thousand_requests_in_one_chunk() -> None:
    for request in ([b"PING"], [b"ECHO", b"\r\n"]):
        assert count(encode_command(request) * 100_000) == 100_000
    assert count(b"PING\r\n" * 100_000) == 100_000


def test_64_mb_in_pieces_is_copied_a_constant_number_of_times() -> None:
    value = b"\r\n0123456789abcd" * (4 << 20)
    data = encode_command([b"SET", b"k", value])
    parser = RequestParser(LIMITS)
    view = memoryview(data)
    for start in range(0, len(data), 65536):
        requests = parser.feed(bytes(view[start : start + 65536]))
    assert requests == [[b"SET", b"k", value]]
    assert parser.buffered_bytes == 0
