"""Which node is asked, and as whom: the flags that every online subcommand takes, and connections made with them."""

from __future__ import annotations

import argparse
import os
import ssl
from dataclasses import dataclass, replace
from typing import Any

from zattredis.cli.banner import local_address
from zattredis.cli.resp_client import RespClient
from zattredis.cli.tls import add_tls_flags, client_tls
from zattredis.config import Settings, load_settings
from zattredis.config.cluster import parse_port, split_host_port
from zattredis.errors import ConfigError

TIMEOUT_S = 2.0


def add_target_flags(parser: argparse.ArgumentParser, default: Any = None) -> None:
    """Give `parser` the flags that say which node is asked, and as whom; unset ones are `default`."""
    group = parser.add_argument_group("which node, and as whom")
    add = group.add_argument
    add("--host", default=default, help="any node of the cluster (default: from the settings, else 127.0.0.1)")
    add("-p", "--port", type=int, default=default, help="its client port (default: from the settings, else 6379)")
    add("-a", "--password", default=default, help="password (better: REDISCLI_AUTH, which ps does not show)")
    add("--user", default=default, help="user name, where the server knows users (default: default)")
    add("-c", "--config", metavar="FILE", dest="config_file", default=default, help="settings file of the node")
    add_tls_flags(group, default)
    help_text = f"seconds to wait for each node ({TIMEOUT_S:.0f})"
    add("--timeout", type=_seconds, default=default, metavar="S", help=help_text)


def _seconds(text: str) -> float:
    value = float(text)
    if not 0 < value < 1e6:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds")
    return value


@dataclass(frozen=True, slots=True)
class Target:
    """One node and how to talk to it."""

    host: str
    port: int
    password: str = ""
    user: str = ""
    timeout_s: float = TIMEOUT_S
    tls: ssl.SSLContext | None = None

    @staticmethod
    def of(arguments: argparse.Namespace) -> Target:
        """Return what was given, else what the settings of this machine's node say. Raises ConfigError."""
        settings: Settings | None = None
        if arguments.host is None or arguments.port is None or arguments.password is None:
            try:
                settings = load_settings({}, os.environ, arguments.config_file)
            except ConfigError:
                # A settings file of a whole cluster does not say which node is this one; host and port must be given.
                if arguments.host is None and arguments.port is None:
                    raise
        default_host, default_port = local_address(settings) if settings is not None else ("127.0.0.1", 6379)
        if arguments.port is not None:
            default_host = "127.0.0.1"
        port = arguments.port if arguments.port is not None else 6379 if arguments.host else default_port
        secret = settings.requirepass if settings is not None else ""
        return Target(
            arguments.host or default_host,
            port,
            arguments.password or os.environ.get("REDISCLI_AUTH", "") or secret,
            arguments.user or "",
            arguments.timeout or TIMEOUT_S,
            client_tls(arguments, settings),
        )

    def at(self, address: str) -> Target:
        """Return the target for another node of the cluster, `address` being its host:port. Raises ConfigError."""
        host, port = split_host_port(address)
        return replace(self, host=host, port=parse_port(port))

    @property
    def where(self) -> str:
        """host:port, as messages name it."""
        return f"{self.host}:{self.port}"

    def connect(self, timeout_s: float | None = None) -> RespClient:
        """Return a connection, authenticated. Raises NoAnswer or ErrorReply."""
        patience_s = timeout_s or self.timeout_s
        return RespClient(self.host, self.port, self.password, patience_s, user=self.user, tls=self.tls)
