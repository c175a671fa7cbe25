"""`--join`: a node without data asks any member to be added, and is told which cluster it is and who belongs to it.

The member asked adds the node as a learner (unless it is one already) and answers with the membership as agreed
afterwards, so that the node knows for certain whether its id is new. A new one has no vote to forget; one that was a
voter before has lost its disk, and must not vote until it is as good as it was (see `rejoin`). Whoever leads promotes
the learner once it has caught up. A directory that is complete is never joined with again: it knows its cluster.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from zattredis.config import Settings, bracketed, parse_address
from zattredis.errors import ConfigError, FrameError, HandshakeRefused, NodeRemoved, ReplyError
from zattredis.observability.events import get_logger
from zattredis.peer.connection import Timing, connect
from zattredis.peer.control import JoinAnswer, JoinRequest, Purpose, TurnedAway
from zattredis.peer.handshake import Identity, clean_reason
from zattredis.peer.tls import PeerTls
from zattredis.raft.changes import Change
from zattredis.server.clock import random_64

if TYPE_CHECKING:
    from zattredis.server.node import Node

RETRY_S: Final = 0.5
ANSWER_S: Final = 30.0

_log = get_logger(room="join")


async def join(settings: Settings, tls: PeerTls | None) -> tuple[str, bytes]:
    """Return cluster id and membership, once a member has added this node; asks for as long as it takes.

    Raises NodeRemoved where this id was removed from the cluster.
    """
    secret = settings.cluster_secret.encode() or None
    identity = Identity(settings.node_id, "", f"{random_64():016x}", secret, tls)
    told = ""
    while True:
        for seed in settings.join:
            where = f"{bracketed(seed.host)}:{seed.port}"
            try:
                answer = await _ask(identity, (seed.host, seed.peer_port), settings.member.address)
            except (HandshakeRefused, FrameError, OSError) as error:
                problem = str(error) or type(error).__name__
            else:
                if isinstance(answer, TurnedAway):
                    raise NodeRemoved(
                        f"{where} does not take this node: {clean_reason(answer.reason)}, and ids are not used again; "
                        "start it with another --node ID"
                    )
                if answer.cluster_id:
                    _log.info("joined", by=where, cluster_id=answer.cluster_id)
                    return answer.cluster_id, answer.membership
                problem = clean_reason(answer.text)
            if told != (told := f"{where}: {problem}"):
                _log.warning("not_joined_yet", by=where, reason=problem, hint="it is asked again until it agrees")
        await asyncio.sleep(RETRY_S)


async def _ask(identity: Identity, address: tuple[str, int], own_address: str) -> JoinAnswer | TurnedAway:
    connection = await connect(identity, "", address, Purpose.JOIN, Timing())
    answered: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    def receive(frames: Any) -> None:
        for frame in frames:
            if not answered.done():
                answered.set_result(frame)

    connection.receive = receive
    connection.send(JoinRequest(own_address))
    try:
        async with asyncio.timeout(ANSWER_S):
            await asyncio.wait([answered, connection.closed], return_when=asyncio.FIRST_COMPLETED)
    finally:
        connection.abort("the answer is there")
        await asyncio.wait([connection.closed])
    if connection.turned_away:  # told before this was listening
        return TurnedAway(clean_reason(connection.closed.result()))
    if not answered.done():
        raise ConnectionError(connection.closed.result() if connection.closed.done() else "no answer")
    frame = answered.result()
    if not isinstance(frame, JoinAnswer | TurnedAway):
        raise ConnectionError(clean_reason(getattr(frame, "reason", "an answer of another kind")))
    return frame


async def answer_join(node: Node, node_id: str, address: str) -> JoinAnswer:
    """Add a node that asks for it, and tell it what it has to know; an answer without cluster id says why not."""
    settings = node.settings
    try:
        if not node.is_open:
            raise ConfigError("this node is only just starting")
        if settings.requirepass and not (settings.cluster_secret or settings.tls_cluster == "yes"):
            raise ConfigError(
                "clients need a password here, so nodes need the cluster_secret, or tls_cluster, to join: set it on all"
            )
        address = parse_address(node_id, address).address
        await node.changes.change(Change())  # so that what is known here is not older than the request
        agreed = node.changes.agreed
        if agreed.is_member(node_id) and node.network.connected(node_id):
            where = agreed.addresses.get(node_id)
            raise ConfigError(f"a node {node_id!r} is running at {where}; every node has an id of its own")
        if agreed.addresses.get(node_id) != address or not agreed.is_member(node_id):
            stays = node_id in agreed.learners and node_id not in agreed.joining
            await node.changes.change(Change(add=[(node_id, address)], learner=stays), wait_for_learners=False)
    except (ConfigError, ReplyError) as error:
        _log.warning("join_refused", peer=node_id, reason=str(error))
        return JoinAnswer("", b"", str(error))
    _log.info("join_accepted", peer=node_id, address=address)
    return JoinAnswer(node.data.identity.cluster_id, node.changes.agreed.encode(), "")
