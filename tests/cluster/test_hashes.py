"""Hashes over three nodes: alike everywhere, through a kill and a restart, and when their fields expire."""

from __future__ import annotations

from tests.support.cluster import ZattCluster, wait_until


def test_hashes_are_alike_on_all_nodes_after_a_restart_and_after_fields_expired() -> None:
    with ZattCluster(3, in_memory=True) as cluster:
        with cluster.client() as client:
            client.pipeline(("HSET", "small", f"f{number % 20}", number) for number in range(100))
            client.pipeline(("HSET", "large", f"f{number}", "v" * (number % 90)) for number in range(300))
            client.call("HSETEX", "expiring", "PX", 60_000, "FIELDS", 2, "a", 1, "b", 2)
            client.call("HPEXPIRE", "large", 60_000, "FIELDS", 3, "f1", "f2", "f3")
            client.call("COPY", "large", "copy")
            client.call("RENAME", "small", "renamed")
            expiry = client.call("HPEXPIRETIME", "large", "FIELDS", 2, "f1", "f4")
        before = cluster.wait_equal()
        cluster.kill(2)
        cluster.restart(2)
        assert cluster.wait_equal() == before
        with cluster.client(2) as client:
            assert client.call("HPEXPIRETIME", "copy", "FIELDS", 2, "f1", "f4") == expiry
            assert client.call("HLEN", "large") == 300
            client.call("HPEXPIRE", "large", 50, "FIELDS", 3, "f1", "f2", "f3")
            client.call("HPEXPIRE", "expiring", 50, "FIELDS", 2, "a", "b")
        for i in range(3):
            with cluster.client(i) as client:
                wait_until(lambda: client.call("HLEN", "large") == 297, "expired fields are gone")
                assert client.call("HMGET", "large", "f1", "f4") == [None, b"vvvv"]
                wait_until(lambda: client.call("EXISTS", "expiring") == 0, "a hash of expired fields is gone")
                assert client.call("HLEN", "copy") == 300
        with cluster.client() as client:
            wait_until(lambda: client.call("DBSIZE") == 3, "the hash went with its last field")
        cluster.wait_equal()
