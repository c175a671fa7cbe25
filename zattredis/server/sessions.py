"""Sessions: the part of the state machine that makes every batch execute once (DESIGN §2.1).

One row a node: the session it has open (the log index of its Open entry), the nonce that opened it, and the sequence of
the last batch executed. Rows are state: written with the effects they belong to, inside snapshots, equal on all nodes.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import Final

import msgspec

from zattredis.errors import StateDamaged
from zattredis.keyspace.reader import Reader

PREFIX: Final = b"msession/"
_PREFIX_END: Final = b"msession0"
_ROW: Final = struct.Struct(">QQQ")
BATCH_HEADER: Final = struct.Struct(">QQQ")
"""session, sequence, seed: what a batch's payload begins with."""

_encode = msgspec.msgpack.Encoder().encode
_decode_open = msgspec.msgpack.Decoder(tuple[str, int]).decode


def encode_open(node_id: str, nonce: int) -> bytes:
    """Return the payload of an Open entry."""
    return _encode((node_id, nonce))


def decode_open(payload: bytes) -> tuple[str, int]:
    """Return (node id, nonce)."""
    return _decode_open(payload)


class Row:
    """One node's session."""

    __slots__ = ("last", "node_id", "nonce", "session")

    def __init__(self, node_id: str, session: int, last: int, nonce: int) -> None:
        self.node_id = node_id
        self.session = session
        self.last = last
        self.nonce = nonce


class Sessions:
    """All rows, by node and by session. Changes go through `open`, `advance` and `remove` only."""

    __slots__ = ("_changed", "by_session", "rows")

    def __init__(self) -> None:
        self.rows: dict[str, Row] = {}
        self.by_session: dict[int, Row] = {}
        self._changed: set[str] = set()

    def load(self, reader: Reader) -> None:
        """Replace all rows by those that `reader` holds. Raises StateDamaged for one that cannot be read."""
        self.rows.clear()
        self.by_session.clear()
        self._changed.clear()
        for key, value in reader.iterate(PREFIX, _PREFIX_END):
            if len(value) != _ROW.size:
                raise StateDamaged(f"the session row {key!r} has {len(value)} bytes instead of {_ROW.size}")
            self._put(Row(key[len(PREFIX) :].decode(), *_ROW.unpack(value)))

    def _put(self, row: Row) -> None:
        old = self.rows.get(row.node_id)
        if old is not None:
            self.by_session.pop(old.session, None)
        self.rows[row.node_id] = row
        self.by_session[row.session] = row

    def open(self, node_id: str, nonce: int, index: int) -> bool:
        """Open the session `index` for a node; False if it repeats the nonce of the one that is open."""
        row = self.rows.get(node_id)
        if row is not None and row.nonce == nonce:
            return False
        self._put(Row(node_id, index, 0, nonce))
        self._changed.add(node_id)
        return True

    def advance(self, session: int, sequence: int) -> bool:
        """Count a batch as executed if it is the next of an open session; False means: do nothing, answer nobody."""
        row = self.by_session.get(session)
        if row is None or sequence != row.last + 1:
            return False
        row.last = sequence
        self._changed.add(row.node_id)
        return True

    def is_next(self, session: int, sequence: int) -> bool:
        """Return whether `advance` would return True."""
        row = self.by_session.get(session)
        return row is not None and sequence == row.last + 1

    def retain(self, node_ids: Iterable[str]) -> list[int]:
        """Delete the rows of all other nodes (a member was removed); return the sessions that this ends, in order."""
        ended = []
        for node_id in set(self.rows) - set(node_ids):
            row = self.rows.pop(node_id)
            self.by_session.pop(row.session, None)
            self._changed.add(node_id)
            ended.append(row.session)
        return sorted(ended)

    def figures(self) -> bytes:
        """Return all rows in one form, for the digest of what was applied."""
        rows = sorted(self.rows.items())
        return b"".join([node_id.encode() + _ROW.pack(row.session, row.last, row.nonce) for node_id, row in rows])

    def drain(self, changes: dict[bytes, bytes | None]) -> None:
        """Put every row that changed since the last call into `changes`."""
        for node_id in self._changed:
            row = self.rows.get(node_id)
            value = None if row is None else _ROW.pack(row.session, row.last, row.nonce)
            changes[PREFIX + node_id.encode()] = value
        self._changed.clear()
