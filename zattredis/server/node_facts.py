"""What a node tells about itself: the values behind INFO, ROLE and MEMORY STATS, gathered when they are asked for."""

from __future__ import annotations

import os
import resource
import sys
from collections.abc import Sequence
from typing import Protocol

import msgspec

from zattredis.server.clients import ClientRegistry
from zattredis.server.runtime_settings import RuntimeSettings
from zattredis.server.statistics import Statistics


class MemberFacts(msgspec.Struct, frozen=True):
    """One member of the cluster as this node sees it. `address` is the membership's: host:port or host:port@peerport.

    `match_index` is the last log index the member is known to hold; only a leader knows it of others, elsewhere it is
    None. `lag_entries` is how many entries the member is behind the leader's last one, None where it is not known.
    `tls_port` is where it serves clients over TLS, 0 where it does not or has not said so yet.
    """

    node_id: str
    address: str
    role: str  # leader, follower, candidate or learner; unknown where this node cannot tell
    match_index: int | None = None
    lag_entries: int | None = None
    connected: bool = False
    tls_port: int = 0

    @property
    def host(self) -> str:
        """Where clients reach it: the host, without brackets."""
        return self.address.partition("@")[0].rpartition(":")[0].strip("[]")

    @property
    def port(self) -> int:
        """Where clients reach it: the port."""
        return int(self.address.partition("@")[0].rpartition(":")[2])

    def port_for(self, tls: bool) -> int:
        """Where clients of a kind of connection reach it: as in Redis, who comes over TLS is told of TLS ports."""
        return self.tls_port or self.port if tls else self.port


class RaftFacts(msgspec.Struct, frozen=True):
    """Raft's state on this node."""

    node_id: str
    cluster_id: str
    state: str  # up: has a leader; no_leader; rejoining; stopping; fenced
    role: str
    leader_id: str | None
    term: int
    commit_index: int
    applied_index: int
    first_index: int
    last_index: int
    durable_index: int
    snapshot_index: int
    snapshot_term: int
    uncommitted_bytes: int
    members: Sequence[MemberFacts] = ()
    elections: int = 0
    leader_changes: int = 0
    leader_since_s: int = 0  # when this node learned of the present leader; 0 while there is none
    digest_index: int = 0
    digest: int = 0
    digest_agreed: int = 0
    digest_differs: Sequence[tuple[str, int]] = ()
    fenced_because: str = ""

    @property
    def log_entries(self) -> int:
        """How many entries the log holds."""
        return self.last_index - self.first_index + 1


class StorageFacts(msgspec.Struct, frozen=True):
    """What lies on disk, and how the disk does. Times in microseconds; `sync_usec` is the sum over all syncs."""

    directory: str
    log_bytes: int
    state_bytes: int
    free_bytes: int
    syncs: int = 0
    sync_usec: int = 0
    sync_usec_max: int = 0
    sync_under_way: bool = False
    refuses_writes: bool = False  # too little room: DISKFULL


class SnapshotFacts(msgspec.Struct, frozen=True):
    """Snapshots that this node made since it started. `last_time_s` is the start of the node before the first one."""

    count: int
    last_time_s: int
    last_ok: bool = True
    last_duration_s: int = -1
    started_s: int | None = None  # of the one that is being made
    entries_since: int = 0


class DatabaseFacts(msgspec.Struct, frozen=True):
    """One database that holds keys. `average_ttl_ms` is 0 where it is not known."""

    number: int
    keys: int
    expires: int
    average_ttl_ms: int = 0


class FlowFacts(msgspec.Struct, frozen=True):
    """What is under way between clients and the log: bytes of commands taken and not yet answered, batches."""

    inflight_bytes: int = 0
    batches: int = 0
    batch_commands: int = 0
    outcome_unknown: int = 0
    refused_no_quorum: int = 0
    read_rounds: int = 0


class Presented(msgspec.Struct, frozen=True):
    """What this node shows itself as: one plain server, unless a view of `server.views` is switched on.

    With a view, whoever does not lead is a `slave` of `master`, the leader known last (None: none known yet).
    """

    mode: str = "standalone"  # or cluster, sentinel
    role: str = "master"
    master: MemberFacts | None = None
    master_up: bool = False  # it leads now, and messages to it can leave
    master_heard_s: int = -1
    redirects: bool = False


class NodeFacts(Protocol):
    """What the node implements for `server.info`; asked on the loop, when INFO needs it."""

    @property
    def clients(self) -> ClientRegistry: ...
    @property
    def statistics(self) -> Statistics: ...
    @property
    def settings(self) -> RuntimeSettings: ...

    @property
    def startup_bytes(self) -> int:
        """What the process held before it served anybody: `read_memory().resident` at that time."""
        ...

    def time_us(self) -> int:
        """Return the wall clock in microseconds since 1970."""
        ...

    @property
    def started_us(self) -> int:
        """When the node started, by the same clock."""
        ...

    @property
    def run_id(self) -> str:
        """40 hexadecimal digits, new at every start."""
        ...

    @property
    def config_file(self) -> str:
        """The settings file, empty if there is none."""
        ...

    def raft(self) -> RaftFacts:
        """Return Raft's state."""
        ...

    def presented(self) -> Presented:
        """Return what this node shows itself as."""
        ...

    def storage(self) -> StorageFacts:
        """Return what lies on disk; from memory, not by walking directories."""
        ...

    def snapshots(self) -> SnapshotFacts:
        """Return what is known of snapshots."""
        ...

    def databases(self) -> Sequence[DatabaseFacts]:
        """Return the databases that hold keys, by number, from the applied state."""
        ...

    def flow(self) -> FlowFacts:
        """Return what is under way."""
        ...


class MemoryFacts(msgspec.Struct, frozen=True):
    """Memory of the process and the machine, in bytes."""

    resident: int
    resident_peak: int
    machine: int


def read_memory() -> MemoryFacts:
    """Return the memory of this process now."""
    page = os.sysconf("SC_PAGE_SIZE")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    try:
        with open("/proc/self/statm", "rb") as file:
            resident = int(file.read().split()[1]) * page
    except OSError:
        resident = peak
    return MemoryFacts(resident, max(peak, resident), os.sysconf("SC_PHYS_PAGES") * page)
