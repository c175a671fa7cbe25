"""For the whole suite: the longest tests first, no time limits for properties, servers that start from bytecode, and
where nothing may be skipped (CI), a skip is a failure.

ZATTREDIS_TEST_NO_SKIPS=1 turns the latter on, but for skips that the machine forces. What a machine can lack for good
is listed in MACHINE_FORCED; everything else can be installed, and .ci/run does install it.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
import tempfile
from collections.abc import Generator

import pytest
from hypothesis import HealthCheck, settings

# Hypothesis fails what takes it long, which says something of the machine and nothing of the program. (In CI it does
# not do so by itself.)
settings.register_profile(
    "untimed", settings.get_profile(settings.get_current_profile_name()),
    deadline=None, suppress_health_check=[HealthCheck.too_slow],
)  # fmt: skip
settings.load_profile("untimed")

MACHINE_FORCED = (
    r"needs a Docker engine",
    r"needs network namespaces",
    r"network namespaces (need root|do not work here)",
    r"needs loop devices",
    r"needs a kernel with",
    r"needs a tmpfs at",
    r"no control group with a memory limit",
    r"needs \d+ cores",
    r"needs the history of the repository",
)
"""Beginnings of the reasons of skips that no installation could cure."""

_UNIT = "tests/redis_suite/test_redis_suite.py::test_unit[unit/"
LONGEST_S = {
    "tests/docs/test_readme.py": 250,
    f"{_UNIT}hyperloglog]": 150,
    f"{_UNIT}type/list-3]": 95,
    f"{_UNIT}type/zset]": 90,
    f"{_UNIT}type/list-2]": 80,
    "tests/chaos/test_chaos.py": 95,
    "tests/benchmarks/test_smoke.py": 65,
    f"{_UNIT}geo]": 65,
    f"{_UNIT}type/set]": 55,
    f"{_UNIT}scan]": 50,
    f"{_UNIT}sort]": 50,
    "tests/cluster/test_larger_than_memory.py": 40,
    "tests/mutants/test_mutants.py::test_noticed[write_overtakes_a_read]": 30,
    "tests/cluster/test_membership_churn.py": 25,
    f"{_UNIT}type/string]": 25,
    f"{_UNIT}type/list]": 20,
    f"{_UNIT}type/hash]": 20,
    f"{_UNIT}other]": 20,
}
"""Modules and tests with the seconds that they take. Begun last, one of them would leave the other cores idle at the
end: so they come first, divided among the workers."""

NO_SKIPS = os.environ.get("ZATTREDIS_TEST_NO_SKIPS") == "1"


def skip_reason(report: pytest.TestReport | pytest.CollectReport) -> str | None:
    """Return why this was skipped, or None if it was not (an expected failure is no skip)."""
    if not report.skipped or hasattr(report, "wasxfail"):
        return None
    text = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    return text.removeprefix("Skipped: ")


def refuse_skip(report: pytest.TestReport | pytest.CollectReport) -> None:
    """Make a failure of a skip that nothing forces."""
    reason = skip_reason(report)
    if reason is None or any(re.match(pattern, reason) for pattern in MACHINE_FORCED):
        return
    report.outcome = "failed"
    report.longrepr = f"skipped where nothing may be skipped (ZATTREDIS_TEST_NO_SKIPS=1): {reason}"


BYTECODE = pytest.StashKey[str]()


def pytest_configure(config: pytest.Config) -> None:
    """Where Python is told to write no bytecode, write it to a directory of this run.

    Hundreds of processes are started from this source tree; each would compile all of it anew, which takes it longer
    than everything else that it does to start. pytest-xdist's workers inherit what the first process sets.
    """
    if sys.dont_write_bytecode and "PYTHONPYCACHEPREFIX" not in os.environ:
        config.stash[BYTECODE] = tempfile.mkdtemp(prefix="zattredis-bytecode-")
        os.environ["PYTHONPYCACHEPREFIX"] = sys.pycache_prefix = config.stash[BYTECODE]
        os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # `python -B` sets none
        sys.dont_write_bytecode = False


def pytest_unconfigure(config: pytest.Config) -> None:
    if directory := config.stash.get(BYTECODE, None):
        shutil.rmtree(directory, ignore_errors=True)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    workers: int = getattr(config, "workerinput", {}).get("workercount", 1)
    items[:] = longest_first(items, workers)


def longest_first(items: list[pytest.Item], workers: int) -> list[pytest.Item]:
    """Return the items in another order: each worker's share, as `--dist worksteal` cuts them, begins with long ones.

    Every worker has to come to the same order: the number of workers is all that it may depend on.
    """
    long: dict[str, list[pytest.Item]] = {}
    rest: list[pytest.Item] = []
    for item in items:
        name = next(filter(item.nodeid.startswith, LONGEST_S), None)
        (rest if name is None else long.setdefault(name, [])).append(item)
    piles: list[list[pytest.Item]] = [[] for _ in range(workers)]
    seconds = [0] * workers
    for name in sorted(long, key=LONGEST_S.__getitem__, reverse=True):
        least = seconds.index(min(seconds))
        piles[least] += long[name]
        seconds[least] += LONGEST_S[name]
    ordered: list[pytest.Item] = []
    for number, pile in enumerate(piles):
        share = (len(items) - len(ordered)) // (workers - number)
        others = max(0, share - len(pile))
        ordered += pile + rest[:others]
        del rest[:others]
    return ordered + rest


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if NO_SKIPS:
        refuse_skip(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    if NO_SKIPS:
        refuse_skip(report)
    return report
