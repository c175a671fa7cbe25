"""`zattctl members` and `zattctl transfer-leader`: who belongs to the cluster, and who leads it."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any, Final

from zattredis.cli.arguments import EXIT_DONE, complain
from zattredis.cli.ctl import table
from zattredis.cli.ctl.catching_up import CatchingUp
from zattredis.cli.ctl.frame import EXIT_UNKNOWN, PROGRAM, Subcommand
from zattredis.cli.ctl.nodes import as_dict, plain
from zattredis.cli.ctl.target import Target, add_target_flags
from zattredis.cli.resp_client import ErrorReply, NoAnswer, RespClient

WAIT_S: Final = 3600.0
"""How long an answer may take: it comes once who is added has caught up, which the server watches over."""

TURN_S: Final = 20.0
AGAIN_S: Final = 0.2
_UNDER_WAY: Final = "change is under way; one at a time"

_ADDING: Final = ("ADD", "REPLACE", "PROMOTE")
_COLUMNS = ("id", "address", "role", "voter", "alive", "match_index", "lag")


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(action="list", output="table")
    actions = parser.add_subparsers(metavar="ACTION", prog="zattctl members")

    def action(name: str, text: str) -> argparse.ArgumentParser:
        made = actions.add_parser(name, description=text, help=text)
        made.set_defaults(action=name)
        add_target_flags(made, default=argparse.SUPPRESS)
        return made

    listing = action("list", "show the members (so does members alone)")
    listing.add_argument("-o", "--output", choices=("table", "json"), default="table", help="form of the answer")
    add = action("add", "add nodes, or tell where a member is now")
    add.add_argument("member", nargs="+", metavar="ID=HOST:PORT", help="id=host:port or id=host:port@peerport")
    add.add_argument("--learner", action="store_true", help="they follow and do not vote")
    add.add_argument("--force", action="store_true", help="move a member that still runs where it was")
    for name, text in (
        ("promote", "make learners voters, once they have caught up"),
        ("demote", "make voters learners"),
        ("remove", "remove members for good; their ids are never used again"),
    ):
        made = action(name, text)
        made.add_argument("id", nargs="+", metavar="ID")
        if name != "promote":
            made.add_argument("--force", action="store_true", help="even where the quorum would be lost")
    replace = action("replace", "replace members by new ones in one change, once those have caught up")
    replace.add_argument("id", nargs="+", metavar="ID")
    replace.add_argument("--with", nargs="+", required=True, metavar="ID=HOST:PORT", dest="new", help="the new ones")
    replace.add_argument("--force", action="store_true", help="even where the quorum would be lost")


def run(arguments: argparse.Namespace) -> int:
    """Show the members, or change them and return once the change is complete."""
    target = Target.of(arguments)
    force = ["FORCE"] if getattr(arguments, "force", False) else []
    match arguments.action:
        case "add":
            return change(target, ["ADD", *arguments.member, *(["LEARNER"] if arguments.learner else []), *force])
        case "replace":
            return change(target, ["REPLACE", *arguments.id, "WITH", *arguments.new, *force])
        case "promote" | "demote" | "remove":
            return change(target, [arguments.action.upper(), *arguments.id, *force])
    print("\n".join(_listing(_members(target), arguments.output)))
    return EXIT_DONE


def _members(target: Target) -> list[dict[str, Any]]:
    with target.connect() as client:
        return [as_dict(member) for member in client.call("RAFT", "MEMBERS")]


def _listing(members: Sequence[dict[str, Any]], form: str) -> list[str]:
    if form == "json":
        return [json.dumps(members, indent=2)]
    rows = [tuple(name.upper() for name in _COLUMNS)]
    rows += [tuple("-" if member[name] == -1 else str(member[name]) for name in _COLUMNS) for member in members]
    return list(table.lines(rows))


def _in_turn(client: RespClient, words: Sequence[str]) -> Any:
    """Return the reply; while another change is being agreed on, which takes a moment, it is asked again."""
    deadline = time.monotonic() + TURN_S
    while True:
        try:
            return client.call("RAFT", *words, timeout_s=WAIT_S)
        except ErrorReply as error:
            if _UNDER_WAY not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(AGAIN_S)


def change(target: Target, words: Sequence[str]) -> int:
    """Send one RAFT subcommand that changes the cluster; print what came of it."""
    with target.connect() as client:
        try:
            waits = " (a new node has to be started with --join and to catch up)" if words[0] in _ADDING else ""
            print(f"asking {target.where} to {' '.join(words)}{waits} …", file=sys.stderr, flush=True)
            with CatchingUp(target) if words[0] in _ADDING else nullcontext():
                reply = _in_turn(client, words)
        except NoAnswer as error:
            complain(PROGRAM, f"{error}; whether it was done is not known: see zattctl members")
            return EXIT_UNKNOWN
    print(plain(reply))
    return EXIT_DONE


def _transfer_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("id", nargs="?", metavar="ID", help="who is to lead (default: the most up-to-date voter)")


def run_transfer(arguments: argparse.Namespace) -> int:
    """Hand the leadership over; print who leads then."""
    return change(Target.of(arguments), ["TRANSFER", *([arguments.id] if arguments.id else [])])


SUBCOMMAND = Subcommand(
    name="members",
    help="list, add, promote, demote, replace and remove members",
    description="Show who belongs to the cluster, or change it. A change is asked of any node and answered once it is "
    "agreed and, where nodes are added, once they have caught up. One that would lose the quorum is refused.",
    examples="zattctl members                                   who belongs to the cluster\n"
    "zattctl members add n4=db4:6379                   a node that runs, or will, with --join\n"
    "zattctl members add n5=db5:6379 --learner         it follows and does not vote\n"
    "zattctl members promote n5\n"
    "zattctl members replace n2 --with n6=db6:6379     a dead one by a new one, in one change\n"
    "zattctl members remove n3\n"
    "zattctl members add n1=db9:6379                   n1 has moved to another address",
    arguments=_arguments,
    run=run,
)

TRANSFER = Subcommand(
    name="transfer-leader",
    help="hand the leadership to another voter",
    examples="zattctl transfer-leader                 to the most up-to-date voter\n"
    "zattctl transfer-leader n2              to n2",
    arguments=_transfer_arguments,
    run=run_transfer,
)
