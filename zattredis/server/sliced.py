"""Reads that are too long for one go: carried out in slices of time, each over a point of time of its own.

A read becomes sliced when its command says so (Flag.HEAVY) or when its handler returns a generator. It then holds a
frozen reader of the store, so that what is written meanwhile neither waits for it nor shows in its reply. A reply of
many elements leaves piece by piece (`Stream`), as fast as its client reads: what is held at once stays bounded.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from types import GeneratorType
from typing import Any, Final, Protocol

from zattredis.commands.context import Context, Steps, Stream
from zattredis.errors import ReplyError, StateDamaged
from zattredis.keyspace.reader import FrozenReader
from zattredis.keyspace.registers import Registers
from zattredis.keyspace.spilling import LongReadView, Spool
from zattredis.resp.replies import Pairs, append_pairs, append_replies, encode, stream_header
from zattredis.server.clock import monotonic, perf_counter, random_64
from zattredis.server.executor import BROKEN, Executor
from zattredis.server.proposals import answered_behind, refusal, write_behind
from zattredis.server.units import SLICED, WAITING, Run, Unit

SLICE_S: Final = 0.003
"""How long sliced reads run before others get their turn."""
RUNNING_MAX: Final = 16
"""Sliced reads under way at once."""
OPEN_MAX: Final = 256
"""Sliced reads under way or waiting for their clients; each holds a point of time, which the store must keep."""
PIECE_BYTES: Final = 256 << 10
"""What a reply may gather before it is sent."""
UNREAD_S: Final = 60.0
"""A client that takes nothing of a streamed reply for so long is closed: the point of time cannot be held for ever."""


class FreezableSource(Protocol):
    """Where sliced reads read: the state as it is applied now."""

    @property
    def readable(self) -> bool:
        """Whether `freeze` may be called."""
        ...

    def freeze(self) -> FrozenReader:
        """Return a reader of the state as applied now."""
        ...


class _Sliced:
    __slots__ = ("append", "began", "count", "now_ms", "out", "out_bytes", "parked_at", "reader", "run", "sent",
                 "steps", "view")  # fmt: skip

    def __init__(self, run: Run, reader: FrozenReader, now_ms: int) -> None:
        self.run = run
        self.reader = reader
        self.now_ms = now_ms
        self.steps: Steps | None = None
        self.view: LongReadView | None = None
        self.began = perf_counter()
        self.out: list[bytes] = []
        self.out_bytes = 0
        self.count = -1  # elements of a stream still to come
        self.append: Callable[[list[bytes], Any, int], None] = append_replies
        self.sent = False
        self.parked_at = 0.0


class SlicedReads:
    """One per node. A run given to `start` has one command, and is answered, in its connection's order, by this."""

    __slots__ = ("_call_soon", "_executor", "_in_front", "_on_room", "_parked", "_resubmit", "_running",
                 "_scheduled", "_seed", "_source", "_waiting", "new_spool")  # fmt: skip

    def __init__(
        self,
        *,
        source: FreezableSource,
        executor: Executor,
        call_soon: Callable[[Callable[[], None]], Any],
        resubmit: Callable[[list[Unit]], None],
        in_front: Callable[[Unit], None],
        on_room: Callable[[], None],
    ) -> None:
        """`resubmit` is given reads that need a fresh read point, `in_front` one that no later read may pass; `on_room`
        is called when there is room for more."""
        self._source = source
        self._executor = executor
        self._call_soon = call_soon
        self._resubmit = resubmit
        self._in_front = in_front
        self._on_room = on_room
        self._running: deque[_Sliced] = deque()
        self._parked: list[_Sliced] = []
        self._waiting: deque[tuple[Run, int, FrozenReader | None]] = deque()
        self._scheduled = False
        self._seed = random_64() >> 16  # ZRANDMEMBER and its like draw by it
        self.new_spool: Callable[[], Spool] | None = None
        """Returns where a read may put aside what it has to put in order; without it reads hold that in memory."""

    @property
    def idle(self) -> bool:
        """Whether no read is under way or waits."""
        return not (self._running or self._parked or self._waiting)

    @property
    def crowded(self) -> bool:
        """Whether a read that is started now has to wait for others."""
        return len(self._running) >= RUNNING_MAX or len(self._running) + len(self._parked) >= OPEN_MAX

    def start(self, run: Run, now_ms: int) -> None:
        """Carry out the run's one command at this point of time, or at a later one when too many are under way.

        Not at a later one where its client has sent a write behind it: the reply must not show that. A read behind it
        that is answered meanwhile calls `begin_now`.
        """
        crowded = self.crowded
        if crowded and not write_behind(run):
            run.state = WAITING  # a write that is sent meanwhile takes it along
            run.batch = None
            connection = run.connection
            if run not in connection.reads:  # it rode, or its client reads stale data
                connection.reads = [unit for unit in connection.units if unit.state == WAITING and not unit.is_write]
            self._waiting.append((run, now_ms, None))
            self._in_front(run)
            return
        run.state = SLICED  # no write takes it along any more
        reader = self._source.freeze()
        if crowded:
            self._waiting.append((run, now_ms, reader))
            return
        self._running.append(_Sliced(run, reader, now_ms))
        self._schedule()

    def begin_now(self, unit: Unit) -> bool:
        """If this read waits for others, let it show the state of this moment; return whether it does."""
        for position, (run, now_ms, reader) in enumerate(self._waiting):
            if run is unit and reader is None:
                run.state = SLICED
                self._waiting[position] = (run, now_ms, self._source.freeze())
                return True
        return False

    def tick(self) -> None:
        """Look again at those that wait for their clients, or for the replies before theirs."""
        now = monotonic()
        for sliced in self._parked:
            connection = sliced.run.connection
            if connection.closed:
                continue
            if not connection.is_next(sliced.run):
                sliced.parked_at = now  # for its turn: the replies before it are on their way
            elif now - sliced.parked_at > UNREAD_S:
                connection.close("took nothing of a long reply for too long")
        if self._parked:
            self.resume()
        if self._waiting:
            self._schedule()

    def resume(self) -> None:
        """Clients read again."""
        parked, self._parked = self._parked, []
        for sliced in parked:
            if sliced.run.connection.closed or self._deliver(sliced):
                self._running.append(sliced)
            else:
                self._parked.append(sliced)
        if self._running:
            self._schedule()

    def restart(self) -> None:
        """The store is about to be replaced: what is under way begins again, at a read point of its own."""
        begun = [*self._running, *self._parked]
        waiting = [run for run, _, reader in self._waiting if reader is not None or run.state == WAITING]
        self.stop()
        for sliced in begun:
            if sliced.sent:
                sliced.run.connection.close("the node's data was replaced by a snapshot in the midst of a reply")
        runs = [sliced.run for sliced in begun if not sliced.sent] + waiting
        too_late = dict.fromkeys(run for run in runs if write_behind(run) or answered_behind(run))
        for run in too_late:
            run.finish(refusal(run))  # a later state shows what was written behind it, or what the reads behind it lack
        again: list[Unit] = [run for run in runs if run not in too_late]
        self._resubmit(again)

    def stop(self) -> None:
        """End all; their clients are gone or are told by the closing of the connection."""
        for sliced in (*self._running, *self._parked):
            self._release(sliced)
        for _, _, reader in self._waiting:
            if reader is not None:
                reader.close()
        self._running.clear()
        self._parked.clear()
        self._waiting.clear()

    # -- working -----------------------------------------------------------------------------------------------------

    def _schedule(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            self._call_soon(self._slice)

    def _slice(self) -> None:
        self._scheduled = False
        if self._running:
            self._advance(self._running.popleft())
        while self._waiting and self._source.readable and not self.crowded:
            run, now_ms, reader = self._waiting.popleft()
            if reader is not None:
                self._running.append(_Sliced(run, reader, now_ms))
            elif run.state == WAITING:  # else a write took it along
                self.start(run, now_ms)
        if not self.crowded:
            self._on_room()
        if self._running:
            self._schedule()

    def _advance(self, sliced: _Sliced) -> None:
        if sliced.run.connection.closed:
            self._release(sliced)
            sliced.run.finish(b"")
        elif self._work(sliced):
            self._running.append(sliced)

    def _work(self, sliced: _Sliced) -> bool:
        """Work for one slice; return whether there is more to do at once."""
        end = perf_counter() + SLICE_S
        spec = sliced.run.specs[0]
        try:
            steps = sliced.steps or self._begin(sliced)
            while perf_counter() < end:
                piece = next(steps)
                if piece is None:
                    continue
                self._take(sliced, piece)
                if sliced.out_bytes > PIECE_BYTES and not self._deliver(sliced):
                    sliced.parked_at = monotonic()
                    self._parked.append(sliced)
                    return False
        except StopIteration as stop:
            self._finish(sliced, stop.value)
            return False
        except BROKEN:
            raise
        except ReplyError as error:
            self._executor.failed(spec, error)
            self._finish(sliced, error)
            return False
        except Exception as error:
            self._finish(sliced, self._executor.broken(spec, error))
            return False
        return True

    def _begin(self, sliced: _Sliced) -> Steps:
        """Call the handler; by now it may find so little that it answers at once."""
        run = sliced.run
        sliced.view = view = LongReadView(sliced.reader, Registers.load(sliced.reader), self.new_spool)
        spec, argv = run.specs[0], run.argvs[0]
        self._seed += 1
        value = spec.handler(Context(view, run.db, sliced.now_ms, seed=self._seed), *argv[spec.words :])
        steps: Steps = value if value.__class__ is GeneratorType else _at_once(value)
        sliced.steps = steps
        return steps

    def _take(self, sliced: _Sliced, piece: Stream | list[Any]) -> None:
        resp = sliced.run.resp
        if isinstance(piece, Stream):
            sliced.count = piece.count * (2 if piece.kind is dict else 1)
            if piece.kind is Pairs:
                sliced.append = append_pairs
            data = stream_header(piece.kind, piece.count, resp)
        else:
            sliced.count -= len(piece)
            out: list[bytes] = []
            sliced.append(out, piece, resp)
            data = b"".join(out)
        if sliced.run.mutes is None:
            sliced.out.append(data)
            sliced.out_bytes += len(data)

    def _deliver(self, sliced: _Sliced) -> bool:
        """Send what was gathered, if the replies before it are sent and the client reads; return whether it was."""
        connection = sliced.run.connection
        if connection.full or not connection.is_next(sliced.run):
            return False
        data, sliced.out, sliced.out_bytes = b"".join(sliced.out), [], 0
        sliced.sent = True
        connection.send_part(data)
        return True

    def _finish(self, sliced: _Sliced, value: Any) -> None:
        run = sliced.run
        spec = run.specs[0]
        self._release(sliced)
        if sliced.count >= 0:
            if isinstance(value, ReplyError):
                run.connection.close("an error in the midst of a long reply")
                return
            if sliced.count:
                raise StateDamaged(f"{spec.name} announced {sliced.count} elements more than there were")
            reply = b"".join(sliced.out)
        else:
            reply = encode(value, run.resp) if run.mutes is None else b""
        run.specs = [spec.original or spec]
        run.finish(reply)
        self._executor.measure(run, perf_counter() - sliced.began)
        self._executor.settle()

    def _release(self, sliced: _Sliced) -> None:
        if sliced.steps is not None:
            sliced.steps.close()
        if sliced.view is not None:
            sliced.view.close()
        sliced.reader.close()


def _at_once(value: Any) -> Steps:
    """Return a sliced read that is done already."""
    yield None
    return value
