"""What redis-server does with the same bytes, good and bad: replies, order, error text, closing."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.resp.conftest import PASSWORD, converse, converse_with_redis
from tests.support.resp_client import encode_command
from zattredis.resp import ProtocolLimits, RequestParser, encode_error


def expected_from(port: int, data: bytes, authenticated: bool = True) -> bytes:
    """The replies to the requests as we understand `data`, asked of redis-server in plain form, and our own error."""
    parser = RequestParser(ProtocolLimits(authenticated=authenticated))
    requests = parser.feed(data)
    if not authenticated and [b"AUTH", PASSWORD] in requests:
        parser.limits = ProtocolLimits()
        while parser.resumable:
            requests += parser.feed(b"")
    replies = converse(port, b"".join(encode_command(request) for request in requests)) if requests else b""
    return replies + (b"" if parser.error is None else encode_error(b"ERR " + parser.error))


CASES = [
    b"*1\r\n$4\r\nPING\r\n",
    b"*2\r\n$4\r\nECHO\r\n$0\r\n\r\n",
    b"PING\r\nPING\nECHO  a \r\n\r\n\n  \r\nPING\r\n",
    b"*0\r\n*-1\r\n*-10\r\nPING\r\n",
    b"*\r\nPING\r\n",
    b"*01\r\n$4\r\nPING\r\n",
    b"*+1\r\n$4\r\nPING\r\n",
    b"*-0\r\nPING\r\n",
    b"* 1\r\n$4\r\nPING\r\n",
    b"*1 \r\n$4\r\nPING\r\n",
    b"*1\n$4\nPING\n\r\n",
    b"*3000000000\r\nPING\r\n",
    b"*2147483648\r\nPING\r\n",
    b"*9223372036854775808\r\nPING\r\n",
    b"*-9223372036854775808\r\nPING\r\n",
    b"*-9223372036854775809\r\nPING\r\n",
    b"*1\r\n$04\r\nPING\r\n",
    b"*1\r\n$-1\r\nPING\r\n",
    b"*1\r\n$\r\nPING\r\n",
    b"*1\r\n$4x\r\nPING\r\n",
    b"*1\r\n$2000000000\r\nPING\r\n",
    b"*1\r\n$9223372036854775807\r\nPING\r\n",
    b"*1\r\n:4\r\nPING\r\n",
    b"*1\r\n+PING\r\n",
    b"*1\r\n\r\n$4\r\nPING\r\n",
    b"*1\r\n\n\r\n$4\r\nPING\r\n",
    b"*1\r\n\xff\r\n$4\r\nPING\r\n",
    b"*1\r\n\0\r\n$4\r\nPING\r\n",
    b"*1\0\r\n$4\r\nPING\r\n",
    b"*2\rX$4\rXECHOab$3\r\rfoocd*1\r\n$4\r\nPING\r\n",
    b"*1\r\n$4\r\nPINGxx*1\r\n$4\r\nPING\r\n",
    b"*2\r\n$4\r\nECHO\r\n*1\r\n$4\r\nPING\r\n",
    b"*1\r\n$4\r\nPING\r\n*1\r\n$5\r\nPING\r\n",
    b"*2\r\n$4\r\nECHO\r\n$10\r\nshort",
    b"*2\r\n$4\r\nECHO",
    b"PING",
    b'ECHO "a b"\r\n',
    b'ECHO "a\\n\\x41\\x4g\\"\\q\\\\"\r\n',
    b"ECHO 'a\\'b\\n'\r\n",
    b'ECHO a"b c"\r\n',
    b'ECHO "a"b\r\nPING\r\n',
    b'ECHO "a\r\nPING\r\n',
    b"ECHO 'a\r\nPING\r\n",
    b"ECHO \"a\"'b'\r\n",
    b'ECHO ""\r\n""\r\n',
    b'ECHO a\vb\r\nECHO \v\fc\r\nECHO "d"\ve\r\n',
    b"ECHO a\tb\r\nECHO\ta\r\n",
    b"ECHO a\rb\r\nECHO c\r\r\n",
    b"ECHO a\0b\r\nPING\r\n",
    b'ECHO "a\\',
    b"\xff\xfe\r\nPING\r\n",
    b"\0PING\r\n",
    b"*" + b"1" * 70000,
    b"*1\r\n$" + b"1" * 70000,
    b"*" + b"1" * 1000 + b"\r\n",
    b"*" + b"\0" * 70000,
    b"A" * 70000,
    b"ECHO " + b"A" * 65000 + b"\r\nPING\r\n",
]


@pytest.mark.parametrize("data", CASES, ids=lambda data: repr(data[:40]))
def test_like_redis(redis_port: int, data: bytes) -> None:
    assert expected_from(redis_port, data) == converse_with_redis(redis_port, data)


GUARDED_CASES = [
    encode_command([b"PING"] * 10) + encode_command([b"PING"] * 11),
    encode_command([b"ECHO", b"x" * 16384]) + encode_command([b"ECHO", b"x" * 16385]),
    encode_command([b"AUTH", PASSWORD]) + encode_command([b"MGET", *[b"k"] * 20]) + encode_command([b"PING"]),
    encode_command([b"AUTH", PASSWORD]) + encode_command([b"ECHO", b"x" * 20000]) + encode_command([b"PING"]),
    encode_command([b"AUTH", b"wrong"]) + encode_command([b"MGET", *[b"k"] * 20]) + encode_command([b"PING"]),
    b"*3000000000\r\n",
]


@pytest.mark.parametrize("data", GUARDED_CASES, ids=lambda data: repr(data[:40]))
def test_like_redis_before_authentication(guarded_redis_port: int, data: bytes) -> None:
    assert expected_from(guarded_redis_port, data, authenticated=False) == converse_with_redis(guarded_redis_port, data)


FRAGMENT = st.sampled_from(
    [
        *(b"*1\r\n", b"*2\r\n", b"*0\r\n", b"*-1\r\n", b"*3\r", b"*x\r\n", b"*", b"$", b"$4\r\n", b"$-1\r\n", b"$7"),
        *(b"$4\r\nECHO\r\n", b"$4\r\nPING\r\n", b"$3\r\nfoo\r\n", b"$3\r\na\r\n\r\n", b"$0\r\n\r\n", b"+OK\r\n"),
        *(b"PING\r\n", b"ECHO foo\r\n", b"ECHO 'a b'\n", b'ECHO "', b"ECHO", b"\r\n", b"\n", b"\r", b"\0", b" ", b"'"),
        *(b"*2\r\n$4\r\nECHO\r\n$3\r\nbar\r\n", b"*1\r\n$4\r\nPING\r\n"),
    ]
)


@settings(max_examples=400, deadline=None)
@given(st.lists(FRAGMENT, min_size=1, max_size=12))
def test_any_mixture_like_redis(redis_port: int, fragments: list[bytes]) -> None:
    data = b"".join(fragments)
    assert expected_from(redis_port, data) == converse_with_redis(redis_port, data)
