"""The dispatcher: what happens to each request, decided with one lookup in the command table (DESIGN §2).

LOCAL commands are answered now, READs join the reads of this tick or ride in a batch, WRITEs join the open batch. What
must wait (a heavy read, an EXEC behind a pending WATCH, a command behind one that is not answered) stays in the
connection's backlog; `hold` and `release` say so.
"""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Callable
from itertools import chain
from typing import Any, Final

from zattredis.commands.context import PauseMode, ServerProtocol
from zattredis.commands.table import (
    COMMANDS,
    SLICED_ABOVE,
    CommandSpec,
    Flag,
    Kind,
    UnknownCommand,
    Variant,
    WrongArity,
    resolve,
)
from zattredis.errors import DefiniteError, ExecAbort, NoAuth, ReplyError
from zattredis.observability.events import get_logger
from zattredis.resp.parser import ProtocolLimits
from zattredis.resp.replies import append_reply
from zattredis.server import transactions, trials
from zattredis.server.access import Access
from zattredis.server.clients import ClientRegistry, ClientState
from zattredis.server.connection import ClientConnection
from zattredis.server.local import LocalCommands
from zattredis.server.monitors import KEYSPACE, Monitors
from zattredis.server.proposals import Proposals
from zattredis.server.reads import Reads
from zattredis.server.statistics import Statistics
from zattredis.server.strangers import PROTECTED, HeldBytes, SparingLog, is_local, speaks_http
from zattredis.server.units import WAITING, Run, Trial, Unit

QUEUED: Final = b"+QUEUED\r\n"
PARTING_MS: Final = 5000
"""How long a client that is refused, or spoke something else than RESP, has to read why."""
PARTING_MAX: Final = 1024
READS_KEPT: Final = 64
QUERY_BYTES_BEFORE_AUTH: Final = 256 << 10
"""Of one request of a client that has not authenticated: more than ten arguments of the length it may send."""
TO_WAIT_FOR: Final = frozenset((
    "INFO", "WAIT", "SHUTDOWN", "ROLE", "SLOWLOG", "LATENCY", "CONFIG", "DEBUG", "MEMORY", "SAVE", "BGSAVE", "LASTSAVE",
))  # fmt: skip
"""LOCAL commands that show or depend on what the commands before them did: they wait for those to be answered."""


class Dispatcher:
    """One per node; owns nothing but the order of things. `schedule` asks for the end-of-tick work of the node."""

    __slots__ = (
        "_clients", "_flushing", "_held_back", "_limits", "_limits_before_auth", "_log", "_parting",
        "_paused", "_proposals", "_reads", "_schedule", "_seen_idle", "_statistics", "_waiting_for_room", "accepting",
        "access", "call_soon", "fenced", "held_bytes", "inflight_bytes_max", "is_leader", "keepalive_s", "local",
        "maxclients", "memory_refusal", "monitors", "now_ms", "output_bytes_max", "output_limit_disconnections",
        "output_soft", "protected", "query_bytes_max", "server", "stale_reads", "write_refusal",
    )  # fmt: skip

    def __init__(
        self,
        *,
        clients: ClientRegistry,
        statistics: Statistics,
        schedule: Callable[[], None],
        call_soon: Callable[[Callable[[], None]], Any],
        limits: ProtocolLimits,
        limits_before_auth: ProtocolLimits,
        maxclients: int,
        output_bytes_max: int,
        query_bytes_max: int,
        inflight_bytes_max: int,
    ) -> None:
        self._log = SparingLog(get_logger(room="dispatcher"))
        self._clients = clients
        self._statistics = statistics
        self._schedule = schedule
        self.call_soon = call_soon
        self._limits = limits
        self._limits_before_auth = _before_auth(limits_before_auth)
        self.inflight_bytes_max = inflight_bytes_max
        self.held_bytes = HeldBytes()
        self.maxclients = maxclients
        self.output_bytes_max = output_bytes_max
        self.output_soft = (0, 0)  # bytes that a client may leave unread for so many seconds; 0: no such bound
        self.query_bytes_max = query_bytes_max
        self.server: ServerProtocol = None  # type: ignore[assignment]
        self._proposals: Proposals = None  # type: ignore[assignment]
        self._reads: Reads = None  # type: ignore[assignment]
        self._flushing: list[ClientConnection] = []
        self._paused: list[ClientConnection] = []
        self._waiting_for_room: list[ClientConnection] = []
        self._held_back: set[ClientConnection] = set()
        self._parting: deque[tuple[int, ClientConnection]] = deque()
        self.local = LocalCommands(statistics, schedule, self.limits)
        self.accepting = True
        self.output_limit_disconnections = 0
        self.now_ms = 0
        self.is_leader = False
        self.stale_reads = False
        self.protected = False
        self.access: Access = None  # type: ignore[assignment]
        self.keepalive_s = 0
        self.write_refusal: ReplyError | None = None
        self.memory_refusal: ReplyError | None = None
        self.monitors: Monitors | None = None
        self.fenced = False

    def fence(self, refusal: ReplyError) -> None:
        """From now on only LOCAL commands are carried out; everything else gets `refusal`."""
        self.write_refusal = self.memory_refusal = refusal
        self.fenced = True

    def attach(self, server: ServerProtocol, proposals: Proposals, reads: Reads, access: Access) -> None:
        """Tell it where LOCAL commands, writes and reads go, and who says what a client may do."""
        self.access = access
        self.server = server
        self._proposals = proposals
        self._reads = reads
        reads.on_needed = self._needed
        self._seen_idle = reads.idleness.specs

    # -- connections -------------------------------------------------------------------------------------------------

    def limits(self, authenticated: bool) -> ProtocolLimits:
        """Return the protocol bounds for a client."""
        return self._limits if authenticated else self._limits_before_auth

    def set_limits(self, bulk_bytes_max: int, query_bytes_max: int) -> None:
        """Put other protocol bounds in force for all clients, those that are connected included."""
        self._limits = dataclasses.replace(
            self._limits, bulk_bytes_max=bulk_bytes_max, query_bytes_max=query_bytes_max
        )
        self._limits_before_auth = _before_auth(self._limits)
        for client in self._clients:
            connection = client.connection
            assert isinstance(connection, ClientConnection)
            connection.parser.limits = self.limits(client.authenticated)

    def new_client(self, connection: ClientConnection, address: str, local_address: str, fd: int) -> ClientState:
        """Return the state of a new connection."""
        state = ClientState(
            self._clients.next_id(), connection, self.now_ms, address=address, local_address=local_address, fd=fd
        )
        self.access.greet(state)
        return state

    def refuse_connection(self, peer: Any) -> bytes | None:
        """Return the line for a connection that is one too many, or from where none is taken; else None."""
        if not self.accepting:
            return b"-ERR the server is shutting down\r\n"
        if len(self._clients) >= self.maxclients:
            self._statistics.connections_rejected += 1
            return b"-ERR max number of clients reached\r\n"
        if self.protected and not is_local(peer):
            self._statistics.connections_rejected += 1
            return PROTECTED
        return None

    def connected(self, connection: ClientConnection) -> None:
        """A client was accepted."""
        self._clients.add(connection.state)
        self._statistics.connections_received += 1
        self._log.debug("client_connected", client=connection.state.id, address=connection.state.address)

    def disconnected(self, connection: ClientConnection) -> None:
        """A client is gone."""
        state = connection.state
        state.unblock(False)
        self._clients.remove(state)
        if state.closed_because:
            self._log.info("client_closed", client=state.id, address=state.address, reason=state.closed_because)
        else:
            self._log.debug("client_left", client=state.id, address=state.address, name=state.name)

    def count_input(self, size: int) -> None:
        """Count bytes that a client sent."""
        self._statistics.net_input_bytes += size
        self._statistics.reads_processed += 1

    def count_output(self, size: int) -> None:
        """Count bytes of replies."""
        self._statistics.net_output_bytes += size
        self._statistics.writes_processed += 1

    def protocol_error(self, connection: ClientConnection, text: bytes) -> None:
        """A client sent what is no request."""
        self._statistics.error("ERR")
        self._log.info("protocol_error", client=connection.state.id, address=connection.state.address, error=text)

    def output_exceeded(self, connection: ClientConnection) -> None:
        """A client left too many replies unread."""
        self.output_limit_disconnections += 1

    def reads_again(self) -> None:
        """A client reads its replies again."""
        if self._reads.held_up:
            self._reads.resume()
            self._schedule()

    def monitor(self, connection: ClientConnection, time_us: Callable[[], int]) -> None:
        """Show a client every command from now on."""
        if self.monitors is None:
            self.monitors = Monitors(time_us)
        self.monitors.add(connection)

    def flush_later(self, connection: ClientConnection) -> None:
        """Write the connection's replies at the end of this tick."""
        if not self._flushing:
            self._schedule()
        self._flushing.append(connection)

    def flush(self) -> None:
        """End of tick: one write for each connection with replies."""
        if self.monitors is not None:
            self.monitors.settle()
            if not self.monitors.still():
                self.monitors = None
        while self._flushing:
            flushing, self._flushing = self._flushing, []
            for connection in flushing:
                connection.flush()

    def answered(self, connection: ClientConnection) -> None:
        """A connection that is held has no unanswered request left."""
        if connection in self._held_back:
            self._held_back.discard(connection)
            self.call_soon(connection.release)

    def hold_until_answered(self, connection: ClientConnection) -> None:
        """Look at no further request of the connection until all before it are answered."""
        connection.hold()
        self._held_back.add(connection)

    # -- requests ----------------------------------------------------------------------------------------------------

    def dispatch(self, connection: ClientConnection, requests: list[list[bytes]]) -> None:
        """Take requests in the order of arrival; what cannot be looked at yet goes to the connection's backlog."""
        if connection.state.permissions is None:
            self._take(connection, requests)
        else:
            self._take_checked(connection, requests)

    def _take_checked(self, connection: ClientConnection, requests: list[list[bytes]]) -> None:
        """Take the requests of a client that may not do everything: plain ones that are allowed go the quick way."""
        state = connection.state
        position, count = 0, len(requests)
        while position < count:
            if connection.closed or state.close_after_reply:
                break
            if connection.held or connection.backlog:
                connection.backlog.extend(requests[position:])
                break
            start, permissions = position, state.permissions
            if permissions is None:
                self._take(connection, requests[start:])
                break
            if state.authenticated and not state.in_multi:
                while position < count and permissions.allows_plainly(requests[position]):
                    position += 1
            if position > start:
                state.checked = False
                self._take(connection, requests[start:position])
                state.checked = state.permissions is not None or not state.authenticated
            else:
                position += 1
                self._take(connection, requests[start:position])

    def _take(self, connection: ClientConnection, requests: list[list[bytes]]) -> None:
        state = connection.state
        state.last_interaction_ms = self.now_ms
        run: Run | None = None
        run_kind = -1
        spec: CommandSpec | None = None
        name: bytes | None = None
        plain = False
        careful = self._must_be_careful(state)
        if not careful:
            if len(requests) == 1:
                if self._take_one(connection, requests):
                    return
            elif len(requests) > 3 and self._dispatch_alike(connection, requests):
                return
        for position, argv in enumerate(requests):
            if argv[0] != name:  # most pipelines repeat one command: what follows from its name is decided once
                name = argv[0]
                spec = COMMANDS.get(name) or COMMANDS.get(name.upper())
                plain = spec is not None and spec.plain
            if careful or not plain or spec is None or len(argv) > SLICED_ABOVE:
                if run is not None:
                    self._run_complete(run)
                    run = None
                run_kind = -1
                if not self._special(connection, spec, argv):
                    connection.push_back(requests, position)
                    break
                if connection.held:
                    connection.push_back(requests, position + 1)
                    break
                if state.close_after_reply:
                    break  # what was pipelined behind QUIT is never executed
                careful = self._must_be_careful(state)
                continue
            arity = spec.arity
            if len(argv) != arity if arity > 0 else len(argv) < -arity:
                if run is not None:
                    self._run_complete(run)
                    run = None
                    careful = self._must_be_careful(state)
                run_kind = -1
                if speaks_http(argv):
                    self._cut_off(connection)
                    break
                self._refuse(connection, spec, WrongArity(spec))
                continue
            kind = spec.kind
            if kind != run_kind or run is None:
                if run is not None:
                    self._run_complete(run)
                    careful = self._must_be_careful(state)
                if kind == Kind.WRITE and self.write_refusal is not None:
                    run, run_kind = None, -1
                    self._refuse(connection, spec, self.write_refusal)
                    continue
                run = self._write_run(connection) if kind == Kind.WRITE else self._read_run(connection)
                run_kind = kind
            run.specs.append(spec)
            run.argvs.append(argv)
        if run is not None:
            self._run_complete(run)
        state.last_spec = spec
        self._schedule()

    def _take_one(self, connection: ClientConnection, requests: list[list[bytes]]) -> bool:
        """Take a single plain request, which is all that comes at once without pipelining, if it is that."""
        argv = requests[0]
        spec = COMMANDS.get(argv[0]) or COMMANDS.get(argv[0].upper())
        if spec is None or not spec.plain:
            return False
        argc, arity = len(argv), spec.arity
        if argc > SLICED_ABOVE or (argc != arity if arity > 0 else argc < -arity):
            return False
        run: Run
        if spec.kind == Kind.READ:
            run = self._read_run(connection)
        elif self.write_refusal is not None:
            return False
        elif (
            (spec.idle_if_absent or spec in self._seen_idle)
            and not self.stale_reads
            and trials.may_try(connection, self._reads, spec, argv)
        ):
            run = trials.new_trial(connection)
        else:
            run = self._write_run(connection)
        run.specs.append(spec)
        run.argvs = requests
        self._run_complete(run)
        connection.state.last_spec = spec
        self._schedule()
        return True

    def _needed(self, trial: Trial) -> None:
        trials.become_write(trial, self._proposals, self.write_refusal)
        self._schedule()

    def _dispatch_alike(self, connection: ClientConnection, requests: list[list[bytes]]) -> bool:
        """Take a pipeline of one plain command with one number of arguments, if it is that: half the cost of a walk."""
        first = requests[0]
        name, argc = first[0], len(first)
        spec = COMMANDS.get(name)
        if (
            spec is None
            or spec.kind == Kind.LOCAL
            or spec.heavy
            or spec.subcommands
            or spec.blocking
            or (spec.variant and not spec.module)
            or argc > SLICED_ABOVE
            or (argc != spec.arity if spec.arity > 0 else argc < -spec.arity)
            or [*map(len, requests)].count(argc) != len(requests)
            or [argv[0] for argv in requests].count(name) != len(requests)
        ):
            return False
        if spec.variant is not None and not _all_pass(spec.variant, connection, requests):
            return False
        run: Run
        if spec.kind == Kind.WRITE:
            if self.write_refusal is not None:
                return False
            if (
                spec in self._seen_idle
                and not self.stale_reads
                and trials.may_try_all(connection, self._reads, spec, requests)
            ):
                run = trials.new_trial(connection)
            else:
                run = self._write_run(connection)
        else:
            run = self._read_run(connection)
        run.specs = [spec] * len(requests)
        run.argvs = requests
        self._run_complete(run)
        connection.state.last_spec = spec
        self._schedule()
        return True

    def _must_be_careful(self, state: ClientState) -> bool:
        """Return whether every request needs the careful way; only such requests and full batches change that."""
        return bool(
            state.in_multi
            or state.mute
            or state.checked
            or self._clients.pause_mode
            or self._waiting_for_room
            or self.memory_refusal is not None
            or self.monitors is not None
        )

    def _write_run(self, connection: ClientConnection) -> Run:
        """Return a new run of writes in the open batch, which takes along the connection's unanswered reads."""
        batch = self._proposals.open_batch()
        run = Run(connection, True, connection.state.db)
        if connection.reads:
            self._take_along(connection)
        run.batch = batch
        connection.last_batch = batch
        batch.units.append(run)
        connection.units.append(run)
        return run

    def _take_along(self, connection: ClientConnection) -> None:
        transactions.take_along(connection, self._proposals)

    def _read_run(self, connection: ClientConnection) -> Run:
        """Return a new run of reads: in the open batch behind the connection's own writes there, else on its own."""
        run = Run(connection, False, connection.state.db)
        connection.units.append(run)
        return run

    def _run_complete(self, run: Run) -> None:
        """All commands that belong to a run are in it: count it, or send it on its way."""
        connection = run.connection
        if run.is_write:
            assert run.batch is not None
            argvs = run.argvs
            size = sum(map(len, argvs[0] if len(argvs) == 1 else chain.from_iterable(argvs)))
            run.batch.commands += len(argvs) - 1
            self._proposals.added(run.batch, size)
            if self._proposals.bytes_held > self.inflight_bytes_max:
                self._wait_for_room(connection)
            return
        self._submit_read(connection, run)

    def _submit_read(self, connection: ClientConnection, unit: Unit) -> None:
        batch = connection.last_batch
        if batch is not None and not batch.settled:
            if self._proposals.is_open(batch):
                transactions.ride(unit, batch)
                return
            unit.batch = batch
        elif self.stale_reads or (connection.state.readonly and not self.is_leader):
            self._reads.serve_stale(unit)
            return
        reads = connection.reads
        if len(reads) > READS_KEPT:
            connection.reads = reads = [one for one in reads if one.state == WAITING]
        reads.append(unit)
        self._reads.submit(unit)

    # -- everything that is not a plain read or write ------------------------------------------------------------------

    def _special(self, connection: ClientConnection, spec: CommandSpec | None, argv: list[bytes]) -> bool:
        """Handle one request the careful way; False: it cannot be looked at yet."""
        if connection.held or connection.choked:
            return False
        if connection.closed or connection.state.close_after_reply:
            return True
        state = connection.state
        try:
            spec = resolve(argv)
            if not state.authenticated and not spec.flags & Flag.NO_AUTH:
                raise NoAuth
            if state.in_multi and spec.flags & Flag.NO_MULTI:
                raise DefiniteError("Command not allowed inside a transaction")
            if state.permissions is not None:
                self.access.check(state, spec, argv)
            if state.monitoring and spec.flags & KEYSPACE:
                raise DefiniteError("Replica can't interact with the keyspace")
            given = spec, argv
            if spec.variant is not None:
                spec, argv = spec.variant(connection.local, argv) or (spec, argv)
            if spec.kind == Kind.WRITE and self.write_refusal is not None:
                raise self.write_refusal
            if self.memory_refusal is not None and (
                spec.flags & Flag.DENYOOM
                or (self.fenced and spec.kind != Kind.LOCAL)
                or (state.in_multi and not spec.unqueued)  # a queue takes memory too
            ):
                raise self.memory_refusal
        except ReplyError as error:
            if isinstance(error, UnknownCommand | WrongArity) and speaks_http(argv):
                self._cut_off(connection)
                return True
            self._special_error(connection, spec, argv, error)
            return True
        if spec.sliced is not None and len(argv) > SLICED_ABOVE and not state.in_multi:
            spec = spec.sliced
        if self._must_wait(connection, spec):
            return False
        if state.in_multi and not spec.unqueued:
            muted = state.mute and state.drops_reply(spec)
            state.enqueue(spec, argv)
            if not muted:
                connection.add_reply(QUEUED)
            return True
        state.last_spec = spec
        if spec.name == "EXEC":
            return self._exec(connection, spec, argv)
        muted = state.mute and state.drops_reply(spec)
        if spec.kind == Kind.LOCAL and spec.name != "WATCH":
            self.local.run(connection, spec, argv, muted)
        else:
            self._single(connection, spec, argv, muted)
        if self.monitors is not None:
            self.monitors.show(state, *given)
        return True

    def _special_error(
        self, connection: ClientConnection, spec: CommandSpec | None, argv: list[bytes], error: ReplyError
    ) -> None:
        state = connection.state
        if spec is not None and spec.name == "EXEC":
            state.end_multi()
            error = ExecAbort(f"Transaction discarded because of: {error.message if error.prefix == 'ERR' else error}")
        elif state.in_multi:
            state.dirty = True
        muted = bool(state.mute)
        if muted and spec is not None:
            muted = state.drops_reply(spec)
        elif muted:
            state.mute = state.replies_off
        self._refuse(connection, spec, error, muted)

    def _must_wait(self, connection: ClientConnection, spec: CommandSpec) -> bool:
        """Return whether the request has to wait, and see to it that the connection goes on when it may."""
        state = connection.state
        clients = self._clients
        if clients.pause_mode and clients.paused(self.now_ms):
            writes = spec.kind == Kind.WRITE or bool(spec.flags & Flag.MAY_REPLICATE)
            if spec.name == "EXEC":
                writes = any(one.kind == Kind.WRITE for one, _ in state.queue)
            elif state.in_multi and not spec.unqueued:
                writes = False
            if clients.pause_mode == PauseMode.ALL or writes:
                connection.hold()
                state.postponed = True
                self._paused.append(connection)
                return True
        if self._waiting_for_room and spec.kind == Kind.WRITE and not state.in_multi:
            self._wait_for_room(connection)
            return True
        if connection.answered:
            return False
        queues = state.in_multi and not spec.unqueued
        container = spec.parent.name if spec.parent is not None else spec.name
        waits = (
            (spec.heavy and not queues)
            or (spec.kind == Kind.LOCAL and container in TO_WAIT_FOR and not queues)
            or (spec.name == "EXEC" and transactions.watch_pending(connection))
        )
        if waits:
            self.hold_until_answered(connection)
        return waits

    def _single(self, connection: ClientConnection, spec: CommandSpec, argv: list[bytes], muted: bool) -> None:
        """A read or write that could not go the quick way."""
        unit: Unit
        if spec.name == "WATCH":
            if connection.state.in_multi:
                self._refuse(connection, spec, DefiniteError("WATCH inside MULTI is not allowed"), muted)
                return
            unit = transactions.watch_unit(connection, argv)
            connection.units.append(unit)
            self._submit_read(connection, unit)
            return
        run = self._write_run(connection) if spec.kind == Kind.WRITE else self._read_run(connection)
        run.specs.append(spec)
        run.argvs.append(argv)
        if muted:
            run.mute_last()
        self._run_complete(run)
        if spec.heavy or spec.blocking or (spec.original is not None and spec.original.kind == Kind.LOCAL):
            self.hold_until_answered(connection)  # of the last kind: what follows may be allowed, or no longer

    def _cut_off(self, connection: ClientConnection) -> None:
        """Somebody speaks HTTP: without an answer, for a browser would show it to the page that sent the request."""
        self._log.warning("http_refused", client=connection.state.id, address=connection.state.address)
        connection.close("it sent HTTP")

    def _exec(self, connection: ClientConnection, spec: CommandSpec, argv: list[bytes]) -> bool:
        state = connection.state
        muted = state.mute and state.drops_reply(spec)
        try:
            transactions.check_queue(state, self.memory_refusal, self.write_refusal)
            if state.permissions is not None:
                transactions.check_again(state, self.access)
            unit = transactions.exec_unit(connection)
        except ReplyError as error:
            self._refuse(connection, spec, error, muted)
            if self.monitors is not None:
                self.monitors.show(state, spec, argv)
            return True
        if muted:
            unit.mute_last()
        connection.units.append(unit)
        if self.monitors is not None:
            self.monitors.expect(unit, state, argv)
        if unit.final_db != state.db or unit.holds or self.monitors is not None:
            self.hold_until_answered(connection)
        if not unit.is_write:
            self._submit_read(connection, unit)
            return True
        batch = self._proposals.open_batch()
        self._take_along(connection)
        unit.batch = connection.last_batch = batch
        batch.units.append(unit)
        size = sum(sum(map(len, argv)) for _, _, argv in unit.commands)
        self._proposals.added(batch, size)
        return True

    def _refuse(
        self, connection: ClientConnection, spec: CommandSpec | None, error: ReplyError, muted: bool = False
    ) -> None:
        """Answer with an error that no handler was called for."""
        self._statistics.error(error.prefix)
        if spec is not None:
            self._statistics.reject(spec)
        if not muted:
            out: list[bytes] = []
            append_reply(out, error, connection.state.resp)
            connection.add_reply(b"".join(out))

    # -- waiting -----------------------------------------------------------------------------------------------------

    def _wait_for_room(self, connection: ClientConnection) -> None:
        connection.hold()
        self._waiting_for_room.append(connection)

    def close_later(self, connection: ClientConnection) -> None:
        """Close a connection whose last words are sent once its client has had the time to read them."""
        self._parting.append((self.now_ms + PARTING_MS, connection))

    def tick(self) -> None:
        """Let those go on that waited for room or for the end of a pause; close those whose time is up."""
        while self._parting and (self._parting[0][0] <= self.now_ms or len(self._parting) > PARTING_MAX):
            self._parting.popleft()[1].transport.close()
        if self._paused and not (self._clients.pause_mode and self._clients.paused(self.now_ms)):
            paused, self._paused = self._paused, []
            for connection in paused:
                connection.state.postponed = False
                connection.release()
        self.room()

    def room(self) -> None:
        """Batches were applied: writes that waited for room go on."""
        if self._waiting_for_room and self._proposals.bytes_held <= self.inflight_bytes_max // 2:
            waiting, self._waiting_for_room = self._waiting_for_room, []
            for connection in waiting:
                if connection not in self._held_back:
                    connection.release()


def _before_auth(limits: ProtocolLimits) -> ProtocolLimits:
    """Return the bounds for a client that has not authenticated."""
    query_bytes_max = min(limits.query_bytes_max, QUERY_BYTES_BEFORE_AUTH)
    return dataclasses.replace(limits, authenticated=False, query_bytes_max=query_bytes_max)


def _all_pass(check: Variant, connection: ClientConnection, requests: list[list[bytes]]) -> bool:
    """Return whether an extension refuses none of these command lines of its own."""
    local = connection.local
    try:
        for argv in requests:
            check(local, argv)
    except ReplyError:
        return False  # the careful way tells which, and why
    return True
