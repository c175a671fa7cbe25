"""The data directory: whose it is, one user at a time, a bootstrap that may die anywhere, and nothing made up."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import re
import shutil
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest

from tests.storage.conftest import OPTIONS, all_entries, changes, entries
from zattredis.errors import (
    DataDirectoryBusy,
    DataDirectoryMismatch,
    LogDamaged,
    LogLost,
    SnapshotDamaged,
    StateDamaged,
    StorageError,
    StorageFailed,
)
from zattredis.raft.ready import HardState
from zattredis.server import offline
from zattredis.storage import datadir
from zattredis.storage.datadir import DataDirectory, Identity, open_data_directory
from zattredis.storage.log_store import LogStore
from zattredis.storage.snapshots import SnapshotSink, SnapshotSource, create_snapshot
from zattredis.storage.state_store import Applied, StateStore


def opened(path: Path, **other: Any) -> DataDirectory:
    wanted = {"node_id": "n1", "cluster_id": "c1", "incarnation": "i1", "membership": b"members", "options": OPTIONS}
    return open_data_directory(path, **{**wanted, **other})


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data"


def contents(path: Path) -> dict[str, bytes]:
    """Return all files but the lock, whose pid changes, and RocksDB's own notes about who opened it."""
    found = (p for p in path.rglob("*") if p.is_file() and p.name not in ("lock", "LOCK") and "LOG" not in p.name)
    read: dict[str, bytes] = {}
    for p in found:
        with contextlib.suppress(FileNotFoundError):  # purged by its holder just now
            read[str(p.relative_to(path))] = p.read_bytes()
    return read


PURGED = re.compile(r"state-\d+/(MANIFEST-\d+|\d+\.log)")
"""What RocksDB's own thread takes away a moment after it opened a database: the files of the time before."""


def refused(path: Path, error: type[StorageError], match: str, *, held: bool = False, **other: Any) -> None:
    """Opening must fail with one clear line and change nothing; but the holder of the directory may still tidy up."""
    before = contents(path)
    with pytest.raises(error, match=match) as caught:
        opened(path, **other)
    assert "\n" not in str(caught.value)
    after = contents(path)
    if held:
        before = {name: data for name, data in before.items() if name in after or not PURGED.fullmatch(name)}
    assert after == before


def test_a_new_directory_is_private_and_empty(path: Path) -> None:
    data = opened(path / "deeper")
    assert data.identity == Identity("n1", "c1", "i1")
    assert (data.log.last_index, data.log.membership) == (0, b"members")
    assert (data.state.applied, data.state.membership) == (Applied(0, 0), b"members")
    assert data.free_bytes() > 0
    data.close()
    data.close()
    assert (path / "deeper").stat().st_mode & 0o777 == 0o700
    assert sorted(p.name for p in (path / "deeper").iterdir()) == [
        "VERSION", "lock", "log", "log.marks", "node.json", "state-0",
    ]  # fmt: skip


def test_every_directory_that_is_made_is_durable(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[Path] = []
    monkeypatch.setattr(datadir, "fsync_directory", synced.append)
    opened(path / "several" / "levels" / "deep").close()
    for made in (path / "several" / "levels" / "deep", path / "several" / "levels", path / "several", path):
        assert made.parent in synced, made


def test_so_is_that_of_a_restore(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[Path] = []
    monkeypatch.setattr(datadir, "fsync_directory", synced.append)
    os.close(offline._Target(path / "above" / "restored", "n1", "state-0").lock)
    assert {path / "above", path} <= set(synced)


def test_a_link_that_leads_nowhere_is_told(path: Path, tmp_path: Path) -> None:
    path.symlink_to(tmp_path / "volume")
    for directory in (path, path / "data"):
        with pytest.raises(DataDirectoryMismatch, match=r"leads to .*volume, which is not there"):
            opened(directory)
    assert not (tmp_path / "volume").exists()


def test_a_second_opening_keeps_identity_and_content(path: Path) -> None:
    data = opened(path)
    data.log.append(entries(1, 3), HardState(1, "n1", 0))
    data.log.sync()
    data.state.write(changes(2, a=b"b"))
    data.close()
    data = opened(path, incarnation="another", membership=b"another")
    assert data.identity == Identity("n1", "c1", "i1")
    assert data.log.membership == b"members"
    assert all_entries(data.log) == entries(1, 3)
    assert data.state.applied == Applied(2, 1)
    data.close()


def test_a_directory_that_is_in_use_names_the_process(path: Path) -> None:
    data = opened(path)
    refused(path, DataDirectoryBusy, f"in use by process {os.getpid()}$", held=True)
    data.close()
    opened(path).close()


def hold(path: Path, pipe: Connection) -> None:
    opened(path)
    pipe.send("ready")
    pipe.recv()


def test_another_process_is_named_and_its_death_frees_the_directory(path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=hold, args=(path, theirs))
    process.start()
    try:
        assert ours.recv() == "ready"
        refused(path, DataDirectoryBusy, f"in use by process {process.pid}$", held=True)
    finally:
        process.kill()
        process.join()
    opened(path).close()


def test_another_node_cluster_or_format_is_refused(path: Path) -> None:
    opened(path).close()
    refused(path, DataDirectoryMismatch, "belongs to node 'n1', not to 'n2'", node_id="n2")
    refused(path, DataDirectoryMismatch, "belongs to cluster 'c1', not to 'c2'", cluster_id="c2")
    (path / "VERSION").write_text("99\n")
    refused(path, DataDirectoryMismatch, "format version '99'")
    (path / "VERSION").unlink()
    refused(path, DataDirectoryMismatch, "VERSION is missing")


@pytest.mark.parametrize("content", ["", "{}", "[1]", '{"node_id": "n1"}', "\0"])
def test_an_unreadable_identity_is_refused(path: Path, content: str) -> None:
    opened(path).close()
    (path / "node.json").write_text(content)
    refused(path, DataDirectoryMismatch, "node.json cannot be read")


def test_a_missing_identity_is_not_made_up(path: Path) -> None:
    opened(path).close()
    (path / "node.json").unlink()
    refused(path, DataDirectoryMismatch, "node.json is missing")


def test_a_directory_of_somebody_else_is_left_alone(path: Path) -> None:
    path.mkdir()
    (path / "thesis.tex").write_text("years of work")
    refused(path, DataDirectoryMismatch, "not a data directory")
    assert [p.name for p in path.iterdir()] == ["thesis.tex"]


def test_a_file_is_no_directory(path: Path) -> None:
    path.write_text("a file")
    with pytest.raises(DataDirectoryMismatch, match="is not a directory"):
        opened(path)


def test_a_directory_below_a_file_is_one_clear_line(path: Path) -> None:
    path.write_text("a file")
    with pytest.raises(StorageFailed, match=r"cannot use data directory .*: Not a directory"):
        opened(path / "data")


def open_as_nobody(path: Path, pipe: Connection) -> None:
    if os.getuid() == 0:
        os.setgid(65534)
        os.setuid(65534)
    try:
        opened(path)
    except StorageError as error:
        pipe.send((type(error).__name__, str(error)))
    else:
        pipe.send(None)


def test_a_directory_that_may_not_be_read_is_one_clear_line(path: Path) -> None:
    opened(path).close()
    if os.getuid() != 0:
        path.chmod(0)
    for parent in path.parents[:2]:
        parent.chmod(parent.stat().st_mode | 0o055)
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe()
    process = context.Process(target=open_as_nobody, args=(path, theirs))
    process.start()
    name, text = ours.recv()
    process.join()
    path.chmod(0o700)
    assert name == "StorageFailed"
    assert text.endswith("Permission denied")
    assert str(path) in text or str(path.parent) in text


@pytest.mark.parametrize(
    ("name", "error"),
    [("log", LogLost), ("log.marks", LogLost), ("state-0", StateDamaged)],
    ids=["log", "marks", "state"],
)
def test_what_has_vanished_is_never_created_again(path: Path, name: str, error: type[StorageError]) -> None:
    opened(path).close()
    gone = path / name
    if gone.is_dir():
        shutil.rmtree(gone)
    else:
        gone.unlink()
    with pytest.raises(error) as caught:
        opened(path)
    assert "\n" not in str(caught.value)
    assert not gone.exists()


def test_a_refused_directory_keeps_states_that_nothing_names(path: Path) -> None:
    """Say, log/ was put back from a copy that is older than the last snapshot: the newer state may be all there is."""
    opened(path).close()
    (path / "state-0").rename(path / "state-50")
    with pytest.raises(StateDamaged):
        opened(path)
    assert (path / "state-50" / "CURRENT").exists()


def test_another_nodes_marks_are_noticed(path: Path, tmp_path: Path) -> None:
    opened(path).close()
    opened(tmp_path / "other").close()
    shutil.copy(tmp_path / "other" / "log.marks", path / "log.marks")
    with pytest.raises(LogDamaged, match="another one"):
        opened(path)


def test_a_state_ahead_of_its_log_is_a_lost_log(path: Path) -> None:
    data = opened(path)
    data.log.append(entries(1, 3), None)
    data.state.write(changes(4))
    data.close()
    with pytest.raises(LogLost, match="state holds entry 4, but the log ends with 3"):
        opened(path)


def test_a_state_behind_its_log_is_damage(path: Path) -> None:
    data = opened(path)
    data.log.append(entries(1, 9), None)
    data.state.write(changes(4))
    data.log.compact(6, 1)
    data.close()
    with pytest.raises(StateDamaged, match="state ends with entry 4, but the log begins with 6"):
        opened(path)


def test_a_state_of_another_history_is_damage(path: Path) -> None:
    data = opened(path)
    data.log.append(entries(1, 9, 3), None)
    data.state.write(changes(4))
    data.close()
    with pytest.raises(StateDamaged, match="term 1 in the state and of 3 in the log"):
        opened(path)


# -- bootstrap that dies anywhere -----------------------------------------------------------------------------------


class Died(BaseException):
    """The process dies here."""


class Executioner:
    """Lets a process die before or after its n-th step."""

    def __init__(self, at: int) -> None:
        self.left = at

    def watch(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def watched(*args: Any, **kwargs: Any) -> Any:
            self.step()
            result = function(*args, **kwargs)
            self.step()
            return result

        return watched

    def step(self) -> None:
        self.left -= 1
        if self.left == 0:
            raise Died


def test_a_bootstrap_that_died_anywhere_is_done_at_the_next_start(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    at = 0
    died = True
    while died:
        at += 1
        executioner = Executioner(at)
        with monkeypatch.context() as patch:
            for owner, name in (
                (datadir, "_ensure_directory"),
                (datadir, "write_file"),
                (datadir.os, "replace"),
                (datadir.os, "open"),
                (datadir, "fsync_directory"),
                (datadir.Path, "unlink"),
            ):
                patch.setattr(owner, name, executioner.watch(getattr(owner, name)))
            for owner in (StateStore, LogStore):
                patch.setattr(owner, "create", staticmethod(executioner.watch(owner.create)))
            try:
                opened(path, incarnation="first").close()
                died = False
            except Died:
                pass
        data = opened(path, incarnation="second")
        assert data.identity.incarnation in ("first", "second")
        assert (data.log.last_index, data.state.applied) == (0, Applied(0, 0))
        data.log.append(entries(1, 1), None)
        data.log.sync()
        data.close()
        data = opened(path)
        assert data.log.last_index == 1
        assert not list(path.glob("*.new"))
        assert not (path / "bootstrapping").exists()
        data.close()
        shutil.rmtree(path)
    assert at > 20


# -- snapshots that become the state ---------------------------------------------------------------------------------


@pytest.fixture
def snapshot(tmp_path: Path) -> SnapshotSource:
    store = StateStore.create(tmp_path / "leader", membership=b"later members", options=OPTIONS)
    store.write(changes(50, key=b"of the leader"))
    made = SnapshotSource(create_snapshot(store, tmp_path / "made"), tmp_path / "made")
    store.close()
    return made


def receive(data: DataDirectory, snapshot: SnapshotSource) -> Path:
    target = data.incoming_path(snapshot.manifest.index)
    sink = SnapshotSink(target)
    for chunk in snapshot.chunks(sink.begin(snapshot.manifest), 1000):
        sink.write(chunk)
    sink.finish()
    return target


def test_an_installed_snapshot_is_the_state(path: Path, snapshot: SnapshotSource) -> None:
    data = opened(path)
    data.log.append(entries(1, 10), HardState(1, None, 0))
    old = data.state
    reader = old.frozen()
    data.install(receive(data, snapshot), 50, 1, snapshot.manifest.membership)
    for _ in range(2):
        assert (data.log.first_index, data.log.last_index, data.log.term(50)) == (51, 50, 1)
        assert data.log.membership == b"later members"
        assert data.state.applied == Applied(50, 1)
        assert data.state.get(b"key") == b"of the leader"
        data.close()
        assert [p.name for p in path.glob("state-*")] == ["state-50"]
        data = opened(path)
    with pytest.raises(StorageFailed, match="closed"):
        reader.get(b"key")
    data.close()


def test_what_earlier_transfers_have_left_is_taken_away_but_never_what_is_in_use(
    path: Path, snapshot: SnapshotSource
) -> None:
    data = opened(path)
    for name in ("state-40", "state-41"):
        (path / name).mkdir()
        (path / name / "000007.sst").write_bytes(b"some of it")
    target = receive(data, snapshot)
    data.wait_discarded()
    aside = data.take_leftovers(target)
    assert sorted(p.name for p in path.glob("state-*")) == ["state-0", "state-50"]
    # A transfer that was broken off deletes what it set aside for long: others come to be under the same names.
    (path / "state-40").mkdir()
    data.install(target, 50, 1, snapshot.manifest.membership)
    for left in aside:
        assert [p.name for p in left.iterdir()] == ["000007.sst"]
        shutil.rmtree(left)
    assert (path / "state-40").exists()
    data.wait_discarded()
    assert len(data.take_leftovers(data.incoming_path(60))) == 1
    assert [p.name for p in path.glob("state-*")] == ["state-50"]
    assert data.state.get(b"key") == b"of the leader"
    data.close()
    opened(path).close()
    assert sorted(p.name for p in path.iterdir() if p.name.startswith("s")) == ["state-50"]


def test_a_snapshot_of_another_entry_changes_nothing(path: Path, snapshot: SnapshotSource) -> None:
    data = opened(path)
    target = receive(data, snapshot)
    with pytest.raises(StateDamaged, match=r"holds the state of entry 50 \(term 1\), not 51"):
        data.install(target, 51, 1, b"")
    with pytest.raises(StateDamaged, match="no state directory"):
        data.install(snapshot.path, 50, 1, b"")
    assert (data.log.last_index, data.state.applied) == (0, Applied(0, 0))
    with pytest.raises(SnapshotDamaged, match="began with"):
        data.incoming_path(0)  # receiving deletes what is there
    data.close()


def test_a_crash_around_the_switch_leaves_the_old_or_the_new_state(
    path: Path, snapshot: SnapshotSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before the one synced write the old state counts, after it the new one; the other is deleted at the start."""
    data = opened(path)
    data.log.append(entries(1, 10), None)
    data.state.write(changes(3, key=b"of the follower"))
    target = receive(data, snapshot)
    data.state.flush()
    data.log.sync()
    before = shutil.copytree(path, path.parent / "before")
    with monkeypatch.context() as patch:
        patch.setattr(datadir.shutil, "rmtree", lambda *_, **__: None)
        data.install(target, 50, 1, snapshot.manifest.membership)
        data.wait_discarded()
    after = shutil.copytree(path, path.parent / "after")
    data.close()
    for image, applied, name in ((before, Applied(3, 1), "state-0"), (after, Applied(50, 1), "state-50")):
        assert len(list(image.glob("state-*"))) == 2
        (image / "snapshot-7").mkdir()
        again = opened(image)
        assert again.state.applied == applied
        assert [p.name for p in image.iterdir() if p.name.startswith(("state-", "snapshot-"))] == [name]
        again.close()


class WatchedDatabase:
    """The log's database, which calls `after` behind every write."""

    def __init__(self, database: Any, after: Callable[[], None]) -> None:
        self._database = database
        self._after = after

    def write(self, batch: Any) -> None:
        self._database.write(batch)
        self._after()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._database, name)


def test_a_process_killed_behind_any_write_of_the_switch_leaves_the_old_or_the_new_state(
    path: Path, snapshot: SnapshotSource
) -> None:
    data = opened(path)
    data.log.append(entries(1, 10), None)
    data.state.write(changes(3))
    target = receive(data, snapshot)
    data.state.flush()
    images: list[Path] = []

    def after() -> None:
        target = path.parent / f"image-{len(images)}"
        while True:
            try:
                images.append(shutil.copytree(path, target))
                return
            except shutil.Error:  # RocksDB removed an obsolete file in the background: look again, nothing else moves
                shutil.rmtree(target)

    data.log._database = WatchedDatabase(data.log._database, after)  # type: ignore[assignment]
    data.install(target, 50, 1, snapshot.manifest.membership)
    data.close()
    assert images
    for image in images:
        again = opened(image)
        assert again.state.applied in (Applied(3, 1), Applied(50, 1))
        again.close()


def test_the_identity_is_plain_json(path: Path) -> None:
    opened(path).close()
    assert json.loads((path / "node.json").read_text()) == {"node_id": "n1", "cluster_id": "c1", "incarnation": "i1"}
