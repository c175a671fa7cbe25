"""What a subcommand of `zattctl` is, and the parser over all of them."""

from __future__ import annotations

import argparse
import difflib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from zattredis.cli.arguments import EXIT_USAGE, OneLineParser, complain
from zattredis.cli.ctl.target import add_target_flags
from zattredis.version import __version__

PROGRAM: Final = "zattctl"

EXIT_UNKNOWN: Final = 3
"""Whether a change of the cluster was made is not known: look before it is repeated."""

_EXIT_CODES: Final = (
    "exit code: 0 all is well, or done; 1 it is not, or was refused; 2 wrong arguments; 3 the outcome is not known."
)

_GENERAL: Final = """\
Without --host and --port the node is found like zattd finds its settings: ZATTREDIS_* variables and --config.
The password comes from --password, REDISCLI_AUTH or the requirepass setting.
"""


def _no_arguments(_parser: argparse.ArgumentParser) -> None:
    """A subcommand without arguments of its own."""


@dataclass(frozen=True, slots=True)
class Subcommand:
    """One subcommand: what the help says, its arguments, and what runs it.

    `run` gets the parsed arguments and returns the exit code. It may raise ConfigError (exit code 2), NoAnswer,
    ErrorReply or another ZattredisError (1, or 3 where the reply says that the outcome is unknown); each is one line on
    standard error. `online` gives it the flags that name a node (`target.Target.of`).
    """

    name: str
    help: str
    examples: str
    run: Callable[[argparse.Namespace], int]
    arguments: Callable[[argparse.ArgumentParser], None] = _no_arguments
    online: bool = True
    description: str = ""


class CtlParser(OneLineParser):
    """The parser of `zattctl` and of each subcommand."""

    def __init__(self, prog: str, description: str, epilog: str = "", **further: Any) -> None:
        """`further`: what argparse itself hands on to the parsers of subcommands, more with each Python."""
        super().__init__(prog, description, epilog, **further)
        self.jobs: dict[str, CtlParser] = {}
        """The parsers of the subcommands by their names."""


def make_parser(subcommands: Sequence[Subcommand]) -> CtlParser:
    """Return the parser for a whole command line. Its result holds `run`, and `job`, the subcommand's name."""
    width = max(len(each.name) for each in subcommands)
    examples = [line for each in subcommands for line in each.examples.splitlines()[:1]]
    epilog = "\n".join(
        ["subcommands:"] + [f"  {each.name:<{width}}  {each.help}" for each in subcommands]
        + ["", "examples:"] + [f"  {line}" for line in examples]
        + ["", f"zattctl SUBCOMMAND --help says more, with examples.\n{_GENERAL}{_EXIT_CODES}"]
    )  # fmt: skip
    parser = CtlParser(PROGRAM, "Look at, change, save and mend a zattredis cluster.", epilog)
    parser.usage = "zattctl [-h] [--version] [--host HOST] [-p PORT] SUBCOMMAND [...]"
    parser.add_argument("--version", action="version", version=f"zattredis {__version__}")
    add_target_flags(parser)
    jobs = parser.add_subparsers(dest="job", required=True, metavar="SUBCOMMAND", help=argparse.SUPPRESS, prog=PROGRAM)
    for each in subcommands:
        text = "\n".join(f"  {line}" if line else "" for line in each.examples.splitlines())
        epilog = f"examples:\n{text}\n\n{_GENERAL if each.online else ''}{_EXIT_CODES}"
        description = each.description or f"{each.help[0].upper()}{each.help[1:]}."
        made = parser.jobs[each.name] = jobs.add_parser(each.name, description=description, epilog=epilog)
        each.arguments(made)
        if each.online:
            # Given behind the subcommand or before it; not given at all they keep what the whole line's parser says.
            add_target_flags(made, default=argparse.SUPPRESS)
        made.set_defaults(run=each.run)
    return parser


def parse(subcommands: Sequence[Subcommand], words: Sequence[str]) -> argparse.Namespace:
    """Return the parsed arguments. Raises SystemExit(2) after one line of complaint, (0) after help or version."""
    parser = make_parser(subcommands)
    arguments, unknown = parser.parse_known_args(words)
    if unknown:
        word = unknown[0].partition("=")[0]
        near = difflib.get_close_matches(word, parser.jobs[arguments.job]._option_string_actions, 1)
        hint = f"; did you mean {near[0]}?" if near and word.startswith("-") else ""
        kind = "flag" if word.startswith("-") else "argument"
        complain(PROGRAM, f"unknown {kind} {word}{hint}; see {PROGRAM} {arguments.job} --help")
        raise SystemExit(EXIT_USAGE)
    return arguments
