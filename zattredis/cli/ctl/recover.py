"""`zattctl recover`: a cluster that has lost its majority for good goes on as a new one, from one survivor's data."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from zattredis.cli.arguments import EXIT_DONE, EXIT_FATAL
from zattredis.cli.ctl.frame import Subcommand
from zattredis.config.cluster import parse_address
from zattredis.errors import ConfigError

if TYPE_CHECKING:
    from zattredis.server.offline import Survivor


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("dir", metavar="DIR", help="the data directory of a surviving node that does not run")
    parser.add_argument("--address", metavar="HOST:PORT", help="where the node will be (default: where it was)")
    parser.add_argument("--yes", action="store_true", help="do it; without it only what would be done is told")


def run(arguments: argparse.Namespace) -> int:
    """Tell what is there and what may be lost; with --yes, begin the new cluster."""
    from zattredis.server.offline import Recovery

    with Recovery(Path(arguments.dir).absolute()) as recovery:
        survivor = recovery.survivor
        node_id = survivor.identity.node_id
        if not survivor.membership.is_member(node_id):
            raise ConfigError(f"node {node_id} was removed from its cluster; take the directory of a member")
        address = parse_address(node_id, arguments.address or survivor.address).address
        print("\n".join(_what_is_there(arguments.dir, survivor)))
        if not arguments.yes:
            print("Nothing was changed. To go on, make sure that no node of the old cluster runs, and say --yes.")
            return EXIT_FATAL
        cluster_id = recovery.begin(address)
    print(f"Done: {node_id} is the only member, at {address}, of the new cluster {cluster_id}.")
    print(f"start   zattd --node {node_id} --dir {arguments.dir}, with the other flags it had")
    print("then    start new nodes, with empty directories, by --join")
    return EXIT_DONE


def _what_is_there(path: str, survivor: Survivor) -> Iterator[str]:
    identity, membership = survivor.identity, survivor.membership
    last = datetime.fromtimestamp(survivor.last_stamp_ms / 1000, UTC).isoformat(timespec="seconds")
    others = [node_id for node_id in membership.members if node_id != identity.node_id]
    yield f"{path} is the data of node {identity.node_id} of cluster {identity.cluster_id}"
    yield f"  members    {', '.join(membership.members)} (voters {', '.join(membership.voters)})"
    yield f"  log        entries {survivor.first_index} to {survivor.last_index}, the last of term {survivor.last_term}"
    yield f"  last time  {last}"
    yield "What will be done, and cannot be undone:"
    yield f"  {identity.node_id} becomes the only member of a new cluster, with everything in its log."
    if others:
        yield f"  {', '.join(others)} will never be part of it with the data they have: their cluster is another one."
    yield "What may be lost:"
    yield f"  writes that were acknowledged behind entry {survivor.last_index}: only the lost nodes had them."
    yield (
        f"  Not lost, but perhaps never acknowledged: entries {survivor.commit_index + 1} to {survivor.last_index}; "
        "they will count."
        if survivor.last_index > survivor.commit_index
        else "  (This node knows of none: all that it has was agreed on.)"
    )
    if survivor.incomplete:
        yield "  WARNING: this node had lost its data and was not filled again yet. Take another survivor if you can."
    yield "If several nodes survive, look at each: the one with the last term and entry has the most."


SUBCOMMAND = Subcommand(
    name="recover",
    help="go on from one survivor when the majority is lost for good, offline",
    description="For a cluster that has lost the majority of its voters for good. Makes the data of one stopped "
    "survivor the only member of a new cluster, with a new cluster id. What only the lost nodes had is lost.",
    examples="zattctl recover d1                      what is there, and what may be lost; changes nothing\n"
    "zattctl recover d1 --yes                do it\n"
    "zattctl recover d1 --yes --address db7:6379   the node will be somewhere else",
    arguments=_arguments,
    run=run,
    online=False,
)
