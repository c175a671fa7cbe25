"""INFO: its sections as redis-server chooses them, its fields, and that the raft section tells every member."""

from __future__ import annotations

import re

import msgspec
import pytest

from tests.support.differential import Connection
from tests.support.local_server import LocalClient, LocalServer
from zattredis.commands.table import lookup_full
from zattredis.resp.replies import Verbatim
from zattredis.server.access import Access
from zattredis.server.info import human_bytes, sections_of
from zattredis.server.node_facts import MemberFacts, read_memory

NEEDED = [
    "redis_version", "redis_mode", "process_id", "run_id", "tcp_port", "uptime_in_seconds", "uptime_in_days",
    "connected_clients", "maxclients", "blocked_clients", "used_memory", "used_memory_rss", "used_memory_peak",
    "maxmemory", "mem_fragmentation_ratio", "loading", "rdb_last_save_time", "rdb_bgsave_in_progress",
    "rdb_last_bgsave_status", "rdb_changes_since_last_save", "aof_enabled", "total_connections_received",
    "total_commands_processed", "instantaneous_ops_per_sec", "total_net_input_bytes", "total_net_output_bytes",
    "rejected_connections", "expired_keys", "evicted_keys", "keyspace_hits", "keyspace_misses", "pubsub_channels",
    "latest_fork_usec", "role", "connected_slaves", "master_repl_offset", "used_cpu_sys", "used_cpu_user",
    "total_error_replies", "cluster_enabled",
]  # fmt: skip


def titles(text: bytes) -> list[str]:
    return [title.decode().lower() for title in re.findall(rb"^# (\w+)\r$", text, re.MULTILINE)]


def fields(text: bytes) -> dict[str, str]:
    lines = [line for line in text.decode().split("\r\n") if line and not line.startswith("#")]
    found = dict(line.partition(":")[::2] for line in lines)
    assert len(found) == len(lines), "a field is there twice"
    return found


@pytest.mark.parametrize(
    "names",
    ["", "default", "all", "everything", "EVERYTHING x", "nothing", "keyspace cpu", "CPU commandstats",
     "default latencystats", "all modules", "server server", "errorstats nothing"],
)  # fmt: skip
def test_sections_are_chosen_and_ordered_as_in_redis(real: Connection, names: str) -> None:
    asked = names.encode().split()
    theirs = titles(real.execute([b"INFO", *asked]))
    assert [name for name in sections_of(asked) if name != "raft"] == theirs


def test_the_text_has_the_layout_of_redis() -> None:
    reply = LocalClient().call("INFO keyspace cluster")
    assert isinstance(reply, Verbatim)
    assert reply.data == (
        b"# Cluster\r\ncluster_enabled:0\r\n\r\n# Keyspace\r\n"
        b"db0:keys=10,expires=2,avg_ttl=500\r\ndb3:keys=1,expires=0,avg_ttl=0\r\n"
    )
    assert LocalClient().call("INFO nothing").data == b""


def test_raft_section() -> None:
    found = fields(LocalClient().call("INFO raft").data)
    for name, value in {
        "raft_node_id": "n1", "raft_state": "up", "raft_role": "leader", "raft_leader_id": "n1",
        "raft_current_term": "3", "raft_commit_index": "40", "raft_applied_index": "39",
        "raft_log_entries": "31", "raft_snapshot_index": "10",
        "raft_member_n1": "address=127.0.0.1:7001,role=leader,match_index=41,lag=0,connected=yes",
        "raft_member_n2": "address=[::1]:7002,role=follower,match_index=30,lag=11,connected=yes",
        "raft_member_n3": "address=127.0.0.1:7003,role=unknown,match_index=unknown,lag=unknown,connected=no",
    }.items():  # fmt: skip
        assert found[name] == value, name


def test_fields_that_monitoring_needs_are_there_and_are_redis_names(real: Connection) -> None:
    client = LocalClient()
    client.server.statistics.record(lookup_full(b"get"), 2, 10)  # type: ignore[arg-type]
    client.server.statistics.error("WRONGTYPE")
    ours = fields(client.call("INFO everything").data)
    theirs = fields(real.execute([b"INFO", b"everything"]).partition(b"\r\n")[2])
    for name in NEEDED:
        assert name in ours, name
        assert name in theirs, name
    assert ours["redis_version"] == "7.0.15"
    assert ours["uptime_in_days"] == "1"
    assert ours["cmdstat_get"] == "calls=2,usec=10,usec_per_call=5.00,rejected_calls=0,failed_calls=0"
    assert ours["errorstat_WRONGTYPE"] == "count=1"
    assert ours["latency_percentiles_usec_get"] == "p50=5.023,p99=5.023,p99.9=5.023"
    assert ours["inflight_bytes"] == "123"


def test_role_is_master_on_every_node_and_lists_followers_on_the_leader() -> None:
    client = LocalClient()
    found = fields(client.call("INFO replication").data)
    assert (found["role"], found["connected_slaves"]) == ("master", "1")
    assert found["slave0"] == "ip=::1,port=7002,state=online,offset=30,lag=11"
    client.server.raft_facts = msgspec.structs.replace(client.server.raft_facts, role="follower", leader_id="n2")
    assert client.call("ROLE") == [b"master", 40, []]
    found = fields(client.call("INFO replication").data)
    assert (found["role"], found["connected_slaves"]) == ("master", "0")


def test_clients_section_shows_the_largest_buffers_and_the_bounds() -> None:
    server = LocalServer(maxclients="77")
    one, two = LocalClient(server), LocalClient(server)
    one.connection.bytes, two.connection.bytes = (10, 5), (3, 9)
    two.state.block(lambda _error: None)
    found = fields(one.call("INFO clients").data)
    assert found["connected_clients"] == "2"
    assert found["maxclients"] == "77"
    assert found["client_recent_max_input_buffer"] == "10"
    assert found["client_recent_max_output_buffer"] == "9"
    assert found["blocked_clients"] == "1"


@pytest.mark.parametrize(
    ("count", "shown"), [(0, "0B"), (1023, "1023B"), (916_296, "894.82K"), (25_276_502_016, "23.54G")]
)
def test_human_bytes(count: int, shown: str) -> None:
    assert human_bytes(count) == shown


def test_member_addresses() -> None:
    member = MemberFacts("n", "[2001:db8::1]:7000@17000", "follower")
    assert (member.host, member.port) == ("2001:db8::1", 7000)


def test_memory_of_this_process() -> None:
    memory = read_memory()
    assert 0 < memory.resident <= memory.resident_peak < memory.machine


def test_access() -> None:
    server = LocalServer()
    access = Access(server.settings)
    assert not access.password_required
    assert access.authenticate(b"default", b"anything")
    assert not access.authenticate(b"other", b"anything")
    server.settings.change([(b"requirepass", "pä\udcff".encode("utf-8", "surrogateescape"))])
    assert access.password_required
    assert access.authenticate(b"default", b"p\xc3\xa4\xff")
    assert not access.authenticate(b"default", b"p\xc3\xa4")
    assert not access.authenticate(b"other", b"p\xc3\xa4\xff")
