"""The hash group, as it is in Redis 7.0 (and HSCAN's NOVALUES of 7.4). Expiry of fields is in `hashes_expiry`."""

from __future__ import annotations

from collections.abc import Generator
from itertools import islice
from typing import Any, Final

from zattredis.commands.arguments import INTEGER_MAX, INTEGER_MIN, parse_float, parse_integer, strict_integer
from zattredis.commands.context import Context, Steps, Stream, drain
from zattredis.commands.scan import ScanOptions, parse_cursor
from zattredis.commands.table import KEYS_FIRST, Flag, command
from zattredis.errors import DefiniteError, SyntaxReplyError
from zattredis.keyspace.hashes import (
    HashEdit,
    check_hash,
    expired_fields,
    fields_expire,
    fields_of_hashes,
    hash_entries,
    hash_items,
    hash_size,
    hash_value,
    hash_values,
    is_plain_hash,
    scan_fields,
)
from zattredis.keyspace.hashes_random import chosen_fields, drawn_fields, is_quick, repeated_fields
from zattredis.keyspace.long_double import add, format_human, parse_long_double
from zattredis.keyspace.sizes import INLINE_BYTES_MAX, SLICED_ELEMENTS
from zattredis.resp.replies import Pairs

READ: Final = Flag.READONLY
READ_FAST: Final = Flag.READONLY | Flag.FAST
WRITE_FAST: Final = Flag.WRITE | Flag.DENYOOM | Flag.FAST

_SHARED_MIN: Final = 4
"""Carrying out HSETs together pays for so many of each key."""
_READ_TOGETHER: Final = 32
_PIECE_ELEMENTS: Final = 512
_PIECE_BYTES: Final = 256 * 1024
_REPEATED_MAX: Final = 1 << 24
"""Most fields drawn with repetition: beyond it the reply would fill the memory, which redis-server lets it."""


def _check_pairs(pairs: tuple[bytes, ...], name: str) -> None:
    if len(pairs) % 2:
        raise DefiniteError(f"wrong number of arguments for '{name}' command")


def _set_pairs(ctx: Context, key: bytes, pairs: tuple[bytes, ...]) -> int:
    """Set fields; return how many are new."""
    view = ctx.view
    edit = HashEdit(view, ctx.db, key, view.record(ctx.db, key, ctx.now_ms), ctx.now_ms)
    if len(pairs) == 2:
        added = int(edit.set(pairs[0], pairs[1]))
    else:
        edit.prefetch(pairs[::2])
        added = sum([edit.set(field, value) for field, value in zip(pairs[::2], pairs[1::2], strict=True)])
    edit.finish()
    return added


def _hset_many(ctx: Context, argvs: list[list[bytes]]) -> list[Any] | None:
    """Carry out several HSETs of one field each, as pipelines and ticks with many clients bring them."""
    if max(map(len, argvs)) > 4 or max([len(argv[3]) for argv in argvs]) > INLINE_BYTES_MAX:
        return None
    if len({argv[1] for argv in argvs}) * _SHARED_MIN > len(argvs):
        return None
    view, db, now_ms = ctx.view, ctx.db, ctx.now_ms
    fields: dict[bytes, list[bytes]] = {}
    for _, key, field, _ in argvs:
        fields.setdefault(key, []).append(field)
    records = {key: view.record(db, key, now_ms) for key in fields}
    if not all(record is None or is_plain_hash(record) for record in records.values()):
        return None
    edits: dict[bytes, HashEdit] = {}
    for key, record in records.items():
        edits[key] = edit = HashEdit(view, db, key, record, now_ms)
        edit.prefetch(fields[key])
    next_id = view.next_id
    replies: list[Any] = []
    before: list[bytes] = []
    for argv in argvs:
        _, key, field, value = argv
        edit = edits[key]
        if argv == before:  # as `redis-benchmark` sends it: nothing new but the version
            replies.append(0)
            edit.version = next_id()
            continue
        before = argv
        replies.append(int(edit.set(field, value)))
        if records[key] is None:  # the version of a key's first record is remembered, so it has to be written
            edit.finish()
            record = records[key] = view.record(db, key, now_ms)
            edits[key] = HashEdit(view, db, key, record, now_ms)
        else:
            edit.version = next_id()
    for edit in edits.values():
        if edit.version:
            edit.finish()
    view.commit()
    return replies


@command(
    "HSET", arity=-4, flags=WRITE_FAST, keys=KEYS_FIRST, group="hash", since="2.0.0",
    complexity="O(N) where N is the number of field/value pairs.", syntax="key <field value [field value ...]>",
    key_flags="RW update", history=(("4.0.0", "Accepts multiple `field` and `value` arguments."),),
    many=_hset_many,
)  # fmt: skip
def hset(ctx: Context, key: bytes, *pairs: bytes) -> int:
    """Set the string value of a hash field."""
    _check_pairs(pairs, "hset")
    return _set_pairs(ctx, key, pairs)


@command(
    "HMSET", arity=-4, flags=WRITE_FAST, keys=KEYS_FIRST, group="hash", since="2.0.0",
    complexity="O(N) where N is the number of fields being set.", syntax="key <field value [field value ...]>",
    key_flags="RW update", deprecated_since="4.0.0", replaced_by="`HSET` with multiple field-value pairs",
)  # fmt: skip
def hmset(ctx: Context, key: bytes, *pairs: bytes) -> str:
    """Set multiple hash fields to multiple values."""
    _check_pairs(pairs, "hmset")
    _set_pairs(ctx, key, pairs)
    return "OK"


@command(
    "HSETNX", arity=4, flags=WRITE_FAST, keys=KEYS_FIRST, group="hash", since="2.0.0", complexity="O(1)",
    syntax="key field value", key_flags="RW insert",
)  # fmt: skip
def hsetnx(ctx: Context, key: bytes, field: bytes, value: bytes) -> int:
    """Set the value of a hash field, only if the field does not exist."""
    edit = HashEdit(ctx.view, ctx.db, key, ctx.view.record(ctx.db, key, ctx.now_ms), ctx.now_ms)
    if edit.find(field)[0] is not None:
        return 0
    edit.set(field, value)
    edit.finish()
    return 1


def _hget_many(ctx: Context, argvs: list[list[bytes]]) -> list[Any] | None:
    """Answer several HGETs, as pipelines bring them; decline those that could fail, or bring long values."""
    view, db, now_ms = ctx.view, ctx.db, ctx.now_ms
    misses = view.misses
    replies: list[Any] = []
    for start in range(0, len(argvs), _READ_TOGETHER):
        some = argvs[start : start + _READ_TOGETHER]
        records = [view.record(db, key, now_ms) for _, key, _ in some]
        if not all(record is None or is_plain_hash(record) for record in records):
            break
        replies += fields_of_hashes(view, [(record, argv[2]) for record, argv in zip(records, some, strict=True)])
        if any(value is not None and len(value) > INLINE_BYTES_MAX for value in replies[start:]):
            break
    else:
        return replies
    view.misses = misses
    return None


@command(
    "HGET", arity=3, flags=READ_FAST, keys=KEYS_FIRST, group="hash", since="2.0.0", complexity="O(1)",
    syntax="key field", many=_hget_many,
)  # fmt: skip
def hget(ctx: Context, key: bytes, field: bytes) -> bytes | None:
    """Get the value of a hash field."""
    record = ctx.view.record(ctx.db, key, ctx.now_ms)
    return None if record is None else hash_value(ctx.view, record, field, ctx.now_ms)


def _hmget_sliced(ctx: Context, key: bytes, *fields: bytes) -> Generator[None, None, list[bytes | None]]:
    """Do what HMGET does, some fields at a time."""
    values: list[bytes | None] = []
    for start in range(0, len(fields), _PIECE_ELEMENTS):
        values += hmget(ctx, key, *fields[start : start + _PIECE_ELEMENTS])
        yield
    return values


@command(
    "HMGET", arity=-3, flags=READ_FAST, keys=KEYS_FIRST, group="hash", since="2.0.0",
    complexity="O(N) where N is the number of fields being requested.", syntax="key field [field ...]",
    sliced=_hmget_sliced,
)  # fmt: skip
def hmget(ctx: Context, key: bytes, *fields: bytes) -> list[bytes | None]:
    """Get the values of all the given hash fields."""
    record = ctx.view.record(ctx.db, key, ctx.now_ms)
    return [None] * len(fields) if record is None else hash_values(ctx.view, record, fields, ctx.now_ms)


@command(
    "HEXISTS", arity=3, flags=READ_FAST, keys=KEYS_FIRST, group="hash", since="2.0.0", complexity="O(1)",
    syntax="key field", key_flags="RO",
)  # fmt: skip
def hexists(ctx: Context, key: bytes, field: bytes) -> int:
    """Determine if a hash field exists."""
    return int(hget(ctx, key, field) is not None)


@command(
    "HSTRLEN", arity=3, flags=READ_FAST, keys=KEYS_FIRST, group="hash", since="3.2.0", complexity="O(1)",
    syntax="key field", key_flags="RO",
)  # fmt: skip
def hstrlen(ctx: Context, key: bytes, field: bytes) -> int:
    """Get the length of the value of a hash field."""
    return len(hget(ctx, key, field) or b"")


@command(
    "HLEN", arity=2, flags=READ_FAST, keys=KEYS_FIRST, group="hash", since="2.0.0",
    complexity="O(1); fields that expired and are not yet removed are counted off.", syntax="key", key_flags="RO",
)  # fmt: skip
def hlen(ctx: Context, key: bytes) -> int | Generator[None, None, int]:
    """Get the number of fields in a hash."""
    record = ctx.view.record(ctx.db, key, ctx.now_ms)
    if record is None:
        return 0
    size = hash_size(record)
    if not fields_expire(record, ctx.now_ms):
        return size
    expired = sum(1 for _ in islice(expired_fields(ctx.view, record, ctx.now_ms), SLICED_ELEMENTS))
    return size - expired if expired < SLICED_ELEMENTS else _length_sliced(ctx, record)


def _length_sliced(ctx: Context, record: bytes) -> Generator[None, None, int]:
    length = hash_size(record)
    expired = expired_fields(ctx.view, record, ctx.now_ms)
    while some := sum(1 for _ in islice(expired, _PIECE_ELEMENTS)):
        length -= some
        yield
    return length


_KEYS, _VALUES, _BOTH = 1, 2, 3


def _whole(ctx: Context, key: bytes, what: int) -> Any:
    """Return fields, values or both of a whole hash; of a large one in pieces."""
    record = ctx.view.record(ctx.db, key, ctx.now_ms)
    if record is None:
        return {} if what == _BOTH else []
    if hash_size(record) > SLICED_ELEMENTS:
        return _whole_sliced(ctx, record, what)
    items = hash_items(ctx.view, record, ctx.now_ms)
    if what == _BOTH:
        return dict(items)
    return [field for field, _ in items] if what == _KEYS else [value for _, value in items]


def _whole_sliced(ctx: Context, record: bytes, what: int) -> Steps:
    now_ms = ctx.now_ms
    count = yield from _length_sliced(ctx, record)
    yield Stream(dict if what == _BOTH else list, count)
    piece: list[bytes] = []
    seen = size = 0
    for field, value, expire_ms in hash_entries(ctx.view, record):
        seen += 1
        if not expire_ms or now_ms <= expire_ms:
            if what & _KEYS:
                piece.append(field)
            if what & _VALUES:
                piece.append(value)
            size += len(field) + len(value)
        if seen >= _PIECE_ELEMENTS or size >= _PIECE_BYTES:
            yield piece or None
            piece = []
            seen = size = 0
    if piece:
        yield piece


@command(
    "HGETALL", arity=2, flags=READ, keys=KEYS_FIRST, group="hash", since="2.0.0",
    complexity="O(N) where N is the size of the hash.", syntax="key", tips=("nondeterministic_output_order",),
)  # fmt: skip
def hgetall(ctx: Context, key: bytes) -> Any:
    """Get all the fields and values in a hash."""
    return _whole(ctx, key, _BOTH)


@command(
    "HKEYS", arity=2, flags=READ, keys=KEYS_FIRST, group="hash", since="2.0.0",
    complexity="O(N) where N is the size of the hash.", syntax="key", tips=("nondeterministic_output_order",),
)  # fmt: skip
def hkeys(ctx: Context, key: bytes) -> Any:
    """Get all the fields in a hash."""
    return _whole(ctx, key, _KEYS)


@command(
    "HVALS", arity=2, flags=READ, keys=KEYS_FIRST, group="hash", since="2.0.0",
    complexity="O(N) where N is the size of the hash.", syntax="key", tips=("nondeterministic_output_order",),
)  # fmt: skip
def hvals(ctx: Context, key: bytes) -> Any:
    """Get all the values in a hash."""
    return _whole(ctx, key, _VALUES)


@command(
    "HDEL", arity=-3, flags=Flag.WRITE | Flag.FAST, keys=KEYS_FIRST, group="hash", since="2.0.0",
    complexity="O(N) where N is the number of fields to be removed.", syntax="key field [field ...]",
    key_flags="RW delete", history=(("2.4.0", "Accepts multiple `field` arguments."),),
    idle_if_absent=True,
)  # fmt: skip
def hdel(ctx: Context, key: bytes, *fields: bytes) -> int:
    """Delete one or more hash fields."""
    record = ctx.view.record(ctx.db, key, ctx.now_ms)
    if record is None:
        return 0
    edit = HashEdit(ctx.view, ctx.db, key, record, ctx.now_ms)
    before = edit.size
    if len(fields) > 1:
        edit.prefetch(fields)
    removed = sum([edit.remove(field) is not None for field in fields])
    if edit.size != before:
        edit.finish()
    return removed


@command(
    "HINCRBY", arity=4, flags=WRITE_FAST, keys=KEYS_FIRST, group="hash", since="2.0.0", complexity="O(1)",
    syntax="key field increment", key_flags="RW access update",
)  # fmt: skip
def hincrby(ctx: Context, key: bytes, field: bytes, increment: bytes) -> int:
    """Increment the integer value of a hash field by the given number."""
    amount = parse_integer(increment)
    edit = HashEdit(ctx.view, ctx.db, key, ctx.view.record(ctx.db, key, ctx.now_ms), ctx.now_ms)
    text, expire_ms = edit.find(field)
    value = 0 if text is None else strict_integer(text)
    if value is None:
        raise DefiniteError("hash value is not an integer")
    value += amount
    if not INTEGER_MIN <= value <= INTEGER_MAX:
        raise DefiniteError("increment or decrement would overflow")
    edit.set(field, b"%d" % value, expire_ms)
    edit.finish()
    return value


@command(
    "HINCRBYFLOAT", arity=4, flags=WRITE_FAST, keys=KEYS_FIRST, group="hash", since="2.6.0", complexity="O(1)",
    syntax="key field increment:double", key_flags="RW access update",
)  # fmt: skip
def hincrbyfloat(ctx: Context, key: bytes, field: bytes, increment: bytes) -> bytes:
    """Increment the float value of a hash field by the given amount."""
    amount = parse_float(increment)
    if amount.infinite:
        raise DefiniteError("value is NaN or Infinity")
    edit = HashEdit(ctx.view, ctx.db, key, ctx.view.record(ctx.db, key, ctx.now_ms), ctx.now_ms)
    text, expire_ms = edit.find(field)
    value = parse_long_double(b"0" if text is None else text)
    if value is None:
        raise DefiniteError("hash value is not a float")
    total = add(value, amount)
    if total is None or total.infinite:
        raise DefiniteError("increment would produce NaN or Infinity")
    result = format_human(total)
    edit.set(field, result, expire_ms)
    edit.finish()
    return result


@command(
    "HRANDFIELD", arity=-2, flags=READ, keys=KEYS_FIRST, group="hash", since="6.2.0",
    complexity="O(N) where N is the number of fields returned", syntax="key [options=<count [WITHVALUES]>]",
    tips=("nondeterministic_output",),
)  # fmt: skip
def hrandfield(ctx: Context, key: bytes, *words: bytes) -> Any:
    """Get one or multiple random fields from a hash."""
    count, values = _random_options(words)
    record = ctx.view.record(ctx.db, key, ctx.now_ms)
    if record is None:
        return None if count is None else []
    check_hash(record)
    if count == 0:
        return []
    if count is not None and count < 0:
        if -count > _REPEATED_MAX:
            raise DefiniteError("value is out of range")
        steps = _random_repeated(ctx, record, -count, values)
    else:
        steps = _random(ctx, record, count, values)
    quick = is_quick(ctx.view, record, abs(count or 1), ctx.now_ms)
    return drain(steps) if quick else steps


def _random_options(words: tuple[bytes, ...]) -> tuple[int | None, bool]:
    """Return HRANDFIELD's count (None: not given) and whether it wants values."""
    if not words:
        return None, False
    count = parse_integer(words[0])
    if count == INTEGER_MIN:
        raise DefiniteError(f"value is out of range, value must between {-INTEGER_MAX} and {INTEGER_MAX}")
    if len(words) > 2 or (len(words) == 2 and words[1].upper() != b"WITHVALUES"):
        raise SyntaxReplyError
    if len(words) == 2 and not -(INTEGER_MAX // 2) <= count <= INTEGER_MAX // 2:
        raise DefiniteError("value is out of range")
    return count, len(words) == 2


def _random(ctx: Context, record: bytes, count: int | None, values: bool) -> Steps:
    """Return one random field, or `count` different ones."""
    wanted = 1 if count is None else count
    pairs = yield from drawn_fields(ctx.view, record, wanted, ctx.now_ms, ctx.random)
    if pairs is None:
        length = yield from _length_sliced(ctx, record)
        wanted = min(wanted, length)
        pieces = chosen_fields(ctx.view, record, wanted, length, ctx.now_ms, ctx.random) if wanted else iter(())
        if count is not None:
            yield Stream(Pairs if values else list, wanted)
            for piece in pieces:
                yield piece if piece is None or values else [field for field, _ in piece]
            return None
        pairs = [pair for piece in pieces for pair in piece or []]
    if count is None:
        return pairs[0][0] if pairs else None
    return Pairs(pairs) if values else [field for field, _ in pairs]


def _random_repeated(ctx: Context, record: bytes, count: int, values: bool) -> Steps:
    """Reply with `count` random fields, each drawn from all."""
    if next(hash_items(ctx.view, record, ctx.now_ms), None) is None:
        return []
    yield Stream(Pairs if values else list, count)
    for piece in repeated_fields(ctx.view, record, count, ctx.now_ms, ctx.random):
        yield piece if piece is None or values else [field for field, _ in piece]
    return None


@command(
    "HSCAN", arity=-3, flags=READ, keys=KEYS_FIRST, group="hash", since="2.8.0",
    complexity="O(COUNT) for every call, at most some thousand fields; O(N) for a complete iteration.",
    syntax="key cursor [MATCH pattern] [COUNT count] [NOVALUES@7.4.0]", tips=("nondeterministic_output",),
    history=(("7.4.0", "Added the `NOVALUES` flag."),),
)  # fmt: skip
def hscan(ctx: Context, key: bytes, cursor: bytes, *words: bytes) -> list[bytes | list[bytes]]:
    """Incrementally iterate hash fields and associated values."""
    position = parse_cursor(cursor)
    record = ctx.view.record(ctx.db, key, ctx.now_ms)
    if record is None:
        return [b"0", []]
    check_hash(record)
    options = ScanOptions(words, flags=(b"NOVALUES",))
    match, values = options.match, b"NOVALUES" not in options.others
    following, pairs = scan_fields(ctx.view, record, position, options.count, ctx.now_ms)
    found: list[bytes] = []
    for field, value in pairs:
        if match is None or match(field):
            found.append(field)
            if values:
                found.append(value)
    return [b"%d" % following, found]
