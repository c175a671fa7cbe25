"""Upgrades: which state-machine version the leader writes into its entries (DESIGN §2, rolling upgrades).

Handlers branch on the version of the entry they apply, so that nodes of two builds compute the same from it. A build
knows all versions up to STATE_MACHINE_VERSION. Every node reports its own to the others; the leader writes the highest
that all members report, and never a lower one than the state has seen: until the last node is upgraded, everything
stays as the oldest build knows it, and from then on older builds have no way back. A node that meets a version that it
does not know ends with one line, and so does one that finds it in its state.

Version 1 is all that was there before the first release. What writes and came later says so (`@command(version=…)`, or
a branch on `ctx.version`); a test holds the list of the commands of each version.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

from zattredis.commands.table import INTERNAL, all_specs
from zattredis.errors import FatalError
from zattredis.keyspace.reader import Reader
from zattredis.server.clock import monotonic

if TYPE_CHECKING:
    from zattredis.server.node import Node

BEHAVIOUR_VERSION: Final = 1
"""The highest version that anything in this build branches on."""
STATE_MACHINE_VERSION: Final = max(
    BEHAVIOUR_VERSION, *(spec.version for spec in (*all_specs(), *INTERNAL.values()) if not spec.module)
)
"""The highest version that this build knows: that, or the one that its newest command came with."""
FIRST_VERSION: Final = 1
"""What a state that says nothing has seen, and a node that reports nothing knows."""
VERSION_KEY: Final = b"mversion"
FRESH_S: Final = 3.0
"""A report that is older says nothing any more: that node may have gone back to an older build."""

_VERSION: Final = struct.Struct(">Q")


def encode_version(version: int) -> bytes:
    """Return the value for VERSION_KEY."""
    return _VERSION.pack(version)


def load_version(reader: Reader, known: int = STATE_MACHINE_VERSION) -> int:
    """Return the highest version the state has seen. Raises FatalError where this build does not know it."""
    raw = reader.get(VERSION_KEY)
    version = FIRST_VERSION if raw is None else int(_VERSION.unpack(raw)[0])
    check_version(version, "the state", known)
    return version


def check_version(version: int, what: str, known: int = STATE_MACHINE_VERSION) -> None:
    """Raise FatalError unless this build knows the version that `what` needs."""
    if version > known:
        raise FatalError(
            f"{what} needs state-machine version {version}, this build knows {known}: install the newer zattredis on "
            "this node"
        )


def version_to_write(node: Node, known: int = STATE_MACHINE_VERSION) -> int:
    """Return the version that this node, as the leader, is to write from now on."""
    seen = node.applier.machine_version
    if seen >= known:
        return seen
    now = monotonic()
    for node_id in node.core.membership.members:
        if node_id != node.core.node_id:
            status = node.housekeeping.members.get(node_id)
            fresh = status is not None and now - status.heard_at <= FRESH_S
            known = min(known, status.machine_version if status is not None and fresh else FIRST_VERSION)
    return max(seen, known)
