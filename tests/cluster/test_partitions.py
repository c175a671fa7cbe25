"""Nodes that live but do not hear each other: a majority goes on, a minority refuses, and nothing read is stale."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.cluster import wait_until
from tests.support.linearizability import INCREMENT, READ, WRITE, violations
from tests.support.network import Network, NetworkCluster, why_unavailable
from tests.support.workload import Load, check_journals, journals, keys_of, read_keys, registers

PATIENT = ("--election-timeout-ms", "2000")
"""Where a leader must keep its term, however long a busy machine lets it wait."""


@pytest.fixture
def network() -> Iterator[Network]:
    if reason := why_unavailable():
        pytest.skip(reason)
    with Network(3) as network:
        yield network


def test_isolated_leader_serves_nothing_stale_and_history_stays_linearizable(network: Network) -> None:
    with (
        NetworkCluster(network, flags=["--request-timeout-ms", "4000"]) as cluster,
        Load(cluster.nodes, registers(6, (READ, READ, WRITE, INCREMENT)), clients_per_node=3, pause_s=0.002) as load,
    ):
        for _ in range(3):
            load.wait_more(100, nodes=[0, 1, 2])
            leader = cluster.wait_leader()
            live = [i for i in range(3) if i != leader]
            before = len(load.troubles_on(live))
            network.partition([leader], live)
            load.wait_more(100, nodes=live)
            wait_until(lambda leader=leader: cluster.leader() != leader, "another leader")  # type: ignore[misc]
            assert len(load.troubles_on(live)) == before
            network.heal()
        load.wait_more(100, nodes=[0, 1, 2])
        load.stop()
        assert violations(load.history) == {}
        cluster.wait_equal()
        replies = {trouble.what.split()[0] for trouble in load.troubles if trouble.is_reply}
        assert replies <= {"CLUSTERDOWN", "TIMEOUT"}


def test_follower_cut_off_and_back_disturbs_nobody(network: Network) -> None:
    with NetworkCluster(network, flags=PATIENT) as cluster:
        follower, other = cluster.followers()
        leader = cluster.wait_leader()
        term = int(cluster.nodes[leader].facts()["raft_current_term"])
        live = [leader, other]
        with Load([cluster.nodes[i] for i in live], journals(), clients_per_node=3) as load:
            load.wait_more(50)
            network.partition([follower], live)
            wait_until(
                lambda: not cluster.is_ready(cluster.nodes[follower]), "the lone follower knows it has no leader"
            )
            load.wait_more(200)
            network.heal()
            cluster.wait_ready()
            load.wait_more(100)
        assert load.troubles == []
        assert int(cluster.nodes[leader].facts()["raft_current_term"]) == term, (
            "the returning follower forced an election"
        )
        cluster.wait_equal()
        check_journals(load.history, read_keys(cluster.nodes[follower], keys_of(load.history)))


def test_leader_that_hears_nobody_but_is_heard_steps_down(network: Network) -> None:
    """One direction only: followers get its heartbeats, it gets no answer. It must not keep them from electing."""
    with NetworkCluster(network) as cluster:
        leader = cluster.wait_leader()
        live = [i for i in range(3) if i != leader]
        with Load([cluster.nodes[i] for i in live], journals(), clients_per_node=3) as load:
            load.wait_more(50)
            for i in live:
                network.cut(leader, i)
            load.wait_more(100)
            assert cluster.leader() in live
            network.heal()
            cluster.wait_ready()
        assert load.troubles == []
        cluster.wait_equal()
        check_journals(load.history, read_keys(cluster.nodes[leader], keys_of(load.history)))


def test_two_followers_that_do_not_hear_each_other_change_nothing(network: Network) -> None:
    with NetworkCluster(network, flags=PATIENT) as cluster:
        leader = cluster.wait_leader()
        term = int(cluster.nodes[leader].facts()["raft_current_term"])
        first, second = cluster.followers()
        network.partition([first], [second])
        with Load(cluster.nodes, journals(), clients_per_node=2) as load:
            load.wait_more(300, nodes=[0, 1, 2])
        assert load.troubles == []
        assert int(cluster.nodes[leader].facts()["raft_current_term"]) == term
        network.heal()
        cluster.wait_equal()
        check_journals(load.history, read_keys(cluster.nodes[first], keys_of(load.history)))
