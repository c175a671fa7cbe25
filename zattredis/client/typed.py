"""The types given on opening, `DistributedDict[str, Order](…)`: which codec they ask for, and which keys they allow.

Scalars (and Any, object, bare containers) keep the plain form and are only checked. Any other type (a dataclass, a
msgspec Struct, list[Order], a TypedDict, an Enum …) is written as JSON by msgspec and read back strictly as that type.
What is written is read once before it is sent, so that nothing is stored that could not be read.
"""

from __future__ import annotations

import types
import typing
from typing import Any, TypeVar, Union, get_args, get_origin

import msgspec

from zattredis.client.errors import CodecError
from zattredis.client.values import Codec, plain_codec

_SCALARS: frozenset[object] = frozenset({int, float, str, bool, bytes, type(None), None, list, dict, tuple, set})
_KEYS: frozenset[object] = frozenset({int, float, str, bool, bytes, type(None), None, tuple})


def _choices(kind: object) -> tuple[object, ...]:
    """Return the members of a union, or the type alone."""
    return get_args(kind) if get_origin(kind) in (Union, types.UnionType) else (kind,)


def _is_open(kind: object) -> bool:
    return kind is Any or kind is object or isinstance(kind, TypeVar)


class CheckedCodec:
    """The plain form, for the given scalars only."""

    decimal_integers = True

    def __init__(self, kinds: tuple[object, ...]) -> None:
        self.kinds = tuple(type(None) if kind is None else kind for kind in kinds)
        self.accepts: tuple[Any, ...] = self.kinds
        self.widens = float in self.kinds and int not in self.kinds

    def encode(self, value: Any) -> bytes:
        """Return the bytes. Raises TypeError for another type; an int where only float is declared becomes a float."""
        if self.widens and type(value) is int:
            value = float(value)
        if not isinstance(value, self.accepts):
            raise TypeError(f"{type(value).__name__} is not what this dict was opened for: {_names(self.kinds)}")
        return plain_codec.encode(value)

    def decode(self, data: bytes) -> Any:
        """Return the value. Raises CodecError for another type."""
        value = plain_codec.decode(data)
        if self.widens and type(value) is int:
            value = float(value)
        if not isinstance(value, self.accepts):
            raise CodecError(f"the stored value is {type(value).__name__}, not {_names(self.kinds)}")
        return value


class StructCodec:
    """JSON by msgspec, of one type."""

    decimal_integers = False

    def __init__(self, kind: Any) -> None:
        self.encoder = msgspec.json.Encoder()
        self.decoder = msgspec.json.Decoder(kind)
        self.kind = kind

    def encode(self, value: Any) -> bytes:
        """Return the bytes. Raises TypeError for what would not come back as the declared type."""
        try:
            data = self.encoder.encode(value)
            found = self.decoder.decode(data)
        except (msgspec.MsgspecError, TypeError, ValueError, OverflowError, RecursionError) as error:
            raise TypeError(f"{type(value).__name__} is not {_names((self.kind,))}: {error}") from error
        if type(found) is not type(value):
            raise TypeError(f"{type(value).__name__} would come back as {type(found).__name__}")
        return data

    def decode(self, data: bytes) -> Any:
        """Return the value. Raises CodecError for what is not of the declared type."""
        try:
            return self.decoder.decode(data)
        except (msgspec.MsgspecError, ValueError, TypeError, RecursionError) as error:
            raise CodecError(f"the stored value is not {_names((self.kind,))}: {error}") from error


def _names(kinds: tuple[object, ...]) -> str:
    return " | ".join(kind.__name__ if isinstance(kind, type) else str(kind) for kind in kinds)


def codec_for(kind: object) -> Codec[Any]:
    """Return the codec of a declared type of values. Raises TypeError if it cannot be stored."""
    choices = _choices(kind)
    if any(_is_open(choice) for choice in choices):
        return plain_codec
    if all(choice in _SCALARS for choice in choices):
        return CheckedCodec(choices)
    return StructCodec(kind)


def key_types(kind: object) -> tuple[type, ...] | None:
    """Return what a key must be an instance of, None for anything. Raises TypeError for what cannot be a key."""
    found: list[type] = []
    for choice in _choices(kind):
        if _is_open(choice):
            return None
        plain: object = type(None) if choice is None else typing.get_origin(choice) or choice
        if plain not in _KEYS:
            raise TypeError(f"keys are str, int, bytes, float, bool, None or tuples of them, not {choice}")
        found.append(plain)  # type: ignore[arg-type]
    return tuple(found)
