"""A control group that limits the memory of processes, page cache included, where the machine lets us make one."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

_V1 = Path("/sys/fs/cgroup/memory")
_V2 = Path("/sys/fs/cgroup")


class MemoryGroup:
    """A group of its own with a limit in bytes. Skips the test where no group can be made. Ends with `close`."""

    def __init__(self, limit_bytes: int) -> None:
        is_v1 = (_V1 / "memory.limit_in_bytes").exists()
        self.path = (_V1 if is_v1 else _V2) / f"zattredis-test-{os.getpid()}-{limit_bytes}"
        self._events = self.path / ("memory.oom_control" if is_v1 else "memory.events")
        try:
            self.path.mkdir()
            (self.path / ("memory.limit_in_bytes" if is_v1 else "memory.max")).write_text(str(limit_bytes))
            if not is_v1:
                (self.path / "memory.swap.max").write_text("0")
        except OSError as error:
            if self.path.exists():
                self.path.rmdir()
            pytest.skip(f"no control group with a memory limit can be made here: {error}")

    def prefix(self) -> list[str]:
        """What is put before a command, so that it runs in the group."""
        return ["sh", "-c", f'echo $$ > {self.path}/cgroup.procs && exec "$@"', "sh"]

    def killed(self) -> int:
        """How many processes were killed because the limit could not be kept."""
        for line in self._events.read_text().splitlines():
            name, _, value = line.partition(" ")
            if name == "oom_kill":
                return int(value)
        return 0

    def holds(self, pid: int) -> bool:
        """Whether a process is in the group."""
        return str(pid) in (self.path / "cgroup.procs").read_text().split()

    def close(self) -> None:
        """Remove the group; its processes have ended."""
        self.path.rmdir()
