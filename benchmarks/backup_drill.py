"""Backup and restore of a data set under load: how quick they are, and what the leader's clients notice."""

from __future__ import annotations

import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.client import Client
from benchmarks.servers import SOURCE, Zattredis

VALUE_BYTES = 1000
PACE_S = 0.002
USUAL_S = 10.0
MEGABYTE = 1_000_000


class _Pacer(threading.Thread):
    """A client of one node that writes at a steady pace and notes how long each write took."""

    def __init__(self, port: int) -> None:
        super().__init__(daemon=True)
        self._port = port
        self._over = threading.Event()
        self.waits_s: list[float] = []

    def run(self) -> None:
        with Client(self._port, timeout_s=60.0) as client:
            number = 0
            while not self._over.wait(PACE_S):
                number += 1
                began = time.perf_counter()
                client.call("SET", f"pace:{number % 1000}", "x" * 64)
                self.waits_s.append(time.perf_counter() - began)

    def end(self) -> None:
        self._over.set()
        self.join(60.0)

    def p99_ms(self, work: Callable[[], None]) -> float:
        """Return the 99th percentile of the writes made while `work` runs."""
        first = len(self.waits_s)
        work()
        waits = sorted(self.waits_s[first:])
        return waits[int(len(waits) * 0.99)] * 1000 if waits else 0.0


def backup(directory: Path, data_bytes: int, usual_s: float, say: Callable[[str], None]) -> dict[str, float]:
    """Fill three nodes with values that compress by half; back up, restore and verify while a client writes."""
    group = Zattredis(directory / "backup", 3)
    figures: dict[str, float] = {"data_mb": data_bytes / MEGABYTE}
    try:
        group.start()
        leader = group.leader()
        port = group.ports[leader]
        _fill(port, data_bytes // VALUE_BYTES)
        with Client(port, timeout_s=120.0) as client:
            client.call("RAFT", "SNAPSHOT")
        pacer = _Pacer(port)
        pacer.start()
        saved, restored = directory / "backup" / "saved", directory / "backup" / "restored"
        figures["usual_p99_ms"] = pacer.p99_ms(lambda: time.sleep(usual_s))

        def timed(name: str, *words: object) -> None:
            began = time.monotonic()
            figures[f"{name}_p99_ms"] = pacer.p99_ms(lambda: _zattctl(name, *words))
            figures[f"{name}_s"] = time.monotonic() - began
            figures[f"{name}_mb_per_s"] = figures["files_mb"] / figures[f"{name}_s"]
            figures[f"{name}_p99_of_usual"] = figures[f"{name}_p99_ms"] / max(0.001, figures["usual_p99_ms"])
            say(f"{name}: {figures[f'{name}_mb_per_s']:.0f} MB/s, p99 {figures[f'{name}_p99_ms']:.1f} ms")

        figures["files_mb"] = _state_bytes(group.data(group.node_ids[leader])) / MEGABYTE
        timed("backup", saved, "--port", port)
        timed("restore", saved, "--cluster", "n1=127.0.0.1:6379", "--dir", restored)
        timed("verify", saved)
        pacer.end()
        figures["backup_file_mb"] = saved.stat().st_size / MEGABYTE
        return figures
    finally:
        group.stop()


def _fill(port: int, count: int) -> None:
    generator = random.Random(1)
    noise = generator.randbytes(1 << 20)
    with Client(port, timeout_s=120.0) as client:
        for first in range(0, count, 200):
            commands = []
            for number in range(first, min(first + 200, count)):
                at = generator.randrange(len(noise) - VALUE_BYTES)
                value = noise[at : at + VALUE_BYTES // 2] + b"a" * (VALUE_BYTES // 2)
                commands.append(["SET", f"key:{number:012d}", value])
            client.pipeline(commands)


def _state_bytes(data: Path) -> int:
    return sum(path.stat().st_size for path in data.glob("state-*/*.sst"))


def _zattctl(name: str, *words: object) -> None:
    command = [sys.executable, "-m", "zattredis.cli.zattctl", name, *map(str, words)]
    subprocess.run(command, check=True, capture_output=True, cwd=SOURCE, timeout=1200)
