"""What a seed decides about a run of whole nodes."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

from tests.simulation.sim_network import Weather

STORM_S = 6.0
"""Simulated seconds of faults, unless told otherwise."""

FAULT_RATES = (
    "crash", "disk_loss", "disk_hang", "disk_full", "disk_refuses", "flip_log", "flip_state", "flip_snapshot", "stop",
    "partition", "clog", "link_break", "pause", "clock_jump", "transfer", "compaction", "sync_slow", "sync_failure",
    "stall", "slice_end", "stream_break", "client_reconnect", "client_impatient", "client_deaf",
)  # fmt: skip
"""Fields of a plan that are off at 0."""


@dataclass(frozen=True)
class NodePlan:
    """What a seed decides about its run. Rates are per second, times in seconds."""

    voters: int
    ends_s: float  # when the storm ends: the seed draws for all of it, whenever it is ended
    weather: Weather
    busy_nodes: int  # the others have no clients: their clocks do not hear of the leader's by reads
    clients_per_node: int
    only_reads: float  # share of the clients
    client_pause_s: float
    client_reconnect: float
    client_impatient: float
    crash: float
    crash_everybody: float
    power_cut: float
    disk_loss: float
    disk_hang: float
    disk_full: float
    disk_refuses: float  # per write
    flip_log: float
    flip_state: float
    flip_snapshot: float  # per chunk
    stop: float
    partition: float
    clog: float
    link_break: float
    pause: float
    clock_jump: float
    clock_jump_s: float
    transfer: float
    compaction: float
    sync_s: float
    sync_slow: float
    sync_slow_s: float
    sync_failure: float
    stall: float
    slice_end: float
    snapshot_s: float
    stream_break: float
    effect_bytes: int
    commands_a_turn: int
    settings: dict[str, Any]
    bounds: dict[str, int]
    heavy_elements: int  # from where on a command is carried out apart
    piece_keys: int
    guessed_from: int  # points from which a write is guessed to be idle
    membership: float = 0.0  # changes; drawn by nobody, asked for by name
    tokens: float = 0.0  # share of members that one client adds and another removes at once; asked for by name, too
    slice_s: float = 0.0  # what a slice takes that `slice_end` ends
    client_deaf: float = 0.0  # a client reads nothing for a while
    expiry_from_s: float = 0.0  # until then no key has one
    tail_bytes: int = 16 << 20  # of the log kept in memory
    entry_breath_bytes: int = 8 << 20  # a larger entry is written in a turn of its own
    batch_framed_bytes: int = 1 << 20  # a larger batch is encoded behind its header
    batches_in_flight: int = 64
    replies_a_turn: int = 1 << 20
    heaps: float = 0.0  # share of sorted sets filled and emptied in one go; drawn by nobody, asked for by name


def make_plan(rng: random.Random, storm_s: float, later: random.Random) -> NodePlan:
    """Draw a plan: every run has some faults, few have all. `later` draws what was thought of later: seeds that are
    known for something stay what they are."""

    def sometimes(value: float, share: float = 0.5, rng: random.Random = rng) -> float:
        return value if rng.random() < share else 0.0

    in_order = rng.random() < 0.5
    weather = Weather(
        in_order=in_order,
        loss=sometimes(rng.choice([0.01, 0.05, 0.2])),
        duplication=sometimes(0.05),
        delay_max=rng.choice([0.001, 0.01, 0.05, 0.2]),
        late=sometimes(rng.choice([0.005, 0.05])),
        late_max=rng.choice([0.3, 2.0]),
    )
    tick_ms = rng.choice([25, 50])
    election_ms = rng.choice([150, 300, 500])
    return NodePlan(
        voters=rng.choice([1, 2, 3, 3, 3, 3, 3, 5]),
        ends_s=storm_s,
        weather=weather,
        busy_nodes=rng.choice([1, 2, 5, 5, 5]),
        clients_per_node=rng.choice([1, 2, 3]),
        only_reads=rng.choice([0.3, 0.3, 0.3, 1.0]),
        client_pause_s=rng.choice([0.02, 0.1, 0.3]),
        client_reconnect=sometimes(0.05),
        client_impatient=sometimes(0.01),
        crash=sometimes(rng.choice([0.2, 1.0])),
        crash_everybody=rng.choice([0.05, 0.3]),
        power_cut=rng.choice([0.0, 0.5, 1.0]),
        disk_loss=sometimes(0.3, 0.3),
        disk_hang=sometimes(0.3, 0.25),
        disk_full=sometimes(0.3, 0.2),
        disk_refuses=sometimes(0.0005, 0.2),
        flip_log=sometimes(0.3, 0.2),
        flip_state=sometimes(0.3, 0.2),
        flip_snapshot=sometimes(0.3, 0.3),
        stop=sometimes(0.2, 0.3),
        partition=sometimes(rng.choice([0.3, 1.0])),
        clog=sometimes(0.3, 0.3),
        link_break=sometimes(0.5),
        pause=sometimes(0.4),
        clock_jump=sometimes(0.4),
        clock_jump_s=rng.choice([0.1, 2.0, 100.0]),
        transfer=sometimes(0.5),
        compaction=sometimes(rng.choice([0.5, 3.0])),
        sync_s=rng.choice([0.0005, 0.002, 0.01, 0.03]),
        sync_slow=sometimes(0.02),
        sync_slow_s=rng.choice([0.2, 2.0]),
        sync_failure=sometimes(0.0005, 0.2),
        stall=sometimes(rng.choice([0.01, 0.2]), 0.3),
        slice_end=sometimes(rng.choice([0.02, 0.3])),
        snapshot_s=rng.choice([0.05, 1.0]),
        stream_break=sometimes(0.3),
        effect_bytes=rng.choice([1, 500, 4 << 20]),
        commands_a_turn=rng.choice([1, 3, 32]),
        settings={
            "tick_ms": tick_ms,
            "heartbeat_ms": min(election_ms // 3, rng.choice([50, 100])),
            "election_timeout_ms": election_ms,
            "protected_mode": "no",  # no simulated address is one of this machine
            "request_timeout_ms": rng.choice([500, 1500, 5000]),
            "raft_window_entries": rng.choice([1, 4, 256]),
            "batch_commands_max": rng.choice([1, 3, 4096]),
            "log_compaction_entries": rng.choice([100, 1_000_000]),
            "log_retain_for_followers_bytes": rng.choice([0, 2000, 512 << 20]),
            "shutdown_timeout_ms": 1000,
            "disk_free_bytes_min": rng.choice([0, 1 << 20]),
        },
        # Far below what the settings allow, so that every bound is met.
        bounds={
            "raft_window_bytes": rng.choice([1, 1000, 16 << 20]),
            "raft_message_bytes_max": rng.choice([1, 300, 1 << 20]),
            "uncommitted_bytes_max": rng.choice([500, 5000, 64 << 20, 64 << 20]),
            "apply_bytes_max": rng.choice([1, 500, 4 << 20]),
            "batch_bytes_max": rng.choice([50, 1 << 20, 1 << 20]),
            "inflight_bytes_max": rng.choice([200, 2000, 1 << 30, 1 << 30]),
        },
        heavy_elements=rng.choice([5, 12, 16_384, 16_384]),
        piece_keys=rng.choice([1, 2, 4096]),
        guessed_from=rng.choice([0, 1, 4]),
        slice_s=sometimes(later.choice([0.003, 0.03]), 0.3, later),
        client_deaf=sometimes(later.choice([0.02, 0.1]), 0.3, later),
        expiry_from_s=sometimes(later.random() * storm_s, 0.3, later),
        tail_bytes=later.choice([0, 300, 16 << 20, 16 << 20]),
        entry_breath_bytes=later.choice([100, 8 << 20, 8 << 20]),
        batch_framed_bytes=later.choice([1, 100, 1 << 20]),
        batches_in_flight=later.choice([1, 2, 64, 64]),
        replies_a_turn=later.choice([1, 20, 1 << 20]),
    )
