"""Every deliberate fault is noticed by its catcher, which finds nothing without the fault."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.mutants.catalogue import MUTANTS, Mutant
from tests.mutants.catchers import REPOSITORY, Catcher, Scripted
from tests.mutants.edits import Edit, applied

CONTRIBUTING = Path(__file__).parents[2] / "CONTRIBUTING.md"


def notice(mutant: Mutant, catcher: Catcher) -> None:
    with applied(mutant.edits):
        found = catcher.run(mutant.name)
    assert found is not None, f"{catcher} does not notice: {mutant.breaks}"
    if not isinstance(catcher, Scripted):
        control = catcher.run("", found.runs)
        assert control is None, f"{catcher} fails without the fault, too: {control}"


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_noticed(mutant: Mutant) -> None:
    notice(mutant, mutant.catcher)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("mutant", "catcher"), [(m, catcher) for m in MUTANTS for catcher in m.others], ids=lambda value: str(
        value.name if isinstance(value, Mutant) else value
    )
)  # fmt: skip
def test_noticed_by_others(mutant: Mutant, catcher: Catcher) -> None:
    notice(mutant, catcher)


def test_scripted_catchers_pass_without_a_fault(request: pytest.FixtureRequest) -> None:
    tests = {c.test for m in MUTANTS for c in (m.catcher, *m.others) if isinstance(c, Scripted)}
    # What is a part of this very run speaks for itself.
    tests -= {item.nodeid.partition("[")[0] for item in request.session.items}
    if not tests:
        return
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-n", "0", *sorted(tests)]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_a_mutant_that_fits_no_more_says_so() -> None:
    where = "zattredis.raft.quorum:has_quorum"
    with pytest.raises(LookupError, match="out of date"), applied([Edit(where, "no such line", "")]):
        pass


def test_what_is_put_in_is_taken_out() -> None:
    codes = []
    for mutant in MUTANTS:
        with applied(mutant.edits):
            codes.append(mutant.name)
        with applied(mutant.edits):  # would not fit if the first had left something
            pass
    assert len(set(codes)) == len(MUTANTS) >= 40


def test_contributing_lists_every_mutant() -> None:
    text = CONTRIBUTING.read_text()
    missing = [mutant.name for mutant in MUTANTS if f"| `{mutant.name}` |" not in text]
    assert not missing, f"renew the table of CONTRIBUTING.md by python -m tests.mutants --table: {missing}"
