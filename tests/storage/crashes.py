"""A scripted load on a log, with an image of its directory after every step, as a crash would leave it.

What recovery may show is known exactly: the log after some whole write, not older than the last sync before the image.
"""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass
from pathlib import Path

from tests.storage.conftest import OPTIONS, all_entries, entries, entry
from zattredis.raft.ready import HardState
from zattredis.storage.log_store import LogStore
from zattredis.storage.rocks import StoreOptions
from zattredis.storage.state_store import StateStore

State = tuple[int, tuple[bytes, ...], HardState, str]
"""First index, entries, hard state, state directory."""


def state_of(log: LogStore) -> State:
    """Return everything a recovered log must get right."""
    return (
        log.first_index,
        tuple(e.raw for e in all_entries(log)),
        log.hard_state,
        log.state_directory.name,
    )


@dataclass(frozen=True)
class Image:
    """The directory as it was after one step."""

    directory: Path
    step: str
    allowed: tuple[State, ...]
    """States that a recovery may show: from the one that was durable to the newest."""
    synced_bytes: dict[str, int]
    """Size of each WAL file at the last sync."""

    def copy(self, target: Path) -> Path:
        """Return the log's path in a copy that may be damaged."""
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(self.directory, target)
        return target / "log"


def wal_files(log_path: Path) -> list[Path]:
    """Return the WAL files, oldest first."""
    return sorted(log_path.glob("*.log"), key=lambda p: int(p.stem))


STEPS = (
    "hard 1 n1", "append 1 3 1", "sync", "append 4 4 1", "append 5 9 1", "sync", "append 10 12 1",
    "hard 2 -", "append 8 9 2", "sync", "append 10 10 2", "hard 3 n3", "sync", "compact 5", "append 11 14 3", "sync",
    "append 15 15 3 big", "append 16 16 3", "sync", "append 14 14 4", "append 15 18 4", "sync", "append 19 20 4",
    "switch 40", "append 41 43 4", "sync", "append 44 44 4",
)  # fmt: skip


def run_steps(directory: Path, steps: tuple[str, ...] = STEPS, options: StoreOptions = OPTIONS) -> list[Image]:
    """Do the steps and return the image after each."""
    live = directory / "live"
    live.mkdir()
    log = LogStore.create(live / "log", state_directory="state-0", membership=b"m", options=options)
    images: list[Image] = []
    allowed: tuple[State, ...] = (state_of(log),)
    synced = _sizes(live / "log")
    for number, step in enumerate(steps):
        durable = _do(log, step)
        newest = state_of(log)
        if durable:
            allowed, synced = (newest,), _sizes(live / "log")
        elif newest != allowed[-1]:
            allowed = (*allowed, newest)
        images.append(Image(copy_live(log, live, directory / f"image-{number}"), step, allowed, synced))
    log.close()
    return images


BACKGROUND = ("num-running-flushes", "mem-table-flush-pending", "num-running-compactions", "compaction-pending")


def copy_live(store: LogStore | StateStore, source: Path, target: Path) -> Path:
    """Copy a directory of an open store between RocksDB's background work, whose files come and go."""
    database = store._database
    assert database is not None
    while True:
        while any(database.property_int_value(f"rocksdb.{name}") for name in BACKGROUND):
            time.sleep(0.001)
        try:
            shutil.copytree(source, target)
        except shutil.Error:
            shutil.rmtree(target)
        else:
            return target


def _sizes(path: Path) -> dict[str, int]:
    return {p.name: p.stat().st_size for p in wal_files(path)}


def _do(log: LogStore, step: str) -> bool:
    """Do one step; return whether everything is durable now."""
    kind, *words = step.split()
    match kind:
        case "sync":
            log.sync()
            return True
        case "hard":
            log.append([], HardState(int(words[0]), None if words[1] == "-" else words[1], 0))
        case "append":
            first, last, term = int(words[0]), int(words[1]), int(words[2])
            found = [entry(first, term, b"B" * 100_000)] if "big" in words else entries(first, last, term)
            log.append(found, None)
        case "compact":
            log.compact(int(words[0]), log.term(int(words[0]) - 1))
        case "switch":
            log.switch_state(f"state-{words[0]}", int(words[0]), log.hard_state.term, b"m2")
            return True
        case _:
            raise AssertionError(step)
    return False
