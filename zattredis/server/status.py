"""The node's own account of itself: implements `facts.NodeFacts` over the parts of a node."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from zattredis.keyspace.maintenance import keyspace_statistics
from zattredis.raft import ready as events
from zattredis.server.clients import ClientRegistry
from zattredis.server.clock import random_64
from zattredis.server.node_facts import (
    DatabaseFacts,
    FlowFacts,
    MemberFacts,
    Presented,
    RaftFacts,
    SnapshotFacts,
    StorageFacts,
    read_memory,
)
from zattredis.server.runtime_settings import RuntimeSettings
from zattredis.server.statistics import Statistics

if TYPE_CHECKING:
    from zattredis.server.node import Node

STATE_SIZE_PROPERTIES: Final = ("rocksdb.total-sst-files-size", "rocksdb.cur-size-all-mem-tables")


class NodeStatus:
    """Counts Raft's events and gathers everything else when it is asked for."""

    __slots__ = (
        "_node", "elections", "leader_changes", "leader_since_us", "run_id", "settings", "started_us", "startup_bytes",
    )  # fmt: skip

    def __init__(self, node: Node, settings: RuntimeSettings) -> None:
        self._node = node
        self.settings = settings
        self.startup_bytes = read_memory().resident
        self.started_us = node.clock.wall_us()
        self.run_id = "".join(f"{random_64():016x}" for _ in range(3))[:40]
        self.elections = 0
        self.leader_changes = 0
        self.leader_since_us = 0

    def on_event(self, event: events.Event) -> None:
        """Count an event of Raft."""
        if isinstance(event, events.ElectionStarted):
            self.elections += 1
        elif isinstance(event, events.LeaderChanged) and event.leader_id is not None:
            self.leader_changes += 1
            self.leader_since_us = self.time_us()

    @property
    def clients(self) -> ClientRegistry:
        """All connections."""
        return self._node.clients

    @property
    def statistics(self) -> Statistics:
        """Counters."""
        return self._node.statistics

    @property
    def config_file(self) -> str:
        """The settings file, empty if there is none."""
        return self._node.config_file or ""

    def time_us(self) -> int:
        """Return the wall clock in microseconds since 1970."""
        return self._node.clock.wall_us()

    # -- Raft --------------------------------------------------------------------------------------------------------

    def raft(self) -> RaftFacts:
        """Return Raft's state."""
        node = self._node
        core, log = node.core, node.data.log
        return RaftFacts(
            node_id=core.node_id,
            cluster_id=node.data.identity.cluster_id,
            state=self._state(),
            role=core.role,
            leader_id=core.leader_id,
            term=core.term,
            commit_index=core.commit_index,
            applied_index=core.applied_index,
            first_index=log.first_index,
            last_index=log.last_index,
            durable_index=core.durable_index,
            snapshot_index=log.first_index - 1,
            snapshot_term=log.term(log.first_index - 1),
            uncommitted_bytes=core.uncommitted_bytes,
            members=self.members(),
            elections=self.elections,
            leader_changes=self.leader_changes,
            leader_since_s=self.leader_since_us // 1_000_000 if core.leader_id is not None else 0,
            digest_index=node.applier.digest.last.at,
            digest=node.applier.digest.last.value,
            digest_agreed=max(node.agreement.agreed.values(), default=0),
            digest_differs=sorted(node.agreement.differing.items()),
            fenced_because="" if node.fenced is None else str(node.fenced),
        )

    def presented(self) -> Presented:
        """Return what this node shows itself as."""
        return self._node.views.presented()

    def _state(self) -> str:
        node = self._node
        if node.fenced is not None:
            return "fenced"
        if not node.dispatcher.accepting:
            return "stopping"
        if node.rejoin.owes_vote:
            return "rejoining"
        return "up" if node.core.leader_id is not None else "no_leader"

    def members(self) -> list[MemberFacts]:
        """Return every member, this node included."""
        node = self._node
        core = node.core
        if node.driver.is_leader:
            matches: dict[str, int] = dict(node.housekeeping.leader_matches())
            last = core.last_index
        else:
            matches = {node_id: status.match_index for node_id, status in node.housekeeping.members.items()}
            matches[core.node_id] = core.durable_index
            last = max([core.last_index, *matches.values()])
        found = []
        for node_id in core.membership.members:
            match = matches.get(node_id)
            found.append(
                MemberFacts(
                    node_id=node_id,
                    address=core.membership.addresses[node_id],
                    role=self._role_of(node_id),
                    match_index=match,
                    lag_entries=None if match is None else max(0, last - match),
                    connected=node_id == core.node_id or node.network.connected(node_id),
                    tls_port=self.tls_port_of(node_id),
                )
            )
        return found

    def tls_port_of(self, node_id: str) -> int:
        """Return where a member serves clients over TLS, 0 where it does not or has not said so yet."""
        node = self._node
        if node_id == node.core.node_id:
            return node.settings.tls_port_told
        status = node.housekeeping.members.get(node_id)
        return 0 if status is None else status.tls_port

    def _role_of(self, node_id: str) -> str:
        core = self._node.core
        if node_id == core.node_id:
            return core.role
        if node_id == core.leader_id:
            return "leader"
        if core.leader_id is None:
            return "unknown"
        return "follower" if core.membership.is_voter(node_id) else "learner"

    # -- the rest ----------------------------------------------------------------------------------------------------

    def storage(self) -> StorageFacts:
        """Return what lies on disk, and how the disk does."""
        node = self._node
        durations = node.sync.durations_ms
        return StorageFacts(
            directory=str(node.data.path),
            log_bytes=node.data.log.size_bytes,
            state_bytes=sum(node.applier.store.property_int(name) or 0 for name in STATE_SIZE_PROPERTIES),
            free_bytes=node.data.free_bytes(),
            syncs=node.sync.syncs,
            sync_usec=int(node.sync.total_s * 1e6),
            sync_usec_max=int(max(durations, default=0.0) * 1000),
            sync_under_way=node.sync.in_flight_ms > 0,
            refuses_writes=node.housekeeping.disk_full,
        )

    def snapshots(self) -> SnapshotFacts:
        """Return what is known of flushes of the state, which are what a snapshot is here."""
        compaction = self._node.compaction
        return SnapshotFacts(
            count=compaction.count,
            last_time_s=compaction.last_at_s,
            last_duration_s=compaction.last_duration_s,
            started_s=compaction.started_s,
            entries_since=self._node.core.applied_index - compaction.last_index,
        )

    def databases(self) -> Sequence[DatabaseFacts]:
        """Return the databases that hold keys."""
        node = self._node
        now_ms = max(node.clock.now_ms(), node.applier.last_stamp_ms)
        return [DatabaseFacts(*found) for found in keyspace_statistics(node.applier.registers, now_ms)]

    def flow(self) -> FlowFacts:
        """Return what is under way."""
        proposals = self._node.proposals
        return FlowFacts(
            inflight_bytes=proposals.bytes_held,
            batches=proposals.batches,
            batch_commands=proposals.batched_commands,
            outcome_unknown=proposals.timed_out,
            refused_no_quorum=proposals.refused,
            read_rounds=self._node.reads.rounds,
        )
