"""The asyncio twin does the same."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from tests.client.fake_server import FakeServer
from zattredis import AsyncDistributedDict, DistributedDict
from zattredis.client import (
    ABSENT,
    AsyncLock,
    AsyncTransaction,
    Change,
    Conflict,
    Lock,
    LockNotAcquired,
    OutcomeUnknown,
    RefreshPolicyLock,
    Transaction,
    Unavailable,
)


def run(body: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(body())


def test_everyday(port: int) -> None:
    async def body() -> None:
        async with AsyncDistributedDict[Any, Any]("127.0.0.1", port) as d:
            await d.set("key1", 0)
            assert await d["key1"] == 0
            with pytest.raises(KeyError):
                await d["nope"]
            assert await d.get("nope") is None
            assert await d.get("nope", 5) == 5
            await d.update({i: (i,) for i in range(1500)})
            assert await d.length() == 1501
            assert await d.contains(7)
            assert {key async for key in d} == {"key1", *range(1500)}
            assert {key: value async for key, value in d.items()} == await d.copy()
            assert len([value async for value in d.values()]) == 1501
            assert await d.pop(7) == (7,)
            assert await d.pop(7, None) is None
            with pytest.raises(KeyError):
                await d.delete(7)
            assert (await d.popitem())[0] not in (None, 7)
            await d.clear()
            assert await d.setdefault("a", 1) == 1
            assert await d.incr("a", 2) == 3
            assert await d.compare_and_set("a", 3, ABSENT)
            assert (await d.diagnostics())["raft"]["raft_role"] == "leader"
            assert await d.get_many(["a"]) == {}
            await asyncio.gather(*(d.incr("n") for _ in range(100)))
            assert await d["n"] == 100
            assert DistributedDict("127.0.0.1", port)["n"] == 100

    run(body)


def test_transactions_locks_and_watch(port: int) -> None:
    async def body() -> None:
        d = AsyncDistributedDict[str, int]("127.0.0.1", port)
        await d.update(a=1, b=2)
        async with d.transaction() as t:
            t.set("a", await t["a"] + await t.get("c", 10))
            await t.delete("b")
            assert await t.copy() == {"a": 11}
        assert await d.copy() == {"a": 11}
        async with d.transaction() as t:
            assert await t.setdefault("b", 5) == 5 and await t.setdefault("a", 0) == 11
            assert await t.contains("b") and not await t.contains("c") and await t.length() == 2
            assert await t.pop("b") == 5 and await t.pop("c", None) is None and await t.length() == 1
            with pytest.raises(KeyError):
                await t.pop("b")
        assert await d.copy() == {"a": 11}
        with pytest.raises(Conflict):  # noqa: PT012 (raised by the end of the block)
            async with d.transaction() as t:
                t.set("a", await t["a"] + 1)
                await d.set("a", 0)

        async def add(t: Any) -> None:
            t.set("a", await t["a"] + 1)

        await asyncio.gather(*(d.transact(add) for _ in range(10)))
        assert await d["a"] == 10
        async with d.lock("x") as lock:
            assert lock.token
            with pytest.raises(LockNotAcquired):
                async with d.lock("x", wait=0):
                    pass
        seen: list[Change] = []

        async def watcher() -> None:
            async for change in d.watch(interval=0.005, timeout=20):
                seen.append(change)
                if change.new == ABSENT:
                    return

        async with asyncio.timeout(20), asyncio.TaskGroup() as group:
            group.create_task(watcher())
            while not seen:  # it began to watch at a moment of its own
                await d.incr("a")
                await asyncio.sleep(0.01)
            await d.clear()
        assert seen[-1].new is ABSENT
        async with asyncio.timeout(20), d.watch(interval=0.005) as changes:  # begun here: what follows is not missed
            await d.update(b=1, c=2)
            first = {(await anext(changes)).key, (await anext(changes)).key}
        assert first == {"b", "c"}
        async with d.watch(interval=0.005, timeout=0.01) as changes:
            assert [change async for change in changes] == []
        await d.close()

    run(body)


def test_a_local_copy(port: int) -> None:
    async def body() -> None:
        d = AsyncDistributedDict[str, int]("127.0.0.1", port, refresh_policy=RefreshPolicyLock())
        assert await d.get("a") is None
        DistributedDict("127.0.0.1", port)["a"] = 1
        assert await d.get("a") is None
        await d.refresh()
        assert await d["a"] == 1
        assert [key async for key in d] == ["a"]
        await d.close()

    run(body)


def test_failures(port: int) -> None:
    async def body() -> None:
        with FakeServer(lambda argv: None) as fake:
            d = AsyncDistributedDict[str, int]([f"127.0.0.1:{fake.port}", f"127.0.0.1:{port}"])
            with pytest.raises(OutcomeUnknown):
                await d.set("a", 1)
            assert fake.names() == [b"HSET"]
            assert await d.get("a") is None
            await d.close()
            reader = AsyncDistributedDict[str, int]([f"127.0.0.1:{fake.port}", f"127.0.0.1:{port}"])
            assert await reader.get("a") is None
            await reader.close()
            lonely = AsyncDistributedDict[str, int]("127.0.0.1", fake.port, 0, deadline=0)
            with pytest.raises(Unavailable):
                await lonely.get("a")

    run(body)


def test_a_cancelled_task_leaves_the_others_alone(port: int) -> None:
    async def body() -> None:
        d = AsyncDistributedDict[str, int]("127.0.0.1", port)
        await d.set("a", 1)
        for _ in range(10):
            task = asyncio.create_task(d.get("a"))
            await asyncio.sleep(0)
            task.cancel()
            assert await d["a"] == 1
        await d.close()

    run(body)


AS_METHODS = {
    "__contains__": "contains", "__len__": "length", "__setitem__": "set", "__delitem__": "delete",
    "__iter__": "__aiter__", "__enter__": "__aenter__", "__exit__": "__aexit__",
}  # fmt: skip
"""What Python's syntax cannot await is a method."""


@pytest.mark.parametrize(
    ("one", "twin", "without"),
    [
        (DistributedDict, AsyncDistributedDict, set()),
        (Transaction, AsyncTransaction, {"__iter__", "keys", "items", "values", "popitem"}),
        (Lock, AsyncLock, set()),
    ],
)
def test_the_twins_have_the_same_names(one: type, twin: type, without: set[str]) -> None:
    """Left out is what compares or shows everything at once: that is `await d.copy()`."""
    names = {name for name in dir(one) if not name.startswith("_")}
    names |= {name for name in vars(one) if name in AS_METHODS or name == "__getitem__"}
    missing = {name for name in names - without if not hasattr(twin, AS_METHODS.get(name, name))}
    assert not missing
    for name in names & vars(one).keys() & vars(twin).keys():
        if callable(vars(one)[name]) and not name.startswith("__"):
            assert [*inspect.signature(vars(one)[name]).parameters] == [*inspect.signature(vars(twin)[name]).parameters]
    assert [*inspect.signature(one).parameters] == [*inspect.signature(twin).parameters] or one is not DistributedDict
