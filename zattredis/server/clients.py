"""The connections of this node: the state of each, and the registry of all."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Protocol

from zattredis.commands.context import ClientProtocol, KillFilter, PauseMode

if TYPE_CHECKING:
    from collections.abc import Callable

    from zattredis.commands.acl_rules import Permissions
    from zattredis.commands.table import CommandSpec

DEFAULT_USER = b"default"


def request_bytes(argv: Sequence[bytes]) -> int:
    """Return how many bytes a command line took on the wire."""
    return sum(len(b"$%d\r\n\r\n" % len(word)) + len(word) for word in argv) + len(b"*%d\r\n" % len(argv))


class Connection(Protocol):
    """What a ClientState needs of its connection."""

    def close(self, reason: str) -> None:
        """Close now, without sending what is still unsent. Closing twice does nothing."""
        ...

    @property
    def busy(self) -> bool:
        """Whether a request of this client is not answered yet."""
        ...

    def buffered(self) -> tuple[int, int]:
        """Return the bytes received and not yet executed, and those of replies not yet sent."""
        ...


class ClientState:
    """Everything a node knows of one connection, apart from its bytes.

    Owned by the connection, changed by it, by the dispatcher and by the client's own LOCAL commands. `queue` holds
    the (spec, argv) that MULTI gathers; `dirty` says that queueing one of them failed, so that EXEC must abort.
    `watched` maps (db, key) to the version seen. `last_write_index` is the log index of the last write it was
    answered, for WAIT. `permissions` are None for a user who may do everything; `checked` says that each command has to
    be looked at for what its client may do, for that or because it has not authenticated. `postponed` says that CLIENT
    PAUSE holds the client back. `running` is the command line being carried out, set only while CLIENT LIST looks at
    it.
    """

    __slots__ = (
        "_unblock", "address", "authenticated", "checked", "close_after_reply", "closed_because", "connection",
        "created_ms", "db", "dirty", "fd", "id", "in_multi", "last_interaction_ms", "last_spec", "last_write_index",
        "library_name", "library_version", "local_address", "monitoring", "mute", "name", "no_evict", "no_touch",
        "permissions",
        "postponed", "queue",
        "queue_bytes", "read_bytes", "readonly", "replies_off", "resp", "running", "tls", "user", "watched",
        "written_bytes",
    )  # fmt: skip

    def __init__(
        self,
        client_id: int,
        connection: Connection,
        now_ms: int,
        *,
        address: str = "",
        local_address: str = "",
        fd: int = -1,
        authenticated: bool = True,
    ) -> None:
        self.id = client_id
        self.connection = connection
        self.address = address
        self.local_address = local_address
        self.fd = fd
        self.created_ms = now_ms
        self.last_interaction_ms = now_ms
        self.last_spec: CommandSpec | None = None
        self.last_write_index = 0
        self.read_bytes = 0
        self.written_bytes = 0
        self.library_name = b""
        self.library_version = b""
        self.tls = False  # set by the connection: addresses of other nodes are told with the port for its kind
        self.close_after_reply = False
        self.closed_because = ""
        self.no_evict = False
        self.no_touch = False
        self.postponed = False
        self.running: list[bytes] = []
        self._unblock: Callable[[bool], None] | None = None
        self.queue: list[tuple[CommandSpec, list[bytes]]] = []
        self.watched: dict[tuple[int, bytes], int] = {}
        self.reset(authenticated)

    def reset(self, authenticated: bool) -> None:
        """Put back what RESET puts back: all but the library's name and CLIENT NO-EVICT and NO-TOUCH."""
        self.admit(DEFAULT_USER, None, authenticated)
        self.name = b""
        self.db = 0
        self.resp = 2
        self.readonly = False
        self.monitoring = False
        self.replies_off = self.mute = False
        self.end_multi()

    def admit(self, user: bytes, permissions: Permissions | None, authenticated: bool) -> None:
        """Let the connection be this user's, with these permissions (None: all there are)."""
        self.user = user
        self.permissions = permissions
        self.authenticated = authenticated
        self.checked = permissions is not None or not authenticated

    # -- transactions --------------------------------------------------------------------------------------------

    def begin_multi(self) -> None:
        """Start queueing."""
        self.in_multi = True

    def enqueue(self, spec: CommandSpec, argv: list[bytes]) -> None:
        """Add a command to the queue of MULTI."""
        self.queue.append((spec, argv))
        self.queue_bytes += sum(map(len, argv))

    def end_multi(self) -> None:
        """Forget the queue and every watched key."""
        self.in_multi = False
        self.dirty = False
        self.queue = []
        self.queue_bytes = 0
        self.watched.clear()

    # -- CLIENT REPLY --------------------------------------------------------------------------------------------

    def reply_off(self) -> None:
        """Send nothing until `reply_on`."""
        self.replies_off = self.mute = True

    def reply_on(self) -> None:
        """Send replies again."""
        self.replies_off = self.mute = False

    def reply_skip(self) -> None:
        """Send no reply to the next command."""
        self.mute = True

    def drops_reply(self, spec: CommandSpec) -> bool:
        """Return whether the command that comes now gets no reply, and forget a SKIP that it uses up.

        The dispatcher calls it while `mute` is set (that is the cheap question), once for each command, in the order
        of arrival, before it executes the command. CLIENT REPLY decides for itself, by returning NO_REPLY; RESET ends
        CLIENT REPLY OFF before it is answered.
        """
        if spec.name == "CLIENT REPLY" or (spec.name == "RESET" and self.replies_off):
            return False
        self.skip_used()
        return True

    def skip_used(self) -> None:
        """The reply that a SKIP was for has come and gone."""
        self.mute = self.replies_off

    # -- blocking ------------------------------------------------------------------------------------------------

    def block(self, unblock: Callable[[bool], None]) -> None:
        """Mark the client as blocked; `unblock(error)` is called at most once to end that."""
        self._unblock = unblock

    def unblocked(self) -> None:
        """The blocking command has ended."""
        self._unblock = None

    @property
    def blocked(self) -> bool:
        """Whether the client waits in a blocking command, or for the end of CLIENT PAUSE."""
        return self._unblock is not None or self.postponed

    def unblock(self, error: bool) -> bool:
        """End the client's blocking command, as if it timed out or with an error; False if it is in none."""
        if self._unblock is None:
            return False
        unblock, self._unblock = self._unblock, None
        unblock(error)
        return True

    # -- the end -------------------------------------------------------------------------------------------------

    def close(self, reason: str) -> None:
        """Close the connection now, without sending what is still unsent."""
        self.closed_because = self.closed_because or reason
        self.connection.close(reason)

    # -- CLIENT LIST ---------------------------------------------------------------------------------------------

    @property
    def type(self) -> str:
        """The client's type as CLIENT LIST TYPE and CLIENT KILL TYPE mean it."""
        return "normal"

    @property
    def flags(self) -> str:
        """The letters of `flags=` in CLIENT LIST; `N` if there is none."""
        letters = (
            ("O", self.monitoring),
            ("x", self.in_multi),
            ("b", self.blocked),
            ("d", self.dirty),
            ("c", self.close_after_reply),
            ("r", self.readonly),
            ("e", self.no_evict),
            ("T", self.no_touch),
        )
        return "".join(letter for letter, on in letters if on) or "N"

    def line(self, now_ms: int) -> str:
        """Return the client's line of CLIENT LIST, without a line end (Redis 7.0's fields, then two of 7.2)."""
        query, output = self.connection.buffered()
        if self.running:
            query += request_bytes(self.running)
        command = self.last_spec.full_name if self.last_spec is not None else "NULL"
        multi = len(self.queue) if self.in_multi else -1
        name, library, version, user = (
            word.decode("utf-8", "surrogateescape")
            for word in (self.name, self.library_name, self.library_version, self.user)
        )
        return (
            f"id={self.id} addr={self.address} laddr={self.local_address} fd={self.fd} name={name}"
            f" age={max(0, now_ms - self.created_ms) // 1000} idle={max(0, now_ms - self.last_interaction_ms) // 1000}"
            f" flags={self.flags} db={self.db} sub=0 psub=0 ssub=0 multi={multi}"
            f" qbuf={query} qbuf-free=0 argv-mem={sum(map(len, self.running))} multi-mem={self.queue_bytes} rbs=0 rbp=0"
            f" obl={output} oll=0 omem={output} tot-mem={query + output + self.queue_bytes} events=r cmd={command}"
            f" user={user} redir=-1 resp={self.resp} lib-name={library} lib-ver={version}"
        )


class ClientRegistry:
    """All connections of a node by id, and the pause that CLIENT PAUSE puts on them."""

    __slots__ = ("_clients", "_next_id", "pause_mode", "pause_until_ms")

    def __init__(self) -> None:
        self._clients: dict[int, ClientState] = {}
        self._next_id = 1
        self.pause_mode = PauseMode.NONE
        self.pause_until_ms = 0

    def next_id(self) -> int:
        """Return an id that no connection of this process had before."""
        client_id = self._next_id
        self._next_id += 1
        return client_id

    def add(self, client: ClientState) -> None:
        """Take in a new connection."""
        self._clients[client.id] = client

    def remove(self, client: ClientState) -> None:
        """Forget a closed connection; an unknown one is no error."""
        self._clients.pop(client.id, None)

    def get(self, client_id: int) -> ClientState | None:
        """Return the client of that id, or None."""
        return self._clients.get(client_id)

    def __len__(self) -> int:
        return len(self._clients)

    def __iter__(self) -> Iterator[ClientState]:
        """Iterate over a copy: a client may be closed on the way."""
        return iter(list(self._clients.values()))

    def blocked_count(self) -> int:
        """Return how many clients wait in a blocking command or for the end of CLIENT PAUSE."""
        return sum(client.blocked for client in self._clients.values())

    def lines(self, now_ms: int, kind: str | None, ids: Sequence[int] | None) -> list[str]:
        """Return the lines of CLIENT LIST: all, those of one type, or those of `ids` that exist, in that order."""
        if ids is not None:
            chosen = [client for client_id in ids if (client := self._clients.get(client_id)) is not None]
        else:
            chosen = [client for client in self if kind is None or client.type == kind]
        return [client.line(now_ms) for client in chosen]

    def matching(self, wanted: KillFilter, asking: ClientProtocol) -> list[ClientProtocol]:
        """Return the clients that `wanted` describes; without `asking` where it says skip_me."""
        return [
            client
            for client in self
            if (wanted.client_id is None or client.id == wanted.client_id)
            and (wanted.type is None or client.type == wanted.type)
            and (wanted.user is None or client.user == wanted.user)
            and (wanted.address is None or client.address.encode() == wanted.address)
            and (wanted.local_address is None or client.local_address.encode() == wanted.local_address)
            and not (wanted.skip_me and client.id == asking.id)
        ]

    # -- CLIENT PAUSE --------------------------------------------------------------------------------------------

    def pause(self, mode: PauseMode, until_ms: int) -> None:
        """Hold clients back; a running pause is only ever widened or lengthened (Redis's rule)."""
        self.pause_mode = max(self.pause_mode, mode)
        self.pause_until_ms = max(self.pause_until_ms, until_ms)

    def unpause(self) -> None:
        """Let all clients go on."""
        self.pause_mode = PauseMode.NONE
        self.pause_until_ms = 0

    def paused(self, now_ms: int) -> PauseMode:
        """Return what is held back now. The dispatcher asks only while `pause_mode` is not NONE."""
        if self.pause_mode is not PauseMode.NONE and now_ms >= self.pause_until_ms:
            self.unpause()
        return self.pause_mode
