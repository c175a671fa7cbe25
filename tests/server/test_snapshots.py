"""Snapshots on their way out: which one a follower gets, and what becomes of one whose state is replaced."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from zattredis.errors import SnapshotFailed, StorageFailed
from zattredis.server import snapshots
from zattredis.server.snapshots import Snapshots


class FakeNode:
    """A node at entry 50 whose log begins with entry 51; `made` are the paths of the snapshots."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.made: list[str] = []
        self.core = SimpleNamespace(applied_index=50)
        self.applier = SimpleNamespace(store=object())
        self.data = SimpleNamespace(log=SimpleNamespace(first_index=51), outgoing_path=lambda name: f"snapshot-{name}")
        self.on_make = lambda: None
        monkeypatch.setattr(snapshots, "create_snapshot", self._create)
        self.snapshots = Snapshots(self)  # type: ignore[arg-type]

    def _create(self, store: Any, path: Any) -> Any:
        self.made.append(path)
        self.on_make()
        return SimpleNamespace(index=50, term=3, size_bytes=1)


@pytest.fixture
def node(monkeypatch: pytest.MonkeyPatch) -> FakeNode:
    return FakeNode(monkeypatch)


def test_two_followers_share_a_snapshot_that_ends_right_before_the_log(node: FakeNode) -> None:
    async def run() -> None:
        assert await node.snapshots._make() is await node.snapshots._make()

    asyncio.run(run())
    assert len(node.made) == 1


def test_a_second_snapshot_never_takes_the_place_of_one_that_is_under_way(node: FakeNode) -> None:
    async def run() -> None:
        await node.snapshots._make()
        node.data.log.first_index = 60
        await node.snapshots._make()

    asyncio.run(run())
    assert len(set(node.made)) == 2


def test_a_state_that_is_replaced_meanwhile_fails_the_snapshot_and_not_the_node(node: FakeNode) -> None:
    def replaced() -> None:
        node.applier.store = object()
        raise StorageFailed("the state is closed")

    node.on_make = replaced
    with pytest.raises(SnapshotFailed):
        asyncio.run(node.snapshots._make())


def test_a_disk_that_fails_is_told_as_such(node: FakeNode) -> None:
    def fails() -> None:
        raise StorageFailed("EIO")

    node.on_make = fails
    with pytest.raises(StorageFailed):
        asyncio.run(node.snapshots._make())
