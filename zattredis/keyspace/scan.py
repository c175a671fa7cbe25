"""Walking through the keys of a database: SCAN, KEYS and RANDOMKEY.

The order is that of the k-keys: by slot, then CRC-32, then key. The cursor of SCAN is the 48 bits (slot, crc32) of the
first key not yet returned, and 0 at the start and the end. It needs no state and means the same on every node and after
a failover; keys that share all 48 bits are returned together. So a key that exists during a whole scan is returned by
it, exactly once.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from zattredis.keyspace.keys import K_HEADER_BYTES, k_key_at, position_of, user_key
from zattredis.keyspace.metadata import MAY_EXPIRE, is_expired
from zattredis.keyspace.random import SeededRandom
from zattredis.keyspace.view import View

POSITIONS: Final = 1 << 48
WINDOW_RECORDS_MAX: Final = 4096
"""Most records one SCAN looks at, whatever its COUNT; more only where keys share a position."""
WINDOW_BYTES_MAX: Final = 4 * 1024 * 1024
"""Most bytes of records one SCAN reads (a little more: the record that goes beyond it is the last)."""
_COUNTED_DRAW_MAX: Final = 128
"""In databases up to this size RANDOMKEY looks at every key, and each is equally likely."""
_DRAW_STEPS: Final = 8
_DRAW_EXPIRED_MAX: Final = 4096


def scan_window(
    view: View, db: int, position: int, records_max: int, now_ms: int
) -> tuple[int, list[tuple[bytes, bytes]]]:
    """Return the next cursor (0: done) and the live (key, record) pairs of one window from `position` on."""
    found: list[tuple[bytes, bytes]] = []
    if position >= POSITIONS:
        return 0, found
    prefix = view.k_prefix(db)
    left = max(1, min(records_max, WINDOW_RECORDS_MAX))
    bytes_left = WINDOW_BYTES_MAX
    last = b""
    for k, record in view.iterate(k_key_at(prefix, position), _end_of(prefix)):
        if (left <= 0 or bytes_left <= 0) and k[5:K_HEADER_BYTES] != last:
            return position_of(k), found
        left -= 1
        bytes_left -= len(record)
        last = k[5:K_HEADER_BYTES]
        if not (record[0] & MAY_EXPIRE and is_expired(record, now_ms)):
            found.append((k[K_HEADER_BYTES:], record))
    return 0, found


def live_keys(view: View, db: int, now_ms: int) -> Iterator[bytes | None]:
    """Yield every key that lives at `now_ms`, and None in place of each that has expired."""
    prefix = view.k_prefix(db)
    for k, record in view.iterate(prefix, _end_of(prefix)):
        expired = record[0] & MAY_EXPIRE and is_expired(record, now_ms)
        yield None if expired else k[K_HEADER_BYTES:]


def random_key(view: View, db: int, now_ms: int, random: SeededRandom) -> bytes | None:
    """Return a key drawn by `random`, None when there is none (or none within a few thousand expired ones).

    In a large database: draw a position, take one of the next few keys. Positions are a hash of the keys, so gaps even
    out over those few.
    """
    count = view.counts(db).keys
    if count == 0:
        return None
    prefix = view.k_prefix(db)
    end = _end_of(prefix)
    if count <= _COUNTED_DRAW_MAX:
        keys = [key for key in live_keys(view, db, now_ms) if key is not None]
        return keys[random.below(len(keys))] if keys else None
    start = k_key_at(prefix, random.below(POSITIONS >> 2))
    steps = random.below(_DRAW_STEPS)
    expired = 0
    for lower, upper in ((start, end), (prefix, start)):
        for k, record in view.iterate(lower, upper):
            if record[0] & MAY_EXPIRE and is_expired(record, now_ms):
                expired += 1
                if expired >= _DRAW_EXPIRED_MAX:
                    return None
            elif steps == 0:
                return user_key(k)
            else:
                steps -= 1
    return None


def _end_of(prefix: bytes) -> bytes:
    return prefix + b"\xff"
