"""Crash tests at every write: whatever happens to the WAL, what was synced is there or the log is refused."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.storage.conftest import OPTIONS, SMALL_MEMTABLES
from tests.storage.crashes import STEPS, Image, State, run_steps, state_of, wal_files
from zattredis.errors import LogDamaged, LogLost
from zattredis.storage.log_store import LogStore, marks_path

Damage = Callable[[bytes], bytes]


@pytest.fixture(scope="module")
def images(scratch: Callable[[], Path]) -> list[Image]:
    return run_steps(scratch())


def reopened(log_path: Path) -> State:
    log = LogStore.open(log_path, options=OPTIONS)
    try:
        return state_of(log)
    finally:
        log.close()


def assert_nothing_silently_lost(image: Image, log_path: Path, what: str) -> bool:
    """Open the damaged copy: an allowed state, or a refusal that changes nothing. Returns whether it opened."""
    before = {p.name: p.read_bytes() for p in wal_files(log_path)}
    try:
        state = reopened(log_path)
    except (LogLost, LogDamaged) as error:
        if "\n" in str(error):
            pytest.fail(f"not one line: {error}")
        assert {p.name: p.read_bytes() for p in wal_files(log_path)} == before, "a refused log was changed"
        return False
    assert state in image.allowed, f"after {image.step!r} and {what}: not a state from the last sync on"
    return True


def test_a_killed_process_loses_nothing(images: list[Image], tmp_path: Path) -> None:
    for image in images:
        assert reopened(image.copy(tmp_path / "copy")) == image.allowed[-1], image.step


def test_a_torn_unsynced_tail_is_cut_and_nothing_else(images: list[Image], tmp_path: Path) -> None:
    """What a power cut may do to writes that were not synced: cut anywhere, or pages of zeros in any place."""
    random_ = random.Random(1)
    tried = 0
    for image in images:
        wal = wal_files(image.directory / "log")[-1]
        content = wal.read_bytes()
        synced = image.synced_bytes.get(wal.name, 0)
        if len(content) == synced:
            continue
        cuts = {synced, len(content) - 1, *(random_.randrange(synced, len(content)) for _ in range(3))}
        torn = [content[:cut] for cut in cuts]
        torn += [content[:cut] + bytes(4096) for cut in cuts]
        page = (synced + 4095) // 4096 * 4096
        if page + 4096 < len(content):
            torn.append(content[:page] + bytes(4096) + content[page + 4096 :])
        at = random_.randrange(synced, len(content))
        torn.append(content[:at] + bytes(min(50, len(content) - at)) + content[at + 50 :])
        for number, damaged in enumerate(torn):
            log_path = image.copy(tmp_path / "copy")
            (log_path / wal.name).write_bytes(damaged)
            assert assert_nothing_silently_lost(image, log_path, f"torn {number}"), image.step
            tried += 1
    assert tried > 50


def test_cutting_flipping_or_losing_synced_bytes_is_noticed(images: list[Image], tmp_path: Path) -> None:
    random_ = random.Random(2)
    refused = 0
    for image in images:
        wal = wal_files(image.directory / "log")[-1]
        content = wal.read_bytes()
        synced = image.synced_bytes.get(wal.name, 0)
        places = {0, synced - 1, synced // 2, *(random_.randrange(synced) for _ in range(3))} if synced else set()
        for place in places:
            bit = 1 << random_.randrange(8)
            flipped = content[:place] + bytes([content[place] ^ bit]) + content[place + 1 :]
            zeroed = content[:place] + bytes(min(600, synced - place)) + content[place + 600 :]
            for what, damaged in (("cut", content[:place]), ("flip", flipped), ("zeros", zeroed)):
                log_path = image.copy(tmp_path / "copy")
                (log_path / wal.name).write_bytes(damaged)
                refused += not assert_nothing_silently_lost(image, log_path, f"{what} at {place} of {synced}")
    assert refused > 200


def test_a_vanished_wal_is_a_lost_log(images: list[Image], tmp_path: Path) -> None:
    for image in images:
        log_path = image.copy(tmp_path / "copy")
        for wal in wal_files(log_path):
            wal.unlink()
        with pytest.raises(LogLost):
            LogStore.open(log_path, options=OPTIONS)


@pytest.mark.parametrize("name", ["MANIFEST", "CURRENT"])
def test_a_vanished_catalogue_is_no_empty_log(images: list[Image], tmp_path: Path, name: str) -> None:
    log_path = images[-1].copy(tmp_path / "copy")
    for path in log_path.glob(f"{name}*"):
        path.unlink()
    with pytest.raises((LogDamaged, LogLost)) as caught:
        LogStore.open(log_path, options=OPTIONS)
    assert "\n" not in str(caught.value)


def test_an_older_log_under_newer_marks_is_lost(images: list[Image], tmp_path: Path) -> None:
    """Say, a copy of log/ put back by hand: it may lack entries and votes that were given away."""
    newest = images[-1]
    for image in images[:-3]:
        log_path = image.copy(tmp_path / "copy")
        marks_path(log_path).write_bytes(marks_path(newest.directory / "log").read_bytes())
        with pytest.raises(LogLost):
            LogStore.open(log_path, options=OPTIONS)


def test_stamps_in_the_wal_bear_witness_when_the_marks_are_behind(images: list[Image], tmp_path: Path) -> None:
    """After a power cut the marks may be older than the log; damage before a later write is noticed all the same."""
    first = next(i for i, image in enumerate(images) if image.step == "sync")
    sync = [i for i, image in enumerate(images) if image.step == "sync"]
    witnessed = images[sync[1] + 1]  # its last write says that the second sync was done
    wal = wal_files(witnessed.directory / "log")[-1]
    content = wal.read_bytes()
    start, end = images[sync[0]].synced_bytes[wal.name], images[sync[1]].synced_bytes[wal.name]
    for place in range(start, end, 7):
        log_path = witnessed.copy(tmp_path / "copy")
        marks_path(log_path).write_bytes(marks_path(images[first].directory / "log").read_bytes())
        (log_path / wal.name).write_bytes(content[:place] + bytes([content[place] ^ 4]) + content[place + 1 :])
        with pytest.raises((LogDamaged, LogLost)):
            LogStore.open(log_path, options=OPTIONS)


def test_a_power_cut_with_older_marks_and_a_torn_tail_loses_nothing(images: list[Image], tmp_path: Path) -> None:
    first = next(i for i, image in enumerate(images) if image.step == "sync")
    for image in images[first:]:
        log_path = image.copy(tmp_path / "copy")
        marks_path(log_path).write_bytes(marks_path(images[first].directory / "log").read_bytes())
        wal = wal_files(log_path)[-1]
        synced = image.synced_bytes.get(wal.name, 0)
        content = wal.read_bytes()
        wal.write_bytes(content[: synced + (len(content) - synced) // 2])
        assert reopened(log_path) in image.allowed


def test_recovery_is_repeatable(images: list[Image], tmp_path: Path) -> None:
    """Opening, dying at once and opening again changes nothing."""
    log_path = images[-1].copy(tmp_path / "copy")
    for _ in range(3):
        assert reopened(log_path) == images[-1].allowed[-1]


@pytest.fixture(scope="module")
def switching_images(scratch: Callable[[], Path]) -> list[Image]:
    """With small memtables: WAL files are switched, flushed, recycled; truncations and compactions lie across them."""
    steps: list[str] = []
    index = 0
    for term in range(1, 9):
        steps += [f"hard {term} n1", f"append {index + 1} {index + 1} {term} big"]
        steps += [f"append {index + 2} {index + 20} {term}", "sync"]
        steps += [f"append {index + 21} {index + 30} {term}", f"append {index + 19} {index + 22} {term}"]
        index += 22
        if term % 2 == 0:
            steps.append(f"compact {index - 25}")
    return run_steps(scratch(), tuple(steps), SMALL_MEMTABLES)


def test_every_write_survives_wal_switches_and_flushes(switching_images: list[Image], tmp_path: Path) -> None:
    assert len({p.name for image in switching_images for p in wal_files(image.directory / "log")}) > 5
    for image in switching_images:
        assert reopened(image.copy(tmp_path / "copy")) == image.allowed[-1], image.step


def test_damage_to_any_of_several_wal_files_is_noticed(switching_images: list[Image], tmp_path: Path) -> None:
    random_ = random.Random(3)
    refused = 0
    for image in switching_images[::3]:
        for wal in wal_files(image.directory / "log"):
            content = wal.read_bytes()
            if not content:
                continue
            place = random_.randrange(len(content))
            flipped = content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]
            for what, damaged in (("loss", None), ("cut", content[:place]), ("flip", flipped), ("emptying", b"")):
                log_path = image.copy(tmp_path / "copy")
                if damaged is None:
                    (log_path / wal.name).unlink()
                else:
                    (log_path / wal.name).write_bytes(damaged)
                refused += not assert_nothing_silently_lost(image, log_path, f"{what} of {wal.name} at {place}")
    assert refused > 8


def test_the_script_covers_every_kind_of_write() -> None:
    assert {step.split()[0] for step in STEPS} == {"hard", "append", "sync", "compact", "switch"}
