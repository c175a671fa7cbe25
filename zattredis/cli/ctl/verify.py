"""`zattctl verify`: is everything in a data directory, or in a backup, what it was written as? Offline, read-only."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from zattredis.cli.arguments import EXIT_DONE, EXIT_FATAL
from zattredis.cli.ctl.frame import Subcommand
from zattredis.cli.ctl.progress import Progress
from zattredis.cli.ctl.restore import input_stream
from zattredis.cli.ctl.table import size
from zattredis.errors import BackupDamaged, DataDirectoryBusy


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("path", metavar="PATH", nargs="+", help="a data directory or a backup; - is standard input")
    parser.add_argument("-o", "--output", choices=("text", "json"), default="text", help="form of the answer")


def run(arguments: argparse.Namespace) -> int:
    """Look at every path; 0 if nothing is wrong with any of them."""
    found = [_directory(path) if Path(path).is_dir() else _backup(path) for path in arguments.path]
    if arguments.output == "json":
        print(json.dumps(found, indent=2))
    else:
        print("\n".join(line for each in found for line in _as_text(each)))
    return EXIT_DONE if all(not each["problems"] for each in found) else EXIT_FATAL


def _directory(path: str) -> dict[str, Any]:
    from zattredis.storage.verification import verify

    with Progress(f"verify {path}", unit="records") as progress:
        try:
            report = verify(Path(path), lambda what, count: progress.at(count))
        except DataDirectoryBusy as error:
            return {"path": path, "kind": "data directory", "looked_at": False, "problems": [str(error)]}
    identity = report.identity
    return {
        "path": path,
        "kind": "data directory",
        "node_id": identity.node_id if identity else None,
        "cluster_id": identity.cluster_id if identity else None,
        "first_index": report.first_index,
        "last_index": report.last_index,
        "term": report.hard_state.term,
        "commit_index": report.hard_state.commit,
        "applied_index": report.applied.index,
        "voters": list(report.membership.voters),
        "learners": list(report.membership.learners),
        "keys": report.keys,
        "expires": report.expires,
        "records": report.records,
        "bytes": report.bytes,
        "problems": report.problems,
    }


def _backup(path: str) -> dict[str, Any]:
    from zattredis.server.offline import check_backup
    from zattredis.storage.backup_file import BackupReader

    found: dict[str, Any] = {"path": path, "kind": "backup", "problems": []}
    try:
        with input_stream(path) as stream:
            reader = BackupReader(stream)
            header = reader.header
            found |= {
                "created": header.created, "cluster_id": header.cluster_id, "node_id": header.node_id,
                "index": header.index, "term": header.term, "version": header.version,
                "voters": sorted(header.voters), "learners": sorted(header.learners),
                "compression": header.compression, "files": len(header.files), "bytes": header.size_bytes,
            }  # fmt: skip
            check_backup(header)
            done = 0
            with Progress(f"verify {path}", header.size_bytes) as progress:
                for piece in reader.pieces():
                    done += len(piece.data)
                    progress.at(done)
            found["compressed_bytes"] = reader.compressed_bytes
    except (BackupDamaged, OSError) as error:
        found["problems"].append(str(error))
    return found


def _as_text(found: dict[str, Any]) -> Iterator[str]:
    problems = found["problems"]
    verdict = "whole" if not problems else "DAMAGED" if found.get("looked_at", True) else "not looked at"
    yield f"{found['path']}: {found['kind']}, {verdict}"
    for problem in problems:
        yield f"  {problem}"
    if found["kind"] == "backup" and "index" in found:
        yield f"  cluster {found['cluster_id']}, entry {found['index']} of term {found['term']}, {found['created']}"
        yield f"  {found['files']} files, {size(found['bytes'])}, by version {found['version']} on {found['node_id']}"
    elif found.get("node_id") is not None:
        yield f"  node {found['node_id']} of cluster {found['cluster_id']}, voters {', '.join(found['voters'])}"
        yield (
            f"  log {found['first_index']} to {found['last_index']}, term {found['term']}, applied "
            f"{found['applied_index']}"
        )
        yield f"  {found['keys']:,} keys, {found['records']:,} records, {size(found['bytes'])}"


SUBCOMMAND = Subcommand(
    name="verify",
    help="check every checksum of a data directory or a backup, offline",
    description="Read all of a data directory that no node uses, or of a backup, and say whether it is whole: every "
    "checksum, a log without gaps, the applied index inside it, counts. Nothing is changed.",
    examples="zattctl verify zattredis-data           a node's data, while it is stopped\n"
    "zattctl verify data.backup              a backup\n"
    "zattctl verify d1 d2 data.backup -o json",
    arguments=_arguments,
    run=run,
    online=False,
)
