"""What is checked before a node touches its data directory, so that a start that must fail changes nothing."""

from __future__ import annotations

import dataclasses
import errno
import resource
import socket
from typing import Final

from zattredis.config import Settings, bracketed
from zattredis.errors import FatalError
from zattredis.observability.events import get_logger

OTHER_FILES: Final = 1_024
"""Open files that a node needs beside its clients: databases, peers, log."""

_REASONS: Final = {
    errno.EADDRINUSE: "another process listens there",
    errno.EADDRNOTAVAIL: "this machine has no such address",
    errno.EACCES: "this user may not use that port",
}


def check_ports(settings: Settings) -> None:
    """Raise FatalError unless everything that this node will listen on can be listened on now."""
    wanted = [("bind", "--port", address) for address in settings.client_listen]
    if not settings.tls_only:
        wanted += [("tls_port", "--tls-port", address) for address in settings.tls_listen]
    if settings.peers or settings.join:
        wanted.append(("peer_bind", "--peer-port", settings.peer_listen))
    if settings.admin_listen is not None:
        wanted.append(("admin_bind", "--admin-port", settings.admin_listen))
    for name, flag, (host, port) in wanted:
        where = f"{bracketed(host)}:{port}"
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        except OSError as error:
            raise FatalError(
                f"cannot listen on {where}: {host} is not known here ({error.strerror}); see {name}"
            ) from None
        for family, kind, protocol, _, address in found:
            try:
                with socket.socket(family, kind, protocol) as probe:
                    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    if family == socket.AF_INET6:
                        probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                    probe.bind(address)
                    # Binding alone succeeds beside a listener on the same port of another address family or wildcard.
                    probe.listen(1)
            except OSError as error:
                reason = _REASONS.get(error.errno or 0, error.strerror)
                raise FatalError(f"cannot listen on {where}: {reason}; choose another with {flag} or {name}") from None


def fit_open_files(settings: Settings) -> Settings:
    """Raise the limit of open files to what maxclients needs; if it cannot be, return settings with fewer clients.

    As redis-server does. Raises FatalError when not even a few clients would fit.
    """
    needed = settings.maxclients + OTHER_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return settings
    allowed = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(allowed, soft), hard))
    if allowed >= needed:
        return settings
    clients = allowed - OTHER_FILES
    if clients < 16:
        raise FatalError(
            f"only {allowed} open files are allowed, too few to serve clients; raise the limit (ulimit -n {needed})"
        )
    get_logger().warning(
        "fewer_clients", maxclients=clients, asked=settings.maxclients, open_files_allowed=allowed,
        remedy=f"ulimit -n {needed}",
    )  # fmt: skip
    sources = {**settings.sources, "maxclients": "limit of open files"}
    return dataclasses.replace(settings, maxclients=clients, sources=sources)
