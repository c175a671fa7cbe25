"""The same command line starts a node the first and the hundredth time, whatever happened to the cluster meanwhile."""

from __future__ import annotations

import signal

from tests.support.cluster import ZattCluster, wait_until
from tests.support.growing import EXIT_REMOVED


def by_name(size: int) -> ZattCluster:
    """A cluster whose members are told to each other by a host name, as in containers."""
    cluster = ZattCluster(size, start=False, in_memory=True)
    for node in cluster.nodes:
        node.host = "localhost"
    return cluster


def test_a_cluster_by_names_is_started_again_and_again() -> None:
    with by_name(3) as cluster:
        cluster.start()
        with cluster.client() as client:
            identity = client.info("raft")["raft_cluster_id"]
            addresses = [value for name, value in client.info("raft").items() if name.startswith("raft_member_")]
            assert all("address=localhost:" in value for value in addresses)
            client.call("SET", "k", 0)
        for number, how in enumerate((signal.SIGKILL, signal.SIGTERM), 1):
            for i in range(3):
                cluster.kill(i, how)
            cluster.start()
            with cluster.client(number % 3) as client:
                assert client.call("INCR", "k") == number
                assert client.info("raft")["raft_cluster_id"] == identity
        cluster.wait_equal()


def test_the_command_line_of_the_first_start_does_not_undo_a_removal() -> None:
    with by_name(3) as cluster:
        for node in cluster.nodes:  # the leader must not lose its term to a busy machine
            node.flags += ["--election-timeout-ms", "2500"]
        cluster.start()
        with cluster.client() as client:
            assert client.call("RAFT", "REMOVE", "n3") == b"OK"
        gone = cluster.nodes[2]
        wait_until(lambda: not gone.running, "the removed node ends")
        for i in (0, 1):
            cluster.kill(i, signal.SIGKILL)
        for i in (0, 1):
            cluster.spawn(cluster.nodes[i])  # --cluster still names n3
        cluster.wait_ready(cluster.nodes[:2])
        leader = cluster.nodes[cluster.wait_leader()]
        term = leader.facts()["raft_current_term"]
        cluster.spawn(gone)
        wait_until(lambda: not gone.running, "the removed node ends again")
        assert gone.process is not None and gone.process.returncode == EXIT_REMOVED
        assert "was removed from the cluster" in gone.log().splitlines()[-1]
        with cluster.client(0) as client:
            client.call("SET", "k", "v")
            assert client.info("raft")["raft_members"] == "2"
        # It has disturbed nobody.
        assert leader.facts()["raft_role"] == "leader"
        assert leader.facts()["raft_current_term"] == term


def test_one_node_is_started_again_and_again() -> None:
    with ZattCluster(1, in_memory=True) as cluster:
        for number in range(1, 4):
            with cluster.client() as client:
                assert client.call("INCR", "k") == number
            cluster.kill(0, signal.SIGKILL if number % 2 else signal.SIGTERM)
            cluster.restart(0)
