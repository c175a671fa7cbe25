"""/metrics: the text keeps Prometheus's rules, and its figures are those of INFO."""

from __future__ import annotations

from tests.admin.conftest import Watched
from tests.support.cluster import wait_until
from tests.support.http_client import Family, parse_metrics, request
from zattredis.server.admin.metrics import counts_between_bounds


def metrics(port: int) -> dict[str, Family]:
    answer = request(port, "/metrics")
    assert answer.status == 200
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    return parse_metrics(answer.text)


def value(families: dict[str, Family], name: str, **labels: str) -> float:
    return families[name].samples[tuple(labels.items())]


def test_counters_follow_what_is_done(single: Watched) -> None:
    before = metrics(single.admin[0])
    with single.client() as client:
        for number in range(5):
            client.call("SET", f"metric{number}", "x" * 100)
        client.call("GET", "metric0")
        client.call("GET", "not-there")
        client.try_call("LPUSH", "metric0", "x")
        client.try_call("SET", "too-few")
        client.call("SELECT", 5)
        client.call("SET", "expires", "1", "EX", "1000")
        info = client.info("raft")
        after = metrics(single.admin[0])

    def grown(name: str, **labels: str) -> float:
        return value(after, name, **labels) - before[name].samples.get(tuple(labels.items()), 0)

    assert grown("zattredis_commands_total", command="set") == 6
    assert grown("zattredis_commands_total", command="get") == 2
    assert grown("zattredis_commands_failed_total", command="lpush") == 1
    assert grown("zattredis_commands_rejected_total", command="set") == 1
    assert grown("zattredis_error_replies_total", prefix="WRONGTYPE") == 1
    assert grown("zattredis_keyspace_hits_total") == 1
    assert grown("zattredis_keyspace_misses_total") == 1
    assert grown("zattredis_net_input_bytes_total") > 500
    assert grown("zattredis_write_batches_total") >= 6
    for name in ("zattredis_log_sync_seconds", "zattredis_write_batch_seconds"):
        before_count = before[name].samples[("", "_count"),]
        assert after[name].samples[("", "_count"),] - before_count >= 6
        assert after[name].samples[("", "_sum"),] > before[name].samples[("", "_sum"),]
    series = (("", "_count"), ("command", "set"))
    assert after["zattredis_command_seconds"].samples[series] == value(after, "zattredis_commands_total", command="set")
    assert value(after, "zattredis_keys", db="5") == value(after, "zattredis_keys_expiring", db="5") == 1
    assert value(after, "zattredis_raft_term") == int(info["raft_current_term"])
    assert value(after, "zattredis_raft_role", role="leader") == 1
    assert value(after, "zattredis_raft_commit_index") >= int(info["raft_commit_index"])
    assert value(after, "zattredis_raft_leader_since_timestamp_seconds") == int(info["raft_leader_since"]) > 0
    assert value(after, "process_open_fds") > 10
    assert value(after, "process_cpu_seconds_total") > 0


def test_every_node_tells_its_own_side(three: Watched) -> None:
    leader = three.wait_leader()
    with three.client() as client:
        for number in range(20):
            client.call("SET", f"key{number}", number)

    def level() -> bool:
        found = metrics(three.admin[leader])["zattredis_raft_member_lag_entries"].samples
        return len(found) == 3 and set(found.values()) == {0}

    wait_until(level, "nobody lags behind")
    for i, node in enumerate(three.nodes):
        found = metrics(three.admin[i])
        assert value(found, "zattredis_raft_role", role="leader") == (i == leader)
        assert value(found, "zattredis_raft_role", role="follower") == (i != leader)
        assert value(found, "zattredis_raft_leader", member=three.nodes[leader].name) == 1
        assert sum(found["zattredis_raft_leader"].samples.values()) == 1
        assert value(found, "zattredis_raft_members") == value(found, "zattredis_raft_voters") == 3
        assert set(found["zattredis_raft_member_connected"].samples.values()) == {1}
        assert len(found["zattredis_peer_sent_bytes_total"].samples) == 2
        labels = dict(next(iter(found["zattredis_node_info"].samples)))
        assert labels["node_id"] == node.name
        for name in ("zattredis_rocksdb_block_cache_usage", "zattredis_state_bytes", "zattredis_disk_free_bytes"):
            assert value(found, name) >= 0


def test_fine_buckets_are_summed_into_the_common_ones() -> None:
    counts = counts_between_bounds([(500, 3), (10_000, 1), (10_001, 2), (1_000_000, 4), (10**11, 5)])
    assert (counts[0], counts[1], counts[6], counts[-1]) == (4, 2, 4, 5)
    assert sum(counts) == 15
