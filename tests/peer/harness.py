"""Networks on one event loop, and a bare connection that plays any peer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import uvloop

from zattredis.peer.connection import Connection, Timing, connect
from zattredis.peer.control import Purpose
from zattredis.peer.handshake import Identity, Listening
from zattredis.peer.network import PeerNetwork
from zattredis.peer.tls import PeerTls
from zattredis.raft.messages import Heartbeat, Message

QUICK = Timing(
    connect_ms=2000, handshake_ms=2000, dead_ms=3000, retry_min_ms=1, retry_max_ms=20, silence_ms=5000
)
WAIT_S = 60.0


def run(main: Callable[[], Coroutine[Any, Any, None]], loop: str = "uvloop") -> None:
    """Run a test's coroutine on a fresh loop; an exception that reaches the loop's handler fails the test."""
    factory = uvloop.new_event_loop if loop == "uvloop" else asyncio.new_event_loop
    unhandled: list[dict[str, Any]] = []

    async def guarded() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: unhandled.append(context))
        await main()

    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(guarded())
    assert unhandled == []


class Watched:
    """Something whose callbacks a test waits for: `changed()` at each of them, `until` sleeps in between."""

    def __init__(self) -> None:
        self._changed = asyncio.Event()

    def changed(self) -> None:
        self._changed.set()

    async def until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(WAIT_S):
            while not condition():
                self._changed.clear()
                await self._changed.wait()


class Net(Watched):
    """A PeerNetwork that notes all it is told."""

    def __init__(self, node_id: str, **options: Any) -> None:
        super().__init__()
        self.node_id = node_id
        self.messages: list[Message] = []
        self.links: list[tuple[str, bool]] = []
        self.sinks: list[Any] = []
        self.make_sink: Callable[[str, bytes], Any] = self._no_sink
        settings: dict[str, Any] = {
            "cluster_id": "c",
            "incarnation": f"{node_id}-1",
            "listen": ("127.0.0.1", 0),
            "secret": None,
            "timing": QUICK,
            "on_message": self._on_message,
            "on_link": self._on_link,
            "on_snapshot": self._on_snapshot,
            **options,
        }
        self.network = PeerNetwork(node_id=node_id, **settings)

    @property
    def address(self) -> tuple[str, int]:
        return ("127.0.0.1", self.network.port)

    def _on_message(self, message: Message) -> None:
        self.messages.append(message)
        self.changed()

    def _on_link(self, node_id: str, up: bool) -> None:
        self.links.append((node_id, up))
        self.changed()

    def _on_snapshot(self, node_id: str, manifest: bytes) -> Any:
        sink = self.make_sink(node_id, manifest)
        self.sinks.append(sink)
        return sink

    def _no_sink(self, node_id: str, manifest: bytes) -> Any:
        raise AssertionError("no snapshot is expected")


@asynccontextmanager
async def nets(*nodes: Net, connected: bool = True) -> Any:
    """Start the networks, make each a peer of each other, wait for all links; close them at the end."""
    for net in nodes:
        await net.network.start()
    try:
        for net in nodes:
            net.network.set_peers({other.node_id: other.address for other in nodes if other is not net})
        if connected:
            for net in nodes:
                await net.until(lambda net=net: all(net.network.connected(o.node_id) for o in nodes if o is not net))
        yield nodes
    finally:
        for net in nodes:
            await net.network.close()


async def dial(net: Net, node_id: str, *, purpose: Purpose = Purpose.MESSAGES, **changes: Any) -> Connection:
    """Connect to a network as the node `node_id`, handshake included."""
    if changes.get("secret") and "tls" not in changes:
        changes["tls"] = PeerTls.from_secret()
    identity = replace(Identity(node_id, "c", f"{node_id}-1"), **changes)
    return await connect(identity, net.node_id, net.address, purpose, QUICK)


class FakeNode(Watched):
    """Listens as a node and keeps each connection that comes in; what it does with them is the test's."""

    def __init__(self, node_id: str, incarnation: str = "fake", secret: bytes | None = None) -> None:
        super().__init__()
        self.identity = Identity(node_id, "c", incarnation, secret, PeerTls.from_secret() if secret else None)
        self.connections: list[Connection] = []
        self.frames: list[Any] = []
        self.batches: list[int] = []  # how many frames came in one piece

    async def __aenter__(self) -> FakeNode:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: Connection(Listening(self.identity), loop, QUICK, self._on_ready), "127.0.0.1", 0,
            ssl=self.identity.tls.accepting if self.identity.tls else None,
        )  # fmt: skip
        self.address: tuple[str, int] = ("127.0.0.1", self._server.sockets[0].getsockname()[1])
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for connection in self.connections:
            connection.abort("the test has ended")
        await self._server.wait_closed()

    def _on_ready(self, connection: Connection) -> None:
        self.connections.append(connection)
        connection.receive = self._receive
        self.changed()

    def _receive(self, frames: Any) -> None:
        self.frames += frames
        self.batches.append(len(frames))
        self.changed()


def heartbeat(src: str, dst: str, number: int = 0) -> Heartbeat:
    return Heartbeat(src, dst, 1, 0, number)
