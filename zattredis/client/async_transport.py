"""Connections for the asyncio twin; the rules of `zattredis.client.transport`, awaited."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from typing import Any, ParamSpec, TypeVar

from redis.asyncio.connection import Connection, SSLConnection, UnixDomainSocketConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, RedisError, ResponseError
from redis.exceptions import ConnectionError as BrokenConnection

from zattredis.client.errors import OutcomeUnknown, Refused
from zattredis.client.options import Options
from zattredis.client.steps import Batch, Emit, Operation, Pause, Trial, TryElsewhere, broken, next_step, reply_in
from zattredis.client.transport import IDLE_MAX, WatchState

T = TypeVar("T")
P = ParamSpec("P")

CLASSES: dict[str, Any] = {"tcp": Connection, "tls": SSLConnection, "unix": UnixDomainSocketConnection}


class AsyncLink(WatchState):
    """A connection to one node."""

    def __init__(self, options: Options, number: int) -> None:
        self.number = number
        kind = CLASSES[options.endpoints[number].kind]
        self.connection: Any = kind(**options.words(number), retry=Retry(NoBackoff(), 0))

    async def open(self) -> None:
        """Connect and authenticate. Raises TryElsewhere or Refused."""
        try:
            await self.connection.connect()
        except (AuthenticationError, ResponseError) as error:
            await self.close()
            raise Refused(str(error)) from error
        except (RedisError, OSError) as error:
            await self.close()
            raise TryElsewhere(str(error)) from error
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Close the socket, without waiting for the other side."""
        self.closed = True
        await self.connection.disconnect(nowait=True)

    async def is_fresh(self) -> bool:
        """Return whether an idle connection can be used: nothing came on it, not even its end."""
        probe = getattr(self.connection, "can_read", None) or self.connection.can_read_destructive
        try:
            return not await probe()
        except (RedisError, OSError):
            return False

    async def exchange(self, batch: Batch) -> list[Any]:
        """Send a batch and return its replies. Raises OutcomeUnknown, TryElsewhere or Refused."""
        commands = self.prepare(batch)
        try:
            await self.connection.send_packed_command(self.connection.pack_commands(commands), check_health=False)
            replies = [await self._reply() for _ in commands]
        except (RedisError, OSError) as error:
            await self.close()
            raise broken(batch, error) from error
        except BaseException:
            await self.close()
            raise
        return self.accept(batch, replies)

    async def _reply(self) -> Any:
        try:
            return await self.connection.read_response(disconnect_on_error=False)
        except ResponseError as error:
            return error
        except BrokenConnection as error:
            reply = reply_in(error)
            if reply is None:
                raise
            return reply


class AsyncTransport:
    """The pool of links of one event loop, and `run` for operations."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.number = 0
        self.idle: list[AsyncLink] = []
        self.loop: asyncio.AbstractEventLoop | None = None

    @property
    def address(self) -> str:
        """The node that is asked now."""
        return self.options.endpoints[self.number].name

    async def close(self) -> None:
        """Close all idle connections; the transport stays usable."""
        idle, self.idle = self.idle, []
        for link in idle:
            await link.close()

    async def _acquire(self) -> AsyncLink:
        """Return a link to the current node. Raises TryElsewhere or Refused."""
        loop = asyncio.get_running_loop()
        if self.loop is not loop:  # connections belong to the loop that opened them
            self.loop, self.idle = loop, []
        while self.idle:
            link = self.idle.pop()
            if link.number == self.number and await link.is_fresh():
                return link
            await link.close()
        number = self.number
        link = AsyncLink(self.options, number)
        try:
            await link.open()
        except TryElsewhere:
            self._leave(number)
            raise
        return link

    async def _release(self, link: AsyncLink) -> None:
        link.stale = link.watching
        if link.number == self.number and len(self.idle) < IDLE_MAX:
            self.idle.append(link)
        else:
            await link.close()

    def _leave(self, number: int) -> None:
        """Ask the next node from now on, unless somebody has seen to that already."""
        if self.number == number:
            self.number = (number + 1) % len(self.options.endpoints)

    async def run(self, operation: Callable[P, Operation[T]], *args: P.args, **kwargs: P.kwargs) -> T:
        """Return what the operation returns. Raises what it raises, or OutcomeUnknown, Unavailable, Refused."""
        result: list[T] = []
        async for _ in self._stream(result, operation, *args, **kwargs):
            pass
        return result[0]

    def stream(
        self, operation: Callable[P, Operation[T]], *args: P.args, **kwargs: P.kwargs
    ) -> AsyncGenerator[Any, None]:
        """Run an operation and yield what it emits."""
        return self._stream([], operation, *args, **kwargs)

    async def _stream(
        self, result: list[T], operation: Callable[P, Operation[T]], *args: P.args, **kwargs: P.kwargs
    ) -> AsyncGenerator[Any, None]:
        trial = Trial(len(self.options.endpoints), self.options.attempts, self.options.deadline_s)
        while not result:
            started = self._start(result, operation(*args, **kwargs), trial)
            try:
                async for value in started:
                    yield value
                continue
            except TryElsewhere as error:
                pause = trial.failed(error.__cause__ or error)
            finally:
                await started.aclose()
            await asyncio.sleep(pause)

    async def _start(self, result: list[T], running: Operation[T], trial: Trial) -> AsyncGenerator[Any, None]:
        links: dict[int, AsyncLink] = {}
        outcome: list[Any] | Exception | None = None
        try:
            while True:
                try:
                    step = next_step(running, outcome)
                except StopIteration as end:
                    result.append(end.value)
                    return
                outcome = []
                if isinstance(step, Batch):
                    if step.lane not in links:
                        links[step.lane] = await self._acquire()
                    link = links[step.lane]
                    try:
                        outcome = await link.exchange(step)
                    except Refused as error:
                        outcome = error
                    except (TryElsewhere, OutcomeUnknown):
                        self._leave(link.number)
                        raise
                elif isinstance(step, Pause):
                    await asyncio.sleep(step.seconds)
                else:
                    assert isinstance(step, Emit)
                    trial.succeeded()
                    yield step.value
        finally:
            running.close()
            for link in links.values():
                if not link.closed:
                    await self._release(link)
