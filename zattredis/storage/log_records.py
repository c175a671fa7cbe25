"""Keys and records of the log database, and the stamp that every write carries.

    e │ index(8)  → an entry's raw bytes
    m │ name      → first, hard, state, membership, truncation, tail

The stamp (record `tail`) numbers the writes of a log one by one and says up to which number they were durable when
this one was made. So a write found anywhere in the WAL bears witness that the writes it names must be there, whatever
recovery has dropped. It begins with the log's own nonce and ends with a checksum: a client's value cannot pass for one.
"""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Final, NamedTuple

from zattredis.errors import LogDamaged
from zattredis.raft.ready import HardState

_ENTRY_KEY: Final = struct.Struct(">cQ")
ENTRY_END: Final = b"f"
FIRST: Final = b"mfirst"
HARD: Final = b"mhard"
STATE: Final = b"mstate"
MEMBERSHIP: Final = b"mmembership"
TRUNCATION: Final = b"mtruncation"
TAIL: Final = b"mtail"

_PAIR: Final = struct.Struct(">QQ")
_STAMP: Final = struct.Struct(">QQQQQQ")
_CRC: Final = struct.Struct(">I")


class StateDirectory(NamedTuple):
    """The directory that holds the state, and where that state began: as the snapshot of `index` and `term`."""

    name: str
    snapshot_index: int
    snapshot_term: int


class Stamp(NamedTuple):
    """What a write says of the log: its own number, the number that was durable, and what the log is with it."""

    batch: int
    durable_batch: int
    last_index: int
    last_term: int
    truncations: int
    hard_term: int


def entry_key(index: int) -> bytes:
    """Return the key of the entry at `index`."""
    return _ENTRY_KEY.pack(b"e", index)


def entry_index(key: bytes) -> int:
    """Return the index in an entry's key."""
    return int(_ENTRY_KEY.unpack(key)[1])


def encode_pair(first: int, second: int) -> bytes:
    """Return two integers as a record: (first index, term before it) or (truncations, the last one's index)."""
    return _PAIR.pack(first, second)


def decode_pair(raw: bytes | None, name: str) -> tuple[int, int]:
    """Return the integers of a record. Raises LogDamaged."""
    if raw is None or len(raw) != _PAIR.size:
        raise LogDamaged(f"the log's record `{name}` is missing or malformed")
    first, second = _PAIR.unpack(raw)
    return first, second


def encode_hard_state(state: HardState) -> bytes:
    """Return the record of term, commit hint and vote."""
    return _PAIR.pack(state.term, state.commit) + (b"" if state.vote is None else b"v" + state.vote.encode())


def decode_hard_state(raw: bytes | None) -> HardState:
    """Return the hard state of a record. Raises LogDamaged."""
    if raw is None or len(raw) < _PAIR.size:
        raise LogDamaged("the log's record `hard` is missing or malformed")
    term, commit = _PAIR.unpack_from(raw)
    vote = raw[_PAIR.size :]
    return HardState(term, vote[1:].decode() if vote else None, commit)


def encode_state_directory(state: StateDirectory) -> bytes:
    """Return the record that names the current state directory."""
    return _PAIR.pack(state.snapshot_index, state.snapshot_term) + state.name.encode()


def decode_state_directory(raw: bytes | None) -> StateDirectory:
    """Return the state directory of a record. Raises LogDamaged."""
    if raw is None or len(raw) <= _PAIR.size:
        raise LogDamaged("the log's record `state` is missing or malformed")
    index, term = _PAIR.unpack_from(raw)
    return StateDirectory(raw[_PAIR.size :].decode(), index, term)


def encode_stamp(nonce: bytes, stamp: Stamp) -> bytes:
    """Return the stamp as a record."""
    body = _STAMP.pack(*stamp)
    return nonce + body + _CRC.pack(zlib.crc32(body))


def decode_stamp(nonce: bytes, raw: bytes) -> Stamp | None:
    """Return the stamp at the start of `raw`, or None when the bytes are none of this log."""
    start, end = len(nonce), len(nonce) + _STAMP.size
    if len(raw) < end + _CRC.size or not raw.startswith(nonce):
        return None
    body = raw[start:end]
    if _CRC.unpack_from(raw, end)[0] != zlib.crc32(body):
        return None
    return Stamp(*_STAMP.unpack(body))


def witnessed_batch(directory: Path, nonce: bytes) -> int:
    """Return the highest write number that any stamp in the WAL files of `directory` says was durable; 0 without any.

    Reads the files as bytes, so it sees also what RocksDB's recovery would drop. A stamp that is split by a block
    border of the WAL is missed, which its neighbours make good. Raises OSError.
    """
    highest = 0
    length = len(nonce) + _STAMP.size + _CRC.size
    for path in directory.glob("*.log"):
        content = path.read_bytes()
        at = content.find(nonce)
        while at >= 0:
            stamp = decode_stamp(nonce, content[at : at + length])
            if stamp is not None and stamp.durable_batch > highest:
                highest = stamp.durable_batch
            at = content.find(nonce, at + 1)
    return highest
