"""Housekeeping: what a node does on timers, beside Raft's clock.

The leader proposes maintenance entries for keys past their expiry and for content that nothing names any more, one at a
time and bounded, and tells the others twice a second how far everyone is (for INFO and WAIT on every node, and to
compare clocks). Every node checks its log's size, and its disk's room (`disk_room`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from zattredis.errors import OutOfMemoryError, ReplyError
from zattredis.keyspace import maintenance
from zattredis.observability.events import get_logger
from zattredis.peer.messages import Introduction, StatusReport
from zattredis.raft.entry import MAINTENANCE
from zattredis.server.blocking import DROP_AFTER_S
from zattredis.server.clock import monotonic
from zattredis.server.digest import Mark
from zattredis.server.node_facts import read_memory
from zattredis.server.upgrades import FIRST_VERSION, STATE_MACHINE_VERSION, version_to_write

if TYPE_CHECKING:
    from zattredis.server.node import Node

MAINTENANCE_S: Final = 0.1
MAINTENANCE_STEPS: Final = 500
STATUS_S: Final = 0.5
CHECK_S: Final = 1.0
CLOCK_AHEAD_MS: Final = 10_000
"""A leader whose clock differs by more from the median of the voters' hands over."""
HAND_OVER_AGAIN_S: Final = 60.0

_log = get_logger(room="housekeeping")


class MemberStatus:
    """What is known of one member: how far its log matches the leader's, and when that was said."""

    __slots__ = (
        "disk_level", "heard_at", "machine_version", "match_index", "sentinel_port", "sentinel_tls_port", "tls_port",
        "wall_difference_ms",
    )  # fmt: skip

    def __init__(self) -> None:
        self.match_index = 0
        self.heard_at = 0.0
        self.wall_difference_ms: int | None = None
        self.sentinel_port = 0
        self.sentinel_tls_port = 0
        self.tls_port = 0
        self.disk_level = 0
        self.machine_version = FIRST_VERSION


class Housekeeping:
    """One per node."""

    __slots__ = (
        "_active_at", "_checked_at", "_handed_over_at", "_maintained_at", "_maintenance_under_way", "_memory_refusal",
        "_node", "_status_at", "_watching_since", "disk_refusal", "members", "reported_commit", "waiters",
    )  # fmt: skip

    def __init__(self, node: Node) -> None:
        self._node = node
        self._maintained_at = 0.0
        self._maintenance_under_way = False
        self._status_at = 0.0
        self._checked_at = 0.0
        self._handed_over_at = 0.0
        self._memory_refusal: ReplyError | None = None
        self.disk_refusal: ReplyError | None = None
        self._watching_since = 0.0
        self._active_at: dict[str, float] = {}
        self.members: dict[str, MemberStatus] = {}
        self.reported_commit = 0

    # -- timers ------------------------------------------------------------------------------------------------------

    def tick(self) -> None:
        """Called once a tick."""
        now = monotonic()
        self._note_active(now)
        if now - self._maintained_at >= MAINTENANCE_S:
            self._maintained_at = now
            self._maintain()
            self.check_memory()
            self._node.disk_room.check()
        if now - self._status_at >= STATUS_S:
            self._status_at = now
            self._node.rejoin.ask()
            self.report_status()
            self._compare_clocks(now)
            self._drop_silent(now)
        if now - self._checked_at >= CHECK_S:
            self._checked_at = now
            self._node.compaction.check()
            self._close_idle()
            self._node.backups.tick()

    # -- maintenance entries -----------------------------------------------------------------------------------------

    def _maintain(self) -> None:
        node = self._node
        if not node.driver.admission.ready or not node.driver.is_leader:
            self._maintenance_under_way = False
            return
        if self._maintenance_under_way or not node.applier.settled:
            return
        registers = node.applier.registers
        due = maintenance.has_dead(registers)
        if not due and maintenance.has_volatile(registers):
            due = maintenance.find_expired(node.applier.store, registers, node.clock.now_ms(), 1) > 0
        if due:
            payload = maintenance.encode_request(MAINTENANCE_STEPS)
            self._maintenance_under_way = node.driver.admission.propose(MAINTENANCE, payload) is not None

    def on_maintained(self) -> None:
        """A maintenance entry was applied: the next may follow soon, so that reclaiming keeps up with writing."""
        if self._maintenance_under_way:
            self._maintenance_under_way = False
            self._node.call_later(0.01, self._maintain_again)

    def _maintain_again(self) -> None:
        self._maintain()
        self._node.schedule()

    # -- who is how far ----------------------------------------------------------------------------------------------

    def report_status(self) -> None:
        """Tell every other member this node's wall clock and, as the leader, how far everyone is."""
        node = self._node
        core = node.core
        matches: list[tuple[str, int]] = []
        if node.driver.is_leader:
            matches = self.leader_matches()
            for node_id, index in matches:
                self._note(node_id, index)
            self.reported_commit = core.commit_index
            node.driver.admission.version = version_to_write(node)
        wall_ms = node.clock.wall_ms()
        mark = node.applier.digest.last
        settings = node.settings
        for node_id in core.membership.members:
            if node_id != core.node_id:
                node.network.send(
                    StatusReport(
                        core.node_id, node_id, core.term, core.commit_index, wall_ms, matches, settings.sentinel_port,
                        *mark, node.disk_room.level, STATE_MACHINE_VERSION, settings.tls_port_told,
                        settings.sentinel_tls_port,
                    )
                )  # fmt: skip

    def leader_matches(self) -> list[tuple[str, int]]:
        """Return, as the leader, up to where each member is known to hold the log durably."""
        core = self._node.core
        return [
            (node_id, core.durable_index if node_id == core.node_id else core.progress[node_id].match_index)
            for node_id in core.membership.members
            if node_id == core.node_id or node_id in core.progress
        ]

    def on_status(self, message: StatusReport) -> None:
        """Another member's report."""
        node = self._node
        status = self.members.setdefault(message.src, MemberStatus())
        status.heard_at = monotonic()
        status.disk_level = message.disk_level
        status.machine_version = message.machine_version
        node.agreement.on_report(message.src, Mark(message.digest_index, message.digest, message.digest_since))
        status.wall_difference_ms = message.wall_ms - node.clock.wall_ms()
        self._note_ports(status, message)
        if message.members and message.src == node.core.leader_id:
            self.reported_commit = message.commit_index
            for node_id, index in message.members:
                self._note(node_id, index)

    def on_introduction(self, message: Introduction) -> None:
        """A link to another node came up, and it says where it serves clients, before its first report."""
        if message.sentinel_port >= 0:
            self._note_ports(self.members.setdefault(message.src, MemberStatus()), message)

    @staticmethod
    def _note_ports(status: MemberStatus, message: StatusReport | Introduction) -> None:
        status.sentinel_port = message.sentinel_port
        status.sentinel_tls_port = message.sentinel_tls_port
        status.tls_port = message.tls_port

    def _note(self, node_id: str, index: int) -> None:
        self.members.setdefault(node_id, MemberStatus()).match_index = index

    def _compare_clocks(self, now: float) -> None:
        """A leader whose clock is far from the median of the voters' hands over (DESIGN §2.3)."""
        node = self._node
        core = node.core
        if not node.driver.is_leader or not core.other_voters or now - self._handed_over_at < HAND_OVER_AGAIN_S:
            return
        ahead = node.clock.ahead_ms()
        differences = [ahead * 0]
        for node_id in core.other_voters:
            status = self.members.get(node_id)
            if status is not None and status.wall_difference_ms is not None and now - status.heard_at < 2.0:
                differences.append(status.wall_difference_ms)
        if len(differences) <= len(core.other_voters) // 2:
            return
        median = sorted(differences)[len(differences) // 2]
        if abs(median) > CLOCK_AHEAD_MS:
            self._handed_over_at = now
            _log.warning("clock_differs", median_difference_ms=median, action="handing over the leadership")
            try:
                core.transfer_leader(None)
            except Exception as error:
                _log.info("no_hand_over", reason=str(error))

    def _note_active(self, now: float) -> None:
        """As the leader, while anybody waits, remember which nodes were heard of when."""
        node = self._node
        if not (node.driver.is_leader and node.applier.registers.waiters.by_session):
            self._watching_since = now
            self._active_at.clear()
            return
        for node_id, progress in node.core.progress.items():
            if progress.recent_active:
                self._active_at[node_id] = now

    def _drop_silent(self, now: float) -> None:
        """As the leader, drop the waiters of nodes that have been silent for a while (see `server.blocking`)."""
        node = self._node
        if not node.driver.is_leader or not node.driver.admission.ready:
            return
        for session in list(node.applier.registers.waiters.by_session):
            row = node.sessions.by_session.get(session)
            if row is None or row.node_id == node.core.node_id:
                continue
            heard_at = self._active_at.get(row.node_id, self._watching_since)
            if now - heard_at > DROP_AFTER_S:
                _log.info("waiters_dropped", peer=row.node_id, session=session)
                node.blocking.drop(session)

    # -- clients -----------------------------------------------------------------------------------------------------

    def _close_idle(self) -> None:
        """Close clients that were silent for longer than the setting allows; not those that wait for an answer."""
        node = self._node
        timeout_ms = node.settings.timeout_s * 1000
        if timeout_ms == 0:
            return
        now_ms = node.dispatcher.now_ms
        for client in node.clients:
            if now_ms - client.last_interaction_ms > timeout_ms and not client.blocked and not client.connection.busy:
                client.close("idle for longer than timeout")

    # -- memory ------------------------------------------------------------------------------------------------------

    def check_memory(self) -> None:
        """Have commands that may need memory refused while the process holds more than the setting allows."""
        limit = self._node.settings.maxmemory_bytes
        over = limit > 0 and read_memory().resident > limit
        if over != (self._memory_refusal is not None):
            self._memory_refusal = (
                OutOfMemoryError("command not allowed when used memory > 'maxmemory'.") if over else None
            )
            self.put_growth_refusal()
            _log.warning("memory_exceeded" if over else "memory_has_room", maxmemory_bytes=limit)

    def put_growth_refusal(self) -> None:
        """Have commands that may need more memory or disk refused for the first of these reasons that holds."""
        self._node.dispatcher.memory_refusal = self._memory_refusal or self.disk_refusal

    @property
    def disk_full(self) -> bool:
        """Whether writes are refused because too little disk is free."""
        return self._node.disk_room.refused > 0
