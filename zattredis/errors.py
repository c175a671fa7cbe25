"""Every exception class of zattredis, in one tree.

Two families never merge: an error that says *certainly not done* (`DefiniteError`) and the one that says
*may have been done* (`OutcomeUnknown`). A `ReplyError` is something a client reads: it owns a Redis prefix
(`ERR`, `WRONGTYPE`, …). A `FatalError` ends the process with one line a person understands.
"""

from __future__ import annotations


class ZattredisError(Exception):
    """Root of all exceptions raised on purpose by this package."""


class FatalError(ZattredisError):
    """The node cannot go on safely; its text is the one line that is printed before the process ends."""


class NodeRemoved(FatalError):
    """This node was removed from its cluster and has nothing more to do."""


class InvariantViolated(FatalError):
    """Something happened that the protocol rules out; going on could lose or invent data."""


class ConfigError(ZattredisError):
    """A setting is unknown, of the wrong type or contradictory; the text names the place and the remedy."""


class StorageError(FatalError):
    """The disk, or what lies on it, cannot be trusted."""


class DataDirectoryBusy(StorageError):
    """Another process holds the lock of the data directory."""


class DataDirectoryMismatch(StorageError):
    """The data directory belongs to another node, cluster or format version."""


class IdentityLost(DataDirectoryMismatch):
    """A data directory that was complete no longer says whose it is, or in which format."""


class LogLost(StorageError):
    """The log is behind what it is known to have held durably."""


class LogDamaged(StorageError):
    """A stored log entry is missing or fails its checksum."""


class StateDamaged(StorageError):
    """The state database contradicts its own record or fails a checksum."""


class StateDiverged(StorageError):
    """This node's state differs from the one that a majority of the voters computed from the same log."""


class StorageFailed(StorageError):
    """A write, read or sync was refused by the operating system (EIO, ENOSPC, …)."""


class WriteStalled(ZattredisError):
    """RocksDB asked to slow down; nothing was written and the same write may be retried."""


class SnapshotDamaged(ZattredisError):
    """A received snapshot fails a size, sequence or digest check and was not installed."""


class SnapshotFailed(ZattredisError):
    """A snapshot did not get to its receiver, or was not accepted there; it may be sent again."""


class BackupDamaged(ZattredisError):
    """A backup is of an unknown version, cut short, or fails a checksum; the text says where."""


class SnapshotRefused(SnapshotFailed):
    """The receiver of a snapshot wants nothing of it, now at least."""


class LogCompacted(ZattredisError):
    """The asked-for log index lies before the first one held."""


class NotLeader(ZattredisError):
    """The proposal was not taken because this node is not the leader."""


class ProposalRefused(ZattredisError):
    """The leader did not take the proposal (transfer under way, too many uncommitted bytes); it was not appended."""


class FrameError(ZattredisError):
    """A peer sent bytes that are not a frame of this protocol; the link is closed."""


class HandshakeRefused(ZattredisError):
    """A peer belongs to another cluster, speaks another version or lacks the secret."""


def shown(word: bytes) -> str:
    """Return a client's word as it may stand in an error line: up to its first zero byte, as Redis writes it."""
    return word.partition(b"\0")[0].decode("utf-8", "surrogateescape")


class ReplyError(ZattredisError):
    """An error reply. `str(error)` is the text on the wire without the leading `-`."""

    prefix = "ERR"

    def __init__(self, message: str, prefix: str | None = None) -> None:
        if prefix is not None:
            self.prefix = prefix
        self.message = message
        super().__init__(f"{self.prefix} {message}")

    def spelt(self, name: bytes) -> ReplyError:
        """Return the error as it is sent to a client that called the command by this name."""
        return self


class DefiniteError(ReplyError):
    """The command was not executed and never will be."""


class NamesCommand(DefiniteError):
    """Its text shows the command's name as the client spelt it: `{}`, until the executor fills it in."""

    def spelt(self, name: bytes) -> ReplyError:
        """Return the error with the name."""
        return DefiniteError(self.message.replace("{}", shown(name)))


class SubcommandSyntax(DefiniteError):
    """The subcommand of `container` is unknown or takes other arguments; `word` is how the client spelt it."""

    def __init__(self, container: str, word: bytes) -> None:
        super().__init__(
            f"unknown subcommand or wrong number of arguments for '{shown(word[:128])}'. Try {container} HELP."
        )


class OutcomeUnknown(ReplyError):
    """The command may have been executed, may yet be, or never will be; only reading can tell."""

    prefix = "TIMEOUT"

    def __init__(self, message: str = "no quorum answered in time, outcome unknown: read before you retry") -> None:
        super().__init__(message)


class WrongType(DefiniteError):
    """The key holds another type."""

    prefix = "WRONGTYPE"

    def __init__(self) -> None:
        super().__init__("Operation against a key holding the wrong kind of value")


class SyntaxReplyError(DefiniteError):
    """Redis's `syntax error`."""

    def __init__(self) -> None:
        super().__init__("syntax error")


class ClusterDown(DefiniteError):
    """No quorum; the command was never handed over."""

    prefix = "CLUSTERDOWN"


class DiskFull(DefiniteError):
    """Writes are refused until there is room."""

    prefix = "DISKFULL"


class OutOfMemoryError(DefiniteError):
    """A bound on memory refuses the command."""

    prefix = "OOM"


class ReadOnly(DefiniteError):
    """Writes are refused here."""

    prefix = "READONLY"


class NoAuth(DefiniteError):
    """Authentication is required."""

    prefix = "NOAUTH"

    def __init__(self) -> None:
        super().__init__("Authentication required.")


class ExecAbort(DefiniteError):
    """EXEC after a queueing error."""

    prefix = "EXECABORT"

    def __init__(self, message: str = "Transaction discarded because of previous errors.") -> None:
        super().__init__(message)
