"""SIGHUP: read the settings file and the certificates again, put in force what can be, and say what needs a restart.

What counts is what has changed since the sources were read last. So a value that was set by CONFIG SET stays, unless
the file says something new about that very setting; flags and environment still win over the file, as at the start.
Each part stands for itself: a certificate that cannot be used does not keep the settings from being read, and what
could not be done is one line in the log, never the end of the node.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from zattredis.config import SETTINGS, Settings
from zattredis.config.load import check_settings
from zattredis.errors import ConfigError, ReplyError
from zattredis.observability.events import get_logger

if TYPE_CHECKING:
    from zattredis.server.node import Node

_log = get_logger(room="reload")


class Reloading:
    """One per node. `reread()` returns the settings as flags, environment and file give them now."""

    __slots__ = ("_node", "_read", "_reread", "hooks")

    def __init__(self, node: Node, reread: Callable[[], Settings] | None) -> None:
        self._node = node
        self._reread = reread
        self._read = node.settings if reread is None else reread()  # as given, not as this machine allows
        self.hooks: dict[str, Callable[[], str | None]] = {}
        """What else is read again, by a name for the log; a ZattredisError is logged and changes nothing.

        Each returns why it was not read, "" for nothing that need be told, or None: it was read.
        """

    def reload(self) -> None:
        """Do it now, on the loop: the files are small."""
        try:
            changed, restart = self._settings()
        except (ConfigError, ReplyError) as error:
            _log.error("settings_not_reloaded", error=str(error), hint="what was in force still is")
        else:
            if restart:
                _log.warning("restart_needed", settings=restart)
            _log.info("settings_reloaded", changed=changed)
        try:
            renewed = self._node.security.reload()
        except ConfigError as error:
            _log.error("certificates_not_reloaded", error=str(error), hint="those in force still are")
        else:
            _log.info("certificates_reloaded", changed=renewed)
        for name, hook in self.hooks.items():
            try:
                left = hook()
            except (ConfigError, ReplyError) as error:
                _log.error("not_reloaded", what=name, error=str(error), hint="what was in force still is")
            else:
                if left is None:
                    _log.info("reloaded", what=name)
                elif left:
                    _log.warning("not_reloaded", what=name, hint=left)

    def _settings(self) -> tuple[list[str], list[str]]:
        """Return the names of what was put in force and of what needs a restart. Raises ConfigError or ReplyError."""
        if self._reread is None:
            return [], []
        read = self._reread()
        current = self._node.services.settings
        values: dict[str, Any] = {}
        restart = []
        for name, spec in SETTINGS.items():
            value = getattr(read, name)
            if value == getattr(self._read, name):
                continue
            if not spec.hot:
                restart.append(name)
            elif value != getattr(current.settings, name):
                values[name] = value
        sources = {**current.settings.sources, **{name: read.source(name) for name in values}}
        changed = dataclasses.replace(current.settings, **values, sources=sources)
        check_settings(changed)
        current.replace(changed)
        # What needs a restart is told again at each reload until there was one.
        kept = {name: getattr(self._read, name) for name in restart}
        self._read = dataclasses.replace(read, **kept)
        return sorted(values), restart
