"""Whether a node is alive, and whether it should be sent clients."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zattredis.server.clock import monotonic

if TYPE_CHECKING:
    from zattredis.server.node import Node

MARK_S = 1.0


class Health:
    """One per admin port; `look` is called about once a second: a node under load need not be level to be ready.

    A node has caught up when it has applied all that was committed when it last looked. At the start that takes one
    look at what the leader says is committed: before it, a node that was away does not know what it lacks.
    """

    __slots__ = ("_caught_up", "_looked_at", "_mark", "_node")

    def __init__(self, node: Node) -> None:
        self._node = node
        self._mark = -1
        self._caught_up = False
        self._looked_at = 0.0

    def look(self) -> None:
        """Compare with what was committed at the last look, and remember what is committed now."""
        now = monotonic()
        if self._mark >= 0 and now - self._looked_at < MARK_S:
            self._caught_up = self._caught_up or self._applied >= self._mark
            return
        self._looked_at = now
        committed = self._committed()
        if committed is None:
            return
        self._caught_up = self._applied >= (committed if self._mark < 0 else self._mark)
        self._mark = committed

    @property
    def _applied(self) -> int:
        return self._node.core.applied_index

    def _committed(self) -> int | None:
        """Return what is known to be committed, None while that may be far behind the truth."""
        node = self._node
        if node.driver.is_leader:
            return node.core.commit_index if node.core.commit_index >= node.core.term_start_index else None
        reported = node.housekeeping.reported_commit
        return max(reported, node.core.commit_index) if reported else None

    def unready(self) -> list[str]:
        """Return why this node should not be sent clients; nothing if it should."""
        node = self._node
        reasons = []
        if not node.is_open:
            reasons.append("the node has ended")
        elif not node.dispatcher.accepting:
            reasons.append("the node is stopping")
        if node.dispatcher.fenced:
            reasons.append(f"the node is fenced: {node.dispatcher.write_refusal}")
        if node.rejoin.owes_vote:
            reasons.append("the node is finding out what it may have lost")
        if node.core.leader_id is None:
            reasons.append(f"no leader is known in term {node.core.term}")
        else:
            self.look()
            if not self._caught_up:
                behind = max(self._mark - self._applied, 0)
                reasons.append(
                    f"{behind} committed entries are not applied yet"
                    if behind
                    else "what is committed is not known yet"
                )
        if not node.applier.readable:
            reasons.append("the disk is too slow for what is being applied")
        return reasons
