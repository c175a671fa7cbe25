"""x86's 80-bit floating point in integers, for INCRBYFLOAT: every node must store the same digits, whatever its libm.

A finite number is (mantissa, exponent) meaning mantissa * 2**exponent with |mantissa| < 2**64, rounded half to even;
the format is Redis's `%.17Lf` without trailing zeros (util.c, ld2string with LD_STR_HUMAN). Negative zero is not kept
apart: no format here can show it.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

_MANTISSA_BITS: Final = 64
_EXPONENT_MIN: Final = -16445
"""Of the least denormal's only bit."""
_EXPONENT_MAX: Final = 16383
"""Of the leading bit of the greatest number."""
_CHARS_MAX: Final = 5 * 1024 - 1
"""Redis copies the text into a buffer of MAX_LONG_DOUBLE_CHARS bytes."""
_DECIMAL_EXPONENT_MAX: Final = 6000 + _CHARS_MAX
"""Beyond it a number of at most _CHARS_MAX digits is 0 or infinite for certain."""
_PLACES: Final = 17

_NUMBER: Final = re.compile(
    rb"(?P<sign>[+-]?)(?:"
    rb"(?P<infinite>inf(?:inity)?)"
    rb"|0x(?P<hex_whole>[0-9a-f]*)(?:\.(?P<hex_part>[0-9a-f]*))?(?:p(?P<two>[+-]?[0-9]+))?"
    rb"|(?P<whole>[0-9]*)(?:\.(?P<part>[0-9]*))?(?:e(?P<ten>[+-]?[0-9]+))?)",
    re.IGNORECASE,
)


class LongDouble(NamedTuple):
    """mantissa * 2**exponent, or an infinity of the mantissa's sign."""

    mantissa: int
    exponent: int
    infinite: bool = False


def parse_long_double(text: bytes) -> LongDouble | None:
    """Return what Redis's string2ld makes of the text, None where it refuses it (overflow and underflow too)."""
    if not text or len(text) > _CHARS_MAX:
        return None
    match = _NUMBER.fullmatch(text)
    if match is None:
        return None
    negative = match["sign"] == b"-"
    if match["infinite"]:
        return LongDouble(-1 if negative else 1, 0, infinite=True)
    if match["hex_whole"] is not None:
        digits, places = match["hex_whole"] + (match["hex_part"] or b""), len(match["hex_part"] or b"")
        base, scale, bits = 16, 2, -4 * places
        shift = _bounded(match["two"], 4 * _EXPONENT_MAX + 4 * _CHARS_MAX) + bits
    else:
        digits, places = match["whole"] + (match["part"] or b""), len(match["part"] or b"")
        base, scale = 10, 10
        shift = _bounded(match["ten"], _DECIMAL_EXPONENT_MAX) - places
    if not digits:
        return None
    whole = int(digits, 16) if base == 16 else _integer(digits)
    if whole == 0:
        return LongDouble(0, 0)
    numerator, denominator = (whole * scale**shift, 1) if shift >= 0 else (whole, scale**-shift)
    value = _rounded(-numerator if negative else numerator, denominator)
    return None if value.infinite or value.mantissa == 0 else value


def add(one: LongDouble, other: LongDouble) -> LongDouble | None:
    """Return the rounded sum; None where it would be NaN."""
    if one.infinite or other.infinite:
        if one.infinite and other.infinite and one.mantissa != other.mantissa:
            return None
        return one if one.infinite else other
    exponent = min(one.exponent, other.exponent)
    total = (one.mantissa << (one.exponent - exponent)) + (other.mantissa << (other.exponent - exponent))
    return _rounded(total << exponent, 1) if exponent >= 0 else _rounded(total, 1 << -exponent)


def format_human(value: LongDouble) -> bytes:
    """Return the decimal form with up to 17 places, trailing zeros cut. The value must be finite."""
    scaled = abs(value.mantissa) * 10**_PLACES
    if value.exponent >= 0:
        digits = scaled << value.exponent
    else:
        digits = _divide_half_even(scaled, 1 << -value.exponent)
    whole, part = divmod(digits, 10**_PLACES)
    text = _decimal(whole)
    if part:
        text += "." + f"{part:017d}".rstrip("0")
    return (f"-{text}" if value.mantissa < 0 and text != "0" else text).encode("ascii")


def _bounded(text: bytes | None, bound: int) -> int:
    if text is None:
        return 0
    negative = text.startswith(b"-")
    digits = text.lstrip(b"+-").lstrip(b"0")
    value = bound if len(digits) > 9 else min(int(digits or b"0"), bound)
    return -value if negative else value


def _rounded(numerator: int, denominator: int) -> LongDouble:
    """Return the nearest long double of a fraction, ties to even; infinite beyond the range, 0 below it."""
    magnitude = abs(numerator)
    if magnitude == 0:
        return LongDouble(0, 0)
    exponent = magnitude.bit_length() - denominator.bit_length() - _MANTISSA_BITS
    while True:
        exponent = max(exponent, _EXPONENT_MIN)
        if exponent >= 0:
            mantissa = _divide_half_even(magnitude, denominator << exponent)
        else:
            mantissa = _divide_half_even(magnitude << -exponent, denominator)
        if mantissa.bit_length() <= _MANTISSA_BITS:
            break
        exponent += 1
    if mantissa.bit_length() + exponent - 1 > _EXPONENT_MAX:
        return LongDouble(-1 if numerator < 0 else 1, 0, infinite=True)
    return LongDouble(-mantissa if numerator < 0 else mantissa, exponent)


def _divide_half_even(numerator: int, denominator: int) -> int:
    quotient, remainder = divmod(numerator, denominator)
    twice = 2 * remainder
    return quotient + (twice > denominator or (twice == denominator and quotient & 1))


def _integer(digits: bytes) -> int:
    """Return a decimal integer; int() refuses more than 4300 digits."""
    return int(digits) if len(digits) <= 4000 else int(digits[:-4000] or b"0") * 10**4000 + int(digits[-4000:])


def _decimal(value: int) -> str:
    """Return the decimal digits; str() refuses more than 4300 of them, a long double has up to 4933."""
    high, low = divmod(value, 10**4000)
    return f"{high}{low:04000d}" if high else str(low)
