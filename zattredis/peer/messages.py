"""Messages between the servers of two nodes, beside Raft's own. Wire numbers 64 to 127.

Like Raft's they begin with `src`, `dst` and `term`, are arrays on the wire, and never reuse a position or a number;
new fields go to the end with a default.
"""

from __future__ import annotations

from typing import Final

from zattredis.raft.messages import Message


class ForwardBatch(Message, array_like=True, gc=False, frozen=True):
    """Origin → leader: append this batch if `sequence` is the next one expected of `session` (DESIGN §2.1)."""

    session: int
    sequence: int
    payload: bytes


class ForwardExpected(Message, array_like=True, gc=False, frozen=True):
    """Leader → origin: the sequence that is expected next of `session`; 0 when no such session is open."""

    session: int
    expected: int


class ForwardOpen(Message, array_like=True, gc=False, frozen=True):
    """Origin → leader: append an Open entry for `src` with this nonce."""

    nonce: int


class StatusReport(Message, array_like=True, gc=False, frozen=True):
    """Everyone → everyone, twice a second: wall clock in ms since 1970; of the leader also each match index.
    `sentinel_port`: where the sender answers as a Sentinel, 0 if it does not. `digest…`: what was applied up to a fixed
    index (see `server.digest`; the defaults say: nothing that can be compared). `disk_level`: how full the sender's
    disk is (see `server.disk_room`). `machine_version`: the state-machine version its build knows. `tls_port` and
    `sentinel_tls_port`: where the sender serves clients, and answers as a Sentinel, over TLS; 0 if it does not."""

    commit_index: int
    wall_ms: int
    members: list[tuple[str, int]]
    sentinel_port: int = 0
    digest_index: int = 0
    digest: int = 0
    digest_since: int = (1 << 64) - 1
    disk_level: int = 0
    machine_version: int = 1
    tls_port: int = 0
    sentinel_tls_port: int = 0


class Introduction(Message, array_like=True, gc=False, frozen=True):
    """How far a node is, for one that may have lost its log (see `server.rejoin`), and where it is, for one that has
    not heard yet that it is a member (see `server.links`). `asks`: introduce yourself, too. `leads`: the sender leads
    and has committed in its own term. `address` is written as in the membership. The ports are as in StatusReport, so
    that they are known as soon as a link is up; `sentinel_port` -1: a build that does not say them here."""

    last_index: int
    commit_index: int
    leads: bool
    asks: bool
    address: str = ""
    sentinel_port: int = -1
    tls_port: int = 0
    sentinel_tls_port: int = 0


class ChangeRequest(Message, array_like=True, gc=False, frozen=True):
    """Any member → leader: change the membership (`kind` 1, `payload` is a `raft.changes.Change`), or hand over
    (`kind` 2, `payload` is the id of the next leader or empty). `number` is fresh at each try."""

    number: int
    kind: int
    payload: bytes


class ChangeAnswer(Message, array_like=True, gc=False, frozen=True):
    """Leader → whoever asked: `status` 1: entry `index` of `entry_term` was appended, its commit makes it so;
    2: refused for good, `text` says why; 3: not now, ask again (or another node)."""

    number: int
    status: int
    index: int
    entry_term: int
    text: str


class ExtensionReport(Message, array_like=True, gc=False, frozen=True):
    """Everyone who has extensions → everyone: (name, digest of the code) of each."""

    digests: list[tuple[str, str]]


MESSAGES: Final[dict[int, type[Message]]] = {
    64: ForwardBatch,
    65: ForwardExpected,
    66: ForwardOpen,
    67: StatusReport,
    68: Introduction,
    69: ChangeRequest,
    70: ChangeAnswer,
    75: ExtensionReport,
}
"""Wire number → class."""
