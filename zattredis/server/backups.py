"""Backups over the client port: a checkpoint of this node's state, held for one connection that reads it in pieces.

RAFT BACKUP BEGIN waits for a read point, so that everything acknowledged before is in it, makes a checkpoint on a
thread (hard links, so it costs a flush) and pins it. READ reads a piece on a thread. The checkpoint goes at END, when
its connection closes, or when nothing was asked of it for a while. What is read is never looked at here: digests and
compression are the work of whoever asks, so that a backup costs this node little more than reading its files.

A node keeps at most SESSIONS_MAX at a time: each holds on to files that the state may have done with.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from zattredis.commands.context import ClientProtocol
from zattredis.errors import DefiniteError, StorageError
from zattredis.observability.events import get_logger
from zattredis.raft.membership import Membership
from zattredis.server.clock import monotonic, random_64
from zattredis.storage.datadir import FORMAT, SNAPSHOT_PREFIX
from zattredis.storage.snapshots import create_checkpoint
from zattredis.version import __version__

if TYPE_CHECKING:
    from zattredis.server.node import Node

SESSIONS_MAX: Final = 2
PIECE_BYTES_MAX: Final = 4 << 20
IDLE_S: Final = 60.0
WHOLE_TRIES: Final = 5
"""A checkpoint that cuts a large entry in two is made again so often, for one that does not."""

_log = get_logger(room="backups")


class _Session:
    """One pinned checkpoint."""

    __slots__ = ("client_id", "files", "path", "reading", "used_at")

    def __init__(self, client_id: int, path: Path, files: list[tuple[str, int]]) -> None:
        self.client_id = client_id
        self.path = path
        self.files = files
        self.reading = 0
        self.used_at = monotonic()


class Backups:
    """One per node. `tick` is to be called about once a second."""

    __slots__ = ("_beginning", "_made", "_node", "_sessions")

    def __init__(self, node: Node) -> None:
        self._node = node
        self._sessions: dict[str, _Session] = {}
        self._beginning = 0
        self._made = 0

    @property
    def open(self) -> int:
        """How many are being read."""
        return len(self._sessions)

    async def begin(self, client: ClientProtocol, stale: bool) -> dict[str, Any]:
        """Pin a checkpoint and return what it is; its `token` is what `read` and `end` ask for.

        Unless `stale`, it holds every write that was acknowledged before the call. Raises DefiniteError.
        """
        node = self._node
        if len(self._sessions) + self._beginning >= SESSIONS_MAX:
            raise DefiniteError(f"this node is giving {SESSIONS_MAX} backups already; try later, or another node")
        self._beginning += 1
        try:
            if not stale:
                await node.services.execute(client, [b"EXISTS", b""])
            self._made += 1
            path = node.data.path / f"{SNAPSHOT_PREFIX}backup-{self._made}"
            store = node.applier.store
            for _ in range(WHOLE_TRIES):
                try:
                    made = asyncio.get_running_loop().run_in_executor(None, create_checkpoint, store, path)
                    applied, membership, files = await made
                except StorageError as error:
                    if store is not node.applier.store:
                        raise DefiniteError("the state was replaced as a backup of it was begun; try again") from None
                    # If it was the flush that failed, the next write to the state ends the node.
                    raise DefiniteError(f"no backup can be made: {error}") from None
                if not applied.ordinal:
                    break
        finally:
            self._beginning -= 1
        token = f"{random_64():016x}"
        self._sessions[token] = _Session(client.id, path, files)
        size = sum(size for _, size in files)
        _log.info("backup_begun", index=applied.index, term=applied.term, bytes=size, client=client.id)
        agreed = Membership.decode(membership)
        return {
            "token": token,
            "index": applied.index,
            "term": applied.term,
            "ordinal": applied.ordinal,
            "cluster_id": node.data.identity.cluster_id,
            "node_id": node.core.node_id,
            "version": __version__,
            "data_format": FORMAT,
            "state_machine_version": node.applier.machine_version,
            "voters": [f"{i}={agreed.addresses[i]}".encode() for i in agreed.voters],
            "learners": [f"{i}={agreed.addresses[i]}".encode() for i in agreed.learners],
            "piece_bytes_max": PIECE_BYTES_MAX,
            "files": [[name.encode(), size] for name, size in files],
        }

    async def read(self, client: ClientProtocol, token: str, file: int, offset: int, length: int) -> list[Any]:
        """Return [CRC-32, bytes] of a piece of a file (by its number); less than `length` only at the file's end."""
        session = self._session(client, token)
        if not (0 <= file < len(session.files) and 0 <= offset <= session.files[file][1]):
            raise DefiniteError("no such place in the backup")
        if not 0 < length <= PIECE_BYTES_MAX:
            raise DefiniteError(f"a piece has 1 to {PIECE_BYTES_MAX} bytes")
        name, size = session.files[file]
        wanted = min(length, size - offset)
        session.used_at = monotonic()
        session.reading += 1
        try:
            found = await asyncio.get_running_loop().run_in_executor(
                None, _read_piece, session.path / name, offset, wanted
            )
        except OSError as error:
            raise DefiniteError(f"reading {name} of the backup failed: {error.strerror}") from None
        finally:
            session.reading -= 1
            session.used_at = monotonic()
        return found

    async def end(self, client: ClientProtocol, token: str) -> None:
        """Give up the checkpoint."""
        self._session(client, token)
        await self._release(token, "ended")

    def _session(self, client: ClientProtocol, token: str) -> _Session:
        session = self._sessions.get(token)
        if session is None or session.client_id != client.id:
            raise DefiniteError("no such backup: it has ended, was idle for too long, or belongs to another connection")
        return session

    def _release(self, token: str, why: str) -> asyncio.Future[None]:
        """Forget a session at once; its files go on a thread."""
        session = self._sessions.pop(token)
        _log.info("backup_released", reason=why, client=session.client_id)
        return asyncio.get_running_loop().run_in_executor(None, shutil.rmtree, session.path, True)

    def tick(self) -> None:
        """Give up what belongs to connections that are closed, or that have asked for nothing for too long."""
        if not self._sessions:
            return
        now = monotonic()
        for token, session in list(self._sessions.items()):
            gone = self._node.clients.get(session.client_id) is None
            if gone or (not session.reading and now - session.used_at > IDLE_S):
                self._release(token, "its connection is closed" if gone else "idle")


def _read_piece(path: Path, offset: int, length: int) -> list[Any]:
    with path.open("rb", buffering=0) as file:
        data = os.pread(file.fileno(), length, offset)
        while len(data) < length:
            more = os.pread(file.fileno(), length - len(data), offset + len(data))
            if not more:
                raise OSError(0, "the file has become shorter")
            data += more
    return [zlib.crc32(data), data]
