"""The sorted-set group: ranges by rank, score or member, to be read, counted, removed or stored.

Every range becomes ranks start <= n < stop of the opened set (`Range.ranks`); what is done with them is alike for all.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any, Final

from zattredis.commands.arguments import parse_integer
from zattredis.commands.context import Context, Steps, Stream
from zattredis.commands.sorted_sets import GROUP, READ, READ_FAST, WRITE, record_of, zset_of
from zattredis.commands.table import KEYS_FIRST, KEYS_TWO, CommandSpec, Flag, KeyPart, Weigh, command
from zattredis.commands.weights import of_first, of_second
from zattredis.errors import DefiniteError, SyntaxReplyError
from zattredis.keyspace.sizes import SLICED_ELEMENTS
from zattredis.keyspace.zsets import Zset, open_zset, put_zset, remove_ranks
from zattredis.resp.replies import Pairs

_NOT_A_RANGE: Final = "min or max is not a float"
_NOT_A_LEX_RANGE: Final = "min or max not valid string range item"
_BOUND: Final = re.compile(
    rb"[ \t\n\v\f\r]*([+-]?(?:(?P<hex>0x(?:[0-9a-f]+\.?[0-9a-f]*|\.[0-9a-f]+)(?:p[+-]?[0-9]+)?)"
    rb"|(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:e[+-]?[0-9]+)?|inf(?:inity)?))",
    re.IGNORECASE,
)
_LEAST: Final = -1
_MEMBER: Final = 0
_GREATEST: Final = 1

LexBound = tuple[int, bytes, bool]
"""(kind, member, whether the member itself is outside)."""


def parse_score_bound(text: bytes) -> tuple[float, bool]:
    """Return a bound of a range of scores and whether it is open. Read as Redis does: by strtod, up to a zero byte.

    Raises DefiniteError.
    """
    text = text.partition(b"\0")[0]
    is_open = text.startswith(b"(")
    if is_open:
        text = text[1:]
    if not text:
        return 0.0, is_open
    match = _BOUND.fullmatch(text)
    if match is None:
        raise DefiniteError(_NOT_A_RANGE)
    if match["hex"] is None:
        return float(match[1]), is_open
    try:
        return float.fromhex(match[1].decode("ascii")), is_open
    except OverflowError:
        return (-math.inf if match[1].startswith(b"-") else math.inf), is_open


def parse_lex_bound(text: bytes) -> LexBound:
    """Return a bound of a range of members. Raises DefiniteError."""
    first, rest = text[:1], text[1:]
    if first in (b"(", b"["):
        return _MEMBER, rest, first == b"("
    if first in (b"+", b"-") and rest[:1] in (b"", b"\0"):
        return _GREATEST if first == b"+" else _LEAST, b"", True
    raise DefiniteError(_NOT_A_LEX_RANGE)


class RankRange:
    """From one index to another, both included, negative ones counted from the end."""

    __slots__ = ("_first", "_last")

    def __init__(self, first: bytes, last: bytes) -> None:
        self._first = parse_integer(first)
        self._last = parse_integer(last)

    def ranks(self, zset: Zset, reverse: bool) -> tuple[int, int]:
        """Return start and stop; start >= stop for none."""
        size = zset.size
        first, last = self._first, self._last
        first = max(first + size if first < 0 else first, 0)
        last = min(last + size if last < 0 else last, size - 1)
        return (size - 1 - last, size - first) if reverse else (first, last + 1)


class ScoreRange:
    """From one score to another."""

    __slots__ = ("_high", "_high_open", "_low", "_low_open")

    def __init__(self, low: bytes, high: bytes) -> None:
        self._low, self._low_open = parse_score_bound(low)
        self._high, self._high_open = parse_score_bound(high)

    def ranks(self, zset: Zset, reverse: bool) -> tuple[int, int]:
        """Return start and stop; start >= stop for none."""
        return zset.count_below(self._low, self._low_open), zset.count_below(self._high, not self._high_open)


class LexRange:
    """From one member to another, of a set all of whose members have one score (else the outcome is unspecified)."""

    __slots__ = ("_high", "_low")

    def __init__(self, low: bytes, high: bytes) -> None:
        self._low = parse_lex_bound(low)
        self._high = parse_lex_bound(high)

    def ranks(self, zset: Zset, reverse: bool) -> tuple[int, int]:
        """Return start and stop; start >= stop for none."""
        kind, member, is_open = self._low
        if kind == _GREATEST:
            return 0, 0
        start = 0 if kind == _LEAST else zset.count_below_member(member, is_open)
        kind, member, is_open = self._high
        if kind == _LEAST:
            return 0, 0
        return start, zset.size if kind == _GREATEST else zset.count_below_member(member, not is_open)


Range = RankRange | ScoreRange | LexRange
_KINDS: Final[dict[bytes, type[ScoreRange] | type[LexRange]]] = {b"BYSCORE": ScoreRange, b"BYLEX": LexRange}


class Query:
    """A range command's words, parsed: which members, in which direction, how many of them, with scores or without."""

    __slots__ = ("count", "offset", "range", "reverse", "with_scores")

    def __init__(
        self,
        low: bytes,
        high: bytes,
        words: tuple[bytes, ...],
        *,
        kind: type[Range] | None = None,
        reverse: bool | None = None,
        store: bool = False,
    ) -> None:
        """Parse; `kind` and `reverse` None leave them to the words. Raises what Redis would."""
        self.with_scores = False
        self.offset, self.count = 0, -1
        at = 0
        while at < len(words):
            word = words[at].upper()
            at += 1
            if word == b"WITHSCORES" and not store:
                self.with_scores = True
            elif word == b"LIMIT" and len(words) - at >= 2:
                self.offset, self.count = parse_integer(words[at]), parse_integer(words[at + 1])
                at += 2
            elif word == b"REV" and reverse is None:
                reverse = True
            elif word in _KINDS and kind is None:
                kind = _KINDS[word]
            else:
                raise SyntaxReplyError
        kind = kind or RankRange
        if kind is RankRange and self.count != -1:
            raise DefiniteError("syntax error, LIMIT is only supported in combination with either BYSCORE or BYLEX")
        if kind is LexRange and self.with_scores:
            raise DefiniteError("syntax error, WITHSCORES not supported in combination with BYLEX")
        self.reverse = bool(reverse)
        swapped = self.reverse and kind is not RankRange
        self.range = kind(high, low) if swapped else kind(low, high)
        if kind is RankRange:
            self.offset = 0

    def ranks(self, zset: Zset) -> tuple[int, int]:
        """Return start and stop of what is asked for, LIMIT included; start >= stop for none."""
        start, stop = self.range.ranks(zset, self.reverse)
        if self.offset < 0:
            return 0, 0
        if self.reverse:
            stop -= self.offset
            return (start if self.count < 0 else max(start, stop - self.count)), stop
        start += self.offset
        return start, (stop if self.count < 0 else min(stop, start + self.count))


def _answer(ctx: Context, key: bytes, query: Query) -> list[bytes] | Pairs | Steps:
    zset = zset_of(ctx, key)
    if zset is None:
        return Pairs(()) if query.with_scores else []
    start, stop = query.ranks(zset)
    if stop - start > SLICED_ELEMENTS:
        return _streamed(zset, start, stop, query)
    if query.with_scores:
        pairs: list[tuple[bytes, float]] = []
        for members, scores in zset.slices(start, stop, query.reverse):
            pairs += zip(members, scores, strict=True)
        return Pairs(pairs)
    found: list[bytes] = []
    for members, _ in zset.slices(start, stop, query.reverse):
        found += members
    return found


def _streamed(zset: Zset, start: int, stop: int, query: Query) -> Steps:
    yield Stream(Pairs if query.with_scores else list, stop - start)
    for members, scores in zset.slices(start, stop, query.reverse):
        yield list(zip(members, scores, strict=True)) if query.with_scores else list(members)
    return None


_RANGE_COMPLEXITY: Final = "O(log(N)+M) with N being the number of elements in the sorted set and M those returned."
_LIMIT: Final = "[LIMIT offset count]"


@command(
    "ZRANGE", arity=-4, flags=READ, keys=KEYS_FIRST, group=GROUP, since="1.2.0", complexity=_RANGE_COMPLEXITY,
    syntax="key start:string stop:string sortby=[BYSCORE | BYLEX]@6.2.0 [REV@6.2.0] [LIMIT offset count]@6.2.0 "
    "[WITHSCORES]",
    history=(("6.2.0", "Added the `REV`, `BYSCORE`, `BYLEX` and `LIMIT` options."),),
)  # fmt: skip
def zrange(ctx: Context, key: bytes, start: bytes, stop: bytes, *words: bytes) -> list[bytes] | Pairs | Steps:
    """Return a range of members in a sorted set."""
    return _answer(ctx, key, Query(start, stop, words))


@command(
    "ZREVRANGE", arity=-4, flags=READ, keys=KEYS_FIRST, group=GROUP, since="1.2.0", complexity=_RANGE_COMPLEXITY,
    syntax="key start stop:integer [WITHSCORES]", deprecated_since="6.2.0",
    replaced_by="`ZRANGE` with the `REV` argument",
)  # fmt: skip
def zrevrange(ctx: Context, key: bytes, start: bytes, stop: bytes, *words: bytes) -> list[bytes] | Pairs | Steps:
    """Return a range of members in a sorted set, by index, with scores ordered from high to low."""
    return _answer(ctx, key, Query(start, stop, words, kind=RankRange, reverse=True))


@command(
    "ZRANGEBYSCORE", arity=-4, flags=READ, keys=KEYS_FIRST, group=GROUP, since="1.0.5", complexity=_RANGE_COMPLEXITY,
    syntax=f"key min:double max:double [WITHSCORES@2.0.0] {_LIMIT}", deprecated_since="6.2.0",
    replaced_by="`ZRANGE` with the `BYSCORE` argument", history=(("2.0.0", "Added the `WITHSCORES` modifier."),),
)  # fmt: skip
def zrangebyscore(ctx: Context, key: bytes, low: bytes, high: bytes, *words: bytes) -> list[bytes] | Pairs | Steps:
    """Return a range of members in a sorted set, by score."""
    return _answer(ctx, key, Query(low, high, words, kind=ScoreRange, reverse=False))


@command(
    "ZREVRANGEBYSCORE", arity=-4, flags=READ, keys=KEYS_FIRST, group=GROUP, since="2.2.0",
    complexity=_RANGE_COMPLEXITY, syntax=f"key max:double min:double [WITHSCORES] {_LIMIT}", deprecated_since="6.2.0",
    replaced_by="`ZRANGE` with the `REV` and `BYSCORE` arguments",
    history=(("2.1.6", "`min` and `max` can be exclusive."),),
)  # fmt: skip
def zrevrangebyscore(ctx: Context, key: bytes, high: bytes, low: bytes, *words: bytes) -> list[bytes] | Pairs | Steps:
    """Return a range of members in a sorted set, by score, with scores ordered from high to low."""
    return _answer(ctx, key, Query(high, low, words, kind=ScoreRange, reverse=True))


@command(
    "ZRANGEBYLEX", arity=-4, flags=READ, keys=KEYS_FIRST, group=GROUP, since="2.8.9", complexity=_RANGE_COMPLEXITY,
    syntax=f"key min:string max:string {_LIMIT}", deprecated_since="6.2.0",
    replaced_by="`ZRANGE` with the `BYLEX` argument",
)  # fmt: skip
def zrangebylex(ctx: Context, key: bytes, low: bytes, high: bytes, *words: bytes) -> list[bytes] | Pairs | Steps:
    """Return a range of members in a sorted set, by lexicographical range."""
    return _answer(ctx, key, Query(low, high, words, kind=LexRange, reverse=False))


@command(
    "ZREVRANGEBYLEX", arity=-4, flags=READ, keys=KEYS_FIRST, group=GROUP, since="2.8.9", complexity=_RANGE_COMPLEXITY,
    syntax=f"key max:string min:string {_LIMIT}", deprecated_since="6.2.0",
    replaced_by="`ZRANGE` with the `REV` and `BYLEX` arguments",
)  # fmt: skip
def zrevrangebylex(ctx: Context, key: bytes, high: bytes, low: bytes, *words: bytes) -> list[bytes] | Pairs | Steps:
    """Return a range of members in a sorted set, by lexicographical range, ordered from higher to lower strings."""
    return _answer(ctx, key, Query(high, low, words, kind=LexRange, reverse=True))


@command(
    "ZRANGESTORE", arity=-5, flags=WRITE, keys=KEYS_TWO, group=GROUP, since="6.2.0",
    complexity="O(log(N)+M) with N being the number of elements in the sorted set and M of those stored.",
    syntax="dst:key src:key min:string max:string sortby=[BYSCORE | BYLEX] [REV] [LIMIT offset count]",
    key_parts=(KeyPart("OW update", index=1), KeyPart("RO access", index=2)),
    weigh=of_second,
)  # fmt: skip
def zrangestore(ctx: Context, destination: bytes, key: bytes, low: bytes, high: bytes, *words: bytes) -> int:
    """Store a range of members from a sorted set into another key."""
    query = Query(low, high, words, store=True)
    zset = zset_of(ctx, key)
    slices = () if zset is None else zset.slices(*query.ranks(zset))
    items = (pair for members, scores in slices for pair in zip(members, scores, strict=True))
    return put_zset(ctx.view, ctx.db, destination, items, ctx.now_ms // 1000, in_order=True)


# -- counting and removing ---------------------------------------------------------------------------------------------


def _count(ctx: Context, key: bytes, wanted: Range) -> int:
    zset = zset_of(ctx, key)
    if zset is None:
        return 0
    start, stop = wanted.ranks(zset, False)
    return max(stop - start, 0)


@command(
    "ZCOUNT", arity=4, flags=READ_FAST, keys=KEYS_FIRST, group=GROUP, since="2.0.0",
    complexity="O(log(N)) with N being the number of elements in the sorted set.", syntax="key min:double max:double",
)  # fmt: skip
def zcount(ctx: Context, key: bytes, low: bytes, high: bytes) -> int:
    """Count the members in a sorted set with scores within the given values."""
    return _count(ctx, key, ScoreRange(low, high))


@command(
    "ZLEXCOUNT", arity=4, flags=READ_FAST, keys=KEYS_FIRST, group=GROUP, since="2.8.9",
    complexity="O(log(N)) with N being the number of elements in the sorted set.", syntax="key min:string max:string",
)  # fmt: skip
def zlexcount(ctx: Context, key: bytes, low: bytes, high: bytes) -> int:
    """Count the number of members in a sorted set between a given lexicographical range."""
    return _count(ctx, key, LexRange(low, high))


def _removed(ctx: Context, key: bytes, wanted: Range) -> int:
    record = record_of(ctx, key)
    if record is None:
        return 0
    zset = open_zset(ctx.view, record)
    start, stop = wanted.ranks(zset, False)
    if start >= stop:
        return 0
    remove_ranks(ctx.view, ctx.db, key, record, zset, start, stop, ctx.now_ms // 1000)
    return stop - start


def _weight(wanted: Callable[[bytes, bytes], Range]) -> Weigh:
    """Return what weighs the removal of a range: so many members as are in it."""

    def weigh(ctx: Context, spec: CommandSpec, argv: list[bytes]) -> int:
        size = of_first(ctx, spec, argv)
        if size < SLICED_ELEMENTS:
            return size
        zset = zset_of(ctx, argv[1])
        if zset is None:
            return 0
        start, stop = wanted(argv[2], argv[3]).ranks(zset, False)
        return stop - start

    return weigh


_REMOVAL: Final[dict[str, Any]] = {
    "arity": 4, "flags": Flag.WRITE, "keys": KEYS_FIRST, "group": GROUP, "key_flags": "RW delete",
    "complexity": "O(log(N)+M) with N being the number of elements in the sorted set and M of those removed.",
}  # fmt: skip


@command("ZREMRANGEBYRANK", weigh=_weight(RankRange), since="2.0.0", syntax="key start stop:integer", **_REMOVAL)
def zremrangebyrank(ctx: Context, key: bytes, start: bytes, stop: bytes) -> int:
    """Remove all members in a sorted set within the given indexes."""
    return _removed(ctx, key, RankRange(start, stop))


@command("ZREMRANGEBYSCORE", weigh=_weight(ScoreRange), since="1.2.0", syntax="key min:double max:double", **_REMOVAL)
def zremrangebyscore(ctx: Context, key: bytes, low: bytes, high: bytes) -> int:
    """Remove all members in a sorted set within the given scores."""
    return _removed(ctx, key, ScoreRange(low, high))


@command("ZREMRANGEBYLEX", weigh=_weight(LexRange), since="2.8.9", syntax="key min:string max:string", **_REMOVAL)
def zremrangebylex(ctx: Context, key: bytes, low: bytes, high: bytes) -> int:
    """Remove all members in a sorted set between the given lexicographical range."""
    return _removed(ctx, key, LexRange(low, high))
