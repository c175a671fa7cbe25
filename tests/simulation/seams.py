"""Where a simulated world takes the place of the machine: clocks, randomness, disks, links.

The server's modules read time through names of `server.clock`, and `server.node` makes its disk, sync thread and links
through names of its own. While a world runs, those names lead to it; the server's code is the one that ships.
"""

from __future__ import annotations

import contextlib
import importlib
import pkgutil
from collections.abc import Iterator
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import structlog

from tests.simulation import sim_disk
from zattredis import server
from zattredis.keyspace import spilling
from zattredis.raft.ready import CoreConfig
from zattredis.server import (
    apart,
    applier,
    clock,
    driver,
    executor,
    housekeeping,
    idleness,
    info,
    node,
    proposals,
    reads,
    rejoin,
    repair,
    snapshots,
    status,
)
from zattredis.storage import large_writes

if TYPE_CHECKING:
    from tests.simulation.node_world import NodeWorld

_MODULES = [
    importlib.import_module(f"zattredis.server.{found.name}") for found in pkgutil.iter_modules(server.__path__)
]


@contextlib.contextmanager
def installed(world: NodeWorld) -> Iterator[None]:
    """Let the server's modules live in `world`."""
    timeline = world.timeline

    def process() -> Any:
        assert timeline.running is not None, "the server runs outside of a process"
        return world.by_loop[timeline.running]

    def monotonic() -> float:
        return timeline.now

    def perf_counter() -> float:
        running = timeline.running
        return timeline.now if running is None else world.by_loop[running].perf_counter()

    memory = SimpleNamespace(resident=1 << 20, virtual=1 << 20)
    changes: list[tuple[Any, str, Any]] = [
        (node, "Clock", lambda: clock.Clock(process().wall, monotonic)),
        (repair, "open_data_directory", lambda path, **rest: process().open_disk(**rest)),
        (node, "read_identity", lambda path: process().disk if process().disk.cluster_id else None),
        (node, "join", lambda settings, tls: world.others_agree(process())),
        (repair, "noted_damage", lambda path: process().disk.noted),
        (repair, "remembered_members", lambda path: process().disk.members),
        (repair, "join", lambda settings, tls: world.others_agree(process())),
        (repair, "note", lambda path, error: world.damage_noted(process(), error)),
        (node, "Sessions", lambda: world.make_sessions(process())),
        (node, "SyncThread", lambda log, **rest: process().make_sync(log, **rest)),
        (node, "PeerNetwork", lambda **rest: process().make_peers(**rest)),
        (snapshots, "create_snapshot", sim_disk.create_snapshot),
        (snapshots, "SnapshotSource", sim_disk.SimSource),
        (snapshots, "SnapshotSink", sim_disk.SimSink),
        (rejoin, "fsync_directory", lambda path: None),
        *((module, "read_memory", lambda: memory) for module in (housekeeping, info, status)),
        (applier, "EFFECT_BYTES_PER_WRITE", world.plan.effect_bytes),
        (applier, "COMMANDS_A_TURN", world.plan.commands_a_turn),
        (executor, "COMMANDS_A_TURN", world.plan.commands_a_turn),
        (executor, "HEAVY_ELEMENTS", world.plan.heavy_elements),
        (idleness, "GUESSED_FROM", world.plan.guessed_from),
        (apart, "LATE_S", 600.0),  # its thread is a real one: how quick this machine is must not decide anything
        (apart, "STAGED_ABOVE_KEYS", world.plan.piece_keys),
        (spilling, "PIECE_KEYS", world.plan.piece_keys),
        (large_writes, "PIECE_KEYS", world.plan.piece_keys),
        (node, "CoreConfig", lambda **rest: CoreConfig(**rest, tail_bytes_max=world.plan.tail_bytes)),
        (driver, "BREATH_BYTES", world.plan.entry_breath_bytes),
        (proposals, "LARGE_BYTES", world.plan.batch_framed_bytes),
        (proposals, "IN_FLIGHT_BATCHES_MAX", world.plan.batches_in_flight),
        (reads, "REPLY_BYTES_A_TURN", world.plan.replies_a_turn),
    ]
    for module in _MODULES:
        if module is clock:
            continue
        for name, fake in (
            ("monotonic", monotonic), ("perf_counter", perf_counter), ("random_64", lambda: process().random_64()),
        ):  # fmt: skip
            if hasattr(module, name):
                changes.append((module, name, fake))
    saved = [(module, name, getattr(module, name)) for module, name, _ in changes]
    logging = structlog.get_config() if structlog.is_configured() else None
    structlog.configure(processors=[world.log_event], cache_logger_on_first_use=False)
    try:
        for module, name, value in changes:
            setattr(module, name, value)
        yield
    finally:
        for module, name, value in saved:
            setattr(module, name, value)
        if logging is None:
            structlog.reset_defaults()  # what comes later sets it up as it likes
        else:
            structlog.configure(**logging)


__all__ = ["installed"]
