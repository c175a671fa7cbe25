"""Proposals: an origin's writes, from the open batch of this tick to the log and back (DESIGN §2.1).

A batch is open until it is handed over, then in flight until the log applies it. Sequences are given at the first
hand-over. Whatever is in flight is sent again to a new leader, after a gap, a reset link or a while without progress;
the leader's admission and the sessions' rows make that harmless. A batch that runs out of time is answered at once:
CLUSTERDOWN when it was never handed over (then it never will be), else TIMEOUT, and an empty batch takes its sequence,
so that it cannot come alive hours later.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Iterator
from itertools import chain, dropwhile
from typing import Protocol

from zattredis.errors import ClusterDown, OutcomeUnknown
from zattredis.observability.exposition import BOUNDS_S
from zattredis.resp.replies import encode
from zattredis.server.clock import Seeds, monotonic, random_64
from zattredis.server.gathering import Gathering
from zattredis.server.sessions import BATCH_HEADER, Sessions
from zattredis.server.units import DONE, EMPTY_UNITS, RIDING, SLICED, Batch, Errand, Trial, Unit, encode_units

IN_FLIGHT_BATCHES_MAX = 64
LARGE_BYTES = 1 << 20
"""A batch beyond this is encoded behind its header at once: putting the header before it later copies it all."""
IN_FLIGHT_BYTES_MAX = 16 << 20
QUEUE_AFTER_S = 0.05
"""A batch that cannot be handed over is closed after this time, so that later commands get deadlines of their own."""
RESENT_BYTES_PER_S = 8 << 20
"""What a batch's way through the log is expected to manage at the least, before it counts as lost."""
NO_QUORUM = "no leader with a majority can be reached; the command was not executed"


class Transport(Protocol):
    """How a batch gets to the leader, wherever that is."""

    def forward_batch(self, session: int, sequence: int, payload: bytes) -> bool:
        """Hand a batch to the leader; False: certainly not handed over."""
        ...

    def forward_open(self, nonce: int) -> bool:
        """Ask the leader to open a session for this node."""
        ...


class Proposals:
    """One per node. Invariant: batches in flight have consecutive sequences, the first is `applied_sequence` + 1."""

    __slots__ = (
        "_applied_at", "_batch_bytes_max", "_batch_commands_max", "_gathering", "_in_flight", "_next_sequence",
        "_node_id", "_nonce", "_on_reads", "_open", "_open_asked_at", "_progress_at", "_queue", "_retry_s", "_schedule",
        "_seeds", "_sent", "_sessions", "_transport", "agreed_buckets", "agreed_s", "applied_sequence",
        "batched_commands", "batches", "bytes_held", "ended", "refused", "request_timeout_s", "session",
        "sessions_had", "timed_out",
    )  # fmt: skip

    def __init__(
        self,
        *,
        node_id: str,
        sessions: Sessions,
        transport: Transport,
        on_reads: Callable[[list[Unit]], None],
        request_timeout_s: float,
        retry_s: float,
        batch_bytes_max: int,
        batch_commands_max: int,
        schedule: Callable[[], None],
    ) -> None:
        """`schedule` asks for another end of a tick, at which `flush` is called again."""
        self._node_id = node_id
        self._sessions = sessions
        self._transport = transport
        self._on_reads = on_reads
        self._retry_s = retry_s
        self._batch_bytes_max = batch_bytes_max
        self._batch_commands_max = batch_commands_max
        self._schedule = schedule
        self._gathering = Gathering()
        self.request_timeout_s = request_timeout_s
        self._nonce = random_64()
        self._seeds = Seeds(random_64())
        self.session = 0
        self.ended = False  # this node was removed
        self.sessions_had: set[int] = set()
        self._next_sequence = 1
        self.applied_sequence = 0
        self._sent = 0  # highest sequence handed to the present leader, all below it too
        self._open: Batch | None = None
        self._queue: deque[Batch] = deque()
        self._in_flight: deque[Batch] = deque()
        self._progress_at = monotonic()
        self._open_asked_at = 0.0
        self._applied_at = 0.0
        self.bytes_held = 0
        self.timed_out = 0
        self.refused = 0
        self.batches = 0
        self.batched_commands = 0
        self.agreed_s = 0.0
        self.agreed_buckets = [0] * (len(BOUNDS_S) + 1)

    # -- gathering ---------------------------------------------------------------------------------------------------

    def open_batch(self) -> Batch:
        """Return the batch that commands of this tick join. Whoever adds a command calls `added`."""
        batch = self._open
        if batch is None:
            now = monotonic()
            batch = self._open = Batch(now, now + self.request_timeout_s)
        return batch

    def added(self, batch: Batch, size: int) -> None:
        """Count a command of `size` bytes that was just put into `batch`; a full batch is closed."""
        batch.commands += 1
        batch.bytes_held += size
        self.bytes_held += size
        if batch.bytes_held >= self._batch_bytes_max or batch.commands >= self._batch_commands_max:
            self.close_open()

    def send(self, errand: Errand) -> None:
        """Put a command of the node itself into the open batch. Once the node was removed nothing becomes of it."""
        if self.ended:
            return  # to refuse it would have it sent again, and again
        batch = self.open_batch()
        errand.batch = batch
        batch.units.append(errand)
        self.added(batch, sum(map(len, errand.argv)))

    def take_in(self, trial: Trial) -> None:
        """Make a write that was tried as a read one of the open batch."""
        batch = self.open_batch()
        trial.is_write = True
        trial.state = RIDING
        trial.batch = batch
        batch.units.append(trial)
        size = sum(map(len, chain.from_iterable(trial.argvs)))
        batch.commands += len(trial)
        batch.bytes_held += size
        self.bytes_held += size

    def is_open(self, batch: Batch | None) -> bool:
        """Return whether reads may still join `batch`."""
        return batch is not None and batch is self._open

    def close_open(self) -> None:
        """Let nothing more join the open batch."""
        if self._open is not None:
            self._queue.append(self._open)
            self._open = None

    @property
    def in_flight(self) -> int:
        """Batches handed over and not yet applied."""
        return len(self._in_flight)

    @property
    def idle(self) -> bool:
        """Whether nothing is owed to anyone."""
        return self._open is None and not self._queue and not any(not batch.abandoned for batch in self._in_flight)

    # -- handing over ------------------------------------------------------------------------------------------------

    def flush(self) -> None:
        """End of tick: hand over what is due, oldest first. Does nothing while there is no session or no leader."""
        if not self.session:
            return
        if self._sent < self._next_sequence - 1 and not self._resend():
            return
        while self._window_open():
            if not self._queue:
                if self._open is None:
                    return
                if self._lingers(self._open):
                    self._schedule()
                    return
                self.close_open()
            if not self._hand_over(self._queue[0]):
                return
            self._queue.popleft()

    def _lingers(self, batch: Batch) -> bool:
        under_way = sum([len(one.units) for one in self._in_flight])
        if self._gathering.worth_waiting(len(batch.units), under_way, monotonic() - batch.opened_at):
            return True
        self._gathering.handed_over()
        return False

    def _window_open(self) -> bool:
        """Whether one more batch may be under way, by their number and bytes (a single one may be of any size)."""
        in_flight = self._in_flight
        if not in_flight:
            return True
        return (
            len(in_flight) < IN_FLIGHT_BATCHES_MAX
            and sum([len(batch.payload) for batch in in_flight]) < IN_FLIGHT_BYTES_MAX
        )

    def _hand_over(self, batch: Batch) -> bool:
        batch.units = [unit for unit in batch.units if unit.state != DONE]
        sequence = self._next_sequence
        if not batch.payload:
            batch.seed = self._seeds.next_64()
            if batch.bytes_held > LARGE_BYTES:
                batch.payload = encode_units(batch.units, BATCH_HEADER.pack(self.session, sequence, batch.seed))
            else:
                batch.payload = self._framed(batch, sequence, encode_units(batch.units))
        elif BATCH_HEADER.unpack_from(batch.payload)[:2] != (self.session, sequence):
            batch.payload = self._framed(batch, sequence, batch.payload[BATCH_HEADER.size :])
        if not self._transport.forward_batch(self.session, sequence, batch.payload):
            return False
        now = monotonic()
        if not self._in_flight:
            self._progress_at = now
        batch.session = self.session
        batch.sequence = self._sent = sequence
        batch.handed_over_at = now
        self._next_sequence = sequence + 1
        self._in_flight.append(batch)
        self.batches += 1
        self.batched_commands += batch.commands
        return True

    def _framed(self, batch: Batch, sequence: int, units: bytes) -> bytes:
        return BATCH_HEADER.pack(self.session, sequence, batch.seed) + units

    def _resend(self) -> bool:
        for batch in self._in_flight:
            if batch.sequence > self._sent:
                if not self._transport.forward_batch(batch.session, batch.sequence, batch.payload):
                    return False
                self._sent = batch.sequence
        return True

    def go_back(self) -> None:
        """New leader, reset link or gap: send everything in flight again."""
        self._sent = self.applied_sequence
        self._progress_at = monotonic()
        if not self.session:
            self._open_asked_at = 0.0
            self.ask_session()
        else:
            self.flush()

    def on_expected(self, session: int, expected: int) -> None:
        """The leader says which sequence it takes next."""
        if session == self.session and expected and self.applied_sequence < expected <= self._next_sequence:
            self._sent = expected - 1
            self._progress_at = monotonic()

    def ask_session(self) -> None:
        """Ask for a session, if none is open; at most once a retry interval."""
        now = monotonic()
        if (
            not self.session
            and now - self._open_asked_at >= self._retry_s
            and self._transport.forward_open(self._nonce)
        ):
            self._open_asked_at = now

    def is_own(self, node_id: str) -> bool:
        """Return whether that is this node."""
        return node_id == self._node_id

    # -- what the log says -------------------------------------------------------------------------------------------

    def on_opened(self, nonce: int, index: int) -> None:
        """The log opened a session for this node's id: ours, or one that displaces it."""
        if nonce != self._nonce:
            self.session = 0
            self._nonce = random_64()
            self._open_asked_at = 0.0
            return
        self._start_session(index, 0)

    def _start_session(self, session: int, last: int) -> None:
        """Owed batches of an older session are inert for good (nothing of it can apply any more): send them anew."""
        owed = [batch for batch in self._in_flight if not batch.abandoned]
        self.bytes_held -= sum(batch.bytes_held for batch in self._in_flight if batch.abandoned)
        for batch in owed:
            batch.sequence = 0
        self._queue.extendleft(reversed(owed))
        self._in_flight.clear()
        self.session = session
        self.sessions_had.add(session)
        self.applied_sequence = self._sent = last
        self._next_sequence = last + 1

    def take_applied(self, session: int, sequence: int) -> Batch | None:
        """Return this node's own batch that the log now applies, or None for another node's."""
        if session != self.session:
            return None
        batch = self._in_flight.popleft()
        if batch.sequence != sequence:
            raise AssertionError(f"batch {sequence} applied, {batch.sequence} was next in flight")
        self.applied_sequence = sequence
        self._sent = max(self._sent, sequence)
        self._progress_at = self._applied_at = now = monotonic()
        self.bytes_held -= batch.bytes_held
        took = now - batch.opened_at
        self.agreed_s += took
        self.agreed_buckets[bisect_left(BOUNDS_S, took)] += 1
        return batch

    def on_snapshot(self) -> None:
        """State and log were replaced by a snapshot: what it covers of this origin has replies that nobody knows."""
        row = self._sessions.rows.get(self._node_id)
        if row is None or row.nonce != self._nonce:
            for batch in self._in_flight:
                self._forget(batch)
            self._in_flight.clear()
            self.session = 0
            self._nonce = random_64()
            self._open_asked_at = 0.0
            return
        if row.session != self.session:
            for batch in self._in_flight:
                self._forget(batch)
            self._in_flight.clear()
            self._start_session(row.session, row.last)
            return
        while self._in_flight and self._in_flight[0].sequence <= row.last:
            self._forget(self._in_flight.popleft())
        self.applied_sequence = row.last
        self._sent = row.last

    def _forget(self, batch: Batch) -> None:
        self.bytes_held -= batch.bytes_held
        self.lost(batch)

    def lost(self, batch: Batch) -> None:
        """The batch was executed, at least in part, where nobody kept its replies.

        Its reads take a fresh read point, but where a write stands behind one on its connection: that may be executed
        by then, and a read must not see what its client sent after it.
        """
        batch.abandoned = True
        again = []
        for unit in (*batch.units, *batch.after):
            if unit.state in (DONE, SLICED):
                continue
            unit.batch = None
            if unit.is_write:
                unit.finish(_unknown(unit))
            elif write_behind(unit):
                unit.finish(refusal(unit))
            else:
                unit.connection.reads.append(unit)
                again.append(unit)
        self._on_reads(again)

    def end(self, *, displaced: bool) -> None:
        """This node was removed: answer everything that waits. `displaced`: by an entry that is applied here, so that
        what was not applied before it never will be; otherwise what was handed over may have been executed."""
        self.ended = True
        self.close_open()
        while self._queue:
            self._refuse(self._queue.popleft())
        for batch in self._in_flight:
            if not batch.abandoned:
                if displaced:
                    self._refuse(batch)
                else:
                    self._abandon(batch)
        self._in_flight.clear()
        self.session = 0

    # -- time --------------------------------------------------------------------------------------------------------

    def tick(self) -> None:
        """Called a few times a second and more: deadlines, retries, late closing of the open batch."""
        now = monotonic()
        if self._open is not None and now - self._open.opened_at > QUEUE_AFTER_S:
            self.close_open()
        # Own batches that apply show a majority at work: what waits then waits for those before it, which is no error.
        if now - self._applied_at >= self.request_timeout_s / 2:
            self._expire(now)
        if not self.session and not self.ended:
            self.ask_session()
        elif self._in_flight and now - self._progress_at > self._patience_s():
            self._progress_at = now
            self._sent = self.applied_sequence

    def at_work(self) -> None:
        """A long command is being applied here, for which all others have to wait: nobody's time runs out by that."""
        self._applied_at = self._progress_at = monotonic()

    def _expire(self, now: float) -> None:
        while self._queue and self._queue[0].deadline <= now:
            self._refuse(self._queue.popleft())
        for batch in self._in_flight:
            if batch.deadline > now:
                break
            if not batch.abandoned:
                self._abandon(batch)

    def _patience_s(self) -> float:
        """How long no progress is no reason to send everything again: long for much, or what is still on its way would
        be sent over and over and never arrive. Losses that have another cause than silence are noticed by it."""
        return self._retry_s + sum(len(batch.payload) for batch in self._in_flight) / RESENT_BYTES_PER_S

    def _refuse(self, batch: Batch) -> None:
        """Never handed over, and now never will be."""
        self.refused += batch.commands
        batch.abandoned = True  # nor need a read whose read point is still to come wait for it
        self.bytes_held -= batch.bytes_held
        for unit in (*batch.units, *batch.after):
            if unit.state != DONE:
                unit.batch = None
                unit.finish(refusal(unit))

    def _abandon(self, batch: Batch) -> None:
        self.timed_out += 1
        batch.abandoned = True
        batch.payload = BATCH_HEADER.pack(batch.session, batch.sequence, batch.seed) + EMPTY_UNITS
        units = (*batch.units, *batch.after)
        batch.units = []
        batch.after = []
        for unit in units:
            if unit.state != DONE:
                unit.batch = None
                unit.finish(_unknown(unit) if unit.is_write else refusal(unit))


def write_behind(unit: Unit) -> bool:
    """Return whether the client sent a write after this unit."""
    return any(later.is_write for later in _from(unit))


def answered_behind(unit: Unit) -> bool:
    """Return whether what the client sent after this unit has its answer already."""
    return any(later.state == DONE for later in _from(unit))


def _from(unit: Unit) -> Iterator[Unit]:
    """Return this unit and what its client sent after it."""
    return dropwhile(lambda one: one is not unit, unit.connection.units)


def refusal(unit: Unit) -> bytes:
    """Return the reply "certainly not executed" for each command of a unit."""
    return _repeat(unit, encode(ClusterDown(NO_QUORUM), unit.resp))


def _unknown(unit: Unit) -> bytes:
    """Return the reply "outcome unknown" for each command of a unit."""
    return _repeat(unit, encode(OutcomeUnknown(), unit.resp))


def _repeat(unit: Unit, line: bytes) -> bytes:
    return line * (len(unit) - (len(unit.mutes) if unit.mutes else 0))
