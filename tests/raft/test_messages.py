"""The messages' bytes: a golden form each, so that numbers and positions are never reused by accident."""

from __future__ import annotations

import msgspec
import pytest

from zattredis.raft import messages as m

GOLDEN = {
    1: (m.PreVoteRequest("a", "b", 7, 5, 3), "95a161a162070503"),
    2: (m.PreVoteResponse("a", "b", 7, True), "94a161a16207c3"),
    3: (m.VoteRequest("a", "b", 7, 5, 3, False), "96a161a162070503c2"),
    4: (m.VoteResponse("a", "b", 7, False), "94a161a16207c2"),
    5: (m.AppendEntries("a", "b", 7, 5, 3, 4, [b"\x01", b""]), "97a161a1620705030492c40101c400"),
    6: (m.AppendEntriesResponse("a", "b", 7, True, 5, 4, 3), "98a161a16207c3050403c2"),
    7: (m.Heartbeat("a", "b", 7, 5, 9), "95a161a162070509"),
    8: (m.HeartbeatResponse("a", "b", 7, 9), "95a161a1620709c2"),
    9: (m.CommitAdvanced("a", "b", 7, 5), "94a161a1620705"),
    10: (m.TimeoutNow("a", "b", 7), "93a161a16207"),
    11: (m.ReadIndexRequest("a", "b", 7, 1000), "95a161a16207cd03e8c2"),
    12: (m.ReadIndexResponse("a", "b", 7, 1000, 5, 42, True), "97a161a16207cd03e8052ac3"),
    13: (m.InstallSnapshot("a", "b", 7, 5, 3), "95a161a162070503"),
}


def test_every_message_has_a_golden_form() -> None:
    assert set(GOLDEN) == set(m.MESSAGES)
    assert all(1 <= number <= 63 for number in m.MESSAGES)
    assert len(set(m.MESSAGES.values())) == len(m.MESSAGES)


@pytest.mark.parametrize("number", GOLDEN)
def test_golden_form(number: int) -> None:
    message, expected = GOLDEN[number]
    assert type(message) is m.MESSAGES[number]
    data = msgspec.msgpack.encode(message)
    assert data.hex() == expected
    assert msgspec.msgpack.decode(data, type=m.MESSAGES[number]) == message


def test_fields_added_later_have_defaults() -> None:
    for data, kind in (("97a161a16207c3050403", m.AppendEntriesResponse), ("94a161a1620709", m.HeartbeatResponse)):
        message = msgspec.msgpack.decode(bytes.fromhex(data), type=kind)
        assert message.rejoining is False
    asked = msgspec.msgpack.decode(bytes.fromhex("94a161a16207cd03e8"), type=m.ReadIndexRequest)
    assert asked.vouches is False


@pytest.mark.parametrize("number", GOLDEN)
def test_a_later_version_may_append_fields(number: int) -> None:
    message, _ = GOLDEN[number]
    longer = [*msgspec.to_builtins(message, builtin_types=(bytes,)), "from a later version"]
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(longer), type=m.MESSAGES[number]) == message
