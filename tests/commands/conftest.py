"""A redis-server to compare with, one for the whole run of these tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.differential import Connection, InProcess
from tests.support.redis_server import RedisServer, missing_reason


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    reason = missing_reason()
    if reason is not None:
        pytest.skip(reason)
    with RedisServer() as server:
        yield server


@pytest.fixture
def real(redis_server: RedisServer) -> Iterator[Connection]:
    connection = Connection(redis_server.port)
    yield connection
    connection.close()


@pytest.fixture(params=[2, 3])
def pair(request: pytest.FixtureRequest, real: Connection) -> tuple[InProcess, Connection]:
    """Ours and the real one, once in RESP2 and once in RESP3."""
    ours = InProcess()
    for backend in (ours, real):
        backend.use(request.param)
    return ours, real
