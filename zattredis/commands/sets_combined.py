"""The set group: unions, intersections and differences.

A large result that is not stored is computed twice: once to count it, since the count stands before the members of a
reply, and once to send it. So it is never held whole; up to HELD_MAX members are, and sent from there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from typing import Final

from zattredis.commands.arguments import INTEGER_MAX, Options, parse_integer
from zattredis.commands.context import Context, Steps, Stream
from zattredis.commands.keyspec import KeySpec
from zattredis.commands.sets import record_of
from zattredis.commands.table import KEYS_ALL, Flag, KeyPart, command
from zattredis.commands.weights import of_smallest, of_sources
from zattredis.errors import DefiniteError, SyntaxReplyError
from zattredis.keyspace.sets import is_integer, put_set, set_length
from zattredis.keyspace.sets_combined import difference, difference_is_large, intersection, union
from zattredis.keyspace.sizes import SLICED_ELEMENTS
from zattredis.keyspace.view import View
from zattredis.resp.replies import ReplySet

Operation = Callable[[View, Sequence[bytes | None]], Iterator[list[bytes]]]

HELD_MAX: Final = 64 * 1024
_NO_LIMIT: Final = 0


def _records(ctx: Context, keys: Sequence[bytes]) -> list[bytes | None]:
    """Return the records of all keys. Raises WrongType, also where another key is absent."""
    if len(keys) > 1:
        ctx.view.prefetch([(ctx.db, key) for key in keys])
    return [record_of(ctx, key) for key in keys]


def _intersection(view: View, records: Sequence[bytes | None]) -> Iterator[list[bytes]]:
    present = [record for record in records if record is not None]
    return intersection(view, present) if len(present) == len(records) else iter(())


def _work(operation: Operation, records: Sequence[bytes | None]) -> int:
    """Return how many members have to be looked at."""
    sizes = [0 if record is None else set_length(record) for record in records]
    if operation is union:
        return sum(sizes)
    return min(sizes) if operation is _intersection else sizes[0]


def _combined(ctx: Context, keys: Sequence[bytes], operation: Operation) -> ReplySet | Steps:
    records = _records(ctx, keys)
    if _work(operation, records) > SLICED_ELEMENTS:
        return _sliced(ctx.view, records, operation)
    return _reply(ctx.view, list(chain.from_iterable(operation(ctx.view, records))))


def _sliced(view: View, records: Sequence[bytes | None], operation: Operation) -> Steps:
    held: list[bytes] = []
    count = 0
    for batch in operation(view, records):
        count += len(batch)
        if count <= HELD_MAX:
            held += batch
        elif held:
            held = []
        yield None
    if count <= HELD_MAX:
        return _reply(view, held)
    yield Stream(ReplySet, count)
    for batch in operation(view, records):
        yield batch
    return None


def _reply(view: View, members: list[bytes]) -> ReplySet:
    """Return the reply; integers ascending where Redis would have an intset for them."""
    few = len(members) <= min(view.registers.parameters.set_max_intset_entries, SLICED_ELEMENTS)
    return ReplySet(sorted(members, key=int) if few and all(map(is_integer, members)) else members)


def _stored(ctx: Context, destination: bytes, keys: Sequence[bytes], operation: Operation) -> int:
    records = _records(ctx, keys)
    members = chain.from_iterable(operation(ctx.view, records))
    large = operation is difference and difference_is_large(ctx.view, records)
    return put_set(ctx.view, ctx.db, destination, members, ctx.now_ms // 1000, large=large)


def _destination(flags: str) -> tuple[KeyPart, ...]:
    return (KeyPart(flags, index=1), KeyPart("RO access", index=2, last=-1))


_READ: Final = Flag.READONLY
_WRITE: Final = Flag.WRITE | Flag.DENYOOM
_ANY_ORDER: Final = ("nondeterministic_output_order",)


@command(
    "SINTER", arity=-2, flags=_READ, keys=KEYS_ALL, group="set", since="1.0.0", tips=_ANY_ORDER,
    complexity="O(N*M) worst case where N is the cardinality of the smallest set and M is the number of sets.",
    syntax="key [key ...]",
)  # fmt: skip
def sinter(ctx: Context, *keys: bytes) -> ReplySet | Steps:
    """Intersect multiple sets."""
    return _combined(ctx, keys, _intersection)


@command(
    "SINTERSTORE", arity=-3, flags=_WRITE, keys=KEYS_ALL, group="set", since="1.0.0",
    complexity="O(N*M) worst case where N is the cardinality of the smallest set and M is the number of sets.",
    syntax="destination:key key [key ...]", key_parts=_destination("RW update"),
    weigh=of_smallest,
)  # fmt: skip
def sinterstore(ctx: Context, destination: bytes, *keys: bytes) -> int:
    """Intersect multiple sets and store the resulting set in a key."""
    return _stored(ctx, destination, keys, _intersection)


def _counted_keys(argv: list[bytes]) -> list[bytes]:
    count = int(argv[1]) if argv[1].isdigit() and len(argv[1]) < 20 else 0
    return argv[2 : 2 + count]


@command(
    "SINTERCARD", arity=-3, flags=_READ | Flag.MOVABLEKEYS, keys=KeySpec(finder=_counted_keys), group="set",
    since="7.0.0", syntax="numkeys key [key ...] [LIMIT limit]",
    complexity="O(N*M) worst case where N is the cardinality of the smallest set and M is the number of sets.",
    key_parts=(KeyPart("RO access", index=1, number_index=0, first_key=1),),
)  # fmt: skip
def sintercard(ctx: Context, numkeys: bytes, *words: bytes) -> int | Steps:
    """Intersect multiple sets and return the cardinality of the result."""
    error = "numkeys should be greater than 0"
    count = parse_integer(numkeys, error)
    if count < 1:
        raise DefiniteError(error)
    if count > len(words):
        raise DefiniteError("Number of keys can't be greater than number of args")
    limit = _NO_LIMIT
    options = Options(words[count:])
    while options.more():
        if options.word() != b"LIMIT":
            raise SyntaxReplyError
        error = "LIMIT can't be negative"
        limit = parse_integer(options.argument(), error)
        if limit < 0:
            raise DefiniteError(error)
    records = _records(ctx, words[:count])
    steps = _counted(ctx.view, records, limit or INTEGER_MAX)
    if _work(_intersection, records) > SLICED_ELEMENTS:
        return steps
    try:
        while True:
            next(steps)
    except StopIteration as end:
        return int(end.value)


def _counted(view: View, records: Sequence[bytes | None], limit: int) -> Steps:
    count = 0
    for batch in _intersection(view, records):
        count += len(batch)
        if count >= limit:
            return limit
        yield None
    return count


@command(
    "SUNION", arity=-2, flags=_READ, keys=KEYS_ALL, group="set", since="1.0.0", tips=_ANY_ORDER,
    complexity="O(N) where N is the total number of elements in all given sets.", syntax="key [key ...]",
)  # fmt: skip
def sunion(ctx: Context, *keys: bytes) -> ReplySet | Steps:
    """Add multiple sets."""
    return _combined(ctx, keys, union)


@command(
    "SUNIONSTORE", arity=-3, flags=_WRITE, keys=KEYS_ALL, group="set", since="1.0.0",
    complexity="O(N) where N is the total number of elements in all given sets.",
    syntax="destination:key key [key ...]", key_parts=_destination("OW update"),
    weigh=of_sources,
)  # fmt: skip
def sunionstore(ctx: Context, destination: bytes, *keys: bytes) -> int:
    """Add multiple sets and store the resulting set in a key."""
    return _stored(ctx, destination, keys, union)


@command(
    "SDIFF", arity=-2, flags=_READ, keys=KEYS_ALL, group="set", since="1.0.0", tips=_ANY_ORDER,
    complexity="O(N) where N is the total number of elements in all given sets.", syntax="key [key ...]",
)  # fmt: skip
def sdiff(ctx: Context, *keys: bytes) -> ReplySet | Steps:
    """Subtract multiple sets."""
    return _combined(ctx, keys, difference)


@command(
    "SDIFFSTORE", arity=-3, flags=_WRITE, keys=KEYS_ALL, group="set", since="1.0.0",
    complexity="O(N) where N is the total number of elements in all given sets.",
    syntax="destination:key key [key ...]", key_parts=_destination("OW update"),
    weigh=of_sources,
)  # fmt: skip
def sdiffstore(ctx: Context, destination: bytes, *keys: bytes) -> int:
    """Subtract multiple sets and store the resulting set in a key."""
    return _stored(ctx, destination, keys, difference)
