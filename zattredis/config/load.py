"""Defaults < settings file < environment < flags, made into one complete `Settings` free of contradiction."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from zattredis.config.cluster import Member, check_members, default_peer_port
from zattredis.config.files import Found, read_settings_file
from zattredis.config.settings import SETTINGS, Settings, suggestion
from zattredis.config.spec import split_bind
from zattredis.errors import ConfigError

ENVIRONMENT_PREFIX: Final = "ZATTREDIS_"
CONFIG_VARIABLE: Final = "ZATTREDIS_CONFIG"
"""Names the settings file when the flag does not."""

_TEST_PREFIX: Final = "ZATTREDIS_TEST_"
_SERVICE_LINK: Final = re.compile(r"ZATTREDIS_(SERVICE_(HOST|PORT)(_.*)?|PORT_\d+_(TCP|UDP)(_.*)?)")
_SERVICE_LINK_PORT: Final = re.compile(r"(tcp|udp|sctp)://")

OWN_NODE_ID: Final = "n1"
OWN_HOST: Final = "127.0.0.1"
OWN_PORT: Final = 6379


def load_settings(
    flags: Mapping[str, str] | None = None, environ: Mapping[str, str] | None = None, config_file: str | None = None
) -> Settings:
    """Return the settings of this node.

    `flags` maps setting names to the text given on the command line; `environ` is the whole environment, of which
    only ZATTREDIS_* is read. The file is `config_file`, else ZATTREDIS_CONFIG, else none.
    Raises ConfigError with one line that names the place and the remedy.
    """
    environ = environ if environ is not None else {}
    config_file = config_file or environ.get(CONFIG_VARIABLE)
    found = read_settings_file(config_file) if config_file else {}
    found |= read_environment(environ)
    for name, text in (flags or {}).items():
        spec = SETTINGS[name]
        try:
            found[name] = Found(spec.parse(text), f"flag {spec.flags[0]}")
        except ConfigError as error:
            raise ConfigError(f"{spec.flags[0]}: {str(error).removeprefix(name + ': ')}") from None
    return complete(found)


def make_settings(**values: Any) -> Settings:
    """Return settings made in Python: `values` by setting name, as a TOML file would hold them (or as `Settings` does).

    Raises ConfigError, and TypeError for a name that is no setting.
    """
    found = {}
    for name, value in values.items():
        if name not in SETTINGS:
            raise TypeError(f"unknown setting {name!r}{suggestion(name)}")
        ready = isinstance(value, tuple)
        found[name] = Found(check_members(value) if name == "cluster" and ready else
                            value if ready else SETTINGS[name].parse(value), "argument")  # fmt: skip
    return complete(found)


def read_environment(environ: Mapping[str, str]) -> dict[str, Found]:
    """Return what ZATTREDIS_* variables set. An empty one counts as not set.

    Raises ConfigError for one that is no setting. Two families are no mistake and are skipped: ZATTREDIS_TEST_*,
    which the test suite owns, and what Kubernetes puts into every container next to a service called zattredis.
    """
    by_variable = {spec.environment: spec for spec in SETTINGS.values()}
    found = {}
    for variable, text in environ.items():
        if not variable.startswith(ENVIRONMENT_PREFIX) or variable == CONFIG_VARIABLE or not text:
            continue
        if variable.startswith(_TEST_PREFIX) or _SERVICE_LINK.fullmatch(variable):
            continue
        if variable == "ZATTREDIS_PORT" and _SERVICE_LINK_PORT.match(text):
            continue
        spec = by_variable.get(variable)
        if spec is None:
            near = suggestion(variable.removeprefix(ENVIRONMENT_PREFIX).lower(), ENVIRONMENT_PREFIX, str.upper)
            shown = variable if variable.isprintable() else repr(variable)
            raise ConfigError(f"environment: unknown setting {shown}{near}")
        try:
            found[spec.name] = Found(spec.parse(text), f"environment {variable}")
        except ConfigError as error:
            raise ConfigError(f"environment {variable}: {str(error).removeprefix(spec.name + ': ')}") from None
    return found


def complete(found: Mapping[str, Found]) -> Settings:
    """Return the settings with every value that was not given filled in.

    Raises ConfigError when two values contradict each other; the text names where both come from.
    """
    values = {name: item.value for name, item in found.items()}
    sources = {name: item.source for name, item in found.items()}
    own = _complete_cluster(found, values, sources)
    for name, value in (("host", own.host), ("port", own.port), ("peer_port", own.peer_port)):
        given = found.get(name)
        if given is None:
            values[name] = value
            if "cluster" in found:
                sources[name] = f"cluster ({found['cluster'].source})"
        elif given.value != value:
            other = "bind" if name != "peer_port" else "peer_bind"
            raise ConfigError(
                f"{given.source}: {name} is {given.value}, but cluster ({found['cluster'].source}) says {value} for "
                f"{own.node_id}; make them equal (to listen elsewhere than others are told: {other} = address:port)"
            )
    _complete_binds(found, values, sources)
    settings = Settings(**values, sources=sources)
    check_settings(settings)
    return settings


def check_settings(settings: Settings) -> None:
    """Raise ConfigError if two values contradict each other; the text names where both come from."""
    for check in _CHECKS:
        check(settings)


def _complete_cluster(found: Mapping[str, Found], values: dict[str, Any], sources: dict[str, str]) -> Member:
    """Fill in `node_id` and `cluster` and return this node's own member."""
    if values.get("join"):
        if "cluster" in found:
            raise ConfigError(
                f"{found['join'].source} and {found['cluster'].source}: a node either joins a cluster or begins one; "
                "keep one of them"
            )
        if "node_id" not in found:
            raise ConfigError(f"{found['join'].source}: a node that joins needs an id of its own; say --node ID")
    if "cluster" not in found:
        port = values.get("port", OWN_PORT)
        peer_port = values.get("peer_port")
        if peer_port is None:
            try:
                peer_port = default_peer_port(port)
            except ConfigError as error:
                raise ConfigError(f"{found['port'].source}: {error}") from None
        own = Member(values.get("node_id", OWN_NODE_ID), values.get("host", OWN_HOST), port, peer_port)
        values["node_id"] = own.node_id
        try:
            values["cluster"] = check_members([own])
        except ConfigError as error:
            raise ConfigError(f"{found['peer_port'].source}: {error}") from None
        return own
    cluster: tuple[Member, ...] = values["cluster"]
    ids = ", ".join(member.node_id for member in cluster)
    if "node_id" not in found:
        if len(cluster) > 1:
            raise ConfigError(f"{found['cluster'].source}: which node is this? say --node ID, one of {ids}")
        values["node_id"] = cluster[0].node_id
        sources["node_id"] = f"cluster ({found['cluster'].source})"
    for member in cluster:
        if member.node_id == values["node_id"]:
            return member
    raise ConfigError(
        f"{found['node_id'].source}: node {values['node_id']!r} is not in cluster ({found['cluster'].source}), "
        f"which names {ids}; add it there or choose one of these"
    )


def _complete_binds(found: Mapping[str, Found], values: dict[str, Any], sources: dict[str, str]) -> None:
    if "bind" not in found:
        values["bind"] = (values["host"],)
        sources["bind"] = f"host ({sources.get('host', 'default')})"
    if "peer_bind" not in found:
        first = Settings(bind=values["bind"]).client_listen[0][0]
        values["peer_bind"] = first
        sources["peer_bind"] = f"bind ({sources['bind']})"


# -- contradictions ----------------------------------------------------------------------------------------------


def _refuse(settings: Settings, one: str, relation: str, other: str) -> None:
    left, right = getattr(settings, one), getattr(settings, other)
    raise ConfigError(
        f"{one} = {left} ({settings.source(one)}) must be {relation} {other} = {right} ({settings.source(other)})"
    )


def _check_raft_times(settings: Settings) -> None:
    if settings.election_timeout_ms < 3 * settings.heartbeat_ms:
        _refuse(settings, "election_timeout_ms", "at least three times", "heartbeat_ms")
    if settings.heartbeat_ms < settings.tick_ms:
        _refuse(settings, "heartbeat_ms", "at least", "tick_ms")


def _check_bounds(settings: Settings) -> None:
    for small, large in (
        ("raft_message_bytes_max", "raft_window_bytes"),
        ("batch_bytes_max", "uncommitted_bytes_max"),
        ("proto_max_bulk_bytes", "query_buffer_bytes_max"),
    ):
        if getattr(settings, small) > getattr(settings, large):
            _refuse(settings, small, "at most", large)


def _check_listen(settings: Settings) -> None:
    peer = settings.peer_listen
    for address, port in settings.client_listen:
        if (address, port) == peer:
            raise ConfigError(
                f"bind ({settings.source('bind')}) and peer_bind ({settings.source('peer_bind')}) both name "
                f"{address}:{port}; clients and nodes need different ports"
            )


def _check_admin(settings: Settings) -> None:
    if split_bind(settings.admin_bind)[1]:
        raise ConfigError(
            f"admin_bind ({settings.source('admin_bind')}) is an address alone; its port is the setting admin_port"
        )
    for name, listened in (("bind", settings.client_listen), ("peer_bind", (settings.peer_listen,))):
        if settings.admin_port and any(port == settings.admin_port for _, port in listened):
            raise ConfigError(
                f"admin_port = {settings.admin_port} ({settings.source('admin_port')}) is a port of {name} "
                f"({settings.source(name)}) already; choose another"
            )


def _check_users(settings: Settings) -> None:
    if settings.users and settings.aclfile:
        raise ConfigError(
            f"users ({settings.source('users')}) and aclfile ({settings.source('aclfile')}) both say who the users are;"
            " keep one of them"
        )


def _check_views(settings: Settings) -> None:
    if settings.follower_mode == "redirect" and not settings.cluster_view:
        raise ConfigError(
            f"follower_mode = redirect ({settings.source('follower_mode')}) needs cluster_view = true: only clients of "
            "a Redis Cluster follow -MOVED"
        )
    name = settings.sentinel_master_name
    if not re.fullmatch(r"[A-Za-z0-9._-]{1,128}", name):
        raise ConfigError(
            f"sentinel_master_name ({settings.source('sentinel_master_name')}): must be letters, digits, . _ -, "
            f"not {name!r}"
        )
    admin = () if settings.admin_listen is None else (settings.admin_listen,)
    taken = (("bind", settings.client_listen), ("peer_bind", (settings.peer_listen,)), ("admin_port", admin))
    if settings.sentinel_tls_port and (not settings.tls_port or settings.tls_only):
        reason = "sentinel_port speaks TLS where port does" if settings.tls_only else "needs tls_port"
        raise ConfigError(f"{settings.source('sentinel_tls_port')}: sentinel_tls_port: {reason}")
    own = "sentinel_port" if settings.tls_only else "sentinel_tls_port"
    also = (*taken, ("tls_port", settings.tls_listen), ("sentinel_port", settings.sentinel_listen))
    for name, wanted in (("sentinel_port", settings.sentinel_listen), (own, settings.sentinel_tls_listen)):
        for address, port in wanted:
            for names, other in also:
                if (address, port) in other and names != name:
                    raise ConfigError(
                        f"{name} = {port} ({settings.source(name)}) and {names} "
                        f"({settings.source(names)}) both name {address}:{port}; each needs a port of its own"
                    )


def _check_tls(settings: Settings) -> None:
    if settings.tls_announce_port and (not settings.tls_port or settings.tls_only):
        reason = "where TLS is all, port is what others are told" if settings.tls_only else "needs tls_port"
        raise ConfigError(f"{settings.source('tls_announce_port')}: tls_announce_port: {reason}")
    wanted = {"tls_port": settings.tls_port, "tls_cluster": settings.tls_cluster == "yes"}
    name = next((name for name, on in wanted.items() if on), None)
    if name is None:
        return
    where = f"{settings.source(name)}: {name}"
    cert = settings.tls_cert_file or (settings.tls_cluster_cert_file if not settings.tls_port else "")
    if not cert:
        raise ConfigError(f"{where} needs a certificate; set tls_cert_file and tls_key_file")
    authority = settings.tls_ca_cert_file or settings.tls_ca_cert_dir
    if settings.tls_port and settings.tls_auth_clients != "no" and not authority:
        raise ConfigError(
            f"{where}: clients need a certificate ({settings.source('tls_auth_clients')}: tls_auth_clients = "
            f"{settings.tls_auth_clients}), but nothing says whose; set tls_ca_cert_file, or tls_auth_clients = \"no\""
        )
    if settings.tls_cluster == "yes" and not (settings.tls_cluster_ca_cert_file or authority):
        raise ConfigError(
            f"{settings.source('tls_cluster')}: tls_cluster needs the authority of the nodes' certificates; "
            "set tls_ca_cert_file or tls_cluster_ca_cert_file"
        )
    ports = [settings.peer_listen, *(() if settings.tls_only else settings.client_listen)]
    for address in settings.tls_listen:
        if address in ports:
            raise ConfigError(
                f"{settings.source('tls_port')}: tls_port {settings.tls_port} is taken by the other nodes or by bind; "
                "choose another, or the same as port for TLS alone"
            )


_CHECKS: Final = (_check_raft_times, _check_bounds, _check_listen, _check_admin, _check_users, _check_views, _check_tls)
