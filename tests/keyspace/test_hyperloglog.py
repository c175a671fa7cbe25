"""HyperLogLogs against a plain list of registers, sparse and dense, through the conversion between them."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zattredis.keyspace.hyperloglog import (
    DENSE,
    DENSE_BYTES,
    EMPTY,
    HEADER_BYTES,
    REGISTERS,
    SPARSE,
    CorruptHyperLogLog,
    NotHyperLogLog,
    Sparse,
    cached_count,
    check_format,
    count,
    count_registers,
    highest,
    murmur_hash,
    pack,
    places_of,
    raise_registers,
    registers_of,
    stale,
    to_dense,
    unpack,
)

PLACES = st.lists(
    st.tuples(
        st.one_of(st.integers(0, REGISTERS - 1), st.integers(0, 60), st.sampled_from([0, 16_319, REGISTERS - 1])),
        st.one_of(st.integers(1, 4), st.integers(1, 51)),
    ),
    max_size=120,
)


@settings(max_examples=150, deadline=None)
@given(PLACES, st.sampled_from([0, 60, 300, 3000, 100_000]), st.booleans())
def test_registers_are_the_highest_values_seen(places: list[tuple[int, int]], bytes_max: int, one_by_one: bool) -> None:
    model = [0] * REGISTERS
    value = EMPTY
    for group in [[place] for place in places] if one_by_one else [places]:
        rises = False
        for index, register in group:
            rises = rises or register > model[index]
            model[index] = max(model[index], register)
        raised = raise_registers(value, group, bytes_max)
        assert (raised is not None) == rises
        value = raised or value
        check_format(value)
        assert list(registers_of(value)) == model
        assert value[4] == DENSE or len(value) <= max(bytes_max, len(EMPTY))
        assert rises is False or cached_count(value) is None
    assert list(registers_of(to_dense(value))) == model
    assert count(value) == count(to_dense(value)) == count_registers(bytes(model))
    if any(register > 32 for register in model):
        assert value[4] == DENSE


@settings(max_examples=50, deadline=None)
@given(st.binary(min_size=64, max_size=64), st.binary(min_size=64, max_size=64))
def test_packing_and_the_highest_of_two(one: bytes, other: bytes) -> None:
    first = bytes(byte & 63 for byte in one) * (REGISTERS // 64)
    second = bytes(byte & 63 for byte in other) * (REGISTERS // 64)
    packed = pack(first)
    assert int.from_bytes(packed, "little") == sum(byte << 6 * at for at, byte in enumerate(first[:64])) * sum(
        1 << 384 * at for at in range(REGISTERS // 64)
    )
    assert unpack(bytes(HEADER_BYTES) + packed) == first
    assert highest(first, second) == bytes(map(max, first, second))


def test_the_hash_and_the_place_of_an_element() -> None:
    places = places_of(b"element:%d" % number for number in range(1000))
    assert {index for index, _ in places} <= set(range(REGISTERS))
    assert all(1 <= value <= 51 for _, value in places)
    assert len({murmur_hash(bytes(length)) for length in range(30)}) == 30


def test_estimates_stay_within_their_error() -> None:
    value = EMPTY
    for size in (10, 100, 1000, 10_000, 50_000):
        value = raise_registers(value, places_of(b"%d:%d" % (size, n) for n in range(size)), 3000) or value
    total = 61_110
    assert value[4] == DENSE
    assert abs(count(value) - total) < total * 0.03
    assert count(EMPTY) == 0


def test_damaged_ones_are_refused() -> None:
    dense = to_dense(EMPTY)
    for broken in (b"", b"HYLL", b"HYLX" + EMPTY[4:], b"HYLL\2" + EMPTY[5:], dense[:-1], dense + b"x"):
        with pytest.raises(NotHyperLogLog):
            check_format(broken)
    header = EMPTY[:HEADER_BYTES]
    for opcodes in (b"", b"\x7f\xfe", b"\x7f\xff\0", b"\x7f\xffhello", b"\x3f" * 255, b"\x7f", b"\x80" * 40_000):
        with pytest.raises(CorruptHyperLogLog):
            count(header + opcodes)
        with pytest.raises(CorruptHyperLogLog):
            to_dense(header + opcodes)
    with pytest.raises(CorruptHyperLogLog):
        raise_registers(header + b"\x3f" * 3, [(192, 1)], 3000)
    assert raise_registers(header + b"\x3f" * 3, [(191, 1)], 3000) is not None


def test_the_cache_is_valid_until_a_register_rises() -> None:
    fresh = EMPTY[:8] + (12345).to_bytes(8, "little") + EMPTY[HEADER_BYTES:]
    assert cached_count(fresh) == 12345
    assert cached_count(stale(fresh)) is None
    raised = raise_registers(fresh, [(0, 1)], 3000)
    assert raised is not None and cached_count(raised) is None
    assert cached_count(to_dense(fresh)) == 12345


def test_reading_and_writing_opcodes_is_exact() -> None:
    strange = EMPTY[:HEADER_BYTES] + b"\x40\x00\x00\x83\x83\x83" + b"\x7f\x00" + b"\x3f" * 3
    assert Sparse(strange).encode(strange[:HEADER_BYTES]) == strange
    assert Sparse(strange).decode() == "Z:1 z:1 v:1,4 v:1,4 v:1,4 Z:16129 z:64 z:64 z:64"
    assert len(to_dense(EMPTY)) == DENSE_BYTES
    assert EMPTY[4] == SPARSE
