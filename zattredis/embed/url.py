"""URLs for Redis clients."""

from __future__ import annotations

from urllib.parse import quote

from zattredis.config import Settings, bracketed


def url_of(settings: Settings) -> str:
    """Return `redis://host:port/0` of a node, with the password that its clients have to give."""
    password = f":{quote(settings.requirepass, safe='')}@" if settings.requirepass else ""
    return f"redis://{password}{bracketed(settings.host)}:{settings.port}/0"
