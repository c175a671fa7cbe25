"""Where nothing may be skipped, a skip fails the run, unless the machine forces it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

CASES = {
    "in_a_test": "import pytest\ndef test():\n    pytest.skip('redis-server is not installed')\n",
    "by_a_mark": "import pytest\n@pytest.mark.skipif(True, reason='strace is not installed')\ndef test(): ...\n",
    "of_a_module": "import pytest\npytest.skip('npm is missing', allow_module_level=True)\n",
    "in_a_fixture": "import pytest\n@pytest.fixture\ndef it(): pytest.skip('no tclsh')\ndef test(it): ...\n",
}


def run(directory: Path, text: str, no_skips: bool) -> subprocess.CompletedProcess[str]:
    shutil.copy(Path(__file__).parent / "conftest.py", directory / "conftest.py")
    (directory / "test_it.py").write_text(text + "def test_well(): ...\n")
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("ZATTREDIS_", "PYTEST_"))}
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(directory), str(directory)],
        cwd=directory, env={**clean, "ZATTREDIS_TEST_NO_SKIPS": "1"} if no_skips else clean, capture_output=True,
        text=True, check=False,
    )  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_a_skip_fails_only_where_nothing_may_be_skipped(case: str, tmp_path: Path) -> None:
    assert run(tmp_path, CASES[case], no_skips=False).returncode == (5 if case == "of_a_module" else 0)
    done = run(tmp_path, CASES[case], no_skips=True)
    assert done.returncode != 0
    assert "skipped where nothing may be skipped" in done.stdout


def test_what_the_machine_forces_and_expected_failures_stay(tmp_path: Path) -> None:
    text = (
        "import pytest\ndef test_a(): pytest.skip('needs a Docker engine')\n"
        "@pytest.mark.xfail(reason='known')\ndef test_b(): assert False\n"
    )
    done = run(tmp_path, text, no_skips=True)
    assert done.returncode == 0, done.stdout
    assert "1 passed, 1 skipped, 1 xfailed" in done.stdout
