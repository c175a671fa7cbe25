"""Putting a fault into a function that is loaded, and taking it out again."""

from __future__ import annotations
import __future__

import contextlib
import importlib
import inspect
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import CodeType, FunctionType
from typing import Any


@dataclass(frozen=True)
class Edit:
    """In the function at `where` (`package.module:Class.function`) `old`, which must be there once, becomes `new`.

    The code object is swapped, not the function: whoever imported the function or put it into a table runs the fault.
    """

    where: str
    old: str
    new: str


@contextlib.contextmanager
def applied(edits: Sequence[Edit]) -> Iterator[None]:
    """Run the body with all `edits` in force."""
    by_function: dict[str, list[Edit]] = {}
    for edit in edits:
        by_function.setdefault(edit.where, []).append(edit)
    saved: list[tuple[FunctionType, CodeType]] = []
    try:
        for where, its_edits in by_function.items():
            function = find(where)
            code = _edited(function, its_edits)
            saved.append((function, function.__code__))
            function.__code__ = code
        yield
    finally:
        for function, code in reversed(saved):
            function.__code__ = code


def find(where: str) -> FunctionType:
    """Return the function at `where`; of a property its getter."""
    module_name, _, path = where.partition(":")
    found: Any = importlib.import_module(module_name)
    for name in path.split("."):
        found = inspect.getattr_static(found, name)
    if isinstance(found, property):
        found = found.fget
    elif isinstance(found, staticmethod):
        found = found.__func__
    assert isinstance(found, FunctionType), where
    return found


def _edited(function: FunctionType, edits: Sequence[Edit]) -> CodeType:
    text = textwrap.dedent(inspect.getsource(function))
    for edit in edits:
        count = text.count(edit.old)
        if count != 1:
            raise LookupError(f"{edit.where} holds {edit.old!r} {count} times: this mutant is out of date")
        text = text.replace(edit.old, edit.new)
    flags = __future__.annotations.compiler_flag
    parts = compile(text, f"<mutant of {edits[0].where}>", "exec", flags, dont_inherit=True).co_consts
    name = function.__code__.co_name
    code = next(part for part in parts if isinstance(part, CodeType) and part.co_name == name)
    assert code.co_freevars == function.__code__.co_freevars, edits[0].where
    return code
