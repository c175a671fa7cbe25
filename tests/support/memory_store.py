"""A store in memory for tests of the pure rooms: the Reader of the keyspace, and `write` as a state store has it."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator
from types import TracebackType


class MemoryStore:
    """Ordered bytes → bytes. `data` is what is held; `reads` counts the keys asked for."""

    def __init__(self, data: dict[bytes, bytes] | None = None) -> None:
        self.data = dict(data or {})
        self._keys = sorted(self.data)
        self.reads = 0

    def get(self, key: bytes) -> bytes | None:
        self.reads += 1
        return self.data.get(key)

    def multi_get(self, keys: list[bytes]) -> list[bytes | None]:
        self.reads += len(keys)
        return [self.data.get(key) for key in keys]

    def iterate(self, lower: bytes, upper: bytes | None, reverse: bool = False) -> Iterator[tuple[bytes, bytes]]:
        end = len(self._keys) if upper is None else bisect_left(self._keys, upper)
        names = self._keys[bisect_left(self._keys, lower) : end]
        return iter([(name, self.data[name]) for name in (reversed(names) if reverse else names)])

    def frozen(self) -> MemoryStore:
        return MemoryStore(self.data)

    def write(self, changes: dict[bytes, bytes | None]) -> None:
        for name, value in changes.items():
            if value is None:
                if name in self.data:
                    del self.data[name]
                    del self._keys[bisect_left(self._keys, name)]
            else:
                if name not in self.data:
                    insort(self._keys, name)
                self.data[name] = value

    def close(self) -> None:
        """Nothing is held."""

    def __enter__(self) -> MemoryStore:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
