"""What /metrics shows: everything a node counts, in Prometheus's words (base units, `_total` for what only grows)."""

from __future__ import annotations

import os
import platform
import resource
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Final

from zattredis.commands.table import CommandSpec
from zattredis.observability.exposition import BOUNDS_S, Exposition
from zattredis.server.node_facts import read_memory
from zattredis.server.statistics import CommandStatistics
from zattredis.version import __version__

if TYPE_CHECKING:
    from zattredis.server.node import Node

ROLES: Final = ("leader", "follower", "candidate", "learner")
_BOUNDS_NS: Final = tuple(round(bound * 1e9) for bound in BOUNDS_S)


def counts_between_bounds(buckets: Iterable[tuple[int, int]]) -> list[int]:
    """Return how many calls fell between the bounds of BOUNDS_S, from a command's own, finer buckets."""
    counts = [0] * (len(BOUNDS_S) + 1)
    for highest_ns, count in buckets:
        counts[bisect_left(_BOUNDS_NS, highest_ns)] += count
    return counts


def open_files() -> int:
    """Return how many files this process has open."""
    size = os.stat("/proc/self/fd").st_size  # since Linux 6.2 that is their number
    return size or len(os.listdir("/proc/self/fd"))


def render_metrics(node: Node) -> str:
    """Return everything."""
    out = Exposition()
    for part in _PARTS:
        part(out, node)
    return out.text()


def _raft(out: Exposition, node: Node) -> None:
    facts = node.services.status.raft()
    core, log = node.core, node.data.log
    out.gauges(
        "zattredis_raft_role", "1 for the role this node has in Raft, 0 for the others.",
        [({"role": role}, int(facts.role == role)) for role in ROLES],
    )  # fmt: skip
    out.gauge("zattredis_raft_has_leader", "Whether this node knows a leader.", int(facts.leader_id is not None))
    out.gauges(
        "zattredis_raft_leader", "1 for the member that this node takes for the leader.",
        [({"member": member.node_id}, int(member.node_id == facts.leader_id)) for member in facts.members],
    )  # fmt: skip
    out.gauge(
        "zattredis_raft_leader_since_timestamp_seconds",
        "When this node learned of the present leader; 0 while it knows none.", facts.leader_since_s,
    )  # fmt: skip
    for name, text, value in (
        ("term", "Raft's current term.", facts.term),
        ("commit_index", "Highest log index known to be committed.", facts.commit_index),
        ("applied_index", "Highest log index applied to the state.", facts.applied_index),
        ("last_index", "Last index of the log.", facts.last_index),
        ("durable_index", "Highest log index that is on this node's disk.", facts.durable_index),
        ("snapshot_index", "Index up to which the log was cut.", facts.snapshot_index),
        ("log_entries", "Entries in the log.", facts.log_entries),
        ("log_bytes", "Bytes of entries in the log.", log.size_bytes),
        ("uncommitted_bytes", "Bytes of log that no majority has stored yet (on the leader).", facts.uncommitted_bytes),
        ("members", "Members of the cluster.", len(facts.members)),
        ("voters", "Members whose votes count.", len(core.membership.voters)),
    ):
        out.gauge(f"zattredis_raft_{name}", text, value)
    out.counter("zattredis_raft_elections_total", "Elections this node stood for.", facts.elections)
    out.counter("zattredis_raft_leader_changes_total", "Leaders this node learned of.", facts.leader_changes)
    out.gauges(
        "zattredis_raft_member_lag_entries", "Log entries a member is behind the leader's last one, where known.",
        [({"member": m.node_id}, m.lag_entries) for m in facts.members if m.lag_entries is not None],
    )  # fmt: skip
    out.gauges(
        "zattredis_raft_member_connected", "Whether this node has a link to the member.",
        [({"member": m.node_id}, int(m.connected)) for m in facts.members],
    )  # fmt: skip


def _peers(out: Exposition, node: Node) -> None:
    links = node.network.links
    out.gauges(
        "zattredis_peer_queued_bytes", "Bytes that wait to be sent to a peer.",
        [({"member": link.node_id}, link.queued_bytes) for link in links],
    )  # fmt: skip
    out.counters(
        "zattredis_peer_sent_bytes_total", "Bytes sent to a peer.",
        [({"member": link.node_id}, link.sent_bytes) for link in links],
    )  # fmt: skip
    out.counters(
        "zattredis_peer_dropped_messages_total", "Messages to a peer that were dropped because its queue was full.",
        [({"member": link.node_id}, link.dropped_messages) for link in links],
    )  # fmt: skip


def _log(out: Exposition, node: Node) -> None:
    sync, proposals = node.sync, node.proposals
    out.histograms(
        "zattredis_log_sync_seconds", "How long the disk took to make the log durable, per sync.", BOUNDS_S,
        [({}, sync.buckets, sync.total_s)],
    )  # fmt: skip
    out.gauge(
        "zattredis_log_sync_in_flight_seconds", "How long the sync under way has taken so far; 0 if there is none.",
        sync.in_flight_ms / 1000,
    )  # fmt: skip
    out.histograms(
        "zattredis_write_batch_seconds",
        "How long the writes of one tick took from their arrival to being agreed on and applied, per batch.", BOUNDS_S,
        [({}, proposals.agreed_buckets, proposals.agreed_s)],
    )  # fmt: skip


def _by_command(node: Node) -> Iterator[tuple[dict[str, str], CommandSpec, CommandStatistics]]:
    for spec, stats in node.statistics.commands.items():
        yield {"command": spec.full_name}, spec, stats


def _commands(out: Exposition, node: Node) -> None:
    for name, text, attribute in (
        ("zattredis_commands_total", "Commands carried out.", "calls"),
        ("zattredis_commands_failed_total", "Commands carried out that were answered by an error.", "failed"),
        ("zattredis_commands_rejected_total", "Commands refused before they were carried out.", "rejected"),
    ):
        out.counters(name, text, [(labels, getattr(stats, attribute)) for labels, _, stats in _by_command(node)])
    out.histograms(
        "zattredis_command_seconds",
        "How long commands took to carry out, without waiting for the log; commands of one tick share their average.",
        BOUNDS_S,
        [
            (labels, counts_between_bounds(stats.buckets.items()), stats.usec / 1e6)
            for labels, _, stats in _by_command(node)
            if stats.buckets
        ],
    )
    counted = node.statistics
    out.counters(
        "zattredis_error_replies_total", "Error replies by their first word.",
        [({"prefix": prefix}, count) for prefix, count in counted.errors.items()],
    )  # fmt: skip
    out.gauge("zattredis_slowlog_entries", "Commands that SLOWLOG remembers.", len(node.services.slowlog))


def _clients(out: Exposition, node: Node) -> None:
    counted, flow = node.statistics, node.services.status.flow()
    out.gauge("zattredis_connected_clients", "Connections of clients.", len(node.clients))
    out.gauge("zattredis_max_clients", "Connections of clients that are allowed.", node.settings.maxclients)
    out.gauge(
        "zattredis_blocked_clients", "Clients that wait in a blocking command.", node.clients.blocked_count()
    )
    out.counter("zattredis_connections_received_total", "Connections accepted.", counted.connections_received)
    out.counter("zattredis_connections_rejected_total", "Connections refused.", counted.connections_rejected)
    out.counter(
        "zattredis_output_limit_disconnections_total", "Clients closed because they did not read their replies.",
        node.dispatcher.output_limit_disconnections,
    )  # fmt: skip
    out.counter("zattredis_net_input_bytes_total", "Bytes read from clients.", counted.net_input_bytes)
    out.counter("zattredis_net_output_bytes_total", "Bytes written to clients.", counted.net_output_bytes)
    out.gauge("zattredis_inflight_bytes", "Bytes of commands taken and not yet answered.", flow.inflight_bytes)
    out.counter("zattredis_write_batches_total", "Batches of writes given to the log.", flow.batches)
    out.counter("zattredis_write_batch_commands_total", "Commands in those batches.", flow.batch_commands)
    out.counter("zattredis_read_rounds_total", "Rounds that confirmed a point in time for reads.", flow.read_rounds)
    out.counter(
        "zattredis_outcome_unknown_total", "Commands answered TIMEOUT: their outcome is unknown.", flow.outcome_unknown
    )
    out.counter(
        "zattredis_no_quorum_refusals_total", "Commands answered CLUSTERDOWN: they were not executed.",
        flow.refused_no_quorum,
    )  # fmt: skip


def _keyspace(out: Exposition, node: Node) -> None:
    counted = node.statistics
    databases = node.services.status.databases()
    by_number = [({"db": str(each.number)}, each) for each in databases]
    out.gauges("zattredis_keys", "Keys in a database.", [(labels, each.keys) for labels, each in by_number])
    out.gauges(
        "zattredis_keys_expiring", "Keys in a database that expire.",
        [(labels, each.expires) for labels, each in by_number],
    )  # fmt: skip
    out.counter("zattredis_expired_keys_total", "Keys removed because their time had come.", counted.expired_keys)
    out.counter("zattredis_keyspace_hits_total", "Keys that reads found.", counted.keyspace_hits)
    out.counter("zattredis_keyspace_misses_total", "Keys that reads did not find.", counted.keyspace_misses)


def _storage(out: Exposition, node: Node) -> None:
    storage = node.services.status.storage()
    out.gauge("zattredis_state_bytes", "Bytes of the state, on disk and in memory tables.", storage.state_bytes)
    out.gauge("zattredis_disk_free_bytes", "Bytes free on the disk of the data directory.", storage.free_bytes)
    out.gauge(
        "zattredis_disk_full", "Whether writes are refused because too little disk is free.",
        int(storage.refuses_writes),
    )  # fmt: skip
    for name, value in node.applier.store.properties().items():
        metric = f"zattredis_rocksdb_{name.replace('-', '_')}"
        out.gauge(metric, f"RocksDB's property rocksdb.{name} of the state.", value)
    snapshots = node.services.status.snapshots()
    out.counter("zattredis_snapshots_total", "Flushes of the state behind which the log may be cut.", snapshots.count)
    out.gauge(
        "zattredis_snapshot_in_progress", "Whether the state is being flushed.", int(snapshots.started_s is not None)
    )
    out.gauge("zattredis_snapshot_last_timestamp_seconds", "When the state was last flushed.", snapshots.last_time_s)
    out.gauge("zattredis_snapshot_entries_since", "Log entries applied since then.", snapshots.entries_since)
    out.counter("zattredis_snapshots_sent_total", "Snapshots sent to other members.", node.snapshots.sent)
    out.counter("zattredis_snapshots_installed_total", "Snapshots received and installed.", node.snapshots.installed)


def _process(out: Exposition, node: Node) -> None:
    used = resource.getrusage(resource.RUSAGE_SELF)
    out.counter("process_cpu_seconds_total", "CPU time of the process.", used.ru_utime + used.ru_stime)
    out.gauge("process_resident_memory_bytes", "Memory of the process.", read_memory().resident)
    out.gauge("process_open_fds", "Files the process has open.", open_files())
    out.gauge("process_max_fds", "Files the process may have open.", resource.getrlimit(resource.RLIMIT_NOFILE)[0])
    out.gauge("process_start_time_seconds", "When the node started.", node.services.status.started_us / 1e6)
    out.gauges(
        "zattredis_build_info", "1, labelled with what runs.",
        [({"version": __version__, "python": platform.python_version()}, 1)],
    )  # fmt: skip
    out.gauges(
        "zattredis_node_info", "1, labelled with which node this is.",
        [({"node_id": node.core.node_id, "cluster_id": node.data.identity.cluster_id}, 1)],
    )  # fmt: skip


_PARTS: Final = (_raft, _peers, _log, _commands, _clients, _keyspace, _storage, _process)
