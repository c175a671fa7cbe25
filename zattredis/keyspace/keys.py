"""The layout of a state database's keys; nothing else in the package puts these bytes together.

```
k | namespace(4) | slot(2) | crc32(4) | key      -> metadata record (keyspace.metadata)
s | collection id(8) | subkey                    -> one field, member, chunk … of a collection
x | expire_ms(8) | the k-key                     -> empty; expiry order
y | next_ms(8) | the k-key                       -> empty; hashes in order of the next expiry of one of their fields
m | name                                         -> registers and records of the node (applied index, sessions, …)
```

All integers are big-endian, so byte order is numeric order. `slot` is Redis Cluster's: CRC-16 of the key, or of its
hash tag, modulo 16384; keys of one slot lie together. The 48 bits (slot, crc32) are the SCAN cursor.
"""

from __future__ import annotations

import struct
from binascii import crc_hqx
from typing import Final
from zlib import crc32

SLOTS: Final = 16384
K_HEADER_BYTES: Final = 11
"""Bytes of a k-key before the user's key."""
K_PREFIX_BYTES: Final = 5
X_HEADER_BYTES: Final = 9
"""Bytes of an x-key before the k-key."""

_K_HEADER: Final = struct.Struct(">5sHI")
pack_k_header: Final = _K_HEADER.pack
"""(k prefix of a namespace, slot, crc32) → the bytes before the user's key."""
_X: Final = struct.Struct(">cQ")
_S: Final = struct.Struct(">cQ")

META_APPLIED: Final = b"mapplied"
META_COUNTER: Final = b"mcounter"
META_DATABASES: Final = b"mdatabases"
META_COUNTS: Final = b"mcounts/"
META_MAINTENANCE: Final = b"mmaintenance"
META_DEAD: Final = b"mdead/"
META_PARAMETERS: Final = b"mparameters"
META_REMOVED: Final = b"mremoved/"
_BUCKETS: Final = 1024


def bucket_of(key: bytes) -> int:
    """Return the bucket, 0..1023, of a user's key: what WATCH knows of removed keys, it knows per bucket."""
    return crc32(key) & (_BUCKETS - 1)


def removed_key(namespace: int, bucket: int) -> bytes:
    """Return the store key of the highest version removed from a bucket."""
    return META_REMOVED + namespace.to_bytes(4, "big") + bucket.to_bytes(2, "big")


def removed_range(namespace: int) -> tuple[bytes, bytes]:
    """Return the bounds of `removed_key` of all buckets of a namespace."""
    return removed_key(namespace, 0), removed_key(namespace, _BUCKETS)


def hash_slot(key: bytes) -> int:
    """Return the Redis Cluster slot of `key`, 0..16383 (Redis Cluster specification, "Hash tags")."""
    opening = key.find(b"{")
    if opening >= 0:
        closing = key.find(b"}", opening + 1)
        if closing > opening + 1:
            key = key[opening + 1 : closing]
    return crc_hqx(key, 0) & 0x3FFF


def k_prefix(namespace: int) -> bytes:
    """Return what every k-key of `namespace` begins with."""
    return b"k" + namespace.to_bytes(4, "big")


def k_prefix_end(namespace: int) -> bytes:
    """Return the least key behind all k-keys of `namespace`."""
    return b"l" if namespace == 0xFFFFFFFF else b"k" + (namespace + 1).to_bytes(4, "big")


def k_key(prefix: bytes, key: bytes) -> bytes:
    """Return the k-key of the user's `key` under the namespace's prefix."""
    return pack_k_header(prefix, hash_slot(key), crc32(key)) + key


def k_key_at(prefix: bytes, position: int) -> bytes:
    """Return the least k-key whose 48 bits (slot, crc32) are at least `position`, 0 <= position < 2**48."""
    return prefix + position.to_bytes(6, "big")


def position_of(k: bytes) -> int:
    """Return the 48 bits (slot, crc32) of a k-key: its place in SCAN's order."""
    return int.from_bytes(k[5:11], "big")


def user_key(k: bytes) -> bytes:
    """Return the user's key within a k-key."""
    return k[K_HEADER_BYTES:]


def namespace_of(k: bytes) -> int:
    """Return the namespace of a k-key."""
    return int.from_bytes(k[1:5], "big")


def x_key(expire_ms: int, k: bytes) -> bytes:
    """Return the expiry index key of a k-key."""
    return _X.pack(b"x", expire_ms) + k


def y_key(next_ms: int, k: bytes) -> bytes:
    """Return the key of a hash, by its k-key, in the order of next field expiries."""
    return _X.pack(b"y", next_ms) + k


def split_x_key(x: bytes) -> tuple[int, bytes]:
    """Return (expire_ms, k-key) of an x- or y-key."""
    return int.from_bytes(x[1:9], "big"), x[9:]


def s_prefix(collection_id: int) -> bytes:
    """Return what every subkey of the collection begins with."""
    return _S.pack(b"s", collection_id)


def s_prefix_end(collection_id: int) -> bytes:
    """Return the least key behind all subkeys of the collection."""
    return b"t" if collection_id == 0xFFFFFFFFFFFFFFFF else _S.pack(b"s", collection_id + 1)
