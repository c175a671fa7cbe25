"""Three nodes: any one of them dies, sleeps or leaves, and clients of the others notice no more than a pause."""

from __future__ import annotations

import signal

from tests.support.cluster import ZattCluster, wait_until
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


def check_after(cluster: ZattCluster, load: Load, reader: int = 0) -> None:
    """All replicas are equal and hold what was acknowledged, once and in order."""
    cluster.wait_ready()
    cluster.wait_equal()
    values = read_keys(cluster.nodes[reader], keys_of(load.history))
    if any(key.startswith(b"journal:") for key in values):
        check_journals(load.history, values)
    else:
        check_counters(load.history, {key: int(value or 0) for key, value in values.items()})


def test_killed_leader_is_a_pause_for_clients_of_the_others(trio: ZattCluster) -> None:
    leader = trio.wait_leader()
    live = [i for i in range(3) if i != leader]
    with Load(trio.nodes, journals(), clients_per_node=4, depth=4) as load:
        load.wait_more(100, nodes=[0, 1, 2])
        trio.kill(leader)
        load.wait_more(100, nodes=live)
        assert trio.wait_leader() != leader
        trio.restart(leader)
        load.wait_more(50, nodes=[0, 1, 2])
    assert load.troubles_on(live) == []
    check_after(trio, load, reader=live[0])


def test_counters_count_each_increment_once_over_three_leaders(trio: ZattCluster) -> None:
    with Load(trio.nodes, counters(3), clients_per_node=4) as load:
        for _ in range(3):
            load.wait_more(50, nodes=[0, 1, 2])
            leader = trio.wait_leader()
            trio.kill(leader)
            load.wait_more(50, nodes=[i for i in range(3) if i != leader])
            trio.restart(leader)
    assert not [trouble for trouble in load.troubles if trouble.is_reply]
    check_after(trio, load)


def test_killed_follower_disturbs_nobody(trio: ZattCluster) -> None:
    follower = trio.followers()[0]
    live = [i for i in range(3) if i != follower]
    with Load(trio.nodes, journals(), clients_per_node=3) as load:
        load.wait_more(50, nodes=[0, 1, 2])
        trio.kill(follower)
        load.wait_more(200, nodes=live)
        trio.restart(follower)
        load.wait_more(20, nodes=[0, 1, 2])
    assert load.troubles_on(live) == []
    check_after(trio, load)


def test_paused_leader_is_replaced_and_comes_back_as_follower(trio: ZattCluster) -> None:
    leader = trio.wait_leader()
    live = [i for i in range(3) if i != leader]
    with Load(trio.nodes, journals(), clients_per_node=3, depth=2) as load:
        load.wait_more(50, nodes=[0, 1, 2])
        trio.pause(leader)
        replacement = trio.wait_leader(other_than=leader)
        assert replacement in live
        load.wait_more(100, nodes=live)
        trio.resume(leader)
        load.wait_more(50, nodes=[0, 1, 2])
    assert load.troubles_on(live) == []
    check_after(trio, load)


def test_everything_acknowledged_survives_the_death_of_all_nodes_at_once(trio: ZattCluster) -> None:
    with Load(trio.nodes, journals(), clients_per_node=4, depth=4) as load:
        for _ in range(2):
            load.wait_more(100, nodes=[0, 1, 2])
            for node in trio.nodes:
                assert node.process is not None
                node.process.kill()
            for i in range(3):
                trio.kill(i)
            trio.start()
        load.wait_more(50, nodes=[0, 1, 2])
    check_after(trio, load)


def test_sigterm_hands_over_and_loses_nothing(trio: ZattCluster) -> None:
    leader = trio.wait_leader()
    live = [i for i in range(3) if i != leader]
    with Load(trio.nodes, journals(), clients_per_node=3, depth=2) as load:
        load.wait_more(50, nodes=[0, 1, 2])
        assert trio.kill(leader, signal.SIGTERM) == 0
        load.wait_more(100, nodes=live)
        trio.restart(leader)
        load.wait_more(20, nodes=[0, 1, 2])
    assert load.troubles_on(live) == []
    check_after(trio, load)


def test_rolling_restart_under_load(trio: ZattCluster) -> None:
    with Load(trio.nodes, counters(4), clients_per_node=3) as load:
        for i in range(3):
            others = [j for j in range(3) if j != i]
            before = len(load.troubles_on(others))
            load.wait_more(30, nodes=[0, 1, 2])
            assert trio.kill(i, signal.SIGTERM) == 0
            load.wait_more(30, nodes=others)
            trio.restart(i)
            assert len(load.troubles_on(others)) == before
    check_after(trio, load)


def test_history_is_linearizable_under_kills_and_pauses(trio: ZattCluster) -> None:
    with Load(trio.nodes, registers(8, (READ, READ, WRITE, INCREMENT)), clients_per_node=3, pause_s=0.002) as load:
        for turn in range(4):
            load.wait_more(150, nodes=[0, 1, 2])
            leader = trio.wait_leader()
            live = [i for i in range(3) if i != leader]
            if turn % 2:
                trio.kill(leader)
                load.wait_more(100, nodes=live)
                trio.restart(leader)
            else:
                trio.pause(leader)
                load.wait_more(100, nodes=live)
                trio.resume(leader)
        load.wait_more(100, nodes=[0, 1, 2])
    assert violations(load.history) == {}
    assert not [trouble for trouble in load.troubles if trouble.is_reply and not trouble.what.startswith("TIMEOUT")]


def test_read_on_a_follower_sees_the_write_acknowledged_just_before_elsewhere(trio: ZattCluster) -> None:
    first, second = trio.followers()
    with trio.client(first) as writer, trio.client(second) as reader, trio.client(trio.wait_leader()) as at_leader:
        for number in range(300):
            writer.call("SET", "k", number)
            assert reader.call("GET", "k") == b"%d" % number
            assert at_leader.call("GET", "k") == b"%d" % number


def test_transactions_and_watch_across_nodes(trio: ZattCluster) -> None:
    with trio.client(0) as one, trio.client(1) as other:
        one.call("SET", "k", "1")
        one.call("WATCH", "k")
        other.call("SET", "k", "2")
        one.call("MULTI")
        assert one.call("INCR", "k") == b"QUEUED"
        assert one.call("EXEC") is None
        assert other.call("GET", "k") == b"2"

        one.call("WATCH", "k")
        one.call("MULTI")
        one.call("INCR", "k")
        one.call("APPEND", "k", "!")
        one.call("GET", "k")
        assert one.call("EXEC") == [3, 2, b"3!"]
        assert other.call("GET", "k") == b"3!"


def test_transactions_are_whole_for_readers_on_other_nodes(trio: ZattCluster) -> None:
    """Two keys are only changed together; a reader elsewhere never sees them apart, over a change of leader too."""
    leader = trio.wait_leader()
    first, second = [i for i in range(3) if i != leader]
    with trio.client(first) as writer, trio.client(second) as reader:
        for number in range(200):
            if number == 100:
                trio.kill(leader)
            writer.pipeline([("MULTI",), ("SET", "a", number), ("SET", "b", number), ("EXEC",)])
            seen = reader.call("MGET", "a", "b")
            assert seen == [b"%d" % number] * 2
    trio.restart(leader)


def test_blocked_by_lost_quorum_then_goes_on(trio: ZattCluster) -> None:
    """Without a majority: one of the two errors within the time limit, and what was refused never happens."""
    leader = trio.wait_leader()
    lonely, dead = leader, [i for i in range(3) if i != leader]
    with trio.client(lonely, timeout_s=120.0) as client:
        client.call("CONFIG", "SET", "request-timeout-ms", "1500")
        client.call("SET", "before", "1")
        for i in dead:
            trio.kill(i)
        errors: list[bytes] = []
        for number in range(3):
            reply = client.try_call("APPEND", "journal", f"{number}.")
            assert isinstance(reply, bytes)
            assert reply.startswith((b"-CLUSTERDOWN", b"-TIMEOUT")), reply
            errors.append(reply)
        read = client.try_call("GET", "before")
        assert isinstance(read, bytes)
        assert read.startswith((b"-CLUSTERDOWN", b"-TIMEOUT")), read
        assert client.call("PING") == b"PONG"
        assert client.call("READONLY") == b"OK"
        assert client.call("GET", "before") == b"1"
        client.call("READWRITE")
        client.call("CONFIG", "SET", "request-timeout-ms", "60000")
        for i in dead:
            trio.spawn(trio.nodes[i])
        trio.wait_ready()
        client.call("APPEND", "journal", "end.")
        found = (client.call("GET", "journal") or b"").split(b".")
        refused = {b"%d" % number for number, error in enumerate(errors) if error.startswith(b"-CLUSTERDOWN")}
        assert not refused & set(found)
        assert len(found) == len(set(found))
        client.call("CONFIG", "SET", "request-timeout-ms", "5000")


def test_stale_reads_are_served_by_a_follower_that_is_alone(trio: ZattCluster) -> None:
    follower, *others = [*trio.followers(), trio.wait_leader()]
    with trio.client(follower) as client:
        client.call("SET", "k", "v")
        assert client.call("GET", "k") == b"v"
        client.call("READONLY")
        for i in others:
            trio.kill(i)
        assert client.call("GET", "k") == b"v"
        for i in others:
            trio.spawn(trio.nodes[i])
        trio.wait_ready()
        wait_until(lambda: client.try_call("SET", "k", "w") == b"OK", "a write after the cluster is whole again")


def test_expiry_is_the_same_on_every_node_and_over_a_failover(trio: ZattCluster) -> None:
    leader = trio.wait_leader()
    first, second = [i for i in range(3) if i != leader]
    with trio.client(first) as one, trio.client(second) as other:
        one.call("SET", "short", "v", "PX", 200)
        one.call("SET", "long", "v", "EX", 1000)
        wait_until(lambda: other.call("GET", "short") is None, "the key has expired")
        trio.kill(leader)
        assert one.call("GET", "short") is None
        assert other.call("EXISTS", "short") == 0
        expiries = {client.call("PEXPIRETIME", "long") for client in (one, other)}
        assert len(expiries) == 1
    trio.restart(leader)
    trio.wait_equal()


def test_writes_that_change_nothing_take_no_entry_on_any_node_and_see_what_the_others_did(trio: ZattCluster) -> None:
    leader = trio.wait_leader()
    for i in (leader, *trio.followers()):
        with trio.client(i) as client, trio.client((i + 1) % 3) as other:
            client.call("SADD", "set", "a", "b")
            for _ in range(8):
                assert client.call("SADD", "set", "a") == 0
            before = int(client.info("stats")["write_batch_commands"])
            assert [client.call("SADD", "set", "a") for _ in range(10)] == [0] * 10
            assert int(client.info("stats")["write_batch_commands"]) == before, "none of them went into the log"
            for _ in range(5):
                assert other.call("SREM", "set", "a") == 1
                assert client.call("SADD", "set", "a") == 1
                assert client.call("SADD", "set", "a") == 0
    with trio.client(trio.followers()[0]) as client:
        trio.kill(leader)
        assert client.call("SADD", "set", "a") == 0, "an election is a pause"
        assert client.call("SREM", "set", "a") == 1
    trio.restart(leader)
    trio.wait_equal()
