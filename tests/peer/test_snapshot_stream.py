"""Snapshot streams: whole, interrupted and taken up again, refused, damaged, replaced; bounded on both sides."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from tests.peer.harness import QUICK, Net, dial, heartbeat, nets, run
from zattredis.errors import SnapshotDamaged, SnapshotFailed, StorageFailed
from zattredis.peer import snapshot_stream
from zattredis.peer.control import Purpose, SnapshotBegin, SnapshotChunk, SnapshotEnd, SnapshotPosition
from zattredis.peer.wire import encode_frame

CHUNK = 1000
FILES = [bytes([i]) * size for i, size in enumerate((10_500, 0, 1000, 30_000))]
MANIFEST = b"manifest of " + b"x" * 200_000


class Source:
    """FILES in chunks; counts what was pulled."""

    def __init__(self) -> None:
        self.starts: list[tuple[int, int]] = []
        self.pulled = 0

    def __call__(self, file: int, offset: int) -> Iterator[tuple[int, int, bytes, int]]:
        self.starts.append((file, offset))
        for number in range(file, len(FILES)):
            while True:
                data = FILES[number][offset : offset + CHUNK]
                self.pulled += 1
                yield number, offset, data, zlib.crc32(data)
                offset += len(data)
                if offset >= len(FILES[number]):
                    break
            offset = 0


class Disk:
    """What a receiver keeps over several streams."""

    def __init__(self) -> None:
        self.files: list[bytearray] = [bytearray()]
        self.manifest: bytes | None = None
        self.finished = False

    @property
    def position(self) -> tuple[int, int]:
        return len(self.files) - 1, len(self.files[-1])


class Sink:
    """Writes to a Disk; `on_write` is awaited before each chunk, with the number of chunks written by this sink."""

    def __init__(self, disk: Disk, on_write: Callable[[int], Any] | None = None) -> None:
        self.disk = disk
        self.on_write = on_write
        self.calls: list[str] = []
        self.written = 0

    async def begin(self, manifest: bytes) -> tuple[int, int]:
        self.calls.append("begin")
        if self.disk.manifest != manifest:
            self.disk.__init__()  # type: ignore[misc]
            self.disk.manifest = manifest
        return self.disk.position

    async def write(self, file: int, offset: int, data: bytes, crc: int) -> tuple[int, int]:
        if self.on_write is not None:
            await self.on_write(self.written)
        if (file, offset) != self.disk.position or zlib.crc32(data) != crc:
            raise SnapshotDamaged(f"chunk {file}:{offset} at {self.disk.position}")
        self.disk.files[-1] += data
        self.written += 1
        if len(self.disk.files[-1]) >= len(FILES[file]):
            self.disk.files.append(bytearray())
        return self.disk.position

    async def finish(self) -> None:
        self.calls.append("finish")
        if [bytes(file) for file in self.disk.files[:-1]] != FILES:
            raise SnapshotDamaged("the digests do not fit")
        self.disk.finished = True

    async def close(self) -> None:
        self.calls.append("close")


def pull_cable(net: Net) -> None:
    """Break the snapshot stream that comes in."""
    for (_, purpose), connection in [*net.network._listener._inbound.items()]:
        if purpose is Purpose.SNAPSHOT:
            connection.abort("cable pulled")


def check_whole(disk: Disk) -> None:
    assert disk.finished
    assert [bytes(file) for file in disk.files[:-1]] == FILES


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
def test_a_whole_snapshot(loop: str) -> None:
    async def main() -> None:
        async with nets(Net("n1", secret=b"s"), Net("n2", secret=b"s")) as (one, two):
            disk = Disk()
            two.make_sink = lambda node_id, manifest: Sink(disk)
            await one.network.send_snapshot("n2", MANIFEST, Source())
            check_whole(disk)
            one.network.send(heartbeat("n1", "n2"))
            await two.until(lambda: two.messages)
        assert two.sinks[0].calls == ["begin", "finish", "close"]
        assert one.links == [("n2", True)]

    run(main, loop)


def test_an_interrupted_snapshot_goes_on_where_it_broke() -> None:
    async def main() -> None:
        async with nets(Net("n1"), Net("n2")) as (one, two):
            disk, source = Disk(), Source()
            breaks = [3, 11, 9]

            def make_sink(node_id: str, manifest: bytes) -> Sink:
                at = breaks.pop(0) if breaks else -1

                async def on_write(written: int) -> None:
                    if written == at:
                        pull_cable(two)

                return Sink(disk, on_write)

            two.make_sink = make_sink
            await one.network.send_snapshot("n2", MANIFEST, source)
            check_whole(disk)
            assert len(source.starts) == 4
            assert source.starts == sorted(set(source.starts))
            assert source.starts[0] == (0, 0)
            assert source.starts[-1] > (3, 0)
        assert all(sink.calls[0] == "begin" and sink.calls[-1] == "close" for sink in two.sinks)

    run(main)


def test_a_transfer_that_gets_nowhere_is_given_up() -> None:
    async def main() -> None:
        async with nets(Net("n1"), Net("n2")) as (one, two):

            class Stuck(Sink):
                async def write(self, file: int, offset: int, data: bytes, crc: int) -> tuple[int, int]:
                    pull_cable(two)
                    raise SnapshotDamaged("too late")

            two.make_sink = lambda node_id, manifest: Stuck(Disk())
            with pytest.raises(SnapshotFailed, match=r"broke off at \(0, 0\)"):
                await one.network.send_snapshot("n2", MANIFEST, Source())
            assert len(two.sinks) == 3

    run(main)


def test_nobody_there() -> None:
    async def main() -> None:
        async with nets(Net("n1"), connected=False) as (one,):
            with pytest.raises(SnapshotFailed, match="no peer"):
                await one.network.send_snapshot("n2", MANIFEST, Source())
            one.network.set_peers({"n2": ("127.0.0.1", 1)})
            with pytest.raises(SnapshotFailed, match="broke off"):
                await one.network.send_snapshot("n2", MANIFEST, Source())

    run(main)


def test_refused_by_the_receiver() -> None:
    async def main() -> None:
        async with nets(Net("n1"), Net("n2")) as (one, two):

            def make_sink(node_id: str, manifest: bytes) -> Sink:
                raise SnapshotFailed(f"no room for {len(manifest)} bytes from {node_id}")

            two.make_sink = make_sink
            with pytest.raises(SnapshotFailed, match=r"refused the snapshot: no room for \d+ bytes from n1"):
                await one.network.send_snapshot("n2", MANIFEST, Source())

    run(main)


def test_a_damaged_chunk_is_refused_and_a_damaged_whole_too() -> None:
    async def main() -> None:
        async with nets(Net("n1"), Net("n2")) as (one, two):
            two.make_sink = lambda node_id, manifest: Sink(Disk())

            def wrong_crc(file: int, offset: int) -> Iterator[tuple[int, int, bytes, int]]:
                yield file, offset, b"x", 5

            def too_short(file: int, offset: int) -> Iterator[tuple[int, int, bytes, int]]:
                yield file, offset, b"x", zlib.crc32(b"x")

            with pytest.raises(SnapshotFailed, match="refused the snapshot: chunk 0:0"):
                await one.network.send_snapshot("n2", MANIFEST, wrong_crc)
            with pytest.raises(SnapshotFailed, match="refused the snapshot: the digests do not fit"):
                await one.network.send_snapshot("n2", MANIFEST, too_short)
        assert [sink.calls for sink in two.sinks] == [["begin", "close"], ["begin", "finish", "close"]]

    run(main)


def test_trouble_of_the_source_is_the_callers() -> None:
    async def main() -> None:
        async with nets(Net("n1"), Net("n2")) as (one, two):
            two.make_sink = lambda node_id, manifest: Sink(Disk())

            def broken(file: int, offset: int) -> Iterator[tuple[int, int, bytes, int]]:
                yield file, offset, b"x", zlib.crc32(b"x")
                raise StorageFailed("EIO")

            with pytest.raises(StorageFailed, match="EIO"):
                await one.network.send_snapshot("n2", MANIFEST, broken)
            with pytest.raises(ValueError, match="longer than"):
                await one.network.send_snapshot("n2", MANIFEST, lambda f, o: iter([(0, 0, bytes((1 << 20) + 1), 0)]))
            with pytest.raises(SnapshotFailed, match="too long"):
                await one.network.send_snapshot("n2", bytes(17 << 20), Source())

    run(main)


def test_a_slow_receiver_bounds_what_is_under_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshot_stream, "WINDOW_BYTES", 5 * CHUNK)

    async def main() -> None:
        async with nets(Net("n1"), Net("n2")) as (one, two):
            source, disk = Source(), Disk()

            async def on_write(written: int) -> None:
                for _ in range(5):
                    await asyncio.sleep(0)
                assert source.pulled - written <= 8  # the window, one being written and one read ahead

            two.make_sink = lambda node_id, manifest: Sink(disk, on_write)
            await one.network.send_snapshot("n2", MANIFEST, source)
            check_whole(disk)

    run(main)


def test_a_silent_receiver_is_given_up() -> None:
    async def main() -> None:
        impatient = replace(QUICK, silence_ms=50)
        async with nets(Net("n1", timing=impatient), Net("n2")) as (one, two):
            forever = asyncio.Event()

            async def on_write(written: int) -> None:
                await forever.wait()

            two.make_sink = lambda node_id, manifest: Sink(Disk(), on_write)
            with pytest.raises(SnapshotFailed, match="no sign of life"):
                await one.network.send_snapshot("n2", MANIFEST, Source())
            forever.set()

    run(main)


def test_a_busy_receiver_shows_signs_of_life(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshot_stream, "_SIGN_OF_LIFE_S", 0.005)

    async def main() -> None:
        impatient = replace(QUICK, silence_ms=1000)
        async with nets(Net("n1", timing=impatient), Net("n2")) as (one, two):
            disk = Disk()

            class Thorough(Sink):
                async def finish(self) -> None:
                    await asyncio.sleep(1.5)
                    await super().finish()

            two.make_sink = lambda node_id, manifest: Thorough(disk)
            await one.network.send_snapshot("n2", MANIFEST, Source())
            check_whole(disk)

    run(main)


def test_a_newer_stream_begins_when_the_older_has_ended() -> None:
    async def main() -> None:
        async with nets(Net("n1"), connected=False) as (one,):
            log: list[str] = []
            hold = asyncio.Event()

            class Noted(Sink):
                async def begin(self, manifest: bytes) -> tuple[int, int]:
                    log.append(f"begin {manifest.decode()}")
                    return (0, 0)

                async def write(self, file: int, offset: int, data: bytes, crc: int) -> tuple[int, int]:
                    one.changed()
                    await hold.wait()
                    return (0, 1)

                async def close(self) -> None:
                    log.append("close")
                    one.changed()

            one.make_sink = lambda node_id, manifest: Noted(Disk())
            first = await dial(one, "n2", purpose=Purpose.SNAPSHOT)
            first.send(SnapshotBegin(b"first"))
            first.send(SnapshotChunk(0, 0, 0, b"x"))
            await one.until(lambda: log == ["begin first"])
            second = await dial(one, "n2", purpose=Purpose.SNAPSHOT)
            second.send(SnapshotBegin(b"second"))
            await asyncio.wait_for(first.closed, 30)
            assert log == ["begin first"]
            hold.set()
            await one.until(lambda: log[:3] == ["begin first", "close", "begin second"])
            second.abort("done")
            await one.until(lambda: len(log) == 4)

    run(main)


@pytest.mark.parametrize(
    "frames", [[SnapshotEnd()], [SnapshotChunk(0, 0, 0, b"")], [SnapshotBegin(b""), SnapshotBegin(b"")],
               [SnapshotBegin(b""), SnapshotPosition(0, 0)]]
)  # fmt: skip
def test_frames_out_of_turn_end_the_stream(frames: list[Any]) -> None:
    async def main() -> None:
        async with nets(Net("n1"), connected=False) as (one,):
            one.make_sink = lambda node_id, manifest: Sink(Disk())
            connection = await dial(one, "n2", purpose=Purpose.SNAPSHOT)
            connection.receive = lambda frames: None
            assert connection.transport is not None
            connection.transport.write(b"".join(map(encode_frame, frames)))
            await asyncio.wait_for(connection.closed, 30)
        assert all(sink.calls[-1] == "close" for sink in one.sinks)

    run(main)


def test_a_disk_that_fails_is_told_to_the_node_at_once() -> None:
    fatal: list[BaseException] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        async with nets(Net("n1"), Net("n2")) as (one, two):
            loop.set_exception_handler(lambda _, context: (fatal.append(context["exception"]), two.changed())[0])

            class Broken(Sink):
                async def write(self, file: int, offset: int, data: bytes, crc: int) -> tuple[int, int]:
                    raise StorageFailed("EIO")

            two.make_sink = lambda node_id, manifest: Broken(Disk())
            with pytest.raises(SnapshotFailed, match="this node has to stop"):
                await one.network.send_snapshot("n2", MANIFEST, Source())
            await two.until(lambda: fatal)

    run(main)
    assert [type(error) for error in fatal] == [StorageFailed]


def test_messages_pass_while_a_snapshot_is_under_way() -> None:
    async def main() -> None:
        async with nets(Net("n1"), Net("n2")) as (one, two):
            disk = Disk()
            seen: list[int] = []

            async def on_write(written: int) -> None:
                if written % 10 == 0:
                    one.network.send(heartbeat("n1", "n2", written))
                    await two.until(lambda: two.messages and two.messages[-1].round == written)
                    seen.append(written)

            two.make_sink = lambda node_id, manifest: Sink(disk, on_write)
            await one.network.send_snapshot("n2", MANIFEST, Source())
            check_whole(disk)
            assert len(seen) > 3

    run(main)
