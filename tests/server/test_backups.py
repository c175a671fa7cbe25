"""What a node holds for a backup, and when it lets go of it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from zattredis.errors import DefiniteError
from zattredis.server import backups
from zattredis.server.backups import IDLE_S, Backups, _Session


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(backups, "monotonic", made)
    return made


def holding(directory: Path, clients: dict[int, Any]) -> tuple[Backups, Path]:
    """A node that holds a checkpoint of one file for client 7."""
    path = directory / "snapshot-backup-1"
    path.mkdir()
    (path / "CURRENT").write_bytes(b"0123456789")
    held = Backups(SimpleNamespace(clients=SimpleNamespace(get=clients.get)))  # type: ignore[arg-type]
    held._sessions["t"] = _Session(7, path, [("CURRENT", 10)])
    return held, path


async def settled(path: Path) -> bool:
    """Whether the files are still there, once what was begun on threads is done."""
    await asyncio.get_running_loop().shutdown_default_executor()
    return path.exists()


def test_an_idle_one_goes_and_one_that_is_read_stays(tmp_path: Path, clock: Clock) -> None:
    async def run() -> None:
        client = SimpleNamespace(id=7)
        held, path = holding(tmp_path, {7: client})
        clock.now += IDLE_S - 1
        assert await held.read(client, "t", 0, 2, 100) == [1905600112, b"23456789"]  # type: ignore[arg-type]
        clock.now += IDLE_S - 1
        held.tick()
        assert held.open == 1
        clock.now += 2
        held.tick()
        assert held.open == 0
        with pytest.raises(DefiniteError, match="no such backup"):
            await held.read(client, "t", 0, 0, 1)  # type: ignore[arg-type]
        assert not await settled(path)

    asyncio.run(run())


def test_that_of_a_closed_connection_goes(tmp_path: Path, clock: Clock) -> None:
    async def run() -> None:
        held, path = holding(tmp_path, {})
        held.tick()
        assert held.open == 0
        assert not await settled(path)

    asyncio.run(run())


def test_a_file_that_has_become_shorter_is_an_error_reply(tmp_path: Path, clock: Clock) -> None:
    async def run() -> None:
        client = SimpleNamespace(id=7)
        held, path = holding(tmp_path, {7: client})
        (path / "CURRENT").write_bytes(b"0123")
        with pytest.raises(DefiniteError, match="reading CURRENT of the backup failed"):
            await held.read(client, "t", 0, 0, 10)  # type: ignore[arg-type]

    asyncio.run(run())
