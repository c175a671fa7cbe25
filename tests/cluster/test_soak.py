"""The long form: two hundred deaths of random nodes under load, a tenth of them all nodes at once."""

from __future__ import annotations

import random

import pytest

from tests.support.cluster import ZattCluster
from tests.support.linearizability import INCREMENT, READ, WRITE, violations
from tests.support.workload import (
    Load,
    check_counters,
    check_journals,
    counters,
    journals,
    keys_of,
    read_keys,
    registers,
)

KILLS = 200


def torment(cluster: ZattCluster, load: Load, rng: random.Random, kills: int) -> None:
    """Kill random nodes, some of them paused before, a tenth of the times all at once; every node works in between."""
    for turn in range(kills):
        load.wait_more(rng.randint(1, 60))
        if turn % 10 == 9:
            for node in cluster.nodes:
                assert node.process is not None
                node.process.kill()
            for i in range(len(cluster.nodes)):
                cluster.kill(i)
            cluster.start()
        else:
            victim = rng.randrange(len(cluster.nodes))
            live = [i for i in range(len(cluster.nodes)) if i != victim]
            if rng.random() < 0.2:
                cluster.pause(victim)
                load.wait_more(rng.randint(1, 30), nodes=live)
            cluster.kill(victim)
            if rng.random() < 0.5:
                load.wait_more(rng.randint(1, 60), nodes=live)
            cluster.restart(victim)
        load.wait_more(1, nodes=range(len(cluster.nodes)))


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("depth", [1, 8])
def test_two_hundred_kills_lose_nothing_and_do_nothing_twice(depth: int) -> None:
    rng = random.Random(depth)
    with ZattCluster(3) as cluster, Load(cluster.nodes, journals(), clients_per_node=3, depth=depth) as load:
        torment(cluster, load, rng, KILLS)
        load.stop()
        assert not [trouble for trouble in load.troubles if trouble.is_reply]
        cluster.wait_equal()
        check_journals(load.history, read_keys(cluster.nodes[0], keys_of(load.history)))


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_counters_over_two_hundred_kills() -> None:
    rng = random.Random(7)
    with ZattCluster(3) as cluster, Load(cluster.nodes, counters(5), clients_per_node=3) as load:
        torment(cluster, load, rng, KILLS)
        load.stop()
        cluster.wait_equal()
        values = read_keys(cluster.nodes[1], keys_of(load.history))
        check_counters(load.history, {key: int(value or 0) for key, value in values.items()})


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_linearizable_over_sixty_kills() -> None:
    rng = random.Random(11)
    plan = registers(40, (READ, READ, WRITE, INCREMENT))
    with ZattCluster(3) as cluster, Load(cluster.nodes, plan, clients_per_node=3, pause_s=0.003) as load:
        torment(cluster, load, rng, 60)
        load.stop()
        assert violations(load.history) == {}
        cluster.wait_equal()
