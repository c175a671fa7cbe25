"""Writes that have nothing to do: pops of what is not there, removals from it (`CommandSpec.idle_if_absent`).

Redis writes nothing for them. In the log each would be an entry and a sync on every node, so a write whose key seems to
be absent is first looked at as a read: if the key is absent at the read point, it is answered, and that was all. If it
is there by then, or a write of the same connection follows, the write joins the open batch, and whatever its client
sent behind it goes along, so that no reply passes another's effect (DESIGN §2.2).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from zattredis.errors import ReplyError
from zattredis.resp.replies import encode
from zattredis.server.transactions import take_along
from zattredis.server.units import WAITING, Trial

if TYPE_CHECKING:
    from zattredis.server.connection import ClientConnection
    from zattredis.server.proposals import Proposals
    from zattredis.server.reads import Reads


def may_try(connection: ClientConnection, reads: Reads, key: bytes) -> bool:
    """Return whether a write of `key` may be tried: that seems absent, and no write of its connection is unanswered."""
    state, batch = connection.state, connection.last_batch
    return (batch is None or batch.settled) and not state.readonly and reads.seems_absent(state.db, key)


def become_write(trial: Trial, proposals: Proposals, refusal: ReplyError | None) -> None:
    """It has something to do: put it into the open batch, behind the reads before it; or reply with `refusal`."""
    connection = trial.connection
    if refusal is not None:
        trial.finish(encode(refusal, trial.resp))
        return
    connection.reads = [unit for unit in connection.units if unit.state == WAITING and not unit.is_write]
    take_along(connection, proposals)  # itself, too, at its place
    connection.last_batch = trial.batch
