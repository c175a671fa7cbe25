"""`serve`: a server, or a cluster, that belongs to a `with` statement, with the failures that tests want to see."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
import time
import weakref
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final

from zattredis.cli.ports import HOST, ClaimedPort, claim_port
from zattredis.config import Settings
from zattredis.embed.instance import Instance
from zattredis.embed.options import ExtensionSource, refuse_chosen, settings_for, split_extensions
from zattredis.embed.process import Nursery, ProcessInstance
from zattredis.embed.scratch import Scratch
from zattredis.embed.url import url_of
from zattredis.errors import FatalError

if TYPE_CHECKING:
    import redis
    import redis.asyncio

    from zattredis.client import DistributedDict

_POLL_S: Final = 0.005
_STOP_S: Final = 20.0
_CLUSTER_DEFAULTS: Final = {"election_timeout_ms": 300, "heartbeat_ms": 50, "tick_ms": 10, "log_level": "info"}
"""A cluster on one machine finds its leader, and the next one, sooner than one that spans a network should."""


def serve(
    dir: str | os.PathLike[str] | None = None,
    *,
    nodes: int = 1,
    process: bool | None = None,
    extensions: Iterable[ExtensionSource] = (),
    timeout_s: float = 30.0,
    **settings: Any,
) -> Server:
    """Return a `Server` that is started by `with`, `async with` or `start`: one real node, or a cluster of `nodes`.

    >>> import zattredis
    >>> with zattredis.serve() as server:
    ...     client = server.client()
    ...     client.set("greeting", "hello"), client.get("greeting")
    (True, b'hello')

    The data lies in `dir`, to be found there again, or in a temporary directory that goes with the server. Ports are
    free ones, unless `port` says which. One node runs in a thread of this process, or with `process` in one of its own;
    the nodes of a cluster always are processes. `extensions` are modules with commands, their names, or (where the node
    runs in a thread) single commands; see `zattredis.command`. Everything else are settings of the node, or of all
    nodes, by their usual names. `timeout_s` bounds the start.

    Raises ConfigError for a setting that is wrong, TypeError for a name that is none.
    """
    return Server(dir, nodes=nodes, process=process, extensions=extensions, timeout_s=timeout_s, **settings)


class Server:
    """One node or several, numbered from 0, that live as long as a `with` statement; made by `serve`.

    >>> import zattredis
    >>> with zattredis.serve(nodes=3) as server:
    ...     leader = server.leader
    ...     server.kill(leader)
    ...     follower = server.client((leader + 1) % 3)
    ...     follower.set("still", "there")
    ...     server.restart(leader)
    ...     server.client(leader).get("still")
    True
    b'there'
    """

    def __init__(
        self,
        dir: str | os.PathLike[str] | None = None,
        *,
        nodes: int = 1,
        process: bool | None = None,
        extensions: Iterable[ExtensionSource] = (),
        timeout_s: float = 30.0,
        **settings: Any,
    ) -> None:
        if nodes < 1:
            raise ValueError(f"nodes must be at least 1, not {nodes}")
        if nodes > 1 and process is False:
            raise ValueError("the nodes of a cluster are processes; leave process out")
        modules, self._functions = split_extensions(extensions)
        self._count = nodes
        self._processes = bool(process) or nodes > 1
        if self._processes and self._functions:
            names = ", ".join(getattr(function, "__name__", "?") for function in self._functions)
            raise TypeError(f"nodes that are processes import their commands: name the module that has {names}")
        if nodes > 1:
            refuse_chosen(settings, nodes)
            settings = {**_CLUSTER_DEFAULTS, **settings}
        self._values = {**settings, "extensions": modules} if modules else settings
        self._given = None if dir is None else Path(dir)
        self._timeout_s = timeout_s
        self._claims: list[ClaimedPort] = []
        self._directory: Path | None = None
        self._scratch: Scratch | None = None
        self._nursery: Nursery | None = None
        self._instances: list[Instance] = []
        self._clients: list[Callable[[], None]] = []
        self._groups: tuple[frozenset[int], ...] = ()
        self._settings: list[Settings] = []
        settings_for({**self._values, **({} if nodes > 1 else {"dir": "unused"})})  # complain before anything is made

    # -- start and end -----------------------------------------------------------------------------------------------

    def start(self) -> Server:
        """Start every node, and return once clients are served: a cluster has its leader. Raises FatalError.

        When that fails everything is closed again.
        """
        if self._instances:
            raise RuntimeError("the server was started already")
        deadline = time.monotonic() + self._timeout_s
        _close_at_exit(self)
        try:
            self._make_instances()
            for instance in self._instances:
                instance.begin()
            for instance in self._instances:
                instance.wait_started(deadline)
            if not {"cluster", "join"} & self._values.keys():  # a member of some other cluster: that has its own leader
                self._wait_leader(deadline)
            if self._count > 1 or self._functions or "extensions" in self._values:
                self._wait_ready(deadline)
        except BaseException:
            with contextlib.suppress(FatalError):
                self.close()
            raise
        return self

    def close(self) -> None:
        """End every node, and remove what was made for them. Harmless when repeated.

        Raises FatalError if the node in a thread had to end by itself, and why; all is closed all the same.
        """
        _running.discard(self)
        for close in self._clients:
            with contextlib.suppress(Exception):
                close()
        self._clients.clear()
        error: FatalError | None = None
        try:
            for instance in self._instances:
                instance.resume()
                if self._count > 1:
                    instance.kill()  # nothing is lost by it, and nobody waits for hand-overs
                else:
                    instance.stop(_STOP_S)
                failed = getattr(instance, "error", None)
                error = failed if isinstance(failed, FatalError) else error
        finally:
            self._instances.clear()
            if self._nursery is not None:
                self._nursery.close()
                self._nursery = None
            for claim in self._claims:
                claim.release()
            self._claims.clear()
            if self._scratch is not None:
                self._scratch.remove()
            self._scratch = self._directory = None
        if error is not None:
            raise error

    def __enter__(self) -> Server:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.close()
        except FatalError:
            if error is None:
                raise

    async def __aenter__(self) -> Server:
        starting = asyncio.ensure_future(asyncio.to_thread(self.start))
        try:
            return await asyncio.shield(starting)
        except asyncio.CancelledError:
            with contextlib.suppress(Exception):  # it has closed everything again then
                await starting
            await asyncio.to_thread(self.__exit__, None, asyncio.CancelledError(), None)
            raise

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await asyncio.to_thread(self.__exit__, kind, error, trace)

    def _make_instances(self) -> None:
        if self._given is not None:
            self._given.mkdir(parents=True, exist_ok=True)
            self._directory = self._given.resolve()
        else:
            self._scratch = Scratch()
            self._directory = self._scratch.path
        if self._count == 1:
            self._make_one(self._directory)
            return
        self._nursery = Nursery()
        ports = self._remembered_ports()
        members = [f"n{number}={HOST}:{port}" for number, port in enumerate(ports, 1)]
        for number in range(1, self._count + 1):
            values = {
                **self._values, "node_id": f"n{number}", "cluster": ",".join(members),
                "dir": str(self._directory / f"n{number}"),
            }  # fmt: skip
            self._settings.append(settings_for(values))
            self._instances.append(ProcessInstance(self._nursery, values, self._directory / f"n{number}.log"))

    def _make_one(self, directory: Path) -> None:
        values = {**self._values, "dir": str(directory / "data" if self._given is None else directory)}
        if "port" not in values and "cluster" not in values:
            self._claims.append(claim := claim_port())
            values["port"] = claim.port
        settings = settings_for(values)
        self._settings = [settings]
        if self._processes:
            self._nursery = Nursery()
            log = directory / "node.log" if self._given is None else directory.with_name(directory.name + ".log")
            self._instances = [ProcessInstance(self._nursery, {"log_level": "info", **values}, log)]
        else:
            from zattredis.embed.thread import ThreadInstance

            self._instances = [ThreadInstance(settings, self._functions)]

    def _remembered_ports(self) -> list[int]:
        """Return the ports of a cluster: those of the last time in its directory, for members keep their addresses."""
        assert self._directory is not None
        remembered = self._directory / "ports"
        if remembered.exists():
            ports = [int(word) for word in remembered.read_text().split()]
            if len(ports) != self._count:
                raise FatalError(f"{self._directory} holds a cluster of {len(ports)}, not of {self._count}")
            return ports
        self._claims = [claim_port() for _ in range(self._count)]
        ports = [claim.port for claim in self._claims]
        if self._given is not None:
            remembered.write_text(" ".join(map(str, ports)) + "\n")
        return ports

    def _wait_ready(self, deadline: float) -> None:
        for number, instance in enumerate(self._instances):
            while (standing := instance.standing()) is None or not standing.ready:
                if not instance.alive:
                    raise FatalError(f"node {number} has ended: {self._last_words(number)}")
                if time.monotonic() > deadline:
                    raise FatalError(f"node {number} is not ready in time: {self._last_words(number)}")
                time.sleep(_POLL_S)

    def _last_words(self, node: int) -> str:
        error = getattr(self._instance(node), "error", None)
        return str(error) if error is not None else "".join(self.log(node).strip().splitlines()[-1:])

    # -- where it is -------------------------------------------------------------------------------------------------

    def __len__(self) -> int:
        """Return how many nodes there are."""
        return self._count

    @property
    def settings(self) -> list[Settings]:
        """The settings of each node, once started."""
        return list(self._settings)

    @property
    def directory(self) -> Path:
        """Where the data of all nodes lies while the server runs."""
        if self._directory is None:
            raise RuntimeError("the server is not running")
        return self._directory

    @property
    def host(self) -> str:
        """The address of all nodes."""
        return self._settings_of(0).host

    @property
    def port(self) -> int:
        """The client port of the first node."""
        return self._settings_of(0).port

    @property
    def ports(self) -> list[int]:
        """The client port of each node."""
        return [self._settings_of(node).port for node in range(self._count)]

    @property
    def url(self) -> str:
        """A URL of the first node for Redis clients, with the password if there is one."""
        return url_of(self._settings_of(0))

    @property
    def urls(self) -> list[str]:
        """Such a URL of each node."""
        return [url_of(self._settings_of(node)) for node in range(self._count)]

    def client(self, node: int | None = None, **options: Any) -> redis.Redis:
        """Return a redis-py client of one node, by default the first that lives, closed with the server.

        `options` are redis-py's. Raises ImportError, which says what to install, where redis-py is missing.
        """
        client: redis.Redis = _redis().Redis.from_url(url_of(self._settings_of(self._living(node))), **options)
        self._clients.append(client.close)
        return client

    def async_client(self, node: int | None = None, **options: Any) -> redis.asyncio.Redis:
        """Return an asyncio client of redis-py likewise; closing it (`aclose`) is up to whoever has its loop."""
        url = url_of(self._settings_of(self._living(node)))
        client: redis.asyncio.Redis = _redis().asyncio.Redis.from_url(url, **options)
        return client

    def _living(self, node: int | None) -> int:
        if node is not None:
            return node
        return next((number for number, instance in enumerate(self._instances) if instance.alive), 0)

    def dictionary(self, name: str = "zatt", **options: Any) -> DistributedDict[Any, Any]:
        """Return a `DistributedDict` over all nodes, closed with the server; `options` are its own."""
        from zattredis import DistributedDict

        found: DistributedDict[Any, Any] = DistributedDict(self.urls, name=name, **options)
        self._clients.append(found.close)
        return found

    def log(self, node: int = 0) -> str:
        """Return what a node that is a process has logged."""
        log: Path | None = getattr(self._instance(node), "log", None)
        return log.read_text(errors="replace") if log is not None and log.exists() else ""

    # -- who leads ---------------------------------------------------------------------------------------------------

    @property
    def leader(self) -> int | None:
        """The number of the node that leads, None while none does.

        A leader that was cut off and does not know yet that it was replaced does not count.
        """
        claims = []
        for number, instance in enumerate(self._instances):
            standing = instance.standing()
            if standing is not None and standing.leader_id == self._settings[number].node_id:
                claims.append((standing.term, number))
        return max(claims)[1] if claims else None

    def wait_for_leader(self, timeout_s: float = 30.0) -> int:
        """Return the number of the node that leads once the nodes that can hear each other agree on one.

        Raises TimeoutError.
        """
        try:
            return self._wait_leader(time.monotonic() + timeout_s)
        except FatalError as error:
            raise TimeoutError(str(error)) from None

    def _wait_leader(self, deadline: float) -> int:
        while True:
            standings = [instance.standing() for instance in self._instances]
            living = [(number, standing) for number, standing in enumerate(standings) if standing is not None]
            if living:
                number, newest = max(living, key=lambda one: (one[1].term, one[1].leader_id is not None))
                ids = [settings.node_id for settings in self._settings]
                if newest.leader_id in ids:
                    leader = ids.index(newest.leader_id)
                    followers = [
                        one for one, standing in living
                        if standing.leader_id == newest.leader_id and self._hear(one, leader)
                    ]  # fmt: skip
                    if leader in followers and 2 * len(followers) > self._count:
                        return leader
            for number, instance in enumerate(self._instances):
                if not instance.alive and self._count <= 2:
                    raise FatalError(f"node {number} has ended: {self._last_words(number)}")
            if time.monotonic() > deadline:
                raise FatalError("no leader in time")
            time.sleep(_POLL_S)

    # -- failures ----------------------------------------------------------------------------------------------------

    def alive(self, node: int = 0) -> bool:
        """Return whether a node runs; a paused one does."""
        return self._instance(node).alive

    def pid(self, node: int = 0) -> int | None:
        """Return the process id of a node; None if it has ended, or runs in a thread."""
        return self._instance(node).pid

    def kill(self, node: int = 0) -> None:
        """SIGKILL a node's process; its data stays. Raises RuntimeError for a node in a thread."""
        self._instance(node).kill()

    def stop(self, node: int = 0) -> None:
        """End a node in good order: it hands the leadership over and answers what it has accepted."""
        self._instance(node).stop(_STOP_S)

    def restart(self, node: int = 0) -> None:
        """Start a node that has ended; one that runs is stopped in good order first. Returns once it listens."""
        instance = self._instance(node)
        if instance.alive:
            instance.stop(_STOP_S)
        instance.begin()
        instance.wait_started(time.monotonic() + self._timeout_s)
        self._cut(node)

    def pause(self, node: int = 0) -> None:
        """SIGSTOP a node's process: it lives, and neither hears nor says anything. Raises RuntimeError in a thread."""
        self._instance(node).pause()

    def resume(self, node: int = 0) -> None:
        """Let a paused node go on."""
        instance = self._instance(node)
        instance.resume()
        self._cut(node)

    def partition(self, *groups: Collection[int]) -> None:
        """Let only nodes of the same group hear each other; nodes that no group names are a group of their own.

        >>> import zattredis
        >>> with zattredis.serve(nodes=3) as server:
        ...     server.partition([0], [1, 2])
        ...     server.wait_for_leader() in (1, 2)
        ...     server.heal()
        True

        It holds between the nodes, until the next one or `heal`; clients reach every node as before. What was under way
        between nodes is held up, and arrives when the partition heals, if the connection still stands.
        """
        named = [frozenset(group) for group in groups]
        known = set(range(self._count))
        if any(not group <= known for group in named) or sum(map(len, named)) > len(frozenset().union(*named)):
            raise ValueError(f"a partition puts each of the nodes 0 to {self._count - 1} into one group at most")
        rest = frozenset(known.difference(*named))
        self._groups = tuple(group for group in (*named, rest) if group)
        for node in range(self._count):
            self._cut(node)

    def heal(self) -> None:
        """End the partition."""
        self.partition()

    def _hear(self, one: int, other: int) -> bool:
        return not self._groups or any(one in group and other in group for group in self._groups)

    def _cut(self, node: int) -> None:
        own = next((group for group in self._groups if node in group), None)
        if own is not None:
            away = [self._settings[other].node_id for other in range(self._count) if other not in own]
            self._instances[node].cut_off(away)

    # -- below -------------------------------------------------------------------------------------------------------

    def _settings_of(self, node: int) -> Settings:
        self._instance(node)
        return self._settings[node]

    def _instance(self, node: int) -> Instance:
        if not self._instances:
            raise RuntimeError("the server is not running: use it inside `with`, or call start()")
        if not 0 <= node < self._count:
            raise IndexError(f"there is no node {node}; they are 0 to {self._count - 1}")
        return self._instances[node]


_running: Final[weakref.WeakSet[Server]] = weakref.WeakSet()
_hooked = False


def _close_at_exit(server: Server) -> None:
    """Have a server that nobody closes closed when the interpreter ends."""
    global _hooked
    _running.add(server)
    if not _hooked:
        _hooked = True
        import concurrent.futures.thread  # noqa: F401  (its own hook comes first, and so is called after this one)

        # `atexit` is too late: by then no thread can be started or asked any more, and a node could not flush its data.
        threading._register_atexit(_close_all)  # type: ignore[attr-defined]


def _close_all() -> None:
    for server in [*_running]:
        with contextlib.suppress(FatalError):
            server.close()


def _redis() -> Any:
    try:
        import redis
        import redis.asyncio
    except ImportError as error:
        if error.name is None or error.name.partition(".")[0] != "redis":
            raise
        raise ImportError("a client needs redis-py: pip install 'zattredis[client]'", name="redis") from error
    return redis
