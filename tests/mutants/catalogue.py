# ruff: noqa: E501  (edits quote lines of the source as they stand there)
"""Every deliberate fault: what it breaks, how it is put in, and who notices."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tests.mutants.catchers import Catcher, Cores, Nodes, Scripted
from tests.mutants.edits import Edit
from tests.simulation.sim_network import Weather


@dataclass(frozen=True)
class Mutant:
    """One fault. `catcher` runs by default; `others` notice it too, and run with `python -m tests.mutants --all`."""

    name: str
    breaks: str
    edits: tuple[Edit, ...]
    catcher: Catcher
    others: tuple[Catcher, ...] = ()


RAFT, SERVER, STORAGE = "zattredis.raft", "zattredis.server", "zattredis.storage"
IDLE: dict[str, Any] = {
    "voters": 3, "tokens": 0.9, "client_pause_s": 0.01, "guessed_from": 0, "crash": 0.0, "partition": 0.0, "pause": 0.0,
    "busy_nodes": 3, "clients_per_node": 3, "only_reads": 0.0, "sync_s": 0.03, "weather": Weather(delay_max=0.005),
    "stall": 0.0, "slice_end": 0.0,
}  # fmt: skip
"""A plan of many writes that have nothing to do, on nodes whose disks keep them behind."""
IN_PIECES: dict[str, Any] = {
    "voters": 1, "stall": 0.5, "heavy_elements": 5, "piece_keys": 1, "heaps": 0.6, "client_pause_s": 0.02,
    "clients_per_node": 3, "crash": 0.0,
}  # fmt: skip
"""A plan of large writes whose pieces are held up, on a node whose reads wait for nobody."""

MUTANTS = (
    # --- Raft ---------------------------------------------------------------------------------------------------------
    Mutant(
        "acknowledge_before_sync",
        "A follower acknowledges entries before they are on its disk.",
        (Edit(f"{RAFT}.state:RaftState.send_after_log", "if message.index <= self.durable_index:", "if True:"),),
        Cores(20),
        (Nodes(20), Scripted("tests/raft/test_durability.py::test_writes_are_acknowledged_first_in_first_out")),
    ),
    Mutant(
        "leader_counts_unsynced",
        "A leader counts its own entries before they are on its disk.",
        (Edit(f"{RAFT}.leader:own_log_durable", "own.acknowledged(s.durable_index)", "own.acknowledged(s.log.last_index)"),
         Edit(f"{RAFT}.leader:_append", "s.replicate_due = True", "s.replicate_due = True; own_log_durable(s)")),
        Cores(40),
        (Scripted("tests/raft/test_replication.py::test_the_leader_counts_itself_only_when_durable"),),
    ),
    Mutant(
        "vote_not_persisted",
        "A vote is given, and never stored.",
        (Edit(f"{RAFT}.state:RaftState.hand_over_writes", "HardState(self.term, self.vote, self.commit_index)", "HardState(self.term, None, self.commit_index)"),),
        Cores(20),
        (Scripted("tests/raft/test_election.py::test_a_vote_is_remembered_across_a_restart"),),
    ),
    Mutant(
        "vote_leaves_before_it_is_durable",
        "A vote is stored, but its answer does not wait for the disk.",
        (Edit(f"{RAFT}.state:RaftState.send_after_vote",
              "self._hold(self.write_number + 1 if self._hard_dirty else self._hard_write, message)",
              "self.outbox.append(message)"),),
        Cores(20),
        (Nodes(20), Scripted("tests/raft/test_election.py::test_no_vote_leaves_before_it_is_durable")),
    ),
    Mutant(
        "read_index_before_first_commit",
        "A new leader gives read points before it has committed an entry of its term.",
        (Edit(f"{RAFT}.leader:_start_round", "s.reads.in_flight or s.commit_index < s.term_start_index", "s.reads.in_flight"),),
        Cores(300),
        (Scripted("tests/raft/test_reads.py::test_read_index_before_the_first_commit_is_held"),),
    ),
    Mutant(
        "leader_reads_alone",
        "A leader confirms read points without asking a majority.",
        (Edit(f"{RAFT}.leader:_start_round", "if s.has_quorum({s.node_id}):", "if True:"),),
        Scripted("tests/raft/test_reads.py::test_an_isolated_leader_serves_no_reads"),
        (Nodes(200, voters=3, partition=1.0),),
    ),
    Mutant(
        "old_round_confirms_reads",
        "Answers to an older round of heartbeats confirm reads.",
        (Edit(f"{RAFT}.leader:_maybe_confirm", "p.round_acked >= started", "p.round_acked"),
         Edit(f"{RAFT}.leader:on_heartbeat_response", "s.reads.in_flight and m.round >= s.reads.started", "s.reads.in_flight")),
        Scripted("tests/raft/test_reads.py::test_answers_to_an_older_round_confirm_nothing"),
    ),
    Mutant(
        "any_follower_vouches",
        "A follower's request for a read point is its confirmation, however few the two are among the voters.",
        (Edit(f"{RAFT}.leader:on_read_index_request", "m.vouches and s.has_quorum({s.node_id, m.src})", "m.vouches"),),
        Scripted("tests/raft/test_reads.py::test_among_five_a_followers_read_takes_a_round"),
    ),
    Mutant(
        "forgetful_follower_vouches",
        "A node that lost its disk, and perhaps a vote, vouches for its leader when it asks for a read point.",
        (Edit(f"{RAFT}.core:Core.read_index", "not self.rejoining", "True"),),
        Scripted("tests/raft/test_reads.py::test_a_follower_that_may_have_forgotten_a_vote_vouches_for_nothing"),
    ),
    Mutant(
        "commit_by_counting_old_terms",
        "A leader commits entries of older terms by counting who holds them (figure 8 of the paper).",
        (Edit(f"{RAFT}.leader:maybe_commit", "index <= s.commit_index or s.log.term(index) != s.term", "index <= s.commit_index"),),
        Scripted("tests/raft/test_replication.py::test_entries_of_an_older_term_are_not_committed_by_counting"),
    ),
    Mutant(
        "truncate_without_conflict",
        "A late or repeated append shortens the log though nothing in it conflicts.",
        (Edit(f"{RAFT}.follower:_beyond_match", "if log.term(entry.index) != entry.term:", "if True:"),),
        Cores(40),
        (Scripted("tests/raft/test_replication.py::test_a_late_append_does_not_shorten_the_log"), Nodes(40)),
    ),
    Mutant(
        "truncation_forgotten_by_writes",
        "An acknowledgement of a write from before a truncation makes the entries behind it count as durable.",
        (Edit(f"{RAFT}.state:RaftState.truncate", "write.last_index = min(write.last_index, last)", "pass"),),
        Cores(300),
        (Scripted("tests/raft/test_durability.py::test_an_acknowledgement_from_before_a_truncation_counts_for_nothing"),),
    ),
    Mutant(
        "commit_beyond_what_was_verified",
        "A follower commits whatever it holds up to the leader's commit index.",
        (Edit(f"{RAFT}.follower:on_append_entries", "s.commit_to(min(m.commit, s.verified_index))", "s.commit_to(min(m.commit, s.log.last_index))"),
         Edit(f"{RAFT}.follower:on_commit_advanced", "s.commit_to(min(m.commit, s.verified_index))", "s.commit_to(min(m.commit, s.log.last_index))")),
        Cores(300),
        (Scripted("tests/raft/test_replication.py::test_a_follower_commits_only_what_it_verified_with_this_leader"),),
    ),
    Mutant(
        "vote_for_a_shorter_log",
        "A vote is given to a candidate whose log lacks committed entries.",
        (Edit(f"{RAFT}.follower:_may_vote", "return free and _log_is_current(s, m.last_index, m.last_term)", "return free"),),
        Cores(40),
        (Nodes(40), Scripted("tests/raft/test_election.py::test_a_vote_needs_a_log_not_behind_the_own_one")),
    ),
    Mutant(
        "applying_ahead_of_the_own_log",
        "A node applies what is committed before its own log holds it durably.",
        (Edit(f"{RAFT}.state:RaftState.deliverable_index", "min(self.commit_index, self.durable_index)", "self.commit_index"),),
        Cores(20),
        (Nodes(20), Scripted("tests/raft/test_durability.py::test_nothing_is_applied_ahead_of_the_own_durable_log")),
    ),
    Mutant(
        "heartbeats_with_a_dead_disk",
        "A leader whose disk answers no more keeps its leadership by heartbeats.",
        (Edit(f"{RAFT}.leader:tick", "s.heartbeat_elapsed < s.config.heartbeat_ticks or hung", "s.heartbeat_elapsed < s.config.heartbeat_ticks"),
         Edit(f"{RAFT}.leader:replicate", "s.role != LEADER or s.storage_hung", "s.role != LEADER")),
        Scripted("tests/raft/test_durability.py::test_a_leader_whose_disk_hangs_falls_silent_and_others_take_over"),
        (Scripted("tests/simulation/test_nodes.py::test_a_leader_whose_disk_hangs_is_replaced_while_it_hangs"),),
    ),
    Mutant(
        "snapshot_of_an_old_term",
        "A snapshot of a leader that was deposed is taken.",
        (Edit(f"{RAFT}.core:Core.accepts_snapshot", "offer.term == self.term and offer.src == self.leader_id and offer.index", "offer.index"),),
        Scripted("tests/raft/test_snapshot.py::test_stale_term_snapshots_are_refused"),
    ),
    Mutant(
        "overlapping_membership_changes",
        "A second membership change begins while the first is uncommitted.",
        (Edit(f"{RAFT}.leader:propose_membership", "s.membership_index > s.commit_index or s.membership.joint", "s.membership.joint"),
         Edit(f"{RAFT}.leader:propose_membership", "s.commit_index < s.term_start_index", "False")),
        Scripted("tests/raft/test_membership.py::test_only_one_change_at_a_time_and_none_before_the_terms_first_commit"),
    ),
    Mutant(
        "a_lost_log_votes",
        "A node that lost its disk votes and counts as if it had not.",
        (Edit(f"{SERVER}.rejoin:Rejoin.__init__", "self.done = alone or not (self._newcomer or self._path.exists())", "self.done = True"),),
        Scripted("tests/server/test_rejoin.py::test_a_wiped_node_waits_until_it_has_what_the_leader_committed"),
    ),
    Mutant(
        "votes_again_without_what_it_acknowledged",
        "A node that lost its disk votes as soon as it holds what its leader had committed when it asked: the rule of old.",
        (Edit(f"{SERVER}.rejoin:Rejoin._as_good_as_its_leader", "min(core.durable_index, core.verified_index) >= leader.last_index", "core.applied_index >= leader.commit_index"),),
        Scripted("tests/simulation/test_rejoin.py::test_what_a_lost_disk_had_acknowledged_and_its_leader_counts_afterwards_is_not_lost"),
        (Scripted("tests/server/test_rejoin.py::test_what_a_wiped_node_may_have_acknowledged_and_its_leader_not_committed_yet_is_waited_for"),),
    ),
    # --- reads and time -------------------------------------------------------------------------------------------------
    Mutant(
        "restarted_alone_reads_early",
        "A node on its own answers reads after a restart before the log has brought back what it had acknowledged.",
        (Edit(f"{SERVER}.driver:Driver._confirm", " and applied >= max(core.term_start_index, core.membership_index):", ":"),),
        Scripted("tests/server/test_driver.py::test_a_read_of_a_node_alone_waits_only_for_what_somebody_may_have_seen"),
        (Scripted("tests/simulation/test_nodes.py::test_a_node_alone_that_takes_its_time_to_apply_is_never_stale"),),
    ),
    Mutant(
        "local_read",
        "A read is served from the node's own state, without a read point.",
        (Edit(f"{SERVER}.driver:Driver.ask_read", "self.core.read_index(context)",
              "self._reads.on_confirmed(context, self._applier.applied_index, self._clock.now_ms())"),),
        Nodes(40),
    ),
    Mutant(
        "expiry_by_local_clock",
        "Reads see keys expire by the clock of the node that serves them.",
        (Edit(f"{SERVER}.driver:Driver._answer", "self._reads.on_confirmed(context, index, time_ms)", "self._reads.on_confirmed(context, index, self._clock.wall_ms())"),
         Edit(f"{SERVER}.driver:Driver._carry_out", "self._reads.on_confirmed(answer.context, answer.index, answer.time_ms)", "self._reads.on_confirmed(answer.context, answer.index, self._clock.wall_ms())")),
        Nodes(60),
    ),
    Mutant(
        "reservations_ignored",
        "A new leader stamps from its own clock, before the time that reads may have used.",
        (Edit(f"{SERVER}.driver:Driver._note", "self._clock.floor(self.core.last_stamp + RESERVATION_MS)", "pass"),),
        Nodes(100, busy_nodes=1, only_reads=1.0, transfer=3.0, client_pause_s=0.02, voters=3),
    ),
    Mutant(
        "reads_beyond_the_reservation",
        "A read is given the leader's clock as its time, whatever was reserved.",
        (Edit(f"{SERVER}.driver:Driver._read_time", "now_ms = self._clock.now_ms()", "return self._clock.now_ms()"),),
        Nodes(200, busy_nodes=1, only_reads=1.0, transfer=3.0, client_pause_s=0.02, voters=3),
    ),
    Mutant(
        "ride_in_a_closed_batch",
        "A read rides in a batch of its connection that was closed before the read arrived.",
        (Edit(f"{SERVER}.proposals:Proposals.is_open", "batch is self._open", "not batch.settled"),),
        Nodes(60, first=1000, client_pause_s=0.02, busy_nodes=1),
        (Scripted("tests/server/test_order.py::test_a_read_after_its_batch_was_closed_waits_for_the_batch_and_a_later_read_point"),),
    ),
    Mutant(
        "write_overtakes_a_read",
        "A write does not take along the unanswered reads of its connection.",
        (Edit(f"{SERVER}.dispatcher:Dispatcher._write_run", "if connection.reads:", "if False:"),),
        Nodes(100, first=44),
        (Scripted("tests/server/test_order.py::test_a_write_takes_an_unanswered_read_along_and_replies_keep_their_order"),),
    ),
    Mutant(
        "a_guess_is_enough",
        "A write that is guessed to have nothing to do is answered so, whatever the read point shows.",
        (Edit(f"{SERVER}.trials:try_out", "    except WouldChange:\n        idle = False", "    except WouldChange:\n        value = 0"),),
        Nodes(100, first=30),
        (Scripted("tests/server/test_trial.py::test_a_change_between_the_guess_and_the_read_point_makes_it_a_write"),),
    ),
    Mutant(
        "tried_on_an_older_state",
        "A write that is likely to have nothing to do is looked at before its read point is applied.",
        (Edit(f"{SERVER}.reads:Reads.on_applied", "self._confirmed[0].index <= self._source.applied_index:",
              "(self._confirmed[0].index <= self._source.applied_index or all(isinstance(unit, Trial) for unit in self._confirmed[0].units)):"),),
        Nodes(100, **IDLE),
        (Scripted("tests/server/test_trial.py::test_it_waits_until_its_read_point_is_applied"),),
    ),
    Mutant(
        "tried_one_entry_early",
        "A write that is likely to have nothing to do is looked at one entry before its read point.",
        (Edit(f"{SERVER}.reads:Reads.on_applied", "self._confirmed[0].index <= self._source.applied_index:",
              "self._confirmed[0].index <= self._source.applied_index + all(isinstance(unit, Trial) for unit in self._confirmed[0].units):"),),
        Scripted("tests/server/test_trial.py::test_it_waits_until_its_read_point_is_applied"),
    ),
    Mutant(
        "tried_as_if_carried_out",
        "A write that is only looked at, and has something to do, is answered as if that had been done.",
        tuple(Edit(f"zattredis.keyspace.probe:Probe.{name}", "raise WouldChange", "return")
              for name in ("put", "rewrite", "put_raw", "put_raw_many", "_replace", "_change")),
        Nodes(100),
        (Scripted("tests/keyspace/test_probe.py"),),
    ),
    Mutant(
        "half_a_large_write_is_seen",
        "Reads see the pieces of a large write as they are carried out.",
        (Edit(f"{SERVER}.applier:Applier.view", "if self._before is not None:", "if False:"),
         Edit(f"{SERVER}.applier:Applier.freeze", "if self._before is None", "if True")),
        Nodes(60, **IN_PIECES),
        (Scripted("tests/server/test_apart.py::test_reads_see_what_was_before_until_all_its_pieces_are_carried_out"),),
    ),
    Mutant(
        "a_tried_write_is_overtaken",
        "A write that was tried in vain leaves the reads that its client sent behind it where they are.",
        (Edit(f"{SERVER}.trials:become_write", "[unit for unit in connection.units if unit.state == WAITING and not unit.is_write]", "[trial]"),),
        Scripted("tests/server/test_trial.py::test_a_read_behind_it_sees_what_it_did"),
    ),
    # --- writes ---------------------------------------------------------------------------------------------------------
    Mutant(
        "no_deduplication",
        "A batch that is sent twice is logged and executed twice.",
        (Edit(f"{SERVER}.sessions:Sessions.is_next", "sequence == row.last + 1", "sequence > 0"),
         Edit(f"{SERVER}.sessions:Sessions.advance", "sequence != row.last + 1", "sequence < 1"),
         Edit(f"{SERVER}.admission:Admission.admit", "not self.ready or sequence != self.expected(session)", "not self.ready")),
        Nodes(60),
    ),
    Mutant(
        "deduplication_left_to_the_leader",
        "A batch that the log holds twice is executed twice; only the leader's admission stands before that.",
        (Edit(f"{SERVER}.sessions:Sessions.is_next", "sequence == row.last + 1", "sequence > 0"),
         Edit(f"{SERVER}.sessions:Sessions.advance", "sequence != row.last + 1", "sequence < 1")),
        Scripted("tests/server/test_applier.py::test_a_batch_executes_once_however_often_the_log_holds_it"),
    ),
    Mutant(
        "gap_in_the_sequences",
        "A batch is executed though one before it is missing.",
        (Edit(f"{SERVER}.sessions:Sessions.is_next", "sequence == row.last + 1", "sequence > row.last"),
         Edit(f"{SERVER}.sessions:Sessions.advance", "sequence != row.last + 1", "sequence <= row.last"),
         Edit(f"{SERVER}.admission:Admission.admit", "sequence != self.expected(session)", "sequence < self.expected(session)")),
        Nodes(60),
        (Scripted("tests/server/test_sessions.py::test_only_the_next_sequence_of_an_open_session_executes"),),
    ),
    Mutant(
        "forwarded_out_of_order",
        "Batches that are sent again go out in the wrong order, and the leader takes them as they come.",
        (Edit(f"{SERVER}.proposals:Proposals._resend", "for batch in self._in_flight:", "for batch in reversed(self._in_flight):"),
         Edit(f"{SERVER}.admission:Admission.admit", "sequence != self.expected(session)", "sequence < 1")),
        Nodes(60),
    ),
    Mutant(
        "admission_takes_anything",
        "The leader admits every batch it is sent, also what its log holds already.",
        (Edit(f"{SERVER}.admission:Admission.admit", "not self.ready or sequence != self.expected(session)", "not self.ready"),),
        Nodes(100),
    ),
    Mutant(
        "deduplication_lost_in_snapshots",
        "A node that installs a snapshot keeps the sessions' rows it had before.",
        (Edit(f"{SERVER}.applier:Applier.load", "self.sessions.load(store)", "self.sessions.rows or self.sessions.load(store)"),),
        Nodes(200, compaction=3.0),
    ),
    Mutant(
        "snapshot_without_sessions",
        "Snapshots and starts bring no sessions' rows.",
        (Edit(f"{SERVER}.sessions:Sessions.load", "reader.iterate(PREFIX, _PREFIX_END)", "()"),),
        Nodes(60),
        (Scripted("tests/server/test_sessions.py::test_rows_survive_being_stored_and_loaded"),),
    ),
    Mutant(
        "applied_twice_after_restart",
        "After a restart the commands of an entry that was half applied are executed again.",
        (Edit(f"{SERVER}.applier:Applier.load", "self._skip = self._ordinal = applied.ordinal", "self._skip = self._ordinal = 0"),),
        Nodes(200, effect_bytes=1, commands_a_turn=1, crash=1.0),
        (Scripted("tests/server/test_applier.py::test_an_entry_cut_short_by_a_crash_goes_on_behind_its_last_written_command"),),
    ),
    Mutant(
        "log_cut_past_the_flush",
        "The log is cut behind what is applied, not behind what the state has made durable.",
        (Edit(f"{SERVER}.compaction:Compaction._run", "first = self._cut_point(applied.index)", "first = self._cut_point(self._core.applied_index)"),),
        Nodes(100, compaction=3.0),
    ),
    Mutant(
        "watch_not_checked_at_apply",
        "EXEC is executed though a watched key has changed.",
        (Edit(f"{SERVER}.executor:unwatched", "return all(", "return True or all("),),
        Nodes(60),
        (Scripted("tests/server/test_order.py::test_watch_compares_versions_at_apply"),),
    ),
    Mutant(
        "versions_by_log_index",
        "All changes of one log entry give a key the same version.",
        (Edit("zattredis.keyspace.view:View.set_plain", "registers.counter = version = registers.counter + 1",
              "registers.counter = version = registers.counter + (not self._effects)"),),
        Nodes(100),
        (Scripted("tests/server/test_order.py::test_a_watch_that_rides_between_two_writes_of_one_entry_does_not_pass"),),
    ),
    Mutant(
        "timed_out_batch_lives",
        "A batch that was answered TIMEOUT is sent again as it was, hours later.",
        (Edit(f"{SERVER}.proposals:Proposals._abandon", "batch.payload = BATCH_HEADER.pack(batch.session, batch.sequence, batch.seed) + EMPTY_UNITS", "pass"),),
        Scripted("tests/server/test_proposals.py::test_a_batch_handed_over_times_out_as_unknown_and_an_empty_one_takes_its_sequence"),
    ),
    Mutant(
        "refused_batch_lives",
        "A batch that was answered CLUSTERDOWN stays in the queue.",
        (Edit(f"{SERVER}.proposals:Proposals._expire", "self._refuse(self._queue.popleft())", "self._refuse(self._queue[0]); break"),
         Edit(f"{SERVER}.proposals:Proposals._hand_over", "batch.units = [unit for unit in batch.units if unit.state != DONE]", "pass")),
        Nodes(200),
        (Scripted("tests/server/test_proposals.py::test_a_batch_never_handed_over_is_refused_for_good"),),
    ),
    Mutant(
        "unsent_pops_are_lost",
        "What a blocking pop gave a client that goes before its reply is written is gone.",
        (Edit(f"{SERVER}.blocking:Blocking.flush", "if self._given:", "if False:"),),
        Scripted("tests/server/test_blocking.py::test_an_element_whose_reply_was_never_written_goes_back"),
    ),
    Mutant(
        "another_value",
        "SET stores something else than what it was given.",
        (Edit("zattredis.keyspace.view:View.set_plain", "touched_s) + value", "touched_s) + value + b'!'"),
         Edit("zattredis.keyspace.view:View.set_plain_many", "size = 0", "size, pairs = 0, [(key, value + b'!') for key, value in pairs]")),
        Nodes(60),
    ),
    Mutant(
        "one_computes_otherwise",
        "What a command writes depends on the node that carries it out.",
        (Edit("zattredis.keyspace.view:View.rewrite", "records[key] = record", "record = records[key] = record + bytes([ord(str(self.reader.path)[1])])"),),
        Nodes(60, voters=3),
    ),
    Mutant(
        "divergence_unnoticed",
        "A node compares its digest with nobody's.",
        (Edit(f"{SERVER}.digest:Agreement.on_report", "if mark.since != NOT_COMPARABLE:", "if False:"),),
        Scripted("tests/simulation/test_divergence.py::test_a_node_that_computes_otherwise_is_fenced"),
    ),
    Mutant(
        "digest_begins_anew",
        "A start or a snapshot brings no digest: what happened before can be compared no more.",
        (Edit(f"{SERVER}.digest:Digest.load", "if (index, ordinal) == (applied.index, applied.ordinal):", "if False:"),),
        Nodes(60, crash=1.0),
        (Scripted("tests/server/test_digest.py::test_the_digest_goes_on_after_a_crash_wherever_the_entry_was_cut"),),
    ),
    Mutant(
        "repair_without_the_others",
        "A damaged node empties itself though no majority of the others works.",
        (Edit(f"{SERVER}.repair:open_or_repair", "found, agreed = await join(dataclasses.replace(settings, join=others), tls)", "found, agreed = cluster_id, membership"),),
        Scripted("tests/server/test_repair.py::test_nothing_is_touched_before_the_others_agree"),
    ),
    Mutant(
        "repaired_log_votes",
        "A node that gave up its damaged log votes and counts at once.",
        (Edit(f"{STORAGE}.repair:set_aside", "(path / REJOINING).touch(mode=0o600)", "pass"),
         Edit(f"{SERVER}.rejoin:Rejoin.__init__", "empty and not alone and not self._newcomer and not self._path.exists()", "False")),
        Scripted("tests/server/test_repair.py::test_a_damaged_log_is_set_aside_and_the_node_owes_its_vote"),
    ),
    # --- storage --------------------------------------------------------------------------------------------------------
    Mutant(
        "snapshot_switch_not_atomic",
        "Installing a snapshot begins the log anew and names the new state by two writes.",
        (Edit(f"{STORAGE}.log_store:LogStore.switch_state", "batch[STATE] = encode_state_directory(state)",
              "self._write(database, batch, last_index, last_term, truncations, self._hard_state.term); batch = WriteBatch(raw_mode=True); batch[STATE] = encode_state_directory(state)"),),
        Scripted("tests/storage/test_datadir.py::test_a_process_killed_behind_any_write_of_the_switch_leaves_the_old_or_the_new_state"),
    ),
    Mutant(
        "failed_sync_ignored",
        "A sync of the log that the operating system refused counts as done.",
        (Edit(f"{STORAGE}.log_store:LogStore.sync", 'raise self._fail(translate(error, "syncing the log in", self._path, StorageFailed)) from error', "pass"),),
        Scripted("tests/storage/test_log_store.py::test_a_refused_sync_is_told_and_final"),
    ),
    Mutant(
        "default_recovery",
        "A log is opened as RocksDB recovers it by default, whatever else bears witness of what was durable.",
        (Edit(f"{STORAGE}.log_recovery:_inspect", "if stamp.batch < marks.mark.batch:", "if False:"),
         Edit(f"{STORAGE}.log_recovery:_inspect", "if stamp.batch < witnessed:", "if False:")),
        Scripted("tests/storage/test_log_crashes.py::test_cutting_flipping_or_losing_synced_bytes_is_noticed"),
    ),
    Mutant(
        "marks_unread",
        "A log that is behind its marks, but whole in itself, is taken.",
        (Edit(f"{STORAGE}.log_recovery:_inspect", "if stamp.batch < marks.mark.batch:", "if False:"),),
        Scripted("tests/storage/test_log_crashes.py::test_an_older_log_under_newer_marks_is_lost"),
    ),
    Mutant(
        "entries_unverified",
        "An entry is taken from the log without a look at its checksum.",
        (Edit(f"{RAFT}.entry:decode_entry", "if zlib.crc32(memoryview(raw)[4:]) != crc:", "if False:"),),
        Scripted("tests/storage/test_log_store.py::test_an_entry_that_fails_its_checksum_when_read_is_damage"),
    ),
    Mutant(
        "snapshot_unverified",
        "A snapshot that was received is used without its digests.",
        (Edit(f"{STORAGE}.snapshots:_is_as_told", "path.stat().st_size == file.size and digest_of(path) == file.digest", "path.stat().st_size == file.size"),),
        Scripted("tests/storage/test_snapshots.py::test_a_wrong_byte_on_the_way_to_the_disk_is_found_by_the_digest"),
    ),
)  # fmt: skip

BY_NAME = {mutant.name: mutant for mutant in MUTANTS}
