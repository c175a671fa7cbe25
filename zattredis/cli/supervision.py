"""Telling systemd how the service does: sd_notify's protocol, datagrams of NAME=value lines to $NOTIFY_SOCKET.

    READY=1       the node listens and has its data open. Not "there is a leader": systemd would end the first of three
                  nodes while it waits for the others. STATUS= tells who leads.
    STOPPING=1    it was told to stop
    WATCHDOG=1    the loop turns; sent twice within the time that WatchdogSec allows
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Mapping
from typing import Final

from zattredis.observability.events import get_logger

WATCHDOG_SHARE: Final = 0.4
"""Of the time after which systemd gives up: two may come late before it does."""

_log = get_logger()


class Supervisor:
    """Speaks to systemd, where the process runs as its `Type=notify` service; elsewhere every call does nothing."""

    __slots__ = ("_address", "_every_s", "_socket", "_timer")

    def __init__(self, environ: Mapping[str, str] | None = None) -> None:
        environ = os.environ if environ is None else environ
        self._address = _address(environ.get("NOTIFY_SOCKET", ""))
        self._every_s = _watchdog_s(environ) * WATCHDOG_SHARE if self._address else 0.0
        self._socket: socket.socket | None = None
        self._timer: asyncio.TimerHandle | None = None

    @property
    def present(self) -> bool:
        """Whether anybody listens."""
        return self._address is not None

    def ready(self) -> None:
        """The node serves; from now on the watchdog is fed."""
        self._send(f"READY=1\nMAINPID={os.getpid()}\nSTATUS=listening")
        if self._every_s:
            self._feed()

    def status(self, text: str) -> None:
        """Say in one line how it goes (`systemctl status` shows it)."""
        self._send(f"STATUS={text}")

    def stopping(self) -> None:
        """The node is stopping; the watchdog is fed until `close`."""
        self._send("STOPPING=1\nSTATUS=stopping")

    def close(self) -> None:
        """Say nothing more."""
        if self._timer is not None:
            self._timer.cancel()
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        self._address = None

    def _feed(self) -> None:
        self._send("WATCHDOG=1")
        self._timer = asyncio.get_running_loop().call_later(self._every_s, self._feed)

    def _send(self, text: str) -> None:
        """A supervisor that does not listen any more is no reason to stop serving."""
        if self._address is None:
            return
        try:
            if self._socket is None:
                self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
                self._socket.setblocking(False)
            self._socket.sendto(text.encode(), self._address)
        except OSError as error:
            _log.warning("systemd_not_told", what=text.partition("\n")[0], reason=error.strerror)


def _address(text: str) -> str | None:
    if not text.startswith(("/", "@")):
        return None
    return "\0" + text[1:] if text.startswith("@") else text


def _watchdog_s(environ: Mapping[str, str]) -> float:
    """Return the time after which systemd gives up a silent process, 0 where it waits for nothing of this one."""
    text, pid = environ.get("WATCHDOG_USEC", ""), environ.get("WATCHDOG_PID", "")
    if not text.isdigit() or (pid and pid != str(os.getpid())):
        return 0.0
    return int(text) / 1e6
