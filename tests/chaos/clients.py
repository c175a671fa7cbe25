"""Clients as people use them: redis-py, one connection each, told to repeat nothing by itself."""

from __future__ import annotations

import asyncio
import itertools
import random
import time

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import BusyLoadingError, ClusterDownError, RedisError, ResponseError, WatchError

from tests.support.linearizability import (
    APPEND,
    COMPARE_AND_SET,
    DELETE,
    INCREMENT,
    READ,
    WRITE,
    WRITE_IF_ABSENT,
    Operation,
)
from tests.support.workload import RECONNECT_S, STALL_S, Load, Trouble, words_of

JOURNAL_TOKENS = 500
"""Tokens in one journal; the next key comes then, for a value is stored whole by each APPEND."""
EPOCH = 150
"""Operations on one generation of the shared keys: the checker's work grows steeply with the length of a history."""
STEP = 1000
"""From one written number to the next: more than the INCREMENTs of a generation, which must not make the same one.

An EXEC answers nil, rightly, where the watched key was written with the value it had; a compare-and-set succeeds."""
REFUSALS = ("CLUSTERDOWN", "DISKFULL", "TIMEOUT", "LOADING")
"""What a node in trouble may answer. TIMEOUT leaves the outcome open; the others say that nothing was done."""
ABORTED = "Watched variable changed."
"""How redis-py tells of an EXEC that answered nil."""

_NUMBERS = (READ, READ, WRITE, INCREMENT, COMPARE_AND_SET, COMPARE_AND_SET, DELETE)
_TEXTS = (READ, READ, APPEND, APPEND, WRITE_IF_ABSENT, DELETE)


class MixedPlan:
    """A third journals, each of one client; the rest on few keys that all share, and that change all the time."""

    def __init__(self) -> None:
        self._serials = itertools.count(1)

    def __call__(self, rng: random.Random, client: int, number: int) -> Operation:
        """The next operation of this client. The arguments of COMPARE_AND_SET are (unknown yet, after)."""
        if rng.random() < 0.34:
            key = b"journal:%d:%d" % (client, number // JOURNAL_TOKENS)
            return Operation(APPEND, key, b"%d." % number)
        serial = next(self._serials)
        texts = rng.random() < 0.4
        kind = rng.choice(_TEXTS if texts else _NUMBERS)
        key = b"%b:%d:%d" % (b"text" if texts else b"number", serial // EPOCH, rng.randrange(3))
        if kind == COMPARE_AND_SET:
            return Operation(kind, key, (None, b"%d" % (serial * STEP)))
        if kind == INCREMENT:
            return Operation(kind, key, 1)
        return Operation(kind, key, b"%d;" % serial if texts else b"%d" % (serial * STEP))


class RedisPyLoad(Load):
    """A load whose clients are redis-py's. `unexpected` holds the error replies that no fault explains."""

    @property
    def unexpected(self) -> list[Trouble]:
        return [each for each in self.troubles if each.is_reply and not each.what.startswith(REFUSALS)]

    async def _client(self, node: int, client: int) -> None:
        rng = random.Random(self._seed * 1000 + client)
        target = self._nodes[node]
        redis = Redis(
            host=target.host,
            port=target.port,
            protocol=rng.choice((2, 3)),
            socket_timeout=STALL_S,
            socket_connect_timeout=5.0,
            retry=Retry(NoBackoff(), 0),
        )
        fresh = True
        try:
            for number in itertools.count():
                if self._stop.is_set():
                    break
                fresh = not await self._one(redis, node, client, self._plan(rng, client, number), connect=fresh)
                await asyncio.sleep(RECONNECT_S if fresh else self._pause_s)
        finally:
            await redis.aclose()

    async def _one(self, redis: Redis, node: int, client: int, operation: Operation, *, connect: bool) -> bool:
        """Carry one operation out; False when the connection has to be made anew."""
        invoked = 0.0
        try:
            if connect:  # an operation that found nobody to speak to is not one
                await redis.ping()
            invoked = time.monotonic()
            if operation.kind == COMPARE_AND_SET:
                await self._compare_and_set(redis, node, client, operation)
            else:
                reply = await redis.execute_command(*words_of(operation))
                self._done(node, client, operation, reply, invoked)
        except (ResponseError, BusyLoadingError) as error:
            text = _text(error)
            self.troubles.append(Trouble(node, time.monotonic(), text, True))
            if text.startswith("TIMEOUT") and operation.kind != COMPARE_AND_SET:
                self._note(operation, client, None, invoked, known=False)
        except (OSError, RedisError, TimeoutError) as error:
            self.troubles.append(Trouble(node, time.monotonic(), repr(error), False))
            if invoked and operation.kind != COMPARE_AND_SET:
                self._note(operation, client, None, invoked, known=False)
            return False
        return True

    async def _compare_and_set(self, redis: Redis, node: int, client: int, operation: Operation) -> None:
        """WATCH, GET, MULTI, SET, EXEC: a read, and a write that is done if nobody wrote in between."""
        invoked = time.monotonic()
        async with redis.pipeline(transaction=True) as pipe:
            await pipe.watch(operation.key)
            before = await pipe.get(operation.key)
            self._done(node, client, Operation(READ, operation.key), before, invoked)
            attempt = Operation(COMPARE_AND_SET, operation.key, (before, operation.argument[1]))
            pipe.multi()  # type: ignore[no-untyped-call]
            pipe.set(operation.key, operation.argument[1])
            try:
                await pipe.execute()
                self._done(node, client, attempt, True, invoked)
            except WatchError as error:
                if str(error) != ABORTED:  # redis-py says so of a broken connection, too
                    self._note(attempt, client, None, invoked, known=False)
                    raise
                self._done(node, client, attempt, False, invoked)
            except ResponseError as error:
                if _text(error).startswith("TIMEOUT"):
                    self._note(attempt, client, None, invoked, known=False)
                raise
            except (OSError, RedisError, TimeoutError):
                self._note(attempt, client, None, invoked, known=False)
                raise

    def _done(self, node: int, client: int, operation: Operation, reply: object, invoked: float) -> None:
        result = bool(reply) if operation.kind in (WRITE_IF_ABSENT, COMPARE_AND_SET) else reply
        self._note(operation, client, result, invoked, known=True)
        self.count(node)


def _text(error: Exception) -> str:
    """The reply as it was on the wire, as far as redis-py keeps it: it takes the first word off some."""
    if isinstance(error, ClusterDownError):
        return f"CLUSTERDOWN {error}"
    if isinstance(error, BusyLoadingError):
        return f"LOADING {error}"
    text = str(error)
    marker = " of pipeline caused error: "  # redis-py puts before it which command it was, or makes it a tuple
    return (text.partition(marker)[2] if marker in text else text).lstrip("('\"")
