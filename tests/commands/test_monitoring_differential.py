"""LATENCY, SLOWLOG and MEMORY: errors, shapes and drawings of redis-server 7.0."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from tests.support.cluster import ZattCluster
from tests.support.redis_server import RedisServer
from tests.support.resp_client import RespClient
from zattredis.server.latency import LatencyMonitor
from zattredis.server.statistics import bucket_of

LIMITS_US = {bucket_of(1024 << power) // 1000 for power in range(40)}


@pytest.fixture(scope="module")
def both() -> Iterator[tuple[RespClient, RespClient]]:
    with (
        RedisServer() as redis,
        ZattCluster(1, in_memory=True) as cluster,
        cluster.client() as ours,
        RespClient(redis.port) as theirs,
    ):
        yield ours, theirs


def answers(client: RespClient, lines: list[str]) -> list[object]:
    found = [client.try_call(*line.split()) for line in lines]
    return [str(reply) if isinstance(reply, Exception) else reply for reply in found]


def test_errors_and_empty_answers(both: tuple[RespClient, RespClient]) -> None:
    lines = [
        "LATENCY HISTORY", "LATENCY HISTORY a b", "LATENCY HISTORY nothing", "LATENCY GRAPH", "LATENCY GRAPH nothing",
        "LATENCY GRAPH a b", "LATENCY FOO", "LATENCY", "LATENCY RESET nothing more", "LATENCY LATEST x",
        "LATENCY LATEST", "LATENCY HISTOGRAM nosuch", "LATENCY HISTOGRAM nosuch config", "LATENCY DOCTOR x",
        "LATENCY HELP", "LATENCY HELP x", "SLOWLOG", "SLOWLOG FOO", "SLOWLOG GET -2", "SLOWLOG GET x",
        "SLOWLOG GET 1 2", "SLOWLOG LEN x", "SLOWLOG RESET x", "SLOWLOG HELP", "MEMORY FOO", "MEMORY DOCTOR x",
        "MEMORY STATS x", "MEMORY PURGE", "MEMORY PURGE x", "MEMORY HELP", "MEMORY USAGE nokey",
    ]  # fmt: skip
    ours, theirs = (answers(client, lines) for client in both)
    for line, own, their in zip(lines, ours, theirs, strict=True):
        if "HELP" in line and isinstance(own, list):
            assert own[0] == their[0]  # type: ignore[index]
        else:
            assert own == their, line


def test_histograms_count_in_the_buckets_of_redis(both: tuple[RespClient, RespClient]) -> None:
    lines = ["SET a 1", "SET a 2", "GET a", "CONFIG GET port"]
    for client in both:
        client.call("CONFIG", "RESETSTAT")
        answers(client, lines)
    ours, theirs = (client.call("LATENCY", "HISTOGRAM", "set", "get", "config", "nosuch") for client in both)
    ours, theirs = (dict(zip(*[iter(reply)] * 2, strict=True)) for reply in (ours, theirs))
    twice = [client.call("LATENCY", "HISTOGRAM", "get", "set", "get")[::2] for client in both]
    assert twice == [[b"get", b"set", b"get"]] * 2
    assert ours.keys() == theirs.keys() == {b"set", b"get", b"config|get", b"config|resetstat"}
    for name, own in ours.items():
        assert own[:3] == theirs[name][:3]  # calls, their number, histogram_usec
        for buckets in (own[3], theirs[name][3]):
            assert set(buckets[::2]) <= LIMITS_US
            assert list(buckets[1::2]) == sorted(buckets[1::2])
            assert buckets[-1] == own[1]


def test_the_graph_is_the_one_redis_draws(both: tuple[RespClient, RespClient]) -> None:
    """The samples are those of redis-server itself: a second each, for spikes of one second are one."""
    redis = both[1]
    redis.call("CONFIG", "SET", "latency-monitor-threshold", 1)
    try:
        redis.call("APPEND", "large", "x" * (32 << 20))  # a spike of another kind, as slow machines have by themselves
        redis.call("APPEND", "large", "x" * (32 << 20))
        second = 0
        for milliseconds in (5, 60, 20, 35):
            while int(redis.call("TIME")[0]) == second:
                redis.call("DEBUG", "SLEEP", "0.001")
            second = int(redis.call("TIME")[0])
            redis.call("DEBUG", "SLEEP", f"0.{milliseconds:03}")
        redis.call("CONFIG", "SET", "latency-monitor-threshold", 0)  # what is slow from here on adds no sample
        for _ in range(5):  # until no second begins between the question for the time and the graph
            before = redis.call("TIME")[0]
            graph = redis.call("LATENCY", "GRAPH", "command")
            if redis.call("TIME")[0] == before:
                break
        monitor = LatencyMonitor(1)
        for time_s, latency_ms in redis.call("LATENCY", "HISTORY", "command"):
            monitor.record(b"command", latency_ms, time_s)
        # Events of other kinds come in no order.
        highest = {event: high for event, _, _, high in redis.call("LATENCY", "LATEST")}
        assert monitor.latest()[0][3] == highest[b"command"]
        drawn = monitor.graph(b"command", int(before))
        assert drawn is not None
        assert drawn.encode() == graph
    finally:
        redis.call("CONFIG", "SET", "latency-monitor-threshold", 0)
        redis.call("LATENCY", "RESET")
        redis.call("DEL", "large")


def test_slow_commands_are_noted_as_redis_notes_them(both: tuple[RespClient, RespClient]) -> None:
    found = []
    for client in both:
        client.call("CONFIG", "SET", "slowlog-log-slower-than", 0)
        client.call("SLOWLOG", "RESET")
        client.call("CLIENT", "SETNAME", "tester")
        client.call("SET", "key", "x" * 200)
        client.call("DEL", *[f"key{number}" for number in range(40)])
        client.try_call("HELLO", 2, "AUTH", "default", "secret")
        client.call("CONFIG", "SET", "slowlog-log-slower-than", -1)
        entries = client.call("SLOWLOG", "GET")
        assert client.call("SLOWLOG", "LEN") == len(entries)
        found.append([(entry[3], entry[5]) for entry in entries])
        assert [entry[0] for entry in entries] == sorted((entry[0] for entry in entries), reverse=True)
        assert all(isinstance(entry[1], int) and entry[2] >= 0 and b":" in entry[4] for entry in entries)
        client.call("CONFIG", "SET", "slowlog-log-slower-than", 10000)
    assert sorted(found[0]) == sorted(found[1])


def test_doctors_have_something_to_say_to_everything(both: tuple[RespClient, RespClient]) -> None:
    ours = both[0]
    assert b"is off" in ours.call("LATENCY", "DOCTOR")
    try:
        ours.call("CONFIG", "SET", "latency-monitor-threshold", 60_000)
        assert b"Nothing has taken 60000 milliseconds" in ours.call("LATENCY", "DOCTOR")
        ours.call("CONFIG", "SET", "latency-monitor-threshold", 1)
        ours.call("DEBUG", "SLEEP", "0.02")
        report = ours.call("LATENCY", "DOCTOR").decode()
        assert re.search("command: [1-9][0-9]* spikes", report)  # whatever else takes a millisecond is one, too
        assert "slowlog-log-slower-than 1000" in report
        assert ours.call("LATENCY", "RESET") >= 1
    finally:
        ours.call("CONFIG", "SET", "latency-monitor-threshold", 0)
        ours.call("LATENCY", "RESET")
    assert ours.call("MEMORY", "DOCTOR")
