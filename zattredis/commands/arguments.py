"""Reading arguments as Redis does: its grammars, its bounds and its error texts."""

from __future__ import annotations

import math
import re
from typing import Final

from zattredis.errors import DefiniteError, SyntaxReplyError
from zattredis.keyspace.long_double import LongDouble, parse_long_double

INTEGER_MIN: Final = -(1 << 63)
INTEGER_MAX: Final = (1 << 63) - 1
INT_MIN: Final = -(1 << 31)
INT_MAX: Final = (1 << 31) - 1
_INTEGER_CHARS_MAX: Final = 20

NOT_AN_INTEGER: Final = "value is not an integer or out of range"
NOT_A_FLOAT: Final = "value is not a valid float"

_DECIMAL: Final = re.compile(
    rb"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:e[+-]?[0-9]+)?|[+-]?inf(?:inity)?", re.IGNORECASE
)  # fmt: skip
_HEXADECIMAL: Final = re.compile(
    rb"[+-]?0x(?:[0-9a-f]+\.?[0-9a-f]*|\.[0-9a-f]+)(?:p[+-]?[0-9]+)?", re.IGNORECASE
)  # fmt: skip


def strict_integer(text: bytes) -> int | None:
    """Return the integer, or None unless it is written as Redis writes it (no `+`, blanks, leading zeros; 64 bits)."""
    if len(text) > _INTEGER_CHARS_MAX:
        return None
    try:
        value = int(text)
    except ValueError:
        return None
    if b"%d" % value != text or not INTEGER_MIN <= value <= INTEGER_MAX:
        return None
    return value


def parse_integer(text: bytes, error: str = NOT_AN_INTEGER) -> int:
    """Return a signed 64-bit integer. Raises DefiniteError with `error`."""
    value = strict_integer(text)
    if value is None:
        raise DefiniteError(error)
    return value


def parse_double(text: bytes, error: str = NOT_A_FLOAT) -> float:
    """Return a double as strtod reads it (decimal, hexadecimal, infinity; never NaN). Raises DefiniteError."""
    if _DECIMAL.fullmatch(text):
        value = float(text)
        if math.isinf(value) and b"n" not in text.lower():
            raise DefiniteError(error)
        if value == 0.0 and any(0x31 <= byte <= 0x39 for byte in re.split(rb"[eE]", text)[0]):
            raise DefiniteError(error)
        return value
    if _HEXADECIMAL.fullmatch(text):
        try:
            return float.fromhex(text.decode("ascii"))
        except OverflowError:
            pass
    raise DefiniteError(error)


def parse_float(text: bytes) -> LongDouble:
    """Return an 80-bit float as strtold reads it. Raises DefiniteError."""
    value = parse_long_double(text)
    if value is None:
        raise DefiniteError(NOT_A_FLOAT)
    return value


def parse_int(text: bytes, error: str | None = None) -> int:
    """Return an integer of 32 bits. Raises DefiniteError: `error`, or Redis's usual texts."""
    value = strict_integer(text)
    if value is None:
        raise DefiniteError(error or NOT_AN_INTEGER)
    if not INT_MIN <= value <= INT_MAX:
        raise DefiniteError(error or f"value is out of range, value must between {INT_MIN} and {INT_MAX}")
    return value


def parse_database(text: bytes, databases: int) -> int:
    """Return a database number, 0 <= n < `databases`. Raises DefiniteError."""
    value = parse_int(text)
    if not 0 <= value < databases:
        raise DefiniteError("DB index is out of range")
    return value


class Options:
    """A walk over a command's optional words: `next_word` upper-cased, `argument` the one behind it."""

    __slots__ = ("_at", "_words")

    def __init__(self, words: tuple[bytes, ...]) -> None:
        self._words = words
        self._at = 0

    def more(self) -> bool:
        """Return whether a word is left."""
        return self._at < len(self._words)

    def word(self) -> bytes:
        """Return the next word in upper case."""
        self._at += 1
        return self._words[self._at - 1].upper()

    def argument(self) -> bytes:
        """Return the word behind an option. Raises SyntaxReplyError when there is none."""
        if self._at >= len(self._words):
            raise SyntaxReplyError
        self._at += 1
        return self._words[self._at - 1]

    def arguments(self, count: int) -> tuple[bytes, ...]:
        """Return the `count` words behind an option. Raises SyntaxReplyError when there are fewer."""
        if self._at + count > len(self._words):
            raise SyntaxReplyError
        self._at += count
        return self._words[self._at - count : self._at]
