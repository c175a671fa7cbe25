"""HSETs carried out together leave the very replies and bytes of one after the other, or decline and leave nothing."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.differential import InProcess
from tests.support.keyspace_invariants import check_store
from zattredis.commands.context import Context
from zattredis.commands.table import COMMANDS
from zattredis.keyspace.view import View

NOW_MS = 1_700_000_000_000
HSET = COMMANDS[b"HSET"]
LINES = st.lists(
    st.tuples(
        st.sampled_from([b"h", b"h", b"h", b"i"]),
        st.one_of(st.sampled_from([b"", b"a", b"b", b"f1", b"f126"]), st.integers(0, 600).map(lambda n: b"f%d" % n)),
        st.sampled_from([b"", b"v", b"w" * 64, b"x" * 65, b"y" * 1500]),
    ),
    min_size=8,
    max_size=40,
)


def prepared(fields: int, size: int) -> InProcess:
    backend = InProcess(NOW_MS)
    for number in range(fields):
        backend.call("HSET", "h", f"f{number}", "v" * size)
    return backend


def together(backend: InProcess, argvs: list[list[bytes]]) -> list[object] | None:
    view = View(backend.store, backend.registers)
    assert HSET.many is not None
    replies = HSET.many(Context(view, 0, NOW_MS), argvs)
    backend.store.write(view.take())
    return replies


@settings(max_examples=60, deadline=None)
@given(st.sampled_from([(0, 0), (3, 1), (126, 1), (127, 20), (400, 1), (511, 1), (600, 1)]), LINES)
def test_together_is_one_after_the_other(start: tuple[int, int], lines: list[tuple[bytes, bytes, bytes]]) -> None:
    one, other = prepared(*start), prepared(*start)
    assert one.store.data == other.store.data
    argvs = [[b"HSET", *line] for line in lines]
    assert together(one, argvs) == [other.value(argv) for argv in argvs]
    assert one.store.data == other.store.data
    check_store(one.store, one.registers)


@pytest.mark.parametrize(
    "argvs",
    [
        [[b"HSET", b"h", b"f", b"v"]] * 8 + [[b"HSET", b"s", b"f", b"v"]],
        [[b"HSET", b"h", b"f", b"v"]] * 8 + [[b"HSET", b"h", b"f", b"v", b"g"]],
        [[b"HSET", b"h", b"f", b"v"]] * 8 + [[b"HSET", b"h", b"f", b"v", b"g", b"w"]],
        [[b"HSET", b"h", b"f", b"v" * 100_000]] * 8,
        [[b"HSET", b"e", b"f", b"v"]] * 8,
        [[b"HSET", b"h%d" % number, b"f", b"v"] for number in range(8)],
    ],
)
def test_what_could_fail_or_pays_little_is_declined(argvs: list[list[bytes]]) -> None:
    backend = prepared(5, 1)
    backend.call("SET", "s", "v")
    backend.call("HSET", "e", "f", "v")
    backend.call("HEXPIRE", "e", 10, "FIELDS", 1, "f")
    before = dict(backend.store.data)
    assert together(backend, argvs) is None
    assert backend.store.data == before


@settings(max_examples=30, deadline=None)
@given(st.sampled_from([(0, 0), (3, 1), (400, 1), (600, 70)]), LINES)
def test_hgets_together(start: tuple[int, int], lines: list[tuple[bytes, bytes, bytes]]) -> None:
    backend = prepared(*start)
    backend.call("HSET", "i", "a", 1, "", "empty")
    argvs = [[b"HGET", key, field] for key, field, _ in lines]
    get = COMMANDS[b"HGET"]
    assert get.many is not None

    def replies() -> object:
        return get.many(Context(View(backend.store, backend.registers), 0, NOW_MS), argvs) if get.many else None

    assert replies() == [backend.value(argv) for argv in argvs]
    for change in (["HSET", "h", "a", "v" * 100_000], ["HEXPIRE", "h", 9, "FIELDS", 1, "a"], ["SET", "h", "v"]):
        backend.call(*change)
        argvs.append([b"HGET", b"h", b"a"])
        assert replies() is None


def test_a_key_that_expired_is_created_anew() -> None:
    stores = [prepared(5, 1), prepared(5, 1)]
    argvs = [[b"HSET", b"h", b"f%d" % number, b"v"] for number in range(20)]
    for backend in stores:
        backend.call("PEXPIREAT", "h", NOW_MS + 1)
        backend.now_ms = NOW_MS + 2
    view = View(stores[0].store, stores[0].registers)
    assert HSET.many is not None
    replies = HSET.many(Context(view, 0, NOW_MS + 2), argvs)
    stores[0].store.write(view.take())
    assert replies == [stores[1].value(argv) for argv in argvs] == [1] * 20
    assert stores[0].store.data == stores[1].store.data
