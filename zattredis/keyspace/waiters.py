"""Waiters: the clients that wait in a blocking pop, as part of the replicated state.

A waiter is one row, `m` | waiter/ | order(8), and a place in the line of each of its keys, which is kept in memory
alone. Its order is a number of the state machine's one counter, so it is its name and its place in every line at once.
It belongs to a session: that of the node whose client waits.

A row is in one of two states. *Waiting*: it stands in line. *Reserved*: elements were taken out of a key for it; they
are in the row, and wait for its node to settle (the client gets them) or to withdraw (they go back to the key).

**Invariants.** `lines` holds exactly the waiters that are not reserved, each line in the order of its waiters. No key
that holds something of its line's type has a line once a command is done: `serving.serve` sees to it. Rows and lines
change together, and are rolled back together with the command that changed them. Lines are keyed by database number
and not by namespace: a client waits in a database, whatever SWAPDB and FLUSHALL do to its content, as in Redis.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final, NamedTuple, Protocol

import msgspec

from zattredis.errors import StateDamaged
from zattredis.keyspace.reader import Reader

META_WAITERS: Final = b"mwaiter/"
_END: Final = b"mwaiter0"

REGISTERED: Final = "registered"
RESERVED: Final = "reserved"
SERVED: Final = "served"
CANCELLED: Final = "cancelled"
DROPPED: Final = "dropped"
RETURNED: Final = "returned"

Place = tuple[int, int, bytes]
"""(type of the key's content, database, key): whose line it is."""

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder().decode


class Wanted(NamedTuple):
    """What a blocking pop takes from the first of its keys that holds it.

    `kind` is the type of content (metadata.LIST or ZSET); `first` says from the left, or the lowest scores. `most` 0
    is one element, answered as BLPOP and BZPOPMIN answer; a larger one is the most that BLMPOP and BZMPOP take. With a
    `target`, the element goes to that list, on its left or right (BLMOVE).
    """

    kind: int
    first: bool
    most: int = 0
    target: bytes | None = None
    target_left: bool = False


class Taken(NamedTuple):
    """What was taken for a waiter, with all that is needed to put it back; `kind` and `first` as in Wanted.

    `elements` are bytes of a list, [member, score] of a sorted set, in the order in which they were popped.
    """

    kind: int
    first: bool
    key: bytes
    namespace: int
    expire_ms: int
    elements: list[Any]


class Popped(list[Any]):
    """The reply to a blocking pop that found something, and what was taken for it."""

    __slots__ = ("taken",)

    def __init__(self, reply: Iterable[Any], taken: Taken) -> None:
        super().__init__(reply)
        self.taken = taken


class Waiting:
    """What a blocking command returns when its client has to wait: which waiter, for how many ms (0: for ever)."""

    __slots__ = ("order", "timeout_ms")

    def __init__(self, order: int, timeout_ms: int) -> None:
        self.order = order
        self.timeout_ms = timeout_ms


class Event(NamedTuple):
    """What has happened to a waiter at apply, for the node of its session. `value` is the reply value of SERVED."""

    what: str
    order: int
    session: int
    value: Any = None


class Waiter:
    """One client in line; see the module."""

    __slots__ = ("db", "keys", "order", "reserved", "session", "wanted")

    def __init__(self, order: int, session: int, db: int, keys: tuple[bytes, ...], wanted: Wanted) -> None:
        self.order = order
        self.session = session
        self.db = db
        self.keys = keys
        self.wanted = wanted
        self.reserved = False

    @property
    def places(self) -> list[Place]:
        """Where it stands in line while it is not reserved."""
        kind, db = self.wanted.kind, self.db
        return [(kind, db, key) for key in self.keys]


class Effects(Protocol):
    """What the waiters need of the view of a command (`view.View`): what they change is an effect of that command."""

    def changed(self) -> Iterable[tuple[int, bytes]] | None:
        """Return the (database, key) it has changed, in order; None for any."""
        ...

    def get_raw(self, key: bytes) -> bytes | None:
        """Return the value of a raw key."""
        ...

    def put_raw(self, key: bytes, value: bytes | None) -> None:
        """Set a raw key, None removes it."""
        ...

    def on_rollback(self, undo: Callable[[], None]) -> None:
        """Call `undo` if the command fails."""
        ...


class Waiters:
    """All waiters. Changes go through `add`, `reserve` and `remove`, within the command whose effects they become."""

    __slots__ = ("_names", "by_order", "by_session", "events", "lines")

    def __init__(self) -> None:
        self.by_order: dict[int, Waiter] = {}
        self.by_session: dict[int, dict[int, Waiter]] = {}
        self.lines: dict[Place, dict[int, Waiter]] = {}
        """Whoever carries out commands asks whether this is empty: then there is nobody to serve."""
        self._names: dict[bytes, int] = {}  # key → in how many lines it is, in any database
        self.events: list[Event] = []
        """What happened since the owner of the state drained it."""

    def load(self, reader: Reader) -> None:
        """Replace all by what `reader` holds. Raises StateDamaged for a row that cannot be read."""
        self.__init__()  # type: ignore[misc]
        for name, row in reader.iterate(META_WAITERS, _END):
            order = int.from_bytes(name[len(META_WAITERS) :], "big")
            waiter, taken = _decode_row(order, row)
            waiter.reserved = taken is not None
            self._insert(waiter)

    def drain(self) -> list[Event]:
        """Return and forget the events."""
        events, self.events = self.events, []
        return events

    # -- lines -------------------------------------------------------------------------------------------------------

    def first_of(self, place: Place) -> Waiter | None:
        """Return who is first in a line."""
        line = self.lines.get(place)
        return None if line is None else next(iter(line.values()))

    def ready(self, view: Effects) -> list[tuple[int, bytes]]:
        """Return the (database, key) that somebody waits for and that the present command or unit has changed.

        In the order of their first change. To be asked before the command or unit is committed.
        """
        changed = view.changed()
        if changed is None:
            found = [(waiter.db, key) for _, waiter in sorted(self.by_order.items()) for key in waiter.keys]
        else:
            names = self._names
            found = [pair for pair in changed if pair[1] in names]
        return list(dict.fromkeys(found))

    def _insert(self, waiter: Waiter) -> None:
        self.by_order[waiter.order] = waiter
        self.by_session.setdefault(waiter.session, {})[waiter.order] = waiter
        if not waiter.reserved:
            self._line_up(waiter)

    def _discard(self, waiter: Waiter) -> None:
        del self.by_order[waiter.order]
        mine = self.by_session[waiter.session]
        del mine[waiter.order]
        if not mine:
            del self.by_session[waiter.session]
        if not waiter.reserved:
            self._leave(waiter)

    def _line_up(self, waiter: Waiter) -> None:
        order = waiter.order
        for place in waiter.places:
            line = self.lines.get(place)
            if line is None:
                self.lines[place] = {order: waiter}
                self._names[place[2]] = self._names.get(place[2], 0) + 1
                continue
            behind = next(reversed(line)) < order
            line[order] = waiter
            if not behind:  # it is back: in its old place
                self.lines[place] = dict(sorted(line.items()))

    def _leave(self, waiter: Waiter) -> None:
        for place in waiter.places:
            line = self.lines[place]
            del line[waiter.order]
            if not line:
                del self.lines[place]
                left = self._names[place[2]] - 1
                if left:
                    self._names[place[2]] = left
                else:
                    del self._names[place[2]]

    def _set_reserved(self, waiter: Waiter, reserved: bool) -> None:
        if reserved:
            self._leave(waiter)
            waiter.reserved = True
        else:
            waiter.reserved = False
            self._line_up(waiter)

    # -- changes -----------------------------------------------------------------------------------------------------

    def add(self, view: Effects, waiter: Waiter) -> None:
        """Let a waiter join the lines of its keys. Its keys are different ones, and its order is new."""
        self._insert(waiter)
        view.on_rollback(lambda: self._discard(waiter))
        view.put_raw(_name(waiter.order), _encode_row(waiter, None))
        self.note(view, Event(REGISTERED, waiter.order, waiter.session))

    def reserve(self, view: Effects, waiter: Waiter, taken: Taken) -> None:
        """Keep `taken` for the waiter, who leaves the lines."""
        self._set_reserved(waiter, True)
        view.on_rollback(lambda: self._set_reserved(waiter, False))
        view.put_raw(_name(waiter.order), _encode_row(waiter, taken))
        self.note(view, Event(RESERVED, waiter.order, waiter.session))

    def remove(self, view: Effects, waiter: Waiter, event: Event | None) -> None:
        """Forget a waiter; what was reserved for it is the caller's."""
        self._discard(waiter)
        view.on_rollback(lambda: self._insert(waiter))
        view.put_raw(_name(waiter.order), None)
        if event is not None:
            self.note(view, event)

    def taken_for(self, view: Effects, waiter: Waiter) -> Taken:
        """Return what a reserved waiter's row holds."""
        row = view.get_raw(_name(waiter.order))
        taken = None if row is None else _decode_row(waiter.order, row)[1]
        if taken is None:
            raise StateDamaged(f"the row of waiter {waiter.order} does not hold what was reserved for it")
        return taken

    def note(self, view: Effects, event: Event) -> None:
        """Tell the node of the waiter's session, once what is being carried out is written."""
        self.events.append(event)
        view.on_rollback(self._forget_event)

    def _forget_event(self) -> None:
        self.events.pop()


def _name(order: int) -> bytes:
    return META_WAITERS + order.to_bytes(8, "big")


def _encode_row(waiter: Waiter, taken: Taken | None) -> bytes:
    wanted = waiter.wanted
    return _encode((waiter.session, waiter.db, waiter.keys, tuple(wanted), None if taken is None else tuple(taken)))


def _decode_row(order: int, row: bytes) -> tuple[Waiter, Taken | None]:
    try:
        session, db, keys, wanted, taken = _decode(row)
        waiter = Waiter(order, session, db, tuple(keys), Wanted(*wanted))
        return waiter, None if taken is None else Taken(*taken)
    except (msgspec.DecodeError, ValueError, TypeError) as error:
        raise StateDamaged(f"the row of waiter {order} cannot be read: {error}") from error


def distinct(keys: Iterable[bytes]) -> tuple[bytes, ...]:
    """Return the keys without repetitions, in their order."""
    return tuple(dict.fromkeys(keys))
