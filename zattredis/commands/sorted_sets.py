"""The sorted-set group: members one by one, and pops."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable
from typing import Any, Final

from zattredis.commands.arguments import Options, parse_double, parse_integer
from zattredis.commands.context import Context, Steps, Stream
from zattredis.commands.keyspec import KeySpec
from zattredis.commands.table import KEYS_FIRST, Flag, KeyPart, command
from zattredis.commands.weights import of_count, of_keys_count
from zattredis.errors import DefiniteError, ReplyError, SyntaxReplyError
from zattredis.keyspace.metadata import LARGE, SEPARATE, TYPE_MASK, ZSET, expire_of
from zattredis.keyspace.sizes import SLICED_ELEMENTS
from zattredis.keyspace.zsets import (
    INLINE_ENTRIES_MAX,
    SmallZset,
    Zset,
    check_zset,
    open_batch,
    open_zset,
    outgrown,
    pop_many,
    pop_min_max,
    put_zset,
    store_zset,
    zset_length,
)
from zattredis.resp.replies import NULL_ARRAY, Pairs

READ: Final = Flag.READONLY
READ_FAST: Final = Flag.READONLY | Flag.FAST
WRITE: Final = Flag.WRITE | Flag.DENYOOM
WRITE_FAST: Final = Flag.WRITE | Flag.DENYOOM | Flag.FAST
GROUP: Final = "sorted-set"

_NAN: Final = "resulting score is not a number (NaN)"
_NOT_POSITIVE: Final = "value is out of range, must be positive"
_BATCH: Final = 512
BATCH_MIN: Final = 8
"""Of so many members on, those of one command change a set in pages together."""
BATCH_MAX: Final = 8192
"""Most of them at once: what is held of the set stays bounded, and nobody waits for long."""

_NX: Final = 1
_XX: Final = 2
_GT: Final = 4
_LT: Final = 8
_CH: Final = 16
_INCR: Final = 32
_ADD_OPTIONS: Final = {b"NX": _NX, b"XX": _XX, b"GT": _GT, b"LT": _LT, b"CH": _CH, b"INCR": _INCR}


def record_of(ctx: Context, key: bytes) -> bytes | None:
    """Return the record of a live sorted set, None for no key. Raises WrongType."""
    record = ctx.view.record(ctx.db, key, ctx.now_ms)
    if record is not None:
        check_zset(record)
    return record


def zset_of(ctx: Context, key: bytes) -> Zset | None:
    """Return a live sorted set, None for no key. Raises WrongType."""
    record = ctx.view.record(ctx.db, key, ctx.now_ms)
    return None if record is None else open_zset(ctx.view, record)


# -- adding ------------------------------------------------------------------------------------------------------------


def parse_add_options(words: tuple[bytes, ...], allowed: Collection[bytes] = _ADD_OPTIONS) -> tuple[int, int]:
    """Return the options that a command line begins with, and where they end."""
    options = at = 0
    while at < len(words) and (word := words[at].upper()) in allowed:
        options |= _ADD_OPTIONS[word]
        at += 1
    return options, at


def _parse_add(words: tuple[bytes, ...], options: int) -> tuple[int, list[tuple[float, bytes]]]:
    """Return the options, and the pairs behind them. Raises what Redis would."""
    more, at = parse_add_options(words)
    options |= more
    left = len(words) - at
    if left % 2 or not left:
        raise SyntaxReplyError
    if options & _NX and options & _XX:
        raise DefiniteError("XX and NX options at the same time are not compatible")
    if (options & (_NX | _GT | _LT)).bit_count() > 1:
        raise DefiniteError("GT, LT, and/or NX options at the same time are not compatible")
    if options & _INCR and left > 2:
        raise DefiniteError("INCR option supports a single increment-element pair")
    return options, [(parse_double(words[place]), words[place + 1]) for place in range(at, len(words), 2)]


class Adding:
    """ZADD's rules over one opened set, for one command line or several."""

    __slots__ = ("_entries_max", "_value_max", "_view", "added", "changed", "large", "result", "updated", "zset")

    def __init__(self, ctx: Context, zset: Zset, large: bool) -> None:
        parameters = ctx.view.registers.parameters
        self._entries_max = parameters.zset_max_listpack_entries
        self._value_max = parameters.zset_max_listpack_value
        self._view = ctx.view
        self.zset = zset
        self.large = large
        self.changed = False
        self.added = 0
        self.updated = 0
        self.result: float | None = None
        """The last pair's score, None where an option kept it from being carried out."""

    def add(self, score: float, member: bytes, options: int) -> None:
        """Carry out one pair. Raises DefiniteError for a sum that is no number."""
        zset = self.zset
        old = zset.score(member)
        self.result = None
        if old is None:
            if options & _XX:
                return
            if not self.large:
                self.large = zset.size >= self._entries_max or len(member) > self._value_max
            zset.insert(score if self.large else score + 0.0, member)
            if zset.__class__ is SmallZset:
                self.zset = outgrown(self._view, zset)
            self.added += 1
            self.changed = True
            self.result = score
            return
        if options & _NX:
            return
        if options & _INCR:
            score = old + score
            if math.isnan(score):
                raise DefiniteError(_NAN)
        if (options & _LT and score >= old) or (options & _GT and score <= old):
            return
        if score != old:
            zset.move(member, old, score if self.large else score + 0.0)
            self.updated += 1
            self.changed = True
        self.result = score

    def gathered(self, pairs: list[tuple[float, bytes]]) -> Iterable[tuple[bytes, float]]:
        """Return what many pairs, without options, make of a set that was empty: built at once it costs a fifth."""
        found: dict[bytes, float] = {}
        for score, member in pairs:
            old = found.get(member)
            if old is None:
                if not self.large:
                    self.large = len(found) >= self._entries_max or len(member) > self._value_max
            elif score == old:
                continue
            found[member] = score if self.large else score + 0.0
        self.added = len(found)
        return found.items()


def _add(ctx: Context, key: bytes, words: tuple[bytes, ...], options: int) -> Adding:
    options, pairs = _parse_add(words, options)
    return add_pairs(ctx, key, pairs, options)


def add_pairs(ctx: Context, key: bytes, pairs: list[tuple[float, bytes]], options: int) -> Adding:
    """Carry out ZADD with parsed pairs. Raises WrongType, and DefiniteError for a sum that is no number."""
    view = ctx.view
    record = view.record(ctx.db, key, ctx.now_ms)
    zset: Zset = SmallZset([], []) if record is None else open_zset(view, record)
    large = record is not None and bool(record[0] & LARGE)
    if record is None and not options and len(pairs) > INLINE_ENTRIES_MAX:
        adding = Adding(ctx, zset, large)
        put_zset(view, ctx.db, key, adding.gathered(pairs), ctx.now_ms // 1000, large=adding.large)
        return adding
    batch = open_batch(view, record) if record is not None and large and len(pairs) >= BATCH_MIN else None
    if batch is None:
        adding = Adding(ctx, zset, large)
        for score, member in pairs:
            adding.add(score, member, options)
    else:
        adding = Adding(ctx, batch, large)
        for start in range(0, len(pairs), BATCH_MAX):
            part = pairs[start : start + BATCH_MAX]
            batch.begin()
            batch.ask([member for _, member in part])
            for score, member in part:
                adding.add(score, member, options)
            batch.save_undoable()
    if adding.changed:
        expire_ms = 0 if record is None else expire_of(record)
        store_zset(view, ctx.db, key, adding.zset, ctx.now_ms // 1000, expire_ms, adding.large)
    return adding


def add_reply(adding: Adding, options: int) -> int | float | None:
    """Return ZADD's reply under these options."""
    if options & _INCR:
        return adding.result
    return adding.added + adding.updated if options & _CH else adding.added


def _zadd_many(ctx: Context, argvs: list[list[bytes]]) -> list[Any] | None:
    """Carry out several plain ZADDs to one set in pages: its record is read and written once, and so is a page."""
    view, key = ctx.view, argvs[0][1]
    record = view.record(ctx.db, key, ctx.now_ms)
    if record is None or record[0] & (TYPE_MASK | SEPARATE | LARGE) != ZSET | SEPARATE | LARGE:
        return None
    parsed: list[list[tuple[float, bytes]]] = []
    try:
        for argv in argvs:
            if argv[1] != key:
                return None
            if len(argv) == 4:
                parsed.append([(parse_double(argv[2]), argv[3])])
                continue
            options, pairs = _parse_add(tuple(argv[2:]), 0)
            if options:
                return None
            parsed.append(pairs)
    except ReplyError:
        return None
    batch = open_batch(view, record)
    assert batch is not None
    batch.ask([member for pairs in parsed for _, member in pairs])
    replies: list[int] = []
    changes = 0
    for pairs in parsed:
        done = [batch.add(score, member) for score, member in pairs]
        changes += any(done)
        replies.append(done.count(2))
    if changes:
        batch.save()
        view.registers.counter = version = view.registers.counter + changes
        store_zset(view, ctx.db, key, batch, ctx.now_ms // 1000, expire_of(record), large=True, version=version)
    view.commit()
    return replies


@command(
    "ZADD", arity=-4, flags=WRITE_FAST, keys=KEYS_FIRST, group=GROUP, since="1.2.0",
    complexity="O(log(N)) for each item added, where N is the number of elements in the sorted set.",
    syntax="key condition=[NX | XX]@3.0.2 comparison=[GT | LT]@6.2.0 change=[CH]@3.0.2 increment=[INCR]@3.0.2 "
    "score:double member [score:double member ...]",
    key_flags="RW update",
    history=(
        ("2.4.0", "Accepts multiple elements."), ("3.0.2", "Added the `XX`, `NX`, `CH` and `INCR` options."),
        ("6.2.0", "Added the `GT` and `LT` options."),
    ),
    many=_zadd_many,
)  # fmt: skip
def zadd(ctx: Context, key: bytes, *words: bytes) -> int | float | None:
    """Add one or more members to a sorted set, or update the score of members that are there already."""
    options, pairs = _parse_add(words, 0)
    return add_reply(add_pairs(ctx, key, pairs, options), options)


@command(
    "ZINCRBY", arity=4, flags=WRITE_FAST, keys=KEYS_FIRST, group=GROUP, since="1.2.0",
    complexity="O(log(N)) where N is the number of elements in the sorted set.",
    syntax="key increment member", key_flags="RW access update",
)  # fmt: skip
def zincrby(ctx: Context, key: bytes, *words: bytes) -> float | None:
    """Increment the score of a member in a sorted set."""
    return _add(ctx, key, words, _INCR).result


@command(
    "ZREM", arity=-3, flags=Flag.WRITE | Flag.FAST, keys=KEYS_FIRST, group=GROUP, since="1.2.0",
    complexity="O(M*log(N)) with N being the number of elements in the sorted set and M of those to be removed.",
    syntax="key member [member ...]", key_flags="RW delete", history=(("2.4.0", "Accepts multiple elements."),),
    idle_if_absent=True,
)  # fmt: skip
def zrem(ctx: Context, key: bytes, *members: bytes) -> int:
    """Remove one or more members from a sorted set."""
    record = record_of(ctx, key)
    if record is None:
        return 0
    batch = open_batch(ctx.view, record) if len(members) >= BATCH_MIN else None
    zset: Zset = batch or open_zset(ctx.view, record)
    removed = 0
    for start in range(0, len(members), BATCH_MAX):
        part = members[start : start + BATCH_MAX]
        if batch is not None:
            batch.begin()
            batch.ask(part)
        for member in part:
            score = zset.score(member)
            if score is not None:
                removed += 1
                if zset.size == 1:
                    if batch is not None:
                        batch.save_undoable()
                    ctx.view.put(ctx.db, key, None)
                    return removed
                zset.remove(member, score)
        if batch is not None:
            batch.save_undoable()
    if removed:
        store_zset(ctx.view, ctx.db, key, zset, ctx.now_ms // 1000, expire_of(record), bool(record[0] & LARGE))
    return removed


# -- looking at members ------------------------------------------------------------------------------------------------


@command(
    "ZCARD", arity=2, flags=READ_FAST, keys=KEYS_FIRST, group=GROUP, since="1.2.0", complexity="O(1)", syntax="key",
    key_flags="RO",
)  # fmt: skip
def zcard(ctx: Context, key: bytes) -> int:
    """Get the number of members in a sorted set."""
    record = ctx.view.record(ctx.db, key, ctx.now_ms)
    return 0 if record is None else zset_length(record)


@command(
    "ZSCORE", arity=3, flags=READ_FAST, keys=KEYS_FIRST, group=GROUP, since="1.2.0", complexity="O(1)",
    syntax="key member",
)  # fmt: skip
def zscore(ctx: Context, key: bytes, member: bytes) -> float | None:
    """Get the score associated with the given member in a sorted set."""
    zset = zset_of(ctx, key)
    return None if zset is None else zset.score(member)


@command(
    "ZMSCORE", arity=-3, flags=READ_FAST, keys=KEYS_FIRST, group=GROUP, since="6.2.0",
    complexity="O(N) where N is the number of members being requested.", syntax="key member [member ...]",
)  # fmt: skip
def zmscore(ctx: Context, key: bytes, *members: bytes) -> list[float | None] | Steps:
    """Get the score associated with the given members in a sorted set."""
    zset = zset_of(ctx, key)
    if zset is None:
        return [None] * len(members)
    if len(members) > SLICED_ELEMENTS:
        return _many_scores(zset, members)
    return zset.scores(members)


def _many_scores(zset: Zset, members: tuple[bytes, ...]) -> Steps:
    yield Stream(list, len(members))
    for start in range(0, len(members), _BATCH):
        yield zset.scores(members[start : start + _BATCH])
    return None


def _rank(ctx: Context, key: bytes, member: bytes, reverse: bool) -> int | None:
    zset = zset_of(ctx, key)
    score = None if zset is None else zset.score(member)
    if zset is None or score is None:
        return None
    rank = zset.rank(score, member)
    return zset.size - 1 - rank if reverse else rank


@command(
    "ZRANK", arity=3, flags=READ_FAST, keys=KEYS_FIRST, group=GROUP, since="2.0.0", complexity="O(log(N))",
    syntax="key member",
)  # fmt: skip
def zrank(ctx: Context, key: bytes, member: bytes) -> int | None:
    """Determine the index of a member in a sorted set."""
    return _rank(ctx, key, member, reverse=False)


@command(
    "ZREVRANK", arity=3, flags=READ_FAST, keys=KEYS_FIRST, group=GROUP, since="2.0.0", complexity="O(log(N))",
    syntax="key member",
)  # fmt: skip
def zrevrank(ctx: Context, key: bytes, member: bytes) -> int | None:
    """Determine the index of a member in a sorted set, with scores ordered from high to low."""
    return _rank(ctx, key, member, reverse=True)


# -- pops --------------------------------------------------------------------------------------------------------------


def _pop(ctx: Context, key: bytes, words: tuple[bytes, ...], lowest: bool) -> list[Any] | Pairs:
    if len(words) > 1:
        raise SyntaxReplyError
    count = 1
    if words:
        count = parse_integer(words[0], _NOT_POSITIVE)
        if count < 0:
            raise DefiniteError(_NOT_POSITIVE)
    popped = pop_min_max(ctx.view, ctx.db, key, count, lowest, ctx.now_ms)
    if words:
        return Pairs(popped)
    return list(popped[0]) if popped else []


def _pop_many(ctx: Context, argvs: list[list[bytes]], lowest: bool) -> list[Any] | None:
    """Carry out several pops of one member from one large set, as `_zadd_many` does."""
    if max(map(len, argvs)) > 2:
        return None
    popped = pop_many(ctx.view, ctx.db, argvs, lowest, ctx.now_ms)
    return None if popped is None else [list(pair) for pair in popped]


def _zpopmin_many(ctx: Context, argvs: list[list[bytes]]) -> list[Any] | None:
    return _pop_many(ctx, argvs, lowest=True)


def _zpopmax_many(ctx: Context, argvs: list[list[bytes]]) -> list[Any] | None:
    return _pop_many(ctx, argvs, lowest=False)


_POP_COMPLEXITY: Final = "O(log(N)*M) with N being the number of elements in the sorted set, and M those popped."


@command(
    "ZPOPMIN", arity=-2, flags=Flag.WRITE | Flag.FAST, keys=KEYS_FIRST, group=GROUP, since="5.0.0",
    complexity=_POP_COMPLEXITY, syntax="key [count]", key_flags="RW access delete",
    weigh=of_count, light_words=2, idle_if_absent=True, many=_zpopmin_many,
)  # fmt: skip
def zpopmin(ctx: Context, key: bytes, *words: bytes) -> list[Any] | Pairs:
    """Remove and return members with the lowest scores in a sorted set."""
    return _pop(ctx, key, words, lowest=True)


@command(
    "ZPOPMAX", arity=-2, flags=Flag.WRITE | Flag.FAST, keys=KEYS_FIRST, group=GROUP, since="5.0.0",
    complexity=_POP_COMPLEXITY, syntax="key [count]", key_flags="RW access delete",
    weigh=of_count, light_words=2, idle_if_absent=True, many=_zpopmax_many,
)  # fmt: skip
def zpopmax(ctx: Context, key: bytes, *words: bytes) -> list[Any] | Pairs:
    """Remove and return members with the highest scores in a sorted set."""
    return _pop(ctx, key, words, lowest=False)


def parse_mpop(numkeys: bytes, words: tuple[bytes, ...]) -> tuple[tuple[bytes, ...], bool, int]:
    """Return the keys, whether the lowest are wanted, and the count, of ZMPOP's and BZMPOP's words behind numkeys."""
    error = "numkeys should be greater than 0"
    number = parse_integer(numkeys, error)
    if number < 1:
        raise DefiniteError(error)
    if number >= len(words) or words[number].upper() not in (b"MIN", b"MAX"):
        raise SyntaxReplyError
    count = 0
    options = Options(words[number + 1 :])
    while options.more():
        if options.word() != b"COUNT" or count:
            raise SyntaxReplyError
        error = "count should be greater than 0"
        count = parse_integer(options.argument(), error)
        if count < 1:
            raise DefiniteError(error)
    return words[:number], words[number].upper() == b"MIN", count or 1


def counted_keys(numkeys_at: int) -> Callable[[list[bytes]], list[bytes]]:
    """Return a finder of the keys whose number stands at that place of a command line."""

    def find(argv: list[bytes]) -> list[bytes]:
        if len(argv) <= numkeys_at or not argv[numkeys_at].isdigit() or len(argv[numkeys_at]) > 9:
            return []
        first = numkeys_at + 1
        return argv[first : first + int(argv[numkeys_at])]

    return find


COUNTED_KEYS: Final = KeySpec(finder=counted_keys(1))


@command(
    "ZMPOP", arity=-4, flags=Flag.WRITE | Flag.MOVABLEKEYS, keys=COUNTED_KEYS, group=GROUP, since="7.0.0",
    complexity="O(K) + O(M*log(N)) where K is the number of provided keys, N the elements of the set and M the popped.",
    syntax="numkeys key [key ...] where=<MIN | MAX> [COUNT count]",
    key_parts=(KeyPart("RW access delete", index=1, number_index=0, first_key=1),),
    weigh=of_keys_count, light_words=4,
)  # fmt: skip
def zmpop(ctx: Context, numkeys: bytes, *words: bytes) -> Any:
    """Remove and return members with scores in a sorted set."""
    keys, lowest, count = parse_mpop(numkeys, words)
    for key in keys:
        popped = pop_min_max(ctx.view, ctx.db, key, count, lowest, ctx.now_ms)
        if popped:
            return [key, popped]
    return NULL_ARRAY
