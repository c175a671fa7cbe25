"""ACL LOG: what was denied on this node, the newest first. Bounded; repeated denials are counted, not listed."""

from __future__ import annotations

from collections import deque
from itertools import islice
from typing import Any, Final

from zattredis.commands.acl_rules import DENIED_AUTH, DENIED_CHANNEL, DENIED_COMMAND, DENIED_KEY

SAME_WITHIN_MS: Final = 60_000
_LOOKED_AT: Final = 10
OBJECT_BYTES_MAX: Final = 512
"""Of a key or channel that was denied; a client must not fill the memory with what it may not even do."""
_REASONS: Final = {
    DENIED_COMMAND: b"command", DENIED_KEY: b"key", DENIED_AUTH: b"auth", DENIED_CHANNEL: b"channel",
}  # fmt: skip


class _Entry:
    __slots__ = ("at_ms", "client_info", "context", "count", "object", "reason", "username")

    def __init__(self, reason: bytes, context: bytes, what: bytes, username: bytes) -> None:
        self.reason = reason
        self.context = context
        self.object = what
        self.username = username
        self.count = 0
        self.at_ms = 0
        self.client_info = b""

    def same(self, other: _Entry) -> bool:
        return (
            self.reason == other.reason
            and self.context == other.context
            and self.object == other.object
            and self.username == other.username
            and other.at_ms - self.at_ms <= SAME_WITHIN_MS
        )


class AclLog:
    """The entries; at most `max_len`."""

    __slots__ = ("_entries", "max_len")

    def __init__(self, max_len: int = 128) -> None:
        self.max_len = max_len
        self._entries: deque[_Entry] = deque()

    def resize(self, max_len: int) -> None:
        """Keep at most `max_len` entries from now on."""
        self.max_len = max_len
        self._trim()

    def add(self, denied: int, what: bytes, username: bytes, in_multi: bool, client_info: str, now_ms: int) -> None:
        """Remember that something was denied."""
        if len(what) > OBJECT_BYTES_MAX:
            what = what[:OBJECT_BYTES_MAX] + b"... (%d more bytes)" % (len(what) - OBJECT_BYTES_MAX)
        fresh = _Entry(_REASONS[denied], b"multi" if in_multi else b"toplevel", what, username[:OBJECT_BYTES_MAX])
        fresh.at_ms = now_ms
        entry = next((one for one in islice(self._entries, _LOOKED_AT) if one.same(fresh)), None)
        if entry is None:
            entry = fresh
        else:
            self._entries.remove(entry)
        entry.count += 1
        entry.at_ms = now_ms
        entry.client_info = client_info.encode("utf-8", "surrogateescape")
        self._entries.appendleft(entry)
        self._trim()

    def _trim(self) -> None:
        while len(self._entries) > self.max_len:
            self._entries.pop()

    def reset(self) -> None:
        """Forget all entries."""
        self._entries.clear()

    def shown(self, count: int, now_ms: int) -> list[dict[bytes, Any]]:
        """Return the newest `count` entries as ACL LOG shows them."""
        return [
            {
                b"count": entry.count,
                b"reason": entry.reason,
                b"context": entry.context,
                b"object": entry.object,
                b"username": entry.username,
                b"age-seconds": max(0, now_ms - entry.at_ms) / 1000,
                b"client-info": entry.client_info,
            }
            for entry in islice(self._entries, count)
        ]
