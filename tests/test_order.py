"""The long tests come first, divided among the workers, and none is lost."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from tests.conftest import LONGEST_S, longest_first


@dataclass(frozen=True)
class Item:
    nodeid: str


@pytest.mark.parametrize("workers", [1, 2, 3, 8])
@pytest.mark.parametrize("short", [0, 5, 3000])
def test_each_worker_begins_with_its_part_of_the_long_ones(workers: int, short: int) -> None:
    items: list[Any] = [Item(f"tests/a/test_a.py::test_{number}") for number in range(short)]
    items += [Item(name if "::" in name else f"{name}::test_{number}") for name in LONGEST_S for number in range(2)]
    ordered: list[Any] = longest_first(items, workers)
    assert sorted(item.nodeid for item in ordered) == sorted(item.nodeid for item in items)
    if short < 3000:
        return
    begun, seconds = 0, []
    for number in range(workers):
        share = (len(items) - begun) // (workers - number)  # as pytest-xdist's WorkStealingScheduling cuts it
        names = [item.nodeid.partition("::test_")[0] for item in ordered[begun : begun + share]]
        names = [name if name in LONGEST_S else item.nodeid for name, item in zip(names, ordered[begun:], strict=False)]
        long = [name in LONGEST_S for name in names]
        assert long == sorted(long, reverse=True)
        seconds.append(sum(LONGEST_S[name] for name in set(names) & LONGEST_S.keys()))
        begun += share
    assert sum(seconds) == sum(LONGEST_S.values())
    assert max(seconds) <= max(*LONGEST_S.values(), sum(seconds) // workers + min(LONGEST_S.values()) + 10)


def test_what_is_listed_exists(request: pytest.FixtureRequest) -> None:
    root = request.config.rootpath
    missing = [name for name in LONGEST_S if not (root / name.partition("::")[0]).is_file()]
    assert missing == []
