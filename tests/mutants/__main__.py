"""`python -m tests.mutants [NAME …] [--all] [--runs N]`: who notices which fault, and how quickly."""

from __future__ import annotations

import argparse
import sys
import time

from tests.mutants.catalogue import BY_NAME, MUTANTS
from tests.mutants.edits import applied


def table() -> str:
    """Return CONTRIBUTING.md's table of faults and who notices them."""
    lines = ["| mutant | what it breaks | noticed by |", "|---|---|---|"]
    for mutant in MUTANTS:
        catchers = ", ".join(_link(str(catcher)) for catcher in (mutant.catcher, *mutant.others))
        lines.append(f"| `{mutant.name}` | {mutant.breaks} | {catchers} |")
    return "\n".join(lines)


def _link(catcher: str) -> str:
    return f"`{catcher.removeprefix('tests/')}`" if catcher.startswith("tests/") else catcher


def main() -> int:
    """Run the catchers; returns 1 when a mutant escapes its catcher."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutants")
    parser.add_argument("names", nargs="*", metavar="NAME", choices=[[], *BY_NAME])
    parser.add_argument("--all", action="store_true", help="also the other catchers of each mutant")
    parser.add_argument("--runs", type=int, help="how many seeds to try instead of the catcher's own number")
    parser.add_argument("--table", action="store_true", help="print CONTRIBUTING.md's table and end")
    arguments = parser.parse_args()
    if arguments.table:
        print(table())
        return 0
    escaped = 0
    for mutant in [BY_NAME[name] for name in arguments.names] or MUTANTS:
        for catcher in (mutant.catcher, *mutant.others) if arguments.all else (mutant.catcher,):
            started = time.monotonic()
            with applied(mutant.edits):
                found = catcher.run(mutant.name, arguments.runs)
            escaped += found is None
            what = f"after {found.runs}: {found.text}" if found else "ESCAPES"
            print(f"{mutant.name:34} {catcher!s:40} {time.monotonic() - started:6.1f} s  {what}", flush=True)
    return 1 if escaped else 0


if __name__ == "__main__":
    sys.exit(main())
