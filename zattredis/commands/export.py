"""RAFT EXPORT: all keys of all databases as they are at one point in time.

Redis has no such command: what it would have to fork for, a frozen reader of the store gives.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from zattredis.commands.arguments import strict_integer
from zattredis.commands.context import Context, Steps, Stream
from zattredis.commands.raft import SINCE
from zattredis.commands.table import Flag, command
from zattredis.errors import DefiniteError
from zattredis.keyspace.keys import K_HEADER_BYTES
from zattredis.keyspace.metadata import MAY_EXPIRE, expire_of, is_expired
from zattredis.keyspace.rdb import dump_steps
from zattredis.keyspace.registers import DATABASES
from zattredis.keyspace.view import View

_SLICE_KEYS: Final = 64
_PIECE_BYTES: Final = 64 << 10


@command(
    "RAFT EXPORT", arity=-2, flags=Flag.READONLY | Flag.HEAVY | Flag.ADMIN, group="server", since=SINCE,
    complexity="O(N) where N is the data", syntax="[database:integer]", categories=("keyspace", "dangerous"),
    tips=("nondeterministic_output_order",),
)  # fmt: skip
def raft_export(ctx: Context, *words: bytes) -> Steps:
    """Return every key at one point in time: its database, its name, when it expires (in ms, or 0), and its dump."""
    view, now_ms = ctx.view, ctx.now_ms
    databases = _databases(words)
    count = 0
    for number, _ in enumerate(_living(view, databases, now_ms), 1):
        count += 1
        if number % _SLICE_KEYS == 0:
            yield None
    yield Stream(list, count)
    piece: list[Any] = []
    size = 0
    for db, key, record in _living(view, databases, now_ms):
        steps = dump_steps(view, record, now_ms, packed=False)
        while True:
            try:
                next(steps)
            except StopIteration as end:
                dump: bytes = end.value
                break
            yield None
        piece.append([db, key, expire_of(record), dump])
        size += len(dump) + len(key)
        if size > _PIECE_BYTES or len(piece) >= _SLICE_KEYS:
            yield piece
            piece, size = [], 0
    yield piece
    return None


def _databases(words: tuple[bytes, ...]) -> range:
    """Return the databases that are asked for. Raises DefiniteError."""
    if not words:
        return range(DATABASES)
    number = strict_integer(words[0])
    if len(words) > 1 or number is None or not 0 <= number < DATABASES:
        raise DefiniteError("DB index is out of range")
    return range(number, number + 1)


def _living(view: View, databases: range, now_ms: int) -> Iterator[tuple[int, bytes, bytes]]:
    """Yield (database, key, record) of every key that lives."""
    for db in databases:
        prefix = view.k_prefix(db)
        for k, record in view.iterate(prefix, prefix + b"\xff"):
            if not (record[0] & MAY_EXPIRE and is_expired(record, now_ms)):
                yield db, k[K_HEADER_BYTES:], record
