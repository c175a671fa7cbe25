"""`zattctl restore`: data directories of a new cluster from a backup, offline."""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from zattredis.cli.arguments import EXIT_DONE
from zattredis.cli.ctl.frame import Subcommand
from zattredis.cli.ctl.progress import Progress
from zattredis.cli.ctl.table import size
from zattredis.config.cluster import Member, parse_cluster
from zattredis.errors import ConfigError

if TYPE_CHECKING:
    from zattredis.storage.backup_file import BackupHeader

NICENESS = 10
_NODE = "{node}"


def _arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("file", metavar="FILE", help="the backup; - is standard input")
    add("--cluster", required=True, metavar="MEMBERS", help="all members of the new cluster: n1=host:port,n2=host:port")
    add("--node", action="append", default=[], metavar="ID", help="write this node's directory (default: every one's)")
    add("--dir", required=True, metavar="DIR", help=f"where to; {_NODE} in it stands for the node's id")
    add("--cluster-id", metavar="ID", help="that an earlier restore printed, for the other nodes of its cluster")


def run(arguments: argparse.Namespace) -> int:
    """Write the directories."""
    members = parse_cluster(arguments.cluster)
    if not members:
        raise ConfigError("--cluster names no member; write for example n1=127.0.0.1:6379")
    directories = _directories(arguments.node or [member.node_id for member in members], members, arguments.dir)
    # A node on this machine, of the old cluster perhaps, goes first.
    with contextlib.suppress(OSError):
        os.nice(NICENESS)
    from zattredis.server.offline import restore
    from zattredis.storage.backup_file import BackupReader

    with input_stream(arguments.file) as stream:
        reader = BackupReader(stream)
        header = reader.header
        cluster_id = _cluster_id(header, arguments.cluster_id)
        with Progress("restore", header.size_bytes) as progress:
            addresses = {member.node_id: member.address for member in members}
            restore(reader, directories, addresses, cluster_id, progress.at)
        seconds = progress.seconds
    print(
        f"restored entry {header.index} of cluster {header.cluster_id} ({header.created}): {size(header.size_bytes)} "
        f"in {seconds:.1f} s",
        file=sys.stderr,
    )
    print("\n".join(_what_now(arguments, members, directories, cluster_id)))
    return EXIT_DONE


def _directories(node_ids: list[str], members: tuple[Member, ...], pattern: str) -> dict[str, Path]:
    known = {member.node_id for member in members}
    for node_id in node_ids:
        if node_id not in known:
            raise ConfigError(f"--node {node_id} is not in --cluster, which names {', '.join(sorted(known))}")
    if len(node_ids) > 1 and _NODE not in pattern:
        raise ConfigError(f"{len(node_ids)} nodes need a directory each: write {_NODE} in --dir, or name one --node")
    return {node_id: Path(pattern.replace(_NODE, node_id)).absolute() for node_id in node_ids}


def _cluster_id(header: BackupHeader, given: str | None) -> str:
    """Return the new cluster's id. It ends in digits of the backup: no node of it may begin with another backup."""
    from zattredis.server.offline import new_cluster_id

    text = f"{header.cluster_id} {header.index} {header.term} {header.created} {header.node_id}"
    tail = hashlib.blake2b(text.encode(), digest_size=4).hexdigest()
    if given is None:
        return new_cluster_id()[:12] + tail
    if given == header.cluster_id:
        raise ConfigError("--cluster-id is that of the cluster the backup is of; a restored one gets an id of its own")
    if not re.fullmatch(r"[0-9a-f]{20}", given) or not given.endswith(tail):
        raise ConfigError("--cluster-id was not printed by a restore of this very backup: all nodes need the same one")
    return given


@contextlib.contextmanager
def input_stream(name: str) -> Iterator[BinaryIO]:
    """Open a file, or standard input for -. Raises ConfigError."""
    if name == "-":
        yield sys.stdin.buffer
        return
    try:
        descriptor = os.open(name, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise ConfigError(f"cannot read {name}: {error.strerror}") from None
    with open(descriptor, "rb", 1 << 20) as stream:
        yield stream


def _what_now(
    arguments: argparse.Namespace, members: tuple[Member, ...], directories: dict[str, Path], cluster_id: str
) -> Iterator[str]:
    yield f"cluster id {cluster_id}"
    cluster = ",".join(map(str, members))
    for node_id, path in directories.items():
        yield f"start     zattd --node {node_id} --dir {path} --cluster {cluster}"
    for member in members:
        if member.node_id not in directories:
            yield (
                f"still to restore   zattctl restore {arguments.file} --cluster {cluster} --node {member.node_id} "
                f"--dir DIR --cluster-id {cluster_id}"
            )


SUBCOMMAND = Subcommand(
    name="restore",
    help="make a new cluster from a backup: writes data directories, offline",
    description="Write the data directories of a new cluster from a backup. Its members may be others than those of "
    "the cluster the backup is of; its cluster id is new, so that the two can never mix. Nothing is overwritten.",
    examples="zattctl restore data.backup --cluster n1=127.0.0.1:6379 --dir d1\n"
    "zattctl restore data.backup --cluster n1=127.0.0.1:7001,n2=127.0.0.1:7002,n3=127.0.0.1:7003 --dir 'new/{node}'\n"
    "zattctl restore data.backup --cluster n1=a:6379,n2=b:6379,n3=c:6379 --node n1 --dir d1    on a, then with\n"
    "                                                    the --cluster-id that this prints on b and c",
    arguments=_arguments,
    run=run,
    online=False,
)
