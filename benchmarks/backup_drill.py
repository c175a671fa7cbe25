"""Backup and restore of a data set, and a node that joins: how quick they are, and what the leader's clients notice.

Beside it the disk's own figures of the same run: what it writes and reads by itself, and how long a sync of a few
bytes takes that knows of no server. Where that gets slower as the leader's clients do, it is the disk they wait for.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from benchmarks import machine
from benchmarks.client import Client, wait_for
from benchmarks.servers import SOURCE, Process, Zattredis

VALUE_BYTES = 16_000
AT_ONCE = 25
FILLING = 4
JOIN_S = 300.0
PACE_S = 0.002
USUAL_S = 10.0
MEGABYTE = 1_000_000


class _Pacer(threading.Thread):
    """Does something at a steady pace and notes how long it took each time."""

    def __init__(self, once: Callable[[int], None], end: Callable[[], None]) -> None:
        super().__init__(daemon=True)
        self._once = once
        self._end = end
        self._over = threading.Event()
        self._waits_s: list[float] = []

    def run(self) -> None:
        number = 0
        while not self._over.wait(PACE_S):
            number += 1
            began = time.perf_counter()
            self._once(number)
            self._waits_s.append(time.perf_counter() - began)
        self._end()

    def end(self) -> None:
        self._over.set()
        self.join(60.0)

    @property
    def count(self) -> int:
        return len(self._waits_s)

    def p99_ms(self, first: int) -> float:
        """Return the 99th percentile since there were `first` of them."""
        waits = sorted(self._waits_s[first:])
        return waits[int(len(waits) * 0.99)] * 1000 if waits else 0.0


def _writer(port: int) -> _Pacer:
    """Return a client of one node that writes."""
    client = Client(port, timeout_s=60.0)
    return _Pacer(lambda number: client.call("SET", f"pace:{number % 1000}", "x" * 64), client.close)


def _syncer(path: Path) -> _Pacer:
    """Return who appends to a file and syncs it, as a log does, without any server."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT)

    def once(number: int) -> None:
        os.write(descriptor, b"x" * 200)
        os.fdatasync(descriptor)

    return _Pacer(once, lambda: os.close(descriptor))


class _Drill:
    """One cluster full of data, a client that writes to its leader, and what was measured."""

    def __init__(self, group: Zattredis, directory: Path, say: Callable[[str], None]) -> None:
        self.figures: dict[str, float] = {}
        self._group = group
        self._directory = directory
        self._say = say
        self._leader = group.leader()
        self.port = group.ports[self._leader]
        self._pacers = {"p99": _writer(self.port), "disk_sync_p99": _syncer(directory / "synced")}

    def usual(self, seconds: float) -> None:
        """Measure what is usual, and how large the data is."""
        for pacer in self._pacers.values():
            pacer.start()
        self._while("usual", lambda: time.sleep(seconds))
        self.figures["files_mb"] = _state_bytes(self._group.data(self._group.node_ids[self._leader])) / MEGABYTE

    def _while(self, name: str, work: Callable[[], None]) -> float:
        first = {what: pacer.count for what, pacer in self._pacers.items()}
        began = time.monotonic()
        work()
        seconds = time.monotonic() - began
        for what, pacer in self._pacers.items():
            self.figures[f"{name}_{what}_ms"] = pacer.p99_ms(first[what])
        return seconds

    def timed(self, name: str, work: Callable[[], None]) -> None:
        """Do something to all data."""
        figures = self.figures
        figures[f"{name}_s"] = self._while(name, work)
        figures[f"{name}_mb_per_s"] = figures["files_mb"] / figures[f"{name}_s"]
        for what in self._pacers:
            figures[f"{name}_{what}_of_usual"] = figures[f"{name}_{what}_ms"] / max(0.001, figures[f"usual_{what}_ms"])
        self._say(
            f"{name}: {figures[f'{name}_mb_per_s']:.0f} MB/s, p99 {figures[f'{name}_p99_ms']:.1f} ms, "
            f"{figures[f'{name}_p99_of_usual']:.1f} times the usual (a sync of the disk alone "
            f"{figures[f'{name}_disk_sync_p99_of_usual']:.1f} times)"
        )

    def join(self) -> None:
        """Start a node that joins, and wait until it is a voter."""
        port = machine.free_port()
        arguments = [sys.executable, "-m", "zattredis", "--port", str(port), "--dir", str(self._group.data("n4")),
                     "--node", "n4", "--join", f"127.0.0.1:{self.port}"]  # fmt: skip
        node = Process(arguments, self._directory / "n4.log", SOURCE)
        self._group.processes.append(node)
        self._group.ports.append(port)
        self._group.node_ids.append("n4")
        node.start()
        with Client(self.port, timeout_s=60.0) as client:
            wait_for("the new node", lambda: "n4" in _voters(client), JOIN_S, 0.05)

    def end(self) -> None:
        """End the pacers that were started."""
        for pacer in self._pacers.values():
            if pacer.is_alive():
                pacer.end()


def backup(directory: Path, data_bytes: int, usual_s: float, say: Callable[[str], None]) -> dict[str, float]:
    """Fill three nodes with values that compress by half; back up, restore, verify, let a node join while a client
    writes."""
    place = directory / "backup"
    group = Zattredis(place, 3)
    try:
        group.start()
        began = time.monotonic()
        _fill(group.ports[group.leader()], data_bytes // VALUE_BYTES)
        say(f"backup: filled in {time.monotonic() - began:.0f} s")
        drill = _Drill(group, place, say)
        with Client(drill.port, timeout_s=120.0) as client:
            client.call("RAFT", "SNAPSHOT")
        drill.figures["data_mb"] = data_bytes / MEGABYTE
        drill.figures.update(_disk(place, min(data_bytes // 2, 512 << 20)))
        say(f"disk: writes {drill.figures['disk_write_mb_per_s']:.0f} MB/s by itself")
        saved, restored = place / "saved", place / "restored"
        try:
            drill.usual(usual_s)
            drill.timed("backup", lambda: _zattctl("backup", saved, "--port", drill.port))
            words = ("--cluster", "n1=127.0.0.1:6379", "--dir", restored)
            drill.timed("restore", lambda: _zattctl("restore", saved, *words))
            drill.timed("verify", lambda: _zattctl("verify", saved))
            drill.timed("join", drill.join)
        finally:
            drill.end()
        drill.figures["backup_file_mb"] = saved.stat().st_size / MEGABYTE
        return drill.figures
    finally:
        group.stop()


def _disk(place: Path, count: int) -> dict[str, float]:
    """Return how quickly the disk alone takes one file, synced at its end, and gives it back from outside the cache."""
    path = place / "disk"
    block = random.Random(2).randbytes(1 << 20)
    began = time.monotonic()
    with path.open("wb", buffering=0) as file:
        for _ in range(0, count, len(block)):
            file.write(block)
        os.fdatasync(file.fileno())
    wrote_s = time.monotonic() - began
    with path.open("rb", buffering=0) as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        began = time.monotonic()
        while file.read(len(block)):
            pass
        read_s = time.monotonic() - began
    size_mb = path.stat().st_size / MEGABYTE
    path.unlink()
    return {"disk_write_mb_per_s": size_mb / wrote_s, "disk_read_mb_per_s": size_mb / read_s}


def _voters(client: Client) -> list[str]:
    status = client.call("RAFT", "STATUS")
    voters = dict(zip(status[::2], status[1::2], strict=True))[b"voters"]
    return [voter.decode() for voter in voters]


def _fill(port: int, count: int) -> None:
    """Write so many values, by several clients: one alone waits for the disks of three nodes at each turn."""
    noise = random.Random(1).randbytes(1 << 20)

    def write(client_number: int) -> None:
        generator = random.Random(client_number)
        with Client(port, timeout_s=120.0) as client:
            numbers = range(client_number, count, FILLING)
            for first in range(0, len(numbers), AT_ONCE):
                commands: list[list[str | bytes]] = []
                for number in numbers[first : first + AT_ONCE]:
                    at = generator.randrange(len(noise) - VALUE_BYTES)
                    value = noise[at : at + VALUE_BYTES // 2] + b"a" * (VALUE_BYTES // 2)
                    commands.append(["SET", f"key:{number:012d}", value])
                client.pipeline(commands)

    with ThreadPoolExecutor(FILLING) as threads:
        list(threads.map(write, range(FILLING)))


def _state_bytes(data: Path) -> int:
    return sum(path.stat().st_size for path in data.glob("state-*/*.sst"))


def _zattctl(name: str, *words: object) -> None:
    command = [sys.executable, "-m", "zattredis.cli.zattctl", name, *map(str, words)]
    done = subprocess.run(command, check=False, capture_output=True, cwd=SOURCE, timeout=1200)
    if done.returncode:
        raise RuntimeError(f"zattctl {name} ended with {done.returncode}: {done.stderr.decode().strip()[-300:]}")
