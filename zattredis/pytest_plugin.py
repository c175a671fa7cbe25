"""Fixtures for pytest, there as soon as zattredis is installed; nothing has to be imported.

    def test_a_greeting(zattredis):
        client = zattredis.client()
        client.set("greeting", "hello")
        assert client.get("greeting") == b"hello"

- `zattredis`          a `Server` of one node (`zattredis.serve()`)
- `zattredis_url`      its URL, for code that makes its own clients
- `zattredis_cluster`  a `Server` of three nodes, to be killed, paused and cut off from each other
- `zattredis_options`  arguments for `serve`, {} by default; override it in conftest.py, in the scope of the session:
                       `return {"extensions": ["myapp.commands"]}`

Servers are started when a test first asks for one, and live as long as the session (of each worker of pytest-xdist).
Every test finds them as new: no keys, no clients of earlier tests, the first settings and users; killed nodes run.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from zattredis.cli.resp_client import RespClient
    from zattredis.embed import Server


class _Kept:
    """A server that lives for the session, and how it was when it was new."""

    def __init__(self, **options: Any) -> None:
        self._options = options
        self._server: Server | None = None
        self._settings: list[dict[bytes, bytes]] = []

    def fresh(self) -> Server:
        """Return the server as if it had just been started."""
        if self._server is not None and self._reset(self._server):
            return self._server
        self.close()
        from zattredis.embed import serve

        self._server = server = serve(**self._options).start()
        self._settings = [_settings(server, node) for node in range(len(server))]
        return server

    def close(self) -> None:
        """End it."""
        from zattredis.errors import FatalError

        server, self._server = self._server, None
        if server is not None:
            with contextlib.suppress(FatalError):  # a test may have made it end
                server.close()

    def _reset(self, server: Server) -> bool:
        """Undo what tests did to it; False if it is better to start another one."""
        from zattredis.errors import ZattredisError

        if len(server) == 1 and not server.alive():
            return False
        try:
            if len(server) > 1:
                server.heal()
                for node in range(len(server)):
                    server.resume(node)
                    if not server.alive(node):
                        server.restart(node)
                server.wait_for_leader()
            for node, settings in enumerate(self._settings):
                self._reset_node(server, node, settings)
        except (ZattredisError, TimeoutError):
            return False
        return True

    def _reset_node(self, server: Server, node: int, settings: dict[bytes, bytes]) -> None:
        with _connect(server, node) as client:
            client.call("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
            client.call("CLIENT", "UNPAUSE")
            now = _pairs(client.call("CONFIG", "GET", "*"))
            for name, value in settings.items():
                if now.get(name) != value:
                    client.call("CONFIG", "SET", name, value)
            if node == 0:
                for user in client.call("ACL", "USERS"):
                    if user != b"default":
                        client.call("ACL", "DELUSER", user)
                client.call("FLUSHALL")


def _connect(server: Server, node: int) -> RespClient:
    from zattredis.cli.resp_client import RespClient

    settings = server.settings[node]
    return RespClient(settings.host, settings.port, settings.requirepass, timeout_s=10.0)


def _settings(server: Server, node: int) -> dict[bytes, bytes]:
    with _connect(server, node) as client:
        return _pairs(client.call("CONFIG", "GET", "*"))


def _pairs(flat: Any) -> dict[bytes, bytes]:
    return dict(zip(flat[::2], flat[1::2], strict=True))


@pytest.fixture(scope="session")
def zattredis_options() -> dict[str, Any]:
    """Arguments for `zattredis.serve`; override it in conftest.py."""
    return {}


@pytest.fixture(scope="session")
def _zattredis_kept(zattredis_options: dict[str, Any]) -> Iterator[_Kept]:
    kept = _Kept(**zattredis_options)
    yield kept
    kept.close()


@pytest.fixture(scope="session")
def _zattredis_cluster_kept(zattredis_options: dict[str, Any]) -> Iterator[_Kept]:
    kept = _Kept(**{"nodes": 3, **zattredis_options})
    yield kept
    kept.close()


@pytest.fixture
def zattredis(_zattredis_kept: _Kept) -> Server:
    """A server of one node, without keys."""
    return _zattredis_kept.fresh()


@pytest.fixture
def zattredis_url(zattredis: Server) -> str:
    """The URL of a server of one node, without keys."""
    return zattredis.url


@pytest.fixture
def zattredis_cluster(_zattredis_cluster_kept: _Kept) -> Server:
    """A cluster of three nodes, all running, without keys."""
    return _zattredis_cluster_kept.fresh()
