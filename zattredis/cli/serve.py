"""One node from start to exit code: checks, signals, and what a person is told."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final, Protocol

import uvloop

from zattredis.cli import banner
from zattredis.cli.arguments import EXIT_DONE, complain, exit_code_of
from zattredis.cli.preflight import check_ports, fit_open_files
from zattredis.cli.supervision import Supervisor
from zattredis.config import Settings
from zattredis.errors import FatalError
from zattredis.observability.events import configure_events, get_logger, uses_console
from zattredis.raft.membership import Membership
from zattredis.version import __version__

_LEADER_POLL_S: Final = 0.05
_STATUS_POLL_S: Final = 1.0
_TOGETHER_S: Final = 0.5
"""A leader found within this time is told in one piece with the rest."""
_PATIENCE_S: Final = 3.0
_GC_ALLOCATIONS: Final = 10_000
"""Objects made and not freed between two looks of the collector; Python's own 700 are fewer than one tick holds."""

_log = get_logger()


class ServedNode(Protocol):
    """What serving needs of `zattredis.server.node.Node`."""

    @property
    def leader(self) -> tuple[str | None, int]:
        """Id of the leader this node knows of, or None, and the term."""
        ...

    @property
    def membership(self) -> Membership:
        """Who belongs to the cluster, as this node's log has it."""
        ...

    async def start(self) -> None:
        """Open the data and listen. Raises FatalError."""
        ...

    async def stop(self) -> None:
        """Hand over, finish what was accepted, flush, close. Does no harm before or during `start`, or twice."""
        ...

    def reload(self) -> None:
        """Read settings and certificates again; what cannot be put in force is logged."""
        ...

    async def wait_stopped(self) -> None:
        """Return once the node has stopped by itself (SHUTDOWN) or by `stop`. Raises FatalError if it had to end."""
        ...


def run(settings: Settings, config_file: str | None = None, reread: Callable[[], Settings] | None = None) -> int:
    """Serve until told to stop and return the exit code. Raises FatalError when the node cannot start.

    `config_file` is where CONFIG REWRITE writes; `reread` returns the settings as they are given at SIGHUP.
    """
    configure_events(settings.log_format, settings.log_level, node_id=settings.node_id)
    check_ports(settings)
    settings = fit_open_files(settings)
    if settings.extensions:
        sys.path.insert(0, os.getcwd())  # as `python -m` has it: a module lies where its user is
    from zattredis.server.node import Node

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(serve(Node(settings, config_file, reread), settings))


async def serve(node: ServedNode, settings: Settings) -> int:
    """Start `node`, tell a person and systemd about it, and stop it at the first signal. Returns the exit code.

    Raises FatalError when it cannot start. If it has to end later, prints why and ends the process at once: a disk that
    hangs would hold any orderly end.
    """
    stop = asyncio.Event()
    supervisor = Supervisor()
    _stop_at_first_signal(stop)
    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, node.reload)
    signalled = asyncio.create_task(stop.wait())
    starting = asyncio.create_task(node.start())
    await asyncio.wait({signalled, starting}, return_when=asyncio.FIRST_COMPLETED)
    if not starting.done():
        starting.cancel()
        await asyncio.wait({starting})
        await node.stop()
        return EXIT_DONE
    starting.result()
    _spare_the_collector()
    supervisor.ready()
    telling = asyncio.create_task(_tell(node, settings, supervisor))
    running = asyncio.create_task(node.wait_stopped())
    await asyncio.wait({signalled, running}, return_when=asyncio.FIRST_COMPLETED)
    telling.cancel()
    supervisor.stopping()
    try:
        if not running.done():
            await node.stop()
        await running
    except FatalError as error:
        complain("zattd", error)
        with contextlib.suppress(OSError):
            sys.stdout.flush()
        os._exit(exit_code_of(error))
    signalled.cancel()
    supervisor.close()
    _log.info("stopped")
    return EXIT_DONE


def _spare_the_collector() -> None:
    """Let the garbage collector look less often, and never again at what lives as long as the process.

    Commands leave no circles behind, so it finds next to nothing, but a full pass over modules and tables took 20 ms.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_GC_ALLOCATIONS, 10, 10)


def _stop_at_first_signal(stop: asyncio.Event) -> None:
    loop = asyncio.get_running_loop()

    def on_signal(number: signal.Signals) -> None:
        _log.info("stopping", signal=number.name, hint="a second signal ends at once")
        for each in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(each)
            # The kernel's own action works even when this loop hangs; but the first process of a container has none.
            signal.signal(each, _end_at_once if os.getpid() == 1 else signal.SIG_DFL)
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal, number)


def _end_at_once(number: int, _frame: object) -> None:
    os._exit(128 + number)


async def _tell(node: ServedNode, settings: Settings, supervisor: Supervisor) -> None:
    """Say where everything is, and who leads once that is known; go on telling a supervisor who leads."""
    console = uses_console(settings.log_format)
    if console:
        await _leader(node, _TOGETHER_S)
        _say(banner.started_text(settings, node.membership, os.getpid()))
    else:
        _log.info(
            "listening", version=__version__, pid=os.getpid(), dir=str(Path(settings.dir).absolute()),
            clients=[f"{host}:{port}" for host, port in settings.client_listen],
            cluster=banner.members_told(node.membership),
        )  # fmt: skip
    leader_id = await _leader(node, _PATIENCE_S)
    if leader_id is None:
        if console:
            _say(banner.waiting_text(settings, node.membership))
        else:
            voters = len(node.membership.voters)
            _log.warning("no_leader_yet", majority=voters // 2 + 1, of=voters)
        leader_id = await _leader(node)
    assert leader_id is not None
    term = node.leader[1]
    if console:
        _say(banner.ready_text(settings, leader_id, term))
    else:
        _log.info("ready", leader_id=leader_id, term=term, hint=f"redis-cli{banner.reach_flags(settings)}")
    told = None
    while supervisor.present:
        if node.leader != told:
            told = node.leader
            supervisor.status(f"{told[0]} leads, term {told[1]}" if told[0] else f"nobody leads, term {told[1]}")
        await asyncio.sleep(_STATUS_POLL_S)


async def _leader(node: ServedNode, patience_s: float = float("inf")) -> str | None:
    """Return the leader's id once there is one, or None when that takes longer than `patience_s`."""
    while (leader_id := node.leader[0]) is None and patience_s > 0:
        await asyncio.sleep(_LEADER_POLL_S)
        patience_s -= _LEADER_POLL_S
    return leader_id


def _say(text: str) -> None:
    with contextlib.suppress(OSError):
        print(text, flush=True)
