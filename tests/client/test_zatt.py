"""What Zatt promised and tested, against three real nodes: its README's example, and its own test behaviours.

Only the import differs: `from zattredis.client import DistributedDict` for `from zatt.client import DistributedDict`.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta

import pytest

from tests.support.cluster import REPOSITORY, ZattCluster, wait_until
from zattredis.client import (
    DistributedDict,
    RefreshPolicyAlways,
    RefreshPolicyCount,
    RefreshPolicyLock,
    RefreshPolicyTime,
)


@pytest.fixture(scope="module")
def cluster() -> Iterator[ZattCluster]:
    flags = ["--log-compaction-entries", "200", "--log-retain-for-followers-bytes", "0"]
    with ZattCluster(3, flags=flags, in_memory=True) as made:
        yield made


@pytest.fixture
def ports(cluster: ZattCluster) -> list[int]:
    with cluster.client() as client:
        client.call("FLUSHALL")
    return [node.port for node in cluster.nodes]


def python(program: str) -> str:
    """What a Python process of its own prints."""
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=REPOSITORY, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_example_of_its_readme(ports: list[int]) -> None:
    python(f"""
from zattredis.client import DistributedDict
d = DistributedDict('127.0.0.1', {ports[0]})
d['key1'] = 0
""")
    shown = python(f"""
from zattredis.client import DistributedDict
d = DistributedDict('127.0.0.1', {ports[1]})
print(d['key1'])
del d['key1']
d['key2'] = {{'a': [1, 2.5, None]}}
print(d)
""")
    assert shown == "0\n{'key2': {'a': [1, 2.5, None]}}\n"


def test_append_delete_and_reading_from_another_client(ports: list[int]) -> None:
    d: DistributedDict[str, int] = DistributedDict("127.0.0.1", ports[0])
    for number in range(30):
        d[f"key{number}"] = number
    other: DistributedDict[str, int] = DistributedDict("127.0.0.1", ports[2])
    assert other == {f"key{number}": number for number in range(30)}
    del d["key1"]
    assert "key1" not in other and len(other) == 29
    with pytest.raises(KeyError):
        del other["key1"]
    other["key1"] = 7
    assert d["key1"] == 7


def test_the_log_is_compacted_and_nothing_is_lost(cluster: ZattCluster, ports: list[int]) -> None:
    d: DistributedDict[str, int] = DistributedDict("127.0.0.1", ports[0])
    for number in range(600):
        d[f"key{number % 5}"] = number
    wait_until(lambda: int(cluster.nodes[0].facts()["raft_log_entries"]) < 500, "the log is cut")
    assert d == {f"key{number}": 595 + number for number in range(5)}
    cluster.kill(0)
    assert DistributedDict("127.0.0.1", ports[1]) == {f"key{number}": 595 + number for number in range(5)}
    cluster.restart(0)
    assert DistributedDict("127.0.0.1", ports[0]) == {f"key{number}": 595 + number for number in range(5)}


def test_diagnostics(ports: list[int]) -> None:
    d: DistributedDict[str, int] = DistributedDict("127.0.0.1", ports[1])
    d["key1"] = 0
    found = d.diagnostics
    assert found["address"] == f"127.0.0.1:{ports[1]}"
    assert found["raft"]["raft_role"] in ("leader", "follower")
    assert int(found["raft"]["raft_commit_index"]) > 0
    assert {f"raft_member_n{number}" for number in (1, 2, 3)} <= found["raft"].keys()


def test_its_options(ports: list[int]) -> None:
    writer: DistributedDict[str, int] = DistributedDict("127.0.0.1", ports[0], append_retry_attempts=3)
    writer["key1"] = 1
    lock = RefreshPolicyLock(status=True)
    policies = (RefreshPolicyAlways(), lock, RefreshPolicyCount(maximum=2), RefreshPolicyTime(timedelta(hours=1)))
    assert RefreshPolicyTime(0.5).delta == timedelta(seconds=0.5)  # seconds do as well
    readers = {
        policy: DistributedDict[str, int]("127.0.0.1", ports[0], refresh_policy=policy) for policy in policies
    }
    assert [reader["key1"] for reader in readers.values()] == [1, 1, 1, 1]
    lock.status = False
    writer["key1"] = 2
    first = [reader["key1"] for reader in readers.values()]
    assert (first[0], first[1], first[3]) == (2, 1, 1)
    lock.status = True
    assert readers[lock]["key1"] == 2
    for reader in readers.values():
        reader.refresh()
        assert reader["key1"] == 2
