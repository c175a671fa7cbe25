"""A View: what commands see of the keyspace while one log entry, or one tick's reads, is carried out.

It reads through to a `Reader`, remembers every record it has seen, and holds all effects until `take`. So a command
sees the writes of the commands before it (read your writes), and one that fails is undone from a list of what it
replaced.
"""

from __future__ import annotations

from binascii import crc_hqx
from bisect import bisect_left, insort
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final
from zlib import crc32

from zattredis.errors import StateDamaged
from zattredis.keyspace.keys import META_DEAD, bucket_of, hash_slot, pack_k_header, removed_key, x_key, y_key
from zattredis.keyspace.metadata import (
    FIELD_EXPIRY,
    HEADER_BYTES,
    MAY_EXPIRE,
    SEPARATE,
    STRING,
    TYPE_MASK,
    collection_id_of,
    expire_of,
    is_expired,
    next_field_expiry,
    pack_header,
    size_of,
    version_of,
    with_expire,
    with_version,
)
from zattredis.keyspace.pages import PAGE_EFFECT_BYTES, Page, encode_page
from zattredis.keyspace.parameters import META_PARAMETERS, Parameters
from zattredis.keyspace.reader import Reader
from zattredis.keyspace.record_cache import RecordCache, Table
from zattredis.keyspace.registers import DATABASES, NamespaceCounts, Registers
from zattredis.keyspace.sizes import CHUNK_BYTES, EFFECT_OVERHEAD_BYTES, POINT_DELETES_MAX

_OWNS: Final = MAY_EXPIRE | SEPARATE
_NOT_WRITTEN: Final = object()
"""Stands in the undo list for "this store key had no effect yet"."""
_SUBKEY: Final = ord("s")
_RAW: Final = object()
_MAP: Final = object()
_MAINTENANCE: Final = object()
_PARAMETERS: Final = object()
_CALL: Final = object()
_CREATED: Final = object()
_REMOVED: Final = object()

DEAD_STRING: Final = b"s"
DEAD_COLLECTION: Final = b"c"
DEAD_NAMESPACE: Final = b"n"
DEAD_NODE: Final = b"l"
"""Part of a list that lives on."""


class View:
    """See the module. One owner at a time; `registers` is shared with whoever made the view and changes in place.

    With a `cache`, what was read stays known to the views after this one (see `record_cache` for when that is right).
    """

    __slots__ = (
        "_cache", "_effect_keys", "_effects", "_fresh", "_mark", "_mark_bytes", "_mark_counter", "_opened",
        "_page_marks", "_pages", "_subkeys", "_tables", "_undo", "_unit", "effect_bytes", "misses", "reader",
        "registers",
    )  # fmt: skip

    def __init__(self, reader: Reader, registers: Registers, cache: RecordCache | None = None) -> None:
        self._cache = cache
        self.reader = reader
        self.registers = registers
        self.effect_bytes = 0
        """About how many bytes were written since `take`. Of one command the same on every node, wherever its entry was
        cut into writes, for a bound is held against it (`server.executor`)."""
        self.misses = 0
        """How often `record` found no living key, for statistics."""
        self._effects: dict[bytes, bytes | None] = {}
        self._effect_keys: list[bytes] | None = None
        self._subkeys: list[bytes] | None = None
        """The effects' store keys of collections in order, but `_fresh`; None until somebody walks through some."""
        self._fresh: list[bytes] = []
        self._pages: list[bytes] = []
        """Store keys of pages among the effects; one may be here twice, or have been undone."""
        self._page_marks: dict[bytes, int] = {}
        """Page → the counter at the start of the last command that it was reckoned for: once for each."""
        self._tables: list[Table | None] = [None] * DATABASES
        self._opened: list[Table] = []
        self._undo: list[tuple[Any, Any, Any]] = []
        self._mark = 0
        self._mark_bytes = 0
        self._mark_counter = registers.counter
        self._unit: tuple[int, int, int] | None = None

    # -- reading -----------------------------------------------------------------------------------------------------

    def prefetch(self, pairs: Iterable[tuple[int, bytes]]) -> None:
        """Fetch the records of all (database, key) not known yet, with one multi_get."""
        tables = self._tables
        k_keys: list[bytes] = []
        wanted: list[tuple[dict[bytes, bytes | None], bytes]] = []
        for db, key in pairs:
            table = tables[db] or self._open(db)
            records = table.records
            if key in records or table.recall(key):
                continue
            slot = hash_slot(key) if b"{" in key else crc_hqx(key, 0) & 0x3FFF
            table.k_keys[key] = k = pack_k_header(table.prefix, slot, crc32(key)) + key
            records[key] = None
            k_keys.append(k)
            wanted.append((records, key))
        if k_keys:
            found = self.reader.multi_get(k_keys)
            for (records, key), record in zip(wanted, found, strict=True):
                if record is not None:
                    records[key] = record
            if self._cache is not None:
                self._cache.loaded(k_keys, found)

    def prefetch_lists(self, wanted: Mapping[int, list[bytes]]) -> None:
        """Do the same for database → keys: keys that are known already cost a tenth of `prefetch`."""
        pairs: list[tuple[int, bytes]] = []
        for db, keys in wanted.items():
            records = (self._tables[db] or self._open(db)).records
            pairs += [(db, key) for key in keys if key not in records]
        if pairs:
            self.prefetch(pairs)

    def record(self, db: int, key: bytes, now_ms: int) -> bytes | None:
        """Return the record of a key that lives at `now_ms`, else None."""
        table = self._tables[db] or self._open(db)
        try:
            record = table.records[key]
        except KeyError:
            record = self._load(table, key)
        if record is None or (record[0] & MAY_EXPIRE and is_expired(record, now_ms)):
            self.misses += 1
            return None
        return record

    def plain_values(self, db: int, keys: list[bytes]) -> list[bytes | None] | None:
        """Return the values of many keys if all that exist are inline strings without expiry (most GETs), else None."""
        table = self._tables[db] or self._open(db)
        records = table.records
        try:
            found = [records[key] for key in keys]
        except KeyError:
            return None  # nobody has prefetched them
        if sum([record[0] for record in found if record is not None]):
            return None
        self.misses += found.count(None)
        return [None if record is None else record[HEADER_BYTES:] for record in found]

    def watch(self, db: int, key: bytes, now_ms: int) -> int:
        """Return what WATCH remembers of a key: the version of its last change, or, of a key that is absent, the last
        version given to any key so far, as -1 - n."""
        record = self.record(db, key, now_ms)
        return -1 - self.registers.counter if record is None else version_of(record)

    def unchanged(self, db: int, key: bytes, seen: int, now_ms: int) -> bool:
        """Return whether the key is as it was when `watch` returned `seen`.

        An absent key that came and went again has changed: what was removed is remembered per bucket of keys, so that
        now and then an EXEC is refused for a neighbour's sake, and its client tries again.
        """
        record = self.record(db, key, now_ms)
        if seen > 0:
            return record is not None and version_of(record) == seen
        table = self._tables[db]
        assert table is not None
        held = table.records[key]  # an expired record, perhaps, of a key that was created since
        then = -1 - seen
        if record is not None or (held is not None and version_of(held) > then):
            return False
        return max(table.counts.floor, self._removed(table.counts, bucket_of(key))) <= then

    def _removed(self, counts: NamespaceCounts, bucket: int) -> int:
        """Return the highest version of any record that was removed from a bucket."""
        version = counts.removed.get(bucket)
        if version is None:
            stored = self.reader.get(removed_key(counts.namespace, bucket))
            counts.removed[bucket] = version = 0 if stored is None else int.from_bytes(stored, "big")
        return version

    def counts(self, db: int) -> NamespaceCounts:
        """Return the counts of a database (to be read only)."""
        return self.registers.databases[db]

    def get_raw(self, key: bytes) -> bytes | None:
        """Return the value of a store key (subkeys, `m` keys), through this view's effects."""
        effect = self._effects.get(key, _NOT_WRITTEN)
        return self.reader.get(key) if effect is _NOT_WRITTEN else effect  # type: ignore[return-value]

    def get_page(self, name: bytes, decode: Callable[[bytes], Page]) -> Page:
        """Return a page that exists, through this view's effects. Raises StateDamaged if it does not."""
        page: Any = self._effects.get(name)
        if page is not None:
            return page  # type: ignore[no-any-return]
        cache = self._cache
        page = None if cache is None else cache.pages.get(name)
        if page is None:
            raw = self.reader.get(name)
            if raw is None:
                raise StateDamaged(f"a page of a collection is missing: {name.hex()}")
            page = decode(raw)
            if cache is not None:
                cache.pages.put(name, page)
        return page  # type: ignore[no-any-return]

    def multi_get_raw(self, keys: list[bytes]) -> list[bytes | None]:
        """Return the values of store keys, through this view's effects."""
        effects = self._effects
        if not effects:
            return self.reader.multi_get(keys)
        found = {key: effects[key] for key in keys if key in effects}
        missing = [key for key in keys if key not in found]
        if missing:
            found.update(zip(missing, self.reader.multi_get(missing), strict=True))
        return [found[key] for key in keys]

    def iterate(self, lower: bytes, upper: bytes, reverse: bool = False) -> Iterator[tuple[bytes, bytes]]:
        """Yield (store key, value) for lower <= key < upper in order, through this view's effects.

        Which keys come is decided now; a value written meanwhile to one of this view's own is the one that comes.
        """
        changed = self._changed_between(lower, upper)
        stored = self.reader.iterate(lower, upper, reverse)
        return _merge(stored, changed, self._effects, reverse) if changed else stored

    def _changed_between(self, lower: bytes, upper: bytes) -> list[bytes]:
        """Return the keys of this view's effects within a range, in order."""
        effects = self._effects
        if not effects:
            return []
        if lower[0] == _SUBKEY:
            keys = self._ordered_subkeys()
        elif self._effect_keys is None or len(self._effect_keys) != len(effects):
            keys = self._effect_keys = sorted(effects)
        else:
            keys = self._effect_keys
        return keys[bisect_left(keys, lower) : bisect_left(keys, upper)]

    def _ordered_subkeys(self) -> list[bytes]:
        """Return the effects' keys of collections in order. Commands may walk and write in turn, thousands in a view,
        so what was written since the last walk is put in its place, and nothing is sorted again."""
        keys = self._subkeys
        if keys is None:
            keys = self._subkeys = sorted([key for key in self._effects if key[0] == _SUBKEY])
        else:
            for key in self._fresh:
                if key[0] == _SUBKEY:
                    insort(keys, key)
        self._fresh.clear()
        return keys

    def k_prefix(self, db: int) -> bytes:
        """Return what every k-key of a database begins with now."""
        return (self._tables[db] or self._open(db)).prefix

    def _open(self, db: int) -> Table:
        counts = self.registers.databases[db]
        table = self._tables[db] = Table(counts) if self._cache is None else self._cache.table(counts)
        self._opened.append(table)
        return table

    def _load(self, table: Table, key: bytes) -> bytes | None:
        if table.recall(key):
            return table.records[key]
        k = pack_k_header(table.prefix, hash_slot(key), crc32(key)) + key
        table.k_keys[key] = k
        record = table.records[key] = self.reader.get(k)
        if self._cache is not None:
            self._cache.loaded([k], [record])
        return record

    # -- writing -----------------------------------------------------------------------------------------------------

    def next_id(self) -> int:
        """Return a number never given before: a version or a collection id."""
        registers = self.registers
        registers.counter = counter = registers.counter + 1
        return counter

    def set_plain(self, db: int, key: bytes, value: bytes, touched_s: int) -> None:
        """Make the key an inline string without expiry (SET's usual case; at most INLINE_BYTES_MAX bytes)."""
        table = self._tables[db] or self._open(db)
        records = table.records
        try:
            old = records[key]
        except KeyError:
            old = self._load(table, key)
        registers = self.registers
        registers.counter = version = registers.counter + 1
        record = pack_header(STRING, 0, version, touched_s) + value
        if old is None:
            counts = table.counts
            self._undo.append((_CREATED, counts, counts.created))
            counts.keys += 1
            counts.created = version
        elif old[0] & _OWNS:
            self.put(db, key, record)
            return
        self._undo.append((table, key, old))
        records[key] = record
        self._effects[table.k_keys[key]] = record
        self.effect_bytes += len(record) + EFFECT_OVERHEAD_BYTES

    def set_plain_many(self, db: int, pairs: Sequence[tuple[bytes, bytes]], touched_s: int) -> None:
        """Do `set_plain` for each (key, value), outside of any unit: nothing of it can be undone."""
        if self._unit is not None:
            raise RuntimeError("within a unit every effect must be undoable")
        table = self._tables[db] or self._open(db)
        records, k_keys, effects, registers = table.records, table.k_keys, self._effects, self.registers
        size = 0
        if len(dict(pairs)) < len(pairs) // 4:  # most come again: only what they hold in the end is written
            lasting = {key: (version, value) for version, (key, value) in enumerate(pairs, registers.counter + 1)}
            if all((old := records.get(key)) is not None and not old[0] & _OWNS for key in lasting):
                for key, (version, value) in lasting.items():
                    records[key] = effects[k_keys[key]] = record = pack_header(STRING, 0, version, touched_s) + value
                    size += len(record) + EFFECT_OVERHEAD_BYTES
                registers.counter, pairs = registers.counter + len(pairs), ()
        for key, value in pairs:
            try:
                old = records[key]
            except KeyError:
                old = self._load(table, key)
            registers.counter = version = registers.counter + 1
            record = pack_header(STRING, 0, version, touched_s) + value
            if old is None:
                table.counts.keys += 1
                table.counts.created = version
            elif old[0] & _OWNS:
                self.put(db, key, record)
                continue
            records[key] = record
            effects[k_keys[key]] = record
            size += len(record) + EFFECT_OVERHEAD_BYTES
        self.effect_bytes += size
        self._undo.clear()

    def put(self, db: int, key: bytes, record: bytes | None) -> None:
        """Replace a key's record (None deletes it); counts and expiry index follow, content it no longer names dies."""
        table = self._tables[db] or self._open(db)
        old = table.records[key] if key in table.records else self._load(table, key)
        self._replace(table, key, old, record)
        if old is None or not old[0] & SEPARATE:
            return
        if record is None or collection_id_of(old) != collection_id_of(record):
            self.bury_content(old)

    def rewrite(self, db: int, key: bytes, record: bytes) -> None:
        """Do `put`, for an existing key whose type, expiries and collection id stay as they are: at half the cost."""
        table = self._tables[db] or self._open(db)
        records = table.records
        self._undo.append((table, key, records[key]))
        records[key] = record
        self._effects[table.k_keys[key]] = record
        self.effect_bytes += len(key) + len(record) + EFFECT_OVERHEAD_BYTES

    def delete(self, db: int, key: bytes, now_ms: int) -> bool:
        """Delete a key; return whether it lived at `now_ms` (an expired record goes too)."""
        table = self._tables[db] or self._open(db)
        old = table.records[key] if key in table.records else self._load(table, key)
        if old is None:
            return False
        self.put(db, key, None)
        return not is_expired(old, now_ms)

    def move(self, db: int, key: bytes, to_db: int, to_key: bytes, touched_s: int) -> None:
        """Give an existing key another name or database, content and expiry with it; what was there dies."""
        table = self._tables[db] or self._open(db)
        record = table.records[key] if key in table.records else self._load(table, key)
        if record is None:
            raise LookupError("only an existing key can be moved")
        self._replace(table, key, record, None)
        self.put(to_db, to_key, with_version(record, self.next_id(), touched_s))

    def set_expire(self, db: int, key: bytes, record: bytes, expire_ms: int, touched_s: int) -> None:
        """Give an existing key another expiry (0: none)."""
        self.put(db, key, with_expire(record, expire_ms, self.next_id(), touched_s))

    def put_raw(self, key: bytes, value: bytes | None) -> None:
        """Write a store key that is not a record (None deletes it)."""
        effects = self._effects
        old = effects.get(key, _NOT_WRITTEN)
        if old is _NOT_WRITTEN and self._subkeys is not None:
            self._fresh.append(key)
        self._undo.append((_RAW, key, old))
        effects[key] = value
        self.effect_bytes += len(key) + (len(value) if value is not None else 0) + EFFECT_OVERHEAD_BYTES

    def put_raw_many(self, changes: Mapping[bytes, bytes | None]) -> None:
        """Do `put_raw` for each of `changes`, outside of any unit: nothing of it can be undone."""
        if self._unit is not None:
            raise RuntimeError("within a unit every effect must be undoable")
        effects = self._effects
        if self._subkeys is not None:
            self._fresh += [key for key in changes if key not in effects]
        effects.update(changes)
        sizes = sum(map(len, changes)) + sum([len(value) for value in changes.values() if value is not None])
        self.effect_bytes += sizes + EFFECT_OVERHEAD_BYTES * len(changes)

    def put_page(self, name: bytes, page: Page | None) -> None:
        """Write a page (None deletes it), which nobody will change; it is encoded when the effects are taken."""
        effects: dict[bytes, Any] = self._effects
        old = effects.get(name, _NOT_WRITTEN)
        if old is _NOT_WRITTEN:
            if self._subkeys is not None:
                self._fresh.append(name)
            self._pages.append(name)
        if self._page_marks.get(name) != self._mark_counter:
            self._page_marks[name] = self._mark_counter
            self.effect_bytes += PAGE_EFFECT_BYTES
        self._undo.append((_RAW, name, old))
        effects[name] = page

    def _encode_pages(self) -> None:
        effects: dict[bytes, Any] = self._effects
        cache = None if self._cache is None else self._cache.pages
        for name in self._pages:
            page = effects.get(name, _NOT_WRITTEN)
            if page.__class__ is tuple:
                effects[name] = encode_page(page)
                if cache is not None:
                    cache.put(name, page)
            elif page is None and cache is not None:
                cache.drop(name)
        self._pages.clear()

    def flush(self, db: int) -> None:
        """Empty a database at once: it takes a fresh namespace, the old one is queued for reclaim."""
        counts = self.registers.databases[db]
        if counts.keys == 0 and not self.registers.waiters.by_order:  # for those, elements may be reserved
            return
        self._save_map()
        self.registers.databases[db] = fresh = self.registers.fresh_counts()
        fresh.floor = fresh.created = counts.created
        table = self._open(db)  # so that its counts are stored
        self.on_rollback(lambda: self._opened.remove(table))
        self.bury(DEAD_NAMESPACE + counts.namespace.to_bytes(4, "big"))

    def swap(self, one: int, other: int) -> None:
        """Exchange two databases."""
        if one == other:
            return
        self._save_map()
        databases, tables = self.registers.databases, self._tables
        for db in (one, other):
            if tables[db] is None:
                self._open(db)  # so that its counts are stored
        first, second = databases[one], databases[other]
        first.floor, second.floor = max(first.floor, second.created), max(second.floor, first.created)
        databases[one], databases[other] = databases[other], databases[one]
        tables[one], tables[other] = tables[other], tables[one]

    def bury(self, what: bytes) -> None:
        """Queue content that nothing names any more for reclaim by maintenance entries."""
        self._save_maintenance()
        self.registers.dead_count += 1
        self.put_raw(META_DEAD + self.next_id().to_bytes(8, "big"), what)

    def unbury(self, name: bytes) -> None:
        """Take the first entry, of this store key, out of the reclaim queue: its content is gone."""
        self._save_maintenance()
        self.registers.dead_count -= 1
        self.registers.dead_front = int.from_bytes(name[len(META_DEAD) :], "big") + 1
        self.put_raw(name, None)

    def set_expired_until(self, expire_ms: int) -> None:
        """Remember that no x-key below this time is left."""
        self._save_maintenance()
        self.registers.expired_until_ms = expire_ms

    def set_fields_expired_until(self, next_ms: int) -> None:
        """Remember that no y-key below this time is left."""
        self._save_maintenance()
        self.registers.fields_expired_until_ms = next_ms

    def set_parameters(self, parameters: Parameters) -> None:
        """Let the cluster's parameters of the data types be these from the next command on."""
        self._undo.append((_PARAMETERS, b"", self.registers.parameters))
        self.registers.parameters = parameters
        self.put_raw(META_PARAMETERS, parameters.encode())

    def _replace(self, table: Table, key: bytes, old: bytes | None, record: bytes | None) -> None:
        self._undo.append((table, key, old))
        self._change(table, key, old, record)
        if record is None:
            if old is not None:
                counts, bucket = table.counts, bucket_of(key)
                if version_of(old) > (before := self._removed(counts, bucket)):
                    self._undo.append((_REMOVED, (counts, bucket), before))
                    counts.removed[bucket] = version_of(old)
                    counts.removed_changed.add(bucket)
        elif old is None:
            self._undo.append((_CREATED, table.counts, table.counts.created))
            table.counts.created = max(table.counts.created, version_of(record))
        self.effect_bytes += len(key) + (len(record) if record is not None else 0) + EFFECT_OVERHEAD_BYTES

    def _change(self, table: Table, key: bytes, old: bytes | None, record: bytes | None) -> None:
        """The only place where a record changes, done or undone (but `set_plain`): counts and indexes always agree."""
        k = table.k_keys[key]
        table.records[key] = record
        effects = self._effects
        effects[k] = record
        counts = table.counts
        counts.keys += (record is not None) - (old is not None)
        old_expire_ms = 0 if old is None else expire_of(old)
        expire_ms = 0 if record is None else expire_of(record)
        if old_expire_ms != expire_ms:
            if old_expire_ms:
                effects[x_key(old_expire_ms, k)] = None
                counts.expires -= 1
                counts.expire_sum_ms -= old_expire_ms
            if expire_ms:
                effects[x_key(expire_ms, k)] = b""
                counts.expires += 1
                counts.expire_sum_ms += expire_ms
        if (old is not None and old[0] & FIELD_EXPIRY) or (record is not None and record[0] & FIELD_EXPIRY):
            old_next_ms, next_ms = next_field_expiry(old), next_field_expiry(record)
            if old_next_ms != next_ms:
                if old_next_ms:
                    effects[y_key(old_next_ms, k)] = None
                    counts.expiring_hashes -= 1
                if next_ms:
                    effects[y_key(next_ms, k)] = b""
                    counts.expiring_hashes += 1

    def bury_content(self, record: bytes) -> int:
        """Let the content of a SEPARATE record die: a short string at once, anything else by maintenance.

        Returns how many store keys were deleted at once.
        """
        identity = record[HEADER_BYTES : HEADER_BYTES + 8]
        if record[0] & TYPE_MASK != STRING:
            self.bury(DEAD_COLLECTION + identity)
            return 0
        chunks = -(-size_of(record) // CHUNK_BYTES)
        if chunks > POINT_DELETES_MAX:
            self.bury(DEAD_STRING + record[HEADER_BYTES : HEADER_BYTES + 16])
            return 0
        for number in range(chunks):
            self.put_raw(b"s" + identity + number.to_bytes(4, "big"), None)
        return chunks

    def _save_maintenance(self) -> None:
        registers = self.registers
        registers.maintenance_changed = True
        times = (registers.expired_until_ms, registers.fields_expired_until_ms)
        saved = (*times, registers.dead_front, registers.dead_count)
        self._undo.append((_MAINTENANCE, b"", saved))

    def _save_map(self) -> None:
        registers = self.registers
        registers.databases_changed = True
        saved = (list(registers.databases), list(self._tables), registers.next_namespace)
        self._undo.append((_MAP, b"", saved))

    def on_rollback(self, undo: Callable[[], None]) -> None:
        """Have `undo` called if the command is undone: for what is kept beside the effects."""
        self._undo.append((_CALL, b"", undo))

    def changed(self) -> list[tuple[int, bytes]] | None:
        """Return (database, key) of each record changed since `begin` (in a unit: since `begin_unit`), oldest first.

        None when databases were emptied or exchanged: any key may have changed then.
        """
        since = self._undo[self._mark if self._unit is None else self._unit[0] :]
        if any(what is _MAP for what, _, _ in since):
            return None
        index = self._tables.index
        return [(index(what), key) for what, key, _ in since if what.__class__ is Table]

    def savepoint(self) -> tuple[int, int, int]:
        """Return a mark for `rollback_to`, within a command."""
        return len(self._undo), self.effect_bytes, self.registers.counter

    def rollback_to(self, savepoint: tuple[int, int, int]) -> None:
        """Undo what the command did since."""
        self._undo_to(*savepoint)

    # -- commands and units ------------------------------------------------------------------------------------------

    def begin(self) -> None:
        """Mark the start of a command."""
        self._mark = len(self._undo)
        self._mark_bytes = self.effect_bytes
        self._mark_counter = self.registers.counter

    def commit(self) -> None:
        """Keep the command's effects (within a unit: until the unit ends)."""
        if self._unit is None:
            self._undo.clear()

    def rollback(self) -> None:
        """Undo all since `begin`."""
        self._undo_to(self._mark, self._mark_bytes, self._mark_counter)

    @property
    def in_unit(self) -> bool:
        """Whether a unit has begun."""
        return self._unit is not None

    def begin_unit(self) -> None:
        """Mark the start of an EXEC or script, whose commands have their own begin and commit."""
        self._unit = (len(self._undo), self.effect_bytes, self.registers.counter)

    def commit_unit(self) -> None:
        """Keep the effects of the whole unit."""
        self._unit = None
        self._undo.clear()

    def rollback_unit(self) -> None:
        """Undo all since `begin_unit`."""
        if self._unit is None:
            raise RuntimeError("no unit has begun")
        mark, mark_bytes, mark_counter = self._unit
        self._unit = None
        self._undo_to(mark, mark_bytes, mark_counter)

    def _undo_to(self, mark: int, mark_bytes: int, mark_counter: int) -> None:
        undo, effects, registers = self._undo, self._effects, self.registers
        while len(undo) > mark:
            what, key, old = undo.pop()
            if what is _RAW:
                if old is _NOT_WRITTEN:
                    del effects[key]
                else:
                    effects[key] = old
            elif what is _MAP:
                registers.databases[:], self._tables[:], registers.next_namespace = old
            elif what is _MAINTENANCE:
                registers.expired_until_ms, registers.fields_expired_until_ms, *dead = old
                registers.dead_front, registers.dead_count = dead
            elif what is _CREATED:
                key.created = old
            elif what is _REMOVED:
                key[0].removed[key[1]] = old
            elif what is _PARAMETERS:
                registers.parameters = old
            elif what is _CALL:
                old()
            else:
                self._change(what, key, what.records[key], old)
        self._effect_keys = self._subkeys = None
        self._fresh.clear()
        self._page_marks.clear()  # the next command begins with the same counter
        self.effect_bytes = mark_bytes
        registers.counter = mark_counter

    def take(self) -> dict[bytes, bytes | None]:
        """Return all effects since the last `take`, changed registers among them; write them before going on.

        The view stays usable: what it has read stays known. Raises RuntimeError within a unit.
        """
        if self._unit is not None:
            raise RuntimeError("a unit's effects are taken whole")
        self._undo.clear()
        if self._pages:
            self._encode_pages()
        if self._cache is not None:
            self._cache.written(self.effect_bytes)
        effects = self._effects
        self._effects = {}
        self._effect_keys = self._subkeys = None
        self._fresh.clear()
        self._page_marks.clear()
        self.effect_bytes = 0
        self.registers.drain_changes([table.counts for table in self._opened], effects)
        return effects


def _merge(
    stored: Iterator[tuple[bytes, bytes]], changed: list[bytes], effects: Mapping[bytes, bytes | None], reverse: bool
) -> Iterator[tuple[bytes, bytes]]:
    """Yield both in order; of equal keys the changed one counts, None hides the stored one."""
    waiting = reversed(changed) if reverse else iter(changed)
    change = next(waiting, None)
    for pair in stored:
        while change is not None and (change > pair[0] if reverse else change < pair[0]):
            value = effects[change]
            if value is not None:
                yield change, value
            change = next(waiting, None)
        if change is not None and change == pair[0]:
            value = effects[change]
            if value is not None:
                yield change, value
            change = next(waiting, None)
        else:
            yield pair
    while change is not None:
        value = effects[change]
        if value is not None:
            yield change, value
        change = next(waiting, None)
