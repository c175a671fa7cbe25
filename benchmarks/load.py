"""One measurement: load on some ports, and what it cost the servers."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
import sys
import time
from dataclasses import asdict, dataclass

from benchmarks import machine
from benchmarks.servers import Group

LOAD_TIMEOUT_S = 60.0
REDIS_BENCHMARK_STEP_S = 0.001  # the grain of its clock


class LoadFailed(Exception):
    """The load did not run to its end; the text says why."""


@dataclass(frozen=True)
class Load:
    """What is asked of a server. `keys` is the size of the key space that requests draw from."""

    operation: str
    connections: int
    pipeline: int
    value_bytes: int
    operations: int
    keys: int


@dataclass(frozen=True)
class Figures:
    """What came of it. Latencies are those of a whole pipeline; costs are sums over all nodes of the server."""

    operations: int
    operations_per_s: float
    p50_ms: float
    p99_ms: float
    cpu_seconds: float = 0.0
    syncs: int | None = None

    @property
    def syncs_per_1000(self) -> float | None:
        """Syncs per thousand operations."""
        return None if self.syncs is None else 1000 * self.syncs / max(1, self.operations)

    @property
    def cpu_us_per_operation(self) -> float:
        """Processor time of all nodes per operation, in microseconds."""
        return 1e6 * self.cpu_seconds / max(1, self.operations)

    def to_json(self) -> dict[str, float | int | None]:
        """Return the fields and the two derived figures."""
        return asdict(self) | {
            "syncs_per_1000": self.syncs_per_1000,
            "cpu_us_per_operation": self.cpu_us_per_operation,
        }


def has_redis_benchmark() -> bool:
    """Whether redis-benchmark is installed."""
    return shutil.which("redis-benchmark") is not None


def measure(load: Load, ports: list[int], group: Group) -> Figures:
    """Put the load on these ports of the group, connections shared out evenly; raises LoadFailed.

    Process times and syncs are read right before and after.
    """
    syncs_before = group.syncs()
    pids = group.pids
    cpu_before = machine.cpu_seconds(pids)
    if group.speaks_resp and load.operation != "mixed" and has_redis_benchmark():
        result = _run_redis_benchmarks(load, ports)
    else:
        result = _run_generator(load, ports, "resp" if group.speaks_resp else "etcd")
    cpu_after = machine.cpu_seconds(pids)
    syncs_after = group.syncs()
    syncs = None if syncs_before is None or syncs_after is None else syncs_after - syncs_before
    return Figures(
        operations=result.operations,
        operations_per_s=result.operations_per_s,
        p50_ms=result.p50_ms,
        p99_ms=result.p99_ms,
        cpu_seconds=cpu_after - cpu_before,
        syncs=syncs,
    )


def _shares(total: int, parts: int) -> list[int]:
    return [total // parts + (1 if part < total % parts else 0) for part in range(parts)]


def _run_redis_benchmarks(load: Load, ports: list[int]) -> Figures:
    """Run one redis-benchmark per port that gets a connection, all at once."""
    children: list[tuple[int, subprocess.Popen[str]]] = []
    try:
        for port, connections in zip(ports, _shares(load.connections, len(ports)), strict=True):
            if connections:
                operations = max(load.pipeline, load.operations * connections // load.connections)
                arguments = _redis_benchmark_arguments(load, port, connections, operations)
                children.append((operations, _start(arguments)))
        deadline = time.monotonic() + LOAD_TIMEOUT_S
        parts = []
        for operations, child in children:
            output, errors = child.communicate(timeout=max(0.1, deadline - time.monotonic()))
            parts.append(_parse_csv(output, errors, operations))
    except subprocess.TimeoutExpired as error:
        raise LoadFailed(f"redis-benchmark did not end within {LOAD_TIMEOUT_S:.0f} s") from error
    finally:
        for _, child in children:
            if child.poll() is None:
                child.kill()
                child.communicate()
    total = sum(part.operations for part in parts)
    seconds = max(part.operations / part.operations_per_s for part in parts)
    return Figures(
        operations=total,
        operations_per_s=total / seconds,
        p50_ms=sum(part.p50_ms * part.operations for part in parts) / total,
        p99_ms=max(part.p99_ms for part in parts),
    )


def _start(arguments: list[str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        arguments, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def _redis_benchmark_arguments(load: Load, port: int, connections: int, operations: int) -> list[str]:
    settings = {
        "-h": "127.0.0.1", "-p": port, "-t": load.operation, "-c": connections, "-P": load.pipeline,
        "-n": operations, "-d": load.value_bytes, "-r": load.keys,
    }  # fmt: skip
    return ["redis-benchmark", *(str(word) for pair in settings.items() for word in pair), "--csv"]


def _parse_csv(output: str, errors: str, operations: int) -> Figures:
    rows = list(csv.DictReader(line for line in output.splitlines() if line.startswith('"')))
    if "Error from server" in output + errors:
        raise LoadFailed((output + errors).split("Error from server", 1)[1].splitlines()[0].strip(": "))
    if not rows or float(rows[0]["rps"]) <= 0:
        raise LoadFailed(f"redis-benchmark printed no figures: {(output + errors).strip()[-300:]}")
    row = rows[0]
    rate = min(float(row["rps"]), operations / REDIS_BENCHMARK_STEP_S)  # "inf" for what took less than a step
    return Figures(operations, rate, float(row["p50_latency_ms"]), float(row["p99_latency_ms"]))


def _run_generator(load: Load, ports: list[int], protocol: str) -> Figures:
    settings = {
        "--protocol": protocol, "--ports": ",".join(map(str, ports)), "--operation": load.operation,
        "--connections": load.connections, "--pipeline": load.pipeline, "--operations": load.operations,
        "--keys": load.keys, "--value-bytes": load.value_bytes, "--timeout-s": LOAD_TIMEOUT_S,
    }  # fmt: skip
    arguments = [sys.executable, "-m", "benchmarks.generator"]
    arguments += [str(word) for pair in settings.items() for word in pair]
    try:
        child = subprocess.run(
            arguments,
            capture_output=True,
            text=True,
            timeout=LOAD_TIMEOUT_S + 10,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    except subprocess.TimeoutExpired as error:
        raise LoadFailed(f"the generator did not end within {LOAD_TIMEOUT_S:.0f} s") from error
    if child.returncode != 0:
        raise LoadFailed(child.stderr.strip().splitlines()[-1] if child.stderr.strip() else "the generator failed")
    result = json.loads(child.stdout)
    if result["errors"]:
        raise LoadFailed(f"{result['errors']:.0f} of {result['operations']} requests were answered with an error")
    return Figures(
        int(result["operations"]), result["operations"] / result["seconds"], result["p50_ms"], result["p99_ms"]
    )
