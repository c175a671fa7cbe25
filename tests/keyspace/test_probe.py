"""A probe lets a command look, and ends it at its first effect, with everything as it was."""

from __future__ import annotations

import random

import pytest

import zattredis.commands  # noqa: F401  (fills the command table)
from tests.support.memory_store import MemoryStore
from zattredis.commands.context import Context
from zattredis.commands.table import COMMANDS, Kind
from zattredis.errors import ReplyError
from zattredis.keyspace.probe import Probe, WouldChange
from zattredis.keyspace.record_cache import RecordCache
from zattredis.keyspace.registers import Registers
from zattredis.keyspace.view import View
from zattredis.server.idleness import may_be_tried

_LOOKS = {
    "prefetch", "prefetch_lists", "record", "plain_values", "watch", "unchanged", "counts", "get_raw", "get_page",
    "multi_get_raw", "iterate", "k_prefix", "changed", "savepoint", "in_unit", "begin", "commit", "begin_unit",
    "commit_unit",
}  # fmt: skip
_COME_DOWN_TO_OTHERS = {
    "delete", "move", "set_expire", "bury_content", "rollback", "rollback_to", "rollback_unit",
}  # fmt: skip


def test_every_method_of_a_view_that_writes_is_known_to_the_probe() -> None:
    public = {name for name, value in vars(View).items() if not name.startswith("_") and not hasattr(value, "__get__")}
    methods = {name for name, value in vars(View).items() if not name.startswith("_") and callable(value)}
    assert not public
    assert methods - set(vars(Probe)) <= _LOOKS | _COME_DOWN_TO_OTHERS


_KEYS = ("s", "n", "h", "l", "q", "t", "i", "z", "y", "b", "e", "none", "gone")
_WORDS = ("a", "b", "1", "2", "5", "-1", "0", "x" * 70, "nx", "xx", "gt", "lt", "ch", "incr", "ex", "keepttl", "get",
          "100", "1000000", "left", "right", "(1", "+inf", "count", "fields", "persist", "before", "m3")  # fmt: skip

_LINES = (
    "BITFIELD b SET u8 0 5", "BITFIELD b GET u8 0", "GETEX s EX 5", "GETEX s", "GETEX s PERSIST", "SETBIT b 7 1",
    "SETBIT b 7 0", "HEXPIRE h 100 FIELDS 1 a", "HEXPIRE h 100 NX FIELDS 1 a", "HEXPIRE h 100 FIELDS 1 zz",
    "HEXPIREAT h 100 FIELDS 1 b", "HPEXPIRE h 100 XX FIELDS 1 b", "HPEXPIRE h 100 FIELDS 1 b",
    "HPEXPIREAT h 9000 FIELDS 1 b", "HPERSIST h FIELDS 1 a", "HPERSIST h FIELDS 1 b", "HGETDEL h FIELDS 1 a",
    "HGETDEL h FIELDS 1 zz", "HGETEX h FIELDS 1 a", "HGETEX h EX 5 FIELDS 1 a", "HSETEX h FNX FIELDS 1 a 5",
    "HSETEX h FIELDS 1 a 5", "LINSERT l BEFORE a x", "LINSERT l BEFORE zz x", "LMOVE l q LEFT RIGHT",
    "LMOVE none q LEFT RIGHT", "LMOVE q t LEFT RIGHT", "LREM l 0 a", "LREM l 0 zz", "LREM q 0 zz", "LTRIM l 0 -1",
    "LTRIM l 1 1", "SMOVE t i a", "SMOVE t i zz", "PFMERGE new s2", "PFMERGE s2 none", "PFADD s2 a", "PFADD s2 b",
    "GEOADD g 1 1 a", "GEOADD places 1 1 a", "GEOADD places XX 1 1 zz", "RESTORE s 0 wrong",
    "GEORADIUS places 1 1 9 km", "GEORADIUS places 1 1 9 km STORE new", "GEORADIUSBYMEMBER places a 9 km",
    "GEORADIUSBYMEMBER places a 9 km STORE new", "GEOSEARCHSTORE new places FROMMEMBER a BYRADIUS 9 km",
    "GEOSEARCHSTORE new none FROMLONLAT 1 1 BYRADIUS 9 km", "ZINTERSTORE new 2 z y", "ZINTERSTORE new 1 z",
    "ZUNIONSTORE new 1 none", "ZUNIONSTORE new 2 z y", "ZDIFFSTORE new 1 none", "ZRANGESTORE new z 0 -1",
    "ZRANGESTORE new z 5 9", "ZREMRANGEBYLEX z [a [a", "ZREMRANGEBYLEX z (x +", "ZREMRANGEBYSCORE y 5 9",
    "ZREMRANGEBYSCORE y 5000 9000", "ZREMRANGEBYRANK y 900 901", "ZREMRANGEBYRANK y 0 1", "SDIFFSTORE new none",
    "RENAME s s", "MSET s a", "MSETNX s a", "COPY none s", "COPY s new", "COPY s n",
)  # fmt: skip


def _prepared() -> tuple[MemoryStore, Registers, RecordCache]:
    store, registers, cache = MemoryStore(), Registers(), RecordCache(1 << 20)
    view = View(store, registers, cache)
    many = [word for number in range(150) for word in (str(number), f"m{number}")]
    for line in (
        "SET s a", "SET n 5", "HSET h a 1 b 2", "HEXPIRE h 1000 FIELDS 1 a", "RPUSH l a b a", "SADD t a b",
        "SADD i 1 2", "ZADD z 1 a 2 b", "SETBIT b 7 1", "SET e a PX 5", "SET none a", "DEL none", "PFADD s2 a",
        "GEOADD places 1 1 a", "ZADD y " + " ".join(many), "RPUSH q " + " ".join(many * 5), "EXPIRE z 1000",
    ):  # fmt: skip
        argv = [word.encode() for word in line.split()]
        view.begin()
        COMMANDS[argv[0]].handler(Context(view, 0, 1000), *argv[1:])
        view.commit()
    store.write(view.take())
    return store, registers, cache


def _picture(store: MemoryStore, registers: Registers, cache: RecordCache) -> object:
    tables = [(dict(cache.table(counts).records), counts.encode()) for counts in registers.databases[:2]]
    changed = [counts.removed_changed.copy() for counts in registers.databases]
    return dict(store.data), tables, registers.figures(), changed, registers.maintenance_changed


@pytest.mark.parametrize("name", sorted({spec.name for spec in COMMANDS.values() if may_be_tried(spec)}))
def test_it_says_what_the_command_would_do_and_does_none_of_it(name: str) -> None:
    """Of each command that may be tried, many lines: either the reply is the command's own, and that has no
    effect, or nothing has changed, and the command has one (or was ended where it wrote what was there already)."""
    spec, rng = COMMANDS[name.encode()], random.Random(name)
    store, registers, cache = _prepared()
    idle = busy = 0
    lines = [line.split()[1:] for line in _LINES if line.split()[0] == name] * 2
    for number in range(150):
        count = rng.randrange(6) if spec.arity < 0 else spec.arity - 2
        words = [rng.choice(_KEYS if rng.random() < 0.3 else _WORDS).encode() for _ in range(count)]
        argv = [rng.choice(_KEYS).encode(), *words]
        if number < len(lines):
            argv = [word.encode() for word in lines[number]]
        if len(argv) + 1 < abs(spec.arity):
            continue
        view = View(store, registers, cache)
        view.prefetch([(db, key.encode()) for db in (0, 1) for key in (*_KEYS, *_WORDS, "g", "new", "s2", "places")])
        before, counter = _picture(store, registers, cache), registers.counter
        probed: object
        try:
            probed = spec.handler(Context(Probe.of(view), 0, 2000, seed=7), *argv)
        except ReplyError as error:
            probed = str(error)
        except WouldChange:
            probed = WouldChange
            registers.counter = counter  # versions may be taken before anything is written
        assert _picture(store, registers, cache) == before, argv
        if probed is WouldChange:
            busy += 1
            continue
        idle += 1
        copy = MemoryStore(store.data)
        real = View(copy, Registers.load(copy))
        real.begin()
        found: object
        try:
            found = spec.handler(Context(real, 0, 2000, seed=7), *argv)
        except ReplyError as error:
            found = str(error)
        assert repr(found) == repr(probed), argv
        assert not real.take(), argv
    assert busy or name == "RESTORE"
    assert idle or name in ("MSET", "SET", "LPUSH", "RPUSH", "GEOSEARCHSTORE")
    assert spec.kind == Kind.WRITE
