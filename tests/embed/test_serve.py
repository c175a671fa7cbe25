"""`serve`: one node in a thread, one in a process, a cluster; their failures and their ends."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

import zattredis
from tests.support.cluster import REPOSITORY, wait_until
from zattredis.errors import ConfigError, FatalError

pytestmark = pytest.mark.filterwarnings("error::ResourceWarning")


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def gone(pid: int) -> bool:
    return not Path(f"/proc/{pid}").exists()


@pytest.fixture(scope="module")
def cluster() -> Iterator[zattredis.Server]:
    with zattredis.serve(nodes=3) as server:
        yield server


# -- one node --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("process", [False, True])
def test_one_node_serves_and_leaves_nothing(process: bool) -> None:
    threads = set(threading.enumerate())
    with zattredis.serve(process=process) as server:
        client = server.client(decode_responses=True)
        assert client.set("a", "1") and client.incr("a") == 2
        assert server.url == f"redis://127.0.0.1:{server.port}/0"
        assert server.leader == 0 and server.alive() and len(server) == 1
        directory, pid, settings = server.directory, server.pid(), server.settings[0]
        assert (pid is not None) is process
        assert directory.exists()
    assert not directory.exists()
    wait_until(lambda: pid is None or gone(pid), "the process is gone")
    assert set(threading.enumerate()) == threads
    assert is_free(settings.port) and is_free(settings.peer_port)
    with pytest.raises(RuntimeError, match="not running"):
        _ = server.port
    server.close()


@pytest.mark.parametrize("process", [False, True])
def test_an_exception_in_the_block_ends_the_server_and_passes(process: bool) -> None:
    ports: list[int] = []

    def fail() -> None:
        with zattredis.serve(process=process) as server:
            ports.append(server.port)
            raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        fail()
    assert is_free(ports[0])


@pytest.mark.parametrize("process", [False, True])
def test_a_given_directory_keeps_the_data(tmp_path: Path, process: bool) -> None:
    with zattredis.serve(tmp_path / "data", process=process) as server:
        server.client().set("a", "1")
        server.restart()
        assert server.client().get("a") == b"1"
    with zattredis.serve(tmp_path / "data") as server:
        assert server.client().get("a") == b"1"


def test_settings_are_those_of_the_table(tmp_path: Path) -> None:
    with zattredis.serve(requirepass="sec ret", maxclients=7, proto_max_bulk_bytes="2MiB") as server:
        assert "sec%20ret" in server.url
        assert server.client().config_get("maxclients") == {"maxclients": "7"}
        with pytest.raises(redis.AuthenticationError):
            redis.Redis(port=server.port).ping()
        assert server.dictionary("orders").name == "orders"
        server.dictionary()["seen"] = "by all who open the same name"
        with zattredis.DistributedDict[str, str](server.url) as other:
            assert "seen" in other and "seen" not in server.dictionary("orders")
        assert server.leader == 0
    with pytest.raises(TypeError, match="did you mean maxclients"):
        zattredis.serve(maxclient=7)
    with pytest.raises(ConfigError, match="maxclients: must be between 1 and 1000000, not 0"):
        zattredis.serve(maxclients=0)
    with pytest.raises(ConfigError, match=r"port: serve\(nodes=3\) chooses it"):
        zattredis.serve(nodes=3, port=7001)
    with pytest.raises(ValueError, match="at least 1"):
        zattredis.serve(nodes=0)
    with pytest.raises(ValueError, match="processes"):
        zattredis.serve(nodes=3, process=False)


@pytest.mark.parametrize("process", [False, True])
def test_what_a_node_cannot_start_with_is_said_in_one_line(tmp_path: Path, process: bool) -> None:
    with zattredis.serve(tmp_path / "data") as server:
        with pytest.raises(FatalError, match="data"):
            zattredis.serve(tmp_path / "data", process=process).start()
        port = server.port
        with pytest.raises(FatalError, match=f"cannot listen for clients on 127.0.0.1:{port}"):
            zattredis.serve(port=port, process=process).start()


def test_shutdown_by_a_client_ends_it_and_close_is_content() -> None:
    with zattredis.serve() as server:
        server.client().shutdown(nosave=True)
        wait_until(lambda: not server.alive(), "the node has ended")
        assert server.leader is None


def test_a_thread_cannot_be_killed_or_paused() -> None:
    with zattredis.serve() as server:
        for failure in (server.kill, server.pause):
            with pytest.raises(RuntimeError, match="process=True"):
                failure()


def test_what_was_acknowledged_is_read_right_after_a_restart() -> None:
    """The state lies behind the log then; a read waits for what the log still has to bring."""
    with zattredis.serve(process=True) as server:
        for turn in range(3):
            server.client().set("a", turn)
            server.kill()
            server.restart()
            assert server.client().get("a") == b"%d" % turn


def test_a_process_is_killed_paused_and_resumed() -> None:
    with zattredis.serve(process=True) as server:
        server.client().set("a", "1")
        server.kill()
        assert not server.alive() and server.pid() is None and server.leader is None
        server.restart()
        assert server.client().get("a") == b"1"
        server.pause()
        with pytest.raises(redis.TimeoutError):
            server.client(socket_timeout=0.2, retry=None).get("a")
        assert server.alive() and server.leader is None
        server.resume()
        assert server.client().get("a") == b"1"
        assert "node_started" in server.log()


def test_two_servers_beside_each_other() -> None:
    with zattredis.serve() as one, zattredis.serve() as other:
        one.client().set("a", "1")
        assert other.client().get("a") is None
        assert one.port != other.port


def test_async_with() -> None:
    async def main() -> bytes:
        async with zattredis.serve() as server:
            client = server.async_client()
            await client.set("a", "1")
            found: bytes = await client.get("a")
            await client.aclose()
            return found

    assert asyncio.run(main()) == b"1"


@pytest.mark.parametrize("nodes", [1, 3])
def test_a_start_that_is_cancelled_leaves_nothing(nodes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    async def main() -> None:
        server = zattredis.serve(nodes=nodes)
        starting = asyncio.create_task(server.__aenter__())
        await asyncio.sleep(0)
        starting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await starting
        with pytest.raises(RuntimeError, match="not running"):
            server.pid()

    asyncio.run(main())
    assert not [*tmp_path.iterdir()]


# -- a cluster -------------------------------------------------------------------------------------------------------


def test_a_killed_leader_is_replaced_and_comes_back(cluster: zattredis.Server) -> None:
    leader = cluster.wait_for_leader()
    cluster.client(leader).set("a", "1")
    cluster.kill(leader)
    assert cluster.client().get("a") == b"1", "of a node that lives, where none is named"
    other = (leader + 1) % 3
    assert cluster.client(other).incr("a") == 2
    assert cluster.wait_for_leader() != leader
    cluster.restart(leader)
    assert cluster.client(leader).get("a") == b"2"
    assert len({*cluster.ports}) == len(cluster.urls) == len(cluster) == 3


def test_a_partition_leaves_the_minority_without_a_leader(cluster: zattredis.Server) -> None:
    leader = cluster.wait_for_leader()
    others = [node for node in range(3) if node != leader]
    cluster.client(leader).set("p", "0")
    cluster.partition([leader], others)
    assert cluster.wait_for_leader() in others
    assert cluster.client(others[0]).incr("p") == 1
    with pytest.raises(redis.RedisError):
        cluster.client(leader, socket_timeout=0.5, retry=None).incr("p")
    cluster.heal()
    assert int(cluster.client(leader).get("p") or 0) >= 1
    wait_until(lambda: cluster.client(leader).get("p") == cluster.client(others[0]).get("p"), "one value")


def test_a_paused_leader_is_replaced(cluster: zattredis.Server) -> None:
    leader = cluster.wait_for_leader()
    cluster.pause(leader)
    wait_until(lambda: cluster.leader not in (None, leader), "another leads")
    cluster.resume(leader)
    cluster.wait_for_leader()
    assert cluster.client(leader).ping()


def test_a_node_restarted_behind_a_partition_stays_behind_it(cluster: zattredis.Server) -> None:
    cluster.wait_for_leader()
    cluster.partition([2])
    cluster.restart(2)
    wait_until(lambda: cluster.leader in (0, 1), "the others have a leader")
    with pytest.raises(redis.RedisError):
        cluster.client(2, socket_timeout=0.5, retry=None).get("a")
    cluster.heal()
    assert cluster.client(2).set("a", "1")


def test_partitions_that_make_no_sense(cluster: zattredis.Server) -> None:
    for groups in ([[0, 3]], [[0], [0, 1]]):
        with pytest.raises(ValueError, match="one group at most"):
            cluster.partition(*groups)
    with pytest.raises(IndexError, match="there is no node 3"):
        cluster.kill(3)


def test_a_cluster_in_a_given_directory_comes_back(tmp_path: Path) -> None:
    with zattredis.serve(tmp_path, nodes=3) as server:
        server.client(1).set("a", "1")
        ports, pids = server.ports, [server.pid(node) for node in range(3)]
    wait_until(lambda: all(pid is not None and gone(pid) for pid in pids), "the nodes are gone")
    with zattredis.serve(tmp_path, nodes=3) as server:
        assert server.ports == ports
        assert server.client(2).get("a") == b"1"
    with pytest.raises(FatalError, match="holds a cluster of 3"):
        zattredis.serve(tmp_path, nodes=5).start()


# -- ends ------------------------------------------------------------------------------------------------------------

PROGRAM = """
import sys, time, zattredis
server = zattredis.serve(nodes={nodes}, process={process})
{before}
with server:
    print(server.port, server.directory, *[server.pid(node) for node in range(len(server))], flush=True)
    {body}
"""


def start(nodes: int, process: bool | None, body: str) -> tuple[subprocess.Popen[str], int, Path, list[int]]:
    text = PROGRAM.format(nodes=nodes, process=process, body=body, before="")
    program = subprocess.Popen(
        [sys.executable, "-c", text], cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True,
    )  # fmt: skip
    assert program.stdout is not None
    port, directory, *pids = program.stdout.readline().split()
    return program, int(port), Path(directory), [int(pid) for pid in pids if pid != "None"]


@pytest.mark.parametrize(("nodes", "process"), [(1, False), (1, True), (3, None)])
def test_ctrl_c_ends_everything(nodes: int, process: bool | None) -> None:
    program, port, directory, pids = start(nodes, process, "time.sleep(60)")
    os.killpg(program.pid, signal.SIGINT)
    _, errors = program.communicate(timeout=60)
    assert program.returncode == -signal.SIGINT and errors.splitlines()[-1] == "KeyboardInterrupt"
    assert is_free(port) and not directory.exists()
    wait_until(lambda: all(map(gone, pids)), "the nodes are gone")


@pytest.mark.parametrize(("nodes", "process"), [(1, False), (1, True), (3, None)])
def test_a_program_that_is_killed_takes_its_nodes_along(nodes: int, process: bool | None) -> None:
    program, port, directory, pids = start(nodes, process, "time.sleep(60)")
    program.kill()
    program.communicate(timeout=60)
    wait_until(lambda: is_free(port) and all(map(gone, pids)), "the nodes have ended")
    subprocess.run(["rm", "-rf", str(directory)], check=True)


def test_a_server_that_is_never_closed_ends_with_its_program() -> None:
    program, port, directory, _ = start(1, False, "server.__exit__ = None; sys.stdout.close(); raise SystemExit(0)")
    program.communicate(timeout=60)
    assert is_free(port) and not directory.exists()
    text = "import zattredis; s = zattredis.serve().start(); print(s.port, s.directory, flush=True)"
    done = subprocess.run([sys.executable, "-c", text], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    words = done.stdout.split()
    assert is_free(int(words[0])) and not Path(words[1]).exists() and not done.stderr


def test_no_descriptors_are_left(tmp_path: Path) -> None:
    def count() -> int:
        gc.collect()
        return len(os.listdir("/proc/self/fd"))

    with zattredis.serve():
        pass  # what is opened once per process
    before = count()
    for process in (False, True):
        with zattredis.serve(process=process) as server:
            server.client().ping()
        assert count() <= before


TELLING = """
import structlog, sys, zattredis
from zattredis.observability.events import get_logger

def tell():
    get_logger(room="x").info("of no weight")
    get_logger(room="x").warning("to be looked at", number=1)

before = structlog.get_config()
with zattredis.serve(log_format="json"):
    tell()
    assert not structlog.is_configured() and structlog.get_config() == before
    def mine(_, method, event):
        if event.get("room") in ("x", None):  # the nodes' threads tell of themselves as well
            print("mine", method, event)
        raise structlog.DropEvent
    structlog.configure(processors=[mine])
    tell()
    with zattredis.serve(log_level="info"):
        tell()
    tell()
structlog.get_logger().info("and the program's own")
"""


def test_a_server_in_a_program_says_little_and_changes_nothing_of_its_log() -> None:
    done = subprocess.run([sys.executable, "-c", TELLING], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    (line,) = [line for line in done.stderr.splitlines() if "looked" in line]
    assert json.loads(line)["level"] == "warning" and "of no weight" not in done.stderr
    mine = done.stdout.splitlines()
    assert [line.split()[1] for line in mine] == ["warning", "info", "warning", "warning", "info"]
    assert "and the program's own" in mine[-1]
