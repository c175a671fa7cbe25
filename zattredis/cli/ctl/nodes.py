"""All nodes of a cluster, found from any one: what each says of itself, asked at the same time."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Final

from zattredis.cli.ctl.target import Target
from zattredis.cli.resp_client import ErrorReply, NoAnswer
from zattredis.errors import ConfigError

_MEMBER: Final = "raft_member_"
_SECTIONS: Final = ("raft", "server", "persistence", "stats")
_AT_ONCE: Final = 16


@dataclass(frozen=True, slots=True)
class Node:
    """One member; `info` is what it says of itself, empty where `problem` says why it does not answer."""

    node_id: str
    address: str
    info: dict[str, str] = field(default_factory=dict)
    problem: str = ""

    def text(self, name: str) -> str:
        """Return a field of INFO, empty if there is none."""
        return self.info.get(name, "")

    def number(self, name: str) -> int:
        """Return a field of INFO as a number, 0 if there is none."""
        text = self.info.get(name, "")
        return int(text) if text.removeprefix("-").isdecimal() else 0

    @property
    def role(self) -> str:
        """leader, follower, learner, candidate …; empty if the node does not answer."""
        return self.text("raft_role")


def members_of(raft: dict[str, str]) -> list[tuple[str, dict[str, str]]]:
    """Return (node id, fields) of every member line in INFO raft, by node id; the field `address` is host:port."""
    found = []
    for name, value in raft.items():
        fields = dict(part.partition("=")[::2] for part in value.split(","))
        if name.startswith(_MEMBER) and "address" in fields:
            found.append((name.removeprefix(_MEMBER), fields))
    return sorted(found, key=lambda member: member[0])


def discover(target: Target) -> tuple[str, list[tuple[str, str]]]:
    """Return the id of the node asked, and (id, host:port) of all members. Raises NoAnswer or ErrorReply."""
    with target.connect() as client:
        raft = client.info("raft")
    members = [(node_id, _address(fields, target)) for node_id, fields in members_of(raft)]
    if not members:
        raise NoAnswer(f"{target.where} is no zattredis node (INFO raft names no members)")
    return raft.get("raft_node_id", ""), members


def _address(fields: dict[str, str], target: Target) -> str:
    """Return where a member takes connections of the kind with which the first node was asked."""
    address, tls_port = fields["address"], fields.get("tls_port", "0")
    return address if target.tls is None or tls_port == "0" else f"{address.rpartition(':')[0]}:{tls_port}"


def targets(target: Target) -> list[tuple[str, str, Target]]:
    """Return (id, host:port, how to reach it) of all members. Raises NoAnswer, ErrorReply or ConfigError."""
    own, members = discover(target)
    # The node that was asked is known to be reachable where it was asked, whatever the cluster calls it.
    return [(node_id, where, target if node_id == own else target.at(where)) for node_id, where in members]


def ask_all(target: Target, sections: Sequence[str] = _SECTIONS) -> list[Node]:
    """Return every member of the cluster that the target belongs to. Raises NoAnswer, ErrorReply or ConfigError."""
    return ask_each(targets(target), sections)


def ask_each(members: Sequence[tuple[str, str, Target]], sections: Sequence[str] = _SECTIONS) -> list[Node]:
    """Return what each of these members says of itself."""
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        return list(pool.map(lambda member: ask(member[0], member[1], member[2], sections), members))


def ask(node_id: str, address: str, target: Target, sections: Sequence[str] = _SECTIONS) -> Node:
    """Return what one node says of itself."""
    try:
        with target.connect() as client:
            return Node(node_id, address, client.info(*sections))
    except (NoAnswer, ErrorReply) as error:
        return Node(node_id, address, problem=str(error))


def leader_of(nodes: Sequence[Node]) -> Node | None:
    """Return the node that says it leads in the highest term, or None."""
    claims = [node for node in nodes if node.role == "leader"]
    return max(claims, key=lambda node: node.number("raft_current_term"), default=None)


def plain(value: Any) -> Any:
    """Return a RESP reply with its bytes as text, for messages and JSON."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, list):
        return [plain(each) for each in value]
    return value


def as_dict(reply: Any) -> dict[str, Any]:
    """Return a flat RESP2 list of names and values as a dictionary. Raises ConfigError where it is none."""
    if not isinstance(reply, list) or len(reply) % 2:
        raise ConfigError("the server answered something else than a list of names and values")
    words = plain(reply)
    return dict(zip(words[::2], words[1::2], strict=True))
