"""Which nodes a node is linked to: those of its membership, those that leave, and members that it has not heard of."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from zattredis.peer.messages import Introduction
from zattredis.raft.membership import Membership
from zattredis.server.links import STRANGERS_MAX, Links


def _membership(*ids: str, removed: tuple[str, ...] = ()) -> Membership:
    return Membership(voters=ids, addresses={one: f"{one}.net:1@2" for one in ids}, removed=removed)


class Node:
    """Of a server's node what `Links` asks for."""

    def __init__(self, membership: Membership) -> None:
        self.core = SimpleNamespace(node_id="n1", membership=membership)
        self.changes = SimpleNamespace(agreed=membership)
        self.network = self
        self.peers: dict[str, tuple[str, int]] = {}
        self.links = Links(self)  # type: ignore[arg-type]

    def set_peers(self, peers: dict[str, tuple[str, int]]) -> None:
        self.peers = peers

    def need_peer_port(self) -> None:
        pass

    def change(self, membership: Membership) -> None:
        self.core.membership = membership
        self.links.on_changed(membership)

    def hear(self, node_id: str, address: str) -> None:
        self.links.on_introduction(Introduction(node_id, "n1", 1, 5, 5, True, False, address))


@pytest.fixture
def node() -> Node:
    return Node(_membership("n1", "n2", "n3", removed=("old",)))


def test_a_member_that_nobody_told_of_is_answered(node: Node) -> None:
    """It may lead: the entry that adds it only comes if its messages are answered."""
    node.hear("n4", "there.net:1@9")
    assert node.peers == {"n2": ("n2.net", 2), "n3": ("n3.net", 2), "n4": ("there.net", 9)}
    node.change(_membership("n1", "n2", "n3", "n4"))
    assert node.peers["n4"] == ("n4.net", 2), "from then on the membership says where it is"
    node.change(_membership("n1", "n2", "n3", removed=("old", "n4")))
    assert node.peers["n4"] == ("n4.net", 2), "it is just leaving"


@pytest.mark.parametrize(("who", "address"), [
    ("old", "old.net:1@2"), ("n2", "elsewhere.net:1@2"), ("n4", ""), ("n4", "no address"), ("n4", "h:70000@1"),
])  # fmt: skip
def test_nobody_else_is_linked_to_for_what_he_says(node: Node, who: str, address: str) -> None:
    node.hear(who, address)
    assert node.peers == {}, "nothing changed"


def test_there_is_a_bound(node: Node) -> None:
    for number in range(100):
        node.hear(f"x{number}", f"x{number}.net:1@2")
    assert len(node.peers) == 2 + STRANGERS_MAX


def test_a_removal_ends_it(node: Node) -> None:
    node.hear("n4", "there.net:1@9")
    node.change(_membership("n1", "n2", "n3", removed=("old", "n4")))
    assert "n4" not in node.peers
