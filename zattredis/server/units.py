"""Units: what one connection sent and is answered together, from arrival to reply.

A `Run` holds consecutive commands of one connection and database, all writes or all reads. A `Transaction` is one EXEC.
Both stand in their connection's `units` in the order of arrival; replies leave in that order. Writes also stand in a
`Batch`, which is one log entry; reads may ride in one (DESIGN §2.2). So may `Errand`s, the node's own commands.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, cast

import msgspec

from zattredis.commands.context import Context
from zattredis.errors import ReplyError

if TYPE_CHECKING:
    from zattredis.commands.table import CommandSpec
    from zattredis.server.connection import ClientConnection

WAITING: Final = 0  # in the open batch, or in the reads of this tick
RIDING: Final = 1  # a read, or a write tried as one, that moved into a batch
DONE: Final = 2
SLICED: Final = 3  # a read under way over a frozen view

_encode = msgspec.msgpack.Encoder().encode
_encode_into = msgspec.msgpack.Encoder().encode_into

Watch = tuple[int, bytes, int]
"""(db, key, version seen)"""


class Unit:
    """Base: some commands of one connection that are answered together. `reply` is set, once, when `state` is DONE."""

    __slots__ = ("batch", "bytes_held", "connection", "is_write", "mutes", "reply", "resp", "state")

    def __init__(self, connection: ClientConnection, is_write: bool) -> None:
        self.connection = connection
        self.resp = connection.state.resp
        self.is_write = is_write
        self.state = WAITING
        self.reply = b""
        self.batch: Batch | None = None
        self.bytes_held = 0
        self.mutes: set[int] | None = None  # positions whose reply is dropped (CLIENT REPLY OFF or SKIP)

    def mute_last(self) -> None:
        """The command added last gets no reply."""
        if self.mutes is None:
            self.mutes = set()
        self.mutes.add(len(self) - 1)

    def __len__(self) -> int:
        """How many commands are answered, one reply each."""
        return 1

    def finish(self, reply: bytes) -> None:
        """Set the reply and let the connection send what is ready. Later calls do nothing (a timeout came first)."""
        if self.state != DONE:
            self.state = DONE
            self.reply = reply
            self.connection.unit_done(self)


class Run(Unit):
    """Consecutive commands of one kind (all writes, or all reads) in one database."""

    __slots__ = ("argvs", "db", "specs")

    def __init__(self, connection: ClientConnection, is_write: bool, db: int) -> None:
        # Written out, and not left to `Unit`: every request without pipelining makes one.
        self.connection = connection
        self.resp = connection.state.resp
        self.is_write = is_write
        self.state = WAITING
        self.reply = b""
        self.batch = None
        self.bytes_held = 0
        self.mutes = None
        self.db = db
        self.specs: list[CommandSpec] = []
        self.argvs: list[list[bytes]] = []

    def __len__(self) -> int:
        return len(self.argvs)

    def split(self, count: int) -> Run:
        """Keep the first `count` commands; return the others as a run that is answered right behind this one."""
        rest = Run(self.connection, self.is_write, self.db)
        rest.resp = self.resp
        rest.specs, self.specs = self.specs[count:], self.specs[:count]
        rest.argvs, self.argvs = self.argvs[count:], self.argvs[:count]
        if self.mutes is not None:
            rest.mutes = {position - count for position in self.mutes if position >= count}
            self.mutes = {position for position in self.mutes if position < count}
        self.connection.add_behind(self, rest)
        return rest


class Trial(Run):
    """A write, or some of one and the same line, that may have nothing to do: looked at as a read first (see `trials`).

    If it has something to do at the read point, or a write of its connection follows, it becomes one in the open batch.
    """

    __slots__ = ()


class Transaction(Unit):
    """One EXEC: the queued (db, spec, argv), and what was watched.

    Writes are what the log holds; reads and local commands are carried out by the origin alone, at their place.
    """

    __slots__ = ("commands", "final_db", "holds", "watches")

    def __init__(
        self,
        connection: ClientConnection,
        is_write: bool,
        commands: list[tuple[int, CommandSpec, list[bytes]]],
        watches: list[Watch],
        final_db: int,
        holds: bool = False,
    ) -> None:
        super().__init__(connection, is_write)
        self.commands = commands
        self.watches = watches
        self.final_db = final_db
        self.holds = holds  # what follows on the connection must wait for it


class WatchUnit(Unit):
    """One WATCH: reads the versions of keys at its read point and remembers them in the client's state."""

    __slots__ = ("db", "keys")

    def __init__(self, connection: ClientConnection, db: int, keys: list[bytes]) -> None:
        super().__init__(connection, False)
        self.db = db
        self.keys = keys


class Call(Unit):
    """A function of the node itself over a read point's view. `finish` without `call` means that no read point came."""

    __slots__ = ("called", "error", "function", "on_done", "value")

    def __init__(
        self, connection: ClientConnection, function: Callable[[Context], Any], on_done: Callable[[Call], None]
    ):
        super().__init__(connection, False)
        self.function = function
        self.on_done = on_done
        self.called = False
        self.value: Any = None
        self.error: Exception | None = None

    def call(self, ctx: Context) -> None:
        """Run the function; what it raises is kept in `error`."""
        self.called = True
        try:
            self.value = self.function(ctx)
        except ReplyError as error:
            self.error = error

    def finish(self, reply: bytes) -> None:
        """Tell whoever waits; no client is answered by this unit."""
        if self.state != DONE:
            self.state = DONE
            self.on_done(self)


class Errand(Unit):
    """A command of the node itself, for one of its connections or for none (see `commands.blocking`).

    `finish` tells `on_done` whether it was executed, and if not, the error that a client's command would be answered.
    """

    __slots__ = ("_on_done", "argv", "db", "executed")

    def __init__(self, db: int, argv: list[bytes], on_done: Callable[[Errand, bytes], None]) -> None:
        self.connection = None  # type: ignore[assignment]
        self.resp = 2
        self.is_write = True
        self.state = WAITING
        self.reply = b""
        self.batch = None
        self.bytes_held = 0
        self.mutes = None
        self.db = db
        self.argv = argv
        self.executed = False
        self._on_done = on_done

    def finish(self, reply: bytes) -> None:
        """Tell whoever sent it; `reply` counts where it was not executed."""
        if self.state != DONE:
            self.state = DONE
            self._on_done(self, reply)


class Batch:
    """The writes of one tick of this origin (and the reads that ride), in order: one log entry.

    `sequence` is 0 until the first hand-over. An abandoned batch has been answered TIMEOUT; its payload is then that of
    an empty batch with the same sequence, and whichever the log applies first counts.
    """

    __slots__ = (
        "abandoned", "after", "applied", "bytes_held", "commands", "deadline", "handed_over_at", "opened_at",
        "payload", "seed", "sequence", "session", "units",
    )  # fmt: skip

    def __init__(self, opened_at: float, deadline: float) -> None:
        self.units: list[Unit] = []
        self.after: list[
            Unit
        ] = []  # reads whose read point is confirmed, which wait for this batch of their connection
        self.commands = 0
        self.bytes_held = 0
        self.opened_at = opened_at
        self.deadline = deadline
        self.handed_over_at = 0.0
        self.session = 0
        self.sequence = 0
        self.seed = 0
        self.payload = b""
        self.abandoned = False
        self.applied = False

    @property
    def settled(self) -> bool:
        """Whether a later read of the same connection need not wait for this batch any more."""
        return self.applied or self.abandoned


def encode_units(units: list[Unit], header: bytes = b"") -> bytes:
    """Return the logged form of a batch's writes, behind the header.

    A list of items: [db, [argv, …]] for commands, [watches, [[db, argv], …]] for a transaction, whose first element is
    a list of [db, key, version]. Runs of one database that follow each other become one item.
    """
    items: list[list[object]] = []
    last_db = -1
    last_argvs: list[list[bytes]] = []
    for unit in units:
        if not unit.is_write:
            continue
        if isinstance(unit, Run | Errand):
            argvs = unit.argvs if isinstance(unit, Run) else [unit.argv]
            if unit.db == last_db:
                last_argvs.extend(argvs)
            else:
                last_db = unit.db
                last_argvs = list(argvs)
                items.append([last_db, last_argvs])
        elif isinstance(unit, Transaction):
            last_db = -1
            writes = [(db, argv) for db, spec, argv in unit.commands if spec.kind == 2]
            items.append([unit.watches, writes])
    if not header:
        return _encode(items)
    framed = bytearray(header)
    _encode_into(items, framed, len(header))
    return cast(bytes, framed)  # nobody changes it, and a copy of a large one takes its time


EMPTY_UNITS: Final = _encode([])
