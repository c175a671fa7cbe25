"""What a handler is given: `Context` for handlers of the keyspace, `LocalContext` for those of connection and server.

The Protocols below name everything that LOCAL handlers need of the node. The room `server` implements them; nothing
here knows how. Times are always asked of the server: handlers read no clock.
"""

from __future__ import annotations

import enum
from collections.abc import Generator, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, Protocol

from zattredis.keyspace.random import SeededRandom
from zattredis.resp.replies import Pairs, ReplySet

if TYPE_CHECKING:
    from zattredis.commands.acl_rules import Permissions
    from zattredis.commands.table import CommandSpec
    from zattredis.keyspace.users import User
    from zattredis.keyspace.view import View

REDIS_VERSION: Final = "7.0.15"
"""The Redis whose commands, options and errors are spoken here; clients decide by it what they may send."""


class Context:
    """For READ and WRITE handlers: the view, the database, the cluster's time in ms, and the seed of this command.

    Pure: the same (view, argv, now_ms, seed, version, session) gives the same effects and the same reply on every node.
    `session` is that of the node whose client may have to wait; 0 where nobody can: inside EXEC and scripts.
    """

    __slots__ = ("_random", "db", "now_ms", "ordinal", "seed", "session", "version", "view")

    def __init__(
        self, view: View, db: int, now_ms: int, *, seed: int = 0, ordinal: int = 0, version: int = 1, session: int = 0
    ) -> None:
        self.view = view
        self.db = db
        self.now_ms = now_ms
        self.seed = seed
        self.ordinal = ordinal
        self.version = version
        self.session = session
        self._random: SeededRandom | None = None

    @property
    def random(self) -> SeededRandom:
        """The command's own randomness, the same on every node; made when first asked for."""
        if self._random is None:
            self._random = SeededRandom(self.seed, self.ordinal)
        return self._random


class Stream:
    """What a sliced read yields first when it sends its reply piece by piece: `count` elements (of a dict: pairs).

    `kind` is list, dict, Pairs or ReplySet. Then it yields lists of elements (for a dict key, value, key, value, …; for
    Pairs tuples of two), `count` in all, with None wherever others may have their turn.
    """

    __slots__ = ("count", "kind")

    def __init__(
        self, kind: type[list[Any]] | type[dict[Any, Any]] | type[Pairs] | type[ReplySet], count: int
    ) -> None:
        self.kind = kind
        self.count = count


Steps = Generator["Stream | list[Any] | None", None, Any]
"""A sliced read: yields None after some work; returns the reply, or yields it as a Stream."""


def drain(steps: Steps) -> Any:
    """Run a sliced read to its end at once; return its reply. Where it must be whole: in EXEC, in scripts, in tests."""
    stream: Stream | None = None
    elements: list[Any] = []
    try:
        while True:
            piece = next(steps)
            if isinstance(piece, Stream):
                stream = piece
            elif piece is not None:
                elements += piece
    except StopIteration as end:
        if stream is None:
            return end.value
    if stream.kind is dict:
        return dict(zip(elements[::2], elements[1::2], strict=True))
    if stream.kind is Pairs:
        return Pairs(elements)
    return elements if stream.kind is list else ReplySet(elements)


class NoReply:
    """A LOCAL handler that returns `NO_REPLY` is answered with nothing at all (CLIENT REPLY OFF)."""

    __slots__ = ()


NO_REPLY: Final = NoReply()


class PauseMode(enum.IntEnum):
    """What CLIENT PAUSE holds back; the larger holds back more."""

    NONE = 0
    WRITE = 1
    ALL = 2


class ClientProtocol(Protocol):
    """One connection, as its own commands see and change it."""

    id: int
    name: bytes
    db: int
    resp: int
    authenticated: bool
    user: bytes
    library_name: bytes
    library_version: bytes
    no_evict: bool
    no_touch: bool
    tls: bool  # it came over TLS
    readonly: bool  # READONLY: stale reads, answered from this node's own data
    in_multi: bool
    close_after_reply: bool
    running: list[bytes]  # the command line being carried out, shown in `line` while it is set
    mute: bool  # CLIENT REPLY: the next reply is not sent
    watched: dict[tuple[int, bytes], int]

    def line(self, now_ms: int) -> str:
        """Return the client's line of CLIENT LIST, without a line end."""
        ...

    def begin_multi(self) -> None:
        """Start queueing."""
        ...

    def end_multi(self) -> None:
        """Forget the queue and every watched key."""
        ...

    def reply_off(self) -> None:
        """CLIENT REPLY OFF: send nothing until `reply_on`."""
        ...

    def reply_on(self) -> None:
        """CLIENT REPLY ON."""
        ...

    def reply_skip(self) -> None:
        """CLIENT REPLY SKIP: send no reply to the next command (nothing changes while replies are off)."""
        ...

    def skip_used(self) -> None:
        """The reply that a SKIP was for has come and gone."""
        ...

    def reset(self, authenticated: bool) -> None:
        """RESET: put everything the client may have changed back to how a new connection starts."""
        ...

    def unblock(self, error: bool) -> bool:
        """End the client's blocking command, as if it timed out or with an error; False if it is in none."""
        ...

    def close(self, reason: str) -> None:
        """Close the connection now, without sending what is still unsent."""
        ...


class KillFilter:
    """Which clients CLIENT KILL closes; None fields match every client."""

    __slots__ = ("address", "client_id", "local_address", "skip_me", "type", "user")

    def __init__(self) -> None:
        self.client_id: int | None = None
        self.type: str | None = None
        self.user: bytes | None = None
        self.address: bytes | None = None
        self.local_address: bytes | None = None
        self.skip_me = True


class ClientsProtocol(Protocol):
    """All connections of this node."""

    def get(self, client_id: int) -> ClientProtocol | None:
        """Return the client of that id, or None."""
        ...

    def lines(self, now_ms: int, kind: str | None, ids: Sequence[int] | None) -> list[str]:
        """Return the lines of CLIENT LIST: all, those of one type, or those of `ids` that exist, in that order."""
        ...

    def matching(self, wanted: KillFilter, asking: ClientProtocol) -> list[ClientProtocol]:
        """Return the clients that `wanted` describes; without `asking` where it says skip_me."""
        ...

    def pause(self, mode: PauseMode, until_ms: int) -> None:
        """Hold clients back; a running pause is only ever widened or lengthened (Redis's rule)."""
        ...

    def unpause(self) -> None:
        """Let all clients go on."""
        ...


class HistogramProtocol(Protocol):
    """Latencies of one command."""

    def cumulative(self) -> tuple[int, dict[int, int]]:
        """Return the number of calls, and for powers of two of microseconds how many took at most that long."""
        ...


class StatisticsProtocol(Protocol):
    """Counters of this node."""

    def reset(self) -> None:
        """CONFIG RESETSTAT."""
        ...

    def histograms(self) -> Mapping[CommandSpec, HistogramProtocol]:
        """Return the latencies of every command that was called."""
        ...


class SlowlogEntry(Protocol):
    """One slow command."""

    @property
    def id(self) -> int: ...
    @property
    def time_s(self) -> int: ...
    @property
    def usec(self) -> int: ...
    @property
    def argv(self) -> list[bytes]: ...
    @property
    def address(self) -> str: ...
    @property
    def name(self) -> bytes: ...


class SlowlogProtocol(Protocol):
    """The slow commands, newest first."""

    @property
    def slower_than_us(self) -> int:
        """The threshold, negative for none."""
        ...

    def entries(self, count: int | None) -> Sequence[SlowlogEntry]:
        """Return the newest `count` entries, all for None."""
        ...

    def reset(self) -> None:
        """Forget all entries."""
        ...

    def __len__(self) -> int: ...


class LatencyProtocol(Protocol):
    """Spikes of the latency monitor, by event."""

    def latest(self) -> list[list[bytes | int]]:
        """Return (event, time in s, latest ms, maximum ms) of each event."""
        ...

    def history(self, event: bytes) -> list[list[int]]:
        """Return (time in s, ms) of each sample of an event, oldest first."""
        ...

    def reset(self, events: Sequence[bytes]) -> int:
        """Forget the samples of these events, of all if there are none; return how many there were of them."""
        ...

    def graph(self, event: bytes, now_s: int) -> str | None:
        """Return an ASCII graph of an event, or None if there is no such event."""
        ...

    def doctor(self, slower_than_us: int = 0) -> str:
        """Return a report for a person; `slower_than_us` is what SLOWLOG remembers, negative for nothing."""
        ...


class SettingsProtocol(Protocol):
    """CONFIG."""

    def matching(self, patterns: Sequence[bytes]) -> dict[bytes, bytes]:
        """Return name → value of every parameter that one of the glob patterns matches."""
        ...

    def change(self, pairs: Sequence[tuple[bytes, bytes]]) -> None:
        """Set all of `pairs` or, raising a DefiniteError with Redis's text, none."""
        ...

    def agreed_part(self, pairs: Sequence[tuple[bytes, bytes]]) -> tuple[list[bytes], list[tuple[bytes, bytes]]]:
        """Return what of `pairs` the cluster has to agree on, as words for the log, and the pairs that are left.

        Raises a DefiniteError with Redis's text if any of all the pairs cannot be taken.
        """
        ...

    def rewrite(self) -> None:
        """Write the settings back to their file; raises a DefiniteError where there is none."""
        ...


class AccessProtocol(Protocol):
    """Who may come in, and what they may do: the users agreed on, or this node's own while none are."""

    @property
    def password_required(self) -> bool:
        """Whether a new connection has to authenticate."""
        ...

    @property
    def all_channels(self) -> bool:
        """Whether new users may use all channels (`acl-pubsub-default`)."""
        ...

    def authenticate(self, user: bytes, password: bytes) -> bool:
        """Return whether the password is the user's and the user may come in, as far as this node knows."""
        ...

    def log_in(self, client: ClientProtocol, user: bytes) -> None:
        """Let the connection be this user's from now on."""
        ...

    def reset(self, client: ClientProtocol) -> None:
        """Put the connection back to how a new one starts."""
        ...

    def refused(self, client: ClientProtocol, user: bytes, word: bytes) -> None:
        """Remember for ACL LOG that `word`, an AUTH or HELLO, was refused."""
        ...

    @property
    def may_be_behind(self) -> bool:
        """Whether it is worth asking the leader for users that this node has not heard of."""
        ...

    async def catch_up(self, client: ClientProtocol) -> bool:
        """Return True once this node has applied all that was agreed when it was asked; False if that cannot be."""
        ...

    def user(self, name: bytes) -> User | None:
        """Return a user, or None."""
        ...

    def users(self) -> list[User]:
        """Return all users, by name."""
        ...

    def permissions(self, user: User) -> Permissions | None:
        """Return what the user may do; None for everything."""
        ...

    def base(self) -> bytes:
        """Return the word for the log that says on what ground a change stands (`keyspace.users.Base`)."""
        ...

    def need_file(self) -> str:
        """Return the path of this node's ACL file. Raises DefiniteError if it has none."""
        ...

    def loaded(self) -> bytes:
        """Return the users of the ACL file as a word for the log. Raises DefiniteError with Redis's text."""
        ...

    def save(self) -> None:
        """Write all users to the ACL file. Raises DefiniteError."""
        ...

    def denials(self, count: int) -> list[dict[bytes, Any]]:
        """Return the newest entries of ACL LOG."""
        ...

    def forget_denials(self) -> None:
        """Empty ACL LOG."""
        ...

    def random_hex(self, digits: int) -> bytes:
        """Return fresh random hexadecimal digits."""
        ...


class RaftProtocol(Protocol):
    """RAFT: the cluster's agreement, its members, and what was agreed."""

    def status(self) -> dict[str, Any]:
        """Return the reply of RAFT STATUS."""
        ...

    def members(self) -> list[dict[str, Any]]:
        """Return the reply of RAFT MEMBERS."""
        ...

    async def change(
        self, *, add: Sequence[bytes] = (), promote: Sequence[bytes] = (), demote: Sequence[bytes] = (),
        remove: Sequence[bytes] = (), learner: bool = False, force: bool = False,
    ) -> None:
        """Change the membership: return once all of it is agreed, and who was added or promoted is a voter.

        `add` holds words of the form id=host:port[@peerport]. With `learner` the added ones stay learners. `force`:
        even where the quorum would be lost, or a member that is heard from would get another address. Raises a
        DefiniteError where nothing was changed, OutcomeUnknown where it may have been, or is not finished.
        """
        ...

    async def transfer(self, target: bytes) -> str:
        """Hand the leadership to a voter, to the most up-to-date one if `target` is empty; return who leads now."""
        ...

    async def backup_begin(self, client: ClientProtocol, stale: bool) -> dict[str, Any]:
        """Hold this node's state for one client; without `stale`, with every write acknowledged before."""
        ...

    async def backup_read(self, client: ClientProtocol, token: bytes, file: int, offset: int, length: int) -> list[Any]:
        """Return CRC-32 and bytes of a piece of a file of that backup."""
        ...

    async def backup_end(self, client: ClientProtocol, token: bytes) -> None:
        """Let go of it."""
        ...

    def log(self, first: int | None, count: int) -> list[Any]:
        """Return up to `count` entries of this node's log from index `first` on, the last ones for None."""
        ...


class ClusterViewProtocol(Protocol):
    """CLUSTER, where the setting `cluster_view` shows this cluster as a Redis Cluster.

    `tls`: the answer is for a client that came over TLS, and names the ports for it.
    """

    def my_id(self) -> bytes:
        """Return this node's id: 40 hexadecimal digits, the same for as long as it is a member."""
        ...

    def slots(self, tls: bool) -> list[Any]:
        """Return the reply of CLUSTER SLOTS."""
        ...

    def shards(self) -> list[Any]:
        """Return the reply of CLUSTER SHARDS."""
        ...

    def nodes(self, tls: bool) -> list[bytes]:
        """Return the lines of CLUSTER NODES, without line ends."""
        ...

    def replicas(self, node: bytes, tls: bool) -> list[bytes]:
        """Return the lines of the replicas of the node of that id. Raises DefiniteError if it is not the leader."""
        ...

    def failure_reports(self, node: bytes) -> int:
        """Return how many others say that the node is down: none, for none are collected. Raises DefiniteError."""
        ...

    def info(self) -> bytes:
        """Return the text of CLUSTER INFO."""
        ...

    def links(self) -> list[Any]:
        """Return the reply of CLUSTER LINKS."""
        ...


class ServerProtocol(Protocol):
    """The node, as LOCAL handlers see it."""

    @property
    def clients(self) -> ClientsProtocol: ...
    @property
    def statistics(self) -> StatisticsProtocol: ...
    @property
    def slowlog(self) -> SlowlogProtocol: ...
    @property
    def latency(self) -> LatencyProtocol: ...
    @property
    def settings(self) -> SettingsProtocol: ...
    @property
    def access(self) -> AccessProtocol: ...
    @property
    def cluster(self) -> RaftProtocol: ...

    @property
    def cluster_view(self) -> ClusterViewProtocol | None:
        """CLUSTER; None unless the setting `cluster_view` is on."""
        ...

    def shown_as(self) -> tuple[bytes, bytes]:
        """Return the mode and the role that HELLO names: `standalone` and `master`, unless a view is on."""
        ...

    def time_us(self) -> int:
        """Return the wall clock in microseconds since 1970."""
        ...

    def info(self, sections: Iterable[bytes], tls: bool) -> bytes:
        """Return the text of INFO for these section names in any case; none means the default sections.

        `tls`: who asks came over TLS, and is told of the other nodes' ports for that.
        """
        ...

    def role(self, tls: bool) -> list[Any]:
        """Return the reply of ROLE; `tls` as above."""
        ...

    def memory_stats(self) -> dict[bytes, Any]:
        """Return the reply of MEMORY STATS."""
        ...

    def release_memory(self) -> None:
        """MEMORY PURGE: give unused memory back to the operating system."""
        ...

    def monitor(self, client: ClientProtocol) -> bool:
        """MONITOR: show the client every command from now on; False if it is shown them already."""
        ...

    def last_save_s(self) -> int:
        """Return the time, in seconds since 1970, of the last snapshot, or of the start if there was none."""
        ...

    def start_snapshot(self) -> bool:
        """Begin a snapshot in the background and cut the log behind it; False if one is being made."""
        ...

    async def save_snapshot(self) -> None:
        """Make a snapshot and return when it is durable; raises a DefiniteError if one is being made."""
        ...

    def check_extension(self, name: str, digest: str) -> None:
        """Raise a DefiniteError if a command of an extension, of this code, cannot be executed now."""
        ...

    def extensions(self) -> list[dict[str, Any]]:
        """Return the reply of EXTENSION LIST."""
        ...

    def shut_down(self, *, now: bool, force: bool, save: bool | None) -> None:
        """Begin to end the process. `now`: without handing the leadership over or finishing what is under way."""
        ...

    def abort_shut_down(self) -> bool:
        """Go on running; False if no end was begun (or it can no longer be called off)."""
        ...

    async def wait_for_replicas(self, client: ClientProtocol, replicas: int, timeout_ms: int) -> int:
        """Return how many other voters durably hold the client's last write.

        It answers once that is `replicas`, or time is up (0 = never), or `client.unblock` ends it; with an error that
        is raised.
        """
        ...

    async def sleep(self, seconds: float) -> None:
        """Return after that time; other clients go on."""
        ...

    async def execute(self, client: ClientProtocol, argv: list[bytes]) -> object:
        """Run another command for the client as if it had sent it now; return the reply or raise its ReplyError."""
        ...


class LocalContext:
    """For LOCAL handlers: the connection, the node and the whole command line (name first).

    One may be kept for each connection, with `argv` set before every call: a handler that is a coroutine reads
    `argv` before it first awaits, if at all. Inside EXEC `may_block` is False.
    """

    __slots__ = ("argv", "client", "may_block", "server")

    def __init__(self, client: ClientProtocol, server: ServerProtocol, argv: list[bytes]) -> None:
        self.client = client
        self.server = server
        self.argv = argv
        self.may_block = True

    @property
    def db(self) -> int:
        """The database that the connection has selected."""
        return self.client.db

    @property
    def now_ms(self) -> int:
        """The node's wall clock in milliseconds since 1970."""
        return self.server.time_us() // 1000
