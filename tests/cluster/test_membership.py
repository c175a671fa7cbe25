"""Membership changes of real processes: growing and shrinking under load, replacing, moving, refusals, removals."""

from __future__ import annotations

import shutil
import signal
import threading

import pytest

from tests.support.cluster import free_port, wait_until
from tests.support.growing import EXIT_REMOVED, GrowingCluster
from tests.support.workload import Load, check_counters, check_journals, counters, journals, keys_of, read_keys

TIMEOUT_FLAGS = ["--request-timeout-ms", "30000"]  # a busy machine is no failed command


def test_from_one_node_to_five_and_back_under_load() -> None:
    """No client command fails, and nothing is lost; the leader is removed on the way."""
    with GrowingCluster(1, flags=TIMEOUT_FLAGS) as cluster, Load(cluster.nodes, journals(), clients_per_node=3) as load:
        load.wait_more(100)
        two, three = cluster.join(2)
        joined = [cluster.nodes[two], cluster.nodes[three]]
        with Load(joined, counters(4), clients_per_node=2, seed=2) as others:
            others.wait_more(100, nodes=[0, 1])
            four, five = cluster.join(2)
            assert cluster.voters() == ["n1", "n2", "n3", "n4", "n5"]
            assert cluster.raft_command(two, "TRANSFER", "n4") == b"n4"
            others.wait_more(50, nodes=[0, 1])
            assert cluster.raft_command(0, "REMOVE", "n4") == b"OK"
            cluster.wait_removed(four)
            assert cluster.raft_command(three, "REMOVE", "n5") == b"OK"
            cluster.wait_removed(five)
            others.wait_more(50, nodes=[0, 1])
        assert others.troubles == []
        totals = {key: int(value or 0) for key, value in read_keys(joined[0], keys_of(others.history)).items()}
        check_counters(others.history, totals)
        assert cluster.raft_command(0, "REMOVE", "n2", "n3") == b"OK", "both at once, by a joint configuration"
        for i in (two, three):
            cluster.wait_removed(i)
        load.wait_more(100)
        load.stop()
        assert load.troubles == []
        status = cluster.status()
        assert (status["voters"], status["removed"]) == (["n1"], ["n2", "n3", "n4", "n5"])
        check_journals(load.history, read_keys(cluster.nodes[0], keys_of(load.history)))


@pytest.fixture
def trio() -> GrowingCluster:
    return GrowingCluster(3, flags=TIMEOUT_FLAGS)


def test_a_dead_node_is_replaced_in_one_change(trio: GrowingCluster) -> None:
    with trio as cluster:
        leader, (dead, live) = cluster.wait_leader(), cluster.followers()
        with Load([cluster.nodes[leader], cluster.nodes[live]], journals(), clients_per_node=2) as load:
            load.wait_more(100)
            cluster.kill(dead)
            name = cluster.nodes[dead].name
            new = cluster.new_node()
            answers: list[object] = []
            words = ("REPLACE", name, "WITH", f"{new.name}={new.host}:{new.port}")
            asking = threading.Thread(target=lambda: answers.append(cluster.raft_command(live, *words)))
            asking.start()
            wait_until(lambda: new.name in cluster.status(live)["learners"], "the new node is a learner")
            assert name in cluster.voters(live), "nobody leaves before the new one has caught up"
            assert b"under way" in cluster.raft_command(leader, "DEMOTE", cluster.nodes[live].name)
            again = threading.Thread(target=lambda: answers.append(cluster.raft_command(leader, *words)))
            again.start()  # as whoever thinks that the first request was lost does
            cluster.spawn(new)
            asking.join(60)
            again.join(60)
            assert answers == [b"OK", b"OK"]
            assert name not in cluster.voters(live)
            assert new.name in cluster.voters(live)
            load.wait_more(50)
        assert load.troubles == []
        term = cluster.status(live)["term"]
        # The dead one comes back with all its data, and with a vote of its own for itself: it is told, and ends.
        cluster.spawn(cluster.nodes[dead])
        cluster.wait_removed(dead)
        assert cluster.status(live)["term"] == term, "a removed node raises no term"
        cluster.wait_running_equal()
        check_journals(load.history, read_keys(new, keys_of(load.history)))


def test_a_node_that_joined_by_itself_replaces_a_dead_one_once_it_is_a_voter(trio: GrowingCluster) -> None:
    with trio as cluster:
        leader, (dead, live) = cluster.wait_leader(), cluster.followers()
        cluster.kill(dead)
        new = cluster.new_node()
        cluster.spawn(new)
        wait_until(lambda: new.name in cluster.settled_voters(live), "the new node is a voter")
        name = cluster.nodes[dead].name
        words = ("REPLACE", name, "WITH", f"{new.name}={new.host}:{new.port}")
        assert cluster.raft_command(live, *words) == b"OK"
        assert cluster.status(live)["removed"] == [name]
        there = f"{new.name}={new.host}:{new.port}"
        for asked in (leader, live):  # the answer to any of these may have been lost
            for again in (words, ("REMOVE", name), ("ADD", there), ("PROMOTE", new.name)):
                assert cluster.raft_command(asked, *again) == b"OK", again
            assert b"RAFT DEMOTE" in cluster.raft_command(asked, "ADD", there, "LEARNER")
            who = cluster.nodes[leader].name.encode()
            assert cluster.raft_command(asked, "TRANSFER", who.decode()) == who
        assert cluster.voters(leader) == sorted(n.name for n in (cluster.nodes[leader], cluster.nodes[live], new))


def test_an_id_is_never_used_again_and_a_running_one_not_twice(trio: GrowingCluster) -> None:
    with trio as cluster:
        gone, (kept, other) = cluster.wait_leader(), cluster.followers()
        name = cluster.nodes[gone].name
        assert cluster.raft_command(gone, "REMOVE", name) == b"OK", "asked of the leader that is removed"
        cluster.wait_removed(gone)
        again = cluster.new_node()
        again.name = name
        cluster.spawn(again)
        wait_until(lambda: not again.running, "the second user of an id is refused")
        assert again.process is not None and again.process.returncode == EXIT_REMOVED
        assert "ids are not used again" in again.log()
        assert b"not used again" in cluster.raft_command(kept, "ADD", f"{name}=127.0.0.1:{free_port()}")
        for taken in (cluster.nodes[kept], cluster.nodes[other]):  # asked of the one itself, and of another
            reply = cluster.raft_command(kept, "ADD", f"{taken.name}=127.0.0.1:{free_port()}")
            assert reply.startswith(f"-ERR {taken.name} runs at 127.0.0.1:{taken.port}".encode()), reply
            assert b"another node needs an id of its own" in reply and b"FORCE" in reply
        twin = cluster.new_node()
        twin.name = cluster.nodes[kept].name
        cluster.spawn(twin)
        wait_until(lambda: "every node has an id of its own" in twin.log(), "the twin is told")
        assert twin.end(signal.SIGTERM) == 0


def test_losing_the_quorum_is_refused_unless_forced(trio: GrowingCluster) -> None:
    with trio as cluster:
        leader, (dead, live) = cluster.wait_leader(), cluster.followers()
        gone, stays = cluster.nodes[dead].name, cluster.nodes[live].name
        cluster.kill(dead)
        wait_until(lambda: cluster.member(gone, leader)["alive"] == "no", "the leader misses the dead node")
        for word in ("REMOVE", "DEMOTE"):
            reply = cluster.raft_command(live, word, stays)
            assert reply.startswith(b"-ERR the quorum would be lost"), reply
            assert gone.encode() in reply and b"FORCE" in reply
        assert cluster.raft_command(live, "REMOVE", "n9").startswith(b"-ERR n9 is no member")
        assert len(cluster.voters(leader)) == 3
        answers: list[bytes] = []
        words = ("REMOVE", stays, "FORCE")
        asking = threading.Thread(target=lambda: answers.append(cluster.raft_command(leader, *words)))
        asking.start()
        wait_until(lambda: len(cluster.voters(leader)) == 2, "the forced change is in the log")
        cluster.restart(dead, wait=False)  # which brings the majority of the two that are left
        asking.join(60)
        assert answers == [b"OK"]
        cluster.wait_removed(live)
        assert cluster.voters(dead) == sorted([cluster.nodes[leader].name, gone])


def test_a_node_moves_to_another_address_while_the_others_run(trio: GrowingCluster) -> None:
    with trio as cluster:
        moved, other = cluster.followers()
        node = cluster.nodes[moved]
        assert cluster.kill(moved, signal.SIGTERM) == 0
        node.port = free_port()
        assert cluster.raft_command(other, "ADD", f"{node.name}={node.host}:{node.port}") == b"OK"
        cluster.spawn(node)  # with a --cluster that names its new address, unlike its data directory
        cluster.wait_ready([node])
        with cluster.client(moved) as client:
            assert client.call("SET", "a", "b") == b"OK"
        cluster.wait_equal()
        assert "membership_differs" in node.log()
        assert len(cluster.voters(moved)) == 3


def test_a_learner_stays_one_until_it_is_promoted_and_is_demoted_again() -> None:
    with GrowingCluster(1, flags=TIMEOUT_FLAGS) as cluster:
        node = cluster.new_node()
        assert cluster.raft_command(0, "ADD", f"{node.name}={node.host}:{node.port}", "LEARNER") == b"OK"
        cluster.spawn(node)
        cluster.wait_ready([node])
        with cluster.client(1) as client:
            assert client.call("SET", "through", "a learner") == b"OK"
            assert client.call("GET", "through") == b"a learner"
        assert cluster.status()["learners"] == [node.name]
        cluster.kill(1)
        with cluster.client(0) as client:
            assert client.call("SET", "without", "it") == b"OK", "a learner is not counted"
        cluster.restart(1)
        assert cluster.raft_command(1, "PROMOTE", node.name) == b"OK"
        assert cluster.voters() == ["n1", "n2"]
        assert cluster.raft_command(1, "DEMOTE", node.name) == b"OK"
        assert cluster.raft_command(1, "DEMOTE", node.name) == b"OK", "asked twice"
        assert (cluster.voters(), cluster.status()["learners"]) == (["n1"], ["n2"])
        cluster.wait_equal()


def test_a_joined_node_that_lost_its_disk_is_filled_again_by_the_same_command() -> None:
    with GrowingCluster(1, flags=[*TIMEOUT_FLAGS, "--log-retain-for-followers-bytes", "0"]) as cluster:
        with cluster.client(0) as client:
            assert client.pipeline(("SET", f"key:{n}", "x" * 500) for n in range(2000)) == [b"OK"] * 2000
        two, three = cluster.join(2)
        assert cluster.raft_command(0, "SNAPSHOT") == b"OK"
        cluster.kill(three)
        shutil.rmtree(cluster.nodes[three].data_directory)
        cluster.restart(three)
        cluster.wait_equal()
        assert cluster.voters(three) == ["n1", "n2", "n3"]
        wait_until(lambda: "may_vote" in cluster.nodes[three].log(), "it may vote again")
        for i in (0, two, three):
            cluster.kill(i, signal.SIGTERM)
        for i in (three, 0):
            cluster.spawn(cluster.nodes[i])
        cluster.wait_ready([cluster.nodes[0], cluster.nodes[three]])
        with cluster.client(three) as client:
            assert client.call("DBSIZE") == 2000
