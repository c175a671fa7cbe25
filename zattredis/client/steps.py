"""What an operation asks of the one who runs it, and what is done when that fails: without I/O, for both twins.

An operation is a generator: it yields steps and is sent their outcome. It may be started again from its beginning as
long as its writing batch was certainly not done, so it holds nothing from an earlier start and writes in one batch.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar

from redis.exceptions import ResponseError

from zattredis.client.errors import OutcomeUnknown, Refused, Unavailable

T = TypeVar("T")
Command: TypeAlias = tuple[Any, ...]

_TRY_ELSEWHERE = ("CLUSTERDOWN", "LOADING", "MASTERDOWN", "TRYAGAIN", "max number of clients", "ERR max number of")
_TRY_ELSEWHERE_CLASSES = ("ClusterDownError", "TryAgainError", "MasterDownError")
PAUSE_S_MIN, PAUSE_S_MAX = 0.02, 0.5


@dataclass(frozen=True, slots=True)
class Batch:
    """Commands sent together to one node; the outcome is the list of their replies. `writes` at most once in a run.

    Batches of one `lane` go through one connection, as WATCH needs it.
    """

    commands: list[Command]
    writes: bool = False
    lane: int = 0


@dataclass(frozen=True, slots=True)
class Pause:
    """Wait a while; the outcome is an empty list."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Emit:
    """Hand a value to whoever iterates; the outcome is an empty list."""

    value: Any


Step: TypeAlias = Batch | Pause | Emit
Operation: TypeAlias = Generator[Step, list[Any], T]


def atomically(*commands: Command) -> Batch:
    """Return the batch that does the commands as one."""
    return Batch([("MULTI",), *commands, ("EXEC",)], writes=True)


def jitter(trial: int) -> Pause:
    """Return the pause before another try of something contended, longer each time."""
    return Pause(random.uniform(0, min(0.001 * 2 ** min(trial, 8), 0.1)))


class TryElsewhere(Exception):
    """The batch was certainly not done, or only read: the operation starts again on another connection."""


class Trial:
    """How often and how long one operation has been tried."""

    def __init__(self, addresses: int, attempts: int | None, deadline_s: float) -> None:
        self.addresses = addresses
        self.attempts = attempts
        self.deadline_s = deadline_s
        self.succeeded()

    def succeeded(self) -> None:
        """Start counting anew: a stream has brought something."""
        self.ends = time.monotonic() + self.deadline_s
        self.failures = 0

    def failed(self, error: BaseException) -> float:
        """Count a failure that left nothing done; return the seconds to wait. Raises Unavailable if that was the last.

        All addresses are tried once before any waiting; `attempts` counts such rounds after the first.
        """
        self.failures += 1
        rounds, place = divmod(self.failures, self.addresses)
        now = time.monotonic()
        if now >= self.ends or (self.attempts is not None and place == 0 and rounds > self.attempts):
            times = "1 failure" if self.failures == 1 else f"{self.failures} failures"
            text = f"certainly not done, given up after {times}; the last: {error}"
            raise Unavailable(text) from error
        if place:
            return 0.0
        longest = min(PAUSE_S_MIN * 2 ** min(rounds - 1, 6), PAUSE_S_MAX)
        return min(random.uniform(longest / 2, longest), self.ends - now)


def broken(batch: Batch, error: BaseException) -> Exception:
    """Return what a connection that broke after the batch had begun to leave means."""
    if batch.writes:
        name = next(str(command[0]) for command in batch.commands if command[0] != "MULTI")
        text = f"the connection broke after {name} was sent ({error}), outcome unknown: read before you retry"
        return OutcomeUnknown(text)
    return TryElsewhere(str(error))


def reply_in(error: Exception) -> ResponseError | None:
    """Return the reply that redis-py raised as if the connection were broken, None if it is."""
    name, text = type(error).__name__, str(error)
    if name == "BusyLoadingError":
        return ResponseError("LOADING " + text)
    if name in ("AuthenticationError", "AuthorizationError") or text.startswith("max number of clients"):
        return ResponseError(text)
    return None


def first_error(replies: list[Any]) -> ResponseError | None:
    """Return the first error among replies, also inside the reply of EXEC."""
    for reply in replies:
        if isinstance(reply, ResponseError):
            return reply
        if isinstance(reply, list):
            inner = next((item for item in reply if isinstance(item, ResponseError)), None)
            if inner is not None:
                return inner
    return None


def judge(batch: Batch, replies: list[Any]) -> None:
    """Accept the replies. Raises OutcomeUnknown, TryElsewhere or Refused."""
    error = first_error(replies)
    if error is None:
        return
    text = str(error)
    errors = (str(reply) for reply in replies if isinstance(reply, ResponseError))
    unknown = next((reply for reply in errors if reply.startswith("TIMEOUT")), "")
    if unknown:
        if batch.writes:
            raise OutcomeUnknown(unknown.removeprefix("TIMEOUT ")) from error
        raise TryElsewhere(text) from error
    if text.startswith(_TRY_ELSEWHERE) or type(error).__name__ in _TRY_ELSEWHERE_CLASSES:
        raise TryElsewhere(text) from error
    raise Refused(text) from error


def next_step(operation: Operation[T], replies: list[Any] | Exception | None) -> Step:
    """Go on with the outcome of the last step. Raises StopIteration with the operation's result."""
    if replies is None:
        return next(operation)
    if isinstance(replies, Exception):
        return operation.throw(replies)
    return operation.send(replies)


Starter: TypeAlias = Callable[[], Operation[T]]
