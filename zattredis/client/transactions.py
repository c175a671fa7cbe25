"""Transactions: reads are remembered, writes are held back, and one EXEC at the end does all or nothing.

At the end what was read is compared with what is there now, under WATCH: so only a change of something this transaction
has read makes it fail, not a change of another key. (Reads within the body are each linearizable by themselves; that
they belong together is what the comparison proves.)
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Generic, TypeVar

from zattredis.client.errors import Conflict, LockLost
from zattredis.client.local_copy import apply_changes
from zattredis.client.locks import LockState
from zattredis.client.operations import CONTENTION_TRIALS_MAX, Operations, contended, flat, pairs
from zattredis.client.steps import Batch, Command, Operation, atomically, jitter

K = TypeVar("K")
V = TypeVar("V")


class TransactionState(Generic[K, V]):
    """What a transaction has read and wants to write."""

    def __init__(self, operations: Operations[K, V], guard: LockState | None) -> None:
        self.operations = operations
        self.guard = guard
        self.seen: dict[bytes, bytes | None] = {}
        self.whole: dict[bytes, bytes] | None = None
        self.writes: dict[bytes, bytes | None] = {}
        self.cleared = False
        self.ended = False

    def check_open(self) -> None:
        """Raises RuntimeError after the end."""
        if self.ended:
            raise RuntimeError("this transaction has ended")

    # --- reading

    def fetch(self, field: bytes) -> Operation[bytes | None]:
        """Return the bytes under a field as this transaction sees them."""
        self.check_open()
        if field in self.writes:
            return self.writes[field]
        if self.cleared:
            return None
        if self.whole is not None:
            return self.whole.get(field)
        if field not in self.seen:
            (reply,) = yield Batch([("HGET", self.operations.name, field)])
            self.seen[field] = reply
        return self.seen[field]

    def item(self, key: K) -> Operation[V]:
        """Return the value. Raises KeyError."""
        data = yield from self.fetch(self.operations.field(key))
        if data is None:
            raise KeyError(key)
        return self.operations.decode(data)

    def everything(self) -> Operation[dict[bytes, bytes]]:
        """Return all fields as this transaction sees them; from now on it depends on all of them."""
        self.check_open()
        if self.whole is None and not self.cleared:
            whole = yield from self.operations.snapshot()
            if any(whole.get(field) != data for field, data in self.seen.items()):
                raise Conflict("what this transaction has read was changed by others")
            self.whole = whole
        found = {} if self.cleared else dict(self.whole or {})
        apply_changes(found, self.writes)
        return found

    # --- writing

    def put(self, items: Iterable[tuple[K, V]]) -> None:
        """Hold writes back until the end."""
        self.check_open()
        self.writes |= {self.operations.field(key): self.operations.encode(value) for key, value in items}

    def delete(self, key: K) -> Operation[None]:
        """Hold a deletion back until the end. Raises KeyError if the key is not there."""
        field = self.operations.field(key)
        if (yield from self.fetch(field)) is None:
            raise KeyError(key)
        self.writes[field] = None

    def clear(self) -> None:
        """Hold the deletion of everything back until the end."""
        self.check_open()
        self.cleared = True
        self.writes = {}

    # --- the end

    def _commands(self) -> list[Command]:
        name = self.operations.name
        commands: list[Command] = [("DEL", name)] if self.cleared else []
        gone = [field for field, data in self.writes.items() if data is None]
        if gone and not self.cleared:
            commands.append(("HDEL", name, *gone))
        put = [(field, data) for field, data in self.writes.items() if data is not None]
        if put:
            commands.append(("HSET", name, *flat(put)))
        return commands

    def _reads(self) -> list[Command]:
        name = self.operations.name
        reads: list[Command] = []
        if self.whole is not None:
            reads.append(("HGETALL", name))
        elif self.seen:
            reads.append(("HMGET", name, *self.seen))
        if self.guard is not None:
            reads.append(("GET", self.guard.key))
        return reads

    def _compare(self, replies: list[object]) -> None:
        """Raises Conflict or LockLost if what was read, or the guard, is not as it was."""
        found = iter(replies)
        if self.whole is not None:
            same = pairs(next(found)) == self.whole  # type: ignore[arg-type]
        elif self.seen:
            same = next(found) == list(self.seen.values())
        else:
            same = True
        if not same:
            raise Conflict("what this transaction has read was changed by others; nothing was written")
        if self.guard is not None and next(found) != self.guard.owner:
            raise LockLost(f"the lock {self.guard.name!r} ran out during the transaction; nothing was written")

    def commit(self) -> Operation[None]:
        """Write everything at once. Raises Conflict, LockLost."""
        self.ended = True
        commands, reads = self._commands(), self._reads()
        watched = [self.operations.name] + ([self.guard.key] if self.guard is not None else [])
        for trial in range(CONTENTION_TRIALS_MAX):
            if reads:
                replies = yield Batch([("WATCH", *watched), *reads])
                self._compare(replies[1:])
            if not commands:
                return
            replies = yield atomically(*commands)
            if replies[-1] is not None:
                self._written()
                return
            yield jitter(trial)
        raise contended()

    def _written(self) -> None:
        if self.cleared:
            self.operations.note(None)
        self.operations.note(self.writes)
