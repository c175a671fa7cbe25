"""Where keys come from: an RDB file, or a live Redis server of any version from 2.8.

Both yield batches in a fixed order, and each batch says from which position the one behind it goes on, so that an
import that was interrupted can go on from there.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple, Protocol

import hiredis

from zattredis.cli.moving.pipe import Address, Pipe
from zattredis.cli.moving.rdb_file import RdbFile, Summary
from zattredis.cli.moving.rdb_values import TYPE_NAMES
from zattredis.cli.resp_client import ErrorReply

BATCH_BYTES: Final = 1 << 20
"""What a batch holds at most, but for a single larger value."""
BATCH_KEYS: Final = 512
SCAN_COUNT: Final = 1000
_ASKED_MAX: Final = 3


class Item(NamedTuple):
    """One key: what RESTORE needs. `kind` is its RDB type; `expire_ms` 0: it does not expire."""

    key: bytes
    expire_ms: int
    dump: bytes
    kind: int
    idle_s: int = -1
    frequency: int = -1


@dataclass(slots=True)
class Group:
    """Keys of one database. `behind` is the position of what follows them, for `batches(start)`."""

    db: int
    items: list[Item] = field(default_factory=list)
    behind: list[Any] = field(default_factory=list)


class Source(Protocol):
    """What keys are copied from."""

    @property
    def identity(self) -> str:
        """What a position belongs to: of another identity it means nothing."""
        ...

    @property
    def total(self) -> int:
        """How many keys there are to copy, as far as is known."""
        ...

    def batches(self, start: list[Any] | None = None) -> Iterator[Group]:
        """Yield everything, or what is behind a position."""
        ...

    def notes(self) -> list[str]:
        """Return lines about what is there and cannot be copied."""
        ...

    def close(self) -> None:
        """Let go of it."""
        ...


class FileSource:
    """The keys of an RDB file that has been checked."""

    def __init__(self, file: RdbFile, summary: Summary, identity: str, only_db: int | None = None) -> None:
        self._file = file
        self.summary = summary
        self.identity = identity
        self._only_db = only_db
        self.total = summary.keys if only_db is None else summary.databases[only_db]

    def notes(self) -> list[str]:
        """Return lines about function libraries and modules' own data."""
        found = []
        if self.summary.functions:
            found.append(f"{self.summary.functions} function libraries are not copied: there are none on this server")
        if self.summary.module_data:
            found.append(f"{self.summary.module_data} pieces of modules' own data are not copied")
        return found

    def batches(self, start: list[Any] | None = None) -> Iterator[Group]:
        """Yield the file's keys in its order. A position is (offset, database)."""
        offset, db = start or (0, 0)
        group = Group(db)
        size = 0
        for entry in self._file.entries(start=offset, db=db):
            if self._only_db is not None and entry.db != self._only_db:
                continue
            if group.items and (entry.db != group.db or size >= BATCH_BYTES or len(group.items) >= BATCH_KEYS):
                yield group
                size = 0
                group = Group(entry.db)
            group.db = entry.db
            dump = self._file.dump_of(entry)
            size += len(dump)
            group.items.append(
                Item(entry.key, entry.expire_ms, dump, entry.kind, entry.idle_s, entry.frequency)
            )  # fmt: skip
            group.behind = [entry.end, entry.db]
        if group.items:
            yield group

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class _Piece(NamedTuple):
    """Keys whose values were asked for: how many replies come before that of EXEC, and the position behind them."""

    keys: list[bytes]
    queued: int
    behind: list[Any]


class LiveSource:
    """The keys of a live server: SCAN, then DUMP and the time of expiry, both at one moment for each key.

    What is written while the copying goes on may or may not be copied; a key that exists all the while, unchanged, is.
    """

    def __init__(self, address: Address, timeout_s: float, match: str | None = None) -> None:
        """Connect. Raises NoAnswer or ErrorReply."""
        self.address = address
        self._match = match
        self._pipe = Pipe(address, timeout_s)
        self._has_expire_time = _knows(self._pipe, "PEXPIRETIME")
        run_id = self._pipe.info("server").get("run_id", "")
        self.identity = f"{address.where}/{'' if address.db is None else address.db} {run_id} {match or ''}"
        self.databases = [
            db for db in self._pipe.databases() if address.db is None or db == address.db
        ]  # fmt: skip
        sizes = self._pipe.databases()
        self.total = sum(sizes[db] for db in self.databases)
        self._keys_at_once = 16

    def notes(self) -> list[str]:
        """Return a line if there are functions."""
        try:
            libraries = self._pipe.call("FUNCTION", "LIST")
        except ErrorReply:
            return []
        if not libraries:
            return []
        return [f"{len(libraries)} function libraries are not copied: there are none on this server"]

    def close(self) -> None:
        """Close the connection."""
        self._pipe.close()

    def batches(self, start: list[Any] | None = None) -> Iterator[Group]:
        """Yield the keys, database by database. A position is (database, cursor), the cursor in decimal digits."""
        first_db, cursor = start or (-1, "0")
        for db in self.databases:
            if db < first_db:
                continue
            self._pipe.select(db)
            yield from self._database(db, cursor if db == first_db else "0")

    def _scan(self, cursor: bytes | str) -> tuple[bytes | str, ...]:
        words: tuple[bytes | str, ...] = ("SCAN", cursor, "COUNT", str(SCAN_COUNT))
        return words if self._match is None else (*words, "MATCH", self._match)

    def _database(self, db: int, cursor: str) -> Iterator[Group]:
        """Ask ahead: while one piece is given out, the next ones are dumped and the next keys are scanned."""
        pipe = self._pipe
        pipe.send([self._scan(cursor)])
        scanning, done = True, False
        keys: list[bytes] = []
        position: list[Any] = []
        asked: deque[_Piece | None] = deque([None])  # None: a SCAN
        while asked or keys or not done:
            if keys and len(asked) < _ASKED_MAX:
                piece, keys = keys[: self._keys_at_once], keys[self._keys_at_once :]
                asked.append(self._ask(piece, [] if keys else position))
            elif not keys and not scanning and not done:
                pipe.send([self._scan(position[1])])
                scanning = True
                asked.append(None)
            else:
                first = asked.popleft()
                if first is not None:
                    yield self._answer(db, first)
                    continue
                following, keys = self._expect(pipe.read())
                scanning, done = False, following == b"0"
                position = [db + 1, "0"] if done else [db, following.decode()]

    def _expect(self, reply: Any) -> Any:
        if isinstance(reply, hiredis.ReplyError):
            raise ErrorReply(f"{self.address.where} answered: {reply}")
        return reply

    def _ask(self, keys: list[bytes], behind: list[Any]) -> _Piece:
        """Ask for a piece: one MULTI, so that the value and the expiry of a key belong together."""
        expiry = "PEXPIRETIME" if self._has_expire_time else "PTTL"
        commands: list[tuple[bytes | str, ...]] = [("MULTI",)]
        for key in keys:
            commands += (("DUMP", key), (expiry, key))
        if not self._has_expire_time:
            commands.append(("TIME",))
        self._pipe.send([*commands, ("EXEC",)])
        return _Piece(keys, len(commands), behind)

    def _answer(self, db: int, piece: _Piece) -> Group:
        keys = piece.keys
        for _ in range(piece.queued):
            self._expect(self._pipe.read())
        replies: list[Any] = self._expect(self._pipe.read())
        now_ms = 0
        if not self._has_expire_time:
            seconds, micros = replies.pop()
            now_ms = int(seconds) * 1000 + int(micros) // 1000
        group = Group(db, behind=piece.behind)
        append = group.items.append
        size = 0
        for key, dump, expiry in zip(keys, replies[::2], replies[1::2], strict=True):
            if dump is None:
                continue  # gone since it was scanned
            self._expect(dump)
            size += len(dump)
            append(Item(key, max(expiry + now_ms, 1) if expiry >= 0 else 0, dump, dump[0]))
        self._adapt(len(keys), size)
        return group

    def _adapt(self, keys: int, size: int) -> None:
        if size < BATCH_BYTES // 2:
            self._keys_at_once = min(max(self._keys_at_once, keys) * 2, BATCH_KEYS)
        elif size > BATCH_BYTES:
            self._keys_at_once = max(1, keys * BATCH_BYTES // size)


def _knows(pipe: Pipe, command: str) -> bool:
    try:
        found = pipe.call("COMMAND", "INFO", command)
    except ErrorReply:
        return False
    return bool(found and found[0])


def type_name(kind: int) -> str:
    """Return what Redis's TYPE calls values of an RDB type."""
    return TYPE_NAMES.get(kind, "module" if kind in (6, 7) else "stream" if kind == 26 else f"type {kind}")


class Pace:
    """Holds the copying down to so many keys a second; 0: as fast as it goes."""

    def __init__(
        self, keys_per_s: float, now: Callable[[], float] = time.monotonic, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self._keys_per_s = keys_per_s
        self._now, self._sleep = now, sleep
        self._due = now()

    def spend(self, keys: int) -> None:
        """Wait until so many more keys may be sent. A pause is not made up for."""
        if self._keys_per_s <= 0:
            return
        now = self._now()
        self._due = max(self._due, now)
        if self._due > now:
            self._sleep(self._due - now)
        self._due += keys / self._keys_per_s
