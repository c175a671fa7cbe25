"""What is aimed at, and whether a run reached it. Ratios are of medians within one run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.throughput import Cell, Results

DrillFigures = dict[str, dict[str, float]]
Figure = Callable[[Results, DrillFigures], float | None]


@dataclass(frozen=True)
class Goal:
    """One target: a figure that must be at least, or at most, a bound."""

    name: str
    bound: float
    at_least: bool
    figure: Figure
    unit: str = ""


@dataclass(frozen=True)
class Verdict:
    """A goal beside what was measured; `reached` is None when the run did not measure it."""

    goal: Goal
    measured: float | None

    @property
    def reached(self) -> bool | None:
        """Whether the goal was reached."""
        if self.measured is None:
            return None
        return self.measured >= self.goal.bound if self.goal.at_least else self.measured <= self.goal.bound


def _median(results: Results, row: Cell, column: str, figure: str) -> float | None:
    result = results.get(row.name, {}).get(column)
    return None if result is None else result.median(figure)


def _ratio(row: Cell, column: str, reference: str, figure: str) -> Figure:
    def of(results: Results, _: DrillFigures) -> float | None:
        above, below = _median(results, row, column, figure), _median(results, row, reference, figure)
        return above / below if above is not None and below else None

    return of


def _value(row: Cell, column: str, figure: str) -> Figure:
    return lambda results, _: _median(results, row, column, figure)


def _drill(drill: str, figure: str) -> Figure:
    return lambda _, drills: drills.get(drill, {}).get(figure)


def _throughput_goals() -> list[Goal]:
    rows = {
        ("set", 1): (0.8, 0.45, 3.5),
        ("set", 16): (0.5, 0.25, None),
        ("get", 1): (0.75, 0.6, 6.0),
        ("get", 16): (0.4, 0.3, None),
    }
    goals = []
    for (operation, pipeline), bounds in rows.items():
        row = Cell(operation, 50, pipeline, 64)
        label = f"{operation.upper()}, 50 connections" + (f", pipeline {pipeline}" if pipeline > 1 else "")
        pairs = (("one", "redis", "one node of redis-server"), ("three", "redis", "three nodes of redis-server"),
                 ("three", "etcd", "three nodes of etcd"))  # fmt: skip
        for (column, reference, words), bound in zip(pairs, bounds, strict=True):
            if bound is not None:
                figure = _ratio(row, column, reference, "operations_per_s")
                goals.append(Goal(f"{label}: {words}", bound, True, figure, "×"))
        for column, words in (("spread", "all nodes"), ("followers", "followers")):
            figure = _ratio(row, column, "three", "operations_per_s")
            goals.append(Goal(f"{label}: clients on {words}, of clients on the leader", 0.8, True, figure, "×"))
    return goals


TYPE_TESTS = ("SET", "INCR", "LPUSH", "RPUSH", "LPOP", "RPOP", "SADD", "HSET", "SPOP", "ZADD", "ZPOPMIN", "MSET")
_ALONE = Cell("set", 1, 1, 64)

GOALS: list[Goal] = [
    *_throughput_goals(),
    Goal("SET, 1 connection: p50, one node of redis-server", 2.0, False, _ratio(_ALONE, "one", "redis", "p50_ms"), "×"),
    Goal("SET, 1 connection: p50 on three nodes", 1.5, False, _value(_ALONE, "three", "p50_ms"), "ms"),
    Goal("Failover, median", 1.0, False, _drill("failover", "median_s"), "s"),
    Goal("Failover, worst", 2.0, False, _drill("failover", "worst_s"), "s"),
    Goal("Planned hand-over on SIGTERM", 0.3, False, _drill("handover", "worst_s"), "s"),
    *[
        Goal(f"{name.capitalize()} of 1 GiB", 100.0, True, _drill("backup", f"{name}_mb_per_s"), "MB/s")
        for name in ("backup", "restore", "join")
    ],
    *[
        Goal(f"Leader's p99 during a {name}, of its usual", 3.0, False, _drill("backup", f"{name}_p99_of_usual"), "×")
        for name in ("backup", "restore", "join")
    ],
    Goal("Memory of an idle node", 80.0, False, _drill("memory", "idle_mb"), "MB"),
    Goal("Memory with 10,000 idle connections", 200.0, False, _drill("memory", "connections_mb"), "MB"),
    *[
        Goal(f"{name}: one node of redis-server", bound, True, _drill("types", f"{name}_of_redis"), "×")
        for name, bound in (
            *((name, 0.5) for name in TYPE_TESTS),
            ("LRANGE_100", 0.4),
        )
    ],
    *[
        Goal(f"{name}: processor time of SET's", 2.0, False, _drill("types", f"{name}_cpu_of_SET"), "×")
        for name in ("HSET", "SADD", "LPUSH", "ZADD")
    ],
    *[
        Goal(f"{name} in a sorted set of five million: p50", 1.0, False, _drill("large", f"{name}_p50_ms"), "ms")
        for name in ("ZADD", "ZRANK", "ZRANGE_10", "ZREM")
    ],
    *[
        Goal(f"{name} of a sorted set of five million", 1.0, False, _drill("large", f"{name}_ms"), "ms")
        for name in ("RENAME", "DEL")
    ],
]


def judge(results: Results, drills: DrillFigures) -> list[Verdict]:
    """Return every goal beside what this run measured."""
    return [Verdict(goal, goal.figure(results, drills)) for goal in GOALS]
