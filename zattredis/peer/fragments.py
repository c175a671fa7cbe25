"""Long messages: taken apart without copying what is long in them, and put together with one copy of it.

A message whose frame would be too long travels as a skeleton and blobs. The skeleton is the message as MessagePack
array in which each byte string of BLOB_BYTES_MIN or more is an extension (type BLOB) that holds its length; the blobs
are those byte strings, in order. Skeleton and blobs, one after the other, are the bytes that the fragments carry:

    frame FIRST:  message number (1), length of the skeleton (4), length of everything (8), the first bytes
    frame NEXT:   the next bytes

So 64 MB of entries are never encoded as a whole, and several followers' messages share them.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from typing import Any, Final

import msgspec

from zattredis.errors import FrameError

FRAGMENT_BYTES_MAX: Final = 65536
BLOB_BYTES_MIN: Final = 16384
BLOB: Final = 1

_FIRST: Final = struct.Struct(">BIQ")
_LENGTH: Final = struct.Struct(">Q")
_KEPT_UNCOPIED_MIN: Final = FRAGMENT_BYTES_MAX // 2

_encode: Final = msgspec.msgpack.Encoder().encode


class LongBody:
    """A message as skeleton and blobs; `size` is the length of everything."""

    __slots__ = ("blobs", "size", "skeleton")

    def __init__(self, skeleton: bytes, blobs: list[bytes]) -> None:
        self.skeleton = skeleton
        self.blobs = blobs
        self.size = len(skeleton) + sum(map(len, blobs))

    def fragments(self, number: int) -> Iterator[tuple[bool, bytes | memoryview]]:
        """Yield (is it the first, body) of each fragment. Each is made when asked for; blobs are not copied."""
        head = FRAGMENT_BYTES_MAX - _FIRST.size
        yield True, _FIRST.pack(number, len(self.skeleton), self.size) + self.skeleton[:head]
        for part, start in ((self.skeleton, head), *((blob, 0) for blob in self.blobs)):
            view = memoryview(part)
            for position in range(start, len(part), FRAGMENT_BYTES_MAX):
                yield False, view[position : position + FRAGMENT_BYTES_MAX]


def take_apart(message: msgspec.Struct) -> LongBody:
    """Return a message as skeleton and blobs."""
    blobs: list[bytes] = []

    def stand_in(value: Any) -> Any:
        if type(value) is bytes and len(value) >= BLOB_BYTES_MIN:
            blobs.append(value)
            return msgspec.msgpack.Ext(BLOB, _LENGTH.pack(len(value)))
        return [stand_in(item) for item in value] if type(value) is list else value

    values = [stand_in(getattr(message, name)) for name in message.__struct_fields__]
    return LongBody(_encode(values), blobs)


class Assembler:
    """Fragments of one message at a time → the message. Memory grows only with what has arrived."""

    __slots__ = ("_missing", "_number", "_pieces", "_size", "_skeleton_size")

    def __init__(self) -> None:
        self._pieces: list[bytes | memoryview] | None = None
        self._number = 0
        self._skeleton_size = 0
        self._size = 0
        self._missing = 0

    @property
    def buffered_bytes(self) -> int:
        """Bytes of a message that is not complete."""
        return 0 if self._pieces is None else self._size - self._missing

    def take_first(self, body: memoryview, is_known: Callable[[int], bool], size_max: int) -> None:
        """Begin a message. Raises FrameError if another is not complete, or this one is of no use."""
        if self._pieces is not None or len(body) <= _FIRST.size:
            raise FrameError("a message in fragments begins in the midst of another")
        self._number, self._skeleton_size, self._size = _FIRST.unpack_from(body)
        if not is_known(self._number) or self._size > size_max or self._skeleton_size > self._size:
            raise FrameError(f"fragments of message number {self._number} with {self._size} bytes do not belong here")
        self._pieces = []
        self._missing = self._size
        self.take_next(body[_FIRST.size :])

    def take_next(self, body: memoryview) -> None:
        """Add a piece. Raises FrameError if no message has begun or it becomes longer than announced."""
        if self._pieces is None:
            raise FrameError("a fragment without its beginning")
        if len(body) > self._missing:
            raise FrameError("fragments are longer than announced")
        self._missing -= len(body)
        # A view keeps all that came with it from the socket: fine where it is most of that, not for a few bytes.
        self._pieces.append(body if len(body) >= _KEPT_UNCOPIED_MIN else bytes(body))

    @property
    def complete(self) -> bool:
        """Whether the message is all there, to be put together."""
        return self._pieces is not None and not self._missing

    def put_together(self, class_of: Callable[[int], type[Any]]) -> Any:
        """Return the message. Raises FrameError if its bytes are none."""
        reader = _PieceReader(self._pieces or [])
        self._pieces = None

        def take_blob(code: int, data: memoryview) -> bytes:
            if code != BLOB or len(data) != _LENGTH.size:
                raise ValueError(f"an extension of type {code} with {len(data)} bytes")
            return reader.take(_LENGTH.unpack(data)[0])

        try:
            values = msgspec.msgpack.decode(reader.take(self._skeleton_size), ext_hook=take_blob)
            message = msgspec.convert(values, type=class_of(self._number))
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            raise FrameError(f"a message in fragments cannot be read: {error}") from error
        if reader.left:
            raise FrameError("a message in fragments has bytes that belong to nothing")
        return message


class _PieceReader:
    """Reads through pieces; each byte that is taken is copied once."""

    __slots__ = ("_at", "_number", "_pieces", "left")

    def __init__(self, pieces: list[bytes | memoryview]) -> None:
        self._pieces = pieces
        self._number = 0  # of the piece to go on with
        self._at = 0  # offset in it
        self.left = sum(map(len, pieces))

    def take(self, size: int) -> bytes:
        """Return the next `size` bytes. Raises ValueError if there are not so many."""
        if size > self.left:
            raise ValueError(f"{size} bytes where {self.left} are left")
        self.left -= size
        parts = []
        while size:
            piece = self._pieces[self._number]
            part = memoryview(piece)[self._at : self._at + size]
            parts.append(part)
            size -= len(part)
            self._at += len(part)
            if self._at == len(piece):
                self._number += 1
                self._at = 0
        return b"".join(parts)
