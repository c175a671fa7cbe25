"""The membership of a simulated cluster changes while the storm goes on: nodes join, are demoted, replaced, removed."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from zattredis.errors import ReplyError
from zattredis.raft.changes import Change

if TYPE_CHECKING:
    from tests.simulation.node_world import NodeWorld, Process

VOTERS_MIN = 3
NODES_MAX = 7
"""With more, calm may need longer than its ten seconds for no other reason than what the seed draws: sixteen newcomers
who take 300 entries one by one, each with a sync of 30 ms (seed 2 at rate 5: 20 s), or snapshots of a second each, one
after the other (seed 10: 11 s)."""


class Growth:
    """Asks for one change after the other, of any node, with draws of its own: other runs stay as they are."""

    def __init__(self, world: NodeWorld) -> None:
        self._world = world
        self._rng = random.Random(f"membership {world.seed}")
        self._asked = 0
        self.made: list[str] = []
        self._leaving: set[str] = set()  # asked to be no voter any more, and perhaps not yet

    def begin(self) -> None:
        """Begin, where the plan has changes."""
        if self._world.plan.membership:
            self._world.timeline.after(1.0, self._turn)

    def _turn(self) -> None:
        world, rng = self._world, self._rng
        if not world.storm:
            return
        if not self._asked and rng.random() < world.plan.membership / 10:
            running = [p for i in world.ids if (p := world.listening(i)) is not None and not p.loop.paused]
            if running:
                self._change(rng.choice(running))
        world.timeline.after(0.1, self._turn)

    def _change(self, asked: Process) -> None:
        rng, world = self._rng, self._world
        membership = asked.node.core.membership
        voters, learners = sorted(membership.voters), sorted(membership.learners)
        leader = [i for i in voters if i in world.processes and world.processes[i].leads]
        victim = leader[0] if leader and rng.random() < 0.4 else rng.choice(voters)
        kind = rng.choice(["add", "add", "remove", "remove", "replace", "demote", "promote"])
        room = len(world.ids) < NODES_MAX  # a node whose change is refused joins all the same
        enough = self._voters_left() > VOTERS_MIN
        if kind == "add" and room:
            change = Change(add=[world.new_node()])
        elif kind == "remove" and enough:
            change = Change(remove=[victim])
        elif kind == "demote" and enough:
            change = Change(demote=[victim])
        elif kind == "promote" and learners:
            change = Change(promote=[rng.choice(learners)])
        elif kind == "replace" and room:
            change = Change(add=[world.new_node()], remove=[victim])
        else:
            return
        self._asked += 1
        leaving = {*change.remove, *change.demote}
        self._leaving |= leaving
        self._leaving.difference_update(change.promote)
        world.trace(f"{asked.node_id} is asked for {change}")

        async def ask() -> None:
            said = "done"
            try:
                await asked.node.changes.change(change, wait_for_learners=False)
            except ReplyError as error:
                said = str(error)
                if not said.startswith("TIMEOUT"):  # else it may be carried out yet
                    self._leaving -= leaving
            self.made += [kind] if said == "done" else []
            world.trace(f"{asked.node_id} says of {change}: {said}")
            self._asked = 0

        # Whoever was asked may die of it; the next change is not held up for ever.
        world.timeline.after(3.0, self._forget)
        asked.later(0, lambda: asked.loop.create_task(ask()))

    def _voters_left(self) -> int:
        """How many voters there are by each membership that may be in force, without those who may be about to leave.

        Whoever is asked may not know of the last change; two voters do without neither (seed 3203153: one of two
        turned out to be damaged)."""
        world = self._world
        known = [*world.checks.agreed[-1:], *(p.node.core.membership for p in world.processes.values() if p.is_up)]
        return min((len(set(m.voters) - self._leaving) for m in known if m.voters), default=0)

    def _forget(self) -> None:
        self._asked = 0
