"""The pytest plugin and the types, as a package outside of this one finds them, in an environment of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from tests.support.cluster import REPOSITORY

CONFTEST = '''
import pytest

@pytest.fixture(scope="session")
def zattredis_options():
    return {"extensions": ["outside_commands"]}
'''

COMMANDS = '''
import zattredis

@zattredis.command("OUTSIDE.ADD", keys=1)
def add(ctx: zattredis.Context, key: bytes, by: int = 1) -> int:
    """Add."""
    return ctx.incr(key, by)
'''

TESTS = '''
import sys

import pytest

@pytest.mark.parametrize("time", range(3))
def test_every_test_finds_it_empty(zattredis, time):
    client = zattredis.client()
    assert client.dbsize() == 0
    assert client.config_get("maxclients")["maxclients"] == "10000"
    assert client.acl_users() == ["default"] and client.execute_command("OUTSIDE.ADD", "a", 5) == 5
    client.mset({"a": 1, "b": 2})
    client.select(3)
    client.set("c", 3)
    client.config_set("maxclients", 50)
    client.acl_setuser("visitor", enabled=True, nopass=True)

def test_a_test_may_shut_it_down(zattredis):
    zattredis.client().shutdown(nosave=True)

def test_the_next_one_gets_another(zattredis_url, zattredis):
    assert zattredis.url == zattredis_url
    assert zattredis.client().ping()

def test_a_test_may_change_the_password(zattredis):
    zattredis.client().config_set("requirepass", "secret")

def test_and_the_next_one_does_not_see_it(zattredis):
    assert zattredis.client().ping()
'''

CLUSTER = '''
def test_a_cluster_loses_its_leader(zattredis_cluster):
    leader = zattredis_cluster.leader
    zattredis_cluster.client(leader).set("a", 1)
    zattredis_cluster.kill(leader)
    assert zattredis_cluster.client((leader + 1) % 3).incr("a") == 2

def test_all_nodes_are_back(zattredis_cluster):
    assert all(zattredis_cluster.alive(node) for node in range(3))
    assert zattredis_cluster.client(1).dbsize() == 0
    zattredis_cluster.partition([0], [1], [2])

def test_it_is_healed(zattredis_cluster):
    assert zattredis_cluster.client(2).set("a", 1)
'''

IDLE = '''
import sys

def test_that_asks_for_nothing():
    assert not {"zattredis.embed", "zattredis.server", "redis", "rocksdict"} & {*sys.modules}
'''


@pytest.fixture(scope="module")
def outside(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """(directory of an outside package, its interpreter): a fresh environment with this package installed into it.

    What it depends on is taken from the environment that runs this test: nothing is downloaded.
    """
    directory = tmp_path_factory.mktemp("outside")
    venv.create(directory / "venv", with_pip=False)
    python = directory / "venv" / "bin" / "python"
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(directory)], cwd=REPOSITORY,
        check=True, capture_output=True,
    )  # fmt: skip
    (wheel,) = directory.glob("zattredis-*.whl")
    where = subprocess.run(
        [str(python), "-c", "import sysconfig; print(sysconfig.get_paths()['purelib'])"],
        capture_output=True, text=True, check=True,
    ).stdout.strip()  # fmt: skip
    subprocess.run([sys.executable, "-m", "zipfile", "-e", str(wheel), where], check=True)
    own = sorted({str(Path(pytest.__file__).parents[1]), *_site_packages()})
    (Path(where) / "dependencies.pth").write_text("\n".join(own) + "\n")
    for name, text in (("conftest.py", CONFTEST), ("outside_commands.py", COMMANDS), ("test_idle.py", IDLE),
                       ("test_one.py", TESTS), ("test_cluster.py", CLUSTER)):  # fmt: skip
        (directory / name).write_text(text)
    return directory, python


def _site_packages() -> list[str]:
    import redis
    import rocksdict

    return [str(Path(str(module.__file__)).parents[1]) for module in (redis, rocksdict)]


def run(outside: tuple[Path, Path], *arguments: str) -> subprocess.CompletedProcess[str]:
    directory, python = outside
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "ZATTREDIS", "PYTEST"))}
    return subprocess.run(
        [str(python), "-m", *arguments], cwd=directory, env=clean, capture_output=True, text=True, check=False,
        timeout=120,
    )  # fmt: skip


def test_the_fixtures_need_no_import_and_isolate_tests(outside: tuple[Path, Path]) -> None:
    done = run(outside, "pytest", "-q", "-p", "no:cacheprovider", "test_idle.py", "test_one.py", "test_cluster.py")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "11 passed" in done.stdout


def test_under_xdist_every_worker_has_its_own(outside: tuple[Path, Path]) -> None:
    done = run(outside, "pytest", "-q", "-p", "no:cacheprovider", "-n", "2", "test_one.py")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "7 passed" in done.stdout


def test_the_fixtures_are_listed_with_what_they_are(outside: tuple[Path, Path]) -> None:
    done = run(outside, "pytest", "-q", "--fixtures", "test_idle.py")
    for name in ("zattredis", "zattredis_url", "zattredis_cluster"):
        assert f"\n{name} -- " in done.stdout


TYPED = '''
import asyncio
from typing import Literal

import zattredis
from zattredis import AsyncDistributedDict, Context, DefiniteError, DistributedDict
from zattredis import OutcomeUnknown, ReplyError, WrongType

d = DistributedDict("127.0.0.1", 5254)
d["key1"] = 0
counts = DistributedDict[str, int](["a:1", "b:2"], name="counts", append_retry_attempts=3)
count: int = counts["a"]
perhaps: int | None = counts.get("a")
either: int | str = counts.pop("a", "none")
counts |= {"a": 1}
with counts.transaction() as t, counts.lock("l") as lock:
    t["a"] += 1
    token: int | None = lock.token


async def twin() -> None:
    async with AsyncDistributedDict[str, int]("h") as a, a.transaction() as t:
        t.set("a", await t["a"] + await t.pop("b", 0) + await a.incr("c"))


@zattredis.command("ACCOUNT.TRANSFER", keys=(1, 2))
def transfer(ctx: Context, source: bytes, target: bytes, amount: int, side: Literal["A", "B"] = "A") -> int:
    balance: bytes | None = ctx.get(source)
    left: int = ctx.get_int(source) - amount
    if left < 0:
        raise ReplyError("insufficient funds")
    ctx.set(source, left, ttl_ms=5)
    names: list[tuple[bytes, float]] = ctx.zrange("z")
    fields: dict[bytes, bytes] = ctx.hgetall("h")
    number: float = ctx.random.random() + ctx.now_ms
    return ctx.incr(target, amount)


with zattredis.serve(nodes=3, extensions=["bank"], maxclients=7) as server:
    leader: int | None = server.leader
    url: str = server.url
    server.kill(server.wait_for_leader())
    server.partition([0], [1, 2])
    server.client().set("a", 1)
    server.dictionary("orders")["a"] = 1


async def main() -> None:
    async with zattredis.serve() as other, zattredis.Node(port=5, extensions=[transfer]) as node:
        await other.async_client().get("a")
        text: str | None = node.leader


moved: int = transfer
'''


def test_mypy_strict_accepts_a_program_and_finds_its_mistake(outside: tuple[Path, Path]) -> None:
    directory, _ = outside
    (directory / "program.py").write_text(TYPED)
    done = run(outside, "mypy", "--strict", "--cache-dir", str(directory / "mypy"), "program.py")
    found = [line for line in done.stdout.splitlines() if line.startswith("program.py")]
    assert len(found) == 1, done.stdout + done.stderr
    assert found[0].startswith(f"program.py:{TYPED.count(chr(10))}: error: Incompatible types in assignment")
