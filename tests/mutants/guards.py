"""Takes the core's guards out one by one: `python -m tests.mutants.guards [FILE[:LINE] …] [--list]`.

The deliberate faults of `catalogue` are chosen by hand; these are not. Every condition in `zattredis/raft` that keeps
something from happening is removed by itself, and the suites of the core must notice:

- `if …: return / raise / continue / break` never happens; any other `if` without `else` always does;
- of `a and b`, `a or b` each part is left out once;
- of `min(a, b)` and `max(a, b)` each bound is left out once.

What is left over is printed, and the exit code is 1, unless `SPARE` names it with the reason why nothing hangs on it.
"""

from __future__ import annotations

import argparse
import ast
import os
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import CodeType

import pytest

from tests.mutants.catchers import REPOSITORY
from tests.mutants.edits import find
from tests.mutants.spare_guards import SPARE

RAFT = REPOSITORY / "zattredis" / "raft"
SEEDS = 60
"""Of the simulator of Raft, with a fixed membership and as many with a changing one."""
_PURE = ("changes", "log", "messages", "quorum")
"""Files of the room whose tests look at them alone: run for these only."""
SECONDS_MAX = 100
"""What takes longer hangs: noticed, too."""


@dataclass(frozen=True)
class Guard:
    """In the file `path` the text from `start` to `end` becomes `new`."""

    path: Path
    line: int
    function: str
    start: int
    end: int
    old: str
    new: str
    kind: str
    """exit, body, part or bound."""
    what: str

    @property
    def key(self) -> str:
        """A name that outlives changes elsewhere in the file."""
        return f"{self.path.stem}.{self.function}: {self.old} {self.what}"

    def __str__(self) -> str:
        return f"{self.path.name}:{self.line} {self.key}"

    @property
    def source(self) -> str:
        """The file without this guard."""
        text = self.path.read_text()
        return text[: self.start] + self.new + text[self.end :]


class _Finder(ast.NodeVisitor):
    def __init__(self, path: Path) -> None:
        self.path = path
        self.text = path.read_text()
        self.found: list[Guard] = []
        self._function: list[str] = []
        self._starts = [0]
        for line in self.text.splitlines(keepends=True):
            self._starts.append(self._starts[-1] + len(line))

    def _replace(self, node: ast.expr, new: str, kind: str, what: str = "") -> None:
        assert node.end_lineno is not None
        assert node.end_col_offset is not None
        start = self._starts[node.lineno - 1] + node.col_offset
        end = self._starts[node.end_lineno - 1] + node.end_col_offset
        old = ast.unparse(node)
        function = ".".join(self._function)
        self.found.append(Guard(self.path, node.lineno, function, start, end, old, new, kind, what or f"-> {new}"))

    def _scope(self, node: ast.FunctionDef | ast.ClassDef) -> None:
        self._function.append(node.name)
        self.generic_visit(node)
        self._function.pop()

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        """Only what happens at run time, not defaults."""
        self._scope(node)

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        """A class's methods carry its name."""
        self._scope(node)

    def visit_If(self, node: ast.If) -> None:
        """A guard is an `if` that keeps from something."""
        if self._function:
            leaves = isinstance(node.body[-1], ast.Return | ast.Raise | ast.Continue | ast.Break)
            if leaves or node.orelse:
                self._replace(node.test, "False", "exit")
            if not leaves:
                self._replace(node.test, "True", "body")
        self.generic_visit(node)

    def visit_BoolOp(self, node: ast.BoolOp) -> None:
        """Each part is a guard of its own."""
        word = " and " if isinstance(node.op, ast.And) else " or "
        for left_out in node.values:
            rest = [ast.unparse(value) for value in node.values if value is not left_out]
            new = "(" + word.join(f"({part})" for part in rest) + ")"
            self._replace(node, new, "part", f"without {ast.unparse(left_out)}")
        self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> None:
        """`min` and `max` hold a value within bounds."""
        bounds = isinstance(node.func, ast.Name) and node.func.id in ("min", "max") and len(node.args) > 1
        if bounds and not node.keywords:
            for argument in node.args:
                self._replace(node, f"({ast.unparse(argument)})", "bound")
        self.generic_visit(node)


def guards() -> list[Guard]:
    """Return every guard of the room."""
    found: list[Guard] = []
    for path in sorted(RAFT.glob("*.py")):
        finder = _Finder(path)
        finder.visit(ast.parse(finder.text))
        found += finder.found
    return sorted(found, key=lambda guard: (guard.path, guard.line))


def _code_of(guard: Guard) -> CodeType:
    """Return what the function that holds the guard becomes without it."""
    waiting = [compile(guard.source, str(guard.path), "exec")]
    while waiting:
        code = waiting.pop()
        if code.co_qualname == guard.function:
            return code
        waiting += [part for part in code.co_consts if isinstance(part, CodeType)]
    raise LookupError(f"{guard} is in no function")


def _noticed(guard: Guard, session: pytest.Session, seeds: int) -> str | None:
    """In a process of its own: return who noticed that the guard is gone, if anybody."""
    from tests.simulation.checks import Violation
    from tests.simulation.world import World

    # The code is exchanged, not the function: tables of handlers hold that.
    find(f"zattredis.raft.{guard.path.stem}:{guard.function}").__code__ = _code_of(guard)
    items = [i for i in session.items if i.path.stem.removeprefix("test_") not in {*_PURE} - {guard.path.stem}]
    for item, following in zip(items, [*items[1:], None], strict=True):
        item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
        if session.testsfailed:
            return item.nodeid
    for seed in range(seeds):
        for membership in (True, False):
            try:
                World(seed, membership=membership).run()
            except Violation as violation:
                return f"seed {seed}, {membership=}: {violation}"
            except Exception as error:  # whatever the simulator stumbles over was noticed
                return f"seed {seed}, {membership=}: {error!r}"
    return None


def try_without(guard: Guard, session: pytest.Session, seeds: int = SEEDS) -> str | None:
    """Return who notices that the guard is gone, or None."""
    with tempfile.TemporaryFile("w+") as told, tempfile.TemporaryFile("w+") as noise:
        child = os.fork()
        if child == 0:
            os.dup2(noise.fileno(), 1)
            os.dup2(noise.fileno(), 2)
            try:
                told.write(_noticed(guard, session, seeds) or "")
            except BaseException as error:
                told.write(f"the search itself failed: {error!r}")
            told.flush()
            os._exit(0)
        end = time.monotonic() + SECONDS_MAX
        while os.waitpid(child, os.WNOHANG)[0] == 0:
            if time.monotonic() > end:
                os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)
                return "hangs"
            time.sleep(0.05)
        told.seek(0)
        return " ".join(told.read().split())[:200] or None


class Search:
    """A pytest plugin that, in place of the tests collected, runs them once without each guard."""

    def __init__(self, chosen: Sequence[Guard], seeds: int) -> None:
        self._chosen = chosen
        self._seeds = seeds
        self.missed: list[Guard] = []
        self.spare = 0

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Instead of pytest's own."""
        for guard in self._chosen:
            started = time.monotonic()
            if guard.key in SPARE:
                self.spare += 1
                continue
            noticed = try_without(guard, session, self._seeds)
            if noticed is None:
                self.missed.append(guard)
            word = "MISSED BY NOBODY" if noticed is None else "noticed"
            print(f"{word} {guard} {time.monotonic() - started:5.1f} s  {noticed or ''}", flush=True)
        return True


def _chosen(names: Sequence[str], kinds: Sequence[str] | None) -> Iterator[Guard]:
    for guard in guards():
        if kinds and guard.kind not in kinds:
            continue
        if not names or any(name in (guard.path.name, f"{guard.path.name}:{guard.line}") for name in names):
            yield guard


def main() -> int:
    """Take out the guards; returns 1 when nobody misses one."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutants.guards")
    parser.add_argument("where", nargs="*", metavar="FILE[:LINE]")
    parser.add_argument("--list", action="store_true", help="only print them")
    parser.add_argument("--seeds", type=int, default=SEEDS, help="seeds of the simulator of Raft, of either kind")
    parser.add_argument("--kind", action="append", choices=["exit", "body", "part", "bound"], help="only such")
    parser.add_argument("--part", default="1/1", metavar="K/N", help="only the K-th of N parts")
    arguments = parser.parse_args()
    part, parts = map(int, arguments.part.split("/"))
    chosen = list(_chosen(arguments.where, arguments.kind))[part - 1 :: parts]
    if arguments.list:
        print("\n".join(map(str, chosen)))
        return 0
    os.chdir(REPOSITORY)
    os.environ["CI"] = "true"  # property tests try the same examples each time
    search = Search(chosen, arguments.seeds)
    flags = ["-q", "-s", "-n", "0", "-p", "no:cacheprovider", "--no-header", "--tb=line"]
    pytest.main([*flags, "tests/raft"], plugins=[search])
    tried = len(chosen) - search.spare
    print(f"{tried} guards taken out, {len(search.missed)} missed by nobody; {search.spare} that nothing hangs on")
    return 1 if search.missed else 0


if __name__ == "__main__":
    sys.exit(main())
