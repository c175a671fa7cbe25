"""One node for all tests of the client, emptied before each."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.cluster import ZattCluster


@pytest.fixture(scope="session")
def single_node() -> Iterator[ZattCluster]:
    with ZattCluster(1, in_memory=True) as cluster:
        yield cluster


@pytest.fixture
def port(single_node: ZattCluster) -> int:
    with single_node.client() as client:
        client.call("FLUSHALL")
    return single_node.nodes[0].port
