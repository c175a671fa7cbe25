"""Clients of a simulated cluster: pipelined, on every node, each operation recorded with its times and outcome.

Every family of keys has a rule by which all its replies are judged: registers, counters, marks and expiring keys by the
search for a linearization, journals by their one writer, pairs by their sum, echoes by their place among the replies,
the cluster's time by what is left of one key's life.
"""

from __future__ import annotations

import itertools
import math
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import hiredis

from tests.simulation.checks import require
from tests.simulation.queues import Queues
from tests.support.linearizability import (
    APPEND,
    COMPARE_AND_SET,
    DELETE,
    INCREMENT,
    READ,
    WRITE,
    WRITE_IF_ABSENT,
    Operation,
    SearchTooLong,
    hand_on,
    is_linearizable,
)
from tests.support.resp_client import encode_command

if TYPE_CHECKING:
    from tests.simulation.node_world import NodeWorld, Process

DEFINITE = ("CLUSTERDOWN", "DISKFULL")
UNKNOWN = "TIMEOUT"
CLOCK = b"clock"
CLOCK_LIFE_MS = 1_000_000_000
STEPS_MAX = 30_000
MARK = b"m"
_RESULT_OF_MARK: dict[str, Callable[[Any], Any]] = {
    READ: lambda reply: MARK if reply else None, WRITE_IF_ABSENT: bool, DELETE: int,
}  # fmt: skip
HEAP_MEMBERS = 20


def heap_line(kind: str, key: bytes) -> tuple[Any, ...]:
    """Return the command that fills, empties or counts a heap."""
    if kind == WRITE_IF_ABSENT:
        return ("ZADD", key, *(word for n in range(1, HEAP_MEMBERS + 1) for word in (n, f"m{n}")))
    return ({READ: "ZCOUNT", DELETE: "ZREMRANGEBYSCORE"}[kind], key, 1, HEAP_MEMBERS)


def _result_of_heap(kind: str, reply: Any) -> Any:
    require(reply in (0, HEAP_MEMBERS), f"a heap has {reply} of its {HEAP_MEMBERS} members")
    return _RESULT_OF_MARK[kind](bool(reply))


@dataclass
class Request:
    """One command line, and what its reply means. `done(reply)` records it; `effects` are what it may have done.

    `outcome` is told "refused", "unknown" or (its client has left) "left" where the command has no reply of its own.
    """

    argv: tuple[Any, ...]
    done: Callable[[Any, float], None] = lambda reply, when: None
    outcome: Callable[[str], None] = lambda what: None
    effects: list[Operation] = field(default_factory=list)
    definite_errors: tuple[str, ...] = ()
    group: Group | None = None
    journal: int = -1
    invoked: float = 0.0


@dataclass
class Group:
    """The commands of one MULTI … EXEC. `failed`: one of them was refused, so that EXEC must abort."""

    failed: bool = False


class SimTransport:
    """The server's end of a client's connection."""

    def __init__(self, client: SimClient, process: Process) -> None:
        self._client = client
        self._process = process
        self._number = client.connections
        self.closing = False
        self._reads = True
        self._arrived: list[bytes] = []  # while the server does not read

    def get_extra_info(self, name: str) -> Any:
        return ("127.0.0.1", 1000 + self._client.number) if name in ("peername", "sockname") else None

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Clients read everything at once, or nothing."""

    def get_write_buffer_size(self) -> int:
        return sum(len(data or b"") for number, data in self._client.unread if number == self._number)

    def pause_reading(self) -> None:
        self._reads = False

    def resume_reading(self) -> None:
        self._reads = True
        if self._arrived:
            self._process.later(0.0, self._deliver)

    def arrive(self, data: bytes) -> None:
        """Bytes of the client."""
        self._arrived.append(data)
        if self._reads:
            self._deliver()

    def _deliver(self) -> None:
        while self._arrived and self._reads and self._client.protocol is not None and not self.closing:
            self._client.protocol.data_received(self._arrived.pop(0))

    def is_closing(self) -> bool:
        return self.closing

    def write(self, data: bytes) -> None:
        self._client.to_client(self._number, bytes(data))

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        """Clients close at the end."""
        self.close()

    def close(self) -> None:
        if not self.closing:
            self.closing = True
            self._client.to_client(self._number, None)
            self._process.later(0.0, self._lost)

    abort = close

    def _lost(self) -> None:
        protocol, self._client.protocol = self._client.protocol, None
        if protocol is not None:
            protocol.connection_lost(None)


class SimClient:
    """One client, faithful to one node; connects again whenever it must."""

    def __init__(self, world: NodeWorld, number: int, node_id: str, load: Workload) -> None:
        self.world = world
        self.number = number
        self.node_id = node_id
        self.rng = random.Random(f"client {world.seed} {number}")
        self.load = load
        self.connections = 0
        self.protocol: Any = None
        self._transport: SimTransport | None = None
        self._process: Process | None = None
        self._reader = hiredis.Reader()
        self.waiting: deque[Request] = deque()
        self._to_server_at = self._to_client_at = 0.0
        self._open = False
        self._numbers = itertools.count()
        self.only_reads = self.rng.random() < world.plan.only_reads  # no write of its own ever holds it up
        self.journal = b"journal:%d" % number
        self.journal_sent: dict[int, int] = {}
        self.journal_known: set[int] = set()
        self.journal_refused: set[int] = set()
        self.follow_up: Callable[[], list[Request]] | None = None
        self.deaf = False
        self.unread: list[tuple[int, bytes | None]] = []  # what was sent to it meanwhile

    # --- the connection ---

    def start(self) -> None:
        """Begin to work after a while."""
        self.world.timeline.after(self.rng.random() * 0.5, self._turn)

    def _turn(self) -> None:
        world = self.world
        if not self._open:
            if not world.storm and not self.load.after_storm:
                return
            self._connect()
            world.timeline.after(0.02 + self.rng.random() * 0.2, self._turn)
            return
        if world.plan.client_deaf and world.storm and not self.deaf and self.rng.random() < world.plan.client_deaf:
            self._stop_reading()
        if not self.waiting:
            if not world.storm and not self.load.after_storm and self.follow_up is None:
                return
            if world.storm and self.rng.random() < world.plan.client_reconnect:
                self._disconnect()
            else:
                self.send(self._next_requests())
        elif self.rng.random() < world.plan.client_impatient and world.storm:
            self._disconnect()  # in the middle of something
        elif self.rng.random() < 0.3 and len(self.waiting) < 12 and world.storm and self.follow_up is None:
            self.send(self._next_requests())
        world.timeline.after(self.rng.random() * world.plan.client_pause_s, self._turn)

    def _connect(self) -> None:
        process = self.world.processes.get(self.node_id)
        if process is None or not process.loop.servers:
            return
        factory = next(iter(process.loop.servers.values()))
        self.connections += 1
        self._reader = hiredis.Reader()
        self._open = True
        self._process = process
        self.follow_up = None
        transport = SimTransport(self, process)
        self._transport = transport

        def made() -> None:
            if transport.closing:
                return
            self.protocol = factory()
            self.protocol.connection_made(transport)

        process.loop.enter(lambda: process.guard(made))

    def _stop_reading(self) -> None:
        """The client reads nothing for a while; its connection tells the server so."""
        process, transport, number = self._process, self._transport, self.connections
        assert process is not None and transport is not None
        self.deaf = True

        def tell(name: str) -> None:
            if self.connections == number and self.protocol is not None and not transport.closing:
                getattr(self.protocol, name)()

        def read_again() -> None:
            self.deaf = False
            unread, self.unread = self.unread, []
            for pair in unread:
                self.to_client(*pair)
            process.later(0.0, lambda: tell("resume_writing"))

        process.later(0.0, lambda: tell("pause_writing"))
        self.world.timeline.after(self.rng.random() * 1.5, read_again)

    def _disconnect(self) -> None:
        """The client goes away; what is under way has an outcome that it never learns."""
        self._gone("left")
        process, transport, protocol = self._process, self._transport, self.protocol
        if process is None or transport is None or transport.closing:
            return
        transport.closing = True
        self.protocol = None

        def lost() -> None:
            if protocol is not None:
                protocol.connection_lost(None)

        process.later(self.rng.random() * 0.005, lost)

    def _gone(self, outcome: str = "unknown") -> None:
        if self._open:
            for number, data in self.unread:  # what it had not read when it went nobody reads
                if number == self.connections:
                    self.load.queues.lost_on_the_way(data or b"")
            self._open = False
            self.connections += 1
            self.follow_up = None
            while self.waiting:
                self._unknown(self.waiting.popleft(), outcome)

    def process_ended(self) -> None:
        """The node died: the connection is reset."""
        number = self.connections
        self.protocol = None

        def reset() -> None:
            if self.connections == number:
                self._gone()

        self.world.timeline.after(self.rng.random() * 0.01, reset)

    def send(self, requests: list[Request]) -> None:
        """Send requests in one piece or in several."""
        now = self.world.timeline.now
        for request in requests:
            request.invoked = now
            self.waiting.append(request)
        data = b"".join(encode_command(request.argv) for request in requests)
        if self.rng.random() < 0.2 and len(data) > 2:
            cut = self.rng.randrange(1, len(data))
            pieces = [data[:cut], data[cut:]]
        else:
            pieces = [data]
        process, number = self._process, self.connections
        assert process is not None
        for piece in pieces:
            delay = self.rng.random() * 0.002
            self._to_server_at = max(self._to_server_at, now + delay)

            def arrive(piece: bytes = piece) -> None:
                transport = self._transport
                if self.connections == number and self.protocol is not None and transport is not None:
                    process.guard(lambda: transport.arrive(piece))

            self.world.timeline.at(self._to_server_at, arrive, process.loop)

    def to_client(self, number: int, data: bytes | None) -> None:
        """The server wrote, or closed (None)."""
        if self.deaf and number == self.connections:
            self.unread.append((number, data))
            return
        self._to_client_at = max(self._to_client_at, self.world.timeline.now + self.rng.random() * 0.002)
        self.world.timeline.at(self._to_client_at, lambda: self._received(number, data))

    def _received(self, number: int, data: bytes | None) -> None:
        if number != self.connections:
            self.load.queues.lost_on_the_way(data or b"")
            return
        if data is None:
            self._gone()
            return
        self._reader.feed(data)
        while (reply := self._reader.gets()) is not False:
            if not self.waiting:
                if isinstance(reply, hiredis.ReplyError) and "shutting down" in str(reply):
                    continue
                require(False, f"client {self.number}: a reply that nobody asked for: {reply!r}")
            self._reply(self.waiting.popleft(), reply)
        if not self.waiting and self.follow_up is not None and self._open:
            follow_up, self.follow_up = self.follow_up, None
            self.send(follow_up())

    # --- outcomes ---

    def _reply(self, request: Request, reply: Any) -> None:
        world = self.world
        now = world.timeline.now
        world.trace(f"client {self.number}@{self.node_id} {_line(request.argv)} -> {_short(reply)}")
        if isinstance(reply, hiredis.ReplyError):
            text = str(reply)
            if text.startswith(DEFINITE):
                world.refused += 1
                request.outcome("refused")
                if request.journal >= 0:
                    self.journal_refused.add(request.journal)
                return
            if text.startswith(UNKNOWN):
                self._unknown(request)
                return
            if request.definite_errors and text.startswith(request.definite_errors):
                request.outcome("refused")
                return
            require(False, f"client {self.number} at {self.node_id}: {_line(request.argv)} was answered {text!r}")
        world.answered += 1
        request.done(reply, now)

    def _unknown(self, request: Request, outcome: str = "unknown") -> None:
        self.world.unknown += 1
        request.outcome(outcome)
        for effect in request.effects:
            self.load.note(replace(effect, invoked=request.invoked, returned=math.inf, known=False))

    def _noted(self, operation: Operation, result: Any, invoked: float, returned: float) -> None:
        self.load.note(replace(operation, result=result, invoked=invoked, returned=returned))

    # --- what to do ---

    def _next_requests(self) -> list[Request]:
        rng = self.rng
        if self.only_reads:
            key = rng.choice([b"reg:0", b"reg:1", b"reg:2", b"cnt:0", b"cnt:1", b"exp:0", b"exp:1", b"cas:0"])
            if rng.random() < 0.3:
                return self.look_at_pair() if rng.random() < 0.5 else self.time()
            return [self.simple(("GET", key), Operation(READ, key))]
        if rng.random() < self.load.queues.share:
            return self.queue()
        mix = _WITHOUT_EXPIRY if self.world.timeline.now < self.world.plan.expiry_from_s else _MIX
        if rng.random() < self.load.marks_share:
            return self.mark()
        if self.world.plan.heaps and rng.random() < self.world.plan.heaps:
            return self.heap()
        if self.world.plan.tokens and rng.random() < self.world.plan.tokens:
            return self.token()
        if rng.random() < 0.12:
            return self._compare_and_set()
        depth = rng.choice([1, 1, 1, 2, 3, 8])
        requests: list[Request] = []
        for _ in range(depth):
            requests += SimClient.large(self) if rng.random() < 0.01 else rng.choice(mix)(self)
        return requests

    def simple(
        self, argv: tuple[Any, ...], operation: Operation, *, result: Callable[[Any], Any] = lambda r: r
    ) -> Request:
        """A request that is one operation on one key."""
        request = Request(argv, effects=[] if operation.kind == READ else [operation])
        request.done = lambda reply, now: self._noted(operation, result(reply), request.invoked, now)
        return request

    def register(self) -> list[Request]:
        rng = self.rng
        key = b"reg:%d" % rng.randrange(self.load.registers)
        kind = rng.choice([READ, READ, READ, WRITE, WRITE, DELETE, WRITE_IF_ABSENT])
        value = self.load.fresh()
        if kind == READ:
            return [self.simple(("GET", key), Operation(READ, key))]
        if kind == WRITE:
            return [self.simple(("SET", key, value), Operation(WRITE, key, value))]
        if kind == DELETE:
            return [self.simple(("DEL", key), Operation(DELETE, key))]
        return [self.simple(("SETNX", key, value), Operation(WRITE_IF_ABSENT, key, value), result=bool)]

    def counter(self) -> list[Request]:
        key = b"cnt:%d" % self.rng.randrange(2)
        if self.rng.random() < 0.4:
            return [self.simple(("GET", key), Operation(READ, key))]
        return [self.simple(("INCR", key), Operation(INCREMENT, key, 1))]

    def expiring(self) -> list[Request]:
        """SET with an expiry is a write, and at any time after it perhaps a removal of that very value."""
        rng = self.rng
        key = b"exp:%d" % rng.randrange(2)
        kind = rng.choice([READ, READ, READ, WRITE, DELETE, WRITE_IF_ABSENT])
        if kind == READ:
            return [self.simple(("GET", key), Operation(READ, key))]
        if kind == DELETE:
            return [self.simple(("DEL", key), Operation(DELETE, key))]
        value = self.load.fresh()
        lifetime_ms = rng.choice([1, 20, 100, 300, 1000])
        removal = Operation(COMPARE_AND_SET, key, (value, None), known=False)
        words: tuple[Any, ...] = ("SET", key, value, "PX", lifetime_ms)
        operation = Operation(kind, key, value)
        request = Request(words if kind == WRITE else (*words, "NX"), effects=[operation, removal])

        def done(reply: Any, now: float) -> None:
            result = reply is not None
            self._noted(operation, result, request.invoked, now)
            if result:
                self.load.note(replace(removal, invoked=request.invoked))

        request.done = done
        return [request]

    def mark(self) -> list[Request]:
        """A member of a set, which is mostly there, so that to add it changes nothing; now and then several times."""
        rng = self.rng
        key = b"mark:%d" % rng.randrange(2)
        kind = rng.choice([READ, WRITE_IF_ABSENT, WRITE_IF_ABSENT, WRITE_IF_ABSENT, WRITE_IF_ABSENT, DELETE])
        argv = ({READ: "SISMEMBER", DELETE: "SREM"}.get(kind, "SADD"), key, MARK)
        operation = Operation(kind, key, MARK if kind == WRITE_IF_ABSENT else None)
        times = rng.choice([1, 1, 1, 1, 1, 1, 5])
        return [self.simple(argv, operation, result=_RESULT_OF_MARK[kind]) for _ in range(times)]

    def heap(self) -> list[Request]:
        """Members that come and go all together, of a sorted set that stays: many changes in place by one command. Half
        of the time there is nothing to do."""
        rng = self.rng
        key = b"heap:%d" % rng.randrange(2)
        kind = rng.choice([READ, READ, WRITE_IF_ABSENT, DELETE])
        request = self.simple(heap_line(kind, key), Operation(kind, key, MARK if kind == WRITE_IF_ABSENT else None),
                              result=lambda reply: _result_of_heap(kind, reply))  # fmt: skip
        if rng.random() < 0.2:
            return [Request(("ZADD", key, HEAP_MEMBERS + 1, "stays")), request]
        return [request]

    def token(self) -> list[Request]:
        """A member that nobody else adds, or the removal of one as soon as its addition was answered: what other nodes
        had nothing to do for a moment ago, they have now."""
        tokens = self.load.tokens
        if not tokens or self.rng.random() < 0.3:
            added = self.load.fresh()
            request = Request(("SADD", b"tokens", added))
            request.done = lambda reply, now: tokens.append(added)
            return [request]
        removed = tokens.pop()
        first, again = (Request(("SREM", b"tokens", removed)) for _ in range(2))
        first.done = lambda reply, now: require(
            reply == 1, f"client {self.number}@{self.node_id}: SREM of {removed!r} was answered {reply}"
        )
        return [first, again]

    def journal_entry(self) -> list[Request]:
        """One writer, its own key: every token at most once, in order, and what was acknowledged is there."""
        token = next(self._numbers)
        connection = self.connections
        self.journal_sent[token] = connection
        append = Request(("APPEND", self.journal, b"%d." % token), journal=token)
        append.done = lambda reply, now: self.journal_known.add(token)
        if self.rng.random() < 0.5:
            return [append]
        get = Request(("GET", self.journal))
        get.done = lambda reply, now: self.check_journal(reply, token, connection)
        return [append, get]

    def check_journal(self, value: bytes | None, last: int, connection: int) -> None:
        """Judge the journal as a read saw it that stands directly behind the append of token `last`.

        Whatever an earlier connection left unanswered may be executed at any time after that.
        """
        name = self.journal.decode()
        found = [int(token) for token in (value or b"").split(b".")[:-1]]
        require(len(found) == len(set(found)), f"{name} holds a token twice: {found}")
        for number in {self.journal_sent[token] for token in found}:
            mine = [token for token in found if self.journal_sent[token] == number]
            require(mine == sorted(mine), f"{name} is out of order: {mine}")
        lost = sorted(token for token in self.journal_known - set(found) if token <= last)
        require(not lost, f"{name} lacks acknowledged tokens {lost}: {found}")
        future = [token for token in found if self.journal_sent[token] == connection and token > last]
        require(not future, f"{name} as of token {last} holds {future}")
        refused = sorted(self.journal_refused & set(found))
        require(not refused, f"{name} holds tokens that were refused: {refused}")

    def echo(self) -> list[Request]:
        token = self.load.fresh()
        request = Request(("ECHO", token))
        request.done = lambda reply, now: require(
            reply == token, f"client {self.number}: the reply of ECHO {token!r} is {reply!r}: replies out of order"
        )
        return [request]

    def transfer(self) -> list[Request]:
        """A transaction over two keys whose sum is 0 whenever anybody looks."""
        amount = self.rng.randrange(1, 4)
        group = Group()
        one = Operation(INCREMENT, b"pair:a", amount)
        other = Operation(INCREMENT, b"pair:b", -amount)
        exec_ = Request(("EXEC",), effects=[one, other], definite_errors=("EXECABORT",), group=group)

        def done(reply: Any, now: float) -> None:
            require(isinstance(reply, list) and len(reply) == 2, f"EXEC was answered {reply!r}")
            self._noted(one, reply[0], exec_.invoked, now)
            self._noted(other, reply[1], exec_.invoked, now)
            require(reply[0] == -reply[1], f"a transaction saw pair:a = {reply[0]} and pair:b = {reply[1]}")

        exec_.done = done
        queued = [("INCRBY", b"pair:a", amount), ("DECRBY", b"pair:b", amount)]
        return [Request(("MULTI",)), *(self._queued(argv) for argv in queued), exec_]

    def _queued(self, argv: tuple[Any, ...]) -> Request:
        request = Request(argv)
        request.done = lambda reply, now: require(reply in (b"QUEUED", "QUEUED"), f"{argv} was answered {reply!r}")
        return request

    def look_at_pair(self) -> list[Request]:
        def check(reply: list[Any], invoked: float, now: float) -> None:
            a, b = (int(value or 0) for value in reply)
            require(a == -b, f"client {self.number} saw pair:a = {a} and pair:b = {b}: half a transaction")
            self._noted(Operation(READ, b"pair:a"), reply[0], invoked, now)
            self._noted(Operation(READ, b"pair:b"), reply[1], invoked, now)

        if self.rng.random() < 0.5:
            request = Request(("MGET", b"pair:a", b"pair:b"))
            request.done = lambda reply, now: check(reply, request.invoked, now)
            return [request]
        request = Request(("EXEC",), definite_errors=("EXECABORT",))
        request.done = lambda reply, now: check(reply, request.invoked, now)
        return [
            Request(("MULTI",)), self._queued(("GET", b"pair:a")), self._queued(("GET", b"pair:b")), request
        ]  # fmt: skip

    def large(self) -> list[Request]:
        """A string that is stored in chunks, whose content is reclaimed later."""
        key = b"large:%d" % self.rng.randrange(2)
        kind = self.rng.choice([READ, WRITE, WRITE, DELETE])
        if kind == READ:
            return [self.simple(("GET", key), Operation(READ, key))]
        if kind == DELETE:
            return [self.simple(("DEL", key), Operation(DELETE, key))]
        value = self.load.fresh() * 14_000
        return [self.simple(("SET", key, value), Operation(WRITE, key, value))]

    def other_database(self) -> list[Request]:
        """A transaction in another database, now and then one that flushes it."""
        key = b"other"
        kind = self.rng.choice([READ, READ, WRITE, DELETE])
        value = self.load.fresh()
        words: tuple[Any, ...] = {READ: ("GET", key), WRITE: ("SET", key, value), DELETE: ("FLUSHDB",)}[kind]
        operation = Operation(READ, key) if kind == READ else Operation(WRITE, key, value if kind == WRITE else None)
        stays = self.rng.random() < 0.5  # what comes behind the EXEC then waits for it
        exec_ = Request(("EXEC",), effects=[] if kind == READ else [operation], definite_errors=("EXECABORT",))
        exec_.done = lambda reply, now: self._noted(operation, reply[1], exec_.invoked, now)
        ending = [self._queued(("SELECT", 0)), exec_] if stays else [exec_, Request(("SELECT", 0))]
        return [Request(("MULTI",)), self._queued(("SELECT", 2)), self._queued(words), *ending]

    def time(self) -> list[Request]:
        """What is left of the life of a key that nobody changes shows the time at which the cluster reads."""
        request = Request(("PTTL", CLOCK))
        request.done = lambda reply, now: self.load.note_time(self.node_id, reply, request.invoked, now)
        if self.load.time_seen or self.world.timeline.now < self.world.plan.expiry_from_s:
            return [request]
        return [Request(("SET", CLOCK, b"1", "PX", CLOCK_LIFE_MS, "NX")), request]

    def heavy(self) -> list[Request]:
        request = Request(("KEYS", b"pair:*"))
        request.done = lambda reply, now: require(
            sorted(reply) in ([], [b"pair:a", b"pair:b"]), f"KEYS pair:* was answered {reply!r}"
        )
        return [request]

    def queue(self) -> list[Request]:
        """A push, or a pop that waits."""
        process = self._process
        assert process is not None
        timed_out = process.node.proposals.timed_out

        def lives_on() -> bool:
            """Whether that process could put back what this client left behind: it knows what became of it."""
            alive = self.world.processes.get(self.node_id) is process and process.node.is_open
            return alive and not process.node.snapshots.installed and process.node.proposals.timed_out == timed_out

        return self.load.queues.request(self.rng, Request, f"client {self.number}", lives_on)

    def _compare_and_set(self) -> list[Request]:
        """WATCH, GET, then MULTI, SET, EXEC with what was seen."""
        key = b"cas:%d" % self.rng.randrange(2)
        if self.rng.random() < 0.2:
            value = self.load.fresh()
            return [self.simple(("SET", key, value), Operation(WRITE, key, value))]
        seen: list[Any] = []
        watch = Request(("WATCH", key))
        get = Request(("GET", key))

        def got(reply: Any, now: float) -> None:
            seen.append(reply)
            self._noted(Operation(READ, key), reply, get.invoked, now)

        get.done = got
        watched: list[bool] = []
        watch.done = lambda reply, now: watched.append(True)

        def follow_up() -> list[Request]:
            if not seen or not watched:
                return [Request(("UNWATCH",))]
            value = self.load.fresh()
            operation = Operation(COMPARE_AND_SET, key, (seen[0], value))
            exec_ = Request(("EXEC",), effects=[operation], definite_errors=("EXECABORT",))

            def done(reply: Any, now: float) -> None:
                if reply is not None:
                    self._noted(operation, True, exec_.invoked, now)

            exec_.done = done
            return [Request(("MULTI",)), self._queued(("SET", key, value)), exec_]

        self.follow_up = follow_up
        return [watch, get]


_MIX: list[Callable[[SimClient], list[Request]]] = [
    SimClient.register, SimClient.register, SimClient.register, SimClient.counter, SimClient.counter,
    SimClient.expiring, SimClient.expiring, SimClient.journal_entry, SimClient.journal_entry, SimClient.echo,
    SimClient.transfer, SimClient.look_at_pair, SimClient.heavy, SimClient.time,
    SimClient.queue, SimClient.queue, SimClient.queue, SimClient.mark, SimClient.mark,
]  # fmt: skip
_WITHOUT_EXPIRY = [one for one in _MIX if one not in (SimClient.expiring, SimClient.time)]


class Workload:
    """All clients of a world and everything they have seen."""

    def __init__(self, world: NodeWorld, per_node: int) -> None:
        self.world = world
        self.registers = 3
        self.after_storm = False
        self.history: dict[bytes, list[Operation]] = {}
        self._values = itertools.count(1)
        numbers = itertools.count()
        self.clients = [
            SimClient(world, next(numbers), node_id, self)
            for node_id in world.ids[: world.plan.busy_nodes]
            for _ in range(per_node)
        ]
        self.queues = Queues(self.fresh, world.rng.choice([0.0, 0.0, 0.7]))
        self.marks_share = world.rng.choice([0.0, 0.0, 0.8])
        self.tokens: list[bytes] = []  # whose addition was answered, and which nobody removes yet
        self.undecided = 0
        self.time_seen: list[tuple[float, float, int, str]] = []  # returned, invoked, what was left of CLOCK, node

    def note_time(self, node_id: str, left_ms: int, invoked: float, returned: float) -> None:
        """Keep what a read saw of CLOCK's life."""
        require(left_ms != -1, "a key with an expiry is said to have none")
        if left_ms >= 0:
            self.time_seen.append((returned, invoked, left_ms, node_id))

    def judge_time(self) -> None:
        """The cluster's time never goes backwards: a read that began after another had ended is not before it."""
        ended = deque(sorted(self.time_seen))
        least, witness = CLOCK_LIFE_MS, ""
        for returned, invoked, left_ms, node_id in sorted(self.time_seen, key=lambda seen: seen[1]):
            while ended and ended[0][0] < invoked:
                earlier = ended.popleft()
                if earlier[2] < least:
                    least, witness = earlier[2], f"{earlier[3]} at {earlier[0]:.4f}"
            require(
                left_ms <= least,
                f"time went back by {left_ms - least} ms from {witness} to {node_id} at {invoked:.4f}..{returned:.4f}",
            )

    def fresh(self) -> bytes:
        """Return a value that nobody has written before."""
        return b"v%d" % next(self._values)

    def note(self, operation: Operation) -> None:
        """Keep an operation for the judgement at the end."""
        self.history.setdefault(operation.key, []).append(operation)

    def final_reads(self, client: SimClient) -> list[Request]:
        """One read of everything."""
        keys = sorted(key for key in self.history if key != b"other")
        requests = [
            client.simple(("SISMEMBER", key, MARK), Operation(READ, key), result=_RESULT_OF_MARK[READ])
            if key.startswith(b"mark:")
            else client.simple(heap_line(READ, key), Operation(READ, key), result=lambda r: _result_of_heap(READ, r))
            if key.startswith(b"heap:")
            else client.simple(("GET", key), Operation(READ, key))
            for key in keys
        ]
        for writer in self.clients:
            get = Request(("GET", writer.journal))
            get.done = lambda reply, now, writer=writer: writer.check_journal(
                reply, max(writer.journal_sent, default=0), writer.connections
            )
            requests.append(get)
        return requests + self.queues.final_reads(Request)

    def judge(self) -> None:
        """Look for a linearization of every key, and at the time."""
        self.judge_time()
        for key in sorted(self.history):
            operations = self.history[key]
            hand_on(operations)
            try:
                # Usually what nobody saw explains nothing either; if it must, the whole history is looked at.
                fine = any(is_linearizable(history, steps_max=STEPS_MAX) for history in (_seen(operations), operations))
            except SearchTooLong:
                self.undecided += 1
                continue
            if not fine:
                self.world.explain(key, operations)
                require(False, f"the history of {key.decode()} is not linearizable ({len(operations)} operations)")


def _seen(history: list[Operation]) -> list[Operation]:
    """Return the history without unknown removals and without unknown writes of values that nobody saw."""
    seen = {o.result for o in history if o.kind == READ} | {o.argument[0] for o in history if o.kind == COMPARE_AND_SET}
    return [
        o
        for o in history
        if o.known
        or (o.kind in (WRITE, WRITE_IF_ABSENT) and o.argument in seen)
        or (o.kind == COMPARE_AND_SET and (o.argument[1] is None or o.argument[1] in seen))
        or o.kind in (INCREMENT, APPEND)
    ]


def _line(argv: tuple[Any, ...]) -> str:
    return " ".join(word[:40].decode() if isinstance(word, bytes) else str(word) for word in argv)


def _short(reply: Any) -> str:
    return repr(reply)[:80]


__all__ = ["APPEND", "Request", "SimClient", "Workload"]
