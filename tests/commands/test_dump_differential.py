"""DUMP and RESTORE of every type against redis-server 7.0, both ways, and dumps of other versions."""

from __future__ import annotations

import random

import pytest

from tests.support.differential import Backend, Connection, InProcess, compare
from zattredis.keyspace.crc64 import crc64

Pair = tuple[Backend, Connection]

FILL = {b"l": b"RPUSH", b"s": b"SADD", b"i": b"SADD", b"h": b"HSET", b"z": b"ZADD"}
READ = {
    b"l": b"LRANGE %s 0 -1", b"s": b"SMEMBERS %s", b"i": b"SMEMBERS %s", b"h": b"HGETALL %s",
    b"z": b"ZRANGE %s 0 -1 WITHSCORES",
}  # fmt: skip
SCORES = (b"1", b"-2.5", b"inf", b"-inf", b"1e20", b"0.1", b"-0", b"4611686018427387904", b"9007199254740993")
NUMBERS = [sign * 2**bits + more for bits in (0, 6, 7, 12, 15, 23, 31, 62) for more in (-1, 0) for sign in (1, -1)]


def body_of(reply: bytes) -> bytes:
    assert reply.startswith(b"$"), reply[:100]
    return reply[reply.index(b"\n") + 1 : -2]


def word(rng: random.Random) -> bytes:
    kind = rng.random()
    if kind < 0.3:
        return b"%d" % rng.choice(NUMBERS)
    if kind < 0.9:
        return bytes(rng.choices(b"abcdef", k=rng.randrange(30)))
    return rng.choice([b"007", b"-0", b"a" * rng.randrange(60, 5000), rng.randbytes(200)])


def fill(kind: bytes, count: int, rng: random.Random) -> list[bytes]:
    words = [word(rng) for _ in range(count)]
    if kind == b"i":
        bound = 10 ** rng.randrange(1, 14)
        words = [b"%d" % rng.randrange(-bound, bound) for _ in range(count)]
    elif kind == b"h":
        words = [one for field in words for one in (field, word(rng))]
    elif kind == b"z":
        words = [one for member in words for one in (rng.choice(SCORES), member)]
    return [FILL[kind], kind, *words]


@pytest.mark.parametrize("kind", FILL, ids=bytes.decode)
@pytest.mark.parametrize("count", [1, 3, 10, 60, 500, 3000])
def test_each_restores_what_the_other_dumps(pair: Pair, kind: bytes, count: int) -> None:
    rng = random.Random(count * 256 + kind[0])
    for _ in range(4 if count < 500 else 1):
        compare(*pair, [fill(kind, count, rng)])
        ours, real = pair
        encoding = real.execute([b"OBJECT", b"ENCODING", kind])
        assert ours.execute([b"OBJECT", b"ENCODING", kind]) == encoding
        dumps = [body_of(backend.execute([b"DUMP", kind])) for backend in pair]
        if b"hashtable" not in encoding and len(dumps[1]) < 6000:
            assert dumps[0] == dumps[1]
        for backend, dump in zip(pair, reversed(dumps), strict=True):
            assert backend.execute([b"RESTORE", b"t", b"0", dump, b"REPLACE"]) == b"+OK\r\n"
        contents = [backend.execute((READ[kind] % b"t").split()) for backend in pair]
        in_order = kind in (b"l", b"z") or b"hashtable" not in encoding
        assert contents[0] == contents[1] if in_order else len(contents[0]) == len(contents[1])
        assert sorted(contents[0].split(b"\r\n")) == sorted(contents[1].split(b"\r\n"))
        assert ours.execute([b"OBJECT", b"ENCODING", b"t"]) == real.execute([b"OBJECT", b"ENCODING", b"t"])


def test_strings_are_dumped_alike(pair: Pair) -> None:
    rng = random.Random(7)
    values = [word(rng) for _ in range(200)] + [bytes(rng.choices(b"ab", k=size)) for size in range(0, 400, 7)]
    values += [b"x" * size for size in (20, 21, 63, 64, 300, 10_000)] + [b"", b"12345678901", b"-2147483649"]
    for value in values:
        compare(*pair, [("SET", "k", value), "DUMP k"])


def test_a_long_value_is_dumped_in_slices_at_one_point(pair: Pair) -> None:
    ours, real = pair
    for backend in pair:
        backend.execute([b"FLUSHALL"])
        for start in range(0, 20_000, 1000):
            backend.execute([b"RPUSH", b"l", *[b"element:%d" % number for number in range(start, start + 1000)]])
    dump = body_of(ours.execute([b"DUMP", b"l"]))
    assert real.execute([b"RESTORE", b"t", b"0", dump]) == b"+OK\r\n"
    assert real.execute([b"LRANGE", b"t", b"0", b"-1"]) == ours.execute([b"LRANGE", b"l", b"0", b"-1"])


def framed(body: bytes) -> bytes:
    return body + crc64(body).to_bytes(8, "little")


def test_options_and_errors_with_every_type(pair: Pair) -> None:
    ours, real = pair
    compare(ours, real, [fill(kind, 5, random.Random(1)) for kind in FILL])
    dump = body_of(real.execute([b"DUMP", b"h"]))
    broken = framed(dump[:1] + bytes([dump[1] + 1]) + dump[2:-8])
    compare(ours, real, [
        "SET k v EX 100", ("RESTORE", "k", "0", dump), ("RESTORE", "k", "0", dump, "REPLACE"), "TTL k", "TYPE k",
        ("RESTORE", "e", "100000", dump), "EXISTS e", ("RESTORE", "a", "4000000000000", dump, "ABSTTL"),
        "PEXPIRETIME a", ("RESTORE", "past", "1", dump, "ABSTTL"), "EXISTS past", ("RESTORE", "x", "-1", dump),
        ("RESTORE", "x", "0", broken), ("RESTORE", "x", "0", dump[:-1]),
        ("RESTORE", "x", "0", framed(b"\x05\x00\x0a\x00")),
        "EXISTS x",
        ("RESTORE", "i", "0", dump, "IDLETIME", "100"), "DUMP none",
    ])  # fmt: skip


def test_fields_that_expire_are_dumped_and_restored() -> None:
    ours = InProcess(now_ms=1_000_000)
    ours.call("HSET", "h", "a", 1, "b", 2, "c", 3)
    ours.call("HPEXPIRE", "h", 500, "FIELDS", 1, "a")
    ours.call("HPEXPIRE", "h", 5000, "FIELDS", 1, "b")
    dump = ours.call("DUMP", "h")
    ours.call("RESTORE", "g", 0, dump)
    assert ours.call("HGETALL", "g") == {b"a": b"1", b"b": b"2", b"c": b"3"}
    assert ours.call("HPTTL", "g", "FIELDS", 3, "a", "b", "c") == [500, 5000, -1]
    ours.now_ms = 1_001_000
    ours.call("RESTORE", "late", 0, dump)
    assert ours.call("HGETALL", "late") == {b"b": b"2", b"c": b"3"}
    assert ours.call("HPTTL", "late", "FIELDS", 2, "a", "b") == [-2, 4000]
    ours.call("HDEL", "h", "c")
    ours.now_ms = 1_009_000
    assert ours.call("DUMP", "h") is None
    gone = framed(b"\x18" + (5).to_bytes(8, "little") + b"\x01\x01\x01f\x01v" + b"\x0c\0")
    assert ours.call("RESTORE", "gone", 0, gone) == "OK"
    assert ours.call("EXISTS", "gone") == 0
