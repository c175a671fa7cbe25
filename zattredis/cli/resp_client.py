"""The smallest client that the commands need: one blocking connection, one command at a time, a limit on its time."""

from __future__ import annotations

import socket
import ssl
import time
from types import TracebackType
from typing import Any

import hiredis

from zattredis.cli.tls import names_to_check
from zattredis.errors import ZattredisError


class NoAnswer(ZattredisError):
    """The node cannot be reached, closed the connection or did not answer in time; the text says which."""


class ErrorReply(ZattredisError):
    """The node answered with an error; the text is what it said."""

    outcome_unknown = False
    """True where the server does not know whether what was asked for will be done."""


class RespClient:
    """One connection to one node. Every method raises NoAnswer, and ErrorReply for an error reply."""

    def __init__(
        self, host: str, port: int, password: str = "", timeout_s: float = 2.0, *, user: str = "",
        tls: ssl.SSLContext | None = None,
    ) -> None:  # fmt: skip
        """Connect, over TLS if there is a context, and authenticate when a password (or a user) is given."""
        self._where = f"{host}:{port}"
        self._timeout_s = timeout_s
        self._reader = hiredis.Reader()
        self._heard = False
        try:
            self._socket = socket.create_connection((host, port), timeout=timeout_s)
        except OSError as error:
            raise NoAnswer(f"cannot connect to {self._where}: {_reason(error)}") from None
        if tls is not None:
            self._speak_tls(tls, host)
        if password or user:
            try:
                self.call("AUTH", *([user] if user else []), password)
            except BaseException:
                self.close()
                raise

    def _speak_tls(self, tls: ssl.SSLContext, host: str) -> None:
        plain = self._socket
        try:
            self._socket = names_to_check(tls, host).wrap_socket(plain, server_hostname=host)
        except OSError as error:
            plain.close()
            raise NoAnswer(f"no TLS with {self._where}: {_reason(error)}") from None

    def call(self, *words: str | bytes, timeout_s: float | None = None) -> Any:
        """Send one command and return its reply: bytes, int, None or a list of these."""
        patience_s = timeout_s or self._timeout_s
        parts = [word.encode() if isinstance(word, str) else word for word in words]
        request = b"".join([b"*%d\r\n" % len(parts), *(b"$%d\r\n%b\r\n" % (len(part), part) for part in parts)])
        deadline = time.monotonic() + patience_s
        try:
            self._socket.settimeout(patience_s)
            self._socket.sendall(request)
            while (reply := self._reader.gets()) is False:
                self._socket.settimeout(max(0.001, deadline - time.monotonic()))
                data = self._socket.recv(262_144)
                if not data:
                    raise NoAnswer(f"{self._where} closed the connection{self._why_closed()}")
                self._heard = True
                self._reader.feed(data)
        except OSError as error:
            why = "" if isinstance(error, TimeoutError) else self._why_closed()
            raise NoAnswer(f"no answer from {self._where}: {_reason(error)}{why}") from None
        except hiredis.ProtocolError:
            raise NoAnswer(f"{self._where} does not speak the Redis protocol") from None
        if isinstance(reply, hiredis.ReplyError):
            refused = ErrorReply(f"{self._where} answered: {reply}")
            refused.outcome_unknown = str(reply).startswith("TIMEOUT ")
            raise refused
        return reply

    def _why_closed(self) -> str:
        """Return what may be behind a connection over TLS that is closed: TLS 1.3 asks for a certificate that late."""
        if self._heard or not isinstance(self._socket, ssl.SSLSocket):
            return ""
        return "; does it want a certificate (--cert) of an authority that it knows, and not expired?"

    def info(self, *sections: str) -> dict[str, str]:
        """Return the lines of these sections of INFO as name → value.

        A name ends at the first colon, but that of a member (`raft_member_ID:address=…`) may hold some in the id.
        """
        text = self.call("INFO", *sections)
        if not isinstance(text, bytes):
            raise NoAnswer(f"{self._where} answered INFO with something else")
        found = {}
        for line in text.decode(errors="replace").splitlines():
            name, colon, value = line.partition(":address=" if line.startswith("raft_member_") else ":")
            if colon:
                found[name] = colon[1:] + value
        return found

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()

    def __enter__(self) -> RespClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _reason(error: OSError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is refused: {error.verify_message}"
    return "timed out" if isinstance(error, TimeoutError) else (error.strerror or str(error))
