"""What becomes of a node whose log or state is lost, damaged, or differs from the others' (DESIGN §1, §5).

Such a node neither votes nor acknowledges anything: it says what is wrong and, at its start, tries to be filled again
from the others. Only where that is safe:

- the other voters are a majority without it, and one of them has, just now, committed an entry with a majority: they
  work, and none of them needs what this node has lost. Until then nothing here is touched, and the node waits (a
  cluster whose other nodes are down may need a person who looks at what can be saved);
- the membership is the one they have agreed on since, and the answer is of this node's own cluster.

Then the directory is emptied and the node goes on as one that lost its disk: it counts for nothing, in votes and in
acknowledgements, until it has applied all that may have depended on it (`rejoin`). A node on its own, or one of two,
stops with the line that says what is wrong, as does one whose disk refuses to read or write: that is no damage that a
copy would heal.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Final

from zattredis.config import Settings, parse_address
from zattredis.config.cluster import Seed
from zattredis.errors import (
    ConfigError,
    DataDirectoryMismatch,
    FatalError,
    IdentityLost,
    LogDamaged,
    LogLost,
    StateDamaged,
    StateDiverged,
)
from zattredis.observability.events import get_logger
from zattredis.peer.tls import PeerTls
from zattredis.server.clock import random_64
from zattredis.server.joining import join
from zattredis.storage.datadir import DataDirectory, open_data_directory, read_identity
from zattredis.storage.repair import note_damage, noted_damage, remembered_members
from zattredis.storage.rocks import StoreOptions

_REPAIRABLE: Final = (LogLost, LogDamaged, StateDamaged, StateDiverged, IdentityLost)
_KEEP_STATE: Final = (StateDiverged, IdentityLost)
"""What is wrong is not that the state cannot be read: somebody may want to look at it."""

_log = get_logger(room="repair")


async def open_or_repair(
    settings: Settings, cluster_id: str, membership: bytes, tls: PeerTls | None = None
) -> DataDirectory:
    """Open the data directory; a damaged one is emptied first, once the others have shown that they can spare it.

    `cluster_id` is the one that the directory names, or would get.

    Raises FatalError where it can be neither opened nor repaired; then nothing has been changed.
    """
    path = Path(settings.dir)
    options = StoreOptions(
        cache_bytes=settings.state_cache_bytes, state_memtable_bytes=settings.state_write_buffer_bytes
    )

    def open_directory(membership: bytes, anew: bool = False, keep_state: bool = False) -> DataDirectory:
        return open_data_directory(
            path, node_id=settings.node_id, cluster_id=cluster_id, incarnation=f"{random_64():016x}",
            membership=membership, options=options, anew=anew, keep_state=keep_state,
        )  # fmt: skip

    others = sources(settings, path)
    noted = noted_damage(path) if others else None
    if noted is None:
        try:
            return open_directory(membership)
        except _REPAIRABLE as error:
            if not others:
                raise
            noted = str(error), isinstance(error, _KEEP_STATE)
    reason, keep_state = noted
    _log.critical(
        "damaged", error=reason, action="nothing is changed until a majority of the other nodes answers",
        asked=[str(seed) for seed in others],
    )  # fmt: skip
    found, agreed = await join(dataclasses.replace(settings, join=others), tls)
    if read_identity(path) is None:
        cluster_id = found  # a directory that no longer says so: those it knows as the others know
    if found != cluster_id:
        raise DataDirectoryMismatch(f"{path} is damaged ({reason}), and the others are of another cluster, {found!r}")
    _log.warning("repairing", error=reason, action="filled again from the others; no vote and no acknowledgement until")
    return open_directory(agreed, anew=True, keep_state=keep_state)


def sources(settings: Settings, path: Path) -> tuple[Seed, ...]:
    """Return where the other nodes can be asked; none if they are no majority of the voters without this node."""
    known = remembered_members(path)
    if known is not None:
        voters, addresses = known.voters, known.addresses
    else:
        voters = tuple(member.node_id for member in settings.cluster)
        addresses = {member.node_id: member.address for member in settings.cluster}
    others = [node_id for node_id in voters if node_id != settings.node_id]
    if 2 * len(others) <= len(voters):
        return ()
    found = []
    for node_id, address in addresses.items():
        try:
            member = parse_address(node_id, address)
        except ConfigError:
            continue
        if node_id != settings.node_id:
            found.append(Seed(member.host, member.port, member.peer_port))
    return tuple(found)


def note(path: Path, error: FatalError) -> None:
    """A node ends with this error: if it says that what lies on the disk is wrong, the next start repairs it."""
    if isinstance(error, _REPAIRABLE):
        note_damage(path, str(error), keep_state=isinstance(error, _KEEP_STATE))
