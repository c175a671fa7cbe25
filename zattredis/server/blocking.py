"""Blocked clients: this node's side of the blocking pops, and of the state's waiters (`keyspace.waiters`).

The life of a blocking pop that finds nothing:

1. Its entry, at apply, makes it a waiter in the replicated state; here its unit is kept, unanswered.
2. A command on any node makes one of its keys ready. At its apply, on every node alike, the waiters are served in the
   order of the log: BLMOVE at once, any other pop by *reserving* elements in the waiter's row.
3. This node sees the reservation at its own apply and, if the client is still there, proposes to *settle* it. When that
   applies the elements are the client's, and the reply leaves. If the client is gone, it proposes to *withdraw* the
   waiter, and the elements go back to where they were.

Decisions, with their reasons:

- **Elements are reserved by the command that pushes, and change hands by an entry of the waiter's node.** Served by the
  push alone, elements would be lost to clients that vanished, or whose node died, unnoticed. Left in the key until the
  waiter's node takes them, they would be seen by whoever looks behind an answered push, which Redis never shows. Now
  both hold: after the push the key is empty, and an element is popped by one entry, proposed by the one node that knows
  the client, on condition that nothing happened in between. BLMOVE needs no reservation: what it moves is not lost.
- **Timeout, CLIENT UNBLOCK and settling are the same entry**: it gives the waiter what is reserved for it, or cancels
  it. So whichever came first in the log wins, and nobody is told of a timeout while an element is on its way to it.
- **What happened is learnt from the state machine, not from the fate of a proposal.** Errands (settle, withdraw,
  resume) are harmless when repeated, so one whose outcome is unknown is sent again; events say once what became of a
  waiter.
- **An element given to a client that has gone since is put back**, as long as this process lives to do it and the reply
  was not written: also to one that goes between its answer and the end of that tick, or that still waits for an earlier
  answer. That command is not harmless when repeated: one whose outcome is unknown is sent again only once the log has
  decided on it.
- **The waiters of a node that was silent for DROP_AFTER_S are dropped by the leader**, so that what is reserved for
  them is not kept from others. A node that finds its clients' waiters dropped has them resume at their old places.
- **Time is counted here, by the monotonic clock**; the state knows no timeouts, so waiting writes nothing. Without a
  majority a client just waits; when its time runs out then, its errand runs out too, after `request_timeout_ms`, and
  the client gets that errand's error: TIMEOUT, or CLUSTERDOWN where it was certainly not served.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable
from typing import Any, Final

from zattredis.commands.blocking import (
    DROP,
    RESUME,
    SETTLE,
    WITHDRAW,
    encode_put_back,
    wanted_by,
)
from zattredis.errors import OutcomeUnknown, ReplyError
from zattredis.keyspace.waiters import (
    CANCELLED,
    DROPPED,
    REGISTERED,
    RESERVED,
    RETURNED,
    SERVED,
    Event,
    Popped,
    Taken,
    Waiters,
    Waiting,
)
from zattredis.resp.replies import NULL_ARRAY, encode
from zattredis.server.clock import monotonic
from zattredis.server.executor import Executor, encode_run
from zattredis.server.proposals import Proposals
from zattredis.server.units import Errand, Run

DROP_AFTER_S: Final = 2.0
"""For how long the leader must have heard nothing of a node before it drops the node's waiters."""
UNKNOWN: Final = b"-" + OutcomeUnknown.prefix.encode()
"""What the reply of an errand begins with that may have been executed."""


class Unblocked(ReplyError):
    """CLIENT UNBLOCK … ERROR."""

    prefix = "UNBLOCKED"

    def __init__(self) -> None:
        super().__init__("client unblocked via CLIENT UNBLOCK")


class _Blocked:
    """A client of this node that waits. `ending` is the reply it gets if it is cancelled now, None while it waits.

    `errands` counts what was handed in for it and may serve it, with an outcome that is open, also what was lost on the
    way: while there is one, the client may have been served.
    """

    __slots__ = ("ending", "errands", "order", "run", "settling")

    def __init__(self, order: int, run: Run) -> None:
        self.order = order
        self.run = run
        self.ending: Any = None
        self.settling = False  # it was, or is about to be, proposed
        self.errands = 0


class Blocking:
    """One per node. Invariant: every waiter of this node's session is kept here, or is about to be withdrawn."""

    __slots__ = (
        "_by_order", "_call_later", "_deadlines", "_dropping", "_executor", "_given", "_proposals", "_put_backs",
        "_schedule", "_settle", "_source", "_tokens", "_uncertain", "_wake_at", "_withdraw", "stopping",
    )  # fmt: skip

    def __init__(
        self,
        *,
        proposals: Proposals,
        waiters: Callable[[], Waiters],
        schedule: Callable[[], None],
        call_later: Callable[[float, Callable[[], None]], Any],
        executor: Executor,
    ) -> None:
        self._executor = executor
        self._proposals = proposals
        self._source = waiters
        self._schedule = schedule
        self._call_later = call_later
        self._by_order: dict[int, _Blocked] = {}
        self._deadlines: list[tuple[float, int]] = []
        self._wake_at = 0.0  # when the next look at the deadlines is due, 0 for never
        self._settle: dict[int, None] = {}
        self._withdraw: dict[int, None] = {}
        self._put_backs: dict[int, list[bytes]] = {}  # token → the command line, until it is seen to have happened
        self._dropping: set[int] = set()
        self._uncertain: set[int] = set()  # tokens of command lines that may have been executed, or may yet be
        self._tokens = 0
        self._given: list[tuple[Run, Taken, int]] = []  # answered, but perhaps not sent yet; bytes sent before that
        self.stopping = False

    def __len__(self) -> int:
        return len(self._by_order)

    @property
    def idle(self) -> bool:
        """Whether nothing waits to be proposed; a node that was removed can propose nothing."""
        return self._proposals.ended or not (self._settle or self._withdraw or self._put_backs)

    # -- what the log says -------------------------------------------------------------------------------------------

    def on_popped(self, run: Run, value: Any) -> None:
        """A blocking command of this node was carried out: its client gets its reply, or has to wait."""
        connection = run.connection
        if not isinstance(value, Waiting):
            self._answer(run, value)
            return
        if connection.closed or self.stopping:
            self._withdraw_later(value.order)
            return
        blocked = self._by_order[value.order] = _Blocked(value.order, run)
        if value.timeout_ms:
            self._wake_for(monotonic() + value.timeout_ms / 1000, value.order)
        connection.state.block(lambda error: self._unblock(blocked, error))

    def on_waiters(self, events: Iterable[Event]) -> None:
        """Waiters of any node were registered, served, …, in this order."""
        for event in events:
            blocked = self._by_order.get(event.order)
            if event.what == RETURNED:
                if event.session in self._proposals.sessions_had:
                    self._put_backs.pop(event.order, None)
            elif blocked is None:
                self._on_stranger(event)
            elif event.what == RESERVED:
                self._settle_later(blocked)
            elif event.what == SERVED:
                self._end(blocked, event.value)
            elif event.what in (CANCELLED, DROPPED):
                self._on_gone(blocked)

    def _on_stranger(self, event: Event) -> None:
        """Nobody here waits under this order: another node's, or one that was answered already."""
        if event.session not in self._proposals.sessions_had:
            return
        if event.what == REGISTERED:
            self._withdraw_later(event.order)  # its client was told TIMEOUT, or is gone
        elif event.what == SERVED and isinstance(event.value, Popped):
            self._put_back(event.value.taken)

    def _on_gone(self, blocked: _Blocked) -> None:
        """Its waiter is gone and nothing was popped for it: cancelled, or dropped as a silent node's."""
        if blocked.ending is not None:
            self._end(blocked, blocked.ending)
        else:
            self._resume(blocked)

    def on_snapshot(self) -> None:
        """State and log were replaced by a snapshot, which may cover what this node's waiters met with."""
        waiters = self._source()
        for token in self._uncertain:
            self._put_backs.pop(token, None)  # perhaps done and covered by the snapshot: rather not at all than twice
        self._uncertain.clear()
        for blocked in list(self._by_order.values()):
            waiter = waiters.by_order.get(blocked.order)
            if waiter is None:
                self._on_missing(blocked)
            elif waiter.reserved:
                self._settle_later(blocked)
        mine = waiters.by_session.get(self._proposals.session, {})
        for order in sorted(mine):
            if order not in self._by_order:
                self._withdraw_later(order)

    def _on_missing(self, blocked: _Blocked) -> None:
        """Its waiter is gone, nobody knows how. It was not served if only a settling could have served it."""
        if blocked.settling or wanted_by(blocked.run.argvs[0]).target is not None:
            self._end(blocked, OutcomeUnknown())
        else:
            self._resume(blocked)

    # -- answering ---------------------------------------------------------------------------------------------------

    def _end(self, blocked: _Blocked, value: Any) -> None:
        """The waiter is gone from the state: its client gets its reply."""
        del self._by_order[blocked.order]
        self._settle.pop(blocked.order, None)
        blocked.run.connection.state.unblocked()
        self._answer(blocked.run, value)

    def _answer(self, run: Run, value: Any) -> None:
        """Send the reply. The command counts now, and once, whether it had to wait or not: as in Redis."""
        self._executor.measure(run, 0.0)
        self._executor.settle()
        connection = run.connection
        if isinstance(value, Popped):
            if connection.closed:
                self._put_back(value.taken)
            else:
                self._given.append((run, value.taken, connection.state.written_bytes))
        run.finish(encode_run(run, [value]))

    def _look_at_given(self) -> None:
        """A client that goes before its reply was written never had the elements: put back what certainly was not."""
        kept = []
        for run, taken, written_before in self._given:
            connection = run.connection
            held, written = run in connection.units, connection.state.written_bytes
            if connection.closed:
                if held or written == written_before:
                    self._put_back(taken)
            elif held or connection.out:
                kept.append((run, taken, written))
        self._given = kept

    def _give_up(self, blocked: _Blocked, reply: bytes) -> None:
        """Its end could not be agreed on: the client gets the error, and whatever is given to it later goes back.

        Unless this node takes a snapshot instead of the entry that gives it: so the outcome is unknown while another
        errand may be executed, though this one certainly was not. What moves elements is served where they are pushed,
        and nothing goes back: nobody here can say that it was not.
        """
        if blocked.errands or wanted_by(blocked.run.argvs[0]).target is not None:
            reply = encode(OutcomeUnknown(), blocked.run.resp)
        del self._by_order[blocked.order]
        blocked.run.connection.state.unblocked()
        self._withdraw_later(blocked.order)
        blocked.run.finish(reply if blocked.run.mutes is None else b"")

    # -- timeouts, CLIENT UNBLOCK, clients that go ---------------------------------------------------------------------

    def _unblock(self, blocked: _Blocked, error: bool) -> None:
        """CLIENT UNBLOCK, or the connection is gone (then nobody is answered)."""
        if self._by_order.get(blocked.order) is not blocked:
            return
        if blocked.run.connection.closed:
            self._leave(blocked)
        elif blocked.ending is None:
            blocked.ending = Unblocked() if error else NULL_ARRAY
            self._settle_later(blocked)

    def _leave(self, blocked: _Blocked) -> None:
        del self._by_order[blocked.order]
        self._settle.pop(blocked.order, None)
        self._withdraw_later(blocked.order)

    def _wake_for(self, deadline: float, order: int) -> None:
        if len(self._deadlines) > 2 * len(self._by_order) + 64:  # most of them have been served
            self._deadlines = [pair for pair in self._deadlines if pair[1] in self._by_order]
            heapq.heapify(self._deadlines)
        heapq.heappush(self._deadlines, (deadline, order))
        if not self._wake_at or deadline < self._wake_at:
            self._wake_at = deadline
            self._call_later(max(0.0, deadline - monotonic()), self.expire)

    def expire(self) -> None:
        """End the waiting of those whose time is up. Called by its own timer; calling it at other times is harmless."""
        now = monotonic()
        deadlines = self._deadlines
        while deadlines and (deadlines[0][0] <= now or deadlines[0][1] not in self._by_order):
            blocked = self._by_order.get(heapq.heappop(deadlines)[1])
            if blocked is not None and blocked.ending is None:
                blocked.run.connection.state.unblocked()
                blocked.ending = NULL_ARRAY
                self._settle_later(blocked)
        self._wake_at = 0.0
        if deadlines:
            self._wake_at = deadlines[0][0]
            self._call_later(max(0.001, self._wake_at - now), self.expire)

    def stop(self) -> None:
        """The node is ending: its clients' connections close unanswered, as in Redis, and their waiters go first."""
        self.stopping = True
        for blocked in list(self._by_order.values()):
            self._leave(blocked)

    # -- errands -----------------------------------------------------------------------------------------------------

    def _settle_later(self, blocked: _Blocked) -> None:
        blocked.settling = True
        self._settle[blocked.order] = None
        self._schedule()

    def _withdraw_later(self, order: int) -> None:
        self._withdraw[order] = None
        self._schedule()

    def flush(self) -> None:
        """End of tick: propose what is due, many at once."""
        if self._given:
            self._look_at_given()
        if self._settle:
            orders, self._settle = list(self._settle), {}
            for order in orders:
                if (blocked := self._by_order.get(order)) is not None:
                    blocked.errands += 1
            self._send([SETTLE, *[b"%d" % order for order in orders]], lambda e, reply: self._settled(orders, e, reply))
        if self._withdraw:
            gone, self._withdraw = list(self._withdraw), {}
            self._send([WITHDRAW, *[b"%d" % order for order in gone]], lambda e, reply: self._withdrawn(gone, e))

    def _settled(self, orders: list[int], errand: Errand, reply: bytes) -> None:
        """Events say what became of them. An errand that was lost is sent again, unless its client's time is up."""
        certain = errand.executed or not reply.startswith(UNKNOWN)
        for order in orders:
            blocked = self._by_order.get(order)
            if blocked is None:
                continue
            blocked.errands -= certain
            if errand.executed:
                continue
            if blocked.ending is not None:
                self._give_up(blocked, reply)
            elif self._reserved(order):
                self._settle_later(blocked)

    def _reserved(self, order: int) -> bool:
        """Whether something is reserved for a waiter. To settle one for whom nothing is would cancel it."""
        waiter = self._source().by_order.get(order)
        return waiter is not None and waiter.reserved

    def _withdrawn(self, orders: list[int], errand: Errand) -> None:
        if not errand.executed and not self.stopping:
            for order in orders:
                self._withdraw_later(order)

    def _resume(self, blocked: _Blocked) -> None:
        run = blocked.run
        blocked.settling = False
        self._settle.pop(blocked.order, None)
        argv = [RESUME, b"%d" % blocked.order, *run.argvs[0]]

        def done(errand: Errand, reply: bytes) -> None:
            blocked.errands -= errand.executed or not reply.startswith(UNKNOWN)
            if not errand.executed and self._by_order.get(blocked.order) is blocked:
                self._resume(blocked)

        blocked.errands += 1
        self._send(argv, done, run.db)

    def _put_back(self, taken: Taken) -> None:
        """A client was given what it cannot have any more."""
        self._tokens += 1
        self._put_backs[self._tokens] = encode_put_back(self._tokens, taken)
        self._send_put_back(self._tokens)

    def _send_put_back(self, token: int) -> None:
        def done(errand: Errand, reply: bytes) -> None:
            if errand.executed:
                self._put_backs.pop(token, None)
            elif token in self._put_backs:
                self._uncertain.add(token)
                self._send_barrier(token)

        self._send(self._put_backs[token], done)

    def _send_barrier(self, token: int) -> None:
        """Once an errand that does nothing is executed, everything handed over before it is decided."""

        def done(errand: Errand, reply: bytes) -> None:
            if token not in self._uncertain:
                return
            if not errand.executed:
                self._send_barrier(token)
                return
            self._uncertain.discard(token)
            if token in self._put_backs:
                self._send_put_back(token)

        self._send([WITHDRAW], done)

    def drop(self, session: int) -> None:
        """As the leader: the node of that session is silent. Drop its waiters, so that others get what it holds."""
        if session in self._dropping or session not in self._source().by_session:
            return
        self._dropping.add(session)
        self._send([DROP, b"%d" % session], lambda errand, reply: self._dropping.discard(session))

    def _send(self, argv: list[bytes], on_done: Callable[[Errand, bytes], None], db: int = 0) -> None:
        self._proposals.send(Errand(db, argv, on_done))
        self._schedule()
