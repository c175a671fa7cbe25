"""A node in a thread of this process, on an event loop of its own."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING, Any

from zattredis.config import Settings
from zattredis.embed.instance import Standing
from zattredis.errors import FatalError
from zattredis.observability.events import embed_events

if TYPE_CHECKING:
    from zattredis.server.node import Node


class ThreadInstance:
    """See `embed.instance`. What ended it by itself is in `error`."""

    def __init__(self, settings: Settings, functions: Sequence[Callable[..., Any]] = ()) -> None:
        self.settings = settings
        self._functions = functions
        self.error: BaseException | None = None
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._node: Node | None = None
        self._told = threading.Event()
        self._stop: asyncio.Event | None = None

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self._thread is not None and self._thread.is_alive()

    @property
    def pid(self) -> int | None:
        """None: it has no process of its own."""
        return None

    def begin(self) -> None:
        """Begin to start it."""
        self._told.clear()
        self.error = None
        # A daemon, so that a program that forgets to close its server ends all the same (`Server` closes it at exit).
        self._thread = threading.Thread(target=self._run, name=f"zattredis-{self.settings.port}", daemon=True)
        self._thread.start()

    def wait_started(self, deadline: float) -> None:
        """Return once it listens. Raises FatalError if it cannot."""
        if not self._told.wait(max(0.0, deadline - time.monotonic())):
            raise FatalError("the node did not start in time")
        if self.error is not None:
            raise self.error

    def standing(self) -> Standing | None:
        """Return what it says of itself, or None if it has ended."""
        node = self._node
        return None if node is None else Standing(*node.leader, node.ready)

    def cut_off(self, node_ids: Collection[str]) -> None:
        """Nothing: it is alone."""

    def stop(self, timeout_s: float) -> None:
        """End it in good order. Raises FatalError if it has not ended after that time."""
        thread, loop, stop = self._thread, self._loop, self._stop
        if thread is None:
            return
        if loop is not None and stop is not None:
            with contextlib.suppress(RuntimeError):  # its loop is closed: it has ended
                loop.call_soon_threadsafe(stop.set)
        thread.join(timeout_s)
        if thread.is_alive():
            raise FatalError(f"the node's thread has not ended after {timeout_s:.0f} s")
        self._thread = None

    def kill(self) -> None:
        """Raise RuntimeError: a thread cannot be killed."""
        raise RuntimeError("a node in a thread cannot be killed; serve(process=True) runs it in a process")

    def pause(self) -> None:
        """Raise RuntimeError: a thread cannot be paused."""
        raise RuntimeError("a node in a thread cannot be paused; serve(process=True) runs it in a process")

    def resume(self) -> None:
        """Nothing: it cannot have been paused."""

    # -- in the thread -----------------------------------------------------------------------------------------------

    def _run(self) -> None:
        quiet = embed_events(self.settings.log_format, self.settings.log_level)
        try:
            import uvloop

            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(self._serve())
        except BaseException as error:
            self.error = error
        finally:
            quiet()
            self._node = None
            self._told.set()

    async def _serve(self) -> None:
        from zattredis.server.node import Node

        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        node = Node(self.settings, functions=self._functions)
        await node.start()
        self._node = node
        self._told.set()
        stopping = asyncio.ensure_future(self._stop.wait())
        running = asyncio.ensure_future(node.wait_stopped())
        await asyncio.wait({stopping, running}, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if not running.done():
            await node.stop()
        await running
