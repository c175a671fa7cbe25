"""Whole nodes, and one whose disk is lost at the worst of moments: what it had acknowledged is counted after that."""

from __future__ import annotations

from collections.abc import Callable, Generator

from tests.simulation.node_plan import FAULT_RATES
from tests.simulation.node_world import NodeWorld
from tests.simulation.sim_disk import SimDisk
from tests.simulation.sim_network import Weather

SETTINGS = {
    "tick_ms": 25, "heartbeat_ms": 100, "election_timeout_ms": 3000, "protected_mode": "no", "request_timeout_ms": 5000,
    "raft_window_entries": 1, "shutdown_timeout_ms": 1000,
}  # fmt: skip
LOOK_S = 0.0005
CLOG_S = 5.0
Scene = Generator[Callable[[], bool], None, None]
"""Yields what it waits for."""


def play(world: NodeWorld, scene: Scene, begin_s: float) -> None:
    """Go on with the scene whenever what it waits for has come."""
    waits_for: list[Callable[[], bool]] = [lambda: True]

    def look() -> None:
        if waits_for[0]():
            found = next(scene, None)
            if found is None:
                return
            waits_for[0] = found
        world.timeline.after(LOOK_S, look)

    world.timeline.after(begin_s, look)


def lose_disk(world: NodeWorld, node_id: str) -> None:
    """The node comes back at once, with an empty disk."""
    world.end(world.processes[node_id], True)
    world.checks.lost_disks = True
    world.disks[node_id] = SimDisk(node_id, world.disks[node_id].generation + 1)
    world.start(node_id)


class Worst:
    """Of three nodes the leader's disk is slow, one follower does not hear of the latest entries, and the other
    has acknowledged them, loses its disk, and is told by the leader how far it is. Then the leader's disk has the
    entries, too: it counts the old acknowledgement and tells its clients. It goes before the other node has them again:
    that must not elect a leader together with the one that lacks them."""

    def __init__(self, seed: int) -> None:
        self.world = world = NodeWorld(
            seed, voters=3, ends_s=14.0, busy_nodes=3, clients_per_node=2, only_reads=0.0, client_pause_s=0.02,
            sync_s=0.0005, weather=Weather(in_order=True), settings=SETTINGS, bounds={}, membership=0.0,
            **dict.fromkeys(FAULT_RATES, 0.0),
        )  # fmt: skip
        self.came_to = ""
        play(world, self.scene(), 1.0)
        world.run()

    def scene(self) -> Scene:
        """Ends early where another leads first, or the leader knows too soon that a log was lost."""
        world, network = self.world, self.world.network
        yield lambda: any(process.leads for process in world.processes.values())
        leader = next(process for process in world.processes.values() if process.leads)
        core = leader.node.core
        one, other = (node_id for node_id in world.ids if node_id != leader.node_id)
        yield lambda: core.commit_index > 20 and min(p.match_index for p in core.progress.values()) >= core.commit_index
        network.clog(leader.node_id, other, CLOG_S)
        leader.disk.hung = True
        soon = world.timeline.now + 0.05
        yield lambda: world.timeline.now > soon  # what was on its way is there
        committed = core.commit_index
        yield lambda: not leader.leads or core.progress[one].match_index > committed + 4
        if not leader.leads:
            return
        acknowledged = core.progress[one].match_index
        lose_disk(world, one)
        lost = world.processes[one]
        yield lambda: lost.is_up and leader.node_id in lost.node.rejoin._heard
        rejoin = lost.node.rejoin
        first = rejoin._heard[leader.node_id]
        if not network.connected(one, leader.node_id):  # as soon as it is, this one asks and is answered
            yield lambda: rejoin._heard[leader.node_id] is not first
        told = rejoin._heard[leader.node_id]
        if core.progress[one].rejoining or told.commit_index != committed or told.last_index < acknowledged:
            return
        world.faults._unhang(leader.disk)
        yield lambda: core.applied_index >= acknowledged
        yield lambda: lost.node.core.applied_index >= committed
        network.clog(leader.node_id, one, CLOG_S)
        soon = world.timeline.now + 2.0
        yield lambda: rejoin.done or world.timeline.now > soon
        if lost.node.core.last_index >= acknowledged:
            return
        world.end(leader, True)
        network.heal()
        soon = world.timeline.now + 4
        yield lambda: world.timeline.now > soon
        self.came_to = f"{lost.node.core.term} {leader.node.core.term}"
        world.start(leader.node_id)


def test_what_a_lost_disk_had_acknowledged_and_its_leader_counts_afterwards_is_not_lost() -> None:
    """Without the leader that has it, nobody leads."""
    runs = (Worst(seed) for seed in range(12))
    came_to = next(run.came_to for run in runs if run.came_to)
    assert came_to == "1 1"
