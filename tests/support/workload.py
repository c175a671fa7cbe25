"""Clients that work while nodes die: each on one node, each operation recorded with its times and its outcome.

All clients run on one event loop in a thread of their own, so that a test kills and pauses processes meanwhile. A
client sends a batch of `depth` operations in one piece and then reads the replies. When the connection breaks, what was
in flight is recorded as unknown and the client connects again to the same node.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import hiredis

from tests.support.cluster import Node, wait_until
from tests.support.linearizability import APPEND, DELETE, INCREMENT, READ, WRITE, WRITE_IF_ABSENT, Operation
from tests.support.resp_client import Argument, encode_command

RECONNECT_S = 0.02
STALL_S = 60.0


@dataclass(frozen=True, slots=True)
class Trouble:
    """Something a client noticed: an error reply or a broken connection."""

    node: int
    when: float
    what: str
    is_reply: bool


Plan = Callable[[random.Random, int, int], Operation]
"""(random generator of the client, number of the client, number of the operation) -> what to do next"""


def words_of(operation: Operation) -> tuple[Argument, ...]:
    """The command that carries the operation out."""
    kind, key, argument = operation.kind, operation.key, operation.argument
    if kind == READ:
        return ("GET", key)
    if kind == WRITE:
        return ("SET", key, argument)
    if kind == INCREMENT:
        return ("INCRBY", key, argument)
    if kind == APPEND:
        return ("APPEND", key, argument)
    if kind == DELETE:
        return ("DEL", key)
    if kind == WRITE_IF_ABSENT:
        return ("SETNX", key, argument)
    raise ValueError(kind)


def registers(keys: int, kinds: Sequence[str] = (READ, READ, WRITE)) -> Plan:
    """Operations of the given kinds on a few shared keys; every written value is unique."""
    serial = itertools.count()

    def plan(rng: random.Random, client: int, number: int) -> Operation:
        kind = rng.choice(kinds)
        argument: Any = b"%d" % next(serial) if kind in (WRITE, WRITE_IF_ABSENT) else b"x" if kind == APPEND else 1
        return Operation(kind, b"key:%d" % rng.randrange(keys), argument)

    return plan


def counters(keys: int) -> Plan:
    """INCR on a few shared keys."""
    return registers(keys, (INCREMENT,))


def journals() -> Plan:
    """Each client appends its own numbered tokens to its own key: what was executed, how often and in which order."""

    def plan(rng: random.Random, client: int, number: int) -> Operation:
        return Operation(APPEND, b"journal:%d" % client, b"%d." % number)

    return plan


class Load:
    """Clients at work between `with` and its end. `history` holds every operation, refused ones excepted."""

    def __init__(
        self,
        nodes: Sequence[Node],
        plan: Plan,
        *,
        clients_per_node: int = 3,
        depth: int = 1,
        pause_s: float = 0.0,
        seed: int = 1,
    ) -> None:
        self.history: list[Operation] = []
        self.troubles: list[Trouble] = []
        self.acknowledged = 0
        self._acknowledged_at: Counter[int] = Counter()
        self._nodes = list(nodes)
        self._plan = plan
        self._clients_per_node = clients_per_node
        self._depth = depth
        self._pause_s = pause_s
        self._seed = seed
        self._stop = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._main, name="load", daemon=True)

    # --- from the test's thread

    def __enter__(self) -> Load:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        self.stop()
        if self._failure is not None and kind is None:
            raise self._failure

    def stop(self) -> None:
        """Let every client finish the operation it is in, and end."""
        self._stop.set()
        self._thread.join()

    def wait_more(self, count: int, nodes: Sequence[int] | None = None, timeout_s: float = 60.0) -> None:
        """Until `count` more operations were acknowledged (on each of the given nodes, if any are given)."""
        before = Counter(self._acknowledged_at)
        total = self.acknowledged

        def enough() -> bool:
            if self._failure is not None:
                raise self._failure
            if nodes is None:
                return self.acknowledged >= total + count
            return all(self._acknowledged_at[i] >= before[i] + count for i in nodes)

        wait_until(enough, f"{count} more acknowledged operations", timeout_s)

    def troubles_on(self, nodes: Sequence[int]) -> list[Trouble]:
        return [trouble for trouble in self.troubles if trouble.node in nodes]

    # --- in the thread

    def _main(self) -> None:
        try:
            asyncio.run(self._run())
        except BaseException as error:
            self._failure = error

    async def _run(self) -> None:
        pairs = [(i, c) for i in range(len(self._nodes)) for c in range(self._clients_per_node)]
        async with asyncio.TaskGroup() as group:
            for client, (node, _) in enumerate(pairs):
                group.create_task(self._client(node, client))

    async def _client(self, node: int, client: int) -> None:
        rng = random.Random(self._seed * 1000 + client)
        numbers = itertools.count()
        while not self._stop.is_set():
            try:
                target = self._nodes[node]
                reader, writer = await asyncio.open_connection(target.host, target.port)
            except OSError:
                await asyncio.sleep(RECONNECT_S)
                continue
            try:
                while not self._stop.is_set():
                    batch = [self._plan(rng, client, next(numbers)) for _ in range(self._depth)]
                    if not await self._execute(node, client, batch, reader, writer):
                        break
                    if self._pause_s:
                        await asyncio.sleep(self._pause_s)
            finally:
                writer.close()
                with contextlib.suppress(OSError):
                    await writer.wait_closed()

    async def _execute(
        self, node: int, client: int, batch: list[Operation], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        """One batch on one connection; False when the connection is of no more use."""
        parser = hiredis.Reader()
        left = list(batch)
        invoked = time.monotonic()
        try:
            writer.write(b"".join(encode_command(words_of(each)) for each in batch))
            await writer.drain()
            while left:
                async with asyncio.timeout(STALL_S):
                    data = await reader.read(65536)
                if not data:
                    raise ConnectionError("closed by the server")
                parser.feed(data)
                while left and (reply := parser.gets()) is not False:
                    self._record(node, client, left.pop(0), reply, invoked)
        except (OSError, TimeoutError) as error:
            self.troubles.append(Trouble(node, time.monotonic(), repr(error), False))
            for operation in left:
                self._note(operation, client, None, invoked, known=False)
            return False
        return True

    def _record(self, node: int, client: int, operation: Operation, reply: Any, invoked: float) -> None:
        if isinstance(reply, hiredis.ReplyError):
            text = str(reply)
            self.troubles.append(Trouble(node, time.monotonic(), text, True))
            if text.startswith("TIMEOUT"):
                self._note(operation, client, None, invoked, known=False)
            return
        result = bool(reply) if operation.kind == WRITE_IF_ABSENT else reply
        self._note(operation, client, result, invoked, known=True)
        self.count(node)

    def count(self, node: int) -> None:
        """One more operation was acknowledged by this node."""
        self.acknowledged += 1
        self._acknowledged_at[node] += 1

    def _note(self, operation: Operation, client: int, result: Any, invoked: float, *, known: bool) -> None:
        returned = time.monotonic() if known else float("inf")
        self.history.append(
            Operation(operation.kind, operation.key, operation.argument, result, invoked, returned, known, client)
        )


# --- what must hold afterwards


def check_counters(history: Sequence[Operation], totals: dict[bytes, int]) -> None:
    """Every acknowledged INCR counted once; only unknown ones may be missing. Answers were never given twice."""
    for key, total in totals.items():
        done = [operation for operation in history if operation.key == key and operation.known]
        unknown = sum(1 for operation in history if operation.key == key and not operation.known)
        answers = [operation.result for operation in done]
        assert len(set(answers)) == len(answers), f"{key!r}: the same INCR answer was given twice"
        counts = f"{key!r}: {len(done)} acknowledged, {unknown} unknown, {total} stored"
        assert len(done) <= total <= len(done) + unknown, counts
        assert not answers or max(answers) <= total, f"{key!r}: answered {max(answers)}, stored {total}"


def check_journals(history: Sequence[Operation], stored: dict[bytes, bytes | None]) -> None:
    """Every acknowledged token is there once and all are in the order they were sent; unknown ones at most once."""
    for key, value in stored.items():
        mine = [operation for operation in history if operation.key == key]
        found = [int(token) for token in (value or b"").split(b".")[:-1]]
        acknowledged = {int(operation.argument[:-1]) for operation in mine if operation.known}
        possible = {int(operation.argument[:-1]) for operation in mine}
        assert found == sorted(set(found)), f"{key!r}: out of order or twice: {_disorder(found)}"
        lost = sorted(acknowledged - set(found))
        assert not lost, f"{key!r}: {len(lost)} acknowledged writes lost, first {lost[:5]}"
        refused = sorted(set(found) - possible)
        assert not refused, f"{key!r}: refused writes were executed: {refused[:5]}"


def _disorder(found: list[int]) -> list[tuple[int, int]]:
    return [(a, b) for a, b in itertools.pairwise(found) if b <= a][:5]


def read_keys(node: Node, keys: Sequence[bytes]) -> dict[bytes, bytes | None]:
    """The values of the keys, by one linearizable read each."""
    with node.client() as client:
        return dict(zip(keys, client.pipeline(("GET", key) for key in keys), strict=True))


def keys_of(history: Sequence[Operation]) -> list[bytes]:
    return sorted({operation.key for operation in history})
