"""Conditions of the core on which nothing hangs that anybody outside could see, each with the reason."""

from __future__ import annotations

from typing import Final

_SHORT_CUT: Final = "a short cut: what follows comes to the same"

_TIMER: Final = "only draws the wait anew: hearing a leader, or the candidacy that ends, has begun it already"
_GATE: Final = "only for mypy: `step` lets nobody pass who is no member, and each member has a progress"

SPARE: Final[dict[str, str]] = {
    "leader.replicate: s.role != LEADER or s.storage_hung -> ((s.storage_hung))": (
        "nothing is due once `become_follower` has taken it back"
    ),
    "leader.replicate: p.state == REPLICATE and p.commit_sent < commit -> ((p.commit_sent < commit))": (
        "a follower commits what it has verified only, whatever it is told"
    ),
    "leader.replicate: p.snapshot_wanted and p.recent_active -> ((p.snapshot_wanted))": (
        "who is silent is not probed again, so nobody learns that it needs one"
    ),
    "core.Core.has_ready: self.outbox or self.replicate_due or self.has_unwritten or self.may_deliver or self.events "
    "or self.reads_confirmed or self.read_answers or self.snapshots -> ((self.outbox) or (self.replicate_due) or "
    "(self.has_unwritten) or (self.may_deliver) or (self.events) or (self.reads_confirmed) or (self.read_answers))": (
        "snapshots are asked for by `replicate`, within `ready` itself"
    ),
    "core.Core.accepts_snapshot: offer.term == self.term and offer.src == self.leader_id and (offer.index > "
    "self.commit_index) -> ((offer.term == self.term) and (offer.index > self.commit_index))": (
        "a second leader of the term has raised in `step`"
    ),
    "core.Core.snapshot_installed: self.leader_id is not None and self.role != LEADER -> "
    "((self.leader_id is not None))": (
        "a leader is offered no snapshot: that raises in `step`"
    ),
    "follower.become_follower: leader_id is not None or was not in (FOLLOWER, LEARNER) -> "
    "((was not in (FOLLOWER, LEARNER)))": _TIMER,
    "follower.become_follower: leader_id is not None or was not in (FOLLOWER, LEARNER) -> "
    "((leader_id is not None))": _TIMER,
    "follower.on_install_snapshot: m.index > s.commit_index and s.log.matches(m.index, m.snapshot_term) -> "
    "((s.log.matches(m.index, m.snapshot_term)))": _SHORT_CUT,
    "candidate.count_own_vote: s.vote_is_durable and s.membership.is_voter(s.node_id) -> ((s.vote_is_durable))": (
        "spares an event: `_count` counts nobody who is no voter"
    ),
    "leader.on_append_entries_response: p is None -> False": _GATE,
    "leader.on_heartbeat_response: p is None -> False": _GATE,
    "leader.on_heartbeat_response: p.state == SNAPSHOT -> False": _SHORT_CUT,
    "follower._beyond_match: entries[0].index > last -> False": _SHORT_CUT,
    "log.RaftLog.term: index == self.last_index -> False": _SHORT_CUT,
    "log.RaftLog.term: index > self.last_index -> False": "only words the error: the list raises IndexError as well",
}
