"""The points: a name, the function that is wrapped, and how."""

from __future__ import annotations

import contextlib
import errno
import functools
import importlib
import inspect
import os
import signal
import sys
from collections.abc import Callable, Iterator
from typing import Any

SERVER, RAFT, STORAGE, SIMULATED = (
    "zattredis.server",
    "zattredis.raft",
    "zattredis.storage",
    "tests.simulation.sim_disk",
)

NODE_POINTS = {
    "message received": f"{SERVER}.driver:Driver.on_message",
    "message sent": "tests.simulation.sim_network:SimPeers.send",
    "term or vote changed": f"{RAFT}.state:RaftState.set_term",
    "election begun": f"{RAFT}.candidate:campaign",
    "election won": f"{RAFT}.leader:become_leader",
    "hand-over begun": f"{RAFT}.leader:transfer",
    "log truncated": f"{RAFT}.state:RaftState.truncate",
    "append": f"{SERVER}.driver:Driver._append",
    "appended to the log": f"{SIMULATED}:SimLog.append",
    "synced": f"{SIMULATED}:SimSync._finish",
    "sync reported": f"{RAFT}.core:Core.persisted",
    "committed": f"{RAFT}.state:RaftState.commit_to",
    "delivered to the applier": f"{SERVER}.applier:Applier.enqueue",
    "entry applied": f"{SERVER}.applier:Applier._complete",
    "effects written": f"{SIMULATED}:SimState.write",
    "applied reported": f"{SERVER}.driver:Driver.on_applied",
    "reply given": f"{SERVER}.units:Unit.finish",
    "batch handed over": f"{SERVER}.proposals:Proposals._hand_over",
    "batch admitted": f"{SERVER}.admission:Admission.admit",
    "batches sent again": f"{SERVER}.proposals:Proposals.go_back",
    "session opened": f"{SERVER}.proposals:Proposals.on_opened",
    "read point confirmed": f"{SERVER}.reads:Reads.on_confirmed",
    "state flushed": f"{SIMULATED}:SimState.flush",
    "log cut": f"{SIMULATED}:SimLog.compact",
    "snapshot made": f"{SIMULATED}:create_snapshot",
    "snapshot sent": f"{SERVER}.snapshots:Snapshots.send_to",
    "snapshot offered": f"{SERVER}.snapshots:Snapshots.receive_from",
    "snapshot received": f"{SIMULATED}:SimSink.write",
    "snapshot complete": f"{SIMULATED}:SimSink.finish",
    "snapshot installed": f"{SERVER}.snapshots:Receiver._install",
    "state switched": f"{SIMULATED}:SimLog.switch_state",
    "state opened": f"{SERVER}.applier:Applier.load",
    "disk opened": f"{SIMULATED}:open_disk",
    "rejoined": f"{SERVER}.rejoin:Rejoin._conclude",
}
"""Crossed by simulated nodes."""

PROCESS_POINTS = {
    "log written": f"{STORAGE}.log_store:LogStore._write",
    "log synced": f"{STORAGE}.log_store:LogStore.sync",
    "mark written": f"{STORAGE}.marks:Marks.write",
    "mark synced": f"{STORAGE}.marks:Marks.sync",
    "state written": f"{STORAGE}.state_store:StateStore.write",
    "state flushed": f"{STORAGE}.state_store:StateStore._flush",
    "log cut": f"{STORAGE}.log_store:LogStore.compact",
    "log opened": f"{STORAGE}.log_recovery:recover",
    "state opened": f"{STORAGE}.state_store:StateStore.open",
    "file renamed": f"{STORAGE}.datadir:write_file",
    "directory made": f"{STORAGE}.datadir:_bootstrap",
}
"""Crossed by a real process of its own; of a cluster's snapshots see CLUSTER_POINTS."""

CLUSTER_POINTS = {
    "snapshot made": f"{STORAGE}.snapshots:create_snapshot",
    "chunk sent": f"{STORAGE}.snapshots:SnapshotSource._file_chunks",
    "chunk received": f"{STORAGE}.snapshots:SnapshotSink.write",
    "snapshot verified": f"{STORAGE}.snapshots:SnapshotSink.finish",
    "state switched": f"{STORAGE}.log_store:LogStore.switch_state",
    "snapshot installed": f"{STORAGE}.datadir:DataDirectory.install",
    "hand-over": f"{RAFT}.leader:transfer",
}
"""Crossed by real processes that send and receive a snapshot, or hand over."""


@contextlib.contextmanager
def watched(where: str, before: Callable[[], None], after: Callable[[], None]) -> Iterator[None]:
    """Call `before` and `after` around every call of the function at `where`, whatever it is."""
    owner, name, function, static = _find(where)
    wrapped: Any = _wrap(function, before, after)
    setattr(owner, name, staticmethod(wrapped) if static else wrapped)
    others = _imported(function) if inspect.ismodule(owner) else []
    for module, other in others:
        setattr(module, other, wrapped)
    try:
        yield
    finally:
        setattr(owner, name, staticmethod(function) if static else function)
        for module, other in others:
            setattr(module, other, function)


def _find(where: str) -> tuple[Any, str, Any, bool]:
    module_name, _, path = where.partition(":")
    owner: Any = importlib.import_module(module_name)
    *parents, name = path.split(".")
    for parent in parents:
        owner = getattr(owner, parent)
    found = inspect.getattr_static(owner, name)
    static = isinstance(found, staticmethod)
    return owner, name, found.__func__ if static else found, static


def _imported(function: Any) -> list[tuple[Any, str]]:
    """Return where else a module's function was imported to."""
    return [
        (module, name)
        for module in list(sys.modules.values())
        if getattr(module, "__name__", "").startswith(("zattredis.", "tests.simulation."))
        for name, value in list(vars(module).items())
        if value is function
    ]


def _wrap(function: Any, before: Callable[[], None], after: Callable[[], None]) -> Any:
    if inspect.isgeneratorfunction(function):

        @functools.wraps(function)
        def generate(*arguments: Any, **words: Any) -> Iterator[Any]:
            for value in function(*arguments, **words):
                before()
                yield value
                after()

        return generate

    @functools.wraps(function)
    def call(*arguments: Any, **words: Any) -> Any:
        before()
        result = function(*arguments, **words)
        after()
        return result

    return call


# --- real processes ---------------------------------------------------------------------------------------------------

CRASH = "ZATTREDIS_TEST_CRASH"


def order(name: str, side: str, crossings: int, action: str) -> str:
    """Return what to put into ZATTREDIS_TEST_CRASH. `side`: before or after; `action`: kill or fail."""
    return f"{name}/{side}/{crossings}/{action}"


def arm(text: str) -> None:
    """Have this process do what `text` orders, for the rest of its life."""
    name, side, crossings, action = text.split("/")
    left = [int(crossings)]

    def happen() -> None:
        left[0] -= 1
        if left[0] < 0:
            if action == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            raise OSError(errno.EIO, f"injected at {name!r}")

    def nothing() -> None:
        pass

    where = {**PROCESS_POINTS, **CLUSTER_POINTS}[name]
    around = (happen, nothing) if side == "before" else (nothing, happen)
    _for_ever.enter_context(watched(where, *around))


_for_ever = contextlib.ExitStack()
