"""redis-py with its defaults, blocking and asyncio, RESP2 and RESP3: everyday commands without special options."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any

import pytest
import redis
import redis.asyncio

from tests.clients.conftest import Endpoint


@pytest.fixture(params=[None, 2, 3], ids=["default", "resp2", "resp3"])
def options(request: pytest.FixtureRequest) -> dict[str, Any]:
    return {} if request.param is None else {"protocol": request.param}


def test_everyday_commands(endpoint: Endpoint, options: dict[str, Any]) -> None:
    host, port = endpoint
    with redis.Redis(host=host, port=port, **options) as r:
        assert r.ping()
        assert r.set("k", "v") is True
        assert r.get("k") == b"v"
        assert r.set("k", "w", nx=True) is None
        assert r.set("k", "w", xx=True, ex=100, get=True) == b"v"
        assert 90 < r.ttl("k") <= 100
        assert r.getdel("k") == b"w"
        assert r.get("k") is None
        assert r.incr("n") == 1
        assert r.incrby("n", 41) == 42
        assert r.decr("n") == 41
        assert r.incrbyfloat("f", 1.5) == 1.5
        assert r.mset({"a": 1, "b": 2}) is True
        assert r.mget("a", "b", "c") == [b"1", b"2", None]
        assert r.msetnx({"b": 3, "c": 3}) is False
        assert r.append("a", "1") == 2
        assert r.getrange("a", 0, 0) == b"1"
        assert r.setrange("a", 1, "x") == 2
        assert r.strlen("a") == 2
        assert r.exists("a", "b", "zz") == 2
        assert r.type("a") == b"string"
        assert r.rename("a", "aa") is True
        assert r.expire("aa", 50) is True
        assert r.persist("aa") is True
        assert r.delete("aa", "b") == 2
        assert sorted(r.keys("*")) == [b"f", b"n"]
        assert set(r.scan_iter(match="*", count=10)) == {b"f", b"n"}
        assert r.dbsize() == 2
        assert r.info()["redis_version"]
        assert r.config_get("maxclients")["maxclients"]
        assert r.client_setname("me")
        assert r.client_getname() in ("me", b"me")
        assert isinstance(r.client_id(), int)
        assert any(client["name"] == "me" for client in r.client_list())
        assert len(r.time()) == 2
        assert r.command_count() > 50
        assert r.lcs("n", "f", len=True) >= 0
        assert r.flushdb() is True


def test_binary_large_and_unicode_values(endpoint: Endpoint, options: dict[str, Any]) -> None:
    host, port = endpoint
    with redis.Redis(host=host, port=port, **options) as r:
        for key, value in (
            (b"\x00\xff", bytes(range(256))),
            ("ключ", "значение ✓".encode()),
            ("large", b"x" * 3_000_000),
        ):
            assert r.set(key, value)
            assert r.get(key) == value
    with redis.Redis(host=host, port=port, decode_responses=True, **options) as r:
        assert r.get("ключ") == "значение ✓"


def test_errors_have_their_classes(endpoint: Endpoint, options: dict[str, Any]) -> None:
    host, port = endpoint
    with redis.Redis(host=host, port=port, **options) as r:
        r.set("word", "abc")
        with pytest.raises(redis.ResponseError, match="value is not an integer or out of range"):
            r.incr("word")
        with pytest.raises(redis.ResponseError, match="wrong number of arguments for 'get' command"):
            r.execute_command("GET")
        with pytest.raises(redis.ResponseError, match="unknown command"):
            r.execute_command("NO-SUCH-COMMAND")
        assert r.get("word") == b"abc"


def test_pipelines_transactions_and_watch(endpoint: Endpoint, options: dict[str, Any]) -> None:
    host, port = endpoint
    with redis.Redis(host=host, port=port, **options) as r:
        with r.pipeline(transaction=False) as pipeline:
            for _ in range(2000):
                pipeline.incr("n")
            assert pipeline.execute() == list(range(1, 2001))
        with r.pipeline() as pipeline:
            assert pipeline.set("a", 1).get("a").incr("a").execute() == [True, b"1", 2]
        with r.pipeline() as pipeline:
            pipeline.watch("a")
            value = int(pipeline.get("a"))
            r.set("a", 50)
            pipeline.multi()
            pipeline.set("a", value + 1)
            with pytest.raises(redis.WatchError):
                pipeline.execute()

        def store_seven(pipeline: Any) -> None:
            pipeline.multi()
            pipeline.set("a", 7)

        assert r.transaction(store_seven, "a") == [True]
        with r.pipeline() as pipeline:
            pipeline.set("word", "x").incr("word").get("word")
            results = pipeline.execute(raise_on_error=False)
        assert results[0] is True
        assert isinstance(results[1], redis.ResponseError)
        assert results[2] == b"x"


def test_databases_from_urls_and_pools(endpoint: Endpoint, options: dict[str, Any]) -> None:
    host, port = endpoint
    with redis.Redis.from_url(f"redis://{host}:{port}/5", **options) as five, redis.Redis(host=host, port=port) as zero:
        five.set("k", "five")
        assert zero.get("k") is None
        assert zero.move("none", 3) is False
        assert five.copy("k", "k", destination_db=0) is True
        assert zero.get("k") == b"five"


def test_distributed_lock_recipe_without_scripts(endpoint: Endpoint) -> None:
    """SET NX PX and a compare by WATCH, the way locks are made without Lua."""
    host, port = endpoint
    with redis.Redis(host=host, port=port) as r:
        assert r.set("lock", "mine", nx=True, px=30_000)
        assert not r.set("lock", "theirs", nx=True, px=30_000)
        with r.pipeline() as pipeline:
            pipeline.watch("lock")
            assert pipeline.get("lock") == b"mine"
            pipeline.multi()
            pipeline.delete("lock")
            assert pipeline.execute() == [1]
        assert r.set("lock", "theirs", nx=True, px=30_000)


def test_asyncio(endpoint: Endpoint, options: dict[str, Any]) -> None:
    host, port = endpoint

    async def work() -> None:
        async with redis.asyncio.Redis(host=host, port=port, **options) as r:
            assert await r.ping()
            tasks: list[Awaitable[Any]] = [r.incr("n") for _ in range(50)]
            assert sorted(await asyncio.gather(*tasks)) == list(range(1, 51))
            async with r.pipeline(transaction=True) as pipeline:
                pipeline.set("k", "v")
                pipeline.get("k")
                assert await pipeline.execute() == [True, b"v"]
            assert [key async for key in r.scan_iter(match="k*")] == [b"k"]

    asyncio.run(work())
