"""What is shown while somebody waits for a new member: the snapshot's bytes, then the entries behind it."""

from __future__ import annotations

from typing import Any

import pytest

from zattredis.cli.ctl import progress
from zattredis.cli.ctl.catching_up import _Bars


def member(name: str, **fields: Any) -> dict[str, Any]:
    other = {"joining": "yes", "connected": "yes", "match_index": 0, "lag": 100}
    return {"id": name, **other, "snapshot_sent": -1, "snapshot_bytes": -1, **fields}


LEADER = member("n1", joining="no", match_index=100, lag=0)


def test_bytes_of_the_snapshots_then_entries_of_the_log(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress, "LINE_S", 0.0)
    bars = _Bars()
    bars.show([LEADER, member("n4", connected="no")])
    bars.show([LEADER, member("n4")])
    assert capsys.readouterr().err == "", "nothing is known yet"
    bars.show([LEADER, member("n4", snapshot_sent=1 << 20, snapshot_bytes=4 << 20)])
    assert capsys.readouterr().err.startswith("n4: snapshot: 1.0 MiB of 4.0 MiB, ")
    bars.show([LEADER, member("n4", match_index=10, lag=90)])
    bars.show([LEADER, member("n4", match_index=60, lag=40)])
    assert [line.split(", ")[0] for line in capsys.readouterr().err.splitlines()] == [
        "n4: log: 0 of about 90 entries", "n4: log: 50 of about 90 entries",
    ]  # fmt: skip
    both = [member(name, snapshot_sent=1 << 20, snapshot_bytes=4 << 20) for name in ("n4", "n5")]
    bars.show([LEADER, *both])
    assert capsys.readouterr().err.startswith("n4, n5: snapshot: 2.0 MiB of 8.0 MiB, ")
    bars.show([{**LEADER, "id": "n1"}])
    bars.end()
    bars.end()
    assert capsys.readouterr().err == ""


def test_a_node_of_an_older_version_tells_of_no_snapshot(capsys: pytest.CaptureFixture[str]) -> None:
    old = {name: value for name, value in member("n4").items() if not name.startswith("snapshot")}
    bars = _Bars()
    bars.show([LEADER, old])
    bars.end()
    assert capsys.readouterr().err == ""
