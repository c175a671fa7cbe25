"""One log entry: a small header written by the leader in front of bytes that nobody re-encodes.

The encoded form (`Entry.raw`) is what is stored, sent and checked. Its header holds, big-endian: CRC-32 of all that
follows, index (8), term (8), kind (1), state-machine version (2), stamp in ms since 1970 (8). The index is inside the
checksum, so that an entry read back under another index is noticed.
"""

from __future__ import annotations

import struct
import zlib
from typing import Final

from zattredis.errors import LogDamaged

_HEADER: Final = struct.Struct(">IQQBHQ")
_BODY: Final = struct.Struct(">QQBHQ")
_CRC: Final = struct.Struct(">I")
HEADER_BYTES: Final = _HEADER.size

NOOP: Final = 0
"""First entry of a leader's term; empty."""
BATCH: Final = 1
"""One origin's batch of commands of one tick."""
OPEN: Final = 2
"""Opens a session for an origin."""
TIME: Final = 3
"""Carries only its stamp: moves the cluster's time on."""
CONFIG: Final = 4
"""A membership, as encoded by `raft.membership`; the only kind, with NOOP, that Raft itself reads."""
MAINTENANCE: Final = 5
"""Removal of expired keys and reclaiming of dead collections, proposed by the leader."""
CLUSTER: Final = 6
"""A replicated setting or a new state-machine version."""


class Entry:
    """One log entry. `raw` is its stored and transmitted form; `payload` the origin's bytes behind the header."""

    __slots__ = ("index", "kind", "raw", "stamp_ms", "term", "version")

    def __init__(self, index: int, term: int, kind: int, version: int, stamp_ms: int, raw: bytes) -> None:
        self.index = index
        self.term = term
        self.kind = kind
        self.version = version
        self.stamp_ms = stamp_ms
        self.raw = raw

    @property
    def payload(self) -> bytes:
        """The bytes behind the header (a copy)."""
        return self.raw[HEADER_BYTES:]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Entry) and self.raw == other.raw

    def __hash__(self) -> int:
        return hash(self.raw)

    def __repr__(self) -> str:
        return f"Entry({self.index}, term={self.term}, kind={self.kind}, {len(self.raw)} bytes)"


def make_entry(index: int, term: int, kind: int, version: int, stamp_ms: int, payload: bytes) -> Entry:
    """Return the entry with its encoded form computed."""
    body = _BODY.pack(index, term, kind, version, stamp_ms)
    crc = zlib.crc32(payload, zlib.crc32(body))
    # The payload, which may be large, is copied once.
    return Entry(index, term, kind, version, stamp_ms, b"".join((_CRC.pack(crc), body, payload)))


def decode_entry(raw: bytes) -> Entry:
    """Return the entry in `raw`. Raises LogDamaged when it is too short or its checksum does not fit."""
    if len(raw) < HEADER_BYTES:
        raise LogDamaged(f"a log entry of {len(raw)} bytes is shorter than its header")
    crc, index, term, kind, version, stamp_ms = _HEADER.unpack_from(raw)
    if zlib.crc32(memoryview(raw)[4:]) != crc:
        raise LogDamaged(f"log entry {index} (term {term}) fails its checksum")
    return Entry(index, term, kind, version, stamp_ms, raw)
