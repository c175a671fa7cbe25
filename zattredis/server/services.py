"""What LOCAL commands ask of the node (`commands.context.ServerProtocol`), and the settings that change at run time."""

from __future__ import annotations

import asyncio
import ctypes
import gc
from collections.abc import Callable, Generator, Iterable
from typing import TYPE_CHECKING, Any

from zattredis.commands.context import ClientProtocol, Context, drain
from zattredis.commands.table import Flag, Kind, lookup, resolve
from zattredis.errors import ClusterDown, DefiniteError
from zattredis.observability.events import get_logger, set_level
from zattredis.raft import ready as events
from zattredis.server.access import Access
from zattredis.server.blocking import Unblocked
from zattredis.server.clients import ClientRegistry, ClientState
from zattredis.server.clock import monotonic
from zattredis.server.cluster_view import ClusterView
from zattredis.server.info import memory_stats, render, role_reply
from zattredis.server.latency import LatencyMonitor
from zattredis.server.proposals import NO_QUORUM
from zattredis.server.raft_admin import RaftAdmin
from zattredis.server.runtime_settings import RuntimeSettings
from zattredis.server.slowlog import Slowlog, redacted
from zattredis.server.statistics import Statistics
from zattredis.server.status import NodeStatus
from zattredis.server.units import Call, Unit

if TYPE_CHECKING:
    from zattredis.server.node import Node

WAIT_POLL_S = 0.005

_log = get_logger(room="raft")


class Services:
    """Implements ServerProtocol over the parts of a node."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._settings = RuntimeSettings(
            node.settings, node.config_file, lambda: node.applier.registers.parameters
        )  # fmt: skip
        self._settings.on_change(lambda settings: self.apply_settings())
        self._slowlog = Slowlog()
        self._latency = LatencyMonitor()
        node.dispatcher.local.note_slow = self.note_slow
        self._access = Access(
            self._settings, lambda: node.applier.registers.users, lambda: (*node.clients, *node.sentinel.clients),
            node.clock.wall_ms,
        )
        self._access.own_users()  # what is wrong with them is said before the node is heard of
        self._access.read_point = self._read_point
        self._access.others_may_know = lambda: node.core.leader_id is not None and len(node.core.membership.members) > 1
        self._access.on_refresh = self._apply_access
        self._access.on_opened = self._opened
        self._settings.agree_on_password = self._access.with_password
        self._settings.has_password = lambda: bool(self._access.default.passwords)
        self._raft = RaftAdmin(node)
        self.status = NodeStatus(node, self._settings)

    @property
    def clients(self) -> ClientRegistry:
        """All connections."""
        return self._node.clients

    @property
    def statistics(self) -> Statistics:
        """Counters."""
        return self._node.statistics

    @property
    def slowlog(self) -> Slowlog:
        """Slow commands."""
        return self._slowlog

    @property
    def latency(self) -> LatencyMonitor:
        """Latency spikes."""
        return self._latency

    @property
    def settings(self) -> RuntimeSettings:
        """CONFIG."""
        return self._settings

    @property
    def access(self) -> Access:
        """Who may come in."""
        return self._access

    def check_extension(self, name: str, digest: str) -> None:
        """Raise DefiniteError if a command of an extension cannot be executed now."""
        self._node.extensions.check(name, digest)

    def extensions(self) -> list[dict[str, Any]]:
        """Return the reply of EXTENSION LIST."""
        return self._node.extensions.facts()

    @property
    def cluster(self) -> RaftAdmin:
        """RAFT."""
        return self._raft

    @property
    def cluster_view(self) -> ClusterView | None:
        """CLUSTER; None unless the setting `cluster_view` is on."""
        return self._node.views.cluster_view

    def shown_as(self) -> tuple[bytes, bytes]:
        """Return the mode and the role that HELLO names; Redis calls a replica by that name there."""
        shown = self._node.views.presented()
        return shown.mode.encode(), b"master" if shown.role == "master" else b"replica"

    # -- settings that change at run time ----------------------------------------------------------------------------

    def apply_settings(self) -> None:
        """Put the present values in force; what is not named here is read from `node.settings` when it is needed."""
        current = self._settings.settings
        node = self._node
        if current.log_level != node.settings.log_level:  # at a start whoever set the log up has seen to it
            set_level(current.log_level)
        node.settings = current
        node.sync.slow_sync_ms = current.slow_sync_ms
        dispatcher = node.dispatcher
        dispatcher.maxclients = current.maxclients
        dispatcher.output_bytes_max = current.output_buffer_bytes_max
        dispatcher.output_soft = (current.output_buffer_soft_bytes, current.output_buffer_soft_s)
        dispatcher.query_bytes_max = current.query_buffer_bytes_max
        dispatcher.inflight_bytes_max = current.inflight_bytes_max
        dispatcher.keepalive_s = current.tcp_keepalive_s
        dispatcher.set_limits(current.proto_max_bulk_bytes, current.query_buffer_bytes_max)
        self._access.log.resize(current.acllog_max_len)
        self._access.refresh()
        dispatcher.stale_reads = current.read_mode == "stale"
        threshold_us = current.slowlog_log_slower_than_us
        dispatcher.local.slow_us = float("inf") if threshold_us < 0 else float(threshold_us)
        node.executor.slow_s = dispatcher.local.slow_us / 1e6
        self._slowlog.slower_than_us = threshold_us
        self._slowlog.resize(current.slowlog_max_len)
        self._latency.threshold_ms = self._settings.runtime.latency_monitor_threshold_ms
        node.statistics.latency_tracking = self._settings.runtime.latency_tracking
        node.housekeeping.check_memory()
        node.proposals.request_timeout_s = node.reads.request_timeout_s = current.request_timeout_ms / 1000

    def _apply_access(self) -> None:
        self._node.dispatcher.protected = self._node.settings.protected_mode == "yes" and self._access.default.nopass

    def _opened(self, client: ClientState) -> None:
        """A client need not authenticate any more."""
        client.connection.set_limits(self._node.dispatcher.limits(True))  # type: ignore[attr-defined]

    async def _read_point(self, client: ClientProtocol) -> bool:
        """Return True once everything is applied here that was committed when it was asked; False without a quorum."""
        call = await self._read(client, lambda ctx: None)
        return call.called

    # -- slow commands -----------------------------------------------------------------------------------------------

    def note_slow_unit(self, unit: Unit, argv: list[bytes], seconds: float) -> None:
        """A command of a unit was slow."""
        self.note_slow(unit.connection.state, argv, seconds)

    def note_slow(self, client: ClientState, argv: list[bytes], seconds: float) -> None:
        """A command was slow."""
        spec = lookup(argv[0])
        if spec is None or not spec.flags & Flag.SKIP_SLOWLOG:
            time_s = self._node.clock.wall_us() // 1_000_000
            self._slowlog.add(redacted(argv), int(seconds * 1e6), time_s, client.address, client.name)
        self.latency_event(b"command", seconds * 1000)

    def latency_event(self, event: bytes, milliseconds: float) -> None:
        """Something took long."""
        self._latency.record(event, int(milliseconds), self._node.clock.wall_us() // 1_000_000)

    # -- what LOCAL commands ask ---------------------------------------------------------------------------------------

    def time_us(self) -> int:
        """Return the wall clock in microseconds since 1970."""
        return self._node.clock.wall_us()

    def info(self, sections: Iterable[bytes], tls: bool = False) -> bytes:
        """Return the text of INFO."""
        return render(self.status, sections, tls)

    def role(self, tls: bool = False) -> list[Any]:
        """Return the reply of ROLE: a master, with the other members and how far they are, or a slave of the leader."""
        return role_reply(self.status.raft(), self.status.presented(), tls)

    def memory_stats(self) -> dict[bytes, Any]:
        """Return the reply of MEMORY STATS."""
        return memory_stats(self.status)

    def release_memory(self) -> None:
        """Give unused memory back to the operating system, as far as the C library can."""
        gc.collect()
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)

    def monitor(self, client: ClientProtocol) -> bool:
        """Show the client every command from now on; False if it is shown them already."""
        assert isinstance(client, ClientState)
        if client.monitoring:
            return False
        self._node.dispatcher.monitor(client.connection, self.time_us)  # type: ignore[arg-type]
        return True

    def last_save_s(self) -> int:
        """Return when the state was last flushed, in seconds since 1970."""
        return self._node.compaction.last_at_s

    def start_snapshot(self) -> bool:
        """Begin to flush the state and cut the log behind it; False if that is under way."""
        if self._node.compaction.running:
            return False
        self._node.compaction.start()
        return True

    async def save_snapshot(self) -> None:
        """Flush the state and cut the log behind it."""
        if self._node.compaction.running:
            raise DefiniteError("Background save already in progress")
        await self._node.compaction.start()

    def shut_down(self, *, now: bool, force: bool, save: bool | None) -> None:
        """Begin to end the process; everything is durable already, so `save` and `force` change nothing."""
        self._node.shut_down(now=now)

    def abort_shut_down(self) -> bool:
        """An end that has begun cannot be called off: no more clients are accepted."""
        return False

    async def execute(self, client: ClientProtocol, argv: list[bytes]) -> object:
        """Run a READ command for the client at a fresh read point; return its reply value or raise its error."""
        assert isinstance(client, ClientState)
        spec = resolve(argv)
        if spec.kind != Kind.READ:
            raise DefiniteError(f"'{spec.full_name}' does not only read")
        db = client.db

        def read(ctx: Context) -> object:
            ctx.db = db
            value = spec.handler(ctx, *argv[spec.words :])
            return drain(value) if isinstance(value, Generator) else value

        call = await self._read(client, read)
        if not call.called:
            raise ClusterDown(NO_QUORUM)
        if call.error is not None:
            raise call.error
        return call.value

    async def _read(self, client: ClientProtocol, read: Callable[[Context], object]) -> Call:
        """Call a function at a fresh read point; return the call, not `called` if none came."""
        assert isinstance(client, ClientState)
        done: asyncio.Future[Call] = asyncio.get_running_loop().create_future()

        def finished(call: Call) -> None:
            if not done.done():
                done.set_result(call)

        self._node.reads.submit(Call(client.connection, read, finished))  # type: ignore[arg-type]
        self._node.schedule()
        return await done

    async def sleep(self, seconds: float) -> None:
        """Return after that time; other clients go on."""
        await asyncio.sleep(seconds)

    async def wait_for_replicas(self, client: ClientProtocol, replicas: int, timeout_ms: int) -> int:
        """Return how many other members durably hold the client's last write. Raises Unblocked."""
        assert isinstance(client, ClientState)
        ended: list[bool] = []
        client.block(ended.append)
        deadline = monotonic() + timeout_ms / 1000 if timeout_ms else None
        try:
            while True:
                count = self._replicas_holding(client.last_write_index)
                if True in ended:
                    raise Unblocked
                if count >= replicas or ended or (deadline is not None and monotonic() >= deadline):
                    return count
                await asyncio.sleep(WAIT_POLL_S)
        finally:
            client.unblocked()

    def _replicas_holding(self, index: int) -> int:
        """Count the members beside one that hold the log up to `index`; what is acknowledged a majority holds."""
        node = self._node
        members = node.core.membership.members
        if node.driver.is_leader:
            matches = dict(node.housekeeping.leader_matches())
        else:
            matches = {node_id: status.match_index for node_id, status in node.housekeeping.members.items()}
        holding = sum(1 for node_id in members if matches.get(node_id, 0) >= index)
        return max(holding, len(node.core.membership.voters) // 2 + 1) - 1

    # -- Raft's events -------------------------------------------------------------------------------------------------

    def on_raft_event(self, event: events.Event) -> None:
        """Log what happened, with term and index."""
        node = self._node
        name, fields, level = _describe(event)
        if name:
            fields.setdefault("term", node.core.term)
            getattr(_log, level)(name, **fields, commit_index=node.core.commit_index)
        self.status.on_event(event)


def _describe(event: events.Event) -> tuple[str, dict[str, Any], str]:
    names = type(event).__struct_fields__
    fields: dict[str, Any] = {each: getattr(event, each) for each in names if each != "membership"}
    name = "".join("_" + c.lower() if c.isupper() else c for c in type(event).__name__).lstrip("_")
    if isinstance(event, events.MembershipChanged | events.MembershipCommitted):
        fields["members"] = list(event.membership.members)
    level = "warning" if isinstance(event, events.StorageHung | events.QuorumLost | events.MessageRefused) else "info"
    return name, fields, level
