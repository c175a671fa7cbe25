"""What rocksdict 0.3.29 does unexpectedly, and the code goes around. A failure here means: it is mended, simplify.

Each test names the place that goes around it.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from rocksdict import AccessType, Checkpoint, DbClosedError, DBRecoveryMode, Options, Rdict, ReadOptions

from zattredis.storage.rocks import SNAPSHOT_KEY_MISSING

OpenDatabase = Callable[..., Rdict]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "db"


@pytest.fixture
def database(path: Path) -> Iterator[Rdict]:
    database = opened(path)
    for number in range(100):
        database[b"%03d" % number] = b"v"
    yield database
    with contextlib.suppress(DbClosedError):
        database.close()


def opened(path: Path, **options: object) -> Rdict:
    o = Options(raw_mode=True)
    o.create_if_missing(True)
    for name, value in options.items():
        getattr(o, name)(value)
    return Rdict(str(path), o, {"default": o})


def keys_of(items: Iterator[tuple[bytes, bytes]]) -> list[bytes]:
    return [key for key, _ in items]


def test_the_lower_bound_sets_the_upper_one(database: Rdict) -> None:
    """StateStore.iterate does not use it."""
    read_options = ReadOptions()
    read_options.set_iterate_lower_bound(b"050")
    assert keys_of(database.items(read_opt=read_options)) == [b"%03d" % i for i in range(50)]


def test_iterators_of_a_snapshot_show_live_data(database: Rdict) -> None:
    """state_readers.Point opens an iterator of the database together with the snapshot."""
    snapshot = database.snapshot()
    before = database.iter()
    database[b"000"] = b"later"
    assert dict(snapshot.items())[b"000"] == b"later"
    assert snapshot[b"000"] == b"v"
    before.seek(b"000")
    assert before.value() == b"v"
    del snapshot, before


def test_a_snapshot_reports_a_missing_key_as_a_bare_exception(database: Rdict) -> None:
    """FrozenState.get tells it from a failed read by its text."""
    with pytest.raises(Exception, match=SNAPSHOT_KEY_MISSING) as caught:
        database.snapshot()[b"missing"]
    assert type(caught.value) is Exception
    assert str(caught.value) == SNAPSHOT_KEY_MISSING


@pytest.mark.parametrize("holder", ["iterator", "snapshot", "checkpoint"])
def test_close_does_not_close_while_something_lives(database: Rdict, path: Path, holder: str) -> None:
    """StateStore.close releases its readers first."""
    held = {"iterator": database.iter, "snapshot": database.snapshot, "checkpoint": lambda: Checkpoint(database)}[
        holder
    ]()
    database.close()
    with pytest.raises(Exception, match="lock hold by current process"):
        opened(path)
    del held
    opened(path).close()


def test_an_iteration_over_damage_ends_silently(database: Rdict, path: Path) -> None:
    """Cursor.read asks for the status."""
    for number in range(5000):
        database[b"k%05d" % number] = b"%05d" % number * 20
    database.close()
    table = next(path.glob("*.sst"))
    content = bytearray(table.read_bytes())
    content[len(content) // 2] ^= 1
    table.write_bytes(content)
    again = opened(path)
    assert 0 < len(list(again.items())) < 5100
    iterator = again.iter()
    iterator.seek_to_first()
    while iterator.valid():
        iterator.next()
    with pytest.raises(Exception, match="Corruption"):
        iterator.status()
    del iterator
    again.close()


def test_options_of_a_reopening_are_ignored_unless_given_as_the_column_familys(path: Path) -> None:
    """rocks.open_database gives them twice."""
    opened(path, set_write_buffer_size=3 << 20).close()
    o = Options(raw_mode=True)
    o.set_write_buffer_size(5 << 20)
    Rdict(str(path), o).close()
    assert "\n  write_buffer_size=3145728\n" in newest_options(path)
    Rdict(str(path), o, {"default": o}).close()
    assert "\n  write_buffer_size=5242880\n" in newest_options(path)


def newest_options(path: Path) -> str:
    return max(path.glob("OPTIONS-*"), key=lambda p: int(p.name.split("-")[1])).read_text()


def test_opening_a_missing_database_leaves_files_behind(path: Path) -> None:
    """rocks.open_database looks for CURRENT first."""
    o = Options(raw_mode=True)
    o.create_if_missing(False)
    with pytest.raises(Exception, match="does not exist"):
        Rdict(str(path), o, {"default": o})
    assert path.exists()


@pytest.fixture
def image(path: Path, tmp_path: Path) -> Path:
    """A database of 100 synced batches, all still in the WAL, as a killed process leaves it."""
    database = opened(path)
    for number in range(100):
        database[b"%03d" % number] = bytes([number]) * 500
    database.flush_wal(True)
    shutil.copytree(path, tmp_path / "image")
    database.close()
    return tmp_path / "image"


def recovered(image: Path, mode: DBRecoveryMode) -> int:
    """Return how many keys recovery in this mode finds; reading only, so it can be asked again."""
    o = Options(raw_mode=True)
    o.set_wal_recovery_mode(mode)
    database = Rdict(str(image), o, {"default": o}, AccessType.read_only())
    try:
        return len(list(database.items()))
    finally:
        database.close()


def change_wal(image: Path, change: Callable[[bytes], bytes]) -> None:
    wal = next(image.glob("*.log"))
    wal.write_bytes(change(wal.read_bytes()))


def flip(place: int) -> Callable[[bytes], bytes]:
    return lambda content: content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]


def test_a_vanished_wal_opens_as_an_empty_database(image: Path) -> None:
    """The marks notice."""
    next(image.glob("*.log")).unlink()
    assert recovered(image, DBRecoveryMode.absolute_consistency()) == 0


def test_point_in_time_drops_synced_records_behind_one_flipped_bit(image: Path) -> None:
    """Marks and stamps notice; that mode is used all the same (log_recovery says why)."""
    change_wal(image, flip(20_000))
    assert 0 < recovered(image, DBRecoveryMode.point_in_time()) < 100
    with pytest.raises(Exception, match="Corruption"):
        recovered(image, DBRecoveryMode.tolerate_corrupted_tail_records())


def test_absolute_consistency_refuses_a_torn_tail(image: Path) -> None:
    change_wal(image, lambda content: content[:-10])
    with pytest.raises(Exception, match="Corruption"):
        recovered(image, DBRecoveryMode.absolute_consistency())
    assert recovered(image, DBRecoveryMode.point_in_time()) == 99


def test_tolerating_tails_refuses_pages_that_came_out_of_order(image: Path) -> None:
    """A power cut leaves holes of zeros in what was not synced; log_recovery must not stop the node for them."""
    change_wal(image, lambda content: content[:45_056] + bytes(4096) + content[49_152:])
    with pytest.raises(Exception, match="Corruption"):
        recovered(image, DBRecoveryMode.tolerate_corrupted_tail_records())
    assert 80 < recovered(image, DBRecoveryMode.point_in_time()) < 90


def test_tolerating_tails_drops_synced_records_behind_a_flipped_length(image: Path) -> None:
    record = 7 + 12 + 1 + 1 + 3 + 2 + 500
    last = next(image.glob("*.log")).stat().st_size - record
    change_wal(image, flip(last + 5))
    assert recovered(image, DBRecoveryMode.tolerate_corrupted_tail_records()) == 99
