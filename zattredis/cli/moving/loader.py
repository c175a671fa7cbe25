"""Keys into a cluster: RESTORE by RESTORE, many in one exchange and several exchanges under way.

Short strings that do not expire go together, as one MSETNX (MSET where they are to replace): one command instead of
hundreds. Where a cluster does not take that, they go one by one after all. What is packed is unpacked here (`plain`),
once, rather than on every node.

What came of each key is counted, and the first few of each kind are named. A key that exists is left as it is, unless
it is to be replaced; then it is compared, so that an import that is repeated finds its own work and goes on.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from zattredis.cli.moving.pipe import Address, Pipe, pack
from zattredis.cli.moving.plain import plain, string_in
from zattredis.cli.moving.sources import Group, Item, type_name
from zattredis.cli.moving.verifying import dumps_of, same_value
from zattredis.cli.resp_client import ErrorReply
from zattredis.errors import DefiniteError

IMPORTED: Final = "imported"
EQUAL: Final = "there already, equal"
EXISTS: Final = "there already with another value, left as it was"
EXPIRED: Final = "expired already"
UNSUPPORTED: Final = "of a type that this server does not have"
NO_DATABASE: Final = "in a database that this server does not have"
FAILED: Final = "refused"
GOOD: Final = frozenset((IMPORTED, EQUAL, EXPIRED))

UNDER_WAY_MAX: Final = 4
TOGETHER_BYTES_MAX: Final = 4096
"""Longest dump of a string that goes with others."""
NAMED_MAX: Final = 10
PATIENCE_S: Final = 60.0
_PAUSE_S: Final = 0.2
_AGAIN: Final = ("CLUSTERDOWN", "TIMEOUT", "LOADING", "MASTERDOWN")
"""What passes: a RESTORE of the same value may be repeated whether it was done or not."""


@dataclass(slots=True)
class Outcome:
    """What came of the keys so far; `named` holds a line for the first few that were not imported."""

    counts: Counter[str] = field(default_factory=Counter)
    named: list[str] = field(default_factory=list)

    @property
    def keys(self) -> int:
        """How many keys were looked at."""
        return sum(self.counts.values())

    @property
    def good(self) -> bool:
        """Whether every key is now in the cluster as it was in the source."""
        return not self.counts.keys() - GOOD

    def add(self, what: str, db: int, item: Item, text: str = "") -> None:
        """Count one key that needs a word."""
        self.counts[what] += 1
        if what not in GOOD and len(self.named) < NAMED_MAX:
            kind = f"{type_name(item.kind)} " if what == UNSUPPORTED else ""
            self.named.append(f"{kind}{printable(item.key)} in database {db}: {text or what}")


def _likeness(item: Item) -> tuple[bool, int]:
    """Like stands with like: the server carries out runs of the same at less cost."""
    return bool(item.expire_ms), item.kind


def _together(items: list[Item]) -> int:
    """Return how many items, from the first on, are short strings that do not expire, nor were idle."""
    for count, item in enumerate(items):
        if item.kind or item.expire_ms or len(item.dump) > TOGETHER_BYTES_MAX or item.idle_s + item.frequency != -2:
            return count
    return len(items)


def printable(key: bytes) -> str:
    """Return a key as it is shown to a person."""
    text = key.decode(errors="backslashreplace")
    return repr(text if len(text) <= 100 else text[:100] + "…")


class Loader:
    """One connection to the cluster. `add` groups, then `finish`; `acknowledged` is told each group, in order."""

    def __init__(
        self, address: Address, timeout_s: float, outcome: Outcome, *, replace: bool,
        acknowledged: Callable[[Group], None],
    ) -> None:  # fmt: skip
        """Connect. Raises NoAnswer or ErrorReply."""
        self._pipe = Pipe(address, timeout_s)
        self._replace = replace
        self._acknowledged = acknowledged
        self.outcome = outcome
        self._under_way: deque[tuple[Group, list[Item], int]] = deque()
        self._takes_together = True
        self._address, self._timeout_s = address, timeout_s
        self._side: Pipe | None = None

    def close(self) -> None:
        """Close the connection."""
        self._pipe.close()
        if self._side is not None:
            self._side.close()

    def add(self, group: Group) -> None:
        """Send a group. Raises NoAnswer, or ErrorReply for what will not pass by waiting."""
        while len(self._under_way) >= UNDER_WAY_MAX:
            self._read_group()
        now_ms = int(time.time() * 1000)
        items = [item for item in group.items if not 0 < item.expire_ms <= now_ms]
        if len(items) < len(group.items):
            self.outcome.counts[EXPIRED] += len(group.items) - len(items)
        items.sort(key=_likeness)
        if group.db != self._pipe.db:
            self.finish()
            try:
                self._pipe.select(group.db)
            except ErrorReply:
                for item in items:
                    self.outcome.add(NO_DATABASE, group.db, item)
                self._acknowledged(group)
                return
        together = _together(items) if self._takes_together else 0
        if together > 1:
            try:
                packed = self._set(items[:together])
            except DefiniteError:  # damaged on its way: the server says which
                packed, together = b"", 0
        else:
            packed, together = b"", 0
        self._pipe.send_packed(packed + b"".join(map(self._restore, items[together:])))
        self._under_way.append((group, items, together))  # only now: who is interrupted waits for no replies to it

    def finish(self) -> None:
        """Wait for everything under way."""
        while self._under_way:
            self._read_group()

    def _set(self, items: list[Item]) -> bytes:
        words = [b"MSET" if self._replace else b"MSETNX"]
        for item in items:
            words += item.key, string_in(item.dump)
        return pack(tuple(words))

    def _restore(self, item: Item) -> bytes:
        key, expire_ms, dump, kind, idle_s, frequency = item
        if kind:
            dump = plain(dump)
        if not expire_ms and idle_s == frequency == -1:
            if self._replace:
                return pack((b"RESTORE", key, b"0", dump, b"REPLACE"))
            return pack((b"RESTORE", key, b"0", dump))
        words: tuple[bytes | int, ...] = (b"RESTORE", key, expire_ms, dump)
        if self._replace:
            words += (b"REPLACE",)
        if expire_ms:
            words += (b"ABSTTL",)
        if idle_s >= 0:
            words += (b"IDLETIME", idle_s)
        elif frequency >= 0:
            words += (b"FREQ", frequency)
        return pack(words)

    def _read_group(self) -> None:
        group, items, together = self._under_way.popleft()
        read = self._pipe.read
        others: list[tuple[Item, str]] = []
        good = 0
        if together:
            reply = read()
            if reply in (1, b"OK"):
                good = together
            else:
                others = self._apart(group, items[:together], str(reply))
        replies = [read() for _ in items[together:]]
        restored = replies.count(b"OK")
        self.outcome.counts[IMPORTED] += good + restored
        if restored < len(replies):
            rest = zip(items[together:], replies, strict=True)
            others += [(item, str(reply)) for item, reply in rest if reply != b"OK"]
        if others:
            self._look_at(group, others)
        self._acknowledged(group)

    def _apart(self, group: Group, items: list[Item], text: str) -> list[tuple[Item, str]]:
        """Send one by one what was not taken together; return what is not imported even so."""
        if text.startswith(_AGAIN):
            return [(item, text) for item in items]
        if text != "0":  # not because of a key that exists: it would be the same for the next group
            self._takes_together = False
        return self._send_aside(group, items)

    def _look_at(self, group: Group, others: list[tuple[Item, str]]) -> None:
        """Count what was not simply imported; what may pass by waiting is sent again first."""
        deadline = time.monotonic() + PATIENCE_S
        exist: list[Item] = []
        while others:
            again: list[Item] = []
            for item, text in others:
                if text.startswith("BUSYKEY"):
                    exist.append(item)
                elif text.startswith(_AGAIN) and time.monotonic() < deadline:
                    again.append(item)
                elif "Bad data format" in text:
                    known = type_name(item.kind) not in ("stream", "module") and "stream" not in text
                    self.outcome.add(FAILED if known else UNSUPPORTED, group.db, item, "" if not known else text)
                elif text.startswith(("ERR", "WRONGTYPE", "NOPERM")):
                    self.outcome.add(FAILED, group.db, item, text)
                else:
                    raise ErrorReply(f"{self._pipe.address.where} answered: {text}")
            others = self._again(group, again)
        if exist:
            self._compare(group, exist)

    def _aside(self, db: int) -> Pipe:
        """Return a connection on which nothing is under way."""
        if self._side is None:
            self._side = Pipe(self._address, self._timeout_s)
        self._side.select(db)
        return self._side

    def _again(self, group: Group, items: list[Item]) -> list[tuple[Item, str]]:
        """Send items again after a pause; return those that are still not imported."""
        if not items:
            return []
        time.sleep(_PAUSE_S)
        return self._send_aside(group, items)

    def _send_aside(self, group: Group, items: list[Item]) -> list[tuple[Item, str]]:
        pipe = self._aside(group.db)
        pipe.send_packed(b"".join(map(self._restore, items)))
        found = [(item, pipe.read()) for item in items]
        self.outcome.counts[IMPORTED] += sum(reply == b"OK" for _, reply in found)
        return [(item, str(reply)) for item, reply in found if reply != b"OK"]

    def _compare(self, group: Group, items: list[Item]) -> None:
        """Count keys that exist: equal ones are work that was done before."""
        for item, (dump, expire_ms) in zip(items, dumps_of(self._aside(group.db), items), strict=True):
            if dump is not None and expire_ms == item.expire_ms and same_value(dump, item.dump):
                self.outcome.counts[EQUAL] += 1
            else:
                self.outcome.add(EXISTS, group.db, item)
