"""How outcomes of Redis's suite are judged."""

from __future__ import annotations

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
    verdict = judge(run, {"meant": "because", "mended": "no longer"}, {"get", "set"})
    assert verdict.passed == 2
    assert verdict.not_applicable == 1
    assert [each.name for each in verdict.later] == ["needs lists", "between tests"]
    assert [each.name for each in verdict.listed] == ["meant"]
    assert [each.name for each in verdict.unexpected] == ["fault", "stuck"]
    assert verdict.stale == ["mended"]


def test_unknown_command_that_the_server_has_is_a_fault() -> None:
    run = UnitRun("unit/x", [outcome("needs lists", "err", UNKNOWN)])
    assert judge(run, {}, {"lpush"}).unexpected == run.outcomes
