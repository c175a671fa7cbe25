"""How far members that are to become voters have caught up, shown while somebody waits for them."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from contextlib import suppress
from types import TracebackType
from typing import Any, Final

from zattredis.cli.ctl.nodes import as_dict, targets
from zattredis.cli.ctl.progress import Progress
from zattredis.cli.ctl.target import Target
from zattredis.cli.resp_client import ErrorReply, NoAnswer
from zattredis.errors import ConfigError

LOOK_S: Final = 0.3
_SNAPSHOT: Final = ("snapshot", "bytes")
_LOG: Final = ("log", "entries")


class CatchingUp:
    """A context in which progress is shown: of the snapshot that is sent, in bytes, then of the log, in entries.

    It only looks: nothing that goes wrong here changes what whoever waits is told.
    """

    def __init__(self, target: Target) -> None:
        self._target = target
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> CatchingUp:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join(2 * self._target.timeout_s)

    def _watch(self) -> None:
        bars = _Bars()
        try:
            while not self._over.wait(LOOK_S):
                with suppress(NoAnswer, ErrorReply, ConfigError):
                    bars.show(self._members())
        finally:
            bars.end()

    def _members(self) -> list[dict[str, Any]]:
        """Return what the leader says of the members, for it alone knows of its snapshots; else what any node says."""
        members = _ask(self._target)
        leader = next((member["id"] for member in members if member["role"] == "leader"), None)
        for node_id, _, where in targets(self._target):
            if node_id == leader:
                with suppress(NoAnswer):
                    return _ask(where)
        return members


def _ask(target: Target) -> list[dict[str, Any]]:
    with target.connect() as client:
        return [as_dict(member) for member in client.call("RAFT", "MEMBERS")]


class _Bars:
    """One bar, or line now and then, of what is under way: the snapshots, or the logs behind them."""

    def __init__(self) -> None:
        self._shown: Progress | None = None
        self._of: tuple[Any, ...] = ()
        self._most = 0

    def show(self, members: Sequence[dict[str, Any]]) -> None:
        """Show what the members' fields say."""
        joining = [each for each in members if each["joining"] == "yes" and each["connected"] == "yes"]
        names = ", ".join(each["id"] for each in joining)
        sending = [each for each in joining if each.get("snapshot_bytes", -1) > 0]
        if sending:
            total = sum(each["snapshot_bytes"] for each in sending)
            self._at(_SNAPSHOT, names, total, sum(each["snapshot_sent"] for each in sending))
        elif joining and all(each["match_index"] > 0 for each in joining):
            behind = sum(each["lag"] for each in joining)
            if self._of[:2] != (_LOG[0], names):
                self._most = behind
            self._at(_LOG, names, self._most, max(0, self._most - behind))

    def _at(self, kind: tuple[str, str], names: str, total: int, done: int) -> None:
        if not total:
            return
        if self._of != (kind[0], names, total):
            self.end()
            self._of = (kind[0], names, total)
            self._shown = Progress(f"{names}: {kind[0]}", total, unit=kind[1]).__enter__()
        assert self._shown is not None
        self._shown.at(done)

    def end(self) -> None:
        """Take the bar away."""
        shown, self._shown = self._shown, None
        if shown is not None:
            shown.__exit__(None, None, None)

