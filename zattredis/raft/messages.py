"""One class per RPC of Raft; each begins with who sends it, to whom, and a term.

Identity is the node id, never an address. `term` is the sender's current term, with two exceptions (dissertation §9.6):
a PreVoteRequest and a granting PreVoteResponse carry the term that *would* be campaigned in, and raise nobody's term.
Field positions and wire numbers are never reused; new fields go to the end with a default. Entries travel as
`Entry.raw`, the very bytes that are stored.
"""

from __future__ import annotations

from typing import Final

import msgspec


class Message(msgspec.Struct, array_like=True, gc=False, frozen=True):
    """What every message begins with."""

    src: str
    dst: str
    term: int


class PreVoteRequest(Message, array_like=True, gc=False, frozen=True):
    """Would you vote for me in `term`? (§9.6)"""

    last_index: int
    last_term: int


class PreVoteResponse(Message, array_like=True, gc=False, frozen=True):
    """The answer: granted for `term`, or refused by a node whose own term is `term`."""

    granted: bool


class VoteRequest(Message, array_like=True, gc=False, frozen=True):
    """RequestVote (§3.4). `forced` is set after TimeoutNow only and passes the stickiness check (§4.2.3)."""

    last_index: int
    last_term: int
    forced: bool


class VoteResponse(Message, array_like=True, gc=False, frozen=True):
    """The answer to VoteRequest; leaves only when the vote is durable."""

    granted: bool


class AppendEntries(Message, array_like=True, gc=False, frozen=True):
    """The entries that follow (`prev_index`, `prev_term`) and the leader's commit index (§3.5)."""

    prev_index: int
    prev_term: int
    commit: int
    entries: list[bytes]


class AppendEntriesResponse(Message, array_like=True, gc=False, frozen=True):
    """`success`: the log matches the leader's up to `index`, durably. Otherwise `index` is the refused `prev_index` and
    the hint is the highest entry that may still match: index at most `index`, term at most the refused `prev_term`.
    `rejoining`: the sender lost its log and may have acknowledged, or voted for, what it no longer knows."""

    success: bool
    index: int
    hint_index: int
    hint_term: int
    rejoining: bool = False


class Heartbeat(Message, array_like=True, gc=False, frozen=True):
    """`commit` never exceeds what the receiver is known to hold; `round` is fresh with every broadcast (§6.4)."""

    commit: int
    round: int


class HeartbeatResponse(Message, array_like=True, gc=False, frozen=True):
    """Confirms, for the round named, that the sender still follows the leader of this term (unless `rejoining`)."""

    round: int
    rejoining: bool = False


class CommitAdvanced(Message, array_like=True, gc=False, frozen=True):
    """The leader's commit index, when no entries are there to carry it. Needs no answer: a heartbeat repeats it."""

    commit: int


class TimeoutNow(Message, array_like=True, gc=False, frozen=True):
    """Campaign at once: the leader hands over (§3.10)."""


class ReadIndexRequest(Message, array_like=True, gc=False, frozen=True):
    """A follower asks for a read point (§6.4). `context` is fresh at each try. `vouches`: the sender remembers every
    vote it gave, so that by its term it says that it has not helped to elect another leader."""

    context: int
    vouches: bool = False


class ReadIndexResponse(Message, array_like=True, gc=False, frozen=True):
    """The confirmed read point: serve once `index` is applied. The server of the leader adds the time.
    `ok` False: whoever was asked does not lead; ask again."""

    context: int
    index: int
    time_ms: int
    ok: bool


class InstallSnapshot(Message, array_like=True, gc=False, frozen=True):
    """The offer of a snapshot (§5) that ends with entry (`index`, `snapshot_term`); its bytes have their own stream."""

    index: int
    snapshot_term: int


MESSAGES: Final[dict[int, type[Message]]] = {
    1: PreVoteRequest,
    2: PreVoteResponse,
    3: VoteRequest,
    4: VoteResponse,
    5: AppendEntries,
    6: AppendEntriesResponse,
    7: Heartbeat,
    8: HeartbeatResponse,
    9: CommitAdvanced,
    10: TimeoutNow,
    11: ReadIndexRequest,
    12: ReadIndexResponse,
    13: InstallSnapshot,
}
"""Wire number → class. Numbers 1 to 63 belong to Raft."""
