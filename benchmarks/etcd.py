"""The least of gRPC over HTTP/2 (RFC 9113, RFC 7541) that puts and gets keys in etcd, without a protobuf library.

One connection is one client with one call in flight. Request headers are the same literal bytes at every call, so
no compression state exists on this side, and the server's headers need no decoding: a call that succeeded carries a
DATA frame before its trailers, a call that failed is trailers alone.
"""

from __future__ import annotations

import struct

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
END_STREAM, ACK, END_HEADERS = 0x1, 0x1, 0x4
FRAME_HEADER_BYTES = 9
WINDOW_BYTES = 2**31 - 1 - 65_535


def encode_frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    """Return one HTTP/2 frame."""
    return struct.pack(">I", len(payload))[1:] + bytes((kind, flags)) + struct.pack(">I", stream) + payload


def opening() -> bytes:
    """Return what a client sends first: preface, settings, and a receive window that needs no renewal for long."""
    return PREFACE + encode_frame(SETTINGS, 0, 0, b"") + encode_frame(WINDOW_UPDATE, 0, 0, _u32(WINDOW_BYTES))


def put_message(key: bytes, value: bytes) -> bytes:
    """Return an etcdserverpb.PutRequest with its gRPC prefix."""
    return _grpc(_field(1, key) + _field(2, value))


def range_message(key: bytes) -> bytes:
    """Return an etcdserverpb.RangeRequest for one key (linearizable) with its gRPC prefix."""
    return _grpc(_field(1, key))


def encode_headers(method: str) -> bytes:
    """Return the HPACK block of a unary call of etcdserverpb.KV, all literals without indexing."""
    path = f"/etcdserverpb.KV/{method}".encode()
    return (
        b"\x83\x86"  # :method POST, :scheme http
        + b"\x04" + bytes((len(path),)) + path
        + b"\x01\x09127.0.0.1"
        + b"\x0f\x10\x10application/grpc"
        + b"\x00\x02te\x08trailers"
    )  # fmt: skip


def encode_call(stream: int, headers: bytes, message: bytes) -> bytes:
    """Return the frames of one unary call; a message must fit the default frame of 16 KiB."""
    return encode_frame(HEADERS, END_HEADERS, stream, headers) + encode_frame(DATA, END_STREAM, stream, message)


class CallReader:
    """What arrives on one connection: `feed` returns how many calls ended well and what must be answered at once."""

    __slots__ = ("_buffer", "_has_data", "_received_bytes")

    def __init__(self) -> None:
        self._buffer = b""
        self._has_data = False
        self._received_bytes = 0

    def feed(self, received: bytes) -> tuple[int, bytes]:
        """Return (calls completed, bytes to send back); raises ConnectionError for a failed call or connection."""
        buffer = self._buffer + received
        position, completed, answer = 0, 0, b""
        while len(buffer) - position >= FRAME_HEADER_BYTES:
            length = int.from_bytes(buffer[position : position + 3], "big")
            end = position + FRAME_HEADER_BYTES + length
            if len(buffer) < end:
                break
            kind, flags = buffer[position + 3], buffer[position + 4]
            if kind == DATA:
                self._has_data = True
                self._received_bytes += length
            elif kind == HEADERS and flags & END_STREAM:
                if not self._has_data:
                    raise ConnectionError("etcd refused a call")
                completed += 1
                self._has_data = False
            elif kind == SETTINGS and not flags & ACK:
                answer += encode_frame(SETTINGS, ACK, 0, b"")
            elif kind == PING and not flags & ACK:
                answer += encode_frame(PING, ACK, 0, buffer[position + FRAME_HEADER_BYTES : end])
            elif kind in (RST_STREAM, GOAWAY):
                raise ConnectionError("etcd ended the call or the connection")
            position = end
        self._buffer = buffer[position:]
        if self._received_bytes > WINDOW_BYTES // 2:
            answer += encode_frame(WINDOW_UPDATE, 0, 0, _u32(self._received_bytes))
            self._received_bytes = 0
        return completed, answer


def _u32(number: int) -> bytes:
    return struct.pack(">I", number)


def _field(number: int, value: bytes) -> bytes:
    return bytes((number << 3 | 2,)) + _varint(len(value)) + value


def _varint(number: int) -> bytes:
    out = bytearray()
    while number >= 0x80:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def _grpc(message: bytes) -> bytes:
    return b"\x00" + _u32(len(message)) + message
