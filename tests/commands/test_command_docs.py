"""The command table as clients read it: every spec of ours against redis-server 7.0's COMMAND INFO and DOCS."""

from __future__ import annotations

from typing import Any

import hiredis
import pytest

from tests.support.differential import Connection
from tests.support.local_server import LocalClient, compare_lines
from zattredis.commands.table import COMMANDS, CommandSpec, all_specs
from zattredis.resp.replies import encode

NEWER = {
    "client|setinfo", "client|no-touch",
    "hexpire", "hpexpire", "hexpireat", "hpexpireat", "hpersist", "httl", "hpttl", "hexpiretime", "hpexpiretime",
    "hgetdel", "hgetex", "hsetex",
}  # fmt: skip
"""Commands of Redis 7.2 that today's clients send on connecting; of 7.4 and 8.0 those for single fields of hashes."""
OWN = ("raft", "extension")
"""Commands of ours that no Redis has, with their subcommands."""
THEIRS = (7, 0)
"""The version compared with: what an argument says is newer cannot be in its answer."""

LINES = [
    "COMMAND FOO", "COMMAND COUNT a", "COMMAND LIST foo", "COMMAND LIST foo bar baz q", "COMMAND LIST FILTERBY",
    "COMMAND LIST FILTERBY FOO foo", "COMMAND LIST FILTERBY MODULE foo", "COMMAND LIST FILTERBY ACLCAT foo",
    "COMMAND LIST FILTERBY PATTERN nothing*", "COMMAND LIST FILTERBY PATTERN cl[ij]ent",
    "COMMAND INFO foo", "COMMAND INFO foo|bar get|x", "COMMAND DOCS foo get|x",
    "COMMAND GETKEYS", "COMMAND GETKEYS ping", "COMMAND GETKEYS foo x", "COMMAND GETKEYS ping x",
    "COMMAND GETKEYS time x", "COMMAND GETKEYS get a b", "COMMAND GETKEYS client list", "COMMAND GETKEYS client foo",
    "COMMAND GETKEYS get a", "COMMAND GETKEYS GET ''", "COMMAND GETKEYS mset a 1 b 2", "COMMAND GETKEYS mset a 1 b",
    "COMMAND GETKEYS mget a b c", "COMMAND GETKEYS copy a b", "COMMAND GETKEYS memory usage k",
    "COMMAND GETKEYS object encoding x", "COMMAND GETKEYS lcs a b", "COMMAND GETKEYS watch a b c",
    "COMMAND GETKEYS rename a b", "COMMAND GETKEYS del a b", "COMMAND GETKEYSANDFLAGS ping a",
    "COMMAND GETKEYSANDFLAGS set a b", "COMMAND GETKEYSANDFLAGS set a b get", "COMMAND GETKEYSANDFLAGS set a b foo",
    "COMMAND GETKEYSANDFLAGS mset a 1 b 2", "COMMAND GETKEYSANDFLAGS getex a", "COMMAND GETKEYSANDFLAGS copy a b",
    "COMMAND GETKEYSANDFLAGS rename a b", "COMMAND GETKEYSANDFLAGS memory usage a",
    "COMMAND GETKEYSANDFLAGS watch a b", "COMMAND GETKEYSANDFLAGS getdel a", "COMMAND GETKEYSANDFLAGS incr a",
    "COMMAND GETKEYSANDFLAGS exists a b", "COMMAND GETKEYSANDFLAGS restore a 0 x", "COMMAND GETKEYSANDFLAGS expire a 1",
]  # fmt: skip


def parsed(raw: bytes) -> Any:
    """Return a RESP3 reply as lists, dicts and bytes; sets as sorted lists."""
    reader = hiredis.Reader()
    reader.feed(raw)
    return reader.gets()


@pytest.fixture(scope="module")
def theirs(redis_server: Any) -> dict[str, dict[str, Any]]:
    """Full name → {"info": …, "docs": …} of every command and subcommand of redis-server."""
    connection = Connection(redis_server.port)
    connection.use(3)
    infos = parsed(connection.execute([b"COMMAND"]))
    docs = parsed(connection.execute([b"COMMAND", b"DOCS"]))
    connection.close()
    found = {}
    for info in infos:
        doc = docs[info[0]]
        found[info[0].decode()] = {"info": info, "docs": doc}
        for sub in info[9]:
            found[sub[0].decode()] = {"info": sub, "docs": doc[b"subcommands"][sub[0]]}
    return found


def ours(spec: CommandSpec, subcommand: str) -> Any:
    client = LocalClient()
    client.use(3)
    return parsed(encode(client.value([b"COMMAND", subcommand.encode(), spec.full_name.encode()]), 3))


def key_specs(info: Any) -> list[Any]:
    """Return the key specifications with flags in order and without the notes, which are text for people."""
    return [
        {name: sorted(value) if name == b"flags" else value for name, value in part.items() if name != b"notes"}
        for part in info[8]
    ]


@pytest.mark.parametrize("spec", all_specs(), ids=lambda spec: spec.full_name)
def test_command_info(spec: CommandSpec, theirs: dict[str, dict[str, Any]]) -> None:
    if spec.full_name in NEWER or spec.full_name.partition("|")[0] in OWN:
        assert spec.full_name not in theirs
        return
    [mine] = ours(spec, "INFO")
    real = theirs[spec.full_name]["info"]
    assert len(mine) == len(real) == 10
    for place, name in enumerate(("name", "arity", "flags", "first key", "last key", "step", "categories", "tips")):
        got, expected = mine[place], real[place]
        if isinstance(expected, list):
            got, expected = sorted(got), sorted(expected)
        assert got == expected, name
    assert key_specs(mine) == key_specs(real)
    assert [sub[0].decode() for sub in mine[9]] == [sub.full_name for sub in spec.subcommands.values()]


def is_newer(argument: Any) -> bool:
    since = argument.get(b"since", b"0").split(b".")
    return tuple(map(int, since[:2])) > THEIRS


def argument_shape(argument: Any) -> Any:
    shape = {name: value for name, value in argument.items() if name != b"arguments"}
    shape[b"flags"] = sorted(argument.get(b"flags", []))
    shape[b"arguments"] = [argument_shape(member) for member in argument.get(b"arguments", [])]
    return shape


@pytest.mark.parametrize("spec", all_specs(), ids=lambda spec: spec.full_name)
def test_command_docs(spec: CommandSpec, theirs: dict[str, dict[str, Any]]) -> None:
    [(name, mine)] = ours(spec, "DOCS").items()
    assert name.decode() == spec.full_name
    assert mine[b"summary"]
    if spec.full_name in NEWER or spec.full_name.partition("|")[0] in OWN:
        return
    real = theirs[spec.full_name]["docs"]
    for field in (b"since", b"group", b"doc_flags", b"deprecated_since", b"replaced_by"):
        assert mine.get(field) == real.get(field), field
    shapes = [
        [argument_shape(argument) for argument in docs.get(b"arguments", []) if not is_newer(argument)]
        for docs in (mine, real)
    ]
    assert shapes[0] == shapes[1]
    assert mine.get(b"complexity", b"") != b"" or b"complexity" not in real


def test_every_group_of_this_release_is_complete(theirs: dict[str, dict[str, Any]]) -> None:
    """What redis-server has in these groups and we lack is what later work brings, and nothing else."""
    groups = {b"string", b"list", b"hash", b"generic", b"transactions", b"connection", b"server", b"cluster"}
    own = {spec.full_name for spec in all_specs()}
    missing = {name for name, one in theirs.items() if one["docs"][b"group"] in groups and name not in own}
    assert missing == {
        "migrate", "restore-asking", "sync", "psync", "replconf",
        "module|load", "module|loadex", "module|unload",
    }  # fmt: skip


@pytest.mark.parametrize("resp", [2, 3])
def test_replies_and_errors(real: Connection, resp: int) -> None:
    client = LocalClient()
    for backend in (client, real):
        backend.use(resp)
    compare_lines(client, real, LINES)


@pytest.mark.parametrize("resp", [2, 3])
def test_shapes_of_command_info_and_docs(real: Connection, resp: int) -> None:
    """The raw bytes, for commands whose texts have nothing of our own in them but what is taken out here."""
    client = LocalClient()
    for backend in (client, real):
        backend.use(resp)
    compare_lines(client, real, ["COMMAND INFO get mset client|id memory|usage ping dbsize lcs foo quit incr append"])


def test_list_and_count() -> None:
    client = LocalClient()
    names = client.call("COMMAND LIST")
    assert len(names) == len(set(names)) == len(all_specs())
    assert client.call("COMMAND COUNT") == len(COMMANDS) == len(client.call("COMMAND"))
    assert set(client.call("COMMAND LIST FILTERBY PATTERN CLIENT|NO-*")) == {b"client|no-evict", b"client|no-touch"}
    assert set(client.call("COMMAND LIST FILTERBY ACLCAT Transaction")) == {
        b"multi", b"exec", b"discard", b"watch", b"unwatch",
    }  # fmt: skip
    assert len(client.call("COMMAND INFO")) == len(client.call("COMMAND DOCS")) == len(COMMANDS)
    assert list(client.call("COMMAND DOCS GET nothing client|ID")) == [b"get", b"client|id"]
