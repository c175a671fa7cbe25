"""Followers that were away for long, and followers that lost their disk."""

from __future__ import annotations

import shutil

from tests.support.cluster import ZattCluster, wait_until
from tests.support.workload import Load, check_journals, journals, keys_of, read_keys

SHORT_LOG = [
    "--log-compaction-entries",
    "100",
    "--log-compaction-bytes",
    "1MiB",
    "--log-retain-for-followers-bytes",
    "0",
]


def fill(cluster: ZattCluster, node: int, keys: int, prefix: str) -> None:
    with cluster.client(node) as client:
        for start in range(0, keys, 50):
            replies = client.pipeline(("SET", f"{prefix}:{n}", "x" * 2000) for n in range(start, start + 50))
            assert replies == [b"OK"] * 50


def test_follower_that_was_away_for_long_catches_up_by_snapshot_under_load() -> None:
    with ZattCluster(3, flags=SHORT_LOG) as cluster:
        follower = cluster.followers()[0]
        live = [i for i in range(3) if i != follower]
        fill(cluster, live[0], 500, "before")
        applied = int(cluster.nodes[follower].facts()["raft_applied_index"])
        cluster.kill(follower)
        fill(cluster, live[0], 15_000, "while-away")

        def cut_behind_it() -> bool:
            return all(int(cluster.nodes[i].raft().get("raft_snapshot_index", 0)) > applied for i in live)

        wait_until(cut_behind_it, "the log of the others no longer reaches back to the follower")
        with Load([cluster.nodes[i] for i in live], journals(), clients_per_node=2) as load:
            load.wait_more(50)
            cluster.restart(follower)
            load.wait_more(200)
        assert load.troubles == []
        cluster.wait_equal()
        check_journals(load.history, read_keys(cluster.nodes[follower], keys_of(load.history)))
        assert int(cluster.nodes[follower].facts()["raft_snapshot_index"]) > applied
        # What came by snapshot is as durable as what came by log.
        cluster.kill(follower)
        cluster.restart(follower)
        cluster.wait_equal()


def test_follower_that_lost_its_disk_never_harms_the_cluster() -> None:
    """It is either refused with a clear line or filled again; what was acknowledged stays."""
    with ZattCluster(3) as cluster:
        follower, other = cluster.followers()
        with Load(cluster.nodes, journals(), clients_per_node=2) as load:
            load.wait_more(200, nodes=[0, 1, 2])
            cluster.kill(follower)
            shutil.rmtree(cluster.nodes[follower].data_directory)
            cluster.spawn(cluster.nodes[follower])
            load.wait_more(200, nodes=[i for i in range(3) if i != follower])
        assert load.troubles_on([i for i in range(3) if i != follower]) == []
        node = cluster.nodes[follower]

        def settled() -> bool:
            return not node.running or cluster.is_ready(node)

        wait_until(settled, "the emptied follower is refused or repaired")
        check_journals(load.history, read_keys(cluster.nodes[other], keys_of(load.history)))
        if node.running:
            cluster.wait_equal()
        else:
            assert "Traceback" not in node.log()


def test_value_of_64_mib_through_a_follower() -> None:
    # Patience for a machine with other work: what is tested is that it arrives whole, not how soon.
    with ZattCluster(3, flags=["--request-timeout-ms", "90000", "--election-timeout-ms", "3000"]) as cluster:
        follower, other = cluster.followers()
        value = bytes(range(256)) * (256 * 1024)
        with cluster.client(follower, timeout_s=120) as writer, cluster.client(other, timeout_s=120) as reader:
            assert writer.call("SET", "huge", value) == b"OK"
            assert reader.call("STRLEN", "huge") == len(value)
            assert reader.call("GET", "huge") == value
            assert writer.call("APPEND", "huge", "!") == len(value) + 1
            assert reader.call("GETRANGE", "huge", -3, -1) == b"\xfe\xff!"
        cluster.wait_equal()
