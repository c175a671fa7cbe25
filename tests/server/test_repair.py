"""A damaged node is filled again from the others where that is safe, and else stops with everything untouched."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from zattredis.config import Settings, make_settings
from zattredis.errors import (
    DataDirectoryMismatch,
    FatalError,
    IdentityLost,
    LogLost,
    StateDamaged,
    StateDiverged,
    StorageFailed,
)
from zattredis.raft.membership import Membership, simple_membership
from zattredis.server import repair
from zattredis.server.node import Node
from zattredis.server.rejoin import must_wait
from zattredis.server.repair import open_or_repair, sources
from zattredis.storage.datadir import read_identity
from zattredis.storage.repair import SET_ASIDE, noted_damage, remember_members

TRIO = {"n1": "127.0.0.1:7001@17001", "n2": "127.0.0.1:7002@17002", "n3": "127.0.0.1:7003@17003"}
AGREED = simple_membership({**TRIO, "n4": "127.0.0.1:7004@17004"}).encode()


def settings_in(path: Path, members: dict[str, str] = TRIO) -> Settings:
    return make_settings(node_id="n1", cluster=",".join(f"{i}={a}" for i, a in members.items()), dir=str(path))


def begun(path: Path, members: dict[str, str] = TRIO) -> Settings:
    settings = settings_in(path, members)
    asyncio.run(open_or_repair(settings, "c1", simple_membership(members).encode())).close()
    return settings


class Others:
    """Stands for the other nodes, which agree or do not."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, cluster_id: str = "c1") -> None:
        self.asked: list[Settings] = []
        self.work = True
        self.cluster_id = cluster_id
        monkeypatch.setattr(repair, "join", self._join)

    async def _join(self, settings: Settings, tls: Any) -> tuple[str, bytes]:
        self.asked.append(settings)
        while not self.work:
            await asyncio.sleep(3600)
        return self.cluster_id, AGREED


@pytest.fixture
def others(monkeypatch: pytest.MonkeyPatch) -> Others:
    return Others(monkeypatch)


def contents(path: Path) -> dict[str, Any]:
    return {str(p.relative_to(path)): p.read_bytes() for p in path.rglob("*") if p.is_file() and p.name != "lock"}


def lose_log(path: Path) -> None:
    for file in (path / "log").iterdir():
        file.unlink()
    (path / "log").rmdir()


def test_a_damaged_log_is_set_aside_and_the_node_owes_its_vote(tmp_path: Path, others: Others) -> None:
    settings = begun(tmp_path)
    lose_log(tmp_path)
    data = asyncio.run(open_or_repair(settings, "c1", b"unused"))
    assert [str(seed) for seed in others.asked[0].join] == [TRIO["n2"], TRIO["n3"]]
    assert Membership.decode(data.log.membership).members == ("n1", "n2", "n3", "n4"), "as the others know it"
    data.close()
    assert must_wait(tmp_path)


def test_nothing_is_touched_before_the_others_agree(tmp_path: Path, others: Others) -> None:
    settings = begun(tmp_path)
    lose_log(tmp_path)
    before = contents(tmp_path)
    others.work = False

    async def wait() -> None:
        opening = asyncio.create_task(open_or_repair(settings, "c1", b"unused"))
        while not others.asked and not opening.done():
            await asyncio.sleep(0)
        assert not opening.done()
        opening.cancel()
        await asyncio.wait([opening])

    asyncio.run(wait())
    assert contents(tmp_path) == before


def test_others_of_another_cluster_repair_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Others(monkeypatch, cluster_id="c2")
    settings = begun(tmp_path)
    lose_log(tmp_path)
    before = contents(tmp_path)
    with pytest.raises(DataDirectoryMismatch, match="another cluster"):
        asyncio.run(open_or_repair(settings, "c1", b"unused"))
    assert contents(tmp_path) == before


@pytest.mark.parametrize("size", [1, 2])
def test_where_the_others_are_no_majority_the_node_stops(tmp_path: Path, others: Others, size: int) -> None:
    members = dict(list(TRIO.items())[:size])
    settings = begun(tmp_path, members)
    lose_log(tmp_path)
    before = contents(tmp_path)
    with pytest.raises(LogLost):
        asyncio.run(open_or_repair(settings, "c1", b"unused"))
    assert others.asked == []
    assert contents(tmp_path) == before


def test_who_was_remembered_counts_not_who_was_there_first(tmp_path: Path) -> None:
    alone = settings_in(tmp_path, {"n1": TRIO["n1"]})
    assert sources(alone, tmp_path) == ()
    remember_members(tmp_path, tuple(TRIO), TRIO)
    assert [str(seed) for seed in sources(alone, tmp_path)] == [TRIO["n2"], TRIO["n3"]]
    remember_members(tmp_path, ("n1",), TRIO)
    assert sources(settings_in(tmp_path), tmp_path) == (), "learners do not make a majority"


def test_what_was_noted_while_the_node_ran_is_repaired_at_the_next_start(tmp_path: Path, others: Others) -> None:
    settings = begun(tmp_path)
    repair.note(tmp_path, StorageFailed("the disk is full"))
    assert noted_damage(tmp_path) is None, "a copy would not heal that"
    repair.note(tmp_path, StateDamaged("a block"))
    asyncio.run(open_or_repair(settings, "c1", b"unused")).close()
    assert len(others.asked) == 1
    assert noted_damage(tmp_path) is None
    assert not list((tmp_path / "set-aside").glob("state-*"))
    repair.note(tmp_path, StateDiverged("differs"))
    (tmp_path / "rejoining").unlink()
    asyncio.run(open_or_repair(settings, "c1", b"unused")).close()
    assert list((tmp_path / "set-aside").glob("state-*")), "what differed is kept for whoever looks into it"


def test_a_note_does_not_keep_a_node_on_its_own_from_starting(tmp_path: Path, others: Others) -> None:
    settings = begun(tmp_path, {"n1": TRIO["n1"]})
    repair.note(tmp_path, StateDamaged("a block"))
    asyncio.run(open_or_repair(settings, "c1", b"unused")).close()
    assert others.asked == []


def _only_members_left(path: Path) -> None:
    remember_members(path, tuple(TRIO), TRIO)
    lose_log(path)
    for name in ("node.json", "VERSION", "log.marks"):
        (path / name).unlink()


IDENTITY_DAMAGES: dict[str, Callable[[Path], object]] = {
    "node_json_vanished": lambda path: (path / "node.json").unlink(),
    "node_json_empty": lambda path: (path / "node.json").write_bytes(b""),
    "node_json_garbage": lambda path: (path / "node.json").write_bytes(b"\xff\x00{"),
    "version_vanished": lambda path: (path / "VERSION").unlink(),
    "version_empty": lambda path: (path / "VERSION").write_bytes(b""),
    "version_garbage": lambda path: (path / "VERSION").write_bytes(b"\xff\x00"),
    "both_vanished": lambda path: [(path / name).unlink() for name in ("node.json", "VERSION")],
    "little_left": _only_members_left,
}


@pytest.mark.parametrize("damage", IDENTITY_DAMAGES)
def test_a_directory_that_says_no_longer_whose_it_is(tmp_path: Path, others: Others, damage: str) -> None:
    settings = begun(tmp_path)
    IDENTITY_DAMAGES[damage](tmp_path)
    data = asyncio.run(open_or_repair(settings, "c1", b"unused"))
    assert len(others.asked) == 1
    assert data.identity.cluster_id == "c1"
    data.close()
    assert must_wait(tmp_path)
    assert read_identity(tmp_path) == data.identity
    assert any((tmp_path / SET_ASIDE).glob("state-*")), "nothing of it is deleted: it may be somebody else's after all"
    asyncio.run(open_or_repair(settings, "c1", b"unused")).close()
    assert len(others.asked) == 1


def test_a_directory_without_identity_is_left_alone_where_nobody_can_fill_it(tmp_path: Path, others: Others) -> None:
    members = {"n1": TRIO["n1"]}
    settings = begun(tmp_path, members)
    (tmp_path / "node.json").unlink()
    before = contents(tmp_path)
    with pytest.raises(IdentityLost, match="is missing from a data directory that was complete; nothing was changed"):
        asyncio.run(open_or_repair(settings, "c1", b"unused"))
    assert contents(tmp_path) == before


def test_a_newer_format_is_no_damage(tmp_path: Path, others: Others) -> None:
    settings = begun(tmp_path)
    (tmp_path / "VERSION").write_text("2\n")
    with pytest.raises(DataDirectoryMismatch, match="format version '2'"):
        asyncio.run(open_or_repair(settings, "c1", b"unused"))
    assert others.asked == []


def test_a_node_that_fails_while_it_waits_for_the_others_ends(tmp_path: Path, others: Others) -> None:
    settings = begun(tmp_path)
    lose_log(tmp_path)
    others.work = False

    async def run() -> None:
        node = Node(settings)
        starting = asyncio.create_task(node.start())
        while not others.asked:
            await asyncio.sleep(0)
        node.fail(ValueError("an impossible state"))
        with pytest.raises(FatalError, match="an impossible state"):
            await node.wait_stopped()
        starting.cancel()
        await asyncio.wait([starting])

    asyncio.run(run())
