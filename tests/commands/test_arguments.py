"""The grammars of numbers, where other commands' differential tests do not reach."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zattredis.commands.arguments import Options, parse_double, parse_int, strict_integer
from zattredis.errors import DefiniteError, SyntaxReplyError


@given(st.integers(-(2**70), 2**70))
def test_an_integer_is_64_bits_written_plainly(number: int) -> None:
    fits = -(2**63) <= number < 2**63
    assert strict_integer(b"%d" % number) == (number if fits else None)
    assert strict_integer(b" %d" % number) is None
    assert strict_integer(b"+%d" % number) is None
    assert strict_integer(b"%d_0" % number) is None
    assert strict_integer(b"0%d" % number) is None


@given(st.binary(max_size=25))
def test_any_bytes_are_an_integer_or_none(text: bytes) -> None:
    value = strict_integer(text)
    assert value is None or b"%d" % value == text


def test_an_int_is_32_bits() -> None:
    assert parse_int(b"-2147483648") == -(2**31)
    with pytest.raises(DefiniteError, match="value is out of range"):
        parse_int(b"2147483648")
    with pytest.raises(DefiniteError, match="value is not an integer"):
        parse_int(b"x")
    with pytest.raises(DefiniteError, match="own text"):
        parse_int(b"2147483648", "own text")


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_doubles_are_read_as_written(number: float) -> None:
    assert parse_double(repr(number).encode()) == number
    assert parse_double(number.hex().encode()) == number


@pytest.mark.parametrize(("text", "value"), [(b"inf", math.inf), (b"-Infinity", -math.inf), (b".5", 0.5), (b"5.", 5.0)])
def test_doubles_in_odd_forms(text: bytes, value: float) -> None:
    assert parse_double(text) == value


@pytest.mark.parametrize("text", [b"", b"nan", b"1_0", b" 1", b"1 ", b"1e400", b"-1e400", b"1e-400", b"0x", b"0x1p9999",
                                  b"e5", b".", b"1.5x", b"\xff"])  # fmt: skip
def test_what_is_no_double(text: bytes) -> None:
    with pytest.raises(DefiniteError):
        parse_double(text)


def test_options() -> None:
    options = Options((b"ex", b"10", b"NX"))
    assert options.word() == b"EX"
    assert options.argument() == b"10"
    assert options.more()
    assert options.word() == b"NX"
    assert not options.more()
    with pytest.raises(SyntaxReplyError):
        options.argument()
