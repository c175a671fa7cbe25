"""The copy of a refresh policy when several threads use it: an own write shows from then on, and time never goes back.

The operations are driven by hand, so that two are under way at once; the server's replies are given to them.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any

import pytest

from zattredis.client.operations import Operations
from zattredis.client.policies import RefreshPolicyLock
from zattredis.client.transactions import TransactionState
from zattredis.client.values import plain_codec

Dict = Operations[str, int]


@pytest.fixture
def operations() -> Dict:
    return Operations("d", plain_codec, RefreshPolicyLock())


def answer(operation: Generator[Any, Any, Any], *replies: Any) -> Any:
    """Give an operation its replies; it must end with the last one. Returns what it returns."""
    try:
        for reply in replies:
            operation.send(reply)
    except StopIteration as stop:
        return stop.value
    raise AssertionError("it wants more")


def begun(operation: Generator[Any, Any, Any]) -> Generator[Any, Any, Any]:
    next(operation)
    return operation


def hash_of(operations: Dict, **values: int) -> list[bytes]:
    return [part for key, value in values.items() for part in (operations.field(key), operations.encode(value))]


def shown(operations: Dict) -> dict[str, int]:
    assert operations.local_copy.items is not None
    return operations.decode_all(operations.local_copy.items)


@pytest.mark.parametrize(
    ("write", "reply", "expected"),
    [
        (lambda d: d.set("a", 2), [1], {"a": 2, "b": 1}),
        (lambda d: d.delete("a"), [1], {"b": 1}),
        (lambda d: d.clear(), [1], {}),
        (lambda d: d.pop("b", None), [b"OK", b"QUEUED", b"QUEUED", [b"1", 1]], {"a": 1}),
        (lambda d: d.increment("a", 5), [6], {"a": 6, "b": 1}),
    ],
)
def test_a_write_of_another_thread_during_a_fetch_shows(
    operations: Dict, write: Callable[[Dict], Generator[Any, Any, Any]], reply: list[Any], expected: dict[str, int]
) -> None:
    fetch = begun(operations.refresh())
    answer(begun(write(operations)), reply)
    answer(fetch, [hash_of(operations, a=1, b=1)])  # what the server had before the write
    assert shown(operations) == expected


def test_a_transaction_of_another_thread_during_a_fetch_shows(operations: Dict) -> None:
    transaction = TransactionState[str, int](operations, None)
    transaction.clear()
    transaction.put([("a", 2)])
    fetch = begun(operations.refresh())
    answer(begun(transaction.commit()), [b"OK", b"QUEUED", b"QUEUED", [1, 1]])
    answer(fetch, [hash_of(operations, a=1, b=1)])
    assert shown(operations) == {"a": 2}


def test_what_was_fetched_before_does_not_replace_what_was_fetched_later(operations: Dict) -> None:
    slow, fast = begun(operations.refresh()), begun(operations.refresh())
    answer(fast, [hash_of(operations, a=2)])
    answer(slow, [hash_of(operations, a=1)])  # begun before, and so answered by the other's
    assert shown(operations) == {"a": 2}


def test_who_is_overtaken_by_an_older_fetch_fetches_again(operations: Dict) -> None:
    older, newer = begun(operations.refresh()), begun(operations.refresh(force=True))
    answer(older, [hash_of(operations, a=1)])  # perhaps from before `newer` was called for
    answer(newer, [hash_of(operations, a=2)], [hash_of(operations, a=3)])
    assert shown(operations) == {"a": 3}


def test_a_fetch_that_fails_leaves_the_copy(operations: Dict) -> None:
    answer(begun(operations.refresh()), [hash_of(operations, a=1)])
    fetch = begun(operations.refresh(force=True))
    with pytest.raises(ConnectionError):
        fetch.throw(ConnectionError())
    answer(begun(operations.set("b", 2)), [1])
    assert shown(operations) == {"a": 1, "b": 2}
    assert operations.local_copy._under_way == []
