"""A real redis-server 7.0 for tests that compare with it."""

from __future__ import annotations

import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path

import pytest

from tests.support.ports import free_port

WANTED = "7.0."
_START_TIMEOUT_S = 60.0


def missing_reason() -> str | None:
    """Return why no redis-server can be compared with on this machine, None if one can."""
    path = shutil.which("redis-server")
    if path is None:
        return "needs redis-server 7.0 (Debian 12's package redis-server)"
    version = subprocess.run([path, "--version"], capture_output=True, text=True, check=True).stdout
    if f"v={WANTED}" not in version:
        return f"needs redis-server 7.0, this one says {version.split()[2]}"
    return None


class RedisServer:
    """A redis-server in a directory of its own, without persistence; a context manager.

    Entering skips the test where there is none of the wanted version.
    """

    def __init__(self, *options: str) -> None:
        self._directory = tempfile.TemporaryDirectory(prefix="zattredis-redis-")
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None
        self.port = 0

    def __enter__(self) -> RedisServer:
        if reason := missing_reason():
            pytest.skip(reason)
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start and wait until it answers. Raises RuntimeError with its output when it does not."""
        for _ in range(5):
            self.port = free_port()
            output = Path(self._directory.name) / "output"
            with output.open("wb") as file:
                self._process = subprocess.Popen(
                    [
                        "redis-server", "--port", str(self.port), "--bind", "127.0.0.1", "--save", "",
                        "--appendonly", "no", "--enable-debug-command", "yes", "--dir", self._directory.name,
                        *self._options,
                    ],
                    stdout=file, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
                )  # fmt: skip
            if self._answers():
                return
            self.stop_process()
        raise RuntimeError(f"redis-server does not answer: {output.read_text(errors='replace')}")

    def _answers(self) -> bool:
        assert self._process is not None
        deadline = time.monotonic() + _START_TIMEOUT_S
        while time.monotonic() < deadline and self._process.poll() is None:
            try:
                with socket.create_connection(("127.0.0.1", self.port), timeout=5) as connection:
                    connection.sendall(b"PING\r\n")
                    if connection.recv(7) in (b"+PONG\r\n", b"-NOAUTH"):
                        return True
            except OSError:
                time.sleep(0.02)
        return False

    def stop_process(self) -> None:
        """End the process that `start` began."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def stop(self) -> None:
        """End the process and remove its directory."""
        self.stop_process()
        self._directory.cleanup()
