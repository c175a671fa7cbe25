"""INFO, field by field: what redis-server 7.0 shows is here with the same shape, or in a list that says why not.

And what redis_exporter and its stock dashboard read is among it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from tests.support.cluster import ZattCluster
from tests.support.redis_server import RedisServer
from tests.support.resp_client import RespClient

LEFT_OUT = {
    "atomicvar_api": "the server is no C program",
    "gcc_version": "the server is no C program; python_version says what it runs on",
    "lru_clock": "no key has a place in an order of last use: nothing is evicted",
    "lazyfree_pending_objects": "what was deleted is reclaimed through the log, in steps not counted by object",
    "lazyfreed_objects": "as above",
    "expire_cycle_cpu_milliseconds": "expired keys are removed by entries of the log, whose time is not kept apart",
    "aof_delayed_fsync": "there is no second fsync that could be put off; storage_sync_usec_max tells of slow ones",
    "pubsubshard_channels": "there are no channels of shards",
    "dump_payload_sanitizations": "every payload is checked in full, so there is nothing to count",
    "reply_buffer_shrinks": "replies have no buffers that are kept between two of them",
    "reply_buffer_expands": "as above",
}
"""Fields of redis-server 7.0 that are not shown, and why."""

EXPORTED = """\
    uptime_in_seconds process_id connected_clients blocked_clients tracking_clients client_recent_max_output_buffer
    client_recent_max_input_buffer allocator_active allocator_allocated allocator_resident allocator_frag_ratio
    allocator_frag_bytes allocator_rss_ratio allocator_rss_bytes used_memory used_memory_rss used_memory_peak
    used_memory_lua used_memory_overhead used_memory_startup used_memory_dataset used_memory_scripts maxmemory
    mem_fragmentation_ratio mem_fragmentation_bytes mem_clients_slaves mem_clients_normal expired_stale_perc
    mem_not_counted_for_evict active_defrag_running migrate_cached_sockets active_defrag_hits active_defrag_misses
    active_defrag_key_hits active_defrag_key_misses expired_time_cap_reached_count loading rdb_changes_since_last_save
    rdb_bgsave_in_progress rdb_last_save_time rdb_last_bgsave_status rdb_last_bgsave_time_sec
    rdb_current_bgsave_time_sec rdb_last_cow_size aof_enabled aof_rewrite_in_progress aof_rewrite_scheduled
    aof_last_rewrite_time_sec aof_current_rewrite_time_sec aof_last_cow_size aof_current_size aof_base_size
    aof_pending_rewrite aof_buffer_length aof_pending_bio_fsync aof_last_bgrewrite_status aof_last_write_status
    module_fork_in_progress module_fork_last_cow_size pubsub_channels pubsub_patterns latest_fork_usec connected_slaves
    repl_backlog_size repl_backlog_active repl_backlog_first_byte_offset repl_backlog_histlen master_repl_offset
    second_repl_offset slave_expires_tracked_keys sync_full sync_partial_ok sync_partial_err
    total_connections_received total_commands_processed rejected_connections total_net_input_bytes
    total_net_output_bytes expired_keys evicted_keys keyspace_hits keyspace_misses used_cpu_sys used_cpu_user
    used_cpu_sys_children used_cpu_user_children total_system_memory
    redis_version redis_build_id redis_mode os maxmemory_policy tcp_port run_id role
"""
"""What redis_exporter makes metrics of, where redis-server 7.0 as a master shows it and LEFT_OUT does not excuse it."""

SHAPES = (
    ("whole number", re.compile(r"-?\d+")),
    ("two decimals", re.compile(r"-?\d+\.\d\d")),
    ("six decimals", re.compile(r"\d+\.\d{6}")),
    ("percentage", re.compile(r"-?\d+\.\d\d%")),
    ("human size", re.compile(r"\d+(\.\d\d)?[BKMGTP]")),
    ("pairs", re.compile(r"\w+=[^,]*(,[\w.]+=[^,]*)*")),
    ("text", re.compile(r".*")),
)


def shape(value: str) -> str:
    return next(name for name, pattern in SHAPES if pattern.fullmatch(value))


def sections(text: str) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = {}
    for line in text.split("\r\n"):
        if line.startswith("# "):
            fields = found[line[2:]] = {}
        elif line:
            name, _, value = line.partition(":")
            assert name not in fields, f"{name} is there twice"
            fields[name] = value
    return found


@pytest.fixture(scope="module")
def both() -> Iterator[tuple[RespClient, RespClient]]:
    with (
        RedisServer("--appendonly", "yes") as redis,
        ZattCluster(1, in_memory=True) as cluster,
        RespClient(redis.port) as theirs,
        cluster.client() as ours,
    ):
        for client in (ours, theirs):
            client.call("PING")
            client.call("SET", "key", "value", "EX", "100")
            client.call("GET", "key")
            client.try_call("LPUSH", "key", "x")
            client.call("SELECT", 3)
            client.call("SET", "other", "1")
        yield ours, theirs


def info(client: RespClient) -> dict[str, dict[str, str]]:
    return sections(client.call("INFO", "everything").decode())


def test_every_field_of_redis_is_there_with_its_shape_or_left_out_for_a_reason(
    both: tuple[RespClient, RespClient],
) -> None:
    ours, theirs = map(info, both)
    problems = []
    for section, fields in theirs.items():
        assert section in ours
        for name, value in fields.items():
            if name in LEFT_OUT:
                if name in ours[section]:
                    problems.append(f"{name} is shown and said to be left out")
            elif name not in ours[section]:
                problems.append(f"{section}: {name} is missing")
            elif shape(ours[section][name]) != shape(value):
                problems.append(f"{section}: {name} is {ours[section][name]!r}, in Redis {value!r}")
    assert not problems
    names = {name for fields in theirs.values() for name in fields}
    assert set(LEFT_OUT) <= names, "a field is left out that Redis does not have"


def test_structured_fields_have_the_parts_of_redis(both: tuple[RespClient, RespClient]) -> None:
    ours, theirs = map(info, both)
    compared = 0
    for section in ("Commandstats", "Errorstats", "Latencystats", "Keyspace"):
        for name, value in theirs[section].items():
            if name in ours[section]:
                compared += 1
                assert re.sub(r"=[^,]*", "", ours[section][name]) == re.sub(r"=[^,]*", "", value)
    assert compared > 8
    assert {"db0", "db3"} == set(ours["Keyspace"])
    assert ours["Errorstats"]["errorstat_WRONGTYPE"] == theirs["Errorstats"]["errorstat_WRONGTYPE"] == "count=1"


def test_what_redis_exporter_reads_is_there_as_a_number_where_it_wants_one(
    both: tuple[RespClient, RespClient],
) -> None:
    flat = {name: value for fields in info(both[0]).values() for name, value in fields.items()}
    redis = {name: value for fields in info(both[1]).values() for name, value in fields.items()}
    for name in EXPORTED.split():
        assert name in flat, name
        assert name in redis, f"{name} is none of Redis's"
    limits = dict(zip(*[iter(both[0].call("CONFIG", "GET", "max*"))] * 2, strict=True))
    assert {b"maxmemory", b"maxclients"} <= set(limits)
    assert both[0].call("CONFIG", "GET", "databases") == [b"databases", b"16"]
    assert both[0].call("SLOWLOG", "LEN") >= 0
    assert both[0].call("LATENCY", "LATEST") == []
    assert both[0].call("CLIENT", "SETNAME", "redis_exporter") == b"OK"


def test_figures_are_consistent(both: tuple[RespClient, RespClient]) -> None:
    flat = {name: value for fields in info(both[0]).values() for name, value in fields.items()}
    number = {name: int(value) for name, value in flat.items() if re.fullmatch(r"-?\d+", value)}
    assert 0 < number["allocator_allocated"] <= number["allocator_active"]
    assert number["allocator_resident"] <= number["used_memory_rss"] <= number["used_memory_peak"]
    assert number["used_memory_overhead"] + number["used_memory_dataset"] == number["used_memory"]
    assert number["hz"] == 40
    assert float(flat["used_cpu_user_main_thread"]) <= float(flat["used_cpu_user"]) + 0.1


def test_memory_stats_has_the_fields_of_redis(both: tuple[RespClient, RespClient]) -> None:
    ours, theirs = (
        dict(zip(*[iter(client.call("MEMORY", "STATS"))] * 2, strict=True)) for client in both
    )
    for name, value in theirs.items():
        if name.startswith(b"db."):
            assert name not in ours  # holds nothing but sizes of hash tables, which keys here are not in
        else:
            assert name in ours, name
            assert type(ours[name]) is type(value), name
