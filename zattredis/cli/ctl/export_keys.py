"""`zattctl export`: the keys of a cluster as an RDB file, all as they were at one point in time."""

from __future__ import annotations

import argparse
import time
from typing import Any, Final

from zattredis.cli.arguments import EXIT_DONE
from zattredis.cli.ctl.frame import Subcommand
from zattredis.cli.ctl.import_keys import address_of, progress_of
from zattredis.cli.ctl.target import Target
from zattredis.version import __version__

_TIMEOUT_S: Final = 60.0
_RDB_VERSION: Final = 10


def _arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("file", help="the RDB file to write; it appears when it is whole")
    add("--db", type=int, metavar="N", help="only this database (default: all)")
    add("--replace", action="store_true", help="overwrite the file if it exists")
    add("--quiet", action="store_true", help="show no progress")


def run(arguments: argparse.Namespace) -> int:
    """Ask one node for everything, write it as it comes."""
    from zattredis.cli.moving.pipe import Pipe
    from zattredis.cli.moving.rdb_writer import RdbWriter

    target = Target.of(arguments)
    began = time.monotonic()
    with (
        RdbWriter(arguments.file, _RDB_VERSION, replace=arguments.replace) as writer,
        Pipe(address_of(target), arguments.timeout or _TIMEOUT_S) as pipe,
    ):
        for name, value in (("redis-ver", "7.0.0"), ("redis-bits", "64"), ("ctime", str(int(time.time()))),
                            ("zattredis-ver", __version__)):  # fmt: skip
            writer.note(name, value)
        words: list[Any] = ["RAFT", "EXPORT"] if arguments.db is None else ["RAFT", "EXPORT", arguments.db]
        total = sum(count for db, count in pipe.databases().items() if arguments.db in (None, db))
        with progress_of(arguments, "exporting", total) as seen:
            for db, key, expire_ms, dump in pipe.stream(*words):
                writer.add(db, key, expire_ms, dump)
                seen(writer.keys)
        keys = writer.keys
        size = writer.finish()
    print(f"{keys} keys, {size} bytes, RDB version {writer.version}, in {time.monotonic() - began:.1f} s")
    return EXIT_DONE


SUBCOMMAND = Subcommand(
    name="export",
    help="write the keys of the cluster into an RDB file that redis-server loads",
    description="Write the keys of the cluster into an RDB file that redis-server 7.0 and later loads (7.4 and later "
    "if fields of hashes expire). All keys are as they were at one point in time, that of a linearizable read at the "
    "start; what is written while the export goes on is not in it and does not wait for it. Until the end the node "
    "keeps on its disk what is overwritten meanwhile. The file appears under its name when it is whole and synced.",
    examples="zattctl export dump.rdb                    everything, for redis-server or for zattctl import\n"
    "zattctl export three.rdb --db 3 --port 7001",
    arguments=_arguments,
    run=run,
)
