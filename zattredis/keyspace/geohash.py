"""Geohashes of 52 bits, as Redis keeps places in a sorted set: 26 bits of latitude and of longitude in turn.

A cell of `step` is (latitude, longitude) as two integers of `step` bits. What is stored (hashes, and what searches
store) comes from additions, multiplications and divisions of doubles in Redis's order, and from `exact_math`; replies
alone may use libm, as Redis's do.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final, NamedTuple

from zattredis.keyspace import exact_math

STEP_MAX: Final = 26
LONGITUDE_MAX: Final = 180.0
LATITUDE_MAX: Final = 85.05112878
EARTH_RADIUS_M: Final = 6372797.560856
_MERCATOR_MAX: Final = 20037726.37
_RADIANS: Final = math.pi / 180.0
_QUARTER: Final = math.pi / 2
_DIVISORS: Final = tuple(float(n * (n + 1)) for n in range(28, 0, -2))
_DOUBT: Final = 1e-9
_DOUBT_LEAST: Final = 1e-24
"""How near to the edge of a circle a place is looked at exactly."""
_ALPHABET: Final = b"0123456789bcdefghjkmnpqrstuvwxyz"
_ALL: Final = (1 << 64) - 1
_NEIGHBOURS: Final = ((0, 0), (1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (1, -1), (-1, 1), (-1, -1))
"""Steps in (latitude, longitude), in the order in which Redis looks: the cell, N, S, E, W, NE, NW, SE, SW."""


class Functions(NamedTuple):
    """The trigonometry of a search."""

    sine: Callable[[float], float]
    cosine: Callable[[float], float]
    arc_sine: Callable[[float], float]


LIBM: Final = Functions(math.sin, math.cos, math.asin)
"""For replies."""
EXACT: Final = Functions(exact_math.sine, exact_math.cosine, exact_math.arc_sine)
"""For what is stored."""


def _spread(bits: int) -> int:
    """Return 32 bits with a zero before each."""
    bits = (bits | bits << 16) & 0x0000FFFF0000FFFF
    bits = (bits | bits << 8) & 0x00FF00FF00FF00FF
    bits = (bits | bits << 4) & 0x0F0F0F0F0F0F0F0F
    bits = (bits | bits << 2) & 0x3333333333333333
    return (bits | bits << 1) & 0x5555555555555555


def _gather(bits: int) -> int:
    """Return every second bit of 64, from the lowest on."""
    bits &= 0x5555555555555555
    bits = (bits | bits >> 1) & 0x3333333333333333
    bits = (bits | bits >> 2) & 0x0F0F0F0F0F0F0F0F
    bits = (bits | bits >> 4) & 0x00FF00FF00FF00FF
    bits = (bits | bits >> 8) & 0x0000FFFF0000FFFF
    return (bits | bits >> 16) & 0x00000000FFFFFFFF


def interleave(latitude: int, longitude: int) -> int:
    """Return the bits of both in turn, latitude's in the even places."""
    return _spread(latitude) | _spread(longitude) << 1


def _cell(longitude: float, latitude: float, step: int, latitude_max: float = LATITUDE_MAX) -> tuple[int, int]:
    """Return the cell that holds a place."""
    cells = 1 << step
    north = (latitude - -latitude_max) / (latitude_max - -latitude_max)
    east = (longitude - -LONGITUDE_MAX) / (LONGITUDE_MAX - -LONGITUDE_MAX)
    return int(north * cells) & 0xFFFFFFFF, int(east * cells) & 0xFFFFFFFF


def encode(longitude: float, latitude: float) -> int:
    """Return the 52 bits of a place within the limits: its score."""
    return interleave(*_cell(longitude, latitude, STEP_MAX))


class Area(NamedTuple):
    """The limits of a cell, in degrees."""

    south: float
    north: float
    west: float
    east: float


def _area(latitude: int, longitude: int, step: int) -> Area:
    cells = 1 << step
    height, width = LATITUDE_MAX - -LATITUDE_MAX, LONGITUDE_MAX - -LONGITUDE_MAX
    return Area(
        -LATITUDE_MAX + (latitude * 1.0 / cells) * height,
        -LATITUDE_MAX + ((latitude + 1) * 1.0 / cells) * height,
        -LONGITUDE_MAX + (longitude * 1.0 / cells) * width,
        -LONGITUDE_MAX + ((longitude + 1) * 1.0 / cells) * width,
    )


def bits_of_score(score: float) -> int:
    """Return a score as 64 bits, as C on x86-64 converts it, whatever was put into the set."""
    if math.isinf(score) or abs(score) >= 2.0**64:
        return 0 if score > 0 else 1 << 63
    whole = int(score)
    return whole & _ALL if whole >= -(1 << 63) else 1 << 63


def decode(score: float) -> tuple[float, float]:
    """Return the longitude and latitude in the middle of the cell that a score names."""
    bits = bits_of_score(score)
    area = _area(_gather(bits), _gather(bits >> 1), STEP_MAX)
    longitude = (area.west + area.east) / 2
    latitude = (area.south + area.north) / 2
    return (
        min(max(longitude, -LONGITUDE_MAX), LONGITUDE_MAX),
        min(max(latitude, -LATITUDE_MAX), LATITUDE_MAX),
    )


def text(score: float) -> bytes:
    """Return the standard geohash of eleven letters; the last is always 0, for want of bits."""
    latitude, longitude = _cell(*decode(score), STEP_MAX, 90.0)
    bits = interleave(latitude, longitude)
    return bytes(_ALPHABET[bits >> 52 - (place + 1) * 5 & 31] for place in range(10)) + b"0"


def latitude_distance(one: float, other: float) -> float:
    """Return the distance of two latitudes in metres."""
    return EARTH_RADIUS_M * abs(other * _RADIANS - one * _RADIANS)


def distance(
    longitude: float, latitude: float, to_longitude: float, to_latitude: float, functions: Functions = LIBM
) -> float:
    """Return the distance of two places in metres on a sphere, by the haversine formula."""
    v = functions.sine((to_longitude * _RADIANS - longitude * _RADIANS) / 2)
    if v == 0.0:
        return latitude_distance(latitude, to_latitude)
    one, other = latitude * _RADIANS, to_latitude * _RADIANS
    u = functions.sine((other - one) / 2)
    a = u * u + functions.cosine(one) * functions.cosine(other) * v * v
    return 2.0 * EARTH_RADIUS_M * functions.arc_sine(math.sqrt(min(a, 1.0)))


def _haversine_roughly(longitude: float, latitude: float, to_longitude: float, to_latitude: float) -> float:
    """Return the haversine of two places' angle to some 13 digits, by arithmetic alone: the same on every machine."""
    one, other = latitude * _RADIANS, to_latitude * _RADIANS
    u = _sine_roughly((other - one) / 2)
    v = _sine_roughly((to_longitude * _RADIANS - longitude * _RADIANS) / 2)
    return u * u + _sine_roughly(_QUARTER - abs(one)) * _sine_roughly(_QUARTER - abs(other)) * v * v


def _sine_roughly(angle: float) -> float:
    square = angle * angle
    total = 0.0
    for divisor in _DIVISORS:
        total = 1.0 - total * square / divisor
    return angle * total


class Shape:
    """A circle or a box around a place; `unit` is metres in one of its units."""

    __slots__ = ("_functions", "_haversine_max", "_needs_distance", "height", "is_box", "latitude", "longitude", "unit",
                 "width")  # fmt: skip

    def __init__(
        self,
        longitude: float,
        latitude: float,
        unit: float,
        width: float,
        height: float | None,
        functions: Functions,
        needs_distance: bool = True,
    ) -> None:
        """`height` None makes it a circle, of which `width` is the radius.

        Without `needs_distance` the distances that are told of places inside may be 0.
        """
        self.longitude = longitude
        self.latitude = latitude
        self.unit = unit
        self.width = width
        self.is_box = height is not None
        self.height = width if height is None else height
        self._functions = functions
        self._needs_distance = needs_distance
        self._haversine_max: float | None = None
        half_angle = width * unit / EARTH_RADIUS_M / 2
        if functions is EXACT and height is None and half_angle < _QUARTER:
            self._haversine_max = exact_math.sine(half_angle) ** 2

    def distance_within(self, longitude: float, latitude: float) -> float | None:
        """Return the distance in metres from the middle to a place inside, None for one outside."""
        functions = self._functions
        if self.is_box:
            if latitude_distance(latitude, self.latitude) > self.height * self.unit / 2:
                return None
            if distance(longitude, latitude, self.longitude, latitude, functions) > self.width * self.unit / 2:
                return None
            return distance(self.longitude, self.latitude, longitude, latitude, functions)
        radius = self.width * self.unit
        # The distance is at least that of the latitudes, and much quicker told.
        if latitude_distance(latitude, self.latitude) > radius * 1.000001:
            return None
        if self._haversine_max is not None:
            # The exact functions cost twenty times as much, and are seldom needed to tell in from out.
            roughly = _haversine_roughly(self.longitude, self.latitude, longitude, latitude)
            if roughly > self._haversine_max * (1 + _DOUBT) + _DOUBT_LEAST:
                return None
            if not self._needs_distance and roughly < self._haversine_max * (1 - _DOUBT) - _DOUBT_LEAST:
                return 0.0
        found = distance(self.longitude, self.latitude, longitude, latitude, functions)
        return None if found > radius else found

    def ranges(self) -> list[tuple[int, int]]:
        """Return the ranges low <= score < high that hold all within, in the order in which Redis looks at them."""
        west, south, east, north = self._bounds()
        step = self._step()
        latitude, longitude = _cell(self.longitude, self.latitude, step)
        if step > 1 and _too_small(latitude, longitude, step, (west, south, east, north)):
            step -= 1
            latitude, longitude = _cell(self.longitude, self.latitude, step)
        area = _area(latitude, longitude, step)
        useless: set[tuple[int, int]] = set()
        if step >= 2:
            for beyond, axis, side in (
                (area.south < south, 0, -1), (area.north > north, 0, 1),
                (area.west < west, 1, -1), (area.east > east, 1, 1),
            ):  # fmt: skip
                if beyond:
                    useless.update(move for move in _NEIGHBOURS if move[axis] == side)
        found: list[tuple[int, int]] = []
        mask = (1 << step) - 1
        shift = 52 - 2 * step
        for up, right in _NEIGHBOURS:
            if (up, right) in useless:
                continue
            bits = interleave(latitude + up & mask, longitude + right & mask)
            one = (bits << shift, bits + 1 << shift)
            if not found or found[-1] != one:  # of a huge area neighbours may be one cell
                found.append(one)
        return found

    def _bounds(self) -> tuple[float, float, float, float]:
        """Return west, south, east and north of a box around the shape, in degrees."""
        high = self.unit * (self.height / 2 if self.is_box else self.height)
        wide = self.unit * (self.width / 2 if self.is_box else self.width)
        up = high / EARTH_RADIUS_M / _RADIANS
        nearer_pole = self.latitude - up if self.latitude < 0 else self.latitude + up
        cosine = self._functions.cosine(nearer_pole * _RADIANS) if math.isfinite(up) else math.nan
        aside = wide / EARTH_RADIUS_M / cosine / _RADIANS if cosine else math.inf
        return self.longitude - aside, self.latitude - up, self.longitude + aside, self.latitude + up

    def _step(self) -> int:
        """Return at which step a cell and its neighbours about cover the shape."""
        if self.is_box:
            metres = math.sqrt((self.width / 2) * (self.width / 2) + (self.height / 2) * (self.height / 2))
        else:
            metres = self.width
        metres *= self.unit
        if metres == 0:
            return STEP_MAX
        step = 1
        while metres < _MERCATOR_MAX:
            metres *= 2
            step += 1
        step -= 2
        if abs(self.latitude) > 66:
            step -= 1
        if abs(self.latitude) > 80:
            step -= 1
        return min(max(step, 1), STEP_MAX)


def _too_small(latitude: int, longitude: int, step: int, bounds: tuple[float, float, float, float]) -> bool:
    """Return whether the neighbours of a cell do not reach as far as the bounds (west, south, east, north)."""
    west, south, east, north = bounds
    mask = (1 << step) - 1
    return (
        _area(latitude + 1 & mask, longitude, step).north < north
        or _area(latitude - 1 & mask, longitude, step).south > south
        or _area(latitude, longitude + 1 & mask, step).east < east
        or _area(latitude, longitude - 1 & mask, step).west > west
    )
