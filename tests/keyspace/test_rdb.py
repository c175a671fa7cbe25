"""Redis's dump format: what is written is read back, every old encoding is read, anything else is refused."""

from __future__ import annotations

import contextlib
import math
import random
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zattredis.errors import DefiniteError
from zattredis.keyspace import rdb_packed as packed
from zattredis.keyspace import rdb_read
from zattredis.keyspace.crc64 import crc64
from zattredis.keyspace.lzf import LzfError, compress, decompress
from zattredis.keyspace.metadata import HASH, LIST, SET, STRING, ZSET
from zattredis.keyspace.rdb import WrongFooter, load
from zattredis.keyspace.rdb_packed import BadDump
from zattredis.keyspace.rdb_read import Loaded, NotYetStreams

INTEGERS = st.one_of(st.integers(-(2**65), 2**65), st.sampled_from([sign * 2**bits + more for sign in (1, -1)
                     for bits in (6, 7, 12, 15, 23, 31, 63) for more in (-1, 0, 1)]))  # fmt: skip
ELEMENTS = st.one_of(
    st.binary(max_size=70), INTEGERS.map(lambda number: b"%d" % number), st.sampled_from([b"007", b"-0", b"+1", b" 1"]),
    st.integers(60, 20_000).map(lambda size: b"z" * size),
)  # fmt: skip


def framed(body: bytes, version: int = 10) -> bytes:
    body += version.to_bytes(2, "little")
    return body + crc64(body).to_bytes(8, "little")


def string(value: bytes) -> bytes:
    assert len(value) < 1 << 14
    return (0x4000 | len(value)).to_bytes(2, "big") + value


# -- checksum and compression ----------------------------------------------------------------------------------------
def test_crc64_has_the_known_check_value_and_that_of_its_definition() -> None:
    assert crc64(b"123456789") == 0xE9C6D914C4B8D9CA
    assert crc64(b"") == 0
    data = random.Random(1).randbytes(3000)
    crc = 0
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x95AC9329AC4BC9B5 if crc & 1 else 0)
    assert crc64(data) == crc64(memoryview(data)) == crc


REPETITIVE = st.lists(st.sampled_from([b"ab", b"abc", b"x" * 300]), max_size=60).map(b"".join)


@given(st.one_of(st.binary(max_size=400), REPETITIVE))
def test_what_is_packed_is_unpacked(data: bytes) -> None:
    found = compress(data, len(data) + 40)
    assert found is not None
    assert decompress(found, len(data)) == data
    for length in (len(data) - 1, len(data) + 1):
        with pytest.raises(LzfError):
            decompress(found, length)
    smaller = compress(data, len(data) - 4)
    assert smaller is None or (smaller == found and len(smaller) <= len(data) - 4)


@given(st.binary(max_size=60), st.integers(0, 100))
def test_any_bytes_unpack_to_that_length_or_are_refused(data: bytes, length: int) -> None:
    with contextlib.suppress(LzfError):
        assert len(decompress(data, length)) == length


# -- packed forms ----------------------------------------------------------------------------------------------------
@given(st.lists(ELEMENTS, max_size=20))
def test_listpacks_are_read_back(elements: list[bytes]) -> None:
    assert packed.listpack_elements(packed.listpack_of(elements)) == elements


@given(st.sets(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=20))
def test_intsets_are_read_back(numbers: set[int]) -> None:
    members = [b"%d" % number for number in numbers]
    assert packed.intset_members(packed.intset_of(members)) == [b"%d" % number for number in sorted(numbers)]


def ziplist(elements: list[bytes]) -> bytes:
    body, before, last = b"", 0, 10
    for element in elements:
        number = packed.packed_integer(element)
        if number is None:
            size = len(element)
            if size < 64:
                entry = bytes((size,))
            else:
                entry = (0x4000 | size).to_bytes(2, "big") if size < 1 << 14 else b"\x80" + size.to_bytes(4, "big")
            entry += element
        elif 0 <= number <= 12:
            entry = bytes((0xF1 + number,))
        else:
            first, width = next(
                form for form in ((0xFE, 1), (0xC0, 2), (0xF0, 3), (0xD0, 4), (0xE0, 8))
                if -(1 << 8 * form[1] - 1) <= number < 1 << 8 * form[1] - 1
            )  # fmt: skip
            entry = bytes((first,)) + number.to_bytes(width, "little", signed=True)
        entry = (bytes((before,)) if before < 254 else b"\xfe" + before.to_bytes(4, "little")) + entry
        last, before = 10 + len(body), len(entry)
        body += entry
    return struct.pack("<IIH", 11 + len(body), last, len(elements)) + body + b"\xff"


@given(st.lists(ELEMENTS, max_size=20))
def test_ziplists_are_read(elements: list[bytes]) -> None:
    assert packed.ziplist_elements(ziplist(elements)) == elements


def zipmap(pairs: list[tuple[bytes, bytes]], unused: int = 0) -> bytes:
    def length(size: int) -> bytes:
        return bytes((size,)) if size < 254 else b"\xfe" + size.to_bytes(4, "little")

    body = b"".join(
        length(len(field)) + field + length(len(value)) + bytes((unused,)) + value + b"?" * unused
        for field, value in pairs
    )
    return bytes((min(len(pairs), 254),)) + body + b"\xff"


@given(st.lists(st.tuples(st.binary(max_size=300), st.binary(max_size=300)), max_size=8), st.integers(0, 3))
def test_zipmaps_are_read(pairs: list[tuple[bytes, bytes]], unused: int) -> None:
    assert packed.zipmap_pairs(zipmap(pairs, unused)) == [word for pair in pairs for word in pair]


FORMS = [
    (packed.listpack_elements, packed.listpack_of), (packed.ziplist_elements, ziplist),
    (packed.intset_members, packed.intset_of),
    (packed.zipmap_pairs, lambda words: zipmap(list(zip(words, words, strict=True)))),
]  # fmt: skip


@pytest.mark.parametrize("form", range(len(FORMS)))
@settings(max_examples=300)
@given(data=st.data())
def test_damaged_packed_forms_are_refused_or_still_sound(form: int, data: st.DataObject) -> None:
    read, write = FORMS[form]
    numbers = st.integers(-(2**40), 2**40).map(lambda number: b"%d" % number)
    words = data.draw(st.lists(numbers if form == 2 else ELEMENTS.filter(lambda one: len(one) < 200), min_size=1,
                               max_size=6, unique=True))  # fmt: skip
    blob = bytearray(write(words))
    for _ in range(data.draw(st.integers(1, 3))):
        blob[data.draw(st.integers(0, len(blob) - 1))] = data.draw(st.integers(0, 255))
    blob = blob[: data.draw(st.integers(0, len(blob)))] if data.draw(st.booleans()) else blob
    try:
        found = read(bytes(blob))
    except BadDump:
        return
    assert sum(map(len, found)) <= 30 * len(blob)


# -- values ----------------------------------------------------------------------------------------------------------
LISTPACK = packed.listpack_of([b"a", b"1", b"b", b"2.5"])
READ = {
    b"\x00" + string(b"x"): Loaded(STRING, b"x"),
    b"\x00\xc0\xff": Loaded(STRING, b"-1"),
    b"\x00\xc3\x04\x04\x00a\x20\x00": Loaded(STRING, b"aaaa"),
    b"\x01\x02" + string(b"a") + b"\xc0\x05": Loaded(LIST, [b"a", b"5"]),
    b"\x02\x02" + string(b"a") + string(b"b"): Loaded(SET, [b"a", b"b"]),
    b"\x03\x03" + string(b"a") + b"\x031.5" + string(b"b") + b"\xff" + string(b"c") + b"\xfe":
        Loaded(ZSET, [(b"a", 1.5), (b"b", -math.inf), (b"c", math.inf)]),
    b"\x04\x01" + string(b"f") + string(b"v"): Loaded(HASH, [(b"f", b"v")]),
    b"\x05\x01" + string(b"a") + struct.pack("<d", 0.1): Loaded(ZSET, [(b"a", 0.1)]),
    b"\x09" + string(zipmap([(b"f", b"v")], 2)): Loaded(HASH, [(b"f", b"v")]),
    b"\x0a" + string(ziplist([b"a", b"7"])): Loaded(LIST, [b"a", b"7"]),
    b"\x0b" + string(packed.intset_of([b"7", b"-1"])): Loaded(SET, [b"-1", b"7"]),
    b"\x0c" + string(ziplist([b"a", b"7", b"b", b"inf"])): Loaded(ZSET, [(b"a", 7.0), (b"b", math.inf)]),
    b"\x0d" + string(ziplist([b"f", b"7"])): Loaded(HASH, [(b"f", b"7")]),
    b"\x0e\x02" + string(ziplist([b"a"])) + string(ziplist([b"b"])): Loaded(LIST, [b"a", b"b"]),
    b"\x10" + string(LISTPACK): Loaded(HASH, [(b"a", b"1"), (b"b", b"2.5")]),
    b"\x11" + string(LISTPACK): Loaded(ZSET, [(b"a", 1.0), (b"b", 2.5)]),
    b"\x12\x02\x01" + string(b"whole") + b"\x02" + string(LISTPACK): Loaded(LIST, [b"whole", b"a", b"1", b"b", b"2.5"]),
    b"\x14" + string(LISTPACK): Loaded(SET, [b"a", b"1", b"b", b"2.5"]),
    b"\x18" + (5000).to_bytes(8, "little") + b"\x02\x00" + string(b"f") + string(b"v") + b"\x01" + string(b"g")
    + string(b"w"): Loaded(HASH, [(b"f", b"v"), (b"g", b"w")], {b"g": 5000}),
    b"\x19" + (5000).to_bytes(8, "little") + string(packed.listpack_of([b"f", b"v", b"5000", b"g", b"w", b"0"])):
        Loaded(HASH, [(b"f", b"v"), (b"g", b"w")], {b"f": 5000}),
}  # fmt: skip
REFUSED = [
    b"", b"\x00", b"\x08", b"\x06\x00", b"\x07\x00", b"\x1b\x00", b"\x00\xc5", b"\x00\xc4\x01\x01a",
    b"\x01\x00", b"\x02\x00", b"\x03\x00", b"\x04\x00", b"\x05\x00", b"\x12\x00", b"\x0e\x00",
    b"\x01\x81\xff\xff\xff\xff\xff\xff\xff\xff", b"\x01\x80\xff\xff\xff\xff", b"\x04\x80\xff\xff\xff\xff",
    b"\x02\x02" + string(b"a") * 2, b"\x04\x02" + (string(b"f") + string(b"v")) * 2,
    b"\x05\x01" + string(b"a") + struct.pack("<d", math.nan), b"\x03\x01" + string(b"a") + b"\xfd",
    b"\x03\x01" + string(b"a") + b"\x03nan", b"\x03\x01" + string(b"a") + b"\x031_0",
    b"\x03\x01" + string(b"a") + b"\x00",
    b"\x11" + string(packed.listpack_of([b"a", b"x"])), b"\x11" + string(packed.listpack_of([b"a"])),
    b"\x10" + string(packed.listpack_of([b"a"])), b"\x10" + string(packed.listpack_of([b"a", b"1", b"a", b"2"])),
    b"\x10" + string(packed.listpack_of([])), b"\x0a" + string(ziplist([])),
    b"\x12\x01\x02" + string(packed.listpack_of([])),
    b"\x12\x01\x03" + string(LISTPACK), b"\x19" + bytes(8) + string(packed.listpack_of([b"f", b"v"])),
    b"\x19" + bytes(8) + string(packed.listpack_of([b"f", b"v", b"x"])),
    b"\x18" + b"\xff" * 8 + b"\x01\x01" + string(b"f") + string(b"v"),
    b"\x00\xc3\x01\x80\x7f\xff\xff\xff\x00",
]  # fmt: skip


@pytest.mark.parametrize("body", READ, ids=lambda body: body[:12].hex())
def test_every_encoding_is_read(body: bytes) -> None:
    expected = READ[body]
    found = load(framed(body))
    assert (found.kind, found.value, dict(found.expiries or {})) == (
        expected.kind, expected.value, dict(expected.expiries or {}),
    )  # fmt: skip
    for end in range(len(body)):
        with pytest.raises(BadDump):
            load(framed(body[:end]))
    assert load(framed(body + b"\0")) == found


@pytest.mark.parametrize("body", REFUSED, ids=lambda body: body[:12].hex())
def test_what_redis_would_never_write_is_refused(body: bytes) -> None:
    with pytest.raises(BadDump):
        load(framed(body))


def test_streams_are_refused_by_name() -> None:
    with pytest.raises(NotYetStreams, match="stream"):
        load(framed(b"\x13\x00"))


def test_version_and_checksum_are_looked_at_first() -> None:
    good = framed(b"\x00\x01x")
    assert load(good).value == load(framed(b"\x00\x01x", 1)).value == load(framed(b"\x00\x01x", 12)).value == b"x"
    later, changed = framed(b"\x00\x01x", 13), good[:1] + b"\x02" + good[2:]
    for bad in (b"", b"x" * 9, good[:-1], later, changed, good[:-8] + bytes(8)):
        with pytest.raises(WrongFooter):
            load(bad)


def assert_read_or_refused(body: bytes) -> None:
    try:
        load(framed(body))
    except DefiniteError as error:
        refusal = str(error)
    else:
        refusal = "ERR Bad data format"
    assert refusal.startswith("ERR Bad data format")


@settings(max_examples=500)
@given(st.integers(0, 26), st.binary(max_size=60), st.sampled_from([b"", b"\x01", b"\x02", b"\x0a", b"\xc3"]))
def test_any_body_with_a_right_footer_is_read_or_refused(kind: int, body: bytes, head: bytes) -> None:
    assert_read_or_refused(bytes((kind,)) + head + body)


@settings(max_examples=300)
@given(st.sampled_from(sorted(READ)), st.data())
def test_damaged_values_are_refused_or_another_value(body: bytes, data: st.DataObject) -> None:
    changed = bytearray(body)
    for _ in range(data.draw(st.integers(1, 3))):
        changed[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    assert_read_or_refused(bytes(changed))


def test_what_unpacks_to_more_than_a_command_may_write_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    packed_zeros = b"\x00\x00" + b"\xe0\xff\x00" * 200
    size = 1 + 264 * 200
    node = b"\xc3" + (0x4000 | len(packed_zeros)).to_bytes(2, "big") + b"\x80" + size.to_bytes(4, "big") + packed_zeros
    monkeypatch.setattr(rdb_read, "UNPACKED_BYTES_MAX", 3 * size)
    assert load(framed(b"\x01\x03" + node * 3)).value == [bytes(size)] * 3
    with pytest.raises(BadDump):
        load(framed(b"\x01\x04" + node * 4))


@given(st.text("0123456789+-.eEinfaxINF_ \x00", max_size=6).map(str.encode))
def test_a_score_is_read_if_and_only_if_it_is_written_as_one(text: bytes) -> None:
    if rdb_read._SCORE.fullmatch(text):
        assert rdb_read._score(text) == float(text)
    else:
        with pytest.raises(BadDump):
            rdb_read._score(text)
