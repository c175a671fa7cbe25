"""Snapshots between nodes: made and sent by a leader, received and installed by a follower (DESIGN §5).

The offer carries the sender's term, so that a snapshot of a leader that no longer leads is refused, and again right
before it is installed. Installing is one synced write in the log; until then the old state and log are untouched.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from itertools import accumulate
from typing import TYPE_CHECKING, Final, TypeVar, TypeVarTuple

import msgspec

from zattredis.errors import (
    FatalError,
    SnapshotDamaged,
    SnapshotFailed,
    SnapshotRefused,
    StorageError,
    ZattredisError,
)
from zattredis.observability.events import get_logger
from zattredis.raft.membership import Membership
from zattredis.raft.messages import InstallSnapshot
from zattredis.server.clock import monotonic
from zattredis.server.disk_room import OUT
from zattredis.server.driver import STALL_RETRY_S
from zattredis.storage.snapshots import (
    REFUSED_BY_FORMER,
    Chunk,
    Manifest,
    Position,
    SnapshotSink,
    SnapshotSource,
    create_snapshot,
)

if TYPE_CHECKING:
    from zattredis.server.node import Node

AGAIN_S: Final = 1.0
AGAIN_S_MAX: Final = 30.0
"""A follower that refuses, for lack of room perhaps, is asked again after so long, and ten times as long as it took to
make what it refused: that costs the leader every byte of its state."""

Result = TypeVar("Result")
Arguments = TypeVarTuple("Arguments")

_encode_offer = msgspec.msgpack.Encoder().encode
_offer_decoder = msgspec.msgpack.Decoder(tuple[int, bytes])

_log = get_logger(room="snapshots")


class _Shared:
    """A finished snapshot and how many transfers use it."""

    __slots__ = ("source", "users")

    def __init__(self, source: SnapshotSource) -> None:
        self.source = source
        self.users = 0


class Sending:
    """How much of a snapshot is on its way, or there."""

    __slots__ = ("_before", "bytes", "size_bytes")

    def __init__(self, manifest: Manifest) -> None:
        sizes = [file.size for file in manifest.files]
        self._before = [0, *accumulate(sizes)]
        self.bytes = 0
        self.size_bytes = sum(sizes)

    def at(self, chunk: Chunk) -> None:
        """This chunk follows. For a thread."""
        self.bytes = self._before[chunk.file] + chunk.offset + len(chunk.data)


class Snapshots:
    """One per node."""

    __slots__ = ("_made", "_making", "_node", "_receiving", "_sending", "_shared", "installed", "sent", "under_way")

    def __init__(self, node: Node) -> None:
        self._node = node
        self._making = asyncio.Lock()
        self._made = 0
        self._shared: _Shared | None = None
        self._sending: dict[str, asyncio.Task[None]] = {}
        self._receiving = False
        self.under_way: dict[str, Sending] = {}
        self.sent = 0
        self.installed = 0

    # -- sending -----------------------------------------------------------------------------------------------------

    def send_to(self, node_id: str) -> None:
        """Send a follower the present state, unless that is under way or this node leads no more."""
        node = self._node
        if node_id not in self._sending and node.driver.is_leader:
            self._sending[node_id] = asyncio.get_running_loop().create_task(self._send(node_id, node.core.term))

    async def _send(self, node_id: str, term: int) -> None:
        """Send a snapshot as the leader of `term`, which this node perhaps leads no more when the snapshot is ready."""
        node = self._node
        started = monotonic()
        index, ok, making_s = 0, False, 0.0
        try:
            shared = await self._make()
            shared.users += 1
            making_s = monotonic() - started
            source = shared.source
            manifest = source.manifest
            index = manifest.index
            try:
                if node.core.term != term:
                    raise SnapshotFailed(f"this node does not lead term {node.core.term}")
                await self._stream(node_id, term, source)
                ok = True
                self.sent += 1
                _log.info(
                    "snapshot_sent",
                    peer=node_id,
                    index=index,
                    bytes=manifest.size_bytes,
                    seconds=round(monotonic() - started, 3),
                )
            finally:
                shared.users -= 1
                if not shared.users:
                    if self._shared is shared:
                        self._shared = None
                    await asyncio.get_running_loop().run_in_executor(None, source.delete)
        except FatalError:
            raise
        except ZattredisError as error:
            _log.warning("snapshot_not_sent", peer=node_id, reason=str(error))
            if isinstance(error, SnapshotRefused):
                await asyncio.sleep(min(AGAIN_S_MAX, max(AGAIN_S, 10 * making_s)))
        finally:
            self._sending.pop(node_id, None)
            if node.is_open:
                node.core.report_snapshot(node_id, ok, index)
                node.schedule()

    async def _stream(self, node_id: str, term: int, source: SnapshotSource) -> None:
        """Send what is made; to a node of an older version with the digests that it knows."""
        network = self._node.network
        manifest = source.manifest
        chunk_bytes = self._node.settings.snapshot_chunk_bytes
        sending = self.under_way[node_id] = Sending(manifest)

        def chunks(file: int, offset: int) -> Iterator[Chunk]:
            for chunk in source.chunks(Position(file, offset), chunk_bytes):
                sending.at(chunk)
                yield chunk

        try:
            await network.send_snapshot(node_id, _encode_offer((term, manifest.encode())), chunks)
        except SnapshotFailed as error:
            if REFUSED_BY_FORMER not in str(error):
                raise
            former = await _on_thread(source.manifest_for_former)
            await network.send_snapshot(node_id, _encode_offer((term, former.encode())), chunks)
        finally:
            del self.under_way[node_id]

    async def _make(self) -> _Shared:
        """Return a snapshot that the log can still be joined to: the one being sent to another, or a new one."""
        node = self._node
        async with self._making:
            shared = self._shared
            if shared is not None and shared.source.manifest.index >= node.data.log.first_index - 1:
                return shared
            store = node.applier.store
            self._made += 1  # a path of its own: the one before it may be on its way still
            path = node.data.outgoing_path(self._made)
            try:
                manifest = await asyncio.get_running_loop().run_in_executor(None, create_snapshot, store, path)
            except StorageError as error:
                if store is node.applier.store:
                    raise
                raise SnapshotFailed("the state was replaced while a snapshot of it was made") from error
            self._shared = _Shared(SnapshotSource(manifest, path))
            _log.info("snapshot_made", index=manifest.index, term=manifest.term, bytes=manifest.size_bytes)
            return self._shared

    # -- receiving ---------------------------------------------------------------------------------------------------

    def receive_from(self, node_id: str, offer: bytes) -> Receiver:
        """Return the sink for a snapshot that `node_id` offers. Raises SnapshotDamaged where it must be refused."""
        try:
            term, raw = _offer_decoder.decode(offer)
        except msgspec.MsgspecError as error:
            raise SnapshotDamaged(f"an offer of a snapshot cannot be read: {error}") from error
        manifest = Manifest.decode(raw)
        if self._receiving:
            raise SnapshotDamaged("another snapshot is being received")
        receiver = Receiver(self._node, self, node_id, term, manifest)
        receiver.check()
        self._receiving = True
        return receiver

    def received(self) -> None:
        """A transfer has ended, finished or not."""
        self._receiving = False

    async def stop(self) -> None:
        """End the transfers under way."""
        tasks = list(self._sending.values())
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)


class Receiver:
    """Receives one snapshot into a state directory that nothing names yet, then installs it."""

    __slots__ = ("_manifest", "_node", "_offer", "_sink", "_snapshots")

    def __init__(self, node: Node, snapshots: Snapshots, source: str, term: int, manifest: Manifest) -> None:
        self._node = node
        self._snapshots = snapshots
        self._manifest = manifest
        self._offer = InstallSnapshot(source, node.core.node_id, term, manifest.index, manifest.term)
        self._sink = SnapshotSink(node.data.incoming_path(manifest.index))

    def check(self) -> None:
        """Raise SnapshotDamaged unless the snapshot may be installed as things stand now."""
        if not self._node.core.accepts_snapshot(self._offer):
            raise SnapshotDamaged(
                f"the snapshot of entry {self._manifest.index} from {self._offer.src} is of no use here"
            )

    async def begin(self, manifest: bytes) -> tuple[int, int]:
        """Return where the sender is to begin, or to go on."""
        data = self._node.data
        await _on_thread(data.wait_discarded)
        for left in data.take_leftovers(data.incoming_path(self._manifest.index)):
            await _on_thread(partial(shutil.rmtree, left, ignore_errors=True))
        position = await _on_thread(self._sink.begin, self._manifest)
        lacking = self._manifest.size_behind(position)
        room = data.free_bytes() - self._node.disk_room.reserve_bytes
        if lacking > room:
            await self._refuse(f"that lacks {lacking} bytes; {max(0, room)} may be taken")
        return position

    async def _refuse(self, why: str) -> None:
        """Give up for lack of room what came so far, too: log and state may need it. Raises SnapshotFailed."""
        await _on_thread(self._sink.abandon)
        raise SnapshotFailed(f"there is no room on the disk of {self._node.core.node_id} for a snapshot {why}")

    async def write(self, file: int, offset: int, data: bytes, crc: int) -> tuple[int, int]:
        """Write a chunk and return the position behind it."""
        if self._node.disk_room.level == OUT:
            await self._refuse("any more: it is nearly full")
        await _on_thread(self._sink.write, Chunk(file, offset, data, crc))
        return self._sink.position

    async def finish(self) -> None:
        """Verify everything, make it durable, and put it in the place of state and log."""
        await _on_thread(self._sink.finish)
        driver, compaction = self._node.driver, self._node.compaction
        while True:
            driver.pump()  # the term of the offer is stored before a log that begins with an entry of it
            if compaction.running:  # it would flush a state that is closed
                await compaction.start()
            elif driver.write_waits:  # what it holds would come to a log and a state that it is not for
                await asyncio.sleep(STALL_RETRY_S)
            else:
                break
        self.check()
        self._install()

    async def close(self) -> None:
        """The stream has ended."""
        self._sink.close()
        self._snapshots.received()

    def _install(self) -> None:
        node, manifest = self._node, self._manifest
        started = monotonic()
        node.applier.give_up()
        node.reads.restart_sliced()
        directory = node.data.incoming_path(manifest.index)
        node.data.install(directory, manifest.index, manifest.term, manifest.membership)
        node.applier.load(node.data.state)
        node.extensions.check_state()
        node.agreement.forget()
        membership = Membership.decode(manifest.membership)
        node.core.snapshot_installed(manifest.index, manifest.term, membership, node.applier.last_stamp_ms)
        node.clock.floor(node.applier.last_stamp_ms)
        node.proposals.on_snapshot()
        node.blocking.on_snapshot()
        self._snapshots.installed += 1
        _log.info(
            "snapshot_installed",
            index=manifest.index,
            term=manifest.term,
            bytes=manifest.size_bytes,
            seconds=round(monotonic() - started, 3),
        )
        node.reads.on_applied()
        node.schedule()


async def _on_thread(function: Callable[[*Arguments], Result], *arguments: *Arguments) -> Result:
    return await asyncio.get_running_loop().run_in_executor(None, function, *arguments)
