"""The string group: LCS."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from zattredis.commands.arguments import Options, parse_integer
from zattredis.commands.context import Context
from zattredis.commands.table import KEYS_TWO, Flag, KeyPart, command
from zattredis.errors import DefiniteError, SyntaxReplyError
from zattredis.keyspace.lcs import LcsTable
from zattredis.keyspace.metadata import STRING, TYPE_MASK
from zattredis.keyspace.sizes import STRING_BYTES_MAX
from zattredis.keyspace.strings import string_value

_CELL_BYTES = 4
"""What Redis reckons for a cell of its table; the bound on cells follows from it."""


def _string(ctx: Context, key: bytes) -> bytes:
    record = ctx.view.record(ctx.db, key, ctx.now_ms)
    if record is None:
        return b""
    if record[0] & TYPE_MASK != STRING:
        raise DefiniteError("The specified keys must contain string values")
    return string_value(ctx.view, record)


@command(
    "LCS", arity=-3, flags=Flag.READONLY | Flag.HEAVY, keys=KEYS_TWO, group="string", since="7.0.0",
    complexity="O(N*M) where N and M are the lengths of the strings.",
    syntax="key1 key2 [LEN] [IDX] [MINMATCHLEN len] [WITHMATCHLEN]",
    key_parts=(KeyPart("RO access", index=1, last=1),),
)  # fmt: skip
def lcs(ctx: Context, key1: bytes, key2: bytes, *words: bytes) -> Generator[None, None, Any]:
    """Find the longest common subsequence."""
    a, b = _string(ctx, key1), _string(ctx, key2)
    only_length = indexes = with_length = False
    length_min = 0
    options = Options(words)
    while options.more():
        word = options.word()
        if word == b"IDX":
            indexes = True
        elif word == b"LEN":
            only_length = True
        elif word == b"WITHMATCHLEN":
            with_length = True
        elif word == b"MINMATCHLEN":
            length_min = max(parse_integer(options.argument()), 0)
        else:
            raise SyntaxReplyError
    if indexes and only_length:
        raise DefiniteError("If you want both the length and indexes, please just use IDX.")
    if (len(a) + 1) * (len(b) + 1) * _CELL_BYTES > STRING_BYTES_MAX:
        raise DefiniteError("Insufficient memory, transient memory for LCS exceeds proto-max-bulk-len")
    table = LcsTable(a, b)
    yield from table.fill(keep_rows=not only_length)
    if only_length:
        return table.length
    matches = yield from table.matches()
    if not indexes:
        return b"".join(a[match.start_a : match.end_a + 1] for match in reversed(matches))
    ranges = []
    for match in matches:
        if match.length >= length_min:
            ends: list[Any] = [[match.start_a, match.end_a], [match.start_b, match.end_b]]
            ranges.append([*ends, match.length] if with_length else ends)
    return {b"matches": ranges, b"len": table.length}
