"""Membership changes step by step: real cores, a leader's server around one of them, and time as the script says."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from types import SimpleNamespace
from typing import Any

import pytest

from tests.raft.harness import Cluster
from zattredis.errors import ClusterDown, DefiniteError, NotLeader, OutcomeUnknown, ProposalRefused
from zattredis.peer.messages import ChangeAnswer, ChangeRequest
from zattredis.raft.changes import Change
from zattredis.raft.entry import TIME
from zattredis.server import changes as module
from zattredis.server.changes import APPENDED, CHANGE, NOT_NOW, REFUSED, Changes, _encode


class FakeNode:
    """What `Changes` needs of a node, around one core of a scripted cluster."""

    def __init__(self, cluster: Cluster, node_id: str) -> None:
        self.cluster = cluster
        self.node_id = node_id
        self.sent: list[Any] = []
        self.reachable = True
        self.ready = True
        self.is_open = True
        self.departing = False
        self.peer_problem = ""
        self.started_at = 0.0
        self.settings = SimpleNamespace(election_timeout_ms=500)
        self.proposals = SimpleNamespace(request_timeout_s=0.1)
        self.housekeeping = SimpleNamespace(members={})
        self.network = SimpleNamespace(send=self._send)
        self.changes = Changes(self)  # type: ignore[arg-type]

    @property
    def core(self) -> Any:
        return self.cluster[self.node_id]

    @property
    def driver(self) -> Any:
        admission = SimpleNamespace(ready=self.ready, propose=self._propose)
        return SimpleNamespace(is_leader=self.core.role == "leader", admission=admission)

    @property
    def applier(self) -> Any:
        state = self.cluster.peers[self.node_id].state
        return SimpleNamespace(applied_index=state.applied_index, membership=state.membership)

    def _propose(self, kind: int, payload: bytes) -> int | None:
        try:
            return int(self.core.propose(kind, payload, 0, 1))
        except (NotLeader, ProposalRefused):
            return None

    def _send(self, message: Any) -> bool:
        if self.reachable:
            self.sent.append(message)
        return self.reachable

    def schedule(self) -> None:
        self.cluster.turn(self.node_id)

    def take(self, change: Change, src: str = "b") -> ChangeAnswer:
        """Let another member ask this node, and return the answer."""
        request = ChangeRequest(src, self.node_id, self.core.term, 9, CHANGE, _encode(change))
        assert self.changes.on_message(request)
        answer = self.sent.pop()
        assert isinstance(answer, ChangeAnswer) and (answer.dst, answer.number) == (src, 9)
        return answer


class Timeline:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> Timeline:
    timeline = Timeline()
    monkeypatch.setattr(module, "monotonic", timeline)
    return timeline


def leader_of(cluster: Cluster) -> FakeNode:
    cluster.elect("a")
    return FakeNode(cluster, "a")


# -- what the leader takes ------------------------------------------------------------------------------------------


def test_overlapping_changes_are_refused() -> None:
    cluster = Cluster("abc")
    node = leader_of(cluster)
    cluster.isolate("b", "c")
    assert node.take(Change(add=[("d", "h:1@2")], learner=True)).status == APPENDED
    answer = node.take(Change(remove=["c"]))
    assert (answer.status, answer.text) == (REFUSED, "another membership change is under way; one at a time")
    cluster.heal()
    cluster.tick_all(6)
    assert node.take(Change(remove=["c"])).status == APPENDED


@pytest.mark.parametrize(
    "change",
    [
        Change(add=[("d", "h:1@2")], learner=True),
        Change(add=[("d", "h:1@2")]),
        Change(add=[("d", "h:1@2")], remove=["c"]),
        Change(remove=["c"]),
        Change(remove=["b", "c"]),
        Change(demote=["c"]),
        Change(demote=["b", "c"]),
    ],
)
def test_who_asks_for_the_change_that_is_under_way_waits_for_it(change: Change) -> None:
    """Be it not yet agreed, or between its two configurations: the first request's answer may have been lost."""
    cluster = Cluster("abc")
    node = leader_of(cluster)
    cluster.isolate("b", "c")
    assert node.take(change).status == APPENDED
    again = node.take(change)
    assert (again.status, again.text) == (APPENDED, "")
    assert again.index > node.core.membership_index
    assert node.take(Change(remove=["b"])).status == REFUSED or change.remove == ["b", "c"]
    assert node.take(Change(add=[("e", "h:3@4")])).status == REFUSED
    cluster.heal()
    cluster.tick_all(20)
    assert not node.core.membership.joint
    assert node.take(change, "a").status == APPENDED


def test_no_change_before_the_first_commit_of_the_term() -> None:
    cluster = Cluster("abc")
    node = leader_of(cluster)
    node.ready = False
    assert node.take(Change(remove=["c"])).status == NOT_NOW, "asked again, it may be done: nothing was refused"
    assert node.core.membership.voters == ("a", "b", "c")


def test_only_members_may_ask_and_only_the_leader_answers() -> None:
    cluster = Cluster("abc")
    node = leader_of(cluster)
    assert node.changes.on_message(ChangeRequest("x", "a", 1, 1, CHANGE, _encode(Change(remove=["c"]))))
    assert node.sent == []
    assert FakeNode(cluster, "b").take(Change(remove=["c"]), "c").status == NOT_NOW
    assert node.take(Change(remove=["c"])).status == APPENDED


def test_bytes_that_are_no_change_are_refused() -> None:
    node = leader_of(Cluster("abc"))
    node.changes.on_message(ChangeRequest("b", "a", 1, 1, CHANGE, b"\xff"))
    assert node.sent.pop().status == REFUSED


def test_removing_a_live_node_beside_a_dead_one_would_lose_the_quorum(time: Timeline) -> None:
    cluster = Cluster("abc")
    node = leader_of(cluster)
    cluster.isolate("c")
    for _ in range(60):
        cluster.tick_all()
        node.changes.tick()
        time.now += 0.05
    assert list(node.changes.silent()) == ["c"]
    answer = node.take(Change(remove=["b"]))
    assert answer.status == REFUSED and "the quorum would be lost" in answer.text
    assert node.core.membership.voters == ("a", "b", "c")
    assert node.take(Change(remove=["c"])).status == APPENDED, "the dead one may go"
    cluster.run()
    assert node.take(Change(remove=["b"], force=True)).status == APPENDED


def test_nothing_to_do_is_answered_by_an_entry_that_shows_who_leads() -> None:
    cluster = Cluster("abc")
    node = leader_of(cluster)
    answer = node.take(Change())
    assert answer.status == APPENDED and answer.index == node.core.last_index
    assert node.core.log.slice(answer.index, answer.index + 1, 1)[0].kind == TIME


def test_a_leader_that_nobody_can_reach_adds_nobody() -> None:
    node = leader_of(Cluster("a"))
    node.peer_problem = "cannot listen"
    assert "cannot listen" in node.take(Change(add=[("d", "h:1@2")]), "a").text


# -- learners that catch up ------------------------------------------------------------------------------------------


def joining(cluster: Cluster) -> FakeNode:
    """A leader that has just added d, which is to be promoted."""
    node = leader_of(cluster)
    assert node.take(Change(add=[("d", "h:1@2")])).status == APPENDED
    cluster.run()
    return node


def let_pass(node: FakeNode, time: Timeline, seconds: float) -> None:
    for _ in range(round(seconds / 0.05)):
        time.now += 0.05
        node.cluster.tick_all()
        node.changes.tick()
    node.cluster.run()


def test_a_learner_that_has_caught_up_is_promoted(time: Timeline) -> None:
    node = joining(Cluster("abc", strangers="d"))
    assert node.core.membership.learners == ("d",)
    let_pass(node, time, 1.0)
    assert node.core.membership.voters == ("a", "b", "c", "d")
    assert node.cluster["d"].role == "follower"


def test_a_learner_that_is_not_there_is_not_promoted_and_counts_for_nothing(time: Timeline) -> None:
    cluster = Cluster("abc", strangers="d")
    cluster.isolate("d")
    node = joining(cluster)
    let_pass(node, time, 10.0)
    assert node.core.membership.learners == ("d",)
    index = cluster.write("a")
    assert node.core.commit_index >= index
    cluster.heal()
    let_pass(node, time, 10.0)
    assert node.core.membership.voters == ("a", "b", "c", "d")


def test_another_leader_goes_on_with_the_promotion(time: Timeline) -> None:
    cluster = Cluster("abc", strangers="d")
    cluster.isolate("d")
    joining(cluster)
    cluster.heal()
    cluster.elect("b")
    node = FakeNode(cluster, "b")
    let_pass(node, time, 3.0)
    assert node.core.membership.voters == ("a", "b", "c", "d")


def test_a_learner_that_lost_its_log_waits_until_it_counts_again(time: Timeline) -> None:
    cluster = Cluster("abc", strangers="d")
    cluster["d"].rejoining = True
    node = joining(cluster)
    let_pass(node, time, 5.0)
    assert node.core.membership.learners == ("d",)
    cluster["d"].rejoining = False
    let_pass(node, time, 5.0)
    assert node.core.membership.learners == ()


# -- what the asker is told ------------------------------------------------------------------------------------------


Answers = Callable[[ChangeRequest], ChangeAnswer | None]


def asked(node: FakeNode, change: Change, answers: Answers | None = None) -> None:
    """Ask through `node`; `answers` is the leader's side of the wire."""

    async def run() -> None:
        def send(message: Any) -> bool:
            node.sent.append(message)
            answer = answers(message) if answers is not None else None
            if answer is not None:
                asyncio.get_running_loop().call_soon(node.changes.on_message, answer)
            return node.reachable

        node.network.send = send
        await node.changes.change(change)

    coroutine: Coroutine[Any, Any, None] = run()
    asyncio.run(coroutine)


def answer_to(request: ChangeRequest, status: int, index: int = 0, term: int = 0, text: str = "") -> ChangeAnswer:
    return ChangeAnswer(request.dst, request.src, request.term, request.number, status, index, term, text)


def follower() -> FakeNode:
    cluster = Cluster("abc")
    cluster.elect("a")
    cluster.tick_all(4)
    return FakeNode(cluster, "b")


def test_what_was_never_handed_over_is_refused_for_good() -> None:
    node = follower()
    node.reachable = False
    with pytest.raises(ClusterDown):
        asked(node, Change(remove=["c"]))


def test_no_answer_leaves_the_outcome_unknown() -> None:
    node = follower()
    with pytest.raises(OutcomeUnknown):
        asked(node, Change(remove=["c"]))
    assert len(node.sent) == 1, "it may have been appended: asking again could do it twice"


def test_a_refusal_comes_with_its_reason() -> None:
    with pytest.raises(DefiniteError, match="because"):
        asked(follower(), Change(remove=["c"]), lambda request: answer_to(request, REFUSED, text="because"))


def test_not_now_is_asked_again() -> None:
    node = follower()

    def leader(request: ChangeRequest) -> ChangeAnswer:
        if len(node.sent) < 2:
            return answer_to(request, NOT_NOW)
        index = node.cluster["a"].propose_membership(module.changes.plan(node.core.membership, Change(remove=["c"])))
        node.cluster.run()
        node.cluster.tick_all(3)
        return answer_to(request, APPENDED, index, node.cluster["a"].term)

    asked(node, Change(remove=["c"]), leader)
    assert len({request.number for request in node.sent}) == 2
    assert node.changes.agreed.voters == ("a", "b")


def test_an_entry_that_another_leader_displaced_is_a_definite_failure() -> None:
    node = follower()
    index = node.applier.applied_index
    with pytest.raises(ClusterDown, match="nothing was changed"):
        asked(node, Change(remove=["c"]), lambda request: answer_to(request, APPENDED, index, 77))


def test_an_entry_that_is_never_agreed_leaves_the_outcome_unknown() -> None:
    node = follower()
    with pytest.raises(OutcomeUnknown):
        asked(node, Change(remove=["c"]), lambda request: answer_to(request, APPENDED, 1000, 1))


def test_a_promotion_that_does_not_come_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SILENCE_S", 0.05)
    cluster = Cluster("abc", strangers="d")
    cluster.isolate("d")
    node = leader_of(cluster)
    node.schedule = cluster.run  # type: ignore[method-assign]
    with pytest.raises(OutcomeUnknown, match="d may still follow"):
        asked(node, Change(add=[("d", "h:1@2")]))
    assert node.core.membership.joining == ("d",)
