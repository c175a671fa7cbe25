"""Parts of a server around fakes: a transport that a test opens and shuts, connections that remember their replies."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import msgspec

from zattredis.commands.table import COMMANDS
from zattredis.server.proposals import Proposals
from zattredis.server.sessions import BATCH_HEADER, Sessions
from zattredis.server.units import DONE, Run, Unit


class FakeConnection:
    """Stands for a ClientConnection: units in order of arrival, replies in order of leaving."""

    def __init__(self) -> None:
        self.state = SimpleNamespace(resp=2, db=0, last_write_index=0, watched={})
        self.local = None
        self.units: list[Unit] = []
        self.reads: list[Unit] = []
        self.replies: list[bytes] = []
        self.closed = False

    def unit_done(self, unit: Unit) -> None:
        while self.units and self.units[0].state == DONE:
            self.replies.append(self.units.pop(0).reply)


class FakeTransport:
    """Takes what is handed over while `up`; remembers it."""

    def __init__(self) -> None:
        self.up = True
        self.batches: list[tuple[int, int, list[Any]]] = []
        self.nonces: list[int] = []

    def forward_batch(self, session: int, sequence: int, payload: bytes) -> bool:
        if not self.up:
            return False
        header = BATCH_HEADER.unpack_from(payload)
        assert header[:2] == (session, sequence)
        self.batches.append((session, sequence, msgspec.msgpack.decode(payload[BATCH_HEADER.size :])))
        return True

    def forward_open(self, nonce: int) -> bool:
        if self.up:
            self.nonces.append(nonce)
        return self.up


class Origin:
    """A Proposals with its fakes, whose clock the test sets."""

    def __init__(self, monkeypatch: Any) -> None:
        self.now = 1000.0
        monkeypatch.setattr("zattredis.server.proposals.monotonic", lambda: self.now)
        self.transport = FakeTransport()
        self.sessions = Sessions()
        self.resubmitted: list[Unit] = []
        self.proposals = Proposals(
            node_id="n1", sessions=self.sessions, transport=self.transport, on_reads=self.resubmitted.extend,
            request_timeout_s=5.0, retry_s=0.5, batch_bytes_max=1 << 20, batch_commands_max=100,
            schedule=self._flush_again,
        )  # fmt: skip

    def _flush_again(self) -> None:
        self.proposals.flush()

    def open(self, index: int = 7) -> None:
        """Let the log open the session that was asked for."""
        self.proposals.ask_session()
        nonce = self.transport.nonces[-1]
        self.sessions.open("n1", nonce, index)
        self.proposals.on_opened(nonce, index)

    def write(self, connection: FakeConnection, *argv: bytes) -> Run:
        """Put one write into the open batch."""
        batch = self.proposals.open_batch()
        run = Run(connection, True, 0)  # type: ignore[arg-type]
        run.specs.append(COMMANDS[argv[0]])
        run.argvs.append(list(argv))
        run.batch = batch
        batch.units.append(run)
        connection.units.append(run)
        self.proposals.added(batch, sum(map(len, argv)))
        return run

    def tick(self) -> None:
        """One end of tick."""
        self.proposals.flush()

    def apply(self, session: int, sequence: int) -> bool:
        """Let the log apply a batch: answer its units with +OK. Returns whether it executed."""
        if not self.sessions.is_next(session, sequence):
            return False
        batch = self.proposals.take_applied(session, sequence)
        self.sessions.advance(session, sequence)
        if batch is not None and not batch.abandoned:
            for unit in batch.units:
                unit.finish(b"+OK\r\n")
        return True
