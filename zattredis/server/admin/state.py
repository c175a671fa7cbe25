"""What the console shows, as one JSON document. Rates and latencies are for the page to make, from two of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from zattredis.commands.table import Flag
from zattredis.observability.exposition import BOUNDS_S
from zattredis.server.admin.metrics import counts_between_bounds
from zattredis.server.node_facts import read_memory
from zattredis.version import __version__

if TYPE_CHECKING:
    from zattredis.server.node import Node

SLOW_SHOWN: Final = 20
COMMANDS_SHOWN: Final = 12
_TOLD: Final = (
    "node_id", "cluster_id", "state", "role", "leader_id", "term", "commit_index", "applied_index", "last_index",
    "change",
)  # fmt: skip
"""What is shown of RAFT STATUS."""


def console_state(node: Node, unready: list[str]) -> dict[str, Any]:
    """Return everything; bytes of users (slow commands, client names) as text with what is unprintable escaped."""
    status = node.services.status
    counted = node.statistics
    now_us = status.time_us()
    memory = read_memory()
    return {
        "version": __version__,
        "now_ms": now_us // 1000,
        "uptime_s": max(0, now_us - status.started_us) // 1_000_000,
        "unready": unready,
        "raft": _raft(node),
        "members": node.services.cluster.members(),
        "clients": {
            "connected": len(node.clients),
            "blocked": node.clients.blocked_count(),
            "max": node.settings.maxclients,
        },
        "counters": {
            "commands": counted.total_commands,
            "net_input_bytes": counted.net_input_bytes,
            "net_output_bytes": counted.net_output_bytes,
            "errors": sum(counted.errors.values()),
            "keyspace_hits": counted.keyspace_hits,
            "keyspace_misses": counted.keyspace_misses,
            "outcome_unknown": node.proposals.timed_out,
            "refused": node.proposals.refused,
        },
        "bounds_s": BOUNDS_S,
        "latency": {
            "command": _command_counts(node),
            "write": list(node.proposals.agreed_buckets),
            "sync": node.sync.buckets,
        },
        "sync_in_flight_ms": round(node.sync.in_flight_ms, 1),
        "commands": _commands(node),
        "slow": _slow(node),
        "slower_than_us": node.services.slowlog.slower_than_us,
        "storage": _storage(node),
        "memory": {"resident": memory.resident, "machine": memory.machine},
        "keys": sum(database.keys for database in status.databases()),
    }


def _raft(node: Node) -> dict[str, Any]:
    facts, told = node.services.status.raft(), node.services.cluster.status()
    return {
        **{name: told[name] for name in _TOLD},
        "leader_since_ms": facts.leader_since_s * 1000,
        "elections": facts.elections,
        "leader_changes": facts.leader_changes,
    }


def _command_counts(node: Node) -> list[int]:
    """Return the histogram of all commands but those that block and wait by design."""
    total = [0] * (len(BOUNDS_S) + 1)
    for spec, stats in node.statistics.commands.items():
        if not spec.flags & Flag.BLOCKING:
            total = [a + b for a, b in zip(total, counts_between_bounds(stats.buckets.items()), strict=True)]
    return total


def _commands(node: Node) -> list[dict[str, Any]]:
    by_calls = sorted(node.statistics.commands.items(), key=lambda item: (-item[1].calls, item[0].full_name))
    return [
        {"name": spec.full_name, "calls": stats.calls, "usec": stats.usec, "failed": stats.failed}
        for spec, stats in by_calls[:COMMANDS_SHOWN]
    ]


def _slow(node: Node) -> list[dict[str, Any]]:
    return [
        {
            "id": entry.id,
            "time_ms": entry.time_s * 1000,
            "usec": entry.usec,
            "command": " ".join(_shown(word) for word in entry.argv),
            "client": entry.address,
            "name": _shown(entry.name),
        }
        for entry in node.services.slowlog.entries(SLOW_SHOWN)
    ]


def _storage(node: Node) -> dict[str, Any]:
    storage, snapshots = node.services.status.storage(), node.services.status.snapshots()
    facts = node.services.status.raft()
    return {
        "directory": storage.directory,
        "log_bytes": storage.log_bytes,
        "log_entries": facts.log_entries,
        "state_bytes": storage.state_bytes,
        "free_bytes": storage.free_bytes,
        "refuses_writes": storage.refuses_writes,
        "snapshot_running": snapshots.started_s is not None,
        "snapshot_last_ms": snapshots.last_time_s * 1000,
        "snapshot_entries_since": snapshots.entries_since,
        "snapshots_sent": node.snapshots.sent,
        "snapshots_installed": node.snapshots.installed,
    }


def _shown(word: bytes) -> str:
    text = word.decode("utf-8", "backslashreplace")
    return text if text.isprintable() else "".join(
        [sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in text]
    )
