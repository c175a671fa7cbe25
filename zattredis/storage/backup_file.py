"""The format of a backup: one stream of checked pieces, which can be written to a pipe and read from one.

    preamble  magic (16), format version (2), length of the header (4), CRC-32 of the header (4); big-endian
    header    JSON: what the backup is of (`BackupHeader`), readable with `head`
    records   a record header (`_RECORD`) and its stored bytes, compressed or not: PIECE after PIECE in the order of the
              files and their bytes, then one END whose bytes are JSON: the number of pieces and of bytes
    digest    BLAKE2b (32) of everything before it; nothing follows

Each record carries the CRC-32 of its bytes as they were read from the node's disk, and one over record header and
stored bytes. A backup that was cut short lacks its END or its digest.
"""

from __future__ import annotations

import hashlib
import struct
import zlib
from collections.abc import Iterator
from typing import BinaryIO, Final, NamedTuple

import msgspec
import zstandard

from zattredis.errors import BackupDamaged
from zattredis.storage.snapshots import FILE_NAME, FILES_MAX

FORMAT: Final = 1
"""Version of the format; raised when an older program could not read a newer backup."""
MAGIC: Final = b"zattredis backup"
PIECE_BYTES_MAX: Final = 8 << 20
HEADER_BYTES_MAX: Final = 16 << 20

CODECS: Final = {"none": 0, "zlib": 1, "zstd": 2}
"""How the bytes of a record are stored."""
LEVELS: Final = {"none": 0, "zlib": 1, "zstd": 1}

_PREAMBLE: Final = struct.Struct(">16sHII")
_RECORD: Final = struct.Struct(">BBIQIII")
_CRC: Final = struct.Struct(">I")
_PIECE: Final = 1
_END: Final = 2
_DIGEST_BYTES: Final = 32


class BackupFile(msgspec.Struct, frozen=True):
    """One file of the state."""

    name: str
    size: int


class BackupHeader(msgspec.Struct, frozen=True, kw_only=True):
    """What a backup is of: the state of a cluster after entry `index`, and of the next one the first `ordinal`
    commands; who belonged to it; by which versions it was written. `created` is a UTC time in ISO form.
    """

    created: str
    cluster_id: str
    node_id: str
    index: int
    term: int
    ordinal: int = 0
    version: str
    data_format: str
    state_machine_version: int
    compression: str
    voters: dict[str, str]
    learners: dict[str, str]
    files: list[BackupFile]

    @property
    def size_bytes(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files)


class _End(msgspec.Struct, frozen=True):
    pieces: int
    bytes: int


class Piece(NamedTuple):
    """Bytes of the file number `file` at `offset`."""

    file: int
    offset: int
    data: bytes


def compress(codec: str, data: bytes) -> tuple[int, bytes]:
    """Return (number of the codec, stored bytes): those given where compressing does not make them shorter.

    Releases the GIL. zstd at its first level makes of a state's files what zlib does in a quarter of the time
    (275 MB/s against 62), which is why it is there: a backup should be limited by the disk.
    """
    if codec == "zstd":
        stored = zstandard.ZstdCompressor(level=LEVELS["zstd"]).compress(data)
    elif codec == "zlib":
        stored = zlib.compress(data, LEVELS["zlib"])
    else:
        return 0, data
    return (CODECS[codec], stored) if len(stored) < len(data) else (0, data)


class BackupWriter:
    """Writes one backup to a stream; pieces in order, then `finish`. OSError is the stream's own."""

    __slots__ = ("_bytes", "_codec", "_digest", "_pieces", "_stream", "written")

    def __init__(self, stream: BinaryIO, header: BackupHeader) -> None:
        self._stream = stream
        self._codec = header.compression
        self._digest = hashlib.blake2b(digest_size=_DIGEST_BYTES)
        self._pieces = 0
        self._bytes = 0
        self.written = 0
        raw = msgspec.json.encode(header)
        self._put(_PREAMBLE.pack(MAGIC, FORMAT, len(raw), zlib.crc32(raw)) + raw)

    def write(self, piece: Piece, crc: int) -> None:
        """Write a piece whose bytes have the CRC-32 `crc`."""
        codec, stored = compress(self._codec, piece.data)
        self._record(_PIECE, codec, piece.file, piece.offset, len(piece.data), crc, stored)
        self._pieces += 1
        self._bytes += len(piece.data)

    def finish(self) -> None:
        """Write the end. Without it the backup counts as cut short."""
        raw = msgspec.json.encode(_End(self._pieces, self._bytes))
        self._record(_END, 0, 0, 0, len(raw), zlib.crc32(raw), raw)
        self._put(self._digest.digest())
        self._stream.flush()

    def _record(self, kind: int, codec: int, file: int, offset: int, size: int, crc: int, stored: bytes) -> None:
        head = _RECORD.pack(kind, codec, file, offset, size, len(stored), crc)
        self._put(head + _CRC.pack(zlib.crc32(stored, zlib.crc32(head))))
        self._put(stored)

    def _put(self, data: bytes) -> None:
        view = memoryview(data)
        while view:  # a pipe that is not buffered may take less
            count = self._stream.write(view)
            view = view[count if count is not None else len(view) :]
        self._digest.update(data)
        self.written += len(data)


class BackupReader:
    """Reads one backup from a stream. `header` is there at once; `pieces` yields the rest, everything checked."""

    __slots__ = ("_digest", "_stream", "compressed_bytes", "header")

    def __init__(self, stream: BinaryIO) -> None:
        """Read the header. Raises BackupDamaged."""
        self._stream = stream
        self._digest = hashlib.blake2b(digest_size=_DIGEST_BYTES)
        self.compressed_bytes = 0
        magic, version, length, crc = _PREAMBLE.unpack(self._take(_PREAMBLE.size, "the preamble"))
        if magic != MAGIC:
            raise BackupDamaged("this is no backup of zattredis (its first bytes are others)")
        if version != FORMAT:
            raise BackupDamaged(f"the backup has format version {version}; this program reads version {FORMAT}")
        if length > HEADER_BYTES_MAX:
            raise BackupDamaged(f"the header of the backup has {length} bytes")
        raw = self._take(length, "the header")
        if zlib.crc32(raw) != crc:
            raise BackupDamaged("the header of the backup fails its checksum")
        try:
            self.header = msgspec.json.decode(raw, type=BackupHeader)
        except msgspec.MsgspecError as error:
            raise BackupDamaged(f"the header of the backup cannot be read: {error}") from None
        self._check_files()

    def _check_files(self) -> None:
        names = [file.name for file in self.header.files]
        if len(names) > FILES_MAX or len(set(names)) != len(names) or "CURRENT" not in names:
            raise BackupDamaged("the backup names repeated, too many or no files of a database")
        for file in self.header.files:
            if not FILE_NAME.fullmatch(file.name) or file.size < 0:
                raise BackupDamaged(f"the backup names a file {file.name!r} of {file.size} bytes")

    def pieces(self) -> Iterator[Piece]:
        """Yield every piece, in order; at the end everything that follows was checked. Raises BackupDamaged."""
        files = self.header.files
        file, offset, count, total = 0, 0, 0, 0
        while True:
            while file < len(files) and offset == files[file].size:
                file, offset = file + 1, 0
            kind, number, at, data = self._next()
            if kind == _END:
                break
            if file >= len(files) or (number, at) != (file, offset) or offset + len(data) > files[file].size:
                raise BackupDamaged(f"the backup holds bytes of file {number} at {at}, where others were due")
            if not data:
                raise BackupDamaged("the backup holds an empty piece")
            count += 1
            total += len(data)
            offset += len(data)
            yield Piece(number, at, data)
        if file < len(files):
            raise BackupDamaged(f"the backup ends before {files[file].name} at {offset}")
        try:
            told = msgspec.json.decode(data, type=_End)
        except msgspec.MsgspecError as error:
            raise BackupDamaged(f"the end of the backup cannot be read: {error}") from None
        if (told.pieces, told.bytes) != (count, total):
            raise BackupDamaged(f"the backup held {told.pieces} pieces of {told.bytes} bytes, not {count} of {total}")
        digest = self._digest.digest()
        if self._take(_DIGEST_BYTES, "its digest") != digest:
            raise BackupDamaged("the backup as a whole fails its digest")
        if self._stream.read(1):
            raise BackupDamaged("something follows the end of the backup")

    def _next(self) -> tuple[int, int, int, bytes]:
        """Return kind, file, offset and bytes of the next record."""
        place = f"the record at byte {self.compressed_bytes}"
        head = self._take(_RECORD.size, place)
        (checked,) = _CRC.unpack(self._take(_CRC.size, place))
        kind, codec, file, offset, size, length, crc = _RECORD.unpack(head)
        if size > PIECE_BYTES_MAX or length > PIECE_BYTES_MAX or kind not in (_PIECE, _END):
            raise BackupDamaged(f"{place} of the backup is damaged")
        stored = self._take(length, place)
        if zlib.crc32(stored, zlib.crc32(head)) != checked:
            raise BackupDamaged(f"{place} of the backup fails its checksum")
        data = _expand(codec, stored, size, place)
        if len(data) != size or zlib.crc32(data) != crc:
            raise BackupDamaged(f"{place} of the backup holds other bytes than were read from the node")
        return kind, file, offset, data

    def _take(self, count: int, what: str) -> bytes:
        parts: list[bytes] = []
        missing = count
        while missing:
            part = self._stream.read(missing)
            if not part:
                raise BackupDamaged(f"the backup is cut short: it ends within {what}")
            parts.append(part)
            missing -= len(part)
        data = b"".join(parts)
        self._digest.update(data)
        self.compressed_bytes += count
        return data


def _expand(codec: int, stored: bytes, size: int, place: str) -> bytes:
    try:
        if codec == CODECS["none"]:
            return stored
        if codec == CODECS["zstd"]:
            return zstandard.ZstdDecompressor().decompress(stored, max_output_size=size)
        if codec == CODECS["zlib"]:
            stream = zlib.decompressobj()
            return stream.decompress(stored, size or 1)
    except (zlib.error, zstandard.ZstdError) as error:
        raise BackupDamaged(f"{place} of the backup cannot be expanded: {error}") from None
    raise BackupDamaged(f"{place} of the backup is compressed in an unknown way ({codec})")
