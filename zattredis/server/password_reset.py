"""A lost password: who may write into a node's data directory may give the user `default` another one.

Users are agreed on by the cluster, so no setting and no single node can change them behind its back; and without a
password nobody can ask. What remains is whom the machine itself trusts: `zattctl reset-password DIR` leaves the digest
of the new password in the data directory, which is its owner's alone (0700). The node finds it there, running or at its
next start, puts the change into the log like any ACL SETUSER, and removes the file once that is applied. So all nodes
agree, and each log says that it happened.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

from zattredis.commands.acl_rules import canonical_rules
from zattredis.keyspace.users import DEFAULT_USER
from zattredis.observability.events import get_logger
from zattredis.server.clock import monotonic
from zattredis.server.units import Errand

if TYPE_CHECKING:
    from zattredis.server.node import Node

REQUEST: Final = "reset-password"
"""Name of the file in the data directory: the SHA-256 of the new password, in hexadecimal."""
LOOK_S: Final = 1.0
_DIGITS: Final = frozenset("0123456789abcdef")

_log = get_logger(room="access")


def rules_for(digest: str) -> list[bytes]:
    """Return what `default` is made of: everything permitted, to whoever has the password of this digest."""
    return canonical_rules([b"reset", b"on", b"#" + digest.encode(), b"allkeys", b"allchannels", b"allcommands"])


class PasswordReset:
    """One per node. `tick` looks for a request now and then."""

    __slots__ = ("_looked_at", "_node", "_path", "_under_way")

    def __init__(self, node: Node, directory: Path) -> None:
        self._node = node
        self._path = directory / REQUEST
        self._looked_at = 0.0
        self._under_way = False

    def tick(self) -> None:
        """Called once a tick."""
        now = monotonic()
        if self._under_way or now - self._looked_at < LOOK_S:
            return
        self._looked_at = now
        if self._path.exists():
            self._take()

    def _take(self) -> None:
        try:
            digest = self._path.read_text("ascii").strip()
        except (OSError, UnicodeDecodeError) as error:
            _log.error("password_not_reset", error=str(error))
            return
        if len(digest) != 64 or not _DIGITS.issuperset(digest):
            _log.error("password_not_reset", error=f"{REQUEST} holds no SHA-256; use zattctl reset-password")
            self._remove()
            return
        self._under_way = True
        node = self._node
        base = node.services.access.base()
        node.proposals.send(Errand(0, [b"ACL", b"SETUSER", DEFAULT_USER, base, *rules_for(digest)], self._done))
        node.schedule()

    def _done(self, errand: Errand, reply: bytes) -> None:
        self._under_way = False
        if not errand.executed:
            _log.warning("password_not_reset_yet", reason=reply.decode("utf-8", "replace").strip())
            return
        self._remove()
        _log.warning("password_reset", user="default", hint="by a file in this node's data directory")

    def _remove(self) -> None:
        with contextlib.suppress(OSError):
            os.unlink(self._path)
