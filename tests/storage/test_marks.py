"""The file of marks: exact, survives a torn write, and never guesses."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from zattredis.errors import LogDamaged, LogLost, StorageFailed
from zattredis.storage.marks import Mark, Marks

NONCE = bytes(range(16))
MARKS = [Mark(2, 10, 1, "n1"), Mark(3, 12, 1, "n1"), Mark(4, 9, 2, None), Mark(5, 11, 3, ""), Mark(6, 12, 3, "n" * 254)]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "log.marks"


def test_marks_are_read_back(path: Path) -> None:
    marks = Marks.create(path, NONCE, Mark(1, 0, 0, None))
    for mark in MARKS:
        marks.write(mark)
        again = Marks.open(path)
        assert (again.mark, again.nonce) == (mark, NONCE)
        again.close()
        if mark.batch % 2:
            marks.sync()
    marks.close()
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_write_torn_at_any_byte_leaves_the_mark_that_was_synced(path: Path) -> None:
    marks = Marks.create(path, NONCE, Mark(1, 0, 0, None))
    for mark in MARKS[:3]:
        marks.write(mark)
        marks.sync()
    before = path.read_bytes()
    marks.write(MARKS[3])
    marks.write(MARKS[4])
    after = path.read_bytes()
    marks.close()
    changed = [i for i in range(len(before)) if before[i] != after[i]]
    for cut in range(changed[0], changed[-1] + 2):
        path.write_bytes(after[:cut] + before[cut:])
        again = Marks.open(path)
        assert again.mark in (MARKS[2], MARKS[4])
        again.close()


def test_the_slot_that_was_synced_is_not_written_before_the_other_one_is_synced(path: Path) -> None:
    marks = Marks.create(path, NONCE, Mark(1, 0, 0, None))
    marks.write(MARKS[0])
    marks.sync()
    synced = path.read_bytes()
    for mark in MARKS[1:]:
        marks.write(mark)
    now = path.read_bytes()
    assert sum(now[i : i + 4096] != synced[i : i + 4096] for i in (0, 4096, 8192)) == 1
    assert marks.synced == MARKS[0]
    marks.close()


def test_one_damaged_slot_is_survived_two_are_not(path: Path) -> None:
    marks = Marks.create(path, NONCE, Mark(1, 0, 0, None))
    marks.write(MARKS[0])
    marks.close()
    content = bytearray(path.read_bytes())
    for slot in (4096, 8192):
        damaged = bytearray(content)
        damaged[slot + 20] ^= 1
        path.write_bytes(damaged)
        again = Marks.open(path)
        assert again.mark in (MARKS[0], Mark(1, 0, 0, None))
        again.close()
    content[4096 + 20] ^= 1
    content[8192 + 20] ^= 1
    path.write_bytes(content)
    with pytest.raises(LogDamaged, match="damaged"):
        Marks.open(path)


@pytest.mark.parametrize("content", [b"", b"x" * 100, bytes(3 * 4096)])
def test_another_file_is_damage(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(LogDamaged):
        Marks.open(path)


def test_a_missing_file_is_a_lost_log_and_is_not_created(path: Path) -> None:
    with pytest.raises(LogLost, match="gone"):
        Marks.open(path)
    assert not path.exists()


def test_a_refused_sync_is_fatal(path: Path) -> None:
    marks = Marks.create(path, NONCE, Mark(1, 0, 0, None))
    os.close(marks._descriptor)
    marks.write(MARKS[0])
    with pytest.raises(StorageFailed, match="syncing"):
        marks.sync()
    assert marks.synced == Mark(1, 0, 0, None)
    marks._descriptor = -1


def test_a_node_id_that_does_not_fit_is_refused(path: Path) -> None:
    marks = Marks.create(path, NONCE, Mark(1, 0, 0, None))
    with pytest.raises(ValueError, match="node id"):
        marks.write(Mark(2, 0, 1, "n" * 255))
    marks.close()
