"""Reading an RDB file, of every version from 1 to 12 (Redis 7.4): its keys, each with its value as RESTORE takes it.

    with RdbFile(path) as file:
        summary = file.check()          # the whole walk, and the checksum
        for entry in file.entries():
            file.dump_of(entry)

The file is mapped, not read into memory. Source: Redis's rdb.c.
"""

from __future__ import annotations

import mmap
import struct
from collections import Counter
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Final, NamedTuple

from zattredis.cli.moving.rdb_values import (
    SKIP,
    TYPE_NAMES,
    VERSION_OF,
    Data,
    Malformed,
    exactly,
    read_length,
    read_string,
    skip_module,
    skip_string,
)
from zattredis.errors import ZattredisError
from zattredis.keyspace.crc64 import crc64

VERSION_MAX: Final = 12
_MAGIC: Final = b"REDIS"
_HEADER_BYTES: Final = 9
_CHECKSUM_SINCE: Final = 5
_DUMP_VERSION: Final = 10
_SLOT_INFO, _FUNCTION, _FUNCTION_EARLY, _MODULE_AUX, _IDLE, _FREQ = range(244, 250)
_AUX, _RESIZE, _EXPIRE_MS, _EXPIRE_S, _SELECT, _END = range(250, 256)
_FIRST_OPCODE: Final = 244
_MODULE_BEFORE_GA: Final = 6
_INT32: Final = struct.Struct("<i")
_INT64: Final = struct.Struct("<q")


class BadFile(ZattredisError):
    """The file is no RDB file, is damaged or cut short, or of a version that is not known; the text says where."""


class Entry(NamedTuple):
    """One key. `kind` is the RDB type; the value is the file's bytes from `start` to `end`; 0 and -1 mean none."""

    db: int
    key: bytes
    kind: int
    start: int
    end: int
    expire_ms: int = 0
    idle_s: int = -1
    frequency: int = -1


@dataclass(slots=True)
class Summary:
    """What a file holds: keys by type and by database, the notes of whoever wrote it, and what is no key."""

    version: int
    aux: dict[str, str] = field(default_factory=dict)
    types: Counter[str] = field(default_factory=Counter)
    databases: Counter[int] = field(default_factory=Counter)
    functions: int = 0
    module_data: int = 0
    checksum: str = "verified"

    @property
    def keys(self) -> int:
        """How many keys there are, expired ones too."""
        return sum(self.types.values())


class RdbFile:
    """See the module. Every method raises BadFile for what cannot be read, naming the offset."""

    def __init__(self, path: str | Path) -> None:
        """Open the file. Raises BadFile, also for a file that cannot be opened."""
        self.path = str(path)
        try:
            with open(path, "rb") as file:
                self.size = file.seek(0, 2)
                if self.size < _HEADER_BYTES:
                    raise BadFile(f"{self.path}: {self.size} bytes are no RDB file")
                self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except OSError as error:
            raise BadFile(f"{self.path}: {error.strerror or error}") from None
        self._data: Data = self._map
        head = self._map[:_HEADER_BYTES]
        if not head.startswith(_MAGIC) or not head[5:].isdigit():
            self.close()
            raise BadFile(f"{self.path}: no RDB file, it does not begin with REDIS and a version")
        self.version = int(head[5:])
        if not 1 <= self.version <= VERSION_MAX:
            self.close()
            raise BadFile(f"{self.path}: RDB version {self.version} is not known (1 to {VERSION_MAX} are)")

    def close(self) -> None:
        """Unmap the file."""
        self._map.close()

    def __enter__(self) -> RdbFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def check(self, seen: Callable[[int], None] | None = None) -> Summary:
        """Walk through the whole file and compare its checksum. `seen` is told the offset from time to time."""
        summary = Summary(self.version)
        types, databases = summary.types, summary.databases
        for number, entry in enumerate(self.entries(summary)):
            types[TYPE_NAMES[entry.kind]] += 1
            databases[entry.db] += 1
            if seen is not None and not number & 0xFFF:
                seen(entry.end)
        return summary

    def dump_of(self, entry: Entry) -> bytes:
        """Return the value as DUMP would: with the version and the checksum that RESTORE looks at."""
        version = VERSION_OF.get(entry.kind, _DUMP_VERSION)
        body = b"%c%b%b" % (entry.kind, self._map[entry.start : entry.end], version.to_bytes(2, "little"))
        return body + crc64(body).to_bytes(8, "little")

    def entries(self, summary: Summary | None = None, start: int = 0, db: int = 0) -> Iterator[Entry]:
        """Yield the keys in the order of the file, from the offset `start` of a key (0: the first) in database `db`.

        With a summary: count what is no key, and compare the checksum at the end.
        """
        at = start or _HEADER_BYTES
        try:
            end = yield from self._walk(at, db, summary)
            if summary is not None:
                self._compare_checksum(end, summary)
        except IndexError:
            raise BadFile(f"{self.path}: cut short: the file ends at offset {self.size}, in the midst of a value or "
                          "before the end mark") from None  # fmt: skip
        except Malformed as error:
            raise BadFile(f"{self.path}: damaged at offset {error.at}: {error}") from None

    def _walk(self, at: int, db: int, summary: Summary | None) -> Generator[Entry, None, int]:
        data, size = self._data, self.size
        expire_ms, idle_s, frequency = 0, -1, -1
        while True:
            mark = data[at]
            at += 1
            if mark < _FIRST_OPCODE:
                skip = SKIP.get(mark)
                if skip is None:
                    raise Malformed(at - 1, _unknown_type(mark))
                first = data[at]
                if first < 0x40:
                    start = at + 1 + first
                    key = data[at + 1 : start]
                else:
                    key, start = read_string(data, at)
                at = skip(data, start)
                if at > size:
                    raise IndexError
                yield Entry(db, key, mark, start, at, expire_ms, idle_s, frequency)
                expire_ms, idle_s, frequency = 0, -1, -1
            elif mark == _EXPIRE_MS:
                expire_ms = _time(_INT64.unpack(exactly(data, at, 8))[0])
                at += 8
            elif mark == _EXPIRE_S:
                expire_ms = _time(_INT32.unpack(exactly(data, at, 4))[0] * 1000)
                at += 4
            elif mark == _IDLE:
                idle_s, at = read_length(data, at)
            elif mark == _FREQ:
                frequency = data[at]
                at += 1
            elif mark == _SELECT:
                db, at = read_length(data, at)
            elif mark == _END:
                return at
            else:
                at = self._no_key(mark, at, summary)
                if at > size:
                    raise IndexError

    def _no_key(self, mark: int, at: int, summary: Summary | None) -> int:
        """Return the place behind what is no key and belongs to none; count it."""
        data = self._data
        if mark == _AUX:
            name, at = read_string(data, at)
            value, at = read_string(data, at)
            if summary is not None:
                summary.aux[name.decode(errors="replace")] = value.decode(errors="replace")
        elif mark in (_RESIZE, _SLOT_INFO):
            for _ in range(2 if mark == _RESIZE else 3):
                _, at = read_length(data, at)
        elif mark == _MODULE_AUX:
            at = skip_module(data, at)
            if summary is not None:
                summary.module_data += 1
        else:
            at = skip_string(data, at)
            if mark == _FUNCTION_EARLY:
                at = skip_string(data, at)
                described, at = read_length(data, at)
                for _ in range(2 if described else 1):
                    at = skip_string(data, at)
            if summary is not None:
                summary.functions += 1
        return at

    def _compare_checksum(self, end: int, summary: Summary) -> None:
        """The checksum stands behind the end mark, of all before it; 0 where its writer was told not to compute it."""
        if self.version < _CHECKSUM_SINCE:
            summary.checksum = f"version {self.version} has none"
            return
        stored = int.from_bytes(exactly(self._data, end, 8), "little")
        if not stored:
            summary.checksum = "switched off by the writer"
            return
        with memoryview(self._map) as whole, whole[:end] as covered:
            computed = crc64(covered)
        if computed != stored:
            raise Malformed(end, f"the checksum of the file is {computed:016x}, it should be {stored:016x}")


def _time(expire_ms: int) -> int:
    """Return a time of expiry as RESTORE takes it: 0 would mean none, and a time before 1970 has passed anyway."""
    return max(expire_ms, 1)


def _unknown_type(kind: int) -> str:
    if kind == _MODULE_BEFORE_GA:
        return "a module's value in the form before Redis 4.0, whose end only that module knows"
    return f"{kind} is no type of values up to RDB version {VERSION_MAX}"
