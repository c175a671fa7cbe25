"""The local copy of a refresh policy, of which the threads of a process read, write and fetch at the same time.

It never goes back: an own write shows in it from then on, also where a fetch that was under way did not see it, and
what was fetched is never replaced by what may be older.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Mapping


class Fetch:
    """One fetch under way. `number` grows with the beginnings; `missed` is what was written since (None: cleared)."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.missed: list[Mapping[bytes, bytes | None] | None] = []
        self.overtaken = False


class LocalCopy:
    """`items` is the copy, None before the first fetch. Others take it as it is; they never change it."""

    def __init__(self) -> None:
        self.items: dict[bytes, bytes] | None = None
        self.shown = 0
        self._lock = threading.Lock()
        self._numbers = itertools.count(1)
        self._under_way: list[Fetch] = []

    def begin(self) -> Fetch:
        """Return a fetch that begins now; `end` is owed."""
        with self._lock:
            fetch = Fetch(next(self._numbers))
            self._under_way.append(fetch)
            return fetch

    def end(self, fetch: Fetch, items: dict[bytes, bytes] | None) -> bool:
        """Take in what was fetched (None: it failed); return whether it is shown.

        It is not if another fetch ended meanwhile, whose number `shown` then is: either may be the later one.
        """
        with self._lock:
            self._under_way.remove(fetch)
            if items is None or fetch.overtaken:
                return False
            for changes in fetch.missed:
                apply_changes(items, changes)
            for other in self._under_way:
                other.overtaken = True
            self.items, self.shown = items, fetch.number
            return True

    def note(self, changes: Mapping[bytes, bytes | None] | None) -> None:
        """Show what was written (see `apply_changes`), now and in what is being fetched."""
        with self._lock:
            for fetch in self._under_way:
                fetch.missed.append(changes)
            if self.items is not None:
                apply_changes(self.items, changes)


def apply_changes(items: dict[bytes, bytes], changes: Mapping[bytes, bytes | None] | None) -> None:
    """Bring `items` to what was written: field → bytes, or None when deleted. None: everything was."""
    if changes is None:
        items.clear()
        return
    for field, data in changes.items():
        if data is None:
            items.pop(field, None)
        else:
            items[field] = data
