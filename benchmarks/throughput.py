"""The throughput matrix: which loads are put on which servers, in interleaved rounds."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks import machine
from benchmarks.client import preload
from benchmarks.load import Figures, Load, LoadFailed, measure
from benchmarks.servers import Group

OPERATIONS = ("set", "get", "incr", "mset", "mixed")
CONNECTIONS = (1, 50, 200)
PIPELINES = (1, 16)
VALUES_BYTES = (64, 4096)
KEYS = 10_000
ETCD_OPERATIONS = ("set", "get")
QUIET_SHARE, QUIET_STEP_S, QUIET_TIMEOUT_S = 0.25, 0.1, 3.0


@dataclass(frozen=True)
class Cell:
    """One row of the tables."""

    operation: str
    connections: int
    pipeline: int
    value_bytes: int

    @property
    def judged(self) -> bool:
        """Whether a target is set for this row (see `goals`)."""
        common = self.value_bytes == 64 and self.operation in ("set", "get")
        return common and (self.connections == 50 or (self.connections == 1 and self.pipeline == 1))

    @property
    def name(self) -> str:
        """The row's label."""
        size = "" if self.operation == "incr" else f", {self.value_bytes} B"
        pipeline = f", pipeline {self.pipeline}" if self.pipeline > 1 else ""
        connections = "1 connection" if self.connections == 1 else f"{self.connections} connections"
        operation = "mixed 80 % GET" if self.operation == "mixed" else self.operation.upper()
        return f"{operation}, {connections}{pipeline}{size}"


@dataclass(frozen=True)
class Column:
    """One server as its clients meet it. `placement`: "leader", "followers", or "spread" (over all nodes)."""

    name: str
    title: str
    group: Group
    placement: str = "leader"

    def ports(self) -> list[int]:
        """Return where the clients connect now; followers first, so that a single spread client sits on one."""
        if len(self.group.ports) == 1:
            return list(self.group.ports)
        leader = self.group.leader()
        followers = [port for position, port in enumerate(self.group.ports) if position != leader]
        if self.placement == "leader":
            return [self.group.ports[leader]]
        return followers if self.placement == "followers" else [*followers, self.group.ports[leader]]

    def can_run(self, cell: Cell) -> bool:
        """Whether the load has an equal on this server."""
        if self.group.speaks_resp:
            return self.placement != "followers" or cell.judged
        return cell.operation in ETCD_OPERATIONS and cell.pipeline == 1


@dataclass(frozen=True)
class Effort:
    """How long and how often. Judged rows run three times as long."""

    rounds: int = 3
    seconds: float = 1.0
    first_operations: int = 400
    operations_max: int = 2_000_000
    keys: int = KEYS
    wait_quiet: bool = True


@dataclass
class Result:
    """All rounds of one cell on one server, and why a round failed."""

    figures: list[Figures] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    def median(self, figure: str) -> float | None:
        """Return the median of one figure over the rounds, or None when no round has it."""
        values = [value for each in self.figures if (value := each.to_json()[figure]) is not None]
        return statistics.median(values) if values else None


Results = dict[str, dict[str, Result]]


def cells(
    operations: Sequence[str] = OPERATIONS,
    connections: Sequence[int] = CONNECTIONS,
    pipelines: Sequence[int] = PIPELINES,
    values_bytes: Sequence[int] = VALUES_BYTES,
) -> list[Cell]:
    """Return the rows in the order they are measured: all of one value size together, since keys are preloaded."""
    return [
        Cell(operation, count, pipeline, value_bytes)
        for value_bytes in values_bytes
        for operation in operations
        if operation != "incr" or value_bytes == values_bytes[0]
        for pipeline in pipelines
        for count in connections
    ]


def judged_cells() -> list[Cell]:
    """Return the rows that have a target."""
    return [cell for cell in cells() if cell.judged]


def run(columns: Sequence[Column], rows: Sequence[Cell], effort: Effort, say: Callable[[str], None]) -> Results:
    """Measure every row on every column that can run it. A failed round is kept as such and never hides the rest."""
    results: Results = {}
    loaded_bytes = 0
    for row in rows:
        if row.value_bytes != loaded_bytes:
            say(f"loading keys of {row.value_bytes} B")
            _preload(columns, row.value_bytes, effort.keys)
            loaded_bytes = row.value_bytes
        able = [column for column in columns if column.can_run(row)]
        results[row.name] = {column.name: Result() for column in able}
        counts = {column.name: _calibrate(column, row, effort) for column in able}
        for round_number in range(effort.rounds):
            turn = round_number % len(able) if able else 0
            for column in able[turn:] + able[:turn]:
                _measure_into(results[row.name][column.name], column, row, counts[column.name], effort)
        say(_summary(row, results[row.name]))
    return results


def _preload(columns: Sequence[Column], value_bytes: int, keys: int) -> None:
    for group in {id(column.group): column.group for column in columns}.values():
        port = group.ports[group.leader()]
        if group.speaks_resp:
            preload(port, keys, value_bytes)
        else:  # random keys, so about two thirds of them exist afterwards
            load = Load("set", 100, 1, value_bytes, min(keys, 10_000), keys)
            measure(load, [port], group)


def _calibrate(column: Column, row: Cell, effort: Effort) -> int:
    """Return how many operations fill the time of one round, from a short trial that also warms the server up."""
    load = _load(row, effort, effort.first_operations * row.pipeline)
    try:
        trial = measure(load, column.ports(), column.group)
    except (LoadFailed, TimeoutError):
        return load.operations
    seconds = effort.seconds * (3 if row.judged and effort.rounds > 1 else 1)
    wanted = int(trial.operations_per_s * seconds)
    return max(load.operations, min(wanted, effort.operations_max))


def _load(row: Cell, effort: Effort, operations: int) -> Load:
    return Load(row.operation, row.connections, row.pipeline, row.value_bytes, operations, effort.keys)


def _measure_into(result: Result, column: Column, row: Cell, operations: int, effort: Effort) -> None:
    group = column.group
    try:
        group.tidy()
        if effort.wait_quiet:
            wait_quiet(group.pids)
        load = _load(row, effort, operations)
        figures = measure(load, column.ports(), group)
    except (LoadFailed, TimeoutError, OSError) as error:
        result.failures.append(str(error))
    else:
        result.figures.append(figures)


def wait_quiet(pids: Sequence[int]) -> None:
    """Return when the servers use less than a quarter of a core together, or after three seconds."""
    deadline = time.monotonic() + QUIET_TIMEOUT_S
    while time.monotonic() < deadline:
        before = machine.cpu_seconds(pids)
        time.sleep(QUIET_STEP_S)
        if machine.cpu_seconds(pids) - before < QUIET_SHARE * QUIET_STEP_S:
            return


def _summary(row: Cell, results: dict[str, Result]) -> str:
    rates = []
    for name, result in results.items():
        rate = result.median("operations_per_s")
        rates.append(f"{name} {rate:,.0f}/s" if rate is not None else f"{name} failed: {result.failures[-1]}")
    return f"{row.name}: " + ", ".join(rates)


def columns_of(redis: Group | None, one: Group | None, three: Group | None, etcd: Group | None) -> list[Column]:
    """Return the columns of the tables for the servers that exist; the reference comes first."""
    columns = []
    if redis is not None:
        columns.append(Column("redis", "redis-server always", redis))
    if one is not None:
        columns.append(Column("one", "one node", one))
    if three is not None:
        columns.append(Column("three", "three nodes, clients on the leader", three))
        columns.append(Column("spread", "three nodes, clients on all", three, "spread"))
        columns.append(Column("followers", "three nodes, clients on followers", three, "followers"))
    if etcd is not None:
        columns.append(Column("etcd", "etcd, three nodes", etcd))
    return columns


def data_directory(wanted: Path | None) -> Path:
    """Return a directory on a disk for the servers' data; raises RuntimeError when it would lie in memory."""
    import tempfile

    if wanted is None:
        candidates = [Path(tempfile.gettempdir()), Path("/var/tmp"), Path.cwd()]
        wanted = next((path for path in candidates if _on_disk(path)), candidates[-1])
    if not _on_disk(wanted):
        raise RuntimeError(f"{wanted} is not on a disk ({machine.filesystem(wanted)}); name another with --dir")
    return Path(tempfile.mkdtemp(prefix="zattredis-benchmark-", dir=wanted))


def _on_disk(path: Path) -> bool:
    return path.is_dir() and machine.filesystem(path) not in ("tmpfs", "ramfs")
