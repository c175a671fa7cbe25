"""Where the nodes are and how to connect: addresses, URLs, TLS, user, password, timeouts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias
from urllib.parse import unquote, urlsplit

from redis.connection import parse_url

_parse_url: Any = parse_url  # untyped in redis-py
DEFAULT_PORT = 6379  # that of zattd on its own, and of redis://
Address: TypeAlias = str | tuple[str, int]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One node: the words for redis-py's connection, `kind` its transport (tcp, tls, unix)."""

    name: str
    kind: str
    words: dict[str, Any] = field(hash=False)


@dataclass(frozen=True, slots=True)
class Security:
    """User, password and TLS, for every address that does not bring its own."""

    username: str | None = None
    password: str | None = None
    tls: bool = False
    tls_ca_file: str | None = None
    tls_cert_file: str | None = None
    tls_key_file: str | None = None
    tls_check_hostname: bool = True

    def __post_init__(self) -> None:
        if not self.tls and (self.tls_ca_file or self.tls_cert_file or self.tls_key_file):
            raise ValueError("tls_ca_file, tls_cert_file and tls_key_file need tls=True")


_OF_POOLS = ("max_connections", "timeout", "retry_on_timeout", "retry_on_error", "health_check_interval")
"""What a URL may say to redis-py's pools, whose work is done here."""

_KINDS = {"Connection": "tcp", "SSLConnection": "tls", "UnixDomainSocketConnection": "unix"}


def _split(text: str, port: int) -> tuple[str, int]:
    """Return host and port of `host`, `host:port`, `[v6]:port` or a bare IPv6 address. Raises ValueError."""
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            raise ValueError(f"{text!r} is not an address")
        return host, int(rest[1:]) if rest else port
    if text.count(":") == 1:
        host, _, digits = text.partition(":")
        if not digits.isdigit():
            raise ValueError(f"{text!r} is not host:port")
        return host, int(digits)
    return text, port


def _tls_words(security: Security) -> dict[str, Any]:
    return {
        "ssl_cert_reqs": "required",
        "ssl_ca_certs": security.tls_ca_file,
        "ssl_certfile": security.tls_cert_file,
        "ssl_keyfile": security.tls_key_file,
        "ssl_check_hostname": security.tls_check_hostname,
    }


def endpoint(address: Address, port: int, security: Security) -> Endpoint:
    """Return how to reach one address. Raises ValueError or TypeError."""
    words: dict[str, Any] = {"username": security.username, "password": security.password, "db": 0}
    kind = "tls" if security.tls else "tcp"
    if isinstance(address, str) and "://" in address:
        found: dict[str, Any] = dict(_parse_url(address))
        parts = urlsplit(address)
        database = unquote(parts.path).strip("/")
        if parts.scheme != "unix" and database and not database.isdecimal():
            raise ValueError(f"{database!r} in the URL is no number of a database")
        if "connection_class" in found:
            kind = _KINDS[found.pop("connection_class").__name__]
        for option in _OF_POOLS:
            found.pop(option, None)
        words |= found
        if kind != "unix":
            words = {"host": "localhost", "port": port} | words
    else:
        host, number = _split(address, port) if isinstance(address, str) else (address[0], int(address[1]))
        if not host or not isinstance(number, int) or not 0 < number < 65536:
            raise ValueError(f"{address!r} with port {number!r} is not an address")
        words |= {"host": host, "port": number}
    if kind == "tls":
        words = _tls_words(security) | words
    name = str(words.get("path") or f"{words['host']}:{words['port']}")
    return Endpoint(name, kind, words)


@dataclass(frozen=True, slots=True)
class Options:
    """Everything the transport needs."""

    endpoints: tuple[Endpoint, ...]
    timeout_s: float
    connect_timeout_s: float
    deadline_s: float
    attempts: int | None

    def words(self, number: int) -> dict[str, Any]:
        """Return the arguments of redis-py's connection class for one endpoint (without its retry)."""
        words: dict[str, Any] = {
            "socket_timeout": self.timeout_s,
            "socket_connect_timeout": self.connect_timeout_s,
        }
        return words | self.endpoints[number].words | {"protocol": 2, "decode_responses": False}


def read_options(
    address: Address | Sequence[Address],
    port: int | None,
    security: Security,
    timeout: float,
    connect_timeout: float,
    deadline: float,
    attempts: int | None,
) -> Options:
    """Return the options. Raises ValueError for what cannot be meant."""
    listed: list[Any] = [address] if isinstance(address, str) else list(address)
    if len(listed) == 2 and isinstance(listed[1], int):
        listed = [(str(listed[0]), listed[1])]  # one ("host", port)
    if not listed:
        raise ValueError("at least one address is needed")
    if timeout <= 0 or connect_timeout <= 0 or deadline < 0:
        raise ValueError("timeouts are positive numbers of seconds")
    if attempts is not None and attempts < 0:
        raise ValueError("append_retry_attempts is not negative")
    default = DEFAULT_PORT if port is None else port
    endpoints = tuple(endpoint(item, default, security) for item in listed)
    return Options(endpoints, timeout, connect_timeout, deadline, attempts)
