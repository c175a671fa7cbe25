"""The generic group: OBJECT, and MEMORY USAGE: what is known about a key beside its value."""

from __future__ import annotations

from typing import Final

from zattredis.commands.arguments import Options, parse_integer
from zattredis.commands.context import Context
from zattredis.commands.table import KEYS_SECOND, Flag, command, container
from zattredis.errors import DefiniteError, SyntaxReplyError
from zattredis.keyspace.keys import K_HEADER_BYTES
from zattredis.keyspace.metadata import HEADER_BYTES, touched_of
from zattredis.keyspace.types import functions_of

_SHARED_INTEGERS: Final = 10_000
_SHARED_REFERENCES: Final = 2_147_483_647
_TIPS: Final = ("nondeterministic_output",)

container(
    "OBJECT", "A container for object introspection commands", group="generic", since="2.2.3", help_since="6.2.0",
    help_categories=("keyspace",),
)  # fmt: skip


@command(
    "OBJECT ENCODING", arity=3, flags=Flag.READONLY, keys=KEYS_SECOND, group="generic", since="2.2.3",
    complexity="O(1)", syntax="key", key_flags="RO", tips=_TIPS,
)  # fmt: skip
def object_encoding(ctx: Context, key: bytes) -> bytes | None:
    """Inspect the internal encoding of a Redis object."""
    record = ctx.view.record(ctx.db, key, ctx.now_ms)
    return None if record is None else functions_of(record).encoding(record)


@command(
    "OBJECT REFCOUNT", arity=3, flags=Flag.READONLY, keys=KEYS_SECOND, group="generic", since="2.2.3",
    complexity="O(1)", syntax="key", key_flags="RO", tips=_TIPS,
)  # fmt: skip
def object_refcount(ctx: Context, key: bytes) -> int | None:
    """Get the number of references to the value of the key; as in Redis, small integers are shared."""
    record = ctx.view.record(ctx.db, key, ctx.now_ms)
    if record is None:
        return None
    shared = functions_of(record).encoding(record) == b"int" and 0 <= int(record[HEADER_BYTES:]) < _SHARED_INTEGERS
    return _SHARED_REFERENCES if shared else 1


@command(
    "OBJECT IDLETIME", arity=3, flags=Flag.READONLY, keys=KEYS_SECOND, group="generic", since="2.2.3",
    complexity="O(1)", syntax="key", key_flags="RO", tips=_TIPS,
)  # fmt: skip
def object_idletime(ctx: Context, key: bytes) -> int | None:
    """Get the time since a Redis object was last written; reads leave no trace in replicated state."""
    record = ctx.view.record(ctx.db, key, ctx.now_ms)
    return None if record is None else max(ctx.now_ms // 1000 - touched_of(record), 0)


@command(
    "OBJECT FREQ", arity=3, flags=Flag.READONLY, keys=KEYS_SECOND, group="generic", since="4.0.0",
    complexity="O(1)", syntax="key", key_flags="RO", tips=_TIPS,
)  # fmt: skip
def object_freq(ctx: Context, key: bytes) -> None:
    """Get the logarithmic access frequency counter of a Redis object; always refused, there is no LFU policy."""
    if ctx.view.record(ctx.db, key, ctx.now_ms) is not None:
        raise DefiniteError(
            "An LFU maxmemory policy is not selected, access frequency not tracked. Please note that when switching"
            " between policies at runtime LRU and LFU data will take some time to adjust."
        )


@command(
    "MEMORY USAGE", arity=-3, flags=Flag.READONLY, keys=KEYS_SECOND, group="server", since="4.0.0",
    complexity="O(1)", syntax="key [SAMPLES count]", key_flags="RO",
)  # fmt: skip
def memory_usage(ctx: Context, key: bytes, *words: bytes) -> int | None:
    """Estimate the bytes that a key and its value take in the store, before compression."""
    options = Options(words)
    while options.more():
        if options.word() != b"SAMPLES" or parse_integer(options.argument()) < 0:
            raise SyntaxReplyError
    record = ctx.view.record(ctx.db, key, ctx.now_ms)
    if record is None:
        return None
    return K_HEADER_BYTES + len(key) + functions_of(record).size(record)
