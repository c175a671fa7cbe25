"""What the storm rages over: nodes with a network interface, a disk and a wall clock each."""

from __future__ import annotations

import contextlib
import functools
import random
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

from tests.chaos.clients import RedisPyLoad
from tests.support.cluster import POLL_S, Node
from tests.support.loop_disk import LoopDisk
from tests.support.network import Network, NetworkCluster
from tests.support.network import why_unavailable as why_no_network
from tests.support.wall_clock import set_offset

MIB = 1 << 20
DISK_BYTES = 320 * MIB
FLAGS = (
    "--disk-free-bytes-min", str(24 * MIB),
    "--log-compaction-bytes", str(4 * MIB),
    "--log-compaction-entries", "5000",
)  # fmt: skip
"""Small enough that logs are cut and snapshots are sent in a storm of minutes."""


@functools.cache
def why_unavailable() -> str | None:
    """What this machine lacks for a storm, or None."""
    if reason := why_no_network():
        return reason
    for tool in ("mkfs.ext4", "strace", "tc"):
        if shutil.which(tool) is None:
            return f"{tool} is not installed"
    with tempfile.TemporaryDirectory(prefix="zattredis-disk-") as directory:
        try:
            disk = LoopDisk(Path(directory), 16 * MIB)
        except (subprocess.CalledProcessError, OSError):
            return "needs loop devices and the right to mount them"
        try:
            disk.cut_power()
        except OSError:
            return "needs a kernel with the shutdown call of ext4"
        finally:
            disk.unmount()
    return None


class ChaosCluster(NetworkCluster):
    """A cluster whose nodes have disks of their own, too, and wall clocks that can be put wrong."""

    def __init__(self, network: Network) -> None:
        super().__init__(network, flags=FLAGS)
        self.disks: list[LoopDisk] = []
        try:
            for node in self.nodes:
                node.directory.mkdir(parents=True)
                self.disks.append(LoopDisk(node.directory, DISK_BYTES))
                node.flags += ["--dir", str(self.data(node))]
                set_offset(self.clock(node), 0.0)
                node.environment["ZATTREDIS_TEST_CLOCK"] = str(self.clock(node))
        except BaseException:
            self.close(failed=False)
            raise

    def data(self, node: Node) -> Path:
        return node.directory / "disk" / "data"

    def clock(self, node: Node) -> Path:
        return node.directory / "clock"

    def close(self, failed: bool = False) -> None:
        for node in self.nodes:
            if node.running:
                node.end()
        for disk in self.disks:
            with contextlib.suppress(subprocess.CalledProcessError):
                disk.unmount()
        super().close(failed)


class Arena:
    """The cluster, its clients, the dice, and a count of the leaders that followed each other."""

    def __init__(self, network: Network, cluster: ChaosCluster, load: RedisPyLoad, dice: random.Random) -> None:
        self.network = network
        self.cluster = cluster
        self.load = load
        self.dice = dice
        self.failovers = 0
        self._leader: int | None = None

    @property
    def size(self) -> int:
        return len(self.cluster.nodes)

    def choose(self, who: str) -> list[int]:
        """The numbers of the nodes that a fault hits: one, leader, majority or all."""
        everyone = list(range(self.size))
        if who == "all":
            return everyone
        if who == "majority":
            return self.dice.sample(everyone, self.size // 2 + 1)
        if who == "leader":
            leader = self.cluster.leader()
            return [self.dice.choice(everyone) if leader is None else leader]
        assert who == "one", who
        return [self.dice.choice(everyone)]

    def others(self, chosen: list[int]) -> list[int]:
        return [i for i in range(self.size) if i not in chosen]

    def watch(self, seconds: float) -> None:
        """Let the fault last, and count the leaders that follow each other meanwhile."""
        end = time.monotonic() + seconds
        while True:
            leader = self.cluster.leader()
            if leader is not None and leader != self._leader:
                self.failovers += self._leader is not None
                self._leader = leader
            if (left := end - time.monotonic()) <= 0:
                return
            time.sleep(min(5 * POLL_S, left))

    def stop(self, chosen: list[int]) -> None:
        """End these processes by kill -9, all before any of them is waited for."""
        for i in chosen:
            if self.cluster.nodes[i].running:
                self.cluster.nodes[i].process.kill()  # type: ignore[union-attr]
        for i in chosen:
            self.cluster.kill(i)

    def start(self, chosen: list[int]) -> None:
        """Start those of them that do not run, without waiting."""
        for i in chosen:
            if not self.cluster.nodes[i].running:
                self.cluster.spawn(self.cluster.nodes[i])

    def cut_power(self, chosen: list[int]) -> None:
        """End processes and disks at one moment. What the disks had not made durable is gone.

        The processes are stopped first: ext4 lets syncs under way succeed once its journal has stopped, and in a power
        cut there is nobody left to tell of them.
        """
        for i in chosen:
            if self.cluster.nodes[i].running:
                self.cluster.pause(i)
        for i in chosen:
            self.cluster.disks[i].cut_power()
        self.stop(chosen)
        for i in chosen:
            self.cluster.disks[i].remount()

    def settle(self, timeout_s: float = 120.0) -> None:
        """Until every node answers, knows a leader, and every node's clients are served."""
        self.cluster.wait_ready(timeout_s=timeout_s)
        self.load.wait_more(1, nodes=range(self.size), timeout_s=timeout_s)
        self.watch(0.0)
