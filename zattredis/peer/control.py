"""What the links themselves say: handshakes and snapshot streams. Wire numbers 128 to 191.

These are no messages between nodes (they carry no src, dst and term): the connection they travel on has two ends.
Field positions and numbers are never reused; new fields go to the end with a default. The handshake's own shape is
kept for good, so that nodes of any two versions can tell each other why they do not fit.
"""

from __future__ import annotations

import enum
from typing import Final

import msgspec


class Purpose(enum.IntEnum):
    """What a connection is for."""

    MESSAGES = 1
    SNAPSHOT = 2
    JOIN = 3
    """A node that knows neither the cluster nor whom it has reached: cluster id and target of its Hello are empty."""


class Control(msgspec.Struct, array_like=True, gc=False, frozen=True):
    """Common to all."""


class Hello(Control, array_like=True, gc=False, frozen=True):
    """First frame of whoever connects: who it is, whom it looks for, what it speaks."""

    cluster_id: str
    node_id: str
    incarnation: str
    target: str
    purpose: int
    version_min: int
    version_max: int
    nonce: bytes


class Challenge(Control, array_like=True, gc=False, frozen=True):
    """The answer: who was found, in which version to go on, and whether a secret has to be proved."""

    node_id: str
    incarnation: str
    version: int
    secret_wanted: bool
    nonce: bytes


class Proof(Control, array_like=True, gc=False, frozen=True):
    """The connecting side's proof of the secret; empty when there is none."""

    mac: bytes


class Accepted(Control, array_like=True, gc=False, frozen=True):
    """The listening side's proof; the connection may be used."""

    mac: bytes


class Refused(Control, array_like=True, gc=False, frozen=True):
    """Why not; the last frame of a connection, from either side."""

    reason: str


class TurnedAway(Control, array_like=True, gc=False, frozen=True):
    """Listening side, after the handshake: the connecting node was removed from the cluster, for good."""

    reason: str


class SnapshotBegin(Control, array_like=True, gc=False, frozen=True):
    """Sender: this is what I would send."""

    manifest: bytes


class SnapshotPosition(Control, array_like=True, gc=False, frozen=True):
    """Receiver: everything before this is written; the first one says where to begin. Repeated as a sign of life."""

    file: int
    offset: int


class SnapshotChunk(Control, array_like=True, gc=False, frozen=True):
    """Sender: a piece of file number `file`, with the CRC-32 of its bytes."""

    file: int
    offset: int
    crc: int
    data: bytes


class SnapshotEnd(Control, array_like=True, gc=False, frozen=True):
    """Sender: that was the last chunk; verify it all."""


class SnapshotDone(Control, array_like=True, gc=False, frozen=True):
    """Receiver: all of it is verified and durable."""


class JoinRequest(Control, array_like=True, gc=False, frozen=True):
    """Connecting side: add me; others reach me at `address` (host:port@peerport)."""

    address: str


class JoinAnswer(Control, array_like=True, gc=False, frozen=True):
    """Listening side: the cluster and its membership as agreed; or, without cluster id, why not now."""

    cluster_id: str
    membership: bytes
    text: str


HANDSHAKE: Final[dict[int, type[Control]]] = {
    128: Hello,
    129: Challenge,
    130: Proof,
    131: Accepted,
    132: Refused,
}
LINK: Final[dict[int, type[Control]]] = {
    132: Refused,
    133: TurnedAway,
}
"""What the listening side of a link may say."""

JOIN: Final[dict[int, type[Control]]] = {
    **LINK,
    144: JoinRequest,
    145: JoinAnswer,
}
STREAM: Final[dict[int, type[Control]]] = {
    132: Refused,
    136: SnapshotBegin,
    137: SnapshotPosition,
    138: SnapshotChunk,
    139: SnapshotEnd,
    140: SnapshotDone,
}
