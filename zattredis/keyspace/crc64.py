"""CRC-64 of Redis's RDB format (Jones polynomial, reflected, start 0), in pure Python.

Long inputs are cut into rows of equal length that are worked on together: the registers of all rows are eight strings
of bytes, one step is a handful of `bytes.translate` and XORs of long integers, all in C. The rows' results are joined
by the linear map "append ROW_BYTES zero bytes". Measured: 10 MB/s byte by byte, 40 MB/s by rows. (Rows of a power of
two bytes would lie on the same few cache lines: a third of that.)
"""

from __future__ import annotations

from collections.abc import Generator
from functools import lru_cache
from typing import Final

_POLYNOMIAL: Final = 0x95AC9329AC4BC9B5
"""0xad93d23594c935a9 with its bits reversed."""
_ROW_BYTES: Final = 4160
_ROWS_MAX: Final = 1024
_BY_ROWS_BYTES: Final = 1 << 19
_SLICE_BYTES: Final = 1 << 15
_SLICE_COLUMNS: Final = 128


def _table_entry(byte: int) -> int:
    for _ in range(8):
        byte = byte >> 1 ^ (_POLYNOMIAL if byte & 1 else 0)
    return byte


_TABLE: Final = tuple(_table_entry(byte) for byte in range(256))
_PLANES: Final = tuple(bytes(entry >> 8 * plane & 0xFF for entry in _TABLE) for plane in range(8))


def crc64(data: bytes) -> int:
    """Return the checksum of `data`."""
    steps = crc64_steps(data)
    try:
        while True:
            next(steps)
    except StopIteration as end:
        return int(end.value)


def crc64_steps(data: bytes) -> Generator[None, None, int]:
    """Return the checksum of `data`, yielding every few milliseconds."""
    if len(data) < _BY_ROWS_BYTES:
        crc = 0
        for start in range(0, len(data), _SLICE_BYTES):
            if start:
                yield
            crc = _by_bytes(data[start : start + _SLICE_BYTES], crc)
        return crc
    # Zero bytes in front leave a register of 0 as it is.
    data = bytes(-len(data) % _ROW_BYTES) + data
    append_row = _append_row_tables()
    crc = 0
    for start in range(0, len(data), _ROWS_MAX * _ROW_BYTES):
        row_crcs = yield from _row_crcs(data[start : start + _ROWS_MAX * _ROW_BYTES])
        for row_crc in row_crcs:
            joined = row_crc
            for plane, table in enumerate(append_row):
                joined ^= table[crc >> 8 * plane & 0xFF]
            crc = joined
    return crc


def _by_bytes(data: bytes, crc: int) -> int:
    table = _TABLE
    for byte in data:
        crc = crc >> 8 ^ table[(crc ^ byte) & 0xFF]
    return crc


def _row_crcs(data: bytes) -> Generator[None, None, list[int]]:
    rows = len(data) // _ROW_BYTES
    registers = [0] * 8  # plane n: byte n of every row's register, as one long integer
    for column in range(_ROW_BYTES):
        if column % _SLICE_COLUMNS == 0:
            yield
        index = (registers[0] ^ int.from_bytes(data[column::_ROW_BYTES], "big")).to_bytes(rows, "big")
        looked_up = [int.from_bytes(index.translate(plane), "big") for plane in _PLANES]
        registers = [above ^ entry for above, entry in zip((*registers[1:], 0), looked_up, strict=True)]
    planes = [register.to_bytes(rows, "big") for register in registers]
    return [sum(plane[row] << 8 * number for number, plane in enumerate(planes)) for row in range(rows)]


@lru_cache(maxsize=1)
def _append_row_tables() -> tuple[tuple[int, ...], ...]:
    """Return for each byte of a register what it becomes when a row of zero bytes follows."""
    power = [_TABLE[1 << bit] if bit < 8 else 1 << bit - 8 for bit in range(64)]  # one zero byte
    columns = [1 << bit for bit in range(64)]
    length = _ROW_BYTES
    while length:
        if length & 1:
            columns = [_times(power, column) for column in columns]
        power = [_times(power, column) for column in power]
        length >>= 1
    return tuple(tuple(_times(columns, byte << 8 * plane) for byte in range(256)) for plane in range(8))


def _times(columns: list[int], vector: int) -> int:
    result = 0
    while vector:
        lowest = vector & -vector
        result ^= columns[lowest.bit_length() - 1]
        vector ^= lowest
    return result
