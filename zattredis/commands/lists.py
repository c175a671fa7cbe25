"""The list group: ends, ranges and elements. What blocks is in `blocking`."""

from __future__ import annotations

from itertools import islice
from typing import Any, Final

from zattredis.commands.arguments import INTEGER_MIN, Options, parse_integer
from zattredis.commands.context import Context, Steps, Stream, drain
from zattredis.commands.table import KEYS_FIRST, KEYS_TWO, Flag, KeyPart, KeySpec, command
from zattredis.commands.weights import of_count, of_first, of_keys_count
from zattredis.errors import DefiniteError, ReplyError, SyntaxReplyError
from zattredis.keyspace import lists
from zattredis.keyspace.list_content import QuickList
from zattredis.keyspace.lists import list_length
from zattredis.keyspace.packed import frame_of
from zattredis.keyspace.sizes import SLICED_ELEMENTS
from zattredis.resp.replies import NULL_ARRAY, Bulks

READ: Final = Flag.READONLY
READ_FAST: Final = Flag.READONLY | Flag.FAST
WRITE: Final = Flag.WRITE | Flag.DENYOOM
WRITE_FAST: Final = Flag.WRITE | Flag.DENYOOM | Flag.FAST

_ENDS: Final = {b"LEFT": True, b"RIGHT": False}
_MANY_BYTES_MAX: Final = 1 << 20
_RANGE_BYTES_MAX: Final = 1 << 20
"""A range that turns out larger is read again in slices."""
_PIECE_ELEMENTS: Final = 512
_PIECE_BYTES: Final = 1 << 18
_ROWS_A_STEP: Final = 16
"""Rows of a list that are searched between two turns of others."""


def _end(word: bytes) -> bool:
    """Return whether LEFT was asked for."""
    left = _ENDS.get(word.upper())
    if left is None:
        raise SyntaxReplyError
    return left


# -- pushing -----------------------------------------------------------------------------------------------------------


def _push_many(ctx: Context, argvs: list[list[bytes]], left: bool) -> list[Any] | None:
    """Carry out several pushes, as pipelines and ticks with many clients bring them."""
    if sum([sum(map(len, argv)) for argv in argvs]) > _MANY_BYTES_MAX:
        return None
    view = ctx.view
    view.begin()
    lengths = lists.push_many(view, ctx.db, argvs, left, ctx.now_ms)
    view.commit()
    return lengths


def _lpush_many(ctx: Context, argvs: list[list[bytes]]) -> list[Any] | None:
    return _push_many(ctx, argvs, left=True)


def _rpush_many(ctx: Context, argvs: list[list[bytes]]) -> list[Any] | None:
    return _push_many(ctx, argvs, left=False)


@command(
    "LPUSH", arity=-3, flags=WRITE_FAST, keys=KEYS_FIRST, group="list", since="1.0.0",
    complexity="O(1) for each element added.", syntax="key element [element ...]", key_flags="RW insert",
    history=(("2.4.0", "Accepts multiple `element` arguments."),), many=_lpush_many,
)  # fmt: skip
def lpush(ctx: Context, key: bytes, *elements: bytes) -> int:
    """Prepend one or multiple elements to a list."""
    return lists.push(ctx.view, ctx.db, key, elements, True, ctx.now_ms)


@command(
    "RPUSH", arity=-3, flags=WRITE_FAST, keys=KEYS_FIRST, group="list", since="1.0.0",
    complexity="O(1) for each element added.", syntax="key element [element ...]", key_flags="RW insert",
    history=(("2.4.0", "Accepts multiple `element` arguments."),), many=_rpush_many,
)  # fmt: skip
def rpush(ctx: Context, key: bytes, *elements: bytes) -> int:
    """Append one or multiple elements to a list."""
    return lists.push(ctx.view, ctx.db, key, elements, False, ctx.now_ms)


@command(
    "LPUSHX", arity=-3, flags=WRITE_FAST, keys=KEYS_FIRST, group="list", since="2.2.0",
    complexity="O(1) for each element added.", syntax="key element [element ...]", key_flags="RW insert",
    history=(("4.0.0", "Accepts multiple `element` arguments."),),
)  # fmt: skip
def lpushx(ctx: Context, key: bytes, *elements: bytes) -> int:
    """Prepend an element to a list, only if the list exists."""
    return _push_existing(ctx, key, elements, left=True)


@command(
    "RPUSHX", arity=-3, flags=WRITE_FAST, keys=KEYS_FIRST, group="list", since="2.2.0",
    complexity="O(1) for each element added.", syntax="key element [element ...]", key_flags="RW insert",
    history=(("4.0.0", "Accepts multiple `element` arguments."),),
)  # fmt: skip
def rpushx(ctx: Context, key: bytes, *elements: bytes) -> int:
    """Append an element to a list, only if the list exists."""
    return _push_existing(ctx, key, elements, left=False)


def _push_existing(ctx: Context, key: bytes, elements: tuple[bytes, ...], left: bool) -> int:
    if ctx.view.record(ctx.db, key, ctx.now_ms) is None:
        return 0
    return lists.push(ctx.view, ctx.db, key, elements, left, ctx.now_ms)


# -- popping -----------------------------------------------------------------------------------------------------------


def _pop(ctx: Context, key: bytes, count_text: tuple[bytes, ...], left: bool, name: str) -> Any:
    if not count_text:
        popped = lists.pop(ctx.view, ctx.db, key, 1, left, ctx.now_ms)
        return popped[0] if popped else None
    if len(count_text) > 1:
        raise DefiniteError(f"wrong number of arguments for '{name}' command")
    count = _at_least_zero(count_text[0])
    if ctx.view.record(ctx.db, key, ctx.now_ms) is None:
        return NULL_ARRAY
    return lists.pop(ctx.view, ctx.db, key, count, left, ctx.now_ms)


def _at_least_zero(text: bytes) -> int:
    error = "value is out of range, must be positive"
    value = parse_integer(text, error)
    if value < 0:
        raise DefiniteError(error)
    return value


def _pop_many(ctx: Context, argvs: list[list[bytes]], left: bool) -> list[Any] | None:
    """Carry out several pops of one element each, as `_push_many` does pushes."""
    if max(map(len, argvs)) > 2:
        return None
    view = ctx.view
    view.begin()
    elements = lists.pop_many(view, ctx.db, argvs, left, ctx.now_ms)
    view.commit()
    return elements


def _lpop_many(ctx: Context, argvs: list[list[bytes]]) -> list[Any] | None:
    return _pop_many(ctx, argvs, left=True)


def _rpop_many(ctx: Context, argvs: list[list[bytes]]) -> list[Any] | None:
    return _pop_many(ctx, argvs, left=False)


@command(
    "LPOP", arity=-2, flags=Flag.WRITE | Flag.FAST, keys=KEYS_FIRST, group="list", since="1.0.0",
    complexity="O(N) where N is the number of elements returned.", syntax="key [count@6.2.0]",
    key_flags="RW access delete", history=(("6.2.0", "Added the `count` argument."),), many=_lpop_many,
    weigh=of_count, light_words=2, idle_if_absent=True,
)  # fmt: skip
def lpop(ctx: Context, key: bytes, *count: bytes) -> Any:
    """Remove and get the first elements in a list."""
    return _pop(ctx, key, count, True, "lpop")


@command(
    "RPOP", arity=-2, flags=Flag.WRITE | Flag.FAST, keys=KEYS_FIRST, group="list", since="1.0.0",
    complexity="O(N) where N is the number of elements returned.", syntax="key [count@6.2.0]",
    key_flags="RW access delete", history=(("6.2.0", "Added the `count` argument."),), many=_rpop_many,
    weigh=of_count, light_words=2, idle_if_absent=True,
)  # fmt: skip
def rpop(ctx: Context, key: bytes, *count: bytes) -> Any:
    """Remove and get the last elements in a list."""
    return _pop(ctx, key, count, False, "rpop")


@command(
    "LMOVE", arity=5, flags=WRITE, keys=KEYS_TWO, group="list", since="6.2.0", complexity="O(1)",
    syntax="source destination wherefrom=<LEFT | RIGHT> whereto=<LEFT | RIGHT>",
    key_parts=(KeyPart("RW access delete", index=1), KeyPart("RW insert", index=2)),
)  # fmt: skip
def lmove(ctx: Context, source: bytes, destination: bytes, where_from: bytes, where_to: bytes) -> bytes | None:
    """Pop an element from a list, push it to another list and return it."""
    from_left, to_left = _end(where_from), _end(where_to)
    return lists.move(ctx.view, ctx.db, source, destination, from_left, to_left, ctx.now_ms)


@command(
    "RPOPLPUSH", arity=3, flags=WRITE, keys=KEYS_TWO, group="list", since="1.2.0", complexity="O(1)",
    syntax="source destination", deprecated_since="6.2.0",
    replaced_by="`LMOVE` with the `RIGHT` and `LEFT` arguments",
    key_parts=(KeyPart("RW access delete", index=1), KeyPart("RW insert", index=2)),
)  # fmt: skip
def rpoplpush(ctx: Context, source: bytes, destination: bytes) -> bytes | None:
    """Remove the last element in a list, prepend it to another list and return it."""
    return lists.move(ctx.view, ctx.db, source, destination, False, True, ctx.now_ms)


def _counted_keys(argv: list[bytes]) -> list[bytes]:
    """Return the keys of a command line `NAME numkeys key …`."""
    if not argv[1].isdigit() or len(argv[1]) > 9:
        return []
    return argv[2 : 2 + int(argv[1])]


def read_counted_keys(words: tuple[bytes, ...]) -> tuple[tuple[bytes, ...], bool, int]:
    """Return (keys, left, count) of `numkeys key [key ...] LEFT|RIGHT [COUNT count]`. Raises DefiniteError."""
    numkeys = _positive(words[0], "numkeys should be greater than 0")
    if numkeys + 1 >= len(words):
        raise SyntaxReplyError
    left = _end(words[numkeys + 1])
    count = 0
    options = Options(words[numkeys + 2 :])
    while options.more():
        if count or options.word() != b"COUNT":
            raise SyntaxReplyError
        count = _positive(options.argument(), "count should be greater than 0")
    return words[1 : numkeys + 1], left, count or 1


def _positive(text: bytes, error: str) -> int:
    value = parse_integer(text, error)
    if value <= 0:
        raise DefiniteError(error)
    return value


@command(
    "LMPOP", arity=-4, flags=Flag.WRITE | Flag.MOVABLEKEYS, keys=KeySpec(finder=_counted_keys), group="list",
    since="7.0.0",
    complexity="O(N+M) where N is the number of provided keys and M is the number of elements returned.",
    syntax="numkeys key [key ...] where=<LEFT | RIGHT> [COUNT count]",
    key_parts=(KeyPart("RW access delete", index=1, number_index=0, first_key=1),),
    weigh=of_keys_count, light_words=4,
)  # fmt: skip
def lmpop(ctx: Context, *words: bytes) -> Any:
    """Pop elements from the first list that is not empty."""
    keys, left, count = read_counted_keys(words)
    for key in keys:
        found = lists.pop(ctx.view, ctx.db, key, count, left, ctx.now_ms)
        if found:
            return [key, found]
    return NULL_ARRAY


# -- reading -----------------------------------------------------------------------------------------------------------


@command(
    "LLEN", arity=2, flags=READ_FAST, keys=KEYS_FIRST, group="list", since="1.0.0", complexity="O(1)", syntax="key",
    key_flags="RO",
)  # fmt: skip
def llen(ctx: Context, key: bytes) -> int:
    """Get the length of a list."""
    record = ctx.view.record(ctx.db, key, ctx.now_ms)
    return 0 if record is None else list_length(record)


@command(
    "LINDEX", arity=3, flags=READ, keys=KEYS_FIRST, group="list", since="1.0.0",
    complexity="O(log N) where N is the number of elements.", syntax="key index",
)  # fmt: skip
def lindex(ctx: Context, key: bytes, index_text: bytes) -> bytes | None:
    """Get an element from a list by its index."""
    record = ctx.view.record(ctx.db, key, ctx.now_ms)
    if record is None:
        return None
    content = QuickList(ctx.view, record)
    index = parse_integer(index_text)
    if index < 0:
        index += content.size
    return content.element(index) if 0 <= index < content.size else None


def _bounds(start_text: bytes, stop_text: bytes) -> tuple[int, int]:
    return parse_integer(start_text), parse_integer(stop_text)


def _within(start: int, stop: int, size: int) -> tuple[int, int]:
    """Return the range of Redis's inclusive bounds as start <= n < stop; (0, 0) when it is empty."""
    if start < 0:
        start = max(start + size, 0)
    if stop < 0:
        stop += size
    stop = min(stop + 1, size)
    return (start, stop) if start < stop else (0, 0)


def _lrange_many(ctx: Context, argvs: list[list[bytes]]) -> list[Any] | None:
    """Answer several of the same words once: many clients look at the beginning of the same list."""
    words = argvs[0][1:]
    if any(argv[1:] != words for argv in argvs):
        return None
    misses = ctx.view.misses
    try:
        found = lrange(ctx, *words)
    except ReplyError:
        found = None
    if found.__class__ is not list and found.__class__ is not Bulks:
        ctx.view.misses = misses
        return None
    ctx.view.misses += (ctx.view.misses - misses) * (len(argvs) - 1)
    return [found] * len(argvs)


@command(
    "LRANGE", arity=4, flags=READ, keys=KEYS_FIRST, group="list", since="1.0.0",
    complexity="O(log S + N) where S is the size of the list and N the number of elements in the specified range.",
    syntax="key start stop:integer", many=_lrange_many,
)  # fmt: skip
def lrange(ctx: Context, key: bytes, start_text: bytes, stop_text: bytes) -> Any:
    """Get a range of elements from a list."""
    start, stop = _bounds(start_text, stop_text)
    record = ctx.view.record(ctx.db, key, ctx.now_ms)
    if record is None:
        return []
    content = QuickList(ctx.view, record)
    start, stop = _within(start, stop, content.size)
    if start == stop:
        return []
    if stop - start > SLICED_ELEMENTS:
        return _range_stream(content, start, stop)
    frames: list[bytes] = []
    bytes_left = _RANGE_BYTES_MAX
    for _, row in content.rows(start, stop):
        frames.append(row.frames)
        bytes_left -= len(row.frames)
        if bytes_left < 0:
            return _range_stream(content, start, stop)
    return Bulks(stop - start, b"".join(frames))


def _range_stream(content: QuickList, start: int, stop: int) -> Steps:
    yield Stream(list, stop - start)
    waiting: list[bytes] = []
    size = 0
    for _, row in content.rows(start, stop):
        if waiting and (len(waiting) + row.count > _PIECE_ELEMENTS or size + row.cost > _PIECE_BYTES):
            yield waiting
            waiting, size = [], 0
        waiting += row.elements()
        size += row.cost
    yield waiting


class _Search:
    """What LPOS was asked for."""

    __slots__ = ("count", "maxlen", "rank")

    def __init__(self, words: tuple[bytes, ...]) -> None:
        self.rank = 1
        self.count = -1
        """-1: the first match alone, not as an array; 0: all."""
        self.maxlen = 0
        options = Options(words)
        while options.more():
            word = options.word()
            text = options.argument()
            if word == b"RANK":
                self.rank = parse_integer(text)
                if not self.rank:
                    raise DefiniteError(
                        "RANK can't be zero: use 1 to start from the first match, 2 from the second ... or use negative"
                        " to start from the end of the list"
                    )
            elif word == b"COUNT":
                self.count = _not_negative(text, "COUNT can't be negative")
            elif word == b"MAXLEN":
                self.maxlen = _not_negative(text, "MAXLEN can't be negative")
            else:
                raise SyntaxReplyError


def _not_negative(text: bytes, error: str) -> int:
    value = parse_integer(text, error)
    if value < 0:
        raise DefiniteError(error)
    return value


@command(
    "LPOS", arity=-3, flags=READ, keys=KEYS_FIRST, group="list", since="6.0.6",
    complexity="O(N) where N is the number of elements looked at.",
    syntax="key element [RANK rank:integer] [COUNT num-matches:integer] [MAXLEN len]",
)  # fmt: skip
def lpos(ctx: Context, key: bytes, element: bytes, *words: bytes) -> Any:
    """Return the index of matching elements on a list."""
    search = _Search(words)
    record = ctx.view.record(ctx.db, key, ctx.now_ms)
    if record is None:
        return None if search.count < 0 else []
    content = QuickList(ctx.view, record)
    steps = _find(content, element, search)
    looked_at = min(search.maxlen or content.size, content.size)
    return steps if looked_at > SLICED_ELEMENTS else drain(steps)


def _find(content: QuickList, element: bytes, search: _Search) -> Steps:
    frame = frame_of(element)
    reverse = search.rank < 0
    looked_at = min(search.maxlen or content.size, content.size)
    start = content.size - looked_at if reverse else 0
    skip = abs(search.rank) - 1 if search.rank > INTEGER_MIN else 0  # what Redis does with -2**63
    wanted = search.count or content.size
    found: list[int] = []
    for turn, (first, row) in enumerate(content.rows(start, start + looked_at, reverse), 1):
        places = row.find(frame)
        if places:
            if reverse:
                places.reverse()
            passed = min(skip, len(places))
            skip -= passed
            found += [first + place for place in islice(places, passed, None)]
            if search.count < 0 and found:
                return found[0]
            if len(found) >= wanted > 0:
                return found[:wanted]
        if not turn % _ROWS_A_STEP:
            yield None
    return None if search.count < 0 else found


# -- changing in the midst ---------------------------------------------------------------------------------------------


@command(
    "LSET", arity=4, flags=WRITE, keys=KEYS_FIRST, group="list", since="1.0.0",
    complexity="O(log N) where N is the number of elements.", syntax="key index element",
)  # fmt: skip
def lset(ctx: Context, key: bytes, index_text: bytes, element: bytes) -> str:
    """Set the value of an element in a list by its index."""
    record = ctx.view.record(ctx.db, key, ctx.now_ms)
    if record is None:
        raise DefiniteError("no such key")
    content = QuickList(ctx.view, record)
    index = parse_integer(index_text)
    if index < 0:
        index += content.size
    if not 0 <= index < content.size:
        raise DefiniteError("index out of range")
    content.begin()
    content.set_element(index, element)
    content.save(ctx.db, key, ctx.now_ms // 1000)
    return "OK"


@command(
    "LINSERT", arity=5, flags=WRITE, keys=KEYS_FIRST, group="list", since="2.2.0",
    complexity="O(N) where N is the number of elements before the pivot, looked at a few hundred at once.",
    syntax="key where=<BEFORE | AFTER> pivot element", key_flags="RW insert",
    weigh=of_first,
)  # fmt: skip
def linsert(ctx: Context, key: bytes, where: bytes, pivot: bytes, element: bytes) -> int:
    """Insert an element before or after another element in a list."""
    word = where.upper()
    if word not in (b"BEFORE", b"AFTER"):
        raise SyntaxReplyError
    record = ctx.view.record(ctx.db, key, ctx.now_ms)
    if record is None:
        return 0
    content = QuickList(ctx.view, record)
    frame = frame_of(pivot)
    for first, row in content.rows(0, content.size):
        places = row.find(frame)
        if places:
            content.begin()
            content.insert(first + places[0] + (word == b"AFTER"), element)
            content.save(ctx.db, key, ctx.now_ms // 1000)
            return content.size
    return -1


@command(
    "LREM", arity=4, flags=Flag.WRITE, keys=KEYS_FIRST, group="list", since="1.0.0",
    complexity="O(N+M) where N is the length of the list and M is the number of elements removed.",
    syntax="key count element", key_flags="RW delete",
    weigh=of_first,
)  # fmt: skip
def lrem(ctx: Context, key: bytes, count_text: bytes, element: bytes) -> int:
    """Remove elements from a list."""
    count = parse_integer(count_text)
    record = ctx.view.record(ctx.db, key, ctx.now_ms)
    if record is None:
        return 0
    content = QuickList(ctx.view, record)
    removed = content.remove(element, abs(count) or content.size, count < 0)
    if removed:
        content.begin()
        content.save(ctx.db, key, ctx.now_ms // 1000)
    return removed


@command(
    "LTRIM", arity=4, flags=Flag.WRITE, keys=KEYS_FIRST, group="list", since="1.0.0",
    complexity="O(log N); what is removed of a long list is reclaimed later.", syntax="key start stop:integer",
    key_flags="RW delete",
)  # fmt: skip
def ltrim(ctx: Context, key: bytes, start_text: bytes, stop_text: bytes) -> str:
    """Trim a list to the specified range."""
    start, stop = _bounds(start_text, stop_text)
    record = ctx.view.record(ctx.db, key, ctx.now_ms)
    if record is None:
        return "OK"
    content = QuickList(ctx.view, record)
    start, stop = _within(start, stop, content.size)
    content.begin()
    if start == stop:
        ctx.view.put(ctx.db, key, None)
        return "OK"
    content.drop(content.size - stop, left=False)
    content.drop(start, left=True)
    content.save(ctx.db, key, ctx.now_ms // 1000)
    return "OK"
