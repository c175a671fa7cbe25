"""sin, cos and asin, rounded to the nearest double: the same on every machine, which libm's are not.

What is stored may not depend on libm: two nodes with other libraries, or other processors under the same one, differ in
the last bit now and then. These compute in integers, as multiples of 2**-128, from a power series; what is lost on the
way is far below half a unit in the last place of a double, so the outcome is the true value, correctly rounded. glibc's
functions come to the same in nearly all cases (its documented errors stay below 0.56 units).
"""

from __future__ import annotations

from math import fmod, isqrt, pi
from typing import Final

_BITS: Final = 128
_ONE: Final = 1 << _BITS
_HALVINGS: Final = 4
_TINY: Final = 2.0**-27
"""Below this sin(x) and asin(x) differ from x by less than half a unit in its last place."""


def _fixed(value: float) -> int:
    numerator, denominator = value.as_integer_ratio()
    return (numerator << _BITS) // denominator


def _alternating(first: int, square: int, start: int) -> int:
    """Return first - first * square / (start (start + 1)) + …, until the terms vanish."""
    total = term = first
    number = start
    while term:
        term = -(term * square >> _BITS) // (number * (number + 1))
        if term == -1:
            break
        total += term
        number += 2
    return total


def sine(angle: float) -> float:
    """Return the sine of an angle in radians, |angle| <= 2 pi."""
    if abs(angle) < _TINY:
        return angle
    negative = angle < 0
    fixed = _fixed(abs(angle))
    value = _alternating(fixed, fixed * fixed >> _BITS, 2) / _ONE
    return -value if negative else value


def cosine(angle: float) -> float:
    """Return the cosine of an angle in radians; of one beyond 2 pi less exactly, though the same everywhere."""
    fixed = _fixed(fmod(angle, 2 * pi) if abs(angle) > 2 * pi else angle)
    return _alternating(_ONE, fixed * fixed >> _BITS, 1) / _ONE


def arc_sine(value: float) -> float:
    """Return the angle in radians whose sine is `value`, 0 <= value <= 1."""
    if value < _TINY:
        return value
    fixed = _fixed(value)
    # asin(v) = 2 atan(v / (1 + sqrt(1 - v²))), and atan(t) = 2 atan(t / (1 + sqrt(1 + t²))) makes t small.
    tangent = (fixed << _BITS) // (_ONE + isqrt((_ONE << _BITS) - fixed * fixed))
    for _ in range(_HALVINGS):
        tangent = (tangent << _BITS) // (_ONE + isqrt((_ONE << _BITS) + tangent * tangent))
    square = tangent * tangent >> _BITS
    total = 0
    term, number = tangent, 1
    while term:
        total += term // number if number & 2 == 0 else -(term // number)
        term = term * square >> _BITS
        number += 2
    return (total << _HALVINGS + 1) / _ONE
