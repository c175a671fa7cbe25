"""The cluster shown as Redis Cluster and by Redis Sentinel: what is shown, to whom, and that it follows the leader."""

from __future__ import annotations

import re
import shutil
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import hiredis
import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.support.certificates import Authority
from tests.support.cluster import Node, ZattCluster, free_port, wait_until
from tests.support.resp_client import RespClient, encode_command
from zattredis.keyspace.keys import hash_slot
from zattredis.server.views import public_id


class Viewed(ZattCluster):
    """Three nodes with both views."""

    def __init__(self, *flags: str, start: bool = True) -> None:
        self.sentinel_ports = [free_port() for _ in range(3)]
        node_flags = {i: ["--sentinel-port", str(port)] for i, port in enumerate(self.sentinel_ports)}
        super().__init__(3, flags=["--cluster-view", "yes", *flags], node_flags=node_flags, in_memory=True,
                         start=start)  # fmt: skip

    def sentinel(self, i: int) -> RespClient:
        return RespClient(self.sentinel_ports[i])

    def public_ids(self) -> list[bytes]:
        cluster_id = self.nodes[0].facts()["raft_cluster_id"]
        return [public_id(cluster_id, node.name) for node in self.nodes]


@pytest.fixture(scope="module")
def running() -> Iterator[Viewed]:
    with Viewed() as cluster:
        yield cluster


@pytest.fixture
def viewed(running: Viewed) -> Viewed:
    return whole(running)


@pytest.fixture(scope="module")
def running_redirecting() -> Iterator[Viewed]:
    with Viewed("--follower-mode", "redirect", "--requirepass", "secret", start=False) as cluster:
        for node in cluster.nodes:
            cluster.spawn(node)
        leader_and_follower(cluster)
        yield cluster


def whole(cluster: Viewed) -> Viewed:
    for node in cluster.nodes:
        if not node.running:
            cluster.spawn(node)
    cluster.wait_ready()
    for i in range(3):
        wait_until(lambda i=i: sees_all(cluster, i), "every node sees all of them")  # type: ignore[misc]
    return cluster


def sees_all(cluster: Viewed, i: int) -> bool:
    with cluster.client(i) as client:
        role = client.call("ROLE")
        linked = len(role[2]) == 2 if role[0] == b"master" else role[3] == b"connected"
        return linked and len(client.call("CLUSTER", "SLOTS")[0]) == 5


def address(node: Node) -> list[Any]:
    return [node.host.encode(), node.port]


def pairs(flat: Sequence[bytes]) -> dict[bytes, bytes]:
    return dict(zip(flat[::2], flat[1::2], strict=True))


def ask(client: RespClient, line: str) -> Any:
    return client.try_call(*line.split())


# -- Redis Cluster ---------------------------------------------------------------------------------------------------


def test_every_node_shows_the_leader_as_the_master_of_all_slots(viewed: Viewed) -> None:
    leader = viewed.wait_leader()
    ids = viewed.public_ids()
    others = [i for i in range(3) if i != leader]
    for i in range(3):
        with viewed.client(i) as client:
            wait_until(lambda c=client: len(c.call("CLUSTER", "SLOTS")[0]) == 5, "all members are connected")
            [[first, last, master, *replicas]] = client.call("CLUSTER", "SLOTS")
            assert (first, last) == (0, 16383)
            assert master == [*address(viewed.nodes[leader]), ids[leader], []]
            assert sorted(replicas) == sorted([*address(viewed.nodes[j]), ids[j], []] for j in others)
            [shard] = client.call("CLUSTER", "SHARDS")
            found = pairs(shard)
            assert found[b"slots"] == [0, 16383]  # type: ignore[comparison-overlap]
            nodes = [pairs(node) for node in found[b"nodes"]]  # type: ignore[arg-type]
            assert [node[b"role"] for node in nodes] == [b"master", b"replica", b"replica"]
            assert nodes[0][b"id"] == ids[leader]
            assert {node[b"health"] for node in nodes} == {b"online"}
            lines = client.call("CLUSTER", "NODES").decode().splitlines()
            assert re.fullmatch(
                rf"{ids[leader].decode()} 127.0.0.1:\d+@\d+ {'myself,' * (i == leader)}master - 0 \d+ \d+ connected "
                "0-16383",
                lines[0],
            )
            assert sum("myself" in line for line in lines) == 1
            assert all(f"slave {ids[leader].decode()} 0 " in line for line in lines[1:])
            assert client.call("CLUSTER", "MYID") == ids[i]
            replicas_shown = client.call("CLUSTER", "REPLICAS", ids[leader])
            assert len(replicas_shown) == 2 == len(client.call("CLUSTER", "SLAVES", ids[leader].upper()))
            info = pairs(re.split(rb":|\r\n", client.call("CLUSTER", "INFO").strip()))
            assert (info[b"cluster_state"], info[b"cluster_known_nodes"], info[b"cluster_size"]) == (b"ok", b"3", b"1")
            assert min(int(info[b"cluster_stats_messages_" + way]) for way in (b"sent", b"received")) > 0
            directions = {(pairs(one)[b"direction"], pairs(one)[b"node"]) for one in client.call("CLUSTER", "LINKS")}
            assert directions == {(way, ids[j]) for j in range(3) if j != i for way in (b"to", b"from")}


def test_hello_info_and_role_say_who_leads(viewed: Viewed) -> None:
    leader = viewed.wait_leader()
    host, port = address(viewed.nodes[leader])
    for i in range(3):
        with viewed.client(i) as client:
            hello = pairs(client.call("HELLO", "2"))
            replication = client.info("replication")
            role = client.call("ROLE")
            assert hello[b"mode"] == b"cluster"
            assert client.info("cluster") == {"cluster_enabled": "1"}
            assert client.info("server")["redis_mode"] == "cluster"
            assert client.call("CONFIG", "GET", "cluster-enabled") == [b"cluster-enabled", b"yes"]
            if i == leader:
                assert (hello[b"role"], replication["role"], role[0]) == (b"master", "master", b"master")
                assert len(role[2]) == 2
            else:
                assert (hello[b"role"], replication["role"]) == (b"replica", "slave")
                assert role[:4] == [b"slave", host, port, b"connected"]
                assert (replication["master_host"], replication["master_port"]) == (host.decode(), str(port))
                assert (replication["master_link_status"], replication["slave_read_only"]) == ("up", "0")
            client.call("SET", "k", i)
            assert client.call("WAIT", "1", "60000") >= 1


def test_keys_of_a_slot_are_counted_and_named(viewed: Viewed) -> None:
    with viewed.client(viewed.followers()[0]) as client:
        client.call("FLUSHALL")
        assert client.call("CLUSTER", "KEYSLOT", "a{tag}b") == client.call("CLUSTER", "KEYSLOT", "tag") == 8338
        for number in range(20):
            client.call("SET", f"{number}{{tag}}", "v")
        client.call("SET", "gone{tag}", "v", "PX", "1")
        client.call("SET", "elsewhere", "v")
        wait_until(lambda: client.call("EXISTS", "gone{tag}") == 0, "the key has expired")
        assert ask(client, "CLUSTER COUNTKEYSINSLOT 8338") == 20
        assert ask(client, "CLUSTER COUNTKEYSINSLOT 8337") == 0
        found = ask(client, "CLUSTER GETKEYSINSLOT 8338 100")
        assert sorted(found) == sorted(b"%d{tag}" % number for number in range(20))
        assert ask(client, "CLUSTER GETKEYSINSLOT 8338 3") == found[:3]
        last = next(key for key in map(str, range(10**6)) if hash_slot(key.encode()) == 16383)
        client.call("SET", last, "v")
        assert ask(client, "CLUSTER GETKEYSINSLOT 16383 5") == [last.encode()]
        for line, error in (
            ("CLUSTER COUNTKEYSINSLOT 16384", b"-ERR Invalid slot"),
            ("CLUSTER COUNTKEYSINSLOT -1", b"-ERR Invalid slot"),
            ("CLUSTER COUNTKEYSINSLOT a", b"-ERR value is not an integer or out of range"),
            ("CLUSTER GETKEYSINSLOT 1 -1", b"-ERR Invalid slot or number of keys"),
            ("CLUSTER GETKEYSINSLOT 16384 1", b"-ERR Invalid slot or number of keys"),
            ("CLUSTER GETKEYSINSLOT 1 x", b"-ERR value is not an integer or out of range"),
            ("CLUSTER GETKEYSINSLOT 1", b"-ERR wrong number of arguments for 'cluster|getkeysinslot' command"),
            ("CLUSTER REPLICAS abc", b"-ERR Unknown node abc"),
            ("CLUSTER COUNT-FAILURE-REPORTS abc", b"-ERR Unknown node abc"),
        ):
            assert ask(client, line) == error
        follower_id = client.call("CLUSTER", "MYID").decode()
        assert ask(client, f"CLUSTER REPLICAS {follower_id}") == b"-ERR The specified node is not a master"
        assert ask(client, f"CLUSTER COUNT-FAILURE-REPORTS {follower_id}") == 0
        assert client.pipeline([("MULTI",), ("CLUSTER", "COUNTKEYSINSLOT", "8338"), ("EXEC",)])[-1] == [20]


def test_what_would_change_a_redis_cluster_is_refused_with_what_to_do_instead(viewed: Viewed) -> None:
    with viewed.client() as client:
        for line in ("ADDSLOTS 1", "MEET 127.0.0.1 1", "FORGET abc", "REPLICATE abc", "RESET", "RESET HARD",
                     "SAVECONFIG", "FAILOVER", "FAILOVER TAKEOVER", "SETSLOT 1 STABLE", "SET-CONFIG-EPOCH 1",
                     "FLUSHSLOTS", "BUMPEPOCH", "DELSLOTS 1", "ADDSLOTSRANGE 1 2", "DELSLOTSRANGE 1 2"):  # fmt: skip
            reply = ask(client, f"CLUSTER {line}")
            assert reply.startswith(f"-ERR CLUSTER {line.split()[0]} is not supported: ".encode()), reply
        assert ask(client, "ASKING") == b"OK"
        assert len(ask(client, "CLUSTER HELP")) > 40
        assert ask(client, "CLUSTER NOTHING") == b"-ERR unknown subcommand 'NOTHING'. Try CLUSTER HELP."


def test_databases_transactions_and_keys_of_several_slots_work_as_ever(viewed: Viewed) -> None:
    """Nothing is refused for lying in two slots: one leader has them all."""
    with viewed.client(viewed.followers()[0]) as client:
        client.call("SELECT", "3")
        client.call("MSET", "a", "1", "b", "2")
        assert client.call("MGET", "a", "b") == [b"1", b"2"]
        assert client.pipeline([("MULTI",), ("INCR", "a"), ("INCR", "b"), ("EXEC",)])[-1] == [2, 3]
        client.call("FLUSHDB")


def test_the_view_follows_a_killed_leader(viewed: Viewed) -> None:
    ids = viewed.public_ids()
    old = viewed.wait_leader()
    viewed.kill(old)
    new = viewed.wait_leader(other_than=old)
    for i in range(3):
        if i == old:
            continue
        with viewed.client(i) as client:
            wait_until(lambda c=client: ask(c, "CLUSTER SLOTS")[0][2][2] == ids[new], "the new master is shown")
            wait_until(lambda c=client: len(ask(c, "CLUSTER SLOTS")[0]) == 4, "the dead node is not named any more")
            line = next(one for one in client.call("CLUSTER", "NODES").splitlines() if one.startswith(ids[old]))
            assert b" slave,fail? " in line
            assert line.endswith(b" disconnected")
    viewed.restart(old)
    with viewed.client(old) as client:
        assert client.call("CLUSTER", "MYID") == ids[old]
        assert client.call("ROLE")[0] == b"slave"


# -- redirects -------------------------------------------------------------------------------------------------------


def test_a_redirecting_follower_moves_commands_with_keys_and_nothing_else(running_redirecting: Viewed) -> None:
    cluster = running_redirecting
    leader, follower = leader_and_follower(cluster)
    moved = f"127.0.0.1:{cluster.nodes[leader].port}".encode()
    with cluster.client(follower) as client, cluster.client(leader) as at_leader:
        assert ask(client, "GET foo") == b"-NOAUTH Authentication required."
        assert client.call("AUTH", "secret") == at_leader.call("AUTH", "secret") == b"OK"
        assert ask(at_leader, "SET foo bar") == b"OK"
        assert ask(client, "GET foo") == ask(client, "SET foo 1") == b"-MOVED 12182 " + moved
        assert ask(client, "MGET foo a b") == b"-MOVED 12182 " + moved
        assert ask(client, "ZUNION 2 foo b") == ask(client, "BLPOP foo 1") == b"-MOVED 12182 " + moved
        assert ask(client, "GET") == b"-ERR wrong number of arguments for 'get' command"
        assert ask(client, "NOTHING foo").startswith(b"-ERR unknown command")
        assert ask(client, "PING") == b"PONG"
        assert ask(client, "DBSIZE") == 1
        assert client.info("replication")["slave_read_only"] == "1"
        replies = client.pipeline([("PING",), ("GET", "foo"), ("ECHO", "x"), ("SET", "a", "b"), ("PING",)])
        assert [str(reply)[:5] for reply in replies] == ["b'PON", "MOVED", "b'x'", "MOVED", "b'PON"]


def test_who_may_not_is_told_so_and_not_sent_elsewhere(running_redirecting: Viewed) -> None:
    cluster = running_redirecting
    leader, follower = leader_and_follower(cluster)
    with cluster.client(leader) as admin, cluster.client(follower) as client:
        admin.call("AUTH", "secret")
        admin.call("ACL", "SETUSER", "reader", "on", ">word", "~mine:*", "+get", "+multi", "+exec", "+watch")
        assert ask(client, "AUTH reader word") == b"OK"
        assert ask(client, "SET mine:1 x") == b"-NOPERM this user has no permissions to run the 'set' command"
        assert ask(client, "GET other").startswith(b"-NOPERM this user has no permissions to access one of the keys")
        assert ask(client, "GET mine:1").startswith(b"-MOVED ")
        assert ask(client, "MULTI") == b"OK"
        assert ask(client, "GET other").startswith(b"-NOPERM")
        assert ask(client, "EXEC").startswith(b"-EXECABORT")
        denied = client_log(cluster, follower)
        assert next(entry for entry in denied if entry[b"username"] == b"reader")[b"count"] == 1
        admin.call("ACL", "DELUSER", "reader")


def client_log(cluster: Viewed, i: int) -> list[dict[bytes, Any]]:
    """ACL LOG of a node."""
    with cluster.client(i) as client:
        client.call("AUTH", "secret")
        return [pairs(entry) for entry in client.call("ACL", "LOG")]


def test_a_transaction_is_moved_as_a_whole(running_redirecting: Viewed) -> None:
    cluster = running_redirecting
    leader, follower = leader_and_follower(cluster)
    with cluster.client(follower) as client:
        client.call("AUTH", "secret")
        replies = client.pipeline([("MULTI",), ("PING",), ("SET", "foo", "x"), ("EXEC",), ("PING",)])
        assert [str(reply).split()[0] for reply in replies] == ["b'OK'", "b'QUEUED'", "MOVED", "EXECABORT", "b'PONG'"]
        assert ask(client, "WATCH foo").startswith(b"-MOVED")
    with cluster.client(leader) as client:
        client.call("AUTH", "secret")
        client.pipeline([("SET", "foo", "bar"), ("MULTI",), ("SET", "foo", "x")])
        assert ask(client, "RAFT STATUS")  # queued: it is no command with keys
        with cluster.client(follower) as other:
            other.call("AUTH", "secret")
            name = cluster.nodes[follower].name
            assert other.call("RAFT", "TRANSFER", name) == name.encode()
        wait_until(lambda: cluster_leader(cluster, leader) == name, "the deposed leader knows the new one")
        assert ask(client, "EXEC") == f"-MOVED 12182 127.0.0.1:{cluster.nodes[follower].port}".encode()
        assert ask(client, "EXEC") == b"-ERR EXEC without MULTI"


def test_readonly_connections_of_a_redirecting_follower_are_served(running_redirecting: Viewed) -> None:
    cluster = running_redirecting
    leader, follower = leader_and_follower(cluster)
    with cluster.client(follower) as client, cluster.client(leader) as at_leader:
        client.call("AUTH", "secret")
        at_leader.call("AUTH", "secret")
        at_leader.call("SET", "foo", "seen")
        client.call("READONLY")
        wait_until(lambda: ask(client, "GET foo") == b"seen", "the follower has applied the write")
        assert ask(client, "SET foo x").startswith(b"-MOVED")
        client.call("READWRITE")
        assert ask(client, "GET foo").startswith(b"-MOVED")


def test_without_a_leader_nothing_is_moved_and_the_command_waits_for_one(running_redirecting: Viewed) -> None:
    cluster = running_redirecting
    old, follower = leader_and_follower(cluster)
    with cluster.client(follower) as client:
        client.call("AUTH", "secret")
        cluster.kill(old)
        wait_until(lambda: cluster_leader(cluster, follower) != cluster.nodes[old].name, "the leader is missed")
        reply = ask(client, "SET after election")
        assert reply == b"OK" or reply.startswith(b"-MOVED")
        assert str(cluster.nodes[old].port).encode() not in reply
    cluster.spawn(cluster.nodes[old])
    wait_until(lambda: cluster_leader(cluster, old) not in ("", None), "all are back")


def cluster_leader(cluster: Viewed, i: int) -> str | None:
    """The leader that a node with the password `secret` knows."""
    try:
        with cluster.client(i) as client:
            client.call("AUTH", "secret")
            return client.info("raft")["raft_leader_id"]
    except OSError:
        return None


def leader_and_follower(cluster: Viewed) -> tuple[int, int]:
    names = [node.name for node in cluster.nodes]
    wait_until(
        lambda: cluster_leader(cluster, 0) in names
        and len({cluster_leader(cluster, i) for i in range(3)}) == 1, "all know one leader"
    )  # fmt: skip
    leader = names.index(cluster_leader(cluster, 0) or "")
    return leader, (leader + 1) % 3


# -- Redis Sentinel --------------------------------------------------------------------------------------------------


def test_every_sentinel_port_names_the_leader_the_replicas_and_the_other_ports(viewed: Viewed) -> None:
    leader = viewed.wait_leader()
    ids = viewed.public_ids()
    for i in range(3):
        others = {port for j, port in enumerate(viewed.sentinel_ports) if j != i}
        with viewed.sentinel(i) as client:
            host, port = address(viewed.nodes[leader])
            assert ask(client, "SENTINEL GET-MASTER-ADDR-BY-NAME mymaster") == [host, str(port).encode()]
            assert ask(client, "sentinel get-master-addr-by-name other") is None
            wait_until(lambda c=client: len(ask(c, "SENTINEL SENTINELS mymaster")) == 2, "the ports are known")
            assert {int(pairs(one)[b"port"]) for one in ask(client, "SENTINEL SENTINELS mymaster")} == others
            [master] = map(pairs, ask(client, "SENTINEL MASTERS"))
            assert (master[b"name"], master[b"port"]) == (b"mymaster", str(port).encode())
            assert (master[b"flags"], master[b"runid"], master[b"quorum"]) == (b"master", ids[leader], b"2")
            assert (master[b"num-slaves"], master[b"num-other-sentinels"]) == (b"2", b"2")
            assert pairs(ask(client, "SENTINEL MASTER mymaster"))[b"runid"] == ids[leader]
            replicas = [pairs(one) for one in ask(client, "SENTINEL REPLICAS mymaster")]
            assert {one[b"runid"] for one in replicas} == {ids[j] for j in range(3) if j != leader}
            assert {one[b"flags"] for one in replicas} == {b"slave"}
            assert len(ask(client, "SENTINEL SLAVES mymaster")) == 2
            quorum = b"OK 3 usable Sentinels. Quorum and failover authorization can be reached"
            assert ask(client, "SENTINEL CKQUORUM mymaster") == quorum
            assert ask(client, "SENTINEL MYID") == ids[i]
            assert ask(client, f"SENTINEL IS-MASTER-DOWN-BY-ADDR {host.decode()} {port} 0 *") == [0, b"*", 0]
            assert ask(client, "ROLE") == [b"sentinel", [b"mymaster"]]
            info = client.info("sentinel")
            assert info["master0"] == f"name=mymaster,status=ok,address=127.0.0.1:{port},slaves=2,sentinels=3"
            server = client.info("server")
            assert (server["redis_mode"], server["tcp_port"]) == ("sentinel", str(viewed.sentinel_ports[i]))
            assert b"# Sentinel" in ask(client, "INFO")


def test_the_sentinel_port_knows_its_few_commands_and_refuses_the_rest(viewed: Viewed) -> None:
    with viewed.sentinel(0) as client:
        hello = pairs(ask(client, "HELLO 2 SETNAME me"))
        assert (hello[b"mode"], b"role" in hello) == (b"sentinel", False)
        assert ask(client, "CLIENT GETNAME") == b"me"
        assert ask(client, "CLIENT SETINFO LIB-NAME x") == b"OK"
        assert b"name=me" in ask(client, "CLIENT LIST")
        assert b"lib-name=x" in ask(client, "CLIENT INFO")
        assert ask(client, "PING") == b"PONG"
        assert ask(client, "PING hello") == b"hello"
        assert ask(client, "COMMAND COUNT") == len(ask(client, "COMMAND LIST")) == 15
        assert {spec[0] for spec in ask(client, "COMMAND") if spec} <= set(ask(client, "COMMAND LIST"))
        assert ask(client, "COMMAND DOCS ping")[0] == b"ping"
        assert ask(client, "SENTINEL RESET other*") == 0
        assert ask(client, "SENTINEL RESET my*") == 1
        assert ask(client, "SENTINEL PENDING-SCRIPTS") == []
        assert ask(client, "SENTINEL FLUSHCONFIG") == b"OK"
        for line, error in (
            ("GET a", b"-ERR unknown command 'GET', with args beginning with: 'a' "),
            ("MULTI", b"-ERR unknown command 'MULTI', with args beginning with: "),
            ("CLIENT PAUSE 1", b"-ERR unknown subcommand 'PAUSE'. Try CLIENT HELP."),
            ("SENTINEL", b"-ERR wrong number of arguments for 'sentinel' command"),
            ("SENTINEL FOO", b"-ERR unknown subcommand 'FOO'. Try SENTINEL HELP."),
            ("SENTINEL MASTER", b"-ERR wrong number of arguments for 'sentinel|master' command"),
            ("SENTINEL MASTER a b", b"-ERR wrong number of arguments for 'sentinel|master' command"),
            ("SENTINEL MASTER foo", b"-ERR No such master with that name"),
            ("SENTINEL REPLICAS foo", b"-ERR No such master with that name"),
            ("SENTINEL SENTINELS foo", b"-ERR No such master with that name"),
            ("SENTINEL CKQUORUM foo", b"-ERR No such master with that name"),
            ("SENTINEL FAILOVER foo", b"-ERR No such master with that name"),
            ("PUBLISH a b", b"-ERR Only HELLO messages are accepted by Sentinel instances."),
            ("HELLO 4", b"-NOPROTO unsupported protocol version"),
            ("AUTH a b c", b"-ERR syntax error"),
        ):
            assert ask(client, line) == error
        for line in ("MONITOR a b 1 1", "REMOVE mymaster", "SET mymaster quorum 1", "CONFIG GET x",
                     "INFO-CACHE mymaster", "SIMULATE-FAILURE HELP", "DEBUG"):  # fmt: skip
            assert b" is not supported: " in ask(client, f"SENTINEL {line}")
        assert any(b"CKQUORUM" in one for one in ask(client, "SENTINEL HELP"))
        assert ask(client, "QUIT") == b"OK"
        with pytest.raises(ConnectionError):
            client.read()


@pytest.mark.parametrize(
    "data", [b"POST / HTTP/1.1\r\n", b"*1\r\n%x\r\n", b"*1000\r\n", b"*1\r\n$10000000\r\n", b"a" * 100_000]
)
def test_what_is_no_request_of_a_sentinels_client_closes_the_connection(viewed: Viewed, data: bytes) -> None:
    with socket.create_connection(("127.0.0.1", viewed.sentinel_ports[0]), timeout=20) as connection:
        connection.sendall(data)
        received = b""
        try:
            while more := connection.recv(1 << 16):
                received += more
        except ConnectionResetError:
            pass
        assert not received or received.startswith(b"-ERR Protocol error")


def test_before_authentication_the_sentinel_port_tells_nothing(running_redirecting: Viewed) -> None:
    with running_redirecting.sentinel(0) as client:
        for line in ("SENTINEL MASTERS", "PING", "INFO", "ROLE", "SUBSCRIBE +switch-master", "CLIENT LIST", "COMMAND"):
            assert ask(client, line) == b"-NOAUTH Authentication required."
        assert ask(client, "HELLO 3").startswith(b"-NOAUTH HELLO must be called")
        assert ask(client, "AUTH wrong").startswith(b"-WRONGPASS")
        assert ask(client, "AUTH secret") == b"OK"
        assert len(ask(client, "SENTINEL MASTERS")) == 1


def test_what_is_sent_behind_an_auth_in_one_piece_is_answered_behind_it(running_redirecting: Viewed) -> None:
    """An AUTH lifts the bounds of what is behind it, also where another one's answer is still waited for."""
    channels = [f"channel{number}" for number in range(30)]
    lines = [("AUTH", "a password that the leader is asked for"), ("AUTH", "secret"), ("SUBSCRIBE", *channels)]
    with running_redirecting.sentinel(leader_and_follower(running_redirecting)[1]) as client:
        client.socket.sendall(b"".join(map(encode_command, lines)))
        assert str(client.read()).startswith("WRONGPASS")
        assert client.read() == b"OK"
        assert [client.read() for _ in channels] == [
            [b"subscribe", channel.encode(), number] for number, channel in enumerate(channels, 1)
        ]


def test_thousands_of_requests_in_one_piece_are_answered(viewed: Viewed) -> None:
    with viewed.sentinel(0) as client:
        client.socket.sendall(b"PING\r\n" * 5000)
        assert [client.read() for _ in range(5000)] == [b"PONG"] * 5000


def test_permissions_count_on_the_sentinel_port_too(running_redirecting: Viewed) -> None:
    cluster = running_redirecting
    leader, follower = leader_and_follower(cluster)
    with cluster.client(leader) as admin, cluster.sentinel(follower) as client:
        admin.call("AUTH", "secret")
        admin.call("ACL", "SETUSER", "watcher", "on", ">word", "+role", "+ping", "+hello")
        assert ask(client, "HELLO 2 AUTH watcher nothing").startswith(b"-WRONGPASS")
        assert b"role" not in ask(client, "HELLO 2 AUTH watcher word")
        assert len(ask(client, "SENTINEL MASTERS")) == 1
        assert ask(client, "PING") == b"PONG"
        no = b"-NOPERM this user has no permissions to run the '%b' command"
        assert ask(client, "CLIENT LIST") == no % b"client|list"
        assert ask(client, "SENTINEL FAILOVER mymaster") == no % b"raft|transfer"
        assert ask(client, "SUBSCRIBE +switch-master") == [b"subscribe", b"+switch-master", 1]
        admin.call("ACL", "DELUSER", "watcher")
        with pytest.raises(ConnectionError):
            client.read()


@pytest.mark.parametrize("resp", [2, 3])
def test_subscribers_on_every_node_hear_of_a_new_leader(viewed: Viewed, resp: int) -> None:
    old = viewed.wait_leader()
    live = [i for i in range(3) if i != old]
    clients = {i: viewed.sentinel(i) for i in live}
    try:
        for client in clients.values():
            client._reader = hiredis.Reader()
            if resp == 3:
                client.call("HELLO", "3")
            client.send("SUBSCRIBE", "+switch-master", "+nothing")
            client.send("PSUBSCRIBE", "?sdown")
            assert client.read() == [b"subscribe", b"+switch-master", 1]
            assert client.read() == [b"subscribe", b"+nothing", 2]
            assert client.read() == [b"psubscribe", b"?sdown", 3]
            if resp == 2:
                assert ask(client, "PING x") == [b"pong", b"x"]
                assert ask(client, "SENTINEL MASTERS").startswith(b"-ERR Can't execute 'sentinel': only (P|S)SUBSCRIBE")
            else:
                assert ask(client, "PING") == b"PONG"
                assert len(ask(client, "SENTINEL MASTERS")) == 1
        viewed.kill(old)
        new = viewed.wait_leader(other_than=old)
        text = "mymaster 127.0.0.1 {} 127.0.0.1 {}".format(*(viewed.nodes[i].port for i in (old, new))).encode()
        for client in clients.values():
            heard = [client.read()]
            while heard[-1][1] != b"+switch-master":
                heard.append(client.read())
            assert heard[-1] == [b"message", b"+switch-master", text]
            assert all(one[:2] == [b"pmessage", b"?sdown"] for one in heard[:-1])
        viewed.restart(old)
        for client in clients.values():
            heard = [client.read()]
            while heard[-1][2] != b"-sdown":
                heard.append(client.read())
            assert f" 127.0.0.1 {viewed.nodes[old].port} @ mymaster 127.0.0.1 ".encode() in heard[-1][3]
            client.socket.sendall(encode_command(["UNSUBSCRIBE", "+switch-master"]) + encode_command(["UNSUBSCRIBE"]))
            assert client.read() == [b"unsubscribe", b"+switch-master", 2]
            assert client.read() == [b"unsubscribe", b"+nothing", 1]
            assert ask(client, "PUNSUBSCRIBE") == [b"punsubscribe", b"?sdown", 0]
            assert ask(client, "PUNSUBSCRIBE") == [b"punsubscribe", None, 0]
            assert len(ask(client, "SENTINEL MASTERS")) == 1
    finally:
        for client in clients.values():
            client.close()


def test_failover_of_a_sentinel_is_a_transfer_of_the_leadership(viewed: Viewed) -> None:
    old = viewed.wait_leader()
    with viewed.sentinel(0) as client:
        replies = client.pipeline([("SENTINEL", "FAILOVER", "mymaster"), ("PING",)])
        assert replies == [b"OK", b"PONG"]
    assert viewed.wait_leader(other_than=old) != old


def test_a_lone_survivor_says_that_the_quorum_is_lost_and_the_master_down(viewed: Viewed) -> None:
    old = viewed.wait_leader()
    survivor, other = (i for i in range(3) if i != old)
    with viewed.sentinel(survivor) as client:
        viewed.kill(old)
        viewed.kill(other)
        wait_until(lambda: client.info("sentinel")["master0"].split(",")[1] == "status=odown", "the leader is missed")
        # Whoever was elected meanwhile died too: the last leader known is what is shown.
        port = ask(client, "SENTINEL GET-MASTER-ADDR-BY-NAME mymaster")[1].decode()
        assert ask(client, "SENTINEL CKQUORUM mymaster").startswith(b"-NOQUORUM 1 usable Sentinels.")
        assert pairs(ask(client, "SENTINEL MASTER mymaster"))[b"flags"] == b"master,s_down,o_down"
        assert ask(client, f"SENTINEL IS-MASTER-DOWN-BY-ADDR 127.0.0.1 {port} 0 *")[0] == 1
        wait_until(lambda: ask(client, "SENTINEL SENTINELS mymaster") == [], "silent nodes are forgotten as Sentinels")
    with viewed.client(survivor) as client:
        assert b"cluster_state:fail" in client.call("CLUSTER", "INFO")
        role = client.call("ROLE")
        assert (role[0], role[3]) == (b"slave", b"connect")
        assert client.info("replication")["master_link_status"] == "down"


def test_where_clients_need_tls_the_sentinel_port_needs_it_too(tmp_path: Path) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    authority = Authority(tmp_path)
    node_pair, client_pair = authority.make("DNS:localhost", "IP:127.0.0.1"), authority.make("DNS:client")
    with ZattCluster(1, start=False, in_memory=True) as cluster:
        node = cluster.nodes[0]
        port = free_port()
        node.flags = [
            "--tls-port", str(node.port), "--tls-cert-file", node_pair.cert, "--tls-key-file", node_pair.key,
            "--tls-ca-cert-file", authority.ca, "--sentinel-port", str(port),
        ]  # fmt: skip
        cluster.spawn(node)
        wait_until(lambda: '"ready"' in node.log(), "the node leads itself")
        papers = {"ssl_ca_certs": authority.ca, "ssl_certfile": client_pair.cert, "ssl_keyfile": client_pair.key}
        with redis.Redis(port=port, ssl=True, socket_timeout=20, **papers) as client:
            assert client.execute_command("ROLE") == [b"sentinel", [b"mymaster"]]
        other = redis.Redis(port=port, ssl=True, ssl_ca_certs=authority.ca, retry=Retry(NoBackoff(), 0))
        with other, pytest.raises(redis.ConnectionError):
            other.ping()
        with redis.Redis(port=port) as plain, pytest.raises(redis.ResponseError, match="this port speaks TLS"):
            plain.execute_command("PING")


# -- nothing of it by default ------------------------------------------------------------------------------------------


def test_without_a_view_every_node_is_one_plain_server() -> None:
    with ZattCluster(3, in_memory=True) as cluster:
        for i in range(3):
            with cluster.client(i) as client:
                assert client.call("ROLE")[0] == b"master"
                assert client.info("replication")["role"] == "master"
                assert client.info("cluster") == {"cluster_enabled": "0"}
                for line in ("CLUSTER SLOTS", "CLUSTER COUNTKEYSINSLOT 1", "CLUSTER MEET a 1", "ASKING"):
                    assert ask(client, line) == b"-ERR This instance has cluster support disabled"
                assert client.call("SET", "k", "v") == b"OK"
