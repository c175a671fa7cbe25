"""The sorted-set group: random members, and ZSCAN."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from zattredis.commands.arguments import INTEGER_MAX, parse_integer
from zattredis.commands.context import Context, Steps, Stream
from zattredis.commands.scan import ScanOptions, parse_cursor
from zattredis.commands.sorted_sets import GROUP, READ, record_of, zset_of
from zattredis.commands.table import KEYS_FIRST, command
from zattredis.errors import DefiniteError, SyntaxReplyError
from zattredis.keyspace.metadata import LARGE
from zattredis.keyspace.random import SeededRandom
from zattredis.keyspace.sizes import SLICED_ELEMENTS
from zattredis.keyspace.zsets import Zset, open_zset
from zattredis.resp.replies import Pairs, format_double

_BATCH: Final = 512
_INTEGER_TEXT_MAX: Final = 1 << 62
"""Redis keeps whole scores within this, in its form for small sets, as integers, and ZSCAN shows them so."""

# -- random members ----------------------------------------------------------------------------------------------------


def _drawn(random: SeededRandom, size: int, count: int) -> list[int]:
    """Return `count` distinct ranks below `size`, each set of them as likely as any other, in a random order.

    Floyd's algorithm (Bentley, "Programming Pearls", CACM 1987), then shuffled (Fisher and Yates).
    """
    seen: set[int] = set()
    ranks: list[int] = []
    for top in range(size - count, size):
        rank = random.below(top + 1)
        if rank in seen:
            rank = top
        seen.add(rank)
        ranks.append(rank)
    for place in range(count - 1, 0, -1):
        other = random.below(place + 1)
        ranks[place], ranks[other] = ranks[other], ranks[place]
    return ranks


def _at_ranks(zset: Zset, ranks: list[int]) -> list[tuple[bytes, float]]:
    found = []
    for rank in ranks:
        members, scores = next(zset.slices(rank, rank + 1))
        found.append((members[0], scores[0]))
    return found


def _random_pieces(ctx: Context, zset: Zset, count: int) -> Iterator[list[tuple[bytes, float]]]:
    """Yield lists of random (member, score): distinct ones for a positive count, not above the size."""
    size = zset.size
    if count >= size:
        for members, scores in zset.slices(0, size):
            yield list(zip(members, scores, strict=True))
        return
    ranks = _drawn(ctx.random, size, count) if count > 0 else None
    for start in range(0, abs(count), _BATCH):
        stop = min(start + _BATCH, abs(count))
        drawn = [ctx.random.below(size) for _ in range(start, stop)] if ranks is None else ranks[start:stop]
        yield _at_ranks(zset, drawn)


def _random_stream(ctx: Context, zset: Zset, count: int, with_scores: bool) -> Steps:
    yield Stream(Pairs if with_scores else list, min(count, zset.size) if count > 0 else -count)
    for piece in _random_pieces(ctx, zset, count):
        yield piece if with_scores else [member for member, _ in piece]
    return None


@command(
    "ZRANDMEMBER", arity=-2, flags=READ, keys=KEYS_FIRST, group=GROUP, since="6.2.0",
    complexity="O(N*log(M)) where N is the number of elements returned, M that of the sorted set.",
    syntax="key options=[count [WITHSCORES]]", tips=("nondeterministic_output",),
)  # fmt: skip
def zrandmember(ctx: Context, key: bytes, *words: bytes) -> bytes | list[bytes] | Pairs | Steps | None:
    """Get one or multiple random elements from a sorted set."""
    count = 0
    if words:
        count = parse_integer(words[0])
        if count < -INTEGER_MAX:
            raise DefiniteError(f"value is out of range, value must between {-INTEGER_MAX} and {INTEGER_MAX}")
        if len(words) > 2 or (len(words) == 2 and words[1].upper() != b"WITHSCORES"):
            raise SyntaxReplyError
        if len(words) == 2 and abs(count) > INTEGER_MAX // 2:
            raise DefiniteError("value is out of range")
    zset = zset_of(ctx, key)
    if not words:
        return None if zset is None else _at_ranks(zset, [ctx.random.below(zset.size)])[0][0]
    with_scores = len(words) == 2
    if zset is None or not count:
        return Pairs(()) if with_scores else []
    if min(abs(count), zset.size if count > 0 else INTEGER_MAX) > SLICED_ELEMENTS:
        return _random_stream(ctx, zset, count, with_scores)
    pairs = [pair for piece in _random_pieces(ctx, zset, count) for pair in piece]
    return Pairs(pairs) if with_scores else [member for member, _ in pairs]


# -- ZSCAN -------------------------------------------------------------------------------------------------------------


def _scanned_score(score: float, large: bool) -> bytes:
    """Return a score as ZSCAN shows it: whole ones in full where Redis would hold the set as a listpack."""
    if not large and abs(score) <= _INTEGER_TEXT_MAX and score == int(score):
        return b"%d" % score
    return format_double(score)


@command(
    "ZSCAN", arity=-3, flags=READ, keys=KEYS_FIRST, group=GROUP, since="2.8.0",
    complexity="O(COUNT) for every call, at most some thousand members; O(N) for a complete iteration.",
    syntax="key cursor [MATCH pattern] [COUNT count]", tips=("nondeterministic_output",),
)  # fmt: skip
def zscan(ctx: Context, key: bytes, cursor: bytes, *words: bytes) -> list[Any]:
    """Incrementally iterate sorted sets elements and associated scores."""
    position = parse_cursor(cursor)
    record = record_of(ctx, key)
    if record is None:
        return [b"0", []]
    options = ScanOptions(words)
    match = options.match
    following, pairs = open_zset(ctx.view, record).scan(position, options.count)
    large = bool(record[0] & LARGE)
    found: list[bytes] = []
    for member, score in pairs:
        if match is None or match(member):
            found += (member, _scanned_score(score, large))
    return [b"%d" % following, found]

