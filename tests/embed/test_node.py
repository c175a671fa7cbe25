"""`Node`: on the caller's own loop."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
import redis.asyncio
import uvloop

import zattredis
from tests.support.cluster import free_port
from zattredis.config import make_settings
from zattredis.errors import ConfigError, FatalError


@pytest.mark.parametrize("factory", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_a_node_on_the_own_loop(tmp_path: Path, factory: object) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        seen: list[dict[str, object]] = []
        loop.set_exception_handler(lambda loop, context: seen.append(context))
        node = zattredis.Node(dir=str(tmp_path / "data"), port=free_port())
        assert not node.running and node.leader is None
        await node.start()
        client = redis.asyncio.Redis.from_url(node.url)
        assert await client.set("a", "1")
        assert node.running and node.leader == "n1" and node.is_leader

        loop.call_soon(lambda: 1 // 0)  # somebody else's mistake, on the same loop
        assert await client.incr("a") == 2
        assert [type(context["exception"]) for context in seen] == [ZeroDivisionError]

        await client.aclose()
        await node.stop()
        await node.stop()
        await node.wait_stopped()
        assert not node.running
        loop.call_soon(lambda: 1 // 0)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert len(seen) == 2  # the handler is back
        with pytest.raises(RuntimeError, match="already"):
            await node.start()

    with asyncio.Runner(loop_factory=factory) as runner:  # type: ignore[arg-type]
        runner.run(main())


def test_a_failure_of_the_nodes_own_code_ends_the_node_and_not_the_program(tmp_path: Path) -> None:
    async def main() -> None:
        node = zattredis.Node(dir=str(tmp_path / "data"), port=free_port(), log_level="error")
        await node.start()
        assert node._node is not None
        node._node.driver = None  # type: ignore[assignment]
        with pytest.raises(FatalError, match="AttributeError"):
            await node.wait_stopped()
        with pytest.raises(FatalError, match="AttributeError"):
            await node.stop()

    asyncio.run(main())


def test_settings(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="heartbeat_ms"):
        zattredis.Node(heartbeat_ms=5000)
    with pytest.raises(TypeError, match="unknown setting"):
        zattredis.Node(prot=5)
    settings = make_settings(dir=str(tmp_path), port=free_port(), requirepass="secret")
    assert zattredis.Node(settings).url == f"redis://:secret@127.0.0.1:{settings.port}/0"
    with pytest.raises(TypeError, match="either"):
        zattredis.Node(settings, port=5)
    with pytest.raises(TypeError, match="extensions is a list"):
        zattredis.Node(extensions="bank")


def test_a_node_that_cannot_start(tmp_path: Path) -> None:
    async def main() -> None:
        port = free_port()
        async with zattredis.Node(dir=str(tmp_path / "one"), port=port):
            other = zattredis.Node(dir=str(tmp_path / "two"), port=port, peer_port=free_port())
            with pytest.raises(FatalError, match="cannot listen"):
                await other.start()

    asyncio.run(main())
