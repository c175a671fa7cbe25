"""Links of a membership that changes: removed nodes are turned away, other addresses are tried, strangers may join."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from tests.peer.harness import QUICK, Net, dial, heartbeat, nets, run
from zattredis.errors import HandshakeRefused
from zattredis.peer.connection import connect
from zattredis.peer.control import JoinAnswer, JoinRequest, Purpose
from zattredis.peer.handshake import Identity
from zattredis.peer.tls import PeerTls


def test_a_removed_node_is_told_so_once_both_sides_have_proved_themselves() -> None:
    async def main() -> None:
        told: list[str] = []
        n1 = Net("n1", secret=b"s", refusal=lambda node_id: "n3 was removed" if node_id == "n3" else "")
        n3 = Net("n3", secret=b"s", on_turned_away=told.append)
        async with nets(n1, n3, connected=False):
            await n3.until(lambda: ("n1", False) in n3.links)
            assert told[0] == "n1"
            stranger = await_refused(n1)
            with pytest.raises(HandshakeRefused, match="does not know"):
                await stranger

    run(main)


async def await_refused(net: Net) -> None:
    await dial(net, "n3", secret=b"wrong")


def test_a_node_removed_while_connected_is_told_at_once() -> None:
    async def main() -> None:
        told: list[str] = []
        n1, n2 = Net("n1"), Net("n2", on_turned_away=told.append)
        async with nets(n1, n2):
            n1.network.turn_away("n2", "removed")
            n1.network.turn_away("n9", "of whom nothing is here")
            await n2.until(lambda: ("n1", False) in n2.links)
            assert told == ["n1"]

    run(main)


def test_a_node_is_found_at_its_other_address_and_moves_without_a_restart() -> None:
    async def main() -> None:
        n2 = Net("n2")
        async with nets(n2):
            n1 = Net("n1", fallbacks={"n2": n2.address})
            async with nets(n1):
                n1.network.set_peers({"n2": ("127.0.0.1", 1)})  # nobody is there
                await n1.until(lambda: n1.network.connected("n2"))
                n1.network.send(heartbeat("n1", "n2"))
                await n2.until(lambda: n2.messages)
                n1.network.set_peers({"n2": n2.address})
                assert n1.network.connected("n2"), "a link that stands is kept"

    run(main)


def test_a_node_that_joins_is_answered_without_knowing_the_cluster() -> None:
    async def main() -> None:
        async def answer(node_id: str, address: str) -> JoinAnswer:
            return JoinAnswer("c", f"{node_id} at {address}".encode(), "")

        n1 = Net("n1", secret=b"s", on_join=answer)
        async with nets(n1):
            identity = Identity("n4", "", "n4-1", b"s", PeerTls.from_secret())
            connection = await connect(identity, "", n1.address, Purpose.JOIN, QUICK)
            frames: list[object] = []
            connection.receive = frames.extend
            connection.send(JoinRequest("h:1@2"))
            await asyncio.wait([connection.closed])
            assert frames == [JoinAnswer("c", b"n4 at h:1@2", "")]
            for changes in ({"secret": b"other"}, {"node_id": "n1"}, {"secret": None}):
                wrong = replace(identity, **changes)  # type: ignore[arg-type]
                with pytest.raises(HandshakeRefused):
                    await connect(wrong, "", n1.address, Purpose.JOIN, QUICK)
            again = await connect(identity, "", n1.address, Purpose.JOIN, QUICK)
            again.send(JoinRequest("h:1@2"))
            again.send(JoinRequest("h:1@2"))
            await asyncio.wait([again.closed])

    run(main)


def test_for_messages_the_cluster_has_to_be_known() -> None:
    async def main() -> None:
        n1 = Net("n1")
        async with nets(n1):
            with pytest.raises(HandshakeRefused, match="cluster"):
                await dial(n1, "n4", cluster_id="")

    run(main)
