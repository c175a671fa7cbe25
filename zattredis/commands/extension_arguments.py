"""From a Python function's signature to arity, syntax, and the reading of its arguments."""

from __future__ import annotations

import inspect
import sys
import types
import typing
from collections.abc import Callable, Sequence
from typing import Any, Final, Literal, NamedTuple

from zattredis.commands.arguments import parse_double, parse_integer
from zattredis.errors import DefiniteError, SyntaxReplyError

Parser = Callable[[bytes], Any]

_BOOLEANS: Final = {
    b"1": True, b"yes": True, b"true": True, b"on": True, b"0": False, b"no": False, b"false": False, b"off": False,
}  # fmt: skip


def _text(word: bytes) -> str:
    try:
        return word.decode()
    except UnicodeDecodeError:
        raise DefiniteError("value is not valid UTF-8") from None


def _boolean(word: bytes) -> bool:
    found = _BOOLEANS.get(word.lower())
    if found is None:
        raise DefiniteError("value is not a boolean, yes or no")
    return found


_PARSERS: Final[dict[object, tuple[Parser | None, str]]] = {
    bytes: (None, ""), str: (_text, ""), int: (parse_integer, ":integer"), float: (parse_double, ":double"),
    bool: (_boolean, ""), inspect.Parameter.empty: (None, ""), Any: (None, ""),
}  # fmt: skip
"""Type → how a word becomes one (None: it stays bytes), and its type for COMMAND DOCS."""


class Signature(NamedTuple):
    """How a command line becomes the arguments of a function."""

    arity: int
    most: int
    """Words after the name at most, -1 for any number."""
    parsers: tuple[tuple[int, Parser], ...]
    """(place, parser) of the words that do not stay bytes."""
    rest: Parser | None
    """Parser of the words from `rest_from` on."""
    rest_from: int
    syntax: str
    names: tuple[str, ...]

    def read(self, words: Sequence[bytes]) -> Sequence[Any]:
        """Return the arguments for the words after a command's name. Raises DefiniteError with Redis's texts."""
        if self.most >= 0 and len(words) > self.most:
            raise SyntaxReplyError
        if not self.parsers and self.rest is None:
            return words
        found: list[Any] = [*words]
        count = len(found)
        for place, parse in self.parsers:
            if place < count:
                found[place] = parse(found[place])
        if self.rest is not None:
            found[self.rest_from :] = [self.rest(word) for word in found[self.rest_from :]]
        return found


def read_signature(function: Callable[..., Any], is_key: Callable[[int], bool] = lambda place: False) -> Signature:
    """Return the signature of a command, whose first parameter is the context; `is_key(n)`: the n-th argument is a key.

    Raises TypeError for what has no meaning in a command line.
    """
    name = getattr(function, "__qualname__", repr(function))
    if not inspect.isfunction(function):
        raise TypeError(f"a command is a function, not {function!r}")
    if inspect.iscoroutinefunction(function) or inspect.isgeneratorfunction(function) or (
        inspect.isasyncgenfunction(function)
    ):  # fmt: skip
        raise TypeError(f"{name}: a command runs in one go on every node; it cannot be async or a generator")
    parameters = [*_signature(function).parameters.values()]
    if not parameters or parameters[0].kind not in (
        inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD
    ):  # fmt: skip
        raise TypeError(f"{name}: a command's first parameter is its context")
    hints = _hints(function, name, parameters[1:])
    parsers: list[tuple[int, Parser]] = []
    rest: Parser | None = None
    syntax: list[str] = []
    required, most, optional = 0, 0, 0
    for place, parameter in enumerate(parameters[1:]):
        if parameter.kind in (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.VAR_KEYWORD):
            raise TypeError(f"{name}: a command line has no keywords; {parameter.name} cannot be given")
        parser, kind = _parser_of(hints.get(parameter.name, inspect.Parameter.empty), name, parameter.name)
        word = parameter.name.replace("_", "-") + (":key" if is_key(place + 1) else kind or ":string")
        if parameter.kind is inspect.Parameter.VAR_POSITIONAL:
            rest, most = parser, -1
            syntax.append(f"[{word} ...]")
            continue
        if parameter.default is inspect.Parameter.empty:
            required += 1
            syntax.append(word)
        else:
            optional += 1
            syntax.append(f"[{word}")
        if parser is not None:
            parsers.append((place, parser))
        most += 1
    text = _closed(syntax)
    arity = required + 1 if not optional and most >= 0 else -(required + 1)
    names = tuple(parameter.name for parameter in parameters[1:])
    return Signature(arity, most, tuple(parsers), rest, required + optional, text, names)


def _closed(syntax: list[str]) -> str:
    """Return the words as one text: an optional one needs those before it, so their brackets nest."""
    open_brackets = sum(1 for word in syntax if word.startswith("[") and not word.endswith("]"))
    return " ".join(syntax) + "]" * open_brackets


def _signature(function: Callable[..., Any]) -> inspect.Signature:
    """Return the signature; a name in its annotations that is known to type checkers only is read later, or never.

    Since Python 3.14 they are evaluated when they are asked for, and a name of which nobody knows would be an error.
    """
    if sys.version_info >= (3, 14):
        import annotationlib

        return inspect.signature(function, annotation_format=annotationlib.Format.FORWARDREF)
    return inspect.signature(function)


def _hints(function: Callable[..., Any], name: str, parameters: Sequence[inspect.Parameter]) -> dict[str, Any]:
    """Return the types of the parameters behind the context, whose own may be known to type checkers only."""
    raw = {one.name: one.annotation for one in parameters if one.annotation is not inspect.Parameter.empty}
    holder = types.SimpleNamespace(__annotations__=raw)
    try:
        return typing.get_type_hints(holder, function.__globals__)
    except Exception as error:
        raise TypeError(f"{name}: its annotations cannot be read: {error}") from None


def _parser_of(hint: Any, name: str, parameter: str) -> tuple[Parser | None, str]:
    origin = typing.get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        kinds = [kind for kind in typing.get_args(hint) if kind is not type(None)]
        if len(kinds) == 1:
            return _parser_of(kinds[0], name, parameter)
    elif origin is typing.Annotated:
        return _parser_of(typing.get_args(hint)[0], name, parameter)
    elif origin is Literal:
        return _choice(typing.get_args(hint), name, parameter), ""
    else:
        try:
            return _PARSERS[hint]
        except (KeyError, TypeError):
            pass
    shown = getattr(hint, "__name__", str(hint))
    raise TypeError(f"{name}: {parameter} is {shown}; an argument is bytes, str, int, float, bool, a Literal of "
                    "words, or one of them or None")  # fmt: skip


def _choice(words: tuple[Any, ...], name: str, parameter: str) -> Parser:
    known: dict[bytes, Any] = {}
    for word in words:
        if not isinstance(word, str | bytes):
            raise TypeError(f"{name}: {parameter} can be {word!r}, which is no word")
        known[(word.encode() if isinstance(word, str) else word).upper()] = word

    def parse(word: bytes) -> Any:
        found = known.get(word.upper())
        if found is None:
            raise SyntaxReplyError
        return found

    return parse
