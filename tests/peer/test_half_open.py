"""A connection whose other end has vanished without a word, in a network namespace of this test's own."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]


def lacking() -> str | None:
    """What this machine lacks for the test."""
    for tool in ("unshare", "ip", "iptables"):
        if shutil.which(tool) is None:
            return f"{tool} is not installed"
    tried = subprocess.run(
        ["unshare", "--net", "sh", "-c", "ip link set lo up && iptables -A INPUT -p tcp --dport 1 -j DROP"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    return f"needs network namespaces: {tried.stderr.strip()}" if tried.returncode else None


def test_a_vanished_peer_is_noticed_and_found_again() -> None:
    reason = lacking()
    if reason is not None:
        pytest.skip(reason)
    command = ["unshare", "--net", sys.executable, "-m", "tests.peer.partition"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    seen = json.loads(next(line for line in done.stdout.splitlines() if line.startswith("{")))
    assert seen["links"] == [["n2", True], ["n2", False], ["n2", True]]
    assert seen["rounds"] == [3]
