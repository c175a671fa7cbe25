"""Real zattd processes for tests: started, killed, paused, asked, and always ended.

Every process is ended by its own pid when the context ends, whatever happened in between. Nothing here sleeps for a
guessed time: readiness and convergence are asked for.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import hiredis

from tests.support.ports import free_port
from tests.support.resp_client import RespClient

REPOSITORY = Path(__file__).resolve().parents[2]
STARTUP = REPOSITORY / "tests" / "support" / "startup"
AS_ON_DISK = "ZATTREDIS_TEST_AS_ON_DISK"
WAIT_S = 120.0
POLL_S = 0.02
MEMORY = Path("/dev/shm")
MEMORY_WANTED_BYTES = 2 << 30


def wait_until(condition: Callable[[], bool], what: str, timeout_s: float = WAIT_S) -> None:
    """Ask until it holds. Raises AssertionError naming `what`."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout_s:.0f} s: {what}")
        time.sleep(POLL_S)


def memory_has_room() -> bool:
    """Whether there is a file system of memory that a few clusters at once do not fill."""
    return os.access(MEMORY, os.W_OK) and shutil.disk_usage(MEMORY).free >= MEMORY_WANTED_BYTES


class Node:
    """One server process and its files."""

    def __init__(self, name: str, host: str, port: int, directory: Path) -> None:
        self.name = name
        self.host = host
        self.port = port
        self.directory = directory
        self.flags: list[str] = []
        self.environment: dict[str, str] = {}
        self.prefix: list[str] = []  # put before the command, e.g. `ip netns exec …`
        self.process: subprocess.Popen[bytes] | None = None
        self.paused = False

    @property
    def data_directory(self) -> Path:
        return self.directory / "data"

    @property
    def running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def client(self, timeout_s: float = 30.0) -> RespClient:
        return RespClient(self.port, self.host, timeout_s)

    def raft(self) -> dict[str, str]:
        """INFO raft, or {} when the node does not answer now."""
        if not self.running or self.paused:
            return {}
        try:
            with self.client(timeout_s=2.0) as client:
                return client.info("raft")
        except (OSError, hiredis.ReplyError):
            return {}

    def facts(self) -> dict[str, str]:
        """INFO raft of a node that must answer, however busy the machine is."""
        with self.client() as client:
            return client.info("raft")

    def log(self) -> str:
        """What the process printed so far, both streams."""
        texts = []
        for stream in ("stdout", "stderr"):
            with contextlib.suppress(FileNotFoundError):
                texts.append((self.directory / stream).read_text(errors="replace"))
        return "".join(texts)

    def spawn(self, command: Sequence[str]) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        environment = {key: value for key, value in os.environ.items() if not key.startswith("ZATTREDIS_")}
        environment |= {"PYTHONPATH": f"{STARTUP}:{REPOSITORY}"} | self.environment
        with (self.directory / "stdout").open("ab") as out, (self.directory / "stderr").open("ab") as err:
            self.process = subprocess.Popen(
                [*self.prefix, *command],
                stdout=out,
                stderr=err,
                stdin=subprocess.DEVNULL,
                env=environment,
                cwd=self.directory,
            )
        self.paused = False

    def end(self, signal_number: int = signal.SIGKILL, timeout_s: float = 30.0) -> int:
        """Send the signal and wait for the end; returns the exit code. Raises AssertionError if it does not end."""
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(signal_number)
        try:
            code = self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise AssertionError(f"{self.name} did not end within {timeout_s:.0f} s of {signal_number!r}") from None
        self.paused = False
        return code


class ZattCluster:
    """N zattd processes. `nodes` are numbered from 0; all waiting methods raise AssertionError when time runs out.

    `flags` go to every node, `node_flags[i]` to one; `environment` holds `ZATTREDIS_…` settings. `in_memory` puts the
    data on a file system of memory, where there is one with room (a container's has 64 MiB), for tests whose time would
    go into waiting for the disk. A process that is killed leaves the same files on either; a power cut does not.
    Several nodes sync their logs as on a disk all the same, on threads.
    """

    def __init__(
        self,
        size: int = 3,
        *,
        flags: Sequence[str] = (),
        node_flags: Mapping[int, Sequence[str]] | None = None,
        environment: Mapping[str, str] | None = None,
        start: bool = True,
        in_memory: bool = False,
    ) -> None:
        shared_memory = str(MEMORY) if in_memory and memory_has_room() else None
        self.directory = Path(tempfile.mkdtemp(prefix="zattredis-test-", dir=shared_memory))
        self.start_at_once = start
        self.nodes: list[Node] = []
        for i in range(size):
            node = Node(f"n{i + 1}", "127.0.0.1", free_port(), self.directory / f"n{i + 1}")
            node.flags = [*flags, *(node_flags or {}).get(i, ())]
            node.environment = {**({AS_ON_DISK: "1"} if size > 1 else {}), **(environment or {})}
            self.nodes.append(node)

    # --- life

    def __enter__(self) -> ZattCluster:
        if self.start_at_once:
            try:
                self.start()
            except BaseException:
                self.close(failed=True)
                raise
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        self.close(failed=kind is not None)

    def close(self, failed: bool = False) -> None:
        for node in self.nodes:
            if node.running:
                assert node.process is not None
                node.process.kill()
        for node in self.nodes:
            if node.process is not None:
                node.process.wait()
        if failed:
            for node in self.nodes:
                tail = "\n".join(node.log().splitlines()[-25:])
                print(f"--- {node.name} on port {node.port}, last lines ---\n{tail}")
        if os.environ.get("ZATTREDIS_TEST_KEEP"):
            print(f"kept: {self.directory}")
        else:
            shutil.rmtree(self.directory, ignore_errors=True)

    def command(self, node: Node) -> list[str]:
        """The command line of a node."""
        command = [sys.executable, "-m", "zattredis", "--node", node.name, "--port", str(node.port)]
        command += ["--dir", str(node.data_directory)]
        if not node.host.startswith("127."):
            command += ["--protected-mode", "no"]
        if len(self.nodes) > 1:
            command += ["--cluster", ",".join(f"{other.name}={other.host}:{other.port}" for other in self.nodes)]
        return command + node.flags

    def start(self, timeout_s: float = WAIT_S) -> None:
        """Start every node that is not running and wait until all of them know a leader."""
        for node in self.nodes:
            if not node.running:
                self.spawn(node)
        self.wait_ready(timeout_s=timeout_s)

    def spawn(self, node: Node) -> None:
        """Start one node without waiting for it."""
        node.spawn(self.command(node))

    def wait_ready(self, nodes: Sequence[Node] | None = None, timeout_s: float = WAIT_S) -> None:
        """Until every given (default: every) node answers and knows a leader."""
        for node in self.nodes if nodes is None else nodes:

            def ready(node: Node = node) -> bool:
                assert node.process is not None
                if node.process.poll() is not None:
                    raise AssertionError(f"{node.name} ended with {node.process.returncode}:\n{node.log()[-2000:]}")
                return bool(self.is_ready(node))

            wait_until(ready, f"{node.name} answers and knows a leader", timeout_s)

    def is_ready(self, node: Node) -> bool:
        """Whether the node answers and knows a leader."""
        leader = node.raft().get("raft_leader_id", "")
        return leader not in ("", "none", "-", "?")

    def kill(self, i: int, signal_number: int = signal.SIGKILL) -> int:
        """End a node by a signal and wait for its end; returns the exit code."""
        return self.nodes[i].end(signal_number)

    def restart(self, i: int, wait: bool = True) -> None:
        """Start a node that has ended, with the same flags and data."""
        assert not self.nodes[i].running
        self.spawn(self.nodes[i])
        if wait:
            self.wait_ready([self.nodes[i]])

    def pause(self, i: int) -> None:
        os.kill(self.nodes[i].pid, signal.SIGSTOP)
        self.nodes[i].paused = True

    def resume(self, i: int) -> None:
        os.kill(self.nodes[i].pid, signal.SIGCONT)
        self.nodes[i].paused = False

    # --- asking

    def client(self, i: int = 0, timeout_s: float = 30.0) -> RespClient:
        return self.nodes[i].client(timeout_s)

    def leader(self) -> int | None:
        """The node that says it leads in the highest term, or None."""
        claims = []
        for i, node in enumerate(self.nodes):
            raft = node.raft()
            if raft.get("raft_role") == "leader":
                claims.append((int(raft["raft_current_term"]), i))
        return max(claims)[1] if claims else None

    def wait_leader(self, other_than: int | None = None, timeout_s: float = WAIT_S) -> int:
        """The number of the leader, once there is one that is not `other_than`."""
        found: list[int] = []

        def there() -> bool:
            leader = self.leader()
            if leader is None or leader == other_than:
                return False
            found.append(leader)
            return True

        wait_until(there, "a leader", timeout_s)
        return found[-1]

    def followers(self) -> list[int]:
        leader = self.wait_leader()
        return [i for i in range(len(self.nodes)) if i != leader]

    def wait_equal(self, timeout_s: float = WAIT_S) -> str:
        """Until all nodes have the same applied index and the same contents; returns the digest of the contents."""
        latest: list[tuple[str, ...]] = []

        def equal() -> bool:
            before = [node.raft().get("raft_applied_index") for node in self.nodes]
            if None in before or len(set(before)) != 1:
                latest[:] = [("applied", *map(str, before))]
                return False
            digests = [content_digest(node) for node in self.nodes]
            latest[:] = [("digests", *digests)]
            return len(set(digests)) == 1

        try:
            wait_until(equal, "all replicas equal", timeout_s)
        except AssertionError as error:
            raise AssertionError(f"{error}; last seen: {latest}") from None
        return latest[0][1]


def content_digest(node: Node) -> str:
    """A digest of all keys, values and expiry times this node itself holds (read without asking the leader)."""
    with node.client() as client:
        client.try_call("READONLY")
        total = hashlib.sha256()
        for database in range(16):
            client.call("SELECT", database)
            rows: list[bytes] = []
            cursor = b"0"
            while True:
                cursor, keys = client.call("SCAN", cursor, "COUNT", 1000)
                values = client.pipeline(("GET", key) for key in keys)
                for position, value in enumerate(values):
                    if isinstance(value, hiredis.ReplyError):  # not a string
                        values[position] = client.call("DUMP", keys[position])
                expiries = client.pipeline(("PEXPIRETIME", key) for key in keys)
                rows += [repr(row).encode() for row in zip(keys, values, expiries, strict=True)]
                if cursor == b"0":
                    break
            for row in sorted(set(rows)):
                total.update(b"%d:%b;" % (database, row))
    return total.hexdigest()
