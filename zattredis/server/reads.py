"""Reads: one confirmed read point for all reads of a tick (DESIGN §2.2, dissertation §6.4).

Reads that arrive while a round is under way gather for the next one, so that a read point is always taken after the
reads that use it arrived. A round that is not answered is tried again under a fresh number; one that runs out of time
is refused (a read has no effect, so its outcome is definite).

A connection's reads are answered from states that never go back. Rounds keep to that by themselves, but not where a
read is put off: its client does not read, or it lost the batch it rode in, and takes a later round than the ones behind
it. Such reads stand in their connection's `put_off`, in order, and none behind them is answered before they are.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from itertools import islice
from typing import Any, Protocol

from zattredis.commands.context import Context
from zattredis.commands.table import CommandSpec
from zattredis.keyspace.reader import FrozenReader
from zattredis.keyspace.registers import Registers
from zattredis.keyspace.view import View
from zattredis.resp.replies import encode
from zattredis.server.clock import monotonic, perf_counter, random_64
from zattredis.server.executor import Executor
from zattredis.server.gathering import Gathering
from zattredis.server.idleness import Idleness
from zattredis.server.proposals import refusal
from zattredis.server.sliced import SlicedReads
from zattredis.server.trials import try_out
from zattredis.server.units import WAITING, Batch, Call, Run, Transaction, Trial, Unit, WatchUnit

REPLY_BYTES_A_TURN = 1 << 20
"""A run of reads is cut when its large replies pass this, so that a client that does not read cannot pile them up."""
SLICE_S = 0.003
"""How long reads run before others get their turn."""
PREFETCH_WORDS_MAX = 2048
"""The keys of a command line of more words are looked up when they are needed."""
ALIKE_MAX = 64
"""Reads answered in one go between two looks at the time."""


class StateSource(Protocol):
    """What reads are served from: the applier's present state."""

    applied_index: int
    last_stamp_ms: int
    machine_version: int
    registers: Registers

    @property
    def readable(self) -> bool:
        """Whether the store holds all that `applied_index` says."""
        ...

    def view(self) -> View:
        """Return a view of the state as applied now."""
        ...

    def known_absent(self, db: int, key: bytes) -> bool:
        """Return whether a key is known to be absent."""
        ...

    def freeze(self) -> FrozenReader:
        """Return a reader of the state as applied now."""
        ...


class _Round:
    __slots__ = ("context", "deadline", "index", "started_at", "time_ms", "tried_at", "units")

    def __init__(self, units: list[Unit], now: float, deadline: float) -> None:
        self.units = units
        self.context = 0
        self.started_at = self.tried_at = now
        self.deadline = deadline
        self.index = -1
        self.time_ms = 0


class Reads:
    """One per node."""

    __slots__ = (
        "_alone", "_ask", "_call_soon", "_choked", "_confirmed", "_context", "_crowd", "_crowded_out", "_executor",
        "_gathering", "_gathers_since", "_retry_s", "_round", "_running", "_schedule", "_seed", "_source", "on_needed",
        "request_timeout_s", "rounds", "sliced",
    )  # fmt: skip

    def __init__(
        self,
        *,
        source: StateSource,
        executor: Executor,
        ask: Callable[[int], None],
        call_soon: Callable[[Callable[[], None]], Any],
        request_timeout_s: float,
        retry_s: float,
        schedule: Callable[[], None],
        alone: Callable[[], bool],
    ) -> None:
        """`schedule` asks for another end of a tick, at which `flush` is called again; `alone` says whether a round
        asks nobody and so costs nothing."""
        self._source = source
        self._executor = executor
        self._ask = ask
        self._call_soon = call_soon
        self._retry_s = retry_s
        self.request_timeout_s = request_timeout_s
        self._schedule = schedule
        self._alone = alone
        self._crowd = Gathering()
        self._gathers_since = 0.0
        self._gathering: list[Unit] = []
        self._round: _Round | None = None
        self._confirmed: deque[_Round] = deque()
        self._context = random_64() >> 16
        self._seed = random_64() >> 16  # RANDOMKEY draws by it: another one for every point in time
        self._running = False
        self.sliced = SlicedReads(
            source=source, executor=executor, call_soon=call_soon, resubmit=self.submit_again,
            in_front=self._keep_in_front, on_room=self._on_room,
        )  # fmt: skip
        self._crowded_out: list[Unit] = []  # what is behind a long read that waits for others
        self._choked: list[Unit] = []  # runs of clients that do not read what they have been sent, and what is behind
        self.rounds = 0
        self.on_needed: Callable[[Trial], None] = lambda trial: None  # a write that was tried has something to do

    @property
    def idle(self) -> bool:
        """Whether no read waits."""
        return not (self._gathering or self._round or self._confirmed or self._crowded_out) and self.sliced.idle

    def submit(self, unit: Unit) -> None:
        """Take in a read that arrived now."""
        unit.state = WAITING
        self._gathering.append(unit)

    def submit_again(self, units: Sequence[Unit]) -> None:
        """Take in reads, in their order, that need a fresh read point: those behind them may be further on already."""
        for connection in {unit.connection: None for unit in units}:
            mine = {unit for unit in units if unit.connection is connection}.union(connection.put_off or ())
            connection.put_off = OrderedDict.fromkeys(unit for unit in connection.units if unit in mine)
        for unit in units:
            self.submit(unit)

    def serve_stale(self, unit: Unit) -> None:
        """Answer from this node's own data, at the last leader's time it has seen."""
        if self._source.readable:
            self._finish(unit, self._source.last_stamp_ms)
            return
        now = monotonic()
        found = _Round([unit], now, now)
        found.index = 0
        self._confirmed.append(found)

    def flush(self) -> None:
        """End of tick: begin a round if none is under way, somebody waits, and no others are just coming in."""
        if not self._gathering:
            return
        if self._round is not None:
            self._crowd.note(len(self._gathering) + len(self._round.units))
            return
        now = monotonic()
        if not self._gathers_since:
            self._gathers_since = now
        if not self._alone() and self._crowd.worth_waiting(len(self._gathering), 0, now - self._gathers_since):
            self._schedule()
            return
        self._crowd.handed_over()
        self._gathers_since = 0.0
        self._round = _Round(self._gathering, now, now + self.request_timeout_s)
        self._gathering = []
        self.rounds += 1
        self._try()

    def _try(self) -> None:
        if self._round is not None:
            self._context += 1
            self._round.context = self._context
            self._round.tried_at = monotonic()
            self._ask(self._context)

    def retry(self) -> None:
        """The leader changed, or said that it does not lead: ask again under a fresh number."""
        self._try()

    def on_confirmed(self, context: int, index: int, time_ms: int) -> None:
        """The read point of a round; an older try of it counts for nothing."""
        found = self._round
        if found is None or found.context != context:
            return
        self._round = None
        found.index = index
        found.time_ms = time_ms
        self._confirmed.append(found)
        self.on_applied()
        self.flush()

    def resume(self) -> None:
        """Clients read again: what is left of their runs takes a fresh read point."""
        self.sliced.resume()
        choked, self._choked = self._choked, []
        for unit in choked:
            if unit.connection.closed or unit.state != WAITING:
                continue
            if unit.connection.choked:
                self._choked.append(unit)
            else:
                self.submit(unit)

    def _on_room(self) -> None:
        """More long reads may begin: what is behind those that waited takes a fresh read point."""
        if self._crowded_out:
            units, self._crowded_out = self._crowded_out, []
            for unit in units:
                if unit.state == WAITING and not unit.connection.closed:
                    self.submit(unit)
            self._schedule()

    @property
    def held_up(self) -> bool:
        """Whether runs wait for clients to read."""
        return bool(self._choked) or not self.sliced.idle

    def tick(self) -> None:
        """Deadlines and retries."""
        now = monotonic()
        self.sliced.tick()
        if self._choked:
            self.resume()
        if self._crowded_out and not self.sliced.crowded:  # those before it may have ended with their connections
            self._on_room()
        found = self._round
        if found is not None:
            if now >= found.deadline:
                self._round = None
                for unit in found.units:
                    if unit.state == WAITING:
                        unit.finish(refusal(unit))
                self.flush()
            elif now - found.tried_at >= self._retry_s:
                self._try()

    # -- serving -----------------------------------------------------------------------------------------------------

    def on_applied(self) -> None:
        """Serve every round whose read point is applied."""
        if self._running:
            return
        while self._confirmed and self._source.readable and self._confirmed[0].index <= self._source.applied_index:
            found = self._confirmed[0]
            if not self._serve(found):
                self._running = True
                self._call_soon(self._go_on)
                return
            self._confirmed.popleft()

    def _go_on(self) -> None:
        self._running = False
        self.on_applied()

    def _serve(self, found: _Round) -> bool:
        """Answer the units of a round within the time slice; return whether all are."""
        view = self._source.view()
        now_ms = max(found.time_ms, self._source.last_stamp_ms)
        self._seed += 1
        ctx = Context(view, 0, now_ms, seed=self._seed)
        view.prefetch_lists(first_keys(found.units))
        end = perf_counter() + SLICE_S
        waiting = deque(found.units)
        while waiting:
            unit = waiting[0]
            if unit.__class__ is Run and len(waiting) > 1 and self._answer_alike(ctx, waiting):
                if waiting and perf_counter() > end:
                    found.units = list(waiting)
                    self._executor.settle()
                    return False
                continue
            waiting.popleft()
            if unit.state != WAITING:
                continue
            batch = unit.batch
            if batch is not None and not batch.settled:
                self._after(unit, batch)
                continue
            if isinstance(unit, Trial):
                self._try_out(ctx, unit, waiting)
            elif (rest := self._answer(ctx, unit)) is not None:
                waiting.appendleft(rest)
            if waiting and perf_counter() > end:
                found.units = list(waiting)
                self._executor.settle()
                return False
        self._executor.settle()
        return True

    def _answer_alike(self, ctx: Context, waiting: deque[Unit]) -> bool:
        """Answer the same command of several connections in one go, as a tick without pipelining brings it; take those
        answered from `waiting`. False, with nothing done: the first is not of that kind."""
        first = waiting[0]
        assert isinstance(first, Run)
        spec, db = first.specs[0], first.db
        if spec.many is None:
            return False
        runs: list[Run] = []
        for unit in islice(waiting, ALIKE_MAX):
            if (
                unit.__class__ is not Run
                or unit.state != WAITING
                or unit.batch is not None
                or unit.mutes is not None
                or len(unit.specs) != 1
                or unit.specs[0] is not spec
                or unit.db != db
                or unit.connection.choked
                or unit.connection.put_off
            ):
                break
            runs.append(unit)
        if len(runs) < 2:
            return False
        replies = self._executor.read_alike(ctx, runs)
        if replies is None:
            return False
        for _ in runs:
            waiting.popleft()
        for run, reply in zip(runs, replies, strict=True):
            run.finish(reply)
        return True

    @property
    def idleness(self) -> Idleness:
        """What is known of writes that change nothing."""
        return self._executor.idleness

    def seems_absent(self, db: int, key: bytes) -> bool:
        """Return whether a key is known, without looking it up, not to have existed a moment ago."""
        return self._source.known_absent(db, key)

    def _try_out(self, ctx: Context, trial: Trial, waiting: deque[Unit]) -> None:
        """A write that may have nothing to do, and those of the same command line behind it, taken from `waiting`: they
        are answered, or become writes, together."""
        trials: list[Trial] = []
        following: Unit = trial
        while True:
            assert isinstance(following, Trial)
            if following.state == WAITING:
                if following.connection.choked or self._is_behind(following):  # it must not pass what is put off
                    self.on_needed(following)
                else:
                    trials.append(following)
            if not waiting or len(trials) >= ALIKE_MAX:
                break
            following = waiting[0]
            if (
                not isinstance(following, Trial)
                or following.argvs[0] != trial.argvs[0]
                or following.db != trial.db
            ):
                break
            waiting.popleft()
        replies = try_out(self._executor, ctx, trials, self._source.machine_version) if trials else []
        if replies is None:
            for one in trials:
                if one.state == WAITING:  # else another of its connection took it along
                    self.on_needed(one)
            return
        for one, reply in zip(trials, replies, strict=True):
            one.finish(reply)

    def _after(self, unit: Unit, batch: Batch) -> None:
        """Its connection's own writes are not applied yet: it waits for them, too (a later write takes it along)."""
        batch.after.append(unit)

    def finish_after(self, batch: Batch) -> None:
        """A batch of this origin was applied: answer the reads that waited for it (their read points are older)."""
        for unit in batch.after:
            if unit.state == WAITING:
                unit.batch = None
                self._finish(unit, self._source.last_stamp_ms)
        batch.after.clear()

    def _finish(self, unit: Unit, time_ms: int) -> None:
        view = self._source.view()
        view.prefetch_lists(first_keys([unit]))
        self._seed += 1
        rest = self._answer(Context(view, 0, max(time_ms, self._source.last_stamp_ms), seed=self._seed), unit)
        if rest is not None:
            self._keep_in_front(rest)
            self.submit(rest)
        self._executor.settle()

    def _answer(self, ctx: Context, unit: Unit) -> Unit | None:
        """Answer a unit. What is left of a run whose replies are large is returned, or waits for its slow client."""
        if isinstance(unit, Trial):
            self._try_out(ctx, unit, deque())
            return None
        if isinstance(unit, Call):
            unit.call(ctx)
            unit.finish(b"")
            return None
        if unit.connection.put_off and self._is_behind(unit):
            unit.connection.put_off[unit] = None
            self._choked.append(unit)
            return None
        if isinstance(unit, Run):
            if unit.specs[0].heavy:
                self.sliced.start(unit, ctx.now_ms)
                return None
            if unit.connection.choked:
                self._choke(unit)
                return None
            reply, rest = self._executor.read_run(ctx, unit, REPLY_BYTES_A_TURN)
            if reply is None:
                rest = unit.split(1) if len(unit) > 1 else None
                if rest is not None and self.sliced.crowded:  # nobody else is to wait until all of them are begun
                    self._keep_in_front(rest)
                    self._crowded_out.append(rest)
                    rest = None
                self.sliced.start(unit, ctx.now_ms)
                return rest
            unit.finish(reply)
            if rest is not None:
                rest.bytes_held = len(reply) // len(unit) * len(rest)  # if the others are of the same size
                unit.connection.flush()
                if unit.connection.full:
                    self._choke(rest)
                    return None
            return rest
        elif unit.connection.choked:  # its reads before this may wait already
            self._choke(unit)
        elif isinstance(unit, WatchUnit):
            self._executor.watch(ctx, unit)
            unit.finish(encode("OK", unit.resp))
        elif isinstance(unit, Transaction):
            unit.finish(self._executor.transaction(ctx, unit, 0, unit.connection.local)[0])
        return None

    def _choke(self, unit: Unit) -> None:
        """Its client does not read: the unit waits until it does, or until the client is given up."""
        self._choked.append(unit)
        self._keep_in_front(unit)
        unit.connection.owes(unit.bytes_held)

    def _keep_in_front(self, unit: Unit) -> None:
        """The next of its connection's reads to be answered is put off: none behind it may pass it."""
        put_off = unit.connection.put_off
        if put_off is None:
            put_off = unit.connection.put_off = OrderedDict()
        put_off[unit] = None
        put_off.move_to_end(unit, last=False)

    def _is_behind(self, unit: Unit) -> bool:
        """Return whether a read of its connection before this one is put off; if not, this one no longer is, either."""
        put_off = unit.connection.put_off
        while put_off:
            first = next(iter(put_off))
            if first is not unit and first.state == WAITING and not self.sliced.begin_now(first):
                return True
            del put_off[first]
            if first is unit:
                break
        return False

    # -- sliced reads ------------------------------------------------------------------------------------------------

    def start_sliced(self, run: Run, now_ms: int) -> None:
        """Carry out a read in slices, of what is applied now (see `sliced`)."""
        self.sliced.start(run, now_ms)

    def restart_sliced(self) -> None:
        """The store is about to be replaced: the sliced reads under way begin again."""
        self.sliced.restart()

    def stop(self) -> None:
        """End the sliced reads under way."""
        self.sliced.stop()


def first_keys(units: list[Unit]) -> dict[int, list[bytes]]:
    """Return database → keys: everything the units will look at first."""
    wanted: dict[int, list[bytes]] = {}
    for unit in units:
        if isinstance(unit, Run):
            keys = wanted.get(unit.db)
            if keys is None:
                keys = wanted[unit.db] = []
            if len(unit.specs) == 1 and unit.specs[0].one_key:
                keys.append(unit.argvs[0][1])
            else:
                add_keys(keys, unit.specs, unit.argvs)
        elif isinstance(unit, Transaction):
            for db, key, _ in unit.watches:
                wanted.setdefault(db, []).append(key)
            for db, spec, argv in unit.commands[:PREFETCH_WORDS_MAX]:
                if len(argv) <= PREFETCH_WORDS_MAX:
                    wanted.setdefault(db, []).extend(spec.keys.keys(argv))
        elif isinstance(unit, WatchUnit):
            wanted.setdefault(unit.db, []).extend(unit.keys)
    return wanted


def add_keys(keys: list[bytes], specs: Sequence[CommandSpec | None], argvs: list[list[bytes]]) -> None:
    """Add the keys of command lines in one database; a command without spec has none.

    Those of a line of very many words are left out: to fetch them all at once would hold up everybody else.
    """
    spec = specs[0]
    if spec is not None and spec.one_key and specs.count(spec) == len(specs):
        keys += [argv[1] for argv in argvs]
        return
    for spec, argv in zip(specs, argvs, strict=True):
        if spec is not None and spec.keys.first and len(argv) <= PREFETCH_WORDS_MAX:
            keys += spec.keys.keys(argv)


__all__ = ["PREFETCH_WORDS_MAX", "Reads", "StateSource", "add_keys", "first_keys"]
