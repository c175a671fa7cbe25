"""The same bytes, good and bad, sent to a running zattd and to redis-server: replies, order, error text, closing."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.resp.conftest import PASSWORD, converse, converse_with_redis
from tests.resp.test_against_redis import CASES, FRAGMENT, GUARDED_CASES
from tests.support.cluster import ZattCluster
from tests.support.resp_client import RespClient, encode_command


@pytest.fixture(scope="module")
def zatt_port() -> Iterator[int]:
    with ZattCluster(1, in_memory=True) as cluster:
        yield cluster.nodes[0].port


@pytest.fixture(scope="module")
def guarded_zatt_port() -> Iterator[int]:
    with ZattCluster(1, in_memory=True) as cluster:
        port = cluster.nodes[0].port
        with RespClient(port) as client:
            assert client.call("CONFIG", "SET", "requirepass", PASSWORD) == b"OK"
        yield port


@pytest.mark.parametrize("data", CASES, ids=lambda data: repr(data[:40]))
def test_like_redis(zatt_port: int, redis_port: int, data: bytes) -> None:
    assert converse(zatt_port, data) == converse_with_redis(redis_port, data)


@pytest.mark.parametrize("data", GUARDED_CASES, ids=lambda data: repr(data[:40]))
def test_like_redis_before_authentication(guarded_zatt_port: int, guarded_redis_port: int, data: bytes) -> None:
    assert converse(guarded_zatt_port, data) == converse_with_redis(guarded_redis_port, data)


@settings(max_examples=200, deadline=None)
@given(st.lists(FRAGMENT, min_size=1, max_size=12))
def test_any_mixture_like_redis(zatt_port: int, redis_port: int, fragments: list[bytes]) -> None:
    data = b"".join(fragments)
    assert converse(zatt_port, data) == converse_with_redis(redis_port, data)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=60), st.booleans())
def test_garbage_like_redis(zatt_port: int, redis_port: int, garbage: bytes, array: bool) -> None:
    data = (b"*2\r\n$4\r\nECHO\r\n" if array else b"ECHO ") + garbage
    assert converse(zatt_port, data) == converse_with_redis(redis_port, data)


def test_a_deep_pipeline_is_answered_in_order(zatt_port: int) -> None:
    count = 20_000
    sent = b"".join(encode_command([b"ECHO", b"%d" % i]) for i in range(count))
    assert converse(zatt_port, sent) == b"".join(b"$%d\r\n%d\r\n" % (len(str(i)), i) for i in range(count))
