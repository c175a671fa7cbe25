"""One node and a cluster of three with admin ports, shared by the tests that leave them as they were."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.cluster import ZattCluster, free_port, wait_until
from tests.support.http_client import request


class Watched(ZattCluster):
    """Nodes with admin ports; `admin[i]` is that of node i."""

    def __init__(self, size: int, **more: object) -> None:
        super().__init__(size, **more)  # type: ignore[arg-type]
        self.admin = [free_port() for _ in self.nodes]
        for node, port in zip(self.nodes, self.admin, strict=True):
            node.flags += ["--admin-port", str(port)]

    def wait_admin_ready(self, i: int) -> None:
        wait_until(lambda: request(self.admin[i], "/readyz").status == 200, f"node {i} says that it is ready")


@pytest.fixture(scope="package")
def single() -> Iterator[Watched]:
    with Watched(1, in_memory=True) as cluster:
        cluster.wait_admin_ready(0)
        yield cluster


@pytest.fixture(scope="package")
def three() -> Iterator[Watched]:
    with Watched(3, in_memory=True) as cluster:
        for i in range(3):
            cluster.wait_admin_ready(i)
        yield cluster
