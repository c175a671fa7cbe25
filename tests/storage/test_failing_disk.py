"""Real processes on disks that fail: kill -9, refused writes and syncs, a full device, a power cut.

Always the same question: is everything there that the process said was durable?
"""

from __future__ import annotations

import contextlib
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.storage.conftest import SMALL_MEMTABLES, all_entries, changes
from tests.storage.writer import written
from tests.support.loop_disk import LoopDisk
from zattredis.errors import StorageFailed, WriteStalled
from zattredis.storage.log_store import LogStore, marks_path
from zattredis.storage.marks import Marks
from zattredis.storage.state_store import StateStore

REPOSITORY = Path(__file__).parents[2]

needs_strace = pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")


@dataclass
class Told:
    """What a writer has reported."""

    lines: list[str] = field(default_factory=list)

    @property
    def durable(self) -> tuple[int, int]:
        """The last index and term said to be durable."""
        found = [line.split() for line in self.lines if line.startswith("durable")]
        return (int(found[-1][1]), int(found[-1][2])) if found else (0, 0)

    def of(self, word: str) -> list[str]:
        return [line.removeprefix(word + " ") for line in self.lines if line.startswith(word)]


@pytest.fixture
def disk_path() -> Iterator[Path]:
    """A directory on a real disk, unlike `tmp_path` here."""
    with tempfile.TemporaryDirectory(prefix="zattredis-disk-") as path:
        yield Path(path)


def create(path: Path) -> Path:
    LogStore.create(path, state_directory="state-0", membership=b"m", options=SMALL_MEMTABLES).close()
    return path


def writer(log_path: Path, rounds: int, *prefix: str, compacts: str = "yes") -> subprocess.Popen[str]:
    command = [*prefix, sys.executable, "-m", "tests.storage.writer", str(log_path), str(rounds), compacts]
    return subprocess.Popen(
        command, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )


def read_all(process: subprocess.Popen[str], told: Told) -> None:
    assert process.stdout is not None
    told.lines += [line.rstrip("\n") for line in process.stdout]
    process.wait(60)


def assert_all_there(log_path: Path, told: Told) -> None:
    """Open the log: it holds what was said to be durable, and nothing that was never written."""
    log = LogStore.open(log_path, options=SMALL_MEMTABLES)
    try:
        index, term = told.durable
        assert log.last_index >= index
        assert log.hard_state.term >= term
        assert all_entries(log) == [written(i, log.term(i)) for i in range(log.first_index, log.last_index + 1)]
    finally:
        log.close()


def test_kill_9_at_any_time_loses_nothing(disk_path: Path) -> None:
    log_path = create(disk_path / "log")
    told = Told()
    random_ = random.Random(5)
    for _ in range(5):
        process = writer(log_path, 0)
        assert process.stdout is not None
        wanted = random_.randrange(1, 100)
        for line in process.stdout:
            told.lines.append(line.rstrip("\n"))
            if len(told.of("opened")) and line.startswith("durable") and (wanted := wanted - 1) <= 0:
                break
        process.kill()
        read_all(process, told)
        assert_all_there(log_path, told)
    assert told.durable[0] > 50


# -- refused system calls -------------------------------------------------------------------------------------------


def injected(log_path: Path, rounds: int, call: str, error: str, when: str, trace: Path) -> Told:
    """Run a writer whose `when`-th `call` fails with `error`."""
    told = Told()
    prefix = (
        "strace",
        "-f",
        "-qq",
        "-o",
        str(trace),
        "-e",
        f"trace={call}",
        "-e",
        f"inject={call}:error={error}:when={when}",
    )
    read_all(writer(log_path, rounds, *prefix), told)
    return told


@needs_strace
@pytest.mark.parametrize(
    ("call", "error", "calls"),
    [
        ("fdatasync", "EIO", (3, 9, 14)),
        ("fdatasync", "ENOSPC", (7, 12)),
        ("write", "ENOSPC", (5, 30, 60)),
    ],
)
def test_a_refused_write_or_sync_stops_the_writer_and_loses_nothing(
    disk_path: Path, call: str, error: str, calls: tuple[int, ...]
) -> None:
    """One call fails, the later ones would succeed: the writer must not go on as if that had been nothing."""
    stopped = 0
    base = create(disk_path / "log")
    read_all(writer(base, 5), Told())
    for when in calls:
        image = disk_path / f"image-{when}"
        image.mkdir()
        log_path = Path(shutil.copytree(base, image / "log"))
        shutil.copy(base.with_name("log.marks"), image / "log.marks")
        told = injected(log_path, 12, call, error, str(when), image / "trace")
        failed = told.of("failed") + told.of("refused")
        if "INJECTED" in (image / "trace").read_text():
            for line in failed:
                assert re.match(r"(StorageFailed|LogDamaged) .+", line)
            stopped += bool(failed)
            assert failed or told.lines[-1] in ("done",), told.lines[-5:]
        assert "SUCCEEDED AFTER A FAILURE" not in told.lines
        for line in told.of("again"):
            assert line == told.of("failed")[0].partition(" ")[2]
        assert_all_there(log_path, told)
    assert stopped >= 1


# -- a file system of its own ---------------------------------------------------------------------------------------


@pytest.fixture
def loop_disk(disk_path: Path) -> Iterator[LoopDisk]:
    if shutil.which("mkfs.ext4") is None:
        pytest.skip("mkfs.ext4 is not installed")
    try:
        disk = LoopDisk(disk_path, 48 << 20)
    except (subprocess.CalledProcessError, OSError):
        pytest.skip("needs loop devices and the right to mount them")
    yield disk
    with contextlib.suppress(subprocess.CalledProcessError):
        disk.unmount()


def test_a_power_cut_at_any_time_loses_nothing(loop_disk: LoopDisk) -> None:
    log_path = create(loop_disk.mount_point / "log")
    told = Told()
    random_ = random.Random(6)
    for _ in range(5):
        process = writer(log_path, 0)
        assert process.stdout is not None
        wanted = random_.randrange(1, 100)
        for line in process.stdout:
            told.lines.append(line.rstrip("\n"))
            if line.startswith("durable") and (wanted := wanted - 1) <= 0:
                break
        try:
            loop_disk.cut_power()
        except OSError:
            process.kill()
            read_all(process, told)
            pytest.skip("needs a kernel with the shutdown call of ext4")
        os.killpg(process.pid, signal.SIGKILL)
        # What it says after the cut does not count: ext4 lets syncs under way succeed once its journal is stopped, and
        # in a power cut nobody would be left to believe it.
        read_all(process, Told())
        loop_disk.remount()
        marks = Marks.open(marks_path(log_path))
        marks.close()
        assert marks.mark.term >= told.durable[1]
        assert_all_there(log_path, told)
    assert told.durable[0] > 50


def test_a_full_device_stops_the_writer_and_loses_nothing(loop_disk: LoopDisk) -> None:
    log_path = create(loop_disk.mount_point / "log")
    filler = loop_disk.mount_point / "filler"
    with filler.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, shutil.disk_usage(loop_disk.mount_point).free - (2 << 20))
    told = Told()
    read_all(writer(log_path, 100_000, compacts="no"), told)
    assert re.match(r"StorageFailed .*No space left on device", told.of("failed")[0])
    assert "SUCCEEDED AFTER A FAILURE" not in told.lines
    filler.unlink()
    assert_all_there(log_path, told)


def test_a_full_device_stops_the_state_instead_of_stalling_it(loop_disk: LoopDisk) -> None:
    """A flush that fails for want of room must not look like a stall, which an applier would wait out for ever."""
    store = StateStore.create(loop_disk.mount_point / "state", membership=b"m", options=SMALL_MEMTABLES)
    with (loop_disk.mount_point / "filler").open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, shutil.disk_usage(loop_disk.mount_point).free - (1 << 20))
    with pytest.raises(StorageFailed, match="No space left on device"):
        write_for_ever(store)
    with pytest.raises(StorageFailed, match="No space left on device"):
        store.flush()
    assert store.get(b"k0001") == bytes(2000)
    store.close()


def write_for_ever(store: StateStore) -> None:
    number = 0
    while True:
        number += 1
        with contextlib.suppress(WriteStalled):
            store.write(
                {
                    b"k%04d" % (number % 10_000): bytes(2000),
                    b"n%04d" % (number % 10_000): os.urandom(2000),
                    **changes(number),
                }
            )
