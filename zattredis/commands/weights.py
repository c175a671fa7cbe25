"""How heavy a write is: about how many elements it has to do with, told by the records of its keys.

These are what `weigh` of a command may be (see `table`). They are asked at apply, before the command, and only decide
whether it is carried out in one go or in turns: the outcome is the same, so a rough answer does, and what is wrong with
the command line is nothing to them.
"""

from __future__ import annotations

from typing import Final

from zattredis.commands.context import Context
from zattredis.commands.table import CommandSpec
from zattredis.keyspace.lists import list_length
from zattredis.keyspace.metadata import LIST, SEPARATE, STRING, TYPE_MASK, size_of

_BYTES_AN_ELEMENT: Final = 1024
"""Of a string: so much is copied or combined in the time of one element of a collection."""
_DUMPED_BYTES_AN_ELEMENT: Final = 16
_REGISTERS: Final = 256
"""What merging one HyperLogLog costs, in elements."""


def _size(ctx: Context, key: bytes) -> int:
    record = ctx.view.record(ctx.db, key, ctx.now_ms)
    if record is None or not record[0] & SEPARATE:
        return 0
    if record[0] & TYPE_MASK == LIST:
        return list_length(record)
    return size_of(record) // _BYTES_AN_ELEMENT if record[0] & TYPE_MASK == STRING else size_of(record)


def of_first(ctx: Context, spec: CommandSpec, argv: list[bytes]) -> int:
    """The whole of what the first argument names."""
    return _size(ctx, argv[1])


def of_second(ctx: Context, spec: CommandSpec, argv: list[bytes]) -> int:
    """The whole of what the second argument names: of ranges that are stored elsewhere."""
    return _size(ctx, argv[2])


def of_sources(ctx: Context, spec: CommandSpec, argv: list[bytes]) -> int:
    """All keys but the first, which is where the result goes."""
    return sum([_size(ctx, key) for key in spec.keys.keys(argv)[1:]])


def of_smallest(ctx: Context, spec: CommandSpec, argv: list[bytes]) -> int:
    """The smallest of the keys but the first, looked up in each of the others."""
    sizes = [_size(ctx, key) for key in spec.keys.keys(argv)[1:]]
    return min(sizes, default=0) * len(sizes)


def of_count(ctx: Context, spec: CommandSpec, argv: list[bytes]) -> int:
    """As many of the first key's elements as the second argument says."""
    return min(int(argv[2]), _size(ctx, argv[1]))


def of_keys_count(ctx: Context, spec: CommandSpec, argv: list[bytes]) -> int:
    """As many elements of one of the keys as the last argument says."""
    return min(int(argv[-1]), max([_size(ctx, key) for key in spec.keys.keys(argv)], default=0))


def of_registers(ctx: Context, spec: CommandSpec, argv: list[bytes]) -> int:
    """A HyperLogLog for each key."""
    return _REGISTERS * len(argv)


def of_dump(ctx: Context, spec: CommandSpec, argv: list[bytes]) -> int:
    """What the third argument holds."""
    return len(argv[3]) // _DUMPED_BYTES_AN_ELEMENT
