"""The set group: one set at a time. Several sets combined are in `sets_combined`."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any, Final

from zattredis.commands.arguments import INTEGER_MAX, parse_integer
from zattredis.commands.context import Context, Steps, Stream
from zattredis.commands.scan import ScanOptions, parse_cursor
from zattredis.commands.table import KEYS_FIRST, KEYS_TWO, Flag, KeyPart, command
from zattredis.commands.weights import of_count
from zattredis.errors import DefiniteError, SyntaxReplyError
from zattredis.keyspace.random import SeededRandom
from zattredis.keyspace.sets import (
    add_members,
    add_to_many,
    check_set,
    has_member,
    has_members,
    pop_members,
    pop_one_of_many,
    random_members,
    remove_members,
    scan_set,
    set_length,
    set_members,
)
from zattredis.keyspace.sets_separate import draw_places
from zattredis.keyspace.sizes import SLICED_ELEMENTS
from zattredis.resp.replies import ReplySet

_BATCH: Final = 512
_DRAWN_MAX: Final = 32 * 1024
"""Above so many distinct random members the set is read through once instead of remembering their places."""
_NOT_POSITIVE: Final = "value is out of range, must be positive"


def record_of(ctx: Context, key: bytes) -> bytes | None:
    """Return the record of a live set, None for no key. Raises WrongType."""
    record = ctx.view.record(ctx.db, key, ctx.now_ms)
    if record is not None:
        check_set(record)
    return record


def _sadd_many(ctx: Context, argvs: list[list[bytes]]) -> list[Any] | None:
    """Carry out several SADDs to one large set: its record is written once, the store asked once."""
    key = argvs[0][1]
    record = ctx.view.record(ctx.db, key, ctx.now_ms)
    if record is None or any(argv[1] != key for argv in argvs):
        return None
    return add_to_many(ctx.view, ctx.db, key, record, [argv[2:] for argv in argvs], ctx.now_ms // 1000)


@command(
    "SADD", arity=-3, flags=Flag.WRITE | Flag.DENYOOM | Flag.FAST, keys=KEYS_FIRST, group="set", since="1.0.0",
    complexity="O(1) for each element added, so O(N) to add N elements.", syntax="key member [member ...]",
    key_flags="RW insert", history=(("2.4.0", "Accepts multiple `member` arguments."),), many=_sadd_many,
)  # fmt: skip
def sadd(ctx: Context, key: bytes, *members: bytes) -> int:
    """Add one or more members to a set."""
    record = ctx.view.record(ctx.db, key, ctx.now_ms)
    return add_members(ctx.view, ctx.db, key, record, members, ctx.now_ms // 1000)


@command(
    "SREM", arity=-3, flags=Flag.WRITE | Flag.FAST, keys=KEYS_FIRST, group="set", since="1.0.0",
    complexity="O(N) where N is the number of members to be removed.", syntax="key member [member ...]",
    key_flags="RW delete", history=(("2.4.0", "Accepts multiple `member` arguments."),),
    idle_if_absent=True,
)  # fmt: skip
def srem(ctx: Context, key: bytes, *members: bytes) -> int:
    """Remove one or more members from a set."""
    record = ctx.view.record(ctx.db, key, ctx.now_ms)
    if record is None:
        return 0
    return remove_members(ctx.view, ctx.db, key, record, members, ctx.now_ms // 1000)


@command(
    "SCARD", arity=2, flags=Flag.READONLY | Flag.FAST, keys=KEYS_FIRST, group="set", since="1.0.0", complexity="O(1)",
    syntax="key", key_flags="RO",
)  # fmt: skip
def scard(ctx: Context, key: bytes) -> int:
    """Get the number of members in a set."""
    record = ctx.view.record(ctx.db, key, ctx.now_ms)
    return 0 if record is None else set_length(record)


@command(
    "SISMEMBER", arity=3, flags=Flag.READONLY | Flag.FAST, keys=KEYS_FIRST, group="set", since="1.0.0",
    complexity="O(1)", syntax="key member", key_flags="RO",
)  # fmt: skip
def sismember(ctx: Context, key: bytes, member: bytes) -> int:
    """Determine if a given value is a member of a set."""
    record = ctx.view.record(ctx.db, key, ctx.now_ms)
    return 0 if record is None else int(has_member(ctx.view, record, member))


@command(
    "SMISMEMBER", arity=-3, flags=Flag.READONLY | Flag.FAST, keys=KEYS_FIRST, group="set", since="6.2.0",
    complexity="O(N) where N is the number of elements being checked for membership", syntax="key member [member ...]",
)  # fmt: skip
def smismember(ctx: Context, key: bytes, *members: bytes) -> list[int] | Steps:
    """Determine whether multiple members belong to a set."""
    record = record_of(ctx, key)
    if record is None:
        return [0] * len(members)
    if len(members) > SLICED_ELEMENTS:
        return _many_asked(ctx, record, members)
    return [int(held) for held in has_members(ctx.view, record, members)]


def _many_asked(ctx: Context, record: bytes, members: tuple[bytes, ...]) -> Steps:
    found: list[int] = []
    for start in range(0, len(members), _BATCH):
        found += [int(held) for held in has_members(ctx.view, record, members[start : start + _BATCH])]
        yield None
    return found


@command(
    "SMEMBERS", arity=2, flags=Flag.READONLY, keys=KEYS_FIRST, group="set", since="1.0.0",
    complexity="O(N) where N is the set cardinality.", syntax="key", tips=("nondeterministic_output_order",),
)  # fmt: skip
def smembers(ctx: Context, key: bytes) -> ReplySet | Steps:
    """Get all the members in a set."""
    record = record_of(ctx, key)
    if record is None:
        return ReplySet(())
    if set_length(record) > SLICED_ELEMENTS:
        return streamed(ReplySet, set_length(record), set_members(ctx.view, record))
    return ReplySet(set_members(ctx.view, record))


def streamed(kind: type[list[Any]] | type[ReplySet], count: int, members: Iterator[bytes]) -> Steps:
    """Stream `count` members as a reply of this kind."""
    yield Stream(kind, count)
    while batch := list(islice(members, _BATCH)):
        yield batch


@command(
    "SMOVE", arity=4, flags=Flag.WRITE | Flag.FAST, keys=KEYS_TWO, group="set", since="1.0.0", complexity="O(1)",
    syntax="source:key destination:key member",
    key_parts=(KeyPart("RW access delete", index=1), KeyPart("RW insert", index=2)),
)  # fmt: skip
def smove(ctx: Context, source: bytes, destination: bytes, member: bytes) -> int:
    """Move a member from one set to another."""
    view, touched_s = ctx.view, ctx.now_ms // 1000
    record = view.record(ctx.db, source, ctx.now_ms)
    if record is None:
        return 0
    check_set(record)
    target = record_of(ctx, destination)
    if source == destination:
        return int(has_member(view, record, member))
    if not remove_members(view, ctx.db, source, record, (member,), touched_s):
        return 0
    add_members(view, ctx.db, destination, target, (member,), touched_s)
    return 1


def _spop_many(ctx: Context, argvs: list[list[bytes]]) -> list[Any] | None:
    """Carry out several SPOPs of one member from one large set, as `_sadd_many` does."""
    key = argvs[0][1]
    record = ctx.view.record(ctx.db, key, ctx.now_ms)
    if record is None or any(argv[1] != key or len(argv) > 2 for argv in argvs):
        return None
    randoms = [SeededRandom(ctx.seed, ctx.ordinal + number) for number in range(len(argvs))]
    return pop_one_of_many(ctx.view, ctx.db, key, record, randoms, ctx.now_ms // 1000)


@command(
    "SPOP", arity=-2, flags=Flag.WRITE | Flag.FAST, keys=KEYS_FIRST, group="set", since="1.0.0",
    complexity="Without the count argument O(1), otherwise O(N) where N is the value of the passed count.",
    syntax="key [count@3.2.0]", key_flags="RW access delete", tips=("nondeterministic_output",),
    history=(("3.2.0", "Added the `count` argument."),), many=_spop_many,
    weigh=of_count, light_words=2, idle_if_absent=True,
)  # fmt: skip
def spop(ctx: Context, key: bytes, *words: bytes) -> bytes | ReplySet | None:
    """Remove and return one or multiple random members from a set."""
    if len(words) > 1:
        raise SyntaxReplyError
    count = 1
    if words:
        count = parse_integer(words[0], _NOT_POSITIVE)
        if count < 0:
            raise DefiniteError(_NOT_POSITIVE)
    record = record_of(ctx, key)
    if record is None or not count:
        return ReplySet(()) if words else None
    taken = pop_members(ctx.view, ctx.db, key, record, count, ctx.random, ctx.now_ms // 1000)
    return ReplySet(taken) if words else taken[0]


@command(
    "SRANDMEMBER", arity=-2, flags=Flag.READONLY, keys=KEYS_FIRST, group="set", since="1.0.0",
    complexity="Without the count argument O(1), otherwise O(N) where N is the absolute value of the passed count.",
    syntax="key [count@2.6.0]", tips=("nondeterministic_output",),
    history=(("2.6.0", "Added the optional `count` argument."),),
)  # fmt: skip
def srandmember(ctx: Context, key: bytes, *words: bytes) -> bytes | list[bytes] | ReplySet | Steps | None:
    """Get one or multiple random members from a set."""
    if len(words) > 1:
        raise SyntaxReplyError
    if not words:
        record = record_of(ctx, key)
        if record is None:
            return None
        return random_members(ctx.view, record, [ctx.random.below(set_length(record))])[0]
    count = parse_integer(words[0])
    if count < -INTEGER_MAX:
        raise DefiniteError(f"value is out of range, value must between {-INTEGER_MAX} and {INTEGER_MAX}")
    record = record_of(ctx, key)
    if record is None or not count:
        return []
    size = set_length(record)
    if count >= size:
        if size > SLICED_ELEMENTS:
            return streamed(list, size, set_members(ctx.view, record))
        return list(set_members(ctx.view, record))
    if abs(count) > SLICED_ELEMENTS:
        return _sample(ctx, record, count)
    below = ctx.random.below
    places = draw_places(size, count, ctx.random) if count > 0 else [below(size) for _ in range(-count)]
    return random_members(ctx.view, record, places)


def _sample(ctx: Context, record: bytes, count: int) -> Steps:
    """Stream random members: distinct ones for a positive count, less than the size."""
    view, random, size = ctx.view, ctx.random, set_length(record)
    yield Stream(list, abs(count))
    if count > _DRAWN_MAX:
        # Reading in order, the next member is one of those chosen with the odds of what is still to be chosen.
        chosen: list[bytes] = []
        for place, member in enumerate(set_members(view, record)):
            if random.below(size - place) < count:
                count -= 1
                chosen.append(member)
            if place % _BATCH == 0:
                yield chosen
                chosen = []
        yield chosen
        return
    places = draw_places(size, count, random) if count > 0 else []
    for start in range(0, abs(count), _BATCH):
        number = min(_BATCH, abs(count) - start)
        batch = places[start : start + number] or [random.below(size) for _ in range(number)]
        yield random_members(view, record, batch)


@command(
    "SSCAN", arity=-3, flags=Flag.READONLY, keys=KEYS_FIRST, group="set", since="2.8.0",
    complexity="O(COUNT) for every call, at most some thousand members; O(N) for a complete iteration.",
    syntax="key cursor [MATCH pattern] [COUNT count]", tips=("nondeterministic_output",),
)  # fmt: skip
def sscan(ctx: Context, key: bytes, cursor: bytes, *words: bytes) -> list[bytes | list[bytes]]:
    """Incrementally iterate set elements."""
    position = parse_cursor(cursor)
    record = record_of(ctx, key)
    if record is None:
        return [b"0", []]
    options = ScanOptions(words)
    match = options.match
    following, found = scan_set(ctx.view, record, position, options.count)
    return [b"%d" % following, found if match is None else [member for member in found if match(member)]]
