"""How outcomes of Redis's suite are judged."""

from __future__ import annotations

import subprocess
import sys
from subprocess import PIPE

import pytest

from tests.redis_suite import suite
from tests.redis_suite.suite import Outcome, UnitRun, judge

UNKNOWN = "ERR unknown command 'lpush', with args beginning with: 'k' 'v' \n    while executing"


def outcome(name: str, status: str, details: str = "") -> Outcome:
    return Outcome("unit/x", name, status, details=details)


def test_outcomes_are_sorted_into_what_matters() -> None:
    run = UnitRun("unit/x", [
        outcome("good", "ok"),
        outcome("not for us", "ignore"),
        outcome("needs lists", "err", UNKNOWN),
        outcome("between tests", "outside", UNKNOWN),
        outcome("meant", "err", "Expected 1"),
        outcome("fault", "err", "Expected 2"),
        outcome("stuck", "hang"),
        outcome("mended", "ok"),
    ])  # fmt: skip
    exceptions = {"meant": "because", "mended": "no longer", "misspelt": "because", "spoils": "not run: the others"}
    verdict = judge(run, exceptions, {"get", "set"})
    assert verdict.passed == 2
    assert verdict.not_applicable == 1
    assert [each.name for each in verdict.later] == ["needs lists", "between tests"]
    assert [each.name for each in verdict.listed] == ["meant"]
    assert [each.name for each in verdict.unexpected] == ["fault", "stuck"]
    assert verdict.stale == ["mended", "misspelt"]


def test_unknown_command_that_the_server_has_is_a_fault() -> None:
    run = UnitRun("unit/x", [outcome("needs lists", "err", UNKNOWN)])
    assert judge(run, {}, {"lpush"}).unexpected == run.outcomes


@pytest.mark.parametrize("works", [True, False])
def test_silence_is_a_hang_only_when_nothing_is_done(works: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    process = subprocess.Popen([sys.executable, "-c", "input(); print('there')"], stdin=PIPE, stdout=PIPE)
    assert process.stdin is not None and process.stdout is not None
    looks: list[int] = []

    def ticks(_pid: int) -> int:
        looks.append(len(looks) if works else 0)
        if len(looks) == 5:  # silent for three periods by now
            process.stdin.write(b"\n")
            process.stdin.flush()
        return looks[-1]

    monkeypatch.setattr(suite, "processor_ticks", ticks)
    try:
        if works:
            assert list(suite._lines(process, 0.05)) == ["there"]
        else:
            with pytest.raises(TimeoutError):
                list(suite._lines(process, 0.05))
    finally:
        process.stdin.close()
        process.kill()
        process.wait()
        process.stdout.close()
