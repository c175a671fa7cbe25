"""Randomness that is the same on every node: SplitMix64 over (seed, ordinal), integers only.

Source: Steele, Lea, Flood, "Fast Splittable Pseudorandom Number Generators", OOPSLA 2014.
"""

from __future__ import annotations

_MASK = 0xFFFFFFFFFFFFFFFF
_GAMMA = 0x9E3779B97F4A7C15


def _mix(value: int) -> int:
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & _MASK
    return value ^ (value >> 31)


class SeededRandom:
    """A stream of numbers that depends on `seed` and `ordinal` (the command's place under that seed) alone."""

    __slots__ = ("_state",)

    def __init__(self, seed: int, ordinal: int) -> None:
        self._state = _mix((seed & _MASK) ^ _mix((ordinal + 1) * _GAMMA & _MASK))

    def bits64(self) -> int:
        """Return the next 64 bits."""
        self._state = (self._state + _GAMMA) & _MASK
        return _mix(self._state)

    def below(self, bound: int) -> int:
        """Return a uniform integer, 0 <= n < bound. Raises ValueError unless 1 <= bound <= 2**64."""
        if not 1 <= bound <= 1 << 64:
            raise ValueError("bound must be within 1..2**64")
        limit = (1 << 64) - (1 << 64) % bound
        while True:
            drawn = self.bits64()
            if drawn < limit:
                return drawn % bound
