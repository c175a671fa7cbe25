"""TLS between nodes: which contexts, who the other side's certificate says it is, and errors in words.

`PeerTls` is what one node's peer port demands: certificates of one authority on both sides (`from_files`), or no
certificate that anybody believes, with the cluster secret proved over the encryption (`from_secret`). Both are TLS 1.3
only, without session tickets. `reload` swaps the contexts; connections that stand keep theirs.

A node's certificate names it by the URI `zattredis://NODE-ID` in its subjectAltName. Host names, the common name and
everything else in it count for nothing: a certificate of the same authority that was made for a web server, or for a
client of the database, makes nobody a node.
"""

from __future__ import annotations

import re
import ssl
import tempfile
from dataclasses import dataclass
from typing import Any, Final

from zattredis.errors import ConfigError, HandshakeRefused
from zattredis.peer.throwaway import make_throwaway

NODE_URI: Final = "zattredis://"
"""A certificate's subjectAltName URI is this and the node id."""


@dataclass(frozen=True, slots=True)
class Files:
    """Where a certificate, its key and the authority of the other side are. Texts are empty where not given."""

    cert_file: str
    key_file: str
    ca_cert_file: str = ""
    ca_cert_dir: str = ""
    key_file_pass: str = ""


@dataclass(frozen=True, slots=True)
class Channel:
    """What is known of an encrypted connection: `binding` is bytes that both its ends have and no other connection has.

    node_ids: the nodes that the other side's certificate is for; None where certificates are not used.
    """

    binding: bytes = b""
    node_ids: frozenset[str] | None = None


PLAIN: Final = Channel()


class PeerTls:
    """The contexts of one node's peer links. Read them at each connection: `reload` replaces them."""

    __slots__ = ("_files", "_node_id", "accepting", "connecting", "valid_until")

    def __init__(self, node_id: str, files: Files | None) -> None:
        self._node_id = node_id
        self._files = files
        self.accepting: ssl.SSLContext
        self.connecting: ssl.SSLContext
        self.valid_until = ""
        """Until when this node's own certificate holds, as it says itself; empty without certificates."""
        self.reload(files)

    @classmethod
    def from_secret(cls) -> PeerTls:
        """Return TLS that hides and protects, and says nothing of who the other side is."""
        return cls("", None)

    @classmethod
    def from_files(cls, node_id: str, files: Files) -> PeerTls:
        """Return mutual TLS for this node. Raises ConfigError when the certificate would not be accepted by itself."""
        return cls(node_id, files)

    @property
    def certificates(self) -> bool:
        """Whether the other side is known by its certificate."""
        return self._files is not None

    def reload(self, files: Files | None) -> None:
        """Take the certificates as they are now. Raises ConfigError, with everything as it was.

        They are tried first: a node whose certificate has expired, is for another node or was made by another authority
        says so itself, before all the others do.
        """
        accepting = _context(ssl.PROTOCOL_TLS_SERVER)
        connecting = _context(ssl.PROTOCOL_TLS_CLIENT)
        connecting.check_hostname = False
        accepting.num_tickets = 0
        valid_until = ""
        if files is None:
            connecting.verify_mode = ssl.CERT_NONE
            with tempfile.NamedTemporaryFile("w", suffix=".pem") as file:
                file.write(make_throwaway())
                file.flush()
                accepting.load_cert_chain(file.name)
        else:
            for context in (accepting, connecting):
                load_files(context, files)
                context.verify_mode = ssl.CERT_REQUIRED
            valid_until = self._try(accepting, connecting, files)
        self.accepting, self.connecting, self._files, self.valid_until = accepting, connecting, files, valid_until

    def _try(self, accepting: ssl.SSLContext, connecting: ssl.SSLContext, files: Files) -> str:
        """Connect to oneself, in memory; return the certificate's end. Raises ConfigError."""
        to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
        client = connecting.wrap_bio(to_client, to_server)
        server = accepting.wrap_bio(to_server, to_client, server_side=True)
        for _ in range(4):
            for side in (client, server):
                try:
                    side.do_handshake()
                except ssl.SSLWantReadError:
                    continue
                except ssl.SSLError as error:
                    why = in_words(error)
                    raise ConfigError(f"{files.cert_file} would be refused by the other nodes: {why}") from None
        certificate = client.getpeercert() or {}
        ids = node_ids_of(certificate)
        if self._node_id not in ids:
            names = f"is for {', '.join(sorted(ids))}" if ids else "names no node"
            raise ConfigError(
                f"{files.cert_file} {names}; the certificate of this node has to hold "
                f"subjectAltName = URI:{NODE_URI}{self._node_id}"
            )
        return str(certificate.get("notAfter", ""))

    def channel(self, tls: ssl.SSLObject | None) -> Channel:
        """Return what is known of a connection whose TLS is set up. Raises HandshakeRefused without encryption."""
        binding = None if tls is None else tls.get_channel_binding("tls-unique")
        if tls is None or not binding:
            raise HandshakeRefused("the connection is not encrypted")
        if self._files is None:
            return Channel(binding)
        return Channel(binding, node_ids_of(tls.getpeercert() or {}))


def _context(protocol: ssl._SSLMethod) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    return context


def load_files(context: ssl.SSLContext, files: Files) -> None:
    """Load certificate, key and authority. Raises ConfigError with one line that names the file."""
    password = files.key_file_pass or _no_password
    try:
        context.load_cert_chain(files.cert_file, files.key_file or None, password)
    except _NoPassword:
        raise ConfigError(f"{files.key_file}: the key is encrypted; give tls_key_file_pass") from None
    except ssl.SSLError as error:
        where = f"{files.cert_file} with {files.key_file}" if files.key_file else files.cert_file
        raise ConfigError(f"{where}: {in_words(error)}") from None
    except OSError as error:
        where = next((path for path in (files.cert_file, files.key_file) if path and not _readable(path)), "")
        raise ConfigError(f"cannot read {where or files.cert_file}: {error.strerror}") from None
    if files.ca_cert_file or files.ca_cert_dir:
        where = files.ca_cert_file or files.ca_cert_dir
        try:
            context.load_verify_locations(files.ca_cert_file or None, files.ca_cert_dir or None)
        except ssl.SSLError as error:
            raise ConfigError(f"{where}: {in_words(error)}") from None
        except OSError as error:
            raise ConfigError(f"cannot read {where}: {error.strerror}") from None


class _NoPassword(Exception):
    """OpenSSL asks for a password, and there is none. Without this it would ask on the terminal."""


def _no_password() -> str:
    raise _NoPassword


def _readable(path: str) -> bool:
    try:
        with open(path, "rb"):
            return True
    except OSError:
        return False


def node_ids_of(certificate: dict[str, Any]) -> frozenset[str]:
    """Return the nodes that a certificate (as `SSLObject.getpeercert` gives it) is for."""
    names = certificate.get("subjectAltName", ())
    return frozenset(name[len(NODE_URI) :] for kind, name in names if kind == "URI" and name.startswith(NODE_URI))


_WORDS: Final = {
    "WRONG_VERSION_NUMBER": "the other side does not speak TLS",
    "HTTP_REQUEST": "HTTP was sent, not TLS",
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": "the other side has no certificate",
    "TLSV13_ALERT_CERTIFICATE_REQUIRED": "the other side wants a certificate, and got none",
    "SSLV3_ALERT_CERTIFICATE_EXPIRED": "the other side refuses our certificate: it has expired",
    "TLSV1_ALERT_UNKNOWN_CA": "the other side refuses our certificate: it does not know the authority that made it",
    "SSLV3_ALERT_BAD_CERTIFICATE": "the other side refuses our certificate",
    "SSLV3_ALERT_CERTIFICATE_UNKNOWN": "the other side refuses our certificate",
    "SSLV3_ALERT_UNSUPPORTED_CERTIFICATE": "the other side refuses our certificate: it is not made for this use",
    "TLSV1_ALERT_PROTOCOL_VERSION": "the two sides have no version of TLS in common",
    "UNSUPPORTED_PROTOCOL": "the two sides have no version of TLS in common",
    "NO_SHARED_CIPHER": "the two sides have no cipher in common",
    "SSLV3_ALERT_HANDSHAKE_FAILURE": "the other side could not agree on a cipher, or wants a certificate",
    "DECRYPTION_FAILED_OR_BAD_RECORD_MAC": "bytes were changed on the way, or played back",
    "RECORD_LAYER_FAILURE": "bytes were changed on the way, or played back",  # the last word of OpenSSL since 3.2
    "SSLV3_ALERT_BAD_RECORD_MAC": "bytes were changed on the way, or played back",
    "KEY_VALUES_MISMATCH": "the key does not belong to the certificate",
    "NO_CERTIFICATE_OR_CRL_FOUND": "there is no certificate in it",
    "EE_KEY_TOO_SMALL": "the key is too short",
    "BAD_DECRYPT": "the key's password is wrong",
}
"""OpenSSL's reasons, which few people know by heart, and who is meant by them."""


def in_words(error: OSError) -> str:
    """Return an error of TLS, or of the connection below it, as one short line."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is refused: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        reason = error.reason or ""
        plain = re.sub(r"^\[[^]]*\] | \(_ssl\.c:\d+\)$", "", str(error))
        return _WORDS.get(reason, plain)
    return error.strerror or str(error) or type(error).__name__
