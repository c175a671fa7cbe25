"""The storm: what a seed's rates make of machines, disks, clocks and links.

What a cluster survives by its promises happens at any time. What it survives only once at a time (a disk that is gone
or damaged) happens while every other disk is whole.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.simulation.sim_disk import SimDisk
from zattredis.errors import ProposalRefused

if TYPE_CHECKING:
    from tests.simulation.node_world import NodeWorld, Process


class Storm:
    """One per run. Draws from the world's generator, so that the same seed brings the same storm."""

    def __init__(self, world: NodeWorld) -> None:
        self._world = world
        self._rng = world.rng

    def begin(self) -> None:
        """Begin."""
        self._world.timeline.after(1.0, self._turn)

    def end(self) -> None:
        """Everything that can heal by itself heals now."""
        world = self._world
        for node_id in world.ids:
            disk = world.disks[node_id]
            disk.full = disk.low = False
            self._unhang(disk)
            if disk.is_damaged:  # whoever has not read it yet never may: somebody tests all files
                process = world.processes.get(node_id)
                if process is not None:
                    world.end(process, False)
                disk.noted = ("injected: a test of all files found it damaged", False)

    def _turn(self) -> None:
        """Ten times a second: faults happen."""
        world, rng, plan = self._world, self._rng, self._world.plan
        if not world.storm:
            return
        for rate, action in (
            (plan.crash, self._crash),
            (plan.disk_loss, self._lose_disk),
            (plan.disk_hang, self._hang),
            (plan.disk_full, self._fill),
            (plan.flip_log, self._flip_log),
            (plan.flip_state, self._flip_state),
            (plan.stop, self._stop),
            (plan.partition, self._partition),
            (plan.clog, self._clog),
            (plan.link_break, world.network.break_some_link),
            (plan.pause, self._pause),
            (plan.clock_jump, self._jump),
            (plan.transfer, self._transfer),
            (plan.compaction, self._compact),
        ):
            if rng.random() < rate / 10:
                action()
        world.timeline.after(0.1, self._turn)

    def _some(self) -> Process | None:
        running = [p for p in self._world.processes.values() if p.is_up]
        leading = [p for p in running if p.leads]
        if leading and self._rng.random() < 0.4:
            return self._rng.choice(leading)
        return self._rng.choice(running) if running else None

    # --- machines ---

    def _crash(self) -> None:
        world, rng = self._world, self._rng
        power = rng.random() < world.plan.power_cut
        if rng.random() < world.plan.crash_everybody:
            victims = list(world.processes.values())
        else:
            one = self._some()
            victims = [one] if one is not None else []
        for process in victims:
            world.end(process, power)
            world.timeline.after(0.05 + rng.random() * 1.5, lambda i=process.node_id: world.start(i))

    def _stop(self) -> None:
        process = self._some()
        if process is not None and not process.loop.paused:
            self._world.trace(f"{process.node_id} is told to stop")
            process.later(0, lambda: process.node.shut_down(now=self._rng.random() < 0.2))

    def _pause(self) -> None:
        process = self._some()
        if process is not None and not process.loop.paused:
            seconds = self._rng.random() * 2
            self._world.trace(f"{process.node_id} pauses for {seconds:.3f} s")
            process.loop.paused = True
            self._world.timeline.after(seconds, process.loop.resume)

    def _jump(self) -> None:
        world = self._world
        node_id = self._rng.choice(world.ids)
        seconds = (self._rng.random() * 2 - 1) * world.plan.clock_jump_s
        world.wall_offset[node_id] += seconds
        world.trace(f"{node_id}'s clock jumps by {seconds:.3f} s")

    # --- disks ---

    def _all_whole(self) -> bool:
        """Whether one disk may be lost: there are others, each of which holds what it ever held.

        Before each has an entry nobody can do without the others: a cluster's very first start needs all its nodes. And
        the others must be a majority by every membership that may be in force.
        """
        world = self._world
        disks = world.disks.values()
        known = [*world.checks.agreed[-1:], *(p.node.core.membership for p in world.processes.values() if p.is_up)]
        halves = [half for m in known for half in (m.voters, m.voters_outgoing) if half]
        return min(map(len, [world.founders, *halves])) >= 3 and all(
            disk.durable_last_index and not disk.files and not disk.is_damaged and not disk.noted for disk in disks
        )

    def _lose_disk(self) -> None:
        """A node loses its whole disk, if every node is whole: more than that nobody survives."""
        if self._all_whole():
            self.replace_disk(self._rng.choice(self._world.ids))

    def replace_disk(self, victim: str) -> None:
        """The node goes down and comes back with an empty disk."""
        world = self._world
        process = world.processes.get(victim)
        if process is not None:
            world.end(process, True)
        world.trace(f"{victim} loses its disk")
        world.checks.lost_disks = True
        world.rejoins += 1
        world.disks[victim] = SimDisk(victim, world.disks[victim].generation + 1)
        world.timeline.after(0.05 + self._rng.random() * 1.5, lambda: world.start(victim))

    def _hang(self) -> None:
        """No sync of a disk ends for a while, perhaps until the process does."""
        world = self._world
        process = self._some()
        if process is None or process.disk.hung:
            return
        disk = process.disk
        seconds = self._rng.choice([0.5, 2.0, 60.0]) * self._rng.random()
        world.trace(f"{process.node_id}'s disk hangs for {seconds:.3f} s")
        disk.hung = True
        world.timeline.after(seconds, lambda: self._unhang(disk))

    def _unhang(self, disk: SimDisk) -> None:
        if disk.hung:
            disk.hung = False
            process = self._world.processes.get(disk.node_id)
            if process is not None and process.disk is disk and process.sync is not None:
                process.sync.go_on()

    def _fill(self) -> None:
        """A disk gets low, and perhaps full, and has room again later."""
        world = self._world
        disk = world.disks[self._rng.choice(world.ids)]
        if disk.low:
            return
        disk.low = True
        disk.full = self._rng.random() < 0.5
        world.trace(f"{disk.node_id}'s disk is {'full' if disk.full else 'nearly full'}")

        def make_room() -> None:
            disk.low = disk.full = False
            world.trace(f"{disk.node_id}'s disk has room")

        world.timeline.after(0.3 + self._rng.random() * 3, make_room)

    def _flip_log(self) -> None:
        """A bit flips in a stored entry."""
        world = self._world
        disk = world.disks[self._rng.choice(world.ids)]
        if self._all_whole() and disk.durable.entries:
            entry = self._rng.choice(disk.durable.entries)
            disk.damaged_entries.append(entry)
            world.trace(f"a bit flips in {disk.node_id}'s log, in {entry}")

    def _flip_state(self) -> None:
        """A bit flips in what the state has flushed."""
        world = self._world
        disk = world.disks[self._rng.choice(world.ids)]
        if not self._all_whole():
            return
        state = disk.states[disk.state_directory.name]
        key = self._rng.choice(sorted(state.flushed))
        disk.damaged_keys.add((state.path.name, key))
        state.damage(disk)
        world.trace(f"a bit flips in {disk.node_id}'s state, in {key!r}")

    # --- links ---

    def _partition(self) -> None:
        world, rng, network = self._world, self._rng, self._world.network
        ids = list(world.ids)
        rng.shuffle(ids)
        leading = [i for i in ids if i in world.processes and world.processes[i].leads]
        if leading and rng.random() < 0.5:
            ids.sort(key=lambda i: i != leading[0])
        kind = rng.choice(["leader", "halves", "halves", "pair", "islands"])
        if kind == "islands":
            network.cut(ids, ids)
            world.trace("every node is an island")
        elif kind == "pair" and len(ids) > 2:
            network.cut(ids[:1], ids[1:2])
            network.cut(ids[1:2], ids[:1])
            world.trace(f"{ids[0]} and {ids[1]} do not hear each other")
        else:
            # The leader alone is the case that most depends on a quorum.
            size = 1 if kind == "leader" else rng.randrange(1, len(ids) + 1)
            here, there = ids[:size], ids[size:]
            network.cut(here, there)
            both = rng.random() < 0.6
            if both:
                network.cut(there, here)
            world.trace(f"{here} cut from {there}{'' if both else ', one way'}")
        world.timeline.after(0.1 + rng.random() * 2.5, self._heal)

    def _heal(self) -> None:
        self._world.trace("links heal")
        self._world.network.heal()

    def _clog(self) -> None:
        world = self._world
        if len(world.ids) > 1:
            src, dst = self._rng.sample(world.ids, 2)
            seconds = self._rng.random() * 0.5
            world.trace(f"{src} to {dst} takes {seconds:.3f} s longer")
            world.network.clog(src, dst, seconds)

    # --- orders ---

    def _transfer(self) -> None:
        world, process = self._world, self._some()
        if process is None or not process.leads or len(world.ids) < 2:
            return

        def transfer() -> None:
            try:
                process.node.core.transfer_leader(self._rng.choice([None, *process.node.core.other_voters]))
            except ProposalRefused as error:
                world.trace(f"no transfer: {error}")
            process.node.schedule()

        if not process.loop.paused:
            world.trace(f"{process.node_id} hands over")
            process.later(0, lambda: transfer() if process.leads else None)

    def _compact(self) -> None:
        process = self._some()
        if process is not None:
            self._world.trace(f"{process.node_id} flushes and compacts")
            process.later(0, lambda: process.node.compaction.start() if process.node.is_open else None)
