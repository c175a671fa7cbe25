"""Parameters of the data types: CONFIG SET of one is a write that every node agrees on."""

from __future__ import annotations

from collections.abc import Iterator

import hiredis
import pytest

from tests.commands.conftest import real, redis_server  # noqa: F401
from tests.support.cluster import Node, ZattCluster, wait_until
from tests.support.differential import Connection
from tests.support.local_server import compare_lines
from zattredis.commands.config import AGREED

ENTRIES = "hash-max-listpack-entries"


@pytest.fixture(scope="module")
def three() -> Iterator[ZattCluster]:
    with ZattCluster(3, in_memory=True) as cluster:
        yield cluster


def shown(node: Node, name: str) -> bytes:
    with node.client() as client:
        return bytes(client.call("CONFIG", "GET", name)[1])


def wait_for(cluster: ZattCluster, name: str, value: bytes) -> None:
    wait_until(lambda: all(shown(node, name) == value for node in cluster.nodes), f"all nodes show {name} {value!r}")


def test_every_node_takes_it_and_all_agree(three: ZattCluster) -> None:
    for value, node in enumerate(three.nodes, 5):
        with node.client() as client:
            assert client.call("CONFIG", "SET", ENTRIES, value, "zset-max-listpack-value", f"{value}k") == b"OK"
            assert client.call("CONFIG", "GET", ENTRIES) == [ENTRIES.encode(), b"%d" % value]
        wait_for(three, ENTRIES, b"%d" % value)
        wait_for(three, "zset-max-listpack-value", b"%d" % (value * 1000))


def test_what_is_the_nodes_own_stays_there(three: ZattCluster) -> None:
    first, *others = three.nodes
    before = [shown(node, "slowlog-max-len") for node in others]
    with first.client() as client:
        assert client.call("CONFIG", "SET", "slowlog-max-len", "17", "hash-max-ziplist-value", "33") == b"OK"
        assert client.call("CONFIG", "GET", "slowlog-max-len")[1] == b"17"
        with pytest.raises(hiredis.ReplyError, match="slowlog-max-len"):
            client.call("CONFIG", "SET", "hash-max-listpack-value", "34", "slowlog-max-len", "many")
        with pytest.raises(hiredis.ReplyError, match="list-compress-depth"):
            client.call("CONFIG", "SET", "slowlog-max-len", "18", "list-compress-depth", "-1")
        assert client.call("CONFIG", "GET", "slowlog-max-len")[1] == b"17"
    wait_for(three, "hash-max-listpack-value", b"33")
    assert [shown(node, "slowlog-max-len") for node in others] == before
    assert b"17" not in before


def test_it_is_kept_over_a_restart_and_in_a_snapshot(three: ZattCluster) -> None:
    with three.nodes[0].client() as client:
        client.call("CONFIG", "SET", "set-max-intset-entries", "99")
    wait_for(three, "set-max-intset-entries", b"99")
    with three.nodes[0].client() as client:
        client.call("SAVE")
        client.call("CONFIG", "SET", "list-max-listpack-size", "-5")
    wait_for(three, "list-max-listpack-size", b"-5")
    for node in three.nodes:
        node.end()
    three.start()
    wait_for(three, "set-max-intset-entries", b"99")
    wait_for(three, "list-max-listpack-size", b"-5")


def test_in_a_transaction(three: ZattCluster) -> None:
    with three.nodes[1].client() as client, three.nodes[2].client() as other:
        client.call("CONFIG", "SET", ENTRIES, "10", "slowlog-max-len", "20")
        client.call("MULTI")
        for line in (
            f"CONFIG SET {ENTRIES} 11 slowlog-max-len 21", f"CONFIG GET {ENTRIES}", f"CONFIG SET {ENTRIES} x",
            f"CONFIG SET {ENTRIES} 12", f"CONFIG GET {ENTRIES} slowlog-max-len",
        ):  # fmt: skip
            assert client.call(*line.split()) == b"QUEUED"
        assert client.call("CONFIG", "GET", ENTRIES) == b"QUEUED"
        first, second, third, fourth, fifth, _ = client.call("EXEC")
        assert (first, second, fourth) == (b"OK", [ENTRIES.encode(), b"11"], b"OK")
        assert isinstance(third, hiredis.ReplyError)
        assert fifth == [ENTRIES.encode(), b"12", b"slowlog-max-len", b"21"]
        client.call("WATCH", "watched")
        other.call("SET", "watched", "1")
        client.call("MULTI")
        client.call("CONFIG", "SET", ENTRIES, "13", "slowlog-max-len", "22")
        assert client.call("EXEC") is None
        assert client.call("CONFIG", "GET", ENTRIES, "slowlog-max-len")[1::2] == [b"12", b"21"]
        client.call("MULTI")
        client.call("CONFIG", "SET", ENTRIES, "14")
        client.call("DISCARD")
        assert client.call("CONFIG", "GET", ENTRIES)[1] == b"12"


def test_clients_see_one_command_and_its_counts(three: ZattCluster) -> None:
    with three.nodes[0].client() as client:
        client.call("CONFIG", "RESETSTAT")
        client.call("CONFIG", "SET", ENTRIES, "20")
        client.call("CONFIG", "SET", ENTRIES, "21", "slowlog-max-len", "23")
        calls = {name: line for name, line in client.info("commandstats").items() if "config|set" in name}
        assert list(calls) == ["cmdstat_config|set"]
        assert calls["cmdstat_config|set"].startswith("calls=2,")


VALUES = ("0", "1", "-1", "-2147483649", "2147483647", "2147483648", "9223372036854775807", "9223372036854775808",
          "99999999999999999999", "", "01", "+1", "1.0", " 1", "1k", "1KB", "1gb", "1g ", "1xb", "x", "k", "-k",
          "\xb2")  # fmt: skip


def test_values_are_taken_and_refused_as_by_redis(three: ZattCluster, real: Connection) -> None:  # noqa: F811
    lines: list[tuple[str, ...]] = [("CONFIG", "GET", "HASH-max-ziplist-entries", "*-max-listpack-*", "hll-*")]
    for name in map(bytes.decode, AGREED):
        for value in VALUES:
            lines += [("CONFIG", "SET", name.upper(), value), ("CONFIG", "GET", name)]
    lines += [
        ("CONFIG", "SET", ENTRIES, "5", "hash-max-ziplist-entries", "6"), ("CONFIG", "GET", ENTRIES),
        ("CONFIG", "SET", ENTRIES, "7", ENTRIES, "8"), ("CONFIG", "SET", ENTRIES, "7", "nothing", "8"),
        ("CONFIG", "SET", ENTRIES, "7", "maxclients"), ("CONFIG", "SET", ENTRIES, "7", "daemonize", "no"),
        ("CONFIG", "GET", ENTRIES), ("CONFIG", "SET", ENTRIES, "7", "hll-sparse-max-bytes", "-3"),
        ("CONFIG", "GET", ENTRIES),
    ]  # fmt: skip
    ours = Connection(three.nodes[2].port)
    try:
        defaults = {
            ENTRIES: 512, "hash-max-listpack-value": 64, "list-max-listpack-size": -2, "list-compress-depth": 0,
            "set-max-intset-entries": 512, "zset-max-listpack-entries": 128, "zset-max-listpack-value": 64,
            "hll-sparse-max-bytes": 3000,
        }  # fmt: skip
        for backend in (ours, real):
            for name, value in defaults.items():
                backend.execute([b"CONFIG", b"SET", name.encode(), b"%d" % value])

        def in_any_order(argv: list[bytes], reply: bytes) -> object:
            return sorted(reply.split(b"\r\n")) if argv[1] == b"GET" else reply

        compare_lines(ours, real, lines, in_any_order)
    finally:
        for name, value in defaults.items():
            real.execute([b"CONFIG", b"SET", name.encode(), b"%d" % value])
        ours.close()
