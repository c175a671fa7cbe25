"""The applier: committed entries in, effects and replies out; the one owner of the state machine (DESIGN §2, §5).

It works in slices of time. A slice carries out commands over one view, cut between commands where it must be, and ends
with one write to the state store that holds the effects together with `applied = (index, term, ordinal)`, the sessions'
rows and the stamp. Replies leave only after that write. A store that asks to slow down makes the applier wait and try
the same write again; the loop never hangs.
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import Any, Final

from zattredis.commands.context import Context
from zattredis.commands.table import Kind
from zattredis.errors import FatalError, StateDamaged, WriteStalled
from zattredis.keyspace.maintenance import apply_maintenance
from zattredis.keyspace.reader import FrozenReader
from zattredis.keyspace.record_cache import RecordCache
from zattredis.keyspace.registers import Registers
from zattredis.keyspace.spilling import leftovers
from zattredis.keyspace.view import View
from zattredis.keyspace.waiters import Event
from zattredis.raft import entry as kinds
from zattredis.raft.entry import HEADER_BYTES, Entry
from zattredis.raft.membership import Membership
from zattredis.resp.replies import encode
from zattredis.server.apart import Apart
from zattredis.server.clock import perf_counter
from zattredis.server.digest import DIGEST_KEY, INTERVAL, Digest
from zattredis.server.executor import COMMANDS_A_TURN, WORDS_A_TURN, Executor, encode_run, resolve_logged
from zattredis.server.logged import decode_items, logged_keys, specs_of
from zattredis.server.proposals import Proposals
from zattredis.server.reads import first_keys
from zattredis.server.sessions import BATCH_HEADER, Sessions, decode_open
from zattredis.server.units import DONE, RIDING, Batch, Errand, Run, Transaction, Unit, WatchUnit
from zattredis.server.upgrades import VERSION_KEY, check_version, encode_version, load_version
from zattredis.storage.large_writes import decided, pieces
from zattredis.storage.state_store import APPLIED_KEY, MEMBERSHIP_KEY, StateStore, decode_applied, encode_applied

SLICE_S: Final = 0.005
STALL_RETRY_S: Final = 0.005
EFFECT_BYTES_PER_WRITE: Final = 4 << 20
"""A WriteBatch is cut, between commands, when it gets larger than this."""
WARY_BYTES: Final = 2 * WORDS_A_TURN
"""A smaller entry has no command of so many words."""
BREATH_BYTES: Final = 8 << 20
"""A WriteBatch larger than this, of one large command, is written in a turn of the loop of its own."""
STAMP_KEY: Final = b"mstamp"
_NOTHING: Final = object()
_STAMP: Final = struct.Struct(">Q")



class Applier:
    """One per node. Invariant: what the store holds is the state after entry `applied_index` and `ordinal` commands of
    the next one; entries are applied once, in order."""

    __slots__ = (
        "_apart", "_before", "_cache", "_cache_bytes", "_call_later", "_call_soon", "_changes", "_complete_stamp_ms",
        "_cut", "_done_batches", "_executor", "_finished", "_leftovers", "_on_applied", "_on_entry", "_ordinal", "_own",
        "_pieces", "_popped", "_progress", "_proposals", "_queue", "_scheduled", "_skip", "_sliced", "_stalled",
        "_steps", "_view", "applied_index", "applied_term", "digest", "last_stamp_ms", "machine_version", "membership",
        "on_batch_done", "on_popped", "on_sliced", "on_users", "on_waiters", "registers", "sessions", "stalls", "store",
    )  # fmt: skip

    def __init__(
        self,
        *,
        store: StateStore,
        sessions: Sessions,
        executor: Executor,
        on_applied: Callable[[int], None],
        on_entry: Callable[[Entry], None],
        call_soon: Callable[[Callable[[], None]], Any],
        call_later: Callable[[float, Callable[[], None]], Any],
        cache_bytes: int = 16 << 20,
    ) -> None:
        self.sessions = sessions
        self._cache_bytes = cache_bytes
        self._executor = executor
        self._on_applied = on_applied
        self._on_entry = on_entry
        self._call_soon = call_soon
        self._call_later = call_later
        self._proposals: Proposals | None = None
        self.on_batch_done: Callable[[Batch], None] = lambda batch: None
        self.on_popped: Callable[[Run, Any], None] = lambda run, value: None
        self.on_waiters: Callable[[list[Event]], None] = lambda events: None
        self.on_users: Callable[[], None] = lambda: None
        self.on_sliced: Callable[[Run, int], None] = lambda run, now_ms: None
        self._queue: deque[Entry] = deque()
        self._steps: Generator[None, None, None] | None = None
        self._view: View | None = None
        self._changes: dict[bytes, bytes | None] | None = None
        self._finished: list[tuple[Unit, bytes]] = []
        self._popped: list[tuple[Run, Any]] = []  # blocking commands, and what came of them
        self._done_batches: list[Batch] = []
        self._own: Batch | None = None
        self._sliced: list[Run] = []
        self._progress: list[Entry] = []
        self._scheduled = False
        self._apart: Apart | None = None  # a command that is carried out in turns (see `apart`)
        self._cut = False  # the slice ends where its steps have come to
        self._stalled = False
        self._pieces: Iterator[dict[bytes, bytes | None]] | None = None  # of a large write that is under way
        self._before: tuple[FrozenReader, Registers] | None = None  # the state before that write, for reads meanwhile
        self._leftovers: Iterator[dict[bytes, bytes | None]] | None = None
        self.stalls = 0
        self.digest = Digest()
        self.store = store
        self.load(store)

    def load(self, store: StateStore) -> None:
        """Take over the state in `store`, at start or after a snapshot. Raises StateDamaged."""
        self.stop()
        self.store = store
        record = store.get(APPLIED_KEY)
        if record is None:
            raise StateDamaged("the state database has no record of what was applied to it")
        applied = decode_applied(record)
        self.applied_index = applied.index
        self.applied_term = applied.term
        self._skip = self._ordinal = applied.ordinal
        self.digest.load(store, applied)
        self.machine_version = load_version(store)
        stamp = store.get(STAMP_KEY)
        self.last_stamp_ms = self._complete_stamp_ms = 0 if stamp is None else _STAMP.unpack(stamp)[0]
        self.registers = Registers.load(store)
        self.registers.waiters.load(store)
        self.registers.users.load(store)
        self._cache = RecordCache(self._cache_bytes)
        self.sessions.load(store)
        membership = store.get(MEMBERSHIP_KEY)
        self.membership = None if membership is None else Membership.decode(membership)
        self._queue.clear()
        self._steps = None
        self._cut = self._stalled = False
        self._pieces = None
        self._leftovers = leftovers(store, self.registers)
        self._view = None
        self._changes = None
        self._finished.clear()
        self._popped.clear()
        self._done_batches.clear()
        self._progress.clear()
        self._mark()
        self.on_users()

    def give_up(self) -> None:
        """The state is about to be replaced: what is half done or not written has replies that nobody will know."""
        self.stop()
        finished, self._finished = self._finished, []
        batches, self._done_batches = self._done_batches, []
        if self._proposals is not None:
            if self._own is not None:
                batches.append(self._own)
            for batch in batches:
                self._proposals.lost(batch)
        assert all(unit.state == DONE for unit, _ in finished)
        self._own = None
        self._sliced.clear()

    def stop(self) -> None:
        """End what is carried out apart: the store is about to be closed."""
        apart, self._apart = self._apart, None
        if apart is not None:
            apart.abandon()
        self._forget_before()

    def attach(self, proposals: Proposals) -> None:
        """Tell it who owns this node's own batches."""
        self._proposals = proposals

    # -- what reads need ---------------------------------------------------------------------------------------------

    def view(self) -> View:
        """Return a view of the state as it is applied now."""
        if self._before is not None:
            return View(*self._before)
        return View(self.store, self.registers, self._cache)

    def known_absent(self, db: int, key: bytes) -> bool:
        """Return whether a key is known, without looking it up, to be absent from the state as it is now."""
        records = self._cache.table(self.registers.databases[db]).records
        return records.get(key, b"") is None

    def freeze(self) -> FrozenReader:
        """Return a reader of the state as it is applied now."""
        return self.store.frozen() if self._before is None else self._before[0].frozen()

    @property
    def settled(self) -> bool:
        """Whether store and registers agree. False while a write waits for a store that asked to slow down, and while a
        large one is carried out in pieces."""
        return self._changes is None

    @property
    def readable(self) -> bool:
        """Whether reads can be served: `settled`, or from the state before a large write whose pieces are carried out,
        for nobody has been told of it yet."""
        return self._changes is None or self._before is not None

    @property
    def busy(self) -> bool:
        """Whether committed entries wait to be applied."""
        return bool(self._queue) or self._steps is not None or self._changes is not None

    # -- working -----------------------------------------------------------------------------------------------------

    def enqueue(self, entries: list[Entry]) -> None:
        """Take committed entries, in order."""
        self._queue.extend(entries)

    def run(self) -> None:
        """Work for at most one slice; schedules itself while there is more."""
        if self._scheduled or not (self._queue or self._steps or self._changes is not None):
            return
        if self._changes is None and self._leftovers is not None:
            self._clean()
        if self._changes is None:
            if self._apart is None:
                self._work(perf_counter() + SLICE_S)
            if self._apart is not None:
                seconds = self._turn(self._apart)
                if seconds is not None:
                    self._scheduled = True
                    if seconds:
                        self._call_later(seconds, self._again)
                    else:
                        self._call_soon(self._again)
                    return
            view = self._view
            if self._changes is None and view is not None and view.effect_bytes > BREATH_BYTES:
                self._changes = self._take(view)
                self._scheduled = True
                self._call_soon(self._again)  # writing that much takes a while: others get their turn before
                return
        self._write()
        if self._queue or self._steps is not None or self._changes is not None:
            self._scheduled = True
            if self._stalled:
                self._call_later(STALL_RETRY_S, self._again)
            else:
                self._call_soon(self._again)

    def _again(self) -> None:
        self._scheduled = False
        self.run()

    def _clean(self) -> None:
        """Take the next of what a command has left behind that did not come to its end (see `keyspace.spilling`)."""
        assert self._leftovers is not None
        piece = next(self._leftovers, None)
        if piece is None:
            self._leftovers = None
        else:
            self._changes = {**piece, APPLIED_KEY: self.store.get(APPLIED_KEY)}

    def _turn(self, apart: Apart) -> float | None:
        """Give a command that is carried out apart its turn; return after how many seconds it has another, or None."""
        assert self._steps is not None
        seconds = apart.turn()
        if not apart.done:
            if self._proposals is not None:
                self._proposals.at_work()
            return seconds
        self._apart = None
        before = self.registers
        next(self._steps)
        self._cut = False
        self._changes = self._framed(apart.changes)
        if apart.pieces:
            self._before = self.store.frozen(), before
            self._changes.update(decided(apart.pieces))
            self._pieces = pieces(self.store)
        return None

    def _work(self, end: float) -> None:
        self._cache.trim()
        view = self._view = View(self.store, self.registers, self._cache)
        while True:
            if self._steps is None:
                if not self._queue:
                    return
                self._steps = self._apply(self._queue[0])
            try:
                next(self._steps)
            except StopIteration:
                self._steps = None
                entry = self._queue.popleft()
                self._complete(entry)
                if not entry.index % INTERVAL:
                    return  # the digest looks at what is stored then
            if self._cut or self._apart is not None:
                self._cut = False
                return
            if view.effect_bytes > EFFECT_BYTES_PER_WRITE or self._sliced or perf_counter() > end:
                return

    def _complete(self, entry: Entry) -> None:
        self.applied_index = entry.index
        self.applied_term = entry.term
        self._complete_stamp_ms = self.last_stamp_ms
        self._ordinal = 0
        self.digest.entry_done(entry.index, self.registers.counter)
        self._progress.append(entry)

    def _take(self, view: View) -> dict[bytes, bytes | None]:
        """Return what the slice is to write: its effects, and how far it came."""
        return self._framed(view.take())

    def _framed(self, changes: dict[bytes, bytes | None]) -> dict[bytes, bytes | None]:
        """Add how far the slice came to what it changed."""
        changes[APPLIED_KEY] = encode_applied(self.applied_index, self.applied_term, self._ordinal)
        changes[DIGEST_KEY] = self.digest.record(self.applied_index, self._ordinal)
        # Before the first command of an entry the state is that of the entry before, its stamp included.
        changes[STAMP_KEY] = _STAMP.pack(self.last_stamp_ms if self._ordinal else self._complete_stamp_ms)
        self.sessions.drain(changes)
        return changes

    def _write(self) -> None:
        """Write the slice's effects; then, and only then, let replies out and report what is applied."""
        changes = self._changes
        if changes is None:
            view = self._view
            if view is None:
                return
            changes = self._take(view)
        try:
            self.store.write(changes)
        except WriteStalled:
            self.stalls += 1
            self._stalled = True
            self._changes = changes
            return
        self._stalled = False
        if self._pieces is not None:
            self._changes = next(self._pieces, None)
            if self._changes is not None:
                self._changes[APPLIED_KEY] = changes[APPLIED_KEY]
                return
            self._pieces = None
            self._forget_before()
        self._changes = None
        self._view = None
        self._mark()
        progress, self._progress = self._progress, []
        finished, self._finished = self._finished, []
        self._executor.settle()
        self._report_pops()
        if self.registers.users.changed:
            self.on_users()  # before anybody is told: the next command is looked at by the new rules
        for unit, reply in finished:
            unit.finish(reply)
        if self._sliced:
            sliced, self._sliced = self._sliced, []
            for run in sliced:
                self.on_sliced(run, self.last_stamp_ms)
        batches, self._done_batches = self._done_batches, []
        for batch in batches:
            batch.applied = True
            if batch.after:
                self.on_batch_done(batch)
            batch.units = []  # they name the batch: as a circle all their arguments would wait for the collector
        for entry in progress:
            self._on_entry(entry)
        if progress:
            self._on_applied(self.applied_index)

    def _forget_before(self) -> None:
        before, self._before = self._before, None
        if before is not None:
            before[0].close()

    def _mark(self) -> None:
        if not self._ordinal and self._steps is None:
            self.digest.mark(self.applied_index, self.store, self.registers, self.sessions, self.last_stamp_ms)

    def _report_pops(self) -> None:
        """Tell whoever keeps this node's blocked clients what came of their commands, and what happened to waiters."""
        if self._popped:
            popped, self._popped = self._popped, []
            for run, value in popped:
                self.on_popped(run, value)
        waiters = self.registers.waiters
        if waiters.events:
            self.on_waiters(waiters.drain())

    # -- one entry ---------------------------------------------------------------------------------------------------

    def _apply(self, entry: Entry) -> Generator[None, None, None]:
        """Apply one entry to the slice's view; yields where the slice may end."""
        if entry.index != self.applied_index + 1:
            raise StateDamaged(f"entry {entry.index} would be applied after entry {self.applied_index}")
        if entry.version > self.machine_version:
            check_version(entry.version, f"entry {entry.index}")
            assert self._view is not None
            self.machine_version = entry.version
            self._view.put_raw(VERSION_KEY, encode_version(entry.version))
        self.last_stamp_ms = max(self.last_stamp_ms, entry.stamp_ms)
        kind = entry.kind
        if kind == kinds.BATCH:
            yield from self._apply_batch(entry)
        elif kind == kinds.OPEN:
            self._apply_open(entry)
        elif kind == kinds.CONFIG:
            self._apply_membership(entry)
        elif kind == kinds.MAINTENANCE:
            assert self._view is not None
            done = apply_maintenance(self._view, self.last_stamp_ms, entry.payload)
            self._executor.count_expired(done.expired)
        elif kind not in (kinds.NOOP, kinds.TIME):
            raise FatalError(f"entry {entry.index} is of kind {kind}, which this build does not know")
        self._skip = 0

    def _context(self, entry: Entry, seed: int = 0, session: int = 0) -> Context:
        assert self._view is not None
        return Context(self._view, 0, self.last_stamp_ms, seed=seed, version=entry.version, session=session)

    def _apply_open(self, entry: Entry) -> None:
        node_id, nonce = decode_open(entry.payload)
        before = self.sessions.rows.get(node_id)
        opened = self.sessions.open(node_id, nonce, entry.index)
        if opened and before is not None:
            self._executor.drop_waiters(self._context(entry), before.session)
        if opened and self._proposals is not None and self._proposals.is_own(node_id):
            self._proposals.on_opened(nonce, entry.index)

    def _apply_membership(self, entry: Entry) -> None:
        assert self._view is not None
        self.membership = membership = Membership.decode(entry.payload)
        self._view.put_raw(MEMBERSHIP_KEY, entry.payload)
        for session in self.sessions.retain(membership.members):
            self._executor.drop_waiters(self._context(entry), session)

    def _apply_batch(self, entry: Entry) -> Generator[None, None, None]:
        session, sequence, seed = BATCH_HEADER.unpack_from(entry.raw, HEADER_BYTES)
        if not self.sessions.is_next(session, sequence):
            return
        own = self._proposals.take_applied(session, sequence) if self._proposals is not None else None
        ctx = self._context(entry, seed, session)
        if own is not None and self._skip and self._proposals is not None:
            self._proposals.lost(own)  # a snapshot covers its beginning, with replies that nobody knows
        if own is not None and not own.abandoned and not self._skip:
            self._own = own
            yield from self._apply_own(own, ctx, entry)
        else:
            yield from self._apply_logged(entry, ctx)
        self._own = None
        self.sessions.advance(session, sequence)
        if own is not None:
            self._done_batches.append(own)

    def _carry_apart(
        self, ctx: Context, ordinal: int, count: int, work: Callable[[Apart], None]
    ) -> Generator[None, None, None]:
        """Carry out `work`, `count` commands from `ordinal` on, in turns; between two writes of its own."""
        self._ordinal = ordinal
        self._cut = True
        yield  # what is before it is written: the state is what its registers say
        self._apart = apart = Apart(self.store, self.registers, work)
        ctx.view = apart.view
        yield  # it comes to its end
        self.registers = apart.view.registers
        if apart.pieces:
            self._cache = RecordCache(self._cache_bytes)
        else:
            self._cache.follow(self.registers.databases, apart.changes)
        self._ordinal = ordinal + count
        self._cut = True
        yield  # it is written
        assert self._view is not None
        ctx.view = self._view

    @property
    def _full(self) -> bool:
        """Whether the slice should end here because it holds as many effects as one write may."""
        assert self._view is not None
        return self._view.effect_bytes > EFFECT_BYTES_PER_WRITE

    def _apply_own(self, batch: Batch, ctx: Context, entry: Entry) -> Generator[None, None, None]:
        """This origin's own batch: its units are at hand, reads that ride among them, and their replies are owed."""
        assert self._view is not None and self._skip == 0
        self._view.prefetch_lists(first_keys(batch.units))
        executor = self._executor
        executor.wary = wary = _is_wary(entry, (unit.argvs for unit in batch.units if isinstance(unit, Run)))
        ordinal = done = 0
        end = perf_counter() + SLICE_S
        for at, unit in enumerate(batch.units):
            if isinstance(unit, Run) and unit.is_write:
                if at < done:
                    continue
                start = perf_counter()
                most = 1 if wary else COMMANDS_A_TURN - ordinal % COMMANDS_A_TURN
                alike = _alike(batch.units, at, most)
                values: list[Any] = []
                ctx.db = unit.db
                if alike is not None:
                    done = at + len(alike)
                    self._apply_alike(ctx, alike, ordinal, entry.index, start)
                    ordinal += len(alike)
                    if not ordinal % COMMANDS_A_TURN and (perf_counter() > end or self._full):
                        self._ordinal = ordinal
                        yield
                        ctx.view = self._view
                        end = perf_counter() + SLICE_S
                    continue
                position, count = 0, len(unit.argvs)
                blocking = unit.specs[0].blocking  # it stands alone
                while position < count:
                    before = position
                    position = executor.write_some(ctx, unit.specs, unit.argvs, position, ordinal, values)
                    ordinal += position - before
                    if executor.heavy:
                        spec, argv, resp = unit.specs[position], unit.argvs[position], 0 if blocking else unit.resp
                        work = executor.write_apart(ctx, spec, argv, ordinal, values, resp)
                        yield from self._carry_apart(ctx, ordinal, 1, work)
                        ctx.db = unit.db
                        position += 1
                        ordinal += 1
                        end = perf_counter() + SLICE_S
                    elif (wary or not ordinal % COMMANDS_A_TURN) and not blocking and (
                        perf_counter() > end or self._full
                    ):
                        self._ordinal = ordinal
                        yield
                        ctx.view = self._view
                        ctx.db = unit.db
                        end = perf_counter() + SLICE_S
                unit.connection.state.last_write_index = entry.index
                if blocking:  # in the slice that makes the waiter: nobody may hear of that before its keeper
                    self._popped.append((unit, values[0]))  # it is measured when it is answered
                else:
                    executor.measure(unit, perf_counter() - start)
                    self._finished.append((unit, encode_run(unit, values)))
            elif isinstance(unit, Errand):
                ctx.db = unit.db
                executor.write_some(ctx, [resolve_logged(unit.argv)], [unit.argv], 0, ordinal, None, weighed=True)
                ordinal += 1
                unit.executed = True
                self._finished.append((unit, b""))
            elif isinstance(unit, Transaction):
                if executor.is_heavy(ctx, unit.commands):
                    found: list[tuple[bytes, int]] = []
                    work = executor.transaction_apart(ctx, unit, ordinal, unit.connection.local, found)
                    writes = sum(spec.kind == Kind.WRITE for _, spec, _ in unit.commands)
                    yield from self._carry_apart(ctx, ordinal, writes, work)
                    reply, count = found[0]
                else:
                    reply, count = executor.transaction(ctx, unit, ordinal, unit.connection.local)
                ordinal += count
                unit.connection.state.last_write_index = entry.index
                self._finished.append((unit, reply))
                if self._full:
                    self._ordinal = ordinal
                    yield
                    ctx.view = self._view
            elif unit.state != DONE:
                self._ride(ctx, batch, unit)
                if self._sliced:
                    self._ordinal = ordinal
                    yield
                    ctx.view = self._view

    def _apply_alike(self, ctx: Context, runs: list[Run], ordinal: int, index: int, start: float) -> None:
        """Carry out the same command of several connections in one go, as a tick without pipelining brings it."""
        values: list[Any] = []
        executor = self._executor
        executor.write_some(ctx, [run.specs[0] for run in runs], [run.argvs[0] for run in runs], 0, ordinal, values)
        executor.measure_alike(runs, perf_counter() - start)
        finished = self._finished
        last, resp, reply = _NOTHING, 0, b""
        for run, value in zip(runs, values, strict=True):
            run.connection.state.last_write_index = index
            if run.mutes is not None:
                finished.append((run, encode_run(run, [value])))
                continue
            if value is not last or run.resp != resp:  # most say the same
                last, resp, reply = value, run.resp, encode(value, run.resp)
            finished.append((run, reply))

    def _ride(self, ctx: Context, batch: Batch, unit: Unit) -> None:
        """A read at its place among the writes: it sees those before it.

        One that runs in slices begins once what is before it is written, and before anything behind it is applied.
        """
        if isinstance(unit, Run):
            reply, rest = self._executor.read_run(ctx, unit)
            if reply is not None:
                self._finished.append((unit, reply))
            else:
                self._sliced.append(unit)
                rest = unit.split(1) if len(unit) > 1 else None
            if rest is not None:
                rest.state = RIDING
                rest.batch = batch
                batch.units.insert(batch.units.index(unit) + 1, rest)
        elif isinstance(unit, WatchUnit):
            self._executor.watch(ctx, unit)
            self._finished.append((unit, b"+OK\r\n"))

    def _apply_logged(self, entry: Entry, ctx: Context) -> Generator[None, None, None]:
        """A batch as the log holds it: another node's, or one replayed after a start; nobody is answered."""
        assert self._view is not None
        items = decode_items(memoryview(entry.raw)[HEADER_BYTES + BATCH_HEADER.size :])
        specs = [specs_of(item) for item in items]
        self._view.prefetch_lists(logged_keys(items, specs))
        executor = self._executor
        executor.wary = wary = _is_wary(entry, (item[1] for item in items if isinstance(item[0], int)))
        skip = self._skip
        ordinal = 0
        end = perf_counter() + SLICE_S
        for item, item_specs in zip(items, specs, strict=True):
            if isinstance(item[0], int):
                ctx.db = item[0]
                argvs = item[1]
                # What was applied before a crash, or is in the snapshot, is passed over.
                position = min(max(0, skip - ordinal), len(argvs))
                ordinal += position
                while position < len(argvs):
                    before = position
                    position = executor.write_some(ctx, item_specs, argvs, position, ordinal, None)
                    ordinal += position - before
                    if executor.heavy:
                        work = executor.write_apart(ctx, item_specs[position], argvs[position], ordinal, None)
                        yield from self._carry_apart(ctx, ordinal, 1, work)
                        ctx.db = item[0]
                        position += 1
                        ordinal += 1
                        end = perf_counter() + SLICE_S
                    elif (wary or not ordinal % COMMANDS_A_TURN) and (perf_counter() > end or self._full):
                        self._ordinal = ordinal
                        yield
                        ctx.view = self._view
                        ctx.db = item[0]
                        end = perf_counter() + SLICE_S
            else:
                if ordinal >= skip:
                    watches = [(db, key, version) for db, key, version in item[0]]
                    commands = [(db, spec, argv) for spec, (db, argv) in zip(item_specs, item[1], strict=True)]
                    if executor.is_heavy(ctx, commands):
                        work = executor.logged_transaction_apart(ctx, watches, item[1], ordinal)
                        yield from self._carry_apart(ctx, ordinal, len(item[1]), work)
                    else:
                        executor.logged_transaction(ctx, watches, item[1], ordinal)
                ordinal += len(item[1])
                if ordinal > skip and self._full:
                    self._ordinal = ordinal
                    yield
                    ctx.view = self._view


def _alike(units: list[Unit], at: int, most: int) -> list[Run] | None:
    """Return the runs of one command each from `at` on that carry the same command, if there are several."""
    first = units[at]
    assert isinstance(first, Run)
    spec, db = first.specs[0], first.db
    if len(first.specs) > 1 or spec.blocking or _may_be_heavy(first):
        return None
    found = [first]
    for unit in units[at + 1 : at + most]:
        if unit.__class__ is not Run or not unit.is_write:
            break
        assert isinstance(unit, Run)
        if unit.db != db or len(unit.specs) > 1 or unit.specs[0] is not spec or _may_be_heavy(unit):
            break
        found.append(unit)
    return found if len(found) > 1 else None


def _is_wary(entry: Entry, runs: Iterable[list[list[bytes]]]) -> bool:
    """Return whether a command line of the entry has so many words that the time has to be looked at after it."""
    return len(entry.raw) > WARY_BYTES and any(len(argv) > WORDS_A_TURN for argvs in runs for argv in argvs)


def _may_be_heavy(run: Run) -> bool:
    """Return whether the run's first command has to be weighed before it is carried out."""
    spec = run.specs[0]
    return spec.weigh is not None and len(run.argvs[0]) > spec.light_words
