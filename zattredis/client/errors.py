"""What a DistributedDict raises beside KeyError and TypeError.

Two families that never merge: `NotDone`, certainly not done, now or later; and `OutcomeUnknown`, which may have been
done, may yet be, or never will be: only reading can tell. `CodecError` concerns reading what is stored.
"""

from __future__ import annotations

from zattredis.errors import OutcomeUnknown, ZattredisError

__all__ = ["CodecError", "Conflict", "LockLost", "LockNotAcquired", "NotDone", "OutcomeUnknown", "PickleWarning",
           "Refused", "Unavailable"]  # fmt: skip


class NotDone(ZattredisError):
    """The operation was certainly not done and never will be; trying again is safe."""


class Unavailable(NotDone):
    """No node could be asked, or none had a quorum, until the deadline or the number of attempts was reached."""


class Refused(NotDone):
    """The server refused, with the text given (WRONGTYPE, NOAUTH, OOM, …)."""


class Conflict(NotDone):
    """Others wrote what this operation depends on: what a transaction has read, or again and again the whole dict."""


class LockNotAcquired(NotDone):
    """The lock was held by somebody else for as long as one was ready to wait."""


class LockLost(NotDone):
    """The lock is no longer held by this owner: its time ran out. What it guarded may belong to another already."""


class CodecError(ZattredisError, ValueError):
    """What is stored under a key is not what this codec, or the type given on opening, can read."""


class PickleWarning(UserWarning):
    """Values are pickles: whoever may write into this dict can run code in every process that reads it."""
