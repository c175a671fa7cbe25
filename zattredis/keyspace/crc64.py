"""CRC-64 of Redis's RDB format (Jones polynomial, reflected, start 0), in pure Python.

Long inputs are cut into rows of equal length that are worked on together: the registers of all rows are eight strings
of bytes, one step is a handful of `bytes.translate` and XORs of long integers, all in C. The rows' results are joined
by the linear map "append ROW_BYTES zero bytes". Measured: about 12 MB/s byte by byte, 60 MB/s by rows.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

_POLYNOMIAL: Final = 0x95AC9329AC4BC9B5
"""0xad93d23594c935a9 with its bits reversed."""
_ROW_BYTES: Final = 4096
_BY_ROWS_BYTES: Final = 1 << 20


def _table_entry(byte: int) -> int:
    for _ in range(8):
        byte = byte >> 1 ^ (_POLYNOMIAL if byte & 1 else 0)
    return byte


_TABLE: Final = tuple(_table_entry(byte) for byte in range(256))
_PLANES: Final = tuple(bytes(entry >> 8 * plane & 0xFF for entry in _TABLE) for plane in range(8))


def crc64(data: bytes) -> int:
    """Return the checksum of `data`."""
    if len(data) < _BY_ROWS_BYTES:
        return _by_bytes(data)
    # Zero bytes in front leave a register of 0 as it is.
    data = bytes(-len(data) % _ROW_BYTES) + data
    crc = 0
    append_row = _append_row_tables()
    for row_crc in _row_crcs(data):
        joined = row_crc
        for plane, table in enumerate(append_row):
            joined ^= table[crc >> 8 * plane & 0xFF]
        crc = joined
    return crc


def _by_bytes(data: bytes) -> int:
    table = _TABLE
    crc = 0
    for byte in data:
        crc = crc >> 8 ^ table[(crc ^ byte) & 0xFF]
    return crc


def _row_crcs(data: bytes) -> list[int]:
    rows = len(data) // _ROW_BYTES
    registers = [0] * 8  # plane n: byte n of every row's register, as one long integer
    for column in range(_ROW_BYTES):
        index = (registers[0] ^ int.from_bytes(data[column::_ROW_BYTES], "big")).to_bytes(rows, "big")
        looked_up = [int.from_bytes(index.translate(plane), "big") for plane in _PLANES]
        registers = [above ^ entry for above, entry in zip((*registers[1:], 0), looked_up, strict=True)]
    planes = [register.to_bytes(rows, "big") for register in registers]
    return [sum(plane[row] << 8 * number for number, plane in enumerate(planes)) for row in range(rows)]


@lru_cache(maxsize=1)
def _append_row_tables() -> tuple[tuple[int, ...], ...]:
    """Return for each byte of a register what it becomes when a row of zero bytes follows."""
    columns = [_TABLE[1 << bit] if bit < 8 else 1 << bit - 8 for bit in range(64)]  # one zero byte
    length = 1
    while length < _ROW_BYTES:
        columns = [_times(columns, column) for column in columns]
        length *= 2
    return tuple(tuple(_times(columns, byte << 8 * plane) for byte in range(256)) for plane in range(8))


def _times(columns: list[int], vector: int) -> int:
    result = 0
    while vector:
        lowest = vector & -vector
        result ^= columns[lowest.bit_length() - 1]
        vector ^= lowest
    return result
