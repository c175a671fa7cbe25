"""Which writing commands came with which state-machine version: nodes of two builds must compute the same."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.support.memory_store import MemoryStore
from zattredis.commands import table
from zattredis.commands.context import Context
from zattredis.commands.table import Flag, Kind
from zattredis.commands.versions import NotYet, gated, gated_many
from zattredis.keyspace.registers import Registers
from zattredis.keyspace.view import View
from zattredis.server.upgrades import FIRST_VERSION, STATE_MACHINE_VERSION

VERSIONS = {
    1: """
    APPEND BITFIELD BITOP BLMOVE BLMPOP BLPOP BRPOP BRPOPLPUSH BZMPOP BZPOPMAX BZPOPMIN COPY DECR DECRBY DEL EXPIRE
    EXPIREAT EXTENSION|RESUME EXTENSION|RETIRE FLUSHALL FLUSHDB GEOADD GEORADIUS GEORADIUSBYMEMBER GEOSEARCHSTORE GETDEL
    GETEX GETSET HDEL HEXPIRE HEXPIREAT HGETDEL HGETEX HINCRBY HINCRBYFLOAT HMSET HPERSIST HPEXPIRE HPEXPIREAT HSET
    HSETEX HSETNX INCR INCRBY INCRBYFLOAT LINSERT LMOVE LMPOP LPOP LPUSH LPUSHX LREM LSET LTRIM MOVE MSET MSETNX PERSIST
    PEXPIRE PEXPIREAT PFADD PFDEBUG PFMERGE PSETEX RENAME RENAMENX RESTORE RPOP RPOPLPUSH RPUSH RPUSHX SADD SDIFFSTORE
    SET SETBIT SETEX SETNX SETRANGE SINTERSTORE SMOVE SORT SPOP SREM SUNIONSTORE SWAPDB UNLINK ZADD ZDIFFSTORE ZINCRBY
    ZINTERSTORE ZMPOP ZPOPMAX ZPOPMIN ZRANGESTORE ZREM ZREMRANGEBYLEX ZREMRANGEBYRANK ZREMRANGEBYSCORE ZUNIONSTORE
    ACL|DELUSER ACL|LOAD ACL|SETUSER CONFIG|SET
    -drop -extension -putback -resume -settle -withdraw
    """,
}
"""Version → what it brought. `-name` is what nodes put into the log on their own account."""


def test_every_writing_command_says_which_version_brought_it() -> None:
    found: dict[int, set[str]] = {version: set() for version in VERSIONS}
    for spec in table.all_specs():
        if (spec.kind == Kind.WRITE or spec.logged is not None) and not spec.module:
            found.setdefault(spec.version, set()).add(spec.name.replace(" ", "|"))
    for name, spec in table.INTERNAL.items():
        found.setdefault(spec.version, set()).add("-" + name[1:].decode())
    for version, names in found.items():
        known = set(VERSIONS.get(version, "").split())
        assert not names - known, (
            f"{names - known} write(s), and nodes of the build before pass over them: give @command version="
            f"{max(VERSIONS) + 1}, and enter them here (version {version} is closed)"
        )
        assert not known - names, "commands of a version that are gone: the log of a running cluster may hold them"
    assert max(found) <= STATE_MACHINE_VERSION
    assert min(found) == FIRST_VERSION


@pytest.fixture
def register() -> Any:
    """Registers commands for one test."""
    before = {name: dict(spec.subcommands) for name, spec in table.COMMANDS.items()}
    yield table.command
    for name in [*table.COMMANDS]:
        if name not in before:
            del table.COMMANDS[name]


def test_a_command_of_a_later_version_is_refused_below_it(register: Callable[..., Any]) -> None:
    def many(ctx: Context, argvs: list[list[bytes]]) -> list[Any]:
        return [b"many" for _ in argvs]

    @register("ZATT.LATER", arity=2, flags=Flag.WRITE, group="string", since="9.0", version=2, many=many,
              reads=lambda argv: argv[1] == b"read")  # fmt: skip
    def later(ctx: Context, word: bytes) -> bytes:
        """Return what it is given."""
        return word

    spec = table.COMMANDS[b"ZATT.LATER"]
    assert (spec.version, spec.summary) == (2, "Return what it is given")
    store = MemoryStore()
    view = View(store, Registers.load(store))
    old, new = Context(view, 0, 0, version=1), Context(view, 0, 0, version=2)
    with pytest.raises(NotYet, match=r"'zatt.later' is not known to every node yet: upgrade them all first"):
        spec.handler(old, b"x")
    assert spec.handler(new, b"x") == b"x"
    assert spec.many is not None
    assert spec.many(old, [[b"ZATT.LATER", b"x"]]) is None
    assert spec.many(new, [[b"ZATT.LATER", b"x"]]) == [b"many"]
    # What only reads writes nothing, and is no business of the log.
    assert spec.variant is not None
    found = spec.variant(None, [b"ZATT.LATER", b"read"])
    assert found is not None and found[0].original is spec
    assert found[0].handler(old, b"read") == b"read"
    assert spec.variant(None, [b"ZATT.LATER", b"write"]) is None


def test_what_was_there_from_the_beginning_costs_nothing() -> None:
    def handler(ctx: Context) -> None: ...

    def many(ctx: Context, argvs: list[list[bytes]]) -> None: ...

    assert gated("X", 1, handler) is handler
    assert gated_many(1, many) is many and gated_many(2, None) is None
