"""Where client libraries connect: a follower of three, or what `ZATTREDIS_TEST_ENDPOINT=host:port` names."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.support.cluster import ZattCluster
from tests.support.resp_client import RespClient

Endpoint = tuple[str, int]


@pytest.fixture(scope="session")
def running_endpoint() -> Iterator[Endpoint]:
    if named := os.environ.get("ZATTREDIS_TEST_ENDPOINT"):
        host, _, port = named.rpartition(":")
        yield host, int(port)
        return
    with ZattCluster(3, in_memory=True) as cluster:
        node = cluster.nodes[cluster.followers()[0]]
        yield node.host, node.port


@pytest.fixture
def endpoint(running_endpoint: Endpoint) -> Endpoint:
    """(host, port) of a server without any key."""
    host, port = running_endpoint
    with RespClient(port, host) as client:
        client.call("FLUSHALL")
    return running_endpoint
