"""A data set four times the memory that the process may have: written, read, changed, and there after a restart."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from tests.support.cluster import ZattCluster
from tests.support.memory_group import MemoryGroup
from tests.support.resp_client import RespClient

MIB = 1 << 20
VALUE_BYTES = 16 << 10
FIELD_BYTES = 2 << 10
TOGETHER = 16


@pytest.fixture(params=[160, pytest.param(384, marks=pytest.mark.slow)], ids=["160 MiB", "384 MiB"])
def group(request: pytest.FixtureRequest) -> Iterator[tuple[MemoryGroup, int]]:
    limit = request.param * MIB
    made = MemoryGroup(limit)
    yield made, limit
    made.close()


def value_of(number: int, size: int) -> bytes:
    """The value of a key or field: nothing that compresses."""
    return random.Random(number).randbytes(size)


def check(client: RespClient, keys: int, fields: int, draws: random.Random) -> None:
    """Some of all keys and fields have their values, and none is missing."""
    assert client.call("DBSIZE") == keys + 1
    assert client.call("HLEN", "hash") == fields
    for _ in range(20):
        numbers = [draws.randrange(keys) for _ in range(TOGETHER)]
        found = client.call("MGET", *(f"key:{number}" for number in numbers))
        assert found == [value_of(number, VALUE_BYTES) for number in numbers]
        numbers = [draws.randrange(fields) for _ in range(TOGETHER)]
        found = client.call("HMGET", "hash", *(f"field:{number}" for number in numbers))
        assert found == [value_of(number, FIELD_BYTES) for number in numbers]


@pytest.mark.timeout(600)
def test_four_times_the_memory(group: tuple[MemoryGroup, int]) -> None:
    """Three quarters are strings, one is a single hash: a collection as large as all memory."""
    memory, limit = group
    keys, fields = 3 * limit // VALUE_BYTES, limit // FIELD_BYTES
    flags = [
        "--state-cache-bytes", "8MiB", "--record-cache-bytes", "4MiB", "--state-write-buffer-bytes", "4MiB",
        "--log-compaction-bytes", "16MiB", "--log-retain-for-followers-bytes", "0",
    ]  # fmt: skip
    draws = random.Random(1)
    with ZattCluster(1, flags=flags, start=False) as cluster:
        node = cluster.nodes[0]
        node.prefix = memory.prefix()
        cluster.start()
        assert memory.holds(node.pid)
        with node.client(timeout_s=120) as client:
            for start in range(0, keys, TOGETHER):
                numbers = range(start, min(start + TOGETHER, keys))
                words = [word for n in numbers for word in (f"key:{n}", value_of(n, VALUE_BYTES))]
                assert client.call("MSET", *words) == b"OK"
            for start in range(0, fields, 4 * TOGETHER):
                numbers = range(start, min(start + 4 * TOGETHER, fields))
                words = [word for n in numbers for word in (f"field:{n}", value_of(n, FIELD_BYTES))]
                assert client.call("HSET", "hash", *words) == len(numbers)
            check(client, keys, fields, draws)
            for number in (0, keys // 2, keys - 1):  # what is changed among what is not in memory
                assert client.call("APPEND", f"key:{number}", "") == VALUE_BYTES
                assert client.call("SET", f"key:{number}", "new", "GET") == value_of(number, VALUE_BYTES)
                client.call("SET", f"key:{number}", value_of(number, VALUE_BYTES))
        cluster.kill(0)
        cluster.restart(0)
        assert memory.holds(node.pid)
        with node.client(timeout_s=120) as client:
            check(client, keys, fields, draws)
            assert client.call("HDEL", "hash", "field:0") == client.call("DEL", "key:0") == 1
            assert client.call("RENAME", "hash", "renamed") == b"OK"
            assert client.call("HGET", "renamed", f"field:{fields - 1}") == value_of(fields - 1, FIELD_BYTES)
            assert client.call("DEL", "renamed") == 1
            assert client.call("DBSIZE") == keys - 1
    assert memory.killed() == 0
