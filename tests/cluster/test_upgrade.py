"""Upgrading one node after the other: the build of the previous commit and this one in one cluster, under load."""

from __future__ import annotations

import io
import shutil
import subprocess
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.cluster import REPOSITORY, ZattCluster, wait_until
from tests.support.growing import GrowingCluster
from tests.support.zattctl import zattctl
from zattredis.errors import StateDamaged
from zattredis.keyspace.keys import META_COUNTER
from zattredis.raft.entry import BATCH, make_entry
from zattredis.raft.ready import HardState
from zattredis.server.upgrades import STATE_MACHINE_VERSION
from zattredis.storage.log_store import LogStore


@pytest.fixture(scope="module")
def previous(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package as of the commit before this one."""
    directory = tmp_path_factory.mktemp("previous")
    done = subprocess.run(
        ["git", "archive", "HEAD~1", "zattredis"], cwd=REPOSITORY, capture_output=True, check=False
    )  # fmt: skip
    if done.returncode != 0:
        pytest.skip(f"needs the history of the repository: {done.stderr.decode(errors='replace').strip()}")
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as archive:
        archive.extractall(directory, filter="data")
    return directory


class Appending:
    """A client of one node that appends numbers to a list; whatever is answered is acknowledged."""

    def __init__(self, cluster: ZattCluster, i: int) -> None:
        self._cluster = cluster
        self._i = i
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.key = f"list of {i}"
        self.acknowledged: list[int] = []
        self.tried = 0

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                with self._cluster.client(self._i) as client:
                    while not self._stop.is_set():
                        self.tried += 1
                        client.call("RPUSH", self.key, self.tried)
                        self.acknowledged.append(self.tried)
            except OSError:  # its node is being restarted
                self._stop.wait(0.05)

    def __enter__(self) -> Appending:
        self._thread.start()
        return self

    def __exit__(self, *rest: object) -> None:
        self._stop.set()
        self._thread.join()


def check(cluster: ZattCluster, load: Appending) -> None:
    """Everything acknowledged is there once, in order; an unanswered one at most once."""
    with cluster.client(load._i) as client:
        stored = [int(number) for number in client.call("LRANGE", load.key, 0, -1)]
    assert stored == sorted(set(stored))
    assert not set(load.acknowledged) - set(stored)


def turn(cluster: ZattCluster, i: int, code: Path) -> None:
    """Restart a node with another build, in good order, and wait until it has caught up."""
    cluster.kill(i, 15)
    cluster.nodes[i].environment["PYTHONPATH"] = str(code)
    cluster.restart(i)


def lead(cluster: ZattCluster, i: int) -> None:
    """Have a node lead; on a busy machine an election may come between."""

    def leads() -> bool:
        if cluster.leader() == i:
            return True
        with cluster.client(i) as client:
            client.try_call("RAFT", "TRANSFER", cluster.nodes[i].name)
        return False

    wait_until(leads, f"{cluster.nodes[i].name} leads")


def test_a_rolling_upgrade_under_load_and_back(previous: Path) -> None:
    with ZattCluster(3, environment={"PYTHONPATH": str(previous)}, in_memory=True) as cluster:
        loads = [Appending(cluster, i) for i in range(3)]
        with loads[0] as first, loads[1] as second, loads[2] as third:
            # One after the other, then one of them back to the old build and forth.
            for i, code in ((0, REPOSITORY), (1, REPOSITORY), (2, REPOSITORY), (0, previous), (0, REPOSITORY)):
                before = [len(load.acknowledged) for load in loads]
                turn(cluster, i, code)
                # Old and new ones lead in turn, and all of them take writes.
                lead(cluster, (cluster.wait_leader() + 1) % 3)
                wait_until(
                    lambda before=before: all(  # type: ignore[misc]
                        len(load.acknowledged) > count + 5 for load, count in zip(loads, before, strict=True)
                    ),
                    "every node takes writes",
                )
        for load in (first, second, third):
            check(cluster, load)
        cluster.wait_equal()


def test_a_new_build_joins_an_old_cluster_by_snapshot_and_the_other_way_round(previous: Path) -> None:
    for older, newer in ((previous, REPOSITORY), (REPOSITORY, previous)):
        with GrowingCluster(1, environment={"PYTHONPATH": str(older)}) as cluster:
            with cluster.client() as client:
                for i in range(500):
                    client.call("SET", f"k{i}", "x" * 500)
                client.call("RAFT", "SNAPSHOT")  # nothing is left in the log for whoever joins
            node = cluster.new_node()
            node.environment = {"PYTHONPATH": str(newer)}
            cluster.spawn(node)
            wait_until(lambda: cluster.settled_voters() == ["n1", "n2"], "the other build votes")
            cluster.wait_equal()


LATER = '''

@command("ZATT.LATER", arity=3, flags=Flag.WRITE, keys=KEYS_FIRST, group="string", since="9.0", version=%d)
def later(ctx: Context, key: bytes, value: bytes) -> int:
    """A command that the next build brings."""
    return append(ctx, key, value)
'''


@pytest.fixture(scope="module")
def following(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The build after this one, as it were: one state-machine version more, which brings a writing command."""
    directory = tmp_path_factory.mktemp("following")
    shutil.copytree(REPOSITORY / "zattredis", directory / "zattredis", ignore=shutil.ignore_patterns("__pycache__"))
    with (directory / "zattredis" / "commands" / "strings.py").open("a") as file:
        file.write(LATER % (STATE_MACHINE_VERSION + 1))
    return directory


def test_a_new_version_and_what_it_brings_wait_until_all_nodes_know_it_and_stay(following: Path) -> None:
    with GrowingCluster(3) as cluster:

        def versions() -> set[int]:
            with cluster.client() as client:
                client.call("INCR", "k")
            return {int(cluster.status(i)["state_machine_version"]) for i in range(3)}

        for i in (0, 1):
            turn(cluster, i, following)
            # Also one that knows more leads, and writes what the others understand.
            lead(cluster, i)
            assert versions() == {STATE_MACHINE_VERSION}
            with cluster.client(i) as client:  # what an older node would pass over, a newer one refuses, and says why
                assert "is not known to every node yet" in str(client.try_call("ZATT.LATER", "later", "x"))
                client.call("MULTI")
                client.call("ZATT.LATER", "later", "x")
                client.call("APPEND", "now", "y")
                refused, length = client.call("EXEC")
                assert "is not known to every node yet" in str(refused) and length == i + 1
            with cluster.client(2) as client:
                assert "unknown command" in str(client.try_call("ZATT.LATER", "later", "x"))
            cluster.wait_equal()
        turn(cluster, 1, REPOSITORY)  # there is a way back as yet
        turn(cluster, 1, following)
        turn(cluster, 2, following)
        wait_until(lambda: versions() == {STATE_MACHINE_VERSION + 1}, "the new version is used")
        for i in range(3):
            with cluster.client(i) as client:
                assert client.call("ZATT.LATER", "later", "x") == i + 1
        cluster.wait_equal()
        # The next leader goes on with it from its first entry.
        for i in (0, 1):
            lead(cluster, i)
            with cluster.client(i) as client:
                assert client.call("ZATT.LATER", "later", "x") == i + 4
        # A restart of all does not lower it, and the older build has no way back.
        for i in range(3):
            cluster.kill(i)
        cluster.start()
        assert versions() == {STATE_MACHINE_VERSION + 1}
        cluster.kill(2, 15)
        node = cluster.nodes[2]
        node.environment["PYTHONPATH"] = str(REPOSITORY)
        cluster.spawn(node)
        wait_until(lambda: not node.running, "the older build ends")
        assert "install the newer zattredis on this node" in node.log().splitlines()[-1]
        zattctl("backup", cluster.directory / "b", "-p", cluster.nodes[0].port)
        words = ["--cluster", "n1=h:1", "--dir", cluster.directory / "r"]
        text = zattctl("restore", cluster.directory / "b", *words, code=1)
        assert f"this program knows up to {STATE_MACHINE_VERSION}" in text


# -- what is of an unknown version is refused in one line --------------------------------------------------------------


@pytest.fixture
def stopped(tmp_path: Path) -> Iterator[ZattCluster]:
    with ZattCluster(1, in_memory=True) as cluster:
        with cluster.client() as client:
            client.call("SET", "k", "v")
        cluster.kill(0, 15)
        yield cluster


def last_words(cluster: ZattCluster) -> str:
    """Start the node, which must end with exit code 1, and return its last line."""
    node = cluster.nodes[0]
    cluster.spawn(node)
    wait_until(lambda: not node.running, "the node ends")
    assert node.process is not None and node.process.returncode == 1
    return node.log().splitlines()[-1]


def test_a_data_directory_of_another_format_is_refused(stopped: ZattCluster) -> None:
    (stopped.nodes[0].data_directory / "VERSION").write_text("2\n")
    assert last_words(stopped).endswith("has format version '2'; this program reads version 1")


@pytest.mark.parametrize(
    ("kind", "version", "expected"),
    [(BATCH, 99, "needs state-machine version 99, this build knows"), (77, 1, "is of kind 77, which this build")],
)
def test_an_entry_of_the_log_that_needs_a_newer_build_ends_the_node(
    stopped: ZattCluster, kind: int, version: int, expected: str
) -> None:
    log = LogStore.open(stopped.nodes[0].data_directory / "log")
    term = log.hard_state.term
    entry = make_entry(log.last_index + 1, term, kind, version, 0, b"what a later version writes")
    log.append([entry], HardState(term, None, log.hard_state.commit))
    log.close()
    assert expected in last_words(stopped)


def test_registers_of_another_form_are_refused() -> None:
    from zattredis.keyspace.registers import Registers

    class Store:
        def multi_get(self, keys: list[bytes]) -> list[bytes | None]:
            return [b"of another size" if key == META_COUNTER else None for key in keys]

    with pytest.raises(StateDamaged, match="are of another form"):
        Registers.load(Store())  # type: ignore[arg-type]
