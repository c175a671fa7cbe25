"""Membership changes and hand-overs: asked of any node, carried out by the leader (DESIGN §4; `raft.changes`).

The node that was asked forwards the change and answers its client once its own state holds what was asked for. The
leader takes one change at a time, refuses what would lose the quorum, and takes every step that the membership itself
says is due (learners that have caught up are promoted), so that a change outlives whoever asked for it.

An answer is definite when the change was certainly not appended, or appended and displaced; TIMEOUT otherwise.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import msgspec

from zattredis.errors import ClusterDown, DefiniteError, LogCompacted, NotLeader, OutcomeUnknown, ProposalRefused
from zattredis.observability.events import get_logger
from zattredis.peer.messages import ChangeAnswer, ChangeRequest
from zattredis.raft import changes
from zattredis.raft.changes import Change
from zattredis.raft.entry import TIME
from zattredis.raft.membership import Membership
from zattredis.raft.messages import Message
from zattredis.raft.progress import REPLICATE
from zattredis.server.clock import monotonic, random_64
from zattredis.server.proposals import NO_QUORUM

if TYPE_CHECKING:
    from zattredis.server.node import Node

CHANGE: Final = 1
TRANSFER: Final = 2
APPENDED: Final = 1
REFUSED: Final = 2
NOT_NOW: Final = 3

POLL_S: Final = 0.01
RETRY_S: Final = 0.05
STEP_S: Final = 0.1
SILENCE_S: Final = 60.0
"""How long a learner may get no further until whoever waits for its promotion is told so."""
DISPLACED: Final = "the leader changed before the change was agreed; nothing was changed"

_decode_change = msgspec.msgpack.Decoder(Change).decode
_encode = msgspec.msgpack.Encoder().encode

_log = get_logger(room="membership")


class Changes:
    """One per node."""

    __slots__ = (
        "_heard_at", "_node", "_number", "_rounds", "_step_at", "_steps_refused", "_waiting", "asked",
    )  # fmt: skip

    def __init__(self, node: Node) -> None:
        self._node = node
        self._number = random_64() >> 16
        self._waiting: dict[int, asyncio.Future[ChangeAnswer]] = {}
        self._heard_at: dict[str, float] = {}  # as the leader: when each other member answered last
        self._rounds: dict[str, tuple[float, int]] = {}  # learner → when its round began, and the index to reach
        self._step_at = 0.0
        self._steps_refused = ""
        self.asked = 0  # changes that somebody on this node waits for

    @property
    def agreed(self) -> Membership:
        """The membership as applied here: everything in it is committed."""
        return self._node.applier.membership or self._node.core.membership

    # -- for whoever asks --------------------------------------------------------------------------------------------

    async def change(self, change: Change, *, wait_for_learners: bool = True) -> None:
        """Return once `change` is so, agreed and applied here; without `wait_for_learners`, once it is begun.

        Raises DefiniteError where it was refused, ClusterDown where it was not made and never will be, OutcomeUnknown
        where it may have been, or is not finished.
        """
        self.asked += 1
        try:
            await self._change(change, wait_for_learners)
        finally:
            self.asked -= 1

    async def _change(self, change: Change, wait_for_learners: bool) -> None:
        timeout_s = self._node.proposals.request_timeout_s
        await self._until_applied(await self._hand_over(CHANGE, _encode(change), timeout_s), timeout_s)
        deadline = monotonic() + timeout_s
        if self._node.departing and self._node.core.node_id in change.remove:
            return
        while change != Change() and (self.agreed.joint or not changes.begun(self.agreed, change)):
            if monotonic() > deadline:
                raise OutcomeUnknown("the membership change is not complete yet; see RAFT MEMBERS")
            await asyncio.sleep(POLL_S)
        if wait_for_learners and change != Change():
            await self._until_promoted(change)

    async def _until_applied(self, answer: ChangeAnswer, timeout_s: float) -> None:
        node = self._node
        deadline = monotonic() + timeout_s
        while node.applier.applied_index < answer.index:
            if node.departing:  # which only an agreed removal makes it
                return
            if monotonic() > deadline:
                raise OutcomeUnknown("no quorum agreed to the change in time, outcome unknown: see RAFT MEMBERS")
            await asyncio.sleep(POLL_S)
        try:
            term = node.core.log.term(answer.index)
        except LogCompacted:
            return  # applied and cut away meanwhile; what the membership says is asked next
        if term != answer.entry_term:
            raise ClusterDown(DISPLACED)

    async def _until_promoted(self, change: Change) -> None:
        """Wait as long as the learners get further."""
        node = self._node
        far: dict[str, int] = {}
        further_at = monotonic()
        while not changes.reached(self.agreed, change):
            now = self.agreed
            if node.departing:
                raise OutcomeUnknown("this node was removed from the cluster meanwhile; see RAFT MEMBERS of another")
            if not changes.begun(now, change):
                raise DefiniteError("the change was called off by another one; see RAFT MEMBERS")
            for node_id in now.joining:
                status = node.housekeeping.members.get(node_id)
                if status is not None and status.match_index > far.get(node_id, 0):
                    far[node_id] = status.match_index
                    further_at = monotonic()
            if monotonic() - further_at > SILENCE_S:
                raise OutcomeUnknown(
                    f"{', '.join(now.joining)} may still follow: a learner is promoted once it has caught up, but for "
                    f"{SILENCE_S:.0f} s it got no further; is it started, and its address right? "
                    f"(RAFT REMOVE {' '.join(now.joining)} calls it off)"
                )
            await asyncio.sleep(POLL_S)

    async def transfer(self, target: str) -> str:
        """Hand the leadership to `target`, or the most up-to-date voter; return who leads then. Raises as `change`."""
        node = self._node
        self.asked += 1
        try:
            if target and target == node.core.leader_id:
                await self._change(Change(), False)  # what this node believes may be old: a commit shows who leads
            before = node.core.leader_id
            if target and target == before:
                return target
            timeout_s = node.proposals.request_timeout_s
            await self._hand_over(TRANSFER, target.encode(), timeout_s)
            deadline = monotonic() + timeout_s
            while True:
                leader = node.core.leader_id
                if leader is not None and leader != before:
                    if target and leader != target:
                        raise DefiniteError(f"{leader} was elected instead of {target}")
                    return leader
                if monotonic() > deadline:
                    raise OutcomeUnknown(f"{target or 'nobody'} has not taken over yet; see RAFT STATUS")
                await asyncio.sleep(POLL_S)
        finally:
            self.asked -= 1

    async def _hand_over(self, kind: int, payload: bytes, timeout_s: float) -> ChangeAnswer:
        """Return the leader's answer that something was begun. A request is repeated only if it certainly was not."""
        node = self._node
        deadline = monotonic() + timeout_s
        while True:
            answer = await self._ask(kind, payload, deadline)
            if answer is not None and answer.status == APPENDED:
                return answer
            if answer is not None and answer.status == REFUSED:
                raise DefiniteError(answer.text)
            if monotonic() > deadline or not node.is_open:
                raise ClusterDown(answer.text if answer is not None and answer.text else NO_QUORUM)
            await asyncio.sleep(RETRY_S)

    async def _ask(self, kind: int, payload: bytes, deadline: float) -> ChangeAnswer | None:
        """Ask the leader once; None when it was certainly not asked. Raises OutcomeUnknown without an answer."""
        node = self._node
        core = node.core
        self._number += 1
        request = ChangeRequest(core.node_id, core.leader_id or "", core.term, self._number, kind, payload)
        if node.driver.is_leader:
            return self._take(request)
        future: asyncio.Future[ChangeAnswer] = asyncio.get_running_loop().create_future()
        self._waiting[request.number] = future
        try:
            if not request.dst or not node.network.send(request):
                return None
            async with asyncio.timeout(max(0.0, deadline - monotonic())):
                return await future
        except TimeoutError:
            raise OutcomeUnknown("the leader did not answer in time, outcome unknown: see RAFT MEMBERS") from None
        finally:
            del self._waiting[request.number]

    def on_message(self, message: Message) -> bool:
        """Take a message of another node; False if it is none of these."""
        node = self._node
        if isinstance(message, ChangeRequest):
            if node.core.membership.is_member(message.src):
                node.network.send(self._take(message))
            return True
        if isinstance(message, ChangeAnswer):
            future = self._waiting.get(message.number)
            if future is not None and not future.done():
                future.set_result(message)
            return True
        return False

    # -- as the leader -----------------------------------------------------------------------------------------------

    def _take(self, request: ChangeRequest) -> ChangeAnswer:
        node = self._node
        core = node.core
        status, index, text = NOT_NOW, 0, ""
        if node.driver.is_leader and node.driver.admission.ready:
            try:
                if request.kind == TRANSFER:
                    if (target := request.payload.decode()) != core.node_id:  # who asks may not know yet that it leads
                        core.transfer_leader(target or None)
                else:
                    index = self._propose(_decode_change(request.payload))
                status = APPENDED
            except NotLeader:
                pass
            except (ProposalRefused, msgspec.MsgspecError) as error:
                status, text = (NOT_NOW if core.transferring_to is not None else REFUSED), str(error)
            node.schedule()
        return ChangeAnswer(core.node_id, request.src, core.term, request.number, status, index, core.term, text)

    def _propose(self, change: Change) -> int:
        """Append what `change` asks for first, and return the index whose commit makes it so."""
        node = self._node
        core = node.core
        now = core.membership
        under_way = core.membership_index > core.commit_index or now.joint
        after = now.leave_joint() if now.joint else now
        if under_way and change != Change() and not changes.on_its_way(after, change):
            raise ProposalRefused("another membership change is under way; one at a time")
        target = now if under_way else changes.plan(now, change)
        if change.add and node.peer_problem:
            raise ProposalRefused(f"the leader {core.node_id} cannot be reached by other nodes: {node.peer_problem}")
        if target == now:
            # Nothing is left to begin, if this node still leads: the commit of any entry shows that.
            index = node.driver.admission.propose(TIME, b"")
            if index is None:
                raise ProposalRefused("the leader takes no entries at the moment")
            return index
        if not change.force:
            changes.check_quorum(now, target, self._of_no_use())
        index = core.propose_membership(target)
        _log.info("membership_change", index=index, term=core.term, **_shown(target))
        return index

    def _of_no_use(self) -> dict[str, float]:
        """Return the members that agree to nothing, as `changes.check_quorum` wants them: silent, or being filled."""
        filled = {node_id: 0.0 for node_id, progress in self._node.core.progress.items() if progress.rejoining}
        return {**filled, **self.silent()}

    def silent(self) -> dict[str, float]:
        """Return the other members that are not heard from, and for how many seconds.

        A leader hears answers of the log, others the reports that members send each other twice a second.
        """
        node = self._node
        now = monotonic()
        if node.driver.is_leader:
            heard, since = self._heard_at, now
            patience_s = max(1.0, 2 * node.settings.election_timeout_ms / 1000)
        else:
            heard = {node_id: status.heard_at for node_id, status in node.housekeeping.members.items()}
            since, patience_s = node.started_at, 2.0
        ages = {i: now - heard.get(i, since) for i in node.core.membership.members if i != node.core.node_id}
        return {node_id: age for node_id, age in ages.items() if age > patience_s}

    def tick(self) -> None:
        """Called once a tick: note who is alive; take the step that the membership says is due."""
        node = self._node
        if not node.driver.is_leader:
            if self._heard_at:
                self._heard_at.clear()
                self._rounds.clear()
            return
        now = monotonic()
        heard = self._heard_at
        for node_id, progress in node.core.progress.items():
            if progress.recent_active or node_id not in heard:
                heard[node_id] = now  # one that was never heard from is given the benefit of the doubt
        if now - self._step_at >= STEP_S:
            self._step_at = now
            self._step(now)

    def _step(self, now: float) -> None:
        node = self._node
        core = node.core
        if not node.driver.admission.ready or core.membership_index > core.commit_index:
            return
        membership = core.membership
        target = changes.next_step(membership, self._caught_up(membership, now))
        if target is None:
            return
        try:
            changes.check_quorum(membership, target, self._of_no_use())
            index = core.propose_membership(target)
        except ProposalRefused as error:
            if str(error) != self._steps_refused:
                self._steps_refused = str(error)
                _log.warning("membership_step_waits", reason=str(error), term=core.term)
            return
        self._steps_refused = ""
        _log.info("membership_step", index=index, term=core.term, **_shown(target))
        node.schedule()

    def _caught_up(self, membership: Membership, now: float) -> list[str]:
        """Return the learners that follow: the last round of theirs took less than an election timeout (§4.2.1)."""
        node = self._node
        core = node.core
        ready = []
        for node_id in membership.joining:
            progress = core.progress.get(node_id)
            if progress is None or progress.rejoining or progress.state != REPLICATE or node_id in self.silent():
                self._rounds.pop(node_id, None)
                continue
            began, goal = self._rounds.setdefault(node_id, (now, core.commit_index))
            if progress.match_index < goal:
                continue
            if now - began <= max(STEP_S * 2, node.settings.election_timeout_ms / 1000):
                ready.append(node_id)
            self._rounds[node_id] = (now, core.commit_index)
        return ready


def _shown(membership: Membership) -> dict[str, list[str]]:
    parts = ("voters", "learners", "joining", "leaving", "demoting")
    return {name: list(getattr(membership, name)) for name in parts if getattr(membership, name)}
