"""A node as a process, forked from the nursery; one channel to it, whose end is the end of either side."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Collection
from pathlib import Path
from typing import Any, Final

from zattredis.embed.instance import Standing
from zattredis.errors import FatalError

_ANSWER_S: Final = 1.0
MESSAGE_BYTES_MAX: Final = 1 << 16

_PROGRAM: Final = (
    # What the nursery imports stays for good: looking through it for garbage meanwhile would only take time.
    "import gc, sys; gc.disable(); sys.path[:] = {path!r}; from zattredis.embed.nursery import main; main({fd})"
)


class Nursery:
    """The process from which nodes are forked. One per `Server`."""

    def __init__(self) -> None:
        self._socket, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with other:
            program = _PROGRAM.format(path=sys.path, fd=other.fileno())
            self._process = subprocess.Popen(
                # A session of its own: Ctrl-C is for the calling program, which then ends its nodes in order.
                [sys.executable, "-c", program], pass_fds=[other.fileno()], stdin=subprocess.DEVNULL,
                start_new_session=True,
            )  # fmt: skip

    def fork(self, task: dict[str, Any]) -> socket.socket:
        """Have a node forked that does `task` (see `nursery`); return the channel to it."""
        mine, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with other:
            try:
                socket.send_fds(self._socket, [json.dumps(task).encode()], [other.fileno()])
            except OSError as error:
                mine.close()
                raise FatalError(f"the process that starts nodes has ended: {error}") from None
        return mine

    def close(self) -> None:
        """End it; nodes that were forked go on."""
        self._socket.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(5.0)
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()


class ProcessInstance:
    """See `embed.instance`. `values` are its settings as text, numbers and lists; `log` gets what it writes."""

    def __init__(self, nursery: Nursery, values: dict[str, Any], log: Path) -> None:
        self.values = values
        self.log = log
        self._nursery = nursery
        self._channel: socket.socket | None = None
        self._pid: int | None = None
        self._pidfd = -1
        self._number = 0
        self._paused = False

    @property
    def alive(self) -> bool:
        """Whether its process runs."""
        return self._pidfd >= 0 and not select.select([self._pidfd], [], [], 0)[0]

    @property
    def pid(self) -> int | None:
        """The id of its process."""
        return self._pid if self.alive else None

    def begin(self) -> None:
        """Have it forked."""
        self._forget()
        self._channel = self._nursery.fork({"settings": self.values, "log": str(self.log)})

    def wait_started(self, deadline: float) -> None:
        """Return once it listens. Raises FatalError with its own reason if it ends instead, or is too slow."""
        if self._pidfd < 0:
            first = self._receive(deadline)
            if first is None:
                raise FatalError(f"the node did not start{self._last_words()}")
            self._pid = int(first["pid"])
            try:
                self._pidfd = os.pidfd_open(self._pid)
            except ProcessLookupError:
                raise FatalError(f"the node ended at once{self._last_words()}") from None
        started = self._receive(deadline)
        if started is None:
            raise FatalError(f"the node did not start in time{self._last_words()}")
        if "fatal" in started:
            self._await_end(deadline)
            raise FatalError(str(started["fatal"]))

    def standing(self) -> Standing | None:
        """Return what it says of itself, or None: it has ended, is paused, or does not answer within a second."""
        answer = None if self._paused else self._ask({"do": "standing"})
        return None if answer is None else Standing(answer["leader"], answer["term"], answer["ready"])

    def cut_off(self, node_ids: Collection[str]) -> None:
        """Let it hear nothing of these nodes."""
        self._ask({"do": "cut_off", "nodes": [*node_ids]})

    def stop(self, timeout_s: float) -> None:
        """SIGTERM, and SIGKILL for one that has not ended in time."""
        if self.alive:
            self.resume()
            self._signal(signal.SIGTERM)
            if not self._await_end(time.monotonic() + timeout_s):
                self._signal(signal.SIGKILL)
                self._await_end(time.monotonic() + timeout_s)
        self._forget()

    def kill(self) -> None:
        """SIGKILL."""
        if self.alive:
            self._signal(signal.SIGKILL)
            self._await_end(time.monotonic() + 30.0)
        self._forget()

    def pause(self) -> None:
        """SIGSTOP."""
        self._signal(signal.SIGSTOP)
        self._paused = True

    def resume(self) -> None:
        """SIGCONT."""
        if self._paused:
            self._paused = False
            self._signal(signal.SIGCONT)

    # -- below -------------------------------------------------------------------------------------------------------

    def _signal(self, number: signal.Signals) -> None:
        if self._pidfd >= 0:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, number)

    def _await_end(self, deadline: float) -> bool:
        if self._pidfd < 0:
            return True
        return bool(select.select([self._pidfd], [], [], max(0.0, deadline - time.monotonic()))[0])

    def _forget(self) -> None:
        if self._pidfd >= 0:
            os.close(self._pidfd)
        if self._channel is not None:
            self._channel.close()
        self._pidfd, self._pid, self._channel, self._paused = -1, None, None, False

    def _ask(self, request: dict[str, Any]) -> dict[str, Any] | None:
        """Return the answer to a request, or None if none comes."""
        channel = self._channel
        if channel is None or not self.alive:
            return None
        self._number += 1
        try:
            channel.send(json.dumps({**request, "number": self._number}).encode(), socket.MSG_DONTWAIT)
        except OSError:
            return None
        deadline = time.monotonic() + _ANSWER_S
        while True:
            answer = self._receive(deadline)
            if answer is None or answer.get("number") == self._number:
                return answer

    def _receive(self, deadline: float) -> dict[str, Any] | None:
        """Return the next message of the node; None when none comes in time, or it has ended."""
        channel = self._channel
        if channel is None:
            return None
        channel.settimeout(max(0.001, deadline - time.monotonic()))
        try:
            message = channel.recv(MESSAGE_BYTES_MAX)
        except OSError:
            return None
        found: dict[str, Any] | None = json.loads(message) if message else None
        return found

    def _last_words(self) -> str:
        try:
            lines = self.log.read_text(errors="replace").strip().splitlines()
        except OSError:
            lines = []
        return f": {lines[-1]}" if lines else ""
