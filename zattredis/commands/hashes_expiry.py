"""The hash group: expiry of single fields, as in Redis 7.4, and Redis 8.0's HGETDEL, HGETEX and HSETEX.

A field past its time is absent from every reply at once (Redis counts it in HLEN and EXISTS until it is removed, and
HDEL counts it as removed).
"""

from __future__ import annotations

from typing import Final

from zattredis.commands.arguments import INT_MAX, parse_integer, strict_integer
from zattredis.commands.context import Context, Steps, Stream
from zattredis.commands.table import KEYS_FIRST, Flag, command
from zattredis.errors import DefiniteError, shown
from zattredis.keyspace.hashes import HashEdit, check_hash, find_fields
from zattredis.keyspace.sizes import SLICED_ELEMENTS

_WRITE: Final = Flag.WRITE | Flag.FAST
_WRITE_MORE: Final = Flag.WRITE | Flag.DENYOOM | Flag.FAST
_READ: Final = Flag.READONLY | Flag.FAST

EXPIRE_MS_MAX: Final = (1 << 46) - 1
"""Redis's bound of a field's expiry, in the year 4199."""

_BATCH: Final = 256

_NO_FIELD: Final = -2
_NO_EXPIRY: Final = -1
_CONDITION_FAILED: Final = 0
_DONE: Final = 1
_DELETED: Final = 2

_CONDITIONS: Final = (b"NX", b"XX", b"GT", b"LT")
_TIMES: Final = {b"EX": (1000, True), b"PX": (1, True), b"EXAT": (1000, False), b"PXAT": (1, False)}
"""Option → (ms per unit, counted from now)."""

_FIELDS_SYNTAX: Final = " FIELDS fields=<numfields:integer field [field ...]>"
_CONDITION_SYNTAX: Final = " condition=[NX | XX | GT | LT]"
_EXPIRATION_SYNTAX: Final = (
    " expiration=[EX seconds | PX milliseconds | EXAT unix-time-seconds | PXAT unix-time-milliseconds | "
)
_PER_FIELD: Final = "O(N) where N is the number of specified fields"


def _expire_time(text: bytes, factor: int, base_ms: int, name: str) -> int:
    """Return an expiry in ms since 1970, which may lie in the past. Raises DefiniteError."""
    value = parse_integer(text)
    if value < 0:
        raise DefiniteError("invalid expire time, must be >= 0")
    expire_ms = value * factor + base_ms
    if expire_ms > EXPIRE_MS_MAX:
        raise DefiniteError(f"invalid expire time in '{name}' command")
    return expire_ms


def _fields(words: tuple[bytes, ...], not_positive: str) -> tuple[bytes, ...]:
    """Return the fields of `FIELDS numfields field …`. Raises DefiniteError: `not_positive` for a number below 1."""
    if not words or words[0].upper() != b"FIELDS":
        raise DefiniteError("Mandatory argument FIELDS is missing or not at the right position")
    count = strict_integer(words[1]) if len(words) > 1 else None
    if count is None or count < 1:
        raise DefiniteError(not_positive)
    if count != len(words) - 2:
        raise DefiniteError("The `numfields` parameter must match the number of arguments")
    return words[2:]


_GREATER: Final = "Parameter `numFields` should be greater than 0"
_POSITIVE: Final = "Number of fields must be a positive integer"


def _record(ctx: Context, key: bytes) -> bytes | None:
    """Return the record of a hash, or None. Raises WrongType."""
    record = ctx.view.record(ctx.db, key, ctx.now_ms)
    if record is not None:
        check_hash(record)
    return record


def _set_expiry(edit: HashEdit, field: bytes, value: bytes, expire_ms: int, now_ms: int) -> bool:
    """Give a field this expiry, or remove it where that is past; return whether it still is there."""
    if expire_ms <= now_ms:
        edit.remove(field)
        return False
    edit.set(field, value, expire_ms)
    return True


# -- HEXPIRE and its kin -----------------------------------------------------------------------------------------------


def _allowed(condition: bytes, present_ms: int, wanted_ms: int) -> bool:
    """Return whether the condition lets `wanted_ms` replace `present_ms`; no expiry counts as never."""
    if condition == b"NX":
        return not present_ms
    if condition == b"XX":
        return present_ms > 0
    if condition == b"GT":
        return 0 < present_ms < wanted_ms
    return condition != b"LT" or not present_ms or wanted_ms < present_ms


def _expire(
    ctx: Context, name: str, key: bytes, text: bytes, words: tuple[bytes, ...], factor: int, base_ms: int
) -> list[int]:
    record = _record(ctx, key)
    expire_ms = _expire_time(text, factor, base_ms, name)
    condition = words[0].upper()
    if condition in _CONDITIONS:
        words = words[1:]
    else:
        condition = b""
    fields = _fields(words, _GREATER)
    if record is None:
        return [_NO_FIELD] * len(fields)
    edit = HashEdit(ctx.view, ctx.db, key, record, ctx.now_ms)
    edit.prefetch(fields)
    results: list[int] = []
    for field in fields:
        value, present_ms = edit.find(field)
        if value is None:
            results.append(_NO_FIELD)
        elif not _allowed(condition, present_ms, expire_ms):
            results.append(_CONDITION_FAILED)
        else:
            results.append(_DONE if _set_expiry(edit, field, value, expire_ms, ctx.now_ms) else _DELETED)
    if _DONE in results or _DELETED in results:
        edit.finish()
    return results


@command(
    "HEXPIRE", arity=-6, flags=_WRITE_MORE, keys=KEYS_FIRST, group="hash", since="7.4.0", complexity=_PER_FIELD,
    syntax="key seconds" + _CONDITION_SYNTAX + _FIELDS_SYNTAX, key_flags="RW update",
)  # fmt: skip
def hexpire(ctx: Context, key: bytes, seconds: bytes, *words: bytes) -> list[int]:
    """Set expiry for hash fields in seconds from now."""
    return _expire(ctx, "hexpire", key, seconds, words, 1000, ctx.now_ms)


@command(
    "HPEXPIRE", arity=-6, flags=_WRITE_MORE, keys=KEYS_FIRST, group="hash", since="7.4.0", complexity=_PER_FIELD,
    syntax="key milliseconds" + _CONDITION_SYNTAX + _FIELDS_SYNTAX, key_flags="RW update",
)  # fmt: skip
def hpexpire(ctx: Context, key: bytes, milliseconds: bytes, *words: bytes) -> list[int]:
    """Set expiry for hash fields in milliseconds from now."""
    return _expire(ctx, "hpexpire", key, milliseconds, words, 1, ctx.now_ms)


@command(
    "HEXPIREAT", arity=-6, flags=_WRITE_MORE, keys=KEYS_FIRST, group="hash", since="7.4.0", complexity=_PER_FIELD,
    syntax="key unix-time-seconds" + _CONDITION_SYNTAX + _FIELDS_SYNTAX, key_flags="RW update",
)  # fmt: skip
def hexpireat(ctx: Context, key: bytes, seconds: bytes, *words: bytes) -> list[int]:
    """Set expiry for hash fields as a UNIX timestamp in seconds."""
    return _expire(ctx, "hexpireat", key, seconds, words, 1000, 0)


@command(
    "HPEXPIREAT", arity=-6, flags=_WRITE_MORE, keys=KEYS_FIRST, group="hash", since="7.4.0", complexity=_PER_FIELD,
    syntax="key unix-time-milliseconds" + _CONDITION_SYNTAX + _FIELDS_SYNTAX, key_flags="RW update",
)  # fmt: skip
def hpexpireat(ctx: Context, key: bytes, milliseconds: bytes, *words: bytes) -> list[int]:
    """Set expiry for hash fields as a UNIX timestamp in milliseconds."""
    return _expire(ctx, "hpexpireat", key, milliseconds, words, 1, 0)


@command(
    "HPERSIST", arity=-5, flags=_WRITE, keys=KEYS_FIRST, group="hash", since="7.4.0", complexity=_PER_FIELD,
    syntax="key" + _FIELDS_SYNTAX, key_flags="RW update",
)  # fmt: skip
def hpersist(ctx: Context, key: bytes, *words: bytes) -> list[int]:
    """Remove the expiration time for each specified hash field."""
    record = _record(ctx, key)
    fields = _fields(words, _POSITIVE)
    if record is None:
        return [_NO_FIELD] * len(fields)
    edit = HashEdit(ctx.view, ctx.db, key, record, ctx.now_ms)
    edit.prefetch(fields)
    results: list[int] = []
    for field in fields:
        value, present_ms = edit.find(field)
        if value is not None and present_ms:
            edit.set(field, value)
            results.append(_DONE)
        else:
            results.append(_NO_FIELD if value is None else _NO_EXPIRY)
    if _DONE in results:
        edit.finish()
    return results


# -- HTTL and its kin --------------------------------------------------------------------------------------------------


def _times(ctx: Context, key: bytes, words: tuple[bytes, ...], unit_ms: int, base_ms: int) -> list[int] | Steps:
    """Return the expiry of each field, counted from `base_ms` in units that are rounded up."""
    record = _record(ctx, key)
    fields = _fields(words, _POSITIVE)
    if record is None:
        return [_NO_FIELD] * len(fields)
    if len(fields) > SLICED_ELEMENTS:
        return _many_times(ctx, record, fields, unit_ms, base_ms)
    return _times_of(ctx, record, fields, unit_ms, base_ms)


def _many_times(ctx: Context, record: bytes, fields: tuple[bytes, ...], unit_ms: int, base_ms: int) -> Steps:
    yield Stream(list, len(fields))
    for start in range(0, len(fields), _BATCH):
        yield _times_of(ctx, record, fields[start : start + _BATCH], unit_ms, base_ms)
    return None


def _times_of(ctx: Context, record: bytes, fields: tuple[bytes, ...], unit_ms: int, base_ms: int) -> list[int]:
    return [
        _NO_FIELD if value is None else -((base_ms - expire_ms) // unit_ms) if expire_ms else _NO_EXPIRY
        for value, expire_ms in find_fields(ctx.view, record, fields, ctx.now_ms)
    ]


@command(
    "HTTL", arity=-5, flags=_READ, keys=KEYS_FIRST, group="hash", since="7.4.0", complexity=_PER_FIELD,
    syntax="key" + _FIELDS_SYNTAX, key_flags="RO access", tips=("nondeterministic_output",),
)  # fmt: skip
def httl(ctx: Context, key: bytes, *words: bytes) -> list[int] | Steps:
    """Return the TTL in seconds of hash fields."""
    return _times(ctx, key, words, 1000, ctx.now_ms)


@command(
    "HPTTL", arity=-5, flags=_READ, keys=KEYS_FIRST, group="hash", since="7.4.0", complexity=_PER_FIELD,
    syntax="key" + _FIELDS_SYNTAX, key_flags="RO access", tips=("nondeterministic_output",),
)  # fmt: skip
def hpttl(ctx: Context, key: bytes, *words: bytes) -> list[int] | Steps:
    """Return the TTL in milliseconds of hash fields."""
    return _times(ctx, key, words, 1, ctx.now_ms)


@command(
    "HEXPIRETIME", arity=-5, flags=_READ, keys=KEYS_FIRST, group="hash", since="7.4.0", complexity=_PER_FIELD,
    syntax="key" + _FIELDS_SYNTAX, key_flags="RO access",
)  # fmt: skip
def hexpiretime(ctx: Context, key: bytes, *words: bytes) -> list[int] | Steps:
    """Return the expiration time of hash fields as a UNIX timestamp in seconds."""
    return _times(ctx, key, words, 1000, 0)


@command(
    "HPEXPIRETIME", arity=-5, flags=_READ, keys=KEYS_FIRST, group="hash", since="7.4.0", complexity=_PER_FIELD,
    syntax="key" + _FIELDS_SYNTAX, key_flags="RO access",
)  # fmt: skip
def hpexpiretime(ctx: Context, key: bytes, *words: bytes) -> list[int] | Steps:
    """Return the expiration time of hash fields as a UNIX timestamp in milliseconds."""
    return _times(ctx, key, words, 1, 0)


# -- HGETDEL, HGETEX, HSETEX -------------------------------------------------------------------------------------------


@command(
    "HGETDEL", arity=-5, flags=_WRITE, keys=KEYS_FIRST, group="hash", since="8.0.0", complexity=_PER_FIELD,
    syntax="key" + _FIELDS_SYNTAX, key_flags="RW access delete",
)  # fmt: skip
def hgetdel(ctx: Context, key: bytes, *words: bytes) -> list[bytes | None]:
    """Get the values of one or more fields of a hash and delete these fields."""
    record = _record(ctx, key)
    fields = _fields(words, _POSITIVE)
    if record is None:
        return [None] * len(fields)
    edit = HashEdit(ctx.view, ctx.db, key, record, ctx.now_ms)
    edit.prefetch(fields)
    before = edit.size
    values = [edit.remove(field) for field in fields]
    if edit.size != before:
        edit.finish()
    return values


@command(
    "HGETEX", arity=-5, flags=_WRITE, keys=KEYS_FIRST, group="hash", since="8.0.0", complexity=_PER_FIELD,
    syntax="key" + _EXPIRATION_SYNTAX + "PERSIST]" + _FIELDS_SYNTAX,
    key_flags="RW access update", key_notes="RW and UPDATE because it changes the TTL",
)  # fmt: skip
def hgetex(ctx: Context, key: bytes, *words: bytes) -> list[bytes | None]:
    """Get the values of one or more fields of a hash, and optionally set their expiration."""
    record = _record(ctx, key)
    option = words[0].upper()
    skipped = 2 if option in _TIMES else 1 if option == b"PERSIST" else 0
    fields = _fields(words[skipped:], _POSITIVE)
    expire_ms = _option_time(ctx, option, words[1], "hgetex") if skipped == 2 else 0
    if record is None:
        return [None] * len(fields)
    edit = HashEdit(ctx.view, ctx.db, key, record, ctx.now_ms)
    edit.prefetch(fields)
    values: list[bytes | None] = []
    changed = False
    for field in fields:
        value, present_ms = edit.find(field)
        values.append(value)
        if value is not None and (skipped == 2 or (skipped and present_ms)):
            if skipped == 2:
                _set_expiry(edit, field, value, expire_ms, ctx.now_ms)
            else:
                edit.set(field, value)
            changed = True
    if changed:
        edit.finish()
    return values


def _option_time(ctx: Context, option: bytes, text: bytes, name: str) -> int:
    factor, relative = _TIMES[option]
    return _expire_time(text, factor, ctx.now_ms if relative else 0, name)


class _SetOptions:
    """What HSETEX was told beside the key; options stand in any order, FIELDS behind them. Raises DefiniteError."""

    __slots__ = ("condition", "expire_ms", "keep", "pairs")

    def __init__(self, ctx: Context, words: tuple[bytes, ...]) -> None:
        self.condition = b""
        self.keep = False
        self.expire_ms: int | None = None
        self.pairs: tuple[bytes, ...] = ()
        place = 0
        while not self.pairs:
            if place == len(words):
                raise DefiniteError(_HSETEX_ARITY)
            word = words[place].upper()
            place += 1
            if word == b"FIELDS":
                self._take_pairs(words[place:])
            elif word in (b"FNX", b"FXX"):
                if self.condition:
                    raise DefiniteError("Only one of FXX or FNX arguments can be specified")
                self.condition = word
            elif word in _TIMES or word == b"KEEPTTL":
                if self.keep or self.expire_ms is not None:
                    raise DefiniteError("Only one of EX, PX, EXAT, PXAT or KEEPTTL arguments can be specified")
                if word == b"KEEPTTL":
                    self.keep = True
                elif place == len(words):
                    raise DefiniteError("missing expire time")
                else:
                    self.expire_ms = _option_time(ctx, word, words[place], "hsetex")
                    place += 1
            else:
                raise DefiniteError(f"unknown argument: {shown(words[place - 1])}")

    def _take_pairs(self, words: tuple[bytes, ...]) -> None:
        if len(words) < 3:
            raise DefiniteError(_HSETEX_ARITY)
        count = strict_integer(words[0])
        if count is None or not 1 <= count <= INT_MAX:
            raise DefiniteError("invalid number of fields")
        if len(words) != 1 + 2 * count:
            raise DefiniteError(_HSETEX_ARITY)
        self.pairs = words[1:]


_HSETEX_ARITY: Final = "wrong number of arguments for 'hsetex' command"


@command(
    "HSETEX", arity=-6, flags=_WRITE_MORE, keys=KEYS_FIRST, group="hash", since="8.0.0",
    complexity="O(N) where N is the number of fields being set.",
    syntax="key condition=[FNX | FXX]" + _EXPIRATION_SYNTAX
    + "KEEPTTL] FIELDS fields=<numfields:integer data=<field value [field value ...]>>",
    key_flags="RW update",
)  # fmt: skip
def hsetex(ctx: Context, key: bytes, *words: bytes) -> int:
    """Set the values of one or more fields of a hash, and optionally their expiration."""
    options = _SetOptions(ctx, words)
    record = _record(ctx, key)
    fields = options.pairs[::2]
    edit = HashEdit(ctx.view, ctx.db, key, record, ctx.now_ms)
    edit.prefetch(fields)
    if options.condition and any((edit.find(field)[0] is None) == (options.condition == b"FXX") for field in fields):
        return 0
    before = edit.size
    past = options.expire_ms is not None and options.expire_ms <= ctx.now_ms
    for field, value in zip(fields, options.pairs[1::2], strict=True):
        if past:
            edit.remove(field)
        else:
            edit.set(field, value, edit.find(field)[1] if options.keep else options.expire_ms or 0)
    if not past or edit.size != before:
        edit.finish()
    return 1
