"""Anything that clients may do to keys of all types, in any order: every reply is redis-server's.

Both servers hold collections in their small encodings up to a few elements only, so that these convert often. What
Redis shows in the order of a hash table is compared in any order.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from tests.support.cluster import ZattCluster
from tests.support.differential import Connection, words
from tests.support.redis_server import RedisServer

Line = tuple[str, ...]

PARAMETERS = {
    "hash-max-listpack-entries": ("5", "512"), "hash-max-listpack-value": ("20", "64"),
    "set-max-intset-entries": ("5", "512"), "zset-max-listpack-entries": ("5", "128"),
    "zset-max-listpack-value": ("20", "64"),
}  # fmt: skip
ANY_ORDER = frozenset(
    ["HGETALL", "HKEYS", "HVALS", "SMEMBERS", "SUNION", "SINTER", "SDIFF", "SPOP", "SRANDMEMBER", "HRANDFIELD",
     "ZRANDMEMBER", "KEYS", "EXEC"]
)  # fmt: skip
KEYS = ("a", "b", "{a}c", "d")
FAR = "4000000000"

key = st.sampled_from(KEYS)
member = st.sampled_from(["1", "2", "3", "-7", "40000", "10000000000", "x", "y", "z", "", "long member " * 3])
value = st.sampled_from(["", "0", "5", "-1", "9223372036854775807", "3.5", "text", "v" * 30, "w" * 70_000])
number = st.sampled_from(["0", "1", "-1", "3", "-3", "100", "x"])
score = st.sampled_from(["0", "1", "-1", "2.5", "inf", "-inf", "1e300", "3", "(1", "nan"])
small = st.sampled_from(["0", "1", "2", "5"])


def line(*parts: str | st.SearchStrategy[str] | st.SearchStrategy[list[str]]) -> st.SearchStrategy[Line]:
    """A command line of fixed words, split at blanks, and drawn ones."""
    strategies = [st.just(part.split()) if isinstance(part, str) else part for part in parts]
    return st.tuples(*strategies).map(  # type: ignore[arg-type]
        lambda drawn: tuple(one for part in drawn for one in ([part] if isinstance(part, str) else part))
    )


def some(*strategies: st.SearchStrategy[str], most: int = 8) -> st.SearchStrategy[list[str]]:
    """One to `most` of what the strategies draw together, one after the other."""
    return st.lists(st.tuples(*strategies), min_size=1, max_size=most).map(
        lambda drawn: [one for group in drawn for one in group]
    )


STRINGS = [
    line("SET", key, value), line("SET", key, value, "GET"), line("SET", key, value, "EXAT", FAR),
    line("SETRANGE", key, small, value), line("APPEND", key, value), line("GET", key), line("GETDEL", key),
    line("GETEX", key, "EXAT 1"), line("INCRBY", key, number), line("INCRBYFLOAT", key, number), line("STRLEN", key),
    line("MGET", some(key)), line("MSET", some(key, value, most=3)), line("SETBIT", key, small, st.sampled_from("01")),
    line("GETRANGE", key, number, number), line("BITCOUNT", key),
]  # fmt: skip
HASHES = [
    line("HSET", key, some(member, value)), line("HSETNX", key, member, value), line("HDEL", key, some(member)),
    line("HGET", key, member), line("HMGET", key, some(member)), line("HGETALL", key), line("HLEN", key),
    line("HINCRBY", key, member, number), line("HINCRBYFLOAT", key, member, number), line("HKEYS", key),
    line("HEXISTS", key, member), line("HSTRLEN", key, member), line("HVALS", key), line("HRANDFIELD", key, "100"),
]  # fmt: skip
LISTS = [
    line("RPUSH", key, some(member)), line("LPUSH", key, some(member)), line("RPUSHX", key, member),
    line("LPOP", key), line("RPOP", key, small), line("LLEN", key), line("LRANGE", key, number, number),
    line("LINDEX", key, number), line("LSET", key, number, member), line("LREM", key, number, member),
    line("LTRIM", key, number, number), line("LINSERT", key, st.sampled_from(["BEFORE", "AFTER"]), member, member),
    line("LPOS", key, member, "COUNT 0"), line("LMOVE", key, key, "LEFT RIGHT"), line("RPOPLPUSH", key, key),
    line("LMPOP 2", key, key, "RIGHT COUNT 2"),
]  # fmt: skip
SETS = [
    line("SADD", key, some(member)), line("SREM", key, some(member)), line("SMEMBERS", key), line("SCARD", key),
    line("SISMEMBER", key, member), line("SMISMEMBER", key, some(member)), line("SMOVE", key, key, member),
    line("SUNION", key, key), line("SINTER", key, key), line("SDIFF", key, key), line("SUNIONSTORE", key, key, key),
    line("SINTERSTORE", key, key, key), line("SDIFFSTORE", key, key, key), line("SINTERCARD 2", key, key),
    line("SPOP", key, "100"), line("SRANDMEMBER", key, "100"),
]  # fmt: skip
ZSETS = [
    line("ZADD", key, some(score, member)), line("ZADD", key, "GT CH", some(score, member)),
    line("ZADD", key, "NX INCR", score, member), line("ZINCRBY", key, score, member), line("ZREM", key, some(member)),
    line("ZSCORE", key, member), line("ZRANK", key, member), line("ZREVRANK", key, member), line("ZCARD", key),
    line("ZRANGE", key, number, number, "WITHSCORES"), line("ZRANGE", key, score, score, "BYSCORE LIMIT 0 3"),
    line("ZRANGE", key, "[a [y BYLEX"), line("ZRANGESTORE", key, key, "0 2"), line("ZCOUNT", key, score, score),
    line("ZPOPMIN", key, small), line("ZPOPMAX", key), line("ZUNIONSTORE", key, "2", key, key, "WEIGHTS 2 -1"),
    line("ZINTERSTORE", key, "2", key, key, "AGGREGATE MAX"), line("ZDIFFSTORE", key, "2", key, key),
    line("ZREMRANGEBYRANK", key, number, number), line("ZREMRANGEBYSCORE", key, score, score),
    line("ZMSCORE", key, member),
    line("ZRANDMEMBER", key, "100"), line("ZMPOP 2", key, key, "MIN"),
]  # fmt: skip
GENERIC = [
    line("DEL", key), line("UNLINK", key, key), line("EXISTS", some(key)), line("TYPE", key), line("RENAME", key, key),
    line("RENAMENX", key, key), line("COPY", key, key), line("COPY", key, key, "DB 1 REPLACE"), line("MOVE", key, "1"),
    line("COPY", key, key, "REPLACE"), line("SELECT", st.sampled_from("01")), line("SWAPDB 0 1"), line("DBSIZE"),
    line("EXPIREAT", key, FAR), line("EXPIREAT", key, FAR + "1", "GT"), line("PEXPIREAT", key, FAR + "000", "NX"),
    line("EXPIREAT", key, "1"), line("PERSIST", key), line("PEXPIRETIME", key), line("OBJECT ENCODING", key),
    line("SORT", key, "ALPHA"), line("SORT", key, "ALPHA DESC STORE", key), line("SORT_RO", key, "LIMIT 0 3"),
    line("KEYS *"), line("TOUCH", key, key), line("FLUSHDB"),
]  # fmt: skip
COMMANDS = st.one_of(*(st.one_of(group) for group in (STRINGS, HASHES, LISTS, SETS, ZSETS, GENERIC)))

CONTENT = {
    b"+string": ("GET {}",), b"+hash": ("HGETALL {}",), b"+list": ("LRANGE {} 0 -1",), b"+set": ("SMEMBERS {}",),
    b"+zset": ("ZRANGE {} 0 -1 WITHSCORES",), b"+none": (),
}  # fmt: skip


class Servers:
    """Both servers, two connections to each."""

    def __init__(self, ports: Sequence[int]) -> None:
        self.clients = [[Connection(port) for port in ports] for _ in range(2)]

    def close(self) -> None:
        for client in self.clients:
            for connection in client:
                connection.close()


class AnyKeys(RuleBasedStateMachine):
    """See the module. The first client does everything, the second one changes what it may have watched."""

    servers: Servers

    def __init__(self) -> None:
        super().__init__()
        self.history: list[str] = []
        self.watching = False
        self.sorted = False

    @initialize()
    def begin(self) -> None:
        """Start with empty servers."""
        for client in self.servers.clients:
            for command in ("DISCARD", "UNWATCH", "SELECT 0", "FLUSHALL"):
                for connection in client:
                    connection.execute(words(command))

    @rule(argv=COMMANDS)
    def command(self, argv: Line) -> None:
        """One command."""
        self.unwatch_before(argv)
        self.ask(argv)

    @rule(argvs=st.lists(COMMANDS, min_size=1, max_size=6), execute=st.sampled_from(["EXEC", "EXEC", "DISCARD"]))
    def transaction(self, argvs: list[Line], execute: str) -> None:
        """Several as one, or not at all."""
        for argv in (("MULTI",), *argvs, (execute,)):
            self.ask(argv)
        self.watching = False

    @rule(watched=key)
    def watch(self, watched: str) -> None:
        """Watch a key for the next transaction."""
        self.ask(("WATCH", watched))
        self.watching = True

    @precondition(lambda self: self.watching)
    @rule(argv=COMMANDS)
    def interfere(self, argv: Line) -> None:
        """Another client does something meanwhile."""
        self.unwatch_before(argv)
        self.ask(argv, client=1)

    def unwatch_before(self, argv: Line) -> None:
        """Where an absent key is watched and a whole database changes, we may refuse an EXEC that Redis executes."""
        if self.watching and argv[0] in ("FLUSHDB", "SWAPDB"):
            self.ask(("UNWATCH",))
            self.watching = False

    @rule(source=key, destination=key)
    def restore(self, source: str, destination: str) -> None:
        """Put what Redis dumps into both."""
        ours, real = self.servers.clients[0]
        reply = real.execute([b"DUMP", source.encode()])
        if reply[:2] != b"$-" and reply[:2] != b"_\r":
            dump = reply[reply.index(b"\n") + 1 : -2]
            argv = [b"RESTORE", destination.encode(), b"0", dump, b"REPLACE"]
            assert ours.execute(argv) == real.execute(argv)

    def ask(self, argv: Line, client: int = 0) -> bytes:
        """Have both answer, and compare."""
        ours, real = self.servers.clients[client]
        self.history.append(f"{client}: {' '.join(word[:20] or repr('') for word in argv)}")
        line = [word.encode() for word in argv]
        got, expected = ours.execute(line), real.execute(line)
        self.sorted |= argv[0] in ("SORT", "SORT_RO")
        if self.sorted:  # Redis turns a sorted set into a skiplist when it sorts it, though that only reads
            got, expected = (reply.replace(b"\r\nskiplist", b"\r\nlistpack") for reply in (got, expected))
        if argv[0] in ANY_ORDER:
            alike = sorted(got.split(b"\r\n")) == sorted(expected.split(b"\r\n"))
        else:
            alike = got == expected
        assert alike, f"{got[:200]!r} is not {expected[:200]!r} after {self.history}"
        return got

    def teardown(self) -> None:
        """Compare all that is there."""
        for db in ("0", "1"):
            self.ask(("SELECT", db))
            self.ask(("DBSIZE",))
            for name in KEYS:
                kind = self.ask(("TYPE", name)).strip()
                self.ask(("PEXPIRETIME", name))
                self.ask(("OBJECT", "ENCODING", name))
                for read in CONTENT[kind]:
                    self.ask(tuple(read.format(name).split()))


@pytest.fixture(scope="module", params=[2, 3])
def servers(request: pytest.FixtureRequest, redis_server: RedisServer, zattd: ZattCluster) -> Iterator[Servers]:
    both = Servers([zattd.nodes[0].port, redis_server.port])
    for connection in (one for client in both.clients for one in client):
        connection.use(request.param)
    for connection in both.clients[0]:
        for name, (value, _) in PARAMETERS.items():
            assert connection.execute([b"CONFIG", b"SET", name.encode(), value.encode()]) == b"+OK\r\n"
    yield both
    for connection in both.clients[0]:
        for name, (_, value) in PARAMETERS.items():
            connection.execute([b"CONFIG", b"SET", name.encode(), value.encode()])
    both.close()


def test_whatever_clients_do_is_answered_as_by_redis(servers: Servers) -> None:
    class Machine(AnyKeys):
        pass

    Machine.servers = servers
    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=40, stateful_step_count=50, deadline=None, suppress_health_check=list(HealthCheck),
            phases=[Phase.generate],  # shrinking takes minutes; the history shows what led there
        ),
    )  # fmt: skip
