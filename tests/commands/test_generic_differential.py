"""The generic group and whole databases against redis-server 7.0."""

from __future__ import annotations

import pytest

from tests.commands.test_strings_differential import BAD_INTEGERS, EDGES
from tests.support.differential import Backend, Connection, compare, numbers_within, unordered

Pair = tuple[Backend, Connection]

WRONG_ARITY = [
    "DEL", "UNLINK", "EXISTS", "TOUCH", "TYPE", "TYPE a b", "KEYS", "KEYS a b", "SCAN", "RANDOMKEY a", "RENAME a",
    "RENAME a b c", "RENAMENX a", "RENAMENX a b c", "COPY a", "COPY", "MOVE a", "MOVE a 1 2", "EXPIRE a", "EXPIRE",
    "PEXPIRE a", "EXPIREAT a", "PEXPIREAT a", "TTL", "TTL a b", "PTTL", "PTTL a b", "EXPIRETIME", "EXPIRETIME a b",
    "PEXPIRETIME", "PERSIST", "PERSIST a b", "OBJECT", "OBJECT ENCODING", "OBJECT ENCODING a b", "OBJECT FREQ",
    "OBJECT IDLETIME", "OBJECT REFCOUNT", "OBJECT FOO", "OBJECT FOO a", "DUMP", "DUMP a b", "RESTORE", "RESTORE a 0",
    "DBSIZE a", "SWAPDB", "SWAPDB 1", "SWAPDB 1 2 3", "MEMORY USAGE", "MEMORY FOO", "MEMORY",
]  # fmt: skip


def test_wrong_arity(pair: Pair) -> None:
    compare(*pair, WRONG_ARITY)


def test_del_exists_touch_type(pair: Pair) -> None:
    compare(
        *pair,
        ["DEL a", "MSET a 1 b 2 c 3", "EXISTS a b a x", "TOUCH a x b", "TYPE a", "TYPE x", "DEL a a b", "UNLINK c x",
         "DBSIZE", "SET a v", "DBSIZE", ("SET", "", "empty"), ("GET", ""), ("DEL", ""), "EXISTS a"],
    )  # fmt: skip


def test_rename_renamenx(pair: Pair) -> None:
    compare(
        *pair,
        ["RENAME a b", "RENAMENX a b", "RENAME a a", "RENAMENX a a", "SET a 1 EX 1000", "SET b 2", "RENAME a b",
         "GET b",
         "TTL b", "EXISTS a", "SET a 3", "RENAMENX a b", "RENAMENX a c", "GET c", "RENAME c c", "RENAMENX c c", "GET c",
         "DBSIZE", "RENAME b c", "TTL c", "DBSIZE", "SET d x EX 100", "SET e y", "RENAME e d", "TTL d"],
    )  # fmt: skip


def test_move_copy_select_swapdb(pair: Pair) -> None:
    numbers = [*BAD_INTEGERS, *EDGES, "15", "16", "-2147483648", "2147483647", "2147483648", "-2147483649"]
    compare(
        *pair,
        ["MOVE a 1", "SET a v EX 1000", "MOVE a 0", "MOVE a 1", "EXISTS a", "SET a w", "MOVE a 1", "SELECT 1", "TTL a",
         "GET a", "DBSIZE", "MOVE a 0", "COPY a b", "COPY a b", "COPY a b REPLACE", "TTL b", "COPY a a",
         "COPY a c DB 0",
         "COPY a a DB 1", "COPY a a DB 0", "COPY a a DB 0 REPLACE", "SELECT 0", "GET a", "TTL a", "GET c", "COPY x y",
         "COPY x x", "COPY a z DB", "COPY a z FOO", "COPY a z REPLACE REPLACE", "COPY a y DB 3 DB 4", "SWAPDB 0 1",
         "GET b", "DBSIZE", "SELECT 1", "KEYS c", "SWAPDB 1 1", "SWAPDB 4 3", "SELECT 3", "GET y", "FLUSHDB", "DBSIZE",
         "SELECT 0", "DBSIZE", "FLUSHALL ASYNC", "DBSIZE", "FLUSHALL SYNC", "FLUSHDB FOO", "FLUSHDB SYNC ASYNC",
         "FLUSHALL async sync", "FLUSHDB async", "FLUSHALL x", "SELECT 1", "DBSIZE", "SELECT 0"],
    )  # fmt: skip
    for number in numbers:
        compare(*pair, ["SET a v", f"MOVE a {number}", "SET a v", f"COPY a b DB {number}", f"SWAPDB {number} 0",
                        f"SWAPDB 0 {number}", f"MOVE none {number}", f"COPY none b DB {number}"])  # fmt: skip


CONDITIONS = [
    "", "NX", "XX", "GT", "LT", "nx", "NX XX", "NX GT", "NX LT", "GT LT", "XX GT", "XX LT", "XX LT GT", "FOO", "NX FOO",
    "FOO NX XX", "GT GT", "NX NX",
]  # fmt: skip
FAR = 4_000_000_000


@pytest.mark.parametrize("prepared", ["DEL k", "SET k v", f"SET k v EXAT {FAR}"])
def test_expire_conditions(pair: Pair, prepared: str) -> None:
    for name, times in {
        "EXPIRE": ["100", "-1", "0", "9999999999"],
        "PEXPIRE": ["100000", "-1", "0", "9999999999999"],
        "EXPIREAT": ["1", str(FAR), str(FAR + 1), str(FAR - 1)],
        "PEXPIREAT": ["1", f"{FAR}000", f"{FAR}001", f"{FAR - 1}999"],
    }.items():
        for time in times:
            for condition in CONDITIONS:
                lines = [prepared, f"{name} k {time} {condition}", "EXISTS k", "PEXPIRETIME k", "EXPIRETIME k"]
                compare(*pair, lines, numbers_within(5000))


@pytest.mark.parametrize("name", ["EXPIRE", "PEXPIRE", "EXPIREAT", "PEXPIREAT"])
def test_expire_with_odd_times(pair: Pair, name: str) -> None:
    odd = ["9223372036854775", "9223372036854776", "-9223372036854775", "-9223372036854776", "9223370000000000000"]
    for time in [*BAD_INTEGERS, *EDGES, *odd]:
        for condition in ["", "NX", "FOO", "GT LT"]:
            compare(*pair, ["SET k v", f"{name} k {time} {condition}", "EXISTS k", f"{name} none {time} {condition}"])


def test_ttl_family(pair: Pair) -> None:
    lines = ["TTL k", "PTTL k", "EXPIRETIME k", "PEXPIRETIME k", "PERSIST k"]
    compare(
        *pair,
        [*lines, "SET k v", *lines, f"PEXPIREAT k {FAR}499", *lines, f"PEXPIREAT k {FAR}500", *lines,
         f"SET k v PXAT {FAR}777", *lines, "SET k v EX 77", *lines, "GET k"],
        numbers_within(5000),
    )  # fmt: skip
    compare(
        *pair,
        [f"SET k v PXAT {FAR}499", "EXPIRETIME k", f"SET k v PXAT {FAR}500", "EXPIRETIME k", "PEXPIRETIME k",
         "SET k v PX 100499", "TTL k", "SET k v PX 100900", "TTL k"],
    )  # fmt: skip


def test_keys_in_any_order(pair: Pair) -> None:
    keys = ["hello", "hallo", "hxllo", "h*llo", "h[llo", "h\\llo", "", "a", "ab", "abc", "b-c", "^x", "]", "*", "[",
            "ÿ"]  # fmt: skip
    prepared = [("SET", key, "v") for key in keys] + [("SET", b"a\xff\x80", "v"), ("SET", b"\xff", "v")]
    patterns = [
        "*", "**", "h?llo", "h*o", "h[ae]llo", "h[^e]llo", "h[a-b]llo", "h[b-a]llo", "h\\*llo", "h\\[llo", "h[*]llo",
        "''", "?", "??", "???*", "*a*", "*?*?*", "[", "[]", "[^]", "[^", "[a", "[a-", "[a-]", "[a-z", "\\", "\\\\",
        "a\\",
        "*\\", "*[", "[\\]]", "[]]", "[^]]", "b[-]c", "b[a-]c", "[*]", "[^*]", "*llo*", "*l*l*o", "x*", "*x", "?*",
        "*?",
        "**?", "?**", "h\\?llo", "[^a-z]*", "[a-\\d]*",
    ]  # fmt: skip
    lines = [("KEYS", pattern.replace("''", "")) for pattern in patterns]
    lines += [("KEYS", pattern) for pattern in (b"[\x80-\xff]", b"[a-\xff]*", b"*[\xff-a]", b"[^\xff]*", b"*\xff*")]
    compare(*pair, [*prepared, *lines], unordered)
    compare(*pair, [*prepared, *[("SCAN", "0", "COUNT", "1000", "MATCH", line[1]) for line in lines]], unordered)


def test_scan_arguments(pair: Pair) -> None:
    prepared = ["MSET a 1 b 2 c 3"]
    lines = [
        "SCAN 0 COUNT 0", "SCAN 0 COUNT -1", "SCAN 0 COUNT x", "SCAN 0 COUNT", "SCAN 0 MATCH", "SCAN 0 TYPE",
        "SCAN 0 FOO",
        "SCAN 0 FOO 1", "SCAN 0 COUNT 100 TYPE string", "SCAN 0 COUNT 100 TYPE STRING", "SCAN 0 COUNT 100 TYPE list",
        "SCAN 0 COUNT 100 TYPE nonsense", "SCAN 0 MATCH a COUNT 100", "SCAN 0 COUNT 1 COUNT 100",
        "SCAN 0 MATCH a MATCH b COUNT 100", "SCAN abc", "SCAN ''", "SCAN 1x", "SCAN -", "SCAN +0 COUNT 100",
        ("SCAN", " 0", "COUNT", "100"), ("SCAN", "0 "), "SCAN 18446744073709551616", "SCAN 99999999999999999999999",
        "SCAN 1.5", "SCAN 0x0", "SCAN 000 COUNT 100", "SCAN -0 COUNT 100", "SCAN 0 COUNT 9223372036854775807",
        "SCAN 0 COUNT 9223372036854775808", "SCAN x COUNT y", "SCAN 0 COUNT y MATCH", ("SCAN", b"0\0", "COUNT", "100"),
        "RANDOMKEY x",
    ]  # fmt: skip
    compare(*pair, [*prepared, *lines], unordered)


def test_object(pair: Pair) -> None:
    subcommands = ["ENCODING", "REFCOUNT", "FREQ", "encoding"]
    compare(*pair, [f"OBJECT {sub} none" for sub in [*subcommands, "IDLETIME"]])
    for value in [
        "1", "0", "9999", "10000", "-1", "9223372036854775807", "-9223372036854775808", "9223372036854775808", "01",
        "x", "x" * 44, "x" * 45, "1.5", "", "1" * 20,
    ]:  # fmt: skip
        lines: list[object] = [("SET", "k", value), *[f"OBJECT {sub} k" for sub in subcommands]]
        lines += ["COPY k l", "OBJECT ENCODING l", "APPEND k 1", "OBJECT ENCODING k", "OBJECT REFCOUNT k", "COPY k m",
                  "OBJECT ENCODING m", "RENAME m n", "OBJECT ENCODING n", "SET i 41", "INCR i", "OBJECT ENCODING i",
                  "OBJECT REFCOUNT i", "INCRBYFLOAT i 1", "OBJECT ENCODING i", "INCR i", "OBJECT ENCODING i",
                  "SETRANGE i 0 7", "OBJECT ENCODING i", ("GETSET", "i", value), "OBJECT ENCODING i", "EXPIRE i 100",
                  "OBJECT ENCODING i", "OBJECT IDLETIME i"]  # fmt: skip
        compare(*pair, lines)  # type: ignore[arg-type]


def test_memory_usage_arguments(pair: Pair) -> None:
    compare(
        *pair,
        ["MEMORY USAGE none", "MEMORY USAGE none SAMPLES 0", "MEMORY USAGE none SAMPLES -1",
         "MEMORY USAGE none SAMPLES",
         "MEMORY USAGE none FOO", "MEMORY USAGE none SAMPLES x", "MEMORY USAGE none samples 5 samples 6"],
    )  # fmt: skip


DUMPABLE = ["", "0", "1", "-1", "127", "128", "-128", "-129", "32767", "32768", "-32769", "2147483647", "2147483648",
            "-2147483648", "-2147483649", "01", "x", "x" * 20, "1" * 11, "-1111111111", "12345678901"]  # fmt: skip


def test_dump(pair: Pair) -> None:
    compare(*pair, ["DUMP none"])
    for value in DUMPABLE:
        compare(*pair, [("SET", "k", value), "DUMP k", "APPEND k ''", "DUMP k"])


def test_dumps_are_understood_both_ways(pair: Pair) -> None:
    ours, real = pair
    random_bytes = bytes(range(256)) * 3
    for value in [
        *[item.encode() for item in DUMPABLE], b"y" * 63, b"y" * 64, b"abc" * 100, random_bytes, b"z" * 16383,
        b"z" * 16384,
        b"q" * 300_000, b"lorem ipsum dolor " * 40 + random_bytes + b"lorem ipsum dolor ",
        b"ab" * 2 + b"a" * 264 + b"b",
    ]:  # fmt: skip
        for writer, reader in ((ours, real), (real, ours)):
            for backend in pair:
                backend.execute([b"FLUSHALL"])
            writer.execute([b"SET", b"k", value])
            raw = writer.execute([b"DUMP", b"k"])
            dump = raw.split(b"\r\n", 1)[1][:-2]
            assert reader.execute([b"RESTORE", b"k", b"0", dump]) == b"+OK\r\n"
            assert reader.execute([b"GET", b"k"]) == b"$%d\r\n%b\r\n" % (len(value), value)


def test_restore_arguments(pair: Pair) -> None:
    _, real = pair
    real.execute([b"SET", b"source", b"some value"])
    good = real.execute([b"DUMP", b"source"]).split(b"\r\n", 1)[1][:-2]
    odd = [b"", b"x", good[:-1], good + b"x", good[:-9] + b"\x0b" + good[-8:], b"\0" * 20, good[1:], good[:-10]]
    options = [
        "", "REPLACE", "ABSTTL", "IDLETIME", "IDLETIME 5", "IDLETIME -1", "IDLETIME x", "FREQ", "FREQ 5", "FREQ -1",
        "FREQ 256", "FREQ x", "IDLETIME 5 FREQ 5", "FREQ 5 IDLETIME 5", "FOO", "REPLACE REPLACE ABSTTL",
        "replace absttl",
        "IDLETIME 5 IDLETIME 6", "IDLETIME 9223372036854775807", "REPLACE FOO",
    ]  # fmt: skip
    for prepared in ["DEL k", "SET k v EX 1000"]:
        for option in options:
            for ttl in ["0", "100000", "-1", "x", "99999999999999", "9223372036854775807"]:
                restore = ("RESTORE", "k", ttl, good, *option.split())
                compare(*pair, [prepared, restore, "GET k", "PTTL k"], numbers_within(5000))
        for dump in odd:
            for option in ("", "REPLACE"):
                compare(*pair, [prepared, ("RESTORE", "k", "0", dump, *option.split()), "GET k"])
    compare(*pair, [("RESTORE", "k", "1", good, "ABSTTL"), "EXISTS k", "SET k v", "TTL k",
                    ("RESTORE", "k", "1", good, "ABSTTL", "REPLACE"), "EXISTS k"])  # fmt: skip


def test_restore_idletime_is_what_object_idletime_says(pair: Pair) -> None:
    _, real = pair
    real.execute([b"SET", b"source", b"12345"])
    good = real.execute([b"DUMP", b"source"]).split(b"\r\n", 1)[1][:-2]
    compare(
        *pair,
        [("RESTORE", "k", "0", good, "IDLETIME", "4000"), "OBJECT IDLETIME k", "OBJECT ENCODING k", "OBJECT FREQ k"],
        numbers_within(1000),
    )
