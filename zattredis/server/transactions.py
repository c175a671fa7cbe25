"""MULTI, EXEC and WATCH on the origin: from a client's queue to one unit (DESIGN §1, §2.2).

The log holds the writes of an EXEC and what was watched; WATCH compares versions at apply, on every node alike.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from zattredis.commands.table import CommandSpec, Flag, Kind
from zattredis.errors import DefiniteError, ExecAbort, ReplyError
from zattredis.keyspace.registers import DATABASES
from zattredis.server.units import DONE, RIDING, WAITING, Batch, Transaction, Trial, Unit, WatchUnit

if TYPE_CHECKING:
    from zattredis.server.access import Access
    from zattredis.server.clients import ClientState
    from zattredis.server.connection import ClientConnection
    from zattredis.server.proposals import Proposals

_CHANGE_WHAT_FOLLOWS: Final = frozenset(("SELECT", "AUTH", "HELLO"))
"""LOCAL commands behind which, in an EXEC, the connection's next commands are read differently."""


def watch_unit(connection: ClientConnection, argv: list[bytes]) -> WatchUnit:
    """Return the unit of a WATCH."""
    return WatchUnit(connection, connection.state.db, argv[1:])


def watch_pending(connection: ClientConnection) -> bool:
    """Return whether a WATCH of the connection has not seen its versions yet."""
    return any(isinstance(unit, WatchUnit) and unit.state != DONE for unit in connection.units)


def exec_unit(connection: ClientConnection) -> Transaction:
    """Return the unit of an EXEC and end the client's MULTI. Raises ReplyError, the answer instead."""
    state = connection.state
    if not state.in_multi:
        raise DefiniteError("EXEC without MULTI")
    if state.dirty:
        state.end_multi()
        raise ExecAbort
    db = state.db
    holds = False
    commands: list[tuple[int, CommandSpec, list[bytes]]] = []
    is_write = False
    for spec, argv in state.queue:
        commands.append((db, spec, argv))
        if spec.kind == Kind.WRITE:
            is_write = True
            if spec.original is not None and spec.original.kind == Kind.LOCAL:
                holds = True
        elif spec.name in _CHANGE_WHAT_FOLLOWS:
            holds = True
            if spec.name == "SELECT":
                db = _selected(argv[1], db)
    watches = [(watched_db, key, version) for (watched_db, key), version in state.watched.items()]
    state.end_multi()
    return Transaction(connection, is_write, commands, watches, db, holds)


def check_again(state: ClientState, access: Access) -> None:
    """Put an error in the place of each queued command that the client's user may not send by now."""
    for place, (spec, argv) in enumerate(state.queue):
        error = access.check_queued(state, spec, argv)
        if error is not None:
            state.queue[place] = (_refused(spec.original or spec, error), argv)


def check_queue(state: ClientState, memory_refusal: ReplyError | None, write_refusal: ReplyError | None) -> None:
    """Raise ExecAbort, ending the client's MULTI, if what it queued is refused by now."""
    refusal = None
    if memory_refusal is not None and any(spec.flags & Flag.DENYOOM for spec, _ in state.queue):
        refusal = memory_refusal
    elif write_refusal is not None and any(spec.kind == Kind.WRITE for spec, _ in state.queue):
        refusal = write_refusal
    if refusal is not None:
        state.end_multi()
        raise ExecAbort(f"Transaction discarded because of: {refusal}")


def _refused(spec: CommandSpec, error: ReplyError) -> CommandSpec:
    def refuse(_ctx: object, *_words: bytes) -> None:
        raise error

    return replace(spec, name="refused", kind=Kind.LOCAL, handler=refuse, variant=None, logged=None, original=spec)


def _selected(word: bytes, db: int) -> int:
    """Return the database that SELECT `word` will leave selected."""
    digits = word[1:] if word[:1] == b"-" else word
    if digits.isdigit() and (digits == b"0" or digits[:1] != b"0") and 0 <= int(word) < DATABASES:
        return int(word)
    return db


def take_along(connection: ClientConnection, proposals: Proposals) -> None:
    """A write follows unanswered reads of its connection: they move into its batch, at its place."""
    batch = proposals.open_batch()
    for unit in connection.reads:
        if unit.state == WAITING:
            if isinstance(unit, Trial):
                proposals.take_in(unit)
            else:
                ride(unit, batch)
    connection.reads.clear()


def ride(unit: Unit, batch: Batch) -> None:
    """Let a read ride in the open batch."""
    unit.state = RIDING
    unit.batch = batch
    batch.units.append(unit)
