"""Python values as bytes and back, keeping their types; and keys as the fields of a hash.

The form is text that other languages and redis-cli can read: JSON, extended by objects with one key that begins with
`$` for what JSON lacks, and by `!` followed by the bytes themselves for a value that is `bytes`:

    12   1.5   true   null   "text"   [1,2]   {"a":1}          int float bool None str list dict
    !raw                                                       bytes
    {"$tuple":[1,2]}  {"$bytes":"base64"}  {"$float":"nan"}    nested as deep as wanted
    {"$datetime":"2026-01-02T03:04:05+00:00"}  {"$dict":[[1,"one"]]}  …

So a counter is the decimal that HINCRBY increments. Only exact types are taken: a subclass (an IntEnum, a defaultdict)
would come back as something else, so it is refused with TypeError, before anything is sent.

A key that is a str is its own UTF-8; any other is `\\x00` and the form above. As in a dict, 1, 1.0 and True
are one key.
"""

from __future__ import annotations

import base64
import datetime
import decimal
import json
import math
import pickle
import uuid
import warnings
import zoneinfo
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from zattredis.client.errors import CodecError, PickleWarning

T = TypeVar("T")


class Codec(Protocol[T]):
    """How values become bytes. `decimal_integers`: ints are their decimals, so the server itself may add to them."""

    decimal_integers: bool

    def encode(self, value: T) -> bytes:
        """Return the bytes to store. Raises TypeError or ValueError for what cannot be stored."""
        ...

    def decode(self, data: bytes) -> T:
        """Return the value. Raises CodecError."""
        ...


_LEAVES = frozenset({str, int, bool, type(None)})
RAW_MARK = b"!"
KEY_MARK = b"\x00"


def _tuple(value: tuple[Any, ...]) -> object:
    return {"$tuple": [_outward(item) for item in value]}


def _dict(value: dict[Any, Any]) -> object:
    if all(type(key) is str for key in value) and not (len(value) == 1 and next(iter(value)).startswith("$")):
        return {key: _outward(item) for key, item in value.items()}
    return {"$dict": [[_outward(key), _outward(item)] for key, item in value.items()]}


def _float(value: float) -> object:
    return value if math.isfinite(value) else {"$float": repr(value)}


def _datetime(value: datetime.datetime) -> object:
    zone = value.tzinfo
    if zone is None or isinstance(zone, datetime.timezone):
        return {"$datetime": [value.isoformat(), 1] if value.fold else value.isoformat()}
    if isinstance(zone, zoneinfo.ZoneInfo) and zone.key:
        return {"$datetime": [value.replace(tzinfo=None).isoformat(), value.fold, zone.key]}
    raise TypeError(f"a datetime with a {type(zone).__name__} cannot be stored; use datetime.timezone or ZoneInfo")


def _time(value: datetime.time) -> object:
    if value.tzinfo is not None and not isinstance(value.tzinfo, datetime.timezone):
        raise TypeError(f"a time with a {type(value.tzinfo).__name__} cannot be stored; use datetime.timezone")
    return {"$time": [value.isoformat(), value.fold]}


_OUTWARD: dict[type, Callable[[Any], object]] = {
    float: _float,
    list: lambda value: [_outward(item) for item in value],
    dict: _dict,
    tuple: _tuple,
    bytes: lambda value: {"$bytes": base64.b64encode(value).decode()},
    set: lambda value: {"$set": [_outward(item) for item in value]},
    frozenset: lambda value: {"$frozenset": [_outward(item) for item in value]},
    datetime.datetime: _datetime,
    datetime.date: lambda value: {"$date": value.isoformat()},
    datetime.time: _time,
    datetime.timedelta: lambda value: {"$timedelta": [value.days, value.seconds, value.microseconds]},
    decimal.Decimal: lambda value: {"$decimal": str(value)},
    uuid.UUID: lambda value: {"$uuid": value.hex},
}


def _outward(value: object) -> object:
    """Return what json.dumps can write for a value. Raises TypeError."""
    kind = type(value)
    if kind in _LEAVES:
        return value
    change = _OUTWARD.get(kind)
    if change is None:
        raise TypeError(
            f"{kind.__module__}.{kind.__qualname__} cannot be stored as it is: give its type on opening, "
            "DistributedDict[str, TheType](…), or a codec"
        )
    return change(value)


def _inward_datetime(content: Any) -> datetime.datetime:
    if isinstance(content, str):
        return datetime.datetime.fromisoformat(content)
    moment = datetime.datetime.fromisoformat(content[0]).replace(fold=content[1])
    return moment if len(content) == 2 else moment.replace(tzinfo=zoneinfo.ZoneInfo(content[2]))


_INWARD: dict[str, Callable[[Any], object]] = {
    "$tuple": tuple,
    "$bytes": lambda content: base64.b64decode(content, validate=True),
    "$float": float,
    "$set": set,
    "$frozenset": frozenset,
    "$dict": lambda content: {key: value for key, value in content},  # noqa: C416 (two items each, or it is damaged)
    "$datetime": _inward_datetime,
    "$date": datetime.date.fromisoformat,
    "$time": lambda content: datetime.time.fromisoformat(content[0]).replace(fold=content[1]),
    "$timedelta": lambda content: datetime.timedelta(*content),
    "$decimal": decimal.Decimal,
    "$uuid": uuid.UUID,
}


def _inward(found: dict[str, Any]) -> object:
    """The object hook of json: called from the innermost outward."""
    if len(found) == 1:
        ((mark, content),) = found.items()
        change = _INWARD.get(mark)
        if change is not None:
            return change(content)
        if mark.startswith("$"):
            raise ValueError(f"unknown mark {mark}; written by a newer client?")
    return found


_write = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode
_write_ascii = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode
_read = json.JSONDecoder(object_hook=_inward).decode


def _dumps(value: object) -> bytes:
    try:
        text = _outward(value)
    except RecursionError:
        raise ValueError("the value is nested too deeply, or holds itself") from None
    try:
        return _write(text).encode()
    except UnicodeEncodeError:  # a lone surrogate, which UTF-8 cannot say
        return _write_ascii(text).encode()


class PlainCodec:
    """The form of the module's docstring."""

    decimal_integers = True

    def encode(self, value: Any) -> bytes:
        """Return the bytes. Raises TypeError (not a type that is kept) or ValueError (nested too deeply)."""
        return RAW_MARK + value if type(value) is bytes else _dumps(value)

    def decode(self, data: bytes) -> Any:
        """Return the value. Raises CodecError."""
        if data[:1] == RAW_MARK:
            return data[1:]
        try:
            return _read(data.decode())
        except (ValueError, TypeError, LookupError, ArithmeticError, RecursionError) as error:
            raise CodecError(f"the stored value {data[:80]!r} is not of this client's form: {error}") from error


class RawCodec:
    """Values are bytes, stored as they are: what other Redis clients write can be read."""

    decimal_integers = False

    def encode(self, value: bytes) -> bytes:
        """Return the value itself. Raises TypeError if it is not bytes."""
        if not isinstance(value, bytes):
            raise TypeError(f"raw_codec stores bytes, not {type(value).__name__}")
        return value

    def decode(self, data: bytes) -> bytes:
        """Return the bytes."""
        return data


class PickleCodec:
    """Any Python object. Only for those who trust everybody who may write: reading a pickle runs its code.

    The server never decodes it. Opening a dict with this codec warns (`PickleWarning`) of exactly that.
    """

    decimal_integers = False

    def encode(self, value: Any) -> bytes:
        """Return the pickle. Raises TypeError or ValueError."""
        try:
            return pickle.dumps(value, protocol=5)
        except (pickle.PicklingError, AttributeError, RecursionError) as error:
            raise TypeError(f"{type(value).__name__} cannot be pickled: {error}") from error

    def decode(self, data: bytes) -> Any:
        """Return the object. Raises CodecError, and whatever the pickle's own code raises."""
        try:
            return pickle.loads(data)
        except (pickle.UnpicklingError, EOFError, AttributeError, ImportError, IndexError, ValueError) as error:
            raise CodecError(f"the stored value is not a pickle readable here: {error}") from error

    def warn(self, stack_level: int) -> None:
        """Say what a pickle means."""
        warnings.warn(
            "values are pickles: whoever may write into this dict can run code in every process that reads it",
            PickleWarning,
            stacklevel=stack_level,
        )


plain_codec = PlainCodec()
raw_codec = RawCodec()
pickle_codec = PickleCodec()


def _same_key(key: object) -> object:
    """Return the one form of equal keys. Raises TypeError for what cannot be a key."""
    kind = type(key)
    if kind is tuple:
        return tuple(_same_key(item) for item in key)  # type: ignore[attr-defined]
    if kind is bool:
        return int(key)  # type: ignore[call-overload]
    if kind is float:
        assert isinstance(key, float)
        if math.isnan(key):
            raise TypeError("nan cannot be a key: it is not equal to itself")
        return int(key) if key.is_integer() else key
    if kind not in (str, int, bytes, type(None)):
        raise TypeError(f"a key is a str, int, bytes, float, bool, None or a tuple of them, not {kind.__name__}")
    return key


def encode_key(key: object) -> bytes:
    """Return the field of a key; equal keys have one field. Raises TypeError."""
    if type(key) is str and key[:1] != "\x00":
        try:
            return key.encode()
        except UnicodeEncodeError:
            return KEY_MARK + _write_ascii(key).encode()
    key = _same_key(key)
    return KEY_MARK + RAW_MARK + key if type(key) is bytes else KEY_MARK + _dumps(key)


def decode_key(field: bytes) -> Any:
    """Return the key of a field. Raises CodecError."""
    if field[:1] == KEY_MARK:
        return plain_codec.decode(field[1:])
    try:
        return field.decode()
    except UnicodeDecodeError as error:
        raise CodecError(f"the field {field[:80]!r} is no key of this client's: {error}") from error
