"""The faults. Each strikes when called, and returns what ends it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

from tests.chaos.arena import Arena
from tests.cluster.test_repair import DAMAGES, newest
from tests.support.cluster import wait_until
from tests.support.loop_disk import fill
from tests.support.wall_clock import set_offset

End = Callable[[], None]
Fault = Callable[[Arena], End]

NOTICED_S = 20.0
"""How long a disk's error may stay unnoticed under load before it counts as one that hit nothing."""


# --- processes


def kill(who: str) -> Fault:
    def strike(arena: Arena) -> End:
        chosen = arena.choose(who)
        arena.stop(chosen)
        return lambda: arena.start(chosen)

    return strike


def pause(who: str) -> Fault:
    def strike(arena: Arena) -> End:
        chosen = arena.choose(who)
        for i in chosen:
            arena.cluster.pause(i)

        def end() -> None:
            for i in chosen:
                arena.cluster.resume(i)

        return end

    return strike


def hand_over(arena: Arena) -> End:
    """The leader is told to end, and hands over."""
    chosen = arena.choose("leader")
    process = arena.cluster.nodes[chosen[0]].process
    assert process is not None
    process.terminate()
    assert process.wait(30) == 0
    return lambda: arena.start(chosen)


# --- networks


def isolate(who: str) -> Fault:
    def strike(arena: Arena) -> End:
        chosen = arena.choose(who)
        arena.network.partition(chosen, arena.others(chosen))
        return arena.network.heal

    return strike


def split(arena: Arena) -> End:
    """A minority, the leader perhaps in it, and a majority."""
    nodes = list(range(arena.size))
    arena.dice.shuffle(nodes)
    half = (arena.size - 1) // 2
    arena.network.partition(nodes[:half], nodes[half:])
    return arena.network.heal


def bridge(arena: Arena) -> End:
    """Two halves that do not hear each other, and one node that both hear."""
    nodes = list(range(arena.size))
    arena.dice.shuffle(nodes)
    half = (arena.size - 1) // 2
    arena.network.partition(nodes[:half], nodes[half : 2 * half])
    return arena.network.heal


def ring(arena: Arena) -> End:
    """Every node hears one neighbour only, and is heard by the other one: no answer comes back to who asked."""
    nodes = list(range(arena.size))
    arena.dice.shuffle(nodes)
    for place, i in enumerate(nodes):
        for j in nodes:
            if j not in (i, nodes[place - 1]):
                arena.network.cut(i, j)
    return arena.network.heal


def deaf(who: str) -> Fault:
    def strike(arena: Arena) -> End:
        chosen = arena.choose(who)
        for i in chosen:
            for j in arena.others(chosen):
                arena.network.cut(i, j)
        return arena.network.heal

    return strike


def mute(who: str) -> Fault:
    def strike(arena: Arena) -> End:
        chosen = arena.choose(who)
        for i in arena.others(chosen):
            for j in chosen:
                arena.network.cut(i, j)
        return arena.network.heal

    return strike


def flaky(who: str) -> Fault:
    def strike(arena: Arena) -> End:
        for i in arena.choose(who):
            arena.network.lose(i, arena.dice.uniform(0.05, 0.4))
        return arena.network.heal

    return strike


def slow(who: str) -> Fault:
    def strike(arena: Arena) -> End:
        for i in arena.choose(who):
            arena.network.slow_down(i, arena.dice.choice((200, 500, 2000)))
        return arena.network.heal

    return strike


# --- clocks


def clock(who: str) -> Fault:
    """Off by up to an hour, each node otherwise; put right again at the end, which is one more jump."""

    def strike(arena: Arena) -> End:
        files = [arena.cluster.clock(arena.cluster.nodes[i]) for i in arena.choose(who)]
        for file in files:
            set_offset(file, arena.dice.choice((-1, 1)) * arena.dice.choice((0.3, 5.0, 60.0, 3600.0)))

        def end() -> None:
            for file in files:
                set_offset(file, 0.0)

        return end

    return strike


# --- disks


def power(who: str) -> Fault:
    def strike(arena: Arena) -> End:
        chosen = arena.choose(who)
        arena.cut_power(chosen)
        return lambda: arena.start(chosen)

    return strike


def full(who: str) -> Fault:
    """Not a byte is left. A node may refuse writes, or end; with room it is to work again."""

    def strike(arena: Arena) -> End:
        chosen = arena.choose(who)
        for i in chosen:
            fill(arena.cluster.disks[i].mount_point, 0)

        def end() -> None:
            for i in chosen:
                (arena.cluster.disks[i].mount_point / "filler").unlink()
            arena.start(chosen)

        return end

    return strike


def disk_error(call: str, who: str) -> Fault:
    """EIO for every sync, or every write to the newest file of the log. The node must end; its power is cut then, so
    that nothing is left which was written and not synced."""

    def strike(arena: Arena) -> End:
        chosen = arena.choose(who)
        node = arena.cluster.nodes[chosen[0]]
        calls = "fdatasync,fsync" if call == "sync" else "write,writev,pwrite64"
        command = ["strace", "-f", "-qq", "-o", os.devnull, "-p", str(node.pid), "-e", f"trace={calls}"]
        if call == "write":
            command += ["-P", str(newest(arena.cluster.data(node) / "log", "*.log"))]
        tracer = subprocess.Popen([*command, "-e", f"inject={calls}:error=EIO"], stderr=subprocess.DEVNULL)
        assert node.process is not None
        try:
            code = node.process.wait(NOTICED_S)
        except subprocess.TimeoutExpired:
            assert call == "write", f"{node.name} goes on while its disk fails every sync"  # its log has a new file
        else:
            assert code not in (0, -9), f"{node.name} ended with {code} when its disk failed"
        finally:
            tracer.terminate()
            tracer.wait()
        arena.cut_power(chosen)
        return lambda: arena.start(chosen)

    return strike


def damage(arena: Arena) -> End:
    """A file of one node that is down is deleted, cut or flipped; the node must fill itself again from the others."""
    chosen = arena.choose("one")
    node = arena.cluster.nodes[chosen[0]]
    arena.stop(chosen)
    data = Path(arena.cluster.data(node))
    DAMAGES[arena.dice.choice(list(DAMAGES))](data, arena.dice)

    def end() -> None:
        arena.start(chosen)
        wait_until(lambda: node.raft().get("raft_state") == "up", f"the damaged {node.name} may vote again")

    return end


PROCESS_FAULTS: dict[str, Fault] = {
    "kill-one": kill("one"),
    "kill-leader": kill("leader"),
    "kill-majority": kill("majority"),
    "kill-all": kill("all"),
    "pause-one": pause("one"),
    "pause-leader": pause("leader"),
    "pause-majority": pause("majority"),
    "clock-one": clock("one"),
    "clock-leader": clock("leader"),
    "clock-all": clock("all"),
    "power-leader": power("leader"),
    "power-majority": power("majority"),
    "power-all": power("all"),
}
NETWORK_FAULTS: dict[str, Fault] = {
    "isolate-one": isolate("one"),
    "isolate-leader": isolate("leader"),
    "split": split,
    "bridge": bridge,
    "ring": ring,
    "deaf-leader": deaf("leader"),
    "mute-leader": mute("leader"),
    "flaky-leader": flaky("leader"),
    "flaky-all": flaky("all"),
    "slow-leader": slow("leader"),
    "slow-all": slow("all"),
}
LONE_FAULTS: dict[str, Fault] = {
    "hand-over": hand_over,
    "full-leader": full("leader"),
    "full-all": full("all"),
    "sync-error-one": disk_error("sync", "one"),
    "sync-error-leader": disk_error("sync", "leader"),
    "write-error-leader": disk_error("write", "leader"),
    "damage": damage,
}
"""Faults that are not combined: for a node to end or to heal as it should, the others must be there."""

FAULTS = {**PROCESS_FAULTS, **NETWORK_FAULTS, **LONE_FAULTS}
