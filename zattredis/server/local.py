"""LOCAL commands: answered by the node that took them, at once, or later when their handler is a coroutine."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Coroutine
from typing import Any

from zattredis.commands.context import NO_REPLY, LocalContext, NoReply
from zattredis.commands.table import CommandSpec
from zattredis.errors import DefiniteError, ReplyError
from zattredis.resp.parser import ProtocolLimits
from zattredis.resp.replies import encode
from zattredis.server.clients import ClientState
from zattredis.server.clock import perf_counter
from zattredis.server.connection import ClientConnection
from zattredis.server.executor import BROKEN, internal_error
from zattredis.server.statistics import Statistics


class LocalCommands:
    """Runs the handlers of LOCAL commands. While one of them waits, its own connection waits, and nobody else."""

    __slots__ = ("_limits", "_schedule", "_statistics", "_tasks", "note_slow", "slow_us")

    def __init__(
        self, statistics: Statistics, schedule: Callable[[], None], limits: Callable[[bool], ProtocolLimits]
    ) -> None:
        self._statistics = statistics
        self._schedule = schedule
        self._limits = limits
        self._tasks: set[asyncio.Task[None]] = set()
        self.note_slow: Callable[[ClientState, list[bytes], float], None] = lambda client, argv, seconds: None
        self.slow_us = 10_000.0

    def run(self, connection: ClientConnection, spec: CommandSpec, argv: list[bytes], muted: bool) -> None:
        """Run a command for its client and add its reply, behind what is unanswered."""
        state = connection.state
        local = connection.local
        local.argv = argv
        authenticated = state.authenticated
        start = perf_counter()
        try:
            value = spec.handler(local, *argv[spec.words :])
            if inspect.iscoroutine(value):
                connection.hold()
                self._spawn(self._wait_for(connection, spec, argv, value, muted))
                return
        except ReplyError as error:
            value = error
        except BROKEN:
            raise
        except Exception as error:
            value = internal_error(spec, error)
        self._done(connection, spec, argv, value, perf_counter() - start, muted)
        if state.authenticated != authenticated:
            connection.set_limits(self._limits(state.authenticated))

    def run_in_exec(self, local: LocalContext, spec: CommandSpec) -> Any:
        """Return the reply value of a command inside EXEC, where nothing waits."""
        argv = local.argv
        local.may_block = False
        try:
            value = spec.handler(local, *argv[spec.words :])
            if inspect.iscoroutine(value):
                value = _now(value)
        except ReplyError as error:
            return error
        except BROKEN:
            raise
        except Exception as error:
            return internal_error(spec, error)
        finally:
            local.may_block = True
        return "OK" if value is NO_REPLY else value

    def _done(
        self,
        connection: ClientConnection,
        spec: CommandSpec,
        argv: list[bytes],
        value: Any,
        seconds: float,
        muted: bool,
    ) -> None:
        usec = int(seconds * 1e6)
        self._statistics.record(spec, 1, usec)
        if isinstance(value, ReplyError):
            self._statistics.error(value.prefix)
            self._statistics.commands_failed(spec)
        if usec >= self.slow_us:
            self.note_slow(connection.state, argv, seconds)
        if not muted and not isinstance(value, NoReply):
            connection.add_reply(encode(value, connection.state.resp))
        elif connection.state.close_after_reply:
            connection.flush_soon()

    async def _wait_for(
        self,
        connection: ClientConnection,
        spec: CommandSpec,
        argv: list[bytes],
        value: Coroutine[Any, Any, Any],
        muted: bool,
    ) -> None:
        start = perf_counter()
        try:
            result = await value
        except ReplyError as error:
            result = error
        except BROKEN:
            raise
        except Exception as error:
            result = internal_error(spec, error)
        if not connection.closed:
            self._done(connection, spec, argv, result, perf_counter() - start, muted)
            if connection.state.authenticated != connection.parser.limits.authenticated:
                connection.set_limits(self._limits(connection.state.authenticated))
            connection.release()
            self._schedule()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._task_done)

    def _task_done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            asyncio.get_running_loop().call_exception_handler(
                {"message": "a command failed beyond repair", "exception": task.exception()}
            )


def _now(value: Coroutine[Any, Any, Any]) -> Any:
    """Return the result of a command that would wait, if it has one at once; inside EXEC nothing waits."""
    try:
        value.send(None)
    except StopIteration as end:
        return end.value
    value.close()
    return DefiniteError("this command would wait, which it cannot inside a transaction")
