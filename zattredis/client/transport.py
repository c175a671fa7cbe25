"""Connections to the nodes for the synchronous dict, over redis-py's connection class, and the running of operations.

redis-py's own retries stay off: only here is known whether something was sent. A connection is used by one operation at
a time, many threads may run operations at once. A node that fails is left for the next address, and stays left until
another fails.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Generator
from typing import Any, ParamSpec, TypeVar

from redis.backoff import NoBackoff
from redis.connection import Connection, SSLConnection, UnixDomainSocketConnection
from redis.exceptions import AuthenticationError, RedisError, ResponseError
from redis.exceptions import ConnectionError as BrokenConnection
from redis.retry import Retry

from zattredis.client.errors import OutcomeUnknown, Refused
from zattredis.client.options import Options
from zattredis.client.steps import (
    Batch,
    Command,
    Emit,
    Operation,
    Pause,
    Trial,
    TryElsewhere,
    broken,
    judge,
    next_step,
    reply_in,
)

T = TypeVar("T")
P = ParamSpec("P")

CLASSES: dict[str, Any] = {"tcp": Connection, "tls": SSLConnection, "unix": UnixDomainSocketConnection}
IDLE_MAX = 64


class WatchState:
    """Whether a connection still watches keys, for this operation or for one that has ended (stale)."""

    watching = False
    stale = False
    closed = False

    def prepare(self, batch: Batch) -> list[Command]:
        """Return what to send: an older WATCH is ended first."""
        if self.stale or (self.watching and batch.commands[0][0] == "WATCH"):
            return [("UNWATCH",), *batch.commands]
        return batch.commands

    def accept(self, batch: Batch, replies: list[Any]) -> list[Any]:
        """Return the batch's replies. Raises OutcomeUnknown, TryElsewhere or Refused."""
        replies = replies[-len(batch.commands) :]
        self.stale = False
        name = batch.commands[0][0]
        self.watching = name == "WATCH" or (self.watching and name != "MULTI")
        judge(batch, replies)
        return replies


class Link(WatchState):
    """A connection to one node."""

    def __init__(self, options: Options, number: int) -> None:
        self.number = number
        kind = CLASSES[options.endpoints[number].kind]
        self.connection: Any = kind(**options.words(number), retry=Retry(NoBackoff(), 0))

    def open(self) -> None:
        """Connect and authenticate. Raises TryElsewhere or Refused."""
        try:
            self.connection.connect()
        except (AuthenticationError, ResponseError) as error:
            self.close()
            raise Refused(str(error)) from error
        except (RedisError, OSError) as error:
            self.close()
            raise TryElsewhere(str(error)) from error

    def close(self) -> None:
        """Close the socket."""
        self.closed = True
        self.connection.disconnect()

    def is_fresh(self) -> bool:
        """Return whether an idle connection can be used: nothing came on it, not even its end."""
        try:
            return not self.connection.can_read(0)
        except (RedisError, OSError):
            return False

    def exchange(self, batch: Batch) -> list[Any]:
        """Send a batch and return its replies. Raises OutcomeUnknown, TryElsewhere or Refused."""
        commands = self.prepare(batch)
        try:
            self.connection.send_packed_command(self.connection.pack_commands(commands), check_health=False)
            replies = [self._reply() for _ in commands]
        except (RedisError, OSError) as error:
            self.close()
            raise broken(batch, error) from error
        except BaseException:
            self.close()
            raise
        return self.accept(batch, replies)

    def _reply(self) -> Any:
        try:
            return self.connection.read_response(disconnect_on_error=False)
        except ResponseError as error:
            return error
        except BrokenConnection as error:
            reply = reply_in(error)
            if reply is None:
                raise
            return reply


class Transport:
    """The pool of links, and `run` for operations."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.number = 0
        self.lock = threading.Lock()
        self.idle: list[Link] = []
        self.process = os.getpid()

    @property
    def address(self) -> str:
        """The node that is asked now."""
        return self.options.endpoints[self.number].name

    def close(self) -> None:
        """Close all idle connections; the transport stays usable."""
        with self.lock:
            idle, self.idle = self.idle, []
        for link in idle:
            link.close()

    def _acquire(self) -> Link:
        """Return a link to the current node. Raises TryElsewhere or Refused."""
        while True:
            with self.lock:
                if self.process != os.getpid():  # a fork: the sockets belong to the parent
                    self.process, self.idle = os.getpid(), []
                link = self.idle.pop() if self.idle else None
                number = self.number
            if link is None:
                link = Link(self.options, number)
                try:
                    link.open()
                except TryElsewhere:
                    self._leave(number)
                    raise
                return link
            if link.number == number and link.is_fresh():
                return link
            link.close()

    def _release(self, link: Link) -> None:
        link.stale = link.watching
        with self.lock:
            if link.number == self.number and len(self.idle) < IDLE_MAX:
                self.idle.append(link)
                return
        link.close()

    def _leave(self, number: int) -> None:
        """Ask the next node from now on, unless somebody has seen to that already."""
        with self.lock:
            if self.number == number:
                self.number = (number + 1) % len(self.options.endpoints)

    def run(self, operation: Callable[P, Operation[T]], *args: P.args, **kwargs: P.kwargs) -> T:
        """Return what the operation returns. Raises what it raises, or OutcomeUnknown, Unavailable, Refused."""
        stream = self.stream(operation, *args, **kwargs)
        while True:
            try:
                next(stream)
            except StopIteration as end:
                return end.value  # type: ignore[no-any-return]

    def stream(
        self, operation: Callable[P, Operation[T]], *args: P.args, **kwargs: P.kwargs
    ) -> Generator[Any, None, T]:
        """Run an operation and yield what it emits; returns what it returns."""
        trial = Trial(len(self.options.endpoints), self.options.attempts, self.options.deadline_s)
        while True:
            try:
                return (yield from self._start(operation(*args, **kwargs), trial))
            except TryElsewhere as error:
                pause = trial.failed(error.__cause__ or error)
            time.sleep(pause)

    def _start(self, running: Operation[T], trial: Trial) -> Generator[Any, None, T]:
        links: dict[int, Link] = {}
        outcome: list[Any] | Exception | None = None
        try:
            while True:
                try:
                    step = next_step(running, outcome)
                except StopIteration as end:
                    return end.value  # type: ignore[no-any-return]
                outcome = []
                if isinstance(step, Batch):
                    if step.lane not in links:
                        links[step.lane] = self._acquire()
                    number = links[step.lane].number
                    try:
                        outcome = links[step.lane].exchange(step)
                    except Refused as error:
                        outcome = error
                    except (TryElsewhere, OutcomeUnknown):
                        self._leave(number)
                        raise
                elif isinstance(step, Pause):
                    time.sleep(step.seconds)
                else:
                    assert isinstance(step, Emit)
                    trial.succeeded()
                    yield step.value
        finally:
            running.close()
            for link in links.values():
                if not link.closed:
                    self._release(link)
