"""One origin with all but Raft and sockets: the test says when a batch is handed over, applied, a read confirmed.

The parts are the real ones (connection, dispatcher, proposals, reads, applier) over a store in memory.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from tests.support.memory_store import MemoryStore
from zattredis.commands.context import LocalContext
from zattredis.config import make_settings
from zattredis.raft import entry as kinds
from zattredis.raft.entry import make_entry
from zattredis.resp.parser import ProtocolLimits
from zattredis.server.access import Access
from zattredis.server.applier import Applier
from zattredis.server.blocking import Blocking
from zattredis.server.clients import ClientRegistry
from zattredis.server.connection import ClientConnection
from zattredis.server.dispatcher import Dispatcher
from zattredis.server.executor import Executor
from zattredis.server.proposals import Proposals
from zattredis.server.reads import Reads
from zattredis.server.runtime_settings import RuntimeSettings
from zattredis.server.sessions import Sessions, encode_open
from zattredis.server.statistics import Statistics
from zattredis.storage.state_store import APPLIED_KEY, encode_applied


class FakeSocket(asyncio.Transport):
    """Keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.sent = b""
        self.writes = 0
        self.closing = False
        self.ended = False
        self.reading = True
        self.buffered = 0
        self.full_above = 1 << 60  # the client reads at once
        self.protocol: Any = None

    def write(self, data: Any) -> None:
        self.sent += data
        self.writes += 1
        self.buffered += len(data)
        if self.buffered > self.full_above:
            self.protocol.pause_writing()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def get_write_buffer_size(self) -> int:
        return 0

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.ended = True

    def close(self) -> None:
        self.closing = True

    def abort(self) -> None:
        self.closing = True


class MiniNode:
    """See the module. Entries of the log get indexes from 1; index 1 opens the session."""

    def __init__(self) -> None:
        self.soon: list[Callable[..., None]] = []
        self.store = MemoryStore()
        self.store.write({APPLIED_KEY: encode_applied(0, 0)})
        self.sessions = Sessions()
        self.log: list[tuple[int, bytes]] = []  # (kind, payload), not applied yet
        self.index = 0
        self.now_ms = 1_000_000
        self.leader_up = True
        self.asked: list[int] = []
        self.clients = ClientRegistry()
        statistics = Statistics()
        limits = ProtocolLimits()
        self.dispatcher = Dispatcher(
            clients=self.clients, statistics=statistics, schedule=lambda: None, call_soon=self._later,
            limits=limits, limits_before_auth=limits,
            maxclients=100, output_bytes_max=1 << 30, query_bytes_max=1 << 30, inflight_bytes_max=1 << 30,
        )  # fmt: skip
        self.executor = Executor(statistics, self.dispatcher.local.run_in_exec, lambda unit, argv, seconds: None)
        self.applier = Applier(
            store=self.store, sessions=self.sessions, executor=self.executor, on_applied=self._on_applied,  # type: ignore[arg-type]
            on_entry=lambda entry: None, call_soon=self._later, call_later=lambda s, f: self._later(f),
        )  # fmt: skip
        self.reads = Reads(
            source=self.applier, executor=self.executor, ask=self.asked.append, call_soon=self._later,
            request_timeout_s=60.0, retry_s=60.0, schedule=lambda: None, alone=lambda: True,
        )  # fmt: skip
        self.proposals = Proposals(
            node_id="n1", sessions=self.sessions, transport=self, on_reads=self.reads.submit_again,
            request_timeout_s=60.0, retry_s=60.0, batch_bytes_max=1 << 30, batch_commands_max=1 << 20,
            schedule=self._flush_again,
        )  # fmt: skip
        self.applier.attach(self.proposals)
        self.applier.on_batch_done = self.reads.finish_after
        self.blocking = Blocking(
            proposals=self.proposals, waiters=lambda: self.applier.registers.waiters, schedule=lambda: None,
            call_later=lambda seconds, function: None, executor=self.executor,
        )  # fmt: skip
        self.applier.on_popped = self.blocking.on_popped
        self.applier.on_waiters = self.blocking.on_waiters
        self.applier.on_sliced = self.reads.start_sliced
        access = Access(RuntimeSettings(make_settings()), lambda: self.applier.registers.users, lambda: self.clients)
        self.dispatcher.attach(None, self.proposals, self.reads, access)  # type: ignore[arg-type]
        self.proposals.ask_session()
        self.apply()

    def _flush_again(self) -> None:
        self.proposals.flush()

    def _later(self, function: Callable[..., None]) -> None:
        self.soon.append(function)

    def _on_applied(self, index: int) -> None:
        self.reads.on_applied()
        self.dispatcher.room()

    # -- the transport of proposals ------------------------------------------------------------------------------

    def forward_batch(self, session: int, sequence: int, payload: bytes) -> bool:
        if self.leader_up:
            self.log.append((kinds.BATCH, payload))
        return self.leader_up

    def forward_open(self, nonce: int) -> bool:
        self.log.append((kinds.OPEN, encode_open("n1", nonce)))
        return True

    # -- what a test says ----------------------------------------------------------------------------------------

    def connect(self) -> Client:
        connection = ClientConnection(self.dispatcher)
        socket = FakeSocket()
        socket.protocol = connection
        connection.connection_made(socket)
        return Client(self, connection, socket)

    def tick(self) -> None:
        """End of a tick: hand over, begin a round, write replies."""
        self.blocking.flush()
        self.proposals.flush()
        self.reads.flush()
        self.settle()

    def turn(self) -> None:
        """A whole tick: what it hands over is agreed and applied, what it asks confirmed."""
        asked = len(self.asked)
        self.tick()
        if self.log:
            self.apply()
        if len(self.asked) > asked:
            self.confirm()

    def settle(self) -> None:
        """Do what was put off, write replies."""
        while self.soon:
            soon, self.soon = self.soon, []
            for function in soon:
                function()
        self.dispatcher.flush()

    def apply(self, count: int | None = None) -> None:
        """Commit and apply the oldest entries of the log (all by default)."""
        count = len(self.log) if count is None else count
        entries = []
        for kind, payload in self.log[:count]:
            self.index += 1
            entries.append(make_entry(self.index, 1, kind, 1, self.now_ms, payload))
        del self.log[:count]
        self.applier.enqueue(entries)
        self.applier.run()
        self.settle()

    def confirm(self, index: int | None = None) -> None:
        """Confirm the read round under way, at the present end of the log by default."""
        self.reads.on_confirmed(self.asked[-1], self.index if index is None else index, self.now_ms)
        self.settle()


class Client:
    """One client of a MiniNode."""

    def __init__(self, node: MiniNode, connection: ClientConnection, socket: FakeSocket) -> None:
        self.node = node
        self.connection = connection
        self.socket = socket
        self.connection.local = LocalContext(connection.state, None, [])  # type: ignore[arg-type]

    def send(self, *lines: str) -> None:
        """Send commands, words separated by blanks, in one chunk."""
        data = b""
        for line in lines:
            words = line.encode().split()
            data += b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words)
        self.connection.data_received(data)

    def received(self) -> bytes:
        """Return what has arrived since the last call."""
        sent, self.socket.sent = self.socket.sent, b""
        return sent
