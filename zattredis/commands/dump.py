"""The generic group: DUMP and RESTORE."""

from __future__ import annotations

from typing import Any, Final

from zattredis.commands.arguments import INTEGER_MAX, Options, parse_integer
from zattredis.commands.context import Context, Steps, drain
from zattredis.commands.table import KEYS_FIRST, Flag, command
from zattredis.commands.weights import of_dump
from zattredis.errors import DefiniteError, SyntaxReplyError
from zattredis.keyspace.metadata import STRING, TYPE_MASK
from zattredis.keyspace.rdb import dump_steps, load
from zattredis.keyspace.rdb_read import living
from zattredis.keyspace.sizes import INLINE_BYTES_MAX, SLICED_ELEMENTS
from zattredis.keyspace.types import TYPES, functions_of

_STRING_TYPE: Final = b"\0"


class BusyKey(DefiniteError):
    """RESTORE onto a key that exists, without REPLACE."""

    prefix = "BUSYKEY"

    def __init__(self) -> None:
        super().__init__("Target key name already exists.")


@command(
    "DUMP", arity=2, flags=Flag.READONLY, keys=KEYS_FIRST, group="generic", since="2.6.0",
    complexity="O(N) where N is the size of the value.", syntax="key", tips=("nondeterministic_output",),
)  # fmt: skip
def dump(ctx: Context, key: bytes) -> Steps | bytes | None:
    """Return a serialized version of the value stored at the specified key."""
    view, now_ms = ctx.view, ctx.now_ms
    record = view.record(ctx.db, key, now_ms)
    if record is None:
        return None
    steps = dump_steps(view, record, now_ms)
    functions = functions_of(record)
    is_long = record[0] & TYPE_MASK != STRING and functions.length(view, record, now_ms) > SLICED_ELEMENTS
    return steps if is_long else bytes(drain(steps))


class _RestoreOptions:
    __slots__ = ("absolute", "frequency", "idle_s", "replace")

    def __init__(self, words: tuple[bytes, ...]) -> None:
        self.replace = self.absolute = False
        self.idle_s = self.frequency = -1
        options = Options(words)
        while options.more():
            word = options.word()
            if word == b"REPLACE":
                self.replace = True
            elif word == b"ABSTTL":
                self.absolute = True
            elif word == b"IDLETIME" and self.frequency == -1:
                self.idle_s = parse_integer(options.argument())
                if self.idle_s < 0:
                    raise DefiniteError("Invalid IDLETIME value, must be >= 0")
            elif word == b"FREQ" and self.idle_s == -1:
                self.frequency = parse_integer(options.argument())
                if not 0 <= self.frequency <= 255:
                    raise DefiniteError("Invalid FREQ value, must be >= 0 and <= 255")
            else:
                raise SyntaxReplyError


def _restore_many(ctx: Context, argvs: list[list[bytes]]) -> list[Any] | None:
    """Carry out several RESTOREs of short strings, without options, onto absent keys: what an import brings."""
    view, db, now_ms = ctx.view, ctx.db, ctx.now_ms
    pairs: dict[bytes, bytes] = {}
    try:
        for _, key, ttl, dumped in argvs:
            if dumped[:1] != _STRING_TYPE or ttl != b"0" or view.record(db, key, now_ms) is not None:
                return None
            value: bytes = load(dumped).value
            if len(value) > INLINE_BYTES_MAX:
                return None
            pairs[key] = value
    except (ValueError, DefiniteError):  # other numbers of words, other dumps: one by one
        return None
    if len(pairs) < len(argvs):
        return None
    view.set_plain_many(db, list(pairs.items()), now_ms // 1000)
    return ["OK"] * len(argvs)


_NO_OPTIONS: Final = _RestoreOptions(())


@command(
    "RESTORE", arity=-4, flags=Flag.WRITE | Flag.DENYOOM, keys=KEYS_FIRST, group="generic", since="2.6.0",
    complexity="O(N) where N is the size of the value.",
    syntax="key ttl serialized-value [REPLACE@3.0.0] [ABSTTL@5.0.0] [IDLETIME@5.0.0 seconds] [FREQ@5.0.0 frequency]",
    categories=("keyspace", "dangerous"), key_flags="OW update",
    history=(
        ("3.0.0", "Added the `REPLACE` modifier."),
        ("5.0.0", "Added the `ABSTTL` modifier."),
        ("5.0.0", "Added the `IDLETIME` and `FREQ` options."),
    ),
    many=_restore_many,
    weigh=of_dump,
)  # fmt: skip
def restore(ctx: Context, key: bytes, ttl: bytes, dumped: bytes, *words: bytes) -> str:
    """Create a key using the provided serialized value, previously obtained using DUMP."""
    options = _RestoreOptions(words) if words else _NO_OPTIONS
    view = ctx.view
    if not options.replace and view.record(ctx.db, key, ctx.now_ms) is not None:
        raise BusyKey
    expire_ms = 0 if ttl == b"0" else parse_integer(ttl)
    if expire_ms < 0:
        raise DefiniteError("Invalid TTL value, must be >= 0")
    loaded = living(load(dumped), ctx.now_ms)
    if expire_ms and not options.absolute:
        expire_ms += ctx.now_ms
    if expire_ms and not ctx.now_ms < expire_ms <= INTEGER_MAX:
        # Redis's sum wraps around beyond 64 bits: such a key has expired, too.
        view.put(ctx.db, key, None)
        return "OK"
    touched_s = max(ctx.now_ms // 1000 - max(options.idle_s, 0), 0)
    TYPES[loaded.kind].put(view, ctx.db, key, loaded, touched_s, expire_ms)
    return "OK"
