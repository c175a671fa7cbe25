"""The state machine's registers: one counter, database number → namespace, and exact counts per namespace.

They live in `m` keys, are held in memory by whoever applies, and change in the same WriteBatch as the effects that
changed them. One counter serves as version of records and as collection id: no value is ever given twice.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from typing import Final

from zattredis.errors import StateDamaged
from zattredis.keyspace.extensions import META_EXTENSIONS, Agreed, decode_extensions
from zattredis.keyspace.keys import META_COUNTER, META_COUNTS, META_DATABASES, META_MAINTENANCE, removed_key
from zattredis.keyspace.parameters import DEFAULTS, META_PARAMETERS, Parameters, decode_parameters
from zattredis.keyspace.reader import Reader
from zattredis.keyspace.users import Users
from zattredis.keyspace.waiters import Waiters

DATABASES: Final = 16
"""Databases a client may SELECT; a constant, since SWAPDB and FLUSHALL depend on it at apply."""
NAMESPACES_MAX: Final = 0xFFFFFFFF

_COUNTER: Final = struct.Struct(">Q")
_DATABASES: Final = struct.Struct(f">{DATABASES + 1}I")
_COUNTS: Final = struct.Struct(">QQQQQQQ")
_MAINTENANCE: Final = struct.Struct(">QQQQ")
_LOW64: Final = 0xFFFFFFFFFFFFFFFF
_NO_COUNTS: Final = bytes(_COUNTS.size)


class NamespaceCounts:
    """Exact counts of one namespace: keys, keys with an expiry, the sum of those expiries in ms (for avg_ttl), and
    hashes some of whose fields have an expiry.

    And what WATCH of an absent key needs: `created`, the version of the key created last; `floor`, the `created` of the
    namespace that FLUSHDB replaced by this one; `removed`, as far as known, the highest version removed from a bucket.
    """

    __slots__ = (
        "created", "expire_sum_ms", "expires", "expiring_hashes", "floor", "keys", "namespace", "removed",
        "removed_changed", "stored", "stored_under",
    )  # fmt: skip

    def __init__(self, namespace: int) -> None:
        self.namespace = namespace
        self.keys = 0
        self.expires = 0
        self.expire_sum_ms = 0
        self.expiring_hashes = 0
        self.created = 0
        self.floor = 0
        self.removed: dict[int, int] = {}
        self.removed_changed: set[int] = set()
        self.stored = _NO_COUNTS
        """What the store holds of these counts, so that only a change is written."""
        self.stored_under = META_COUNTS + namespace.to_bytes(4, "big")

    def encode(self) -> bytes:
        """Return the stored form. Raises struct.error if a count is negative, which would be a bug."""
        total = self.expire_sum_ms
        return _COUNTS.pack(
            self.keys, self.expires, total >> 64, total & _LOW64, self.created, self.floor, self.expiring_hashes
        )

    def decode(self, stored: bytes) -> None:
        """Take over the stored form."""
        self.keys, self.expires, high, low, self.created, self.floor, self.expiring_hashes = _COUNTS.unpack(stored)
        self.expire_sum_ms = high << 64 | low
        self.stored = stored


class Registers:
    """What every command may need and change; see the module."""

    __slots__ = (
        "counter",
        "databases",
        "databases_changed",
        "dead_count",
        "dead_front",
        "expired_until_ms",
        "extensions",
        "fields_expired_until_ms",
        "maintenance_changed",
        "next_namespace",
        "parameters",
        "stored_counter",
        "users",
        "waiters",
    )

    def __init__(self) -> None:
        self.counter = 0
        """The last version or collection id given."""
        self.stored_counter = 0
        self.databases = [NamespaceCounts(number) for number in range(DATABASES)]
        """Database number → its namespace and counts."""
        self.next_namespace = DATABASES
        self.databases_changed = False
        self.expired_until_ms = 0
        """No x-key below this time exists; where the expiry seek starts."""
        self.fields_expired_until_ms = 0
        """The same for y-keys."""
        self.dead_front = 0
        """No entry of the reclaim queue lies before this order number; where its seek starts."""
        self.dead_count = 0
        """Entries in the reclaim queue."""
        self.maintenance_changed = False
        self.parameters: Parameters = DEFAULTS
        """What the cluster has agreed on for the data types; changed by `View.set_parameters` alone."""
        self.users = Users()
        """Who may do what, once its owner has loaded it; changed by `agreements` alone."""
        self.extensions: Mapping[str, Agreed] = {}
        """Name → what was agreed on for an extension; replaced by `agreements.set_agreed`, never changed."""
        self.waiters = Waiters()
        """Who waits for what, once its owner has loaded it: whoever only reads has no use for it."""

    @classmethod
    def load(cls, reader: Reader) -> Registers:
        """Return the registers stored in `reader`; those of an empty keyspace when it has none.

        Raises StateDamaged when they are of another size than this version writes.
        """
        self = cls()
        counter, databases, maintenance, parameters, extensions = reader.multi_get(
            [META_COUNTER, META_DATABASES, META_MAINTENANCE, META_PARAMETERS, META_EXTENSIONS]
        )
        self.extensions = decode_extensions(extensions)
        self.parameters = decode_parameters(parameters)
        try:
            if counter is not None:
                (self.counter,) = _COUNTER.unpack(counter)
                self.stored_counter = self.counter
            if databases is not None:
                *namespaces, self.next_namespace = _DATABASES.unpack(databases)
                self.databases = [NamespaceCounts(namespace) for namespace in namespaces]
            if maintenance is not None:
                numbers = _MAINTENANCE.unpack(maintenance)
                self.expired_until_ms, self.fields_expired_until_ms, self.dead_front, self.dead_count = numbers
            names = [counts.stored_under for counts in self.databases]
            for counts, stored in zip(self.databases, reader.multi_get(names), strict=True):
                if stored is not None:
                    counts.decode(stored)
        except struct.error as error:
            raise StateDamaged(f"the registers of the state database are of another form: {error}") from error
        return self

    def fresh_counts(self) -> NamespaceCounts:
        """Return the empty counts of a namespace id never used before."""
        namespace = self.next_namespace
        if namespace >= NAMESPACES_MAX:
            raise StateDamaged("all namespace ids have been used")
        self.next_namespace = namespace + 1
        return NamespaceCounts(namespace)

    def figures(self) -> bytes:
        """Return what is counted, in one form for one content: for the digest of what was applied."""
        parts = [counts.namespace.to_bytes(4, "big") + counts.encode() for counts in self.databases]
        numbers = (self.expired_until_ms, self.fields_expired_until_ms, self.dead_front, self.dead_count)
        return b"".join([*parts, _COUNTER.pack(self.counter), _MAINTENANCE.pack(*numbers)])

    def drain_changes(self, touched: Iterable[NamespaceCounts], changes: dict[bytes, bytes | None]) -> None:
        """Add to `changes` each register that differs from the store, of the counts the `touched` ones."""
        if self.counter != self.stored_counter:
            self.stored_counter = self.counter
            changes[META_COUNTER] = _COUNTER.pack(self.counter)
        for counts in touched:
            encoded = counts.encode()
            if encoded != counts.stored:
                counts.stored = encoded
                # One form for one content, however its changes were cut into writes: what counts nothing is not there.
                changes[counts.stored_under] = None if encoded == _NO_COUNTS else encoded
            if counts.removed_changed:
                for bucket in sorted(counts.removed_changed):
                    version = counts.removed[bucket]
                    changes[removed_key(counts.namespace, bucket)] = version.to_bytes(8, "big") if version else None
                counts.removed_changed.clear()
        if self.databases_changed:
            self.databases_changed = False
            changes[META_DATABASES] = _DATABASES.pack(
                *[counts.namespace for counts in self.databases], self.next_namespace
            )
        if self.maintenance_changed:
            self.maintenance_changed = False
            changes[META_MAINTENANCE] = _MAINTENANCE.pack(
                self.expired_until_ms, self.fields_expired_until_ms, self.dead_front, self.dead_count
            )
