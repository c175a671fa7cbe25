"""A long command is carried out apart: on a thread of its own, which runs only while the loop gives it a turn.

A COPY of a set of a million members takes seconds. It is applied as one command all the same, whole or not at all, but
not in one go: the loop waits while the thread works for a few milliseconds, then goes on with everything else
(heartbeats, clients, reads of the state before), and so on in turns. Exactly one of the two runs at any time, so they
share no lock on data and never wait for each other's interpreter lock; only a handler that does not come back from one
long call of C code in time goes on beside the loop until it does.

Why a thread, and not generators as for reads (`sliced`): a write's handler needs nothing for it. Any handler, an EXEC
of many commands, an extension's function may turn out to be long, and each is written as if it had the state to itself.

What makes it safe:

- The thread works over registers of its own and a view without cache, on a state that nobody changes meanwhile: the
  applier waits for it. Others read what was applied before.
- Its view writes ahead what nobody can see yet (`keyspace.spilling`), on the loop, in pieces: what is held stays
  bounded. The rest, and how far the log is applied, is one write at the end, or counts as one (`storage.large_writes`:
  so with a million members removed in place). So a crash in its midst, or a snapshot taken meanwhile, is a state before
  the command or one behind it.
- If the state is replaced meanwhile, or the node ends, the thread is told so at its next breath, and ends.

Which commands: those whose spec says how heavy a command line is (`CommandSpec.weigh`, asked before it is carried out:
the sizes stand in the keys' records), those of very many words, and EXECs with such among them.

Measured on one node of a busy machine, with collections of 100,000 members, the longest wait of another client's PING
before and since: COPY of a set 2550 and 47 ms, SUNIONSTORE of two 2890 and 133 ms, ZUNIONSTORE 4010 and 99 ms, SPOP of
100,000 of 150,000 members 4390 and 479 ms. At the end of the COPY the process had held 176 MB at most, now 144.

While what was staged is carried out, reads are served from the point of time before it (`Applier.readable`): with
300,000 members, half of them removed, the longest wait of another client's GET was 1090 ms for ZPOPMIN, and is 56, for
SPOP 1280, and is 99.

A linearizable read needs the state of all that is committed, so on several nodes it waits until the command is applied
where it is asked; a node on its own knows that nobody has seen more than what it has applied, and answers at once.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any, Final

from zattredis.errors import WriteStalled
from zattredis.keyspace.reader import FrozenReader, Reader
from zattredis.keyspace.registers import Registers
from zattredis.keyspace.spilling import Changes, SpillingView
from zattredis.server.clock import perf_counter
from zattredis.storage.large_writes import staged
from zattredis.storage.state_store import APPLIED_KEY, StateStore

TURN_S: Final = 0.004
"""How long the thread works before others get their turn."""
LATE_S: Final = 0.02
"""How long the loop waits for it beyond that."""
RETRY_S: Final = 0.005
STAGED_ABOVE_KEYS: Final = 8192
STAGED_ABOVE_BYTES: Final = 4 << 20
"""A last write of more is carried out in pieces."""
_PAIRS_A_BREATH: Final = 256
_END_S: Final = 1.0


class _Abandoned(BaseException):
    """The work is not wanted any more; no handler catches it."""


class Apart:
    """Some work over `view`, begun by the first `turn`. For the loop, but for `breathe` and `on_loop`."""

    __slots__ = (
        "_abandoned", "_back", "_end", "_error", "_go", "_late", "_request", "_thread", "_work",
        "_write", "changes", "done", "pieces", "view",
    )  # fmt: skip

    def __init__(self, store: StateStore, registers: Registers, work: Callable[[Apart], None]) -> None:
        """`registers` are what `store` holds; they become the state's own once the view's effects are written."""
        fresh = Registers.load(store)
        fresh.users, fresh.waiters = registers.users, registers.waiters
        unchanged = {APPLIED_KEY: store.get(APPLIED_KEY)}
        self._work = work
        self._go = threading.Lock()
        self._back = threading.Lock()
        self._go.acquire()
        self._back.acquire()
        self._end = 0.0
        self._late = False
        self._abandoned = False
        self._error: BaseException | None = None
        self._request: Callable[[], None] | None = None
        self._thread: threading.Thread | None = None
        self._write: Callable[[Changes], None] = lambda changes: self.on_loop(
            lambda: store.write({**changes, **unchanged})
        )
        self.done = False
        self.changes: dict[bytes, bytes | None] = {}
        """Once it is done, what is to be written; None of it where it is staged, in so many `pieces`."""
        self.pieces = 0
        self.view = SpillingView(PacedReader(store, self.breathe), fresh, self._write, self.breathe)

    # -- for the loop ------------------------------------------------------------------------------------------------

    def turn(self) -> float:
        """Let the thread work for a while; return after how many seconds to call this again, unless it is `done`.

        Raises what the work raised.
        """
        if self._request is not None:
            try:
                self._request()
            except WriteStalled:
                return RETRY_S
            self._request = None
        patience = TURN_S + LATE_S
        if self._late:
            self._late = False  # it has not come back from its last turn
            patience = TURN_S
        elif self._thread is None:
            self._end = perf_counter() + TURN_S
            self._thread = threading.Thread(target=self._run, name="zattredis-apart", daemon=True)
            self._thread.start()
        else:
            self._end = perf_counter() + TURN_S
            self._go.release()
        if not self._back.acquire(timeout=patience):
            self._late = True
            return RETRY_S
        if self.done:
            if self._thread is not None:
                self._thread.join(_END_S)
            if self._error is not None:
                raise self._error
        return 0.0

    def abandon(self) -> None:
        """Have the thread end without doing more; harmless when it has ended."""
        self._abandoned = True
        if self._thread is not None and not self.done:
            if self._go.locked():  # otherwise it is about to take the turn it was given, and looks then
                self._go.release()
            self._thread.join(_END_S)

    # -- for the thread ----------------------------------------------------------------------------------------------

    def breathe(self) -> None:
        """Wait for another turn if this one is over."""
        if perf_counter() > self._end or self._abandoned:
            self._pause()

    def on_loop(self, request: Callable[[], None]) -> None:
        """Have the loop do something; return once it has. A store that asks to slow down is asked again."""
        self._request = request
        self._pause()

    def call_on_loop(self, function: Callable[[], Any]) -> Any:
        """Have the loop call a function; return what it returns, or raise what it raises."""
        found: list[Any] = []

        def call() -> None:
            try:
                found.append((function(), None))
            except Exception as error:
                found.append((None, error))

        self.on_loop(call)
        value, error = found[0]
        if error is not None:
            raise error
        return value

    def _pause(self) -> None:
        if self._abandoned:
            raise _Abandoned
        self._back.release()
        self._go.acquire()
        if self._abandoned:
            raise _Abandoned

    def _stage(self) -> None:
        size = self.view.held_bytes
        self.changes = changes = self.view.take()
        if len(changes) > STAGED_ABOVE_KEYS or size > STAGED_ABOVE_BYTES:
            for piece in staged(changes):
                self._write(piece)
                self.pieces += 1
            self.changes = {}

    def _run(self) -> None:
        try:
            self._work(self)
            self._stage()
        except _Abandoned:
            pass
        except BaseException as error:
            self._error = error
        finally:
            self.done = True
            if self._back.locked():  # abandoned while it was late, it may have released it before
                self._back.release()


class PacedReader:
    """A state store's Reader for a thread that works in turns."""

    __slots__ = ("_breathe", "_store")

    def __init__(self, store: Reader, breathe: Callable[[], None]) -> None:
        self._store = store
        self._breathe = breathe

    def get(self, key: bytes) -> bytes | None:
        """Return the value of `key`, or None."""
        self._breathe()
        return self._store.get(key)

    def multi_get(self, keys: list[bytes]) -> list[bytes | None]:
        """Return one value or None for each of `keys`, in their order."""
        if len(keys) <= _PAIRS_A_BREATH:
            self._breathe()
            return self._store.multi_get(keys)
        found: list[bytes | None] = []
        for start in range(0, len(keys), _PAIRS_A_BREATH):
            self._breathe()
            found += self._store.multi_get(keys[start : start + _PAIRS_A_BREATH])
        return found

    def iterate(self, lower: bytes, upper: bytes | None, reverse: bool = False) -> Iterator[tuple[bytes, bytes]]:
        """Yield (key, value) for lower <= key < upper in order, as of the time of this call."""
        return self._paced(self._store.iterate(lower, upper, reverse))

    def _paced(self, pairs: Iterator[tuple[bytes, bytes]]) -> Iterator[tuple[bytes, bytes]]:
        number = 0
        for pair in pairs:
            yield pair
            number += 1
            if number == _PAIRS_A_BREATH:
                number = 0
                self._breathe()

    def frozen(self) -> FrozenReader:
        """Return a reader of this very point in time; close it."""
        return self._store.frozen()


__all__ = ["Apart", "Changes", "PacedReader"]
