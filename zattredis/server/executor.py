"""Carrying out commands over a view, and the one place where an ordinary exception becomes an error reply (DESIGN §5).

An exception of a handler, other than those that mean that this process or its disk is broken, discards the effects of
its command (of its whole EXEC when it is not a ReplyError) and becomes `-ERR` on every node alike.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import GeneratorType
from typing import Any, Final

from zattredis.commands.context import Context, LocalContext, drain
from zattredis.commands.table import COMMANDS, CommandSpec, Kind, lookup_logged
from zattredis.errors import FatalError, ReplyError, WriteStalled
from zattredis.keyspace.serving import drop_session, serve
from zattredis.keyspace.sizes import EFFECT_BYTES_MAX
from zattredis.keyspace.spilling import TooLarge
from zattredis.observability.events import get_logger
from zattredis.resp.replies import NULL_ARRAY, Bulks, append_reply, encode, encode_many, encoded_in_turns
from zattredis.server.apart import Apart
from zattredis.server.clock import perf_counter
from zattredis.server.idleness import Idleness
from zattredis.server.statistics import Statistics
from zattredis.server.units import Run, Transaction, Unit, Watch, WatchUnit

BROKEN: Final = (MemoryError, RecursionError, OSError, FatalError, WriteStalled, AssertionError)
"""Never an answer: the process ends, or the caller tries again."""
_log = get_logger(room="executor")


_COMMAND_WEIGHT: Final = 4
"""What a command of an EXEC weighs beside its words."""
SMALL_BYTES: Final = 4096
"""Values up to this size do not count against the bound on a turn's replies: a chunk of requests bounds them."""
COMMANDS_A_TURN: Final = 32
"""Commands carried out between two looks at the time."""
WORDS_A_TURN: Final = 2048
"""Words of command lines carried out between two looks at the time, where there are long ones."""
HEAVY_ELEMENTS: Final = 16_384
"""A command that has to do with more elements is carried out apart (see `apart`)."""


class _Broken(Exception):
    """An EXEC whose effects must all be discarded."""


def internal_error(spec: CommandSpec, error: Exception) -> ReplyError:
    """Return the reply for a handler that raised what it should not, and log it."""
    _log.error("command_failed", command=spec.name, error=repr(error), exc_info=error)
    return ReplyError(f"internal error in '{spec.full_name}': {type(error).__name__}; nothing was written")


def read_value(ctx: Context, spec: CommandSpec, argv: list[bytes]) -> Any:
    """Return the reply value of a READ command; errors are values too.

    Its randomness goes on from the command before it: no other node has to draw the same.
    """
    try:
        value = spec.handler(ctx, *argv[spec.words :])
        return drain(value) if value.__class__ is GeneratorType else value
    except ReplyError as error:
        return error.spelt(argv[0])
    except BROKEN:
        raise
    except Exception as error:
        return internal_error(spec, error)


def resolve_logged(argv: list[bytes]) -> CommandSpec | None:
    """Return the spec of a logged command line; None when this build does not know it (its origin refused it then)."""
    spec = lookup_logged(argv[0])
    if spec is not None and spec.subcommands and len(argv) > 1:
        spec = spec.subcommands.get(argv[1].decode("latin-1").upper())
    return spec if spec is None or spec.logged is None else spec.logged


def encode_run(run: Run, values: list[Any]) -> bytes:
    """Return the replies of a whole run, but those that CLIENT REPLY drops."""
    if run.mutes is not None:
        values = [value for position, value in enumerate(values) if position not in run.mutes]
    return encode_many(values, run.resp)


def _size(value: Any) -> int:
    if value.__class__ is Bulks:
        return len(value.data)
    return len(value) if value.__class__ is bytes else 8


class Executor:
    """Runs units for their origin, with replies, and logged items for everyone else, without."""

    __slots__ = (
        "_statistics", "_tallied", "_tally_count", "_tally_s", "heavy", "idleness", "note_slow", "run_local", "slow_s",
        "wary",
    )  # fmt: skip

    def __init__(
        self,
        statistics: Statistics,
        run_local: Callable[[LocalContext, CommandSpec], Any],
        note_slow: Callable[[Unit, list[bytes], float], None],
    ) -> None:
        self._statistics = statistics
        self.idleness = Idleness()
        self.run_local = run_local
        self.note_slow = note_slow
        self.slow_s = 0.01
        self.wary = False
        """Whether the entry being applied has command lines of very many words."""
        self.heavy = False
        """Whether `write_some` stopped before a command that is to be carried out apart."""
        self._tallied: CommandSpec | None = None
        self._tally_count = 0
        self._tally_s = 0.0

    def count_expired(self, keys: int) -> None:
        """Count keys that maintenance removed, for INFO."""
        self._statistics.expired_keys += keys

    # -- the origin's own ----------------------------------------------------------------------------------------------

    def read_run(self, ctx: Context, run: Run, bytes_max: int = 0) -> tuple[bytes | None, Run | None]:
        """Return the replies of a run of reads, and what is left of it: split off, to be read next.

        With `bytes_max`, it stops behind the command with which the large values among the replies pass that bound. It
        also stops before a command that wants to run in slices; None for the replies if that is the first.
        """
        large = 0
        rest: Run | None = None
        ctx.db = run.db
        start = perf_counter()
        misses = ctx.view.misses
        values: list[Any] = []
        first = run.specs[0]
        if first.many is not None and len(run.specs) > 1 and run.specs.count(first) == len(run.specs):
            values = first.many(ctx, run.argvs) or values
            if bytes_max and sum([len(value) for value in values if value is not None]) > bytes_max:
                values = []
        for spec, argv in zip(run.specs, run.argvs, strict=True) if not values else ():
            try:
                value = spec.handler(ctx, *argv[spec.words :])
            except ReplyError as error:
                self.failed(spec, error)
                values.append(error.spelt(argv[0]))
            except BROKEN:
                raise
            except Exception as error:
                values.append(self.broken(spec, error))
            else:
                if value.__class__ is GeneratorType:
                    if not values:
                        return None, run
                    rest = run.split(len(values))
                    break
                values.append(value)
                kind = value.__class__
                if bytes_max and (kind is list or kind is Bulks or (kind is bytes and len(value) > SMALL_BYTES)):
                    large += sum(map(_size, value)) if kind is list else _size(value)
                    if large > bytes_max and len(values) < len(run.argvs):
                        rest = run.split(len(values))
                        break
        self.measure(run, perf_counter() - start)
        self._count_lookups(run, ctx.view.misses - misses)
        return encode_run(run, values), rest

    def read_alike(self, ctx: Context, runs: list[Run]) -> list[bytes] | None:
        """Return the reply of each of several runs of the same one read in the same database, all at once; None, with
        nothing done, if that cannot be."""
        spec = runs[0].specs[0]
        assert spec.many is not None
        ctx.db = runs[0].db
        start = perf_counter()
        misses = ctx.view.misses
        values = spec.many(ctx, [run.argvs[0] for run in runs])
        if values is None:
            return None
        self.measure_alike(runs, perf_counter() - start)
        if spec.one_key:
            missed = min(ctx.view.misses - misses, len(runs))
            self._statistics.keyspace_misses += missed
            self._statistics.keyspace_hits += len(runs) - missed
        first = values[0]
        if first.__class__ is Bulks and all(value is first for value in values):
            replies = {resp: encode(first, resp) for resp in {run.resp for run in runs}}
            return [replies[run.resp] for run in runs]
        return [encode(value, run.resp) for run, value in zip(runs, values, strict=True)]

    def _count_lookups(self, run: Run, misses: int) -> None:
        """Count the keys that a run of reads looked up, for INFO: as Redis does, reads only."""
        specs, keys = run.specs, 0
        count = len(specs)
        if specs[0].one_key and (count == 1 or specs.count(specs[0]) == count):
            keys = count
        else:
            for spec, argv in zip(specs, run.argvs, strict=True):
                keys += 1 if spec.one_key else len(spec.keys.keys(argv))
        misses = min(misses, keys)
        self._statistics.keyspace_misses += misses
        self._statistics.keyspace_hits += keys - misses

    def write_some(
        self,
        ctx: Context,
        specs: Sequence[CommandSpec | None],
        argvs: list[list[bytes]],
        position: int,
        ordinal: int,
        values: list[Any] | None,
        weighed: bool = False,
    ) -> int:
        """Carry out writes in `ctx.db` from `position` on; put their reply values into `values`, if anyone is answered.

        Returns the position reached: the end, or where `ordinal` passes a multiple of COMMANDS_A_TURN, for the caller
        to look at the time. It also stops before a command that is `heavy`, unless it is known to be (`weighed`). Only
        a command that succeeds leaves effects. None stands for a command unknown here.
        """
        self.heavy = False
        view = ctx.view
        waiters = view.registers.waiters
        stop = min(len(argvs), position + COMMANDS_A_TURN - ordinal % COMMANDS_A_TURN)
        if self.wary and not weighed:
            if len(argvs[position]) > HEAVY_ELEMENTS and specs[position] is not None:
                self.heavy = True
                return position
            stop = _fewer(argvs, position, stop)
        first = specs[position]
        if first is not None and first.many is not None and stop - position > 1 and not waiters.lines:
            part = specs[position:stop]
            if part.count(first) == stop - position:
                ctx.ordinal = ordinal
                before = view.effect_bytes
                found = first.many(ctx, argvs[position:stop])
                if found is not None:
                    if values is not None:
                        values += found
                        if view.effect_bytes == before:
                            self.idleness.seen(first, ctx.db, argvs[position], stop - position)
                    return stop
        for at in range(position, stop):
            spec, argv = specs[at], argvs[at]
            if spec is None:
                ordinal += 1
                continue
            if spec.weigh is not None and len(argv) > spec.light_words and not weighed and weight_of(
                ctx, spec, argv
            ) > HEAVY_ELEMENTS:
                self.heavy = True
                return at
            view.begin()
            before = view.effect_bytes
            ctx.ordinal = ordinal
            ordinal += 1
            ctx._random = None
            try:
                value = spec.handler(ctx, *argv[spec.words :])
                if view.effect_bytes - before > EFFECT_BYTES_MAX:
                    raise TooLarge
            except ReplyError as error:
                view.rollback()
                if values is not None:
                    self.failed(spec, error)
                    values.append(error.spelt(argv[0]))
                    self.idleness.seen(spec, ctx.db, argv)
            except BROKEN:
                raise
            except Exception as error:
                view.rollback()
                reply = self.broken(spec, error)
                if values is not None:
                    values.append(reply)
            else:
                if waiters.lines:
                    self._commit_and_serve(ctx)
                else:
                    view.commit()
                if values is not None:
                    values.append(value)
                    if view.effect_bytes == before:
                        self.idleness.seen(spec, ctx.db, argv)
        return stop

    # -- in turns, apart ---------------------------------------------------------------------------------------------

    def write_apart(
        self, ctx: Context, spec: CommandSpec | None, argv: list[bytes], ordinal: int, values: list[Any] | None,
        resp: int = 0,
    ) -> Callable[[Apart], None]:
        """Return the work of a heavy write, for `ctx` with the view that it is given. A long reply is encoded, for
        protocol version `resp` if that is given: to do so would hold up the loop."""

        def work(apart: Apart) -> None:
            self.write_some(ctx, [spec], [argv], 0, ordinal, values, weighed=True)
            if values and resp:
                values[-1] = encoded_in_turns(values[-1], resp, apart.breathe)

        return work

    def transaction_apart(
        self, ctx: Context, unit: Transaction, ordinal: int, local: LocalContext, found: list[tuple[bytes, int]]
    ) -> Callable[[Apart], None]:
        """Return the work of a heavy EXEC of this origin; it puts what `transaction` returns into `found`.

        Commands among it that have to do with the node or the connection are the loop's.
        """

        def work(apart: Apart) -> None:
            run_local = self.run_local
            found.append(
                self.transaction(
                    ctx, unit, ordinal, local,
                    lambda local, spec: apart.call_on_loop(lambda: run_local(local, spec)),
                )
            )  # fmt: skip

        return work

    def logged_transaction_apart(
        self, ctx: Context, watches: list[Watch], writes: list[tuple[int, list[bytes]]], ordinal: int
    ) -> Callable[[Apart], None]:
        """Return the work of a heavy EXEC as the log holds it."""
        return lambda _: self.logged_transaction(ctx, watches, writes, ordinal)

    @staticmethod
    def is_heavy(ctx: Context, commands: Sequence[tuple[int, CommandSpec | None, list[bytes]]]) -> bool:
        """Return whether an EXEC is to be carried out apart. `ctx` is as before."""
        weight = 0
        before = ctx.db
        for db, spec, argv in commands:
            weight += _COMMAND_WEIGHT + len(argv)
            if spec is not None and spec.weigh is not None and len(argv) > spec.light_words:
                ctx.db = db
                weight += weight_of(ctx, spec, argv)
        ctx.db = before
        return weight > HEAVY_ELEMENTS

    def _commit_and_serve(self, ctx: Context) -> None:
        """Keep the effects of a command or unit, and serve those who waited for what it has made."""
        view = ctx.view
        ready = view.registers.waiters.ready(view)
        if view.in_unit:
            view.commit_unit()
        else:
            view.commit()
        if ready:
            self._apart(ctx, lambda: serve(view, ready, ctx.now_ms))

    def _apart(self, ctx: Context, work: Callable[[], None]) -> None:
        """Do what no client is answered for, as if it were a command of its own."""
        view = ctx.view
        view.begin()
        try:
            work()
        except BROKEN:
            raise
        except Exception as error:
            view.rollback()
            _log.error("serving_failed", error=repr(error), exc_info=error)
        else:
            view.commit()

    def drop_waiters(self, ctx: Context, session: int) -> None:
        """A session has ended: forget those of its clients that wait, and serve others with what they leave."""
        view = ctx.view
        waiters = view.registers.waiters
        ready: list[tuple[int, bytes]] = []

        def drop() -> None:
            drop_session(view, session, ctx.now_ms)
            ready.extend(waiters.ready(view))

        if session in waiters.by_session:
            self._apart(ctx, drop)
            if ready:
                self._apart(ctx, lambda: serve(view, ready, ctx.now_ms))

    def broken(self, spec: CommandSpec, error: Exception) -> ReplyError:
        """Return the reply for a handler that raised what it should not, counted."""
        reply = internal_error(spec, error)
        self.failed(spec, reply)
        return reply

    def failed(self, spec: CommandSpec, error: ReplyError) -> None:
        """Count a command that was answered by an error."""
        self._statistics.error(error.prefix)
        self._statistics.commands_failed(spec)

    def measure(self, run: Run, seconds: float) -> None:
        """Count a finished run for INFO and the slow log."""
        specs = run.specs
        first = specs[0]
        count = len(specs)
        share = seconds / count
        if count == 1 or specs.count(first) == count:
            self._tally(first, count, seconds)
        else:
            for spec in specs:
                self._statistics.record(spec, 1, int(share * 1e6))
        if share >= self.slow_s:
            for argv in run.argvs:
                self.note_slow(run, argv, share)

    def measure_alike(self, runs: Sequence[Run], seconds: float) -> None:
        """Count finished runs of the same command, one each, for INFO and the slow log."""
        self._tally(runs[0].specs[0], len(runs), seconds)
        share = seconds / len(runs)
        if share >= self.slow_s:
            for run in runs:
                self.note_slow(run, run.argvs[0], share)

    def _tally(self, spec: CommandSpec, count: int, seconds: float) -> None:
        """Runs of the same command that follow each other, as without pipelining, are recorded together."""
        if spec is self._tallied:
            self._tally_count += count
            self._tally_s += seconds
        else:
            self.settle()
            self._tallied = spec
            self._tally_count = count
            self._tally_s = seconds

    def settle(self) -> None:
        """Record what was tallied; called at the end of every slice of reads or writes."""
        if self._tallied is not None:
            self._statistics.record(self._tallied, self._tally_count, int(self._tally_s * 1e6))
            self._tallied = None

    def transaction(
        self, ctx: Context, unit: Transaction, ordinal: int, local: LocalContext,
        run_local: Callable[[LocalContext, CommandSpec], Any] | None = None,
    ) -> tuple[bytes, int]:  # fmt: skip
        """Carry out an EXEC for its origin; return its reply and how many logged commands it counted."""
        run_local = run_local or self.run_local
        view = ctx.view
        writes = sum(1 for _, spec, _ in unit.commands if spec.kind == Kind.WRITE)
        out: list[bytes] = []
        if not unwatched(ctx, unit.watches):
            self._statistics.record(COMMANDS[b"EXEC"], 1, 0)
            append_reply(out, NULL_ARRAY, unit.resp)
            return b"".join(out), writes
        values: list[Any] = []
        view.begin_unit()
        session, ctx.session = ctx.session, 0
        before = view.effect_bytes
        failure: Exception | None = None
        broken: CommandSpec | None = None
        start = perf_counter()
        for db, spec, argv in unit.commands:
            ctx.db = db
            if spec.kind == Kind.WRITE:
                ctx.ordinal = ordinal
                ordinal += 1
                try:
                    values.append(_unit_write(ctx, spec, argv))
                    if view.effect_bytes - before > EFFECT_BYTES_MAX:
                        raise TooLarge
                except (_Broken, TooLarge) as error:
                    failure, broken = error.__cause__ if isinstance(error.__cause__, Exception) else error, spec
                    break
            elif spec.kind == Kind.READ:
                values.append(read_value(ctx, spec, argv))
            else:
                local.argv = argv
                values.append(run_local(local, spec))
        ctx.session = session
        total_usec = int((perf_counter() - start) * 1e6)
        self._statistics.record(COMMANDS[b"EXEC"], 1, total_usec)
        usec = total_usec // max(1, len(unit.commands))
        for _, spec, _ in unit.commands:
            self._statistics.record(spec, 1, usec)
        if failure is not None and broken is not None:
            view.rollback_unit()
            append_reply(
                out, failure if isinstance(failure, ReplyError) else internal_error(broken, failure), unit.resp
            )
            return b"".join(out), writes
        self._commit_unit(ctx)
        for value, (_, spec, _) in zip(values, unit.commands, strict=True):
            if isinstance(value, ReplyError):
                self.failed(spec, value)
        append_reply(out, values, unit.resp)
        return b"".join(out), writes

    # -- everyone else's -------------------------------------------------------------------------------------------

    def logged_transaction(
        self, ctx: Context, watches: list[Watch], writes: list[tuple[int, list[bytes]]], ordinal: int
    ) -> None:
        """Carry out the writes of an EXEC as the log holds it."""
        if not unwatched(ctx, watches):
            return
        view = ctx.view
        view.begin_unit()
        session, ctx.session = ctx.session, 0
        before = view.effect_bytes
        for db, argv in writes:
            ctx.db = db
            ctx.ordinal = ordinal
            ordinal += 1
            spec = resolve_logged(argv)
            try:
                if spec is not None:
                    _unit_write(ctx, spec, argv)
                if view.effect_bytes - before > EFFECT_BYTES_MAX:
                    raise TooLarge
            except (_Broken, TooLarge):
                view.rollback_unit()
                ctx.session = session
                return
        ctx.session = session
        self._commit_unit(ctx)

    def _commit_unit(self, ctx: Context) -> None:
        if ctx.view.registers.waiters.lines:
            self._commit_and_serve(ctx)
        else:
            ctx.view.commit_unit()

    def watch(self, ctx: Context, unit: WatchUnit) -> None:
        """Remember the versions of the keys in the client's state."""
        watched = unit.connection.state.watched
        for key in unit.keys:
            watched.setdefault((unit.db, key), ctx.view.watch(unit.db, key, ctx.now_ms))


def weight_of(ctx: Context, spec: CommandSpec, argv: list[bytes]) -> int:
    """Return how many elements a command line has to do with. What is wrong with it, its handler says."""
    assert spec.weigh is not None
    try:
        return spec.weigh(ctx, spec, argv)
    except (ReplyError, ValueError, IndexError):
        return 0


def _fewer(argvs: list[list[bytes]], position: int, stop: int) -> int:
    """Return where to stop before `stop`, so that there are no more than WORDS_A_TURN words, or one command."""
    words = 0
    for at in range(position, stop):
        words += len(argvs[at])
        if words > WORDS_A_TURN and at > position:
            return at
    return stop


def _unit_write(ctx: Context, spec: CommandSpec, argv: list[bytes]) -> Any:
    view = ctx.view
    view.begin()
    ctx._random = None
    try:
        value = spec.handler(ctx, *argv[spec.words :])
    except TooLarge:
        raise
    except ReplyError as error:
        view.rollback()
        return error.spelt(argv[0])
    except BROKEN:
        raise
    except Exception as error:
        raise _Broken from error
    view.commit()
    return value


def unwatched(ctx: Context, watches: list[Watch]) -> bool:
    """Return whether every watched key is as it was seen."""
    view = ctx.view
    return all(view.unchanged(db, key, seen, ctx.now_ms) for db, key, seen in watches)
