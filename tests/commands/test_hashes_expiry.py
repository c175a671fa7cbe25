"""Expiry of single fields, of Redis 7.4 and 8.0, which there is none of here: its documented replies, with a clock."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.differential import InProcess
from tests.support.keyspace_invariants import check_store
from zattredis.errors import ReplyError
from zattredis.keyspace.registers import Registers

NOW_MS = 1_700_000_000_000
LIMIT_MS = 1 << 46
FIELDS = "Mandatory argument FIELDS is missing or not at the right position"
MATCH = "The `numfields` parameter must match the number of arguments"
GREATER = "Parameter `numFields` should be greater than 0"
POSITIVE = "Number of fields must be a positive integer"
NOT_INTEGER = "value is not an integer or out of range"
NEGATIVE = "invalid expire time, must be >= 0"
ARITY = "wrong number of arguments for '{}' command"
WRONGTYPE = "WRONGTYPE Operation against a key holding the wrong kind of value"
ONE_TIME = "Only one of EX, PX, EXAT, PXAT or KEEPTTL arguments can be specified"
ONE_CONDITION = "Only one of FXX or FNX arguments can be specified"

FORMS = {
    "inline": 0,
    "separate": 700,
}


@pytest.fixture(params=FORMS)
def server(request: pytest.FixtureRequest) -> InProcess:
    """One that has a hash `h` with the fields a (1), b (2) and c (3), in each form."""
    backend = InProcess(NOW_MS)
    backend.call("HSET", "h", "a", 1, "b", 2, "c", 3)
    for number in range(FORMS[request.param]):
        backend.call("HSET", "h", f"more{number}", number)
    return backend


def run(backend: InProcess, line: str) -> Any:
    return backend.call(*line.split())


def error(backend: InProcess, line: str) -> str:
    with pytest.raises(ReplyError) as caught:
        run(backend, line)
    return str(caught.value).removeprefix("ERR ")


def ttl(backend: InProcess, *fields: str) -> Any:
    return backend.call("HPTTL", "h", "FIELDS", len(fields), *fields)


def test_setting_and_asking(server: InProcess) -> None:
    assert run(server, "HEXPIRE h 10 FIELDS 2 a none") == [1, -2]
    assert run(server, "HPEXPIRE h 1500 FIELDS 1 b") == [1]
    assert run(server, "HTTL h FIELDS 4 a b c none") == [10, 2, -1, -2]
    assert run(server, "HPTTL h FIELDS 4 a b c none") == [10_000, 1500, -1, -2]
    assert run(server, "HEXPIRETIME h FIELDS 3 a b c") == [NOW_MS // 1000 + 10, NOW_MS // 1000 + 2, -1]
    assert run(server, "HPEXPIRETIME h FIELDS 3 a b c") == [NOW_MS + 10_000, NOW_MS + 1500, -1]
    assert run(server, f"HEXPIREAT h {NOW_MS // 1000 + 7} FIELDS 1 a") == [1]
    assert run(server, f"HPEXPIREAT h {NOW_MS + 77} FIELDS 2 b b") == [1, 1]
    assert ttl(server, "a", "b") == [7000, 77]
    for name in ("HTTL", "HPTTL", "HEXPIRETIME", "HPEXPIRETIME", "HPERSIST"):
        assert run(server, f"{name} none FIELDS 2 a b") == [-2, -2]
    assert run(server, "HEXPIRE none 10 FIELDS 2 a b") == [-2, -2]


def test_fields_past_their_time_are_gone(server: InProcess) -> None:
    length = run(server, "HLEN h")
    run(server, "HPEXPIRE h 100 FIELDS 2 a b")
    server.now_ms = NOW_MS + 100
    assert run(server, "HGET h a") == b"1"
    assert ttl(server, "a") == [0]
    server.now_ms = NOW_MS + 101
    assert run(server, "HGET h a") is None
    assert run(server, "HMGET h a b c") == [None, None, b"3"]
    assert run(server, "HEXISTS h a") == run(server, "HSTRLEN h a") == 0
    assert run(server, "HLEN h") == len(run(server, "HKEYS h")) == length - 2
    assert run(server, "HGETALL h") == dict(zip(run(server, "HKEYS h"), run(server, "HVALS h"), strict=True))
    assert b"a" not in run(server, "HSCAN h 0 COUNT 10000")[1]
    assert b"a" not in run(server, "HRANDFIELD h 10000")
    assert ttl(server, "a", "b", "c") == [-2, -2, -1]
    assert run(server, "HEXPIRE h 10 FIELDS 1 a") == [-2]
    assert run(server, "HPERSIST h FIELDS 1 a") == [-2]
    assert run(server, "HGETEX h EX 10 FIELDS 2 a c") == [None, b"3"]
    assert run(server, "HGETDEL h FIELDS 1 a") == [None]
    assert run(server, "HDEL h b") == 0
    assert run(server, "HSET h a 9") == 1
    assert run(server, "HLEN h") == length - 1
    check_store(server.store, server.registers)


@pytest.mark.parametrize(
    ("condition", "expected"),
    [("NX", [0, 0, 1]), ("XX", [1, 1, 0]), ("GT", [1, 0, 0]), ("LT", [0, 1, 1]), ("nx", [0, 0, 1]), ("", [1, 1, 1])],
)
def test_conditions(server: InProcess, condition: str, expected: list[int]) -> None:
    run(server, "HPEXPIRE h 1000 FIELDS 1 a")
    run(server, "HPEXPIRE h 2000 FIELDS 1 b")
    assert run(server, f"HPEXPIRE h 1500 {condition} FIELDS 3 a b c") == expected
    before = [1000, 2000, -1]
    assert ttl(server, "a", "b", "c") == [1500 if done else old for done, old in zip(expected, before, strict=True)]
    assert run(server, f"HPEXPIRE h 1500 {condition} FIELDS 1 none") == [-2]


@pytest.mark.parametrize("condition", ["GT", "LT"])
def test_an_equal_time_is_neither_greater_nor_less(server: InProcess, condition: str) -> None:
    run(server, "HPEXPIRE h 1000 FIELDS 1 a")
    assert run(server, f"HPEXPIRE h 1000 {condition} FIELDS 1 a") == [0]


def test_a_time_in_the_past_deletes(server: InProcess) -> None:
    length = run(server, "HLEN h")
    run(server, "HEXPIRE h 100 FIELDS 1 b")
    assert run(server, "HPEXPIRE h 0 NX FIELDS 4 a a b none") == [2, -2, 0, -2]
    assert run(server, "HEXPIREAT h 5 FIELDS 1 b") == [2]
    assert run(server, "HLEN h") == length - 2
    fields = run(server, "HKEYS h")
    assert server.call("HPEXPIREAT", "h", NOW_MS, "FIELDS", len(fields), *fields) == [2] * len(fields)
    assert run(server, "EXISTS h") == 0
    check_store(server.store, server.registers)


def test_what_keeps_and_what_drops_an_expiry(server: InProcess) -> None:
    run(server, "HEXPIRE h 100 FIELDS 3 a b c")
    run(server, "HINCRBY h a 4")
    run(server, "HINCRBYFLOAT h b 0.5")
    run(server, "HSETNX h c new")
    assert run(server, "HTTL h FIELDS 3 a b c") == [100, 100, 100]
    run(server, "HSET h a 1")
    run(server, "HMSET h b 1")
    run(server, "HDEL h c")
    run(server, "HSETNX h c new")
    assert run(server, "HTTL h FIELDS 3 a b c") == [-1, -1, -1]
    server.now_ms = NOW_MS + 1_000_000
    assert run(server, "HMGET h a b c") == [b"1", b"1", b"new"]
    assert run(server, "HPERSIST h FIELDS 2 a none") == [-1, -2]
    run(server, "HEXPIRE h 100 FIELDS 2 a b")
    assert run(server, "HPERSIST h FIELDS 3 a a c") == [1, -1, -1]
    assert run(server, "HTTL h FIELDS 2 a b") == [-1, 100]


def test_copy_rename_move_and_the_keys_own_expiry(server: InProcess) -> None:
    run(server, "HEXPIRE h 100 FIELDS 1 a")
    run(server, "EXPIRE h 50")
    run(server, "COPY h i")
    run(server, "RENAME h j")
    run(server, "MOVE j 4")
    for key, db in (("i", 0), ("j", 4)):
        server.db = db
        assert run(server, f"HTTL {key} FIELDS 2 a b") == [100, -1]
        assert run(server, f"TTL {key}") == 50
    server.now_ms = NOW_MS + 50_001
    assert run(server, "EXISTS j") == 0
    check_store(server.store, server.registers)


def test_a_hash_without_living_fields_is_no_key(server: InProcess) -> None:
    fields = run(server, "HKEYS h")
    server.call("HPEXPIRE", "h", 100, "FIELDS", len(fields), *fields)
    assert run(server, "EXISTS h") == 1
    server.now_ms = NOW_MS + 101
    for line, reply in {
        "EXISTS h": 0, "TYPE h": "none", "HLEN h": 0, "HGETALL h": {}, "KEYS *": [], "TTL h": -2, "RANDOMKEY": None,
        "SCAN 0": [b"0", []], "HRANDFIELD h": None, "COPY h i": 0, "DEL h": 0,
    }.items():  # fmt: skip
        assert run(server, line) == reply, line
    assert run(server, "SET h v") == "OK"
    check_store(server.store, server.registers)


@pytest.mark.parametrize("at_the_end", [True, False])
def test_a_hash_lives_as_long_as_the_latest_field_that_is_left(server: InProcess, at_the_end: bool) -> None:
    """The field that would have lived longest goes, or loses its time, before all that are left expire."""
    fields = run(server, "HKEYS h")
    if at_the_end:
        server.call("HPEXPIRE", "h", 100, "FIELDS", len(fields), *fields)
    run(server, "HPEXPIRE h 500 FIELDS 2 a b")
    run(server, "HDEL h a")
    run(server, "HPEXPIRE h 100 FIELDS 1 b")
    if not at_the_end:
        server.call("HPEXPIRE", "h", 100, "FIELDS", len(fields), *fields)
    server.now_ms = NOW_MS + 101
    assert (run(server, "EXISTS h"), run(server, "HLEN h"), run(server, "TYPE h")) == (0, 0, "none")
    check_store(server.store, server.registers)


def test_maintenance_removes_what_is_past_its_time(server: InProcess) -> None:
    run(server, "HPEXPIRE h 100 FIELDS 2 a b")
    fields = [field for field in run(server, "HKEYS h") if field not in (b"a", b"b")]
    server.call("HPEXPIRE", "h", 200, "FIELDS", len(fields), *fields)
    server.maintain = True
    server.now_ms = NOW_MS + 101
    run(server, "EXISTS h")
    assert not [name for name in server.store.data if name.startswith(b"s") and name.endswith((b"a", b"b"))]
    assert run(server, "HLEN h") == len(fields)
    server.now_ms = NOW_MS + 201
    for _ in range(1000):
        run(server, "EXISTS h")
    check_store(server.store, server.registers)
    assert server.registers.databases[0].keys == 0
    assert not [name for name in server.store.data if name[:1] in b"ksy"]


def test_hgetdel(server: InProcess) -> None:
    length = run(server, "HLEN h")
    assert run(server, "HGETDEL h FIELDS 4 a none b a") == [b"1", None, b"2", None]
    assert run(server, "HLEN h") == length - 2
    assert run(server, "HGETDEL none FIELDS 2 a b") == [None, None]
    fields = run(server, "HKEYS h")
    assert None not in server.call("HGETDEL", "h", "FIELDS", len(fields), *fields)
    assert run(server, "EXISTS h") == 0


def test_hgetex(server: InProcess) -> None:
    assert run(server, "HGETEX h FIELDS 3 a none b") == [b"1", None, b"2"]
    assert ttl(server, "a", "b") == [-1, -1]
    for option, expected in {
        "EX 10": 10_000, "px 1500": 1500, f"EXAT {NOW_MS // 1000 + 3}": 3000, f"PXAT {NOW_MS + 5}": 5,
        "": 5, "PERSIST": -1,
    }.items():  # fmt: skip
        assert run(server, f"HGETEX h {option} FIELDS 1 a") == [b"1"]
        assert ttl(server, "a") == [expected]
    assert run(server, "HGETEX h PX 0 FIELDS 2 a c") == [b"1", b"3"]
    assert run(server, "HGETEX h EXAT 0 FIELDS 2 a b") == [None, b"2"]
    assert run(server, "HMGET h a b c") == [None, None, None]
    assert run(server, "HGETEX none EX 10 FIELDS 2 a b") == [None, None]


def test_hsetex(server: InProcess) -> None:
    assert run(server, "HSETEX h FIELDS 2 a 10 new 11") == 1
    assert run(server, "HSETEX h EX 10 FIELDS 1 a 12") == 1
    assert (run(server, "HGET h a"), ttl(server, "a", "new")) == (b"12", [10_000, -1])
    assert run(server, "HSETEX h KEEPTTL FIELDS 2 a 13 b 14") == 1
    assert (run(server, "HMGET h a b"), ttl(server, "a", "b")) == ([b"13", b"14"], [10_000, -1])
    assert run(server, "HSETEX h FIELDS 1 a 15") == 1
    assert ttl(server, "a") == [-1]
    assert run(server, "HSETEX h FNX FIELDS 2 fresh 1 a 2") == 0
    assert run(server, "HSETEX h FXX FIELDS 2 fresh 1 a 2") == 0
    assert run(server, "HMGET h fresh a") == [None, b"15"]
    assert run(server, "HSETEX h PX 70 FNX FIELDS 1 fresh 1") == 1
    assert run(server, "HSETEX h FXX PXAT 1700000000080 FIELDS 2 fresh 5 a 6") == 1
    assert ttl(server, "fresh", "a") == [80, 80]
    assert run(server, "HSETEX none FXX FIELDS 1 a 1") == 0
    assert run(server, "HSETEX none EXAT 1 FIELDS 1 a 1") == 1
    assert run(server, "EXISTS none") == 0
    assert run(server, "HSETEX h PX 0 FIELDS 2 b 1 unknown 1") == 1
    assert run(server, "HMGET h b unknown") == [None, None]
    assert run(server, "HSETEX other FNX EX 5 FIELDS 2 a 1 b 2") == 1
    assert run(server, "HTTL other FIELDS 2 a b") == [5, 5]


def test_encoding(server: InProcess) -> None:
    small = run(server, "HLEN h") < 500
    run(server, "HEXPIRE h 10 FIELDS 1 a")
    assert run(server, "OBJECT ENCODING h") == (b"listpackex" if small else b"hashtable")
    run(server, "HPERSIST h FIELDS 1 a")
    assert run(server, "OBJECT ENCODING h") == (b"listpack" if small else b"hashtable")


def test_hscan_without_values(server: InProcess) -> None:
    cursor, fields = run(server, "HSCAN h 0 NOVALUES COUNT 100000")
    assert cursor == b"0"
    assert sorted(fields) == sorted(run(server, "HKEYS h"))
    assert sorted(run(server, "HSCAN h 0 MATCH [ab] novalues COUNT 100000")[1]) == [b"a", b"b"]


@pytest.mark.parametrize("name", ["HEXPIRE", "HPEXPIRE", "HEXPIREAT", "HPEXPIREAT"])
def test_errors_of_hexpire(server: InProcess, name: str) -> None:
    expired = f"invalid expire time in '{name.lower()}' command"
    factor = 1 if name.startswith("HP") else 1000
    base_ms = 0 if name.endswith("AT") else NOW_MS
    last = (LIMIT_MS - 1 - base_ms) // factor
    assert run(server, f"{name} h {last} FIELDS 1 a") == [1]
    run(server, "SET s v")
    for line, text in {
        f"{name} h 10 FIELDS 1": ARITY.format(name.lower()),
        f"{name} s 10 FIELDS 1 a": WRONGTYPE,
        f"{name} s x FOO 0 a": WRONGTYPE,
        f"{name} h x FIELDS 1 a": NOT_INTEGER,
        f"{name} h 9223372036854775808 FIELDS 1 a": NOT_INTEGER,
        f"{name} h -1 FIELDS 1 a": NEGATIVE,
        f"{name} h -9223372036854775808 FOO 1 a": NEGATIVE,
        f"{name} h 9223372036854775807 FIELDS 1 a": expired,
        f"{name} h {last + 1} FIELDS 1 a": expired,
        f"{name} h {last + 1} FOO 1 a": expired,
        f"{name} h 10 FOO 1 a": FIELDS,
        f"{name} h 10 NX XX FIELDS 1 a": FIELDS,
        f"{name} h 10 NX 1 a": FIELDS,
        f"{name} h 10 FIELDS 0 a": GREATER,
        f"{name} h 10 FIELDS -1 a": GREATER,
        f"{name} h 10 FIELDS x a": GREATER,
        f"{name} h 10 NX FIELDS 01 a": GREATER,
        f"{name} h 10 FIELDS 2 a": MATCH,
        f"{name} h 10 FIELDS 1 a b": MATCH,
        f"{name} none 10 FIELDS 1 a b": MATCH,
        f"{name} h 10 NX FIELDS 1": MATCH,
    }.items():
        assert error(server, line) == text, line


@pytest.mark.parametrize("name", ["HTTL", "HPTTL", "HEXPIRETIME", "HPEXPIRETIME", "HPERSIST", "HGETDEL", "HGETEX"])
def test_errors_of_lists_of_fields(server: InProcess, name: str) -> None:
    run(server, "SET s v")
    for line, text in {
        f"{name} h FIELDS 1": ARITY.format(name.lower()),
        f"{name} s FIELDS 1 a": WRONGTYPE,
        f"{name} s FOO 0 a": WRONGTYPE,
        f"{name} h FOO 1 a": FIELDS,
        f"{name} h FIELDS 0 a": POSITIVE,
        f"{name} h FIELDS x a": POSITIVE,
        f"{name} h FIELDS 9223372036854775808 a": POSITIVE,
        f"{name} h FIELDS 2 a": MATCH,
        f"{name} none FIELDS 1 a b": MATCH,
    }.items():
        assert error(server, line) == text, line


def test_errors_of_hgetex(server: InProcess) -> None:
    for line, text in {
        "HGETEX h PXAT 1 1": FIELDS,
        "HGETEX h PERSIST 1 FIELDS 1 a": FIELDS,
        "HGETEX h EX 1 PX 1 FIELDS 1 a": FIELDS,
        "HGETEX h KEEPTTL FIELDS 1 a": FIELDS,
        "HGETEX h EX x FIELDS 1 a": NOT_INTEGER,
        "HGETEX h PX -1 FIELDS 1 a": NEGATIVE,
        f"HGETEX none PXAT {LIMIT_MS} FIELDS 1 a": "invalid expire time in 'hgetex' command",
        f"HGETEX h EX {LIMIT_MS} FIELDS 1 a": "invalid expire time in 'hgetex' command",
    }.items():
        assert error(server, line) == text, line


def test_errors_of_hsetex(server: InProcess) -> None:
    run(server, "SET s v")
    arity = ARITY.format("hsetex")
    for line, text in {
        "HSETEX h FIELDS 2 a b": arity,
        "HSETEX h FIELDS 2 a b c": arity,
        "HSETEX h FIELDS 1 a b unknown": arity,
        "HSETEX h EX 10 FIELDS 1 a": arity,
        "HSETEX h FXX EX 10 KEEPTTL": ONE_TIME,
        "HSETEX h FXX KEEPTTL FNX FIELDS 1 a b": ONE_CONDITION,
        "HSETEX h FNX FNX FIELDS 1 a b": ONE_CONDITION,
        "HSETEX h EX 100 PXAT 100 FIELDS 1 a b": ONE_TIME,
        "HSETEX h KEEPTTL KEEPTTL FIELDS 1 a b": ONE_TIME,
        "HSETEX h EX FIELDS 1 a b": NOT_INTEGER,
        "HSETEX h EX 0x1 FIELDS 1 a b": NOT_INTEGER,
        "HSETEX h EXAT -1 FOO 1 a b": NEGATIVE,
        f"HSETEX h PXAT {LIMIT_MS} 1 a b": "invalid expire time in 'hsetex' command",
        "HSETEX h NX FIELDS 1 a b": "unknown argument: NX",
        "HSETEX h FNX KEEPTTL FXX a": ONE_CONDITION,
        "HSETEX h FNX a b PX": "unknown argument: a",
        "HSETEX h FIELDS x a b": "invalid number of fields",
        "HSETEX h FIELDS 0 a b": "invalid number of fields",
        "HSETEX h FIELDS 2147483648 a b": "invalid number of fields",
        "HSETEX s FIELDS 1 a b": WRONGTYPE,
        "HSETEX s NX FIELDS 1 a b": "unknown argument: NX",
    }.items():
        assert error(server, line) == text, line


def test_what_is_stored_is_all_there_is(server: InProcess) -> None:
    """A node that starts from the store, or from another's, answers alike and goes on alike."""
    run(server, "HPEXPIRE h 100 FIELDS 2 a b")
    run(server, "HSETEX i PX 50 FIELDS 1 x 1")
    other = InProcess(NOW_MS)
    other.store.write(dict(server.store.data))
    other.registers = Registers.load(other.store)
    for now_ms in (NOW_MS, NOW_MS + 51, NOW_MS + 101):
        for backend in (server, other):
            backend.now_ms = now_ms
            backend.maintain = True
        for line in ("HGETALL h", "HLEN h", "EXISTS h i", "HPTTL h FIELDS 3 a b c", "HSET i y 1", "KEYS *"):
            assert run(server, line) == run(other, line)
    assert server.store.data == other.store.data
    check_store(server.store, server.registers)
