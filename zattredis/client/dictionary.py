"""DistributedDict: a MutableMapping whose content is replicated; every method says what it costs."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, KeysView, Mapping, MutableMapping, Sequence, ValuesView
from collections.abc import ItemsView as ItemsOfMapping
from types import TracebackType
from typing import Any, TypeVar, overload

from zattredis.client.base import Change, K, Opened, V, changes_between
from zattredis.client.errors import Conflict, LockLost, OutcomeUnknown
from zattredis.client.locks import LockState
from zattredis.client.operations import ABSENT, CONTENTION_TRIALS_MAX, Absent, Cursor, Operations, watch_changes
from zattredis.client.options import Address, Security
from zattredis.client.policies import RefreshPolicy
from zattredis.client.steps import jitter
from zattredis.client.transactions import TransactionState
from zattredis.client.transport import Transport
from zattredis.client.values import Codec

T = TypeVar("T")

LOCK_POLL_S_MIN, LOCK_POLL_S_MAX = 0.005, 0.1


def _plain(other: Any) -> dict[Any, Any]:
    """Return a plain dict of what a dict can be made of; another DistributedDict is fetched in one exchange."""
    return other.copy() if isinstance(other, DistributedDict) else dict(other)


class DistributedDict(Opened[K, V], MutableMapping[K, V]):
    """A dict that lives in a zattredis cluster: shared by all who open the same name, and durable.

        d = DistributedDict("127.0.0.1", 5254)
        orders = DistributedDict[str, Order](["a:5254", "b:5254", "c:5254"], name="orders")

    `address` is a host, `host:port`, a `redis://`, `rediss://` or `unix://` URL, or a sequence of these; `port` is for
    those without their own. Nothing is connected before the first use. Threads may share one.

    Values keep their types (`zattredis.client.values` lists them); the types in brackets, if given, are checked, and
    bring dataclasses and msgspec Structs; any other form is a `codec`. `timeout` is for one reply, `connect_timeout`
    for one connection, `deadline` for trying again what was certainly not done (all in seconds), which
    `append_retry_attempts` bounds as well: so many rounds over all addresses after the first.

    Raises, beside KeyError and TypeError: `NotDone` (certainly not done: `Unavailable`, `Refused`, `Conflict`) and
    `OutcomeUnknown` (a write whose reply never came; it is never repeated by itself).

    >>> fruit = DistributedDict[str, int](url, name="fruit")
    >>> fruit["apples"] = 3
    >>> fruit.update({"pears": 5, "plums": 0})
    >>> DistributedDict(url, name="fruit")["pears"]
    5
    >>> fruit.pop("plums"), "plums" in fruit, len(fruit)
    (0, False, 2)
    >>> sorted(fruit.items())
    [('apples', 3), ('pears', 5)]

    >>> from dataclasses import dataclass
    >>> @dataclass
    ... class Order:
    ...     customer: str
    ...     items: list[str]
    >>> orders = DistributedDict[str, Order](url, name="orders")
    >>> orders["o1"] = Order("Ada", ["engine"])
    >>> orders["o1"]
    Order(customer='Ada', items=['engine'])
    >>> orders["o2"] = "engine"
    Traceback (most recent call last):
    TypeError: ...
    """

    def __init__(
        self,
        address: Address | Sequence[Address] = "127.0.0.1",
        port: int | None = None,
        append_retry_attempts: int | None = None,
        refresh_policy: RefreshPolicy | None = None,
        *,
        name: str = "zatt",
        codec: Codec[V] | None = None,
        username: str | None = None,
        password: str | None = None,
        tls: bool = False,
        tls_ca_file: str | None = None,
        tls_cert_file: str | None = None,
        tls_key_file: str | None = None,
        tls_check_hostname: bool = True,
        timeout: float = 10.0,
        connect_timeout: float = 2.0,
        deadline: float = 30.0,
    ) -> None:
        security = Security(username, password, tls, tls_ca_file, tls_cert_file, tls_key_file, tls_check_hostname)
        self._open(
            address, port, name, codec, refresh_policy, security, timeout, connect_timeout, deadline,
            append_retry_attempts,
        )  # fmt: skip
        self._transport = Transport(self._options)
        self._run = self._transport.run

    # --- life

    def close(self) -> None:
        """Close the connections. A later use opens new ones."""
        self._transport.close()

    def __enter__(self) -> DistributedDict[K, V]:
        return self

    def __exit__(self, *rest: object) -> None:
        self.close()

    def refresh(self, force: bool = True) -> None:
        """With a refresh policy: fetch the local copy anew now (`force`), or if the policy says so."""
        self._run(self._operations.refresh, force)

    @property
    def diagnostics(self) -> dict[str, Any]:
        """What the node that is asked says of itself: INFO by section (`d.diagnostics["raft"]`), and its address."""
        found: dict[str, Any] = dict(self._run(self._operations.info))
        return found | {"address": self._transport.address}

    # --- reading: one exchange each

    def __getitem__(self, key: K) -> V:
        return self._run(self._operations.item, key)

    @overload
    def get(self, key: K, default: None = None, /) -> V | None: ...
    @overload
    def get(self, key: K, default: V, /) -> V: ...
    @overload
    def get(self, key: K, default: T, /) -> V | T: ...
    def get(self, key: K, default: Any = None, /) -> Any:
        """Return the value, or the default. One exchange."""
        return self._run(self._operations.get, key, default)

    def get_many(self, keys: Iterable[K]) -> dict[K, V]:
        """Return those of the keys that exist, as of one point in time. One exchange.

        >>> d.update(a=1, b=2)
        >>> d.get_many(["a", "b", "c"])
        {'a': 1, 'b': 2}
        """
        return self._run(self._operations.get_many, list(keys))

    def __contains__(self, key: object) -> bool:
        return self._run(self._operations.contains, key)

    def __len__(self) -> int:
        return self._run(self._operations.length)

    def copy(self) -> dict[K, V]:
        """Return everything as a plain dict, as of one point in time. One exchange, all data."""
        return self._run(self._operations.everything)

    def __repr__(self) -> str:
        return repr(self.copy())

    def __eq__(self, other: object) -> bool:
        return self.copy() == _plain(other) if isinstance(other, Mapping) else NotImplemented

    __hash__ = None  # type: ignore[assignment]

    # --- streaming: pieces of a few hundred; what exists all the while comes exactly once

    def _pieces(self) -> Iterator[tuple[bytes, bytes]]:
        for piece in self._transport.stream(self._operations.scan, Cursor()):
            yield from piece

    def __iter__(self) -> Iterator[K]:
        return (self._operations.key(field) for field, _ in self._pieces())

    def items(self) -> ItemsView[K, V]:
        """Return a view whose iteration streams."""
        return ItemsView(self)

    def values(self) -> ValuesView[V]:
        """Return a view whose iteration streams."""
        return StreamedValues(self)

    def keys(self) -> KeysView[K]:
        """Return a view whose iteration streams."""
        return KeysView(self)

    # --- writing: one log entry each

    def __setitem__(self, key: K, value: V) -> None:
        self._run(self._operations.set, key, value)

    def __delitem__(self, key: K) -> None:
        self._run(self._operations.delete, key)

    def update(self, other: Any = (), /, **more: Any) -> None:
        """Store all the items as one atomic write."""
        self._run(self._operations.update, list((_plain(other) | more).items()))

    def clear(self) -> None:
        """Delete everything, atomically, in constant time."""
        self._run(self._operations.clear)

    @overload
    def pop(self, key: K, /) -> V: ...
    @overload
    def pop(self, key: K, /, default: V) -> V: ...
    @overload
    def pop(self, key: K, /, default: T) -> V | T: ...
    def pop(self, key: K, /, default: Any = ABSENT) -> Any:
        """Delete the key and return its value, atomically; the default, or KeyError, if it is missing."""
        return self._run(self._operations.pop, key, default)

    def popitem(self) -> tuple[K, V]:
        """Delete a random key and return it with its value; each goes to one caller only. Raises KeyError if empty."""
        return self._run(self._operations.popitem)

    def setdefault(self, key: K, default: V = None, /) -> V:  # type: ignore[assignment]
        """Store the default if the key is missing; return what it then holds. Atomic.

        >>> d.setdefault("owner", "me"), d.setdefault("owner", "you")
        ('me', 'me')
        """
        return self._run(self._operations.setdefault, key, default)

    def __or__(self, other: Mapping[K, V]) -> dict[K, V]:
        return self.copy() | _plain(other) if isinstance(other, Mapping) else NotImplemented

    def __ror__(self, other: Mapping[K, V]) -> dict[K, V]:
        return _plain(other) | self.copy() if isinstance(other, Mapping) else NotImplemented

    def __ior__(self, other: Mapping[K, V] | Iterable[tuple[K, V]]) -> DistributedDict[K, V]:
        self.update(other)
        return self

    # --- atomic helpers

    def incr(self, key: K, amount: Any = 1) -> Any:
        """Add to a number (0 when missing) and return the sum.

        One exchange for ints of 64 bits, else as `compare_and_set`. Raises TypeError if the value is no number.

        >>> d.incr("visits"), d.incr("visits", 10)
        (1, 11)
        """
        return self._run(self._operations.increment, key, amount)

    def compare_and_set(self, key: K, old: V | Absent, new: V | Absent) -> bool:
        """Store `new` if the key's value == `old`, and return whether that was so; `ABSENT` stands for no value.

        Two exchanges, and again while others write to the dict in between; raises Conflict after very many times.

        >>> d["state"] = "new"
        >>> d.compare_and_set("state", "new", "running"), d.compare_and_set("state", "new", "running")
        (True, False)
        >>> d.compare_and_set("state", "running", ABSENT), "state" in d
        (True, False)
        """
        return self._run(self._operations.compare_and_set, key, old, new)

    def transaction(self, guard: Lock | None = None) -> Transaction[K, V]:
        """Return a context manager whose body sees and changes the dict as a MutableMapping, all or nothing.

        >>> d.update(a=100, b=0)
        >>> with d.transaction() as t:
        ...     t["a"] -= 10
        ...     t["b"] += 10
        >>> d == {"a": 90, "b": 10}
        True

        Raises at the end Conflict if another changed what the body has read (see `transact`), LockLost if `guard` ran
        out; then nothing was written.
        """
        return Transaction(self, self._operations, guard)

    def transact(self, body: Callable[[Transaction[K, V]], T], attempts: int = CONTENTION_TRIALS_MAX) -> T:
        """Call the body with a transaction, again after each Conflict; return what it returns.

        Raises the last Conflict.

        >>> d["seats"] = 2
        >>> def book(t):
        ...     t["seats"] -= 1
        ...     return t["seats"]
        >>> d.transact(book)
        1
        """
        for trial in range(attempts - 1):
            try:
                with self.transaction() as transaction:
                    return body(transaction)
            except Conflict:
                time.sleep(jitter(trial).seconds)
        with self.transaction() as transaction:
            return body(transaction)

    def lock(self, name: str, ttl: float = 30.0, wait: float | None = None) -> Lock:
        """Return a lock shared by all who open this dict; `with` takes it, waiting at most `wait` seconds.

        `wait=None` waits for ever. The lock runs out `ttl` seconds after it was taken or extended; its `token` is the
        fencing token.

        >>> with d.lock("nightly", ttl=60) as lock:
        ...     lock.token
        1
        """
        return Lock(self._transport, LockState(self._operations.name, name, ttl), wait)

    def watch(self, interval: float = 0.1, timeout: float | None = None) -> Watch:
        """Return an iterator of the changes from now on, whoever makes them.

        It ends after `timeout` seconds without a change. The cluster is asked each `interval` whether the dict has a
        new version; only then is it fetched and compared. So two changes of one key within an interval are seen as
        one, and memory holds one copy of the dict.

        >>> with d.watch(interval=0.01, timeout=10) as changes:
        ...     d["flag"] = True
        ...     next(changes)
        Change(key='flag', old=ABSENT, new=True)
        """
        return Watch(self._transport, self._operations, interval, timeout)


class ItemsView(ItemsOfMapping[K, V]):
    """Items, streamed."""

    _mapping: DistributedDict[K, V]

    def __iter__(self) -> Iterator[tuple[K, V]]:
        operations = self._mapping._operations
        return ((operations.key(field), operations.decode(data)) for field, data in self._mapping._pieces())


class StreamedValues(ValuesView[V]):
    """Values, streamed."""

    _mapping: DistributedDict[Any, V]

    def __iter__(self) -> Iterator[V]:
        operations = self._mapping._operations
        return (operations.decode(data) for _, data in self._mapping._pieces())

    def __contains__(self, value: object) -> bool:
        return any(found is value or found == value for found in self)


class Transaction(MutableMapping[K, V]):
    """The body's view: reads see the transaction's own writes, which nobody else sees before the end."""

    def __init__(self, owner: DistributedDict[K, V], operations: Operations[K, V], guard: Lock | None) -> None:
        self._run = owner._transport.run
        self._operations = operations
        self._state = TransactionState(operations, None if guard is None else guard.state)

    def __enter__(self) -> Transaction[K, V]:
        self._state.check_open()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        if kind is None:
            self._run(self._state.commit)
        self._state.ended = True

    def __getitem__(self, key: K) -> V:
        return self._run(self._state.item, key)

    def __setitem__(self, key: K, value: V) -> None:
        self._state.put([(key, value)])

    def __delitem__(self, key: K) -> None:
        self._run(self._state.delete, key)

    def __iter__(self) -> Iterator[K]:
        return iter([self._operations.key(field) for field in self._run(self._state.everything)])

    def __len__(self) -> int:
        return len(self._run(self._state.everything))

    def clear(self) -> None:
        """Delete everything, without reading it."""
        self._state.clear()

    def __repr__(self) -> str:
        return repr(self._operations.decode_all(self._run(self._state.everything)))


class Lock:
    """A lock with a fencing token; not for several threads at once: each takes its own by `d.lock(name)`."""

    def __init__(self, transport: Transport, state: LockState, wait: float | None) -> None:
        self._run = transport.run
        self.state = state
        self.wait = wait

    @property
    def token(self) -> int | None:
        """The fencing token while held, larger than that of every owner before; None otherwise."""
        return self.state.token

    def acquire(self, wait: float | None = None) -> bool:
        """Take the lock; return False if it was not free within `wait` seconds (None: for ever)."""
        self.state.new_owner()
        ends = None if wait is None else time.monotonic() + wait
        pause = LOCK_POLL_S_MIN
        while True:
            try:
                taken = self._run(self.state.try_acquire)
            except OutcomeUnknown:
                taken = self._run(self.state.find_out)
            if taken:
                return True
            now = time.monotonic()
            if ends is not None and now >= ends:
                return False
            time.sleep(pause if ends is None else min(pause, ends - now))
            pause = min(pause * 2, LOCK_POLL_S_MAX)

    def release(self) -> None:
        """Give the lock back. Raises LockLost if it had run out."""
        try:
            self._run(self.state.release)
        except OutcomeUnknown:
            try:
                self._run(self.state.release)
            except LockLost:
                return  # the first attempt did it, or it has run out since: either way it is given back

    def extend(self, ttl: float | None = None) -> None:
        """Let the lock run out `ttl` seconds (default: as at the start) from now. Raises LockLost if it had run out."""
        self._run(self.state.extend, ttl)

    def __enter__(self) -> Lock:
        if not self.acquire(self.wait):
            raise self.state.not_acquired()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        try:
            self.release()
        except LockLost:
            if kind is None:  # else the body's own error says more
                raise


class Watch(Iterator[Change]):
    """The iterator of `DistributedDict.watch`."""

    def __init__(
        self, transport: Transport, operations: Operations[K, V], interval: float, timeout: float | None
    ) -> None:
        self._operations: Operations[Any, Any] = operations
        self._timeout = timeout
        known = transport.run(operations.snapshot)
        self._stream = transport.stream(watch_changes, operations.name, known, interval)
        self._waiting: list[Change] = []

    def __next__(self) -> Change:
        ends = None if self._timeout is None else time.monotonic() + self._timeout
        while not self._waiting:
            seen = next(self._stream)
            if seen is not None:
                self._waiting = changes_between(self._operations, *seen)[::-1]
            elif ends is not None and time.monotonic() >= ends:
                raise StopIteration
        return self._waiting.pop()

    def close(self) -> None:
        """Give the connection back."""
        self._stream.close()

    def __enter__(self) -> Watch:
        return self

    def __exit__(self, *rest: object) -> None:
        self.close()
