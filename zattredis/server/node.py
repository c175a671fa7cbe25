"""The node: the composition root. It makes every part, connects them, and owns the order of a tick and of the end."""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import zattredis.commands  # noqa: F401  (fills the command table)
from zattredis.config import Settings
from zattredis.errors import ClusterDown, ConfigError, FatalError, StateDiverged
from zattredis.observability.events import get_logger
from zattredis.peer.control import JoinAnswer
from zattredis.peer.messages import ExtensionReport, Introduction, StatusReport
from zattredis.peer.network import PeerNetwork
from zattredis.peer.tls_listener import Refusals, TlsListener, cannot_listen
from zattredis.raft import ready as events
from zattredis.raft.core import Core
from zattredis.raft.entry import CONFIG, MAINTENANCE, Entry
from zattredis.raft.membership import Membership, simple_membership
from zattredis.raft.messages import Message
from zattredis.raft.ready import CoreConfig
from zattredis.resp.parser import ProtocolLimits
from zattredis.server import repair
from zattredis.server.applier import Applier
from zattredis.server.backups import Backups
from zattredis.server.blocking import Blocking
from zattredis.server.changes import Changes
from zattredis.server.clients import ClientRegistry
from zattredis.server.clock import Clock, monotonic, random_64
from zattredis.server.compaction import Compaction
from zattredis.server.connection import ClientConnection
from zattredis.server.digest import Agreement
from zattredis.server.disk_room import DiskRoom
from zattredis.server.dispatcher import Dispatcher
from zattredis.server.driver import Driver
from zattredis.server.executor import Executor
from zattredis.server.extensions import Extensions
from zattredis.server.housekeeping import Housekeeping
from zattredis.server.joining import answer_join, join
from zattredis.server.links import Links, removal
from zattredis.server.password_reset import PasswordReset
from zattredis.server.proposals import Proposals
from zattredis.server.reads import Reads
from zattredis.server.redirects import RedirectingDispatcher
from zattredis.server.rejoin import Rejoin
from zattredis.server.reloading import Reloading
from zattredis.server.repair import open_or_repair
from zattredis.server.security import HANDSHAKE_S, STRANGERS_MAX, Security, answer_to_plain, peer_tls, tell_who_comes_in
from zattredis.server.sentinel import SentinelPort
from zattredis.server.services import Services
from zattredis.server.sessions import Sessions
from zattredis.server.snapshots import Receiver, Snapshots
from zattredis.server.statistics import Statistics
from zattredis.server.views import Views
from zattredis.storage.datadir import DataDirectory, read_identity
from zattredis.storage.sync_thread import SyncThread

if TYPE_CHECKING:
    from zattredis.server.admin import AdminServer

_log = get_logger(room="node")

BACKLOG = 511
FENCED_S = 5.0
"""So long a fenced node still answers INFO, to say why it will end."""
FENCED = ClusterDown("this node is fenced: its data differs from what a majority holds; it ends and is repaired")
INLINE_BYTES_MAX = 64 << 10
ARGS_MAX = 1 << 20


def cluster_id_of(settings: Settings) -> str:
    """Return the id that all nodes started with the same voters agree on without talking to each other.

    A node on its own need not agree with anybody: its cluster gets an id that no other one has.
    """
    if len(settings.cluster) == 1:
        return f"{random_64():016x}{random_64() & 0xFFFF:04x}"
    text = "\n".join(sorted(member.node_id for member in settings.cluster))
    return hashlib.blake2b(text.encode(), digest_size=10, person=b"zattredis").hexdigest()


_OWN_ROOMS: Final = tuple(
    f"zattredis.{room}." for room in ("server", "storage", "peer", "raft", "keyspace", "commands")
)


def _from_server(error: object) -> bool:
    """Return whether an exception was raised in, or passed through, the code of a node."""
    trace = error.__traceback__ if isinstance(error, BaseException) else None
    while trace is not None:
        if str(trace.tb_frame.f_globals.get("__name__", "")).startswith(_OWN_ROOMS):
            return True
        trace = trace.tb_next
    return False


class Node:
    """One zattredis node. `start`, then `wait_stopped`; `stop` ends it in good order.

    Everything runs on the loop that `start` was called on, but syncs of the log, flushes and snapshots. With
    `owns_loop` every exception that nobody catches there ends the node; otherwise only those of the node's own code.
    """

    def __init__(
        self, settings: Settings, config_file: str | None = None, reread: Callable[[], Settings] | None = None, *,
        owns_loop: bool = True, functions: Sequence[Callable[..., Any]] = (),
    ) -> None:  # fmt: skip
        self.settings = settings
        self.config_file = config_file
        self.reloading = Reloading(self, reread)
        self._owns_loop = owns_loop
        self.extensions = Extensions(self, functions)
        self.clients = ClientRegistry()
        self.statistics = Statistics()
        self.clock = Clock()
        self.started_at = monotonic()
        self._stopped: asyncio.Future[None] | None = None
        self._stopping: asyncio.Task[None] | None = None
        self._scheduled = False
        self._servers: list[asyncio.Server | TlsListener] = []
        self._timer: asyncio.TimerHandle | None = None
        self._data: DataDirectory | None = None
        self._sync: SyncThread | None = None
        self._network: PeerNetwork | None = None
        self._open = False
        self._ended = False  # nothing is sent, written or applied any more
        self._open_for_hand_over = True
        self._shutting_down: asyncio.Task[None] | None = None
        self._departure: FatalError | None = None
        self.fenced: FatalError | None = None
        self._listening: asyncio.Task[None] | None = None
        self._admin: AdminServer | None = None
        self.peer_problem = ""  # why no other node can reach this one

    # -- what others ask ---------------------------------------------------------------------------------------------

    @property
    def leader(self) -> tuple[str | None, int]:
        """Id of the leader this node knows of, or None, and the term."""
        if not self._open:
            return None, 0
        return self.core.leader_id, self.core.term

    @property
    def membership(self) -> Membership:
        """Who belongs to the cluster, as this node's log has it. Once started."""
        return self.core.membership

    @property
    def data(self) -> DataDirectory:
        """The open data directory."""
        assert self._data is not None
        return self._data

    @property
    def sync(self) -> SyncThread:
        """The thread that makes the log durable."""
        assert self._sync is not None
        return self._sync

    @property
    def network(self) -> PeerNetwork:
        """The links to the other nodes."""
        assert self._network is not None
        return self._network

    @property
    def departing(self) -> bool:
        """Whether this node was removed from the cluster and is ending."""
        return self._departure is not None

    @property
    def ready(self) -> bool:
        """Whether this node takes its full part: it may vote, and the cluster has agreed on its extensions."""
        return self._open and not self.rejoin.owes_vote and self.extensions.ready

    @property
    def is_open(self) -> bool:
        """Whether the node runs."""
        return self._open

    def reload(self) -> None:
        """Read settings and certificates again and put in force what can be; what cannot is logged."""
        if self._open:
            self.reloading.reload()

    async def wait_stopped(self) -> None:
        """Return once the node has stopped by itself (SHUTDOWN) or by `stop`. Raises FatalError if it had to end."""
        assert self._stopped is not None
        await asyncio.shield(self._stopped)

    # -- start -------------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Open the data, the links and the client port. Raises FatalError, with everything closed again."""
        self._loop = loop = asyncio.get_running_loop()
        self._stopped = loop.create_future()
        self._handler_before = loop.get_exception_handler()
        loop.set_exception_handler(self._on_exception)
        settings = self.settings
        try:
            tls = peer_tls(settings)
        except ConfigError as error:
            raise FatalError(str(error)) from None
        self.security = Security(settings, tls)
        cluster_id, membership = await self._cluster()
        self._data = data = await open_or_repair(settings, cluster_id, membership, tls)
        try:
            self._compose(data)
            self._check_membership()
            self.extensions.check_state()
            await self._listen()
        except BaseException as error:
            if isinstance(error, FatalError):
                repair.note(Path(settings.dir), error)
            await self._close()
            raise
        self._open = True
        self._next_tick = loop.time()
        self._tick()
        _log.info(
            "node_started", node_id=settings.node_id, term=self.core.term, last_index=self.core.last_index,
            applied_index=self.core.applied_index, dir=str(data.path),
        )  # fmt: skip

    async def _cluster(self) -> tuple[str, bytes]:
        """Return the cluster's id and the membership to begin with: the data directory's own, where there is one."""
        settings = self.settings
        membership = simple_membership({member.node_id: member.address for member in settings.cluster}).encode()
        known = read_identity(settings.dir)
        if known is not None:
            return known.cluster_id, membership
        if settings.join:
            return await join(settings, self.security.peers)
        return cluster_id_of(settings), membership

    async def _on_join(self, node_id: str, address: str) -> JoinAnswer:
        return await answer_join(self, node_id, address)

    def _compose(self, data: DataDirectory) -> None:
        settings, loop = self.settings, self._loop
        self.sessions = Sessions()
        self.extensions.install()
        limits = ProtocolLimits(
            args_max=ARGS_MAX, bulk_bytes_max=settings.proto_max_bulk_bytes,
            query_bytes_max=settings.query_buffer_bytes_max, inline_bytes_max=INLINE_BYTES_MAX,
        )  # fmt: skip
        dispatcher_class = RedirectingDispatcher if settings.follower_mode == "redirect" else Dispatcher
        self.dispatcher = dispatcher_class(
            clients=self.clients, statistics=self.statistics, schedule=self.schedule, call_soon=loop.call_soon,
            limits=limits,
            limits_before_auth=dataclasses.replace(limits, authenticated=False), maxclients=settings.maxclients,
            output_bytes_max=settings.output_buffer_bytes_max, query_bytes_max=settings.query_buffer_bytes_max,
            inflight_bytes_max=settings.inflight_bytes_max,
        )  # fmt: skip
        self.views = Views(self)
        if isinstance(self.dispatcher, RedirectingDispatcher):
            self.dispatcher.moved_to = self.views.moved_to
        self.services = Services(self)
        self.executor = Executor(self.statistics, self.dispatcher.local.run_in_exec, self.services.note_slow_unit)
        self.applier = Applier(
            store=data.state, sessions=self.sessions, executor=self.executor, on_applied=self._on_applied,
            on_entry=self._on_entry, call_soon=self.call_soon, call_later=self.call_later,
            cache_bytes=settings.record_cache_bytes,
        )  # fmt: skip
        membership = self.applier.membership or Membership.decode(data.log.membership)
        self.core = Core(
            self._core_config(), data.log, data.log.hard_state, membership, self.applier.applied_index,
            random.Random(random_64()), last_stamp_ms=self.applier.last_stamp_ms,
        )  # fmt: skip
        self.clock.floor(self.core.last_stamp)
        self._sync = SyncThread(
            data.log, call_soon=loop.call_soon_threadsafe, on_durable=self._on_durable, on_failure=self.fail,
            on_slow=self._on_slow_sync, slow_sync_ms=settings.slow_sync_ms,
        )  # fmt: skip
        self._network = PeerNetwork(
            node_id=settings.node_id, cluster_id=data.identity.cluster_id, incarnation=data.identity.incarnation,
            listen=settings.peer_listen, secret=settings.cluster_secret.encode() or None, on_message=self._on_message,
            on_link=self._on_link, on_snapshot=self._on_snapshot, refusal=self._refusal,
            on_turned_away=self._on_turned_away, on_join=self._on_join,
            fallbacks={member.node_id: (member.host, member.peer_port) for member in settings.cluster},
            tls=self.security.peers,
        )  # fmt: skip
        self.driver = Driver(
            core=self.core, log=data.log, sync=self._sync, clock=self.clock, network=self._network,
            applier=self.applier, on_event=self._on_event, on_snapshot_needed=self._on_snapshot_needed,
            call_later=self.call_later,
        )  # fmt: skip
        retry_s = settings.election_timeout_ms / 1000
        timeout_s = settings.request_timeout_ms / 1000
        self.reads = Reads(
            source=self.applier, executor=self.executor, ask=self.driver.ask_read, call_soon=loop.call_soon,
            request_timeout_s=timeout_s, retry_s=retry_s, schedule=self.schedule,
            alone=lambda: len(self.core.membership.members) == 1,
        )  # fmt: skip
        self.proposals = Proposals(
            node_id=settings.node_id, sessions=self.sessions, transport=self.driver, on_reads=self.reads.submit_again,
            request_timeout_s=timeout_s, retry_s=retry_s, batch_bytes_max=settings.batch_bytes_max,
            batch_commands_max=settings.batch_commands_max, schedule=self.schedule,
        )  # fmt: skip
        self.applier.attach(self.proposals)
        self.applier.on_batch_done = self.reads.finish_after
        self.blocking = Blocking(
            proposals=self.proposals, waiters=lambda: self.applier.registers.waiters, schedule=self.schedule,
            call_later=self.call_later, executor=self.executor,
        )  # fmt: skip
        self.applier.on_popped = self.blocking.on_popped
        self.applier.on_waiters = self.blocking.on_waiters
        self.applier.on_sliced = self.reads.start_sliced
        self.driver.attach(self.proposals, self.reads)
        self.dispatcher.attach(self.services, self.proposals, self.reads, self.services.access)
        self.applier.on_users = self.services.access.refresh
        self._compose_upkeep(data)
        self.services.settings.on_change(lambda changed: self.security.follow(changed.settings, changed.named))
        self.services.apply_settings()
        self.remember_members()
        self._network.set_peers(self.links.peers())

    def _compose_upkeep(self, data: DataDirectory) -> None:
        """What goes on beside commands: log and snapshots, agreement among the nodes, membership, room on the disk."""
        settings = self.settings
        self.compaction = Compaction(
            core=self.core, log=data.log, applier=self.applier, clock=self.clock,
            size_max=settings.log_compaction_bytes, entries_max=settings.log_compaction_entries,
            retain_bytes=settings.log_retain_for_followers_bytes,
        )  # fmt: skip
        self.snapshots = Snapshots(self)
        self.backups = Backups(self)
        self.agreement = Agreement(self.applier.digest, lambda: self.core.membership.voters, self.fence)
        ports = (settings.sentinel_port, settings.tls_port_told, settings.sentinel_tls_port)
        self.rejoin = Rejoin(self.core, data.path, self.network.send, self._leading_committed, self._on_may_vote, ports)
        self.driver.may_vote = self.rejoin.done
        self.housekeeping = Housekeeping(self)
        self.disk_room = DiskRoom(self)
        self.changes = Changes(self)
        self.links = Links(self)
        self.sentinel = SentinelPort(self)
        self.password_reset = PasswordReset(self, data.path)
        self.reloading.hooks["aclfile"] = self.services.access.reread

    def _core_config(self) -> CoreConfig:
        settings = self.settings
        ticks = max(2, -(-settings.election_timeout_ms // settings.tick_ms))
        return CoreConfig(
            node_id=settings.node_id,
            election_timeout_ticks=ticks,
            heartbeat_ticks=min(max(1, -(-settings.heartbeat_ms // settings.tick_ms)), ticks - 1),
            window_entries=settings.raft_window_entries,
            window_bytes=settings.raft_window_bytes,
            message_bytes_max=settings.raft_message_bytes_max,
            uncommitted_bytes_max=settings.uncommitted_bytes_max,
            apply_bytes_max=settings.apply_bytes_max,
        )

    def _check_membership(self) -> None:
        """Raise NodeRemoved for a node that knows it was removed; say where settings and membership differ.

        The membership in the data directory counts: the settings' cluster only begins one. A removal that is perhaps
        not agreed does not count: this node alone may hold what the others need to elect anybody
        (`RaftState.may_campaign`). If it is agreed after all, the others turn the node away.
        """
        membership, node_id = self.core.membership, self.core.node_id
        agreed = self.core.membership_index <= self.core.commit_index
        if agreed and node_id in membership.removed and not membership.is_member(node_id):
            raise removal(self, f"before entry {self.core.applied_index}")
        told = {member.node_id: member.address for member in self.settings.cluster}
        if self.settings.source("cluster") != "default" and told != dict(membership.addresses):
            _log.warning(
                "membership_differs", membership=[f"{i}={a}" for i, a in membership.addresses.items()],
                cluster_setting=[f"{i}={a}" for i, a in told.items()],
                hint="the membership counts; change it with RAFT ADD and RAFT REMOVE",
            )  # fmt: skip

    async def _listen(self) -> None:
        try:
            await self.network.start()
        except FatalError as error:
            if len(self.core.membership.members) > 1:
                raise
            self.peer_problem = str(error)  # it need not be reached as long as it is alone
            _log.warning("no_peer_port", reason=str(error))
        for host, port in self.settings.tls_listen:
            await self._listen_tls(host, port)
        for host, port in () if self.settings.tls_only else self.settings.client_listen:
            try:
                server = await self._loop.create_server(
                    lambda: ClientConnection(self.dispatcher), host, port, backlog=BACKLOG, reuse_address=True
                )
            except OSError as error:
                raise cannot_listen("clients", host, port, error) from error
            self._servers.append(server)
        if self.settings.admin_listen is not None:
            from zattredis.server.admin import AdminServer  # the console's pages, metrics and HTTP: few nodes have them

            self._admin = AdminServer(self)
            await self._admin.start(*self.settings.admin_listen)
        await self.sentinel.listen()
        tell_who_comes_in(self.settings, self.services.access.default.nopass)

    async def _listen_tls(self, host: str, port: int) -> None:
        listener = TlsListener(
            context=self.security.client_context, make=lambda: ClientConnection(self.dispatcher),
            answer=answer_to_plain, on_refused=Refusals("client_refused").tell, handshake_s=HANDSHAKE_S,
            strangers_max=STRANGERS_MAX,
        )  # fmt: skip
        try:
            await listener.start(host, port, BACKLOG)
        except OSError as error:
            raise cannot_listen("clients over TLS", host, port, error) from error
        self._servers.append(listener)

    # -- ticks -------------------------------------------------------------------------------------------------------

    def schedule(self) -> None:
        """Ask for the end-of-tick work, once."""
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._end_of_tick)

    def _end_of_tick(self) -> None:
        """Everything that one tick's events gathered, in this order: writes, reads, Raft, replies, peers."""
        self._scheduled = False
        if self._ended:
            if self.fenced is not None:
                self.dispatcher.flush()
            return
        self.blocking.flush()
        self.proposals.flush()
        self.reads.flush()
        self.driver.pump()
        self.dispatcher.flush()
        self.network.flush()

    def _tick(self) -> None:
        """Raft's clock, and everything that only has to happen now and then."""
        now = self._loop.time()
        self._next_tick = max(self._next_tick + self.settings.tick_ms / 1000, now)
        self._timer = self._loop.call_at(self._next_tick, self._tick)
        self.dispatcher.now_ms = self.clock.wall_ms()
        self.driver.on_tick()
        self.proposals.tick()
        self.reads.tick()
        self.dispatcher.tick()
        self.housekeeping.tick()
        self.changes.tick()
        self.links.tick()
        self.extensions.tick()
        self.password_reset.tick()
        self.schedule()

    # -- what comes from below -----------------------------------------------------------------------------------------

    def _on_durable(self, write_number: int) -> None:
        if self._open:
            self.driver.on_synced(write_number)
            self.schedule()

    def _on_slow_sync(self, milliseconds: float) -> None:
        _log.warning("slow_sync", milliseconds=round(milliseconds, 1), term=self.core.term)
        self.services.latency_event(b"fsync", milliseconds)

    def _on_message(self, message: Message) -> None:
        if self._ended:
            return
        if isinstance(message, Introduction):
            self.links.on_introduction(message)
            self.housekeeping.on_introduction(message)
            self.rejoin.on_introduction(message)
        elif isinstance(message, StatusReport):
            self.housekeeping.on_status(message)
        elif isinstance(message, ExtensionReport):
            self.extensions.on_report(message)
        elif not self.changes.on_message(message) and self.disk_room.admits(message):
            self.driver.on_message(message)
        self.schedule()

    def _on_link(self, node_id: str, up: bool) -> None:
        if not self._open:
            return
        self.driver.on_link(node_id, up)
        self.extensions.on_link(node_id, up)
        if up:
            self.rejoin.introduce_to(node_id)
        self.schedule()

    def _on_entry(self, entry: Entry) -> None:
        self.driver.on_entry_applied(entry)
        if entry.kind == MAINTENANCE:
            self.housekeeping.on_maintained()
        elif entry.kind == CONFIG:
            self.links.on_applied(entry.index)

    def _on_applied(self, index: int) -> None:
        self.driver.on_applied(index)
        self.dispatcher.room()
        self.schedule()

    def _on_may_vote(self) -> None:
        self.driver.may_vote = True

    def _leading_committed(self) -> bool:
        return self.driver.is_leader and self.core.commit_index >= self.core.term_start_index

    def _on_event(self, event: events.Event) -> None:
        self.dispatcher.is_leader = self.driver.is_leader
        self.views.on_event(event)
        self.services.on_raft_event(event)
        if isinstance(event, events.MembershipChanged):
            self.links.on_changed(event.membership)
            self.remember_members()

    def _on_snapshot_needed(self, node_id: str) -> None:
        self.snapshots.send_to(node_id)

    def _on_snapshot(self, node_id: str, manifest: bytes) -> Receiver:
        return self.snapshots.receive_from(node_id, manifest)

    def _refusal(self, node_id: str) -> str:
        return self.links.refusal(node_id)

    def _on_turned_away(self, node_id: str) -> None:
        if self._open:
            self.links.on_turned_away(node_id)

    def need_peer_port(self) -> None:
        """The cluster has other members now: listen for them, if that was not possible at the start."""
        if self.peer_problem and self._open and self._listening is None and len(self.core.membership.members) > 1:
            self._listening = self._loop.create_task(self._listen_late())

    async def _listen_late(self) -> None:
        try:
            await self.network.start()
            self.peer_problem = ""
        except FatalError as error:
            self.fail(error)

    # -- the end -----------------------------------------------------------------------------------------------------

    def remember_members(self) -> None:
        """Keep whom to ask, should this directory be damaged one day."""
        membership = self.core.membership
        self.data.remember_members(membership.voters, membership.addresses)

    def fence(self, reason: str) -> None:
        """This node's state is wrong: it takes part in nothing more, says so to whoever asks, and ends."""
        if self.fenced is None and self._open:
            self.fenced = error = StateDiverged(reason)
            self._open = False
            self._ended = True
            _log.critical("fenced", error=reason, term=self.core.term, applied_index=self.core.applied_index)
            repair.note(self.data.path, error)
            self.dispatcher.fence(FENCED)
            for client in list(self.clients):
                client.connection.transport.abort()  # type: ignore[attr-defined]
            self._loop.call_later(FENCED_S, self.fail, error)

    def fail(self, error: BaseException) -> None:
        """The node cannot go on: it acknowledges and votes no more; `wait_stopped` raises. Recovery is from disk."""
        if self._stopped is None or self._stopped.done():
            return
        self._open = False
        self._ended = True
        if self._timer is not None:
            self._timer.cancel()
        fatal = error if isinstance(error, FatalError) else FatalError(f"{type(error).__name__}: {error}")
        if self._data is not None:
            repair.note(self._data.path, fatal)
        core = getattr(self, "core", None)  # there is none yet while a damaged node waits for the others
        where = {} if core is None else {"term": core.term, "applied_index": core.applied_index}
        _log.critical("fatal", error=str(fatal), **where)
        if fatal is not error:
            fatal.__cause__ = error
        self._stopped.set_exception(fatal)

    def _on_exception(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """An exception that nobody caught: an impossible state, after which nothing can be trusted."""
        error = context.get("exception")
        if not (self._owns_loop or (error is not None and _from_server(error))):
            if self._handler_before is None:
                loop.default_exception_handler(context)
            else:
                self._handler_before(loop, context)
            return
        if isinstance(error, ConnectionError | TimeoutError):
            return  # a socket's own trouble, which its connection_lost has seen
        _log.error("unhandled", message=str(context.get("message")), exc_info=error)
        self.fail(error if isinstance(error, BaseException) else FatalError(str(context.get("message"))))

    def shut_down(self, *, now: bool) -> None:
        """Begin to end, as SHUTDOWN asks: in good order, or without handing over and finishing."""
        if now:
            self._open_for_hand_over = False
        self._shutting_down = self._loop.create_task(self.stop())

    def depart(self, reason: FatalError) -> None:
        """This node was removed from the cluster: answer what can be answered, and end with that reason."""
        if self._departure is None and self._open:
            self._departure = reason
            _log.warning("removed", reason=str(reason), term=self.core.term)
            self.schedule()
            self._shutting_down = self._loop.create_task(self.stop())

    def call_later(self, seconds: float, function: Callable[[], None]) -> None:
        """Call a function on the loop, unless the node has ended by then."""
        self._loop.call_later(seconds, self._unless_ended, function)

    def call_soon(self, function: Callable[[], None]) -> None:
        """Call a function in the next turn of the loop, unless the node has ended by then."""
        self._loop.call_soon(self._unless_ended, function)

    def _unless_ended(self, function: Callable[[], None]) -> None:
        if not self._ended:
            function()

    def release_loop(self) -> None:
        """Give the loop's exceptions back to whoever had them before `start`; to be called once it has stopped."""
        if self._loop.get_exception_handler() == self._on_exception:
            self._loop.set_exception_handler(self._handler_before)

    async def stop(self) -> None:
        """Stop accepting, hand leadership over, finish what was accepted, flush, close. Harmless when repeated."""
        if self._stopping is None:
            self._stopping = asyncio.get_running_loop().create_task(self._stop())
        await asyncio.shield(self._stopping)

    async def _stop(self) -> None:
        if self._open and self._open_for_hand_over:
            self.dispatcher.accepting = False
            for server in self._servers:
                server.close()
            for client in self.clients:
                client.connection.stop_reading()  # type: ignore[attr-defined]
            self.blocking.stop()
            deadline = monotonic() + self.settings.shutdown_timeout_ms / 1000
            await self._until(
                lambda: self.proposals.idle and self.reads.idle and self.blocking.idle and not self.changes.asked,
                deadline,
            )
            await self._hand_over(deadline)
        await self._close()
        if self._stopped is not None and not self._stopped.done():
            reason = self._departure or self.fenced
            if reason is None:
                self._stopped.set_result(None)
            else:
                self._stopped.set_exception(reason)

    async def _hand_over(self, deadline: float) -> None:
        """Give the leadership to another voter, if there is one that lives."""
        core = self.core
        if not self.driver.is_leader or not core.other_voters:
            return
        try:
            core.transfer_leader(None)
        except Exception as error:
            _log.info("no_hand_over", reason=str(error))
            return
        self.schedule()
        await self._until(lambda: not self.driver.is_leader or core.transferring_to is None, deadline)
        _log.info("handed_over", leader_id=core.leader_id, term=core.term)

    async def _until(self, condition: Callable[[], bool], deadline: float) -> None:
        while self._open and not condition() and monotonic() < deadline:
            await asyncio.sleep(0.002)

    async def _close(self) -> None:
        """Close everything that is open, the data last, so that it is flushed and nothing writes behind it."""
        was_open, self._open = self._open, False
        if self._admin is not None:
            self._admin.close()
        if self._timer is not None:
            self._timer.cancel()
        for server in self._servers:
            server.close()
        if self._data is not None and hasattr(self, "sentinel"):
            self.sentinel.close()
        if was_open:
            self.dispatcher.flush()
            for client in self.clients:
                client.connection.transport.close()  # type: ignore[attr-defined]
            await asyncio.sleep(0)
            self.reads.stop()
            await self.snapshots.stop()
            if self.compaction.running:
                await self.compaction.start()
        self._ended = True
        if self._data is not None and hasattr(self, "applier"):
            self.applier.stop()
        self.extensions.close()
        if self._network is not None:
            await self._network.close()
        if self._sync is not None:
            await self._loop.run_in_executor(None, self._sync.close)
        if self._data is not None:
            await self._loop.run_in_executor(None, self._data.close)
