"""The generic group: finding keys."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Generator
from typing import Final

from zattredis.commands.arguments import Options, parse_integer
from zattredis.commands.context import Context
from zattredis.commands.glob import compile_glob
from zattredis.commands.table import Flag, command
from zattredis.errors import DefiniteError, SyntaxReplyError
from zattredis.keyspace.metadata import TYPE_MASK, TYPE_NAMES
from zattredis.keyspace.scan import live_keys, random_key, scan_window

_SLICE_KEYS: Final = 64
"""Each may come with 64 KiB of value, which the store reads along."""
COUNT_DEFAULT: Final = 10
_CURSOR: Final = re.compile(rb"[+-]?[0-9]+")
_CURSOR_END: Final = 1 << 64


@command(
    "KEYS", arity=2, flags=Flag.READONLY | Flag.HEAVY, group="generic", since="1.0.0",
    complexity="O(N) with N being the number of keys in the database.", syntax="pattern",
    categories=("keyspace", "dangerous"), tips=("request_policy:all_shards", "nondeterministic_output_order"),
)  # fmt: skip
def keys(ctx: Context, pattern: bytes) -> Generator[None, None, list[bytes]]:
    """Find all keys matching the given pattern."""
    match = None if pattern == b"*" else compile_glob(pattern)
    found: list[bytes] = []
    for number, key in enumerate(live_keys(ctx.view, ctx.db, ctx.now_ms), 1):
        if key is not None and (match is None or match(key)):
            found.append(key)
        if number % _SLICE_KEYS == 0:
            yield
    return found


@command(
    "SCAN", arity=-2, flags=Flag.READONLY, group="generic", since="2.8.0",
    complexity="O(COUNT) for every call, at most some thousand keys; O(N) for a complete iteration.",
    syntax="cursor [MATCH pattern] [COUNT count] [TYPE@6.0.0 type]",
    tips=("nondeterministic_output", "request_policy:special"),
    history=(("6.0.0", "Added the `TYPE` subcommand."),),
)  # fmt: skip
def scan(ctx: Context, cursor: bytes, *words: bytes) -> list[bytes | list[bytes]]:
    """Incrementally iterate the keys space."""
    position = parse_cursor(cursor)
    options = ScanOptions(words, named=(b"TYPE",))
    match, wanted = options.match, options.others.get(b"TYPE")
    if wanted is not None:
        wanted = wanted.lower()
    following, pairs = scan_window(ctx.view, ctx.db, position, options.count, ctx.now_ms)
    found = [
        key
        for key, record in pairs
        if (match is None or match(key))
        and (wanted is None or TYPE_NAMES[record[0] & TYPE_MASK].encode("ascii") == wanted)
    ]
    return [b"%d" % following, found]


class ScanOptions:
    """What stands behind the cursor of SCAN and its kin: `match`, a test of names (None: all pass), `count`, how many
    to look at, and under their names the `others` that one of them has (b"" for a flag).

    Raises SyntaxReplyError for anything else, DefiniteError for a count that is no integer.
    """

    __slots__ = ("count", "match", "others")

    def __init__(self, words: tuple[bytes, ...], named: Collection[bytes] = (), flags: Collection[bytes] = ()) -> None:
        self.match: Callable[[bytes], bool] | None = None
        self.count = COUNT_DEFAULT
        self.others: dict[bytes, bytes] = {}
        options = Options(words)
        while options.more():
            word = options.word()
            if word == b"COUNT":
                self.count = parse_integer(options.argument())
                if self.count < 1:
                    raise SyntaxReplyError
            elif word == b"MATCH":
                pattern = options.argument()
                self.match = None if pattern == b"*" else compile_glob(pattern)
            elif word in named:
                self.others[word] = options.argument()
            elif word in flags:
                self.others[word] = b""
            else:
                raise SyntaxReplyError


def parse_cursor(text: bytes) -> int:
    """Return a SCAN cursor, read as Redis reads it: by strtoul, up to a zero byte. Raises DefiniteError."""
    text = text.partition(b"\0")[0]
    if not text:
        return 0
    if _CURSOR.fullmatch(text) is None:
        raise DefiniteError("invalid cursor")
    digits = text.lstrip(b"+-0")
    value = int(digits or b"0") if len(digits) <= 20 else _CURSOR_END
    if value >= _CURSOR_END:
        raise DefiniteError("invalid cursor")
    return -value % _CURSOR_END if text.startswith(b"-") else value


@command(
    "RANDOMKEY", arity=1, flags=Flag.READONLY, group="generic", since="1.0.0", complexity="O(1)",
    tips=("request_policy:all_shards", "nondeterministic_output"),
)  # fmt: skip
def randomkey(ctx: Context) -> bytes | None:
    """Return a random key from the keyspace."""
    return random_key(ctx.view, ctx.db, ctx.now_ms, ctx.random)
