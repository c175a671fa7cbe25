"""One connection to the Sentinel port: its few commands, and what it is subscribed to.

Commands that mean the same as on the client port (AUTH, HELLO, CLIENT, …) are carried out by the same handlers.
Requests are small, and so are the bounds: a subscriber that leaves too much unread is closed.
"""

from __future__ import annotations

import asyncio
import inspect
import re
from collections import deque
from collections.abc import Callable, Coroutine, Iterable
from typing import TYPE_CHECKING, Any, Final

from zattredis.commands.context import LocalContext, NoReply
from zattredis.commands.glob import compile_glob
from zattredis.commands.table import UnknownCommand, UnknownSubcommand, lookup, resolve
from zattredis.errors import DefiniteError, NoAuth, ReplyError
from zattredis.resp.parser import ProtocolLimits, RequestParser
from zattredis.resp.replies import Push, Verbatim, encode
from zattredis.server.clients import ClientState
from zattredis.server.info import render
from zattredis.server.strangers import PROTECTED, is_local, speaks_http

if TYPE_CHECKING:
    from zattredis.server.sentinel import SentinelPort

ARGS_MAX: Final = 64
BULK_BYTES_MAX: Final = 64 << 10
UNREAD_BYTES_MAX: Final = 1 << 20
CHANNELS_MAX: Final = 1024
"""Channels and patterns of one connection."""

_SHARED: Final = frozenset({b"AUTH", b"HELLO", b"PING", b"QUIT", b"RESET", b"CLIENT"})
"""Commands that the handlers of the client port carry out."""
_CLIENT: Final = frozenset(
    {b"GETNAME", b"HELP", b"ID", b"INFO", b"KILL", b"LIST", b"NO-EVICT", b"NO-TOUCH", b"SETINFO", b"SETNAME"}
)
_BEFORE_AUTH: Final = frozenset({b"AUTH", b"HELLO", b"QUIT", b"RESET"})
_SUBSCRIBED: Final = frozenset(
    {b"SUBSCRIBE", b"PSUBSCRIBE", b"UNSUBSCRIBE", b"PUNSUBSCRIBE", b"PING", b"QUIT", b"RESET"}
)
"""What a RESP2 connection may call while it is subscribed."""
_OWN_LINES: Final = re.compile(rb"redis_mode:\w+|tcp_port:\d+")


def _section(title: str, fields: Iterable[tuple[str, object]]) -> bytes:
    lines = "".join(f"{name}:{value}\r\n" for name, value in fields)
    return f"# {title}\r\n{lines}".encode()


def _limits(authenticated: bool) -> ProtocolLimits:
    return ProtocolLimits(
        args_max=ARGS_MAX, bulk_bytes_max=BULK_BYTES_MAX, query_bytes_max=ARGS_MAX * BULK_BYTES_MAX,
        inline_bytes_max=BULK_BYTES_MAX, authenticated=authenticated,
    )  # fmt: skip


def _roleless(hello: dict[bytes, Any]) -> dict[bytes, Any]:
    """Return HELLO's reply as a Sentinel gives it."""
    return {field: value for field, value in hello.items() if field != b"role"}


async def _roleless_later(hello: Coroutine[Any, Any, dict[bytes, Any]]) -> dict[bytes, Any]:
    return _roleless(await hello)


class SentinelConnection(asyncio.Protocol):
    """See the module. `_waiting` holds requests behind one whose answer takes a while."""

    def __init__(self, port: SentinelPort) -> None:
        self._port = port
        self._channels: dict[bytes, None] = {}
        self._patterns: dict[bytes, Callable[[bytes], bool]] = {}
        self._waiting: deque[list[bytes]] = deque()
        self._task: asyncio.Task[None] | None = None
        self._closed = False
        self._own = {
            b"COMMAND": self._command,
            b"INFO": self._info,
            b"ROLE": self._role,
            b"PUBLISH": self._publish,
            b"SUBSCRIBE": lambda argv: self._subscribe(argv, pattern=False),
            b"PSUBSCRIBE": lambda argv: self._subscribe(argv, pattern=True),
            b"UNSUBSCRIBE": lambda argv: self._unsubscribe(argv, pattern=False),
            b"PUNSUBSCRIBE": lambda argv: self._unsubscribe(argv, pattern=True),
            b"SENTINEL": port.tables[False].run,
        }

    # -- asyncio -----------------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: Any = transport
        port = self._port
        names = [transport.get_extra_info(name) for name in ("peername", "sockname")]
        peer, local = (f"{name[0]}:{name[1]}" if isinstance(name, tuple) else "" for name in names)
        self.state = ClientState(
            port.clients.next_id(), self, port.time_us() // 1000, address=peer, local_address=local
        )
        self.state.tls = transport.get_extra_info("ssl_object") is not None
        self._own[b"SENTINEL"] = port.tables[self.state.tls].run
        port.access.greet(self.state)
        self._local = LocalContext(self.state, port.as_server(), [])
        self._parser = RequestParser(_limits(self.state.authenticated))
        refusal = b""
        if len(port.clients) >= port.node.settings.maxclients:
            refusal = b"-ERR max number of clients reached\r\n"
        elif port.node.dispatcher.protected and not is_local(names[0]):
            refusal = PROTECTED
        if refusal:
            self._send(refusal)
            self._end()
        else:
            port.clients.add(self.state)

    def data_received(self, data: bytes) -> None:
        if self._closed:
            return
        self._waiting.extend(self._parser.feed(data))
        self._go_on()

    def connection_lost(self, exc: Exception | None) -> None:
        self._closed = True
        self._waiting.clear()
        self._port.subscribers.discard(self)
        self._port.clients.remove(self.state)
        if self._task is not None:
            self._task.cancel()

    def _send(self, data: bytes) -> None:
        if self._closed:
            return
        self._transport.write(data)
        if self._transport.get_write_buffer_size() > UNREAD_BYTES_MAX:
            self.close("output buffer limit reached")

    def _end(self) -> None:
        """Close once what was answered is sent."""
        self._closed = True
        self._waiting.clear()
        self._transport.close()

    # -- as ClientState sees it --------------------------------------------------------------------------------------

    def close(self, reason: str) -> None:
        """Close now, without sending what is still unsent."""
        if not self._closed:
            self._closed = True
            self._waiting.clear()
            self._transport.abort()

    def set_limits(self, _limits_of_clients: ProtocolLimits) -> None:
        """The client need not authenticate any more: this port's own bounds for such are in force."""
        self._parser.limits = _limits(True)
        self._go_on()

    @property
    def closed(self) -> bool:
        """Whether the connection has ended."""
        return self._closed

    @property
    def choked(self) -> bool:
        """Whether the client leaves its replies unread: no more than a little, or it is closed."""
        return False

    @property
    def busy(self) -> bool:
        """Whether a request is not answered yet."""
        return self._task is not None or bool(self._waiting)

    def buffered(self) -> tuple[int, int]:
        """Return the bytes received and not yet executed, and those of replies not yet sent."""
        return self._parser.buffered_bytes, self._transport.get_write_buffer_size()

    # -- requests ----------------------------------------------------------------------------------------------------

    def _go_on(self) -> None:
        """Carry out what has arrived, up to a request whose answer takes a while: nothing more is read until then."""
        while self._task is None and not self._closed:
            if not self._waiting and self._parser.resumable:  # what an AUTH has allowed
                self._waiting.extend(self._parser.feed(b""))
            if not self._waiting:
                break
            argv = self._waiting.popleft()
            self.state.last_interaction_ms = self._port.time_us() // 1000
            try:
                value = self._call(argv)
            except ReplyError as error:
                value = error
            if inspect.iscoroutine(value):
                self._transport.pause_reading()
                self._task = asyncio.get_running_loop().create_task(self._wait_for(value))
                self._task.add_done_callback(self._waited)
                return
            self._answer(value)
        if self._task is None and not self._closed and self._parser.error is not None:
            if self._parser.error:
                self._send(b"-ERR " + self._parser.error + b"\r\n")
            self._end()

    def _answer(self, value: Any) -> None:
        if not isinstance(value, NoReply):
            self._send(encode(value, self.state.resp))
        if self.state.authenticated != self._parser.limits.authenticated:
            self._parser.limits = _limits(self.state.authenticated)
        if self.state.close_after_reply and not self._closed:
            self._end()

    async def _wait_for(self, value: Coroutine[Any, Any, Any]) -> None:
        try:
            result = await value
        except ReplyError as error:
            result = error
        self._answer(result)

    def _waited(self, task: asyncio.Task[None]) -> None:
        self._task = None
        if not task.cancelled():
            task.result()
            if not self._closed:
                self._transport.resume_reading()
            self._go_on()

    def _call(self, argv: list[bytes]) -> Any:
        """Carry out a request; return its reply value, or a coroutine for it. Raises ReplyError."""
        name = argv[0].upper()
        own = self._own.get(name)
        if own is None and name not in _SHARED:
            if speaks_http(argv):
                self.close("it sent HTTP")
                return NoReply()
            raise UnknownCommand(argv)
        if not self.state.authenticated and name not in _BEFORE_AUTH:
            raise NoAuth
        if self.state.resp == 2 and self._subscriptions and name not in _SUBSCRIBED:
            shown = argv[0].decode("utf-8", "surrogateescape").lower()
            raise DefiniteError(
                f"Can't execute '{shown}': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in "
                "this context"
            )
        self._check_permissions(name, argv)
        if own is not None:
            return own(argv)
        return self._shared(argv)

    def _check_permissions(self, name: bytes, argv: list[bytes]) -> None:
        """Raise what the user's permissions say: asking needs that of ROLE, FAILOVER that of RAFT TRANSFER."""
        if self.state.permissions is None:
            return
        if name in self._own:
            moves = name == b"SENTINEL" and len(argv) > 1 and argv[1].upper() == b"FAILOVER"
            argv = [b"RAFT", b"TRANSFER"] if moves else [b"ROLE"]
        self._port.access.check(self.state, resolve(argv), argv)

    def _shared(self, argv: list[bytes]) -> Any:
        spec = resolve(argv)
        name = argv[0].upper()
        if name == b"CLIENT" and len(argv) > 1 and argv[1].upper() not in _CLIENT:
            assert spec.parent is not None
            raise UnknownSubcommand(spec.parent, argv[1])
        if name == b"PING" and self.state.resp == 2 and self._subscriptions:
            return [b"pong", argv[1] if len(argv) == 2 else b""]
        local = self._local
        local.argv = argv
        self.state.last_spec = spec
        value = spec.handler(local, *argv[spec.words :])
        if name == b"HELLO":
            return _roleless_later(value) if inspect.iscoroutine(value) else _roleless(value)
        if name == b"RESET":
            self._channels.clear()
            self._patterns.clear()
            self._port.subscribers.discard(self)
        return value

    def _role(self, argv: list[bytes]) -> list[Any]:
        if len(argv) != 1:
            raise DefiniteError("wrong number of arguments for 'role' command")
        return [b"sentinel", [self._port.name]]

    def _info(self, argv: list[bytes]) -> Verbatim:
        asked = {word.lower() for word in argv[1:]} or {b"default"}
        whole = bool(asked & {b"default", b"all", b"everything"})
        port = self._port
        texts = []
        if whole or b"server" in asked:
            of_the_node = render(port.node.services.status, [b"server"])
            own = (b"redis_mode:sentinel", b"tcp_port:%d" % self._listening())
            texts.append(_OWN_LINES.sub(lambda line: own[line[0].startswith(b"tcp")], of_the_node))
        if whole or b"clients" in asked:
            fields = (("connected_clients", len(port.clients)), ("maxclients", port.node.settings.maxclients),
                      ("pubsub_clients", len(port.subscribers)))  # fmt: skip
            texts.append(_section("Clients", fields))
        if whole or b"cpu" in asked:
            texts.append(render(port.node.services.status, [b"cpu"]))
        if whole or b"sentinel" in asked:
            texts.append(_section("Sentinel", port.info_lines(self.state.tls)))
        return Verbatim("txt", b"\r\n".join(texts))

    def _listening(self) -> int:
        settings = self._port.node.settings
        return settings.sentinel_tls_port or settings.sentinel_port if self.state.tls else settings.sentinel_port

    def _command(self, argv: list[bytes]) -> Any:
        """COMMAND: what can be called here, described where the client port has it too."""
        names = sorted(name.lower() for name in self._own.keys() | _SHARED)
        word = argv[1].upper() if len(argv) > 1 else b"INFO"
        if word == b"COUNT" and len(argv) == 2:
            return len(names)
        if word == b"LIST" and len(argv) == 2:
            return names
        if word not in (b"INFO", b"DOCS"):
            raise DefiniteError("of COMMAND's subcommands only COUNT, DOCS, INFO and LIST are known here")
        asked = [name.lower() for name in argv[2:]] or names
        known = [name for name in asked if name in names and lookup(name) is not None]
        return self._shared([b"COMMAND", word, *(known or [b"-"])])

    def _publish(self, argv: list[bytes]) -> object:
        if len(argv) != 3:
            raise DefiniteError("wrong number of arguments for 'publish' command")
        raise DefiniteError("Only HELLO messages are accepted by Sentinel instances.")

    # -- subscriptions -----------------------------------------------------------------------------------------------

    @property
    def _subscriptions(self) -> int:
        return len(self._channels) + len(self._patterns)

    def _subscribe(self, argv: list[bytes], *, pattern: bool) -> NoReply:
        if len(argv) < 2:
            raise DefiniteError(f"wrong number of arguments for '{argv[0].decode().lower()}' command")
        if self._subscriptions + len(argv) - 1 > CHANNELS_MAX:
            raise DefiniteError(f"a connection subscribes to at most {CHANNELS_MAX} channels and patterns here")
        for word in argv[1:]:
            if pattern:
                self._patterns[word] = compile_glob(word)
            else:
                self._channels[word] = None
            self._tell([b"psubscribe" if pattern else b"subscribe", word, self._subscriptions])
        self._port.subscribers.add(self)
        return NoReply()

    def _unsubscribe(self, argv: list[bytes], *, pattern: bool) -> NoReply:
        held: dict[bytes, Any] = self._patterns if pattern else self._channels
        words: list[bytes | None] = [*(argv[1:] or held)] or [None]
        for word in words:
            if word is not None:
                held.pop(word, None)
            self._tell([b"punsubscribe" if pattern else b"unsubscribe", word, self._subscriptions])
        if not self._subscriptions:
            self._port.subscribers.discard(self)
        return NoReply()

    def _tell(self, items: list[Any]) -> None:
        self._send(encode(Push(items), self.state.resp))

    def deliver(self, channel: bytes, message: bytes) -> int:
        """Send a message if this connection listens to the channel; return how many times that is."""
        count = 0
        if channel in self._channels:
            self._tell([b"message", channel, message])
            count += 1
        for pattern, matches in self._patterns.items():
            if matches(channel):
                self._tell([b"pmessage", pattern, channel, message])
                count += 1
        return count
