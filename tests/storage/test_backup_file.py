"""The format of backups: what is written comes back, and whatever is not as it was written is noticed."""

from __future__ import annotations

import io
import random
import struct
import zlib

import pytest

from zattredis.errors import BackupDamaged
from zattredis.storage.backup_file import BackupFile, BackupHeader, BackupReader, BackupWriter, Piece

CONTENT = [random.Random(1).randbytes(700), b"", b"abc" * 500]
NAMES = ["000001.sst", "000002.log", "CURRENT"]


def header(compression: str) -> BackupHeader:
    return BackupHeader(
        created="2026-11-22T12:00:00+00:00", cluster_id="c", node_id="n1", index=7, term=2, version="1",
        data_format="1", state_machine_version=1, compression=compression, voters={"n1": "h:1@2"}, learners={},
        files=[BackupFile(name, len(content)) for name, content in zip(NAMES, CONTENT, strict=True)],
    )  # fmt: skip


def written(compression: str = "zstd") -> bytes:
    stream = io.BytesIO()
    writer = BackupWriter(stream, header(compression))
    for number, content in enumerate(CONTENT):
        for at in range(0, len(content), 400):
            part = content[at : at + 400]
            writer.write(Piece(number, at, part), zlib.crc32(part))
    writer.finish()
    assert writer.written == len(stream.getvalue())
    return stream.getvalue()


def read(raw: bytes) -> list[bytes]:
    reader = BackupReader(io.BytesIO(raw))
    files = [b""] * len(reader.header.files)
    for piece in reader.pieces():
        assert piece.offset == len(files[piece.file])
        files[piece.file] += piece.data
    return files


@pytest.mark.parametrize("compression", ["zstd", "zlib", "none"])
def test_what_is_written_comes_back(compression: str) -> None:
    raw = written(compression)
    assert read(raw) == CONTENT
    assert BackupReader(io.BytesIO(raw)).header == header(compression)


@pytest.mark.parametrize("compression", ["zstd", "zlib", "none"])
def test_any_flipped_byte_is_noticed(compression: str) -> None:
    raw = written(compression)
    for at in range(len(raw)):
        for bit in (1, 128):
            damaged = raw[:at] + bytes([raw[at] ^ bit]) + raw[at + 1 :]
            with pytest.raises(BackupDamaged):
                read(damaged)


def test_any_missing_end_and_anything_more_is_noticed() -> None:
    raw = written()
    for length in range(len(raw)):
        with pytest.raises(BackupDamaged, match="cut short"):
            read(raw[:length])
    with pytest.raises(BackupDamaged, match="something follows"):
        read(raw + b"x")


def test_an_unknown_version_is_refused_in_one_line() -> None:
    raw = bytearray(written())
    struct.pack_into(">H", raw, 16, 9)
    with pytest.raises(BackupDamaged, match=r"^the backup has format version 9; this program reads version 1$"):
        BackupReader(io.BytesIO(bytes(raw)))
    with pytest.raises(BackupDamaged, match="no backup of zattredis"):
        BackupReader(io.BytesIO(b"something else" * 50))


def test_pieces_out_of_order_or_missing_are_noticed() -> None:
    def with_pieces(*pieces: Piece) -> bytes:
        stream = io.BytesIO()
        writer = BackupWriter(stream, header("none"))
        for piece in pieces:
            writer.write(piece, zlib.crc32(piece.data))
        writer.finish()
        return stream.getvalue()

    whole = [Piece(0, 0, CONTENT[0]), Piece(2, 0, CONTENT[2])]
    assert read(with_pieces(*whole)) == CONTENT
    for wrong in (whole[:1], whole[1:], whole[::-1], [whole[0], *whole], [*whole, Piece(2, 1500, b"x")]):
        with pytest.raises(BackupDamaged):
            read(with_pieces(*wrong))


@pytest.mark.parametrize("name", ["../evil", "/etc/passwd", "a/b", "", ".hidden", "x" * 200])
def test_a_file_name_that_is_a_path_is_refused(name: str) -> None:
    stream = io.BytesIO()
    files = [BackupFile("CURRENT", 1), BackupFile(name, 1)]
    import msgspec

    BackupWriter(stream, msgspec.structs.replace(header("none"), files=files))
    with pytest.raises(BackupDamaged, match="names a file"):
        BackupReader(io.BytesIO(stream.getvalue()))
