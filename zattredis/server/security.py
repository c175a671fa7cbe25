"""Certificates of a running node: for its clients, for the other nodes, and how they are replaced.

Both follow the settings: CONFIG SET of a tls_… setting, and SIGHUP (`server.reloading`), make new contexts, try them,
and put them in force for later connections. What cannot be loaded changes nothing. Connections that stand are
never dropped: whoever's certificate was good when it came stays until it goes.
"""

from __future__ import annotations

import contextlib
import hashlib
import ssl
from pathlib import Path
from typing import Final

from zattredis.config import Settings, is_loopback
from zattredis.errors import ConfigError, DefiniteError, FatalError
from zattredis.observability.events import get_logger
from zattredis.peer.tls import Files, PeerTls, load_files

HANDSHAKE_S: Final = 10.0
STRANGERS_MAX: Final = 512
"""Clients whose TLS is not set up; the one that says nothing for longest makes room for the next."""
SECRET_BYTES_MIN: Final = 16
"""A shorter cluster_secret is warned of: whoever can play a listening node may guess at it at leisure."""

_SETTINGS: Final = (
    "tls_cert_file", "tls_key_file", "tls_key_file_pass", "tls_ca_cert_file", "tls_ca_cert_dir", "tls_auth_clients",
    "tls_protocols", "tls_ciphers", "tls_cluster_cert_file", "tls_cluster_key_file", "tls_cluster_ca_cert_file",
)  # fmt: skip

_WRONG_TIME: Final = (9, 10)
"""OpenSSL's codes for certificates that are not valid yet, or no more."""
_VERIFY: Final = {"no": ssl.CERT_NONE, "optional": ssl.CERT_OPTIONAL, "yes": ssl.CERT_REQUIRED}

_log = get_logger(room="tls")


def answer_to_plain(data: bytes) -> bytes:
    """Return what a client is told that speaks plain Redis, or HTTP, where TLS is wanted."""
    return b"-ERR this port speaks TLS: use redis-cli --tls, or rediss://\r\n"


def peer_tls(settings: Settings) -> PeerTls | None:
    """Return what links to other nodes demand; None where they are plain. Raises ConfigError."""
    if settings.tls_cluster == "yes":
        return PeerTls.from_files(settings.node_id, peer_files(settings))
    return PeerTls.from_secret() if settings.cluster_secret else None


def peer_files(settings: Settings) -> Files:
    """Return where the certificates for the other nodes are."""
    own = bool(settings.tls_cluster_cert_file)
    return Files(
        settings.tls_cluster_cert_file or settings.tls_cert_file,
        settings.tls_cluster_key_file if own else settings.tls_key_file,
        settings.tls_cluster_ca_cert_file or settings.tls_ca_cert_file,
        "" if settings.tls_cluster_ca_cert_file else settings.tls_ca_cert_dir,
        settings.tls_key_file_pass,
    )


def client_context(settings: Settings) -> ssl.SSLContext:
    """Return the context of the client TLS port. Raises ConfigError with one line that names the file."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    versions = {"TLSv1.2": ssl.TLSVersion.TLSv1_2, "TLSv1.3": ssl.TLSVersion.TLSv1_3}
    wanted = [versions[word] for word in settings.tls_protocols.split()]
    context.minimum_version, context.maximum_version = min(wanted), max(wanted)
    context.options |= ssl.OP_NO_RENEGOTIATION
    if settings.tls_ciphers:
        try:
            context.set_ciphers(settings.tls_ciphers)
        except ssl.SSLError:
            raise ConfigError(f"tls_ciphers: OpenSSL knows none of {settings.tls_ciphers!r}") from None
    files = Files(
        settings.tls_cert_file, settings.tls_key_file, settings.tls_ca_cert_file, settings.tls_ca_cert_dir,
        settings.tls_key_file_pass,
    )  # fmt: skip
    load_files(context, files)
    context.verify_mode = _VERIFY[settings.tls_auth_clients]
    return context


def _validity(files: Files) -> tuple[str, str]:
    """Return until when a certificate for clients is good, and what is wrong with its time: one is always empty.

    OpenSSL looks at the time only where it verifies, so two ends in memory do: one shows it, the other trusts it alone.
    """
    try:
        showing, looking = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        load_files(showing, files)
        looking.check_hostname = False
        looking.load_verify_locations(files.cert_file)
        looking.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
        client = looking.wrap_bio(to_client, to_server)
        server = showing.wrap_bio(to_server, to_client, server_side=True)
        for end in (client, server, client):
            with contextlib.suppress(ssl.SSLWantReadError):
                end.do_handshake()
        return str((client.getpeercert() or {}).get("notAfter", "")), ""
    except ssl.SSLCertVerificationError as error:
        return "", error.verify_message if error.verify_code in _WRONG_TIME else ""
    except (OSError, ConfigError, ValueError):  # odd, and for a client to judge
        return "", ""


class Security:
    """One per node. `peers` and `clients` are what new connections use; None where they are plain."""

    __slots__ = ("_digest", "_settings", "clients", "peers")

    def __init__(self, settings: Settings, peers: PeerTls | None) -> None:
        """`peers`: what `peer_tls` returned. Raises FatalError when a certificate cannot be used."""
        self._settings = settings
        self.peers = peers
        try:
            self.clients = client_context(settings) if settings.tls_port else None
        except ConfigError as error:
            raise FatalError(str(error)) from None
        self._digest = _digest(settings)
        self._tell(settings)
        self._tell_validity()

    def client_context(self) -> ssl.SSLContext:
        """Return the context for the next client."""
        assert self.clients is not None
        return self.clients

    def follow(self, settings: Settings, named: frozenset[str] = frozenset()) -> None:
        """The settings have changed. Raises DefiniteError, with everything as it was, when they cannot be used.

        `named`: what a CONFIG SET names. As in Redis, the same file named again is read again.
        """
        same = all(getattr(settings, name) == getattr(self._settings, name) for name in _SETTINGS)
        if same and named.isdisjoint(_SETTINGS):
            self._settings = settings
            return
        try:
            self._load(settings)
        except ConfigError as error:
            raise DefiniteError(f"Unable to update TLS configuration: {error}") from None

    def reload(self) -> bool:
        """Read the files again; return whether they have changed. Raises ConfigError, with everything as it was."""
        return self._load(self._settings)

    def _load(self, settings: Settings) -> bool:
        digest = _digest(settings)
        clients = client_context(settings) if settings.tls_port else None
        if self.peers is not None and self.peers.certificates:
            self.peers.reload(peer_files(settings))
        self._settings, self.clients = settings, clients
        changed = digest != self._digest
        self._digest = digest
        if changed:
            until = self._tell_validity()
            peers_until = self.peers.valid_until if self.peers is not None else ""
            _log.info("certificates_loaded", clients_until=until, peers_until=peers_until)
        return changed

    def _tell_validity(self) -> str:
        """Return until when the certificate for clients is good; warn where it is not: they refuse it, one by one."""
        settings = self._settings
        if self.clients is None:
            return ""
        own = Files(settings.tls_cert_file, settings.tls_key_file, "", "", settings.tls_key_file_pass)
        until, problem = _validity(own)
        if problem:
            hint = "clients refuse it; put another in its place and send SIGHUP"
            _log.warning("certificate_not_valid", file=settings.tls_cert_file, reason=problem, hint=hint)
        return until

    def _tell(self, settings: Settings) -> None:
        """Warn of what an operator may not have meant."""
        if self.peers is None and (settings.peers or settings.join) and not is_loopback(settings.peer_listen[0]):
            _log.warning(
                "peers_unprotected", listens="{}:{}".format(*settings.peer_listen),
                hint="whoever reaches this port can be a node; set cluster_secret, or tls_cluster with certificates",
            )  # fmt: skip
        if 0 < len(settings.cluster_secret.encode()) < SECRET_BYTES_MIN:
            hint = "openssl rand -hex 32 makes a good one"
            _log.warning("cluster_secret_short", bytes_min=SECRET_BYTES_MIN, hint=hint)


def tell_who_comes_in(settings: Settings, nopass: bool) -> None:
    """Warn, at a start, where more than this machine may come in than an operator may have meant.

    `nopass`: the user `default` needs no password, by the settings or by what the cluster has agreed on.
    """
    anyone = nopass and settings.protected_mode == "no"
    ports = [] if settings.tls_only else [*settings.client_listen]
    if settings.tls_auth_clients != "yes":
        ports += settings.tls_listen
    reached = [f"{host}:{port}" for host, port in ports if not is_loopback(host)]
    if anyone and reached:
        _log.warning(
            "clients_unprotected", listens=reached,
            hint="protected mode is off and no password is needed: whoever reaches this may do everything; "
            "set requirepass, or users",
        )  # fmt: skip
    admin = settings.admin_listen
    if admin is not None and not is_loopback(admin[0]):
        hint = "the admin port speaks plain HTTP, and serves /metrics to everybody who reaches it"
        if anyone:
            hint += ", the console and its actions, too: set requirepass, or users"
        _log.warning("admin_port_reachable", listens="{}:{}".format(*admin), hint=hint)


def _digest(settings: Settings) -> bytes:
    """Return a digest of the settings of TLS and of what the files hold now."""
    digest = hashlib.blake2b(digest_size=16)
    for name in _SETTINGS:
        value = str(getattr(settings, name))
        digest.update(value.encode("utf-8", "surrogateescape") + b"\0")
        if name.endswith("_file") and value:
            try:
                digest.update(Path(value).read_bytes())
            except OSError as error:
                digest.update(str(error).encode())
    return digest.digest()
