"""zattctl as a user types it."""

from __future__ import annotations

import os
import subprocess
import sys

from tests.support.cluster import REPOSITORY

COMMAND = [sys.executable, "-m", "zattredis.cli.zattctl"]
ENVIRONMENT = {key: value for key, value in os.environ.items() if not key.startswith("ZATTREDIS_")} | {
    "PYTHONPATH": str(REPOSITORY)
}


def zattctl(*words: object, code: int = 0, given: str = "") -> str:
    """Run zattctl and return what it printed: standard output, with standard error where it is to fail.

    `given` is what it reads from standard input.
    """
    done = subprocess.run(
        [*COMMAND, *map(str, words)], input=given, capture_output=True, text=True, timeout=120, env=ENVIRONMENT,
        check=False,
    )  # fmt: skip
    assert done.returncode == code, f"{words}: {done.returncode}\n{done.stdout}{done.stderr}"
    assert "Traceback" not in done.stderr
    return done.stdout if code == 0 else done.stdout + done.stderr
