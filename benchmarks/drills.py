"""Drills on clusters of their own: recovery, snapshot and catch-up, failover, hand-over, memory.

Each returns figure → value, named with its unit. Every wait and every loop is bounded; a drill that does not get
where it should raises TimeoutError or DrillFailed, and the rest of the run goes on.
"""

from __future__ import annotations

import shutil
import signal
import socket
import statistics
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path

from benchmarks import backup_drill, machine, type_drills
from benchmarks.client import Client, ErrorReply, preload, wait_for
from benchmarks.servers import Group, RedisServer, Zattredis, raise_open_files

Figures = dict[str, float]
Say = Callable[[str], None]
VALUE_BYTES = 64
MEGABYTE = 1_000_000


class DrillFailed(Exception):
    """A drill ended in a state that is no measurement; the text says which."""


@dataclass(frozen=True)
class Size:
    """How large the drills are."""

    recovery_keys: int = 1_000_000
    snapshot_keys: int = 1_000_000
    lagging_keys: int = 200_000
    failover_trials: int = 10
    handover_trials: int = 5
    connections: int = 10_000
    settle_s: float = 1.0
    type_requests: int = 100_000
    type_keys: int = 100_000
    type_rounds: int = 3
    large_members: int = 5_000_000
    large_trials: int = 1000
    backup_bytes: int = 2 << 30  # of values, half of which compresses away: a state of 1 GiB
    backup_usual_s: float = backup_drill.USUAL_S


QUICK = Size(2000, 2000, 1000, failover_trials=1, handover_trials=1, connections=100, settle_s=0.2,
             type_requests=500, type_keys=100, type_rounds=1, large_members=5000, large_trials=5,
             backup_bytes=2_000_000, backup_usual_s=0.5)  # fmt: skip


def recovery(directory: Path, size: Size, say: Say) -> Figures:
    """Kill -9 of one node full of keys; seconds from its start to the first right reply. redis-server beside it."""
    figures: Figures = {"keys": size.recovery_keys}
    groups: list[tuple[str, Group]] = [("zattredis", Zattredis(directory / "recovery", 1))]
    if RedisServer.installed():
        groups.append(("redis", RedisServer(directory / "recovery-redis")))
    for name, group in groups:
        try:
            group.start()
            started_at = time.monotonic()
            preload(group.ports[0], size.recovery_keys, VALUE_BYTES)
            figures[f"{name}_load_s"] = time.monotonic() - started_at
            group.processes[0].kill()
            started_at = time.monotonic()
            group.processes[0].start()
            wait_for(f"{name}'s first reply", partial(_has_last_key, group, size.recovery_keys), 300.0, 0.005)
            figures[f"{name}_to_first_reply_s"] = time.monotonic() - started_at
            say(f"recovery: {name} {figures[f'{name}_to_first_reply_s']:.2f} s")
        finally:
            group.stop()
    return figures


def _has_last_key(group: Group, keys: int) -> bool:
    with Client(group.ports[0], timeout_s=60.0) as client:
        return bool(client.call("STRLEN", f"key:{keys - 1:012d}") == VALUE_BYTES)


def snapshot(directory: Path, size: Size, say: Say) -> Figures:
    """A follower that missed writes, and one that lost its disk: seconds from its start until it applied everything."""
    figures: Figures = {"keys": size.snapshot_keys, "lagging_keys": size.lagging_keys}
    group = Zattredis(directory / "snapshot", 3)
    try:
        group.start()
        leader = group.leader()
        preload(group.ports[leader], size.snapshot_keys, VALUE_BYTES)
        follower = (leader + 1) % 3
        group.processes[follower].kill()
        preload(group.ports[group.leader()], size.lagging_keys, VALUE_BYTES)
        figures["lagging_follower_s"] = _catch_up(group, follower)
        say(f"snapshot: lagging follower {figures['lagging_follower_s']:.2f} s")
        group.processes[follower].kill()
        shutil.rmtree(group.data(group.node_ids[follower]))
        figures["emptied_follower_s"] = _catch_up(group, follower)
        say(f"snapshot: emptied follower {figures['emptied_follower_s']:.2f} s")
    finally:
        group.stop()
    return figures


def _catch_up(group: Zattredis, position: int) -> float:
    wanted = int(group.raft(group.leader())["raft_commit_index"])
    started_at = time.monotonic()
    group.processes[position].start()
    wait_for("the follower", partial(_has_applied, group, position, wanted), 180.0, 0.01)
    return time.monotonic() - started_at


def _has_applied(group: Zattredis, position: int, index: int) -> bool:
    process = group.processes[position]
    if not process.alive:
        raise DrillFailed(f"{group.node_ids[position]} ended: {process.last_words()}")
    return int(group.raft(position)["raft_applied_index"]) >= index


class Writer(threading.Thread):
    """A client that writes one key after the other and remembers when each was acknowledged.

    It keeps to the first port while that answers and goes round the others when it does not.
    """

    def __init__(self, name: str, ports: list[int]) -> None:
        super().__init__(daemon=True)
        self.key = name
        self.ports = ports
        self.acknowledged_at: list[float] = []
        self.errors: list[str] = []
        self._ending = threading.Event()

    def run(self) -> None:
        turn = 0
        client: Client | None = None
        for number in range(1_000_000):
            if self._ending.is_set():
                break
            try:
                if client is None:
                    client = Client(self.ports[turn % len(self.ports)], timeout_s=5.0)
                client.call("SET", self.key, number)
                self.acknowledged_at.append(time.monotonic())
                self._ending.wait(0.001)
            except (OSError, ErrorReply) as error:
                self.errors.append(str(error))
                if client is not None:
                    client.close()
                client, turn = None, turn + 1
                self._ending.wait(0.005)
        if client is not None:
            client.close()

    def end(self) -> None:
        """Stop writing and wait for the thread."""
        self._ending.set()
        self.join(10.0)

    def outage_s(self, since: float) -> float:
        """Return the longest wait for an acknowledgement from `since` on; raises DrillFailed when none came."""
        times = [since, *(at for at in self.acknowledged_at if at > since)]
        if len(times) == 1:
            raise DrillFailed(f"{self.key}: no write was acknowledged afterwards; {self.errors[-1:]}")
        return max(later - earlier for earlier, later in pairwise(times))


def failover(directory: Path, size: Size, say: Say) -> Figures:
    """Kill -9 of the leader: seconds to the next acknowledged write, at a live follower and by retrying."""

    def strike(group: Zattredis, leader: int) -> None:
        group.processes[leader].kill()

    through, retrying, errors = _strike_leaders(directory / "failover", size.failover_trials, strike, say, "failover")
    return {
        "trials": size.failover_trials,
        "median_s": statistics.median(through),
        "worst_s": max(through),
        "retrying_client_median_s": statistics.median(retrying),
        "retrying_client_worst_s": max(retrying),
        "errors_at_live_follower": errors,
    }


def handover(directory: Path, size: Size, say: Say) -> Figures:
    """SIGTERM to the leader: the longest wait for an acknowledgement around it. The process must exit with 0."""

    def strike(group: Zattredis, leader: int) -> None:
        group.processes[leader].signal(signal.SIGTERM)
        try:
            code = group.processes[leader].wait(30.0)
        except subprocess.TimeoutExpired as error:
            raise DrillFailed("the leader did not end within 30 s of SIGTERM") from error
        if code != 0:
            raise DrillFailed(f"the leader exited with {code} after SIGTERM")

    through, retrying, errors = _strike_leaders(directory / "handover", size.handover_trials, strike, say, "hand-over")
    return {
        "trials": size.handover_trials,
        "median_s": statistics.median(through),
        "worst_s": max(through),
        "retrying_client_median_s": statistics.median(retrying),
        "retrying_client_worst_s": max(retrying),
        "errors_at_live_follower": errors,
    }


def _strike_leaders(
    directory: Path, trials: int, strike: Callable[[Zattredis, int], None], say: Say, word: str
) -> tuple[list[float], list[float], int]:
    """Return the outages of both kinds of client over the trials, and the errors seen at the live follower."""
    group = Zattredis(directory, 3)
    through: list[float] = []
    retrying: list[float] = []
    errors = 0
    try:
        group.start()
        for trial in range(trials):
            leader = group.leader()
            others = [port for position, port in enumerate(group.ports) if position != leader]
            writers = [Writer("follower's", others[:1]), Writer("retrying", [group.ports[leader], *others])]
            for writer in writers:
                writer.start()
            wait_for("the first writes", partial(_all_began, writers))
            struck_at = time.monotonic()
            strike(group, leader)
            wait_for("writes afterwards", partial(_all_go_on, writers), 15.0)
            for writer in writers:
                writer.end()
            through.append(writers[0].outage_s(struck_at))
            retrying.append(writers[1].outage_s(struck_at))
            errors += len(writers[0].errors)
            say(f"{word} {trial + 1}: follower's client {through[-1]:.3f} s, retrying client {retrying[-1]:.3f} s")
            group.processes[leader].stop()
            _catch_up(group, leader)
    finally:
        group.stop()
    return through, retrying, errors


def _all_began(writers: list[Writer]) -> bool:
    return all(len(writer.acknowledged_at) > 20 for writer in writers)


def _all_go_on(writers: list[Writer]) -> bool:
    return all(_goes_on(writer) for writer in writers)


def _goes_on(writer: Writer) -> bool:
    """Whether the writer has had acknowledgements without a pause for a while: an outage lies behind it."""
    recent = writer.acknowledged_at[-50:]
    now = time.monotonic()
    steady = all(later - earlier < 0.1 for earlier, later in pairwise(recent))
    return steady and len(recent) == 50 and now - recent[-1] < 0.05


def memory(directory: Path, size: Size, say: Say) -> Figures:
    """Resident memory of a fresh node, of a node of three, and of a node with many idle connections, in MB."""
    limit = raise_open_files(size.connections + 500)
    connections = min(size.connections, limit - 500)
    figures: Figures = {"connections": connections}
    three = Zattredis(directory / "memory-three", 3)
    try:
        three.start()
        time.sleep(size.settle_s)
        figures["idle_of_three_mb"] = max(machine.resident_bytes(pid) for pid in three.pids) / MEGABYTE
    finally:
        three.stop()
    groups: list[tuple[str, Group]] = [("", Zattredis(directory / "memory", 1))]
    if RedisServer.installed():
        groups.append(("redis_", RedisServer(directory / "memory-redis")))
    for prefix, group in groups:
        try:
            group.start()
            time.sleep(size.settle_s)
            figures[f"{prefix}idle_mb"] = machine.resident_bytes(group.pids[0]) / MEGABYTE
            connected_bytes = _memory_with_connections(group, connections, size.settle_s)
            figures[f"{prefix}connections_mb"] = connected_bytes / MEGABYTE
            say(f"memory of {group.title}: {figures}")
        finally:
            group.stop()
    return figures


def _memory_with_connections(group: Group, count: int, settle_s: float) -> int:
    with Client(group.ports[0]) as client:
        client.call("CONFIG", "SET", "maxclients", str(count + 100))
    idle: list[socket.socket] = []
    try:
        for _ in range(count):
            connection = socket.create_connection(("127.0.0.1", group.ports[0]), timeout=10.0)
            idle.append(connection)
            connection.sendall(b"*1\r\n$4\r\nPING\r\n")
            if connection.recv(64) != b"+PONG\r\n":
                raise DrillFailed(f"connection {len(idle)} was not answered")
        time.sleep(settle_s)
        return machine.resident_bytes(group.pids[0])
    finally:
        for connection in idle:
            connection.close()


def types(directory: Path, size: Size, say: Say) -> Figures:
    """The list that redis-benchmark has of its own, on one node, of redis-server (see `type_drills`)."""
    return type_drills.types(directory, size.type_requests, size.type_keys, size.type_rounds, say)


def large(directory: Path, size: Size, say: Say) -> Figures:
    """One very large sorted set (see `type_drills`)."""
    return type_drills.large(directory, size.large_members, size.large_trials, say)


def backup(directory: Path, size: Size, say: Say) -> Figures:
    """Backup, restore and verify, and what a client of the leader notices meanwhile."""
    return backup_drill.backup(directory, size.backup_bytes, size.backup_usual_s, say)


DRILLS: dict[str, Callable[[Path, Size, Say], Figures]] = {
    "recovery": recovery,
    "snapshot": snapshot,
    "failover": failover,
    "handover": handover,
    "memory": memory,
    "types": types,
    "large": large,
    "backup": backup,
}
