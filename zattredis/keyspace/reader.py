"""What the keyspace needs of a store: point reads, many at once, ordered iteration, and a frozen point in time."""

from __future__ import annotations

from collections.abc import Iterator
from types import TracebackType
from typing import Protocol


class Reader(Protocol):
    """Ordered bytes → bytes, read only. Raises StorageError when the store fails; never ends an iteration silently."""

    def get(self, key: bytes) -> bytes | None:
        """Return the value of `key`, or None."""
        ...

    def multi_get(self, keys: list[bytes]) -> list[bytes | None]:
        """Return one value or None for each of `keys`, in their order."""
        ...

    def iterate(self, lower: bytes, upper: bytes | None, reverse: bool = False) -> Iterator[tuple[bytes, bytes]]:
        """Yield (key, value) for lower <= key < upper in order (descending when `reverse`); `upper` None is the end."""
        ...

    def frozen(self) -> FrozenReader:
        """Return a reader of this very point in time; close it."""
        ...


class FrozenReader(Reader, Protocol):
    """A Reader that shows one point in time until it is closed."""

    def close(self) -> None:
        """Release what it holds; reading afterwards raises."""
        ...

    def __enter__(self) -> FrozenReader: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
