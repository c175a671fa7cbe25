"""A node on the caller's own event loop."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Any

from zattredis.config import Settings
from zattredis.embed.options import ExtensionSource, settings_for, split_extensions
from zattredis.embed.url import url_of
from zattredis.observability.events import embed_events

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from zattredis.server.node import Node as ServerNode


class Node:
    """One node in this process, on the running event loop, for programs that embed a server for good.

    Settings are keyword arguments, named as everywhere, or a `Settings` of `zattredis.config.load_settings`; defaults
    are those of `zattd`, but that only warnings are logged. `extensions` are modules with commands, their names, or
    single commands (`zattredis.command`). Raises ConfigError, or TypeError for a name that is no setting.

    >>> import asyncio, zattredis
    >>> from zattredis.cli.ports import claim_port
    >>> async def main() -> tuple[bool, str]:
    ...     async with zattredis.Node(dir="data", port=claim_port().port) as node:
    ...         return node.running, node.url
    >>> asyncio.run(main())
    (True, 'redis://127.0.0.1:.../0')

    Whoever embeds a node decides about its loop: uvloop makes it about twice as fast, and whatever else runs on the
    loop for long holds up commands, and beyond the election timeout costs the leadership. An exception in the node's
    own code ends the node, and never the program: `wait_stopped` raises it. Events of its log go where structlog has
    been configured to send them, otherwise to standard error.
    """

    def __init__(
        self, settings: Settings | None = None, *, extensions: Iterable[ExtensionSource] = (), **values: Any
    ) -> None:
        modules, functions = split_extensions(extensions)
        if settings is not None and (values or modules):
            raise TypeError("give either a Settings or settings as keyword arguments")
        if modules:
            values["extensions"] = modules
        self.settings = settings if settings is not None else settings_for(values)
        self._functions = functions
        self._node: ServerNode | None = None
        self._quiet: Callable[[], None] = lambda: None

    async def start(self) -> None:
        """Open the data directory and listen; return once clients can connect. Raises FatalError."""
        from zattredis.server.node import Node as ServerNode

        if self._node is not None:
            raise RuntimeError("the node was started already; make another one to start again")
        quiet = embed_events(self.settings.log_format, self.settings.log_level)
        self._node = node = ServerNode(self.settings, owns_loop=False, functions=self._functions)
        try:
            await node.start()
        except BaseException:
            node.release_loop()
            quiet()
            raise
        self._quiet = quiet

    async def stop(self) -> None:
        """Hand the leadership over, answer what was accepted, close everything. Harmless when repeated.

        Raises FatalError if the node had to end by itself before.
        """
        if self._node is None:
            return
        await self._node.stop()
        self._node.release_loop()
        await self.wait_stopped()

    async def wait_stopped(self) -> None:
        """Return once the node has stopped, by `stop` or a client's SHUTDOWN. Raises FatalError if it had to end."""
        if self._node is None:
            raise RuntimeError("the node was not started")
        try:
            await self._node.wait_stopped()
        finally:
            self._quiet()

    async def __aenter__(self) -> Node:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    @property
    def running(self) -> bool:
        """Whether clients are served."""
        return self._node is not None and self._node.is_open

    @property
    def node_id(self) -> str:
        """This node's id in its cluster."""
        return self.settings.node_id

    @property
    def leader(self) -> str | None:
        """The id of the node that leads, as far as this one knows."""
        return None if self._node is None else self._node.leader[0]

    @property
    def is_leader(self) -> bool:
        """Whether this node leads."""
        return self.leader == self.node_id

    @property
    def port(self) -> int:
        """The client port."""
        return self.settings.port

    @property
    def url(self) -> str:
        """A URL for Redis clients, with the password if there is one."""
        return url_of(self.settings)
