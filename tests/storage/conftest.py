"""What the tests of storage share: entries, small logs and states, and their removal."""

from __future__ import annotations

import itertools
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from zattredis.raft.entry import BATCH, Entry, make_entry
from zattredis.storage.log_store import LogStore
from zattredis.storage.rocks import KIB, MIB, StoreOptions
from zattredis.storage.state_store import APPLIED_KEY, StateStore, encode_applied

OPTIONS = StoreOptions(cache_bytes=MIB, state_memtable_bytes=MIB, log_memtable_bytes=MIB, open_files_max=64)
SMALL_MEMTABLES = StoreOptions(cache_bytes=MIB, state_memtable_bytes=64 * KIB, log_memtable_bytes=64 * KIB)


def entry(index: int, term: int = 1, payload: bytes = b"") -> Entry:
    """Return an entry whose payload tells index and term apart."""
    return make_entry(index, term, BATCH, 1, 1_700_000_000_000 + index, payload or b"%d/%d" % (index, term))


def entries(first: int, last: int, term: int = 1) -> list[Entry]:
    """Return the entries first … last of one term."""
    return [entry(index, term) for index in range(first, last + 1)]


def all_entries(log: LogStore) -> list[Entry]:
    """Return everything the log holds, read from the disk."""
    return log.entries(log.first_index, log.last_index + 1, 1 << 40)


def changes(applied: int, **values: bytes | None) -> dict[bytes, bytes | None]:
    """Return changes for a state of which `applied` entries (of term 1) are applied."""
    found: dict[bytes, bytes | None] = {key.encode(): value for key, value in values.items()}
    found[APPLIED_KEY] = encode_applied(applied, 1 if applied else 0)
    return found


_MEMORY = Path("/dev/shm")


@pytest.fixture(scope="session")
def scratch() -> Iterator[Callable[[], Path]]:
    """Gives empty directories, in memory if there is room: these tests sync thousands of times, and what a disk may do
    to what was not synced they do themselves. What depends on a real disk (test_failing_disk) asks for it."""
    roomy = _MEMORY.is_dir() and shutil.disk_usage(_MEMORY).free > 1 << 30
    root = Path(tempfile.mkdtemp(prefix="zattredis-storage-", dir=_MEMORY if roomy else None))
    numbers = itertools.count()

    def make() -> Path:
        path = root / str(next(numbers))
        path.mkdir()
        return path

    yield make
    shutil.rmtree(root)


@pytest.fixture
def tmp_path(scratch: Callable[[], Path]) -> Iterator[Path]:
    path = scratch()
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def log_path(tmp_path: Path) -> Path:
    return tmp_path / "log"


@pytest.fixture
def open_log(log_path: Path) -> Iterator[Callable[..., LogStore]]:
    """Creates the log at the first call and opens it at the later ones; closes what is open at the end."""
    opened: list[LogStore] = []

    def open_it(options: StoreOptions = OPTIONS) -> LogStore:
        for log in opened:
            log.close()
        if log_path.exists():
            log = LogStore.open(log_path, options=options)
        else:
            log = LogStore.create(log_path, state_directory="state-0", membership=b"members", options=options)
        opened.append(log)
        return log

    yield open_it
    for log in opened:
        log.close()


@pytest.fixture
def state(tmp_path: Path) -> Iterator[StateStore]:
    store = StateStore.create(tmp_path / "state-0", membership=b"members", options=OPTIONS)
    yield store
    store.close()
