"""INFO, ROLE and MEMORY STATS: what a node shows of itself, in Redis's words where Redis has one.

A field is here only if it is true of this server: what has no meaning (allocator arenas, AOF buffers, replication
backlog) is left out unless monitoring tools need the line, and then its value is what it would be in a Redis that has
the thing switched off. `raft` is a section of our own and part of the default ones.
"""

from __future__ import annotations

import os
import platform
import resource
import sys
from collections.abc import Iterable, Iterator
from typing import Any, Final

from zattredis.commands.context import REDIS_VERSION
from zattredis.config import bracketed
from zattredis.server.allocator import read_allocator
from zattredis.server.clients import ClientRegistry
from zattredis.server.node_facts import MemoryFacts, NodeFacts, Presented, RaftFacts, read_memory
from zattredis.version import __version__

PLAIN: Final = Presented()
Fields = Iterator[tuple[str, object]]

_DEFAULT = (
    "server", "clients", "memory", "persistence", "stats", "replication", "cpu", "modules", "errorstats", "cluster",
    "raft", "keyspace",
)  # fmt: skip
_EVERY = (
    "server", "clients", "memory", "persistence", "stats", "replication", "cpu", "modules", "commandstats",
    "errorstats", "latencystats", "cluster", "raft", "keyspace",
)  # fmt: skip
_TITLES = {"cpu": "CPU"}
_SWITCHED_OFF = (
    "slave_expires_tracked_keys", "active_defrag_hits", "active_defrag_misses", "active_defrag_key_hits",
    "active_defrag_key_misses", "total_active_defrag_time", "current_active_defrag_time", "tracking_total_keys",
    "tracking_total_items", "tracking_total_prefixes",
)  # fmt: skip
"""Counters of defragmentation, tracking and writable replicas, as a Redis shows them where nobody uses these."""
_UNITS = ((1 << 50, "P"), (1 << 40, "T"), (1 << 30, "G"), (1 << 20, "M"), (1 << 10, "K"))


def human_bytes(count: int) -> str:
    """Return a number of bytes as INFO's `_human` fields print it: 894.82K."""
    for factor, letter in _UNITS:
        if count >= factor:
            return f"{count / factor:.2f}{letter}"
    return f"{count}B"


def sections_of(names: Iterable[bytes]) -> list[str]:
    """Return the sections that these names of INFO ask for, in the order in which they are shown; none: the default."""
    wanted: set[str] = set()
    asked = [name.decode("latin-1").lower() for name in names] or ["default"]
    for name in asked:
        if name in ("all", "everything"):
            wanted.update(_EVERY)
        elif name == "default":
            wanted.update(_DEFAULT)
        elif name in _EVERY:
            wanted.add(name)
    return [name for name in _EVERY if name in wanted]


def role_reply(raft: RaftFacts, presented: Presented = PLAIN, tls: bool = False) -> list[Any]:
    """Return the reply of ROLE, with the ports for who asks over TLS or plain.

    A plain server is always `master`: every node takes every command. A leader lists the members it is connected to and
    how far they are. With a view switched on, the others are `slave` of the leader.
    """
    if presented.role != "master":
        master = presented.master
        host, port = (master.host, master.port_for(tls)) if master else ("?", 0)
        return [b"slave", host.encode(), port, b"connected" if presented.master_up else b"connect", raft.applied_index]
    followers = []
    if raft.role == "leader":
        followers = [
            [member.host.encode(), b"%d" % member.port_for(tls), b"%d" % member.match_index]
            for member in raft.members
            if member.node_id != raft.node_id and member.connected and member.match_index is not None
        ]
    return [b"master", raft.commit_index, followers]


def memory_stats(facts: NodeFacts) -> dict[bytes, Any]:
    """Return the reply of MEMORY STATS."""
    memory = read_memory()
    keys = sum(database.keys for database in facts.databases())
    buffers = client_buffer_bytes(facts.clients)
    data = max(0, memory.resident - facts.startup_bytes - buffers)
    allocator = read_allocator(memory.resident)
    return {
        b"peak.allocated": memory.resident_peak,
        b"total.allocated": memory.resident,
        b"startup.allocated": facts.startup_bytes,
        b"replication.backlog": 0,
        b"clients.slaves": 0,
        b"clients.normal": buffers,
        b"cluster.links": 0,
        b"aof.buffer": facts.raft().uncommitted_bytes,
        b"lua.caches": 0,
        b"functions.caches": 0,
        b"overhead.total": min(memory.resident, facts.startup_bytes + buffers),
        b"keys.count": keys,
        b"keys.bytes-per-key": data // keys if keys else 0,
        b"dataset.bytes": data,
        b"dataset.percentage": 100.0 * data / max(1, memory.resident - facts.startup_bytes) if data else 0.0,
        b"peak.percentage": 100.0 * memory.resident / memory.resident_peak,
        b"allocator.allocated": allocator.allocated,
        b"allocator.active": allocator.active,
        b"allocator.resident": allocator.resident,
        b"allocator-fragmentation.ratio": allocator.active / max(1, allocator.allocated),
        b"allocator-fragmentation.bytes": allocator.active - allocator.allocated,
        b"allocator-rss.ratio": allocator.resident / allocator.active,
        b"allocator-rss.bytes": allocator.resident - allocator.active,
        b"rss-overhead.ratio": memory.resident / allocator.resident,
        b"rss-overhead.bytes": memory.resident - allocator.resident,
        b"fragmentation": 1.0,
        b"fragmentation.bytes": 0,
    }


def client_buffer_bytes(clients: ClientRegistry) -> int:
    """Return the bytes in all query and output buffers."""
    return sum(sum(client.connection.buffered()) for client in clients)


def render(facts: NodeFacts, names: Iterable[bytes], tls: bool = False) -> bytes:
    """Return the text of INFO for these section names in any case; none means the default sections.

    `tls`: who asks came over TLS, and is told of the other nodes' TLS ports.
    """
    texts = []
    for name in sections_of(names):
        lines = [f"# {_TITLES.get(name, name.capitalize())}\r\n"]
        fields = _replication(facts, tls) if name == "replication" else _SECTIONS[name](facts)
        lines += [f"{field}:{value}\r\n" for field, value in fields]
        texts.append("".join(lines))
    return "\r\n".join(texts).encode("utf-8", "surrogateescape")


# -- sections ----------------------------------------------------------------------------------------------------


def _server(facts: NodeFacts) -> Fields:
    settings = facts.settings.settings
    now_us = facts.time_us()
    uptime_s = max(0, now_us - facts.started_us) // 1_000_000
    yield "redis_version", REDIS_VERSION
    yield "zattredis_version", __version__
    yield "redis_git_sha1", "00000000"
    yield "redis_git_dirty", 0
    yield "redis_build_id", f"zattredis-{__version__}"
    yield "redis_mode", facts.presented().mode
    yield "os", f"{platform.system()} {platform.release()} {platform.machine()}"
    yield "arch_bits", 64 if sys.maxsize > 1 << 32 else 32
    yield "python_version", platform.python_version()
    yield "monotonic_clock", "POSIX clock_gettime"
    yield "multiplexing_api", "uvloop"
    yield "process_id", os.getpid()
    yield "process_supervised", "systemd" if os.environ.get("NOTIFY_SOCKET") else "no"
    yield "run_id", facts.run_id
    yield "tcp_port", settings.port
    yield "server_time_usec", now_us
    yield "uptime_in_seconds", uptime_s
    yield "uptime_in_days", uptime_s // 86_400
    yield "hz", 1000 // settings.tick_ms
    yield "configured_hz", 1000 // settings.tick_ms
    yield "executable", sys.executable
    yield "config_file", facts.config_file
    yield "io_threads_active", 0


def _client_fields(facts: NodeFacts) -> Fields:
    buffers = [client.connection.buffered() for client in facts.clients]
    settings = facts.settings.settings
    yield "connected_clients", len(facts.clients)
    yield "cluster_connections", 0
    yield "maxclients", settings.maxclients
    yield "client_recent_max_input_buffer", max((query for query, _ in buffers), default=0)
    yield "client_recent_max_output_buffer", max((output for _, output in buffers), default=0)
    yield "client_query_buffer_limit", settings.query_buffer_bytes_max
    yield "client_output_buffer_limit", settings.output_buffer_bytes_max
    yield "blocked_clients", facts.clients.blocked_count()
    yield "tracking_clients", 0
    yield "clients_in_timeout_table", 0
    yield "inflight_bytes", facts.flow().inflight_bytes
    yield "inflight_bytes_max", settings.inflight_bytes_max


def _memory(facts: NodeFacts) -> Fields:
    memory: MemoryFacts = read_memory()
    buffers = client_buffer_bytes(facts.clients)
    overhead = min(memory.resident, facts.startup_bytes + buffers)
    for name, value in (
        ("used_memory", memory.resident),
        ("used_memory_rss", memory.resident),
        ("used_memory_peak", memory.resident_peak),
    ):
        yield name, value
        yield f"{name}_human", human_bytes(value)
    yield "used_memory_peak_perc", f"{100 * memory.resident / memory.resident_peak:.2f}%"
    yield "used_memory_overhead", overhead
    yield "used_memory_startup", facts.startup_bytes
    dataset = memory.resident - overhead
    yield "used_memory_dataset", dataset
    yield "used_memory_dataset_perc", f"{100 * dataset / max(1, memory.resident - facts.startup_bytes):.2f}%"
    allocator = read_allocator(memory.resident)
    yield "allocator_allocated", allocator.allocated
    yield "allocator_active", allocator.active
    yield "allocator_resident", allocator.resident
    yield "total_system_memory", memory.machine
    yield "total_system_memory_human", human_bytes(memory.machine)
    yield from _no_scripts()
    yield "maxmemory", facts.settings.settings.maxmemory_bytes
    yield "maxmemory_human", human_bytes(facts.settings.settings.maxmemory_bytes)
    yield "maxmemory_policy", "noeviction"
    yield "allocator_frag_ratio", f"{allocator.active / max(1, allocator.allocated):.2f}"
    yield "allocator_frag_bytes", allocator.active - allocator.allocated
    yield "allocator_rss_ratio", f"{allocator.resident / allocator.active:.2f}"
    yield "allocator_rss_bytes", allocator.resident - allocator.active
    yield "rss_overhead_ratio", f"{memory.resident / allocator.resident:.2f}"
    yield "rss_overhead_bytes", memory.resident - allocator.resident
    yield "mem_fragmentation_ratio", "1.00"
    yield "mem_fragmentation_bytes", 0
    yield "mem_not_counted_for_evict", 0
    yield "mem_replication_backlog", 0
    yield "mem_total_replication_buffers", 0
    yield "mem_clients_slaves", 0
    yield "mem_clients_normal", buffers
    yield "mem_cluster_links", 0
    yield "mem_aof_buffer", facts.raft().uncommitted_bytes
    yield "mem_allocator", "libc"
    yield "active_defrag_running", 0


def _no_scripts() -> Fields:
    """What scripts and functions take: there are none."""
    for name in ("used_memory_lua", "used_memory_vm_eval"):
        yield name, 0
    yield "used_memory_lua_human", human_bytes(0)
    for name in (
        "used_memory_scripts_eval", "number_of_cached_scripts", "number_of_functions", "number_of_libraries",
        "used_memory_vm_functions", "used_memory_vm_total",
    ):  # fmt: skip
        yield name, 0
    yield "used_memory_vm_total_human", human_bytes(0)
    yield "used_memory_functions", 0
    yield "used_memory_scripts", 0
    yield "used_memory_scripts_human", human_bytes(0)


def _persistence(facts: NodeFacts) -> Fields:
    snapshots, storage = facts.snapshots(), facts.storage()
    now_s = facts.time_us() // 1_000_000
    running = snapshots.started_s is not None
    current_s = now_s - snapshots.started_s if snapshots.started_s is not None else -1
    yield "loading", 0
    yield "async_loading", 0
    for name in ("current_cow_peak", "current_cow_size", "current_cow_size_age"):
        yield name, 0
    yield "current_fork_perc", "0.00"
    yield "current_save_keys_processed", 0
    yield "current_save_keys_total", 0
    yield "rdb_changes_since_last_save", snapshots.entries_since
    yield "rdb_bgsave_in_progress", int(running)
    yield "rdb_last_save_time", snapshots.last_time_s
    yield "rdb_last_bgsave_status", "ok" if snapshots.last_ok else "err"
    yield "rdb_last_bgsave_time_sec", snapshots.last_duration_s
    yield "rdb_current_bgsave_time_sec", current_s
    yield "rdb_saves", snapshots.count
    yield "rdb_last_cow_size", 0  # nothing forks: a snapshot is links to files that never change
    yield "rdb_last_load_keys_expired", 0
    yield "rdb_last_load_keys_loaded", 0
    yield "aof_enabled", 1  # the Raft log is one, and is always on
    yield "aof_rewrite_in_progress", 0
    yield "aof_rewrite_scheduled", 0
    yield "aof_last_rewrite_time_sec", -1
    yield "aof_current_rewrite_time_sec", -1
    yield "aof_last_bgrewrite_status", "ok"
    yield "aof_rewrites", 0
    yield "aof_rewrites_consecutive_failures", 0
    yield "aof_last_write_status", "err" if storage.refuses_writes else "ok"
    yield "aof_last_cow_size", 0
    yield "module_fork_in_progress", 0
    yield "module_fork_last_cow_size", 0
    yield "aof_current_size", storage.log_bytes
    yield "aof_base_size", 0
    yield "aof_pending_rewrite", 0
    yield "aof_buffer_length", facts.raft().uncommitted_bytes
    yield "aof_pending_bio_fsync", int(storage.sync_under_way)
    yield "storage_directory", storage.directory
    yield "storage_log_bytes", storage.log_bytes
    yield "storage_state_bytes", storage.state_bytes
    yield "storage_free_bytes", storage.free_bytes
    yield "storage_syncs", storage.syncs
    yield "storage_sync_usec", storage.sync_usec
    yield "storage_sync_usec_max", storage.sync_usec_max


def _stats(facts: NodeFacts) -> Fields:
    counted, flow = facts.statistics, facts.flow()
    yield "total_connections_received", counted.connections_received
    yield "total_commands_processed", counted.total_commands
    yield "instantaneous_ops_per_sec", round(counted.operations_rate.per_second)
    yield "total_net_input_bytes", counted.net_input_bytes
    yield "total_net_output_bytes", counted.net_output_bytes
    yield "total_net_repl_input_bytes", 0
    yield "total_net_repl_output_bytes", 0
    yield "instantaneous_input_kbps", f"{counted.input_rate.per_second / 1024:.2f}"
    yield "instantaneous_output_kbps", f"{counted.output_rate.per_second / 1024:.2f}"
    yield "instantaneous_input_repl_kbps", "0.00"
    yield "instantaneous_output_repl_kbps", "0.00"
    yield "rejected_connections", counted.connections_rejected
    yield "sync_full", 0
    yield "sync_partial_ok", 0
    yield "sync_partial_err", 0
    yield "expired_keys", counted.expired_keys
    yield "expired_stale_perc", "0.00"
    yield "expired_time_cap_reached_count", 0
    yield "evicted_keys", 0
    yield "evicted_clients", 0
    yield "total_eviction_exceeded_time", 0
    yield "current_eviction_exceeded_time", 0
    yield "keyspace_hits", counted.keyspace_hits
    yield "keyspace_misses", counted.keyspace_misses
    yield "pubsub_channels", 0
    yield "pubsub_patterns", 0
    yield "latest_fork_usec", 0
    yield "total_forks", 0
    yield "migrate_cached_sockets", 0
    yield from ((name, 0) for name in _SWITCHED_OFF)
    yield "unexpected_error_replies", 0
    yield "total_error_replies", sum(counted.errors.values())
    yield "total_reads_processed", counted.reads_processed
    yield "total_writes_processed", counted.writes_processed
    yield "io_threaded_reads_processed", 0
    yield "io_threaded_writes_processed", 0
    yield "write_batches", flow.batches
    yield "write_batch_commands", flow.batch_commands
    yield "read_rounds", flow.read_rounds
    yield "outcome_unknown_replies", flow.outcome_unknown
    yield "no_quorum_refusals", flow.refused_no_quorum


def _replication(facts: NodeFacts, tls: bool = False) -> Fields:
    raft, presented = facts.raft(), facts.presented()
    followers = role_reply(raft, tls=tls)[2]
    yield "role", presented.role
    if presented.role != "master":
        yield from _replica(raft, presented, tls)
    yield "connected_slaves", len(followers)
    for number, (host, port, offset) in enumerate(followers):
        lag = max(0, raft.last_index - int(offset))
        yield (
            f"slave{number}",
            f"ip={host.decode()},port={port.decode()},state=online,offset={offset.decode()},lag={lag}",
        )
    yield "master_failover_state", "no-failover"
    yield "master_replid", facts.run_id
    yield "master_replid2", "0" * 40
    yield "master_repl_offset", raft.commit_index
    yield "second_repl_offset", -1
    yield "repl_backlog_active", 0
    yield "repl_backlog_size", 0
    yield "repl_backlog_first_byte_offset", 0
    yield "repl_backlog_histlen", 0


def _replica(raft: RaftFacts, presented: Presented, tls: bool) -> Fields:
    master = presented.master
    yield "master_host", master.host if master else "?"
    yield "master_port", master.port_for(tls) if master else 0
    yield "master_link_status", "up" if presented.master_up else "down"
    yield "master_last_io_seconds_ago", presented.master_heard_s
    yield "master_sync_in_progress", 0
    yield "slave_read_repl_offset", raft.applied_index
    yield "slave_repl_offset", raft.applied_index
    yield "slave_priority", 100
    yield "slave_read_only", int(presented.redirects)  # else it takes writes, and hands them to the leader
    yield "replica_announced", 1


def _cpu(_facts: NodeFacts) -> Fields:
    own, children = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    yield "used_cpu_sys", f"{own.ru_stime:.6f}"
    yield "used_cpu_user", f"{own.ru_utime:.6f}"
    yield "used_cpu_sys_children", f"{children.ru_stime:.6f}"
    yield "used_cpu_user_children", f"{children.ru_utime:.6f}"
    if hasattr(resource, "RUSAGE_THREAD"):
        main = resource.getrusage(resource.RUSAGE_THREAD)
        yield "used_cpu_sys_main_thread", f"{main.ru_stime:.6f}"
        yield "used_cpu_user_main_thread", f"{main.ru_utime:.6f}"


def _commandstats(facts: NodeFacts) -> Fields:
    for spec, stats in facts.statistics.commands.items():
        per_call = stats.usec / stats.calls if stats.calls else 0.0
        yield (
            f"cmdstat_{spec.full_name}",
            f"calls={stats.calls},usec={stats.usec},usec_per_call={per_call:.2f},"
            f"rejected_calls={stats.rejected},failed_calls={stats.failed}",
        )


def _errorstats(facts: NodeFacts) -> Fields:
    for prefix, count in facts.statistics.errors.items():
        yield f"errorstat_{prefix}", f"count={count}"


def _latencystats(facts: NodeFacts) -> Fields:
    wanted = facts.settings.runtime.latency_percentiles
    for spec, stats in facts.statistics.histograms().items():
        found = ",".join(
            f"p{percentage:g}={latency:.3f}"
            for percentage, latency in zip(wanted, stats.percentiles(wanted), strict=True)
        )
        yield f"latency_percentiles_usec_{spec.full_name}", found


def _raft(facts: NodeFacts) -> Fields:
    raft = facts.raft()
    yield "raft_node_id", raft.node_id
    yield "raft_cluster_id", raft.cluster_id
    yield "raft_state", raft.state
    yield "raft_role", raft.role
    yield "raft_leader_id", raft.leader_id or ""
    yield "raft_leader_since", raft.leader_since_s
    yield "raft_current_term", raft.term
    yield "raft_commit_index", raft.commit_index
    yield "raft_applied_index", raft.applied_index
    yield "raft_last_index", raft.last_index
    yield "raft_durable_index", raft.durable_index
    yield "raft_log_entries", raft.log_entries
    yield "raft_snapshot_index", raft.snapshot_index
    yield "raft_snapshot_term", raft.snapshot_term
    yield "raft_uncommitted_bytes", raft.uncommitted_bytes
    yield "raft_uncommitted_bytes_max", facts.settings.settings.uncommitted_bytes_max
    yield "raft_elections", raft.elections
    yield "raft_leader_changes", raft.leader_changes
    yield "raft_digest_index", raft.digest_index
    yield "raft_digest", f"{raft.digest:016x}"
    yield "raft_digest_agreed_index", raft.digest_agreed
    yield "raft_digest_differs", " ".join(f"{node_id}@{index}" for node_id, index in raft.digest_differs)
    yield "raft_fenced", raft.fenced_because
    yield "raft_members", len(raft.members)
    for member in raft.members:
        match = "unknown" if member.match_index is None else member.match_index
        lag = "unknown" if member.lag_entries is None else member.lag_entries
        yield (
            f"raft_member_{member.node_id}",
            f"address={bracketed(member.host)}:{member.port},role={member.role},match_index={match},lag={lag},"
            f"connected={'yes' if member.connected else 'no'}"
            + (f",tls_port={member.tls_port}" if member.tls_port else ""),
        )


def _keyspace(facts: NodeFacts) -> Fields:
    for database in facts.databases():
        yield (
            f"db{database.number}",
            f"keys={database.keys},expires={database.expires},avg_ttl={database.average_ttl_ms}",
        )


def _modules(_facts: NodeFacts) -> Fields:
    yield from ()


def _cluster(facts: NodeFacts) -> Fields:
    yield "cluster_enabled", int(facts.presented().mode == "cluster")


_SECTIONS = {
    "server": _server,
    "clients": _client_fields,
    "memory": _memory,
    "persistence": _persistence,
    "stats": _stats,
    "replication": _replication,
    "cpu": _cpu,
    "modules": _modules,
    "commandstats": _commandstats,
    "errorstats": _errorstats,
    "latencystats": _latencystats,
    "cluster": _cluster,
    "raft": _raft,
    "keyspace": _keyspace,
}
