"""`zattredis.Context`: what a command of an extension is given of the cluster's data, its time and its randomness."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from types import GeneratorType
from typing import Any, Final, TypeVar

from zattredis.commands import context as own
from zattredis.commands.arguments import INTEGER_MAX, INTEGER_MIN, NOT_AN_INTEGER, strict_integer
from zattredis.commands.table import COMMANDS, CommandSpec, Kind, resolve
from zattredis.errors import DefiniteError, ReplyError
from zattredis.keyspace.metadata import HEADER_BYTES, expire_of
from zattredis.keyspace.random import SeededRandom
from zattredis.keyspace.sizes import INLINE_BYTES_MAX
from zattredis.keyspace.strings import check_string, put_string, string_value
from zattredis.resp.replies import NULL_ARRAY, Bulks, DoubleText, Pairs, ReplySet

Word = bytes | str | int | float
"""What a key, a field or a value may be given as; text is stored as UTF-8, numbers as Redis writes them."""

_T = TypeVar("_T")
_UUID_VERSION: Final = (1 << 128) - 1 - (0xF << 76) - (0x3 << 62)


class Random:
    """Randomness that is the same on every node: another stream for each execution of a command."""

    __slots__ = ("_source",)

    def __init__(self, source: SeededRandom) -> None:
        self._source = source

    def below(self, bound: int) -> int:
        """Return a uniform integer, 0 <= n < `bound`."""
        return self._source.below(bound)

    def random(self) -> float:
        """Return a uniform float, 0.0 <= x < 1.0."""
        return (self._source.bits64() >> 11) * 2.0**-53

    def choice(self, items: Sequence[_T]) -> _T:
        """Return one of `items`. Raises IndexError if there is none."""
        if not items:
            raise IndexError("cannot choose from nothing")
        return items[self._source.below(len(items))]

    def shuffle(self, items: list[Any]) -> None:
        """Put `items` into a random order."""
        for last in range(len(items) - 1, 0, -1):
            other = self._source.below(last + 1)
            items[last], items[other] = items[other], items[last]

    def bytes(self, count: int) -> bytes:
        """Return `count` random bytes."""
        words = [self._source.bits64().to_bytes(8, "big") for _ in range(-(-count // 8))]
        return b"".join(words)[:count]

    def uuid(self) -> str:
        """Return a random UUID (version 4) as text."""
        number = (self._source.bits64() << 64 | self._source.bits64()) & _UUID_VERSION | 4 << 76 | 2 << 62
        text = f"{number:032x}"
        return "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:]))


def to_word(value: object) -> bytes:
    """Return a key or value as bytes. Raises TypeError for what has no one form."""
    if type(value) is bytes:
        return value
    if isinstance(value, str):
        return value.encode()
    if isinstance(value, int) and not isinstance(value, bool):
        return b"%d" % value
    if isinstance(value, float):
        return repr(float(value)).encode()
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value)
    raise TypeError(f"keys and values are bytes, str, int or float, not {type(value).__name__}: {value!r}")


class Context:
    """The data of the database that the client has selected, as one command sees and changes it, atomically.

    What a command writes it reads back, nobody sees half of it, and nothing of it stays if the command raises. Methods
    are named after Redis's commands and raise its errors (`zattredis.WrongType`, …); `call` runs any other command.
    Keys, fields and values are bytes, or what `Word` allows; what comes back is bytes and Python's own types.
    """

    __slots__ = ("_ctx", "_readonly", "db", "now_ms")

    def __init__(self, ctx: own.Context, readonly: bool = False) -> None:
        self._ctx = ctx
        self._readonly = readonly
        self.db = ctx.db
        """The database that the client has selected."""
        self.now_ms = ctx.now_ms
        """The cluster's time in ms since 1970: the same on every node, and never going back."""

    @property
    def random(self) -> Random:
        """The cluster's randomness for this command."""
        return Random(self._ctx.random)

    # -- any command -------------------------------------------------------------------------------------------------

    def call(self, name: str, *words: Word) -> Any:
        """Run a command of Redis that reads or writes keys, and return its reply as Python values.

        One that fails has changed nothing, and raises its `ReplyError`. Refused: commands of the connection or the
        server, blocking ones, and in a `readonly` command those that write.
        """
        argv = [*[part.encode() for part in name.split()], *map(to_word, words)]
        spec = resolve(argv)
        if spec.variant is not None and spec.kind == Kind.WRITE and not spec.module:
            spec, argv = spec.variant(None, argv) or (spec, argv)
        if spec.kind == Kind.LOCAL or spec.blocking or spec.module:
            raise DefiniteError(f"'{spec.full_name}' cannot be called from a command of an extension")
        return self._run(spec, argv[spec.words :])

    def _run(self, spec: CommandSpec, words: Sequence[bytes]) -> Any:
        ctx = self._ctx
        if spec.kind == Kind.WRITE:
            if self._readonly:
                raise DefiniteError("a readonly command cannot write")
            savepoint = ctx.view.savepoint()
            try:
                return to_python(spec.handler(ctx, *words))
            except ReplyError:
                ctx.view.rollback_to(savepoint)
                raise
        return to_python(spec.handler(ctx, *words))

    def _do(self, name: bytes, *words: Word) -> Any:
        return self._run(COMMANDS[name], [*map(to_word, words)])

    # -- strings -----------------------------------------------------------------------------------------------------

    def get(self, key: Word) -> bytes | None:
        """Return a string, None if there is none. Raises WrongType."""
        ctx = self._ctx
        record = ctx.view.record(self.db, key if type(key) is bytes else to_word(key), self.now_ms)
        if record is None:
            return None
        return string_value(ctx.view, record) if record[0] else record[HEADER_BYTES:]

    def get_int(self, key: Word, default: int = 0) -> int:
        """Return a string that is an integer, `default` if there is none. Raises WrongType, or Redis's error."""
        value = self.get(key)
        if value is None:
            return default
        number = strict_integer(value)
        if number is None:
            raise DefiniteError(NOT_AN_INTEGER)
        return number

    def set(self, key: Word, value: Word, *, ttl_ms: int | None = None, keep_ttl: bool = False) -> None:
        """Make the key a string, whatever it was; with `ttl_ms` for that long, with `keep_ttl` as long as it was."""
        if self._readonly:
            raise DefiniteError("a readonly command cannot write")
        ctx = self._ctx
        name = key if type(key) is bytes else to_word(key)
        content = b"%d" % value if type(value) is int else to_word(value)
        if ttl_ms is None and not keep_ttl and len(content) <= INLINE_BYTES_MAX:
            ctx.view.set_plain(ctx.db, name, content, ctx.now_ms // 1000)
            return
        if ttl_ms is not None and (ttl_ms <= 0 or keep_ttl):
            raise ValueError("ttl_ms must be positive, and not given with keep_ttl")
        record = ctx.view.record(ctx.db, name, ctx.now_ms) if keep_ttl else None
        expire_ms = ctx.now_ms + ttl_ms if ttl_ms is not None else 0 if record is None else expire_of(record)
        put_string(ctx.view, ctx.db, name, content, ctx.now_ms // 1000, expire_ms)

    def incr(self, key: Word, by: int = 1) -> int:
        """Add to a string that is an integer (0 if there is none), its expiry kept; return the sum."""
        if self._readonly:
            raise DefiniteError("a readonly command cannot write")
        ctx = self._ctx
        view, db, name = ctx.view, ctx.db, key if type(key) is bytes else to_word(key)
        record = view.record(db, name, ctx.now_ms)
        if record is None:
            total, expire_ms = by, 0
        else:
            if record[0]:
                check_string(record)
                value = strict_integer(string_value(view, record))
            else:
                value = strict_integer(record[HEADER_BYTES:])
            if value is None:
                raise DefiniteError(NOT_AN_INTEGER)
            total, expire_ms = value + by, expire_of(record)
        if not INTEGER_MIN <= total <= INTEGER_MAX:
            raise DefiniteError("increment or decrement would overflow")
        if expire_ms:
            put_string(view, db, name, b"%d" % total, ctx.now_ms // 1000, expire_ms)
        else:
            view.set_plain(db, name, b"%d" % total, ctx.now_ms // 1000)
        return total

    def append(self, key: Word, value: Word) -> int:
        """Append to a string; return its new length."""
        return int(self._do(b"APPEND", key, value))

    def mget(self, *keys: Word) -> list[bytes | None]:
        """Return several strings; None for each key that holds none."""
        return list(self._do(b"MGET", *keys)) if keys else []

    def mset(self, values: Mapping[Any, Word]) -> None:
        """Set several strings."""
        for key, value in values.items():
            self.set(key, value)

    # -- keys --------------------------------------------------------------------------------------------------------

    def exists(self, *keys: Word) -> int:
        """Return how many of the keys there are."""
        return int(self._do(b"EXISTS", *keys))

    def delete(self, *keys: Word) -> int:
        """Delete keys; return how many there were."""
        return int(self._do(b"DEL", *keys))

    def type(self, key: Word) -> str:
        """Return string, list, hash, set or zset, or none."""
        return str(self._do(b"TYPE", key))

    def expire(self, key: Word, ttl_ms: int) -> bool:
        """Let a key expire in `ttl_ms`; return whether it exists."""
        return bool(self._do(b"PEXPIRE", key, ttl_ms))

    def ttl_ms(self, key: Word) -> int | None:
        """Return for how many ms a key will be there; None if for good, or if it is not."""
        left = int(self._do(b"PTTL", key))
        return left if left >= 0 else None

    def persist(self, key: Word) -> bool:
        """Let a key stay for good; return whether it would have expired."""
        return bool(self._do(b"PERSIST", key))

    def rename(self, key: Word, new_key: Word) -> None:
        """Rename a key; what had the new name is gone. Raises DefiniteError if there is none."""
        self._do(b"RENAME", key, new_key)

    # -- hashes ------------------------------------------------------------------------------------------------------

    def hget(self, key: Word, field: Word) -> bytes | None:
        """Return a field of a hash."""
        found: bytes | None = self._do(b"HGET", key, field)
        return found

    def hmget(self, key: Word, *fields: Word) -> list[bytes | None]:
        """Return several fields of a hash."""
        return list(self._do(b"HMGET", key, *fields)) if fields else []

    def hset(self, key: Word, values: Mapping[Any, Word]) -> int:
        """Set fields of a hash; return how many are new."""
        return int(self._do(b"HSET", key, *[word for pair in values.items() for word in pair])) if values else 0

    def hsetnx(self, key: Word, field: Word, value: Word) -> bool:
        """Set a field of a hash that does not exist; return whether it did not."""
        return bool(self._do(b"HSETNX", key, field, value))

    def hincr(self, key: Word, field: Word, by: int = 1) -> int:
        """Add to a field of a hash that is an integer; return the sum."""
        return int(self._do(b"HINCRBY", key, field, by))

    def hdel(self, key: Word, *fields: Word) -> int:
        """Delete fields of a hash; return how many there were."""
        return int(self._do(b"HDEL", key, *fields)) if fields else 0

    def hexists(self, key: Word, field: Word) -> bool:
        """Return whether a hash has a field."""
        return bool(self._do(b"HEXISTS", key, field))

    def hlen(self, key: Word) -> int:
        """Return how many fields a hash has."""
        return int(self._do(b"HLEN", key))

    def hgetall(self, key: Word) -> dict[bytes, bytes]:
        """Return a whole hash, in the same order on every node."""
        found: dict[bytes, bytes] = self._do(b"HGETALL", key)
        return found

    # -- lists -------------------------------------------------------------------------------------------------------

    def lpush(self, key: Word, *values: Word) -> int:
        """Push at the head of a list; return its length."""
        return int(self._do(b"LPUSH", key, *values))

    def rpush(self, key: Word, *values: Word) -> int:
        """Push at the tail of a list; return its length."""
        return int(self._do(b"RPUSH", key, *values))

    def lpop(self, key: Word) -> bytes | None:
        """Take the head of a list."""
        found: bytes | None = self._do(b"LPOP", key)
        return found

    def rpop(self, key: Word) -> bytes | None:
        """Take the tail of a list."""
        found: bytes | None = self._do(b"RPOP", key)
        return found

    def llen(self, key: Word) -> int:
        """Return the length of a list."""
        return int(self._do(b"LLEN", key))

    def lindex(self, key: Word, index: int) -> bytes | None:
        """Return an element of a list; negative from its tail."""
        found: bytes | None = self._do(b"LINDEX", key, index)
        return found

    def lrange(self, key: Word, start: int = 0, stop: int = -1) -> list[bytes]:
        """Return the elements from `start` to `stop`, that one too."""
        return list(self._do(b"LRANGE", key, start, stop))

    def lrem(self, key: Word, value: Word, count: int = 0) -> int:
        """Remove elements that equal `value`, all for 0; return how many."""
        return int(self._do(b"LREM", key, count, value))

    def ltrim(self, key: Word, start: int, stop: int) -> None:
        """Keep the elements from `start` to `stop` only."""
        self._do(b"LTRIM", key, start, stop)

    # -- sets --------------------------------------------------------------------------------------------------------

    def sadd(self, key: Word, *members: Word) -> int:
        """Add to a set; return how many are new."""
        return int(self._do(b"SADD", key, *members))

    def srem(self, key: Word, *members: Word) -> int:
        """Remove from a set; return how many there were."""
        return int(self._do(b"SREM", key, *members))

    def sismember(self, key: Word, member: Word) -> bool:
        """Return whether a set has a member."""
        return bool(self._do(b"SISMEMBER", key, member))

    def scard(self, key: Word) -> int:
        """Return how many members a set has."""
        return int(self._do(b"SCARD", key))

    def smembers(self, key: Word) -> list[bytes]:
        """Return the members of a set, sorted: a list, because the order of a Python set differs between processes."""
        return sorted(self._do(b"SMEMBERS", key))

    # -- sorted sets -------------------------------------------------------------------------------------------------

    def zadd(self, key: Word, scores: Mapping[Any, float]) -> int:
        """Add members with their scores, or change scores; return how many are new."""
        return int(self._do(b"ZADD", key, *[word for member, score in scores.items() for word in (score, member)]))

    def zincr(self, key: Word, member: Word, by: float = 1) -> float:
        """Add to a member's score; return the sum."""
        return float(self._do(b"ZINCRBY", key, by, member))

    def zrem(self, key: Word, *members: Word) -> int:
        """Remove members; return how many there were."""
        return int(self._do(b"ZREM", key, *members))

    def zscore(self, key: Word, member: Word) -> float | None:
        """Return a member's score."""
        found = self._do(b"ZSCORE", key, member)
        return None if found is None else float(found)

    def zcard(self, key: Word) -> int:
        """Return how many members a sorted set has."""
        return int(self._do(b"ZCARD", key))

    def zrank(self, key: Word, member: Word) -> int | None:
        """Return a member's place by score, from 0."""
        found: int | None = self._do(b"ZRANK", key, member)
        return found

    def zrange(self, key: Word, start: int = 0, stop: int = -1, *, reverse: bool = False) -> list[tuple[bytes, float]]:
        """Return the members from place `start` to `stop`, that one too, with their scores."""
        found = self._do(b"ZREVRANGE" if reverse else b"ZRANGE", key, start, stop, "WITHSCORES")
        return [(member, float(score)) for member, score in found]

    def zrange_by_score(self, key: Word, low: float, high: float) -> list[tuple[bytes, float]]:
        """Return the members whose scores are within low..high, with their scores."""
        found = self._do(b"ZRANGEBYSCORE", key, low, high, "WITHSCORES")
        return [(member, float(score)) for member, score in found]


def to_python(value: Any) -> Any:
    """Return a handler's reply value as Python's own types; errors inside of it stay what they are."""
    kind = value.__class__
    if kind is bytes or kind is int or kind is str or value is None:
        return value
    if kind is GeneratorType:
        return to_python(own.drain(value))
    if kind is list or kind is tuple or kind is ReplySet:
        return [to_python(one) for one in (value.members if kind is ReplySet else value)]
    if kind is Pairs:
        return [(to_python(one), to_python(other)) for one, other in value.pairs]
    if kind is dict:
        return {to_python(key): to_python(one) for key, one in value.items()}
    if kind is Bulks:
        return list(_split_bulks(value.data))
    if kind is DoubleText:
        return float(value.text)
    return None if value is NULL_ARRAY else value


def _split_bulks(data: bytes) -> Iterable[bytes]:
    at = 0
    while at < len(data):
        end = data.index(b"\r\n", at)
        start = end + 2
        at = start + int(data[at + 1 : end])
        yield data[start:at]
        at += 2
