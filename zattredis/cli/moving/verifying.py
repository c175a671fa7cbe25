"""Whether two dumps hold the same value, and whether a cluster holds what a source holds.

Two servers, or two versions of one, may encode a value in different ways and keep the members of a set in any order; so
where the bytes differ, the values in them are compared.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import hiredis

from zattredis.cli.moving.pipe import Address, Pipe
from zattredis.cli.moving.rdb_writer import string
from zattredis.cli.moving.sources import Group, Item, Source
from zattredis.cli.resp_client import ErrorReply
from zattredis.errors import DefiniteError
from zattredis.keyspace.metadata import LIST, STRING
from zattredis.keyspace.rdb_read import Loaded, living, read_value

_FOOTER_BYTES: Final = 10
_NAMED_MAX: Final = 10


def same_value(one: bytes, other: bytes, now_ms: int = 0) -> bool:
    """Return whether two dumps hold the same value, fields of hashes that have expired at `now_ms` left out."""
    if one[:-_FOOTER_BYTES] == other[:-_FOOTER_BYTES]:
        return True
    try:
        first, second = living(_value(one), now_ms), living(_value(other), now_ms)
    except DefiniteError:
        return False
    if first.kind != second.kind or dict(first.expiries or {}) != dict(second.expiries or {}):
        return False
    if first.kind in (STRING, LIST):
        return bool(first.value == second.value)
    return bool(sorted(first.value) == sorted(second.value))


def _value(dump: bytes) -> Loaded:
    """Return the value in a dump whose footer came over a connection, and is not looked at."""
    return read_value(dump, len(dump) - _FOOTER_BYTES)


def dumps_of(pipe: Pipe, items: Sequence[Item]) -> list[tuple[bytes | None, int]]:
    """Return what a server holds under the keys of items, in its selected database: dump (None: nothing) and expiry.

    Strings are asked for by GET, which costs a server less than packing them; they come in the form of a dump.
    """
    commands: list[tuple[bytes, ...]] = []
    for item in items:
        commands += ((b"DUMP" if item.kind else b"GET", item.key), (b"PEXPIRETIME", item.key))
    pipe.send(commands)
    replies: list[Any] = [pipe.read() for _ in commands]
    found: list[tuple[bytes | None, int]] = []
    for item, value, expiry in zip(items, replies[::2], replies[1::2], strict=True):
        if isinstance(value, hiredis.ReplyError):
            if not str(value).startswith("WRONGTYPE"):
                raise ErrorReply(f"{pipe.address.where} answered: {value}")
            value = b""  # no dump is that: it differs from any
        elif value is not None and not item.kind:
            value = b"\0" + string(value) + bytes(_FOOTER_BYTES)
        found.append((value, max(expiry, 0)))
    return found


@dataclass(slots=True)
class Differences:
    """What a comparison found; `named` holds a line for the first few keys that differ."""

    compared: int = 0
    equal: int = 0
    missing: int = 0
    values: int = 0
    expiries: int = 0
    expired: int = 0
    named: list[str] = field(default_factory=list)

    @property
    def differing(self) -> int:
        """How many keys are not as they are in the source."""
        return self.missing + self.values + self.expiries


class Verifier:
    """Compares groups of a source with what the cluster holds."""

    def __init__(self, address: Address, timeout_s: float) -> None:
        """Connect. Raises NoAnswer or ErrorReply."""
        self._pipe = Pipe(address, timeout_s)
        self.found = Differences()

    def compare_all(self, source: Source, seen: Callable[[int], None]) -> Differences:
        """Compare everything the source holds; `seen` is told how many keys were compared."""
        for group in source.batches():
            self.compare(group)
            seen(self.found.compared)
        return self.found

    def compare(self, group: Group) -> None:
        """Compare one group. Raises NoAnswer or ErrorReply."""
        found = self.found
        try:
            self._pipe.select(group.db)
        except ErrorReply:
            for item in group.items:
                self._differs(group.db, item, "this server does not have the database")
            found.missing += len(group.items)
            found.compared += len(group.items)
            return
        held = dumps_of(self._pipe, group.items)
        now_ms = int(time.time() * 1000)
        for item, (dump, expire_ms) in zip(group.items, held, strict=True):
            found.compared += 1
            if 0 < item.expire_ms <= now_ms:
                found.expired += 1
            elif dump is None:
                found.missing += 1
                self._differs(group.db, item, "missing")
            elif not same_value(dump, item.dump, now_ms):
                found.values += 1
                self._differs(group.db, item, "another value")
            elif expire_ms != item.expire_ms:
                found.expiries += 1
                self._differs(group.db, item, f"expires at {expire_ms} ms, not at {item.expire_ms} (0: never)")
            else:
                found.equal += 1

    def _differs(self, db: int, item: Item, text: str) -> None:
        if len(self.found.named) < _NAMED_MAX:
            key = repr(item.key.decode(errors="backslashreplace"))
            self.found.named.append(f"{key} in database {db}: {text}")

    def close(self) -> None:
        """Close the connection."""
        self._pipe.close()
