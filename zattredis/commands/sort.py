"""The generic group: SORT and SORT_RO.

Source: Redis's sort.c and the manual's page of SORT. Collation is that of the C locale: bytes, up to a zero byte where
nothing is stored, as strcoll sees them. A SORT without STORE only reads: it needs no log, and runs in slices if long.
It leaves no trace, whereas Redis turns a sorted set that it sorts into a skiplist for good.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Sequence
from itertools import count, islice
from typing import Any, Final, NamedTuple

from zattredis.commands.arguments import parse_double, parse_integer
from zattredis.commands.context import Context, Steps, Stream, drain
from zattredis.commands.keyspec import KeySpec
from zattredis.commands.table import KEYS_FIRST, Flag, KeyPart, command
from zattredis.commands.weights import of_first
from zattredis.errors import SyntaxReplyError, WrongType
from zattredis.keyspace.hashes import hash_values
from zattredis.keyspace.lists import QuickList, put_list
from zattredis.keyspace.metadata import HASH, LIST, SET, STRING, TYPE_MASK, ZSET
from zattredis.keyspace.sizes import SLICED_ELEMENTS
from zattredis.keyspace.sorting import Sorter
from zattredis.keyspace.spilling import forget
from zattredis.keyspace.strings import string_value
from zattredis.keyspace.types import functions_of
from zattredis.keyspace.zsets import open_zset

_NOT_DOUBLES: Final = "One or more scores can't be converted into double"
_BLANKS: Final = b" \t\n\v\f\r"
_SLICE: Final = 256
_EXACT_DIGITS: Final = 15
_ITSELF: Final = b"#"
_SKIPPED: Final = {b"LIMIT": 2, b"GET": 1, b"BY": 1}

SortKey = Any
"""What the elements are compared by: (double, element), bytes, or (is there anything, bytes)."""


class _Pattern:
    """A key name with a place for the element, and perhaps a field of the hash under that key."""

    __slots__ = ("_field", "_is_itself", "_prefix", "_suffix", "has_place")

    def __init__(self, pattern: bytes) -> None:
        self._is_itself = pattern == _ITSELF
        self.has_place = b"*" in pattern.partition(b"\0")[0]
        self._prefix, _, rest = pattern.partition(b"*")
        self._suffix, arrow, field = rest.partition(b"->")
        if arrow and not field:
            self._suffix, self._field = rest, None
        else:
            self._field = field if arrow else None

    def values(self, ctx: Context, elements: Sequence[bytes]) -> Sequence[bytes | None]:
        """Return for each element the value that the pattern leads to: of a string or of the field, else None."""
        if self._is_itself:
            return elements
        if not self.has_place:
            return [None] * len(elements)
        view, db, now_ms = ctx.view, ctx.db, ctx.now_ms
        prefix, suffix, field = self._prefix, self._suffix, self._field
        keys = [prefix + element + suffix for element in elements]
        view.prefetch_lists({db: keys})
        found: list[bytes | None] = []
        for key in keys:
            record = view.record(db, key, now_ms)
            kind = STRING if field is None else HASH
            if record is None or record[0] & TYPE_MASK != kind:
                found.append(None)
            elif field is None:
                found.append(string_value(view, record))
            else:
                found += hash_values(view, record, (field,), now_ms)
        forget(view, db, keys)
        return found


class _Options(NamedTuple):
    by: _Pattern | None
    sorts: bool
    descending: bool
    alpha: bool
    offset: int
    limit: int
    get: list[_Pattern]
    store: bytes | None


def _parse(words: Sequence[bytes], may_store: bool) -> _Options:
    by: _Pattern | None = None
    descending = alpha = False
    sorts = True
    offset, limit = 0, -1
    get: list[_Pattern] = []
    store: bytes | None = None
    at = 0
    while at < len(words):
        word, left = words[at].upper(), len(words) - at - 1
        if word in (b"ASC", b"DESC"):
            descending = word == b"DESC"
        elif word == b"ALPHA":
            alpha = True
        elif word == b"LIMIT" and left >= 2:
            offset, limit = parse_integer(words[at + 1]), parse_integer(words[at + 2])
            at += 2
        elif word == b"STORE" and left >= 1 and may_store:
            store = words[at + 1]
            at += 1
        elif word == b"BY" and left >= 1:
            by = _Pattern(words[at + 1])
            sorts = sorts and by.has_place
            at += 1
        elif word == b"GET" and left >= 1:
            get.append(_Pattern(words[at + 1]))
            at += 1
        else:
            raise SyntaxReplyError
        at += 1
    return _Options(by if sorts else None, sorts, descending, alpha, offset, limit, get, store)


# -- what is compared ------------------------------------------------------------------------------------------------


def _weight(text: bytes | None) -> float:
    """Return the double that a value is read as, whole, by strtod. Raises DefiniteError."""
    if text is None or not text:
        return 0.0
    if len(text) <= _EXACT_DIGITS and text.isdigit():
        return float(text)
    shown = text.partition(b"\0")[0]
    if not shown:
        return 0.0
    return parse_double(shown.lstrip(_BLANKS), _NOT_DOUBLES)


def _keys(ctx: Context, options: _Options, elements: Sequence[bytes]) -> Iterable[SortKey]:
    """Return what each of the elements is compared by. Raises DefiniteError for weights that are none."""
    values = elements if options.by is None else options.by.values(ctx, elements)
    if not options.alpha:
        return zip(map(_weight, values), elements, strict=True)
    if options.store is None:
        values = [value if value is None or b"\0" not in value else value.partition(b"\0")[0] for value in values]
    return values if options.by is None else [(value is not None, value or b"") for value in values]


def _sorted(ctx: Context, options: _Options, elements: Iterator[bytes]) -> Generator[None, None, Iterator[bytes]]:
    """Return the elements in order; yields now and then."""
    sorter = Sorter(ctx.view, _row_type(options))
    numbers = count(0, -1 if options.descending else 1)  # elements that compare as equal stay in their order
    while some := list(islice(elements, _SLICE)):
        rows = list(zip(_keys(ctx, options, some), numbers, some, strict=False))
        yield from sorter.add(rows, 2 * sum(map(len, some)))
        yield
    ordered = yield from sorter.ordered(options.descending)
    return (element for _, _, element in ordered)


def _row_type(options: _Options) -> Any:
    """Return the type of what is put in order: what an element is compared by, which one it is, and the element."""
    if not options.alpha:
        return tuple[tuple[float, bytes], int, bytes]
    return tuple[bytes, int, bytes] if options.by is None else tuple[tuple[bool, bytes], int, bytes]


# -- the result ------------------------------------------------------------------------------------------------------


def _bounds(options: _Options, length: int) -> tuple[int, int]:
    """Return the first place asked for and the one behind the last; negative offsets are 0, negative counts all."""
    start = min(max(options.offset, 0), length)
    limit = max(options.limit, -1)
    return start, length if limit < 0 else min(start + limit, length)


def _pass_over(elements: Iterator[bytes], count: int) -> Generator[None, None, None]:
    while count > 0:
        for _ in islice(elements, min(count, _SLICE)):
            pass
        count -= _SLICE
        yield


def _as_held(ctx: Context, record: bytes, start: int, stop: int, descending: bool) -> Iterator[bytes]:
    """Yield elements of a list, or members of a sorted set by score, as they stand, or backwards."""
    if descending:
        length = functions_of(record).length(ctx.view, record, ctx.now_ms)
        start, stop = length - stop, length - start
    if record[0] & TYPE_MASK == ZSET:
        for members, _ in open_zset(ctx.view, record).slices(start, stop, descending):
            yield from members
        return
    for _, row in QuickList(ctx.view, record).rows(start, stop, descending):
        yield from reversed(list(row.elements())) if descending else row.elements()


def _ordered(ctx: Context, record: bytes, options: _Options, start: int, stop: int) -> Generator[None, None, Any]:
    """Return an iterator over the elements start <= n < stop of the result; yields now and then."""
    if not options.sorts and record[0] & TYPE_MASK != SET:
        return _as_held(ctx, record, start, stop, options.descending)
    items = functions_of(record).items(ctx.view, record, ctx.now_ms)
    elements: Iterator[bytes] = (item[0] for item in items) if record[0] & TYPE_MASK == ZSET else items
    if options.sorts:
        elements = yield from _sorted(ctx, options, elements)
    yield from _pass_over(elements, start)
    return islice(elements, stop - start)


def _steps(ctx: Context, record: bytes, options: _Options) -> Steps:
    length = functions_of(record).length(ctx.view, record, ctx.now_ms)
    start, stop = _bounds(options, length)
    elements: Iterator[bytes] = yield from _ordered(ctx, record, options, start, stop)
    yield Stream(list, (stop - start) * max(1, len(options.get)))
    while piece := list(islice(elements, _SLICE)):
        if not options.get:
            yield piece
            continue
        columns = [pattern.values(ctx, piece) for pattern in options.get]
        yield [value for row in zip(*columns, strict=True) for value in row]


def _sort(ctx: Context, key: bytes, options: _Options) -> Steps | list[bytes | None]:
    """Return the sorted elements, or what GET makes of them. Raises WrongType and for weights that are no doubles."""
    record = ctx.view.record(ctx.db, key, ctx.now_ms)
    if record is None:
        return []
    kind = record[0] & TYPE_MASK
    if kind not in (LIST, SET, ZSET):
        raise WrongType
    if kind == SET and not options.sorts and options.store is not None:
        # What is stored must not depend on the order in which a set happens to be held.
        options = options._replace(sorts=True, alpha=True)
    steps = _steps(ctx, record, options)
    if options.store is None and functions_of(record).length(ctx.view, record, ctx.now_ms) <= SLICED_ELEMENTS:
        return drain(steps)  # type: ignore[no-any-return]
    return steps


_COMPLEXITY: Final = (
    "O(N+M*log(M)) where N is the number of elements in the list or set to sort, and M the number of returned elements."
    " When the elements are not sorted, complexity is O(N)."
)
_SYNTAX: Final = (
    "key [BY pattern] [LIMIT offset count] [GET pattern [GET pattern ...]] order=[ASC | DESC] sorting=[ALPHA]"
)
_CATEGORIES: Final = ("set", "sortedset", "list", "dangerous")
_KEY: Final = KeyPart("RO access", index=1)
_PATTERN_KEYS: Final = KeyPart(
    "RO access",
    unknown=True,
    finder=lambda argv: [],
    notes="For the optional BY/GET keyword. It is marked 'unknown' because the key names derive from the content of the"
    " key we sort",
)
_STORE_KEY: Final = KeyPart(
    "OW update",
    unknown=True,
    finder=lambda argv: [place] if (place := _store_at(argv)) else [],
    notes="For the optional STORE keyword. It is marked 'unknown' because the keyword can appear anywhere in the"
    " argument array",
)


def _store_at(argv: list[bytes]) -> int:
    """Return where the key behind the last STORE stands in a command line of SORT, 0 where there is none."""
    found, at = 0, 2
    while at < len(argv):
        word = argv[at].upper()
        if word == b"STORE" and at + 1 < len(argv):
            at += 1
            found = at
        at += 1 + _SKIPPED.get(word, 0)
    return found


def _keys_of(argv: list[bytes]) -> list[bytes]:
    found = _store_at(argv)
    return [argv[1], argv[found]] if found else argv[1:2]


@command(
    "SORT_RO", arity=-2, flags=Flag.READONLY | Flag.MOVABLEKEYS, keys=KEYS_FIRST, group="generic", since="7.0.0",
    complexity=_COMPLEXITY, syntax=_SYNTAX, categories=_CATEGORIES, key_parts=(_KEY, _PATTERN_KEYS),
)  # fmt: skip
def sort_ro(ctx: Context, key: bytes, *words: bytes) -> Steps | list[bytes | None]:
    """Return the sorted elements of a list, set or sorted set; never stores them."""
    return _sort(ctx, key, _parse(words, may_store=False))


@command(
    "SORT", arity=-2, flags=Flag.WRITE | Flag.DENYOOM | Flag.MOVABLEKEYS, keys=KeySpec(1, 1, 1, finder=_keys_of),
    group="generic", since="1.0.0", complexity=_COMPLEXITY, syntax=_SYNTAX + " [STORE destination]",
    categories=_CATEGORIES, key_parts=(_KEY, _PATTERN_KEYS, _STORE_KEY), reads=lambda argv: not _store_at(argv),
    weigh=of_first,
)  # fmt: skip
def sort(ctx: Context, key: bytes, *words: bytes) -> Steps | list[bytes | None] | int:
    """Sort the elements in a list, set or sorted set, optionally storing the result as a list."""
    options = _parse(words, may_store=True)
    result = _sort(ctx, key, options)
    if options.store is None:
        return result
    return put_list(ctx.view, ctx.db, options.store, _elements(result), ctx.now_ms // 1000)


def _elements(result: Steps | list[bytes | None]) -> Iterator[bytes]:
    for piece in result:
        if isinstance(piece, list):
            for element in piece:
                yield element or b""
