"""`zattctl backup`: the state of a running cluster in one file, read from one of its nodes."""

from __future__ import annotations

import argparse
import contextlib
import os
import queue
import sys
import threading
import time
import zlib
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final

from zattredis.cli.arguments import EXIT_DONE
from zattredis.cli.ctl.frame import Subcommand
from zattredis.cli.ctl.nodes import Node, as_dict, ask_each, targets
from zattredis.cli.ctl.progress import Progress
from zattredis.cli.ctl.table import size
from zattredis.cli.ctl.target import Target
from zattredis.cli.resp_client import NoAnswer, RespClient
from zattredis.config.spec import parse_size
from zattredis.errors import ConfigError, StorageFailed, ZattredisError

if TYPE_CHECKING:
    from zattredis.storage.backup_file import BackupHeader, Piece

PIECE_BYTES: Final = 1 << 20
AHEAD: Final = 4
"""Pieces read before they are written."""
NICENESS: Final = 19
WRITE_BACK_BYTES: Final = 4 << 20
"""After so many bytes the disk is told to take them."""
BEGIN_S: Final = 120.0
"""How long a node may take to flush its state."""


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", help="where the backup goes; - is standard output")
    parser.add_argument("--node", metavar="ID", help="read from this node (default: the follower that lags least)")
    parser.add_argument(
        "--compression", choices=("zstd", "zlib", "none"), default="zstd", help="how it is compressed (zstd)"
    )
    parser.add_argument("--rate", metavar="BYTES", type=_rate, default=0, help="read at most so much a second: 50MiB")
    parser.add_argument("--stale", action="store_true", help="take what the node has, also where no majority is left")
    parser.add_argument("--force", action="store_true", help="overwrite FILE")


def _rate(text: str) -> int:
    try:
        return parse_size(text)
    except ConfigError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def run(arguments: argparse.Namespace) -> int:
    """Read one node's checkpoint into the file."""
    target = Target.of(arguments)
    node_id, source = _choose(target, arguments.node)
    # What is done here is never urgent; on the machine of a node it leaves the processor to that.
    with contextlib.suppress(OSError):
        os.nice(NICENESS)
    with _output(arguments.file, arguments.force) as stream, source.connect(max(BEGIN_S, source.timeout_s)) as client:
        words = ["RAFT", "BACKUP", "BEGIN", *(["STALE"] if arguments.stale else [])]
        begun = as_dict(client.call(*words))
        written, header, seconds = _copy(client, begun, stream, arguments.compression, arguments.rate)
    name = "standard output" if arguments.file == "-" else arguments.file
    print(
        f"{name}: entry {header.index} of cluster {header.cluster_id}, from {node_id}: {size(header.size_bytes)} as "
        f"{size(written)} in {seconds:.1f} s ({size(header.size_bytes / seconds)}/s)",
        file=sys.stderr,
    )
    return EXIT_DONE


def _choose(target: Target, wanted: str | None) -> tuple[str, Target]:
    """Return the node to read from: the one that is wanted, else a follower, so that the leader is left in peace."""
    members = targets(target)
    if wanted is not None:
        for node_id, _, each in members:
            if node_id == wanted:
                return node_id, each
        known = ", ".join(node_id for node_id, _, _ in members)
        raise ConfigError(f"{wanted} is no member of the cluster; its members are {known}")
    nodes = ask_each(members, ("raft",))
    reachable = {node_id: each for node_id, _, each in members}

    def rank(node: Node) -> tuple[bool, bool, int]:
        return node.text("raft_state") != "up", node.role == "leader", -node.number("raft_applied_index")

    found = sorted((node for node in nodes if not node.problem), key=rank)
    if not found:
        raise NoAnswer("no node of the cluster answers")
    return found[0].node_id, reachable[found[0].node_id]


@contextlib.contextmanager
def _output(name: str, force: bool) -> Iterator[BinaryIO]:
    """Open the file under another name; it gets its own once it is complete and durable."""
    if name == "-":
        if sys.stdout.isatty():
            raise ConfigError("a backup is not written to a terminal; name a file, or redirect standard output")
        yield sys.stdout.buffer
        return
    path = Path(name)
    if path.exists() and not force:
        raise ConfigError(f"{path} is there already; --force overwrites it")
    partial = path.with_name(path.name + ".partial")
    try:
        with open(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "wb", 0) as stream:
            yield stream
            os.fsync(stream.fileno())
        os.replace(partial, path)
        from zattredis.storage.rocks import fsync_directory

        fsync_directory(path.parent)
    except OSError as error:
        raise StorageFailed(f"cannot write {partial}: {error.strerror}") from None
    finally:
        partial.unlink(missing_ok=True)


def _header(begun: dict[str, Any], compression: str) -> BackupHeader:
    from zattredis.storage.backup_file import BackupFile, BackupHeader

    def addresses(name: str) -> dict[str, str]:
        return dict(member.partition("=")[::2] for member in begun[name])

    return BackupHeader(
        created=datetime.now(UTC).isoformat(timespec="seconds"), cluster_id=begun["cluster_id"],
        node_id=begun["node_id"], index=begun["index"], term=begun["term"], ordinal=begun["ordinal"],
        version=begun["version"], data_format=begun["data_format"],
        state_machine_version=begun["state_machine_version"], compression=compression, voters=addresses("voters"),
        learners=addresses("learners"), files=[BackupFile(name, count) for name, count in begun["files"]],
    )  # fmt: skip


def _copy(
    client: RespClient, begun: dict[str, Any], stream: BinaryIO, compression: str, rate: int
) -> tuple[int, BackupHeader, float]:
    """Copy all pieces; return the bytes written, the header and the seconds it took."""
    from zattredis.storage.backup_file import BackupWriter
    from zattredis.storage.rocks import write_back

    header = _header(begun, compression)
    length = min(PIECE_BYTES, begun["piece_bytes_max"])
    ready: queue.Queue[tuple[Piece, int] | BaseException | None] = queue.Queue(AHEAD)
    stop = threading.Event()
    reading = threading.Thread(
        target=_read_all, args=(client, begun["token"], header, length, rate, ready, stop), daemon=True
    )
    with Progress("backup", header.size_bytes) as progress:
        writer = BackupWriter(stream, header)
        reading.start()
        done = begun_back = 0
        try:
            while (item := ready.get()) is not None:
                if isinstance(item, BaseException):
                    raise item
                piece, crc = item
                writer.write(piece, crc)
                done += len(piece.data)
                progress.at(done)
                if writer.written - begun_back >= WRITE_BACK_BYTES:
                    write_back(stream.fileno(), begun_back, writer.written)
                    begun_back = writer.written
        finally:
            stop.set()
            while reading.is_alive():
                with contextlib.suppress(queue.Empty):
                    ready.get(timeout=0.05)
        client.call("RAFT", "BACKUP", "END", begun["token"])
        writer.finish()
    return writer.written, header, progress.seconds


def _read_all(
    client: RespClient, token: str, header: BackupHeader, length: int, rate: int, ready: Any, stop: threading.Event
) -> None:
    """Read every piece and put it into the queue, None behind the last; an error goes there as well."""
    from zattredis.storage.backup_file import Piece

    started = time.monotonic()
    done = 0
    try:
        for number, file in enumerate(header.files):
            offset = 0
            while offset < file.size and not stop.is_set():
                crc, data = client.call("RAFT", "BACKUP", "READ", token, str(number), str(offset), str(length))
                if not data or zlib.crc32(data) != crc:
                    raise NoAnswer(f"{file.name} at {offset} came with a wrong checksum; nothing was kept")
                ready.put((Piece(number, offset, data), crc))
                offset += len(data)
                done += len(data)
                if rate:
                    stop.wait(max(0.0, done / rate - (time.monotonic() - started)))
        ready.put(None)
    except (ZattredisError, ValueError, TypeError) as error:
        ready.put(error)


SUBCOMMAND = Subcommand(
    name="backup",
    help="save the whole cluster's data to a file, while it runs",
    description="Save all data as of one moment, with every write that was acknowledged before. It is read from one "
    "node (a follower, if one answers) over its client port, compressed and checksummed here, at low priority.",
    examples="zattctl backup data.backup                     the cluster of the node on this machine\n"
    "zattctl backup - | ssh vault 'cat > b'         to standard output\n"
    "zattctl backup data.backup --rate 50MiB        at most 50 MiB a second\n"
    "zattctl backup data.backup --node n2 --stale   what n2 has, also without a majority",
    arguments=_arguments,
    run=run,
)
