"""The geo group: places in sorted sets, scored by their geohash of 52 bits, and searches around a place."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from itertools import chain, count, islice
from typing import Any, Final, NamedTuple

from zattredis.commands.arguments import Options, parse_double, parse_integer
from zattredis.commands.context import Context, Steps, Stream
from zattredis.commands.keyspec import KeySpec
from zattredis.commands.sorted_sets import add_pairs, add_reply, parse_add_options, zset_of
from zattredis.commands.table import KEYS_FIRST, KEYS_TWO, Flag, KeyPart, command
from zattredis.commands.weights import of_first, of_second
from zattredis.errors import DefiniteError, NamesCommand, SyntaxReplyError
from zattredis.keyspace import geohash
from zattredis.keyspace.geohash import EXACT, LATITUDE_MAX, LIBM, LONGITUDE_MAX, Shape
from zattredis.keyspace.sizes import SLICED_ELEMENTS
from zattredis.keyspace.sorting import Sorter, finished
from zattredis.keyspace.spilling import HELD_MAX
from zattredis.keyspace.view import View
from zattredis.keyspace.zsets import Zset, put_zset
from zattredis.resp.replies import NULL_ARRAY, DoubleText

READ: Final = Flag.READONLY
WRITE: Final = Flag.WRITE | Flag.DENYOOM

_UNITS: Final = {b"M": 1.0, b"KM": 1000.0, b"FT": 0.3048, b"MI": 1609.34}
_UNKNOWN_MEMBER: Final = "could not decode requested zset member"


def _parse_place(longitude_text: bytes, latitude_text: bytes) -> tuple[float, float]:
    longitude, latitude = parse_double(longitude_text), parse_double(latitude_text)
    if not (-LONGITUDE_MAX <= longitude <= LONGITUDE_MAX and -LATITUDE_MAX <= latitude <= LATITUDE_MAX):
        raise DefiniteError(f"invalid longitude,latitude pair {longitude:f},{latitude:f}")
    return longitude, latitude


def _parse_unit(text: bytes) -> float:
    unit = _UNITS.get(text.upper())
    if unit is None:
        raise DefiniteError("unsupported unit provided. please use M, KM, FT, MI")
    return unit


def _parse_radius(radius_text: bytes, unit: bytes) -> tuple[float, None, float]:
    radius = parse_double(radius_text, "need numeric radius")
    if radius < 0:
        raise DefiniteError("radius cannot be negative")
    return radius, None, _parse_unit(unit)


def _parse_box(width_text: bytes, height_text: bytes, unit: bytes) -> tuple[float, float, float]:
    width = parse_double(width_text, "need numeric width")
    height = parse_double(height_text, "need numeric height")
    if height < 0 or width < 0:
        raise DefiniteError("height or width cannot be negative")
    return width, height, _parse_unit(unit)


def _shown_coordinate(value: float) -> DoubleText:
    text = (b"%.17f" % value).rstrip(b"0").rstrip(b".")
    return DoubleText(b"0" if text == b"-0" else text)


def _shown_place(longitude: float, latitude: float) -> list[DoubleText]:
    return [_shown_coordinate(longitude), _shown_coordinate(latitude)]


# -- members -----------------------------------------------------------------------------------------------------------


@command(
    "GEOADD", arity=-5, flags=WRITE, keys=KEYS_FIRST, group="geo", since="3.2.0",
    complexity="O(log(N)) for each item added, where N is the number of elements in the sorted set.",
    syntax="key condition=[NX | XX]@6.2.0 change=[CH]@6.2.0 longitude:double latitude:double member "
    "[longitude:double latitude:double member ...]",
    key_flags="RW update", history=(("6.2.0", "Added the `CH`, `NX` and `XX` options."),),
)  # fmt: skip
def geoadd(ctx: Context, key: bytes, *words: bytes) -> int | float | None:
    """Add one or more geospatial items in the geospatial index represented using a sorted set."""
    options, at = parse_add_options(words, (b"NX", b"XX", b"CH"))
    if (len(words) - at) % 3 or {b"NX", b"XX"} <= {word.upper() for word in words[:at]} or at == len(words):
        raise SyntaxReplyError
    pairs = [
        (float(geohash.encode(*_parse_place(words[place], words[place + 1]))), words[place + 2])
        for place in range(at, len(words), 3)
    ]
    return add_reply(add_pairs(ctx, key, pairs, options), options)


@command(
    "GEODIST", arity=-4, flags=READ, keys=KEYS_FIRST, group="geo", since="3.2.0", complexity="O(log(N))",
    syntax="key member1:string member2:string unit=[M | KM | FT | MI]",
)  # fmt: skip
def geodist(ctx: Context, key: bytes, one: bytes, other: bytes, *words: bytes) -> bytes | None:
    """Return the distance between two members of a geospatial index."""
    unit = 1.0
    if len(words) == 1:
        unit = _parse_unit(words[0])
    elif words:
        raise SyntaxReplyError
    zset = zset_of(ctx, key)
    if zset is None:
        return None
    score, other_score = zset.score(one), zset.score(other)
    if score is None or other_score is None:
        return None
    return b"%.4f" % (geohash.distance(*geohash.decode(score), *geohash.decode(other_score)) / unit)


_BATCH: Final = 256


def _of_members(
    ctx: Context, key: bytes, members: tuple[bytes, ...], show: Callable[[float | None], Any]
) -> list[Any] | Steps:
    """Return what is to be said of each member's score."""
    zset = zset_of(ctx, key)
    if zset is None:
        return [show(None)] * len(members)
    if len(members) > SLICED_ELEMENTS:
        return _of_many_members(zset, members, show)
    return [show(score) for score in zset.scores(members)]


def _of_many_members(zset: Zset, members: tuple[bytes, ...], show: Callable[[float | None], Any]) -> Steps:
    yield Stream(list, len(members))
    for start in range(0, len(members), _BATCH):
        yield [show(score) for score in zset.scores(members[start : start + _BATCH])]
    return None


@command(
    "GEOHASH", arity=-2, flags=READ, keys=KEYS_FIRST, group="geo", since="3.2.0",
    complexity="O(log(N)) for each member requested, where N is the number of elements in the sorted set.",
    syntax="key member [member ...]",
)  # fmt: skip
def geohash_(ctx: Context, key: bytes, *members: bytes) -> list[bytes | None] | Steps:
    """Return members of a geospatial index as standard geohash strings."""
    return _of_members(ctx, key, members, lambda score: None if score is None else geohash.text(score))


@command(
    "GEOPOS", arity=-2, flags=READ, keys=KEYS_FIRST, group="geo", since="3.2.0",
    complexity="O(N) where N is the number of members requested.", syntax="key member [member ...]",
)  # fmt: skip
def geopos(ctx: Context, key: bytes, *members: bytes) -> list[Any] | Steps:
    """Return longitude and latitude of members of a geospatial index."""
    return _of_members(
        ctx, key, members, lambda score: NULL_ARRAY if score is None else _shown_place(*geohash.decode(score))
    )


# -- searches ----------------------------------------------------------------------------------------------------------


class Found(NamedTuple):
    """A member inside the shape; the distance is in metres."""

    distance: float
    member: bytes
    score: float
    longitude: float
    latitude: float


_Row = tuple[float, int, float, bytes, float, float, float]
"""A member as it is put in order: by distance or not at all, by when it was found, and what it is."""


class Search:
    """One search: what it asks for, parsed in Redis's order, and its outcome."""

    __slots__ = ("any", "count", "descending", "place", "size", "sort", "store", "store_distance", "with_distance",
                 "with_hash", "with_place", "zset")  # fmt: skip

    def __init__(self, zset: Zset | None) -> None:
        self.zset = zset
        self.place: tuple[float, float] | None = None
        self.size: tuple[float, float | None, float] | None = None
        """Width or radius, height of a box, and unit."""
        self.with_distance = self.with_hash = self.with_place = False
        self.any = self.sort = self.descending = False
        self.count = 0
        self.store: bytes | None = None
        self.store_distance = False

    def option(self, word: bytes, options: Options, may_store: bool) -> bool:
        """Take an option that every search knows; return whether it is one."""
        if word == b"WITHDIST":
            self.with_distance = True
        elif word == b"WITHHASH":
            self.with_hash = True
        elif word == b"WITHCOORD":
            self.with_place = True
        elif word == b"ANY":
            self.any = True
        elif word in (b"ASC", b"DESC"):
            self.sort, self.descending = True, word == b"DESC"
        elif word == b"COUNT":
            self.count = parse_integer(options.argument())
            if self.count <= 0:
                raise DefiniteError("COUNT must be > 0")
        elif word in (b"STORE", b"STOREDIST") and may_store:
            self.store, self.store_distance = options.argument(), word == b"STOREDIST"
        else:
            return False
        return True

    def place_of(self, member: bytes) -> tuple[float, float]:
        """Return where a member of the set is. Raises DefiniteError if there is none."""
        score = None if self.zset is None else self.zset.score(member)
        if score is None:
            raise DefiniteError(_UNKNOWN_MEMBER)
        return geohash.decode(score)

    def check(self, store_name: str) -> None:
        """Raise what is wrong with the options together."""
        if self.store is not None and (self.with_distance or self.with_hash or self.with_place):
            raise DefiniteError(f"{store_name} is not compatible with WITHDIST, WITHHASH and WITHCOORD options")

    def check_any(self) -> None:
        """Raise for ANY without COUNT, the last of the checks."""
        if self.any and not self.count:
            raise DefiniteError("the ANY argument requires COUNT argument")

    # -- carrying out ----------------------------------------------------------------------------------------------

    def _candidates(self, zset: Zset, shape: Shape) -> list[tuple[int, int]]:
        """Return the ranks of the members that may be inside, in the order in which Redis looks at them."""
        return [
            (zset.count_below(float(low), False), zset.count_below(float(high), False)) for low, high in shape.ranges()
        ]

    def run(self, ctx: Context, reader_may_slice: bool) -> Any:
        """Carry it out: return the reply, or, of a long one where that may be, the generator of it."""
        if self.zset is None:
            if self.store is not None:
                put_zset(ctx.view, ctx.db, self.store, (), 0)
                return 0
            return []
        assert self.place is not None
        assert self.size is not None
        width, height, unit = self.size
        ordered = self.sort or (self.count > 0 and not self.any)
        functions = LIBM if self.store is None else EXACT
        shape = Shape(*self.place, unit, width, height, functions, self.store_distance or ordered)
        ranks = self._candidates(self.zset, shape)
        if reader_may_slice and sum(stop - start for start, stop in ranks) > SLICED_ELEMENTS:
            return self._sliced(ctx.view, self._pieces(self.zset, shape, ranks), unit)
        found = chain.from_iterable(self._pieces(self.zset, shape, ranks))
        if self.store is not None:
            again = len(set(ranks)) < len(ranks)  # a huge circle may look at a cell twice
            return self._stored(ctx, self.store, found, unit, again)
        return self._reply(self._chosen(list(found)), unit)

    def _sliced(self, view: View, pieces: Iterator[list[Found]], unit: float) -> Steps:
        ordered = self.sort or (self.count > 0 and not self.any)
        descending = ordered and self.descending
        sorter = Sorter(view, _Row)
        numbers = count(0, -1 if descending else 1)
        for piece in pieces:
            yield from sorter.add(
                [(one.distance if ordered else 0.0, next(numbers), *one) for one in piece],
                sum([len(one.member) for one in piece]),
            )
            yield None
        number = min(sorter.count, self.count or sorter.count)
        found = islice((yield from sorter.ordered(descending)), number)
        yield Stream(list, number)
        while some := [Found(*rest) for _, _, *rest in islice(found, _BATCH)]:
            yield self._reply(some, unit)

    def _pieces(self, zset: Zset, shape: Shape, ranks: list[tuple[int, int]]) -> Generator[list[Found], None, None]:
        """Yield what is inside, in pieces; with ANY no more than COUNT in all."""
        left = self.count if self.any else -1
        for start, stop in ranks:
            for members, scores in zset.slices(start, stop):
                piece: list[Found] = []
                for member, score in zip(members, scores, strict=True):
                    longitude, latitude = geohash.decode(score)
                    distance = shape.distance_within(longitude, latitude)
                    if distance is None:
                        continue
                    piece.append(Found(distance, member, score, longitude, latitude))
                    left -= 1
                    if not left:
                        yield piece
                        return
                yield piece

    def _chosen(self, found: list[Found]) -> list[Found]:
        """Return what is asked for, in its order: the nearest ones if only some are wanted, and not just any."""
        if self.sort or (self.count and not self.any):
            found.sort(key=lambda one: one.distance, reverse=self.descending)
        return found[: self.count] if self.count else found

    def _reply(self, found: list[Found], unit: float) -> list[Any]:
        if not (self.with_distance or self.with_hash or self.with_place):
            return [one.member for one in found]
        return [list(self._described(one, unit)) for one in found]

    def _described(self, one: Found, unit: float) -> Iterator[Any]:
        yield one.member
        if self.with_distance:
            yield b"%.4f" % (one.distance / unit)
        if self.with_hash:
            yield int(one.score)
        if self.with_place:
            yield _shown_place(one.longitude, one.latitude)

    def _stored(self, ctx: Context, key: bytes, found: Iterator[Found], unit: float, again: bool) -> int:
        if self.count and not self.any:
            found = self._nearest(ctx, found)
        items = ((one.member, one.distance / unit if self.store_distance else one.score) for one in found)
        return put_zset(ctx.view, ctx.db, key, items, ctx.now_ms // 1000, distinct=not again)

    def _nearest(self, ctx: Context, found: Iterator[Found]) -> Iterator[Found]:
        """Return the COUNT nearest, or farthest, of what is found; of equal distances those that are found first."""
        if self.count > HELD_MAX:
            sorter = Sorter(ctx.view, _Row)
            numbers = count(0, -1 if self.descending else 1)
            while some := list(islice(found, _BATCH)):
                rows = [(one.distance, next(numbers), *one) for one in some]
                finished(sorter.add(rows, sum([len(one.member) for one in some])))
            return (Found(*rest) for _, _, *rest in islice(finished(sorter.ordered(self.descending)), self.count))
        chosen: list[Found] = []
        while some := list(islice(found, max(self.count, _BATCH))):
            chosen += some
            chosen.sort(key=lambda one: one.distance, reverse=self.descending)
            del chosen[self.count :]
        return iter(chosen)


def _radius(ctx: Context, key: bytes, words: tuple[bytes, ...], by_member: bool, may_store: bool) -> Any:
    """GEORADIUS and GEORADIUSBYMEMBER, with the words behind the key."""
    search = Search(zset_of(ctx, key))
    at = 3 if by_member else 4
    if by_member:
        if search.zset is not None:
            search.place = search.place_of(words[0])
            search.size = _parse_radius(words[1], words[2])
    else:
        search.place = _parse_place(words[0], words[1])
        search.size = _parse_radius(words[2], words[3])
    options = Options(words[at:])
    while options.more():
        if not search.option(options.word(), options, may_store):
            raise SyntaxReplyError
    search.check("STORE option in GEORADIUS")
    search.check_any()
    return search.run(ctx, reader_may_slice=not may_store)


def _search(ctx: Context, destination: bytes | None, key: bytes, words: tuple[bytes, ...]) -> Any:
    """GEOSEARCH and GEOSEARCHSTORE, with the words behind the source key."""
    name = "GEOSEARCH" if destination is None else "GEOSEARCHSTORE"
    search = Search(zset_of(ctx, key))
    search.store = destination
    by_member = by_place = by_radius = by_box = False
    options = Options(words)
    while options.more():
        word = options.word()
        if search.option(word, options, may_store=False):
            continue
        if word == b"STOREDIST" and destination is not None:
            search.store_distance = True
        elif word == b"FROMMEMBER" and not by_place:
            member = options.argument()
            by_member = True
            if search.zset is not None:
                search.place = search.place_of(member)
        elif word == b"FROMLONLAT" and not by_member:
            search.place = _parse_place(*options.arguments(2))
            by_place = True
        elif word == b"BYRADIUS" and not by_box:
            search.size = _parse_radius(*options.arguments(2))
            by_radius = True
        elif word == b"BYBOX" and not by_radius:
            search.size = _parse_box(*options.arguments(3))
            by_box = True
        else:
            raise SyntaxReplyError
    search.check(name)
    if not (by_member or by_place):
        raise NamesCommand("exactly one of FROMMEMBER or FROMLONLAT can be specified for {}")
    if not (by_radius or by_box):
        raise NamesCommand("exactly one of BYRADIUS and BYBOX can be specified for {}")
    search.check_any()
    return search.run(ctx, reader_may_slice=destination is None)


_COMPLEXITY: Final = (
    "O(N+log(M)) where N is the number of elements in the cells around the shape and M is the number of those inside."
)
_UNIT: Final = "unit=<M | KM | FT | MI>"
_FROM: Final = "from=<FROMMEMBER member | FROMLONLAT longitude:double latitude:double>"
_BY: Final = (
    f"by=<circle=<<BYRADIUS radius:double> {_UNIT}> | box=<<BYBOX width:double> height:double {_UNIT}>>"
)
_ORDER: Final = "order=[ASC | DESC]"
_WITH: Final = "[WITHCOORD] [WITHDIST] [WITHHASH]"
_UPPERCASE: Final = ("7.0.0", "Added support for uppercase unit names.")


@command(
    "GEOSEARCH", arity=-7, flags=READ, keys=KEYS_FIRST, group="geo", since="6.2.0", complexity=_COMPLEXITY,
    syntax=f"key {_FROM} {_BY} {_ORDER} count=[COUNT count [ANY]] {_WITH}", history=(_UPPERCASE,),
)  # fmt: skip
def geosearch(ctx: Context, key: bytes, *words: bytes) -> Any:
    """Query a geospatial index for members inside an area of a box or a circle."""
    return _search(ctx, None, key, words)


@command(
    "GEOSEARCHSTORE", arity=-8, flags=WRITE, keys=KEYS_TWO, group="geo", since="6.2.0", complexity=_COMPLEXITY,
    syntax=f"destination:key source:key {_FROM} {_BY} {_ORDER} count=[COUNT count [ANY]] [STOREDIST]",
    key_parts=(KeyPart("OW update", index=1), KeyPart("RO access", index=2)), history=(_UPPERCASE,),
    weigh=of_second,
)  # fmt: skip
def geosearchstore(ctx: Context, destination: bytes, key: bytes, *words: bytes) -> Any:
    """Query a geospatial index for members inside an area of a box or a circle, and store them in another key."""
    return _search(ctx, destination, key, words)


def _stores(options_at: int) -> KeySpec:
    """Return how to find the keys of GEORADIUS and its like: the first, and one behind STORE or STOREDIST."""

    def find(argv: list[bytes]) -> list[bytes]:
        keys = argv[1:2]
        for place in range(options_at, len(argv) - 1):
            if argv[place].upper() in (b"STORE", b"STOREDIST"):
                keys = [argv[1], argv[place + 1]]
        return keys

    return KeySpec(1, 1, 1, finder=find)


def _radius_parts(options_at: int) -> tuple[KeyPart, ...]:
    return (
        KeyPart("RO access", index=1), KeyPart("OW update", keyword=b"STORE", start_from=options_at),
        KeyPart("OW update", keyword=b"STOREDIST", start_from=options_at),
    )  # fmt: skip


_COUNT: Final = "count=[COUNT count [ANY@6.2.0]]"
_COUNT_PLAIN: Final = "count=[COUNT count [ANY]]"
_STORE: Final = "[STORE key:key] [STOREDIST key:key]"
_ANY_ADDED: Final = ("6.2.0", "Added the `ANY` option for `COUNT`.")
_AROUND: Final = f"key longitude:double latitude:double radius:double {_UNIT} {_WITH} {_COUNT} {_ORDER}"
_AROUND_MEMBER: Final = f"key member radius:double {_UNIT} {_WITH} {_COUNT_PLAIN} {_ORDER}"
_BY_RADIUS: Final = "`GEOSEARCH` with the `BYRADIUS` argument"
_BY_MEMBER: Final = "`GEOSEARCH` with the `BYRADIUS` and `FROMMEMBER` arguments"


@command(
    "GEORADIUS", arity=-6, flags=WRITE | Flag.MOVABLEKEYS, keys=_stores(6), group="geo", since="3.2.0",
    complexity=_COMPLEXITY, syntax=f"{_AROUND} {_STORE}", key_parts=_radius_parts(6), deprecated_since="6.2.0",
    replaced_by="`GEOSEARCH` and `GEOSEARCHSTORE` with the `BYRADIUS` argument", history=(_ANY_ADDED, _UPPERCASE),
    weigh=of_first,
)  # fmt: skip
def georadius(ctx: Context, key: bytes, *words: bytes) -> Any:
    """Query a geospatial index for members within a given distance from a point."""
    return _radius(ctx, key, words, by_member=False, may_store=True)


@command(
    "GEORADIUSBYMEMBER", arity=-5, flags=WRITE | Flag.MOVABLEKEYS, keys=_stores(5), group="geo", since="3.2.0",
    complexity=_COMPLEXITY, syntax=f"{_AROUND_MEMBER} {_STORE}", key_parts=_radius_parts(5), deprecated_since="6.2.0",
    replaced_by="`GEOSEARCH` and `GEOSEARCHSTORE` with the `BYRADIUS` and `FROMMEMBER` arguments",
    history=(_UPPERCASE,),
    weigh=of_first,
)  # fmt: skip
def georadiusbymember(ctx: Context, key: bytes, *words: bytes) -> Any:
    """Query a geospatial index for members within a given distance from a member."""
    return _radius(ctx, key, words, by_member=True, may_store=True)


@command(
    "GEORADIUS_RO", arity=-6, flags=READ, keys=KEYS_FIRST, group="geo", since="3.2.10", complexity=_COMPLEXITY,
    syntax=_AROUND, deprecated_since="6.2.0", replaced_by=_BY_RADIUS, history=(_ANY_ADDED,),
)  # fmt: skip
def georadius_ro(ctx: Context, key: bytes, *words: bytes) -> Any:
    """Query a geospatial index for members within a given distance from a point, and never store them."""
    return _radius(ctx, key, words, by_member=False, may_store=False)


@command(
    "GEORADIUSBYMEMBER_RO", arity=-5, flags=READ, keys=KEYS_FIRST, group="geo", since="3.2.10",
    complexity=_COMPLEXITY, syntax=_AROUND_MEMBER, deprecated_since="6.2.0", replaced_by=_BY_MEMBER,
)  # fmt: skip
def georadiusbymember_ro(ctx: Context, key: bytes, *words: bytes) -> Any:
    """Query a geospatial index for members within a given distance from a member, and never store them."""
    return _radius(ctx, key, words, by_member=True, may_store=False)
