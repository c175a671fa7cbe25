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

LONG_FIRST = (
    "tests/redis_suite/test_redis_suite.py",
    "tests/benchmarks/test_smoke.py",
    "tests/docs/test_readme.py",
    "tests/cluster/test_larger_than_memory.py",
)
"""Modules with tests of half a minute and more: begun last, one of them would leave the other cores idle at the end."""

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
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: not item.nodeid.startswith(LONG_FIRST))


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
