"""The storm: faults, one after the other and some at once, and the verdict on what the clients saw."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from tests.chaos.arena import Arena, ChaosCluster
from tests.chaos.clients import MixedPlan, RedisPyLoad
from tests.chaos.faults import FAULTS, NETWORK_FAULTS, PROCESS_FAULTS
from tests.support.linearizability import violations
from tests.support.network import Network
from tests.support.workload import check_journals, keys_of, read_keys

TWO_AT_ONCE = 0.3
"""The share of the turns in which a process fault strikes while the network is at fault."""


@dataclass
class Verdict:
    """What came out. `wrong` says what must not have been, and is empty when all is well."""

    faults: list[str] = field(default_factory=list)
    failovers: int = 0
    operations: int = 0
    unknown: int = 0
    worst_recovery_s: float = 0.0
    linearizable: bool = True
    lost: bool = False
    wrong: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return (
            f"faults={len(self.faults)} failovers={self.failovers} operations={self.operations} "
            f"unknown={self.unknown} worst_recovery={self.worst_recovery_s:.1f}s "
            f"linearizable={'yes' if self.linearizable else 'NO'} lost={'SOME' if self.lost else '0'}"
        )


def drawn(dice: random.Random, names: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """Turns for ever: every fault before any comes again; some with a second one inside."""
    while True:
        for name in dice.sample(list(names), len(names)):
            inner = [other for other in names if other in PROCESS_FAULTS]
            twice = name in NETWORK_FAULTS and inner and dice.random() < TWO_AT_ONCE
            yield (name, dice.choice(inner)) if twice else (name,)


def storm(
    size: int,
    turns: Iterator[tuple[str, ...]],
    *,
    seed: int,
    seconds: float = float("inf"),
    hold_s: tuple[float, float] = (0.5, 4.0),
    tell: Callable[[str], object] = print,
) -> Verdict:
    """Run the turns until they end or the time is over. Raises AssertionError when the cluster does not come back."""
    dice = random.Random(seed)
    verdict = Verdict()
    with Network(size) as network, ChaosCluster(network) as cluster:
        load = RedisPyLoad(cluster.nodes, MixedPlan(), clients_per_node=4 if size < 5 else 3, pause_s=0.005, seed=seed)
        with load:
            arena = Arena(network, cluster, load, dice)
            arena.settle()
            started = time.monotonic()
            for turn in turns:
                if time.monotonic() - started > seconds:
                    break
                took = one_turn(arena, turn, hold_s)
                verdict.faults += turn
                verdict.worst_recovery_s = max(verdict.worst_recovery_s, took)
                tell(f"{time.monotonic() - started:6.1f} s  {' + '.join(turn)}: served everywhere after {took:.2f} s")
            arena.cut_power(list(range(size)))  # under load
            arena.start(list(range(size)))
            arena.settle()
            load.stop()
            cluster.wait_equal()
            arena.cut_power(list(range(size)))
            arena.start(list(range(size)))
            cluster.wait_ready()
            cluster.wait_equal()
        verdict.failovers = arena.failovers
        judge(load, cluster, dice, verdict)
    return verdict


def one_turn(arena: Arena, turn: tuple[str, ...], hold_s: tuple[float, float]) -> float:
    """The faults of a turn, one inside the other; returns the seconds from their end until all nodes serve."""
    ends = []
    for name in turn:
        ends.append(FAULTS[name](arena))
        arena.watch(arena.dice.uniform(*hold_s))
    for end in reversed(ends):
        end()
    ended = time.monotonic()
    arena.settle()
    took = time.monotonic() - ended
    arena.watch(arena.dice.uniform(0.2, 1.0))
    return took


def judge(load: RedisPyLoad, cluster: ChaosCluster, dice: random.Random, verdict: Verdict) -> None:
    """Fill in what the histories say."""
    history = load.history
    verdict.operations = sum(operation.known for operation in history)
    verdict.unknown = len(history) - verdict.operations
    journals = [operation for operation in history if operation.key.startswith(b"journal:")]
    shared = [operation for operation in history if not operation.key.startswith(b"journal:")]
    try:
        check_journals(journals, read_keys(dice.choice(cluster.nodes), keys_of(journals)))
    except AssertionError as error:
        verdict.lost = True
        verdict.wrong.append(str(error))
    for key, operations in violations(shared).items():
        verdict.linearizable = False
        verdict.wrong.append(f"{key!r}: " + "\n    ".join(map(str, operations)))
    if unexpected := {trouble.what for trouble in load.unexpected}:
        verdict.wrong.append(f"errors that no fault explains: {sorted(unexpected)[:5]}")
