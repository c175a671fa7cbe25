"""Replies: every type in both protocols, as a reader of the other side understands them and as Redis writes them."""

from __future__ import annotations

import math
from typing import Any

import hiredis
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.resp.conftest import converse
from tests.support.resp_client import encode_command
from zattredis.errors import ClusterDown, ExecAbort, OutcomeUnknown, ReplyError, WrongType
from zattredis.resp import (
    NULL_ARRAY,
    Attributed,
    BigNumber,
    Bulks,
    Push,
    ReplySet,
    Verbatim,
    append_reply,
    encode,
    encode_many,
)
from zattredis.resp.replies import Encoded, Pairs, encoded_in_turns

WRONG_TYPE = b"-WRONGTYPE Operation against a key holding the wrong kind of value\r\n"
TABLE: list[tuple[Any, bytes, bytes]] = [
    (b"", b"$0\r\n\r\n", b"$0\r\n\r\n"),
    (b"a\r\nb", b"$4\r\na\r\nb\r\n", b"$4\r\na\r\nb\r\n"),
    (b"x" * 1024, b"$1024\r\n" + b"x" * 1024 + b"\r\n", b"$1024\r\n" + b"x" * 1024 + b"\r\n"),
    (b"x" * 1025, b"$1025\r\n" + b"x" * 1025 + b"\r\n", b"$1025\r\n" + b"x" * 1025 + b"\r\n"),
    ("OK", b"+OK\r\n", b"+OK\r\n"),
    ("list", b"+list\r\n", b"+list\r\n"),
    ("a\r\nb", b"+a  b\r\n", b"+a  b\r\n"),
    (0, b":0\r\n", b":0\r\n"),
    (1024, b":1024\r\n", b":1024\r\n"),
    (1025, b":1025\r\n", b":1025\r\n"),
    (-1, b":-1\r\n", b":-1\r\n"),
    (2**63 - 1, b":9223372036854775807\r\n", b":9223372036854775807\r\n"),
    (None, b"$-1\r\n", b"_\r\n"),
    (NULL_ARRAY, b"*-1\r\n", b"_\r\n"),
    (True, b":1\r\n", b"#t\r\n"),
    (False, b":0\r\n", b"#f\r\n"),
    (1.5, b"$3\r\n1.5\r\n", b",1.5\r\n"),
    (3.0, b"$1\r\n3\r\n", b",3\r\n"),
    (0.1, b"$19\r\n0.10000000000000001\r\n", b",0.10000000000000001\r\n"),
    (1e20, b"$5\r\n1e+20\r\n", b",1e+20\r\n"),
    (-0.0, b"$2\r\n-0\r\n", b",-0\r\n"),
    (math.inf, b"$3\r\ninf\r\n", b",inf\r\n"),
    (-math.inf, b"$4\r\n-inf\r\n", b",-inf\r\n"),
    (math.nan, b"$3\r\nnan\r\n", b",nan\r\n"),
    ([], b"*0\r\n", b"*0\r\n"),
    ([1, [b"a", None]], b"*2\r\n:1\r\n*2\r\n$1\r\na\r\n$-1\r\n", b"*2\r\n:1\r\n*2\r\n$1\r\na\r\n_\r\n"),
    ((1, 2), b"*2\r\n:1\r\n:2\r\n", b"*2\r\n:1\r\n:2\r\n"),
    (Bulks(0, b""), b"*0\r\n", b"*0\r\n"),
    (Bulks(2, b"$1\r\na\r\n$0\r\n\r\n"), b"*2\r\n$1\r\na\r\n$0\r\n\r\n", b"*2\r\n$1\r\na\r\n$0\r\n\r\n"),
    ({b"a": 1, "b": [True]}, b"*4\r\n$1\r\na\r\n:1\r\n+b\r\n*1\r\n:1\r\n",
     b"%2\r\n$1\r\na\r\n:1\r\n+b\r\n*1\r\n#t\r\n"),
    (ReplySet([b"a", b"b"]), b"*2\r\n$1\r\na\r\n$1\r\nb\r\n", b"~2\r\n$1\r\na\r\n$1\r\nb\r\n"),
    (Push([b"message", b"x"]), b"*2\r\n$7\r\nmessage\r\n$1\r\nx\r\n", b">2\r\n$7\r\nmessage\r\n$1\r\nx\r\n"),
    (Verbatim("txt", b"hello"), b"$5\r\nhello\r\n", b"=9\r\ntxt:hello\r\n"),
    (BigNumber(2**70), b"$22\r\n1180591620717411303424\r\n", b"(1180591620717411303424\r\n"),
    (Attributed({"ttl": 5}, b"v"), b"$1\r\nv\r\n", b"|1\r\n+ttl\r\n:5\r\n$1\r\nv\r\n"),
    (ReplyError("syntax error"), b"-ERR syntax error\r\n", b"-ERR syntax error\r\n"),
    (ReplyError("a\r\nb\n"), b"-ERR a  b\r\n", b"-ERR a  b\r\n"),
    (ReplyError("got '\udcff'"), b"-ERR got '\xff'\r\n", b"-ERR got '\xff'\r\n"),
    (ClusterDown("no quorum"), b"-CLUSTERDOWN no quorum\r\n", b"-CLUSTERDOWN no quorum\r\n"),
    ([WrongType()], b"*1\r\n" + WRONG_TYPE, b"*1\r\n" + WRONG_TYPE),
]  # fmt: skip


@pytest.mark.parametrize(("value", "resp2", "resp3"), TABLE, ids=lambda item: repr(item)[:30])
def test_table(value: Any, resp2: bytes, resp3: bytes) -> None:
    assert (encode(value, 2), encode(value, 3)) == (resp2, resp3)
    for resp, expected in ((2, resp2), (3, resp3)):
        out: list[bytes] = []
        append_reply(out, value, resp)
        assert b"".join(out) == expected


def test_many_is_one_after_another() -> None:
    values = [row[0] for row in TABLE]
    for resp in (2, 3):
        assert encode_many(values, resp) == b"".join(encode(value, resp) for value in values)


def test_errors_own_their_prefix() -> None:
    assert encode(OutcomeUnknown(), 2).startswith(b"-TIMEOUT ")
    assert encode(ExecAbort(), 2) == b"-EXECABORT Transaction discarded because of previous errors.\r\n"


def test_a_value_of_no_reply_type_is_refused() -> None:
    for value in (object(), {1, 2}, bytearray(b"x"), memoryview(b"x")):
        with pytest.raises(TypeError):
            encode(value, 2)


SCALAR = st.one_of(
    st.binary(max_size=50), st.integers(min_value=-(2**63), max_value=2**63 - 1), st.none(), st.booleans()
)
VALUE = st.recursive(
    SCALAR,
    lambda inner: st.one_of(st.lists(inner, max_size=5), st.dictionaries(st.binary(max_size=5), inner, max_size=4)),
    max_leaves=30,
)


@given(VALUE)
def test_resp3_round_trip(value: Any) -> None:
    reader = hiredis.Reader()
    reader.feed(encode(value, 3))
    assert reader.gets() == value
    assert not reader.has_data()


def flat(value: Any) -> Any:
    """The value as RESP2 can say it."""
    if isinstance(value, dict):
        return [part for pair in value.items() for part in (flat(pair[0]), flat(pair[1]))]
    if isinstance(value, list):
        return [flat(item) for item in value]
    return int(value) if isinstance(value, bool) else value


@given(VALUE)
def test_resp2_round_trip(value: Any) -> None:
    reader = hiredis.Reader()
    reader.feed(encode(value, 2))
    assert reader.gets() == flat(value)


@given(st.floats())
def test_doubles_keep_their_value(value: float) -> None:
    reader = hiredis.Reader()
    reader.feed(encode(value, 3))
    seen = reader.gets()
    assert seen == value or (math.isnan(seen) and math.isnan(value))


def ask(port: int, *requests: list[bytes]) -> bytes:
    return converse(port, b"".join(encode_command(request) for request in requests))


DOUBLES = [0.1, 1.0, 1e20, 1e17, 123456789.125, 5e-324, 1.7976931348623157e308, math.inf, -math.inf]


@pytest.mark.parametrize("value", DOUBLES)
@pytest.mark.parametrize("resp", [2, 3])
def test_doubles_like_redis(redis_port: int, value: float, resp: int) -> None:
    add, score = [b"ZADD", b"scores", repr(value).encode(), b"m"], [b"ZSCORE", b"scores", b"m"]
    assert ask(redis_port, [b"HELLO", b"%d" % resp], add, score).endswith(encode(value, resp))


PROTOCOL_TYPES: dict[bytes, Any] = {
    b"string": b"Hello World",
    b"integer": 12345,
    b"double": 3.141,
    b"null": None,
    b"array": [0, 1, 2],
    b"set": ReplySet([0, 1, 2]),
    b"map": {0: False, 1: True, 2: False},
    b"verbatim": Verbatim("txt", b"This is a verbatim\nstring"),
    b"true": True,
    b"false": False,
    b"bignum": BigNumber(1234567999999999999999999999999999999),
    b"attrib": Attributed({b"key-popularity": [b"key:123", 90]}, b"Some real reply following the attribute"),
}


@pytest.mark.parametrize("name", PROTOCOL_TYPES)
@pytest.mark.parametrize("resp", [2, 3])
def test_types_like_redis(redis_port: int, name: bytes, resp: int) -> None:
    """DEBUG PROTOCOL shows how redis-server writes each type."""
    reply = ask(redis_port, [b"HELLO", b"%d" % resp], [b"DEBUG", b"PROTOCOL", name])
    assert reply.endswith(encode(PROTOCOL_TYPES[name], resp))


def test_long_replies_encoded_in_turns_are_the_same_bytes() -> None:
    breaths: list[int] = []
    many = [b"m%d" % number for number in range(2000)]
    pairs = [(member, float(place)) for place, member in enumerate(many)]
    for value in (many, ReplySet(many), Pairs(pairs), [[b"key", 1], *many]):
        for resp in (2, 3):
            found = encoded_in_turns(value, resp, lambda: breaths.append(1))
            assert found.__class__ is Encoded
            assert encode(found, resp) == encode(value, resp) == encode_many([found], resp)
    assert len(breaths) > 20
    for value in (b"x", 7, None, many[:5], many[:100]):
        assert encoded_in_turns(value, 3, lambda: None) == value
    found = encoded_in_turns([b"key", Pairs(pairs)], 3, lambda: None)  # ZMPOP
    assert found[0] == b"key"
    assert found[1].__class__ is Encoded
    assert encode(found, 3) == encode([b"key", Pairs(pairs)], 3)
