"""The bitmap group: strings as rows of bits."""

from __future__ import annotations

from typing import Final, NamedTuple

from zattredis.commands.arguments import parse_integer, strict_integer
from zattredis.commands.context import Context, Steps, Stream, drain
from zattredis.commands.table import KEYS_FIRST, Flag, KeyPart, KeySpec, command
from zattredis.commands.weights import of_sources
from zattredis.errors import DefiniteError, SyntaxReplyError
from zattredis.keyspace.bits import OPERATIONS, Fields, combine, count_bits, find_bit
from zattredis.keyspace.sizes import SLICED_ELEMENTS, STRING_BYTES_MAX
from zattredis.keyspace.strings import check_string, string_length

_SLICED_BYTES: Final = 1 << 20
"""Counting and finding within more bytes than this runs in slices."""
_BATCH: Final = 256
_BAD_OFFSET: Final = "bit offset is not an integer or out of range"
_BAD_BIT: Final = "bit is not an integer or out of range"
_BAD_TYPE: Final = "Invalid bitfield type. Use something like i16 u8. Note that u64 is not supported but i64 is."


def _record(ctx: Context, key: bytes) -> bytes | None:
    record = ctx.view.record(ctx.db, key, ctx.now_ms)
    if record is not None:
        check_string(record)
    return record


def _wrapped(value: int) -> int:
    """Return what 64 bits, two's complement, keep of an integer."""
    return (value + (1 << 63)) % (1 << 64) - (1 << 63)


def _parse_offset(text: bytes, bits: int = 0) -> int:
    """Return a bit offset; `#n` is n times `bits` where those are given. Raises DefiniteError."""
    times = bits if bits and text[:1] == b"#" else 0
    offset = strict_integer(text[1:] if times else text)
    if offset is None:
        raise DefiniteError(_BAD_OFFSET)
    if times:
        offset = _wrapped(offset * times)
    if offset < 0 or offset >> 3 >= STRING_BYTES_MAX:
        raise DefiniteError(_BAD_OFFSET)
    return offset


@command(
    "SETBIT", arity=4, flags=Flag.WRITE | Flag.DENYOOM, keys=KEYS_FIRST, group="bitmap", since="2.2.0",
    complexity="O(1)", syntax="key offset value:integer", key_flags="RW access update",
)  # fmt: skip
def setbit(ctx: Context, key: bytes, offset_text: bytes, value: bytes) -> int:
    """Set or clear the bit at offset in the string value stored at key."""
    offset = _parse_offset(offset_text)
    bit = parse_integer(value, _BAD_BIT)
    if bit not in (0, 1):
        raise DefiniteError(_BAD_BIT)
    fields = Fields(ctx.view, ctx.db, key, _record(ctx, key), ctx.now_ms // 1000, (offset >> 3) + 1)
    before = fields.get(offset, 1)
    if before != bit:
        fields.set(offset, 1, bit)
    fields.close()
    return before


@command(
    "GETBIT", arity=3, flags=Flag.READONLY | Flag.FAST, keys=KEYS_FIRST, group="bitmap", since="2.2.0",
    complexity="O(1)", syntax="key offset",
)  # fmt: skip
def getbit(ctx: Context, key: bytes, offset_text: bytes) -> int:
    """Return the bit value at offset in the string value stored at key."""
    offset = _parse_offset(offset_text)
    record = _record(ctx, key)
    return 0 if record is None else Fields(ctx.view, ctx.db, key, record, 0).get(offset, 1)


# -- ranges ------------------------------------------------------------------------------------------------------------


def _is_bit(words: tuple[bytes, ...]) -> bool:
    """Return whether the word behind a range, if there is one, says BIT. Raises SyntaxReplyError."""
    unit = words[0].upper() if words else b"BYTE"
    if unit not in (b"BIT", b"BYTE"):
        raise SyntaxReplyError
    return unit == b"BIT"


def _bit_range(length: int, start: int, end: int, is_bit: bool) -> tuple[int, int]:
    """Return the first and the last bit that a range of a string of `length` bytes means."""
    total = length * 8 if is_bit else length
    start = max(start + total if start < 0 else start, 0)
    end = min(max(end + total if end < 0 else end, 0), total - 1)
    return (start, end) if is_bit else (start * 8, end * 8 + 7)


def _run(steps: Steps, first: int, last: int) -> int | Steps:
    return steps if last - first > _SLICED_BYTES * 8 else int(drain(steps))


@command(
    "BITCOUNT", arity=-2, flags=Flag.READONLY, keys=KEYS_FIRST, group="bitmap", since="2.6.0", complexity="O(N)",
    syntax="key index=[start end index_unit=[BYTE | BIT]@7.0.0]",
    history=(("7.0.0", "Added the `BYTE|BIT` option."),),
)  # fmt: skip
def bitcount(ctx: Context, key: bytes, *words: bytes) -> int | Steps:
    """Count set bits in a string."""
    record = _record(ctx, key)
    if record is None:
        return 0
    start, end, is_bit = 0, -1, False
    if words:
        if len(words) not in (2, 3):
            raise SyntaxReplyError
        start, end = parse_integer(words[0]), parse_integer(words[1])
        if start < 0 and end < 0 and start > end:
            return 0
        is_bit = _is_bit(words[2:])
    first, last = _bit_range(string_length(record), start, end, is_bit)
    return _run(count_bits(ctx.view, record, first, last), first, last) if first <= last else 0


@command(
    "BITPOS", arity=-3, flags=Flag.READONLY, keys=KEYS_FIRST, group="bitmap", since="2.8.7", complexity="O(N)",
    syntax="key bit:integer index=[start end_index=[end index_unit=[BYTE | BIT]@7.0.0]]",
    history=(("7.0.0", "Added the `BYTE|BIT` option."),),
)  # fmt: skip
def bitpos(ctx: Context, key: bytes, bit_text: bytes, *words: bytes) -> int | Steps:
    """Find first bit set or clear in a string."""
    bit = parse_integer(bit_text)
    if bit not in (0, 1):
        raise DefiniteError("The bit argument must be 1 or 0.")
    record = _record(ctx, key)
    if record is None:
        return -1 if bit else 0
    if len(words) > 3:
        raise SyntaxReplyError
    start = parse_integer(words[0]) if words else 0
    is_bit = _is_bit(words[2:])
    end = parse_integer(words[1]) if len(words) > 1 else -1
    length = string_length(record)
    first, last = _bit_range(length, start, end, is_bit)
    if first > last:
        return -1
    steps = _position(find_bit(ctx.view, record, bit, first, last), -1 if bit or len(words) > 1 else length * 8)
    return _run(steps, first, last)


def _position(steps: Steps, otherwise: int) -> Steps:
    """Without an end, zero bits follow the string."""
    found: int = yield from steps
    return found if found >= 0 else otherwise


@command(
    "BITOP", arity=-4, flags=Flag.WRITE | Flag.DENYOOM, keys=KeySpec(2, -1, 1), group="bitmap", since="2.6.0",
    complexity="O(N)", syntax="operation destkey:key key [key ...]",
    key_parts=(KeyPart("OW update", index=2), KeyPart("RO access", index=3, last=-1)),
    weigh=of_sources,
)  # fmt: skip
def bitop(ctx: Context, name: bytes, destination: bytes, *keys: bytes) -> int:
    """Perform bitwise operations between strings."""
    operation = name.upper()
    if operation != b"NOT" and operation not in OPERATIONS:
        raise SyntaxReplyError
    if operation == b"NOT" and len(keys) != 1:
        raise DefiniteError("BITOP NOT must be called with a single source key.")
    records = [_record(ctx, key) for key in keys]
    return combine(ctx.view, ctx.db, destination, operation, records, ctx.now_ms // 1000)


# -- fields ------------------------------------------------------------------------------------------------------------


class _Operation(NamedTuple):
    name: bytes
    signed: bool
    bits: int
    offset: int
    value: int
    overflow: bytes


def _parse_type(text: bytes) -> tuple[bool, int]:
    """Return whether the type is signed and its bits. Raises DefiniteError."""
    signed = text[:1] == b"i"
    bits = strict_integer(text[1:].partition(b"\0")[0]) if signed or text[:1] == b"u" else None
    if bits is None or not 1 <= bits <= (64 if signed else 63):
        raise DefiniteError(_BAD_TYPE)
    return signed, bits


def _parse_operations(words: tuple[bytes, ...]) -> list[_Operation]:
    """Return what BITFIELD is to do. Raises DefiniteError."""
    operations: list[_Operation] = []
    overflow = b"WRAP"
    at = 0
    while at < len(words):
        name, left = words[at].upper(), len(words) - at - 1
        if name == b"OVERFLOW" and left >= 1:
            overflow = words[at + 1].upper()
            if overflow not in (b"WRAP", b"SAT", b"FAIL"):
                raise DefiniteError("Invalid OVERFLOW type specified")
            at += 2
            continue
        if not (name == b"GET" and left >= 2) and not (name in (b"SET", b"INCRBY") and left >= 3):
            raise SyntaxReplyError
        signed, bits = _parse_type(words[at + 1])
        offset = _parse_offset(words[at + 2], bits)
        value = 0 if name == b"GET" else parse_integer(words[at + 3])
        operations.append(_Operation(name, signed, bits, offset, value, overflow))
        at += 3 if name == b"GET" else 4
    return operations


def _sum(operation: _Operation, value: int, increment: int) -> int | None:
    """Return value + increment as the field's type holds it; None where that fails on overflow."""
    bits = operation.bits
    if operation.signed:
        most, least = (1 << bits - 1) - 1, -(1 << bits - 1)
        # Redis's own sums, which wrap around at 64 bits: of a value far below the type's range it says "above".
        room, depth = _wrapped(most - value), _wrapped(least - value)
        above = value > most or (increment > room and (bits != 64 or (value >= 0 and increment > 0)))
        below = value < least or (increment < depth and (bits != 64 or (value < 0 and increment < 0)))
    else:
        most, least = (1 << bits) - 1, 0
        value %= 1 << 64
        above = value > most or (increment > 0 and increment > most - value)
        below = increment < 0 and increment < -value
    if not above and not below:
        return value + increment
    if operation.overflow == b"SAT":
        return most if above else least
    if operation.overflow == b"FAIL":
        return None
    return (value + increment - least) % (1 << bits) + least


def _carry_out(fields: Fields, operation: _Operation) -> int | None:
    bits, offset = operation.bits, operation.offset
    before = fields.get(offset, bits)
    if operation.signed and before >> bits - 1:
        before -= 1 << bits
    if operation.name == b"GET":
        return before
    is_set = operation.name == b"SET"
    after = _sum(operation, operation.value, 0) if is_set else _sum(operation, before, operation.value)
    if after is None:
        return None
    if after != before or not is_set:
        fields.set(offset, bits, after % (1 << bits))
    return before if is_set else after


def _bitfield(ctx: Context, key: bytes, words: tuple[bytes, ...], read_only: bool) -> list[int | None] | Steps:
    operations = _parse_operations(words)
    writes = [operation for operation in operations if operation.name != b"GET"]
    if writes and read_only:
        raise DefiniteError("BITFIELD_RO only supports the GET subcommand")
    length = max([(operation.offset + operation.bits - 1 >> 3) + 1 for operation in writes], default=0)
    fields = Fields(ctx.view, ctx.db, key, _record(ctx, key), ctx.now_ms // 1000, length)
    if read_only and len(operations) > SLICED_ELEMENTS:
        return _many_read(fields, operations)
    replies = [_carry_out(fields, operation) for operation in operations]
    if writes:
        fields.close()
    return replies


def _many_read(fields: Fields, operations: list[_Operation]) -> Steps:
    yield Stream(list, len(operations))
    for start in range(0, len(operations), _BATCH):
        yield [_carry_out(fields, operation) for operation in operations[start : start + _BATCH]]
    return None


def _bitfield_access(argv: list[bytes]) -> str:
    at = 2
    while at < len(argv):
        name, left = argv[at].upper(), len(argv) - at - 1
        if name == b"GET" and left >= 2:
            at += 3
        elif name == b"OVERFLOW" and left >= 1:
            at += 2
        else:
            return "RW access update"
    return "RO access"


@command(
    "BITFIELD", arity=-2, flags=Flag.WRITE | Flag.DENYOOM, keys=KEYS_FIRST, group="bitmap", since="3.2.0",
    complexity="O(1) for each subcommand specified",
    syntax="key operation=[<GET encoding offset> | write=<[OVERFLOW <WRAP | SAT | FAIL>] "
    "write_operation=<<SET encoding offset value:integer> | <INCRBY encoding offset increment>>>] ...",
    key_flags="RW access update variable_flags", key_access=_bitfield_access,
    key_notes="This command allows both access and modification of the key",
)  # fmt: skip
def bitfield(ctx: Context, key: bytes, *words: bytes) -> list[int | None] | Steps:
    """Perform arbitrary bitfield integer operations on strings."""
    return _bitfield(ctx, key, words, read_only=False)


@command(
    "BITFIELD_RO", arity=-2, flags=Flag.READONLY | Flag.FAST, keys=KEYS_FIRST, group="bitmap", since="6.0.0",
    complexity="O(1) for each subcommand specified", syntax="key [GET encoding offset [GET encoding offset ...]]",
)  # fmt: skip
def bitfield_ro(ctx: Context, key: bytes, *words: bytes) -> list[int | None] | Steps:
    """Perform arbitrary bitfield integer operations on strings; the read-only variant of BITFIELD."""
    return _bitfield(ctx, key, words, read_only=True)
