"""Extensions on several nodes: agreed on, refused where the code differs, exchanged, and equal under chaos."""

from __future__ import annotations

import random
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

import zattredis
from tests.support.cluster import wait_until
from zattredis.errors import FatalError

ONE = '''
import zattredis

@zattredis.command("COUNTER.HIT", keys=1)
def hit(ctx: zattredis.Context, key: bytes) -> int:
    """Count."""
    return ctx.incr(key, STEP)

STEP = 1
'''
TWO = ONE.replace("STEP = 1", "STEP = 10")


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The file of a module `counter_extension` that nodes can import."""
    place = tmp_path / "code"
    place.mkdir()
    monkeypatch.syspath_prepend(str(place))
    path = place / "counter_extension.py"
    path.write_text(ONE)
    yield path
    sys.modules.pop("counter_extension", None)


def hit(server: zattredis.Server, node: int = 0) -> Any:
    return server.client(node).execute_command("COUNTER.HIT", "k")


def states(server: zattredis.Server, node: int = 0) -> list[bytes]:
    rows = server.client(node, protocol=2).execute_command("EXTENSION", "LIST")
    return [dict(zip(row[::2], row[1::2], strict=True))[b"state"] for row in rows]


def test_a_cluster_agrees_and_every_node_takes_the_commands(module: Path) -> None:
    with zattredis.serve(nodes=3, extensions=["counter_extension"]) as server:
        assert [hit(server, node) for node in range(3)] == [1, 2, 3]
        assert [states(server, node) for node in range(3)] == [[b"active"]] * 3
        server.kill(1)
        server.restart(1)
        assert hit(server, 1) == 4


def test_a_node_with_other_code_stops_and_says_so(module: Path) -> None:
    with zattredis.serve(nodes=3, extensions=["counter_extension"]) as server:
        assert hit(server) == 1
        server.stop(2)
        module.write_text(TWO)
        with pytest.raises(FatalError, match=r"the cluster runs the extension counter_extension with code \w{12}, and "
                           r"this node has other code \(\w{12}\): install that code here and start the node again"):
            server.restart(2)
        assert hit(server) == 2
        module.write_text(ONE)
        server.restart(2)
        assert hit(server, 2) == 3


def test_a_node_that_lags_and_has_other_code_stops_at_the_entry(module: Path) -> None:
    """It starts while nothing is agreed on, and learns from the log what is."""
    with zattredis.serve(nodes=3, extensions=["counter_extension"]) as server:
        server.stop(2)
        assert hit(server) == 1
        server.client().execute_command("EXTENSION", "RETIRE", "counter_extension")
        server.restart(2)
        wait_until(lambda: states(server, 2) == [b"retired"], "node 2 has heard of it")
        server.stop(2)
        module.write_text(TWO)
        server.restart(2)
        server.client().execute_command("EXTENSION", "RESUME", "counter_extension")
        wait_until(lambda: not server.alive(2), "node 2 has stopped")
        assert "the cluster runs the extension counter_extension" in server.log(2)
        assert hit(server) == 2


def test_code_is_exchanged_node_by_node(module: Path) -> None:
    with zattredis.serve(nodes=3, extensions=["counter_extension"]) as server:
        assert hit(server) == 1
        assert server.client().execute_command("EXTENSION", "RETIRE", "counter_extension") in (b"OK", "OK")
        with pytest.raises(redis.ResponseError, match="retired until all nodes have its next version"):
            hit(server)
        module.write_text(TWO)
        for node in range(3):
            wait_until(lambda node=node: states(server, node) == [b"retired"], "it has heard")
            server.client().set("still", "writable")
            server.restart(node)
        wait_until(lambda: all(states(server, node) == [b"active"] for node in range(3)), "the new code is active")
        assert [hit(server, node) for node in range(3)] == [11, 21, 31]
        with pytest.raises(redis.ResponseError, match="is not retired"):
            server.client().execute_command("EXTENSION", "RESUME", "counter_extension")
        with pytest.raises(redis.ResponseError, match="has no extension nope"):
            server.client().execute_command("EXTENSION", "RETIRE", "nope")


def test_a_cluster_of_one_takes_other_code_by_a_restart(module: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    with zattredis.serve(data, process=True, extensions=["counter_extension"]) as server:
        assert hit(server) == 1
    module.write_text(TWO)
    with zattredis.serve(data, process=True, extensions=["counter_extension"]) as server:
        assert hit(server) == 11
    with pytest.raises(FatalError, match="this node does not have it"):
        zattredis.serve(data, process=True).start()


def test_a_part_of_an_extension_counts(module: Path) -> None:
    (module.parent / "counter_part.py").write_text("STEP = 1\n")
    module.write_text(ONE.replace("STEP = 1", "from counter_part import STEP"))
    with zattredis.serve(nodes=3, extensions=["counter_extension"]) as server:
        assert hit(server) == 1
        server.stop(2)
        (module.parent / "counter_part.py").write_text("STEP = 2\n")
        with pytest.raises(FatalError, match="other code"):
            server.restart(2)


ACCOUNTS, FUNDS = 8, 100


def test_a_bank_keeps_its_sum_under_chaos() -> None:
    """Transfers from three threads while nodes are killed, cut off and paused; errors may come, divergence may not."""
    rng = random.Random(7)
    names = [f"account:{number}" for number in range(ACCOUNTS)]
    with zattredis.serve(nodes=3, extensions=["tests.extensions.bank"], request_timeout_ms=1000) as server:
        server.client().mset(dict.fromkeys(names, FUNDS))
        done = threading.Event()
        moved = [0, 0, 0]

        def clerk(number: int) -> None:
            own = random.Random(number)
            client = redis.Redis.from_url(server.urls[number], socket_timeout=2, retry=None)
            while not done.is_set():
                source, target = own.sample(names, 2)
                try:
                    client.execute_command("ACCOUNT.TRANSFER", source, target, own.randrange(1, 40))
                    moved[number] += 1
                except redis.RedisError:
                    done.wait(0.005)
            client.close()

        clerks = [threading.Thread(target=clerk, args=(number,)) for number in range(3)]
        for thread in clerks:
            thread.start()
        try:
            for _ in range(4):
                victim = rng.randrange(3)
                before = sum(moved)
                match rng.randrange(3):
                    case 0:
                        server.kill(victim)
                        wait_until(lambda before=before: sum(moved) > before + 20, "the others go on")
                        server.restart(victim)
                    case 1:
                        server.partition([victim])
                        wait_until(lambda before=before: sum(moved) > before + 20, "the others go on")
                        server.heal()
                    case _:
                        server.pause(victim)
                        wait_until(lambda before=before: sum(moved) > before + 20, "the others go on")
                        server.resume(victim)
                server.wait_for_leader()
        finally:
            done.set()
            for thread in clerks:
                thread.join()
        for node in range(3):
            client = server.client(node)
            assert client.execute_command("ACCOUNT.SUM", *names) == ACCOUNTS * FUNDS
        balances = [server.client(node).mget(names) for node in range(3)]
        assert balances[0] == balances[1] == balances[2]
        assert min(int(balance) for balance in balances[0]) >= 0
        assert sum(moved) > 80
