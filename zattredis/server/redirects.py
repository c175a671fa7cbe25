"""`follower_mode = redirect`: a follower answers -MOVED to commands with keys: cluster clients go to the leader.

As in Redis Cluster: what the user may not do is denied, not moved; commands without keys are carried out where they
arrive, READONLY connections have their reads served, a transaction is moved as a whole, and several keys need not be
alike: all slots are the leader's (there is no CROSSSLOT). Where no leader is known, or it cannot be reached, nothing is
moved: the command waits for the election, as without this setting.
"""

from __future__ import annotations

from collections.abc import Callable

from zattredis.commands.table import CommandSpec, Flag, Kind, resolve
from zattredis.errors import DefiniteError, ReplyError
from zattredis.keyspace.keys import hash_slot
from zattredis.server.clients import ClientState
from zattredis.server.connection import ClientConnection
from zattredis.server.dispatcher import Dispatcher


class Moved(DefiniteError):
    """The slot of the command's keys is served elsewhere: MOVED slot host:port."""

    prefix = "MOVED"

    def __init__(self, slot: int, address: str) -> None:
        super().__init__(f"{slot} {address}")


def keys_of(spec: CommandSpec, argv: list[bytes]) -> list[bytes]:
    """Return the keys of a command line that has the right number of words; none where they cannot be found."""
    if spec.keys.first or spec.keys.finder is not None:
        return spec.keys.keys(argv)
    places = [place for part in spec.key_parts for place in part.find(argv) or () if place < len(argv)]
    return [argv[place] for place in places]


class RedirectingDispatcher(Dispatcher):
    """The dispatcher of a node that redirects: one class more, so that others pay nothing for it.

    `moved_to(tls)` returns where the leader takes clients, over TLS or not; None while it leads or knows of none.
    """

    __slots__ = ("moved_to",)

    moved_to: Callable[[bool], str | None]

    def _must_be_careful(self, state: ClientState) -> bool:
        return not self.is_leader or super()._must_be_careful(state)

    def _special(self, connection: ClientConnection, spec: CommandSpec | None, argv: list[bytes]) -> bool:
        if not self.is_leader and not connection.held and not connection.choked:
            moved = self._moved(connection.state, argv)
            if moved is not None:
                self._answer_moved(connection, resolve(argv), argv, moved)
                return True
        return super()._special(connection, spec, argv)

    def _answer_moved(self, connection: ClientConnection, spec: CommandSpec, argv: list[bytes], moved: Moved) -> None:
        """Send the answer; an EXEC ends its transaction with it, any other command within one makes it fail."""
        state = connection.state
        if spec.name != "EXEC":
            self._special_error(connection, spec, argv, moved)
            return
        muted = state.mute and state.drops_reply(spec)
        state.end_multi()
        self._refuse(connection, spec, moved, muted)

    def _moved(self, state: ClientState, argv: list[bytes]) -> Moved | None:
        """Return the answer to a command that belongs to the leader; None for all that is carried out here."""
        try:
            spec = resolve(argv)
        except ReplyError:
            return None  # answered with that error
        if not state.authenticated or state.close_after_reply or (state.in_multi and spec.flags & Flag.NO_MULTI):
            return None
        if state.permissions is not None and state.permissions.denies(spec, argv)[0]:
            return None  # as in Redis, who may not is told so, wherever the keys are
        queue = state.queue if spec.name == "EXEC" and state.in_multi and not state.dirty else [(spec, argv)]
        for queued, line in queue:
            if state.readonly and queued.kind == Kind.READ:
                continue
            keys = keys_of(queued, line)
            if not keys:
                continue
            address = self.moved_to(state.tls)
            if address is None:
                return None
            return Moved(hash_slot(keys[0]), address)
        return None
