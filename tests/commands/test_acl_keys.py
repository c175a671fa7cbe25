"""No command touches a key that its permissions were not asked for: what handlers do against what `key_uses` finds.

Command lines are made at random from right ones, so that most are wrong in some way and many are not: options said
twice, keywords as keys, numbers of keys that do not fit. Redis looks at the first STORE of a line while the last one
counts; here that would be seen.
"""

from __future__ import annotations

import random
from collections.abc import Generator

import pytest

from tests.commands.test_acl import LINES
from tests.support.differential import InProcess
from zattredis.commands.acl_rules import Permissions, key_uses, with_rules
from zattredis.commands.context import Context, drain
from zattredis.commands.table import CommandSpec, Kind, resolve
from zattredis.errors import ReplyError
from zattredis.keyspace.users import READ, WRITE, User
from zattredis.keyspace.view import View

KEYS = [b"string", b"list", b"set", b"zset", b"hash", b"geo", b"none", b"STORE", b"BY", b"2"]
WORDS = [
    b"STORE", b"STOREDIST", b"BY", b"GET", b"LIMIT", b"0", b"1", b"2", b"3", b"-1", b"WEIGHTS", b"AGGREGATE", b"SUM",
    b"ASC", b"ALPHA", b"COUNT", b"ANY", b"LEFT", b"RIGHT", b"MIN", b"MAX", b"NX", b"XX", b"EX", b"KEEPTTL", b"nosort",
    b"WITHSCORES", b"m", b"SET", b"u4", b"WITHDIST", b"DESC", b"REPLACE", b"DB", b"AND", b"FROMMEMBER", b"BYRADIUS",
    b"FROMLONLAT", b"x",
]  # fmt: skip
MORE = [
    "SORT {0} LIMIT 0 1 STORE {1}", "GEORADIUSBYMEMBER {0} m 1 m STORE {1}", "ZINTERSTORE {0} 2 {1} {0} WEIGHTS 1 2",
    "GEORADIUS {0} 0 0 100 km COUNT 1 STORE {1} ASC", "GEORADIUSBYMEMBER {0} m 1 m STOREDIST {1}", "LCS {0} {1}",
    "GEORADIUS {0} 0 0 100 km STORE {1} STORE {0}", "GEORADIUS {0} 0 0 9 km STORE {1} STOREDIST {0}",
    "LCS {0} {1} LEN", "ZDIFFSTORE {0} 2 {1} {0}", "MSETNX {0} a {1} b", "SUNIONSTORE {0} {1} {0}",
    "ZINTERCARD 2 {0} {1} LIMIT 1", "RPOPLPUSH {0} {1}", "SDIFFSTORE {0} {1} {0}", "RENAMENX {0} {1}",
    "COPY {0} {1} DB 0 REPLACE", "PFMERGE {0} {1} {0}", "BITOP NOT {0} {1}",
    "GEOSEARCHSTORE {0} {1} FROMLONLAT 0 0 BYRADIUS 100 km", "OBJECT FREQ {0}", "OBJECT REFCOUNT {0}", "HSCAN {0} 0",
    "ZRANGESTORE {0} {1} 0 -1 REV", "BRPOPLPUSH {0} {1} 0", "BLMPOP 0 2 {0} {1} LEFT", "BZMPOP 0 2 {0} {1} MIN",
    "BZPOPMIN {0} {1} 0", "BRPOP {0} {1} 0", "HGETDEL {0} FIELDS 1 f", "HSETEX {0} FIELDS 1 f v", "SUBSTR {0} 0 1",
]  # fmt: skip
PATTERNS = frozenset((b"BY", b"GET"))


@pytest.fixture(scope="module")
def store() -> InProcess:
    backend = InProcess()
    for line in (
        "SET string 1", "RPUSH list 3 1 2", "SADD set 1 2 m", "ZADD zset 1 a 2 b", "HSET hash f v", "GEOADD geo 0 0 m",
        "SET STORE 1", "SET BY 1", "SADD 2 x",
    ):  # fmt: skip
        backend.call(*line.split())
    return backend


def touched(backend: InProcess, spec: CommandSpec, argv: list[bytes]) -> tuple[set[bytes], set[bytes]]:
    """The keys whose records the handler looked at, and those it changed; nothing of what it does is kept."""
    view = View(backend.store, backend.registers)
    view.begin()
    try:
        value = spec.handler(Context(view, 0, 1_000_000, seed=1), *spec.arguments(argv))
        if isinstance(value, Generator):
            drain(value)
    except ReplyError:
        pass
    keys = {key for table in view._tables if table is not None for key in table.records}
    changed = {key for _, key in view.changed() or ()}
    view.rollback()
    return keys, changed


def line_from(rng: random.Random, template: str) -> list[bytes]:
    argv = [word.encode() for word in template.format("@0", "@1").split()]
    argv = [rng.choice(KEYS) if word in (b"@0", b"@1") else word for word in argv]
    for _ in range(rng.randrange(3)):
        place = rng.randrange(1, len(argv) + 1)
        match rng.randrange(4):
            case 0:
                argv.insert(place, rng.choice(WORDS))
            case 1:
                argv.insert(place, rng.choice(KEYS))
            case 2:
                argv[place:] = [*argv[place:], *argv[place:]]
            case _:
                argv[place : place + 2] = [rng.choice(WORDS), rng.choice(KEYS)]
    return argv


@pytest.mark.parametrize("seed", range(4))
def test_no_key_is_touched_that_was_not_asked_for(store: InProcess, seed: int) -> None:
    rng = random.Random(seed)
    done = 0
    for _ in range(6000):
        argv = line_from(rng, rng.choice([*LINES, *MORE]))
        try:
            spec = resolve(argv)
        except ReplyError:
            continue
        if spec.kind == Kind.LOCAL or not spec.key_parts:
            continue
        if spec.name in ("SORT", "SORT_RO") and not PATTERNS.isdisjoint(word.upper() for word in argv):
            continue  # where BY and GET lead is what only users who may read every key may ask for
        uses = key_uses(spec, argv)
        keys, changed = touched(store, spec, argv)
        assert keys <= {argv[place] for place, _ in uses}, argv
        assert changed <= {argv[place] for place, access in uses if access & WRITE}, argv
        done += bool(keys)
    assert done > 1000


@pytest.mark.parametrize(("line", "key", "access"), [
    ("SET k v", b"k", WRITE), ("SET k v GET", b"k", READ | WRITE), ("GET k", b"k", READ), ("EXISTS k", b"k", 0),
    ("GEORADIUS a 0 0 1 m STORE b STORE k", b"k", WRITE), ("GEORADIUS k 0 0 1 m", b"k", READ),
    ("GEORADIUS a 0 0 1 m STORE b STOREDIST k", b"k", WRITE), ("SORT a STORE b STORE k", b"k", WRITE),
    ("COPY a k", b"k", WRITE), ("COPY k a", b"k", READ),
    ("BITFIELD k GET u4 0", b"k", READ), ("BITFIELD k SET u4 0 1", b"k", READ | WRITE), ("MEMORY USAGE k", b"k", 0),
])  # fmt: skip
def test_what_is_done_to_a_key(line: str, key: bytes, access: int) -> None:
    argv = line.encode().split()
    assert (argv.index(key), access) in key_uses(resolve(argv), argv)


def test_the_last_store_is_looked_at() -> None:
    user = with_rules(User(b"u"), [b"+@all", b"%R~*", b"%W~mine"], all_channels=False)
    permissions = Permissions(user)
    for line, denied in (
        ("GEORADIUS a 0 0 1 m STORE mine", False), ("GEORADIUS a 0 0 1 m STORE mine STORE other", True),
        ("GEORADIUS a 0 0 1 m STOREDIST mine STORE other", True), ("SORT a STORE mine", False),
        ("SORT a STORE mine STORE other", True), ("SORT a STORE other STORE mine", False),
    ):  # fmt: skip
        argv = line.encode().split()
        assert bool(permissions.denies(resolve(argv), argv)[0]) is denied, line


@pytest.mark.parametrize(("rules", "channel", "is_pattern", "allowed"), [
    ("&news:*", "news:1", False, True), ("&news:*", "old", False, False), ("&news:*", "news:*", True, True),
    ("&news:*", "news:1*", True, False), ("&*", "any*", True, True), ("resetchannels", "x", False, False),
    ("&a &b", "b", False, True), ("(+@all &c)", "c", False, True),
])  # fmt: skip
def test_channels(rules: str, channel: str, is_pattern: bool, allowed: bool) -> None:
    """The commands that channels are for do not exist yet; their permissions do."""
    words = [rules.encode()] if rules.startswith("(") else rules.encode().split()
    user = with_rules(User(b"u"), [b"+@all", b"~*", *words], all_channels=False)
    name = "PSUBSCRIBE" if is_pattern else "PUBLISH"
    ping = resolve([b"PING"])
    spec = CommandSpec(
        name=name, arity=-2, kind=Kind.LOCAL, flags=ping.flags, keys=ping.keys, group="pubsub", since="2.0.0",
        handler=ping.handler,
    )  # fmt: skip
    argv = [name.encode(), channel.encode(), *([] if is_pattern else [b"message"])]
    denied, place = Permissions(user).denies(spec, argv)
    assert (denied == 0) is allowed
    assert allowed or place == 1
