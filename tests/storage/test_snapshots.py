"""Snapshots: made while writes go on, sent in chunks, resumed, verified; and everything that may be wrong."""

from __future__ import annotations

import errno
import hashlib
import os
import threading
import zlib
from pathlib import Path

import msgspec
import pytest

from tests.storage.conftest import OPTIONS, changes
from zattredis.errors import SnapshotDamaged, SnapshotFailed, StateDamaged, StorageFailed
from zattredis.storage import snapshots
from zattredis.storage.snapshots import (
    DIGEST_BYTES,
    MANIFEST_NAME,
    REFUSED_BY_FORMER,
    Chunk,
    Manifest,
    Position,
    SnapshotFile,
    SnapshotSink,
    SnapshotSource,
    create_snapshot,
)
from zattredis.storage.state_store import Applied, StateStore

CHUNK_BYTES = 1000


@pytest.fixture
def source(state: StateStore, tmp_path: Path) -> SnapshotSource:
    state.write({**{b"k%04d" % i: b"%04d" % i * 20 for i in range(1000)}, **changes(7)})
    state.flush()
    state.write({**{b"l%04d" % i: b"%04d" % i * 20 for i in range(500)}, **changes(9)})
    return SnapshotSource(create_snapshot(state, tmp_path / "snapshot-9"), tmp_path / "snapshot-9")


@pytest.fixture
def sink(tmp_path: Path) -> SnapshotSink:
    return SnapshotSink(tmp_path / "state-9")


def send(source: SnapshotSource, sink: SnapshotSink, chunks_max: int = 1 << 30) -> None:
    """Send from where the sink is, at most so many chunks."""
    position = sink.begin(source.manifest)
    for number, chunk in enumerate(source.chunks(position, CHUNK_BYTES)):
        if number >= chunks_max:
            return
        sink.write(chunk)


def test_a_snapshot_names_its_own_index_term_and_membership(source: SnapshotSource) -> None:
    manifest = source.manifest
    assert (manifest.index, manifest.term, manifest.membership) == (9, 1, b"members")
    assert Manifest.decode(manifest.encode()) == manifest
    assert manifest.size_bytes == sum((source.path / f.name).stat().st_size for f in manifest.files)


def test_what_arrives_is_the_same_state(
    source: SnapshotSource, sink: SnapshotSink, state: StateStore, tmp_path: Path
) -> None:
    send(source, sink)
    assert sink.finish() == source.manifest
    arrived = StateStore.open(tmp_path / "state-9", options=OPTIONS)
    assert arrived.applied == Applied(9, 1)
    assert list(arrived.iterate(b"", None)) == list(state.iterate(b"", None))
    arrived.close()


def test_writes_go_on_while_a_snapshot_is_made(state: StateStore, tmp_path: Path) -> None:
    stop = threading.Event()
    made: list[Manifest] = []

    def make() -> None:
        made.extend(create_snapshot(state, tmp_path / f"snapshot-{number}") for number in range(5))
        stop.set()

    thread = threading.Thread(target=make)
    thread.start()
    number = 0
    while not stop.is_set():
        number += 1
        state.write({b"count": b"%d" % number, **changes(number)})
    thread.join()
    for at, manifest in enumerate(made):
        path = tmp_path / f"received-{at}"
        sink = SnapshotSink(path)
        send(SnapshotSource(manifest, tmp_path / f"snapshot-{at}"), sink)
        sink.finish()
        arrived = StateStore.open(path, options=OPTIONS)
        assert arrived.applied.index == manifest.index
        assert arrived.get(b"count") == (b"%d" % manifest.index if manifest.index else None)
        arrived.close()
    assert [m.index for m in made] == sorted(m.index for m in made)


def test_a_broken_transfer_goes_on_at_every_chunk(source: SnapshotSource, tmp_path: Path) -> None:
    """Each connection carries one chunk; each time a new sink finds out from the directory where it stands."""
    seen = set()
    while True:
        sink = SnapshotSink(tmp_path / "state-9")
        send(source, sink, 1)
        sink.close()
        if sink.complete:
            break
        assert sink.position not in seen
        seen.add(sink.position)
    assert sink.finish() == source.manifest
    assert len(seen) > 20


def test_a_transfer_of_another_snapshot_begins_anew(source: SnapshotSource, sink: SnapshotSink, tmp_path: Path) -> None:
    send(source, sink, 5)
    other = msgspec.structs.replace(source.manifest, index=10)
    assert sink.begin(other) == Position(0, 0)
    assert [p.name for p in (tmp_path / "state-9").iterdir()] == [MANIFEST_NAME]


def test_chunks_are_taken_in_order_only(source: SnapshotSource, sink: SnapshotSink) -> None:
    position = sink.begin(source.manifest)
    chunks = list(source.chunks(position, CHUNK_BYTES))
    sink.write(chunks[0])
    for wrong in (chunks[0], chunks[2], chunks[-1]):
        with pytest.raises(SnapshotDamaged, match="in the place of"):
            sink.write(wrong)
    sink.write(chunks[1])


def test_a_chunk_that_is_damaged_or_too_long_is_refused(source: SnapshotSource, sink: SnapshotSink) -> None:
    sink.begin(source.manifest)
    for chunk in source.chunks(Position(0, 0), CHUNK_BYTES):
        if chunk.data:
            break
        sink.write(chunk)  # RocksDB's empty WAL comes first
    with pytest.raises(SnapshotDamaged, match="checksum"):
        sink.write(chunk._replace(data=bytes([chunk.data[0] ^ 1]) + chunk.data[1:]))
    for data in (bytes(source.manifest.files[chunk.file].size + 1), b""):
        with pytest.raises(SnapshotDamaged, match="bytes at"):
            sink.write(Chunk(chunk.file, 0, data, zlib.crc32(data)))
    assert sink.position == Position(chunk.file, 0)
    sink.write(chunk)


def test_chunks_before_the_manifest_or_behind_the_end_are_refused(source: SnapshotSource, sink: SnapshotSink) -> None:
    chunk = next(source.chunks(Position(0, 0), 100))
    with pytest.raises(SnapshotDamaged, match="before its manifest"):
        sink.write(chunk)
    with pytest.raises(SnapshotDamaged, match="before it was complete"):
        sink.finish()
    send(source, sink)
    with pytest.raises(SnapshotDamaged):
        sink.write(Chunk(len(source.manifest.files), 0, b"", 0))


def test_a_wrong_byte_on_the_way_to_the_disk_is_found_by_the_digest(
    source: SnapshotSource, sink: SnapshotSink, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    largest = max(source.manifest.files, key=lambda f: f.size)
    pwrite = os.pwrite
    flipped = []

    def flip(descriptor: int, data: memoryview, at: int) -> int:
        """Of the largest file, one bit is another on the disk."""
        written = Path(os.readlink(f"/proc/self/fd/{descriptor}")).name
        if flipped or written != largest.name or not at <= largest.size // 2 < at + len(data):
            return pwrite(descriptor, data, at)
        changed = bytearray(data)
        changed[largest.size // 2 - at] ^= 1
        flipped.append(at)
        return pwrite(descriptor, changed, at)

    monkeypatch.setattr(os, "pwrite", flip)
    send(source, sink)
    assert flipped
    with pytest.raises(SnapshotDamaged, match="digest"):
        sink.finish()
    assert not (tmp_path / "state-9").exists()
    send(source, sink)
    sink.finish()


def test_a_version_that_knows_blake2b_alone_is_understood_and_refuses_what_it_does_not_know(
    source: SnapshotSource, sink: SnapshotSink
) -> None:
    """It wanted digests of 32 bytes, and looked at them before anything was sent."""
    assert {len(file.digest) for file in source.manifest.files} == {DIGEST_BYTES + 1}
    former = Manifest.decode(source.manifest_for_former().encode())
    assert {len(file.digest) for file in former.files} == {DIGEST_BYTES}
    assert hashlib.blake2b((source.path / "CURRENT").read_bytes(), digest_size=32).digest() in {
        file.digest for file in former.files
    }
    for chunk in source.chunks(sink.begin(former), CHUNK_BYTES):
        sink.write(chunk)
    assert sink.finish() == former
    wrong = msgspec.structs.replace(former.files[0], digest=b"\x02" + bytes(DIGEST_BYTES))
    with pytest.raises(SnapshotDamaged, match=REFUSED_BY_FORMER):
        Manifest.decode(msgspec.structs.replace(former, files=[wrong, *former.files[1:]]).encode())


def test_files_are_verified_while_others_arrive_and_again_by_a_later_connection(
    source: SnapshotSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    verified: list[str] = []
    original = snapshots._make_durable

    def note(path: Path, file: SnapshotFile) -> bool:
        verified.append(path.name)
        return original(path, file)

    monkeypatch.setattr(snapshots, "_make_durable", note)
    first = SnapshotSink(tmp_path / "state-9")
    first.begin(source.manifest)
    for chunk in source.chunks(Position(0, 0), 4096):
        first.write(chunk)
    verifying = first._verifying
    first.close()  # broken off just before its end
    assert verifying is not None
    verifying.shutdown()  # what it had begun goes on behind it, and is not what is counted here
    verified.clear()
    second = SnapshotSink(tmp_path / "state-9")
    assert second.begin(source.manifest).file == len(source.manifest.files)
    second.finish()
    assert sorted(verified) == sorted(file.name for file in source.manifest.files)


@pytest.mark.parametrize(("number", "expected"), [(errno.ENOSPC, SnapshotFailed), (errno.EIO, StorageFailed)])
def test_a_full_disk_costs_the_transfer_and_a_broken_one_the_node(
    source: SnapshotSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, expected: type[Exception]
) -> None:
    sink = SnapshotSink(tmp_path / "state-50")

    def refuse(*_: object) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(snapshots.os, "pwrite", refuse)
    with pytest.raises(expected, match=os.strerror(number)):
        send(source, sink)
    assert (tmp_path / "state-50").exists() is (number == errno.EIO), "what came is of no use to a full disk"


def test_an_unfinished_snapshot_is_not_complete(source: SnapshotSource, sink: SnapshotSink) -> None:
    send(source, sink, 3)
    with pytest.raises(SnapshotDamaged, match="before it was complete"):
        sink.finish()


def manifest_of(*names: str, size: int = 1, digest: bytes = bytes(32)) -> bytes:
    return Manifest(1, 1, b"", [SnapshotFile(name, size, digest) for name in names]).encode()


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\xc1",
        msgspec.msgpack.encode([1, 2, 3]),
        manifest_of(),
        manifest_of("000001.sst"),
        manifest_of("CURRENT", "CURRENT"),
        *(
            manifest_of("CURRENT", name)
            for name in (
                "../evil",
                "/etc/passwd",
                "a/b",
                "..",
                ".hidden",
                "",
                "a\0b",
                "x" * 200,
                "LOCK",
                "LOG",
                MANIFEST_NAME,
            )
        ),
        manifest_of("CURRENT", size=-1),
        manifest_of("CURRENT", digest=b"short"),
    ],
)
def test_a_manifest_that_is_none_or_reaches_elsewhere_is_refused(raw: bytes) -> None:
    with pytest.raises(SnapshotDamaged):
        Manifest.decode(raw)


def test_a_link_in_the_place_of_a_file_is_not_followed(
    source: SnapshotSource, sink: SnapshotSink, tmp_path: Path
) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"")
    sink.begin(source.manifest)
    (tmp_path / "state-9" / source.manifest.files[0].name).symlink_to(victim)
    with pytest.raises(Exception, match=r"failed|damaged"):
        sink.write(next(source.chunks(Position(0, 0), 100)))
    assert victim.read_bytes() == b""


def test_a_source_that_changed_is_noticed(source: SnapshotSource) -> None:
    largest = max(range(len(source.manifest.files)), key=lambda n: source.manifest.files[n].size)
    path = source.path / source.manifest.files[largest].name
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(content[:-5])
    with pytest.raises(SnapshotDamaged, match="ends at"):
        list(source.chunks(Position(largest, 0), CHUNK_BYTES))
    with pytest.raises(SnapshotDamaged):
        list(source.chunks(Position(99, 0), CHUNK_BYTES))


def test_a_state_without_membership_makes_no_snapshot(state: StateStore, tmp_path: Path) -> None:
    state.write({b"mmembership": None, **changes(1)})
    with pytest.raises(StateDamaged, match="membership"):
        create_snapshot(state, tmp_path / "snapshot-1")
    assert not (tmp_path / "snapshot-1").exists()


def test_deleting_a_snapshot_leaves_the_state_alone(source: SnapshotSource, state: StateStore) -> None:
    source.delete()
    assert not source.path.exists()
    assert len(list(state.iterate(b"k", b"m"))) == 1500
