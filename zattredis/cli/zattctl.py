"""`zattctl`: ask a running cluster how it is."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Final

from zattredis.cli.arguments import EXIT_DONE, EXIT_FATAL, EXIT_USAGE, OneLineParser, complain
from zattredis.cli.banner import local_address
from zattredis.cli.resp_client import ErrorReply, NoAnswer, RespClient
from zattredis.config import Settings, load_settings
from zattredis.config.cluster import parse_port, split_host_port
from zattredis.errors import ConfigError
from zattredis.version import __version__

_PROGRAM: Final = "zattctl"
_MEMBER: Final = "raft_member_"

_EPILOG: Final = """\
examples:
  zattctl status                          the cluster of the node on this machine (127.0.0.1:6379)
  zattctl status --host db1 --port 7001   the cluster that db1:7001 belongs to
  zattctl status -o json                  the same for programs
  zattctl ping                            does the node answer? (for health checks)

Without --host and --port the node is found like zattd finds its settings: ZATTREDIS_* variables and --config.
The password comes from --password, REDISCLI_AUTH or the requirepass setting.
Exit code: 0 all is well; 1 a node does not answer, or no leader is known; 2 wrong arguments.
"""


@dataclass(frozen=True, slots=True)
class NodeStatus:
    """What one node says of itself; `problem` is set, and the rest empty, when it does not answer."""

    node_id: str
    address: str
    role: str = ""
    leader_id: str = ""
    term: int = 0
    commit_index: int = 0
    applied_index: int = 0
    log_entries: int = 0
    snapshot_index: int = 0
    version: str = ""
    problem: str = ""


def main(argv: Sequence[str] | None = None) -> int:
    """Run `zattctl` with `argv` (default: the process's own) and return the exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        arguments = _parser().parse(words)
        host, port, password = _target(arguments)
        job = {"status": _status, "ping": _ping}[arguments.job]
        return job(arguments, host, port, password)
    except ConfigError as error:
        complain(_PROGRAM, error)
        return EXIT_USAGE
    except (NoAnswer, ErrorReply) as error:
        complain(_PROGRAM, error)
        return EXIT_FATAL
    except BrokenPipeError:
        sys.stderr.close()
        return EXIT_DONE


def _parser() -> OneLineParser:
    parser = OneLineParser(_PROGRAM, "Ask a running zattredis cluster how it is.", _EPILOG)
    parser.add_argument("--version", action="version", version=f"zattredis {__version__}")
    parser.add_argument("job", choices=("status", "ping"), help="status: all nodes of the cluster; ping: this node")
    parser.add_argument("--host", help="any node of the cluster (default: from the settings, else 127.0.0.1)")
    parser.add_argument("-p", "--port", type=int, help="its client port (default: from the settings, else 6379)")
    parser.add_argument("-a", "--password", help="password (better: REDISCLI_AUTH, which ps does not show)")
    parser.add_argument("-c", "--config", metavar="FILE", dest="config_file", help="settings file of the node")
    parser.add_argument("-o", "--output", choices=("table", "json"), default="table", help="form of the answer")
    parser.add_argument("--timeout", type=float, default=2.0, metavar="S", help="seconds to wait for each node (2)")
    return parser


def _target(arguments: argparse.Namespace) -> tuple[str, int, str]:
    """Return (host, port, password): what was given, else what the settings of this machine's node say."""
    settings: Settings | None = None
    if arguments.host is None or arguments.port is None or arguments.password is None:
        try:
            settings = load_settings({}, os.environ, arguments.config_file)
        except ConfigError:
            # A settings file of a whole cluster does not say which node is this one; host and port then must be given.
            if arguments.host is None and arguments.port is None:
                raise
    default_host, default_port = local_address(settings) if settings is not None else ("127.0.0.1", 6379)
    if arguments.port is not None:
        default_host = "127.0.0.1"
    host = arguments.host or default_host
    port = arguments.port if arguments.port is not None else 6379 if arguments.host else default_port
    secret = settings.requirepass if settings is not None else ""
    password = arguments.password or os.environ.get("REDISCLI_AUTH", "") or secret
    return host, port, password


def _ping(arguments: argparse.Namespace, host: str, port: int, password: str) -> int:
    with RespClient(host, port, password, arguments.timeout) as client:
        client.call("PING")
    print("PONG")
    return EXIT_DONE


def _status(arguments: argparse.Namespace, host: str, port: int, password: str) -> int:
    with RespClient(host, port, password, arguments.timeout) as client:
        first = client.info("raft")
    members = members_of(first)
    if not members:
        raise NoAnswer(f"{host}:{port} is no zattredis node (INFO raft names no members)")
    own = first.get("raft_node_id", "")
    nodes = [
        # The node that was asked is known to be reachable where it was asked, whatever the cluster calls it.
        ask(node_id, address, host if node_id == own else "", port, password, arguments.timeout)
        for node_id, address in members
    ]
    print(json.dumps(_as_json(nodes), indent=2) if arguments.output == "json" else "\n".join(as_table(nodes)))
    return EXIT_DONE if is_well(nodes) else EXIT_FATAL


def members_of(raft: dict[str, str]) -> list[tuple[str, str]]:
    """Return (node id, host:port) of every member line in INFO raft, by node id."""
    found = []
    for name, value in raft.items():
        fields = dict(part.partition("=")[::2] for part in value.split(","))
        if name.startswith(_MEMBER) and "address" in fields:
            found.append((name.removeprefix(_MEMBER), fields["address"]))
    return sorted(found)


def ask(node_id: str, address: str, host: str, port: int, password: str, timeout_s: float) -> NodeStatus:
    """Return what the node at `address` (or at `host` and `port`, if a host is given) says of itself."""
    if not host:
        host, port_text = split_host_port(address)
        port = parse_port(port_text)
    try:
        with RespClient(host, port, password, timeout_s) as client:
            raft = client.info("raft")
            server = client.info("server")
    except (NoAnswer, ErrorReply) as error:
        return NodeStatus(node_id, address, problem=str(error))
    return NodeStatus(
        node_id=node_id,
        address=address,
        role=raft.get("raft_role", ""),
        leader_id=raft.get("raft_leader_id", ""),
        term=_number(raft, "raft_current_term"),
        commit_index=_number(raft, "raft_commit_index"),
        applied_index=_number(raft, "raft_applied_index"),
        log_entries=_number(raft, "raft_log_entries"),
        snapshot_index=_number(raft, "raft_snapshot_index"),
        version=server.get("zattredis_version", ""),
    )


def _number(raft: dict[str, str], name: str) -> int:
    text = raft.get(name, "0")
    return int(text) if text.isdecimal() else 0


def is_well(nodes: Sequence[NodeStatus]) -> bool:
    """Return whether every node answers and the latest term has one leader that all of them know."""
    if any(node.problem for node in nodes):
        return False
    leaders = {node.node_id for node in nodes if node.role == "leader"}
    return len(leaders) == 1 and {node.leader_id for node in nodes} == leaders


def as_table(nodes: Sequence[NodeStatus]) -> Iterator[str]:
    """Yield the lines of the table: one node a line, then what is wrong, if anything."""
    rows: list[tuple[str, ...]] = [
        ("NODE", "ADDRESS", "ROLE", "TERM", "COMMITTED", "APPLIED", "LOG", "SNAPSHOT", "VERSION")
    ]
    for node in nodes:
        if node.problem:
            rows.append((node.node_id, node.address, "no answer", *["-"] * 6))
            continue
        numbers = (node.term, node.commit_index, node.applied_index, node.log_entries, node.snapshot_index)
        rows.append((node.node_id, node.address, node.role, *map(str, numbers), node.version))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()
    for node in nodes:
        if node.problem:
            yield f"{node.node_id}: {node.problem}"
    if not any(node.role == "leader" for node in nodes):
        answering = sum(not node.problem for node in nodes)
        yield f"no leader: {answering} of {len(nodes)} nodes answer, {len(nodes) // 2 + 1} are needed"


def _as_json(nodes: Sequence[NodeStatus]) -> dict[str, object]:
    leaders = [node.node_id for node in nodes if node.role == "leader"]
    return {"healthy": is_well(nodes), "leader": leaders[0] if leaders else None, "nodes": [*map(asdict, nodes)]}


if __name__ == "__main__":
    raise SystemExit(main())
