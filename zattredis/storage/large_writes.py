"""Writes that are too large for one WriteBatch, whole or not at all all the same.

RocksDB takes a batch in one go and rocksdict holds the interpreter lock meanwhile: a million deletions are a second in
which the node does nothing else. So what a large command changes in place is first written beside, in pieces that
nobody reads (`staged`); then one small write says that all of them count, together with the applied record
(`decided`); then each is carried out and removed (`pieces`). Before the small write the state is the one before, after
it the one behind the command, whatever happens: whoever opens a state carries out what was decided and removes what was
not (`finish`). While the pieces are carried out nobody may read but at the point of time before.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any, Final, Protocol

import msgspec

from zattredis.errors import StateDamaged

STAGED: Final = b"j"
STAGED_END: Final = b"k"
DECIDED_KEY: Final = b"mjournal"
PIECE_KEYS: Final = 4096
PIECE_BYTES: Final = 1 << 20

_COUNT: Final = struct.Struct(">I")
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[tuple[bytes, bytes | None]]).decode


class Store(Protocol):
    """What is needed of a state store."""

    def get(self, key: bytes) -> bytes | None:
        """Return the value of a key."""
        ...

    def iterate(self, lower: bytes, upper: bytes | None, reverse: bool = False) -> Iterator[tuple[bytes, bytes]]:
        """Yield the pairs of a range."""
        ...

    def write(self, changes: dict[bytes, bytes | None]) -> None:
        """Write a batch."""
        ...


def staged(changes: Mapping[bytes, bytes | None]) -> Iterator[dict[bytes, Any]]:
    """Yield the writes that put `changes` beside; how many there are is what `decided` is told."""
    number = 0
    piece: list[tuple[bytes, bytes | None]] = []
    size = 0
    for key in changes:  # in no order: to sort a million keys at once would hold the interpreter lock
        value = changes[key]
        piece.append((key, value))
        size += len(key) + (0 if value is None else len(value))
        if len(piece) >= PIECE_KEYS or size >= PIECE_BYTES:
            yield {_name(number): _encode(piece)}
            number += 1
            piece, size = [], 0
    if piece:
        yield {_name(number): _encode(piece)}


def decided(count: int) -> dict[bytes, bytes | None]:
    """Return what the write that decides holds beside the applied record."""
    return {DECIDED_KEY: _COUNT.pack(count)}


def pieces(store: Store) -> Iterator[dict[bytes, bytes | None]]:
    """Yield the writes that carry out what was decided, none if nothing was. Raises StateDamaged."""
    found = store.get(DECIDED_KEY)
    if found is None:
        return
    (count,) = _COUNT.unpack(found)
    begun = False
    for number in range(count):
        piece = store.get(_name(number))
        if piece is None:
            if begun or number == count - 1:
                raise StateDamaged(f"piece {number} of a large write of {count} is missing")
            continue  # carried out before the process ended
        begun = True
        changes: dict[bytes, bytes | None] = dict(_decode(piece))
        changes[_name(number)] = None
        if number == count - 1:
            changes[DECIDED_KEY] = None
        yield changes


def finish(store: Store, also: Mapping[bytes, bytes | None]) -> None:
    """Carry out what was decided, and remove what was not; `also` is part of every write."""
    for changes in pieces(store):
        store.write({**changes, **also})
    undecided = store.iterate(STAGED, STAGED_END)
    while names := [name for name, _ in islice(undecided, PIECE_KEYS)]:
        store.write({**dict.fromkeys(names), **also})


def _name(number: int) -> bytes:
    return STAGED + number.to_bytes(4, "big")
