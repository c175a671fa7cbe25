"""A redis-server to compare with and a zattd, one of each for the whole run of these tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.cluster import ZattCluster
from tests.support.differential import Backend, Connection, InProcess
from tests.support.redis_server import RedisServer


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


@pytest.fixture
def real(redis_server: RedisServer) -> Iterator[Connection]:
    connection = Connection(redis_server.port)
    yield connection
    connection.close()


@pytest.fixture(scope="session")
def zattd() -> Iterator[ZattCluster]:
    # What is compared are replies: a machine that stands still for a while is not to make a TIMEOUT of one.
    with ZattCluster(1, in_memory=True, flags=["--request-timeout-ms", "240000"]) as cluster:
        yield cluster


@pytest.fixture(params=["handlers-2", "handlers-3", "zattd-2", "zattd-3"])
def pair(request: pytest.FixtureRequest, real: Connection) -> Iterator[tuple[Backend, Connection]]:
    """Ours and the real one, in RESP2 and RESP3; ours once as bare handlers and once as a whole server."""
    where, _, resp = request.param.partition("-")
    ours: InProcess | Connection
    if where == "handlers":
        ours = InProcess()
    else:
        ours = Connection(request.getfixturevalue("zattd").nodes[0].port)
    for backend in (ours, real):
        backend.use(int(resp))
    yield ours, real
    if isinstance(ours, Connection):
        ours.close()
