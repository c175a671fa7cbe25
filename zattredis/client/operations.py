"""Every operation of a DistributedDict, once, for both twins: keys and values in, Redis commands between.

One dict is one hash under the key that is its name. A KeyError is decided by the server's reply.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Generic, TypeVar, cast

from zattredis.client.errors import Conflict, Refused
from zattredis.client.local_copy import LocalCopy
from zattredis.client.policies import RefreshPolicy, RefreshPolicyAlways
from zattredis.client.steps import Batch, Emit, Operation, Pause, atomically, jitter
from zattredis.client.values import Codec, decode_key, encode_key

K = TypeVar("K")
V = TypeVar("V")
T = TypeVar("T")

CONTENTION_TRIALS_MAX = 200
SCAN_COUNT = 512
INT64_MAX = 2**63 - 1


class Absent:
    """The type of `ABSENT`: no value, where None is one."""

    def __repr__(self) -> str:
        return "ABSENT"


ABSENT = Absent()


def flat(items: Iterable[tuple[bytes, bytes]]) -> list[bytes]:
    """Return field, value, field, value …"""
    return [part for item in items for part in item]


def pairs(reply: list[bytes]) -> dict[bytes, bytes]:
    """Return the dict of a flat reply."""
    return dict(zip(reply[::2], reply[1::2], strict=True))


def contended() -> Conflict:
    """Return the error of an operation that others overtook again and again."""
    return Conflict(f"others wrote to this dict in between, {CONTENTION_TRIALS_MAX} times in a row")


class Cursor:
    """How far a scan has come; valid on every node, so that it survives a failover."""

    def __init__(self) -> None:
        self.position = b"0"


class Operations(Generic[K, V]):
    """The operations of one dict. `keys` are the types a key may be of, None for any."""

    def __init__(self, name: str, codec: Codec[V], policy: RefreshPolicy | None) -> None:
        if not name:
            raise ValueError("a dict needs a name that is not empty")
        self.name = name.encode()
        self.codec = codec
        self.key_types: tuple[type, ...] | None = None
        self.opening_error: Exception | None = None
        self.policy = None if isinstance(policy, RefreshPolicyAlways) else policy
        self.local_copy = LocalCopy()

    # --- forms

    def field(self, key: object) -> bytes:
        """Return the field of a key. Raises TypeError if it is none of this dict's."""
        if self.opening_error is not None:
            raise self.opening_error
        if self.key_types is not None and not isinstance(key, self.key_types):
            allowed = " | ".join(kind.__name__ for kind in self.key_types)
            raise TypeError(f"keys of this dict are {allowed}, not {type(key).__name__}")
        return encode_key(key)

    def key(self, field: bytes) -> K:
        """Return the key of a field. Raises CodecError."""
        return cast("K", decode_key(field))

    def encode(self, value: V) -> bytes:
        """Return the bytes of a value. Raises TypeError or ValueError."""
        if self.opening_error is not None:
            raise self.opening_error
        return self.codec.encode(value)

    def decode(self, data: bytes) -> V:
        """Return the value of bytes. Raises CodecError."""
        return self.codec.decode(data)

    def decode_all(self, items: Mapping[bytes, bytes]) -> dict[K, V]:
        """Return the dict of fields and values. Raises CodecError."""
        if self.opening_error is not None:
            raise self.opening_error
        return {self.key(field): self.codec.decode(data) for field, data in items.items()}

    # --- the local copy of a refresh policy

    def refresh(self, force: bool = False) -> Operation[None]:
        """Fetch the local copy anew if there is none, the policy says so, or `force`."""
        copy = self.local_copy
        if self.policy is None or not (self.policy.can_update() or force or copy.items is None):
            return
        first = 0
        while True:
            fetch = copy.begin()
            first = first or fetch.number
            items = None
            try:
                items = yield from self.snapshot()
            finally:
                is_shown = copy.end(fetch, items)
            if is_shown or copy.shown >= first:  # or what another thread began to fetch after this call
                return

    def _local(self) -> Operation[dict[bytes, bytes] | None]:
        yield from self.refresh()
        return self.local_copy.items

    def note(self, changes: Mapping[bytes, bytes | None] | None) -> None:
        """Show in the local copy what was written; None: everything was deleted."""
        if self.policy is not None:
            self.local_copy.note(changes)

    # --- reading

    def snapshot(self) -> Operation[dict[bytes, bytes]]:
        """Return everything as it was at one point in time."""
        (reply,) = yield Batch([("HGETALL", self.name)])
        return pairs(reply)

    def everything(self) -> Operation[dict[K, V]]:
        """Return everything, decoded."""
        local = yield from self._local()
        if local is None:
            local = yield from self.snapshot()
        return self.decode_all(dict(local))

    def fetch(self, field: bytes) -> Operation[bytes | None]:
        """Return the bytes under a field, None if there are none."""
        local = yield from self._local()
        if local is not None:
            return local.get(field)
        (reply,) = yield Batch([("HGET", self.name, field)])
        return cast("bytes | None", reply)

    def get(self, key: K, default: T) -> Operation[V | T]:
        """Return the value or the default."""
        data = yield from self.fetch(self.field(key))
        return default if data is None else self.decode(data)

    def item(self, key: K) -> Operation[V]:
        """Return the value. Raises KeyError."""
        data = yield from self.fetch(self.field(key))
        if data is None:
            raise KeyError(key)
        return self.decode(data)

    def get_many(self, keys: Iterable[K]) -> Operation[dict[K, V]]:
        """Return those of the keys that exist, at one point in time."""
        wanted = {self.field(key): key for key in keys}
        if not wanted:
            return {}
        local = yield from self._local()
        if local is not None:
            held = [(key, local.get(field)) for field, key in wanted.items()]
            return {key: self.decode(data) for key, data in held if data is not None}
        (reply,) = yield Batch([("HMGET", self.name, *wanted)])
        found = zip(wanted.values(), reply, strict=True)
        return {key: self.decode(data) for key, data in found if data is not None}

    def contains(self, key: object) -> Operation[bool]:
        """Return whether the key exists."""
        field = self.field(key)
        local = yield from self._local()
        if local is not None:
            return field in local
        (reply,) = yield Batch([("HEXISTS", self.name, field)])
        return bool(reply)

    def length(self) -> Operation[int]:
        """Return the number of keys."""
        local = yield from self._local()
        if local is not None:
            return len(local)
        (reply,) = yield Batch([("HLEN", self.name)])
        return int(reply)

    def scan(self, cursor: Cursor) -> Operation[None]:
        """Emit lists of (field, value), piece by piece: what exists during the whole scan comes exactly once."""
        local = yield from self._local()
        if local is not None:
            yield Emit(list(local.items()))
            return
        while True:
            (reply,) = yield Batch([("HSCAN", self.name, cursor.position, "COUNT", SCAN_COUNT)])
            cursor.position = reply[0]
            yield Emit(list(pairs(reply[1]).items()))
            if cursor.position == b"0":
                return

    def info(self) -> Operation[dict[str, dict[str, Any]]]:
        """Return the node's INFO, by section."""
        (reply,) = yield Batch([("INFO",)])
        return parse_info(reply.decode())

    # --- writing

    def set(self, key: K, value: V) -> Operation[None]:
        """Store the value."""
        yield from self.update([(key, value)])

    def update(self, items: Iterable[tuple[K, V]]) -> Operation[None]:
        """Store all of them, as one write."""
        changes = {self.field(key): self.encode(value) for key, value in items}
        if changes:
            yield Batch([("HSET", self.name, *flat(changes.items()))], writes=True)
            self.note(changes)

    def delete(self, key: K) -> Operation[None]:
        """Delete the key. Raises KeyError."""
        field = self.field(key)
        (reply,) = yield Batch([("HDEL", self.name, field)], writes=True)
        self.note({field: None})
        if not reply:
            raise KeyError(key)

    def clear(self) -> Operation[None]:
        """Delete everything, in constant time."""
        yield Batch([("DEL", self.name)], writes=True)
        self.note(None)

    def pop(self, key: K, default: T | Absent) -> Operation[V | T]:
        """Delete the key and return its value, or the default. Raises KeyError without one."""
        field = self.field(key)
        replies = yield atomically(("HGET", self.name, field), ("HDEL", self.name, field))
        data = replies[-1][0]
        self.note({field: None})
        if data is not None:
            return self.decode(data)
        if isinstance(default, Absent):
            raise KeyError(key)
        return default

    def popitem(self) -> Operation[tuple[K, V]]:
        """Delete any one key and return it with its value. Raises KeyError if the dict is empty."""
        for trial in range(CONTENTION_TRIALS_MAX):
            (field,) = yield Batch([("HRANDFIELD", self.name)])
            if field is None:
                self.note(None)
                raise KeyError("popitem(): dictionary is empty")
            replies = yield atomically(("HGET", self.name, field), ("HDEL", self.name, field))
            data = replies[-1][0]
            if data is not None:
                self.note({field: None})
                return self.key(field), self.decode(data)
            yield jitter(trial)
        raise contended()

    def setdefault(self, key: K, value: V) -> Operation[V]:
        """Store the value if the key is missing; return what the key then holds."""
        field = self.field(key)
        replies = yield atomically(
            ("HSETNX", self.name, field, self.encode(value)), ("HGET", self.name, field)
        )  # fmt: skip
        data = replies[-1][1]
        self.note({field: data})
        return self.decode(data)

    def _change(self, field: bytes, decide: Callable[[bytes | None], bytes | Absent | None]) -> Operation[bool]:
        """Write what `decide` makes of the present bytes: other bytes, None to delete, ABSENT to leave it.

        Returns whether it wrote. Raises Conflict when overtaken too often.
        """
        for trial in range(CONTENTION_TRIALS_MAX):
            _, old = yield Batch([("WATCH", self.name), ("HGET", self.name, field)])
            new = decide(old)
            if isinstance(new, Absent):
                return False
            command = ("HDEL", self.name, field) if new is None else ("HSET", self.name, field, new)
            replies = yield atomically(command)
            if replies[-1] is not None:
                self.note({field: new})
                return True
            yield jitter(trial)
        raise contended()

    def compare_and_set(self, key: K, old: V | Absent, new: V | Absent) -> Operation[bool]:
        """Store `new` if what the key holds == `old`; ABSENT stands for no value, on either side."""
        field = self.field(key)
        wanted = None if isinstance(new, Absent) else self.encode(new)

        def decide(data: bytes | None) -> bytes | Absent | None:
            if isinstance(old, Absent) or data is None:
                same = isinstance(old, Absent) and data is None
            else:
                same = bool(self.decode(data) == old)
            return wanted if same else ABSENT

        changed = yield from self._change(field, decide)
        return changed

    def increment(self, key: K, amount: int | float) -> Operation[int | float]:
        """Add to a number, which is 0 when missing; return the sum. Raises TypeError if it is no number."""
        if type(amount) not in (int, float):
            raise TypeError(f"an amount is an int or a float, not {type(amount).__name__}")
        field = self.field(key)
        if self.codec.decimal_integers and type(amount) is int and abs(amount) <= INT64_MAX and not self._floats():
            try:
                (reply,) = yield Batch([("HINCRBY", self.name, field, amount)], writes=True)
            except Refused as error:
                if "not an integer" not in str(error) and "overflow" not in str(error):
                    raise
            else:
                self.note({field: b"%d" % reply})
                return int(reply)
        sums: list[int | float] = []

        def decide(data: bytes | None) -> bytes:
            found: Any = 0 if data is None else self.decode(data)
            if type(found) not in (int, float):
                raise TypeError(f"{key!r} holds a {type(found).__name__}, to which nothing can be added")
            sums[:] = [found + amount]
            return self.encode(cast("V", found + amount))

        yield from self._change(field, decide)
        return sums[0]

    def _floats(self) -> bool:
        return bool(getattr(self.codec, "widens", False))


def parse_info(text: str) -> dict[str, dict[str, Any]]:
    """Return INFO's text by section; numbers as numbers."""
    sections: dict[str, dict[str, Any]] = {}
    rows: dict[str, Any] = {}
    for line in text.splitlines():
        if line.startswith("#"):
            rows = sections.setdefault(line[1:].strip().lower(), {})
        elif ":" in line:
            name, _, word = line.partition(":")
            rows[name] = _number(word)
    return sections


def _number(word: str) -> int | float | str:
    for kind in (int, float):
        try:
            return kind(word)
        except ValueError:
            continue
    return word


def watch_changes(name: bytes, known: dict[bytes, bytes], interval_s: float) -> Operation[None]:
    """Emit a snapshot whenever the hash differs from `known` (which is updated), and None after each pause.

    A server without pub/sub is asked: a WATCH and, once an interval, an EXEC that changes nothing and answers nil when
    the key has a new version. So waiting costs one small exchange an interval; only a change fetches the hash.
    """
    lane = 0
    while True:
        _, reply = yield Batch([("WATCH", name), ("HGETALL", name)], lane=lane)
        now = pairs(reply)
        if now != known:
            before = dict(known)
            known.clear()
            known.update(now)
            yield Emit((before, now))
        while True:
            yield Pause(interval_s)
            yield Emit(None)
            yield Batch([("WATCH", name)], lane=1 - lane)  # EXEC ends its WATCH: the next one must begin before
            replies = yield Batch([("MULTI",), ("EXISTS", name), ("EXEC",)], lane=lane)
            if replies[-1] is None:
                break
            lane = 1 - lane
