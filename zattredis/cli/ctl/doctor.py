"""`zattctl doctor`: what is wrong with a cluster, or soon will be, and what to do about it."""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

from zattredis.cli.arguments import EXIT_DONE, EXIT_FATAL
from zattredis.cli.ctl.frame import Subcommand
from zattredis.cli.ctl.nodes import Node, as_dict, leader_of, members_of, targets
from zattredis.cli.ctl.status import fsync_usec, lag_of
from zattredis.cli.ctl.table import milliseconds, size
from zattredis.cli.ctl.target import Target
from zattredis.cli.resp_client import ErrorReply, NoAnswer
from zattredis.config import SETTINGS, is_loopback
from zattredis.config.spec import split_bind
from zattredis.errors import ConfigError

CLOCK_WARNING_MS: Final = 500
CLOCK_PROBLEM_MS: Final = 10_000
"""From here on a leader hands over (`server.housekeeping`)."""
SYNC_WARNING_USEC: Final = 25_000
SYNC_WORST_USEC: Final = 1_000_000
LAG_WARNING: Final = 10_000
SPARE_BYTES: Final = 1 << 30
ELECTIONS_AN_HOUR: Final = 6
MEMORY_SHARE: Final = 0.9
CLIENTS_SHARE: Final = 0.9

_SECTIONS: Final = ("raft", "server", "persistence", "stats", "memory", "clients")
_OWN_SETTINGS: Final = {
    spec.config_name or name.replace("_", "-")
    for name, spec in SETTINGS.items()
    if spec.section == "node" or spec.kind in ("port", "path", "host", "bind", "binds")
} | {
    "logfile", "unixsocket", "pidfile", "aclfile", "cluster-announce-tls-port", "tls-cert-file", "tls-key-file",
    "tls-key-file-pass", "tls-cluster-cert-file", "tls-cluster-key-file",
}  # fmt: skip
"""What has to differ between nodes, or may: each has a certificate of its own."""
_AT_START: Final = {spec.config_name or name.replace("_", "-") for name, spec in SETTINGS.items() if not spec.hot}
"""What CONFIG SET refuses."""
_SECRETS: Final = {spec.config_name or name.replace("_", "-") for name, spec in SETTINGS.items() if spec.secret}
"""What is compared, and never shown."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing: how bad (`problem`, `warning` or `note`), of which node (or all), and what to do."""

    level: str
    node: str
    text: str
    remedy: str


@dataclass(frozen=True, slots=True)
class Patient:
    """A node with what only the doctor asks for."""

    node: Node
    clock_ms: float | None = None
    """How far its wall clock is ahead of this machine's, the way there and back halved."""
    config: dict[str, str] | None = None
    raft: dict[str, Any] | None = None
    nopass: bool = False
    """Whether the user `default` is let in without a password."""
    refused: tuple[str, ...] = ()
    """Questions that the node does not answer to this user."""


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-o", "--output", choices=("text", "json"), default="text", help="form of the answer")


def run(arguments: argparse.Namespace) -> int:
    """Ask all nodes; 0 if there is nothing to do."""
    members = targets(Target.of(arguments))
    with ThreadPoolExecutor(16) as pool:
        patients = list(pool.map(lambda member: _examine(member[0], member[1], member[2]), members))
    findings = list(diagnose(patients))
    if arguments.output == "json":
        print(json.dumps([asdict(finding) for finding in findings], indent=2))
    else:
        print("\n".join(_as_text(findings, len(patients))))
    return EXIT_DONE if all(finding.level == "note" for finding in findings) else EXIT_FATAL


def _examine(node_id: str, address: str, target: Target) -> Patient:
    refused: list[str] = []

    def ask(*words: str) -> Any:
        """Return what the node answers; None from one that answers, but not this to this user: it is no dead one."""
        try:
            return client.call(*words)
        except ErrorReply:
            refused.append(" ".join(words[:2]))
            return None

    try:
        with target.connect() as client:
            info = client.info(*_SECTIONS)
            asked, told, now = time.time(), ask("TIME"), time.time()
            clock_ms = None if told is None else (int(told[0]) + int(told[1]) / 1e6 - (asked + now) / 2) * 1000
            config, raft = ask("CONFIG", "GET", "*"), ask("RAFT", "STATUS")
            shown, state = (None if pairs is None else as_dict(pairs) for pairs in (config, raft))
            nopass = config is not None and _lets_in_anybody(target)
            return Patient(Node(node_id, address, info), clock_ms, shown, state, nopass, tuple(refused))
    except (NoAnswer, ErrorReply) as error:
        return Patient(Node(node_id, address, problem=str(error)))


def _lets_in_anybody(target: Target) -> bool:
    """Whether the user `default` needs no password: it is tried, for no majority need be there to ask."""
    if not target.password and not target.user:
        return True
    try:
        with replace(target, password="", user="").connect() as client:
            return bool(client.call("PING"))
    except (NoAnswer, ErrorReply):
        return False


def diagnose(patients: Sequence[Patient]) -> Iterator[Finding]:
    """Yield everything that is found, the worst first."""
    found = [finding for look in _LOOKS for finding in look(patients)]
    yield from sorted(found, key=lambda finding: ("problem", "warning", "note").index(finding.level))


def _alive(patients: Sequence[Patient]) -> list[Patient]:
    return [patient for patient in patients if not patient.node.problem]


def _answers(patients: Sequence[Patient]) -> Iterator[Finding]:
    for patient in patients:
        if patient.node.problem:
            yield Finding(
                "problem",
                patient.node.node_id,
                patient.node.problem,
                "look whether it runs and can be reached; if it is gone for good, put another in its place: "
                f"zattctl members replace {patient.node.node_id} --with ID=HOST:PORT",
            )


def _rights(patients: Sequence[Patient]) -> Iterator[Finding]:
    """What could not be looked at."""
    refused = sorted({question for patient in patients for question in patient.refused})
    if refused:
        yield Finding(
            "note", "", f"not all was looked at: this user may not ask for {', '.join(refused)}",
            "ask as another user (--user), or allow it: ACL SETUSER … +time +config|get +raft|status",
        )  # fmt: skip


def _voters(patients: Sequence[Patient]) -> list[str]:
    for patient in patients:
        if patient.raft is not None:
            return list(patient.raft["voters"])
    return [patient.node.node_id for patient in patients if patient.node.role != "learner"]


def _quorum(patients: Sequence[Patient]) -> Iterator[Finding]:
    alive = {patient.node.node_id for patient in _alive(patients)}
    voters = _voters(patients)
    live = [voter for voter in voters if voter in alive]
    needed = len(voters) // 2 + 1
    if len(live) < needed:
        yield Finding(
            "problem",
            "",
            f"no quorum: {len(live)} of {len(voters)} voters answer, {needed} are needed",
            "start the missing ones; if they are gone for good: zattctl recover --help",
        )
    elif leader_of([patient.node for patient in patients]) is None:
        yield Finding(
            "problem",
            "",
            "no node leads, though enough voters answer",
            "if this lasts longer than a few seconds, look at their logs and the links between them",
        )
    elif len(live) == needed and len(voters) > 2 and len(live) < len(voters):
        yield Finding(
            "warning",
            "",
            f"{len(live)} of {len(voters)} voters answer: one more lost, and all writes stop",
            "start or replace the missing ones",
        )
    if len(voters) == 1:
        yield Finding("note", "", "one voter: if it is lost, so are service and data", "add two: zattd --join")
    elif len(voters) % 2 == 0:
        yield Finding(
            "warning",
            "",
            f"{len(voters)} voters survive no more losses than {len(voters) - 1} would",
            "add one or remove one: zattctl members --help",
        )


def _links(patients: Sequence[Patient]) -> Iterator[Finding]:
    dead = {patient.node.node_id for patient in patients if patient.node.problem}
    for patient in _alive(patients):
        for other, fields in members_of(patient.node.info):
            if fields.get("connected") == "no" and other not in dead and other != patient.node.node_id:
                yield Finding(
                    "problem",
                    patient.node.node_id,
                    f"has no link to {other}, which answers clients",
                    "check the peer port between them, the address in zattctl members, and the cluster secret",
                )


def _clusters(patients: Sequence[Patient]) -> Iterator[Finding]:
    """A node of another cluster answers where a member should."""
    ids = {p.node.node_id: p.node.text("raft_cluster_id") for p in _alive(patients)}
    if len(set(ids.values())) > 1:
        shown = ", ".join(f"{node_id} of {cluster_id}" for node_id, cluster_id in ids.items())
        yield Finding(
            "problem", "", f"they are not of one cluster: {shown}",
            "look which data directory each was started with, and whether an address leads to another cluster",
        )  # fmt: skip


def _states(patients: Sequence[Patient]) -> Iterator[Finding]:
    nodes = [patient.node for patient in patients]
    for patient in _alive(patients):
        node = patient.node
        if node.text("raft_state") == "rejoining":
            yield Finding(
                "warning",
                node.node_id,
                "has lost its data, and does not vote until it has heard from all other voters and caught up",
                "start the other voters",
            )
        if (lag := lag_of(node, nodes)) > LAG_WARNING:
            yield Finding(
                "warning",
                node.node_id,
                f"is {lag:,} entries behind",
                "its disk, its processor or its network is too slow, or it is just catching up",
            )
        hours = max(1.0, node.number("uptime_in_seconds") / 3600)
        if node.number("raft_elections") / hours > ELECTIONS_AN_HOUR:
            yield Finding(
                "warning",
                node.node_id,
                f"began {node.number('raft_elections')} elections in {hours:.0f} h",
                "its network is unsteady or its machine overloaded; or raise election_timeout_ms",
            )
        change = (patient.raft or {}).get("change", "none")
        if change != "none" and node.role == "leader":
            yield Finding("note", "", f"a membership change is under way: {change}", "zattctl members shows how far")


def _clocks(patients: Sequence[Patient]) -> Iterator[Finding]:
    clocks = {p.node.node_id: p.clock_ms for p in patients if p.clock_ms is not None}
    if len(clocks) < 2:
        return
    median = statistics.median(clocks.values())
    for node_id, clock_ms in clocks.items():
        off = clock_ms - median
        if abs(off) >= CLOCK_WARNING_MS:
            level = "problem" if abs(off) >= CLOCK_PROBLEM_MS else "warning"
            yield Finding(
                level,
                node_id,
                f"its clock is {abs(off) / 1000:.1f} s {'ahead' if off > 0 else 'behind'}",
                "set it by NTP (timedatectl, chronyc tracking); while it leads, keys expire by it",
            )


def _disks(patients: Sequence[Patient]) -> Iterator[Finding]:
    for patient in _alive(patients):
        node = patient.node
        mean, worst = fsync_usec(node), node.number("storage_sync_usec_max")
        if mean > SYNC_WARNING_USEC:
            yield Finding(
                "warning",
                node.node_id,
                f"a sync of its log takes {milliseconds(mean)} on average",
                "each write waits for a majority of these: use a disk with power-loss protection, of its own",
            )
        elif worst > SYNC_WORST_USEC:
            yield Finding(
                "warning",
                node.node_id,
                f"a sync of its log lately took {milliseconds(worst)}",
                "look what else uses that disk (iostat -x 1)",
            )
        free = node.number("storage_free_bytes")
        used = node.number("storage_log_bytes") + node.number("storage_state_bytes")
        if node.text("aof_last_write_status") == "err":
            yield Finding(
                "problem",
                node.node_id,
                f"refuses writes (DISKFULL): {size(free)} are free",
                f"make room in {node.text('storage_directory')}; it heals without a restart",
            )
        elif free < max(SPARE_BYTES, used):
            yield Finding(
                "warning",
                node.node_id,
                f"{size(free)} are free beside {size(used)} of data",
                "a snapshot that is installed needs room for the whole state once more",
            )


def _limits(patients: Sequence[Patient]) -> Iterator[Finding]:
    for patient in _alive(patients):
        node = patient.node
        limit = node.number("maxmemory")
        if limit and node.number("used_memory") > MEMORY_SHARE * limit:
            yield Finding(
                "warning",
                node.node_id,
                f"uses {size(node.number('used_memory'))} of maxmemory {size(limit)}",
                "above it writes are refused (OOM); raise maxmemory_bytes or lower the caches",
            )
        clients = node.number("connected_clients")
        if clients > CLIENTS_SHARE * max(1, node.number("maxclients")):
            yield Finding(
                "warning",
                node.node_id,
                f"has {clients} of at most {node.number('maxclients')} clients",
                "raise maxclients (and the limit of open files), or look who forgets to disconnect",
            )


def _versions(patients: Sequence[Patient]) -> Iterator[Finding]:
    versions = {p.node.node_id: p.node.text("zattredis_version") for p in _alive(patients)}
    if len(set(versions.values())) > 1:
        shown = ", ".join(f"{node_id} {version}" for node_id, version in versions.items())
        yield Finding("note", "", f"versions differ: {shown}", "finish the upgrade: restart the older ones, one by one")


def _configurations(patients: Sequence[Patient]) -> Iterator[Finding]:
    configs = {p.node.node_id: p.config for p in patients if p.config is not None}
    for name in sorted({name for config in configs.values() for name in config} - _OWN_SETTINGS):
        values = {node_id: config[name] for node_id, config in configs.items() if name in config}
        if name.endswith("-port") and "0" not in values.values():
            continue  # nodes on one machine cannot have the same
        if len(set(values.values())) > 1:
            shown = ", ".join(
                f"{node_id}: {'…' if name in _SECRETS else value or 'empty'}" for node_id, value in values.items()
            )
            how = "in their settings, and restart" if name in _AT_START else "CONFIG SET, and in their settings files"
            remedy = f"set it alike on all nodes ({how})"
            yield Finding("warning", "", f"{name} differs: {shown}", remedy)


def _doors(patients: Sequence[Patient]) -> Iterator[Finding]:
    """Who may come in from other machines."""
    for patient in patients:
        config = patient.config
        if config is None:
            continue
        anyone = patient.nopass and config.get("protected-mode") == "no"
        ports = [] if config.get("port") == config.get("tls-port") else [config.get("bind", "")]
        if config.get("tls-port", "0") != "0" and config.get("tls-auth-clients") != "yes":
            ports = [config.get("bind", "")]
        reached = [host for text in ports for host in text.replace(",", " ").split() if not _is_loopback(host)]
        if anyone and reached:
            yield Finding(
                "warning",
                patient.node.node_id,
                f"lets in everybody who reaches {' '.join(reached)}: protected mode is off, and no password is needed",
                "set one (CONFIG SET requirepass …, or users by ACL SETUSER), or bind = \"127.0.0.1\"",
            )
        if config.get("admin-port", "0") != "0" and not _is_loopback(config.get("admin-bind", "")):
            yield Finding(
                "warning" if anyone else "note",
                patient.node.node_id,
                f"its admin port listens on {config['admin-bind']}, in plain HTTP"
                + (", and asks nobody for a password" if anyone else ""),
                "let only those reach it who may know its metrics; admin_bind = \"127.0.0.1\" keeps it to this machine",
            )


def _is_loopback(bind: str) -> bool:
    """Whether an address, or address:port, is of the machine itself."""
    host = bind
    with contextlib.suppress(ConfigError):
        host = split_bind(bind)[0]
    return is_loopback(host)


_LOOKS: Final[tuple[Callable[[Sequence[Patient]], Iterator[Finding]], ...]] = (
    _answers,
    _rights,
    _clusters,
    _quorum,
    _links,
    _states,
    _clocks,
    _disks,
    _limits,
    _doors,
    _configurations,
    _versions,
)


def _as_text(findings: Sequence[Finding], count: int) -> Iterator[str]:
    for finding in findings:
        who = f"{finding.node}: " if finding.node else ""
        yield f"{finding.level.upper():<8} {who}{finding.text}"
        yield f"{'':<8} → {finding.remedy}"
    bad = sum(finding.level != "note" for finding in findings)
    yield f"{count} nodes: {'nothing to do' if not bad else f'{bad} to look after'}"


SUBCOMMAND = Subcommand(
    name="doctor",
    help="find what is wrong or soon will be, and say what to do",
    description="Look at all nodes: quorum and links, clocks, disks and their room, lag, memory, versions, settings "
    "that differ, who may come in. Each finding comes with what to do. Exit code 1 if there is a problem or a warning.",
    examples="zattctl doctor                          the cluster of the node on this machine\n"
    "zattctl doctor --host db1 -o json       the same for programs",
    arguments=_arguments,
    run=run,
)
