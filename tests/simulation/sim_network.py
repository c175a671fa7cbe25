"""Links between simulated nodes, with the semantics of `peer.network`: messages, news of links, streams of snapshots.

Two kinds of weather. In order, as TCP: a message comes late or, when its connection breaks, never. Wild: messages are
lost, doubled and overtake each other, also across connections; the server must bear that, too. In both nothing of a
process whose disk has been lost arrives once its successor was heard: the listener replaces the older connection.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from zattredis.errors import FatalError, SnapshotDamaged, SnapshotFailed, ZattredisError
from zattredis.raft.messages import Message

if TYPE_CHECKING:
    from tests.simulation.node_world import NodeWorld, Process


@dataclass(frozen=True)
class Weather:
    """Probabilities per message, times in seconds."""

    in_order: bool = True
    loss: float = 0.0
    duplication: float = 0.0
    delay_max: float = 0.002
    late: float = 0.0
    late_max: float = 1.0


class SimNetwork:
    """All links of a world."""

    def __init__(self, world: NodeWorld, rng: random.Random) -> None:
        self._world = world
        self._rng = rng
        self._cut: set[tuple[str, str]] = set()
        self._clogged: dict[tuple[str, str], float] = {}
        self._arrives_at: dict[tuple[str, str], float] = {}
        self._heard: dict[tuple[str, str], int] = {}
        self._up: dict[tuple[str, str], tuple[Process, Process]] = {}
        self._stash: dict[tuple[str, str], list[Callable[[], None]]] = {}
        self.weather = Weather()
        self.messages = 0

    # --- cuts ---

    def passes(self, src: str, dst: str) -> bool:
        """Return whether bytes get from `src` to `dst`."""
        return (src, dst) not in self._cut

    def cut(self, sources: Iterable[str], destinations: Iterable[str]) -> None:
        """Let nothing pass from `sources` to `destinations` (one way)."""
        targets = list(destinations)
        self._cut.update((s, d) for s in sources for d in targets if s != d)

    def clog(self, src: str, dst: str, seconds: float) -> None:
        """Delay everything on a link."""
        self._clogged[src, dst] = seconds

    def heal(self) -> None:
        """Restore all links; the weather stays. What TCP has kept arrives now."""
        self._cut.clear()
        self._clogged.clear()
        stash, self._stash = self._stash, {}
        for pair in sorted(stash):
            for send in stash[pair]:
                send()

    # --- links ---

    def watch_links(self) -> None:
        """Make and break links, as connections do: called all the time."""
        world = self._world
        gone = [node_id for node_id in world.processes if node_id not in world.ids]  # removed, and started again
        for src in (*world.ids, *gone):
            for dst in world.ids:
                if src != dst:
                    self._watch(src, dst)
        world.timeline.after(0.05, self.watch_links)

    def _watch(self, src: str, dst: str) -> None:
        world = self._world
        here, there = world.listening(src), world.listening(dst)
        pair = (src, dst)
        standing = self._up.get(pair)
        if standing is not None and standing[0] is not here:
            del self._up[pair]
            self._stash.pop(pair, None)
            standing = None
        if here is None:
            return
        if there is not None and self.passes(src, dst) and self.passes(dst, src) and there.peers.refuses(src):
            here.loop.enter(lambda: here.peers.turned_away(dst))
            return
        open_both_ways = self.passes(src, dst) and self.passes(dst, src)
        if standing is not None:
            # A process that ended resets its connections; one behind a cut is missed after a while.
            gone = standing[1] is not there and open_both_ways
            if gone or (not open_both_ways and self._rng.random() < 0.03):
                self._break(pair, here)
        elif there is not None and open_both_ways and not there.loop.paused and self._rng.random() < 0.4:
            self._up[pair] = (here, there)
            here.loop.enter(lambda: here.peers.link(dst, True))

    def _break(self, pair: tuple[str, str], here: Process) -> None:
        del self._up[pair]
        self._stash.pop(pair, None)
        here.loop.enter(lambda: here.peers.link(pair[1], False))

    def break_some_link(self) -> None:
        """A connection is reset for no reason."""
        if self._up:
            pair = self._rng.choice(sorted(self._up))
            self._break(pair, self._up[pair][0])

    def connected(self, src: str, dst: str) -> bool:
        """Return whether the link from `src` to `dst` stands."""
        return (src, dst) in self._up

    # --- messages ---

    def send(self, process: Process, message: Message) -> bool:
        """Take a message of `process`; what becomes of it is drawn from the seed."""
        pair = (message.src, message.dst)
        standing = self._up.get(pair)
        if standing is None:
            return False
        self.messages += 1
        rng, weather = self._rng, self.weather
        receiver = standing[1]
        if weather.in_order:
            self._send_in_order(pair, process, receiver, message)
            return True
        if not self.passes(*pair) or rng.random() < weather.loss:
            return True
        copies = 2 if rng.random() < weather.duplication else 1
        for _ in range(copies):
            late = rng.random() < weather.late
            delay = rng.random() * (weather.late_max if late else weather.delay_max) + self._clogged.get(pair, 0.0)
            self._world.timeline.after(delay, lambda: self._arrive(process, receiver, message, False))
        return True

    def _send_in_order(self, pair: tuple[str, str], process: Process, receiver: Process, message: Message) -> None:
        weather = self.weather
        if not self.passes(*pair):
            stash = self._stash.setdefault(pair, [])
            if len(stash) < 1000:
                stash.append(lambda: self._send_in_order(pair, process, receiver, message))
            return
        late = self._rng.random() < weather.late
        delay = self._rng.random() * (weather.late_max if late else weather.delay_max) + self._clogged.get(pair, 0.0)
        when = max(self._arrives_at.get(pair, 0.0), self._world.timeline.now + delay)
        self._arrives_at[pair] = when
        self._world.timeline.at(when, lambda: self._arrive(process, receiver, message, True))

    def _arrive(self, process: Process, receiver: Process, message: Message, in_order: bool) -> None:
        pair = (message.src, message.dst)
        now_there = self._world.listening(message.dst)
        if now_there is None or not self.passes(*pair):
            return
        if in_order and (now_there is not receiver or self._up.get(pair) != (process, receiver)):
            return
        if now_there.disk.generation != receiver.disk.generation:
            return  # the handshake was with a node that is no more
        generation = process.disk.generation
        if generation < self._heard.get(pair, 0):
            return
        self._heard[pair] = generation
        self._world.trace_message(message)
        now_there.loop.enter(lambda: now_there.peers.receive(message))


class SimPeers:
    """Stands for `peer.network.PeerNetwork` of one process."""

    def __init__(
        self,
        process: Process,
        network: SimNetwork,
        *,
        on_message: Callable[[Message], None],
        on_link: Callable[[str, bool], None],
        on_snapshot: Callable[[str, bytes], Any],
        refusal: Callable[[str], str],
        on_turned_away: Callable[[str], None],
    ) -> None:
        self._process = process
        self._network = network
        self._on_message = on_message
        self._on_link = on_link
        self._on_snapshot = on_snapshot
        self._refusal = refusal
        self._on_turned_away = on_turned_away
        self._peers: Mapping[str, tuple[str, int]] = {}
        self._open = False

    async def start(self) -> None:
        self._open = True

    async def close(self) -> None:
        self._open = False

    def set_peers(self, peers: Mapping[str, tuple[str, int]]) -> None:
        self._peers = dict(peers)

    def refuses(self, node_id: str) -> bool:
        """Whether this node turns that one away when it connects."""
        return self._open and bool(self._refusal(node_id))

    def turned_away(self, by: str) -> None:
        """A member says that this node was removed."""
        if self._open:
            self._process.guard(lambda: self._on_turned_away(by))

    def turn_away(self, node_id: str, reason: str) -> None:
        """The next time that node connects it is refused; watch_links does so ten times a second."""

    def link(self, node_id: str, up: bool) -> None:
        if self._open:
            self._process.guard(lambda: self._on_link(node_id, up))

    def receive(self, message: Message) -> None:
        if self._open:
            self._process.guard(lambda: self._on_message(message))

    def connected(self, node_id: str) -> bool:
        return self._network.connected(self._process.node_id, node_id)

    def send(self, message: Message) -> bool:
        if not self._open or message.dst not in self._peers:
            return False
        self._process.world.checks.sent(message)
        return self._network.send(self._process, message)

    def flush(self) -> None:
        """Messages leave when they are sent."""

    # --- snapshots ---

    async def send_snapshot(self, node_id: str, manifest: bytes, chunks: Callable[[int, int], Any]) -> None:
        """Run the receiver's coroutines in its process; either process may end on the way."""
        for _ in range(3):
            try:
                await self._try_snapshot(node_id, manifest, chunks)
            except ConnectionError:
                await asyncio.sleep(0.3)
            else:
                return
        raise SnapshotFailed(f"the snapshot for {node_id!r} broke off")

    async def _try_snapshot(self, node_id: str, manifest: bytes, chunks: Callable[[int, int], Any]) -> None:
        own_id, world = self._process.node_id, self._process.world
        rng = world.rng
        receiver = world.listening(node_id)
        if receiver is None or not self._both_ways(node_id):
            await asyncio.sleep(0.2)
            raise ConnectionError("no answer")
        loop = asyncio.get_running_loop()
        ended: asyncio.Future[Exception | None] = loop.create_future()

        def tell(error: Exception | None) -> None:
            if not ended.done():
                ended.set_result(error)

        async def receive() -> None:
            error: Exception | None = None
            sink = None
            try:
                sink = receiver.peers._on_snapshot(own_id, manifest)
                position = await sink.begin(manifest)
                for chunk in list(chunks(*position)):
                    await asyncio.sleep(rng.random() * world.plan.snapshot_s)
                    if rng.random() < world.plan.stream_break or not self._both_ways(node_id):
                        raise ConnectionError("the stream breaks")
                    if rng.random() < world.plan.flip_snapshot:
                        raise SnapshotDamaged("a chunk fails its checksum")
                    await sink.write(*chunk)
                await sink.finish()
            except ConnectionError as broken:
                error = broken
            except FatalError as fatal:
                receiver.failed(fatal)
            except ZattredisError as refusal:
                error = SnapshotFailed(str(refusal))
            finally:
                if sink is not None:
                    await sink.close()
                world.timeline.after(0.001, lambda: tell(error), loop)  # type: ignore[arg-type]

        world.timeline.after(0.001, lambda: receiver.loop.create_task(receive()), receiver.loop)
        for _ in range(50):
            await asyncio.wait([ended], timeout=0.1)
            if ended.done():
                error = ended.result()
                if error is not None:
                    raise error
                return
            if receiver.loop.dead:
                raise ConnectionError("the receiver has ended")
        raise SnapshotFailed("the receiver of a snapshot gives no sign of life")

    def _both_ways(self, node_id: str) -> bool:
        own_id, network = self._process.node_id, self._network
        return network.passes(own_id, node_id) and network.passes(node_id, own_id)
