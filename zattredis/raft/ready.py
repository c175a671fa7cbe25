"""What goes into the core and comes out of it: settings, hard state, events and `Ready`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import msgspec

from zattredis.raft.entry import Entry
from zattredis.raft.membership import Membership
from zattredis.raft.messages import Message, ReadIndexResponse

MIB = 1 << 20


class HardState(NamedTuple):
    """What must be durable before any answer leaves: term and vote. `commit` is a hint that may lag behind."""

    term: int = 0
    vote: str | None = None
    commit: int = 0


@dataclass(frozen=True)
class CoreConfig:
    """Settings of one core. Times are in ticks, whose length only the server knows.

    election_timeout_ticks: silence after which a leader is missed; each wait is drawn from (1, 2] times this.
    heartbeat_ticks: ticks between heartbeats.
    window_entries, window_bytes: bounds of what is under way to one follower in replicate state.
    message_bytes_max: bound of the entries in one AppendEntries (a single larger entry still goes).
    uncommitted_bytes_max: proposals are refused beyond this (one larger entry is taken when nothing is uncommitted).
    apply_bytes_max: bound of entries handed out as committed and not yet reported as applied.
    tail_bytes_max: how much of the durable log's end is kept in memory for followers that are nearly in step.
    reads_max: bound of read requests waiting for a round; more are dropped, and their askers try again.
    """

    node_id: str
    election_timeout_ticks: int = 10
    heartbeat_ticks: int = 2
    window_entries: int = 4096
    window_bytes: int = 4 * MIB
    message_bytes_max: int = MIB // 4
    uncommitted_bytes_max: int = 64 * MIB
    apply_bytes_max: int = 8 * MIB
    tail_bytes_max: int = 16 * MIB
    reads_max: int = 10_000
    pre_vote: bool = True
    check_quorum: bool = True

    def __post_init__(self) -> None:
        if not self.node_id:
            raise ValueError("node_id is empty")
        if not 0 < self.heartbeat_ticks < self.election_timeout_ticks:
            raise ValueError("heartbeat_ticks must be positive and below election_timeout_ticks")
        for name in ("window_entries", "window_bytes", "message_bytes_max", "uncommitted_bytes_max", "apply_bytes_max"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be positive")


class Event(msgspec.Struct, frozen=True):
    """Something worth a log line or a metric; the core itself never logs."""


class BecameLeader(Event, frozen=True):
    """This node leads `term`; its first entry of the term is at `index`."""

    term: int
    index: int


class BecameFollower(Event, frozen=True):
    """This node stopped leading or campaigning. All its waiting reads are dropped."""

    term: int
    leader_id: str | None
    was: str


class ElectionStarted(Event, frozen=True):
    """`kind` is pre_vote, vote or forced; `term` the one campaigned for."""

    term: int
    kind: str


class LeaderChanged(Event, frozen=True):
    """The leader known here; None: unknown."""

    leader_id: str | None
    term: int


class QuorumLost(Event, frozen=True):
    """A leader heard from no majority for an election timeout and stepped down."""

    term: int


class StorageHung(Event, frozen=True):
    """The oldest unacknowledged write of this node is older than an election timeout."""

    write_number: int
    ticks: int


class TruncatedLog(Event, frozen=True):
    """Entries from `index` to `last_index` conflicted with the leader's and are gone."""

    index: int
    last_index: int


class MembershipChanged(Event, frozen=True):
    """`membership` is now in effect here; `index` is its CONFIG entry, which may not be committed yet."""

    index: int
    membership: Membership


class MembershipCommitted(Event, frozen=True):
    """The CONFIG entry at `index` is committed."""

    index: int
    membership: Membership


class TransferStarted(Event, frozen=True):
    """Leadership is being handed to `target`; proposals are refused meanwhile."""

    target: str


class TransferEnded(Event, frozen=True):
    """`ok`: this node no longer leads. Otherwise it gave up after an election timeout and goes on leading."""

    target: str
    ok: bool


class SnapshotInstalled(Event, frozen=True):
    """Log and state of this follower were replaced by a snapshot ending at `index`."""

    index: int
    term: int


class MessageRefused(Event, frozen=True):
    """A message was dropped because it cannot be right."""

    src: str
    reason: str


class ReadConfirmed(msgspec.Struct, frozen=True):
    """`node_id`'s read request `context` may be served once `index` is applied there."""

    node_id: str
    context: int
    index: int


class Ready:
    """What must happen now, and in which order: send `messages`; append `entries` and save `hard_state`; sync; report
    `persisted(write_number)`; meanwhile apply `committed` in order and report `applied`.

    messages: may leave at once, before anything of this Ready is written.
    entries: append to the log; when entries[0].index is not beyond the log's end, truncate from there first.
    hard_state: save together with the entries; None when unchanged.
    write_number: 0 when there is nothing to write.
    must_sync: False when the write carries nothing that an answer waits for.
    committed: apply in order; durable here and committed.
    reads: confirmed read points; read_answers: what the leader answered to this follower.
    snapshots: followers that need a snapshot; stream one, then call `report_snapshot`.
    """

    __slots__ = (
        "committed",
        "entries",
        "events",
        "hard_state",
        "messages",
        "must_sync",
        "read_answers",
        "reads",
        "snapshots",
        "write_number",
    )

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.entries: list[Entry] = []
        self.hard_state: HardState | None = None
        self.write_number = 0
        self.must_sync = False
        self.committed: list[Entry] = []
        self.reads: list[ReadConfirmed] = []
        self.read_answers: list[ReadIndexResponse] = []
        self.snapshots: list[str] = []
        self.events: list[Event] = []
