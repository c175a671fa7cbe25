"""`zattctl ping`: does the node answer?"""

from __future__ import annotations

import argparse

from zattredis.cli.arguments import EXIT_DONE
from zattredis.cli.ctl.frame import Subcommand
from zattredis.cli.ctl.target import Target


def run(arguments: argparse.Namespace) -> int:
    """Ask the one node."""
    with Target.of(arguments).connect() as client:
        client.call("PING")
    print("PONG")
    return EXIT_DONE


SUBCOMMAND = Subcommand(
    name="ping",
    help="does the node answer? (for health checks)",
    examples="zattctl ping                            does the node on this machine answer?\n"
    "zattctl ping --host db1 --port 7001     does db1:7001?",
    run=run,
)
