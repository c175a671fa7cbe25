"""A node without network, storage and clock, for LOCAL commands: everything they need of a server, in memory."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import zattredis.commands
from tests.support.differential import Backend, words
from tests.support.resp_client import Argument
from zattredis.commands.context import NO_REPLY, ClientProtocol, ClusterViewProtocol, LocalContext
from zattredis.commands.table import Flag, resolve
from zattredis.config import make_settings
from zattredis.errors import DefiniteError, NoAuth, ReplyError
from zattredis.resp.replies import encode
from zattredis.server import info
from zattredis.server.access import Access
from zattredis.server.clients import ClientRegistry, ClientState
from zattredis.server.latency import LatencyMonitor
from zattredis.server.node_facts import (
    DatabaseFacts,
    FlowFacts,
    MemberFacts,
    Presented,
    RaftFacts,
    SnapshotFacts,
    StorageFacts,
)
from zattredis.server.runtime_settings import RuntimeSettings
from zattredis.server.slowlog import Slowlog
from zattredis.server.statistics import Statistics

assert zattredis.commands

START_US = 1_700_000_000_000_000


class FakeConnection:
    """What a ClientState needs of its connection."""

    def __init__(self) -> None:
        self.closed: list[str] = []
        self.bytes = (0, 0)
        self.busy = False

    def close(self, reason: str) -> None:
        self.closed.append(reason)

    def buffered(self) -> tuple[int, int]:
        return self.bytes


class FakeCluster:
    """Implements RaftProtocol; `asked` is what it was asked for."""

    def __init__(self) -> None:
        self.asked: list[Any] = []

    def status(self) -> dict[str, Any]:
        return {"node_id": "n1"}

    def members(self) -> list[dict[str, Any]]:
        return [{"id": "n1"}]

    async def change(self, **wanted: Any) -> None:
        self.asked.append({name: value for name, value in wanted.items() if value})

    async def transfer(self, target: bytes) -> str:
        self.asked.append(target)
        return "n2"

    def log(self, first: int | None, count: int) -> list[Any]:
        self.asked.append((first, count))
        return []


class LocalServer:
    """Implements ServerProtocol and NodeFacts; `now_us` is its clock, which the test moves."""

    def __init__(self, **settings: Any) -> None:
        self.now_us = START_US
        self.clients = ClientRegistry()
        self.statistics = Statistics()
        self.slowlog = Slowlog()
        self.latency = LatencyMonitor()
        self.cluster = FakeCluster()
        self.cluster_view: ClusterViewProtocol | None = None
        self.shown = Presented()
        self.settings = RuntimeSettings(make_settings(**settings))
        self.access = Access(self.settings, clients=lambda: self.clients, now_ms=lambda: self.now_us // 1000)
        self.settings.on_change(lambda _settings: self.access.refresh())
        self.started_us = START_US - 90_061_000_000
        self.run_id = "0123456789" * 4
        self.startup_bytes = 1
        self.config_file = ""
        self.snapshotting = False
        self.shutdowns: list[tuple[bool, bool, bool | None]] = []
        self.shutting_down = False
        self.slept: list[float] = []
        self.replicas = 2
        self.purged = 0
        self.executed: dict[tuple[bytes, ...], object] = {}
        self.raft_facts = RaftFacts(
            node_id="n1", cluster_id="c1", state="up", role="leader", leader_id="n1", term=3, commit_index=40,
            applied_index=39, first_index=11, last_index=41, durable_index=41, snapshot_index=10, snapshot_term=2,
            uncommitted_bytes=77,
            members=(
                MemberFacts("n1", "127.0.0.1:7001@17001", "leader", 41, 0, True),
                MemberFacts("n2", "[::1]:7002", "follower", 30, 11, True),
                MemberFacts("n3", "127.0.0.1:7003", "unknown"),
            ),
        )  # fmt: skip

    # -- ServerProtocol --------------------------------------------------------------------------------------------

    def time_us(self) -> int:
        return self.now_us

    def info(self, sections: Iterable[bytes], tls: bool = False) -> bytes:
        return info.render(self, sections, tls)

    def role(self, tls: bool = False) -> list[Any]:
        return info.role_reply(self.raft(), self.shown, tls)

    def shown_as(self) -> tuple[bytes, bytes]:
        return self.shown.mode.encode(), self.shown.role.encode()

    def memory_stats(self) -> dict[bytes, Any]:
        return info.memory_stats(self)

    def release_memory(self) -> None:
        self.purged += 1

    def monitor(self, client: ClientProtocol) -> bool:
        return True

    def last_save_s(self) -> int:
        return START_US // 1_000_000

    def start_snapshot(self) -> bool:
        started, self.snapshotting = not self.snapshotting, True
        return started

    async def save_snapshot(self) -> None:
        if self.snapshotting:
            raise DefiniteError("Background save already in progress")

    def shut_down(self, *, now: bool, force: bool, save: bool | None) -> None:
        self.shutdowns.append((now, force, save))

    def abort_shut_down(self) -> bool:
        return self.shutting_down

    async def wait_for_replicas(self, client: ClientProtocol, replicas: int, timeout_ms: int) -> int:
        return self.replicas

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)

    async def execute(self, client: ClientProtocol, argv: list[bytes]) -> object:
        return self.executed.get(tuple(argv))

    # -- NodeFacts -------------------------------------------------------------------------------------------------

    def raft(self) -> RaftFacts:
        return self.raft_facts

    def presented(self) -> Presented:
        return self.shown

    def storage(self) -> StorageFacts:
        return StorageFacts("/data", log_bytes=1000, state_bytes=2000, free_bytes=3000, syncs=5, sync_usec=900)

    def snapshots(self) -> SnapshotFacts:
        return SnapshotFacts(count=1, last_time_s=START_US // 1_000_000, entries_since=7)

    def databases(self) -> Sequence[DatabaseFacts]:
        return [DatabaseFacts(0, 10, 2, 500), DatabaseFacts(3, 1, 0)]

    def flow(self) -> FlowFacts:
        return FlowFacts(inflight_bytes=123, batches=4, batch_commands=9)


class LocalClient:
    """A connection to a LocalServer: a Backend (see `tests.support.differential`) for LOCAL commands alone."""

    def __init__(self, server: LocalServer | None = None) -> None:
        self.server = server or LocalServer()
        number = self.server.clients.next_id()
        self.connection = FakeConnection()
        self.state = ClientState(
            number, self.connection, self.server.now_us // 1000,
            address=f"127.0.0.1:{40_000 + number}", local_address="127.0.0.1:6379", fd=8,
        )  # fmt: skip
        self.server.access.greet(self.state)
        self.server.clients.add(self.state)
        self.context = LocalContext(self.state, self.server, [])

    def use(self, resp: int) -> None:
        self.state.resp = resp

    def value(self, argv: Sequence[bytes]) -> Any:
        """Return the reply value of a command line, an error as a value too."""
        words = list(argv)
        try:
            spec = resolve(words)
            if not self.state.authenticated and not spec.flags & Flag.NO_AUTH:
                raise NoAuth
            self.state.last_spec = spec
            self.context.argv = words
            value = spec.handler(self.context, *spec.arguments(words))
            return asyncio.run(value) if inspect.iscoroutine(value) else value
        except ReplyError as error:
            return error

    def call(self, line: str) -> Any:
        """Return the reply value of a command line whose words are split at blanks; raises its ReplyError."""
        value = self.value([word.encode() for word in line.split()])
        if isinstance(value, ReplyError):
            raise value
        return value

    def execute(self, argv: Sequence[bytes]) -> bytes:
        """Return the reply as bytes, empty if CLIENT REPLY says that there is none."""
        try:
            spec = resolve(list(argv))
            dropped = self.state.mute and self.state.drops_reply(spec)
        except ReplyError:
            dropped = self.state.mute
            self.state.skip_used()
        value = self.value(argv)
        return b"" if dropped or value is NO_REPLY else encode(value, self.state.resp)


def compare_lines(
    ours: Backend,
    real: Backend,
    lines: Sequence[str | Sequence[Argument]],
    normalize: Callable[[list[bytes], bytes], Any] = lambda _argv, reply: reply,
) -> None:
    """Assert that both answer every line alike, with all that came before still in force."""
    for line in lines:
        argv = words(line)
        got, expected = normalize(argv, ours.execute(argv)), normalize(argv, real.execute(argv))
        assert got == expected, argv
