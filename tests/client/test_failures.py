"""What is certainly not done is tried again or said to be; what may have been done is never repeated."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import ssl
import subprocess
import threading
from typing import Any

import pytest

import zattredis.errors
from tests.client.fake_server import FakeServer
from tests.support.cluster import ZattCluster, free_port
from zattredis.client import AsyncDistributedDict, DistributedDict, NotDone, OutcomeUnknown, Refused, Unavailable


def opened(*ports: int, **words: Any) -> DistributedDict[Any, Any]:
    return DistributedDict([("127.0.0.1", port) for port in ports], **words)


def test_a_write_whose_reply_never_came_is_unknown_and_not_repeated(port: int) -> None:
    with FakeServer(lambda argv: None) as fake:
        d = opened(fake.port, port)
        with pytest.raises(OutcomeUnknown, match="HSET was sent"):
            d["a"] = 1
        assert fake.names() == [b"HSET"]
        assert d.get("a") is None  # the next operation goes to the other node
    assert not issubclass(OutcomeUnknown, NotDone)
    assert OutcomeUnknown is zattredis.errors.OutcomeUnknown


def test_a_reply_that_takes_too_long_is_unknown() -> None:
    silent = threading.Event()
    with FakeServer(lambda argv: b"" if not silent.wait(5) else None) as fake:
        d = opened(fake.port, timeout=0.05)
        with pytest.raises(OutcomeUnknown):
            d["a"] = 1
        silent.set()


@pytest.mark.parametrize("reply", [b"-TIMEOUT no quorum answered in time, outcome unknown: read before you retry\r\n"])
def test_the_servers_word_that_the_outcome_is_unknown(reply: bytes, port: int) -> None:
    with FakeServer(lambda argv: reply) as fake:
        d = opened(fake.port, port)
        with pytest.raises(OutcomeUnknown, match="outcome unknown"):
            d.pop("a")
        assert fake.names() == [b"MULTI", b"HGET", b"HDEL", b"EXEC"]


@pytest.mark.parametrize("reply", [b"-CLUSTERDOWN no quorum\r\n", b"-LOADING x\r\n", b"-ERR max number of clients\r\n"])
def test_what_was_certainly_not_done_goes_to_the_next_node(reply: bytes, port: int) -> None:
    with FakeServer(lambda argv: reply) as fake:
        d = opened(fake.port, port)
        d["a"] = 1
        assert fake.names() == [b"HSET"]
        assert opened(port) == {"a": 1}


def test_a_read_goes_to_the_next_node(port: int) -> None:
    with FakeServer(lambda argv: None) as fake:
        assert opened(fake.port, port).get("a", 0) == 0
        assert opened(free_port(), fake.port, port).copy() == {}


def test_a_watch_that_broke_before_the_write_starts_again(port: int) -> None:
    with FakeServer(lambda argv: None) as fake:
        assert opened(fake.port, port).compare_and_set("a", 1, 2) is False
        assert fake.names()[0] == b"WATCH"


def test_nobody_there_is_unavailable_within_attempts_or_deadline() -> None:
    with pytest.raises(Unavailable, match="certainly not done, given up after 4 failures"):
        opened(free_port(), free_port(), append_retry_attempts=1)["a"] = 1
    with pytest.raises(Unavailable):
        opened(free_port(), deadline=0.05)["a"] = 1


def test_a_refusal_is_not_tried_again() -> None:
    with FakeServer(lambda argv: b"-OOM command not allowed\r\n") as fake:
        with pytest.raises(Refused, match="not allowed"):
            opened(fake.port)["a"] = 1
        assert fake.names() == [b"HSET"]


def test_an_idle_connection_that_died_is_noticed_before_a_write() -> None:
    with FakeServer(lambda argv: b":1\r\n") as fake:
        d = opened(fake.port)
        d["a"] = 1
        fake.connections[0].shutdown(socket.SHUT_RDWR)
        d["a"] = 2
        assert [argv[-1] for argv in fake.seen] == [b"1", b"2"]
        assert len(fake.connections) == 2


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """A certificate for 127.0.0.1 and its key, as files."""
    tool = shutil.which("openssl")
    if tool is None:
        pytest.skip("openssl is not installed")
    directory = tmp_path_factory.mktemp("tls")
    certificate, key = str(directory / "cert.pem"), str(directory / "key.pem")
    subprocess.run(
        [tool, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", certificate],
        check=True, capture_output=True,
    )  # fmt: skip
    return certificate, key


def test_tls(certificate: tuple[str, str]) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    with FakeServer(lambda argv: b"$1\r\n5\r\n", context) as fake:
        d: DistributedDict[str, int] = DistributedDict("127.0.0.1", fake.port, tls=True, tls_ca_file=certificate[0])
        assert d["a"] == 5
        url = f"rediss://127.0.0.1:{fake.port}?ssl_ca_certs={certificate[0]}"
        assert DistributedDict(url)["a"] == 5

        async def body() -> None:
            d = AsyncDistributedDict[str, int]("127.0.0.1", fake.port, tls=True, tls_ca_file=certificate[0])
            assert await d["a"] == 5
            await d.close()

        asyncio.run(body())
        with pytest.raises(Unavailable, match="CERTIFICATE_VERIFY_FAILED"):  # nobody vouches for it
            DistributedDict("127.0.0.1", fake.port, 0, tls=True)["a"]
    with pytest.raises(ValueError, match="tls=True"):
        DistributedDict(tls_ca_file=certificate[0])


def test_passwords_and_urls() -> None:
    with ZattCluster(1, in_memory=True, environment={"ZATTREDIS_REQUIREPASS": "se cret"}, start=False) as cluster:
        cluster.spawn(cluster.nodes[0])
        port = cluster.nodes[0].port
        d = DistributedDict("127.0.0.1", port, password="se cret")
        d["a"] = 1
        assert DistributedDict(f"redis://:se%20cret@127.0.0.1:{port}") == {"a": 1}
        other = DistributedDict(f"redis://127.0.0.1:{port}/3", username="default", password="se cret")
        assert other == {}
        for wrong in ("wrong", None):
            with pytest.raises(Refused):
                DistributedDict("127.0.0.1", port, password=wrong)["a"]


@pytest.mark.parametrize("address", ["h:x", "redis:/x", "redis://h/abc", "[::1", ("h", 0), [], ("h", 99999)])
def test_addresses_that_cannot_be_meant(address: Any) -> None:
    with pytest.raises(ValueError):
        DistributedDict(address)


def test_addresses_and_their_default_port() -> None:
    def names(*words: Any) -> list[str]:
        return [end.name for end in DistributedDict(*words)._options.endpoints]

    assert names() == ["127.0.0.1:6379"]
    assert names(("h", 1)) == ["h:1"]
    assert names(["a", "b:2", "[::1]:3", "::1", ("c", 4), "redis://d", "unix:///run/z"], 5) == [
        "a:5", "b:2", "::1:3", "::1:5", "c:4", "d:5", "/run/z",
    ]  # fmt: skip


def test_a_child_of_fork_opens_its_own_connections(port: int) -> None:
    d = opened(port)
    d["a"] = 1
    child = os.fork()
    if child == 0:
        os._exit(0 if d.incr("a") == 2 else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert d["a"] == 2


def test_the_death_of_a_node_is_survived_by_all_but_the_write_in_flight() -> None:
    with ZattCluster(3, in_memory=True) as cluster:
        d = opened(*(node.port for node in cluster.nodes))
        d.update((i, i) for i in range(2000))
        changes = d.watch(interval=0.005, timeout=30)
        keys = iter(d)
        seen = [next(keys)]
        killed = threading.Event()
        acknowledged: list[int] = []
        unknown: list[int] = []

        def write() -> None:
            mine = opened(*(node.port for node in cluster.nodes))
            i = 0
            while not (killed.is_set() and len(acknowledged) > 200):
                try:
                    mine[("w", i)] = i
                    acknowledged.append(i)
                except OutcomeUnknown:
                    unknown.append(i)
                i += 1

        writer = threading.Thread(target=write)
        writer.start()
        cluster.kill(0)  # the one that all of them talk to
        killed.set()
        writer.join()
        assert len(unknown) <= 1
        found = d.copy()
        assert all(found[("w", i)] == i for i in acknowledged)
        seen += keys
        numbers = [key for key in seen if isinstance(key, int)]
        assert sorted(numbers) == list(range(2000))
        missing = {("w", i) for i in acknowledged}
        while missing:
            missing.discard(next(changes).key)
        changes.close()
        assert d.diagnostics["address"] != f"127.0.0.1:{cluster.nodes[0].port}"


def test_a_refusal_that_redis_py_takes_for_a_broken_connection_is_certainly_not_done(port: int) -> None:
    with FakeServer(lambda argv: b"-NOAUTH Authentication required.\r\n") as fake, pytest.raises(Refused):
        opened(fake.port)["a"] = 1
    with FakeServer(lambda argv: b"-ERR max number of clients reached\r\n") as fake:
        opened(fake.port, port)["a"] = 1
        assert fake.names() == [b"HSET"]


def test_what_a_url_says_to_pools_does_no_harm(port: int) -> None:
    d = DistributedDict(f"redis://127.0.0.1:{port}/0?max_connections=5&protocol=3&decode_responses=1&socket_timeout=3")
    d["a"] = b"\xff"
    assert d == {"a": b"\xff"}


def test_a_lock_whose_taking_is_of_unknown_outcome_is_asked_for() -> None:
    owners: list[bytes] = []

    def answer(argv: list[bytes]) -> bytes | None:
        if argv[0] == b"SET":
            owners.append(argv[2])
            return b"+QUEUED\r\n"
        if argv[0] == b"EXEC":
            if len(fake.connections) == 1:
                return None  # it was done, and the node died
            return b"*2\r\n$32\r\n%b\r\n$1\r\n7\r\n" % owners[0]
        return {b"GET": b"$-1\r\n" if not owners else b"+QUEUED\r\n"}.get(argv[0], b"+OK\r\n")

    with FakeServer(answer) as fake:
        lock = opened(fake.port).lock("x")
        assert lock.acquire()
        assert lock.token == 7
        assert len(owners) == 1
