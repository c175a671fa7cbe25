"""Inline commands: one line split into arguments as redis-server does it (sds.c, `sdssplitargs`)."""

from __future__ import annotations

from typing import Final

_ESCAPES: Final = {ord("n"): 10, ord("r"): 13, ord("t"): 9, ord("b"): 8, ord("a"): 7}
_BLANKS: Final = b" \t\n\v\f\r"
_ENDS: Final = b" \n\r\t\0"
_HEX: Final = b"0123456789abcdefABCDEF"
_QUOTES_AND_ODD_BLANKS: Final = (b'"', b"'", b"\v", b"\f", b"\0")
_DOUBLE, _SINGLE, _BACKSLASH, _X = b"\"'\\x"


class UnbalancedQuotes(ValueError):
    """A quoted argument is not closed, or its closing quote is not followed by a blank."""


def split_arguments(line: bytes) -> list[bytes]:
    """Return the arguments of an inline command without its line end; empty for a blank line.

    Double quotes know `\\n \\r \\t \\b \\a \\xHH` and `\\` before any other byte; single quotes only `\\'`.
    Raises UnbalancedQuotes.
    """
    for odd in _QUOTES_AND_ODD_BLANKS:
        if odd in line:
            return _split_quoted(line)
    return line.split()


def _split_quoted(line: bytes) -> list[bytes]:
    arguments: list[bytes] = []
    position, end = 0, len(line)
    while True:
        while position < end and line[position] in _BLANKS:
            position += 1
        if position == end or line[position] == 0:
            return arguments
        argument, position = _take_argument(line, position)
        arguments.append(argument)


def _take_argument(line: bytes, position: int) -> tuple[bytes, int]:
    argument = bytearray()
    end = len(line)
    while position < end:
        byte = line[position]
        if byte in (_DOUBLE, _SINGLE):
            position = _take_quoted(line, position + 1, byte, argument)
            if position < end and line[position] not in _BLANKS and line[position] != 0:
                raise UnbalancedQuotes
            break
        if byte in _ENDS:
            break
        argument.append(byte)
        position += 1
    return bytes(argument), position


def _take_quoted(line: bytes, position: int, quote: int, argument: bytearray) -> int:
    """Append what stands between `position` and the closing quote; return where the text after it begins."""
    end = len(line)
    while position < end and line[position] != 0:
        byte = line[position]
        following = line[position + 1] if position + 1 < end else 0
        if byte == quote:
            return position + 1
        if byte == _BACKSLASH and quote == _SINGLE and following == _SINGLE:
            byte, position = following, position + 1
        elif byte == _BACKSLASH and quote == _DOUBLE and following:
            digits = line[position + 2 : position + 4]
            if following == _X and len(digits) == 2 and digits[0] in _HEX and digits[1] in _HEX:
                byte, position = int(digits, 16), position + 3
            else:
                byte, position = _ESCAPES.get(following, following), position + 1
        argument.append(byte)
        position += 1
    raise UnbalancedQuotes
