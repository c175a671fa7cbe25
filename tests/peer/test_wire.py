"""Frames: their very bytes, for good; any cutting; damage and garbage."""

from __future__ import annotations

import itertools
import struct
import zlib
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zattredis.errors import FrameError
from zattredis.peer import control, messages, wire
from zattredis.peer.control import (
    Accepted,
    Challenge,
    Hello,
    JoinAnswer,
    JoinRequest,
    Proof,
    Refused,
    SnapshotBegin,
    SnapshotChunk,
    SnapshotDone,
    SnapshotEnd,
    SnapshotPosition,
    TurnedAway,
)
from zattredis.peer.fragments import BLOB_BYTES_MIN, FRAGMENT_BYTES_MAX
from zattredis.peer.messages import (
    ChangeAnswer,
    ChangeRequest,
    ExtensionReport,
    ForwardBatch,
    ForwardExpected,
    ForwardOpen,
    Introduction,
    StatusReport,
)
from zattredis.peer.wire import (
    HANDSHAKE_VERSION,
    HEADER_BYTES,
    PROTOCOL_VERSION,
    FrameDecoder,
    encode_body,
    encode_frame,
    encode_message,
    fragment_frames,
    frame_header,
)
from zattredis.raft import messages as raft_messages
from zattredis.raft.messages import (
    AppendEntries,
    AppendEntriesResponse,
    CommitAdvanced,
    Heartbeat,
    HeartbeatResponse,
    InstallSnapshot,
    PreVoteRequest,
    PreVoteResponse,
    ReadIndexRequest,
    ReadIndexResponse,
    TimeoutNow,
    VoteRequest,
    VoteResponse,
)

GOLDEN: list[tuple[Any, int, str]] = [
    (PreVoteRequest("n1", "n2", 7, 100, 6), PROTOCOL_VERSION,
     "5a5201010000000a0066c92eb5f6a161 95a26e31a26e32076406"),
    (PreVoteResponse("n2", "n1", 7, True), PROTOCOL_VERSION,
     "5a52010200000009b2b8b0dfcff0796a 94a26e32a26e3107c3"),
    (VoteRequest("n1", "n2", 7, 100, 6, False), PROTOCOL_VERSION,
     "5a5201030000000be25c411628b2e37f 96a26e31a26e32076406c2"),
    (VoteResponse("n2", "n1", 7, False), PROTOCOL_VERSION,
     "5a52010400000009c5bf804989678ec2 94a26e32a26e3107c2"),
    (AppendEntries("n1", "n2", 7, 100, 6, 99, [b"\x00entry", b""]), PROTOCOL_VERSION,
     "5a52010500000016acc3221207e1e578 97a26e31a26e320764066392c40600656e747279c400"),
    (AppendEntriesResponse("n2", "n1", 7, False, 100, 90, 5, True), PROTOCOL_VERSION,
     "5a5201060000000d9ef142e512b572e2 98a26e32a26e3107c2645a05c3"),
    (Heartbeat("n1", "n2", 7, 99, 1234567890123), PROTOCOL_VERSION,
     "5a52010700000012d36a617aa15f48b7 95a26e31a26e320763cf0000011f71fb04cb"),
    (HeartbeatResponse("n2", "n1", 7, 1234567890123, True), PROTOCOL_VERSION,
     "5a52010800000012a6ff7f4755f6de1d 95a26e32a26e3107cf0000011f71fb04cbc3"),
    (CommitAdvanced("n1", "n2", 7, 99), PROTOCOL_VERSION,
     "5a52010900000009e0bcdfc044c5f2df 94a26e31a26e320763"),
    (TimeoutNow("n1", "n2", 7), PROTOCOL_VERSION,
     "5a52010a000000086c99a75627abafad 93a26e31a26e3207"),
    (ReadIndexRequest("n2", "n1", 7, 3), PROTOCOL_VERSION,
     "5a52010b0000000a958e879448f98368 95a26e32a26e310703c2"),
    (ReadIndexResponse("n1", "n2", 7, 3, 99, 1700000000000, True), PROTOCOL_VERSION,
     "5a52010c000000149280f35a538e81b4 97a26e31a26e32070363cf0000018bcfe56800c3"),
    (InstallSnapshot("n1", "n2", 7, 80, 6), PROTOCOL_VERSION,
     "5a52010d0000000abb4c3ad9b0238d19 95a26e31a26e32075006"),
    (ForwardBatch("n2", "n1", 7, 55, 8, b"batch"), PROTOCOL_VERSION,
     "5a520140000000119c81a813149a9e78 96a26e32a26e31073708c4056261746368"),
    (ForwardExpected("n1", "n2", 7, 55, 9), PROTOCOL_VERSION,
     "5a5201410000000a014fda286cc85ccb 95a26e31a26e32073709"),
    (ForwardOpen("n2", "n1", 7, 2**64 - 1), PROTOCOL_VERSION,
     "5a52014200000011a4a6cd74f9ad5dcc 94a26e32a26e3107cfffffffffffffffff"),
    (StatusReport("n1", "n2", 7, 99, 1700000000000, [("n1", 100), ("n2", 98)], 26379, 64, 2**64 - 2, 5, 2, 3, 6380,
                  26380), PROTOCOL_VERSION,
     "5a52014300000033206f4b735a2f1326 "
     "9ea26e31a26e320763cf0000018bcfe568009292a26e316492a26e3262cd670b40cffffffffffffffffe050203cd18eccd670c"),
    (Introduction("n2", "n1", 7, 100, 99, False, True, "h:1@2", 26379, 6380, 26380), PROTOCOL_VERSION,
     "5a5201440000001b5735fe899ce66896 9ba26e32a26e31076463c2c3a5683a314032cd670bcd18eccd670c"),
    (ChangeRequest("n2", "n1", 7, 5, 1, b"change"), PROTOCOL_VERSION,
     "5a52014500000012b47edd0af49037a8 96a26e32a26e31070501c4066368616e6765"),
    (ChangeAnswer("n1", "n2", 7, 5, 2, 0, 0, "why not"), PROTOCOL_VERSION,
     "5a52014600000014cbd596924975713e 98a26e31a26e320705020000a7776879206e6f74"),
    (ExtensionReport("n1", "n2", 7, [("bank", "ab12")]), PROTOCOL_VERSION,
     "5a52014b000000145440ec6fb01d025d 94a26e31a26e32079192a462616e6ba461623132"),
    (Hello("c1", "n1", "i1", "n2", 1, 1, 1, b"0123456789abcdef"), HANDSHAKE_VERSION,
     "5a520080000000220f35d2c175b10e5a 98a26331a26e31a26931a26e32010101c41030313233343536373839616263646566"),
    (Challenge("n2", "i2", 1, True, b"fedcba9876543210"), HANDSHAKE_VERSION,
     "5a5200810000001b283d3eb8261f73a9 95a26e32a2693201c3c41066656463626139383736353433323130"),
    (Proof(b"\x01" * 32), HANDSHAKE_VERSION,
     "5a520082000000237a110e6660bd0da6 91c4200101010101010101010101010101010101010101010101010101010101010101"),
    (Accepted(b""), HANDSHAKE_VERSION,
     "5a52008300000003ac06199f6db3ab7f 91c400"),
    (Refused("why not"), PROTOCOL_VERSION,
     "5a52018400000009f5b3c63300f0ffe9 91a7776879206e6f74"),
    (TurnedAway("removed"), PROTOCOL_VERSION,
     "5a52018500000009b86f894534e120dd 91a772656d6f766564"),
    (JoinRequest("h:7001@17001"), PROTOCOL_VERSION,
     "5a5201900000000ebf91b95b67529600 91ac683a37303031403137303031"),
    (JoinAnswer("c1", b"membership", "why not"), PROTOCOL_VERSION,
     "5a5201910000001849cc5f5f57a9848a 93a26331c40a6d656d62657273686970a7776879206e6f74"),
    (SnapshotBegin(b"manifest"), PROTOCOL_VERSION,
     "5a5201880000000b7a4a24925eb2b3bf 91c4086d616e6966657374"),
    (SnapshotPosition(2, 65536), PROTOCOL_VERSION,
     "5a52018900000007ff1425ede93d52a2 9202ce00010000"),
    (SnapshotChunk(2, 65536, 3735928559, b"data"), PROTOCOL_VERSION,
     "5a52018a00000012957f2787f7f8aff7 9402ce00010000cedeadbeefc40464617461"),
    (SnapshotEnd(), PROTOCOL_VERSION,
     "5a52018b00000001220d7cc9d83874f3 90"),
    (SnapshotDone(), PROTOCOL_VERSION,
     "5a52018c00000001220d7cc9bc59193a 90"),
]  # fmt: skip
"""Header and body of one example of every class. A change here is a change of the protocol: old nodes are out there."""

EARLIER: list[tuple[Any, int, str]] = [
    (ReadIndexRequest("n2", "n1", 7, 3, vouches=False), PROTOCOL_VERSION,
     "5a52010b0000000929dc726f7461cc28 94a26e32a26e310703"),
    (AppendEntriesResponse("n2", "n1", 7, False, 100, 90, 5), PROTOCOL_VERSION,
     "5a5201060000000ce829a993e6f73eb4 97a26e32a26e3107c2645a05"),
    (HeartbeatResponse("n2", "n1", 7, 1234567890123), PROTOCOL_VERSION,
     "5a52010800000011cbe49b0380ca74e3 94a26e32a26e3107cf0000011f71fb04cb"),
    (Introduction("n2", "n1", 7, 100, 99, False, True, "h:1@2"), PROTOCOL_VERSION,
     "5a520144000000122a3edaf1abc085ef 98a26e32a26e31076463c2c3a5683a314032"),
    (Introduction("n2", "n1", 7, 100, 99, False, True), PROTOCOL_VERSION,
     "5a5201440000000c4ef99e586fabddd0 97a26e32a26e31076463c2c3"),
    (StatusReport("n1", "n2", 7, 99, 1700000000000, [("n1", 100), ("n2", 98)], 26379, 64, 2**64 - 2, 5, 2, 3),
     PROTOCOL_VERSION,
     "5a5201430000002d756e073e2c4f9246 "
     "9ca26e31a26e320763cf0000018bcfe568009292a26e316492a26e3262cd670b40cffffffffffffffffe050203"),
    (StatusReport("n1", "n2", 7, 99, 1700000000000, [("n1", 100), ("n2", 98)]), PROTOCOL_VERSION,
     "5a5201430000001d22509900dbe26f7e 96a26e31a26e320763cf0000018bcfe568009292a26e316492a26e3262"),
    (StatusReport("n1", "n2", 7, 99, 1700000000000, [("n1", 100), ("n2", 98)], 26379), PROTOCOL_VERSION,
     "5a52014300000020e16a9dc6d93c9066 97a26e31a26e320763cf0000018bcfe568009292a26e316492a26e3262cd670b"),
]  # fmt: skip
"""Frames of classes that had fewer fields, as older nodes still send them."""

CLASSES = {**raft_messages.MESSAGES, **messages.MESSAGES, **control.HANDSHAKE, **control.JOIN, **control.STREAM}
DECODERS = {**wire.MESSAGE_DECODERS, **wire.HANDSHAKE_DECODERS, **wire.JOIN_DECODERS, **wire.STREAM_DECODERS}


@pytest.mark.parametrize(("message", "version", "frame"), GOLDEN, ids=lambda item: type(item).__name__)
def test_golden_frames(message: Any, version: int, frame: str) -> None:
    expected = bytes.fromhex(frame)
    assert encode_frame(message, version) == expected
    assert FrameDecoder(DECODERS, version=version).feed(expected) == [message]


@pytest.mark.parametrize(("message", "version", "frame"), EARLIER, ids=lambda item: type(item).__name__)
def test_frames_of_older_nodes_are_read(message: Any, version: int, frame: str) -> None:
    assert FrameDecoder(DECODERS, version=version).feed(bytes.fromhex(frame)) == [message]


def test_every_class_has_a_golden_frame_and_one_number() -> None:
    assert {type(message) for message, _, _ in GOLDEN} == set(CLASSES.values())
    assert len(wire.NUMBERS) == len(set(CLASSES.values())) == len(CLASSES)


def test_numbers_lie_in_the_range_of_their_owner() -> None:
    assert all(1 <= number <= 63 for number in raft_messages.MESSAGES)
    assert all(64 <= number <= 127 for number in messages.MESSAGES)
    assert all(128 <= number <= 191 for number in {**control.HANDSHAKE, **control.JOIN, **control.STREAM})


HEARTBEAT = Heartbeat("n1", "n2", 7, 99, 5)
LONG = AppendEntries("n1", "n2", 7, 100, 6, 99, [b"e" * 100_000, b"f" * 70_000])

MESSAGE = st.one_of(
    st.builds(Heartbeat, st.text(max_size=5), st.just("n2"), st.integers(0, 2**63), st.just(1), st.integers(0, 9)),
    st.builds(ForwardBatch, st.just("n1"), st.just("n2"), st.just(1), st.just(2), st.just(3), st.binary(max_size=200)),
    st.just(LONG),
)


def cut(data: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[a:b] for a, b in itertools.pairwise(edges)]


@settings(deadline=None)
@given(st.lists(MESSAGE, max_size=6), st.lists(st.integers(0, 10**9), max_size=10))
def test_messages_survive_any_cutting(sent: list[Any], places: list[int]) -> None:
    decoder = FrameDecoder()
    received = [
        message for piece in cut(b"".join(map(encode_frame, sent)), places) for message in decoder.feed(piece)
    ]
    assert (received, decoder.buffered_bytes) == (sent, 0)


@pytest.mark.parametrize(
    "entries",
    [
        [bytes(BLOB_BYTES_MIN)] * 9,
        [b"x" * (BLOB_BYTES_MIN - 1)] * 9,
        [b"", b"x" * 200_000, b"", b"y" * FRAGMENT_BYTES_MAX, b"z" * (FRAGMENT_BYTES_MAX + 1)],
        [b"%d" % i for i in range(50_000)],
    ],
)
def test_long_messages_of_every_kind(entries: list[bytes]) -> None:
    message = AppendEntries("n1", "n2", 7, 100, 6, 99, entries)
    frames = encode_frame(message)
    for size in (len(frames), 65536, 1000):
        decoder = FrameDecoder()
        received = [m for at in range(0, len(frames), size) for m in decoder.feed(frames[at : at + size])]
        assert received == [message]


def test_what_is_long_is_not_copied_for_sending() -> None:
    entry = bytes(1 << 20)
    _, body = encode_message(AppendEntries("n1", "n2", 7, 100, 6, 99, [b"short", entry]))
    assert not isinstance(body, bytes)
    assert body.blobs[0] is entry
    assert len(body.skeleton) < 100


def test_byte_by_byte() -> None:
    data = encode_frame(HEARTBEAT) + encode_frame(LONG) + encode_frame(HEARTBEAT)
    decoder = FrameDecoder()
    received = [message for i in range(len(data)) for message in decoder.feed(data[i : i + 1])]
    assert received == [HEARTBEAT, LONG, HEARTBEAT]


def test_other_frames_pass_between_fragments() -> None:
    number, body = encode_message(LONG)
    assert not isinstance(body, bytes)
    pieces = [header + bytes(piece) for header, piece in fragment_frames(number, body)]
    assert len(pieces) == 5  # the skeleton, and two for each entry
    assert all(len(piece) <= FRAGMENT_BYTES_MAX + HEADER_BYTES for piece in pieces)
    decoder = FrameDecoder()
    received = []
    for piece in pieces:
        received += decoder.feed(piece + encode_frame(HEARTBEAT))
    assert received == [HEARTBEAT] * 4 + [LONG, HEARTBEAT]


@given(st.lists(MESSAGE, min_size=1, max_size=3), st.data())
@settings(deadline=None)
def test_a_flipped_bit_never_makes_another_message(sent: list[Any], data: st.DataObject) -> None:
    stream = bytearray(b"".join(map(encode_frame, sent)))
    bit = data.draw(st.integers(0, 8 * len(stream) - 1))
    stream[bit // 8] ^= 1 << bit % 8
    decoder = FrameDecoder()
    received: list[Any] = []
    refused = False
    for piece in cut(bytes(stream), [bit // 8, bit // 8 + 1]):
        try:
            received += decoder.feed(piece)
        except FrameError:
            refused = True
            break
    assert refused
    assert received == sent[: len(received)]


@given(st.lists(st.binary(max_size=100), max_size=20))
def test_garbage_is_refused_at_its_first_header(chunks: list[bytes]) -> None:
    decoder = FrameDecoder()
    fed = 0
    try:
        for chunk in chunks:
            fed += len(chunk)
            assert decoder.feed(chunk) == []
    except FrameError:
        assert fed >= HEADER_BYTES
    else:
        assert fed < HEADER_BYTES
    assert decoder.buffered_bytes < HEADER_BYTES


def header(number: int, length: int, version: int = PROTOCOL_VERSION, magic: bytes = wire.MAGIC) -> bytes:
    checked = magic + bytes([version, number]) + length.to_bytes(4, "big") + bytes(4)
    return checked + zlib.crc32(checked).to_bytes(4, "big")


def framed(number: int, body: bytes) -> bytes:
    return frame_header(number, body) + body


def first(number: int, skeleton: int, total: int, data: bytes = b"x") -> bytes:
    return framed(wire.FIRST, struct.pack(">BIQ", number, skeleton, total) + data)


SKELETON = msgspec.msgpack.encode(["n1", "n2", 7, 100, 6, 99, []])
FIRST_OF_LONG = first(5, 50, 100_000)


def with_blob(code: int, length: bytes) -> bytes:
    skeleton = msgspec.msgpack.encode(["n1", "n2", 7, 100, 6, 99, [msgspec.msgpack.Ext(code, length)]])
    return first(5, len(skeleton), len(skeleton) + 1, skeleton + b"x")


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", "not the peer protocol"),
        (header(7, 10, magic=b"XX"), "not the peer protocol"),
        (header(7, 10)[:-1] + b"\0", "header fails its checksum"),
        (header(7, 10, version=9), "version 9, not 1"),
        (header(200, 10), "number 200 and 10 bytes does not belong here"),
        (header(0, 0), "number 0 and 0 bytes"),
        (header(7, FRAGMENT_BYTES_MAX + 1), "number 7 and 65537 bytes"),
        (header(7, 2**32 - 1), "number 7 and 4294967295 bytes"),
        (header(7, 1) + b"x", "fails its checksum"),
        (framed(7, b"\x90"), "cannot be read"),
        (framed(7, b"\xc1"), "cannot be read"),
        (framed(7, b"\x91" * 60_000), "cannot be read"),
        (framed(7, encode_body(HEARTBEAT)[1] + b"x"), "cannot be read"),
        (framed(wire.NEXT, b"x"), "without its beginning"),
        (first(5, 1, 1, b""), "begins in the midst"),
        (FIRST_OF_LONG + FIRST_OF_LONG, "begins in the midst"),
        (first(5, 1, 2, b"xyz"), "longer than announced"),
        (FIRST_OF_LONG + framed(wire.NEXT, b"x" * 60_000) + framed(wire.NEXT, b"x" * 60_000), "longer than announced"),
        (first(5, 1, 1 << 40), "do not belong here"),
        (first(5, 101, 100), "do not belong here"),
        (first(200, 1, 100), "do not belong here"),
        (first(5, 1, 1), "cannot be read"),
        (first(5, 1, 1, b"\x90"), "cannot be read"),
        (first(6, len(SKELETON), len(SKELETON), SKELETON), "cannot be read"),
        (first(5, len(SKELETON), len(SKELETON) + 1, SKELETON + b"x"), "belong to nothing"),
        (with_blob(1, (2).to_bytes(8, "big")), "2 bytes where 1 are left"),
        (with_blob(1, b"\x01"), "an extension of type 1"),
        (with_blob(2, (1).to_bytes(8, "big")), "an extension of type 2"),
    ],
)
def test_refused(data: bytes, reason: str) -> None:
    with pytest.raises(FrameError, match=reason):
        FrameDecoder().feed(data)
    in_pieces = FrameDecoder()
    assert in_pieces.feed(data[:HEADER_BYTES - 1]) == []
    with pytest.raises(FrameError, match=reason):
        in_pieces.feed(data[HEADER_BYTES - 1 :])


def test_bounds_of_a_stranger() -> None:
    decoder = FrameDecoder(
        wire.HANDSHAKE_DECODERS, version=HANDSHAKE_VERSION, frame_bytes_max=1024, message_bytes_max=0
    )
    assert decoder.feed(header(128, 1024, version=HANDSHAKE_VERSION) + b"x" * 1000) == []
    assert decoder.buffered_bytes == HEADER_BYTES + 1000
    for refused in (header(128, 1025, HANDSHAKE_VERSION), header(wire.FIRST, 100, HANDSHAKE_VERSION), header(7, 1, 0)):
        with pytest.raises(FrameError):
            FrameDecoder(
                wire.HANDSHAKE_DECODERS, version=HANDSHAKE_VERSION, frame_bytes_max=1024, message_bytes_max=0
            ).feed(refused)
