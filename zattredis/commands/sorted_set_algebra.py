"""The sorted-set group: unions, intersections and differences of sorted sets, and of sets, whose members score 1.

What is stored is not held: intersections and differences follow from their first input piece by piece, a large union
comes together in the store.

Scores are added and multiplied as IEEE doubles, in Redis's order (the smallest input first), so they agree with its to
the last bit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import chain, islice
from math import isnan
from typing import Any, Final

from zattredis.commands.arguments import Options, parse_double, parse_integer
from zattredis.commands.context import Context, Steps, Stream
from zattredis.commands.keyspec import KeySpec
from zattredis.commands.sorted_sets import COUNTED_KEYS, GROUP, READ, WRITE, counted_keys
from zattredis.commands.table import Flag, KeyPart, command
from zattredis.commands.weights import of_smallest, of_sources
from zattredis.errors import DefiniteError, SyntaxReplyError, WrongType
from zattredis.keyspace.metadata import SET, TYPE_MASK, ZSET
from zattredis.keyspace.sets import has_members, set_length, set_members
from zattredis.keyspace.sizes import SLICED_ELEMENTS
from zattredis.keyspace.sorting import Sorter, sort
from zattredis.keyspace.spilling import HELD_BYTES_MAX, HELD_MAX, Scratch, scratch_of
from zattredis.keyspace.view import View
from zattredis.keyspace.zsets import open_zset, put_zset
from zattredis.resp.replies import Pairs

Work = Iterator[Sequence[tuple[bytes, float]]]
"""Yields what is found, (member, score) in no order, in pieces; empty ones, too, where others may have their turn."""

_BATCH: Final = 512


def _sum(score: float, value: float) -> float:
    total = score + value
    return 0.0 if isnan(total) else total


_AGGREGATES: Final[dict[bytes, Callable[[float, float], float]]] = {
    b"SUM": _sum,
    b"MIN": lambda score, value: value if value < score else score,
    b"MAX": lambda score, value: value if value > score else score,
}


class Source:
    """One input: a sorted set, a set, or nothing."""

    __slots__ = ("_view", "_zset", "key", "record", "size", "weight")

    def __init__(self, view: View, key: bytes, record: bytes | None) -> None:
        """Open it. Raises WrongType."""
        self._view = view
        self._zset = None
        self.key = key
        self.record = record
        self.size = 0
        self.weight = 1.0
        if record is None:
            return
        kind = record[0] & TYPE_MASK
        if kind == ZSET:
            self._zset = open_zset(view, record)
            self.size = self._zset.size
        elif kind == SET:
            self.size = set_length(record)
        else:
            raise WrongType

    def batches(self) -> Iterator[list[tuple[bytes, float]]]:
        """Yield all (member, score), some at a time."""
        if self._zset is not None:
            for members, scores in self._zset.slices(0, self.size):
                yield list(zip(members, scores, strict=True))
        elif self.record is not None:
            batch: list[tuple[bytes, float]] = []
            for member in set_members(self._view, self.record):
                batch.append((member, 1.0))
                if len(batch) == _BATCH:
                    yield batch
                    batch = []
            yield batch

    def scores(self, members: Sequence[bytes]) -> Sequence[float | None]:
        """Return the score of each member, None for those that are not there."""
        if self._zset is not None:
            return self._zset.scores(members)
        if self.record is None:
            return [None] * len(members)
        return [1.0 if held else None for held in has_members(self._view, self.record, members)]


class Query:
    """A command's words, parsed: inputs, weights, aggregate, WITHSCORES, LIMIT (0: none)."""

    __slots__ = ("aggregate", "limit", "sources", "view", "with_scores")

    def __init__(self, ctx: Context, name: str, numkeys: bytes, words: tuple[bytes, ...], allowed: frozenset[bytes]):
        """Parse, and open the inputs. Raises what Redis would, in its order."""
        number = parse_integer(numkeys)
        if number < 1:
            raise DefiniteError(f"at least 1 input key is needed for '{name}' command")
        if number > len(words):
            raise SyntaxReplyError
        keys = words[:number]
        self.view = ctx.view
        ctx.view.prefetch([(ctx.db, key) for key in keys])
        self.sources = [Source(ctx.view, key, ctx.view.record(ctx.db, key, ctx.now_ms)) for key in keys]
        self.aggregate: Callable[[float, float], float] = _sum
        self.with_scores = False
        self.limit = 0
        self._parse(words[number:], allowed)

    def _parse(self, words: tuple[bytes, ...], allowed: frozenset[bytes]) -> None:
        options = Options(words)
        left = len(words)
        while options.more():
            word = options.word()
            left -= 1
            if word not in allowed:
                raise SyntaxReplyError
            if word == b"WITHSCORES":
                self.with_scores = True
            elif word == b"WEIGHTS":
                if left < len(self.sources):
                    raise SyntaxReplyError
                for source in self.sources:
                    source.weight = parse_double(options.argument(), "weight value is not a float")
                left -= len(self.sources)
            elif word == b"AGGREGATE":
                aggregate = _AGGREGATES.get(options.argument().upper())
                if aggregate is None:
                    raise SyntaxReplyError
                self.aggregate = aggregate
                left -= 1
            else:
                self.limit = parse_integer(options.argument(), "LIMIT can't be negative")
                if self.limit < 0:
                    raise DefiniteError("LIMIT can't be negative")
                left -= 1

    @property
    def work(self) -> int:
        """How many members there are to be looked at, at most."""
        return sum(source.size for source in self.sources)


class _Sum:
    """Member → score, of members that come from several inputs; held while there are few, then put in order outside."""

    __slots__ = ("_aggregate", "_found", "_found_bytes", "_scratch", "_view")

    def __init__(self, view: View, aggregate: Callable[[float, float], float]) -> None:
        self._view = view
        self._aggregate = aggregate
        self._found: dict[bytes, float] = {}
        self._found_bytes = 0
        self._scratch: Scratch | None = None

    def add(self, batch: Sequence[tuple[bytes, float]], weight: float, number: int) -> Iterator[None]:
        """Take in members of input `number`, counted from 1, which come after those of all lower numbers; yields now
        and then."""
        aggregate, found = self._aggregate, self._found
        size = sum([len(member) for member, _ in batch])
        values = [(member, 0.0 if isnan(value := weight * score) else value) for member, score in batch]
        if self._scratch is not None:
            self._scratch.put([(member, number, value) for member, value in values], size)
            yield
            return
        for member, value in values:
            old = found.get(member)
            found[member] = value if old is None else aggregate(old, value)
        self._found_bytes += size
        if len(found) > HELD_MAX or self._found_bytes > HELD_BYTES_MAX:
            self._scratch = scratch_of(self._view, tuple[bytes, int, float])
            if self._scratch is not None:
                items = iter(found.items())
                while some := [(member, 0, value) for member, value in islice(items, _BATCH)]:
                    self._scratch.put(some, sum([len(member) for member, _, _ in some]))
                    yield
                self._found = {}

    def items(self) -> Iterator[tuple[bytes, float]]:
        """Return all (member, score); at the end."""
        return iter(self._found.items()) if self._scratch is None else self._summed(self._scratch)

    def _summed(self, scratch: Scratch) -> Iterator[tuple[bytes, float]]:
        aggregate = self._aggregate
        rows = scratch.drain()
        last, _, total = next(rows)
        for member, _, value in rows:
            if member == last:
                total = aggregate(total, value)
            else:
                yield last, total
                last, total = member, value
        yield last, total


def _union(query: Query) -> Work:
    total = _Sum(query.view, query.aggregate)
    for number, source in enumerate(sorted(query.sources, key=lambda source: source.size), 1):
        for batch in source.batches():
            for _ in total.add(batch, source.weight, number):
                yield ()
            yield ()
    items = total.items()
    while piece := list(islice(items, _BATCH)):
        yield piece


def _intersection(query: Query) -> Work:
    aggregate, limit = query.aggregate, query.limit
    first, *others = sorted(query.sources, key=lambda source: source.size)
    left = limit or -1
    for batch in first.batches():
        alive = [(member, score, 0.0 if isnan(first.weight * score) else first.weight * score)
                 for member, score in batch]  # fmt: skip
        for source in others:
            same = source.key == first.key
            values = [own for _, own, _ in alive] if same else source.scores([member for member, _, _ in alive])
            alive = [
                (member, own, aggregate(score, value * source.weight))
                for (member, own, score), value in zip(alive, values, strict=True)
                if value is not None
            ]
        yield [(member, score) for member, _, score in alive]
        left -= len(alive) if limit else 0
        if limit and left <= 0:
            return


def _difference(query: Query) -> Work:
    first, *others = query.sources
    others.sort(key=lambda source: -source.size)
    for batch in first.batches():
        alive = batch
        for source in others:
            if alive:
                held = source.scores([member for member, _ in alive])
                alive = [pair for pair, value in zip(alive, held, strict=True) if value is None]
        yield alive


Operation = Callable[[Query], Work]


def _answer(query: Query, operation: Operation) -> list[bytes] | Pairs | Steps:
    if query.work > SLICED_ELEMENTS:
        return _sliced(query, operation)
    pairs = sort([(score, member) for piece in operation(query) for member, score in piece])
    if query.with_scores:
        return Pairs((member, score) for score, member in pairs)
    return [member for _, member in pairs]


def _sliced(query: Query, operation: Operation) -> Steps:
    sorter = Sorter(query.view, tuple[float, bytes])
    for found in operation(query):
        yield from sorter.add([(score, member) for member, score in found], sum([len(member) for member, _ in found]))
        yield None
    ordered = yield from sorter.ordered()
    yield Stream(Pairs if query.with_scores else list, sorter.count)
    while piece := list(islice(ordered, _BATCH)):
        yield [(member, score) for score, member in piece] if query.with_scores else [member for _, member in piece]
    return None


def _stored(ctx: Context, destination: bytes, query: Query, operation: Operation) -> int:
    return put_zset(ctx.view, ctx.db, destination, chain.from_iterable(operation(query)), ctx.now_ms // 1000)


_WEIGHED: Final = frozenset((b"WEIGHTS", b"AGGREGATE"))
_WITH_SCORES: Final = frozenset((b"WITHSCORES",))
_NOTHING: Final[frozenset[bytes]] = frozenset()
_LIMIT: Final = frozenset((b"LIMIT",))
_OPTIONS: Final = "[WEIGHTS weight:integer [weight:integer ...]] [AGGREGATE aggregate=<SUM | MIN | MAX>]"
_READ: Final[dict[str, Any]] = {
    "arity": -3, "flags": READ | Flag.MOVABLEKEYS, "keys": COUNTED_KEYS, "group": GROUP,
    "key_parts": (KeyPart("RO access", index=1, number_index=0, first_key=1),),
}  # fmt: skip
_find_sources: Final = counted_keys(2)
_STORE: Final[dict[str, Any]] = {
    "arity": -4, "flags": WRITE | Flag.MOVABLEKEYS, "group": GROUP,
    "keys": KeySpec(1, 1, 1, finder=lambda argv: [*argv[1:2], *_find_sources(argv)]),
    "key_parts": (KeyPart("OW update", index=1), KeyPart("RO access", index=2, number_index=0, first_key=1)),
}  # fmt: skip
_UNION_COMPLEXITY: Final = "O(N)+O(M*log(M)) with N being the sum of the sizes of the inputs and M that of the result."
_INTER_COMPLEXITY: Final = "O(N*K)+O(M*log(M)) with N being the smallest of K inputs and M the size of the result."
_DIFF_COMPLEXITY: Final = "O(N*K)+O(M*log(M)) with N being the size of the first of K inputs and M that of the result."


@command(
    "ZUNION", since="6.2.0", complexity=_UNION_COMPLEXITY,
    syntax=f"numkeys key [key ...] {_OPTIONS} [WITHSCORES]", **_READ,
)  # fmt: skip
def zunion(ctx: Context, numkeys: bytes, *words: bytes) -> list[bytes] | Pairs | Steps:
    """Add multiple sorted sets."""
    return _answer(Query(ctx, "zunion", numkeys, words, _WEIGHED | _WITH_SCORES), _union)


@command(
    "ZINTER", since="6.2.0", complexity=_INTER_COMPLEXITY,
    syntax=f"numkeys key [key ...] {_OPTIONS} [WITHSCORES]", **_READ,
)  # fmt: skip
def zinter(ctx: Context, numkeys: bytes, *words: bytes) -> list[bytes] | Pairs | Steps:
    """Intersect multiple sorted sets."""
    return _answer(Query(ctx, "zinter", numkeys, words, _WEIGHED | _WITH_SCORES), _intersection)


@command(
    "ZDIFF", since="6.2.0", complexity=_DIFF_COMPLEXITY, syntax="numkeys key [key ...] [WITHSCORES]", **_READ
)  # fmt: skip
def zdiff(ctx: Context, numkeys: bytes, *words: bytes) -> list[bytes] | Pairs | Steps:
    """Subtract multiple sorted sets."""
    return _answer(Query(ctx, "zdiff", numkeys, words, _WITH_SCORES), _difference)


@command(
    "ZINTERCARD", since="7.0.0", syntax="numkeys key [key ...] [LIMIT limit]",
    complexity="O(N*K) worst case with N being the smallest of K input sorted sets.", **_READ,
)  # fmt: skip
def zintercard(ctx: Context, numkeys: bytes, *words: bytes) -> int | Steps:
    """Intersect multiple sorted sets and return the cardinality of the result."""
    query = Query(ctx, "zintercard", numkeys, words, _LIMIT)
    if query.work > SLICED_ELEMENTS:
        return _counted(query)
    found = sum(map(len, _intersection(query)))
    return min(found, query.limit) if query.limit else found


def _counted(query: Query) -> Steps:
    found = 0
    for piece in _intersection(query):
        found += len(piece)
        yield None
    return min(found, query.limit) if query.limit else found


@command("ZUNIONSTORE", since="2.0.0", complexity=_UNION_COMPLEXITY,
         syntax=f"destination:key numkeys key [key ...] {_OPTIONS}", weigh=of_sources, **_STORE)  # fmt: skip
def zunionstore(ctx: Context, destination: bytes, numkeys: bytes, *words: bytes) -> int:
    """Add multiple sorted sets and store the resulting sorted set in a new key."""
    return _stored(ctx, destination, Query(ctx, "zunionstore", numkeys, words, _WEIGHED), _union)


@command("ZINTERSTORE", since="2.0.0", complexity=_INTER_COMPLEXITY,
         syntax=f"destination:key numkeys key [key ...] {_OPTIONS}", weigh=of_smallest, **_STORE)  # fmt: skip
def zinterstore(ctx: Context, destination: bytes, numkeys: bytes, *words: bytes) -> int:
    """Intersect multiple sorted sets and store the resulting sorted set in a new key."""
    return _stored(ctx, destination, Query(ctx, "zinterstore", numkeys, words, _WEIGHED), _intersection)


@command("ZDIFFSTORE", since="6.2.0", complexity=_DIFF_COMPLEXITY,
         syntax="destination:key numkeys key [key ...]", weigh=of_sources, **_STORE)  # fmt: skip
def zdiffstore(ctx: Context, destination: bytes, numkeys: bytes, *words: bytes) -> int:
    """Subtract multiple sorted sets and store the resulting sorted set in a new key."""
    return _stored(ctx, destination, Query(ctx, "zdiffstore", numkeys, words, _NOTHING), _difference)
