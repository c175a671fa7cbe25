"""Who may vote: a node that lost its log must not vote again until it is as good as the one it was (DESIGN §4).

A node with an empty log cannot tell whether it never ran or has lost its disk. It may have voted, and acknowledged
entries, that it no longer knows. So such a node, unless it is its own cluster, neither campaigns nor votes until it has
heard from *every* other voter since its start, and then

- if all their logs are empty, too, the cluster is new (nothing can have been committed), or
- it holds, durably and verified with the present leader, which has committed in its own term, everything that this one
  reported to hold, committed or not: whatever it may once have acknowledged is in there. (What is committed is not
  enough: a leader counts an old acknowledgement as soon as its own disk holds the entry, too, perhaps right after it
  reported. And to wait until all of it is committed could take this very node's consent.) Nobody has reported a later
  term than that leader's: the leader of that one may have committed more with this node's help.

Either way it enters the highest term anyone reported with its vote spent, so that a vote it may have forgotten cannot
be cast a second time. A node that gave up a damaged log (`server.repair`) is in the same place. A file in the data
directory remembers the duty across restarts. A cluster's very first start therefore needs all its nodes once; later
starts need a majority.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

from zattredis.observability.events import get_logger
from zattredis.peer.messages import Introduction
from zattredis.raft.core import Core
from zattredis.storage.repair import REJOINING
from zattredis.storage.rocks import fsync_directory

_FILE: Final = REJOINING
SPENT: Final = "?"
"""Stands for "voted for somebody, forgotten for whom" in the hard state."""

_log = get_logger(room="rejoin")


class Rejoin:
    """The duty of one node with an empty log; `done` once it may vote. Introductions of others are answered always."""

    __slots__ = ("_core", "_heard", "_leading_committed", "_newcomer", "_on_done", "_path", "_ports", "_send", "done")

    def __init__(
        self,
        core: Core,
        directory: Path,
        send: Callable[[Introduction], bool],
        leading_committed: Callable[[], bool],
        on_done: Callable[[], None],
        ports: tuple[int, int, int] = (0, 0, 0),
    ) -> None:
        """`ports`: the last three fields of the introductions of this node."""
        self._core = core
        self._path = directory / _FILE
        self._send = send
        self._leading_committed = leading_committed
        self._on_done = on_done
        self._ports = ports
        self._heard: dict[str, Introduction] = {}
        alone = core.membership.is_voter(core.node_id) and not core.other_voters
        empty = core.last_index == 0 and core.term == 0
        # A learner that never was a voter has no vote to forget (`server.joining` has made certain of that). But it may
        # have lost what its leader believes it to hold.
        self._newcomer = empty and not self._path.exists() and core.node_id in core.membership.newcomers
        if empty and not alone and not self._newcomer and not self._path.exists():
            self._path.touch(mode=0o600)
            fsync_directory(directory)
        self.done = alone or not (self._newcomer or self._path.exists())
        # The core takes part meanwhile, but its answers say that they count for nothing.
        core.rejoining = not self.done

    @property
    def owes_vote(self) -> bool:
        """Whether this node may have to vote, and must not yet."""
        return not self.done and not self._newcomer

    def ask(self) -> None:
        """Introduce this node to every other voter, while it does not know enough of them. Called on a timer."""
        if not self.done:
            for node_id in self._core.other_voters:
                self._introduce(node_id, True)
            self._conclude()

    def introduce_to(self, node_id: str) -> None:
        """A link came up: say where and how far this node is, and ask for the same where it must be known."""
        self._introduce(node_id, not self.done)

    def _introduce(self, node_id: str, asks: bool) -> None:
        core = self._core
        self._send(
            Introduction(
                core.node_id, node_id, core.term, core.last_index, core.commit_index, self._leading_committed(), asks,
                core.membership.addresses.get(core.node_id, ""), *self._ports,
            )
        )

    def on_introduction(self, message: Introduction) -> None:
        """Another node says how far it is."""
        if message.asks:
            self._introduce(message.src, False)
        if not self.done:
            self._heard[message.src] = message
            self._conclude()

    def _conclude(self) -> None:
        core = self._core
        if self._newcomer:
            if not self._as_good_as_its_leader():
                return
            self.done = True
            core.rejoining = False
            self._on_done()
            return
        if any(node_id not in self._heard for node_id in core.other_voters):
            return
        others = [self._heard[node_id] for node_id in core.other_voters]
        highest = max([one.term for one in others], default=0)
        new_cluster = not core.last_index and not any(one.last_index for one in others)
        if not new_cluster and (highest > core.term or not self._as_good_as_its_leader()):
            return
        if highest > core.term:
            core.set_term(highest, SPENT)
        elif core.vote is None and core.term:
            core.set_term(core.term, SPENT)
        self.done = True
        core.rejoining = False
        self._path.unlink(missing_ok=True)
        fsync_directory(self._path.parent)
        _log.info("may_vote", term=core.term, applied=core.applied_index)
        self._on_done()

    def _as_good_as_its_leader(self) -> bool:
        core = self._core
        leader = self._heard.get(core.leader_id or "")
        known = leader is not None and leader.leads and leader.term == core.term
        return known and leader is not None and min(core.durable_index, core.verified_index) >= leader.last_index

    def missing(self) -> list[str]:
        """Return the voters that have not been heard from, for a person who wonders what a start waits for."""
        if not self.owes_vote:
            return []
        return [node_id for node_id in self._core.other_voters if node_id not in self._heard]


def must_wait(directory: Path) -> bool:
    """Return whether the node in this data directory still has to hear from all others."""
    return os.path.exists(directory / _FILE)
