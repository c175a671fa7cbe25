"""The time that a leader gives a read, next to entries that are not committed yet."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from zattredis.raft.entry import BATCH, CONFIG, NOOP, make_entry
from zattredis.server.driver import Driver


@pytest.mark.parametrize(
    ("uncommitted", "expected"),
    [([], 1000), ([(CONFIG, 900)], 1000), ([(NOOP, 900), (BATCH, 950)], 950), ([(BATCH, 950), (CONFIG, 950)], 950)],
)
def test_only_entries_that_execute_something_bound_the_time_of_a_read(
    uncommitted: list[tuple[int, int]], expected: int
) -> None:
    entries = [make_entry(2 + i, 1, kind, 1, stamp, b"") for i, (kind, stamp) in enumerate(uncommitted)]
    log = SimpleNamespace(slice=lambda low, high, bytes_max: entries[low - 2 : high - 2])
    core = SimpleNamespace(commit_index=1, last_index=1 + len(entries), log=log)
    driver = SimpleNamespace(core=core, _clock=SimpleNamespace(now_ms=lambda: 1000), _committed_stamp=900)
    assert Driver._read_time(cast(Any, driver), driver.core.commit_index) == expected
