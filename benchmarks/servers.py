"""The servers that are measured: each starts, says which of its nodes leads, and is ended by its own process id."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import urllib.request
from functools import partial
from pathlib import Path

from benchmarks import machine
from benchmarks.client import Client, wait_for

READY_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 10.0
SOURCE = Path(__file__).resolve().parents[1]


class Process:
    """One child process with its output in a file beside its data."""

    def __init__(self, arguments: list[str], log: Path, source: Path = SOURCE) -> None:
        self.arguments = arguments
        self.log = log
        self._environment = {name: value for name, value in os.environ.items() if not name.startswith("ZATTREDIS_")}
        self._environment["PYTHONPATH"] = str(source)
        self._child: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The process id; raises RuntimeError when it was not started."""
        if self._child is None:
            raise RuntimeError(f"{self.arguments[0]} is not running")
        return self._child.pid

    @property
    def alive(self) -> bool:
        """Whether the process was started and has not ended."""
        return self._child is not None and self._child.poll() is None

    def start(self) -> None:
        """Start it; a process of an earlier start must have been ended."""
        if self.alive:
            raise RuntimeError(f"{self.arguments[0]} runs already")
        with self.log.open("ab") as output:
            self._child = subprocess.Popen(
                self.arguments,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=self._environment,
                cwd=self.log.parent,
            )

    def signal(self, number: int) -> None:
        """Send it a signal."""
        if self._child is not None:
            self._child.send_signal(number)

    def kill(self) -> None:
        """End it as a power cut of the process would (SIGKILL) and reap it."""
        if self._child is not None:
            self._child.kill()
            self._child.wait()

    def stop(self) -> None:
        """End it politely, or with SIGKILL when that takes longer than ten seconds."""
        if self._child is None:
            return
        self._child.terminate()
        try:
            self._child.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.kill()

    def wait(self, timeout_s: float) -> int:
        """Return its exit code; raises subprocess.TimeoutExpired."""
        if self._child is None:
            raise RuntimeError(f"{self.arguments[0]} is not running")
        return self._child.wait(timeout_s)

    def last_words(self) -> str:
        """Return the end of its output, for error messages."""
        try:
            return self.log.read_text(errors="replace")[-600:].strip()
        except OSError:
            return ""


class Group:
    """Servers that answer as one: a single server or a cluster."""

    title = ""
    speaks_resp = True

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.ports: list[int] = []
        self.processes: list[Process] = []

    @staticmethod
    def installed() -> bool:
        """Whether this machine has the server."""
        return True

    def start(self) -> None:
        """Start all processes and return when a write would be answered."""
        for process in self.processes:
            process.start()
        try:
            self.wait_ready()
        except (TimeoutError, RuntimeError) as error:
            words = "\n".join(process.last_words() for process in self.processes)
            self.stop()
            raise RuntimeError(f"{self.title} did not start: {error}\n{words}") from error

    def wait_ready(self, timeout_s: float = READY_TIMEOUT_S) -> None:
        """Return when every node answers and a write is acknowledged; raises TimeoutError."""
        for port in self.ports:
            wait_for(f"{self.title} on port {port}", partial(self._accepts_write, port), timeout_s)

    def _accepts_write(self, port: int) -> bool:
        if not all(process.alive for process in self.processes):
            raise RuntimeError("a process ended at once")
        with Client(port, timeout_s=5.0) as client:
            return bool(client.call("SET", "benchmark:ready", "1") in (b"OK", "OK"))

    def leader(self) -> int:
        """Return the position of the node that leads; 0 for a single server."""
        return 0

    @property
    def pids(self) -> list[int]:
        """Process ids of all nodes that run."""
        return [process.pid for process in self.processes if process.alive]

    def tidy(self) -> None:
        """Do between measurements what would otherwise disturb one."""

    def syncs(self) -> int | None:
        """Return how often all nodes have synced: by their own count, else the flushes of the disk, else None."""
        return machine.disk_flushes(self.directory)

    def stop(self) -> None:
        """End all processes."""
        for process in self.processes:
            process.stop()

    def version(self) -> str:
        """Return the server's version."""
        return ""


class RedisServer(Group):
    """One redis-server that syncs its append-only file before every reply."""

    title = "redis-server always"
    AOF_BYTES_MAX = 512 << 20

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        directory.mkdir(parents=True)
        self.ports = [machine.free_port()]
        settings = {
            "port": str(self.ports[0]), "bind": "127.0.0.1", "dir": str(directory), "save": "",
            "appendonly": "yes", "appendfsync": "always", "auto-aof-rewrite-percentage": "0", "maxclients": "15000",
        }  # fmt: skip
        arguments = ["redis-server", *(word for name, value in settings.items() for word in (f"--{name}", value))]
        self.processes = [Process(arguments, directory / "output.log")]

    @staticmethod
    def installed() -> bool:
        return shutil.which("redis-server") is not None

    def tidy(self) -> None:
        with Client(self.ports[0]) as client:
            if int(client.info("persistence").get("aof_current_size", "0")) < self.AOF_BYTES_MAX:
                return
            client.call("BGREWRITEAOF")
            wait_for(
                "redis-server's rewrite",
                lambda: (
                    client.info("persistence")["aof_rewrite_in_progress"] == "0"
                    and client.info("persistence")["aof_rewrite_scheduled"] == "0"
                ),
                timeout_s=60.0,
            )

    def version(self) -> str:
        with Client(self.ports[0]) as client:
            return "redis-server " + client.info("server")["redis_version"]


class Zattredis(Group):
    """One or three zattredis nodes, with default settings, of this source tree or of another."""

    def __init__(self, directory: Path, nodes: int, source: Path = SOURCE) -> None:
        super().__init__(directory)
        directory.mkdir(parents=True)
        self.title = "one node" if nodes == 1 else f"{nodes} nodes"
        self.node_ids = [f"n{number}" for number in range(1, nodes + 1)]
        while len(self.ports) < nodes:
            port = machine.free_port()
            if port not in self.ports:
                self.ports.append(port)
        cluster = ",".join(
            f"{node_id}=127.0.0.1:{port}" for node_id, port in zip(self.node_ids, self.ports, strict=True)
        )
        for node_id, port in zip(self.node_ids, self.ports, strict=True):
            arguments = [sys.executable, "-m", "zattredis", "--port", str(port), "--dir", str(self.data(node_id))]
            if nodes > 1:
                arguments += ["--node", node_id, "--cluster", cluster]
            self.processes.append(Process(arguments, directory / f"{node_id}.log", source))

    def data(self, node_id: str) -> Path:
        """Return the data directory of a node."""
        return self.directory / node_id

    def leader(self) -> int:
        return int(wait_for("a leader", self._find_leader, READY_TIMEOUT_S)) - 1

    def _find_leader(self) -> int:
        """Return the position of the leader plus one, or 0 when nobody leads or two claim to."""
        leaders = []
        for position, port in enumerate(self.ports):
            if not self.processes[position].alive:
                continue
            with Client(port, timeout_s=2.0) as client:
                if client.info("raft").get("raft_role") == "leader":
                    leaders.append(position + 1)
        return leaders[0] if len(leaders) == 1 else 0

    def syncs(self) -> int | None:
        total = 0
        for port in self.ports:
            with Client(port, timeout_s=5.0) as client:
                total += int(client.info("persistence")["storage_syncs"])
        return total

    def raft(self, position: int) -> dict[str, str]:
        """Return INFO raft of one node."""
        with Client(self.ports[position], timeout_s=5.0) as client:
            return client.info("raft")

    def version(self) -> str:
        import zattredis

        return f"zattredis {zattredis.__version__}"


class Etcd(Group):
    """Three etcd nodes with their defaults, except room for the benchmark's data."""

    title = "etcd, 3 nodes"
    speaks_resp = False

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        directory.mkdir(parents=True)
        while len(self.ports) < 3:
            port = machine.free_port()
            if port not in self.ports:
                self.ports.append(port)
        cluster = ",".join(f"e{number}=http://127.0.0.1:{port + 10_000}" for number, port in enumerate(self.ports, 1))
        for number, port in enumerate(self.ports, 1):
            client_url, peer_url = f"http://127.0.0.1:{port}", f"http://127.0.0.1:{port + 10_000}"
            settings = {
                "name": f"e{number}", "data-dir": str(directory / f"e{number}"),
                "listen-client-urls": client_url, "advertise-client-urls": client_url,
                "listen-peer-urls": peer_url, "initial-advertise-peer-urls": peer_url,
                "initial-cluster": cluster, "initial-cluster-state": "new",
                "logger": "zap", "log-outputs": "stderr", "quota-backend-bytes": str(8 << 30),
            }  # fmt: skip
            arguments = ["etcd", *(word for name, value in settings.items() for word in (f"--{name}", value))]
            self.processes.append(Process(arguments, directory / f"e{number}.log"))

    @staticmethod
    def installed() -> bool:
        return shutil.which("etcd") is not None

    def wait_ready(self, timeout_s: float = READY_TIMEOUT_S) -> None:
        wait_for(self.title, self._find_leader, timeout_s)

    def leader(self) -> int:
        return int(wait_for("etcd's leader", self._find_leader, READY_TIMEOUT_S)) - 1

    def _status(self, port: int) -> dict[str, str | dict[str, str]]:
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}/v3/maintenance/status", data=b"{}", headers={"Content-Type": "application/json"}
        )
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(request, timeout=5.0) as response:
            status: dict[str, str | dict[str, str]] = json.load(response)
            return status

    def _find_leader(self) -> int:
        for position, port in enumerate(self.ports):
            status = self._status(port)
            header = status["header"]
            if isinstance(header, dict) and status.get("leader") and status["leader"] == header["member_id"]:
                return position + 1
        return 0

    def version(self) -> str:
        return "etcd " + str(self._status(self.ports[0])["version"])


def raise_open_files(wanted: int) -> int:
    """Raise this process's and its children's limit of open files towards `wanted`; return the limit reached."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = max(soft, min(wanted, hard)) if hard != resource.RLIM_INFINITY else max(soft, wanted)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
    return limit
