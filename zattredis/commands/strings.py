"""The string group: values that are set, read and changed in part."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, Final

from zattredis.commands.arguments import INTEGER_MAX, Options, parse_integer
from zattredis.commands.context import Context
from zattredis.commands.table import KEYS_ALL, KEYS_FIRST, KEYS_PAIRS, Flag, command
from zattredis.errors import DefiniteError, SyntaxReplyError
from zattredis.keyspace.metadata import HEADER_BYTES, TYPE_MASK, expire_of
from zattredis.keyspace.sizes import INLINE_BYTES_MAX, STRING_BYTES_MAX
from zattredis.keyspace.strings import overwrite, put_string, string_length, string_range, string_value

READ: Final = Flag.READONLY
READ_FAST: Final = Flag.READONLY | Flag.FAST
WRITE: Final = Flag.WRITE | Flag.DENYOOM
WRITE_FAST: Final = Flag.WRITE | Flag.DENYOOM | Flag.FAST

_MGET_SLICE: Final = 256
_SET_SLICE: Final = 512
"""Keys and values that are looked up and set together."""
_TIMES: Final = {b"EX": (1000, True), b"PX": (1, True), b"EXAT": (1000, False), b"PXAT": (1, False)}
"""Expiry option → (ms per unit, counted from now)."""


class _SetOptions:
    """What SET and GETEX were told beside key and value."""

    __slots__ = ("condition", "expire", "get", "keep", "time")

    def __init__(self, words: tuple[bytes, ...], for_set: bool) -> None:
        self.condition = b""
        self.get = False
        self.keep = False  # KEEPTTL of SET, PERSIST of GETEX
        self.time: bytes = b""
        self.expire: bytes = b""
        keep_word = b"KEEPTTL" if for_set else b"PERSIST"
        options = Options(words)
        while options.more():
            word = options.word()
            if for_set and word in (b"NX", b"XX") and self.condition in (b"", word):
                self.condition = word
            elif for_set and word == b"GET":
                self.get = True
            elif word == keep_word and not self.time:
                self.keep = True
            elif word in _TIMES and not self.keep and self.time in (b"", word):
                self.time = word
                self.expire = options.argument()
            else:
                raise SyntaxReplyError

    def expire_ms(self, now_ms: int, name: str) -> int:
        """Return the expiry asked for, 0 for none. Raises DefiniteError."""
        return expire_time(self.expire, self.time, now_ms, name) if self.time else 0


def expire_time(text: bytes, option: bytes, now_ms: int, name: str) -> int:
    """Return the expiry in ms since 1970 of an EX, PX, EXAT or PXAT argument. Raises DefiniteError."""
    factor, relative = _TIMES[option]
    value = parse_integer(text)
    expire_ms = value * factor + (now_ms if relative else 0)
    if value <= 0 or value * factor > INTEGER_MAX or expire_ms > INTEGER_MAX:
        raise DefiniteError(f"invalid expire time in '{name}' command")
    return expire_ms


def _set_access(argv: list[bytes]) -> str:
    return "RW access update" if b"GET" in [word.upper() for word in argv[3:]] else "OW update"


def _store(ctx: Context, key: bytes, value: bytes, expire_ms: int) -> None:
    """Replace whatever the key holds; an expiry in the past leaves nothing behind."""
    if expire_ms and expire_ms < ctx.now_ms:
        ctx.view.put(ctx.db, key, None)
    else:
        put_string(ctx.view, ctx.db, key, value, ctx.now_ms // 1000, expire_ms)


def _checked_length(length: int) -> int:
    if length > STRING_BYTES_MAX:
        raise DefiniteError("string exceeds maximum allowed size (proto-max-bulk-len)")
    return length


def _set_many(ctx: Context, argvs: list[list[bytes]]) -> list[Any] | None:
    """Carry out several SETs without options, as pipelines and ticks with many clients bring them."""
    if max(map(len, argvs)) > 3 or max([len(argv[2]) for argv in argvs]) > INLINE_BYTES_MAX:
        return None
    ctx.view.set_plain_many(ctx.db, [(argv[1], argv[2]) for argv in argvs], ctx.now_ms // 1000)
    return ["OK"] * len(argvs)


@command(
    "SET", arity=-3, flags=WRITE, keys=KEYS_FIRST, group="string", since="1.0.0", complexity="O(1)",
    syntax="key value condition=[NX | XX]@2.6.12 [GET@6.2.0] expiration=[EX@2.6.12 seconds | PX@2.6.12 milliseconds"
    " | EXAT@6.2.0 unix-time-seconds | PXAT@6.2.0 unix-time-milliseconds | KEEPTTL@6.0.0]",
    key_flags="RW access update variable_flags", key_notes="RW and ACCESS due to the optional `GET` argument",
    key_access=_set_access,
    history=(
        ("2.6.12", "Added the `EX`, `PX`, `NX` and `XX` options."),
        ("6.0.0", "Added the `KEEPTTL` option."),
        ("6.2.0", "Added the `GET`, `EXAT` and `PXAT` option."),
        ("7.0.0", "Allowed the `NX` and `GET` options to be used together."),
    ),
    many=_set_many,
)  # fmt: skip
def set_(ctx: Context, key: bytes, value: bytes, *words: bytes) -> str | bytes | None:
    """Set the string value of a key."""
    if not words and len(value) <= INLINE_BYTES_MAX:
        ctx.view.set_plain(ctx.db, key, value, ctx.now_ms // 1000)
        return "OK"
    options = _SetOptions(words, for_set=True)
    expire_ms = options.expire_ms(ctx.now_ms, "set")
    record = ctx.view.record(ctx.db, key, ctx.now_ms)
    before = string_value(ctx.view, record) if options.get and record is not None else None
    if (options.condition == b"NX" and record is not None) or (options.condition == b"XX" and record is None):
        return before
    if options.keep and record is not None:
        expire_ms = expire_of(record)
    _store(ctx, key, value, expire_ms)
    return before if options.get else "OK"


@command(
    "SETNX", arity=3, flags=WRITE_FAST, keys=KEYS_FIRST, group="string", since="1.0.0", complexity="O(1)",
    syntax="key value", key_flags="OW insert",
)  # fmt: skip
def setnx(ctx: Context, key: bytes, value: bytes) -> int:
    """Set the value of a key, only if the key does not exist."""
    if ctx.view.record(ctx.db, key, ctx.now_ms) is not None:
        return 0
    put_string(ctx.view, ctx.db, key, value, ctx.now_ms // 1000)
    return 1


@command(
    "SETEX", arity=4, flags=WRITE, keys=KEYS_FIRST, group="string", since="2.0.0", complexity="O(1)",
    syntax="key seconds value", key_flags="OW update",
)  # fmt: skip
def setex(ctx: Context, key: bytes, seconds: bytes, value: bytes) -> str:
    """Set the value and expiration of a key."""
    _store(ctx, key, value, expire_time(seconds, b"EX", ctx.now_ms, "setex"))
    return "OK"


@command(
    "PSETEX", arity=4, flags=WRITE, keys=KEYS_FIRST, group="string", since="2.6.0", complexity="O(1)",
    syntax="key milliseconds value", key_flags="OW update",
)  # fmt: skip
def psetex(ctx: Context, key: bytes, milliseconds: bytes, value: bytes) -> str:
    """Set the value and expiration in milliseconds of a key."""
    _store(ctx, key, value, expire_time(milliseconds, b"PX", ctx.now_ms, "psetex"))
    return "OK"


def _get_many(ctx: Context, argvs: list[list[bytes]]) -> list[Any] | None:
    """Answer several GETs, as pipelines bring them."""
    return ctx.view.plain_values(ctx.db, [argv[1] for argv in argvs])


@command(
    "GET", arity=2, flags=READ_FAST, keys=KEYS_FIRST, group="string", since="1.0.0", complexity="O(1)", syntax="key",
    many=_get_many,
)  # fmt: skip
def get(ctx: Context, key: bytes) -> bytes | None:
    """Get the value of a key."""
    record = ctx.view.record(ctx.db, key, ctx.now_ms)
    if record is None:
        return None
    return string_value(ctx.view, record) if record[0] else record[HEADER_BYTES:]


def _value(ctx: Context, key: bytes) -> bytes | None:
    record = ctx.view.record(ctx.db, key, ctx.now_ms)
    return None if record is None else string_value(ctx.view, record)


@command(
    "GETSET", arity=3, flags=WRITE_FAST, keys=KEYS_FIRST, group="string", since="1.0.0", complexity="O(1)",
    syntax="key value", key_flags="RW access update", deprecated_since="6.2.0",
    replaced_by="`SET` with the `!GET` argument",
)  # fmt: skip
def getset(ctx: Context, key: bytes, value: bytes) -> bytes | None:
    """Set the string value of a key and return its old value."""
    before = _value(ctx, key)
    _store(ctx, key, value, 0)
    return before


@command(
    "GETDEL", arity=2, flags=Flag.WRITE | Flag.FAST, keys=KEYS_FIRST, group="string", since="6.2.0", complexity="O(1)",
    syntax="key", key_flags="RW access delete",
    idle_if_absent=True,
)  # fmt: skip
def getdel(ctx: Context, key: bytes) -> bytes | None:
    """Get the value of a key and delete the key."""
    value = _value(ctx, key)
    if value is not None:
        ctx.view.put(ctx.db, key, None)
    return value


@command(
    "GETEX", arity=-2, flags=Flag.WRITE | Flag.FAST, keys=KEYS_FIRST, group="string", since="6.2.0", complexity="O(1)",
    syntax="key expiration=[EX seconds | PX milliseconds | EXAT unix-time-seconds | PXAT unix-time-milliseconds"
    " | PERSIST]",
    key_flags="RW access update", key_notes="RW and UPDATE because it changes the TTL",
)  # fmt: skip
def getex(ctx: Context, key: bytes, *words: bytes) -> bytes | None:
    """Get the value of a key and optionally set its expiration."""
    options = _SetOptions(words, for_set=False)
    record = ctx.view.record(ctx.db, key, ctx.now_ms)
    if record is None:
        return None
    value = string_value(ctx.view, record)
    if options.time:
        expire_ms = options.expire_ms(ctx.now_ms, "getex")
        if expire_ms <= ctx.now_ms:
            ctx.view.put(ctx.db, key, None)
        else:
            ctx.view.set_expire(ctx.db, key, record, expire_ms, ctx.now_ms // 1000)
    elif options.keep and expire_of(record):
        ctx.view.set_expire(ctx.db, key, record, 0, ctx.now_ms // 1000)
    return value


def _mget_sliced(ctx: Context, *keys: bytes) -> Generator[None, None, list[bytes | None]]:
    """Do what MGET does, some keys at a time."""
    values: list[bytes | None] = []
    for start in range(0, len(keys), _MGET_SLICE):
        values += mget(ctx, *keys[start : start + _MGET_SLICE])
        yield
    return values


@command(
    "MGET", arity=-2, flags=READ_FAST, keys=KEYS_ALL, group="string", since="1.0.0",
    complexity="O(N) where N is the number of keys.", syntax="key [key ...]", tips=("request_policy:multi_shard",),
    sliced=_mget_sliced,
)  # fmt: skip
def mget(ctx: Context, *keys: bytes) -> list[bytes | None]:
    """Get the values of all the given keys."""
    view, db, now_ms = ctx.view, ctx.db, ctx.now_ms
    if len(keys) > 1:
        view.prefetch([(db, key) for key in keys])
    values: list[bytes | None] = []
    for key in keys:
        record = view.record(db, key, now_ms)
        if record is None or record[0] & TYPE_MASK:
            values.append(None)
        else:
            values.append(string_value(view, record))
    return values


def _mset_many(ctx: Context, argvs: list[list[bytes]]) -> list[Any] | None:
    """Carry out several MSETs, as `_set_many` does."""
    view, db, lines, last = ctx.view, ctx.db, argvs, argvs[-1]
    if argvs.count(last) == len(argvs) and None not in (view.plain_values(db, last[1::2]) or (None,)):
        lines = [last]  # it overwrites what those before it set, which only take their versions
    pairs = [pair for argv in lines for pair in zip(argv[1::2], argv[2::2], strict=False)]
    if not all(len(argv) & 1 for argv in lines) or max([len(value) for _, value in pairs]) > INLINE_BYTES_MAX:
        return None
    view.registers.counter += (len(argvs) - len(lines)) * len(pairs)
    view.set_plain_many(db, pairs, ctx.now_ms // 1000)
    return ["OK"] * len(argvs)


@command(
    "MSET", arity=-3, flags=WRITE, keys=KEYS_PAIRS, group="string", since="1.0.1",
    complexity="O(N) where N is the number of keys.", syntax="key value [key value ...]", key_flags="OW update",
    tips=("request_policy:multi_shard", "response_policy:all_succeeded"),
    many=_mset_many,
)  # fmt: skip
def mset(ctx: Context, *pairs: bytes) -> str:
    """Set multiple keys to multiple values."""
    _check_pairs(pairs, "mset")
    _set_pairs(ctx, pairs)
    return "OK"


@command(
    "MSETNX", arity=-3, flags=WRITE, keys=KEYS_PAIRS, group="string", since="1.0.1",
    complexity="O(N) where N is the number of keys.", syntax="key value [key value ...]", key_flags="OW insert",
    tips=("request_policy:multi_shard", "response_policy:agg_min"),
)  # fmt: skip
def msetnx(ctx: Context, *pairs: bytes) -> int:
    """Set multiple keys to multiple values, only if none of the keys exist."""
    _check_pairs(pairs, "msetnx")
    view, db, now_ms = ctx.view, ctx.db, ctx.now_ms
    for start in range(0, len(pairs), _SET_SLICE):
        keys = pairs[start : start + _SET_SLICE : 2]
        view.prefetch([(db, key) for key in keys])
        if any(view.record(db, key, now_ms) is not None for key in keys):
            return 0
    _set_pairs(ctx, pairs)
    return 1


def _check_pairs(pairs: tuple[bytes, ...], name: str) -> None:
    if len(pairs) % 2:
        raise DefiniteError(f"wrong number of arguments for '{name}' command")


def _set_pairs(ctx: Context, pairs: tuple[bytes, ...]) -> None:
    view, db, touched_s = ctx.view, ctx.db, ctx.now_ms // 1000
    for start in range(0, len(pairs), _SET_SLICE):
        some = pairs[start : start + _SET_SLICE]
        view.prefetch([(db, key) for key in some[::2]])
        for key, value in zip(some[::2], some[1::2], strict=True):
            if len(value) <= INLINE_BYTES_MAX:
                view.set_plain(db, key, value, touched_s)
            else:
                put_string(view, db, key, value, touched_s)


@command(
    "APPEND", arity=3, flags=WRITE_FAST, keys=KEYS_FIRST, group="string", since="2.0.0",
    complexity="O(N) where N is the length of the appended value.", syntax="key value", key_flags="RW insert",
)  # fmt: skip
def append(ctx: Context, key: bytes, value: bytes) -> int:
    """Append a value to a key."""
    record = ctx.view.record(ctx.db, key, ctx.now_ms)
    if record is None:
        put_string(ctx.view, ctx.db, key, value, ctx.now_ms // 1000)
        return len(value)
    length = string_length(record)
    _checked_length(length + len(value))
    return overwrite(ctx.view, ctx.db, key, record, length, value, ctx.now_ms // 1000)


@command(
    "STRLEN", arity=2, flags=READ_FAST, keys=KEYS_FIRST, group="string", since="2.2.0", complexity="O(1)",
    syntax="key", key_flags="RO",
)  # fmt: skip
def strlen(ctx: Context, key: bytes) -> int:
    """Get the length of the value stored in a key."""
    record = ctx.view.record(ctx.db, key, ctx.now_ms)
    return 0 if record is None else string_length(record)


@command(
    "SETRANGE", arity=4, flags=WRITE, keys=KEYS_FIRST, group="string", since="2.2.0",
    complexity="O(N) where N is the length of the value.", syntax="key offset value", key_flags="RW update",
)  # fmt: skip
def setrange(ctx: Context, key: bytes, offset_text: bytes, value: bytes) -> int:
    """Overwrite part of a string at key starting at the specified offset."""
    offset = parse_integer(offset_text)
    if offset < 0:
        raise DefiniteError("offset is out of range")
    record = ctx.view.record(ctx.db, key, ctx.now_ms)
    length = 0 if record is None else string_length(record)
    if not value:
        return length
    _checked_length(offset + len(value))
    return overwrite(ctx.view, ctx.db, key, record, offset, value, ctx.now_ms // 1000)


def _range(ctx: Context, key: bytes, start_text: bytes, end_text: bytes) -> bytes:
    start, end = parse_integer(start_text), parse_integer(end_text)
    record = ctx.view.record(ctx.db, key, ctx.now_ms)
    if record is None:
        return b""
    length = string_length(record)
    if start < 0:
        start = max(start + length, 0)
    if end < 0:
        # Redis keeps the first byte when both ends lie before the string and start <= end.
        if int(start_text) < 0 and int(start_text) > end:
            return b""
        end = max(end + length, 0)
    return string_range(ctx.view, record, start, min(end + 1, length)) if start <= min(end, length - 1) else b""


@command(
    "GETRANGE", arity=4, flags=READ, keys=KEYS_FIRST, group="string", since="2.4.0",
    complexity="O(N) where N is the length of the returned string.", syntax="key start end",
)  # fmt: skip
def getrange(ctx: Context, key: bytes, start_text: bytes, end_text: bytes) -> bytes:
    """Get a substring of the string stored at a key."""
    return _range(ctx, key, start_text, end_text)


@command(
    "SUBSTR", arity=4, flags=READ, keys=KEYS_FIRST, group="string", since="1.0.0",
    complexity="O(N) where N is the length of the returned string.", syntax="key start end",
    deprecated_since="2.0.0", replaced_by="`GETRANGE`",
)  # fmt: skip
def substr(ctx: Context, key: bytes, start_text: bytes, end_text: bytes) -> bytes:
    """Get a substring of the string stored at a key."""
    return _range(ctx, key, start_text, end_text)
