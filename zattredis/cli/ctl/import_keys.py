"""`zattctl import`: the keys of a live Redis server, or of an RDB file, into a cluster."""

from __future__ import annotations

import argparse
import contextlib
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

from zattredis.cli.arguments import EXIT_DONE, EXIT_FATAL
from zattredis.cli.ctl.frame import Subcommand
from zattredis.cli.ctl.progress import Progress
from zattredis.cli.ctl.target import Target
from zattredis.errors import ConfigError, ZattredisError

if TYPE_CHECKING:
    from zattredis.cli.moving.loader import Loader, Outcome
    from zattredis.cli.moving.pipe import Address, Tls
    from zattredis.cli.moving.position import Position
    from zattredis.cli.moving.sources import Source

_URLS: Final = ("redis://", "rediss://", "unix://")
_TIMEOUT_S: Final = 60.0
_STANDARD_INPUT: Final = "-"


def _arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("source", help="redis://[user:password@]host:port[/db], rediss://, unix://, an RDB file, or -")
    add("--replace", action="store_true", help="overwrite keys that exist (default: they are left and reported)")
    add("--verify", action="store_true", help="at the end compare every key, its value and expiry, with the source")
    add("--db", type=int, metavar="N", help="only this database of the source (default: all)")
    add("--match", metavar="PATTERN", help="only keys that match, of a live server (as in SCAN)")
    add("--rate", type=float, default=0.0, metavar="KEYS", help="at most so many keys a second (default: no limit)")
    add("--position", metavar="FILE", help="where to keep how far it is (default: in ~/.local/state/zattredis)")
    add("--restart", action="store_true", help="begin at the start, not where an interrupted import ended")
    add("--check", action="store_true", help="of a file: only read it through and say what it holds")
    add("--quiet", action="store_true", help="show no progress")
    group = parser.add_argument_group("TLS of a rediss:// source")
    group.add_argument("--source-ca", metavar="FILE", help="certificates of the authorities to trust")
    group.add_argument("--source-cert", metavar="FILE", help="own certificate")
    group.add_argument("--source-key", metavar="FILE", help="its key")
    group.add_argument("--source-insecure", action="store_true", help="do not check the server's certificate")


def run(arguments: argparse.Namespace) -> int:
    """Import, and verify if asked for; 0 if every key is in the cluster as it is in the source."""
    if arguments.check:
        return _check(arguments)
    address = address_of(Target.of(arguments))
    with _source(arguments) as source:
        for line in source.notes():
            print(line)
        good = _import(arguments, source, address)
        if arguments.verify:
            good = _verify(arguments, source, address) and good
    return EXIT_DONE if good else EXIT_FATAL


@contextlib.contextmanager
def progress_of(
    arguments: argparse.Namespace, what: str, total: int, unit: str = "keys"
) -> Iterator[Callable[[int], None]]:
    """Yield what is to be told how much is done."""
    if arguments.quiet:
        yield lambda done: None
        return
    with Progress(what, total, unit=unit) as progress:
        yield progress.at


def address_of(target: Target) -> Address:
    """Return where the cluster is, as the pipelined connection takes it."""
    from zattredis.cli.moving.pipe import Address

    return Address(target.host, target.port, target.user, target.password)


def _tls(arguments: argparse.Namespace) -> Tls:
    from zattredis.cli.moving.pipe import Tls

    return Tls(arguments.source_ca, arguments.source_cert, arguments.source_key, arguments.source_insecure)


# -- where the keys come from ------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _source(arguments: argparse.Namespace) -> Iterator[Source]:
    if not arguments.source.startswith(_URLS):
        if arguments.match is not None:
            raise ConfigError("--match is for live servers")
        with _file(arguments) as source:
            yield source
        return
    from zattredis.cli.moving.pipe import Address
    from zattredis.cli.moving.sources import LiveSource

    where = Address.of_url(arguments.source, _tls(arguments))
    if arguments.db is not None:
        where = where.with_db(arguments.db)
    live = LiveSource(where, arguments.timeout or _TIMEOUT_S, arguments.match)
    try:
        yield live
    finally:
        live.close()


@contextlib.contextmanager
def _file(arguments: argparse.Namespace) -> Iterator[Source]:
    """Open and check a file; a damaged one is refused before anything is written."""
    from zattredis.cli.moving.rdb_file import RdbFile
    from zattredis.cli.moving.sources import FileSource

    with _on_disk(arguments.source) as path, RdbFile(path) as file:
        with progress_of(arguments, "checking the file", file.size, "bytes") as seen:
            summary = file.check(seen)
        stat = path.stat()
        identity = f"{path.resolve()} {stat.st_size} {stat.st_mtime_ns} {arguments.db}"
        yield FileSource(file, summary, identity, arguments.db)


@contextlib.contextmanager
def _on_disk(name: str) -> Iterator[Path]:
    """Yield the path of a file; what comes by standard input is put into one."""
    if name != _STANDARD_INPUT:
        yield Path(name)
        return
    with tempfile.NamedTemporaryFile(prefix="zattctl-import-", suffix=".rdb") as kept:
        shutil.copyfileobj(sys.stdin.buffer, kept)
        kept.flush()
        yield Path(kept.name)


def _check(arguments: argparse.Namespace) -> int:
    from zattredis.cli.moving.sources import FileSource

    if arguments.source.startswith(_URLS):
        raise ConfigError("--check is for files")
    with _file(arguments) as source:
        assert isinstance(source, FileSource)
        summary = source.summary
        origin = ", ".join(f"{name} {value}" for name, value in summary.aux.items() if name in ("redis-ver", "ctime"))
        print(f"RDB version {summary.version}{f' ({origin})' if origin else ''}; checksum: {summary.checksum}")
        print(f"{summary.keys} keys: {', '.join(f'{count} {kind}' for kind, count in summary.types.most_common())}")
        for db, count in sorted(summary.databases.items()):
            print(f"database {db}: {count} keys")
        for line in source.notes():
            print(line)
    return EXIT_DONE


# -- importing ---------------------------------------------------------------------------------------------------------


def _import(arguments: argparse.Namespace, source: Source, address: Address) -> bool:
    from zattredis.cli.moving.loader import Loader, Outcome
    from zattredis.cli.moving.position import Position, default_path
    from zattredis.cli.moving.sources import Pace

    identity = f"{source.identity} → {address.where}"
    position = Position(Path(arguments.position) if arguments.position else default_path(identity), identity)
    outcome = Outcome()
    if not arguments.restart and position.load():
        outcome.counts.update(position.counts)
        print(f"going on where an earlier import ended, behind {outcome.keys} keys (--restart begins again)")
    pace = Pace(arguments.rate)
    began = time.monotonic()
    before = outcome.keys
    loader = Loader(
        address, arguments.timeout or _TIMEOUT_S, outcome, replace=arguments.replace,
        acknowledged=lambda group: position.reached(group.behind, outcome.counts),
    )  # fmt: skip
    try:
        with progress_of(arguments, "importing", max(source.total - before, 0)) as seen:
            for group in source.batches(position.behind):
                pace.spend(len(group.items))
                loader.add(group)
                seen(outcome.keys - before)
            loader.finish()
    except BaseException:
        _interrupted(loader, position)
        raise
    finally:
        loader.close()
    position.forget()
    _report(outcome, before, time.monotonic() - began)
    return outcome.good


def _interrupted(loader: Loader, position: Position) -> None:
    """Wait for what is under way, so that as little as possible is done twice, and write the position down."""
    with contextlib.suppress(ZattredisError):
        loader.finish()
    with contextlib.suppress(ConfigError):
        position.save()
    done = loader.outcome.keys
    print(f"interrupted: {done} keys are done; the same command again goes on from there", file=sys.stderr)


def _report(outcome: Outcome, before: int, seconds: float) -> None:
    keys = outcome.keys - before
    print(f"{keys} keys in {seconds:.1f} s, {keys / max(seconds, 1e-9):,.0f} a second")
    for what, count in outcome.counts.most_common():
        print(f"{what}: {count}")
    for line in outcome.named:
        print(f"  {line}")


def _verify(arguments: argparse.Namespace, source: Source, address: Address) -> bool:
    from zattredis.cli.moving.verifying import Verifier

    verifier = Verifier(address, arguments.timeout or _TIMEOUT_S)
    try:
        with progress_of(arguments, "comparing", source.total) as seen:
            found = verifier.compare_all(source, seen)
    finally:
        verifier.close()
    expired = f", {found.expired} expired meanwhile" if found.expired else ""
    print(f"compared {found.compared} keys: {found.equal} equal, {found.differing} differ{expired}")
    for line in found.named:
        print(f"  {line}")
    return not found.differing


SUBCOMMAND = Subcommand(
    name="import",
    help="copy the keys of a live Redis server, or of an RDB file, into the cluster",
    description="Copy the keys of a live Redis server, or of an RDB file (versions 1 to 12, up to Redis 7.4), into the "
    "cluster: all databases, types and times of expiry. Keys that exist are left as they are and reported, unless "
    "--replace is given. A damaged file is refused before anything is written. An import that was interrupted goes on "
    "where it ended when the same command is given again.",
    examples="zattctl import redis://db1:6379 --verify   all databases of a running Redis, compared at the end\n"
    "zattctl import dump.rdb                    the file that Redis saves\n"
    "zattctl import dump.rdb --check            what does it hold, and is it whole?\n"
    "zattctl import rediss://me:secret@db1/3 --rate 5000 --port 7001",
    arguments=_arguments,
    run=run,
)
