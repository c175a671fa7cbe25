"""TLS of the commands that talk to nodes: redis-cli's flags, or what the settings of this machine's node say."""

from __future__ import annotations

import argparse
import ssl
from typing import Any

from zattredis.config import Settings, is_loopback
from zattredis.errors import ConfigError


def add_tls_flags(parser: argparse._ActionsContainer, default: Any = None) -> None:
    """Give `parser` the flags of redis-cli for TLS; unset ones are `default`."""
    add = parser.add_argument
    help_text = "speak TLS (default: as the settings say, if they name no other node)"
    add("--tls", action="store_true", default=default, help=help_text)
    add("--cacert", metavar="FILE", default=default, help="authority of their certificates (default: the system's)")
    add("--cert", metavar="FILE", default=default, help="certificate to show, where nodes want one")
    add("--key", metavar="FILE", default=default, help="its private key")
    add("--insecure", action="store_true", default=default, help="believe any certificate")


def client_tls(arguments: argparse.Namespace, settings: Settings | None) -> ssl.SSLContext | None:
    """Return the context to connect with, None for plain. Raises ConfigError.

    Without flags a node is spoken to over TLS if the settings that led to it say that it serves nothing else.
    """
    given = [name for name in ("cacert", "cert", "key", "insecure") if getattr(arguments, name, None)]
    if getattr(arguments, "tls", None):
        return context_of(arguments.cacert, arguments.cert, arguments.key, "", bool(arguments.insecure))
    if given:
        raise ConfigError(f"--{given[0]} is for connections over TLS; add --tls")
    if settings is None or not settings.tls_only or arguments.host is not None or arguments.port is not None:
        return None
    wanted = settings.tls_auth_clients != "no"
    return context_of(
        settings.tls_ca_cert_file, settings.tls_cert_file if wanted else "", settings.tls_key_file if wanted else "",
        settings.tls_key_file_pass, not settings.tls_ca_cert_file,
    )  # fmt: skip


def context_of(authority: str, cert: str, key: str, password: str, insecure: bool) -> ssl.SSLContext:
    """Return the context of a client; empty names of files mean none, or the system's. Raises ConfigError."""
    try:
        context = ssl.create_default_context(cafile=authority or None)
        if insecure:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        if cert:
            context.load_cert_chain(cert, key or None, password or None)
    except ssl.SSLError as error:
        if cert and not key and not error.reason:  # OpenSSL says no more than "PEM lib"
            why = "it holds no private key, or no certificate; --key names the key's file"
            raise ConfigError(f"cannot use {cert}: {why}") from None
        raise ConfigError(f"cannot use {cert or authority}: {error.reason or error}") from None
    except OSError as error:
        raise ConfigError(f"cannot read {cert or authority}: {error.strerror}") from None
    return context


def names_to_check(context: ssl.SSLContext, host: str) -> ssl.SSLContext:
    """Return the context for a host. On this machine the certificate need not name the address it was reached by."""
    context.check_hostname = context.verify_mode == ssl.CERT_REQUIRED and not is_loopback(host)
    return context
