"""Redis's own test suite, unit by unit, against one zattd; and against redis-server, to show that the harness works.

Not run: tests tagged `needs:debug` (DEBUG internals of Redis), `needs:repl`, `needs:save` and `needs:other-server` (its
replication and files, which Raft stands in for), and, by the suite itself, those that cannot run on an external server.
Encodings are compared: OBJECT ENCODING says what redis-server would say, whatever lies in the store.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.redis_suite.suite import NOT_RUN, SuiteUnavailable, exceptions_of, judge, run_unit, suite_directory
from tests.support.cluster import Node, ZattCluster
from tests.support.redis_server import RedisServer
from tests.support.resp_client import RespClient

UNITS = (
    "unit/type/string",
    "unit/type/incr",
    "unit/type/hash",
    "unit/type/list",
    "unit/type/list-2",
    "unit/type/list-3",
    "unit/type/set",
    "unit/bitops",
    "unit/bitfield",
    "unit/hyperloglog",
    "unit/type/zset",
    "unit/geo",
    "unit/sort",
    "unit/dump",
    "unit/keyspace",
    "unit/expire",
    "unit/scan",
    "unit/multi",
    "unit/protocol",
    "unit/info-command",
    "unit/quit",
    "unit/introspection",
    "unit/introspection-2",
    "unit/pause",
    "unit/slowlog",
    "unit/querybuf",
    "unit/other",
    "unit/acl",
    "unit/acl-v2",
    "unit/auth",
    "unit/latency-monitor",
    "unit/limits",
)


EXTERNAL_TOO = frozenset(("unit/acl", "unit/acl-v2", "unit/auth", "unit/limits"))
"""Units that the suite keeps for servers it starts itself, because they leave users, passwords or limits behind."""


@pytest.fixture(scope="module")
def suite() -> Path:
    try:
        return suite_directory()
    except SuiteUnavailable as reason:
        pytest.skip(f"Redis's test suite cannot be had: {reason}")


@pytest.fixture
def server(suite: Path) -> Iterator[Node]:
    """A fresh one for each unit, as the suite would start it; in memory, for durability is tested elsewhere."""
    with ZattCluster(1, in_memory=True, flags=["--request-timeout-ms", "240000"]) as cluster:
        yield cluster.nodes[0]


def command_names(port: int) -> set[str]:
    with RespClient(port) as client:
        return {name.decode().lower() for name in client.call("COMMAND", "LIST")}


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("unit", UNITS)
def test_unit(server: Node, unit: str) -> None:
    exceptions = exceptions_of(unit)
    without = [name for name, reason in exceptions.items() if reason.startswith(NOT_RUN)]
    known = command_names(server.port)  # asked first: some units leave a password behind
    run = run_unit(unit, server.host, server.port, without=without, external_too=unit in EXTERNAL_TOO)
    assert server.running, server.log()[-2000:]
    verdict = judge(run, exceptions, known)
    later = sorted({outcome.missing_command or "" for outcome in verdict.later})
    print(
        f"{unit}: {verdict.passed} passed, {len(verdict.listed)} listed, {verdict.not_applicable} not applicable, "
        f"{len(verdict.later)} need commands of later ({', '.join(later)})"
    )
    report = "\n".join(f"[{o.status}] {o.name}\n    {o.details[:700]}" for o in verdict.unexpected)
    assert not verdict.unexpected, f"{len(verdict.unexpected)} unexpected:\n{report}"
    assert run.complete, f"the unit did not run to its end:\n{run.output}"
    assert not verdict.stale, f"listed in exceptions.toml but passing now, or no test of the unit: {verdict.stale}"


def test_harness_against_redis_server(suite: Path) -> None:
    with RedisServer() as server:
        passed = 0
        for unit in ("unit/type/incr", "unit/keyspace", "unit/protocol", "unit/quit", "unit/info-command"):
            run = run_unit(unit, "127.0.0.1", server.port)
            assert run.complete
            assert [outcome.name for outcome in run.outcomes if outcome.failed] == []
            passed += run.count("ok")
        assert passed >= 90
