"""A blocking connection to a Redis server, for many commands under way at once.

Named by a URL as redis-py and redis-cli take it: redis://, rediss:// (TLS) and unix://, with user, password, database.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any, Final, TypeAlias
from urllib.parse import parse_qs, unquote, urlsplit

import hiredis

from zattredis.cli.resp_client import ErrorReply, NoAnswer
from zattredis.cli.tls import context_of
from zattredis.errors import ConfigError

SCHEMES: Final = ("redis", "rediss", "unix")
_PORT: Final = 6379
_RECEIVE_BYTES: Final = 1 << 18
Words: TypeAlias = tuple[bytes | str | int, ...]
pack: Final[Callable[[Words], bytes]] = hiredis.pack_command  # type: ignore[assignment]  # typed too narrowly there


@dataclass(frozen=True, slots=True)
class Tls:
    """How a TLS connection is checked: files in PEM form, `insecure`: not at all."""

    ca_file: str | None = None
    cert_file: str | None = None
    key_file: str | None = None
    insecure: bool = False

    def context(self) -> ssl.SSLContext:
        """Return the context. Raises ConfigError for files that cannot be read."""
        try:
            return context_of(self.ca_file or "", self.cert_file or "", self.key_file or "", "", self.insecure)
        except ConfigError as error:
            raise ConfigError(f"TLS: {error}") from None


@dataclass(frozen=True, slots=True)
class Address:
    """Where a server is, and as whom one comes. `where` is what messages say: never a password."""

    host: str = "127.0.0.1"
    port: int = _PORT
    user: str = ""
    password: str = ""
    db: int | None = None
    path: str = ""
    tls: Tls | None = None

    @property
    def where(self) -> str:
        """Return host:port, or the path of the socket."""
        return self.path or f"{self.host}:{self.port}"

    def with_db(self, db: int) -> Address:
        """Return the same with a database."""
        return replace(self, db=db)

    @classmethod
    def of_url(cls, url: str, tls: Tls) -> Address:
        """Return the address that a URL names. Raises ConfigError, whose text does not repeat the URL's password."""
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError as error:
            raise ConfigError(f"the URL of the server is wrong: {error}") from None
        if parts.scheme not in SCHEMES:
            raise ConfigError("the URL of a server begins with redis://, rediss:// or unix://")
        if parts.fragment:
            raise ConfigError("a # in a URL's password is written %23")
        made = cls(user=unquote(parts.username or ""), password=unquote(parts.password or ""))
        options = {name: values[-1] for name, values in parse_qs(parts.query).items()}
        number = options.pop("db", None)
        if options:
            raise ConfigError(f"unknown option {next(iter(options))} in the URL (db is known)")
        if parts.scheme == "unix":
            made = replace(made, path=unquote(parts.path))
        else:
            made = replace(made, host=unquote(parts.hostname or made.host), port=port or _PORT)
            number = number or parts.path.strip("/") or None
        if number is not None:
            if not number.isdecimal():
                raise ConfigError(f"{number!r} in the URL is no number of a database")
            made = replace(made, db=int(number))
        return replace(made, tls=tls) if parts.scheme == "rediss" else made


class Pipe:
    """One connection. `send` and `read` in any rhythm; each raises NoAnswer when the connection is of no use."""

    def __init__(self, address: Address, timeout_s: float) -> None:
        """Connect and authenticate. Raises NoAnswer, ErrorReply or ConfigError."""
        self.address = address
        self.db = 0
        self._reader = hiredis.Reader()
        context = address.tls.context() if address.tls is not None else None
        try:
            if address.path:
                self._socket = socket.socket(socket.AF_UNIX)
                self._socket.settimeout(timeout_s)
                self._socket.connect(address.path)
            else:
                self._socket = socket.create_connection((address.host, address.port), timeout=timeout_s)
                self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if context is not None:
                self._socket = context.wrap_socket(self._socket, server_hostname=address.host)
        except OSError as error:
            raise NoAnswer(f"cannot connect to {address.where}: {_reason(error)}") from None
        try:
            if address.password or address.user:
                self.call("AUTH", *([address.user] if address.user else []), address.password)
        except BaseException:
            self.close()
            raise

    def send(self, commands: Iterable[Words]) -> None:
        """Send commands; their replies are read later."""
        self.send_packed(b"".join(map(pack, commands)))

    def send_packed(self, data: bytes) -> None:
        """Send commands that `pack` made."""
        try:
            self._socket.sendall(data)
        except OSError as error:
            raise self._broken(error) from None

    def read(self) -> Any:
        """Return the next reply; an error reply is a value, hiredis.ReplyError."""
        reader = self._reader
        try:
            while (reply := reader.gets()) is False:
                reader.feed(self._receive())
        except hiredis.ProtocolError:
            raise NoAnswer(f"{self.address.where} does not speak the Redis protocol") from None
        return reply

    def call(self, *words: bytes | str | int) -> Any:
        """Send one command and return its reply. Raises ErrorReply."""
        self.send([words])
        reply = self.read()
        if isinstance(reply, hiredis.ReplyError):
            raise ErrorReply(f"{self.address.where} answered {words[0]!s}: {reply}")
        return reply

    def stream(self, *words: bytes | str | int) -> Iterator[Any]:
        """Send one command whose reply is an array, and yield its elements as they come: the array is never whole.

        Raises ErrorReply, and NoAnswer if the connection ends before the last element.
        """
        self.send([words])
        kept = b""
        while b"\r\n" not in kept:
            kept += self._receive()
        head, _, rest = kept.partition(b"\r\n")
        if head.startswith(b"-"):
            raise ErrorReply(f"{self.address.where} answered {words[0]!s}: {head[1:].decode(errors='replace')}")
        if not head.startswith(b"*"):
            raise NoAnswer(f"{self.address.where} answered {words[0]!s} with something else")
        self._reader.feed(rest)
        for _ in range(int(head[1:])):
            element = self.read()
            if isinstance(element, hiredis.ReplyError):
                raise ErrorReply(f"{self.address.where} answered {words[0]!s}: {element}")
            yield element

    def _receive(self) -> bytes:
        try:
            data: bytes = self._socket.recv(_RECEIVE_BYTES)
        except OSError as error:
            raise self._broken(error) from None
        if not data:
            raise NoAnswer(f"{self.address.where} closed the connection")
        return data

    def select(self, db: int) -> None:
        """Change to a database, if it is another. Raises ErrorReply."""
        if db != self.db:
            self.call("SELECT", db)
            self.db = db

    def info(self, section: str) -> dict[str, str]:
        """Return a section of INFO as name → value."""
        text = self.call("INFO", section)
        lines = text.decode(errors="replace").splitlines() if isinstance(text, bytes) else []
        return {name: value for name, colon, value in (line.partition(":") for line in lines) if colon}

    def databases(self) -> dict[int, int]:
        """Return the databases that hold keys: number → keys."""
        found = {}
        for name, value in self.info("keyspace").items():
            if name.startswith("db") and name[2:].isdecimal():
                found[int(name[2:])] = int(value.partition("keys=")[2].partition(",")[0])
        return dict(sorted(found.items()))

    def close(self) -> None:
        """Close the connection."""
        with contextlib.suppress(OSError):
            self._socket.close()

    def _broken(self, error: OSError) -> NoAnswer:
        return NoAnswer(f"no answer from {self.address.where}: {_reason(error)}")

    def __enter__(self) -> Pipe:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _reason(error: OSError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not accepted: {error.verify_message}"
    return "timed out" if isinstance(error, TimeoutError) else (error.strerror or str(error))
