"""RDB files: every opcode and type is walked over, damage and a missing end are told, what is written is read back."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zattredis.cli.moving.rdb_file import BadFile, Entry, RdbFile, Summary
from zattredis.cli.moving.rdb_writer import NotWritten, RdbWriter, string
from zattredis.keyspace.crc64 import crc64
from zattredis.keyspace.rdb import encode_length, load

EXPIRE_MS = 4_000_000_000_123


def framed(body: bytes, version: int = 10) -> bytes:
    body = b"REDIS%04d" % version + body + b"\xff"
    return body + (crc64(body).to_bytes(8, "little") if version >= 5 else b"")


def read(path: Path) -> tuple[Summary, list[Entry]]:
    with RdbFile(path) as file:
        return file.check(), list(file.entries())


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "dump.rdb"


def plain_key(name: bytes, value: bytes = b"v") -> bytes:
    return b"\x00" + string(name) + string(value)


def test_what_stands_before_a_key_belongs_to_it_alone(path: Path) -> None:
    path.write_bytes(framed(
        b"\xfa" + string(b"redis-ver") + string(b"7.2.4")
        + b"\xfe\x00\xfb\x05\x02"
        + b"\xfc" + EXPIRE_MS.to_bytes(8, "little") + plain_key(b"ms")
        + b"\xfd" + struct.pack("<i", 2_000_000_000) + plain_key(b"s")
        + b"\xfc" + struct.pack("<q", -5) + plain_key(b"long past")
        + b"\xf8" + encode_length(70_000) + plain_key(b"idle")
        + b"\xf9\x2a" + plain_key(b"frequent")
        + b"\xf4\x05\x01\x00" + plain_key(b"plain") + b"\xfe" + encode_length(300) + plain_key(b"far"),
        11,
    ))  # fmt: skip
    summary, entries = read(path)
    assert [(entry.key, entry.db, entry.expire_ms, entry.idle_s, entry.frequency) for entry in entries] == [
        (b"ms", 0, EXPIRE_MS, -1, -1),
        (b"s", 0, 2_000_000_000_000, -1, -1),
        (b"long past", 0, 1, -1, -1),
        (b"idle", 0, 0, 70_000, -1),
        (b"frequent", 0, 0, -1, 42),
        (b"plain", 0, 0, -1, -1),
        (b"far", 300, 0, -1, -1),
    ]
    assert summary.aux == {"redis-ver": "7.2.4"}
    assert (summary.version, summary.checksum, summary.keys) == (11, "verified", 7)
    assert dict(summary.databases) == {0: 6, 300: 1}


def stream(form: int) -> bytes:
    """A stream of one node, one group with one pending entry and one consumer that owns it, as rdb.c writes it."""
    value = b"\x01" + string(bytes(16)) + string(b"listpack") + b"\x01\x02\x03"
    if form > 1:
        value += b"\x01\x02\x03\x04\x05"
    value += b"\x01" + string(b"group") + b"\x07\x08" + (b"\x01" if form > 1 else b"")
    value += b"\x01" + bytes(16) + bytes(8) + b"\x01"
    value += b"\x01" + string(b"consumer") + bytes(8) + (bytes(8) if form > 2 else b"") + b"\x01" + bytes(16)
    return value


MODULE = b"\x81" + bytes(range(8)) + b"\x02\x05" + b"\x01\x40\xff" + b"\x05" + string(b"text") + b"\x04" + bytes(8)
MODULE += b"\x03" + bytes(4) + b"\x00"
PACKED = b"\xc3\x04\x0a\x00a\xe0\x00"  # ten times "a"

VALUES = [
    (0, "string", [string(b"x" * 5), string(b"x" * 100), b"\x80\x00\x00\x40\x00" + b"x" * 0x4000,
                   b"\x81" + bytes(7) + b"\x03abc", b"\xc0\x7f", b"\xc1\x00\x80", b"\xc2\x00\x00\x00\x80", PACKED]),
    (1, "list", [b"\x02" + string(b"a") + PACKED]), (2, "set", [b"\x02" + string(b"a" * 70) + b"\xc0\x01"]),
    (3, "zset", [b"\x04" + string(b"a") + b"\x031.5" + string(b"b") + b"\xfe" + string(b"c") + b"\xff"
                 + string(b"d") + b"\xfd"]),
    (4, "hash", [b"\x01" + string(b"f") + PACKED]), (5, "zset", [b"\x01" + string(b"m") + struct.pack("<d", 1.5)]),
    *[(kind, name, [string(b"packed form")]) for kind, name in (
        (9, "hash"), (10, "list"), (11, "set"), (12, "zset"), (13, "hash"), (16, "hash"), (17, "zset"), (20, "set"))],
    (14, "list", [b"\x02" + string(b"ziplist") + PACKED]),
    (18, "list", [b"\x02\x01" + string(b"plain") + b"\x02" + PACKED]),
    (24, "hash", [bytes(8) + b"\x02\x00" + string(b"f") + string(b"v") + b"\x40\x50" + string(b"g") + string(b"w")]),
    (25, "hash", [bytes(8) + string(b"listpack")]),
    (15, "stream", [stream(1)]), (19, "stream", [stream(2)]), (21, "stream", [stream(3)]), (7, "module", [MODULE]),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "name", "values"), VALUES, ids=[f"{name}-{kind}" for kind, name, _ in VALUES])
def test_every_type_ends_where_it_ends(path: Path, kind: int, name: str, values: list[bytes]) -> None:
    keys = [b"k%d" % number for number in range(len(values))]
    body = b"".join(bytes((kind,)) + string(key) + value for key, value in zip(keys, values, strict=True))
    path.write_bytes(framed(body + plain_key(b"behind"), 12))
    summary, entries = read(path)
    assert [entry.key for entry in entries] == [*keys, b"behind"]
    assert summary.types[name] - (name == "string") == len(values)
    whole = path.read_bytes()
    with RdbFile(path) as file:
        for entry, value in zip(entries, values, strict=False):
            assert whole[entry.start : entry.end] == value
            dump = file.dump_of(entry)
            assert dump[1:-10] == value
            assert crc64(dump[:-8]) == int.from_bytes(dump[-8:], "little")
    # Wherever the file is cut, it is said that and where it ends; with the end mark behind the cut it is damaged.
    for size in range(9, len(whole), 1 + len(whole) // 400):
        path.write_bytes(whole[:size])
        with pytest.raises(BadFile, match=f"offset {size}"):
            read(path)


def test_functions_modules_data_and_old_scripts_are_counted_and_passed_over(path: Path) -> None:
    path.write_bytes(framed(
        b"\xf5" + string(b"#!lua name=one\n")
        + b"\xf6" + string(b"n") + string(b"LUA") + b"\x01" + string(b"d") + string(b"c")
        + b"\xf6" + string(b"n") + string(b"LUA") + b"\x00" + string(b"c")
        + b"\xf7" + MODULE + b"\xfa" + string(b"lua") + string(b"return 1") + plain_key(b"k")
    ))  # fmt: skip
    summary, entries = read(path)
    assert (summary.functions, summary.module_data, [entry.key for entry in entries]) == (3, 1, [b"k"])


@pytest.mark.parametrize("version", [1, 4, 5, 12])
def test_versions(path: Path, version: int) -> None:
    path.write_bytes(framed(plain_key(b"k"), version))
    summary, entries = read(path)
    assert (summary.version, len(entries)) == (version, 1)
    assert summary.checksum == ("verified" if version >= 5 else f"version {version} has none")


def test_a_checksum_of_zero_was_switched_off(path: Path) -> None:
    path.write_bytes(framed(plain_key(b"k"))[:-8] + bytes(8))
    assert read(path)[0].checksum == "switched off by the writer"


def test_any_flipped_bit_is_noticed(path: Path) -> None:
    whole = framed(plain_key(b"key", b"value") + b"\x02" + string(b"set") + b"\x02" + string(b"a") + string(b"b"))
    for place in range(9, len(whole)):
        path.write_bytes(whole[:place] + bytes((whole[place] ^ 1,)) + whole[place + 1 :])
        with pytest.raises(BadFile, match="offset"):
            read(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no RDB file"), (b"RED", "no RDB file"), (b"*3\r\n$3\r\nSET\r\n", "no RDB file"),
        (b"REDIS00x0\xff", "no RDB file"), (b"REDIS0000\xff", "version 0 "), (b"REDIS0013\xff", "version 13 "),
        (b"REDIS0004\x08\x01k", "offset 9: 8 is no type"), (b"REDIS0004\x06\x01k", "before Redis 4.0"),
        (b"REDIS0004\x00\xc5", "offset 10: 0xc5 begins no string"), (b"REDIS0004\x01\x01k\xc0", "begins no length"),
    ],
)  # fmt: skip
def test_what_is_no_file_of_ours(path: Path, content: bytes, message: str) -> None:
    path.write_bytes(content)
    with pytest.raises(BadFile, match=message):
        read(path)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    for wrong in (tmp_path / "none", tmp_path):
        with pytest.raises(BadFile, match=str(wrong)):
            RdbFile(wrong)


KEYS = st.lists(
    st.tuples(st.integers(0, 15), st.binary(max_size=100), st.sampled_from([0, EXPIRE_MS]), st.binary(max_size=300)),
    unique_by=lambda row: (row[0], row[1]), max_size=8,
)  # fmt: skip


@given(KEYS)
def test_what_is_written_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, keys: list[tuple[int, bytes, int, bytes]]
) -> None:
    path = tmp_path_factory.mktemp("rdb") / "dump.rdb"
    with RdbWriter(path, 10, replace=False) as writer:
        writer.note("ctime", "1")
        for db, key, expire_ms, value in keys:
            writer.add(db, key, expire_ms, b"\x00" + string(value) + bytes(10))
        assert not path.exists()
        assert writer.finish() == path.stat().st_size
    with RdbFile(path) as file:
        assert file.check().checksum == "verified"
        found = [(entry.db, entry.key, entry.expire_ms, load(file.dump_of(entry)).value) for entry in file.entries()]
    assert found == keys
    assert [child.name for child in path.parent.iterdir()] == ["dump.rdb"]


def test_a_file_is_replaced_only_if_asked_and_only_by_a_whole_one(path: Path) -> None:
    path.write_bytes(b"old")
    with pytest.raises(NotWritten, match="exists"):
        RdbWriter(path, 10, replace=False)
    with RdbWriter(path, 10, replace=True) as writer:
        writer.add(0, b"k", 0, b"\x00\x01v" + bytes(10))
    assert path.read_bytes() == b"old"
    assert [child.name for child in path.parent.iterdir()] == ["dump.rdb"]
    with pytest.raises(NotWritten, match="No such file"):
        RdbWriter(path.parent / "none" / "dump.rdb", 10, replace=False)
