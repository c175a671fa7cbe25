"""The geo group against redis-server 7.0: every command line answered byte for byte alike."""

from __future__ import annotations

import random

import pytest

from tests.support.differential import Backend, Connection, compare
from tests.support.resp_client import Argument
from zattredis.keyspace import exact_math, geohash

Pair = tuple[Backend, Connection]
Lines = list[str | list[Argument]]

CITIES = "13.361389 38.115556 Palermo 15.087269 37.502669 Catania 2.3522 48.8566 Paris -0.1276 51.5072 London"
EDGES = "180 85.05112878 ne -180 -85.05112878 sw 179.9999 0 east -179.9999 0 west 0 0 zero 0 85 north 0 -85 south"

WRONG_ARITY = [
    "GEOADD g", "GEOADD g 1 2", "GEODIST g", "GEODIST g a", "GEOHASH", "GEOPOS", "GEOSEARCH g FROMLONLAT 1 2 BYRADIUS",
    "GEOSEARCHSTORE d g FROMLONLAT 1 2 BYRADIUS", "geoSearch g BYRADIUS 1 km ASC ANY", "geosearch g FROMLONLAT 1 2 ASC",
    "GeoSearchStore d g BYBOX 1 1 km ASC", "geosearchstore d g FROMMEMBER a ASC ANY",
    "GEORADIUS g 1 2 3", "GEORADIUSBYMEMBER g a 3",
    "GEORADIUS_RO g 1 2 3",
    "GEORADIUSBYMEMBER_RO g a 3", "GEODIST g a b km x",
]  # fmt: skip
NUMBERS = ["0", "-0", "1", "1.5", "180", "-180", "180.0001", "85.05112878", "85.0511288", "-85.06", "inf", "-inf",
"nan",
           "abc", "''", "1e400", "0x10", "1e2", " 1"]  # fmt: skip


@pytest.fixture
def cities() -> Lines:
    return [f"GEOADD g {CITIES} {EDGES}", "SET s text",
    "ZADD odd -1 minus 1e300 huge inf infinite 4503599627370496 over 1.5 half"]


def test_wrong_arity(pair: Pair) -> None:
    compare(*pair, WRONG_ARITY)


def test_geoadd(pair: Pair, cities: Lines) -> None:
    lines: Lines = []
    for number in NUMBERS:
        lines += [["GEOADD", "g", number.strip("'"), "1", "m"], ["GEOADD", "g", "1", number.strip("'"), "n"]]
        lines += ["ZSCORE g m", "ZSCORE g n", "GEOPOS g m n", "GEOHASH g m n"]
    for options in ("NX", "XX", "CH", "NX XX", "nx ch", "XX CH", "GT", "INCR", "NX NX", "CH CH", "XX NX CH"):
        lines += [
            f"GEOADD g {options} 3 4 Paris 5 6 fresh", f"GEOADD g {options} 3.1 4.1 Paris", f"GEOADD g {options} 1 2",
            f"GEOADD g {options}", f"GEOADD g {options} 1 2 a 3", f"GEOADD g {options} 200 2 a",
            f"GEOADD none {options} 1 2 a",
            f"GEOADD g {options} 1 2 a x y b", "DEL none", "ZREM g fresh a b",
        ]  # fmt: skip
    compare(*pair, [*cities, *lines, "ZRANGE g 0 -1 WITHSCORES", "GEOADD s 1 2 m", "GEOADD s 1 x m",
    "OBJECT ENCODING g"])


def test_members(pair: Pair, cities: Lines) -> None:
    names = [*CITIES.split()[2::3], *EDGES.split()[2::3], "none"]
    lines: Lines = [f"GEODIST g {one} {other} {unit}" for one in names for other in names for unit in ("", "km", "MI")]
    lines += [
        "GEODIST g Paris London ft", "GEODIST g Paris London foo", "GEODIST g Paris London ''", "GEODIST none a b",
        "GEODIST none a b foo", "GEODIST s a b", "GEODIST s a b foo", "GEOPOS g", "GEOHASH g",
        "GEOPOS g Paris none Paris",
        "GEOHASH g Paris none Paris", "GEOPOS none a b", "GEOHASH none a b", "GEOPOS s a", "GEOHASH s a",
        ["GEOPOS", "g", *names], ["GEOHASH", "g", *names], "GEOPOS odd minus huge infinite over half",
        "GEOHASH odd minus huge infinite over half", "GEODIST odd minus half",
    ]  # fmt: skip
    compare(*pair, [*cities, *lines])


OPTIONS = [
    "", "ASC", "DESC", "asc withdist", "WITHCOORD ASC", "WITHHASH ASC", "ASC WITHCOORD WITHDIST WITHHASH",
    "COUNT 1", "COUNT 2 DESC",
    "COUNT 2 ANY", "ANY", "COUNT", "COUNT 0", "COUNT -1", "COUNT x", "COUNT 99999999999999999999", "FOO", "STORE d",
    "STOREDIST d", "STORE", "STOREDIST", "WITHDIST STORE d", "ASC DESC", "COUNT 1 COUNT 3", "COUNT 1 ANY ASC",
    "STOREDIST d ASC COUNT 1",
    "STORE d STOREDIST e", "ANY COUNT 1", "FROMMEMBER Paris", "BYRADIUS 1 km",
]  # fmt: skip


@pytest.mark.parametrize("name", [
    "GEORADIUS g 10 45", "GEORADIUS_RO g 10 45", "GEORADIUSBYMEMBER g Paris", "GEORADIUSBYMEMBER_RO g Paris",
    "GEORADIUS none 10 45", "GEORADIUSBYMEMBER none Paris", "GEORADIUSBYMEMBER g none", "GEORADIUS s 10 45",
    "GEORADIUSBYMEMBER s Paris",
])  # fmt: skip
def test_radius(pair: Pair, cities: Lines, name: str) -> None:
    lines: Lines = []
    for options in OPTIONS:
        lines += [f"{name} 2000 km {options}", f"{name} 1 m {options}", "ZRANGE d 0 -1", "ZRANGE e 0 -1", "DEL d e"]
    for radius in ("0", "-1", "x", "''", "nan", "inf", "1e400", "100", "1e9"):
        for unit in ("km", "m", "foo", "''"):
            lines.append([*name.split(), radius.strip("'"), unit.strip("'"), "ASC"])
    compare(*pair, [*cities, *lines, "GEORADIUS g 200 1 1 km", "GEORADIUS g x 1 1 km", "GEORADIUS g 1 1 x km FOO"])


@pytest.mark.parametrize("name", ["GEOSEARCH g", "GEOSEARCHSTORE d g", "GEOSEARCH none", "GEOSEARCHSTORE d none",
"GEOSEARCH s",
                                  "GEOSEARCHSTORE d s"])  # fmt: skip
def test_search(pair: Pair, cities: Lines, name: str) -> None:
    places = ["FROMMEMBER Paris", "FROMMEMBER none", "FROMLONLAT 10 45", "fromlonlat 10 x", "FROMLONLAT 200 1",
    "FROMLONLAT 1",
              "FROMMEMBER Paris FROMLONLAT 1 2", "FROMMEMBER Paris FROMMEMBER London", ""]  # fmt: skip
    shapes = ["BYRADIUS 2000 km", "byradius 0 m", "BYRADIUS x km", "BYRADIUS -1 km", "BYRADIUS 1 foo", "BYRADIUS 1",
              "BYBOX 1000 2000 km", "BYBOX 4000 100 mi", "BYBOX x 1 km", "BYBOX 1 x km", "BYBOX -1 1 km",
              "BYBOX 1 1 foo",
              "BYBOX 1 1", "BYRADIUS 1 km BYBOX 1 1 km", "BYBOX 0 0 m", ""]  # fmt: skip
    lines: Lines = []
    for place in places:
        for shape in shapes:
            for options in ("", "ASC WITHDIST WITHHASH", "STOREDIST"):
                lines += [f"{name} {place} {shape} {options}", f"{name} {shape} {options} {place}"]
    for options in OPTIONS:
        lines += [f"{name} FROMLONLAT 10 45 BYRADIUS 2000 km {options}",
        f"{name} {options} FROMLONLAT 3 49 BYBOX 999 999 km"]
        lines += ["ZRANGE d 0 -1", "EXISTS d"]
    compare(*pair, [*cities, *lines])


def random_places(choice: random.Random, count: int) -> list[Argument]:
    line: list[Argument] = ["GEOADD", "g"]
    for number in range(count):
        if choice.random() < 0.5:
            place = choice.uniform(-180, 180), choice.uniform(-85, 85)
        else:
            place = choice.gauss(20, 3), choice.gauss(50, 3)
        line += [repr(place[0]), repr(place[1]), f"m{number}"]
    return line


def test_random_searches_in_the_order_in_which_they_are_found(pair: Pair) -> None:
    choice = random.Random(11)
    lines: Lines = [random_places(choice, 400)]
    for _ in range(150):
        place = f"{choice.uniform(-180, 180)} {choice.uniform(-85, 85)}"
        if choice.random() < 0.5:
            place = f"{choice.gauss(20, 3)} {choice.gauss(50, 3)}"
        size = 10 ** choice.uniform(1, 7.3)
        shape = f"BYRADIUS {size} m" if choice.random() < 0.5 else f"BYBOX {size} {size * choice.uniform(0.1, 9)} m"
        lines += [
            f"GEOSEARCH g FROMLONLAT {place} {shape}", f"GEOSEARCH g FROMLONLAT {place} {shape} COUNT 7 ANY WITHHASH",
            f"GEOSEARCH g FROMLONLAT {place} {shape} ASC WITHDIST WITHCOORD",
            f"GEOSEARCHSTORE d g FROMLONLAT {place} {shape}", "ZRANGE d 0 -1",
        ]  # fmt: skip
    compare(*pair, lines)


def printed(raw: bytes) -> list[bytes]:
    """Return members and scores, these to 15 digits: the last bit depends on the machine's libm in Redis, not here."""
    return [b"%.15g" % float(part) if part[:1].isdigit() else part for part in raw.split(b"\r\n")[2::2]]


def test_stored_distances(pair: Pair) -> None:
    ours, real = pair
    choice = random.Random(12)
    places = random_places(choice, 300)
    argvs = [[item if isinstance(item, bytes) else str(item).encode() for item in places]]
    for _ in range(20):
        place = f"{choice.gauss(20, 3)} {choice.gauss(50, 3)}"
        argvs += [
            f"GEOSEARCHSTORE d g FROMLONLAT {place} BYRADIUS 900 km STOREDIST".encode().split(),
            b"ZRANGE d 0 -1 WITHSCORES".split(),
            f"GEORADIUS g {place} 500 mi STOREDIST d".encode().split(), b"ZRANGE d 0 -1 WITHSCORES".split(),
        ]  # fmt: skip
    for backend in pair:
        backend.execute([b"FLUSHALL"])
        backend.use(2)
    exact = total = 0
    for got, expected in zip(ours.execute_all(argvs), real.execute_all(argvs), strict=True):
        assert printed(got) == printed(expected)
        total += got.count(b"\r\n")
        exact += sum(one == other for one, other in zip(got.split(b"\r\n"), expected.split(b"\r\n"), strict=True))
    assert exact > total * 0.99


def test_own_functions_round_correctly() -> None:
    """Known values, to more digits than a double has (OEIS A049469, A049470, A002194 and others)."""
    assert exact_math.sine(1.0) == 0.8414709848078965066525
    assert exact_math.cosine(1.0) == 0.5403023058681397174009
    assert exact_math.sine(-3.0) == -0.1411200080598672221007
    assert exact_math.arc_sine(1.0) == 1.5707963267948966192313
    assert exact_math.arc_sine(0.5) == 0.5235987755982988730771
    assert exact_math.arc_sine(0.0) == exact_math.sine(0.0) == 0.0
    assert exact_math.cosine(0.0) == 1.0
    assert exact_math.sine(1e-12) == exact_math.arc_sine(1e-12) == 1e-12


def test_hashes() -> None:
    assert geohash.encode(13.361389, 38.115556) == 3479099956230698
    assert geohash.text(3479099956230698) == b"sqc8b49rny0"
    for bits in (0, (1 << 52) - 1, 0x5555555555555, 0xAAAAAAAAAAAAA, 123456789012345):
        assert geohash.encode(*geohash.decode(float(bits))) == bits


def test_a_long_search(pair: Pair) -> None:
    choice = random.Random(13)
    lines: Lines = [random_places(choice, 2500)]
    for options in ("", "DESC WITHDIST", "WITHCOORD WITHHASH", "COUNT 1500 ANY", "COUNT 1200"):
        lines.append(f"GEOSEARCH g FROMLONLAT 20 50 BYRADIUS 9000 km {options}")
    lines += ["GEOSEARCHSTORE d g FROMLONLAT 20 50 BYBOX 9000 9000 km", "ZRANGE d 0 -1 WITHSCORES"]
    compare(*pair, lines)
