"""What this machine is, and what its processes and its disk have used: all read from /proc."""

from __future__ import annotations

import os
import platform
import random
import socket
from collections.abc import Iterable
from pathlib import Path

CLOCK_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
PORT_FIRST, PORT_LAST = 10_000, 21_999  # peer ports default to port + 10000 and stay below 32768 as well


def describe() -> str:
    """Return the processor, cores, memory, kernel and Python in one line."""
    model = "unknown processor"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.split(":", 1)[1].strip()
            break
    memory_gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return (
        f"{model}, {os.cpu_count()} cores, {memory_gib:.0f} GiB, Linux {platform.release()}, "
        f"{platform.python_implementation()} {platform.python_version()}"
    )


def cpu_seconds(pids: Iterable[int]) -> float:
    """Return user and system seconds used so far by these processes and their ended children; 0 for a dead one."""
    ticks = 0
    for pid in pids:
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        ticks += sum(int(fields[position]) for position in (11, 12, 13, 14))
    return ticks / CLOCK_TICKS_PER_SECOND


def resident_bytes(pid: int) -> int:
    """Return the resident memory of a process, shared pages included; 0 when it is gone."""
    try:
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return 0


def filesystem(path: Path) -> str:
    """Return the type of the file system that holds `path` ("ext4", "tmpfs", …)."""
    best, kind = "", "unknown"
    where = str(path.resolve())
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, mount, mount_kind = line.split()[:3]
        if (where == mount or where.startswith(mount.rstrip("/") + "/")) and len(mount) >= len(best):
            best, kind = mount, mount_kind
    return kind


def disk_flushes(path: Path) -> int | None:
    """Return how many flush commands the disk under `path` has completed, or None when the kernel does not say."""
    device = path.stat().st_dev
    wanted = [str(os.major(device)), str(os.minor(device))]
    for line in Path("/proc/diskstats").read_text().splitlines():
        fields = line.split()
        if fields[:2] == wanted and len(fields) >= 20:
            return int(fields[18])
    return None


def free_port() -> int:
    """Return a port of 127.0.0.1 that nobody listens on, with port + 10000 free as well, both below 32768."""
    for _ in range(200):
        port = random.randint(PORT_FIRST, PORT_LAST)
        if is_free(port) and is_free(port + 10_000):
            return port
    raise RuntimeError(f"no free pair of ports between {PORT_FIRST} and {PORT_LAST + 10_000}")


def is_free(port: int) -> bool:
    """Return whether nobody listens on a port of 127.0.0.1."""
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
