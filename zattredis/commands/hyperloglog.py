"""The hyperloglog group: estimating how many different elements were seen.

PFCOUNT is a read here and leaves the string as it is; see `keyspace.hyperloglog` for the cached cardinality.
"""

from __future__ import annotations

from typing import Final

from zattredis.commands.context import Context, LocalContext, Steps, drain
from zattredis.commands.table import KEYS_ALL, KEYS_FIRST, KEYS_SECOND, Flag, KeyPart, command
from zattredis.commands.weights import of_registers
from zattredis.errors import DefiniteError, ReplyError, shown
from zattredis.keyspace import hyperloglog as hll
from zattredis.keyspace.metadata import RAW, SEPARATE, expire_of
from zattredis.keyspace.strings import put_string, string_value

_KEYS_AT_ONCE: Final = 32
"""PFCOUNT of more keys runs in slices."""


def _value(ctx: Context, key: bytes) -> tuple[bytes | None, bytes]:
    """Return the key's record and its HyperLogLog, a new one if there is no key. Raises WrongType, NotHyperLogLog."""
    record = ctx.view.record(ctx.db, key, ctx.now_ms)
    if record is None:
        return None, hll.EMPTY
    value = string_value(ctx.view, record)
    hll.check_format(value)
    return record, value


def _store(ctx: Context, key: bytes, record: bytes | None, value: bytes) -> None:
    expire_ms = 0 if record is None else expire_of(record)
    put_string(ctx.view, ctx.db, key, value, ctx.now_ms // 1000, expire_ms, hints=RAW)


def _touch(ctx: Context, key: bytes, record: bytes) -> None:
    """As in Redis, a string that was to be written to is `raw` from then on."""
    if not record[0] & (RAW | SEPARATE):
        ctx.view.put(ctx.db, key, bytes((record[0] | RAW,)) + record[1:])


@command(
    "PFADD", arity=-2, flags=Flag.WRITE | Flag.DENYOOM | Flag.FAST, keys=KEYS_FIRST, group="hyperloglog",
    since="2.8.9", complexity="O(1) to add every element.", syntax="key [element ...]", key_flags="RW insert",
)  # fmt: skip
def pfadd(ctx: Context, key: bytes, *elements: bytes) -> int:
    """Add the specified elements to the specified HyperLogLog."""
    record, value = _value(ctx, key)
    sparse_max = ctx.view.registers.parameters.hll_sparse_max_bytes
    raised = hll.raise_registers(value, hll.places_of(elements), sparse_max)
    if raised is not None or record is None:
        _store(ctx, key, record, raised or hll.stale(value))
        return 1
    _touch(ctx, key, record)
    return 0


@command(
    "PFCOUNT", arity=-2, flags=Flag.READONLY | Flag.MAY_REPLICATE, keys=KEYS_ALL, group="hyperloglog", since="2.8.9",
    complexity="O(N) with N being the number of keys.", syntax="key [key ...]", key_flags="RW access",
    key_notes="RW because it may change the internal representation of the key, and propagate to replicas",
)  # fmt: skip
def pfcount(ctx: Context, *keys: bytes) -> int | Steps:
    """Return the approximated cardinality of the set(s) observed by the HyperLogLog at key(s)."""
    if len(keys) == 1:
        record, value = _value(ctx, keys[0])
        if record is None:
            return 0
        cached = hll.cached_count(value)
        return hll.count(value) if cached is None else cached
    steps = _count_union(ctx, keys)
    return steps if len(keys) > _KEYS_AT_ONCE else int(drain(steps))


def _count_union(ctx: Context, keys: tuple[bytes, ...]) -> Steps:
    registers = bytes(hll.REGISTERS)
    for key in keys:
        record, value = _value(ctx, key)
        if record is not None:
            registers = hll.highest(registers, hll.registers_of(value))
        yield None
    return hll.count_registers(registers)


@command(
    "PFMERGE", arity=-2, flags=Flag.WRITE | Flag.DENYOOM, keys=KEYS_ALL, group="hyperloglog", since="2.8.9",
    complexity="O(N) to merge N HyperLogLogs, but with high constant times.",
    syntax="destkey:key sourcekey:key [sourcekey:key ...]",
    key_parts=(KeyPart("RW access insert", index=1), KeyPart("RO access", index=2, last=-1)),
    weigh=of_registers,
)  # fmt: skip
def pfmerge(ctx: Context, destination: bytes, *sources: bytes) -> str:
    """Merge N different HyperLogLogs into a single one."""
    registers = bytes(hll.REGISTERS)
    dense = False
    for key in (destination, *sources):
        record, value = _value(ctx, key)
        if record is not None:
            dense = dense or value[4] == hll.DENSE
            registers = hll.highest(registers, hll.registers_of(value))
    record, value = _value(ctx, destination)
    if dense and value[4] == hll.SPARSE:
        value = hll.to_dense(value)
    if dense:
        value = hll.stale(value[: hll.HEADER_BYTES] + hll.pack(registers))
    else:
        wanted = [(index, register) for index, register in enumerate(registers) if register]
        sparse_max = ctx.view.registers.parameters.hll_sparse_max_bytes
        value = hll.raise_registers(value, wanted, sparse_max) or hll.stale(value)
    _store(ctx, destination, record, value)
    return "OK"


@command(
    "PFDEBUG", arity=3, flags=Flag.WRITE | Flag.DENYOOM | Flag.ADMIN, keys=KEYS_SECOND, group="hyperloglog",
    since="2.8.9", complexity="N/A", syntax="subcommand key", key_flags="RW access", doc_flags=("syscmd",),
)  # fmt: skip
def pfdebug(ctx: Context, name: bytes, key: bytes) -> str | int | bytes | list[int]:
    """Look into HyperLogLog values: GETREG, ENCODING, DECODE and TODENSE."""
    record, value = _value(ctx, key)
    if record is None:
        raise DefiniteError("The specified key does not exist")
    _touch(ctx, key, record)
    sparse = value[4] == hll.SPARSE
    word = name.upper()
    if word == b"DECODE":
        if not sparse:
            raise DefiniteError("HLL encoding is not sparse")
        return hll.Sparse(value).decode().encode("ascii")
    if word == b"ENCODING":
        return "sparse" if sparse else "dense"
    if word not in (b"GETREG", b"TODENSE"):
        raise DefiniteError(f"Unknown PFDEBUG subcommand '{shown(name)}'")
    if sparse:
        value = hll.to_dense(value)
        _store(ctx, key, record, value)
    return list(hll.unpack(value)) if word == b"GETREG" else int(sparse)


class TestFailed(ReplyError):
    """PFSELFTEST found a fault."""

    prefix = "TESTFAILED"


@command(
    "PFSELFTEST", arity=1, flags=Flag.ADMIN, group="hyperloglog", since="2.8.9", complexity="N/A",
    doc_flags=("syscmd",),
)  # fmt: skip
async def pfselftest(ctx: LocalContext) -> str:
    """Test that HyperLogLogs keep their registers and estimate within their error."""
    registers = bytes(index * 7 % 64 for index in range(hll.REGISTERS))
    if hll.unpack(bytes(hll.HEADER_BYTES) + hll.pack(registers)) != registers:
        raise TestFailed("dense registers do not read back")
    sparse, dense = hll.EMPTY, hll.to_dense(hll.EMPTY)
    for number in range(1, 2001):
        place = hll.places_of((b"%d" % number,))
        sparse = hll.raise_registers(sparse, place, hll.DENSE_BYTES) or sparse
        dense = hll.raise_registers(dense, place, 0) or dense
        if number % 100 == 0:
            counted = hll.count(sparse)
            if counted != hll.count(dense) or hll.registers_of(sparse) != hll.registers_of(dense):
                raise TestFailed(f"sparse and dense differ after {number} elements")
            # Four standard errors of 1.04 / sqrt(16384).
            if abs(counted - number) > max(3, number * 0.0325):
                raise TestFailed(f"{counted} counted of {number} elements")
            await ctx.server.sleep(0)
    return "OK"
