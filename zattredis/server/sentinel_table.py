"""SENTINEL: the subcommands that the Sentinel port answers, one method each. `SentinelPort` gives it what it shows."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Final

from zattredis.commands.arguments import parse_integer
from zattredis.commands.glob import compile_glob
from zattredis.errors import DefiniteError
from zattredis.resp.replies import NULL_ARRAY
from zattredis.server.node_facts import MemberFacts

if TYPE_CHECKING:
    from zattredis.server.node import Node
    from zattredis.server.sentinel import SentinelPort

_ELSEWHERE: Final = "this port shows the one cluster that its node belongs to, as Raft has it"
_REFUSED: Final[dict[bytes, tuple[int, str]]] = {
    b"CONFIG": (-3, "settings are the node's own: CONFIG GET and CONFIG SET on its client port"),
    b"DEBUG": (-2, "times are the node's own settings"),
    b"INFO-CACHE": (-3, "ask the nodes themselves for INFO"),
    b"MONITOR": (6, _ELSEWHERE),
    b"REMOVE": (3, _ELSEWHERE),
    b"SET": (-5, _ELSEWHERE),
    b"SIMULATE-FAILURE": (-3, "stop a node instead"),
}
"""Subcommand → its arity, and what to do instead."""
_HELP: Final = (
    "SENTINEL <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
    "CKQUORUM <master-name>",
    "    Check that enough voters are in reach to elect another leader.",
    "FAILOVER <master-name>",
    "    Hand the leadership to the follower that is furthest; answers once that is done.",
    "FLUSHCONFIG",
    "    Answer OK: the membership is in the log, and always saved.",
    "GET-MASTER-ADDR-BY-NAME <master-name>",
    "    Return the host and port of the leader.",
    "IS-MASTER-DOWN-BY-ADDR <ip> <port> <current-epoch> <runid>",
    "    Tell whether the leader at that address is down, as far as this node knows.",
    "MASTER <master-name>",
    "    Show the state of the leader.",
    "MASTERS",
    "    Show the state of the leader, in a list of one.",
    "MYID",
    "    Return the id of this node.",
    "PENDING-SCRIPTS",
    "    Return an empty list: there are no scripts.",
    "REPLICAS <master-name>",
    "    Show the state of the other members.",
    "RESET <pattern>",
    "    Forget where the other nodes answer as Sentinels, until they say it again.",
    "SENTINELS <master-name>",
    "    Show the other nodes that answer as Sentinels.",
    "HELP",
    "    Print this help.",
)


class NoQuorum(DefiniteError):
    """Too few voters are in reach."""

    prefix = "NOQUORUM"


class SentinelTable:
    """Carries out SENTINEL; `run` returns a reply value or something to await for it."""

    __slots__ = ("_node", "_port", "_table", "_tls")

    def __init__(self, node: Node, port: SentinelPort, tls: bool) -> None:
        """`tls`: it is for clients that come over TLS, and names the ports for them."""
        self._node = node
        self._tls = tls
        self._port = port
        self._table: dict[bytes, tuple[int, Callable[..., Any]]] = {
            b"CKQUORUM": (3, self.ckquorum),
            b"FAILOVER": (3, self.failover),
            b"FLUSHCONFIG": (2, lambda: "OK"),
            b"GET-MASTER-ADDR-BY-NAME": (3, self.get_master_addr_by_name),
            b"HELP": (2, lambda: list(_HELP)),
            b"IS-MASTER-DOWN-BY-ADDR": (6, self.is_master_down_by_addr),
            b"MASTER": (3, self.master),
            b"MASTERS": (2, self.masters),
            b"MYID": (2, self.my_id),
            b"PENDING-SCRIPTS": (2, list),
            b"REPLICAS": (3, self.replicas),
            b"RESET": (3, self.reset),
            b"SENTINELS": (3, self.sentinels),
            b"SLAVES": (3, self.replicas),
        }

    def run(self, argv: list[bytes]) -> Any | Awaitable[Any]:
        """Carry out a command line. Raises ReplyError with Redis's text."""
        if len(argv) < 2:
            raise DefiniteError("wrong number of arguments for 'sentinel' command")
        word = argv[1].upper()
        known = self._table.get(word) or _REFUSED.get(word)
        if known is None:
            shown = argv[1][:128].decode("utf-8", "surrogateescape")
            raise DefiniteError(f"unknown subcommand '{shown}'. Try SENTINEL HELP.")
        arity = known[0]
        if len(argv) != arity if arity > 0 else len(argv) < -arity:
            raise DefiniteError(
                f"wrong number of arguments for 'sentinel|{argv[1].decode('utf-8', 'surrogateescape').lower()}' command"
            )
        if word in _REFUSED:
            raise DefiniteError(f"SENTINEL {word.decode()} is not supported: {_REFUSED[word][1]}")
        return self._table[word][1](*argv[2:])

    def _named(self, name: bytes) -> MemberFacts:
        """Return the leader, the last one known if there is none now. Raises DefiniteError."""
        master = self._node.views.master()
        if name != self._port.name or master is None:
            raise DefiniteError("No such master with that name")
        return master

    def my_id(self) -> bytes:
        """SENTINEL MYID."""
        return self._node.views.id_of(self._node.core.node_id)

    def get_master_addr_by_name(self, name: bytes) -> Any:
        """SENTINEL GET-MASTER-ADDR-BY-NAME."""
        master = self._node.views.master()
        if name != self._port.name or master is None:
            return NULL_ARRAY
        return [master.host.encode(), b"%d" % master.port_for(self._tls)]

    def masters(self) -> list[Any]:
        """SENTINEL MASTERS."""
        master = self._node.views.master()
        return [] if master is None else [self._master(master)]

    def master(self, name: bytes) -> dict[bytes, bytes]:
        """SENTINEL MASTER."""
        return self._master(self._named(name))

    def replicas(self, name: bytes) -> list[dict[bytes, bytes]]:
        """SENTINEL REPLICAS and SLAVES."""
        master = self._named(name)
        return [self._replica(one, master) for one in self._node.views.members() if one.node_id != master.node_id]

    def sentinels(self, name: bytes) -> list[dict[bytes, bytes]]:
        """SENTINEL SENTINELS."""
        self._named(name)
        found = []
        for member, port in self._port.others(self._tls):
            fields = self._instance(member, port, b"sentinel", member.connected)
            fields[b"name"] = fields[b"runid"]
            found.append(fields | {b"last-hello-message": fields[b"last-ping-reply"], b"voted-leader": b"?",
                                   b"voted-leader-epoch": b"%d" % self._node.core.term})  # fmt: skip
        return found

    def _instance(self, member: MemberFacts, port: int, kind: bytes, up: bool) -> dict[bytes, bytes]:
        """Return the fields that all have; times are in ms since this node heard of it, 0 for itself."""
        heard = b"%d" % max(0, self._node.views.heard_ms(member.node_id))
        down_after = b"%d" % self._node.settings.election_timeout_ms
        down = {} if up else {b"s-down-time": heard}
        return {
            b"name": f"{member.host}:{port}".encode(), b"ip": member.host.encode(), b"port": b"%d" % port,
            b"runid": self._node.views.id_of(member.node_id), b"flags": kind if up else kind + b",s_down",
            b"link-pending-commands": b"0", b"link-refcount": b"1", b"last-ping-sent": b"0",
            b"last-ok-ping-reply": heard, b"last-ping-reply": heard, **down, b"down-after-milliseconds": down_after,
        }  # fmt: skip

    def _master(self, master: MemberFacts) -> dict[bytes, bytes]:
        node = self._node
        up = node.views.master_is_up()
        fields = self._instance(master, master.port_for(self._tls), b"master", up)
        if node.core.leader_id is None:
            fields[b"flags"] += b",o_down"
        since = b"%d" % self._port.leader_since_ms()
        return fields | {
            b"name": self._port.name, b"info-refresh": b"0", b"role-reported": b"master",
            b"role-reported-time": since, b"config-epoch": b"%d" % node.core.term,
            b"num-slaves": b"%d" % (len(node.core.membership.members) - 1),
            b"num-other-sentinels": b"%d" % len(self._port.others(self._tls)), b"quorum": b"%d" % self._port.quorum,
            b"failover-timeout": b"%d" % node.settings.request_timeout_ms, b"parallel-syncs": b"1",
        }  # fmt: skip

    def _replica(self, member: MemberFacts, master: MemberFacts) -> dict[bytes, bytes]:
        node = self._node
        up = node.views.master_is_up()
        priority = 100 if node.core.membership.is_voter(member.node_id) else 0
        return self._instance(member, member.port_for(self._tls), b"slave", member.connected) | {
            b"info-refresh": b"0", b"role-reported": b"slave", b"role-reported-time": b"0",
            b"master-link-down-time": b"0", b"master-link-status": b"ok" if up else b"err",
            b"master-host": master.host.encode(), b"master-port": b"%d" % master.port_for(self._tls),
            b"slave-priority": b"%d" % priority,
            b"slave-repl-offset": b"%d" % (member.match_index or 0), b"replica-announced": b"1",
        }  # fmt: skip

    def ckquorum(self, name: bytes) -> str:
        """SENTINEL CKQUORUM: raises NoQuorum unless a majority of the voters is in reach."""
        self._named(name)
        usable = self._port.voters_in_reach()
        if usable < self._port.quorum:
            raise NoQuorum(
                f"{usable} usable Sentinels. Not enough available Sentinels to reach the specified quorum for this "
                "master. Not enough available Sentinels to reach the majority and authorize a failover"
            )
        return f"OK {usable} usable Sentinels. Quorum and failover authorization can be reached"

    def is_master_down_by_addr(self, ip: bytes, port: bytes, epoch: bytes, _runid: bytes) -> list[Any]:
        """SENTINEL IS-MASTER-DOWN-BY-ADDR; no votes are given here, Raft's are elsewhere."""
        number = parse_integer(port)
        parse_integer(epoch)
        master = self._node.views.master()
        here = master is not None and (master.host.encode(), master.port_for(self._tls)) == (ip, number)
        return [int(here and not self._node.views.master_is_up()), b"*", 0]

    def reset(self, pattern: bytes) -> int:
        """SENTINEL RESET."""
        if not compile_glob(pattern)(self._port.name):
            return 0
        for status in self._node.housekeeping.members.values():
            status.sentinel_port = status.sentinel_tls_port = 0
        return 1

    async def failover(self, name: bytes) -> str:
        """SENTINEL FAILOVER."""
        self._named(name)
        await self._node.changes.transfer("")
        return "OK"
