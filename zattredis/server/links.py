"""Which nodes this one is linked to, as the membership says, and what happens to those that are removed.

A link opens as soon as a configuration that names a node is in the log, committed or not. It closes a while after the
removal of a node was committed: until then the node is told by the log itself. Whoever missed that is turned away by
every member it connects to, with the reason, after both sides have proved themselves; so a removed node raises no term
and asks for no vote. A node that learns of its own removal, either way, finishes what it can answer and ends.

A member that this node has not heard of, because it lacks the entry that added it, says where it is when it connects.
It may lead, and must be answered, or that entry would never come: so it is linked to until a configuration names it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from zattredis.config import parse_address
from zattredis.errors import ConfigError, FatalError, NodeRemoved
from zattredis.observability.events import get_logger
from zattredis.peer.messages import Introduction
from zattredis.raft.membership import Membership
from zattredis.server.clock import monotonic

if TYPE_CHECKING:
    from zattredis.server.node import Node

PARTING_S: Final = 2.0
"""How long after the commit of its removal a node may still be sent to."""

STRANGERS_MAX: Final = 8
"""Of members not heard of that are linked to at a time."""

_log = get_logger(room="membership")


class Links:
    """One per node."""

    __slots__ = ("_known", "_node", "_parting", "_strangers", "_until")

    def __init__(self, node: Node) -> None:
        self._node = node
        self._known = node.core.membership
        self._parting: dict[str, str] = {}  # id → address of those that are in the configuration no more
        self._strangers: dict[str, str] = {}  # id → address of those that no configuration seen so far has named
        self._until: dict[str, float] = {}  # of those whose removal is committed

    def peers(self) -> dict[str, tuple[str, int]]:
        """Return where the other members are, and those that are just leaving."""
        node = self._node
        membership = node.core.membership
        found = {}
        for node_id, address in (*self._strangers.items(), *self._parting.items(), *membership.addresses.items()):
            if node_id != node.core.node_id:
                member = parse_address(node_id, address)
                found[node_id] = (member.host, member.peer_port)
        return found

    def on_changed(self, membership: Membership) -> None:
        """Another configuration is in effect (or one was taken back)."""
        node = self._node
        for node_id in self._known.members:
            if not membership.is_member(node_id) and node_id in self._known.addresses:
                self._parting[node_id] = self._known.addresses[node_id]
        for node_id in membership.members:
            self._parting.pop(node_id, None)
            self._until.pop(node_id, None)
        self._strangers = {id_: at for id_, at in self._strangers.items() if self._is_stranger(id_)}
        self._known = membership
        node.network.set_peers(self.peers())
        node.need_peer_port()

    def on_introduction(self, message: Introduction) -> None:
        """A node of this cluster has connected and says where it is: link to it if it is a member unheard of."""
        if not message.address or not self._is_stranger(message.src) or len(self._strangers) >= STRANGERS_MAX:
            return
        if self._strangers.get(message.src) == message.address:
            return
        try:
            parse_address(message.src, message.address)
        except ConfigError as error:
            _log.warning("address_refused", peer=message.src, error=str(error))
            return
        self._strangers[message.src] = message.address
        self._node.network.set_peers(self.peers())

    def _is_stranger(self, node_id: str) -> bool:
        membership, agreed = self._node.core.membership, self._node.changes.agreed
        return not (
            membership.is_member(node_id)
            or node_id in self._parting
            or node_id in membership.removed
            or node_id in agreed.removed
        )

    def on_applied(self, index: int) -> None:
        """A configuration was applied here: it is agreed."""
        node = self._node
        agreed = node.changes.agreed
        if node.core.node_id in agreed.removed and not agreed.is_member(node.core.node_id):
            node.proposals.end(displaced=True)
            node.depart(removal(node, f"entry {index}"))

    def tick(self) -> None:
        """Called now and then: part for good from those whose time is up."""
        if not self._parting:
            return
        now = monotonic()
        for node_id in self._parting:
            if node_id in self._node.changes.agreed.removed:
                self._until.setdefault(node_id, now + PARTING_S)
        over = [node_id for node_id, until in self._until.items() if now >= until]
        for node_id in over:
            del self._until[node_id]
            self._parting.pop(node_id, None)
            self._node.network.turn_away(node_id, self.refusal(node_id))
        if over:
            self._node.network.set_peers(self.peers())

    def refusal(self, node_id: str) -> str:
        """Return why this node may not be connected to a member, or nothing: only an agreed removal counts."""
        agreed = self._node.changes.agreed
        if node_id in agreed.removed and not agreed.is_member(node_id) and node_id not in self._parting:
            return f"node {node_id!r} was removed from the cluster"
        return ""

    def on_turned_away(self, node_id: str) -> None:
        """A member, which has proved to be one, says that this node was removed."""
        node = self._node
        node.proposals.end(displaced=False)
        node.depart(removal(node, f"so says {node_id}"))


def removal(node: Node, how: str) -> FatalError:
    """Return what a removed node ends with."""
    return NodeRemoved(
        f"node {node.core.node_id!r} was removed from the cluster ({how}) and ends; its data stays in "
        f"{node.data.path}. To use this machine again, start it with an empty directory and a new id"
    )
