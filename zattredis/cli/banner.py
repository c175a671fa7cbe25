"""What a starting node says to a person: where the data is, who leads, and what to type next."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from zattredis.config import Settings, bracketed
from zattredis.raft.membership import Membership
from zattredis.version import __version__


def started_text(settings: Settings, membership: Membership, pid: int) -> str:
    """Return the lines printed once a node listens. The membership is the one in force: settings only begin one."""
    return "\n".join(_started_lines(settings, membership, pid))


def members_told(membership: Membership) -> list[str]:
    """Return `id=address` of every member, with a word about those that do not vote."""
    return [
        f"{node_id}={address}{'' if membership.is_voter(node_id) else ' (learner)'}"
        for node_id, address in membership.addresses.items()
    ]


def _started_lines(settings: Settings, membership: Membership, pid: int) -> Iterator[str]:
    listens = ", ".join(f"{bracketed(host)}:{port}" for host, port in settings.client_listen)
    yield f"zattredis {__version__}, node {settings.node_id}, process {pid}"
    yield f"  data     {Path(settings.dir).absolute()}"
    tls = ", ".join(f"{bracketed(host)}:{port}" for host, port in settings.tls_listen)
    yield f"  clients  {listens}{' (TLS)' if settings.tls_only else f', TLS {tls}' if tls else ''}"
    if settings.admin_listen is not None:
        host, port = settings.admin_listen
        yield f"  console  http://{bracketed(host)}:{port}/"
    if len(membership.members) > 1:
        host, port = settings.peer_listen
        yield f"  peers    {bracketed(host)}:{port}"
        yield f"  cluster  {', '.join(members_told(membership))}"


def waiting_text(settings: Settings, membership: Membership) -> str:
    """Return the line printed when no leader is known after a while."""
    voters = membership.voters
    others = ", ".join(node_id for node_id in voters if node_id != settings.node_id)
    return (
        f"  leader   none yet; waiting for {others}. All {len(voters)} nodes must run at the first start, "
        f"{len(voters) // 2 + 1} of them later"
    )


def ready_text(settings: Settings, leader_id: str, term: int) -> str:
    """Return the lines printed once a leader is known."""
    own = " (this node)" if leader_id == settings.node_id else ""
    reach = reach_flags(settings)
    return "\n".join(
        (
            f"  leader   {leader_id}{own}, term {term}",
            "",
            f"Try    redis-cli{reach} SET greeting hello",
            f"       {control_command()} status{reach.replace('-h', '--host')}",
            "Stop   Ctrl-C",
            *missing_tools(),
        )
    )


def control_command() -> str:
    """Return how to type `zattctl` here: its name if the shell finds it, else its path."""
    if shutil.which("zattctl"):
        return "zattctl"
    beside = Path(sys.executable).with_name("zattctl")
    if beside.exists():
        return shlex.quote(os.path.relpath(beside) if beside.is_relative_to(Path.cwd()) else str(beside))
    return f"{shlex.quote(sys.executable)} -m zattredis.cli.zattctl"


def missing_tools() -> list[str]:
    """Return a line about redis-cli if it is not installed."""
    if shutil.which("redis-cli"):
        return []
    return ["redis-cli is not installed here; it comes with Redis (Debian and Ubuntu: apt install redis-tools)."]


def reach_flags(settings: Settings) -> str:
    """Return the flags of redis-cli that reach this node from this machine, with a leading space each."""
    host, port = local_address(settings)
    tls = " --tls --cacert FILE" if settings.tls_only else ""
    return (f" -h {host}" if host != "127.0.0.1" else "") + f" -p {port}" + tls


def local_address(settings: Settings) -> tuple[str, int]:
    """Return (host, port) at which this machine reaches the node."""
    host, port = settings.client_listen[0]
    return {"0.0.0.0": "127.0.0.1", "::": "::1", "localhost": "127.0.0.1"}.get(host, host), port
