"""Links between real sockets: delivery, order, loss, strangers, bounds."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import Any

import pytest
from structlog.testing import capture_logs

from tests.peer.harness import QUICK, FakeNode, Net, dial, heartbeat, nets, run
from tests.support.cluster import free_port
from zattredis.errors import FatalError, HandshakeRefused
from zattredis.peer import listener
from zattredis.peer.connection import Connection, Timing
from zattredis.peer.control import Purpose
from zattredis.peer.fragments import FRAGMENT_BYTES_MAX
from zattredis.peer.handshake import Connecting, Identity
from zattredis.peer.messages import ForwardBatch
from zattredis.peer.wire import encode_frame
from zattredis.raft.messages import AppendEntries


def append(src: str, dst: str, size: int, index: int = 0) -> AppendEntries:
    return AppendEntries(src, dst, 1, index, 1, 0, [bytes(size)])


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
def test_messages_both_ways_in_order(loop: str) -> None:
    async def main() -> None:
        async with nets(Net("n1", secret=b"s"), Net("n2", secret=b"s"), Net("n3", secret=b"s")) as (one, two, three):
            for number in range(500):
                assert one.network.send(heartbeat("n1", "n2", number))
                assert two.network.send(heartbeat("n2", "n1", number))
                if number % 7 == 0:
                    one.network.flush()
                    await asyncio.sleep(0)
            await one.until(lambda: len(one.messages) == 500)
            await two.until(lambda: len(two.messages) == 500)
            assert [message.round for message in two.messages] == list(range(500))
            assert [message.src for message in one.messages] == ["n2"] * 500
            assert three.messages == []

    run(main, loop)


def test_what_is_sent_in_a_tick_leaves_in_one_write() -> None:
    async def main() -> None:
        async with FakeNode("n2") as fake, nets(Net("n1"), connected=False) as (one,):
            one.network.set_peers({"n2": fake.address})
            await one.until(lambda: one.network.connected("n2"))
            for number in range(20):
                one.network.send(heartbeat("n1", "n2", number))
            one.network.flush()
            await fake.until(lambda: fake.batches)
            assert fake.batches == [20]

    run(main)


def test_a_message_to_nobody_is_dropped() -> None:
    async def main() -> None:
        async with nets(Net("n1"), connected=False) as (one,):
            assert not one.network.send(heartbeat("n1", "n9"))
            one.network.set_peers({"n2": ("127.0.0.1", free_port())})
            assert not one.network.connected("n2")
            assert not one.network.send(heartbeat("n1", "n2"))
            assert one.network.links[0].dropped_messages == 1

    run(main)


def test_a_restarted_peer_is_found_again() -> None:
    async def main() -> None:
        port = free_port()
        async with nets(Net("n1"), connected=False) as (one,):
            one.network.set_peers({"n2": ("localhost", port)})
            for life in range(3):
                two = Net("n2", listen=("127.0.0.1", port), incarnation=f"life {life}")
                async with nets(two, connected=False):
                    two.network.set_peers({"n1": one.address})
                    await one.until(lambda: one.network.connected("n2"))
                    await two.until(lambda two=two: two.network.connected("n1"))
                    assert one.network.send(heartbeat("n1", "n2"))
                    await two.until(lambda two=two: two.messages)
                await one.until(lambda: not one.network.connected("n2"))
            assert one.links == [("n2", True), ("n2", False)] * 3

    run(main)


def test_a_new_address_and_a_removed_peer() -> None:
    async def main() -> None:
        async with nets(Net("n1"), Net("n2"), connected=False) as (one, two):
            one.network.set_peers({"n2": ("127.0.0.1", free_port())})
            one.network.set_peers({"n2": two.address})
            await one.until(lambda: one.network.connected("n2"))
            one.network.set_peers({"n2": ("host.invalid", 1)})
            assert one.network.connected("n2")  # the link is to the node, not to the address
            one.network.set_peers({})
            assert not one.network.connected("n2")
            assert not one.network.send(heartbeat("n1", "n2"))
            assert one.network.links == []

    run(main)


@pytest.mark.parametrize("secret", [None, b"a secret"])
def test_a_name_that_is_none_is_tried_again(secret: bytes | None) -> None:
    async def main() -> None:
        async with nets(Net("n1", secret=secret), Net("n2", secret=secret), connected=False) as (one, two):
            for host in ("host.invalid", "x" * 70 + ".example", "", ".example"):
                one.network.set_peers({"n2": (host, 1)})
                await asyncio.sleep(0.01)
            one.network.set_peers({"n2": two.address})
            await one.until(lambda: one.network.connected("n2"))

    run(main)


@pytest.mark.parametrize(
    ("options", "reason", "to_the_other"),
    [
        ({"cluster_id": "other"}, "node 'n1' is of cluster 'c', 'n2' of 'other'", "node 'n1' is of cluster 'c'"),
        ({"secret": b"secret"}, "nodes here speak TLS: set the same cluster_secret", "plain bytes came"),
    ],
)
def test_one_reason_on_both_sides(options: dict[str, Any], reason: str, to_the_other: str) -> None:
    async def main() -> None:
        with capture_logs() as events:
            async with nets(Net("n1"), Net("n2", **options), connected=False):
                while {event["event"] for event in events} < {"link_refused", "peer_refused"}:
                    await asyncio.sleep(0.001)
                for _ in range(50):  # many attempts, one line each
                    await asyncio.sleep(0.001)
            of_one = [e["reason"] for e in events if e["event"] == "link_refused" and e["peer"] == "n2"]
            of_two = [e["reason"] for e in events if e["event"] == "peer_refused"]
            assert len(of_one) == 1
            assert reason in of_one[0]
            assert any(to_the_other in text for text in of_two)
            assert len(of_two) <= 4

    run(main)


def test_a_newer_connection_replaces_the_older() -> None:
    async def main() -> None:
        async with nets(Net("n1"), connected=False) as (one,):
            first = await dial(one, "n2")
            second = await dial(one, "n2")
            await asyncio.wait_for(first.closed, 30)
            second.send(heartbeat("n2", "n1", 7))
            await one.until(lambda: one.messages)
            third = await dial(one, "n3")
            third.send(heartbeat("n3", "n1", 8))
            await one.until(lambda: len(one.messages) == 2)
            assert second.open

    run(main)


@pytest.mark.parametrize(("src", "dst"), [("n3", "n1"), ("n1", "n1"), ("n2", "n3")])
def test_a_message_in_anothers_name_closes_the_link(src: str, dst: str) -> None:
    async def main() -> None:
        async with nets(Net("n1"), connected=False) as (one,):
            connection = await dial(one, "n2")
            connection.send(heartbeat("n2", "n1", 1))
            connection.send(heartbeat(src, dst, 2))
            connection.send(heartbeat("n2", "n1", 3))
            assert "on a link from 'n2'" in await asyncio.wait_for(connection.closed, 30)
            assert [message.round for message in one.messages] == [1]

    run(main)


async def raw(net: Net) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection(*net.address)


@pytest.mark.parametrize(
    "data", [b"GET / HTTP/1.0\r\n\r\n", b"\0" * 100, encode_frame(heartbeat("n2", "n1")), b"ZR" + b"\xff" * 5000]
)
def test_a_stranger_that_speaks_something_else_is_closed(data: bytes) -> None:
    async def main() -> None:
        async with nets(Net("n1"), connected=False) as (one,):
            reader, writer = await raw(one)
            writer.write(data)
            with contextlib.suppress(ConnectionError):
                await asyncio.wait_for(reader.read(), 30)
            writer.close()
            await (await dial(one, "n2")).ready
            assert one.messages == []

    run(main)


def test_a_stranger_that_says_nothing_is_closed() -> None:
    async def main() -> None:
        hasty = Timing(handshake_ms=50)
        async with nets(Net("n1", timing=hasty), connected=False) as (one,):
            reader, writer = await raw(one)
            assert await asyncio.wait_for(reader.read(), 30) == b""
            writer.close()

    run(main)


def test_strangers_are_few_and_keep_no_node_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listener, "STRANGERS_MAX", 3)

    async def main() -> None:
        async with nets(Net("n1"), connected=False) as (one,):
            some = [await raw(one) for _ in range(6)]
            for reader, _ in some[:3]:  # the oldest
                assert await asyncio.wait_for(reader.read(), 30) == b""
            assert len(one.network._listener._strangers) == 3
            await (await dial(one, "n2")).ready
            assert await asyncio.wait_for(some[3][0].read(), 30) == b""
            for _, writer in some:
                writer.close()

    run(main)


def test_bytes_before_the_handshake_is_done_are_refused() -> None:
    async def main() -> None:
        async with nets(Net("n1"), connected=False) as (one,):
            hello = Connecting(Identity("n2", "c", "i"), "n1", Purpose.MESSAGES).begin()
            reader, writer = await raw(one)
            writer.write(encode_frame(hello, 0) + encode_frame(hello, 0))
            answer = await asyncio.wait_for(reader.read(), 30)
            assert b"more than one frame" in answer
            writer.close()

    run(main)


def test_a_node_too_many_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listener, "NODES_MAX", 1)

    async def main() -> None:
        async with nets(Net("n1"), connected=False) as (one,):
            await dial(one, "n2")
            reason = await asyncio.wait_for((await dial(one, "n3")).closed, 30)
            assert reason == "refused by the other side: too many nodes are connected"

    run(main)


def test_a_busy_port_is_one_clear_line() -> None:
    async def main() -> None:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            with pytest.raises(FatalError, match=r"cannot listen for other nodes on 127\.0\.0\.1:\d+: .*in use"):
                await Net("n1", listen=taken.getsockname()).network.start()

    run(main)


def test_urgent_messages_pass_a_long_one_and_the_rest_keeps_its_order() -> None:
    async def main() -> None:
        async with nets(Net("n1"), Net("n2")) as (one, two):
            long, short = append("n1", "n2", 8 << 20, 1), append("n1", "n2", 10, 2)
            batch = ForwardBatch("n1", "n2", 1, 1, 1, b"x" * FRAGMENT_BYTES_MAX)
            for message in (long, short, batch):
                assert one.network.send(message)
            one.network.flush()
            assert one.network.send(heartbeat("n1", "n2"))
            await two.until(lambda: len(two.messages) == 4)
            assert two.messages == [heartbeat("n1", "n2"), long, short, batch]
            assert one.network.links[0].queued_bytes == 0

    run(main)


async def fill(one: Net, size: int) -> int:
    """Send until a message is dropped, letting the loop turn; return how many were taken."""
    taken = 0
    while one.network.send(append("n1", "n2", size, taken)):
        taken += 1
        await asyncio.sleep(0)
    return taken


@pytest.mark.parametrize("secret", [None, b"a secret"])
def test_a_peer_that_does_not_read_costs_no_more_than_the_queue(secret: bytes | None) -> None:
    async def main() -> None:
        n1 = Net("n1", queue_bytes_max=1 << 20, secret=secret)
        async with FakeNode("n2", secret=secret) as fake, nets(n1, connected=False) as (one,):
            one.network.set_peers({"n2": fake.address})
            await one.until(lambda: one.network.connected("n2"))
            await fake.until(lambda: fake.connections)
            transport = fake.connections[0].transport
            assert transport is not None
            transport.pause_reading()
            taken = await fill(one, 50_000)
            status = one.network.links[0]
            assert status.queued_bytes <= 1 << 20
            assert status.dropped_messages == 1
            assert one.network.send(heartbeat("n1", "n2"))  # urgent ones have room of their own
            transport.resume_reading()
            await fake.until(lambda: len(fake.frames) == taken + 1)
            order = [frame.prev_index for frame in fake.frames if isinstance(frame, AppendEntries)]
            assert order == list(range(taken))

    run(main)


def test_an_empty_queue_takes_a_message_of_any_size() -> None:
    async def main() -> None:
        async with nets(Net("n1", queue_bytes_max=1000), Net("n2")) as (one, two):
            assert one.network.send(append("n1", "n2", 300_000, 1))
            assert not one.network.send(append("n1", "n2", 10, 2))
            await two.until(lambda: two.messages)
            assert one.network.send(append("n1", "n2", 300_000, 3))
            await two.until(lambda: len(two.messages) == 2)

    run(main)


def test_a_message_near_the_bound_does_not_lose_against_a_small_one_before_it() -> None:
    async def main() -> None:
        async with nets(Net("n1", queue_bytes_max=300_000), Net("n2")) as (one, two):
            assert one.network.send(append("n1", "n2", 10, 1))
            assert one.network.send(append("n1", "n2", 300_000, 2))
            assert not one.network.send(append("n1", "n2", 10, 3))
            await two.until(lambda: len(two.messages) == 2)

    run(main)


def test_urgent_messages_are_bounded_too() -> None:
    async def main() -> None:
        async with nets(Net("n1"), Net("n2")) as (one, two):
            taken = 0
            while one.network.send(heartbeat("n1", "n2", taken)):
                taken += 1
            await two.until(lambda: len(two.messages) == taken)
            assert one.network.send(heartbeat("n1", "n2"))

    run(main)


def test_what_was_queued_dies_with_the_link() -> None:
    async def main() -> None:
        async with FakeNode("n2") as fake, nets(Net("n1", queue_bytes_max=1 << 20), connected=False) as (one,):
            one.network.set_peers({"n2": fake.address})
            await one.until(lambda: one.network.connected("n2"))
            await fake.until(lambda: fake.connections)
            assert fake.connections[0].transport is not None
            fake.connections[0].transport.pause_reading()
            await fill(one, 100_000)
            fake.connections[0].abort("crash")
            await one.until(lambda: ("n2", False) in one.links)
            assert one.network.links[0].queued_bytes == 0
            await fake.until(lambda: len(fake.connections) == 2)
            await one.until(lambda: one.network.connected("n2"))
            one.network.send(append("n1", "n2", 10, 77))
            await fake.until(lambda: fake.frames)
            assert fake.frames[-1].prev_index == 77

    run(main)


def test_a_half_open_link_is_left_when_the_peer_comes_back_in_another_incarnation() -> None:
    """The old connection looks sound; only the peer's own new connection tells that its process is another."""

    async def main() -> None:
        async with FakeNode("n2", "old") as fake, nets(Net("n1"), connected=False) as (one,):
            one.network.set_peers({"n2": fake.address})
            await one.until(lambda: one.network.connected("n2"))
            await fake.until(lambda: fake.connections)
            fake.identity = type(fake.identity)("n2", "c", "new")
            await dial(one, "n2", incarnation="new")
            await fake.until(lambda: len(fake.connections) == 2)
            await one.until(lambda: one.links == [("n2", True), ("n2", False), ("n2", True)])
            await dial(one, "n2", incarnation="new")
            one.network.send(heartbeat("n1", "n2"))
            await fake.until(lambda: fake.frames)
            assert len(fake.connections) == 2

    run(main)


def test_a_peer_that_connects_is_connected_to_at_once() -> None:
    async def main() -> None:
        patient = Timing(retry_min_ms=60_000, retry_max_ms=60_000)
        port = free_port()
        async with nets(Net("n1", timing=patient), connected=False) as (one,):
            with capture_logs() as events:
                one.network.set_peers({"n2": ("127.0.0.1", port)})
                while "link_not_up" not in {event["event"] for event in events}:
                    await asyncio.sleep(0.001)
            async with nets(Net("n2", listen=("127.0.0.1", port)), connected=False) as (two,):
                two.network.set_peers({"n1": one.address})
                await one.until(lambda: one.network.connected("n2"))

    run(main)


def test_sockets_notice_a_dead_peer() -> None:
    async def main() -> None:
        async with nets(Net("n1"), connected=False) as (one,):
            connection: Connection = await dial(one, "n2")
            assert connection.transport is not None
            sock = connection.transport.get_extra_info("socket")
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == QUICK.dead_ms
            assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1

    run(main)


def test_messages_do_not_come_in_on_an_outbound_link() -> None:
    async def main() -> None:
        async with FakeNode("n2") as fake, nets(Net("n1"), connected=False) as (one,):
            one.network.set_peers({"n2": fake.address})
            await fake.until(lambda: fake.connections)
            fake.connections[0].send(heartbeat("n2", "n1"))
            assert "does not belong here" in await asyncio.wait_for(fake.connections[0].closed, 30)
            assert one.messages == []

    run(main)


def test_an_address_that_leads_a_node_to_itself() -> None:
    async def main() -> None:
        async with nets(Net("n1"), connected=False) as (one,):
            with pytest.raises(HandshakeRefused, match="two nodes have one id"):
                await dial(one, "n1")

    run(main)


def test_closing_delivers_what_was_flushed() -> None:
    async def main() -> None:
        async with nets(Net("n1"), Net("n2")) as (one, two):
            for index in range(20):
                one.network.send(append("n1", "n2", 1000, index))
            one.network.flush()
            await one.network.close()
            await two.until(lambda: len(two.messages) == 20)

    run(main)
