"""Queues of a simulated cluster: elements pushed and popped by clients that wait, each of them found once in the end.

Every element is pushed once and is different from all others. What was never executed must never show; everything else
is found exactly once, with a client or in a queue. Only these may be gone: what was on its way to a client that had
left, what a client was told TIMEOUT for, and what a process was doing for its clients when it ended.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from tests.simulation.checks import require

if TYPE_CHECKING:
    from tests.simulation.workload import Request

LISTS = (b"list:0", b"list:1")
SORTED_SET = b"zset:0"


class Queues:
    """All elements of a run. `fresh` makes them; `share` of what clients do is about queues, and a little more."""

    def __init__(self, fresh: Callable[[], bytes], share: float) -> None:
        self._fresh = fresh
        self.share = share
        self._pushed: set[bytes] = set()
        self._uncertain: set[bytes] = set()  # pushed, perhaps
        self._popped: dict[bytes, str] = {}
        self._on_the_way: set[bytes] = set()  # to a client that had left: moved or popped, nobody knows
        self._may_be_lost = 0
        self._left: list[tuple[int, Callable[[], bool]]] = []

    # -- what to do --------------------------------------------------------------------------------------------------

    def request(
        self, rng: random.Random, make: Callable[..., Request], who: str, lives_on: Callable[[], bool]
    ) -> list[Request]:
        """Return something to do with the queues. `lives_on`, asked in the end, says whether its process still runs."""
        kind = rng.random()
        if kind < 0.45:
            return [self._push(rng, make)]
        if kind < 0.5:
            request = make(("MULTI",))
            queued = self._push(rng, make)
            one: Request = make(("EXEC",), definite_errors=("EXECABORT",))
            one.done, one.outcome = (lambda reply, now: queued.done(reply[0], now)), queued.outcome
            queued.done, queued.outcome = (lambda reply, now: None), (lambda what: None)
            return [request, queued, one]
        timeout = rng.choice([0.01, 0.05, 0.3, 1])
        if kind < 0.6:
            return [make(("BLMOVE", *rng.sample(LISTS, 2), rng.choice(["LEFT", "RIGHT"]), "RIGHT", timeout))]
        count = 1
        lists = rng.sample(LISTS, rng.choice([1, 2]))
        argv: tuple[Any, ...]
        at_once = kind < 0.68
        if at_once:
            argv, count = (rng.choice(["LPOP", "RPOP"]), lists[0], 2), 2
        elif kind < 0.8:
            argv = (rng.choice(["BLPOP", "BRPOP"]), *lists, timeout)
        elif kind < 0.9:
            argv, count = ("BLMPOP", timeout, len(lists), *lists, "LEFT", "COUNT", 3), 3
        elif kind < 0.95:
            argv = (rng.choice(["BZPOPMIN", "BZPOPMAX"]), SORTED_SET, timeout)
        else:
            argv, count = ("BZMPOP", timeout, 1, SORTED_SET, "MAX", "COUNT", 2), 2
        pop: Request = make(argv)
        pop.done = lambda reply, now: self._got((reply or []) if at_once else _elements(reply), who)

        def outcome(what: str) -> None:
            if what == "unknown" or (what == "left" and at_once):  # only who blocks is promised more
                self._may_be_lost += count
            elif what == "left":
                self._left.append((count, lives_on))

        pop.outcome = outcome
        return [pop]

    def _push(self, rng: random.Random, make: Callable[..., Request]) -> Request:
        element = self._fresh()
        argv: tuple[Any, ...] = (rng.choice(["RPUSH", "LPUSH"]), rng.choice(LISTS), element)
        if rng.random() < 0.3:
            argv = ("ZADD", SORTED_SET, rng.randrange(5), element)
        request: Request = make(argv)
        self._uncertain.add(element)  # until it is answered, and it may be popped before

        def done(reply: Any, now: float) -> None:
            self._uncertain.discard(element)
            self._pushed.add(element)

        def outcome(what: str) -> None:
            if what == "refused":
                self._uncertain.discard(element)

        request.done, request.outcome = done, outcome
        return request

    def lost_on_the_way(self, data: bytes) -> None:
        """The server has sent this to a client that had left."""
        for word in data.split(b"\r\n"):
            if word in self._pushed or word in self._uncertain:
                self._on_the_way.add(word)

    # -- what must hold ----------------------------------------------------------------------------------------------

    def _got(self, elements: list[bytes], who: str) -> None:
        for element in elements:
            require(
                element in self._pushed or element in self._uncertain,
                f"{who} popped {element!r}, which nobody pushed or whose push was refused",
            )
            require(element not in self._popped, f"{element!r} was popped twice: {self._popped.get(element)}, {who}")
            self._popped[element] = who

    def final_reads(self, make: Callable[..., Request]) -> list[Request]:
        """Return reads of all queues; the last one judges."""
        left: list[bytes] = []
        requests: list[Request] = []
        for argv in [("LRANGE", key, 0, -1) for key in LISTS] + [("ZRANGE", SORTED_SET, 0, -1)]:
            request: Request = make(argv)
            request.done = lambda reply, now: left.extend(reply)
            requests.append(request)

        def judge(reply: Any, now: float) -> None:
            left.extend(reply)
            self._judge(left)

        requests[-1].done = judge
        return requests

    def _judge(self, left: list[bytes]) -> None:
        require(len(left) == len(set(left)), f"an element is there twice: {left}")
        self._got(left, "the end")
        missing = sorted(self._pushed - set(self._popped) - self._on_the_way)
        explained = self._may_be_lost + sum(count for count, lives_on in self._left if not lives_on())
        require(
            len(missing) <= explained,
            f"{len(missing)} elements are gone, pops of unknown outcome explain {explained}: {missing[:10]}",
        )


def _elements(reply: Any) -> list[bytes]:
    """Return the elements in the reply of a pop."""
    if reply is None:
        return []
    if isinstance(reply[1], list):
        return [one[0] if isinstance(one, list) else one for one in reply[1]]
    return [reply[1]]
