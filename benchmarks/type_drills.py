"""Drills on the data types: redis-benchmark's own list beside redis-server, and one very large sorted set."""

from __future__ import annotations

import csv
import itertools
import random
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from benchmarks import machine
from benchmarks.client import Argument, Client, ErrorReply
from benchmarks.load import has_redis_benchmark
from benchmarks.servers import Group, RedisServer, Zattredis

Figures = dict[str, float]
Say = Callable[[str], None]

TESTS = (
    "ping", "set", "get", "incr", "lpush", "rpush", "lpop", "rpop", "sadd", "hset", "spop", "zadd", "zpopmin", "lrange",
    "mset",
)  # fmt: skip
WRITES = tuple(test for test in TESTS if test not in ("ping", "get", "lrange"))
CPU_OF_SET = ("HSET", "SADD", "LPUSH", "ZADD")
TIMEOUT_S = 300.0
PER_COMMAND = 1000
PER_PIPELINE = 4
ATTEMPTS = 20


def types(directory: Path, requests: int, keys: int, rounds: int, say: Say) -> Figures:
    """Run `redis-benchmark -t ping,set,…` on one node and on redis-server; returns ratios of the median rates of
    `rounds`, in each of which the two take turns.

    That list, as it is, names one key and one member over and over, so that SADD, ZADD and SPOP mostly have nothing to
    do, for either server. So the writes come a second time, with keys, members and scores drawn from `keys`. And for
    HSET, SADD, LPUSH and ZADD the processor time of one as a multiple of SET's, alone on one node, drawn so, too.
    Raises RuntimeError when redis-benchmark does not run to its end.
    """
    if not has_redis_benchmark() or not RedisServer.installed():
        raise RuntimeError("needs redis-server and redis-benchmark")
    node, redis = Zattredis(directory / "types", 1), RedisServer(directory / "types-redis")
    figures: Figures = {}
    try:
        for group in (node, redis):
            group.start()
        for tests, drawn, words in ((TESTS, "", []), (WRITES, "_drawn", ["-r", str(keys), "-d", "64"])):
            for group in (node, redis):
                with Client(group.ports[0], timeout_s=60.0) as client:
                    client.call("FLUSHALL")
            for test in tests:
                found: list[list[Figures]] = [[], []]
                for _ in range(rounds):
                    for group, rates in zip((node, redis), found, strict=True):
                        rates.append(_rates(group.ports[0], test, requests, words))
                for name in found[0][0]:
                    ours, theirs = (statistics.median(rates[name] for rates in each) for each in found)
                    figures[f"{name}{drawn}_of_redis"] = ours / theirs
                    say(f"types: {name}{drawn} {ours:,.0f}/s, redis-server {theirs:,.0f}/s")
        costs = {name: _cpu_us(node, name.lower(), requests, keys) for name in ("SET", *CPU_OF_SET)}
        for name in CPU_OF_SET:
            figures[f"{name}_cpu_of_SET"] = costs[name] / costs["SET"]
            say(f"types: {name} costs {costs[name]:.1f} us of processor, SET {costs['SET']:.1f}")
    finally:
        node.stop()
        redis.stop()
    return figures


def _rates(port: int, test: str, requests: int, words: list[str]) -> dict[str, float]:
    """Return operations a second by redis-benchmark's name for each; LRANGE's are `LRANGE_100` and so on."""
    arguments = ["-t", test, "-n", str(requests), "-c", "50", *words]
    output = _redis_benchmark(port, arguments)
    rows = list(csv.DictReader(line for line in output.splitlines() if line.startswith('"')))
    return {
        row["test"].partition(" (")[0].replace(" ", "_"): float(row["rps"])
        for row in rows
        if "needed to benchmark" not in row["test"]
    }


def _cpu_us(group: Group, test: str, requests: int, keys: int) -> float:
    with Client(group.ports[0], timeout_s=60.0) as client:
        client.call("FLUSHALL")
    before = machine.cpu_seconds(group.pids)
    _redis_benchmark(group.ports[0], ["-t", test, "-n", str(requests), "-r", str(keys), "-c", "50", "-d", "64"])
    return 1e6 * (machine.cpu_seconds(group.pids) - before) / requests


def _redis_benchmark(port: int, arguments: list[str]) -> str:
    command = ["redis-benchmark", "-p", str(port), *arguments, "--csv"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    if done.returncode or "Error" in done.stderr + done.stdout:
        raise RuntimeError((done.stderr + done.stdout).strip()[-300:])
    return done.stdout


def large(directory: Path, members: int, trials: int, say: Say) -> Figures:
    """Fill a sorted set with `members`, and time single commands on it: median and 99th percentile in ms.

    It is filled in the order of the scores, as an export of a leaderboard comes, and changed anywhere.
    """
    node = Zattredis(directory / "large", 1)
    figures: Figures = {"members": members}
    numbers = random.Random(1)
    try:
        node.start()
        with Client(node.ports[0], timeout_s=120.0) as client:
            started_at = time.monotonic()
            for commands in _zadds(members):
                _pipeline(client, commands)
            figures["zadd_per_s_while_filling"] = members / (time.monotonic() - started_at)
            say(f"large: filled at {figures['zadd_per_s_while_filling']:,.0f} members/s")
            for name, command in _singles(members, numbers).items():
                p50, p99 = _latencies(client, command, trials)
                figures[f"{name}_p50_ms"], figures[f"{name}_p99_ms"] = p50, p99
                say(f"large: {name} p50 {p50:.3f} ms, p99 {p99:.3f} ms")
            names = itertools.cycle((("RENAME", "large", "other"), ("RENAME", "other", "large")))
            figures["RENAME_ms"] = _latencies(client, lambda: next(names), trials // 20 * 2 + 2)[0]
            figures["DEL_ms"] = _latencies(client, lambda: ("DEL", "large"), 1)[0]
            say(f"large: RENAME {figures['RENAME_ms']:.3f} ms, DEL {figures['DEL_ms']:.3f} ms")
    finally:
        node.stop()
    return figures


def _pipeline(client: Client, commands: list[list[Argument]]) -> None:
    """Carry out commands that may be repeated, again where a busy machine kept the node from answering in time."""
    for _ in range(ATTEMPTS):
        try:
            client.pipeline(commands)
        except ErrorReply as error:
            if not str(error).startswith(("TIMEOUT", "CLUSTERDOWN")):
                raise
        else:
            return
    raise RuntimeError("the node does not answer in time")


def _zadds(members: int) -> Iterator[list[list[Argument]]]:
    commands: list[list[Argument]] = []
    for first in range(0, members, PER_COMMAND):
        command: list[Argument] = ["ZADD", "large"]
        for number in range(first, min(first + PER_COMMAND, members)):
            command += (f"{number / members:.9f}", f"member:{number:09d}")
        commands.append(command)
        if len(commands) == PER_PIPELINE or first + PER_COMMAND >= members:
            yield commands
            commands = []


def _singles(members: int, numbers: random.Random) -> dict[str, Callable[[], tuple[Argument, ...]]]:
    def member() -> str:
        return f"member:{numbers.randrange(members):09d}"

    def ten() -> tuple[Argument, ...]:
        start = numbers.randrange(members)
        return ("ZRANGE", "large", start, start + 9)

    return {
        "ZADD": lambda: ("ZADD", "large", f"{numbers.random():.9f}", member()),
        "ZSCORE": lambda: ("ZSCORE", "large", member()),
        "ZRANK": lambda: ("ZRANK", "large", member()),
        "ZRANGE_10": ten,
        "ZREM": lambda: ("ZREM", "large", member()),
    }


def _latencies(client: Any, command: Callable[[], tuple[Argument, ...]], trials: int) -> tuple[float, float]:
    times = []
    for _ in range(trials):
        words = command()
        started_at = time.perf_counter()
        client.call(*words)
        times.append(1000 * (time.perf_counter() - started_at))
    times.sort()
    return statistics.median(times), times[min(len(times) - 1, len(times) * 99 // 100)]
