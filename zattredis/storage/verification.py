"""Looking at a data directory offline, changing nothing: is every byte that can be checked what it was written as?

What is checked: format and identity; the marks; every entry of the log (checksum, no gap, no falling term, nothing
missing that was durable); the applied index inside the log, with the same term; every block of the state (RocksDB's
checksums), every record's form, and the counts of keys and expiries against what is there.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, cast

from rocksdict import Cache

from zattredis.errors import (
    DataDirectoryMismatch,
    LogLost,
    StateDamaged,
    StorageFailed,
    ZattredisError,
)
from zattredis.keyspace import metadata
from zattredis.keyspace.reader import Reader
from zattredis.keyspace.registers import Registers
from zattredis.raft.membership import Membership
from zattredis.raft.ready import HardState
from zattredis.storage.datadir import FORMAT, Identity, read_identity, take_lock
from zattredis.storage.large_writes import DECIDED_KEY, STAGED
from zattredis.storage.log_recovery import Recovered, examine
from zattredis.storage.log_store import marks_path
from zattredis.storage.marks import read_marks
from zattredis.storage.repair import noted_damage
from zattredis.storage.rocks import StoreOptions, exists, open_database, state_options, translate
from zattredis.storage.state_store import APPLIED_KEY, MEMBERSHIP_KEY, Applied, decode_applied

_EVERY: Final = 20_000
"""Records between two reports of progress."""


@dataclass(slots=True)
class Report:
    """What was found in a data directory; `problems` is empty where all is well."""

    path: str
    identity: Identity | None = None
    first_index: int = 0
    last_index: int = 0
    last_term: int = 0
    hard_state: HardState = field(default_factory=HardState)
    applied: Applied = field(default_factory=lambda: Applied(0, 0))
    membership: Membership = field(default_factory=Membership)
    state_directory: str = ""
    keys: int = 0
    expires: int = 0
    records: int = 0
    bytes: int = 0
    problems: list[str] = field(default_factory=list)


Progress = Callable[[str, int], None]
"""Called with what is looked at, and how many records of it have been."""


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock of a data directory without writing to it. Raises DataDirectoryBusy or StorageFailed."""
    try:
        descriptor = os.open(path / "lock", os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        yield  # nobody ever used it, or it was copied without
        return
    except OSError as error:
        raise StorageFailed(f"cannot open {path / 'lock'}: {error.strerror}") from error
    try:
        take_lock(descriptor, path, fcntl.LOCK_SH, "; stop it first")
        yield
    finally:
        os.close(descriptor)


def check_identity(path: Path) -> Identity:
    """Return whose the complete data directory at `path` is. Raises DataDirectoryMismatch with one line."""
    if not path.is_dir():
        raise DataDirectoryMismatch(f"{path} is no directory")
    version = path / "VERSION"
    if not version.is_file():
        raise DataDirectoryMismatch(f"{path} is no data directory of zattredis (it has no file VERSION)")
    found = version.read_text(errors="replace").strip()
    if found != FORMAT:
        raise DataDirectoryMismatch(f"{path} has format version {found!r}; this program reads version {FORMAT}")
    identity = read_identity(path)
    if identity is None:
        with contextlib.suppress(OSError, ValueError):
            json.loads((path / "node.json").read_bytes())
        raise DataDirectoryMismatch(f"{path} is not complete: {path / 'node.json'} is missing or cannot be read")
    return identity


def verify(path: Path, progress: Progress = lambda what, count: None) -> Report:
    """Look at everything in the data directory at `path`. What is wrong is in the report, not raised.

    Raises DataDirectoryBusy where a process uses it.
    """
    report = Report(str(path))
    with tempfile.TemporaryDirectory(prefix="zattredis-verify-") as messages, locked(path):
        options = StoreOptions(message_directory=messages)
        cache = Cache(options.cache_bytes)
        try:
            report.identity = check_identity(path)
            if (noted := noted_damage(path)) is not None:
                report.problems.append(f"the node noted damage, which its next start repairs: {noted[0]}")
            progress("log", 0)
            log = _verify_log(path, report, options, cache)
            progress("log", report.last_index - report.first_index + 1)
            _verify_state(path / log.state_directory.name, report, options, cache, progress)
            _verify_together(log, report)
            if log.configuration is not None:
                report.membership = Membership.decode(log.configuration)
        except (OSError, ZattredisError) as error:
            report.problems.append(str(error))
    return report


def _verify_log(path: Path, report: Report, options: StoreOptions, cache: Cache) -> Recovered:
    if not exists(path / "log"):
        raise LogLost(f"the log is gone from {path}")
    log = examine(path / "log", read_marks(marks_path(path / "log")), options, cache)
    report.first_index, report.last_index = log.index.first_index, log.index.last_index
    report.last_term = log.index.last_term
    report.hard_state = log.hard_state
    report.state_directory = log.state_directory.name
    return log


def _verify_together(log: Recovered, report: Report) -> None:
    applied, index = report.applied, log.index
    if not index.first_index - 1 <= applied.index <= index.last_index:
        report.problems.append(
            f"the state holds entry {applied.index}, but the log entries {index.first_index} to {index.last_index}"
        )
    elif index.term(applied.index) != applied.term:
        report.problems.append(
            f"entry {applied.index} is of term {applied.term} in the state and {index.term(applied.index)} in the log"
        )


def _verify_state(path: Path, report: Report, options: StoreOptions, cache: Cache, progress: Progress) -> None:
    database = open_database(path, state_options(options, cache), StateDamaged, read_only=True)
    try:
        report.applied = decode_applied(database.get(APPLIED_KEY))
        membership = database.get(MEMBERSHIP_KEY)
        if membership is None:
            raise StateDamaged(f"the state in {path} has no membership record")
        report.membership = Membership.decode(membership)
        _walk(path, database, report, progress)
    except (ZattredisError, OSError):
        raise
    except Exception as error:
        raise translate(error, "reading the state in", path, StateDamaged) from error
    finally:
        database.close()


def _walk(path: Path, database: object, report: Report, progress: Progress) -> None:
    """Read every record of the state: count keys and expiries per namespace, and compare with its registers."""
    registers = Registers.load(cast(Reader, _Reader(database)))
    keys: Counter[int] = Counter()
    expires: Counter[int] = Counter()
    cursor = database.iter()  # type: ignore[attr-defined]
    cursor.seek_to_first()
    while (key := cursor.key()) is not None:
        value = cursor.value()
        report.records += 1
        report.bytes += len(key) + len(value)
        if report.records % _EVERY == 0:
            progress("state", report.records)
        if key[:1] == b"k":
            namespace = int.from_bytes(key[1:5], "big")
            keys[namespace] += 1
            _check_record(path, key, value)
            if value[0] & metadata.VOLATILE:
                expires[namespace] += 1
        elif key[:1] not in (b"s", b"x", b"y", b"m", STAGED):
            report.problems.append(f"the state in {path} holds a record of an unknown kind, {key[:16]!r}")
        cursor.next()
    cursor.status()
    progress("state", report.records)
    unfinished = database.get(DECIDED_KEY) is not None  # type: ignore[attr-defined]
    for number, counts in enumerate(registers.databases):
        report.keys += keys[counts.namespace]
        report.expires += expires[counts.namespace]
        for what, told, found in (
            ("keys", counts.keys, keys[counts.namespace]), ("keys with an expiry", counts.expires,
                                                             expires[counts.namespace]),
        ):  # fmt: skip
            if told != found and not unfinished:  # of a large write whose process ended, the next start does the rest
                report.problems.append(f"database {number} counts {told} {what}, but holds {found}")


def _check_record(path: Path, key: bytes, value: bytes) -> None:
    kind = value[0] & metadata.TYPE_MASK if value else -1
    whole = len(value) >= metadata.HEADER_BYTES and kind in metadata.TYPE_NAMES
    if not whole or bool(metadata.expire_of(value)) != bool(value[0] & metadata.VOLATILE):
        raise StateDamaged(f"the state in {path} holds a record of another form under {key[:40]!r}")


class _Reader:
    """As much of a Reader as loading the registers takes."""

    def __init__(self, database: object) -> None:
        self._get = database.get  # type: ignore[attr-defined]

    def multi_get(self, keys: list[bytes]) -> list[bytes | None]:
        return [self._get(key) for key in keys]
