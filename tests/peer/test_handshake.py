"""The handshake without sockets: who is let in, who is told what, and that proofs cannot be borrowed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec
import pytest

from zattredis.errors import FrameError, HandshakeRefused
from zattredis.peer.control import Accepted, Challenge, Hello, Proof, Purpose, Refused, SnapshotEnd
from zattredis.peer.handshake import Connecting, Identity, Listening, clean_reason

N1 = Identity("n1", "c", "i1")
N2 = Identity("n2", "c", "i2")
SECRET = b"a long shared secret"


def shake(connecting: Connecting, listening: Listening) -> None:
    """Both sides to the end. Raises what either raises."""
    frame: Any = connecting.begin()
    while frame is not None:
        frame = connecting.receive(listening.receive(frame))


@pytest.mark.parametrize("secret", [None, SECRET])
@pytest.mark.parametrize("purpose", list(Purpose))
def test_two_nodes_of_one_cluster(secret: bytes | None, purpose: Purpose) -> None:
    connecting = Connecting(replace(N1, secret=secret), "n2", purpose)
    listening = Listening(replace(N2, secret=secret))
    shake(connecting, listening)
    assert connecting.peer is not None
    assert listening.peer is not None
    assert (connecting.peer.node_id, connecting.peer.incarnation) == ("n2", "i2")
    assert (listening.peer.node_id, listening.peer.incarnation) == ("n1", "i1")
    assert connecting.peer.purpose is listening.peer.purpose is purpose
    assert connecting.peer.version == listening.peer.version == 1


@pytest.mark.parametrize(
    ("who", "where", "target", "reason"),
    [
        (replace(N1, cluster_id="d"), N2, "n2", "node 'n1' is of cluster 'd', 'n2' of 'c'"),
        (N1, replace(N2, node_id="n3"), "n2", "looked for 'n2' and found 'n3'"),
        (N1, N1, "n1", "two nodes have one id"),
        (N1, replace(N1, incarnation="other"), "n2", "two nodes have one id"),
        (replace(N1, secret=SECRET), replace(N2, secret=b"x"), "n2", "node 'n1' does not know the cluster secret"),
        (replace(N1, secret=SECRET), N2, "n2", "node 'n2' has no cluster secret, but 'n1' has"),
        (N1, replace(N2, secret=SECRET), "n2", "node 'n2' wants the cluster secret, which 'n1' has not"),
    ],
)
def test_refused(who: Identity, where: Identity, target: str, reason: str) -> None:
    listening = Listening(where)
    with pytest.raises(HandshakeRefused, match=reason):
        shake(Connecting(who, target, Purpose.MESSAGES), listening)
    assert listening.peer is None


def hello(**changes: Any) -> Hello:
    return msgspec.structs.replace(Connecting(N1, "n2", Purpose.MESSAGES).begin(), **changes)


@pytest.mark.parametrize(("low", "high"), [(2, 3), (0, 0)])
def test_versions_that_do_not_meet(low: int, high: int) -> None:
    with pytest.raises(HandshakeRefused, match=f"speaks peer protocol versions {low} to {high}, 'n2' 1 to 1"):
        Listening(N2).receive(hello(version_min=low, version_max=high))


def test_the_highest_common_version_is_taken() -> None:
    answer = Listening(N2).receive(hello(version_min=1, version_max=9))
    assert isinstance(answer, Challenge)
    assert answer.version == 1


def test_a_version_nobody_offered() -> None:
    connecting = Connecting(N1, "n2", Purpose.MESSAGES)
    with pytest.raises(HandshakeRefused, match="version 9"):
        connecting.receive(Challenge("n2", "i2", 9, False, bytes(16)))


def test_the_other_sides_reason_is_passed_on_and_made_printable() -> None:
    for side in (Connecting(N1, "n2", Purpose.MESSAGES), Listening(N2)):
        with pytest.raises(HandshakeRefused, match=r"^refused by the other side: go\? away$"):
            side.receive(Refused("go\n away"))
    assert len(clean_reason("x" * 10_000)) < 400


def test_frames_out_of_turn() -> None:
    connecting, listening = Connecting(N1, "n2", Purpose.MESSAGES), Listening(N2)
    for frame in (Proof(b""), Accepted(b""), SnapshotEnd()):
        with pytest.raises(FrameError, match="out of turn"):
            listening.receive(frame)
    for frame in (Accepted(b""), Proof(b""), hello()):
        with pytest.raises(FrameError, match="out of turn"):
            connecting.receive(frame)
    challenge = listening.receive(connecting.begin())
    with pytest.raises(FrameError, match="out of turn"):
        listening.receive(hello())
    connecting.receive(challenge)
    with pytest.raises(FrameError, match="out of turn"):
        connecting.receive(challenge)


@pytest.mark.parametrize("changes", [{"purpose": 4}, {"nonce": b""}, {"node_id": ""}])
def test_malformed_hello(changes: dict[str, Any]) -> None:
    with pytest.raises(FrameError):
        Listening(N2).receive(hello(**changes))


SAFE_1, SAFE_2 = replace(N1, secret=SECRET), replace(N2, secret=SECRET)


def halfway() -> tuple[Connecting, Listening, Any, Any]:
    connecting, listening = Connecting(SAFE_1, "n2", Purpose.MESSAGES), Listening(SAFE_2)
    challenge = listening.receive(connecting.begin())
    return connecting, listening, challenge, connecting.receive(challenge)


def test_a_proof_of_another_handshake_is_worth_nothing() -> None:
    _, _, _, earlier = halfway()
    _, listening, _, _ = halfway()
    with pytest.raises(HandshakeRefused, match="does not know"):
        listening.receive(earlier)


def test_a_proof_cannot_be_sent_back() -> None:
    connecting, _, _, proof = halfway()
    with pytest.raises(HandshakeRefused, match="does not know"):
        connecting.receive(Accepted(proof.mac))


def test_an_empty_proof_is_none() -> None:
    connecting, listening, _, _ = halfway()
    with pytest.raises(HandshakeRefused, match="does not know"):
        listening.receive(Proof(b""))
    with pytest.raises(HandshakeRefused, match="does not know"):
        connecting.receive(Accepted(b""))


@pytest.mark.parametrize(
    "changes", [{"incarnation": "x"}, {"purpose": Purpose.SNAPSHOT}, {"version_max": 7}, {"nonce": bytes(16)}]
)
def test_what_was_changed_on_the_way_is_noticed(changes: dict[str, Any]) -> None:
    connecting, listening = Connecting(SAFE_1, "n2", Purpose.MESSAGES), Listening(SAFE_2)
    challenge = listening.receive(msgspec.structs.replace(connecting.begin(), **changes))
    proof = connecting.receive(challenge)
    assert proof is not None
    with pytest.raises(HandshakeRefused, match="does not know"):
        listening.receive(proof)


def test_the_secret_cannot_be_talked_away() -> None:
    """Somebody between the two who says that no secret is wanted."""
    connecting, listening = Connecting(SAFE_1, "n2", Purpose.MESSAGES), Listening(SAFE_2)
    challenge = listening.receive(connecting.begin())
    with pytest.raises(HandshakeRefused, match="has no cluster secret"):
        connecting.receive(msgspec.structs.replace(challenge, secret_wanted=False))


def test_an_empty_secret_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="empty"):
        Identity("n1", "c", "i", b"")
