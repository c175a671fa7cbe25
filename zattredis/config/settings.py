"""Every setting, once: the fields of `Settings` are the table that everything else about settings derives from."""

from __future__ import annotations

import dataclasses
import difflib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from zattredis.config.cluster import Member, Seed
from zattredis.config.spec import GIB, KIB, MIB, SettingSpec, split_bind


def _setting(kind: str, default: Any, section: str, description: str, **more: Any) -> Any:
    secret = bool(more.get("secret"))
    metadata = {"kind": kind, "section": section, "description": description, **more}
    return field(default=default, repr=not secret, metadata=metadata)


def _count(default: int, low: int, high: int, section: str, description: str, **more: Any) -> Any:
    return _setting("int", default, section, description, low=low, high=high, **more)


def _bytes(default: int, low: int, high: int, section: str, description: str, **more: Any) -> Any:
    return _setting("bytes", default, section, description, low=low, high=high, **more)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All settings of one node. Units are in the names; instances come from `load_settings` or `make_settings`.

    Invariant: a `Settings` that came from either is complete and free of contradiction: `node_id` is one of `cluster`,
    and `host`, `port`, `peer_port`, `bind` and `peer_bind` are filled in. `sources` says where each value came from.
    """

    # -- this node -----------------------------------------------------------------------------------------------
    node_id: str = _setting(
        "node_id", "", "node", "This node's id, one of those in cluster.",
        flags=("--node",), derived='"n1" for a node on its own; otherwise it must be given',
    )  # fmt: skip
    cluster: tuple[Member, ...] = _setting(
        "cluster", (), "node",
        "Every voter as id=host:port or id=host:port@peerport, with commas; the peer port defaults to port + 10000.",
        derived="this node alone",
    )  # fmt: skip
    join: tuple[Seed, ...] = _setting(
        "seeds", (), "node",
        "Any nodes of a running cluster, host:port with commas; a node without data is added to that cluster.",
        derived="none: the node begins a cluster, or goes on with its own",
    )  # fmt: skip
    dir: str = _setting(
        "path", "zattredis-data", "node", "Data directory; made at the first start.", flags=("--storage", "-s"),
        config_name="dir",
    )  # fmt: skip
    host: str = _setting(
        "host", "", "node", "Host name or address that others are told for this node.", flags=("--address",),
        derived='from cluster; "127.0.0.1" for a node on its own', config_name="replica-announce-ip",
    )  # fmt: skip
    port: int = _setting(
        "port", 0, "node", "Client port that others are told for this node.",
        flags=("-p",), derived="from cluster; 6379 for a node on its own", config_name="port",
    )  # fmt: skip
    peer_port: int = _setting(
        "port", 0, "node", "Port for the other nodes of the cluster.", derived="from cluster; port + 10000",
        config_name="peer-port",
    )  # fmt: skip
    bind: tuple[str, ...] = _setting(
        "binds", (), "node",
        "Where to listen for clients, if not on host:port: address or address:port, several with commas.",
        derived="host", config_name="bind",
    )  # fmt: skip
    peer_bind: str = _setting(
        "bind", "", "node", "Where to listen for the other nodes, if not where bind says: address or address:port.",
        derived="the address of bind", config_name="peer-bind",
    )  # fmt: skip
    extensions: tuple[str, ...] = _setting(
        "modules", (), "node",
        "Python modules whose commands this cluster runs, with commas; the same code on every node.",
        config_name="extensions", derived="none",
    )  # fmt: skip

    # -- secrets -------------------------------------------------------------------------------------------------
    requirepass: str = _setting(
        "str", "", "secrets",
        "Password of the default user (AUTH), empty for none; counts until the cluster agrees on users.",
        secret=True, hot=True, config_name="requirepass",
    )  # fmt: skip
    cluster_secret: str = _setting(
        "str", "", "secrets",
        "Secret that all nodes share and prove to each other over encrypted links; empty means neither.",
        secret=True, config_name=None,
    )  # fmt: skip

    # -- access --------------------------------------------------------------------------------------------------
    protected_mode: str = _setting(
        "choice", "yes", "access",
        "yes: while the default user needs no password, clients are taken from this machine alone.",
        choices=("yes", "no"), hot=True,
    )  # fmt: skip
    users: tuple[str, ...] = _setting(
        "lines", (), "access",
        "Users as Redis's ACL rules, \"alice on >password ~cache:* +@read\"; several as a list, or with semicolons."
        " They count until the cluster agrees on users (ACL SETUSER, ...).",
        secret=True, config_name=None,
    )  # fmt: skip
    aclfile: str = _setting(
        "str", "", "access",
        "File of users, for ACL LOAD and ACL SAVE; read at the start too, in place of users. Empty means none.",
        config_name="aclfile",
    )  # fmt: skip
    acl_pubsub_default: str = _setting(
        "choice", "resetchannels", "access", "Channels of new users: resetchannels for none, allchannels for all.",
        choices=("allchannels", "resetchannels"), hot=True,
    )  # fmt: skip
    acllog_max_len: int = _count(128, 0, 1_000_000, "access", "Denials that ACL LOG remembers.", hot=True)

    # -- TLS -----------------------------------------------------------------------------------------------------
    tls_port: int = _setting(
        "port0", 0, "tls",
        "Port on which clients are served over TLS; 0 means none. The same as port: no plain port is opened.",
        config_name="tls-port",
    )  # fmt: skip
    tls_announce_port: int = _setting(
        "port0", 0, "tls",
        "TLS port that others are told for this node, where a network maps tls_port to another; 0 means tls_port.",
        config_name="cluster-announce-tls-port",
    )  # fmt: skip
    tls_cert_file: str = _setting("str", "", "tls", "Certificate of this node (PEM, the chain behind it).", hot=True)
    tls_key_file: str = _setting(
        "str", "", "tls", "Private key of tls_cert_file; empty means that the same file holds it.", hot=True
    )
    tls_key_file_pass: str = _setting("str", "", "tls", "Password of the private keys.", secret=True, hot=True)
    tls_ca_cert_file: str = _setting(
        "str", "", "tls", "Certificates of the authorities that clients' certificates must come from.", hot=True
    )
    tls_ca_cert_dir: str = _setting(
        "str", "", "tls", "Directory of such certificates, named by hash (openssl rehash).", hot=True
    )
    tls_auth_clients: str = _setting(
        "choice", "yes", "tls",
        "Whether clients need a certificate: yes, no, or optional (it must be good if there is one).",
        choices=("no", "yes", "optional"), hot=True,
    )  # fmt: skip
    tls_protocols: str = _setting(
        "tls_protocols", "TLSv1.2 TLSv1.3", "tls", "Versions of TLS that clients may speak.", hot=True
    )
    tls_ciphers: str = _setting(
        "str", "", "tls", "Ciphers for TLSv1.2, as OpenSSL lists them; empty means Python's choice.", hot=True
    )
    tls_cluster: str = _setting(
        "choice", "no", "tls",
        "yes: nodes speak TLS to each other and each needs a certificate with the URI zattredis://ITS-NODE-ID.",
        choices=("no", "yes"),
    )  # fmt: skip
    tls_cluster_cert_file: str = _setting(
        "str", "", "tls", "Certificate for the other nodes.", hot=True, derived="tls_cert_file"
    )
    tls_cluster_key_file: str = _setting(
        "str", "", "tls", "Private key of tls_cluster_cert_file.", hot=True, derived="tls_key_file"
    )
    tls_cluster_ca_cert_file: str = _setting(
        "str", "", "tls", "Certificates of the authorities that the other nodes' certificates must come from.",
        hot=True, derived="tls_ca_cert_file",
    )  # fmt: skip

    # -- log of the house ----------------------------------------------------------------------------------------
    log_format: str = _setting(
        "choice", "auto", "log", "console, json, or auto: console on a terminal, JSON lines otherwise.",
        choices=("auto", "console", "json"),
    )  # fmt: skip
    log_level: str = _setting(
        "choice", "info", "log", "The least severe event that is logged.",
        choices=("debug", "info", "warning", "error"), hot=True, config_name="loglevel",
    )  # fmt: skip

    # -- watching ------------------------------------------------------------------------------------------------
    admin_port: int = _count(
        0, 0, 65_535, "watching",
        "Port for people and monitoring, over HTTP: console, /metrics, /livez, /readyz; 0 means there is none.",
    )  # fmt: skip
    admin_bind: str = _setting(
        "bind", "127.0.0.1", "watching",
        "Address of admin_port. It speaks plain HTTP: open it beyond this machine only to a network you trust.",
    )  # fmt: skip

    # -- time ----------------------------------------------------------------------------------------------------
    election_timeout_ms: int = _count(
        500, 50, 60_000, "raft",
        "A follower that hears no leader for this long, times a random factor of 1 to 2, stands for election.",
    )  # fmt: skip
    heartbeat_ms: int = _count(100, 10, 20_000, "raft", "How often a leader shows its followers that it lives.")
    tick_ms: int = _count(
        25, 5, 1_000, "raft", "Grain of Raft's clock; election_timeout_ms and heartbeat_ms are rounded up to it."
    )
    raft_window_entries: int = _count(
        256, 1, 100_000, "raft", "Log entries a leader sends to one follower ahead of its answers."
    )
    raft_window_bytes: int = _bytes(
        16 * MIB, 64 * KIB, GIB, "raft", "Bytes of log a leader sends to one follower ahead of its answers."
    )
    raft_message_bytes_max: int = _bytes(MIB, 16 * KIB, 64 * MIB, "raft", "Bytes of log in one message to a follower.")
    uncommitted_bytes_max: int = _bytes(
        64 * MIB,
        MIB,
        4 * GIB,
        "raft",
        "Bytes of log a leader takes on before a majority has stored them; beyond it new writes wait.",
    )
    apply_bytes_max: int = _bytes(4 * MIB, 64 * KIB, GIB, "raft", "Bytes of committed log that are applied in one go.")

    # -- clients -------------------------------------------------------------------------------------------------
    read_mode: str = _setting(
        "choice", "linearizable", "clients",
        "linearizable: a read sees every write acknowledged before it; stale: this node's own data, at once.",
        choices=("linearizable", "stale"), hot=True,
    )  # fmt: skip
    request_timeout_ms: int = _count(
        5_000,
        100,
        600_000,
        "clients",
        "How long a command waits for a majority before it is answered with an error.",
        hot=True,
    )
    databases: int = _count(
        16, 16, 16, "clients", "Number of databases (SELECT); the same on every node for good, so only 16 is accepted."
    )
    maxclients: int = _count(
        10_000, 1, 1_000_000, "clients", "Client connections at the same time; further ones are refused.", hot=True
    )
    timeout_s: int = _count(
        0,
        0,
        31_536_000,
        "clients",
        "A client silent for this long is disconnected; 0 means never.",
        hot=True,
        config_name="timeout",
    )
    tcp_keepalive_s: int = _count(
        300, 0, 32_767, "clients", "Idle time after which the kernel probes a client connection; 0 means never.",
        hot=True, config_name="tcp-keepalive",
    )  # fmt: skip
    slowlog_log_slower_than_us: int = _count(
        10_000, -1, 10**12, "clients", "Commands slower than this enter SLOWLOG; 0 means all, -1 none.",
        hot=True, config_name="slowlog-log-slower-than",
    )  # fmt: skip
    slowlog_max_len: int = _count(128, 0, 1_000_000, "clients", "Commands that SLOWLOG remembers.", hot=True)

    # -- finding the leader the Redis way ------------------------------------------------------------------------
    cluster_view: bool = _setting(
        "bool", False, "views",
        "Show the cluster as a Redis Cluster: the leader owns every slot, the other nodes are its replicas.",
        config_name="cluster-enabled",
    )  # fmt: skip
    follower_mode: str = _setting(
        "choice", "forward", "views",
        "forward: a follower carries out every command; redirect: it answers -MOVED to commands with keys.",
        choices=("forward", "redirect"),
    )  # fmt: skip
    sentinel_port: int = _count(
        0, 0, 65_535, "views", "Port that answers as a Redis Sentinel, on the addresses of bind; 0 means none."
    )
    sentinel_tls_port: int = _count(
        0, 0, 65_535, "views",
        "The same over TLS, beside a plain port and tls_port: names the members' TLS ports; 0 means none.",
    )  # fmt: skip
    sentinel_master_name: str = _setting(
        "str", "mymaster", "views", "Name of this cluster for those who ask the Sentinel port."
    )

    # -- bounds --------------------------------------------------------------------------------------------------
    proto_max_bulk_bytes: int = _bytes(
        512 * MIB,
        MIB,
        512 * MIB,
        "bounds",
        "Largest single argument of a command.",
        hot=True,
        config_name="proto-max-bulk-len",
    )
    query_buffer_bytes_max: int = _bytes(
        GIB, MIB, 4 * GIB, "bounds",
        "Bytes of one client's commands received and not yet executed; beyond it the client is closed.",
        hot=True, config_name="client-query-buffer-limit",
    )  # fmt: skip
    output_buffer_bytes_max: int = _bytes(
        256 * MIB,
        MIB,
        4 * GIB,
        "bounds",
        "Bytes of replies that one client leaves unread; beyond it the client is closed.",
        hot=True,
    )
    output_buffer_soft_bytes: int = _bytes(
        0, 0, 4 * GIB, "bounds",
        "Bytes of replies that one client may leave unread for output_buffer_soft_s at most; 0 means no such bound.",
        hot=True,
    )  # fmt: skip
    output_buffer_soft_s: int = _count(
        0, 0, 1_000_000, "bounds", "Seconds after which output_buffer_soft_bytes closes a client.", hot=True
    )
    inflight_bytes_max: int = _bytes(
        GIB,
        16 * MIB,
        64 * GIB,
        "bounds",
        "Bytes of commands of all clients taken and not yet answered; beyond it reading pauses.",
        hot=True,
    )
    maxmemory_bytes: int = _bytes(
        0,
        0,
        1024 * GIB,
        "bounds",
        "Memory of this process beyond which commands that may need more are refused with OOM; 0 means no bound.",
        hot=True,
        config_name="maxmemory",
    )
    batch_bytes_max: int = _bytes(
        MIB,
        16 * KIB,
        64 * MIB,
        "bounds",
        "Bytes of commands put into one log entry (a larger single command still gets one of its own).",
    )
    batch_commands_max: int = _count(4_096, 1, 1_000_000, "bounds", "Commands put into one log entry.")

    # -- storage -------------------------------------------------------------------------------------------------
    log_compaction_bytes: int = _bytes(
        256 * MIB,
        MIB,
        1024 * GIB,
        "storage",
        "The log is cut back once it holds this many bytes that are no longer needed.",
    )
    log_compaction_entries: int = _count(
        1_000_000,
        100,
        10**9,
        "storage",
        "The log is cut back once it holds this many entries that are no longer needed.",
    )
    log_retain_for_followers_bytes: int = _bytes(
        512 * MIB, 0, 1024 * GIB, "storage",
        "Bytes of log kept for followers that are behind, so that they need no snapshot.",
    )  # fmt: skip
    snapshot_chunk_bytes: int = _bytes(
        256 * KIB, 4 * KIB, 16 * MIB, "storage", "Bytes of a snapshot sent to a follower in one piece."
    )
    state_cache_bytes: int = _bytes(64 * MIB, MIB, 1024 * GIB, "storage", "Memory for recently read data.")
    record_cache_bytes: int = _bytes(
        64 * MIB, MIB, 1024 * GIB, "storage", "Memory for keys used lately, ready for commands; fills as they are used."
    )
    state_write_buffer_bytes: int = _bytes(
        32 * MIB, MIB, 4 * GIB, "storage", "Memory that gathers applied writes before they go to a file."
    )
    slow_sync_ms: int = _count(250, 1, 60_000, "storage", "A disk sync slower than this is logged.", hot=True)
    disk_free_bytes_min: int = _bytes(
        256 * MIB,
        0,
        1024 * GIB,
        "storage",
        "With less free disk than this, writes are refused with DISKFULL; 0 means never.",
        hot=True,
    )
    disk_free_percent_min: int = _count(
        0, 0, 90, "storage", "The same as a part of the disk, in percent; the larger of the two counts.", hot=True
    )

    # -- the end -------------------------------------------------------------------------------------------------
    shutdown_timeout_ms: int = _count(
        10_000, 0, 600_000, "shutdown",
        "How long a stopping node may take to finish what it accepted before it ends all the same.",
        hot=True,
    )  # fmt: skip

    sources: Mapping[str, str] = field(default_factory=dict, repr=False, compare=False)

    @property
    def member(self) -> Member:
        """This node's own entry in `cluster`."""
        return next(member for member in self.cluster if member.node_id == self.node_id)

    @property
    def peers(self) -> tuple[Member, ...]:
        """The other members."""
        return tuple(member for member in self.cluster if member.node_id != self.node_id)

    @property
    def client_listen(self) -> tuple[tuple[str, int], ...]:
        """(address, port) pairs to listen on for clients, plain unless `tls_only`; at least one."""
        return tuple(_listen(text, self.port) for text in self.bind)

    @property
    def sentinel_listen(self) -> tuple[tuple[str, int], ...]:
        """(address, port) pairs to listen on, plain, for those who look for a Sentinel."""
        if not self.sentinel_port or self.tls_only:
            return ()
        return tuple((address, self.sentinel_port) for address in dict.fromkeys(host for host, _ in self.client_listen))

    @property
    def sentinel(self) -> bool:
        """Whether this node answers as a Sentinel."""
        return bool(self.sentinel_port or self.sentinel_tls_port)

    @property
    def sentinel_tls_listen(self) -> tuple[tuple[str, int], ...]:
        """(address, port) pairs to listen on for those who look for a Sentinel over TLS."""
        port = self.sentinel_tls_port or (self.sentinel_port if self.tls_only else 0)
        return tuple((address, port) for address in dict.fromkeys(host for host, _ in self.client_listen)) * bool(port)

    @property
    def tls_only(self) -> bool:
        """Whether clients are served over TLS alone."""
        return self.tls_port == self.port != 0

    @property
    def tls_listen(self) -> tuple[tuple[str, int], ...]:
        """(address, port) pairs to listen on for clients over TLS."""
        if self.tls_only:
            return self.client_listen
        return tuple((_listen(text, 0)[0], self.tls_port) for text in self.bind) if self.tls_port else ()

    @property
    def tls_port_told(self) -> int:
        """The TLS port that clients are told of for this node, 0 if it has none."""
        return self.tls_announce_port or self.tls_port

    @property
    def peer_listen(self) -> tuple[str, int]:
        """(address, port) to listen on for the other nodes."""
        return _listen(self.peer_bind, self.peer_port)

    @property
    def admin_listen(self) -> tuple[str, int] | None:
        """(address, port) of the admin port, None where there is none."""
        return _listen(self.admin_bind, self.admin_port) if self.admin_port else None

    @property
    def election_timeout_ticks(self) -> int:
        """`election_timeout_ms` in ticks, rounded up."""
        return math.ceil(self.election_timeout_ms / self.tick_ms)

    @property
    def heartbeat_ticks(self) -> int:
        """`heartbeat_ms` in ticks, rounded up."""
        return math.ceil(self.heartbeat_ms / self.tick_ms)

    def source(self, name: str) -> str:
        """Return where the value of setting `name` came from, for a person to read."""
        return self.sources.get(name, "default")


def _listen(text: str, port: int) -> tuple[str, int]:
    host, port_text = split_bind(text)
    return host, int(port_text) if port_text else port


SECTIONS: Final[Mapping[str, str]] = {
    "node": "This node and its cluster",
    "secrets": "Secrets",
    "access": "Who may come in",
    "tls": "TLS: encrypted and proved connections",
    "log": "Log of what the server does",
    "watching": "Watching a node",
    "raft": "Agreement between the nodes",
    "clients": "Clients",
    "views": "Finding the leader the Redis way",
    "bounds": "Bounds",
    "storage": "Storage",
    "shutdown": "Stopping",
}
"""Section → its title, in the order in which settings are shown."""


def _make_spec(entry: dataclasses.Field[Any]) -> SettingSpec:
    more = dict(entry.metadata)
    config_name = more.pop("config_name", entry.name.replace("_", "-"))
    flags = ("--" + entry.name.replace("_", "-"), *more.pop("flags", ()))
    return SettingSpec(name=entry.name, default=entry.default, flags=flags, config_name=config_name or "", **more)


SETTINGS: Final[Mapping[str, SettingSpec]] = {
    entry.name: _make_spec(entry) for entry in dataclasses.fields(Settings) if entry.metadata
}
"""Name → spec of every setting, in the order of the sections; derived from the fields of `Settings`."""


def suggestion(name: str, prefix: str = "", spell: Callable[[str], str] = str) -> str:
    """Return "; did you mean …?" with the setting nearest to `name`, spelt by `spell` behind `prefix`, or a remedy."""
    lowered = name.lower().replace("-", "_")
    near = difflib.get_close_matches(lowered, SETTINGS, 1, cutoff=0.6)
    # A name cut short ("timeout", "election_timeout") is nearer to what it begins than its length suggests.
    near = near or [known for known in SETTINGS if known.startswith(lowered) or lowered in known.split("_")][:1]
    return f"; did you mean {prefix}{spell(near[0])}?" if near else "; `zattd config show` lists all settings"
