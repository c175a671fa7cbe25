"""What one long read puts aside while it puts it in order: pages in a file without a name, gone when it is closed."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO

from zattredis.errors import StorageFailed


class Spool:
    """Name → page, for one long read. Where the disk has no room left, pages are held in memory instead."""

    __slots__ = ("_directory", "_file", "_has_room", "_held", "_places", "_size")

    def __init__(self, directory: Path, has_room: Callable[[], bool]) -> None:
        """`directory` is where the file is made, once there is something to write."""
        self._directory = directory
        self._has_room = has_room
        self._file: IO[bytes] | None = None
        self._size = 0
        self._places: dict[bytes, tuple[int, int]] = {}
        self._held: dict[bytes, bytes] = {}

    def write(self, pages: Mapping[bytes, bytes | None]) -> None:
        """Keep pages; None forgets one. What a file has taken for it is free when the file is closed."""
        for name, page in pages.items():
            self._held.pop(name, None)
            self._places.pop(name, None)
            if page is not None and not self._written(name, page):
                self._held[name] = page

    def _written(self, name: bytes, page: bytes) -> bool:
        if not self._has_room():
            return False
        try:
            if self._file is None:
                self._file = tempfile.TemporaryFile(dir=self._directory, buffering=0)  # noqa: SIM115
            if os.pwrite(self._file.fileno(), page, self._size) != len(page):
                return False
        except OSError:  # the disk is full, or there is none
            return False
        self._places[name] = (self._size, len(page))
        self._size += len(page)
        return True

    def get(self, name: bytes) -> bytes | None:
        """Return a page, None if there is none of that name. Raises StorageFailed."""
        place = self._places.get(name)
        if place is None or self._file is None:
            return self._held.get(name)
        offset, size = place
        try:
            page = os.pread(self._file.fileno(), size, offset)
        except OSError as error:
            raise StorageFailed(f"cannot read what was put aside in {self._directory}: {error.strerror}") from error
        if len(page) != size:
            raise StorageFailed(f"what was put aside in {self._directory} is cut short")
        return page

    def close(self) -> None:
        """Forget everything; harmless when repeated."""
        self._held.clear()
        self._places.clear()
        if self._file is not None:
            self._file.close()
            self._file = None
