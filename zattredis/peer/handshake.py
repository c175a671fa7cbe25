"""The handshake, without a socket: who is there, does it belong here, does it know the secret.

    connecting side          listening side
    Hello            →                          cluster, node id, whom it looks for, versions, nonce
                     ←       Challenge          who it found, the version, whether a secret is wanted, nonce
    Proof            →                          HMAC-SHA256 over both frames, labelled with the role
                     ←       Accepted           the same with the other label

Either side may answer Refused with the reason instead, and both then know it. The connecting side proves itself first,
so a stranger learns nothing that the secret went into. The proofs cover every byte of Hello and Challenge and differ by
role, so neither can be replayed or reflected, and nothing in them can be changed on the way.

All this goes over TLS wherever a secret or certificates are set (see `tls`). The proofs then also cover the TLS
connection itself: what its client sent as Finished, a MAC over the whole TLS handshake under a key of that connection
alone. Somebody in between has two TLS connections and cannot make one proof fit the other. With certificates, each side
must be one of the nodes that its certificate is for.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from dataclasses import dataclass, field
from typing import Final

from zattredis.errors import FrameError, HandshakeRefused
from zattredis.peer.control import Accepted, Challenge, Control, Hello, Proof, Purpose, Refused
from zattredis.peer.tls import NODE_URI, PLAIN, Channel, PeerTls
from zattredis.peer.wire import PROTOCOL_VERSION, encode_body

VERSION_MIN: Final = 1
VERSION_MAX: Final = PROTOCOL_VERSION
NONCE_BYTES: Final = 16
REASON_CHARACTERS_MAX: Final = 300

_LABEL_CONNECTING: Final = b"zattredis peer handshake: connecting side"
_LABEL_LISTENING: Final = b"zattredis peer handshake: listening side"
_LABEL_CHANNEL: Final = b" over TLS "


@dataclass(frozen=True, slots=True)
class Identity:
    """Who this node is among its peers."""

    node_id: str
    cluster_id: str
    incarnation: str
    secret: bytes | None = field(default=None, repr=False)
    tls: PeerTls | None = field(default=None, compare=False)
    """Set wherever there are a secret or certificates: then nothing is said that is not encrypted."""

    def __post_init__(self) -> None:
        if self.secret is not None and not self.secret:
            raise ValueError("a secret that is empty; None means that there is none")


@dataclass(frozen=True, slots=True)
class Peer:
    """Who is on the other side, once the handshake is through."""

    node_id: str
    incarnation: str
    purpose: Purpose
    version: int


class Connecting:
    """The side that connects, looking for node `target`. Feed each frame to `receive` until `peer` is set.

    `channel` is to be set before, where the connection is encrypted.
    """

    __slots__ = ("_challenge", "_hello", "_identity", "channel", "peer")

    def __init__(self, identity: Identity, target: str, purpose: Purpose) -> None:
        self._identity = identity
        self.channel = PLAIN
        self._challenge: Challenge | None = None
        self.peer: Peer | None = None
        self._hello = Hello(
            identity.cluster_id, identity.node_id, identity.incarnation, target, purpose, VERSION_MIN, VERSION_MAX,
            secrets.token_bytes(NONCE_BYTES),
        )  # fmt: skip

    @property
    def tls(self) -> PeerTls | None:
        """What is demanded of the connection."""
        return self._identity.tls

    def begin(self) -> Hello:
        """Return the first frame."""
        return self._hello

    def receive(self, frame: Control) -> Control | None:
        """Return the frame to send, if any. Raises HandshakeRefused with the reason, FrameError for no handshake.

        A reason that did not come from the other side is then to be told to it (`Refused`).
        """
        if isinstance(frame, Refused):
            raise HandshakeRefused(f"refused by the other side: {clean_reason(frame.reason)}")
        if isinstance(frame, Challenge) and self._challenge is None:
            return self._answer(frame)
        if isinstance(frame, Accepted) and self._challenge is not None and self.peer is None:
            expected = self._mac(_LABEL_LISTENING, self._challenge)
            if not hmac.compare_digest(expected, frame.mac):
                raise HandshakeRefused(f"the other side does not know the cluster secret{_or_between(self.channel)}")
            hello, challenge = self._hello, self._challenge
            self.peer = Peer(challenge.node_id, challenge.incarnation, Purpose(hello.purpose), challenge.version)
            return None
        raise FrameError(f"{type(frame).__name__} out of turn in a handshake")

    def _answer(self, challenge: Challenge) -> Proof:
        wanted = self._hello.target
        if challenge.node_id != wanted and self._hello.purpose != Purpose.JOIN:
            raise HandshakeRefused(f"looked for node {wanted!r} and found {challenge.node_id!r}: check the addresses")
        if not VERSION_MIN <= challenge.version <= VERSION_MAX:
            raise HandshakeRefused(
                f"peer protocol version {challenge.version} is not one of {VERSION_MIN} to {VERSION_MAX}"
            )
        check_certificate(self.channel, challenge.node_id)
        wanted = challenge.node_id
        if challenge.secret_wanted and self._identity.secret is None:
            raise HandshakeRefused(f"node {wanted!r} wants the cluster secret, which {self._hello.node_id!r} has not")
        if not challenge.secret_wanted and self._identity.secret is not None:
            raise HandshakeRefused(f"node {wanted!r} has no cluster secret, but {self._hello.node_id!r} has")
        if len(challenge.nonce) != NONCE_BYTES:
            raise FrameError("a nonce of the wrong length")
        self._challenge = challenge
        return Proof(self._mac(_LABEL_CONNECTING, challenge))

    def _mac(self, label: bytes, challenge: Challenge) -> bytes:
        return _mac(self._identity.secret, label, self.channel, self._hello, challenge)


class Listening:
    """The side that was connected to. Feed each frame to `receive` until `peer` is set.

    `channel` is as in `Connecting`.
    """

    __slots__ = ("_challenge", "_hello", "_identity", "channel", "peer")

    def __init__(self, identity: Identity) -> None:
        self._identity = identity
        self.channel = PLAIN
        self._hello: Hello | None = None
        self._challenge: Challenge | None = None
        self.peer: Peer | None = None

    @property
    def tls(self) -> PeerTls | None:
        """What is demanded of the connection."""
        return self._identity.tls

    def receive(self, frame: Control) -> Control:
        """Return the frame to send. Raises as `Connecting.receive`."""
        if isinstance(frame, Refused):
            raise HandshakeRefused(f"refused by the other side: {clean_reason(frame.reason)}")
        if isinstance(frame, Hello) and self._hello is None:
            self._check(frame)
            self._hello = frame
            identity = self._identity
            self._challenge = Challenge(
                identity.node_id, identity.incarnation, min(frame.version_max, VERSION_MAX),
                identity.secret is not None, secrets.token_bytes(NONCE_BYTES),
            )  # fmt: skip
            return self._challenge
        if isinstance(frame, Proof) and self._hello is not None and self._challenge is not None and self.peer is None:
            hello, challenge, secret = self._hello, self._challenge, self._identity.secret
            if not hmac.compare_digest(_mac(secret, _LABEL_CONNECTING, self.channel, hello, challenge), frame.mac):
                name = clean_reason(hello.node_id)
                raise HandshakeRefused(f"node {name!r} does not know the cluster secret{_or_between(self.channel)}")
            self.peer = Peer(hello.node_id, hello.incarnation, Purpose(hello.purpose), challenge.version)
            return Accepted(_mac(secret, _LABEL_LISTENING, self.channel, hello, challenge))
        raise FrameError(f"{type(frame).__name__} out of turn in a handshake")

    def _check(self, hello: Hello) -> None:
        identity = self._identity
        name = clean_reason(hello.node_id)
        check_certificate(self.channel, hello.node_id)
        joins = hello.purpose == Purpose.JOIN  # it has yet to be told which cluster this is
        if hello.cluster_id != identity.cluster_id and not joins:
            raise HandshakeRefused(
                f"node {name!r} is of cluster {clean_reason(hello.cluster_id)!r}, "
                f"{identity.node_id!r} of {identity.cluster_id!r}"
            )
        if hello.node_id == identity.node_id:
            raise HandshakeRefused(
                f"the connecting node calls itself {name!r}, which is the id of the node it reached: "
                "two nodes have one id, or an address leads a node to itself"
            )
        if hello.target != identity.node_id and not joins:
            raise HandshakeRefused(
                f"node {name!r} looked for {clean_reason(hello.target)!r} and found {identity.node_id!r}: "
                "check the addresses"
            )
        if hello.version_max < VERSION_MIN or hello.version_min > VERSION_MAX:
            raise HandshakeRefused(
                f"node {name!r} speaks peer protocol versions {hello.version_min} to {hello.version_max}, "
                f"{identity.node_id!r} {VERSION_MIN} to {VERSION_MAX}"
            )
        if hello.purpose not in set(Purpose) or not hello.node_id or len(hello.nonce) != NONCE_BYTES:
            raise FrameError("a malformed Hello")


def check_certificate(channel: Channel, node_id: str) -> None:
    """Raise HandshakeRefused where certificates are used, and that of the other side is not for this node."""
    ids = channel.node_ids
    if ids is None or node_id in ids:
        return
    name = clean_reason(node_id)
    what = f"is for {', '.join(clean_reason(each) for each in sorted(ids))}" if ids else "names no node"
    raise HandshakeRefused(f"node {name!r} shows a certificate that {what}; it needs the URI {NODE_URI}{name}")


def _or_between(channel: Channel) -> str:
    return ", or somebody is in between" if channel.binding else ""


def _mac(secret: bytes | None, label: bytes, channel: Channel, hello: Hello, challenge: Challenge) -> bytes:
    """Return the proof of one role, or nothing where there is no secret."""
    if secret is None:
        return b""
    digest = hmac.new(secret, label, hashlib.sha256)
    if channel.binding:
        digest.update(_LABEL_CHANNEL + len(channel.binding).to_bytes(4, "big") + channel.binding)
    for frame in (hello, challenge):
        body = encode_body(frame)[1]
        digest.update(len(body).to_bytes(4, "big") + body)
    return digest.digest()


def clean_reason(text: str) -> str:
    """Return a stranger's text so that it can be logged: printable, on one line, not long."""
    shown = "".join(character if character.isprintable() else "?" for character in text[:REASON_CHARACTERS_MAX])
    return shown if len(text) <= REASON_CHARACTERS_MAX else shown + "…"
