"""The process that nodes are forked from, and what a forked node does.

Each message to the nursery is a task, with the node's end of its channel: `settings` (names and values as
`make_settings` takes them) and `log` (a file). The node says `{"pid": …}`, then `{}` once it listens or
`{"fatal": reason}`, and then answers requests, each with its number.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import os
import signal
import socket
import sys
from typing import Any, Final

import uvloop

from zattredis.config import make_settings
from zattredis.errors import ConfigError, FatalError
from zattredis.observability.events import configure_events
from zattredis.server.node import Node

_TASK_BYTES_MAX: Final = 1 << 17
_GC_ALLOCATIONS: Final = 10_000


def main(fd: int) -> None:
    """Fork a node for every task until the other side closes."""
    control = socket.socket(fileno=fd)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # whoever has a channel sees their end; nothing of them stays behind
    gc.freeze()
    while True:
        message, fds, _, _ = socket.recv_fds(control, _TASK_BYTES_MAX, 1)
        if not message:
            os._exit(0)
        if os.fork() == 0:
            control.close()
            _child(json.loads(message), socket.socket(fileno=fds[0]))
        os.close(fds[0])


def _child(task: dict[str, Any], channel: socket.socket) -> None:
    """Be one node, and never return."""
    code = 1
    try:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        log = os.open(task["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        for number in (1, 2):
            os.dup2(log, number)
        channel.setblocking(False)
        _tell(channel, {"pid": os.getpid()})
        gc.set_threshold(_GC_ALLOCATIONS, 10, 10)
        gc.enable()
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            code = runner.run(_serve(task, channel))
    except BaseException as error:
        fatal = isinstance(error, FatalError | ConfigError)
        _tell(channel, {"fatal": str(error) if fatal else f"{type(error).__name__}: {error}"})
        sys.excepthook(type(error), error, error.__traceback__)
    finally:
        sys.stderr.flush()
        os._exit(code)  # a disk that hangs would hold any orderly end


async def _serve(task: dict[str, Any], channel: socket.socket) -> int:
    settings = make_settings(**task["settings"])
    configure_events(settings.log_format, settings.log_level, node_id=settings.node_id)
    node = Node(settings)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    await node.start()
    loop.add_reader(channel.fileno(), _on_request, node, channel)
    _tell(channel, {})
    stopping = asyncio.ensure_future(stop.wait())
    running = asyncio.ensure_future(node.wait_stopped())
    await asyncio.wait({stopping, running}, return_when=asyncio.FIRST_COMPLETED)
    if not running.done():
        await node.stop()
    await running
    return 0


def _on_request(node: Node, channel: socket.socket) -> None:
    message = b""
    with contextlib.suppress(ConnectionError):
        message = channel.recv(_TASK_BYTES_MAX)
    if not message:
        os._exit(0)  # the program that this node belongs to is gone
    request = json.loads(message)
    answer: dict[str, Any] = {"number": request["number"]}
    if request["do"] == "cut_off":
        node.network.cut_off(request["nodes"])
    else:
        leader_id, term = node.leader
        answer |= {"leader": leader_id, "term": term, "ready": node.ready}
    _tell(channel, answer)


def _tell(channel: socket.socket, message: dict[str, Any]) -> None:
    with contextlib.suppress(OSError):
        channel.send(json.dumps(message).encode())
