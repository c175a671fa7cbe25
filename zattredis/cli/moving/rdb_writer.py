"""Writing an RDB file that redis-server loads, from dumps: each value as DUMP returned it, without its footer.

The file appears under its name only when it is whole and on the disk: it is written beside it and renamed.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Final

from zattredis.errors import ZattredisError
from zattredis.keyspace.crc64 import crc64
from zattredis.keyspace.rdb import encode_length

_FOOTER_BYTES: Final = 10
_BUFFER_BYTES: Final = 1 << 20
_VERSION_AT: Final = 5


class NotWritten(ZattredisError):
    """The file could not be written; there is none under its name, or still the one from before."""


class RdbWriter:
    """A context manager; `finish` makes the file appear, leaving without it removes what was written."""

    def __init__(self, path: str | Path, version: int, *, replace: bool) -> None:
        """Begin a file of an RDB version. Raises NotWritten, also if there is one that may not be replaced."""
        self.path = Path(path)
        if not replace and self.path.exists():
            raise NotWritten(f"{self.path} exists (--replace overwrites it)")
        self._beside = self.path.with_name(f".{self.path.name}.{os.getpid()}.part")
        try:
            self._file: BinaryIO = self._beside.open("w+b", buffering=_BUFFER_BYTES)
        except OSError as error:
            raise NotWritten(f"cannot write {self.path}: {error.strerror or error}") from None
        self.version = version
        self.keys = 0
        self._db = -1
        self._write(b"REDIS%04d" % version)

    def _write(self, data: bytes) -> None:
        try:
            self._file.write(data)
        except OSError as error:
            raise NotWritten(f"cannot write {self.path}: {error.strerror or error}") from None

    def note(self, name: str, value: str) -> None:
        """Write an auxiliary field: what tools show of the file's origin. Before the first key."""
        self._write(b"\xfa" + string(name.encode()) + string(value.encode()))

    def add(self, db: int, key: bytes, expire_ms: int, dump: bytes) -> None:
        """Write a key; those of one database together. `expire_ms` 0: it does not expire."""
        parts = []
        if db != self._db:
            self._db = db
            parts.append(b"\xfe" + encode_length(db))
        if expire_ms:
            parts.append(b"\xfc" + expire_ms.to_bytes(8, "little"))
        dumped_version = int.from_bytes(dump[-_FOOTER_BYTES:-8], "little")
        self.version = max(self.version, dumped_version)
        parts += (dump[:1], string(key), dump[1:-_FOOTER_BYTES])
        self._write(b"".join(parts))
        self.keys += 1

    def finish(self) -> int:
        """Write the end, sync, and give the file its name; return its size in bytes. Raises NotWritten."""
        try:
            self._file.write(b"\xff")
            self._file.seek(_VERSION_AT)
            self._file.write(b"%04d" % self.version)  # a value of a later version makes the whole file one
            self._file.flush()
            self._file.seek(0)
            checksum = 0
            while piece := self._file.read(_BUFFER_BYTES):
                checksum = crc64(piece, checksum)
            self._file.write(checksum.to_bytes(8, "little"))
            size = self._file.tell()
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            self._beside.replace(self.path)
            directory = os.open(self.path.parent, os.O_RDONLY)
            try:
                os.fsync(directory)
            finally:
                os.close(directory)
        except OSError as error:
            raise NotWritten(f"cannot write {self.path}: {error.strerror or error}") from None
        return size

    def __enter__(self) -> RdbWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.suppress(OSError):
            self._file.close()
        with contextlib.suppress(OSError):
            self._beside.unlink()


def string(value: bytes) -> bytes:
    """Return a string as the format writes it, neither packed nor as an integer."""
    return encode_length(len(value)) + value
