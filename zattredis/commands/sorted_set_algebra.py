"""The sorted-set group: unions, intersections and differences of sorted sets, and of sets, whose members score 1.

Scores are added and multiplied as IEEE doubles, in Redis's order (the smallest input first), so they agree with its to
the last bit.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from itertools import islice
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
from zattredis.keyspace.sorting import sort, sort_in_steps
from zattredis.keyspace.view import View
from zattredis.keyspace.zsets import open_zset, put_zset
from zattredis.resp.replies import Pairs

Scores = dict[bytes, float]
Work = Generator[None, None, Scores]
"""Yields where others may have their turn; returns member → score."""

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

    __slots__ = ("aggregate", "limit", "sources", "with_scores")

    def __init__(self, ctx: Context, name: str, numkeys: bytes, words: tuple[bytes, ...], allowed: frozenset[bytes]):
        """Parse, and open the inputs. Raises what Redis would, in its order."""
        number = parse_integer(numkeys)
        if number < 1:
            raise DefiniteError(f"at least 1 input key is needed for '{name}' command")
        if number > len(words):
            raise SyntaxReplyError
        keys = words[:number]
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


def _union(query: Query) -> Work:
    aggregate = query.aggregate
    found: Scores = {}
    for source in sorted(query.sources, key=lambda source: source.size):
        weight = source.weight
        for batch in source.batches():
            for member, score in batch:
                value = weight * score
                if isnan(value):
                    value = 0.0
                old = found.get(member)
                found[member] = value if old is None else aggregate(old, value)
            yield
    return found


def _intersection(query: Query) -> Work:
    aggregate, limit = query.aggregate, query.limit
    first, *others = sorted(query.sources, key=lambda source: source.size)
    found: Scores = {}
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
        for member, _, score in alive:
            found[member] = score
        if limit and len(found) >= limit:
            break
        yield
    return found


def _difference(query: Query) -> Work:
    first, *others = query.sources
    found: Scores = {}
    others.sort(key=lambda source: -source.size)
    for batch in first.batches():
        alive = batch
        for source in others:
            if alive:
                held = source.scores([member for member, _ in alive])
                alive = [pair for pair, value in zip(alive, held, strict=True) if value is None]
        found.update(alive)
        yield
    return found


Operation = Callable[[Query], Work]


def _whole(work: Work) -> Scores:
    try:
        while True:
            next(work)
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]


def _answer(query: Query, operation: Operation) -> list[bytes] | Pairs | Steps:
    if query.work > SLICED_ELEMENTS:
        return _sliced(query, operation)
    pairs = sort([(score, member) for member, score in _whole(operation(query)).items()])
    if query.with_scores:
        return Pairs((member, score) for score, member in pairs)
    return [member for _, member in pairs]


def _sliced(query: Query, operation: Operation) -> Steps:
    found = yield from operation(query)
    pairs: list[tuple[float, bytes]] = []
    items = iter(found.items())
    while some := [(score, member) for member, score in islice(items, _BATCH)]:
        pairs += some
        yield None
    pairs = yield from sort_in_steps(pairs)
    yield Stream(Pairs if query.with_scores else list, len(pairs))
    for start in range(0, len(pairs), _BATCH):
        piece = pairs[start : start + _BATCH]
        yield [(member, score) for score, member in piece] if query.with_scores else [member for _, member in piece]
    return None


def _stored(ctx: Context, destination: bytes, query: Query, operation: Operation) -> int:
    found = _whole(operation(query))
    return put_zset(ctx.view, ctx.db, destination, found.items(), ctx.now_ms // 1000)


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
    found = len(_whole(_intersection(query)))
    return min(found, query.limit) if query.limit else found


def _counted(query: Query) -> Steps:
    found = len((yield from _intersection(query)))
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
