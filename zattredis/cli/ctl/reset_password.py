"""`zattctl reset-password`: give the user `default` a new password, from the machine of a node, when it was lost."""

from __future__ import annotations

import argparse
import getpass
import hashlib
import secrets
import sys
import time
from pathlib import Path
from typing import Final

from zattredis.cli.arguments import EXIT_DONE, EXIT_FATAL
from zattredis.cli.ctl.frame import EXIT_UNKNOWN, Subcommand
from zattredis.errors import ConfigError, DataDirectoryBusy, StorageFailed

_POLL_S: Final = 0.1


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("dir", metavar="DIR", help="the data directory of any node of the cluster, on its machine")
    parser.add_argument("--generate", action="store_true", help="make up a password and print it, instead of asking")
    parser.add_argument("--wait", metavar="SECONDS", type=float, default=15.0, help="for a running node (default: 15)")


def run(arguments: argparse.Namespace) -> int:
    """Leave the request where the node finds it; if it runs, wait until the cluster has agreed."""
    from zattredis.server.password_reset import REQUEST
    from zattredis.storage.datadir import read_identity
    from zattredis.storage.repair import write_file

    path = Path(arguments.dir).absolute()
    identity = read_identity(path)
    if identity is None:
        raise ConfigError(f"{path} is not the data directory of a node")
    password = secrets.token_hex(32) if arguments.generate else _asked()
    try:
        write_file(path / REQUEST, hashlib.sha256(password.encode("utf-8", "surrogateescape")).hexdigest().encode())
    except OSError as error:
        print(f"zattctl: cannot write into {path}: {error.strerror}", file=sys.stderr)
        return EXIT_FATAL
    if arguments.generate:
        print(password)
    name = identity.node_id
    if not _runs(path):
        print(f"Node {name} does not run. Its next start does it, as soon as a majority is there.", file=sys.stderr)
        return EXIT_DONE
    end = time.monotonic() + arguments.wait
    while (path / REQUEST).exists():
        if time.monotonic() > end:
            print(f"Node {name} has not done it yet: it needs a majority, and does it then.", file=sys.stderr)
            return EXIT_UNKNOWN
        time.sleep(_POLL_S)
    print("Done: the user default has this password, and may do everything, on every node.", file=sys.stderr)
    return EXIT_DONE


def _asked() -> str:
    """Return a password from the terminal, asked for twice, or the first line of standard input."""
    if not sys.stdin.isatty():
        password = sys.stdin.readline().rstrip("\n")
    else:
        password = getpass.getpass("New password for the user default: ")
        if getpass.getpass("Again: ") != password:
            raise ConfigError("the two are not the same; nothing was changed")
    if not password:
        raise ConfigError("the password is empty; nothing was changed")
    return password


def _runs(path: Path) -> bool:
    """Return whether a process uses the data directory."""
    from zattredis.storage.verification import locked

    try:
        with locked(path):
            return False
    except DataDirectoryBusy:
        return True
    except (StorageFailed, OSError):
        return False


SUBCOMMAND = Subcommand(
    name="reset-password",
    help="give the user default a new password when it was lost, from a node's machine",
    description="For a cluster whose password nobody knows any more. Whoever may write into the data directory of a "
    "node may do this: the user default is made as it was on the first day, permitted everything, with the new "
    "password. The node puts that into the log, so that it counts on every node; other users stay as they are.",
    examples="zattctl reset-password d1                asks for the new password\n"
    "zattctl reset-password d1 --generate     makes one up and prints it\n"
    "zattctl reset-password d1 < password     the first line of a file",
    arguments=_arguments,
    run=run,
    online=False,
)
