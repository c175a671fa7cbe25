"""HyperLogLogs, in Redis's own string format: 16384 registers of 6 bits, sparse or dense.

```
"HYLL" | encoding(1): 0 dense, 1 sparse | 0(3) | cached cardinality(8), little-endian; its highest bit: out of date
```

Dense: the registers, each 6 bits from the lowest bit of the first byte on. Sparse: opcodes for runs of registers,
`00llllll` l + 1 zeros, `01llllll llllllll` the same with 14 bits, `1vvvvvll` l + 1 registers of value v + 1.

Sources: Redis page "HyperLogLog" and the format's description in Redis 7.0; Flajolet et al., "HyperLogLog", 2007; the
estimator is that of Ertl, "New cardinality estimation algorithms for HyperLogLog sketches", 2017, algorithm 6;
MurmurHash64A.

Bytes are those of Redis after the same commands, so opcodes are split, merged and given up for the dense form by its
rules. With one exception: counting is a read here, and reads leave no trace in the state, so nothing ever writes the
cached cardinality: adding and merging mark it out of date, as in Redis, and so it stays. One that came with a value
made elsewhere is used while it is marked valid.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable
from itertools import accumulate
from math import inf, sqrt
from struct import Struct
from typing import Final

from zattredis.errors import DefiniteError

REGISTERS: Final = 1 << 14
HEADER_BYTES: Final = 16
DENSE_BYTES: Final = HEADER_BYTES + REGISTERS * 6 // 8
DENSE: Final = 0
SPARSE: Final = 1
MAGIC: Final = b"HYLL"
_INDEX_BITS: Final = 14
_HASH_BITS: Final = 50
"""Bits of a hash behind the register's index; a register's value is at most one more."""
_SPARSE_VALUE_MAX: Final = 32
_SHORT_ZEROS_MAX: Final = 64
_RUN_MAX: Final = 4
_LONG: Final = 0x4000
_MERGED_OPCODES: Final = 5
_VALUES: Final = 64
_DECODED_MAX: Final = 16
_STALE: Final = 0x80
_ALPHA: Final = 0.721347520444481703680
_NOT_A_NUMBER: Final = -(1 << 63)

_MASK: Final = (1 << 64) - 1
_SEED: Final = 0xADC83B19
_MULTIPLIER: Final = 0xC6A4A7935BD1E995
_WORDS: Final = [Struct(f"<{count}Q") for count in range(64)]

EMPTY: Final = MAGIC + bytes((SPARSE, 0, 0, 0)) + bytes(8) + b"\x7f\xff"
"""A new one: one opcode for all registers."""


class NotHyperLogLog(DefiniteError):
    """The string is none."""

    prefix = "WRONGTYPE"

    def __init__(self) -> None:
        super().__init__("Key is not a valid HyperLogLog string value.")


class CorruptHyperLogLog(DefiniteError):
    """The opcodes do not make up all registers."""

    prefix = "INVALIDOBJ"

    def __init__(self) -> None:
        super().__init__("Corrupted HLL object detected")


def check_format(value: bytes) -> None:
    """Raise NotHyperLogLog unless the string begins as one and is as long as its encoding wants."""
    if len(value) < HEADER_BYTES or value[:4] != MAGIC or value[4] > SPARSE:
        raise NotHyperLogLog
    if value[4] == DENSE and len(value) != DENSE_BYTES:
        raise NotHyperLogLog


def murmur_hash(data: bytes) -> int:
    """Return MurmurHash64A of `data` with Redis's seed."""
    return _hashes((data,))[0]


def _hashes(elements: Iterable[bytes]) -> list[int]:
    multiplier, mask, words_of = _MULTIPLIER, _MASK, _WORDS
    hashes: list[int] = []
    for data in elements:
        length = len(data)
        found = _SEED ^ length * multiplier & mask
        count = length >> 3
        words = words_of[count] if count < len(words_of) else Struct(f"<{count}Q")
        for word in words.unpack_from(data):
            word = word * multiplier & mask
            found = (found ^ (word ^ word >> 47) * multiplier & mask) * multiplier & mask
        if length & 7:
            found = (found ^ int.from_bytes(data[length & -8 :], "little")) * multiplier & mask
        found = (found ^ found >> 47) * multiplier & mask
        hashes.append(found ^ found >> 47)
    return hashes


def places_of(elements: Iterable[bytes]) -> list[tuple[int, int]]:
    """Return for each element the register that it belongs to and the value it asks for."""
    last, top = REGISTERS - 1, 1 << _HASH_BITS
    places: list[tuple[int, int]] = []
    for found in _hashes(elements):
        rest = found >> _INDEX_BITS | top
        places.append((found & last, (rest & -rest).bit_length()))
    return places


# -- the sparse form ---------------------------------------------------------------------------------------------------

_OPCODES: Final = re.compile(rb"[\x40-\x7f].?|[^\x40-\x7f]", re.DOTALL)
_ONE_BYTE: Final = [bytes((byte,)) for byte in range(256)]


class _Spans(dict[bytes, int]):
    """Opcode → how many registers it is for."""

    def __missing__(self, opcode: bytes) -> int:
        head = opcode[0]
        if head & 0x80:
            span = (head & 3) + 1
        else:
            # The zero byte stands in for the second half of an opcode cut off at the end.
            span = (int.from_bytes(opcode.ljust(2, b"\0"), "big") & 0x3FFF if head & 0x40 else head) + 1
        self[opcode] = span
        return span


_SPANS: Final = _Spans()
_RUNS: Final = {
    opcode: bytes(((head >> 2 & 0x1F) + 1 if head & 0x80 else 0,)) * _SPANS[opcode]
    for head, opcode in enumerate(_ONE_BYTE)
    if head & 0xC0 != 0x40
}


class Sparse:
    """The opcodes of a sparse one, and the first register of each. `_rest` follows them in a damaged one."""

    __slots__ = ("_bytes", "_opcodes", "_rest", "_starts", "_total")

    def __init__(self, value: bytes) -> None:
        self._bytes = len(value)
        # A sound one has no more opcodes than registers, of two bytes at most.
        end = HEADER_BYTES + 2 * REGISTERS
        self._rest = value[end:]
        self._opcodes = _OPCODES.findall(value, HEADER_BYTES, end)
        self._starts = list(accumulate(map(_SPANS.__getitem__, self._opcodes), initial=0))
        self._total = self._starts.pop()

    def set(self, index: int, count: int, bytes_max: int) -> bool | None:
        """Raise a register to `count`; return whether it was less, None if only the dense form can hold it.

        Raises CorruptHyperLogLog. None means that nothing was done.
        """
        if count > _SPARSE_VALUE_MAX:
            return None
        if index >= self._total:
            raise CorruptHyperLogLog
        opcodes, starts = self._opcodes, self._starts
        at = bisect_right(starts, index) - 1
        opcode = opcodes[at]
        before = index - starts[at]
        behind = _SPANS[opcode] - before - 1
        head = opcode[0]
        parts = [_ONE_BYTE[0x80 | count - 1 << 2]]
        if head & 0x80:
            if (head >> 2 & 0x1F) + 1 >= count:
                return False
            if before:
                parts.insert(0, _ONE_BYTE[head & 0xFC | before - 1])
            if behind:
                parts.append(_ONE_BYTE[head & 0xFC | behind - 1])
        else:
            if before:
                parts.insert(0, _zeros(before))
            if behind:
                parts.append(_zeros(behind))
        longer = sum(map(len, parts)) - len(opcode)
        if longer > 0 and self._bytes + longer > bytes_max:
            return None
        self._bytes += longer
        opcodes[at : at + 1] = parts
        if before:
            starts.insert(at + 1, index)
        if behind:
            starts.insert(at + 2 if before else at + 1, index + 1)
        self._merge(at - 1 if at else 0)
        return True

    def _merge(self, at: int) -> None:
        """Join equal values that follow each other, looking at some opcodes from here on."""
        opcodes = self._opcodes
        for _ in range(_MERGED_OPCODES):
            if at + 1 >= len(opcodes):
                return
            one, other = opcodes[at][0], opcodes[at + 1][0]
            if one & 0x80 and one >> 2 == other >> 2 and (run := (one & 3) + (other & 3) + 2) <= _RUN_MAX:
                opcodes[at] = _ONE_BYTE[one & 0xFC | run - 1]
                del opcodes[at + 1], self._starts[at + 1]
                self._bytes -= 1
            else:
                at += 1

    def encode(self, header: bytes) -> bytes:
        """Return the string with this header."""
        return header + b"".join(self._opcodes) + self._rest

    def registers(self) -> bytes:
        """Return the registers, a byte each. Raises CorruptHyperLogLog."""
        self._check()
        return b"".join(
            [_RUNS[opcode] if len(opcode) == 1 else bytes(_SPANS[opcode]) for opcode in self._opcodes]
        )

    def histogram(self) -> list[int]:
        """Return how many registers have each value. Raises CorruptHyperLogLog."""
        self._check()
        found = [0] * _VALUES
        for opcode, times in Counter(self._opcodes).items():
            found[(opcode[0] >> 2 & 0x1F) + 1 if opcode[0] & 0x80 else 0] += times * _SPANS[opcode]
        return found

    def decode(self) -> str:
        """Return the opcodes as text, as PFDEBUG DECODE shows them."""
        words = []
        for opcode in self._opcodes:
            head, span = opcode[0], _SPANS[opcode]
            if head & 0x80:
                words.append(f"v:{(head >> 2 & 0x1F) + 1},{span}")
            else:
                words.append(f"{'Z' if head & 0x40 else 'z'}:{span}")
        if self._rest:
            words.append(Sparse(bytes(HEADER_BYTES) + self._rest).decode())
        return " ".join(words)

    def _check(self) -> None:
        if self._total != REGISTERS or self._rest:
            raise CorruptHyperLogLog


def _zeros(length: int) -> bytes:
    return _ONE_BYTE[length - 1] if length <= _SHORT_ZEROS_MAX else (_LONG | length - 1).to_bytes(2, "big")


_decoded: Final[dict[bytes, Sparse]] = {}
"""Opcodes of strings made lately: what `Sparse` would find, which takes ten times as long as changing it."""


def _sparse(value: bytes) -> Sparse:
    """Return the opcodes of a string, to be read only."""
    return _decoded.get(value) or Sparse(value)


def _take_sparse(value: bytes) -> Sparse:
    """Return the opcodes of a string, to be changed by the caller alone."""
    return _decoded.pop(value, None) or Sparse(value)


def _give_back(value: bytes, sparse: Sparse) -> bytes:
    """Remember the opcodes of a string, and return it."""
    while len(_decoded) >= _DECODED_MAX:
        del _decoded[next(iter(_decoded))]
    _decoded[value] = sparse
    return value


# -- the dense form ----------------------------------------------------------------------------------------------------

_LOW_6: Final = bytes(byte & 63 for byte in range(256))
_HIGH_2: Final = bytes(byte >> 6 for byte in range(256))
_LOW_4_UP_2: Final = bytes((byte & 15) << 2 for byte in range(256))
_HIGH_4: Final = bytes(byte >> 4 for byte in range(256))
_LOW_2_UP_4: Final = bytes((byte & 3) << 4 for byte in range(256))
_HIGH_6: Final = bytes(byte >> 2 for byte in range(256))
_LOW_2_UP_6: Final = bytes((byte & 3) << 6 for byte in range(256))
_LOW_4_UP_4: Final = bytes((byte & 15) << 4 for byte in range(256))
_UP_2: Final = bytes(byte << 2 & 255 for byte in range(256))
_ONES: Final = int.from_bytes(b"\1" * REGISTERS, "little")
_TOPS: Final = _ONES << 7


def _or(one: bytes, other: bytes) -> bytes:
    return (int.from_bytes(one, "little") | int.from_bytes(other, "little")).to_bytes(len(one), "little")


def unpack(value: bytes) -> bytes:
    """Return the registers of a dense one, a byte each."""
    first, second, third = (value[HEADER_BYTES + at :: 3] for at in range(3))
    registers = bytearray(REGISTERS)
    registers[0::4] = first.translate(_LOW_6)
    registers[1::4] = _or(first.translate(_HIGH_2), second.translate(_LOW_4_UP_2))
    registers[2::4] = _or(second.translate(_HIGH_4), third.translate(_LOW_2_UP_4))
    registers[3::4] = third.translate(_HIGH_6)
    return bytes(registers)


def pack(registers: bytes) -> bytes:
    """Return the registers in 6 bits each."""
    packed = bytearray(DENSE_BYTES - HEADER_BYTES)
    packed[0::3] = _or(registers[0::4], registers[1::4].translate(_LOW_2_UP_6))
    packed[1::3] = _or(registers[1::4].translate(_HIGH_6), registers[2::4].translate(_LOW_4_UP_4))
    packed[2::3] = _or(registers[2::4].translate(_HIGH_4), registers[3::4].translate(_UP_2))
    return bytes(packed)


def registers_of(value: bytes) -> bytes:
    """Return the registers, a byte each. Raises CorruptHyperLogLog."""
    if value[4] == DENSE:
        return unpack(value)
    return _sparse(value).registers()


def to_dense(value: bytes) -> bytes:
    """Return a sparse one in the dense form. Raises CorruptHyperLogLog."""
    return MAGIC + bytes((DENSE,)) + value[5:HEADER_BYTES] + pack(registers_of(value))


def _set_dense(value: bytearray, index: int, count: int) -> bool:
    at, shift = HEADER_BYTES + index * 6 // 8, index * 6 % 8
    word = int.from_bytes(value[at : at + 2], "little")
    if (word >> shift & 63) >= count:
        return False
    word = word & ~(63 << shift) | count << shift
    value[at : at + 2] = word.to_bytes(min(2, len(value) - at), "little")
    return True


# -- what commands do --------------------------------------------------------------------------------------------------


def stale(value: bytes) -> bytes:
    """Return it with its cached cardinality marked out of date."""
    return value[: HEADER_BYTES - 1] + bytes((value[HEADER_BYTES - 1] | _STALE,)) + value[HEADER_BYTES:]


def raise_registers(value: bytes, wanted: Iterable[tuple[int, int]], sparse_bytes_max: int) -> bytes | None:
    """Raise each register (index, value) that is less; return what comes of it, None if none was.

    A sparse one becomes dense when it would grow beyond `sparse_bytes_max`, or by a value over 32. Raises
    CorruptHyperLogLog.
    """
    changed = False
    places = iter(wanted)
    if value[4] == SPARSE:
        sparse = _take_sparse(value)
        for index, count in places:
            answer = sparse.set(index, count, sparse_bytes_max)
            if answer is None:
                value = to_dense(sparse.encode(value[:HEADER_BYTES]))
                places = iter([(index, count), *places])
                break
            changed = answer or changed
        else:
            if not changed:
                _give_back(value, sparse)
                return None
            return _give_back(stale(sparse.encode(value[:HEADER_BYTES])), sparse)
    dense = bytearray(value)
    for index, count in places:
        changed = _set_dense(dense, index, count) or changed
    return stale(bytes(dense)) if changed else None


def highest(one: bytes, other: bytes) -> bytes:
    """Return the higher one of each two registers, a byte each."""
    first, second = int.from_bytes(one, "little"), int.from_bytes(other, "little")
    mask = (((first | _TOPS) - second & _TOPS) >> 7) * 0xFF
    return (second ^ (first ^ second) & mask).to_bytes(REGISTERS, "little")


def cached_count(value: bytes) -> int | None:
    """Return the cached cardinality, None if it is out of date."""
    count = int.from_bytes(value[8:HEADER_BYTES], "little")
    return None if count >> 63 else count


def count(value: bytes) -> int:
    """Return the estimated cardinality. Raises CorruptHyperLogLog."""
    if value[4] == DENSE:
        return count_registers(unpack(value))
    return estimate(_sparse(value).histogram())


def count_registers(registers: bytes) -> int:
    """Return the cardinality that the registers, a byte each, stand for."""
    histogram: list[int] = []
    left = REGISTERS
    while left:
        histogram.append(registers.count(len(histogram)))
        left -= histogram[-1]
    return estimate(histogram + [0] * (_VALUES - len(histogram)))


def estimate(histogram: list[int]) -> int:
    """Return the cardinality for `histogram[n]` registers of value n."""
    registers = float(REGISTERS)
    found = registers * _tau((registers - histogram[_HASH_BITS + 1]) / registers)
    for register in range(_HASH_BITS, 0, -1):
        found = (found + histogram[register]) * 0.5
    found += registers * _sigma(histogram[0] / registers)
    raw = _ALPHA * registers * registers / found if found else inf
    # What Redis's rounding makes of more than 64 bits hold.
    return int(raw + 0.5) if raw < 1 << 63 else _NOT_A_NUMBER


def _tau(share: float) -> float:
    if share in (0.0, 1.0):
        return 0.0
    factor, found, before = 1.0, 1.0 - share, -1.0
    while found != before:
        share = sqrt(share)
        before = found
        factor *= 0.5
        found -= (1.0 - share) * (1.0 - share) * factor
    return found / 3.0


def _sigma(share: float) -> float:
    if share == 1.0:
        return inf
    factor, found, before = 1.0, share, -1.0
    while found != before:
        share *= share
        before = found
        found += share * factor
        factor += factor
    return found
