"""What a data directory remembers for its repair, and what a repair that is cut short anywhere leaves."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from zattredis.raft.entry import NOOP, make_entry
from zattredis.raft.ready import HardState
from zattredis.storage import repair
from zattredis.storage.datadir import DataDirectory, open_data_directory
from zattredis.storage.log_store import LogStore
from zattredis.storage.repair import REJOINING, SET_ASIDE


def opened(path: Path, incarnation: str = "i1", anew: bool = False, keep_state: bool = False) -> DataDirectory:
    return open_data_directory(
        path, node_id="n1", cluster_id="c1", incarnation=incarnation, membership=incarnation.encode(), anew=anew,
        keep_state=keep_state,
    )  # fmt: skip


def used(path: Path) -> None:
    with_log = opened(path)
    with_log.log.append([make_entry(1, 1, NOOP, 1, 1000, b"")], HardState(3, "n2", 0))
    with_log.log.sync()
    with_log.close()


@pytest.mark.parametrize("keep_state", [False, True])
def test_a_directory_begun_anew_is_empty_owes_its_votes_and_keeps_the_old_log(tmp_path: Path, keep_state: bool) -> None:
    used(tmp_path / "d")
    repair.note_damage(tmp_path / "d", "a reason", keep_state=keep_state)
    assert repair.noted_damage(tmp_path / "d") == ("a reason", keep_state)
    data = opened(tmp_path / "d", "i2", anew=True, keep_state=keep_state)
    assert (data.log.last_index, data.log.hard_state, data.state.applied.index) == (0, HardState(), 0)
    assert data.log.membership == b"i2"
    assert data.identity.incarnation == "i2"
    data.close()
    assert (tmp_path / "d" / REJOINING).exists()
    assert repair.noted_damage(tmp_path / "d") is None
    aside = {path.name for path in (tmp_path / "d" / SET_ASIDE).iterdir()}
    assert aside == {"log", "log.marks"} | ({"state-0"} if keep_state else set())
    assert opened(tmp_path / "d").identity.incarnation == "i2", "it is an ordinary directory again"


class _Cut(BaseException):
    pass


def test_cut_short_anywhere_the_next_repair_ends_it_and_the_log_of_before_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each call that changes the directory is, in turn, the last one."""
    calls = 0

    def counting(function: object) -> object:
        def call(*arguments: object, **rest: object) -> object:
            nonlocal calls
            if calls == 0:
                raise _Cut
            calls -= 1
            return function(*arguments, **rest)  # type: ignore[operator]

        return call

    finished = False
    for last in range(60):
        directory = tmp_path / str(last)
        used(directory)
        with monkeypatch.context() as patched:
            calls = last
            for owner, name in (
                (Path, "touch"), (Path, "mkdir"), (Path, "rename"), (Path, "unlink"), (repair.shutil, "rmtree"),
                (repair.os, "replace"), (repair.os, "fsync"),
            ):  # fmt: skip
                patched.setattr(owner, name, counting(getattr(owner, name)))
            try:
                opened(directory, "i2", anew=True).close()
                finished = True
            except _Cut:
                pass
        if not (directory / "log" / "CURRENT").exists():
            assert (directory / REJOINING).exists(), last
        data = opened(directory, "i3", anew=True)
        assert data.log.last_index == 0
        data.close()
        assert (directory / REJOINING).exists()
        kept = LogStore.open(directory / SET_ASIDE / "log")
        assert kept.last_index == 1, f"cut before call {last}: the log of before is gone"
        kept.close()
        if finished:
            break
    assert finished


def test_the_log_of_the_first_repair_is_kept_until_the_node_has_caught_up(tmp_path: Path) -> None:
    used(tmp_path)
    opened(tmp_path, "i2", anew=True).close()
    first = sorted(path.name for path in (tmp_path / SET_ASIDE / "log").iterdir())
    opened(tmp_path, "i3", anew=True).close()
    assert sorted(path.name for path in (tmp_path / SET_ASIDE / "log").iterdir()) == first
    (tmp_path / REJOINING).unlink()  # it may vote again: what it has now is as good as any
    marker = tmp_path / "log" / "marker"
    marker.touch()
    opened(tmp_path, "i4", anew=True).close()
    assert (tmp_path / SET_ASIDE / "log" / "marker").exists()


def test_members_are_remembered_and_nothing_unreadable_is_believed(tmp_path: Path) -> None:
    assert repair.remembered_members(tmp_path) is None
    repair.remember_members(tmp_path, ("n1", "n2"), {"n1": "h:1@2", "n2": "h:3@4"})
    found = repair.remembered_members(tmp_path)
    assert found is not None
    assert (found.voters, found.addresses) == (("n1", "n2"), {"n1": "h:1@2", "n2": "h:3@4"})
    for content in (b"", b"{", b"[]", json.dumps({"voters": 3, "addresses": {}}).encode(), b"\xff"):
        (tmp_path / "members").write_bytes(content)
        assert repair.remembered_members(tmp_path) is None
    (tmp_path / "damaged").write_bytes(b"{")
    assert repair.noted_damage(tmp_path) == ("what was noted as damaged can no longer be read", False)
