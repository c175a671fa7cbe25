"""Counters, latency buckets, rates, the slow log and the latency monitor."""

from __future__ import annotations

import re

import pytest

from tests.support.differential import Connection
from tests.support.local_server import LocalClient
from zattredis.commands.table import lookup_full
from zattredis.server.latency import LatencyMonitor
from zattredis.server.slowlog import Slowlog
from zattredis.server.statistics import CommandStatistics, Rate, Statistics, bucket_of


def spec(name: str):  # type: ignore[no-untyped-def]
    found = lookup_full(name.encode())
    assert found is not None
    return found


# -- statistics --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("latency_ns", "bucket"),
    [(0, 0), (255, 255), (256, 257), (1000, 1003), (2000, 2007), (3000, 3007), (4000, 4015), (5000, 5023),
     (28000, 28031), (208_000, 208_895), (1_098_000, 1_105_919)],
)  # fmt: skip
def test_buckets_are_those_of_redis(latency_ns: int, bucket: int) -> None:
    """The values are what redis-server 7.0 printed for calls of so many microseconds."""
    assert bucket_of(latency_ns) == bucket
    assert bucket_of(bucket) == bucket


def test_histogram_counts_up_in_powers_of_two() -> None:
    stats = CommandStatistics()
    for usec in (1, 2, 3, 9, 17, 33, 34, 100, 100, 1000, 5_000_000):
        bucket = bucket_of(usec * 1000)
        stats.buckets[bucket] = stats.buckets.get(bucket, 0) + 1
        stats.calls += 1
    assert stats.cumulative() == (
        11, {1: 1, 2: 2, 4: 3, 16: 4, 33: 6, 66: 7, 132: 9, 1056: 10, 8_657_043: 11},
    )  # fmt: skip


def test_histogram_bounds_are_those_redis_prints(real: Connection) -> None:
    """Every bound that redis-server uses for what it has run so far is one of ours."""
    stats = CommandStatistics()
    stats.buckets = {bucket_of(1000 << shift): 1 for shift in range(24)}
    ours = set(stats.cumulative()[1])
    for _ in range(50):
        real.execute([b"COMMAND", b"DOCS"])
    reply = real.execute([b"LATENCY", b"HISTOGRAM"])
    for histogram in re.findall(rb"histogram_usec\r\n\*\d+\r\n((?::\d+\r\n)*)", reply):
        assert {int(bound) for bound in histogram.split(b"\r\n:")[0].strip(b":\r\n").split()} <= ours


def test_percentiles() -> None:
    stats = CommandStatistics()
    stats.buckets = {1003: 98, 5023: 1, 1_105_919: 1}
    assert stats.percentiles((50, 99, 99.9, 100)) == [1.003, 5.023, 1105.919, 1105.919]
    assert CommandStatistics().percentiles((50,)) == []


def test_record_counts_a_batch_at_its_average() -> None:
    statistics = Statistics()
    statistics.record(spec("get"), 4, 8)
    statistics.record(spec("get"), 1, 5)
    statistics.record(spec("client|id"), 1, 1)
    statistics.reject(spec("set"))
    counted = statistics.commands[spec("get")]
    assert (counted.calls, counted.usec, counted.buckets) == (5, 13, {2007: 4, 5023: 1})
    assert statistics.total_commands == 6
    assert statistics.commands[spec("set")].rejected == 1
    assert set(statistics.histograms()) == {spec("get"), spec("client|id")}


def test_latency_tracking_can_be_off() -> None:
    statistics = Statistics()
    statistics.latency_tracking = False
    statistics.record(spec("get"), 1, 5)
    assert statistics.histograms() == {}
    assert statistics.commands[spec("get")].calls == 1


def test_error_prefixes_are_bounded() -> None:
    statistics = Statistics()
    for number in range(1000):
        statistics.error(f"E{number}")
    assert len(statistics.errors) <= 129
    assert sum(statistics.errors.values()) == 1000


def test_latency_histogram_command() -> None:
    client = LocalClient()
    client.server.statistics.record(spec("config|get"), 2, 20)
    client.server.statistics.record(spec("ping"), 1, 1)
    assert dict(client.call("LATENCY HISTOGRAM config ping nothing set").pairs) == {
        b"config|get": {b"calls": 2, b"histogram_usec": {16: 2}},
        b"ping": {b"calls": 1, b"histogram_usec": {1: 1}},
    }
    assert set(dict(client.call("LATENCY HISTOGRAM").pairs)) == {b"config|get", b"ping"}


def test_rate_averages_sixteen_samples() -> None:
    rate = Rate()
    assert rate.per_second == 0
    for step in range(40):
        rate.sample(step * 10 if step < 20 else 190 + (step - 19) * 100, 1000 + step * 100)
    assert rate.per_second == pytest.approx(1000)


def test_rate_never_goes_below_zero_when_counters_are_reset() -> None:
    rate = Rate()
    rate.sample(1000, 100)
    rate.sample(0, 200)
    assert rate.per_second == 0


# -- slow log ----------------------------------------------------------------------------------------------------


def test_slowlog_keeps_the_newest_and_counts_on() -> None:
    slowlog = Slowlog(slower_than_us=10, max_len=2)
    for usec in (10, 11, 12):
        slowlog.add([b"GET", b"k"], usec, 1_700_000_000, "127.0.0.1:5", b"me")
    assert [(entry.id, entry.usec) for entry in slowlog.entries(None)] == [(2, 12), (1, 11)]
    assert [entry.id for entry in slowlog.entries(1)] == [2]
    slowlog.resize(1)
    assert [entry.id for entry in slowlog.entries(10)] == [2]
    slowlog.reset()
    assert len(slowlog) == 0
    slowlog.add([b"GET"], 9, 0, "", b"")
    assert slowlog.entries(None)[0].id == 3
    slowlog.resize(0)
    slowlog.add([b"GET"], 9, 0, "", b"")
    assert len(slowlog) == 0


def test_slowlog_threshold() -> None:
    slowlog = Slowlog(slower_than_us=10)
    assert [slowlog.is_slow(usec) for usec in (9, 10)] == [False, True]
    slowlog.slower_than_us = 0
    assert slowlog.is_slow(0)
    slowlog.slower_than_us = -1
    assert not slowlog.is_slow(10**9)


@pytest.mark.parametrize("argv", [[b"ECHO", b"x" * 500], [b"EXISTS", *[b"k%d" % n for n in range(100)]],
                                  [b"EXISTS", *[b"k"] * 31], [b"EXISTS", *[b"k"] * 32]])  # fmt: skip
def test_slowlog_cuts_command_lines_as_redis_does(real: Connection, argv: list[bytes]) -> None:
    real.execute([b"CONFIG", b"SET", b"slowlog-log-slower-than", b"0"])
    real.execute([b"SLOWLOG", b"RESET"])
    real.execute(argv)
    real.execute([b"CONFIG", b"SET", b"slowlog-log-slower-than", b"10000"])
    expected = real.execute([b"SLOWLOG", b"GET", b"2"])
    client = LocalClient()
    client.server.slowlog.add(argv, 5, 1_700_000_000, "127.0.0.1:5", b"")
    [entry] = client.call("SLOWLOG GET")
    line = b"*%d\r\n" % len(entry[3]) + b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in entry[3])
    assert line in expected
    assert entry[:3] == [0, 1_700_000_000, 5]
    assert entry[4:] == [b"127.0.0.1:5", b""]


# -- latency monitor ---------------------------------------------------------------------------------------------


def test_latency_monitor_keeps_what_reaches_the_threshold() -> None:
    monitor = LatencyMonitor()
    monitor.record(b"fsync", 500, 100)
    assert monitor.latest() == []
    monitor.threshold_ms = 10
    for latency_ms, time_s in ((9, 100), (10, 101), (30, 101), (20, 101), (15, 102)):
        monitor.record(b"fsync", latency_ms, time_s)
    monitor.record(b"command", 11, 103)
    assert monitor.latest() == [[b"fsync", 102, 15, 30], [b"command", 103, 11, 11]]
    assert monitor.history(b"fsync") == [[101, 30], [102, 15]]
    assert monitor.history(b"other") == []
    assert monitor.reset([b"other", b"fsync"]) == 1
    assert monitor.reset([]) == 1
    assert monitor.latest() == []


def test_latency_monitor_is_bounded() -> None:
    monitor = LatencyMonitor(1)
    for second in range(1000):
        monitor.record(b"fsync", 5, second)
    assert len(monitor.history(b"fsync")) == 160


def test_latency_graph_draws_every_sample_with_its_age() -> None:
    monitor = LatencyMonitor(1)
    for latency_ms, time_s in ((100, 0), (500, 3600), (300, 7000), (100, 7195)):
        monitor.record(b"command", latency_ms, time_s)
    graph = monitor.graph(b"command", 7200)
    assert graph is not None
    lines = graph.split("\n")
    assert lines[0] == "command - high 500 ms, low 100 ms (all time high 500 ms)"
    assert lines[-3:] == ["2135", "hhms", ""]
    assert all(len(line) <= 4 for line in lines[2:])
    assert monitor.graph(b"other", 0) is None


def test_latency_doctor_has_something_to_say_in_each_case() -> None:
    monitor = LatencyMonitor()
    assert "latency-monitor-threshold" in monitor.doctor()
    monitor.threshold_ms = 5
    assert "Nothing" in monitor.doctor()
    monitor.record(b"fsync", 50, 1)
    assert "disk" in monitor.doctor()
