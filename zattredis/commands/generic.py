"""The generic group: keys of any type, whole."""

from __future__ import annotations

from typing import Final

from zattredis.commands.arguments import Options, parse_database
from zattredis.commands.context import Context, Steps
from zattredis.commands.table import KEYS_ALL, KEYS_FIRST, KEYS_TWO, Flag, KeyPart, command
from zattredis.commands.weights import of_first
from zattredis.errors import DefiniteError, SyntaxReplyError
from zattredis.keyspace.metadata import TYPE_MASK, TYPE_NAMES, expire_of
from zattredis.keyspace.registers import DATABASES
from zattredis.keyspace.sizes import SLICED_ELEMENTS
from zattredis.keyspace.types import functions_of

_BATCH: Final = 256
_NO_KEY = "no such key"
_SAME = "source and destination objects are the same"


def _delete(ctx: Context, keys: tuple[bytes, ...]) -> int:
    view, db, now_ms = ctx.view, ctx.db, ctx.now_ms
    deleted = 0
    for start in range(0, len(keys), _BATCH):
        some = keys[start : start + _BATCH]
        if len(some) > 1:
            view.prefetch([(db, key) for key in some])
        for key in some:
            deleted += view.delete(db, key, now_ms)
    return deleted


def _count(ctx: Context, keys: tuple[bytes, ...]) -> int | Steps:
    if len(keys) > SLICED_ELEMENTS:
        return _count_in_slices(ctx, keys)
    view, db, now_ms = ctx.view, ctx.db, ctx.now_ms
    if len(keys) > 1:
        view.prefetch([(db, key) for key in keys])
    return sum(view.record(db, key, now_ms) is not None for key in keys)


def _count_in_slices(ctx: Context, keys: tuple[bytes, ...]) -> Steps:
    count = 0
    for start in range(0, len(keys), _BATCH):
        some = _count(ctx, keys[start : start + _BATCH])
        assert isinstance(some, int)
        count += some
        yield None
    return count


@command(
    "DEL", arity=-2, flags=Flag.WRITE, keys=KEYS_ALL, group="generic", since="1.0.0",
    complexity="O(N) where N is the number of keys; the content of a large one is reclaimed later.",
    syntax="key [key ...]", key_flags="RM delete", tips=("request_policy:multi_shard", "response_policy:agg_sum"),
)  # fmt: skip
def del_(ctx: Context, *keys: bytes) -> int:
    """Delete a key."""
    return _delete(ctx, keys)


@command(
    "UNLINK", arity=-2, flags=Flag.WRITE | Flag.FAST, keys=KEYS_ALL, group="generic", since="4.0.0",
    complexity="O(N) where N is the number of keys; the content of a large one is reclaimed later.",
    syntax="key [key ...]", key_flags="RM delete", tips=("request_policy:multi_shard", "response_policy:agg_sum"),
)  # fmt: skip
def unlink(ctx: Context, *keys: bytes) -> int:
    """Delete a key; the same as DEL, which never waits for the content to be reclaimed either."""
    return _delete(ctx, keys)


@command(
    "EXISTS", arity=-2, flags=Flag.READONLY | Flag.FAST, keys=KEYS_ALL, group="generic", since="1.0.0",
    complexity="O(N) where N is the number of keys.", syntax="key [key ...]", key_flags="RO",
    tips=("request_policy:multi_shard", "response_policy:agg_sum"),
    history=(("3.0.3", "Accepts multiple `key` arguments."),),
)  # fmt: skip
def exists(ctx: Context, *keys: bytes) -> int | Steps:
    """Determine if a key exists."""
    return _count(ctx, keys)


@command(
    "TOUCH", arity=-2, flags=Flag.READONLY | Flag.FAST, keys=KEYS_ALL, group="generic", since="3.2.1",
    complexity="O(N) where N is the number of keys.", syntax="key [key ...]", key_flags="RO",
    tips=("request_policy:multi_shard", "response_policy:agg_sum"),
)  # fmt: skip
def touch(ctx: Context, *keys: bytes) -> int | Steps:
    """Return the number of existing keys specified; last access times follow writes alone."""
    return _count(ctx, keys)


@command(
    "TYPE", arity=2, flags=Flag.READONLY | Flag.FAST, keys=KEYS_FIRST, group="generic", since="1.0.0",
    complexity="O(1)", syntax="key", key_flags="RO",
)  # fmt: skip
def type_(ctx: Context, key: bytes) -> str:
    """Determine the type stored at key."""
    record = ctx.view.record(ctx.db, key, ctx.now_ms)
    return "none" if record is None else TYPE_NAMES[record[0] & TYPE_MASK]


def _rename(ctx: Context, key: bytes, new_key: bytes, only_new: bool) -> bool:
    view = ctx.view
    if view.record(ctx.db, key, ctx.now_ms) is None:
        raise DefiniteError(_NO_KEY)
    if key == new_key:
        return not only_new
    if only_new and view.record(ctx.db, new_key, ctx.now_ms) is not None:
        return False
    view.move(ctx.db, key, ctx.db, new_key, ctx.now_ms // 1000)
    return True


@command(
    "RENAME", arity=3, flags=Flag.WRITE, keys=KEYS_TWO, group="generic", since="1.0.0", complexity="O(1)",
    syntax="key newkey", key_parts=(KeyPart("RW access delete", index=1), KeyPart("OW update", index=2)),
)  # fmt: skip
def rename(ctx: Context, key: bytes, new_key: bytes) -> str:
    """Rename a key."""
    _rename(ctx, key, new_key, only_new=False)
    return "OK"


@command(
    "RENAMENX", arity=3, flags=Flag.WRITE | Flag.FAST, keys=KEYS_TWO, group="generic", since="1.0.0",
    complexity="O(1)", syntax="key newkey",
    key_parts=(KeyPart("RW access delete", index=1), KeyPart("OW insert", index=2)),
    history=(("3.2.0", "The command no longer returns an error when source and destination names are the same."),),
)  # fmt: skip
def renamenx(ctx: Context, key: bytes, new_key: bytes) -> int:
    """Rename a key, only if the new key does not exist."""
    return int(_rename(ctx, key, new_key, only_new=True))


@command(
    "MOVE", arity=3, flags=Flag.WRITE | Flag.FAST, keys=KEYS_FIRST, group="generic", since="1.0.0", complexity="O(1)",
    syntax="key db", key_flags="RW access update",
)  # fmt: skip
def move(ctx: Context, key: bytes, db: bytes) -> int:
    """Move a key to another database."""
    to_db = parse_database(db, DATABASES)
    if to_db == ctx.db:
        raise DefiniteError(_SAME)
    view = ctx.view
    if view.record(ctx.db, key, ctx.now_ms) is None or view.record(to_db, key, ctx.now_ms) is not None:
        return 0
    view.move(ctx.db, key, to_db, key, ctx.now_ms // 1000)
    return 1


@command(
    "COPY", arity=-3, flags=Flag.WRITE | Flag.DENYOOM, keys=KEYS_TWO, group="generic", since="6.2.0",
    complexity="O(N) where N is the size of the value.",
    syntax="source destination [DB destination-db] [REPLACE]",
    key_parts=(KeyPart("RO access", index=1), KeyPart("OW update", index=2)),
    weigh=of_first,
)  # fmt: skip
def copy(ctx: Context, source: bytes, destination: bytes, *words: bytes) -> int:
    """Copy a key."""
    to_db, replace = ctx.db, False
    options = Options(words)
    while options.more():
        word = options.word()
        if word == b"REPLACE":
            replace = True
        elif word == b"DB":
            to_db = parse_database(options.argument(), DATABASES)
        else:
            raise SyntaxReplyError
    if to_db == ctx.db and source == destination:
        raise DefiniteError(_SAME)
    view = ctx.view
    record = view.record(ctx.db, source, ctx.now_ms)
    if record is None or (not replace and view.record(to_db, destination, ctx.now_ms) is not None):
        return 0
    functions_of(record).copy(view, record, to_db, destination, expire_of(record), ctx.now_ms // 1000)
    return 1
