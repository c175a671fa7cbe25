"""A DistributedDict is a dict, as far as a dict goes."""

from __future__ import annotations

import random
import threading
from collections.abc import MutableMapping
from typing import Any

import msgspec
import pytest

import zattredis
from tests.support.cluster import ZattCluster
from zattredis.client import (
    ABSENT,
    Change,
    CodecError,
    Conflict,
    DistributedDict,
    LockLost,
    LockNotAcquired,
    RefreshPolicyAlways,
    RefreshPolicyCount,
    RefreshPolicyLock,
    RefreshPolicyTime,
    Refused,
    raw_codec,
)


@pytest.fixture
def d(port: int) -> DistributedDict[Any, Any]:
    return DistributedDict("127.0.0.1", port)


def test_what_zatt_promised(port: int) -> None:
    d = zattredis.DistributedDict("127.0.0.1", port)
    d["key1"] = 0
    assert d["key1"] == 0
    other = zattredis.DistributedDict("127.0.0.1", port)
    assert other["key1"] == 0
    assert repr(other) == "{'key1': 0}"
    del d["key1"]
    assert repr(other) == "{}"
    assert d.diagnostics["raft"]["raft_role"] == "leader"
    assert d.diagnostics["address"] == f"127.0.0.1:{port}"


def outcome(function: Any) -> Any:
    try:
        return function()
    except (KeyError, TypeError) as error:
        return type(error), error.args if isinstance(error, KeyError) else ()


def test_random_operations_have_the_outcomes_of_a_dict(d: DistributedDict[Any, Any]) -> None:
    rng = random.Random(6)
    model: dict[Any, Any] = {}
    keys = ["a", "b", 1, (1, "a"), b"a", None, "", 2.5]
    values = [0, 1.5, "x", None, True, b"\x00", [1, (2,)], {"k": {1: 2}}]
    operations: list[Any] = [
        lambda m, k, v: m.__setitem__(k, v),
        lambda m, k, v: m[k],
        lambda m, k, v: m.__delitem__(k),
        lambda m, k, v: k in m,
        lambda m, k, v: m.get(k),
        lambda m, k, v: m.get(k, "none"),
        lambda m, k, v: m.pop(k),
        lambda m, k, v: m.pop(k, v),
        lambda m, k, v: m.setdefault(k, v),
        lambda m, k, v: m.update({k: v, "z": 1}, y=2),
        lambda m, k, v: m.update([(k, v)]),
        lambda m, k, v: len(m),
        lambda m, k, v: bool(m),
        lambda m, k, v: m | {k: v},
        lambda m, k, v: {k: v} | m,
        lambda m, k, v: m == {k: v},
        lambda m, k, v: (k, v) in m.items(),
        lambda m, k, v: v in m.values(),
        lambda m, k, v: m.keys() & {k},
        lambda m, k, v: m[[]],
        lambda m, k, v: m.clear() if rng.random() < 0.1 else None,
    ]
    for _ in range(400):
        operation, key, value = rng.choice(operations), rng.choice(keys), rng.choice(values)
        state = rng.getstate()
        expected = outcome(lambda: operation(model, key, value))  # noqa: B023
        rng.setstate(state)
        assert outcome(lambda: operation(d, key, value)) == expected  # noqa: B023
    assert d == model
    assert d.copy() == model
    assert sorted(map(repr, d)) == sorted(map(repr, model))
    assert isinstance(d, MutableMapping)
    with pytest.raises(TypeError):
        hash(d)


def test_update_in_place_and_equality_of_two(d: DistributedDict[Any, Any], port: int) -> None:
    d |= {"a": 1}
    d |= [("b", 2)]
    assert d == {"a": 1, "b": 2} == d.copy()
    assert d == DistributedDict("127.0.0.1", port)
    assert d != DistributedDict("127.0.0.1", port, name="other")
    assert d != [("a", 1), ("b", 2)]
    assert d.get_many(["a", "c"]) == {"a": 1}


def test_popitem_empties_it(d: DistributedDict[Any, Any]) -> None:
    d.update({i: str(i) for i in range(20)})
    assert dict(d.popitem() for _ in range(20)) == {i: str(i) for i in range(20)}
    with pytest.raises(KeyError, match="empty"):
        d.popitem()


def test_iteration_streams_thousands_and_each_once(d: DistributedDict[Any, Any]) -> None:
    d.update((i, -i) for i in range(5000))
    assert sorted(d) == list(range(5000))
    assert dict(d.items()) == {i: -i for i in range(5000)}
    assert sum(d.values()) == -sum(range(5000))
    first = next(iter(d))
    assert first in d


def test_names_separate_dicts_and_keys_of_another_type_are_refused(d: DistributedDict[Any, Any], port: int) -> None:
    other = DistributedDict[str, int]("127.0.0.1", port, name="other")
    other["a"] = 1
    assert "a" not in d
    assert other.name == "other"
    with pytest.raises(TypeError, match="keys of this dict are str"):
        other[1]  # type: ignore[index]
    with pytest.raises(TypeError, match="opened for"):
        other["a"] = "x"  # type: ignore[assignment]
    assert other == {"a": 1}


class Order(msgspec.Struct):
    item: str
    count: int = 1


def test_structs_by_a_declared_type(port: int) -> None:
    orders = DistributedDict[str, Order]("127.0.0.1", port, name="orders")
    orders["1"] = Order("pen", 3)
    assert orders["1"] == Order("pen", 3)
    assert list(orders.values()) == [Order("pen", 3)]
    unusable = DistributedDict[list, Order]("127.0.0.1", port)  # type: ignore[type-var,unused-ignore]
    with pytest.raises(TypeError, match="keys are"):
        unusable["a"]  # type: ignore[index]


def test_what_other_clients_wrote(single_node: ZattCluster, port: int) -> None:
    with single_node.client() as client:
        client.call("HSET", "zatt", "a", "hello", "n", "12")
        client.call("SET", "text", "x")
    d = DistributedDict("127.0.0.1", port)
    assert d["n"] == 12
    with pytest.raises(CodecError, match="hello"):
        d["a"]
    assert DistributedDict("127.0.0.1", port, codec=raw_codec)["a"] == b"hello"
    with pytest.raises(Refused, match="WRONGTYPE"):
        DistributedDict("127.0.0.1", port, name="text")["a"] = 1


def test_incr(d: DistributedDict[Any, Any]) -> None:
    assert (d.incr("n"), d.incr("n", 4), d.incr("n", -10)) == (1, 5, -5)
    assert (d.incr("n", 0.5), d.incr("n", 2)) == (-4.5, -2.5)
    d["big"] = 2**63 - 1
    assert d.incr("big") == 2**63 == d["big"]
    assert d.incr("huge", 10**30) == 10**30
    d.update(s="5", t=True)
    for key in ("s", "t"):
        with pytest.raises(TypeError, match="nothing can be added"):
            d.incr(key)
    with pytest.raises(TypeError):
        d.incr("n", "1")
    floats = DistributedDict[str, float]("127.0.0.1", d.diagnostics["server"]["tcp_port"], name="floats")
    assert floats.incr("x", 1) == 1.0
    assert isinstance(floats["x"], float)


def test_compare_and_set(d: DistributedDict[Any, Any]) -> None:
    assert not d.compare_and_set("a", None, 1)
    assert d.compare_and_set("a", ABSENT, None)
    assert not d.compare_and_set("a", ABSENT, 1)
    assert d.compare_and_set("a", None, [1])
    assert not d.compare_and_set("a", [2], 0)
    assert d.compare_and_set("a", [1], ABSENT)
    assert "a" not in d


def test_increments_by_compare_and_set_of_many_threads_are_all_counted(d: DistributedDict[Any, Any]) -> None:
    d["n"] = 0.0

    def work() -> None:
        for _ in range(10):
            d.incr("n", 0.5)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert d["n"] == 20.0


def test_a_transaction_is_all_or_nothing(d: DistributedDict[Any, Any], port: int) -> None:
    d.update(a=10, b=0, c=1)
    other = DistributedDict("127.0.0.1", port)
    with d.transaction() as t:
        t["a"] -= 4
        t["b"] += 4
        del t["c"]
        t.setdefault("new", 5)
        assert dict(t) == {"a": 6, "b": 4, "new": 5}
        assert len(t) == 3 and t.pop("new") == 5
        assert other == {"a": 10, "b": 0, "c": 1}
    assert d == {"a": 6, "b": 4}
    with pytest.raises(RuntimeError, match="ended"):
        t["a"] = 1
    with pytest.raises(ZeroDivisionError), d.transaction() as t:
        t["a"] = 1 // 0
    with d.transaction() as t:
        t.clear()
        t["only"] = 1
    assert d == {"only": 1}


def test_a_transaction_fails_only_when_what_it_read_has_changed(d: DistributedDict[Any, Any], port: int) -> None:
    d.update(a=1, b=2)
    other = DistributedDict("127.0.0.1", port)
    with d.transaction() as t:
        t["a"] += 1
        other["b"] = 3
    assert d == {"a": 2, "b": 3}
    with pytest.raises(Conflict), d.transaction() as t:  # noqa: PT012 (raised by its end)
        t["a"] += 1
        other["a"] = 7
    with pytest.raises(Conflict), d.transaction() as t:  # noqa: PT012 (raised by its end)
        t["n"] = len(t)
        other["c"] = 7
    assert d == {"a": 7, "b": 3, "c": 7}


def test_transact_calls_again_until_it_holds(d: DistributedDict[Any, Any], port: int) -> None:
    d["a"] = 0
    other = DistributedDict("127.0.0.1", port)
    calls = []

    def body(t: Any) -> str:
        found = t["a"]
        if len(calls) < 2:
            other.incr("a")
        calls.append(found)
        t["a"] = found + 10
        return "done"

    assert d.transact(body) == "done"
    assert calls == [0, 1, 2]
    assert d["a"] == 12


def test_a_lock_has_one_owner_and_a_growing_token(d: DistributedDict[Any, Any], port: int) -> None:
    other = DistributedDict("127.0.0.1", port)
    with d.lock("x") as lock:
        first = lock.token
        assert first is not None
        assert not other.lock("x").acquire(wait=0)
        with pytest.raises(LockNotAcquired), other.lock("x", wait=0.02):
            pass
        with d.lock("y"):
            pass
        lock.extend(60)
        with pytest.raises(RuntimeError):
            lock.acquire()
    assert lock.token is None
    with other.lock("x") as lock:
        assert lock.token is not None
        assert lock.token > first


def test_a_lock_that_ran_out_is_noticed_and_guards_a_transaction(
    d: DistributedDict[Any, Any], single_node: ZattCluster
) -> None:
    d["a"] = 1
    lock = d.lock("x")
    assert lock.acquire()
    with d.transaction(guard=lock) as t:
        t["a"] = 2
    with single_node.client() as client:
        client.call("DEL", "{zatt}:lock:x")  # as if its time had run out
    thief = d.lock("x")
    assert thief.acquire(wait=0)
    with pytest.raises(LockLost), d.transaction(guard=lock) as t:
        t["a"] = 3
    assert d == {"a": 2}
    with pytest.raises(LockLost):
        lock.release()
    thief.release()


def test_watch_sees_every_writer(d: DistributedDict[Any, Any], single_node: ZattCluster) -> None:
    d["a"] = 1
    with d.watch(interval=0.005, timeout=20) as changes:
        d["a"] = 2
        assert next(changes) == Change("a", 1, 2)
        with single_node.client() as client:
            client.call("HSET", "zatt", "b", "5")
        assert next(changes) == Change("b", ABSENT, 5)
        d.clear()
        assert {next(changes), next(changes)} == {Change("a", 2, ABSENT), Change("b", 5, ABSENT)}
        for i in range(30):
            d["i"] = i
            assert next(changes).new == i
    assert list(d.watch(interval=0.005, timeout=0.01)) == []
    assert d == {"i": 29}  # the connections that watched are usable again
    with d.transaction() as t:
        t["i"] = 1


def test_refresh_policies(port: int) -> None:
    writer = DistributedDict("127.0.0.1", port)
    writer["a"] = 1
    frozen = DistributedDict("127.0.0.1", port, 3, RefreshPolicyLock())
    counted = DistributedDict("127.0.0.1", port, refresh_policy=RefreshPolicyCount(3))
    timed = DistributedDict("127.0.0.1", port, refresh_policy=RefreshPolicyTime())
    always = DistributedDict("127.0.0.1", port, refresh_policy=RefreshPolicyAlways())
    dicts = (frozen, counted, timed, always)
    assert [copy["a"] for copy in dicts] == [1, 1, 1, 1]
    writer["a"] = 2
    assert [copy["a"] for copy in dicts] == [1, 1, 1, 2]
    assert [copy["a"] for copy in dicts] == [1, 2, 1, 2]
    assert [list(copy.items()) for copy in (frozen, timed)] == [[("a", 1)], [("a", 1)]]
    frozen["b"] = 3
    assert (frozen.copy(), len(frozen), "b" in frozen) == ({"a": 1, "b": 3}, 2, True)
    assert frozen.incr("a") == 3  # decided by the server, not by the copy
    assert frozen.pop("b") == 3
    assert frozen == {"a": 3} == writer
    writer["c"] = 1
    assert "c" not in frozen
    frozen.refresh()
    assert "c" in frozen
    frozen._operations.policy.status = True  # type: ignore[union-attr]
    writer["c"] = 2
    assert frozen["c"] == 2
