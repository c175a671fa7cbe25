"""`zattctl status`: a table over all nodes of the cluster, found from any one of them."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from typing import Any

from zattredis.cli.arguments import EXIT_DONE, EXIT_FATAL
from zattredis.cli.ctl import table
from zattredis.cli.ctl.frame import Subcommand
from zattredis.cli.ctl.nodes import Node, ask_all
from zattredis.cli.ctl.target import Target

_COLUMNS = ("NODE", "ADDRESS", "ROLE", "TERM", "APPLIED", "LAG", "LOG", "DISK", "FREE", "FSYNC", "VERSION")


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-o", "--output", choices=("table", "json"), default="table", help="form of the answer")


def run(arguments: argparse.Namespace) -> int:
    """Ask all nodes; 0 if all of them answer and know the same leader."""
    nodes = ask_all(Target.of(arguments))
    print(json.dumps(as_json(nodes), indent=2) if arguments.output == "json" else "\n".join(as_table(nodes)))
    return EXIT_DONE if is_well(nodes) else EXIT_FATAL


def is_well(nodes: Sequence[Node]) -> bool:
    """Return whether every node answers and there is one leader that all of them know."""
    if any(node.problem for node in nodes):
        return False
    leaders = {node.node_id for node in nodes if node.role == "leader"}
    return len(leaders) == 1 and {node.text("raft_leader_id") for node in nodes} == leaders


def lag_of(node: Node, nodes: Sequence[Node]) -> int:
    """Return how many committed entries this node has not applied yet, as far as any of the nodes knows."""
    committed = max((each.number("raft_commit_index") for each in nodes), default=0)
    return max(0, committed - node.number("raft_applied_index"))


def fsync_usec(node: Node) -> float:
    """Return the mean time of a sync of this node's log in microseconds, since its start."""
    return node.number("storage_sync_usec") / max(1, node.number("storage_syncs"))


def as_table(nodes: Sequence[Node]) -> Iterator[str]:
    """Yield the lines of the table: one node a line, then what is wrong, if anything."""
    rows: list[tuple[str, ...]] = [_COLUMNS]
    for node in nodes:
        if node.problem:
            rows.append((node.node_id, node.address, "no answer", *["-"] * (len(_COLUMNS) - 3)))
            continue
        used = node.number("storage_log_bytes") + node.number("storage_state_bytes")
        numbers = (node.number("raft_current_term"), node.number("raft_applied_index"), lag_of(node, nodes),
                   node.number("raft_log_entries"))  # fmt: skip
        rows.append(
            (node.node_id, node.address, node.role, *map(str, numbers), table.size(used),
             table.size(node.number("storage_free_bytes")), table.milliseconds(fsync_usec(node)),
             node.text("zattredis_version"))
        )  # fmt: skip
    yield from table.lines(rows)
    for node in nodes:
        if node.problem:
            yield f"{node.node_id}: {node.problem}"
    if not any(node.role == "leader" for node in nodes):
        answering = sum(not node.problem for node in nodes)
        yield f"no leader: {answering} of {len(nodes)} nodes answer, {len(nodes) // 2 + 1} are needed"


def as_json(nodes: Sequence[Node]) -> dict[str, Any]:
    """Return the same for programs: sizes in bytes, times in microseconds."""
    leaders = [node.node_id for node in nodes if node.role == "leader"]
    rows = [_row(node, nodes) for node in nodes]
    return {"healthy": is_well(nodes), "leader": leaders[0] if leaders else None, "nodes": rows}


def _row(node: Node, nodes: Sequence[Node]) -> dict[str, Any]:
    return {
        "node_id": node.node_id,
        "address": node.address,
        "role": node.role,
        "leader_id": node.text("raft_leader_id"),
        "term": node.number("raft_current_term"),
        "commit_index": node.number("raft_commit_index"),
        "applied_index": node.number("raft_applied_index"),
        "lag": None if node.problem else lag_of(node, nodes),
        "log_entries": node.number("raft_log_entries"),
        "snapshot_index": node.number("raft_snapshot_index"),
        "log_bytes": node.number("storage_log_bytes"),
        "state_bytes": node.number("storage_state_bytes"),
        "free_bytes": node.number("storage_free_bytes"),
        "fsync_usec": round(fsync_usec(node)),
        "fsync_usec_max": node.number("storage_sync_usec_max"),
        "uptime_s": node.number("uptime_in_seconds"),
        "version": node.text("zattredis_version"),
        "problem": node.problem,
    }


SUBCOMMAND = Subcommand(
    name="status",
    help="all nodes: role, term, applied, lag, disk, fsync time, version",
    description="Show all nodes of the cluster, which are found from any one. LAG is in entries, FSYNC the mean time "
    "that a sync of the log takes.",
    examples="zattctl status                          the cluster of the node on this machine (127.0.0.1:6379)\n"
    "zattctl status --host db1 --port 7001   the cluster that db1:7001 belongs to\n"
    "zattctl status -o json                  the same for programs",
    arguments=_arguments,
    run=run,
)
