"""AsyncDistributedDict: the twin of DistributedDict for asyncio; the same operations, awaited."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any, Generic, TypeVar, overload

from zattredis.client.async_transport import AsyncTransport
from zattredis.client.base import Change, K, Opened, V, changes_between
from zattredis.client.dictionary import LOCK_POLL_S_MAX, LOCK_POLL_S_MIN
from zattredis.client.errors import Conflict, LockLost, OutcomeUnknown
from zattredis.client.locks import LockState
from zattredis.client.operations import ABSENT, CONTENTION_TRIALS_MAX, Absent, Cursor, Operations, watch_changes
from zattredis.client.options import Address, Security
from zattredis.client.policies import RefreshPolicy
from zattredis.client.steps import jitter
from zattredis.client.transactions import TransactionState
from zattredis.client.values import Codec

T = TypeVar("T")


class AsyncDistributedDict(Opened[K, V]):
    """A dict that lives in a zattredis cluster, for asyncio; opened, typed and failing as `DistributedDict`.

    >>> async def main():
    ...     async with AsyncDistributedDict(url, name="numbers") as d:
    ...         await d.set("key1", 0)
    ...         print(await d["key1"], await d.incr("key1"))
    ...         print([item async for item in d.items()])
    >>> import asyncio
    >>> asyncio.run(main())
    0 1
    [('key1', 1)]

    Many tasks may share one, within one event loop at a time. A task that is cancelled while a write is on its way does
    not learn its outcome.
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
        self._transport = AsyncTransport(self._options)
        self._run = self._transport.run

    # --- life

    async def close(self) -> None:
        """Close the connections. A later use opens new ones."""
        await self._transport.close()

    async def __aenter__(self) -> AsyncDistributedDict[K, V]:
        return self

    async def __aexit__(self, *rest: object) -> None:
        await self.close()

    async def refresh(self, force: bool = True) -> None:
        """With a refresh policy: fetch the local copy anew now (`force`), or if the policy says so."""
        await self._run(self._operations.refresh, force)

    async def diagnostics(self) -> dict[str, Any]:
        """Return what the node that is asked says of itself: INFO by section, and its address."""
        found: dict[str, Any] = dict(await self._run(self._operations.info))
        return found | {"address": self._transport.address}

    # --- reading

    def __getitem__(self, key: K) -> Coroutine[Any, Any, V]:
        """Return an awaitable of the value; awaiting raises KeyError."""
        return self._run(self._operations.item, key)

    @overload
    async def get(self, key: K, default: None = None, /) -> V | None: ...
    @overload
    async def get(self, key: K, default: V, /) -> V: ...
    @overload
    async def get(self, key: K, default: T, /) -> V | T: ...
    async def get(self, key: K, default: Any = None, /) -> Any:
        """Return the value, or the default. One exchange."""
        return await self._run(self._operations.get, key, default)

    async def get_many(self, keys: Iterable[K]) -> dict[K, V]:
        """Return those of the keys that exist, as of one point in time. One exchange."""
        return await self._run(self._operations.get_many, list(keys))

    async def contains(self, key: object) -> bool:
        """Return whether the key exists."""
        return await self._run(self._operations.contains, key)

    async def length(self) -> int:
        """Return the number of keys."""
        return await self._run(self._operations.length)

    async def copy(self) -> dict[K, V]:
        """Return everything as a plain dict, as of one point in time. One exchange, all data."""
        return await self._run(self._operations.everything)

    def __repr__(self) -> str:
        return f"<AsyncDistributedDict {self.name!r} at {self._transport.address}>"

    async def _pieces(self) -> AsyncIterator[tuple[bytes, bytes]]:
        async for piece in self._transport.stream(self._operations.scan, Cursor()):
            for item in piece:
                yield item

    async def __aiter__(self) -> AsyncIterator[K]:
        async for field, _ in self._pieces():
            yield self._operations.key(field)

    def keys(self) -> AsyncIterator[K]:
        """Stream the keys."""
        return self.__aiter__()

    async def values(self) -> AsyncIterator[V]:
        """Stream the values."""
        async for _, data in self._pieces():
            yield self._operations.decode(data)

    async def items(self) -> AsyncIterator[tuple[K, V]]:
        """Stream keys with their values."""
        async for field, data in self._pieces():
            yield self._operations.key(field), self._operations.decode(data)

    # --- writing

    async def set(self, key: K, value: V) -> None:
        """Store the value."""
        await self._run(self._operations.set, key, value)

    async def delete(self, key: K) -> None:
        """Delete the key. Raises KeyError."""
        await self._run(self._operations.delete, key)

    async def update(self, other: Any = (), /, **more: Any) -> None:
        """Store all the items as one atomic write."""
        await self._run(self._operations.update, list(dict(other, **more).items()))

    async def clear(self) -> None:
        """Delete everything, atomically, in constant time."""
        await self._run(self._operations.clear)

    @overload
    async def pop(self, key: K, /) -> V: ...
    @overload
    async def pop(self, key: K, /, default: V) -> V: ...
    @overload
    async def pop(self, key: K, /, default: T) -> V | T: ...
    async def pop(self, key: K, /, default: Any = ABSENT) -> Any:
        """Delete the key and return its value, atomically; the default, or KeyError, if it is missing."""
        return await self._run(self._operations.pop, key, default)

    async def popitem(self) -> tuple[K, V]:
        """Delete a random key and return it with its value. Raises KeyError if the dict is empty."""
        return await self._run(self._operations.popitem)

    async def setdefault(self, key: K, default: V = None, /) -> V:  # type: ignore[assignment]
        """Store the default if the key is missing; return what it then holds. Atomic."""
        return await self._run(self._operations.setdefault, key, default)

    # --- atomic helpers: as in DistributedDict

    async def incr(self, key: K, amount: Any = 1) -> Any:
        """Add to a number (0 when missing) and return the sum."""
        return await self._run(self._operations.increment, key, amount)

    async def compare_and_set(self, key: K, old: V | Absent, new: V | Absent) -> bool:
        """Store `new` if the key's value == `old`, and return whether that was so; `ABSENT` stands for no value."""
        return await self._run(self._operations.compare_and_set, key, old, new)

    def transaction(self, guard: AsyncLock | None = None) -> AsyncTransaction[K, V]:
        """Return an async context manager whose body's reads and writes are all or nothing."""
        return AsyncTransaction(self._transport, self._operations, guard)

    async def transact(
        self, body: Callable[[AsyncTransaction[K, V]], Awaitable[T]], attempts: int = CONTENTION_TRIALS_MAX
    ) -> T:
        """Call the body with a transaction, again after each Conflict. Raises the last Conflict."""
        for trial in range(attempts - 1):
            try:
                async with self.transaction() as transaction:
                    return await body(transaction)
            except Conflict:
                await asyncio.sleep(jitter(trial).seconds)
        async with self.transaction() as transaction:
            return await body(transaction)

    def lock(self, name: str, ttl: float = 30.0, wait: float | None = None) -> AsyncLock:
        """Return a lock with a fencing token, shared with `DistributedDict.lock`."""
        return AsyncLock(self._transport, LockState(self._operations.name, name, ttl), wait)

    def watch(self, interval: float = 0.1, timeout: float | None = None) -> AsyncWatch:
        """Return an iterator of the changes, as `DistributedDict.watch`; it ends after `timeout` seconds without one.

        >>> async def main():
        ...     async with AsyncDistributedDict(url, name="flags") as d, d.watch(interval=0.01, timeout=10) as changes:
        ...         await d.set("dark", True)
        ...         async for change in changes:
        ...             return change
        >>> import asyncio
        >>> asyncio.run(main())
        Change(key='dark', old=ABSENT, new=True)

        `async with` begins it there, and ends it; without, it begins with the first step of `async for`.
        """
        return AsyncWatch(self._transport, self._operations, interval, timeout)


class AsyncWatch(AsyncIterator[Change]):
    """The iterator of `AsyncDistributedDict.watch`."""

    def __init__(
        self, transport: AsyncTransport, operations: Operations[K, V], interval: float, timeout: float | None
    ) -> None:
        self._transport = transport
        self._operations: Operations[Any, Any] = operations
        self._interval = interval
        self._timeout = timeout
        self._stream: AsyncGenerator[Any, None] | None = None
        self._waiting: list[Change] = []

    async def _begin(self) -> AsyncGenerator[Any, None]:
        if self._stream is None:
            operations = self._operations
            known = await self._transport.run(operations.snapshot)
            self._stream = self._transport.stream(watch_changes, operations.name, known, self._interval)
        return self._stream

    async def __anext__(self) -> Change:
        stream = await self._begin()
        loop = asyncio.get_running_loop()
        last = loop.time()
        while not self._waiting:
            seen = await anext(stream)
            if seen is not None:
                self._waiting = changes_between(self._operations, *seen)[::-1]
            elif self._timeout is not None and loop.time() - last >= self._timeout:
                raise StopAsyncIteration
        return self._waiting.pop()

    async def aclose(self) -> None:
        """Give the connection back."""
        if self._stream is not None:
            await self._stream.aclose()

    async def __aenter__(self) -> AsyncWatch:
        await self._begin()
        return self

    async def __aexit__(self, *rest: object) -> None:
        await self.aclose()


class AsyncTransaction(Generic[K, V]):
    """The body's view: reads are awaited; writes are held back until the end, so `set` and `clear` do no I/O."""

    def __init__(self, transport: AsyncTransport, operations: Operations[K, V], guard: AsyncLock | None) -> None:
        self._run = transport.run
        self._operations = operations
        self._state = TransactionState(operations, None if guard is None else guard.state)

    async def __aenter__(self) -> AsyncTransaction[K, V]:
        self._state.check_open()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        if kind is None:
            await self._run(self._state.commit)
        self._state.ended = True

    def __getitem__(self, key: K) -> Coroutine[Any, Any, V]:
        return self._run(self._state.item, key)

    async def get(self, key: K, default: T) -> V | T:
        """Return the value, or the default."""
        try:
            return await self[key]
        except KeyError:
            return default

    async def contains(self, key: K) -> bool:
        """Return whether the key exists."""
        return await self._run(self._state.fetch, self._operations.field(key)) is not None

    async def length(self) -> int:
        """Return the number of keys; from now on the transaction depends on everything."""
        return len(await self._run(self._state.everything))

    @overload
    async def pop(self, key: K, /) -> V: ...
    @overload
    async def pop(self, key: K, default: T, /) -> V | T: ...
    async def pop(self, key: K, default: Any = ABSENT, /) -> Any:
        """Delete the key at the end and return its value; the default, or KeyError, if it is missing."""
        try:
            value = await self[key]
        except KeyError:
            if default is ABSENT:
                raise
            return default
        await self.delete(key)
        return value

    async def setdefault(self, key: K, default: V) -> V:
        """Store the default at the end if the key is missing; return what it then holds."""
        try:
            return await self[key]
        except KeyError:
            self.set(key, default)
            return default

    async def copy(self) -> dict[K, V]:
        """Return everything; from now on the transaction depends on all of it."""
        return self._operations.decode_all(await self._run(self._state.everything))

    def set(self, key: K, value: V) -> None:
        """Store the value at the end."""
        self._state.put([(key, value)])

    def update(self, other: Mapping[K, V]) -> None:
        """Store all of them at the end."""
        self._state.put(other.items())

    async def delete(self, key: K) -> None:
        """Delete the key at the end. Raises KeyError if it is not there."""
        await self._run(self._state.delete, key)

    def clear(self) -> None:
        """Delete everything at the end."""
        self._state.clear()


class AsyncLock:
    """A lock with a fencing token, for one task at a time."""

    def __init__(self, transport: AsyncTransport, state: LockState, wait: float | None) -> None:
        self._run = transport.run
        self.state = state
        self.wait = wait

    @property
    def token(self) -> int | None:
        """The fencing token while held; None otherwise."""
        return self.state.token

    async def acquire(self, wait: float | None = None) -> bool:
        """Take the lock; return False if it was not free within `wait` seconds (None: for ever)."""
        self.state.new_owner()
        loop = asyncio.get_running_loop()
        ends = None if wait is None else loop.time() + wait
        pause = LOCK_POLL_S_MIN
        while True:
            try:
                taken = await self._run(self.state.try_acquire)
            except OutcomeUnknown:
                taken = await self._run(self.state.find_out)
            if taken:
                return True
            now = loop.time()
            if ends is not None and now >= ends:
                return False
            await asyncio.sleep(pause if ends is None else min(pause, ends - now))
            pause = min(pause * 2, LOCK_POLL_S_MAX)

    async def release(self) -> None:
        """Give the lock back. Raises LockLost if it had run out."""
        try:
            await self._run(self.state.release)
        except OutcomeUnknown:
            try:
                await self._run(self.state.release)
            except LockLost:
                return  # the first attempt did it, or it has run out since: either way it is given back

    async def extend(self, ttl: float | None = None) -> None:
        """Let the lock run out `ttl` seconds from now. Raises LockLost if it had run out."""
        await self._run(self.state.extend, ttl)

    async def __aenter__(self) -> AsyncLock:
        if not await self.acquire(self.wait):
            raise self.state.not_acquired()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        try:
            await self.release()
        except LockLost:
            if kind is None:  # else the body's own error says more
                raise
