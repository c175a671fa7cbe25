"""Snapshots on their way out: which one a follower gets, and what becomes of one whose state is replaced."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from zattredis.errors import SnapshotFailed, SnapshotRefused, StorageFailed
from zattredis.server import snapshots
from zattredis.server.snapshots import Receiver, Snapshots


class FakeSource:
    """A finished snapshot."""

    def __init__(self, manifest: Any, path: str) -> None:
        self.manifest = manifest

    def manifest_for_former(self) -> Any:
        return SimpleNamespace(encode=lambda: b"former manifest")

    def delete(self) -> None:
        """There are no files."""


class FakeNode:
    """A node at entry 50 whose log begins with entry 51; `made` are the paths of the snapshots."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.made: list[str] = []
        self.core = SimpleNamespace(term=3, report_snapshot=lambda node_id, ok, index: self.reports.append(ok))
        self.reports: list[bool] = []
        self.offered: list[str] = []
        self.driver = SimpleNamespace(is_leader=True)
        self.network = SimpleNamespace(send_snapshot=self._offer)
        self.settings = SimpleNamespace(snapshot_chunk_bytes=1 << 20)
        self.is_open = True
        self.applier = SimpleNamespace(store=object())
        self.data = SimpleNamespace(log=SimpleNamespace(first_index=51), outgoing_path=lambda name: f"snapshot-{name}")
        self.on_make = lambda: None
        monkeypatch.setattr(snapshots, "create_snapshot", self._create)
        monkeypatch.setattr(snapshots, "SnapshotSource", FakeSource)
        self.snapshots = Snapshots(self)  # type: ignore[arg-type]

    def _create(self, store: Any, path: Any) -> Any:
        self.made.append(path)
        self.on_make()
        return SimpleNamespace(index=50, term=3, size_bytes=1, files=[], encode=lambda: b"manifest")

    async def _offer(self, node_id: str, offer: bytes, chunks: Any) -> None:
        self.offered.append(node_id)

    def schedule(self) -> None:
        """Nothing waits."""

    async def send(self) -> None:
        """Send a snapshot to n2 and wait for the end of that."""
        self.snapshots.send_to("n2")
        while self.snapshots._sending:
            await asyncio.sleep(0.001)


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


def test_a_leader_offers_the_snapshot_that_a_follower_needs(node: FakeNode) -> None:
    asyncio.run(node.send())
    assert node.offered == ["n2"]
    assert node.reports == [True]


def test_a_leader_that_is_deposed_while_the_snapshot_is_made_does_not_offer_it_as_the_next_terms_leader(
    node: FakeNode,
) -> None:
    def deposed() -> None:
        node.core.term = 4
        node.driver.is_leader = False

    node.on_make = deposed
    asyncio.run(node.send())
    assert node.offered == []
    assert node.reports == [False]


def test_a_node_that_does_not_lead_makes_no_snapshot_for_others(node: FakeNode) -> None:
    node.driver.is_leader = False
    asyncio.run(node.send())
    assert node.made == []


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


def test_a_snapshot_replaces_no_log_that_a_write_or_a_compaction_waits_for(
    node: FakeNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What waits would come behind a log that it does not belong to; and the term of the offer must be stored first."""
    done: list[str] = []
    core: Any = node.core
    core.node_id, core.accepts_snapshot = "n1", lambda offer: not done.append("checked")
    compaction = SimpleNamespace(running=False)
    node.compaction = compaction  # type: ignore[attr-defined]
    node.data.incoming_path = lambda index: "state-50"
    monkeypatch.setattr(snapshots, "SnapshotSink", lambda path: SimpleNamespace(finish=lambda: done.append("received")))
    driver = node.driver
    driver.pump, driver.write_waits = lambda: done[-1] == "pumped" or done.append("pumped"), True
    receiver = Receiver(node, node.snapshots, "n2", 3, SimpleNamespace(index=50, term=3))  # type: ignore[arg-type]
    monkeypatch.setattr(Receiver, "_install", lambda self: done.append("installed"))

    async def compact() -> None:
        await asyncio.sleep(0)
        compaction.running = False
        done.append("compacted")

    async def run() -> None:
        finishing = asyncio.get_running_loop().create_task(receiver.finish())
        while "pumped" not in done:
            await asyncio.sleep(0.001)
        await asyncio.sleep(0)
        assert done == ["received", "pumped"]
        # Begun while the write is waited for: it would find the state that it was to flush closed.
        compaction.running, compaction.start = True, compact
        driver.write_waits = False
        await finishing

    asyncio.run(run())
    assert done == ["received", "pumped", "compacted", "pumped", "checked", "installed"]


def test_a_node_of_an_older_version_gets_the_digests_that_it_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    node = FakeNode(monkeypatch)
    offers: list[bytes] = []

    async def offer(node_id: str, offer: bytes, chunks: Any) -> None:
        offers.append(offer)
        assert node.snapshots.under_way[node_id].size_bytes == 0
        if b"former" not in offer:
            raise SnapshotFailed(f"the receiver refused the snapshot: {snapshots.REFUSED_BY_FORMER} of CURRENT")

    node.network.send_snapshot = offer
    asyncio.run(node.send())
    assert [b"former" in each for each in offers] == [False, True]
    assert node.reports == [True]
    assert node.snapshots.under_way == {}


def test_another_refusal_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    node = FakeNode(monkeypatch)

    async def refuse(node_id: str, offer: bytes, chunks: Any) -> None:
        raise SnapshotFailed("the receiver refused the snapshot: no room")

    node.network.send_snapshot = refuse
    asyncio.run(node.send())
    assert node.reports == [False]
    assert node.snapshots.under_way == {}


def test_whoever_refuses_is_not_offered_the_next_one_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """To make a snapshot costs the leader every byte of its state."""
    node = FakeNode(monkeypatch)
    monkeypatch.setattr(snapshots, "AGAIN_S", 0.2)

    async def refuse(node_id: str, offer: bytes, chunks: Any) -> None:
        raise SnapshotRefused("the receiver refused the snapshot: no room")

    async def run() -> None:
        node.snapshots.send_to("n2")
        await asyncio.sleep(0.05)
        node.snapshots.send_to("n2")
        assert node.reports == [] and len(node.made) == 1
        await node.send()

    node.network.send_snapshot = refuse
    asyncio.run(run())
    assert node.reports == [False] and len(node.made) == 1
