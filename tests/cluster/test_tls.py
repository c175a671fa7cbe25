"""Real processes over TLS: several kinds of clients, mutual TLS and the secret between nodes, renewal by SIGHUP."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.support.certificates import Authority, Pair
from tests.support.cluster import Node, ZattCluster, free_port, wait_until
from zattredis.client import DistributedDict

redis_cli = shutil.which("redis-cli")
SECRET = "a secret of which nobody knows"


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("own"), "own")


def flags(pair: Pair, authority: Authority, **more: str) -> list[str]:
    settings = {"tls_cert_file": pair.cert, "tls_key_file": pair.key, "tls_ca_cert_file": authority.ca, **more}
    return [word for name, value in settings.items() for word in (f"--{name.replace('_', '-')}", value)]


def with_tls(cluster: ZattCluster, authority: Authority, **more: str) -> dict[int, int]:
    """Give every node a certificate of its own and a TLS port beside its plain one; return those by node."""
    ports = {}
    for i, node in enumerate(cluster.nodes):
        ports[i] = free_port()
        node.flags += flags(authority.node(node.name), authority, tls_port=str(ports[i]), **more)
    return ports


def client(port: int, authority: Authority, pair: Pair | None = None) -> redis.Redis:
    certificates = {"ssl_certfile": pair.cert, "ssl_keyfile": pair.key} if pair else {}
    # Without redis-py's own retries: it would wait for seconds between attempts that are refused as they should be.
    once = Retry(NoBackoff(), 0)
    return redis.Redis(port=port, ssl=True, ssl_ca_certs=authority.ca, socket_timeout=20, retry=once, **certificates)


def lines(node: Node, event: str) -> list[str]:
    return [line for line in node.log().splitlines() if f'"{event}"' in line or f" {event} " in line]


def test_three_nodes_with_mutual_tls_serve_tls_and_plain_clients_and_survive_a_node(own: Authority) -> None:
    with ZattCluster(3, start=False, in_memory=True) as cluster:
        ports = with_tls(cluster, own, tls_cluster="yes", tls_auth_clients="no")
        cluster.start()
        with client(ports[0], own) as one, client(ports[1], own) as two:
            assert one.set("k", b"v" * 200_000)
            assert two.get("k") == b"v" * 200_000
            pipe = two.pipeline(transaction=False)
            for i in range(2000):
                pipe.set(f"k{i}", i)
            assert pipe.execute() == [True] * 2000
            assert one.get("k1999") == b"1999"
        with redis.Redis(port=cluster.nodes[2].port) as plain:
            assert plain.get("k7") == b"7"
        with DistributedDict(f"rediss://localhost:{ports[2]}?ssl_ca_certs={own.ca}") as values:
            values["a"] = [1, 2]
            assert values["a"] == [1, 2]
        if redis_cli is not None:
            words = [redis_cli, "-p", str(ports[0]), "--tls", "--cacert", own.ca, "-h", "localhost", "get", "k3"]
            assert subprocess.run(words, capture_output=True, text=True, check=True).stdout == "3\n"
        leader = cluster.wait_leader()
        cluster.kill(leader)
        cluster.wait_leader(other_than=leader)
        rest = next(i for i in range(3) if i != leader)
        with client(ports[rest], own) as another:
            assert another.incr("k5") == 6
        cluster.restart(leader)
        cluster.wait_equal()


def test_a_port_of_tls_alone(own: Authority) -> None:
    with ZattCluster(1, start=False, in_memory=True) as cluster:
        node = cluster.nodes[0]
        pair = own.make("DNS:localhost", "IP:127.0.0.1")
        node.flags = flags(pair, own, tls_port=str(node.port))  # clients need a certificate: the default, as in Redis
        cluster.spawn(node)
        foreign = Authority(cluster.directory, "foreign")
        good = own.make("DNS:a client")
        wait_until(lambda: "node_started" in node.log(), "the node listens")
        with client(node.port, own, good) as trusted:
            assert trusted.set("k", "v")
        refused = {
            "no certificate": None,
            "its certificate is refused: certificate has expired": own.make("DNS:a client", expired=True),
            "its certificate is refused: self-signed|its certificate is refused: unable": foreign.make("DNS:a client"),
        }
        for reason, paper in refused.items():
            with client(node.port, own, paper) as stranger, pytest.raises(redis.ConnectionError):
                stranger.get("k")
            wait_until(lambda: any(part in node.log() for part in reason.split("|")), f"the log says {reason}")  # noqa: B023
        with client(node.port, foreign, good) as careful, pytest.raises(redis.ConnectionError, match="verify failed"):
            careful.get("k")
        with redis.Redis(port=node.port) as plain, pytest.raises(redis.ResponseError, match="this port speaks TLS"):
            plain.execute_command("PING")
        with socket.create_connection(("127.0.0.1", node.port)) as http:
            http.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            assert b"this port speaks TLS" in http.recv(1000)
        wait_until(lambda: "plain bytes came, and this port speaks TLS only" in node.log(), "the log says why")
        old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        old.load_verify_locations(own.ca)
        old.load_cert_chain(good.cert, good.key)
        old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_2
        with client(node.port, own, good) as trusted:
            assert trusted.config_get("tls-protocols") == {"tls-protocols": "TLSv1.2 TLSv1.3"}
            with old.wrap_socket(socket.create_connection(("localhost", node.port)), server_hostname="localhost") as s:
                s.sendall(b"PING\r\n")
                assert s.recv(100) == b"+PONG\r\n"
            assert trusted.config_set("tls-protocols", "TLSv1.3")
            with contextlib.suppress(ssl.SSLError), socket.create_connection(("localhost", node.port)) as plain_socket:
                old.wrap_socket(plain_socket, server_hostname="localhost")
                raise AssertionError("TLS 1.2 is refused by now")
            with pytest.raises(redis.ResponseError, match="Unable to update TLS configuration: cannot read /nowhere"):
                trusted.config_set("tls-cert-file", "/nowhere")
            assert trusted.config_get("tls-cert-file") == {"tls-cert-file": pair.cert}
        with client(node.port, own, good) as trusted:
            assert trusted.get("k") == b"v"


def test_tls_on_a_plain_port_is_refused_at_once() -> None:
    with ZattCluster(1, in_memory=True) as cluster:
        context = ssl.create_default_context()
        with (
            socket.create_connection(("127.0.0.1", cluster.nodes[0].port), timeout=20) as sock,
            pytest.raises((ssl.SSLError, ConnectionError)),
        ):
            context.wrap_socket(sock, server_hostname="localhost")
        log = cluster.nodes[0].log
        wait_until(lambda: "TLS came, and this port speaks plain Redis" in log(), "the log says why")


@pytest.mark.parametrize("by", ["secret", "certificates"])
def test_a_node_joins_and_a_stranger_does_not(own: Authority, by: str) -> None:
    with ZattCluster(2, start=False, in_memory=True) as cluster:
        first, second = cluster.nodes
        if by == "certificates":
            with_tls(cluster, own, tls_cluster="yes")
        else:
            for node in cluster.nodes:
                node.environment["ZATTREDIS_CLUSTER_SECRET"] = SECRET
        command = cluster.command(first)
        del command[command.index("--cluster") : command.index("--cluster") + 2]
        first.spawn(command)
        cluster.wait_ready([first])
        with first.client() as one:
            one.call("SET", "k", "v")
        stranger = Node("n9", "127.0.0.1", free_port(), cluster.directory / "n9")
        foreign = Authority(cluster.directory, "foreign")
        strangers = (
            [{}, {"tls_cluster": "yes", **named(foreign.node("n9"), foreign)}]
            if by == "certificates"
            else [{}, {"cluster_secret": "something else, and as long"}]
        )
        try:
            for settings in strangers:
                stranger.environment = {f"ZATTREDIS_{name.upper()}": value for name, value in settings.items()}
                seen = len(lines(first, "peer_refused"))
                stranger.spawn(join_command(stranger, first))
                wait_until(lambda: bool(lines(stranger, "not_joined_yet")), "the stranger is refused")
                wait_until(lambda: len(lines(first, "peer_refused")) > seen, "and the node says why")  # noqa: B023
                stranger.end(signal.SIGTERM)
                (stranger.directory / "stderr").unlink()
        finally:
            if stranger.running:
                stranger.end()
        assert all('"host":"127.0.0.1"' in str(line) for line in lines(first, "peer_refused")), "and who it was"
        second.spawn(join_command(second, first) + second.flags)
        cluster.wait_ready([second])
        with second.client() as two:
            assert two.call("GET", "k") == b"v"
            assert two.call("SET", "k2", "v2") == b"OK"
        assert len(lines(first, "inbound_link_up")) >= 1


def join_command(node: Node, seed: Node) -> list[str]:
    cluster = ZattCluster(1, start=False)
    with cluster:
        command = cluster.command(node)[:3]
    return [
        *command, "--node", node.name, "--port", str(node.port), "--dir", str(node.data_directory),
        "--join", f"{seed.host}:{seed.port}",
    ]  # fmt: skip


def named(pair: Pair, authority: Authority) -> dict[str, str]:
    return {"tls_cert_file": pair.cert, "tls_key_file": pair.key, "tls_ca_cert_file": authority.ca}


@pytest.fixture
def renewing(own: Authority, tmp_path: Path) -> Iterator[tuple[ZattCluster, dict[int, int], Path]]:
    """Three nodes whose certificates are in files that can be replaced."""
    with ZattCluster(3, start=False, in_memory=True) as cluster:
        ports = {}
        for i, node in enumerate(cluster.nodes):
            install(own, node.name, tmp_path)
            ports[i] = free_port()
            pair = Pair(str(tmp_path / f"{node.name}.crt"), str(tmp_path / f"{node.name}.key"))
            node.flags = flags(pair, own, tls_port=str(ports[i]), tls_cluster="yes", tls_auth_clients="no")
            node.flags[node.flags.index(own.ca)] = str(tmp_path / "ca.crt")
        cluster.start()
        yield cluster, ports, tmp_path


def install(authority: Authority, node_id: str, directory: Path, expired: bool = False) -> None:
    pair = authority.node(node_id, expired)
    shutil.copy(pair.cert, directory / f"{node_id}.crt")
    shutil.copy(pair.key, directory / f"{node_id}.key")
    shutil.copy(authority.ca, directory / "ca.crt")


def test_certificates_are_renewed_by_sighup_without_dropping_a_link(
    own: Authority, renewing: tuple[ZattCluster, dict[int, int], Path]
) -> None:
    cluster, ports, directory = renewing
    new = Authority(directory, "new")
    with client(ports[0], own) as before:
        assert before.set("k", 1)
        downs = [len(lines(node, "link_down")) for node in cluster.nodes]
        for node in cluster.nodes:
            install(new, node.name, directory, expired=True)
            node.process.send_signal(signal.SIGHUP)  # type: ignore[union-attr]
        for node in cluster.nodes:
            wait_until(lambda: "certificates_not_reloaded" in node.log(), "expired ones are refused")  # noqa: B023
        for node in cluster.nodes:
            install(new, node.name, directory)
            node.process.send_signal(signal.SIGHUP)  # type: ignore[union-attr]
        for node in cluster.nodes:
            wait_until(lambda: "certificates_loaded" in node.log(), "new ones are in force")  # noqa: B023
        assert before.incr("k") == 2, "the connection stands"
        with client(ports[0], own) as old, pytest.raises(redis.ConnectionError, match="verify failed"):
            old.ping()
        with client(ports[1], new) as after:
            assert after.incr("k") == 3
        assert [len(lines(node, "link_down")) for node in cluster.nodes] == downs
        leader = cluster.wait_leader()
        cluster.kill(leader)
        cluster.restart(leader)  # links by the new certificates alone
        cluster.wait_equal()


def control(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    environment = {**{k: v for k, v in os.environ.items() if not k.startswith("ZATTREDIS_")}, **environment}
    command = [sys.executable, "-m", "zattredis.cli.zattctl", *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=60)


def test_zattctl_speaks_tls_by_flags_and_by_the_settings_of_the_node(own: Authority) -> None:
    with ZattCluster(1, start=False, in_memory=True) as cluster:
        node = cluster.nodes[0]
        pair = own.make("DNS:db.example")
        node.flags = flags(pair, own, tls_port=str(node.port))
        cluster.spawn(node)
        wait_until(lambda: "node_started" in node.log(), "the node listens")
        at = ["-p", str(node.port)]
        certificate = ["--tls", "--cacert", own.ca, "--cert", pair.cert, "--key", pair.key]
        wait_until(lambda: control("status", *at, *certificate).returncode == 0, "all is well")
        assert control("ping", *at, *certificate).stdout == "PONG\n"
        for words, reason in (
            (at, "this port speaks TLS"),
            ([*at, "--tls"], "its certificate is refused"),
            ([*at, "--tls", "--insecure"], "does it want a certificate"),
            ([*at, "--cacert", own.ca], "add --tls"),
            ([*at, "--tls", "--cacert", "/nowhere"], "cannot read /nowhere"),
            ([*at, "--tls", "--cacert", own.ca, "--cert", pair.cert], "--key names the key's file"),
        ):
            refused = control("ping", *words)
            assert refused.returncode != 0
            assert refused.stderr.count("\n") == 1
            assert reason in refused.stderr
        settings = {"port": str(node.port), "tls_port": str(node.port), **named(pair, own)}
        assert control("ping", **{f"ZATTREDIS_{k.upper()}": v for k, v in settings.items()}).stdout == "PONG\n"


def test_sighup_puts_in_force_what_can_be_and_says_what_cannot(tmp_path: Path) -> None:
    file = tmp_path / "zattredis.toml"
    file.write_text("maxclients = 50\nslow_sync_ms = 300\n")
    with ZattCluster(1, flags=["-c", str(file)], in_memory=True) as cluster, cluster.client() as asker:
        node = cluster.nodes[0]

        def get(name: str) -> bytes:
            return bytes(asker.call("CONFIG", "GET", name)[1])

        def reload(text: str, event: str) -> str:
            seen = len(lines(node, event))
            file.write_text(text)
            node.process.send_signal(signal.SIGHUP)  # type: ignore[union-attr]
            wait_until(lambda: len(lines(node, event)) > seen, event)
            return lines(node, event)[-1]

        asker.call("CONFIG", "SET", "slow-sync-ms", 400, "timeout", 77)
        told = reload("maxclients = 60\nslow_sync_ms = 300\nheartbeat_ms = 50\n", "settings_reloaded")
        assert "maxclients" in told and "slow_sync_ms" not in told
        assert "heartbeat_ms" in lines(node, "restart_needed")[-1]
        assert (get("maxclients"), get("slow-sync-ms"), get("timeout")) == (b"60", b"400", b"77")
        reload("maxclients = 60\nslow_sync_ms = 500\nheartbeat_ms = 50\n", "settings_reloaded")
        assert (get("slow-sync-ms"), get("timeout")) == (b"500", b"77"), "the file says something new of the first"
        told = reload("maxclients = 70\nno_such_thing = 1\n", "settings_not_reloaded")
        assert "no_such_thing" in told and get("maxclients") == b"60"
        file.write_text("maxclients = 60  # few\nslow_sync_ms = 500\n")
        assert asker.call("CONFIG", "SET", "maxclients", 65) == b"OK"
        assert asker.call("CONFIG", "REWRITE") == b"OK"
        assert file.read_text() == (
            "maxclients = 65  # few\nslow_sync_ms = 500\n\n# Generated by CONFIG REWRITE\ntimeout_s = 77\n"
        )
        cluster.kill(0, signal.SIGTERM)
        cluster.restart(0)
        with cluster.client() as again:
            assert again.call("CONFIG", "GET", "maxclients")[1] == b"65"
            assert again.call("CONFIG", "GET", "timeout")[1] == b"77"
