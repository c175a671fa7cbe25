"""RAFT LOG: what was replicated, for a person to read."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from zattredis.raft import entry as kinds
from zattredis.raft.entry import HEADER_BYTES, Entry
from zattredis.raft.membership import Membership
from zattredis.server.sessions import BATCH_HEADER, Sessions, decode_open

WORDS_SHOWN: Final = 16
WORD_BYTES_SHOWN: Final = 64
COMMANDS_SHOWN: Final = 64
NAMES: Final = {
    kinds.NOOP: b"noop", kinds.BATCH: b"batch", kinds.OPEN: b"open", kinds.TIME: b"time", kinds.CONFIG: b"membership",
    kinds.MAINTENANCE: b"maintenance", kinds.CLUSTER: b"cluster",
}  # fmt: skip

_decode_items = msgspec.msgpack.Decoder().decode


def describe(entry: Entry, sessions: Sessions) -> list[Any]:
    """Return [index, term, kind, time, lines] of an entry; the time is the leader's stamp, in UTC."""
    stamp = datetime.fromtimestamp(entry.stamp_ms / 1000, UTC)
    when = stamp.isoformat(timespec="milliseconds") if entry.stamp_ms else ""
    name = NAMES.get(entry.kind, b"kind %d" % entry.kind)
    try:
        lines = _lines(entry, sessions)
    except (msgspec.MsgspecError, ValueError, IndexError, KeyError, TypeError) as error:
        lines = [f"{len(entry.raw)} bytes that this version cannot read: {error}".encode()]
    return [entry.index, entry.term, name, when.encode(), lines]


def _lines(entry: Entry, sessions: Sessions) -> list[bytes]:
    if entry.kind == kinds.BATCH:
        return _batch(entry, sessions)
    if entry.kind == kinds.OPEN:
        node_id, nonce = decode_open(entry.payload)
        return [f"{node_id} opens session {entry.index} ({nonce:016x})".encode()]
    if entry.kind == kinds.CONFIG:
        return _membership(Membership.decode(entry.payload))
    if entry.kind == kinds.NOOP:
        return [b"a leader begins its term"]
    if entry.kind == kinds.TIME:
        return [b"the cluster's time"]
    if entry.kind == kinds.MAINTENANCE:
        return [b"expired and deleted keys are cleared away, up to %d" % int.from_bytes(entry.payload, "big")]
    return [b"%d bytes" % len(entry.raw)]


def _membership(membership: Membership) -> list[bytes]:
    lines = []
    for title, ids in (
        ("voters", membership.voters), ("outgoing voters", membership.voters_outgoing),
        ("learners", membership.learners), ("joining", membership.joining), ("leaving", membership.leaving),
        ("demoting", membership.demoting), ("removed", membership.removed),
    ):  # fmt: skip
        if ids:
            shown = (f"{i}={membership.addresses[i]}" if i in membership.addresses else i for i in ids)
            lines.append(f"{title}: {', '.join(shown)}".encode())
    return lines


def _batch(entry: Entry, sessions: Sessions) -> list[bytes]:
    session, sequence, _ = BATCH_HEADER.unpack_from(entry.raw, HEADER_BYTES)
    row = sessions.by_session.get(session)
    origin = "a session that is over" if row is None else row.node_id
    lines = [f"from {origin}, session {session}, sequence {sequence}".encode()]
    for item in _decode_items(memoryview(entry.raw)[HEADER_BYTES + BATCH_HEADER.size :]):
        if isinstance(item[0], int):
            lines += [b"%d: %b" % (item[0], _command(argv)) for argv in item[1][: COMMANDS_SHOWN + 1]]
        else:
            lines.append(b"MULTI" + (b", %d keys watched" % len(item[0]) if item[0] else b""))
            lines += [b"%d: %b" % (db, _command(argv)) for db, argv in item[1][: COMMANDS_SHOWN + 1]]
            lines.append(b"EXEC")
        if len(lines) > COMMANDS_SHOWN:
            return [*lines[:COMMANDS_SHOWN], b"..."]
    return lines


def _command(argv: list[bytes]) -> bytes:
    words = [_word(bytes(word)) for word in argv[:WORDS_SHOWN]]
    if len(argv) > WORDS_SHOWN:
        words.append(b"... (%d more arguments)" % (len(argv) - WORDS_SHOWN))
    return b" ".join(words)


def _word(word: bytes) -> bytes:
    shown = word[:WORD_BYTES_SHOWN].decode("latin-1")
    if not shown or any(not 33 <= ord(character) <= 126 or character in "\"\\" for character in shown):
        escaped = (c if 32 <= ord(c) <= 126 and c not in '"\\' else f"\\x{ord(c):02x}" for c in shown)
        shown = f'"{"".join(escaped)}"'
    more = len(word) - WORD_BYTES_SHOWN
    return shown.encode() + (b"... (%d more bytes)" % more if more > 0 else b"")
