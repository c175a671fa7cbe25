"""Writes that have nothing to do: SADD of a member, ZADD of a score that is there, a pop of what is not, SETNX of a key
that exists, EXPIRE that its option refuses, whatever is answered by an error.

Redis writes nothing for them. In the log each would be an entry and a sync on every node, so a write that is likely to
have nothing to do is first looked at as a read: one whose key seems to be absent, if that is all it takes
(`CommandSpec.idle_if_absent`), and one of a kind that has changed nothing of its key lately (`idleness`). It is carried
out at a confirmed read point over a `Probe`, which ends it at its first effect. If it has none, its reply is that of a
write executed at that point, and that was all: nobody can tell the difference, for there is nothing to see of it. If it
has one, or a write of the same connection follows, it joins the open batch, and whatever its client sent behind it goes
along, so that no reply passes another's effect (DESIGN §2.2).

Never tried: what is inside MULTI, or would have to wait (CLIENT PAUSE) or be refused as a write; what goes the careful
way; what follows an unanswered write of its connection; anything of a connection that reads stale data, since the reply
has to be as new as a write's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from zattredis.commands.context import Context
from zattredis.errors import ReplyError
from zattredis.keyspace.probe import Probe, WouldChange
from zattredis.resp.replies import encode, encode_many
from zattredis.server.clock import perf_counter
from zattredis.server.executor import BROKEN, Executor, weight_of
from zattredis.server.transactions import take_along
from zattredis.server.units import WAITING, Trial

if TYPE_CHECKING:
    from zattredis.commands.table import CommandSpec
    from zattredis.server.connection import ClientConnection
    from zattredis.server.proposals import Proposals
    from zattredis.server.reads import Reads

TRIED_ELEMENTS: Final = 256
"""A write that has to do with more elements is not tried: it would do all that twice."""
PIPELINED_MAX: Final = 256
"""Lines of a pipeline that are tried together."""


def may_try(connection: ClientConnection, reads: Reads, spec: CommandSpec, argv: list[bytes]) -> bool:
    """Return whether to try a write: that is likely idle, and no write of its connection is unanswered."""
    state, batch = connection.state, connection.last_batch
    if (batch is not None and not batch.settled) or state.readonly:
        return False
    if spec.idle_if_absent and reads.seems_absent(state.db, argv[1]):
        return True
    return reads.idleness.guesses(spec, state.db, argv[1])


def may_try_all(connection: ClientConnection, reads: Reads, spec: CommandSpec, requests: list[list[bytes]]) -> bool:
    """Return whether to try a pipeline of one command: one and the same line that is likely idle."""
    first = requests[0]
    return (
        len(requests) <= PIPELINED_MAX
        and requests.count(first) == len(requests)
        and may_try(connection, reads, spec, first)
    )


def new_trial(connection: ClientConnection) -> Trial:
    """Return a trial without commands yet, at its place among the connection's units."""
    trial = Trial(connection, False, connection.state.db)
    connection.units.append(trial)
    return trial


def try_out(executor: Executor, ctx: Context, trials: list[Trial], version: int) -> list[bytes] | None:
    """Return the replies of trials of the same one line, which have nothing to do; None if they have.

    `ctx` is that of the read point; `version` is the state-machine version of what is applied.
    """
    first = trials[0]
    spec, argv, db = first.specs[0], first.argvs[0], first.db
    if spec.weigh is not None and len(argv) > spec.light_words:
        ctx.db = db
        if weight_of(ctx, spec, argv) > TRIED_ELEMENTS:
            executor.idleness.wrong(spec, db, argv[1])
            return None
    start = perf_counter()
    registers = ctx.view.registers
    counter = registers.counter
    probing = Context(Probe.of(ctx.view), db, ctx.now_ms, seed=ctx.seed, version=version)
    idle = True
    value: Any = None
    try:
        value = spec.handler(probing, *argv[spec.words :])
    except ReplyError as error:
        value = error.spelt(argv[0])
    except WouldChange:
        idle = False
    except BROKEN:
        raise
    except Exception:
        idle = False  # as a write it gets the reply that says what is wrong
    if registers.counter != counter:  # a version was taken for what was to be written
        registers.counter = counter
        idle = False
    if not idle:
        executor.idleness.wrong(spec, db, argv[1])
        return None
    lines = sum(map(len, trials))
    if isinstance(value, ReplyError):
        for _ in range(lines):
            executor.failed(spec, value)
    executor.idleness.seen(spec, db, argv, lines)
    if lines == len(trials):
        executor.measure_alike(trials, perf_counter() - start)
    else:
        for trial in trials:
            executor.measure(trial, (perf_counter() - start) * len(trial) / lines)
    replies = {(trial.resp, len(trial)): b"" for trial in trials}
    for resp, count in replies:
        replies[resp, count] = encode(value, resp) if count == 1 else encode_many([value] * count, resp)
    return [replies[trial.resp, len(trial)] for trial in trials]


def become_write(trial: Trial, proposals: Proposals, refusal: ReplyError | None) -> None:
    """It has something to do: put it into the open batch, behind the reads before it; or reply with `refusal`."""
    connection = trial.connection
    if refusal is not None:
        trial.finish(encode_many([refusal] * len(trial), trial.resp))
        return
    connection.reads = [unit for unit in connection.units if unit.state == WAITING and not unit.is_write]
    take_along(connection, proposals)  # itself, too, at its place
    connection.last_batch = trial.batch
