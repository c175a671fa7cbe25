"""Who is in the cluster: `id=host:port` and `id=host:port@peerport`, Redis's notation for the two ports of a node."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from zattredis.errors import ConfigError

PEER_PORT_OFFSET: Final = 10_000
"""The peer port, unless named, is the client port plus this, as in Redis Cluster."""

PORT_MAX: Final = 65_535
NODE_ID_LENGTH_MAX: Final = 64

_NODE_ID: Final = re.compile(r"[A-Za-z0-9_.:\[\]-]+")
_HOST_NAME: Final = re.compile(
    r"(?=.{1,253}\Z)[A-Za-z0-9_]([A-Za-z0-9_-]{0,62})(\.[A-Za-z0-9_]([A-Za-z0-9_-]{0,62}))*\.?"
)


@dataclass(frozen=True, slots=True)
class Member:
    """One voter: its id, the host others reach it at, its client port and its peer port."""

    node_id: str
    host: str
    port: int
    peer_port: int

    @property
    def address(self) -> str:
        """`host:port@peerport`, an IPv6 host in brackets; `parse_address` reads it back."""
        return f"{bracketed(self.host)}:{self.port}@{self.peer_port}"

    def __str__(self) -> str:
        return f"{self.node_id}={self.address}"


@dataclass(frozen=True, slots=True)
class Seed:
    """Where some node of a cluster can be asked."""

    host: str
    port: int
    peer_port: int

    def __str__(self) -> str:
        return f"{bracketed(self.host)}:{self.port}@{self.peer_port}"


def parse_seeds(text: str | Iterable[str]) -> tuple[Seed, ...]:
    """Return the addresses in a comma-separated list, each host:port or host:port@peerport. Raises ConfigError."""
    parts = text.split(",") if isinstance(text, str) else list(text)
    found = (parse_address("seed", part) for part in parts if part.strip())
    return tuple(Seed(member.host, member.port, member.peer_port) for member in found)


def bracketed(host: str) -> str:
    """Return `host` as it stands before a `:port`: an IPv6 address in brackets, anything else unchanged."""
    return f"[{host}]" if ":" in host else host


def check_node_id(node_id: str) -> str:
    """Return `node_id`. Raises ConfigError when it is empty, too long or holds a character the notation needs."""
    if not node_id:
        raise ConfigError("a node id must not be empty")
    if len(node_id) > NODE_ID_LENGTH_MAX:
        raise ConfigError(f"node id {node_id[:20]!r}… has {len(node_id)} characters; at most {NODE_ID_LENGTH_MAX}")
    if not _NODE_ID.fullmatch(node_id):
        raise ConfigError(f"node id {node_id!r} may hold only letters, digits and _ - . : [ ]")
    return node_id


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """Return an IP address; of an IPv4 address written as IPv6 the IPv4 address. Raises ValueError.

    Only since Python 3.13 is what is said of the one true of the other.
    """
    address = ipaddress.ip_address(text)
    return getattr(address, "ipv4_mapped", None) or address


def is_loopback(host: str) -> bool:
    """Return whether an address, or `localhost`, is of the machine itself. Other names are not looked up."""
    try:
        return _address(host).is_loopback
    except ValueError:
        return host == "localhost"


def check_host(host: str, listening: bool = False) -> str:
    """Return `host`. Raises ConfigError unless it is an IP address or looks like a host name.

    0.0.0.0 and :: are addresses only to listen on.
    """
    if not host:
        raise ConfigError("the host is missing; write host:port, for example 127.0.0.1:7001")
    try:
        address = _address(host)
    except ValueError:
        if not _HOST_NAME.fullmatch(host):
            hint = "; write an IPv6 address in brackets, like [::1]:7001" if ":" in host else ""
            raise ConfigError(f"{host!r} is neither an IP address nor a host name{hint}") from None
        if re.fullmatch(r"[0-9.]+", host):
            raise ConfigError(f"{host!r} is not an IP address") from None
        return host
    if address.is_unspecified and not listening:
        raise ConfigError(
            f'{host} is no address that others could connect to; to listen everywhere, use bind = "{host}"'
        )
    return host


def parse_port(text: str, what: str = "port") -> int:
    """Return the port in `text`. Raises ConfigError unless it is 1 to 65535; `what` names it."""
    if not (text.isascii() and text.isdigit()):
        raise ConfigError(f"{what} {text!r} is not a number")
    port = int(text[:6])
    if not 1 <= port <= PORT_MAX:
        raise ConfigError(f"{what} {text} is not between 1 and {PORT_MAX}")
    return port


def default_peer_port(port: int) -> int:
    """Return port + 10000. Raises ConfigError, with the remedy, when that is no port."""
    if port + PEER_PORT_OFFSET > PORT_MAX:
        raise ConfigError(
            f"peer port {port + PEER_PORT_OFFSET} (port {port} + {PEER_PORT_OFFSET}) is above {PORT_MAX}; "
            "choose a lower port or name the peer port (host:port@peerport, or --peer-port)"
        )
    return port + PEER_PORT_OFFSET


def split_host_port(text: str) -> tuple[str, str]:
    """Return (host, port text) of `host:port`, `[v6]:port`, or a host alone (port text empty)."""
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")) or ":" not in host:
            raise ConfigError(f"{text!r} is not of the form [IPv6 address]:port")
        return host, rest[1:]
    if text.count(":") > 1:
        raise ConfigError(f"{text!r} has more than one colon; write an IPv6 address in brackets, like [::1]:7001")
    host, _, port = text.partition(":")
    return host, port


def parse_address(node_id: str, text: str) -> Member:
    """Return the member `node_id` at `host:port` or `host:port@peerport`. Raises ConfigError."""
    address, at, peer_text = text.strip().partition("@")
    host, port_text = split_host_port(address)
    if not port_text:
        raise ConfigError(f"{text!r} names no port; write host:port, for example 127.0.0.1:7001")
    port = parse_port(port_text)
    peer_port = parse_port(peer_text, "peer port") if at else default_peer_port(port)
    return Member(check_node_id(node_id), check_host(host), port, peer_port)


def parse_member(text: str) -> Member:
    """Return the member in `id=host:port` or `id=host:port@peerport`. Raises ConfigError."""
    node_id, equals, address = text.strip().partition("=")
    if not equals:
        raise ConfigError(f"cluster member {text.strip()!r} is not of the form id=host:port or id=host:port@peerport")
    try:
        return parse_address(node_id.strip(), address)
    except ConfigError as error:
        raise ConfigError(f"cluster member {text.strip()!r}: {error}") from None


def parse_cluster(text: str | Iterable[str]) -> tuple[Member, ...]:
    """Return the members of a comma-separated list (or of a sequence of single members), in their order.

    Raises ConfigError for a malformed member and for two members that share an id or an endpoint.
    """
    parts = text.split(",") if isinstance(text, str) else list(text)
    return check_members(parse_member(part) for part in parts if part.strip())


def check_members(members: Iterable[Member]) -> tuple[Member, ...]:
    """Return `members` as a tuple. Raises ConfigError when two share an id, or any two endpoints are the same."""
    checked = tuple(members)
    ids: set[str] = set()
    endpoints: dict[tuple[str, int], str] = {}
    for member in checked:
        if member.node_id in ids:
            raise ConfigError(f"cluster names node {member.node_id!r} twice; give every node an id of its own")
        ids.add(member.node_id)
        for port in (member.port, member.peer_port):
            other = endpoints.setdefault((member.host.lower(), port), member.node_id)
            if other != member.node_id:
                raise ConfigError(
                    f"cluster members {other!r} and {member.node_id!r} both use {bracketed(member.host)}:{port}; "
                    "every client port and peer port of one host must be different"
                )
        if member.port == member.peer_port:
            raise ConfigError(f"cluster member {member.node_id!r} uses port {member.port} for clients and for peers")
    return checked
