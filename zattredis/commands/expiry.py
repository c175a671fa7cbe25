"""The generic group: times to live."""

from __future__ import annotations

from typing import Final

from zattredis.commands.arguments import INTEGER_MAX, INTEGER_MIN, parse_integer
from zattredis.commands.context import Context
from zattredis.commands.table import KEYS_FIRST, Flag, command
from zattredis.errors import DefiniteError, shown
from zattredis.keyspace.metadata import expire_of

_WRITE: Final = Flag.WRITE | Flag.FAST
_READ: Final = Flag.READONLY | Flag.FAST
_HISTORY: Final = (("7.0.0", "Added options: `NX`, `XX`, `GT` and `LT`."),)
_CONDITION: Final = " condition=[NX | XX | GT | LT]@7.0.0"
_NX, _XX, _GT, _LT = 1, 2, 4, 8
_FLAGS: Final = {b"NX": _NX, b"XX": _XX, b"GT": _GT, b"LT": _LT}


def _conditions(words: tuple[bytes, ...]) -> int:
    flags = 0
    for word in words:
        flag = _FLAGS.get(word.upper())
        if flag is None:
            raise DefiniteError(f"Unsupported option {shown(word)}")
        flags |= flag
    if flags & _NX and flags & ~_NX:
        raise DefiniteError("NX and XX, GT or LT options at the same time are not compatible")
    if flags & _GT and flags & _LT:
        raise DefiniteError("GT and LT options at the same time are not compatible")
    return flags


def _allowed(flags: int, present_ms: int, wanted_ms: int) -> bool:
    """Return whether the conditions let `wanted_ms` replace `present_ms`; no expiry counts as never."""
    if flags & _NX and present_ms:
        return False
    if flags & _XX and not present_ms:
        return False
    if flags & _GT and (not present_ms or wanted_ms <= present_ms):
        return False
    return not (flags & _LT and present_ms and wanted_ms >= present_ms)


def _expire(
    ctx: Context, name: str, key: bytes, text: bytes, words: tuple[bytes, ...], factor: int, base_ms: int
) -> int:
    flags = _conditions(words)
    wanted_ms = parse_integer(text) * factor
    if not INTEGER_MIN <= wanted_ms <= INTEGER_MAX or wanted_ms + base_ms > INTEGER_MAX:
        raise DefiniteError(f"invalid expire time in '{name}' command")
    wanted_ms += base_ms
    record = ctx.view.record(ctx.db, key, ctx.now_ms)
    if record is None or (flags and not _allowed(flags, expire_of(record), wanted_ms)):
        return 0
    if wanted_ms <= ctx.now_ms:
        ctx.view.put(ctx.db, key, None)
    else:
        ctx.view.set_expire(ctx.db, key, record, wanted_ms, ctx.now_ms // 1000)
    return 1


@command(
    "EXPIRE", arity=-3, flags=_WRITE, keys=KEYS_FIRST, group="generic", since="1.0.0", complexity="O(1)",
    syntax="key seconds" + _CONDITION, history=_HISTORY,
)  # fmt: skip
def expire(ctx: Context, key: bytes, seconds: bytes, *words: bytes) -> int:
    """Set a key's time to live in seconds."""
    return _expire(ctx, "expire", key, seconds, words, 1000, ctx.now_ms)


@command(
    "PEXPIRE", arity=-3, flags=_WRITE, keys=KEYS_FIRST, group="generic", since="2.6.0", complexity="O(1)",
    syntax="key milliseconds" + _CONDITION, history=_HISTORY,
)  # fmt: skip
def pexpire(ctx: Context, key: bytes, milliseconds: bytes, *words: bytes) -> int:
    """Set a key's time to live in milliseconds."""
    return _expire(ctx, "pexpire", key, milliseconds, words, 1, ctx.now_ms)


@command(
    "EXPIREAT", arity=-3, flags=_WRITE, keys=KEYS_FIRST, group="generic", since="1.2.0", complexity="O(1)",
    syntax="key unix-time-seconds" + _CONDITION, history=_HISTORY,
)  # fmt: skip
def expireat(ctx: Context, key: bytes, seconds: bytes, *words: bytes) -> int:
    """Set the expiration for a key as a UNIX timestamp."""
    return _expire(ctx, "expireat", key, seconds, words, 1000, 0)


@command(
    "PEXPIREAT", arity=-3, flags=_WRITE, keys=KEYS_FIRST, group="generic", since="2.6.0", complexity="O(1)",
    syntax="key unix-time-milliseconds" + _CONDITION, history=_HISTORY,
)  # fmt: skip
def pexpireat(ctx: Context, key: bytes, milliseconds: bytes, *words: bytes) -> int:
    """Set the expiration for a key as a UNIX timestamp specified in milliseconds."""
    return _expire(ctx, "pexpireat", key, milliseconds, words, 1, 0)


def _remaining_ms(ctx: Context, key: bytes) -> int:
    """Return what is left of the key's life in ms, -1 when it never expires, -2 when it does not exist."""
    expire_ms = _expiry_ms(ctx, key)
    return expire_ms if expire_ms < 0 else max(expire_ms - ctx.now_ms, 0)


def _expiry_ms(ctx: Context, key: bytes) -> int:
    record = ctx.view.record(ctx.db, key, ctx.now_ms)
    return -2 if record is None else expire_of(record) or -1


@command(
    "TTL", arity=2, flags=_READ, keys=KEYS_FIRST, group="generic", since="1.0.0", complexity="O(1)", syntax="key",
    tips=("nondeterministic_output",), history=(("2.8.0", "Added the -2 reply."),),
)  # fmt: skip
def ttl(ctx: Context, key: bytes) -> int:
    """Get the time to live for a key in seconds."""
    left_ms = _remaining_ms(ctx, key)
    return left_ms if left_ms < 0 else (left_ms + 500) // 1000


@command(
    "PTTL", arity=2, flags=_READ, keys=KEYS_FIRST, group="generic", since="2.6.0", complexity="O(1)", syntax="key",
    tips=("nondeterministic_output",), history=(("2.8.0", "Added the -2 reply."),),
)  # fmt: skip
def pttl(ctx: Context, key: bytes) -> int:
    """Get the time to live for a key in milliseconds."""
    return _remaining_ms(ctx, key)


@command(
    "EXPIRETIME", arity=2, flags=_READ, keys=KEYS_FIRST, group="generic", since="7.0.0", complexity="O(1)",
    syntax="key",
)  # fmt: skip
def expiretime(ctx: Context, key: bytes) -> int:
    """Get the expiration Unix timestamp for a key."""
    expire_ms = _expiry_ms(ctx, key)
    return expire_ms if expire_ms < 0 else (expire_ms + 500) // 1000


@command(
    "PEXPIRETIME", arity=2, flags=_READ, keys=KEYS_FIRST, group="generic", since="7.0.0", complexity="O(1)",
    syntax="key",
)  # fmt: skip
def pexpiretime(ctx: Context, key: bytes) -> int:
    """Get the expiration Unix timestamp for a key in milliseconds."""
    return _expiry_ms(ctx, key)


@command(
    "PERSIST", arity=2, flags=_WRITE, keys=KEYS_FIRST, group="generic", since="2.2.0", complexity="O(1)", syntax="key",
    idle_if_absent=True,
)  # fmt: skip
def persist(ctx: Context, key: bytes) -> int:
    """Remove the expiration from a key."""
    record = ctx.view.record(ctx.db, key, ctx.now_ms)
    if record is None or not expire_of(record):
        return 0
    ctx.view.set_expire(ctx.db, key, record, 0, ctx.now_ms // 1000)
    return 1
