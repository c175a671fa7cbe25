"""Values and keys keep their types; what would not is refused before it is sent."""

from __future__ import annotations

import collections
import dataclasses
import datetime
import decimal
import enum
import json
import math
import uuid
import zoneinfo
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zattredis.client import CodecError, PickleWarning, pickle_codec, plain_codec, raw_codec
from zattredis.client.dictionary import DistributedDict
from zattredis.client.typed import codec_for, key_types
from zattredis.client.values import decode_key, encode_key

LEAVES = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.binary() | st.text()
    | st.text(alphabet=st.characters(categories=["Cs", "L"])) | st.datetimes()
    | st.datetimes(timezones=st.just(datetime.UTC)) | st.dates() | st.uuids() | st.decimals(allow_nan=False)
    | st.timedeltas() | st.sampled_from(["$tuple", "$dict", "!", "\x00"])
)  # fmt: skip
KEYS = st.recursive(
    st.text() | st.integers() | st.binary() | st.none() | st.floats(allow_nan=False) | st.booleans() | st.just("\x00a"),
    lambda inner: st.lists(inner, max_size=3).map(tuple),
    max_leaves=4,
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(st.text(max_size=3) | st.sampled_from(["$tuple", "$"]), inner, max_size=3)
        | st.dictionaries(KEYS, inner, max_size=3)
        | st.sets(st.integers() | st.text(), max_size=3)
    ),
    max_leaves=12,
)


def types_of(value: Any) -> Any:
    if isinstance(value, dict):
        return [(types_of(key), types_of(item)) for key, item in value.items()]
    if isinstance(value, list | tuple):
        return type(value), [types_of(item) for item in value]
    return type(value)


@settings(derandomize=True, max_examples=150, deadline=None)
@given(VALUES)
def test_any_value_comes_back_equal_and_of_its_type(value: Any) -> None:
    back = plain_codec.decode(plain_codec.encode(value))
    assert back == value
    assert types_of(back) == types_of(value)


@settings(derandomize=True, max_examples=150, deadline=None)
@given(KEYS, KEYS)
def test_keys_are_one_field_exactly_if_a_dict_takes_them_for_one(first: Any, second: Any) -> None:
    assert decode_key(encode_key(first)) == first
    assert (encode_key(first) == encode_key(second)) == (first == second)


def test_one_true_and_one_point_zero_are_one_key_as_in_a_dict() -> None:
    assert encode_key(1) == encode_key(True) == encode_key(1.0)
    assert encode_key((1, "a")) == encode_key((True, "a"))
    assert encode_key("1") != encode_key(1) != encode_key(b"1")


@pytest.mark.parametrize("key", [[], {}, math.nan, object(), (1, [2])])
def test_what_cannot_be_a_key_is_a_type_error(key: Any) -> None:
    with pytest.raises(TypeError):
        encode_key(key)


def test_what_is_stored_is_readable_by_others() -> None:
    assert plain_codec.encode(12) == b"12"
    assert plain_codec.encode("é") == '"é"'.encode()
    assert plain_codec.encode(b"\xff!") == b"!\xff!"
    assert json.loads(plain_codec.encode({"a": [1, None, True]})) == {"a": [1, None, True]}
    assert encode_key("key1") == b"key1"


def test_floats_beyond_json_and_datetimes_with_a_zone() -> None:
    assert math.isnan(plain_codec.decode(plain_codec.encode(math.nan)))
    assert plain_codec.decode(plain_codec.encode([-math.inf])) == [-math.inf]
    moment = datetime.datetime(2026, 10, 25, 2, 30, fold=1, tzinfo=zoneinfo.ZoneInfo("Europe/Paris"))
    back = plain_codec.decode(plain_codec.encode(moment))
    assert (back, back.fold, back.tzinfo, back.utcoffset()) == (moment, 1, moment.tzinfo, moment.utcoffset())


class Colour(enum.IntEnum):
    RED = 1


@pytest.mark.parametrize("value", [Colour.RED, object(), collections.OrderedDict(a=1), [collections.Counter()], 1j])
def test_what_would_change_its_type_is_refused(value: Any) -> None:
    with pytest.raises(TypeError, match="cannot be stored"):
        plain_codec.encode(value)


def test_a_value_that_holds_itself_is_refused() -> None:
    value: list[Any] = []
    value.append(value)
    with pytest.raises(ValueError, match="holds itself"):
        plain_codec.encode(value)


@pytest.mark.parametrize("data", [b"hello", b"", b"{", b'{"$new":1}', b'{"$datetime":3}', b'{"$dict":[1]}', b"\xff"])
def test_foreign_bytes_are_a_codec_error(data: bytes) -> None:
    with pytest.raises(CodecError):
        plain_codec.decode(data)


@dataclasses.dataclass
class Point:
    x: int
    y: float = 0.0


class Order(msgspec.Struct):
    item: str
    count: int
    tags: tuple[str, ...] = ()
    price: decimal.Decimal = decimal.Decimal(0)


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (Point, Point(1, 2.5)),
        (Order, Order("a", 2, ("x",), decimal.Decimal("1.50"))),
        (list[Order], [Order("a", 1)]),
        (tuple[int, str], (1, "a")),
        (Colour, Colour.RED),
        (uuid.UUID, uuid.UUID(int=5)),
        (int | str, "a"),
        (bytes, b"\x00"),
        (float, math.inf),
        (Any, (1, b"")),
    ],
)
def test_a_declared_type_comes_back(kind: Any, value: Any) -> None:
    codec = codec_for(kind)
    back = codec.decode(codec.encode(value))
    assert back == value
    assert type(back) is type(value)


@pytest.mark.parametrize(
    ("kind", "value"), [(Order, {"item": 1}), (Point, Order("a", 1)), (int, "a"), (list[int], ["a"])]
)
def test_a_value_of_another_type_is_refused_before_it_is_sent(kind: Any, value: Any) -> None:
    with pytest.raises(TypeError):
        codec_for(kind).encode(value)


@pytest.mark.parametrize(("kind", "data"), [(Order, b"{}"), (Order, b"12"), (int, b'"a"')])
def test_stored_values_of_another_type_are_a_codec_error(kind: Any, data: bytes) -> None:
    with pytest.raises(CodecError):
        codec_for(kind).decode(data)


def test_an_int_where_float_is_declared_is_a_float() -> None:
    codec = codec_for(float)
    assert type(codec.decode(codec.encode(1))) is float


def test_key_types() -> None:
    assert key_types(Any) is None
    assert key_types(str | int) == (str, int)
    assert key_types(tuple[int, str]) == (tuple,)
    with pytest.raises(TypeError):
        key_types(list)


def test_pickle_warns_and_keeps_what_pickle_keeps() -> None:
    with pytest.warns(PickleWarning, match="run code") as caught:
        DistributedDict(codec=pickle_codec)
    assert caught[0].filename == __file__
    value = collections.OrderedDict(a=Colour.RED)
    assert type(pickle_codec.decode(pickle_codec.encode(value))) is collections.OrderedDict
    with pytest.raises(TypeError):
        pickle_codec.encode(lambda: 0)
    with pytest.raises(CodecError):
        pickle_codec.decode(b"12")


def test_raw_bytes() -> None:
    assert raw_codec.decode(raw_codec.encode(b"hello")) == b"hello"
    with pytest.raises(TypeError):
        raw_codec.encode("hello")  # type: ignore[arg-type]
