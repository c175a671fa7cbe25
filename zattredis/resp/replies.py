"""Python values → RESP2 or RESP3, as redis-server 7.0 writes them.

Handlers return plain values and never learn which protocol their client speaks:

| value | RESP2 | RESP3 |
|---|---|---|
| bytes | bulk string | bulk string |
| str | simple string | simple string |
| int | integer | integer |
| None | null bulk string | null |
| NULL_ARRAY | null array | null |
| float | bulk string, `%.17g` | double, `%.17g` |
| DoubleText | bulk string | double |
| bool | integer 1 or 0 | boolean |
| list, tuple | array | array |
| Bulks | array of bulk strings | array of bulk strings |
| Encoded | what it holds | what it holds |
| dict | array of keys and values in turn | map |
| ReplySet | array | set |
| Pairs | array of both halves in turn | array of arrays of two |
| Push | array | push |
| Verbatim | bulk string | verbatim string |
| BigNumber | bulk string | big number |
| Attributed | the value alone | attributes, then the value |
| ReplyError | error | error |

Text is UTF-8 with surrogate escapes, so bytes of a client that are quoted in an error come back as they were.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from zattredis.errors import ReplyError

OK: Final = b"+OK\r\n"
PONG: Final = b"+PONG\r\n"
QUEUED: Final = b"+QUEUED\r\n"
NULL_2: Final = b"$-1\r\n"
NULL_ARRAY_2: Final = b"*-1\r\n"
NULL_3: Final = b"_\r\n"

_CRLF: Final = b"\r\n"
_SMALL: Final = 1025
_PIECE: Final = 512
_FEW: Final = 8
_BULKS: Final = [b"$%d\r\n" % length for length in range(_SMALL)]
_INTEGERS: Final = [b":%d\r\n" % number for number in range(_SMALL)]
_ARRAYS: Final = [b"*%d\r\n" % length for length in range(_SMALL)]
_SIMPLE: Final = {"OK": OK, "PONG": PONG, "QUEUED": QUEUED, "none": b"+none\r\n", "string": b"+string\r\n"}
_BOOLEANS_2: Final = (b":0\r\n", b":1\r\n")
_BOOLEANS_3: Final = (b"#f\r\n", b"#t\r\n")


class _NullArray:
    """The type of NULL_ARRAY."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "NULL_ARRAY"


NULL_ARRAY: Final = _NullArray()
"""A null where Redis answers with `*-1` in RESP2 (an aborted EXEC, a blocking pop in vain)."""


class ReplySet:
    """A set reply; `members` in the order in which they go out."""

    __slots__ = ("members",)

    def __init__(self, members: Iterable[Any]) -> None:
        self.members = list(members)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ReplySet) and self.members == other.members

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"ReplySet({self.members!r})"


class Pairs:
    """Pairs whose order matters, as members with their scores: flat in RESP2, each an array of its own in RESP3."""

    __slots__ = ("pairs",)

    def __init__(self, pairs: Iterable[tuple[Any, Any]]) -> None:
        self.pairs = list(pairs)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Pairs) and self.pairs == other.pairs

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Pairs({self.pairs!r})"


class Bulks:
    """An array of `count` bulk strings that are encoded already: `data` is what follows its header."""

    __slots__ = ("count", "data")

    def __init__(self, count: int, data: bytes) -> None:
        self.count = count
        self.data = data

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Bulks) and (self.count, self.data) == (other.count, other.data)

    def __len__(self) -> int:
        return len(self.data)

    def __hash__(self) -> int:
        return hash((self.count, self.data))

    def __repr__(self) -> str:
        return f"Bulks({self.count!r}, {self.data!r})"


class Encoded:
    """A whole reply that is encoded already, for the protocol that its client speaks."""

    __slots__ = ("data",)

    def __init__(self, data: bytes) -> None:
        self.data = data


class Push:
    """An out-of-band message (pub/sub, invalidation); `items` begin with its kind."""

    __slots__ = ("items",)

    def __init__(self, items: Iterable[Any]) -> None:
        self.items = list(items)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Push) and self.items == other.items

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Push({self.items!r})"


class Verbatim:
    """Text with a format of three letters, `txt` or `mkd`."""

    __slots__ = ("data", "format")

    def __init__(self, format: str, data: bytes) -> None:
        if len(format) != 3:
            raise ValueError(f"a verbatim format has three letters, not {format!r}")
        self.format = format
        self.data = data

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Verbatim) and (self.format, self.data) == (other.format, other.data)

    def __hash__(self) -> int:
        return hash((self.format, self.data))

    def __repr__(self) -> str:
        return f"Verbatim({self.format!r}, {self.data!r})"


class BigNumber:
    """An integer that need not fit 64 bits."""

    __slots__ = ("value",)

    def __init__(self, value: int) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, BigNumber) and self.value == other.value

    def __hash__(self) -> int:
        return hash(self.value)

    def __repr__(self) -> str:
        return f"BigNumber({self.value})"


class DoubleText:
    """A double written in a way of its own (coordinates: 17 digits behind the point, without trailing zeros)."""

    __slots__ = ("text",)

    def __init__(self, text: bytes) -> None:
        self.text = text

    def __eq__(self, other: object) -> bool:
        return isinstance(other, DoubleText) and self.text == other.text

    def __hash__(self) -> int:
        return hash(self.text)

    def __repr__(self) -> str:
        return f"DoubleText({self.text!r})"


class Attributed:
    """A value preceded, in RESP3, by attributes that a client may ignore."""

    __slots__ = ("attributes", "value")

    def __init__(self, attributes: Mapping[Any, Any], value: Any) -> None:
        self.attributes = dict(attributes)
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Attributed) and (self.attributes, self.value) == (other.attributes, other.value)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Attributed({self.attributes!r}, {self.value!r})"


def encode(value: Any, resp: int) -> bytes:
    """Return `value` as a reply of protocol version `resp` (2 or 3). Raises TypeError for a value of no reply type."""
    kind = type(value)
    if kind is bytes:
        length = len(value)
        header = _BULKS[length] if length < _SMALL else b"$%d\r\n" % length
        return header + value + _CRLF  # type: ignore[no-any-return]
    if kind is str:
        return _SIMPLE.get(value) or _simple(value)
    if kind is int:
        return _INTEGERS[value] if 0 <= value < _SMALL else b":%d\r\n" % value
    if value is None:
        return NULL_2 if resp == 2 else NULL_3
    out: list[bytes] = []
    append_reply(out, value, resp)
    return b"".join(out)


def encode_many(values: Iterable[Any], resp: int) -> bytes:
    """Return the replies to a run of requests as one piece, ready for one write."""
    out: list[bytes] = []
    append_replies(out, values, resp)
    return b"".join(out)


def append_replies(out: list[bytes], values: Iterable[Any], resp: int) -> None:
    """Append the pieces of each value to `out`; see encode_many."""
    append = out.append
    for value in values:
        kind = type(value)
        if kind is bytes and len(value) < _SMALL:
            append(_BULKS[len(value)] + value + _CRLF)
        elif kind is str and value in _SIMPLE:
            append(_SIMPLE[value])
        else:
            append_reply(out, value, resp)


def stream_header(kind: type[Any], count: int, resp: int) -> bytes:
    """Return what stands before the elements of a list, dict, Pairs (`count` pairs) or ReplySet sent in pieces."""
    if kind is Pairs:
        return b"*%d\r\n" % (count if resp == 3 else 2 * count)
    if kind is dict:
        return b"%%%d\r\n" % count if resp == 3 else b"*%d\r\n" % (2 * count)
    return b"~%d\r\n" % count if kind is ReplySet and resp == 3 else b"*%d\r\n" % count


def append_pairs(out: list[bytes], pairs: Iterable[tuple[Any, Any]], resp: int) -> None:
    """Append the pairs of a Pairs, or of a piece of one."""
    for pair in pairs:
        if resp == 3:
            out.append(b"*2\r\n")
        append_replies(out, pair, resp)


def encoded_in_turns(value: Any, resp: int, breathe: Callable[[], None]) -> Any:
    """Return a reply of many elements encoded, with a call of `breathe` after every few; others as they are."""
    kind = type(value)
    if kind is list and len(value) <= _FEW:
        return [encoded_in_turns(element, resp, breathe) for element in value]
    elements = value.pairs if kind is Pairs else value.members if kind is ReplySet else value
    if kind not in (list, Pairs, ReplySet) or len(elements) <= _PIECE:
        return value
    append = append_pairs if kind is Pairs else append_replies
    pieces = [stream_header(kind, len(elements), resp)]
    for start in range(0, len(elements), _PIECE):
        out: list[bytes] = []
        append(out, elements[start : start + _PIECE], resp)
        pieces.append(b"".join(out))
        breathe()
    return Encoded(b"".join(pieces))


def append_reply(out: list[bytes], value: Any, resp: int) -> None:
    """Append the pieces of one reply to `out`, for the caller to join. Raises TypeError as `encode` does."""
    encoder = _ENCODERS.get(type(value))
    if encoder is None:
        encoder = _find_encoder(value)
    encoder(out, value, resp)


def encode_error(text: bytes) -> bytes:
    """Return an error reply; `text` begins with its prefix. Line ends in it become blanks, as in Redis."""
    return b"-" + _one_line(text) + _CRLF


def format_double(value: float) -> bytes:
    """Return a double as Redis 7.0 replies it, in both protocols: 17 significant digits, `inf`, `-inf`, `nan`."""
    return b"%.17g" % value


def _one_line(text: bytes) -> bytes:
    if b"\r" in text or b"\n" in text:
        text = text.strip(b"\r\n").replace(b"\r", b" ").replace(b"\n", b" ")
    return text


def _simple(text: str) -> bytes:
    return b"+" + _one_line(text.encode("utf-8", "surrogateescape")) + _CRLF


def _append_bytes(out: list[bytes], value: bytes, resp: int) -> None:
    length = len(value)
    if length < _SMALL:
        out.append(_BULKS[length] + value + _CRLF)
    else:
        out += (b"$%d\r\n" % length, value, _CRLF)  # join copies a long value once, an addition twice


def _append_str(out: list[bytes], value: str, resp: int) -> None:
    out.append(_SIMPLE.get(value) or _simple(value))


def _append_int(out: list[bytes], value: int, resp: int) -> None:
    out.append(_INTEGERS[value] if 0 <= value < _SMALL else b":%d\r\n" % value)


def _append_none(out: list[bytes], value: None, resp: int) -> None:
    out.append(NULL_2 if resp == 2 else NULL_3)


def _append_null_array(out: list[bytes], value: _NullArray, resp: int) -> None:
    out.append(NULL_ARRAY_2 if resp == 2 else NULL_3)


def _append_bool(out: list[bytes], value: bool, resp: int) -> None:
    out.append((_BOOLEANS_2 if resp == 2 else _BOOLEANS_3)[value])


def _append_float(out: list[bytes], value: float, resp: int) -> None:
    text = format_double(value)
    out.append(b"$%d\r\n%b\r\n" % (len(text), text) if resp == 2 else b",%b\r\n" % text)


def _append_double_text(out: list[bytes], value: DoubleText, resp: int) -> None:
    text = value.text
    out.append(b"$%d\r\n%b\r\n" % (len(text), text) if resp == 2 else b",%b\r\n" % text)


def _append_array(out: list[bytes], value: list[Any] | tuple[Any, ...], resp: int) -> None:
    length = len(value)
    out.append(_ARRAYS[length] if length < _SMALL else b"*%d\r\n" % length)
    append_replies(out, value, resp)


def _append_bulks(out: list[bytes], value: Bulks, resp: int) -> None:
    out += (b"*%d\r\n" % value.count, value.data)


def _append_encoded(out: list[bytes], value: Encoded, resp: int) -> None:
    out.append(value.data)


def _append_dict(out: list[bytes], value: dict[Any, Any], resp: int) -> None:
    out.append(b"*%d\r\n" % (2 * len(value)) if resp == 2 else b"%%%d\r\n" % len(value))
    for key, item in value.items():
        append_reply(out, key, resp)
        append_reply(out, item, resp)


def _append_set(out: list[bytes], value: ReplySet, resp: int) -> None:
    out.append((b"*%d\r\n" if resp == 2 else b"~%d\r\n") % len(value.members))
    append_replies(out, value.members, resp)


def _append_pairs(out: list[bytes], value: Pairs, resp: int) -> None:
    out.append(b"*%d\r\n" % (len(value.pairs) if resp == 3 else 2 * len(value.pairs)))
    append_pairs(out, value.pairs, resp)


def _append_push(out: list[bytes], value: Push, resp: int) -> None:
    out.append((b"*%d\r\n" if resp == 2 else b">%d\r\n") % len(value.items))
    append_replies(out, value.items, resp)


def _append_verbatim(out: list[bytes], value: Verbatim, resp: int) -> None:
    if resp == 2:
        _append_bytes(out, value.data, resp)
    else:
        out += (b"=%d\r\n%b:" % (len(value.data) + 4, value.format.encode()), value.data, _CRLF)


def _append_big_number(out: list[bytes], value: BigNumber, resp: int) -> None:
    text = b"%d" % value.value
    out.append(b"$%d\r\n%b\r\n" % (len(text), text) if resp == 2 else b"(%b\r\n" % text)


def _append_attributed(out: list[bytes], value: Attributed, resp: int) -> None:
    if resp != 2:
        out.append(b"|%d\r\n" % len(value.attributes))
        for key, item in value.attributes.items():
            append_reply(out, key, resp)
            append_reply(out, item, resp)
    append_reply(out, value.value, resp)


def _append_error(out: list[bytes], value: ReplyError, resp: int) -> None:
    out.append(encode_error(str(value).encode("utf-8", "surrogateescape")))


_ENCODERS: Final[dict[type, Callable[[list[bytes], Any, int], None]]] = {
    bytes: _append_bytes,
    str: _append_str,
    int: _append_int,
    type(None): _append_none,
    _NullArray: _append_null_array,
    bool: _append_bool,
    float: _append_float,
    DoubleText: _append_double_text,
    list: _append_array,
    tuple: _append_array,
    Bulks: _append_bulks,
    Encoded: _append_encoded,
    dict: _append_dict,
    ReplySet: _append_set,
    Pairs: _append_pairs,
    Push: _append_push,
    Verbatim: _append_verbatim,
    BigNumber: _append_big_number,
    Attributed: _append_attributed,
    ReplyError: _append_error,
}


def _find_encoder(value: Any) -> Callable[[list[bytes], Any, int], None]:
    """Return, and keep for the next time, the encoder of a subclass (of ReplyError, above all)."""
    kind = type(value)
    for base in kind.__mro__:
        if base in _ENCODERS:
            _ENCODERS[kind] = _ENCODERS[base]
            return _ENCODERS[base]
    raise TypeError(f"no reply type for {kind.__name__}")
