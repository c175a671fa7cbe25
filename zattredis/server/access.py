"""Who may come in, and what they may do on this node.

The rule of whose word counts: as long as the cluster has agreed on no users, each node goes by its own settings
(`requirepass`, `users` or `aclfile`); with the first change (ACL SETUSER, DELUSER, LOAD, or CONFIG SET requirepass) the
users of the node that took it are agreed along with it, and from then on the agreed users count on every node and the
settings no more. A change is in force on a node as soon as that has applied it, for connections that exist too.

What is decided once and not for each command: a connection whose user may do everything has no `permissions`, and is
never asked about any. All others take the dispatcher's careful way.
"""

from __future__ import annotations

import hmac
import os
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Final, Protocol

from zattredis.commands.acl_rules import (
    DENIED_AUTH,
    DENIED_CHANNEL,
    DENIED_COMMAND,
    DENIED_KEY,
    SORTS,
    Permissions,
    digest_of,
)
from zattredis.commands.table import CommandSpec
from zattredis.config import Settings
from zattredis.errors import ConfigError, DefiniteError, ReplyError
from zattredis.keyspace.users import DEFAULT_USER, Base, User, Users, default_user
from zattredis.observability.events import get_logger
from zattredis.server.acl_file import parse_user_lines, read_acl_file, write_acl_file
from zattredis.server.acl_log import AclLog
from zattredis.server.clients import ClientState

if TYPE_CHECKING:
    from typing import Any

    from zattredis.commands.context import ClientProtocol

_log = get_logger(room="access")

_NOBODY: Final = digest_of(os.urandom(32))
"""Compared with where there is no such user, so that the time does not tell that there is none."""
_NO_FILE: Final = (
    "This Redis instance is not configured to use an ACL file. You may want to specify users via the ACL SETUSER"
    " command and then issue a CONFIG REWRITE (assuming you have a Redis configuration file set) in order to store"
    " users in the Redis configuration."
)
_CHANGED: Final = (
    "ACLs rules changed between the moment the transaction was accumulated and the EXEC call. This command is no longer"
    " allowed for the following reason: "
)
_CHANGED_REASONS: Final = {
    DENIED_COMMAND: "no permission to execute the command or subcommand",
    DENIED_KEY: "no permission to touch the specified keys",
    DENIED_CHANNEL: "no permission to access one of the channels used as arguments to the command",
}


class NoPermission(DefiniteError):
    """The user may not do that."""

    prefix = "NOPERM"


class _HasSettings(Protocol):
    @property
    def settings(self) -> Settings: ...


class Access:
    """The users that count on this node now, and the connections' permissions. One per node, owned by its services.

    `users_agreed` returns those of the state machine; `refresh` is called when they or the settings have changed.
    """

    def __init__(
        self,
        settings: _HasSettings,
        users_agreed: Callable[[], Users] = Users,
        clients: Callable[[], Iterable[ClientState]] = tuple,
        now_ms: Callable[[], int] = lambda: 0,
    ) -> None:
        self._settings = settings
        self._agreed = users_agreed
        self._clients = clients
        self._now_ms = now_ms
        self._listed: list[User] | None = None
        self._own_from: str | None = None
        self._own: dict[bytes, User] = {}
        self._permissions: dict[User, Permissions | None] = {}
        self.log = AclLog()
        self.read_point: Callable[[ClientProtocol], Any] | None = None
        self.others_may_know: Callable[[], bool] = lambda: False
        self.on_refresh: Callable[[], None] = lambda: None
        self.on_opened: Callable[[ClientState], None] = lambda client: None

    # -- users -------------------------------------------------------------------------------------------------------

    def own_users(self) -> dict[bytes, User]:
        """Return the users of this node's settings; the file is read at the first call. Raises ConfigError."""
        settings = self._settings.settings
        if self._listed is None:
            self._listed = self._read_listed(settings)
        if settings.requirepass != self._own_from:
            self._own_from = settings.requirepass
            self._own = {DEFAULT_USER: self._own_default(), **{user.name: user for user in self._listed}}
        return self._own

    def reread(self) -> str | None:
        """Read the ACL file again (SIGHUP), in force as at a start: while no users are agreed. Raises ConfigError, with
        everything as it was. Returns why it was not read, as `Reloading.hooks` wants it.

        Agreed users are everyone's, and no single node's file changes them: that takes ACL LOAD.
        """
        settings = self._settings.settings
        if not settings.aclfile:
            return ""
        if self._agreed().agreed:
            return "the cluster has agreed on users, and this node's file counts no more; ACL LOAD makes all use it"
        listed = self._read_listed(settings)
        if listed != self._listed:
            self._listed, self._own_from = listed, None
            self.refresh()
        return None

    def _own_default(self) -> User:
        password = self._settings.settings.requirepass.encode("utf-8", "surrogateescape")
        return default_user(digest_of(password) if password else None)

    def _read_listed(self, settings: Settings) -> list[User]:
        try:
            if settings.aclfile:
                return read_acl_file(settings.aclfile, self.all_channels)
            return parse_user_lines(settings.users, self.all_channels)
        except DefiniteError as error:
            raise ConfigError(f"aclfile ({settings.source('aclfile')}): {error.message}") from None
        except ValueError as error:
            raise ConfigError(f"users ({settings.source('users')}): {error}") from None

    def _rows(self) -> dict[bytes, User]:
        users = self._agreed()
        return users.rows if users.agreed else self.own_users()

    def user(self, name: bytes) -> User | None:
        """Return a user, or None."""
        return self._rows().get(name)

    def users(self) -> list[User]:
        """Return all users, by name."""
        rows = self._rows()
        return [rows[name] for name in sorted(rows)]

    @property
    def default(self) -> User:
        """The user of connections that have not said who they are."""
        return self._rows()[DEFAULT_USER]

    @property
    def password_required(self) -> bool:
        """Whether a new connection has to authenticate."""
        default = self.default
        return not (default.on and default.nopass)

    @property
    def all_channels(self) -> bool:
        """Whether new users may use all channels (`acl-pubsub-default`)."""
        return self._settings.settings.acl_pubsub_default == "allchannels"

    def permissions(self, user: User) -> Permissions | None:
        """Return what the user may do; None for everything."""
        if user.unlimited:
            return None
        found = self._permissions.get(user)
        if found is None:
            found = self._permissions[user] = Permissions(user)
        return found

    # -- coming in ---------------------------------------------------------------------------------------------------

    def authenticate(self, user: bytes, password: bytes) -> bool:
        """Return whether the password is the user's; in a time that tells nothing of where it differs."""
        digest = digest_of(password)
        row = self.user(user)
        right = False
        for wanted in row.passwords if row is not None and row.passwords else (_NOBODY,):
            right |= hmac.compare_digest(wanted, digest)
        return row is not None and row.on and (row.nopass or (bool(row.passwords) and right))

    def log_in(self, client: ClientProtocol, user: bytes) -> None:
        """Let the connection be this user's from now on."""
        row = self.user(user)
        assert row is not None and isinstance(client, ClientState)
        client.admit(user, self.permissions(row), True)

    def reset(self, client: ClientProtocol) -> None:
        """Put the connection back to how a new one starts."""
        assert isinstance(client, ClientState)
        client.reset(not self.password_required)
        client.admit(DEFAULT_USER, self.permissions(self.default), client.authenticated)

    def greet(self, client: ClientState) -> None:
        """Give a new connection what the default user has."""
        client.admit(DEFAULT_USER, self.permissions(self.default), not self.password_required)

    def refused(self, client: ClientProtocol, user: bytes, word: bytes) -> None:
        """Remember for ACL LOG that `word`, an AUTH or HELLO, was refused."""
        self._note(client, DENIED_AUTH, word, user, client.in_multi)

    @property
    def may_be_behind(self) -> bool:
        """Whether it is worth asking the leader for users that this node has not heard of."""
        return self.read_point is not None and self.others_may_know()

    async def catch_up(self, client: ClientProtocol) -> bool:
        """Return True once this node has applied all that was agreed when it was asked; False if that cannot be."""
        return True if self.read_point is None else bool(await self.read_point(client))

    # -- what is asked of connections that may not do everything -------------------------------------------------------

    def check(self, client: ClientState, spec: CommandSpec, argv: list[bytes]) -> None:
        """Raise the reply to a command line that the client's user may not send."""
        permissions = client.permissions
        assert permissions is not None
        denied, place = permissions.denies(spec, argv)
        if denied:
            self._denied(client, denied, spec, argv, place, client.in_multi)
            raise NoPermission(_refusal(denied, spec))
        if spec.name in SORTS and not client.in_multi:
            error = permissions.sort_denied(spec, argv)
            if error is not None:
                raise error

    def check_queued(self, client: ClientState, spec: CommandSpec, argv: list[bytes]) -> ReplyError | None:
        """Return the reply to a queued command that the client's user may not send by now, at its EXEC."""
        permissions = client.permissions
        if permissions is None:
            return None
        denied, place = permissions.denies(spec, argv)
        if denied:
            self._denied(client, denied, spec, argv, place, True)
            return NoPermission(_CHANGED + _CHANGED_REASONS[denied])
        return permissions.sort_denied(spec, argv) if spec.name in SORTS else None

    def _denied(
        self, client: ClientState, denied: int, spec: CommandSpec, argv: list[bytes], place: int, in_multi: bool
    ) -> None:
        what = spec.full_name.encode() if denied == DENIED_COMMAND else argv[place]
        client.last_spec = spec
        self._note(client, denied, what, client.user, in_multi)

    def _note(self, client: ClientProtocol, denied: int, what: bytes, user: bytes, in_multi: bool) -> None:
        now_ms = self._now_ms()
        self.log.add(denied, what, user, in_multi, client.line(now_ms), now_ms)

    def denials(self, count: int) -> list[dict[bytes, Any]]:
        """Return the newest entries of ACL LOG."""
        return self.log.shown(count, self._now_ms())

    def forget_denials(self) -> None:
        """Empty ACL LOG."""
        self.log.reset()

    # -- changes -----------------------------------------------------------------------------------------------------

    def refresh(self) -> None:
        """Users or settings have changed: put what they say in force for every connection there is."""
        gone = self._agreed().drain()
        self._permissions.clear()
        is_open = not self.password_required
        for client in self._clients():
            user = self.user(client.user)
            if user is None or client.user in gone:
                if not client.close_after_reply:
                    client.close("its user was deleted")
                continue
            opened = is_open and not client.authenticated and client.user == DEFAULT_USER
            client.admit(client.user, self.permissions(user), client.authenticated or opened)
            if opened:
                self.on_opened(client)
        self.on_refresh()

    def base(self) -> bytes:
        """Return the word for the log that says on what ground a change stands."""
        users = () if self._agreed().agreed else tuple(self.own_users().values())
        return Base(self.all_channels, users).encode()

    def with_password(self, password: bytes) -> bytes:
        """Return what CONFIG SET requirepass proposes: the rules for `default`, and on what ground they stand."""
        rule = b"#" + digest_of(password) if password else b"nopass"
        return rule + b" " + self.base()

    def need_file(self) -> str:
        """Return the path of the ACL file. Raises DefiniteError if this node has none."""
        path = self._settings.settings.aclfile
        if not path:
            raise DefiniteError(_NO_FILE)
        return path

    def loaded(self) -> bytes:
        """Return the users of the ACL file as a word for the log. Raises DefiniteError with Redis's text.

        A file that does not name `default` leaves it what the settings make of it.
        """
        listed = read_acl_file(self.need_file(), self.all_channels)
        return Base(self.all_channels, (self._own_default(), *listed)).encode()

    def save(self) -> None:
        """Write all users to the ACL file. Raises DefiniteError."""
        write_acl_file(self.need_file(), self.users())
        _log.info("acl_saved", path=self.need_file(), users=len(self._rows()))

    def random_hex(self, digits: int) -> bytes:
        """Return fresh random hexadecimal digits."""
        return os.urandom((digits + 1) // 2).hex()[:digits].encode()


def _refusal(denied: int, spec: CommandSpec) -> str:
    if denied == DENIED_COMMAND:
        return f"this user has no permissions to run the '{spec.full_name}' command"
    kind = "keys" if denied == DENIED_KEY else "channels"
    return f"this user has no permissions to access one of the {kind} used as arguments"
