"""A program that is killed cannot tidy up; the next one that starts a server does."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from zattredis.embed.scratch import Scratch, sweep

KILLED = """
import os, signal
from zattredis.embed.scratch import Scratch
made = Scratch()
(made.path / "data").mkdir()
print(made.path, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture(autouse=True)
def _own_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)


def test_what_a_killed_program_left_is_removed_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "zattredis-of-somebody").mkdir()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / ".owner").touch()
    (tmp_path / "zattredis-link").symlink_to(elsewhere)
    living = Scratch()
    done = subprocess.run([sys.executable, "-c", KILLED], env={**os.environ, "TMPDIR": str(tmp_path)},
                          capture_output=True, text=True, check=False)  # fmt: skip
    left = Path(done.stdout.strip())
    assert left.parent == tmp_path and left.exists()
    with_lock = Scratch()
    assert not left.exists()
    assert living.path.exists() and with_lock.path.exists()
    assert (tmp_path / "zattredis-of-somebody").exists() and (elsewhere / ".owner").exists()
    for made in (living, with_lock):
        made.remove()
        assert not made.path.exists()
    sweep()
