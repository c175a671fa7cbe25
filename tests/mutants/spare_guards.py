"""Conditions of the core on which nothing hangs that anybody outside could see, each with the reason."""

from __future__ import annotations

from typing import Final

_SHORT_CUT: Final = "a short cut: what follows comes to the same"
_COST: Final = "spares work: done every time it comes to the same"
_ASKED: Final = "spares work: what is called asks, too"
_TIMER: Final = "only draws the wait anew: hearing a leader, or the candidacy that ends, has begun it already"
_GATE: Final = "only for mypy: `step` lets nobody pass who is no member, and each member has a progress"

SPARE: Final[dict[str, str]] = {
    "candidate.count_own_vote: s.vote_is_durable and s.membership.is_voter(s.node_id) without "
    "s.membership.is_voter(s.node_id)": "spares an event: `_count` counts nobody who is no voter",
    "core.Core.has_ready: self.outbox or self.replicate_due or self.has_unwritten or self.may_deliver or "
    "self.events or self.reads_confirmed or self.read_answers or self.snapshots without self.snapshots": (
        "snapshots are asked for by `replicate`, within `ready` itself"
    ),
    "core.Core.accepts_snapshot: offer.term == self.term and offer.src == self.leader_id and (offer.index > "
    "self.commit_index) without offer.src == self.leader_id": "a second leader of the term has raised in `step`",
    "core.Core.snapshot_installed: self.leader_id is not None and self.role != LEADER without self.role != LEADER": (
        "a leader is offered no snapshot: that raises in `step`"
    ),
    "follower.become_follower: leader_id is not None or was not in (FOLLOWER, LEARNER) without leader_id is not "
    "None": _TIMER,
    "follower.become_follower: leader_id is not None or was not in (FOLLOWER, LEARNER) without was not in "
    "(FOLLOWER, LEARNER)": _TIMER,
    "follower._beyond_match: entries[0].index > last -> False": _SHORT_CUT,
    "follower.on_install_snapshot: m.index > s.commit_index and s.log.matches(m.index, m.snapshot_term) without "
    "m.index > s.commit_index": _SHORT_CUT,
    "follower.on_install_snapshot: max(s.verified_index, m.index) -> (s.verified_index)": "`commit_to` follows at once",
    "follower.on_install_snapshot: max(s.verified_index, m.index) -> (m.index)": "`commit_to` follows at once",
    "leader.replicate: s.role != LEADER or s.storage_hung without s.role != LEADER": (
        "nothing is due once `become_follower` has taken it back"
    ),
    "leader.replicate: p.state == REPLICATE and p.commit_sent < commit without p.state == REPLICATE": (
        "a follower commits what it has verified only, whatever it is told"
    ),
    "leader.replicate: p.snapshot_wanted and p.recent_active without p.recent_active": (
        "who is silent is not probed again, so nobody learns that it needs one"
    ),
    "leader._pipeline: not _send_append(s, node_id, p) or not in_memory without not in_memory": (
        "a bound on reads of the disk in one turn"
    ),
    "leader.on_append_entries_response: p is None -> False": _GATE,
    "leader.on_append_entries_response: p.next_index <= s.log.last_index or p.commit_sent < s.commit_index without "
    "p.next_index <= s.log.last_index": "the next heartbeat or write brings it, too",
    "leader.on_append_entries_response: p.next_index <= s.log.last_index or p.commit_sent < s.commit_index without "
    "p.commit_sent < s.commit_index": "the next heartbeat or write brings it, too",
    "leader._on_refusal: m.rejoining and m.hint_index < p.match_index without m.hint_index < p.match_index": (
        "a member that rejoins counts for nothing anyway"
    ),
    "leader.on_heartbeat_response: p is None -> False": _GATE,
    "leader.on_heartbeat_response: p.probe_sent_tick is not None and s.ticks - p.probe_sent_tick >= "
    "s.config.heartbeat_ticks without s.ticks - p.probe_sent_tick >= s.config.heartbeat_ticks": "costs a probe more",
    "leader.on_heartbeat_response: p.state == SNAPSHOT -> False": _SHORT_CUT,
    "leader.on_heartbeat_response: p.next_index <= s.log.last_index or p.commit_sent < s.commit_index without "
    "p.next_index <= s.log.last_index": "the next heartbeat or write brings it, too",
    "leader.on_heartbeat_response: p.next_index <= s.log.last_index or p.commit_sent < s.commit_index without "
    "p.commit_sent < s.commit_index": "the next heartbeat or write brings it, too",
    "leader.on_heartbeat_response: s.reads.in_flight and m.round >= s.reads.started without s.reads.in_flight": (
        _SHORT_CUT
    ),
    "leader.on_heartbeat_response: s.reads.in_flight and m.round >= s.reads.started without m.round >= "
    "s.reads.started": _SHORT_CUT,
    "leader._after_membership_commit: heir is not None and s.progress[heir].match_index == s.log.last_index without"
    " heir is not None": "those whose acknowledgements committed the change are live",
    "leader._after_membership_commit: heir is not None and s.progress[heir].match_index == s.log.last_index without"
    " s.progress[heir].match_index == s.log.last_index": "a candidate that is behind loses, and another one stands",
    "leader._append_membership: p.state == REPLICATE and (not s.storage_hung) without not s.storage_hung": (
        "appends alone keep no leadership"
    ),
    "leader._append_membership: s.transferring_to is not None and (not membership.is_voter(s.transferring_to)) "
    "without s.transferring_to is not None": "`_end_transfer` asks, too",
    "leader.propose_membership: s.membership_index > s.commit_index or s.membership.joint without "
    "s.membership.joint": "`change_to` raises",
    "leader.propose_membership: target.joint or target.learners_next or (not target.voters) without target.joint": (
        "`change_to` raises"
    ),
    "leader.propose_membership: target.joint or target.learners_next or (not target.voters) without "
    "target.learners_next": "no membership but a joint one can have them",
    "leader._hand_over_if_level: target is not None and s.progress[target].match_index == s.log.last_index and (not"
    " s.storage_hung) without target is not None": "only for mypy: every caller has a transfer under way",
    "leader._hand_over_if_level: target is not None and s.progress[target].match_index == s.log.last_index and (not"
    " s.storage_hung) without not s.storage_hung": "handing over keeps no leadership",
    "log.RaftLog.term: index == self.last_index -> False": _SHORT_CUT,
    "log.RaftLog.term: index > self.last_index -> False": "only words the error: the list raises IndexError as well",
    "state.RaftState._load_tail_of_log: last_index == applied_index and last_index >= self.log.first_index without "
    "last_index == applied_index": _SHORT_CUT,
    "state.RaftState.send_after_log: type(last) is AppendEntriesResponse and last.success and (last.index <= "
    "message.index) without last.success": "a refusal that is lost is given again",
    "state.RaftState.send_after_log: type(last) is AppendEntriesResponse and last.success and (last.index <= "
    "message.index) without last.index <= message.index": "an acknowledgement that is lost is given again",
    "state.RaftState.report_hung_storage: self._writes and self._writes[0].number != self.hung_reported without "
    "self._writes": "asked only of a disk that hangs, which has writes",
    "state.RaftState.report_hung_storage: self._writes and self._writes[0].number != self.hung_reported without "
    "self._writes[0].number != self.hung_reported": "asked only of a disk that hangs, which has writes",
    "state.RaftState.replace_log: self.log.last_index > index and self.log.in_memory(index) and "
    "self.log.matches(index, term) without self.log.last_index > index": (
        "`accepts_snapshot` has asked the whole log before"
    ),
    "state.RaftState.replace_log: self.log.last_index > index and self.log.in_memory(index) and "
    "self.log.matches(index, term) without self.log.in_memory(index)": (
        "`accepts_snapshot` has asked the whole log before"
    ),
    "state.RaftState.replace_log: self.log.last_index > index and self.log.in_memory(index) and "
    "self.log.matches(index, term) without self.log.matches(index, term)": (
        "`accepts_snapshot` has asked the whole log before"
    ),
    "core.Core.ready: self.replicate_due -> True": _COST,
    "core.Core.ready: self.outbox -> True": _COST,
    "core.Core.ready: self.events -> True": _COST,
    "core.Core.ready: self.reads_confirmed -> True": _COST,
    "core.Core.ready: self.read_answers -> True": _COST,
    "core.Core.ready: self.snapshots -> True": _COST,
    "follower.become_follower: was == LEADER -> True": "nobody but a leader has what is cleared",
    "follower.on_install_snapshot: m.index <= s.commit_index -> True": "what is committed is held",
    "leader.propose: s.role != LEADER or s.transferring_to is not None -> True": _ASKED,
    "leader._send_append: raws -> True": "nothing that is sent takes no room in the window",
    "leader.tick: s.transferring_to is not None -> True": _ASKED,
    "leader._note_alive: p.rejoining != rejoining -> True": _COST,
    "leader._note_alive: not rejoining -> True": _COST,
    "leader.on_append_entries_response: news -> True": _COST,
    "leader.on_append_entries_response: m.src == s.transferring_to -> True": (
        "says once more that it may take over: the term has passed by then"
    ),
    "leader.on_append_entries_response: p.next_index <= s.log.last_index or p.commit_sent < "
    "s.commit_index -> True": _COST,
    "leader.on_heartbeat_response: p.probe_sent_tick is not None and s.ticks - p.probe_sent_tick >= "
    "s.config.heartbeat_ticks -> True": "costs a probe more",
    "leader.on_heartbeat_response: p.next_index <= s.log.last_index or p.commit_sent < s.commit_index -> True": _COST,
    "leader.on_heartbeat_response: s.reads.in_flight and m.round >= s.reads.started -> True": _SHORT_CUT,
    "leader.maybe_commit: s.membership_index >= s.term_start_index or s.membership.joint or (not "
    "s.membership.is_voter(s.node_id)) -> True": _ASKED,
    "leader._after_membership_commit: heir is not None and s.progress[heir].match_index == "
    "s.log.last_index -> True": "a candidate that is behind loses, and another one stands",
    "leader._on_refusal: max(p.match_index, s.log.first_index - 1) -> (s.log.first_index - 1)": (
        "`become_probe` begins behind what matches"
    ),
    "state.RaftState.set_leader: leader_id != self.leader_id -> True": _ASKED,
    "state.RaftState.set_term: term > self.term -> True": "an answer of this term that is lost is given again",
    "state.RaftState.hand_over_writes: has_entries -> True": _COST,
    "state.RaftState.hand_over_writes: self.commit_hint != self.commit_index -> True": _COST,
    "state.RaftState.acknowledge_writes: held -> True": _COST,
    "state.RaftState.acknowledge_writes: late -> True": _COST,
    "state.RaftState.append: entry.kind == CONFIG -> True": _ASKED,
    "state.RaftState.commit_to: memberships[-1][0] > before -> True": _COST,
    "leader._end_transfer: s.transferring_to is not None -> True": "only for mypy: every caller asks",
}
