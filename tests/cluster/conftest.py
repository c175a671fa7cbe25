"""One cluster of three for tests that leave it whole; each test starts with all nodes up and empty."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.cluster import ZattCluster


@pytest.fixture(scope="module")
def shared_trio() -> Iterator[ZattCluster]:
    with ZattCluster(3, in_memory=True) as cluster:
        yield cluster


@pytest.fixture
def trio(shared_trio: ZattCluster) -> ZattCluster:
    for i, node in enumerate(shared_trio.nodes):
        if node.paused:
            shared_trio.resume(i)
        if not node.running:
            shared_trio.spawn(node)
    shared_trio.wait_ready()
    with shared_trio.client(shared_trio.wait_leader()) as client:
        client.call("FLUSHALL")
    return shared_trio
