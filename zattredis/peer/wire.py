"""Messages ↔ frames.

A frame is a header of 16 bytes and a body. Header, big-endian: magic `ZR`, protocol version (1), message number (1),
body length (4), CRC-32 of the body (4), CRC-32 of the header's first 12 bytes (4). The body is the message as
MessagePack array. A damaged or foreign header is noticed by its own checksum before a byte is kept for its body.

No body is longer than FRAGMENT_BYTES_MAX: a longer message travels in fragments (see `fragments`), frames of the
numbers FIRST and NEXT, between which other frames may pass. One long message at a time per direction.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

import msgspec

from zattredis.checksum import crc32
from zattredis.errors import FrameError
from zattredis.peer import control, messages
from zattredis.peer.fragments import FRAGMENT_BYTES_MAX, Assembler, LongBody, take_apart
from zattredis.raft import messages as raft_messages
from zattredis.raft.messages import Message

PROTOCOL_VERSION: Final = 1
HANDSHAKE_VERSION: Final = 0
"""In the header of handshake frames, whatever versions the two sides speak afterwards."""

MAGIC: Final = b"ZR"
_HEADER: Final = struct.Struct(">2sBBIII")
_CHECKED: Final = struct.Struct(">2sBBII")
_CHECK: Final = struct.Struct(">I")
HEADER_BYTES: Final = _HEADER.size
MESSAGE_BYTES_MAX: Final = 1 << 30
"""Of one message in fragments. Memory for it grows only as they arrive."""

FIRST: Final = 254
NEXT: Final = 255

MESSAGES: Final[dict[int, type[Message]]] = {**raft_messages.MESSAGES, **messages.MESSAGES}
"""Wire number → class of every message between nodes: 1 to 63 Raft's, 64 to 127 the server's."""

_ALL: Final[dict[int, type[Any]]] = {**MESSAGES, **control.HANDSHAKE, **control.JOIN, **control.STREAM}
NUMBERS: Final[dict[type[Any], int]] = {kind: number for number, kind in _ALL.items()}

Decoders = Mapping[int, msgspec.msgpack.Decoder[Any]]


def _decoders(classes: Mapping[int, type[Any]]) -> Decoders:
    return {number: msgspec.msgpack.Decoder(kind) for number, kind in classes.items()}


MESSAGE_DECODERS: Final = _decoders(MESSAGES)
HANDSHAKE_DECODERS: Final = _decoders(control.HANDSHAKE)
STREAM_DECODERS: Final = _decoders(control.STREAM)
LINK_DECODERS: Final = _decoders(control.LINK)
JOIN_DECODERS: Final = _decoders(control.JOIN)

_PAYLOAD_BYTES: Final[dict[int, Callable[[Any], int]]] = {
    NUMBERS[raft_messages.AppendEntries]: lambda message: sum(map(len, message.entries)),
    NUMBERS[messages.ForwardBatch]: lambda message: len(message.payload),
    NUMBERS[control.SnapshotBegin]: lambda message: len(message.manifest),
    NUMBERS[control.SnapshotChunk]: lambda message: len(message.data),
}
"""Of messages that may be long: roughly how long, told before they are encoded."""
_SURELY_LONG_BYTES: Final = 2 * FRAGMENT_BYTES_MAX

_encode_body: Final = msgspec.msgpack.Encoder().encode


def encode_body(message: Any) -> tuple[int, bytes]:
    """Return the wire number and the body of a message. Raises KeyError for a class without a number."""
    return NUMBERS[type(message)], _encode_body(message)


def encode_message(message: Any) -> tuple[int, bytes | LongBody]:
    """Do the same, but take a long message apart instead; what is long in it is then not copied."""
    number = NUMBERS[type(message)]
    payload_bytes = _PAYLOAD_BYTES.get(number)
    if payload_bytes is not None and payload_bytes(message) > _SURELY_LONG_BYTES:
        return number, take_apart(message)
    body = _encode_body(message)
    return number, body if len(body) <= FRAGMENT_BYTES_MAX else take_apart(message)


def frame_header(number: int, body: bytes | memoryview, version: int = PROTOCOL_VERSION) -> bytes:
    """Return the header that goes before a body of at most FRAGMENT_BYTES_MAX bytes."""
    size = len(body)
    header = _CHECKED.pack(MAGIC, version, number, size, crc32(body))
    return header + _CHECK.pack(crc32(header))


def fragment_frames(number: int, body: LongBody) -> Iterator[tuple[bytes, bytes | memoryview]]:
    """Yield header and body of each frame that carries a long message, made when it is asked for."""
    for first, piece in body.fragments(number):
        yield frame_header(FIRST if first else NEXT, piece), piece


def encode_frame(message: Any, version: int = PROTOCOL_VERSION) -> bytes:
    """Return the frame, or the fragments one after another, of a message."""
    number, body = encode_message(message)
    if isinstance(body, bytes):
        return frame_header(number, body, version) + body
    return b"".join(piece for pair in fragment_frames(number, body) for piece in pair)


class FrameDecoder:
    """Bytes in any cutting → messages. Holds at most one frame and one message in fragments.

    After a FrameError it is finished and the connection has to be closed. `message_bytes_max` 0 forbids fragments.
    With `one_at_a_time`, feed returns at most one message and looks at nothing behind it: `take_rest` gives it back.
    """

    __slots__ = (
        "_assembler",
        "_decoders",
        "_frame_bytes_max",
        "_message_bytes_max",
        "_needed",
        "_one_at_a_time",
        "_rest",
        "_version",
    )

    def __init__(
        self,
        decoders: Decoders = MESSAGE_DECODERS,
        *,
        version: int = PROTOCOL_VERSION,
        frame_bytes_max: int = FRAGMENT_BYTES_MAX,
        message_bytes_max: int = MESSAGE_BYTES_MAX,
        one_at_a_time: bool = False,
    ) -> None:
        self._decoders = decoders
        self._version = version
        self._frame_bytes_max = frame_bytes_max
        self._message_bytes_max = message_bytes_max
        self._one_at_a_time = one_at_a_time
        self._rest = bytearray()  # the beginning of a frame, its header checked if all of it is there
        self._needed = HEADER_BYTES  # how long that has to be before it is looked at again
        self._assembler = Assembler()

    @property
    def buffered_bytes(self) -> int:
        """Bytes held for what is not complete."""
        return len(self._rest) + self._assembler.buffered_bytes

    def take_rest(self) -> bytes:
        """Return, and forget, what is behind the last message."""
        rest = bytes(self._rest)
        self._rest.clear()
        return rest

    def feed(self, data: bytes) -> list[Any]:
        """Return the messages that `data` completes. Raises FrameError, before keeping anything of a wrong frame."""
        received: list[Any] = []
        view = memoryview(data)
        rest = self._rest
        while rest and view:  # complete the header, then the body, that earlier pieces began; copy no more than that
            missing = self._needed - len(rest)
            rest += view[:missing]
            view = view[missing:]
            if len(rest) < self._needed:
                return received
            begun = bytes(rest)
            rest.clear()
            self._parse(memoryview(begun), received)
        if view:
            self._parse(view, received)
        return received

    def _parse(self, view: memoryview, received: list[Any]) -> None:
        """Append the messages in `view` to `received`; keep what is behind the last whole frame."""
        start, end = 0, len(view)
        self._needed = HEADER_BYTES
        while end - start >= HEADER_BYTES:
            body_start = start + HEADER_BYTES
            magic, version, number, length, crc, check = _HEADER.unpack_from(view, start)
            if check != crc32(view[start : body_start - 4]) or magic != MAGIC or version != self._version:
                raise FrameError(self._describe(bytes(view[start:body_start])))
            decoder = self._decoders.get(number)
            if length > self._frame_bytes_max or (decoder is None and (number < FIRST or not self._message_bytes_max)):
                raise FrameError(f"a frame with message number {number} and {length} bytes does not belong here")
            if end - body_start < length:
                self._needed = HEADER_BYTES + length
                break
            start = body_start + length
            body = view[body_start:start]
            if crc32(body) != crc:
                raise FrameError(f"the body of a frame with message number {number} fails its checksum")
            if decoder is not None:
                received.append(_decode(decoder, body))
            else:
                self._take_fragment(number, body, received)
            if self._one_at_a_time:
                break
        if start < end:
            self._rest += view[start:]

    def _take_fragment(self, number: int, body: memoryview, received: list[Any]) -> None:
        assembler = self._assembler
        if number == FIRST:
            assembler.take_first(body, self._decoders.__contains__, self._message_bytes_max)
        else:
            assembler.take_next(body)
        if assembler.complete:
            received.append(assembler.put_together(_ALL.__getitem__))

    def _describe(self, header: bytes) -> str:
        if header[:2] == b"\x16\x03":
            return "the other side speaks TLS, but this node has neither cluster_secret nor tls_cluster"
        if header[:2] != MAGIC:
            return f"these bytes are not the peer protocol: {header[:12]!r}"
        if crc32(header[:12]) != int.from_bytes(header[12:], "big"):
            return "a frame header fails its checksum"
        return f"a frame of protocol version {header[2]}, not {self._version}"


def _decode(decoder: msgspec.msgpack.Decoder[Any], body: memoryview) -> Any:
    try:
        return decoder.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise FrameError(f"the body of a frame cannot be read: {error}") from error
