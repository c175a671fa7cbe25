"""Virtual time: one queue of events for everybody, and an asyncio event loop for each simulated process over it.

Callbacks take no time, unless `busy_until` says so. A paused process runs nothing until it goes on; a dead one never
runs anything again.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import heapq
import random
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any

from zattredis.errors import FatalError, ZattredisError


class Killed(BaseException):
    """The running process has just been ended, here: nothing of it goes on."""


class Timeline:
    """The queue. `now` is in seconds; events of the same time run in the order in which they were scheduled."""

    def __init__(self) -> None:
        self.now = 0.0
        self.running: NodeLoop | None = None
        self.events = 0
        self._sequence = 0
        self._queue: list[tuple[float, int, NodeLoop | None, Callable[[], Any]]] = []

    def at(self, when: float, action: Callable[[], Any], owner: NodeLoop | None = None) -> None:
        """Run `action` at `when`, as a part of the process `owner` if one is given."""
        self._sequence += 1
        heapq.heappush(self._queue, (max(when, self.now), self._sequence, owner, action))

    def after(self, delay: float, action: Callable[[], Any], owner: NodeLoop | None = None) -> None:
        """Run `action` in `delay` seconds."""
        self.at(self.now + delay, action, owner)

    def step(self) -> bool:
        """Run the next event; False when there is none."""
        if not self._queue:
            return False
        when, _, owner, action = heapq.heappop(self._queue)
        self.now = max(self.now, when)
        self.events += 1
        if owner is None:
            action()
        else:
            owner.enter(action)
        return True

    @property
    def next_at(self) -> float:
        """When the next event is."""
        return self._queue[0][0] if self._queue else float("inf")


class NodeLoop(asyncio.AbstractEventLoop):
    """The event loop of one simulated process. `on_error(exception or None, text)` hears what nobody caught."""

    def __init__(self, timeline: Timeline, name: str, rng: random.Random) -> None:
        self.timeline = timeline
        self.name = name
        self.rng = rng
        self.dead = False
        self.paused = False
        self.tasks: dict[asyncio.Task[Any], None] = {}
        self.servers: dict[tuple[str, int], Callable[[], Any]] = {}
        self.thread_delay = lambda: 0.001
        self.busy_until = 0.0
        """No turn of the loop that was asked for begins earlier: how long the one before it takes. What comes from the
        network or by a timer is heard of in between, as between two slices."""
        self._deferred: deque[Callable[[], Any]] = deque()
        self._handler: Any = None

    # --- running ---

    def enter(self, action: Callable[[], Any]) -> None:
        """Run `action` as this process: now, when it goes on, or never."""
        if self.dead:
            return
        if self.paused:
            self._deferred.append(action)
            return
        timeline = self.timeline
        before, timeline.running = timeline.running, self
        asyncio._set_running_loop(self)
        try:
            action()
        except Killed:
            assert self.dead
        finally:
            asyncio._set_running_loop(None if before is None else before)
            timeline.running = before

    def resume(self) -> None:
        """Go on after a pause: what came meanwhile comes now, in order."""
        self.paused = False
        deferred, self._deferred = self._deferred, deque()
        for action in deferred:
            self.timeline.after(0, action, self)

    def kill(self) -> None:
        """Nothing of this process ever runs again."""
        self.dead = True
        self.paused = False
        self._deferred.clear()

    def bury(self) -> None:
        """Close the coroutines of a dead process here and now, and not whenever their memory is reclaimed."""
        for task in self.tasks:
            if not task.done():
                with contextlib.suppress(Exception):
                    task.get_coro().close()  # type: ignore[union-attr]
        self.tasks.clear()

    # --- asyncio ---

    def time(self) -> float:
        return self.timeline.now

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return not self.dead

    def is_closed(self) -> bool:
        return self.dead

    def call_soon(  # type: ignore[override]
        self, callback: Callable[..., Any], *args: Any, context: contextvars.Context | None = None
    ) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self, context)
        if not self.dead:
            self.timeline.at(self.busy_until, lambda: None if handle._cancelled else handle._run(), self)
        return handle

    call_soon_threadsafe = call_soon  # type: ignore[assignment]

    def call_at(  # type: ignore[override]
        self, when: float, callback: Callable[..., Any], *args: Any, context: contextvars.Context | None = None
    ) -> asyncio.TimerHandle:
        handle = asyncio.TimerHandle(when, callback, args, self, context)
        if not self.dead:
            self.timeline.at(when, lambda: None if handle._cancelled else handle._run(), self)
        return handle

    def call_later(  # type: ignore[override]
        self, delay: float, callback: Callable[..., Any], *args: Any, context: contextvars.Context | None = None
    ) -> asyncio.TimerHandle:
        return self.call_at(self.timeline.now + delay, callback, *args, context=context)

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """The queue skips it."""

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def create_task(  # type: ignore[override]
        self, coro: Coroutine[Any, Any, Any], *, name: str | None = None, context: contextvars.Context | None = None
    ) -> asyncio.Task[Any]:
        task = asyncio.Task(coro, loop=self, name=name or "task", context=context)
        task._log_destroy_pending = False  # type: ignore[attr-defined]
        self.tasks[task] = None
        task.add_done_callback(self._task_done)
        return task

    def _task_done(self, task: asyncio.Task[Any]) -> None:
        """What ended a task for good is told now: asyncio would, whenever the task's memory is reclaimed."""
        del self.tasks[task]
        error = None if task.cancelled() else task.exception()
        if error is not None and (isinstance(error, FatalError) or not isinstance(error, ZattredisError)):
            self.call_exception_handler({"message": "a task failed", "exception": error})

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:  # type: ignore[override]
        """On a thread that runs `func` at some moment and tells its result at a later one."""
        future = self.create_future()
        delay = self.thread_delay()
        moment = delay * self.rng.random()

        def work() -> None:
            try:
                result, error = func(*args), None
            except BaseException as raised:
                result, error = None, raised

            def tell() -> None:
                if future.done():
                    return
                if error is None:
                    future.set_result(result)
                elif isinstance(error, StopIteration):
                    future.set_exception(RuntimeError("StopIteration"))
                else:
                    future.set_exception(error)

            self.timeline.after(delay - moment, tell, self)

        self.timeline.after(moment, work, self)
        return future

    async def create_server(self, factory: Any, host: str, port: int, **rest: Any) -> Any:  # type: ignore[override]
        """Take connections that the world makes."""
        self.servers[host, port] = factory
        return _Server(self, (host, port))

    def get_exception_handler(self) -> Any:
        return self._handler

    def set_exception_handler(self, handler: Any) -> None:
        self._handler = handler

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        if not self.dead and self._handler is not None:
            self._handler(self, context)


class _Server:
    def __init__(self, loop: NodeLoop, address: tuple[str, int]) -> None:
        self._loop = loop
        self._address = address

    def close(self) -> None:
        self._loop.servers.pop(self._address, None)

    async def wait_closed(self) -> None:
        """Nothing to wait for."""
