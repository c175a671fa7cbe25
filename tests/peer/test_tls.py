"""Peer links over TLS: who gets in by certificate or secret; everybody else is refused, with the reason, unheard."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from tests.peer.harness import QUICK, FakeNode, Net, dial, heartbeat, nets, run
from tests.support.certificates import Authority, Pair
from zattredis.errors import ConfigError, FrameError, HandshakeRefused
from zattredis.peer import listener
from zattredis.peer.connection import Connection, connect
from zattredis.peer.control import Challenge, Hello, Proof, Purpose
from zattredis.peer.handshake import Connecting, Identity, Listening
from zattredis.peer.tls import Channel, Files, PeerTls, in_words
from zattredis.peer.tls_listener import TlsListener
from zattredis.peer.wire import encode_frame

SECRET = b"a secret of which nobody knows"


class Papers:
    """Two authorities, and certificates by the nodes they are for."""

    def __init__(self, directory: Path) -> None:
        self.own = Authority(directory, "own")
        self.foreign = Authority(directory, "foreign")
        self.n1 = self.own.node("n1")
        self.n2 = self.own.node("n2")
        self.expired = self.own.node("n2", expired=True)
        self.foreigner = self.foreign.node("n2")
        self.web = self.own.make("DNS:n2", "IP:127.0.0.1")
        self.server_only = self.own.make("URI:zattredis://n2", usage="serverAuth")

    def files(self, pair: Pair, authority: Authority | None = None) -> Files:
        return Files(pair.cert, pair.key, (authority or self.own).ca)

    def tls(self, node_id: str, pair: Pair) -> PeerTls:
        return PeerTls.from_files(node_id, self.files(pair))

    def untried(self, pair: Pair | None) -> PeerTls:
        """What an attacker, or somebody careless, would connect with: nothing is checked before."""
        tls = PeerTls.from_secret()
        context = ssl.create_default_context(cafile=self.own.ca)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        if pair is not None:
            context.load_cert_chain(pair.cert, pair.key)
        tls.connecting = context
        return tls


@pytest.fixture(scope="module")
def papers(tmp_path_factory: pytest.TempPathFactory) -> Papers:
    return Papers(tmp_path_factory.mktemp("certificates"))


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
@pytest.mark.parametrize("secret", [None, SECRET])
@pytest.mark.parametrize("certificates", [False, True])
def test_links_are_made_and_carry_messages(papers: Papers, loop: str, secret: bytes | None, certificates: bool) -> None:
    if not (certificates or secret):
        return

    async def main() -> None:
        one = Net("n1", secret=secret, tls=papers.tls("n1", papers.n1) if certificates else None)
        two = Net("n2", secret=secret, tls=papers.tls("n2", papers.n2) if certificates else None)
        async with nets(one, two):
            for number in range(100):
                one.network.send(heartbeat("n1", "n2", number))
                two.network.send(heartbeat("n2", "n1", number))
            await one.until(lambda: len(one.messages) == 100)
            await two.until(lambda: len(two.messages) == 100)
            assert [m.round for m in two.messages] == [*range(100)]  # type: ignore[attr-defined]

    run(main, loop)


# -- who is refused ---------------------------------------------------------------------------------------------------

Dialer = Callable[[Papers], Identity]
N2 = Identity("n2", "c", "n2-1")

BY_CERTIFICATE: dict[str, tuple[Dialer, str]] = {
    "no certificate": (lambda p: replace(N2, tls=p.untried(None)), "the other side has no certificate"),
    "expired": (lambda p: replace(N2, tls=p.untried(p.expired)), "certificate has expired"),
    "foreign authority": (lambda p: replace(N2, tls=p.untried(p.foreigner)), "its certificate is refused"),
    "not for a node": (lambda p: replace(N2, tls=p.untried(p.web)), "shows a certificate that names no node"),
    "not for a client": (lambda p: replace(N2, tls=p.untried(p.server_only)), "certificate purpose|its certificate"),
    "of another node": (lambda p: replace(N2, node_id="n3", tls=p.untried(p.n2)), "node 'n3' shows a certificate that"),
    "of the node it calls": (lambda p: replace(N2, node_id="n1", tls=p.untried(p.n1)), "two nodes have one id"),
    "foreign cluster": (lambda p: replace(N2, cluster_id="d", tls=p.untried(p.n2)), "is of cluster 'd'"),
    "plain": (lambda p: N2, "plain bytes came"),
}
BY_SECRET: dict[str, tuple[Dialer, str]] = {
    "wrong": (lambda p: replace(N2, secret=b"wrong", tls=PeerTls.from_secret()), "does not know the cluster secret"),
    "missing, over TLS": (lambda p: replace(N2, tls=PeerTls.from_secret()), "wants the cluster secret|closed|refused"),
    "known, but plain": (lambda p: replace(N2, secret=SECRET), "plain bytes came"),
    "foreign cluster": (
        lambda p: replace(N2, secret=SECRET, cluster_id="d", tls=PeerTls.from_secret()), "is of cluster 'd'"
    ),
    "own id": (lambda p: replace(N2, node_id="n1", secret=SECRET, tls=PeerTls.from_secret()), "two nodes have one id"),
    "old TLS": (lambda p: replace(N2, secret=SECRET, tls=_old_tls()), "no version of TLS in common"),
}  # fmt: skip


def _old_tls() -> PeerTls:
    tls = PeerTls.from_secret()
    tls.connecting = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    tls.connecting.check_hostname = False
    tls.connecting.verify_mode = ssl.CERT_NONE
    tls.connecting.maximum_version = ssl.TLSVersion.TLSv1_2
    return tls


def cases() -> Iterator[Any]:
    for name, (dialer, reason) in BY_CERTIFICATE.items():
        yield pytest.param(True, dialer, reason, id=f"certificates: {name}")
    for name, (dialer, reason) in BY_SECRET.items():
        yield pytest.param(False, dialer, reason, id=f"secret: {name}")


@pytest.mark.parametrize("purpose", list(Purpose))
@pytest.mark.parametrize(("certificates", "dialer", "reason"), [*cases()])
def test_everybody_else_is_refused_with_the_reason(
    papers: Papers, certificates: bool, dialer: Dialer, reason: str, purpose: Purpose
) -> None:
    if purpose is Purpose.JOIN and "of cluster" in reason:
        return  # whoever joins has no cluster yet

    async def main() -> None:
        options = {"tls": papers.tls("n1", papers.n1)} if certificates else {"secret": SECRET}
        one = Net("n1", **options, on_join=never)
        with capture_logs() as events:
            async with nets(one, connected=False):
                with pytest.raises((HandshakeRefused, FrameError, OSError)):
                    await used(dialer(papers), one, purpose)
                async with asyncio.timeout(10):
                    await await_told(events)
                assert one.network.links == []
                assert one.messages == [] and one.sinks == [] and not one.network._listener._inbound
        reasons = [event["reason"] for event in events if event["event"] == "peer_refused"]
        assert len(reasons) == 1
        assert pytest.raises(AssertionError, match=reason).matches(AssertionError(reasons[0])), reasons

    run(main)


async def used(identity: Identity, net: Net, purpose: Purpose) -> None:
    """Connect, and say something. Raises what a connection that is refused raises."""
    connection = await connect(identity, net.node_id, net.address, purpose, QUICK)
    connection.send(heartbeat(identity.node_id, net.node_id))
    await connection.closed  # TLS 1.3: who was refused may learn it only now
    raise ConnectionError(connection.closed.result())


async def never(node_id: str, address: str) -> Any:
    raise AssertionError("nobody joins here")


async def await_told(events: Any) -> None:
    while not any(event["event"] == "peer_refused" for event in events):
        await asyncio.sleep(0.001)


# -- somebody in between ----------------------------------------------------------------------------------------------


async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, kept: bytearray | None = None) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(65536):
            if kept is not None:
                kept += data
            writer.write(data)
    with contextlib.suppress(OSError):
        writer.close()


@contextlib.asynccontextmanager
async def between(
    target: tuple[str, int], accepting: ssl.SSLContext | None, connecting: ssl.SSLContext | None, kept: bytearray
) -> Any:
    """Somebody who passes on everything between who connects and `target`, over two TLS connections of his own."""
    tasks: set[asyncio.Task[None]] = set()

    async def on_client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection(*target, ssl=connecting)
        tasks.add(asyncio.create_task(copy(reader, back, kept)))
        tasks.add(asyncio.create_task(copy(there, writer)))

    server = await asyncio.start_server(on_client, "127.0.0.1", 0, ssl=accepting)
    try:
        yield server.sockets[0].getsockname()[:2]
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


def test_somebody_in_between_who_passes_on_every_frame_is_noticed() -> None:
    async def main() -> None:
        mallory = PeerTls.from_secret()
        identity = replace(N2, secret=SECRET, tls=PeerTls.from_secret())
        one = Net("n1", secret=SECRET)
        seen = bytearray()
        with capture_logs() as events:
            async with nets(one, connected=False), between(
                one.address, mallory.accepting, mallory.connecting, seen
            ) as address:
                with pytest.raises(HandshakeRefused, match="cluster secret, or somebody is in between"):
                    await connect(identity, "n1", address, Purpose.MESSAGES, QUICK)
                assert len(seen) > 100, "he did read the proof, which is of no use to him"
        assert "somebody is in between" in str([e for e in events if e["event"] == "peer_refused"])

    run(main, "asyncio")


def test_a_connection_played_back_byte_for_byte_is_refused() -> None:
    async def main() -> None:
        one = Net("n1", secret=SECRET)
        kept = bytearray()
        with capture_logs() as events:
            async with nets(one, connected=False):
                async with between(one.address, None, None, kept) as address:  # passes the encrypted bytes on
                    identity = replace(N2, secret=SECRET, tls=PeerTls.from_secret())
                    connection = await connect(identity, "n1", address, Purpose.MESSAGES, QUICK)
                    connection.send(heartbeat("n2", "n1", 7))
                    await one.until(lambda: one.messages)
                    connection.close("done")
                    await connection.closed
                reader, writer = await asyncio.open_connection(*one.address)
                writer.write(kept)
                with contextlib.suppress(OSError):
                    await reader.read()
                writer.close()
                async with asyncio.timeout(10):
                    await await_told(events)
                assert len(one.messages) == 1
        assert [e["reason"] for e in events if e["event"] == "peer_refused"] == [
            "bytes were changed on the way, or played back"
        ]

    run(main, "asyncio")


@pytest.mark.parametrize("reason", ["DECRYPTION_FAILED_OR_BAD_RECORD_MAC", "RECORD_LAYER_FAILURE"])
def test_changed_bytes_are_named_by_whichever_openssl(reason: str) -> None:
    error = ssl.SSLError(1, f"[SSL: {reason}] {reason.lower().replace('_', ' ')} (_ssl.c:1029)")
    error.reason = reason
    assert in_words(error) == "bytes were changed on the way, or played back"


def test_nothing_is_sent_to_a_listener_that_shows_no_good_certificate(papers: Papers) -> None:
    """The one who connects finds out, too: an address that leads to somebody else gets not even a Hello."""

    async def main() -> None:
        identity = replace(N2, tls=papers.tls("n2", papers.n2))
        heard = bytearray()

        async def on_client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with contextlib.suppress(OSError):
                heard.extend(await reader.read())
            writer.close()

        for stranger in (PeerTls.from_secret().accepting, context_of(papers.foreign.node("n1"))):
            server = await asyncio.start_server(on_client, "127.0.0.1", 0, ssl=stranger)
            with pytest.raises(HandshakeRefused, match="its certificate is refused"):
                await connect(identity, "n1", server.sockets[0].getsockname()[:2], Purpose.MESSAGES, QUICK)
            server.close()
            assert heard == b""
        other = Net("n3", tls=papers.tls("n3", papers.own.node("n3")))
        async with nets(other, connected=False):
            with pytest.raises(HandshakeRefused, match="looked for"):
                await connect(identity, "n1", other.address, Purpose.MESSAGES, QUICK)

    run(main, "asyncio")


def context_of(pair: Pair) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.cert, pair.key)
    return context


def test_a_listener_that_calls_itself_by_anothers_name_is_left(papers: Papers) -> None:
    connecting = Connecting(N2, "n1", Purpose.MESSAGES)
    connecting.channel = Channel(b"b", frozenset({"n3"}))
    with pytest.raises(HandshakeRefused, match="node 'n1' shows a certificate that is for n3; it needs the URI"):
        connecting.receive(Challenge("n1", "i", 1, False, bytes(16)))


# -- certificates that cannot be used ---------------------------------------------------------------------------------


def test_a_node_notices_itself_what_others_would_refuse(papers: Papers, tmp_path: Path) -> None:
    garbage = tmp_path / "garbage"
    garbage.write_text("no certificate")
    for node_id, pair, authority, reason in (
        ("n1", papers.n2, papers.own, "is for n2; the certificate of this node has to hold .*zattredis://n1"),
        ("n2", papers.web, papers.own, "names no node"),
        ("n2", papers.expired, papers.own, "would be refused by the other nodes: .*expired"),
        ("n2", papers.foreigner, papers.own, "would be refused by the other nodes"),
        ("n2", papers.server_only, papers.own, "would be refused by the other nodes"),
        ("n2", Pair(papers.n2.cert, papers.n1.key), papers.own, "the key does not belong to the certificate"),
        ("n2", Pair(str(tmp_path / "none"), papers.n2.key), papers.own, "cannot read .*none: No such file"),
        ("n2", Pair(papers.n2.cert, str(tmp_path / "nokey")), papers.own, "cannot read .*nokey: No such file"),
        ("n2", Pair(str(garbage), str(garbage)), papers.own, "garbage"),
    ):
        with pytest.raises(ConfigError, match=reason):
            PeerTls.from_files(node_id, papers.files(pair, authority))


def test_certificates_are_replaced_without_dropping_links(papers: Papers, tmp_path: Path) -> None:
    async def main() -> None:
        tls1, tls2 = papers.tls("n1", papers.n1), papers.tls("n2", papers.n2)
        one, two = Net("n1", tls=tls1), Net("n2", tls=tls2)
        async with nets(one, two):
            new = Authority(tmp_path, "new")
            files = {i: Files((pair := new.node(i)).cert, pair.key, new.ca) for i in ("n1", "n2")}
            with pytest.raises(ConfigError):
                tls1.reload(files["n2"])
            assert tls1.valid_until
            tls1.reload(files["n1"])
            one.network.send(heartbeat("n1", "n2", 1))
            await two.until(lambda: two.messages)
            assert one.links == [("n2", True)] and two.links == [("n1", True)]
            with pytest.raises(HandshakeRefused):  # those who have only the old authority are refused from now on
                await used(replace(N2, tls=tls2), one, Purpose.JOIN)
            tls2.reload(files["n2"])
            await connect(replace(N2, tls=tls2), "n1", one.address, Purpose.SNAPSHOT, QUICK)

    run(main)


# -- strangers cost little --------------------------------------------------------------------------------------------


def test_a_stranger_costs_no_tls_object_until_it_speaks_tls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listener, "STRANGERS_MAX", 3)

    async def main() -> None:
        one = Net("n1", secret=SECRET)
        asked: list[str] = []
        async with nets(one, connected=False):
            server = one.network._listener._server
            assert isinstance(server, TlsListener)
            context = server._context
            server._context = lambda: asked.append("context") or context()  # type: ignore[func-returns-value]
            silent = [await asyncio.open_connection(*one.address) for _ in range(6)]
            for reader, _ in silent[:3]:  # those that said nothing for longest
                assert await asyncio.wait_for(reader.read(), 30) == b""
            assert server.strangers == 3 and asked == []
            for data in (b"GET / HTTP/1.0\r\n\r\n", b"*1\r\n$4\r\nPING\r\n", bytes(100_000)):
                reader, writer = await asyncio.open_connection(*one.address)
                writer.write(data)
                with contextlib.suppress(OSError):
                    assert await asyncio.wait_for(reader.read(), 30) == b""
                writer.close()
            assert asked == []
            await (await dial(one, "n2", secret=SECRET)).ready  # it finds room all the same
            for _, writer in silent:
                writer.close()

    run(main)


def test_handshakes_that_are_held_open_keep_no_node_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half a ClientHello each, from more than are heard: the oldest goes, and the next node comes through."""
    monkeypatch.setattr(listener, "STRANGERS_MAX", 3)

    async def main() -> None:
        one = Net("n1", secret=SECRET)
        async with nets(one, connected=False):
            server = one.network._listener._server
            assert isinstance(server, TlsListener)
            held = []
            for number in range(6):
                held.append(await asyncio.open_connection(*one.address))
                held[-1][1].write(bytes.fromhex("160301020001"))
                while len(server._shaking) < min(3, number + 1) or server._silent:
                    await asyncio.sleep(0.001)
            for reader, _ in held[:3]:
                with contextlib.suppress(OSError):
                    assert await asyncio.wait_for(reader.read(), 30) == b""
            assert server.strangers == 3
            await (await dial(one, "n2", secret=SECRET)).ready
            for _, writer in held:
                writer.close()
            while server.strangers or server._tasks:
                await asyncio.sleep(0.001)

    run(main)


def test_a_node_that_comes_plain_is_told_what_to_set() -> None:
    async def main() -> None:
        async with nets(Net("n1", secret=SECRET), connected=False) as (one,):
            reader, writer = await asyncio.open_connection(*one.address)
            writer.write(encode_frame(Connecting(N2, "n1", Purpose.MESSAGES).begin(), 0))
            answer = await asyncio.wait_for(reader.read(), 30)
            assert b"set the same cluster_secret" in answer
            assert b"n1" not in answer, "a stranger learns no names"
            writer.close()
        async with FakeNode("n1") as plain:
            identity = replace(N2, secret=SECRET, tls=PeerTls.from_secret())
            with pytest.raises(HandshakeRefused, match="does not speak TLS"):
                await connect(identity, "n1", plain.address, Purpose.JOIN, QUICK)

    run(main)


def test_a_secret_is_never_proved_over_a_connection_that_is_not_encrypted() -> None:
    async def main() -> None:
        identity = replace(N2, node_id="n1", secret=SECRET, tls=PeerTls.from_secret())
        heard: list[Any] = []
        loop = asyncio.get_running_loop()
        server = await loop.create_server(  # as if somebody had listened without TLS by mistake
            lambda: Connection(Listening(identity), loop, QUICK, heard.append), "127.0.0.1", 0
        )
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.write(encode_frame(Connecting(N2, "n1", Purpose.MESSAGES).begin(), 0))
        with contextlib.suppress(OSError):
            assert await asyncio.wait_for(reader.read(), 30) == b""
        assert heard == []
        writer.close()
        server.close()

    run(main)


def test_the_binding_is_part_of_the_proof() -> None:
    for mine, his, fits in ((b"one", b"one", True), (b"one", b"two", False), (b"one", b"", False)):
        connecting = Connecting(replace(N2, secret=SECRET), "n1", Purpose.MESSAGES)
        listening = Listening(replace(N2, node_id="n1", secret=SECRET))
        connecting.channel, listening.channel = Channel(mine), Channel(his)
        hello = connecting.begin()
        assert isinstance(hello, Hello)
        proof = connecting.receive(listening.receive(hello))
        assert isinstance(proof, Proof)
        if fits:
            connecting.receive(listening.receive(proof))
            assert connecting.peer is not None
        else:
            with pytest.raises(HandshakeRefused, match="does not know the cluster secret"):
                listening.receive(proof)


def test_the_secret_is_in_no_text() -> None:
    assert "nobody knows" not in repr(Identity("n1", "c", "i", SECRET))
