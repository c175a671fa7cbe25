"""What an import does to save its cluster work: values made plain, short strings together; the data stay the same."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

import zattredis
from tests.support.memory_store import MemoryStore
from zattredis.cli.moving.loader import EQUAL, EXISTS, FAILED, IMPORTED, Loader, Outcome
from zattredis.cli.moving.pipe import Address
from zattredis.cli.moving.plain import BYTES_MAX, loaded, plain, string_in
from zattredis.cli.moving.sources import Group, Item
from zattredis.commands.context import drain
from zattredis.keyspace.metadata import HASH, LIST, SET, STRING, ZSET
from zattredis.keyspace.rdb import dump_steps, load
from zattredis.keyspace.rdb_read import Loaded
from zattredis.keyspace.registers import Registers
from zattredis.keyspace.types import TYPES
from zattredis.keyspace.view import View

WORDS = st.one_of(st.binary(max_size=90), st.integers(-(2**64), 2**64).map(lambda number: b"%d" % number))
SCORES = st.floats(allow_nan=False) | st.integers(-(2**53), 2**53).map(float)
VALUES = st.one_of(
    WORDS.map(lambda word: Loaded(STRING, word)),
    st.lists(WORDS, min_size=1, max_size=20).map(lambda words: Loaded(LIST, words)),
    st.sets(WORDS, min_size=1, max_size=20).map(lambda words: Loaded(SET, list(words))),
    st.dictionaries(WORDS, WORDS, min_size=1, max_size=20).map(lambda pairs: Loaded(HASH, list(pairs.items()))),
    st.dictionaries(WORDS, SCORES, min_size=1, max_size=20).map(lambda pairs: Loaded(ZSET, list(pairs.items()))),
)


def stored(value: Loaded) -> tuple[dict[bytes, bytes | None], bytes]:
    """(what a node stores of a value, how it dumps it)."""
    store = MemoryStore()
    view = View(store, Registers.load(store))
    TYPES[value.kind].put(view, 0, b"k", value, 1, 0)
    effects = view.take()
    store.write(effects)
    record = view.record(0, b"k", 1)
    assert record is not None
    return effects, bytes(drain(dump_steps(view, record, 1)))


@given(VALUES)
def test_a_plain_dump_leads_to_the_same_state(value: Loaded) -> None:
    effects, dump = stored(value)
    packed = load(dump)
    again, once_more = stored(load(plain(dump)))
    assert once_more == dump
    assert stored(packed)[0] == again
    if value.kind == STRING:
        assert string_in(dump) == value.value and effects == again


def test_what_cannot_be_read_or_is_large_stays_as_it_is() -> None:
    _, dump = stored(Loaded(LIST, [b"x" * 100] * 100))
    assert len(plain(dump)) > 0 and loaded(plain(dump)) == loaded(dump)
    large = dump + bytes(BYTES_MAX)
    for odd in (b"\x12\x01\x02\xff", b"\x0f" + bytes(20), b"\xee" + bytes(20), large):
        assert plain(odd) is odd


def item(key: bytes, value: bytes) -> Item:
    return Item(key, 0, stored(Loaded(STRING, value))[1], 0)


@pytest.fixture(scope="module")
def server() -> Iterator[zattredis.Server]:
    with zattredis.serve() as made:
        yield made


def imported(server: zattredis.Server, items: list[Item], user: str = "", *, replace: bool = False) -> Outcome:
    outcome = Outcome()
    behind: list[Group] = []
    address = Address("127.0.0.1", server.settings[0].port, user, user and "secret")
    loader = Loader(address, 10.0, outcome, replace=replace, acknowledged=behind.append)
    groups = [Group(0, items), Group(0, [item(b"one behind", b"1"), item(b"two behind", b"2")])]
    try:
        for group in groups:
            loader.add(group)
        loader.finish()
    finally:
        loader.close()
    assert behind == groups and outcome.keys == len(items) + 2
    return outcome


STRINGS = [item(b"k%d" % number, b"v%d" % number) for number in range(20)]


def test_short_strings_go_together_and_none_is_overwritten(server: zattredis.Server) -> None:
    client = server.client()
    client.flushall()
    client.config_resetstat()
    assert imported(server, STRINGS).counts == {IMPORTED: 22}
    assert client.info("commandstats")["cmdstat_msetnx"]["calls"] == 2
    assert client.mget("k0", "k19", "one behind") == [b"v0", b"v19", b"1"]
    client.set("k3", "mine")
    client.delete("k4", "k5", "one behind")
    client.rpush("k5", "x")
    client.expire("k6", 1000)
    outcome = imported(server, STRINGS)
    assert outcome.counts == {IMPORTED: 2, EQUAL: 17, EXISTS: 3}
    assert len(outcome.named) == 3
    assert client.get("k3") == b"mine" and client.get("k4") == b"v4" and client.ttl("k6") > 0
    assert imported(server, STRINGS, replace=True).counts == {IMPORTED: 22}
    assert client.get("k5") == b"v5" and client.ttl("k6") == -1


def test_who_may_not_send_them_together_sends_them_one_by_one(server: zattredis.Server) -> None:
    client = server.client()
    client.flushall()
    client.acl_setuser("mover", enabled=True, passwords=["+secret"], keys=["*"], commands=["+restore", "+select"])
    assert imported(server, STRINGS, "mover").counts == {IMPORTED: 22}
    assert client.dbsize() == 22


def test_a_dump_that_cannot_be_read_is_named_and_the_others_are_imported(server: zattredis.Server) -> None:
    client = server.client()
    client.flushall()
    damaged = Item(b"damaged", 0, b"\0\x05abc" + bytes(10), 0)
    outcome = imported(server, [*STRINGS, damaged])
    assert outcome.counts == {IMPORTED: 22, FAILED: 1}
    assert "damaged" in outcome.named[0] and client.dbsize() == 22
