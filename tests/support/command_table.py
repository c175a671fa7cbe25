"""README's command table, made from the command specs.

python -m tests.support.command_table        rewrites the table in README.md
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator
from pathlib import Path

import zattredis.commands
from zattredis.commands.syntax import usage
from zattredis.commands.table import COMMANDS, CommandSpec

README = Path(__file__).resolve().parents[2] / "README.md"
BEGIN, END = "<!-- commands:begin -->", "<!-- commands:end -->"
GROUPS = {
    "string": "Strings",
    "bitmap": "Bitmaps",
    "hyperloglog": "HyperLogLogs",
    "hash": "Hashes",
    "list": "Lists",
    "set": "Sets",
    "sorted-set": "Sorted sets",
    "geo": "Geo",
    "generic": "Keys",
    "transactions": "Transactions",
    "connection": "Connections",
    "server": "Server",
}
"""Group → heading, in the order of the table; groups not named here follow under their own name."""


def load_commands() -> None:
    """Import every module that defines commands."""
    for module in pkgutil.iter_modules(zattredis.commands.__path__, "zattredis.commands."):
        importlib.import_module(module.name)


def render() -> str:
    """Return the table, one heading and table a group, commands in alphabetical order."""
    load_commands()
    groups: dict[str, list[CommandSpec]] = {group: [] for group in GROUPS}
    for spec in COMMANDS.values():
        groups.setdefault(spec.group, []).append(spec)
    return "\n".join(line for group, specs in groups.items() if specs for line in _lines(group, specs))


def _lines(group: str, specs: list[CommandSpec]) -> Iterator[str]:
    yield f"### {GROUPS.get(group, group.replace('-', ' ').capitalize())}"
    yield ""
    yield "| command | what it does |"
    yield "|---|---|"
    for spec in sorted(specs, key=lambda one: one.name):
        # A command that is nothing but its subcommands stands for itself in each of them.
        if not spec.subcommands:
            yield _row(spec)
        for sub in sorted(spec.subcommands.values(), key=lambda one: one.name):
            if not sub.name.endswith(" HELP"):
                yield _row(sub)
    yield ""


def _row(spec: CommandSpec) -> str:
    arguments = usage(spec.syntax) if spec.syntax else ""
    call = f"{spec.name} {arguments}".strip().replace("|", "\\|")
    return f"| `{call}` | {spec.summary.replace('|', chr(92) + '|')} |"


def split_readme() -> tuple[str, str, str]:
    """Return README.md before, inside and after the marks. Raises ValueError when they are not there."""
    text = README.read_text(encoding="utf-8")
    before, begin, rest = text.partition(BEGIN)
    inside, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"README.md lacks {BEGIN} … {END}")
    return before, inside.strip(), after


def main() -> None:
    before, _, after = split_readme()
    README.write_text(f"{before}{BEGIN}\n{render()}{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
