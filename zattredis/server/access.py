"""Who may come in: one user, `default`, with the password of the setting `requirepass` or none."""

from __future__ import annotations

import hmac
from typing import Protocol

from zattredis.server.clients import DEFAULT_USER


class _HasPassword(Protocol):
    @property
    def requirepass(self) -> bytes: ...


class Access:
    """Checks passwords against the settings as they are at that moment."""

    __slots__ = ("_settings",)

    def __init__(self, settings: _HasPassword) -> None:
        self._settings = settings

    @property
    def password_required(self) -> bool:
        """Whether a new connection has to authenticate."""
        return bool(self._settings.requirepass)

    def authenticate(self, user: bytes, password: bytes) -> bool:
        """Return whether the password is the user's; in a time that tells nothing of where it differs."""
        wanted = self._settings.requirepass
        return user == DEFAULT_USER and (not wanted or hmac.compare_digest(wanted, password))
